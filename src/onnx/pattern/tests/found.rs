//! Norms that must be found, in every spelling.

use super::{Kind, Spelling, check};

const S: Option<&str> = Some("scale8");
const B: Option<&str> = Some("bias8");
const EPS: Option<f64> = Some(1e-5);

fn spelling(name: &'static str, kind: Kind, text: &'static str) -> Spelling {
    Spelling { name, kind, text, axes: &[-1], epsilon: EPS, scale: S, bias: B, exact: true }
}

pub(super) fn layer(name: &'static str, text: &'static str) -> Spelling {
    spelling(name, Kind::LayerNorm, text)
}

pub(super) fn rms(name: &'static str, text: &'static str) -> Spelling {
    Spelling { bias: None, ..spelling(name, Kind::RmsNorm, text) }
}

pub(super) fn l2(name: &'static str, text: &'static str, epsilon: Option<f64>) -> Spelling {
    let exact = epsilon.is_none();
    Spelling { bias: None, scale: None, epsilon, exact, ..spelling(name, Kind::L2Norm, text) }
}

#[test]
fn layer_norms() {
    let all = [
        layer("operator", "o = LayerNormalization(x, scale8, bias8) axis=-1 epsilon=1e-5"),
        layer("operator, axis from the front", "o = LayerNormalization(x, scale8, bias8) axis=2"),
        Spelling {
            epsilon: Some(1e-12),
            ..layer("with a skip", "o = ms.SkipLayerNormalization(x, y, scale8, bias8)")
        },
        layer(
            "PyTorch, Paddle",
            "m = ReduceMean(x) axes=[-1]
             d = Sub(x, m)
             p = Pow(d, 2.0)
             s = ReduceMean(p) axes=[-1]
             e = Add(s, 1e-5)
             r = Sqrt(e)
             n = Div(d, r)
             w = Mul(n, scale8)
             o = Add(w, bias8)",
        ),
        layer(
            "axes as input from the front, operands swapped, two subtractions, no Pow",
            "m = ReduceMean(x, [2])
             d = Sub(x, m)
             f = Sub(x, m)
             p = Mul(f, f)
             s = ReduceMean(p, [2])
             e = Add(1e-5, s)
             r = Sqrt(e)
             n = Div(d, r)
             w = Mul(scale8, n)
             o = Add(bias8, w)",
        ),
        layer(
            "each subtraction with a mean of its own",
            "m = ReduceMean(x) axes=[-1]
             m2 = ReduceMean(x) axes=[-1]
             d = Sub(x, m)
             f = Sub(x, m2)
             p = Pow(f, 2.0)
             s = ReduceMean(p) axes=[-1]
             e = Add(s, 1e-5)
             r = Sqrt(e)
             n = Div(d, r)
             w = Mul(n, scale8)
             o = Add(w, bias8)",
        ),
        layer(
            "sums times 1/N and over N; Pow 0.5 and Reciprocal",
            "t1 = ReduceSum(x, [-1])
             m = Mul(t1, 0.125)
             d = Sub(x, m)
             p = Pow(d, 2.0)
             t2 = ReduceSum(p, [-1])
             s = Div(t2, 8.0)
             e = Add(s, 1e-5)
             r = Pow(e, 0.5)
             i = Reciprocal(r)
             n = Mul(i, d)
             w = Mul(n, scale8)
             o = Add(w, bias8)",
        ),
        layer(
            "ReduceSumSquare, Pow -0.5",
            "m = ReduceMean(x) axes=[-1]
             d = Sub(x, m)
             p = ReduceSumSquare(d) axes=[-1]
             s = Mul(0.125, p)
             e = Add(s, 1e-5)
             i = Pow(e, -0.5)
             n = Mul(d, i)
             w = Mul(n, scale8)
             o = Add(w, bias8)",
        ),
        layer(
            "1 / sqrt",
            "m = ReduceMean(x) axes=[-1]
             d = Sub(x, m)
             p = Pow(d, 2.0)
             s = ReduceMean(p) axes=[-1]
             e = Add(s, 1e-5)
             r = Sqrt(e)
             i = Div(1.0, r)
             n = Mul(d, i)
             w = Mul(n, scale8)
             o = Add(w, bias8)",
        ),
        layer(
            "tf2onnx, jax2tf: squares of the mean, no keepdims, scale first",
            "t1 = ReduceSum(x, [2]) keepdims=0
             sq = Mul(x, x)
             t2 = ReduceSum(sq, [2]) keepdims=0
             ms = Mul(t2, 0.125)
             m = Mul(t1, 0.125)
             mm = Mul(m, m)
             s = Sub(ms, mm)
             c = Max(0.0, s)
             u = Unsqueeze(c, [2])
             e = Add(u, 1e-5)
             r = Sqrt(e)
             i = Reciprocal(r)
             is = Mul(i, scale8)
             mu = Unsqueeze(m, [2])
             d = Sub(x, mu)
             w = Mul(d, is)
             o = Add(w, bias8)",
        ),
        Spelling {
            exact: false,
            ..layer(
                "The Annotated Transformer",
                "m = ReduceMean(x) axes=[-1]
                 d = Sub(x, m)
                 p = Mul(d, d)
                 t1 = ReduceSum(p, [-1])
                 s = Div(t1, 7.0)
                 r = Sqrt(s)
                 e = Add(r, 1e-5)
                 w = Mul(scale8, d)
                 n = Div(w, e)
                 o = Add(n, bias8)",
            )
        },
        Spelling {
            scale: None,
            bias: None,
            epsilon: None,
            ..layer(
                "bare, between other operators",
                "! h = MatMul(x, weight8x8)
                 m = ReduceMean(h) axes=[-1]
                 d = Sub(h, m)
                 p = Pow(d, 2.0)
                 s = ReduceMean(p) axes=[-1]
                 r = Sqrt(s)
                 n = Div(d, r)
                 ! a = Add(n, y)
                 ! z = Mul(a, scale8)",
            )
        },
        Spelling {
            bias: None,
            ..layer(
                "Casts between and around",
                "! h = Cast(x) to=1
                 h2 = Cast(h) to=11
                 m = ReduceMean(h2) axes=[-1]
                 d = Sub(h, m)
                 dc = Cast(d) to=1
                 p = Pow(dc, 2.0)
                 s = ReduceMean(p) axes=[-1]
                 e = Add(s, 1e-5)
                 r = Sqrt(e)
                 n = Div(d, r)
                 nc = Cast(n) to=10
                 ! sc = Cast(scale8) to=10
                 w = Mul(nc, sc)
                 ! o = Cast(w) to=1",
            )
            .with_scale("sc")
        },
        Spelling {
            axes: &[-3],
            scale: Some("scale1x8x1x1"),
            bias: Some("bias1x8x1x1"),
            ..layer(
                "channels first",
                "m = ReduceMean(image) axes=[1]
                 d = Sub(image, m)
                 p = Pow(d, 2.0)
                 s = ReduceMean(p) axes=[1]
                 e = Add(s, 1e-5)
                 r = Sqrt(e)
                 n = Div(d, r)
                 w = Mul(n, scale1x8x1x1)
                 o = Add(w, bias1x8x1x1)",
            )
        },
        Spelling {
            axes: &[-2, -1],
            scale: None,
            bias: None,
            ..layer(
                "two axes",
                "m = ReduceMean(image) axes=[2, 3]
                 d = Sub(image, m)
                 p = Pow(d, 2.0)
                 s = ReduceMean(p) axes=[2, 3]
                 e = Add(s, 1e-5)
                 r = Sqrt(e)
                 n = Div(d, r)",
            )
        },
        layer(
            "unknown rank, axis from the back",
            "m = ReduceMean(any) axes=[-1]
             d = Sub(any, m)
             p = Pow(d, 2.0)
             s = ReduceMean(p) axes=[-1]
             e = Add(s, 1e-5)
             r = Sqrt(e)
             n = Div(d, r)
             w = Mul(n, scale8)
             o = Add(w, bias8)",
        ),
        Spelling {
            axes: &[-3],
            scale: Some("scale1x8x1x1"),
            bias: None,
            ..layer(
                "unknown rank, told by the scale",
                "m = ReduceMean(any) axes=[1]
                 d = Sub(any, m)
                 p = Pow(d, 2.0)
                 s = ReduceMean(p) axes=[1]
                 e = Add(s, 1e-5)
                 r = Sqrt(e)
                 n = Div(d, r)
                 w = Mul(n, scale1x8x1x1)",
            )
        },
    ];
    all.iter().for_each(check);
}

