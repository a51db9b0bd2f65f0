"""Where a mixture's fit starts: the points and responsibilities of the first M step, as scikit-learn chooses them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from common.data.passes import centred, column_ranges, find_centre, rows_to_start_from, spread_rows, take_rows

INIT_PARAMS = ("kmeans", "k-means++", "random", "random_from_data")


def starting_points(
    data: Any, init_params: str, random_state: np.random.RandomState, uniforms: Callable[[tuple], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Points without gaps and their responsibilities, times their weights, for a first M step on a `FitData`.

    They are all the points, or of a large table some rows spread over it, drawn by ``uniforms(shape)``; with
    a prior, which weighs against all points, they are all.
    """
    x, weight = data.x if data.observed is None else mean_imputed(data.x, data.observed), data.weight
    if data.method == "em" and (size := rows_to_start_from(*x.shape)) < len(x):
        rows = spread_rows(len(x), uniforms((size,)))
        x, weight = take_rows(x, rows), None if weight is None else weight[rows]
    x = np.asarray(x, data.dtype)
    gamma = initial_responsibilities(x, data.n_components, init_params, random_state, weight)
    return x, gamma if weight is None else gamma * weight[:, None]


def mean_imputed(x: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """The table (N, D) with every missing entry at the mean of its column's observed ones: for starting values only."""
    mean = x.mean(axis=0, where=observed)
    # rounding must not make a constant column look otherwise
    low = x.min(axis=0, where=observed, initial=np.inf)
    high = x.max(axis=0, where=observed, initial=-np.inf)
    return np.where(observed, x, np.clip(mean, low, high))


def initial_responsibilities(
    x: np.ndarray,
    n_components: int,
    init_params: str,
    random_state: np.random.RandomState,
    sample_weight: np.ndarray | None = None,
) -> np.ndarray:
    """Responsibilities (N, K) to start from.

    ``kmeans``: one-hot, by the clusters of k-means. ``k-means++`` and ``random_from_data``: all of component
    k on one point, spread out or drawn. ``random``: uniform, each row divided by its sum. From one
    ``random_state`` these are scikit-learn's own numbers, with one exception: where rows repeat or weights
    differ, k-means is run on the distinct rows with the weight of each, so that a weight of two starts as two
    copies do, in whatever order they come.
    """
    n = len(x)
    if init_params == "random":
        gamma = np.asarray(random_state.uniform(size=(n, n_components)), dtype=x.dtype)
        return gamma / gamma.sum(axis=1, keepdims=True)
    x = centred(x, find_centre(*column_ranges(x)))
    gamma = np.zeros((n, n_components), dtype=x.dtype)
    if init_params == "kmeans":
        gamma[np.arange(n), _kmeans_labels(x, n_components, random_state, sample_weight)] = 1
        return gamma
    if init_params == "k-means++":
        from sklearn.cluster import kmeans_plusplus

        _, rows = kmeans_plusplus(x, n_components, random_state=random_state, sample_weight=sample_weight)
    else:
        drawn_from = n if sample_weight is None else np.flatnonzero(sample_weight)
        rows = random_state.choice(drawn_from, size=n_components, replace=False)
    gamma[rows, np.arange(n_components)] = 1
    return gamma


def _kmeans_labels(
    x: np.ndarray, n_components: int, random_state: np.random.RandomState, sample_weight: np.ndarray | None
) -> np.ndarray:
    from sklearn.cluster import KMeans  # takes a second to import, which a script's --help need not wait for

    kmeans = KMeans(n_components, n_init=1, random_state=random_state)
    seen = np.full(len(x), True) if sample_weight is None else sample_weight > 0
    points = x[seen]
    weight = np.ones(len(points), x.dtype) if sample_weight is None else sample_weight[seen]
    labels = np.zeros(len(x), dtype=np.int64)  # of a row without weight, any will do
    if weight.min() == weight.max() and not may_repeat(points):
        labels[seen] = kmeans.fit(points).labels_
        return labels
    distinct, inverse = np.unique(points, axis=0, return_inverse=True)
    if len(distinct) < n_components:  # as many clusters as there are places, the others empty
        kmeans.set_params(n_clusters=len(distinct))
    total = np.bincount(inverse.ravel(), weights=weight).astype(x.dtype)
    labels[seen] = kmeans.fit(distinct, sample_weight=total).labels_[inverse.ravel()]
    return labels


def may_repeat(x: np.ndarray) -> bool:
    """Whether rows of the table (N, D) may be equal: two have the same hash of 64 bits.

    Sorting N numbers takes a tenth of the time of sorting N rows.
    """
    bits = (x + 0.0).view(f"u{x.itemsize}")  # -0 and 0 are equal
    hashes = np.zeros(len(x), np.uint64)
    for column in bits.T:  # an odd factor, that of Knuth's generator MMIX, loses no bit
        hashes = (hashes ^ column) * np.uint64(6364136223846793005)
        hashes ^= hashes >> np.uint64(29)
    hashes.sort()
    return bool(np.any(hashes[1:] == hashes[:-1]))
