//! A draft as TOML.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use toml_edit::{Array, Value};

use super::draft::{Draft, Gpu, Rule, Shape, Toolchain};
use crate::manifest::{self, Manifest, Precision, toml_key};

/// Where the manifest will lie, and what is declared beside it.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The folder of the file.
    pub folder: &'a Path,
    /// The other manifests of the project: what they declare is used, and not declared again.
    pub beside: Option<&'a Manifest>,
}

/// The widest line of a comment.
const WIDTH: usize = 110;

/// The manifest of these drafts.
#[must_use]
pub fn write(drafts: &[Draft], place: Place<'_>) -> String {
    let mut writer =
        Writer { text: "schema = 1\n".to_owned(), place, toolchains: Vec::new(), targets: Vec::new() };
    for draft in drafts {
        let toolchain = writer.toolchain(&draft.toolchain);
        let target = writer.target(&draft.gpu, &toolchain);
        writer.model(draft, &target);
    }
    writer.text
}

struct Writer<'a> {
    text: String,
    place: Place<'a>,
    /// What was written, by name.
    toolchains: Vec<(String, Toolchain)>,
    targets: Vec<(String, Gpu, String)>,
}

impl Writer<'_> {
    fn line(&mut self, line: &str) {
        self.text += line;
        self.text.push('\n');
    }

    fn pair(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        self.line(&format!("{} = {}", toml_key(key), value.to_string().trim()));
    }

    /// A comment, wrapped; TOML takes no control characters in one.
    fn comment(&mut self, text: &str) {
        let text: String =
            text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
        let mut line = String::new();
        for word in text.split(' ') {
            if !line.is_empty() && line.chars().count() + word.chars().count() >= WIDTH {
                self.line(&format!("# {line}"));
                line = "  ".to_owned();
            } else if !line.trim().is_empty() {
                line.push(' ');
            }
            line += word;
        }
        self.line(&format!("# {line}"));
    }

    /// A name that is not taken.
    fn free(&self, wanted: &str, is_taken: impl Fn(&str) -> bool) -> String {
        let numbered = (2..).map(|n| format!("{wanted}-{n}"));
        std::iter::once(wanted.to_owned()).chain(numbered).find(|name| !is_taken(name)).unwrap_or_default()
    }

    fn toolchain(&mut self, wanted: &Toolchain) -> String {
        if let Some((name, _)) = self.toolchains.iter().find(|(_, written)| written == wanted) {
            return name.clone();
        }
        let declared = self.place.beside.map(|m| &m.toolchains);
        let same = |t: &&manifest::Toolchain| {
            let version = t.version.as_deref().is_some_and(|v| super::is_prefix(v, &wanted.version));
            let root = wanted.root.is_none() || t.root == wanted.root;
            t.kind == manifest::ToolchainKind::Trtexec && version && root && t.runner == wanted.runner
        };
        if let Some(found) = declared.and_then(|all| all.values().find(same)) {
            return found.name.clone();
        }
        let taken = |name: &str| {
            declared.is_some_and(|all| all.contains_key(name))
                || self.toolchains.iter().any(|(n, _)| n == name)
        };
        let name = self.free(&wanted.name(), taken);
        self.line(&format!("\n[toolchain.{}]", toml_key(&name)));
        self.pair("kind", "trtexec");
        self.pair("version", wanted.version.as_str());
        if let Some(root) = &wanted.root {
            self.pair("root", root.display().to_string());
        }
        if !wanted.runner.is_empty() {
            self.pair("runner", wanted.runner.iter().map(String::as_str).collect::<Array>());
        }
        self.toolchains.push((name.clone(), wanted.clone()));
        name
    }

    fn target(&mut self, gpu: &Gpu, toolchain: &str) -> String {
        if let Some((name, ..)) = self.targets.iter().find(|(_, g, t)| g == gpu && t == toolchain) {
            return name.clone();
        }
        let declared = self.place.beside.map(|m| &m.targets);
        let same = |t: &&manifest::Target| {
            let gpu = match gpu {
                Gpu::Named(name) => t.gpu.as_ref() == Some(name),
                Gpu::Sm(sm) => t.gpu.is_none() && t.sms == [*sm],
            };
            gpu && t.toolchain == toolchain
        };
        if let Some(found) = declared.and_then(|all| all.values().find(same)) {
            return found.name.clone();
        }
        let taken = |name: &str| {
            declared.is_some_and(|all| all.contains_key(name)) || self.targets.iter().any(|(n, ..)| n == name)
        };
        // One GPU may have engines of several versions.
        let plain = gpu.target();
        let wanted = if taken(&plain) { format!("{plain}-{toolchain}") } else { plain };
        let name = self.free(&wanted, taken);
        self.line(&format!("\n[target.{}]", toml_key(&name)));
        match gpu {
            Gpu::Named(gpu) => self.pair("gpu", gpu.as_str()),
            Gpu::Sm(sm) => self.pair("sm", sm.to_string()),
        }
        self.pair("toolchain", toolchain);
        self.targets.push((name.clone(), gpu.clone(), toolchain.to_owned()));
        name
    }

    fn model(&mut self, draft: &Draft, target: &str) {
        self.text.push('\n');
        self.comment(&format!("Imported from: {}", draft.command.replace(['\n', '\r'], " ")));
        for note in &draft.notes {
            self.comment(&format!("- {}", note.replace(['\n', '\r'], " ")));
        }
        let table = format!("model.{}", toml_key(&draft.name));
        self.line(&format!("[{table}]"));
        let source = relative(&draft.source, self.place.folder);
        self.line(&format!(
            "source = {{ path = {} }}",
            Value::from(source.display().to_string()).to_string().trim()
        ));
        self.pair("targets", std::iter::once(target).collect::<Array>());
        self.pair("precision", draft.precision.name());
        if [Precision::Fp16, Precision::Bf16].contains(&draft.precision) {
            self.pair("rules", Array::new());
        }
        self.pair("tf32", draft.tf32);
        for rule in &draft.rules {
            self.rule(&table, rule, "");
        }
        if !draft.in_vain.is_empty() {
            self.text.push('\n');
            self.comment("What these options name, as rules that hold:");
            for rule in &draft.in_vain {
                self.rule(&table, rule, "# ");
            }
        }
        for (index, profile) in draft.profiles.iter().enumerate() {
            self.line(&format!("\n[[{table}.profile]]"));
            self.pair(
                "name",
                if draft.profiles.len() == 1 { "default".to_owned() } else { index.to_string() },
            );
            self.shapes("shapes", profile, false);
            self.shapes("values", profile, true);
        }
        if !draft.io.is_empty() {
            for (name, element) in &draft.io {
                self.line(&format!("\n[{table}.io.{}]", toml_key(name)));
                self.pair("type", *element);
            }
        }
        if !draft.build.is_empty() || !draft.extra.is_empty() {
            self.line(&format!("\n[{table}.build]"));
            for (key, value) in &draft.build {
                self.pair(key, value.clone());
            }
            if !draft.extra.is_empty() {
                self.pair("extra-args", draft.extra.iter().map(String::as_str).collect::<Array>());
            }
        }
    }

    fn rule(&mut self, table: &str, rule: &Rule, before: &str) {
        let nodes = match rule.nodes.as_slice() {
            [one] => Value::from(one.as_str()).to_string(),
            many => {
                let each = many
                    .iter()
                    .map(|n| format!("\n{before}    {},", Value::from(n.as_str()).to_string().trim()));
                format!("[{}\n{before}]", each.collect::<String>())
            }
        };
        let start = if before.is_empty() { "\n" } else { "" };
        self.line(&format!("{start}{before}[[{table}.rule]]"));
        self.line(&format!("{before}name = {}", Value::from(rule.name.as_str()).to_string().trim()));
        if rule.nodes.len() == 1 {
            self.line(&format!("{before}select = {{ node = {} }}", nodes.trim()));
        } else {
            self.line(&format!("{before}select.node = {nodes}"));
        }
        self.line(&format!("{before}precision = \"{}\"", rule.precision.name()));
    }

    fn shapes(&mut self, key: &str, profile: &BTreeMap<String, Shape>, is_values: bool) {
        let chosen = profile.iter().filter(|(_, shape)| shape.is_values == is_values);
        let list = |dims: &[i64]| dims.iter().copied().collect::<Array>().to_string();
        for (name, shape) in chosen {
            let key = format!("{key}.{}", toml_key(name));
            if shape.min == shape.opt && shape.opt == shape.max {
                self.line(&format!("{key} = {}", list(&shape.opt)));
            } else {
                let [min, opt, max] = [&shape.min, &shape.opt, &shape.max].map(|dims| list(dims));
                self.line(&format!("{key} = {{ min = {min}, opt = {opt}, max = {max} }}"));
            }
        }
    }
}

/// `path` as seen from `folder`; both absolute.
pub(super) fn relative(path: &Path, folder: &Path) -> PathBuf {
    let (path, folder) = (super::program::plain(path), super::program::plain(folder));
    let common = path.components().zip(folder.components()).take_while(|(a, b)| a == b).count();
    // With nothing but the root in common, the path alone says more.
    if common <= 1 {
        return path;
    }
    let up = folder.components().skip(common).map(|_| Component::ParentDir);
    up.chain(path.components().skip(common)).collect()
}
