"""The frame of a training script: options, data, devices and workers; signals, errors and exit codes.

An interrupted run stops between two updates, writes its checkpoint and ends. A fault in the arguments or the
data is reported in one line, before the script touches the run's folder.
"""

import contextlib
import importlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from common.data.messages import InputError
from common.runs import options
from common.runs.folder import RunFolder, read_config
from common.runs.options import RunOptions
from common.runs.terminal import without_native_stderr

FLAGS = {  # flags whose names differ from those of the library's arguments
    "X": "data",
    "x": "data",
    "n_components": "components",
    "covariance_type": "covariance",
    "init_params": "init",
    "max_iter": "steps",
    "random_state": "seed",
}
FRAMEWORKS = {"torch": "pytorch_impl", "tensorflow": "tf2_impl"}


def main(
    prog: str,
    kind: type[RunOptions],
    prepare: Callable[[Any], tuple[Any, Mapping[str, Any]]],
    train: Callable[[RunFolder, Any], None],
    argv: Sequence[str] | None,
) -> int:
    """Run a training script and return the exit code: 0, 2 for bad arguments or input, 130 when interrupted.

    ``prepare(options)`` loads and checks the data and returns them with the architecture, before the folder
    is touched; ``train(run, data)`` does the rest.
    """
    chosen, given = options.parse(kind, argv, prog)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from one library about another
        warnings.showwarning = lambda message, *_: print(f"{prog}: {message}", file=sys.stderr)
        return _run(prog, prepare, train, chosen, given)


def _run(prog: str, prepare: Callable, train: Callable, chosen: RunOptions, given: set[str]) -> int:
    run = workers = None
    try:
        if chosen.resume is not None:
            chosen = options.resumed(chosen, given, read_config(Path(chosen.resume)))
        data, architecture = prepare(chosen)
        package = prog.partition(".")[0]
        workers = _set_up(package, chosen, getattr(data, "in_chunks", False))
        chosen.check_workers(workers.size)
        run = RunFolder(chosen, package, architecture, workers)
        _stop_between_steps(run)
        if run.writes and not (chosen.quiet or chosen.json):
            shared = f", {workers.size} workers" if workers.size > 1 else ""
            print(f"{prog}: {chosen.data}, seed {chosen.seed}, {chosen.precision}{shared} -> {run.path}", flush=True)
        train(run, data)
        if run.interrupted and run.writes:
            print(f"{prog}: interrupted; continue with --resume {run.path}", file=sys.stderr)
        return 130 if run.interrupted else 0
    except (ValueError, OSError) as error:
        message = error.on_command_line(FLAGS, vars(chosen)) if isinstance(error, InputError) else str(error)
        is_lost_worker = run is not None and isinstance(error, ConnectionError)
        if is_lost_worker:
            saved = f" with --resume {run.path}" if (run.path / "checkpoint.safetensors").exists() else ""
            message = f"{message}; start all again{saved}"
        if is_lost_worker or workers is None or workers.rank == 0:
            print(f"{prog}: error: {message}", file=sys.stderr)
        return 1 if is_lost_worker else 2
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return 130
    finally:
        if run is not None:
            run.close()
        if workers is not None:
            workers.leave()


def _set_up(package: str, chosen: RunOptions, in_chunks: bool) -> Any:
    """Load the framework, prepare the device and return the workers of the run."""
    if chosen.verbose:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"  # before TensorFlow is imported
    silence = contextlib.nullcontext if chosen.verbose else without_native_stderr
    with silence():
        pages = implementation(package, ["backend", "distributed"])
    pages.backend.set_up(chosen.device, chosen.thread_count, in_chunks)
    with silence():
        return pages.distributed.join(chosen.device)


def implementation(package: str, names: Sequence[str]) -> SimpleNamespace:
    """Return modules of an implementation by name; ValueError if its framework is not installed."""
    if package not in FRAMEWORKS.values():
        raise ValueError(f"{package}: name an implementation, {' or '.join(FRAMEWORKS.values())}")
    try:
        return SimpleNamespace(**{name: importlib.import_module(f"{package}.{name}") for name in names})
    except ModuleNotFoundError as error:
        if error.name not in FRAMEWORKS:
            raise
        other = next(folder for folder in FRAMEWORKS.values() if folder != package)
        raise ValueError(
            f"{package}: {error.name} is not installed; run `python -m pip install -c requirements.txt {error.name}`, "
            f"or use {other}"
        ) from error


def _stop_between_steps(run: RunFolder) -> None:
    """Let Ctrl-C and SIGTERM end the run at the next step; a second one ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        return

    def ask_to_stop(number: int, frame: Any) -> None:
        if run.asked_to_stop:
            raise KeyboardInterrupt
        run.asked_to_stop = True

    signal.signal(signal.SIGINT, ask_to_stop)
    signal.signal(signal.SIGTERM, ask_to_stop)
