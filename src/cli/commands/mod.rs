//! The commands: each from settings and arguments to an exit code.

mod apply;
mod build_action;
mod cache;
mod check;
mod completions;
mod explain;
mod export;
mod gpu;
mod import;
mod init;
mod inspect;
mod layers;
mod lock;
mod log;
mod plan;
mod rebuild;
mod replay;
mod report;
mod rules;
mod schema;
mod status;
mod toolchain;
mod tune;
mod verify;
mod why;

use super::args::{Command, ImportCommand};
use super::exit::{self, Failed};
use super::settings::{Format, Project, Settings};
use super::{output, render};
use crate::build::Gathered;
use crate::diagnostic::Diagnostic;
use crate::plan::Reason;

pub(super) fn run(settings: &Settings, command: Command) -> Result<u8, Failed> {
    if settings.page.is_some() && !matches!(command, Command::Report(_)) {
        let error = Diagnostic::error("format", "`html` and `md` are formats of `report` alone");
        return Err(Failed::new(exit::USAGE, error.help("use `--format text` or `--format json`")));
    }
    match command {
        Command::Init(args) => init::run(settings, &args),
        Command::Check(args) => check::run(settings, &args),
        Command::Plan(args) => plan::run(settings, &args),
        Command::Apply(args) => apply::run(settings, &args),
        Command::Status(args) => status::run(settings, &args),
        Command::Why { engine, since } => why::run(settings, &engine, since.as_deref()),
        Command::Verify(args) if args.layers => layers::run(settings, &args),
        Command::Verify(args) => verify::run(settings, &args),
        Command::Tune(args) => tune::run(settings, &args),
        Command::Rules { model } => rules::run(settings, &model),
        Command::Log { engine, failure } => log::run(settings, &engine, failure),
        Command::Toolchain(command) => toolchain::run(settings, &command),
        Command::Gpu => gpu::run(settings),
        Command::Rebuild(args) => rebuild::run(settings, &args),
        Command::Cache(command) => cache::run(settings, &command),
        Command::Lock(args) => lock::run(settings, &args),
        Command::BuildAction(args) => build_action::run(settings, &args),
        Command::Import(ImportCommand::Trtexec(args)) => import::run(settings, &args),
        Command::Export(command) => export::run(settings, &command),
        Command::Report(args) => report::run(settings, &args),
        Command::Inspect(args) => inspect::run(settings, &args),
        Command::Explain { code } => explain::run(settings, code.as_deref()),
        Command::Completions { shell } => Ok(completions::completions(shell)),
        Command::Man { folder } => completions::man(&folder),
        Command::Schema { document } => Ok(schema::run(document)),
        Command::Replay { bundle, timeout } => replay::run(settings, &bundle, timeout),
    }
}

/// Diagnostics of all engines, each said once although several engines may share it.
fn distinct<'a>(diagnostics: impl IntoIterator<Item = &'a Diagnostic>) -> Vec<Diagnostic> {
    let mut seen: Vec<Diagnostic> = Vec::new();
    for diagnostic in diagnostics {
        if !seen.contains(diagnostic) {
            seen.push(diagnostic.clone());
        }
    }
    seen
}

/// Prints what is worth knowing of the manifests, the plan and the cache, as text.
fn print_warnings(settings: &Settings, manifest: &[Diagnostic], gathered: &[Diagnostic], cache: Vec<String>) {
    output::stderr(&warnings(settings, manifest, gathered, cache));
}

/// What [`print_warnings`] prints.
fn warnings(
    settings: &Settings,
    manifest: &[Diagnostic],
    gathered: &[Diagnostic],
    cache: Vec<String>,
) -> String {
    if settings.format != Format::Text {
        return String::new();
    }
    let cache: Vec<Diagnostic> = cache.into_iter().map(|w| Diagnostic::warning("cache", w)).collect();
    render::texts(settings, &distinct(manifest.iter().chain(gathered).chain(&cache)))
}

/// Errors of the plan, then what is worth knowing of it and of the manifests.
fn diagnostics_json(project: &Project, gathered: &Gathered) -> Vec<serde_json::Value> {
    let errors = gathered.planned.iter().flat_map(|p| &p.errors);
    let all = distinct(errors.chain(&project.warnings).chain(&gathered.warnings));
    all.iter().map(render::json).collect()
}

fn errors_of(gathered: &Gathered) -> Vec<Diagnostic> {
    distinct(gathered.planned.iter().flat_map(|p| &p.errors))
}

/// How many reasons a table shows for an engine; `why` shows all.
const SHOWN_REASONS: usize = 3;

/// Why, as lines of a table: nearest cause first.
fn reason_lines(engine: &str, reasons: &[Reason]) -> String {
    let texts: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    text_lines(engine, &texts.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The first of these texts, as lines of a table.
fn text_lines(engine: &str, texts: &[&str]) -> String {
    let mut lines: Vec<String> = texts.iter().take(SHOWN_REASONS).map(|text| (*text).to_owned()).collect();
    if texts.len() > SHOWN_REASONS {
        lines.push(format!("and {} more: `why {engine}`", texts.len() - SHOWN_REASONS));
    }
    lines.join("\n")
}
