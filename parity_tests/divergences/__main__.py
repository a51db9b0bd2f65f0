"""Measure the catalogue and print it: python -m parity_tests.divergences; in full: build/divergences.md."""

import ast
import re
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from types import ModuleType
from typing import Any

from common.runs.folder import versions
from common.runs.script import without_native_stderr

with without_native_stderr():
    import tf2_impl  # noqa: F401  (silences TensorFlow's log before its first import)
    import tensorflow as tf  # isort: skip
import torch
from tqdm import tqdm

from parity_tests.divergences import ENTRIES, PAGES
from parity_tests.divergences.bites import PAIRS, counted
from parity_tests.divergences.catalogue import Entry, Measured, names

Rows = Sequence[tuple[Entry, dict[str, Measured]]]
REPORT = Path(__file__).parents[2] / "build" / "divergences.md"
HEADINGS = ["PyTorch", "TensorFlow, Keras", "measured", "after the remedy"]
SHARES = (0.3, 0.34, 0.2, 0.16)  # of the table's width
MARGIN = " " * 7
BOOK = Path(__file__).parents[2] / "common" / "book" / "pages"
ROUNDING = 1e-4  # a row whose difference is smaller comes after all others
OURS = re.compile(r"torch.*|F|nn|ours|dropout|optimizer")
THEIRS = re.compile(r"tf.*|keras|theirs|adam|velocity")
NOT_RUN = "<!-- not run: a part of an entry of the catalogue, which its own test runs -->"


def cells(entry: Entry, measured: dict[str, Measured]) -> list[str]:
    """The texts of a row: both sides, the default difference, and the difference after the remedy."""
    remedied = [f"{m.remedied:.0e}".replace("0e+00", "0") for m in measured.values()]
    if entry.size is None:
        return [entry.pytorch, "", "no divergence", remedied[0]]
    default = [f"{entry.in_words(m.default)}{' in float32' * (d == 'float32')}" for d, m in measured.items()]
    return [entry.pytorch, entry.tensorflow, "; ".join(default), "; ".join(remedied)]


def columns(texts: Sequence[str], widths: Sequence[int]) -> list[str]:
    """The lines of a row of a table whose cells are wrapped to their columns' widths."""
    wrapped = (textwrap.wrap(text, width) for text, width in zip(texts, widths, strict=True))
    rows = zip_longest(*wrapped, fillvalue="")
    return [(MARGIN + "  ".join(map(str.ljust, row, widths))).rstrip() for row in rows]


def table(rows: Rows, width: int) -> str:
    """All entries in columns that fit the width, each under its title, with the remedy's code below."""
    widths = [int(share * (width - 13)) for share in SHARES]
    lines, page = columns(HEADINGS, widths), None
    for entry, measured in rows:
        if entry.page != page:
            page = entry.page
            lines += ["", page.__doc__.partition("\n")[0].rstrip(".").upper(), "-" * width]
        lines += textwrap.wrap(f"{entry.row:5}  {entry.title}", width, subsequent_indent=MARGIN)
        texts = cells(entry, measured)
        if entry.size is None:
            lines += columns([texts[0], *texts[2:]], [widths[0] + widths[1] + 2, *widths[2:]])
            continue
        lines += columns(texts, widths)
        lines.append(f"{MARGIN}> {side(entry)}:")
        for statement in entry.remedy.split("; "):
            lines += textwrap.wrap(f"> {statement}", width, initial_indent=MARGIN, subsequent_indent=f"{MARGIN}      ")
    return "\n".join(lines)


def side(entry: Entry) -> str:
    """Which framework's code a remedy changes: as stated, or as the names in it say."""
    used = names(ast.parse(entry.remedy))
    if entry.stated or "draws" in used:
        return entry.stated or "for both, in NumPy"
    ours, theirs = (any(map(pattern.fullmatch, used)) for pattern in (OURS, THEIRS))
    return {(1, 0): "in PyTorch", (0, 1): "in TensorFlow", (1, 1): "in both"}[ours, theirs]


def ranked(rows: Rows, bites: Counter[str]) -> Rows:
    """The rows, those that bite in most pairs first; rounding after the others, agreements last."""

    def rank(row: tuple[Entry, Any]) -> tuple[bool, bool, int]:
        return row[0].size is None, row[0].size is not None and row[0].size[0] < ROUNDING, -bites[row[0].row]

    return sorted(rows, key=rank)


def as_typed(text: str) -> str:
    """Markdown in which an asterisk is an asterisk."""
    return text.replace("*", "\\*")


