"""Counts Casts: ours, beside those that onnxconverter-common makes of the same models.

    python3 benches/casts.py MODEL.onnx… [transformer:LAYERS:WIDTH…]

Needs onnxconverter-common (pip) and `cargo build --release --example bench-typed`. Prints a table in Markdown.
"""

import json
import os
import subprocess
import sys
import tempfile

import onnx
from onnxconverter_common import float16

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TYPED = os.environ.get("BENCH_TYPED", os.path.join(HERE, "target/release/examples/bench-typed"))
# What std-fp16 keeps FP32 for the most part, as their converter can say it: by operator.
BLOCKED = ["Softmax", "LogSoftmax", "Exp", "Log", "Pow", "ReduceSum", "ReduceL2", "LayerNormalization", "CumSum"]
FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}


def casts(graph):
    """Casts to a float type. Those from integers are in the source too."""
    to = lambda node: next(a.i for a in node.attribute if a.name == "to")
    return sum(1 for node in graph.node if node.op_type == "Cast" and to(node) in FLOATS)


def main():
    print("| model | nodes | values that cross | Casts, enginewright | Casts, onnxconverter-common |")
    print("|---|---|---|---|---|")
    for source in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([TYPED, source, folder], check=True, capture_output=True, text=True)
            ours = json.loads(done.stdout)
            path = os.path.join(folder, "source.onnx") if source.startswith("transformer:") else source
            model = onnx.load(path)
        before = casts(model.graph)
        nodes = len(model.graph.node)
        try:
            theirs = float16.convert_float_to_float16(model, keep_io_types=True, op_block_list=float16.DEFAULT_OP_BLOCK_LIST + BLOCKED)
            peer = str(casts(theirs.graph) - before)
        except Exception as error:  # pylint: disable=broad-except
            peer = f"fails: {type(error).__name__}"
        name = os.path.basename(source) if os.path.basename(source) != "model.onnx" else source.split(os.sep)[-4]
        print(f"| {name} | {nodes} | {ours['crossing']} | {ours['casts']} | {peer} |")


main()
