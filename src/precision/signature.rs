//! Which inputs and outputs of a node follow the type that the node computes in, and which types it may have.

use std::collections::BTreeSet;

use super::float::FloatType;
use super::view::Facts;
use crate::onnx::infer::{ElementTypes, ScopeId};
use crate::onnx::proto::NodeProto;
use crate::onnx::{self, Arity, OpSchema, ParamType, Type};

/// What a node is to the rewrite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// It computes in the type that it is assigned.
    Typed,
    /// It has inputs that follow one type, and no float result.
    Reader,
    /// A Cast from one of the three types to another: made anew where it is needed.
    Transparent,
    /// A constant of one of the three types: it has every type that its readers want.
    Constant,
    /// Types at its borders stay as they are in the file; why.
    Opaque(String),
}

/// What an input or output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// Whatever arrives is taken; or it is no float.
    Free,
    /// It has the node's type.
    Follows,
    /// It has the type of the file.
    Fixed,
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Signature {
    pub(super) role: Role,
    pub(super) inputs: Vec<Slot>,
    pub(super) outputs: Vec<Slot>,
    /// Types that it cannot have, and why.
    denied: Vec<(FloatType, String)>,
}

/// Operators whose result has a type that an attribute says.
const TYPE_BY_ATTRIBUTE: [&str; 13] = [
    "EyeLike",
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
    "HannWindow",
    "HammingWindow",
    "BlackmanWindow",
    "MelWeightMatrix",
    "BitCast",
    "ImageDecoder",
];

/// In reasons that a newer opset mends.
const FROM_OPSET: &str = " from opset ";

