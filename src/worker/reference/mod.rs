//! Measuring: the model as it was exported, and the oracle of what is built from it, both in ONNX Runtime on a CPU.
//!
//! Both run without graph optimizations, which may leave Casts out, and on one thread: the same numbers on every
//! machine of one kind, and none from an engine that is the model.

mod layers;
mod library;
mod products;
mod session;

use std::collections::BTreeMap;
use std::path::Path;

pub(super) use layers::layers;
pub use library::{NEWEST_REFERENCE, OLDEST_REFERENCE, REFERENCE_LIBRARY};

use self::session::Session;
use super::canonicalize::refused;
use super::protocol::{MEASURED_FILE, MeasureRequest, PREPARED_FOLDER, Refusal, WireDiagnostic};
use crate::diagnostic::Diagnostic;
use crate::fs;
use crate::manifest::Condition;
use crate::onnx::{self, MODEL_FILE, Model, WEIGHTS_FILE};
use crate::precision::Problem;
use crate::precision::oracle::{self, Class, Rounding};
use crate::verify::{
    Array, MeasureSpec, Measured, Optimistic, OutputMetrics, Sample, SampleError, compare, index_bounds,
};

type Result<T> = std::result::Result<T, Box<Refusal>>;

/// What is compared, for messages.
const SOURCE: &str = "the model as exported";
const ORACLE: &str = "the oracle";

fn refusal(stage: &str, code: &str, message: impl Into<String>) -> Box<Refusal> {
    Box::new(Refusal::new(stage, code, message))
}

/// Loads the library and reads its version.
pub(super) fn probe(folder: &Path) -> Result<String> {
    library::version(folder)
}

/// Measures the prepared model beside its source, both in `folder`; writes [`MEASURED_FILE`].
pub(super) fn measure(request: &MeasureRequest, folder: &Path) -> Result<()> {
    let environment = library::load(&request.libraries)?;
    let source = read(folder)?;
    let bounds = index_bounds(&source);
    let prepared = read(&folder.join(PREPARED_FOLDER))?;
    let oracle = oracle::oracle(&prepared).map_err(|problems| no_oracle(&problems))?;
    let rounding = oracle.rounding;
    // Written out: a model of more than 2 GB has its weights beside it.
    let reference = Session::open(&environment, source, &folder.join("reference"), SOURCE)?;
    let mut oracle = Session::open(&environment, oracle.model, &folder.join("oracle"), ORACLE)?;
    let oracle = |sample: &Sample, outputs: &[String]| oracle.run(sample, outputs, ORACLE);
    let measured = run(&request.spec, reference, oracle, &bounds)?;
    let measured = Measured {
        rounding: rounding.len() as u64,
        optimistic: optimistic(&rounding, &request.spec, &prepared),
        ..measured
    };
    write(&measured, folder)
}

/// Measures what gives outputs of samples beside the model in `folder`; writes [`MEASURED_FILE`].
pub(super) fn measure_beside(
    request: &MeasureRequest,
    folder: &Path,
    candidate: impl FnMut(&Sample, &[String]) -> Result<Vec<Array>>,
) -> Result<()> {
    let environment = library::load(&request.libraries)?;
    let source = read(folder)?;
    let bounds = index_bounds(&source);
    let reference = Session::open(&environment, source, &folder.join("reference"), SOURCE)?;
    write(&run(&request.spec, reference, candidate, &bounds)?, folder)
}

fn write(measured: &Measured, folder: &Path) -> Result<()> {
    let path = folder.join(MEASURED_FILE);
    let json =
        serde_json::to_vec(measured).map_err(|e| refusal("write", "file-unreadable", e.to_string()))?;
    fs::write_atomic(&path, &json).map_err(|e| refused(&e.into()))
}

fn read(folder: &Path) -> Result<Model> {
    let map = |file: &str| fs::map(&folder.join(file)).map_err(|e| refused(&e.into()));
    let weights = if fs::exists(&folder.join(WEIGHTS_FILE)) { Some(map(WEIGHTS_FILE)?) } else { None };
    onnx::read_canonical(map(MODEL_FILE)?, weights).map_err(|error| refused(&error))
}

fn no_oracle(problems: &[Problem]) -> Box<Refusal> {
    let first = problems.iter().find(|p| p.is_error).or(problems.first());
    let message = first.map_or_else(|| "no oracle can be made".to_owned(), |p| p.message.clone());
    let mut refusal = refusal("oracle", first.map_or("oracle", |p| p.code.as_str()), message);
    refusal.help = first.map(|p| p.help.clone()).unwrap_or_default();
    refusal
}

