"""EM run to its end, for tests of maths that is not part of an estimator."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from common.mixtures.loop import em


class Course(NamedTuple):
    """The last parameters, the bound of every iteration, and whether it converged."""

    parameters: Any
    bounds: list[float]
    converged: bool


def run_em(iterate: Callable, start: Any, tol: float, max_iter: int, until_still: bool = False) -> Course:
    """Iterate until the bound changes by less than ``tol``, or no parameter by ``tol`` of its scale."""
    parameters, bounds, converged = start, [], False
    for step in em(iterate, start, range(1, max_iter + 1), 0.0 if until_still else tol):
        parameters = step.after
        bounds.append(step.bound)
        converged = largest_change(step.before, step.after) < tol if until_still else step.converged
        if converged:
            break
    return Course(parameters, bounds, converged)


def largest_change(before: Any, after: Any) -> float:
    """The largest change of an entry, each tensor's relative to its largest."""
    pairs = [(np.asarray(old), np.asarray(new)) for old, new in zip(before, after, strict=True)]
    tiny = np.finfo(np.float64).tiny
    return max(float(np.abs(new - old).max() / max(np.abs(new).max(), tiny)) for old, new in pairs)
