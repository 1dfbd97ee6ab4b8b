//! The canonical form: everything that means nothing is gone, everything that has no order is sorted.
//!
//! | left out | why |
//! |---|---|
//! | doc_string, producer, model domain and version, metadata_props | words |
//! | names of graphs | words; ONNX wants one, so every graph is called `graph` |
//! | value_info | can be inferred; TensorRT infers anyway. Of values made by custom operators, the type is kept |
//! | functions | each stands in the place of its calls, before (`inline`) |
//! | unused initializers, opset imports; nodes that no output depends on | not computed |
//! | inputs that are initializers | TensorRT takes an initializer for a constant, listed as input or not |
//! | annotations of values that are not there | about nothing |
//!
//! | sorted | by |
//! |---|---|
//! | initializers | name |
//! | attributes of a node | name |
//! | opset imports | domain |
//!
//! Written out: `upper` of a Trilu, whose default TensorRT reads otherwise.
//!
//! Kept as they are: names of nodes and values, the order of nodes, inputs and outputs, types and
//! dims (dim_params too) of inputs and outputs, unused outputs of nodes, Constant nodes. An IR version below 4 becomes 4, the first that allows initializers which
//! are not inputs. An empty string where ONNX means "absent" is absent, and so is the dim_param `?`.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexSet;

use super::error::Error;
use super::infer::ElementTypes;
use super::make;
use super::names::{initializer_names, reads, sparse_name, subgraphs, subgraphs_mut};
use super::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, SparseTensorProto,
    TensorProto, TypeProto, ValueInfoProto, tensor_shape_proto::dimension, type_proto,
};
use super::read::Model;
use crate::diagnostic::Diagnostic;

/// The first IR version in which an initializer need not be an input.
const IR_OF_FREE_INITIALIZERS: i64 = 4;

/// Brings a model, whose values have these types, into its canonical form. Idempotent.
pub(super) fn canonical(model: &mut Model, types: &ElementTypes) -> Result<(), Error> {
    let proto = &mut model.proto;
    let functions: Vec<FunctionKey> = proto.functions.iter().map(function_key).collect();
    let Some(graph) = &mut proto.graph else { return Ok(()) };
    keep_types(graph, types.told_by_value_info(None));
    let constants: IndexSet<String> = initializer_names(graph).map(str::to_owned).collect();
    graph.input.retain(|input| !constants.contains(input.name()));
    tidy_graph(graph);
    if graph.node.is_empty() {
        let message = "no output depends on any node";
        return Err(Diagnostic::error("no-nodes", message).in_file(&model.path).into());
    }
    for (i, function) in proto.functions.iter_mut().enumerate() {
        tidy_function(function, types.told_by_value_info(Some(i)));
    }
    let called = called_functions(graph, &proto.functions, &functions);
    let mut keep = called.into_iter();
    proto.functions.retain(|_| keep.next().unwrap_or(true));
    tidy_imports(proto);
    proto.ir_version = Some(proto.ir_version().max(IR_OF_FREE_INITIALIZERS));
    proto.producer_name = None;
    proto.producer_version = None;
    proto.domain = None;
    proto.model_version = None;
    proto.doc_string = None;
    proto.metadata_props.clear();
    Ok(())
}

fn absent_if_empty(text: &mut Option<String>) {
    if text.as_deref() == Some("") {
        *text = None;
    }
}

/// Of what a graph declares of its values, leaves the element types that nothing else tells.
fn keep_types(graph: &mut GraphProto, told: &BTreeSet<String>) {
    keep_told(&mut graph.value_info, told);
    let inner = graph.node.iter_mut().flat_map(subgraphs_mut);
    inner.for_each(|graph| keep_types(graph, told));
}

fn keep_told(declared: &mut Vec<ValueInfoProto>, told: &BTreeSet<String>) {
    declared.retain(|value| told.contains(value.name()));
    for value in &mut *declared {
        if let Some(type_proto::Value::TensorType(tensor)) =
            value.r#type.as_mut().and_then(|of| of.value.as_mut())
        {
            tensor.shape = None;
        }
        tidy_value(value);
    }
    declared.sort_by(|a, b| a.name().cmp(b.name()));
    declared.dedup_by(|a, b| a.name() == b.name());
}

