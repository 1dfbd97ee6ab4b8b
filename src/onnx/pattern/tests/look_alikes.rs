//! What looks like a norm or a softmax, and computes something else: `fuse` would change the numbers of the model.

use super::{Kind, found_in};

const NORM: &str = "m = ReduceMean(x) axes=[-1]\nd = Sub(x, m)\np = Mul(d, d)\ns = ReduceMean(p) axes=[-1]\n\
                    e = Add(s, 1e-5)\nr = Sqrt(e)\no = Div(d, r)";

fn found(name: &str, kind: Kind, text: &str, count: usize) {
    let found = found_in(text, kind);
    assert_eq!(found.len(), count, "{name}: {found:#?}");
}

#[test]
fn a_cast_is_looked_through_between_float_types_alone() {
    for (to, count) in [(1, 1), (10, 1), (11, 1), (16, 1), (7, 0), (6, 0), (9, 0), (17, 0)] {
        let cast = format!("i = Cast(d) to={to}\nf = Cast(i) to=1\no = Div(f, r)");
        found(&format!("{to}"), Kind::LayerNorm, &NORM.replace("o = Div(d, r)", &cast), count);
        let mean = format!("i = Cast(x) to={to}\nf = Cast(i) to=1\nm = ReduceMean(f)");
        found(
            &format!("{to} before the mean"),
            Kind::LayerNorm,
            &NORM.replace("m = ReduceMean(x)", &mean),
            count,
        );
    }
    let exp = "e = Exp(x)\nb = Cast(e) to=9\nf = Cast(b) to=1\ns = ReduceSum(f, [-1])\no = Div(e, s)";
    found("a count", Kind::Softmax, exp, 0);
    found("a count", Kind::Softmax, &exp.replace("to=9", "to=10"), 1);
}

#[test]
fn a_statistic_stands_along_its_own_axes() {
    // In a square nothing but the place of the 1 tells.
    let square = |axis: &str, fix: &str| {
        format!(
            "w = Reshape(x, [5,5,5])\nm0 = ReduceMean(w) axes=[-1] keepdims=0\nm = Unsqueeze(m0, {axis})\nd = Sub(w, m)\n\
             p = Mul(d, d)\nv0 = ReduceMean(p) axes=[-1] keepdims=0\nu = Unsqueeze(v0, {axis})\n{fix}e = Add(u, 1e-5)\n\
             r = Sqrt(e)\no = Div(d, r)"
        )
    };
    found("its own", Kind::LayerNorm, &square("[2]", ""), 1);
    found(
        "expanded",
        Kind::LayerNorm,
        &square("[2]", "v2 = Expand(u, [5,5,5])\n").replace("Add(u,", "Add(v2,"),
        1,
    );
    found("another", Kind::LayerNorm, &square("[1]", ""), 0);
    let sum = |axis: &str| {
        format!(
            "w = Reshape(x, [5,5,5])\ne = Exp(w)\ns0 = ReduceSum(e, [-1]) keepdims=0\ns = Unsqueeze(s0, {axis})\no = Div(e, s)"
        )
    };
    found("its own", Kind::Softmax, &sum("[2]"), 1);
    found("another", Kind::Softmax, &sum("[1]"), 0);
    let length = |axis: &str| {
        let op = sum(axis).replace("Exp(w)", "Mul(w, w)").replace("Div(e, s)", "Div(w, l)");
        op.replace("\no =", "\nl = Sqrt(s)\no =")
    };
    found("its own", Kind::L2Norm, &length("[2]"), 1);
    found("another", Kind::L2Norm, &length("[1]"), 0);
    // Also where the sizes are not known.
    let unknown = "s0 = ReduceL2(any2) axes=[-1] keepdims=0\ns = Unsqueeze(s0, [1])\no = Div(any2, s)";
    let unknown = format!("any2 = Reshape(x, [0,0,-1])\n{unknown}");
    found("another", Kind::L2Norm, &unknown, 0);
    found("its own", Kind::L2Norm, &unknown.replace("[1])", "[2])"), 1);
    let computed = |dims: &str| {
        format!(
            "w = Reshape(x, [0,0,-1])\nsh = Shape(w)\nb = Gather(sh, [0])\nt = Gather(sh, [1])\n\
             to = Concat({dims}) axis=0\ns0 = ReduceL2(w) axes=[-1] keepdims=0\ns = Reshape(s0, to)\no = Div(w, s)"
        )
    };
    found("another, by a shape that is computed", Kind::L2Norm, &computed("b, [1], t"), 0);
    found("its own, by a shape that is computed", Kind::L2Norm, &computed("b, t, [1]"), 1);
}

#[test]
fn a_variance_that_is_bounded_above_is_none() {
    let bounded = |bound: &str| NORM.replace("e = Add(s,", &format!("c = {bound}\ne = Add(c,"));
    found("below alone", Kind::LayerNorm, &bounded("Clip(s, 0.0)"), 1);
    found("by the largest number", Kind::LayerNorm, &bounded("Clip(s, 0.0, 3.4028235e38)"), 1);
    found("above", Kind::LayerNorm, &bounded("Clip(s, 0.0, 1.0)"), 0);
    found("above, at run time", Kind::LayerNorm, &bounded("Clip(s, 0.0, y)"), 0);
    found("by a maximum of two", Kind::LayerNorm, &bounded("Max(s, 0.0)"), 1);
    found("by a maximum of three", Kind::LayerNorm, &bounded("Max(s, 0.0, 3.0)"), 0);
    let three = NORM.replace("e = Add(s, 1e-5)", "e = Sum(s, 1e-5, 3.0)");
    found("a sum of three", Kind::LayerNorm, &three, 0);
    found("a sum of two", Kind::LayerNorm, &three.replace(", 3.0", ""), 1);
}
