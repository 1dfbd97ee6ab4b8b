//! A model as a graph: who makes a value, who reads it, what is constant, what shape it has.
//!
//! A [`GraphView`] borrows the protobuf and adds tables to it; it changes nothing. It covers the whole
//! model: the main graph, the subgraphs of `If`, `Loop` and `Scan`, and the bodies of model-local
//! functions are [`Scope`]s of one view, with nodes and values numbered through.
//!
//! Invariant: nothing here reads `value_info`. The canonical form of a model drops it, and a model must
//! not be understood in one way before and in another way after.
//!
//! Building a view is linear in nodes and edges (times the logarithm of the number of names).

mod constant;
mod names;
mod shape_rules;
mod shape_values;
mod shapes;
mod view;

pub use constant::Constant;
pub(crate) use names::make_unique;
pub use shapes::Shapes;
pub use view::{GraphView, Node, NodeId, NodeRef, Scope, ScopeKind, Value, ValueId};
