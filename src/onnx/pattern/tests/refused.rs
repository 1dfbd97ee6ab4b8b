//! Look-alikes, which must not be found; and what keeps a match from being replaced.

use super::{Kind, found_in};

fn none(name: &str, kind: Kind, text: &str) {
    let found = found_in(text, kind);
    assert!(found.is_empty(), "{name}: {found:#?}");
}

#[test]
fn an_axis_out_of_range_is_no_list_of_all_before_it() {
    for axis in ["-2147483648", "2147483647", "-4"] {
        let found = found_in(&format!("n = LayerNormalization(x, scale8) axis={axis}"), Kind::LayerNorm);
        assert!(found.iter().all(|found| found.axes.len() == 1), "{axis}: {found:?}");
    }
}

#[test]
fn what_is_no_layer_norm() {
    let no = |name, text| none(name, Kind::LayerNorm, text);
    let over = |of: &str, axes: &str, behind: &str| {
        format!(
            "m = ReduceMean({of}) axes={axes}\nd = Sub({of}, m)\np = Pow(d, 2.0)\ns = ReduceMean(p) axes={axes}\n\
             e = Add(s, 1e-5)\nr = Sqrt(e)\nn = Div(d, r)\n{behind}"
        )
    };
    assert_eq!(found_in(&over("x", "[-1]", ""), Kind::LayerNorm).len(), 1);
    none("the batch", Kind::LayerNorm, &over("x", "[0]", ""));
    none("the batch, with weights of features", Kind::LayerNorm, &over("x", "[0]", "o = Mul(n, scale8)"));
    none("an axis in the middle", Kind::LayerNorm, &over("x", "[1]", ""));
    none("unknown rank", Kind::LayerNorm, &over("any", "[2]", "o = Mul(n, scale8)"));
    none("per channel", Kind::LayerNorm, &over("image", "[2,3]", "o = Mul(n, scale1x8x1x1)"));
    no(
        "variance without the mean",
        "m = ReduceMean(x) axes=[-1]\nd = Sub(x, m)\np = Pow(x, 2.0)\ns = ReduceMean(p) axes=[-1]
         e = Add(s, 1e-5)\nr = Sqrt(e)\nn = Div(d, r)",
    );
    no(
        "another value above",
        "m = ReduceMean(x) axes=[-1]\nd = Sub(x, m)\nf = Sub(y, m)\np = Pow(d, 2.0)\ns = ReduceMean(p) axes=[-1]
         e = Add(s, 1e-5)\nr = Sqrt(e)\nn = Div(f, r)",
    );
    no(
        "cubes",
        "m = ReduceMean(x) axes=[-1]\nd = Sub(x, m)\np = Pow(d, 3.0)\ns = ReduceMean(p) axes=[-1]
         e = Add(s, 1e-5)\nr = Sqrt(e)\nn = Div(d, r)",
    );
    no(
        "another number than 1/N",
        "t1 = ReduceSum(x, [-1])\nm = Mul(t1, 0.25)\nd = Sub(x, m)\np = Pow(d, 2.0)\ns = ReduceMean(p) axes=[-1]
         e = Add(s, 1e-5)\nr = Sqrt(e)\nn = Div(d, r)",
    );
    no(
        "differing axes",
        "m = ReduceMean(x) axes=[1]\nd = Sub(x, m)\np = Pow(d, 2.0)\ns = ReduceMean(p) axes=[-1]
         e = Add(s, 1e-5)\nr = Sqrt(e)\nn = Div(d, r)",
    );
    no(
        "a large summand",
        "m = ReduceMean(x) axes=[-1]\nd = Sub(x, m)\np = Pow(d, 2.0)\ns = ReduceMean(p) axes=[-1]
         e = Add(s, 1.0)\nr = Sqrt(e)\nn = Div(d, r)",
    );
    no(
        "multiplied by the deviation",
        "m = ReduceMean(x) axes=[-1]\nd = Sub(x, m)\np = Pow(d, 2.0)\ns = ReduceMean(p) axes=[-1]
         e = Add(s, 1e-5)\nr = Sqrt(e)\nn = Mul(d, r)",
    );
    let keras = |negated: &str, last: &str| {
        format!(
            "m = ReduceMean(x) axes=[-1]\nneg = Neg(m)\nd = Sub(x, m)\np = Mul(d, d)\ns = ReduceMean(p) axes=[-1]\n\
             e = Add(s, 1e-5)\nr = Sqrt(e)\ni = Reciprocal(r)\nxs = Mul(x, i)\nms = Mul({negated}, i)\n{last}"
        )
    };
    assert_eq!(found_in(&keras("neg", "o = Add(xs, ms)"), Kind::LayerNorm).len(), 1);
    none("the mean is added", Kind::LayerNorm, &keras("m", "o = Add(xs, ms)"));
    none("minus the negated mean", Kind::LayerNorm, &keras("neg", "o = Sub(xs, ms)"));
    none("negated twice", Kind::LayerNorm, &keras("neg", "n = Neg(ms)\no = Add(xs, n)"));
    none("minus the bias", Kind::LayerNorm, &keras("neg", "b = Sub(bias8, ms)\no = Add(xs, b)"));
    none("the mean of another", Kind::LayerNorm, &keras("y", "n = Neg(ms)\no = Add(xs, n)"));
    no("the domain of somebody else", "o = ms.LayerNormalization(x, scale8, bias8)");
}

