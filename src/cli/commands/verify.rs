//! `enginewright verify`

use std::fmt::Write as _;
use std::time::SystemTime;

use serde_json::json;

use super::super::args::{On, VerifyArgs};
use super::super::exit::{self, Failed};
use super::super::progress::Progress;
use super::super::settings::{Format, Settings};
use super::super::{output, render};
use super::{distinct, print_warnings};
use crate::build::{self, Gpus, Verified, VerifyOutcome};
use crate::diagnostic::Diagnostic;
use crate::gpu::LocalGpu;
use crate::source::Network;
use crate::verify::{Judgement, Number, Ran, Row, Verdict, is_at_least};

pub(super) fn run(settings: &Settings, args: &VerifyArgs) -> Result<u8, Failed> {
    let project = settings.project()?;
    let engines = project.select(&args.engines.engines)?;
    #[expect(clippy::disallowed_methods, reason = "cli is where the clock is read")]
    let now = SystemTime::now();
    let progress = Progress::new(settings, project.cache.start_run(now).ok());
    let network = if args.offline { Network::Deny } else { Network::Allow };
    let ctx = settings.context(&project, network, args.jobs, &progress)?;
    let (verified, warnings) = match args.on {
        None => build::verify(&ctx, &engines)?,
        Some(On::Gpu) => {
            let all = settings.local_gpus().map_err(|e| Failed::new(exit::CANNOT_START, e.into()))?;
            let wanted = args.gpu.as_deref().map(|wanted| place(&all, wanted)).transpose()?;
            build::on_gpu(&ctx, &engines, Gpus { all: &all, wanted })?
        }
    };

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

/// The place of the GPU that somebody means by a number or a UUID.
fn place(gpus: &[LocalGpu], wanted: &str) -> Result<usize, Failed> {
    let by_number = wanted.parse::<usize>().ok().filter(|number| *number < gpus.len());
    let by_uuid = || gpus.iter().position(|gpu| gpu.uuid.eq_ignore_ascii_case(wanted));
    by_number.or_else(by_uuid).ok_or_else(|| {
        let here: Vec<String> =
            gpus.iter().enumerate().map(|(n, gpu)| format!("{n} is {} ({})", gpu.name, gpu.uuid)).collect();
        let message = format!("this machine has no GPU `{wanted}`");
        let error = Diagnostic::error("gpu-missing", message).note(here.join(", "));
        Failed::new(exit::USAGE, error.help("give a number or a UUID of `enginewright gpu`"))
    })
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
    for Ran { gpu, ok } in &judgement.on_gpu {
        let driver = gpu.driver.as_ref().map(|driver| format!(", driver {driver}")).unwrap_or_default();
        let what = if *ok { "within the tolerances" } else { "outside the tolerances" };
        let _ = writeln!(text, "the engine ran on {} ({}{driver}): {what}", gpu.name, gpu.sm);
    }
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
