//! Tensors: element types, sizes, and one way to hold data.
//!
//! ONNX has seven places for the elements of a tensor. After [`fold`], elements of every type but
//! `string` are little-endian bytes in `raw_data`; a tensor whose data does not fit its shape and
//! type has become an error.

use bytes::Bytes;

use super::proto::TensorProto;
use super::proto::tensor_proto::{DataLocation, DataType};
use crate::digest::Digest;

/// The largest dimension: TensorRT keeps 32 bits of larger ones and says nothing.
pub(super) const MAX_DIM: i64 = i32::MAX as i64;

/// The highest rank. Far above what any operator takes, and small enough to be harmless.
pub(in crate::onnx) const MAX_RANK: usize = 64;

/// Element types in ONNX's words, lower case, with the bits of an element, by number.
const ELEMENTS: [(&str, u64); 27] = [
    ("undefined", 0),
    ("float", 32),
    ("uint8", 8),
    ("int8", 8),
    ("uint16", 16),
    ("int16", 16),
    ("int32", 32),
    ("int64", 64),
    ("string", 0),
    ("bool", 8),
    ("float16", 16),
    ("double", 64),
    ("uint32", 32),
    ("uint64", 64),
    ("complex64", 64),
    ("complex128", 128),
    ("bfloat16", 16),
    ("float8e4m3fn", 8),
    ("float8e4m3fnuz", 8),
    ("float8e5m2", 8),
    ("float8e5m2fnuz", 8),
    ("uint4", 4),
    ("int4", 4),
    ("float4e2m1", 4),
    ("float8e8m0", 8),
    ("uint2", 2),
    ("int2", 2),
];

// A `TypeSet` has a bit for each.
const _: () = assert!(ELEMENTS.len() <= 32);

/// Name of an element type: `float`, `int64`, …; none for a number that ONNX does not define.
pub fn element_name(data_type: i32) -> Option<&'static str> {
    usize::try_from(data_type).ok().and_then(|i| ELEMENTS.get(i)).map(|(name, _)| *name)
}

/// The numbers of all element types that a tensor can have.
pub(super) fn elements() -> impl Iterator<Item = i32> {
    (1..).take(ELEMENTS.len() - 1)
}

/// The element type of this name.
pub(super) fn element_named(name: &str) -> Option<i32> {
    elements().find(|element| element_name(*element) == Some(name))
}

fn element_bits(data_type: i32) -> Option<u64> {
    usize::try_from(data_type).ok().and_then(|i| ELEMENTS.get(i)).map(|(_, bits)| *bits)
}

/// The number of elements, or why there is none.
pub(super) fn element_count(dims: &[i64]) -> Result<u64, String> {
    if dims.len() > MAX_RANK {
        return Err(format!("has {} dimensions; at most {MAX_RANK} are allowed", dims.len()));
    }
    for (axis, dim) in dims.iter().enumerate() {
        check_dim(axis, *dim)?;
    }
    // A zero anywhere makes the product zero, whatever the others are.
    if dims.contains(&0) {
        return Ok(0);
    }
    dims.iter()
        .try_fold(1u64, |product, dim| product.checked_mul(dim.unsigned_abs()))
        .filter(|count| *count <= i64::MAX as u64)
        .ok_or_else(|| format!("has shape {dims:?}, whose number of elements overflows"))
}

/// Is it a dimension that 32 bits hold?
pub(super) fn check_dim(axis: usize, dim: i64) -> Result<(), String> {
    if dim < 0 {
        return Err(format!("has the negative dimension {dim} at axis {axis}"));
    }
    if dim > MAX_DIM {
        return Err(format!("has dimension {dim} at axis {axis}, beyond 32 bits: TensorRT would cut it off"));
    }
    Ok(())
}

/// Size of the raw data in bytes; none for strings. An error for undefined element types and bad dims.
pub(super) fn byte_size(tensor: &TensorProto) -> Result<Option<u64>, String> {
    let count = element_count(&tensor.dims)?;
    if tensor.data_type() == DataType::String as i32 {
        return Ok(None);
    }
    match element_bits(tensor.data_type()) {
        None | Some(0) => Err(format!("has element type {}, which is not known", tensor.data_type())),
        Some(bits) => {
            let total = count
                .checked_mul(bits)
                .ok_or_else(|| format!("has shape {:?}: its size overflows", tensor.dims))?;
            Ok(Some(total.div_ceil(8)))
        }
    }
}

/// Is its data in another file?
pub(super) fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location == Some(DataLocation::External as i32)
}

