"""Hold a model of your own against its port: values, gradients and whole trainings, each at the size of its rounding.

Everything comes as tensors of either framework, NumPy arrays or numbers, named or not:

    check_values({"loss": loss, **gradients}, {"loss": port_loss, **port_gradients})
    check_training(train, port, steps=100)     # train(step) makes an update and gives what the model then holds

A difference is measured relative to the largest entry of its tensor. Allowed are 8 machine epsilons times the
``condition``: by how much the computation magnifies a relative change of what enters it, 1 for a sum of terms of one
sign, sqrt(k) for an inner product of k terms. Who does not know it gives ``moved`` instead: the same results of one
framework from weights that `one_ulp_away` has moved by a single bit. What that changes is noise, and ten times as much
is allowed between frameworks.
"""

from collections.abc import Callable, Mapping
from math import sqrt
from typing import Any

import numpy as np

from common.arrays import as_array
from common.metrics import NOISE_FLOOR_RATIO, Difference, difference, noise_floor_ratio

EPSILONS = 8

Values = Mapping[str, Any]


def check_values(
    ours: Any, theirs: Any, condition: float = 1.0, moved: Any = None, where: str = ""
) -> dict[str, Difference]:
    """How far apart the values are, by name; arrays, or mappings from names to arrays, of one dtype.

    Whole numbers must be equal. None, the gradient of what the loss does not depend on, equals None alone. Raises
    AssertionError that names the first tensor that is further apart than rounding explains, ValueError if names, shapes
    or dtypes differ or an entry is not finite.
    """
    ours, theirs = _named(ours), _named(theirs)
    if ours.keys() != theirs.keys():
        raise ValueError(f"{sorted(ours.keys() ^ theirs.keys())} are not in both: give both the same names")
    found = {}
    for name, a in ours.items():
        b = theirs[name]
        if a is None or b is None:
            if a is not b:
                raise AssertionError(f"{name}{where}: None in {'ours' if a is None else 'theirs'}, not in the other")
            found[name] = Difference(0.0, 0.0, 0.0, 0, 1.0)
            continue
        try:
            found[name] = difference(a, b)
        except ValueError as error:
            raise ValueError(f"{name}{where}: {error}") from None
        if a.dtype.kind != "f":
            if not np.array_equal(a, b):
                raise AssertionError(f"{name}{where}: {np.sum(a != b)} of {a.size} whole numbers differ")
            continue
        if moved is not None:
            ratio = noise_floor_ratio(a, b, [_named(moved)[name]])
            if ratio > NOISE_FLOOR_RATIO:
                raise AssertionError(f"{name}{where}: {ratio:.1f} times as far apart as a change of the weights' last "
                                     f"bit explains; {NOISE_FLOOR_RATIO} times is allowed")  # fmt: skip
            continue
        allowed = EPSILONS * condition * float(np.finfo(a.dtype).eps)
        if (apart := found[name]).nmax > allowed:
            raise AssertionError(f"{name}{where}: {apart.nmax:.1e} of its scale apart, {apart.max_ulp} ULP; rounding "
                                 f"explains {allowed:.1e}")  # fmt: skip
    return found


def check_training(
    ours: Callable[[int], Values],
    theirs: Callable[[int], Values],
    steps: int,
    condition: float = 1.0,
    moved: Callable[[int], Values] | None = None,
) -> list[dict[str, Difference]]:
    """How far apart two trainings are after each of the steps 1, 2, ...; errors as of `check_values`, with the step.

    Each function makes one update and gives what the model then holds. The roundings of n updates are taken to be
    independent, which allows sqrt(n) times those of one.
    """
    course = []
    for step in range(1, steps + 1):
        values = ours(step), theirs(step), condition * sqrt(step), None if moved is None else moved(step)
        course.append(check_values(*values, where=f", step {step}"))
    return course


def _named(values: Any) -> dict[str, np.ndarray | None]:
    if isinstance(values, list | tuple) and any(hasattr(value, "dtype") or value is None for value in values):
        values = {str(i): value for i, value in enumerate(values)}  # gradients, in the order of their parameters
    named = values if isinstance(values, Mapping) else {"value": values}
    return {name: None if value is None else _array(name, value) for name, value in named.items()}


def _array(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(as_array(value, name))
    except TypeError:
        array = np.array(None)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} is a {type(value).__name__}, not an array of real numbers: make it a dense one")
    return array.astype(np.int64) if array.dtype.kind in "iu" else array  # frameworks count in different widths
