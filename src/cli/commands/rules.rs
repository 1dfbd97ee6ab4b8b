//! `enginewright rules`

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use super::super::exit::{self, Failed};
use super::super::progress::Progress;
use super::super::settings::{Format, Settings};
use super::super::{output, render};
use crate::build::{self, ModelRules};
use crate::diagnostic::Level;
use crate::precision::{Assignment, Decider, FloatType, NodeAssignment, ResolvedRule};
use crate::source::Network;

pub(super) fn run(settings: &Settings, model: &str) -> Result<u8, Failed> {
    let project = settings.project()?;
    let engines = project.select(&[model.to_owned()])?;
    let progress = Progress::new(settings, None);
    let ctx = settings.context(&project, Network::Deny, None, &progress)?;
    let found = build::model_rules(&ctx, &engines)?;
    ctx.cache.flush();
    let root = &project.manifest.root;
    match settings.format {
        Format::Json => {
            let models: Vec<_> = found.iter().map(|rules| as_json(rules, root)).collect();
            output::json(&json!({ "format": output::JSON_FORMAT, "models": models }));
        }
        Format::Text => {
            for (i, rules) in found.iter().enumerate() {
                let gap = if i == 0 { "" } else { "\n" };
                output::stdout(&format!("{gap}{}", text(rules, root)));
                render::print(settings, &rules.diagnostics);
            }
        }
    }
    let failed = found.iter().any(|rules| rules.diagnostics.iter().any(|d| d.level == Level::Error));
    Ok(if failed { exit::INVALID } else { exit::DONE })
}

fn text(rules: &ModelRules, root: &Path) -> String {
    let mut text = format!("{}\n", rules.engines.join(", "));
    let Some(assignment) = &rules.assignment else {
        if rules.diagnostics.is_empty() {
            text += "as-is: every node has the types of the file\n";
        }
        return text;
    };
    let rows: Vec<Vec<String>> = assignment
        .nodes
        .iter()
        .map(|node| {
            let sums = accumulator(node).unwrap_or("-").to_owned();
            vec![path(node), node.op.clone(), type_name(node, rules.tf32), sums, decided(node, rules, root)]
        })
        .collect();
    text += &output::table(&["NODE", "OPERATOR", "TYPE", "ACCUMULATOR", "DECIDED BY"], &rows);
    let _ = writeln!(text, "{}", counts(assignment));
    for (rule, matched) in rules.rules.iter().zip(&assignment.rules) {
        let instances = match matched.instances {
            Some(n) => format!(", {}", output::count(n, "instance")),
            None => String::new(),
        };
        let skipped = match matched.skipped {
            0 => String::new(),
            n => format!(", {n} without a float result"),
        };
        let nodes = output::count(matched.nodes, "node");
        let _ = writeln!(text, "  {}: {nodes}{instances}{skipped}", rule_name(rule, root));
    }
    text
}

/// `12 nodes: 3 fp16, 4 fp32, 5 without a type`
fn counts(assignment: &Assignment) -> String {
    let mut parts: Vec<String> = [FloatType::Fp16, FloatType::Bf16, FloatType::Fp32]
        .into_iter()
        .map(|of| (assignment.count(of), of))
        .filter(|(n, _)| *n > 0)
        .map(|(n, of)| format!("{n} {}", of.name()))
        .collect();
    let without = assignment.nodes.iter().filter(|node| node.of.is_none()).count();
    if without > 0 {
        parts.push(format!("{without} without a type"));
    }
    format!("{}: {}", output::count(assignment.nodes.len(), "node"), parts.join(", "))
}

/// The name, after those of the nodes whose subgraphs it lies in.
pub(super) fn path(node: &NodeAssignment) -> String {
    node.inside.iter().chain([&node.name]).map(String::as_str).collect::<Vec<_>>().join(" > ")
}

