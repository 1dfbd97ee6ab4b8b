//! Verdicts, from metrics made up here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::judge::{Verdict, judge, judge_run, judged_by};
use super::super::measured::{Measured, Number, OnGpu, Optimistic, OutputMetrics};
use super::super::metrics::compare;
use super::{floats, integers};
use crate::diagnostic::{Origin, SourceFile};
use crate::digest::Digest;
use crate::gpu::{LocalGpu, Sm};
use crate::manifest::{Require, Verify, VerifyInputs};

fn verify(tolerance: &[(&str, f64)]) -> Verify {
    let file = Arc::new(SourceFile { path: "m.toml".into(), text: "[v]".into() });
    Verify {
        inputs: VerifyInputs::Dir { path: "/s".into(), raw: BTreeMap::new() },
        outputs: Vec::new(),
        ignore_where: BTreeMap::new(),
        tolerance: tolerance.iter().map(|(metric, limit)| ((*metric).to_owned(), *limit)).collect(),
        output_tolerance: BTreeMap::new(),
        require: None,
        reference: "reference".to_owned(),
        timeout: Duration::from_secs(1),
        origin: Origin::new(&file, 0..3),
        key_origins: BTreeMap::new(),
    }
}

/// One output `y` of floats, whose second sample has an error of 0.25.
fn measured() -> Measured {
    let reference = floats(&[1, 2], &[4.0, 3.0]);
    let samples = vec![
        compare(&reference, &reference, None),
        compare(&reference, &floats(&[1, 2], &[4.0, 3.25]), None),
    ];
    Measured {
        samples: vec!["a".to_owned(), "b".to_owned()],
        is_generated: false,
        outputs: vec![OutputMetrics { output: "y".to_owned(), is_float: true, samples }],
        optimistic: Vec::new(),
        rounding: 3,
    }
}

#[test]
fn the_worst_sample_decides_and_all_tolerances_must_hold() {
    let judged = |tolerance: &[(&str, f64)]| judge(&measured(), &[], &verify(tolerance));
    assert_eq!(judged(&[("max-abs", 0.25), ("cosine", 0.9)]).verdict, Verdict::Emulated);
    let failed = judged(&[("max-abs", 0.2), ("cosine", 0.9)]);
    assert_eq!(failed.verdict, Verdict::Failed);
    assert_eq!(failed.failures, ["max-abs of `y` is 0.25 in sample `b`, and at most 0.2 is required"]);
    let row = failed.rows.iter().find(|row| row.metric == "max-abs").unwrap();
    assert_eq!((row.worst, row.sample.as_str(), row.limit, row.ok), (Number(0.25), "b", Some(0.2), false));
    // One bad metric is enough.
    assert_eq!(judged(&[("max-abs", 1.0), ("snr-db", 60.0)]).verdict, Verdict::Failed);
}

#[test]
fn without_tolerances_there_is_a_default_that_can_be_seen() {
    let judged = judge(&measured(), &[], &verify(&[]));
    let defaults: Vec<_> =
        judged.rows.iter().filter(|r| r.is_default).map(|r| (r.metric.as_str(), r.limit)).collect();
    assert_eq!(defaults, [("max-rel", Some(0.02)), ("cosine", Some(0.999))]);
    assert!(judged.failures[0].ends_with("at most 0.02, the default, is required"), "{:?}", judged.failures);
    // Of integers, all must be the same.
    let mut exact = measured();
    let (a, b) = (integers(&[2], &[1, 2]), integers(&[2], &[1, 3]));
    exact.outputs = vec![OutputMetrics {
        output: "y".to_owned(),
        is_float: false,
        samples: vec![compare(&a, &a, None), compare(&a, &b, None)],
    }];
    // A tolerance for floats is none for integers.
    assert_eq!(judge(&exact, &[], &verify(&[("max-abs", 9.0)])).verdict, Verdict::Failed);
    assert_eq!(judge(&exact, &[], &verify(&[("mismatch", 0.5)])).verdict, Verdict::Emulated);
}

