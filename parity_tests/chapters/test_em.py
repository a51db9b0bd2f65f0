"""EM in general and MAP: the frameworks agree; both obey theory, SciPy, enumeration and gradients."""

import itertools
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch
from scipy import special, stats

from common import draws
from common.data import datasets
from common.mixtures.loop import em
from common.mixtures.parameters import MixturePrior, check_prior, default_prior
from parity_tests.conftest import MODES, Parity
from parity_tests.support import frameworks, problems
from parity_tests.support.frameworks import both, check_function, is_torch, mixed, sibling, tensor, tensors
from parity_tests.support.loops import run_em

N, D, K = 60, 3, 4
FIELDS = MixturePrior._fields
PARAMETERS = ("weights", "means", "covariances")
both_pages = both("em")


def gradients(module: ModuleType, function: Callable, values: Sequence[np.ndarray], mode: str = "eager") -> tuple:
    """The value, and the gradient with respect to every argument of a mixed sum of it."""
    return frameworks.differentiate(module, function, values, mode, weigh=mixed)


def distributions(dtype: str = "float64", seed: int = 0, n: int = N, k: int = K) -> tuple[np.ndarray, np.ndarray]:
    """An arbitrary q with zeros and a sure row; a log joint of unlikely and likely choices; (N, K) each."""
    q = draws.uniforms(seed, "sample", (n, k)) ** 3
    q[0] = np.eye(k)[1]
    q[1, 0] = 0.0
    return (q / q.sum(axis=1, keepdims=True)).astype(dtype), (
        draws.normals(seed, "sample", (n, k), step=1) * 4 - 3
    ).astype(dtype)


def mixture(dtype: str = "float64", seed: int = 0, k: int = K) -> tuple[np.ndarray, ...]:
    return problems.mixture("full", seed, dtype, 2.0, N, k, D)


def strong_prior(dtype: str = "float64", k: int = K) -> MixturePrior:
    """A prior with opinions, every field of which matters."""
    scale = np.array([[2.0, 0.3, -0.2], [0.3, 1.0, 0.1], [-0.2, 0.1, 1.5]])
    return check_prior(MixturePrior(np.linspace(1.5, 4, k), np.array([0.5, -1.0, 0.2]), 2.5, scale, 6.5), k, D, dtype)


GENERAL = {
    "log_evidence": ("log_joint",),
    "log_posterior": ("log_joint",),
    "posterior": ("log_joint",),
    "lower_bound": ("q", "log_joint"),
    "kl_divergence": ("q", "log_posterior"),
    "expected_log_joint": ("q", "log_joint"),
}


@pytest.mark.parametrize("name", GENERAL)
def test_values_and_gradients_agree(parity: Parity, name: str, dtype: str, mode: str) -> None:
    q, log_joint = distributions(dtype)
    log_posterior = log_joint - special.logsumexp(log_joint, axis=1, keepdims=True)
    arrays = [{"q": q, "log_joint": log_joint, "log_posterior": log_posterior}[n] for n in GENERAL[name]]
    arguments = dict(zip(GENERAL[name], arrays, strict=True))
    check_function(parity, "em", name, arguments, ("output", "gradient"), mode, weigh=mixed)


def log_prior(module: ModuleType, *arguments: Any) -> tuple:
    """The sum, and the densities of the components that are in it."""
    parameters, prior = arguments[:3], MixturePrior(*arguments[3:])
    return module.normal_inverse_wishart_log_density(*parameters[1:], prior), module.log_prior(*parameters, prior)


PRIOR_FUNCTIONS = {
    "dirichlet_log_density": (None, ("weights", "concentration")),
    "log_prior": (log_prior, (*PARAMETERS, *FIELDS)),
    "map_m_step": (lambda m, x, g, *p: m.map_m_step(x, g, MixturePrior(*p)), ("x", "responsibilities", *FIELDS)),
}


@pytest.mark.parametrize("name", PRIOR_FUNCTIONS)
def test_prior_and_map_m_step_agree(parity: Parity, name: str, dtype: str, mode: str) -> None:
    named = dict(zip(("x", *PARAMETERS), mixture(dtype), strict=True))
    named |= strong_prior(dtype)._asdict() | {"responsibilities": distributions(dtype)[0]}
    function, names = PRIOR_FUNCTIONS[name]
    kinds = "output" if name == "map_m_step" else "log gamma", "gradient through a solve"
    arguments = {argument: named[argument] for argument in names}
    check_function(parity, "em", name, arguments, kinds, mode, function, weigh=mixed)


