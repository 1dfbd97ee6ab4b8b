//! Softmax, GELU and attention, in every spelling.

use super::super::super::graph::GraphView;
use super::{Kind, Part, Spelling, check, find_kind, model_of, outputs, read};

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

/// Name, text, the values of each part, masks.
type Row = (&'static str, &'static str, [&'static [&'static str]; 4], &'static [&'static str]);

const ATTENTIONS: &[Row] = &[
    ("operator", "o = Attention(q, k, v)", [&["o"], &[], &["o"], &["o"]], &[]),
    (
        "ONNX Runtime",
        "o = ms.MultiHeadAttention(q, k, v, ?, mask) num_heads=2",
        [&["o"], &["o"], &["o"], &["o"]],
        &["mask"],
    ),
    (
        "BERT",
        "! kt = Transpose(k) perm=[0, 1, 3, 2]
         s = MatMul(q, kt)
         d = Div(s, 2.0)
         m = Add(d, mask)
         p = Softmax(m)
         o = MatMul(p, v)",
        [&["s", "d"], &["m"], &["p"], &["o"]],
        &["mask"],
    ),
    (
        "scaled_dot_product_attention",
        "! kt = Transpose(k) perm=[0, 1, 3, 2]
         qs = Mul(q, 0.7071)
         ks = Mul(kt, 0.7071)
         s = MatMul(qs, ks)
         m = Add(mask, s)
         p = Softmax(m)
         n = IsNaN(p)
         g = Where(n, 0.0, p)
         o = MatMul(g, v)",
        [&["qs", "ks", "s"], &["m"], &["p", "n", "g"], &["o"]],
        &["mask"],
    ),
    (
        "masked by Where, scale from a shape",
        "! kt = Transpose(k) perm=[0, 1, 3, 2]
         ! shape = Shape(q)
         ! dim = Gather(shape, [3])
         ! f = Cast(dim) to=1
         ! root = Sqrt(f)
         s = MatMul(q, kt)
         d = Div(s, root)
         w = Where(keep, d, -10000.0)
         c = Cast(w) to=1
         p = Softmax(c) axis=3
         h = Cast(p) to=1
         dr = Dropout(h)
         o = MatMul(dr, v)",
        [&["s", "d"], &["w"], &["c", "p"], &["h", "dr", "o"]],
        &["keep"],
    ),
    (
        "OPT: maximum behind the mask; two masks",
        "! kt = Transpose(k) perm=[0, 1, 3, 2]
         qs = Mul(q, 0.5)
         s = MatMul(qs, kt)
         b = Add(s, mask)
         a = Add(b, mask)
         x1 = Max(a, -3.4e38)
         p = Softmax(x1)
         o = MatMul(p, v)",
        [&["qs", "s"], &["b", "a", "x1"], &["p"], &["o"]],
        &["mask", "mask"],
    ),
    (
        "Gemma 2",
        "! kt = Transpose(k) perm=[0, 1, 3, 2]
         s = MatMul(q, kt)
         d = Div(s, 50.0)
         th = Tanh(d)
         u = Mul(th, 50.0)
         m = Add(u, mask)
         p = Softmax(m)
         o = MatMul(p, v)",
        [&["s", "d", "th", "u"], &["m"], &["p"], &["o"]],
        &["mask"],
    ),
    (
        "Einsum",
        "s = Einsum(q, k) equation=\"bhqd,bhkd->bhqk\"
         d = Mul(s, 0.5)
         p = Softmax(d)
         o = Einsum(p, v) equation=\"bhqk,bhkd->bhqd\"",
        [&["s", "d"], &[], &["p"], &["o"]],
        &[],
    ),
    (
        "a Softmax of parts",
        "! kt = Transpose(k) perm=[0, 1, 3, 2]
         s = MatMul(q, kt)
         d = Mul(s, 0.5)
         mx = ReduceMax(d) axes=[-1]
         sh = Sub(d, mx)
         e = Exp(sh)
         su = ReduceSum(e, [-1])
         p = Div(e, su)
         o = MatMul(p, v)",
        [&["s", "d"], &[], &["mx", "sh", "e", "su", "p"], &["o"]],
        &[],
    ),
    (
        "three dimensions around the products",
        "! q3 = Reshape(q, [-1, 5, 4])
         ! kt3 = Reshape(k, [-1, 4, 5])
         ! v3 = Reshape(v, [-1, 5, 4])
         s = MatMul(q3, kt3)
         s4 = Reshape(s, [-1, 2, 5, 5])
         m = Add(s4, mask)
         m3 = Reshape(m, [-1, 5, 5])
         p = Softmax(m3)
         o = MatMul(p, v3)",
        [&["s"], &["s4", "m"], &["m3", "p"], &["o"]],
        &["mask"],
    ),
    (
        "a relative position bias of the query behind the scores",
        "! kt = Transpose(k) perm=[0, 1, 3, 2]
         ! rel = MatMul(q, weight4x4)
         s = MatMul(q, kt)
         a = Add(s, rel)
         d = Mul(a, 0.5)
         p = Softmax(d)
         o = MatMul(p, v)",
        [&["s", "d"], &["a"], &["p"], &["o"]],
        &["rel"],
    ),
    (
        "the same before the scores",
        "! kt = Transpose(k) perm=[0, 1, 3, 2]
         ! rel = MatMul(q, weight4x4)
         s = MatMul(q, kt)
         a = Add(rel, s)
         d = Mul(a, 0.5)
         p = Softmax(d)
         o = MatMul(p, v)",
        [&["s", "d"], &["a"], &["p"], &["o"]],
        &["rel"],
    ),
    (
        "a learnt temperature of each head",
        "! kt = Transpose(k) perm=[0, 1, 3, 2]
         s = MatMul(q, kt)
         d = Mul(scale2x1x1, s)
         p = Softmax(d)
         o = MatMul(p, v)",
        [&["s", "d"], &[], &["p"], &["o"]],
        &[],
    ),
    (
        "PaddlePaddle: times a number, plus 0",
        "! kt = Transpose(k) perm=[0, 1, 3, 2]
         s = MatMul(q, kt)
         d = Mul(s, 0.5)
         z = Add(d, 0.0)
         m = Add(z, mask)
         p = Softmax(m)
         o = MatMul(p, v)",
        [&["s", "d", "z"], &["m"], &["p"], &["o"]],
        &["mask"],
    ),
    (
        "PaddlePaddle, of the query",
        "! kt = Transpose(k) perm=[0, 1, 3, 2]
         d = Mul(q, 0.5)
         z = Add(d, 0.0)
         s = MatMul(z, kt)
         p = Softmax(s)
         o = MatMul(p, v)",
        [&["d", "z", "s"], &[], &["p"], &["o"]],
        &[],
    ),
    (
        "unscaled, without a mask",
        "! kt = Transpose(k) perm=[0, 1, 3, 2]
         s = MatMul(q, kt)
         p = Softmax(s)
         o = MatMul(p, v)",
        [&["s"], &[], &["p"], &["o"]],
        &[],
    ),
];

#[test]
fn attentions() {
    for (name, text, parts, masks) in ATTENTIONS {
        let model = read(&model_of(text, 17));
        let found = find_kind(&GraphView::new(model.proto()), Kind::Attention);
        let [only] = &found[..] else { panic!("{name}: {} matches", found.len()) };
        let attention = only.attention.as_ref().unwrap();
        for (part, wanted) in Part::ALL.into_iter().zip(parts) {
            assert_eq!(outputs(model.proto(), attention.part(part)), *wanted, "{name}: {}", part.name());
        }
        assert_eq!(attention.masks, *masks, "{name}: masks");
        assert_eq!(outputs(model.proto(), &only.nodes), super::wanted(text), "{name}: nodes");
        assert_eq!(only.escapes, Vec::<String>::new(), "{name}: escapes");
        assert_eq!(only.output, "o", "{name}: output");
        assert!(only.input == "q" || only.input == "q3", "{name}: input {}", only.input);
        assert!(attention.value.as_deref().is_some_and(|v| v.starts_with('v')), "{name}: value");
    }
}