impl Spelling {
    pub(super) fn with_parameters(self, scale: &'static str, bias: &'static str) -> Spelling {
        Spelling { scale: Some(scale), bias: Some(bias), ..self }
    }

    fn with_scale(self, scale: &'static str) -> Spelling {
        Spelling { scale: Some(scale), ..self }
    }
}

#[test]
fn rms_norms() {
    let all = [
        rms("operator", "o = RMSNormalization(x, scale8) epsilon=1e-5"),
        rms("ONNX Runtime", "o = SimplifiedLayerNormalization(x, scale8) epsilon=1e-5"),
        rms("with a skip", "o = ms.SkipSimplifiedLayerNormalization(x, y, scale8) epsilon=1e-5"),
        rms(
            "LLaMA",
            "! h = Cast(x) to=1
             p = Pow(h, 2.0)
             s = ReduceMean(p) axes=[-1]
             e = Add(s, 1e-5)
             r = Sqrt(e)
             i = Reciprocal(r)
             n = Mul(h, i)
             c = Cast(n) to=10
             o = Mul(scale8, c)",
        ),
        rms(
            "T5, an input that is a product itself",
            "! g = Mul(x, y)
             p = Pow(g, 2.0)
             s = ReduceMean(p) axes=[-1]
             e = Add(s, 1e-5)
             r = Sqrt(e)
             n = Div(g, r)
             o = Mul(n, scale8)",
        ),
        rms(
            "Gemma: scale is 1 + w",
            "p = Mul(x, x)
             s = ReduceMean(p) axes=[-1]
             e = Add(s, 1e-5)
             i = Pow(e, -0.5)
             n = Mul(x, i)
             ! g = Add(scale8, 1.0)
             o = Mul(n, g)",
        )
        .with_scale("g"),
        rms(
            "Flax: sums, scale first",
            "p = Mul(x, x)
             t1 = ReduceSum(p, [-1])
             s = Mul(t1, 0.125)
             e = Add(s, 1e-5)
             r = Sqrt(e)
             i = Reciprocal(r)
             is = Mul(i, scale8)
             o = Mul(x, is)
             ! z = Add(o, bias8)",
        ),
        Spelling {
            scale: None,
            ..rms(
                "bare",
                "s0 = ReduceSumSquare(x) axes=[-1]
                 s = Div(s0, 8.0)
                 e = Add(s, 1e-5)
                 r = Sqrt(e)
                 n = Div(x, r)",
            )
        },
    ];
    all.iter().for_each(check);
}

