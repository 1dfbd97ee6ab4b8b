//! From the file that a user has to the files that are hashed and built.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::canonical::canonical;
use super::error::{Error, Problems};
use super::external::Mapped;
use super::infer::{self, ElementTypes};
use super::inline::{self, inline};
use super::pieces::{digest_file, digest_rest};
use super::read::{self, Model, Source};
use super::summary::{Summary, tensor_digests};
use super::write::LateData;
use super::{TENSORS_FILE, write};
use super::{misread, nodes};
use crate::digest::{Blob, Digest};
use crate::fs;

/// What [`canonicalize`] or [`digest`] did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Canonical {
    /// Every file that was read: the model as it was given, then its external data. Facts were taken
    /// before reading and still held after it.
    pub files: Vec<(PathBuf, fs::Stat)>,
    /// For each file of external data, in their order: the digest of those of its bytes that the weights file does
    /// not hold. With the model file and the weights, they say what is in it.
    pub rests: Vec<Digest>,
    /// Was a weights file written?
    pub has_weights: bool,
    /// The weights file that would have been written, but was digested alone; none if all was written.
    pub digested: Option<Blob>,
    /// The model in short.
    pub summary: Summary,
    /// What is worth knowing: things that were odd and could be put right.
    pub notes: Vec<Note>,
}

/// Something worth knowing of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Stable code.
    pub code: String,
    /// What it is.
    pub text: String,
}

impl Note {
    fn new(code: &str, text: String) -> Note {
        Note { code: code.to_owned(), text }
    }
}

/// Reads and checks the model at `source` and writes its canonical form into `out_dir`:
/// [`super::MODEL_FILE`], [`super::WEIGHTS_FILE`] if there are large initializers, and
/// [`super::TENSORS_FILE`], a JSON list of [`super::TensorDigest`]. Call it in a worker: files of the user are
/// mapped, and one that is truncated meanwhile kills the process.
///
/// # Errors
/// The model is not valid, changed while it was read, or files cannot be read or written.
pub fn canonicalize(source: &Path, out_dir: &Path) -> Result<Canonical, Error> {
    digest(source, out_dir, u64::MAX)
}

/// As [`canonicalize`], but writes [`super::MODEL_FILE`] alone if the weights take `from` bytes or more: they are
/// digested, and to know a model, nobody has to copy it.
///
/// # Errors
/// The model is not valid, changed while it was read, or files cannot be read or written.
pub fn digest(source: &Path, out_dir: &Path, from: u64) -> Result<Canonical, Error> {
    let Opened { model, files, summary, notes, .. } = open(source)?;
    check_misread(&model)?;
    let is_large = write::weights(&model).map(|data| data.len() as u64).sum::<u64>() >= from.max(1);
    let external = files.iter().skip(1);
    let rests = external.map(|file| digest_rest(file, write::weights(&model)));
    let rests = rests.collect::<Result<_, _>>().map_err(|e| read::changed_or(&files, e))?;
    let (has_weights, digested) = if is_large {
        let weights = write::write_graph_alone(model, out_dir)?;
        (false, Some(digest_file(&weights, &files).map_err(|e| read::changed_or(&files, e))?))
    } else {
        (write_all(model, out_dir)?, None)
    };
    read::unchanged(&files)?;
    let files = files.into_iter().map(|file| (file.path, file.stat)).collect();
    Ok(Canonical { files, rests, has_weights, digested, summary, notes })
}

/// Writes all canonical files of a model. Is there one of weights?
fn write_all(model: Model, out_dir: &Path) -> Result<bool, Error> {
    let tensors = tensor_digests(model.graph());
    let path = out_dir.join(TENSORS_FILE);
    let json = serde_json::to_vec(&tensors).map_err(|e| fs::error("write", &path, e.into()))?;
    fs::write_atomic(&path, &json)?;
    write::write(model, &LateData::new(), out_dir)
}

/// A model in its canonical form, in memory, and what its file says beside.
#[derive(Debug)]
pub struct Opened {
    /// The canonical form.
    pub model: Model,
    /// Every file that was read: the model as it was given, then its external data.
    files: Vec<Mapped>,
    /// Who wrote the file: name and version, as far as it says.
    pub producer: String,
    /// The model in short.
    pub summary: Summary,
    /// What is worth knowing.
    pub notes: Vec<Note>,
}

impl Opened {
    /// Every file that was read, with its size in bytes.
    pub fn files(&self) -> impl Iterator<Item = (&Path, u64)> {
        self.files.iter().map(|file| (file.path.as_path(), file.stat.size))
    }
}

/// Reads and checks the model at `source`, and writes nothing. As [`canonicalize`], for a worker alone.
///
/// # Errors
/// The model is not valid, or files cannot be read.
pub fn open(source: &Path) -> Result<Opened, Error> {
    let Source { model, files, notes } = read::read(source)?;
    // TensorRT finds a function by its name alone, and takes one that is called as an operator of ONNX for that.
    let mut model = inline(&model).unwrap_or(model);
    let ir_version = model.proto.ir_version();
    let producer = format!("{} {}", model.proto.producer_name(), model.proto.producer_version());
    let types = infer::element_types(&model);
    check_types(&model, &types)?;
    canonical(&mut model, &types)?;
    let mut notes: Vec<Note> = notes.into_iter().map(|text| Note::new("model-note", text)).collect();
    notes.extend(infer::double_note(&model).map(|text| Note::new("double-narrowed", text)));
    let summary = Summary::of(&model, ir_version);
    Ok(Opened { model, files, producer: producer.trim().to_owned(), summary, notes })
}

/// Refuses what TensorRT would misread.
fn check_misread(model: &Model) -> Result<(), Error> {
    let mut problems = Problems::new(model.path());
    inline::check(model, &mut problems);
    nodes::check_all(model, &mut problems);
    misread::check(model, &mut problems);
    problems.finish()
}

/// Refuses what is [`infer::unfit`]. Other contradictions are left to TensorRT, which takes some types that ONNX does
/// not.
fn check_types(model: &Model, types: &ElementTypes) -> Result<(), Error> {
    let mut problems = Problems::new(model.path());
    infer::unfit(model, types).into_iter().for_each(|error| problems.push(error));
    problems.finish()
}

/// Writes a model that was made from a canonical one into `out_dir`: [`super::MODEL_FILE`], and
/// [`super::WEIGHTS_FILE`] if there are large initializers, which is what is given.
///
/// # Errors
/// The model is not valid any more, or files cannot be written.
pub fn write_canonical(model: Model, out_dir: &Path) -> Result<bool, Error> {
    write_canonical_late(model, &LateData::new(), out_dir)
}

/// The same of a model some of whose data is made as it is written.
pub(crate) fn write_canonical_late(mut model: Model, late: &LateData, out_dir: &Path) -> Result<bool, Error> {
    let types = infer::element_types(&model);
    canonical(&mut model, &types)?;
    write::write(model, late, out_dir)
}
