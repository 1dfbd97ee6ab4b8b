//! The keys of the actions: what is in them, what is not, and why.
//!
//! | field | in the key of | why |
//! |---|---|---|
//! | the sources of `onnx/`, and of `precision/` but its oracle, without tests | canonicalize, digest, prepare | they decide the bytes; computed at compile time |
//! | versions of the crates `globset`, `half`, `prost`, `regex` | wherever those sources are | they decide which nodes a rule selects, how numbers are rounded, and the bytes of a model |
//! | [`BUILD_VERSION`] | build | the worker's recipe |
//! | raw digests of model file and external data | canonicalize and digest alone | a doc_string edit changes them, and nothing after; see [`external_data`] |
//! | model digest | prepare | the digest of the canonical form |
//! | precision | prepare | it decides the prepared ONNX |
//! | fuse | prepare | it changes the graph, and may raise the opset |
//! | rules, as what they select and give, in order | prepare | likewise; their names and places decide nothing |
//! | types of inputs and outputs, and of custom operators, that the manifest declares | prepare | they decide the prepared ONNX |
//! | version of `std-fp16` | prepare | its rules are listed too, but two of its selectors are code |
//! | what the toolchain does with typed models | prepare | it changes what must stay FP32; few toolchains differ |
//! | digest of the prepared ONNX | build | what is built is what is hashed |
//! | compute capabilities, sorted | build | what the engine runs on |
//! | profiles, resolved to inputs, in order | build | their names and spelling mean nothing to TensorRT |
//! | every builder option, defaults included | build | a new default must not change old engines in silence |
//! | digests of the toolchain's files | build | the version a library reports says less |
//! | the sources of `verify/`, `worker/reference/`, the oracle, and prepare | measure | they decide the metrics |
//! | model digest, digest of the prepared ONNX | measure | what is compared |
//! | digests of samples by name; or seed, count, ranges, fill | measure | the inputs |
//! | profiles | measure | samples are made for them, and held against them |
//! | outputs compared, and where they are not | measure | what the metrics are of |
//! | digests of the reference's files | measure | the numbers are its |
//! | TF32, and does TensorRT choose types | measure | they decide if the oracle is kinder than a GPU |
//! | the sources of `worker/on_gpu/`, and all of measure's | run | they decide the metrics |
//! | digest of the engine | run | what runs |
//! | what measure has of the model, the samples, profiles, outputs and the reference | run | what it is held against |
//! | digests of the toolchain's files | run | the runtime is one of them |
//! | one compute capability | run | an engine may hold other kernels for another; the GPU and its driver are recorded, not in the key, so that machines without one can look |
//! | epoch | build | a rebuild wanted for no other reason |
//! | paths, mtimes, host, user, locale, environment, log level, `-j` | no key | they decide nothing |
//! | timeout, memory limit | no key | they decide if there is an engine, not which |
//! | tolerances | no key | a verdict is a pure function of metrics and tolerances |

use std::collections::BTreeMap;

use super::decide::Keyed;
use super::facts::{ModelRef, PreparedRef, ToolchainRef};
use super::profiles::ResolvedProfile;
use super::trtexec::Trtexec;
use crate::digest::{Digest, Preimage, Value};
use crate::gpu::Sm;
use crate::manifest::{BuildOptions, Engine};
use crate::precision::Spec;
use crate::verify::{Inputs, MeasureSpec};

/// Version of the worker's recipe: what it does with a request to build. Raise it with every
/// change that can change an engine's bytes or what is recorded with it; a golden test reminds you. What is read of an
/// engine's text has a version of its own, and is read again.
pub const BUILD_VERSION: i64 = 3;

/// Digest of the sources, and of the versions of crates, that decide the canonical form and the prepared ONNX.
pub const PREPARE_VERSION: &str = env!("ENGINEWRIGHT_PREPARE_VERSION");

/// Digest of the sources that decide what is measured.
pub const MEASURE_VERSION: &str = env!("ENGINEWRIGHT_MEASURE_VERSION");

/// Digest of the sources that decide what is found by running an engine.
pub const RUN_VERSION: &str = env!("ENGINEWRIGHT_RUN_VERSION");

/// Where a model's external data lies: a function of the model file alone.
#[must_use]
pub fn externals(file: &Digest) -> Preimage {
    Preimage::new("externals").with("version", PREPARE_VERSION).with("file", file)
}

