"""The rows of a text table as numbers, and the messages about cells that are not."""

import os
import re
import warnings
from array import array
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from common.data import dialect
from common.data.dialect import Line
from common.data.messages import short


def rows_of(
    path: Path, lines: Iterable[Line], names: list[str], kept: list[int], words: list[int], label: int | None
) -> tuple[np.ndarray, dict[int, list[str]]]:
    """The numbers of the ``kept`` columns, (N, D), and the cells of the columns that hold ``words`` or labels."""
    width, signs = len(names), _DecimalSigns(path)
    every = kept == list(range(width))
    cells: dict[int, list[str]] = {i: [] for i in (*words, label) if i is not None}
    values = array("d")
    n = 0
    for n, line in enumerate(lines, start=1):
        if len(line.cells) != width:
            raise ValueError(_ragged(path, line, width))
        for i, column in cells.items():
            column.append(line.cells[i].strip())
        chosen = line.cells if every else [line.cells[i] for i in kept]
        try:
            if "_" in line.text:
                raise ValueError
            values.extend([float(cell) for cell in chosen])  # the common case, fast
        except ValueError:
            for i in kept:
                if (value := dialect.number(line.cells[i])) is None:
                    raise ValueError(_no_number(path, line, i, names, kept, first=n == 1)) from None
                values.append(value)
                signs.see(line, line.cells[i])
        signs.see_points(line, chosen)
    signs.check()
    return np.frombuffer(values, np.float64).reshape(n, len(kept)), cells


class _DecimalSigns:
    """The meaning of commas and points in a table's numbers, which is known when all of them were seen."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._comma = self._point = ""
        self._clear = self._semicolons = False

    def see(self, line: Line, cell: str) -> None:
        """Take note of a number that may have a decimal comma; one of 1,234 may also be one of thousands."""
        if "," in cell:
            self._comma = self._comma or f"line {line.number} has {short(repr(cell.strip()))}"
            self._clear = self._clear or not dialect.THOUSANDS.fullmatch(cell.strip())
            self._semicolons = ";" in line.text  # who separates columns by them has decimal commas

    def see_points(self, line: Line, cells: list[str]) -> None:
        """Take note of a number with a decimal point."""
        if not self._point and (found := next((cell for cell in cells if "." in cell), None)):
            self._point = f"line {line.number} has {short(repr(found.strip()))}"

    def check(self) -> None:
        """ValueError unless the table has one decimal sign, and that is clear; a warning where it is only likely."""
        if self._comma and self._point:
            raise ValueError(f"{self._path}: {self._comma} and {self._point}; write all numbers with one decimal sign, "
                             "and without separators of thousands")  # fmt: skip
        if self._comma and not self._clear:
            if not self._semicolons:
                raise ValueError(f"{self._path}: {self._comma}, which may be thousands or have a decimal comma; write "
                                 "it with a decimal point, or without the comma")  # fmt: skip
            warn(f"{self._path}: {self._comma}, read as a number with a decimal comma; if commas mark thousands, "
                 "remove them")  # fmt: skip


def check_one_name(path: Path, header: list[str], line: Line) -> None:
    """ValueError if the first row, below one name, is 1,5: one number, or a row number and one."""
    if len(header) == 1 and dialect.DECIMAL_COMMA.fullmatch(line.text.strip()):
        raise ValueError(
            f"{path}: line {line.number} is {short(line.text.strip())}, one number or two columns, and the "
            "header has one name; write numbers without commas, as 1.5, or quoted, or name both columns"
        )


def _ragged(path: Path, line: Line, width: int) -> str:
    what = f"{path}: line {line.number} has {len(line.cells)} columns, not {width}"
    if width == 1 and dialect.DECIMAL_COMMA.fullmatch(line.text.strip()):
        return f"{what}; if commas are decimal, write points, or quote the numbers"
    if len(line.cells) == 2 * width and "," in line.text and "," not in "".join(line.cells):
        return f"{what}; if commas are decimal, separate the columns by ';'"
    if len(line.cells) == width + 1 and not line.cells[-1].strip():
        return f"{what}; remove the separator at its end, or name one more column in the header"
    return f"{what}; is a cell missing, or a separator inside one that is not quoted?"


def _no_number(path: Path, line: Line, column: int, names: list[str], kept: list[int], first: bool) -> str:
    # What to say of a cell that holds text; ``first`` if it is in the first row, where all of its column may be text.
    cell, name = line.cells[column], names[column]
    name = name if re.fullmatch(r"\w[\w.-]*", name) and names.count(name) == 1 else str(column + 1)
    what = f"{path}: line {line.number}, column {column + 1} is {short(repr(cell))}"
    if dialect.THOUSANDS.fullmatch(cell.strip()):
        return f"{what}; write numbers without separators of thousands"
    if first and len(kept) > 1:
        rest = dialect.of([i for i in kept if dialect.number(line.cells[i]) is not None])
        return f"{what}; if the column holds labels, add --label-column {name}" + (
            f", and --columns {rest} leaves out what is text" if rest else ""
        )
    return f"{what}; only numbers, or for what is missing NA or an empty cell"


def leave_out(path: Path, column: int, names: list[str], to_count: bool = False) -> None:
    """Say that a column without a name is no data; ValueError if it does not look like the names of rows.

    They have to count where only a header of one name less speaks for them.
    """
    values = [dialect.number(name) for name in names]
    if to_count and None not in values and not dialect.counts(values):
        raise ValueError(f"{path}: the rows have one column more than the header, and it does not number them; name it "
                         "there, or remove separators of thousands")  # fmt: skip
    if not dialect.name_rows(names):
        raise ValueError(f"{path}: column {column + 1} has no name and does not number the rows; leave it out by "
                         f"--columns {column + 2}-, or keep it by --columns {column + 1}-")  # fmt: skip
    what = f"the rows, {short(names[0])} to {short(names[-1])}, and is not fitted"
    numbers = None not in values
    warn(f"{path}: column {column + 1} " + (f"numbers {what}; --columns 1- keeps it" if numbers else f"names {what}"))


def row_numbers(path: Path, header: list[str], kept: list[int], x: np.ndarray) -> tuple[list[int], np.ndarray]:
    """The columns and numbers that are data, if the first counts the rows and has a name, or none has one."""
    without, whole = dialect.of(kept[1:]), dialect.of(kept)
    numbers = f"{path}: column {kept[0] + 1}{f' ({short(header[kept[0]])})' if header else ''} counts the rows, " \
              f"{x[0, 0]:.0f} to {x[-1, 0]:.0f}"  # fmt: skip
    if header and header[kept[0]].lower() in dialect.ROW_NUMBERS:
        warn(f"{numbers}, and is not fitted; --columns {whole} keeps it")
        return kept[1:], x[:, 1:]
    if header:
        warn(f"{numbers}, and is fitted as data; --columns {without} leaves it out")
    elif len(x) >= dialect.FEW_ROWS:
        raise ValueError(f"{numbers}; leave it out by --columns {without}, or keep it by --columns {whole}")
    return kept, x


def warn(message: str) -> None:
    """Say what was made of a table; of several workers on one run, the first does."""
    index = re.search(r'"index": *"?([0-9]+)', os.environ.get("TF_CONFIG", ""))
    if os.environ.get("RANK", index[1] if index else "0") == "0":
        warnings.warn(message, UserWarning, stacklevel=4)
