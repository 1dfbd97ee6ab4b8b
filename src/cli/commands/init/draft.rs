//! The text of a manifest, with comments that teach.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use super::ranges::{self, Guesses};
use super::targets::Targets;
use super::{Model, SCHEMA_FILE};
use crate::build::ModelRules;
use crate::cli::output;
use crate::diagnostic::{Diagnostic, Level};
use crate::manifest::{Precision, toml_key};
use crate::onnx::Tensor;
use crate::plan::{self, ModelRef, show_dims};
use crate::precision::FloatType;

/// A manifest in the making.
pub(super) struct Draft<'a> {
    model: &'a Model,
    file: &'a Path,
    targets: &'a Targets,
    facts: Option<&'a ModelRef>,
    guesses: Guesses,
    /// Integer inputs of which nobody tells the range.
    untold: Vec<&'a Tensor>,
    pub(super) precision: Precision,
    /// Why the model keeps its types, if it must.
    why_as_is: Vec<String>,
    /// Rules that mend what is wrong, as TOML.
    pub(super) rules: Vec<String>,
    /// What the rules came to.
    pub(super) shown: Shown,
    /// What is worth knowing.
    pub(super) warned: Vec<Diagnostic>,
}

/// What the rules decided.
#[derive(Default)]
pub(super) struct Shown {
    nodes: usize,
    fp32: usize,
    /// By the name of the rule: nodes, and instances of patterns.
    by_rule: Vec<(String, usize, Option<usize>)>,
}

impl Shown {
    pub(super) fn of(rules: &ModelRules) -> Shown {
        let Some(assignment) = &rules.assignment else { return Shown::default() };
        let matched = rules.rules.iter().zip(&assignment.rules).filter(|(_, matched)| matched.nodes > 0);
        Shown {
            nodes: assignment.nodes.len(),
            fp32: assignment.count(FloatType::Fp32),
            by_rule: matched.map(|(rule, m)| (rule.spec.name.clone(), m.nodes, m.instances)).collect(),
        }
    }
}

