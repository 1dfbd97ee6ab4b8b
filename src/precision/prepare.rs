//! From the canonical form of a model and what is asked to its typed form.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;

use super::assign::{Assignment, as_in_file, assign};
use super::choose::choose;
use super::fusion::{self, Fusion};
use super::pattern::Patterns;
use super::problem::Problem;
use super::select::{Finder, Selected};
use super::signature::computes_quantized;
use super::spec::Spec;
use super::view::View;
use super::{attention, check, fold, hazard, io, range, rewrite, weak};
use crate::manifest::IoType;
use crate::onnx::{self, Declared, LateData, Model, Type};

/// What came of a model.
#[derive(Debug)]
pub struct Prepared {
    /// The typed model; none if there are errors among the problems.
    pub model: Option<Model>,
    /// The types of all nodes.
    pub assignment: Assignment,
    /// What is wrong, or worth knowing.
    pub problems: Vec<Problem>,
}

/// The oldest opset whose types are known.
const MIN_OPSET: i64 = 6;

/// Fuses what is to be fused, and types a model.
///
/// # Errors
/// The model is of a kind that cannot be typed, or `fuse` asks for what cannot be done.
pub fn prepare(model: &Model, spec: &Spec) -> Result<Prepared, Vec<Problem>> {
    let (mut prepared, late) = prepare_late(model, spec)?;
    prepared.model.iter_mut().for_each(|model| onnx::make_late(model, &late));
    Ok(prepared)
}

/// The same, with the data of large initializers left to be made as it is written.
fn prepare_late(model: &Model, spec: &Spec) -> Result<(Prepared, LateData), Vec<Problem>> {
    if !spec.as_is {
        refuse(model)?;
    }
    let inlined = onnx::inline(model);
    let model = inlined.as_ref().unwrap_or(model);
    let types = onnx::element_types_with(model, &declared(spec));
    let view = View::new(model, &types, &spec.capabilities);
    let folded = if spec.as_is { None } else { fold::fold(&view) };
    let Some(model) = &folded else { return prepare_view(&view, spec) };
    let types = onnx::element_types_with(model, &declared(spec));
    prepare_view(&View::new(model, &types, &spec.capabilities), spec)
}

fn prepare_view(view: &View<'_>, spec: &Spec) -> Result<(Prepared, LateData), Vec<Problem>> {
    let fusion = fusion::fuse(view, spec)?;
    if spec.as_is {
        return Ok((as_is(view, fusion, spec), LateData::new()));
    }
    let selected = choose(view, &Finder::new(view), spec);
    let Some(Fusion { model, opset, problems }) = fusion else { return Ok(typed(view, selected, spec)) };
    let types = onnx::element_types_with(&model, &declared(spec));
    let fused = View::new(&model, &types, &spec.capabilities);
    let (mut prepared, late) = typed(&fused, fusion::inherit(view, &fused, spec, selected), spec);
    prepared.problems.splice(0..0, problems);
    prepared.assignment.opset = opset;
    Ok((prepared, late))
}

/// Types a model whose nodes have their rules, in the model or, weakly, beside it.
fn typed(view: &View<'_>, selected: Selected, spec: &Spec) -> (Prepared, LateData) {
    match &spec.weak {
        Some(known) => (weak::prepare(view, selected, spec, known), LateData::new()),
        None => strongly_typed(view, selected, spec),
    }
}

fn strongly_typed(view: &View<'_>, selected: Selected, spec: &Spec) -> (Prepared, LateData) {
    let (io, wrong_io) = io::resolve(view.model, view.types, spec);
    let patterns = Patterns::new(view);
    let decided = assign(view, &patterns, selected, spec);
    let (assignment, mut problems) = (decided.assignment, decided.problems);
    problems.extend(wrong_io);
    problems.extend(untold(view));
    problems.extend(quantized(view));
    problems.extend(hazard::norms(view, &patterns, &assignment.nodes));
    problems.extend(range::hazards(view, &patterns, &assignment.nodes));
    problems.extend(attention::hazards(view, &patterns, spec.base, &assignment.nodes));
    let mut rewritten = rewrite::rewrite(view, &assignment.nodes, &io.floats);
    problems.extend(rewritten.problems);
    io.apply(&mut rewritten.graph);
    fusion::unlabel(&mut rewritten.graph);
    let typed = view.model.with_graph(rewritten.graph);
    let told = (&typed, &declared(spec));
    problems.extend(check::check(view, &assignment.nodes, told, &rewritten.around_products));
    let model = (!problems.iter().any(|p| p.is_error)).then_some(typed);
    (Prepared { model, assignment, problems }, rewritten.late)
}

