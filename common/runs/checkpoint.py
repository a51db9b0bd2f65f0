"""One checkpoint format for both frameworks: a safetensors file whose bytes depend only on its content.

Names and layouts are PyTorch's ``state_dict`` (``encoder.hidden.weight``, shape (out, in)); an
implementation's ``layouts.py`` converts its parameters to them and back. The optimizer's moments are
``optimizer.first_moment.<name>`` and ``optimizer.second_moment.<name>``; ``step`` counts the updates. Which
framework wrote the file is not in it; a checksum of its content is. A safetensors file holds numbers and
never code.
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

from common.data.messages import reason

LARGEST_HEADER = 2**20  # bytes; names, shapes and the architecture take a few thousand


def save(path: Path, arrays: Mapping[str, np.ndarray], step: int, architecture: Mapping[str, Any]) -> None:
    """Write ``arrays`` after ``step`` updates; the file appears whole or not at all.

    ``architecture`` and checksum are stored as one sorted JSON text, since several would be written in random
    order. Raises ValueError if the file cannot be written; an earlier file of that name then stays as it is.
    """
    contiguous = {name: np.array(value, order="C") for name, value in arrays.items()}
    about = {"architecture": architecture, "sha256": checksum(contiguous, step, architecture)}
    metadata = {"about": json.dumps(about, sort_keys=True)}
    write_atomically(path, to_bytes(contiguous | {"step": np.array(step, dtype=np.int64)}, metadata))


def load(path: Path) -> tuple[dict[str, np.ndarray], int, dict[str, Any]]:
    """Arrays, step and architecture of the checkpoint at ``path``; one-line ValueError if it is damaged."""
    try:
        if not path.is_file():
            raise ValueError("there is no such file")
        with open(path, "rb") as file:
            if int.from_bytes(file.read(8), "little") > LARGEST_HEADER:
                raise ValueError(f"it announces a header of more than {LARGEST_HEADER:,} bytes")
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {})["about"])
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            if kinds.pop("step") != "I64" or not kinds.keys() or not set(kinds.values()) <= {"F32", "F64"}:
                raise ValueError(f"it holds tensors of {sorted(set(kinds.values()))}")
            arrays = {name: file.get_tensor(name) for name in kinds}
            step = file.get_tensor("step")
        architecture = about["architecture"]
        if step.shape != () or step < 0 or not isinstance(architecture, dict):
            raise ValueError("its step is not a count, or its architecture not an object")
        if about["sha256"] != checksum(arrays, int(step), architecture):
            raise ValueError("its content is not what its checksum says")
        for name, array in arrays.items():
            if not np.all(np.isfinite(array)):
                raise ValueError(f"{name!r} holds NaN or infinity")
        return arrays, int(step), architecture
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        what = reason(error)
        raise ValueError(f"checkpoint {path}: not a whole checkpoint ({what}); use one that a run wrote") from error


def check_architecture(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """ValueError naming the first entry in which a checkpoint's architecture is not the expected one."""
    for name in sorted({*found, *expected}):
        if found.get(name) != expected.get(name):
            what = f"{reason(name)} = {reason(repr(found.get(name)))} where this run has {expected.get(name)!r}"
            what = f"is of another architecture, {what}"
            raise ValueError(f"checkpoint {path}: {what}; give the options it was trained with")


def checksum(arrays: Mapping[str, np.ndarray], step: int, architecture: Mapping[str, Any]) -> str:
    """SHA-256 of the content of a checkpoint, which reveals a bit that was flipped on a disk."""
    found = hashlib.sha256(json.dumps([step, architecture], sort_keys=True).encode())
    for name in sorted(arrays):
        found.update(f"{name} {arrays[name].dtype} {arrays[name].shape} ".encode())
        found.update(np.ascontiguousarray(arrays[name]).tobytes())
    return found.hexdigest()


def digest(path: Path) -> str:
    """SHA-256 of the file; equal digests mean equal parameters, moments and step, to the last bit."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file at ``path`` in one step: write a temporary file, flush it to disk, rename it."""
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
