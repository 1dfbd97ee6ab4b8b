//! Numbers from a seed: the same on every machine, since only sums and products make them.

use crate::digest::Digest;

/// A stream of numbers (SplitMix64).
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// A stream of its own for what these words name.
    pub(super) fn of(seed: u64, words: &[&str]) -> Random {
        let mut text = seed.to_le_bytes().to_vec();
        for word in words {
            text.extend((word.len() as u64).to_le_bytes());
            text.extend(word.as_bytes());
        }
        let mut state = [0; 8];
        state.copy_from_slice(&Digest::of(&text).as_bytes()[..8]);
        Random(u64::from_le_bytes(state))
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub(super) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From `low` to `high`, both included.
    pub(super) fn integer(&mut self, low: i64, high: i64) -> i64 {
        let span = high.abs_diff(low);
        if span == u64::MAX {
            return self.bits().cast_signed();
        }
        let step = (u128::from(self.bits()) * (u128::from(span) + 1)) >> 64;
        low.wrapping_add_unsigned(u64::try_from(step).unwrap_or(span))
    }

    /// Close to a normal distribution about 0 with a deviation of 1: twelve of `unit`, which needs no logarithm, whose
    /// last bit differs between machines.
    pub(super) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}
