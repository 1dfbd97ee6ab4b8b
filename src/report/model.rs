//! What a report tells, as plain data: also what `report --format json` prints.

use serde::{Serialize, Serializer};

use super::history::{Entry, Run};

/// A project, as recorded.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Version of this format.
    pub format: u32,
    /// Name of the project: of its folder.
    pub project: String,
    /// The program that made the report.
    pub tool: String,
    /// The last run that did something, if one is recorded.
    pub run: Option<Run>,
    /// The targets in their order, each with engines.
    pub targets: Vec<Target>,
    /// The engines, in the order of their names.
    pub engines: Vec<Engine>,
    /// The models, one for each set of types that its nodes have.
    pub models: Vec<Model>,
    /// What is wrong or worth knowing, and belongs to no model.
    pub messages: Vec<Message>,
}

/// A target.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// The GPU that the manifest names.
    pub gpu: Option<String>,
    /// `sm_86`.
    pub sms: Vec<String>,
    /// Kind and version of the toolchain.
    pub toolchain: String,
}

/// How an engine stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Published, and what the manifest asks for.
    Current,
    /// There is work to do.
    #[default]
    Stale,
    /// It cannot be built or published.
    Failed,
    /// Something must be fetched before it is known.
    Unknown,
}

/// An engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Engine {
    /// `MODEL[.VARIANT]@TARGET`.
    pub name: String,
    /// Its target.
    pub target: String,
    /// How it stands.
    pub state: State,
    /// The same in the words of `status`.
    pub status: String,
    /// What `plan` would do.
    pub action: String,
    /// Why, nearest cause first.
    pub why: Vec<String>,
    /// Why it cannot be built.
    pub errors: Vec<Message>,
    /// What is known of its accuracy.
    pub verdict: Option<String>,
    /// What it was held against.
    pub metrics: Vec<Metric>,
    /// Samples that it was measured on.
    pub samples: u64,
    /// What its kernels show of nodes that are declared FP32.
    pub pins: Option<String>,
    /// Size of what is published, in bytes.
    pub size: Option<u64>,
    /// How long its build took.
    pub build_ms: Option<u64>,
    /// What the last run did for it.
    pub last: Option<Entry>,
    /// The run before that.
    pub before: Option<Entry>,
    /// Where it comes from: digests, class, how it was built. Label and value.
    pub provenance: Vec<(String, String)>,
    /// The keys of its actions with all their fields.
    pub keys: Vec<Key>,
    /// Its types, as the place in [`Report::models`].
    pub model: Option<usize>,
}

/// The key of an action.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Key {
    /// The action.
    pub action: String,
    /// The key.
    pub key: String,
    /// Its fields with their values.
    pub fields: Vec<(String, String)>,
}

/// A metric of an output, of the worst sample.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Metric {
    /// The output.
    pub output: String,
    /// The metric.
    pub metric: String,
    /// The worst.
    pub worst: String,
    /// What is tolerated: `<= 0.01`.
    pub limit: String,
    /// The sample.
    pub sample: String,
    /// Does it hold? None without a limit.
    pub ok: Option<bool>,
}

/// Something wrong, or worth knowing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `error`, `warning` or `note`.
    pub level: String,
    /// Stable code.
    pub code: String,
    /// What.
    pub text: String,
    /// File and line, or file and node.
    pub place: Option<String>,
    /// Causes and facts.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Vec<String>,
    /// Rules that mend it.
    pub rules: Option<String>,
}

/// A model with the types of its nodes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Model {
    /// Its name, with the variant.
    pub name: String,
    /// The engines with these types.
    pub engines: Vec<String>,
    /// The nodes in order; none for a model as it is.
    pub nodes: Vec<Node>,
    /// The rules, and what they selected.
    pub rules: Vec<Rule>,
    /// Hazards, and what else is worth knowing.
    pub messages: Vec<Message>,
    /// Every value beside its reference, if `verify --layers` has looked; one for each way to measure.
    pub drift: Vec<Drift>,
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Node {
    /// Its name, after those of the nodes whose subgraphs it lies in.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// `fp16`, `fp32`, `fp32 (tf32)`, `bf16`; none without a float result.
    #[serde(rename = "type")]
    pub of: Option<String>,
    /// What a product adds up in.
    pub accumulator: Option<String>,
    /// Who decided.
    pub by: String,
}

/// A rule.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rule {
    /// Its name and place.
    pub name: String,
    /// How many nodes it selects.
    pub nodes: usize,
    /// How many instances of patterns, if it names patterns.
    pub instances: Option<usize>,
}

/// Every value of a model beside its reference.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Drift {
    /// The engines that it was measured for.
    pub engines: Vec<String>,
    /// How many samples.
    pub samples: usize,
    /// The error from which on a value counts as broken.
    pub limit: f64,
    /// The nodes in order.
    pub nodes: Vec<DriftNode>,
    /// What is not among them, in words.
    pub untapped: Option<String>,
}

/// A node beside its reference.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DriftNode {
    /// Its name.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// The pattern that it is part of.
    pub pattern: Option<String>,
    /// The type in which it is built.
    #[serde(rename = "type")]
    pub of: String,
    /// The error as a share of the value.
    #[serde(serialize_with = "finite_or_text")]
    pub error: f64,
    /// Its greatest magnitude in the reference.
    #[serde(serialize_with = "finite_or_text")]
    pub absmax: f64,
    /// How much of the error is its own.
    #[serde(serialize_with = "finite_or_text")]
    pub growth: f64,
    /// The worst sample.
    pub sample: String,
    /// Why it counts as broken.
    pub broken: Option<String>,
    /// Is it broken by itself, and not by what it reads?
    pub first: bool,
}

/// JSON has no infinity.
pub(super) fn finite_or_text<S: Serializer>(n: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if n.is_finite() { serializer.serialize_f64(*n) } else { serializer.serialize_str(&n.to_string()) }
}
