//! Looking into a file of the user's: a model, or an engine, of which no library is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::canonicalize::refused;
use super::protocol::{EngineFacts, Inspected, MAX_TENSORS, OnnxFacts, Refusal};
use crate::engine::{self, Facts};
use crate::onnx::pattern;
use crate::precision::{self, Capabilities, FloatType, Problem, Spec};
use crate::{fs, onnx};

/// What the file is.
pub(super) fn run(file: &Path) -> Result<Inspected, Box<Refusal>> {
    if fs::is_file(file) {
        let bytes = fs::map(file).map_err(|e| refused(&onnx::Error::Fs(e)))?;
        if let Some(found) = engine::find(&bytes) {
            return of_engine(&bytes, found).map(Inspected::Engine);
        }
    }
    of_model(file).map(Inspected::Onnx).map_err(|error| refused(&error))
}

fn of_engine(bytes: &[u8], found: engine::Found) -> Result<EngineFacts, Box<Refusal>> {
    let facts = Facts::read(&bytes[found.start..]);
    let Some(header) = facts.header else {
        let message = "the file begins as an engine and ends before it says of what";
        let refusal = Refusal::new("read", "engine-damaged", message).help("fetch or build it again");
        return Err(Box::new(refusal));
    };
    let (mut kernels, mut types, mut nodes) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    for kernel in &facts.kernels {
        *kernels.entry(kernel.kind.clone()).or_default() += 1;
        kernel.outputs.iter().for_each(|of| *types.entry(of.clone()).or_default() += 1);
        nodes.extend(&kernel.layers);
    }
    Ok(EngineFacts {
        header,
        start: found.start as u64,
        metadata: found.metadata,
        size: bytes.len() as u64,
        tf32: facts.tf32,
        kernels,
        types,
        nodes: nodes.len() as u64,
        is_whole: facts.is_whole,
    })
}

fn of_model(file: &Path) -> Result<OnnxFacts, onnx::Error> {
    let opened = onnx::open(file)?;
    let files = opened.files().map(|(path, size)| (path.to_owned(), size)).collect();
    let onnx::Opened { model, producer, summary, notes, .. } = opened;
    let weights = onnx::weights(&model);
    let mut patterns: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for found in pattern::find(&model) {
        let (all, explicit) = patterns.entry(found.kind.name().to_owned()).or_default();
        *all += 1;
        *explicit += u64::from(found.is_explicit());
    }
    Ok(OnnxFacts {
        files,
        producer,
        summary,
        notes,
        tensors: weights.len() as u64,
        largest: weights.into_iter().take(MAX_TENSORS).collect(),
        patterns,
        hazards: hazards(&model),
    })
}

/// What FP16 does to the model where no rule keeps anything FP32.
fn hazards(model: &onnx::Model) -> Vec<Problem> {
    let spec = Spec::new(FloatType::Fp16, Vec::new(), Capabilities::default());
    precision::prepare(model, &spec).map_or_else(|problems| problems, |prepared| prepared.problems)
}
