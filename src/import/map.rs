//! The options of one run, to a draft of its manifest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml_edit::{Array, Value};

use super::draft::{Draft, Gpu, Toolchain};
use super::model::Model;
use super::notes::{Notes, listed};
use super::options::{Given, Options};
use super::program::Run;
use super::{Version, codes, precision, profiles, values};
use crate::diagnostic::Diagnostic;
use crate::gpu::{self, Sm};
use crate::manifest::Precision;
use crate::onnx::Tensor;
use crate::toolchain::trtexec;
use crate::toolchain::trtexec::flags::{self, Argument, Does};

/// A GPU to fill in where nothing names one.
const SOME_GPU: &str = "RTX 3090";

/// What is asked for beside the command line.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// The version of TensorRT, as a dotted prefix.
    pub version: Option<String>,
    /// A GPU or a compute capability.
    pub gpu: Option<String>,
    /// The name of the model.
    pub name: Option<String>,
    /// May what a manifest cannot say be left out?
    pub lossy: bool,
}

/// One run on its way to a draft.
pub(super) struct Mapping<'a> {
    pub(super) run: &'a Run,
    pub(super) version: Version,
    pub(super) options: Options,
    pub(super) notes: Notes,
}

impl Mapping<'_> {
    /// The draft; none if there are errors, which are in the notes.
    pub(super) fn draft(
        &mut self,
        wishes: &Wishes,
        toolchain: Toolchain,
        model: Option<&Model>,
    ) -> Option<Draft> {
        self.refuse();
        let source = self.source()?;
        let name = self.name(wishes, &source)?;
        let gpu = self.gpu(wishes)?;
        self.surroundings();
        let typing = precision::typing(&self.options, self.version, model, &mut self.notes);
        let profiles = profiles::profiles(&self.options, self.version, model, &mut self.notes);
        let mut build = self.build(&typing);
        let mut extra = typing.extra.clone();
        let io = self.formats(model, typing.precision, &mut build, &mut extra);
        self.others(&mut extra);
        self.gone();
        if self.notes.has_errors() {
            return None;
        }
        let precision = typing.precision.unwrap_or(Precision::AsIs);
        Some(Draft {
            name,
            source,
            toolchain,
            gpu,
            command: self.command(),
            precision,
            tf32: !self.options.has("--noTF32") && !self.tf32_is_off_by_environment(),
            rules: typing.rules,
            pinned: typing.pinned,
            in_vain: typing.in_vain,
            profiles,
            io,
            build,
            extra,
            notes: std::mem::take(&mut self.notes.sentences),
        })
    }

    fn command(&self) -> String {
        let program = self.run.program.as_ref().map_or("trtexec", |p| p.text.as_str());
        let arguments = self.run.arguments.iter().map(|a| a.text.as_str());
        std::iter::once(program).chain(arguments).map(trtexec::quoted).collect::<Vec<_>>().join(" ")
    }

    /// Runs that build nothing, or nothing that a manifest can be for.
    fn refuse(&mut self) {
        let cases = [
            ("--help", codes::PROGRAM, "this prints the help, and builds nothing"),
            ("--loadEngine", codes::PROGRAM, "this runs an engine that is there, and builds none"),
            ("--getPlanVersionOnly", codes::PROGRAM, "this looks at an engine, and builds none"),
            ("--dryRun", codes::PROGRAM, "this builds nothing"),
            ("--uff", codes::LOSSY, "the model is UFF; manifests are for ONNX"),
            ("--model", codes::LOSSY, "the model is of Caffe; manifests are for ONNX"),
            ("--deploy", codes::LOSSY, "the model is of Caffe; manifests are for ONNX"),
            ("--safe", codes::NOT_YET, "engines of the safety runtime are not supported yet"),
            (
                "--tuneBuildRoutes",
                codes::NOT_YET,
                "this builds many engines to choose from, which is not supported yet",
            ),
            (
                "--tuneBuildRouteFile",
                codes::NOT_YET,
                "this builds many engines to choose from, which is not supported yet",
            ),
        ];
        for (name, code, message) in cases {
            if let Some(given) = self.options.get(name) {
                let error = given.error(code, message);
                self.notes.error(match name {
                    "--loadEngine" if self.options.has("--saveEngine") => {
                        error.note("`trtexec` refuses `--loadEngine` together with `--saveEngine`")
                    }
                    "--loadEngine" => error.help("give the command that built the engine"),
                    _ => error,
                });
            }
        }
        for name in ["--batch", "--maxBatch", "--output"] {
            if let Some(given) = self.options.get(name).filter(|_| self.options.has("--onnx")) {
                let message = format!("`trtexec` refuses `{name}` with an ONNX model");
                self.notes.error(
                    given
                        .error(codes::CONFLICT, message)
                        .help("`--optShapes` and `--shapes` give the shapes of inputs"),
                );
            }
        }
        if let Some(given) = self
            .options
            .get("--useRuntime")
            .filter(|g| g.value != "full" && !self.options.has("--loadEngine"))
        {
            let message =
                format!("`trtexec` builds with `--useRuntime=full` alone, not with `{}`", given.word.text);
            self.notes.error(given.error(codes::CONFLICT, message).help("leave it out"));
        }
        if let (Some(given), true) =
            (self.options.get("--buildDLAStandalone"), self.options.has("--allowGPUFallback"))
        {
            let message = "`trtexec` refuses `--allowGPUFallback` together with `--buildDLAStandalone`";
            self.notes.error(given.error(codes::CONFLICT, message));
        }
    }

    fn source(&mut self) -> Option<PathBuf> {
        let Some(given) = self.options.get("--onnx").cloned() else {
            if !self.notes.has_errors() {
                let mut error = Diagnostic::error(codes::PROGRAM, "the command names no ONNX model");
                if let Some(word) = self.run.program.as_ref().or(self.run.arguments.first()) {
                    error = error.at(&word.origin, "");
                }
                self.notes.error(error.help("add `--onnx=MODEL.onnx`"));
            }
            return None;
        };
        let path = self.run.host_path(&given.value);
        if path.is_none() {
            let message = format!(
                "`{}` lies in the container: no folder of this machine is mounted there",
                given.value
            );
            self.notes
                .error(given.error(codes::LOSSY, message).help("mount its folder with `-v FOLDER:FOLDER`"));
        }
        path
    }

    fn name(&mut self, wishes: &Wishes, source: &Path) -> Option<String> {
        if let Some(name) = &wishes.name {
            return Some(name.clone());
        }
        let stem = source.file_stem().unwrap_or_default().to_string_lossy();
        let name = model_name(&stem);
        if name.is_none() {
            let message = format!("no name for the model can be made of `{stem}`");
            self.notes.error(Diagnostic::error(codes::NAME, message).help("give one with `--name`"));
        }
        name
    }

    fn gpu(&mut self, wishes: &Wishes) -> Option<Gpu> {
        if let Some(wanted) = &wishes.gpu {
            if let Some(model) = gpu::model(wanted) {
                return Some(Gpu::Named(model));
            }
            if let Ok(sm) = wanted.parse::<Sm>() {
                return Some(Gpu::Sm(sm));
            }
            let mut error = Diagnostic::error(codes::GPU, format!("unknown GPU `{wanted}`"));
            let near = gpu::nearest_names(wanted);
            if !near.is_empty() {
                error = error.help(format!("did you mean one of {}?", listed(near.iter().copied())));
            }
            self.notes.error(error.help("or give its compute capability instead, such as `sm_86`"));
            return None;
        }
        if let Some(model) = self.run.gpu.as_deref().and_then(gpu::model) {
            return Some(Gpu::Named(model));
        }
        let sm =
            self.run.capability.as_deref().and_then(|c| format!("sm_{}", c.replace('.', "")).parse().ok());
        if let Some(sm) = sm {
            return Some(Gpu::Sm(sm));
        }
        let message = format!(
            "the command line does not say for which GPU it is: `gpu = \"{SOME_GPU}\"` only stands there so that there is one"
        );
        self.notes.warning(
            Diagnostic::warning(codes::GPU, message)
                .help("give it with `--gpu`; an engine is not built on another GPU than its target's"),
        );
        Some(Gpu::Named(SOME_GPU.to_owned()))
    }

    /// What stands around the command: environment, redirections, limits.
    fn surroundings(&mut self) {
        let mut dropped = Vec::new();
        for (name, word) in &self.run.environment {
            match name.as_str() {
                // In effect through the root of the toolchain.
                "LD_LIBRARY_PATH" | "PATH" => {}
                "NVIDIA_TF32_OVERRIDE" if word.text == "0" => {}
                _ => dropped.push((name.clone(), word)),
            }
        }
        if let Some((_, word)) = dropped.first() {
            let names = listed(dropped.iter().map(|(name, _)| name.as_str()));
            let message = format!(
                "{names} is not passed on: engines are built in an environment that is always the same"
            );
            self.notes.note(Diagnostic::error(codes::NO_MEANING, message).at(&word.origin, ""));
        }
        if let Some(word) = self.run.outputs.first() {
            let all = listed(self.run.outputs.iter().map(|w| w.text.as_str()));
            let message =
                format!("{all} has no meaning here: `enginewright log ENGINE` shows the log of a build");
            self.notes.note(Diagnostic::error(codes::NO_MEANING, message).at(&word.origin, ""));
        }
    }

    fn tf32_is_off_by_environment(&self) -> bool {
        self.run.environment.iter().any(|(name, word)| name == "NVIDIA_TF32_OVERRIDE" && word.text == "0")
    }

    /// `--inputIOFormats` and `--outputIOFormats`: types go to `io`, formats to the build.
    fn formats(
        &mut self,
        model: Option<&Model>,
        precision: Option<Precision>,
        build: &mut Vec<(&'static str, Value)>,
        extra: &mut Vec<String>,
    ) -> BTreeMap<String, &'static str> {
        let mut io = BTreeMap::new();
        let cases = [("--inputIOFormats", "input-formats"), ("--outputIOFormats", "output-formats")];
        for (option, key) in cases {
            let Some(given) = self.options.get(option).cloned() else { continue };
            let tensors = model
                .map(|m| if option == "--inputIOFormats" { &m.summary.inputs } else { &m.summary.outputs });
            let Some(formats) = io_formats(&given.value, self.version) else {
                let form = if self.version >= Version(11, 0, 0) { "chw" } else { "fp16:chw" };
                let message = format!("`{}` is no list of formats such as `{form}`", given.value);
                self.notes.error(given.error(codes::VALUE, message));
                continue;
            };
            let count = tensors.map_or(formats.len(), Vec::len);
            if formats.len() != 1 && formats.len() != count {
                let message = format!("`{option}` has {} formats, the model has {count}", formats.len());
                self.notes.error(
                    given
                        .error(codes::CONFLICT, message)
                        .help("give one for all, or one for each in their order"),
                );
                continue;
            }
            let types = tensors.and_then(|tensors| io_types(&formats, tensors, precision));
            let Some(types) = types else {
                extra.push(given.word.text.clone());
                let message = format!("`{}` is passed to `trtexec` as it is", given.word.text);
                self.notes.note(given.error(codes::VERBATIM, message));
                continue;
            };
            io.extend(types);
            if formats.iter().any(|(_, layout)| *layout != "chw") {
                let every = (0..count).map(|at| formats[at.min(formats.len() - 1)].1);
                build.push((key, Value::from(every.collect::<Array>())));
            }
        }
        io
    }

    /// Everything that is in no other step: told if it has no meaning, passed on if it decides what is built.
    fn others(&mut self, extra: &mut Vec<String>) {
        let is_strong = self.version >= Version(11, 0, 0) || self.options.has("--stronglyTyped");
        let calibrates = !is_strong && (self.options.has("--int8") || self.options.has("--best"));
        let mut silent: Vec<&Given> = Vec::new();
        for given in &self.options.given {
            let name = given.flag.name();
            if MAPPED.contains(&name) || super::build::OPTIONS.contains(&name) {
                continue;
            }
            match given.flag.does {
                _ if UNTIMED.contains(&name) => silent.push(given),
                Does::Build if CALIBRATION.contains(&name) && !calibrates => {
                    let message = format!("`{name}` is ignored without `--int8`");
                    self.notes.warning(given.error(codes::IGNORED, message));
                }
                Does::Build => {
                    extra.push(self.verbatim(given));
                    let message = format!("`{}` is passed to `trtexec` as it is", given.word.text);
                    let mut note = given.error(codes::VERBATIM, message);
                    if names_a_file(given) {
                        note = note.note("the content of a file that it names is in no key: raise `epoch` when that changes");
                    }
                    self.notes.note(note);
                }
                Does::Nothing => {
                    let message = format!("`{name}` has no effect in TensorRT {}", self.version);
                    self.notes.note(given.error(codes::IGNORED, message));
                }
                Does::Output | Does::Model | Does::Inference | Does::Report | Does::System => {
                    silent.push(given)
                }
            }
        }
        let group = |does: &[Does]| -> Vec<&Given> {
            let does_one = |g: &&Given| match UNTIMED.contains(&g.flag.name()) {
                true => does.contains(&Does::Inference),
                false => does.contains(&g.flag.does),
            };
            silent.iter().copied().filter(does_one).collect()
        };
        let groups = [
            (group(&[Does::Inference]), "engines are built here, and not timed"),
            (group(&[Does::Report]), "`enginewright log`, `status` and `report` show what was built"),
            (group(&[Does::System]), "enginewright chooses it, in no key"),
            (group(&[Does::Output, Does::Model]), "engines go below `engines/`"),
        ];
        for (given, why) in groups {
            let Some(first) = given.first() else { continue };
            let names = listed(given.iter().map(|g| g.flag.name()));
            let what = if given.len() == 1 { "has" } else { "have" };
            let message = format!("{names} {what} no meaning here: {why}");
            self.notes.note(first.error(codes::NO_MEANING, message));
        }
    }

    /// An option as it was given; builds run in a folder of their own, so that paths start at the root.
    fn verbatim(&self, given: &Given) -> String {
        let file =
            (given.flag.argument == Argument::File).then(|| self.run.host_path(&given.value)).flatten();
        match file {
            Some(path) => format!("{}={}", given.spelling, path.display()),
            None => given.word.text.clone(),
        }
    }

    /// What TensorRT 11 does not take any more.
    fn gone(&mut self) {
        let eleven = Version(11, 0, 0);
        if self.version >= eleven {
            return;
        }
        let gone = self.options.given.iter().filter(|g| g.flag.until().is_some_and(|until| until <= eleven));
        let gone = gone.filter(|g| g.flag.does == Does::Build && !UNTIMED.contains(&g.flag.name()));
        let (said, other): (Vec<&Given>, Vec<&Given>) = gone.partition(|g| SAID.contains(&g.flag.name()));
        if let Some(first) = said.first() {
            let names = listed(said.iter().map(|g| g.flag.name()));
            let message = format!(
                "TensorRT 11 does not take {names} any more; this manifest says it for TensorRT 11 too"
            );
            let note = first.error(codes::GONE, message);
            self.notes
                .note(note.note("there the types are put into the ONNX, and only the toolchain is another"));
        }
        for given in other {
            let message = format!("TensorRT 11 does not take `{}` any more", given.flag.name());
            let mut note = given.error(codes::GONE, message);
            if let Some(instead) = given.flag.instead {
                note = note.note(format!("in its place there is {instead}"));
            }
            self.notes.note(note);
        }
    }
}

