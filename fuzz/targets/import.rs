//! Any text as a command line, script or log of trtexec: refused, or a manifest that can be read.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use enginewright::diagnostic::{Level, SourceFile};
use enginewright::import::{Place, Variables, Wishes, read, tell_apart, write};
use enginewright::manifest;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let file = Arc::new(SourceFile { path: "<command line>".into(), text: text.to_owned() });
    let root = Path::new("/nowhere");
    let Ok(found) = read(&file, root, &Variables::default()) else { return };
    let wishes = Wishes { version: Some("10.3".into()), gpu: Some("RTX 3090".into()), ..Wishes::default() };
    let mut drafts = Vec::new();
    for run in found.runs {
        let (draft, said) = run.draft(&wishes, None);
        if said.iter().any(|diagnostic| diagnostic.level == Level::Error) {
            return;
        }
        drafts.extend(draft);
    }
    tell_apart(&mut drafts);
    let text = write(&drafts, Place { folder: &root.join("manifests"), beside: None });
    let file = Arc::new(SourceFile { path: root.join("manifests/m.toml"), text: text.clone() });
    let loaded = manifest::read_alone(root, &file);
    assert!(loaded.manifest.is_some(), "{text}\n{:#?}", loaded.diagnostics);
});
