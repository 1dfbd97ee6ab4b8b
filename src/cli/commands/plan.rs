//! `enginewright plan`

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::super::args::PlanArgs;
use super::super::exit::{self, Failed};
use super::super::memo::{self, Answer};
use super::super::progress::Progress;
use super::super::settings::{Format, Project, Settings};
use super::super::{output, render};
use super::{diagnostics_json, errors_of, text_lines, warnings};
use crate::build::{self, Estimate};
use crate::diagnostic::{Diagnostic, Level};
use crate::fs;
use crate::manifest::Engine;
use crate::plan::{AccuracyFact, Action, PlanEntry, PlanFile, PlanFileError, Planned, Reason};
use crate::source::Network;

pub(super) fn run(settings: &Settings, args: &PlanArgs) -> Result<u8, Failed> {
    if let Some(file) = &args.show {
        return show(settings, &settings.here(file));
    }
    let question = match memo::ask(settings, args.out.is_none()) {
        Ok(answer) => {
            output::stderr(&answer.stderr);
            output::stdout(&answer.stdout);
            return Ok(exit::DONE);
        }
        Err(question) => question,
    };
    let project = settings.project()?;
    let engines = project.select(&args.engines.engines)?;
    let progress = Progress::new(settings, None);
    let network = if args.fetch { Network::Allow } else { Network::Deny };
    let ctx = settings.context(&project, network, None, &progress)?;
    let is_text = settings.format == Format::Text && !args.fetch && !args.locked;
    if let Some(open) = question.open(&project, &engines).filter(|_| is_text)
        && let Some(code) = run_part(settings, args, &project, &ctx, &open, engines.len() - open.len())?
    {
        return Ok(code);
    }
    let gathered = build::gather(&ctx, &engines)?;
    ctx.cache.flush();
    let orphans = build::orphans(&ctx.manifest.root, &ctx.manifest.engines);
    let cache_warnings = ctx.cache.take_warnings();

    let errors = errors_of(&gathered);
    let differences = if args.locked { build::locked_differences(&ctx, &gathered) } else { Vec::new() };
    let estimate = build::estimate(&gathered.planned, ctx.jobs);
    let paths: Vec<String> = orphans.iter().map(|orphan| output::path(orphan)).collect();
    let file = PlanFile::of(&gathered.planned, paths, build::TOOL);
    // What the cache lost or mended is told once.
    let is_worth_keeping = gathered.is_settled
        && settings.stopped_by().is_none()
        && !file.changes
        && errors.is_empty()
        && differences.is_empty()
        && cache_warnings.is_empty();
    let mut said = Answer::default();
    match settings.format {
        Format::Json => {
            said.stdout = output::json_text(&json!({
                "format": output::JSON_FORMAT,
                "changes": file.changes,
                "engines": gathered.planned.iter().map(planned_json).collect::<Vec<_>>(),
                "estimate_ms": estimate.ms,
                "estimate_lacks": estimate.unknown,
                "locked": differences.iter().map(render::json).collect::<Vec<_>>(),
                "orphans": file.orphans,
                "diagnostics": diagnostics_json(&project, &gathered),
                "cache_warnings": cache_warnings,
            }));
        }
        Format::Text => {
            said.stderr = warnings(settings, &project.warnings, &gathered.warnings, cache_warnings);
            said.stdout = text(&file, estimate, &gathered.planned, 0);
        }
    }
    output::stderr(&said.stderr);
    output::stdout(&said.stdout);
    if settings.format == Format::Text {
        render::print(settings, &errors);
        render::print(settings, &differences);
    }
    if is_worth_keeping {
        question.answered(settings, &ctx.cache, &said);
    }
    let is_sound = errors.is_empty() && differences.is_empty();
    if let Some(path) = args.out.as_ref().filter(|_| is_sound) {
        write(settings, &settings.here(path), &file)?;
    }
    Ok(match () {
        () if !errors.is_empty() => exit::INVALID,
        () if !differences.is_empty() => exit::FAILED,
        () if file.changes && args.detailed_exitcode => exit::CHANGES,
        () => exit::DONE,
    })
}

