"""What enginewright costs on top of TensorRT-RTX.

1. A cold `apply` of one engine, beside a program that only calls TensorRT (bare.cpp), in one run:
   9 times each, taking turns, medians. Toolchain identity and page cache are warm on both sides.
2. `apply` of two engines of 2 s or more with -j 2, beside -j 1.

usage: python3 benches/overhead.py    (after `make build`; `make bench` does both)
"""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target/release/enginewright"
WORK = ROOT / "target/bench"
CACHE = ROOT / "target/test-cache"
RUNS = 9
COLD = ("cas", "results/externals", "results/canonicalize", "results/model", "results/prepare", "results/build")

MANIFEST = """schema = 1
[toolchain.rtx]
kind = "tensorrt-rtx"
version = "1.7.1.116"
root = "{libraries}"
[target.rtx-3090]
gpu = "RTX 3090"
[defaults]
targets = ["rtx-3090"]
{models}
"""


def timed(command, cwd=None):
    start = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"{command}: exit {done.returncode}\n{done.stdout.decode()}")
    return time.perf_counter() - start


def libraries():
    project = WORK / "fetch"
    (project / "manifests").mkdir(parents=True, exist_ok=True)
    (project / "manifests/m.toml").write_text('schema = 1\n[toolchain.rtx]\nkind = "tensorrt-rtx"\nversion = "1.7.1.116"\n')
    fetch = [PROGRAM, "-C", project, "--cache-dir", CACHE, "--format", "json", "toolchain", "fetch", "rtx"]
    return json.loads(subprocess.check_output(fetch))["toolchains"][0]["libraries"]


def bare_program():
    metadata = json.loads(subprocess.check_output(["cargo", "metadata", "--format-version=1", "--locked"], cwd=ROOT))
    crate = next(p for p in metadata["packages"] if p["name"] == "trtx-sys")
    headers = pathlib.Path(crate["manifest_path"]).parent / "TensorRT-Headers"
    program = WORK / "bare"
    command = ["g++", "-std=c++17", "-O2", "-w", f"-I{headers}/TRT-RTX-1.7", f"-I{headers}", ROOT / "benches/bare.cpp"]
    subprocess.run([*command, "-o", program, "-ldl"], check=True)
    return program


def magika(cache):
    """The demo's model, as `apply` left it in the cache."""
    return next(cache.glob("v1/packages/magika-1.0.3/*/magika/models/standard_v3_3/model.onnx"))


def project(name, folder, models):
    path = WORK / name
    shutil.rmtree(path, ignore_errors=True)
    (path / "manifests").mkdir(parents=True)
    (path / "manifests/m.toml").write_text(MANIFEST.format(libraries=folder, models=models))
    return path


def cold(path):
    shutil.rmtree(path / "engines", ignore_errors=True)
    for part in COLD:
        shutil.rmtree(path / "cache/v1" / part, ignore_errors=True)
    (path / "enginewright.lock").unlink(missing_ok=True)


def overhead(folder, bare):
    fetch = project("magika-fetch", folder, '[model.m]\nsource = { package = "magika==1.0.3", file = "magika/models/standard_v3_3/model.onnx" }\n'
                    "profile = [{ dims = { unk__214 = [1, 16, 256] } }]")
    timed([PROGRAM, "--cache-dir", CACHE, "plan", "--fetch"], cwd=fetch)
    cases = [
        ("magika (3 MB)", magika(CACHE), 'profile = [{ dims = { unk__214 = [1, 16, 256] } }]', ["bytes", "1x2048", "16x2048", "256x2048"]),
        ("wide (336 MB)", WORK / "wide.onnx", "", []),
        ("chain (0.2 MB)", WORK / "chain-a.onnx", "", []),
    ]
    print(f"\n{'cold apply of one engine':26} {'bare':>9} {'apply':>9} {'ratio':>7} {'extra':>9}   limit: 1.15 x bare + 60 ms")
    for name, model, profile, shapes in cases:
        path = project("overhead", folder, f'[model.m]\nsource = {{ path = "{model}" }}\n{profile}\n')
        ours = [PROGRAM, "--quiet", "apply"]
        theirs = [bare, folder, model, WORK / "bare.engine", *shapes]
        timed(ours, cwd=path)
        timed(theirs)
        a, b = [], []
        for _ in range(RUNS):
            b.append(timed(["bash", "-c", 'ulimit -s unlimited; exec "$@"', "bare", *theirs]))
            cold(path)
            a.append(timed(ours, cwd=path))
        a, b = statistics.median(a), statistics.median(b)
        verdict = "ok" if a <= 1.15 * b + 0.06 else "MISSED"
        print(f"{name:26} {b*1e3:6.0f} ms {a*1e3:6.0f} ms {a/b:7.2f} {(a-b)*1e3:6.0f} ms   {verdict}")


def parallel(folder):
    path = project("parallel", folder, f'[model.a]\nsource = {{ path = "{WORK}/chain-a.onnx" }}\n[model.b]\nsource = {{ path = "{WORK}/chain-b.onnx" }}\n')
    timed([PROGRAM, "--quiet", "apply"], cwd=path)
    times = {1: [], 2: []}
    for _ in range(RUNS):
        for jobs in times:
            cold(path)
            times[jobs].append(timed([PROGRAM, "--quiet", "apply", "-j", str(jobs)], cwd=path))
    one, two = statistics.median(times[1]), statistics.median(times[2])
    verdict = "ok" if two < 0.7 * one else "MISSED"
    print(f"\ntwo builds, -j 1: {one:.2f} s, -j 2: {two:.2f} s, ratio {two/one:.2f}   limit: 0.70   {verdict}")


def no_op(folder):
    path = WORK / "magika-fetch"
    timed([PROGRAM, "--cache-dir", CACHE, "--quiet", "apply"], cwd=path)
    time.sleep(3)  # The stat cache does not trust files that are younger.
    timed([PROGRAM, "--cache-dir", CACHE, "--quiet", "apply"], cwd=path)
    runs = [timed([PROGRAM, "--cache-dir", CACHE, "apply"], cwd=path) for _ in range(RUNS)]
    start = [timed([PROGRAM, "--version"]) for _ in range(RUNS)]
    print(f"\n`apply` with nothing to do: {statistics.median(runs)*1e3:.1f} ms ({statistics.median(runs)/statistics.median(start):.1f} times `--version`)")


def main():
    WORK.mkdir(parents=True, exist_ok=True)
    subprocess.run([ROOT / "target/release/examples/bench-models", WORK], check=True)
    folder, bare = libraries(), bare_program()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    overhead(folder, bare)
    parallel(folder)
    no_op(folder)


main()
