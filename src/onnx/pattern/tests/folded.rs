//! Layer norms whose mean is taken off behind the division: `x * r - mean * r`.

use super::found::layer;
use super::{Kind, Spelling, check, found_in};

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

/// tf2onnx puts a Reshape in the place of a Transpose that moves an axis of one element.
#[test]
fn what_computes_a_shape_for_the_norm_alone_is_no_reader_outside() {
    let text = "m = ReduceMean(image) axes=[1]\nneg = Neg(m)\nms = Shape(m)\na = Slice(ms, [0], [1])\nb = Slice(ms, [2], [4])
                c = Concat(a, [1], b) axis=0\nmr = Reshape(m, c)\nd = Sub(image, mr)\np = Mul(d, d)\ns = ReduceMean(p) axes=[1]
                e = Add(s, 1e-3)\nr = Sqrt(e)\ni = Reciprocal(r)\nis = Mul(i, scale1x8x1x1)\nxs = Mul(image, is)
                mm = Mul(neg, is)\nt = Add(mm, bias1x8x1x1)\no = Add(xs, t)";
    let escapes = |text: &str| {
        let found = found_in(text, Kind::LayerNorm);
        assert_eq!((found.len(), found[0].output.as_str()), (1, "o"));
        found[0].escapes.clone()
    };
    assert_eq!(escapes(text), [""; 0]);
    assert_eq!(escapes(&format!("{text}\nu = Reshape(y, c)")), ["m"]);
}
