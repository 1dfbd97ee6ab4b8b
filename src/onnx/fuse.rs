//! Operators that an exporter wrote as many nodes, put back as one: decomposed layer norms become
//! LayerNormalization, which ONNX has from opset [`LAYER_NORMALIZATION`] on.
//!
//! LayerNormalization wants its axes last: others are put there by a Transpose, and back by another. Where the
//! result could be another one, nothing is fused, and the reason is told: values inside that others read, scales
//! that are broadcast along the normalized axes, sums over another number than that of their elements, and so on.
//!
//! The new node is called `PATH/LayerNormalization` after the path that the names of its parts share, as in
//! [`Match::instance`]; where they share none, it has the name of its last part. The `doc_string` of its parts is
//! joined in its own.

use std::collections::BTreeMap;

use half::f16;

use super::canonical::drop_dead_nodes;
use super::graph::{Constant, GraphView, NodeRef, Shapes, ValueId};
use super::infer::element_types;
use super::names::{Names, subgraphs_mut};
use super::patch::{self, Patch};
use super::pattern::{self, Kind, Match};
use super::proto::tensor_proto::DataType;
use super::proto::{GraphProto, NodeProto, TensorProto};
use super::read::Model;
use super::{Type, make};

/// The opset that brought LayerNormalization.
pub const LAYER_NORMALIZATION: i64 = 17;

/// A model whose layer norms are fused, still at its old opset.
#[derive(Debug)]
pub struct Fused {
    /// The model.
    pub model: Model,
    /// The names of the nodes that norms became, in order.
    pub norms: Vec<String>,
    /// The norms that could not be.
    pub left: Vec<Left>,
    /// How many were one operator before.
    pub explicit: usize,
}

/// A norm that could not be fused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// What people call it.
    pub instance: String,
    /// The node that makes its output, and its operator.
    pub node: (String, String),
    /// Why.
    pub why: String,
}

/// Fuses every layer norm that can be.
#[must_use]
pub fn layer_norms(model: &Model) -> Fused {
    let mut names = Names::new(&model.proto);
    let mut patches = BTreeMap::new();
    let (mut norms, mut left) = (Vec::new(), Vec::new());
    let view = GraphView::new(&model.proto);
    let found = pattern::find_kind(&view, Kind::LayerNorm);
    let explicit = found.iter().filter(|m| m.is_explicit()).count();
    let decomposed: Vec<&Match> = found.iter().filter(|m| !m.is_explicit()).collect();
    if !decomposed.is_empty() {
        let (shapes, types) = (Shapes::new(&view), element_types(model));
        let element = |scope: usize, name: &str| match patch::typed_scope(&view, &types, scope) {
            Some(scope) => types.get(scope, name).clone(),
            None => Type::Unknown,
        };
        let mut work = Work { view: &view, shapes: &shapes, element: &element, names: &mut names };
        for norm in decomposed {
            let Some((last, rest)) = norm.nodes.split_last() else { continue };
            match work.fuse(norm) {
                Ok((name, patch)) => {
                    norms.push(name);
                    patches.insert(*last, patch);
                    let none = || Patch { nodes: Vec::new(), constants: Vec::new() };
                    patches.extend(rest.iter().map(|part| (*part, none())));
                }
                Err(why) => left.push(work.left(norm, *last, why)),
            }
        }
    }
    let mut model = model.clone();
    if !patches.is_empty() {
        patch::apply(&mut model.proto, patches);
        // What only told the parts their shapes is read no more.
        model.proto.graph.iter_mut().for_each(drop_dead);
    }
    Fused { model, norms, left, explicit }
}

fn drop_dead(graph: &mut GraphProto) {
    graph.node.iter_mut().for_each(|node| subgraphs_mut(node).for_each(drop_dead));
    let outputs: Vec<String> = graph.output.iter().map(|output| output.name().to_owned()).collect();
    drop_dead_nodes(&mut graph.node, &outputs);
}

struct Work<'w, 'm> {
    view: &'w GraphView<'m>,
    shapes: &'w Shapes,
    element: &'w dyn Fn(usize, &str) -> Type,
    names: &'w mut Names,
}

