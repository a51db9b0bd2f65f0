"""What hostile input found, one line each: an answer wrong in one framework, an error that differed."""

from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch

from common import draws

PAGES = ("autoencoder", "backend", "coin", "coin_mixture", "estimators", "gaussian", "gmm", "vae", "variational_gmm")
TORCH, TF2 = (
    SimpleNamespace(**{page: import_module(f"{package}.{page}") for page in PAGES})
    for package in ("pytorch_impl", "tf2_impl")
)
packages = pytest.mark.parametrize("package", [TORCH, TF2], ids=["torch", "tf2"])
X = draws.normals(0, "sample", (40, 2))
LINE = np.column_stack([X[:, 0], 2 * X[:, 0]])
ZERO_COLUMN = np.column_stack([X[:, 0], np.zeros(40)])
INDEFINITE, INFINITE = np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([[np.inf, 1.0], [1.0, 1.0]])


@packages
@pytest.mark.parametrize("matrix", [INDEFINITE, INFINITE])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_factor_that_does_not_exist(package: Any, matrix: np.ndarray, dtype: str) -> None:
    factor = package.backend.evaluate(package.gaussian.cholesky, matrix.astype(dtype))
    np.testing.assert_array_equal(factor, [[np.nan, 0], [np.nan, np.nan]])


@packages
def test_no_maximum_is_seen_where_there_is_no_density(package: Any) -> None:
    arguments = (package.backend.tensor(a) for a in (X, np.zeros(2), INDEFINITE))
    gradient = package.gaussian.covariance_gradient_by_autodiff(*arguments)  # was zero in PyTorch
    assert np.all(np.isnan(np.asarray(gradient)))


def test_drawn_components_have_one_dtype() -> None:
    arguments = np.array([0.5, 0.5]), np.zeros((2, 2)), np.ones(2), np.array([0.2, 0.7]), np.zeros((2, 2))
    for package in (TORCH, TF2):
        drawn = package.backend.evaluate(lambda *a, p=package: p.gmm.sample(*a, "spherical"), *arguments)
        assert drawn[1].dtype == np.int64


@packages
def test_arrays_may_run_backwards(package: Any) -> None:
    np.testing.assert_array_equal(np.asarray(package.backend.tensor(X[::-1])), X[::-1])


def mixture(**arguments: Any) -> Callable:
    return lambda package: package.estimators.GaussianMixture(2, random_state=0, **arguments)


def beliefs(**arguments: Any) -> Callable:
    return lambda package: package.estimators.BayesianGaussianMixture(2, random_state=0, **arguments)


COLLAPSED = "component 0 has collapsed: its covariance is singular up to rounding"
REFUSED = {
    "weights that vanish against the largest": (
        lambda p: mixture()(p).fit(X, sample_weight=np.r_[1.0, np.full(39, 1e-310)]),
        r"^sample_weight leaves 1 points of positive weight, fewer than n_components=2 or than 2: give weight to more",
    ),
    "a scale whose squares underflow": (
        lambda p: mixture()(p).fit(X * [1, 1e-150]),
        r"^X has no entry above 2.* in column 1, whose squares underflow; scale the data$",
    ),
    "float32, too": (
        lambda p: mixture()(p).fit((X * 1e-15).astype(np.float32)),
        r"^X has no entry above .* in column 0, whose squares underflow; scale the data$",
    ),
    "points on a line, distinct by rounding only": (lambda p: mixture(reg_covar=0)(p).fit(LINE), COLLAPSED),
    "a floor that is below rounding": (lambda p: mixture(reg_covar=1e-6)(p).fit(LINE * 1e8), COLLAPSED),
    "a floor that underflows": (lambda p: mixture(reg_covar=1e-320)(p).fit(np.zeros((4, 1))), COLLAPSED),
    "a row too far away": (
        lambda p: mixture()(p).fit(X).predict([[0, 0], [1e200, 0]]),
        r"^X has the row 1 \(1 such\) so far from every component that its log density is beyond float64: leave it out",
    ),
    "a predicted row too far away": (
        lambda p: beliefs()(p).fit(X).predictive_log_density([[1e200, 0]]),
        "^X has the row 0 .1 such. so far",
    ),
    "a prior that underflows": (
        lambda p: beliefs(covariance_type="diag", reg_covar=1e-320)(p).fit(ZERO_COLUMN),
        "^X has a singular covariance, which is the default of covariance_prior",
    ),
    "a prior's number too extreme": (
        lambda p: beliefs(mean_precision_prior=1e-320)(p).fit(X),
        "^mean_precision_prior=1e-320 is too extreme: give a number from 1e-30 to 1e.30$",
    ),
    "a weight to start from too small": (
        lambda p: mixture(weights_init=[1e-320, 1.0])(p).fit(X),
        r"^weights_init has the entry 1e-320, too small to be told from 0: give 0, or 2\.2e-308$",
    ),
    "a Beta density's parameter too small": (
        lambda p: p.estimators.BetaBernoulli(1e-320, 1),
        "^a=1e-320 is too extreme: give a number from 1e-150 to 1e.150$",
    ),
    "a probability too small": (
        lambda p: p.estimators.BetaBernoulli().log_likelihood([1], 1e-320),
        r"^theta=1e-320 is too small to be told from 0: give 0, or 2\.2e-308 or more$",
    ),
    "more tosses than can be counted": (
        lambda p: p.estimators.CoinMixture().fit([1, 2], 1e300),
        "^tosses has the entry 1e.300 at position 0: give at most 9007199254740992, up to which float64 counts$",
    ),
    "a starting bias too small": (
        lambda p: p.estimators.CoinMixture(biases_init=[1e-320, 0.5]).fit([1, 2], 3),
        "^biases_init has the entry 9.99989e-321 at position 0, too small to be told from 0: give 0, or 2.2e-308 or mo",
    ),
    "a size that is a truth value": (lambda p: p.vae.VAE(True), "^data_dim=True must be an integer of at least 1$"),
    "a variance that underflows": (
        lambda p: p.vae.VAE(4, likelihood="gaussian", variance=1e-320),
        r"^variance=1e-320 must be from 1\.2e-38 to 8\.5e.37 in float32; scale x$",
    ),
}


@packages
@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_both_and_in_one_line(package: Any, case: str) -> None:
    function, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as error:
        function(package)
    assert "\n" not in str(error.value)


@packages
@pytest.mark.parametrize("size", [1e300, 1e-300])
def test_weights_of_any_size(package: Any, size: float) -> None:
    weight = draws.uniforms(0, "sample", (40,))
    ours, plain = (mixture()(package).fit(X, sample_weight=w) for w in (size * weight, weight))
    np.testing.assert_allclose(ours.means_, plain.means_, rtol=1e-12)


@packages
def test_sizes_may_be_numpys(package: Any) -> None:
    size = np.int64(2)
    package.vae.VAE(2 * size, size, size, model="conv", image_shape=(size, size), channels=size)
    package.autoencoder.Autoencoder(2 * size, size, size)


def test_tensors_of_both_frameworks_are_known() -> None:
    assert mixture()(TORCH).fit(tf.constant(X)).means_.tolist() == mixture()(TORCH).fit(X).means_.tolist()
    assert mixture()(TF2).fit(torch.tensor(X)).means_.tolist() == mixture()(TF2).fit(X).means_.tolist()
