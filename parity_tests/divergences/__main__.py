"""Measure the catalogue now and print it: python -m parity_tests.divergences. The long form: build/divergences.md."""

import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from common.runs.folder import versions
from common.runs.script import without_native_stderr

with without_native_stderr():
    import tf2_impl  # noqa: F401  (silences TensorFlow's log before its first import)
    import tensorflow as tf  # isort: skip
import torch
from tqdm import tqdm

from parity_tests.divergences import ENTRIES, PAGES
from parity_tests.divergences.catalogue import Entry, Measured

Rows = Sequence[tuple[Entry, dict[str, Measured]]]
REPORT = Path(__file__).parents[2] / "build" / "divergences.md"
HEADINGS = ("", "PyTorch", "TensorFlow, Keras", "measured", "after the remedy")
SHARES = (0.3, 0.34, 0.2, 0.16)  # of the width, for all columns but the first


def sizes(entry: Entry, measured: dict[str, Measured]) -> tuple[str, str]:
    """The default difference and what the remedy leaves, in words."""
    if entry.size is None:
        return "no divergence", f"{measured['float64'].remedied:.0e}".replace("0e+00", "0")
    default = "; ".join(f"{entry.shown(m.default)}{' in float32' * (d == 'float32')}" for d, m in measured.items())
    return default, "; ".join(f"{m.remedied:.0e}".replace("0e+00", "0") for m in measured.values())


def table(rows: Rows, width: int) -> str:
    """All entries in columns that fit the width, each under its title, with the remedy's code below."""
    first = 5
    widths = [int(share * (width - first - 8)) for share in SHARES]

    def columns(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
        wrapped = [textwrap.wrap(cell, size) or [""] for cell, size in zip(cells, widths, strict=True)]
        padded = [cell + [""] * (max(map(len, wrapped)) - len(cell)) for cell in wrapped]
        lines = zip(*padded, strict=True)
        return ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]

    lines, theme = columns(HEADINGS, [first, *widths]), None
    for entry, measured in rows:
        if entry.theme != theme:
            theme = entry.theme
            lines += ["", theme.upper(), "-" * width]
        lines += textwrap.wrap(f"{entry.row:{first}}  {entry.title}", width, subsequent_indent=" " * (first + 2))
        if entry.size is None:
            both = widths[0] + widths[1] + 2
            lines += columns(["", entry.pytorch, *sizes(entry, measured)], [first, both, *widths[2:]])
            continue
        lines += columns(["", entry.pytorch, entry.tensorflow, *sizes(entry, measured)], [first, *widths])
        for statement in entry.remedy.split("; "):
            indent = " " * (first + 2)
            lines += textwrap.wrap(f"> {statement}", width, initial_indent=indent, subsequent_indent=f"{indent}      ")
    return "\n".join(lines)


def markdown(rows: Rows) -> str:
    """The catalogue as a page: grouped, each entry with what happens, how much, and the remedy's code."""
    seen = versions()
    parts = [
        "# Where PyTorch and TensorFlow 2 differ, and what to do\n\n"
        f"Measured by `make divergences` on the CPU with {', '.join(f'{k} {v}' for k, v in seen.items())}. Sizes are "
        "relative to the largest entry unless a unit is named. Each entry is a function of its row's name in "
        "`parity_tests/divergences/`, and a test.\n"
    ]
    for page in PAGES:
        title, _, prose = page.__doc__.strip().partition("\n")
        parts.append(f"## {title.rstrip('.')}\n\n{prose.strip()}\n" if prose.strip() else f"## {title.rstrip('.')}\n")
        for entry, measured in rows:
            if entry.function.__module__ != page.__name__:
                continue
            default, after = sizes(entry, measured)
            parts.append(f"### {entry.row} {entry.title}\n\n{entry.function.__doc__}\n")
            if entry.size is None:
                parts.append(f"No divergence: {entry.pytorch}. Measured: {after}.\n")
                continue
            code = entry.remedy.replace("; ", "\n")
            parts.append(
                f"| PyTorch | TensorFlow, Keras | measured | after the remedy |\n| --- | --- | --- | --- |\n"
                f"| {cell(entry.pytorch)} | {cell(entry.tensorflow)} | {cell(default)} | {after} |\n\n"
                f"```python\n{code}\n```\n"
            )
    return "\n".join(parts)


def cell(text: str) -> str:
    """Text that may stand in a Markdown table."""
    return text.replace("|", "\\|").replace("*", "\\*")


def main() -> int:
    """Measure, print and write; the exit code is 1 if an entry is not as it says."""
    torch.set_num_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    with without_native_stderr():
        rows = [
            (entry, {dtype: entry.measure(dtype) for dtype in entry.dtypes})
            for entry in tqdm(ENTRIES, desc="measuring", leave=False, file=sys.stdout, disable=not sys.stdout.isatty())
        ]
    print(table(rows, min(160, max(80, shutil.get_terminal_size((120, 24)).columns))))
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(markdown(rows), encoding="utf-8")
    wrong = [entry.row for entry, measured in rows if not all(entry.holds(d, m) for d, m in measured.items())]
    shown = sum(entry.size is not None for entry in ENTRIES)
    print(f"\n{shown} divergences, {len(ENTRIES) - shown} agreements; in full in build/{REPORT.name}")
    if wrong:
        print(f"not as stated on this machine: {', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