/// A LayerNormalization that is being put together.
struct Draft {
    label: String,
    scope: usize,
    element: DataType,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

impl Draft {
    fn transpose(&mut self, name: &str, order: &[i64], from: &str, to: &str) {
        let mut node = make::node(name, "Transpose", &[from], &[to]);
        node.attribute.push(make::ints("perm", order));
        self.nodes.push(node);
    }
}

/// How the axes of a norm are put last, and how they are put back.
fn axes_last(norm: &Match) -> Result<(Vec<i64>, Vec<i64>), String> {
    let unknown = || format!("it normalizes the axes {:?} of a value whose rank is not known", norm.axes);
    let rank = norm.rank.and_then(|rank| i64::try_from(rank).ok()).ok_or_else(unknown)?;
    let own: Vec<i64> = norm.axes.iter().map(|axis| axis + rank).collect();
    if own.is_empty() || norm.axes.iter().any(|axis| !(-rank..0).contains(axis)) {
        return Err(unknown());
    }
    let there: Vec<i64> = (0..rank).filter(|axis| !own.contains(axis)).chain(own.iter().copied()).collect();
    let at = |axis: i64| there.iter().position(|other| *other == axis).and_then(|i| i64::try_from(i).ok());
    let back: Option<Vec<i64>> = (0..rank).map(at).collect();
    Ok((there.clone(), back.ok_or_else(unknown)?))
}

/// Does a norm divide its sums by the number of elements along its axes, which have these sizes?
fn divides_by_size(norm: &Match, dims: &[i64]) -> Result<(), String> {
    #[expect(clippy::cast_precision_loss, reason = "sizes are small")]
    let size = dims.iter().map(|dim| *dim as f64).product::<f64>();
    // What 1/N becomes in FP16 is up to two from N where N is 4096; below N, it could be that of N - 1.
    let half = 1.0 / f16::from_f64(1.0 / size).to_f64();
    let is_size =
        |count: f64| (count - size).abs() < 0.5 || half > size && (count - half).abs() < half * 1e-6;
    match norm.divisors.iter().find(|count| !is_size(**count)) {
        Some(count) => {
            Err(format!("it divides a sum by {count:.0}, and normalizes {size} elements at a time"))
        }
        None => Ok(()),
    }
}

impl Work<'_, '_> {
    fn left(&self, norm: &Match, last: NodeRef, why: String) -> Left {
        let node = self.view.at(last).map(|id| self.view.node(id));
        let node = node.map(|n| (n.name.clone(), n.proto.op_type().to_owned())).unwrap_or_default();
        Left { instance: norm.instance.clone(), node, why }
    }

