//! What an engine asks of trtexec.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::facts::ModelRef;
use super::profiles::ResolvedProfile;
use crate::diagnostic::Diagnostic;
use crate::digest::{Digest, Value};
use crate::manifest::{
    Engine, GpuIdentity, HardwareCompatibility, IoType, Profiling, Tiling, Toolchain, ToolchainKind, Typing,
    WORKSPACE_MAX,
};
use crate::onnx::{Dim, Summary, Tensor};
use crate::precision::{Assignment, Decider, FloatType, Weak};
use crate::toolchain::trtexec::layers::{self, Layers};
use crate::toolchain::trtexec::{self, Asked, Paths, Types, Version, flags};

/// What decides how an engine is prepared and asked for, of the toolchain that is to build it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Builder {
    /// Its kind.
    pub kind: ToolchainKind,
    /// Major and minor version of full TensorRT; none of others.
    pub version: Option<Version>,
}

impl Builder {
    /// What a manifest says of a toolchain. Of full TensorRT it says at least major and minor version.
    #[must_use]
    pub fn of(declared: &Toolchain) -> Builder {
        Builder::new(declared.kind, declared.version.as_deref().unwrap_or_default())
    }

    pub(super) fn new(kind: ToolchainKind, version: &str) -> Builder {
        let version = (kind == ToolchainKind::Trtexec).then(|| version.parse().ok()).flatten();
        Builder { kind, version: version.map(|Version(major, minor, _)| Version(major, minor, 0)) }
    }
}

/// All that a build by trtexec is made from, beside the model and the files of TensorRT.
#[derive(Debug, Clone, PartialEq)]
pub struct Trtexec {
    /// What is asked.
    pub asked: Asked,
    /// The GPU that builds, as far as it decides the engine: `RTX 3090`, `sm_86` or `ampere-plus`.
    pub gpu: String,
    /// The plugin libraries in order, by their names, with their digests.
    pub plugins: Vec<(String, Digest)>,
    /// The files that extra arguments name, in order, with their digests.
    pub files: Vec<(PathBuf, Digest)>,
    /// Inputs and outputs of the engine: what the model and the arguments make of them.
    pub bindings: Vec<Port>,
}

/// An input or output of an engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Is it an input?
    pub is_input: bool,
    /// Element type in TensorRT's words, lower case.
    pub element: String,
    /// Dimensions; -1 is dynamic.
    pub dims: Vec<i64>,
}

/// The inputs and outputs of an engine.
#[must_use]
pub fn bindings(engine: &Engine, model: &Summary) -> Vec<Port> {
    let port = |tensor: &Tensor, is_input| {
        let word = type_word(engine, tensor);
        let element = match word.as_str() {
            "fp32" => "float",
            "fp16" => "half",
            other => other,
        };
        let dim = |dim: &Dim| match dim {
            Dim::Fixed(size) => *size,
            _ => -1,
        };
        Port {
            name: tensor.name.clone(),
            is_input,
            element: element.to_owned(),
            dims: tensor.dims.iter().flatten().map(dim).collect(),
        }
    };
    let inputs = model.inputs.iter().map(|tensor| port(tensor, true));
    inputs.chain(model.outputs.iter().map(|tensor| port(tensor, false))).collect()
}

/// Where trtexec tells of the engine's layers, in a job.
pub const LAYERS_FILE: &str = "layers.json";

/// Names of files in a job, so that no path is in a key.
#[must_use]
pub fn names_in_job(plugins: &[(String, Digest)], files: &[(PathBuf, Digest)]) -> Paths {
    let file =
        |(i, (path, _)): (usize, &(PathBuf, Digest))| (path.display().to_string(), format!("./file-{i}"));
    Paths {
        onnx: crate::onnx::MODEL_FILE.to_owned(),
        engine: "engine.plan".to_owned(),
        layers: LAYERS_FILE.to_owned(),
        plugins: plugins.iter().enumerate().map(|(i, (name, _))| format!("./plugin-{i}-{name}")).collect(),
        files: files.iter().enumerate().map(file).collect(),
        ..Paths::default()
    }
}

