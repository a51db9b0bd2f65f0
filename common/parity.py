"""Compare a model of your own with its port: values, gradients and trainings, to the size of their rounding.

Values may be tensors of either framework, NumPy arrays or numbers, named or not:

    check_values({"loss": loss, **gradients}, {"loss": port_loss, **port_gradients})
    check_training(train, port, steps=100)  # train(step) makes an update and returns the model's values

A difference is measured relative to the largest entry of its tensor. It may be 8 machine epsilons times the
``condition``, the factor by which the computation magnifies a relative change of its input: 1 for a sum of terms
of one sign, sqrt(k) for an inner product of k terms. If you do not know the condition, give ``moved`` instead:
the results of one framework from weights that `one_ulp_away` has moved by a single bit. The change that this
makes is noise, and the frameworks may differ by ten times as much. Gradients that are zero but for rounding
raise no alarm, with either: they are nothing next to the other tensors.
"""

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from common import draws
from common.data.arrays import as_array

EPSILONS = 8
NOISE_FLOOR_RATIO = 10  # how many times the noise floor two frameworks may differ by
LARGEST_MOVEMENT = 1e-6  # of a tensor's largest entry: what moves more is no change of a last bit

Values = Mapping[str, Any]


class Difference(NamedTuple):
    """How two arrays of one shape and dtype differ."""

    max_abs: float  # max |a - b|
    nmax: float  # max |a - b| / max |a|
    l2: float  # ||a - b|| / ||a||, in the Euclidean norm
    max_ulp: int  # floating-point numbers between the two entries that are furthest apart
    bit_equal: float  # share of the entries whose bits agree


def difference(a: np.ndarray, b: np.ndarray) -> Difference:
    """Compare two arrays entry by entry; NaN and infinity are errors.

    Raises ValueError if shapes or dtypes differ, or if either array has an entry that is not finite.
    """
    a, b = np.array(a, order="C"), np.array(b, order="C")
    if a.shape != b.shape or a.dtype != b.dtype:
        raise ValueError(f"a is {a.shape} {a.dtype} and b is {b.shape} {b.dtype}: compare like with like")
    for name, value in (("a", a), ("b", b)):
        if not np.all(np.isfinite(value)):
            raise ValueError(f"{name} has {np.sum(~np.isfinite(value))} entries that are not finite: find their cause")
    if a.size == 0:
        return Difference(0.0, 0.0, 0.0, 0, 1.0)
    if a.dtype.kind in "iub":
        a, b = a.astype(np.float64), b.astype(np.float64)
    apart, size = np.abs(a.astype(np.float64) - b.astype(np.float64)), np.abs(a.astype(np.float64))
    max_abs, scale = float(apart.max()), float(size.max())
    nmax = l2 = 0.0 if max_abs == 0 else np.inf
    if scale > 0:  # divided by the scale first: the square of a number of 1e-200 is zero
        nmax, l2 = max_abs / scale, float(np.linalg.norm(apart / scale) / np.linalg.norm(size / scale))
    bit_equal = float(np.mean(a.view(_bits(a)) == b.view(_bits(b))))
    return Difference(max_abs, nmax, l2, int(ulp_distance(a, b).max()), bit_equal)


def ulp_histogram(a: np.ndarray, b: np.ndarray) -> list[int]:
    """The number of entries that are 0 ULP apart, 1, 2 to 3, 4 to 7, ..., up to the farthest."""
    distance = np.atleast_1d(ulp_distance(np.array(a, order="C"), np.array(b, order="C")))
    # frexp gives the place in the histogram: e with 2^(e-1) <= distance < 2^e, and 0 for 0
    return np.bincount(np.frexp(distance.ravel().astype(np.float64))[1]).tolist()


