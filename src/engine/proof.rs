//! Facts x assignment -> proof: does each node that was declared FP32 compute in FP32, and does each product that was asked to
//! add up in FP32 do that?
//!
//! Each kernel that names a node shows it wide, or narrow, or nothing at all; or it is not clear. One that shows it
//! narrow demotes it; one that is not clear makes it unknown; nothing but wide ones honour it.

use serde::{Deserialize, Serialize};

use super::facts::{ANY_SUMS, FP32_SUMS, Facts, Kernel, PRODUCTS};
use super::header::PlanKind;
use super::names::Names;
use super::operators::{Class, class};
use super::source::Arithmetic;
use super::steps::Generated;
use crate::precision::{Assignment, Decider, FloatType, NodeAssignment};

/// What an engine shows of the nodes that were declared FP32.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proof {
    /// Each of these nodes, in the order of the model.
    pub pins: Vec<Pin>,
    /// How many nodes were declared FP16 or BF16.
    pub narrow: usize,
    /// How many of these a kernel names.
    pub narrow_named: usize,
}

/// What an engine shows of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pin {
    /// Its place in the assignment.
    #[serde(skip)]
    pub index: usize,
    /// Its name.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// Is it a 16-bit product that was asked to add up in FP32?
    pub accumulates: bool,
    /// Does it compute in FP32?
    pub verdict: Verdict,
    /// The kernel that shows it, if one does.
    pub kernel: Option<String>,
    /// What shows it, or why nothing does.
    pub why: String,
}

/// Does a node compute as declared?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Yes.
    Honoured,
    /// No.
    Demoted,
    /// The engine does not say.
    Unknown,
}

impl Verdict {
    /// As shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Honoured => "honoured",
            Verdict::Demoted => "demoted",
            Verdict::Unknown => "unknown",
        }
    }
}

/// How many pins there are of each verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// FP32, as declared.
    pub honoured: usize,
    /// Not FP32.
    pub demoted: usize,
    /// Not known.
    pub unknown: usize,
}

impl Proof {
    /// How many pins there are of each verdict.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let count = |verdict| self.pins.iter().filter(|pin| pin.verdict == verdict).count();
        Counts {
            honoured: count(Verdict::Honoured),
            demoted: count(Verdict::Demoted),
            unknown: count(Verdict::Unknown),
        }
    }
}

impl Counts {
    /// How many pins there are.
    #[must_use]
    pub fn total(self) -> usize {
        self.honoured + self.demoted + self.unknown
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} honoured, {} demoted, {} unknown", self.honoured, self.demoted, self.unknown)
    }
}

/// What one kernel shows of a node.
pub(super) enum Shown {
    Wide(String),
    Narrow(String),
    /// It holds nothing of the node that computes.
    Nothing,
    Unclear(String),
}

/// Holds what an engine says against what was declared. A model without 16-bit nodes has nothing to prove.
#[must_use]
pub fn prove(facts: &Facts, assignment: &Assignment) -> Proof {
    let is_narrow = |node: &NodeAssignment| node.of.is_some_and(|of| of != FloatType::Fp32);
    if !assignment.nodes.iter().any(is_narrow) {
        return Proof::default();
    }
    let judge = Judge { facts, names: Names::new(facts, assignment) };
    let all = || assignment.nodes.iter().enumerate();
    let is_pin = |(index, node): &(usize, &NodeAssignment)| {
        // What If, Loop and Scan compute are the nodes in them, each with its own type.
        let is_control = matches!(node.op.as_str(), "If" | "Loop" | "Scan");
        let is_wide = node.of == Some(FloatType::Fp32) && !is_control;
        accumulates(node) || (is_wide && !judge.is_gone(*index, node))
    };
    let narrow = || all().filter(|(_, node)| is_narrow(node));
    let pins = all().filter(is_pin).map(|(index, node)| (node, judge.pin(index, node)));
    // What moves elements has no step of its own in a kernel of several types. If nobody asked for its type, then what it
    // stands between is held to account, and not the mover.
    let is_told = |(node, pin): &(&NodeAssignment, Pin)| {
        let is_asked = !matches!(node.by, Decider::Constraint { over: None, .. });
        is_asked || pin.verdict != Verdict::Unknown || class(&node.op) != Class::Moves
    };
    Proof {
        pins: pins.filter(is_told).map(|(_, pin)| pin).collect(),
        narrow: narrow().count(),
        narrow_named: narrow().filter(|(index, _)| !judge.names.kernels(*index).is_empty()).count(),
    }
}

