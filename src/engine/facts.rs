//! What an engine's text says, as data: its kernels, and the ONNX nodes that each of them carries out.

use std::collections::{BTreeMap, BTreeSet};

use memchr::memmem;
use serde::{Deserialize, Serialize};

use super::header::{self, Header, PlanKind};
use super::source::{self, Arithmetic};
use super::text::{self, Instruction};

/// What could be read of an engine. Facts alone: what they mean for a pin is decided elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// What the file says of itself; none if it is no engine that is known.
    pub header: Option<Header>,
    /// May FP32 products be computed in TF32?
    pub tf32: Option<bool>,
    /// The kernels that name ONNX nodes.
    pub kernels: Vec<Kernel>,
    /// Was everything read? Not if a limit was reached.
    pub is_whole: bool,
}

/// A kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Kernel {
    /// What kind of instruction it is: `fully_connected`, `corrltn` (a convolution), `function` (generated),
    /// `runtime_fusion`, `relu`, …
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The ONNX nodes that it carries out, or parts of.
    pub layers: Vec<String>,
    /// Tensors that it reads, without those of shapes; of a product: its operands, then its bias.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Operand>,
    /// Types of the tensors that it writes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
    /// The type that a product accumulates in: [`ANY_SUMS`], [`FP32_SUMS`] or another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accumulation: Option<u32>,
    /// What its source says; none if there is no source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arithmetic: Option<Arithmetic>,
}

/// A tensor that a kernel reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Operand {
    /// Its element type, in the words of the plan: `float`, `half`, `bf16`, …
    #[serde(rename = "type")]
    pub of: String,
    /// Does the engine hold its value?
    #[serde(default, skip_serializing_if = "is_false")]
    pub constant: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// How many kernels are read.
const MAX_KERNELS: usize = 100_000;

/// How many bytes the names of all nodes of all kernels may have.
const MAX_NAMES: usize = 32 << 20;

/// How many bytes of graphs are read.
const MAX_TEXT: usize = 512 << 20;

/// What begins the text of a graph; its length in bytes follows after 4 bytes, as 8 bytes.
const GRAPH: &[u8] = b"NLYM";

/// Matrix products and convolutions: their inputs are two operands, two scalars (alpha and beta), and a bias.
pub(super) const PRODUCTS: [&str; 3] = ["fully_connected", "corrltn", "deconvolution"];

/// What products accumulate in: what the library chooses, or FP32.
pub(super) const ANY_SUMS: u32 = 0;
pub(super) const FP32_SUMS: u32 = 2;

/// What stands before the name of a node.
const LAYER: &str = "[ONNX Layer: ";

impl Facts {
    /// Reads an engine. What cannot be read is left out: there is no engine that this fails on.
    #[must_use]
    pub fn read(engine: &[u8]) -> Facts {
        let header = Header::read(engine);
        let mut facts = Facts { header, tf32: None, kernels: Vec::new(), is_whole: true };
        if !facts.header.as_ref().is_some_and(|h| h.kind == PlanKind::TensorrtRtx) {
            return facts;
        }
        let code = header::code(engine);
        let sources = source::sources(code);
        let (mut seen, mut names, mut length, mut end_of_last) = (BTreeSet::new(), 0, 0, 0);
        for at in memmem::find_iter(code, GRAPH) {
            let Some(graph) = (at >= end_of_last).then(|| graph(code, at)).flatten() else { continue };
            end_of_last = at + graph.len();
            length += graph.len();
            if length > MAX_TEXT {
                facts.is_whole = false;
                break;
            }
            let graph = String::from_utf8_lossy(graph);
            if let Some(value) = flag(&graph, "tf32") {
                facts.tf32 = Some(facts.tf32.unwrap_or(false) | value);
            }
            for kernel in kernels(&graph, &sources) {
                names += kernel.layers.iter().map(String::len).sum::<usize>();
                if facts.kernels.len() >= MAX_KERNELS || names > MAX_NAMES {
                    facts.is_whole = false;
                    return facts;
                }
                // Each profile has a graph of its own, most of which is the same.
                if seen.insert(kernel.clone()) {
                    facts.kernels.push(kernel);
                }
            }
        }
        facts
    }
}

/// The text of the graph that begins here.
fn graph(code: &[u8], at: usize) -> Option<&[u8]> {
    let length = usize::try_from(header::u64_at(code, at + 8)?).ok()?;
    let start = at + 16;
    let text = code.get(start..start.checked_add(length)?)?;
    text.starts_with(b"header {").then_some(text)
}

/// A setting of a graph, in a line of its own.
fn flag(graph: &str, name: &str) -> Option<bool> {
    let line =
        graph.lines().take(10_000).find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='))?;
    Some(line != "0")
}

/// The kernels of a graph that name ONNX nodes.
fn kernels(graph: &str, sources: &BTreeMap<String, Arithmetic>) -> Vec<Kernel> {
    let mut tensors: BTreeMap<&str, Operand> = BTreeMap::new();
    let mut kernels = Vec::new();
    for instruction in text::instructions(graph) {
        match instruction.kind {
            "tensor" | "sub_tensor" => tensors.extend(tensor(&instruction, &tensors)),
            _ => kernels.extend(kernel(&instruction, &tensors, sources)),
        }
    }
    kernels
}

fn tensor<'t>(declared: &Instruction<'t>, tensors: &BTreeMap<&str, Operand>) -> Option<(&'t str, Operand)> {
    let (name, of) = (declared.text("name")?, declared.text("type")?);
    let constant = declared.text("const_payload_size").is_some()
        || declared.text("base").and_then(|base| tensors.get(base)).is_some_and(|base| base.constant);
    Some((name, Operand { of: of.to_owned(), constant }))
}

fn kernel(
    instruction: &Instruction<'_>,
    tensors: &BTreeMap<&str, Operand>,
    sources: &BTreeMap<String, Arithmetic>,
) -> Option<Kernel> {
    let layers = layers(instruction.text("layers")?);
    if layers.is_empty() {
        return None;
    }
    let list = |keys: [&str; 2]| keys.into_iter().find_map(|key| instruction.list(key)).unwrap_or_default();
    let operand = |name: &&str| tensors.get(*name).cloned();
    let mut inputs: Vec<Option<Operand>> = list(["input_args", "input"]).iter().map(operand).collect();
    if PRODUCTS.contains(&instruction.kind) && inputs.len() >= 4 {
        inputs.drain(2..4);
    }
    let is_data = |operand: &Operand| !matches!(operand.of.as_str(), "int64" | "int32" | "bool");
    let inputs = inputs.into_iter().flatten().filter(is_data).collect();
    let outputs = list(["output_args", "output"]);
    let outputs = outputs.iter().filter_map(operand).filter(is_data).map(|o| o.of).collect();
    let fqn = instruction.text("fqn");
    Some(Kernel {
        kind: instruction.kind.to_owned(),
        name: text::unescaped(instruction.text("name").unwrap_or_default()),
        layers,
        inputs,
        outputs,
        accumulation: instruction.text("accumulation_type").and_then(|n| n.parse().ok()),
        arithmetic: fqn.and_then(|fqn| sources.get(fqn)).cloned(),
    })
}

/// The nodes in `[ONNX Layer: a]` and the like, one after another with a control character between them.
fn layers(text: &str) -> Vec<String> {
    let mut names: Vec<String> = text
        .split(LAYER)
        .skip(1)
        .map(|name| {
            let name = name.trim_end_matches(|c: char| c.is_control());
            text::unescaped(name.strip_suffix(']').unwrap_or(name))
        })
        .collect();
    names.sort();
    names.dedup();
    names
}
