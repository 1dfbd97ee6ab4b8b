//! Assignment -> typed graph. Casts stand only where a value crosses to another type, each at most once per
//! value and type, right before its first reader; constants are stored in the types that their readers want.
//!
//! Casts between float types that the file has are left out, and made anew where they are needed: so no two
//! stand back to back, and rewriting a rewritten graph gives the same graph.
//!
//! Subgraphs keep their types: what they read from around them is given to them in the type of the file.

use std::collections::{BTreeMap, BTreeSet};

use super::assign::NodeAssignment;
use super::float::FloatType;
use super::hazard::{Constants, Reading};
use super::names::{Names, rename_captures};
use super::problem::Problem;
use super::signature::{Role, Slot};
use super::view::View;
use super::weights;
use crate::onnx;
use crate::onnx::proto::attribute_proto::AttributeType;
use crate::onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// The typed graph, and what its constants lost.
pub(super) struct Rewritten {
    pub(super) graph: GraphProto,
    pub(super) problems: Vec<Problem>,
}

/// Rewrites the main graph; `nodes` is the assignment of every node of the view.
pub(super) fn rewrite(view: &View<'_>, nodes: &[NodeAssignment]) -> Rewritten {
    let plan = Plan::new(view, nodes);
    let mut writer = Writer::new(&plan);
    writer.constants();
    for (index, id) in view.top.iter().enumerate() {
        writer.node(index, *id);
    }
    writer.finish()
}

/// A value of one of the three types in the main graph.
#[derive(Debug, Clone, Copy)]
struct Value<'m> {
    /// Its type in the file.
    file: FloatType,
    /// The type that it is made in.
    made: FloatType,
    /// What it is a Cast of, through all Casts.
    source: &'m str,
    /// Can it be had in any type?
    is_constant: bool,
}

/// What each node gets and gives.
struct Plan<'v> {
    view: &'v View<'v>,
    values: BTreeMap<&'v str, Value<'v>>,
    /// Types of inputs by node of the main graph; none for what is no float.
    inputs: Vec<Vec<Option<FloatType>>>,
    /// Types of what its subgraphs read, likewise.
    captures: Vec<Vec<(&'v str, FloatType)>>,
    /// The type of each node of the main graph; none for one that has none.
    of: Vec<Option<FloatType>>,
    /// The types in which a constant is read, and by whom.
    needs: BTreeMap<&'v str, BTreeMap<FloatType, Vec<Reading>>>,
    /// Declared types of outputs.
    outputs: BTreeMap<&'v str, FloatType>,
}

impl<'v> Plan<'v> {
    fn new(view: &'v View<'v>, nodes: &[NodeAssignment]) -> Plan<'v> {
        let graph = view.model.graph();
        let declared = |value: &'v onnx::proto::ValueInfoProto| {
            let of = FloatType::of_type(&onnx::Type::declared(value.r#type.as_ref()));
            Some((value.name(), of.or_else(|| view.main_float(value.name()))?))
        };
        let mut plan = Plan {
            view,
            values: BTreeMap::new(),
            inputs: Vec::new(),
            captures: Vec::new(),
            of: Vec::new(),
            needs: BTreeMap::new(),
            outputs: graph.output.iter().filter_map(declared).collect(),
        };
        for input in &graph.input {
            plan.define(input.name(), None, false);
        }
        for tensor in &graph.initializer {
            plan.define(tensor.name(), None, true);
        }
        for sparse in graph.sparse_initializer.iter().filter_map(|s| s.values.as_ref()) {
            plan.define(sparse.name(), None, false);
        }
        for id in &view.top {
            plan.node(*id, nodes[*id].of);
        }
        let outputs: Vec<(&str, FloatType)> = plan.outputs.iter().map(|(name, of)| (*name, *of)).collect();
        for (name, of) in outputs {
            let Some(value) = plan.values.get(name).copied() else { continue };
            if value.source == name {
                plan.need(name, of, Reading::Output);
            } else if let Some(source) = plan.values.get(value.source).copied() {
                // The Cast stays, since the output is called by its name.
                plan.need(value.source, source.made, Reading::Output);
            }
        }
        plan
    }

    fn define(&mut self, name: &'v str, made: Option<FloatType>, is_constant: bool) {
        if let Some(file) = self.view.main_float(name) {
            let made = made.unwrap_or(file);
            self.values.insert(name, Value { file, made, source: name, is_constant });
        }
    }

    /// The value behind all Casts.
    fn source(&self, name: &str) -> Option<(&'v str, Value<'v>)> {
        let value = self.values.get(name)?;
        Some((value.source, *self.values.get(value.source)?))
    }

