//! Types of values: an element type for a tensor, and what can be built of tensors.

use std::fmt;

use super::proto::tensor_proto::DataType;
use super::proto::{TypeProto, type_proto};
use super::tensor::{element_name, element_named, elements};

/// The type of a value, without its shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Type {
    /// Nothing says what it is: not an error, but a value that every reader must handle.
    #[default]
    Unknown,
    /// A tensor, dense or sparse.
    Tensor(DataType),
    /// A list of values of one type.
    Sequence(Box<Type>),
    /// A value or nothing.
    Optional(Box<Type>),
    /// Keys and values.
    Map(DataType, DataType),
}

static UNKNOWN: Type = Type::Unknown;

impl Type {
    /// A reference to [`Type::Unknown`].
    pub(super) fn unknown() -> &'static Type {
        &UNKNOWN
    }

    /// A tensor of elements of this number; unknown for one that ONNX does not define.
    #[must_use]
    pub fn tensor(element: i32) -> Type {
        match DataType::try_from(element) {
            Ok(DataType::Undefined) | Err(_) => Type::Unknown,
            Ok(element) => Type::Tensor(element),
        }
    }

    /// A sequence of these.
    #[must_use]
    pub fn sequence(of: Type) -> Type {
        Type::Sequence(Box::new(of))
    }

    /// An optional one of these.
    #[must_use]
    pub fn optional(of: Type) -> Type {
        Type::Optional(Box::new(of))
    }

    /// What a file declares.
    #[must_use]
    pub fn declared(of: Option<&TypeProto>) -> Type {
        use type_proto::Value as V;
        match of.and_then(|of| of.value.as_ref()) {
            Some(V::TensorType(tensor)) => Type::tensor(tensor.elem_type()),
            Some(V::SparseTensorType(tensor)) => Type::tensor(tensor.elem_type()),
            Some(V::SequenceType(of)) => Type::sequence(Type::declared(of.elem_type.as_deref())),
            Some(V::OptionalType(of)) => Type::optional(Type::declared(of.elem_type.as_deref())),
            Some(V::MapType(map)) => {
                match (DataType::try_from(map.key_type()), Type::declared(map.value_type.as_deref())) {
                    (Ok(key), Type::Tensor(value)) => Type::Map(key, value),
                    _ => Type::Unknown,
                }
            }
            Some(V::OpaqueType(_)) | None => Type::Unknown,
        }
    }

    /// The element type, if it is a tensor.
    #[must_use]
    pub fn element(&self) -> Option<DataType> {
        match self {
            Type::Tensor(element) => Some(*element),
            _ => None,
        }
    }

    /// Is nothing known?
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Type::Unknown
    }

    /// What the elements of a sequence are; unknown for all else.
    pub(super) fn item(&self) -> Type {
        match self {
            Type::Sequence(of) => (**of).clone(),
            _ => Type::Unknown,
        }
    }

    /// What both say together; none if they contradict each other.
    #[must_use]
    pub fn unify(&self, other: &Type) -> Option<Type> {
        match (self, other) {
            (Type::Unknown, known) | (known, Type::Unknown) => Some(known.clone()),
            (Type::Sequence(a), Type::Sequence(b)) => a.unify(b).map(Type::sequence),
            (Type::Optional(a), Type::Optional(b)) => a.unify(b).map(Type::optional),
            (a, b) => (a == b).then(|| a.clone()),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |element: &DataType| element_name(*element as i32).unwrap_or("undefined");
        match self {
            Type::Unknown => f.write_str("unknown"),
            Type::Tensor(element) => f.write_str(name(element)),
            Type::Sequence(of) => write!(f, "sequence of {of}"),
            Type::Optional(of) => write!(f, "optional {of}"),
            Type::Map(key, value) => write!(f, "map from {} to {}", name(key), name(value)),
        }
    }
}

/// A set of types that a parameter of an operator may be. Each element type is a bit, by its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TypeSet {
    tensors: u32,
    sequences: u32,
    optionals: u32,
    optional_sequences: u32,
    maps: bool,
    sequences_of_maps: bool,
}

impl TypeSet {
    /// Adds a type, written as in `schema.txt`: `float`, `seq(float)`, `optional(seq(float))`, `map`.
    pub(super) fn insert(&mut self, word: &str) -> bool {
        let inner = |text: &'_ str, outer: &str| {
            text.strip_prefix(outer).and_then(|t| t.strip_suffix(')')).map(str::to_owned)
        };
        let (field, name) = if word == "map" {
            self.maps = true;
            return true;
        } else if word == "seq(map)" {
            self.sequences_of_maps = true;
            return true;
        } else if let Some(name) = inner(word, "optional(seq(").and_then(|t| inner(&t, "")) {
            (&mut self.optional_sequences, name)
        } else if let Some(name) = inner(word, "optional(") {
            (&mut self.optionals, name)
        } else if let Some(name) = inner(word, "seq(") {
            (&mut self.sequences, name)
        } else {
            (&mut self.tensors, word.to_owned())
        };
        let Some(element) = element_named(&name) else { return false };
        *field |= 1 << element;
        true
    }

    /// May it be this type? What is unknown may be anything.
    #[must_use]
    pub fn contains(&self, of: &Type) -> bool {
        let has = |set: u32, element: &DataType| set & (1 << (*element as u32)) != 0;
        match of {
            Type::Unknown => true,
            Type::Tensor(element) => has(self.tensors, element),
            Type::Map(..) => self.maps,
            Type::Sequence(of) => match &**of {
                Type::Unknown => self.sequences != 0 || self.sequences_of_maps,
                Type::Tensor(element) => has(self.sequences, element),
                Type::Map(..) => self.sequences_of_maps,
                Type::Sequence(_) | Type::Optional(_) => false,
            },
            Type::Optional(of) => match &**of {
                Type::Unknown => self.optionals != 0 || self.optional_sequences != 0,
                Type::Tensor(element) => has(self.optionals, element),
                Type::Sequence(of) => match &**of {
                    Type::Unknown => self.optional_sequences != 0,
                    Type::Tensor(element) => has(self.optional_sequences, element),
                    _ => false,
                },
                Type::Map(..) | Type::Optional(_) => false,
            },
        }
    }

    /// The element types of tensors in it.
    pub fn elements(&self) -> impl Iterator<Item = DataType> + use<> {
        let tensors = self.tensors;
        elements().filter(move |i| tensors & (1 << i) != 0).filter_map(|i| DataType::try_from(i).ok())
    }

    /// Its type, if there is but one.
    #[must_use]
    pub fn single(&self) -> Option<Type> {
        let only = TypeSet { tensors: self.tensors, ..TypeSet::default() };
        (self.tensors.is_power_of_two() && *self == only)
            .then(|| self.elements().next().map(Type::Tensor))
            .flatten()
    }
}
