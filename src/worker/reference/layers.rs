//! Every float value of a model and of its oracle, compared: in slices, so that memory stays bounded.
//!
//! A slice is some values as the only outputs of a graph, with the nodes that they depend on. Both graphs lie in files
//! whose weights are written once; a slice is a small file beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ort::environment::Environment;
use prost::Message;

use super::products::Products;
use super::session::{self, Session};
use super::{Result, bad_sample, library, no_oracle, read, refusal};
use crate::fs;
use crate::onnx::graph::{GraphView, ScopeKind};
use crate::onnx::pattern::{self, Kind, Match};
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, TypeProto, ValueInfoProto, type_proto};
use crate::onnx::{self, ElementTypes, MODEL_FILE, Model};
use crate::precision::{FloatType, oracle};
use crate::verify::{Array, Drift, MeasureSpec, NodeDrift, Untapped, ValueDrift, index_bounds};
use crate::worker::canonicalize::refused;
use crate::worker::protocol::{DRIFT_FILE, MeasureRequest, PREPARED_FOLDER};

/// Bytes of the reference's values that a slice should hold, for one sample.
const SLICE: u64 = 64 << 20;

/// Values in the first slice, which shows how large they are.
const FIRST: usize = 8;

/// How much larger a slice may be than the one before.
const STEP: usize = 8;

/// Taps the prepared model and its source, both in `folder`; writes [`DRIFT_FILE`].
pub(in crate::worker) fn layers(request: &MeasureRequest, folder: &Path) -> Result<()> {
    let environment = library::load(&request.libraries)?;
    let source = read(folder)?;
    let bounds = index_bounds(&source);
    let prepared = read(&folder.join(PREPARED_FOLDER))?;
    let oracle = oracle::oracle(&prepared).map_err(|problems| no_oracle(&problems))?.model;
    let (mut nodes, untapped) = nodes(&source, &prepared, &oracle);
    drop(prepared);

    let products = Products::of(&source);
    let reference = Graph::write(source, &folder.join("reference"), super::SOURCE)?;
    let oracle = Graph::write(oracle, &folder.join("oracle"), super::ORACLE)?;
    let places: Vec<(usize, usize)> = nodes
        .iter()
        .enumerate()
        .flat_map(|(i, node)| (0..node.values.len()).map(move |value| (i, value)))
        .collect();
    let (mut at, mut count) = (0, FIRST);
    let mut shapes: Vec<BTreeMap<String, Vec<i64>>> = vec![BTreeMap::new(); samples(&request.spec)];
    while at < places.len() {
        let slice = &places[at..places.len().min(at + count)];
        let values: Vec<String> = slice.iter().map(|(i, v)| nodes[*i].values[*v].value.clone()).collect();
        let bytes =
            one_slice(&request.spec, &environment, (&reference, &oracle), &values, &bounds, |s, k, r, o| {
                let (i, v) = slice[k];
                nodes[i].values[v].add(r, o, s);
                shapes[s].insert(values[k].clone(), r.shape.clone());
            })?;
        at += slice.len();
        let each = (bytes / slice.len() as u64).max(1);
        count = usize::try_from(SLICE / each).unwrap_or(usize::MAX).clamp(1, count * STEP);
    }
    for node in &mut nodes {
        node.macs = shapes.iter().map(|shapes| products.macs(&node.node, shapes)).sum();
    }
    let samples = names(&request.spec, &bounds)?;
    let json = serde_json::to_vec(&Drift { samples, nodes, untapped })
        .map_err(|e| refusal("write", "file-unreadable", e.to_string()))?;
    fs::write_atomic(&folder.join(DRIFT_FILE), &json).map_err(|e| refused(&e.into()))
}

fn samples(spec: &MeasureSpec) -> usize {
    usize::try_from(spec.count()).unwrap_or(usize::MAX)
}

fn names(spec: &MeasureSpec, bounds: &BTreeMap<String, i64>) -> Result<Vec<String>> {
    (0..spec.count()).map(|n| Ok(spec.sample(n, bounds).map_err(bad_sample)?.name)).collect()
}

/// Runs a slice of both graphs on all samples; gives the bytes of the reference's values in the largest sample.
fn one_slice(
    spec: &MeasureSpec,
    environment: &Environment,
    (reference, oracle): (&Graph, &Graph),
    values: &[String],
    bounds: &BTreeMap<String, i64>,
    mut each: impl FnMut(usize, usize, &Array, &Array),
) -> Result<u64> {
    let mut left = reference.slice(environment, values)?;
    let mut right = oracle.slice(environment, values)?;
    let mut most = 0;
    for number in 0..spec.count() {
        let sample = spec.sample(number, bounds).map_err(bad_sample)?;
        let expected = left.run(&sample, values, reference.what)?;
        let found = right.run(&sample, values, oracle.what)?;
        most = most.max(expected.iter().map(|array| array.bytes.len() as u64).sum());
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        for (k, (expected, found)) in expected.iter().zip(&found).enumerate() {
            each(at, k, expected, found);
        }
    }
    Ok(most)
}

