//! What the main process and a worker say to each other.
//!
//! Frames on two pipes: a 4-byte little-endian length, then that many bytes of JSON. The worker
//! speaks first, with [`Hello`]; a frame longer than [`MAX_FRAME`] is garbage. One [`Request`] per
//! worker, one [`Answer`]. Files pass by name, relative to the job folder, which is the worker's
//! current folder; nothing else is named by path, except sources and toolchain libraries, which
//! lie where they lie.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::diagnostic::{Diagnostic, Level, Place};
use crate::engine::Header;
use crate::gpu::LocalGpu;
use crate::onnx::{Canonical, Note, Summary, Weight};
use crate::precision::{Problem, Spec};
use crate::verify::MeasureSpec;

/// Version of this protocol. Raised with every change of the messages.
pub const VERSION: u32 = 5;

/// Longest frame allowed, in bytes.
pub const MAX_FRAME: u32 = 64 << 20;

/// What [`Hello::magic`] always says.
pub const MAGIC: &str = "enginewright-worker";

/// The first frame a worker sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Always [`MAGIC`].
    pub magic: String,
    /// [`VERSION`].
    pub protocol: u32,
    /// Version of the program.
    pub program: String,
}

/// What a worker is asked to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Request {
    /// Read a model and write its canonical form into the job folder: `model.onnx`, and
    /// `weights.bin` if there are large initializers, and `tensors.json` (digests of tensors).
    Canonicalize {
        /// The model file. External data is found through it.
        source: PathBuf,
        /// Weights that take so many bytes or more are digested, and neither they nor `tensors.json` written; none:
        /// all is written.
        digest_from: Option<u64>,
    },
    /// Type the model `model.onnx` (and `weights.bin`) in the job folder: what [`PREPARED_FOLDER`] holds then is
    /// `model.onnx`, and `weights.bin` if there are large initializers; `assignment.json` lies in the job folder.
    Prepare(Box<Spec>),
    /// Load a TensorRT-RTX library and report its version.
    Probe {
        /// Folder of the libraries.
        libraries: PathBuf,
    },
    /// Load an ONNX Runtime library and report its version.
    ProbeReference {
        /// Folder of the library.
        libraries: PathBuf,
    },
    /// Run the model in the job folder and the oracle of the one in [`PREPARED_FOLDER`] beside each other; what is
    /// found is written to [`MEASURED_FILE`].
    Measure(Box<MeasureRequest>),
    /// Run the same with every float value of both compared; what is found is written to [`DRIFT_FILE`].
    Layers(Box<MeasureRequest>),
    /// Run the model in the job folder on the CPU, and the engine [`ENGINE_FILE`] on a GPU; what is found is written to
    /// [`MEASURED_FILE`].
    OnGpu(Box<OnGpuRequest>),
    /// Build an engine from `model.onnx` (and `weights.bin`) in the job folder into `engine.plan`, and write what its text
    /// says into [`KERNELS_FILE`].
    Build(Box<BuildRequest>),
    /// Ask the NVIDIA driver which GPUs are here.
    Gpus,
    /// Look into a file: a model or an engine.
    Inspect {
        /// The file.
        file: PathBuf,
    },
}

/// Where a worker puts what it measured, in the job folder: a [`crate::verify::Measured`] as JSON.
pub const MEASURED_FILE: &str = "measured.json";

/// Where a worker puts what became of every value, in the job folder: a [`crate::verify::Drift`] as JSON.
pub const DRIFT_FILE: &str = "drift.json";

/// One measurement, everything by value but the samples of a user, which lie where they lie.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasureRequest {
    /// Folder of ONNX Runtime's library.
    pub libraries: PathBuf,
    /// What is to be measured.
    pub spec: MeasureSpec,
}

/// An engine that is built, or is to be run, in the job folder.
pub const ENGINE_FILE: &str = "engine.plan";

/// One measurement on a GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OnGpuRequest {
    /// The UUID of the GPU, which must be the first that the worker sees.
    pub gpu: String,
    /// Folder of TensorRT-RTX's libraries.
    pub runtime: PathBuf,
    /// The reference, and what is to be measured.
    pub measure: MeasureRequest,
}

/// One build, everything by value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildRequest {
    /// Folder of the libraries.
    pub libraries: PathBuf,
    /// Compute capabilities, sorted: 86 is sm_86.
    pub sms: Vec<u32>,
    /// Profiles in order.
    pub profiles: Vec<ProfileShapes>,
    /// Builder options.
    pub options: Options,
    /// How the worker is to run.
    pub hermetic: Hermetic,
}

