"""Readers of CSV, NPY, IDX and JSON files: what comes out is numbers, and never code.

A file may be damaged, or made to harm. So nothing is unpickled; sizes that a header announces are held against the size
of the file before memory is taken for them; what is compressed is read up to a limit; and whatever is wrong with a
file is a ValueError of one line that names it.
"""

import contextlib
import csv
import gzip
import io
import itertools
import json
import math
import os
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

# Deflate makes at best 258 bytes of 2 bits: no .gz file holds more than this many times its own size.
LARGEST_GZIP_RATIO = 1032
# What a .gz file may hold. The largest IDX file in common use, EMNIST's, holds 547 MB; a table of numbers takes four
# times as much memory as its text.
LARGEST_IDX = 2**30
LARGEST_ZIPPED_CSV = 2**28
LONGEST_LINE = 2**20  # of a table: a row of more than 50,000 numbers of twenty digits is no row
LARGEST_JSON = 2**20  # of a config.json, and of a line of metrics.jsonl


def read_csv(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """A comma-separated table of numbers, plain or gzipped, and its header; empty cells and NA become NaN.

    The first line is a header if a cell of it is no number, or if it is quoted and the second line is not; any other
    first line of numbers is data. A header with numbers among its names is told in a warning: a row of data with one
    slip of the pen looks the same.
    """
    with (
        _opened(path, LARGEST_ZIPPED_CSV, "CSV", "give a UTF-8 text table of numbers") as file,
        io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text,
    ):
        lines = _lines(path, text)
        first_two = list(itertools.islice(lines, 2))
        has_header = len(first_two) > 0 and _is_header(*first_two)
        header = tuple(cell.strip() for cell in first_two.pop(0).cells) if has_header else ()
        width = len(header) or len(first_two[0].cells) if first_two else 0
        rows = [_numbers(path, line, width) for line in itertools.chain(first_two, lines)]
    if not rows:
        below = f" below the header {_short(','.join(header))}" if header else ""
        raise ValueError(f"{path}: holds no rows of numbers{below}; give a table with at least one row")
    if any(number == number for number in map(_number, header) if number is not None):  # NaN, for NA, is a name here
        warnings.warn(f"{path}: line 1 is taken for a header, {_short(','.join(header))}", UserWarning, stacklevel=2)
    return np.stack(rows), header


def read_npy(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """A two-dimensional array of numbers, mapped from the file rather than read; never a pickle."""
    try:
        if not path.is_file():  # a pipe, say, which would wait for ever
            raise ValueError("there is no such file")
        with open(path, "rb") as file:
            if file.read(6) != b"\x93NUMPY":
                raise ValueError("it does not start like one")
        with warnings.catch_warnings(action="ignore"):  # of what Python thinks of a header's literals
            x = np.load(path, allow_pickle=False, mmap_mode="r")
    except Exception as error:  # a hostile header is literal Python to NumPy and raises whatever parsing that raises
        raise ValueError(f"{path}: cannot be read as .npy ({reason(error)}); write it with numpy.save") from error
    if x.ndim != 2 or x.dtype.kind not in "fiub":
        what = f"shape {x.shape}, dtype {_short(str(x.dtype))}"
        raise ValueError(f"{path}: holds {what}; a table of real numbers (N, D) is needed")
    if x.size == 0:
        raise ValueError(f"{path}: holds a table of shape {x.shape}; give at least one row and one column")
    return x if x.dtype.kind == "f" else x.astype(np.float64), ()


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of bytes (MNIST's format), plain or gzipped: magic 0 0 8 d, d sizes, then the bytes."""
    with _opened(path, LARGEST_IDX, "IDX", "fetch the file again") as file:
        magic = file.read(4)
        if len(magic) < 4 or magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 4:
            raise ValueError(f"{path}: starts with {magic.hex()}, which is not an IDX file of bytes")
        sizes = np.frombuffer(file.read(4 * magic[3]).ljust(4 * magic[3], b"\0"), ">u4").astype(int).tolist()
        most = os.path.getsize(path) * (LARGEST_GZIP_RATIO if path.suffix == ".gz" else 1)
        announced = math.prod(sizes)
        if not 0 < announced <= min(most, LARGEST_IDX):
            raise ValueError(f"{path}: announces {sizes}, which a file of {os.path.getsize(path):,} bytes cannot hold; "
                             "fetch the file again")  # fmt: skip
        content = np.empty(announced, np.uint8)
        found = _fill(file, content) + len(file.read(1))
    if found != announced:
        held = f"more than {announced}" if found > announced else found
        raise ValueError(f"{path}: holds {held} bytes where {sizes} were announced; fetch the file again")
    return content.reshape(sizes)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a small JSON file."""
    with _opened(path, LARGEST_JSON, "JSON", "restore the file") as file:
        content = file.read(LARGEST_JSON + 1)
        if len(content) > LARGEST_JSON:
            raise ValueError(f"{path}: is larger than {LARGEST_JSON:,} bytes; restore the file")
        return _object(path, content)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one in each line; a last line that was cut short is left out."""
    with _opened(path, LARGEST_JSON, "JSON", "restore the file") as file:
        lines = iter(lambda: file.readline(LARGEST_JSON), b"")
        rows = []
        for number, line in enumerate(lines, start=1):
            if line.endswith(b"\n"):
                rows.append(_object(path, line, f"line {number} "))
            elif len(line) == LARGEST_JSON:
                raise ValueError(f"{path}: line {number} is longer than {LARGEST_JSON:,} bytes; restore the file")
        return rows


def reason(error: BaseException | str) -> str:
    """What an error says, or any text out of a file, in one line of bounded length."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


@contextlib.contextmanager
def _opened(path: Path, limit: int, kind: str, remedy: str) -> Iterator[BinaryIO]:
    """The file's bytes, decompressed up to ``limit`` if its name ends in .gz; its faults become one line."""
    try:
        if not path.is_file():
            raise ValueError(f"{path}: there is no such file; {remedy}")
        with open(path, "rb") as file:
            yield io.BufferedReader(_Unzipped(path, file, limit)) if path.suffix == ".gz" else file
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as {kind} ({reason(error)}); {remedy}") from error


class _Unzipped(io.RawIOBase):
    """A gzipped file's content, which ends in an error where it exceeds the limit."""

    def __init__(self, path: Path, file: BinaryIO, limit: int) -> None:
        self._file, self._left, self._limit, self._path = gzip.GzipFile(fileobj=file), limit, limit, path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._file.read1(min(len(buffer), self._left + 1))
        self._left -= len(content)
        if self._left < 0:
            raise ValueError(f"{self._path}: holds more than {self._limit:,} bytes; decompress it if that is meant")
        buffer[: len(content)] = content
        return len(content)


def _fill(file: BinaryIO, content: np.ndarray) -> int:
    """Read into all of ``content``, and how many bytes there were."""
    view, found = memoryview(content), 0
    while got := file.readinto(view[found:]):
        found += got
    return found


class _Line(NamedTuple):
    number: int
    cells: list[str]
    text: str


def _lines(path: Path, file: io.TextIOBase) -> Iterator[_Line]:
    """The lines of a table that are not empty. One that does not end is given up before it fills the memory."""
    taken: list[str] = []
    left = LONGEST_LINE

    def bounded() -> Iterator[str]:
        nonlocal left
        while line := file.readline(LONGEST_LINE):
            taken.append(line)
            left -= len(line)
            if left <= 0:
                raise ValueError(f"{path}: line {reader.line_num + 1} is longer than {LONGEST_LINE:,} characters; "
                                 "give a table with a line for each row")  # fmt: skip
            yield line

    reader = csv.reader(bounded())
    for cells in reader:
        if cells:
            yield _Line(reader.line_num, cells, "".join(taken))
        taken.clear()
        left = LONGEST_LINE


def _is_header(first: _Line, second: _Line | None = None) -> bool:
    if any(_number(cell) is None for cell in first.cells):
        return True
    return '"' in first.text and second is not None and '"' not in second.text


def _numbers(path: Path, line: _Line, width: int) -> np.ndarray:
    """A line's cells as numbers; ValueError naming the first that is none."""
    if len(line.cells) != width:
        raise ValueError(
            f"{path}: line {line.number} has {len(line.cells)} columns, not {width}; is the file cut short?"
        )
    with contextlib.suppress(ValueError):
        if "_" not in line.text:  # the common case, fast
            return np.array([float(cell) for cell in line.cells])
    numbers = [_number(cell) for cell in line.cells]
    if None in numbers:
        column = numbers.index(None)
        what = f"line {line.number}, column {column + 1} is {_short(repr(line.cells[column]))}"
        raise ValueError(f"{path}: {what}; only numbers, NA or empty")
    return np.array(numbers)


def _number(cell: str) -> float | None:
    """The number in a cell, NaN for an empty cell and NA, None if there is no number."""
    if (cell := cell.strip()) in ("", "NA"):
        return math.nan
    try:
        return float(cell) if "_" not in cell else None  # 1_000 is a number to Python, and to nobody else
    except ValueError:
        return None


def _object(path: Path, content: bytes, where: str = "") -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {where}cannot be read as JSON ({reason(error)}); restore the file") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {where}is {_short(repr(value))}, not an object; restore the file")
    return value


def _short(text: str) -> str:
    text = reason(text)
    return text if len(text) <= 60 else f"{text[:57]}..."
