//! What TensorRT's ONNX parser reads otherwise than ONNX says, without a word: such a node is refused, with what to do.
//!
//! Each row was measured: the parsed network of TensorRT-RTX 1.7.1 gives other numbers than ONNX Runtime. What the parser
//! refuses by itself is no row, nor is a form of these operators that it reads right; where dims are not known, a node is
//! refused only if it can be read wrong for some that are ordinary.
//!
//! | operator | form | what TensorRT does |
//! |---|---|---|
//! | QuantizeLinear | to uint8, which is the default | quantizes to INT8: -128 to 127 instead of 0 to 255 |
//! | Clip | of int8 | gives 0 |
//! | Attention | `nonpad_kv_seqlen`, `left_window_size`, `right_window_size` | leaves it out |
//! | MaxPool, AveragePool, LpPool | `ceil_mode`, the last window begins in the padding | keeps that window |
//! | ConvTranspose | `auto_pad` with `output_padding` or `output_shape`; an odd padding | other sizes, or the other side |
//! | Loop | outputs of each round, and a condition that may end it | as many rounds as the trip count says |
//! | ReduceL1, L2, LogSum, SumSquare | `noop_with_empty_axes` and no axes | gives the input |
//! | Split | sizes that do not add up | gives the parts |
//! | OneHot, Resize, Split, ... | a size beyond 32 bits | takes the lower 32 bits |
//! | any | of another domain | takes the operator of ONNX with that name |

use super::error::Problems;
use super::graph::{Constant, GraphView, NodeId, ScopeKind, Shapes, ValueId};
use super::infer::{self, Visited};
use super::names::{node_name, subgraphs};
use super::proto::tensor_proto::DataType;
use super::proto::type_proto::Value as Of;
use super::proto::{GraphProto, NodeProto};
use super::read::Model;
use super::schema::schema;
use crate::diagnostic::Diagnostic;

/// Why a node is misread, as the end of a sentence that begins with the node; and what to do.
struct Misread(String, &'static str);

/// Refuses what is misread in a canonical model.
pub(super) fn check(model: &Model, problems: &mut Problems) {
    interface(model.graph(), problems);
    let view = GraphView::new(model.proto());
    let shapes = Shapes::new(&view);
    for (id, node) in view.nodes() {
        if let Some(error) = other_domain(node.proto) {
            problems.push_at(node.proto, error);
        }
        let site = Site { view: &view, shapes: &shapes, id };
        push(node.proto, site.misread(), problems);
    }
    // Types take a walk of their own, which most models do not need.
    if !any_typed(model.graph()) {
        return;
    }
    let types = infer::element_types(model);
    types.visit(model.proto(), &mut |at| push(at.node, by_type(&types, at), problems));
}

/// TensorRT has nothing but tensors.
fn interface(graph: &GraphProto, problems: &mut Problems) {
    let inputs = graph.input.iter().map(|input| (input, "input"));
    for (value, kind) in inputs.chain(graph.output.iter().map(|output| (output, "output"))) {
        let what = match value.r#type.as_ref().and_then(|of| of.value.as_ref()) {
            None | Some(Of::TensorType(_)) => continue,
            Some(Of::SparseTensorType(_)) => "a sparse tensor",
            Some(Of::SequenceType(_)) => "a sequence",
            Some(Of::MapType(_)) => "a map",
            Some(Of::OptionalType(_)) => "an optional value",
            Some(Of::OpaqueType(_)) => "of an opaque type",
        };
        let message = format!("{kind} `{}` is {what}, and TensorRT takes tensors only", value.name());
        let help = "export the model with a tensor, or several, in its place";
        problems.push(Diagnostic::error("not-a-tensor", message).help(help));
    }
}

fn push(node: &NodeProto, found: Option<Misread>, problems: &mut Problems) {
    let Some(Misread(why, help)) = found else { return };
    let message = format!("node `{}` ({}) {why}", node_name(node), node.op_type());
    let error = Diagnostic::error("operator-misread", message);
    problems.push_at(node, error.note("TensorRT builds it all the same").help(help));
}