impl Signature {
    pub(super) fn of(
        node: &NodeProto,
        (scope, index): (ScopeId, usize),
        types: &ElementTypes,
        facts: &Facts<'_>,
        sparse: &BTreeSet<&str>,
    ) -> Signature {
        let of = |name: &String| if name.is_empty() { None } else { Some(types.get(scope, name)) };
        let values: Vec<&Type> = node.input.iter().chain(&node.output).filter_map(of).collect();
        let opaque = |why: String| Signature {
            role: Role::Opaque(why),
            inputs: vec![Slot::Fixed; node.input.len()],
            outputs: vec![Slot::Fixed; node.output.len()],
            denied: Vec::new(),
        };
        let (domain, op) = (node.domain(), node.op_type());
        if onnx::subgraphs(node).next().is_some() {
            let version = facts.opsets.get(domain).copied().unwrap_or(i64::MAX);
            return match Signature::of_control(node, (scope, index), types, version) {
                Some(signature) => signature,
                None => opaque(format!("`{op}` and its subgraphs keep their types")),
            };
        }
        if facts.functions.contains(&(domain, op)) {
            return opaque(format!("`{op}` is a function of the model, which keeps its types"));
        }
        if is_quantized(op) {
            return opaque(format!("`{op}` is quantized: its scales and borders keep their types"));
        }
        if domain == "ai.onnx.ml" {
            // Their attributes have types too.
            return opaque(format!("`{op}` is no operator of neural networks: its borders keep their types"));
        }
        let version = facts.opsets.get(domain).copied().unwrap_or(i64::MAX);
        let Some(schema) = onnx::schema(domain, op, version) else {
            return opaque(format!("`{op}` is a custom operator: its borders keep their types"));
        };
        if values.iter().any(|of| of.is_unknown()) {
            return opaque("not all types of its values are known".to_owned());
        }
        if values.iter().any(|of| of.element().is_none()) {
            return opaque("it handles sequences, optionals or maps, which keep their types".to_owned());
        }
        if node.input.iter().any(|input| sparse.contains(input.as_str())) {
            return opaque("it reads a sparse tensor, which keeps its type".to_owned());
        }
        // No valid model has that, and TensorRT says so; until then nothing binds its types.
        let reads_nothing = node.input.first().is_none_or(String::is_empty);
        if reads_nothing && schema.inputs.first().is_some_and(|first| first.arity == onnx::Arity::Single) {
            return opaque("its first input is missing".to_owned());
        }
        let float = |name: &String| of(name).and_then(FloatType::of_type);
        match (domain, op) {
            ("", "Cast") => return Signature::of_cast(node, schema, float),
            ("", "Constant") => {
                let is_dense = node.attribute.iter().all(|a| a.sparse_tensor.is_none());
                return match node.output.first().and_then(float) {
                    Some(_) if !is_dense => {
                        opaque("it is a sparse constant, which keeps its type".to_owned())
                    }
                    Some(_) => Signature { role: Role::Constant, ..opaque(String::new()) },
                    None => Signature { role: Role::Reader, ..opaque(String::new()) },
                };
            }
            ("", op) if TYPE_BY_ATTRIBUTE.contains(&op) => {
                return opaque("an attribute says the type of its result".to_owned());
            }
            _ => {}
        }
        let mut signature = Signature::by_schema(node, schema, float);
        if signature.role == Role::Typed && op != "ConstantOfShape" && !signature.is_bound(node, schema) {
            return opaque("nothing that it reads says the type of its result".to_owned());
        }
        if signature.role == Role::Typed && signature.denial(FloatType::Fp32).is_some() {
            return opaque(format!("there is no `{op}` in FP32"));
        }
        // Nothing leads to a node in BF16 where Cast does not take it.
        let cast = onnx::schema("", "Cast", facts.opsets.get("").copied().unwrap_or(i64::MAX));
        if let Some(cast) = cast.filter(|cast| !cast.allows("T2", FloatType::Bf16.element())) {
            let proto = NodeProto { op_type: Some("Cast".to_owned()), ..NodeProto::default() };
            let later = allowed_later(&proto, cast, "T2", FloatType::Bf16);
            if signature.denial(FloatType::Bf16).is_none() {
                signature.denied.push((FloatType::Bf16, denial(&proto, cast, FloatType::Bf16, later)));
            }
        }
        if domain.is_empty() && op == "ConstantOfShape" && node.output.first().and_then(float).is_some() {
            // Its output is of a type parameter that no input binds, but the attribute, which follows.
            signature.outputs = vec![Slot::Follows];
        }
        if domain.is_empty() && op == "OneHot" {
            // Classes and how many there are: integers, whatever type they are in. 16 bits would change the shape.
            signature
                .inputs
                .iter_mut()
                .take(2)
                .filter(|s| **s == Slot::Follows)
                .for_each(|s| *s = Slot::Fixed);
        }
        if domain.is_empty() && op == "MeanVarianceNormalization" {
            for of in [FloatType::Fp16, FloatType::Bf16] {
                let why =
                    format!("ONNX defines `{op}` with an FP32 constant, which {} is not added to", of.name());
                signature.denied.push((of, why));
            }
        }
        for (op, of) in &facts.capabilities.without {
            if domain.is_empty() && node.op_type() == op {
                let why = format!("the toolchain does not run `{op}` in {}", of.name());
                signature.denied.push((*of, why));
            }
        }
        signature
    }

