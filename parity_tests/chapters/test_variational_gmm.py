"""The variational mixture: the frameworks agree; the bound is one, with the right value, by closed form and by
enumeration; no update lowers it; and scikit-learn's posteriors are reached where its model is the same."""

import itertools
import warnings
from types import ModuleType

import numpy as np
import pytest
import sklearn.mixture
import torch
from scipy import special, stats
from sklearn.utils.estimator_checks import check_estimator

from common import draws
from common.data import datasets
from common.mixtures.input import prepare
from common.mixtures.parameters import (
    COVARIANCE_TYPES,
    PRIOR_TYPES,
    VariationalPosterior,
    VariationalPrior,
    make_prior,
    variational_prior,
)
from common.runs.rounding import round_posterior
from parity_tests.conftest import Parity
from parity_tests.support.frameworks import both, both_estimators, check_iterations, in_mode, pair, sibling, tensor
from parity_tests.support.problems import of_kind

TORCH = pair("variational_gmm")[0]
both_pages = both("variational_gmm")
estimators = both_estimators("BayesianGaussianMixture")
all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
both_priors = pytest.mark.parametrize("process", PRIOR_TYPES)
FAITHFUL = datasets.load("old-faithful").x
FAITHFUL = (FAITHFUL - FAITHFUL.mean(axis=0)) / FAITHFUL.std(axis=0)
SPARSE = dict(weight_concentration_prior_type="dirichlet_distribution", weight_concentration_prior=1e-3)
SPARSE |= dict(mean_precision_prior=1.0, degrees_of_freedom_prior=2.0, covariance_prior=np.eye(2), reg_covar=0)


def problem(kind: str, process: str, seed: int = 0, n: int = 90, k: int = 3, d: int = 3, separation: float = 2.0):
    """Points, responsibilities that explain them badly, and a prior that is nobody's default."""
    x = datasets.synthetic_mixture(n, k, d, separation, seed).x
    gamma = draws.uniforms(seed, "start", (n, k))
    covariance = np.atleast_2d(np.cov(x.T)) * 0.4
    given = dict(mean_precision_prior=0.5, mean_prior=x[0], degrees_of_freedom_prior=d + 0.5)
    given |= dict(weight_concentration_prior_type=process, weight_concentration_prior=0.3)
    prior = make_prior(
        x, k, kind, covariance_prior=of_kind(kind, covariance[None])[() if kind == "tied" else 0], **given
    )
    return x, gamma / gamma.sum(axis=1, keepdims=True), prior


def bound(module: ModuleType, x: object, gamma: object, posterior: tuple, prior: tuple, kind: str) -> float:
    return float(sum(module.bound_terms(module.statistics(x, gamma, kind), gamma, posterior, prior, kind)))


def converged(module: ModuleType, x: np.ndarray, gamma: np.ndarray, prior: tuple, kind: str, iterations: int) -> tuple:
    x, gamma, prior = (tensor(module, value) for value in (x, gamma, prior))
    posterior, value = module.m_step(module.statistics(x, gamma, kind), prior, kind), -np.inf
    for _ in range(iterations):
        posterior, value = module.variational_iteration(x, posterior, prior, kind)
    return posterior, float(value)


# The frameworks agree


# Every kind and prior eagerly; traced and compiled, some of each: compiling is what takes time.
CASES = [("eager", kind, process) for kind in COVARIANCE_TYPES for process in PRIOR_TYPES]
CASES += [("function", kind, PRIOR_TYPES[index % 2]) for index, kind in enumerate(COVARIANCE_TYPES)]
CASES += [("xla", "full", PRIOR_TYPES[1]), ("xla", "diag", PRIOR_TYPES[0])]


