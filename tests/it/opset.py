"""Models of old opsets, and the judgement on what the upgrade made of them.

    opset.py make FOLDER [all [MODEL=NORMS ...]]   writes `N.onnx`, `N.npz` and `cases.json`
    opset.py run FOLDER          runs `N.onnx` and each `N.OPSET/model.onnx`, and writes `results.json`

`make` writes one or more cases for each version of each operator before its form changed; with `all`, also the models
of the `onnx` package that were exported for old opsets, and models given by their files with as many norms to fuse. `run` compares in ONNX Runtime. Where that does not run
the old model (it knows opset 7 and later), the outputs are those that the case says, or the package recorded.
"""

import glob
import json
import os
import sys

import numpy as np
import onnx
import onnx.reference
from onnx import TensorProto as T
from onnx import defs, helper, numpy_helper

RNG = np.random.default_rng(17)
CASES = []


def f32(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def i64(*values):
    return np.array(values, dtype=np.int64)


def case(op, opset, what, nodes, inputs, initializers=None, outputs=("y",), functions=None, expected=None, fused=None):
    """One case: `inputs` and `initializers` are arrays by name; `expected`, a list, for what ONNX Runtime cannot run."""
    initializers = initializers or {}
    info = lambda name, array: helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
    graph = helper.make_graph(
        nodes,
        "case",
        [info(name, array) for name, array in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    imports = [helper.make_opsetid("", opset)] + [helper.make_opsetid(f.domain, 1) for f in functions or []]
    model = helper.make_model(graph, opset_imports=imports, functions=functions or [], ir_version=8)
    for output, of in zip(model.graph.output, output_types(model, outputs)):
        output.CopyFrom(of)
    CASES.append({"op": op, "opset": opset, "what": what, "model": model, "inputs": inputs, "expected": expected, "fused": fused})


def output_types(model, names):
    inferred = onnx.shape_inference.infer_shapes(model)
    found = {value.name: value for value in [*inferred.graph.value_info, *inferred.graph.output]}
    for name in names:
        value = found.get(name)
        known = value is not None and value.type.tensor_type.elem_type
        yield value if known else helper.make_tensor_value_info(name, T.FLOAT, None)


def n(op, inputs, outputs=("y",), **attributes):
    return helper.make_node(op, inputs, list(outputs), name=f"the_{op}", **attributes)


def versions(op, until):
    """Opsets of each version of an operator before `until`, and the last one before it."""
    since = {s.since_version for s in defs.get_all_schemas_with_history() if s.name == op and s.domain == ""}
    old = {max(s, 6) for s in since if s < until}
    return sorted(old | {until - 1}) if old else []


def elementwise():
    compute = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Pow": np.power,
               "Greater": np.greater, "Less": np.less, "Equal": np.equal, "And": np.logical_and,
               "Or": np.logical_or, "Xor": np.logical_xor}
    shapes = [("axis", (2, 3, 4, 5), (3, 4), 1), ("first", (2, 3), (2,), 0), ("last", (2, 3), (3,), None),
              ("negative", (2, 3, 4), (3,), -2), ("equal", (2, 3), (2, 3), "none"), ("scalar", (2, 3), (), None)]
    for op, of in compute.items():
        make = (lambda *s: RNG.random(s) > 0.5) if op in ("And", "Or", "Xor") else lambda *s: np.abs(f32(*s)) + 0.5
        if op == "Equal":
            make = lambda *s: RNG.integers(0, 3, s).astype(np.int32)
        for what, a, b, axis in shapes:
            a, b = make(*a), np.asarray(make(*b))
            attributes = {} if axis == "none" else {"broadcast": 1}
            wide = b
            if isinstance(axis, int):
                attributes["axis"] = axis
                at = axis % a.ndim
                wide = b.reshape(b.shape + (1,) * (a.ndim - at - b.ndim))
            case(op, 6, what, [n(op, ["a", "b"], **attributes)], {"a": a, "b": b}, expected=[of(a, wide)])


def old_forms():
    x, slope = f32(2, 3, 4, 4), np.abs(f32(3))
    prelu = lambda s: np.where(x < 0, x * s, x)
    case("PRelu", 6, "channels", [n("PRelu", ["x", "s"])], {"x": x}, {"s": slope}, expected=[prelu(slope[:, None, None])])
    case("PRelu", 6, "one", [n("PRelu", ["x", "s"])], {"x": x}, {"s": slope[:1]}, expected=[prelu(slope[:1])])
    a, b, c = f32(3, 4), f32(4, 5), f32(5)
    case("Gemm", 6, "broadcast", [n("Gemm", ["a", "b", "c"], broadcast=1)], {"a": a, "b": b, "c": c}, expected=[a @ b + c])
    whole = f32(3, 5)
    case("Gemm", 6, "whole", [n("Gemm", ["a", "b", "c"])], {"a": a, "b": b, "c": whole}, expected=[a @ b + whole])

    scale, bias, mean, var = f32(3), f32(3), f32(3), np.abs(f32(3)) + 0.5
    tall = lambda v: v[:, None, None]
    normal = (x - tall(mean)) / np.sqrt(tall(var) + 1e-5) * tall(scale) + tall(bias)
    parts = {"s": scale, "b": bias, "m": mean, "v": var}
    for opset in versions("BatchNormalization", 14):
        attributes = {"is_test": 1} if opset == 6 else {}
        if opset < 9:
            attributes["spatial"] = 1
        case("BatchNormalization", opset, "inference", [n("BatchNormalization", ["x", *parts], **attributes)], {"x": x}, parts, expected=[normal])
    for opset in versions("Dropout", 12):
        attributes = {"is_test": 1} if opset == 6 else {}
        case("Dropout", opset, "inference", [n("Dropout", ["x"], ratio=0.3, **attributes)], {"x": x}, expected=[x])

    for op, gates in [("RNN", 1), ("GRU", 3), ("LSTM", 4)]:
        sequence, w, r, b = f32(5, 2, 3), f32(1, gates * 4, 3), f32(1, gates * 4, 4), f32(1, gates * 8)
        arrays = {"w": w, "r": r, "b": b}
        plain = [n(op, ["x", "w", "r", "b"], hidden_size=4)]
        graph = helper.make_graph(plain, "g", [helper.make_tensor_value_info("x", T.FLOAT, [5, 2, 3])],
                                  [helper.make_tensor_value_info("y", T.FLOAT, None)],
                                  [numpy_helper.from_array(v, k) for k, v in arrays.items()])
        expected = session(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 7)], ir_version=8)).run(None, {"x": sequence})
        case(op, 6, "sequence", [n(op, ["x", "w", "r", "b"], hidden_size=4, output_sequence=1)], {"x": sequence}, arrays, expected=expected)
        case(op, 7, "sequence", plain, {"x": sequence}, arrays)


