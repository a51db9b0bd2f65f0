"""Prior and posterior of a Bayesian mixture of Gaussians, as both frameworks and the scripts hold them.

Weights have a Dirichlet distribution or are broken off a stick; component k has a Normal-Wishart distribution. The
posterior has the prior's form, so the two have the same fields. Precisions are kept the way scikit-learn keeps them,
as covariances: that of the prior is the inverse of the Wishart's scale, W_0^-1; those of the posterior are divided by
the degrees of freedom, which makes each the inverse of the expected precision, E[Lambda_k]^-1.
"""

from typing import Any, NamedTuple

import numpy as np

from common.data.centring import centred
from common.mixtures.input import are_singular, covariance_shape, least_variance

EXTREME = 1e30  # of a prior's numbers; beyond, their products leave single precision
PRIOR_TYPES = ("dirichlet_process", "dirichlet_distribution")


class VariationalPrior(NamedTuple):
    """The belief before the data, as NumPy arrays or either framework's tensors."""

    weight_concentration: Any  # (K,) Dirichlet | (2, K) of the Beta distributions of stick-breaking
    mean_precision: Any  # beta_0 (), as many points as the prior mean is worth
    mean: Any  # m_0 (D,)
    degrees_of_freedom: Any  # nu_0 (), above D - 1
    covariance: Any  # W_0^-1 (D, D) full, tied | (D,) diag | () spherical


class VariationalPosterior(NamedTuple):
    """The belief after the data: the parameters of q(weights) and of q(mean, precision) of every component."""

    weight_concentration: Any  # (K,) Dirichlet | (2, K) stick-breaking
    mean_precision: Any  # beta_k (K,)
    means: Any  # m_k (K, D)
    degrees_of_freedom: Any  # nu_k (K,) | () tied
    covariances: Any  # E[Lambda_k]^-1 (K, D, D) full | (D, D) tied | (K, D) diag | (K,) spherical


def posterior_shapes(k: int, d: int, covariance_type: str, prior_type: str) -> VariationalPosterior:
    """The shape of every part of a posterior of K components of D features."""
    concentration = (2, k) if prior_type == "dirichlet_process" else (k,)
    degrees = () if covariance_type == "tied" else (k,)
    return VariationalPosterior(concentration, (k,), (k, d), degrees, covariance_shape(k, d, covariance_type))


def make_prior(
    x: np.ndarray,
    n_components: int,
    covariance_type: str = "full",
    *,
    weight_concentration_prior_type: str = "dirichlet_process",
    weight_concentration_prior: float | None = None,
    mean_precision_prior: float | None = None,
    mean_prior: Any = None,
    degrees_of_freedom_prior: float | None = None,
    covariance_prior: Any = None,
    reg_covar: float = 0.0,
    flags: bool = False,
    centre: np.ndarray | None = None,
) -> VariationalPrior:
    """The prior with scikit-learn's arguments and defaults for data x (N, D), as arrays of the data's dtype.

    By default the concentration is 1 / K, beta_0 = 1, m_0 the mean of the data, nu_0 = D and W_0^-1 the covariance of
    the data (its diagonal; the mean of that). Where the data's covariance is singular, and the prior would be none,
    ``reg_covar`` is added to its diagonal. With ``flags`` a message names the script's flag instead of the argument.
    Where x is seen from a ``centre`` (D,), ``mean_prior`` is not, and the prior is.

    Raises ValueError, in one line, for the first argument that is out of its range.
    """
    k, d = n_components, x.shape[1]

    def number(name: str, value: Any, default: float, least: float) -> np.ndarray:
        if value is None:
            return np.asarray(default, dtype=x.dtype)
        try:
            valid = not isinstance(value, bool) and np.ndim(value) == 0 and least < float(value) < np.inf
        except (TypeError, ValueError):
            valid = False
        if not valid:
            raise ValueError(f"{_called(name, flags)}{' ' if flags else '='}{value!r} must be a number above {least:g}")
        if not 1 / EXTREME <= float(value) <= EXTREME:
            raise ValueError(
                f"{_called(name, flags)}{' ' if flags else '='}{value!r} is too extreme: give a number from "
                f"{1 / EXTREME:g} to {EXTREME:g}"
            )
        return np.asarray(value, dtype=x.dtype)

    concentration = number("weight_concentration_prior", weight_concentration_prior, 1 / k, 0)
    # a stick is broken at v ~ Beta(1, concentration)
    sticks = np.stack([np.ones(k, x.dtype), np.full(k, concentration)])
    is_process = weight_concentration_prior_type == "dirichlet_process"
    if mean_prior is None:
        mean = x.mean(axis=0)
    else:
        mean = _array("mean_prior", mean_prior, (d,), x.dtype if centre is None else np.dtype(np.float64), flags)
        mean = centred(mean, centre, x.dtype)
    return VariationalPrior(
        sticks if is_process else np.full(k, concentration),
        number("mean_precision_prior", mean_precision_prior, 1, 0),
        mean,
        number("degrees_of_freedom_prior", degrees_of_freedom_prior, d, d - 1),
        _covariance(x, covariance_type, covariance_prior, reg_covar, flags),
    )


