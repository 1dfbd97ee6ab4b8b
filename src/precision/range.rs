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
use super::made::constant_tensor;
use super::pattern::Patterns;
use super::problem::Problem;
use super::signature::Role;
use super::std_fp16::LARGE_REDUCTIONS;
use super::view::View;
use crate::onnx;
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::proto::{NodeProto, TensorProto};

/// The largest number up to which FP16 has every integer.
const EXACT: i64 = 2048;

/// How many steps a value is followed.
const MAX_STEPS: usize = 6;

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
    let found = [graph.long_sums(&half), graph.exponentials(&half), graph.integers(&half)];
    found.into_iter().flatten().collect()
}

struct Graph<'v> {
    view: &'v View<'v>,
    nodes: &'v [NodeAssignment],
    /// Nodes by the values that they make.
    makers: BTreeMap<&'v str, usize>,
    /// Nodes by the values that they read.
    readers: BTreeMap<&'v str, Vec<usize>>,
    initializers: BTreeMap<&'v str, &'v TensorProto>,
    inputs: BTreeSet<&'v str>,
}

impl<'v> Graph<'v> {
    fn new(view: &'v View<'v>, nodes: &'v [NodeAssignment]) -> Graph<'v> {
        let (mut makers, mut readers) = (BTreeMap::new(), BTreeMap::<&str, Vec<usize>>::new());
        for (id, node) in view.nodes.iter().enumerate() {
            makers.extend(node.proto.output.iter().map(|value| (value.as_str(), id)));
            for value in onnx::reads(node.proto) {
                readers.entry(value).or_default().push(id);
            }
        }
        let graph = view.model.graph();
        let initializers: BTreeMap<&str, &TensorProto> =
            graph.initializer.iter().map(|tensor| (tensor.name(), tensor)).collect();
        let inputs =
            graph.input.iter().map(|v| v.name()).filter(|name| !initializers.contains_key(name)).collect();
        Graph { view, nodes, makers, readers, initializers, inputs }
    }

    fn proto(&self, id: usize) -> &'v NodeProto {
        self.view.nodes[id].proto
    }

    fn name(&self, id: usize) -> &'v str {
        &self.view.nodes[id].name
    }

    /// The one number of a constant.
    fn scalar(&self, name: &str) -> Option<f32> {
        let made = || constant_tensor(self.proto(*self.makers.get(name)?));
        let tensor = self.initializers.get(name).map(|tensor| (*tensor).clone()).or_else(made)?;
        let of = FloatType::of_element(tensor.data_type()).filter(|of| *of == FloatType::Fp32)?;
        let raw = tensor.raw_data.as_ref().filter(|raw| raw.len() == of.width())?;
        Some(f32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]))
    }

    /// The node that squares the value, if one does.
    fn square(&self, value: &str) -> Option<usize> {
        let id = *self.makers.get(value)?;
        let proto = self.proto(id);
        let is_square = match (proto.op_type(), proto.input.as_slice()) {
            ("Mul", [a, b]) => a == b,
            ("Pow", [_, exponent]) => self.scalar(exponent) == Some(2.0),
            _ => false,
        };
        (is_square && self.nodes[id].of == Some(FloatType::Fp16)).then_some(id)
    }

    /// Sums and products of many elements, and means of squares.
    fn long_sums(&self, half: &[usize]) -> Option<Problem> {
        let mut sums = Vec::new();
        let mut squares = BTreeSet::new();
        for id in half.iter().copied() {
            let op = self.proto(id).op_type();
            let square = self.proto(id).input.first().and_then(|input| self.square(input));
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
        let is_root = |proto: &NodeProto| {
            let exponent = proto.input.get(1).and_then(|name| self.scalar(name));
            exponent.is_some_and(|e| (0.0..=1.0).contains(&e))
        };
        let feeds_sum = |id: usize| {
            let read = self.proto(id).output.iter().flat_map(|value| self.readers.get(value.as_str()));
            read.flatten().any(|reader| self.proto(*reader).op_type().starts_with("Reduce"))
        };
        let found: Vec<usize> = half
            .iter()
            .copied()
            .filter(|id| match self.proto(*id).op_type() {
                "Exp" | "Log" => true,
                // The square of a sum was told with the sum.
                "Pow" => !is_root(self.proto(*id)) && !feeds_sum(*id),
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

    /// Integers that become FP16 although they may be beyond 2048: counted, taken from shapes, constant, or
    /// positions that an angle is made of.
    fn integers(&self, half: &[usize]) -> Option<Problem> {
        let mut found = Vec::new();
        let mut pinned = BTreeSet::new();
        for id in half.iter().copied() {
            let node = &self.view.nodes[id];
            let is_cast = node.proto.op_type() == "Cast" && node.signature.role == Role::Typed;
            let Some(input) = node.proto.input.first().filter(|_| is_cast) else { continue };
            let Some(source) = self.integer_source(node, input) else { continue };
            let angle = self.way_to_angle(id);
            if source == Source::Input && angle.is_none() {
                continue; // Most often a mask of zeros and ones.
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
    fn integer_source(&self, node: &super::view::Node<'_>, value: &str) -> Option<Source> {
        let element = self.view.types.element(node.scope, value)?;
        if matches!(element, DataType::Bool | DataType::Int8 | DataType::Uint8) {
            return None;
        }
        let mut name = value;
        for _ in 0..MAX_STEPS {
            if let Some(tensor) = self.initializers.get(name) {
                return largest(tensor).filter(|n| *n > EXACT).map(|_| Source::Known);
            }
            if self.inputs.contains(name) {
                return Some(Source::Input);
            }
            let proto = self.proto(*self.makers.get(name)?);
            match proto.op_type() {
                "Range" | "CumSum" | "Shape" | "Size" | "NonZero" => return Some(Source::Known),
                "Constant" => {
                    let tensor = proto.attribute.iter().find_map(|a| a.t.as_ref())?;
                    return largest(tensor).filter(|n| *n > EXACT).map(|_| Source::Known);
                }
                // What is added to or looked up in is as large as it is.
                "Add" | "Sub" | "Mul" | "Cast" | "Where" => name = proto.input.first()?,
                op if SHAPES.contains(&op) => name = proto.input.first()?,
                _ => return None,
            }
        }
        None
    }

    /// The nodes from here to a sine or cosine, if they are near.
    fn way_to_angle(&self, id: usize) -> Option<BTreeSet<usize>> {
        let mut ways = vec![vec![id]];
        let mut found = BTreeSet::new();
        for _ in 0..MAX_STEPS {
            let mut further = Vec::new();
            for way in &ways {
                let Some(last) = way.last() else { continue };
                let made = self.proto(*last).output.iter();
                for next in made.flat_map(|value| self.readers.get(value.as_str())).flatten() {
                    let op = self.proto(*next).op_type();
                    if matches!(op, "Sin" | "Cos") {
                        found.extend(way.iter().copied().chain([*next]));
                    } else if matches!(op, "MatMul" | "Mul" | "Div" | "Add" | "Einsum" | "Cast")
                        || SHAPES.contains(&op)
                    {
                        further.push([way.as_slice(), &[*next]].concat());
                    }
                }
            }
            // A value that is read everywhere leads nowhere in particular.
            further.truncate(64);
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
