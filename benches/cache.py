"""What the cache costs, beside its peers, in one run: medians, as ratios.

1. `plan` with nothing to do: 200 models x 3 targets (1 MiB each), and 10,000 x 3, beside `ninja` over as many
   edges; `dvc status` over the same 200 models; the most memory that it takes.
2. Hashing 4 GiB in 1, 40 and 4,000 files for the first time, beside `b3sum`, page cache warm.
3. 600 published engines brought back after `rm -r engines`, by links and by copies.
4. The most anonymous memory of hashing and publishing one engine of 10 GB.

Engines are built, stored and published by the program itself, with a worker that makes bytes instead of engines
(benches/fake.rs). Peers that are not installed are left out, and said to be.

usage: python3 benches/cache.py [SECTION…]    (after `make build`; `make bench` does both)
"""

import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target/release/enginewright"
FAKE = ROOT / "target/release/examples/bench-fake"
HASH = ROOT / "target/release/examples/bench-hash"
WORK = pathlib.Path(os.environ.get("BENCH_FOLDER", ROOT / "target/bench/cache"))
RUNS = 15
TARGETS = {"ada": "sm_89", "ampere": "sm_86", "turing": "sm_75"}


def run(command, cwd=None):
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"{command}: exit {done.returncode}\n{done.stdout.decode()[-4000:]}")
    return done.stdout.decode()


def timed(command, cwd=None):
    start = time.perf_counter()
    run(command, cwd)
    return time.perf_counter() - start


def medians(commands, runs=RUNS):
    """Seconds of each command and folder, taking turns."""
    times = [[] for _ in commands]
    for _ in range(runs):
        for one, (command, cwd) in zip(times, commands):
            one.append(timed(command, cwd))
    return [statistics.median(one) for one in times]


def verdict(ok):
    return "ok" if ok else "MISSED"


def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out + bytes([n]))


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def onnx(name):
    """One Relu, whose node has this name: small, and equal to no other."""
    dim = field(1, field(1, 8))
    port = lambda port: field(1, port) + field(2, field(1, field(1, 1) + field(2, dim)))
    node = field(1, "x") + field(2, "y") + field(3, name) + field(4, "Relu")
    graph = field(1, node) + field(2, "g") + field(11, port("x")) + field(12, port("y"))
    return field(1, 8) + field(7, graph) + field(8, field(2, 17))


def project(name, models, workspace, extra=""):
    """A project of so many models for three targets. The engines have workspace / 4096 bytes."""
    path = WORK / name
    if (path / "done").exists():
        return path
    shutil.rmtree(path, ignore_errors=True)
    for folder in ("manifests", "models", "toolchain"):
        (path / folder).mkdir(parents=True)
    for library in ("libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"):
        (path / "toolchain" / library).write_text(library)
    text = f'schema = 1\n{extra}[toolchain.rtx]\nkind = "tensorrt-rtx"\nversion = "1.7.1.116"\nroot = "{path}/toolchain"\n'
    text += "".join(f'[target.{target}]\nsm = "{sm}"\ntoolchain = "rtx"\n' for target, sm in TARGETS.items())
    text += f'[defaults]\ntargets = {list(TARGETS)!r}\n[defaults.build]\nworkspace = "{workspace}"\n'.replace("'", '"')
    for number in range(models):
        model = f"m{number:05}"
        (path / f"models/{model}.onnx").write_bytes(onnx(model))
        text += f'[model.{model}]\nsource = {{ path = "../models/{model}.onnx" }}\n'
    (path / "manifests/m.toml").write_text(text)
    start = time.perf_counter()
    run([FAKE, "--quiet", "apply"], path)
    print(f"    {name}: {3 * models} engines built and published in {time.perf_counter() - start:.0f} s")
    (path / "done").touch()
    return path


def settle(path):
    """What is younger than 2 s is not believed: the first plan after that is the last one that looks at all."""
    time.sleep(2.5)
    first = timed([FAKE, "plan", "--detailed-exitcode"], path)
    assert "nothing to do" in run([FAKE, "plan", "--detailed-exitcode"], path)
    return first


def ninja_graph(name, models):
    path = WORK / f"{name}-ninja"
    if not path.exists():
        path.mkdir(parents=True)
        text = "rule build\n  command = touch $out\n"
        for number in range(models):
            (path / f"m{number:05}.onnx").write_bytes(onnx(f"m{number}"))
            text += "".join(f"build engines/m{number:05}/{target}.engine: build m{number:05}.onnx\n" for target in TARGETS)
        (path / "build.ninja").write_text(text)
        run(["ninja"], path)
    run(["ninja"], path)
    return path


def peak(command, cwd):
    """The most resident memory of a command, in MB."""
    text = run(["/usr/bin/env", "python3", "-c", PEAK, *map(str, command)], cwd)
    return float(text.strip().splitlines()[-1])


PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3)
"""


def no_op():
    print("\nno-op plan                  ours      ninja    ratio   limit    memory   first plan")
    for name, models, workspace, limit in [("600 engines", 200, "4GiB", 3), ("30,000 engines", 10_000, "16MiB", 2)]:
        path = project(name.replace(",", "").replace(" ", "-"), models, workspace)
        first = settle(path)
        commands = [([FAKE, "plan"], path)]
        if shutil.which("ninja"):
            commands.append((["ninja"], ninja_graph(path.name, models)))
        ours, *theirs = medians(commands)
        theirs = theirs[0] if theirs else float("nan")
        # After the others: the first one looks at everything again, since the project is younger than 2 s.
        memory = peak([FAKE, "plan"], path)
        print(f"{name:22} {ours*1e3:7.1f} ms {theirs*1e3:7.1f} ms {ours/theirs:7.2f} {limit:7} {memory:6.0f} MB {first*1e3:8.0f} ms   "
              f"{verdict(ours <= limit * theirs and memory < 150)}")
    dvc()


def dvc():
    program = shutil.which("dvc") or os.environ.get("DVC")
    if not program:
        return print("dvc is not installed: left out")
    path = WORK / "600-engines"
    theirs = WORK / "dvc"
    if not theirs.exists():
        shutil.copytree(path / "models", theirs / "models")
        run([program, "init", "--no-scm"], theirs)
        run([program, "add", *(f"models/m{n:05}.onnx" for n in range(200))], theirs)
    run([program, "status"], theirs)
    ours, theirs = medians([([FAKE, "plan"], path), ([program, "status"], theirs)], 5)
    print(f"dvc status, 200 files  {ours*1e3:7.1f} ms {theirs*1e3:7.0f} ms: {theirs/ours:.0f} times as long   limit: 100   {verdict(theirs >= 100 * ours)}")


def hashing():
    if not (b3sum := shutil.which("b3sum") or os.environ.get("B3SUM")):
        return print("\nb3sum is not installed: hashing is left out")
    size = int(os.environ.get("BENCH_HASH_BYTES", 4 << 30))
    print(f"\nhashing {size / 2**30:.0f} GiB        ours     b3sum   ours/b3sum (throughput)   limit: 0.90")
    for count in (1, 40, 4_000):
        folder = WORK / "hash"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        block = os.urandom(1 << 20)
        for number in range(count):
            with open(folder / f"{number:04}", "wb") as file:
                left = size // count
                while left > 0:
                    left -= file.write(block[: min(left, len(block))])
        os.sync()
        # Read once, so that the page cache is warm for both.
        files = sorted(folder.iterdir())
        commands = [([HASH, folder], None), ([b3sum, "--no-names", *files], None)]
        for command, _ in commands:
            run(command)
        ours, theirs = medians(commands, 5)
        rate = lambda seconds: size / seconds / 1e9
        print(f"{count:5} files       {rate(ours):5.2f} GB/s {rate(theirs):5.2f} GB/s {theirs/ours:7.2f}   {verdict(theirs / ours >= 0.9)}")
        shutil.rmtree(folder)


def restore():
    path = project("600-engines", 200, "4GiB")
    print("\n600 engines published again after `rm -r engines`   limit: 1 ms each, by links")
    manifest = path / "manifests/m.toml"
    text = manifest.read_text()
    for how in ("link", "copy"):
        manifest.write_text(text.replace("[defaults]\n", f'[defaults]\npublish = "{how}"\n'))
        times = []
        for _ in range(5):
            shutil.rmtree(path / "engines")
            times.append(timed([FAKE, "--quiet", "apply"], path))
        by = (path / "engines/m00000/ada.json").read_text().split('"published_by": "')[1].split('"')[0]
        each = statistics.median(times) / 600 * 1e3
        print(f"by {by:8} {each:6.2f} ms each   {verdict(each < 1) if how == 'link' else ''}")
    manifest.write_text(text)
    run([FAKE, "--quiet", "apply"], path)


def large():
    """One engine of 10 GB: built, hashed, stored, published by copy, with the memory looked at 50 times a second."""
    gigabytes = int(os.environ.get("BENCH_LARGE_GB", 10))
    path = WORK / "large"
    shutil.rmtree(path, ignore_errors=True)
    path = project("large-template", 0, "4GiB") and path
    shutil.copytree(WORK / "large-template", path, ignore=shutil.ignore_patterns("cache", "engines", "done"))
    (path / "models/m.onnx").write_bytes(onnx("m"))
    text = (path / "manifests/m.toml").read_text().replace(str(WORK / "large-template"), str(path))
    text = re.sub(r'workspace = "[^"]*"', f'workspace = "{gigabytes * 4000}GiB"', text)
    (path / "manifests/m.toml").write_text(text + '[model.m]\nsource = { path = "../models/m.onnx" }\ntargets = ["ada"]\npublish = "copy"\n')
    child = subprocess.Popen([FAKE, "--quiet", "apply"], cwd=path)
    most = 0
    while child.poll() is None:
        try:
            status = pathlib.Path(f"/proc/{child.pid}/status").read_text()
            most = max(most, int(re.search(r"RssAnon:\s+(\d+)", status)[1]))
        except (OSError, TypeError):
            pass
        time.sleep(0.02)
    size = (path / "engines/m/ada.engine").stat().st_size
    print(f"\nan engine of {size/1e9:.1f} GB hashed, stored and copied: {most/1e3:.0f} MB of anonymous memory at most   limit: 100   {verdict(child.returncode == 0 and most < 100_000)}")
    shutil.rmtree(path)


SECTIONS = {"no-op": no_op, "hash": hashing, "restore": restore, "large": large}


def main():
    WORK.mkdir(parents=True, exist_ok=True)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name in sys.argv[1:] or SECTIONS:
        SECTIONS[name]()


main()
