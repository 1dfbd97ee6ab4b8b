//! What an engine shows of its precision, and what TensorRT said while it was built, told under the levels of a
//! manifest. Computed anew from the records whenever it is asked for: it is in no key.

use std::path::Path;

use super::context::Context;
use super::interface;
use super::prepare::judge;
use super::said;
use crate::cache;
use crate::diagnostic::{Diagnostic, Level};
use crate::engine::{self, Facts, Pin, Proof, Verdict};
use crate::manifest::{Engine, Precision, glob_of};
use crate::onnx::Summary;
use crate::plan::{self, BuiltRef, Keyed};
use crate::precision::{self, Assignment, Decider, Fix, FloatType};

/// The proof of a build; none for a model as it is, which declares nothing.
///
/// # Errors
/// The cache cannot be used at all.
pub(super) fn of_build(
    ctx: &Context<'_>,
    engine: &Engine,
    keyed: &Keyed,
    built: &BuiltRef,
) -> Result<Option<Proof>, cache::Error> {
    if engine.precision == Precision::AsIs {
        return Ok(None); // Its types were named for a weakly typed build, and nobody declared them.
    }
    let Some(assignment) = &keyed.prepared.assignment else { return Ok(None) };
    let read = |blob| -> Result<Option<bytes::Bytes>, cache::Error> { ctx.cache.read(blob) };
    let assignment: Option<Assignment> =
        read(assignment)?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let facts: Option<Facts> = match &built.kernels {
        Some(blob) => read(blob)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()),
        None => None,
    };
    // What is lost proves nothing, and all that was declared is unknown.
    let facts = facts.unwrap_or_else(Facts::lost).renewed(|| read(&built.engine))?;
    Ok(assignment.map(|assignment| engine::prove(&facts, &assignment)))
}

/// The proof of the build that a plan knows of.
///
/// # Errors
/// The cache cannot be used at all.
pub fn proof(
    ctx: &Context<'_>,
    engine: &Engine,
    planned: &plan::Planned,
) -> Result<Option<Proof>, cache::Error> {
    match (&planned.keyed, &planned.built) {
        (Some(keyed), Some(built)) => of_build(ctx, engine, keyed, built),
        _ => Ok(None),
    }
}

/// What is wrong with a build, and what is worth knowing of it.
///
/// # Errors
/// The cache cannot be used at all.
pub(super) fn diagnostics(
    ctx: &Context<'_>,
    engine: &Engine,
    keyed: &Keyed,
    built: &BuiltRef,
    proof: Option<&Proof>,
    (model, file): (&Summary, &Path),
) -> Result<(Vec<Diagnostic>, Vec<Diagnostic>), cache::Error> {
    let mut all = said::diagnostics(ctx, engine, keyed, built, file);
    if keyed.trtexec.is_none() {
        // Of an engine by trtexec, what is recorded is what the model declares.
        all.extend(interface::differences(engine, model, &built.info, file));
    }
    let demoted: Vec<&Pin> =
        proof.into_iter().flat_map(|p| &p.pins).filter(|pin| pin.verdict == Verdict::Demoted).collect();
    if !demoted.is_empty() {
        let assignment = match &keyed.prepared.assignment {
            Some(blob) => ctx.cache.read(blob)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()),
            None => None,
        };
        all.extend(demoted.into_iter().map(|pin| of_pin(engine, assignment.as_ref(), pin, file)));
    }
    Ok(all.into_iter().filter_map(|found| judge(engine, found)).partition(|d| d.level == Level::Error))
}

fn of_pin(engine: &Engine, assignment: Option<&Assignment>, pin: &Pin, file: &Path) -> Diagnostic {
    let Pin { index, node, op, kernel, why, .. } = pin;
    let message = if pin.accumulates {
        format!("`{node}` ({op}) is to accumulate in fp32, and does not in `{}`", engine.name)
    } else {
        format!("`{node}` ({op}) is declared fp32, and `{}` does not compute it in FP32", engine.name)
    };
    let kernel = kernel.as_ref().map_or_else(String::new, |kernel| format!("kernel `{kernel}`: "));
    let found = Diagnostic::error("pin-demoted", message).note(format!("{kernel}{why}"));
    let rules = precision::resolve(engine);
    let (rule, decided) = match assignment.and_then(|a| a.nodes.get(*index)).map(|node| &node.by) {
        Some(Decider::Rule(i)) => (rules.get(*i), None),
        Some(Decider::Constraint { why, .. }) => (None, Some(why.as_str())),
        _ => (None, None),
    };
    let found = match decided {
        Some(why) => found.note(format!("it was declared so because {why}")),
        None => found,
    };
    let found = match rule {
        Some(rule) => match &rule.origin {
            Some(origin) => found.at(origin, "declared here").note(format!("the node is `{node}` ({op})")),
            None => {
                let set = rule.spec.set.as_deref().unwrap_or("this model");
                let of = format!("declared by the rule `{}` of `{set}`", rule.spec.name);
                found.at_node(file, node, op).note(of)
            }
        },
        None => found.at_node(file, node, op),
    };
    let narrow = match engine.precision {
        Precision::Bf16 => FloatType::Bf16,
        _ => FloatType::Fp16,
    };
    let node = toml::Value::String(glob_of(node));
    let fix = Fix {
        name: format!("{} as the engine computes it", pin.node),
        select: format!("node = {node}"),
        precision: narrow,
    };
    let rules = Some(fix.toml(&engine.table, engine.is_from_glob));
    let wider =
        "or keep what follows it FP32 too: an activation in the same region makes TensorRT keep FP32 weights";
    let found = Diagnostic { rules, ..found };
    if pin.accumulates { found } else { found.help(wider) }
}
