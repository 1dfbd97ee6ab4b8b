//! What is to be measured, everything by value; and what in a manifest does not fit its model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::generate::{self, Filling, Shapes};
use super::judge;
use super::sample::{self, Sample, SampleError};
use crate::diagnostic::{Diagnostic, nearest};
use crate::fs;
use crate::manifest::{Condition, Engine, Fill, RawTensor, VerifyInputs};
use crate::onnx::{Dim, Summary, Tensor};

/// What is to be measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasureSpec {
    /// Where inputs come from.
    pub inputs: Inputs,
    /// The model's inputs.
    pub model_inputs: Vec<Tensor>,
    /// The profiles that inputs must fit.
    pub profiles: Vec<ProfileShapes>,
    /// Outputs that are compared, in the model's order.
    pub outputs: Vec<String>,
    /// Where outputs are not compared.
    pub ignore_where: BTreeMap<String, Condition>,
    /// May the engine compute FP32 products in TF32?
    pub tf32: bool,
    /// Does TensorRT choose the types of what no rule names? Then they are taken to be of 16 bits.
    pub is_weak: bool,
}

/// A profile: `[min, opt, max]` of shapes, and of values of shape tensors, by input.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ProfileShapes {
    /// Shapes of dynamic inputs.
    pub shapes: BTreeMap<String, [Vec<i64>; 3]>,
    /// Values of shape tensors.
    pub values: BTreeMap<String, [Vec<i64>; 3]>,
}

/// Where inputs come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Inputs {
    /// Files.
    Files {
        /// The samples.
        samples: Vec<SampleFiles>,
        /// What files without a header hold, by input.
        raw: BTreeMap<String, RawTensor>,
    },
    /// Made from a seed.
    Generated {
        /// The seed.
        seed: u64,
        /// How many.
        samples: u64,
        /// Ranges of values by input.
        ranges: BTreeMap<String, (f64, f64)>,
        /// What inputs are filled with, where it is not the default.
        fill: BTreeMap<String, Fill>,
    },
}

/// The files of one sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleFiles {
    /// Its name: of its file or folder.
    pub name: String,
    /// Its files.
    pub files: Vec<SampleFile>,
}

/// A file with one input or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleFile {
    /// Where it is.
    pub path: PathBuf,
    /// The input that it holds; none for a `.npz`, and for the one input of a model.
    pub input: Option<String>,
}

/// Endings of files that are samples.
const ENDINGS: [&str; 3] = ["npz", "npy", "bin"];