impl<'a> Draft<'a> {
    pub(super) fn new(model: &'a Model, file: &'a Path, targets: &'a Targets) -> Draft<'a> {
        Draft {
            model,
            file,
            targets,
            facts: None,
            guesses: Guesses::default(),
            untold: Vec::new(),
            precision: Precision::AsIs,
            why_as_is: Vec::new(),
            rules: Vec::new(),
            shown: Shown::default(),
            warned: Vec::new(),
        }
    }

    /// As little as is needed to read the model.
    pub(super) fn probe(&self) -> String {
        format!("schema = 1\n{}", self.model_head())
    }

    pub(super) fn of_model(&mut self, facts: &'a ModelRef, bounds: &BTreeMap<String, i64>) {
        self.guesses = ranges::guess(&facts.summary.inputs, &facts.summary.outputs);
        let is_told = |input: &Tensor| {
            !input.element.contains("int")
                || bounds.contains_key(&input.name)
                || input.name.to_lowercase().contains("mask")
        };
        self.untold = facts.summary.inputs.iter().filter(|input| !is_told(input)).collect();
        self.facts = Some(facts);
    }

    /// Adds the rules that these errors give.
    pub(super) fn add_rules(&mut self, errors: &[&Diagnostic]) {
        for error in errors {
            if let Some(rule) = &error.rules
                && !self.rules.iter().any(|known| known.ends_with(rule))
            {
                self.rules.push(format!("{}{rule}", comment("# ", &told(error))));
            }
        }
    }

    /// Gives up the precision: no rule mends these.
    pub(super) fn keep_types(&mut self, errors: &[&Diagnostic]) {
        self.precision = Precision::AsIs;
        self.rules.clear();
        let why: BTreeSet<String> = errors.iter().map(|error| told(error)).collect();
        self.why_as_is = why.into_iter().take(3).collect();
    }

    fn table(&self) -> String {
        format!("model.{}", toml_key(&self.model.name))
    }

    fn model_head(&self) -> String {
        let folder = self.file.parent().unwrap_or(Path::new("/"));
        let path = plan::relative(&self.model.path, folder);
        let path = toml::Value::String(path.display().to_string());
        let targets: Vec<String> = self.targets.names.iter().map(|name| format!("\"{name}\"")).collect();
        format!("[{}]\nsource = {{ path = {path} }}\ntargets = [{}]\n", self.table(), targets.join(", "))
    }

    /// The whole manifest.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "#:schema ../{SCHEMA_FILE}\n# Written by `enginewright init`, to be edited: docs/manifest.md has every key.\nschema = 1\n"
        );
        text.push('\n');
        if let Some(facts) = self.facts {
            text += &about(facts);
        }
        text += &self.model_head();
        text += &self.precision_text();
        for warning in self.warned.iter().filter(|d| d.level == Level::Warning) {
            let _ = write!(text, "\n{}", comment("# ", &told(warning)));
            for line in warning.rules.iter().flat_map(|rules| rules.lines()) {
                let _ = writeln!(text, "# {line}");
            }
        }
        for rule in &self.rules {
            let _ = write!(text, "\n{rule}\n");
        }
        text += &self.profile_text();
        text += &self.verify_text();
        text
    }

    fn precision_text(&self) -> String {
        let mut text = String::new();
        if self.precision == Precision::AsIs {
            text += "precision = \"as-is\"   # the types of the file";
            text += if self.why_as_is.is_empty() { "\n" } else { "; fp16 was tried, and is refused:\n" };
            for why in &self.why_as_is {
                text += &comment("#   ", why);
            }
            return text;
        }
        let name = self.precision.name();
        let _ = writeln!(
            text,
            "precision = \"{name}\"   # `enginewright rules {}` lists every node",
            self.model.name
        );
        let Shown { nodes, fp32, by_rule } = &self.shown;
        if *nodes > 0 && self.precision != Precision::Fp32 {
            let _ = writeln!(text, "# Rules keep {fp32} of {nodes} nodes FP32, those of `std-fp16` first:");
            for (rule, nodes, instances) in by_rule {
                let instances =
                    instances.map(|n| format!(" ({})", output::count(n, "instance"))).unwrap_or_default();
                text += &comment("#   ", &format!("{rule}: {}{instances}", output::count(*nodes, "node")));
            }
            let norms =
                by_rule.iter().find(|(_, nodes, instances)| instances.is_some_and(|n| n > 0 && n < *nodes));
            if norms.is_some_and(|(rule, ..)| rule.contains("layer-norm")) {
                text += "# Layer norms are written as several nodes; this makes one node of each, which is faster:\n";
                text += "# fuse = [\"layer-norm\"]\n";
            }
        }
        text
    }

    fn profile_text(&self) -> String {
        let Guesses { dims, shapes } = &self.guesses;
        if dims.is_empty() && shapes.is_empty() {
            return String::new();
        }
        let mut text = "\n# Sizes of dynamic dimensions: [min, opt, max]. The engine is tuned for opt, and refuses what is outside.\n\
                        # These are guesses by name and place: put in what you run.\n"
            .to_owned();
        let _ = write!(text, "[[{}.profile]]\nname = \"default\"\n", self.table());
        for (name, guess) in dims {
            let [min, opt, max] = guess.sizes;
            let _ = writeln!(text, "dims.{} = [{min}, {opt}, {max}]   # {}", toml_key(name), guess.what);
        }
        for (name, [min, opt, max], what) in shapes {
            let what = if what.is_empty() { String::new() } else { format!("   # {what}") };
            let _ = writeln!(
                text,
                "shapes.{} = {{ min = {min:?}, opt = {opt:?}, max = {max:?} }}{what}",
                toml_key(name)
            );
        }
        text
    }

    fn verify_text(&self) -> String {
        let mut text = format!(
            "\n# Held against the model in FP32 before an engine is published. Made-up inputs show that nothing overflows and no\n\
             # more: put real ones into a folder, and name it: `inputs = {{ dir = \"../testdata/{}\" }}`.\n\
             [{}.verify]\n",
            self.model.name,
            self.table()
        );
        let ranges: Vec<String> = self
            .untold
            .iter()
            .map(|input| {
                let name = input.name.to_lowercase();
                let is_byte = input.element == "uint8"
                    || ["byte", "image", "pixel"].iter().any(|word| name.contains(word));
                let most = if is_byte { 255 } else { 1 };
                format!("{} = [0, {most}]", toml_key(&input.name))
            })
            .collect();
        if ranges.is_empty() {
            text += "inputs = { seed = 7, samples = 3 }\n";
        } else {
            text += "# Which integers these inputs take is not told by the model: mend the ranges.\n";
            let _ =
                writeln!(text, "inputs = {{ seed = 7, samples = 3, ranges = {{ {} }} }}", ranges.join(", "));
        }
        text += "# Noise is harder on FP16 than what a model was made for. With real inputs, leave `tolerance` out: the default is\n\
                 # `{ cosine = 0.999, max-rel = 0.02 }`.\n";
        text += "tolerance = { cosine = 0.99 }\n";
        text
    }
}

fn told(diagnostic: &Diagnostic) -> String {
    format!("{}: {}", diagnostic.code, diagnostic.message)
}

/// A comment of one line, whatever names of the model are in it.
fn comment(mark: &str, text: &str) -> String {
    format!("{mark}{}\n", output::printable(text))
}

/// What the model is, as comments.
fn about(facts: &ModelRef) -> String {
    let summary = &facts.summary;
    let opset = summary.opset().map_or("no opset".to_owned(), |opset| format!("opset {opset}"));
    let nodes = usize::try_from(summary.operators.values().sum::<u64>()).unwrap_or(usize::MAX);
    let mut text = format!(
        "# {opset}, {}, {} of weights.\n",
        output::count(nodes, "node"),
        output::size(summary.weight_bytes)
    );
    for (what, tensors) in [("in ", &summary.inputs), ("out", &summary.outputs)] {
        for tensor in tensors.iter().take(20) {
            let _ = writeln!(
                text,
                "#   {what} {}: {}",
                tensor.name.escape_debug(),
                show_dims(tensor).escape_debug()
            );
        }
        if tensors.len() > 20 {
            let _ = writeln!(text, "#   {what} and {} more", tensors.len() - 20);
        }
    }
    text
}
