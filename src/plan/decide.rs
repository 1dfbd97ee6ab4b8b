//! What is to be done for one engine.

use serde::{Deserialize, Serialize};

use super::facts::{Accuracy, AccuracyFact, BuiltRef, ModelRef, PreparedRef, Published, ToolchainRef};
use super::keys;
use super::profiles::{self, ResolvedProfile};
use super::reason::Reason;
use super::trtexec::{self, Builder, Trtexec};
use crate::diagnostic::Diagnostic;
use crate::digest::{Digest, Preimage};
use crate::gpu::Sm;
use crate::manifest::{Engine, EngineName, Precision, ToolchainKind, WORKSPACE_MAX};
use crate::onnx::Tensor;
use crate::onnx::fuse::LAYER_NORMALIZATION;
use crate::precision::{self, Capabilities, FloatType, Spec};
use crate::toolchain::{self, tensorrt_rtx};
use crate::verify::{self, Verdict};

/// An engine whose inputs are all known.
#[derive(Debug, Clone)]
pub struct Keyed {
    /// Digest of the model.
    pub model: Digest,
    /// The prepare action's inputs.
    pub prepare: Preimage,
    /// What prepare gives.
    pub prepared: PreparedRef,
    /// The typed ONNX that stands for a weakly typed engine where it is measured.
    pub emulated: Option<PreparedRef>,
    /// The profiles, resolved.
    pub profiles: Vec<ResolvedProfile>,
    /// The build's inputs.
    pub build: Preimage,
    /// The build's key.
    pub build_key: Digest,
    /// What trtexec is asked, if that builds it.
    pub trtexec: Option<Trtexec>,
}

impl Keyed {
    /// What is measured: the prepared ONNX, or what stands for it.
    #[must_use]
    pub fn measured(&self) -> &PreparedRef {
        self.emulated.as_ref().unwrap_or(&self.prepared)
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Nothing.
    UpToDate,
    /// Publish an engine that the cache holds.
    Publish,
    /// Publish the very engine that the lock file names, which the cache holds.
    Restore,
    /// Build for the first time.
    Build,
    /// Build again, since inputs changed or the result is lost.
    Rebuild,
    /// Measure its accuracy; the engine is there.
    Measure,
    /// Hold metrics that are there against tolerances.
    Judge,
    /// Not known before something is fetched.
    Unknown,
    /// It cannot be done; the diagnostics say why.
    Error,
}

impl Action {
    /// Is there something that can be done?
    #[must_use]
    pub fn is_work(self) -> bool {
        !matches!(self, Action::UpToDate | Action::Unknown | Action::Error)
    }

    /// As shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Action::UpToDate => "up to date",
            Action::Publish => "publish",
            Action::Restore => "restore",
            Action::Build => "build",
            Action::Rebuild => "rebuild",
            Action::Measure => "measure",
            Action::Judge => "judge",
            Action::Unknown => "unknown",
            Action::Error => "error",
        }
    }
}

/// The plan for one engine.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The engine.
    pub name: EngineName,
    /// What is to be done.
    pub action: Action,
    /// Why, nearest cause first.
    pub reasons: Vec<Reason>,
    /// The inputs, if they are known.
    pub keyed: Option<Box<Keyed>>,
    /// The build in the cache, if there is one.
    pub built: Option<BuiltRef>,
    /// What is known of its accuracy.
    pub accuracy: AccuracyFact,
    /// How long it will take by what was recorded, in ms; none if something of it was never done.
    pub estimate_ms: Option<u64>,
    /// What this machine lacks to do it.
    pub lacks: Vec<Diagnostic>,
    /// Why it cannot be done.
    pub errors: Vec<Diagnostic>,
}

impl Planned {
    /// An engine that cannot be planned.
    #[must_use]
    pub fn error(name: &EngineName, errors: Vec<Diagnostic>) -> Planned {
        Planned { action: Action::Error, errors, ..Planned::unknown(name, Vec::new()) }
    }