    /// The name of the new node and what takes the place of the last part; or why there is none.
    fn fuse(&mut self, norm: &Match) -> Result<(String, Patch), String> {
        if let [first, ..] = &norm.escapes[..] {
            return Err(format!("`{first}`, which is inside it, is read elsewhere too"));
        }
        if !norm.exact {
            return Err(
                "it adds epsilon behind the square root, bounds the variance by it, or divides by N - 1"
                    .to_owned(),
            );
        }
        let count = i64::try_from(norm.axes.len()).unwrap_or(0);
        let is_last = norm.axes == (-count..0).collect::<Vec<_>>();
        let order = if is_last { None } else { Some(axes_last(norm)?) };
        let scope = norm.scope();
        let input = self.view.find(scope, &norm.input).ok_or("its input is not known")?;
        if let Some(longer) = self.longer(norm, input) {
            return Err(format!(
                "`{longer}` has more dimensions than what is normalized, and its output has them too"
            ));
        }
        let sizes: Vec<Option<i64>> = norm.axes.iter().map(|axis| self.shapes.dim(input, *axis)).collect();
        let parameters: Vec<&String> = norm.scale.iter().chain(&norm.bias).collect();
        let all = [&norm.input, &norm.output].into_iter().chain(parameters);
        let element = self.widest(scope, all)?;

        let name = self.name(norm);
        let mut draft =
            Draft { label: name.clone(), scope, element, nodes: Vec::new(), constants: Vec::new() };
        let mut x = self.cast(&mut draft, &norm.input);
        if let Some((there, _)) = &order {
            let across = self.names.fresh(&format!("{name}/Transpose"));
            draft.transpose(&across, there, &x, &across);
            x = across;
        }
        let bias = match &norm.bias {
            Some(bias) => Some(self.parameter(&mut draft, bias, (&norm.axes, &sizes), "bias")?),
            None => None,
        };
        let (scale, dims) = match &norm.scale {
            Some(scale) => self.parameter(&mut draft, scale, (&norm.axes, &sizes), "scale")?,
            None => {
                let known: Option<Vec<i64>> = sizes.iter().copied().collect();
                let dims = known.or_else(|| bias.as_ref().map(|(_, dims)| dims.clone()));
                let dims =
                    dims.ok_or("it has no scale, and the size of its axes is not known to make one")?;
                (self.ones(&mut draft, &dims)?, dims)
            }
        };
        divides_by_size(norm, &dims)?;
        #[expect(clippy::cast_possible_truncation, reason = "ONNX has it as a float")]
        let epsilon = norm.epsilon.unwrap_or(0.0) as f32;
        let narrow = (self.element)(scope, &norm.output) != Type::Tensor(element);
        let out = if narrow { self.names.fresh(&format!("{name}/out")) } else { norm.output.clone() };
        let normal = if order.is_some() { self.names.fresh(&format!("{name}/across")) } else { out.clone() };
        let mut inputs = vec![x.as_str(), scale.as_str()];
        inputs.extend(bias.as_ref().map(|(bias, _)| bias.as_str()));
        let mut node = make::node(&name, "LayerNormalization", &inputs, &[&normal]);
        node.attribute = vec![make::int("axis", -count), make::float("epsilon", epsilon)];
        draft.nodes.push(node);
        if let Some((_, back)) = &order {
            let transpose = self.names.fresh(&format!("{name}/Transpose"));
            draft.transpose(&transpose, back, &normal, &out);
        }
        if narrow && let Type::Tensor(to) = (self.element)(scope, &norm.output) {
            let cast = self.names.fresh(&format!("{name}/Cast"));
            let mut node = make::node(&cast, "Cast", &[&out], &[&norm.output]);
            node.attribute.push(make::int("to", i64::from(to as i32)));
            draft.nodes.push(node);
        }
        let parts = norm.nodes.iter().filter_map(|at| self.view.at(*at));
        let docs: Vec<&str> =
            parts.map(|id| self.view.node(id).proto.doc_string()).filter(|d| !d.is_empty()).collect();
        let doc = (!docs.is_empty()).then(|| docs.join(" "));
        draft.nodes.iter_mut().for_each(|node| node.doc_string.clone_from(&doc));
        Ok((name, Patch { nodes: draft.nodes, constants: draft.constants }))
    }

    /// A value that the parts read which has a higher rank than the input of the norm, or than is normalized if that is
    /// not known: the result would have that rank too, and LayerNormalization keeps the input's.
    fn longer(&self, norm: &Match, input: ValueId) -> Option<String> {
        let rank = self.shapes.rank(input).unwrap_or(norm.axes.len());
        let parts = norm.nodes.iter().filter_map(|at| self.view.at(*at));
        let mut reads = parts.flat_map(|id| self.view.node(id).inputs.iter().flatten());
        let longer = reads.find(|id| self.shapes.rank(**id).is_some_and(|other| other > rank))?;
        Some(self.view.value(*longer).name.to_owned())
    }

    fn name(&mut self, norm: &Match) -> String {
        let last = norm.nodes.last().and_then(|at| self.view.at(*at)).map(|id| self.view.node(id));
        match last {
            // The part that has this name goes.
            Some(last) if last.name == norm.instance => norm.instance.clone(),
            _ => self.names.fresh(&format!("{}/LayerNormalization", norm.instance)),
        }
    }

    /// The type that holds all of these.
    fn widest<'a>(&self, scope: usize, names: impl Iterator<Item = &'a String>) -> Result<DataType, String> {
        let mut widest = None;
        for name in names {
            let element = match (self.element)(scope, name) {
                Type::Tensor(of @ (DataType::Float | DataType::Float16 | DataType::Bfloat16)) => of,
                Type::Unknown => return Err(format!("the type of `{name}` is not known")),
                of => {
                    return Err(format!(
                        "`{name}` is of type {of}, and LayerNormalization computes in float"
                    ));
                }
            };
            widest = Some(match widest {
                Some(other) if other != element => DataType::Float,
                _ => element,
            });
        }
        widest.ok_or_else(|| "it has no input".to_owned())
    }

    /// A value in the type of the norm.
    fn cast(&mut self, draft: &mut Draft, name: &str) -> String {
        if (self.element)(draft.scope, name) == Type::Tensor(draft.element) {
            return name.to_owned();
        }
        let cast = self.names.fresh(&format!("{}/Cast", draft.label));
        let mut node = make::node(&cast, "Cast", &[name], &[&cast]);
        node.attribute.push(make::int("to", i64::from(draft.element as i32)));
        draft.nodes.push(node);
        cast
    }

