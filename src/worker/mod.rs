//! The worker boundary: TensorRT, and reading of models, happen in another process, whose death
//! in any manner is an error among others.

pub mod protocol;