@pytest.mark.parametrize(("mode", "kind", "process"), CASES)
def test_one_iteration_agrees_in_every_part(parity: Parity, kind: str, process: str, dtype: str, mode: str) -> None:
    x, gamma, prior = problem(kind, process)
    x, gamma, prior = x.astype(dtype), gamma.astype(dtype), VariationalPrior(*(a.astype(dtype) for a in prior))

    def everything(module: ModuleType, x: object, gamma: object, *fields: object) -> tuple:
        prior = VariationalPrior(*fields)
        first = module.m_step(module.statistics(x, gamma, kind, 1e-3), prior, kind)
        log_normaliser, r = module.e_step(x, first, kind)
        data = module.statistics(x, r, kind)
        terms, scales = module.bound_terms(data, r, first, prior, kind), module.expected_log_scales(first, kind)
        return first, log_normaliser, r, data, terms, module.predictive_log_density(x, first, kind), scales

    arrays = (x, gamma, *prior)
    ours, theirs = (
        in_mode(m, lambda *t, m=m: everything(m, *t), mode)(*(tensor(m, a) for a in arrays))
        for m in pair("variational_gmm")
    )
    of_mixtures = "m_step", "e_step", "responsibilities", "statistics", "bound_terms"
    names = (*of_mixtures, "predictive_log_density", "expected_log_scales")
    kinds = ("output", "output", "em responsibilities", "em parameters", "log gamma", "student", "log gamma")
    for name, tolerance, a, b in zip(names, kinds, ours, theirs, strict=True):
        if isinstance(a, tuple):
            for field, one, other in zip(a._fields, a, b, strict=True):
                parity.check(name, tolerance, one, other, f"{kind} {process} {field}", mode)
        else:
            parity.check(name, tolerance, a, b, f"{kind} {process}", mode)


TRAJECTORIES = [("function", kind, PRIOR_TYPES[index % 2], "float64") for index, kind in enumerate(COVARIANCE_TYPES)]
TRAJECTORIES += [("function", "full", PRIOR_TYPES[1], "float64"), ("xla", "full", PRIOR_TYPES[1], "float64")]
TRAJECTORIES += [("function", "full", PRIOR_TYPES[0], "float32")]
LONG = [("function", "diag", PRIOR_TYPES[1], "float32"), ("eager", "full", PRIOR_TYPES[1], "float64")]
TRAJECTORIES += [pytest.param(*case, marks=pytest.mark.long) for case in LONG]


@pytest.mark.parametrize(("mode", "kind", "process", "dtype"), TRAJECTORIES)
def test_200_iterations_agree(parity: Parity, mode: str, kind: str, process: str, dtype: str) -> None:
    """In float32, where trajectories part by rounding alone, each step of forty starts from one state."""
    x, gamma, prior = problem(kind, process, 1, n=120, k=5, d=2)
    x, gamma, prior = x.astype(dtype), gamma.astype(dtype), VariationalPrior(*(a.astype(dtype) for a in prior))
    start = TORCH.m_step(TORCH.statistics(*(tensor(TORCH, a) for a in (x, gamma)), kind), tensor(TORCH, prior), kind)

    def iterate(module: ModuleType, *fields: object) -> tuple:
        posterior = VariationalPosterior(*fields)
        return module.variational_iteration(tensor(module, x), posterior, tensor(module, prior), kind)

    start, steps = [np.asarray(a) for a in start], 200 if dtype == "float64" else 40
    kinds, fields = ("variational bound", "em parameters"), VariationalPosterior._fields
    quantities, label = ("variational_iteration 200 in a row",) * 2, f"{kind} {process}"
    check_iterations(parity, "variational_gmm", iterate, start, steps, mode, label, quantities, kinds, fields)


# The bound is one, and has the right value