def resizing():
    x = f32(1, 2, 3, 4)
    twice = x.repeat(2, 2).repeat(3, 3)
    case("Upsample", 6, "nearest", [n("Upsample", ["x"], height_scale=2.0, width_scale=3.0, mode="nearest")], {"x": x}, expected=[twice])
    scales = np.array([1, 1, 2, 3], np.float32)
    for mode in ["nearest", "linear"]:
        for opset in [7, 8]:
            case("Upsample", opset, mode, [n("Upsample", ["x"], scales=scales.tolist(), mode=mode)], {"x": x})
        case("Upsample", 9, mode, [n("Upsample", ["x", "s"], mode=mode)], {"x": x}, {"s": scales})
        for what, factors in [("up", [1, 1, 2, 3]), ("odd", [1, 1, 1.5, 2.3]), ("down", [1, 1, 0.6, 0.5])]:
            case("Resize", 10, f"{mode} {what}", [n("Resize", ["x", "s"], mode=mode)], {"x": x}, {"s": np.array(factors, np.float32)})
    none, sizes = np.array([], np.float32), i64(1, 2, 5, 7)
    for opset in [11, 12]:
        for mode in ["nearest", "linear", "cubic"]:
            case("Resize", opset, f"{mode} scales", [n("Resize", ["x", "none", "s"], mode=mode)], {"x": x}, {"none": none, "s": scales})
            case("Resize", opset, f"{mode} sizes", [n("Resize", ["x", "none", "none", "z"], mode=mode, coordinate_transformation_mode="align_corners")], {"x": x}, {"none": none, "z": sizes})
    rois, batch = np.array([[0, 0, 3, 3], [1, 1, 5, 5]], np.float32), i64(0, 0)
    image = f32(1, 2, 8, 8)
    for opset in versions("RoiAlign", 16):
        for mode in ["avg", "max"]:
            case("RoiAlign", opset, mode, [n("RoiAlign", ["x", "r", "b"], output_height=2, output_width=2, sampling_ratio=2, spatial_scale=0.9, mode=mode)], {"x": image}, {"r": rois, "b": batch})
    grid = np.clip(f32(1, 5, 6, 2), -1, 1)
    for opset in versions("GridSample", 20):
        for mode in ["bilinear", "nearest", "bicubic"]:
            case("GridSample", opset, mode, [n("GridSample", ["x", "g"], mode=mode)], {"x": image, "g": grid})
        case("GridSample", opset, "default", [n("GridSample", ["x", "g"])], {"x": image, "g": grid})


