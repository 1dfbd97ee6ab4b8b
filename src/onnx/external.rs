//! External data: tensors whose bytes lie in files beside the model.
//!
//! Nothing that the model says is trusted: the location stays below the model's folder (symlinks are
//! followed, since package stores are made of them), and offset and length lie within the file. Each file
//! is mapped once, and its facts are taken before the first byte is read.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use super::proto::TensorProto;
use super::sniff;
use crate::diagnostic::Diagnostic;
use crate::fs;

/// Where external data comes from.
#[derive(Debug)]
pub(super) enum ExternalData {
    /// Files below the folder of the model.
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What was opened, by path; in order of path.
        files: BTreeMap<PathBuf, Mapped>,
    },
    /// The one file of a canonical model.
    Weights(Bytes),
}

/// Files of this size or more are kept open: reading them is faster than looking at the mapping for the first time.
const READ_FROM: u64 = 1 << 20;

/// So many at most, since a process may open a thousand: there are models with a file for each tensor.
const MAX_OPEN: usize = 256;

/// A mapped file.
#[derive(Debug)]
pub(super) struct Mapped {
    /// Where it lies.
    pub(super) path: PathBuf,
    /// Facts taken before it was mapped.
    pub(super) stat: fs::Stat,
    /// The open file, if it is worth reading beside the mapping.
    pub(super) file: Option<File>,
    /// All of it.
    pub(super) bytes: Bytes,
}

impl Mapped {
    /// Opens a regular file and maps it. Facts come first.
    pub(super) fn open(path: &Path) -> Result<Mapped, fs::Error> {
        if fs::exists(path) && !fs::is_file(path) && !fs::is_dir(path) {
            // Opening a pipe would wait for ever.
            let source = std::io::Error::other("it is not a regular file");
            return Err(fs::error("read", path, source));
        }
        let file = fs::open(path)?;
        let stat = fs::fstat(&file, path)?;
        if fs::is_dir(path) {
            return Err(fs::error("read", path, std::io::Error::from(std::io::ErrorKind::IsADirectory)));
        }
        let bytes = fs::map_file(&file, path)?;
        Ok(Mapped { path: path.to_owned(), stat, bytes, file: (stat.size >= READ_FROM).then_some(file) })
    }

    /// Where a slice of the mapping lies in the file; none if it is a slice of something else.
    pub(super) fn range(&self, slice: &[u8]) -> Option<Range<usize>> {
        let memory = self.bytes.as_ptr_range();
        let start = slice.as_ptr().addr().checked_sub(memory.start.addr())?;
        memory.contains(&slice.as_ptr()).then_some(start..start + slice.len())
    }
}

/// What `external_data` of a tensor says.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    location: String,
    offset: u64,
    length: Option<u64>,
}

fn number(key: &str, value: &str) -> Result<u64, Box<Diagnostic>> {
    value.parse().map_err(|_| {
        let problem = if value.starts_with('-') { "negative" } else { "not a number" };
        Box::new(Diagnostic::error(
            "external-data-range",
            format!("has the {key} `{value}`, which is {problem}"),
        ))
    })
}

fn entry(tensor: &TensorProto) -> Result<Entry, Box<Diagnostic>> {
    let mut values = BTreeMap::new();
    for pair in &tensor.external_data {
        if values.insert(pair.key(), pair.value()).is_some() {
            let message = format!("says `{}` of its external data twice", pair.key());
            return Err(Diagnostic::error("external-data-range", message).into());
        }
    }
    let location = values.get("location").copied().unwrap_or_default();
    let refuse = |why: &str| {
        let message = format!("lies at the location `{location}`, {why}");
        let error = Diagnostic::error("external-data-location", message)
            .help("locations are relative to the model's folder and stay below it")
            .help("save the model again with `onnx.save_model(..., location=\"weights.bin\")`");
        Err(Box::new(error))
    };
    if location.is_empty() {
        let message = "is external but has no `location`";
        return Err(Diagnostic::error("external-data-location", message).into());
    }
    if location.contains('\0') {
        return refuse("which holds a NUL byte");
    }
    let path = Path::new(location);
    if path.has_root() {
        return refuse("an absolute path");
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return refuse("which leads out of the model's folder");
    }
    Ok(Entry {
        location: location.to_owned(),
        offset: values.get("offset").map_or(Ok(0), |value| number("offset", value))?,
        length: values.get("length").map(|value| number("length", value)).transpose()?,
    })
}

impl ExternalData {
    /// Files beside this model.
    pub(super) fn beside(model: &Path) -> ExternalData {
        let folder = model.parent().unwrap_or(Path::new("")).to_owned();
        ExternalData::Folder { folder, files: BTreeMap::new() }
    }