def test_map_em_agrees_over_iterations(parity: Parity, dtype: str, mode: str) -> None:
    x, *start = mixture(dtype)

    def iterate(module: ModuleType, *parameters: Any) -> tuple:
        return module.map_em_iteration(tensor(module, x), *parameters, tensor(module, strong_prior(dtype)))

    frameworks.check_iterations(parity, "em", iterate, start, 15, mode, quantities=("map_em_iteration",) * 2)


@both_pages
def test_bound_is_the_sum_over_all_assignments(module: ModuleType) -> None:
    """Four points and three choices: every expectation by enumeration of the 81 assignments."""
    q, log_joint = distributions(n=4, k=3)
    log_posterior = log_joint - np.log(np.exp(log_joint).sum(axis=1, keepdims=True))
    evidence, bound, divergence, expected = 0.0, 0.0, 0.0, 0.0
    for assignment in itertools.product(range(3), repeat=4):
        rows = range(4), assignment
        evidence += np.exp(log_joint[rows].sum())
        if (probability := q[rows].prod()) > 0:
            bound += probability * (log_joint[rows].sum() - np.log(probability))
            divergence += probability * (np.log(probability) - log_posterior[rows].sum())
            expected += probability * log_joint[rows].sum()
    tq, tj, tp = tensors(module, q, log_joint, log_posterior)
    assert float(module.log_evidence(tj)) == pytest.approx(np.log(evidence), rel=1e-13)
    assert float(module.lower_bound(tq, tj)) == pytest.approx(bound, rel=1e-13)
    assert float(module.kl_divergence(tq, tp)) == pytest.approx(divergence, rel=1e-13)
    assert float(module.expected_log_joint(tq, tj)) == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(module.log_posterior(tj), log_posterior, 1e-13)


@both_pages
@pytest.mark.parametrize("seed", range(5))
def test_evidence_is_bound_plus_divergence(module: ModuleType, seed: int) -> None:
    q, log_joint = distributions(seed=seed)
    tq, tj = tensor(module, q), tensor(module, log_joint)
    evidence, log_posterior = float(module.log_evidence(tj)), module.log_posterior(tj)
    bound, divergence = float(module.lower_bound(tq, tj)), float(module.kl_divergence(tq, log_posterior))
    assert divergence > 1
    assert divergence == pytest.approx(special.rel_entr(q, np.exp(np.asarray(log_posterior))).sum(), rel=1e-13)
    assert bound + divergence == pytest.approx(evidence, rel=1e-12)
    # the bound is Q and the entropy of q
    entropy = special.entr(q).sum()
    assert bound == pytest.approx(float(module.expected_log_joint(tq, tj)) + entropy, rel=1e-13)
    # and tight at the posterior
    posterior = module.posterior(tj)
    np.testing.assert_allclose(np.asarray(posterior).sum(axis=1), 1, 1e-14)
    assert float(module.lower_bound(posterior, tj)) == pytest.approx(evidence, rel=1e-13)
    assert float(module.kl_divergence(posterior, log_posterior)) == pytest.approx(0, abs=1e-13)


@both_pages
def test_impossible_choices_cost_nothing(module: ModuleType) -> None:
    """0 log 0 = 0, with finite gradients, also where the joint is zero; a denormal counts as zero."""
    q = np.array([[1.0, 0.0], [0.3, 0.7], [1.0, 1e-310]])
    log_joint = np.array([[-1.0, -np.inf], [-2.0, -3.0], [-0.5, -np.inf]])
    expected = -1.0 - 0.5 + 0.3 * (-2 - np.log(0.3)) + 0.7 * (-3 - np.log(0.7))
    for mode in ["eager"] if is_torch(module) else MODES:
        value, (of_q, of_joint) = gradients(module, module.lower_bound, [q, log_joint], mode)
        assert float(value) == pytest.approx(expected, rel=1e-14)
        assert np.all(np.isfinite(np.asarray(of_q)))
        np.testing.assert_allclose(np.asarray(of_joint), np.where(q < 1e-300, 0, q), 1e-14, 1e-300)
        value, (of_q, _) = gradients(module, module.expected_log_joint, [q, log_joint], mode)
        assert float(value) == pytest.approx(-1.5 - 0.6 - 2.1, rel=1e-14)
        assert np.all(np.isfinite(np.asarray(of_q)))