def attributes_to_inputs():
    x = f32(4, 5, 6)
    for opset in versions("Slice", 10):
        case("Slice", opset, "axes", [n("Slice", ["x"], starts=[1, -4], ends=[3, 100], axes=[0, 2])], {"x": x})
        case("Slice", opset, "all", [n("Slice", ["x"], starts=[1, 0, 2], ends=[4, 2, -1])], {"x": x})
    for opset in versions("TopK", 10):
        case("TopK", opset, "last", [n("TopK", ["x"], ["y", "i"], k=3)], {"x": x}, outputs=("y", "i"))
        case("TopK", opset, "axis", [n("TopK", ["x"], ["y", "i"], k=2, axis=0)], {"x": x}, outputs=("y", "i"))
    for opset in versions("Clip", 11):
        case("Clip", opset, "both", [n("Clip", ["x"], min=-0.5, max=0.75)], {"x": x}, expected=[np.clip(x, -0.5, 0.75)])
        case("Clip", opset, "min", [n("Clip", ["x"], min=0.1)], {"x": x}, expected=[np.maximum(x, np.float32(0.1))])
        case("Clip", opset, "none", [n("Clip", ["x"])], {"x": x}, expected=[x])
    for opset in versions("Pad", 11):
        for what, more in [("value", {"value": 1.5}), ("zero", {}), ("reflect", {"mode": "reflect"}), ("edge", {"mode": "edge"})]:
            case("Pad", opset, what, [n("Pad", ["x"], pads=[1, 0, 2, 0, 1, 1], **more)], {"x": x})
    case("Pad", 10, "negative", [n("Pad", ["x"], pads=[-1, 0, 2, 0, -1, 1])], {"x": x})
    thin = f32(1, 4, 1, 6)
    for opset in versions("Squeeze", 13):
        case("Squeeze", opset, "axes", [n("Squeeze", ["x"], axes=[0, 2])], {"x": thin})
        case("Squeeze", opset, "all", [n("Squeeze", ["x"])], {"x": thin})
    for opset in versions("Unsqueeze", 13):
        case("Unsqueeze", opset, "axes", [n("Unsqueeze", ["x"], axes=[0, 3])], {"x": x})
    for opset in versions("Split", 18):
        parts = ["y", "z"]
        if opset < 13:
            case("Split", opset, "sizes", [n("Split", ["x"], parts, split=[1, 3], axis=0)], {"x": x}, outputs=parts)
        else:
            case("Split", opset, "sizes", [n("Split", ["x", "s"], parts, axis=0)], {"x": x}, {"s": i64(1, 3)}, outputs=parts)
        case("Split", opset, "equal", [n("Split", ["x"], parts, axis=2)], {"x": x}, outputs=parts)
    reduces = "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare".split()
    positive = np.abs(x) + 0.1
    for op in reduces:
        for opset in versions(op, 13 if op == "ReduceSum" else 18):
            axis = -1 if opset >= 11 else 2
            case(op, opset, "axes", [n(op, ["x"], axes=[0, axis], keepdims=0)], {"x": positive})
            case(op, opset, "all", [n(op, ["x"])], {"x": positive})
    signal = f32(1, 8, 3, 1)
    for opset in versions("DFT", 20):
        case("DFT", opset, "default", [n("DFT", ["x"])], {"x": signal})
        case("DFT", opset, "axis", [n("DFT", ["x", "l"], axis=2)], {"x": signal}, {"l": np.array(4, np.int64)})