/// An operator that is not of ONNX, and has the name of one that is: TensorRT's parser looks at the name alone.
fn other_domain(node: &NodeProto) -> Option<Diagnostic> {
    let (domain, op) = (node.domain(), node.op_type());
    let differs = match domain {
        "" | "ai.onnx" => false,
        // ONNX took over most of these as they were.
        "com.microsoft" => matches!(op, "Attention" | "RotaryEmbedding"),
        _ => schema("", op, i64::MAX).is_some(),
    };
    if !differs {
        return None;
    }
    let name = node_name(node);
    let message = format!("node `{name}` is `{domain}::{op}`, which TensorRT takes for ONNX's own {op}");
    let help = format!("if it is ONNX's {op}, clear the node's domain; else export without custom operators");
    let note = "TensorRT's parser looks at the name of an operator alone, and not at its domain";
    Some(Diagnostic::error("operator-of-other-domain", message).note(note).help(help))
}

/// Is there an operator of which [`by_type`] knows something?
fn any_typed(graph: &GraphProto) -> bool {
    let is_typed = |node: &NodeProto| matches!(node.op_type(), "QuantizeLinear" | "Clip");
    graph.node.iter().any(|node| is_typed(node) || subgraphs(node).any(any_typed))
}

/// What is misread because of its types.
fn by_type(types: &infer::ElementTypes, at: Visited<'_>) -> Option<Misread> {
    let element = |name: Option<&String>| types.element(at.scope, name?);
    let node = at.node;
    match (node.domain(), node.op_type()) {
        ("", "Clip") if element(node.input.first()) == Some(DataType::Int8) => Some(Misread(
            "clips int8, of which TensorRT makes zeros".to_owned(),
            "Cast to int32 before it and back after it, or clip before quantizing",
        )),
        (domain @ ("" | "com.microsoft"), "QuantizeLinear") => {
            let has_zero_point = node.input.get(2).is_some_and(|name| !name.is_empty());
            let is_default = domain == "com.microsoft" && !has_zero_point;
            let is_uint8 = is_default || element(node.output.first()) == Some(DataType::Uint8);
            let which = if has_zero_point { "" } else { ", its default without a zero point" };
            is_uint8.then(|| {
                Misread(
                    format!("quantizes to uint8{which}, and TensorRT to int8: -128 to 127 instead of 0 to 255"),
                    "quantize again to int8, symmetric: `QuantType.QInt8` and `ActivationSymmetric` in ONNX Runtime's \
                     `quantize_static`, or give it a zero point of int8",
                )
            })
        }
        _ => None,
    }
}

/// One node.
struct Site<'v, 'a> {
    view: &'v GraphView<'a>,
    shapes: &'v Shapes,
    id: NodeId,
}

impl Site<'_, '_> {
    fn misread(&self) -> Option<Misread> {
        match self.view.op(self.id) {
            "Attention" => self.attention(),
            "MaxPool" | "AveragePool" | "LpPool" => self.pool(),
            "ConvTranspose" => self.conv_transpose(),
            "Loop" => self.scan_outputs(),
            "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceSumSquare" => self.reduce(),
            "Split" => self.wide(1).or_else(|| self.split()),
            "OneHot" | "Reshape" | "Expand" | "Pad" | "Tile" | "TopK" | "CumSum" => self.wide(1),
            "ConstantOfShape" => self.wide(0),
            "Resize" => self.wide(3),
            _ => None,
        }
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        self.view.int(self.id, name, default).unwrap_or(default)
    }

    fn ints(&self, name: &str) -> &[i64] {
        self.view.attribute(self.id, name).map_or(&[], |attribute| &attribute.ints)
    }

    fn text(&self, name: &str) -> &[u8] {
        self.view.attribute(self.id, name).map_or(&[], |attribute| attribute.s())
    }

    /// Size of a spatial axis of the first input.
    fn size(&self, axis: usize) -> Option<i64> {
        let dims = self.shapes.dims(self.view.input(self.id, 0)?)?;
        *dims.get(axis.checked_add(2)?)?
    }

    fn attention(&self) -> Option<Misread> {
        let name = if self.view.input(self.id, 6).is_some() {
            "nonpad_kv_seqlen"
        } else {
            ["left_window_size", "right_window_size"].into_iter().find(|name| self.int(name, -1) >= 0)?
        };
        let help = "give it a mask (`attn_mask`) that says the same";
        Some(Misread(format!("has `{name}`, which TensorRT leaves out"), help))
    }