def one_ulp_away(arrays: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """The arrays with each entry moved to the next floating-point number, up or down by a coin toss."""
    moved = {}
    for step, (name, value) in enumerate(arrays.items()):
        up = draws.uniforms(seed, "sample", (value.size or 1,), 1000 + step)[: value.size].reshape(value.shape) < 0.5
        moved[name] = np.nextafter(value, np.where(up, np.inf, -np.inf).astype(value.dtype))
    return moved


def noise_floor_ratio(a: np.ndarray, b: np.ndarray, perturbed: Sequence[np.ndarray]) -> float:
    """|a - b| relative to the noise floor: how far a moves when the weights move by one unit in the last place.

    ``perturbed`` are results of one framework from perturbed weights; the largest movement counts. The floor is
    at least the spacing of numbers at the size of the result.
    """
    floor = max(float(np.max(np.abs(a - p), initial=0)) for p in perturbed)
    floor = max(floor, float(np.spacing(np.max(np.abs(a), initial=np.finfo(a.dtype).tiny))))
    return float(np.max(np.abs(a - b), initial=0)) / floor


def importance_standard_error(log_weights: np.ndarray) -> np.ndarray:
    """Standard error of log mean_s w_s, (N,), from the log weights (S, N): sd(w) / (mean(w) sqrt(S)), the delta method.

    Trust it only where it is small: a proposal that misses part of the posterior hides its own error.
    """
    weights = np.exp(log_weights - log_weights.max(axis=0))
    return weights.std(axis=0, ddof=1) / (weights.mean(axis=0) * np.sqrt(len(weights)))


def ulp_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Steps from a to b in the ordered list of floating-point numbers; +0 and -0 are the same number."""
    # Floats of one sign are ordered like their bits read as an integer; zero lies between the two signs.
    sign = np.iinfo(_bits(a)).min
    magnitude_a, magnitude_b = ((x.view(_bits(x)) & ~sign).astype(np.uint64) for x in (a, b))
    apart = np.maximum(magnitude_a, magnitude_b) - np.minimum(magnitude_a, magnitude_b)
    return np.where(np.signbit(a) == np.signbit(b), apart, magnitude_a + magnitude_b)


def _bits(a: np.ndarray) -> np.dtype:
    return np.dtype(f"i{a.dtype.itemsize}")


def check_values(
    ours: Any, theirs: Any, condition: float = 1.0, moved: Any = None, where: str = ""
) -> dict[str, Difference]:
    """The differences of arrays, or of mappings from names to arrays, by name.

    Whole numbers must be equal. None, the gradient of a parameter without influence, equals only None. Raises
    AssertionError naming the first tensor that differs by more than rounding explains, and ValueError if names,
    shapes or dtypes differ, an entry is not finite, or ``moved`` has moved further than a last bit moves anything.
    """
    ours, theirs, moved = _named(ours), _named(theirs), None if moved is None else _named(moved)
    if ours.keys() != theirs.keys():
        raise ValueError(f"{sorted(ours.keys() ^ theirs.keys())} are not in both: give both the same names")
    if moved is not None and moved.keys() != ours.keys():
        raise ValueError(f"{sorted(ours.keys() ^ moved.keys())} are not in both and in moved: give all the same names")
    largest = max((_size(value) for value in ours.values()), default=0.0)
    apart, problems = {}, {}
    for name, a in ours.items():
        noise = moved[name] if moved is not None and a is not None and a.dtype.kind == "f" else None
        try:
            apart[name], problem = _compared(a, theirs[name], condition, noise, largest)
        except ValueError as error:
            raise ValueError(f"{name}{where}: {error}") from None
        if problem:
            problems[name] = problem
    for name, problem in problems.items():
        several = f"; {len(problems)} of {len(ours)} tensors differ" if len(ours) > 1 else ""
        raise AssertionError(f"{name}{where}: {problem}{several}")
    return apart


def _size(value: np.ndarray | None) -> float:
    # the largest finite entry of a float tensor
    if value is None or value.dtype.kind != "f":
        return 0.0
    return float(np.max(np.abs(value), initial=0, where=np.isfinite(value)))


def _compared(
    a: np.ndarray | None, b: np.ndarray | None, condition: float, moved: np.ndarray | None, largest: float
) -> tuple[Difference, str]:
    # the difference of two tensors, and why it is too large, or ""
    if a is None or b is None:
        alone = "" if a is b else f"None in {'ours' if a is None else 'theirs'}, not in the other"
        return Difference(0.0, 0.0, 0.0, 0, 1.0), alone
    apart, problem = difference(a, b), ""
    if a.dtype.kind != "f":
        if not np.array_equal(a, b):
            entry = tuple(map(int, np.argwhere(a != b)[0]))
            problem = f"{np.sum(a != b)} of {a.size} whole numbers differ; {a[entry]} and {b[entry]} at entry {entry}"
        return apart, problem
    eps = float(np.finfo(a.dtype).eps)
    allowed = EPSILONS * condition * eps
    if max(_size(a), _size(b)) <= allowed * largest:  # zero but for rounding, next to the other tensors
        return apart, ""
    if moved is not None:
        _refuse_what_moves_far(a, moved, eps, largest)
        if (ratio := noise_floor_ratio(a, b, [moved])) > NOISE_FLOOR_RATIO:
            problem = f"{ratio:.1f} times as far apart as a change of the weights' last bit explains; "
            problem += f"{NOISE_FLOOR_RATIO} times is allowed; {_where(a, b)}"
    elif apart.nmax > allowed:
        problem = f"{apart.nmax:.1e} of its scale apart, {apart.max_ulp} ULP; rounding explains {allowed:.1e}; "
        problem += _where(a, b)
    return apart, problem


def _refuse_what_moves_far(a: np.ndarray, moved: np.ndarray, eps: float, largest: float) -> None:
    # of a tensor that is zero but for rounding, the whole may move
    apart, most = difference(a, moved), max(LARGEST_MOVEMENT, 1000 * eps)
    share = apart.nmax
    if share > most and apart.max_abs > most**2 * largest:
        raise ValueError(
            f"moved is {share:.1e} of its scale away: no change of a last bit; seed what is random, "
            "give the same data, and move the weights by one_ulp_away alone"
        )


def _where(a: np.ndarray, b: np.ndarray) -> str:
    # the entry that is furthest apart
    entry = np.unravel_index(np.argmax(np.abs(a - b)), a.shape)
    at = f" at entry {tuple(map(int, entry))}" if a.ndim else ""
    return f"{abs(a[entry] - b[entry]):.1e} apart{at}, {a[entry]:.6g} and {b[entry]:.6g}"


def check_training(
    ours: Callable[[int], Values],
    theirs: Callable[[int], Values],
    steps: int,
    condition: float = 1.0,
    moved: Callable[[int], Values] | None = None,
) -> list[dict[str, Difference]]:
    """The differences of two trainings after each step; raises the errors of `check_values`, with the step.

    Each function makes one update and returns the model's values. The rounding errors of n updates are taken to
    be independent, so sqrt(n) times that of one update is allowed.
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
