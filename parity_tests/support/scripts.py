"""The training scripts as tests run them, and what a run leaves in its folder."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import pytorch_impl.train_gmm
import pytorch_impl.train_vae
import tf2_impl.train_gmm
import tf2_impl.train_vae
from common.runs import checkpoint

ROOT = Path(__file__).parents[2]
PACKAGES = {"torch": "pytorch_impl", "tf2": "tf2_impl"}
GMM = {"torch": pytorch_impl.train_gmm.main, "tf2": tf2_impl.train_gmm.main}
VAE = {"torch": pytorch_impl.train_vae.main, "tf2": tf2_impl.train_vae.main}
SCRIPTS = {"gmm": GMM, "vae": VAE}
SMALL = {"gmm": "--steps 5", "vae": "--steps 5 --hidden-dim 20 --latent-dim 3"}
both = pytest.mark.parametrize("framework", PACKAGES)
packages = pytest.mark.parametrize("package", PACKAGES.values())
scripts = pytest.mark.parametrize("script", SCRIPTS)
long_for_tf2 = pytest.mark.parametrize("framework", ["torch", pytest.param("tf2", marks=pytest.mark.long)])


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def run(main: Callable, arguments: str, out: Path | None = None, *more: str) -> int:
    """The exit code of a script, in this process."""
    try:
        return main([*arguments.split(), *([] if out is None else ["--out", str(out)]), *more])
    except SystemExit as stop:
        return stop.code


def started(module: str, arguments: str, **more: object) -> subprocess.Popen:
    """A script in a process of its own; its output is kept."""
    command = [sys.executable, "-m", module, *arguments.split()]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)


def finished(process: subprocess.Popen) -> tuple[int, str, str]:
    """Exit code, output and errors of a process, when it has ended."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def run_python(code: str, *arguments: str, **more: object) -> subprocess.CompletedProcess:
    """Python code in a process of its own."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, **({"cwd": ROOT, "capture_output": True, "text": True} | more))


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.1)


def rows(folder: Path) -> list[dict]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def digest(folder: Path) -> str:
    return checkpoint.digest(folder / "checkpoint.safetensors")


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def one_line(capsys: pytest.CaptureFixture) -> str:
    """The line on stderr, which must be the only one, without the program's name."""
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line.partition(": ")[2]