    /// ONNX leaves out a window that would begin in the padding on the right, and TensorRT does not.
    fn pool(&self) -> Option<Misread> {
        let padding = self.text("auto_pad");
        if self.int("ceil_mode", 0) == 0 || padding.starts_with(b"SAME") {
            return None;
        }
        let kernel = self.ints("kernel_shape");
        let (strides, dilations) = (self.ints("strides"), self.ints("dilations"));
        let pads = if padding == b"VALID" { &[] } else { self.ints("pads") };
        let at = |list: &[i64], i: usize, default: i64| list.get(i).copied().unwrap_or(default);
        let begins_in_padding = |i: usize| {
            let window = (kernel[i].checked_sub(1)?).checked_mul(at(dilations, i, 1))?.checked_add(1)?;
            let (stride, before) = (at(strides, i, 1), at(pads, i, 0));
            let after = at(pads, kernel.len() + i, 0);
            // Whatever the size is, the last window begins at most `stride - 1` after the last that fits.
            if stride < 1 || stride.checked_add(after)? <= window {
                return Some(false);
            }
            let Some(size) = self.size(i) else { return Some(true) };
            let whole = size.checked_add(before)?.checked_add(after)?.checked_sub(window)?;
            let last = whole.checked_add(stride - 1)?.div_euclid(stride).checked_mul(stride)?;
            Some(last >= size.checked_add(before)?)
        };
        let axis = (0..kernel.len()).find(|i| begins_in_padding(*i) == Some(true))?;
        Some(Misread(
            format!(
                "has `ceil_mode`, and its last window along axis {} may begin in the padding: ONNX leaves it out, \
                 TensorRT does not",
                axis + 2
            ),
            "export it with `ceil_mode = 0`, and pads that give the size wanted",
        ))
    }

    fn conv_transpose(&self) -> Option<Misread> {
        let mode = self.text("auto_pad");
        let is_auto = mode.starts_with(b"SAME") || mode == b"VALID";
        let extra = self.ints("output_padding");
        let help =
            "export it with explicit `pads` and `output_padding`, without `auto_pad` and `output_shape`";
        if is_auto && extra.iter().any(|size| *size != 0) {
            return Some(Misread(
                "has `auto_pad`, so that TensorRT leaves out its `output_padding`".to_owned(),
                help,
            ));
        }
        let shape = self.ints("output_shape");
        if shape.is_empty() {
            return None;
        }
        let rank = self.spatial_rank().unwrap_or(shape.len()).min(shape.len());
        let shape = &shape[shape.len() - rank..];
        // What is padded away of what the kernel covers along an axis; none if it is not known.
        let padding = |i: usize| {
            let stride = self.ints("strides").get(i).copied().unwrap_or(1);
            let dilation = self.ints("dilations").get(i).copied().unwrap_or(1);
            let window = self.kernel(i)?.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
            let covered = self.size(i)?.checked_sub(1)?.checked_mul(stride)?.checked_add(window)?;
            let same = self.size(i)?.checked_mul(stride)?;
            let extra = extra.get(i).copied().unwrap_or(0);
            let own = if mode == b"VALID" { covered } else { same };
            Some((covered.checked_add(extra)?.checked_sub(shape[i])?, own == shape[i]))
        };
        if is_auto {
            // Without `output_shape`, the size is this one too.
            let is_own = (0..rank).all(|i| padding(i).is_some_and(|(_, is_own)| is_own));
            let why = "has `auto_pad`, so that TensorRT leaves out its `output_shape`";
            return (!is_own).then(|| Misread(why.to_owned(), help));
        }
        let is_odd =
            (0..rank).any(|i| padding(i).is_some_and(|(padding, _)| padding > 0 && padding % 2 != 0));
        let why =
            "has an `output_shape` that leaves an odd padding, which ONNX puts in front and TensorRT behind";
        is_odd.then(|| Misread(why.to_owned(), help))
    }

    /// How many spatial axes the weight has.
    fn spatial_rank(&self) -> Option<usize> {
        self.shapes.rank(self.view.input(self.id, 1)?)?.checked_sub(2)
    }

    /// The size of the kernel along a spatial axis.
    fn kernel(&self, axis: usize) -> Option<i64> {
        if let Some(size) = self.ints("kernel_shape").get(axis) {
            return Some(*size);
        }
        *self.shapes.dims(self.view.input(self.id, 1)?)?.get(axis.checked_add(2)?)?
    }

