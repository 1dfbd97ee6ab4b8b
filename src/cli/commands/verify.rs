//! `enginewright verify`

use std::fmt::Write as _;
use std::time::SystemTime;

use serde_json::json;

use super::super::args::VerifyArgs;
use super::super::exit::{self, Failed};
use super::super::progress::Progress;
use super::super::settings::{Format, Settings};
use super::super::{output, render};
use super::{distinct, print_warnings};
use crate::build::{self, Verified, VerifyOutcome};
use crate::diagnostic::Diagnostic;
use crate::source::Network;
use crate::verify::{Judgement, Number, Row, Verdict, is_at_least};

pub(super) fn run(settings: &Settings, args: &VerifyArgs) -> Result<u8, Failed> {
    let project = settings.project()?;
    let engines = project.select(&args.engines.engines)?;
    #[expect(clippy::disallowed_methods, reason = "cli is where the clock is read")]
    let now = SystemTime::now();
    let progress = Progress::new(settings, project.cache.start_run(now).ok());
    let network = if args.offline { Network::Deny } else { Network::Allow };
    let ctx = settings.context(&project, network, args.jobs, &progress)?;
    let (verified, warnings) = build::verify(&ctx, &engines)?;

    let of_engines = verified.iter().flat_map(|v| match &v.outcome {
        VerifyOutcome::Failed(errors) => errors.as_slice(),
        _ => &[],
    });
    let errors = distinct(of_engines);
    let cache_warnings = ctx.cache.take_warnings();
    match settings.format {
        Format::Json => {
            let diagnostics: Vec<Diagnostic> =
                distinct(errors.iter().chain(&project.warnings).chain(&warnings));
            output::json(&json!({
                "format": output::JSON_FORMAT,
                "engines": verified.iter().map(as_json).collect::<Vec<_>>(),
                "diagnostics": diagnostics.iter().map(render::json).collect::<Vec<_>>(),
                "cache_warnings": cache_warnings,
            }));
        }
        Format::Text => {
            print_warnings(settings, &project.warnings, &warnings, cache_warnings);
            let texts: Vec<String> = verified.iter().map(text).collect();
            output::stdout(&texts.join("\n"));
            render::print(settings, &errors);
        }
    }
    let is_fine = |v: &Verified| match &v.outcome {
        VerifyOutcome::Judged(judgement) => judgement.verdict != Verdict::Failed,
        VerifyOutcome::NoneDeclared => true,
        VerifyOutcome::Failed(_) | VerifyOutcome::Cancelled => false,
    };
    Ok(if verified.iter().all(is_fine) { exit::DONE } else { exit::FAILED })
}

fn text(verified: &Verified) -> String {
    let name = &verified.engine;
    match &verified.outcome {
        VerifyOutcome::Judged(judgement) => judged(name, judgement),
        VerifyOutcome::NoneDeclared => {
            format!("{name}: none-declared: its manifest has no `verify` table\n")
        }
        VerifyOutcome::Failed(_) => format!("{name}: not measured\n"),
        VerifyOutcome::Cancelled => format!("{name}: not done\n"),
    }
}

fn judged(name: &str, judgement: &Judgement) -> String {
    let samples = usize::try_from(judgement.samples).unwrap_or(usize::MAX);
    let mut text = format!("{name}: {}, {}\n", judgement.verdict, output::count(samples, "sample"));
    let rows: Vec<Vec<String>> = judgement.rows.iter().map(cells).collect();
    text += &output::table(&["OUTPUT", "METRIC", "WORST", "LIMIT", "IN SAMPLE", "OK"], &rows);
    for failure in &judgement.failures {
        let _ = writeln!(text, "fails: {failure}");
    }
    if judgement.rounding > 0 && judgement.optimistic.is_empty() {
        let nodes = usize::try_from(judgement.rounding).unwrap_or(usize::MAX);
        let _ = writeln!(text, "the oracle rounds {} as a GPU does", output::count(nodes, "node"));
    }
    for row in &judgement.optimistic {
        let nodes = output::count(usize::try_from(row.nodes).unwrap_or(usize::MAX), "node");
        let _ = writeln!(text, "kinder than a GPU: {} in {} ({nodes}): {}", row.op, row.of, row.reason);
    }
    text
}

/// `<= 0.01 (default)`; nothing without a limit.
pub(super) fn limit(row: &Row) -> String {
    let Some(limit) = row.limit else { return String::new() };
    let sign = if is_at_least(&row.metric) { ">=" } else { "<=" };
    let default = if row.is_default { " (default)" } else { "" };
    format!("{sign} {}{default}", Number(limit))
}

fn cells(row: &Row) -> Vec<String> {
    let limit = limit(row);
    let ok = match (row.limit, row.ok) {
        (None, _) => "",
        (_, true) => "yes",
        (_, false) => "NO",
    };
    vec![
        row.output.clone(),
        row.metric.clone(),
        row.worst.to_string(),
        limit,
        row.sample.clone(),
        ok.to_owned(),
    ]
}

fn as_json(verified: &Verified) -> serde_json::Value {
    match &verified.outcome {
        VerifyOutcome::Judged(judgement) => {
            let mut value = json!(judgement);
            value["engine"] = json!(verified.engine);
            value
        }
        VerifyOutcome::NoneDeclared => {
            json!({ "engine": verified.engine, "verdict": Verdict::NoneDeclared })
        }
        VerifyOutcome::Failed(errors) => {
            let errors: Vec<_> = errors.iter().map(render::json).collect();
            json!({ "engine": verified.engine, "verdict": null, "errors": errors })
        }
        VerifyOutcome::Cancelled => json!({ "engine": verified.engine, "verdict": null }),
    }
}
