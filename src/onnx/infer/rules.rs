//! Types of a node's outputs: by its schema, and by operator where an attribute or the inside of a sequence
//! decides.

use std::collections::BTreeMap;

use super::super::element::Type;
use super::super::proto::tensor_proto::DataType;
use super::super::proto::{AttributeProto, NodeProto};
use super::super::schema::{Arity, OpSchema, ParamType};

/// The attributes of a node. One that refers to an attribute of the function around it is looked up there.
#[derive(Clone, Copy)]
pub(super) struct Attributes<'f, 'm> {
    node: &'m NodeProto,
    function: &'f BTreeMap<&'m str, &'m AttributeProto>,
}

impl<'f, 'm> Attributes<'f, 'm> {
    pub(super) fn new(node: &'m NodeProto, function: &'f BTreeMap<&'m str, &'m AttributeProto>) -> Self {
        Attributes { node, function }
    }

    fn resolve(&self, attribute: &'m AttributeProto) -> Option<&'m AttributeProto> {
        match attribute.ref_attr_name() {
            "" => Some(attribute),
            name => self.function.get(name).copied(),
        }
    }

    fn get(&self, name: &str) -> Option<&'m AttributeProto> {
        self.resolve(self.node.attribute.iter().find(|a| a.name() == name)?)
    }

    /// All attributes by the names that the node gives them.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'m str, &'m AttributeProto)> {
        self.node.attribute.iter().filter_map(|a| Some((a.name(), self.resolve(a)?)))
    }

    pub(super) fn int(&self, name: &str) -> Option<i64> {
        self.get(name).map(|a| a.i())
    }

    /// An element type given by number. None if it is not given, or 0.
    fn element(&self, name: &str) -> Option<Type> {
        self.int(name).filter(|i| *i != 0).map(|i| i32::try_from(i).map_or(Type::Unknown, Type::tensor))
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

/// What the inputs of a node bind a type parameter to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// One type, maybe an unknown one.
    Type(Type),
    /// Types that contradict each other: the first two, with the indices of their inputs.
    Conflict((usize, Type), (usize, Type)),
}

/// Binds the type parameters of a schema to the types of inputs.
pub(super) fn bind<'s>(schema: &'s OpSchema, inputs: &[Type]) -> BTreeMap<&'s str, Binding> {
    let mut bound: BTreeMap<&str, (usize, Binding)> = BTreeMap::new();
    for (i, of) in inputs.iter().enumerate().filter(|(_, of)| !of.is_unknown()) {
        let Some(param) = schema.input(i).filter(|p| p.arity != Arity::Heterogeneous) else { continue };
        let ParamType::Parameter(name) = &param.of else { continue };
        match bound.get_mut(name) {
            None => {
                bound.insert(name, (i, Binding::Type(of.clone())));
            }
            Some((first, binding)) => {
                if let Binding::Type(before) = binding {
                    *binding = match before.unify(of) {
                        Some(both) => Binding::Type(both),
                        None => Binding::Conflict((*first, before.clone()), (i, of.clone())),
                    };
                }
            }
        }
    }
    bound.into_iter().map(|(name, (_, binding))| (name, binding)).collect()
}

/// Types of outputs as the schema tells: fixed, that of the inputs with the same parameter, or the only one that
/// the parameter may be. Where inputs contradict each other, the output is unknown.
pub(super) fn by_schema(schema: &OpSchema, inputs: &[Type], outputs: usize) -> Vec<Type> {
    let bound = bind(schema, inputs);
    let of = |i: usize| {
        let param = schema.output(i)?;
        let name = match &param.of {
            ParamType::Fixed(of) => return Some(of.clone()),
            ParamType::Parameter(name) => name,
        };
        match bound.get(name) {
            Some(Binding::Conflict(..)) => None,
            Some(Binding::Type(of)) if param.arity != Arity::Heterogeneous => Some(of.clone()),
            _ => schema.constraints.get(name)?.single(),
        }
    };
    (0..outputs).map(|i| of(i).unwrap_or_default()).collect()
}

/// Corrects types of outputs where more than the schema decides. Operators of one name mean the same in
/// all their versions, as far as types go.
pub(super) fn by_operator(
    domain: &str,
    op: &str,
    inputs: &[Type],
    attributes: Attributes<'_, '_>,
    made: &mut [Type],
) {
    let rule = match domain {
        "" => standard(op, inputs, attributes, made),
        "ai.onnx.ml" => classic(op, inputs, attributes),
        "com.microsoft" => contributed(op, inputs),
        _ => None,
    };
    if let (Some(of), Some(first)) = (rule, made.first_mut()) {
        *first = of;
    }
}

fn given(inputs: &[Type], i: usize) -> Type {
    inputs.get(i).cloned().unwrap_or_default()
}