/// Moves the elements into `raw_data` and checks that they fit the shape and the type. The data of
/// an external tensor is given as `external`.
pub(super) fn fold(tensor: &mut TensorProto, external: Option<Bytes>) -> Result<(), String> {
    let size = byte_size(tensor)?;
    if tensor.segment.is_some() {
        return Err("is stored in segments, which nothing reads".to_owned());
    }
    let Some(size) = size else {
        let count = element_count(&tensor.dims)?;
        if tensor.string_data.len() as u64 != count {
            return Err(format!(
                "has {} strings where its shape {:?} wants {count}",
                tensor.string_data.len(),
                tensor.dims
            ));
        }
        return clear(tensor, None);
    };
    let data = match external {
        Some(data) => data,
        None => inline_data(tensor)?,
    };
    if data.len() as u64 != size {
        let element = element_name(tensor.data_type()).unwrap_or("undefined");
        return Err(format!(
            "has {} bytes of data where its type {element} and shape {:?} want {size}",
            data.len(),
            tensor.dims
        ));
    }
    clear(tensor, Some(data))
}

/// Leaves `data` as the only one. Fails if a field was filled that does not belong to the type.
fn clear(tensor: &mut TensorProto, data: Option<Bytes>) -> Result<(), String> {
    if data.is_none() {
        if tensor.raw_data.as_ref().is_some_and(|raw| !raw.is_empty()) || is_external(tensor) {
            return Err("holds strings as raw data, which ONNX does not allow".to_owned());
        }
    } else if !tensor.string_data.is_empty() {
        return Err("holds strings, but its type is not string".to_owned());
    }
    tensor.raw_data = data;
    tensor.float_data = Vec::new();
    tensor.int32_data = Vec::new();
    tensor.int64_data = Vec::new();
    tensor.double_data = Vec::new();
    tensor.uint64_data = Vec::new();
    tensor.external_data = Vec::new();
    tensor.data_location = None;
    Ok(())
}

fn inline_data(tensor: &mut TensorProto) -> Result<Bytes, String> {
    let filled = [
        ("float_data", tensor.float_data.len()),
        ("int32_data", tensor.int32_data.len()),
        ("int64_data", tensor.int64_data.len()),
        ("double_data", tensor.double_data.len()),
        ("uint64_data", tensor.uint64_data.len()),
    ];
    let mut filled = filled.into_iter().filter(|(_, len)| *len > 0).map(|(field, _)| field);
    let (first, second) = (filled.next(), filled.next());
    let raw = tensor.raw_data.take().unwrap_or_default();
    let Some(field) = first else { return Ok(raw) };
    if let Some(other) = second.or((!raw.is_empty()).then_some("raw_data")) {
        return Err(format!("has data in both `{field}` and `{other}`"));
    }
    use DataType as T;
    let element = T::try_from(tensor.data_type()).unwrap_or(T::Undefined);
    let bytes = match (field, element) {
        ("float_data", T::Float | T::Complex64) => flat(&tensor.float_data, |v| v.to_le_bytes()),
        ("double_data", T::Double | T::Complex128) => flat(&tensor.double_data, |v| v.to_le_bytes()),
        ("int64_data", T::Int64) => flat(&tensor.int64_data, |v| v.to_le_bytes()),
        ("uint64_data", T::Uint64) => flat(&tensor.uint64_data, |v| v.to_le_bytes()),
        ("uint64_data", T::Uint32) => {
            in_range(&tensor.uint64_data, field, 0, u64::from(u32::MAX))?;
            #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
            flat(&tensor.uint64_data, |v| (v as u32).to_le_bytes())
        }
        ("int32_data", T::Int32) => flat(&tensor.int32_data, |v| v.to_le_bytes()),
        #[expect(clippy::cast_possible_truncation, reason = "the range was checked; signs keep their bits")]
        ("int32_data", _) => match element_bits(tensor.data_type()) {
            Some(16) => {
                in_range(&tensor.int32_data, field, i32::from(i16::MIN), i32::from(u16::MAX))?;
                flat(&tensor.int32_data, |v| (v as i16).to_le_bytes())
            }
            // Below 8 bits, one entry is one byte of packed elements.
            Some(2 | 4 | 8) => {
                in_range(&tensor.int32_data, field, i32::from(i8::MIN), i32::from(u8::MAX))?;
                flat(&tensor.int32_data, |v| [v as u8])
            }
            _ => return Err(wrong_field(field, tensor)),
        },
        _ => return Err(wrong_field(field, tensor)),
    };
    Ok(bytes)
}

fn wrong_field(field: &str, tensor: &TensorProto) -> String {
    let element = element_name(tensor.data_type()).unwrap_or("undefined");
    format!("has its data in `{field}`, which does not hold the type {element}")
}

fn flat<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Bytes {
    let mut raw = Vec::with_capacity(values.len() * N);
    for value in values {
        raw.extend_from_slice(&bytes(*value));
    }
    Bytes::from(raw)
}

