//! Prepared model -> FP32 graph with rounding.

use std::collections::BTreeMap;

use super::super::float::FloatType;
use super::super::names::{Names, rename_captures};
use super::super::problem::Problem;
use super::super::weights;
use super::table::{self, Rounds};
use super::{Oracle, Rounding};
use crate::onnx::infer::{Body, ElementTypes, ScopeId};
use crate::onnx::proto::{
    AttributeProto, GraphProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, type_proto,
};
use crate::onnx::{self, Model, Type, make};

/// Attributes of the default domain that name an element type.
const TYPE_ATTRIBUTES: [&str; 6] =
    ["to", "dtype", "output_dtype", "stash_type", "softmax_precision", "output_datatype"];

pub(super) fn write(model: &Model) -> Result<Oracle, Vec<Problem>> {
    let types = onnx::element_types(model);
    let opset = model.proto().opset_import.iter().find(|o| matches!(o.domain(), "" | "ai.onnx"));
    let mut writer = Writer {
        types: &types,
        opset: opset.map_or(i64::MAX, |opset| opset.version()),
        names: Names::of(model.graph()),
        nodes: Vec::new(),
        rounding: Vec::new(),
        problems: Vec::new(),
    };
    writer.functions(model);
    let mut graph = writer.graph(model.graph(), types.graph());
    writer.inputs(model.graph(), &mut graph);
    if !writer.problems.is_empty() {
        return Err(writer.problems);
    }
    Ok(Oracle { model: model.with_graph(graph), rounding: writer.rounding })
}

/// The graph as it grows.
pub(super) struct Writer<'m> {
    types: &'m ElementTypes,
    /// Of the default domain.
    pub(super) opset: i64,
    names: Names,
    /// Those of the graph that is being written.
    nodes: Vec<NodeProto>,
    rounding: Vec<Rounding>,
    problems: Vec<Problem>,
}