fn tidy_graph(graph: &mut GraphProto) {
    graph.name = Some("graph".to_owned());
    graph.doc_string = None;
    graph.metadata_props.clear();
    graph.input.iter_mut().chain(&mut graph.output).for_each(tidy_value);

    let outputs: Vec<String> = graph.output.iter().map(|output| output.name().to_owned()).collect();
    let mut used = tidy_nodes(&mut graph.node, &outputs);

    let inputs = graph.input.iter().map(|input| input.name());
    let made = graph.node.iter().flat_map(|node| &node.output).map(String::as_str);
    let outputs: IndexSet<&str> = outputs.iter().map(String::as_str).collect();
    let made_here: IndexSet<&str> =
        graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
    // An output is declared already.
    graph.value_info.retain(|value| made_here.contains(value.name()) && !outputs.contains(value.name()));
    let live: IndexSet<&str> = inputs.chain(made).chain(used.iter().map(String::as_str)).collect();
    graph.quantization_annotation.retain(|annotation| live.contains(annotation.tensor_name()));
    for annotation in &graph.quantization_annotation {
        used.extend(annotation.quant_parameter_tensor_names.iter().map(|entry| entry.value().to_owned()));
    }

    graph.initializer.retain(|tensor| used.contains(tensor.name()));
    graph.initializer.iter_mut().for_each(tidy_tensor);
    graph.initializer.sort_by(|a, b| a.name().cmp(b.name()));
    graph.sparse_initializer.retain(|sparse| used.contains(sparse_name(sparse)));
    graph.sparse_initializer.iter_mut().for_each(tidy_sparse);
    graph.sparse_initializer.sort_by(|a, b| sparse_name(a).cmp(sparse_name(b)));
}

/// Tidies nodes, drops the dead ones, and gives all values that outputs and live nodes read.
fn tidy_nodes(nodes: &mut Vec<NodeProto>, outputs: &[String]) -> IndexSet<String> {
    // Subgraphs first: what only their dead nodes read is not read.
    nodes.iter_mut().for_each(tidy_node);
    drop_dead_nodes(nodes, outputs)
}

/// Drops nodes that no output depends on, and gives all values that outputs and the other nodes read.
pub(super) fn drop_dead_nodes(nodes: &mut Vec<NodeProto>, outputs: &[String]) -> IndexSet<String> {
    let mut used: IndexSet<String> = outputs.iter().filter(|name| !name.is_empty()).cloned().collect();
    // Nodes are sorted, so that one walk from the end sees every reader before the maker.
    let mut live = vec![false; nodes.len()];
    for (i, node) in nodes.iter().enumerate().rev() {
        if node.output.iter().any(|output| used.contains(output)) {
            live[i] = true;
            used.extend(reads(node).into_iter().map(str::to_owned));
        }
    }
    let mut live = live.into_iter();
    nodes.retain(|_| live.next().unwrap_or(true));
    used
}

fn tidy_node(node: &mut NodeProto) {
    node.doc_string = None;
    node.metadata_props.clear();
    absent_if_empty(&mut node.name);
    absent_if_empty(&mut node.overload);
    if node.domain() == "ai.onnx" {
        node.domain = None;
    }
    absent_if_empty(&mut node.domain);
    // ONNX's default is 1, and TensorRT takes 0.
    if matches!(node.domain(), "" | "com.microsoft")
        && node.op_type() == "Trilu"
        && !node.attribute.iter().any(|a| a.name() == "upper")
    {
        node.attribute.push(make::int("upper", 1));
    }
    node.attribute.iter_mut().for_each(tidy_attribute);
    node.attribute.sort_by(|a, b| a.name().cmp(b.name()));
    subgraphs_mut(node).for_each(tidy_graph);
}

/// All but the subgraphs.
fn tidy_attribute(attribute: &mut AttributeProto) {
    attribute.doc_string = None;
    absent_if_empty(&mut attribute.ref_attr_name);
    attribute.t.iter_mut().chain(&mut attribute.tensors).for_each(tidy_tensor);
    attribute.sparse_tensor.iter_mut().chain(&mut attribute.sparse_tensors).for_each(tidy_sparse);
    attribute.tp.iter_mut().chain(&mut attribute.type_protos).for_each(tidy_type);
}

fn tidy_tensor(tensor: &mut TensorProto) {
    tensor.doc_string = None;
    tensor.metadata_props.clear();
    absent_if_empty(&mut tensor.name);
}

fn tidy_sparse(sparse: &mut SparseTensorProto) {
    sparse.values.iter_mut().chain(&mut sparse.indices).for_each(tidy_tensor);
}

fn tidy_value(value: &mut ValueInfoProto) {
    value.doc_string = None;
    value.metadata_props.clear();
    value.r#type.iter_mut().for_each(tidy_type);
}

