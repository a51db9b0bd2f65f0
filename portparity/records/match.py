"""Which of the original's numbers the port has too, and the first operation whose result it lacks.

Results are paired by value: entries that are the same when sorted, then a permutation of axes or a reshape that
brings them into one order. No names and no rules about layouts are needed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import permutations
from typing import NamedTuple

import numpy as np

from portparity.records.floor import LARGEST, distance, scale, tolerance
from portparity.records.recording import Recording, Value


class Match(NamedTuple):
    """A value of the port that equals one of the original's, and how to bring its entries into the same order."""

    port: int
    reorder: Callable[[np.ndarray], np.ndarray]


@dataclass
class Comparison:
    """What of the original was found in the port."""

    original: Recording
    port: Recording
    matches: dict[int, list[Match]] = field(default_factory=dict)
    reordered: dict[int, int] = field(default_factory=dict)  # the same numbers, in an order that no axes explain
    missing: list[int] = field(default_factory=list)  # operations whose results the port lacks, first ones first
    port_first: list[int] = field(default_factory=list)  # the port's operations that the original lacks
    gradients: list[int] = field(default_factory=list)  # values whose gradients differ, the last ones first
    outputs: list[int] = field(default_factory=list)  # outputs of the original that the port's in their places are not
    elsewhere: dict[int, str] = field(default_factory=dict)  # those of them that the port returns in other places

    @property
    def agrees(self) -> bool:
        """Whether nothing differs."""
        return not (self.missing or self.gradients or self.outputs)


def informative(array: np.ndarray) -> bool:
    """Whether equality with this array says anything: three different numbers at least."""
    return array.dtype.kind == "f" and array.size >= 3 and len(np.unique(array.ravel()[:1000])) >= 3


def comparable(value: Value) -> bool:
    """Whether a value is informative, and no change of a last bit moves it so far that anything would equal it."""
    return informative(value.array) and value.movement <= LARGEST * scale(value.array)


def reorderings(shape: tuple[int, ...], target: tuple[int, ...]) -> Iterator[Callable]:
    """The functions from arrays of one shape to another that permute axes and reshape, plainest first."""
    yield lambda b: b.reshape(target)
    small, large = (tuple(n for n in s if n != 1) for s in (shape, target))
    if len(small) <= 5:
        for axes in permutations(range(len(small))):
            if axes != tuple(range(len(small))):
                yield lambda b, axes=axes: b.reshape(small).transpose(axes).reshape(target)
    if len(large) <= 5 and len(large) >= len(small):
        for axes in permutations(range(len(large))):
            back, turned = np.argsort(axes), tuple(large[i] for i in axes)
            if axes != tuple(range(len(large))):
                yield lambda b, back=back, turned=turned: b.reshape(turned).transpose(back).reshape(target)


def reordering(a: np.ndarray, b: np.ndarray, allowed: float) -> Callable | None:
    """The reordering of b that equals a, or None."""
    for reorder in reorderings(b.shape, a.shape):
        if distance(a, reorder(b)) <= allowed:
            return reorder
    return None


