"""One Gaussian: the frameworks agree with each other, SciPy, NumPy, published figures and theory."""

from types import ModuleType

import numpy as np
import pytest
import tensorflow as tf
import torch
from scipy import stats

from common import draws
from common.data import datasets
from parity_tests.conftest import Parity
from parity_tests.support.frameworks import both, check_function, in_mode, is_torch, mixed, tensors

N, D = 60, 4
both_pages = both("gaussian")
FUNCTIONS = {
    "univariate_log_density": (("numbers", "number", "variance"), "output"),
    "log_density": (("x", "mean", "covariance"), "output"),
    "log_likelihood": (("x", "mean", "covariance"), "loss"),
    "mean_gradient": (("x", "mean", "covariance"), "gradient through a solve"),
    "mean_gradient_by_autodiff": (("x", "mean", "covariance"), "gradient through a solve"),
    "covariance_gradient": (("x", "mean", "covariance"), "gradient through a solve"),
    "covariance_gradient_by_autodiff": (("x", "mean", "covariance"), "gradient through a solve"),
    "maximum_likelihood": (("x",), "output"),
}


def arguments(seed: int, dtype: str = "float64") -> dict[str, np.ndarray]:
    """Arguments by name: points, and a mean and a covariance that are not theirs."""
    a = draws.normals(seed, "component", (D, D))
    values = {
        "x": draws.normals(seed, "sample", (N, D)) @ draws.normals(seed, "component", (D, D), step=1) + 3,
        "mean": draws.normals(seed, "component", (D,), step=2) + 3,
        "covariance": a @ a.T + 0.5 * np.eye(D),
        "numbers": draws.normals(seed, "sample", (N,), step=1),
        "number": np.array(0.3),
        "variance": np.array(1.7),
    }
    return {name: np.asarray(value, dtype=dtype) for name, value in values.items()}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients_agree(parity: Parity, name: str, dtype: str, mode: str) -> None:
    names, kind = FUNCTIONS[name]
    values = {argument: arguments(0, dtype)[argument] for argument in names}
    check_function(parity, "gaussian", name, values, (kind, "gradient through a solve"), mode, weigh=mixed)


@both_pages
@pytest.mark.parametrize("seed", range(3))
def test_densities_are_scipys(module: ModuleType, seed: int) -> None:
    a = arguments(seed)
    x, mean, covariance, numbers = tensors(module, a["x"], a["mean"], a["covariance"], a["numbers"])
    expected = stats.multivariate_normal(a["mean"], a["covariance"]).logpdf(a["x"])
    np.testing.assert_allclose(module.log_density(x, mean, covariance), expected, rtol=1e-12)
    assert float(module.log_likelihood(x, mean, covariance)) == pytest.approx(expected.sum(), rel=1e-13)
    ours = module.univariate_log_density(numbers, *tensors(module, -0.4, 0.09))
    np.testing.assert_allclose(ours, stats.norm(-0.4, 0.3).logpdf(a["numbers"]), rtol=1e-13)


@both_pages
@pytest.mark.parametrize("seed", range(3))
def test_the_formula_is_the_automatic_gradient_and_the_central_difference(module: ModuleType, seed: int) -> None:
    a = arguments(seed)
    t = tensors(module, a["x"], a["mean"], a["covariance"])
    by_hand, automatic = np.asarray(module.mean_gradient(*t)), np.asarray(module.mean_gradient_by_autodiff(*t))
    np.testing.assert_allclose(by_hand, automatic, rtol=1e-10, atol=1e-11 * np.abs(by_hand).max())
    of_covariance = np.asarray(module.covariance_gradient(*t))
    automatic = np.asarray(module.covariance_gradient_by_autodiff(*t))
    np.testing.assert_allclose(of_covariance, automatic, rtol=1e-10, atol=1e-11 * np.abs(of_covariance).max())
    np.testing.assert_allclose(of_covariance, of_covariance.T, rtol=1e-10, atol=1e-11 * np.abs(of_covariance).max())

    def value(mean: np.ndarray, covariance: np.ndarray) -> float:
        return stats.multivariate_normal(mean, covariance).logpdf(a["x"]).sum()

    h = 1e-6
    for i in range(D):
        step = h * np.eye(D)[i]
        slope = (value(a["mean"] + step, a["covariance"]) - value(a["mean"] - step, a["covariance"])) / (2 * h)
        assert by_hand[i] == pytest.approx(slope, rel=1e-6)
        for j in range(i + 1):
            step = h * (np.outer(np.eye(D)[i], np.eye(D)[j]) + np.outer(np.eye(D)[j], np.eye(D)[i])) / 2
            slope = (value(a["mean"], a["covariance"] + step) - value(a["mean"], a["covariance"] - step)) / (2 * h)
            assert of_covariance[i, j] == pytest.approx(slope, rel=1e-6, abs=1e-8 * np.abs(of_covariance).max())


