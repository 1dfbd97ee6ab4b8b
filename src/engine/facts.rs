//! What an engine's text says, as data: its kernels, and the ONNX nodes that each of them carries out.

use std::collections::{BTreeMap, BTreeSet};

use memchr::memmem;
use serde::{Deserialize, Serialize};

use super::header::{self, Header, PlanKind};
use super::proof::UNREADABLE;
use super::source::{self, Arithmetic};
use super::text::{self, Instruction};

/// Version of how engines are read. Facts are recorded with builds, and in no key: those that an earlier version
/// recorded are read again ([`Facts::renewed`]). Raise it when what is read of an engine changes.
const VERSION: u32 = 1;

/// What could be read of an engine. Facts alone: what they mean for a pin is decided elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The [`VERSION`] that read them.
    #[serde(default)]
    pub version: u32,
    /// What the file says of itself; none if it is no engine that is known.
    pub header: Option<Header>,
    /// May FP32 products be computed in TF32?
    pub tf32: Option<bool>,
    /// The kernels that name ONNX nodes.
    pub kernels: Vec<Kernel>,
    /// Was everything read? Not if a limit was reached, or the engine is cut off or has instructions that are not understood.
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
    /// Types of the tensors that it writes, likewise.
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
    /// Its element type, in the words of the plan: `float`, `half`, `bf16`, …; `?` if it is not known.
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
pub(super) const LAYER: &str = "[ONNX Layer: ";

impl Facts {
    /// Nothing yet.
    pub(super) fn none(header: Option<Header>) -> Facts {
        Facts { version: VERSION, header, tf32: None, kernels: Vec::new(), is_whole: true }
    }

    /// What is known of an engine whose facts are lost.
    #[must_use]
    pub fn lost() -> Facts {
        Facts { is_whole: false, ..Facts::none(None) }
    }

    /// What an earlier version read is read again; without the engine, it counts as read in part. What was told by layers
    /// stays: the engine does not hold it.
    ///
    /// # Errors
    /// Those of `engine`, which is asked for the engine if it is needed.
    pub fn renewed<E>(self, engine: impl FnOnce() -> Result<Option<bytes::Bytes>, E>) -> Result<Facts, E> {
        let is_of_text = self.header.as_ref().is_some_and(|h| h.kind == PlanKind::TensorrtRtx);
        if self.version == VERSION || !is_of_text {
            return Ok(self);
        }
        Ok(engine()?.map_or(Facts { is_whole: false, ..self }, |engine| Facts::read(&engine)))
    }

    /// Reads an engine. What cannot be read is left out: there is no engine that this fails on.
    #[must_use]
    pub fn read(engine: &[u8]) -> Facts {
        let mut facts = Facts::none(Header::read(engine));
        let Some(header) = facts.header.as_ref().filter(|h| h.kind == PlanKind::TensorrtRtx) else {
            return facts;
        };
        facts.is_whole = header.size.is_none_or(|size| size <= engine.len() as u64);
        let code = header::code(engine);
        let sources = source::sources(code);
        let (mut seen, mut names, mut length, mut end_of_last) = (BTreeSet::new(), 0, 0, 0);
        for at in memmem::find_iter(code, GRAPH) {
            let Some((graph, is_whole)) = (at >= end_of_last).then(|| graph(code, at)).flatten() else {
                continue;
            };
            facts.is_whole &= is_whole;
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
            let (kernels, is_whole) = kernels(&graph, &sources);
            facts.is_whole &= is_whole;
            for kernel in kernels {
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

/// The text of the graph that begins here, and whether it is all there.
fn graph(code: &[u8], at: usize) -> Option<(&[u8], bool)> {
    let length = header::u64_at(code, at + 8)?;
    let rest = code.get(at + 16..).filter(|text| text.starts_with(b"header {"))?;
    let whole = usize::try_from(length).ok().and_then(|length| rest.get(..length));
    Some((whole.unwrap_or(rest), whole.is_some()))
}

/// A setting of a graph, in a line of its own.
fn flag(graph: &str, name: &str) -> Option<bool> {
    let line =
        graph.lines().take(10_000).find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='))?;
    Some(line != "0")
}

/// The kernels of a graph that name ONNX nodes, and whether every instruction could be read.
fn kernels(graph: &str, sources: &BTreeMap<String, Arithmetic>) -> (Vec<Kernel>, bool) {
    let mut tensors: BTreeMap<&str, Operand> = BTreeMap::new();
    let (mut kernels, mut is_whole) = (Vec::new(), true);
    for instruction in text::instructions(graph) {
        let Some(instruction) = instruction else {
            is_whole = false;
            continue;
        };
        match instruction.kind {
            "tensor" | "sub_tensor" => tensors.extend(tensor(&instruction, &tensors)),
            _ => kernels.extend(kernel(&instruction, &tensors, sources)),
        }
    }
    (kernels, is_whole)
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
    let mut layers: Vec<String> =
        layers(instruction.text("layers")?).into_iter().map(text::unescaped).collect();
    layers.sort();
    layers.dedup();
    if layers.is_empty() {
        return None;
    }
    let list = |keys: [&str; 2]| keys.into_iter().find_map(|key| instruction.list(key)).unwrap_or_default();
    // One that is not known keeps its place: without it, all the others would look like all there are.
    let unknown = || Operand { of: UNREADABLE.to_owned(), constant: false };
    let operand = |name: &&str| tensors.get(*name).cloned().unwrap_or_else(unknown);
    let mut inputs: Vec<Operand> = list(["input_args", "input"]).iter().map(operand).collect();
    if PRODUCTS.contains(&instruction.kind) && inputs.len() >= 4 {
        inputs.drain(2..4);
    }
    let is_data = |operand: &Operand| !matches!(operand.of.as_str(), "int64" | "int32" | "bool");
    let inputs = inputs.into_iter().filter(is_data).collect();
    let outputs = list(["output_args", "output"]);
    let outputs = outputs.iter().map(operand).filter(is_data).map(|o| o.of).collect();
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

/// The nodes in `[ONNX Layer: a]` and the like, one after another with a control character between them. Without one,
/// it is a name that holds such a text.
pub(super) fn layers(text: &str) -> Vec<&str> {
    let is_first = |at: &usize| text[..*at].chars().next_back().is_none_or(char::is_control);
    let starts: Vec<usize> = text.match_indices(LAYER).map(|(at, _)| at).filter(is_first).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let name = |(start, end): (&usize, usize)| {
        let name = text[start + LAYER.len()..end].trim_end_matches(char::is_control);
        name.strip_suffix(']').unwrap_or(name)
    };
    starts.iter().zip(ends).map(name).collect()
}