/// Options that say what is so here anyway: that the engine is not timed.
const UNTIMED: &[&str] = &["--skipInference", "--buildOnly"];

/// Options that are about INT8 scales.
const CALIBRATION: &[&str] =
    &["--calib", "--calibProfile", "--minShapesCalib", "--optShapesCalib", "--maxShapesCalib"];

/// Options that other steps are about.
const MAPPED: &[&str] = &[
    "--onnx",
    "--minShapes",
    "--optShapes",
    "--maxShapes",
    "--profile",
    "--shapes",
    "--noTF32",
    "--fp16",
    "--bf16",
    "--int8",
    "--fp8",
    "--int4",
    "--best",
    "--stronglyTyped",
    "--precisionConstraints",
    "--layerPrecisions",
    "--layerOutputTypes",
    "--inputIOFormats",
    "--outputIOFormats",
    "--useRuntime",
];

/// Options of the build that keys of the manifest stand for, whatever the version.
const SAID: &[&str] =
    &["--fp16", "--bf16", "--layerPrecisions", "--layerOutputTypes", "--precisionConstraints", "--workspace"];

/// `TYPE:FORMAT+FORMAT,…`, or `FORMAT,…` from 11.0 on.
fn io_formats(value: &str, version: Version) -> Option<Vec<(Option<&str>, &str)>> {
    let (types, formats) = (flags::words("types", version), flags::words("formats", version));
    let elements = values::list(value, version).ok()?;
    let parts = elements.into_iter().map(|element| {
        let (of, layout) = match element.split_once(':') {
            Some((of, layout)) => (Some(of), layout),
            None if version >= Version(11, 0, 0) => (None, element),
            None => return None,
        };
        let is_known =
            of.is_none_or(|of| types.contains(&of)) && layout.split('+').all(|l| formats.contains(&l));
        is_known.then_some((of, layout))
    });
    parts.collect()
}

