//! Operators that round in their middle, taken apart into operators that round at their end.

use super::super::float::FloatType;
use super::write::{Writer, node};
use crate::onnx::make;
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::proto::{NodeProto, TensorProto};

/// What a Row asks for, on a node whose types are FP32 already.
impl Writer<'_> {
    /// `1 / (1 + exp(-x))`.
    pub(super) fn sigmoid(&mut self, sigmoid: &NodeProto, of: FloatType) {
        let (Some(output), Some(input)) = (sigmoid.output.first(), sigmoid.input.first()) else { return };
        let [minus, power, one, sum] = ["minus", "power", "one", "sum"].map(|what| self.fresh(output, what));
        self.push(node("Neg", &[input], &minus));
        self.push(node("Exp", &[&minus], &power));
        self.push(constant(FloatType::Fp32.element(), Vec::new(), 1f32.to_le_bytes().to_vec(), &one));
        self.push(node("Add", &[&one, &power], &sum));
        self.step("Reciprocal", &[&sum], output, of);
    }

    /// `a + b + c` as `(a + b) + c`.
    pub(super) fn each_sum(&mut self, sum: &NodeProto, of: FloatType) {
        let (Some(output), [first, rest @ ..]) = (sum.output.first(), sum.input.as_slice()) else { return };
        let mut value = first.clone();
        for (i, addend) in rest.iter().enumerate() {
            let last = i + 1 == rest.len();
            let to = if last { output.clone() } else { self.fresh(output, "sum") };
            self.step("Add", &[&value, addend], &to, of);
            value = to;
        }
        if rest.is_empty() {
            self.push(node("Identity", &[&value], output));
        }
    }

    /// A reduction with something before and after its sum.
    pub(super) fn reduction(
        &mut self,
        reduce: &NodeProto,
        before: Option<&str>,
        after: Option<&str>,
        of: FloatType,
    ) {
        let (Some(output), Some(input)) = (reduce.output.first(), reduce.input.first()) else { return };
        let mut value = input.clone();
        if let Some(before) = before {
            let to = self.fresh(output, "terms");
            match before {
                "square" => self.step("Mul", &[&value, &value], &to, of),
                op => self.step(op, &[&value], &to, of),
            }
            value = to;
        }
        let to = if after.is_some() { self.fresh(output, "sum") } else { output.clone() };
        self.sum(reduce, &value, &to, of);
        if let Some(after) = after {
            self.step(after, &[&to], output, of);
        }
    }

    /// `ReduceSum` with the axes of another reduction.
    fn sum(&mut self, reduce: &NodeProto, value: &str, to: &str, of: FloatType) {
        let mut sum = NodeProto { op_type: Some("ReduceSum".to_owned()), ..reduce.clone() };
        sum.input[0] = value.to_owned();
        // ReduceSum takes its axes as an input from opset 13 on, the others from 18 on.
        if self.opset >= 13
            && let Some(at) = sum.attribute.iter().position(|a| a.name() == "axes")
        {
            let axes = sum.attribute.remove(at).ints;
            let name = self.fresh(to, "axes");
            let data = axes.iter().flat_map(|axis| axis.to_le_bytes()).collect();
            let dims = vec![i64::try_from(axes.len()).unwrap_or(0)];
            self.push(constant(DataType::Int64, dims, data, &name));
            sum.input.truncate(1);
            sum.input.push(name);
        }
        let unrounded = self.fresh(to, "unrounded");
        sum.name = Some(self.fresh(&unrounded, "node"));
        sum.output = vec![unrounded.clone()];
        self.push(sum);
        self.round(&unrounded, to, of);
    }

    /// Statistics in FP32, rounded; then scale and bias, each rounded.
    pub(super) fn norm(&mut self, norm: &NodeProto, of: FloatType) {
        let [input, scale, rest @ ..] = norm.input.as_slice() else { return self.result(norm.clone(), of) };
        let Some(output) = norm.output.first().cloned() else { return };
        let (shape, ones) = (self.fresh(&output, "shape"), self.fresh(&output, "ones"));
        self.push(node("Shape", &[scale], &shape));
        let one = TensorProto {
            data_type: Some(FloatType::Fp32.element() as i32),
            dims: vec![1],
            raw_data: Some(1f32.to_le_bytes().to_vec().into()),
            ..TensorProto::default()
        };
        let mut fill = node("ConstantOfShape", &[&shape], &ones);
        fill.attribute.push(make::tensor("value", one));
        self.push(fill);

        let bias = rest.first().filter(|bias| !bias.is_empty());
        let (unrounded, normal) = (self.fresh(&output, "unrounded"), self.fresh(&output, "normal"));
        let mut bare = norm.clone();
        bare.input = vec![input.clone(), ones];
        bare.output[0].clone_from(&unrounded);
        self.push(bare);
        self.round(&unrounded, &normal, of);
        let scaled = if bias.is_some() { self.fresh(&output, "scaled") } else { output.clone() };
        self.step("Mul", &[&normal, scale], &scaled, of);
        if let Some(bias) = bias {
            self.step("Add", &[&scaled, bias], &output, of);
        }
    }

    /// One operator, and its result rounded.
    fn step(&mut self, op: &str, inputs: &[&str], to: &str, of: FloatType) {
        let unrounded = self.fresh(to, "unrounded");
        self.push(node(op, inputs, &unrounded));
        self.round(&unrounded, to, of);
    }
}

fn constant(element: DataType, dims: Vec<i64>, data: Vec<u8>, name: &str) -> NodeProto {
    let tensor = TensorProto {
        data_type: Some(element as i32),
        dims,
        raw_data: Some(data.into()),
        ..TensorProto::default()
    };
    let mut constant = node("Constant", &[], name);
    constant.attribute.push(make::tensor("value", tensor));
    constant
}
