//! What is recorded of a project, as the plain data of a report.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::super::super::exit::Failed;
use super::super::super::output;
use super::super::super::render;
use super::super::super::settings::Project;
use super::super::rules;
use super::super::status;
use super::super::verify;
use crate::build::{self, Context, Gathered, ModelRules, Sidecar};
use crate::diagnostic::{Diagnostic, Place};
use crate::digest::{Digest, Preimage};
use crate::manifest::Engine;
use crate::plan::{self, AccuracyFact, Action, Planned};
use crate::report::{self, Entry, History, Message, Report, State};
use crate::verify::{DRIFT_LIMIT, Drift};

pub(super) fn report(ctx: &Context<'_>, project: &Project, engines: &[&Engine]) -> Result<Report, Failed> {
    let gathered = build::gather(ctx, engines)?;
    let models = build::model_rules(ctx, engines)?;
    let drifts = drifts(ctx, &gathered)?;
    ctx.cache.flush();
    let root = &project.manifest.root;
    let history = history(ctx, root)?;
    let model_of = |engine: &str| models.iter().position(|model| model.engines.iter().any(|e| e == engine));
    let of_engines = engines.iter().zip(&gathered.planned).map(|(engine, planned)| {
        let mut found = of_engine(engine, planned, &gathered, &history, root);
        found.model = model_of(&found.name);
        let sidecar = gathered.sidecars.get(&found.name);
        // Of what is published, which may be another than what is planned.
        let record = sidecar.and_then(|sidecar| ctx.cache.record("build", &sidecar.build_key).ok().flatten());
        found.build_ms = record.map(|record| record.duration_ms);
        found
    });
    let of_engines: Vec<report::Engine> = of_engines.collect();
    // What is said of an engine's model is said with the model.
    let mut of_models: Vec<report::Model> = models.iter().map(|model| of_model(model, root)).collect();
    for (model, rules) in of_models.iter_mut().zip(&models) {
        model.drift =
            drifts.iter().filter(|d| d.engines.iter().any(|e| rules.engines.contains(e))).cloned().collect();
    }
    let mut messages = Vec::new();
    let all = project.warnings.iter().chain(&gathered.warnings);
    let cache = ctx.cache.take_warnings().into_iter().map(|text| Diagnostic::warning("cache", text));
    for diagnostic in all.cloned().chain(cache) {
        let message = message(&diagnostic, root);
        let known = messages.iter().chain(of_models.iter().flat_map(|model| &model.messages));
        if known.into_iter().any(|known| *known == message) {
            continue;
        }
        match model_in(&diagnostic, engines, &gathered, &models) {
            Some(model) => of_models[model].messages.push(message),
            None => messages.push(message),
        }
    }
    Ok(Report {
        format: output::JSON_FORMAT,
        project: root.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        tool: concat!("enginewright ", env!("CARGO_PKG_VERSION")).to_owned(),
        run: history.last().cloned(),
        targets: targets(engines, ctx),
        engines: of_engines,
        models: of_models,
        messages,
    })
}

/// What the recorded runs did; runs that cannot be read are none.
fn history(ctx: &Context<'_>, root: &Path) -> Result<History, Failed> {
    let mut runs: Vec<(String, Vec<Value>)> = Vec::new();
    for run in ctx.cache.runs()? {
        runs.push((run.id.clone(), run.events().unwrap_or_default()));
    }
    let runs = runs.iter().map(|(id, events)| (id.as_str(), events.as_slice()));
    Ok(report::history(&root.display().to_string(), runs))
}

fn targets(engines: &[&Engine], ctx: &Context<'_>) -> Vec<report::Target> {
    let mut targets: Vec<report::Target> = Vec::new();
    for engine in engines {
        let target = &engine.target;
        if targets.iter().any(|known| known.name == target.name) {
            continue;
        }
        let declared = ctx.manifest.toolchains.get(&target.toolchain);
        let toolchain = declared.map(|t| match &t.version {
            Some(version) => format!("{} {version}", t.kind.name()),
            None => t.kind.name().to_owned(),
        });
        targets.push(report::Target {
            name: target.name.clone(),
            gpu: target.gpu.clone(),
            sms: target.sms.iter().map(ToString::to_string).collect(),
            toolchain: toolchain.unwrap_or_default(),
        });
    }
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    targets
}