/// The types that differ from those of the model, as `io` says them; none if it cannot.
fn io_types(
    formats: &[(Option<&str>, &str)],
    tensors: &[Tensor],
    precision: Option<Precision>,
) -> Option<BTreeMap<String, &'static str>> {
    let mut types = BTreeMap::new();
    for (at, tensor) in tensors.iter().enumerate() {
        let Some(wanted) = formats[at.min(formats.len() - 1)].0 else { continue };
        let declared = match tensor.element.as_str() {
            "float" => "fp32",
            "float16" => "fp16",
            "bfloat16" => "bf16",
            other => other,
        };
        if wanted == declared {
            continue;
        }
        let floats = ["fp32", "fp16", "bf16"];
        let integers = ["int32", "int64"];
        let word = |all: &[&'static str]| {
            all.iter().copied().find(|word| *word == wanted).filter(|_| all.contains(&declared))
        };
        precision?;
        types.insert(tensor.name.clone(), word(&floats).or_else(|| word(&integers))?);
    }
    Some(types)
}

fn names_a_file(given: &Given) -> bool {
    matches!(given.flag.argument, Argument::File | Argument::Files)
}

/// A name for a model, made of a file's; none if nothing of it can stand in a name.
fn model_name(stem: &str) -> Option<String> {
    let mut name = String::new();
    for c in stem.chars().flat_map(char::to_lowercase) {
        match c {
            c if c.is_ascii_alphanumeric() || (!name.is_empty() && "._".contains(c)) => name.push(c),
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    name.truncate(64);
    let name = name.trim_end_matches(['-', '.', '_']).to_owned();
    (!name.is_empty()).then_some(name)
}
