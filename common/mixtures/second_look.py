"""Covariances that may be rounding alone, summed again so that a verdict on them depends on the points alone.

A framework adds up N products in an order of its own, and the sum of N equal numbers, or of points on a line, is off by
more the larger N is. Here all is in double precision, about the component's own mean, and in pairs (NumPy's sum of what
lies side by side), so that only a few roundings are left, whatever N is.
"""

from collections.abc import Iterable

import numpy as np

from common.mixtures.input import are_singular, feature_variances


def doubtful(covariances: np.ndarray, covariance_type: str, least: np.ndarray | float, n: int) -> np.ndarray:
    """Which components, (K,) or (1,), have a covariance that the rounding of sums over n points may have made.

    ``least`` are the variances that rounding of the points themselves may leave.
    """
    least = np.max(np.atleast_1d(least), axis=-1, keepdims=True) if covariance_type == "spherical" else least
    # the mean of N equal numbers is off by up to N / 16 epsilons
    found = np.any(feature_variances(covariances, covariance_type) <= least * max(1, n / 64) ** 2, axis=1)
    if covariance_type in ("full", "tied"):
        d = covariances.shape[-1]
        matrices = np.where(found[:, None, None], np.eye(d, dtype=covariances.dtype), covariances.reshape(-1, d, d))
        found |= are_singular(matrices, n / 64)
    return found


def summed_again(
    parts: Iterable[tuple[np.ndarray, np.ndarray]], means: np.ndarray, covariance_type: str, chosen: np.ndarray
) -> np.ndarray:
    """The covariances of the chosen components, from points (C, D) and responsibilities (C, K), piece by piece.

    Of the others they are the identity. Their mean is that of the points: what ``means`` (K, D) are off is taken away.
    """
    (k, d), means = means.shape, means.astype(np.float64)
    chosen = np.flatnonzero(np.broadcast_to(chosen, k))
    counts, sums, scatter = np.zeros(k), np.zeros((k, d)), np.zeros((k, d, d))
    for x, gamma in parts:
        points, shares = np.ascontiguousarray(x.T, np.float64), np.ascontiguousarray(gamma.T, np.float64)
        for j in chosen:
            difference = points - means[j][:, None]  # (D, C)
            weighted = shares[j] * difference
            counts[j] += shares[j].sum()
            sums[j] += weighted.sum(axis=-1)
            for i in range(d):
                scatter[j, i] += (weighted[i] * difference).sum(axis=-1)
    counts = np.maximum(counts, np.finfo(np.float64).tiny)
    sums /= np.sqrt(counts)[:, None]
    scatter -= sums[:, :, None] * sums[:, None, :]
    if covariance_type == "tied":
        return scatter.sum(axis=0) / counts[chosen].sum()
    covariances = np.broadcast_to(np.eye(d), (k, d, d)).copy()
    covariances[chosen] = scatter[chosen] / counts[chosen, None, None]
    if covariance_type == "full":
        return covariances
    variances = np.diagonal(covariances, axis1=-2, axis2=-1)
    return variances if covariance_type == "diag" else variances.mean(axis=1)
