"""Rounding that makes EM reproducible to the last bit: parameters on a grid so coarse that frameworks cannot differ.

Two frameworks add the same numbers in different orders, and their parameters differ by about 1e-16 of the data's
scale after one iteration. Rounded to 24 binary digits after every M step, to a grid fixed by the component's own
standard deviations rather than by the entry (an entry that cancels to almost zero has no digits of its own that
agree), the same bytes come out wherever they were computed, and the next iteration starts from equal numbers.
"""

import numpy as np

from common.mixtures.parameters import VariationalPosterior

BITS = 24
WEIGHT_GRID = 2.0**-30
COUNTS = ("weight_concentration", "mean_precision", "degrees_of_freedom")


def round_mixture(
    weights: np.ndarray, means: np.ndarray, covariances: np.ndarray, covariance_type: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Variances to single precision; means and covariances to 2^-24 of the deviations they go with; weights to 2^-30.

    The grid of mean d is 2^-24 s_d, of covariance ij 2^-24 s_i s_j, where s is the power of two at or below the
    component's standard deviation in that feature (of the tied or spherical one, where there is no other). The largest
    weight is one less the others, which is exact on their grid, so that rounding leaves no likelihood behind or over.
    """
    return _round_weights(weights), *_round_components(means, covariances, covariance_type)


def round_posterior(posterior: VariationalPosterior, covariance_type: str) -> VariationalPosterior:
    """Concentrations, mean precisions and degrees of freedom to single precision; the rest as in a mixture.

    The first three are a prior plus sums of responsibilities: positive terms, which agree to all but the last digits,
    however small the sum. The bound is one for any posterior, the rounded one too, and close to the best it hardly
    notices.
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
    return np.round(x / grid) * grid + 0.0  # so that no -0.0 is left, whose bytes are not those of 0.0


def _power_of_two(variances: np.ndarray) -> np.ndarray:
    # frexp reads the exponent off the bits: variance = m 2^e with m in [1/2, 1), so 2^(floor((e-1)/2)) <= sigma
    _, exponent = np.frexp(variances)
    return np.ldexp(1.0, (exponent - 1) // 2)
