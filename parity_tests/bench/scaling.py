"""The time of an EM iteration as the data grow: points, features, components, one at a time."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from common.figures.runs import COLOURS, STYLE
from parity_tests.bench.em import em_case
from parity_tests.bench.measure import Case

ITERATIONS = 4
BASE = {"N": 100_000, "D": 8, "K": 8}
GRIDS = {"N": (50_000, 200_000, 800_000), "D": (2, 8, 32), "K": (4, 16, 64)}
MEANING = {"N": "points N", "D": "features D", "K": "components K"}


def cases(quick: bool) -> Iterator[Case]:
    """A case for every point of the plots."""
    for axis, grid in GRIDS.items():
        for value in grid:
            n, d, k = (BASE | {axis: value}).values()
            case = em_case(n // 10 if quick else n, d, k, "float64", ITERATIONS, ("numpy",))
            case.work = f"scaling with {axis}"
            yield case


def figure(rows: list[dict[str, Any]]) -> Figure:
    """Seconds an iteration against N, D and K, ours and scikit-learn's."""
    with rc_context(STYLE):
        drawn = Figure(figsize=(11, 3.8))
        for axes, axis in zip(drawn.subplots(1, 3, sharey=True), GRIDS, strict=True):
            chosen = [row for row in rows if row["work"] == f"scaling with {axis}"]
            sides = {"scikit-learn": ("tf2", "peer_seconds"), "PyTorch": ("pytorch", "seconds")}
            sides |= {"TensorFlow": ("tf2", "seconds")}
            for (name, (framework, column)), colour in zip(sides.items(), (COLOURS[-1], *COLOURS[1::-1]), strict=True):
                points = [(row["shape"], row[column]) for row in chosen if row["framework"] == framework]
                sizes = [int(shape.split(" x ")["NDK".index(axis)]) for shape, _ in points]
                axes.loglog(sizes, np.array([s for _, s in points]) / ITERATIONS, "o-", color=colour, label=name)
                axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
            axes.minorticks_off()
            others = ", ".join(f"{name} = {value:,}" for name, value in BASE.items() if name != axis)
            axes.set(xlabel=MEANING[axis], title=others)
        drawn.axes[0].set_ylabel("seconds for an iteration")
        drawn.axes[0].legend()
        return drawn
