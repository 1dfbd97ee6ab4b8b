//! `enginewright apply`

use std::path::Path;
use std::time::{Instant, SystemTime};

use serde_json::json;

use super::super::args::ApplyArgs;
use super::super::exit::{self, Failed};
use super::super::memo::{self, Answer};
use super::super::progress::Progress;
use super::super::settings::{Format, Settings};
use super::super::{output, render};
use super::plan::reasons_json;
use super::{distinct, plan, reason_lines, warnings};
use crate::build::{self, ApplyOptions, EngineOutcome, Made, Outcome, RunSummary};
use crate::diagnostic::Diagnostic;
use crate::plan::{Action, PlanFile};
use crate::source::Network;

pub(super) fn run(settings: &Settings, args: &ApplyArgs) -> Result<u8, Failed> {
    let started = Instant::now();
    let has_plan = args.engines.iter().any(|name| is_file(name));
    let question = match memo::ask(settings, !has_plan) {
        Ok(answer) => {
            output::stderr(&answer.stderr);
            let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            output::stdout(&format!("{} ({})\n", answer.stdout, output::duration(ms)));
            return Ok(exit::DONE);
        }
        Err(question) => question,
    };
    let project = settings.project()?;
    let plan = plan_of(settings, args)?;
    let engines = match &plan {
        Some(plan) => project.declared(plan.engines.iter().map(|entry| entry.engine.as_str())),
        None => project.select(&args.engines)?,
    };
    #[expect(clippy::disallowed_methods, reason = "cli is where the clock is read")]
    let now = SystemTime::now();
    let progress = Progress::new(settings, project.cache.start_run(now).ok());
    let network = if args.offline { Network::Deny } else { Network::Allow };
    let mut ctx = settings.context(&project, network, args.jobs, &progress)?;
    ctx.locked = args.locked;
    ctx.verify = !args.no_verify;
    ctx.skip_unbuildable = args.skip_unbuildable;
    let summary = build::apply(&ctx, &engines, ApplyOptions { prune: args.prune, plan: plan.as_ref() })?;

    let of_engines = summary.engines.iter().flat_map(|e| match &e.outcome {
        Outcome::Failed(errors) => errors.as_slice(),
        _ => &[],
    });
    let failures = distinct(of_engines.chain(&summary.errors));
    let cache_warnings = ctx.cache.take_warnings();
    match settings.format {
        Format::Json => output::json(&as_json(&summary, &project.warnings, &failures, &cache_warnings)),
        Format::Text => {
            let told_once = !cache_warnings.is_empty();
            let warnings = warnings(settings, &project.warnings, &summary.warnings, cache_warnings);
            output::stderr(&warnings);
            render::print(settings, &failures);
            let is_worth_keeping = summary.is_settled && settings.stopped_by().is_none() && !summary.wrote;
            if is_worth_keeping && failures.is_empty() && !told_once && !summary.engines.is_empty() {
                let stdout = up_to_date(summary.engines.len());
                question.answered(settings, &ctx.cache, &Answer { stdout, stderr: warnings });
            }
            output::stdout(&text(&summary));
        }
    }
    let done = |e: &EngineOutcome| matches!(e.outcome, Outcome::Done { .. } | Outcome::Skipped(_));
    Ok(if failures.is_empty() && summary.engines.iter().all(done) { exit::DONE } else { exit::FAILED })
}

/// Does an argument name a plan file, and no engine?
fn is_file(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e == "json")
}

/// The plan file among the arguments, if one is.
fn plan_of(settings: &Settings, args: &ApplyArgs) -> Result<Option<PlanFile>, Failed> {
    match (args.engines.iter().find(|name| is_file(name)), args.engines.len()) {
        (None, _) => Ok(None),
        (Some(file), 1) => plan::read(&settings.here(Path::new(file))).map(Some),
        (Some(file), _) => {
            let message = format!("`{file}` is a plan, which names its engines itself");
            let error = Diagnostic::error("plan-file", message).help("give the plan, or engines");
            Err(Failed::new(exit::USAGE, error))
        }
    }
}