/// `fp32 (tf32)` where that is what FP32 means.
pub(super) fn type_name(node: &NodeAssignment, tf32: bool) -> String {
    let of = node.of.map_or("-", FloatType::name);
    if is_tf32(node, tf32) { format!("{of} (tf32)") } else { of.to_owned() }
}

fn is_tf32(node: &NodeAssignment, tf32: bool) -> bool {
    tf32 && node.of == Some(FloatType::Fp32) && node.is_product()
}

/// What a product adds up in; `any` if that is left to TensorRT. None for what is no product.
pub(super) fn accumulator(node: &NodeAssignment) -> Option<&'static str> {
    let of = node.of.filter(|_| node.is_product())?;
    let asked = node.accumulate.or(Some(of).filter(|of| *of == FloatType::Fp32));
    Some(asked.map_or("any", FloatType::name))
}

pub(super) fn decided(node: &NodeAssignment, rules: &ModelRules, root: &Path) -> String {
    match node.parts {
        0 => decider(node, rules, root),
        parts => format!("{}; fused from {}", decider(node, rules, root), output::count(parts, "node")),
    }
}

fn decider(node: &NodeAssignment, rules: &ModelRules, root: &Path) -> String {
    let name = |i: usize| rules.rules.get(i).map_or_else(String::new, |rule| rule_name(rule, root));
    match &node.by {
        Decider::Default => "the model's precision".to_owned(),
        Decider::Rule(i) => name(*i),
        Decider::Constraint { why, over: Some(i) } => format!("{why} (over {})", name(*i)),
        Decider::Constraint { why, over: None } | Decider::NoType(why) => why.clone(),
    }
}

/// "norms stay fp32" ours manifests/m.toml:12
pub(super) fn rule_name(rule: &ResolvedRule, root: &Path) -> String {
    let mut text = format!("\"{}\"", rule.spec.name);
    if let Some(set) = &rule.spec.set {
        let _ = write!(text, " of {set}");
    }
    if let Some((file, line)) = place(rule, root) {
        let _ = write!(text, " {file}:{line}");
    }
    text
}

fn place(rule: &ResolvedRule, root: &Path) -> Option<(String, usize)> {
    let origin = rule.origin.as_ref()?;
    let file = origin.file.path.strip_prefix(root).unwrap_or(&origin.file.path);
    Some((file.display().to_string(), origin.line_column().0))
}

fn as_json(rules: &ModelRules, root: &Path) -> serde_json::Value {
    let rule = |i: usize| {
        let rule = rules.rules.get(i)?;
        let place = place(rule, root);
        Some(json!({
            "name": rule.spec.name,
            "set": rule.spec.set,
            "file": place.as_ref().map(|(file, _)| file),
            "line": place.as_ref().map(|(_, line)| line),
        }))
    };
    let nodes = rules.assignment.as_ref().map(|assignment| {
        let nodes = assignment.nodes.iter().map(|node| {
            let (by, rule, why) = match &node.by {
                Decider::Default => ("default", None, None),
                Decider::Rule(i) => ("rule", rule(*i), None),
                Decider::Constraint { why, over } => ("constraint", over.and_then(rule), Some(why)),
                Decider::NoType(why) => ("no-type", None, Some(why)),
            };
            json!({
                "node": node.name,
                "inside": node.inside,
                "operator": node.op,
                "type": node.of,
                "tf32": is_tf32(node, rules.tf32),
                "accumulator": accumulator(node),
                "fused_from": node.parts,
                "by": by,
                "rule": rule,
                "why": why,
            })
        });
        nodes.collect::<Vec<_>>()
    });
    let matched = rules.assignment.iter().flat_map(|a| &a.rules).enumerate().map(|(i, matched)| {
        json!({
            "rule": rule(i),
            "nodes": matched.nodes,
            "skipped": matched.skipped,
            "instances": matched.instances,
        })
    });
    json!({
        "engines": rules.engines,
        "nodes": nodes,
        "rules": matched.collect::<Vec<_>>(),
        "diagnostics": rules.diagnostics.iter().map(render::json).collect::<Vec<_>>(),
    })
}
