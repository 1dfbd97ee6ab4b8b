//! Every rule put to the model: which nodes it selects, and what is wrong with that.

use super::assign::RuleMatch;
use super::problem::Problem;
use super::select::{Finder, Selected};
use super::spec::{Select, Spec};
use super::view::View;

/// Lets every rule select; the last one that selects a node has it.
pub(super) fn choose(view: &View<'_>, finder: &Finder<'_, '_>, spec: &Spec) -> Selected {
    let mut selected = Selected::default();
    let typable: Vec<bool> = view.nodes.iter().map(|node| node.is_typable(view)).collect();
    for (i, rule) in spec.rules.iter().enumerate() {
        let found = finder.find(&rule.select);
        let nodes: Vec<usize> = found.nodes.iter().copied().filter(|id| typable[*id]).collect();
        let matched = RuleMatch {
            nodes: nodes.len(),
            skipped: found.nodes.len() - nodes.len(),
            instances: found.instances,
        };
        selected.problems.extend(misfit(finder, spec, i, &matched));
        selected.by_rule.extend(nodes.into_iter().map(|id| (id, i)));
        selected.matched.push(matched);
    }
    selected
}

/// Says what is wrong with what a rule selected.
fn misfit(finder: &Finder<'_, '_>, spec: &Spec, i: usize, matched: &RuleMatch) -> Option<Problem> {
    let rule = &spec.rules[i];
    let name = &rule.name;
    if let Some(expect) = rule.expect {
        let (have, what) = match matched.instances {
            Some(instances) => (instances, "instances of its patterns"),
            None => (matched.nodes, "nodes with a float result"),
        };
        if have as u64 != expect {
            return Some(
                Problem::error(
                    "rule-expect",
                    format!("rule `{name}` expects {expect} {what} and selects {have}"),
                )
                .of_rule(i)
                .help("mend the selector, or `expect`; `enginewright rules MODEL` lists the nodes"),
            );
        }
    }
    // A rule of a shared set must match in one of the models that use it, which is not seen from here.
    if rule.optional || rule.set.is_some() || matched.nodes > 0 {
        return None;
    }
    if matched.skipped > 0 {
        let what = if matched.skipped == 1 { "1 node, which has" } else { "nodes which all have" };
        let message = format!("rule `{name}` selects {what} no float result");
        return Some(
            Problem::error("rule-no-float", message)
                .of_rule(i)
                .note("constants, Casts between float types, shape arithmetic and integers have no type to choose")
                .help("select the nodes that compute with floats, or write `optional = true`"),
        );
    }
    let mut problem =
        Problem::error("rule-no-match", format!("rule `{name}` selects nothing in this model")).of_rule(i);
    if let Select::Written(selector) = &rule.select {
        let candidates = finder.candidates(selector);
        if !candidates.is_empty() {
            let list: Vec<String> = candidates.iter().map(|c| format!("`{c}`")).collect();
            problem = problem.note(format!("nearest in the model: {}", list.join(", ")));
        }
    }
    Some(
        problem.help(
            "mend the selector, or write `optional = true`; `enginewright rules MODEL` lists the nodes",
        ),
    )
}