    /// If, Loop and Scan: everything of the three types at their borders follows, so that what goes round has one
    /// type. None if something there is not known or no tensor, or if floats go round that the node does not give.
    fn of_control(
        node: &NodeProto,
        (scope, index): (ScopeId, usize),
        types: &ElementTypes,
        version: i64,
    ) -> Option<Signature> {
        let op = node.op_type();
        if !node.domain().is_empty() || !matches!(op, "If" | "Loop" | "Scan") {
            return None;
        }
        let schema = onnx::schema("", op, version)?;
        let slot = |scope: ScopeId, name: &str| {
            if name.is_empty() {
                return Some(Slot::Free);
            }
            let of = types.get(scope, name);
            of.element()?;
            Some(if FloatType::of_type(of).is_some() { Slot::Follows } else { Slot::Free })
        };
        let slots = |names: &[String]| names.iter().map(|n| slot(scope, n)).collect::<Option<Vec<_>>>();
        let (inputs, outputs) = (slots(&node.input)?, slots(&node.output)?);
        let mut inside = false;
        for (ordinal, graph) in onnx::subgraphs(node).enumerate() {
            let inner = types.subgraph(scope, index, ordinal)?;
            for value in graph.input.iter().chain(&graph.output) {
                inside |= slot(inner, value.name())? == Slot::Follows;
            }
        }
        let gives = outputs.contains(&Slot::Follows);
        if inside && !gives {
            return None;
        }
        let role = if gives { Role::Typed } else { Role::Reader };
        let mut signature = Signature { role, inputs, outputs, denied: Vec::new() };
        for of in [FloatType::Fp16, FloatType::Bf16] {
            if gives && !schema.allows("V", of.element()) {
                let later = allowed_later(node, schema, "V", of);
                signature.denied.push((of, denial(node, schema, of, later)));
            }
        }
        Some(signature)
    }

    /// A Cast takes everything; to one of the three types it gives what it is assigned.
    fn of_cast(
        node: &NodeProto,
        schema: &OpSchema,
        float: impl Fn(&String) -> Option<FloatType>,
    ) -> Signature {
        let from = node.input.first().and_then(&float);
        let to = node.output.first().and_then(&float);
        let (role, output) = match (from, to) {
            (Some(_), Some(_)) => (Role::Transparent, Slot::Fixed),
            (None, Some(_)) => (Role::Typed, Slot::Follows),
            (_, None) => (Role::Reader, Slot::Free),
        };
        let mut signature =
            Signature { role, inputs: vec![Slot::Free], outputs: vec![output], denied: Vec::new() };
        if signature.role == Role::Typed && !schema.allows("T2", FloatType::Bf16.element()) {
            let later = allowed_later(node, schema, "T2", FloatType::Bf16);
            signature.denied.push((FloatType::Bf16, denial(node, schema, FloatType::Bf16, later)));
        }
        signature
    }

    /// Does each result that follows have the type of something that is read?
    fn is_bound(&self, node: &NodeProto, schema: &OpSchema) -> bool {
        let parameter = |param: Option<&onnx::Param>| match param.map(|p| &p.of) {
            Some(ParamType::Parameter(name)) => Some(*name),
            _ => None,
        };
        let read = node.input.iter().enumerate().filter(|(_, name)| !name.is_empty());
        let bound: BTreeSet<_> = read.filter_map(|(i, _)| parameter(schema.input(i))).collect();
        let follows = self.outputs.iter().enumerate().filter(|(_, slot)| **slot == Slot::Follows);
        follows.filter_map(|(i, _)| parameter(schema.output(i))).all(|name| bound.contains(name))
    }