fn write(settings: &Settings, path: &Path, file: &PlanFile) -> Result<(), Failed> {
    fs::write_atomic(path, file.render().as_bytes())
        .map_err(|e| Failed::new(exit::FAILED, Diagnostic::error("file", e.to_string())))?;
    let unknown = file.engines.iter().filter(|entry| entry.inputs.is_none()).count();
    if unknown > 0 && settings.format == Format::Text {
        let unknown = output::count(unknown, "engine");
        let message = format!("the inputs of {unknown} are not known, so that `apply` will refuse the plan");
        let warning = Diagnostic { level: Level::Warning, ..Diagnostic::error("plan-unknown", message) };
        render::print(
            settings,
            &[warning.help("fetch what is missing: `enginewright plan --fetch --out FILE`")],
        );
    }
    Ok(())
}

/// Reads a plan file.
pub(super) fn read(path: &Path) -> Result<PlanFile, Failed> {
    let invalid = |message: String, help: &str| {
        let error = Diagnostic::error("plan-file", message).in_file(path).help(help);
        Failed::new(exit::INVALID, error)
    };
    let text = fs::read_to_string(path)
        .map_err(|e| invalid(e.to_string(), "plans are written by `enginewright plan --out FILE`"))?;
    PlanFile::parse(&text).map_err(|e| {
        let help = match e {
            PlanFileError::Major { .. } => "use the version of enginewright that made it, or make a new plan",
            PlanFileError::Damaged { .. } | PlanFileError::Edited => {
                "make a new plan: `enginewright plan --out FILE`"
            }
        };
        invalid(format!("`{}` cannot be used: {e}", path.display()), help)
    })
}

/// Shows a plan file. Needs no project: what it says is in it.
fn show(settings: &Settings, path: &Path) -> Result<u8, Failed> {
    let file = read(path)?;
    match settings.format {
        Format::Json => output::json(&json!({ "format": output::JSON_FORMAT, "plan": file })),
        Format::Text => {
            let known = file.engines.iter().filter_map(|entry| entry.estimate_ms);
            let unknown = file.engines.iter().filter(|entry| entry.estimate_ms.is_none()).count();
            // How many workers there will be is not known here.
            let estimate = Estimate { ms: known.sum(), unknown };
            output::stdout(&format!("made by {} from {}\n\n", output::printable(&file.tool), file.made_from));
            output::stdout(&text(&file, estimate, &[], 0));
        }
    }
    Ok(exit::DONE)
}

/// Plans some engines, where all others are known to be up to date. None if these are too: the whole is looked at again
/// then, so that it is remembered.
fn run_part(
    settings: &Settings,
    args: &PlanArgs,
    project: &Project,
    ctx: &build::Context<'_>,
    open: &[&Engine],
    others: usize,
) -> Result<Option<u8>, Failed> {
    let gathered = build::gather(ctx, open)?;
    ctx.cache.flush();
    let errors = errors_of(&gathered);
    let file = PlanFile::of(&gathered.planned, Vec::new(), build::TOOL);
    if !file.changes && errors.is_empty() {
        return Ok(None);
    }
    let estimate = build::estimate(&gathered.planned, ctx.jobs);
    let cache_warnings = ctx.cache.take_warnings();
    output::stderr(&warnings(settings, &project.warnings, &gathered.warnings, cache_warnings));
    output::stdout(&text(&file, estimate, &gathered.planned, others));
    render::print(settings, &errors);
    Ok(Some(match () {
        () if !errors.is_empty() => exit::INVALID,
        () if args.detailed_exitcode => exit::CHANGES,
        () => exit::DONE,
    }))
}

/// A plan as text: a table of what is to be done, and a count. Errors are those of the plan of now. So many `others`,
/// which are not in the file, are up to date.
fn text(file: &PlanFile, estimate: Estimate, planned: &[Planned], others: usize) -> String {
    let is_work = |entry: &&PlanEntry| entry.action != Action::UpToDate;
    let planned: BTreeMap<String, &Planned> = planned.iter().map(|p| (p.name.to_string(), p)).collect();
    let mut rows: Vec<Vec<String>> = file
        .engines
        .iter()
        .filter(is_work)
        .map(|entry| row(entry, planned.get(&entry.engine).copied()))
        .collect();
    rows.extend(file.orphans.iter().map(|orphan| {
        let why = "no manifest declares it: `apply --prune` removes it".to_owned();
        vec!["orphaned".to_owned(), orphan.clone(), why]
    }));
    let mut text = String::new();
    if !rows.is_empty() {
        text += &output::table(&["ACTION", "ENGINE", "WHY"], &rows);
        text.push('\n');
    }
    text += &counts(&file.engines, others);
    text += &time(estimate);
    text.push('\n');
    text
}

