//! Typing a model: canonical bytes in, typed bytes out. Here, since a graph that is large or odd may take much
//! memory, and its reader a deep stack.

use std::path::Path;

use super::canonicalize::refused;
use super::protocol::{ASSIGNMENT_FILE, PREPARED_FOLDER, PreparedModel, Refusal};
use crate::fs;
use crate::onnx::{self, MODEL_FILE, WEIGHTS_FILE};
use crate::precision::{self, Spec};

/// Types the model in `folder`.
pub(super) fn run(spec: &Spec, folder: &Path) -> Result<Box<PreparedModel>, Box<Refusal>> {
    files(spec, folder).map_err(|error| refused(&error))
}

fn files(spec: &Spec, folder: &Path) -> Result<Box<PreparedModel>, onnx::Error> {
    let graph = fs::map(&folder.join(MODEL_FILE))?;
    let weights = folder.join(WEIGHTS_FILE);
    let weights = if fs::exists(&weights) { Some(fs::map(&weights)?) } else { None };
    let out = folder.join(PREPARED_FOLDER);
    fs::create_dir_all(&out)?;
    let done = match precision::prepare_files(graph, weights, spec, &out)? {
        Ok((prepared, has_weights)) => {
            let path = folder.join(ASSIGNMENT_FILE);
            let json =
                serde_json::to_vec(&prepared.assignment).map_err(|e| fs::error("write", &path, e.into()))?;
            fs::write_atomic(&path, &json)?;
            let is_written = !prepared.problems.iter().any(|p| p.is_error);
            PreparedModel { is_written, has_weights, has_assignment: true, problems: prepared.problems }
        }
        Err(problems) => {
            PreparedModel { is_written: false, has_weights: false, has_assignment: false, problems }
        }
    };
    Ok(Box::new(done))
}