    fn by_schema(
        node: &NodeProto,
        schema: &OpSchema,
        float: impl Fn(&String) -> Option<FloatType>,
    ) -> Signature {
        // The statistics that LayerNormalization can give have the type of its attribute `stash_type`.
        let stashed = |name: &str| node.op_type() == "LayerNormalization" && name == "U";
        let slot = |param: Option<&onnx::Param>, name: &String| match param {
            _ if float(name).is_none() => Slot::Free,
            Some(onnx::Param { arity: Arity::Heterogeneous, .. }) | None => Slot::Fixed,
            Some(onnx::Param { of: ParamType::Fixed(_), .. }) => Slot::Fixed,
            Some(onnx::Param { of: ParamType::Parameter(p), .. }) if stashed(p) => Slot::Fixed,
            Some(_) => Slot::Follows,
        };
        let inputs: Vec<Slot> =
            node.input.iter().enumerate().map(|(i, name)| slot(schema.input(i), name)).collect();
        let outputs: Vec<Slot> =
            node.output.iter().enumerate().map(|(i, name)| slot(schema.output(i), name)).collect();

        let given = |slots: &[Slot], params: &dyn Fn(usize) -> Option<&'static str>| {
            let follows = slots.iter().enumerate().filter(|(_, slot)| **slot == Slot::Follows);
            follows.filter_map(|(i, _)| params(i)).collect::<BTreeSet<&str>>()
        };
        let parameter = |param: Option<&onnx::Param>| match param.map(|p| &p.of) {
            Some(ParamType::Parameter(name)) => Some(*name),
            _ => None,
        };
        let mut parameters = given(&inputs, &|i| parameter(schema.input(i)));
        parameters.extend(given(&outputs, &|i| parameter(schema.output(i))));
        let role = if outputs.contains(&Slot::Follows) {
            Role::Typed
        } else if node.output.iter().any(|name| float(name).is_some()) {
            Role::Opaque(format!("`{}` always gives the type that it has", node.op_type()))
        } else {
            Role::Reader
        };
        let mut signature = Signature { role, inputs, outputs, denied: Vec::new() };
        if let Role::Opaque(_) = signature.role {
            signature.inputs.fill(Slot::Fixed);
            return signature;
        }
        // What takes every type there is, such as Shape, takes what arrives.
        if signature.role == Role::Reader
            && parameters.iter().all(|p| takes_all(schema, p))
            && node.input.len() == 1
        {
            signature.inputs.fill(Slot::Free);
        }
        for of in [FloatType::Fp32, FloatType::Fp16, FloatType::Bf16] {
            if let Some(p) = parameters.iter().find(|p| !schema.allows(p, of.element())) {
                let later = allowed_later(node, schema, p, of);
                signature.denied.push((of, denial(node, schema, of, later)));
            }
        }
        signature
    }

    /// The opset from which on it can have this type, if it cannot have it in the model's.
    pub(super) fn allowed_since(&self, of: FloatType) -> Option<i64> {
        let (_, later) = self.denial(of)?.split_once(FROM_OPSET)?;
        later.split(' ').next()?.parse().ok()
    }

    /// Why the node cannot have this type, if it cannot.
    pub(super) fn denial(&self, of: FloatType) -> Option<&str> {
        self.denied.iter().find(|(denied, _)| *denied == of).map(|(_, why)| why.as_str())
    }
}

/// Does an operator make or take quantized values?
fn is_quantized(op: &str) -> bool {
    op.contains("Quantize") || op.contains("Dequantize") || computes_quantized(op)
}

/// Does an operator compute with quantized values, rather than make or unmake them?
pub(super) fn computes_quantized(op: &str) -> bool {
    op.starts_with("QLinear")
        || op.starts_with("DynamicQuantize")
        || ["ConvInteger", "MatMulInteger", "MatMulIntegerToFloat"].contains(&op)
}

fn takes_all(schema: &OpSchema, parameter: &str) -> bool {
    [FloatType::Fp32, FloatType::Fp16, FloatType::Bf16].iter().all(|f| schema.allows(parameter, f.element()))
}

/// The first opset after this schema in which a parameter of the operator may have the type.
fn allowed_later(node: &NodeProto, schema: &OpSchema, parameter: &str, of: FloatType) -> Option<i64> {
    let mut later = (schema.since_version + 1..=onnx::MAX_OPSET)
        .filter_map(|version| onnx::schema(node.domain(), node.op_type(), version));
    later.find(|schema| schema.allows(parameter, of.element())).map(|schema| schema.since_version)
}

fn denial(node: &NodeProto, schema: &OpSchema, of: FloatType, later: Option<i64>) -> String {
    let (op, name) = (node.op_type(), of.name());
    match later {
        Some(later) if later > schema.since_version => {
            format!("ONNX has `{op}` in {name}{FROM_OPSET}{later} on only")
        }
        _ => format!("ONNX has no `{op}` in {name}"),
    }
}