#[test]
fn l2_norms() {
    let all = [
        l2("operator", "o = LpNormalization(x)", None),
        l2(
            "F.normalize",
            "n = ReduceL2(x) axes=[-1]
             c = Clip(n, 1e-12)
             ! shape = Shape(x)
             e = Expand(c, shape)
             o = Div(x, e)",
            Some(1e-12),
        ),
        l2(
            "TensorFlow",
            "sq = Mul(x, x)
             s = ReduceSum(sq, [-1])
             c = Max(s, 1e-12)
             r = Sqrt(c)
             i = Reciprocal(r)
             o = Mul(x, i)",
            Some(1e-12),
        ),
        l2(
            "root and epsilon",
            "sq = Pow(x, 2.0)
             s = ReduceSum(sq, [-1]) keepdims=0
             r = Sqrt(s)
             e = Add(r, 1e-6)
             u = Unsqueeze(e, [-1])
             o = Div(x, u)",
            Some(1e-6),
        ),
        l2("ReduceSumSquare", "s = ReduceSumSquare(x) axes=[-1]\nr = Sqrt(s)\no = Div(x, r)", None),
        Spelling {
            axes: &[-3],
            ..l2("over channels", "n = ReduceL2(image) axes=[1]\no = Div(image, n)", None)
        },
    ];
    all.iter().for_each(check);
}
