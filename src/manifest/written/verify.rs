//! `[model.X.verify]`

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::codes;
use super::super::fields::{Item, Located, shown, unknown_word};
use super::super::model::{Condition, Fill, RawTensor, Require, VerifyInputs};
use super::super::text;
use crate::diagnostic::{Diagnostic, Origin};

/// Seed of generated inputs when none is given.
const DEFAULT_SEED: u64 = 0;
/// Number of generated samples when none is given.
const DEFAULT_SAMPLES: u64 = 8;
/// More samples than this are a mistake: each is one inference of the reference.
const MAX_SAMPLES: i64 = 1_000_000;

/// What a metric can be, and so what a tolerance for it can be.
#[derive(Clone, Copy)]
enum Scale {
    /// An error or a count: from 0 up.
    Error,
    /// A likeness: up to 1.
    Likeness,
    /// A ratio in dB: any number.
    Decibel,
}

/// The metrics that a tolerance can be given for.
///
/// A NaN or Inf that the reference does not have is never tolerated, so that there is no tolerance for them.
const METRICS: [(&str, Scale); 12] = [
    ("max-abs", Scale::Error),
    ("max-rel", Scale::Error),
    ("mean-abs", Scale::Error),
    ("mean-rel", Scale::Error),
    ("rmse", Scale::Error),
    ("cosine", Scale::Likeness),
    ("snr-db", Scale::Decibel),
    ("psnr-db", Scale::Decibel),
    ("top-1", Scale::Likeness),
    ("top-k", Scale::Likeness),
    ("mismatch", Scale::Likeness),
    ("set-mismatch", Scale::Likeness),
];

/// What is said of the verification at one place.
#[derive(Clone, Debug)]
pub(in crate::manifest) struct VerifyLayer {
    pub(in crate::manifest) inputs: Option<VerifyInputs>,
    pub(in crate::manifest) outputs: Option<Vec<String>>,
    pub(in crate::manifest) ignore_where: BTreeMap<String, Condition>,
    pub(in crate::manifest) tolerance: BTreeMap<String, f64>,
    pub(in crate::manifest) output_tolerance: BTreeMap<String, BTreeMap<String, f64>>,
    pub(in crate::manifest) require: Option<Require>,
    pub(in crate::manifest) reference: Option<Located<String>>,
    pub(in crate::manifest) timeout: Option<Duration>,
    pub(in crate::manifest) origin: Origin,
    pub(in crate::manifest) key_origins: BTreeMap<String, Origin>,
}

impl VerifyLayer {
    /// What is said where nothing is.
    pub(in crate::manifest) fn default_inputs() -> VerifyInputs {
        VerifyInputs::Generated {
            seed: DEFAULT_SEED,
            samples: DEFAULT_SAMPLES,
            ranges: BTreeMap::new(),
            fill: BTreeMap::new(),
        }
    }
}

pub(super) fn decode(item: &Item<'_>) -> Option<VerifyLayer> {
    let keys: &[&str] =
        &["inputs", "outputs", "ignore-where", "tolerance", "require", "reference", "timeout"];
    let fields = item.table(&[keys])?;
    let mut origins = BTreeMap::new();
    let requires = [Require::Smoke, Require::EmulatedOptimistic, Require::Emulated, Require::OnDevice];
    let mut layer = VerifyLayer {
        inputs: fields.get("inputs").and_then(|inputs| decode_inputs(&inputs, &mut origins)),
        outputs: fields.get("outputs").map(|outputs| {
            let names = super::unique_names(&outputs);
            origins.extend(names.iter().map(|name| (name.value.clone(), name.origin.clone())));
            names.into_iter().map(|name| name.value).collect()
        }),
        ignore_where: BTreeMap::new(),
        tolerance: BTreeMap::new(),
        output_tolerance: BTreeMap::new(),
        require: fields.get("require").and_then(|item| item.word(&requires.map(|r| (r.name(), r)))),
        reference: fields.get("reference").and_then(|item| Some(item.located(item.text()?))),
        timeout: fields.get("timeout").and_then(|item| item.parsed(text::duration)),
        origin: item.key.clone(),
        key_origins: BTreeMap::new(),
    };
    for (output, entry) in fields.get("ignore-where").and_then(|item| item.entries()).unwrap_or_default() {
        origins.insert(output.clone(), entry.key.clone());
        layer.ignore_where.extend(entry.parsed(condition).map(|condition| (output, condition)));
    }
    for (name, entry) in fields.get("tolerance").and_then(|item| item.entries()).unwrap_or_default() {
        // A table is an output, even if it has the name of a metric.
        if entry.is_table() {
            origins.insert(name.clone(), entry.key.clone());
            let metrics = entry.entries()?;
            let metrics =
                metrics.into_iter().filter_map(|(name, entry)| Some((name.clone(), metric(&name, &entry)?)));
            layer.output_tolerance.insert(name, metrics.collect());
        } else if let Some(value) = metric(&name, &entry) {
            layer.tolerance.insert(name, value);
        }
    }
    layer.key_origins = origins;
    Some(layer)
}

/// `attention_mask == 0`
fn condition(text: &str) -> Result<Condition, text::Bad> {
    let bad = || text::Bad {
        code: codes::BAD_FORMAT,
        message: "is not of the form `INPUT == NUMBER`".to_owned(),
        help: "write where it is not compared, such as `attention_mask == 0`".to_owned(),
    };
    let (input, value) = text.split_once("==").ok_or_else(bad)?;
    let value: f64 = value.trim().parse().map_err(|_| bad())?;
    let input = input.trim().to_owned();
    if input.is_empty() || !value.is_finite() {
        return Err(bad());
    }
    Ok(Condition { input, value })
}

