"""Readers of text, NPY, NPZ, IDX and JSON files: they return numbers, and never run code.

A file may be damaged or malicious. So nothing is unpickled, the sizes in a header are compared with the size
of the file before memory is allocated, and every fault is a one-line ValueError that names the file.
"""

import contextlib
import csv
import gzip
import io
import json
import math
import os
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from common.data.messages import reason, short
from common.data.tables import Table, read_table

GZIP_RATIO = 1032  # Deflate makes at best 258 bytes of 2 bits, so no .gz file expands more than this
LARGEST_IDX = 2**30  # bytes in a compressed file; the largest in common use, EMNIST's, has 547 MB
LARGEST_JSON = 2**20  # bytes of a config.json, and of a line of metrics.jsonl


@contextlib.contextmanager
def opened(path: Path, kind: str, remedy: str) -> Iterator[BinaryIO]:
    """Open a file, decompressed if its name ends in .gz; a fault becomes a one-line ValueError naming it."""
    try:
        if not path.is_file():  # a pipe would wait for ever
            raise ValueError(f"{path}: there is no such file; {remedy}")
        with gzip.open(path) if _is_gz(path) else open(path, "rb") as file:
            yield file
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as {kind} ({reason(error)}); {remedy}") from error


def _is_gz(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def read_text_table(path: Path, label_column: str | None = None, columns: str | None = None) -> Table:
    """Return the table in a text file, plain or gzipped, as `tables.read_table` does."""
    with opened(path, "CSV", "give a UTF-8 text table of numbers") as file:
        start = file.peek(4)[:4]
        if start[:2] in (b"\xff\xfe", b"\xfe\xff") or start[1:2] == b"\0" != start[:1]:
            raise ValueError(f"{path}: cannot be read as CSV (it is UTF-16 text); save it as UTF-8")
        if start == b"PK\x03\x04":
            what = "it is a spreadsheet or an archive"
            raise ValueError(f"{path}: cannot be read as CSV ({what}); save the sheet as CSV")
        with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            return read_table(path, text, label_column, columns)


def read_npy(path: Path) -> np.ndarray:
    """Return the array in a .npy file, mapped from the file rather than read; never a pickle."""
    try:
        if not path.is_file():
            raise ValueError("there is no such file")
        with open(path, "rb") as file:
            if file.read(6) != b"\x93NUMPY":
                raise ValueError("it does not start like one")
        with warnings.catch_warnings(action="ignore"):  # Python's, about the literals in a header
            return np.load(path, allow_pickle=False, mmap_mode="r")
    except Exception as error:  # NumPy parses a header as Python, and raises whatever parsing raises
        raise ValueError(f"{path}: cannot be read as .npy ({reason(error)}); write it with numpy.save") from error


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays in an archive that numpy.savez wrote; never a pickle."""
    try:
        if not path.is_file():
            raise ValueError("there is no such file")
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            announced = sum(member.file_size for member in members)
            if announced > min(os.path.getsize(path) * GZIP_RATIO, LARGEST_IDX):
                raise ValueError(f"it announces {announced:,} bytes")
            return {member.filename.removesuffix(".npy"): _npy_in(archive, member) for member in members}
    except Exception as error:  # zipfile's, or that of a hostile header
        raise ValueError(f"{path}: cannot be read as .npz ({reason(error)}); write it with numpy.savez") from error


def _npy_in(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file, warnings.catch_warnings(action="ignore"):
        content = io.BytesIO(file.read(member.file_size + 1))
        is_first_version = np.lib.format.read_magic(content) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if is_first_version else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(content)
        if math.prod(shape) * dtype.itemsize > member.file_size:
            raise ValueError(f"it announces {shape}, more than it holds")
        content.seek(0)
        return np.lib.format.read_array(content, allow_pickle=False)


def read_idx(path: Path) -> np.ndarray:
    """Return the array in an IDX file of bytes (MNIST's format): magic 0 0 8 d, d sizes, then the bytes."""
    with opened(path, "IDX", "fetch the file again") as file:
        magic = file.read(4)
        if len(magic) < 4 or magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 4:
            raise ValueError(f"{path}: starts with {magic.hex()}, which is not an IDX file of bytes")
        sizes = np.frombuffer(file.read(4 * magic[3]).ljust(4 * magic[3], b"\0"), ">u4").astype(int).tolist()
        announced, held = math.prod(sizes), os.path.getsize(path)
        if not 0 < announced <= min(held * (GZIP_RATIO if _is_gz(path) else 1), LARGEST_IDX):
            what = f"announces {sizes}, which a file of {held:,} bytes cannot hold"
            raise ValueError(f"{path}: {what}; fetch the file again")
        content = file.read(announced + 1)
    if len(content) != announced:
        held = f"more than {announced}" if len(content) > announced else len(content)
        raise ValueError(f"{path}: holds {held} bytes where {sizes} were announced; fetch the file again")
    return np.frombuffer(content, np.uint8).reshape(sizes)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a small JSON file."""
    with opened(path, "JSON", "restore the file") as file:
        content = file.read(LARGEST_JSON + 1)
    if len(content) > LARGEST_JSON:
        raise ValueError(f"{path}: is larger than {LARGEST_JSON:,} bytes; restore the file")
    return _object(path, content)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON Lines file; a last line that was cut short is left out."""
    with opened(path, "JSON", "restore the file") as file:
        rows = []
        for number, line in enumerate(iter(lambda: file.readline(LARGEST_JSON), b""), start=1):
            if line.endswith(b"\n"):
                rows.append(_object(path, line, f"line {number} "))
            elif len(line) == LARGEST_JSON:
                raise ValueError(f"{path}: line {number} is longer than {LARGEST_JSON:,} bytes; restore the file")
        return rows


def _object(path: Path, content: bytes, where: str = "") -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {where}cannot be read as JSON ({reason(error)}); restore the file") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {where}is {short(repr(value))}, not an object; restore the file")
    return value
