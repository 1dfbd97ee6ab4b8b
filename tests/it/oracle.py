"""The oracle's graphs in ONNX Runtime, held against what they must compute, stated in numpy: FP32 (here FP64),
then one rounding. Prints a JSON object: case -> [largest distance in units of the last place, values, message].

oracle.py ops FOLDER           every FOLDER/*.onnx, against the statement of that name
oracle.py magika MODEL CONFIG FILE...   label and score of each file
"""
import json, math, sys
from pathlib import Path
import numpy as np
import onnxruntime as ort

np.seterr(all="ignore")


def session(path):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def fp16(x):
    # From the exact value by one rounding: numpy rounds FP64 to FP16 directly.
    return np.asarray(x, np.float64).astype(np.float16).astype(np.float64)


def bf16(x):
    """Round FP32 to nearest even at 16 bits. What is given has few enough bits to be exact in FP32."""
    x = np.asarray(x, np.float32)
    bits = x.view(np.uint32).astype(np.uint64)
    bits = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32)
    return np.where(np.isnan(x), np.float32(np.nan), bits.view(np.float32)).astype(np.float64)


SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, 65504.0, -65504.0, 300.0, 1e-4, 6e-8, -6e-8, 6.1e-5, 2048.0, 2049.0, 0.1, 3.5,
     np.inf, -np.inf, np.nan])
rng = np.random.default_rng(7)


def pairs():
    a, b = np.meshgrid(SPECIAL, SPECIAL)
    more = rng.normal(size=(2, 20000)) * np.exp(rng.uniform(-9, 9, size=(2, 20000)))
    return [np.concatenate([a.ravel(), more[0]]), np.concatenate([b.ravel(), more[1]])]


def singles(low=-20.0, high=20.0):
    near = rng.uniform(low, high, size=20000)
    far = rng.normal(size=5000) * np.exp(rng.uniform(-12, 12, size=5000))
    return [np.concatenate([SPECIAL, near, far])]


def rows(low, high, n=8):
    return [rng.uniform(low, high, size=(2000, n))]


def relu(x):
    return np.where(np.isnan(x), x, np.maximum(x, 0))


def norm(x, scale, bias, r):
    mean = x.mean(-1, keepdims=True)
    normal = r((x - mean) / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5))
    return r(normal * scale) + bias


def mask(scores, keep, r):
    lost = r(r(1 - keep) * r(-3.4e38))
    scores = r(scores + lost)
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


