//! `--fp16`, `--layerPrecisions` and the like, to a precision and rules.

mod pins;

use std::collections::BTreeSet;

use super::draft::Rule;
use super::layers::Entry;
use super::model::Model;
use super::notes::{Notes, listed};
use super::options::{Given, Options};
use super::{Version, codes, values};
use crate::diagnostic::nearest;
use crate::manifest::Precision;
use crate::toolchain::trtexec::flags;
use pins::Pins;

/// What the options say of types.
#[derive(Debug, Default)]
pub(super) struct Typing {
    pub(super) precision: Option<Precision>,
    /// Are the types those of the ONNX file, and nothing else?
    pub(super) is_strong: bool,
    pub(super) rules: Vec<Rule>,
    pub(super) in_vain: Vec<Rule>,
    /// The nodes that the rules are about, if the model is at hand.
    pub(super) pinned: BTreeSet<String>,
    /// Options that are passed as they are.
    pub(super) extra: Vec<String>,
}

/// Options that let TensorRT use a type.
const MODES: [&str; 6] = ["--fp16", "--bf16", "--int8", "--fp8", "--int4", "--best"];

pub(super) fn typing(
    options: &Options,
    version: Version,
    model: Option<&Model>,
    notes: &mut Notes,
) -> Typing {
    let is_strong = version >= Version(11, 0, 0) || options.has("--stronglyTyped");
    let mut typing = Typing { is_strong, ..Typing::default() };
    if is_strong {
        dropped(options, version, notes);
        return typing;
    }
    let half = options.has("--fp16") || options.has("--best");
    typing.precision = match (half, options.has("--bf16")) {
        (true, _) => Some(Precision::Fp16),
        (false, true) => Some(Precision::Bf16),
        (false, false) => None,
    };
    for given in options.given.iter().filter(|g| MODES.contains(&g.flag.name())) {
        mode(given, options, model, &mut typing, notes);
    }
    pinned(options, version, model, &mut typing, notes);
    typing
}

/// Options that a strongly typed network makes TensorRT drop.
fn dropped(options: &Options, version: Version, notes: &mut Notes) {
    let given = options.given.iter().filter(|g| MODES.contains(&g.flag.name()));
    for given in given {
        let message = format!(
            "TensorRT {version} drops `{}` with `--stronglyTyped`: types are those of the ONNX file",
            given.spelling
        );
        let precision = match given.flag.name() {
            "--fp16" | "--best" => "fp16",
            "--bf16" => "bf16",
            _ => "",
        };
        let mut warning = given.error(codes::IGNORED, message);
        if !precision.is_empty() {
            warning = warning.help(format!(
                "if it is meant, write `precision = \"{precision}\"` into the manifest: it makes the types"
            ));
        }
        notes.warning(warning);
    }
    for name in ["--layerPrecisions", "--layerOutputTypes", "--precisionConstraints"] {
        if let Some(given) = options.get(name) {
            let message = format!("`{name}` has no effect with `--stronglyTyped`");
            notes.warning(given.error(codes::IGNORED, message));
        }
    }
}

/// One option that allows a type.
fn mode(given: &Given, options: &Options, model: Option<&Model>, typing: &mut Typing, notes: &mut Notes) {
    let name = given.flag.name();
    match name {
        "--fp16" => {}
        "--bf16" if typing.precision == Some(Precision::Bf16) => {}
        "--bf16" | "--fp8" | "--int4" => {
            typing.extra.push(name.to_owned());
            let message = format!(
                "`{name}` is passed to `trtexec` as it is: which nodes use it is left to TensorRT, and not known here"
            );
            notes.note(given.error(codes::VERBATIM, message));
        }
        "--int8" | "--best" => {
            typing.extra.push(name.to_owned());
            let quantized = model.is_some_and(Model::is_quantized);
            if quantized {
                let message = format!(
                    "`{name}` is passed to `trtexec` as it is: QuantizeLinear and DequantizeLinear in the model say what is INT8"
                );
                notes.note(given.error(codes::VERBATIM, message));
            } else if options.has("--calib") {
                let message = format!(
                    "`{name}` is passed to `trtexec` as it is: which nodes are INT8 is left to TensorRT, and not known here"
                );
                notes.note(given.error(codes::VERBATIM, message));
            } else if model.is_some() {
                let message = format!(
                    "with `{name}`, without `--calib` and without QuantizeLinear in the model, `trtexec` makes INT8 scales up: \
                     the engine is for timing alone, and its outputs mean nothing"
                );
                notes.warning(
                    given.error(codes::VERBATIM, message).help("quantize the model, or leave the option out"),
                );
            } else {
                let message = format!(
                    "`{name}` is passed to `trtexec` as it is; if the model has no QuantizeLinear, `trtexec` makes INT8 scales up, and the outputs mean nothing"
                );
                notes.warning(given.error(codes::VERBATIM, message));
            }
        }
        _ => {}
    }
    if name == "--fp8" && options.has("--int8") {
        notes.error(
            given
                .error(codes::CONFLICT, "`trtexec` refuses `--fp8` together with `--int8`")
                .help("keep one of them"),
        );
    }
}

