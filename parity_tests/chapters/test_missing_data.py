"""Missing entries: the frameworks agree with each other, SciPy, partition formulas, published numbers."""

import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch
from scipy import stats

from common import draws
from common.data import chunks, datasets
from common.mixtures.input import check_missing
from common.mixtures.start import initial_responsibilities, mean_imputed
from parity_tests.conftest import Parity
from parity_tests.support import frameworks, problems
from parity_tests.support.frameworks import in_mode, is_torch, sibling, tensor, tensors
from parity_tests.support.loops import Course, run_em

N, D, K = 40, 4, 3
PARAMETERS = ("weights", "means", "covariances")
both_pages = frameworks.both("missing_data")


def problem(dtype: str = "float64", seed: int = 0, missing: float = 0.35, empty_row: bool = True) -> tuple:
    """x, observed, weights, means and covariances; some rows complete, one wholly missing."""
    x, *parameters = problems.mixture("full", seed, dtype, n=N, k=K, d=D)
    observed = draws.uniforms(seed, "held-out", (N, D)) > missing
    observed[1] = True
    observed[0] = not empty_row
    return x * observed, observed, *parameters


def densities(module: ModuleType, x: Any, observed: Any, *theta: Any) -> tuple:
    """All that the E step computes of the observed parts."""
    of_components = module.component_log_densities(x, observed, *theta[1:])
    joint, total = module.log_joint(x, observed, *theta), module.log_likelihood(x, observed, *theta)
    return of_components, joint, total, *module.e_step(x, observed, *theta)


def completions(module: ModuleType, x: Any, observed: Any, *theta: Any) -> tuple:
    """All that is said of the missing parts, and one iteration in which every row counts differently."""
    dtype = "float32" if "32" in str(x.dtype) else "float64"
    random = draws.uniforms(0, "sample", (N,)), draws.normals(0, "sample", (N, D), 1)
    drawn = module.impute_draw(x, observed, *theta, *tensors(module, *random, dtype=dtype))
    weight = tensor(module, np.linspace(0.5, 2, N), dtype)
    parameters, total = module.em_iteration(x, observed, *theta, 1e-3, weight)
    moments = module.conditional_moments(x, observed, *theta[1:])
    return *moments, module.impute(x, observed, *theta), drawn, *parameters, total


NAMES = {
    densities: ("component_log_densities", "log_joint", "log_likelihood", "e_step", "e_step responsibilities"),
    completions: ("conditional_moments mean", "conditional_moments covariance", "impute", "impute_draw",
                  *(f"em_iteration {name}" for name in PARAMETERS), "em_iteration log likelihood"),
}  # fmt: skip


@pytest.mark.parametrize("group", NAMES)
def test_values_and_gradients_agree(parity: Parity, group: Callable, dtype: str, mode: str) -> None:
    x, observed, *theta = problem(dtype)
    arguments = dict(zip(("x", "observed", *PARAMETERS), (x, observed, *theta), strict=True))
    # in single precision, to compile the gradients too would take ten seconds
    of_gradients = None if (mode, dtype) == ("xla", "float32") else "gradient through a solve"
    kinds = ["em responsibilities" if "responsibilities" in name else "output" for name in NAMES[group]]
    frameworks.check_function(
        parity, "missing_data", group.__name__, arguments, (kinds, of_gradients), mode, group,
        by=("x", *PARAMETERS), weigh=frameworks.mixed, parts=NAMES[group],
    )  # fmt: skip


def test_em_agrees_over_iterations(parity: Parity) -> None:
    """A hundred iterations in float64, each framework on its own parameters."""
    x, observed, *start = problem(missing=0.2)

    def iterate(module: ModuleType, *parameters: Any) -> tuple:
        return module.em_iteration(*tensors(module, x, observed), *parameters, 1e-3)

    frameworks.check_iterations(parity, "missing_data", iterate, start, 100, "function", quantities=("EM", "EM"))