/// The first output of an operator of ONNX itself; none if the schema tells it.
fn standard(op: &str, inputs: &[Type], attributes: Attributes<'_, '_>, made: &mut [Type]) -> Option<Type> {
    let float = Type::Tensor(DataType::Float);
    let element = |name, default| Some(attributes.element(name).unwrap_or(default));
    match op {
        "BitCast" => element("to", Type::Unknown),
        "Cast" => {
            // Before opset 6 the type was a word.
            let word = attributes.get("to").and_then(|a| std::str::from_utf8(a.s()).ok());
            let word = word.and_then(|word| DataType::from_str_name(&word.to_ascii_uppercase()));
            element("to", word.map_or(Type::Unknown, Type::Tensor))
        }
        "Constant" => Some(constant(attributes)),
        "ConstantOfShape" => {
            let value = attributes.get("value").map(|a| a.t.as_ref().map_or(0, |t| t.data_type()));
            Some(value.map_or(float, Type::tensor))
        }
        "RandomNormal" | "RandomUniform" => element("dtype", float),
        "HannWindow" | "HammingWindow" | "BlackmanWindow" | "MelWeightMatrix" => {
            element("output_datatype", float)
        }
        "EyeLike" | "RandomNormalLike" | "RandomUniformLike" | "Bernoulli" => {
            element("dtype", given(inputs, 0))
        }
        "Multinomial" => element("dtype", Type::Tensor(DataType::Int32)),
        "QuantizeLinear" if inputs.len() < 3 || given(inputs, 2).is_unknown() => match attributes
            .element("output_dtype")
        {
            Some(of) => Some(of),
            // A zero point that is there, but of an unknown type, decides.
            None if attributes.node.input.get(2).is_some_and(|name| !name.is_empty()) => Some(Type::Unknown),
            None => Some(Type::Tensor(DataType::Uint8)),
        },
        "DequantizeLinear" => match attributes.element("output_dtype") {
            None if given(made, 0).is_unknown() => Some(given(inputs, 1)),
            of => of,
        },
        "LayerNormalization" | "SimplifiedLayerNormalization" => {
            let stash = attributes.element("stash_type").unwrap_or(float);
            made.iter_mut().skip(1).for_each(|of| *of = stash.clone());
            None
        }
        "Optional" => {
            let of =
                attributes.get("type").map_or_else(|| given(inputs, 0), |a| Type::declared(a.tp.as_ref()));
            Some(Type::optional(of))
        }
        "OptionalGetElement" => Some(match given(inputs, 0) {
            Type::Optional(of) => *of,
            of => of,
        }),
        "SequenceEmpty" => Some(Type::sequence(attributes.element("dtype").unwrap_or(float))),
        "SequenceConstruct" => {
            let of = inputs.iter().try_fold(Type::Unknown, |of, input| of.unify(input));
            Some(Type::sequence(of.unwrap_or_default()))
        }
        "SplitToSequence" => Some(Type::sequence(given(inputs, 0))),
        "SequenceInsert" => {
            let all = given(inputs, 0).unify(&Type::sequence(given(inputs, 1)));
            Some(all.unwrap_or_default())
        }
        "SequenceAt" | "ConcatFromSequence" => Some(given(inputs, 0).item()),
        _ => None,
    }
}

fn constant(attributes: Attributes<'_, '_>) -> Type {
    let value = attributes.all().find_map(|(name, a)| {
        Some(match name {
            "value" => Type::tensor(a.t.as_ref()?.data_type()),
            "sparse_value" => Type::tensor(a.sparse_tensor.as_ref()?.values.as_ref()?.data_type()),
            "value_float" | "value_floats" => Type::Tensor(DataType::Float),
            "value_int" | "value_ints" => Type::Tensor(DataType::Int64),
            "value_string" | "value_strings" => Type::Tensor(DataType::String),
            _ => return None,
        })
    });
    value.unwrap_or_default()
}

/// The first output of an operator of classic machine learning.
fn classic(op: &str, inputs: &[Type], attributes: Attributes<'_, '_>) -> Option<Type> {
    let (string, int) = (Type::Tensor(DataType::String), Type::Tensor(DataType::Int64));
    let has = |name| attributes.has(name);
    match op {
        "CastMap" => Some(match attributes.get("cast_to").map_or(b"TO_FLOAT".as_slice(), |a| a.s()) {
            b"TO_FLOAT" => Type::Tensor(DataType::Float),
            b"TO_STRING" => string,
            b"TO_INT64" => int,
            _ => Type::Unknown,
        }),
        "DictVectorizer" => match given(inputs, 0) {
            Type::Map(_, value) => Some(Type::Tensor(value)),
            _ => None,
        },
        "CategoryMapper" => other_of(&given(inputs, 0), &string, &int),
        "LabelEncoder" if has("classes_strings") => other_of(&given(inputs, 0), &string, &int),
        "LabelEncoder" => {
            let tensor = || Some(Type::tensor(attributes.get("values_tensor")?.t.as_ref()?.data_type()));
            let kinds = [
                ("values_strings", string),
                ("values_int64s", int),
                ("values_floats", Type::Tensor(DataType::Float)),
            ];
            tensor().or_else(|| kinds.into_iter().find(|(name, _)| has(name)).map(|(_, of)| of))
        }
        "LinearClassifier" | "SVMClassifier" | "TreeEnsembleClassifier" => {
            let strings = attributes.get("classlabels_strings").is_some_and(|a| !a.strings.is_empty());
            Some(if strings { string } else { int })
        }
        "ZipMap" => {
            let strings = attributes.get("classlabels_strings").is_some_and(|a| !a.strings.is_empty());
            let key = if strings { DataType::String } else { DataType::Int64 };
            Some(Type::sequence(Type::Map(key, DataType::Float)))
        }
        _ => None,
    }
}

/// `a` for `b`, and `b` for `a`.
fn other_of(of: &Type, a: &Type, b: &Type) -> Option<Type> {
    if of == a { Some(b.clone()) } else { (of == b).then(|| a.clone()) }
}

/// The first output of an operator that ONNX Runtime adds.
fn contributed(op: &str, inputs: &[Type]) -> Option<Type> {
    match op {
        "QuantizeLinear" if inputs.len() < 3 => Some(Type::Tensor(DataType::Uint8)),
        "QGemm" if inputs.len() > 8 => Some(given(inputs, 8)),
        "QGemm" => Some(Type::Tensor(DataType::Float)),
        _ => None,
    }
}
