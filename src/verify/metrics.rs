//! One output beside its reference, in numbers.
//!
//! | metric | of the floats of one sample |
//! |---|---|
//! | `max-abs`, `mean-abs`, `rmse` | the error: its greatest, its mean, the root of its mean square |
//! | `max-rel`, `mean-rel` | the same as a share of the reference's own range in this sample; of its magnitude, if all values are equal |
//! | `cosine` | of the angle between both, as vectors |
//! | `snr-db`, `psnr-db` | the reference's power, or its range (as above) squared, over the error's power |
//! | `top-1` | share of rows (along the last axis) with the same greatest |
//! | `top-k` | share of rows with the same five greatest |
//!
//! | metric | of the integers of one sample |
//! |---|---|
//! | `mismatch` | share of elements that differ |
//! | `set-mismatch` | share of rows that only one of both has, in whatever order |
//!
//! Where both have the same NaN or Inf, nothing is compared. A NaN or Inf that only the candidate has is counted; one
//! that only the reference has is an infinite error.

use std::collections::BTreeMap;

use super::measured::{Bucket, Number, SampleMetrics};
use super::sample::Array;

/// How many of the greatest `top-k` compares.
const K: usize = 5;

/// Compares the output of a candidate with its reference. `ignored` tells which elements do not count.
#[must_use]
pub fn compare(reference: &Array, candidate: &Array, ignored: Option<&[bool]>) -> SampleMetrics {
    if reference.is_float() {
        if reference.shape != candidate.shape {
            return differs(reference, candidate);
        }
        floats(&reference.to_floats(), &candidate.to_floats(), &reference.shape, ignored)
    } else {
        integers(reference, candidate, ignored)
    }
}

fn differs(reference: &Array, candidate: &Array) -> SampleMetrics {
    let what = format!("its shape is {:?}, the reference's is {:?}", candidate.shape, reference.shape);
    SampleMetrics { differs: Some(what), ..SampleMetrics::default() }
}

#[expect(clippy::cast_precision_loss, reason = "counts of elements")]
fn floats(reference: &[f64], candidate: &[f64], shape: &[i64], ignored: Option<&[bool]>) -> SampleMetrics {
    let mut found = SampleMetrics::default();
    let (mut n, mut max_abs, mut sum_abs, mut error) = (0u64, 0f64, 0f64, 0f64);
    let (mut power, mut other_power, mut dot) = (0f64, 0f64, 0f64);
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for (i, (&r, &c)) in reference.iter().zip(candidate).enumerate() {
        if ignored.is_some_and(|ignored| ignored[i]) {
            continue;
        }
        if r.is_finite() {
            (least, most) = (least.min(r), most.max(r));
        }
        match (r.is_finite(), c.is_finite()) {
            (true, true) => {
                let d = (r - c).abs();
                n += 1;
                max_abs = max_abs.max(d);
                sum_abs += d;
                error += d * d;
                power += r * r;
                other_power += c * c;
                dot += r * c;
            }
            _ if r.is_nan() && c.is_nan() || r == c => {}
            (_, true) => max_abs = f64::INFINITY,
            _ if c.is_nan() => found.nan += 1,
            _ => found.inf += 1,
        }
    }
    let range = if most > least { most - least } else { 0.0 };
    // An output of one value has no range. Nor has one of zeros a magnitude: there, any error is too much.
    let scale = match () {
        () if range > 0.0 => range,
        () if most.is_finite() => most.abs(),
        () => 0.0,
    };
    let count = n.max(1) as f64;
    let relative = |error: f64| match (error, scale) {
        (0.0, _) => 0.0,
        (_, 0.0) => f64::INFINITY,
        (error, scale) => error / scale,
    };
    let cosine = match (power, other_power) {
        (0.0, 0.0) => 1.0,
        (0.0, _) | (_, 0.0) => 0.0,
        _ if error == 0.0 => 1.0,
        (a, b) => (dot / (a.sqrt() * b.sqrt())).clamp(-1.0, 1.0),
    };
    let decibel = |signal: f64| match (signal, error) {
        (_, 0.0) => f64::INFINITY,
        (signal, error) => 10.0 * (signal / error).log10(),
    };
    found.range = Number(range);
    let counted = ignored.map_or(reference.len(), |ignored| ignored.iter().filter(|i| !**i).count());
    (found.compared, found.skipped) = (n, (counted as u64).saturating_sub(n));
    found.metrics = BTreeMap::from([
        ("max-abs".to_owned(), Number(max_abs)),
        ("max-rel".to_owned(), Number(relative(max_abs))),
        ("mean-abs".to_owned(), Number(sum_abs / count)),
        ("mean-rel".to_owned(), Number(relative(sum_abs / count))),
        ("rmse".to_owned(), Number((error / count).sqrt())),
        ("cosine".to_owned(), Number(cosine)),
        ("snr-db".to_owned(), Number(decibel(power))),
        ("psnr-db".to_owned(), Number(decibel(scale * scale * count))),
    ]);
    let (top_1, top_k) = rows(reference, candidate, shape, ignored);
    (found.top_1, found.top_k) = (top_1, top_k);
    found
}