#[test]
fn an_outputs_own_tolerances_win() {
    let mut own = verify(&[("max-abs", 0.1)]);
    own.output_tolerance.insert("y".to_owned(), [("max-abs".to_owned(), 0.3)].into());
    assert_eq!(judge(&measured(), &[], &own).verdict, Verdict::Emulated);
    assert_ne!(judged_by(&own, &[]), judged_by(&verify(&[("max-abs", 0.1)]), &[]));
}

#[test]
fn nothing_passes_with_a_nan_that_the_reference_has_not() {
    let mut with_nan = measured();
    let x = floats(&[1, 2], &[4.0, 3.0]);
    with_nan.outputs[0].samples[1] = compare(&x, &floats(&[1, 2], &[4.0, f32::NAN]), None);
    let judged = judge(&with_nan, &[], &verify(&[("max-abs", 1e9)]));
    assert_eq!(judged.failures, ["`y` has 1 NaN in sample `b` where the reference has none"]);
    with_nan.outputs[0].samples[1] = compare(&x, &floats(&[1, 2], &[f32::INFINITY, 3.0]), None);
    assert!(judge(&with_nan, &[], &verify(&[("max-abs", 1e9)])).failures[0].contains("1 Inf"));
    with_nan.outputs[0].samples[1] = compare(&x, &floats(&[2], &[4.0, 3.0]), None);
    assert!(judge(&with_nan, &[], &verify(&[("max-abs", 1e9)])).failures[0].contains("cannot be compared"));
}

#[test]
fn agreement_counts_rows_whose_margin_is_beyond_the_tolerance() {
    // The margin is 1, and the candidate turns it round.
    let (a, b) = (floats(&[1, 2], &[4.0, 3.0]), floats(&[1, 2], &[3.0, 4.0]));
    let mut turned = measured();
    turned.outputs[0].samples = vec![compare(&a, &a, None), compare(&a, &b, None)];
    let worst = |tolerance: &[(&str, f64)]| {
        let judged = judge(&turned, &[], &verify(tolerance));
        judged.rows.into_iter().find(|row| row.metric == "top-1").unwrap()
    };
    assert_eq!((worst(&[("top-1", 0.5)]).worst, worst(&[("top-1", 0.5)]).ok), (Number(0.5), true));
    assert_eq!(worst(&[("top-1", 0.5)]).sample, "b");
    // A difference of that much is allowed, and so is what follows from it.
    assert_eq!(worst(&[("top-1", 1.0), ("max-abs", 1.0)]).worst, Number(1.0));
}

#[test]
fn the_verdict_says_how_far_it_reaches() {
    let fine = verify(&[("max-abs", 1.0)]);
    let mut found = measured();
    assert_eq!(judge(&found, &[], &fine).verdict, Verdict::Emulated);
    found.optimistic.push(Optimistic {
        op: "MatMul".to_owned(),
        of: "fp16".to_owned(),
        reason: "sums".to_owned(),
        nodes: 1,
        first: "m".to_owned(),
    });
    assert_eq!(judge(&found, &[], &fine).verdict, Verdict::EmulatedOptimistic);
    found.is_generated = true;
    assert_eq!(judge(&found, &[], &fine).verdict, Verdict::Smoke);
    let required = Verify { require: Some(Require::EmulatedOptimistic), ..fine };
    let judged = judge(&found, &[], &required);
    assert_eq!(judged.failures, ["the verdict would be `smoke`, and `emulated-optimistic` is required"]);
    found.is_generated = false;
    assert_eq!(judge(&found, &[], &required).verdict, Verdict::EmulatedOptimistic);
    let insisting = Verify { require: Some(Require::OnDevice), ..required };
    assert_eq!(judge(&found, &[], &insisting).verdict, Verdict::Failed);
}

#[test]
fn metrics_survive_the_way_through_json() {
    let found = measured();
    let json = serde_json::to_string(&found).unwrap();
    assert!(json.contains("\"inf\""), "equal outputs have an infinite ratio: {json}");
    assert_eq!(serde_json::from_str::<Measured>(&json).unwrap(), found);
}

