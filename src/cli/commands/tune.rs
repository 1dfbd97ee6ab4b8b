//! `enginewright tune`

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::args::TuneArgs;
use super::super::exit::{self, Failed};
use super::super::progress::Progress;
use super::super::settings::{Format, Project, Settings};
use super::super::{output, render};
use super::print_warnings;
use crate::build::{self, TuneStep, Tuned};
use crate::diagnostic::Diagnostic;
use crate::fs;
use crate::manifest::{Engine, NewRule, write_rules};
use crate::source::Network;
use crate::verify::{Number, is_at_least};

pub(super) fn run(settings: &Settings, args: &TuneArgs) -> Result<u8, Failed> {
    let project = settings.project()?;
    let engine = chosen(&project, &args.model)?;
    if args.write && engine.is_from_glob {
        let message = format!("`{}` has no table of its own to write a rule into", engine.name);
        let error = Diagnostic::error("tune-glob", message).at(&engine.origin, "declared by this glob");
        return Err(Failed::new(exit::INVALID, error.help("run without `--write`, and paste the rule")));
    }
    let progress = Progress::new(settings, None);
    let network = if args.offline { Network::Deny } else { Network::Allow };
    let ctx = settings.context(&project, network, None, &progress)?;
    let tuned = build::tune(&ctx, engine, usize::from(args.budget));
    ctx.cache.flush();
    let cache_warnings = ctx.cache.take_warnings();
    let tuned = match tuned {
        Ok(tuned) => tuned,
        Err(errors) => {
            if settings.format == Format::Json {
                let errors: Vec<Value> = errors.iter().map(render::json).collect();
                output::json(&json!({ "format": output::JSON_FORMAT, "diagnostics": errors }));
            }
            render::print(settings, &errors);
            return Ok(exit::FAILED);
        }
    };
    let rules = tuned.rules.as_deref();
    let written = match rules {
        Some(rules) if args.write => Some(write(engine, rules)?),
        _ => None,
    };
    match settings.format {
        Format::Json => output::json(&json!({
            "format": output::JSON_FORMAT,
            "engine": tuned.engine,
            "steps": tuned.steps.iter().map(step_json).collect::<Vec<_>>(),
            "chosen": tuned.chosen.as_ref().map(step_json),
            "rules": rules.map(|rules| rules.iter().map(|r| rule_json(engine, r)).collect::<Vec<_>>()),
            "is_smallest": rules.is_some() && !tuned.is_cut_short,
            "written": written,
            "cache_warnings": cache_warnings,
        })),
        Format::Text => {
            print_warnings(settings, &project.warnings, &[], cache_warnings);
            output::stdout(&text(engine, &tuned, written.as_deref()));
        }
    }
    Ok(if rules.is_some() { exit::DONE } else { exit::FAILED })
}

/// The engine to try on: the first of those that share one table.
fn chosen<'p>(project: &'p Project, name: &str) -> Result<&'p Engine, Failed> {
    let engines = project.select(&[name.to_owned()])?;
    let of_model =
        |engine: &&&Engine| engine.name.model_and_variant() == name || engine.name.to_string() == name;
    let named: Vec<&Engine> = engines.iter().filter(of_model).copied().collect();
    let engines = if named.is_empty() { engines } else { named };
    match engines.as_slice() {
        [first, rest @ ..] if rest.iter().all(|e| e.table == first.table && e.rules == first.rules) => {
            Ok(first)
        }
        several => {
            let names: Vec<String> = several.iter().map(|e| format!("`{}`", e.name)).collect();
            let message = format!("`{name}` is {} engines with rules of their own", several.len());
            let error =
                Diagnostic::error("engine", message).help(format!("name one of {}", names.join(", ")));
            Err(Failed::new(exit::USAGE, error))
        }
    }
}

/// Writes the rules into the manifest that declares the model; gives its path.
fn write(engine: &Engine, rules: &[NewRule]) -> Result<String, Failed> {
    let path = &engine.origin.file.path;
    let failed = |what: String| {
        let error = Diagnostic::error("tune-write", what).at(&engine.origin, "");
        Failed::new(exit::INVALID, error.help("run without `--write`, and paste the rule"))
    };
    let before = fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    if before != engine.origin.file.text {
        return Err(failed(format!("`{}` changed while it was tuned", path.display())));
    }
    let after = write_rules(&before, &engine.table, rules)
        .map_err(|e| failed(format!("the rules cannot be written into `{}`: {e}", path.display())))?;
    if after != before {
        fs::write_atomic(path, after.as_bytes()).map_err(|e| failed(e.to_string()))?;
    }
    Ok(path.display().to_string())
}

