"""Several processes that share a run end where one process does, and in the same bytes; and what a lost one costs.

The tests that start processes, as torchrun and TF_CONFIG do, are for ``make distributed``.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch
from safetensors.numpy import load_file

from common.data.chunks import share
from common.mixtures.input import FitData
from common.runs import checkpoint, launch_workers
from common.runs.network import own_share
from parity_tests.conftest import Parity
from parity_tests.support.frameworks import both, pair
from parity_tests.support.one_framework import environment
from parity_tests.support.scripts import PACKAGES, ROOT, SCRIPTS, digest, finished, packages, rows, started, wait_for

ARGUMENTS = {
    "train_gmm": "--data old-faithful --components 3 --steps 30 --seed 2",
    "train_vae": "--hidden-dim 50 --latent-dim 4 --batch-size 96 --steps 40 --seed 2",
}
# 1,437 images in batches of 96: in the 15th update 93 are left, shares of 46 and 47, or of 23 and 24.
LAUNCHERS = {
    "pytorch_impl": ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node"),
    "tf2_impl": ("-m", "common.runs.launch_workers"),
}
DISTRIBUTED = dict(zip(LAUNCHERS, pair("distributed"), strict=True))
NAMES = {package: name for name, package in PACKAGES.items()}
scripts = pytest.mark.parametrize("script", ARGUMENTS)


def launch(package: str, script: str, out: Path, workers: int, *more: str) -> subprocess.Popen:
    """Start a training script, by itself or as so many workers."""
    launcher = [*LAUNCHERS[package], str(workers)] if workers > 1 else []
    module = f"{package}.{script}" if package == "tf2_impl" and workers > 1 else f"-m {package}.{script}"
    command = [sys.executable, *launcher, *module.split(), *more, "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def two_workers(module: str, arguments: str, out: Path) -> subprocess.Popen:
    return started("common.runs.launch_workers", f"2 {module} {arguments} --out {out}")


@pytest.mark.distributed
@packages
@scripts
@pytest.mark.parametrize("workers", [2, 4])
def test_workers_end_in_the_bytes_of_one_process(tmp_path: Path, package: str, script: str, workers: int) -> None:
    digests = {}
    for size in (1, workers):
        more = [*ARGUMENTS[script].split(), "--precision", "reproducible"]
        code, out, err = finished(launch(package, script, tmp_path / str(size), size, *more))
        assert code == 0, err
        assert out.count("checkpoint sha256") == 1, "only the first worker speaks"
        digests[size] = digest(tmp_path / str(size))
    assert digests[1] == digests[workers]


@pytest.mark.distributed
@packages
@scripts
def test_in_double_precision_they_end_close_by(parity: Parity, tmp_path: Path, package: str, script: str) -> None:
    for size in (1, 2):
        more = [*ARGUMENTS[script].split(), "--precision", "float64"]
        code, _, err = finished(launch(package, script, tmp_path / str(size), size, *more))
        assert code == 0, err
    one, two = (rows(tmp_path / str(size)) for size in (1, 2))
    assert len(one) == len(two)
    np.testing.assert_allclose([r["loss"] for r in two], [r["loss"] for r in one], rtol=1e-10)
    alone, shared = (load_file(tmp_path / str(size) / "checkpoint.safetensors") for size in (1, 2))
    for name, value in alone.items():
        scale = np.abs(value).max() or 1.0
        assert np.abs(shared[name] - value).max() <= 1e-10 * scale, name


@pytest.mark.distributed
@packages
def test_workers_need_one_framework_only(tmp_path: Path, package: str) -> None:
    arguments = f"2 {package}.train_gmm --steps 3 --out {tmp_path / 'run'}"
    alone = environment(package, tmp_path / "site")
    code, out, err = finished(started("common.runs.launch_workers", arguments, env=alone))
    assert code == 0, err
    assert "2 workers" in out


@pytest.mark.distributed
@packages
def test_a_lost_worker_is_one_line_and_a_run_to_go_on_with(tmp_path: Path, package: str) -> None:
    """kill -9 of the last worker in the middle of a run; one process goes on, to the bytes of a run alone."""
    more = [*ARGUMENTS["train_vae"].split(), "--precision", "reproducible"]
    steps = more.index("--steps") + 1
    endless = [*more[:steps], "1000000", *more[steps + 1 :]]
    process = two_workers(f"{package}.train_vae", " ".join(endless), tmp_path / "run")
    wait_for((tmp_path / "run" / "checkpoint.safetensors").exists)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    code, _, err = finished(process)
    assert code == 1, err
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1, err
    assert f"another worker has stopped; start all again with --resume {tmp_path / 'run'}" in lines[0]
    _, done, _ = checkpoint.load(tmp_path / "run" / "checkpoint.safetensors")
    goal = ["--steps", str(done + 10)]
    resumed = launch(package, "train_vae", tmp_path / "on", 1, "--resume", str(tmp_path / "run"), *goal)
    assert finished(resumed)[0] == 0
    alone = launch(package, "train_vae", tmp_path / "alone", 1, *more[: steps - 1], *more[steps + 1 :], *goal)
    assert finished(alone)[0] == 0
    assert digest(tmp_path / "on") == digest(tmp_path / "alone")


@pytest.mark.distributed
@packages
def test_asked_to_stop_all_workers_stop_at_the_same_step(tmp_path: Path, package: str) -> None:
    process = two_workers(f"{package}.train_vae", f"{ARGUMENTS['train_vae']} --steps 1000000", tmp_path / "run")
    wait_for((tmp_path / "run" / ".metrics.jsonl.pending").exists)
    time.sleep(5)
    process.terminate()
    code, _, err = finished(process)
    assert code == 130, err
    assert err.count("interrupted; continue with --resume") == 1
    assert checkpoint.load(tmp_path / "run" / "checkpoint.safetensors")[1] == rows(tmp_path / "run")[-1]["step"]


@pytest.mark.distributed
@packages
@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("train_gmm", "--method map", "--method map: cannot be shared by 2 workers"),
        ("train_gmm", "--missing em", "--missing em: cannot be shared by 2 workers"),
        ("train_vae", "--model autoencoder", "--model autoencoder: 2 workers need its --variance"),
    ],
)
def test_what_cannot_be_shared_is_refused(
    tmp_path: Path, package: str, script: str, arguments: str, message: str
) -> None:
    code, _, err = finished(two_workers(f"{package}.{script}", arguments, tmp_path / "run"))
    assert code == 2
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("n", [1, 2, 96, 97, 1437])
def test_shares_are_all_the_rows_once(n: int, size: int) -> None:
    found = np.concatenate([np.arange(n)[share(n, rank, size)] for rank in range(size)])
    np.testing.assert_array_equal(found, np.arange(n))
    parts = [own_share(n, SimpleNamespace(rank=rank, size=size)) for rank in range(size)]
    each = [len(np.arange(n)[share(n, rank, size)]) / n for rank in range(size)]
    assert [part for _, part in parts] == pytest.approx(each, abs=1e-15)
    assert all(rows.stop > rows.start for rows, _ in parts), "a mean of no rows would be no number"


def test_a_worker_without_points_adds_a_point_of_no_weight() -> None:
    x = np.arange(6.0).reshape(3, 2)
    data = FitData(x, 2, "full", 0.0, x.dtype, x.max(axis=0))
    found = [list(data.chunks_of_worker(np.asarray, rank, 5)) for rank in range(5)]
    points = np.concatenate([chunk[weight > 0] for chunks in found for chunk, weight in chunks])
    np.testing.assert_array_equal(points, x)
    assert [sum(float(weight.sum()) for _, weight in chunks) for chunks in found] == [0, 1, 0, 1, 1]


def numbers(told: str) -> dict[str, float]:
    """The numbers of the one summary in what was told."""
    return {name: value for name, value in json.loads(told).items() if isinstance(value, int | float)}


@packages
@scripts
def test_two_workers_in_one_process(
    tmp_path: Path, package: str, script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The script twice, in two threads that add up between them: each has its rows, their noise and their weight.

    Both end with what `test_numbers.py` computes anew for one; of 1,497 images, the last minibatch has one.
    """
    module, main = DISTRIBUTED[package], SCRIPTS[script.removeprefix("train_")][NAMES[package]]
    small = "--hidden-dim 12 --latent-dim 3 --batch-size 748 --steps 3 --importance-samples 9"
    arguments = f"{ARGUMENTS[script]} {small if script == 'train_vae' else ''} --precision reproducible --json".split()
    assert main([*arguments, "--out", str(tmp_path / "one")]) == 0
    of_one = numbers(capsys.readouterr().out)
    meeting, given, codes = threading.Barrier(2), [[], []], [None, None]

    class Worker(module.Workers):
        """One of two, known by the name of its thread."""

        def __init__(self) -> None:
            self.rank, self.size = int(threading.current_thread().name), 2

        def run(self, function: Callable, *arguments: Any) -> Any:
            return function(*arguments)

        def add_up(self, tensors: Sequence) -> list:
            given[self.rank] = list(map(np.asarray, tensors))
            meeting.wait(60)
            sums = [np.asarray(a + b) for a, b in zip(*given, strict=True)]
            meeting.wait(60)
            return list(map(torch.tensor if package == "pytorch_impl" else tf.constant, sums))

        def leave(self) -> None:
            pass

    def work(rank: int) -> None:
        codes[rank] = main([*arguments, "--out", str(tmp_path / "two")])

    monkeypatch.setattr(module, "join", lambda device: Worker())
    tf.config.run_functions_eagerly(True)
    try:
        threads = [threading.Thread(target=work, args=(rank,), name=str(rank)) for rank in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        tf.config.run_functions_eagerly(False)
    assert codes == [0, 0]
    assert digest(tmp_path / "two") == digest(tmp_path / "one")
    losses = ([row["loss"] for row in rows(tmp_path / name)] for name in ("two", "one"))
    np.testing.assert_allclose(*losses, rtol=1e-12)
    assert numbers(capsys.readouterr().out) == pytest.approx(of_one, rel=1e-12)


ADDING = """
import importlib, json, sys
import numpy as np
package = sys.argv[1]
backend, distributed = (importlib.import_module(f"{package}.{name}") for name in ("backend", "distributed"))
backend.set_up("cpu", 1)
workers = distributed.join("cpu")
table, number = np.arange(6.0).reshape(2, 3) + workers.rank, np.array(10.0 + workers.rank)
sums = workers.run(workers.add_up, [backend.tensor(table), backend.tensor(number)])
part = backend.tensor(np.array((0.25, 0.75)[workers.rank]))
means = workers.run(workers.average, [backend.tensor(number)], part)
flags = [workers.any_of(flag) for flag in (workers.rank == 0, workers.rank == 1, False)]
arrays = [np.asarray(value).tolist() for value in (*sums, *means)]
print(json.dumps([workers.rank, workers.size, *arrays, flags]))
workers.leave()
"""


def test_two_workers_add_up(parity: Parity) -> None:
    """The engines, torch.distributed and MultiWorkerMirroredStrategy: sums, weighted means, a flag."""
    told = {}
    for package in LAUNCHERS:
        ports = launch_workers.free_ports(2)
        pipes = dict(cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        command, ranks = [sys.executable, "-c", ADDING, package], range(2)
        started = [subprocess.Popen(command, env=launch_workers.environment(r, ports), **pipes) for r in ranks]
        for rank, process in enumerate(started):
            code, out, err = finished(process)
            assert code == 0, err
            told[package] = json.loads(out.splitlines()[-1])
            mean = 0.25 * 10 + 0.75 * 11
            assert told[package] == [rank, 2, [[1.0, 3.0, 5.0], [7.0, 9.0, 11.0]], 21.0, mean, [True, True, False]]
    ours, theirs = (
        dict(zip(("table", "number", "average"), map(np.asarray, v[2:5]), strict=True)) for v in told.values()
    )
    parity.check("Workers sums and averages", "output", ours, theirs)


@both("distributed")
def test_a_worker_alone_adds_nothing(module: ModuleType) -> None:
    worker = module.join("cpu")
    assert (worker.rank, worker.size) == (0, 1)
    assert worker.run(worker.add_up, [1.5, 2.5]) == [1.5, 2.5]
    assert worker.run(worker.average, [1.5], 1.0) == [1.5]
    assert worker.any_of(True)
    assert not worker.any_of(False)


def test_workers_learn_where_the_others_are() -> None:
    ports = launch_workers.free_ports(3)
    assert len(set(ports)) == 3
    environments = [launch_workers.environment(rank, ports) for rank in range(3)]
    assert [e["RANK"] for e in environments] == ["0", "1", "2"]
    assert {e["WORLD_SIZE"] for e in environments} == {"3"}
    configs = [json.loads(e["TF_CONFIG"]) for e in environments]
    assert [c["task"]["index"] for c in configs] == [0, 1, 2]
    assert configs[0]["cluster"] == configs[2]["cluster"]


def test_the_launcher_ends_as_the_first_worker_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker is told its rank; signals that stop are passed on to all."""
    begun: list[Any] = []

    class Process:
        def __init__(self, command: list[str], env: dict[str, str]) -> None:
            self.command, self.rank, self.signals = command, int(env["RANK"]), []
            begun.append(self)

        def wait(self) -> int:
            if self.rank == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            return (0, 130, 1)[self.rank]

        def send_signal(self, number: int) -> None:
            self.signals.append(number)

    monkeypatch.setattr(subprocess, "Popen", Process)
    assert launch_workers.main(["3", "pytorch_impl.train_gmm", "--seed", "1"]) == 130
    assert [process.rank for process in begun] == [0, 1, 2]
    for process in begun:
        assert process.command == [sys.executable, "-m", "pytorch_impl.train_gmm", "--seed", "1"]
        assert process.signals == [signal.SIGTERM]


@pytest.mark.parametrize("arguments", [[], ["2"], ["two", "pytorch_impl.train_vae"], ["0", "pytorch_impl.train_vae"]])
def test_the_launcher_says_how_it_is_used(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    assert launch_workers.main(arguments) == 2
    assert capsys.readouterr().err.startswith("usage: ")