def meanings():
    x = f32(2, 3, 4)
    for op in ["Softmax", "LogSoftmax", "Hardmax"]:
        for opset in versions(op, 13):
            for axis in [None, 0, 1, 2] + ([-1, -2] if opset >= 11 else []):
                attributes = {} if axis is None else {"axis": axis}
                case(op, opset, f"axis {axis}", [n(op, ["x"], **attributes)], {"x": x})
            case(op, opset, "image", [n(op, ["x"])], {"x": f32(2, 5, 1, 1)})
            # A rank that nothing tells: of what an unknown operator's twin, a Reshape to a computed shape, makes.
            case(op, opset, "unknown rank", [helper.make_node("Reshape", ["x", "shape"], ["r"]), n(op, ["r"], axis=1)],
                 {"x": x, "shape": i64(2, 3, 4)})
    data, indices, updates = f32(3, 3), i64(1, 0, 2, 0, 2, 1).reshape(2, 3), f32(2, 3)
    for opset in versions("Scatter", 11):
        case("Scatter", opset, "axis 0", [n("Scatter", ["x", "i", "u"], axis=0)], {"x": data, "i": indices, "u": updates})
    case("ScatterElements", 11, "axis 1", [n("ScatterElements", ["x", "i", "u"], axis=1)], {"x": data, "i": indices, "u": updates})
    values = np.array([2, 5], np.float32)
    for dtype in [np.int64, np.int32, np.float32]:
        wide = lambda i: np.where(np.arange(4) == np.asarray(i)[:, None], 5, 2).astype(np.float32)
        case("OneHot", 9, f"{np.dtype(dtype).name}", [n("OneHot", ["i", "d", "v"])],
             {"i": np.array([0, 3, 2], dtype)}, {"d": np.array([4], dtype), "v": values}, expected=[wide([0, 3, 2])])
        # The specification says that all is off; ONNX Runtime takes them from the back in every version.
        case("OneHot", 10, f"{np.dtype(dtype).name} negative", [n("OneHot", ["i", "d", "v"])],
             {"i": np.array([0, -1, 2], dtype)}, {"d": np.array(4, dtype), "v": values}, expected=[wide([0, 9, 2])])
    image, kernel = f32(1, 2, 4, 4), f32(2, 3, 3, 3)
    for opset in versions("ConvTranspose", 11):
        case("ConvTranspose", opset, "pads", [n("ConvTranspose", ["x", "w"], strides=[2, 2], pads=[1, 0, 1, 1])], {"x": image}, {"w": kernel})
        case("ConvTranspose", opset, "same", [n("ConvTranspose", ["x", "w"], strides=[1, 1], auto_pad="SAME_UPPER")], {"x": image}, {"w": kernel})
        case("ConvTranspose", opset, "same odd", [n("ConvTranspose", ["x", "w"], strides=[2, 2], auto_pad="SAME_UPPER")], {"x": image}, {"w": kernel})
    for opset in versions("GroupNormalization", 21):
        case("GroupNormalization", opset, "groups", [n("GroupNormalization", ["x", "s", "b"], num_groups=2)], {"x": f32(2, 6, 3, 3)}, {"s": f32(2), "b": f32(2)})
        case("GroupNormalization", opset, "channels", [n("GroupNormalization", ["x", "s", "b"], num_groups=6)], {"x": f32(2, 6, 3, 3)}, {"s": f32(6), "b": f32(6)})