fn row(entry: &PlanEntry, planned: Option<&Planned>) -> Vec<String> {
    let errors = planned.map_or(&[][..], |p| &p.errors);
    let lacks = planned.map_or(&[][..], |p| &p.lacks);
    let why = match errors {
        [] => {
            let mut texts: Vec<String> = entry.reasons.iter().map(|told| told.text.clone()).collect();
            texts.extend(lacks.iter().map(|lack| format!("cannot be built here: {}", lack.message)));
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            text_lines(&entry.engine, &texts)
        }
        errors => errors.iter().map(|e| e.message.clone()).collect::<Vec<_>>().join("\n"),
    };
    vec![entry.action.name().to_owned(), entry.engine.clone(), why]
}

/// How long it will take, if there is anything to tell.
fn time(Estimate { ms, unknown }: Estimate) -> String {
    match (ms, unknown) {
        (0, _) => String::new(),
        (ms, 0) => format!(", in about {}", output::duration(ms)),
        (ms, n) => format!(", in about {} and the time of {n} never done", output::duration(ms)),
    }
}

/// `2 to build, 1 up to date`, or that nothing is to do.
fn counts(planned: &[PlanEntry], others: usize) -> String {
    let count = |action: Action| {
        let others = if action == Action::UpToDate { others } else { 0 };
        planned.iter().filter(|entry| entry.action == action).count() + others
    };
    let all = planned.len() + others;
    if all > 0 && count(Action::UpToDate) == all {
        return format!("{}{} up to date", memo::NOTHING_TO_DO, output::count(all, "engine"));
    }
    let parts: Vec<String> = [
        (Action::Build, "to build"),
        (Action::Rebuild, "to rebuild"),
        (Action::Publish, "to publish"),
        (Action::Restore, "to restore"),
        (Action::Measure, "to measure"),
        (Action::Judge, "to judge"),
        (Action::Unknown, "unknown"),
        (Action::Error, "with errors"),
        (Action::UpToDate, "up to date"),
    ]
    .into_iter()
    .filter_map(|(action, what)| {
        let n = count(action);
        (n > 0).then(|| format!("{n} {what}"))
    })
    .collect();
    if parts.is_empty() { "no engines are declared".to_owned() } else { parts.join(", ") }
}

pub(super) fn planned_json(planned: &Planned) -> serde_json::Value {
    json!({
        "engine": planned.name.to_string(),
        "action": planned.action,
        "reasons": reasons_json(&planned.reasons),
        "estimate_ms": planned.estimate_ms,
        "build_key": planned.keyed.as_ref().map(|k| k.build_key),
        "measure": measure_json(planned),
        "lacks": planned.lacks.iter().map(render::json).collect::<Vec<_>>(),
        "errors": planned.errors.iter().map(render::json).collect::<Vec<_>>(),
    })
}

/// The measure action: its key, and if it is to be run; null if there is none.
fn measure_json(planned: &Planned) -> serde_json::Value {
    match &planned.accuracy {
        AccuracyFact::Known(accuracy) => json!({
            "key": accuracy.judged.measure,
            "samples": accuracy.spec.count(),
            "needed": accuracy.judgement.is_none(),
            "verdict": accuracy.judgement.as_ref().map(|judgement| judgement.verdict),
        }),
        _ => serde_json::Value::Null,
    }
}

/// Reasons as data, each with its text.
pub(super) fn reasons_json(reasons: &[Reason]) -> serde_json::Value {
    let reasons = reasons.iter().map(|reason| {
        let mut value = json!(reason);
        value["text"] = json!(reason.to_string());
        value
    });
    reasons.collect()
}