def _covariance(x: np.ndarray, kind: str, given: Any, reg_covar: float, flags: bool) -> np.ndarray:
    d = x.shape[1]
    shape = {"full": (d, d), "tied": (d, d), "diag": (d,), "spherical": ()}[kind]
    name = _called("covariance_prior", flags)
    if given is not None:
        covariance = _array("covariance_prior", given, shape, x.dtype, flags)
        if len(shape) == 2 and not np.allclose(covariance, covariance.T, rtol=1e-5, atol=0):
            raise ValueError(f"{name} should be symmetric, positive-definite, but is not symmetric")
        if _is_singular(covariance):
            raise ValueError(f"{name} should be positive-definite, but has the eigenvalue {_least(covariance):.3g}")
        return covariance
    if kind in ("full", "tied"):
        covariance, floor = np.atleast_2d(np.cov(x, rowvar=False)).astype(x.dtype), reg_covar * np.eye(d, dtype=x.dtype)
    else:
        variances = np.var(x, axis=0, ddof=1)
        covariance, floor = (variances if kind == "diag" else variances.mean()), x.dtype.type(reg_covar)
    if _is_singular(covariance):
        covariance = covariance + floor
    if _is_singular(covariance):
        raise ValueError(
            f"{name}: the data's covariance, which is the default, is singular (reg_covar={reg_covar:g}): remove "
            "columns that are constant or combinations of others, or give a prior of your own"
        )
    return np.asarray(covariance, dtype=x.dtype)


def _least(covariance: np.ndarray) -> float:
    return float(np.linalg.eigvalsh(covariance)[0] if covariance.ndim == 2 else covariance.min())


def _is_singular(covariance: np.ndarray) -> bool:
    """Or so near to it that rounding decides, or underflow."""
    variances = np.diagonal(covariance) if covariance.ndim == 2 else covariance
    if not variances.min() > least_variance(covariance.dtype):
        return True
    return covariance.ndim == 2 and bool(are_singular(covariance))


def _array(name: str, value: Any, shape: tuple[int, ...], dtype: np.dtype, flags: bool) -> np.ndarray:
    called = _called(name, flags)
    try:
        array = np.asarray(value, dtype=dtype)
    except (TypeError, ValueError):
        raise ValueError(f"{called}={value!r} holds no numbers: give an array of shape {shape}") from None
    if array.shape != shape:
        raise ValueError(f"{called} should have the shape of {shape}, but got {array.shape}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{called} has NaN or infinite entries: give finite numbers")
    return array


def _called(name: str, flags: bool) -> str:
    return "--" + name.replace("_", "-") if flags else name
