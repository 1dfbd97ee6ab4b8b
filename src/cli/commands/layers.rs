//! `enginewright verify --layers`

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::args::VerifyArgs;
use super::super::exit::{self, Failed};
use super::super::progress::Progress;
use super::super::settings::{Format, Settings};
use super::super::{output, render};
use super::{distinct, print_warnings};
use crate::build::{self, Drifted};
use crate::source::Network;
use crate::verify::{Drift, DriftRow, Number};

/// How many nodes a table shows.
const SHOWN: usize = 10;

pub(super) fn run(settings: &Settings, args: &VerifyArgs) -> Result<u8, Failed> {
    let project = settings.project()?;
    let engines = project.select(&args.engines.engines)?;
    let progress = Progress::new(settings, None);
    let network = if args.offline { Network::Deny } else { Network::Allow };
    let ctx = settings.context(&project, network, args.jobs, &progress)?;
    let (found, warnings) = build::layers(&ctx, &engines)?;
    let errors = distinct(found.iter().flat_map(|f| f.outcome.as_ref().err().into_iter().flatten()));
    let cache_warnings = ctx.cache.take_warnings();
    let limit = args.drift;
    match settings.format {
        Format::Json => {
            let diagnostics = distinct(errors.iter().chain(&project.warnings).chain(&warnings));
            output::json(&json!({
                "format": output::JSON_FORMAT,
                "limit": limit,
                "engines": found.iter().map(|f| as_json(f, limit)).collect::<Vec<_>>(),
                "diagnostics": diagnostics.iter().map(render::json).collect::<Vec<_>>(),
                "cache_warnings": cache_warnings,
            }));
        }
        Format::Text => {
            print_warnings(settings, &project.warnings, &warnings, cache_warnings);
            let text = |found: &Drifted| match &found.outcome {
                Ok(drift) => text(&found.engine, drift, limit),
                Err(errors) if errors.is_empty() => format!("{}: not done\n", found.engine),
                Err(_) => format!("{}: not measured\n", found.engine),
            };
            output::stdout(&found.iter().map(text).collect::<Vec<_>>().join("\n"));
            render::print(settings, &errors);
        }
    }
    let is_fine = |f: &Drifted| f.outcome.as_ref().is_ok_and(|drift| drift.first_broken(limit).is_empty());
    Ok(if found.iter().all(is_fine) { exit::DONE } else { exit::FAILED })
}

fn text(engine: &str, drift: &Drift, limit: f64) -> String {
    let samples = output::count(drift.samples.len(), "sample");
    let mut text = format!("{engine}: {}, {samples}\n", output::count(drift.nodes.len(), "node"));
    if let Some(untapped) = drift.untapped.text() {
        let _ = writeln!(text, "not looked at: {untapped}");
    }
    let (range, first) = (drift.out_of_range(), drift.first_broken(limit));
    if !range.is_empty() {
        let _ = writeln!(text, "\nvalues of the reference that FP16 cannot hold (65504):");
        text += &table(drift, &range);
    }
    if first.is_empty() {
        let _ = writeln!(text, "no value is further than {} from its reference", Number(limit));
    } else {
        let _ = writeln!(text, "\nthe first to break (limit {}):", Number(limit));
        text += &table(drift, &first);
    }
    let growth = drift.growth(limit, SHOWN);
    if !growth.is_empty() {
        let _ = writeln!(text, "\nwhere the error grows most:");
        text += &table(drift, &growth);
    }
    text
}

fn table(drift: &Drift, rows: &[DriftRow<'_>]) -> String {
    let cells = |row: &DriftRow<'_>| {
        let node = row.node;
        let worst = node.values.iter().max_by(|a, b| a.error.0.total_cmp(&b.error.0));
        let sample = worst.and_then(|value| drift.samples.get(value.sample)).cloned().unwrap_or_default();
        vec![
            node.node.clone(),
            node.op.clone(),
            node.pattern.as_ref().map(|(kind, _)| kind.clone()).unwrap_or_default(),
            node.of.clone(),
            Number(node.absmax()).to_string(),
            Number(node.error()).to_string(),
            row.growth.to_string(),
            sample,
            row.broken.map(|why| why.text().to_owned()).unwrap_or_default(),
        ]
    };
    let mut lines: Vec<Vec<String>> = rows.iter().take(SHOWN).map(cells).collect();
    if rows.len() > SHOWN {
        let mut more = vec![String::new(); 9];
        more[0] = format!("and {} more: `--format json`", rows.len() - SHOWN);
        lines.push(more);
    }
    let head = ["NODE", "OPERATOR", "PATTERN", "TYPE", "ABSMAX", "ERROR", "GROWTH", "IN SAMPLE", ""];
    output::table(&head, &lines)
}

fn as_json(found: &Drifted, limit: f64) -> Value {
    match &found.outcome {
        Ok(drift) => json!({
            "engine": found.engine,
            "samples": drift.samples,
            "untapped": drift.untapped,
            "out_of_range": drift.out_of_range(),
            "first_broken": drift.first_broken(limit),
            "growth": drift.growth(limit, SHOWN),
            "nodes": drift.nodes,
        }),
        Err(errors) => {
            let errors: Vec<Value> = errors.iter().map(render::json).collect();
            json!({ "engine": found.engine, "errors": errors })
        }
    }
}