    /// An engine of which too little is known.
    #[must_use]
    pub fn unknown(name: &EngineName, reasons: Vec<Reason>) -> Planned {
        Planned {
            name: name.clone(),
            action: Action::Unknown,
            reasons,
            keyed: None,
            built: None,
            accuracy: AccuracyFact::NoneDeclared,
            estimate_ms: None,
            lacks: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// Is it not accurate enough, as far as that is known?
    #[must_use]
    pub fn fails(&self) -> bool {
        matches!(&self.accuracy, AccuracyFact::Known(accuracy)
            if accuracy.judgement.as_ref().is_some_and(|j| j.verdict == Verdict::Failed))
    }
}

/// What this version cannot do yet, and what the toolchain cannot do at all, of what the manifest
/// asks for an engine. Needs the manifest alone.
#[must_use]
pub fn check(engine: &Engine, toolchain: Option<ToolchainKind>) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    let mut not_yet = |asked: String, instead: &str| {
        errors.push(
            Diagnostic::error("not-yet", format!("{asked} is not supported yet, in `{}`", engine.name))
                .at(&engine.origin, "in this model")
                .help(instead.to_owned()),
        );
    };
    if engine.precision == Precision::AsIs && !engine.rules.is_empty() {
        not_yet(
            "a precision rule under `precision = \"as-is\"`".to_owned(),
            "say the precision of all other nodes: `precision = \"fp32\"` or `\"fp16\"`",
        );
    }
    if engine.precision == Precision::AsIs && !engine.io.is_empty() {
        not_yet(
            "`io` under `precision = \"as-is\"`".to_owned(),
            "say the precision of the nodes: `precision = \"fp32\"` or `\"fp16\"`",
        );
    }
    errors.extend(toolchain.and_then(|kind| sm_error(engine, kind)));
    errors.extend(toolchain.into_iter().flat_map(|kind| option_errors(engine, kind)));
    errors
}

/// Options that the toolchain does not have.
fn option_errors(engine: &Engine, kind: ToolchainKind) -> Vec<Diagnostic> {
    let options = match kind {
        ToolchainKind::TensorrtRtx => {
            // How much a GPU has is not known where none is.
            let max = (engine.build.workspace == WORKSPACE_MAX).then_some("workspace = \"max\"");
            engine.build.trtexec.given().into_iter().chain(max).collect()
        }
        ToolchainKind::Trtexec if engine.build.strict_nans => vec!["strict-nans"],
        _ => Vec::new(),
    };
    let error = |option: &str| {
        let toolchain = &engine.target.toolchain;
        let message = format!("toolchain `{toolchain}` has no `{option}`, in `{}`", engine.name);
        Diagnostic::error("option-unsupported", message)
            .at(&engine.origin, "in this model")
            .help(format!("say it for the targets that have it: `[{}.on.TARGET.build]`", engine.table))
    };
    options.into_iter().map(error).collect()
}

fn sm_error(engine: &Engine, kind: ToolchainKind) -> Option<Diagnostic> {
    let has = toolchain::sms(kind)?;
    let missing: Vec<Sm> = engine.target.sms.iter().filter(|sm| !has.contains(sm)).copied().collect();
    if missing.is_empty() {
        return None;
    }
    let list = |sms: &[Sm]| sms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (target, needs) = (&engine.target, list(&missing));
    let message =
        format!("toolchain `{}` cannot build for {needs}, in target `{}`", target.toolchain, target.name);
    let mut error = Diagnostic::error("sm-unsupported", message)
        .at(&target.origin, format!("needs {needs}"))
        .note(format!("it builds for {}", list(&has)));
    error.help = missing.into_iter().filter_map(tensorrt_rtx::instead).map(str::to_owned).collect();
    if error.help.is_empty() {
        error = error.help("other GPUs need the full TensorRT: a toolchain of kind `trtexec`");
    }
    Some(error)
}

/// What decides the typed form of an engine's model; none as-is.
#[must_use]
pub fn spec(engine: &Engine, builder: Option<Builder>) -> Option<Spec> {
    let weak = builder.and_then(|builder| trtexec::weak(engine, builder));
    precision::spec(engine, builder.map(capabilities).unwrap_or_default(), weak)
}

/// What decides the typed form that stands for a weakly typed engine where it is measured: all that may be of 16 bits is.
/// None for one that is typed, or has no 16 bits but those of its file.
#[must_use]
pub fn emulated_spec(engine: &Engine, builder: Option<Builder>) -> Option<Spec> {
    let builder = builder?;
    trtexec::weak(engine, builder)?;
    FloatType::of(engine.precision)?;
    precision::spec(engine, capabilities(builder), None)
}

/// What a toolchain does with typed models.
fn capabilities(builder: Builder) -> Capabilities {
    if builder.kind != ToolchainKind::TensorrtRtx {
        let max_opset = builder.version.and_then(trtexec::max_opset);
        return Capabilities { max_opset, ..Capabilities::default() };
    }
    let types = [FloatType::Fp32, FloatType::Fp16, FloatType::Bf16];
    let without = tensorrt_rtx::WITHOUT.iter().filter_map(|(op, name)| {
        let of = types.into_iter().find(|of| of.name() == *name)?;
        Some(((*op).to_owned(), of))
    });
    Capabilities {
        demotes_lone_gemm: tensorrt_rtx::DEMOTES_LONE_GEMM,
        without: without.collect(),
        max_opset: tensorrt_rtx::MAX_OPSET,
    }
}

/// Makes the keys of an engine whose model, toolchain and prepared ONNX are known.
///
/// # Errors
/// Everything in the manifest that does not fit the model: profiles, opset.
pub fn keyed(
    engine: &Engine,
    model: &ModelRef,
    toolchain: &ToolchainRef,
    prepared: PreparedRef,
    trtexec: Option<Trtexec>,
) -> Result<Keyed, Vec<Diagnostic>> {
    let profiles = fits(engine, model, prepared.opset)?;
    let builder = Builder::new(toolchain.kind, &toolchain.version);
    let prepare = keys::prepare(engine, model, spec(engine, Some(builder)).as_ref());
    let build = keys::build(engine, &prepared, &profiles, toolchain, trtexec.as_ref());
    let (model, build_key) = (model.digest, build.key());
    Ok(Keyed { model, prepare, prepared, emulated: None, profiles, build_key, build, trtexec })
}

/// The profiles of an engine, resolved for its model, whose opset `fuse` may have raised.
///
/// # Errors
/// Everything in the manifest that does not fit the model: profiles, opset.
pub fn fits(
    engine: &Engine,
    model: &ModelRef,
    raised: Option<i64>,
) -> Result<Vec<ResolvedProfile>, Vec<Diagnostic>> {
    let mut errors = Vec::new();
    errors.extend(opset_error(engine, model, raised));
    errors.extend(type_errors(engine, model));
    errors.extend(verify::check(engine, &model.summary));
    let profiles = profiles::resolve(engine, &model.summary).unwrap_or_else(|e| {
        errors.extend(e);
        Vec::new()
    });
    if errors.is_empty() { Ok(profiles) } else { Err(errors) }
}

/// Inputs and outputs of types that no TensorRT has.
fn type_errors(engine: &Engine, model: &ModelRef) -> Vec<Diagnostic> {
    let error = |(what, tensor): (&str, &Tensor)| {
        let Tensor { name, element, .. } = tensor;
        let message = format!(
            "{what} `{name}` of model `{}` is of type {element}, which TensorRT does not have",
            engine.name.model
        );
        Diagnostic::error("type-not-in-tensorrt", message)
            .at(&engine.source_origin, "")
            .help(match tensor.element.as_str() {
                "string" => {
                    "export the model without what handles it: strings are for the program around the engine"
                }
                _ => "export the model with another type there: float, int32, int64, int8, uint8 and bool are taken",
            })
    };
    let (inputs, outputs) = (&model.summary.inputs, &model.summary.outputs);
    let all = inputs.iter().map(|i| ("input", i)).chain(outputs.iter().map(|o| ("output", o)));
    let lacking = ["string", "complex64", "complex128", "int16", "uint16", "uint32", "uint64"];
    all.filter(|(_, t)| lacking.contains(&t.element.as_str())).map(error).collect()
}

fn opset_error(engine: &Engine, model: &ModelRef, raised: Option<i64>) -> Option<Diagnostic> {
    let required = engine.opset?;
    let own = model.summary.opset().unwrap_or(1);
    let have = raised.unwrap_or(own);
    let text = match required.max {
        Some(max) if max == required.min => format!("opset {max}"),
        Some(max) => format!("an opset from {} to {max}", required.min),
        None => format!("opset {} or later", required.min),
    };
    let mut help = Vec::new();
    if have < required.min {
        if engine.fuse.is_empty() && required.min <= LAYER_NORMALIZATION {
            help.push(format!(
                "`fuse = [\"layer-norm\"]` raises the opset to {LAYER_NORMALIZATION} where layer norms are written as several nodes"
            ));
        }
        help.push(format!("export the model with opset {}, or lower the requirement", required.min));
    } else if required.max.is_some_and(|max| have > max) {
        let fused = raised.map(|_| "leave `fuse` out, or raise the requirement".to_owned());
        let exported = "export the model with an older opset, or raise the requirement".to_owned();
        help.push(fused.unwrap_or(exported));
    } else {
        return None;
    }
    let name = &engine.name.model;
    let message = match raised {
        Some(raised) => {
            format!("model `{name}` has opset {own}, which `fuse` raises to {raised}, and {text} is required")
        }
        None => format!("model `{name}` has opset {own}, and {text} is required"),
    };
    let error = Diagnostic::error("opset", message).at(&engine.origin, "required here");
    Some(help.into_iter().fold(error, Diagnostic::help))
}

/// Decides for an engine whose keys are known. `causes` is asked only if it must be built.
pub fn decide(
    name: &EngineName,
    keyed: Keyed,
    built: Option<BuiltRef>,
    published: &Published,
    accuracy: AccuracyFact,
    causes: impl FnOnce(&Keyed) -> Vec<Reason>,
) -> Planned {
    let (action, mut reasons) = match (&built, published) {
        (Some(built), Published::Whole { engine, build_key, .. })
            if *engine == built.engine.b3 && *build_key == keyed.build_key =>
        {
            (Action::UpToDate, Vec::new())
        }
        (Some(built), published) => {
            let reason = match published {
                Published::Whole { .. } => Reason::OtherPublished,
                Published::Nothing => Reason::NotPublished,
                Published::Broken { what, .. } => Reason::PublishedBroken { what: what.clone() },
            };
            (if built.is_locked { Action::Restore } else { Action::Publish }, vec![reason])
        }
        // The engine is where it belongs, whole, and made from these very inputs. It is built again only if there is
        // something to be said of it anew.
        (None, Published::Whole { build_key, .. })
            if *build_key == keyed.build_key && is_settled(&accuracy, published) =>
        {
            (Action::UpToDate, Vec::new())
        }
        (None, _) => {
            let reasons = causes(&keyed);
            let first = matches!(reasons.as_slice(), [Reason::NeverBuilt]);
            (if first { Action::Build } else { Action::Rebuild }, reasons)
        }
    };
    let action = match action {
        Action::UpToDate | Action::Publish | Action::Restore if !is_settled(&accuracy, published) => {
            let (then, why) = measure_or_judge(&accuracy, published);
            // What is wrong with its accuracy is nearer than that it is not published.
            reasons.splice(0..0, why);
            if action == Action::UpToDate || then != Action::Publish { then } else { action }
        }
        Action::Build | Action::Rebuild => {
            if let AccuracyFact::Known(accuracy) = &accuracy
                && accuracy.judgement.is_none()
            {
                reasons.push(Reason::NotMeasured { samples: accuracy.spec.count() });
            }
            action
        }
        action => action,
    };
    Planned {
        name: name.clone(),
        action,
        reasons,
        keyed: Some(Box::new(keyed)),
        built,
        accuracy,
        estimate_ms: None,
        lacks: Vec::new(),
        errors: Vec::new(),
    }
}

/// Is what is published published with the verdict that is asked for?
fn is_settled(accuracy: &AccuracyFact, published: &Published) -> bool {
    let Published::Whole { judged, verdict, .. } = published else {
        return matches!(accuracy, AccuracyFact::NoneDeclared | AccuracyFact::Skipped);
    };
    match accuracy {
        AccuracyFact::NoneDeclared => verdict == Verdict::NoneDeclared.name(),
        AccuracyFact::Skipped => true,
        AccuracyFact::NotFetched => false,
        AccuracyFact::Known(accuracy) => *judged == Some(accuracy.judged) && !has_failed(accuracy),
    }
}

fn has_failed(accuracy: &Accuracy) -> bool {
    accuracy.judgement.as_ref().is_some_and(|judgement| judgement.verdict == Verdict::Failed)
}

/// What is to be done for the accuracy of an engine that is built, and why.
fn measure_or_judge(accuracy: &AccuracyFact, published: &Published) -> (Action, Vec<Reason>) {
    let accuracy = match accuracy {
        AccuracyFact::NoneDeclared => return (Action::Publish, vec![Reason::SidecarOutdated]),
        AccuracyFact::Skipped => return (Action::Publish, Vec::new()),
        AccuracyFact::NotFetched => return (Action::Unknown, vec![Reason::ReferenceNotFetched]),
        AccuracyFact::Known(accuracy) => accuracy,
    };
    let Some(judgement) = &accuracy.judgement else {
        let mut reasons = measure_changes(accuracy);
        if reasons.is_empty() {
            reasons.push(Reason::NotMeasured { samples: accuracy.spec.count() });
        }
        return (Action::Measure, reasons);
    };
    if let Some(first) = judgement.failures.first() {
        let more = judgement.failures.len() - 1;
        return (Action::Judge, vec![Reason::Fails { what: first.clone(), more }]);
    }
    match published {
        Published::Whole { verdict, .. } => {
            let new = judgement.verdict.name().to_owned();
            // It was measured with these inputs before, and published with others since.
            let mut reasons = measure_changes(accuracy);
            if reasons.is_empty() || *verdict != new {
                reasons.push(Reason::Judged { old: verdict.clone(), new });
            }
            (Action::Judge, reasons)
        }
        _ => (Action::Publish, Vec::new()),
    }
}

/// What differs from the measurement that is published.
fn measure_changes(accuracy: &Accuracy) -> Vec<Reason> {
    let changes = accuracy.previous.as_ref().map(|old| accuracy.measure.changes_since(old));
    changes.unwrap_or_default().into_iter().map(Reason::Measure).collect()
}
