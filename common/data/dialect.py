"""The meaning of a table's text: its separator, its numbers, its header, and which of its columns are asked for."""

import csv
import itertools
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from common.data.messages import nearest, short

SEPARATORS = "\t;,| "
COMMENTS = ("#", "%")
# "#N/A" is Excel's; "?" is usual in the UCI repository.
MISSING = {"", "NA", "N/A", "n/a", "#N/A", "<NA>", "NULL", "null", "None", "?"}
DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?")
THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}([,.'’ \u00a0\u202f][0-9]{3})+([.,][0-9]+)?")
NO_NAME = re.compile(r"(Unnamed: [0-9]+(\.[0-9]+)?)?")  # as pandas writes a column that had none
ROW_NUMBERS = {"index", "id", "row", "rownames", "row_names", "row.names", "rowname", "obs"}
FEW_ROWS = 10  # in fewer, numbers without a name that happen to count the rows mean nothing


class Line(NamedTuple):
    """A line of a table: where it ends in the file, its cells, and its text."""

    number: int
    cells: list[str]
    text: str


def number(cell: str) -> float | None:
    """The number in a cell, NaN if it says that it is missing, None if there is no number. A comma may be decimal."""
    if (cell := cell.strip()) in MISSING:
        return math.nan
    try:
        return float(cell) if "_" not in cell else None  # 1_000 is a number to Python, and to nobody else
    except ValueError:
        return float(cell.replace(",", ".")) if DECIMAL_COMMA.fullmatch(cell) else None


def separator(lines: Sequence[str]) -> str:
    """The character between the columns of the table that begins with these lines.

    It is one that gives the first two lines equally many columns, or else the first one less (R names no column of row
    names), and of several the one that leaves the most numbers in the second line.
    """
    best, found = (False, -1.0, 0), ","
    for candidate in SEPARATORS:
        first_two = list(itertools.islice(cells_of(lines, candidate), 2)) or [[]]
        first, second = first_two[0], first_two[-1]
        if len(second) > 1 and len(first) in (len(second), len(second) - 1):
            numbers = sum(number(cell) is not None for cell in second)
            if (score := (len(first) == len(second), numbers / len(second), numbers)) > best:
                best, found = score, candidate
    if best[1] < 0:  # one column, or ragged
        return next((each for each in SEPARATORS[:-1] if any(each in line for line in lines[:2])), ",")
    return found


def cells_of(lines: Sequence[str], separator: str) -> "csv.reader":
    """A reader of the cells of lines; of columns separated by spaces, several spaces are one."""
    if separator == " ":
        return csv.reader((line.rstrip() for line in lines), delimiter=" ", skipinitialspace=True)
    return csv.reader(lines, delimiter=separator)


def is_header(first: Line, second: Line | None = None) -> bool:
    """Whether the first line of a table names its columns.

    It does if it has text above a number, if it is all text, if it is quoted and the second line is not, and if it
    counts the columns as pandas does. A line with text only above text, and with numbers above numbers, is data.
    """
    text = [number(cell) is None for cell in first.cells]
    if second is None:
        return any(text)
    if not any(text):
        return ('"' in first.text and '"' not in second.text) or _counts_columns(first.cells, second.cells)
    if len(first.cells) != len(second.cells) or all(text):
        return True
    below = [number(cell) is None for cell in second.cells]
    corner = first.cells[0].strip() == "" != second.cells[0].strip()  # above row numbers
    return corner or any(above and not under for above, under in zip(text, below, strict=True))


def _counts_columns(first: Sequence[str], second: Sequence[str]) -> bool:
    # Whether the first line is 0,1,2,... after nothing above row numbers, or above numbers most of which have a point.
    corner = first[0].strip() == "" != second[0].strip()
    counted = [cell.strip() for cell in first[corner:]] == [str(i) for i in range(len(first) - corner)]
    return counted and len(first) > 1 and (corner or 2 * sum("." in cell for cell in second) > len(second))


def lacks_first_name(line: Line) -> bool:
    """Whether a line with one cell more than the header, the first of data, begins with a row's name, as R writes it.

    Row names are quoted or words, or they count. A line may also end in a separator that the header lacks.
    """
    first = number(line.cells[0])
    return line.cells[-1].strip() != "" and (line.text.startswith('"') or first is None or first in (0, 1))


def without_name(header: Sequence[str] | None, line: Line) -> int:
    """How many columns at the left have no name where others have one; ``line`` is the first one of data.

    Without a header, the first column counts as one if it alone is quoted: so R writes its row names.
    """
    if header is None:
        alone = line.text.startswith('"') and line.text.count('"') == 2 and number(line.cells[0]) is not None
        return int(alone and len(line.cells) > 1)
    nameless = len(list(itertools.takewhile(NO_NAME.fullmatch, header)))
    return nameless if nameless < len(header) else 0


def counts(values: Sequence[float]) -> bool:
    """Whether the values are 0, 1, 2, ... or 1, 2, 3, ..."""
    return values[0] in (0, 1) and all(value == i for i, value in enumerate(values, start=int(values[0])))


def name_rows(cells: Sequence[str]) -> bool:
    """Whether the cells of a column without a name are distinct words or whole numbers: what names rows."""
    values = map(number, cells)
    return all(value is None or value % 1 == 0 for value in values) and len(set(cells)) == len(cells)


class Columns(NamedTuple):
    """The columns of a table that are data, and the one that holds labels; ``chosen`` if --columns names them."""

    data: list[int]
    label: int | None
    chosen: bool


def find_columns(where: str, names: Sequence[str], label_column: str | None, columns: str | None) -> Columns:
    """The columns that are asked for; ValueError for one that is not there. All but the label's are data by default."""
    width, label = len(names), None
    if label_column is not None:
        found = _range(where, "--label-column", label_column, label_column, names)
        if width == 1 or found is None or len(found) != 1:
            raise ValueError(
                f"--label-column {short(label_column)}: {where} has {width} column(s) and none of that name or number "
                "beside data; name one of its header, or count from 1, or from -1 backwards"
                + nearest(label_column, filter(None, names))
            )
        label = found[0]
    if columns is None:
        return Columns([i for i in range(width) if i != label], label, False)
    data: list[int] = []
    for token in next(csv.reader([columns], skipinitialspace=True), []):
        found = _range(where, "--columns", columns, token.strip(), names)
        if not found or found == [label]:
            raise ValueError(
                f"--columns {short(columns)}: {where} has {width} column(s) and none that is {short(repr(token))}"
                f"{' beside the labels' if found else ''}; give names of its header, or numbers such as 1,3-5,-1"
                + nearest(token, filter(None, names))
            )
        data += [i for i in found if i not in data and i != label]
    if not data:
        raise ValueError(f"--columns {short(columns)!r}: names no column of {where}; give names, or numbers from 1")
    return Columns(data, label, True)


def _range(where: str, flag: str, value: str, token: str, names: Sequence[str]) -> list[int] | None:
    # The columns that a name, a number or a range such as 2-5 or 2- stands for; None if there are none such.
    if (same := [i for i, name in enumerate(names) if name == token and name]) or token == "":
        if len(same) > 1:
            raise ValueError(
                f"{flag} {short(value)}: {where} has {len(same)} columns of that name; give a number, such as "
                f"{same[0] + 1}"
            )
        return same or None
    found = re.fullmatch(r"(-?[1-9][0-9]{0,8})|([1-9][0-9]{0,8})-([1-9][0-9]{0,8})?", token, re.ASCII)
    if found is None:
        return None
    if found[1]:
        first = last = int(found[1]) + (len(names) + 1 if int(found[1]) < 0 else 0)
    else:
        first, last = int(found[2]), int(found[3] or len(names))
    return list(range(first - 1, last)) if 1 <= first <= last <= len(names) else None


def of(columns: Sequence[int]) -> str:
    """Columns as --columns takes them: runs of numbers."""
    runs: list[list[int]] = []
    for column in columns:
        if runs and runs[-1][1] == column:
            runs[-1][1] += 1
        else:
            runs.append([column + 1, column + 1])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