def scans():
    declare = lambda name, shape: helper.make_tensor_value_info(name, T.FLOAT, shape)
    body = helper.make_graph(
        [helper.make_node("Add", ["sum_in", "next"], ["sum_out"]), helper.make_node("Identity", ["sum_out"], ["scan_out"])],
        "sum", [declare("sum_in", [2]), declare("next", [2])], [declare("sum_out", [2]), declare("scan_out", [2])])
    initial, x = f32(3, 2), f32(3, 5, 2)
    for what, directions, order in [("forward", [0], x), ("reverse", [1], x[:, ::-1])]:
        sums = np.stack([initial + order[:, : i + 1].sum(1) for i in range(5)], 1)
        case("Scan", 8, what, [n("Scan", ["", "initial", "x"], ["y", "z"], body=body, num_scan_inputs=1, directions=directions)],
             {"initial": initial, "x": x}, outputs=("y", "z"), expected=[sums[:, -1], sums])


def inside():
    """The same in subgraphs and functions."""
    x = f32(2, 3, 4)
    declare = lambda name: helper.make_tensor_value_info(name, T.FLOAT, None)
    branch = lambda axis: helper.make_graph(
        [helper.make_node("Softmax", ["x"], ["s"], axis=axis), helper.make_node("ReduceSum", ["s"], ["o"], axes=[1], keepdims=1)],
        "branch", [], [declare("o")])
    case("If", 11, "Softmax and ReduceSum", [n("If", ["c"], then_branch=branch(1), else_branch=branch(2))], {"c": np.array(True), "x": x})
    case("If", 12, "the other branch", [n("If", ["c"], then_branch=branch(1), else_branch=branch(0))], {"c": np.array(False), "x": x})
    loop = helper.make_graph(
        [helper.make_node("Softmax", ["state"], ["soft"], axis=1), helper.make_node("Unsqueeze", ["soft"], ["wide"], axes=[0]),
         helper.make_node("Squeeze", ["wide"], ["next"], axes=[0]), helper.make_node("Identity", ["go"], ["go_on"])],
        "body", [helper.make_tensor_value_info("i", T.INT64, []), helper.make_tensor_value_info("go", T.BOOL, []),
                 helper.make_tensor_value_info("state", T.FLOAT, [2, 3, 4])],
        [helper.make_tensor_value_info("go_on", T.BOOL, []), helper.make_tensor_value_info("next", T.FLOAT, [2, 3, 4])])
    for opset in [7, 11, 12]:
        case("Loop", opset, "Softmax and Squeeze", [n("Loop", ["count", "", "x"], body=loop)], {"x": x}, {"count": np.array(3, np.int64)})
    own = helper.make_function("ours", "Soft", ["a"], ["b"],
                               [helper.make_node("Softmax", ["a"], ["s"], axis=1), helper.make_node("Unsqueeze", ["s"], ["b"], axes=[0])],
                               [helper.make_opsetid("", 12)])
    call = helper.make_node("Soft", ["x"], ["f"], name="call", domain="ours")
    case("function", 12, "Softmax and Unsqueeze", [call, n("Relu", ["f"])], {"x": x}, functions=[own])
    mixed = helper.make_node("Soft", ["x"], ["f"], name="call", domain="ours")
    case("function", 11, "of a newer opset", [mixed, n("Softmax", ["f"], axis=2)], {"x": x}, functions=[own])


