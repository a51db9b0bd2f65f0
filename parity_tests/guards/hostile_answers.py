"""Answers of two frameworks to one hostile input, and how they are compared: without a tolerance that somebody chose.

PyTorch is asked again, with every entry of the input and of every intermediate result moved by one unit in
its last place, up or down at random. What that changes is what rounding can do to this problem, however
ill-conditioned it is; ten times as much is allowed between the frameworks, as in `common.parity`. (This is
Monte Carlo arithmetic: D. Parker, "Monte Carlo arithmetic: exploiting randomness in floating-point
arithmetic", UCLA, 1997.) Two things are decided by less than a rounding, and then either answer is right:

- a matrix at the edge of being positive definite: its factor exists or not, also for PyTorch, by the last
  bit of it;
- a number below the smallest normal one, 2e-308 or 1e-38: TensorFlow takes it for zero, as PyTorch does
  when it is told to (`torch.set_flush_denormal`). If PyTorch gives TensorFlow's answer then, that is why
  they differ.

Both are counted and reported.
"""

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
import torch
from hypothesis import HealthCheck, Phase, given, settings
from torch.utils._python_dispatch import TorchDispatchMode

from common.data.arrays import as_array
from common.parity import NOISE_FLOOR_RATIO

# What makes tensors on the CPU, whatever the default device is, by package.
FRAMEWORKS = {"pytorch_impl": partial(torch.tensor, device="cpu"), "tf2_impl": tf.constant}
# How often PyTorch is asked again, and how far off it is; more often, if the frameworks still differ.
RUNS = ((1, 3), (1, 30), (NOISE_FLOOR_RATIO, 30))
EPSILONS = 8  # allowed at the least
MANY = 50  # examples of a long run, which are others every time


class Answer(NamedTuple):
    """A framework's answer: named arrays and warnings, or an error's type and message."""

    values: dict[str, np.ndarray]
    error: tuple[str, str] | None = None
    warned: tuple[tuple[str, str], ...] = ()


@dataclass
class Tally:
    """Counts of outcomes, and how close the worst difference came to the allowed one."""

    outcomes: Counter = field(default_factory=Counter)
    worst: float = 0.0

    def add(self, outcome: str, share: float) -> None:
        """Count one answer."""
        self.outcomes[outcome] += 1
        self.worst = max(self.worst, share)


def hunt(check: Callable[[Any, Tally], None], strategy: Any, examples: int, rows: list, name: str) -> None:
    """Check so many examples, the same ones if they are few, and leave a row of figures with the test."""
    tally, long = Tally(), examples >= MANY

    @settings(
        max_examples=examples,
        derandomize=not long,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink) if long else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def examine(case: Any) -> None:
        tally.outcomes["examples"] += 1
        check(case, tally)

    examine()
    rows.append(("hostile", dict(name=name, outcomes=dict(tally.outcomes), worst=tally.worst)))


def few_and_many(examples: dict[str, tuple[int, int]]) -> pytest.MarkDecorator:
    """Run a test for every name with its few examples, and in the long run with its many."""
    few = [pytest.param(name, sizes[0], id=name) for name, sizes in examples.items()]
    many = [pytest.param(name, sizes[1], id=f"{name}-long", marks=pytest.mark.long) for name, sizes in examples.items()]
    return pytest.mark.parametrize(("name", "examples"), few + many)


def attempt(function: Callable[[], Any]) -> Answer:
    """Call a function and return its arrays by name, with its warnings, or its error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", DeprecationWarning)  # of the libraries themselves, on a new Python
        try:
            values = flat(function())
        except Exception as error:
            return Answer({}, (type(error).__name__, str(error)))
    return Answer(values, None, tuple((w.category.__name__, str(w.message)) for w in caught))


def each(function: Callable[[Any], Any], value: Any) -> Any:
    """The function of every array in tuples, named or not, lists and dictionaries."""
    if isinstance(value, dict):
        return {key: each(function, item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        items = [each(function, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return function(value) if isinstance(value, np.ndarray) else value


def flat(value: Any, name: str = "") -> dict[str, np.ndarray]:
    """Every array, tensor or number in tuples and dictionaries, by its place."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in flat(item, f"{name}.{key}").items()}
    if isinstance(value, tuple | list):
        return {k: v for i, item in enumerate(value) for k, v in flat(item, f"{name}.{i}").items()}
    return {name: np.asarray(as_array(value))}


