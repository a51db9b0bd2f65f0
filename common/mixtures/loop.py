"""The loop around any EM: iterate, keep the bound, stop when it no longer moves.

The loop knows nothing of the model and nothing of tensors. It is given one function, which does an E step and an M
step, and serves maximum likelihood, MAP, missing data and variational inference alike.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

P = TypeVar("P")
CRITERIA = ("bound", "parameters")


class EMResult(NamedTuple):
    """The end of a run: the last parameters, the bound of every iteration, whether it converged, its iterations."""

    parameters: Any
    bounds: list[float]
    converged: bool
    n_iter: int


def run_em(
    iterate: Callable[[P], tuple[P, float]],
    parameters: P,
    *,
    tol: float,
    max_iter: int,
    bound: float = -np.inf,
    on_iteration: Callable[[int, P, float], None] | None = None,
    criterion: str = "bound",
    go_on: Callable[[], bool] = lambda: True,
) -> EMResult:
    """Iterate from ``parameters`` until the criterion is met, or ``max_iter`` times.

    ``iterate`` does one E step and one M step; it returns the new parameters and the objective at the *old* ones.
    ``parameters`` is one tensor or a (named) tuple of them. ``bound`` is what the first objective is compared with: a
    run that goes on from an earlier one gives the last bound of that one.

    criterion "bound": stop when the objective changed by less than ``tol``, |L - L_previous| < tol.
    criterion "parameters": stop when no entry of any tensor changed by ``tol`` times the largest entry of its tensor.

    ``on_iteration(iteration, parameters, bound)`` is called after every iteration, counted from 1, with the parameters
    *before* it, to which the bound belongs. It is the place to print, and to raise an error that knows the model.
    ``go_on()`` is asked before every iteration and ends the run by answering False.
    Raises ValueError for an unknown criterion, and for a bound that is NaN or infinite if ``on_iteration`` did not.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"criterion={criterion!r} must be one of {', '.join(CRITERIA)}")
    bounds: list[float] = []
    converged = False
    for iteration in range(1, max_iter + 1):
        if not go_on():
            break
        previous, before = bound, parameters
        parameters, objective = iterate(parameters)
        bound = float(objective)
        if on_iteration is not None:
            on_iteration(iteration, before, bound)
        if not np.isfinite(bound):
            raise ValueError(f"the bound became {bound} at iteration {iteration}: scale the data or start elsewhere")
        bounds.append(bound)
        change = abs(bound - previous) if criterion == "bound" else _largest_change(before, parameters)
        if converged := change < tol:
            break
    return EMResult(parameters, bounds, converged, len(bounds))


def _largest_change(before: Any, after: Any) -> float:
    if isinstance(after, tuple):
        return max(_largest_change(old, new) for old, new in zip(before, after, strict=True))
    old, new = np.asarray(before), np.asarray(after)
    # a tensor of zeros that stays so has not changed: 0 / tiny = 0
    return float(np.abs(new - old).max() / max(np.abs(new).max(), np.finfo(np.float64).tiny))
