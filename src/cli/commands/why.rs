//! `enginewright why`

use std::fmt::Write as _;

use serde_json::json;

use super::super::exit::{self, Failed};
use super::super::output;
use super::super::progress::Progress;
use super::super::settings::{Format, Project, Settings};
use super::plan::reasons_json;
use super::{diagnostics_json, print_warnings};
use crate::build;
use crate::diagnostic::Diagnostic;
use crate::digest::{Digest, Preimage};
use crate::engine::Proof;
use crate::plan::{self, AccuracyFact, Action, LOCK_FILE_NAME, Planned, Reason};
use crate::source::Network;

pub(super) fn run(settings: &Settings, engine: &str, since: Option<&str>) -> Result<u8, Failed> {
    let project = settings.project()?;
    let engine = project.engine(engine)?;
    let progress = Progress::new(settings, None);
    let ctx = settings.context(&project, Network::Deny, None, &progress)?;
    let gathered = build::gather(&ctx, &[engine])?;
    ctx.cache.flush();
    let planned = &gathered.planned[0];
    let proof = build::proof_of_pins(&ctx, engine, planned)?;
    if !planned.errors.is_empty() {
        if let (Some(proof), Format::Text) = (&proof, settings.format) {
            output::stdout(&proof_text(proof));
        }
        return Err(Failed { code: exit::INVALID, diagnostics: planned.errors.clone() });
    }
    let since = match since {
        None => None,
        Some(since) => {
            let (what, key) = since_key(&project, &planned.name.to_string(), since)?;
            let reasons = build::causes_since(&ctx, &gathered, engine, planned, &key);
            Some(Since { what, key, reasons })
        }
    };
    let command = planned.keyed.as_ref().map(|keyed| repeat(&keyed.build_key));
    if settings.format == Format::Json {
        output::json(&json!({
            "format": output::JSON_FORMAT,
            "engine": planned.name.to_string(),
            "action": planned.action,
            "reasons": reasons_json(&planned.reasons),
            "since": since.as_ref().map(|since| json!({
                "what": since.what, "build_key": since.key, "reasons": reasons_json(&since.reasons),
            })),
            "repeat": command,
            "build": planned.keyed.as_ref().map(|k| &k.build),
            "build_key": planned.keyed.as_ref().map(|k| k.build_key),
            "prepare": planned.keyed.as_ref().map(|k| &k.prepare),
            "prepare_key": planned.keyed.as_ref().map(|k| k.prepare.key()),
            "pins": proof.as_ref().map(|proof| json!({
                "counts": proof.counts(),
                "narrow": proof.narrow,
                "narrow_named": proof.narrow_named,
                "all": proof.pins,
            })),
            "measure": measure(planned),
            "measure_key": measure(planned).map(Preimage::key),
            "diagnostics": diagnostics_json(&project, &gathered),
            "cache_warnings": ctx.cache.take_warnings(),
        }));
        return Ok(exit::DONE);
    }
    print_warnings(settings, &project.warnings, &gathered.warnings, ctx.cache.take_warnings());
    let mut text = format!("{}: {}\n", planned.name, planned.action.name());
    if planned.action == Action::UpToDate {
        text += "  the published engine was built from these very inputs\n";
    }
    for reason in &planned.reasons {
        let _ = writeln!(text, "  {reason}");
    }
    if let Some(since) = &since {
        let _ = writeln!(text, "since {}: build key {}", since.what, since.key);
        for reason in &since.reasons {
            let _ = writeln!(text, "  {reason}");
        }
        if since.reasons.is_empty() {
            text += "  nothing differs\n";
        }
    }
    if let Some(command) = &command {
        let _ = writeln!(text, "once built, it is built again by: {command}");
    }
    if let Some(keyed) = &planned.keyed {
        for preimage in [&keyed.prepare, &keyed.build].into_iter().chain(measure(planned)) {
            let _ = writeln!(text, "\n{} key {}", preimage.action, preimage.key());
            let rows: Vec<Vec<String>> = plan::fields(preimage)
                .into_iter()
                .map(|(name, value)| vec![format!("  {name}"), value])
                .collect();
            text += &output::table(&["  FIELD", "VALUE"], &rows);
        }
    }
    if let Some(proof) = &proof {
        text += "\n";
        text += &proof_text(proof);
    }
    output::stdout(&text);
    Ok(exit::DONE)
}

