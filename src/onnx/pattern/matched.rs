//! What a pattern gives: the nodes, and what a rewrite needs to know of them.

use std::fmt;

use super::super::graph::NodeRef;

/// A pattern, by its name in manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `layer-norm`
    LayerNorm,
    /// `rms-norm`
    RmsNorm,
    /// `l2-norm`
    L2Norm,
    /// `softmax`
    Softmax,
    /// `gelu`
    Gelu,
    /// `attention`
    Attention,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] =
        [Kind::LayerNorm, Kind::RmsNorm, Kind::L2Norm, Kind::Softmax, Kind::Gelu, Kind::Attention];

    /// The name in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::LayerNorm => "layer-norm",
            Kind::RmsNorm => "rms-norm",
            Kind::L2Norm => "l2-norm",
            Kind::Softmax => "softmax",
            Kind::Gelu => "gelu",
            Kind::Attention => "attention",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A part of an attention, by its name in manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `attention.scores`: the product of query and key, and its scaling.
    Scores,
    /// `attention.mask`: what is added to the scores, or put in their place.
    Mask,
    /// `attention.softmax`: the Softmax, and what guards it.
    Softmax,
    /// `attention.context`: the product with the values.
    Context,
}

impl Part {
    /// All of them, in the order of the data.
    pub const ALL: [Part; 4] = [Part::Scores, Part::Mask, Part::Softmax, Part::Context];

    /// The name in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Part::Scores => "attention.scores",
            Part::Mask => "attention.mask",
            Part::Softmax => "attention.softmax",
            Part::Context => "attention.context",
        }
    }
}

/// What only an attention has.
///
/// An explicit operator is one node, which belongs to all four parts (to the mask only if it reads one).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attention {
    /// The nodes of each part, as in [`Part::ALL`]; Casts and the like belong to the part behind them.
    pub parts: [Vec<NodeRef>; 4],
    /// The value that holds the keys, as the first product reads it. None where an operator makes it itself.
    pub key: Option<String>,
    /// The value that holds the values, as the second product reads it.
    pub value: Option<String>,
    /// What is added to the scores, and conditions that choose among them; from the scores on.
    pub masks: Vec<String>,
}

impl Attention {
    /// The nodes of a part.
    #[must_use]
    pub fn part(&self, part: Part) -> &[NodeRef] {
        &self.parts[part as usize]
    }
}

/// One instance of a pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// The pattern.
    pub kind: Kind,
    /// Its nodes, sorted. All of one scope.
    pub nodes: Vec<NodeRef>,
    /// The value it reads; of an attention, the query.
    pub input: String,
    /// The value it makes.
    pub output: String,
    /// The axes that are normalized: from the back, negative, where the rank is known, else as in the file.
    /// Sorted. Empty for `gelu` and for an explicit `attention`.
    pub axes: Vec<i64>,
    /// Rank of the input, if it is known.
    pub rank: Option<usize>,
    /// What is added so that nothing is divided by zero; none if nothing is, or if an opaque operator decides.
    pub epsilon: Option<f64>,
    /// The factor behind the normalization, as the match reads it.
    pub scale: Option<String>,
    /// What is added at the end, as the match reads it.
    pub bias: Option<String>,
    /// Values inside that are read outside, or are outputs. While there are any, the nodes cannot be
    /// replaced by one.
    pub escapes: Vec<String>,
    /// What sums inside are divided by to make means, where no ReduceMean does it. Whoever knows how many elements
    /// are summed must compare: a pattern takes what is near, and any number where it cannot know.
    pub divisors: Vec<f64>,
    /// Does it compute what the operator of its name computes? False if epsilon is added to the
    /// deviation instead of the variance, or if the variance is divided by N - 1: the same hazards and the
    /// same rules, but it cannot be replaced.
    pub exact: bool,
    /// For people: the path that its nodes' names share, or the name of its last node. Unique in its kind.
    pub instance: String,
    /// Of an attention.
    pub attention: Option<Attention>,
}

impl Match {
    /// Its scope: 0 is the main graph.
    #[must_use]
    pub fn scope(&self) -> usize {
        self.nodes.first().map_or(0, |node| node.scope)
    }

    /// Is it one explicit operator?
    #[must_use]
    pub fn is_explicit(&self) -> bool {
        self.nodes.len() == 1
    }
}
