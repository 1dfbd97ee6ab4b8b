//! Small ONNX models, made in code; each as the bytes of its file.

use std::path::Path;

use enginewright::onnx;
use enginewright::onnx::proto::tensor_proto::DataType;
use enginewright::onnx::proto::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
};
use enginewright::onnx::testing::{
    TestDim, WithAttribute, external, floats, ints, model, node, raw, save_external, value, weight,
};
use prost::Message;

/// Real models that TensorRT-RTX builds, as a piece of a manifest: profiles by dimension and by shape.
pub(crate) const REAL: &str = r#"
[model.magika]
source = { package = "magika==1.0.3", file = "magika/models/standard_v3_3/model.onnx" }
profile = [{ name = "default", dims = { unk__214 = [1, 8, 32] } }]

[model.nmp]
source = { package = "basic-pitch==0.4.0", file = "basic_pitch/saved_models/icassp_2022/nmp.onnx" }
profile = [{ name = "default", dims = { unk__749 = [1, 1, 4] } }]

[model.ocr-det]
source = { package = "rapidocr-onnxruntime==1.4.4", file = "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx" }
[[model.ocr-det.profile]]
name = "default"
dims = { "p2o.DynamicDimension.0" = 1, "p2o.DynamicDimension.1" = [320, 736, 960], "p2o.DynamicDimension.2" = [320, 736, 960] }

[model.ocr-rec]
source = { package = "rapidocr-onnxruntime==1.4.4", file = "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx" }
[[model.ocr-rec.profile]]
name = "short"
shapes = { x = { min = [1, 3, 48, 40], opt = [6, 3, 48, 320], max = [8, 3, 48, 320] } }
[[model.ocr-rec.profile]]
name = "long"
shapes = { x = { min = [1, 3, 48, 320], opt = [1, 3, 48, 640], max = [8, 3, 48, 1280] } }

[model.ocr-cls]
source = { package = "rapidocr-onnxruntime==1.4.4", file = "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx" }
[[model.ocr-cls.profile]]
name = "default"
shapes = { x = { min = [1, 3, 48, 192], opt = [6, 3, 48, 192], max = [8, 3, 48, 192] } }
"#;

/// super-resolution-10: in the tests of a crate that ours names for its sake. None where cargo cannot fetch it.
pub(crate) fn super_resolution() -> Option<Vec<u8>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command.args(["metadata", "--locked", "--format-version", "1"]).current_dir(super::repository());
    let said = command.output().expect("cargo starts");
    if !said.status.success() {
        eprintln!("super-resolution-10: {}", String::from_utf8_lossy(&said.stderr));
        return None;
    }
    let metadata: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages.iter().find(|p| p["name"] == "trtx").expect("Cargo.toml names it");
    let folder = Path::new(package["manifest_path"].as_str().expect("a path")).parent().expect("a folder");
    Some(
        std::fs::read(folder.join("tests/data/super-resolution-10.onnx")).expect("the model is in the crate"),
    )
}

