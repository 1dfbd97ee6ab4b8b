//! `[model.X.verify]`

use std::collections::BTreeMap;

use super::super::codes;
use super::super::fields::{Item, shown, unknown_word};
use super::super::model::VerifyInputs;
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
    ("nan", Scale::Error),
    ("inf", Scale::Error),
];

/// What is said of the verification at one place.
#[derive(Clone, Debug)]
pub(in crate::manifest) struct VerifyLayer {
    pub(in crate::manifest) inputs: Option<VerifyInputs>,
    pub(in crate::manifest) tolerance: BTreeMap<String, f64>,
    pub(in crate::manifest) output_tolerance: BTreeMap<String, BTreeMap<String, f64>>,
    pub(in crate::manifest) origin: Origin,
}

pub(super) fn decode(item: &Item<'_>) -> Option<VerifyLayer> {
    let fields = item.table(&[&["inputs", "tolerance"]])?;
    let mut layer = VerifyLayer {
        inputs: fields.get("inputs").and_then(|inputs| decode_inputs(&inputs)),
        tolerance: BTreeMap::new(),
        output_tolerance: BTreeMap::new(),
        origin: item.key.clone(),
    };
    for (name, entry) in fields.get("tolerance").and_then(|item| item.entries()).unwrap_or_default() {
        // A table is an output, even if it has the name of a metric.
        if entry.is_table() {
            let metrics = entry.entries()?;
            let metrics =
                metrics.into_iter().filter_map(|(name, entry)| Some((name.clone(), metric(&name, &entry)?)));
            layer.output_tolerance.insert(name, metrics.collect());
        } else if let Some(value) = metric(&name, &entry) {
            layer.tolerance.insert(name, value);
        }
    }
    Some(layer)
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

fn decode_inputs(item: &Item<'_>) -> Option<VerifyInputs> {
    let fields = item.table(&[&["dir", "seed", "samples", "ranges"]])?;
    if let Some(dir) = fields.get("dir") {
        if let Some(other) = fields.given(&["seed", "samples", "ranges"]).first() {
            fields.conflict("dir", other);
        }
        return Some(VerifyInputs::Dir(dir.file_path()?));
    }
    if fields.given(&["seed", "samples", "ranges"]).is_empty() {
        fields.missing("dir", "dir = \"…\"` or `seed = 7");
        return None;
    }
    let seed = fields.get("seed").map_or(Some(DEFAULT_SEED), |seed| seed.integer(0..=i64::MAX));
    let samples = fields.get("samples").map_or(Some(DEFAULT_SAMPLES), |n| n.integer(1..=MAX_SAMPLES));
    let mut ranges = BTreeMap::new();
    for (name, entry) in fields.get("ranges").and_then(|item| item.entries()).unwrap_or_default() {
        ranges.extend(range(&entry).map(|range| (name, range)));
    }
    Some(VerifyInputs::Generated { seed: seed?, samples: samples?, ranges })
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
