"""Which of the original's numbers each variable of the port holds, found by watching the user's converter.

Every parameter is filled with numbers that occur once, and where they land is looked up. A map is an array of
positions for each variable (several, if the variable is a sum), so that it carries values and gradients alike.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np

Terms = list[np.ndarray]  # positions in the original's parameters, laid end to end; the variable is their sum


class Layout:
    """The original's parameters and buffers, laid end to end."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self.positions, start = {}, 0
        for name, shape in shapes.items():
            size = int(np.prod(shape))
            self.positions[name] = np.arange(start, start + size).reshape(shape)
            start += size
        self.size = start

    def flat(self, arrays: dict[str, np.ndarray | None]) -> np.ndarray:
        """The arrays end to end; zeros for what is None or not there."""
        flat = np.zeros(self.size)
        for name, positions in self.positions.items():
            if arrays.get(name) is not None:
                flat[positions.ravel()] = arrays[name].ravel()
        return flat

    def owner(self, position: int) -> str:
        """The parameter that a position lies in."""
        return next(name for name, positions in self.positions.items() if position <= positions.flat[-1])


def distinct(layout: Layout) -> np.ndarray:
    """As many different numbers as there are parameters, all exact in float32 while they are below eight millions."""
    order = np.random.default_rng(0).permutation(layout.size)
    return 0.5 + order / 2.0 ** max(23, int(layout.size).bit_length())


def watched(
    layout: Layout, values: np.ndarray, before: dict, after: dict
) -> tuple[dict[str, Terms], list[str], list[str]]:
    """Where each number of ``values`` has landed; variables that were not written; those with altered numbers."""
    order = np.argsort(values)
    found, unwritten, altered = {}, [], []
    for path, array in after.items():
        if array.dtype.kind != "f":
            continue
        place = order[np.minimum(np.searchsorted(values[order], array.astype(np.float64)), layout.size - 1)]
        if np.array_equal(values[place], array):
            found[path] = [place]
        elif terms := _summed(layout, values, array):
            found[path] = terms
        else:
            (unwritten if np.array_equal(before[path], array) else altered).append(path)
    return found, unwritten, altered


def _summed(layout: Layout, values: np.ndarray, array: np.ndarray) -> Terms | None:
    # a variable whose entries are sums of two parameters of one shape, as a recurrent layer's bias is
    vectors = [p for p in layout.positions.values() if p.ndim == 1 and p.size > 1]
    for first, second in combinations([p for p in vectors if p.size == array.size][:200], 2):
        sums = values[first] + values[second]
        order = np.argsort(sums)
        place = order[np.minimum(np.searchsorted(sums[order], array - 1e-9), len(sums) - 1)]
        place = np.arange(len(sums)).reshape(array.shape) if np.array_equal(sums, array.ravel()) else place
        if np.all(np.abs(sums[place] - array) <= 1e-7):  # of all pairs of numbers, several may have one sum
            return [first[place], second[place]]
    first = np.concatenate([a for i, a in enumerate(vectors) for b in vectors[i + 1 :] if a.size == b.size] or [[]])
    second = np.concatenate([b for i, a in enumerate(vectors) for b in vectors[i + 1 :] if a.size == b.size] or [[]])
    if not len(first) or len(first) > 10_000_000:
        return None
    first, second = first.astype(int), second.astype(int)
    sums = values[first] + values[second]
    order = np.argsort(sums)
    place = order[np.minimum(np.searchsorted(sums[order], array - 1e-9), len(sums) - 1)]
    singles = np.abs(sums[place] - array) > 1e-7
    return None if singles.any() else [first[place], second[place]]


def apply(terms: dict[str, Terms], flat: np.ndarray, assign: Callable[[str, np.ndarray], None]) -> None:
    """Give each variable of the port its numbers."""
    for path, positions in terms.items():
        assign(path, sum(flat[term] for term in positions))