/// What an engine is told against.
struct Since {
    what: String,
    key: Digest,
    reasons: Vec<Reason>,
}

/// The command that repeats a build from the cache alone.
fn repeat(key: &Digest) -> String {
    format!("enginewright build-action {key}")
}

/// How many runs are named to choose from.
const SHOWN_RUNS: usize = 10;

/// The build of an engine in the lock file, or in the run whose name begins like this.
fn since_key(project: &Project, engine: &str, since: &str) -> Result<(String, Digest), Failed> {
    let no = |message: String, help: String| {
        Failed::new(exit::USAGE, Diagnostic::error("since", message).help(help))
    };
    if since == "lock" {
        return match project.lock.engine(engine) {
            Some(locked) => Ok((format!("`{LOCK_FILE_NAME}`"), locked.build)),
            None => {
                Err(no(format!("`{engine}` is not in `{LOCK_FILE_NAME}`"), "`apply` writes it".to_owned()))
            }
        };
    }
    let runs = project.cache.runs()?;
    let keys: Vec<(String, Digest)> = runs
        .iter()
        .filter_map(|run| Some((run.id.clone(), planned_key(&run.events().ok()?, engine)?)))
        .collect();
    let found: Vec<&(String, Digest)> = keys.iter().filter(|(id, _)| id.starts_with(since)).collect();
    let several = |keys: &[&(String, Digest)]| {
        let ids: Vec<&str> = keys.iter().rev().take(SHOWN_RUNS).map(|(id, _)| id.as_str()).collect();
        ids.join(", ")
    };
    match found.as_slice() {
        [(id, key)] => Ok((format!("run {id}"), *key)),
        [] if keys.is_empty() => Err(no(
            format!("no run in this cache planned `{engine}`"),
            "`apply` records runs; `--since lock` compares with the lock file".to_owned(),
        )),
        [] => Err(no(
            format!("no run whose name begins with `{since}` planned `{engine}`"),
            format!("the last are {}", several(&keys.iter().collect::<Vec<_>>())),
        )),
        found => Err(no(
            format!("`{since}` is the start of {} runs", found.len()),
            format!("name one of {}", several(found)),
        )),
    }
}

/// The key of an engine's build, by the events of a run.
fn planned_key(events: &[serde_json::Value], engine: &str) -> Option<Digest> {
    let planned = events.iter().find(|e| e["event"] == "planned" && e["engine"] == engine)?;
    planned["build"].as_str()?.parse().ok()
}

/// Each node that was declared FP32, and what the engine shows of it.
fn proof_text(proof: &Proof) -> String {
    let mut text = format!("pins: {}\n", proof.counts());
    if !proof.pins.is_empty() {
        let rows: Vec<Vec<String>> = proof
            .pins
            .iter()
            .map(|pin| {
                let kernel = pin.kernel.as_ref().map_or_else(String::new, |kernel| format!("{kernel}: "));
                vec![
                    format!("  {}", pin.verdict.name()),
                    pin.node.clone(),
                    pin.op.clone(),
                    format!("{kernel}{}", pin.why),
                ]
            })
            .collect();
        text += &output::table(&["  PROOF", "NODE", "OPERATOR", "SHOWN BY"], &rows);
        let _ = writeln!(text, "  of {} nodes in 16 bits, kernels name {}", proof.narrow, proof.narrow_named);
    }
    text
}

/// The inputs of the measurement, if there is one.
fn measure(planned: &Planned) -> Option<&Preimage> {
    match &planned.accuracy {
        AccuracyFact::Known(accuracy) => Some(&accuracy.measure),
        _ => None,
    }
}
