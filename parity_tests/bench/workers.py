"""Measure what a sum over workers costs on this machine.

For each framework two processes are started; each adds up the statistics of a mixture and the gradients of
a VAE.
"""

import importlib
import json
import subprocess
import sys
import time

from common.runs.launch_workers import environment, free_ports

WORKERS, REPEATS = 2, 50
SIZES = {
    "statistics, D = 16, K = 16, float64": (16 * (1 + 16 + 16 * 17 // 2) + 1, "float64"),
    "gradients, 784-400-20, float32": (2 * 784 * 400 + 3 * 400 * 20 + 2 * 400 + 2 * 20 + 784, "float32"),
}


def measure(package: str) -> dict[str, float]:
    """Median seconds of a sum of each size, as one of the workers."""
    import numpy as np

    backend, distributed = (importlib.import_module(f"{package}.{name}") for name in ("backend", "distributed"))
    backend.set_up("cpu", 1)
    workers, found = distributed.join("cpu"), {}
    for what, (size, dtype) in SIZES.items():
        value, seconds = backend.tensor(np.ones(size, dtype)), []
        for _ in range(REPEATS):
            start = time.perf_counter()
            float(workers.run(workers.add_up, [value])[0][0])
            seconds.append(time.perf_counter() - start)
        found[what] = float(np.median(seconds))
    workers.leave()
    return found


def main() -> None:
    """Start the workers of both frameworks, one framework after the other, and print the first's medians."""
    print(f"{'a sum over two workers':<40}{'framework':<14}{'bytes':>12}{'milliseconds':>14}")
    for package in ("pytorch_impl", "tf2_impl"):
        ports = free_ports(WORKERS)
        command = [sys.executable, "-m", "parity_tests.bench.workers", package]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        started = [subprocess.Popen(command, env=environment(rank, ports), **pipes) for rank in range(WORKERS)]
        outputs = [process.communicate() for process in started]
        if any(process.returncode for process in started):
            raise SystemExit(outputs[0][1].decode())
        for what, seconds in json.loads(outputs[0][0].splitlines()[-1]).items():
            size, dtype = SIZES[what]
            print(f"{what:<40}{package:<14}{size * int(dtype[-2:]) // 8:>12,}{1000 * seconds:>14.2f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()
