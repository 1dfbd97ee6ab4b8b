//! What TensorRT said while it built, with what mends it: a rule by pattern is offered only where it selects something.

use std::collections::BTreeSet;
use std::path::Path;

use super::context::Context;
use crate::diagnostic::Diagnostic;
use crate::engine::log::{self, Said};
use crate::manifest::{Engine, Precision};
use crate::onnx::graph::GraphView;
use crate::onnx::pattern::{self, Kind};
use crate::onnx::{self, Model};
use crate::plan::{BuiltRef, Keyed};
use crate::precision::{Assignment, Fix, FloatType, std_fp16};

/// How many nodes are named.
const SHOWN: usize = 5;

/// The warnings of a build. Its model is read only if there are some.
pub(super) fn diagnostics(
    ctx: &Context<'_>,
    engine: &Engine,
    keyed: &Keyed,
    built: &BuiltRef,
    file: &Path,
) -> Vec<Diagnostic> {
    let known: Vec<&Said> = built.said.iter().filter_map(|code| log::said(code)).collect();
    if known.is_empty() {
        return Vec::new();
    }
    let norms = Norms::read(ctx, engine, keyed);
    known.into_iter().map(|said| of_norms(engine, said, norms.as_ref()).in_file(file)).collect()
}

/// The layer norms of what was built.
#[derive(Debug)]
struct Norms {
    /// How many the pattern finds.
    found: usize,
    /// How many of them have a node in 16 bits.
    narrow: usize,
    /// Means in 16 bits that are in none of them.
    means: Vec<String>,
}

impl Norms {
    /// None if the cache has lost the model.
    fn read(ctx: &Context<'_>, engine: &Engine, keyed: &Keyed) -> Option<Norms> {
        let read = |blob| ctx.cache.read(blob).ok().flatten();
        let weights = keyed.prepared.weights.as_ref().and_then(read);
        let model = onnx::read_canonical(read(&keyed.prepared.graph)?, weights).ok()?;
        // Nobody chose the types of a model as it is.
        let assignment = keyed.prepared.assignment.as_ref().filter(|_| engine.precision != Precision::AsIs);
        let assignment: Option<Assignment> = match assignment {
            Some(blob) => Some(serde_json::from_slice(&read(blob)?).ok()?),
            None => None,
        };
        Some(Norms::of(&model, assignment.as_ref()))
    }

    fn of(model: &Model, assignment: Option<&Assignment>) -> Norms {
        let is_wide = |of: &Option<FloatType>| matches!(of, None | Some(FloatType::Fp32));
        let narrow: Option<BTreeSet<&str>> = assignment.map(|assignment| {
            let nodes = assignment.nodes.iter().filter(|node| !is_wide(&node.of));
            nodes.map(|node| node.name.as_str()).collect()
        });
        let is_narrow = |name: &str| narrow.as_ref().is_none_or(|narrow| narrow.contains(name));
        let view = GraphView::new(model.proto());
        let found = pattern::find_kind(&view, Kind::LayerNorm);
        let parts: BTreeSet<_> = found.iter().flat_map(|norm| &norm.nodes).copied().collect();
        let name = |id| onnx::node_name(view.node(id).proto);
        let has_narrow = |norm: &&pattern::Match| {
            norm.nodes.iter().filter_map(|part| view.at(*part)).any(|id| is_narrow(&name(id)))
        };
        let means = view.nodes().filter(|(id, node)| {
            node.proto.op_type() == "ReduceMean"
                && !parts.contains(&view.node_ref(*id))
                && is_narrow(&name(*id))
        });
        Norms {
            found: found.len(),
            narrow: found.iter().filter(has_narrow).count(),
            means: means.map(|(id, _)| name(id)).collect(),
        }
    }
}