erf = np.vectorize(math.erf)
one = lambda f, **kw: (lambda: singles(**kw), lambda r, x: f(x))
two = lambda f: (pairs, lambda r, a, b: f(a, b))
reduce = lambda f, low=0.0, high=4.0: (lambda: rows(low, high), lambda r, x: f(r, x))
# Each: inputs, and the value before its last rounding; `r` rounds in between.
STATEMENTS = {
    "Add": two(np.add), "Sub": two(np.subtract), "Mul": two(np.multiply), "Div": two(np.divide),
    "Max": two(np.maximum), "Min": two(np.minimum),
    "Mod": (lambda: [rng.uniform(-900, 900, 5000), rng.uniform(1, 30, 5000)], lambda r, a, b: np.fmod(a, b)),
    "Pow": (lambda: [rng.uniform(0.01, 40, 5000), rng.uniform(-4, 4, 5000)], lambda r, a, b: a**b),
    "PRelu": two(lambda a, b: np.where(a < 0, a * b, a)),
    "Where": (lambda: [rng.uniform(size=400) < 0.5, *[p[:400] for p in pairs()]], lambda r, c, a, b: np.where(c, a, b)),
    "Sqrt": one(np.sqrt), "Relu": one(relu), "Clip": one(lambda x: np.clip(x, fp16(-1.7), fp16(2.3))),
    "Cast": (lambda: [np.concatenate([singles()[0], rng.uniform(-7e4, 7e4, 5000)]).astype(np.float32)], lambda r, x: x),
    "Neg": one(np.negative), "Abs": one(np.abs), "Floor": one(np.floor), "Identity": one(lambda x: x),
    "Reciprocal": one(np.reciprocal), "Exp": one(np.exp), "Log": one(np.log), "Tanh": one(np.tanh),
    "Sigmoid": one(lambda x: 1 / (1 + np.exp(-x))), "Erf": one(erf),
    "Sin": one(np.sin, low=-3.0, high=3.0), "Cos": one(np.cos, low=-3.0, high=3.0), "Tan": one(np.tan),
    "Asin": one(np.arcsin, low=-1.0, high=1.0), "Acos": one(np.arccos, low=-1.0, high=1.0), "Atan": one(np.arctan),
    "Sinh": one(np.sinh), "Cosh": one(np.cosh), "Asinh": one(np.arcsinh), "Acosh": one(np.arccosh),
    "Atanh": one(np.arctanh, low=-1.0, high=1.0),
    "Softplus": one(lambda x: np.logaddexp(x, 0)), "Softsign": one(lambda x: x / (1 + np.abs(x))),
    "Elu": one(lambda x: np.where(x < 0, np.expm1(x), x)), "Celu": one(lambda x: np.where(x < 0, np.expm1(x), x)),
    "Selu": one(lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))),
    "LeakyRelu": one(lambda x: np.where(x < 0, np.float64(np.float32(0.01)) * x, x)),
    "HardSigmoid": one(lambda x: np.clip(np.float64(np.float32(0.2)) * x + 0.5, 0, 1)),
    "ThresholdedRelu": one(lambda x: np.where(x > 1, x, 0)),
    "Shrink": one(lambda x: np.where(x < -0.5, x, np.where(x > 0.5, x, 0))),
    "Sum": (lambda: [rng.uniform(0, 3e4, 5000) for _ in range(3)], lambda r, a, b, c: r(a + b) + c),
    "ReduceSum": reduce(lambda r, x: x.sum(-1, keepdims=True)),
    "ReduceMean": reduce(lambda r, x: x.mean(-1, keepdims=True)),
    "ReduceL1": reduce(lambda r, x: np.abs(x).sum(-1, keepdims=True), -3.0, 3.0),
    "ReduceProd": reduce(lambda r, x: x.prod(-1, keepdims=True), 0.5, 4.0),
    "ReduceMax": reduce(lambda r, x: x.max(-1, keepdims=True)),
    "ReduceMin": reduce(lambda r, x: x.min(-1, keepdims=True)),
    "ReduceSumSquare": reduce(lambda r, x: r(x * x).sum(-1, keepdims=True), 0.0, 300.0),
    "ReduceL2": reduce(lambda r, x: np.sqrt(r(r(x * x).sum(-1, keepdims=True))), 0.0, 300.0),
    "ReduceLogSum": reduce(lambda r, x: np.log(r(x.sum(-1, keepdims=True))), 0.5, 2e4),
    "ReduceLogSumExp": reduce(lambda r, x: np.log(r(r(np.exp(x)).sum(-1, keepdims=True))), 0.0, 11.5),
    "AveragePool": (lambda: [rng.uniform(0, 9, size=(3, 2, 8, 8))],
                    lambda r, x: x.reshape(3, 2, 4, 2, 4, 2).mean((3, 5))),
    "GlobalAveragePool": (lambda: [rng.uniform(0, 9, size=(3, 2, 8, 8))], lambda r, x: x.mean((2, 3), keepdims=True)),
    "MatMul": (lambda: [rng.uniform(0, 1, (50, 16)), rng.uniform(0, 1, (16, 50))], lambda r, a, b: a @ b),
    # Named after what must be seen in them.
    "LayerNormalization": (lambda: [rng.normal(size=(200, 16)) * 400, rng.normal(size=16), rng.normal(size=16)],
                           lambda r, x, s, b: norm(x, s, b, r)),
    "mask": (lambda: [rng.normal(size=(4, 6)), np.array([[1, 1, 0, 0, 0, 0]] * 2 + [[0] * 6] * 2)],
             lambda r, x, keep: mask(x, keep, r)),
    "branches": (lambda: [np.array(True), rng.normal(size=1000) * 100], lambda r, flag, x: r(x * r(2.1)) + r(3.3)),
}