/// `--layerPrecisions` and `--layerOutputTypes`.
fn pinned(
    options: &Options,
    version: Version,
    model: Option<&Model>,
    typing: &mut Typing,
    notes: &mut Notes,
) {
    let compute = options.get("--layerPrecisions");
    let outputs = options.get("--layerOutputTypes");
    let constraints = options.get("--precisionConstraints");
    let (Some(first), constraint) = (compute.or(outputs), constraints.map(|g| g.value.as_str())) else {
        if let Some(given) = constraints.filter(|g| g.value != "none") {
            let message = format!(
                "`{}` has no effect without `--layerPrecisions` or `--layerOutputTypes`",
                given.word.text
            );
            notes.warning(given.error(codes::IGNORED, message));
        }
        return;
    };
    let read =
        |given: Option<&Given>, notes: &mut Notes| given.map_or(Vec::new(), |g| entries(g, version, notes));
    let compute_entries = read(compute, notes);
    let output_entries = read(outputs, notes);
    if notes.has_errors() {
        return;
    }
    let mut pinned = BTreeSet::new();
    let pins = Pins { version, model, compute: &compute_entries, outputs: &output_entries, first };
    let rules = pins.rules(outputs, &mut pinned, notes);
    match constraint {
        Some("obey") => {}
        Some("prefer") => {
            let message = "`--precisionConstraints=prefer` lets TensorRT choose another type where it has no kernel; this manifest \
                           holds it to the rules, and such a build fails";
            if let Some(given) = constraints {
                notes.warning(given.error(codes::STRICTER, message));
            }
        }
        _ => {
            let names = listed([compute, outputs].into_iter().flatten().map(|g| g.flag.name()));
            let message = format!(
                "without `--precisionConstraints=obey` or `prefer`, {names} has no effect, in silence"
            );
            notes.warning(
                first
                    .error(codes::IGNORED, message)
                    .help("the rules that are meant are in the manifest as comments"),
            );
            typing.in_vain = rules;
            return;
        }
    }
    let lowers = |rule: &Rule| rule.precision != Precision::Fp32;
    if typing.precision.is_none() && !rules.iter().any(lowers) {
        let message =
            "without `--fp16` or another such option, all layers are FP32: `--layerPrecisions` has no effect";
        notes.warning(first.error(codes::IGNORED, message));
        return;
    }
    for rule in rules.iter().filter(|rule| lowers(rule)) {
        let option = format!("--{}", rule.precision.name());
        if typing.precision.is_none() && !options.has(&option) {
            let message =
                format!("a layer is to be {}, which needs `{option}`", rule.precision.name().to_uppercase());
            notes.error(
                first.error(codes::CONFLICT, message).help(format!("add `{option}`, or leave the layer out")),
            );
            return;
        }
    }
    typing.rules = rules;
    typing.pinned = pinned;
}

/// `NAME:TYPE,…` or `NAME:TYPE+TYPE,…`
fn entries(given: &Given, version: Version, notes: &mut Notes) -> Vec<Entry> {
    let mut entries = Vec::new();
    let known = flags::words("types", version);
    let list = values::list(&given.value, version).unwrap_or_else(|why| {
        notes.error(given.error(codes::VALUE, format!("`{}`: {why}", given.spelling)));
        Vec::new()
    });
    for element in list {
        let (name, types) = match values::pair(element) {
            Ok((name, types)) => (name, types.split('+').map(str::to_owned).collect::<Vec<_>>()),
            Err(why) => {
                let error = given.error(codes::VALUE, format!("`{}`: {why}", given.spelling));
                notes.error(
                    error.help("names that hold a comma or a quote cannot be written in `trtexec`'s options"),
                );
                continue;
            }
        };
        if let Some(bad) = types.iter().find(|of| !known.contains(&of.as_str())) {
            let mut error = given.error(codes::VALUE, format!("`{bad}` is no type in TensorRT {version}"));
            error = error.note(format!("its types are {}", listed(known.iter().copied())));
            if let Some((since, _)) = flags::word_versions("types", bad) {
                error = error.note(format!("`{bad}` exists from {since} on"));
            } else if let Some(near) = nearest(bad, known.iter().copied()) {
                error = error.help(format!("did you mean `{near}`?"));
            }
            notes.error(error);
            continue;
        }
        entries.push(Entry { name, types });
    }
    entries
}
