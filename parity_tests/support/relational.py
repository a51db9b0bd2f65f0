r"""Checks that need no tolerance: what a difference is compared with is measured, on the same machine, in the same run.

A tolerance is a number somebody chose; a reader has to trust it, and on another machine it may be wrong.
These ask instead: is the difference between the frameworks larger than what one of them makes of a change in
the last bit of its input? Is either further from the truth than it can help, or than the other? And, where
both are rounded, how many entries are expected to fall on different sides of a rounding boundary?
"""

from collections.abc import Callable

import numpy as np

from common.runs.network import MOMENTS
from parity_tests.support.oracle import grid_of, on_grid

Arrays = dict[str, np.ndarray]
TRUTH_RATIO = 4  # how many times the other's error one framework's may be


def errors_against_truth(a: np.ndarray, b: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """The errors of two float32 results against the float64 one, in float32 epsilons of the truth's scale."""
    scale = np.max(np.abs(truth)) * np.finfo(np.float32).eps
    return tuple(float(np.max(np.abs(value.astype(np.float64) - truth)) / scale) for value in (a, b))


def check_against_truth(what: str, a: np.ndarray, b: np.ndarray, truth: np.ndarray, condition: float) -> None:
    """Fail where either error is above 8 epsilon times the condition, or one is more than four times the other.

    Two errors that are both below an epsilon of the scale are rounding of the result itself, and are not
    divided.
    """
    errors = errors_against_truth(a, b, truth)
    assert max(errors) <= 8 * condition, (
        f"{what}: PyTorch is {errors[0]:.1f} and TensorFlow {errors[1]:.1f} float32 epsilons from the float64 result; "
        f"8 times the condition {condition:.0f} is allowed"
    )
    assert max(errors) <= TRUTH_RATIO * max(min(errors), 1.0), (
        f"{what}: PyTorch's error is {errors[0]:.2f} epsilons and TensorFlow's {errors[1]:.2f}: one loses digits that "
        "the other keeps"
    )


def check_masks(what: str, a: np.ndarray, b: np.ndarray, condition: float) -> int:
    """Fail if a ReLU is on in one framework and off in the other, unless its input is zero but for rounding.

    `a` and `b` are the pre-activations; returns the number of such units.
    """
    flipped = (a > 0) != (b > 0)
    allowed = 32 * np.finfo(a.dtype).eps * condition * np.max(np.abs(a))
    assert np.all(np.abs(a[flipped]) <= allowed), f"{what}: ReLUs differ at inputs of {np.abs(a[flipped]).max():.1e}"
    return int(flipped.sum())


def expected_flips(learners: tuple, x: np.ndarray, noise: np.ndarray, state: Arrays, step: int) -> float:
    r"""The expected number of entries of all gradients that rounding lets differ in the next update.

    Both learners start from one `state` after `step` updates. An entry that differs by $\delta$ before it is
    rounded to a grid of spacing $h$ falls on two sides of a boundary with probability $|\delta| / h$, a
    boundary's position being independent of the framework; so the sum of $|\delta| / h$ over all entries is
    the expected number that differ after rounding. It is the whole state's: from gradients that are rounded
    alike, parameters and moments follow by sums, products, quotients and correctly rounded roots, and must be
    the same bytes even before the parameters are rounded.
    """
    for learner in learners:
        learner.set_state(state, step)
    ours, theirs = (learner.loss_and_gradients(x, noise)[1] for learner in learners)
    second = {name: state[f"{MOMENTS[1]}{name}"] for name in ours}
    rounded = {name: on_grid(gradient, second[name]) for name, gradient in ours.items()}
    next_ours, next_theirs = (learner.before_rounding(rounded) for learner in learners)
    name = first_difference(next_ours, next_theirs, lambda a, b: np.asarray(a).tobytes() != np.asarray(b).tobytes())
    assert name is None, f"step {step + 1}: {name} is the first tensor to differ, from equal gradients"
    return float(sum(np.abs(g - theirs[name]).sum() / grid_of(g, second[name]) for name, g in ours.items()))


def first_difference(a: Arrays, b: Arrays, apart: Callable[[np.ndarray, np.ndarray], bool]) -> str | None:
    """The name of the first array in which two states are apart; None if there is none."""
    return next((name for name in a if apart(a[name], b[name])), None)
