//! What can be told of the declared toolchains without fetching or running anything.

use std::path::PathBuf;

use serde::Serialize;

use super::locate::{WheelPin, fetched, find_in_root};
use crate::cache::Cache;
use crate::manifest::{Toolchain, ToolchainKind};

/// A declared toolchain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listed {
    /// Its name in the manifest.
    pub name: String,
    /// Its kind, as written in manifests.
    pub kind: &'static str,
    /// The version that the manifest asks for.
    pub version: Option<String>,
    /// Is it there?
    #[serde(flatten)]
    pub state: State,
}

/// Is a toolchain there?
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// In a folder of the user's.
    InRoot {
        /// The folder of the libraries.
        folder: PathBuf,
    },
    /// In the cache.
    Fetched {
        /// The folder of the libraries.
        folder: PathBuf,
        /// What it was fetched from.
        wheel: Option<WheelPin>,
    },
    /// It will be fetched when it is needed.
    NotFetched,
    /// The root does not hold it.
    Missing {
        /// Why.
        why: String,
    },
    /// This program cannot run it yet.
    NotYet,
}

/// Lists toolchains in the order given.
pub fn list<'a>(toolchains: impl IntoIterator<Item = &'a Toolchain>, cache: &Cache) -> Vec<Listed> {
    toolchains
        .into_iter()
        .map(|toolchain| Listed {
            name: toolchain.name.clone(),
            kind: toolchain.kind.name(),
            version: toolchain.version.clone(),
            state: state(toolchain, cache),
        })
        .collect()
}

fn state(toolchain: &Toolchain, cache: &Cache) -> State {
    match (toolchain.kind, &toolchain.root) {
        (ToolchainKind::Trtexec | ToolchainKind::Onnxruntime, _) => State::NotYet,
        (ToolchainKind::TensorrtRtx, Some(root)) => match find_in_root(root) {
            Ok(located) => State::InRoot { folder: located.folder },
            Err(error) => State::Missing { why: error.to_string() },
        },
        (ToolchainKind::TensorrtRtx, None) => {
            match toolchain.version.as_deref().and_then(|version| fetched(cache, version)) {
                Some(located) => State::Fetched { folder: located.folder, wheel: located.wheel },
                None => State::NotFetched,
            }
        }
    }
}