/// The raw digest of a file of external data, beside that of its model file: it changes with each of its bytes. Most
/// of them are in the weights of the canonical form, which are digested once for both; the model file and
/// [`PREPARE_VERSION`] say which, and where. The digest of the others is `rest`.
#[must_use]
pub fn external_data(weights: Option<&Digest>, size: u64, rest: &Digest) -> Digest {
    let size = i64::try_from(size).expect("no file is longer than 2^63 bytes");
    let weights = weights.map(Value::from);
    Preimage::new("external-data").with("weights", weights).with("size", size).with("rest", rest).key()
}

/// The canonical form of a model: a function of all its files, by their raw digests.
#[must_use]
pub fn canonicalize(files: &[Digest]) -> Preimage {
    let files: Vec<Value> = files.iter().map(Value::from).collect();
    Preimage::new("canonicalize").with("version", PREPARE_VERSION).with("files", files)
}

/// What is known of a model whose weights were digested and not stored: a function of the same files.
#[must_use]
pub fn digest(files: &[Digest]) -> Preimage {
    Preimage { action: "digest".to_owned(), ..canonicalize(files) }
}

/// The digest of a model: of its canonical form, in which graph and weights are two blobs.
#[must_use]
pub fn model_digest(graph: &Digest, weights: Option<&Digest>) -> Digest {
    Preimage::new("model").with("graph", graph).with("weights", weights.map(Value::from)).key()
}

/// The prepared ONNX of an engine.
#[must_use]
pub fn prepare(engine: &Engine, model: &ModelRef, spec: Option<&Spec>) -> Preimage {
    // The opset rule is a requirement, held against the result.
    let preimage = Preimage::new("prepare")
        .with("version", PREPARE_VERSION)
        .with("model", model.digest)
        .with("precision", engine.precision.name())
        .with("typing", if spec.is_some_and(|spec| spec.weak.is_some()) { "weak" } else { "typed" });
    match spec {
        None => preimage, // As it is: nothing else decides.
        Some(spec) => {
            let preimage = preimage
                .with("fuse", spec.fuse_field())
                .with("rules", spec.rule_fields())
                .with("io", spec.io_field())
                .with("operators", spec.operator_field())
                .with("toolchain", spec.capability_field());
            match spec.weak_field() {
                None => preimage,
                Some(weak) => preimage.with("layers", weak),
            }
        }
    }
}

/// The metrics of an engine. `samples` are digests of the files of a user's, by their names.
#[must_use]
pub fn measure(
    keyed: &Keyed,
    spec: &MeasureSpec,
    samples: &BTreeMap<String, Digest>,
    reference: &ToolchainRef,
) -> Preimage {
    let text = |value: f64| Value::from(value.to_string());
    let inputs = match &spec.inputs {
        Inputs::Files { samples: _, raw } => {
            let files: BTreeMap<String, Value> =
                samples.iter().map(|(name, digest)| (name.clone(), Value::from(digest))).collect();
            let raw: BTreeMap<String, Value> = raw
                .iter()
                .map(|(name, of)| (name.clone(), Value::from(format!("{} {:?}", of.element, of.shape))))
                .collect();
            BTreeMap::from([("files".to_owned(), Value::from(files)), ("raw".to_owned(), Value::from(raw))])
        }
        Inputs::Generated { seed, samples, ranges, fill } => {
            let range = |(low, high): &(f64, f64)| Value::List(vec![text(*low), text(*high)]);
            let ranges: BTreeMap<String, Value> = ranges.iter().map(|(n, r)| (n.clone(), range(r))).collect();
            let fill: BTreeMap<String, Value> =
                fill.iter().map(|(name, fill)| (name.clone(), Value::from(format!("{fill:?}")))).collect();
            BTreeMap::from([
                ("seed".to_owned(), Value::from(seed.to_string())),
                ("samples".to_owned(), Value::from(samples.to_string())),
                ("ranges".to_owned(), Value::from(ranges)),
                ("fill".to_owned(), Value::from(fill)),
            ])
        }
    };
    let outputs: Vec<Value> = spec.outputs.iter().map(|name| Value::from(name.clone())).collect();
    let ignored: BTreeMap<String, Value> = spec
        .ignore_where
        .iter()
        .map(|(output, when)| {
            (output.clone(), Value::List(vec![when.input.clone().into(), text(when.value)]))
        })
        .collect();
    let files: BTreeMap<String, Value> =
        reference.files.iter().map(|(name, digest)| (name.clone(), Value::from(digest))).collect();
    let profiles: Vec<Value> = keyed.profiles.iter().map(profile).collect();
    let preimage = Preimage::new("measure")
        .with("version", MEASURE_VERSION)
        .with("model", keyed.model)
        .with("prepared", keyed.measured().digest)
        .with("inputs", inputs)
        .with("profiles", profiles)
        .with("outputs", outputs)
        .with("ignore-where", ignored)
        .with("tf32", spec.tf32)
        .with("reference", files);
    if spec.is_weak { preimage.with("types", "chosen by TensorRT") } else { preimage }
}