struct Judge<'f> {
    facts: &'f Facts,
    names: Names<'f>,
}

impl Judge<'_> {
    /// A node that only moves elements and is in no kernel: nothing of it is left that could be demoted.
    fn is_gone(&self, index: usize, node: &NodeAssignment) -> bool {
        class(&node.op) == Class::Moves && self.names.kernels(index).is_empty() && self.is_readable()
    }

    fn is_readable(&self) -> bool {
        self.facts.is_whole && !self.facts.kernels.is_empty()
    }

    fn pin(&self, index: usize, node: &NodeAssignment) -> Pin {
        let (mut verdict, kernel, mut why) = self.verdict(index, node);
        if verdict == Verdict::Honoured && !self.facts.is_whole {
            verdict = Verdict::Unknown;
            why.push_str(", as far as the engine could be read");
        }
        let kernel = kernel.map(|kernel| short(&kernel.name).to_owned());
        let accumulates = accumulates(node);
        Pin { index, node: node.name.clone(), op: node.op.clone(), accumulates, verdict, kernel, why }
    }

    fn verdict(&self, index: usize, node: &NodeAssignment) -> (Verdict, Option<&Kernel>, String) {
        let unknown = |why: &str| (Verdict::Unknown, None, why.to_owned());
        if self.facts.header.is_none() {
            return unknown("the engine's format is not known");
        }
        if self.facts.kernels.is_empty() {
            return unknown("the engine names no ONNX nodes");
        }
        if self.names.is_mixed(index) {
            return unknown("another node of the same name has another type");
        }
        let named = self.names.kernels(index);
        if named.is_empty() {
            let rest = if self.facts.is_whole { "" } else { ", as far as the engine could be read" };
            return unknown(&format!("no kernel names it: it was folded away, or computes shapes{rest}"));
        }
        if accumulates(node) {
            return self.accumulators(index, node);
        }
        let class = class(&node.op);
        let (mut wide, mut narrow, mut unclear) = (None, None, None);
        for kernel in named {
            match self.shown(kernel, index, node) {
                Shown::Wide(why) => wide = wide.or(Some((*kernel, why))),
                Shown::Narrow(why) => narrow = narrow.or(Some((*kernel, why))),
                Shown::Unclear(why) => unclear = unclear.or(Some((*kernel, why))),
                Shown::Nothing => {}
            }
        }
        if let (Some((_, why)), Class::Product) = (&mut wide, class) {
            let mut constants =
                named.iter().flat_map(|kernel| &kernel.inputs).filter(|o| o.constant).peekable();
            if constants.peek().is_some() && constants.all(|operand| is_wide(&operand.of)) {
                why.push_str(", the constant ones too");
            }
        }
        let found = narrow.map(|found| (Verdict::Demoted, found));
        let found = found.or(unclear.map(|found| (Verdict::Unknown, found)));
        if let Some((verdict, (kernel, why))) = found.or(wide.map(|found| (Verdict::Honoured, found))) {
            return (verdict, Some(kernel), why);
        }
        // A fusion is followed by its parts, each with its types; it is asked if none of them told. There may be several, one
        // for each profile.
        let fusions = || named.iter().filter(|kernel| kernel.kind == FUSION);
        let is_float = |kernel: &&&Kernel| types(kernel).next().is_some() && types(kernel).all(is_wide);
        match (fusions().find(|kernel| !is_float(kernel)), fusions().next()) {
            (Some(kernel), _) => (
                Verdict::Unknown,
                Some(kernel),
                "it is part of a fusion that reads or writes something else than float".to_owned(),
            ),
            (None, Some(kernel)) => {
                (Verdict::Honoured, Some(kernel), "it reads and writes nothing but float".to_owned())
            }
            (None, None) => unknown("the kernels that name it hold none of its steps"),
        }
    }

    /// What a 16-bit product adds up in.
    fn accumulators(&self, index: usize, node: &NodeAssignment) -> (Verdict, Option<&Kernel>, String) {
        let told = self.names.kernels(index).iter().filter_map(|kernel| {
            let (verdict, why) = match self.generated(kernel, index, node) {
                Some(generated) => generated.sums(),
                None => sums(kernel),
            }?;
            Some((verdict, Some(*kernel), why))
        });
        // One that is demoted is enough, and so is one that does not say.
        let worst = told.max_by_key(|(verdict, ..)| match verdict {
            Verdict::Honoured => 0,
            Verdict::Unknown => 1,
            Verdict::Demoted => 2,
        });
        worst.unwrap_or((
            Verdict::Unknown,
            None,
            "no kernel that names it tells what it adds up in".to_owned(),
        ))
    }

    /// A generated kernel with source that names this node, if it is one.
    fn generated<'k>(
        &'k self,
        kernel: &'k Kernel,
        index: usize,
        node: &'k NodeAssignment,
    ) -> Option<Generated<'k>> {
        let arithmetic = kernel.arithmetic.as_ref().filter(|arithmetic| arithmetic.traits.is_empty())?;
        let others = self.names.nodes(kernel).into_iter().filter(|(other, _)| *other != index);
        Some(Generated { kernel, arithmetic, node, others: others.map(|(_, node)| node).collect() })
    }

    fn shown(&self, kernel: &Kernel, index: usize, node: &NodeAssignment) -> Shown {
        let class = class(&node.op);
        if kernel.kind == FUSION {
            // Its parts tell more, except that it cannot compute a product in a type that it does not read.
            let reads_narrow = !kernel.inputs.is_empty() && kernel.inputs.iter().all(|o| is_narrow(&o.of));
            return if class == Class::Product && reads_narrow {
                Shown::Narrow("its fusion reads nothing but 16 bits".to_owned())
            } else {
                Shown::Nothing
            };
        }
        if ["cast", "copy", "concat"].contains(&kernel.kind.as_str()) {
            return Shown::Nothing;
        }
        if PRODUCTS.contains(&kernel.kind.as_str()) {
            return self.of_product(kernel, class);
        }
        if let Some(generated) = self.generated(kernel, index, node) {
            return generated.shown();
        }
        match &kernel.arithmetic {
            Some(arithmetic) => of_attention(kernel, arithmetic, class),
            // Full TensorRT tells what such a layer reads and gives, and nothing of what is between.
            None if self.is_of_layers() && kernel.layers.len() > 1 => {
                Shown::Unclear(format!("it is part of a layer of {} nodes", kernel.layers.len()))
            }
            None => of_types(kernel, class),
        }
    }

    /// Was it told by layers, and not by a plan's text?
    fn is_of_layers(&self) -> bool {
        self.facts.header.as_ref().is_none_or(|header| header.kind == PlanKind::Tensorrt)
    }

    fn of_product(&self, kernel: &Kernel, class: Class) -> Shown {
        let operands: Vec<&str> = kernel.inputs.iter().take(2).map(|operand| operand.of.as_str()).collect();
        let is_known = operands.len() == 2 && !operands.contains(&UNREADABLE);
        if !is_known && !operands.iter().any(|of| is_narrow(of)) {
            return Shown::Unclear("the types of its operands are not known".to_owned());
        }
        if operands.iter().all(|of| is_wide(of)) {
            let tf32 = if self.facts.tf32 == Some(true) { " (tf32)" } else { "" };
            return Shown::Wide(format!("its operands are float{tf32}"));
        }
        let accumulates = if kernel.accumulation == Some(FP32_SUMS) { ", accumulated in FP32" } else { "" };
        let why = format!("its operands are {}{accumulates}", operands.join(" and "));
        match class {
            Class::Product => Shown::Narrow(why),
            Class::Moves => Shown::Nothing,
            _ => Shown::Unclear(format!("it is computed at the end of a product: {why}")),
        }
    }
}

