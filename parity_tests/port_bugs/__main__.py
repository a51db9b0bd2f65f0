"""Check every pair and every planted bug with the porting tool: python -m parity_tests.port_bugs [PAIR...]"""

import argparse
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from common.runs.script import without_native_stderr

with without_native_stderr():
    import tf2_impl  # noqa: F401  (silences TensorFlow's log before its first import)
    import tensorflow as tf  # isort: skip
import torch

from parity_tests.port_bugs import BUGS
from parity_tests.port_bugs.problem import PAIRS, STEPS, Bug, Problem, build, precision
from portparity import Port

REPORT = Path(__file__).parents[2] / "build" / "port-bugs.md"
SEEDS, DTYPES = range(4), ("float32", "float64")


def check(problem: Problem) -> tuple[Port, Any]:
    """The porting tool's report of a pair."""
    port = Port(problem.model, problem.keras_model, problem.x, problem.y, problem.loss, problem.port_loss, problem.copy)
    if problem.steps:
        port.training(*problem.steps, steps=STEPS)
    return port, port.check()


def checked(function: Callable[..., Problem], seed: int = 0, dtype: str = "float64", **wrong: Any) -> tuple[Port, Any]:
    """The report of a pair that is built now."""
    with precision(dtype):
        return check(build(function, seed, dtype, **wrong))


def located(bug: Bug, port: Port, report: Any) -> int | None:
    """How many operations the first finding is from where the bug is: 0, 1, or None for more."""
    found = report.first
    if re.search(bug.where, f"{found.what}: {found.original}"):
        return 0
    operations = port.original.operations
    expected = {n for n, operation in enumerate(operations) if re.search(bug.where, str(operation))}
    there = {n for n, operation in enumerate(operations) if str(operation) == found.original}
    beside = {n + step for n in expected for step in (-1, 1)}
    for n in expected:
        beside |= {port.original.values[v].source for v in operations[n].inputs}
        beside |= {m for m, o in enumerate(operations) if set(o.inputs) & set(operations[n].outputs)}
    return 1 if there & beside else None


@cache
def noted(function: Callable[..., Problem]) -> str:
    """The notes on the correct port."""
    return "; ".join(checked(function)[1].notes)


def judged(bug: Bug) -> dict[str, Any]:
    """What the tool said of a bug, and whether it is right."""
    row = {"bug": bug, "detected": False, "place": None, "found": "", "rows": [], "cause": "", "named": False}
    try:
        port, report = checked(bug.pair, **bug.wrong)
    except Exception as error:  # a tool that ends in a traceback has not found the bug
        return row | {"found": f"{type(error).__name__}: {str(error)[:90]}", "misnamed": False}
    row |= {"detected": not report.agrees, "rows": report.rows}
    if report.agrees and bug.row:  # some differences are notes; they count where the correct port has none
        notes = [note for note in report.notes if f"row {bug.row}" in note and f"row {bug.row}" not in noted(bug.pair)]
        if notes:
            return row | {"detected": True, "place": 0, "found": notes[0], "named": True, "misnamed": False}
    if not report.agrees:
        row["place"] = located(bug, port, report)
        row["found"] = f"{report.first.what}: {report.first.original}"
        row["cause"] = "; ".join(finding.cause for finding in report.findings if finding.cause)
    row["named"] = bool(bug.row) and bug.row in report.rows
    row["misnamed"] = bool(set(report.rows) - {bug.row})
    return row


def alarmed(function: Callable[..., Problem], seed: int, dtype: str) -> str:
    """What the tool finds wrong with a correct port."""
    try:
        report = checked(function, seed, dtype)[1]
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:90]}"
    return "" if report.agrees else f"{report.first.what}: {report.first.original}; {report.first.cause}"


def line(row: dict[str, Any]) -> str:
    """A bug in a line of the table."""
    place = {0: "located", 1: "next to it", None: "elsewhere"}[row["place"]] if row["detected"] else "MISSED"
    name = ("named" if row["named"] else "not named") if row["bug"].row else ""
    name = f"MISNAMED {' '.join(row['rows'])}" if row["misnamed"] else name
    bug, cells = row["bug"], (place, row["bug"].row, name, f"{row['found']}; {row['cause']}".rstrip("; "))
    return " | ".join((f"{bug.pair.__name__}", bug.what, *cells))


def totals(rows: list[dict[str, Any]], alarms: list[str], runs: int) -> str:
    """The result, in numbers."""
    at, beside = (sum(row["place"] == place and row["detected"] for row in rows) for place in (0, 1))
    listed = [row for row in rows if row["bug"].row]
    return (
        f"{len(rows)} bugs in {len({row['bug'].pair for row in rows})} pairs: "
        f"{sum(row['detected'] for row in rows)} detected, "
        f"{at} located to the operation and {beside} to its neighbour, "
        f"{sum(row['named'] for row in rows)} of {len(listed)} that are in the catalogue named, "
        f"{sum(row['misnamed'] for row in rows)} misnamed; {len(alarms)} alarms on {runs} correct ports"
    )


def main(arguments: list[str] | None = None) -> int:
    """Check, print and write; the exit code is 1 unless all is detected, nothing misnamed, and no alarm false."""
    parser = argparse.ArgumentParser(prog="python -m parity_tests.port_bugs", description=__doc__)
    parser.add_argument("pairs", nargs="*", metavar="PAIR", help=f"these pairs only, of {', '.join(PAIRS)}")
    chosen = parser.parse_args(arguments).pairs or list(PAIRS)
    torch.set_num_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    rows, alarms, runs = [], [], 0
    lines = [
        "pair | bug | place | row | name | the first difference and its cause",
        "--- | --- | --- | --- | --- | ---",
    ]
    for bug in (bug for bug in BUGS if bug.pair.__name__ in chosen):
        rows.append(judged(bug))
        lines.append(line(rows[-1]))
        print(lines[-1], flush=True)
    for name in chosen:
        for seed in SEEDS:
            for dtype in DTYPES:
                runs += 1
                if alarm := alarmed(PAIRS[name], seed, dtype):
                    alarms.append(f"ALARM {name}, seed {seed}, {dtype}: {alarm}")
                    print(alarms[-1], flush=True)
    lines += ["", *alarms, "", totals(rows, alarms, runs)]
    print(lines[-1])
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    good = all(row["detected"] and not row["misnamed"] for row in rows) and not alarms
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