/// The files that the extra arguments of an engine make trtexec read for its build.
#[must_use]
pub fn given_files(engine: &Engine) -> Vec<PathBuf> {
    let reads = |does| matches!(does, flags::Does::Build | flags::Does::Model);
    let file = |argument: &String| {
        let (name, path) = argument.split_once('=')?;
        let flag =
            flags::find(name).filter(|flag| flag.argument == flags::Argument::File && reads(flag.does));
        flag.map(|_| PathBuf::from(path))
    };
    engine.build.trtexec.extra_args.iter().filter_map(file).collect()
}

impl Trtexec {
    /// Everything of it that decides, as a field of a key: the arguments are all that trtexec is told. Shapes are in a field
    /// of their own, and types of layers are told layer by layer, so that a difference can be read.
    #[must_use]
    pub fn field(&self) -> Value {
        const TOLD_ELSEWHERE: [&str; 6] = [
            "--profile",
            "--minShapes",
            "--optShapes",
            "--maxShapes",
            "--layerPrecisions",
            "--layerOutputTypes",
        ];
        let ours = Asked { extra_args: Vec::new(), ..self.asked.clone() };
        let paths = names_in_job(&self.plugins, &self.files);
        let words = trtexec::arguments(&ours, &paths).unwrap_or_default();
        let mut arguments: BTreeMap<String, Value> = BTreeMap::new();
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((&word, "on"));
            if TOLD_ELSEWHERE.contains(&name) {
                continue;
            }
            // Of plugins there may be several, in order.
            let again = (2..).map(|n: u32| format!("{name} {n}"));
            let mut keys = std::iter::once(name.to_owned()).chain(again);
            let key = keys.find(|key| !arguments.contains_key(key)).unwrap_or_default();
            arguments.insert(key, Value::from(value.to_owned()));
        }
        let list = |words: &[String]| Value::List(words.iter().cloned().map(Value::from).collect());
        let plugins = self.plugins.iter().map(|(name, digest)| Value::from(format!("{name} {digest}")));
        // What a file is called, and where it lies, decides nothing: its content does.
        let extra = self.asked.extra_args.iter().map(|word| {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let file = self.files.iter().find(|(path, _)| path.as_os_str() == value);
            file.map_or_else(|| word.clone(), |(_, digest)| format!("{name}={digest}"))
        });
        let mut field = BTreeMap::from([
            ("arguments".to_owned(), Value::Map(arguments)),
            ("extra-args".to_owned(), Value::List(extra.map(Value::from).collect())),
            ("gpu".to_owned(), Value::from(self.gpu.clone())),
            ("plugins".to_owned(), Value::List(plugins.collect())),
        ]);
        if let Types::Weak { layers, untyped_outputs, .. } = &self.asked.types {
            let of = layers.iter().map(|(name, of)| (name.clone(), Value::from((*of).to_owned())));
            field.insert("layers".to_owned(), Value::Map(of.collect()));
            field.insert("untyped-outputs".to_owned(), list(untyped_outputs));
        }
        Value::Map(field)
    }
}

/// How the types of nodes reach this version of TensorRT; never `auto`.
#[must_use]
pub fn typing(engine: &Engine, version: Version) -> Typing {
    let options = &engine.build.trtexec;
    match options.typing {
        Typing::Auto if version >= Version(11, 0, 0) => Typing::Strong,
        Typing::Auto if version >= Version(10, 0, 0) && options.dla_core.is_none() => Typing::Strong,
        Typing::Auto => Typing::Weak,
        said => said,
    }
}

/// What is known of the names of layers, for a weakly typed engine.
pub(super) fn weak(engine: &Engine, builder: Builder) -> Option<Weak> {
    let version = builder.version?;
    (typing(engine, version) == Typing::Weak).then(|| {
        let list = |of| layers::operators(of, version).map(str::to_owned).collect();
        Weak { one: list(Layers::One), automatic: list(Layers::Automatic) }
    })
}