    /// Scale or bias with exactly the dimensions that are normalized, in the type of the norm; and those dimensions.
    fn parameter(
        &mut self,
        draft: &mut Draft,
        name: &str,
        (axes, sizes): (&[i64], &[Option<i64>]),
        what: &str,
    ) -> Result<(String, Vec<i64>), String> {
        let value = self.view.find(draft.scope, name).ok_or_else(|| format!("its {what} is not known"))?;
        let dims: Option<Vec<i64>> = self.shapes.dims(value).and_then(|dims| dims.iter().copied().collect());
        let dims = dims.ok_or_else(|| format!("the shape of its {what} `{name}` is not known"))?;
        let misfit = || {
            let wanted: Vec<String> =
                sizes.iter().map(|n| n.map_or("?".to_owned(), |n| n.to_string())).collect();
            let wanted = wanted.join(", ");
            format!("its {what} `{name}` has shape {dims:?}, where LayerNormalization wants [{wanted}]")
        };
        let len = i64::try_from(dims.len()).unwrap_or(i64::MAX);
        let at = |axis: i64| usize::try_from(axis + len).ok().and_then(|i| dims.get(i).copied()).unwrap_or(1);
        let own: Vec<i64> = axes.iter().map(|axis| at(*axis)).collect();
        // Along an axis of unknown size, 1 may be a broadcast.
        let fits = own.iter().zip(sizes).all(|(own, size)| size.map_or(*own > 1, |size| size == *own));
        if !fits || (-len..0).any(|axis| !axes.contains(&axis) && at(axis) != 1) {
            return Err(misfit());
        }
        // All other dimensions are 1, so that the elements lie in the right order.
        let flat = if dims == own { name.to_owned() } else { self.reshape(draft, name, value, &own) };
        if (self.element)(draft.scope, name) == Type::Tensor(draft.element) {
            return Ok((flat, own));
        }
        let cast = self.names.fresh(&format!("{}/Cast", draft.label));
        let mut node = make::node(&cast, "Cast", &[&flat], &[&cast]);
        node.attribute.push(make::int("to", i64::from(draft.element as i32)));
        draft.nodes.push(node);
        Ok((cast, own))
    }

    /// A value without its dimensions of 1 that are not normalized. A constant stays one.
    fn reshape(&mut self, draft: &mut Draft, name: &str, value: ValueId, dims: &[i64]) -> String {
        let of = self.view.value(value);
        let makes = of.producer.map(|id| self.view.op(id));
        if let (None | Some("Constant"), Some(Constant::Tensor(tensor))) = (makes, self.view.constant(value))
            && tensor.raw_data.is_some()
        {
            let flat = self.names.fresh(&format!("{name}/flat"));
            draft.constants.push(TensorProto {
                name: Some(flat.clone()),
                dims: dims.to_vec(),
                ..tensor.clone()
            });
            return flat;
        }
        let (flat, shape) = (
            self.names.fresh(&format!("{}/Reshape", draft.label)),
            self.names.fresh(&format!("{}/shape", draft.label)),
        );
        draft.constants.push(TensorProto { name: Some(shape.clone()), ..make::int_vector(dims) });
        draft.nodes.push(make::node(&flat, "Reshape", &[name, &shape], &[&flat]));
        flat
    }

    /// A scale that changes nothing.
    fn ones(&mut self, draft: &mut Draft, dims: &[i64]) -> Result<String, String> {
        let one = make::float_bytes(draft.element, 1.0).unwrap_or_default();
        let count = dims.iter().try_fold(1i64, |product, dim| product.checked_mul(*dim));
        let count = count.and_then(|count| usize::try_from(count).ok()).filter(|count| *count <= MAX_ONES);
        let data = one.repeat(count.ok_or("it has no scale, and one of its size would be too large")?);
        let name = self.names.fresh(&format!("{}/scale", draft.label));
        let tensor = make::raw_tensor(draft.element, dims, data.into());
        draft.constants.push(TensorProto { name: Some(name.clone()), ..tensor });
        Ok(name)
    }
}

/// The most elements of a scale that is made.
const MAX_ONES: usize = 1 << 24;
