"""What the precision stage costs, beside the usual tools, in one run.

1. A 24-layer transformer of 680 MB, FP32 to FP16, from file to file; medians of 3. Ours is the action `prepare`: a worker is
   started, reads the canonical model (which the step before wrote), types it, holds the result against what was promised and
   writes it; the main process hashes it and flushes it to the disk. Theirs is, in a process that is started already,
   `onnx.load`, onnxconverter-common's `convert_float_to_float16` and `onnx.save`, of which the second is told alone too. And
   how much memory of its own our worker holds (not the mapped file).
2. A model with 3 GB of external data: reading it whole (the raw digests of its files, and that of its canonical form, for
   both of which each byte is hashed once), and `b3sum` over the same files; medians of 5. The page cache is warm on both
   sides. Ours is the whole step: a worker is started, reads and checks the model, and what it found is recorded and flushed.

usage: python3 benches/precision.py    (after `make build`; needs 8 GB of disk below target/ and 6 GB of memory)
"""

import json
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target/release/enginewright"
WORK = ROOT / "target/bench"
CACHE = ROOT / "target/test-cache"
RUNS = 3

MAKE = r"""
import sys, numpy as np, onnx
from onnx import TensorProto as T, helper as h, numpy_helper as nh
layers, d, out, external = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4] == "external"
random, nodes, weights = np.random.default_rng(0), [], []
def weight(name, *shape):
    weights.append(nh.from_array(random.standard_normal(shape, dtype=np.float32) * np.float32(0.02), name)); return name
def constant(name, value):
    weights.append(nh.from_array(np.array(value), name)); return name
def node(op, inputs, name, **attributes):
    nodes.append(h.make_node(op, inputs, [name], name=name, **attributes)); return name
two, eps, scale = constant("two", np.float32(2)), constant("eps", np.float32(1e-5)), constant("scale", np.float32(8))
split, join = constant("split", np.array([0, 0, d // 64, 64])), constant("join", np.array([0, 0, d]))
def norm(x, p):
    sub = node("Sub", [x, node("ReduceMean", [x], p + "/mean", axes=[-1])], p + "/sub")
    var = node("ReduceMean", [node("Pow", [sub, two], p + "/pow")], p + "/var", axes=[-1])
    div = node("Div", [sub, node("Sqrt", [node("Add", [var, eps], p + "/eps")], p + "/sqrt")], p + "/div")
    return node("Add", [node("Mul", [div, weight(p + "/g", d)], p + "/mul"), weight(p + "/b", d)], p + "/out")
def dense(x, p, k, n):
    return node("Add", [node("MatMul", [x, weight(p + "/w", k, n)], p + "/mm"), weight(p + "/b", n)], p + "/add")
x = "x"
for layer in range(layers):
    p = f"/layer{layer}"
    q, k, v = (node("Transpose", [node("Reshape", [dense(x, p + "/" + n, d, d), split], f"{p}/{n}/r")], f"{p}/{n}/t",
                    perm=[0, 2, 3, 1] if n == "k" else [0, 2, 1, 3]) for n in "qkv")
    scores = node("Softmax", [node("Div", [node("MatMul", [q, k], p + "/qk"), scale], p + "/scaled")], p + "/softmax", axis=-1)
    heads = node("Transpose", [node("MatMul", [scores, v], p + "/context")], p + "/heads", perm=[0, 2, 1, 3])
    out_ = dense(node("Reshape", [heads, join], p + "/joined"), p + "/o", d, d)
    x = norm(node("Add", [x, out_], p + "/res1"), p + "/ln1")
    up = node("Relu", [dense(x, p + "/up", d, 4 * d)], p + "/relu")
    x = norm(node("Add", [x, dense(up, p + "/down", 4 * d, d)], p + "/res2"), p + "/ln2")
node("Identity", [x], "y")
value = lambda name: h.make_tensor_value_info(name, T.FLOAT, ["batch", "seq", d])
graph = h.make_graph(nodes, "transformer", [value("x")], [value("y")], weights)
model = h.make_model(graph, opset_imports=[h.make_opsetid("", 13)], ir_version=8)
onnx.save(model, out, save_as_external_data=external, location=out.rsplit("/", 1)[-1] + ".data")
"""

CONVERT = r"""
import sys, time, onnx
from onnxconverter_common.float16 import convert_float_to_float16
start = time.perf_counter()
model = onnx.load(sys.argv[1])
loaded = time.perf_counter()
model = convert_float_to_float16(model, keep_io_types=True)
converted = time.perf_counter()
onnx.save(model, sys.argv[2])
print(converted - loaded, time.perf_counter() - start)
"""