/// Was a 16-bit product asked to add up in FP32?
fn accumulates(node: &NodeAssignment) -> bool {
    node.accumulate == Some(FloatType::Fp32)
}

/// What the products of one kernel add up in, if it is one that tells.
fn sums(kernel: &Kernel) -> Option<(Verdict, String)> {
    if let Some(arithmetic) = kernel.arithmetic.as_ref().filter(|a| !a.traits.is_empty()) {
        let traits = arithmetic.traits.join("`, `");
        let all = |is: fn(&str) -> bool| arithmetic.traits.iter().all(|of| is(of));
        return Some(match (all(sums_wide), all(|of| of.contains("_fp16_"))) {
            (true, _) => (Verdict::Honoured, format!("its fused attention adds up in FP32 (`{traits}`)")),
            (_, true) => (Verdict::Demoted, format!("its fused attention adds up in FP16 (`{traits}`)")),
            _ => (Verdict::Unknown, format!("its fused attention adds up in both (`{traits}`)")),
        });
    }
    if !PRODUCTS.contains(&kernel.kind.as_str()) {
        return None;
    }
    let operands = kernel.inputs.iter().take(2);
    let is_wide = operands.filter(|operand| is_wide(&operand.of)).count() == 2;
    Some(match kernel.accumulation {
        Some(FP32_SUMS) => (Verdict::Honoured, "it adds up in FP32".to_owned()),
        _ if is_wide => (Verdict::Honoured, "its operands are float, and so are its sums".to_owned()),
        Some(ANY_SUMS) | None => (Verdict::Unknown, "the library chooses what it adds up in".to_owned()),
        Some(_) => (Verdict::Demoted, "it adds up in 16 bits".to_owned()),
    })
}

