//! Constants in another type, and what is lost on the way.

use bytes::Bytes;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use super::float::FloatType;
use crate::fs;
use crate::onnx::proto::TensorProto;

/// What a conversion loses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Loss {
    /// Finite values beyond the type's largest one.
    pub(super) overflows: u64,
    /// The first of these.
    pub(super) first_overflow: Option<f32>,
    /// Are some of these positive?
    pub(super) positive: bool,
    /// Are some of these negative?
    pub(super) negative: bool,
    /// Values other than zero that become zero.
    pub(super) vanish: u64,
    /// The first of these.
    pub(super) first_vanished: Option<f32>,
    /// The largest magnitude of what came of it.
    pub(super) largest: f32,
    /// How many values there are.
    pub(super) of: u64,
}

impl Loss {
    fn and(self, next: Loss) -> Loss {
        Loss {
            overflows: self.overflows + next.overflows,
            first_overflow: self.first_overflow.or(next.first_overflow),
            positive: self.positive || next.positive,
            negative: self.negative || next.negative,
            vanish: self.vanish + next.vanish,
            first_vanished: self.first_vanished.or(next.first_vanished),
            largest: self.largest.max(next.largest),
            of: self.of + next.of,
        }
    }
}

/// Values per piece of work.
const PIECE: usize = 1 << 16;

/// The largest finite value.
pub(super) fn largest(of: FloatType) -> f32 {
    match of {
        FloatType::Fp32 => f32::MAX,
        FloatType::Fp16 => 65504.0,
        FloatType::Bf16 => bf16::MAX.to_f32(),
    }
}

/// Smaller magnitudes may become zero.
fn smallest(of: FloatType) -> f32 {
    match of {
        FloatType::Fp32 => 0.0,
        FloatType::Fp16 => f16::MIN_POSITIVE_SUBNORMAL.to_f32(),
        FloatType::Bf16 => bf16::MIN_POSITIVE_SUBNORMAL.to_f32(),
    }
}

/// The tensor in another type, rounded to nearest, ties to even; its dims and name stay.
pub(super) fn convert(tensor: &TensorProto, to: FloatType) -> (TensorProto, Loss) {
    let raw = tensor.raw_data.clone().unwrap_or_default();
    let from = FloatType::of_element(tensor.data_type()).unwrap_or(FloatType::Fp32);
    let (data, loss) = convert_bytes(&raw, from, to);
    let tensor = TensorProto { data_type: Some(to.element() as i32), raw_data: Some(data), ..tensor.clone() };
    (tensor, loss)
}

/// The same, but what is below the lowest number becomes that, and not minus infinity.
pub(super) fn convert_mask(tensor: &TensorProto, to: FloatType) -> TensorProto {
    let raw = tensor.raw_data.clone().unwrap_or_default();
    if tensor.data_type() != FloatType::Fp32.element() as i32 {
        return convert(tensor, to).0;
    }
    let lowest = -largest(to);
    let raised = raw.chunks_exact(4).flat_map(|b| {
        let value = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        if value.is_finite() { value.max(lowest) } else { value }.to_le_bytes()
    });
    let raised = TensorProto { raw_data: Some(raised.collect::<Vec<u8>>().into()), ..tensor.clone() };
    convert(&raised, to).0
}

fn convert_bytes(raw: &Bytes, from: FloatType, to: FloatType) -> (Bytes, Loss) {
    let count = (raw.len() / from.width()) as u64;
    if from == to {
        return (raw.clone(), Loss { of: count, ..Loss::default() });
    }
    let mut loss = Loss::default();
    let data = fs::make_bytes(raw.len() / from.width() * to.width(), |data| {
        let pieces = data.par_chunks_mut(PIECE * to.width()).zip(raw.par_chunks(PIECE * from.width()));
        // In order: what is lost first is named.
        loss =
            pieces.map(|(data, piece)| convert_piece(piece, from, data, to)).reduce(Loss::default, Loss::and);
    });
    (data, loss)
}

/// Values that are converted by one instruction after another.
const BLOCK: usize = 1024;

fn convert_piece(piece: &[u8], from: FloatType, data: &mut [u8], to: FloatType) -> Loss {
    let (mut wide, mut loss) = ([0f32; BLOCK], Loss::default());
    for (raw, data) in piece.chunks(BLOCK * from.width()).zip(data.chunks_mut(BLOCK * to.width())) {
        let values = &mut wide[..raw.len() / from.width()];
        decode(raw, from, values);
        encode(values, data, to);
        loss = loss.and(lost(values, to));
    }
    loss
}

