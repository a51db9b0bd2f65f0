"""Rounding that makes EM reproducible to the last bit: a grid so coarse that the frameworks agree.

Two frameworks add the same numbers in different orders, and their parameters differ by about 1e-16 of the
data's scale after one iteration. So they are rounded to 24 binary digits after every M step, and the next
iteration starts from equal bytes. The grid depends on the component's standard deviations, not on the entry,
since an entry that cancels to almost zero has no digits that agree.
"""

import numpy as np

from common.mixtures.parameters import VariationalPosterior

BITS = 24
WEIGHT_GRID = 2.0**-30
COUNTS = ("weight_concentration", "mean_precision", "degrees_of_freedom")


def round_mixture(
    weights: np.ndarray, means: np.ndarray, covariances: np.ndarray, covariance_type: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Round variances to float32, means and covariances to 2^-24 of their deviations, weights to 2^-30.

    The grid of mean d is 2^-24 s_d, of covariance ij 2^-24 s_i s_j, where s is the power of two at or below
    the component's standard deviation in that feature. The largest weight is one less the others, which is
    exact on their grid, so that the weights add up to one.
    """
    return _round_weights(weights), *_round_components(means, covariances, covariance_type)


def round_posterior(posterior: VariationalPosterior, covariance_type: str) -> VariationalPosterior:
    """Round concentrations, mean precisions and degrees of freedom to float32, the rest as in a mixture.

    The first three are a prior plus sums of responsibilities: positive terms, which agree to all but the last
    digits, however small the sum. The bound holds for any posterior, and near its maximum hardly changes.
    """
    counts = {name: _to_float32(getattr(posterior, name)) for name in COUNTS}
    means, covariances = _round_components(posterior.means, posterior.covariances, covariance_type)
    return VariationalPosterior(means=means, covariances=covariances, **counts)


def _round_components(
    means: np.ndarray, covariances: np.ndarray, covariance_type: str
) -> tuple[np.ndarray, np.ndarray]:
    if covariance_type in ("diag", "spherical"):
        covariances = _to_float32(covariances)
        s = _power_of_two(covariances.reshape(len(means), -1))  # (K, D) or (K, 1)
        return _to_grid(means, s), covariances
    diagonal = np.diagonal(covariances, axis1=-2, axis2=-1)  # (K, D) or (D,)
    s = _power_of_two(_to_float32(diagonal))
    return _to_grid(means, s), _to_grid(covariances, s[..., :, None] * s[..., None, :])


def _round_weights(weights: np.ndarray) -> np.ndarray:
    rounded = np.maximum(np.round(weights / WEIGHT_GRID), 1) * WEIGHT_GRID
    largest = np.argmax(rounded)
    rounded[largest] = 1 - np.delete(rounded, largest).sum()
    return rounded


def _to_float32(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, dtype=np.float32).astype(np.float64)


def _to_grid(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    grid = scale * 2.0**-BITS
    return np.round(x / grid) * grid + 0.0  # turns -0.0 into 0.0, whose bytes differ


def _power_of_two(variances: np.ndarray) -> np.ndarray:
    # variance = m 2^e with m in [1/2, 1), so 2^(floor((e-1)/2)) <= sigma
    _, exponent = np.frexp(variances)
    return np.ldexp(1.0, (exponent - 1) // 2)
