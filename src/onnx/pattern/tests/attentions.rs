//! Attention, in every spelling.

use super::super::super::graph::GraphView;
use super::{Kind, Part, find_kind, model_of, outputs, read};

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
        "SAM: biases of rows and columns, which are no constants, made first",
        "! kt = Transpose(k) perm=[0, 1, 3, 2]
         ! rows = MatMul(q, y)
         ! sum = Add(rows, mask)
         s = MatMul(q, kt)
         a = Add(sum, s)
         p = Softmax(a)
         o = MatMul(p, v)",
        [&["s"], &["a"], &["p"], &["o"]],
        &["sum"],
    ),
    (
        "scaled twice, once by 1",
        "! kt = Transpose(k) perm=[0, 1, 3, 2]
         h = Mul(q, 0.5)
         t1 = Transpose(h) perm=[0, 1, 2, 3]
         d = Mul(t1, 1.0)
         s = MatMul(d, kt)
         p = Softmax(s)
         o = MatMul(p, v)",
        [&["h", "t1", "d", "s"], &[], &["p"], &["o"]],
        &[],
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