def log_evidence_given_choices(x: np.ndarray, z: np.ndarray, k: int, kind: str, prior: VariationalPrior) -> float:
    """log p(X | Z) by conjugacy, written from Murphy (2007), "Conjugate Bayesian analysis of the Gaussian": Gammas for
    the scalar kinds, where the code has Wisharts throughout."""
    d, b0, m0 = x.shape[1], float(prior.mean_precision), prior.mean
    nu0, s0 = float(prior.degrees_of_freedom), prior.covariance
    heaps = [x[z == j] for j in range(k)]
    total = sum(0.5 * d * np.log(b0 / (b0 + len(heap))) for heap in heaps) - 0.5 * x.size * np.log(2 * np.pi)

    def scatter(heap: np.ndarray) -> np.ndarray:
        if len(heap) == 0:
            return np.zeros((d, d))
        mean, n = heap.mean(axis=0), len(heap)
        return (heap - mean).T @ (heap - mean) + b0 * n / (b0 + n) * np.outer(mean - m0, mean - m0)

    def wishart(n: int, nu: float, before: np.ndarray, after: np.ndarray) -> float:
        log_gammas = special.multigammaln((nu + n) / 2, d) - special.multigammaln(nu / 2, d)
        determinants = 0.5 * nu * np.linalg.slogdet(before)[1] - 0.5 * (nu + n) * np.linalg.slogdet(after)[1]
        return log_gammas + determinants + 0.5 * n * d * np.log(2)

    def gamma(n: float, a: float, rate: float, added: float) -> float:
        log_powers = a * np.log(rate) - (a + n / 2) * np.log(rate + added / 2)
        return special.gammaln(a + n / 2) - special.gammaln(a) + log_powers

    if kind == "full":
        return total + sum(wishart(len(heap), nu0, s0, s0 + scatter(heap)) for heap in heaps)
    if kind == "tied":
        return total + wishart(len(x), k * nu0, k * s0, k * s0 + sum(map(scatter, heaps)))
    for heap in heaps:
        variances = np.diagonal(scatter(heap))
        if kind == "diag":
            total += sum(gamma(len(heap), nu0 / 2, s / 2, added) for s, added in zip(s0, variances, strict=True))
        else:
            total += gamma(d * len(heap), d * nu0 / 2, d * float(s0) / 2, variances.sum())
    return total


@both_pages
@all_types
@both_priors
def test_with_one_component_the_bound_is_the_evidence(module: ModuleType, kind: str, process: str) -> None:
    """One component is conjugate. A stick gives it all but what q(v) pays for pi_1 = v below one."""
    x, _, prior = problem(kind, process, 2, n=40, k=1)
    _, value = converged(module, x, np.ones((40, 1)), prior, kind, 2)
    evidence = log_evidence_given_choices(x, np.zeros(40, int), 1, kind, prior)
    if process == "dirichlet_process":  # all 40 points at the first table: E[v^40] = B(1 + 40, alpha) / B(1, alpha)
        evidence += special.betaln(41, 0.3) - special.betaln(1, 0.3)
    assert value == pytest.approx(evidence, rel=1e-13)


@both_pages
@all_types
@both_priors
def test_the_bound_is_below_the_exact_evidence(module: ModuleType, kind: str, process: str) -> None:
    """All 2^6 assignments of six points in two heaps; of the process, also every point that goes beyond the two.

    The evidence of the infinite mixture sums over partitions, p(Z) being that of the Chinese restaurant. A
    tied precision needs a number of components, so it is left out there.
    """
    x = draws.normals(0, "sample", (6, 2)) + np.repeat([[0.0, 0.0], [5.0, 2.0]], 3, axis=0)
    prior = problem(kind, process, n=30, k=2, d=2)[2]._replace(mean=x.mean(axis=0))
    alpha, terms = 0.3, []
    if process == "dirichlet_distribution":
        for z in map(np.array, itertools.product(range(2), repeat=6)):
            n = np.bincount(z, minlength=2)
            log_p = special.betaln(alpha + n[0], alpha + n[1]) - special.betaln(alpha, alpha)
            terms.append(log_p + log_evidence_given_choices(x, z, 2, kind, prior))
    else:
        if kind == "tied":
            pytest.skip("one precision for infinitely many components has no prior here")
        for z in map(np.array, itertools.product(range(6), repeat=6)):
            if all(z[i] <= max(z[:i], default=-1) + 1 for i in range(6)):  # each partition once
                n = np.bincount(z)
                # alpha^K prod_k (n_k - 1)! / (alpha (alpha + 1) ... (alpha + N - 1))
                log_p = len(n) * np.log(alpha) + special.gammaln(n).sum() - np.log(special.poch(alpha, 6))
                terms.append(log_p + log_evidence_given_choices(x, z, len(n), kind, prior))
    evidence = special.logsumexp(terms)
    found = [
        converged(module, x, g / g.sum(axis=1, keepdims=True), prior, kind, 20)[1]
        for g in draws.uniforms(3, "start", (3, 6, 2))
    ]
    assert max(found) < evidence
    assert evidence - max(found) < 3, "close enough to mean something: two twins cost log 2"
    hard = np.repeat(np.eye(2), 3, axis=0)
    assert converged(module, x, hard, prior, kind, 1)[1] < evidence