fn tidy_type(of: &mut TypeProto) {
    use type_proto::Value as V;
    absent_if_empty(&mut of.denotation);
    let shape = match &mut of.value {
        Some(V::TensorType(tensor)) => tensor.shape.as_mut(),
        Some(V::SparseTensorType(tensor)) => tensor.shape.as_mut(),
        Some(V::SequenceType(sequence)) => return sequence.elem_type.iter_mut().for_each(|t| tidy_type(t)),
        Some(V::OptionalType(optional)) => return optional.elem_type.iter_mut().for_each(|t| tidy_type(t)),
        Some(V::MapType(map)) => return map.value_type.iter_mut().for_each(|t| tidy_type(t)),
        Some(V::OpaqueType(_)) | None => None,
    };
    for dim in shape.into_iter().flat_map(|shape| &mut shape.dim) {
        absent_if_empty(&mut dim.denotation);
        // Some exporters write `?` for "unknown". TensorRT takes it for a name, and dimensions of one
        // name for equal, so that batch, height and width would have to agree.
        if matches!(&dim.value, Some(dimension::Value::DimParam(name)) if name.is_empty() || name == "?") {
            dim.value = None;
        }
    }
}

fn tidy_function(function: &mut FunctionProto, told: &BTreeSet<String>) {
    function.doc_string = None;
    function.metadata_props.clear();
    keep_told(&mut function.value_info, told);
    let inner = function.node.iter_mut().flat_map(subgraphs_mut);
    inner.for_each(|graph| keep_types(graph, told));
    absent_if_empty(&mut function.domain);
    absent_if_empty(&mut function.overload);
    for attribute in &mut function.attribute_proto {
        tidy_attribute(attribute);
        let inner = attribute.g.iter_mut().chain(&mut attribute.graphs);
        inner.for_each(|graph| {
            keep_types(graph, &BTreeSet::new());
            tidy_graph(graph);
        });
    }
    function.attribute_proto.sort_by(|a, b| a.name().cmp(b.name()));
    tidy_nodes(&mut function.node, &function.output);
    let made: IndexSet<&str> =
        function.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
    function.value_info.retain(|value| made.contains(value.name()));
    for import in &mut function.opset_import {
        if import.domain() == "ai.onnx" {
            import.domain = None;
        }
        absent_if_empty(&mut import.domain);
    }
    function.opset_import.sort_by(|a, b| a.domain().cmp(b.domain()));
}

/// Domain, name and overload.
type FunctionKey = (String, String, String);

fn function_key(function: &FunctionProto) -> FunctionKey {
    (function.domain().to_owned(), function.name().to_owned(), function.overload().to_owned())
}

/// Which functions the graph calls, directly or through others.
fn called_functions(graph: &GraphProto, functions: &[FunctionProto], keys: &[FunctionKey]) -> Vec<bool> {
    let index: BTreeMap<&FunctionKey, usize> = keys.iter().enumerate().map(|(i, key)| (key, i)).collect();
    let mut called = vec![false; functions.len()];
    let mut open: Vec<&[NodeProto]> = vec![&graph.node];
    while let Some(nodes) = open.pop() {
        for node in nodes {
            open.extend(subgraphs(node).map(|graph| graph.node.as_slice()));
            let key = (node.domain().to_owned(), node.op_type().to_owned(), node.overload().to_owned());
            if let Some(i) = index.get(&key).copied().filter(|i| !called[*i]) {
                called[i] = true;
                open.push(&functions[i].node);
            }
        }
    }
    called
}

/// Leaves one import per domain that is used; the default domain always stays.
fn tidy_imports(proto: &mut ModelProto) {
    let mut used: BTreeSet<String> = BTreeSet::from([String::new()]);
    let graph = proto.graph.iter().map(|graph| graph.node.as_slice());
    let mut open: Vec<&[NodeProto]> =
        graph.chain(proto.functions.iter().map(|f| f.node.as_slice())).collect();
    while let Some(nodes) = open.pop() {
        for node in nodes {
            used.insert(node.domain().to_owned());
            open.extend(subgraphs(node).map(|graph| graph.node.as_slice()));
        }
    }
    let imports: BTreeMap<String, Option<i64>> =
        proto.opset_import.iter().map(|import| (import.domain().to_owned(), import.version)).collect();
    // A file that names no opset at all is no model; so where none is used, all stay.
    let none_used = !imports.keys().any(|domain| used.contains(domain));
    proto.opset_import = imports
        .into_iter()
        .filter(|(domain, _)| none_used || used.contains(domain))
        .map(|(domain, version)| OperatorSetIdProto {
            domain: Some(domain).filter(|d| !d.is_empty()),
            version,
        })
        .collect();
}