@both_pages
def test_the_smallest_normal_number_is_a_probability(module: ModuleType) -> None:
    """What lies below is none, in either framework."""
    tiny = np.finfo(np.float64).tiny
    for q, expected in ((tiny, tiny), (np.nextafter(tiny, 0), 0.0)):
        arguments = tensor(module, np.array([[q]])), tensor(module, np.array([[3.0]]))
        assert float(module.expected_log_joint(*arguments)) == 3 * expected
        assert float(module.lower_bound(*arguments)) == pytest.approx(expected * (3 - np.log(tiny)), rel=1e-12, abs=0)


@both_pages
def test_gradient_of_q_is_the_gradient_of_the_log_likelihood(module: ModuleType) -> None:
    """At the old parameters, with respect to each of them; elsewhere it is not."""
    x, *parameters = mixture()
    gmm, tx = sibling(module, "gmm"), tensor(module, x)
    old = module.posterior(gmm.log_joint(tx, *tensors(module, *parameters)))
    for shift, equal in ((0.0, True), (0.1, False)):
        here = [parameters[0], parameters[1] + shift, parameters[2]]
        _, of_likelihood = gradients(module, lambda *p: module.log_evidence(gmm.log_joint(tx, *p)), here)
        _, of_q = gradients(module, lambda *p: module.expected_log_joint(old, gmm.log_joint(tx, *p)), here)
        for name, a, b in zip(("weights", "means", "covariances"), of_likelihood, of_q, strict=True):
            apart = np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(a)).max()
            assert bool(apart < 1e-12) is equal, (name, shift, apart)


@both_pages
def test_either_step_alone_raises_the_bound(module: ModuleType) -> None:
    """Neal and Hinton: q may be bettered one point at a time, and the parameters from any q."""
    x, *parameters = (v for v in mixture())
    gmm, tx = sibling(module, "gmm"), tensor(module, x)
    theta = tensors(module, *parameters)
    q = distributions()[0]
    bound = float(module.lower_bound(tensor(module, q), gmm.log_joint(tx, *theta)))
    for n in range(25):
        joint = gmm.log_joint(tx, *theta)
        q[n] = np.asarray(module.posterior(joint))[n]
        after_e = float(module.lower_bound(tensor(module, q), joint))
        theta = gmm.m_step(tx, tensor(module, q))
        joint = gmm.log_joint(tx, *theta)
        after_m = float(module.lower_bound(tensor(module, q), joint))
        assert bound <= after_e + 1e-10
        assert after_e <= after_m + 1e-10
        assert after_m <= float(module.log_evidence(joint)) + 1e-10
        bound = after_m


@both_pages
def test_prior_against_scipy(module: ModuleType) -> None:
    _, weights, means, covariances = mixture()
    prior = strong_prior()
    t = tensors(module, weights, means, covariances)
    dirichlet = stats.dirichlet.logpdf(weights, prior.concentration)
    assert float(module.dirichlet_log_density(t[0], tensor(module, prior.concentration))) == pytest.approx(dirichlet)
    components = [
        stats.invwishart.logpdf(c, float(prior.degrees_of_freedom), prior.scale)
        + stats.multivariate_normal.logpdf(m, prior.mean, c / prior.mean_precision)
        for m, c in zip(means, covariances, strict=True)
    ]
    found = module.normal_inverse_wishart_log_density(*t[1:], tensor(module, prior))
    np.testing.assert_allclose(found, components, 1e-12)
    total = float(module.log_prior(*t, tensor(module, prior)))
    assert total == pytest.approx(dirichlet + sum(components), rel=1e-12)


@both_pages
@pytest.mark.parametrize("concentration", [0.5, 1.5, 3.0])
def test_dirichlet_density_is_scipys_on_both_sides_of_flat(module: ModuleType, concentration: float) -> None:
    weights, alpha = np.array([0.2, 0.5, 0.3]), np.array([concentration, 1.0, 2.5])
    found = module.dirichlet_log_density(tensor(module, weights), tensor(module, alpha))
    assert float(found) == pytest.approx(stats.dirichlet.logpdf(weights, alpha), rel=1e-13)


@both_pages
def test_flat_prior_on_the_weights_allows_zero(module: ModuleType) -> None:
    """Dir(1, 1, 1) is the constant log 2, on the border too, where its gradient is zero rather than NaN."""
    value, (of_weights, _) = gradients(module, module.dirichlet_log_density, [np.array([0.0, 0.4, 0.6]), np.ones(3)])
    assert float(value) == pytest.approx(np.log(2), rel=1e-14)
    np.testing.assert_array_equal(of_weights, np.zeros(3))


