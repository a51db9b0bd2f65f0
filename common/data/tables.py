"""Text tables as R, pandas, Excel and the archives write them.

Columns are separated by commas, semicolons, tabs, bars or spaces. Decimal signs may be commas. Lines that
begin with # or % are comments. Empty cells, NA, ? and the like become NaN. Ambiguous input is refused or
causes a warning.
"""

import csv
import itertools
import os
import re
import warnings
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from common.data.lines import DECIMAL_COMMA, Line, lines_of, number, read_header
from common.data.messages import InputError, nearest, short

THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}([,.'’ \u00a0\u202f][0-9]{3})+([.,][0-9]+)?")
NO_NAME = re.compile(r"(Unnamed: [0-9]+(\.[0-9]+)?)?")  # as pandas writes a column without a name
ROW_NUMBERS = {"index", "id", "row", "rownames", "row_names", "row.names", "rowname", "obs"}
FEW_ROWS = 10  # with fewer, a column without a name may count the rows by chance


class Table(NamedTuple):
    """The numbers (N, D), the names of their columns, if any, and the cells of the label column."""

    x: np.ndarray
    header: tuple[str, ...]
    labels: list[str] | None


class Columns(NamedTuple):
    """The columns of a table that are data, and the one that holds labels."""

    data: list[int]
    label: int | None


def read_table(path: Path, text: TextIO, label_column: str | None = None, columns: str | None = None) -> Table:
    """Return the table in a text file.

    ``columns`` names the columns that are data. By default these are all but the labels and, with a warning,
    those that only name or number the rows. A header that contains numbers also causes a warning, since a
    data row with a typo looks the same.
    """
    lines = lines_of(path, text)
    header, rows_read, is_short = read_header(path, lines)
    first = rows_read[0]
    names = header or [""] * len(first.cells)
    nameless = _nameless(header, first) if columns is None else 0
    chosen = find_columns(path, names, label_column, columns, nameless)
    kept, words = chosen.data, [i for i in range(nameless) if i != chosen.label]  # words: names of rows?
    rows = _Rows(path, names, kept, words if chosen.label is None else [*words, chosen.label])
    for line in itertools.chain(rows_read, lines):
        rows.add(line)
    x, cells = rows.numbers(), rows.cells
    if any(value == value for value in map(number, header) if value is not None):  # NaN, for NA, is a name
        warn(f"{path}: line 1 is taken for a header, {short(','.join(header))}")
    labels = cells.pop(chosen.label, None)
    is_lone_word = labels is not None and labels.count(labels[0]) == 1 and number(labels[0]) is None
    if is_lone_word and not header and len(labels) > 2:
        warn(f"{path}: line 1 is taken for data, {short(','.join(first.cells))}")
    for column, row_names in cells.items():
        _leave_out(path, column, row_names, must_count=is_short and not first.starts_quoted)
    if columns is None and header and not header[-1] and len(kept) > 1 and np.isnan(x[:, -1]).all():
        kept, x = kept[:-1], x[:, :-1]  # lines that end in a separator
    if columns is None and len(kept) > 1 < len(x) and _counts(x[:, 0]):
        kept, x = _row_numbers(path, header, kept, x)
    return Table(x, tuple(header[i] for i in kept) if header else (), labels)


def warn(message: str) -> None:
    """Warn about how a table was read; only the first of several workers does."""
    index = re.search(r'"index": *"?([0-9]+)', os.environ.get("TF_CONFIG", ""))
    if os.environ.get("RANK", index[1] if index else "0") == "0":
        warnings.warn(message, UserWarning, stacklevel=4)


# --- Names and numbers of rows


def _nameless(header: Sequence[str], line: Line) -> int:
    """How many columns at the left have no name although others do; ``line`` is the first line of data.

    Without a header, the first column counts as one if it alone is quoted: R writes row names like that.
    """
    if not header:
        alone = line.starts_quoted and line.text.count('"') == 2 and number(line.cells[0]) is not None
        return int(alone and len(line.cells) > 1)
    nameless = len(list(itertools.takewhile(NO_NAME.fullmatch, header)))
    return nameless if nameless < len(header) else 0


def _counts(values: Sequence[float]) -> bool:
    # Whether the values are 0, 1, 2, ... or 1, 2, 3, ...
    return values[0] in (0, 1) and all(value == i for i, value in enumerate(values, start=int(values[0])))


def _leave_out(path: Path, column: int, names: list[str], must_count: bool) -> None:
    """Warn that a column without a name is not fitted; ValueError if it does not look like the names of rows.

    Those are distinct words or whole numbers, which must count if only a header that is one name short
    suggests them.
    """
    values = [number(name) for name in names]
    if must_count and None not in values and not _counts(values):
        what = f"{path}: the rows have one column more than the header, and it does not number them"
        raise ValueError(f"{what}; name it there, or remove separators of thousands")
    if len(set(names)) < len(names) or any(value is not None and value % 1 != 0 for value in values):
        remedy = f"leave it out by --columns {column + 2}-, or keep it by --columns {column + 1}-"
        raise ValueError(f"{path}: column {column + 1} has no name and does not number the rows; {remedy}")
    verb, keep = ("names", "") if None in values else ("numbers", "; --columns 1- keeps it")
    rows = f"the rows, {short(names[0])} to {short(names[-1])}"
    warn(f"{path}: column {column + 1} {verb} {rows}, and is not fitted{keep}")


def _row_numbers(path: Path, header: list[str], kept: list[int], x: np.ndarray) -> tuple[list[int], np.ndarray]:
    # The columns and numbers that are data if the first column counts the rows and has a name, or none has.
    without, whole = _as_text(kept[1:]), _as_text(kept)
    name = f" ({short(header[kept[0]])})" if header else ""
    counts = f"{path}: column {kept[0] + 1}{name} counts the rows, {x[0, 0]:.0f} to {x[-1, 0]:.0f}"
    if header and header[kept[0]].lower() in ROW_NUMBERS:
        warn(f"{counts}, and is not fitted; --columns {whole} keeps it")
        return kept[1:], x[:, 1:]
    if header:
        warn(f"{counts}, and is fitted as data; --columns {without} leaves it out")
    elif len(x) >= FEW_ROWS:
        raise ValueError(f"{counts}; leave it out by --columns {without}, or keep it by --columns {whole}")
    return kept, x


# --- Columns


def find_columns(
    path: Path, names: Sequence[str], label_column: str | None, columns: str | None, nameless: int = 0
) -> Columns:
    """Return the chosen columns; by default all but the label's and the first ``nameless`` are data.

    Raises InputError for a column that does not exist.
    """
    label, data = None, list(range(nameless, len(names)))
    if label_column is not None:
        (label,) = _find(path, "label_column", label_column, label_column, names)
    if columns is not None:
        tokens = next(csv.reader([columns], skipinitialspace=True), []) or [""]
        data = [i for token in tokens for i in _find(path, "columns", columns, token.strip(), names, label)]
    data = [i for i in dict.fromkeys(data) if i != label]
    if not data:
        raise ValueError(f"{path}: holds no column of numbers besides labels and row names; give a table with one")
    return Columns(data, label)


def _find(path: Path, option: str, value: str, token: str, names: Sequence[str], label: int | None = None) -> list[int]:
    # The columns that a name, a number or a range such as 2-5 or 2- stands for.
    found = [i for i, name in enumerate(names) if name == token and name]
    if len(found) > 1:
        problem = f"{path} has {len(found)} columns of that name; give a number, such as {found[0] + 1}"
        raise InputError(option, problem, short(value))
    match = re.fullmatch(r"(-?[1-9][0-9]{0,8})|([1-9][0-9]{0,8})-([1-9][0-9]{0,8})?", token, re.ASCII)
    if match and not found:
        first = int(match[1] or match[2])
        first += len(names) + 1 if first < 0 else 0
        last = first if match[1] else int(match[3] or len(names))
        found = list(range(first - 1, last)) if 1 <= first <= last <= len(names) else []
    if not found or found == [label] or (option == "label_column" and len(found) > 1):
        remedy = "give a name of its header or a number, such as 1 or -1"
        remedy += "" if option == "label_column" else "; several are separated by commas, as in 1,3-5"
        what = f"{short(repr(token))} is not one of the {len(names)} column(s) of {path}"
        what += " besides the labels" if found else ""
        raise InputError(option, f"{what}; {remedy}{nearest(token, filter(None, names))}", short(value))
    return found


def _as_text(columns: Sequence[int]) -> str:
    # Columns in the form of --columns: runs of numbers.
    runs = itertools.groupby(enumerate(columns), lambda place: place[1] - place[0])
    ends = [(run[0][1] + 1, run[-1][1] + 1) for run in (list(places) for _, places in runs)]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ends)


# --- Rows


class _Rows:
    """The rows read so far: the numbers in the columns ``kept``, and the cells in the columns ``words``.

    Whether commas or points are decimal signs is known only when all rows have been read.
    """

    def __init__(self, path: Path, names: Sequence[str], kept: Sequence[int], words: Sequence[int]) -> None:
        self._path, self._names, self._kept = path, names, kept
        self.cells: dict[int, list[str]] = {i: [] for i in words}
        self._values, self._n = array("d"), 0
        self._comma = self._point = ""
        self._is_decimal = self._has_semicolons = False

    def add(self, line: Line) -> None:
        """Read another row; ValueError if its length differs or it holds text."""
        if len(line.cells) != len(self._names):
            raise ValueError(_ragged(self._path, line, len(self._names)))
        for i, column in self.cells.items():
            column.append(line.cells[i].strip())
        chosen = [line.cells[i] for i in self._kept]
        self._n += 1
        try:
            if "_" in line.text:
                raise ValueError
            self._values.extend([float(cell) for cell in chosen])  # the common case, fast
        except ValueError:
            self._values.extend([self._number(line, i) for i in self._kept])
        if not self._point and (point := next((cell for cell in chosen if "." in cell), None)):
            self._point = f"line {line.number} has {short(repr(point.strip()))}"

    def _number(self, line: Line, column: int) -> float:
        cell = line.cells[column].strip()
        if (value := number(cell)) is None:
            raise ValueError(_not_a_number(self._path, line, column, self._names, self._kept, is_first=self._n == 1))
        if "," in cell:  # 1,234 may have a decimal comma or be a number of thousands
            self._comma = self._comma or f"line {line.number} has {short(repr(cell))}"
            self._is_decimal = self._is_decimal or not THOUSANDS.fullmatch(cell)
            self._has_semicolons = ";" in line.text  # tables separated by semicolons have decimal commas
        return value

    def numbers(self) -> np.ndarray:
        """The numbers (N, D); ValueError unless they have one decimal sign; warns if it is not certain."""
        if self._comma and self._point:
            remedy = "write all numbers with one decimal sign, and without separators of thousands"
            raise ValueError(f"{self._path}: {self._comma} and {self._point}; {remedy}")
        if self._comma and not self._is_decimal:
            if not self._has_semicolons:
                what = f"{self._path}: {self._comma}, which may be thousands or have a decimal comma"
                raise ValueError(f"{what}; write it with a decimal point, or without the comma")
            what = f"{self._path}: {self._comma}, read as a number with a decimal comma"
            warn(f"{what}; if commas mark thousands, remove them")
        return np.frombuffer(self._values, np.float64).reshape(self._n, len(self._kept))


def _ragged(path: Path, line: Line, width: int) -> str:
    what = f"{path}: line {line.number} has {len(line.cells)} columns, not {width}"
    if width == 1 and DECIMAL_COMMA.fullmatch(line.text.strip()):
        return f"{what}; if commas are decimal, write points, or quote the numbers"
    if len(line.cells) == 2 * width and "," in line.text and "," not in "".join(line.cells):
        return f"{what}; if commas are decimal, separate the columns by ';'"
    if len(line.cells) == width + 1 and not line.cells[-1].strip():
        return f"{what}; remove the separator at its end, or name one more column in the header"
    return f"{what}; is a cell missing, or a separator inside one that is not quoted?"


def _not_a_number(
    path: Path, line: Line, column: int, names: Sequence[str], kept: Sequence[int], is_first: bool
) -> str:
    cell, name = line.cells[column], names[column]
    what = f"{path}: line {line.number}, column {column + 1} is {short(repr(cell))}"
    if THOUSANDS.fullmatch(cell.strip()):
        return f"{what}; write numbers without separators of thousands"
    if is_first and len(kept) > 1:  # the whole column may be text
        name = name if re.fullmatch(r"\w[\w.-]*", name) and names.count(name) == 1 else str(column + 1)
        rest = _as_text([i for i in kept if number(line.cells[i]) is not None])
        remedy = f"if the column holds labels, add --label-column {name}"
        return f"{what}; {remedy}" + (f", and --columns {rest} leaves out what is text" if rest else "")
    return f"{what}; only numbers, or for what is missing NA or an empty cell"
