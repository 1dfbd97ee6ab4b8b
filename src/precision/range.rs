//! Values that leave FP16's range, or its grid, while they are computed: long sums and squares, exponentials,
//! integers beyond 2048.
//!
//! Told of nodes that compute in FP16 and are part of no pattern: patterns have hazards of their own, and the
//! exponential of a Softmax has nothing to overflow.

use std::collections::{BTreeMap, BTreeSet};

use super::assign::NodeAssignment;
use super::edges::SHAPES;
use super::float::FloatType;
use super::hazard::list;
use super::pattern::Patterns;
use super::problem::Problem;
use super::signature::Role;
use super::std_fp16::LARGE_REDUCTIONS;
use super::view::{Key, Node, View};
use crate::onnx;
use crate::onnx::graph::{GraphView, NodeId, Shapes};
use crate::onnx::infer::ScopeId;
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::proto::{NodeProto, TensorProto};

/// The largest number up to which FP16 has every integer.
const EXACT: i64 = 2048;

/// How many steps a value is followed.
const MAX_STEPS: usize = 6;

/// How many nodes are looked at on these steps.
const MAX_NODES: usize = 64;

/// All of these.
pub(super) fn hazards(view: &View<'_>, patterns: &Patterns, nodes: &[NodeAssignment]) -> Vec<Problem> {
    let graph = Graph::new(view, nodes);
    let in_pattern: BTreeSet<usize> = ["layer-norm", "rms-norm", "l2-norm", "softmax", "gelu"]
        .into_iter()
        .flat_map(|name| patterns.instances(name))
        .flat_map(|instance| instance.nodes.iter().copied())
        .collect();
    let half: Vec<usize> = (0..view.nodes.len())
        .filter(|id| nodes[*id].of == Some(FloatType::Fp16) && !in_pattern.contains(id))
        .filter(|id| view.nodes[*id].proto.domain().is_empty())
        .collect();
    let powers = graph.narrowed_powers(&in_pattern);
    let found = [graph.long_sums(&half), graph.exponentials(&half), powers, graph.integers(&half)];
    found.into_iter().flatten().collect()
}

struct Graph<'v> {
    view: &'v View<'v>,
    nodes: &'v [NodeAssignment],
    /// Nodes by the values that they make.
    makers: BTreeMap<Key<'v>, usize>,
    /// Nodes by the values that they read.
    readers: BTreeMap<Key<'v>, Vec<usize>>,
    /// Of the model.
    inputs: BTreeSet<Key<'v>>,
}

impl<'v> Graph<'v> {
    fn new(view: &'v View<'v>, nodes: &'v [NodeAssignment]) -> Graph<'v> {
        let (mut makers, mut readers) = (BTreeMap::new(), BTreeMap::<Key<'_>, Vec<usize>>::new());
        for (id, node) in view.nodes.iter().enumerate() {
            makers.extend(node.proto.output.iter().map(|value| ((node.scope, value.as_str()), id)));
            for key in onnx::reads(node.proto).into_iter().filter_map(|value| view.key(node.scope, value)) {
                readers.entry(key).or_default().push(id);
            }
        }
        let main = view.types.graph();
        let inputs = view.model.graph().input.iter().map(|v| (main, v.name())).collect();
        Graph { view, nodes, makers, readers, inputs }
    }

    fn proto(&self, id: usize) -> &'v NodeProto {
        self.view.nodes[id].proto
    }

    fn name(&self, id: usize) -> &'v str {
        &self.view.nodes[id].name
    }

    fn maker(&self, scope: ScopeId, value: &str) -> Option<usize> {
        self.makers.get(&self.view.key(scope, value)?).copied()
    }