@both_pages
def test_the_estimates_are_numpys_biased_ones(module: ModuleType) -> None:
    x = arguments(2)["x"]
    mean, covariance = module.maximum_likelihood(*tensors(module, x))
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(covariance, np.cov(x.T, bias=True), rtol=1e-13)
    np.testing.assert_allclose(covariance, torch.cov(torch.tensor(x.T), correction=0), rtol=1e-13)
    assert np.asarray(covariance)[0, 0] * N / (N - 1) == pytest.approx(np.var(x[:, 0], ddof=1), rel=1e-13)
    far = module.maximum_likelihood(*tensors(module, x + 1e6))[1]
    np.testing.assert_allclose(far, covariance, rtol=1e-8)


@both_pages
def test_the_gradient_is_zero_at_the_estimates(module: ModuleType) -> None:
    for x in (arguments(3)["x"], datasets.load("old-faithful").x):
        (t,) = tensors(module, x)
        mean, covariance = module.maximum_likelihood(t)
        scale = len(x) / np.sqrt(np.diagonal(np.asarray(covariance)))
        for gradient in (module.mean_gradient, module.mean_gradient_by_autodiff):
            assert np.all(np.abs(np.asarray(gradient(t, mean, covariance))) < 1e-11 * scale)
        for gradient in (module.covariance_gradient, module.covariance_gradient_by_autodiff):
            assert np.all(np.abs(np.asarray(gradient(t, mean, covariance))) < 1e-11 * np.outer(scale, scale))


def hessian_at_the_estimates(module: ModuleType, x: np.ndarray) -> np.ndarray:
    """Second derivatives of the log likelihood in the mean and the log-Cholesky factor, by autodiff."""
    (t,) = tensors(module, x)
    d = x.shape[1]
    mean, covariance = (np.asarray(v) for v in module.maximum_likelihood(t))
    rows, columns = np.tril_indices(d)
    factor = np.linalg.cholesky(covariance)
    free = np.where(rows == columns, np.log(np.abs(factor[rows, columns])), factor[rows, columns])
    start = np.concatenate([mean, free])
    if is_torch(module):

        def of_free(p: torch.Tensor) -> torch.Tensor:
            entries = torch.where(torch.tensor(rows == columns), torch.exp(p[d:]), p[d:])
            lower = torch.zeros(d, d, dtype=p.dtype).index_put((torch.tensor(rows), torch.tensor(columns)), entries)
            return module.log_likelihood(t, p[:d], lower @ lower.T)

        return torch.func.jacrev(torch.func.grad(of_free))(torch.tensor(start)).numpy()
    p = tf.constant(start)
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(p)
        with tf.GradientTape() as inner:
            inner.watch(p)
            entries = tf.where(rows == columns, tf.exp(p[d:]), p[d:])
            lower = tf.scatter_nd(np.stack([rows, columns], axis=1), entries, (d, d))
            value = module.log_likelihood(t, p[:d], tf.matmul(lower, lower, transpose_b=True))
        gradient = inner.gradient(value, p)
    return outer.jacobian(gradient, p, experimental_use_pfor=False).numpy()


@both_pages
def test_the_estimates_are_a_maximum(module: ModuleType) -> None:
    """Second derivatives are negative definite; the mean's block is -N Sigma^-1, the Fisher information."""
    for x in (arguments(4)["x"], datasets.load("old-faithful").x):
        hessian, d = hessian_at_the_estimates(module, x), x.shape[1]
        np.testing.assert_allclose(hessian, hessian.T, rtol=1e-9, atol=1e-9 * np.abs(hessian).max())
        scale = np.sqrt(-np.diagonal(hessian))
        assert np.linalg.eigvalsh(hessian / np.outer(scale, scale)).max() < -1e-6
        information = len(x) * np.linalg.inv(np.cov(x.T, bias=True))
        np.testing.assert_allclose(-hessian[:d, :d], information, rtol=1e-9)
        np.testing.assert_allclose(hessian[:d, d:], 0, atol=1e-9 * np.abs(hessian).max())


@both_pages
def test_old_faithful(module: ModuleType) -> None:
    (x,) = tensors(module, datasets.load("old-faithful").x)
    mean, covariance = module.maximum_likelihood(x)
    assert float(module.log_likelihood(x, mean, covariance)) == pytest.approx(-1289.796745, abs=1e-6)


@both_pages
@pytest.mark.parametrize("bad", [-np.eye(2), np.ones((2, 2)), np.full((2, 2), np.nan)], ids=["negative", "flat", "nan"])
def test_a_covariance_that_is_none_gives_nan(module: ModuleType, mode: str, bad: np.ndarray) -> None:
    t = tensors(module, np.array([[0.0, 1.0], [2.0, 1.0], [1.0, -1.0]]), np.zeros(2), bad)
    for name in ("log_density", "log_likelihood", "mean_gradient", "covariance_gradient"):
        assert np.all(np.isnan(np.asarray(in_mode(module, getattr(module, name), mode)(*t)))), name
    variances = tensors(module, np.zeros(3), 0.0, -1.0)
    assert np.all(np.isnan(np.asarray(in_mode(module, module.univariate_log_density, mode)(*variances))))
