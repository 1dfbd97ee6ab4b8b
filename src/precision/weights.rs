//! Constants in another type, and what is lost on the way.

use bytes::Bytes;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;
use zerocopy::FromBytes;

use super::float::FloatType;
use crate::fs;
use crate::onnx::Late;
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
    /// The first of these, at least if there is nothing else.
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

/// Magnitudes up to this one become zero.
pub(super) fn vanishing(of: FloatType) -> f32 {
    match of {
        FloatType::Fp32 => 0.0,
        FloatType::Fp16 => TINY,
        FloatType::Bf16 => smallest(of) / 2.0,
    }
}

/// The tensor in another type, rounded to nearest, ties to even; its dims and name stay.
pub(super) fn convert(tensor: &TensorProto, to: FloatType) -> TensorProto {
    let Conversion { raw, from, to } = Conversion::of(tensor, to);
    let data = if from == to {
        raw
    } else {
        fs::make_bytes(raw.len() / from.width() * to.width(), |data| {
            let pieces = data.par_chunks_mut(PIECE * to.width()).zip(raw.par_chunks(PIECE * from.width()));
            pieces.for_each(|(data, piece)| convert_piece(piece, from, data, to));
        })
    };
    TensorProto { data_type: Some(to.element() as i32), raw_data: Some(data), ..tensor.clone() }
}

/// The same, but what is below the lowest number becomes that, and not minus infinity.
pub(super) fn convert_mask(tensor: &TensorProto, to: FloatType) -> TensorProto {
    let raw = tensor.raw_data.clone().unwrap_or_default();
    if tensor.data_type() != FloatType::Fp32.element() as i32 {
        return convert(tensor, to);
    }
    let lowest = -largest(to);
    let raised = raw.chunks_exact(4).flat_map(|b| {
        let value = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        if value.is_finite() { value.max(lowest) } else { value }.to_le_bytes()
    });
    let raised = TensorProto { raw_data: Some(raised.collect::<Vec<u8>>().into()), ..tensor.clone() };
    convert(&raised, to)
}

/// Data that is in one type and is to be in another, which is made as it is written.
pub(super) struct Conversion {
    raw: Bytes,
    from: FloatType,
    to: FloatType,
}

/// Smaller data is converted at once.
const LATE_FROM: usize = 1 << 16;

impl Conversion {
    fn of(tensor: &TensorProto, to: FloatType) -> Conversion {
        let from = FloatType::of_element(tensor.data_type()).unwrap_or(FloatType::Fp32);
        Conversion { raw: tensor.raw_data.clone().unwrap_or_default(), from, to }
    }

    /// The tensor in another type, without its data, and what makes that; none if it is not worth it.
    pub(super) fn late(tensor: &TensorProto, to: FloatType) -> Option<(TensorProto, Conversion)> {
        let conversion = Conversion::of(tensor, to);
        let (from, length) = (conversion.from, conversion.length());
        let typed = || TensorProto { data_type: Some(to.element() as i32), raw_data: None, ..tensor.clone() };
        (from != to && length >= LATE_FROM).then(|| (typed(), conversion))
    }
}

impl Late for Conversion {
    fn length(&self) -> usize {
        self.raw.len() / self.from.width() * self.to.width()
    }

    fn make(&self, start: usize, bytes: &mut [u8]) {
        let Conversion { raw, from, to } = self;
        let values = start / to.width()..(start + bytes.len()) / to.width();
        convert_piece(&raw[values.start * from.width()..values.end * from.width()], *from, bytes, *to);
    }
}

