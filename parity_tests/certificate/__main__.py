"""Score every chapter: python -m parity_tests.certificate [--only WORD] [--ship]; rows in build/certificate.json"""

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpmath import mp
from sklearn.exceptions import ConvergenceWarning

from common.book.chapters import HOUSE, PARTS
from common.runs.folder import versions
from common.runs.script import without_native_stderr

with without_native_stderr():
    import tf2_impl  # noqa: F401  (silences TensorFlow's log before its first import)
    import tensorflow as tf  # isort: skip
import torch

from parity_tests.certificate import ROWS, TRIALS
from parity_tests.certificate.scoring import Framework, Row, Trial, as_list, exact, score
from parity_tests.support.frameworks import pair

ROOT = Path(__file__).parents[2]
REPORT, PAGE = ROOT / "build" / "certificate.json", ROOT / "common" / "book" / "pages" / "certificate.md"
FRAMEWORKS = [Framework(module) for module in pair("gmm")]


def scored(row: Row) -> dict[str, Any]:
    """A row and its correct digits."""
    answers = as_list(row.answer)
    digits, given = zip(*(score(row, answers, framework) for framework in FRAMEWORKS), strict=True)
    shown = ", ".join(a if isinstance(a, str) else mp.nstr(exact(a), 8) for a in answers[:2])
    kept = {"quantity": row.what, "answer": shown + ", ..." * (len(answers) > 2), "source": row.source}
    kept |= {"digits": given[0], "found": [int(10 * d) / 10 for d in digits], "limit": row.limit}
    return kept | {"chapter": row.chapter, "reached": min(digits) >= min(row.least, given[0])}


def tried(trial: Trial) -> dict[str, Any]:
    """A simulation and its numbers."""
    values = [float(f"{trial.compute(framework):.3g}") for framework in FRAMEWORKS]
    kept = {"quantity": trial.what, "expected": trial.expected, "found": values, "chapter": trial.chapter}
    return kept | {"reached": all(trial.low <= value <= trial.high for value in values)}


def table(title: str, heads: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    """A section of the page with a table: the rows' values in their order, but for the chapter and what is reached."""
    lines = [f"## {title}", "", f"| {heads} |", f"|{' --- |' * (heads.count('|') + 1)}"]
    for row in rows:
        cells = [[f"{v:g}" for v in value] if isinstance(value, list) else [value] for value in list(row.values())[:-2]]
        lines.append(
            "| " + " | ".join(f"{cell:g}" if isinstance(cell, float) else cell for of in cells for cell in of) + " |"
        )
    return [*lines, ""]


def tables(rows: Sequence[dict], trials: Sequence[dict]) -> str:
    """The tables of the page: one a chapter, in reading order, and that of the simulations."""
    heads, titles = "quantity | answer | by | digits | PyTorch | TensorFlow | limited by", {}
    for part in (*PARTS.values(), HOUSE):
        titles |= part
    chapters = {title: [row for row in rows if row["chapter"] == name] for name, title in titles.items()}
    lines = [line for title, of in chapters.items() if of for line in table(title, heads, of)]
    return "\n".join([*lines, *table("By simulation", "quantity | should be | PyTorch | TensorFlow", trials)])


def main(arguments: list[str] | None = None) -> int:
    """Run, print and write; the exit code is 1 if a row has fewer digits than it should."""
    parser = argparse.ArgumentParser(prog="python -m parity_tests.certificate", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORD", help="rows whose chapter or quantity has this word")
    parser.add_argument("--ship", action="store_true", help="put the tables into the book's page")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore", ConvergenceWarning)
    torch.set_num_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    kept: dict[str, list] = {"rows": [], "trials": []}
    for kind, entries, run in (("rows", ROWS, scored), ("trials", TRIALS, tried)):
        for entry in (e for e in entries if given.only in f"{e.chapter} {e.what}"):
            kept[kind].append(row := run(entry))
            numbers = " ".join(f"{number:9g}" for number in row["found"])
            print(f"{'' if row['reached'] else 'LOW':4}{numbers}  {row['chapter']}: {row['quantity']}", flush=True)
    low = sum(not row["reached"] for rows in kept.values() for row in rows)
    print(f"{len(kept['rows'])} answers and {len(kept['trials'])} simulations, {low} missed")
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps({"versions": versions(), **kept}, indent=1) + "\n", encoding="utf-8")
    if given.ship:
        PAGE.write_text(f"{PAGE.read_text(encoding='utf-8').partition('## ')[0]}{tables(**kept)}", encoding="utf-8")
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
