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
    ("Where", &["select"]),
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
    ("LeakyRelu", &["mul", "select"]),
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

/// What a sum over many elements is told by, and what one over few is made of.
pub(super) const MANY: &str = "reduce-add";
pub(super) const FEW: &str = "add";

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