/// A model that keeps its types.
fn as_is(view: &View<'_>, fusion: Option<Fusion>, spec: &Spec) -> Prepared {
    let Some(Fusion { model, opset, problems }) = fusion else {
        let assignment = as_in_file(view, spec);
        return Prepared { model: Some(view.model.clone()), assignment, problems: Vec::new() };
    };
    let types = onnx::element_types_with(&model, &declared(spec));
    let mut assignment = as_in_file(&View::new(&model, &types, &spec.capabilities), spec);
    assignment.opset = opset;
    let mut graph = model.graph().clone();
    fusion::unlabel(&mut graph);
    Prepared { model: Some(model.with_graph(graph)), assignment, problems }
}

/// The types of custom operators.
fn declared(spec: &Spec) -> Declared {
    let named = |(name, types): (&String, &Vec<IoType>)| {
        let (domain, op) = name.split_once("::").unwrap_or(("", name));
        let types = types.iter().map(|of| Type::Tensor(io::element(*of))).collect();
        ((domain.to_owned(), op.to_owned()), types)
    };
    Declared { operators: spec.operators.iter().map(named).collect(), ..Declared::default() }
}

/// Says which custom operators make values of which nobody tells the type, although somebody reads them.
fn untold(view: &View<'_>) -> Vec<Problem> {
    let mut read = BTreeSet::new();
    for node in &view.nodes {
        read.extend(node.proto.input.iter().filter_map(|name| view.key(node.scope, name)));
    }
    let mut problems: Vec<Problem> = Vec::new();
    let mut seen = BTreeSet::new();
    for node in &view.nodes {
        let (domain, op) = (node.proto.domain(), node.proto.op_type());
        let is_custom = onnx::schema(domain, op, i64::MAX).is_none();
        let unknown = |name: &&String| {
            view.types.get(node.scope, name).is_unknown() && read.contains(&(node.scope, name.as_str()))
        };
        let Some(value) = node.proto.output.iter().find(unknown).filter(|_| is_custom) else { continue };
        if !seen.insert((domain, op)) {
            continue;
        }
        let full = if domain.is_empty() { op.to_owned() } else { format!("{domain}::{op}") };
        let types = vec!["\"fp32\""; node.proto.output.len()].join(", ");
        problems.push(
            Problem::error(
                "type-unknown",
                format!("the type of `{value}`, which `{}` makes, is not known", node.name),
            )
            .at_node(&node.name, op)
            .note(format!("`{op}` is a custom operator, and the model has no value_info of its output"))
            .help(format!(
                "declare what it makes: `operators = {{ \"{full}\" = [{types}] }}` in the model's table"
            )),
        );
    }
    problems
}

/// Says which operators compute with quantized values: they are as they are, whatever the precision.
fn quantized(view: &View<'_>) -> Option<Problem> {
    let ids = view.nodes.iter().filter(|node| computes_quantized(node.proto.op_type()));
    let nodes: Vec<_> = ids.collect();
    let first = nodes.first()?;
    let ops: BTreeSet<&str> = nodes.iter().map(|node| node.proto.op_type()).collect();
    let ops: Vec<&str> = ops.into_iter().collect();
    let message = format!("{} compute with quantized values and stay as they are", ops.join(", "));
    let problem = Problem::hazard("quantized-operator", message).at_node(&first.name, first.proto.op_type());
    Some(problem.note("TensorRT wants QuantizeLinear and DequantizeLinear around plain operators instead"))
}

/// Types the canonical model in these bytes and writes it into `folder`, as [`onnx::canonicalize`] does. Gives
/// also if there is a weights file; nothing is written if there are errors.
///
/// # Errors
/// The files cannot be written, or the model cannot be typed.
pub fn prepare_files(
    graph: Bytes,
    weights: Option<Bytes>,
    spec: &Spec,
    folder: &Path,
) -> Result<Result<(Prepared, bool), Vec<Problem>>, onnx::Error> {
    let model = onnx::read_canonical(graph, weights)?;
    let (mut prepared, late) = match prepare_late(&model, spec) {
        Ok(prepared) => prepared,
        Err(problems) => return Ok(Err(problems)),
    };
    let has_weights = match prepared.model.take() {
        Some(typed) => onnx::write_canonical_late(typed, &late, folder)?,
        None => false,
    };
    Ok(Ok((prepared, has_weights)))
}

/// What is not done yet, rather than done half.
fn refuse(model: &Model) -> Result<(), Vec<Problem>> {
    let mut problems = Vec::new();
    let opset = model.opset();
    if opset.is_some_and(|opset| opset < MIN_OPSET) {
        let message = format!("a model of opset {} cannot be given a precision", opset.unwrap_or(0));
        problems.push(
            Problem::error("not-yet", message)
                .help(format!("export it with opset {MIN_OPSET} or later, or use `precision = \"as-is\"`")),
        );
    }
    if opset.is_none() {
        // Then there is no Cast either.
        let message = "a model without standard operators cannot be given a precision";
        problems.push(Problem::error("not-yet", message).help("use `precision = \"as-is\"`"));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}