class Index:
    """The port's values, to be found by their entries."""

    def __init__(self, port: Recording) -> None:
        self.port, self.by_size, self.sorted = port, {}, {}
        for number, value in enumerate(port.values):
            if value.array.dtype.kind == "f":
                self.by_size.setdefault(value.array.size, []).append(number)

    def find(self, array: np.ndarray, allowed: float, among: Iterable[int] | None = None) -> tuple[list[Match], int]:
        """Every value of the port that equals the array, and one that holds its numbers in another order, or -1."""
        if array.size not in self.by_size:
            return [], -1
        ordered, matches, shuffled = np.sort(array, axis=None), [], -1
        spread = slice(None, None, max(1, array.size // 50))
        numbers, entries, samples = self._of_size(array.size, spread)
        with np.errstate(invalid="ignore"):
            near = ~np.any(np.abs(samples - ordered[spread]) > allowed, axis=1)
        for number, candidate in zip(np.array(numbers)[near].tolist(), np.flatnonzero(near), strict=True):
            if among is not None and number not in among:
                continue
            if distance(ordered, entries[candidate]) <= allowed:
                reorder = reordering(array, self.port.values[number].array, allowed)
                matches += [Match(number, reorder)] if reorder else []
                shuffled = shuffled if reorder else number
        return matches, shuffled

    def _of_size(self, size: int, spread: slice) -> tuple[list[int], list[np.ndarray], np.ndarray]:
        # the values of a size, their entries in order, and some of those next to each other
        if size not in self.sorted:
            entries = [np.sort(self.port.values[number].array, axis=None) for number in self.by_size[size]]
            self.sorted[size] = entries, np.stack([ordered[spread] for ordered in entries])
        return self.by_size[size], *self.sorted[size]


def compare(original: Recording, port: Recording, index: Index | None = None, loose: float = 0.0) -> Comparison:
    """Pair the values, and find the first operations, forward and backward, at which the port is another.

    ``loose`` is allowed of each gradient's largest entry, where something before it is known to be rounded.
    """
    index, found = index or Index(port), Comparison(original, port)
    for number, value in enumerate(original.values):
        if comparable(value):
            matches, shuffled = index.find(value.array, tolerance(value.array, value.movement))
            if matches:
                found.matches[number] = matches
            elif shuffled >= 0:
                found.reordered[number] = shuffled
    _pair_outputs(found, index)
    ends = port.outputs
    found.missing = first_missing(original, set(found.matches), found.outputs)
    known = {match.port for matches in found.matches.values() for match in matches}
    found.port_first = first_missing(port, known, ends if found.outputs else [])
    if not found.missing and not found.outputs:
        found.gradients = _wrong_gradients(found, loose)
    return found


def _pair_outputs(found: Comparison, index: Index) -> None:
    # each output with the port's in its place; with any, if what is returned is built otherwise
    original, port = found.original, found.port
    same = original.places == port.places
    for place, number in enumerate(original.outputs):
        last = place == len(original.outputs) - 1  # the loss
        value, others = original.values[number], port.outputs[-1:] if last else port.outputs[:-1]
        allowed = tolerance(value.array, value.movement)
        if value.array.dtype.kind == "f":
            matches = index.find(value.array, allowed, others)[0]
        else:
            arrays = {n: port.values[n].array for n in others if port.values[n].array.dtype.kind in "iub"}
            reorders = {n: reordering(value.array, b, 0) for n, b in arrays.items() if b.size == value.array.size}
            matches = [Match(n, reorder) for n, reorder in reorders.items() if reorder]
        here = [m for m in matches if last or not same or m.port == port.outputs[place]]
        if here:
            found.matches.setdefault(number, []).extend(here)
            continue
        found.outputs.append(number)
        if matches:
            found.elsewhere[number] = port.places[port.outputs.index(matches[0].port)]


def first_missing(recording: Recording, known: set[int], outputs: list[int]) -> list[int]:
    """The operations without a known result, at themselves or after them, whose own inputs are accounted for."""
    before, consumers = recording.before_output(), recording.consumers()
    lost = {recording.values[number].source for number in outputs}
    covered: dict[int, bool] = {}
    clear: dict[int, bool] = {}  # covered, or without anything to compare and fed by what is clear
    for number in sorted(before, reverse=True):
        made = recording.operations[number].outputs
        after = [c for value in made for c in consumers.get(value, []) if c in before]
        covered[number] = (any(value in known for value in made) and number not in lost) or any(
            covered[c] for c in after
        )
    first = []
    for number in sorted(before):
        operation = recording.operations[number]
        fed = all(clear.get(recording.values[value].source, True) for value in operation.inputs)
        says = number in lost or any(comparable(recording.values[value]) for value in operation.outputs)
        clear[number] = covered[number] or (fed and not says)
        if fed and not clear[number]:
            first.append(number)
    return first


def gradient_tolerance(value: Value, least: float) -> float:
    """How far the gradient of a port's value may be from this one."""
    return tolerance(value.gradient, value.gradient_movement, least)


def _wrong_gradients(found: Comparison, loose: float) -> list[int]:
    # values, in the order of the backward pass, whose gradient no equal value of the port has
    values, port = found.original.values, found.port.values
    least = float(np.finfo(np.float64).eps) * max((scale(v.gradient) for v in values), default=0.0)
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, matches in found.matches.items():
        groups.setdefault(tuple(sorted({m.port for m in matches})), []).append(number)
    before = found.original.before_output()
    wrong = []
    for group in groups.values():
        group = [
            n
            for n in group
            if values[n].gradient is not None
            and values[n].name not in found.original.parameters
            and (values[n].source in before or values[n].source < 0)
        ]
        if group and not any(
            _same_gradient(values[n], port, found.matches[n], least + loose * scale(values[n].gradient)) for n in group
        ):
            wrong.append(min(group))
    right = {n for group in groups.values() for n in group if values[n].gradient is not None} - set(wrong)
    wrong = [number for number in wrong if not _right_before(found.original, number, right)]
    return sorted(wrong, reverse=True)


def _right_before(original: Recording, number: int, right: set[int]) -> bool:
    # whether the gradients of what a value was computed from are right: then a fused operation went past it
    waiting, nearest = [original.values[number].source], []
    while waiting:
        if (source := waiting.pop()) < 0:
            continue
        for value in original.operations[source].inputs:
            if original.values[value].name in original.parameters or original.values[value].gradient is None:
                continue
            if value in right:
                nearest.append(value)
            elif original.values[value].source >= 0:
                waiting.append(original.values[value].source)
            else:
                return False
    return any(np.any(original.values[value].gradient) for value in nearest)


def _same_gradient(value: Value, port: list[Value], matches: list[Match], least: float) -> bool:
    allowed = gradient_tolerance(value, least)
    for match in matches:
        gradient = port[match.port].gradient
        if gradient is None:
            if scale(value.gradient) <= allowed:
                return True
        elif distance(value.gradient, match.reorder(gradient)) <= allowed:
            return True
    return False
