"""What a mixture of Gaussians is made of: parameters, priors and posteriors, their shapes and their covariances.

They are NumPy arrays or tensors of either framework.

Maximum likelihood and MAP end with `MixtureParameters`; the `MixturePrior` of MAP is a Dirichlet distribution
of the weights and a Normal-inverse-Wishart distribution of each component.

A Bayesian mixture ends with a posterior of the form of its prior. Its weights have a Dirichlet distribution
or are broken off a stick, its components Normal-Wishart distributions. Precisions are kept the way
scikit-learn keeps them, as covariances: that of the prior is the inverse of the Wishart's scale, W_0^-1;
those of the posterior are divided by the degrees of freedom, which makes each the inverse of the expected
precision, E[Lambda_k]^-1.

Source: C. Fraley and A. Raftery, "Bayesian regularization for normal mixture estimation and model-based
clustering", Journal of Classification 24 (2007), section 2.
"""

from typing import Any, NamedTuple

import numpy as np

from common.data.arrays import as_array
from common.data.chunks import centred
from common.data.messages import InputError, require

EXTREME = 1e30  # of a prior's numbers; beyond, their products leave single precision
PRIOR_TYPES = ("dirichlet_process", "dirichlet_distribution")
COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")
SINGULAR = 10  # a matrix is singular if its smallest eigenvalue is below this many D epsilons, well above rounding


class MixtureParameters(NamedTuple):
    """A mixture of Gaussians."""

    weights: Any  # (K,)
    means: Any  # (K, D)
    covariances: Any  # (K, D, D) full | (D, D) tied | (K, D) diag | (K,) spherical


class MixturePrior(NamedTuple):
    """The prior of MAP: pi ~ Dir(alpha), and for every component Sigma_k ~ IW(S_0, nu_0) and
    mu_k ~ N(m_0, Sigma_k / kappa_0)."""

    concentration: Any  # alpha (K,), each at least 1
    mean: Any  # m_0 (D,)
    mean_precision: Any  # kappa_0 (), as many points as the prior mean is worth
    scale: Any  # S_0 (D, D), symmetric positive definite
    degrees_of_freedom: Any  # nu_0 (), above D - 1


class VariationalPrior(NamedTuple):
    """The belief of a Bayesian mixture before the data."""

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


def covariance_shape(k: int, d: int, covariance_type: str) -> tuple[int, ...]:
    """The shape of K covariances of D features of this type."""
    return {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}[covariance_type]


def feature_variances(covariances: np.ndarray, covariance_type: str) -> np.ndarray:
    """The variances on the diagonals: (K, D) full, diag | (1, D) tied | (K, 1) spherical."""
    if covariance_type in ("full", "tied"):
        return np.atleast_2d(np.diagonal(covariances, axis1=-2, axis2=-1))
    return covariances.reshape(len(covariances), -1)


def pairs(d: int) -> tuple[np.ndarray, np.ndarray]:
    """The features i and j of the products of d features, D (D + 1) / 2 each: j is i, then i + 1, ..., modulo d.

    They stand as if the features sat in a circle: first every feature with itself, then with its neighbour,
    and so on, halfway round. So the products at one distance are those of two runs of features, which are
    quick to make.
    """
    number = d * (d + 1) // 2  # halfway round an even circle, each pair would come twice
    distance, i = np.divmod(np.arange(number), d)
    return i, (i + distance) % d


def places(d: int) -> np.ndarray:
    """Where the product of features i and j stands, (D, D)."""
    i, j = pairs(d)
    places = np.empty((d, d), dtype=np.int64)
    places[i, j] = places[j, i] = np.arange(len(i))
    return places


def are_singular(matrices: np.ndarray, times: float = 1.0) -> np.ndarray:
    """Which of the covariances (..., D, D), of positive diagonal, have singular correlations, but for rounding.

    The limit is well above the rounding of a matrix's entries; ``times`` as high for entries that are worse.
    """
    least = SINGULAR * matrices.shape[-1] * np.finfo(matrices.dtype).eps * max(1.0, times)
    matrices = matrices.astype(np.float64)  # what is judged are the matrices' digits, not those of the judgement
    deviations = np.sqrt(np.diagonal(matrices, axis1=-2, axis2=-1))  # (..., D)
    correlations = matrices / deviations[..., :, None] / deviations[..., None, :]
    return np.linalg.eigvalsh(correlations)[..., 0] <= least