class Noise(TorchDispatchMode):
    """Inside it, every result of PyTorch's but views is off by units in its last place, up or down."""

    def __init__(self, seed: int, units: int) -> None:
        super().__init__()
        self.units, self.random = units, np.random.RandomState(seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operation and move what it gives."""
        results = func(*args, **(kwargs or {}))
        if func.is_view or any("!" in str(a) for a in func._schema.arguments):
            return results
        for result in results if isinstance(results, tuple) else (results,):
            if isinstance(result, torch.Tensor) and result.dtype.is_floating_point and result.is_contiguous():
                array = result.detach().numpy()
                array[...] = off(array, self.random, self.units)
        return results


def off(array: np.ndarray, random: np.random.RandomState, units: int = 1) -> np.ndarray:
    """The array with all but zeros and infinities moved by units in the last place; symmetry stays."""
    up = random.uniform(size=array.shape) < 0.5
    if array.ndim > 1 and np.array_equal(array, array.swapaxes(-1, -2)):
        up = np.tril(up) | np.tril(up, -1).swapaxes(-1, -2)
    with np.errstate(all="ignore"):
        move = np.where(up, units, -units).astype(array.dtype) * np.spacing(array)
        return np.where((array == 0) | ~np.isfinite(array + move), array, array + move)


def moved(arguments: Any, random: np.random.RandomState, units: int) -> Any:
    """The arguments with their floating-point numbers moved by units in their last place."""
    return each(lambda array: off(array, random, units) if array.dtype.kind == "f" else array, arguments)


def ask_both(ask: Callable[[str], Answer], tally: Tally, again: Callable[[int, int], Answer] | None = None) -> None:
    """Ask both frameworks, compare and count answers; ``again`` is by default PyTorch's with `Noise`."""

    def noisy(seed: int, units: int) -> Answer:
        with Noise(seed, units):
            return ask("pytorch_impl")

    ours, theirs = map(ask, FRAMEWORKS)
    tally.add(*compare(ours, theirs, again or noisy, lambda: without_subnormals(lambda: ask("pytorch_impl"))))


def compare(
    ours: Answer, theirs: Answer, again: Callable[[int, int], Answer], flushed: Callable[[], Answer]
) -> tuple[str, float]:
    """How it came out, and the difference as a share of what is allowed; AssertionError where the two differ.

    ``again(seed, units)`` is PyTorch's answer where everything is off by so many units in its last place,
    ``flushed()`` its answer without subnormal numbers.
    """
    moves: dict[int, list[Answer]] = {1: [], NOISE_FLOOR_RATIO: []}
    for units, runs in ((1, 0), *RUNS):
        moves[units] += [again(seed, units) for seed in range(len(moves[units]), runs)]
        try:
            return compared(ours, theirs, *moves.values())
        except AssertionError as error:
            apart = error
    try:
        return "subnormal", compared(flushed(), theirs, *moves.values())[1]
    except AssertionError:
        raise apart from None


def compared(ours: Answer, theirs: Answer, moves: list[Answer], far_moves: list[Answer]) -> tuple[str, float]:
    """Compare these two answers; `moves` are PyTorch's with everything off by a unit, `far_moves` by ten."""
    if ours.error or theirs.error:
        assert ours.error == theirs.error, f"PyTorch: {ours.error}; TensorFlow: {theirs.error}"
        return "error", 0.0
    # rounding may decide whether an iteration has converged, and then also whether it warns
    decided = all(other.warned == ours.warned for other in moves)
    warned = f"PyTorch warns {ours.warned}; TensorFlow {theirs.warned}"
    assert ours.warned == theirs.warned or not decided, warned
    assert ours.values.keys() == theirs.values.keys()
    outcome, worst = "value" if ours.warned == theirs.warned else "edge", 0.0
    for name, a in ours.values.items():
        b = theirs.values[name]
        assert (a.shape, a.dtype) == (b.shape, b.dtype), f"{name}: {a.shape} {a.dtype}, {b.shape} {b.dtype}"
        a, b = (value.astype(np.float64) if value.dtype.kind in "iub" else value for value in (a, b))
        finite = np.isfinite(a)
        if outcome == "value" and not finite.all():
            outcome = "not finite"
        others, far = ([other.values[name] for other in a if not other.error] for a in (moves, far_moves))
        decided = np.all([np.isfinite(other) == finite for other in others + far] or [finite | True], axis=0)
        assert not np.any((finite != np.isfinite(b)) & decided), f"{name}: finite in one only:\n{a}\n{b}"
        outcome = outcome if np.all(decided | (finite == np.isfinite(b))) else "edge"
        both = finite & np.isfinite(b) & decided
        if np.any(a[both] != b[both]):
            info = np.finfo(a.dtype)
            apart = float(np.max(np.abs(a[both] - b[both])))
            floor = max([float(np.max(np.abs(a[both] - other[both]))) for other in others], default=0.0)
            least = EPSILONS * max(float(info.eps) * float(np.max(np.abs(a[both]))), float(info.tiny))
            allowed = max(NOISE_FLOOR_RATIO * floor, least)
            assert apart <= allowed, f"{name}: {apart:.2e} apart, {allowed:.2e} allowed:\n{a}\n{b}"
            worst = max(worst, apart / allowed)
    return outcome, worst


def without_subnormals(function: Callable[[], Any]) -> Any:
    """What PyTorch's arithmetic gives when it takes subnormal numbers for zero."""
    torch.set_flush_denormal(True)
    try:
        return function()
    finally:
        torch.set_flush_denormal(False)
