//! Engine files, read without the library that made them: what they say of themselves, and the proof that nodes which
//! were declared FP32 compute in FP32.
//!
//! A plan of TensorRT-RTX holds, after its header (`header`), graphs as text (`text`, `facts`), one for each
//! profile and one for each fusion that is compiled on the user's GPU, and the CUDA source of generated kernels (`source`, `steps`):
//!
//! ```text
//! NLYM, 4 bytes, length in 8 bytes
//! header {
//!   tf32=0
//!   tensor={ const_payload_size=16384 dims={ 64 64 } name="large_constantFloat" … type=float }
//!   sub_tensor={ base="…" name="…" type=half }
//! main {
//!   fully_connected={ name="…" output={"y" } input={"x" "w" "…alpha" "…beta" } accumulation_type=2 … layers="[ONNX Layer: pinned]" }
//!   function={ name=__myl_CastMul fqn=__myl_CastMul_0x… input_args={ … } output_args={ … } layers="…" }
//!   runtime_fusion={ name=__myl_FcAddCast input_args={ … } output_args={ … } layers="…" backbone=gemm }
//! ```
//!
//! - `layers` names ONNX nodes as the model has them, whatever the layers of TensorRT are called: one node can be
//!   in several kernels, and one kernel carries out many. A node without a name is `node_of_` and its first output; one in a
//!   branch of an If is named with its way out (`names`).
//! - A tensor of a graph that follows a fusion has the type that the part has inside the fusion.
//! - This holds from TensorRT-RTX 1.5 to 1.7; no profiling verbosity takes the names away.
//!
//! Knows no TensorRT library. Invariant: reading never fails and never panics; what is not understood is left out, and
//! what is left out is unknown to the proof, never honoured.

mod facts;
mod header;
mod layers;
pub mod log;
mod names;
mod operators;
mod proof;
mod source;
mod steps;
#[cfg(test)]
mod tests;
mod text;

pub use facts::{Facts, Kernel, Operand};
pub use header::{Found, Header, PlanKind, find};
pub use proof::{Counts, Pin, Proof, Verdict, prove};
pub use source::Arithmetic;
