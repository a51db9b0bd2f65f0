"""Where a mixture's fit starts: at points and responsibilities chosen as scikit-learn does, or at given parameters."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from common.data.arrays import as_array
from common.data.chunks import (
    centred,
    column_ranges,
    find_centre,
    one_thread,
    rows_to_start_from,
    spread_rows,
    take_rows,
)
from common.data.messages import InputError, require
from common.mixtures.parameters import COVARIANCE_TYPES, are_singular, check_array, covariance_shape

WORTH_THREADS = 2**24  # multiplications, which take some milliseconds
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
    multiplications = x.size * n_components  # of an iteration
    threads = one_thread() if multiplications < WORTH_THREADS else nullcontext()
    seen = np.full(len(x), True) if sample_weight is None else sample_weight > 0
    points = x[seen]
    weight = np.ones(len(points), x.dtype) if sample_weight is None else sample_weight[seen]
    labels = np.zeros(len(x), dtype=np.int64)  # of a row without weight, any will do
    if weight.min() == weight.max() and not may_repeat(points):
        with threads:
            labels[seen] = kmeans.fit(points).labels_
        return labels
    distinct, inverse = np.unique(points, axis=0, return_inverse=True)
    if len(distinct) < n_components:  # as many clusters as there are places, the others empty
        kmeans.set_params(n_clusters=len(distinct))
    total = np.bincount(inverse.ravel(), weights=weight).astype(x.dtype)
    with threads:
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


def random_source(random_state: Any) -> np.random.RandomState:
    """The source of random numbers that ``random_state`` names."""
    from sklearn.utils import check_random_state  # as above

    if isinstance(random_state, np.random.Generator):
        raise ValueError(
            "random_state is a NumPy Generator, which scikit-learn's estimators do not take: give an integer, or "
            "np.random.RandomState(generator.bit_generator)"
        )
    try:
        return check_random_state(random_state)
    except (TypeError, ValueError):
        what = "must be an integer from 0 to 2**32 - 1, an np.random.RandomState or None"
        raise InputError("random_state", what, random_state) from None


def check_start(estimator: Any, data: Any) -> tuple[np.ndarray | None, ...]:
    """For a `FitData`: weights_init, means_init less the centre, covariances of precisions_init; None if not given."""
    k, d, kind, dtype = data.n_components, data.x.shape[1], data.covariance_type, data.dtype
    weights, means, precisions = (getattr(estimator, f"{name}_init") for name in ("weights", "means", "precisions"))
    if weights is not None:
        weights = check_array("weights_init", weights, (k,), dtype)
        check_weights("weights_init", weights)
    if means is not None:
        means = check_array("means_init", means, (k, d), dtype if data.centre is None else np.float64)
        means = centred(means, data.centre, dtype)
    if precisions is None:
        return weights, means, None
    precisions = check_array("precisions_init", precisions, covariance_shape(k, d, kind), dtype)
    if kind in ("diag", "spherical"):
        least = precisions.min()
        require(least > 0, "precisions_init", f"should be positive, but has the entry {least:g}")
        return weights, means, 1 / precisions
    what = "should be symmetric, positive-definite, but"
    symmetric = np.allclose(precisions, np.swapaxes(precisions, -1, -2))
    require(symmetric, "precisions_init", f"{what} is not symmetric; average it with its transpose")
    least = np.linalg.eigvalsh(precisions).min()
    require(least > 0, "precisions_init", f"{what} has the eigenvalue {least:g}; add to its diagonal")
    covariances = np.linalg.inv(precisions)
    return weights, means, 0.5 * (covariances + np.swapaxes(covariances, -1, -2))


def check_mixture(weights: Any, means: Any, covariances: Any, covariance_type: str) -> tuple[np.ndarray, ...]:
    """A mixture's parameters, checked, as new arrays: of float32 if all three are, else of float64."""
    kinds = f"must be one of {', '.join(COVARIANCE_TYPES)}"
    require(covariance_type in COVARIANCE_TYPES, "covariance_type", kinds, covariance_type)
    given = {"weights": weights, "means": means, "covariances": covariances}
    given = {name: as_array(value, name) for name, value in given.items()}
    dtype = np.float32 if all(getattr(value, "dtype", None) == np.float32 for value in given.values()) else np.float64
    try:
        shape = np.shape(given["means"])
    except ValueError:  # rows of different lengths
        shape = ()
    flat = "is not of shape (K, D): give a row of D numbers for each of K components"
    require(len(shape) == 2 and 0 not in shape, "means", flat, means)
    shapes = {"weights": shape[:1], "means": shape, "covariances": covariance_shape(*shape, covariance_type)}
    weights, means, covariances = (check_array(name, given[name], shapes[name], dtype).copy() for name in given)
    check_weights("weights", weights)
    is_matrix = covariance_type in ("full", "tied")
    variances = np.diagonal(covariances, axis1=-2, axis2=-1) if is_matrix else covariances
    narrow = f"has the variance {variances.min():g}: give positive variances"
    require(variances.min() > 0, "covariances", narrow)
    if is_matrix:
        transposed, deviations = np.swapaxes(covariances, -1, -2), np.sqrt(variances)
        if np.any(abs(covariances - transposed) > 1e-6 * deviations[..., :, None] * deviations[..., None, :]):
            raise InputError("covariances", "should be symmetric, but are not: average each with its transpose")
        if np.any(are_singular(covariances)):
            raise InputError("covariances", "should be positive-definite, but are not: add to their diagonals")
        covariances = 0.5 * (covariances + transposed)
    return weights, means, covariances


def check_weights(name: str, weights: np.ndarray) -> None:
    """The weights must lie in [0, 1] and sum to one."""
    outside = f"has entries from {weights.min():g} to {weights.max():g}: give values in [0, 1]"
    require(weights.min() >= 0 and weights.max() <= 1, name, outside)
    if len(small := weights[(weights > 0) & (weights < (least := np.finfo(weights.dtype).tiny))]):
        raise InputError(name, f"has the entry {small[0]:.3g}, too small to be told from 0: give 0, or {least:.2g}")
    if abs(weights.sum() - 1) > (1e-6 if weights.dtype == np.float32 else 1e-8):
        what = f"should be normalized, but got sum(weights) = {weights.sum():.5f}; divide them by their sum"
        raise InputError(name, what)