/// A graph in files, its weights beside it.
struct Graph {
    folder: PathBuf,
    proto: ModelProto,
    /// Element types of its values.
    elements: BTreeMap<String, i32>,
    what: &'static str,
}

impl Graph {
    fn write(model: Model, folder: &Path, what: &'static str) -> Result<Graph> {
        let types = onnx::element_types(&model);
        let element = |(name, of): (&str, &onnx::Type)| Some((name.to_owned(), of.element()? as i32));
        let elements = types.scope(types.graph()).values().filter_map(element).collect();
        session::write(model, folder)?;
        let bytes = fs::map(&folder.join(MODEL_FILE)).map_err(|e| refused(&e.into()))?;
        let proto = ModelProto::decode(bytes).map_err(|e| refusal("read", "bad-protobuf", e.to_string()))?;
        Ok(Graph { folder: folder.to_owned(), proto, elements, what })
    }

    /// A session that gives these values, and computes only what they need.
    fn slice(&self, environment: &Environment, values: &[String]) -> Result<Session> {
        let Some(graph) = &self.proto.graph else {
            return Err(refusal("read", "no-nodes", "the model holds no graph"));
        };
        let mut needed: BTreeSet<&str> = values.iter().map(String::as_str).collect();
        let mut nodes: Vec<&NodeProto> = Vec::new();
        for node in graph.node.iter().rev() {
            if node.output.iter().any(|output| needed.contains(output.as_str())) {
                needed.extend(onnx::reads(node));
                nodes.push(node);
            }
        }
        let output = values.iter().map(|name| {
            // Only what a declared output says of its shape could be wrong here, so that nothing is said.
            let tensor = type_proto::Tensor { elem_type: self.elements.get(name).copied(), shape: None };
            let of = TypeProto { denotation: None, value: Some(type_proto::Value::TensorType(tensor)) };
            ValueInfoProto { name: Some(name.clone()), r#type: Some(of), ..ValueInfoProto::default() }
        });
        let graph = GraphProto {
            node: nodes.into_iter().rev().cloned().collect(),
            output: output.collect(),
            initializer: graph.initializer.iter().filter(|t| needed.contains(t.name())).cloned().collect(),
            sparse_initializer: graph.sparse_initializer.clone(),
            value_info: Vec::new(),
            ..GraphProto { node: Vec::new(), output: Vec::new(), initializer: Vec::new(), ..graph.clone() }
        };
        let slice = ModelProto { graph: Some(graph), ..self.proto.clone() };
        let path = self.folder.join("slice.onnx");
        fs::write_atomic(&path, &slice.encode_to_vec()).map_err(|e| refused(&e.into()))?;
        Session::load(environment, &path, self.what)
    }
}

/// The nodes of the main graph whose float values both graphs have, and how many others there are.
fn nodes(source: &Model, prepared: &Model, oracle: &Model) -> (Vec<NodeDrift>, Untapped) {
    let (types, built) = (onnx::element_types(source), onnx::element_types(prepared));
    let made: BTreeSet<&str> =
        oracle.graph().node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
    let float = |types: &ElementTypes, name: &str| FloatType::of_type(types.get(types.graph(), name));
    let in_built: BTreeMap<&str, &NodeProto> = prepared
        .graph()
        .node
        .iter()
        .flat_map(|node| node.output.iter().map(move |output| (output.as_str(), node)))
        .collect();
    // An output of the model keeps its type by a Cast behind the node, which has another.
    let built_as = |node: &NodeProto, value: &str| {
        let cast = in_built.get(value).filter(|maker| maker.op_type() == "Cast" && node.op_type() != "Cast");
        let own = cast.and_then(|cast| cast.input.first()).map_or(value, String::as_str);
        float(&built, own).unwrap_or(FloatType::Fp32)
    };
    let mut patterns: BTreeMap<usize, (String, String)> = BTreeMap::new();
    let mut joined: BTreeSet<usize> = BTreeSet::new();
    for found in pattern::find(source) {
        if is_joined(&found, source, &made) {
            joined.extend(found.nodes.iter().map(|node| node.index));
        }
        for node in found.nodes.iter().filter(|node| node.scope == 0) {
            // What lies in two is named after the smaller: attention holds softmax.
            let named = (found.kind.name().to_owned(), found.instance.clone());
            let is_attention = found.attention.is_some();
            if !is_attention || !patterns.contains_key(&node.index) {
                patterns.insert(node.index, named);
            }
        }
    }
    let mut untapped = inner(source.proto());
    let mut nodes: Vec<NodeDrift> = Vec::new();
    let mut makers: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, node) in source.graph().node.iter().enumerate() {
        let is_constant = node.op_type() == "Constant" && node.domain().is_empty();
        let values: Vec<&String> = node
            .output
            .iter()
            .filter(|name| float(&types, name).is_some() && made.contains(name.as_str()))
            .collect();
        if is_constant || values.is_empty() {
            if !is_constant && node.output.iter().any(|name| float(&types, name).is_some()) {
                let count =
                    if joined.contains(&index) { &mut untapped.joined } else { &mut untapped.dropped };
                *count += 1;
            }
            // What it passes on of others is passed on.
            let read = onnx::reads(node).into_iter().find_map(|name| makers.get(name).copied());
            if let Some(read) = read.filter(|_| !is_constant) {
                makers.extend(node.output.iter().map(|name| (name.as_str(), read)));
            }
            continue;
        }
        let of = built_as(node, values[0]);
        let mut reads: Vec<usize> =
            onnx::reads(node).into_iter().filter_map(|name| makers.get(name).copied()).collect();
        reads.sort_unstable();
        reads.dedup();
        makers.extend(node.output.iter().map(|name| (name.as_str(), nodes.len())));
        nodes.push(NodeDrift {
            node: onnx::node_name(node),
            op: node.op_type().to_owned(),
            pattern: patterns.get(&index).cloned(),
            of: of.name().to_owned(),
            reads,
            macs: 0,
            values: values
                .into_iter()
                .map(|value| ValueDrift { value: value.clone(), ..ValueDrift::default() })
                .collect(),
        });
    }
    (nodes, untapped)
}