/// What converting a tensor loses, told without doing it.
pub(super) fn loss(tensor: &TensorProto, to: FloatType, span: &Span) -> Loss {
    let Conversion { raw, from, to } = Conversion::of(tensor, to);
    let of = (raw.len() / from.width()) as u64;
    if from == to {
        return Loss { of, ..Loss::default() };
    }
    // Almost always all fit, and few vanish.
    let all_fit = from == FloatType::Fp32 && span.largest <= largest(to);
    if all_fit && (span.tiny == 0 || (to == FloatType::Fp16 && span.tiny < of)) {
        let largest = rounded(span.largest, to);
        return Loss { of, largest, vanish: span.tiny, ..Loss::default() };
    }
    let lost = |piece: &[u8]| {
        let (mut wide, mut loss) = ([0f32; BLOCK], Loss::default());
        for raw in piece.chunks(BLOCK * from.width()) {
            let values = &mut wide[..raw.len() / from.width()];
            decode(raw, from, values);
            loss = loss.and(lost(values, to));
        }
        loss
    };
    // In order: what is lost first is named.
    raw.par_chunks(PIECE * from.width()).map(lost).reduce(Loss::default, Loss::and)
}

/// Within what the finite numbers of an FP32 tensor lie.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Span {
    /// The lowest below zero, or zero.
    pub(super) lowest: f32,
    /// The largest magnitude.
    pub(super) largest: f32,
    /// How many are zero in FP16, and not here.
    tiny: u64,
}

/// Half the least magnitude of FP16: it rounds to zero, and so does all that is smaller.
const TINY: f32 = 1.0 / (1 << 25) as f32;

impl Span {
    /// Of a tensor of any other type nothing is known: it is empty.
    pub(super) fn of(tensor: &TensorProto) -> Span {
        let raw = tensor.raw_data.as_deref().unwrap_or_default();
        if tensor.data_type() != FloatType::Fp32.element() as i32 {
            return Span::default();
        }
        raw.par_chunks(4 * PIECE).map(Span::of_piece).reduce(Span::default, Span::and)
    }

    /// In lanes, and without branches, so that many are compared at a time: all weights go through here.
    fn of_piece(piece: &[u8]) -> Span {
        const LANES: usize = 16;
        let (mut high, mut low, mut tiny) = ([0f32; LANES], [0f32; LANES], [0u32; LANES]);
        let mut look = |bytes: &[u8]| {
            for (lane, bytes) in bytes.as_chunks().0.iter().enumerate() {
                let value = f32::from_le_bytes(*bytes);
                high[lane] = if value > high[lane] { value } else { high[lane] };
                low[lane] = if value < low[lane] { value } else { low[lane] };
                tiny[lane] += u32::from((value.abs() <= TINY) & (value != 0.0));
            }
        };
        let (blocks, rest) = piece.as_chunks::<{ 4 * LANES }>();
        blocks.iter().for_each(|block| look(block));
        look(rest);
        let (mut highest, mut lowest) =
            (high.into_iter().fold(0.0, f32::max), low.into_iter().fold(0.0, f32::min));
        if highest.is_infinite() || lowest.is_infinite() {
            let values = piece.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            (lowest, highest) = values
                .filter(|value| value.is_finite())
                .fold((0.0, 0.0), |(low, high): (f32, f32), value| (low.min(value), high.max(value)));
        }
        Span { lowest, largest: highest.max(-lowest), tiny: tiny.into_iter().map(u64::from).sum() }
    }

    fn and(self, other: Span) -> Span {
        Span {
            lowest: self.lowest.min(other.lowest),
            largest: self.largest.max(other.largest),
            tiny: self.tiny + other.tiny,
        }
    }
}

/// Values that are converted by one instruction after another.
const BLOCK: usize = 1024;

