//! What 16 bits cannot hold: weights, masks and epsilons, and norms that should not be computed in them.

use std::collections::{BTreeMap, BTreeSet};

use super::assign::NodeAssignment;
use super::float::FloatType;
use super::mask;
use super::pattern::{Instance, Patterns};
use super::problem::Problem;
use super::view::View;
use super::weights::{self, Loss, rounded};

/// Who reads a constant in a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// A node, by its place in [`View::nodes`], at this input.
    Node {
        /// The node.
        id: usize,
        /// Which of its inputs; the largest number for what its subgraphs read.
        input: usize,
    },
    /// It is an output of the model.
    Output,
}

/// How many readers a message names.
const SHOWN: usize = 8;

/// The least normal number of FP16.
const SUBNORMAL: f32 = 6.103_515_6e-5;

/// What rounding to FP16 loses of a number at most. What a tensor loses beside that is not felt.
const ROUNDING: f32 = 1.0 / 2048.0;

/// Constants that lost something.
pub(super) struct Constants<'v> {
    view: &'v View<'v>,
    problems: Vec<Problem>,
    vanished: BTreeMap<FloatType, Vec<Vanished<'v>>>,
}

/// A tensor of which so many values become zero that it is felt.
struct Vanished<'v> {
    name: String,
    values: u64,
    of: u64,
    /// The largest part of the tensor's norm that this can be.
    share: f32,
    readers: Vec<(&'v str, &'v str)>,
}

impl<'v> Constants<'v> {
    pub(super) fn new(view: &'v View<'v>) -> Constants<'v> {
        Constants { view, problems: Vec::new(), vanished: BTreeMap::new() }
    }

    /// A constant was stored in another type than it has in the file. Is it a mask that lost its numbers, so that the
    /// lowest number must take their place?
    #[must_use]
    pub(super) fn lost(&mut self, name: &str, of: FloatType, loss: &Loss, readings: &[Reading]) -> bool {
        let mut is_mask = false;
        let harmful: Vec<Reading> = readings.iter().copied().filter(|r| !self.is_bound(*r, loss)).collect();
        if let Some(value) = loss.first_overflow.filter(|_| !harmful.is_empty()) {
            is_mask = self.overflow(name, of, value, loss, &harmful);
        }
        if of == FloatType::Fp16 && loss.largest > 0.0 && loss.largest < SUBNORMAL {
            self.subnormal(name, loss.largest, readings);
        }
        match (loss.vanish, loss.first_vanished) {
            (0, _) => {}
            (n, Some(value)) if n == loss.of => self.epsilon(name, of, value, readings),
            (n, _) => self.some_vanish(name, of, n, loss, readings),
        }
        is_mask
    }

    /// Nearly every model has single weights that become zero beside others that are a million times as large.
    fn some_vanish(&mut self, name: &str, of: FloatType, values: u64, loss: &Loss, readings: &[Reading]) {
        #[expect(clippy::cast_precision_loss, reason = "a share needs few digits")]
        let share = (values as f32).sqrt() * weights::vanishing(of) / loss.largest;
        if share > ROUNDING {
            let readers = self.readers(readings);
            let vanished = Vanished { name: name.to_owned(), values, of: loss.of, share, readers };
            self.vanished.entry(of).or_default().push(vanished);
        }
    }

    /// A limit that no value of the type reaches is as good as an infinite one, which it becomes.
    fn is_bound(&self, reading: Reading, loss: &Loss) -> bool {
        let Reading::Node { id, input } = reading else { return false };
        match (self.view.nodes[id].proto.op_type(), input) {
            ("Clip", 1) | ("Max", _) => !loss.positive,
            ("Clip", 2) | ("Min", _) => !loss.negative,
            _ => false,
        }
    }

    /// Names and operators of the nodes that read it.
    fn readers(&self, readings: &[Reading]) -> Vec<(&'v str, &'v str)> {
        let mut seen = BTreeSet::new();
        let ids = readings.iter().filter_map(|reading| match reading {
            Reading::Node { id, .. } => Some(*id),
            Reading::Output => None,
        });
        ids.filter(|id| seen.insert(*id))
            .map(|id| (self.view.nodes[id].name.as_str(), self.view.nodes[id].proto.op_type()))
            .collect()
    }

    fn overflow(&mut self, name: &str, of: FloatType, value: f32, loss: &Loss, readings: &[Reading]) -> bool {
        let readers = self.readers(readings);
        let is_mask = !loss.positive
            && value <= if loss.of == 1 { mask::ALONE } else { mask::AMONG }
            && !readers.is_empty()
            && readers.iter().all(|(_, op)| mask::carries(op));
        let what = if is_mask { "mask-saturated" } else { "weight-overflow" };
        let mut message = format!("`{name}` holds {value}, beyond the largest number of {}", of.name());
        if loss.overflows > 1 {
            message += &format!(", and {} more such values", loss.overflows - 1);
        }
        let problem = Problem::hazard(&format!("{what}-{}", of.name()), message);
        let problem = if is_mask {
            let lowest = -weights::largest(of);
            problem.note(format!(
                "it becomes {lowest:e}, the lowest number: minus infinity would be NaN in sums"
            ))
        } else {
            let becomes = if rounded(value, of).is_finite() { "be rounded down" } else { "become infinite" };
            problem.note(format!("it would {becomes}; nothing is clamped in silence"))
        };
        let rule = format!("`{name}` does not fit into {}", of.name());
        self.problems.push(read_by(problem, &readers, &rule));
        is_mask
    }

    /// A scale of which FP16 keeps few digits.
    fn subnormal(&mut self, name: &str, largest: f32, readings: &[Reading]) {
        let mut readers = self.readers(readings);
        readers.retain(|(_, op)| matches!(*op, "Mul" | "Div"));
        if readers.is_empty() {
            return;
        }
        let message = format!("the scale `{name}` is at most {largest:e}, of which fp16 keeps few digits");
        let problem = Problem::hazard("subnormal-scale-fp16", message)
            .note("below 6.1e-5 the numbers of fp16 are 6e-8 apart, and a division by one easily overflows");
        self.problems.push(read_by(problem, &readers, &format!("`{name}` is a scale of few digits in fp16")));
    }

    fn epsilon(&mut self, name: &str, of: FloatType, value: f32, readings: &[Reading]) {
        let readers = self.readers(readings);
        if readers.is_empty() {
            return;
        }
        let code = format!("epsilon-underflow-{}", of.name());
        let message = format!("`{name}` is {value:e}, which becomes 0 in {}", of.name());
        let problem = Problem::hazard(&code, message)
            .note("a division or logarithm that it guards is not guarded any more");
        self.problems.push(read_by(problem, &readers, &format!("`{name}` vanishes in {}", of.name())));
    }

    /// All that was told.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        for (of, mut tensors) in self.vanished {
            // The worst first; of equals, in the order of the graph.
            tensors.sort_by(|a, b| b.share.total_cmp(&a.share));
            let worst = &tensors[0];
            let message = format!(
                "{} of {} weights of `{}` become 0 in {}",
                worst.values,
                worst.of,
                worst.name,
                of.name()
            );
            let problem = Problem::hazard(&format!("weight-underflow-{}", of.name()), message)
                .note("they are many, or not small beside the others, so that more is lost than by rounding");
            let problem = match tensors.len() - 1 {
                0 => problem,
                _ => problem.note(format!(
                    "so do some of {}",
                    list(tensors.iter().skip(1).map(|tensor| tensor.name.as_str()))
                )),
            };
            let mut seen = BTreeSet::new();
            let readers = tensors.iter().flat_map(|tensor| tensor.readers.iter().copied());
            let readers: Vec<_> = readers.filter(|reader| seen.insert(*reader)).collect();
            self.problems.push(read_by(problem, &readers, "weights that vanish stay fp32"));
        }
        self.problems
    }
}

