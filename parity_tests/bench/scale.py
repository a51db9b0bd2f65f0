"""A large file, 5,000,000 x 16 numbers, fitted by both frameworks, and the memory that it took."""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

from common.data import datasets

FILE = Path("build/scale.npy")
LIMIT = 400  # MB above what the imports take
FIT = """
import os, re, sys, time, warnings
import numpy as np
import sklearn.cluster
from {package}.estimators import GaussianMixture
from {package}.backend import set_up

def peak():
    # not ru_maxrss, which begins with what the process held that started this one
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\\s+(\\d+)", status.read())[1]) / 1024

warnings.simplefilter("ignore")
set_up("cpu", os.cpu_count(), in_chunks=True)  # as the scripts do
imports = peak()
x = np.load(sys.argv[1], mmap_mode="r")
start = time.perf_counter()
mixture = GaussianMixture(int(sys.argv[2]), tol=0, max_iter=int(sys.argv[3]), random_state=0).fit(x)
print(time.perf_counter() - start, peak() - imports, mixture.lower_bound_)
"""


def main() -> int:
    """Fit the file in a fresh process of each framework; 1 if one of them takes more memory than it may."""
    parser = argparse.ArgumentParser(prog="parity_tests.bench.scale", description=__doc__)
    for name, default in (("rows", 5_000_000), ("components", 8), ("iterations", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    write(options.rows)
    worst = 0.0
    for package in ("pytorch_impl", "tf2_impl"):
        arguments = [str(FILE), str(options.components), str(options.iterations)]
        command = [sys.executable, "-c", FIT.format(package=package), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            sys.exit(result.stderr)
        seconds, memory, bound = map(float, result.stdout.split())
        worst = max(worst, memory)
        size = f"{options.rows:,} x 16, K = {options.components}, {options.iterations} iterations"
        needed = f"{memory:.0f} MB above the imports ({LIMIT} allowed)"
        print(f"{package}: {size}: {seconds:.1f} s, {needed}, bound {bound:.9f}")
    return int(worst > LIMIT)


def write(rows: int) -> None:
    """Leave a file of that many points of one mixture, a part at a time."""
    FILE.parent.mkdir(exist_ok=True)
    table = np.lib.format.open_memmap(FILE, mode="w+", dtype=np.float64, shape=(rows, 16))
    some = datasets.synthetic_mixture(100_000, 8, 16, 4.0, seed=1).x
    generator = np.random.default_rng(0)
    for start in range(0, rows, len(some)):
        part = table[start : start + len(some)]
        part[:] = (some + 0.3 * generator.standard_normal(some.shape))[: len(part)]
    table.flush()


if __name__ == "__main__":
    sys.exit(main())