fn in_range<T: Copy + PartialOrd + std::fmt::Display>(
    values: &[T],
    field: &str,
    min: T,
    max: T,
) -> Result<(), String> {
    match values.iter().find(|value| **value < min || **value > max) {
        Some(value) => Err(format!("has {value} in `{field}`, which its type does not hold")),
        None => Ok(()),
    }
}

/// Digest of element type, dims and data of a folded tensor.
pub(super) fn digest(tensor: &TensorProto) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&tensor.data_type().to_le_bytes());
    hasher.update(&(tensor.dims.len() as u64).to_le_bytes());
    for dim in &tensor.dims {
        hasher.update(&dim.to_le_bytes());
    }
    match &tensor.raw_data {
        // Threads pay off from about 128 KiB on.
        Some(raw) if raw.len() > 128 << 10 => {
            hasher.update_rayon(raw);
        }
        Some(raw) => {
            hasher.update(raw);
        }
        None => {
            for text in &tensor.string_data {
                hasher.update(&(text.len() as u64).to_le_bytes()).update(text);
            }
        }
    }
    hasher.finalize().into()
}

/// Bytes that the elements take.
pub(super) fn data_len(tensor: &TensorProto) -> u64 {
    let strings: usize = tensor.string_data.iter().map(Bytes::len).sum();
    (tensor.raw_data.as_ref().map_or(0, Bytes::len) + strings) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(tensor: TensorProto) -> Result<Vec<u8>, String> {
        let mut tensor = tensor;
        fold(&mut tensor, None)?;
        Ok(tensor.raw_data.unwrap_or_default().to_vec())
    }

    fn of(element: DataType, dims: &[i64]) -> TensorProto {
        TensorProto { data_type: Some(element as i32), dims: dims.to_vec(), ..TensorProto::default() }
    }

    #[test]
    fn every_packing_becomes_raw() {
        let t = |element, dims: &[i64], int32_data: &[i32]| {
            folded(TensorProto { int32_data: int32_data.to_vec(), ..of(element, dims) })
        };
        assert_eq!(t(DataType::Float16, &[2], &[0x3c00, 0xfc00]), Ok(vec![0, 0x3c, 0, 0xfc]));
        assert_eq!(t(DataType::Int8, &[2], &[-1, 2]), Ok(vec![255, 2]));
        assert_eq!(t(DataType::Bool, &[1], &[1]), Ok(vec![1]));
        assert_eq!(t(DataType::Int4, &[3], &[0x21, 0x03]), Ok(vec![0x21, 3]));
        assert_eq!(t(DataType::Uint2, &[5], &[0xff, 0x01]), Ok(vec![0xff, 1]));
        assert_eq!(t(DataType::Int32, &[1], &[-2]), Ok(vec![0xfe, 255, 255, 255]));
        assert!(t(DataType::Int8, &[1], &[256]).is_err());
        assert!(t(DataType::Int64, &[1], &[1]).is_err());
        let float = TensorProto { float_data: vec![1.0], ..of(DataType::Float, &[1]) };
        assert_eq!(folded(float), Ok(vec![0, 0, 0x80, 0x3f]));
        let complex = TensorProto { float_data: vec![1.0, 0.0], ..of(DataType::Complex64, &[1]) };
        assert_eq!(folded(complex).map(|raw| raw.len()), Ok(8));
        let wide = TensorProto { uint64_data: vec![1 << 40], ..of(DataType::Uint32, &[1]) };
        assert!(folded(wide).is_err());
    }

    #[test]
    fn data_must_fit_shape_and_type() {
        let raw = |element, dims: &[i64], bytes: &'static [u8]| {
            folded(TensorProto { raw_data: Some(Bytes::from_static(bytes)), ..of(element, dims) })
        };
        assert!(raw(DataType::Float, &[1], b"1234").is_ok());
        assert!(raw(DataType::Float, &[], b"1234").is_ok());
        assert!(raw(DataType::Float, &[0, 7], b"").is_ok());
        assert!(raw(DataType::Float, &[2], b"1234").is_err());
        assert!(raw(DataType::Float, &[1], b"12345").is_err());
        assert!(raw(DataType::Float, &[-1], b"").is_err());
        assert!(raw(DataType::Float, &[1 << 40, 0], b"").is_err());
        assert!(raw(DataType::Float, &[1 << 30, 1 << 30, 1 << 30], b"").is_err());
        assert!(raw(DataType::Undefined, &[1], b"1").is_err());
        assert!(raw(DataType::String, &[1], b"1").is_err());
        let both = TensorProto {
            raw_data: Some(Bytes::from_static(b"1234")),
            float_data: vec![1.0],
            ..of(DataType::Float, &[1])
        };
        assert!(folded(both).is_err());
    }
}