@both_pages
@pytest.mark.parametrize("seed", range(3))
def test_map_m_step_is_stationary(module: ModuleType, seed: int) -> None:
    """The penalised objective's gradient vanishes at the update; weights go through a softmax."""
    x, *_ = mixture(seed=seed)
    gmm, tx, prior = sibling(module, "gmm"), tensor(module, x), strong_prior()
    q = distributions(seed=seed)[0]
    update = [np.asarray(v) for v in module.map_m_step(tx, tensor(module, q), tensor(module, prior))]
    np.testing.assert_allclose(update[0].sum(), 1, 1e-14)

    def objective(logits: Any, means: Any, covariances: Any) -> Any:
        weights = torch.softmax(logits, 0) if is_torch(module) else tf.nn.softmax(logits)
        joint = gmm.log_joint(tx, weights, means, covariances)
        penalty = module.log_prior(weights, means, covariances, tensor(module, prior))
        return module.expected_log_joint(tensor(module, q), joint) + penalty

    here = [np.log(update[0]), *update[1:]]
    best, found = gradients(module, objective, here)
    for gradient in found:
        assert np.abs(np.asarray(gradient)).max() < 1e-10
    rng = np.random.default_rng(seed)
    for _ in range(10):  # and the stationary point is the top
        step = [1e-2 * rng.standard_normal(v.shape) for v in here]
        step[2] = step[2] @ np.swapaxes(here[2], 1, 2)
        there = [v + s for v, s in zip(here, step, strict=True)]
        there[2] = 0.5 * (there[2] + np.swapaxes(there[2], 1, 2))
        assert float(gradients(module, objective, there)[0]) < float(best)


@both_pages
def test_map_between_the_prior_and_the_data(module: ModuleType) -> None:
    """Without points a component is the prior's mode; without a prior the update is maximum likelihood."""
    x, *_ = mixture()
    q, prior = distributions()[0], strong_prior()
    empty = q.copy()
    empty[:, 0] = 0
    weights, means, covariances = module.map_m_step(tensor(module, x), tensor(module, empty), tensor(module, prior))
    assert float(weights[0]) == pytest.approx(0.5 / (empty.sum() + prior.concentration.sum() - K))
    np.testing.assert_allclose(means[0], prior.mean, 1e-14)
    np.testing.assert_allclose(covariances[0], prior.scale / (6.5 + D + 2), 1e-14)
    # nu_0 = -(D + 2) is no prior: it takes away what the normaliser of the density puts into the denominator
    nothing = MixturePrior(np.ones(K), np.zeros(D), np.array(0.0), np.zeros((D, D)), np.array(-D - 2.0))
    found = module.map_m_step(tensor(module, x), tensor(module, q), tensor(module, nothing))
    for a, b in zip(found, sibling(module, "gmm").m_step(tensor(module, x), tensor(module, q)), strict=True):
        np.testing.assert_allclose(a, b, 1e-12)


@both_pages
@pytest.mark.parametrize("seed", range(2))
def test_map_objective_never_falls(module: ModuleType, seed: int) -> None:
    """One iteration at a time; and where it stops, the gradient of log likelihood plus log prior is zero."""
    x, *start = mixture(seed=seed, k=2)
    tx, prior = tensor(module, x), tensor(module, default_prior(x, 2))
    start = tuple(tensors(module, *start))
    result = run_em(lambda p: module.map_em_iteration(tx, *p, prior), start, tol=1e-11, max_iter=2000, until_still=True)
    assert result.converged
    assert np.all(np.diff(result.bounds) >= -1e-11 * np.abs(result.bounds[1:]))

    def objective(logits: Any, means: Any, covariances: Any) -> Any:
        weights = torch.softmax(logits, 0) if is_torch(module) else tf.nn.softmax(logits)
        likelihood = sibling(module, "gmm").log_likelihood(tx, weights, means, covariances)
        return likelihood + module.log_prior(weights, means, covariances, prior)

    weights, *rest = (np.asarray(v) for v in result.parameters)
    value, found = gradients(module, objective, [np.log(weights), *rest])
    assert float(value) == pytest.approx(result.bounds[-1], rel=1e-12)
    for gradient in found:
        assert np.abs(np.asarray(gradient)).max() < 1e-7


