"""Checks of a mixture's parameters that a user gives: to start from, or as the mixture itself."""

from typing import Any

import numpy as np

from common.data.arrays import as_array
from common.data.centring import centred
from common.mixtures.input import COVARIANCE_TYPES, are_singular, covariance_shape


def check_start(
    estimator: Any, d: int, dtype: np.dtype, centre: np.ndarray | None = None
) -> tuple[np.ndarray | None, ...]:
    """weights_init, means_init and the covariances of precisions_init, checked, as arrays of ``dtype``, or None.

    The means are seen from the ``centre`` (D,), if there is one.
    """
    k, kind = estimator.n_components, estimator.covariance_type
    weights = _initial("weights_init", estimator.weights_init, (k,), dtype, "weights")
    means = _initial("means_init", estimator.means_init, (k, d), dtype if centre is None else np.float64, "means")
    precisions = _initial(
        "precisions_init", estimator.precisions_init, covariance_shape(k, d, kind), dtype, f"{kind} precision"
    )
    if weights is not None:
        check_weights("weights_init", weights)
    if means is not None:
        means = centred(means, centre, dtype)
    return weights, means, None if precisions is None else _covariances_from(precisions, kind)


def check_mixture(weights: Any, means: Any, covariances: Any, covariance_type: str) -> tuple[np.ndarray, ...]:
    """A mixture's parameters, checked, as new arrays: of float32 if all three are, else of float64."""
    if covariance_type not in COVARIANCE_TYPES:
        raise ValueError(f"covariance_type={covariance_type!r} must be one of {', '.join(COVARIANCE_TYPES)}")
    given = {"weights": weights, "means": means, "covariances": covariances}
    given = {name: as_array(value, name) for name, value in given.items()}
    dtype = np.float32 if all(getattr(value, "dtype", None) == np.float32 for value in given.values()) else np.float64
    try:
        shape = np.shape(given["means"])
    except ValueError:  # rows of different lengths
        shape = ()
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"means={means!r} is not of shape (K, D): give a row of D numbers for each of K components")
    shapes = {"weights": shape[:1], "means": shape, "covariances": covariance_shape(*shape, covariance_type)}
    weights, means, covariances = (_initial(name, given[name], shapes[name], dtype, name).copy() for name in given)
    check_weights("weights", weights)
    is_matrix = covariance_type in ("full", "tied")
    variances = np.diagonal(covariances, axis1=-2, axis2=-1) if is_matrix else covariances
    if variances.min() <= 0:
        raise ValueError(f"covariances has the variance {variances.min():g}: give positive variances")
    if is_matrix:
        transposed, deviations = np.swapaxes(covariances, -1, -2), np.sqrt(variances)
        if np.any(abs(covariances - transposed) > 1e-6 * deviations[..., :, None] * deviations[..., None, :]):
            raise ValueError("covariances should be symmetric, but are not: average each with its transpose")
        if np.any(are_singular(covariances)):
            raise ValueError("covariances should be positive-definite, but are not: add to their diagonals")
        covariances = 0.5 * (covariances + transposed)
    return weights, means, covariances


def check_weights(name: str, weights: np.ndarray) -> None:
    """ValueError unless the weights lie in [0, 1] and sum to one."""
    if weights.min() < 0 or weights.max() > 1:
        raise ValueError(f"{name} has entries from {weights.min():g} to {weights.max():g}: give values in [0, 1]")
    if len(small := weights[(weights > 0) & (weights < (least := np.finfo(weights.dtype).tiny))]):
        raise ValueError(f"{name} has the entry {small[0]:.3g}, too small to be told from 0: give 0, or {least:.2g}")
    if abs(weights.sum() - 1) > (1e-6 if weights.dtype == np.float32 else 1e-8):
        raise ValueError(
            f"{name}: The parameter 'weights' should be normalized, but got sum(weights) = {weights.sum():.5f}; "
            "divide them by their sum"
        )


def _initial(name: str, value: Any, shape: tuple[int, ...], dtype: np.dtype, called: str) -> np.ndarray | None:
    if value is None:
        return None
    value = as_array(value, name)
    try:
        array = np.asarray(value, dtype=dtype)
    except (TypeError, ValueError):
        raise ValueError(f"{name}={value!r} holds no numbers: give an array of shape {shape}") from None
    if array.shape != shape:
        raise ValueError(
            f"The parameter '{called}' should have the shape of {shape}, but got {array.shape}: give {name} that shape"
        )
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} has NaN or infinite entries: give finite numbers")
    return array


def _covariances_from(precisions: np.ndarray, kind: str) -> np.ndarray:
    if kind in ("diag", "spherical"):
        if precisions.min() <= 0:
            raise ValueError(f"precisions_init: '{kind} precision' should be positive, but has {precisions.min():g}")
        return 1 / precisions
    what = f"precisions_init: '{kind} precision' should be symmetric, positive-definite, but"
    if not np.allclose(precisions, np.swapaxes(precisions, -1, -2)):
        raise ValueError(f"{what} is not symmetric; average it with its transpose")
    if (least := np.linalg.eigvalsh(precisions).min()) <= 0:
        raise ValueError(f"{what} has the eigenvalue {least:g}; add to its diagonal")
    covariances = np.linalg.inv(precisions)
    return 0.5 * (covariances + np.swapaxes(covariances, -1, -2))
