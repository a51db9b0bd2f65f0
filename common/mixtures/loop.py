"""The loop around any EM, as a generator: it says how far each iteration moved the bound; its caller stops.

    for step in islice(em(algorithm.iterate, start), max_iter):
        if abs(step.change) < tol:
            break

It knows nothing of the model and nothing of tensors, and serves maximum likelihood, MAP, missing data, variational
inference and the mixture of coins alike.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np


class Iteration(NamedTuple):
    """One E step and one M step: the parameters before and after, the bound, and its change since the last one."""

    number: int  # from 1
    before: Any
    after: Any
    bound: float
    change: float


def em(
    iterate: Callable[[Any], tuple[Any, Any]], parameters: Any, bound: float = -np.inf, n: int = 1
) -> Iterator[Iteration]:
    """Iterate from ``parameters``, without end; a caller with most iterations takes a slice.

    ``iterate(parameters)`` gives the new parameters and the objective, most often that of the old ones; the bound is
    the objective over ``n``, the number of points where it is to be theirs on average. The first change is from
    ``bound``, which a run that goes on from an earlier one has.
    """
    for number in itertools.count(1):
        before, previous = parameters, bound
        parameters, objective = iterate(before)
        bound = float(objective) / n
        yield Iteration(number, before, parameters, bound, bound - previous)
