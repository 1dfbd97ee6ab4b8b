//! Assignment -> typed graph. Casts stand only where a value crosses to another type, each at most once per
//! value and type, in the graph that makes the value, right before its first reader; constants are stored in the
//! forms that their readers want.
//!
//! Casts between float types that the file has are left out, and made anew where they are needed: so no two
//! stand back to back, and rewriting a rewritten graph gives the same graph. Two do around a product with FP32
//! accumulators: see [`Form::Rounded`].

use std::collections::{BTreeMap, BTreeSet};

use super::assign::NodeAssignment;
use super::float::FloatType;
use super::hazard::{Constants, Reading};
use super::made::{cast_node, constant_tensor, declare, scalar, set_type, zero_of_shape};
use super::names::Names;
use super::plan::{Form, Plan, has_addend};
use super::problem::Problem;
use super::saturation::Saturation;
use super::signature::Role;
use super::view::{Key, Node, View};
use super::weights::{self, Conversion, Span};
use crate::onnx::infer::ScopeId;
use crate::onnx::proto::{GraphProto, NodeProto, TensorProto};
use crate::onnx::{self, LateData, make};

/// The typed graph, and what its constants lost.
pub(super) struct Rewritten {
    pub(super) graph: GraphProto,
    pub(super) problems: Vec<Problem>,
    /// The data of initializers that is made as it is written.
    pub(super) late: LateData,
    /// Values on both sides of products with FP32 accumulators, where Casts stand back to back.
    pub(super) around_products: BTreeSet<String>,
}

/// Rewrites the graph and all subgraphs; `nodes` is the assignment of every node of the view.
pub(super) fn rewrite(
    view: &View<'_>,
    nodes: &[NodeAssignment],
    io: &BTreeMap<String, FloatType>,
) -> Rewritten {
    let plan = Plan::new(view, nodes, io);
    let mut writer = Writer::new(&plan);
    let graph = writer.graph(view.types.graph(), view.model.graph());
    let Writer { constants, late, around_products, saturation, .. } = writer;
    let mut problems = constants.finish();
    problems.extend(saturation.finish());
    Rewritten { graph, problems, late, around_products }
}