def chapter(page: ModuleType, rows: Rows) -> str:
    """The entries of one kind, each with what happens, how much, and the remedy's code."""
    title, _, prose = page.__doc__.strip().partition("\n")
    parts = [f"## {title.rstrip('.')}\n\n{prose.strip()}".rstrip() + "\n"]
    for entry, measured in rows:
        if entry.page != page:
            continue
        texts = cells(entry, measured)
        parts.append(f"### {entry.row} {entry.title}\n\n{entry.prose}\n")
        if entry.size is None:
            parts.append(f"No divergence: {entry.pytorch}. Measured: {texts[3]}.\n")
            continue
        row = " | ".join(text.replace("|", "\\|") for text in map(as_typed, texts))
        parts.append(f"| {' | '.join(HEADINGS)} |\n|{' --- |' * 4}\n| {row} |\n\nThe remedy, {side(entry)}:\n")
        parts.append(f"{NOT_RUN}\n```python\n{entry.code}\n```\n")
    return "\n".join(parts)


def opening(rows: Rows, bites: Counter[str]) -> str:
    """What the catalogue is, by what it is ordered, and its first ten entries."""
    first = (as_typed(f"- {e.row}, {e.title}. PyTorch: {e.pytorch}. Keras: {e.tensorflow}.") for e, _ in rows[:10])
    return (
        "# Where PyTorch and TensorFlow 2 differ, and what to do\n\n"
        f"Measured by `make divergences` on the CPU with {', '.join(f'{k} {v}' for k, v in versions().items())}. Sizes "
        "are relative to the largest entry unless a unit is named. Each entry is a function of its row's name in "
        "`parity_tests/divergences/`, and a test that runs the remedy's code. "
        "A remedy says which side it changes; copied into an empty file it runs, once the tensors, layers and "
        "optimizers are there that it calls yours.\n\n"
        f"Ordered by how often a row bites: in how many of {PAIRS} [pairs of a model and its port](port_bugs.md) the "
        "row's mistake, made to one of the original's calls or to its optimizer, would change a number. Rows below "
        f"{ROUNDING:g} come after all others, whatever their count. These pairs are a sample that someone chose; "
        "initial values, seeds and number types are no mistake of a call, so that they count none, though every port "
        "that trains from scratch meets them.\n\n"
        "The ten that will bite you first:\n\n" + "\n".join(first) + "\n"
    )


def markdown(rows: Rows, bites: Counter[str]) -> str:
    """The catalogue in one file."""
    return "\n".join([opening(rows, bites), *(chapter(page, rows) for page in PAGES)])


def write_pages(rows: Rows, bites: Counter[str], folder: Path) -> None:
    """The catalogue as pages of the book: the opening with every row in its order, and a page a kind."""
    listed = [f"| row | what differs | bites in, of {PAIRS} | page |", "| --- | --- | --- | --- |"]
    for entry, _ in rows:
        page = f"[{heading(entry.page)}](divergences_{name(entry.page)}.md)"
        listed.append(f"| {entry.row} | {entry.title} | {bites[entry.row] or ''} | {page} |")
    text = "\n".join([opening(rows, bites), "All of them, in this order; rows that agree last:\n", *listed])
    (folder / "divergences.md").write_text(text + "\n", encoding="utf-8")
    for page in PAGES:
        text = chapter(page, rows).replace("\n### ", "\n## ").removeprefix("#")
        (folder / f"divergences_{name(page)}.md").write_text(text, encoding="utf-8")


def heading(page: ModuleType) -> str:
    """A page's title."""
    return page.__doc__.partition("\n")[0].rstrip(".")


def name(page: ModuleType) -> str:
    """A page's name, as its file has it."""
    return page.__name__.rpartition(".")[2]


def main() -> int:
    """Measure, print and write; the exit code is 1 if an entry does not hold."""
    torch.set_num_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    progress = tqdm(ENTRIES, desc="measuring", leave=False, file=sys.stdout, disable=not sys.stdout.isatty())
    with without_native_stderr():
        rows = [(entry, {dtype: entry.measure(dtype) for dtype in entry.dtypes}) for entry in progress]
    print(table(rows, min(160, max(80, shutil.get_terminal_size((120, 24)).columns))))
    REPORT.parent.mkdir(exist_ok=True)
    bites = counted()
    rows = ranked(rows, bites)
    REPORT.write_text(markdown(rows, bites), encoding="utf-8")
    if "--book" in sys.argv[1:]:
        write_pages(rows, bites, BOOK)
    wrong = [entry.row for entry, measured in rows if not all(entry.holds(d, m) for d, m in measured.items())]
    divergences = sum(entry.size is not None for entry in ENTRIES)
    print(f"\n{divergences} divergences, {len(ENTRIES) - divergences} agreements; in full in build/{REPORT.name}")
    if wrong:
        print(f"not as stated on this machine: {', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
