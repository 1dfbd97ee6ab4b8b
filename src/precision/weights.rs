//! Constants in another type, and what is lost on the way.

use bytes::Bytes;
use half::{bf16, f16};
use rayon::prelude::*;

use super::float::FloatType;
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
    let pieces: Vec<(Vec<u8>, Loss)> =
        raw.par_chunks(PIECE * from.width()).map(|piece| convert_piece(piece, from, to)).collect();
    let mut data = Vec::with_capacity(raw.len() / from.width() * to.width());
    let mut loss = Loss::default();
    for (piece, lost) in pieces {
        data.extend_from_slice(&piece);
        loss = loss.and(lost);
    }
    (Bytes::from(data), loss)
}

fn convert_piece(piece: &[u8], from: FloatType, to: FloatType) -> (Vec<u8>, Loss) {
    let mut data = Vec::with_capacity(piece.len() / from.width() * to.width());
    let mut loss = Loss::default();
    let largest = largest(to);
    for bytes in piece.chunks_exact(from.width()) {
        let value = match (from, bytes) {
            (FloatType::Fp32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            (FloatType::Fp16, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
            (FloatType::Bf16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f32(),
            _ => continue, // Pieces hold whole elements.
        };
        loss.of += 1;
        if value.is_finite() && value.abs() > largest {
            loss.overflows += 1;
            loss.first_overflow.get_or_insert(value);
            loss.positive |= value > 0.0;
            loss.negative |= value < 0.0;
        }
        let back = match to {
            FloatType::Fp32 => {
                data.extend_from_slice(&value.to_le_bytes());
                value
            }
            FloatType::Fp16 => {
                let half = f16::from_f32(value);
                data.extend_from_slice(&half.to_le_bytes());
                half.to_f32()
            }
            FloatType::Bf16 => {
                let half = bf16::from_f32(value);
                data.extend_from_slice(&half.to_le_bytes());
                half.to_f32()
            }
        };
        loss.largest = loss.largest.max(back.abs());
        if value != 0.0 && back == 0.0 {
            loss.vanish += 1;
            loss.first_vanished.get_or_insert(value);
        }
    }
    (data, loss)
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