def least_variance(dtype: Any) -> float:
    """The least variance whose digits no underflow takes."""
    return 100 * float(np.finfo(dtype).tiny) / float(np.finfo(dtype).eps)


def parameter_shapes(
    k: int, d: int, covariance_type: str, prior_type: str | None = None
) -> MixtureParameters | VariationalPosterior:
    """The shapes of a mixture's parameters or, with a type of prior, of a posterior."""
    covariances = covariance_shape(k, d, covariance_type)
    if prior_type is None:
        return MixtureParameters((k,), (k, d), covariances)
    concentration = (2, k) if prior_type == "dirichlet_process" else (k,)
    return VariationalPosterior(concentration, (k,), (k, d), () if covariance_type == "tied" else (k,), covariances)


def default_prior(x: np.ndarray, n_components: int) -> MixturePrior:
    """The weak, proper prior of Fraley and Raftery for data x (N, D), as arrays of the data's dtype.

    alpha = 1: every division of the weights is as likely as any other, and the prior adds nothing to their
    counts. m_0 = the mean of the data and kappa_0 = 0.01: the means are drawn to the centre as by a hundredth
    of a point. nu_0 = D + 2: the fewest whole degrees of freedom for which the inverse Wishart has a mean,
    which is S_0. S_0 = the covariance of the data / K^(2/D): each component is expected to fill a K-th of the
    data's volume.
    """
    n, d = x.shape
    if n < 2:
        raise InputError("x", f"has {n} row(s), which have no covariance: give at least 2 or a MixturePrior")
    scale = np.atleast_2d(np.cov(x, rowvar=False)) / n_components ** (2 / d)
    prior = MixturePrior(np.ones(n_components), x.mean(axis=0), 0.01, scale, d + 2)
    try:
        return check_prior(prior, n_components, d, x.dtype)
    except ValueError as error:
        remedy = "remove columns that are constant or combinations of others, or give a MixturePrior"
        raise InputError("x", f"has a singular covariance, which makes no scale: {remedy}") from error


def check_prior(prior: MixturePrior, n_components: int, n_features: int, dtype: Any = np.float64) -> MixturePrior:
    """The prior as arrays of ``dtype`` and of the shapes (K,), (D,), (), (D, D), (); a scalar concentration is for all.

    The error names the first field that is out of its range.
    """
    k, d = n_components, n_features
    if np.ndim(prior.concentration) == 0:
        prior = prior._replace(concentration=np.full(k, prior.concentration))
    shapes = MixturePrior((k,), (d,), (), (d, d), ())
    arrays = (check_array(*each, dtype) for each in zip(prior._fields, prior, shapes, strict=True))
    prior = MixturePrior(*arrays)
    if (least := prior.concentration.min()) < 1:
        raise InputError("concentration", "is below 1, where the prior has no mode: give 1 or more", float(least))
    if (kappa := prior.mean_precision) <= 0:
        raise InputError("mean_precision", "must be above 0: 0.01 is a weak prior", float(kappa))
    if (nu := prior.degrees_of_freedom) <= d - 1:
        raise InputError("degrees_of_freedom", f"must be above D - 1 = {d - 1}: {d + 2} is a weak prior", float(nu))
    if not np.allclose(prior.scale, prior.scale.T, rtol=1e-5, atol=0):
        raise InputError("scale", "is not symmetric: give a symmetric, positive definite matrix")
    eigenvalues = np.linalg.eigvalsh(prior.scale)
    if eigenvalues[0] <= d * np.finfo(dtype).eps * eigenvalues[-1]:
        what = f"has the eigenvalue {eigenvalues[0]:.3g}: give a symmetric, positive definite matrix"
        raise InputError("scale", what)
    return prior