/// A table of what was done, and a count.
fn text(summary: &RunSummary) -> String {
    let worked =
        |e: &&EngineOutcome| e.action != Action::UpToDate || !matches!(e.outcome, Outcome::Done { .. });
    let rows: Vec<Vec<String>> = summary.engines.iter().filter(worked).map(row).collect();
    let (total, time) = (summary.engines.len(), output::duration(summary.ms));
    if rows.is_empty() {
        return match total {
            0 => "no engines are declared\n".to_owned(),
            _ => format!("{} ({time})\n", up_to_date(total)),
        };
    }
    let failed = summary.engines.iter().filter(|e| matches!(e.outcome, Outcome::Failed(_))).count();
    let stopped = summary.engines.iter().filter(|e| matches!(e.outcome, Outcome::Cancelled)).count();
    let skipped = summary.engines.iter().filter(|e| matches!(e.outcome, Outcome::Skipped(_))).count();
    let mut counts =
        vec![format!("{} of {} ready", total - failed - stopped - skipped, output::count(total, "engine"))];
    counts.extend((failed > 0).then(|| format!("{failed} failed")));
    counts.extend((skipped > 0).then(|| format!("{skipped} cannot be built here")));
    counts.extend((stopped > 0).then(|| format!("{stopped} not done")));
    let table = output::table(&["RESULT", "ENGINE", "SIZE", "BUILD TIME", "VERDICT", "WHY"], &rows);
    format!("{table}\n{} in {time}{}\n", counts.join(", "), sources(summary))
}

/// Where what is ready came from: `: 1 built, 3 from the cache`.
fn sources(summary: &RunSummary) -> String {
    let count = |made: Made| summary.engines.iter().filter(|engine| engine.made() == made).count();
    let parts: Vec<String> = [
        (Made::Built, "built"),
        (Made::Cache, "from the cache"),
        (Made::Restored, "restored from the cache"),
        (Made::Unchanged, "up to date"),
    ]
    .into_iter()
    .filter_map(|(made, what)| Some((count(made), what)).filter(|(n, _)| *n > 0))
    .map(|(n, what)| format!("{n} {what}"))
    .collect();
    if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) }
}

fn up_to_date(engines: usize) -> String {
    format!("{}{} up to date", memo::NOTHING_TO_DO, output::count(engines, "engine"))
}

fn row(engine: &EngineOutcome) -> Vec<String> {
    let (result, size, time, verdict) = match &engine.outcome {
        Outcome::Done { size, build_ms, verdict, made } => {
            let result = match engine.action {
                Action::Build | Action::Rebuild if *made == Made::Cache => "found",
                Action::Build => "built",
                Action::Rebuild => "rebuilt",
                Action::Measure => "measured",
                Action::Judge => "judged",
                Action::Restore => "restored",
                _ => "published",
            };
            (result, output::size(*size), output::duration(*build_ms), verdict.clone())
        }
        Outcome::Failed(_) => ("failed", String::new(), String::new(), String::new()),
        Outcome::Skipped(_) => ("skipped", String::new(), String::new(), String::new()),
        Outcome::Cancelled => ("not done", String::new(), String::new(), String::new()),
    };
    let why = match &engine.outcome {
        Outcome::Failed(errors) | Outcome::Skipped(errors) => {
            errors.iter().map(|e| output::brief(&e.message)).collect::<Vec<_>>().join("\n")
        }
        // `plan` still tells.
        Outcome::Cancelled => String::new(),
        Outcome::Done { .. } => reason_lines(&engine.engine, &engine.reasons),
    };
    vec![result.to_owned(), engine.engine.clone(), size, time, verdict, why]
}

fn as_json(
    summary: &RunSummary,
    warnings: &[Diagnostic],
    failures: &[Diagnostic],
    cache_warnings: &[String],
) -> serde_json::Value {
    let engines = summary.engines.iter().map(|engine| {
        let (outcome, size, build_ms, verdict, errors) = match &engine.outcome {
            Outcome::Done { size, build_ms, verdict, .. } => {
                ("done", Some(size), Some(build_ms), Some(verdict), Vec::new())
            }
            Outcome::Failed(errors) => {
                ("failed", None, None, None, errors.iter().map(render::json).collect())
            }
            Outcome::Skipped(lacks) => {
                ("skipped", None, None, None, lacks.iter().map(render::json).collect())
            }
            Outcome::Cancelled => ("not-done", None, None, None, Vec::new()),
        };
        json!({
            "engine": engine.engine,
            "action": engine.action,
            "reasons": reasons_json(&engine.reasons),
            "outcome": outcome,
            "made": engine.made(),
            "size": size,
            "build_ms": build_ms,
            "verdict": verdict,
            "errors": errors,
        })
    });
    let diagnostics = failures.iter().chain(warnings).chain(&summary.warnings);
    json!({
        "format": output::JSON_FORMAT,
        "engines": engines.collect::<Vec<_>>(),
        "ms": summary.ms,
        "diagnostics": diagnostics.map(render::json).collect::<Vec<_>>(),
        "cache_warnings": cache_warnings,
    })
}
