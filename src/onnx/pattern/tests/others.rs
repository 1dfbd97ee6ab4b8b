//! Softmax and GELU, in every spelling.

use super::super::super::graph::GraphView;
use super::{Kind, Spelling, check, find_kind, model_of, read};

fn plain(name: &'static str, kind: Kind, text: &'static str) -> Spelling {
    let axes: &[i64] = if kind == Kind::Gelu { &[] } else { &[-1] };
    Spelling { name, kind, text, axes, epsilon: None, scale: None, bias: None, exact: true }
}

#[test]
fn softmaxes() {
    let softmax = |name, text| plain(name, Kind::Softmax, text);
    let all = [
        softmax("operator", "o = Softmax(x) axis=2"),
        softmax("its logarithm", "o = LogSoftmax(x)"),
        softmax(
            "with maximum",
            "m = ReduceMax(x) axes=[-1]
             d = Sub(x, m)
             e = Exp(d)
             s = ReduceSum(e, [-1])
             o = Div(e, s)",
        ),
        softmax(
            "JAX",
            "m = ReduceMax(x) axes=[2] keepdims=0
             c = Max(-3.4e38, m)
             u = Unsqueeze(c, [2])
             d = Sub(x, u)
             e = Exp(d)
             s = ReduceSum(e, [2]) keepdims=0
             v1 = Unsqueeze(s, [2])
             o = Div(e, v1)",
        ),
        softmax("without maximum", "e = Exp(x)\ns = ReduceSum(e, [-1])\no = Div(e, s)"),
        softmax(
            "Reciprocal, epsilon",
            "e = Exp(x)
             s = ReduceSum(e, [-1])
             a = Add(1e-9, s)
             o = Div(e, a)",
        ),
        softmax(
            "Reciprocal",
            "e = Exp(x)
             s = ReduceSum(e, [-1])
             i = Reciprocal(s)
             o = Mul(i, e)",
        ),
        softmax("ReduceLogSumExp", "l = ReduceLogSumExp(x) axes=[-1]\no = Sub(x, l)"),
        softmax("and Exp", "l = ReduceLogSumExp(x) axes=[-1]\nd = Sub(x, l)\no = Exp(d)"),
        softmax(
            "JAX' logarithm",
            "m = ReduceMax(x) axes=[-1]
             d = Sub(x, m)
             e = Exp(d)
             s = ReduceSum(e, [-1])
             l = Log(s)
             o = Sub(d, l)",
        ),
        softmax("logarithm without maximum", "e = Exp(x)\ns = ReduceSum(e, [-1])\nl = Log(s)\no = Sub(x, l)"),
        Spelling { axes: &[-3], ..softmax("over channels", "o = Softmax(image) axis=1") },
    ];
    all.iter().for_each(check);
}

#[test]
fn before_opset_13_all_axes_from_one_on() {
    let axes = |opset: i64, text: &str| {
        let model = read(&model_of(text, opset));
        find_kind(&GraphView::new(model.proto()), Kind::Softmax)[0].axes.clone()
    };
    assert_eq!(axes(12, "o = Softmax(x)"), [-2, -1]);
    assert_eq!(axes(12, "o = Softmax(x) axis=2"), [-1]);
    assert_eq!(axes(13, "o = Softmax(x) axis=1"), [-2]);
}

#[test]
fn gelus() {
    let gelu = |name, text| plain(name, Kind::Gelu, text);
    let all = [
        gelu("operator", "o = Gelu(x)"),
        gelu("ONNX Runtime", "o = ms.FastGelu(x)"),
        Spelling { bias: Some("bias8"), ..gelu("with a bias", "o = ms.BiasGelu(x, bias8)") },
        gelu(
            "PyTorch",
            "d = Div(x, 1.4142135)
             f = Erf(d)
             a = Add(f, 1.0)
             p = Mul(x, a)
             o = Mul(p, 0.5)",
        ),
        gelu(
            "an input that is a sum, half before",
            "! h = Add(x, bias8)
             m = Mul(h, 0.70710677)
             f = Erf(m)
             a = Add(1.0, f)
             g = Mul(0.5, h)
             o = Mul(g, a)",
        ),
        gelu(
            "half of the bracket",
            "m = Mul(0.70710677, x)
             f = Erf(m)
             a = Add(f, 1.0)
             g = Mul(a, 0.5)
             o = Mul(x, g)",
        ),
        gelu(
            "multiplied out, root of two computed",
            "! r = Sqrt(2.0)
             d = Div(x, r)
             f = Erf(d)
             h = Mul(x, 0.5)
             p = Mul(h, f)
             o = Add(p, h)",
        ),
        gelu(
            "gelu_new",
            "p = Pow(x, 3.0)
             c = Mul(p, 0.044715)
             s = Add(x, c)
             m = Mul(s, 0.7978846)
             t1 = Tanh(m)
             a = Add(t1, 1.0)
             h = Mul(x, 0.5)
             o = Mul(h, a)",
        ),
        gelu(
            "Flax",
            "! h0 = Add(x, bias8)
             c1 = Mul(0.044715, h0)
             c2 = Mul(h0, c1)
             c3 = Mul(h0, c2)
             s = Add(h0, c3)
             m = Mul(0.7978846, s)
             t1 = Tanh(m)
             a = Add(1.0, t1)
             g = Mul(0.5, a)
             o = Mul(h0, g)",
        ),
        gelu(
            "gelu_fast",
            "h = Mul(x, 0.5)
             k1 = Mul(x, 0.7978846)
             c1 = Mul(x, 0.044715)
             c2 = Mul(c1, x)
             a1 = Add(c2, 1.0)
             m = Mul(k1, a1)
             t1 = Tanh(m)
             a = Add(t1, 1.0)
             o = Mul(h, a)",
        ),
        gelu(
            "tf2onnx's optimizer: the cube is computed between two Transposes",
            "t1 = Transpose(x) perm=[1, 2, 0]
             p = Pow(t1, 3.0)
             c = Mul(0.044715, p)
             t2 = Transpose(c) perm=[2, 0, 1]
             s = Add(x, t2)
             m = Mul(0.7978846, s)
             th = Tanh(m)
             a = Add(1.0, th)
             h = Mul(0.5, x)
             o = Mul(h, a)",
        ),
        gelu(
            "XLA",
            "p = Pow(x, 3.0)
             c = Mul(p, 0.044715)
             s = Add(x, c)
             m = Mul(s, 1.5957691)
             g = Sigmoid(m)
             o = Mul(x, g)",
        ),
    ];
    all.iter().for_each(check);
}
