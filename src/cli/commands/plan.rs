//! `enginewright plan`

use serde_json::json;

use super::super::args::PlanArgs;
use super::super::exit::{self, Failed};
use super::super::progress::Progress;
use super::super::settings::{Format, Settings};
use super::super::{output, render};
use super::{diagnostics_json, errors_of, print_warnings, reason_lines};
use crate::build::{self, Gathered};
use crate::plan::{AccuracyFact, Action, Planned, Reason};
use crate::source::Network;

pub(super) fn run(settings: &Settings, args: &PlanArgs) -> Result<u8, Failed> {
    let project = settings.project()?;
    let engines = project.select(&args.engines.engines)?;
    let progress = Progress::new(settings, None);
    let network = if args.fetch { Network::Allow } else { Network::Deny };
    let ctx = settings.context(&project, network, None, &progress)?;
    let gathered = build::gather(&ctx, &engines)?;
    ctx.cache.flush();
    let orphans = build::orphans(&ctx.manifest.root, &ctx.manifest.engines);
    let cache_warnings = ctx.cache.take_warnings();

    let errors = errors_of(&gathered);
    let differences = if args.locked { build::locked_differences(&ctx, &gathered) } else { Vec::new() };
    let changes = gathered.planned.iter().any(|p| !matches!(p.action, Action::UpToDate | Action::Error));
    match settings.format {
        Format::Json => output::json(&json!({
            "format": output::JSON_FORMAT,
            "changes": changes,
            "engines": gathered.planned.iter().map(planned_json).collect::<Vec<_>>(),
            "locked": differences.iter().map(render::json).collect::<Vec<_>>(),
            "orphans": orphans.iter().map(|o| output::path(o)).collect::<Vec<_>>(),
            "diagnostics": diagnostics_json(&project, &gathered),
            "cache_warnings": cache_warnings,
        })),
        Format::Text => {
            print_warnings(settings, &project.warnings, &gathered.warnings, cache_warnings);
            output::stdout(&text(&gathered));
            for orphan in &orphans {
                output::stdout(&format!("orphaned  {}: `apply --prune` removes it\n", orphan.display()));
            }
            render::print(settings, &errors);
            render::print(settings, &differences);
        }
    }
    Ok(match () {
        () if !errors.is_empty() => exit::INVALID,
        () if !differences.is_empty() => exit::FAILED,
        () if changes && args.detailed_exitcode => exit::CHANGES,
        () => exit::DONE,
    })
}

/// The plan as text: a table of what is to be done, and a count.
pub(super) fn text(gathered: &Gathered) -> String {
    let planned = &gathered.planned;
    let work: Vec<&Planned> = planned.iter().filter(|p| p.action != Action::UpToDate).collect();
    let mut text = String::new();
    if !work.is_empty() {
        let rows: Vec<Vec<String>> = work.iter().map(|p| row(p)).collect();
        text += &output::table(&["ACTION", "ENGINE", "WHY"], &rows);
        text.push('\n');
    }
    text += &counts(planned);
    text.push('\n');
    text
}

fn row(planned: &Planned) -> Vec<String> {
    let why = match planned.errors.as_slice() {
        [] => reason_lines(&planned.name.to_string(), &planned.reasons),
        errors => errors.iter().map(|e| e.message.clone()).collect::<Vec<_>>().join("\n"),
    };
    vec![planned.action.name().to_owned(), planned.name.to_string(), why]
}

/// `2 to build, 1 up to date`, or that nothing is to do.
fn counts(planned: &[Planned]) -> String {
    let count = |action: Action| planned.iter().filter(|p| p.action == action).count();
    if !planned.is_empty() && count(Action::UpToDate) == planned.len() {
        return format!("nothing to do: {} up to date", output::count(planned.len(), "engine"));
    }
    let parts: Vec<String> = [
        (Action::Build, "to build"),
        (Action::Rebuild, "to rebuild"),
        (Action::Publish, "to publish"),
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
        "build_key": planned.keyed.as_ref().map(|k| k.build_key),
        "measure": measure_json(planned),
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
