//! Tests of the whole stage: text in, manifest or diagnostics out.

mod design;
mod files;
mod merge;
mod properties;
mod wrong;

use std::sync::Arc;

use super::fields::Sink;
use super::load::{Loaded, Options, assemble};
use super::model::{Engine, Manifest};
use crate::diagnostic::{Diagnostic, Place, SourceFile};

/// What most cases need around the few lines that they are about.
const BASE: &str = "schema = 1\n[target.t]\ngpu = 'RTX 3090'\n";

fn file(path: &str, text: &str) -> Arc<SourceFile> {
    Arc::new(SourceFile { path: path.into(), text: text.to_owned() })
}

/// Manifests by their names in `/p/manifests`.
fn read(files: &[(&str, &str)]) -> Loaded {
    let files = files.iter().map(|(name, text)| file(&format!("/p/manifests/{name}"), text)).collect();
    assemble("/p".into(), files, None, false, &Options::default(), Sink::default())
}

fn read_with_local(manifest: &str, local: &str, options: &Options) -> Loaded {
    let files = vec![file("/p/manifests/a.toml", manifest)];
    let local = file("/p/enginewright.local.toml", local);
    assemble("/p".into(), files, Some(local), false, options, Sink::default())
}

/// The manifest of `BASE` and this text, which is right.
fn valid(text: &str) -> Manifest {
    let loaded = read(&[("a.toml", &format!("{BASE}{text}"))]);
    let problems: Vec<String> = loaded.diagnostics.iter().map(show).collect();
    loaded.manifest.unwrap_or_else(|| panic!("{problems:#?}"))
}

fn engine<'m>(manifest: &'m Manifest, name: &str) -> &'m Engine {
    let found = manifest.engines.iter().find(|engine| engine.name.to_string() == name);
    found.unwrap_or_else(|| panic!("no engine `{name}`"))
}

/// The underlined text.
fn underlined(place: Option<&Place>) -> &str {
    match place {
        Some(Place::Text(origin)) => &origin.file.text[origin.start..origin.end],
        Some(Place::File(path)) => path.to_str().unwrap(),
        _ => "",
    }
}

/// `CODE: MESSAGE @ UNDERLINED`
fn show(diagnostic: &Diagnostic) -> String {
    format!("{}: {} @ {}", diagnostic.code, diagnostic.message, underlined(diagnostic.place.as_ref()))
}