#[test]
fn a_run_on_a_gpu_counts_where_it_is_required_and_fails_everywhere() {
    let gpu = LocalGpu {
        name: "NVIDIA GeForce RTX 3090".to_owned(),
        sm: Sm(86),
        memory: 24 << 30,
        uuid: "GPU-1".to_owned(),
        driver: None,
        cuda: "12.8".to_owned(),
    };
    let run = |measured| OnGpu { gpu: gpu.clone(), measured };
    let (loose, tight) = (verify(&[("max-abs", 0.5)]), verify(&[("max-abs", 0.1)]));
    let insisting = Verify { require: Some(Require::OnDevice), ..loose.clone() };
    let exact = Measured {
        outputs: vec![OutputMetrics { samples: Vec::new(), ..measured().outputs.remove(0) }],
        ..measured()
    };
    let key = [Digest::of(b"run")];

    assert_eq!(judge(&measured(), &[run(measured())], &loose).verdict, Verdict::Emulated);
    assert_eq!(judged_by(&loose, &key), judged_by(&loose, &[]));
    let failed = judge(&exact, &[run(measured())], &tight);
    assert_eq!(failed.verdict, Verdict::Failed);
    assert_eq!(
        failed.failures,
        ["on NVIDIA GeForce RTX 3090: max-abs of `y` is 0.25 in sample `b`, and at most 0.1 is required"]
    );

    let none = judge(&measured(), &[], &insisting);
    assert_eq!(none.failures, ["the engine has not run on a GPU, and `on-device` is required"]);
    let ran = judge(&measured(), &[run(measured())], &insisting);
    assert_eq!((ran.verdict, ran.on_gpu[0].ok), (Verdict::OnDevice, true));
    assert_ne!(judged_by(&insisting, &key), judged_by(&insisting, &[]));
    // Made-up inputs show no more on a GPU than elsewhere.
    let made_up = Measured { is_generated: true, ..measured() };
    assert_eq!(judge(&made_up, &[run(made_up.clone())], &insisting).verdict, Verdict::Failed);

    assert_eq!(judge_run(&run(measured()), &loose).verdict, Verdict::OnDevice);
    assert_eq!(judge_run(&run(measured()), &tight).verdict, Verdict::Failed);
    assert_eq!(judge_run(&run(made_up), &loose).verdict, Verdict::Smoke);
}

#[test]
fn what_was_not_compared_proves_nothing() {
    let of = |reference: &crate::verify::Array, is_generated, tolerance: &[(&str, f64)]| {
        let outputs = vec![OutputMetrics {
            output: "y".to_owned(),
            is_float: true,
            samples: vec![compare(reference, reference, None)],
        }];
        let samples = vec!["a".to_owned()];
        judge(&Measured { samples, is_generated, outputs, ..measured() }, &[], &verify(tolerance))
    };
    let nan = floats(&[2], &[f32::NAN, f32::NAN]);
    for is_generated in [false, true] {
        let judged = of(&nan, is_generated, &[]);
        assert_eq!(
            judged.failures,
            ["nothing of `y` was compared: in every sample it is NaN or Inf throughout"]
        );
    }
    let empty = floats(&[0], &[]);
    assert_eq!(of(&empty, true, &[]).verdict, Verdict::Smoke);
    let judged = of(&empty, false, &[]);
    assert_eq!(judged.failures, ["nothing of `y` was compared: in every sample it is empty, or ignored"]);
    assert_eq!(of(&floats(&[2], &[1.0, f32::NAN]), false, &[]).verdict, Verdict::Emulated);

    // Agreement is not measured of one value: the default is held instead.
    let scalar = |value| compare(&floats(&[], &[1.0]), &floats(&[], &[value]), None);
    let judged = |value| {
        let outputs =
            vec![OutputMetrics { output: "y".to_owned(), is_float: true, samples: vec![scalar(value)] }];
        judge(&Measured { outputs, ..measured() }, &[], &verify(&[("top-1", 1.0)]))
    };
    assert_eq!(judged(1.01).verdict, Verdict::Emulated);
    assert_eq!(judged(1.5).verdict, Verdict::Failed);
}
