"""On a GPU, in one run of a few minutes: EM and a VAE's update against their goals, graphs against operations, digests.

python -m parity_tests.bench.gpu                              PyTorch and this repository are all that it needs
python -m parity_tests.bench.gpu --device cpu --quick         every line of it, on small tables

It prints a table, with the goals on an H100, and leaves it in build/gpu.json. The exit code is 1 if numbers
that must be equal are not.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.data import datasets
from common.mixtures.input import prepare
from common.mixtures.parameters import MixtureParameters
from common.runs import network
from common.runs.folder import RunFolder
from common.runs.options import VAEOptions, parse
from parity_tests.digests import published
from parity_tests.digests.runs import runs_on, train
from pytorch_impl import algorithms, gmm, network_run
from pytorch_impl.backend import device, shared
from pytorch_impl.distributed import Workers
from pytorch_impl.train_vae import minibatches

# N, D, K, and the goal of an iteration in milliseconds; the plain one may take five times as long
SHAPES = ((1_000_000, 2, 8, 1.0), (200_000, 16, 16, 1.0), (100_000, 32, 32, 1.0), (2_000_000, 16, 16, 5.0))
UPDATES = (("float32", 0.6), ("reproducible", 2.5))  # and the goal of an update of the VAE, 784-400-20, batch 128
Row = dict[str, Any]


def milliseconds(call: Callable[[], Any], repeats: int, synchronize: Callable[[], None]) -> float:
    """The median time of a call, after three that are not counted."""
    times = []
    for _ in range(3 + repeats):
        start = time.perf_counter()
        call()
        synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[3:])


def em_rows(quick: bool, synchronize: Callable[[], None]) -> Iterator[Row]:
    """An iteration as the estimators run it, the log likelihood read, and the plain one of the chapter on mixtures."""
    for n, d, k, goal in SHAPES:
        n = n // 100 if quick else n
        for dtype in ("float64", "float32"):
            x = datasets.synthetic_mixture(n, k, d, 4.0, seed=1).x.astype(dtype)
            data, rows = prepare(x, k, "full", 1e-3), np.linspace(0, n - 1, k).astype(int)
            start = np.full(k, 1 / k, dtype), x[rows], np.stack([4 * np.eye(d, dtype=dtype)] * k)
            algorithm = algorithms.algorithm_for(data, shared)
            state = MixtureParameters(*map(shared, start))
            (updated, bound), points = algorithm.iterate(state), shared(x)
            (expected, plain_bound) = gmm.em_iteration(points, *state, "full", 1e-3)
            apart = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(updated, expected, strict=True))
            equal = apart <= (1e-9 if dtype == "float64" else 1e-2) and np.isclose(float(bound), float(plain_bound))
            row = {"work": type(algorithm).__name__, "shape": f"{n} x {d} x {k}", "dtype": dtype}
            took = milliseconds(lambda a=algorithm, s=state: float(a.iterate(s)[1]), 20, synchronize)
            yield row | {"ms": took, "goal": goal, "equal": bool(equal)}
            plain = milliseconds(lambda p=points, s=state: gmm.em_iteration(p, *s, "full", 1e-3), 5, synchronize)
            yield row | {"work": "gmm.em_iteration", "ms": plain, "goal": 5 * goal, "equal": bool(equal)}


def vae_rows(place: str, quick: bool) -> Iterator[Row]:
    """An update as `train_vae` makes it, recorded and not, and whether both end in the same numbers."""
    recorded = network_run.recorded
    for precision, goal in UPDATES:
        states = []
        for is_graph in (True, False):
            network_run.recorded = recorded if is_graph else lambda step, changed: step
            took, state = vae_updates(precision, place, 6 if quick else 640)
            states.append(state)
            largest = max(float(np.abs(state[name] - states[0][name]).max()) for name in state)
            equal = largest == 0 if precision == "reproducible" else largest < 1e-3
            row = {"work": "VAE update, " + ("recorded" if is_graph else "operation by operation")}
            row |= {"shape": "784-400-20, batch 128", "dtype": precision, "ms": took}
            yield row | {"goal": goal if is_graph else None, "equal": equal, "images a second": round(128_000 / took)}
        network_run.recorded = recorded


def vae_updates(precision: str, place: str, updates: int) -> tuple[float, dict[str, np.ndarray]]:
    """Milliseconds an update, drawing and losses included, of so many after a first epoch; and the state then."""
    with tempfile.TemporaryDirectory() as folder:
        argv = f"--data fashion --activation relu --latent-dim 20 --precision {precision} --device {place}".split()
        options = parse(VAEOptions, [*argv, "--out", f"{folder}/run"], "pytorch_impl.train_vae")[0]
        (images, _), architecture = network.image_data(options)
        run = RunFolder(options, "pytorch_impl", architecture, Workers())
        trained = network_run.NetworkRun(run, images.x)
        first = -(-len(images.x) // options.batch_size)  # an epoch; its last batch is smaller, and recorded too
        steps = range(1, first + updates + 1)
        began = 0.0
        for step, *_ in trained.updates(minibatches(run, len(images.x), trained.noise_dim, steps)):
            began = time.perf_counter() if step == first else began
        took = 1e3 * (time.perf_counter() - began) / (len(steps) - first)
        state = trained.state()
        run.close()
    return took, state


def digest_rows(place: str, quick: bool) -> Iterator[Row]:
    """The fixed runs of `python -m parity_tests.digests`, in PyTorch on this device."""
    names = [name for name in runs_on("cuda") if not quick or name == "mixture, full"]
    expected = published.load()
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            start = time.perf_counter()
            train("pytorch_impl", Path(folder), [name], place)
            parting = published.parting(published.read(Path(folder) / name), expected[name])
            took = 1e3 * (time.perf_counter() - start)
            yield {"work": f"digest: {name}", "shape": parting or "", "dtype": "reproducible", "ms": took} | {
                "goal": None,
                "equal": not parting,
            }


def main() -> int:
    """Measure, print and write; returns the exit code."""
    parser = argparse.ArgumentParser(prog="parity_tests.bench.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu to try the script (default: cuda)")
    parser.add_argument("--quick", action="store_true", help="small tables and few updates")
    options = parser.parse_args()
    is_gpu = options.device.startswith("cuda")
    try:
        with device(options.device, torch.get_num_threads(), in_chunks=True):
            synchronize = torch.cuda.synchronize if is_gpu else lambda: None
            rows = []
            families = em_rows(options.quick, synchronize), vae_rows(options.device, options.quick)
            for family in (*families, digest_rows(options.device, options.quick)):
                for row in family:
                    goal = "" if row["goal"] is None else f"goal {row['goal']:g}"
                    verdict = "equal" if row["equal"] else "PARTS"
                    what = f"{row['work']:<44} {row['shape']:<24} {row['dtype']:<13}"
                    print(f"{what} {row['ms']:10.3f} ms  {goal:<9} {verdict}", flush=True)
                    rows.append(row)
    except ValueError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    name = torch.cuda.get_device_name(options.device) if is_gpu else "the processor"
    Path("build").mkdir(exist_ok=True)
    report = {"device": name, "torch": torch.__version__, "rows": rows}
    Path("build/gpu.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"{name}, PyTorch {torch.__version__}; rows in build/gpu.json")
    return int(not all(row["equal"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