/// Agreement of the greatest, by the reference's margin: which margins count is for tolerances to say.
fn rows(
    reference: &[f64],
    candidate: &[f64],
    shape: &[i64],
    ignored: Option<&[bool]>,
) -> (Vec<Bucket>, Vec<Bucket>) {
    let length = shape.last().map_or(0, |dim| usize::try_from(*dim).unwrap_or(0));
    if length < 2 {
        return (Vec::new(), Vec::new());
    }
    let (mut first, mut several) = (BTreeMap::new(), BTreeMap::new());
    let mut order: Vec<usize> = Vec::new();
    let mut other: Vec<usize> = Vec::new();
    let k = K.min(length - 1);
    for (row, (r, c)) in reference.chunks_exact(length).zip(candidate.chunks_exact(length)).enumerate() {
        let at = row * length;
        if ignored.is_some_and(|i| i[at..at + length].iter().any(|i| *i)) || r.iter().any(|r| r.is_nan()) {
            continue;
        }
        greatest(r, k + 1, &mut order);
        greatest(c, k + 1, &mut other);
        count(&mut first, r[order[0]] - r[order[1]], order[0] != other[0]);
        let same = order[..k].iter().all(|i| other[..k].contains(i));
        count(&mut several, r[order[k - 1]] - r[order[k]], !same);
    }
    (buckets(first), buckets(several))
}

/// Places of the greatest `k`, the greatest first; NaN counts as the least, and of equals the first comes first.
fn greatest(row: &[f64], k: usize, order: &mut Vec<usize>) {
    let value = |i: usize| if row[i].is_nan() { f64::NEG_INFINITY } else { row[i] };
    let before = |a: usize, b: usize| value(a) > value(b) || (value(a) == value(b) && a < b);
    order.clear();
    for i in 0..row.len() {
        if order.len() == k && order.last().is_some_and(|last| !before(i, *last)) {
            continue;
        }
        let place = order.iter().position(|o| before(i, *o)).unwrap_or(order.len());
        order.insert(place, i);
        order.truncate(k);
    }
}

/// Steps of margins in an octave.
const STEPS: f64 = 4.0;

/// The bucket of rows without any margin: a tie.
const TIE: i32 = i32::MIN;

fn count(buckets: &mut BTreeMap<i32, (u64, u64)>, margin: f64, differs: bool) {
    let bucket = match margin {
        // Of two infinities, neither is ahead.
        m if m.is_nan() || m <= 0.0 => TIE,
        #[expect(clippy::cast_possible_truncation, reason = "a logarithm of a double is within ±4300")]
        m => (m.min(f64::MAX).log2() * STEPS).ceil() as i32,
    };
    let entry = buckets.entry(bucket).or_default();
    entry.0 += 1;
    entry.1 += u64::from(differs);
}

fn buckets(found: BTreeMap<i32, (u64, u64)>) -> Vec<Bucket> {
    let upper = |bucket: i32| if bucket == TIE { 0.0 } else { (f64::from(bucket) / STEPS).exp2() };
    found
        .into_iter()
        .map(|(bucket, (rows, differ))| Bucket { margin: Number(upper(bucket)), rows, differ })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts of elements")]
fn integers(reference: &Array, candidate: &Array, ignored: Option<&[bool]>) -> SampleMetrics {
    let (r, c) = (reference.to_integers(), candidate.to_integers());
    let share = |part: usize, of: usize| Number(if of == 0 { 0.0 } else { part as f64 / of as f64 });
    let counted = |i: &usize| !ignored.is_some_and(|ignored| ignored[*i]);
    let counts: Vec<usize> = (0..r.len()).filter(counted).collect();
    let mismatch = if reference.shape == candidate.shape {
        share(counts.iter().filter(|i| r[**i] != c[**i]).count(), counts.len())
    } else {
        Number(1.0)
    };
    // A set of rows: of indices, one row is one thing found.
    let rows = |array: &Array, values: &[i128]| -> BTreeMap<Vec<i128>, i64> {
        let rows = array.shape.first().map_or(1, |dim| usize::try_from(*dim).unwrap_or(0)).max(1);
        let mut set = BTreeMap::new();
        let width = (values.len() / rows).max(1);
        values.chunks(width).for_each(|row| *set.entry(row.to_vec()).or_default() += 1);
        set
    };
    let (a, b) = (rows(reference, &r), rows(candidate, &c));
    let mut only = 0;
    for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
        only += a.get(key).copied().unwrap_or(0).abs_diff(b.get(key).copied().unwrap_or(0));
    }
    let all = a.values().chain(b.values()).sum::<i64>();
    let sets = share(usize::try_from(only).unwrap_or(usize::MAX), usize::try_from(all).unwrap_or(0));
    let metrics = BTreeMap::from([("mismatch".to_owned(), mismatch), ("set-mismatch".to_owned(), sets)]);
    let compared = if counts.is_empty() && ignored.is_none() { c.len() } else { counts.len() };
    SampleMetrics { metrics, compared: compared as u64, ..SampleMetrics::default() }
}
