"""A run's folder: config.json, metrics.jsonl, checkpoint.safetensors, figures, TensorBoard's file on demand.

``config.json`` holds every option and the versions, ``metrics.jsonl`` one object per update, and the
checkpoint appears whole or not at all. ``--resume`` continues from it, in either framework.
"""

import contextlib
import json
import os
import platform
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from common.data.arrays import as_array
from common.data.messages import InputError, reason, require
from common.data.readers import read_json, read_json_lines
from common.runs import checkpoint
from common.runs.options import RunOptions

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "tensorflow", "tensorflow-cpu", "keras")
SECONDS_BETWEEN_SAVES = 10.0
EVENTS = "events.out.tfevents.*"
HASH = "sha256 "  # and a tensor's name: what its hash is called in metrics.jsonl
LARGEST_FLOAT = sys.float_info.max


class RunFolder:
    """The folder of one run, opened for a new run or to continue an earlier one.

    ``start`` is None for a new run, else the arrays and the step of the earlier checkpoint; ``history`` has
    the metrics up to that step. Earlier content stays until the first checkpoint is written; a run without
    one leaves nothing. Raises ValueError if the folder holds another run, is not writable, or has a
    checkpoint of another ``architecture``. Only the first of several ``workers`` writes.
    """

    def __init__(self, chosen: RunOptions, framework: str, architecture: Mapping[str, Any], workers: Any) -> None:
        self.options, self.workers, self.architecture = chosen, workers, architecture
        self.writes = workers.rank == 0
        self._framework = framework
        self.path = Path(chosen.out or chosen.resume)
        self.interrupted = self.asked_to_stop = False
        self.start: tuple[dict[str, np.ndarray], int] | None = None
        self.history: list[dict[str, Any]] = []
        if source := chosen.resume and Path(chosen.resume):
            arrays, step, found = checkpoint.load(source / "checkpoint.safetensors")
            checkpoint.check_architecture(source / "checkpoint.safetensors", found, architecture)
            self.start = arrays, step
            self.history = [row for row in read_metrics(source) if row["step"] <= step]
        self._in_place = bool(source) and source.resolve() == self.path.resolve()
        self._made_folders = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        self._has_saved = self._owned = False
        self._log = self._locked = None
        self._board: TensorBoardLog | None = None
        self._clock = self._saved = time.perf_counter()
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        """Make the folder, lock it, and begin config.json and metrics.jsonl."""
        self._check_room()
        if not self.writes:
            return
        self._lock()
        config = asdict(self.options) | {"framework": self._framework, "versions": versions()}
        checkpoint.write_atomically(self._pending("config.json"), (json.dumps(config, indent=2) + "\n").encode())
        lines = "".join(json.dumps(row) + "\n" for row in self.history)
        checkpoint.write_atomically(self._pending("metrics.jsonl"), lines.encode())
        self._log = open(self._pending("metrics.jsonl"), "a", encoding="utf-8")  # noqa: SIM115

    def steps(self, first: int, last: int, unit: str) -> Iterator[int]:
        """Count from first + 1 to last, with a progress bar on a terminal; stop if the run is interrupted.

        Raises InputError if a resumed run is past the last step.
        """
        done = f"{first} {unit}s are done already, and {{steps}} or {{epochs}} asks for {last}"
        require(first <= last, "resume", f"{done}; ask for more, or leave the flag out", self.options.resume)
        return self._steps(first, last, unit)

    def _steps(self, first: int, last: int, unit: str) -> Iterator[int]:
        shown = sys.stderr.isatty() and self.writes and not self.options.quiet
        bar = tqdm(range(first + 1, last + 1), initial=first, total=last, unit=unit, disable=not shown)
        for step in bar:
            self.interrupted = self.workers.any_of(self.asked_to_stop)
            if self.interrupted:
                bar.close()
                return
            yield step

    def log(self, step: int, **values: float) -> None:
        """Append one line to metrics.jsonl: the step, the values and the seconds since the run began."""
        row = {"step": step, **values, "seconds": round(time.perf_counter() - self._clock, 6)}
        self.history.append(row)
        interval = self.options.log_interval
        if self.writes and interval and step % interval == 0 and not self.options.quiet:
            tqdm.write("  ".join(f"{name} {value:.6g}" for name, value in row.items()), file=sys.stderr)
        if self.writes:
            self._log.write(json.dumps(row, allow_nan=False) + "\n")

    def hashes(self, step: int, state: Callable[[], Mapping[str, Any]]) -> dict[str, int]:
        """For the log, every --hash-interval steps: 32 bits of the SHA-256 of each tensor of the state."""
        interval = self.options.hash_interval
        if not interval or step % interval:
            return {}
        arrays = {name: np.ascontiguousarray(as_array(value)) for name, value in state().items()}
        return {HASH + name: int(sha256(array.tobytes()).hexdigest()[:8], 16) for name, array in arrays.items()}

    def save(self, arrays: Mapping[str, np.ndarray], step: int) -> None:
        """Write the checkpoint, after the metrics that lead up to it."""
        if not self.writes:
            return
        self._log.flush()
        if not self._has_saved:
            self._take_place()
        checkpoint.save(self.path / "checkpoint.safetensors", arrays, step, self.architecture)
        if self._board is not None:
            self._board.update(self.history)
        self._saved = time.perf_counter()

    def check_history(self, *names: str) -> None:
        """InputError unless each line of the earlier metrics has the ``names``."""
        for row in self.history:
            if lacking := ", ".join(sorted(set(names) - row.keys())):
                problem = f"metrics.jsonl lacks {lacking} at step {row['step']}; restore the file"
                raise InputError("resume", problem, self.options.resume)

    def check_arrays(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """InputError unless the earlier checkpoint holds arrays of these names and shapes."""
        arrays, problem = self.start[0], ""
        if differing := arrays.keys() ^ shapes.keys():
            problem = f"the checkpoint's names differ in {reason(repr(sorted(differing)))}"
        for name in arrays.keys() & shapes.keys():
            if arrays[name].shape != tuple(shapes[name]):
                problem = problem or f"the checkpoint's {name} has shape {arrays[name].shape}, not {shapes[name]}"
        require(not problem, "resume", f"{problem}; use a checkpoint that a run wrote", self.options.resume)

    def save_is_due(self) -> bool:
        """Whether the last checkpoint is more than ten seconds old."""
        return time.perf_counter() - self._saved > SECONDS_BETWEEN_SAVES

    def save_figure(self, name: str, draw: Callable[..., Any], *arguments: Any) -> None:
        """Draw a figure of ``common.figures.runs`` into the folder."""
        if self.writes:
            picture = self.path / f"{name}.png"
            draw(*arguments).savefig(picture)
            if self._board is not None:
                self._board.picture(name, self.history[-1]["step"] if self.history else 0, picture.read_bytes())

    def summary(self, **values: Any) -> None:
        """Print the run's results and the paths of its pictures."""
        if not self.writes or (self.options.quiet and not self.options.json):
            return
        values["checkpoint_sha256"] = checkpoint.digest(self.path / "checkpoint.safetensors")
        pictures = [str(path) for path in sorted(self.path.glob("*.png"))]
        if self.options.json:
            print(json.dumps({"folder": str(self.path)} | values | {"pictures": pictures}))
            return
        values["pictures"] = ", ".join(pictures)
        for name, value in values.items():
            print(f"  {name.replace('_', ' '):<29}{f'{value:.6f}' if isinstance(value, float) else value}")

    def close(self) -> None:
        """Close the log; if no checkpoint was written, leave the folder as it was before the run."""
        if self._log is not None:
            self._log.close()
        if self._board is not None:
            self._board.close()
        if self._owned and not self._has_saved:
            for name in ("config.json", "metrics.jsonl"):
                self._pending(name).unlink(missing_ok=True)
        for folder in self._made_folders if self.writes and not self._has_saved else ():
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()
        if self._locked is not None:
            os.close(self._locked)

    def _pending(self, name: str) -> Path:
        return self.path / f".{name}.pending"

    def _lock(self) -> None:
        """Keep other runs out of the folder until this process ends, even if it is killed."""
        if fcntl is not None:
            self._locked = os.open(self.path, os.O_RDONLY)
            try:
                fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                problem = "another run is writing there; wait, or choose another folder"
                raise InputError("out", problem, str(self.path)) from error
        self._owned = True

    def _take_place(self) -> None:
        if not self._in_place:
            for old in (*self.path.glob("*.png"), *self.path.glob(EVENTS), self.path / "checkpoint.safetensors"):
                old.unlink(missing_ok=True)
        for name in ("config.json", "metrics.jsonl"):
            os.replace(self._pending(name), self.path / name)
        if self.options.tensorboard:
            self._board = TensorBoardLog(self.path)
        self._has_saved = True

    def _check_room(self) -> None:
        is_free = self._in_place or self.options.overwrite or not (self.path / "checkpoint.safetensors").exists()
        require(is_free, "out", "holds a run already; choose another folder or add {overwrite}", str(self.path))
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = f"cannot be written ({error.strerror}); choose another folder"
            raise InputError("out", problem, str(self.path)) from error


def read_config(path: Path) -> dict[str, Any]:
    """Return the options of the run in a folder."""
    try:
        return read_json(path / "config.json")
    except ValueError as error:
        raise InputError("resume", f"config.json cannot be read ({error}); name a run's folder", str(path)) from error


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl, each with a step and a loss, except a last one cut short."""
    rows = read_json_lines(path / "metrics.jsonl")
    for number, row in enumerate(rows, start=1):
        finite = all(type(value) in (int, float) and abs(value) <= LARGEST_FLOAT for value in row.values())
        if not (finite and {"step", "loss"} <= row.keys() and isinstance(row["step"], int) and row["step"] > 0):
            what = f"line {number} of metrics.jsonl lacks step or loss, or holds something other than finite numbers"
            raise ValueError(f"{path}: {what}; restore the file")
    return rows


def versions() -> dict[str, str]:
    """Return the versions of the installed packages that a result may depend on."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            installed[package.removesuffix("-cpu")] = version(package)  # TensorFlow has a build of that name
    return installed


class TensorBoardLog:
    """A run's metrics and figures in a new events file, for ``tensorboard --logdir build/runs``."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        for old in folder.glob(EVENTS):
            old.unlink()
        self._began = time.time()
        name = EVENTS.replace("*", f"{int(self._began)}.{socket.gethostname()}.{os.getpid()}")
        self._writer = RecordWriter(open(folder / name, "wb"))  # noqa: SIM115 (open as long as the run)
        self._write(file_version="brain.Event:2")
        self._rows = 0

    def update(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of ``history`` that are not in the file yet, a scalar per number."""
        for row in history[self._rows :]:
            values = {k: v for k, v in row.items() if k not in ("step", "seconds") and not k.startswith(HASH)}
            self._write(row["step"], row["seconds"], [{"tag": k, "simple_value": v} for k, v in values.items()])
        self._rows = len(history)
        self._writer.flush()

    def picture(self, name: str, step: int, png: bytes) -> None:
        """Write a picture, which TensorBoard shows next to the curves."""
        self._write(step, time.time() - self._began, [{"tag": name, "image": {"encoded_image_string": png}}])

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _write(self, step: int = 0, seconds: float = 0.0, values: Sequence[dict] = (), **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        if values:
            fields["summary"] = {"value": values}
        self._writer.write(Event(step=step, wall_time=self._began + seconds, **fields).SerializeToString())