fn graph(input: &[TestDim], nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> GraphProto {
    GraphProto {
        input: vec![value("x", DataType::Float, input)],
        output: vec![value("y", DataType::Float, input)],
        node: nodes,
        initializer,
        ..GraphProto::default()
    }
}

fn mlp_model(scale: f32, batch: TestDim) -> ModelProto {
    let w1: Vec<f32> = (0..16u8).map(|i| scale * (f32::from(i) - 8.0) / 16.0).collect();
    let nodes = vec![
        node("mm1", "MatMul", &["x", "w1"], &["h1"]),
        node("add1", "Add", &["h1", "b1"], &["h2"]),
        node("relu", "Relu", &["h2"], &["h3"]),
        node("mm2", "MatMul", &["h3", "w2"], &["h4"]),
        node("add2", "Add", &["h4", "b2"], &["y"]),
    ];
    let initializers =
        vec![floats("w1", &[4, 4], &w1), weight("b1", &[4]), weight("w2", &[4, 4]), weight("b2", &[4])];
    model(17, graph(&[batch, 4.into()], nodes, initializers))
}

/// Two layers, `float[2, 4]` to `float[2, 4]`; `scale` is in the weights `w1`.
pub(crate) fn mlp(scale: f32) -> Vec<u8> {
    mlp_model(scale, 2.into()).encode_to_vec()
}

/// [`mlp`], whose output is declared with a size that it does not have.
pub(crate) fn stale_output() -> Vec<u8> {
    let mut model = mlp_model(1.0, 2.into());
    let output = model.graph.as_mut().map(|graph| &mut graph.output[0]).unwrap();
    *output = value("y", DataType::Float, &[2.into(), 5.into()]);
    model.encode_to_vec()
}

/// One node, of an operator that nobody knows.
pub(crate) fn unknown_operator(name: &str) -> Vec<u8> {
    let nodes = vec![node("odd", name, &["x"], &["y"])];
    model(17, graph(&[2.into(), 4.into()], nodes, Vec::new())).encode_to_vec()
}

/// A Relu and the square of what it gives, which is the output.
pub(crate) fn square() -> Vec<u8> {
    let nodes = vec![node("relu", "Relu", &["x"], &["h"]), node("square", "Mul", &["h", "h"], &["y"])];
    model(17, graph(&[2.into(), 4.into()], nodes, Vec::new())).encode_to_vec()
}

/// Three products of 64 x 64; the one in the middle, `pinned`, has a weight of 1e5, and a Reshape and the Add `bias`
/// after it.
pub(crate) fn lone_product() -> Vec<u8> {
    let w = weight("w", &[64, 64]);
    let mut large = vec![0.25; 64 * 64];
    large[70] = 1e5;
    let nodes = vec![
        node("first", "MatMul", &["x", "w"], &["a"]),
        node("relu", "Relu", &["a"], &["b"]),
        node("pinned", "MatMul", &["b", "large"], &["c"]),
        node("reshape", "Reshape", &["c", "shape"], &["d"]),
        node("bias", "Add", &["d", "k"], &["e"]),
        node("last", "MatMul", &["e", "w"], &["f"]),
        node("end", "Relu", &["f"], &["y"]),
    ];
    let initializers =
        vec![w, floats("large", &[64, 64], &large), weight("k", &[64]), ints("shape", &[2], &[8, 64])];
    model(17, graph(&[8.into(), 64.into()], nodes, initializers)).encode_to_vec()
}

/// Products of 64 x 64 in every spelling that can have accumulators: a MatMul, a Gemm with a bias, and a MatMul again.
pub(crate) fn products() -> Vec<u8> {
    let nodes = vec![
        node("first", "MatMul", &["x", "w"], &["a"]),
        node("relu", "Relu", &["a"], &["b"]),
        node("gemm", "Gemm", &["b", "w", "k"], &["c"]),
        node("tanh", "Tanh", &["c"], &["d"]),
        node("last", "MatMul", &["d", "w"], &["y"]),
    ];
    let initializers = vec![weight("w", &[64, 64]), weight("k", &[64])];
    model(17, graph(&[8.into(), 64.into()], nodes, initializers)).encode_to_vec()
}

/// An If, and a Loop whose body reads a weight from around it; integers go in and come out.
pub(crate) fn control_flow() -> Vec<u8> {
    let of = |name: &str| value(name, DataType::Float, &[8.into(), 64.into()]);
    let branch = |op: &str, out: &str| GraphProto {
        name: Some("branch".into()),
        output: vec![of(out)],
        node: vec![node(&format!("branch_{op}"), op, &["s"], &[out])],
        ..GraphProto::default()
    };
    let body = GraphProto {
        name: Some("body".into()),
        input: vec![value("i", DataType::Int64, &[]), value("c", DataType::Bool, &[]), of("state")],
        output: vec![value("c_out", DataType::Bool, &[]), of("next"), of("seen")],
        node: vec![
            node("keep", "Identity", &["c"], &["c_out"]),
            node("mm", "MatMul", &["state", "w"], &["m"]),
            node("soft", "Softmax", &["m"], &["next"]),
            node("tanh", "Tanh", &["m"], &["seen"]),
        ],
        ..GraphProto::default()
    };
    let nodes = vec![
        node("start", "Relu", &["x"], &["s"]),
        node("if", "If", &["flag"], &["chosen"])
            .graph("then_branch", branch("Tanh", "t"))
            .graph("else_branch", branch("Sigmoid", "u")),
        node("loop", "Loop", &["rounds", "yes", "chosen"], &["y", "all"]).graph("body", body),
        node("count", "Add", &["n", "n"], &["twice"]),
    ];
    let constants =
        vec![weight("w", &[64, 64]), ints("rounds", &[], &[3]), raw("yes", DataType::Bool, &[], vec![1])];
    let mut graph = graph(&[8.into(), 64.into()], nodes, constants);
    graph.input.extend([value("flag", DataType::Bool, &[]), value("n", DataType::Int64, &[2.into()])]);
    graph.output.push(value("all", DataType::Float, &[3.into(), 8.into(), 64.into()]));
    graph.output.push(value("twice", DataType::Int64, &[2.into()]));
    model(17, graph).encode_to_vec()
}

/// A layer norm: of opset 17 one node, else the nine that PyTorch wrote; of opset 6, behind a Dropout that trains.
pub(crate) fn norm(opset: i64) -> Vec<u8> {
    let constants = vec![
        weight("scale", &[64]),
        weight("bias", &[64]),
        floats("two", &[], &[2.0]),
        floats("eps", &[], &[1e-5]),
    ];
    let start = if opset == 6 {
        node("/drop", "Dropout", &["x"], &["s"])
    } else {
        node("start", "Relu", &["x"], &["s"])
    };
    let mut nodes = vec![start];
    if opset >= 17 {
        nodes.push(node("/norm", "LayerNormalization", &["s", "scale", "bias"], &["y"]));
        return model(opset, graph(&[8.into(), 64.into()], nodes, constants[..2].to_vec())).encode_to_vec();
    }
    nodes.extend([
        node("/norm/ReduceMean", "ReduceMean", &["s"], &["m"]).ints("axes", &[1]),
        node("/norm/Sub", "Sub", &["s", "m"], &["d"]),
        node("/norm/Pow", "Pow", &["d", "two"], &["q"]),
        node("/norm/ReduceMean_1", "ReduceMean", &["q"], &["v"]).ints("axes", &[1]),
        node("/norm/Add", "Add", &["v", "eps"], &["e"]),
        node("/norm/Sqrt", "Sqrt", &["e"], &["r"]),
        node("/norm/Div", "Div", &["d", "r"], &["n"]),
        node("/norm/Mul", "Mul", &["n", "scale"], &["t"]),
        node("/norm/Add_1", "Add", &["t", "bias"], &["y"]),
    ]);
    model(opset, graph(&[8.into(), 64.into()], nodes, constants)).encode_to_vec()
}

/// A quantized convolution, as tools leave it: between QuantizeLinear and DequantizeLinear, weights INT8.
pub(crate) fn quantized() -> Vec<u8> {
    let image = [1.into(), 16.into(), 8.into(), 8.into()];
    let nodes = vec![
        node("start", "Sigmoid", &["x"], &["a"]),
        node("q", "QuantizeLinear", &["a", "s", "z"], &["b"]),
        node("d", "DequantizeLinear", &["b", "s", "z"], &["c"]),
        node("dw", "DequantizeLinear", &["w", "s", "z"], &["v"]),
        node("conv", "Conv", &["c", "v"], &["e"]),
        node("relu", "Relu", &["e"], &["f"]),
        node("q2", "QuantizeLinear", &["f", "s", "z"], &["g"]),
        node("d2", "DequantizeLinear", &["g", "s", "z"], &["h"]),
        node("end", "Tanh", &["h"], &["y"]),
    ];
    let w = raw("w", DataType::Int8, &[16, 16, 1, 1], (0..=255).collect());
    let constants = vec![floats("s", &[], &[0.01]), raw("z", DataType::Int8, &[], vec![0]), w];
    model(17, graph(&image, nodes, constants)).encode_to_vec()
}

/// Three MatMul or Conv; the weight of the one in the middle, `pinned`, is 1e5 in one place. If `mended`, a constant
/// bias is added to its result, and then comes a Relu; otherwise it stands alone.
pub(crate) fn alone(op: &str, mended: bool) -> Vec<u8> {
    let (shape, weights, bias): (&[TestDim], &[i64], &[i64]) = match op {
        "Conv" => (&[1.into(), 32.into(), 8.into(), 8.into()], &[32, 32, 1, 1], &[32, 1, 1]),
        _ => (&[8.into(), 32.into()], &[32, 32], &[32]),
    };
    let mut large = vec![0.25; 32 * 32];
    large[70] = 1e5;
    let mut nodes = vec![
        node("first", op, &["x", "w"], &["a"]),
        node("relu", "Relu", &["a"], &["b"]),
        node("pinned", op, &["b", "large"], &["c"]),
    ];
    if mended {
        nodes.push(node("bias", "Add", &["c", "k"], &["d"]));
        nodes.push(node("act", "Relu", &["d"], &["e"]));
    }
    nodes.push(node("last", op, &[if mended { "e" } else { "c" }, "w"], &["f"]));
    nodes.push(node("end", "Relu", &["f"], &["y"]));
    let initializers = vec![weight("w", weights), floats("large", weights, &large), weight("k", bias)];
    model(17, graph(shape, nodes, initializers)).encode_to_vec()
}

/// An If: in one branch the Conv `pinned`, whose weight is 1e5 in one place, in the other the Softmax `soft`.
pub(crate) fn branches() -> Vec<u8> {
    let image = [1.into(), 32.into(), 8.into(), 8.into()];
    let pool = |name: &str, from: &str, to: &str| {
        node(name, "MaxPool", &[from], &[to]).ints("kernel_shape", &[1, 1])
    };
    let branch = |out: &str, nodes| GraphProto {
        name: Some("branch".into()),
        output: vec![value(out, DataType::Float, &image)],
        node: nodes,
        ..GraphProto::default()
    };
    let then = vec![
        pool("before", "s", "a"),
        node("pinned", "Conv", &["a", "large"], &["b"]),
        pool("after", "b", "t"),
    ];
    let other = vec![node("relu", "Relu", &["s"], &["c"]), node("soft", "Softmax", &["c"], &["e"])];
    let nodes = vec![
        pool("start", "x", "s"),
        node("if", "If", &["flag"], &["d"])
            .graph("then_branch", branch("t", then))
            .graph("else_branch", branch("e", other)),
        pool("end", "d", "y"),
    ];
    let mut large = vec![0.25; 32 * 32];
    large[70] = 1e5;
    let mut graph = graph(&image, nodes, vec![floats("large", &[32, 32, 1, 1], &large)]);
    graph.input.push(value("flag", DataType::Bool, &[]));
    model(17, graph).encode_to_vec()
}

/// A classifier's head at batch 1: the Gemm `pinned`, whose weight is 1e5 in one place; if `mended`, an Add after it.
pub(crate) fn head(mended: bool) -> Vec<u8> {
    let mut large = vec![0.25; 64 * 64];
    large[70] = 1e5;
    let mut nodes =
        vec![node("start", "Sigmoid", &["x"], &["a"]), node("pinned", "Gemm", &["a", "large"], &["b"])];
    if mended {
        nodes.push(node("bias", "Add", &["b", "k"], &["c"]));
    }
    // A Tanh would be an activation of the product, and mend it too.
    nodes.push(node("end", "Sin", &[if mended { "c" } else { "b" }], &["y"]));
    let constants = vec![floats("large", &[64, 64], &large), weight("k", &[64])];
    model(17, graph(&[1.into(), 64.into()], nodes, constants)).encode_to_vec()
}

/// [`mlp`], with everything that a model says about itself, and with its initializers in another order.
pub(crate) fn mlp_documented(scale: f32) -> Vec<u8> {
    let mut model = mlp_model(scale, 2.into());
    model.doc_string = Some("a model of the tests".into());
    model.producer_name = Some("somebody else".into());
    model.producer_version = Some("9.9".into());
    let entry = StringStringEntryProto { key: Some("author".into()), value: Some("me".into()) };
    model.metadata_props.push(entry);
    let graph = model.graph.as_mut().unwrap();
    graph.doc_string = Some("its graph".into());
    graph.name = Some("another name".into());
    graph.initializer.reverse();
    graph.initializer.push(weight("unused", &[3]));
    graph.value_info.push(value("h1", DataType::Float, &[2.into(), 4.into()]));
    graph.node[0].doc_string = Some("its first node".into());
    model.encode_to_vec()
}

/// [`mlp`] whose input has this name.
pub(crate) fn mlp_of(input: &str) -> Vec<u8> {
    let mut model = mlp_model(1.0, 2.into());
    let graph = model.graph.as_mut().unwrap();
    graph.input[0].name = Some(input.to_owned());
    graph.node[0].input[0] = input.to_owned();
    model.encode_to_vec()
}

/// [`mlp`] as `m.onnx` with all weights in `m.data`, in this folder.
pub(crate) fn mlp_external(folder: &Path, scale: f32) {
    std::fs::create_dir_all(folder).unwrap();
    save_external(&mlp_model(scale, 2.into()), &folder.join("m.onnx"), "m.data").unwrap();
}

/// [`mlp`] with a named batch dimension.
pub(crate) fn dynamic(batch: &'static str) -> Vec<u8> {
    mlp_model(1.0, batch.into()).encode_to_vec()
}

/// `x + y`, both `float[?, 4]` with these names for `?`.
pub(crate) fn two_inputs(x: &'static str, y: &'static str) -> Vec<u8> {
    let mut graph = graph(&[x.into(), 4.into()], vec![node("add", "Add", &["x", "y"], &["z"])], Vec::new());
    graph.input.push(value("y", DataType::Float, &[y.into(), 4.into()]));
    graph.output = vec![value("z", DataType::Float, &[x.into(), 4.into()])];
    model(17, graph).encode_to_vec()
}

/// `x` reshaped by the input `shape`: a shape tensor.
pub(crate) fn reshape_by_input() -> Vec<u8> {
    let nodes =
        vec![node("reshape", "Reshape", &["x", "shape"], &["r"]), node("relu", "Relu", &["r"], &["y"])];
    let mut graph = graph(&["batch".into(), 4.into()], nodes, Vec::new());
    graph.input.push(value("shape", DataType::Int64, &[2.into()]));
    graph.output = vec![value("y", DataType::Float, &["".into(), "".into()])];
    model(17, graph).encode_to_vec()
}

/// An operator that TensorRT-RTX does not have.
pub(crate) fn unsupported() -> Vec<u8> {
    let mut graph = graph(&[2.into(), 4.into()], vec![node("nz", "NonZero", &["x"], &["y"])], Vec::new());
    graph.output = vec![value("y", DataType::Int64, &[2.into(), "".into()])];
    model(17, graph).encode_to_vec()
}

/// A chain of `Sigmoid` and `Mul`: the time to build it grows with the square of its length.
pub(crate) fn chain(length: usize) -> Vec<u8> {
    let value_name = |i: usize| if i == 0 { "x".to_owned() } else { format!("v{i}") };
    let last = length - 1;
    let nodes = (0..length).map(|i| {
        let (from, to) = (value_name(i), if i == last { "y".to_owned() } else { value_name(i + 1) });
        if i % 2 == 0 {
            node(&format!("n{i}"), "Sigmoid", &[&from], &[&to])
        } else {
            node(&format!("n{i}"), "Mul", &[&from, "x"], &[&to])
        }
    });
    model(17, graph(&[2.into(), 4.into()], nodes.collect(), Vec::new())).encode_to_vec()
}

/// 2 x 4 elements, to be reshaped to 3: nothing says so before it runs.
pub(crate) fn bad_reshape() -> Vec<u8> {
    let nodes = vec![
        node("shape", "Shape", &["x"], &["s"]),
        node("sum", "ReduceSum", &["s"], &["n"]),
        node("reshape", "Reshape", &["x", "n"], &["r"]),
        node("relu", "Relu", &["r"], &["y"]),
    ];
    let mut graph = graph(&[2.into(), 4.into()], nodes, Vec::new());
    graph.output = vec![value("y", DataType::Float, &["".into()])];
    model(17, graph).encode_to_vec()
}

/// Three nodes of one name, as some exporters write them.
pub(crate) fn same_names() -> Vec<u8> {
    let nodes = vec![
        node("n", "Relu", &["x"], &["a"]),
        node("n", "Sqrt", &["a"], &["b"]),
        node("n", "Relu", &["b"], &["y"]),
    ];
    model(17, graph(&[2.into(), 4.into()], nodes, Vec::new())).encode_to_vec()
}

/// `x` and a mask, which decides nothing: `y = relu(x) + relu(mask) - mask`.
pub(crate) fn masked() -> Vec<u8> {
    let nodes = vec![
        node("relu", "Relu", &["x"], &["a"]),
        node("ones", "Relu", &["mask"], &["b"]),
        node("add", "Add", &["a", "b"], &["c"]),
        node("sub", "Sub", &["c", "mask"], &["y"]),
    ];
    let shape = [2.into(), 4.into()];
    let mut graph = graph(&shape, nodes, Vec::new());
    graph.input.push(value("mask", DataType::Float, &shape));
    model(17, graph).encode_to_vec()
}

/// An integer division by the constant 0: TensorRT-RTX 1.7 dies of it.
pub(crate) fn division_by_zero() -> Vec<u8> {
    let nodes = vec![
        node("shape", "Shape", &["x"], &["s"]),
        node("div", "Div", &["c", "zero"], &["d"]),
        node("add", "Add", &["s", "d"], &["y"]),
    ];
    let initializers = vec![ints("c", &[2], &[6, 8]), ints("zero", &[1], &[0])];
    let mut graph = graph(&[2.into(), 4.into()], nodes, initializers);
    graph.output = vec![value("y", DataType::Int64, &[2.into()])];
    model(17, graph).encode_to_vec()
}

/// BF16 throughout.
pub(crate) fn bf16() -> Vec<u8> {
    let one = raw("one", DataType::Bfloat16, &[4], [0x80, 0x3f].repeat(4));
    let mut graph = graph(&[], vec![node("add16", "Add", &["x", "one"], &["y"])], vec![one]);
    graph.input = vec![value("x", DataType::Bfloat16, &[4.into()])];
    graph.output = vec![value("y", DataType::Bfloat16, &[4.into()])];
    model(17, graph).encode_to_vec()
}

/// A graph that gives nothing.
pub(crate) fn no_outputs() -> Vec<u8> {
    let mut graph = graph(&[2.into()], vec![node("relu", "Relu", &["x"], &["y"])], Vec::new());
    graph.output.clear();
    model(17, graph).encode_to_vec()
}

/// A dimension of 2^40, which TensorRT would take for 0.
pub(crate) fn huge_dimension() -> Vec<u8> {
    model(17, graph(&[(1i64 << 40).into()], vec![node("relu", "Relu", &["x"], &["y"])], Vec::new()))
        .encode_to_vec()
}

/// A node that reads a value which nobody makes.
pub(crate) fn undefined_input() -> Vec<u8> {
    model(17, graph(&[2.into()], vec![node("add", "Add", &["x", "nowhere"], &["y"])], Vec::new()))
        .encode_to_vec()
}

/// Numbers that become text and numbers again.
pub(crate) fn text_inside() -> Vec<u8> {
    let cast = |name: &str, from: &str, to: &str, element: DataType| {
        node(name, "Cast", &[from], &[to]).int("to", element as i64)
    };
    let nodes =
        vec![cast("to text", "x", "text", DataType::String), cast("back", "text", "y", DataType::Float)];
    model(17, graph(&[2.into()], nodes, Vec::new())).encode_to_vec()
}

/// Two nodes that wait for each other.
pub(crate) fn cycle() -> Vec<u8> {
    let nodes = vec![
        node("a", "Add", &["x", "v2"], &["v1"]),
        node("b", "Add", &["v1", "x"], &["v2"]),
        node("c", "Relu", &["v2"], &["y"]),
    ];
    model(17, graph(&[2.into()], nodes, Vec::new())).encode_to_vec()
}

/// A weight of 16 floats whose data lies somewhere else.
pub(crate) fn external_at(location: &str, offset: u64, length: u64) -> Vec<u8> {
    let mut w = weight("w", &[4, 4]);
    let (offset, length) = (offset.to_string(), length.to_string());
    external(&mut w, &[("location", location), ("offset", &offset), ("length", &length)]);
    model(17, graph(&[2.into(), 4.into()], vec![node("mm", "MatMul", &["x", "w"], &["y"])], vec![w]))
        .encode_to_vec()
}

/// [`mlp`] as exporters of tomorrow write it: of the newest IR version, which ONNX Runtime learns later.
pub(crate) fn mlp_newest() -> Vec<u8> {
    let mut model = mlp_model(1.0, 2.into());
    model.ir_version = Some(onnx::MAX_IR_VERSION);
    model.encode_to_vec()
}

/// As exporters of 2019 wrote it: opset 10, IR 4, nodes without names, initializers listed as inputs.
pub(crate) fn opset_10() -> Vec<u8> {
    let nodes = vec![node("", "MatMul", &["x", "w"], &["h"]), node("", "Relu", &["h"], &["y"])];
    let mut graph = graph(&[2.into(), 4.into()], nodes, vec![weight("w", &[4, 4])]);
    graph.input.push(value("w", DataType::Float, &[4.into(), 4.into()]));
    let mut model = model(10, graph);
    model.ir_version = Some(4);
    model.encode_to_vec()
}

/// What exporters get wrong, each by its name.
pub(crate) fn odd() -> Vec<(&'static str, Vec<u8>)> {
    let two = || vec![2.into(), 4.into()];
    let relu = || node("relu", "Relu", &["x"], &["y"]);
    let of =
        |nodes: Vec<NodeProto>, initializer: Vec<TensorProto>| model(17, graph(&two(), nodes, initializer));
    let product = |w: TensorProto| of(vec![node("mm", "MatMul", &["x", "w"], &["y"])], vec![w]);
    let mut short = weight("w", &[4, 4]);
    short.raw_data = short.raw_data.map(|data| data.slice(..40));
    let mut negative = weight("w", &[4, 4]);
    negative.dims[0] = -4;
    let mut huge = weight("w", &[4, 4]);
    huge.dims = vec![1 << 40, 1 << 40];
    let mut strings = of(vec![node("identity", "Identity", &["x"], &["y"])], Vec::new());
    let text = |name: &str| value(name, DataType::String, &[2.into()]);
    (strings.graph.as_mut().unwrap().input, strings.graph.as_mut().unwrap().output) =
        (vec![text("x")], vec![text("y")]);
    let mut custom =
        of(vec![node("frob", "Frob", &["x"], &["h"]), node("relu", "Relu", &["h"], &["y"])], Vec::new());
    custom.graph.as_mut().unwrap().node[0].domain = Some("com.acme".to_owned());
    let info = value("h", DataType::Float, &[2.into(), 4.into()]);
    custom.graph.as_mut().unwrap().value_info.push(info);
    custom.opset_import.push(OperatorSetIdProto { domain: Some("com.acme".to_owned()), version: Some(1) });
    let mut old = of(vec![relu()], Vec::new());
    old.opset_import[0].version = Some(3);
    old.ir_version = Some(3);
    let mut new = of(vec![relu()], Vec::new());
    new.opset_import[0].version = Some(30);
    let chain = |i: usize| {
        let from = if i == 0 { "x".to_owned() } else { format!("v{i}") };
        let to = if i == 9_999 { "y".to_owned() } else { format!("v{}", i + 1) };
        node(&format!("n{i}"), "Relu", &[&from], &[&to])
    };
    let int = |name: &str, from: &str, to: &str, of: i64| node(name, "Cast", &[from], &[to]).int("to", of);
    let integers =
        vec![int("to-int", "x", "i", 7), node("add", "Add", &["i", "i"], &["j"]), int("back", "j", "y", 1)];
    let models = [
        ("twice", of(vec![relu(), node("sigmoid", "Sigmoid", &["x"], &["y"])], Vec::new())),
        ("short", product(short)),
        ("negative", product(negative)),
        ("huge", product(huge)),
        ("strings", strings),
        ("custom", custom),
        ("old", old),
        ("new", new),
        (
            "unsorted",
            of(
                vec![node("relu", "Relu", &["h"], &["y"]), node("sigmoid", "Sigmoid", &["x"], &["h"])],
                Vec::new(),
            ),
        ),
        ("chain", of((0..10_000).map(chain).collect(), Vec::new())),
        ("integers", of(integers, Vec::new())),
    ];
    models.into_iter().map(|(name, model)| (name, model.encode_to_vec())).collect()
}

/// A convolution, an activation and a pooling, of this opset.
pub(crate) fn cnn(opset: i64) -> Vec<u8> {
    let nodes = vec![
        node("conv", "Conv", &["x", "w"], &["h"]),
        node("relu", "Relu", &["h"], &["r"]),
        node("pool", "GlobalAveragePool", &["r"], &["y"]),
    ];
    let mut graph = graph(&[1.into(), 4.into(), 8.into(), 8.into()], nodes, vec![weight("w", &[4, 4, 3, 3])]);
    graph.output = vec![value("y", DataType::Float, &[1.into(), 4.into(), 1.into(), 1.into()])];
    model(opset, graph).encode_to_vec()
}

/// One attention of four heads, with a mask of keep-or-not that `low` is multiplied with.
pub(crate) fn masked_attention(low: f32) -> Vec<u8> {
    let mut nodes =
        vec![node("drop", "Sub", &["one", "keep"], &["d"]), node("low", "Mul", &["d", "low"], &["mask"])];
    for name in ["q", "k", "v"] {
        let value = |what: &str| format!("{name}.{what}");
        let perm: &[i64] = if name == "k" { &[0, 2, 3, 1] } else { &[0, 2, 1, 3] };
        nodes.push(node(&value("product"), "MatMul", &["x", &value("w")], &[&value("p")]));
        nodes.push(node(&value("heads"), "Reshape", &[&value("p"), "heads"], &[&value("h")]));
        nodes.push(node(&value("turn"), "Transpose", &[&value("h")], &[name]).ints("perm", perm));
    }
    nodes.extend([
        node("scores", "MatMul", &["q", "k"], &["s"]),
        node("scale", "Div", &["s", "eight"], &["s8"]),
        node("masked", "Add", &["s8", "mask"], &["m"]),
        node("softmax", "Softmax", &["m"], &["a"]).int("axis", -1),
        node("context", "MatMul", &["a", "v"], &["c"]),
        node("back", "Transpose", &["c"], &["t"]).ints("perm", &[0, 2, 1, 3]),
        node("join", "Reshape", &["t", "joined"], &["j"]),
        node("out", "MatMul", &["j", "o.w"], &["y"]),
    ]);
    let mut initializers: Vec<TensorProto> =
        ["q.w", "k.w", "v.w", "o.w"].map(|name| weight(name, &[256, 256])).into();
    initializers
        .extend([("one", 1.0), ("low", low), ("eight", 8.0)].map(|(name, n)| floats(name, &[], &[n])));
    initializers.push(ints("heads", &[4], &[0, -1, 4, 64]));
    initializers.push(ints("joined", &[3], &[0, -1, 256]));
    let mut graph = graph(&[2.into(), 64.into(), 256.into()], nodes, initializers);
    graph.input.push(value("keep", DataType::Float, &[2.into(), 1.into(), 1.into(), 64.into()]));
    model(17, graph).encode_to_vec()
}

/// Softmax after Softmax, whose nodes have names that trtexec cannot read in a list, the same name, or none.
pub(crate) fn odd_names() -> Vec<u8> {
    let names = ["a,b", "it's", "x:y", "star*", "with space", "Größe", "", "same", "same", "Gemm_1", "Gemm"];
    let mut nodes = Vec::new();
    let value = |i: usize| if i == 0 { "x".to_owned() } else { format!("v{i}") };
    for (i, name) in names[..names.len() - 1].iter().enumerate() {
        nodes.push(node(name, "Softmax", &[&value(i)], &[&value(i + 1)]));
    }
    nodes.push(node("Gemm", "Gemm", &[&value(names.len() - 1), "w"], &["y"]));
    model(17, graph(&[8.into(), 64.into()], nodes, vec![weight("w", &[64, 64])])).encode_to_vec()
}

/// A Relu in FP16.
pub(crate) fn half() -> Vec<u8> {
    let mut half = graph(&[8.into(), 64.into()], vec![node("relu", "Relu", &["x"], &["y"])], Vec::new());
    half.input = vec![value("x", DataType::Float16, &[8.into(), 64.into()])];
    half.output = vec![value("y", DataType::Float16, &[8.into(), 64.into()])];
    model(17, half).encode_to_vec()
}
