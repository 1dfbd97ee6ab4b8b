//! The schemas beside the parsers: the same keys everywhere.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::{Document, text};
use crate::diagnostic::SourceFile;
use crate::manifest::{self, Options};

fn schema(of: Document) -> Value {
    serde_json::from_str(&text(of)).unwrap()
}

/// What a `$ref` names.
fn resolved<'s>(root: &'s Value, at: &'s Value) -> &'s Value {
    match at["$ref"].as_str() {
        Some(path) => resolved(root, root.pointer(path.trim_start_matches('#')).expect(path)),
        None => at,
    }
}

/// The keys that the parser takes in the table that `unknown = 1` stands in, as its message lists them.
fn keys_of_parser(toml: &str) -> BTreeSet<String> {
    let text = format!("schema = 1\n{toml}\n");
    let drafts = vec![Arc::new(SourceFile { path: "/p/manifests/m.toml".into(), text })];
    let loaded = manifest::load(Path::new("/p"), &Options { drafts, ..Options::default() }).unwrap();
    let unknown = loaded.diagnostics.iter().find(|d| d.code == "unknown-key").expect(toml);
    let note = unknown.notes.first().unwrap_or_else(|| panic!("{toml}: {unknown:?}"));
    note.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Every table of a manifest, with a key that does not exist, and where its schema is.
const TABLES: &[(&str, &str)] = &[
    ("zzzzzzzzzz = 1", ""),
    ("[toolchain.x]\nzzzzzzzzzz = 1", "/$defs/toolchain"),
    ("[target.x]\nzzzzzzzzzz = 1", "/$defs/target"),
    ("[rules.x]\nzzzzzzzzzz = 1", "/properties/rules/additionalProperties"),
    ("[model.x]\nzzzzzzzzzz = 1", "/properties/model/additionalProperties"),
    ("[models.x]\nzzzzzzzzzz = 1", "/properties/models/additionalProperties"),
    ("[defaults]\nzzzzzzzzzz = 1", "/properties/defaults"),
    ("[model.x.variant.v]\nzzzzzzzzzz = 1", "/$defs/variants/additionalProperties"),
    ("[model.x.on.t]\nzzzzzzzzzz = 1", "/$defs/on/additionalProperties"),
    ("[[model.x.rule]]\nzzzzzzzzzz = 1", "/$defs/rule"),
    ("[[model.x.rule]]\nselect = { zzzzzzzzzz = 1 }", "/$defs/select"),
    ("[[model.x.profile]]\nzzzzzzzzzz = 1", "/$defs/profile"),
    (
        "[[model.x.profile]]\nshapes = { x = { zzzzzzzzzz = 1 } }",
        "/$defs/profile/properties/shapes/additionalProperties/anyOf/1",
    ),
    ("[model.x.io.a]\nzzzzzzzzzz = 1", "/$defs/io/additionalProperties"),
    ("[model.x.build]\nzzzzzzzzzz = 1", "/$defs/build"),
    ("[model.x.verify]\nzzzzzzzzzz = 1", "/$defs/verify"),
];

#[test]
fn a_manifest_has_the_same_keys_in_the_parser_and_in_the_schema() {
    let root = schema(Document::Manifest);
    for (toml, pointer) in TABLES {
        let of_schema = resolved(&root, root.pointer(pointer).expect(pointer));
        let of_schema: BTreeSet<String> =
            of_schema["properties"].as_object().expect(pointer).keys().cloned().collect();
        assert_eq!(of_schema, keys_of_parser(toml), "{toml}");
    }
}

/// Keys that are spread over alternatives.
#[test]
fn sources_and_inputs_have_the_same_keys_too() {
    let root = schema(Document::Manifest);
    let cases = [
        ("[model.x]\nsource = { zzzzzzzzzz = 1 }", "/$defs/source"),
        ("[model.x.verify]\ninputs = { zzzzzzzzzz = 1 }", "/$defs/verify/properties/inputs"),
    ];
    for (toml, pointer) in cases {
        let alternatives = root.pointer(pointer).unwrap()["oneOf"].as_array().unwrap();
        let keys = alternatives.iter().flat_map(|a| a["properties"].as_object().unwrap().keys().cloned());
        assert_eq!(keys.collect::<BTreeSet<_>>(), keys_of_parser(toml), "{toml}");
    }
}

#[test]
fn every_hazard_is_in_the_schema() {
    let root = schema(Document::Manifest);
    let of_schema = root["$defs"]["hazards"]["properties"].as_object().unwrap();
    let listed: BTreeSet<&str> = of_schema.keys().map(String::as_str).collect();
    assert_eq!(listed, manifest::HAZARDS.iter().map(|h| h.code).collect());
    for hazard in manifest::HAZARDS {
        let said = of_schema[hazard.code]["description"].as_str().unwrap().to_lowercase();
        assert!(said.contains(&hazard.meaning.to_lowercase()), "{}", hazard.code);
        assert!(said.contains(&format!("default: {}", hazard.level.name())), "{}", hazard.code);
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk<'v>(root: &'v Value, at: &'v Value) {
        match at {
            Value::Object(map) => {
                resolved(root, at);
                map.values().for_each(|value| walk(root, value));
            }
            Value::Array(list) => list.iter().for_each(|value| walk(root, value)),
            _ => {}
        }
    }
    for of in [Document::Manifest, Document::Plan, Document::Report, Document::Lock] {
        let root = schema(of);
        assert_eq!(root["$schema"], "https://json-schema.org/draft/2020-12/schema");
        walk(&root, &root);
    }
}
