//! Weights that the cache does not hold. To know a large model, its weights are digested and not copied; they are
//! stored when the first action needs them, made from the source once more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::context::Context;
use super::sources;
use crate::diagnostic::Diagnostic;
use crate::digest::{Blob, Digest};
use crate::onnx::TensorDigest;
use crate::plan::ModelRef;

/// Weights of this size or more are stored only when they are needed.
pub(super) const DIGEST_FROM: u64 = 64 << 20;

/// Where weights that the cache may not hold can be made from: a model file, by the digest of its weights.
#[derive(Debug, Default)]
pub struct Unstored(Mutex<BTreeMap<Digest, PathBuf>>);

impl Context<'_> {
    /// Remembers that these weights can be made from this model file.
    pub(super) fn can_be_stored(&self, weights: &Blob, source: &Path) {
        let mut unstored = self.unstored.0.lock().unwrap_or_else(PoisonError::into_inner);
        unstored.insert(weights.b3, source.to_owned());
    }

    /// The file of a blob of the store; of weights that were digested alone, after they were stored. None if the
    /// cache lost it.
    ///
    /// # Errors
    /// The cache cannot be used, or the model is no longer what was planned with.
    pub(super) fn find_stored(&self, blob: &Blob) -> Result<Option<PathBuf>, Diagnostic> {
        let failed = |e| Diagnostic::from(&e);
        if let Some(path) = self.cache.find(blob).map_err(failed)? {
            return Ok(Some(path));
        }
        // One at a time: several engines wait for the same weights, and the disk is the bottleneck.
        let mut unstored = self.unstored.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(source) = unstored.get(&blob.b3) else { return Ok(None) };
        let _lock = self.cache.lock_action("canonicalize", &blob.b3, &mut |_| {}).map_err(failed)?;
        if self.cache.find(blob).map_err(failed)?.is_none() {
            let model = sources::store(self, source).map_err(sources::first)?;
            if model.weights.as_ref().map(|weights| weights.b3) != Some(blob.b3) {
                return Err(sources::changed(source));
            }
        }
        unstored.remove(&blob.b3);
        self.cache.find(blob).map_err(failed)
    }

    /// The content of a blob, as [`Context::find_stored`] finds it.
    ///
    /// # Errors
    /// The same.
    pub(super) fn read_stored(&self, blob: &Blob) -> Result<Option<Bytes>, Diagnostic> {
        self.find_stored(blob)?;
        self.cache.read(blob).map_err(|e| Diagnostic::from(&e))
    }

    /// Digests of the tensors of a model; none if they cannot be had any more.
    pub(super) fn tensors(&self, model: &ModelRef) -> Option<Vec<TensorDigest>> {
        let blob = match (&model.tensors, &model.weights) {
            (Some(tensors), _) => tensors.clone(),
            (None, Some(weights)) => {
                self.find_stored(weights).ok()??;
                sources::by_digest(self, &model.digest)?.tensors?
            }
            (None, None) => return None,
        };
        serde_json::from_slice(&self.cache.read(&blob).ok()??).ok()
    }
}
