//! `tune`: probes are engines with one more rule, prepared and measured as any other; so each is kept under its own key.

use std::collections::{BTreeMap, BTreeSet};

use super::accuracy;
use super::context::Context;
use super::drift;
use super::gather::gather;
use crate::diagnostic::{Diagnostic, Level, Place};
use crate::manifest::{Engine, NewRule, Precision, Rule, Selector, TUNED, glob_of};
use crate::plan::Planned;
use crate::precision::Assignment;
use crate::verify::{Drift, Judgement, Nodes, Probe, Selection, Verdict, search, selections};

/// A probe, and what came of it.
#[derive(Debug, Clone)]
pub struct TuneStep {
    /// What was FP32 in it.
    pub what: String,
    /// Nodes that rules were asked to keep FP32.
    pub asked: usize,
    /// Nodes that compute in FP32.
    pub wide: usize,
    /// Nodes that compute in 16 bits.
    pub half: usize,
    /// The share of multiplications and additions of products that are done in 16 bits; 1 if there are none.
    pub half_macs: f64,
    /// The judgement, or why there is none.
    pub outcome: Result<Judgement, String>,
}

impl TuneStep {
    /// Do all tolerances hold?
    #[must_use]
    pub fn passes(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|judgement| judgement.verdict != Verdict::Failed)
    }
}

/// What a search found.
#[derive(Debug, Clone)]
pub struct Tuned {
    /// The engine.
    pub engine: String,
    /// Every probe, in order.
    pub steps: Vec<TuneStep>,
    /// The rules that pass; none if no set does. Empty if the manifest passes without any.
    pub rules: Option<Vec<NewRule>>,
    /// The step that these rules give.
    pub chosen: Option<TuneStep>,
    /// Was the budget spent before the set was known to be a smallest one?
    pub is_cut_short: bool,
}

/// Errors of a probe that stop the search.
type Stop = Vec<Diagnostic>;

/// Finds a smallest set of FP32 nodes with which an engine passes its tolerances.
///
/// # Errors
/// It cannot be measured at all; an empty list if the run was stopped.
pub fn tune(ctx: &Context<'_>, engine: &Engine, budget: usize) -> Result<Tuned, Stop> {
    let mut engine = engine.clone();
    engine.rules.retain(|rule| rule.set.is_some() || !rule.name.starts_with(TUNED));
    if engine.precision == Precision::AsIs || engine.precision == Precision::Fp32 {
        let message = format!("`{}` has `precision = \"{}\"`", engine.name, engine.precision.name());
        let help = "tune looks for the nodes of an fp16 or bf16 model that must stay fp32";
        return Err(vec![Diagnostic::error("tune-precision", message).at(&engine.origin, "").help(help)]);
    }
    if let Some(verify) = &mut engine.verify {
        verify.require = None; // Whatever is required, it is the tolerances that nodes decide.
    }
    let (forced, drift) = start(ctx, &engine)?;
    let macs = macs(&drift);
    let mut steps = Vec::new();
    let mut wide: BTreeMap<Nodes, usize> = BTreeMap::new();
    let mut probe = |set: &Nodes, what: &str| -> Result<Probe, Stop> {
        let names = named(&drift, set);
        let step = one(ctx, &engine, &[by_name(&names)], &macs, (what, set.len()))?;
        let answer = match &step.outcome {
            Err(_) => Probe::Refused,
            Ok(_) if step.passes() => Probe::Passes,
            Ok(_) => Probe::Fails,
        };
        wide.insert(set.clone(), step.wide);
        steps.push(step);
        Ok(answer)
    };
    let forced: Nodes = (0..drift.nodes.len()).filter(|i| forced.contains(&drift.nodes[*i].node)).collect();
    let found = search(&drift, &forced, budget, &mut probe)?;
    let name = engine.name.to_string();
    let Some(set) = found.set else {
        return Ok(Tuned {
            engine: name,
            steps,
            rules: None,
            chosen: None,
            is_cut_short: found.is_cut_short,
        });
    };
    // What is written is what was tried: by pattern where that says the same.
    let mut rules: Vec<NewRule> = selections(&drift, &set).into_iter().map(rule_of).collect();
    let asked: Vec<Selector> = rules.iter().map(|rule| rule.select.clone()).collect();
    let mut chosen = one(ctx, &engine, &asked, &macs, ("the rules below", set.len()))?;
    if !set.is_empty() && (!chosen.passes() || Some(&chosen.wide) != wide.get(&set)) {
        let select = by_name(&named(&drift, &set));
        rules = vec![NewRule { name: format!("{TUNED}: these nodes stay fp32"), select, expect: None }];
        chosen = one(ctx, &engine, &[rules[0].select.clone()], &macs, ("the rules below", set.len()))?;
    }
    let (rules, chosen) = (Some(rules), Some(chosen));
    Ok(Tuned { engine: name, steps, rules, chosen, is_cut_short: found.is_cut_short })
}