fn convert_piece(piece: &[u8], from: FloatType, data: &mut [u8], to: FloatType) {
    // Where they lie: not so if the bytes are not aligned, as those inside a protobuf.
    if (from, to) == (FloatType::Fp32, FloatType::Fp16)
        && cfg!(target_endian = "little")
        && let (Ok(values), Ok(halves)) = (<[f32]>::ref_from_bytes(piece), <[f16]>::mut_from_bytes(data))
    {
        return halves.convert_from_f32_slice(values);
    }
    let mut wide = [0f32; BLOCK];
    for (raw, data) in piece.chunks(BLOCK * from.width()).zip(data.chunks_mut(BLOCK * to.width())) {
        let values = &mut wide[..raw.len() / from.width()];
        decode(raw, from, values);
        encode(values, data, to);
    }
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
pub(super) fn rounded(value: f32, to: FloatType) -> f32 {
    match to {
        FloatType::Fp32 => value,
        FloatType::Fp16 => f16::from_f32(value).to_f32(),
        FloatType::Bf16 => bf16::from_f32(value).to_f32(),
    }
}

fn lost(values: &[f32], to: FloatType) -> Loss {
    let most = largest(to);
    let mut loss = Loss { of: values.len() as u64, ..Loss::default() };
    for &value in values.iter().filter(|value| value.is_finite()) {
        let magnitude = value.abs();
        loss.largest = loss.largest.max(magnitude);
        if magnitude > most {
            loss.overflows += 1;
            loss.first_overflow.get_or_insert(value);
            loss.positive |= value > 0.0;
            loss.negative |= value < 0.0;
        }
        if value != 0.0 && magnitude < smallest(to) && rounded(value, to) == 0.0 {
            loss.vanish += 1;
            loss.first_vanished.get_or_insert(value);
        }
    }
    loss.largest = rounded(loss.largest, to);
    loss
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::testing::floats;

    fn halves(values: &[f32]) -> (Vec<f32>, Loss) {
        let wide = floats("w", &[i64::try_from(values.len()).unwrap()], values);
        let loss = loss(&wide, FloatType::Fp16, &Span::of(&wide));
        let raw = convert(&wide, FloatType::Fp16).raw_data.unwrap();
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
            let half = convert(&wide, narrow);
            assert_eq!(half.raw_data.as_ref().unwrap().len(), 6);
            assert_eq!(convert(&half, FloatType::Fp32), wide);
        }
    }

    #[test]
    fn pieces_make_a_whole() {
        let values: Vec<f32> = (0..200_000u32).map(|i| (i % 1000) as f32 / 8.0).collect();
        let (got, loss) = halves(&values);
        assert_eq!((got, loss.of), (values, 200_000));
    }

    #[test]
    fn what_is_made_late_is_what_is_made_at_once() {
        let values: Vec<f32> = (0..100_000u32).map(|i| i as f32 / 7.0 - 3000.0).collect();
        let wide = floats("w", &[100_000], &values);
        for narrow in [FloatType::Fp16, FloatType::Bf16] {
            let (typed, late) = Conversion::late(&wide, narrow).unwrap();
            let mut made = vec![0; late.length()];
            made.chunks_mut(4098).enumerate().for_each(|(i, piece)| late.make(i * 4098, piece));
            let at_once = convert(&wide, narrow);
            assert_eq!((typed.data_type, Some(made.into())), (at_once.data_type, at_once.raw_data));
        }
    }

    #[test]
    fn a_span_leaves_out_what_is_no_number() {
        let of = |values: &[f32]| {
            let span = Span::of(&floats("w", &[i64::try_from(values.len()).unwrap()], values));
            (span.lowest, span.largest, span.tiny)
        };
        let odd = [1.0, -0.0, f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        assert_eq!(of(&odd), (0.0, 1.0, 0));
        assert_eq!(of(&[1e30, -2.0, -1e9, f32::NEG_INFINITY, -1e-45]), (-1e9, 1e30, 1));
        assert_eq!(of(&[f32::MIN]), (f32::MIN, f32::MAX, 0));
        assert_eq!(of(&[&[0.0; 40][..], &[TINY; 3]].concat()), (0.0, TINY, 3));
        assert_eq!(of(&[]), (0.0, 0.0, 0));
    }

    #[test]
    fn a_few_that_vanish_are_counted_without_a_second_look() {
        let least = f32::from_bits(TINY.to_bits() + 1);
        let (got, loss) = halves(&[1.0, TINY, -TINY, least, 0.0, 1e-30]);
        assert_eq!(got, [1.0, 0.0, 0.0, 2.0 * TINY, 0.0, 0.0]);
        assert_eq!((loss.vanish, loss.overflows, loss.largest), (3, 0, 1.0));
        let wide = floats("w", &[2], &[1e-39, 1.0]);
        let loss = super::loss(&wide, FloatType::Bf16, &Span::of(&wide));
        assert_eq!((loss.vanish, loss.largest), (0, 1.0));
    }
}