    fn need(&mut self, name: &str, of: FloatType, reading: Reading) {
        if let Some((source, value)) = self.source(name)
            && value.is_constant
        {
            self.needs.entry(source).or_default().entry(of).or_default().push(reading);
        }
    }

    fn node(&mut self, id: usize, assigned: Option<FloatType>) {
        let node = &self.view.nodes[id];
        let (proto, signature) = (node.proto, &node.signature);
        let of = match &signature.role {
            Role::Typed => assigned,
            Role::Reader => self.reader_type(id),
            Role::Transparent | Role::Constant | Role::Opaque(_) => None,
        };
        let mut wanted = Vec::with_capacity(proto.input.len());
        for (i, name) in proto.input.iter().enumerate() {
            let value = self.values.get(name.as_str()).copied();
            let want = value.and_then(|value| match (&signature.role, signature.inputs.get(i)) {
                (Role::Transparent, _) => None,
                (_, Some(Slot::Follows)) => of,
                (_, Some(Slot::Free)) => self.source(name).map(|(_, source)| source.made),
                (_, Some(Slot::Fixed) | None) => Some(value.file),
            });
            if let Some(want) = want {
                self.need(name, want, Reading::Node { id, input: i });
            }
            wanted.push(want);
        }
        let mut captures = Vec::new();
        if onnx::subgraphs(proto).next().is_some() {
            for name in onnx::reads(proto) {
                if let Some(value) = self.values.get(name).copied() {
                    captures.push((name, value.file));
                    self.need(name, value.file, Reading::Node { id, input: usize::MAX });
                }
            }
        }
        for (i, output) in proto.output.iter().enumerate() {
            if output.is_empty() {
                continue;
            }
            let made = of.filter(|_| signature.outputs.get(i) == Some(&Slot::Follows));
            self.define(output, made, signature.role == Role::Constant);
            if signature.role == Role::Transparent
                && let Some((source, _)) = proto.input.first().and_then(|input| self.source(input))
                && let Some(value) = self.values.get_mut(output.as_str())
            {
                value.source = source;
            }
        }
        self.inputs.push(wanted);
        self.captures.push(captures);
        self.of.push(of);
    }

    /// A node without a float result takes its inputs as they come, if they come in one type.
    fn reader_type(&self, id: usize) -> Option<FloatType> {
        let node = &self.view.nodes[id];
        let follows = node.proto.input.iter().zip(&node.signature.inputs);
        let follows = follows.filter(|(_, slot)| **slot == Slot::Follows).map(|(name, _)| name);
        let sources: Vec<Value<'_>> = follows.filter_map(|name| self.source(name)).map(|(_, v)| v).collect();
        let made: BTreeSet<FloatType> =
            sources.iter().filter(|source| !source.is_constant).map(|source| source.made).collect();
        let of = match (made.len(), made.first(), sources.first()) {
            (0, _, Some(constant)) => constant.file,
            (1, Some(of), _) => *of,
            _ => FloatType::Fp32,
        };
        Some(if node.signature.denial(of).is_some() { FloatType::Fp32 } else { of })
    }

    /// The type in which a constant keeps its name, and all types that it is needed in.
    fn types_of_constant(&self, name: &str) -> (FloatType, Vec<FloatType>) {
        let file = self.values.get(name).map_or(FloatType::Fp32, |value| value.file);
        let needed: Vec<FloatType> =
            self.needs.get(name).into_iter().flat_map(|n| n.keys()).copied().collect();
        let own = match self.outputs.get(name) {
            Some(declared) => *declared,
            None if needed.contains(&file) => file,
            None => needed.first().copied().unwrap_or(file),
        };
        (own, needed)
    }
}

/// The graph as it grows.
struct Writer<'p> {
    plan: &'p Plan<'p>,
    names: Names,
    /// Casts that an output of the model is called by, by what they cast, until they are made.
    kept: BTreeMap<(&'p str, FloatType), &'p NodeProto>,
    /// What a value is called in a type.
    made: BTreeMap<(String, FloatType), String>,
    graph: GraphProto,
    constants: Constants<'p>,
}

