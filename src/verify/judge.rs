//! Metrics held against tolerances: the verdict. A pure function: it runs nothing, and depends on nothing else.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::measured::{Bucket, Measured, Number, OnGpu, Optimistic, OutputMetrics, SampleMetrics};
use crate::digest::{Digest, Preimage, Value};
use crate::gpu::LocalGpu;
use crate::manifest::{Require, Verify};
use crate::onnx::Tensor;

/// What an output of floats must hold where the manifest names no tolerance for it.
pub const DEFAULT_TOLERANCE: [(&str, f64); 2] = [("cosine", 0.999), ("max-rel", 0.02)];

/// What an output of integers must hold where the manifest names no tolerance for it.
const DEFAULT_INTEGER: [(&str, f64); 1] = [("mismatch", 0.0)];

/// Metrics of integers.
const OF_INTEGERS: [&str; 2] = ["mismatch", "set-mismatch"];

/// Metrics of floats that are shown without a tolerance too.
const SHOWN: [&str; 5] = ["max-abs", "max-rel", "rmse", "cosine", "snr-db"];

/// Why an engine fails that must have run on a GPU and has not.
pub const NOT_RUN: &str = "the engine has not run on a GPU, and `on-device` is required";

/// What is known of an engine's accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The engine itself ran within the tolerances.
    OnDevice,
    /// The oracle is within the tolerances on real samples.
    Emulated,
    /// So it is, and somewhere it is kinder than a GPU.
    EmulatedOptimistic,
    /// It is, on random inputs only.
    Smoke,
    /// Nothing is declared.
    NoneDeclared,
    /// It was asked not to look.
    Skipped,
    /// A tolerance does not hold, or more is required.
    Failed,
}

impl Verdict {
    /// As written in sidecars and the lock file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Verdict::OnDevice => "on-device",
            Verdict::Emulated => "emulated",
            Verdict::EmulatedOptimistic => "emulated-optimistic",
            Verdict::Smoke => "smoke",
            Verdict::NoneDeclared => "none-declared",
            Verdict::Skipped => "skipped",
            Verdict::Failed => "failed",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One metric of one output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The output.
    pub output: String,
    /// The metric.
    pub metric: String,
    /// Its worst value over all samples; of agreements, that of all rows together.
    pub worst: Number,
    /// The sample that has it.
    pub sample: String,
    /// The tolerance, if there is one.
    pub limit: Option<f64>,
    /// Does it hold? True without a tolerance.
    pub ok: bool,
    /// Is the tolerance the default?
    pub is_default: bool,
}

/// The verdict, and what it is made of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Metrics by output.
    pub rows: Vec<Row>,
    /// Why it failed; empty if it did not.
    pub failures: Vec<String>,
    /// How many samples were compared.
    pub samples: u64,
    /// How many nodes round to 16 bits.
    pub rounding: u64,
    /// Where the oracle is kinder than a GPU.
    pub optimistic: Vec<Optimistic>,
    /// Where the engine itself ran.
    pub on_gpu: Vec<Ran>,
}

/// A run of the engine itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ran {
    /// The GPU.
    pub gpu: LocalGpu,
    /// Do all tolerances hold?
    pub ok: bool,
}

/// Does an output of this type hold floats?
pub(super) fn is_float(element: &str) -> bool {
    ["float", "float16", "bfloat16", "double"].contains(&element)
}

/// Can outputs of this type be compared?
pub(super) fn is_comparable(element: &str) -> bool {
    super::sample::width(element).is_some()
}

/// A metric of the output's own table that is not measured of its type.
pub(super) fn foreign_metric<'v>(verify: &'v Verify, output: &Tensor) -> Option<&'v str> {
    let own = verify.output_tolerance.get(&output.name)?;
    own.keys().map(String::as_str).find(|m| OF_INTEGERS.contains(m) == is_float(&output.element))
}

/// Digest of all that the verdict depends on beside the metrics of the oracle: `runs` are the keys of what was run on
/// GPUs.
#[must_use]
pub fn judged_by(verify: &Verify, runs: &[Digest]) -> Digest {
    let text = |tolerances: &BTreeMap<String, f64>| -> BTreeMap<String, Value> {
        tolerances.iter().map(|(metric, limit)| (metric.clone(), Value::from(limit.to_string()))).collect()
    };
    let outputs: BTreeMap<String, Value> =
        verify.output_tolerance.iter().map(|(output, t)| (output.clone(), Value::from(text(t)))).collect();
    let defaults: Vec<Value> =
        DEFAULT_TOLERANCE.iter().map(|(m, t)| Value::from(format!("{m} {t}"))).collect();
    let judge = Preimage::new("judge")
        .with("tolerance", text(&verify.tolerance))
        .with("outputs", outputs)
        .with("require", verify.require.map_or("", Require::name))
        .with("defaults", defaults);
    // Elsewhere a run changes no verdict, or makes it a failure, which is not published.
    if runs.is_empty() || verify.require != Some(Require::OnDevice) {
        return judge.key();
    }
    judge.with("runs", runs.iter().map(Value::from).collect::<Vec<Value>>()).key()
}

