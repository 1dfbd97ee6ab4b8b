//! Samples: the inputs of one inference, read from the files of a user's or made.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::{bf16, f16};

use super::npy::{self, Broken};
use super::spec::{SampleFile, SampleFiles};
use crate::fs;
use crate::manifest::RawTensor;
use crate::onnx::{Dim, Tensor};

/// A tensor, its elements little-endian.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Element type in ONNX's words.
    pub element: String,
    /// Its dimensions.
    pub shape: Vec<i64>,
    /// Its elements.
    pub bytes: Vec<u8>,
}

/// The inputs of one inference.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its name.
    pub name: String,
    /// Its arrays, by input.
    pub arrays: BTreeMap<String, Array>,
}

/// A sample cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleError {
    /// Stable code, kebab-case.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// The file, if it is one.
    pub file: Option<PathBuf>,
    /// What to do.
    pub help: Option<String>,
}

impl SampleError {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> SampleError {
        SampleError { code, message: message.into(), file: None, help: None }
    }

    fn at(self, file: &Path) -> SampleError {
        SampleError { file: Some(file.to_owned()), ..self }
    }

    pub(super) fn help(self, help: impl Into<String>) -> SampleError {
        SampleError { help: Some(help.into()), ..self }
    }
}

/// Bytes of an element of ONNX's types of one size; none for all others.
#[must_use]
pub fn width(element: &str) -> Option<usize> {
    Some(match element {
        "bool" | "int8" | "uint8" => 1,
        "float16" | "bfloat16" | "int16" | "uint16" => 2,
        "float" | "int32" | "uint32" => 4,
        "double" | "int64" | "uint64" => 8,
        _ => return None,
    })
}

impl Array {
    /// Does it hold floats?
    #[must_use]
    pub fn is_float(&self) -> bool {
        ["float", "float16", "bfloat16", "double"].contains(&self.element.as_str())
    }

    /// Its elements, exactly; empty if it holds no floats.
    #[must_use]
    pub fn to_floats(&self) -> Vec<f64> {
        let bytes = &self.bytes;
        match self.element.as_str() {
            "float" => bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(four(b)))).collect(),
            "double" => bytes.chunks_exact(8).map(|b| f64::from_le_bytes(eight(b))).collect(),
            "float16" => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f64()).collect(),
            "bfloat16" => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f64()).collect(),
            _ => Vec::new(),
        }
    }

    /// Its elements; empty if it holds floats.
    #[must_use]
    pub fn to_integers(&self) -> Vec<i128> {
        let bytes = &self.bytes;
        match self.element.as_str() {
            "bool" | "uint8" => bytes.iter().map(|b| i128::from(*b)).collect(),
            "int8" => bytes.iter().map(|b| i128::from(b.cast_signed())).collect(),
            "int16" => bytes.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]]).into()).collect(),
            "uint16" => bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]).into()).collect(),
            "int32" => bytes.chunks_exact(4).map(|b| i32::from_le_bytes(four(b)).into()).collect(),
            "uint32" => bytes.chunks_exact(4).map(|b| u32::from_le_bytes(four(b)).into()).collect(),
            "int64" => bytes.chunks_exact(8).map(|b| i64::from_le_bytes(eight(b)).into()).collect(),
            "uint64" => bytes.chunks_exact(8).map(|b| u64::from_le_bytes(eight(b)).into()).collect(),
            _ => Vec::new(),
        }
    }

    /// The same numbers in another type, rounded to it.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "integers that models take fit into 53 bits")]
    pub fn to(&self, element: &str) -> Cow<'_, Array> {
        if self.element == element || width(element).is_none() {
            return Cow::Borrowed(self);
        }
        let shape = self.shape.clone();
        Cow::Owned(if self.is_float() {
            Array::from_floats(element, shape, self.to_floats().into_iter())
        } else {
            Array::from_floats(element, shape, self.to_integers().into_iter().map(|v| v as f64))
        })
    }

    /// From numbers, rounded to the element type.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
    pub(super) fn from_floats(element: &str, shape: Vec<i64>, values: impl Iterator<Item = f64>) -> Array {
        let mut bytes = Vec::new();
        for v in values {
            match element {
                "float" => bytes.extend((v as f32).to_le_bytes()),
                "double" => bytes.extend(v.to_le_bytes()),
                "float16" => bytes.extend(f16::from_f64(v).to_le_bytes()),
                "bfloat16" => bytes.extend(bf16::from_f64(v).to_le_bytes()),
                "bool" => bytes.push(u8::from(v != 0.0)),
                "int8" => bytes.extend((v as i8).to_le_bytes()),
                "uint8" => bytes.push(v as u8),
                "int16" => bytes.extend((v as i16).to_le_bytes()),
                "uint16" => bytes.extend((v as u16).to_le_bytes()),
                "int32" => bytes.extend((v as i32).to_le_bytes()),
                "uint32" => bytes.extend((v as u32).to_le_bytes()),
                "uint64" => bytes.extend((v as u64).to_le_bytes()),
                _ => bytes.extend((v as i64).to_le_bytes()),
            }
        }
        Array { element: element.to_owned(), shape, bytes }
    }
}

fn four(bytes: &[u8]) -> [u8; 4] {
    [bytes[0], bytes[1], bytes[2], bytes[3]]
}

fn eight(bytes: &[u8]) -> [u8; 8] {
    let mut array = [0; 8];
    array.copy_from_slice(bytes);
    array
}