    /// The nodes that read what a node makes.
    fn after(&self, id: usize) -> impl Iterator<Item = usize> + '_ {
        let node = &self.view.nodes[id];
        let made = node.proto.output.iter().map(|value| (node.scope, value.as_str()));
        made.filter_map(|key| self.readers.get(&key)).flatten().copied()
    }

    /// The node that squares the value, if one does.
    fn square(&self, scope: ScopeId, value: &str) -> Option<usize> {
        let id = self.maker(scope, value)?;
        let Node { proto, scope, .. } = &self.view.nodes[id];
        let is_square = match (proto.op_type(), proto.input.as_slice()) {
            ("Mul", [a, b]) => a == b,
            ("Pow", [_, exponent]) => self.view.number(*scope, exponent) == Some(2.0),
            _ => false,
        };
        (is_square && self.nodes[id].of == Some(FloatType::Fp16)).then_some(id)
    }

    /// Sums and products of many elements, and means of squares.
    fn long_sums(&self, half: &[usize]) -> Option<Problem> {
        let mut sums = Vec::new();
        let mut squares = BTreeSet::new();
        for id in half.iter().copied() {
            let Node { proto, scope, .. } = &self.view.nodes[id];
            let op = proto.op_type();
            let square = proto.input.first().and_then(|input| self.square(*scope, input));
            if LARGE_REDUCTIONS.contains(&op) || (op == "ReduceMean" && square.is_some()) {
                sums.push(id);
                squares.extend(square);
            }
        }
        let names = sums.iter().chain(&squares).map(|id| self.name(*id));
        let problem = self.problem("fp16-long-sum", &sums, |n| {
            format!("{} of many elements in fp16", if n == 1 { "a sum".into() } else { format!("{n} sums") })
        })?;
        let problem = match squares.len() {
            0 => problem,
            n => problem.note(format!("{n} of squares, which are infinite from 256 on")),
        };
        let problem = problem.note("TensorRT accumulates in FP32 and writes fp16, which ends at 65504");
        Some(problem.paste("long sums stay fp32", names))
    }

    /// Exp, Log and Pow, but for roots.
    fn exponentials(&self, half: &[usize]) -> Option<Problem> {
        let is_root = |id: usize| {
            let exponent = self
                .proto(id)
                .input
                .get(1)
                .and_then(|name| self.view.number(self.view.nodes[id].scope, name));
            exponent.is_some_and(|e| (0.0..=1.0).contains(&e))
        };
        let feeds_sum =
            |id: usize| self.after(id).any(|reader| self.proto(reader).op_type().starts_with("Reduce"));
        let found: Vec<usize> = half
            .iter()
            .copied()
            .filter(|id| match self.proto(*id).op_type() {
                "Exp" | "Log" => true,
                // The square of a sum was told with the sum.
                "Pow" => !is_root(*id) && !feeds_sum(*id),
                _ => false,
            })
            .collect();
        let problem = self.problem("fp16-exponential", &found, |n| {
            format!(
                "{} in fp16",
                if n == 1 {
                    "an exponential, logarithm or power".into()
                } else {
                    format!("{n} exponentials, logarithms or powers")
                }
            )
        })?;
        let problem =
            problem.note("the exponential of 11.1 is infinite in fp16, and small numbers have few digits");
        Some(problem.paste("exponentials stay fp32", found.iter().map(|id| self.name(*id))))
    }

    /// Powers that are computed in FP32, and that 16 bits are made of: what was kept is lost at once.
    fn narrowed_powers(&self, in_pattern: &BTreeSet<usize>) -> Option<Problem> {
        let is_half = |id: &usize| self.nodes[*id].of == Some(FloatType::Fp16);
        let is_power = |id: &usize| {
            let Node { proto, scope, .. } = &self.view.nodes[*id];
            let exponent = proto.input.get(1).and_then(|name| self.view.number(*scope, name));
            proto.op_type() == "Pow" && proto.domain().is_empty() && exponent.is_some_and(|e| e > 1.0)
        };
        let wide = (0..self.nodes.len()).filter(|id| self.nodes[*id].of == Some(FloatType::Fp32));
        let wide = wide.filter(|id| !in_pattern.contains(id) && is_power(id));
        let found: Vec<usize> = wide.filter(|id| self.after(*id).any(|next| is_half(&next))).collect();
        let readers = || found.iter().flat_map(|id| self.after(*id)).filter(is_half);
        let problem = self.problem("fp16-exponential", &found, |n| {
            let what = if n == 1 { "a power is".to_owned() } else { format!("{n} powers are") };
            format!("{what} computed in fp32 and read in fp16")
        })?;
        let problem = problem.note("the square of 256 is infinite in fp16");
        Some(problem.paste("what reads powers stays fp32", readers().map(|id| self.name(id))))
    }

    /// Integers that become FP16 although they may be beyond 2048: counted, taken from shapes, constant, or
    /// positions that an angle is made of.
    fn integers(&self, half: &[usize]) -> Option<Problem> {
        let (mut found, mut pinned) = (Vec::new(), BTreeSet::new());
        let mut sizes = None;
        for id in half.iter().copied() {
            let node = &self.view.nodes[id];
            let is_cast = node.proto.op_type() == "Cast" && node.signature.role == Role::Typed;
            let Some(input) = node.proto.input.first().filter(|_| is_cast) else { continue };
            let Some(source) = self.integer_source(node.scope, input) else { continue };
            let angle = self.way_to_angle(id);
            if source == Source::Input && angle.is_none() {
                continue; // Most often a mask of zeros and ones.
            }
            if sizes.get_or_insert_with(|| Sizes::new(self.view)).are_exact(node.proto) {
                continue; // The size of a head, which a Reshape says.
            }
            found.push(id);
            pinned.insert(id);
            pinned.extend(angle.into_iter().flatten());
        }
        let problem = self.problem("fp16-large-integer", &found, |n| {
            if n == 1 {
                "integers that may be beyond 2048 become fp16".to_owned()
            } else {
                format!("integers that may be beyond 2048 become fp16, in {n} places")
            }
        })?;
        let problem =
            problem.note("fp16 has every integer up to 2048, and from there on every second, fourth, …");
        Some(problem.paste("large integers stay fp32", pinned.iter().map(|id| self.name(*id))))
    }

    /// Where an integer comes from, if it may be large.
    fn integer_source(&self, scope: ScopeId, value: &str) -> Option<Source> {
        if matches!(self.view.types.element(scope, value)?, DataType::Bool | DataType::Int8 | DataType::Uint8)
        {
            return None;
        }
        let (mut open, mut seen) = (vec![(scope, value)], BTreeSet::new());
        let mut found = None;
        for _ in 0..MAX_STEPS {
            let mut further = Vec::new();
            for (scope, value) in open.drain(..) {
                let Some(key) = self.view.key(scope, value).filter(|key| seen.insert(*key)) else { continue };
                if let Some(tensor) = self.view.constant(scope, value) {
                    if largest(&tensor).is_some_and(|n| n > EXACT) {
                        return Some(Source::Known);
                    }
                } else if self.inputs.contains(&key) {
                    found = Some(Source::Input);
                } else if let Some(id) = self.makers.get(&key) {
                    let Node { proto, scope, .. } = &self.view.nodes[*id];
                    let read = match proto.op_type() {
                        "Range" | "CumSum" | "Shape" | "Size" | "NonZero" => return Some(Source::Known),
                        // What is computed from integers is as large as the largest of these …
                        "Add" | "Sub" | "Mul" | "Max" | "Concat" => proto.input.as_slice(),
                        "Where" => proto.input.get(1..).unwrap_or_default(),
                        // … or as what it is taken from.
                        "Cast" | "Div" | "Neg" | "Abs" => proto.input.get(..1).unwrap_or_default(),
                        op if SHAPES.contains(&op) => proto.input.get(..1).unwrap_or_default(),
                        _ => &[],
                    };
                    further.extend(read.iter().map(|name| (*scope, name.as_str())));
                }
            }
            further.truncate(MAX_NODES);
            open = further;
        }
        found
    }

    /// The nodes from here to a sine or cosine, if they are near.
    fn way_to_angle(&self, id: usize) -> Option<BTreeSet<usize>> {
        let mut ways = vec![vec![id]];
        let mut found = BTreeSet::new();
        for _ in 0..MAX_STEPS {
            let mut further = Vec::new();
            for way in &ways {
                let Some(last) = way.last() else { continue };
                for next in self.after(*last) {
                    let op = self.proto(next).op_type();
                    if matches!(op, "Sin" | "Cos") {
                        found.extend(way.iter().copied().chain([next]));
                    } else if matches!(op, "MatMul" | "Mul" | "Div" | "Add" | "Einsum" | "Cast")
                        || SHAPES.contains(&op)
                    {
                        further.push([way.as_slice(), &[next]].concat());
                    }
                }
            }
            // A value that is read everywhere leads nowhere in particular.
            further.truncate(MAX_NODES);
            ways = further;
        }
        found.retain(|id| self.nodes[*id].of.is_some());
        (!found.is_empty()).then_some(found)
    }

    fn problem(&self, code: &str, found: &[usize], message: impl Fn(usize) -> String) -> Option<Problem> {
        let first = *found.first()?;
        let problem = Problem::hazard(code, message(found.len()))
            .at_node(self.name(first), self.proto(first).op_type());
        Some(match found.len() {
            1 => problem,
            _ => problem.note(list(found.iter().map(|id| self.name(*id)))),
        })
    }
}

