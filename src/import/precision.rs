//! `--fp16`, `--layerPrecisions` and the like, to a precision and rules.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::Rule;
use super::layers::{self, Entry, Hits};
use super::model::Model;
use super::notes::{Notes, listed, shown};
use super::options::{Given, Options};
use super::{Version, codes, values};
use crate::diagnostic::{Diagnostic, nearest};
use crate::manifest::Precision;
use crate::toolchain::trtexec::flags;

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

struct Pins<'a> {
    version: Version,
    model: Option<&'a Model>,
    compute: &'a [Entry],
    outputs: &'a [Entry],
    /// The option to point at.
    first: &'a Given,
}

impl Pins<'_> {
    /// The rules; `pinned` becomes the nodes of the model that they are about.
    fn rules(&self, outputs: Option<&Given>, pinned: &mut BTreeSet<String>, notes: &mut Notes) -> Vec<Rule> {
        for entry in self.outputs {
            let Some(real) = layers::output_type_is_lost(entry, self.outputs, self.version) else { continue };
            let message = format!(
                "TensorRT {} does not look at the type of `{}:{}` in `--layerOutputTypes`: what a name with `*` matches becomes {real}",
                self.version,
                entry.name,
                entry.types.join("+")
            );
            notes.warning(outputs.unwrap_or(self.first).error(codes::IGNORED, message));
        }
        match self.model {
            Some(model) => self.of_model(model, pinned, notes),
            None => self.by_name(notes),
        }
    }

    /// Without the model, names are taken as they are.
    fn by_name(&self, notes: &mut Notes) -> Vec<Rule> {
        let message =
            "the model is not at hand: which nodes the names of `--layerPrecisions` hit could not be checked";
        let mut note = self.first.error(codes::MODEL, message);
        note = note.note("a name that hits nothing is an error here, where `trtexec` ignores it");
        notes.warning(note.help("run this where the ONNX file lies"));
        let possible = |entries: &[Entry], notes: &mut Notes| -> Vec<Entry> {
            let (never, possible): (Vec<_>, Vec<_>) =
                entries.iter().cloned().partition(|entry| layers::hits_nothing(&entry.name, self.version));
            for entry in never {
                notes.warning(self.odd_pattern(&entry.name));
            }
            possible
        };
        let (compute, outputs) = (possible(self.compute, notes), possible(self.outputs, notes));
        let names = |entries: &[Entry]| entries.iter().map(|e| e.name.clone()).collect::<BTreeSet<String>>();
        let (computed, given) = (names(&compute), names(&outputs));
        self.free_outputs(&computed.difference(&given).map(String::as_str).collect(), notes);
        self.only_outputs(&given.difference(&computed).map(String::as_str).collect(), notes);
        let mut made = Vec::new();
        for entry in compute.iter().chain(outputs.iter().filter(|e| !computed.contains(&e.name))) {
            let of = entry.types.first().map_or("", String::as_str);
            let of_output = outputs.iter().find(|e| e.name == entry.name).and_then(|e| e.types.first());
            if let Some(output) = of_output.filter(|output| *output != of) {
                self.two_types(&entry.name, of, output, notes);
            }
            let precision = self.precision(of, &entry.name, notes);
            let is_wildcard = layers::is_wildcard(&entry.name, self.version);
            made.extend(precision.map(|precision| (is_wildcard, wildcard(&entry.name), precision)));
        }
        group(made.into_iter())
    }

    /// A pattern that this version does not take as one.
    fn odd_pattern(&self, name: &str) -> Diagnostic {
        let message = format!(
            "`{name}` hits no layer in TensorRT {}, which ignores it in silence; it is left out",
            self.version
        );
        let warning = self.first.error(codes::IGNORED, message);
        if self.version < Version(9, 0, 0) {
            return warning.note(
                "before TensorRT 9.0 only `*` alone stands for all layers; inside a name it is a character",
            );
        }
        warning.note("a name may have one `*`; the second one is a character like any other")
    }

    /// With the model, every name is held against its layers.
    fn of_model(&self, model: &Model, pinned: &mut BTreeSet<String>, notes: &mut Notes) -> Vec<Rule> {
        let compute = layers::hits(self.compute, &model.layers, self.version);
        let outputs = layers::hits(self.outputs, &model.layers, self.version);
        for (entries, hits, option) in
            [(self.compute, &compute, "--layerPrecisions"), (self.outputs, &outputs, "--layerOutputTypes")]
        {
            self.told(entries, hits, option, model, notes);
        }
        let only_compute =
            compute.types.keys().filter(|n| !outputs.types.contains_key(*n)).map(String::as_str);
        self.free_outputs(&only_compute.collect(), notes);
        let only_outputs =
            outputs.types.keys().filter(|n| !compute.types.contains_key(*n)).map(String::as_str);
        self.only_outputs(&only_outputs.collect(), notes);
        pinned.extend(compute.types.keys().chain(outputs.types.keys()).cloned());
        let mut types: BTreeMap<&str, &str> = BTreeMap::new();
        for (node, of) in compute.types.iter().chain(&outputs.types) {
            types.entry(node).or_insert(of);
        }
        for (node, of) in &outputs.types {
            if let Some(computed) = compute.types.get(node).filter(|computed| *computed != of) {
                self.two_types(node, computed, of, notes);
            }
        }
        // A wildcard stays one where it means the same in a manifest; else the nodes that it hit are written.
        let mut made: Vec<(bool, String, Precision)> = Vec::new();
        let mut written: BTreeSet<&str> = BTreeSet::new();
        for (entries, hits) in [(self.compute, &compute), (self.outputs, &outputs)] {
            for (entry, nodes) in entries.iter().zip(&hits.nodes) {
                let of = entry.types.first().map_or("", String::as_str);
                let new: Vec<&String> = nodes.iter().filter(|n| !written.contains(n.as_str())).collect();
                if new.is_empty() {
                    continue;
                }
                let Some(precision) = self.precision(of, &entry.name, notes) else { continue };
                let glob = wildcard(&entry.name);
                if layers::is_wildcard(&entry.name, self.version) && self.is_same(&glob, of, &types, model) {
                    made.push((true, glob, precision));
                } else {
                    made.extend(new.iter().map(|node| (false, globset::escape(node), precision)));
                }
                written.extend(new.iter().map(|n| n.as_str()));
            }
        }
        group(made.into_iter())
    }

    /// Does a glob select what has this type, and nothing that exact names do not put right later?
    fn is_same(&self, glob: &str, of: &str, types: &BTreeMap<&str, &str>, model: &Model) -> bool {
        let Ok(matcher) = globset::Glob::new(glob).map(|g| g.compile_matcher()) else { return false };
        let is_exact = |node: &str| self.compute.iter().chain(self.outputs).any(|e| e.name == node);
        model
            .nodes()
            .filter(|node| matcher.is_match(node))
            .all(|node| types.get(node) == Some(&of) || is_exact(node))
    }

    /// What a version does with the names of an option, told with the nodes that it really hits.
    fn told(&self, entries: &[Entry], hits: &Hits, option: &str, model: &Model, notes: &mut Notes) {
        for ((entry, nodes), matches) in entries.iter().zip(&hits.nodes).zip(&hits.matches) {
            let text = format!("`{}:{}`", entry.name, entry.types.join("+"));
            if !matches {
                notes.warning(self.unmatched(entry, &text, option, model));
            } else if layers::is_wildcard(&entry.name, self.version) && !nodes.is_empty() {
                let many = nodes.len();
                let what = if many == 1 { "node" } else { "nodes" };
                let shown = shown(nodes.iter().map(String::as_str));
                let message =
                    format!("{text} of `{option}` hits {many} {what} in TensorRT {}: {shown}", self.version);
                notes.note(self.first.error(codes::IGNORED, message));
            }
        }
        for (node, names) in &hits.undefined {
            let message = format!(
                "several names of `{option}` match the layer `{node}` and give it different types: which one wins is not defined"
            );
            let error = self
                .first
                .error(codes::CONFLICT, message)
                .note(format!("they are {}", listed(names.iter().map(String::as_str))));
            notes.error(error.help("name this layer without `*`, or make the names not overlap"));
        }
    }

    fn unmatched(&self, entry: &Entry, text: &str, option: &str, model: &Model) -> Diagnostic {
        let message = format!(
            "{text} of `{option}` hits no layer in TensorRT {}, which ignores it in silence; it is left out",
            self.version
        );
        let warning = self.first.error(codes::IGNORED, message);
        let named = |name: &str| model.layers.iter().find(|layer| layer.node == name);
        if let Some(layer) = named(&entry.name) {
            return match layer.op.as_str() {
                "LayerNormalization" => warning
                    .note("up to TensorRT 10.0 the layer of a LayerNormalization has a made-up name, and cannot be named in an option"),
                _ => warning.note("the node has no name of its own, and its layer a made-up one"),
            };
        }
        if layers::hits_nothing(&entry.name, self.version) {
            return Diagnostic { message: warning.message, ..self.odd_pattern(&entry.name) };
        }
        if entry.name.contains('*') {
            return warning;
        }
        let below: Vec<&str> = model.nodes().filter(|node| node.contains(&entry.name)).collect();
        if !below.is_empty() {
            let shown = shown(below.iter().copied());
            return warning
                .help(format!("a name must be whole; nodes that have it in their names are {shown}"));
        }
        let by_op = |layer: &&layers::Layer| layer.op.eq_ignore_ascii_case(&entry.name);
        let of_op: Vec<&str> = model.layers.iter().filter(by_op).map(|layer| layer.node.as_str()).collect();
        if !of_op.is_empty() {
            let shown = shown(of_op.iter().copied());
            return warning.help(format!("it is an operator, not a name; its nodes are {shown}; a rule can say `select = {{ op = \"{}\" }}`", entry.name));
        }
        match nearest(&entry.name, model.nodes()) {
            Some(near) => warning.help(format!("the nearest name is `{near}`")),
            None => warning,
        }
    }

    fn free_outputs(&self, nodes: &BTreeSet<&str>, notes: &mut Notes) {
        if nodes.is_empty() {
            return;
        }
        let message = format!(
            "`--layerOutputTypes` does not name {}: `trtexec` leaves the type of the output to TensorRT, this manifest does not",
            shown(nodes.iter().copied())
        );
        notes.warning(self.first.error(codes::STRICTER, message));
    }

    fn only_outputs(&self, nodes: &BTreeSet<&str>, notes: &mut Notes) {
        if nodes.is_empty() {
            return;
        }
        let message = format!(
            "only `--layerOutputTypes` names {}: `trtexec` leaves the type they compute in to TensorRT, this manifest does not",
            shown(nodes.iter().copied())
        );
        notes.warning(self.first.error(codes::STRICTER, message));
    }

    fn two_types(&self, node: &str, computed: &str, output: &str, notes: &mut Notes) {
        let message =
            format!("`{node}` is to compute in {computed} and give {output}, which a rule cannot say");
        notes.lossy(self.first, message);
    }

    /// The precision of a type; others than floats are no precision of a rule.
    fn precision(&self, of: &str, name: &str, notes: &mut Notes) -> Option<Precision> {
        match of {
            "fp32" => Some(Precision::Fp32),
            "fp16" => Some(Precision::Fp16),
            "bf16" => Some(Precision::Bf16),
            other => {
                notes.lossy(self.first, format!("`{name}:{other}`: a rule can say fp32, fp16 and bf16"));
                None
            }
        }
    }
}

/// A name with one `*` as a glob.
fn wildcard(name: &str) -> String {
    match name.split_once('*') {
        Some((start, end)) => format!("{}*{}", globset::escape(start), globset::escape(end)),
        None => globset::escape(name),
    }
}

/// Rules of globs: those with wildcards first, since a name alone wins over them and the last rule decides.
fn group(made: impl Iterator<Item = (bool, String, Precision)>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut exact: Vec<Rule> = Vec::new();
    for (is_wildcard, glob, precision) in made {
        let what = precision.name();
        if is_wildcard {
            rules.push(Rule { name: format!("layers `{glob}` are {what}"), nodes: vec![glob], precision });
            continue;
        }
        match exact.iter_mut().find(|rule| rule.precision == precision) {
            Some(rule) if rule.nodes.contains(&glob) => {}
            Some(rule) => rule.nodes.push(glob),
            None => {
                exact.push(Rule { name: format!("these layers are {what}"), nodes: vec![glob], precision })
            }
        }
    }
    rules.append(&mut exact);
    rules
}