impl Writer<'_> {
    pub(super) fn push(&mut self, node: NodeProto) {
        self.nodes.push(node);
    }

    /// A name for something that belongs to a value.
    pub(super) fn fresh(&mut self, value: &str, what: &str) -> String {
        self.names.fresh(&format!("{value}/{what}"))
    }

    /// `to` is `from`, rounded.
    pub(super) fn round(&mut self, from: &str, to: &str, of: FloatType) {
        let half = self.fresh(to, of.name());
        self.push(cast(from, &half, of));
        self.push(cast(&half, to, FloatType::Fp32));
    }

    /// A node whose results round.
    pub(super) fn result(&mut self, mut node: NodeProto, of: FloatType) {
        let outputs: Vec<String> = node.output.iter().filter(|o| !o.is_empty()).cloned().collect();
        self.rounded(&mut node, &outputs, of);
    }

    fn rounded(&mut self, node: &mut NodeProto, outputs: &[String], of: FloatType) {
        let mut pairs = Vec::new();
        for output in node.output.iter_mut().filter(|output| outputs.contains(output)) {
            let unrounded = self.names.fresh(&format!("{output}/unrounded"));
            pairs.push((unrounded.clone(), output.clone()));
            *output = unrounded;
        }
        self.push(node.clone());
        for (from, to) in pairs {
            self.round(&from, &to, of);
        }
    }

    /// The type of a value, if it is a tensor of 16 bits.
    fn half(&self, scope: ScopeId, name: &str) -> Option<FloatType> {
        let of = if name.is_empty() { None } else { FloatType::of_type(self.types.get(scope, name)) };
        of.filter(|of| *of != FloatType::Fp32)
    }

    fn refuse(&mut self, node: &NodeProto, why: &str) {
        let (name, op) = (onnx::node_name(node), operator(node));
        let message = format!("node `{name}` ({op}) {why}, which cannot be verified yet");
        let help = "give it `precision = \"fp32\"`, or leave `verify` out for this model";
        self.problems.push(Problem::error("not-yet", message).at_node(&name, &op).help(help));
    }

    /// Functions keep their bodies, which must not hold 16 bits.
    fn functions(&mut self, model: &Model) {
        let types = self.types;
        for (_, scope) in types.scopes() {
            let Body::Function { index } = scope.body else { continue };
            let Some(function) = model.proto().functions.get(index) else { continue };
            if scope.values().any(|(_, of)| has_half(of)) {
                let message = format!(
                    "function `{}` of the model computes in 16 bits, which cannot be verified yet",
                    function.name()
                );
                let help = "export the model with its functions inlined";
                self.problems.push(Problem::error("not-yet", message).help(help));
            }
        }
        self.problems.dedup();
    }

    /// A graph in FP32; its nodes round.
    fn graph(&mut self, graph: &GraphProto, scope: ScopeId) -> GraphProto {
        let around = std::mem::take(&mut self.nodes);
        for (index, node) in graph.node.iter().enumerate() {
            self.node(node, scope, index);
        }
        let nodes = std::mem::replace(&mut self.nodes, around);
        let mut wide = GraphProto { node: nodes, initializer: Vec::new(), ..graph.clone() };
        wide.initializer = graph.initializer.iter().map(widen_tensor).collect();
        wide.input.iter_mut().chain(&mut wide.output).for_each(widen_value);
        wide.value_info.iter_mut().for_each(widen_value);
        for sparse in graph.sparse_initializer.iter().filter_map(|s| s.values.as_ref()) {
            if is_half(sparse.data_type()) {
                let message = format!(
                    "the sparse initializer `{}` has 16 bits, which cannot be verified yet",
                    sparse.name()
                );
                self.problems.push(Problem::error("not-yet", message).help("store it as a dense tensor"));
            }
        }
        wide
    }

    /// Inputs of the model come from outside, and may have more bits than their type.
    fn inputs(&mut self, graph: &GraphProto, wide: &mut GraphProto) {
        let mut renames = BTreeMap::new();
        for input in &graph.input {
            if let Some(of) = self.half(self.types.graph(), input.name()) {
                let rounded = self.fresh(input.name(), "rounded");
                self.round(input.name(), &rounded, of);
                renames.insert(input.name().to_owned(), rounded);
            }
        }
        if renames.is_empty() {
            return;
        }
        for node in &mut wide.node {
            for input in &mut node.input {
                if let Some(rounded) = renames.get(input) {
                    input.clone_from(rounded);
                }
            }
            onnx::subgraphs_mut(node).for_each(|graph| rename_captures(graph, &renames));
        }
        wide.node.splice(0..0, std::mem::take(&mut self.nodes));
    }

    fn node(&mut self, node: &NodeProto, scope: ScopeId, index: usize) {
        let reads_half = node.input.iter().any(|input| self.half(scope, input).is_some());
        let is_unknown = |name: &String| !name.is_empty() && self.types.get(scope, name).is_unknown();
        if reads_half && node.output.iter().any(is_unknown) {
            return self.refuse(node, "has 16 bits at its inputs and results of unknown types");
        }
        let halves: Vec<String> =
            node.output.iter().filter(|output| self.half(scope, output).is_some()).cloned().collect();
        let of = halves.first().and_then(|output| self.half(scope, output));
        if node.op_type() == "BitCast" && (reads_half || of.is_some()) {
            return self.refuse(node, "reads the bits of 16-bit numbers");
        }

        let holds_graphs = onnx::subgraphs(node).next().is_some();
        let at = self.rounding.len();
        let mut wide = node.clone();
        wide.attribute.iter_mut().for_each(|attribute| widen_attribute(attribute, node.domain()));
        for (ordinal, inner) in onnx::subgraphs_mut(&mut wide).enumerate() {
            match self.types.subgraph(scope, index, ordinal) {
                Some(scope) => *inner = self.graph(&inner.clone(), scope),
                None => self.refuse(node, "is nested too deep"),
            }
        }
        let sparse = |a: &AttributeProto| {
            let tensors = a.sparse_tensor.iter().chain(&a.sparse_tensors);
            tensors.filter_map(|s| s.values.as_ref()).any(|values| is_half(values.data_type()))
        };
        if node.attribute.iter().any(sparse) {
            return self.refuse(node, "holds a sparse tensor of 16 bits");
        }

        let Some(of) = of else { return self.push(wide) };
        if holds_graphs || (node.domain().is_empty() && node.op_type() == "Constant") {
            return self.push(wide); // What comes out of it was rounded inside, or is a constant.
        }
        let row = table::row(node.domain(), node.op_type());
        let rounding = Rounding {
            node: onnx::node_name(node),
            op: operator(node),
            of,
            class: row.class(of),
            reason: row.reason.to_owned(),
        };
        self.rounding.insert(at, rounding);
        match row.rounds {
            Rounds::Never => self.push(wide),
            Rounds::Result => self.rounded(&mut wide, &halves, of),
            Rounds::Sigmoid => self.sigmoid(&wide, of),
            Rounds::EachSum => self.each_sum(&wide, of),
            Rounds::Reduction { before, after } => self.reduction(&wide, before, after, of),
            Rounds::Norm => self.norm(&wide, of),
        }
    }
}