/// Adds who reads it, and a rule that keeps them FP32.
fn read_by(problem: Problem, readers: &[(&str, &str)], rule: &str) -> Problem {
    let Some((name, op)) = readers.first() else { return problem };
    let problem = problem.at_node(name, op);
    let problem = match readers.len() {
        0..=1 => problem,
        n => {
            let shown: Vec<String> =
                readers.iter().take(SHOWN).map(|(n, op)| format!("`{n}` ({op})")).collect();
            let more = if n > SHOWN { format!(" and {} more", n - SHOWN) } else { String::new() };
            problem.note(format!("read by {}{more}", shown.join(", ")))
        }
    };
    problem.paste(rule, readers.iter().map(|(name, _)| *name))
}

/// Norms of which a part is computed in FP16.
pub(super) fn norms(view: &View<'_>, patterns: &Patterns, nodes: &[NodeAssignment]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for pattern in ["layer-norm", "rms-norm", "l2-norm"] {
        let in_half =
            |instance: &&Instance| instance.nodes.iter().any(|id| nodes[*id].of == Some(FloatType::Fp16));
        let (fused, decomposed): (Vec<&Instance>, Vec<&Instance>) = patterns
            .instances(pattern)
            .iter()
            .filter(in_half)
            .partition(|instance| instance.nodes.len() == 1);
        for (code, instances, how, why) in [
            (
                "fp16-decomposed-norm",
                decomposed,
                "written as several operators and computed in fp16",
                "the square of a value beyond 255 is infinite in fp16; TensorRT warns of some spellings only",
            ),
            (
                "fp16-norm",
                fused,
                "computed in fp16",
                "statistics are FP32, but scale and bias are applied in fp16",
            ),
        ] {
            let Some(first) = instances.first().and_then(|instance| instance.nodes.first()) else { continue };
            let what = match instances.as_slice() {
                [one] => format!("the {pattern} `{}` is {how}", one.name),
                many => format!("{} {pattern}s are {how}", many.len()),
            };
            let mut problem = Problem::hazard(code, what)
                .at_node(&view.nodes[*first].name, view.nodes[*first].proto.op_type());
            if instances.len() > 1 {
                problem = problem.note(list(instances.iter().map(|instance| instance.name.as_str())));
            }
            let problem = problem.fix(&format!("{pattern} stays fp32"), format!("pattern = \"{pattern}\""));
            problems.push(problem.note(why).help("or use the rule set `std-fp16`"));
        }
    }
    problems
}

/// The first of these names, and how many more there are.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
