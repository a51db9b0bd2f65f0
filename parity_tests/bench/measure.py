"""Timing side by side: contenders for one piece of work take turns, and what counts is the ratio of their medians.

A family of rows is a module with a function ``cases(quick)`` that yields `Case` objects; ``__main__`` lists the
families. On a machine that is not idle, seconds mean little; since the contenders alternate, their ratios still do.
"""

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Case:
    """One piece of work, and who does it.

    ``ours`` and ``floors`` are by framework, ``peers`` by name; each is called without arguments, and what ``ours`` and
    ``peers`` return is held together by ``agree``. A floor is the least that our way of doing the work must compute.
    """

    work: str
    shape: str
    dtype: str
    ours: dict[str, Callable[[], Any]]
    peers: dict[str, Callable[[], Any]] = field(default_factory=dict)
    floors: dict[str, Callable[[], Any]] = field(default_factory=dict)
    agree: Callable[[dict[str, Any]], None] = lambda results: None


def measure(case: Case, repeats: int) -> list[dict[str, Any]]:
    """A row for every framework and peer: median seconds of each, their ratio, and the share of the floor in ours."""
    contenders = {("ours", name): call for name, call in case.ours.items()}
    contenders |= {("peer", name): call for name, call in case.peers.items()}
    contenders |= {("floor", name): call for name, call in case.floors.items()}
    first, seconds = {}, {key: [] for key in contenders}
    results = {}
    for key, call in contenders.items():
        first[key], result = _timed(call)
        if key[0] != "floor":
            results[" ".join(key)] = result
    case.agree(results)
    for _ in range(repeats):
        for key, call in contenders.items():
            seconds[key].append(_timed(call)[0])
    median = {key: statistics.median(values) for key, values in seconds.items()}
    rows = []
    for framework in case.ours:
        ours, floor = median["ours", framework], median.get(("floor", framework))
        shared = dict(work=case.work, framework=framework, shape=case.shape, dtype=case.dtype, seconds=ours)
        shared["first_call_more"] = first["ours", framework] - ours
        for peer in case.peers or [None]:
            theirs = None if peer is None else median["peer", peer]
            rows.append(
                shared
                | dict(peer=peer, peer_seconds=theirs, speedup=None if theirs is None else theirs / ours)
                | dict(floor_seconds=floor, fraction_of_floor=None if floor is None else floor / ours)
            )
    return rows


COLUMNS = {
    "work": "work", "shape": "shape", "dtype": "dtype", "framework": "framework", "seconds": "seconds",
    "peer": "peer", "peer_seconds": "its seconds", "speedup": "times faster",
    "fraction_of_floor": "share of floor", "first_call_more": "first call +s",
}  # fmt: skip


def table(rows: Iterable[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [tuple(COLUMNS.values())]
    for row in rows:
        cells = (row[name] for name in COLUMNS)
        lines.append(tuple("" if c is None else f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result
