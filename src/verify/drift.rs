//! Where the numbers break: every value of a model beside its reference, in the order of its nodes.
//!
//! What is recorded is a plain [`Drift`]; which node is the first to break, and where the error grows, is a pure
//! function of it and of what is tolerated.

use serde::{Deserialize, Serialize};

use super::measured::Number;
use super::sample::Array;

/// Every float value of a model beside its reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Names of the samples.
    pub samples: Vec<String>,
    /// The nodes of the main graph of the source that make floats, in its order.
    pub nodes: Vec<NodeDrift>,
    /// What is not among them.
    pub untapped: Untapped,
}

/// Nodes whose values are not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Untapped {
    /// Nodes inside `If`, `Loop`, `Scan` and the like. What these give is looked at.
    pub in_subgraphs: usize,
    /// Nodes inside functions of the model. What their calls give is looked at.
    pub in_functions: usize,
    /// Nodes that `fuse` joined, whose values the built model does not have.
    pub joined: usize,
    /// Other nodes whose values it does not have: Casts that its types make needless.
    #[serde(default)]
    pub dropped: usize,
}

impl Untapped {
    /// In words; nothing if every node was looked at.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let nodes = |n: usize| if n == 1 { "1 node".to_owned() } else { format!("{n} nodes") };
        let Untapped { in_subgraphs, in_functions, joined, dropped } = *self;
        let parts = [
            (in_subgraphs, "inside subgraphs (`If`, `Loop`, `Scan`)"),
            (in_functions, "inside functions of the model"),
            (joined, "that `fuse` joined"),
            (dropped, "that the typed model does without"),
        ];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, which)| format!("{} {which}", nodes(count)))
            .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeDrift {
    /// Its name.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// The pattern that it is part of, and the name of the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<(String, String)>,
    /// The type in which it is built: of its first float result.
    #[serde(rename = "type")]
    pub of: String,
    /// The indices of the nodes here whose values it reads.
    pub reads: Vec<usize>,
    /// Multiplications and additions of a matrix product, over all samples; 0 for all else.
    pub macs: u64,
    /// Its float results.
    pub values: Vec<ValueDrift>,
}

/// A value, over all samples.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ValueDrift {
    /// Its name.
    pub value: String,
    /// Its greatest magnitude in the reference.
    pub absmax: Number,
    /// Its greatest magnitude in the oracle.
    pub absmax_oracle: Number,
    /// The greatest error.
    pub max_abs: Number,
    /// The error's root mean square as a share of the reference's, in the worst sample. Infinite where a number is
    /// lost.
    pub error: Number,
    /// The sample with the greatest of these, by its place.
    pub sample: usize,
    /// NaN that the reference does not have.
    pub nan: u64,
    /// Inf that the reference does not have.
    pub inf: u64,
    /// Elements.
    pub elements: u64,
}

/// FP16's largest number.
pub const FP16_MAX: f64 = 65504.0;

/// The error above which a value counts as broken: a hundredth of its size. FP16 alone costs about a thousandth after
/// dozens of layers.
pub const DRIFT_LIMIT: f64 = 0.01;

impl ValueDrift {
    /// Adds one sample.
    pub fn add(&mut self, reference: &Array, oracle: &Array, sample: usize) {
        let (mut power, mut error) = (0f64, 0f64);
        let mut lost = reference.shape != oracle.shape;
        let mut one = |r: f64, o: f64| {
            self.elements += 1;
            // NaN is greater than nothing.
            self.absmax.0 = self.absmax.0.max(r.abs());
            self.absmax_oracle.0 = self.absmax_oracle.0.max(o.abs());
            let apart = r - o;
            if apart.is_finite() {
                power += r * r;
                error += apart * apart;
                self.max_abs.0 = self.max_abs.0.max(apart.abs());
            } else if r.is_finite() {
                lost = true;
                *(if o.is_nan() { &mut self.nan } else { &mut self.inf }) += 1;
            } else {
                // A mask of -inf stays one, or becomes FP16's least: both leave out.
                lost |= r.is_nan() != o.is_nan();
            }
        };
        if reference.element == "float" && oracle.element == "float" {
            // Without a detour: these are all values of a model.
            let floats = reference.bytes.chunks_exact(4).zip(oracle.bytes.chunks_exact(4));
            for (r, o) in floats {
                if let (&[a, b, c, d], &[e, f, g, h]) = (r, o) {
                    one(f32::from_le_bytes([a, b, c, d]).into(), f32::from_le_bytes([e, f, g, h]).into());
                }
            }
        } else {
            reference.to_floats().into_iter().zip(oracle.to_floats()).for_each(|(r, o)| one(r, o));
        }
        let relative = match (lost, error, power) {
            (true, ..) => f64::INFINITY,
            (_, 0.0, _) => 0.0,
            (_, error, power) => (error / power).sqrt(),
        };
        if relative > self.error.0 || sample == 0 {
            (self.error, self.sample) = (Number(relative), sample);
        }
    }
}