/// Reads a sample and holds it against the model's inputs. Reads files of the user: call it in a worker.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn load(
    sample: &SampleFiles,
    inputs: &[Tensor],
    raw: &BTreeMap<String, RawTensor>,
) -> Result<Sample, SampleError> {
    let mut arrays = BTreeMap::new();
    for file in &sample.files {
        for (name, array) in read(file, inputs, raw).map_err(|e| e.at(&file.path))? {
            check_array(&name, &array, inputs).map_err(|e| e.at(&file.path))?;
            arrays.insert(name, array);
        }
    }
    if let Some(missing) = inputs.iter().find(|input| !arrays.contains_key(&input.name)) {
        let has: Vec<String> = arrays.keys().map(|name| format!("`{name}`")).collect();
        let message = format!("sample `{}` has no input `{}`", sample.name, missing.name);
        let error = SampleError::new("sample-incomplete", message);
        let error = SampleError { file: sample.files.first().map(|file| file.path.clone()), ..error };
        return Err(
            error.help(format!("it has {}", if has.is_empty() { "none".into() } else { has.join(", ") }))
        );
    }
    Ok(Sample { name: sample.name.clone(), arrays })
}

fn read(
    file: &SampleFile,
    inputs: &[Tensor],
    raw: &BTreeMap<String, RawTensor>,
) -> Result<Vec<(String, Array)>, SampleError> {
    let bytes = fs::read(&file.path).map_err(|e| SampleError::new("sample-unreadable", e.to_string()))?;
    let broken = |broken: Broken| {
        let error = SampleError::new("sample-damaged", broken.what);
        match broken.help {
            Some(help) => error.help(help),
            None => error,
        }
    };
    let named = |name: &Option<String>| match (name, inputs) {
        (Some(name), _) => Ok(name.clone()),
        (None, [only]) => Ok(only.name.clone()),
        (None, _) => {
            let message = format!("the model has {} inputs, and this file holds one array", inputs.len());
            let help = "save all inputs of a sample in one `.npz`, or as `SAMPLE/INPUT.npy`";
            Err(SampleError::new("sample-incomplete", message).help(help))
        }
    };
    match file.path.extension().and_then(|e| e.to_str()) {
        Some("npz") => npy::npz(&bytes).map_err(broken),
        Some("npy") => Ok(vec![(named(&file.input)?, npy::npy(&bytes).map_err(broken)?)]),
        _ => {
            let name = named(&file.input)?;
            let Some(RawTensor { element, shape }) = raw.get(&name) else {
                let message = format!("nothing says what the raw file of input `{name}` holds");
                let help = format!(
                    "add `raw = {{ {name} = {{ type = \"float32\", shape = [1, 3] }} }}` to `inputs`"
                );
                return Err(SampleError::new("sample-undeclared", message).help(help));
            };
            let width = width(element).and_then(|w| u64::try_from(w).ok()).unwrap_or(1);
            let count = shape.iter().try_fold(1u64, |n, d| n.checked_mul(u64::try_from(*d).ok()?));
            if count.and_then(|n| n.checked_mul(width)) != Some(bytes.len() as u64) {
                let message = format!("it has {} bytes, which are not {shape:?} of {element}", bytes.len());
                return Err(SampleError::new("sample-shape", message));
            }
            Ok(vec![(name, Array { element: element.clone(), shape: shape.clone(), bytes })])
        }
    }
}

/// The type of an array in numpy's words.
fn numpy_name(element: &str) -> &str {
    match element {
        "float" => "float32",
        "double" => "float64",
        other => other,
    }
}

fn check_array(name: &str, array: &Array, inputs: &[Tensor]) -> Result<(), SampleError> {
    let Some(input) = inputs.iter().find(|input| input.name == name) else {
        let names: Vec<String> = inputs.iter().map(|input| format!("`{}`", input.name)).collect();
        let message = format!("the model has no input `{name}`");
        let error = SampleError::new("sample-unknown-input", message);
        return Err(error.help(format!("its inputs are {}", names.join(", "))));
    };
    if array.element != input.element {
        let (has, wants) = (numpy_name(&array.element), numpy_name(&input.element));
        let message = format!("`{name}` holds {has}, the model's input is {wants}");
        let help = match wants {
            "bfloat16" => {
                "save it as raw bytes, `.bin`, and say so in `raw`: numpy has no bfloat16".to_owned()
            }
            _ => format!("save it as {wants}"),
        };
        return Err(SampleError::new("sample-type", message).help(help));
    }
    let fits = input.dims.as_ref().is_none_or(|dims| {
        dims.len() == array.shape.len()
            && dims.iter().zip(&array.shape).all(|(dim, size)| !matches!(dim, Dim::Fixed(n) if n != size))
    });
    if !fits {
        let dims = input.dims.iter().flatten().map(|dim| match dim {
            Dim::Fixed(n) => n.to_string(),
            Dim::Param(name) => name.clone(),
            Dim::Unknown => "?".to_owned(),
        });
        let dims: Vec<String> = dims.collect();
        let message =
            format!("`{name}` has the shape {:?}, the model's input is [{}]", array.shape, dims.join(", "));
        return Err(SampleError::new("sample-shape", message));
    }
    if let Some(i) = array.to_floats().iter().position(|v| v.is_nan()) {
        return Err(SampleError::new("sample-nan", format!("`{name}` holds NaN, at element {i}")));
    }
    Ok(())
}