    /// A Loop that gives something of each round, and may end before its trip count.
    fn scan_outputs(&self) -> Option<Misread> {
        let node = self.view.node(self.id).proto;
        let carried = node.input.len().saturating_sub(2);
        let gives_each = node.output.iter().skip(carried).any(|name| !name.is_empty());
        if !gives_each || (self.begins() && self.stays_true(node)) {
            return None;
        }
        Some(Misread(
            "gives a value of each round, and its condition may end it early: TensorRT gives as many as the trip count \
             says"
                .to_owned(),
            "let the condition be constantly true, or carry the values from round to round",
        ))
    }

    /// Does the body give the condition that it is given, or one that is true?
    fn stays_true(&self, node: &NodeProto) -> bool {
        let Some(body) = subgraphs(node).next() else { return false };
        let (Some(given), Some(made)) = (body.input.get(1), body.output.first()) else { return false };
        let inside = |i: usize| {
            let scope = &self.view.scopes()[i];
            matches!(scope.kind, ScopeKind::Subgraph { owner, .. } if owner == self.id)
        };
        let Some(scope) = (0..self.view.scopes().len()).find(|i| inside(*i)) else { return false };
        let Some(made) = self.view.find(scope, made.name()) else { return false };
        let made = self.source(made);
        Some(made) == self.view.find(scope, given.name()) || self.is_true(made)
    }

    /// Is the condition true at first, whenever there is a round to go?
    fn begins(&self) -> bool {
        let condition = self.view.input(self.id, 1);
        let is_count =
            |condition| self.view.input(self.id, 0).map(|count| self.source(count)) == Some(condition);
        // What an expanded Range has for a condition is its trip count.
        condition.is_none_or(|id| self.is_true(id) || is_count(self.source(id)))
    }

    /// What a value is, Identity and Cast looked through.
    fn source(&self, mut at: ValueId) -> ValueId {
        for _ in 0..16 {
            let maker = self.view.value(at).producer;
            let maker = maker.filter(|maker| matches!(self.view.op(*maker), "Identity" | "Cast"));
            match maker.and_then(|maker| self.view.input(maker, 0)) {
                Some(input) => at = input,
                None => break,
            }
        }
        at
    }

    /// Is it a constant that is true?
    fn is_true(&self, id: ValueId) -> bool {
        match self.view.constant(id) {
            Some(Constant::Tensor(tensor)) if tensor.data_type() == DataType::Bool as i32 => {
                tensor.raw_data.as_deref().is_some_and(|raw| raw.first().is_some_and(|byte| *byte != 0))
            }
            Some(constant) => constant.get(0).is_some_and(|value| value != 0.0),
            None => false,
        }
    }

    fn reduce(&self) -> Option<Misread> {
        if self.int("noop_with_empty_axes", 0) == 0
            || self.view.input(self.id, 1).is_some()
            || !self.ints("axes").is_empty()
        {
            return None;
        }
        let why = "has `noop_with_empty_axes` and no axes, and TensorRT gives its input as it is";
        Some(Misread(why.to_owned(), "write what it does to each element: Abs, Log, or Mul by itself"))
    }

    fn split(&self) -> Option<Misread> {
        let sizes = match self.view.input(self.id, 1) {
            Some(id) => self.view.constant(id)?.ints()?,
            None => self.ints("split").to_vec(),
        };
        let whole = self.shapes.dim(self.view.input(self.id, 0)?, self.int("axis", 0))?;
        let sum = sizes.iter().try_fold(0i64, |sum, size| sum.checked_add(*size))?;
        if sizes.is_empty() || sum == whole {
            return None;
        }
        let why = format!("splits {whole} into parts of {sizes:?}, which add up to {sum}");
        Some(Misread(why, "export the model again: ONNX does not allow this"))
    }

    /// A constant size beyond 32 bits.
    fn wide(&self, input: usize) -> Option<Misread> {
        let sizes = self.view.constant(self.view.input(self.id, input)?)?.ints()?;
        let large = sizes.into_iter().find(|size| i32::try_from(*size).is_err())?;
        let why = format!("has {large} in its input {input}, of which TensorRT takes 32 bits");
        Some(Misread(why, "export the model again, with sizes below 2^31"))
    }
}