@both_pages
def test_density_is_scipys_on_the_observed_part(module: ModuleType) -> None:
    x, observed, weights, means, covariances = problem()
    found = np.asarray(module.component_log_densities(*tensors(module, x, observed, means, covariances)))
    for n, k in np.ndindex(N, K):
        o = observed[n]
        expected = (
            stats.multivariate_normal.logpdf(x[n, o], means[k, o], covariances[k][np.ix_(o, o)]) if o.any() else 0
        )
        assert found[n, k] == pytest.approx(expected, rel=1e-11, abs=1e-12)
    # a row that says nothing has probability one, and its component is as likely as any point's
    log_density, gamma = module.e_step(*tensors(module, x, observed, weights, means, covariances))
    assert float(log_density[0]) == pytest.approx(0, abs=1e-14)
    np.testing.assert_allclose(gamma[0], weights, 1e-14)
    total = np.log((weights * np.exp(found)).sum(axis=1)).sum()
    assert float(module.log_likelihood(*tensors(module, x, observed, weights, means, covariances))) == pytest.approx(
        total
    )


@both_pages
def test_moments_are_the_partition_formula(module: ModuleType) -> None:
    """Bishop 2.81 and 2.82 with an explicit inverse, row by row: the moments of the joint density."""
    x, observed, _, means, covariances = problem()
    completed, unexplained = (
        np.asarray(v) for v in module.conditional_moments(*tensors(module, x, observed, means, covariances))
    )
    for n, k in np.ndindex(N, K):
        o, m = observed[n], ~observed[n]
        sigma = covariances[k]
        regression = sigma[np.ix_(m, o)] @ np.linalg.inv(sigma[np.ix_(o, o)])
        mean, covariance = x[n].copy(), np.zeros((D, D))
        mean[m] = means[k, m] + regression @ (x[n, o] - means[k, o])
        covariance[np.ix_(m, m)] = sigma[np.ix_(m, m)] - regression @ sigma[np.ix_(o, m)]
        np.testing.assert_allclose(completed[n, k], mean, 1e-10, 1e-12)
        np.testing.assert_allclose(unexplained[n, k], covariance, 1e-10, 1e-12)
        np.testing.assert_array_equal(completed[n, k, o], x[n, o])
    np.testing.assert_array_equal(unexplained, np.swapaxes(unexplained, 2, 3))


@both_pages
def test_what_fills_the_gaps_does_not_matter(module: ModuleType) -> None:
    x, observed, *theta = problem()
    other = np.where(observed, x, 1e6)
    for function in (module.expected_statistics, module.impute):
        a, b = (function(*tensors(module, value, observed, *theta)) for value in (x, other))
        for ours, theirs in zip(a, b, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@both_pages
def test_with_nothing_missing_it_is_the_mixture(module: ModuleType) -> None:
    gmm = sibling(module, "gmm")
    x, _, *theta = problem()
    x = datasets.synthetic_mixture(N, K, D, 3.0).x
    tx, everything, *theta = tensors(module, x, np.ones((N, D), dtype=bool), *theta)
    weight = tensor(module, np.linspace(0, 2, N))
    pairs = [
        (module.component_log_densities(tx, everything, *theta[1:]), gmm.component_log_densities(tx, *theta[1:])),
        (module.log_joint(tx, everything, *theta), gmm.log_joint(tx, *theta)),
        (module.log_likelihood(tx, everything, *theta), gmm.log_likelihood(tx, *theta)),
        *zip(module.e_step(tx, everything, *theta), gmm.e_step(tx, *theta), strict=True),
    ]
    for sample_weight in (None, weight):
        ours, total = module.em_iteration(tx, everything, *theta, 1e-3, sample_weight)
        theirs, expected = gmm.em_iteration(tx, *theta, "full", 1e-3, sample_weight)
        pairs += [*zip(ours, theirs, strict=True), (total, expected)]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, 1e-12, 1e-300)
    np.testing.assert_array_equal(module.impute(tx, everything, *theta), x)


