//! Norms as single exporters write them.

use super::found::{l2, layer, rms};
use super::{Spelling, check};

#[test]
fn layer_norms_of_single_exporters() {
    let all = [
        layer(
            "tf2onnx, of three dimensions: a pooling for each mean",
            "m = GlobalAveragePool(x)
             d = Sub(x, m)
             p = Mul(d, d)
             s = GlobalAveragePool(p)
             e = Add(s, 1e-5)
             r = Sqrt(e)
             n = Div(d, r)
             w = Mul(n, scale8)
             o = Add(w, bias8)",
        ),
        Spelling {
            epsilon: Some(1e-6),
            exact: false,
            ..layer(
                "PyTorch's std: times N, over N - 1, which come from the shape",
                "!sh = Shape(x)
                 !g = Gather(sh, [2])
                 !c = ReduceProd(g) keepdims=0
                 !f = Cast(c) to=1
                 !less = Sub(f, 1.0)
                 m = ReduceMean(x) axes=[-1]
                 d = Sub(x, m)
                 q1 = Mul(d, d)
                 m2 = ReduceMean(q1) axes=[-1]
                 t1 = Mul(m2, f)
                 s = Div(t1, less)
                 r = Sqrt(s)
                 e = Add(r, 1e-6)
                 n = Div(d, e)
                 w = Mul(n, scale8)
                 o = Add(w, bias8)",
            )
        },
        Spelling {
            exact: false,
            ..layer(
                "one factor N / (N - 1)",
                "m = ReduceMean(x) axes=[-1]
                 d = Sub(x, m)
                 p = Mul(d, d)
                 s = ReduceMean(p) axes=[-1]
                 c = Mul(1.1428571, s)
                 e = Add(c, 1e-5)
                 r = Sqrt(e)
                 n = Div(d, r)
                 w = Mul(n, scale8)
                 o = Add(w, bias8)",
            )
        },
        Spelling {
            epsilon: None,
            ..layer(
                "epsilon 0",
                "m = ReduceMean(x) axes=[-1]
                 d = Sub(x, m)
                 p = Mul(d, d)
                 s = ReduceMean(p) axes=[-1]
                 e = Add(s, 0.0)
                 r = Sqrt(e)
                 n = Div(d, r)
                 w = Mul(n, scale8)
                 o = Add(w, bias8)",
            )
        },
        Spelling {
            epsilon: Some(0.1),
            ..layer(
                "a large epsilon, Sum of two",
                "m = ReduceMean(x) axes=[-1]
                 d = Sub(x, m)
                 p = Mul(d, d)
                 s = ReduceMean(p) axes=[-1]
                 e = Sum(0.1, s)
                 r = Sqrt(e)
                 n = Div(d, r)
                 w = Mul(n, scale8)
                 o = Sum(w, bias8)",
            )
        },
        layer(
            "a product of two subtractions, beside a third",
            "m = ReduceMean(x) axes=[-1]
             d = Sub(x, m)
             f = Sub(x, m)
             g = Sub(x, m)
             p = Mul(f, g)
             s = ReduceMean(p) axes=[-1]
             e = Add(s, 1e-5)
             r = Sqrt(e)
             n = Div(d, r)
             w = Mul(n, scale8)
             o = Add(w, bias8)",
        ),
        Spelling {
            axes: &[-3],
            ..layer(
                "NAFNet: scale and bias in a shape that the model computes",
                "!sh = Shape(image)
                 !c = Gather(sh, [1])
                 !t1 = Concat([1], c, [1, 1]) axis=0
                 !s4 = Reshape(scale8, t1)
                 !b4 = Reshape(bias8, t1)
                 m = ReduceMean(image) axes=[1]
                 d = Sub(image, m)
                 p = Pow(d, 2.0)
                 s = ReduceMean(p) axes=[1]
                 e = Add(s, 1e-5)
                 r = Sqrt(e)
                 n = Div(d, r)
                 w = Mul(n, s4)
                 o = Add(w, b4)",
            )
            .with_parameters("s4", "b4")
        },
        layer(
            "JAX: a Where that always takes its first side, plus the opposite of the mean",
            "!less = Sub(8.0, 0.0)
             !is = Greater(less, 0.0)
             t1 = ReduceSum(x, [2]) keepdims=0
             u1 = Unsqueeze(t1, [2])
             m = Div(u1, 8.0)
             neg = Neg(m)
             d = Add(neg, x)
             s2 = ReduceSumSquare(d) axes=[2] keepdims=1
             v1 = Div(s2, less)
             s = Where(is, v1, bad)
             e = Add(s, 1e-5)
             r = Sqrt(e)
             n = Div(d, r)
             w = Mul(n, scale8)
             o = Add(w, bias8)",
        ),
    ];
    all.iter().for_each(check);
}

#[test]
fn rms_norms_of_single_exporters() {
    let all = [
        rms(
            "PaddlePaddle: times 1, plus 0",
            "p = Pow(x, 2.0)
             v1 = ReduceMean(p) axes=[-1]
             v2 = Mul(v1, 1.0)
             v3 = Add(v2, 0.0)
             e = Add(v3, 1e-5)
             r = Sqrt(e)
             i = Reciprocal(r)
             n = Mul(x, i)
             o = Mul(n, scale8)",
        ),
        rms(
            "an epsilon of the type of the input; an axis that is reshaped to a list",
            "!ec = CastLike(1e-5, x)
             !ax = Reshape([-1], [-1])
             p = Pow(x, 2.0)
             s = ReduceMean(p, ax)
             e = Add(s, ec)
             r = Sqrt(e)
             i = Reciprocal(r)
             n = Mul(x, i)
             o = Mul(n, scale8)",
        ),
        Spelling {
            epsilon: Some(1e-8),
            exact: false,
            ..rms(
                "the length over the root of the size",
                "l = ReduceL2(x) axes=[-1]
                 r = Mul(l, 0.35355338)
                 e = Add(r, 1e-8)
                 n = Div(x, e)
                 o = Mul(n, scale8)",
            )
        },
        rms(
            "ONNX's own function, which counts the axes",
            "!sh = Shape(x)
             !count = Size(sh)
             !from = Add(count, [-1])
             !ax = Range(from, count, [1])
             p = Mul(x, x)
             s = ReduceMean(p, ax)
             e = Add(s, 1e-5)
             r = Sqrt(e)
             n = Div(x, r)
             o = Mul(n, scale8)",
        ),
        rms(
            "the square of the length",
            "l = ReduceL2(x) axes=[-1]
             p = Pow(l, 2.0)
             s = Div(p, 8.0)
             e = Add(s, 1e-5)
             r = Sqrt(e)
             n = Div(x, r)
             o = Mul(n, scale8)",
        ),
    ];
    all.iter().for_each(check);
}

#[test]
fn l2_norms_of_single_exporters() {
    let all = [
        l2(
            "PaddlePaddle: the square of what is made positive",
            "a = Abs(x)
             p = Pow(a, 2.0)
             s = ReduceSum(p, [-1])
             r = Pow(s, 0.5)
             c = Max(r, 1e-12)
             o = Div(x, c)",
            Some(1e-12),
        ),
        l2(
            "Keras: the reciprocal root is bounded",
            "p = Mul(x, x)
             s = ReduceSum(p, [-1])
             r = Sqrt(s)
             i = Reciprocal(r)
             c = Min(i, 1e12)
             o = Mul(x, c)",
            Some(1e-12),
        ),
    ];
    all.iter().for_each(check);
}