fn operator(node: &NodeProto) -> String {
    match node.domain() {
        "" => node.op_type().to_owned(),
        domain => format!("{domain}::{}", node.op_type()),
    }
}

fn is_half(element: i32) -> bool {
    FloatType::of_element(element).is_some_and(|of| of != FloatType::Fp32)
}

fn has_half(of: &Type) -> bool {
    match of {
        Type::Tensor(element) | Type::Map(_, element) => is_half(*element as i32),
        Type::Sequence(of) | Type::Optional(of) => has_half(of),
        Type::Unknown => false,
    }
}

fn widen_tensor(tensor: &TensorProto) -> TensorProto {
    if is_half(tensor.data_type()) { weights::convert(tensor, FloatType::Fp32) } else { tensor.clone() }
}

fn widen_element(element: &mut Option<i32>) {
    if element.is_some_and(is_half) {
        *element = Some(FloatType::Fp32.element() as i32);
    }
}

fn widen_value(value: &mut ValueInfoProto) {
    value.r#type.iter_mut().for_each(widen_type);
}

fn widen_type(of: &mut TypeProto) {
    use type_proto::Value as V;
    match &mut of.value {
        Some(V::TensorType(tensor)) => widen_element(&mut tensor.elem_type),
        Some(V::SparseTensorType(tensor)) => widen_element(&mut tensor.elem_type),
        Some(V::SequenceType(sequence)) => sequence.elem_type.iter_mut().for_each(|of| widen_type(of)),
        Some(V::OptionalType(optional)) => optional.elem_type.iter_mut().for_each(|of| widen_type(of)),
        Some(V::MapType(map)) => map.value_type.iter_mut().for_each(|of| widen_type(of)),
        Some(V::OpaqueType(_)) | None => {}
    }
}

/// Everything but subgraphs.
fn widen_attribute(attribute: &mut AttributeProto, domain: &str) {
    for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
        if is_half(tensor.data_type()) {
            *tensor = widen_tensor(tensor);
        }
    }
    attribute.tp.iter_mut().chain(&mut attribute.type_protos).for_each(widen_type);
    if domain.is_empty()
        && TYPE_ATTRIBUTES.contains(&attribute.name())
        && attribute.i.is_some_and(|i| i32::try_from(i).is_ok_and(is_half))
    {
        attribute.i = Some(i64::from(FloatType::Fp32.element() as i32));
    }
}

/// A node with one result, which it is named after.
pub(super) fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    make::node(output, op, inputs, &[output])
}

fn cast(from: &str, to: &str, of: FloatType) -> NodeProto {
    let mut cast = node("Cast", &[from], to);
    cast.attribute.push(make::int("to", i64::from(of.element() as i32)));
    // Named after the rounded value it would be called like the node that made it, if that is called so.
    cast.name = None;
    cast
}
