//! The valid manifest: every name resolved, every default explicit, one [`Engine`] per engine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hazards::{self, HazardLevel};
use super::trtexec::{GpuIdentity, TrtexecOptions};
use crate::diagnostic::{Origin, SourceFile};
use crate::gpu::Sm;

/// All manifests of a project, merged and checked.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The project root: the folder that holds `manifests/`. Absolute.
    pub root: PathBuf,
    /// The files that were read, in order of their paths.
    pub files: Vec<Arc<SourceFile>>,
    /// Toolchains by name.
    pub toolchains: BTreeMap<String, Toolchain>,
    /// Targets by name.
    pub targets: BTreeMap<String, Target>,
    /// What to build: every model, variant and target, sorted by name.
    pub engines: Vec<Engine>,
}

/// What builds engines.
#[derive(Debug, Clone, PartialEq)]
pub struct Toolchain {
    /// Its name in the manifest.
    pub name: String,
    /// Its kind.
    pub kind: ToolchainKind,
    /// Dotted prefix of the version that must be found; for a toolchain that is fetched, the whole version.
    pub version: Option<String>,
    /// Folder to use instead of fetching. Absolute.
    pub root: Option<PathBuf>,
    /// Command that runs the toolchain's program, such as `docker run …`.
    pub runner: Vec<String>,
    /// Where it was declared.
    pub origin: Origin,
}

/// The kinds of toolchain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ToolchainKind {
    /// NVIDIA TensorRT-RTX, built in; needs no GPU.
    TensorrtRtx,
    /// Any TensorRT with `trtexec`.
    Trtexec,
    /// ONNX Runtime, the reference for `verify`.
    Onnxruntime,
}

impl ToolchainKind {
    /// As written in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ToolchainKind::TensorrtRtx => "tensorrt-rtx",
            ToolchainKind::Trtexec => "trtexec",
            ToolchainKind::Onnxruntime => "onnxruntime",
        }
    }
}

/// What engines are built for.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its name in the manifest.
    pub name: String,
    /// Compute capabilities, sorted, unique, at least one.
    pub sms: Vec<Sm>,
    /// The GPU named, if one was: `RTX 3090`, `A100 80GB`; see [`crate::gpu::model`].
    pub gpu: Option<String>,
    /// Name of the toolchain.
    pub toolchain: String,
    /// What of the GPU that builds decides the engine, where one builds.
    pub gpu_identity: GpuIdentity,
    /// Where it was declared.
    pub origin: Origin,
}

/// `MODEL[.VARIANT]@TARGET`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EngineName {
    /// The model.
    pub model: String,
    /// The variant, if it is not the model itself.
    pub variant: Option<String>,
    /// The target.
    pub target: String,
}

impl EngineName {
    /// `MODEL[.VARIANT]`: the folder below `engines/`.
    #[must_use]
    pub fn model_and_variant(&self) -> String {
        match &self.variant {
            Some(variant) => format!("{}.{variant}", self.model),
            None => self.model.clone(),
        }
    }
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.model_and_variant(), self.target)
    }
}

