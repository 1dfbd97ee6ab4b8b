//! What ONNX operators become in generated kernels, as data: by which steps they can be told.

/// How an operator can be told in a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// A matrix product or convolution: by the types of its operands.
    Product,
    /// It moves elements, and computes nothing.
    Moves,
    /// Its result is one of its inputs, or has the same digits: rounding before or after is the same.
    Exact(&'static [&'static str]),
    /// By these steps of the source.
    Steps(&'static [&'static str]),
    /// Not known: only a kernel all of one type tells something.
    Other,
}

const PRODUCTS: [&str; 7] =
    ["MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "com.microsoft::FusedMatMul", "Attention"];

/// Products that add a bias.
const BIASED: [&str; 4] = ["Gemm", "Conv", "ConvTranspose", "Attention"];

const MOVES: [&str; 22] = [
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Identity",
    "Slice",
    "Expand",
    "Concat",
    "Split",
    "Gather",
    "GatherND",
    "GatherElements",
    "ScatterND",
    "ScatterElements",
    "Tile",
    "Pad",
    "DepthToSpace",
    "SpaceToDepth",
    "Dropout",
    "ConstantOfShape",
    "Cast",
];

const EXACT: [(&str, &[&str]); 12] = [
    ("Relu", &["max", "relu"]),
    ("Max", &["max"]),
    ("Min", &["min"]),
    ("Clip", &["max", "min"]),
    ("Abs", &["abs"]),
    ("Neg", &["neg"]),
    ("MaxPool", &["max", "reduce-max"]),
    ("GlobalMaxPool", &["max", "reduce-max"]),
    ("ReduceMax", &["reduce-max", "max"]),
    ("ReduceMin", &["reduce-min", "min"]),
    ("Sign", &["sign"]),
    ("Where", &[]),
];

const NORM: &[&str] = &["reduce-add", "add", "sub", "mul", "div", "sqrt", "rsqrt", "sqr"];

/// In the order of the operators' names. A sum of few elements is made of [`FEW`].
const STEPS: [(&str, &[&str]); 40] = [
    ("Add", &["add"]),
    ("AveragePool", &["reduce-add"]),
    ("BatchNormalization", &["mul", "add"]),
    ("Cos", &["cos"]),
    ("CumSum", &["reduce-add"]),
    ("Div", &["div", "mul", "rcp"]),
    ("Elu", &["elu", "exp"]),
    ("Erf", &["erf"]),
    ("Exp", &["exp"]),
    ("Gelu", &["gelu", "erf", "tanh"]),
    ("GlobalAveragePool", &["reduce-add"]),
    ("GroupNormalization", NORM),
    ("HardSigmoid", &["mul", "add", "max", "min"]),
    ("HardSwish", &["mul", "add", "max", "min"]),
    ("InstanceNormalization", NORM),
    ("LayerNormalization", NORM),
    ("LeakyRelu", &["mul"]),
    ("Log", &["log"]),
    ("LogSoftmax", &["exp", "log", "sub", "reduce-add"]),
    ("LpNormalization", NORM),
    ("Mul", &["mul", "sqr"]),
    ("PRelu", &["mul"]),
    ("Pow", &["mul", "pow", "sqr", "sqrt"]),
    ("RMSNormalization", NORM),
    ("Reciprocal", &["div", "rcp"]),
    ("ReduceL1", &["reduce-add"]),
    ("ReduceL2", &["reduce-add", "sqrt"]),
    ("ReduceLogSumExp", &["exp", "log", "reduce-add"]),
    ("ReduceMean", &["reduce-add"]),
    ("ReduceProd", &["reduce-mul", "mul"]),
    ("ReduceSum", &["reduce-add"]),
    ("ReduceSumSquare", &["reduce-add"]),
    ("Sigmoid", &["sigmoid", "exp"]),
    ("Sin", &["sin"]),
    ("Softmax", &["exp", "reduce-add"]),
    ("Softplus", &["softplus", "exp", "log"]),
    ("Sqrt", &["sqrt", "rsqrt"]),
    ("Sub", &["sub"]),
    ("Sum", &["add"]),
    ("Tanh", &["tanh"]),
];

/// Operators that make no steps but those they are told by. Others may use any of [`BASIC`] on the way.
const SIMPLE: [&str; 13] =
    ["Add", "Cos", "Erf", "Exp", "Log", "Mul", "PRelu", "Sigmoid", "Sin", "Sqrt", "Sub", "Sum", "Tanh"];

const BASIC: [&str; 6] = [FEW, "sub", MUL, "div", "max", "min"];

/// Steps that TensorRT was seen to put in the place of others.
const RESPELLED: [(&str, &str); 4] = [("Sub", FEW), ("Neg", FEW), ("Neg", "sub"), ("Neg", MUL)];

/// Steps that operators make beside those they are told by.
const BESIDE: [(&str, &str); 6] = [
    ("Gelu", FEW),
    ("Gelu", "div"),
    ("Gelu", MUL),
    ("Softmax", "div"),
    ("Softmax", "sub"),
    ("LeakyRelu", "max"),
];

/// Operators that make one kind of step more than once. So do norms.
const SEVERAL: [&str; 6] = ["Gelu", "HardSwish", "Max", "Min", "ReduceProd", "Sum"];

/// Operators that run others, which have names of their own.
const CONTROL: [&str; 3] = ["If", "Loop", "Scan"];

/// What a product is made of, beside sums.
pub(super) const MUL: &str = "mul";

/// What a sum over many elements is told by, and what one over few is made of.
pub(super) const MANY: &str = "reduce-add";
pub(super) const FEW: &str = "add";

/// May an operator make steps of this kind?
pub(super) fn may_bring(op: &str, step: &str) -> bool {
    class(op).steps().contains(&step)
        || RESPELLED.contains(&(op, step))
        || match class(op) {
            Class::Product => [MUL, MANY, FEW].contains(&step),
            Class::Moves | Class::Exact(_) => false,
            Class::Steps(_) => !SIMPLE.contains(&op) && BASIC.contains(&step),
            Class::Other => !CONTROL.contains(&op),
        }
}

/// Does it, as a rule?
pub(super) fn brings(op: &str, step: &str) -> bool {
    let steps = class(op).steps();
    steps.contains(&step)
        || BESIDE.contains(&(op, step))
        || (step == FEW && (steps == [MANY] || BIASED.contains(&op)))
}

/// Does it make no more than one of them, if it is not unrolled?
pub(super) fn brings_one(op: &str, step: &str) -> bool {
    let steps = class(op).steps();
    steps.contains(&step) && steps != NORM && !SEVERAL.contains(&op)
}

/// How an operator can be told.
pub(super) fn class(op: &str) -> Class {
    let of = |table: &'static [(&str, &'static [&'static str])]| {
        table.iter().find(|(name, _)| *name == op).map(|(_, steps)| *steps)
    };
    if PRODUCTS.contains(&op) {
        Class::Product
    } else if MOVES.contains(&op) {
        Class::Moves
    } else if let Some(steps) = of(&EXACT) {
        Class::Exact(steps)
    } else if let Some(steps) = of(&STEPS) {
        Class::Steps(steps)
    } else {
        Class::Other
    }
}

impl Class {
    /// The steps that it can be told by.
    pub(super) fn steps(self) -> &'static [&'static str] {
        match self {
            Class::Exact(steps) | Class::Steps(steps) => steps,
            Class::Product | Class::Moves | Class::Other => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::IDLE;
    use super::*;

    #[test]
    fn every_step_of_the_tables_is_one_that_is_counted() {
        let tables =
            EXACT.iter().chain(&STEPS).flat_map(|(op, steps)| steps.iter().map(move |step| (op, step)));
        for (op, step) in tables {
            assert!(!IDLE.contains(step), "{op} is told by `{step}`, which is thrown away");
        }
    }

    #[test]
    fn what_brings_a_step_is_known_with_care() {
        for (op, step, may) in [
            ("Sigmoid", "mul", false),
            ("Relu", "mul", false),
            ("Reshape", "mul", false),
            ("If", "mul", false),
            ("Mul", "mul", true),
            ("MatMul", "mul", true),
            ("ReduceMean", "mul", true),
            ("Unheard", "mul", true),
            ("Sub", "add", true),
        ] {
            assert_eq!(may_bring(op, step), may, "{op} {step}");
        }
        assert!(brings_one("Mul", "mul") && brings_one("Softmax", "exp"));
        assert!(!brings_one("LayerNormalization", "mul") && !brings_one("HardSwish", "mul"));
        assert!(!brings_one("Unheard", "mul"));
    }
}