MANIFEST = """schema = 1
[target.rtx-3090]
gpu = "RTX 3090"
[model.m]
source = {{ path = "{model}" }}
targets = ["rtx-3090"]
precision = "{precision}"
[[model.m.profile]]
dims = {{ batch = 1, seq = [1, 128, 512] }}
name = "p"
"""


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if done.returncode not in (0, 2):
        sys.exit(f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def tools():
    """A Python with onnx and the converter, and b3sum; kept below target/."""
    python = WORK / "venv/bin/python"
    if not python.exists():
        run(sys.executable, "-m", "venv", WORK / "venv")
        run(python, "-m", "pip", "install", "-q", "onnx", "onnxconverter-common", "numpy")
    if not (WORK / "bin/b3sum").exists():
        run("cargo", "install", "--quiet", "--root", WORK, "b3sum")
    return python, WORK / "bin/b3sum"


def own_memory(folder, stop, peak):
    """The most memory of its own that a worker below this folder holds, in bytes."""
    while not stop.is_set():
        for status in pathlib.Path("/proc").glob("[0-9]*/status"):
            try:
                if (status.parent / "cwd").readlink().is_relative_to(folder):
                    found = re.search(r"RssAnon:\s+(\d+)", status.read_text())
                    peak[0] = max(peak[0], int(found[1]) << 10) if found else peak[0]
            except OSError:
                pass
        time.sleep(0.005)


def plan(name, model, precision, watched=False):
    """A cold `plan`: what its record says of the two steps, in seconds, and the workers' own memory if it is `watched`."""
    path = WORK / name
    shutil.rmtree(path, ignore_errors=True)
    (path / "manifests").mkdir(parents=True)
    (path / "manifests/m.toml").write_text(MANIFEST.format(model=model, precision=precision))
    (path / "cache/v1").mkdir(parents=True)
    (path / "cache/v1/toolchains").symlink_to(CACHE / "v1/toolchains")
    stop, peak = threading.Event(), [0]
    watcher = threading.Thread(target=own_memory, args=(path / "cache", stop, peak))
    if watched:  # It takes a part of a core.
        watcher.start()
    start = time.perf_counter()
    said = subprocess.run([PROGRAM, "plan", "--log-file", "log"], cwd=path, capture_output=True, text=True)
    wall = time.perf_counter() - start
    if watched:
        stop.set()
        watcher.join()
    if said.returncode:
        sys.exit(f"plan: exit {said.returncode}\n{said.stdout}{said.stderr}")
    log = (path / "log").read_text()
    seconds = {word: float(s) for word, s in re.findall(r"^ *[\d.]+ s +(read|prepared) .* in ([\d.]+) s$", log, re.M)}
    return seconds, wall, peak[0]


def rewrite(python):
    model = WORK / "transformer-24.onnx"
    if not model.exists():
        run(python, "-c", MAKE, 24, 768, model, "inside")
    size = model.stat().st_size
    ours, whole, theirs, theirs_whole = [], [], [], []
    memory = plan("rewrite", model, "fp16", watched=True)[2]
    for _ in range(RUNS):
        seconds, wall, _ = plan("rewrite", model, "fp16")
        ours.append(seconds["prepared"])
        whole.append(wall)
        convert, total = map(float, run(python, "-c", CONVERT, model, WORK / "converted.onnx").split())
        theirs.append(convert)
        theirs_whole.append(total)
    ours, whole, theirs, theirs_whole = map(statistics.median, (ours, whole, theirs, theirs_whole))
    verdict = "ok" if theirs >= 10 * ours else "MISSED"
    print(f"{size / 1e6:.0f} MB to FP16, read, typed, written and flushed: {ours:.2f} s")
    print(f"  onnxconverter-common, loaded, converted and saved: {theirs_whole:.2f} s, ratio {theirs_whole / ours:.1f}")
    print(f"  its `convert_float_to_float16` alone, in memory: {theirs:.2f} s, ratio {theirs / ours:.1f}   limit: 10   {verdict}")
    print(f"  a first `plan` as a whole, which reads and hashes the user's file too: {whole:.2f} s, ratio {theirs_whole / whole:.1f}")
    verdict = "ok" if memory <= 0.15 * size else "MISSED"
    print(f"  memory of its own: {memory / 1e6:.0f} MB, {memory / size:.3f} of the model's size   limit: 0.15   {verdict}")


def digests(python, b3sum):
    model = WORK / "transformer-3gb.onnx"
    data = model.with_name(model.name + ".data")
    if not data.exists():
        run(python, "-c", MAKE, 60, 1024, model, "external")
    size = data.stat().st_size + model.stat().st_size
    ours, theirs = [], []
    for _ in range(5):
        start = time.perf_counter()
        run(b3sum, model, data)
        theirs.append(time.perf_counter() - start)
        ours.append(plan("digests", model, "as-is")[0]["read"])
    ours, theirs = statistics.median(ours), statistics.median(theirs)
    verdict = "ok" if theirs >= 0.9 * ours else "MISSED"
    print(f"{size / 1e9:.1f} GB: both digests {ours:.2f} s, b3sum {theirs:.2f} s, speed {theirs / ours:.2f} of b3sum's   limit: 0.9   {verdict}")


def main():
    WORK.mkdir(parents=True, exist_ok=True)
    python, b3sum = tools()
    rewrite(python)
    digests(python, b3sum)


if __name__ == "__main__":
    main()
