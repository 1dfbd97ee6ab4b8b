"""Runs models and what was made of them in ONNX Runtime, and compares.

    typed_cases.py FOLDER

`FOLDER/todo.json` lists cases by name, with their file and the folder of what was made of it: `canonical/model.onnx`, and
`typed/model.onnx` if it was typed. Prints a JSON object: counts, and the names of those that are wrong.
"""

import glob
import json
import os
import sys
import warnings

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

warnings.filterwarnings("ignore")
np.seterr(all="ignore")


def session(path):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def array(value):
    """What ONNX Runtime takes for an input of a case."""
    if isinstance(value, onnx.TensorProto):
        value = numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def run(session, values):
    names = [value.name for value in session.get_inputs()]
    values = [array(value) for value in values]
    return session.run(None, {name: value for name, value in zip(names, values)})


def parts(a, b, equal):
    """Holds sequences against each other item by item; None for what is no sequence."""
    if a is None or b is None:
        return a is b
    if isinstance(a, list) or isinstance(b, list):
        return isinstance(a, list) and isinstance(b, list) and len(a) == len(b) and all(map(equal, a, b))
    return None


def same(a, b):
    found = parts(a, b, same)
    if found is not None:
        return found
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype == object or a.dtype.kind in "SU":
        return a.shape == b.shape and bool((a == b).all())
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def rounded(value):
    """What is left of an input in FP16."""
    value = array(value)
    if isinstance(value, np.ndarray) and value.dtype == np.float32:
        return value.astype(np.float16).astype(np.float32)
    return value


def near(a, b):
    """As near as FP16 allows: a few units in the last place of the largest value around."""
    found = parts(a, b, near)
    if found is not None:
        return found
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind != "f":
        return same(a, b)
    # What FP16 cannot hold is infinite there, or its largest number, or (ONNX Runtime leaves Casts out) what it was.
    a, b = np.clip(a.astype(np.float64), -65504, 65504), np.clip(b.astype(np.float64), -65504, 65504)
    within = np.abs(b) < 65504
    if not np.array_equal(a[~within], b[~within], equal_nan=True):
        return False
    scale = np.abs(b[within]).max(initial=0)
    return bool((np.abs(a[within] - b[within]) <= 8e-3 * scale + 2e-3).all())


def data(name, path):
    """The inputs of a case that the package has as files."""
    folder = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data", os.path.dirname(name), "test_data_set_0")
    values = []
    for file in sorted(glob.glob(os.path.join(folder, "input_*.pb")), key=lambda f: int(f.split("_")[-1][:-3])):
        tensor = onnx.TensorProto()
        with open(file, "rb") as opened:
            tensor.ParseFromString(opened.read())
        values.append(numpy_helper.to_array(tensor))
    return values


def content(path):
    with open(path, "rb") as opened:
        return opened.read()


def why(error):
    """The kind of an error of ONNX Runtime, in a few words."""
    text = str(error)
    known = ["NOT_IMPLEMENTED", "is not a registered function/op", "opset", "INVALID_GRAPH", "INVALID_ARGUMENT", "FAIL", "missing from input feed"]
    return next((kind for kind in known if kind in text), f"{type(error).__name__}: {text[:80]}")


def main():
    (folder,) = sys.argv[1:]
    with open(os.path.join(folder, "todo.json"), encoding="utf-8") as opened:
        todo = json.load(opened)
    inputs = {case.name: case.data_sets[0][0] for case in collect_testcases(None) if case.data_sets}
    counts = {"not run": 0, "written back equal": 0, "random": 0, "typed": 0, "without floats": 0, "no kernel": 0}
    wrong, reasons = [], {}
    for case in todo:
        name, made = case["name"], case["made"]
        values = inputs.get(name) if name in inputs else data(name, case["file"])
        try:
            original = session(case["file"])
            expected = run(original, values)
        except Exception as error:  # pylint: disable=broad-except
            counts["not run"] += 1
            reasons.setdefault(f"not run: {why(error)}", []).append(name)
            continue
        if not all(same(a, b) for a, b in zip(expected, run(original, values))):
            counts["random"] += 1
            continue
        try:
            back = run(session(os.path.join(made, "canonical/model.onnx")), values)
        except Exception as error:  # pylint: disable=broad-except
            wrong.append(f"{name}: the canonical form does not run: {error}")
            continue
        if len(back) != len(expected) or not all(same(a, b) for a, b in zip(expected, back)):
            wrong.append(f"{name}: the canonical form computes something else")
            continue
        counts["written back equal"] += 1
        typed = os.path.join(made, "typed/model.onnx")
        if not os.path.exists(typed):
            continue
        try:
            got = run(session(typed), values)
        except Exception as error:  # pylint: disable=broad-except
            text = str(error)
            if "NOT_IMPLEMENTED" in text or "MLFloat16 data type is not supported" in text:
                counts["no kernel"] += 1
                reasons.setdefault("no kernel", []).append(name)
            else:
                wrong.append(f"{name}: the typed form does not run: {text[:300]}")
            continue
        fits = lambda expected: len(got) == len(expected) and all(near(a, b) for a, b in zip(got, expected))
        if fits(expected) or fits(run(original, [rounded(v) for v in values])):
            counts["typed"] += 1
            counts["without floats"] += content(typed) == content(os.path.join(made, "canonical/model.onnx"))
        else:
            wrong.append(f"{name}: the typed form computes something else")
    print(json.dumps({"counts": counts, "wrong": wrong, "reasons": reasons}))


main()