def old_models():
    """Models that the `onnx` package carries, with the inputs and outputs that it recorded, or with random inputs."""
    data = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data")
    read = lambda path: numpy_helper.to_array(onnx.load_tensor(path))
    for folder in ["pytorch-operator", "pytorch-converted"]:
        for path in sorted(glob.glob(os.path.join(data, folder, "*", "model.onnx"))):
            model, here = onnx.load(path), os.path.dirname(path)
            given = sorted(glob.glob(os.path.join(here, "test_data_set_0", "input_*.pb")))
            constants = {t.name for t in model.graph.initializer}
            names = [i.name for i in model.graph.input if i.name not in constants]
            inputs = {name: read(p) for name, p in zip(names, given)}
            expected = [read(p) for p in sorted(glob.glob(os.path.join(here, "test_data_set_0", "output_*.pb")))]
            opset = next(o.version for o in model.opset_import if o.domain == "")
            CASES.append({"op": folder, "opset": opset, "what": os.path.basename(here), "model": model, "inputs": inputs, "expected": expected})
    for path in sorted(glob.glob(os.path.join(data, "light", "*.onnx"))):
        model = onnx.load(path)
        constants = {t.name for t in model.graph.initializer}
        size = lambda i: [d.dim_value or 1 for d in i.type.tensor_type.shape.dim]
        inputs = {i.name: RNG.random(size(i)).astype(np.float32) for i in model.graph.input if i.name not in constants}
        opset = next(o.version for o in model.opset_import if o.domain == "")
        CASES.append({"op": "light", "opset": opset, "what": os.path.basename(path), "model": model, "inputs": inputs, "expected": None})


class Norm:
    """A layer norm over the last axes, spelled in one of many ways."""

    def __init__(self, opset, axes=(-1,), dims=(2, 4, 8)):
        self.opset, self.axes, self.dims, self.nodes, self.constants = opset, list(axes), dims, [], {}

    def __call__(self, op, *inputs, **attributes):
        out = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=f"/norm/{op}_{len(self.nodes)}", **attributes))
        return out

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def mean(self, x, how, keepdims=1):
        axes = [a % len(self.dims) for a in self.axes] if self.opset < 11 else self.axes
        if how == "sum":
            size = float(np.prod([self.dims[a] for a in self.axes]))
            if self.opset >= 13:
                total = self("ReduceSum", x, self.constant(i64(*axes)), keepdims=keepdims)
            else:
                total = self("ReduceSum", x, axes=axes, keepdims=keepdims)
            return self("Mul", total, self.constant(np.array(1 / size, np.float32)))
        return self("ReduceMean", x, axes=axes, keepdims=keepdims)


def spelled(opset, mean, square, root, scale, bias, casts, axes, dims=(2, 4, 8), fused=1, what=""):
    norm, x = Norm(opset, axes=axes, dims=dims), "x"
    wide = tuple(dims[a] for a in axes)
    if square == "squares":  # E[x²] - E[x]²
        m = norm.mean(x, mean)
        variance = norm("Sub", norm.mean(norm("Mul", x, x), mean), norm("Mul", m, m))
        centered = norm("Sub", x, m)
    else:
        centered = norm("Sub", x, norm.mean(x, mean))
        inner = norm("Cast", centered, to=T.FLOAT) if casts else centered
        squared = norm("Pow", inner, norm.constant(np.array(2, np.float32))) if square == "pow" else norm("Mul", inner, inner)
        variance = norm.mean(squared, mean)
    sigma = norm("Sqrt", norm("Add", variance, norm.constant(np.array(1e-5, np.float32))))
    if casts:
        sigma = norm("Cast", sigma, to=T.FLOAT)
    y = norm("Div", centered, sigma) if root == "div" else norm("Mul", centered, norm("Reciprocal", sigma))
    if scale is not None:
        y = norm("Mul", *([y, norm.constant(f32(*scale, *wide))][:: -1 if root == "div" else 1]))
    if bias is not None:
        y = norm("Add", y, norm.constant(f32(*bias, *wide)))
    norm.nodes.append(helper.make_node("Relu", [y], ["y"], name="behind"))
    name = f"{mean} {square} {root} scale {scale} bias {bias} casts {casts} axes {axes} {what}"
    case("layer-norm", opset, name, norm.nodes, {"x": f32(*dims)}, norm.constants, fused=fused)


