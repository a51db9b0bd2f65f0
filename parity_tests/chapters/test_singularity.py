"""Collapse: the likelihood of a mixture is unbounded, of one Gaussian it is not, and each remedy does what it says."""

from types import ModuleType

import numpy as np
import pytest
import tensorflow as tf
import torch
from scipy import stats

import pytorch_impl.singularity as torch_singularity
import tf2_impl.singularity as tf_singularity
from common.data import datasets
from common.mixtures.priors import MixturePrior, default_prior
from parity_tests.conftest import MODES, Parity
from pytorch_impl.estimators import GaussianMixture as TorchMixture
from tf2_impl.estimators import GaussianMixture as TFMixture

both = pytest.mark.parametrize("module", [torch_singularity, tf_singularity], ids=["torch", "tf2"])
X = datasets.synthetic_mixture(60, 2, 2, 3.0, seed=5).x
WIDTHS = np.geomspace(1e-12, 10, 40)
CURVES = ("single_gaussian_curve", "mixture_curve", "regularised_curve", "penalised_curve")


def arguments(name: str, convert, dtype: str = "float64", widths: np.ndarray = WIDTHS) -> list:
    prior = MixturePrior(*(convert(np.asarray(field, dtype)) for field in default_prior(X, 2)))
    more = {"regularised_curve": [1e-6], "penalised_curve": [prior]}.get(name, [])
    return [convert(X.astype(dtype)), convert(widths.astype(dtype)), *more]


def curve(module: ModuleType, name: str) -> np.ndarray:
    return np.asarray(
        getattr(module, name)(*arguments(name, torch.tensor if module is torch_singularity else tf.constant))
    )


@pytest.mark.parametrize("name", CURVES)
def test_curves_and_their_slopes_agree(parity: Parity, name: str, dtype: str, mode: str) -> None:
    x, widths, *more = arguments(name, torch.tensor, dtype, WIDTHS[12::9])
    widths = widths.requires_grad_()
    value = getattr(torch_singularity, name)(x, widths, *more)
    (slope,) = torch.autograd.grad(value.sum(), widths)
    tf_x, tf_widths, *tf_more = arguments(name, tf.constant, dtype, WIDTHS[12::9])

    def with_gradient(x: tf.Tensor, widths: tf.Tensor) -> tuple:
        with tf.GradientTape() as tape:
            tape.watch(widths)
            value = getattr(tf_singularity, name)(x, widths, *tf_more)
        return value, tape.gradient(value, widths)

    tf_value, tf_slope = MODES[mode](with_gradient)(tf_x, tf_widths)
    parity.check(name, "output", value, tf_value, mode=mode)
    parity.check(f"{name} gradient", "gradient through a solve", slope, tf_slope, mode=mode)


@both
def test_densities_are_scipys(module: ModuleType) -> None:
    make = torch.tensor if module is torch_singularity else tf.constant
    for d in (1, 2, 5):
        for width in (0.1, 1.0, 1e-3):
            own = stats.multivariate_normal(np.zeros(d), width**2 * np.eye(d)).logpdf(np.zeros(d))
            value = module.log_density_at_own_centre(make(np.array([width])), d)
            assert float(value[0]) == pytest.approx(own, rel=1e-13)
    spread = stats.multivariate_normal(X.mean(axis=0), np.cov(X.T, bias=True)).pdf(X)
    for width, value in zip(WIDTHS[20:], curve(module, "mixture_curve")[20:], strict=True):
        spike = stats.multivariate_normal(X[0], width**2 * np.eye(2), allow_singular=True).pdf(X)
        assert value == pytest.approx(np.log(0.5 * spike + 0.5 * spread).sum(), rel=1e-11)
    singles = [stats.norm.logpdf(X, X[0], width).sum() for width in WIDTHS]
    np.testing.assert_allclose(curve(module, "single_gaussian_curve"), singles, rtol=1e-12)


@both
def test_the_mixture_diverges_and_the_single_gaussian_does_not(module: ModuleType) -> None:
    mixture, single = curve(module, "mixture_curve"), curve(module, "single_gaussian_curve")
    small = WIDTHS < 1e-3
    # log p grows by D per unit of -log sigma, as sigma^-D at the one point says
    slope = np.diff(mixture[small]) / np.diff(np.log(WIDTHS[small]))
    np.testing.assert_allclose(slope, -2, rtol=1e-7)
    assert np.all(np.diff(single[small]) > 0), "one Gaussian gains by growing"
    assert single[0] < -1e20


@both
def test_the_remedies_bound_it(module: ModuleType) -> None:
    plain, floored, penalised = (curve(module, name) for name in CURVES[1:])
    assert plain[0] > floored[0] + 10
    np.testing.assert_allclose(floored[:5], floored[0], atol=1e-9)  # the floor is reached: no gain in going on
    assert penalised[0] < penalised.max() - 1e10
    assert 1e-3 < WIDTHS[np.argmax(penalised)] < 10


@pytest.mark.parametrize("Mixture", [TorchMixture, TFMixture], ids=["torch", "tf2"])
def test_the_estimators_detect_a_collapse_and_say_so(Mixture: type) -> None:
    x = np.concatenate([X, [[40.0, 40.0]]])
    start = dict(weights_init=[0.9, 0.1], means_init=[X.mean(axis=0), [40.0, 40.0]], precisions_init=[np.eye(2)] * 2)
    with pytest.raises(ValueError, match=r"component 1 has collapsed.*increase reg_covar"):
        Mixture(2, reg_covar=0, tol=1e-9, max_iter=500, **start).fit(x)
    floored = Mixture(2, reg_covar=1e-4, tol=1e-9, max_iter=500, **start).fit(x)
    np.testing.assert_allclose(floored.covariances_[1], 1e-4 * np.eye(2), atol=1e-12)
