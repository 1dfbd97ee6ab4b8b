//! What planning needs to know of the world, as plain data: gathered by `build`, or made up by a
//! test.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::diagnostic::Diagnostic;
use crate::digest::{Blob, Digest, Preimage};
use crate::manifest::ToolchainKind;
use crate::onnx::Summary;
use crate::toolchain::trtexec::Installed;
use crate::verify::{Judgement, MeasureSpec, OnGpu};

/// A model in its canonical form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRef {
    /// The model digest.
    pub digest: Digest,
    /// The graph, with small tensors inside.
    pub graph: Blob,
    /// The large initializers. The cache may not hold them: they are made of the source when somebody needs them.
    pub weights: Option<Blob>,
    /// Digests of all tensors, as JSON; none as long as the weights were never stored.
    pub tensors: Option<Blob>,
    /// The model in short.
    pub summary: Summary,
}

/// A prepared ONNX.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreparedRef {
    /// Digest of graph and weights together.
    pub digest: Digest,
    /// The graph.
    pub graph: Blob,
    /// The large initializers.
    pub weights: Option<Blob>,
    /// The types of all nodes, as JSON; none as-is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<Blob>,
    /// Its opset, if that was raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opset: Option<i64>,
}

impl PreparedRef {
    /// The model as it is.
    #[must_use]
    pub fn as_is(model: &ModelRef) -> PreparedRef {
        PreparedRef {
            digest: model.digest,
            graph: model.graph.clone(),
            weights: model.weights.clone(),
            assignment: None,
            opset: None,
        }
    }
}

/// What is known of a source.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceFact {
    /// It is here and was read.
    AtHand {
        /// The model file, to name it in messages.
        path: PathBuf,
        /// Its canonical form.
        model: Box<ModelRef>,
    },
    /// It must be fetched first, which planning does not do.
    NotFetched,
    /// It is not usable.
    Bad(Vec<Diagnostic>),
}

/// A toolchain that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolchainRef {
    /// Its kind.
    pub kind: ToolchainKind,
    /// Folder of its libraries, if it is on this machine; none if it is known from the lock file.
    pub libraries: Option<PathBuf>,
    /// The program and its libraries, of a trtexec on this machine.
    pub installed: Option<Installed>,
    /// Why a trtexec is not on this machine, if it is not.
    pub missing: Option<Box<Diagnostic>>,
    /// Its files with their digests: its identity.
    pub files: BTreeMap<String, Digest>,
    /// The version it reports, or is pinned to.
    pub version: String,
}

/// What is known of a toolchain.
#[derive(Debug, Clone, PartialEq)]
pub enum ToolchainFact {
    /// It was found.
    Found(Box<ToolchainRef>),
    /// It must be fetched first, which planning does not do.
    NotFetched,
    /// It is not on this machine, and nothing is known of its files.
    Absent(Box<Diagnostic>),
    /// It is not usable.
    Bad(Box<Diagnostic>),
}

/// What is published under an engine's name.
#[derive(Debug, Clone, PartialEq)]
pub enum Published {
    /// Engine and sidecar are there and belong together.
    Whole {
        /// Digest of the engine.
        engine: Digest,
        /// The action that built it.
        build_key: Digest,
        /// What its verdict was made from, if it was measured.
        judged: Option<Judged>,
        /// Its verdict.
        verdict: String,
    },
    /// Something is there that is not whole: no sidecar, no engine, or an engine that is not the
    /// sidecar's.
    Broken {
        /// What is wrong, for people.
        what: String,
        /// The action that the sidecar names, if it can be read.
        build_key: Option<Digest>,
    },
    /// Nothing is there.
    Nothing,
}

/// What a verdict was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// Key of the measure action.
    pub measure: Digest,
    /// Digest of the tolerances that it was held against.
    pub judged_by: Digest,
}

/// How an engine's accuracy is to be measured, and what is known of it.
#[derive(Debug, Clone)]
pub struct Accuracy {
    /// What is to be measured.
    pub spec: MeasureSpec,
    /// The measure action's inputs.
    pub measure: Preimage,
    /// What the verdict is made from.
    pub judged: Judged,
    /// The verdict, if it is measured.
    pub judgement: Option<Judgement>,
    /// Runs of the engine itself, if it is built.
    pub runs: Vec<RunRef>,
    /// The measure action before this one, if the cache holds it: what a change is told against.
    pub previous: Option<Preimage>,
}

/// A run of an engine on a GPU, as it is recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRef {
    /// Key of the run action.
    pub key: Digest,
    /// What it found.
    pub run: OnGpu,
}

/// What is known of the accuracy of an engine.
#[derive(Debug, Clone)]
pub enum AccuracyFact {
    /// The manifest asks for none.
    NoneDeclared,
    /// This run was asked for none.
    Skipped,
    /// The reference must be fetched before anything is known.
    NotFetched,
    /// It can be told.
    Known(Box<Accuracy>),
}

/// A build that is in the cache.
#[derive(Debug, Clone, PartialEq)]
pub struct BuiltRef {
    /// The engine.
    pub engine: Blob,
    /// How long the build took, in ms.
    pub duration_ms: u64,
    /// What the engine's text says of its kernels.
    pub kernels: Option<Blob>,
    /// What kernels were timed at, where they were: all that choosing them again needs.
    pub timings: Option<Blob>,
    /// Codes of what TensorRT said during the build.
    pub said: Vec<String>,
    /// What else was recorded of it: bindings, how the worker ran.
    pub info: serde_json::Value,
    /// Is it the very engine that the lock file names for these inputs?
    pub is_locked: bool,
}

/// The last build known for an engine's name: what a change is told against.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Previous {
    /// Its key.
    pub build_key: Option<Digest>,
    /// The inputs of the build, if the cache holds them.
    pub build: Option<Preimage>,
    /// The inputs of the prepare action before it, if the cache holds them.
    pub prepare: Option<Preimage>,
    /// The model it was built from, if the cache holds it.
    pub model: Option<ModelRef>,
    /// Version of the toolchain that built it.
    pub toolchain_version: Option<String>,
    /// How long it took, in ms.
    pub duration_ms: Option<u64>,
}