/// How a worker builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hermetic {
    /// Memory at fixed addresses, threads that take turns: the same request gives the same engine.
    Det,
    /// As any program.
    Plain,
    /// On a GPU, on which kernels are timed: another build may choose others.
    Timed,
}

impl Hermetic {
    /// As in files: `det` or `plain`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Hermetic::Det => "det",
            Hermetic::Plain => "plain",
            Hermetic::Timed => "timed",
        }
    }
}

/// One optimization profile, resolved to inputs. Each range is `[min, opt, max]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProfileShapes {
    /// Shapes of every dynamic input, by name.
    pub shapes: Vec<(String, [Vec<i64>; 3])>,
    /// Values of shape tensors, by name.
    pub values: Vec<(String, [Vec<i64>; 3])>,
}

/// Builder options: the wire form of the manifest's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is the manifest's build option of the same name")]
pub struct Options {
    pub workspace: u64,
    pub tf32: bool,
    pub optimization_level: u32,
    pub profiling: String,
    pub weight_streaming: bool,
    pub strict_nans: bool,
    pub sparse_weights: bool,
    pub distributive_independence: bool,
    pub max_aux_streams: Option<u32>,
    pub tiling: String,
}

/// The second and last frame a worker sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// What it has to say.
    pub response: Response,
    /// The most memory it held, in bytes. A process that has ended cannot be asked any more.
    pub peak_rss: u64,
}

/// What a worker answers. Tagged from outside: serde buffers what is tagged from inside, and cannot
/// buffer the 128-bit times of a `Stat`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// The model was read.
    Canonicalized(Box<Canonical>),
    /// The model was typed, or has problems that forbid it.
    Prepared(Box<PreparedModel>),
    /// The library was loaded.
    Probed {
        /// Version as `1.7.1.116`, or as many parts as the library tells.
        version: String,
    },
    /// The engine was built.
    Built(Box<Built>),
    /// It was measured.
    Measured,
    /// The GPUs that are here, in the driver's order; at least one.
    Gpus(Vec<LocalGpu>),
    /// What the file is.
    Inspected(Box<Inspected>),
    /// It ran and the answer is no: an error of the model, the toolchain or the options.
    Refused(Box<Refusal>),
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Inspected {
    /// A model.
    Onnx(OnnxFacts),
    /// An engine.
    Engine(EngineFacts),
}

/// What there is to see in a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OnnxFacts {
    /// Every file of it, with its size.
    pub files: Vec<(PathBuf, u64)>,
    /// Who wrote it.
    pub producer: String,
    /// The model in short.
    pub summary: Summary,
    /// What is worth knowing.
    pub notes: Vec<Note>,
    /// How many tensors of constants there are.
    pub tensors: u64,
    /// The largest of them, at most [`MAX_TENSORS`].
    pub largest: Vec<Weight>,
    /// Patterns: in how many places, and how many of these are one operator.
    pub patterns: BTreeMap<String, (u64, u64)>,
    /// What would go wrong in FP16 without any rule.
    pub hazards: Vec<Problem>,
}

/// How many tensors are passed on.
pub const MAX_TENSORS: usize = 10;

/// What there is to see in an engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineFacts {
    /// What it says of itself.
    pub header: Header,
    /// Where it begins in its file.
    pub start: u64,
    /// The JSON before it.
    pub metadata: Option<serde_json::Value>,
    /// Size of the file in bytes.
    pub size: u64,
    /// May FP32 products be computed in TF32?
    pub tf32: Option<bool>,
    /// Kernels by kind.
    pub kernels: BTreeMap<String, u64>,
    /// Tensors that kernels write, by type.
    pub types: BTreeMap<String, u64>,
    /// Names of ONNX nodes that kernels carry out.
    pub nodes: u64,
    /// Was all of its text read?
    pub is_whole: bool,
}

/// Where a worker puts a typed model, in the job folder.
pub const PREPARED_FOLDER: &str = "prepared";

/// Where a worker puts what the text of an engine says, in the job folder.
pub const KERNELS_FILE: &str = "kernels.json";

/// Where a worker puts the types of all nodes, in the job folder.
pub const ASSIGNMENT_FILE: &str = "assignment.json";

/// A model that was typed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreparedModel {
    /// Was it written? Not if one of the problems is an error.
    pub is_written: bool,
    /// Was `weights.bin` written?
    pub has_weights: bool,
    /// Was the assignment written? Not if the model cannot be typed at all.
    pub has_assignment: bool,
    /// What is wrong, or worth knowing.
    pub problems: Vec<Problem>,
}

