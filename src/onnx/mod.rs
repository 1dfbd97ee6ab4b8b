//! ONNX files: read, checked, and written in one canonical form. Knows no TensorRT.

mod summary;

pub use summary::{Dim, Summary, Tensor, TensorDigest};