impl<'p> Writer<'p> {
    fn new(plan: &'p Plan<'p>) -> Writer<'p> {
        let old = plan.view.model.graph();
        let mut names = Names::of(old);
        let mut kept = BTreeMap::new();
        for id in &plan.view.top {
            let node = &plan.view.nodes[*id];
            let Some(output) = node.proto.output.first() else { continue };
            if node.signature.role != Role::Transparent {
                continue;
            }
            match (plan.outputs.get(output.as_str()), plan.source(output)) {
                (Some(declared), Some((source, value))) if *declared != value.made => {
                    kept.entry((source, *declared)).or_insert(node.proto);
                }
                (Some(_), _) => {}
                (None, _) => names.free(output),
            }
        }
        let graph =
            GraphProto { node: Vec::with_capacity(old.node.len()), initializer: Vec::new(), ..old.clone() };
        let is_value = |name: &&str| plan.values.get(name).is_some_and(|v| !v.is_constant);
        let given = old.input.iter().map(|v| v.name());
        let given =
            given.chain(old.sparse_initializer.iter().filter_map(|s| Some(s.values.as_ref()?.name())));
        let made =
            given.filter(is_value).map(|name| ((name.to_owned(), plan.values[name].made), name.to_owned()));
        Writer { plan, names, kept, made: made.collect(), graph, constants: Constants::new(plan.view) }
    }

    /// Initializers, in the types that they are read in.
    fn constants(&mut self) {
        for tensor in &self.plan.view.model.graph().initializer {
            let typed = self.types(tensor.name(), tensor);
            self.graph.initializer.extend(typed);
        }
    }

    /// A constant in all its types; the first has its own name.
    fn types(&mut self, name: &str, tensor: &TensorProto) -> Vec<TensorProto> {
        if !self.plan.values.get(name).is_some_and(|value| value.is_constant) {
            return vec![tensor.clone()];
        }
        let (own, needed) = self.plan.types_of_constant(name);
        let mut all = Vec::new();
        for of in std::iter::once(own).chain(needed.into_iter().filter(|of| *of != own)) {
            let (mut typed, loss) = weights::convert(tensor, of);
            let readings = self.plan.needs.get(name).and_then(|n| n.get(&of)).map_or(&[][..], Vec::as_slice);
            self.constants.lost(name, of, &loss, readings);
            let called =
                if of == own { name.to_owned() } else { self.names.fresh(&format!("{name}/{}", of.name())) };
            typed.name = Some(called.clone());
            self.made.insert((name.to_owned(), of), called);
            all.push(typed);
        }
        all
    }

    /// The name of a value in a type; a Cast is made if it is not there yet.
    fn value(&mut self, name: &str, of: FloatType) -> String {
        let Some((source, value)) = self.plan.source(name) else { return name.to_owned() };
        let key = (source.to_owned(), of);
        if let Some(made) = self.made.get(&key) {
            return made.clone();
        }
        let Some(from) = self.made.get(&(source.to_owned(), value.made)).cloned() else {
            return name.to_owned(); // Not reached: values are made before they are read.
        };
        let cast = match self.kept.remove(&(source, of)) {
            // The Cast that an output is called by serves all.
            Some(kept) => {
                let mut kept = kept.clone();
                kept.input = vec![from];
                set_type(&mut kept, of);
                let called = kept.output[0].clone();
                self.graph.node.push(kept);
                called
            }
            None => {
                let cast = self.names.fresh(&format!("{from}/cast_{}", of.name()));
                self.graph.node.push(cast_node(&cast, &from, &cast, of));
                cast
            }
        };
        self.made.insert(key, cast.clone());
        cast
    }

    fn node(&mut self, index: usize, id: usize) {
        let node = &self.plan.view.nodes[id];
        match node.signature.role {
            Role::Constant => return self.constant(node.proto),
            Role::Transparent => return self.transparent(node.proto),
            _ => {}
        }
        let mut typed = node.proto.clone();
        for (i, want) in self.plan.inputs[index].iter().enumerate() {
            if let Some(of) = want {
                typed.input[i] = self.value(&node.proto.input[i], *of);
            }
        }
        let mut renames = BTreeMap::new();
        for (name, of) in &self.plan.captures[index] {
            let new = self.value(name, *of);
            if new != *name {
                renames.insert((*name).to_owned(), new);
            }
        }
        if !renames.is_empty() {
            onnx::subgraphs_mut(&mut typed).for_each(|graph| rename_captures(graph, &renames));
        }
        if let Some(of) = self.plan.of[index] {
            self.attributes(&mut typed, id, of);
        }
        let mut casts = Vec::new();
        for output in typed.output.iter_mut().filter(|o| !o.is_empty()) {
            let Some(value) = self.plan.values.get(output.as_str()) else { continue };
            let name = output.clone();
            match self.plan.outputs.get(name.as_str()) {
                Some(declared) if *declared != value.made => {
                    *output = self.names.fresh(&format!("{name}/{}", value.made.name()));
                    let cast = self.names.fresh(&format!("{name}/cast_{}", declared.name()));
                    casts.push(cast_node(&cast, output, &name, *declared));
                    self.made.insert((name.clone(), *declared), name.clone());
                }
                _ => {}
            }
            self.made.insert((name, value.made), output.clone());
        }
        self.graph.node.push(typed);
        self.graph.node.append(&mut casts);
    }

    /// A Cast that the file has stays only if an output of the model is called by its name.
    fn transparent(&mut self, proto: &NodeProto) {
        let Some((output, input)) = proto.output.first().zip(proto.input.first()) else { return };
        let Some(declared) = self.plan.outputs.get(output.as_str()) else { return };
        let Some((source, value)) = self.plan.source(input) else { return };
        if self.kept.contains_key(&(source, *declared)) {
            self.value(source, *declared);
        }
        if self.made.get(&(source.to_owned(), *declared)) == Some(output) {
            return; // It was made before, for an earlier reader.
        }
        let mut cast = proto.clone();
        cast.input[0] = self.value(source, value.made);
        set_type(&mut cast, *declared);
        self.graph.node.push(cast);
    }

    fn constant(&mut self, proto: &NodeProto) {
        let Some((output, tensor)) = proto.output.first().zip(constant_tensor(proto)) else {
            return self.graph.node.push(proto.clone()); // Not reached: such a node is opaque.
        };
        let (own, needed) = self.plan.types_of_constant(output);
        let file = self.plan.values.get(output.as_str()).map(|value| value.file);
        if Some(own) == file && needed.iter().all(|of| *of == own) {
            self.made.insert((output.clone(), own), output.clone());
            return self.graph.node.push(proto.clone()); // As it is, in whatever attribute it has its value.
        }
        for typed in self.types(output, &tensor) {
            let called = typed.name.clone().unwrap_or_default();
            let mut node = proto.clone();
            if called != *output {
                node.output[0].clone_from(&called);
                if !proto.name().is_empty() {
                    let of = FloatType::of_element(typed.data_type()).map_or("", FloatType::name);
                    node.name = Some(self.names.fresh(&format!("{}/{of}", proto.name())));
                }
            }
            let value = TensorProto { name: tensor.name.clone(), ..typed };
            node.attribute = vec![tensor_attribute(value)];
            self.graph.node.push(node);
        }
    }

    fn attributes(&mut self, node: &mut NodeProto, id: usize, of: FloatType) {
        // One that gives no float keeps its type.
        if !node.domain().is_empty() || self.plan.view.nodes[id].signature.role != Role::Typed {
            return;
        }
        match node.op_type() {
            "Cast" => set_type(node, of),
            "ConstantOfShape" => {
                let given = node.attribute.iter().find_map(|a| a.t.as_ref()).cloned();
                let (typed, loss) = weights::convert(&given.unwrap_or_else(zero_of_shape), of);
                let name = node.output.first().cloned().unwrap_or_default();
                self.constants.lost(&name, of, &loss, &[Reading::Node { id, input: 0 }]);
                node.attribute.retain(|a| a.name() != "value");
                node.attribute.push(tensor_attribute(typed));
            }
            _ => {}
        }
    }

    fn finish(self) -> Rewritten {
        Rewritten { graph: self.graph, problems: self.constants.finish() }
    }
}

