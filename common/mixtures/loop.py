"""The loop around any EM, as a generator that says how far each iteration moved the bound, and ends where it is still.

    for step in em(algorithm.iterate, start, range(1, max_iter + 1), tol):
        print(step.number, step.bound)

It knows nothing of the model and nothing of tensors, and serves maximum likelihood, MAP, missing data,
variational inference and the mixture of coins alike.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np


class Iteration(NamedTuple):
    """One E step and one M step: the parameters before and after, the bound, and its change since the last one."""

    number: int
    before: Any
    after: Any
    bound: float
    change: float
    converged: bool  # whether the change is less than the tolerance; EM stops there


def em(
    iterate: Callable[[Any], tuple[Any, Any]],
    start: Any,
    numbers: Iterable[int],
    tol: float,
    bound: float = -np.inf,
    n: int = 1,
) -> Iterator[Iteration]:
    """Iterate from the parameters ``start`` until the bound changes by less than ``tol``, or ``numbers`` end.

    ``iterate(parameters)`` gives the new parameters and the objective, most often that of the old ones; the
    bound is the objective over ``n``, the number of points where it is to be theirs on average. The first
    change is from ``bound``, which a run that goes on from an earlier one has.
    """
    after = start
    for number in numbers:
        before, bound_before = after, bound
        after, objective = iterate(before)
        bound = float(objective) / n
        change = bound - bound_before
        converged = abs(change) < tol
        yield Iteration(number, before, after, bound, change, converged)
        if converged:
            return
