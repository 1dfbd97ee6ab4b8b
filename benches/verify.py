"""What measuring accuracy costs, beside a plain Python script with ONNX Runtime, in one run; medians of 3.

1. magika in FP16 on 20 samples: `verify`, and a script that runs the model and its FP16 form and takes the largest
   difference. That says less: ONNX Runtime computes FP16 in FP32 on a CPU, so that nothing overflows there.
2. A transformer of 12 layers: `verify --layers`, and a script that makes every float value of both models an output, and
   compares these. The memory of both.

Both sides are timed from the start of a process to its end. Models are typed before: nothing is built.

usage: python3 benches/verify.py    (after `make build`)
"""

import json
import pathlib
import shutil
import statistics
import sys
import time

from precision import CACHE, MAKE, PROGRAM, ROOT, RUNS, WORK, run

PEER = r"""
import json, pathlib, resource, sys, numpy as np, onnx, onnxruntime as ort
source, typed, samples, tap = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4] == "layers"
def session(path):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    if tap:
        model = onnx.load(path)
        known = {o.name for o in model.graph.output}
        for node in model.graph.node:
            model.graph.output.extend(onnx.ValueInfoProto(name=o) for o in node.output if o not in known)
        path = sys.argv[5]
        onnx.save(model, path, save_as_external_data=True, location=pathlib.Path(path).name + ".data")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
worst = 0.0
first, second = session(source), session(typed)
shared = sorted({o.name for o in first.get_outputs()} & {o.name for o in second.get_outputs()})
for sample in sorted(pathlib.Path(samples).glob("*.npz")):
    inputs = dict(np.load(sample))
    for a, b in zip(first.run(shared, inputs), second.run(shared, inputs)):
        if a.dtype.kind == "f":
            worst = max(worst, float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max()))
print(json.dumps({"values": len(shared), "worst": worst, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10}))
"""

MANIFEST = """schema = 1
[target.a]
sm = ["sm_86"]
[model.m]
source = {source}
targets = ["a"]
precision = "fp16"
[[model.m.profile]]
name = "p"
dims = {dims}
[model.m.verify]
inputs = {{ dir = "../samples" }}
tolerance = {{ cosine = 0.9 }}
"""

SAMPLES = r"""
import pathlib, sys, numpy as np
out, kind, source = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
random = np.random.default_rng(7)
if kind == "magika":
    files = sorted(source.glob("*.npz"))
    for i in range(20):
        sample = dict(np.load(files[i % len(files)]))
        np.savez(out / f"{i:02}.npz", **{name: np.roll(value, i, axis=-1) for name, value in sample.items()})
else:
    for i, length in enumerate([128, 256]):
        np.savez(out / f"{i}.npz", x=random.standard_normal((i + 1, length, 768), dtype=np.float32))
"""


def python():
    path = WORK / "venv/bin/python"
    if not path.exists():
        run(sys.executable, "-m", "venv", WORK / "venv")
    run(path, "-m", "pip", "install", "-q", "onnx", "onnxruntime", "onnxconverter-common", "numpy")
    return path


def project(name, source, dims, interpreter):
    """A project with samples, whose model is typed."""
    path = WORK / name
    shutil.rmtree(path, ignore_errors=True)
    (path / "manifests").mkdir(parents=True)
    (path / "samples").mkdir()
    (path / "manifests/m.toml").write_text(MANIFEST.format(source=source, dims=dims))
    run(interpreter, "-c", SAMPLES, path / "samples", name, ROOT / "testdata/magika")
    (path / "cache/v1").mkdir(parents=True)
    for shared in ("toolchains", "packages"):
        if (CACHE / "v1" / shared).exists():
            (path / "cache/v1" / shared).symlink_to(CACHE / "v1" / shared)
    # The reference is fetched here, if it is not in the cache of the tests, and the model typed.
    run(PROGRAM, "plan", "--fetch", cwd=path)
    return path


def blobs(path, action):
    """What a recorded action gave: its blobs by name, and its info."""
    (record,) = [f for f in (path / "cache/v1/results" / action).rglob("*") if f.is_file()]
    content = json.loads(record.read_text())["content"]
    cas = path / "cache/v1/cas"
    return {n: cas / b["b3"][:2] / b["b3"] for n, b in content["outputs"].items()}, content.get("info", {})


def model_of(path, action, folder):
    """A model of the cache as a file beside its weights."""
    found, _ = blobs(path, action)
    folder.mkdir(parents=True)
    shutil.copyfile(found["graph"], folder / "model.onnx")
    if "weights" in found:
        shutil.copyfile(found["weights"], folder / "weights.bin")
    return folder / "model.onnx"


def timed(path, command, action):
    """Seconds of a command whose action is not in the cache."""
    seconds = []
    for _ in range(RUNS):
        shutil.rmtree(path / "cache/v1/results" / action, ignore_errors=True)
        start = time.perf_counter()
        run(PROGRAM, *command, cwd=path)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def peer(interpreter, path, kind):
    source = model_of(path, "canonicalize", path / "source")
    typed = model_of(path, "prepare", path / "typed")
    seconds, found = [], {}
    for _ in range(RUNS):
        start = time.perf_counter()
        found = json.loads(run(interpreter, "-c", PEER, source, typed, path / "samples", kind, path / "tapped.onnx"))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), found


def verdict(holds):
    return "ok" if holds else "MISSED"


def main():
    WORK.mkdir(parents=True, exist_ok=True)
    interpreter = python()
    package = '{ package = "magika==1.0.3", file = "magika/models/standard_v3_3/model.onnx" }'
    path = project("magika", package, "{ unk__214 = [1, 1, 16] }", interpreter)
    ours = timed(path, ["verify"], "measure")
    theirs, found = peer(interpreter, path, "outputs")
    print(f"magika, 20 samples: verify {ours:.2f} s   limit: 3   {verdict(ours <= 3)}")
    print(f"  a script with ONNX Runtime: {theirs:.2f} s, ratio {theirs / ours:.1f}; the largest difference it sees is {found['worst']:.2g}")

    model = WORK / "transformer-12.onnx"
    if not model.exists():
        run(interpreter, "-c", MAKE, 12, 768, model, "inside")
    path = project("layers", f'{{ path = "{model}" }}', "{ batch = [1, 1, 2], seq = [128, 128, 256] }", interpreter)
    ours = timed(path, ["verify", "--layers"], "layers")
    _, info = blobs(path, "layers")
    theirs, found = peer(interpreter, path, "layers")
    holds = ours <= 60 and info["peak_rss"] <= 3 << 30
    print(f"12 layers, every value: verify --layers {ours:.1f} s, {info['peak_rss'] / 1e9:.2f} GB   limit: 60 s, 3.2 GB   {verdict(holds)}")
    print(f"  a script with ONNX Runtime: {theirs:.1f} s, {found['memory'] / 1e9:.2f} GB, ratio {theirs / ours:.1f}, {found['memory'] / info['peak_rss']:.1f}; {found['values']} values")


if __name__ == "__main__":
    main()
