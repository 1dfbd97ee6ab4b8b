//! numpy's files: `.npy`, one array, and `.npz`, a zip of them. Nothing in them is trusted: sizes are held against
//! what is there before anything is taken for it.

use std::io::{Cursor, Read};

use super::sample::{Array, width};

/// A file that is not what its name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub help: Option<String>,
}

impl Broken {
    fn new(what: impl Into<String>) -> Broken {
        Broken { what: what.into(), help: None }
    }

    fn help(self, help: &str) -> Broken {
        Broken { help: Some(help.to_owned()), ..self }
    }
}

const MAGIC: &[u8] = b"\x93NUMPY";

/// The longest header: numpy's own are some hundred bytes.
const MAX_HEADER: usize = 64 << 10;

/// The most arrays in one archive.
const MAX_ARRAYS: usize = 1024;

/// The most bytes that an archive may hold when it is unpacked.
const MAX_UNPACKED: u64 = 8 << 30;

/// How much an archive may grow: deflate does not pack better than about 1 to 1000.
const MAX_GROWTH: u64 = 1100;

/// One array.
pub(super) fn npy(bytes: &[u8]) -> Result<Array, Broken> {
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| Broken::new("it is not a `.npy` file"))?;
    let (length, at) = match rest {
        [1, _, a, b, ..] => (usize::from(u16::from_le_bytes([*a, *b])), 4),
        [2 | 3, _, a, b, c, d, ..] => {
            (usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX), 6)
        }
        [version, ..] => return Err(Broken::new(format!("its format version {version} is unknown"))),
        [] => return Err(Broken::new("it ends in its head")),
    };
    if length > MAX_HEADER {
        return Err(Broken::new(format!("its header is said to have {length} bytes")));
    }
    let header = rest.get(at..at + length).ok_or_else(|| Broken::new("it ends in its header"))?;
    let data = &rest[at + length..];
    let header = std::str::from_utf8(header).map_err(|_| Broken::new("its header is not text"))?;
    let Header { descr, fortran, shape } = parse(header)?;
    let element = element(&descr)?;
    let shape_error = || Broken::new(format!("its shape {shape:?} is impossible"));
    let count = shape.iter().try_fold(1u64, |n, dim| n.checked_mul(u64::try_from(*dim).ok()?));
    let width = width(element).unwrap_or(1) as u64;
    let expected = count.and_then(|n| n.checked_mul(width)).ok_or_else(shape_error)?;
    if data.len() as u64 != expected {
        let message = format!("it holds {} bytes of data, its header says {expected}", data.len());
        return Err(Broken::new(message));
    }
    // Of one dimension, or of ones but one, both orders are the same.
    if fortran && shape.iter().filter(|dim| **dim > 1).count() > 1 {
        return Err(Broken::new("its array is in Fortran order").help("save `np.ascontiguousarray(x)`"));
    }
    Ok(Array { element: element.to_owned(), shape, bytes: data.to_vec() })
}

/// All arrays of an archive, by name.
pub(super) fn npz(bytes: &[u8]) -> Result<Vec<(String, Array)>, Broken> {
    let broken = |e: zip::result::ZipError| Broken::new(format!("it is not a `.npz` file: {e}"));
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    if archive.len() > MAX_ARRAYS {
        return Err(Broken::new(format!("it holds {} arrays", archive.len())));
    }
    let mut left = MAX_UNPACKED.min((bytes.len() as u64).saturating_mul(MAX_GROWTH));
    let mut arrays: Vec<(String, Array)> = Vec::new();
    for i in 0..archive.len() {
        let mut file = archive.by_index(i).map_err(broken)?;
        let Some(name) = file.name().strip_suffix(".npy").map(str::to_owned) else {
            return Err(Broken::new(format!("`{}` in it is not a `.npy` file", file.name())));
        };
        // The size in the directory is a claim: memory is taken as the bytes come.
        let mut data = Vec::new();
        file.by_ref()
            .take(left + 1)
            .read_to_end(&mut data)
            .map_err(|e| Broken::new(format!("`{name}`: {e}")))?;
        left = left
            .checked_sub(data.len() as u64)
            .ok_or_else(|| Broken::new("it unpacks to more than can be true"))?;
        let array = npy(&data).map_err(|e| Broken { what: format!("`{name}`: {}", e.what), ..e })?;
        if arrays.iter().any(|(other, _)| *other == name) {
            return Err(Broken::new(format!("it holds `{name}` twice")));
        }
        arrays.push((name, array));
    }
    Ok(arrays)
}

fn element(descr: &str) -> Result<&'static str, Broken> {
    Ok(match descr.trim_start_matches(['<', '|', '=']) {
        "f4" => "float",
        "f2" => "float16",
        "f8" => "double",
        "i1" => "int8",
        "i2" => "int16",
        "i4" => "int32",
        "i8" => "int64",
        "u1" => "uint8",
        "u2" => "uint16",
        "u4" => "uint32",
        "u8" => "uint64",
        "b1" => "bool",
        big if big.starts_with('>') => {
            return Err(Broken::new(format!("its elements `{descr}` are big-endian"))
                .help("save it with `x.astype(x.dtype.newbyteorder('<'))`"));
        }
        _ => {
            let error = Broken::new(format!("its elements are of the type `{descr}`"));
            return Err(error.help("save numbers or booleans; bfloat16 as a raw file"));
        }
    })
}

#[derive(Debug, Default)]
struct Header {
    descr: String,
    fortran: bool,
    shape: Vec<i64>,
}

/// The header is a Python dictionary of three keys, as numpy writes it: `{'descr': '<f4', 'fortran_order': False,
/// 'shape': (3, 4), }`.
fn parse(text: &str) -> Result<Header, Broken> {
    let bad = || Broken::new(format!("its header makes no sense: {}", text.trim().escape_debug()));
    let mut header = Header::default();
    let mut rest = text.trim().strip_prefix('{').ok_or_else(bad)?;
    let mut seen = 0;
    loop {
        rest = rest.trim_start_matches([' ', ',', '\n']);
        if let Some(end) = rest.strip_prefix('}') {
            return if end.trim().is_empty() && seen == 3 { Ok(header) } else { Err(bad()) };
        }
        let (key, tail) = quoted(rest).ok_or_else(bad)?;
        let tail = tail.trim_start().strip_prefix(':').ok_or_else(bad)?.trim_start();
        rest = match key {
            "descr" => {
                // A list is a record of several fields.
                let (descr, tail) = quoted(tail)
                    .ok_or_else(|| Broken::new("its elements are records").help("save plain numbers"))?;
                descr.clone_into(&mut header.descr);
                tail
            }
            "fortran_order" => {
                header.fortran = tail.starts_with("True");
                tail.strip_prefix("True").or_else(|| tail.strip_prefix("False")).ok_or_else(bad)?
            }
            "shape" => {
                let (dims, tail) = tail.strip_prefix('(').and_then(|t| t.split_once(')')).ok_or_else(bad)?;
                for dim in dims.split(',').map(str::trim).filter(|dim| !dim.is_empty()) {
                    let dim: i64 = dim.trim_end_matches('L').parse().map_err(|_| bad())?;
                    if dim < 0 || header.shape.len() >= 64 {
                        return Err(bad());
                    }
                    header.shape.push(dim);
                }
                tail
            }
            _ => return Err(bad()),
        };
        seen += 1;
    }
}

fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| ['\'', '"'].contains(c))?;
    text[1..].split_once(quote)
}