/// One engine, with everything that decides what it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Engine {
    /// Its name.
    pub name: EngineName,
    /// Where the model comes from.
    pub source: Source,
    /// What it is built for.
    pub target: Target,
    /// The requirement on the model's opset, if any.
    pub opset: Option<OpsetRequirement>,
    /// Which decomposed operators are fused.
    pub fuse: BTreeSet<Fuse>,
    /// The precision asked for.
    pub precision: Precision,
    /// Names of the rule sets, in order. Later rules win.
    pub rule_sets: Vec<String>,
    /// Every rule in order: of the rule sets, then the model's own. Later rules win.
    pub rules: Vec<Rule>,
    /// Levels of hazards that the manifest says, by code. In no key: they decide if there is an engine, not which.
    pub hazards: BTreeMap<String, HazardLevel>,
    /// May FP32 products be computed in TF32?
    pub tf32: bool,
    /// Optimization profiles in TensorRT's order.
    pub profiles: Vec<Profile>,
    /// Declared types of inputs and outputs by name.
    pub io: BTreeMap<String, IoType>,
    /// Types of the outputs of custom operators, by `DOMAIN::OP`.
    pub operators: BTreeMap<String, Vec<IoType>>,
    /// Builder options.
    pub build: BuildOptions,
    /// How its accuracy is measured, if it is.
    pub verify: Option<Verify>,
    /// How its file comes into its place. In no key: it is the same file.
    pub publish: Publish,
    /// The table of its model or variant, as TOML has it: `model.encoder`, `models.detectors.variant.small`.
    pub table: String,
    /// Is that the table of many models?
    pub is_from_glob: bool,
    /// Where the model was declared.
    pub origin: Origin,
    /// Where the source was declared.
    pub source_origin: Origin,
}

impl Engine {
    /// What is done about the hazard with this code; none if it is the code of no hazard.
    #[must_use]
    pub fn hazard_level(&self, code: &str) -> Option<HazardLevel> {
        self.hazards.get(code).copied().or_else(|| Some(hazards::hazard(code)?.level))
    }
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A file. Absolute.
    Path {
        /// The file.
        path: PathBuf,
    },
    /// A file inside a pip package.
    Package {
        /// Name of the package, normalized (PEP 503).
        name: String,
        /// Its exact version.
        version: String,
        /// Path of the file inside the wheel.
        file: String,
    },
    /// A file at a URL.
    Url {
        /// The URL.
        url: String,
        /// Its SHA-256, 64 lower-case hex digits.
        sha256: String,
    },
}

/// A requirement on an opset: `>=17`, `17`, `>=13, <=17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpsetRequirement {
    /// The lowest version allowed.
    pub min: i64,
    /// The highest version allowed, if there is one.
    pub max: Option<i64>,
}

/// Decomposed operators that can be fused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fuse {
    /// LayerNormalization.
    LayerNorm,
}

impl Fuse {
    /// As written in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Fuse::LayerNorm => "layer-norm",
        }
    }
}

/// The precision of a model, or of the nodes that a rule selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// The types in the ONNX file.
    AsIs,
    /// FP32.
    Fp32,
    /// FP16.
    Fp16,
    /// BF16.
    Bf16,
}

impl Precision {
    /// As written in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Precision::AsIs => "as-is",
            Precision::Fp32 => "fp32",
            Precision::Fp16 => "fp16",
            Precision::Bf16 => "bf16",
        }
    }
}

/// The type an input or output is declared to have in the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IoType {
    /// `fp32`
    Fp32,
    /// `fp16`
    Fp16,
    /// `bf16`
    Bf16,
    /// `int32`
    Int32,
    /// `int64`
    Int64,
    /// `int8`
    Int8,
    /// `uint8`
    Uint8,
    /// `bool`
    Bool,
}

impl IoType {
    /// All of them.
    pub(crate) const ALL: [IoType; 8] = [
        IoType::Fp32,
        IoType::Fp16,
        IoType::Bf16,
        IoType::Int32,
        IoType::Int64,
        IoType::Int8,
        IoType::Uint8,
        IoType::Bool,
    ];

    /// As written in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            IoType::Fp32 => "fp32",
            IoType::Fp16 => "fp16",
            IoType::Bf16 => "bf16",
            IoType::Int32 => "int32",
            IoType::Int64 => "int64",
            IoType::Int8 => "int8",
            IoType::Uint8 => "uint8",
            IoType::Bool => "bool",
        }
    }
}