/// Judges the oracle, and what was run on GPUs: all of them must hold. Runs raise the verdict only where the manifest
/// requires one, since other machines may know of none.
#[must_use]
pub fn judge(measured: &Measured, runs: &[OnGpu], verify: &Verify) -> Judgement {
    let (rows, mut failures) = hold(measured, verify);
    let mut on_gpu = Vec::new();
    for run in runs {
        let found = hold(&run.measured, verify).1;
        on_gpu.push(Ran { gpu: run.gpu.clone(), ok: found.is_empty() });
        failures.extend(found.into_iter().map(|what| format!("on {}: {what}", run.gpu.name)));
    }
    let is_run = !runs.is_empty() && verify.require == Some(Require::OnDevice);
    let reached = match () {
        () if measured.is_generated => Require::Smoke,
        () if is_run => Require::OnDevice,
        () if !measured.optimistic.is_empty() => Require::EmulatedOptimistic,
        () => Require::Emulated,
    };
    // A run of made-up inputs would not be enough.
    if verify.require == Some(Require::OnDevice) && runs.is_empty() && !measured.is_generated {
        failures.push(NOT_RUN.to_owned());
    } else {
        failures.extend(too_little(reached, verify));
    }
    Judgement {
        verdict: verdict(reached, &failures),
        rows,
        failures,
        samples: measured.samples.len() as u64,
        rounding: measured.rounding,
        optimistic: measured.optimistic.clone(),
        on_gpu,
    }
}

/// Judges one run on a GPU alone.
#[must_use]
pub fn judge_run(run: &OnGpu, verify: &Verify) -> Judgement {
    let (rows, mut failures) = hold(&run.measured, verify);
    let on_gpu = vec![Ran { gpu: run.gpu.clone(), ok: failures.is_empty() }];
    let reached = if run.measured.is_generated { Require::Smoke } else { Require::OnDevice };
    failures.extend(too_little(reached, verify));
    Judgement {
        verdict: verdict(reached, &failures),
        rows,
        failures,
        samples: run.measured.samples.len() as u64,
        rounding: 0,
        optimistic: Vec::new(),
        on_gpu,
    }
}

fn too_little(reached: Require, verify: &Verify) -> Option<String> {
    let required = verify.require.filter(|required| *required > reached)?;
    Some(format!("the verdict would be `{}`, and `{}` is required", reached.name(), required.name()))
}

fn verdict(reached: Require, failures: &[String]) -> Verdict {
    match reached {
        _ if !failures.is_empty() => Verdict::Failed,
        Require::Smoke => Verdict::Smoke,
        Require::EmulatedOptimistic => Verdict::EmulatedOptimistic,
        Require::Emulated => Verdict::Emulated,
        Require::OnDevice => Verdict::OnDevice,
    }
}

/// Holds metrics against tolerances: every metric, and what does not hold.
fn hold(measured: &Measured, verify: &Verify) -> (Vec<Row>, Vec<String>) {
    let mut rows = Vec::new();
    let mut failures = Vec::new();
    for output in &measured.outputs {
        one(measured, output, verify, &mut rows, &mut failures);
    }
    for row in rows.iter().filter(|row| !row.ok) {
        let Row { output, metric, worst, sample, .. } = row;
        let limit = Number(row.limit.unwrap_or_default());
        let (bound, of) = match is_at_least(metric) {
            true => ("at least", ""),
            false => ("at most", ""),
        };
        let default = if row.is_default { ", the default," } else { "" };
        failures.push(format!(
            "{metric} of `{output}` is {worst}{of} in sample `{sample}`, and {bound} {limit}{default} is required"
        ));
    }
    (rows, failures)
}

/// Is more of this metric better?
#[must_use]
pub fn is_at_least(metric: &str) -> bool {
    ["cosine", "snr-db", "psnr-db", "top-1", "top-k"].contains(&metric)
}

