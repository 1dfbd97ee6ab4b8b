//! A node on its way to the next opset: what an adapter may know of it, and what it puts in its place.

use std::cell::OnceCell;

use bytes::Bytes;

use crate::onnx::element::Type;
use crate::onnx::graph::{Constant, GraphView, NodeId, Shapes, ValueId};
use crate::onnx::infer::{ElementTypes, element_types};
use crate::onnx::make;
use crate::onnx::names::Names;
use crate::onnx::patch::{self, Patch};
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::proto::{AttributeProto, NodeProto, TensorProto};
use crate::onnx::read::Model;
use crate::onnx::schema::{ParamType, schema};

/// What is known of the model before a step; shapes and types only if someone asks.
pub(super) struct Facts<'v, 'm> {
    pub(super) model: &'m Model,
    pub(super) view: &'v GraphView<'m>,
    pub(super) shapes: OnceCell<Shapes>,
    pub(super) types: OnceCell<ElementTypes>,
}

/// A node, and what takes its place: `before`, `node`, `after`.
pub(super) struct Site<'s, 'v, 'm> {
    facts: &'s Facts<'v, 'm>,
    id: NodeId,
    names: &'s mut Names,
    label: String,
    /// The node, to be changed.
    pub(super) node: NodeProto,
    before: Vec<NodeProto>,
    after: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

/// How an adapter ends: with the reason if it cannot adapt the node.
pub(super) type Outcome = Result<(), String>;