@both_pages
def test_map_does_not_collapse(module: ModuleType) -> None:
    """A component that starts on one point: maximum likelihood goes to infinity, MAP to a proper maximum."""
    x = datasets.synthetic_mixture(40, 1, 2).x
    gamma = np.zeros((40, 2))
    gamma[:, 1], gamma[0] = 1, (1, 0)
    tx, gmm = tensor(module, x), sibling(module, "gmm")
    weights, means, covariances = gmm.m_step(tx, tensor(module, gamma))
    assert np.abs(np.asarray(covariances)[0]).max() < 1e-12
    bounds = run_em(lambda p: gmm.em_iteration(tx, *p), (weights, means, covariances), tol=1e-6, max_iter=50).bounds
    assert np.isnan(bounds[-1])
    prior = tensor(module, default_prior(x, 2))
    start = module.map_m_step(tx, tensor(module, gamma), prior)
    result = run_em(lambda p: module.map_em_iteration(tx, *p, prior), start, tol=1e-9, max_iter=2000)
    assert result.converged
    assert np.linalg.eigvalsh(np.asarray(result.parameters[2])).min() > 1e-2


def test_default_prior() -> None:
    """The inverse Wishart's mean is S_0 / (nu_0 - D - 1) = S_0; its numbers are held in test_mixtures.py."""
    x = datasets.load("old-faithful").x
    prior = default_prior(x, 3)
    np.testing.assert_allclose(stats.invwishart.mean(4, prior.scale), prior.scale)
    assert {v.dtype.name for v in default_prior(x.astype(np.float32), 3)} == {"float32"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"concentration": 0.5}, "concentration=0.5 is below 1, where the prior has no mode: give 1 or more"),
        (
            {"concentration": [1.0, 2.0]},
            "concentration should have the shape of (4,), but got (2,): give it that shape",
        ),
        ({"mean": [0.0, np.nan, 0.0]}, "mean has NaN or infinite entries: give finite numbers"),
        ({"mean_precision": 0.0}, "mean_precision=0.0 must be above 0: 0.01 is a weak prior"),
        ({"degrees_of_freedom": 2.0}, "degrees_of_freedom=2.0 must be above D - 1 = 2: 5 is a weak prior"),
        ({"scale": np.eye(2)}, "scale should have the shape of (3, 3), but got (2, 2): give it that shape"),
        ({"scale": np.triu(np.ones((3, 3)))}, "scale is not symmetric: give a symmetric, positive definite matrix"),
        ({"scale": -np.eye(3)}, "scale has the eigenvalue -1: give a symmetric, positive definite matrix"),
        ({"scale": np.diag([1.0, 2.0, 0.0])}, "scale has the eigenvalue 0: give a symmetric, positive definite matrix"),
    ],
)
def test_prior_is_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_prior(strong_prior()._replace(**changes), K, D)


def test_data_that_make_no_prior() -> None:
    x = datasets.load("old-faithful").x
    for bad in (np.c_[x, np.ones(len(x))], np.c_[x, x[:, 0] + x[:, 1]]):
        with pytest.raises(ValueError, match="x has a singular covariance, which makes no scale: remove columns"):
            default_prior(bad, 2)
    with pytest.raises(ValueError, match="x has 1 row"):
        default_prior(x[:1], 2)


def test_loop_on_newtons_square_root() -> None:
    """The loop alone, on x -> (x + 2/x)/2 with objective -x: what an iteration holds, where a run resumes."""

    def iterate(x: float) -> tuple[float, float]:
        return 0.5 * (x + 2 / x), -x

    steps = list(em(iterate, 4.0, range(1, 7), tol=0))
    assert [step.number for step in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[0][1:] == (4.0, 2.25, -4.0, np.inf, False)
    for before, step in pairwise(steps):
        assert (step.before, step.after) == (before.after, iterate(before.after)[0])
        assert (step.bound, step.change) == (-step.before, before.before - step.before)
    assert steps[-1].after == pytest.approx(np.sqrt(2), rel=1e-15)
    half = next(em(iterate, 4.0, [7], 1.5, bound=-3.0, n=2))
    assert (half.number, half.bound, half.change, half.converged) == (7, -2.0, 1.0, True)
    *moving, still = em(iterate, 4.0, range(100), tol=1e-3)
    assert not any(step.converged for step in moving)
    assert still.converged
    assert abs(still.change) < 1e-3 <= abs(moving[-1].change)
    for move, tol in ((lambda x: (x + 1, -x), 0.5), (lambda x: (x, -x), 0.0)):  # a fall; at tol=0
        assert not any(step.converged for step in em(move, 0.0, range(4), tol))