/// A precision rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// What people call it.
    pub name: String,
    /// The rule set it belongs to; none for a model's own rule.
    pub set: Option<String>,
    /// Which nodes it is about.
    pub select: Selector,
    /// Their precision; never as-is.
    pub precision: Precision,
    /// The accumulators asked for, if any.
    pub accumulate: Option<Precision>,
    /// How many instances it must select, if pinned.
    pub expect: Option<u64>,
    /// May it select nothing?
    pub optional: bool,
    /// Where it was declared; none for built-in rules.
    pub origin: Option<Origin>,
}

/// Which nodes a rule selects. All parts given must hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Selector {
    /// Operators, such as `Softmax`.
    pub op: Vec<String>,
    /// Node names, as globs.
    pub node: Vec<String>,
    /// Node names, as a regular expression.
    pub regex: Vec<String>,
    /// Patterns, such as `layer-norm`.
    pub pattern: Vec<String>,
    /// Names of values that the node makes, as globs.
    pub tensor: Vec<String>,
    /// Nodes on a way from the first value or node to the second.
    pub between: Option<(String, String)>,
    /// Nodes that read these values.
    pub consumers_of: Vec<String>,
    /// Nodes that make these values.
    pub producers_of: Vec<String>,
    /// Nodes inside the subgraphs of these nodes.
    pub subgraph: Vec<String>,
    /// Nodes that must not match.
    pub not: Option<Box<Selector>>,
}

/// Minimum, optimum and maximum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range<T> {
    /// The least.
    pub min: T,
    /// What the engine is tuned for.
    pub opt: T,
    /// The most.
    pub max: T,
}

/// An optimization profile as declared.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// What people call it.
    pub name: String,
    /// Ranges by dim_param.
    pub dims: BTreeMap<String, Range<i64>>,
    /// Shapes by input.
    pub shapes: BTreeMap<String, Range<Vec<i64>>>,
    /// Values of shape tensors by input.
    pub values: BTreeMap<String, Range<Vec<i64>>>,
    /// Where it was declared.
    pub origin: Origin,
    /// Where each key of `dims`, `shapes` and `values` was declared.
    pub key_origins: BTreeMap<String, Origin>,
}

/// No limit of the workspace but the memory of the GPU.
pub const WORKSPACE_MAX: u64 = u64::MAX;

/// Builder options, every default explicit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOptions {
    /// Workspace limit in bytes; [`WORKSPACE_MAX`] for all that the GPU has. Default 4 GiB.
    pub workspace: u64,
    /// 0 to 5. Default 3.
    pub optimization_level: u32,
    /// How much the engine tells about itself. Default `layer-names`.
    pub profiling: Profiling,
    /// Weights that are streamed from the host. Default false.
    pub weight_streaming: bool,
    /// Exact NaN semantics. Default false.
    pub strict_nans: bool,
    /// Structured sparsity. Default false.
    pub sparse_weights: bool,
    /// Same result whatever the batch split. Default false.
    pub distributive_independence: bool,
    /// Auxiliary streams; none leaves it to TensorRT.
    pub max_aux_streams: Option<u32>,
    /// Tiling optimization. Default none.
    pub tiling: Tiling,
    /// A number to raise when a rebuild is wanted for no other reason. Default 0.
    pub epoch: u32,
    /// Wall-clock limit of one build; in no key. Default 30 min.
    pub timeout: Duration,
    /// Resident memory limit of one build in bytes, if any; in no key.
    pub memory_limit: Option<u64>,
    /// What only full TensorRT has.
    pub trtexec: TrtexecOptions,
}

impl Default for BuildOptions {
    fn default() -> Self {
        BuildOptions {
            workspace: 4 << 30,
            optimization_level: 3,
            profiling: Profiling::LayerNames,
            weight_streaming: false,
            strict_nans: false,
            sparse_weights: false,
            distributive_independence: false,
            max_aux_streams: None,
            tiling: Tiling::None,
            epoch: 0,
            timeout: Duration::from_secs(30 * 60),
            memory_limit: None,
            trtexec: TrtexecOptions::default(),
        }
    }
}