/// Did `fuse` make one node of a norm? Then only the last of its parts has a value still: that of the norm.
fn is_joined(norm: &Match, source: &Model, made: &BTreeSet<&str>) -> bool {
    let [parts @ .., _] = &norm.nodes[..] else { return false };
    let is_made = |node: &NodeProto| node.output.iter().any(|name| made.contains(name.as_str()));
    norm.kind == Kind::LayerNorm
        && norm.scope() == 0
        && !parts.is_empty()
        && parts.iter().filter_map(|part| source.graph().node.get(part.index)).all(|node| !is_made(node))
}

/// How many nodes lie below the main graph.
fn inner(model: &ModelProto) -> Untapped {
    let mut untapped = Untapped::default();
    let graph = GraphView::new(model);
    for (_, node) in graph.nodes().filter(|(_, node)| node.proto.op_type() != "Constant") {
        match graph.scopes()[node.scope].kind {
            ScopeKind::Main => {}
            ScopeKind::Subgraph { .. } => untapped.in_subgraphs += 1,
            ScopeKind::Function(_) => untapped.in_functions += 1,
        }
    }
    untapped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::fuse;
    use crate::onnx::proto::tensor_proto::DataType;
    use crate::onnx::testing::{WithAttribute, floats, model, node, value, weight};

    /// A norm between two Casts of its type, the first of which a typed model does without.
    fn source() -> Model {
        let rows = ["b".into(), 8.into()];
        let graph = GraphProto {
            input: vec![value("x", DataType::Float, &rows)],
            output: vec![value("z", DataType::Float, &rows)],
            initializer: vec![floats("two", &[], &[2.0]), floats("eps", &[], &[1e-5]), weight("scale", &[8])],
            node: vec![
                node("cast", "Cast", &["x"], &["c"]).int("to", 1),
                node("mean", "ReduceMean", &["c"], &["m"]).ints("axes", &[-1]),
                node("sub", "Sub", &["c", "m"], &["d"]),
                node("square", "Pow", &["d", "two"], &["q"]),
                node("var", "ReduceMean", &["q"], &["v"]).ints("axes", &[-1]),
                node("add", "Add", &["v", "eps"], &["e"]),
                node("root", "Sqrt", &["e"], &["r"]),
                node("div", "Div", &["d", "r"], &["n"]),
                node("mul", "Mul", &["n", "scale"], &["y"]),
                node("relu", "Relu", &["y"], &["z"]),
            ],
            ..GraphProto::default()
        };
        onnx::read_canonical(model(17, graph).encode_to_vec().into(), None).unwrap()
    }

    fn without_cast(model: &Model) -> Model {
        let mut graph = model.graph().clone();
        graph.node.retain(|node| node.name() != "cast");
        let reads = graph.node.iter_mut().flat_map(|node| &mut node.input);
        reads.filter(|name| *name == "c").for_each(|name| "x".clone_into(name));
        model.with_graph(graph)
    }

    #[test]
    fn what_fuse_joined_is_told_from_casts_that_are_needless() {
        let source = source();
        let untapped = |built: &Model| nodes(&source, built, built).1;
        assert_eq!(untapped(&source), Untapped::default());
        let typed = untapped(&without_cast(&source));
        assert_eq!((typed.joined, typed.dropped), (0, 1));
        let fused = untapped(&without_cast(&fuse::layer_norms(&source).model));
        assert_eq!((fused.joined, fused.dropped), (7, 1));
        assert_eq!(
            fused.text().as_deref(),
            Some("7 nodes that `fuse` joined, 1 node that the typed model does without")
        );
    }
}