fn one(
    measured: &Measured,
    output: &OutputMetrics,
    verify: &Verify,
    rows: &mut Vec<Row>,
    failures: &mut Vec<String>,
) {
    let name = |sample: usize| measured.samples.get(sample).cloned().unwrap_or_default();
    for (i, sample) in output.samples.iter().enumerate() {
        if let Some(what) = &sample.differs {
            failures.push(format!("`{}` cannot be compared in sample `{}`: {what}", output.output, name(i)));
        }
    }
    for (what, count) in [("NaN", (|s| s.nan) as fn(&SampleMetrics) -> u64), ("Inf", |s| s.inf)] {
        let worst = output.samples.iter().map(count).enumerate().max_by_key(|(i, n)| (*n, usize::MAX - i));
        if let Some((i, n)) = worst.filter(|(_, n)| *n > 0) {
            failures.push(format!(
                "`{}` has {n} {what} in sample `{}` where the reference has none",
                output.output,
                name(i)
            ));
        }
    }
    failures.extend(not_compared(output, measured.is_generated));
    let found = |metric: &str, tolerances: &BTreeMap<String, f64>| match metric {
        "top-1" | "top-k" => agreement(output, metric, tolerances),
        _ => worst(output, metric),
    };
    let (mut tolerances, mut is_default) = tolerances(verify, output);
    if !tolerances.keys().any(|metric| found(metric, &tolerances).is_some()) {
        // Agreement alone, of an output without rows: it must hold something.
        (tolerances, is_default) = (defaults(output), true);
    }
    let mut names: Vec<&str> = if output.is_float { SHOWN.to_vec() } else { OF_INTEGERS.to_vec() };
    names.extend(
        tolerances.keys().map(String::as_str).filter(|m| !SHOWN.contains(m) && !OF_INTEGERS.contains(m)),
    );
    for metric in names {
        let Some((sample, worst)) = found(metric, &tolerances) else { continue };
        let limit = tolerances.get(metric).copied();
        let ok = limit.is_none_or(|limit| if is_at_least(metric) { worst >= limit } else { worst <= limit });
        rows.push(Row {
            output: output.output.clone(),
            metric: metric.to_owned(),
            worst: Number(worst),
            sample: name(sample),
            limit,
            ok,
            is_default: is_default && limit.is_some(),
        });
    }
}

/// The tolerances of an output: its own over those for all; the default if there are none. Metrics that are not of
/// its type are those of others.
fn tolerances(verify: &Verify, output: &OutputMetrics) -> (BTreeMap<String, f64>, bool) {
    let mut all = verify.tolerance.clone();
    all.extend(verify.output_tolerance.get(&output.output).cloned().unwrap_or_default());
    all.retain(|metric, _| OF_INTEGERS.contains(&metric.as_str()) != output.is_float);
    if !all.is_empty() {
        return (all, false);
    }
    (defaults(output), true)
}

fn defaults(output: &OutputMetrics) -> BTreeMap<String, f64> {
    let defaults: &[(&str, f64)] = if output.is_float { &DEFAULT_TOLERANCE } else { &DEFAULT_INTEGER };
    defaults.iter().map(|(metric, limit)| ((*metric).to_owned(), *limit)).collect()
}

/// An output of which nothing was compared proves nothing. One that is empty on made-up inputs is forgiven: they promise
/// nothing of it.
fn not_compared(output: &OutputMetrics, is_generated: bool) -> Option<String> {
    let name = &output.output;
    let samples = &output.samples;
    if samples.is_empty() || samples.iter().any(|sample| sample.compared > 0 || sample.differs.is_some()) {
        return None;
    }
    match samples.iter().any(|sample| sample.skipped > 0) {
        true => {
            Some(format!("nothing of `{name}` was compared: in every sample it is NaN or Inf throughout"))
        }
        false if is_generated => None,
        false => Some(format!("nothing of `{name}` was compared: in every sample it is empty, or ignored")),
    }
}

fn worst(output: &OutputMetrics, metric: &str) -> Option<(usize, f64)> {
    let values = output.samples.iter().enumerate();
    let values = values.filter_map(|(i, sample)| Some((i, sample.metrics.get(metric)?.0)));
    let worse = |a: f64, b: f64| if is_at_least(metric) { a < b } else { a > b };
    values.fold(None, |worst, (i, value)| match worst {
        Some((_, other)) if !worse(value, other) => worst,
        _ => Some((i, value)),
    })
}

/// The share of rows that agree, of those in which the reference is ahead by more than is tolerated; and the sample
/// with the least.
#[expect(clippy::cast_precision_loss, reason = "counts of rows")]
fn agreement(
    output: &OutputMetrics,
    metric: &str,
    tolerances: &BTreeMap<String, f64>,
) -> Option<(usize, f64)> {
    let (mut rows, mut differ) = (0, 0);
    let mut least = (0, f64::INFINITY);
    for (i, sample) in output.samples.iter().enumerate() {
        let tolerated = match (tolerances.get("max-abs"), tolerances.get("max-rel")) {
            (Some(limit), _) => *limit,
            (None, Some(limit)) => limit * sample.range.0,
            (None, None) => 0.0,
        };
        let buckets = if metric == "top-1" { &sample.top_1 } else { &sample.top_k };
        let counted = || buckets.iter().filter(|bucket| bucket.margin.0 > tolerated);
        let sum = |of: fn(&Bucket) -> u64| counted().map(of).sum::<u64>();
        let (of_sample, differing) = (sum(|b| b.rows), sum(|b| b.differ));
        rows += of_sample;
        differ += differing;
        let share = 1.0 - differing as f64 / of_sample.max(1) as f64;
        if share < least.1 {
            least = (i, share);
        }
    }
    let has_rows = output.samples.iter().any(|s| !s.top_1.is_empty());
    has_rows.then(|| (least.0, 1.0 - differ as f64 / rows.max(1) as f64))
}