fn decode(raw: &[u8], from: FloatType, values: &mut [f32]) {
    match from {
        FloatType::Fp32 => {
            for (value, bytes) in values.iter_mut().zip(raw.chunks_exact(4)) {
                *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        }
        FloatType::Fp16 => {
            let mut halves = [f16::ZERO; BLOCK];
            for (half, bytes) in halves.iter_mut().zip(raw.chunks_exact(2)) {
                *half = f16::from_le_bytes([bytes[0], bytes[1]]);
            }
            halves[..values.len()].convert_to_f32_slice(values);
        }
        FloatType::Bf16 => {
            for (value, bytes) in values.iter_mut().zip(raw.chunks_exact(2)) {
                *value = bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
            }
        }
    }
}

fn encode(values: &[f32], data: &mut [u8], to: FloatType) {
    match to {
        FloatType::Fp32 => {
            for (bytes, value) in data.chunks_exact_mut(4).zip(values) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
        }
        FloatType::Fp16 => {
            let mut halves = [f16::ZERO; BLOCK];
            let halves = &mut halves[..values.len()];
            halves.convert_from_f32_slice(values);
            for (bytes, half) in data.chunks_exact_mut(2).zip(halves) {
                bytes.copy_from_slice(&half.to_le_bytes());
            }
        }
        FloatType::Bf16 => {
            for (bytes, value) in data.chunks_exact_mut(2).zip(values) {
                bytes.copy_from_slice(&bf16::from_f32(*value).to_le_bytes());
            }
        }
    }
}

/// The value as the type holds it.
fn rounded(value: f32, to: FloatType) -> f32 {
    match to {
        FloatType::Fp32 => value,
        FloatType::Fp16 => f16::from_f32(value).to_f32(),
        FloatType::Bf16 => bf16::from_f32(value).to_f32(),
    }
}

fn lost(values: &[f32], to: FloatType) -> Loss {
    let (most, least) = (largest(to), smallest(to));
    // Magnitudes are in the order of their bits, and integers are compared many at a time.
    let (infinite, least) = (f32::INFINITY.to_bits(), least.to_bits());
    let (mut max, mut any_small) = (0, false);
    for value in values {
        let magnitude = value.abs().to_bits();
        max = max.max(if magnitude <= infinite { magnitude } else { 0 });
        any_small |= magnitude.wrapping_sub(1) < least.saturating_sub(1);
    }
    let max = f32::from_bits(max);
    let mut loss = Loss { of: values.len() as u64, largest: rounded(max, to), ..Loss::default() };
    if max <= most && !any_small {
        return loss; // Almost always.
    }
    for &value in values {
        if value.is_finite() && value.abs() > most {
            loss.overflows += 1;
            loss.first_overflow.get_or_insert(value);
            loss.positive |= value > 0.0;
            loss.negative |= value < 0.0;
        }
        if value != 0.0 && rounded(value, to) == 0.0 {
            loss.vanish += 1;
            loss.first_vanished.get_or_insert(value);
        }
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::testing::floats;

    fn halves(values: &[f32]) -> (Vec<f32>, Loss) {
        let (tensor, loss) =
            convert(&floats("w", &[i64::try_from(values.len()).unwrap()], values), FloatType::Fp16);
        let raw = tensor.raw_data.unwrap();
        (raw.chunks(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(), loss)
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        let (got, loss) = halves(&[1.0, 2049.0, 2051.0, 0.1, f32::INFINITY, -0.0]);
        assert_eq!(got, [1.0, 2048.0, 2052.0, 0.099_975_586, f32::INFINITY, 0.0]);
        assert_eq!((loss.overflows, loss.vanish, loss.of), (0, 0, 6));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let (got, loss) = halves(&[65504.0, 65505.0, -1e9, 1e-8, 6e-8]);
        assert_eq!(got[0], 65504.0);
        assert_eq!((loss.overflows, loss.first_overflow), (2, Some(65505.0)));
        assert!(loss.positive && loss.negative);
        assert_eq!((loss.vanish, loss.first_vanished), (1, Some(1e-8)));
    }

    #[test]
    fn every_pair_of_types_goes_back_to_where_it_came_from() {
        let wide = floats("w", &[3], &[0.5, -2.0, 3.0]);
        for narrow in [FloatType::Fp16, FloatType::Bf16] {
            let (half, _) = convert(&wide, narrow);
            assert_eq!(half.raw_data.as_ref().unwrap().len(), 6);
            assert_eq!(convert(&half, FloatType::Fp32).0, wide);
        }
    }

    #[test]
    fn pieces_make_a_whole() {
        let values: Vec<f32> = (0..200_000u32).map(|i| (i % 1000) as f32 / 8.0).collect();
        let (got, loss) = halves(&values);
        assert_eq!((got, loss.of), (values, 200_000));
    }
}
