//! Keys, reasons and decisions, from facts made up here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;

use super::facts::{
    Accuracy, AccuracyFact, BuiltRef, Judged, ModelRef, PreparedRef, Previous, Published, ToolchainRef,
};
use super::{Action, Keyed, Models, Now, Reason, causes, check, decide, keys};
use crate::diagnostic::{Diagnostic, Origin, SourceFile};
use crate::digest::{Blob, Digest};
use crate::gpu::Sm;
use crate::manifest::{
    BuildOptions, Engine, EngineName, GpuIdentity, Precision, Profile, Profiling, Range, Source, Target,
    Tiling, ToolchainKind,
};
use crate::onnx::{Dim, NodeChange, Summary, Tensor, TensorDigest};
use crate::verify::{Inputs, Judgement, MeasureSpec, Verdict};

fn origin() -> Origin {
    let file = Arc::new(SourceFile { path: "m.toml".into(), text: "[model.m]\n".into() });
    Origin::new(&file, 0..9)
}

fn blob(text: &str) -> Blob {
    Blob { b3: Digest::of(text.as_bytes()), size: text.len() as u64, sha256: None }
}

fn summary(dims: Vec<Dim>) -> Summary {
    Summary {
        ir_version: 8,
        opsets: BTreeMap::from([(String::new(), 17)]),
        inputs: vec![Tensor { name: "x".into(), element: "float".into(), dims: Some(dims) }],
        outputs: Vec::new(),
        operators: BTreeMap::from([("Relu".into(), 1)]),
        weight_bytes: 0,
    }
}

fn model(graph: &str, dims: Vec<Dim>) -> ModelRef {
    let graph = blob(graph);
    ModelRef {
        digest: keys::model_digest(&graph.b3, None),
        tensors: Some(blob("tensors")),
        weights: None,
        summary: summary(dims),
        graph,
    }
}

fn static_model() -> ModelRef {
    model("graph", vec![Dim::Fixed(4)])
}

fn toolchain() -> ToolchainRef {
    ToolchainRef {
        kind: ToolchainKind::TensorrtRtx,
        libraries: Some(PathBuf::from("/lib")),
        installed: None,
        missing: None,
        files: BTreeMap::from([("lib.so".to_owned(), Digest::of(b"lib"))]),
        version: "1.7.1.116".into(),
    }
}

fn engine() -> Engine {
    Engine {
        name: EngineName { model: "m".into(), variant: None, target: "t".into() },
        source: Source::Path { path: "/m.onnx".into() },
        target: Target {
            name: "t".into(),
            sms: vec![Sm(86)],
            gpu: None,
            gpu_identity: GpuIdentity::Model,
            toolchain: "rtx".into(),
            origin: origin(),
        },
        opset: None,
        fuse: std::collections::BTreeSet::new(),
        precision: Precision::AsIs,
        rule_sets: Vec::new(),
        rules: Vec::new(),
        hazards: BTreeMap::new(),
        tf32: false,
        profiles: Vec::new(),
        io: BTreeMap::new(),
        operators: BTreeMap::new(),
        build: BuildOptions::default(),
        verify: None,
        publish: crate::manifest::Publish::Link,
        table: "model.m".into(),
        is_from_glob: false,
        origin: origin(),
        source_origin: origin(),
    }
}

fn profile(dims: &[(&str, [i64; 3])]) -> Profile {
    let dims = dims
        .iter()
        .map(|(name, [min, opt, max])| ((*name).to_owned(), Range { min: *min, opt: *opt, max: *max }));
    Profile {
        name: "p".into(),
        dims: dims.collect(),
        shapes: BTreeMap::new(),
        values: BTreeMap::new(),
        origin: origin(),
        key_origins: BTreeMap::new(),
    }
}

/// The keys of an engine whose model is prepared as it is.
fn keyed(engine: &Engine, model: &ModelRef, toolchain: &ToolchainRef) -> Result<Keyed, Vec<Diagnostic>> {
    super::keyed(engine, model, toolchain, PreparedRef::as_is(model), None)
}

fn key(engine: &Engine) -> Keyed {
    keyed(engine, &static_model(), &toolchain()).expect("it fits")
}