fn of_engine(
    engine: &Engine,
    planned: &Planned,
    gathered: &Gathered,
    history: &History,
    root: &Path,
) -> report::Engine {
    let name = planned.name.to_string();
    let sidecar = gathered.sidecars.get(&name);
    let (last, before) = history.of(&name);
    let mut errors: Vec<Message> = planned.errors.iter().map(|error| message(error, root)).collect();
    if let AccuracyFact::Known(accuracy) = &planned.accuracy
        && planned.fails()
    {
        let failures = accuracy.judgement.iter().flat_map(|judgement| &judgement.failures);
        errors.extend(failures.map(|text| plain_error("verify-failed", text)));
    }
    // A build that fails leaves nothing but what its run said, which is so as long as it would be the same build.
    let build_key = planned.keyed.as_ref().map(|keyed| keyed.build_key.to_string());
    let is_failure =
        |entry: &&Entry| entry.outcome == "failed" && build_key.as_ref() == Some(&entry.build_key);
    if let Some(failed) = history.last_attempt(&name).filter(is_failure)
        && errors.is_empty()
        && planned.action.is_work()
    {
        errors.extend(failed.errors.iter().map(|text| plain_error("last-run", text)));
    }
    let state = match planned.action {
        _ if !errors.is_empty() => State::Failed,
        Action::UpToDate => State::Current,
        Action::Unknown => State::Unknown,
        _ => State::Stale,
    };
    let judgement = match &planned.accuracy {
        AccuracyFact::Known(accuracy) => accuracy.judgement.as_ref(),
        _ => None,
    };
    let keys = planned.keyed.iter().flat_map(|keyed| [&keyed.prepare, &keyed.build]);
    let measure = match &planned.accuracy {
        AccuracyFact::Known(accuracy) => Some(&accuracy.measure),
        _ => None,
    };
    report::Engine {
        name: name.clone(),
        target: engine.target.name.clone(),
        state,
        status: status::state(planned, gathered.published.get(&name)).to_owned(),
        action: planned.action.name().to_owned(),
        why: {
            let lacks = planned.lacks.iter().map(|lack| lack.message.clone());
            planned.reasons.iter().map(ToString::to_string).chain(lacks).collect()
        },
        errors,
        verdict: match judgement {
            Some(judgement) => Some(judgement.verdict.name().to_owned()),
            None => sidecar.map(|sidecar| sidecar.verdict.clone()),
        },
        metrics: judgement.iter().flat_map(|judgement| &judgement.rows).map(metric).collect(),
        samples: judgement.map_or(0, |judgement| judgement.samples),
        pins: gathered.pins.get(&name).filter(|counts| counts.total() > 0).map(pins),
        size: sidecar.map(|sidecar| sidecar.file.size),
        build_ms: None,
        last: last.cloned(),
        before: before.cloned(),
        provenance: sidecar.map(|sidecar| provenance(engine, sidecar, root)).unwrap_or_default(),
        keys: keys.chain(measure).map(key).collect(),
        model: None,
    }
}

fn plain_error(code: &str, text: &str) -> Message {
    Message { level: "error".to_owned(), code: code.to_owned(), text: text.to_owned(), ..Message::default() }
}

fn metric(row: &crate::verify::Row) -> report::Metric {
    report::Metric {
        output: row.output.clone(),
        metric: row.metric.clone(),
        worst: row.worst.to_string(),
        limit: verify::limit(row),
        sample: row.sample.clone(),
        ok: row.limit.map(|_| row.ok),
    }
}

/// `12 honoured, 1 unknown`: what there is none of is not said.
fn pins(counts: &crate::engine::Counts) -> String {
    let parts = [(counts.honoured, "honoured"), (counts.demoted, "demoted"), (counts.unknown, "unknown")];
    let parts: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    parts.join(", ")
}

fn key(preimage: &Preimage) -> report::Key {
    report::Key {
        action: preimage.action.clone(),
        key: preimage.key().to_string(),
        fields: plan::fields(preimage),
    }
}

/// Where an engine comes from, as its sidecar tells.
fn provenance(engine: &Engine, sidecar: &Sidecar, root: &Path) -> Vec<(String, String)> {
    let path = build::engine_path(root, &engine.name);
    let path = path.strip_prefix(root).unwrap_or(&path).display().to_string();
    let class = match &sidecar.evidence {
        Some(e) => {
            format!("{}: {} of {} rebuilds equal", sidecar.class, e.rebuilds - e.differing, e.rebuilds)
        }
        None => sidecar.class.clone(),
    };
    let mut facts = vec![
        ("file", path),
        ("BLAKE3", sidecar.file.b3.to_string()),
        ("SHA-256", sidecar.file.sha256.clone().unwrap_or_default()),
        ("runs on", sidecar.sms.join(" ")),
        ("needs", sidecar.runtime.clone()),
        ("built by", format!("{} {}", sidecar.toolchain, sidecar.toolchain_version)),
        ("class", class),
        ("hermetic", sidecar.hermetic.clone()),
        ("model", sidecar.model.to_string()),
        ("prepared ONNX", sidecar.prepared.to_string()),
        ("prepare key", sidecar.prepare_key.to_string()),
        ("build key", sidecar.build_key.to_string()),
        ("recorded by", sidecar.tool.clone()),
    ];
    for binding in sidecar.bindings.as_array().into_iter().flatten() {
        let text = |name: &str| binding[name].as_str().unwrap_or_default().to_owned();
        let what = format!("{} {} {}", text("name"), text("element"), binding["dims"]);
        facts.push((if text("kind") == "input" { "input" } else { "output" }, what));
    }
    facts.into_iter().map(|(label, value)| (label.to_owned(), value)).collect()
}