/// The newest opset that a version reads, where that is published.
pub(super) fn max_opset(version: Version) -> Option<i64> {
    match version {
        Version(8, 6, _) => Some(17),
        Version(9, ..) => Some(19),
        Version(10, 0 | 1, _) => Some(20),
        Version(10, 15, _) => Some(24),
        _ => None,
    }
}

/// What of the GPU decides an engine: said by its target, so that it can be planned on any machine.
///
/// # Errors
/// The target does not say it.
pub fn gpu(engine: &Engine) -> Result<String, Diagnostic> {
    let target = &engine.target;
    let options = &engine.build.trtexec;
    let error = |message: String, help: &str| {
        Err(Diagnostic::error("gpu-identity", message).at(&target.origin, "").help(help.to_owned()))
    };
    match (target.gpu_identity, target.sms.as_slice()) {
        (GpuIdentity::AmperePlus, _)
            if options.hardware_compatibility != HardwareCompatibility::AmperePlus =>
        {
            error(
                format!(
                    "target `{}` may be built on any GPU, and `{}` would run on one kind",
                    target.name, engine.name
                ),
                "write `build = { hardware-compatibility = \"ampere-plus\" }` too",
            )
        }
        (GpuIdentity::AmperePlus, _) => Ok("ampere-plus".to_owned()),
        (_, [_, _, ..]) => error(
            format!(
                "trtexec builds for one GPU, and target `{}` has several compute capabilities",
                target.name
            ),
            "make a target of each; or write `gpu-identity = \"ampere-plus\"`, with `hardware-compatibility = \"ampere-plus\"`",
        ),
        (GpuIdentity::Sm, sms) => Ok(sms.iter().map(ToString::to_string).collect()),
        (GpuIdentity::Model, _) => match &target.gpu {
            Some(gpu) => Ok(gpu.clone()),
            None => error(
                format!("target `{}` does not say which GPU its engines are tuned on", target.name),
                "name it, `gpu = \"RTX 3090\"`; or write `gpu-identity = \"sm\"`, if any of this compute capability will do",
            ),
        },
    }
}

/// What an engine asks of a version. `assignment` holds the types of its nodes, if it is weakly typed.
///
/// # Errors
/// Everything that the version does not have.
pub fn asked(
    engine: &Engine,
    version: Version,
    model: &ModelRef,
    assignment: Option<&Assignment>,
    profiles: &[ResolvedProfile],
) -> Result<Asked, Vec<Diagnostic>> {
    let (build, options) = (&engine.build, &engine.build.trtexec);
    let mut errors = Vec::new();
    let is_weak = typing(engine, version) == Typing::Weak;
    let types = if is_weak { weak_types(engine, assignment) } else { Types::Strong };
    let summary = &model.summary;
    let mut formats = |key: &str, tensors: &[Tensor], formats: &[String]| {
        let tensors: Vec<(&str, String)> =
            tensors.iter().map(|t| (t.name.as_str(), type_word(engine, t))).collect();
        let typed = is_weak && tensors.iter().any(|(name, _)| engine.io.contains_key(*name));
        if formats.len() > 1 && formats.len() != tensors.len() {
            let (have, of) = (formats.len(), tensors.len());
            let message =
                format!("`{key}` of `{}` has {have} entries, and its model {of} of them", engine.name);
            errors.push(
                Diagnostic::error("io-formats", message)
                    .at(&engine.origin, "")
                    .help("give one for all, or one for each in their order"),
            );
            return Vec::new();
        }
        if formats.is_empty() && !typed {
            return Vec::new();
        }
        let format =
            |i: usize| formats.get(i).or(formats.first()).cloned().unwrap_or_else(|| "chw".to_owned());
        tensors.into_iter().enumerate().map(|(i, (_, of))| (of, format(i))).collect()
    };
    let inputs = formats("input-formats", &summary.inputs, &options.input_formats);
    let outputs = formats("output-formats", &summary.outputs, &options.output_formats);
    if is_weak {
        errors.extend(integers(engine, summary.inputs.iter().chain(&summary.outputs)));
    }
    let asked = Asked {
        version,
        types,
        workspace: (build.workspace != WORKSPACE_MAX).then_some(build.workspace),
        optimization_level: build.optimization_level,
        tells_layers: build.profiling != Profiling::None,
        tf32: engine.tf32,
        sparse_weights: build.sparse_weights,
        weight_streaming: build.weight_streaming,
        distributive_independence: build.distributive_independence,
        max_aux_streams: build.max_aux_streams,
        tiling: match build.tiling {
            Tiling::None => None,
            Tiling::Fast => Some(1),
            Tiling::Moderate => Some(2),
            Tiling::Full => Some(3),
        },
        hardware_compatibility: match options.hardware_compatibility {
            HardwareCompatibility::None => None,
            HardwareCompatibility::AmperePlus => Some("ampere+"),
            HardwareCompatibility::SameComputeCapability => Some("sameComputeCapability"),
        },
        version_compatible: options.version_compatible,
        strip_weights: options.strip_weights,
        refit: options.refit,
        tactic_sources: options.tactic_sources.clone(),
        dla: options.dla_core.map(|core| (core, options.dla_gpu_fallback)),
        inputs,
        outputs,
        profiles: profiles.iter().map(of_profile).collect(),
        extra_args: options.extra_args.clone(),
    };
    errors.extend(extra_errors(engine, version));
    let paths = names_in_job(&[], &[]);
    let arguments = trtexec::arguments(&asked, &paths);
    errors.extend(arguments.iter().flat_map(|words| twice(engine, words)));
    errors.extend(arguments.err().into_iter().flatten().map(|missing| {
        let trtexec::Unavailable { what, why } = missing;
        let message =
            format!("TensorRT {}.{} does not take {what}, in `{}`", version.0, version.1, engine.name);
        Diagnostic::error("option-unsupported", message).at(&engine.origin, "in this model").note(why)
    }));
    if errors.is_empty() { Ok(asked) } else { Err(errors) }
}

