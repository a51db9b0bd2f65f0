"""Readers of CSV, NPY, NPZ, IDX and JSON files: what comes out is numbers, and never code.

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
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from common.data import dialect
from common.data.dialect import Line
from common.data.messages import reason, short
from common.data.table_rows import check_one_name, leave_out, row_numbers, rows_of, warn

# Deflate makes at best 258 bytes of 2 bits: no .gz file holds more than this many times its own size.
LARGEST_GZIP_RATIO = 1032
# What a .gz file may hold. The largest IDX file in common use, EMNIST's, holds 547 MB; a table of numbers takes four
# times as much memory as its text.
LARGEST_IDX = 2**30
LARGEST_ZIPPED_CSV = 2**28
LONGEST_LINE = 2**20  # of a table: a row of more than 50,000 numbers of twenty digits is no row
LARGEST_JSON = 2**20  # of a config.json, and of a line of metrics.jsonl


class Table(NamedTuple):
    """The numbers of a table (N, D), the names of their columns, if there are any, and the cells of the labels' one."""

    x: np.ndarray
    header: tuple[str, ...]
    labels: list[str] | None


def read_csv(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """All columns of a table of numbers, and its header."""
    return read_table(path, columns="1-")[:2]


def read_table(path: Path, label_column: str | None = None, columns: str | None = None) -> Table:
    """A table in a text file, plain or gzipped: its numbers, its header, and its labels.

    Columns are separated by commas, semicolons, tabs, bars or spaces; a decimal sign may be a comma; lines that begin
    with # or % are comments; an empty cell, NA, ? and the like become NaN. The first line is a header as
    `dialect.is_header` has it; a header with numbers among its names causes a warning, since a data row with a typo
    looks the same. ``columns`` names those that are data. If it is None, all are but the labels' and, with a warning,
    those that only name or number the rows.
    """
    with (
        _opened(path, LARGEST_ZIPPED_CSV, "CSV", "give a UTF-8 text table of numbers") as file,
        io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text,
    ):
        _check_text(path, file.peek(4)[:4])
        lines = _lines(path, text)
        first_two = list(itertools.islice(lines, 2))
        has_header = len(first_two) > 0 and dialect.is_header(*first_two)
        header = [cell.strip() for cell in first_two.pop(0).cells] if has_header else []
        if not first_two:
            below = f" below the header {short(','.join(header))}" if header else ""
            raise ValueError(f"{path}: holds no rows of numbers{below}; give a table with at least one row")
        check_one_name(path, header, first_two[0])
        width = len(first_two[0].cells)
        shorter = len(header) == width - 1 > 0 and dialect.lacks_first_name(first_two[0])
        header = [""] * shorter + header
        wanted = dialect.find_columns(str(path), header or [""] * width, label_column, columns)
        nameless = dialect.without_name(header or None, first_two[0]) if columns is None else 0
        kept = [i for i in wanted.data if i >= nameless]
        words = [i for i in range(nameless) if i != wanted.label]  # columns that may name the rows
        if not kept:
            raise ValueError(f"{path}: holds no column of numbers beside labels and row names; give a table with one")
        x, cells = rows_of(path, itertools.chain(first_two, lines), header or [""] * width, kept, words, wanted.label)
    if any(number == number for number in map(dialect.number, header) if number is not None):  # NaN, for NA, is a name
        warn(f"{path}: line 1 is taken for a header, {short(','.join(header))}")
    labels = cells.pop(wanted.label, None)
    if labels is not None and not header and len(labels) > 2 and labels.count(labels[0]) == 1 and (
        dialect.number(labels[0]) is None
    ):  # fmt: skip
        warn(f"{path}: line 1 is taken for data, {short(','.join(first_two[0].cells))}")
    for column, names in cells.items():
        leave_out(path, column, names, to_count=shorter and not first_two[0].text.startswith('"'))
    if header and not header[-1] and not wanted.chosen and len(kept) > 1 and np.isnan(x[:, -1]).all():
        kept, x = kept[:-1], x[:, :-1]  # lines that end in a separator
    if not wanted.chosen and len(kept) > 1 < len(x) and dialect.counts(x[:, 0]):
        kept, x = row_numbers(path, header, kept, x)
    return Table(x, tuple(header[i] for i in kept) if header else (), labels)


def read_npy(path: Path, pixel_max: float = 1.0) -> tuple[np.ndarray, tuple[str, ...]]:
    """A table of numbers (N, D), or images (N, H, W), mapped from the file rather than read; never a pickle."""
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
    return as_table(path, x, pixel_max), ()


def as_table(path: Path, x: np.ndarray, pixel_max: float = 1.0) -> np.ndarray:
    """An array if it is a table of real numbers or images; else ValueError.

    Images are divided by what a white pixel has: ``pixel_max``, or 255 where they are bytes and it is not given.
    """
    if x.ndim == 4 and x.shape[-1] == 1:  # one channel
        x = x[..., 0]
    if x.ndim not in (2, 3) or x.dtype.kind not in "fiub":
        what = f"shape {x.shape}, dtype {short(str(x.dtype))}"
        raise ValueError(f"{path}: holds {what}; a table of real numbers (N, D), or images (N, H, W), is needed")
    if x.size == 0:
        raise ValueError(f"{path}: holds a table of shape {x.shape}; give at least one row and one column")
    if x.ndim == 3 and (pixel_max != 1 or (x.dtype == np.uint8 and x.max() > 1)):
        return x / np.float32(255 if pixel_max == 1 else pixel_max)
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays in an archive that numpy.savez wrote; never a pickle."""
    try:
        if not path.is_file():
            raise ValueError("there is no such file")
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            announced = sum(member.file_size for member in members)
            if announced > min(os.path.getsize(path) * LARGEST_GZIP_RATIO, LARGEST_IDX):
                raise ValueError(f"it announces {announced:,} bytes")
            arrays = {}
            for member in members:
                with archive.open(member) as file, warnings.catch_warnings(action="ignore"):
                    content = file.read(member.file_size + 1)  # whole, so that no header asks for more memory
                    arrays[member.filename.removesuffix(".npy")] = np.lib.format.read_array(
                        io.BytesIO(_sized(content)), allow_pickle=False
                    )
        return arrays
    except Exception as error:  # of zipfile's or of a hostile header's
        raise ValueError(f"{path}: cannot be read as .npz ({reason(error)}); write it with numpy.savez") from error


def _sized(content: bytes) -> bytes:
    # The content of a .npy file; ValueError if its header announces more than it holds.
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if math.prod(shape) * dtype.itemsize > len(content):
        raise ValueError(f"it announces {shape}, more than it holds")
    return content


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of bytes (MNIST's format), plain or gzipped: magic 0 0 8 d, d sizes, then the bytes."""
    with _opened(path, LARGEST_IDX, "IDX", "fetch the file again") as file:
        magic = file.read(4)
        if len(magic) < 4 or magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 4:
            raise ValueError(f"{path}: starts with {magic.hex()}, which is not an IDX file of bytes")
        sizes = np.frombuffer(file.read(4 * magic[3]).ljust(4 * magic[3], b"\0"), ">u4").astype(int).tolist()
        most = os.path.getsize(path) * (LARGEST_GZIP_RATIO if _is_gz(path) else 1)
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


@contextlib.contextmanager
def _opened(path: Path, limit: int, kind: str, remedy: str) -> Iterator[BinaryIO]:
    """The file's bytes, decompressed up to ``limit`` if its name ends in .gz; its faults become one line."""
    try:
        if not path.is_file():
            raise ValueError(f"{path}: there is no such file; {remedy}")
        with open(path, "rb") as file:
            yield io.BufferedReader(_Unzipped(path, file, limit)) if _is_gz(path) else file
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as {kind} ({reason(error)}); {remedy}") from error


def _is_gz(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


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
            raise ValueError(
                f"{self._path}: holds more than {self._limit:,} bytes; decompress it first if this is intended"
            )
        buffer[: len(content)] = content
        return len(content)


def _fill(file: BinaryIO, content: np.ndarray) -> int:
    """Read into all of ``content``, and how many bytes there were."""
    view, found = memoryview(content), 0
    while got := file.readinto(view[found:]):
        found += got
    return found


def _lines(path: Path, file: io.TextIOBase) -> Iterator[Line]:
    """The lines of a table that are not empty. One that does not end is given up before it fills the memory."""

    def too_long(line: int) -> ValueError:
        return ValueError(f"{path}: line {line} is longer than {LONGEST_LINE:,} characters; "
                          "give a table with a line for each row")  # fmt: skip

    def physical() -> Iterator[tuple[int, str]]:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), ""), start=1):
            if len(line) == LONGEST_LINE:
                raise too_long(number)
            yield number, line

    source = physical()
    head = list(itertools.islice(source, 10))
    named = re.fullmatch(r"\ufeff?\"?sep=(.)\"?\s*", head[0][1]) if head else None  # Excel's own first line
    if named:
        head.pop(0)
    separator = named[1] if named else dialect.separator([line for _, line in head if _holds_cells(line)])
    taken: list[str] = []
    last, left = 0, LONGEST_LINE

    def content() -> Iterator[str]:
        nonlocal last, left
        for last, line in itertools.chain(head, source):
            if taken or _holds_cells(line):
                taken.append(line)
                left -= len(line)
                if left <= 0:
                    raise too_long(last)
                yield line

    for cells in dialect.cells_of(content(), separator):
        yield Line(last, cells, "".join(taken))
        taken.clear()
        left = LONGEST_LINE


def _check_text(path: Path, start: bytes) -> None:
    # Names what is often taken for a text table, by its first bytes.
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or start[1:2] == b"\0" != start[:1]:
        raise ValueError(f"{path}: cannot be read as CSV (it is UTF-16 text); save it as UTF-8")
    if start == b"PK\x03\x04":
        raise ValueError(f"{path}: cannot be read as CSV (it is a spreadsheet or an archive); save the sheet as CSV")


def _holds_cells(line: str) -> bool:
    # Whether a line is neither empty nor a comment.
    return bool(line.strip()) and (not line.startswith(dialect.COMMENTS) or line.startswith(("#N/A", "#NA")))


def _object(path: Path, content: bytes, where: str = "") -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {where}cannot be read as JSON ({reason(error)}); restore the file") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {where}is {short(repr(value))}, not an object; restore the file")
    return value