#[test]
fn what_is_no_other_norm() {
    let square = "p = Mul(x, x)\ns = ReduceMean(p) axes=[-1]\ne = Add(s, 1e-5)\nr = Sqrt(e)\n";
    none("of another value", Kind::RmsNorm, &format!("{square}n = Div(y, r)"));
    none("turned over", Kind::RmsNorm, &format!("{square}n = Div(r, x)"));
    none("a product of two", Kind::RmsNorm, &format!("{}n = Div(x, r)", square.replace("(x, x)", "(x, y)")));
    none(
        "a layer norm",
        Kind::RmsNorm,
        &format!("{square}m = ReduceMean(x) axes=[-1]\nd = Sub(x, m)\nn = Div(d, r)"),
    );
    none("of another value", Kind::L2Norm, "n = ReduceL2(x) axes=[-1]\no = Div(y, n)");
    none("p = 1", Kind::L2Norm, "o = LpNormalization(x) p=1");
    none("no keepdims", Kind::L2Norm, "n = ReduceL2(x) axes=[-1] keepdims=0\no = Div(x, n)");
}

#[test]
fn what_is_no_softmax_gelu_or_attention() {
    none(
        "other exponentials",
        Kind::Softmax,
        "e = Exp(x)\nf = Exp(y)\ns = ReduceSum(e, [-1])\no = Div(f, s)",
    );
    none("turned over", Kind::Softmax, "e = Exp(x)\ns = ReduceSum(e, [-1])\no = Div(s, e)");
    let gelu = |root: &str, half: &str| {
        format!("d = Div(x, {root})\nf = Erf(d)\na = Add(f, 1.0)\np = Mul(x, a)\no = Mul(p, {half})")
    };
    assert_eq!(found_in(&gelu("1.4142", "0.5"), Kind::Gelu).len(), 1);
    none("another root", Kind::Gelu, &gelu("1.5", "0.5"));
    none("another half", Kind::Gelu, &gelu("1.4142", "0.6"));
    none(
        "a plain error function",
        Kind::Gelu,
        "d = Div(x, 1.4142)\nf = Erf(d)\na = Add(f, 1.0)\no = Mul(y, a)",
    );
    let turned = |perm: &str| {
        format!(
            "t1 = Transpose(x) perm=[1,2,0]\np = Pow(t1, 3.0)\nc = Mul(p, 0.044715)\nt2 = Transpose(c) perm={perm}\n\
             s = Add(x, t2)\nm = Mul(s, 0.7978846)\nth = Tanh(m)\na = Add(th, 1.0)\nh = Mul(x, 0.5)\no = Mul(h, a)"
        )
    };
    assert_eq!(found_in(&turned("[2,0,1]"), Kind::Gelu).len(), 1);
    none("a cube of other axes", Kind::Gelu, &turned("[1,2,0]"));
    none("a plain tanh", Kind::Gelu, "t1 = Tanh(x)\no = Mul(x, t1)");
    none("a quick one", Kind::Gelu, "m = Mul(x, 1.702)\ns = Sigmoid(m)\no = Mul(x, s)");
    none(
        "a classifier",
        Kind::Attention,
        "s = MatMul(x, weight8x8)\np = Softmax(s)\no = MatMul(p, weight8x8)",
    );
    none("constant keys", Kind::Attention, "s = MatMul(q, weight4x4)\np = Softmax(s)\no = MatMul(p, v)");
    none("no values", Kind::Attention, "s = MatMul(q, k)\np = Softmax(s)\no = Mul(p, v)");
    none("another axis", Kind::Attention, "s = MatMul(q, k)\np = Softmax(s) axis=1\no = MatMul(p, v)");
}

#[test]
fn a_table_of_positions_is_no_bias() {
    let text = "s0 = ReduceMean(x) axes=[-1]\nd = Sub(x, s0)\np = Pow(d, 2.0)\ns = ReduceMean(p) axes=[-1]
                e = Add(s, 1e-5)\nr = Sqrt(e)\nn = Div(d, r)\nw = Mul(n, scale8)\no = Add(w, table5x8)";
    let found = found_in(text, Kind::LayerNorm);
    assert_eq!((found[0].output.as_str(), found[0].bias.as_deref()), ("w", None));
}

#[test]
fn what_others_read_is_recorded() {
    let text = "m = ReduceMean(x) axes=[-1]\nd = Sub(x, m)\np = Pow(d, 2.0)\ns = ReduceMean(p) axes=[-1]
                e = Add(s, 1e-5)\nr = Sqrt(e)\nn = Div(d, r)\nw = Mul(n, scale8)\nz = Add(w, m)";
    let found = found_in(text, Kind::LayerNorm);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].output.as_str(), &found[0].escapes[..]), ("w", &["m".to_owned()][..]));
    assert!(found[0].exact);
}

#[test]
fn a_norm_that_two_scales_read_has_none() {
    let text = "m = ReduceMean(x) axes=[-1]\nd = Sub(x, m)\np = Pow(d, 2.0)\ns = ReduceMean(p) axes=[-1]
                e = Add(s, 1e-5)\nr = Sqrt(e)\nn = Div(d, r)\nw = Mul(n, scale8)\nu = Mul(n, bias8)\nz = Add(w, u)";
    let found = found_in(text, Kind::LayerNorm);
    assert_eq!((found[0].output.as_str(), found[0].scale.as_deref()), ("n", None));
    assert!(found[0].exact && found[0].escapes.is_empty());
}
