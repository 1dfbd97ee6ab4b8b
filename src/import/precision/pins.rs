//! Names in `--layerPrecisions` and `--layerOutputTypes`, with the nodes that they really hit, to rules.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Diagnostic, nearest};
use crate::import::draft::Rule;
use crate::import::layers::{self, Entry, Hits};
use crate::import::model::Model;
use crate::import::notes::{Notes, listed, shown};
use crate::import::options::Given;
use crate::import::{Version, codes};
use crate::manifest::{Precision, glob_of};

/// What the two options say.
pub(super) struct Pins<'a> {
    pub(super) version: Version,
    pub(super) model: Option<&'a Model>,
    pub(super) compute: &'a [Entry],
    pub(super) outputs: &'a [Entry],
    /// The option to point at.
    pub(super) first: &'a Given,
}

impl Pins<'_> {
    /// The rules; `pinned` becomes the nodes of the model that they are about.
    pub(super) fn rules(
        &self,
        outputs: Option<&Given>,
        pinned: &mut BTreeSet<String>,
        notes: &mut Notes,
    ) -> Vec<Rule> {
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
                    made.extend(new.iter().map(|node| (false, glob_of(node), precision)));
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
        Some((start, end)) => format!("{}*{}", glob_of(start), glob_of(end)),
        None => glob_of(name),
    }
}

/// Rules of globs: those with wildcards first, since a name alone wins over them and the last rule decides.
fn group(made: impl Iterator<Item = (bool, String, Precision)>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut exact: Vec<Rule> = Vec::new();
    let mut seen: BTreeSet<(&'static str, String)> = BTreeSet::new();
    for (is_wildcard, glob, precision) in made {
        let what = precision.name();
        if is_wildcard {
            rules.push(Rule { name: format!("layers `{glob}` are {what}"), nodes: vec![glob], precision });
            continue;
        }
        if !seen.insert((what, glob.clone())) {
            continue;
        }
        match exact.iter_mut().find(|rule| rule.precision == precision) {
            Some(rule) => rule.nodes.push(glob),
            None => {
                exact.push(Rule { name: format!("these layers are {what}"), nodes: vec![glob], precision })
            }
        }
    }
    rules.append(&mut exact);
    rules
}