@both_pages
@all_types
def test_any_posterior_gives_a_bound(module: ModuleType, kind: str) -> None:
    """Away from the best q too: E_q[log p - log q] by Monte Carlo, the densities SciPy's."""
    x, gamma, prior = problem(kind, "dirichlet_distribution", 4, n=12, k=2, d=2)
    t = [tensor(module, value) for value in (x, gamma, prior)]
    q = module.m_step(module.statistics(t[0], t[1], kind), t[2], kind)
    moved = VariationalPosterior(*(np.asarray(a) for a in q))
    moved = moved._replace(means=moved.means + 0.3, degrees_of_freedom=moved.degrees_of_freedom + 1.5)
    other = np.roll(gamma, 1, axis=0)
    value = bound(module, t[0], tensor(module, other), tensor(module, moved), t[2], kind)
    samples = np.random.default_rng(0)
    s, (k, d) = 4000, moved.means.shape
    pi = samples.dirichlet(moved.weight_concentration, size=s)
    log_ratio = stats.dirichlet(prior.weight_concentration).logpdf(pi.T)
    log_ratio -= stats.dirichlet(moved.weight_concentration).logpdf(pi.T)

    def draw(nu: float, inverse_scale: np.ndarray, nu_0: float, inverse_scale_0: np.ndarray) -> np.ndarray:
        q = stats.wishart(float(nu), np.linalg.inv(inverse_scale))
        p = stats.wishart(float(nu_0), np.linalg.inv(inverse_scale_0))
        size = len(inverse_scale)
        drawn = q.rvs(s, random_state=samples).reshape(s, size, size)
        moved_axis = np.moveaxis(drawn, 0, -1)
        log_ratio[:] += np.reshape(p.logpdf(moved_axis) - q.logpdf(moved_axis), s)
        return drawn

    nu, c, nu_0, c_0 = moved.degrees_of_freedom, moved.covariances, prior.degrees_of_freedom, prior.covariance
    one = np.eye(1)
    if kind == "full":
        precisions = [draw(nu[j], nu[j] * c[j], nu_0, c_0) for j in range(k)]
    elif kind == "tied":
        precisions = [draw(k * nu, k * nu * c, k * nu_0, k * c_0)] * k
    elif kind == "diag":
        each = [[draw(nu[j], nu[j] * c[j, i] * one, nu_0, c_0[i] * one)[:, 0, 0] for i in range(d)] for j in range(k)]
        precisions = [np.stack(e, axis=1)[:, :, None] * np.eye(d) for e in each]
    else:
        each = [draw(d * nu[j], d * nu[j] * c[j] * one, d * nu_0, d * c_0 * one)[:, 0, 0] for j in range(k)]
        precisions = [e[:, None, None] * np.eye(d) for e in each]
    for j, precision in enumerate(precisions):

        def log_normal(value, mean, precision=precision):
            form = np.einsum("...i,...ij,...j->...", value - mean, precision, value - mean)
            return 0.5 * (np.linalg.slogdet(precision)[1] - d * np.log(2 * np.pi) - form)

        factor = np.linalg.cholesky(np.linalg.inv(moved.mean_precision[j] * precision))
        mu = moved.means[j] + np.einsum("sij,sj->si", factor, samples.standard_normal((s, d)))
        p0, q0 = float(prior.mean_precision), float(moved.mean_precision[j])
        log_ratio += log_normal(mu, prior.mean, p0 * precision) - log_normal(mu, moved.means[j], q0 * precision)
        log_ratio += sum(other[n, j] * (np.log(pi[:, j]) + log_normal(x[n], mu)) for n in range(len(x)))
    log_ratio -= special.xlogy(other, other).sum()
    assert abs(value - log_ratio.mean()) < 4.5 * log_ratio.std() / np.sqrt(s)


# No update lowers it