/// Lists the samples of a folder, by name: `NAME.npz`, `NAME.npy`, `NAME.bin`, and folders `NAME/` of `INPUT.npy` or
/// `INPUT.bin`. Hidden files are none.
///
/// # Errors
/// There are none, or something is none.
pub fn list_samples(folder: &Path) -> Result<Vec<SampleFiles>, SampleError> {
    let listed = |folder: &Path| {
        let files = fs::list(folder).map_err(|e| SampleError::new("samples-missing", e.to_string()))?;
        let is_hidden = |path: &PathBuf| name_of(path).starts_with('.');
        Ok(files.into_iter().filter(|path| !is_hidden(path)).collect::<Vec<_>>())
    };
    let mut samples = Vec::new();
    for path in listed(folder)? {
        let files = if fs::is_dir(&path) {
            let mut files = Vec::new();
            for file in listed(&path)? {
                let input = stem(&file).ok_or_else(|| foreign(&file))?;
                // A `.npz` names its arrays itself.
                let input = Some(input).filter(|_| file.extension().is_none_or(|e| e != "npz"));
                files.push(SampleFile { path: file, input });
            }
            (name_of(&path), files)
        } else {
            (stem(&path).ok_or_else(|| foreign(&path))?, vec![SampleFile { path: path.clone(), input: None }])
        };
        samples.push(SampleFiles { name: files.0, files: files.1 });
    }
    if samples.is_empty() {
        let message = format!("`{}` holds no samples", folder.display());
        return Err(SampleError::new("samples-missing", message)
            .help("put a `.npz` for each sample there, or a folder for each sample"));
    }
    if let Some(pair) = samples.windows(2).find(|pair| pair[0].name == pair[1].name) {
        let message = format!("two samples in `{}` are called `{}`", folder.display(), pair[0].name);
        return Err(SampleError::new("samples-ambiguous", message));
    }
    Ok(samples)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn stem(path: &Path) -> Option<String> {
    let is_sample = path.extension().is_some_and(|e| ENDINGS.iter().any(|ending| e == *ending));
    (is_sample && !fs::is_dir(path))
        .then(|| path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
}

fn foreign(path: &Path) -> SampleError {
    let message = format!("`{}` is no sample", path.display());
    SampleError::new("sample-unknown", message)
        .help("samples end in `.npz`, `.npy` or `.bin`; move it elsewhere")
}

/// What in `verify` does not fit the model.
#[must_use]
pub fn check(engine: &Engine, summary: &Summary) -> Vec<Diagnostic> {
    let Some(verify) = &engine.verify else { return Vec::new() };
    let inputs: Vec<&str> = summary.inputs.iter().map(|i| i.name.as_str()).collect();
    let outputs: Vec<&str> = summary.outputs.iter().map(|o| o.name.as_str()).collect();
    let mut errors = Vec::new();
    let mut unknown = |what: &'static str, name: &str, known: &[&str]| {
        if known.contains(&name) {
            return;
        }
        let message = format!("model `{}` has no {what} `{name}`", engine.name.model);
        let code = if what == "input" { "unknown-input" } else { "unknown-output" };
        let names: Vec<String> = known.iter().map(|n| format!("`{n}`")).collect();
        let mut error = Diagnostic::error(code, message)
            .at(verify.key_origins.get(name).unwrap_or(&verify.origin), format!("no such {what}"))
            .note(format!("its {what}s are {}", names.join(", ")));
        if let Some(near) = nearest(name, known.iter().copied()) {
            error = error.help(format!("did you mean `{near}`?"));
        }
        errors.push(error);
    };
    verify.outputs.iter().for_each(|name| unknown("output", name, &outputs));
    verify.output_tolerance.keys().for_each(|name| unknown("output", name, &outputs));
    for (output, condition) in &verify.ignore_where {
        unknown("output", output, &outputs);
        unknown("input", &condition.input, &inputs);
    }
    match &verify.inputs {
        VerifyInputs::Dir { raw, .. } => raw.keys().for_each(|name| unknown("input", name, &inputs)),
        VerifyInputs::Generated { ranges, fill, .. } => {
            ranges.keys().chain(fill.keys()).for_each(|name| unknown("input", name, &inputs));
        }
    }
    for name in verify
        .output_tolerance
        .keys()
        .filter(|name| !verify.outputs.is_empty() && !verify.outputs.contains(name))
    {
        if outputs.contains(&name.as_str()) {
            let message = format!("there is a tolerance for `{name}`, which `outputs` leaves out");
            let at = verify.key_origins.get(name).unwrap_or(&verify.origin);
            errors.push(Diagnostic::error("output-left-out", message).at(at, ""));
        }
    }
    for output in compared(verify.outputs.as_slice(), summary) {
        if !judge::is_comparable(&output.element) {
            let message = format!("output `{}` is {}, which cannot be compared", output.name, output.element);
            errors.push(
                Diagnostic::error("output-type", message)
                    .at(&verify.origin, "")
                    .help("name the outputs that matter: `outputs = [\"…\"]`"),
            );
        }
        if let Some(metric) = judge::foreign_metric(verify, output) {
            let what = if judge::is_float(&output.element) { "floats" } else { "integers" };
            let message = format!("`{metric}` is not measured of `{}`, which holds {what}", output.name);
            let at = verify.key_origins.get(&output.name).unwrap_or(&verify.origin);
            errors.push(Diagnostic::error("metric-type", message).at(at, ""));
        }
    }
    errors
}

/// The outputs that are compared.
fn compared<'s>(wanted: &'s [String], summary: &'s Summary) -> impl Iterator<Item = &'s Tensor> {
    summary.outputs.iter().filter(move |output| wanted.is_empty() || wanted.contains(&output.name))
}

impl MeasureSpec {
    /// Of an engine that is verified, whose manifest fits its model.
    ///
    /// # Errors
    /// Its samples cannot be listed.
    pub fn of(
        engine: &Engine,
        summary: &Summary,
        profiles: Vec<ProfileShapes>,
    ) -> Result<Option<MeasureSpec>, SampleError> {
        let Some(verify) = &engine.verify else { return Ok(None) };
        let inputs = match &verify.inputs {
            VerifyInputs::Dir { path, raw } => {
                Inputs::Files { samples: list_samples(path)?, raw: raw.clone() }
            }
            VerifyInputs::Generated { seed, samples, ranges, fill } => Inputs::Generated {
                seed: *seed,
                samples: *samples,
                ranges: ranges.clone(),
                fill: fill.clone(),
            },
        };
        Ok(Some(MeasureSpec {
            inputs,
            model_inputs: summary.inputs.clone(),
            profiles,
            outputs: compared(&verify.outputs, summary).map(|output| output.name.clone()).collect(),
            ignore_where: verify.ignore_where.clone(),
            tf32: engine.tf32,
            is_weak: false,
        }))
    }

    fn shapes(&self) -> Shapes<'_> {
        Shapes { inputs: &self.model_inputs, profiles: &self.profiles }
    }

    /// How many samples there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        match &self.inputs {
            Inputs::Files { samples, .. } => samples.len() as u64,
            Inputs::Generated { samples, .. } => generate::sample_count(self.shapes(), *samples),
        }
    }

    /// Reads or makes a sample, and holds it against the profiles. `bounds`: see [`super::index_bounds`].
    ///
    /// # Errors
    /// It cannot be used.
    pub fn sample(&self, number: u64, bounds: &BTreeMap<String, i64>) -> Result<Sample, SampleError> {
        match &self.inputs {
            Inputs::Files { samples, raw } => {
                let files = &samples[usize::try_from(number).unwrap_or(usize::MAX)];
                let sample = sample::load(files, &self.model_inputs, raw)?;
                self.fits(&sample).map_err(|error| SampleError {
                    file: files.files.first().map(|file| file.path.clone()),
                    ..error
                })?;
                Ok(sample)
            }
            Inputs::Generated { seed, ranges, fill, .. } => {
                let filling = Filling { seed: *seed, ranges, fill, bounds };
                generate::generate(self.shapes(), &filling, number)
            }
        }
    }

    /// The first profile that a sample lies within.
    #[must_use]
    pub fn profile_of(&self, sample: &Sample) -> Option<usize> {
        self.profiles.iter().position(|profile| outside(profile, sample).is_none())
    }

    /// A sample must lie within one of the profiles: outside them the engine does not run.
    fn fits(&self, sample: &Sample) -> Result<(), SampleError> {
        // Dimensions of one name are equal to TensorRT.
        let mut named: BTreeMap<&str, i64> = BTreeMap::new();
        for input in &self.model_inputs {
            let Some(array) = sample.arrays.get(&input.name) else { continue };
            for (dim, size) in input.dims.iter().flatten().zip(&array.shape) {
                if let Dim::Param(name) = dim
                    && *named.entry(name).or_insert(*size) != *size
                {
                    let message = format!("inputs of the sample disagree about the dimension `{name}`");
                    return Err(SampleError::new("sample-shape", message));
                }
            }
        }
        let outside = |profile| outside(profile, sample);
        let found: Option<Vec<String>> = self.profiles.iter().map(outside).collect();
        let Some(what) = found.as_ref().and_then(|all| all.first()) else { return Ok(()) };
        let profiles = if self.profiles.len() == 1 { "the profile" } else { "every profile" };
        let message = format!("sample `{}` lies outside {profiles}: {what}", sample.name);
        Err(SampleError::new("sample-outside-profile", message)
            .help("widen the profile, or give samples that the engine will be asked for"))
    }
}

/// How a sample lies outside a profile.
fn outside(profile: &ProfileShapes, sample: &Sample) -> Option<String> {
    let values = profile.values.iter().find_map(|(name, [min, _, max])| {
        let values = sample.arrays.get(name)?.to_integers();
        let allowed = |(value, (min, max)): (&i128, (&i64, &i64))| {
            (i128::from(*min)..=i128::from(*max)).contains(value)
        };
        let within = values.len() == min.len() && values.iter().zip(min.iter().zip(max)).all(allowed);
        (!within).then(|| format!("`{name}` holds {values:?}, the profile allows {min:?} to {max:?}"))
    });
    let mut shapes = profile.shapes.iter();
    values.or_else(|| {
        shapes.find_map(|(name, [min, _, max])| {
            let shape = &sample.arrays.get(name)?.shape;
            let allowed = |(n, (min, max)): (&i64, (&i64, &i64))| (min..=max).contains(&n);
            let within = shape.len() == min.len() && shape.iter().zip(min.iter().zip(max)).all(allowed);
            (!within)
                .then(|| format!("`{name}` has the shape {shape:?}, the profile allows {min:?} to {max:?}"))
        })
    })
}