fn of_profile(profile: &ResolvedProfile) -> BTreeMap<String, trtexec::Range> {
    profile.shapes.iter().chain(&profile.values).map(|(name, range)| (name.clone(), range.clone())).collect()
}

/// The names of layers whose types are asked for: all that are FP32 where others may be 16 bits, and what rules made
/// 16 bits.
fn weak_types(engine: &Engine, assignment: Option<&Assignment>) -> Types {
    let Some(assignment) = assignment else {
        return Types::Weak { fp16: false, bf16: false, layers: Vec::new(), untyped_outputs: Vec::new() };
    };
    let uses = |of: FloatType| {
        let base = FloatType::of(engine.precision) == Some(of);
        base || assignment.nodes.iter().any(|node| node.of == Some(of))
    };
    let (fp16, bf16) = (uses(FloatType::Fp16), uses(FloatType::Bf16));
    let (mut layers, mut untyped_outputs) = (Vec::new(), Vec::new());
    for node in assignment.nodes.iter().filter(|_| fp16 || bf16) {
        let Some((layer, of)) = node.layer.as_ref().zip(node.of) else { continue };
        if of != FloatType::Fp32 && !matches!(node.by, Decider::Rule(_)) {
            continue; // It may be 16 bits, and need not.
        }
        layers.push((layer.name.clone(), of.name()));
        if !layer.floats {
            untyped_outputs.push(layer.name.clone());
        }
    }
    Types::Weak { fp16, bf16, layers, untyped_outputs }
}

/// The type of an input or output, as trtexec writes it.
fn type_word(engine: &Engine, tensor: &Tensor) -> String {
    if let Some(of) = engine.io.get(&tensor.name) {
        return of.name().to_owned();
    }
    match tensor.element.as_str() {
        "float" => "fp32",
        "float16" => "fp16",
        "bfloat16" => "bf16",
        other => other,
    }
    .to_owned()
}

/// Integers are given another type by Casts in the model, which a weakly typed model does not get.
fn integers<'a>(engine: &Engine, tensors: impl Iterator<Item = &'a Tensor>) -> Vec<Diagnostic> {
    let float = |of: &IoType| matches!(of, IoType::Fp32 | IoType::Fp16 | IoType::Bf16);
    let wrong = tensors.filter(|t| engine.io.get(&t.name).is_some_and(|of| !float(of)));
    wrong
        .map(|tensor| {
            let message = format!(
                "the type of `{}` cannot be changed in a weakly typed engine, in `{}`",
                tensor.name, engine.name
            );
            let error = Diagnostic::error("not-yet", message).at(&engine.origin, "in this model");
            error.help("leave it out of `io`, or build with `typing = \"strong\"`")
        })
        .collect()
}

