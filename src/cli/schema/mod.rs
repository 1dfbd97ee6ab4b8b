//! JSON Schemas of what the program reads and writes, for editors and scripts.
//!
//! They are written by hand, in `*.json` beside this file: the manifest's parser knows more than a schema can say, and a
//! schema says more than the parser needs to. The tests hold the keys of both against each other.

#[cfg(test)]
mod tests;

/// What a schema is of. (The comments are none of documentation: clap would spread all of the help for them.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Document {
    // `manifests/*.toml`.
    Manifest,
    // What `plan --format json` prints, and what `plan --out` writes.
    Plan,
    // What `report --format json` prints.
    Report,
    // `enginewright.lock`.
    Lock,
}

/// The schema, as JSON.
pub(super) fn text(of: Document) -> String {
    let text = match of {
        Document::Manifest => include_str!("manifest.json"),
        Document::Plan => include_str!("plan.json"),
        Document::Report => include_str!("report.json"),
        Document::Lock => include_str!("lock.json"),
    };
    text.to_owned()
}