impl<'s, 'v, 'm> Site<'s, 'v, 'm> {
    pub(super) fn new(facts: &'s Facts<'v, 'm>, id: NodeId, names: &'s mut Names) -> Site<'s, 'v, 'm> {
        let of = facts.view.node(id);
        let (node, label) = (of.proto.clone(), of.name.clone());
        Site { facts, id, names, label, node, before: Vec::new(), after: Vec::new(), constants: Vec::new() }
    }

    /// What takes the node's place; none if it stays as it is.
    pub(super) fn patch(self) -> Option<Patch> {
        let old = self.facts.view.node(self.id).proto;
        let Site { node, before, after, constants, .. } = self;
        if before.is_empty() && after.is_empty() && node == *old {
            return None;
        }
        let mut nodes: Vec<NodeProto> = before.into_iter().chain([node]).chain(after).collect();
        nodes.iter_mut().for_each(|node| node.doc_string.clone_from(&old.doc_string));
        Some(Patch { nodes, constants })
    }

    /// Does the node have an attribute? An error if the caller of the function around it decides.
    fn attribute(&self, name: &str) -> Result<Option<&AttributeProto>, String> {
        match self.node.attribute.iter().find(|a| a.name() == name) {
            Some(a) if !a.ref_attr_name().is_empty() => {
                Err(format!("the caller of the function around it decides its `{name}`"))
            }
            found => Ok(found),
        }
    }

    /// An integer attribute.
    pub(super) fn int(&self, name: &str) -> Result<Option<i64>, String> {
        Ok(self.attribute(name)?.map(|a| a.i()))
    }

    /// A list of integers.
    pub(super) fn ints(&self, name: &str) -> Result<Option<Vec<i64>>, String> {
        Ok(self.attribute(name)?.map(|a| a.ints.clone()))
    }

    /// A float attribute.
    pub(super) fn float(&self, name: &str) -> Result<Option<f32>, String> {
        Ok(self.attribute(name)?.map(|a| a.f()))
    }

    /// A list of floats.
    pub(super) fn floats(&self, name: &str) -> Result<Option<Vec<f32>>, String> {
        Ok(self.attribute(name)?.map(|a| a.floats.clone()))
    }

    /// A text attribute.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, String> {
        let text =
            |a: &AttributeProto| String::from_utf8_lossy(a.s.as_deref().unwrap_or_default()).into_owned();
        Ok(self.attribute(name)?.map(text))
    }

    /// Takes an attribute away.
    pub(super) fn remove(&mut self, name: &str) {
        self.node.attribute.retain(|a| a.name() != name);
    }

    /// Gives an attribute, in the place of one of its name.
    pub(super) fn set(&mut self, attribute: AttributeProto) {
        self.remove(attribute.name());
        self.node.attribute.push(attribute);
    }

    /// Reads another value as input `i`; inputs in between are left out.
    pub(super) fn set_input(&mut self, i: usize, value: String) {
        if self.node.input.len() <= i {
            self.node.input.resize(i + 1, String::new());
        }
        self.node.input[i] = value;
    }

    /// A name for a new value or node of this place.
    pub(super) fn fresh(&mut self, what: &str) -> String {
        let base = format!("{}/{what}", self.label);
        self.names.fresh(&base)
    }

    /// A constant of this place; its name.
    pub(super) fn constant(&mut self, what: &str, mut tensor: TensorProto) -> String {
        let name = self.fresh(what);
        tensor.name = Some(name.clone());
        self.constants.push(tensor);
        name
    }

    /// A vector of integers.
    pub(super) fn int_vector(&mut self, what: &str, values: &[i64]) -> String {
        self.constant(what, make::int_vector(values))
    }

    /// A float scalar in the type of an input.
    pub(super) fn scalar_like(&mut self, what: &str, value: f64, input: usize) -> Result<String, String> {
        let element = self.element(input)?;
        let data = make::float_bytes(element, value)
            .ok_or_else(|| format!("its input has a type that `{what}` cannot have"))?;
        Ok(self.constant(what, make::raw_tensor(element, &[], Bytes::from(data))))
    }

    /// Computes something from values before the node; the value it makes.
    pub(super) fn compute(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let name = self.fresh(op);
        let node = NodeProto { attribute: attributes, ..make::node(&name, op, inputs, &[&name]) };
        self.before.push(node);
        name
    }

    /// Puts a node behind the node's output `i`: it reads what the node makes now, and makes the value that the
    /// node made.
    pub(super) fn wrap_output(
        &mut self,
        i: usize,
        op: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) {
        let (inner, name) = (self.fresh("inner"), self.fresh(op));
        let made = std::mem::replace(&mut self.node.output[i], inner.clone());
        let inputs: Vec<&str> = [inner.as_str()].into_iter().chain(inputs.iter().copied()).collect();
        let node = NodeProto { attribute: attributes, ..make::node(&name, op, &inputs, &[&made]) };
        self.after.push(node);
    }

    fn value(&self, input: usize) -> Option<ValueId> {
        self.facts.view.input(self.id, input)
    }

    fn shapes(&self) -> &Shapes {
        self.facts.shapes.get_or_init(|| Shapes::new(self.facts.view))
    }

    /// Dimensions of an input, as far as they are known.
    pub(super) fn dims(&self, input: usize) -> Option<&[Option<i64>]> {
        self.shapes().dims(self.value(input)?)
    }

    /// The rank of an input.
    pub(super) fn rank(&self, input: usize) -> Option<i64> {
        self.dims(input).and_then(|dims| i64::try_from(dims.len()).ok())
    }

    /// [`Site::rank`], or why nothing can be done without it.
    pub(super) fn known_rank(&self, input: usize) -> Result<i64, String> {
        let unknown = || format!("the rank of its input `{}` is not known", self.input_name(input));
        self.rank(input).ok_or_else(unknown)
    }

    /// The name of an input, empty if it is left out.
    pub(super) fn input_name(&self, i: usize) -> String {
        self.node.input.get(i).cloned().unwrap_or_default()
    }

    /// The elements of an input, if it is constant.
    pub(super) fn elements(&self, input: usize) -> Option<Constant<'m>> {
        self.facts.view.constant(self.value(input)?)
    }

    /// The element type of an input, or that it is not known.
    pub(super) fn element(&self, input: usize) -> Result<DataType, String> {
        let unknown = || format!("the type of its input `{}` is not known", self.input_name(input));
        match self.type_of(input) {
            Type::Tensor(element) => Ok(element),
            _ => Err(unknown()),
        }
    }

    fn type_of(&self, input: usize) -> Type {
        let types = self.facts.types.get_or_init(|| element_types(self.facts.model));
        let old = self.facts.view.node(self.id);
        let name = old.proto.input.get(input).map_or("", String::as_str);
        match patch::typed_scope(self.facts.view, types, old.scope) {
            Some(scope) if !name.is_empty() => types.get(scope, name).clone(),
            _ => Type::Unknown,
        }
    }

    /// Does anything read output `i`?
    pub(super) fn is_read(&self, i: usize) -> bool {
        let value = self.facts.view.output(self.id, i).map(|id| self.facts.view.value(id));
        value.is_some_and(|value| value.is_output || !value.consumers.is_empty())
    }

    /// Refuses a node whose inputs have a type that the new version does not take any more.
    pub(super) fn takes_its_inputs(&self, opset: i64) -> Outcome {
        let old = self.facts.view.node(self.id).proto;
        let op = self.node.op_type();
        let (Some(now), Some(next)) = (schema("", old.op_type(), opset - 1), schema("", op, opset)) else {
            return Ok(());
        };
        for i in 0..old.input.len().min(self.node.input.len()) {
            let allowed = |schema: &crate::onnx::OpSchema, of: &Type| match schema.input(i).map(|p| &p.of) {
                Some(ParamType::Parameter(name)) => {
                    schema.constraints.get(name).is_none_or(|set| set.contains(of))
                }
                _ => true,
            };
            // Most new versions only take more: then nothing needs to be inferred.
            let narrower = match (now.input(i).map(|p| &p.of), next.input(i).map(|p| &p.of)) {
                (Some(ParamType::Parameter(a)), Some(ParamType::Parameter(b))) => {
                    match (now.constraints.get(a), next.constraints.get(b)) {
                        (Some(a), Some(b)) => a.elements().any(|of| !b.contains(&Type::Tensor(of))),
                        _ => false,
                    }
                }
                _ => false,
            };
            if !narrower || self.node.input[i] != old.input[i] {
                continue;
            }
            let of = self.type_of(i);
            if !of.is_unknown() && allowed(now, &of) && !allowed(next, &of) {
                return Err(format!("`{op}` takes no {of} from opset {opset} on"));
            }
        }
        Ok(())
    }
}