/// Options that are given twice, by the manifest and by its extra arguments: trtexec takes most only once.
fn twice(engine: &Engine, words: &[String]) -> Vec<Diagnostic> {
    // An option with two spellings is one.
    let name = |word: &str| -> String {
        let spelling = word.split('=').next().unwrap_or_default();
        flags::find(spelling).map_or(spelling.to_owned(), |flag| flag.name().to_owned())
    };
    let ours = words.len() - engine.build.trtexec.extra_args.len();
    let given: Vec<String> = words[..ours].iter().map(|word| name(word)).collect();
    let extra = engine.build.trtexec.extra_args.iter().enumerate().map(|(i, word)| (i, name(word)));
    let again = extra.filter(|(i, word)| {
        let before = engine.build.trtexec.extra_args[..*i].iter().any(|other| name(other) == *word);
        let once = flags::find(word).is_some_and(|flag| flag.times != flags::Times::Many);
        once && (before || given.contains(word))
    });
    again
        .map(|(_, word)| {
            let message = format!("`{word}` is given twice to trtexec, in `{}`", engine.name);
            Diagnostic::error("extra-args", message)
                .at(&engine.origin, "in this model")
                .help("leave it out of `extra-args`: what the manifest says gives it already")
        })
        .collect()
}

/// Does the value of an option lie where trtexec finds it, whatever folder it runs in?
fn is_whole(argument: &str) -> bool {
    argument.split_once('=').is_some_and(|(_, path)| path.starts_with('/'))
}

/// Extra arguments that the version does not take, or that say what the manifest says.
fn extra_errors(engine: &Engine, version: Version) -> Vec<Diagnostic> {
    const PLUGINS: [&str; 4] =
        ["--plugins", "--staticPlugins", "--dynamicPlugins", "--setPluginsToSerialize"];
    const OURS: [&str; 5] =
        ["--onnx", "--saveEngine", "--skipInference", "--exportLayerInfo", "--timingCacheFile"];
    let mut errors = Vec::new();
    for argument in &engine.build.trtexec.extra_args {
        let name = argument.split('=').next().unwrap_or_default();
        let error =
            |message: String| Diagnostic::error("extra-args", message).at(&engine.origin, "in this model");
        match flags::find(name) {
            None => errors
                .push(error(format!("trtexec has no option `{name}`, in `extra-args` of `{}`", engine.name))),
            Some(flag) if !flag.exists(version) => errors.push(
                error(format!(
                    "TensorRT {}.{} has no option `{name}`, in `{}`",
                    version.0, version.1, engine.name
                ))
                .note(format!("versions that have it: {}", flag.versions())),
            ),
            Some(flag) if PLUGINS.contains(&flag.name()) => errors.push(
                error(format!("`{name}` is a key of its own, in `extra-args` of `{}`", engine.name))
                    .help("name the files in `plugins`: their content is part of the engine's key"),
            ),
            Some(_) if OURS.contains(&name) => errors.push(
                error(format!(
                    "`{name}` is given by the program itself, in `extra-args` of `{}`",
                    engine.name
                ))
                .help("leave it out"),
            ),
            Some(flag) if flag.name() == "--tuningCacheFile" => errors
                .push(error(format!("`{name}` is written too, in `extra-args` of `{}`", engine.name)).help(
                    "leave it out: what it holds would decide the engine, and changes with each build",
                )),
            Some(flag) if flag.argument == flags::Argument::File && !is_whole(argument) => errors.push(
                error(format!("`{argument}` is no whole path, in `extra-args` of `{}`", engine.name))
                    .help("give the whole path: trtexec runs in a folder of its own"),
            ),
            Some(_) => {}
        }
    }
    errors
}
