//! The verify stage, from files and tensors made up here.

mod files;
mod generated;
mod judged;
mod measured;

use super::sample::Array;

/// Floats of a shape.
fn floats(shape: &[i64], values: &[f32]) -> Array {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Array { element: "float".to_owned(), shape: shape.to_vec(), bytes }
}

/// Integers of a shape.
fn integers(shape: &[i64], values: &[i64]) -> Array {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Array { element: "int64".to_owned(), shape: shape.to_vec(), bytes }
}
