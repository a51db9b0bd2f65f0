"""One checkpoint format for both frameworks: a safetensors file whose bytes depend on nothing but its content.

Names and layouts are PyTorch's ``state_dict`` (``encoder.hidden.weight``, shape (out, in)); the optimizer's moments
are ``optimizer.first_moment.<name>`` and ``optimizer.second_moment.<name>``; ``step`` counts the updates. Which
framework wrote the file is not in it. A safetensors file holds numbers and never code.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes


def save(path: Path, arrays: Mapping[str, np.ndarray], step: int, architecture: Mapping[str, Any]) -> None:
    """Write ``arrays`` after ``step`` updates; the file appears whole or not at all.

    ``architecture`` is stored as one sorted JSON text: several entries would be written in random order.
    Raises ValueError if the file cannot be written; a file of that name that was there before stays as it was.
    """
    contiguous = {name: np.array(value, order="C") for name, value in arrays.items()}
    metadata = {"architecture": json.dumps(architecture, sort_keys=True)}
    write_atomically(path, to_bytes(contiguous | {"step": np.array(step, dtype=np.int64)}, metadata))


def load(path: Path) -> tuple[dict[str, np.ndarray], int, dict[str, Any]]:
    """Arrays, step and architecture of the checkpoint at ``path``; ValueError, in one line, if it is not whole."""
    try:
        with safe_open(path, framework="numpy") as file:
            architecture = json.loads((file.metadata() or {})["architecture"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        return arrays, int(arrays.pop("step")), architecture
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"checkpoint {path}: not a whole checkpoint ({error}); use one that a run wrote") from error


def check_architecture(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """ValueError naming the first entry in which a checkpoint's architecture is not the expected one."""
    for name in sorted({*found, *expected}):
        if found.get(name) != expected.get(name):
            raise ValueError(f"checkpoint {path}: is of another architecture, {name} = {found.get(name)!r} where this "
                             f"run has {expected.get(name)!r}; give the options it was trained with")  # fmt: skip


def digest(path: Path) -> str:
    """SHA-256 of the file: equal digests mean equal parameters, moments and step, to the last bit."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file at ``path`` by ``content`` in one step: write beside it, flush to disk, rename."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise ValueError(f"{path}: cannot be written ({error.strerror}); free space or choose another --out") from error
