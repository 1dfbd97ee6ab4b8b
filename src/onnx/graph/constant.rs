//! Values that are known before the model runs.

use half::{bf16, f16};

use super::super::proto::tensor_proto::DataType;
use super::super::proto::{NodeProto, TensorProto};

/// How many elements are looked at to tell whether a tensor holds one value throughout. Weights are
/// mapped files: nothing here may read a large one.
const MAX_UNIFORM: usize = 4096;

/// How many integers a list of axes or a shape may have.
const MAX_INTS: usize = 1024;

/// The elements of a constant, wherever ONNX keeps them. Text and sparse tensors are none.
#[derive(Clone, Copy, Debug)]
pub enum Constant<'a> {
    /// An initializer, or the attribute `value` of a Constant.
    Tensor(&'a TensorProto),
    /// `value_float`.
    Float(f32),
    /// `value_floats`.
    Floats(&'a [f32]),
    /// `value_int`.
    Int(i64),
    /// `value_ints`.
    Ints(&'a [i64]),
}

impl<'a> Constant<'a> {
    /// What a Constant node holds.
    pub(super) fn of_node(node: &'a NodeProto) -> Option<Constant<'a>> {
        node.attribute.iter().filter(|a| a.ref_attr_name().is_empty()).find_map(|a| match a.name() {
            "value" => a.t.as_ref().map(Constant::Tensor),
            "value_float" => Some(Constant::Float(a.f())),
            "value_floats" => Some(Constant::Floats(&a.floats)),
            "value_int" => Some(Constant::Int(a.i())),
            "value_ints" => Some(Constant::Ints(&a.ints)),
            _ => None,
        })
    }

    /// Its dimensions.
    #[must_use]
    pub fn dims(&self) -> Vec<i64> {
        match self {
            Constant::Tensor(tensor) => tensor.dims.clone(),
            Constant::Float(_) | Constant::Int(_) => Vec::new(),
            Constant::Floats(list) => vec![i64::try_from(list.len()).unwrap_or(i64::MAX)],
            Constant::Ints(list) => vec![i64::try_from(list.len()).unwrap_or(i64::MAX)],
        }
    }

    /// The number of elements, if it can be told.
    fn count(&self) -> Option<usize> {
        let product = self.dims().iter().try_fold(1i64, |product, dim| product.checked_mul(*dim))?;
        usize::try_from(product).ok()
    }

    /// The value that every element has. None for an empty tensor, for differing elements, and for
    /// tensors too large to be looked through.
    #[must_use]
    pub fn uniform(&self) -> Option<f64> {
        let count = self.count().filter(|count| (1..=MAX_UNIFORM).contains(count))?;
        let first = self.get(0)?;
        (1..count).all(|i| self.get(i) == Some(first)).then_some(first)
    }

    /// The elements of an integer list: axes, a shape.
    #[must_use]
    pub fn ints(&self) -> Option<Vec<i64>> {
        match self {
            Constant::Int(value) => Some(vec![*value]),
            Constant::Ints(list) => (list.len() <= MAX_INTS).then(|| list.to_vec()),
            Constant::Float(_) | Constant::Floats(_) => None,
            Constant::Tensor(tensor) => {
                let count = self.count().filter(|count| *count <= MAX_INTS)?;
                let raw = tensor.raw_data.as_deref().unwrap_or_default();
                let element = DataType::try_from(tensor.data_type()).ok()?;
                (0..count)
                    .map(|i| match element {
                        DataType::Int64 => bytes(raw, i).map(i64::from_le_bytes),
                        DataType::Int32 => bytes(raw, i).map(i32::from_le_bytes).map(i64::from),
                        _ => None,
                    })
                    .collect()
            }
        }
    }

    /// An element as a number.
    #[must_use]
    pub fn get(&self, i: usize) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "constants of patterns are small")]
        let integer = |value: i64| value as f64;
        match self {
            Constant::Float(value) => (i == 0).then_some(f64::from(*value)),
            Constant::Int(value) => (i == 0).then_some(integer(*value)),
            Constant::Floats(list) => list.get(i).map(|value| f64::from(*value)),
            Constant::Ints(list) => list.get(i).map(|value| integer(*value)),
            Constant::Tensor(tensor) => {
                let raw = tensor.raw_data.as_deref().unwrap_or_default();
                match DataType::try_from(tensor.data_type()).ok()? {
                    DataType::Float => bytes(raw, i).map(f32::from_le_bytes).map(f64::from),
                    DataType::Double => bytes(raw, i).map(f64::from_le_bytes),
                    DataType::Float16 => bytes(raw, i).map(f16::from_le_bytes).map(f64::from),
                    DataType::Bfloat16 => bytes(raw, i).map(bf16::from_le_bytes).map(f64::from),
                    DataType::Int64 => bytes(raw, i).map(i64::from_le_bytes).map(integer),
                    DataType::Int32 => bytes(raw, i).map(i32::from_le_bytes).map(f64::from),
                    _ => None,
                }
            }
        }
    }
}

/// The bytes of element `i`.
fn bytes<const N: usize>(raw: &[u8], i: usize) -> Option<[u8; N]> {
    let start = i.checked_mul(N)?;
    raw.get(start..start.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{floats, ints, raw};
    use super::*;

    #[test]
    fn elements_of_every_float_type_are_read() {
        let get = |element, data: &[u8]| Constant::Tensor(&raw("c", element, &[], data.to_vec())).get(0);
        assert_eq!(get(DataType::Float, &1.5f32.to_le_bytes()), Some(1.5));
        assert_eq!(get(DataType::Double, &1.5f64.to_le_bytes()), Some(1.5));
        assert_eq!(get(DataType::Float16, &0x3e00u16.to_le_bytes()), Some(1.5));
        assert_eq!(get(DataType::Float16, &0x0001u16.to_le_bytes()), Some(2f64.powi(-24)));
        assert_eq!(get(DataType::Float16, &0xfc00u16.to_le_bytes()), Some(f64::NEG_INFINITY));
        assert_eq!(get(DataType::Bfloat16, &0x3fc0u16.to_le_bytes()), Some(1.5));
        assert_eq!(get(DataType::Int64, &7i64.to_le_bytes()), Some(7.0));
        assert_eq!(get(DataType::Bool, &[1]), None);
        assert_eq!(get(DataType::Float, &[0, 0]), None);
    }

    #[test]
    fn one_value_throughout() {
        assert_eq!(Constant::Tensor(&floats("c", &[2, 2], &[0.5; 4])).uniform(), Some(0.5));
        assert_eq!(Constant::Tensor(&floats("c", &[2], &[0.5, 0.6])).uniform(), None);
        assert_eq!(Constant::Tensor(&floats("c", &[0], &[])).uniform(), None);
        assert_eq!(Constant::Tensor(&floats("c", &[8192], &[1.0; 8192])).uniform(), None);
        assert_eq!(Constant::Tensor(&ints("c", &[2], &[1, -1])).ints(), Some(vec![1, -1]));
    }
}