/// An engine that was built.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Built {
    /// Inputs and outputs of the engine.
    pub bindings: Vec<Binding>,
    /// The log.
    pub log: Vec<LogLine>,
    /// Version of the library.
    pub version: String,
    /// How the worker ran: plain where it could not be otherwise.
    pub hermetic: Hermetic,
    /// The GPU that it was built on, where one was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<LocalGpu>,
}

/// An input or output of an engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Binding {
    /// Its name.
    pub name: String,
    /// `input` or `output`.
    pub kind: String,
    /// Element type in TensorRT's words, lower case: `float`, `half`, `int32`, …
    pub element: String,
    /// Dimensions; -1 is dynamic.
    pub dims: Vec<i64>,
}

/// A line that the library logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// `fatal`, `error`, `warning` or `info`.
    pub level: String,
    /// The text.
    pub text: String,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// Where: `driver`, `read`, `load`, `parse`, `options`, `profile`, `build`, `run`, `sample`, `oracle`, `reference`,
    /// `write`, `answer`.
    pub stage: String,
    /// Stable code, kebab-case.
    pub code: String,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What to do.
    pub help: Vec<String>,
    /// Parser errors, at most [`MAX_PARSER_ERRORS`].
    pub parser_errors: Vec<ParserError>,
    /// How many parser errors there were.
    pub parser_error_count: u64,
    /// What is wrong with the model itself, each with its place, if that is why.
    pub diagnostics: Vec<WireDiagnostic>,
    /// The log up to then.
    pub log: Vec<LogLine>,
}

impl Refusal {
    /// A refusal with nothing but its stage, code and message.
    #[must_use]
    pub fn new(stage: &str, code: &str, message: impl Into<String>) -> Refusal {
        Refusal {
            stage: stage.to_owned(),
            code: code.to_owned(),
            message: message.into(),
            help: Vec::new(),
            parser_errors: Vec::new(),
            parser_error_count: 0,
            diagnostics: Vec::new(),
            log: Vec::new(),
        }
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Refusal {
        self.help.push(help.into());
        self
    }
}

/// How many parser errors are passed on.
pub const MAX_PARSER_ERRORS: usize = 20;

/// One error of the ONNX parser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParserError {
    /// TensorRT's error code.
    pub code: i32,
    /// Index of the node in the graph, if it is about one.
    pub node: Option<i32>,
    /// Name of the node.
    pub name: String,
    /// Operator of the node.
    pub op: String,
    /// TensorRT's text.
    pub text: String,
}

/// A [`Diagnostic`] about a model, as it passes through a pipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WireDiagnostic {
    /// Stable identifier in kebab-case.
    pub code: String,
    /// `note`, `warning` or `error`.
    pub level: String,
    /// What is wrong.
    pub message: String,
    /// The file it is about.
    pub file: Option<PathBuf>,
    /// The node it is about.
    pub node: Option<String>,
    /// Operator of that node.
    pub op: Option<String>,
    /// Causes and facts.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Vec<String>,
}

impl From<&Diagnostic> for WireDiagnostic {
    fn from(diagnostic: &Diagnostic) -> WireDiagnostic {
        let (file, node, op) = match &diagnostic.place {
            None => (None, None, None),
            Some(Place::Text(origin)) => (Some(origin.file.path.clone()), None, None),
            Some(Place::File(file)) => (Some(file.clone()), None, None),
            Some(Place::Node { file, node, op }) => {
                (Some(file.clone()), Some(node.clone()), Some(op.clone()))
            }
        };
        let level = match diagnostic.level {
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        WireDiagnostic {
            code: diagnostic.code.to_string(),
            level: level.to_owned(),
            message: diagnostic.message.clone(),
            file,
            node,
            op,
            notes: diagnostic.notes.clone(),
            help: diagnostic.help.clone(),
        }
    }
}

impl From<WireDiagnostic> for Diagnostic {
    fn from(wire: WireDiagnostic) -> Diagnostic {
        let level = match wire.level.as_str() {
            "note" => Level::Note,
            "warning" => Level::Warning,
            _ => Level::Error,
        };
        let place = match (wire.file, wire.node) {
            (Some(file), Some(node)) => Some(Place::Node { file, node, op: wire.op.unwrap_or_default() }),
            (Some(file), None) => Some(Place::File(file)),
            (None, _) => None,
        };
        Diagnostic {
            level,
            place,
            notes: wire.notes,
            help: wire.help,
            ..Diagnostic::error(wire.code, wire.message)
        }
    }
}