/// The graph as it grows.
struct Writer<'p> {
    plan: &'p Plan<'p>,
    names: Names,
    /// Casts that an output of a graph is called by, by what they cast, until they are made.
    kept: BTreeMap<(Key<'p>, FloatType), &'p NodeProto>,
    /// What a value is called in a form.
    made: BTreeMap<(Key<'p>, Form), String>,
    /// The graphs that are being written, outermost first.
    open: Vec<(ScopeId, GraphProto)>,
    constants: Constants<'p>,
    late: LateData,
    saturation: Saturation<'p>,
    around_products: BTreeSet<String>,
}

impl<'p> Writer<'p> {
    fn new(plan: &'p Plan<'p>) -> Writer<'p> {
        let mut names = Names::of(plan.view.model.graph());
        let mut kept = BTreeMap::new();
        for node in plan.view.nodes.iter().filter(|node| node.signature.role == Role::Transparent) {
            let Some(output) = node.proto.output.first() else { continue };
            let declared = plan.outputs.get(&(node.scope, output.as_str()));
            match (declared, plan.source(node.scope, output)) {
                (Some(declared), Some((source, value))) => {
                    // One of a value around the subgraph serves the subgraph alone.
                    if source.0 == node.scope && (*declared != value.made || value.sandwiched) {
                        kept.entry((source, *declared)).or_insert(node.proto);
                    }
                }
                (Some(_), None) => {}
                (None, _) => names.free(output),
            }
        }
        Writer {
            plan,
            names,
            kept,
            made: BTreeMap::new(),
            open: Vec::new(),
            constants: Constants::new(plan.view),
            late: LateData::new(),
            saturation: Saturation::new(plan),
            around_products: BTreeSet::new(),
        }
    }

    fn graph(&mut self, scope: ScopeId, old: &'p GraphProto) -> GraphProto {
        let plan = self.plan;
        let around = GraphProto { node: Vec::with_capacity(old.node.len()), ..onnx::shell(old) };
        self.open.push((scope, around));
        let given = old.input.iter().map(|v| v.name());
        let given =
            given.chain(old.sparse_initializer.iter().filter_map(|s| Some(s.values.as_ref()?.name())));
        for name in given {
            if let Some(value) = plan.values.get(&(scope, name)).filter(|v| !v.is_constant) {
                self.made.insert(((scope, name), Form::Plain(value.made)), name.to_owned());
            }
        }
        for tensor in &old.initializer {
            // Those of a subgraph are written with it.
            let may_be_late = scope == plan.view.types.graph();
            let typed = self.forms((scope, tensor.name()), tensor, may_be_late);
            self.top().initializer.extend(typed);
        }
        for id in plan.view.graphs.get(&scope).map_or(&[][..], |(_, nodes)| nodes) {
            self.node(*id);
        }
        let mut outputs = old.output.clone();
        for (output, declared) in outputs.iter_mut().zip(&old.output) {
            let name = declared.name();
            let Some(of) = plan.outputs.get(&(scope, name)) else { continue };
            // What a subgraph gives may be a value around it, which has another name in another type.
            if plan.view.types.scope_of(scope, name) != Some(scope) {
                output.name = Some(self.value(scope, name, Form::Plain(*of)));
            }
            declare(output, of.element() as i32);
        }
        let (_, mut graph) = self.open.pop().unwrap_or_else(|| (scope, GraphProto::default()));
        graph.output = outputs;
        for input in &mut graph.input {
            if let Some(of) = plan.graph_inputs.get(&(scope, input.name())) {
                declare(input, of.element() as i32);
            }
        }
        graph
    }

    /// The graph that is being written.
    fn top(&mut self) -> &mut GraphProto {
        if self.open.is_empty() {
            self.open.push((self.plan.view.types.graph(), GraphProto::default())); // Not reached.
        }
        let last = self.open.len() - 1;
        &mut self.open[last].1
    }

    /// Adds a node to the graph of this scope, which is being written.
    fn push(&mut self, scope: ScopeId, node: NodeProto) {
        match self.open.iter_mut().find(|(open, _)| *open == scope) {
            Some((_, graph)) => graph.node.push(node),
            None => self.top().node.push(node), // Not reached: what can be seen is open.
        }
    }

    /// A constant in all its forms; the first has its own name.
    fn forms(&mut self, key: Key<'p>, tensor: &TensorProto, may_be_late: bool) -> Vec<TensorProto> {
        if !self.plan.values.get(&key).is_some_and(|value| value.is_constant) {
            return vec![tensor.clone()];
        }
        let (own, needed) = self.plan.forms_of_constant(key);
        let mut all = Vec::new();
        for form in std::iter::once(own).chain(needed.into_iter().filter(|form| *form != own)) {
            let (Form::Plain(of) | Form::Rounded(of)) = form;
            let loss = weights::loss(tensor, of, &self.plan.view.span(key.0, key.1, tensor));
            let readings =
                self.plan.needs.get(&key).and_then(|n| n.get(&form)).map_or(&[][..], Vec::as_slice);
            let is_mask = self.constants.lost(key.1, of, &loss, readings);
            let suffix = match form {
                Form::Plain(of) => of.name().to_owned(),
                Form::Rounded(of) => format!("{}_in_fp32", of.name()),
            };
            let called =
                if form == own { key.1.to_owned() } else { self.names.fresh(&format!("{}/{suffix}", key.1)) };
            let is_late = may_be_late && !is_mask && form.stored() == of;
            let typed = match Conversion::late(tensor, of).filter(|_| is_late) {
                Some((typed, late)) => {
                    self.late.insert(called.clone(), Box::new(late));
                    typed
                }
                None if is_mask => weights::convert(&weights::convert_mask(tensor, of), form.stored()),
                None => weights::convert(&weights::convert(tensor, of), form.stored()),
            };
            all.push(TensorProto { name: Some(called.clone()), ..typed });
            self.made.insert((key, form), called);
        }
        all
    }

    /// The name of a value in a form; a Cast is made if it is not there yet.
    fn value(&mut self, scope: ScopeId, name: &str, form: Form) -> String {
        match self.plan.source(scope, name) {
            Some((source, _)) => self.source_in(source, form).unwrap_or_else(|| name.to_owned()),
            None => name.to_owned(),
        }
    }

    /// The same of a value that is no Cast. None if it is not made yet, which is never so.
    fn source_in(&mut self, source: Key<'p>, form: Form) -> Option<String> {
        let value = *self.plan.values.get(&source)?;
        let form = value.normal(form);
        if let Some(made) = self.made.get(&(source, form)) {
            return Some(made.clone());
        }
        let from = match form {
            Form::Rounded(of) => self.source_in(source, Form::Plain(of))?,
            Form::Plain(_) => self.made.get(&(source, Form::Plain(value.made))).cloned()?,
        };
        Some(self.cast(source, &from, form))
    }

    /// Makes the Cast that gives a value in a form.
    fn cast(&mut self, source: Key<'p>, from: &str, form: Form) -> String {
        let of = form.stored();
        let from = &self.saturated(source, from, of);
        let kept = if form == Form::Plain(of) { self.kept.remove(&(source, of)) } else { None };
        let node = match kept {
            // The Cast that an output is called by serves all.
            Some(kept) => {
                let mut kept = kept.clone();
                kept.input = vec![from.clone()];
                set_type(&mut kept, of);
                kept
            }
            None => {
                let name = self.names.fresh(&format!("{from}/cast_{}", of.name()));
                cast_node(&name, from, &name, of)
            }
        };
        let called = node.output[0].clone();
        self.push(source.0, node);
        self.made.insert((source, form), called.clone());
        called
    }

    /// A value that is to be cast to this type: raised to its lowest number before, if it carries a mask.
    fn saturated(&mut self, source: Key<'p>, from: &str, of: FloatType) -> String {
        let Some(clip) = self.saturation.clip(source, from, of, &mut self.names) else {
            return from.to_owned();
        };
        let name = clip.node.output[0].clone();
        if let Some((_, graph)) = self.open.iter_mut().find(|(open, _)| *open == source.0) {
            graph.initializer.extend(clip.lowest);
        }
        self.push(source.0, clip.node);
        name
    }

    fn node(&mut self, id: usize) {
        let plan = self.plan;
        let node = &plan.view.nodes[id];
        match node.signature.role {
            Role::Constant => return self.constant(id),
            Role::Transparent => return self.transparent(id),
            _ => {}
        }
        self.make_kept(id);
        let mut typed = onnx::without_subgraphs(node.proto);
        for (i, want) in plan.inputs[id].iter().enumerate() {
            if let Some(form) = want {
                typed.input[i] = self.value(node.scope, &node.proto.input[i], *form);
            }
        }
        let mut inner: Vec<GraphProto> = Vec::new();
        for (scope, graph) in plan.view.inner(id) {
            inner.push(self.graph(scope, graph));
        }
        onnx::subgraphs_mut(&mut typed).zip(inner).for_each(|(graph, typed)| *graph = typed);
        if let Some(of) = plan.of[id] {
            self.attributes(&mut typed, id, of);
        }
        if plan.accumulates[id] {
            return self.product(id, typed);
        }
        let casts = self.outputs(id, &mut typed);
        keep_name(node, &mut typed);
        self.push(node.scope, typed);
        self.push_casts(id, casts);
    }

    /// Makes the Casts with names to keep that a node reads, and what is inside of it, before any others: that is
    /// where they stand when the typed graph is read again.
    fn make_kept(&mut self, id: usize) {
        let plan = self.plan;
        let node = &plan.view.nodes[id];
        for (input, want) in node.proto.input.iter().zip(&plan.inputs[id]) {
            let Some((source, form)) = plan.source(node.scope, input).map(|(s, _)| s).zip(*want) else {
                continue;
            };
            if self.kept.contains_key(&(source, form.stored())) && form == Form::Plain(form.stored()) {
                self.source_in(source, form);
            }
        }
        for (scope, _) in plan.view.inner(id) {
            let inside = plan.view.graphs.get(&scope).map_or(&[][..], |(_, nodes)| nodes);
            inside.iter().for_each(|id| self.make_kept(*id));
        }
    }

    /// Casts of what a node gives.
    fn push_casts(&mut self, id: usize, casts: Vec<NodeProto>) {
        let node = &self.plan.view.nodes[id];
        for mut cast in casts {
            if let Some(old) = node.proto.output.iter().find(|old| **old == cast.output[0]) {
                let of = self.plan.outputs.get(&(node.scope, old.as_str())).copied();
                cast.input[0] =
                    self.saturated((node.scope, old), &cast.input[0], of.unwrap_or(FloatType::Fp32));
            }
            self.push(node.scope, cast);
        }
    }

    /// Names the outputs of a node, and gives the Casts of those that the graph declares in another type.
    fn outputs(&mut self, id: usize, typed: &mut NodeProto) -> Vec<NodeProto> {
        let plan = self.plan;
        let node = &plan.view.nodes[id];
        let mut casts = Vec::new();
        for (old, output) in node.proto.output.iter().zip(&mut typed.output).filter(|(o, _)| !o.is_empty()) {
            let key = (node.scope, old.as_str());
            let Some(value) = plan.values.get(&key) else { continue };
            match plan.outputs.get(&key) {
                Some(declared) if *declared != value.made => {
                    *output = self.names.fresh(&format!("{old}/{}", value.made.name()));
                    let cast = self.names.fresh(&format!("{old}/cast_{}", declared.name()));
                    casts.push(cast_node(&cast, output, old, *declared));
                    self.made.insert((key, Form::Plain(*declared)), old.clone());
                }
                _ => {}
            }
            self.made.insert((key, Form::Plain(value.made)), output.clone());
        }
        casts
    }

    /// A product with FP32 accumulators: FP32 between Casts, see [`Form::Rounded`].
    fn product(&mut self, id: usize, mut typed: NodeProto) {
        let plan = self.plan;
        let node = &plan.view.nodes[id];
        let (scope, old) = (node.scope, node.proto.output.first().map_or("", String::as_str));
        let (Some(of), key) = (plan.of[id], (scope, old)) else { return };
        self.around_products.extend(typed.input.iter().cloned());
        if has_addend(node.proto) {
            // The sum becomes a node of its own, which has the output.
            let addend = typed.input[2].clone();
            typed.input.truncate(2);
            typed.attribute.retain(|a| a.name() != "beta");
            let product = self.names.fresh(&format!("{old}/product"));
            let rounded = self.names.fresh(&format!("{product}/cast_{}", of.name()));
            let name = self.names.fresh(&format!("{}/add", node.name));
            let mut sum = NodeProto {
                name: Some(name),
                op_type: Some("Add".to_owned()),
                input: vec![rounded.clone(), addend],
                output: typed.output.clone(),
                ..NodeProto::default()
            };
            typed.output = vec![product.clone()];
            self.around_products.insert(product.clone());
            let casts = self.outputs(id, &mut sum);
            keep_name(node, &mut typed);
            self.push(scope, typed);
            self.push(scope, cast_node(&rounded, &product, &rounded, of));
            self.push(scope, sum);
            self.push_casts(id, casts);
            return;
        }
        let declared = plan.outputs.get(&key).copied();
        if declared.is_some() {
            typed.output[0] = self.names.fresh(&format!("{old}/fp32"));
        }
        let product = typed.output[0].clone();
        self.around_products.insert(product.clone());
        keep_name(node, &mut typed);
        self.push(scope, typed);
        if declared == Some(of) {
            let cast = self.names.fresh(&format!("{old}/cast_{}", of.name()));
            self.push(scope, cast_node(&cast, &product, old, of));
            self.made.insert((key, Form::Plain(of)), old.to_owned());
            return;
        }
        let rounded = self.cast(key, &product, Form::Plain(of));
        if let Some(declared) = declared {
            let cast = self.names.fresh(&format!("{old}/cast_{}", declared.name()));
            self.push(scope, cast_node(&cast, &rounded, old, declared));
            self.made.insert((key, Form::Plain(declared)), old.to_owned());
        }
    }

    /// A Cast that the file has stays only if an output of its graph is called by its name.
    fn transparent(&mut self, id: usize) {
        let plan = self.plan;
        let (scope, proto) = (plan.view.nodes[id].scope, plan.view.nodes[id].proto);
        let Some((output, input)) = proto.output.first().zip(proto.input.first()) else { return };
        let Some(declared) = plan.outputs.get(&(scope, output.as_str())) else { return };
        let Some((source, value)) = plan.source(scope, input) else { return };
        if self.kept.contains_key(&(source, *declared)) {
            self.value(scope, input, Form::Plain(*declared));
        }
        if self.made.get(&(source, Form::Plain(*declared))) == Some(output) {
            return; // It was made before, for an earlier reader.
        }
        let from = self.value(scope, input, Form::Plain(value.made));
        let mut cast = proto.clone();
        cast.input[0] = self.saturated(source, &from, *declared);
        set_type(&mut cast, *declared);
        self.push(scope, cast);
    }

    fn constant(&mut self, id: usize) {
        let (scope, proto) = (self.plan.view.nodes[id].scope, self.plan.view.nodes[id].proto);
        let Some((output, tensor)) = proto.output.first().zip(constant_tensor(proto)) else {
            return self.push(scope, proto.clone()); // Not reached: such a node is opaque.
        };
        let key = (scope, output.as_str());
        let (own, needed) = self.plan.forms_of_constant(key);
        let file = self.plan.values.get(&key).map(|value| Form::Plain(value.file));
        if Some(own) == file && needed.iter().all(|form| *form == own) {
            self.made.insert((key, own), output.clone());
            return self.push(scope, proto.clone()); // As it is, in whatever attribute it has its value.
        }
        for typed in self.forms(key, &tensor, false) {
            let called = typed.name.clone().unwrap_or_default();
            let mut node = proto.clone();
            if called != *output {
                node.output[0].clone_from(&called);
                if !proto.name().is_empty() {
                    let suffix = called.rsplit('/').next().unwrap_or_default();
                    node.name = Some(self.names.fresh(&format!("{}/{suffix}", proto.name())));
                }
            }
            let value = TensorProto { name: tensor.name.clone(), ..typed };
            node.attribute = vec![make::tensor("value", value)];
            self.push(scope, node);
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
                let given = given.unwrap_or_else(zero_of_shape);
                let loss = weights::loss(&given, of, &Span::of(&given));
                let name = node.output.first().cloned().unwrap_or_default();
                let is_mask = self.constants.lost(&name, of, &loss, &[Reading::Node { id, input: 0 }]);
                let typed =
                    if is_mask { weights::convert_mask(&given, of) } else { weights::convert(&given, of) };
                node.attribute.retain(|a| a.name() != "value");
                node.attribute.push(make::tensor("value", typed));
            }
            "Pad" => {
                // Up to opset 10 what is padded with is an attribute, in whatever type the node is.
                let Some(padding) = node.attribute.iter_mut().find(|a| a.name() == "value") else { return };
                let given = scalar(padding.f());
                let loss = weights::loss(&given, of, &Span::of(&given));
                let name = format!("{}.value", self.plan.view.nodes[id].name);
                if self.constants.lost(&name, of, &loss, &[Reading::Node { id, input: 2 }]) {
                    padding.f = Some(-weights::largest(of));
                }
            }
            _ => {}
        }
    }
}

/// A node without a name is called by an output. If that has another name now, it needs one of its own.
fn keep_name(node: &Node<'_>, typed: &mut NodeProto) {
    if onnx::node_name(typed) != node.name {
        typed.name = Some(node.name.clone());
    }
}
