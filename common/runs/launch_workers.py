"""Start a training script as several processes on this machine: a launcher for either framework.

python -m common.runs.launch_workers 2 tf2_impl.train_vae --out build/runs/shared
python -m common.runs.launch_workers 2 pytorch_impl.train_vae --out build/runs/shared

The launcher sets the variables that the frameworks read: TF_CONFIG, and those of torchrun. Across machines,
set them on each machine, or use torchrun. The workers share the cores: OMP_NUM_THREADS, unless it is set, is the
number of cores for each. The exit code is the first one that is not 0. If a worker fails, the others stop too.
"""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])  # where the scripts are, whatever the working directory
MOST_WORKERS = 256


def free_ports(number: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment(rank: int, ports: Sequence[int]) -> dict[str, str]:
    """The environment in which worker ``rank`` of either framework finds the others; each has a port."""
    share = max(1, usable_cores() // len(ports))  # of the cores; torchrun gives each worker one
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH")))),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(share)),
        "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": rank}}),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(len(ports)),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(ports[0]),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Start the workers, wait for all, and pass on a signal to stop."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__.strip())
        return 0
    sys.path.insert(0, ROOT)
    if problem := _problem(arguments):
        print(problem, file=sys.stderr)
        return 2
    ports = free_ports(int(arguments[0]))
    command = [sys.executable, "-m", *arguments[1:]]
    workers = [subprocess.Popen(command, env=environment(rank, ports)) for rank in range(len(ports))]
    signal.signal(signal.SIGTERM, lambda number, _: [worker.send_signal(number) for worker in workers])
    signal.signal(signal.SIGINT, lambda *_: None)  # a terminal sends it to the workers as well
    codes = [worker.wait() for worker in workers]
    return next((code for code in codes if code), 0)


def _problem(arguments: list[str]) -> str:
    # The message about unusable arguments; empty if they are usable.
    if len(arguments) < 2 or not arguments[0].isdecimal() or int(arguments[0]) < 1:
        return "usage: python -m common.runs.launch_workers WORKERS MODULE [ARGUMENT ...]"
    if int(arguments[0]) > MOST_WORKERS:
        return f"common.runs.launch_workers: error: {arguments[0]} workers: at most {MOST_WORKERS}"
    try:  # imports the parent packages only
        if importlib.util.find_spec(arguments[1]) is not None:
            return ""
    except (ImportError, ValueError):
        pass
    missing = f"there is no module {arguments[1]}; name one such as pytorch_impl.train_gmm"
    return f"common.runs.launch_workers: error: {missing}"


if __name__ == "__main__":
    sys.exit(main())