@both_pages
@pytest.mark.parametrize("seed", range(2))
def test_likelihood_never_falls_and_ends_stationary(module: ModuleType, seed: int) -> None:
    """One iteration at a time; at the end the gradient of the observed log likelihood is zero."""
    x, observed, *start = problem(seed=seed, missing=0.15, empty_row=False)
    start = [v[:2] / v[:2].sum() if v.ndim == 1 else v[:2] for v in start]
    result = fit(module, x, observed, start, tol=1e-11, max_iter=1500)
    assert np.all(np.diff(result.bounds) >= -1e-11 * np.abs(result.bounds[1:]))
    assert result.converged

    def likelihood(x: Any, observed: Any, logits: Any, means: Any, covariances: Any) -> Any:
        weights = torch.softmax(logits, 0) if is_torch(module) else tf.nn.softmax(logits)
        return module.log_likelihood(x, observed, weights, means, covariances)

    weights, *rest = (np.asarray(v) for v in result.parameters)
    _, found = frameworks.differentiate(module, likelihood, [x, observed, np.log(weights), *rest], by=(2, 3, 4))
    for gradient in found:
        assert np.abs(np.asarray(gradient)).max() < 1e-5


def fit(module: ModuleType, x: np.ndarray, observed: np.ndarray, start: Any, tol: float, max_iter: int) -> Course:
    """EM until no parameter moves."""
    tx, to = tensors(module, x, observed)
    step = in_mode(module, module.em_iteration, "function")
    start = tuple(tensors(module, *start))
    return run_em(lambda p: step(tx, to, *p), start, tol=tol, max_iter=max_iter, until_still=True)


MURRAY = np.array(
    [(1, 1), (1, -1), (-1, 1), (-1, -1), *[(2, np.nan)] * 2, *[(-2, np.nan)] * 2, *[(np.nan, 2)] * 2,
     *[(np.nan, -2)] * 2]
)  # fmt: skip


@both_pages
@pytest.mark.parametrize(("covariance", "rho"), [(0.3, 0.5), (-0.01, -0.5), (0.0, 0.0)])
def test_murrays_twelve_points(module: ModuleType, covariance: float, rho: float) -> None:
    """Two maxima and a saddle between them, from G. Murray's remark on Dempster, Laird and Rubin (1977).

    The stationary points are rho = +-1/2 with sigma² = 8/3, and rho = 0 with sigma² = 5/2.
    """
    x, observed = check_missing(MURRAY)
    start = np.ones(1), np.zeros((1, 2)), np.array([[[1.0, covariance], [covariance, 2.0]]])
    result = fit(module, x, observed, start, tol=1e-11, max_iter=3000)
    weights, means, covariances = (np.asarray(v) for v in result.parameters)
    variance, log_likelihood = (8 / 3, -29.974286) if rho else (5 / 2, -30.033342)
    assert result.bounds[-1] == pytest.approx(log_likelihood, abs=1e-6)
    np.testing.assert_allclose(covariances[0], variance * np.array([[1, rho], [rho, 1]]), 1e-8, 1e-9)
    np.testing.assert_allclose(means, 0, atol=1e-9)
    # independently: four pairs, and eight numbers alone
    sigma = covariances[0]
    pairs = stats.multivariate_normal.logpdf(MURRAY[:4], np.zeros(2), sigma).sum()
    alone = 8 * stats.norm.logpdf(2, 0, np.sqrt(variance))
    assert pairs + alone == pytest.approx(result.bounds[-1], rel=1e-9)

    def log_likelihood_of(entries: Any) -> Any:  # variance, covariance, variance
        s, c, t = entries[0], entries[1], entries[2]
        if is_torch(module):
            matrix = torch.stack([torch.stack([s, c]), torch.stack([c, t])])
        else:
            matrix = tf.stack([tf.stack([s, c]), tf.stack([c, t])])
        return module.log_likelihood(*tensors(module, x, observed, weights, means), matrix[None])

    gradient, hessian = derivatives(module, log_likelihood_of, np.array([sigma[0, 0], sigma[0, 1], sigma[1, 1]]))
    np.testing.assert_allclose(gradient, 0, atol=1e-7)
    top = np.linalg.eigvalsh(hessian)[-1]
    assert top > 0.01 if rho == 0 else top < -0.01, hessian


