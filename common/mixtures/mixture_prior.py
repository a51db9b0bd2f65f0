"""The conjugate prior of a mixture of Gaussians: Dirichlet on the weights, Normal-inverse-Wishart on each component.

Defined once for both frameworks, with a weak default and with everything that is checked before it is used.

Source: C. Fraley and A. Raftery, "Bayesian regularization for normal mixture estimation and model-based clustering",
Journal of Classification 24 (2007), section 2.
"""

from typing import Any, NamedTuple

import numpy as np


class MixturePrior(NamedTuple):
    """The prior's parameters, NumPy arrays or either framework's tensors: pi ~ Dir(alpha), and for every component

    Sigma_k ~ IW(S_0, nu_0) and mu_k ~ N(m_0, Sigma_k / kappa_0).
    """

    concentration: Any  # alpha (K,), each at least 1
    mean: Any  # m_0 (D,)
    mean_precision: Any  # kappa_0 (), as many points as the prior mean is worth
    scale: Any  # S_0 (D, D), symmetric positive definite
    degrees_of_freedom: Any  # nu_0 (), above D - 1


def default_prior(x: np.ndarray, n_components: int) -> MixturePrior:
    """The weak, proper prior of Fraley and Raftery for data x (N, D), as arrays of the data's dtype.

    alpha = 1: every division of the weights is as likely as any other, and the prior adds nothing to their counts.
    m_0 = the mean of the data and kappa_0 = 0.01: the means are drawn to the centre as by a hundredth of a point.
    nu_0 = D + 2: the fewest whole degrees of freedom for which the inverse Wishart has a mean, which is S_0.
    S_0 = the covariance of the data / K^(2/D): each component is expected to fill a K-th of the data's volume.
    Raises ValueError, in one line, if x has fewer than two rows or its covariance is singular.
    """
    n, d = x.shape
    if n < 2:
        raise ValueError(f"x has {n} row(s), which have no covariance: give at least 2 or a MixturePrior of your own")
    scale = np.atleast_2d(np.cov(x, rowvar=False)) / n_components ** (2 / d)
    prior = MixturePrior(np.ones(n_components), x.mean(axis=0), 0.01, scale, d + 2)
    try:
        return check_prior(prior, n_components, d, x.dtype)
    except ValueError as error:
        raise ValueError(
            "x has a singular covariance, which makes no scale: remove columns that are constant or combinations of "
            "others, or give a MixturePrior of your own"
        ) from error


def check_prior(prior: MixturePrior, n_components: int, n_features: int, dtype: Any = np.float64) -> MixturePrior:
    """The prior as arrays of ``dtype`` and of the shapes (K,), (D,), (), (D, D), (); a scalar concentration is for all.

    Raises ValueError, in one line, for the first field that is out of its range.
    """
    k, d = n_components, n_features
    shapes = {"concentration": (k,), "mean": (d,), "mean_precision": (), "scale": (d, d), "degrees_of_freedom": ()}
    arrays = {}
    for name, shape in shapes.items():
        array = np.asarray(getattr(prior, name), dtype=dtype)
        if name == "concentration" and array.ndim == 0:
            array = np.full(shape, array)
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}: give one of shape {shape}")
        if not np.all(np.isfinite(array)):
            raise ValueError(f"{name} has NaN or infinite entries: give finite numbers")
        arrays[name] = array
    checked = MixturePrior(**arrays)
    if (least := checked.concentration.min()) < 1:
        raise ValueError(f"concentration={least:g} is below 1, where the prior has no mode: give 1 or more")
    if checked.mean_precision <= 0:
        raise ValueError(f"mean_precision={checked.mean_precision:g} must be above 0: 0.01 is a weak prior")
    if checked.degrees_of_freedom <= d - 1:
        raise ValueError(
            f"degrees_of_freedom={checked.degrees_of_freedom:g} must be above D - 1 = {d - 1}: {d + 2} is a weak prior"
        )
    if not np.allclose(checked.scale, checked.scale.T, rtol=1e-5, atol=0):
        raise ValueError("scale is not symmetric: give a symmetric, positive definite matrix")
    eigenvalues = np.linalg.eigvalsh(checked.scale)
    if eigenvalues[0] <= d * np.finfo(dtype).eps * eigenvalues[-1]:
        raise ValueError(f"scale has the eigenvalue {eigenvalues[0]:.3g}: give a symmetric, positive definite matrix")
    return checked