impl NodeDrift {
    /// Does it compute in 16 bits?
    #[must_use]
    pub fn is_half(&self) -> bool {
        self.of != "fp32"
    }

    /// The worst error of its results.
    #[must_use]
    pub fn error(&self) -> f64 {
        self.values.iter().map(|value| value.error.0).fold(0.0, f64::max)
    }

    /// The greatest magnitude of its results in the reference.
    #[must_use]
    pub fn absmax(&self) -> f64 {
        self.values.iter().map(|value| value.absmax.0).fold(0.0, f64::max)
    }

    /// Is it FP16, and does a finite result in the reference not fit?
    #[must_use]
    pub fn leaves_range(&self) -> bool {
        self.of == "fp16" && self.values.iter().any(|v| v.absmax.0 > FP16_MAX && v.absmax.0.is_finite())
    }
}

/// Why a node counts as broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Broken {
    /// A value of the reference does not fit into FP16.
    Range,
    /// NaN or Inf that the reference does not have.
    NotFinite,
    /// The error is beyond the limit.
    Error,
}

impl Broken {
    /// In words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Broken::Range => "leaves FP16's range",
            Broken::NotFinite => "NaN or Inf",
            Broken::Error => "error beyond the limit",
        }
    }
}

/// A node that the table shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DriftRow<'d> {
    /// The node.
    #[serde(flatten)]
    pub node: &'d NodeDrift,
    /// How much of the error is its own: its error less the worst of what it reads.
    pub growth: Number,
    /// Is it broken, and why?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<Broken>,
}