    /// The bytes of an external tensor, `size` of them. The message continues "initializer `w` …".
    pub(super) fn data(&mut self, tensor: &TensorProto, size: u64) -> Result<Bytes, Box<Diagnostic>> {
        let Entry { location, offset, length } = entry(tensor)?;
        if let Some(length) = length.filter(|length| *length != size) {
            let message =
                format!("says that its external data has {length} bytes where type and shape want {size}");
            return Err(Diagnostic::error("external-data-range", message).into());
        }
        let (path, bytes) = match self {
            ExternalData::Folder { folder, files } => {
                let path: PathBuf = folder.join(&location).components().collect();
                if !files.contains_key(&path) {
                    let mut mapped = Mapped::open(&path).map_err(|e| Box::new(unreadable(&location, &e)))?;
                    mapped.file = mapped.file.filter(|_| files.len() < MAX_OPEN);
                    files.insert(path.clone(), mapped);
                }
                let bytes = files[&path].bytes.clone();
                (path, bytes)
            }
            ExternalData::Weights(bytes) if location == super::WEIGHTS_FILE => {
                (PathBuf::from(&location), bytes.clone())
            }
            ExternalData::Weights(_) => {
                let message = format!("lies in `{location}`, which a canonical model does not have");
                return Err(Diagnostic::error("external-data-location", message).into());
            }
        };
        let end = offset.checked_add(size).filter(|end| *end <= bytes.len() as u64);
        let (Some(end), Ok(start)) = (end, usize::try_from(offset)) else {
            let message = format!(
                "wants {size} bytes at offset {offset} of `{}`, which has {} bytes",
                path.display(),
                bytes.len()
            );
            let error = Diagnostic::error("external-data-too-short", message);
            return Err(Box::new(match sniff::known_format(&bytes) {
                Some((_, what, help)) => error.note(format!("the file is {what}")).help(help),
                None => error
                    .help("the file may be cut off or belong to another export: fetch or export both again"),
            }));
        };
        #[expect(clippy::cast_possible_truncation, reason = "it is at most the length of the mapping")]
        Ok(bytes.slice(start..end as usize))
    }

    /// Every file that was read, in order of path.
    pub(super) fn files(self) -> impl Iterator<Item = Mapped> {
        let files = match self {
            ExternalData::Folder { files, .. } => files,
            ExternalData::Weights(_) => BTreeMap::new(),
        };
        files.into_values()
    }
}

/// Is the offset one that readers with aligned access can use?
pub(super) fn misaligned(tensor: &TensorProto, data: &Bytes) -> bool {
    let count = super::tensor::element_count(&tensor.dims).unwrap_or(0);
    let width = (data.len() as u64).checked_div(count).unwrap_or(1).max(1);
    entry(tensor).is_ok_and(|entry| entry.offset % width != 0)
}

fn unreadable(location: &str, e: &fs::Error) -> Diagnostic {
    if e.is_missing() {
        let error = Diagnostic::error(
            "external-data-missing",
            format!("lies in `{location}`, but there is no `{}`", e.path.display()),
        );
        let error = error.help("external data must lie beside the model: fetch or copy that file too");
        return if location.contains('\\') {
            error.note("`\\` in a location is an ordinary character, not a folder separator")
        } else {
            error
        };
    }
    Diagnostic::error("external-data-unreadable", format!("lies in `{location}`: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::StringStringEntryProto;

    fn of(pairs: &[(&str, &str)]) -> TensorProto {
        let pair = |(key, value): &(&str, &str)| StringStringEntryProto {
            key: Some((*key).to_owned()),
            value: Some((*value).to_owned()),
        };
        TensorProto { external_data: pairs.iter().map(pair).collect(), ..TensorProto::default() }
    }

    #[test]
    fn locations_stay_below_the_folder() {
        for bad in ["", "/etc/passwd", "../w", "a/../../w", "a\0b"] {
            let error = entry(&of(&[("location", bad)])).unwrap_err();
            assert_eq!(error.code, "external-data-location", "{bad}");
        }
        for good in ["w", "a/b", "./w", "a%20b", "a b", "..w", "C:\\w"] {
            assert_eq!(entry(&of(&[("location", good)])).unwrap().location, good);
        }
    }

    #[test]
    fn ranges_are_numbers_within_the_file() {
        let mut weights = ExternalData::Weights(Bytes::from_static(b"0123456789"));
        let mut at = |offset: &str, length: &str, size| {
            let tensor = of(&[("location", "weights.bin"), ("offset", offset), ("length", length)]);
            weights.data(&tensor, size).map_err(|e| e.code.into_owned())
        };
        assert_eq!(at("3", "4", 4), Ok(Bytes::from_static(b"3456")));
        assert_eq!(at("10", "0", 0), Ok(Bytes::new()));
        assert_eq!(at("7", "4", 4), Err("external-data-too-short".to_owned()));
        assert_eq!(at("-1", "4", 4), Err("external-data-range".to_owned()));
        assert_eq!(at("x", "4", 4), Err("external-data-range".to_owned()));
        assert_eq!(at("0", "5", 4), Err("external-data-range".to_owned()));
        assert_eq!(at("18446744073709551615", "4", 4), Err("external-data-too-short".to_owned()));
        assert_eq!(at("99999999999999999999999", "4", 4), Err("external-data-range".to_owned()));
    }
}
