"""Timing side by side: contenders for one piece of work take turns; what counts is the ratio of their medians.

A family of rows is a module with a function ``cases(quick)`` that yields `Case` objects; ``__main__`` lists
the families. On a machine that is not idle, seconds mean little; since the contenders alternate, their
ratios still do.
"""

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

clock: Callable[[], float] = time.perf_counter  # `--busy` counts the processor's time instead


@dataclass
class Case:
    """One piece of work, and who does it.

    ``ours`` and ``floors`` are by framework, ``peers`` by name; each is called without arguments, and what
    ``ours`` and ``peers`` return is held together by ``agree``. A floor is the least that our way of doing
    the work must compute.
    """

    work: str
    shape: str
    dtype: str
    ours: dict[str, Callable[[], Any]]
    peers: dict[str, Callable[[], Any]] = field(default_factory=dict)
    floors: dict[str, Callable[[], Any]] = field(default_factory=dict)
    agree: Callable[[dict[str, Any]], None] = lambda results: None


def measure(case: Case, repeats: int) -> list[dict[str, Any]]:
    """A row for each framework and peer: median seconds, their ratio, and the share of the floor in ours."""
    sides = {"ours": case.ours, "peer": case.peers, "floor": case.floors}
    contenders = {(side, name): call for side, calls in sides.items() for name, call in calls.items()}
    first = {key: timed(call) for key, call in contenders.items()}
    case.agree({" ".join(key): result for key, (_, result) in first.items() if key[0] != "floor"})
    turns = [{key: timed(call)[0] for key, call in contenders.items()} for _ in range(repeats)]
    median = {key: statistics.median(turn[key] for turn in turns) for key in contenders}
    rows = []
    for framework in case.ours:
        ours, floor = median["ours", framework], median.get(("floor", framework))
        shared = dict(work=case.work, framework=framework, shape=case.shape, dtype=case.dtype, seconds=ours)
        shared |= dict(floor_seconds=floor, fraction_of_floor=floor and floor / ours)
        shared["first_call_more"] = first["ours", framework][0] - ours
        for peer in case.peers or [None]:
            theirs = median.get(("peer", peer))
            rows.append(shared | dict(peer=peer, peer_seconds=theirs, speedup=theirs and theirs / ours))
    return rows


# The headings of the table, by what a row calls its fields.
HEADINGS = dict(work="work", shape="shape", dtype="dtype", framework="framework", seconds="seconds", peer="peer")
HEADINGS |= dict(peer_seconds="its seconds", speedup="times faster", fraction_of_floor="share of floor")
HEADINGS |= dict(first_call_more="first call +s")


def table(rows: Iterable[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [tuple(HEADINGS.values())]
    for row in rows:
        cells = (row[name] for name in HEADINGS)
        lines.append(tuple("" if c is None else f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """The seconds of a call, and its result."""
    start = clock()
    result = call()
    return clock() - start, result