/// Sizes that are known, though the model computes them.
struct Sizes<'v> {
    graph: GraphView<'v>,
    shapes: Shapes,
    ids: BTreeMap<*const NodeProto, NodeId>,
}

impl<'v> Sizes<'v> {
    fn new(view: &'v View<'v>) -> Sizes<'v> {
        let graph = GraphView::new(view.model.proto());
        let ids = graph.nodes().map(|(id, node)| (std::ptr::from_ref(node.proto), id)).collect();
        Sizes { shapes: Shapes::new(&graph), ids, graph }
    }

    /// Does a node read known integers that FP16 has?
    fn are_exact(&self, node: &NodeProto) -> bool {
        let id = self.ids.get(&std::ptr::from_ref(node));
        let input = id.and_then(|id| self.graph.input(*id, 0));
        let exact = |n: &Option<i64>| n.is_some_and(|n| n.unsigned_abs() <= EXACT.unsigned_abs());
        input.and_then(|input| self.shapes.ints(input)).is_some_and(|ints| ints.iter().all(exact))
    }
}

/// What an integer is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// An input of the model.
    Input,
    /// Something that grows with the model's shapes, or a large constant.
    Known,
}

/// The largest magnitude in a tensor of integers.
fn largest(tensor: &TensorProto) -> Option<i64> {
    let raw = tensor.raw_data.as_ref()?;
    let values = |width: usize| raw.chunks_exact(width);
    let magnitude = |n: i64| i64::try_from(n.unsigned_abs()).unwrap_or(i64::MAX);
    match DataType::try_from(tensor.data_type()).ok()? {
        DataType::Int64 => {
            values(8).filter_map(|b| Some(magnitude(i64::from_le_bytes(b.try_into().ok()?)))).max()
        }
        DataType::Int32 => {
            values(4).filter_map(|b| Some(magnitude(i32::from_le_bytes(b.try_into().ok()?).into()))).max()
        }
        _ => None,
    }
}