/// Where the oracle is kinder than a GPU, by operator and reason.
fn optimistic(rounding: &[Rounding], spec: &MeasureSpec, prepared: &Model) -> Vec<Optimistic> {
    let mut found: Vec<Optimistic> = Vec::new();
    if let Some(first) = rounding.first().filter(|_| spec.is_weak) {
        found.push(Optimistic {
            op: "all that no rule keeps FP32".to_owned(),
            of: first.of.name().to_owned(),
            reason: "a weakly typed TensorRT chooses its types by itself, and may undo what is asked of layers that it fuses; here \
                     all of it rounds, and nothing is undone"
                .to_owned(),
            nodes: rounding.len() as u64,
            first: first.node.clone(),
        });
    }
    for row in rounding.iter().filter(|row| row.class == Class::Optimistic) {
        let of = row.of.name();
        match found.iter_mut().find(|o| o.op == row.op && o.of == of && o.reason == row.reason) {
            Some(same) => same.nodes += 1,
            None => found.push(Optimistic {
                op: row.op.clone(),
                of: of.to_owned(),
                reason: row.reason.clone(),
                nodes: 1,
                first: row.node.clone(),
            }),
        }
    }
    let products = if spec.tf32 { onnx::gemm_nodes(prepared) } else { Vec::new() };
    if let Some(first) = products.first() {
        found.push(Optimistic {
            op: first.op.clone(),
            of: "fp32".to_owned(),
            reason: "`tf32 = true` lets a GPU compute it with 10 bits of mantissa".to_owned(),
            nodes: products.len() as u64,
            first: first.name.clone(),
        });
    }
    found
}

fn run(
    spec: &MeasureSpec,
    mut reference: Session,
    mut candidate: impl FnMut(&Sample, &[String]) -> Result<Vec<Array>>,
    bounds: &BTreeMap<String, i64>,
) -> Result<Measured> {
    let mut outputs: Vec<OutputMetrics> = Vec::new();
    let mut names = Vec::new();
    for number in 0..spec.count() {
        let sample = spec.sample(number, bounds).map_err(bad_sample)?;
        let expected = reference.run(&sample, &spec.outputs, SOURCE)?;
        let found = candidate(&sample, &spec.outputs)?;
        for (i, (name, (expected, found))) in spec.outputs.iter().zip(expected.iter().zip(&found)).enumerate()
        {
            // A typed model may give another type of float than its source.
            let ignored = match spec.ignore_where.get(name) {
                Some(condition) => Some(ignored(condition, &sample, expected, name)?),
                None => None,
            };
            let metrics = compare(expected, found, ignored.as_deref());
            if outputs.len() <= i {
                outputs.push(OutputMetrics {
                    output: name.clone(),
                    is_float: expected.is_float(),
                    samples: Vec::new(),
                });
            }
            outputs[i].samples.push(metrics);
        }
        names.push(sample.name);
    }
    let is_generated = matches!(spec.inputs, crate::verify::Inputs::Generated { .. });
    Ok(Measured { samples: names, is_generated, outputs, optimistic: Vec::new(), rounding: 0 })
}

/// The elements of an output that are not compared: where the input, laid over the output's first axes, has a value.
#[expect(clippy::float_cmp, clippy::cast_precision_loss, reason = "a mask has small whole numbers")]
fn ignored(condition: &Condition, sample: &Sample, output: &Array, name: &str) -> Result<Vec<bool>> {
    let Some(mask) = sample.arrays.get(&condition.input) else { return Ok(Vec::new()) };
    let fits = mask.shape.len() <= output.shape.len() && output.shape.starts_with(&mask.shape);
    if !fits {
        let message = format!(
            "`ignore-where` of `{name}`: `{}` has the shape {:?}, which does not begin the output's {:?}",
            condition.input, mask.shape, output.shape
        );
        return Err(Box::new(
            Refusal::new("sample", "ignore-where", message)
                .help("name an input whose shape is that of the output, or of its first axes"),
        ));
    }
    let is = |value: f64| value == condition.value;
    let flags: Vec<bool> = if mask.is_float() {
        mask.to_floats().into_iter().map(is).collect()
    } else {
        mask.to_integers().into_iter().map(|value| is(value as f64)).collect()
    };
    let inner: i64 = output.shape[mask.shape.len()..].iter().product();
    let inner = usize::try_from(inner).unwrap_or(0);
    Ok(flags.into_iter().flat_map(|flag| std::iter::repeat_n(flag, inner)).collect())
}

fn bad_sample(error: SampleError) -> Box<Refusal> {
    let mut diagnostic = Diagnostic::error(error.code, error.message.clone());
    if let Some(file) = &error.file {
        diagnostic = diagnostic.in_file(file);
    }
    if let Some(help) = &error.help {
        diagnostic = diagnostic.help(help.clone());
    }
    let mut refusal = refusal("sample", error.code, error.message);
    refusal.help.extend(error.help);
    refusal.diagnostics.push(WireDiagnostic::from(&diagnostic));
    refusal
}