/// TensorRT names no node of the norms that it means.
fn of_norms(engine: &Engine, said: &Said, norms: Option<&Norms>) -> Diagnostic {
    let message = format!("{}, in `{}`", said.message, engine.name);
    let warning = Diagnostic::warning(said.code, message).note(said.note);
    let is_as_is = engine.precision == Precision::AsIs;
    let Some(norms) = norms.filter(|norms| norms.narrow == 0) else {
        if is_as_is {
            return warning.help("give it `precision = \"fp16\"`: the rule set `std-fp16` keeps norms FP32");
        }
        let fix = Fix {
            name: "norms stay fp32".to_owned(),
            select: said.select.to_owned(),
            precision: FloatType::Fp32,
        };
        let rules = Some(fix.toml(&engine.table, engine.is_from_glob));
        let warning = Diagnostic { rules, ..warning };
        let has_set = engine.rule_sets.iter().any(|set| set == std_fp16::NAME);
        return if has_set { warning } else { warning.help("or use the rule set `std-fp16`") };
    };
    let mut warning = warning.note(match norms.found {
        0 => "the pattern `layer-norm` does not know how these norms are written: no rule by it, nor `std-fp16`, \
              selects them"
            .to_owned(),
        n => format!(
            "those that the pattern `layer-norm` finds ({n}) are FP32: TensorRT means others, which it does not know"
        ),
    });
    if !norms.means.is_empty() {
        let shown: Vec<String> = norms.means.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
        let more = match norms.means.len() - shown.len() {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        warning = warning.note(format!("the means in 16 bits: {}{more}", shown.join(", ")));
    }
    let first = if is_as_is { "give it `precision = \"fp16\"`, and " } else { "" };
    warning.help(format!(
        "{first}name the nodes of these norms in a rule, all from the mean to the bias: `select = {{ node = \"…\" }}`, \
         `precision = \"fp32\"`"
    ))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::manifest;
    use crate::onnx::proto::GraphProto;
    use crate::onnx::proto::tensor_proto::DataType;
    use crate::onnx::testing::{WithAttribute, floats, model, node, value};
    use crate::precision::{Decider, NodeAssignment};

    /// A norm, divided by this; the pattern knows no division by the variance.
    fn norms(divisor: &str, of: FloatType) -> Norms {
        let graph = GraphProto {
            input: vec![value("x", DataType::Float, &["b".into(), 8.into()])],
            output: vec![value("y", DataType::Float, &["b".into(), 8.into()])],
            initializer: vec![floats("eps", &[], &[1e-5])],
            node: vec![
                node("mean", "ReduceMean", &["x"], &["m"]).ints("axes", &[-1]),
                node("sub", "Sub", &["x", "m"], &["d"]),
                node("square", "Mul", &["d", "d"], &["q"]),
                node("var", "ReduceMean", &["q"], &["v"]).ints("axes", &[-1]),
                node("add", "Add", &["v", "eps"], &["e"]),
                node("root", "Sqrt", &["e"], &["r"]),
                node("div", "Div", &["d", divisor], &["y"]),
            ],
            ..GraphProto::default()
        };
        let model = onnx::read_canonical(model(17, graph).encode_to_vec().into(), None).unwrap();
        let typed = |node: &crate::onnx::proto::NodeProto| NodeAssignment {
            name: node.name().to_owned(),
            op: node.op_type().to_owned(),
            inside: Vec::new(),
            of: Some(of),
            accumulate: None,
            layer: None,
            parts: 0,
            by: Decider::Default,
        };
        let nodes = model.graph().node.iter().map(typed).collect();
        Norms::of(&model, Some(&Assignment { base: of, nodes, rules: Vec::new(), opset: None }))
    }

    /// What is told of an engine with these rule sets.
    fn told(sets: &str, norms: &Norms) -> Diagnostic {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "schema = 1\n[target.t]\ngpu = \"RTX 3090\"\n[model.m]\nsource = {{ path = \"m.onnx\" }}\ntargets = [\"t\"]\n\
             precision = \"fp16\"\nrules = {sets}\n"
        );
        crate::fs::create_dir_all(&folder.path().join("manifests")).unwrap();
        crate::fs::write_atomic(&folder.path().join("manifests/m.toml"), text.as_bytes()).unwrap();
        let loaded = manifest::load(folder.path(), &manifest::Options::default()).unwrap();
        of_norms(&loaded.manifest.unwrap().engines[0], log::said("layernorm-fp16").unwrap(), Some(norms))
    }

    #[test]
    fn a_rule_by_pattern_is_offered_where_it_selects_something() {
        let known = norms("r", FloatType::Fp16);
        assert_eq!((known.found, known.narrow, known.means.len()), (1, 1, 0));
        let offered = told("[]", &known);
        assert!(offered.rules.unwrap().contains("pattern = \"layer-norm\""));
        assert_eq!(offered.help, ["or use the rule set `std-fp16`"]);
        let offered = told("[\"std-fp16\"]", &known);
        assert!(offered.rules.is_some() && offered.help.is_empty(), "{:?}", offered.help);
    }

    #[test]
    fn norms_that_the_pattern_does_not_know_are_named_by_their_means() {
        let unknown = norms("e", FloatType::Fp16);
        let warning = told("[\"std-fp16\"]", &unknown);
        assert_eq!(warning.rules, None);
        assert!(
            warning.notes[1].contains("does not know how these norms are written"),
            "{:?}",
            warning.notes
        );
        assert_eq!(warning.notes[2], "the means in 16 bits: `mean`, `var`");
        assert!(warning.help[0].starts_with("name the nodes of these norms in a rule"), "{:?}", warning.help);
        let wide = told("[]", &norms("r", FloatType::Fp32));
        assert!(wide.notes[1].contains("finds (1) are FP32"), "{:?}", wide.notes);
    }
}