/// Do these traits of fused attention add up in FP32? Tensor cores do nothing else with BF16.
fn sums_wide(traits: &str) -> bool {
    traits.contains("_fp32_") || traits.contains("_bf16_")
}

/// The type of an operand that is not known.
pub(super) const UNREADABLE: &str = "?";

/// A fusion that is compiled on the user's GPU.
const FUSION: &str = "runtime_fusion";

/// Fused attention: two products, and everything between them on what the first one accumulates in.
fn of_attention(kernel: &Kernel, arithmetic: &Arithmetic, class: Class) -> Shown {
    let operands_narrow = kernel.inputs.iter().any(|operand| is_narrow(&operand.of));
    match (class, arithmetic.traits.first()) {
        (Class::Product, _) if operands_narrow => {
            Shown::Narrow("it is a product of fused attention, whose operands have 16 bits".to_owned())
        }
        (Class::Moves, _) => Shown::Nothing,
        (_, Some(scores)) if sums_wide(scores) => {
            Shown::Wide(format!("the scores of its fused attention are FP32 (`{scores}`)"))
        }
        (Class::Exact(_), _) => Shown::Nothing,
        (_, Some(scores)) if scores.contains("_fp16_") => {
            Shown::Narrow(format!("the scores of its fused attention are FP16 (`{scores}`)"))
        }
        _ => Shown::Unclear("the traits of its fused attention are not known".to_owned()),
    }
}

/// A kernel of the library, of which nothing is known but the types of what it reads.
fn of_types(kernel: &Kernel, class: Class) -> Shown {
    let of: Vec<&str> = kernel.inputs.iter().map(|operand| operand.of.as_str()).collect();
    let floats = || of.iter().filter(|of| is_wide(of) || is_narrow(of));
    let is_unclear = |of: &&str| *of == UNREADABLE || (class == Class::Product && of.ends_with("int8"));
    if of.iter().any(is_unclear) {
        return Shown::Unclear(format!("it reads {}", of.join(" and ")));
    }
    if floats().next().is_none() {
        return Shown::Unclear("the types of what it reads are not known".to_owned());
    }
    if floats().all(|of| is_wide(of)) {
        return Shown::Wide("what it reads is float".to_owned());
    }
    let is_generated = kernel.kind.ends_with("function");
    match class {
        Class::Moves | Class::Exact(_) => Shown::Nothing,
        _ if !is_generated && floats().all(|of| is_narrow(of)) => {
            Shown::Narrow(format!("it is computed by `{}` on {}", kernel.kind, of.join(" and ")))
        }
        _ => Shown::Unclear("it reads 16 bits, and has no source that would tell its arithmetic".to_owned()),
    }
}

pub(super) fn types(kernel: &Kernel) -> impl Iterator<Item = &str> {
    kernel.inputs.iter().map(|operand| operand.of.as_str()).chain(kernel.outputs.iter().map(String::as_str))
}

pub(super) fn is_wide(of: &str) -> bool {
    matches!(of, "float" | "double")
}

pub(super) fn is_narrow(of: &str) -> bool {
    of == "half" || of == "bf16" || of.starts_with("fp8") || of.starts_with("fp4")
}

/// The name of a generated kernel without the digest behind it.
fn short(name: &str) -> &str {
    name.split_once("_0x").map_or(name, |(name, _)| name)
}