fn codes(errors: &[Diagnostic]) -> Vec<&str> {
    errors.iter().map(|e| e.code.as_ref()).collect()
}

/// If this fails, the key of every engine that anybody has built changes. Was it meant? Then raise
/// `BUILD_VERSION` or say in the changelog that everything is rebuilt, and write the new digest here.
#[test]
fn the_key_of_a_fixed_build_never_changes() {
    let mut preimage = key(&engine()).build;
    // The prepared ONNX follows the model, whose digest is fixed here.
    preimage.fields.insert("prepared".into(), "model".into());
    assert_eq!(
        preimage.key().to_string(),
        "c25c8b37bf0f61fb4dc18e7ce4dfd6dd7a5b50f7f28fc8c8067fc00088927e66"
    );
}

type Edit = (&'static str, fn(&mut Engine));
type ToolchainEdit = (&'static str, fn(&mut ToolchainRef));

#[test]
fn every_edit_of_an_engine_changes_its_key_and_is_named() {
    let edits: [Edit; 14] = [
        ("options.workspace", |e| e.build.workspace += 1),
        ("options.optimization-level", |e| e.build.optimization_level = 5),
        ("options.profiling", |e| e.build.profiling = Profiling::Detailed),
        ("options.weight-streaming", |e| e.build.weight_streaming = true),
        ("options.strict-nans", |e| e.build.strict_nans = true),
        ("options.sparse-weights", |e| e.build.sparse_weights = true),
        ("options.distributive-independence", |e| e.build.distributive_independence = true),
        ("options.max-aux-streams", |e| e.build.max_aux_streams = Some(0)),
        ("options.tiling", |e| e.build.tiling = Tiling::Fast),
        ("options.tf32", |e| e.tf32 = true),
        ("epoch", |e| e.build.epoch = 1),
        ("sms", |e| e.target.sms.push(Sm(89))),
        ("profiles", |e| e.profiles.push(profile(&[]))),
        ("sms", |e| e.target.sms = vec![Sm(89)]),
    ];
    let before = key(&engine());
    for (field, edit) in edits {
        let mut edited = engine();
        edit(&mut edited);
        let after = key(&edited);
        assert_ne!(before.build_key, after.build_key, "{field}");
        let changes = after.build.changes_since(&before.build);
        assert_eq!(changes.iter().map(|c| c.field.as_str()).collect::<Vec<_>>(), [field]);
    }
}

#[test]
fn what_decides_nothing_changes_no_key() {
    let edits: [fn(&mut Engine); 7] = [
        |e| e.name.model = "another".into(),
        |e| e.target.name = "another".into(),
        |e| e.target.gpu = Some("RTX 3090".into()),
        |e| e.build.timeout = std::time::Duration::from_secs(1),
        |e| e.build.memory_limit = Some(1 << 30),
        |e| e.source = Source::Path { path: "/moved/m.onnx".into() },
        |e| e.origin = Origin { start: 3, ..origin() },
    ];
    for edit in edits {
        let mut edited = engine();
        edit(&mut edited);
        assert_eq!(key(&engine()).build_key, key(&edited).build_key);
    }
}

#[test]
fn profiles_are_keyed_by_what_they_mean() {
    let dynamic = model("graph", vec![Dim::Param("batch".into()), Dim::Fixed(4)]);
    let with = |profile: Profile| {
        let mut engine = engine();
        engine.profiles = vec![profile];
        keyed(&engine, &dynamic, &toolchain()).map(|k| k.build_key)
    };
    let by_dims = with(profile(&[("batch", [1, 2, 3])])).unwrap();
    let mut by_shape = profile(&[]);
    by_shape.name = "another".into();
    by_shape.shapes.insert("x".into(), Range { min: vec![1, 4], opt: vec![2, 4], max: vec![3, 4] });
    assert_eq!(by_dims, with(by_shape).unwrap());
    assert_ne!(by_dims, with(profile(&[("batch", [1, 2, 4])])).unwrap());
    assert_eq!(codes(&with(profile(&[])).unwrap_err()), ["profile-incomplete"]);
    assert_eq!(
        codes(&with(profile(&[("batsh", [1, 2, 3])])).unwrap_err()),
        ["unknown-dim", "profile-incomplete"]
    );
}

#[test]
fn an_input_without_a_rank_or_a_name_can_be_given_by_shape() {
    for dims in [None, Some(vec![Dim::Unknown, Dim::Unknown])] {
        let mut unnamed = static_model();
        unnamed.summary.inputs[0].dims = dims;
        let errors = keyed(&engine(), &unnamed, &toolchain()).unwrap_err();
        assert_eq!(codes(&errors), ["no-profile"]);
        assert!(errors[0].help[0].contains("shapes.x = {"), "{:?}", errors[0].help);
        let mut engine = engine();
        let mut by_shape = profile(&[]);
        by_shape.shapes.insert("x".into(), Range { min: vec![1, 4], opt: vec![2, 4], max: vec![3, 4] });
        engine.profiles = vec![by_shape];
        assert!(keyed(&engine, &unnamed, &toolchain()).is_ok());
    }
}

#[test]
fn opset_requirements_name_the_way_out() {
    let with = |min, max| {
        let engine = Engine { opset: Some(crate::manifest::OpsetRequirement { min, max }), ..engine() };
        keyed(&engine, &static_model(), &toolchain()).map(drop).map_err(|e| e[0].message.clone())
    };
    assert_eq!(with(17, None), Ok(()));
    assert_eq!(with(13, Some(17)), Ok(()));
    assert_eq!(with(18, None).unwrap_err(), "model `m` has opset 17, and opset 18 or later is required");
    assert_eq!(
        with(9, Some(16)).unwrap_err(),
        "model `m` has opset 17, and an opset from 9 to 16 is required"
    );
    assert_eq!(with(13, Some(13)).unwrap_err(), "model `m` has opset 17, and opset 13 is required");
}

#[test]
fn what_cannot_be_done_is_told_before_anything_is_read() {
    let fp16 = Engine { precision: Precision::Fp16, ..engine() };
    assert_eq!(check(&fp16, None), []);
    let fused = Engine { fuse: std::collections::BTreeSet::from([crate::manifest::Fuse::LayerNorm]), ..fp16 };
    assert_eq!(check(&fused, None), []);
    let mut hopper = engine();
    hopper.target.sms = vec![Sm(86), Sm(90)];
    assert_eq!(codes(&check(&hopper, Some(ToolchainKind::TensorrtRtx))), ["sm-unsupported"]);
    assert!(check(&engine(), Some(ToolchainKind::TensorrtRtx)).is_empty());
}

fn engine_built() -> BuiltRef {
    BuiltRef {
        engine: blob("engine"),
        duration_ms: 1,
        kernels: None,
        said: Vec::new(),
        info: serde_json::Value::Null,
        timings: None,
        is_locked: false,
    }
}

fn decided(built: bool, published: &Published, previous: &Previous) -> (Action, Vec<Reason>) {
    let keyed = key(&engine());
    let model = static_model();
    let built = built.then(engine_built);
    let planned = decide(&engine().name, keyed, built, published, AccuracyFact::NoneDeclared, |keyed| {
        let now = Now {
            build: &keyed.build,
            prepare: &keyed.prepare,
            model: &model,
            toolchain_version: "1.7.1.116",
            rules: &[],
        };
        causes(now, previous, &mut Kept(&[]))
    });
    (planned.action, planned.reasons)
}

#[test]
fn decisions_follow_from_what_is_built_and_published() {
    let build_key = key(&engine()).build_key;
    let whole = |engine: &str, build_key| Published::Whole {
        engine: blob(engine).b3,
        build_key,
        judged: None,
        verdict: "none-declared".to_owned(),
    };
    let other = Digest::of(b"other");
    let never = Previous::default();
    let lost = Previous { build_key: Some(build_key), ..Previous::default() };
    let unknown = Previous { build_key: Some(other), ..Previous::default() };

    assert_eq!(decided(true, &whole("engine", build_key), &never), (Action::UpToDate, vec![]));
    assert_eq!(decided(true, &whole("engine", other), &never).0, Action::Publish);
    assert_eq!(decided(true, &whole("other", build_key), &never).0, Action::Publish);
    assert_eq!(decided(true, &Published::Nothing, &never).1, [Reason::NotPublished]);
    assert_eq!(decided(false, &whole("engine", build_key), &never).0, Action::UpToDate);
    assert_eq!(decided(false, &Published::Nothing, &never), (Action::Build, vec![Reason::NeverBuilt]));
    assert_eq!(decided(false, &Published::Nothing, &lost), (Action::Rebuild, vec![Reason::ResultNotInCache]));
    let changed = Reason::InputsChanged { old: other, new: build_key };
    assert_eq!(decided(false, &whole("engine", other), &unknown), (Action::Rebuild, vec![changed]));
}

/// What is decided for an engine that is built, beside an accuracy that is measured to this verdict or not at all.
fn decided_with(published: &Published, judged: Option<Verdict>) -> (Action, Vec<Reason>) {
    decided_of(published, accuracy(judged))
}

fn decided_of(published: &Published, accuracy: Accuracy) -> (Action, Vec<Reason>) {
    let accuracy = AccuracyFact::Known(Box::new(accuracy));
    let built = Some(engine_built());
    let planned = decide(&engine().name, key(&engine()), built, published, accuracy, |_| unreachable!());
    (planned.action, planned.reasons)
}

fn accuracy(judged: Option<Verdict>) -> Accuracy {
    let failures = if judged == Some(Verdict::Failed) { vec!["too much".to_owned()] } else { Vec::new() };
    let judgement = judged.map(|verdict| Judgement {
        verdict,
        rows: Vec::new(),
        failures,
        samples: 1,
        rounding: 0,
        optimistic: Vec::new(),
        on_gpu: Vec::new(),
    });
    let inputs = Inputs::Generated { seed: 1, samples: 3, ranges: BTreeMap::new(), fill: BTreeMap::new() };
    let spec = MeasureSpec {
        inputs,
        model_inputs: Vec::new(),
        profiles: Vec::new(),
        outputs: vec!["y".to_owned()],
        ignore_where: BTreeMap::new(),
        tf32: false,
        is_weak: false,
    };
    let measure = keys::measure(&key(&engine()), &spec, &BTreeMap::new(), &toolchain());
    let judged = Judged { measure: measure.key(), judged_by: Digest::of(b"tolerances") };
    Accuracy { spec, measure, judged, judgement, runs: Vec::new(), previous: None }
}

#[test]
fn an_engine_is_measured_then_judged_then_left_alone() {
    let now = accuracy(None).judged;
    let whole = |judged, verdict: &str| Published::Whole {
        engine: blob("engine").b3,
        build_key: key(&engine()).build_key,
        judged,
        verdict: verdict.to_owned(),
    };
    let looser = Judged { judged_by: Digest::of(b"others"), ..now };
    let other = Judged { measure: Digest::of(b"others"), ..now };
    let not_measured = Reason::NotMeasured { samples: 3 };
    let (smoke, failed) = (Some(Verdict::Smoke), Some(Verdict::Failed));

    assert_eq!(
        decided_with(&Published::Nothing, None),
        (Action::Measure, vec![not_measured.clone(), Reason::NotPublished])
    );
    assert_eq!(decided_with(&Published::Nothing, smoke), (Action::Publish, vec![Reason::NotPublished]));
    assert_eq!(
        decided_with(&whole(None, "none-declared"), None),
        (Action::Measure, vec![not_measured.clone()])
    );
    assert_eq!(decided_with(&whole(Some(other), "smoke"), None).0, Action::Measure);
    assert_eq!(decided_with(&whole(Some(now), "smoke"), smoke), (Action::UpToDate, vec![]));
    // What the cache lost is not measured again for nothing.
    assert_eq!(decided_with(&whole(Some(now), "smoke"), None), (Action::UpToDate, vec![]));
    // Another tolerance: judged, not measured.
    let judged = Reason::Judged { old: "smoke".to_owned(), new: "smoke".to_owned() };
    assert_eq!(decided_with(&whole(Some(looser), "smoke"), smoke), (Action::Judge, vec![judged]));
    // Samples of another time, which were measured then.
    let mut known = accuracy(smoke);
    known.previous = Some(known.measure.clone().with("samples", "others"));
    let Reason::Measure(change) = &decided_of(&whole(Some(other), "smoke"), known).1[0] else { panic!() };
    assert_eq!(change.field, "samples");
    let fails = Reason::Fails { what: "too much".to_owned(), more: 0 };
    assert_eq!(decided_with(&whole(Some(looser), "smoke"), failed), (Action::Judge, vec![fails.clone()]));
    assert_eq!(decided_with(&Published::Nothing, failed), (Action::Judge, vec![fails, Reason::NotPublished]));
}

#[test]
fn an_accuracy_that_is_not_wanted_or_not_known_is_told_apart() {
    let decided = |fact, published: &Published| {
        let built = Some(engine_built());
        decide(&engine().name, key(&engine()), built, published, fact, |_| unreachable!()).action
    };
    let whole = |verdict: &str| Published::Whole {
        engine: blob("engine").b3,
        build_key: key(&engine()).build_key,
        judged: None,
        verdict: verdict.to_owned(),
    };
    // `--no-verify` takes nothing back that was measured, and measures nothing.
    assert_eq!(decided(AccuracyFact::Skipped, &whole("smoke")), Action::UpToDate);
    assert_eq!(decided(AccuracyFact::Skipped, &Published::Nothing), Action::Publish);
    assert_eq!(decided(AccuracyFact::NotFetched, &whole("smoke")), Action::Unknown);
    // The `verify` table was removed.
    assert_eq!(decided(AccuracyFact::NoneDeclared, &whole("smoke")), Action::Publish);
    assert_eq!(decided(AccuracyFact::NoneDeclared, &whole("none-declared")), Action::UpToDate);
}

/// Models of which the tensors are kept, and no graph.
struct Kept<'a>(&'a [(&'a ModelRef, &'a [(&'a str, &'a str)])]);

impl Models for Kept<'_> {
    fn tensors(&mut self, model: &ModelRef) -> Option<Vec<TensorDigest>> {
        let list = self.0.iter().find(|(m, _)| *m == model)?.1;
        let digest = |(name, data): &(&str, &str)| TensorDigest {
            name: (*name).to_owned(),
            digest: Digest::of(data.as_bytes()),
        };
        Some(list.iter().map(digest).collect())
    }

    fn nodes(&mut self, _: &ModelRef, _: &ModelRef) -> Option<Vec<NodeChange>> {
        None
    }
}

