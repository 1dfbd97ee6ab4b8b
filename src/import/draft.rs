//! A manifest to be: what one run of trtexec becomes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use toml_edit::Value;

use super::notes::shown;
use super::{Version, codes};
use crate::diagnostic::Diagnostic;
use crate::gpu::Sm;
use crate::manifest::Precision;

/// The model, target and toolchain of one run.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Name of the model.
    pub name: String,
    /// The ONNX file on this machine.
    pub source: PathBuf,
    /// What builds it.
    pub toolchain: Toolchain,
    /// What it is built for.
    pub gpu: Gpu,
    /// The command line, in one line.
    pub command: String,
    pub(super) precision: Precision,
    pub(super) tf32: bool,
    pub(super) rules: Vec<Rule>,
    /// The nodes that the rules are about, if the model is at hand.
    pub(super) pinned: BTreeSet<String>,
    /// Rules that the command line names in vain, to be pasted.
    pub(super) in_vain: Vec<Rule>,
    /// Shapes by input, of each profile; whether they are values of a shape tensor.
    pub(super) profiles: Vec<BTreeMap<String, Shape>>,
    pub(super) io: BTreeMap<String, &'static str>,
    /// Keys of `[model.X.build]`, in order.
    pub(super) build: Vec<(&'static str, Value)>,
    /// Options that are passed as they are.
    pub(super) extra: Vec<String>,
    /// What is worth knowing, as sentences.
    pub(super) notes: Vec<String>,
}

/// `[toolchain.X]`
#[derive(Debug, Clone, PartialEq)]
pub struct Toolchain {
    pub(super) version: String,
    pub(super) root: Option<PathBuf>,
    pub(super) runner: Vec<String>,
}

/// `[target.X]`
#[derive(Debug, Clone, PartialEq)]
pub enum Gpu {
    /// A GPU of the table.
    Named(String),
    /// Its compute capability alone.
    Sm(Sm),
}

/// `[[model.X.rule]]`
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    pub(super) name: String,
    /// Globs.
    pub(super) nodes: Vec<String>,
    pub(super) precision: Precision,
}

/// Minimum, optimum and maximum of an input.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Shape {
    pub(super) min: Vec<i64>,
    pub(super) opt: Vec<i64>,
    pub(super) max: Vec<i64>,
    /// They are what the input holds, not its dimensions.
    pub(super) is_values: bool,
}

impl Draft {
    /// Told the layers that the manifest really asks types of: says, here and in the manifest, which of them the command
    /// line leaves to TensorRT.
    pub fn compare<'a>(&mut self, asked: impl Iterator<Item = &'a str>) -> Option<Diagnostic> {
        let more: Vec<&str> = asked.filter(|layer| !self.pinned.contains(*layer)).collect();
        if more.is_empty() {
            return None;
        }
        let message = format!(
            "beyond the command line, this manifest holds {} in FP32, whatever rules say: `enginewright rules {}` tells why",
            shown(more.iter().copied()),
            self.name
        );
        self.notes.push(message.clone());
        Some(Diagnostic::warning(codes::STRICTER, message))
    }
}

impl Gpu {
    /// A name for the target.
    pub(super) fn target(&self) -> String {
        match self {
            Gpu::Named(name) => name.to_lowercase().replace(' ', "-"),
            Gpu::Sm(sm) => sm.to_string().replace('_', "-"),
        }
    }
}

impl Toolchain {
    /// A name for it: `trt-10-3`.
    pub(super) fn name(&self) -> String {
        let parts: Vec<&str> = self.version.split('.').take(2).collect();
        format!("trt-{}", parts.join("-"))
    }

    /// Its version as numbers.
    pub(super) fn numbers(&self) -> Option<Version> {
        self.version.parse().ok()
    }
}
