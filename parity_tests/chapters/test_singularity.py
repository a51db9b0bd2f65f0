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
X = datasets.synthetic_mixture(60, 2, 2, 3.0, seed=5).x
WIDTHS = np.geomspace(1e-12, 10, 40)
CURVES = ("single_gaussian_curve", "mixture_curve", "regularised_curve", "penalised_curve")


def curve_at(module: ModuleType, name: str, x: Any, widths: Any) -> Any:
    """A curve of the page, with what it takes beside points and widths."""
    dtype = "float32" if "32" in str(x.dtype) else "float64"
    prior = tensor(module, default_prior(X, 2), dtype)
    return getattr(module, name)(x, widths, *{"regularised_curve": [1e-6], "penalised_curve": [prior]}.get(name, []))


def curve(module: ModuleType, name: str) -> np.ndarray:
    return np.asarray(curve_at(module, name, *tensors(module, X, WIDTHS)))


@pytest.mark.parametrize("name", CURVES)
def test_curves_and_their_slopes_agree(parity: Parity, name: str, dtype: str, mode: str) -> None:
    arguments = {"x": X.astype(dtype), "widths": WIDTHS[12::9].astype(dtype)}
    kinds = "output", "gradient through a solve"
    check_function(
        parity, "singularity", name, arguments, kinds, mode, lambda m, *t: curve_at(m, name, *t), by=["widths"]
    )


@both_pages
def test_densities_are_scipys(module: ModuleType) -> None:
    for d in (1, 2, 5):
        for width in (0.1, 1.0, 1e-3):
            own = stats.multivariate_normal(np.zeros(d), width**2 * np.eye(d)).logpdf(np.zeros(d))
            value = module.log_density_at_own_centre(tensor(module, [width]), d)
            assert float(value[0]) == pytest.approx(own, rel=1e-13)
    spread = stats.multivariate_normal(X.mean(axis=0), np.cov(X.T, bias=True)).pdf(X)
    for width, value in zip(WIDTHS[20:], curve(module, "mixture_curve")[20:], strict=True):
        spike = stats.multivariate_normal(X[0], width**2 * np.eye(2), allow_singular=True).pdf(X)
        assert value == pytest.approx(np.log(0.5 * spike + 0.5 * spread).sum(), rel=1e-11)
    singles = [stats.norm.logpdf(X, X[0], width).sum() for width in WIDTHS]
    np.testing.assert_allclose(curve(module, "single_gaussian_curve"), singles, rtol=1e-12)


@both_pages
def test_the_mixture_diverges_and_the_single_gaussian_does_not(module: ModuleType) -> None:
    mixture, single = curve(module, "mixture_curve"), curve(module, "single_gaussian_curve")
    small = WIDTHS < 1e-3
    # log p grows by D per unit of -log sigma, as sigma^-D at the one point says
    slope = np.diff(mixture[small]) / np.diff(np.log(WIDTHS[small]))
    np.testing.assert_allclose(slope, -2, rtol=1e-7)
    assert np.all(np.diff(single[small]) > 0), "one Gaussian gains by growing"
    assert single[0] < -1e20


@both_pages
def test_the_remedies_bound_it(module: ModuleType) -> None:
    plain, floored, penalised = (curve(module, name) for name in CURVES[1:])
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