def place(x, narrow):
    """Where a number stands among all of its type, so that neighbours differ by one."""
    if narrow is fp16:
        bits = x.astype(np.float16).view(np.int16).astype(np.int64)
        return np.where(bits < 0, -(bits & 0x7FFF), bits)
    bits = x.astype(np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits) >> 16


def ops(folder):
    found = {}
    for path in sorted(Path(folder).glob("*.onnx")):
        name, _, of = path.stem.partition(".")
        narrow = bf16 if of == "bf16" else fp16
        inputs, state = STATEMENTS[name]
        given = inputs()
        run = session(path)
        feeds, exact = {}, []
        for value, info in zip(given, run.get_inputs(), strict=True):
            wanted = {"tensor(float)": np.float32, "tensor(bool)": bool, "tensor(int64)": np.int64}[info.type]
            feeds[info.name] = value.astype(wanted)
            # Inputs have more bits than their type, and must be rounded on their way in.
            is_value = wanted is np.float32 and name != "Cast"
            exact.append(narrow(feeds[info.name]) if is_value else value)
        got = run.run(None, feeds)[0].astype(np.float64)
        want = narrow(state(narrow, *exact))
        if got.shape != want.shape:
            found[name + "." + of] = [-1, 0, f"shape {got.shape}, not {want.shape}"]
            continue
        nan = np.isnan(want)
        off = np.where(nan | np.isnan(got), np.where(nan == np.isnan(got), 0, 1 << 40), 0)
        plain = off == 0
        a, b = np.where(plain & ~nan, got, 0), np.where(plain & ~nan, want, 0)
        off = np.maximum(off, np.abs(place(a, narrow) - place(b, narrow)))
        if not np.array_equal(narrow(a), a):
            off = np.maximum(off, 1 << 41)
        at = np.unravel_index(int(off.argmax()), off.shape)
        shown = [float(v[at]) if getattr(v, "shape", None) == off.shape else "-" for v in exact]
        seen = {"inf": int(np.isinf(got).sum()), "nan": int(np.isnan(got).sum()),
                "lost": int(((got == 0) & (state(lambda x: x, *exact) != 0)).sum())}
        found[name + "." + of] = [int(off.max()), int(off.size), f"{shown} gives {got[at]}, not {want[at]}", seen]
    return found


def magika(model, config, files):
    config = json.loads(Path(config).read_text())
    found = {}
    rows = []
    for path in files:
        data = Path(path).read_bytes()
        begin = data[: config["block_size"]].lstrip()[: config["beg_size"]]
        end = data[-config["block_size"] :].rstrip()[-config["end_size"] :]
        pad = config["padding_token"]
        rows.append(
            list(begin) + [pad] * (config["beg_size"] - len(begin)) + [pad] * (config["end_size"] - len(end)) + list(end))
    run = session(model)
    scores = run.run(None, {run.get_inputs()[0].name: np.array(rows, np.int32)})[0]
    for path, score in zip(files, scores):
        best = int(np.argmax(score))
        found[Path(path).name] = [config["target_labels_space"][best], float(score[best])]
    return found


def apart(reference, candidate):
    """Cosine and worst agreement of the greatest of both models on random tokens."""
    runs = [session(reference), session(candidate)]
    ids = np.random.default_rng(3).integers(0, 100, size=(2, 24))
    feeds = {"input_ids": ids}
    if len(runs[0].get_inputs()) > 1:
        feeds["attention_mask"] = (np.arange(24) < np.array([[24], [9]])).astype(np.int64)
    a, b = (run.run(None, feeds)[0].astype(np.float64) for run in runs)
    kept = feeds.get("attention_mask", np.ones_like(ids)).astype(bool)
    a, b = a[kept], b[kept]
    same = float((a.argmax(-1) == b.argmax(-1)).mean())
    cosine = float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
    return {"cosine": cosine if math.isfinite(cosine) else -1.0, "top-1": same}


if sys.argv[1] == "apart":
    print(json.dumps(apart(*sys.argv[2:])))
elif sys.argv[1] == "ops":
    print(json.dumps(ops(sys.argv[2])))
else:
    print(json.dumps(magika(sys.argv[2], sys.argv[3], sys.argv[4:])))