def variational_prior(data: Any, **arguments: Any) -> VariationalPrior:
    """`make_prior` for a `FitData`, a table that was prepared."""
    sizes = data.x, data.n_components, data.covariance_type
    return make_prior(*sizes, reg_covar=data.reg_covar, centre=data.centre, **arguments)


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
    centre: np.ndarray | None = None,
) -> VariationalPrior:
    """The prior with scikit-learn's arguments and defaults for data x (N, D), as arrays of the data's dtype.

    By default the concentration is 1 / K, beta_0 = 1, m_0 the mean of the data, nu_0 = D and W_0^-1 the
    covariance of the data (its diagonal; the mean of that). Where the data's covariance is singular, and the
    prior would be none, ``reg_covar`` is added to its diagonal. Where x is less a ``centre`` (D,),
    ``mean_prior`` is not, and the prior is.
    """
    (k, d), dtype = (n_components, x.shape[1]), x.dtype
    if weight_concentration_prior_type not in PRIOR_TYPES:
        kind = weight_concentration_prior_type
        raise InputError("weight_concentration_prior_type", f"must be one of {', '.join(PRIOR_TYPES)}", kind)
    concentration = _number("weight_concentration_prior", weight_concentration_prior, 1 / k, 0, dtype)
    concentration = np.full(k, concentration)
    if weight_concentration_prior_type == "dirichlet_process":  # a stick is broken at v ~ Beta(1, concentration)
        concentration = np.stack([np.ones(k, dtype), concentration])
    if mean_prior is None:
        mean = x.mean(axis=0)
    else:
        mean = check_array("mean_prior", mean_prior, (d,), dtype if centre is None else np.float64)
        mean = centred(mean, centre, dtype)
    precision = _number("mean_precision_prior", mean_precision_prior, 1, 0, dtype)
    degrees = _number("degrees_of_freedom_prior", degrees_of_freedom_prior, d, d - 1, dtype)
    covariance = _covariance(x, covariance_type, covariance_prior, reg_covar)
    return VariationalPrior(concentration, precision, mean, degrees, covariance)


def _number(name: str, value: Any, default: float, least: float, dtype: np.dtype) -> np.ndarray:
    if value is None:
        return np.asarray(default, dtype=dtype)
    try:
        valid = not isinstance(value, bool) and np.ndim(value) == 0 and least < float(value) < np.inf
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise InputError(name, f"must be a number above {least:g}", value)
    if not 1 / EXTREME <= float(value) <= EXTREME:
        raise InputError(name, f"is too extreme: give a number from {1 / EXTREME:g} to {EXTREME:g}", value)
    return np.asarray(value, dtype=dtype)


def _covariance(x: np.ndarray, kind: str, given: Any, reg_covar: float) -> np.ndarray:
    """W_0^-1: the one given, checked, or the covariance of the data."""
    name, d, dtype = "covariance_prior", x.shape[1], x.dtype
    if given is not None:
        covariance = check_array(name, given, {"diag": (d,), "spherical": ()}.get(kind, (d, d)), dtype)
        if covariance.ndim == 2 and not np.allclose(covariance, covariance.T, rtol=1e-5, atol=0):
            raise InputError(name, "should be symmetric, positive-definite, but is not symmetric")
        if _is_singular(covariance):
            least = np.linalg.eigvalsh(covariance)[0] if covariance.ndim == 2 else covariance.min()
            raise InputError(name, f"should be positive-definite, but has the eigenvalue {least:.3g}")
        return covariance
    if kind in ("full", "tied"):
        covariance, floor = np.atleast_2d(np.cov(x, rowvar=False)).astype(dtype), reg_covar * np.eye(d, dtype=dtype)
    else:
        variances = np.var(x, axis=0, ddof=1)
        covariance, floor = (variances if kind == "diag" else variances.mean()), dtype.type(reg_covar)
    if _is_singular(covariance):
        covariance = covariance + floor
    if _is_singular(covariance):
        default = (
            f"has a singular covariance, which is the default of {{covariance_prior}} ({{reg_covar}}={reg_covar:g})"
        )
        remedy = "remove columns that are constant or combinations of others, or give a prior"
        raise InputError("X", f"{default}: {remedy}")
    return np.asarray(covariance, dtype=dtype)


def _is_singular(covariance: np.ndarray) -> bool:
    """Whether rounding or underflow may decide if it is."""
    variances = np.diagonal(covariance) if covariance.ndim == 2 else covariance
    if not variances.min() > least_variance(covariance.dtype):
        return True
    return covariance.ndim == 2 and bool(are_singular(covariance))


def check_array(name: str, value: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Finite numbers of this shape as an array of this dtype."""
    value = as_array(value, name)
    try:
        array = np.asarray(value, dtype=dtype)
    except (TypeError, ValueError):
        raise InputError(name, f"holds no numbers: give an array of shape {shape}", value) from None
    other = f"should have the shape of {shape}, but got {array.shape}: give it that shape"
    require(array.shape == shape, name, other)
    require(np.all(np.isfinite(array)), name, "has NaN or infinite entries: give finite numbers")
    return array
