//! Transformers of any size, as exporters write them.

use super::{WithAttribute, floats, ints, model, node, value};
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};

/// How its norms are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norms {
    /// ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div, Mul, Add, at opset 13.
    Decomposed,
    /// LayerNormalization, at opset 17.
    Explicit,
}

/// A transformer that reads tokens: `input_ids` int64[batch, seq] (and `attention_mask` int64[batch, seq]) to `logits`
/// float[batch, seq, 16]. Each layer is norm, attention, add, norm, GELU between two products, add.
#[derive(Clone, Debug)]
pub struct Transformer {
    /// Width. A multiple of `heads`.
    pub d: i64,
    /// Heads of each attention.
    pub heads: i64,
    /// Layers.
    pub layers: usize,
    /// Tokens that it knows.
    pub vocabulary: i64,
    /// How its norms are spelled.
    pub norms: Norms,
    /// What is added to the scores of tokens that a mask leaves out; no mask if none.
    pub mask: Option<f32>,
    /// How large the residual stream is. From about 200 on, the squares in a decomposed norm leave FP16's range.
    pub residual: f32,
}

impl Transformer {
    /// A small one: two layers of 64 with four heads, without a mask, its residual stream about one.
    #[must_use]
    pub fn small(norms: Norms) -> Transformer {
        Transformer { d: 64, heads: 4, layers: 2, vocabulary: 100, norms, mask: None, residual: 1.0 }
    }

    /// [`Transformer::small`] with decomposed norms over a residual stream that is large: wrong in FP16, and right with
    /// its norms in FP32.
    #[must_use]
    pub fn overflowing() -> Transformer {
        Transformer { residual: 400.0, ..Transformer::small(Norms::Decomposed) }
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> ModelProto {
        let mut body = Body { of: self, nodes: Vec::new(), weights: Vec::new() };
        let mut input = vec![value("input_ids", DataType::Int64, &["batch".into(), "seq".into()])];
        let mask = self.mask.map(|low| {
            input.push(value("attention_mask", DataType::Int64, &["batch".into(), "seq".into()]));
            body.mask(low)
        });
        body.weight("embedding", &[self.vocabulary, self.d], self.residual);
        body.push("/embedding/Gather", "Gather", &["embedding", "input_ids"], "/embedding");
        body.constants();
        let mut stream = "/embedding".to_owned();
        for layer in 0..self.layers {
            stream = body.layer(&format!("/layers.{layer}"), &stream, mask.as_deref());
        }
        let normal = body.norm("/norm", &stream);
        body.product("/head", &normal, 16, "logits");
        let graph = GraphProto {
            input,
            output: vec![value("logits", DataType::Float, &["batch".into(), "seq".into(), 16.into()])],
            initializer: body.weights,
            node: body.nodes,
            ..GraphProto::default()
        };
        model(if self.norms == Norms::Explicit { 17 } else { 13 }, graph)
    }
}

struct Body<'t> {
    of: &'t Transformer,
    nodes: Vec<NodeProto>,
    weights: Vec<TensorProto>,
}