fn told(new: &ModelRef, old: &ModelRef, tensors: &[(&ModelRef, &[(&str, &str)])]) -> Vec<String> {
    let (before, after) = (keyed(&engine(), old, &toolchain()), keyed(&engine(), new, &toolchain()));
    let (before, after) = (before.unwrap(), after.unwrap());
    let previous = Previous {
        build_key: Some(before.build_key),
        build: Some(before.build),
        prepare: Some(before.prepare),
        model: Some(old.clone()),
        toolchain_version: None,
        duration_ms: None,
    };
    let now = Now {
        build: &after.build,
        prepare: &after.prepare,
        model: new,
        toolchain_version: "1.7.1.116",
        rules: &[],
    };
    causes(now, &previous, &mut Kept(tensors)).iter().map(ToString::to_string).collect()
}

#[test]
fn changes_of_a_model_are_told_by_what_changed() {
    let old = static_model();
    let new = model("Graph", vec![Dim::Fixed(4)]);
    let weights: [(&ModelRef, &[(&str, &str)]); 2] =
        [(&old, &[("a", "1"), ("b", "2")]), (&new, &[("a", "1"), ("b", "3")])];
    assert_eq!(told(&new, &old, &weights), ["model: 1 of 2 initializers differ: b"]);
    // Other nodes as well: the graph has another size.
    let larger = model("a larger graph", vec![Dim::Fixed(4)]);
    let weights: [(&ModelRef, &[(&str, &str)]); 2] = [(&old, &[("a", "1")]), (&larger, &[("a", "2")])];
    let both = ["model: 1 of 1 initializers differ: a", "model: nodes or attributes of the graph differ"];
    assert_eq!(told(&larger, &old, &weights), both);
    assert_eq!(told(&new, &old, &[]), ["model: nodes or attributes of the graph differ"]);
    let wider = model("wider", vec![Dim::Fixed(5)]);
    assert_eq!(told(&wider, &old, &[]), ["model: input `x`: float[4] is now float[5]"]);
}