/// What running an engine on a GPU finds. `measure` and `build` are the actions of the same engine.
#[must_use]
pub fn run(measure: &Preimage, build: &Preimage, engine: &Digest, sm: Sm) -> Preimage {
    // Of these, the oracle is made; the engine takes its place.
    let of_oracle = ["version", "prepared", "tf32", "types"];
    let fields = measure.fields.iter().filter(|(name, _)| !of_oracle.contains(&name.as_str()));
    let fields = fields.map(|(name, value)| (name.clone(), value.clone())).collect();
    Preimage { action: "run".to_owned(), fields }
        .with("version", RUN_VERSION)
        .with("engine", engine)
        .with("toolchain", build.fields.get("toolchain").cloned())
        .with("sm", sm.to_string())
}

/// The engine.
#[must_use]
pub fn build(
    engine: &Engine,
    prepared: &PreparedRef,
    profiles: &[ResolvedProfile],
    toolchain: &ToolchainRef,
    trtexec: Option<&Trtexec>,
) -> Preimage {
    let sms: Vec<Value> = engine.target.sms.iter().map(|sm| Value::from(sm.to_string())).collect();
    let profiles: Vec<Value> = profiles.iter().map(profile).collect();
    let files: BTreeMap<String, Value> =
        toolchain.files.iter().map(|(name, digest)| (name.clone(), Value::from(digest))).collect();
    let toolchain = BTreeMap::from([
        ("kind".to_owned(), Value::from(toolchain.kind.name())),
        ("files".to_owned(), Value::from(files)),
    ]);
    let preimage = Preimage::new("build")
        .with("version", BUILD_VERSION)
        .with("prepared", prepared.digest)
        .with("sms", sms)
        .with("profiles", profiles)
        .with("options", options(&engine.build, engine.tf32))
        .with("toolchain", toolchain)
        .with("epoch", engine.build.epoch);
    match trtexec {
        None => preimage,
        Some(trtexec) => preimage.with("trtexec", trtexec.field()),
    }
}

fn options(build: &BuildOptions, tf32: bool) -> BTreeMap<String, Value> {
    // Destructured, so that a new option cannot be forgotten here.
    let BuildOptions {
        workspace,
        optimization_level,
        profiling,
        weight_streaming,
        strict_nans,
        sparse_weights,
        distributive_independence,
        max_aux_streams,
        tiling,
        epoch: _,        // A field of its own.
        timeout: _,      // Decides if there is an engine, not which.
        memory_limit: _, // Likewise.
        trtexec: _,      // In the arguments of trtexec: a field of its own.
    } = build;
    [
        // TensorRT takes a size_t; manifests hold at most i64::MAX bytes.
        ("workspace", Value::Int(i64::try_from(*workspace).unwrap_or(i64::MAX))),
        ("tf32", tf32.into()),
        ("optimization-level", (*optimization_level).into()),
        ("profiling", profiling.name().into()),
        ("weight-streaming", (*weight_streaming).into()),
        ("strict-nans", (*strict_nans).into()),
        ("sparse-weights", (*sparse_weights).into()),
        ("distributive-independence", (*distributive_independence).into()),
        ("max-aux-streams", (*max_aux_streams).into()),
        ("tiling", tiling.name().into()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

fn profile(profile: &ResolvedProfile) -> Value {
    let ranges = |ranges: &BTreeMap<String, [Vec<i64>; 3]>| {
        let fields = ranges.iter().map(|(input, range)| {
            let [min, opt, max] =
                range.each_ref().map(|dims| Value::List(dims.iter().copied().map(Value::Int).collect()));
            let range = [("min", min), ("opt", opt), ("max", max)];
            (input.clone(), Value::Map(range.map(|(n, v)| (n.to_owned(), v)).into_iter().collect()))
        });
        Value::Map(fields.collect())
    };
    Value::Map(BTreeMap::from([
        ("shapes".to_owned(), ranges(&profile.shapes)),
        ("values".to_owned(), ranges(&profile.values)),
    ]))
}
