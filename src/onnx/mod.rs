//! ONNX files: read, checked, and written in one canonical form. Knows no TensorRT, but for what
//! its parser misreads (`misread`).
//!
//! The way of a model: a file is sniffed (`sniff`), its bytes are walked without trust (`wire`), decoded
//! ([`proto`]) and checked (`read`, `interface`, `tensor`, `external`, `structure`); then it is brought into its
//! canonical form (`inline`, `canonical`), its types are inferred ([`infer`], by the operators' `schema`), it is held
//! against its operators (`nodes`) and what TensorRT's parser misreads (`misread`), and it is written (`write`). A model
//! is looked at as a [`graph`], in which a [`pattern`] is found whatever way it was spelled.
//!
//! Invariant: weights are never copied while reading. They are slices of the mapped files until the
//! writer streams them. (Data in typed fields, `float_data` and the like, is the exception.)

mod calls;
mod canonical;
mod canonicalize;
mod diff;
mod element;
mod error;
mod external;
pub mod fuse;
#[cfg(test)]
mod fuse_tests;
pub mod graph;
pub mod infer;
mod inline;
#[cfg(test)]
mod inline_tests;
mod interface;
pub(crate) mod make;
mod misread;
#[cfg(test)]
mod misread_tests;
mod names;
mod nodes;
#[cfg(test)]
mod nodes_tests;
pub mod opset;
mod patch;
pub mod pattern;
mod pieces;
#[rustfmt::skip]
#[expect(missing_docs, clippy::all, reason = "generated; the names are those of the ONNX specification")]
pub mod proto;
mod read;
mod schema;
mod sniff;
mod structure;
mod summary;
mod tensor;
#[doc(hidden)]
pub mod testing;
#[cfg(test)]
mod tests;
mod types;
mod wire;
mod write;

pub(crate) use canonicalize::write_canonical_late;
pub use canonicalize::{Canonical, Note, Opened, canonicalize, digest, open, write_canonical};
pub use diff::{NodeChange, NodeEdit, node_changes};
pub use element::{Type, TypeSet};
pub use error::Error;
pub use infer::{Declared, ElementTypes, element_types, element_types_with, type_errors};
pub(crate) use inline::inline;
pub use names::node_name;
pub(crate) use names::{reads, shell, subgraphs, subgraphs_mut, without_subgraphs};
pub use read::{Model, Source, read, read_canonical};
pub use schema::{Arity, OpSchema, Param, ParamType, schema};
pub use summary::{Dim, Summary, Tensor, TensorDigest, Weight, weights};
pub use tensor::element_name;
pub use types::{TypedNode, bf16_nodes, double_values, gemm_nodes, string_values};
pub(crate) use write::{Late, LateData, make_late};

/// The canonical model, in the folder given to [`canonicalize`].
pub const MODEL_FILE: &str = "model.onnx";

/// The large initializers of a canonical model, if it has any.
pub const WEIGHTS_FILE: &str = "weights.bin";

/// Digests of the tensors of a canonical model.
pub const TENSORS_FILE: &str = "tensors.json";

/// The newest opset of the default domain that is accepted.
pub const MAX_OPSET: i64 = 26;

/// The newest IR version that is accepted: a newer one may have fields that we would lose. It is
/// the one that `onnx.helper.make_model` of onnx 1.23 writes unasked, for old opsets too. (Its new
/// element types of 6 bits are not final, and are refused by number.)
pub const MAX_IR_VERSION: i64 = 14;

/// The largest protobuf file: what protobuf itself can hold.
const MAX_FILE: u64 = (2 << 30) - 1;

/// How many messages and strings a model may hold. Far above real models, and low enough that
/// decoding a hostile file takes a few GB at worst.
const MAX_ITEMS: u64 = 8_000_000;