@both_pages
@all_types
@both_priors
def test_no_single_update_lowers_the_bound(module: ModuleType, kind: str, process: str) -> None:
    """E step, q(pi) and q(mu, Lambda), one at a time; and no small step away from the optimum raises it."""
    x, gamma, prior = problem(kind, process, 8, separation=1.5)
    x, gamma, prior = (tensor(module, value) for value in (x, gamma, prior))
    q = module.m_step(module.statistics(x, gamma, kind), prior, kind)
    before = bound(module, x, gamma, q, prior, kind)
    for iteration in range(6):
        for update in ("E step", "weights", "components"):
            data = module.statistics(x, gamma, kind)
            if update == "E step":
                gamma = module.e_step(x, q, kind)[1]
            elif update == "weights":
                q = q._replace(weight_concentration=module.update_weights(data.counts, prior))
            else:
                q = VariationalPosterior(q.weight_concentration, *module.update_components(data, prior, kind))
            after = bound(module, x, gamma, q, prior, kind)
            assert after >= before - 1e-12 * abs(before), f"{update} {iteration}: {before} to {after}"
            before = after
    for name, value in zip(q._fields, q, strict=True):
        for factor in (0.99, 1.01):
            elsewhere = q._replace(**{name: value * factor})
            assert bound(module, x, gamma, elsewhere, prior, kind) < before, f"{name} times {factor}"
    mixed = 0.98 * gamma + 0.02 / gamma.shape[1]
    best = module.e_step(x, q, kind)[1]
    assert bound(module, x, mixed, q, prior, kind) < bound(module, x, best, q, prior, kind)


@both_pages
@all_types
def test_after_an_e_step_the_bound_is_the_normaliser_less_two_divergences(module: ModuleType, kind: str) -> None:
    x, gamma, prior = (tensor(module, value) for value in problem(kind, "dirichlet_process", 5))
    q = module.m_step(module.statistics(x, gamma, kind), prior, kind)
    log_normaliser, gamma = module.e_step(x, q, kind)
    terms = module.bound_terms(module.statistics(x, gamma, kind), gamma, q, prior, kind)
    kl_weights = -float(terms.weights + terms.weights_entropy)
    kl_components = -float(terms.components + terms.components_entropy)
    assert kl_weights > 0
    assert kl_components > 0
    expected = float(np.asarray(log_normaliser).sum()) - kl_weights - kl_components
    assert float(sum(terms)) == pytest.approx(expected, rel=1e-13)


@both_pages
@all_types
@both_priors
def test_after_an_m_step_the_bound_is_an_entropy_and_an_evidence(module: ModuleType, kind: str, process: str) -> None:
    """Whatever the responsibilities are, and however much regularisation their statistics have."""
    x, gamma, prior = (tensor(module, value) for value in problem(kind, process, 5))
    data = module.statistics(x, gamma, kind, 0.1)
    q = module.m_step(data, prior, kind)
    entropy = -tensor(module, special.xlogy(*[np.asarray(gamma)] * 2).sum())
    expected = float(sum(module.bound_terms(data, gamma, q, prior, kind)))
    assert float(module.bound_after_m_step(data, entropy, q, prior, kind)) == pytest.approx(expected, rel=1e-13)


FAR = 1e4  # costs more digits than the common centre may lose
CHUNKED = [(kind, PRIOR_TYPES[i % 2], FAR * (i % 3 > 0)) for i, kind in enumerate(COVARIANCE_TYPES)]