fn of_model(model: &ModelRules, root: &Path) -> report::Model {
    let assignment = model.assignment.as_ref();
    let nodes = assignment.iter().flat_map(|assignment| &assignment.nodes).map(|node| report::Node {
        name: rules::path(node),
        op: node.op.clone(),
        of: node.of.map(|_| rules::type_name(node, model.tf32)),
        accumulator: rules::accumulator(node).map(str::to_owned),
        by: rules::decided(node, model, root),
    });
    let matched = assignment.iter().flat_map(|assignment| &assignment.rules);
    let rules = model.rules.iter().zip(matched).map(|(rule, matched)| report::Rule {
        name: rules::rule_name(rule, root),
        nodes: matched.nodes,
        instances: matched.instances,
    });
    let name = model.engines.first().map(String::as_str).unwrap_or_default();
    report::Model {
        name: name.rsplit_once('@').map_or(name, |(model, _)| model).to_owned(),
        engines: model.engines.clone(),
        nodes: nodes.collect(),
        rules: rules.collect(),
        messages: model.diagnostics.iter().map(|diagnostic| message(diagnostic, root)).collect(),
        drift: Vec::new(),
    }
}

/// What `verify --layers` has found, once for each way to measure.
fn drifts(ctx: &Context<'_>, gathered: &Gathered) -> Result<Vec<report::Drift>, Failed> {
    let mut found: BTreeMap<Digest, report::Drift> = BTreeMap::new();
    for planned in &gathered.planned {
        if let Some((key, drift)) = build::recorded_layers(ctx, planned)? {
            let known = found.entry(key).or_insert_with(|| of_drift(&drift));
            known.engines.push(planned.name.to_string());
        }
    }
    Ok(found.into_values().collect())
}

fn of_drift(drift: &Drift) -> report::Drift {
    let first: Vec<&str> = drift.first_broken(DRIFT_LIMIT).iter().map(|row| row.node.node.as_str()).collect();
    let nodes = drift.rows(DRIFT_LIMIT).into_iter().map(|row| {
        let node = row.node;
        let worst = node.values.iter().max_by(|a, b| a.error.0.total_cmp(&b.error.0));
        report::DriftNode {
            node: node.node.clone(),
            op: node.op.clone(),
            pattern: node.pattern.as_ref().map(|(kind, _)| kind.clone()),
            of: node.of.clone(),
            error: node.error(),
            absmax: node.absmax(),
            growth: row.growth.0,
            sample: worst.and_then(|value| drift.samples.get(value.sample)).cloned().unwrap_or_default(),
            broken: row.broken.map(|why| why.text().to_owned()),
            first: first.contains(&node.node.as_str()),
        }
    });
    let nodes = nodes.collect();
    let untapped = drift.untapped.text();
    report::Drift { engines: Vec::new(), samples: drift.samples.len(), limit: DRIFT_LIMIT, nodes, untapped }
}

/// The model that a diagnostic is about, if it lies in the model's files.
fn model_in(
    diagnostic: &Diagnostic,
    engines: &[&Engine],
    gathered: &Gathered,
    models: &[ModelRules],
) -> Option<usize> {
    let (Some(Place::File(file)) | Some(Place::Node { file, .. })) = &diagnostic.place else { return None };
    let of = |engine: &&&Engine| {
        gathered.files.get(&engine.source).is_some_and(|f| f.iter().any(|(path, _)| path == file))
    };
    let engine = engines.iter().find(of)?.name.to_string();
    models.iter().position(|model| model.engines.contains(&engine))
}

fn message(diagnostic: &Diagnostic, root: &Path) -> Message {
    Message {
        level: format!("{:?}", diagnostic.level).to_lowercase(),
        code: diagnostic.code.to_string(),
        text: diagnostic.message.clone(),
        place: diagnostic.place.as_ref().map(|place| render::place_text(place, Some(root))),
        notes: diagnostic.notes.clone(),
        help: diagnostic.help.clone(),
        rules: diagnostic.rules.clone(),
    }
}