/// How an engine's file comes into its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publish {
    /// By reflink, hard link or copy: the first that the file system can.
    Link,
    /// By copy: a file of its own, which shares nothing with the cache.
    Copy,
}

impl Publish {
    /// As written in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Publish::Link => "link",
            Publish::Copy => "copy",
        }
    }
}

/// How much an engine tells about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profiling {
    /// Nothing.
    None,
    /// Names of layers.
    LayerNames,
    /// Everything.
    Detailed,
}

impl Profiling {
    /// As written in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Profiling::None => "none",
            Profiling::LayerNames => "layer-names",
            Profiling::Detailed => "detailed",
        }
    }
}

/// How hard TensorRT tries to tile for on-chip memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tiling {
    /// Not at all.
    None,
    /// A little.
    Fast,
    /// More.
    Moderate,
    /// All it can.
    Full,
}

impl Tiling {
    /// As written in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Tiling::None => "none",
            Tiling::Fast => "fast",
            Tiling::Moderate => "moderate",
            Tiling::Full => "full",
        }
    }
}

/// How accuracy is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Verify {
    /// Where inputs come from.
    pub inputs: VerifyInputs,
    /// Outputs that are compared; all if it is empty.
    pub outputs: Vec<String>,
    /// Where outputs are not compared, by output.
    pub ignore_where: BTreeMap<String, Condition>,
    /// Tolerances for all outputs, by metric.
    pub tolerance: BTreeMap<String, f64>,
    /// Tolerances by output, then by metric.
    pub output_tolerance: BTreeMap<String, BTreeMap<String, f64>>,
    /// The least verdict that lets an engine be published, if one is required.
    pub require: Option<Require>,
    /// Name of the toolchain that computes the reference.
    pub reference: String,
    /// Wall-clock limit of one measurement; in no key.
    pub timeout: Duration,
    /// Where it was declared.
    pub origin: Origin,
    /// Where each of `tolerance.OUTPUT`, `outputs`, `ignore-where.OUTPUT`, `inputs` and its tables was declared, by
    /// what it names.
    pub key_origins: BTreeMap<String, Origin>,
}

/// Where the inputs of a verification come from.
#[derive(Debug, Clone, PartialEq)]
pub enum VerifyInputs {
    /// A folder of samples.
    Dir {
        /// The folder. Absolute.
        path: PathBuf,
        /// What files without a header hold, by input.
        raw: BTreeMap<String, RawTensor>,
    },
    /// Generated from a seed.
    Generated {
        /// The seed.
        seed: u64,
        /// How many samples.
        samples: u64,
        /// Ranges of values by input.
        ranges: BTreeMap<String, (f64, f64)>,
        /// What inputs are filled with, where it is not the default.
        fill: BTreeMap<String, Fill>,
    },
}

/// What a file without a header holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawTensor {
    /// Element type in ONNX's words: `float`, `int64`.
    pub element: String,
    /// Its dimensions.
    pub shape: Vec<i64>,
}

/// What a generated input is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fill {
    /// About 0, with a deviation of 1; within its range, if it has one.
    Normal,
    /// Evenly within its range.
    Uniform,
    /// Ones, then zeros: a length for each row, one row all zeros.
    Mask,
    /// One number.
    Constant(f64),
}

/// `NAME == NUMBER`: where the input of this name has this value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// The input.
    pub input: String,
    /// The value.
    pub value: f64,
}

/// The least verdict that lets an engine be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Require {
    /// Any that is not a failure.
    Smoke,
    /// Real samples.
    EmulatedOptimistic,
    /// Real samples, and an oracle that is nowhere kinder than a GPU.
    Emulated,
    /// The engine itself ran.
    OnDevice,
}

impl Require {
    /// As written in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Require::Smoke => "smoke",
            Require::EmulatedOptimistic => "emulated-optimistic",
            Require::Emulated => "emulated",
            Require::OnDevice => "on-device",
        }
    }
}
