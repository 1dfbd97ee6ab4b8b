//! Provenance: an in-toto Statement v1 with a SLSA provenance v1 predicate.
//!
//! No clock, host or user is in it: two builds of the same commit give the same statement. What signs it says when
//! and by whom.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;

use crate::build::{Material, Sidecar, digests};
use crate::digest::{Blob, Value};
use crate::onnx::{MODEL_FILE, WEIGHTS_FILE};
use crate::plan::Keyed;

/// Who built it, if nobody says otherwise.
pub const LOCAL_BUILDER: &str = "urn:enginewright:local";

/// How it was built: the meaning of the parameters.
const BUILD_TYPE: &str = "urn:enginewright:build:v1";

/// Fields of the two actions that the manifest decides; the others follow from the tool and the toolchain.
const EXTERNAL: [&str; 9] =
    ["precision", "typing", "fuse", "rules", "io", "operators", "sms", "profiles", "options"];

/// What the statement is made from.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The engine's file, relative to the project.
    pub path: &'a str,
    /// What is published.
    pub sidecar: &'a Sidecar,
    /// The inputs of its actions.
    pub keyed: &'a Keyed,
    /// The files that it was made from.
    pub materials: &'a [Material],
    /// A URI that names who built it.
    pub builder: &'a str,
    /// Version of this program.
    pub version: &'a str,
}

/// A file, as in-toto describes it.
#[derive(Serialize)]
struct Resource {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    digest: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    annotations: serde_json::Map<String, serde_json::Value>,
}

impl Resource {
    fn of(name: &str, blob: &Blob) -> Resource {
        let (name, annotations) = (name.to_owned(), serde_json::Map::new());
        Resource { name, uri: None, digest: digests(blob.clone()), annotations }
    }
}

/// The statement.
#[must_use]
pub fn statement(facts: &Facts<'_>) -> serde_json::Value {
    let Facts { path, sidecar, keyed, materials, builder, version } = facts;
    let mut subject = Resource::of(path, &sidecar.file);
    let about = [
        ("engine", json!(sidecar.engine)),
        ("class", json!(sidecar.class)),
        ("evidence", json!(sidecar.evidence)),
        ("hermetic", json!(sidecar.hermetic)),
        ("verdict", json!(sidecar.verdict)),
    ];
    subject.annotations.extend(about.map(|(name, value)| (name.to_owned(), value)));
    let dependencies = materials.iter().map(|material| {
        let annotations = material.annotations.iter().map(|(name, text)| (name.clone(), json!(text)));
        Resource {
            name: material.name.clone(),
            uri: material.uri.clone(),
            digest: material.digests.clone(),
            annotations: annotations.collect(),
        }
    });
    let prepared = &keyed.prepared;
    let parts = [(MODEL_FILE, Some(&prepared.graph)), (WEIGHTS_FILE, prepared.weights.as_ref())];
    let byproducts =
        parts.iter().filter_map(|(name, blob)| Some(Resource::of(&format!("prepared/{name}"), (*blob)?)));
    let (external, internal) = parameters(facts);
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [subject],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": external,
                "internalParameters": internal,
                "resolvedDependencies": dependencies.collect::<Vec<_>>(),
            },
            "runDetails": {
                "builder": { "id": builder, "version": { "enginewright": version } },
                "metadata": { "invocationId": keyed.build_key },
                "byproducts": byproducts.collect::<Vec<_>>(),
            },
        },
    })
}

type Parameters = BTreeMap<String, serde_json::Value>;

/// The fields of both keys, but for digests of files, which are dependencies: what the manifest says, and the rest.
fn parameters(facts: &Facts<'_>) -> (Parameters, Parameters) {
    let mut external = BTreeMap::from([("engine".to_owned(), json!(facts.sidecar.engine))]);
    let mut internal = BTreeMap::from([
        ("prepare-key".to_owned(), json!(facts.keyed.prepare.key())),
        ("build-key".to_owned(), json!(facts.keyed.build_key)),
    ]);
    for action in [&facts.keyed.prepare, &facts.keyed.build] {
        for (name, value) in &action.fields {
            if EXTERNAL.contains(&name.as_str()) {
                external.insert(name.clone(), json!(value));
            } else if !is_file(name, value) {
                internal.insert(format!("{}-{name}", action.action), json!(value));
            }
        }
    }
    (external, internal)
}

/// Is it known by the digests of files, which are told as dependencies and byproducts?
fn is_file(name: &str, value: &Value) -> bool {
    match value {
        Value::Map(fields) => name == "toolchain" && fields.contains_key("files"),
        _ => ["model", "prepared"].contains(&name),
    }
}