impl Drift {
    /// The nodes that break by themselves: no node that they read, directly or through others, is broken. The first
    /// one in order comes first.
    #[must_use]
    pub fn first_broken(&self, limit: f64) -> Vec<DriftRow<'_>> {
        let mut tainted = vec![false; self.nodes.len()];
        let mut first = Vec::new();
        for i in 0..self.nodes.len() {
            let before = self.nodes[i].reads.iter().any(|read| tainted[*read]);
            let row = self.row(i, limit);
            tainted[i] = before || row.broken.is_some();
            if row.broken.is_some() && !before {
                first.push(row);
            }
        }
        first
    }

    /// Every FP16 node whose values leave FP16's range in the reference, whatever is broken before it.
    #[must_use]
    pub fn out_of_range(&self) -> Vec<DriftRow<'_>> {
        let all = (0..self.nodes.len()).filter(|i| self.nodes[*i].leaves_range());
        all.map(|i| self.row(i, f64::INFINITY)).collect()
    }

    /// The nodes at which the error grows most, the worst first.
    #[must_use]
    pub fn growth(&self, limit: f64, count: usize) -> Vec<DriftRow<'_>> {
        let mut rows = self.rows(limit);
        rows.retain(|row| row.growth.0 > 0.0);
        // Stable, so that of equals the first in the graph comes first.
        rows.sort_by(|a, b| b.growth.0.total_cmp(&a.growth.0));
        rows.truncate(count);
        rows
    }

    /// Every node in order.
    #[must_use]
    pub fn rows(&self, limit: f64) -> Vec<DriftRow<'_>> {
        (0..self.nodes.len()).map(|i| self.row(i, limit)).collect()
    }

    fn row(&self, i: usize, limit: f64) -> DriftRow<'_> {
        let node = &self.nodes[i];
        let read = node.reads.iter().map(|read| self.nodes[*read].error()).fold(0.0, f64::max);
        // What reads an infinite error adds none.
        let growth = if read.is_infinite() { 0.0 } else { (node.error() - read).max(0.0) };
        let lost = node.values.iter().any(|v| v.nan + v.inf > 0);
        let broken = match () {
            () if node.leaves_range() => Some(Broken::Range),
            () if lost => Some(Broken::NotFinite),
            () if node.error() > limit => Some(Broken::Error),
            () => None,
        };
        DriftRow { node, growth: Number(growth), broken }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(values: &[f64]) -> Array {
        Array::from_floats("float", vec![i64::try_from(values.len()).unwrap()], values.iter().copied())
    }

    fn node(name: &str, of: &str, reads: &[usize], reference: &[f64], oracle: &[f64]) -> NodeDrift {
        let mut value = ValueDrift { value: name.to_owned(), ..ValueDrift::default() };
        value.add(&array(reference), &array(oracle), 0);
        let (node, op, of) = (name.to_owned(), "Mul".to_owned(), of.to_owned());
        NodeDrift { node, op, pattern: None, of, reads: reads.to_vec(), macs: 0, values: vec![value] }
    }

    fn drift(nodes: Vec<NodeDrift>) -> Drift {
        Drift { samples: vec!["one".to_owned()], nodes, untapped: Untapped::default() }
    }

    fn names<'d>(rows: &[DriftRow<'d>]) -> Vec<&'d str> {
        rows.iter().map(|row| row.node.node.as_str()).collect()
    }

    #[test]
    fn an_error_is_a_share_of_the_value_and_the_worst_sample_counts() {
        let mut value = ValueDrift::default();
        value.add(&array(&[3.0, 4.0]), &array(&[3.0, 4.5]), 0);
        assert!((value.error.0 - 0.1).abs() < 1e-12 && value.max_abs.0 == 0.5, "{value:?}");
        value.add(&array(&[3.0, 4.0]), &array(&[3.0, 4.1]), 1);
        assert_eq!((value.sample, value.absmax.0, value.elements), (0, 4.0, 4));
        value.add(&array(&[1.0, 1.0]), &array(&[f64::NAN, f64::INFINITY]), 2);
        assert_eq!((value.sample, value.nan, value.inf, value.error.0), (2, 1, 1, f64::INFINITY));
        // What both have lost is not lost here.
        let mut mask = ValueDrift::default();
        mask.add(&array(&[f64::NEG_INFINITY, f64::NAN]), &array(&[-65504.0, f64::NAN]), 0);
        assert_eq!((mask.error.0, mask.nan + mask.inf), (0.0, 0));
    }

    #[test]
    fn the_first_to_break_is_named_and_not_what_follows_it() {
        let found = drift(vec![
            node("fine", "fp16", &[], &[1.0], &[1.001]),
            node("square", "fp16", &[0], &[90000.0], &[f64::INFINITY]),
            node("after", "fp16", &[1], &[1.0], &[0.0]),
            node("other", "fp16", &[0], &[1.0], &[1.5]),
            node("wide", "fp32", &[0], &[90000.0], &[90001.0]),
        ]);
        let first = found.first_broken(DRIFT_LIMIT);
        assert_eq!(names(&first), ["square", "other"]);
        assert_eq!((first[0].broken, first[1].broken), (Some(Broken::Range), Some(Broken::Error)));
        assert_eq!(names(&found.out_of_range()), ["square"]);
        assert_eq!(names(&found.growth(DRIFT_LIMIT, 3)), ["square", "other", "fine"]);
    }

    #[test]
    fn json_keeps_infinities() {
        let found = drift(vec![node("lost", "fp16", &[], &[1.0], &[f64::INFINITY])]);
        let json = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Drift>(&json).unwrap(), found);
    }
}