fn cast_node(name: &str, from: &str, to: &str, of: FloatType) -> NodeProto {
    let mut node = NodeProto {
        name: Some(name.to_owned()),
        op_type: Some("Cast".to_owned()),
        input: vec![from.to_owned()],
        output: vec![to.to_owned()],
        ..NodeProto::default()
    };
    set_type(&mut node, of);
    node
}

fn set_type(cast: &mut NodeProto, of: FloatType) {
    let to = AttributeProto {
        name: Some("to".to_owned()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(i64::from(of.element() as i32)),
        ..AttributeProto::default()
    };
    cast.attribute.retain(|a| a.name() != "to");
    cast.attribute.push(to);
}

fn tensor_attribute(value: TensorProto) -> AttributeProto {
    AttributeProto {
        name: Some("value".to_owned()),
        r#type: Some(AttributeType::Tensor as i32),
        t: Some(value),
        ..AttributeProto::default()
    }
}

/// What ConstantOfShape is filled with if nothing is said.
fn zero_of_shape() -> TensorProto {
    TensorProto {
        data_type: Some(FloatType::Fp32.element() as i32),
        dims: vec![1],
        raw_data: Some(vec![0; 4].into()),
        ..TensorProto::default()
    }
}

/// The value of a Constant node, whatever attribute it is in.
pub(super) fn constant_tensor(node: &NodeProto) -> Option<TensorProto> {
    let float = FloatType::Fp32.element() as i32;
    let of = |dims: Vec<i64>, values: &[f32]| TensorProto {
        data_type: Some(float),
        dims,
        raw_data: Some(values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into()),
        ..TensorProto::default()
    };
    node.attribute.iter().find_map(|a| match a.name() {
        "value" => a.t.clone(),
        "value_float" => Some(of(Vec::new(), &[a.f()])),
        "value_floats" => Some(of(vec![i64::try_from(a.floats.len()).ok()?], &a.floats)),
        _ => None,
    })
}
