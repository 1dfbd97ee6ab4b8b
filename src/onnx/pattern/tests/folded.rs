//! Layer norms whose mean is taken off behind the division: `x * r - mean * r`.

use super::found::layer;
use super::{Spelling, check};

#[test]
fn the_mean_times_the_factor_is_subtracted_or_its_opposite_added() {
    let all = [
        layer(
            "TensorFlow's batch_normalization",
            "m = ReduceMean(x) axes=[-1]
             d = Sub(x, m)
             p = Mul(d, d)
             s = ReduceMean(p) axes=[-1]
             e = Add(s, 1e-5)
             r = Sqrt(e)
             i = Reciprocal(r)
             is = Mul(i, scale8)
             xs = Mul(x, is)
             ms = Mul(m, is)
             b = Sub(bias8, ms)
             o = Add(xs, b)",
        ),
        layer(
            "Keras 3: the mean is negated, and reshaped for the variance",
            "m = ReduceMean(x) axes=[-1]
             neg = Neg(m)
             mr = Reshape(m, [-1, 0, 1])
             d = Sub(x, mr)
             p = Mul(d, d)
             s = ReduceMean(p) axes=[-1]
             e = Add(s, 1e-5)
             r = Sqrt(e)
             i = Reciprocal(r)
             is = Mul(i, scale8)
             xs = Mul(x, is)
             ms = Mul(neg, is)
             b = Add(ms, bias8)
             o = Add(xs, b)",
        ),
        Spelling {
            scale: None,
            bias: None,
            ..layer(
                "Keras 3 without scale and bias",
                "m = ReduceMean(x) axes=[-1]
                 neg = Neg(m)
                 d = Sub(x, m)
                 p = Mul(d, d)
                 s = ReduceMean(p) axes=[-1]
                 e = Add(s, 1e-5)
                 r = Sqrt(e)
                 i = Reciprocal(r)
                 xs = Mul(x, i)
                 ms = Mul(i, neg)
                 o = Add(ms, xs)",
            )
        },
        Spelling {
            bias: None,
            ..layer(
                "the same without a bias",
                "m = ReduceMean(x) axes=[-1]
                 d = Sub(x, m)
                 p = Mul(d, d)
                 s = ReduceMean(p) axes=[-1]
                 e = Add(s, 1e-5)
                 r = Sqrt(e)
                 i = Reciprocal(r)
                 is = Mul(i, scale8)
                 xs = Mul(x, is)
                 ms = Mul(is, m)
                 o = Sub(xs, ms)",
            )
        },
    ];
    all.iter().for_each(check);
}