def norms():
    import itertools

    spellings = list(itertools.product(["mean", "sum"], ["pow", "mul", "squares"], ["div", "reciprocal"], [(), (1, 1), None], [(), None]))
    for number, (mean, square, root, scale, bias) in enumerate(spellings):
        opset = [9, 11, 12, 13, 14, 16][number % 6]
        casts = square != "squares" and number % 4 == 0
        spelled(opset, mean, square, root, scale, bias, casts, (-1,))
    for opset in [9, 13, 16]:
        spelled(opset, "mean", "pow", "div", (), (), False, (-2, -1), what="two axes")
        spelled(opset, "mean", "mul", "reciprocal", None, None, False, (-2, -1), what="two axes")
    # Channels first: the axes are put last and back. A scale of one axis out of two is broadcast.
    norm = Norm(13)
    d = norm("Sub", "x", norm("ReduceMean", "x", axes=[1]))
    s = norm("Sqrt", norm("Add", norm("ReduceMean", norm("Mul", d, d), axes=[1]), norm.constant(np.array(1e-6, np.float32))))
    y = norm("Mul", norm("Div", d, s), norm.constant(f32(4, 1)))
    norm.nodes.append(helper.make_node("Add", [y, norm.constant(f32(4, 1))], ["y"], name="bias"))
    case("layer-norm", 13, "channels first", norm.nodes, {"x": f32(2, 4, 8)}, norm.constants, fused=1)
    norm = Norm(13)
    d = norm("Sub", "x", norm("ReduceMean", "x", axes=[-2, -1]))
    s = norm("Sqrt", norm("Add", norm("ReduceMean", norm("Mul", d, d), axes=[-2, -1]), norm.constant(np.array(1e-6, np.float32))))
    norm.nodes.append(helper.make_node("Mul", [norm("Div", d, s), norm.constant(f32(8))], ["y"], name="scale"))
    case("layer-norm", 13, "scale broadcast", norm.nodes, {"x": f32(2, 4, 8)}, norm.constants, fused=0)
    # In FP16 with the middle in FP32, as mixed precision exports have it.
    norm = Norm(14)
    h = norm("Cast", "x", to=T.FLOAT16)
    w = norm("Cast", h, to=T.FLOAT)
    d = norm("Sub", w, norm("ReduceMean", w, axes=[-1]))
    s = norm("Sqrt", norm("Add", norm("ReduceMean", norm("Mul", d, d), axes=[-1]), norm.constant(np.array(1e-5, np.float32))))
    q = norm("Cast", norm("Div", d, s), to=T.FLOAT16)
    q = norm("Add", norm("Mul", q, norm.constant(f32(8).astype(np.float16))), norm.constant(f32(8).astype(np.float16)))
    norm.nodes.append(helper.make_node("Cast", [q], ["y"], name="out", to=T.FLOAT))
    case("layer-norm", 14, "mixed types", norm.nodes, {"x": f32(2, 4, 8)}, norm.constants, fused=1)


def real_model(path, norms):
    """A model as it is in use, on random inputs: bytes for integers, images for floats."""
    model, inputs = onnx.load(path), {}
    constants = {t.name for t in model.graph.initializer}
    for value in (v for v in model.graph.input if v.name not in constants):
        of = value.type.tensor_type
        dims = [d.dim_value if d.dim_value > 0 else None for d in of.shape.dim]
        if of.elem_type == T.FLOAT:
            dims = [size or default for size, default in zip(dims, [2, 3, 48, 320])]
            inputs[value.name] = RNG.random(dims).astype(np.float32)
        else:
            dtype = helper.tensor_dtype_to_np_dtype(of.elem_type)
            inputs[value.name] = RNG.integers(0, 257, [size or 2 for size in dims]).astype(dtype)
    opset = next(o.version for o in model.opset_import if o.domain == "")
    CASES.append({"op": "layer-norm of real models", "opset": opset, "what": os.path.basename(path), "model": model,
                  "inputs": inputs, "expected": None, "fused": norms})


