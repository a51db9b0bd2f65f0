"""The lines of a text table as rows of cells: their separator, and whether the first row is a header."""

import csv
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from common.data.messages import short

SEPARATORS = "\t;,| "
LONGEST_LINE = 2**20  # of a table: more than 50,000 numbers of twenty digits
LARGEST_TABLE = 2**28  # characters in a compressed file; memory is four times that
MISSING = {"", "NA", "N/A", "n/a", "#N/A", "<NA>", "NULL", "null", "None", "?"}
DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?")


class Line(NamedTuple):
    """A row of a table: the number of its last line in the file, its cells, and its text."""

    number: int
    cells: list[str]
    text: str

    @property
    def starts_quoted(self) -> bool:
        """Whether the first cell is quoted, as R quotes the names of rows."""
        return self.text.startswith('"')


def number(cell: str) -> float | None:
    """The number in a cell, perhaps with a decimal comma; NaN if it is missing, None if it is text."""
    if (cell := cell.strip()) in MISSING:
        return math.nan
    try:
        return float(cell) if "_" not in cell else None  # Python alone reads 1_000 as a number
    except ValueError:
        return float(cell.replace(",", ".")) if DECIMAL_COMMA.fullmatch(cell) else None


def lines_of(path: Path, file: TextIO) -> Iterator[Line]:
    """The rows of the text table in a file, one after the other."""
    physical = _numbered(path, file)
    head = list(itertools.islice(physical, 10))
    named = re.fullmatch(r"\ufeff?\"?sep=(.)\"?\s*", head[0][1]) if head else None  # Excel's own first line
    if named:
        head.pop(0)
    separator = named[1] if named else _separator([line for _, line in head if _holds_cells(line)])
    row = _OpenRow(path, itertools.chain(head, physical))
    for cells in _cells_of(row, separator):
        yield Line(row.number, cells, row.take())


def _numbered(path: Path, file: TextIO) -> Iterator[tuple[int, str]]:
    left = LARGEST_TABLE
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), ""), start=1):
        left -= len(line)
        if left < 0 and path.suffix.lower() == ".gz":
            raise ValueError(f"{path}: holds more than {LARGEST_TABLE:,} bytes; decompress it if this is intended")
        _check_length(path, number, len(line))
        yield number, line


def _check_length(path: Path, number: int, length: int) -> None:
    # An endless line must not fill the memory.
    if length >= LONGEST_LINE:
        what = f"{path}: line {number} is longer than {LONGEST_LINE:,} characters"
        raise ValueError(f"{what}; give a table with a line for each row")


class _OpenRow:
    """The lines with cells, for csv.reader, and the text of the row being read, which may span lines."""

    def __init__(self, path: Path, numbered: Iterable[tuple[int, str]]) -> None:
        self._path, self._numbered = path, numbered
        self.number = self._length = 0
        self._text: list[str] = []

    def __iter__(self) -> Iterator[str]:
        for number, line in self._numbered:
            self.number = number
            if self._text or _holds_cells(line):
                self._text.append(line)
                self._length += len(line)
                _check_length(self._path, self.number, self._length)
                yield line

    def take(self) -> str:
        """Return the row's text; the next line begins another."""
        text = "".join(self._text)
        self._text, self._length = [], 0
        return text


def _holds_cells(line: str) -> bool:
    # Whether a line is neither empty nor a comment.
    return bool(line.strip()) and (not line.startswith(("#", "%")) or line.startswith(("#N/A", "#NA")))


def _cells_of(lines: Iterable[str], separator: str) -> Iterator[list[str]]:
    if separator == " ":  # several spaces are one
        return csv.reader((line.rstrip() for line in lines), delimiter=" ", skipinitialspace=True)
    return csv.reader(lines, delimiter=separator)


def _separator(lines: Sequence[str]) -> str:
    """The separator of the columns in the table that begins with these lines.

    It gives the first two lines equally many columns, or the first one less, since R gives row names no
    header; if several do, it is the one that leaves the most numbers in the second line.
    """
    best, separator = (False, -1.0, 0), ","
    for candidate in SEPARATORS:
        first_two = list(itertools.islice(_cells_of(lines, candidate), 2)) or [[]]
        first, second = first_two[0], first_two[-1]
        if len(second) > 1 and len(first) in (len(second), len(second) - 1):
            numbers = sum(number(cell) is not None for cell in second)
            if (score := (len(first) == len(second), numbers / len(second), numbers)) > best:
                best, separator = score, candidate
    if best[1] < 0:  # one column, or ragged
        return next((each for each in SEPARATORS[:-1] if any(each in line for line in lines[:2])), ",")
    return separator


def read_header(path: Path, lines: Iterator[Line]) -> tuple[list[str], list[Line], bool]:
    """The header, if any; the lines of data read so far; whether the header lacks the first column's name."""
    first_two = list(itertools.islice(lines, 2))
    header = [cell.strip() for cell in first_two.pop(0).cells] if first_two and _is_header(*first_two) else []
    if not first_two:
        below = f" below the header {short(','.join(header))}" if header else ""
        raise ValueError(f"{path}: holds no rows of numbers{below}; give a table with at least one row")
    line = first_two[0]
    if len(header) == 1 and DECIMAL_COMMA.fullmatch(line.text.strip()):
        what = f"{path}: line {line.number} is {short(line.text.strip())}, one number or two columns, and the header"
        raise ValueError(f"{what} has one name; write numbers without commas, as 1.5, or quoted, or name both columns")
    value = number(line.cells[0])
    names_rows = line.starts_quoted or value is None or value in (0, 1)
    is_short = len(header) == len(line.cells) - 1 > 0 and names_rows and line.cells[-1].strip() != ""
    return [""] * is_short + header, first_two, is_short


def _is_header(first: Line, second: Line | None = None) -> bool:
    """Whether the first line of a table is a header.

    It is if it has text above a number, is all text, is quoted where the second line is not, or counts the
    columns as pandas does. A line with text only above text, and with numbers above numbers, is data.
    """
    is_text = [number(cell) is None for cell in first.cells]
    if second is None:
        return any(is_text)
    corner = first.cells[0].strip() == "" != second.cells[0].strip()  # above row numbers
    if not any(is_text):
        counted = [cell.strip() for cell in first.cells[corner:]] == [str(i) for i in range(len(first.cells) - corner)]
        has_points = 2 * sum("." in cell for cell in second.cells) > len(second.cells)
        is_quoted = '"' in first.text and '"' not in second.text
        return is_quoted or (counted and len(first.cells) > 1 and (corner or has_points))
    if len(first.cells) != len(second.cells) or all(is_text):
        return True
    is_number = [number(cell) is not None for cell in second.cells]
    return corner or any(above and below for above, below in zip(is_text, is_number, strict=True))
