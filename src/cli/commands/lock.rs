//! `enginewright lock`

use serde_json::json;

use super::super::args::LockArgs;
use super::super::exit::{self, Failed};
use super::super::progress::Progress;
use super::super::settings::{Format, Settings};
use super::super::{output, render};
use super::{distinct, print_warnings};
use crate::build::{self, Upgrade};
use crate::diagnostic::{Diagnostic, Level};
use crate::plan::{LOCK_FILE_NAME, Lock};
use crate::source::Network;

pub(super) fn run(settings: &Settings, args: &LockArgs) -> Result<u8, Failed> {
    let project = match settings.project() {
        Err(failed) if args.force && failed.diagnostics.iter().all(|d| d.code == "lock-file") => {
            settings.project_with(Lock::new())?
        }
        project => project?,
    };
    let engines = project.select(&[])?;
    let progress = Progress::new(settings, None);
    let network = if args.offline { Network::Deny } else { Network::Allow };
    let mut ctx = settings.context(&project, network, None, &progress)?;
    let upgrade = args.upgrade.as_ref().map(|name| match name.as_str() {
        "" => Upgrade::All,
        name => Upgrade::Named(name.to_owned()),
    });
    let done = build::relock(&mut ctx, &engines, upgrade.as_ref(), args.force)?;
    let errors = distinct(&done.errors);
    let hints = build::git_attributes(&ctx.manifest.root);
    let cache_warnings = ctx.cache.take_warnings();
    match settings.format {
        Format::Json => output::json(&json!({
            "format": output::JSON_FORMAT,
            "changes": done.changes,
            "open": done.open,
            "gitattributes": hints,
            "diagnostics": errors.iter().chain(&done.warnings).map(render::json).collect::<Vec<_>>(),
            "cache_warnings": cache_warnings,
        })),
        Format::Text => {
            print_warnings(settings, &project.warnings, &done.warnings, cache_warnings);
            render::print(settings, &errors);
            if errors.is_empty() {
                output::stdout(&text(&done.changes, &done.open));
                render::print(settings, &hint(&hints));
            }
        }
    }
    Ok(if errors.is_empty() { exit::DONE } else { exit::FAILED })
}

fn text(changes: &[String], open: &[String]) -> String {
    let mut text: String = changes.iter().map(|line| format!("{line}\n")).collect();
    if changes.is_empty() {
        text += &format!("`{LOCK_FILE_NAME}` is as it was\n");
    }
    if !open.is_empty() {
        text += &format!("not locked, since they are not built as the manifests say: {}\n", open.join(", "));
    }
    text
}

/// How Git should treat what is checked in.
fn hint(lines: &[String]) -> Vec<Diagnostic> {
    if lines.is_empty() {
        return Vec::new();
    }
    let message = "`.gitattributes` does not say what the lock file and engines are";
    let note = Diagnostic { level: Level::Note, ..Diagnostic::error("gitattributes", message) };
    vec![note.help(format!("add to it:\n{}", lines.join("\n")))]
}
