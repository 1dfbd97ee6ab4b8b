//! `enginewright why`

use std::fmt::Write as _;

use serde_json::json;

use super::super::exit::{self, Failed};
use super::super::output;
use super::super::progress::Progress;
use super::super::settings::{Format, Settings};
use super::plan::reasons_json;
use super::{diagnostics_json, print_warnings};
use crate::build;
use crate::digest::Preimage;
use crate::engine::Proof;
use crate::plan::{self, AccuracyFact, Action, Planned};
use crate::source::Network;

pub(super) fn run(settings: &Settings, engine: &str) -> Result<u8, Failed> {
    let project = settings.project()?;
    let engine = project.engine(engine)?;
    let progress = Progress::new(settings, None);
    let ctx = settings.context(&project, Network::Deny, None, &progress)?;
    let gathered = build::gather(&ctx, &[engine])?;
    ctx.cache.flush();
    let planned = &gathered.planned[0];
    let proof = build::proof_of_pins(&ctx, planned)?;
    if !planned.errors.is_empty() {
        if let (Some(proof), Format::Text) = (&proof, settings.format) {
            output::stdout(&proof_text(proof));
        }
        return Err(Failed { code: exit::INVALID, diagnostics: planned.errors.clone() });
    }
    if settings.format == Format::Json {
        output::json(&json!({
            "format": output::JSON_FORMAT,
            "engine": planned.name.to_string(),
            "action": planned.action,
            "reasons": reasons_json(&planned.reasons),
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