@pytest.mark.parametrize(("kind", "process", "far"), CHUNKED)
def test_chunks_change_nothing(kind: str, process: str, far: float) -> None:
    """Six iterations on sufficient statistics are those of the chapter, with every bound."""
    x = np.vstack([datasets.synthetic_mixture(300, 3, 3, 2.0, 1).x, draws.normals(0, "sample", (50, 3)) + far])
    data, narrow = prepare(x, 4, kind, 1e-6, method="variational"), {"diag": np.ones(3), "spherical": 1.0}
    given = dict(covariance_prior=narrow.get(kind, np.eye(3)), mean_precision_prior=1e-9)
    data = data._replace(prior=variational_prior(data, weight_concentration_prior_type=process, **given))
    gamma = draws.uniforms(2, "start", (350, 4))
    gamma = gamma / gamma.sum(axis=1, keepdims=True) * 0.1
    gamma[np.arange(350), np.arange(350) // 100] += 0.9
    for module in pair("algorithms"):
        plain, chunked = (
            cls(data, sibling(module, "backend").shared) for cls in (module.Variational, module.VariationalInChunks)
        )
        q = p = plain.start(x, gamma)
        for _ in range(6):
            (q, expected), (p, found) = plain.iterate(q), chunked.iterate(p)
            assert float(found) == pytest.approx(float(expected), rel=1e-10)
        for name, a, b in zip(q._fields, q, p, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-7, atol=1e-9 * np.abs(a).max(), err_msg=name)


def test_rounding_the_posterior_hardly_moves_the_bound() -> None:
    """The rounded posterior is a posterior on a grid, and rounding twice changes nothing."""
    for kind in COVARIANCE_TYPES:
        x, gamma, prior = problem(kind, "dirichlet_process", 6)
        q, _ = converged(TORCH, x, gamma, prior, kind, 300)
        q = VariationalPosterior(*(np.asarray(a) for a in q))
        once = round_posterior(q, kind)
        for name, a, b in zip(q._fields, once, round_posterior(once, kind), strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_allclose(a, getattr(q, name), rtol=1e-6, atol=1e-6)
        before, after = (
            bound(TORCH, points, TORCH.e_step(points, posterior, kind)[1], posterior, t_prior, kind)
            for points, posterior, t_prior in ([tensor(TORCH, v) for v in (x, p, prior)] for p in (q, once))
        )
        assert after == pytest.approx(before, rel=1e-12), "of second order, at the best q"


# The predictive density


@both_pages
@all_types
@both_priors
def test_the_predictive_density_is_a_density_and_an_average(module: ModuleType, kind: str, process: str) -> None:
    """It integrates to one, and is the mean density over parameters drawn from q, by SciPy."""
    x, gamma, prior = problem(kind, process, 7, n=25, k=2, d=1)
    q, _ = converged(module, x, gamma, prior, kind, 5)

    def density(v: np.ndarray) -> np.ndarray:
        return np.exp(np.asarray(module.predictive_log_density(tensor(module, v[:, None]), q, kind)))

    angle = (np.arange(20_000) + 0.5) / 20_000 * np.pi - np.pi / 2  # x = tan(angle) covers the whole line
    assert np.mean(density(np.tan(angle)) / np.cos(angle) ** 2) * np.pi == pytest.approx(1, abs=1e-6)
    samples, s = np.random.default_rng(1), 200_000
    a = VariationalPosterior(*(np.asarray(value) for value in q))
    concentration = a.weight_concentration
    if process == "dirichlet_process":
        v = concentration[0] / concentration.sum(axis=0)
        weights = v * np.array([1, 1 - v[0]])
    else:
        weights = concentration / concentration.sum()
    weights = weights / weights.sum()
    nu, c = np.broadcast_to(a.degrees_of_freedom, 2), np.broadcast_to(a.covariances.ravel(), 2)
    times = 2 if kind == "tied" else 1
    estimate, variance = 0.0, 0.0
    for j in range(2):
        lam = samples.chisquare(times * nu[j], s) / (times * nu[j] * c[j])
        mu = a.means[j, 0] + samples.standard_normal(s) / np.sqrt(a.mean_precision[j] * lam)
        drawn = weights[j] * stats.norm(mu, 1 / np.sqrt(lam)).pdf(0.7)
        estimate, variance = estimate + drawn.mean(), variance + drawn.var() / s
    assert abs(density(np.array([0.7]))[0] - estimate) < 4.5 * np.sqrt(variance)
    log_normaliser = module.e_step(tensor(module, x), q, kind)[0]
    predictive = module.predictive_log_density(tensor(module, x), q, kind)
    assert np.all(np.asarray(log_normaliser) < np.asarray(predictive))


@both_pages
@all_types
@both_priors
def test_of_one_component_the_predictive_density_is_a_ratio_of_evidences(
    module: ModuleType, kind: str, process: str
) -> None:
    """p(x | X) = p(X, x) / p(X), in three dimensions."""
    x, _, prior = problem(kind, process, 2, n=20, k=1)
    q, _ = converged(module, x, np.ones((20, 1)), prior, kind, 1)
    new = draws.normals(3, "sample", (4, 3)) * 3
    found = module.predictive_log_density(tensor(module, new), q, kind)
    before, *after = (
        log_evidence_given_choices(points, np.zeros(len(points), int), 1, kind, prior)
        for points in (x, *(np.vstack([x, each]) for each in new))
    )
    np.testing.assert_allclose(found, np.array(after) - before, rtol=1e-10)


# The estimator


@estimators
def test_scikit_learns_own_estimator_checks(Mixture: type) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(Mixture())


FIELDS = ("weights_", "mean_precision_", "means_", "degrees_of_freedom_", "covariances_", "precisions_cholesky_")


@pytest.mark.parametrize("kind", ["full", "tied"])
@both_priors
def test_same_fit_as_scikit_learn_from_the_same_seed(parity: Parity, kind: str, process: str) -> None:
    arguments = dict(
        covariance_type=kind, weight_concentration_prior_type=process, init_params="random", random_state=3
    )
    x, apart = FAITHFUL + np.array([1.0, 2.0]), set()  # no mean is zero, which would have no scale
    for tol, max_iter in ((0, 0), (0, 1), (0, 7), (1e-2, 100)):
        stop = dict(tol=tol, max_iter=max_iter)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer = sklearn.mixture.BayesianGaussianMixture(n_components=4, **arguments, **stop).fit(x)
            fits = [page.BayesianGaussianMixture(4, **arguments, **stop).fit(x) for page in pair("estimators")]
        for model in fits:
            for name in FIELDS:
                scale = np.abs(getattr(peer, name)).max()
                np.testing.assert_allclose(getattr(model, name), getattr(peer, name), rtol=1e-9, atol=1e-9 * scale)
            np.testing.assert_allclose(model.weight_concentration_, peer.weight_concentration_, rtol=1e-9, atol=1e-8)
            assert (model.n_iter_, model.converged_) == (peer.n_iter_, peer.converged_)
            normalisers = model.score_samples(x) - peer.score_samples(x)
            np.testing.assert_allclose(normalisers - normalisers[0], 0, atol=1e-8)
            assert kind == "tied" or abs(normalisers[0]) < 1e-8
            np.testing.assert_allclose(model.predict_proba(x), peer.predict_proba(x), atol=1e-8)
            np.testing.assert_array_equal(model.predict(x), peer.predict(x))
            for name in ("weight_concentration", "mean", "degrees_of_freedom", "covariance"):
                np.testing.assert_allclose(
                    getattr(model, f"{name}_prior_"), getattr(peer, f"{name}_prior_"), rtol=1e-14
                )
            if stop["max_iter"]:
                apart |= set(np.subtract(model.lower_bounds_, np.ravel(peer.lower_bounds_)))
        for name in FIELDS:
            fitted = (getattr(fit, name) for fit in fits)
            parity.check(f"BayesianGaussianMixture fitted {name}", "em parameters", *fitted, f"{kind} {process}")
    assert np.ptp(list(apart)) < 1e-8, "the bounds differ by one constant"


@estimators
@pytest.mark.parametrize("kind", ["diag", "spherical"])
def test_the_other_kinds_share_scikit_learns_m_step(Mixture: type, kind: str) -> None:
    """Their E steps differ, by what a Wishart over full matrices is not: see the estimator's docstring."""
    arguments = dict(n_components=3, covariance_type=kind, init_params="random", random_state=1, max_iter=0)
    peer, ours = sklearn.mixture.BayesianGaussianMixture(**arguments).fit(FAITHFUL), Mixture(**arguments).fit(FAITHFUL)
    for name in FIELDS:
        np.testing.assert_allclose(getattr(ours, name), getattr(peer, name), rtol=1e-11, atol=1e-13)
    one = FAITHFUL[:, :1]  # in one dimension a diagonal is a full matrix, and all agree to the end
    arguments |= dict(max_iter=50, tol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer, ours = sklearn.mixture.BayesianGaussianMixture(**arguments).fit(one), Mixture(**arguments).fit(one)
    np.testing.assert_allclose(ours.means_, peer.means_, rtol=1e-8)


@estimators
@pytest.mark.parametrize("seed", [0, 3])
def test_two_of_six_components_survive_on_old_faithful(Mixture: type, seed: int) -> None:
    model = Mixture(6, **SPARSE, random_state=seed, tol=1e-4, max_iter=1000).fit(FAITHFUL)
    np.testing.assert_allclose(np.sort(model.weights_)[::-1], [0.6429, 0.3571, 0, 0, 0, 0], atol=6e-5)
    assert model.lower_bound_ == pytest.approx(-443.297873, abs=1e-5)
    assert np.all(np.diff(model.lower_bounds_) > -1e-9)
    dead = model.weights_ < 1e-3
    np.testing.assert_allclose(model.means_[dead], 0, atol=1e-6)  # the beliefs of the dead are the prior's
    np.testing.assert_allclose(model.covariances_[dead], [np.eye(2) / 2] * 4, atol=1e-6)


@estimators
def test_the_bound_chooses_how_many_where_the_likelihood_cannot(Mixture: type) -> None:
    prior = SPARSE | {"weight_concentration_prior": 1.0}
    bounds = [
        Mixture(k, **prior, tol=0.05, max_iter=100, random_state=0).fit(FAITHFUL).lower_bound_ for k in range(1, 5)
    ]
    assert int(np.argmax(bounds)) + 1 == 2
    em = [
        sklearn.mixture.GaussianMixture(k, n_init=3, random_state=0).fit(FAITHFUL).score(FAITHFUL) for k in range(1, 5)
    ]
    assert np.all(np.diff(em) > 0)


@estimators
def test_it_is_an_estimator_like_the_others(Mixture: type) -> None:
    for process in PRIOR_TYPES:
        model = Mixture(3, weight_concentration_prior_type=process, random_state=0).fit(torch.tensor(FAITHFUL))
        x, z = model.sample(4000)
        np.testing.assert_allclose(np.bincount(z, minlength=3) / 4000, model.weights_, atol=0.04)
        assert model.predictive_log_density(x).shape == (4000,)
        assert np.all(model.predictive_log_density(FAITHFUL) > model.score_samples(FAITHFUL))
        assert isinstance(model.weight_concentration_, tuple) == (process == "dirichlet_process")
        np.testing.assert_allclose(model.precisions_ @ model.covariances_, [np.eye(2)] * 3, atol=1e-10)
    assert Mixture(2, reg_covar=1e-3, random_state=0).fit(FAITHFUL.astype(np.float32)).means_.dtype == np.float32
    whole = Mixture(3, max_iter=8, tol=0, random_state=0)
    parts = Mixture(3, max_iter=4, tol=0, random_state=0, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for each in (whole, parts, parts):
            each.fit(FAITHFUL)
    np.testing.assert_allclose(parts.means_, whole.means_, rtol=1e-12)
    with pytest.raises(ValueError, match="warm_start=True: the last fit: weight_concentration"):
        parts.set_params(n_components=2).fit(FAITHFUL)
    few = Mixture(2, random_state=0).fit(draws.normals(0, "sample", (4, 6)))  # a singular default prior is widened
    assert np.isfinite(few.lower_bound_)


NAN = FAITHFUL.copy()
NAN[3, 1] = np.nan
BAD = {
    "NaN": (NAN, {}, "X contains NaN at row 3, column 1"),
    "prior type": (FAITHFUL, {"weight_concentration_prior_type": "dirichlet"}, "='dirichlet' must be one of"),
    "concentration": (FAITHFUL, {"weight_concentration_prior": 0.0}, "_prior=0.0 must be a number above"),
    "no number": (FAITHFUL, {"mean_precision_prior": "big"}, "mean_precision_prior='big' must be a number above 0"),
    "degrees": (FAITHFUL, {"degrees_of_freedom_prior": 1.0}, "degrees_of_freedom_prior=1.0 must be a number above 1"),
    "mean shape": (FAITHFUL, {"mean_prior": [0.0]}, r"mean_prior should have the shape of \(2,\), but got \(1,\)"),
    "covariance shape": (FAITHFUL, {"covariance_prior": 1.0}, r"covariance_prior should have the shape of \(2, 2\)"),
    "asymmetric": (FAITHFUL, {"covariance_prior": [[1.0, 0.5], [0.0, 1.0]]}, "but is not symmetric"),
    "indefinite": (FAITHFUL, {"covariance_prior": -np.eye(2)}, "has the eigenvalue -1"),
    "a line": (FAITHFUL[:, [0, 0]], {"reg_covar": 0}, "singular covariance, which is the default of covariance_prior"),
}


@estimators
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_line(Mixture: type, case: str) -> None:
    x, arguments, message = BAD[case]
    model = Mixture(**({"n_components": 2} | arguments))
    with pytest.raises(ValueError, match=message) as error:
        model.fit(x)
    assert "\n" not in str(error.value)
    assert not hasattr(model, "means_"), "nothing is half-fitted"