fn text(engine: &Engine, tuned: &Tuned, written: Option<&str>) -> String {
    let mut text = format!("{}: {}\n", tuned.engine, output::count(tuned.steps.len(), "probe"));
    let rows: Vec<Vec<String>> = tuned.steps.iter().chain(&tuned.chosen).map(cells).collect();
    text += &output::table(&["FP32", "NODES", "IN 16 BITS", "OF PRODUCTS", "PASSES", "ACCURACY"], &rows);
    match &tuned.rules {
        None if tuned.is_cut_short => text += "nothing passed within the budget: raise `--budget`\n",
        None => {
            let _ = writeln!(
                text,
                "nothing passes, not even with every node in fp32: its tolerances are narrower than that"
            );
        }
        Some(rules) if rules.is_empty() => text += "it passes as it is\n",
        Some(rules) => {
            let smallest = if tuned.is_cut_short {
                "the smallest set that was found within the budget"
            } else {
                "a smallest set that passes"
            };
            let _ = writeln!(text, "{smallest}:\n");
            for rule in rules {
                let _ = writeln!(text, "{}", rule.toml(&engine.table));
            }
        }
    }
    if let Some(path) = written {
        let _ = writeln!(text, "written to {path}");
    }
    text
}

fn cells(step: &TuneStep) -> Vec<String> {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let half = step.half as f64 / (step.half + step.wide).max(1) as f64;
    let (shares, passes, accuracy) = match &step.outcome {
        Ok(_) => {
            let passes = if step.passes() { "yes" } else { "NO" };
            ([percent(half), percent(step.half_macs)], passes, accuracy(step))
        }
        Err(why) => ([String::new(), String::new()], "refused", why.clone()),
    };
    let [half, macs] = shares;
    vec![step.what.clone(), step.wide.to_string(), half, macs, passes.to_owned(), accuracy]
}

/// What is tolerated and what there is, the worst output of each metric.
fn accuracy(step: &TuneStep) -> String {
    let Ok(judgement) = &step.outcome else { return String::new() };
    let gated: Vec<_> = judgement.rows.iter().filter(|row| row.limit.is_some()).collect();
    let mut shown: Vec<&str> = Vec::new();
    let mut parts = Vec::new();
    for row in &gated {
        if shown.contains(&row.metric.as_str()) {
            continue;
        }
        shown.push(&row.metric);
        let of_metric = gated.iter().filter(|other| other.metric == row.metric);
        let worst = of_metric
            .map(|r| r.worst.0)
            .reduce(|a, b| if is_at_least(&row.metric) { a.min(b) } else { a.max(b) });
        let sign = if is_at_least(&row.metric) { ">=" } else { "<=" };
        let limit = Number(row.limit.unwrap_or_default());
        parts.push(format!("{} {} ({sign} {limit})", row.metric, Number(worst.unwrap_or_default())));
    }
    if judgement.failures.iter().any(|f| f.contains(" NaN in ") || f.contains(" Inf in ")) {
        parts.push("NaN or Inf".to_owned());
    }
    parts.join(", ")
}

fn step_json(step: &TuneStep) -> Value {
    let (judgement, refused) = match &step.outcome {
        Ok(judgement) => (Some(judgement), None),
        Err(why) => (None, Some(why)),
    };
    json!({
        "what": step.what,
        "asked_nodes": step.asked,
        "fp32_nodes": step.wide,
        "half_nodes": step.half,
        "half_macs": step.half_macs,
        "passes": step.passes(),
        "rows": judgement.map(|j| &j.rows),
        "failures": judgement.map(|j| &j.failures),
        "refused": refused,
    })
}

fn rule_json(engine: &Engine, rule: &NewRule) -> Value {
    json!({
        "name": rule.name,
        "pattern": rule.select.pattern,
        "node": rule.select.node,
        "expect": rule.expect,
        "toml": rule.toml(&engine.table),
    })
}