#[test]
fn another_precision_is_the_first_of_its_causes() {
    let typed = || PreparedRef { digest: Digest::of(b"typed"), ..PreparedRef::as_is(&static_model()) };
    let fp16 = Engine { precision: Precision::Fp16, ..engine() };
    let fp16 = super::keyed(&fp16, &static_model(), &toolchain(), typed(), None).unwrap();
    let as_is = key(&engine());
    let first = |new: &Keyed, old: &Keyed| {
        let previous = Previous {
            build_key: Some(old.build_key),
            build: Some(old.build.clone()),
            prepare: Some(old.prepare.clone()),
            ..Previous::default()
        };
        let model = static_model();
        let (build, prepare) = (&new.build, &new.prepare);
        let now = Now { build, prepare, model: &model, toolchain_version: "1.7.1.116", rules: &[] };
        causes(now, &previous, &mut Kept(&[])).first().map(ToString::to_string)
    };
    assert_eq!(first(&fp16, &as_is).as_deref(), Some("precision: as-is is now fp16"));
    assert_eq!(first(&as_is, &fp16).as_deref(), Some("precision: fp16 is now as-is"));
}

#[test]
fn every_edit_of_a_toolchain_changes_the_key_and_names_the_file() {
    let before = key(&engine());
    let edits: [ToolchainEdit; 3] = [
        ("toolchain.files.lib.so", |t| _ = t.files.insert("lib.so".into(), Digest::of(b"another"))),
        ("toolchain.files.parser.so", |t| _ = t.files.insert("parser.so".into(), Digest::of(b"more"))),
        ("toolchain.kind", |t| t.kind = ToolchainKind::Trtexec),
    ];
    for (field, edit) in edits {
        let mut edited = toolchain();
        edit(&mut edited);
        let after = keys::build(&engine(), &before.prepared, &before.profiles, &edited, None);
        assert_ne!(after.key(), before.build_key);
        let changes = after.changes_since(&before.build);
        assert_eq!(changes.iter().map(|c| c.field.as_str()).collect::<Vec<_>>(), [field]);
    }
    // What it is called, and where it lies, decides nothing.
    let mut moved = toolchain();
    (moved.version, moved.libraries) = ("1.7".into(), Some(PathBuf::from("/elsewhere")));
    assert_eq!(
        keys::build(&engine(), &before.prepared, &before.profiles, &moved, None).key(),
        before.build_key
    );
}

#[test]
fn prepared_is_the_canonical_form() {
    let model = static_model();
    let prepared = key(&engine()).prepared;
    assert_eq!(
        prepared,
        PreparedRef {
            digest: model.digest,
            graph: model.graph,
            weights: None,
            assignment: None,
            opset: None
        }
    );
}

fn any_options() -> impl Strategy<Value = BuildOptions> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (1..u64::MAX / 2, 0..6u32, flags, proptest::option::of(0..9u32), 0..9u32).prop_map(
        |(workspace, optimization_level, (a, b, c, d), max_aux_streams, epoch)| BuildOptions {
            workspace,
            optimization_level,
            weight_streaming: a,
            strict_nans: b,
            sparse_weights: c,
            distributive_independence: d,
            max_aux_streams,
            epoch,
            ..BuildOptions::default()
        },
    )
}

proptest! {
    /// Two engines have one key exactly if nothing that decides differs.
    #[test]
    fn keys_are_equal_exactly_if_options_are(a in any_options(), b in any_options()) {
        let with = |build: &BuildOptions| key(&Engine { build: build.clone(), ..engine() }).build_key;
        prop_assert_eq!(with(&a) == with(&b), a == b);
        prop_assert_eq!(with(&a), with(&a.clone()));
    }
}
