//! Metrics, against values worked out by hand.

use super::super::measured::SampleMetrics;
use super::super::metrics::compare;
use super::{floats, integers};

fn metric(found: &SampleMetrics, name: &str) -> f64 {
    found.metrics[name].0
}

#[test]
fn errors_are_what_they_say() {
    let found = compare(&floats(&[4], &[0.0, 1.0, 2.0, 4.0]), &floats(&[4], &[0.0, 1.5, 2.0, 3.0]), None);
    assert_eq!(metric(&found, "max-abs"), 1.0);
    assert_eq!(metric(&found, "max-rel"), 0.25);
    assert_eq!(metric(&found, "mean-abs"), 0.375);
    assert_eq!(metric(&found, "rmse"), (1.25f64 / 4.0).sqrt());
    let dot = 1.5 + 4.0 + 12.0;
    assert!((metric(&found, "cosine") - dot / (21f64.sqrt() * 15.25f64.sqrt())).abs() < 1e-12);
    assert!((metric(&found, "snr-db") - 10.0 * (21f64 / 1.25).log10()).abs() < 1e-12);
    assert!((metric(&found, "psnr-db") - 20.0 * (4.0 / metric(&found, "rmse")).log10()).abs() < 1e-12);
}

#[test]
fn equal_outputs_have_no_error_and_all_likeness() {
    let x = floats(&[2], &[3.0, -1.0]);
    let found = compare(&x, &x, None);
    assert_eq!((metric(&found, "max-abs"), metric(&found, "cosine")), (0.0, 1.0));
    assert_eq!(metric(&found, "snr-db"), f64::INFINITY);
}

#[test]
fn an_output_without_range_is_held_against_its_magnitude() {
    let (flat, other) = (floats(&[2], &[-2.0, -2.0]), floats(&[2], &[-2.0, -2.5]));
    assert_eq!(metric(&compare(&flat, &flat, None), "max-rel"), 0.0);
    assert_eq!(metric(&compare(&flat, &other, None), "max-rel"), 0.25);
    let scalar = compare(&floats(&[], &[4.0]), &floats(&[], &[4.01]), None);
    assert!((metric(&scalar, "max-rel") - 0.0025).abs() < 1e-4, "{scalar:?}");
    assert!(metric(&scalar, "psnr-db") > 50.0, "{scalar:?}");
    // Of zeros, whatever differs is wholly wrong.
    let zeros = floats(&[2], &[0.0, 0.0]);
    assert_eq!(metric(&compare(&zeros, &floats(&[2], &[0.0, 1e-9]), None), "max-rel"), f64::INFINITY);
}

#[test]
fn what_was_compared_is_counted() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let x = floats(&[4], &[1.0, nan, inf, 2.0]);
    let of = |found: SampleMetrics| (found.compared, found.skipped);
    assert_eq!(of(compare(&x, &x, None)), (2, 2));
    assert_eq!(of(compare(&x, &x, Some(&[true, true, true, true]))), (0, 0));
    let none = floats(&[0, 4], &[]);
    assert_eq!(of(compare(&none, &none, None)), (0, 0));
    let ints = integers(&[3], &[1, 2, 3]);
    assert_eq!(of(compare(&ints, &ints, Some(&[false, true, false]))), (2, 0));
}

#[test]
fn nan_and_inf_count_only_where_the_reference_has_none() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let reference = floats(&[6], &[1.0, 2.0, nan, inf, inf, -inf]);
    let found = compare(&reference, &floats(&[6], &[nan, inf, nan, inf, nan, inf]), None);
    assert_eq!((found.nan, found.inf), (2, 2));
    // Finite where the reference is not: no error is large enough.
    let found = compare(&floats(&[2], &[inf, 1.0]), &floats(&[2], &[65504.0, 1.0]), None);
    assert_eq!((found.nan, found.inf, metric(&found, "max-abs")), (0, 0, f64::INFINITY));
}

#[test]
fn what_is_ignored_counts_nowhere() {
    let (a, b) = (floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]), floats(&[2, 2], &[1.0, 2.0, f32::NAN, 40.0]));
    let found = compare(&a, &b, Some(&[false, false, true, true]));
    assert_eq!((metric(&found, "max-abs"), found.nan, found.range.0), (0.0, 0, 1.0));
    assert_eq!(found.top_1.iter().map(|bucket| bucket.rows).sum::<u64>(), 1);
}

#[test]
fn agreement_is_counted_by_margin() {
    // Margins of 4 and of 1/8; both differ in the second row alone.
    let reference = floats(&[2, 3], &[5.0, 1.0, 0.0, 1.0, 0.875, 0.0]);
    let found = compare(&reference, &floats(&[2, 3], &[4.0, 1.0, 0.0, 0.8, 0.9, 0.0]), None);
    let buckets: Vec<_> = found.top_1.iter().map(|b| (b.margin.0, b.rows, b.differ)).collect();
    assert_eq!(buckets, [(0.125, 1, 1), (4.0, 1, 0)]);
    // The two greatest are the same in both.
    assert!(found.top_k.iter().all(|bucket| bucket.differ == 0));
    // NaN is never the greatest.
    let found = compare(&floats(&[1, 2], &[1.0, 0.0]), &floats(&[1, 2], &[f32::NAN, 0.0]), None);
    assert_eq!(found.top_1[0].differ, 1);
}

#[test]
fn integers_are_compared_exactly_and_as_sets() {
    let a = integers(&[3, 2], &[0, 1, 2, 3, 4, 5]);
    let shuffled = integers(&[3, 2], &[4, 5, 0, 1, 2, 3]);
    let found = compare(&a, &shuffled, None);
    assert_eq!((metric(&found, "mismatch"), metric(&found, "set-mismatch")), (1.0, 0.0));
    let fewer = integers(&[2, 2], &[0, 1, 2, 3]);
    let found = compare(&a, &fewer, None);
    assert_eq!((metric(&found, "mismatch"), metric(&found, "set-mismatch")), (1.0, 0.2));
    let found = compare(&a, &integers(&[3, 2], &[0, 1, 2, 3, 4, 6]), None);
    assert_eq!(metric(&found, "mismatch"), 1.0 / 6.0);
}

#[test]
fn outputs_of_other_shapes_cannot_be_compared() {
    let found = compare(&floats(&[2], &[0.0, 0.0]), &floats(&[1], &[0.0]), None);
    assert_eq!(found.differs.unwrap(), "its shape is [1], the reference's is [2]");
}