def session(model):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    given = model if isinstance(model, str) else model.SerializeToString()
    return ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def make(folder, everything, models):
    for group in [elementwise, old_forms, resizing, attributes_to_inputs, meanings, scans, inside, norms]:
        group()
    if everything:
        old_models()
    for model in models:
        path, count = model.rsplit("=", 1)
        real_model(path, int(count))
    os.makedirs(folder, exist_ok=True)
    listed = []
    for number, one in enumerate(CASES):
        onnx.save(one["model"], os.path.join(folder, f"{number}.onnx"))
        expected = {f"out_{i}": v for i, v in enumerate(one["expected"] or [])}
        np.savez(os.path.join(folder, f"{number}.npz"), **{f"in_{k}": v for k, v in one["inputs"].items()}, **expected)
        keys = ["op", "opset", "what", "fused"]
        listed.append({"number": number, **{key: one.get(key) for key in keys}})
    with open(os.path.join(folder, "cases.json"), "w", encoding="utf-8") as out:
        json.dump(listed, out)


def is_valid(path):
    try:
        onnx.checker.check_model(path, full_check=True)
    except Exception as error:  # The checker throws what it likes.
        return str(error)
    return None


def differs(expected, found, rtol=1e-3, atol=1e-5):
    for i, (a, b) in enumerate(zip(expected, found)):
        a, b = np.asarray(a), np.asarray(b)
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"output {i} is {b.dtype}{list(b.shape)}, not {a.dtype}{list(a.shape)}"
        if a.dtype.kind not in "fc":
            if not np.array_equal(a, b):
                return f"output {i} differs"
        elif not np.allclose(a, b, rtol, atol, equal_nan=True):
            return f"output {i} differs by {np.abs(a - b).max()}"
    return None


def outputs(path, inputs):
    """What a model computes: in ONNX Runtime, or where that has no kernel, in ONNX's reference."""
    try:
        running = session(path)
    except Exception as error:
        if "NOT_IMPLEMENTED" not in str(error):
            raise
        running = onnx.reference.ReferenceEvaluator(path)
        return running.run(None, {name: inputs[name] for name in running.input_names})
    return running.run(None, {i.name: inputs[i.name] for i in running.get_inputs()})


def judge(folder, one):
    """`{opset: None, or what is wrong}`, and how the expected outputs were found."""
    number = one["number"]
    arrays = np.load(os.path.join(folder, f"{number}.npz"))
    inputs = {name[3:]: arrays[name] for name in arrays if name.startswith("in_")}
    expected = [arrays[f"out_{i}"] for i in range(len([k for k in arrays if k.startswith("out_")]))]
    oracle = "stated"
    old = os.path.join(folder, f"{number}.onnx")
    if not expected:
        try:
            expected, oracle = session(old).run(None, inputs), "onnxruntime"
        except Exception as error:
            return {}, f"none: {str(error)[:200]}"
    old_fault = is_valid(old)
    verdicts = {}
    for path in sorted(glob.glob(os.path.join(folder, f"{number}.*", "model.onnx"))):
        opset = path.split(os.sep)[-2].split(".")[1]
        fault = None if old_fault else is_valid(path)
        if fault:
            verdicts[opset] = f"not valid: {fault[:300]}"
            continue
        try:
            # A norm in FP16 rounds its scale and bias elsewhere than its parts did.
            atol = 2e-2 if one["what"] == "mixed types" else 1e-5
            verdicts[opset] = differs(expected, outputs(path, inputs), atol=atol)
        except Exception as error:
            verdicts[opset] = f"does not run: {str(error)[:300]}"
    return verdicts, oracle


def run(folder):
    with open(os.path.join(folder, "cases.json"), encoding="utf-8") as file:
        cases = json.load(file)
    for one in cases:
        one["verdicts"], one["oracle"] = judge(folder, one)
    with open(os.path.join(folder, "results.json"), "w", encoding="utf-8") as out:
        json.dump(cases, out)


if sys.argv[1] == "make":
    make(sys.argv[2], sys.argv[3:4] == ["all"], sys.argv[4:])
else:
    run(sys.argv[2])
