"""Collapse: a mixture's likelihood is unbounded, one Gaussian's is not, and each remedy works."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

from common.data import datasets
from common.mixtures.parameters import default_prior
from parity_tests.conftest import Parity
from parity_tests.support.frameworks import both, both_estimators, check_function, tensor, tensors

both_pages = both("singularity")
TABLES = {d: datasets.synthetic_mixture(60, 2, d, 3.0, seed=5).x for d in (1, 2, 3)}
X = TABLES[2]
features = pytest.mark.parametrize("d", TABLES)
WIDTHS = np.geomspace(1e-12, 10, 40)
CURVES = ("single_gaussian_curve", "mixture_curve", "regularised_curve", "penalised_curve")


def curve_at(module: ModuleType, name: str, x: Any, widths: Any) -> Any:
    """A curve of the page, with what it takes beside points and widths."""
    dtype = "float32" if "32" in str(x.dtype) else "float64"
    prior = tensor(module, default_prior(TABLES[x.shape[1]], 2), dtype)
    return getattr(module, name)(x, widths, *{"regularised_curve": [1e-6], "penalised_curve": [prior]}.get(name, []))


def curve(module: ModuleType, name: str, d: int) -> np.ndarray:
    return np.asarray(curve_at(module, name, *tensors(module, TABLES[d], WIDTHS)))


@pytest.mark.parametrize("name", CURVES)
def test_curves_and_their_slopes_agree(parity: Parity, name: str, dtype: str, mode: str) -> None:
    arguments = {"x": X.astype(dtype), "widths": WIDTHS[12::9].astype(dtype)}
    kinds = "output", "gradient through a solve"
    check_function(
        parity, "singularity", name, arguments, kinds, mode, lambda m, *t: curve_at(m, name, *t), by=["widths"]
    )


@both_pages
@features
def test_curves_are_scipys(module: ModuleType, d: int) -> None:
    x, prior = TABLES[d], default_prior(TABLES[d], 2)
    own = [stats.norm.logpdf(0, 0, width) * d for width in WIDTHS]
    np.testing.assert_allclose(module.log_density_at_own_centre(tensor(module, WIDTHS), d), own, rtol=1e-13)
    singles = [stats.norm.logpdf(x, x[0], width).sum() for width in WIDTHS]
    np.testing.assert_allclose(curve(module, "single_gaussian_curve", d), singles, rtol=1e-12)
    mean, spread = x.mean(axis=0), np.cov(x.T, bias=True).reshape(d, d)
    of_prior = stats.dirichlet.logpdf([0.5, 0.5], prior.concentration)

    def log_prior(centre: np.ndarray, covariance: np.ndarray) -> float:
        of_mean = stats.multivariate_normal(prior.mean, covariance / prior.mean_precision, allow_singular=True)
        of_covariance = stats.invwishart(float(prior.degrees_of_freedom), prior.scale).logpdf(covariance)
        return of_covariance + of_mean.logpdf(centre)

    for name, added in (("mixture_curve", 0.0), ("regularised_curve", 1e-6), ("penalised_curve", 0.0)):
        for width, value in list(zip(WIDTHS, curve(module, name, d), strict=True))[20::4]:
            spike = (width**2 + added) * np.eye(d)
            of_both = [stats.multivariate_normal(*each).logpdf(x) for each in ((x[0], spike), (mean, spread))]
            expected = (np.logaddexp(*of_both) - np.log(2)).sum()
            if name == "penalised_curve":
                expected += of_prior + log_prior(x[0], spike) + log_prior(mean, spread)
            assert value == pytest.approx(expected, rel=1e-9), (name, width)


@both_pages
@features
def test_the_mixture_diverges_and_the_single_gaussian_does_not(module: ModuleType, d: int) -> None:
    mixture, single = curve(module, "mixture_curve", d), curve(module, "single_gaussian_curve", d)
    small = WIDTHS < 1e-3
    # log p grows by D per unit of -log sigma, as sigma^-D at the one point says
    slope = np.diff(mixture[small]) / np.diff(np.log(WIDTHS[small]))
    np.testing.assert_allclose(slope, -d, rtol=1e-3 if d == 1 else 1e-7)
    assert np.all(np.diff(single[small]) > 0), "one Gaussian gains by growing"
    assert single[0] < -1e20


@both_pages
def test_the_remedies_bound_it(module: ModuleType) -> None:
    plain, floored, penalised = (curve(module, name, 2) for name in CURVES[1:])
    assert plain[0] > floored[0] + 10
    np.testing.assert_allclose(floored[:5], floored[0], atol=1e-9)  # the floor is reached: no gain in going on
    assert penalised[0] < penalised.max() - 1e10
    assert 1e-3 < WIDTHS[np.argmax(penalised)] < 10


@both_estimators("GaussianMixture")
def test_the_estimators_detect_a_collapse_and_say_so(Mixture: type) -> None:
    x = np.concatenate([X, [[40.0, 40.0]]])
    start = dict(weights_init=[0.9, 0.1], means_init=[X.mean(axis=0), [40.0, 40.0]], precisions_init=[np.eye(2)] * 2)
    with pytest.raises(ValueError, match=r"component 1 has collapsed.*increase reg_covar"):
        Mixture(2, reg_covar=0, tol=1e-9, max_iter=500, **start).fit(x)
    floored = Mixture(2, reg_covar=1e-4, tol=1e-9, max_iter=500, **start).fit(x)
    np.testing.assert_allclose(floored.covariances_[1], 1e-4 * np.eye(2), atol=1e-12)