/// What must be FP32 for the model to be built at all, by name; and every value of that model.
fn start(ctx: &Context<'_>, engine: &Engine) -> Result<(BTreeSet<String>, Drift), Stop> {
    let mut forced: BTreeSet<String> = BTreeSet::new();
    loop {
        let names: Vec<String> = forced.iter().cloned().collect();
        let tried = with_rules(engine, &[by_name(&names)]);
        let gathered = gather(ctx, &[&tried]).map_err(|e| vec![Diagnostic::from(&e)])?;
        let Some(planned) = gathered.planned.first() else { return Err(Vec::new()) };
        let before = forced.len();
        forced.extend(planned.errors.iter().filter_map(|error| Some(node_of(error)?.to_owned())));
        // Errors that no node mends are the user's to read.
        if planned.errors.is_empty() || forced.len() == before {
            return Ok((forced, drift::of_engine(ctx, &gathered, &tried, planned)?));
        }
    }
}

/// The node that an error is about.
fn node_of(error: &Diagnostic) -> Option<&str> {
    match &error.place {
        Some(Place::Node { node, .. }) if error.level == Level::Error => Some(node),
        _ => None,
    }
}

fn named(drift: &Drift, set: &Nodes) -> Vec<String> {
    set.iter().map(|i| drift.nodes[*i].node.clone()).collect()
}

fn by_name(names: &[String]) -> Selector {
    let node = names.iter().map(|name| glob_of(name)).collect();
    Selector { node, ..Selector::default() }
}

/// The engine with these nodes FP32, by its last rules. A selector of nothing is none.
fn with_rules(engine: &Engine, selectors: &[Selector]) -> Engine {
    let mut engine = engine.clone();
    let rule = |select: &Selector| Rule {
        name: TUNED.to_owned(),
        set: None,
        select: select.clone(),
        precision: Precision::Fp32,
        accumulate: None,
        expect: None,
        optional: true,
        origin: None,
    };
    let wanted = selectors.iter().filter(|select| **select != Selector::default());
    engine.rules.extend(wanted.map(rule));
    engine
}

/// Prepares and measures an engine with these rules.
fn one(
    ctx: &Context<'_>,
    engine: &Engine,
    selectors: &[Selector],
    macs: &BTreeMap<String, u64>,
    (what, asked): (&str, usize),
) -> Result<TuneStep, Stop> {
    let tried = with_rules(engine, selectors);
    let gathered = gather(ctx, &[&tried]).map_err(|e| vec![Diagnostic::from(&e)])?;
    let Some(planned) = gathered.planned.first() else { return Err(Vec::new()) };
    let mut step = TuneStep {
        what: what.to_owned(),
        asked,
        wide: 0,
        half: 0,
        half_macs: 1.0,
        outcome: Err(String::new()),
    };
    if let Some(error) = planned.errors.iter().find(|error| node_of(error).is_some()) {
        step.outcome = Err(error.message.clone());
        return Ok(step);
    }
    let (subject, accuracy) = drift::subject(ctx, &gathered, &tried, planned)?;
    if let Some(assignment) = assignment(ctx, planned)? {
        count(&mut step, &assignment, macs);
    }
    step.outcome = Ok(accuracy::judgement(ctx, &subject, accuracy)?);
    Ok(step)
}

fn assignment(ctx: &Context<'_>, planned: &Planned) -> Result<Option<Assignment>, Stop> {
    let Some(blob) = planned.keyed.as_ref().and_then(|keyed| keyed.prepared.assignment.as_ref()) else {
        return Ok(None);
    };
    let bytes = ctx.cache.read(blob).map_err(|e| vec![Diagnostic::from(&e)])?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Multiplications and additions of each product, by the name of its node.
fn macs(drift: &Drift) -> BTreeMap<String, u64> {
    let mut macs: BTreeMap<String, u64> = BTreeMap::new();
    for node in drift.nodes.iter().filter(|node| node.macs > 0) {
        *macs.entry(node.node.clone()).or_default() += node.macs;
    }
    macs
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn count(step: &mut TuneStep, assignment: &Assignment, macs: &BTreeMap<String, u64>) {
    let (mut all, mut half) = (0u64, 0u64);
    for node in &assignment.nodes {
        let Some(of) = node.of else { continue };
        let is_half = of != crate::precision::FloatType::Fp32;
        *(if is_half { &mut step.half } else { &mut step.wide }) += 1;
        let cost = macs.get(&node.name).copied().unwrap_or(0);
        all += cost;
        half += if is_half { cost } else { 0 };
    }
    step.half_macs = if all == 0 { 1.0 } else { half as f64 / all as f64 };
}

fn rule_of(selection: Selection) -> NewRule {
    match selection {
        Selection::Pattern { pattern, instances } => NewRule {
            name: format!("{TUNED}: {pattern} stays fp32"),
            select: Selector { pattern: vec![pattern], ..Selector::default() },
            expect: Some(instances),
        },
        Selection::Instances { pattern, paths } => {
            let node = paths.iter().map(|path| format!("{}/*", glob_of(path))).collect();
            NewRule {
                name: format!("{TUNED}: some {pattern} stay fp32"),
                select: Selector { pattern: vec![pattern], node, ..Selector::default() },
                expect: None,
            }
        }
        Selection::Nodes(names) => {
            NewRule { name: format!("{TUNED}: these nodes stay fp32"), select: by_name(&names), expect: None }
        }
    }
}