fn metric(name: &str, item: &Item<'_>) -> Option<f64> {
    let Some((_, scale)) = METRICS.iter().find(|(metric, _)| *metric == name) else {
        let unknown =
            unknown_word(item, codes::UNKNOWN_METRIC, name, METRICS.iter().map(|(metric, _)| *metric));
        let message = format!("unknown metric `{}` in `{}`", shown(name), shown(&item.path));
        let known = METRICS.map(|(metric, _)| format!("`{metric}`")).join(", ");
        item.report(
            Diagnostic { message, ..unknown }.at(item.key, "").note(format!("the metrics are {known}")),
        );
        return None;
    };
    let value = item.number()?;
    let (fits, range) = match scale {
        Scale::Error => (value >= 0.0, "at least 0"),
        Scale::Likeness => ((0.0..=1.0).contains(&value), "from 0 to 1"),
        Scale::Decibel => (true, ""),
    };
    if !fits {
        item.fail(codes::OUT_OF_RANGE, format!("`{}` must be {range}, not {value}", shown(&item.path)));
    }
    fits.then_some(value)
}

fn decode_inputs(item: &Item<'_>, origins: &mut BTreeMap<String, Origin>) -> Option<VerifyInputs> {
    let generated = ["seed", "samples", "ranges", "fill"];
    let fields = item.table(&[&["dir", "raw"], &generated])?;
    if let Some(dir) = fields.get("dir") {
        if let Some(other) = fields.given(&generated).first() {
            fields.conflict("dir", other);
        }
        let mut raw = BTreeMap::new();
        for (name, entry) in fields.get("raw").and_then(|item| item.entries()).unwrap_or_default() {
            origins.insert(name.clone(), entry.key.clone());
            raw.extend(raw_tensor(&entry).map(|tensor| (name, tensor)));
        }
        origins.insert("inputs".to_owned(), dir.origin().clone());
        return Some(VerifyInputs::Dir { path: dir.file_path()?, raw });
    }
    if fields.given(&generated).is_empty() {
        fields.missing("dir", "dir = \"…\"` or `seed = 7");
        return None;
    }
    if let Some(raw) = fields.get("raw") {
        raw.fail(codes::CONFLICTING_KEYS, format!("`{}` needs a `dir`", shown(&raw.path)));
    }
    let seed = fields.get("seed").map_or(Some(DEFAULT_SEED), |seed| seed.integer(0..=i64::MAX));
    let samples = fields.get("samples").map_or(Some(DEFAULT_SAMPLES), |n| n.integer(1..=MAX_SAMPLES));
    let mut ranges = BTreeMap::new();
    for (name, entry) in fields.get("ranges").and_then(|item| item.entries()).unwrap_or_default() {
        origins.insert(name.clone(), entry.key.clone());
        ranges.extend(range(&entry).map(|range| (name, range)));
    }
    let mut fill = BTreeMap::new();
    for (name, entry) in fields.get("fill").and_then(|item| item.entries()).unwrap_or_default() {
        origins.insert(name.clone(), entry.key.clone());
        let filled = if entry.is_text() {
            entry.word(&[("normal", Fill::Normal), ("uniform", Fill::Uniform), ("mask", Fill::Mask)])
        } else {
            entry.number().map(Fill::Constant)
        };
        fill.extend(filled.map(|filled| (name, filled)));
    }
    origins.insert("inputs".to_owned(), item.origin().clone());
    Some(VerifyInputs::Generated { seed: seed?, samples: samples?, ranges, fill })
}

/// Element types of files without a header: as written, and in ONNX's words.
const RAW_TYPES: [(&str, &str); 13] = [
    ("float32", "float"),
    ("float16", "float16"),
    ("bfloat16", "bfloat16"),
    ("float64", "double"),
    ("int8", "int8"),
    ("int16", "int16"),
    ("int32", "int32"),
    ("int64", "int64"),
    ("uint8", "uint8"),
    ("uint16", "uint16"),
    ("uint32", "uint32"),
    ("uint64", "uint64"),
    ("bool", "bool"),
];

fn raw_tensor(item: &Item<'_>) -> Option<RawTensor> {
    let fields = item.table(&[&["type", "shape"]])?;
    let element = fields.required("type", "type = \"float32\"").and_then(|item| item.word(&RAW_TYPES));
    let shape = fields.required("shape", "shape = [1, 3, 224, 224]").and_then(|item| item.list());
    let shape: Vec<i64> = shape?.iter().filter_map(|dim| dim.integer(0..=i64::from(i32::MAX))).collect();
    Some(RawTensor { element: element?.to_owned(), shape })
}

fn range(item: &Item<'_>) -> Option<(f64, f64)> {
    let ends = item.list()?;
    let [low, high] = ends.as_slice() else {
        let message = format!("`{}` must be `[low, high]`, not {} numbers", shown(&item.path), ends.len());
        item.fail(codes::OUT_OF_RANGE, message);
        return None;
    };
    let (low, high) = (low.number(), high.number());
    let (low, high) = (low?, high?);
    if low > high {
        item.fail(codes::UNORDERED_RANGE, format!("`{}`: {low} is above {high}", shown(&item.path)));
        return None;
    }
    Some((low, high))
}
