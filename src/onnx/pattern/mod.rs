//! Patterns: groups of nodes that mean one thing, whether the exporter wrote one operator or ten.
//!
//! | pattern | explicit | decomposed |
//! |---|---|---|
//! | `layer-norm` | LayerNormalization, SkipLayerNormalization | `(x - mean(x)) / sqrt(var(x) + eps) * scale + bias` |
//! | `rms-norm` | RMSNormalization, SimplifiedLayerNormalization, SkipSimplifiedLayerNormalization | `x / sqrt(mean(x²) + eps) * scale` |
//! | `l2-norm` | LpNormalization with p = 2 | `x / max(norm(x), eps)` |
//! | `softmax` | Softmax, LogSoftmax | `exp(x - max(x)) / sum(exp(x - max(x)))` |
//! | `gelu` | Gelu, FastGelu, BiasGelu | `x * 0.5 * (1 + erf(x / √2))`, and its tanh form |
//! | `attention` | Attention, MultiHeadAttention, … | `MatMul(Softmax(MatMul(Q, Kᵀ) * scale + mask), V)` |
//!
//! The file of each pattern lists its spellings and who writes them. Common to all:
//!
//! - Constants are checked by value. A sum times 0.7 is no mean, a square root of another number than
//!   two makes no GELU.
//! - Identity, Cast between float types, and arithmetic that does nothing (`* 1.0`, `+ 0.0`) between the nodes of a
//!   match are looked through and belong to it; so do Reshape, Unsqueeze, Squeeze and Expand on the way of a
//!   statistic (a mean, a sum), and Dropout behind the Softmax of an attention. What stands before the input or
//!   behind the output does not belong to it. A Cast to whole numbers or truth values changes what is computed.
//! - A statistic meets the values it was made of along its own axes: where they have the same size, too.
//! - Numbers may be computed from constants and from dimensions that are known: `√d`, `N / (N - 1)`.
//! - What is computed from constants alone never belongs to a match: `scale` and `bias` are the values
//!   that the match reads, whatever makes them.
//! - A match lies in one scope (graph, subgraph, function body). A function that is called many times
//!   is matched once, in its body.
//! - Two matches of one kind share no node; the larger one wins, then the one that ends first.
//!   Matches of different kinds may: the Softmax of an attention is a `softmax` too.
//!
//! Invariant: a match depends on the graph alone, not on names, `value_info` or the order of operands.

mod attention;
mod explicit;
mod finder;
mod folded;
mod gelu;
mod graph;
mod l2_norm;
mod layer_norm;
mod lines_up;
mod look;
mod matched;
mod norm;
mod parameter;
mod polynomial;
mod readers;
mod rms_norm;
mod softmax;
mod statistic;
#[cfg(test)]
mod tests;
mod trail;

pub use finder::{find, find_in, find_kind};
pub use matched::{Attention, Kind, Match, Part};