impl Body<'_> {
    fn add(&mut self, node: NodeProto) {
        self.nodes.push(node);
    }

    fn push(&mut self, name: &str, op: &str, inputs: &[&str], output: &str) {
        self.add(node(name, op, inputs, &[output]));
    }

    /// A node whose result is named after it.
    fn then(&mut self, name: &str, op: &str, inputs: &[&str]) -> String {
        let output = format!("{name}_output_0");
        self.push(name, op, inputs, &output);
        output
    }

    /// A weight whose values follow its name, about normal with this deviation.
    fn weight(&mut self, name: &str, dims: &[i64], deviation: f32) {
        let count = usize::try_from(dims.iter().product::<i64>()).unwrap_or(0);
        let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Four uniform numbers: a variance of 4 / 12.
            let sum: f32 = state.to_le_bytes()[4..].iter().map(|byte| f32::from(*byte) / 255.0 - 0.5).sum();
            sum * 1.732 * deviation
        };
        let values: Vec<f32> = (0..count).map(|_| next()).collect();
        self.weights.push(floats(name, dims, &values));
    }

    fn constants(&mut self) {
        let dh = self.of.d / self.of.heads;
        self.weights.push(ints("heads_shape", &[4], &[0, 0, self.of.heads, dh]));
        self.weights.push(ints("joined_shape", &[3], &[0, 0, self.of.d]));
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let root = (dh as f32).sqrt();
        let scalars = [
            ("root_dh", root),
            ("two", 2.0),
            ("epsilon", 1e-5),
            ("root_2", std::f32::consts::SQRT_2),
            ("half", 0.5),
        ];
        for (name, scalar) in scalars {
            self.weights.push(floats(name, &[], &[scalar]));
        }
        if self.of.mask.is_none() {
            self.weights.push(floats("one", &[], &[1.0]));
        }
    }

    /// `(1 - mask) * low`, to be added to scores.
    fn mask(&mut self, low: f32) -> String {
        self.weights.push(ints("mask_axes", &[2], &[1, 2]));
        self.weights.push(floats("one", &[], &[1.0]));
        self.weights.push(floats("lowest", &[], &[low]));
        let wide = self.then("/mask/Unsqueeze", "Unsqueeze", &["attention_mask", "mask_axes"]);
        self.add(node("/mask/Cast", "Cast", &[&wide], &["/mask/Cast_output_0"]).int("to", 1));
        let left_out = self.then("/mask/Sub", "Sub", &["one", "/mask/Cast_output_0"]);
        self.then("/mask/Mul", "Mul", &[&left_out, "lowest"])
    }

    fn product(&mut self, name: &str, input: &str, columns: i64, output: &str) {
        let rows = if name.ends_with("fc2") { 4 * self.of.d } else { self.of.d };
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let deviation = 1.0 / (rows as f32).sqrt();
        self.weight(&format!("{name}.weight"), &[rows, columns], deviation);
        self.weight(&format!("{name}.bias"), &[columns], 0.1);
        let product = self.then(&format!("{name}/MatMul"), "MatMul", &[input, &format!("{name}.weight")]);
        self.push(&format!("{name}/Add"), "Add", &[&format!("{name}.bias"), &product], output);
    }

    fn norm(&mut self, name: &str, input: &str) -> String {
        let d = self.of.d;
        let (scale, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        self.weights.push(floats(&scale, &[d], &vec![1.0; usize::try_from(d).unwrap_or(0)]));
        self.weight(&bias, &[d], 0.1);
        if self.of.norms == Norms::Explicit {
            let output = format!("{name}_output_0");
            let norm = node(name, "LayerNormalization", &[input, &scale, &bias], &[&output]);
            self.add(norm.int("axis", -1).float("epsilon", 1e-5));
            return output;
        }
        let mean = |body: &mut Self, part: &str, input: &str| {
            let output = format!("{name}/{part}_output_0");
            let mean = node(&format!("{name}/{part}"), "ReduceMean", &[input], &[&output]);
            body.add(mean.ints("axes", &[-1]).int("keepdims", 1));
            output
        };
        let middle = mean(self, "ReduceMean", input);
        let centred = self.then(&format!("{name}/Sub"), "Sub", &[input, &middle]);
        let square = self.then(&format!("{name}/Pow"), "Pow", &[&centred, "two"]);
        let variance = mean(self, "ReduceMean_1", &square);
        let sum = self.then(&format!("{name}/Add"), "Add", &[&variance, "epsilon"]);
        let deviation = self.then(&format!("{name}/Sqrt"), "Sqrt", &[&sum]);
        let normal = self.then(&format!("{name}/Div"), "Div", &[&centred, &deviation]);
        let scaled = self.then(&format!("{name}/Mul"), "Mul", &[&normal, &scale]);
        self.then(&format!("{name}/Add_1"), "Add", &[&scaled, &bias])
    }

    /// `[batch, seq, d]` as heads, their axes in this order.
    fn heads(&mut self, name: &str, input: &str, order: &[i64]) -> String {
        let split = self.then(&format!("{name}/Reshape"), "Reshape", &[input, "heads_shape"]);
        let output = format!("{name}/Transpose_output_0");
        self.add(node(&format!("{name}/Transpose"), "Transpose", &[&split], &[&output]).ints("perm", order));
        output
    }

    fn layer(&mut self, name: &str, stream: &str, mask: Option<&str>) -> String {
        let d = self.of.d;
        let normal = self.norm(&format!("{name}/norm1"), stream);
        let mut part = |what: &str, order: &[i64]| {
            let (name, output) = (format!("{name}/attn/{what}"), format!("{name}/attn/{what}_output_0"));
            self.product(&name, &normal, d, &output);
            self.heads(&name, &output, order)
        };
        let (q, k, v) = (part("q", &[0, 2, 1, 3]), part("k", &[0, 2, 3, 1]), part("v", &[0, 2, 1, 3]));
        let attention = format!("{name}/attn");
        let scores = self.then(&format!("{attention}/MatMul"), "MatMul", &[&q, &k]);
        let mut scores = self.then(&format!("{attention}/Div"), "Div", &[&scores, "root_dh"]);
        if let Some(mask) = mask {
            scores = self.then(&format!("{attention}/Add"), "Add", &[&scores, mask]);
        }
        let shares = format!("{attention}/Softmax_output_0");
        self.add(node(&format!("{attention}/Softmax"), "Softmax", &[&scores], &[&shares]).int("axis", -1));
        let context = self.then(&format!("{attention}/MatMul_1"), "MatMul", &[&shares, &v]);
        let back = format!("{attention}/Transpose_output_0");
        self.add(
            node(&format!("{attention}/Transpose"), "Transpose", &[&context], &[&back])
                .ints("perm", &[0, 2, 1, 3]),
        );
        let joined = self.then(&format!("{attention}/Reshape"), "Reshape", &[&back, "joined_shape"]);
        let out = format!("{attention}/out_output_0");
        self.product(&format!("{attention}/out"), &joined, d, &out);
        let stream = self.then(&format!("{name}/Add"), "Add", &[stream, &out]);

        let normal = self.norm(&format!("{name}/norm2"), &stream);
        let hidden = format!("{name}/fc1_output_0");
        self.product(&format!("{name}/fc1"), &normal, 4 * d, &hidden);
        let active = self.gelu(&format!("{name}/act"), &hidden);
        let out = format!("{name}/fc2_output_0");
        self.product(&format!("{name}/fc2"), &active, d, &out);
        self.then(&format!("{name}/Add_1"), "Add", &[&stream, &out])
    }

    fn gelu(&mut self, name: &str, input: &str) -> String {
        let scaled = self.then(&format!("{name}/Div"), "Div", &[input, "root_2"]);
        let erf = self.then(&format!("{name}/Erf"), "Erf", &[&scaled]);
        let sum = self.then(&format!("{name}/Add"), "Add", &[&erf, "one"]);
        let product = self.then(&format!("{name}/Mul"), "Mul", &[input, &sum]);
        self.then(&format!("{name}/Mul_1"), "Mul", &[&product, "half"])
    }
}
