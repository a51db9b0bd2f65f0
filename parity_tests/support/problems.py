"""Data and parameters that the tests of several chapters start from."""

import numpy as np

from common import draws
from common.data import datasets


def of_kind(kind: str, full: np.ndarray) -> np.ndarray:
    """Covariances of a kind from full ones, (K, D, D)."""
    variances = np.diagonal(full, axis1=1, axis2=2)
    return {"full": full, "tied": full[0], "diag": variances, "spherical": variances[:, 0]}[kind]


def as_full(covariances: np.ndarray, kind: str, k: int, d: int) -> np.ndarray:
    """The covariances of any kind as full ones, (K, D, D)."""
    if kind in ("full", "tied"):
        return np.broadcast_to(covariances, (k, d, d))
    return np.stack([np.eye(d) * np.broadcast_to(c, d) for c in covariances])


def matrices(seed: int, k: int, d: int, step: int = 7) -> np.ndarray:
    """Positive definite matrices, (K, D, D)."""
    a = draws.normals(seed, "component", (k, d, d), step=step)
    return a @ np.swapaxes(a, 1, 2) + 0.5 * np.eye(d)


def mixture(
    kind: str = "full",
    seed: int = 0,
    dtype: str = "float64",
    separation: float = 3.0,
    n: int = 150,
    k: int = 3,
    d: int = 4,
) -> tuple[np.ndarray, ...]:
    """Points, and weights, means and covariances of a mixture that is not the one that drew them."""
    x = datasets.synthetic_mixture(n, k, d, separation, seed).x
    weights = draws.uniforms(seed, "component", (k,), step=5) + 0.2
    means = draws.normals(seed, "component", (k, d), step=6) * 2
    covariances = of_kind(kind, matrices(seed, k, d))
    return tuple(np.asarray(v, dtype=dtype) for v in (x, weights / weights.sum(), means, covariances))