def derivatives(module: ModuleType, function: Callable, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and Hessian of a scalar function of one vector."""
    if is_torch(module):
        gradient, hessian = torch.func.grad(function), torch.autograd.functional.hessian(function, torch.tensor(at))
        return gradient(torch.tensor(at)).numpy(), hessian.numpy()
    vector = tf.constant(at)
    with tf.GradientTape() as outer:
        outer.watch(vector)
        with tf.GradientTape() as inner:
            inner.watch(vector)
            value = function(vector)
        gradient = inner.gradient(value, vector)
    return gradient.numpy(), outer.jacobian(gradient, vector).numpy()


@both_pages
def test_draws_have_the_conditional_moments(module: ModuleType) -> None:
    """Many draws for a row with two gaps: shares, mean and covariance of the mixture given the rest."""
    s = 40_000
    x, observed, *theta = problem()
    x, observed = np.tile([[0.4, 0.0, 0.0, -0.3]], (s, 1)), np.tile([[True, False, False, True]], (s, 1))
    arguments = tensors(module, x, observed, *theta)
    random = draws.uniforms(1, "sample", (s,)), draws.normals(1, "sample", (s, D), 1)
    drawn = np.asarray(module.impute_draw(*arguments, *tensors(module, *random)))
    np.testing.assert_array_equal(drawn[observed], x[observed])
    one = [a[:1] for a in arguments[:2]] + arguments[2:]
    _, gamma, completed, unexplained = (np.asarray(v)[0] for v in module.expected_statistics(*one))
    mean = gamma @ completed
    second = np.einsum("k,kij->ij", gamma, unexplained + completed[:, :, None] * completed[:, None, :])
    covariance = second - np.outer(mean, mean)
    np.testing.assert_allclose(np.asarray(module.impute(*one))[0], mean, 1e-12)
    error = np.sqrt(np.diag(covariance) / s)
    assert np.all(np.abs(drawn.mean(axis=0) - mean) <= 4 * error)
    scale = np.sqrt(np.diag(covariance)[1:3])
    apart = (np.cov(drawn[:, 1:3].T) - covariance[1:3, 1:3]) / np.outer(scale, scale)
    assert np.abs(apart).max() < 0.05
    # without noise, and u below the first responsibility, the draw is the first component's regression
    still = module.impute_draw(*one, *tensors(module, np.array([1e-12]), np.zeros((1, D))))
    np.testing.assert_allclose(np.asarray(still)[0], completed[0], 1e-12)
    # and unit noise adds the columns of the lower factor of its covariance
    four = [tensor(module, np.repeat(np.asarray(a), D, axis=0)) for a in one[:2]] + one[2:]
    moved = module.impute_draw(*four, *tensors(module, np.full(D, 1e-12), np.eye(D)))
    columns = (np.asarray(moved) - completed[0])[1:3, 1:3].T
    np.testing.assert_allclose(columns, np.linalg.cholesky(unexplained[0, 1:3, 1:3]), rtol=1e-10, atol=1e-12)
    # and u close to one chooses the last component, never one beyond it
    last = module.impute_draw(*one, *tensors(module, np.array([1 - 2.0**-53]), np.zeros((1, D))))
    np.testing.assert_allclose(np.asarray(last)[0], completed[-1], 1e-12)


@both_pages
def test_airquality(module: ModuleType) -> None:
    """New York, 1973: the fit rises, fills the gaps within reason, and uses more than the complete days."""
    x = datasets.load("airquality").x
    assert np.isnan(x).sum(axis=0).tolist() == [37, 7, 0, 0]
    filled, observed = check_missing(x)
    imputed = mean_imputed(filled, observed)
    gamma = initial_responsibilities(imputed, 2, "kmeans", np.random.RandomState(0))
    start = sibling(module, "gmm").m_step(*tensors(module, imputed, gamma))
    tx, to = tensors(module, filled, observed)
    step = in_mode(module, module.em_iteration, "function")
    for k, parameters in (
        (1, sibling(module, "gmm").m_step(tensor(module, imputed), tensor(module, np.ones((153, 1))))),
        (2, start),
    ):
        result = run_em(lambda p: step(tx, to, *p), parameters, tol=1e-8, max_iter=2000)
        assert result.converged
        assert np.all(np.diff(result.bounds) >= -1e-9), f"{k} components"
        completed = np.asarray(module.impute(tx, to, *result.parameters))
        np.testing.assert_array_equal(completed[observed], x[observed])
        ozone, radiation = completed[~observed[:, 0], 0], completed[~observed[:, 1], 1]
        assert -30 < ozone.min() < ozone.max() < 168  # the highest that was measured
        assert 7 < radiation.min() < radiation.max() < 334
        # a hot day has more ozone: the regression knows, the column's mean does not
        assert np.corrcoef(ozone, x[~observed[:, 0], 3])[0, 1] > 0.6
    assert result.bounds[-1] > -2350


INFINITE = "X contains infinity (inf) at row 2, column 1 (1 such entries)"


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (2, 1, np.inf, f"{INFINITE}: give finite numbers, or NaN for a missing entry"),
        (1, slice(None), np.nan, "X has nothing but NaN in row 1 (1 such): remove it"),
        (slice(None), 2, np.nan, "X has nothing but NaN in column 2 (1 such): remove it"),
    ],
)
def test_border_refuses(row: Any, column: Any, value: float, message: str) -> None:
    x = np.arange(12.0).reshape(4, 3)
    x[row, column] = value
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_missing(x)


def test_border_and_start(dtype: str) -> None:
    x = np.array([[0.1, 7], [np.nan, np.nan], [0.1, 9], [0.1, np.nan]], dtype=dtype)
    given = x.copy()
    filled, observed = check_missing(np.vstack([x[:1], x[2:]]))
    np.testing.assert_array_equal(x, given)
    assert filled.dtype == dtype
    np.testing.assert_array_equal(observed, [[1, 1], [1, 1], [1, 0]])
    np.testing.assert_array_equal(filled, np.array([[0.1, 7], [0.1, 9], [0.1, 0]], dtype=dtype))
    imputed = mean_imputed(np.nan_to_num(x), ~np.isnan(x))
    # a column of equal numbers stays one, to the bit
    np.testing.assert_array_equal(imputed, np.array([[0.1, 7], [0.1, 8], [0.1, 9], [0.1, 8]], dtype=dtype))
    assert imputed.dtype == dtype
    table = datasets.load("airquality").x.astype(dtype)
    np.testing.assert_allclose(mean_imputed(*check_missing(table)).mean(axis=0), np.nanmean(table, axis=0), 1e-5)


@both_pages
def test_a_uniform_number_on_a_boundary_draws_from_the_component_above(module: ModuleType, mode: str) -> None:
    """A row that observed nothing has the weights as responsibilities; u = 1/4 is past the first."""
    weights, means, covariances = np.array([0.25, 0.5, 0.25]), np.array([[0.0], [10.0], [20.0]]), np.ones((3, 1, 1))
    uniforms = np.array([np.nextafter(0.25, 0), 0.25, np.nextafter(0.75, 0), 0.75])
    arrays = np.zeros((4, 1)), np.zeros((4, 1), bool), weights, means, covariances, uniforms, np.zeros((4, 1))
    drawn = in_mode(module, module.impute_draw, mode)(*tensors(module, *arrays))
    np.testing.assert_allclose(np.asarray(drawn)[:, 0], [0.0, 10.0, 10.0, 20.0], atol=1e-12)


@both_pages
def test_blocks_of_rows_add_up_to_the_table(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The E step and the imputation in blocks of three rows."""
    arguments = tensors(module, *problem(empty_row=False))
    whole = *module.e_step(*arguments), module.impute(*arguments)
    monkeypatch.setattr(chunks, "NUMBERS_IN_A_CHUNK", 3 * K * D**2)
    assert len(chunks.runs_of_rows(N, K * D**2)) == -(-N // 3)
    for ours, theirs in zip(whole, (*module.e_step(*arguments), module.impute(*arguments)), strict=True):
        np.testing.assert_allclose(np.asarray(theirs), np.asarray(ours), rtol=1e-10, atol=1e-10)
