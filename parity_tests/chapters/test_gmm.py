"""The mixture of Gaussians: the frameworks agree with each other, SciPy, scikit-learn and differences."""

import itertools
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.mixture import GaussianMixture as SklearnMixture
from sklearn.mixture._gaussian_mixture import _estimate_gaussian_parameters

from common import draws
from common.data import datasets
from common.mixtures.parameters import COVARIANCE_TYPES
from parity_tests.conftest import Parity
from parity_tests.support import frameworks
from parity_tests.support.frameworks import both, check_function, estimators, in_mode, pair, tensor, tensors
from parity_tests.support.problems import as_full, mixture, of_kind
from parity_tests.tolerances import TOLERANCES

N, D, K = 150, 4, 3
NAMES = ("x", "weights", "means", "covariances")
both_pages = both("gmm")
all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


# Compiling is what costs: XLA gets the ones that contain the others.
FUNCTIONS = {
    "component_log_densities": ("x", "means", "covariances"),
    "log_joint": NAMES,
    "log_likelihood": NAMES,
    "e_step": NAMES,
    "complete_data_log_likelihood": ("x", "z", "weights", "means", "covariances"),
}
IN_MODES = [("xla", name) for name in ("log_likelihood", "e_step", "complete_data_log_likelihood")]
IN_MODES += [(mode, name) for mode in ("eager", "function") for name in FUNCTIONS]


def one_of_k(seed: int, dtype: str = "float64") -> np.ndarray:
    return np.eye(K, dtype=dtype)[np.floor(draws.uniforms(seed, "component", (N,), step=9) * K).astype(int)]


def unequal(shape: tuple[int, ...]) -> np.ndarray:
    """For the gradient of responsibilities, whose sum over components is constant."""
    return np.linspace(0.5, 1.5, K) + np.zeros(shape) if shape == (N, K) else np.ones(shape)


@all_types
@pytest.mark.parametrize(("mode", "name"), IN_MODES)
def test_values_and_gradients_agree(parity: Parity, name: str, kind: str, dtype: str, mode: str) -> None:
    values = dict(zip(NAMES, mixture(kind, dtype=dtype), strict=True)) | {"z": one_of_k(0, dtype)}
    arguments = {argument: values[argument] for argument in FUNCTIONS[name]}
    check_function(
        parity, "gmm", name, arguments, ("output", "gradient through a solve"), mode, label=kind, by=NAMES,
        function=lambda module, *t: getattr(module, name)(*t, kind), weigh=unequal if name == "e_step" else None,
    )  # fmt: skip


@all_types
@pytest.mark.parametrize("weighted", [False, True])
def test_steps_and_samples_agree(parity: Parity, kind: str, dtype: str, mode: str, weighted: bool) -> None:
    arrays = mixture(kind, dtype=dtype)
    arrays += (draws.uniforms(1, "component", (500,)).astype(dtype), draws.normals(1, "sample", (500, D)).astype(dtype))
    weight = draws.uniforms(3, "sample", (N,)).astype(dtype) if weighted else None

    def results(module: ModuleType, x: Any, *rest: Any) -> tuple:
        theta, sample_weight = rest[:3], None if weight is None else tensor(module, weight)
        updated, total = module.em_iteration(x, *theta, kind, 1e-3, sample_weight)
        return updated, total, module.sample(*rest, kind)

    found = [in_mode(m, lambda *t, m=m: results(m, *t), mode)(*tensors(m, *arrays)) for m in pair("gmm")]
    updated, totals, ((x, z), (tf_x, tf_z)) = zip(*found, strict=True)
    parity.check("em_iteration", "loss", *totals, f"{kind} log likelihood", mode)
    for name, a, b in zip(NAMES[1:], *updated, strict=True):
        parity.check("em_iteration", "output", a, b, f"{kind} {name}", mode)
    np.testing.assert_array_equal(z, tf_z)
    parity.check("sample", "output", x, tf_x, kind, mode)


@both_pages
@pytest.mark.parametrize("kind", ["full", "spherical"])
def test_a_uniform_number_on_a_boundary_belongs_to_the_component_above(
    module: ModuleType, mode: str, kind: str
) -> None:
    """z = min {k : u < sum_{j <= k} pi_j}, at u equal to a sum and beside it, past a weight of 0."""
    weights = np.array([0.25, 0.0, 0.5, 0.25])
    means, covariances = np.arange(4.0)[:, None], {"full": np.ones((4, 1, 1)), "spherical": np.ones(4)}[kind]
    below, above = np.nextafter([0.25, 0.75], 0), np.nextafter([0.25, 0.75], 1)
    uniforms = np.concatenate([[0.25, 0.75, 2.0**-60, 1 - 2.0**-53], below, above])
    arguments = tensors(module, weights, means, covariances, uniforms, np.zeros((8, 1)))
    x, z = in_mode(module, lambda *a: module.sample(*a, kind), mode)(*arguments)
    np.testing.assert_array_equal(z, [2, 3, 0, 3, 0, 2, 2, 3])
    np.testing.assert_array_equal(np.asarray(x)[:, 0], z)


@both_pages
def test_a_uniform_number_above_the_sum_of_rounded_weights_belongs_to_the_last_component(module: ModuleType) -> None:
    weights = np.full(10, 0.1)
    weights[-1] = 0.1 - 2.0**-50
    uniforms = np.array([np.cumsum(weights)[-1], 1 - 2.0**-53])
    assert np.cumsum(weights)[-1] < uniforms[1]
    arguments = tensors(module, weights, np.arange(10.0)[:, None], np.ones(10), uniforms, np.zeros((2, 1)))
    x, z = module.sample(*arguments, "spherical")
    np.testing.assert_array_equal(z, [9, 9])
    np.testing.assert_array_equal(x, [[9], [9]])


TRAJECTORIES = [("function", kind, separation) for kind in COVARIANCE_TYPES for separation in (6.0, 1.0)]
TRAJECTORIES += [(mode, kind, 1.0) for mode in ("eager", "xla") for kind in ("full", "diag")]


@pytest.mark.parametrize(("mode", "kind", "separation"), TRAJECTORIES)
def test_em_for_100_iterations_agrees(parity: Parity, kind: str, dtype: str, separation: float, mode: str) -> None:
    x, *start = mixture(kind, 1, dtype, separation)
    label = f"{kind} {'apart' if separation > 3 else 'overlapping'}"
    ends = frameworks.check_iterations(
        parity, "gmm", lambda m, *p: m.em_iteration(tensor(m, x), *p, kind, 1e-3), start, 100, mode, label
    )
    gammas = [m.e_step(tensor(m, x), *p, kind)[1] for m, p in zip(pair("gmm"), ends, strict=True)]
    parity.check("EM responsibilities", "em responsibilities", *gammas, label, mode, 100)


@both_pages
@all_types
def test_densities_are_scipys(module: ModuleType, kind: str) -> None:
    x, weights, means, covariances = mixture(kind, 2)
    full = as_full(covariances, kind, K, D)
    log_density = np.stack([stats.multivariate_normal(m, c).logpdf(x) for m, c in zip(means, full, strict=True)], 1)
    t = tensors(module, x, weights, means, covariances)
    np.testing.assert_allclose(module.component_log_densities(t[0], *t[2:], kind), log_density, rtol=1e-12, atol=1e-12)
    density = np.exp(log_density) @ weights
    np.testing.assert_allclose(module.log_likelihood(*t, kind), np.log(density).sum(), rtol=1e-13)
    np.testing.assert_allclose(module.e_step(*t, kind)[0], np.log(density), rtol=1e-12)
    np.testing.assert_allclose(module.e_step(*t, kind)[1], np.exp(log_density) * weights / density[:, None], 1e-10)


@both_pages
@all_types
def test_em_is_scikit_learns(module: ModuleType, kind: str) -> None:
    x, weights, means, covariances = mixture(kind, 3)
    precisions = np.linalg.inv(covariances) if kind in ("full", "tied") else 1 / covariances
    for iterations in (1, 25):
        start = {"weights_init": weights, "means_init": means, "precisions_init": precisions}
        peer = SklearnMixture(K, covariance_type=kind, tol=0, max_iter=iterations, **start)
        with pytest.warns(UserWarning, match="converge"):
            peer.fit(x)
        parameters = tensors(module, weights, means, covariances)
        for _ in range(iterations):
            parameters, total = module.em_iteration(tensor(module, x), *parameters, kind, 1e-6)
        assert float(total) / N == pytest.approx(peer.lower_bound_, rel=1e-12)
        for ours, theirs in zip(parameters, (peer.weights_, peer.means_, peer.covariances_), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)


@both_pages
@all_types
def test_an_empty_component_is_left_ten_epsilons(module: ModuleType, kind: str) -> None:
    """No more: what is added to a count shows in nothing else, and is scikit-learn's own."""
    x, gamma = mixture(kind)[0], np.eye(2)[np.zeros(N, dtype=int)]
    weights, means, covariances = module.m_step(tensor(module, x), tensor(module, gamma), kind, 1e-6)
    counts, *expected = _estimate_gaussian_parameters(x, gamma, 1e-6, kind)
    assert counts[1] == 10 * np.finfo(float).eps
    np.testing.assert_allclose(weights, counts / counts.sum(), rtol=1e-15)
    for ours, theirs in zip((means, covariances), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


@both_pages
@all_types
@pytest.mark.parametrize(("k", "d"), [(2, 1), (4, 3)])
def test_a_row_of_weight_two_is_two_rows(module: ModuleType, kind: str, k: int, d: int) -> None:
    """Whatever the weights' mean; the ten epsilons of an empty component alone do not see it."""
    x, *theta = mixture(kind, 7, n=50, k=k, d=d)
    weight = np.arange(50) % 4
    once = module.em_iteration(*tensors(module, x, *theta), kind, 0.1, tensor(module, weight * 1.0))
    copies = module.em_iteration(*tensors(module, np.repeat(x, weight, axis=0), *theta), kind, 0.1)
    for a, b in zip(frameworks.arrays([*once]), frameworks.arrays([*copies]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@both_pages
@all_types
def test_gradients_are_central_differences(module: ModuleType, kind: str) -> None:
    arrays = mixture(kind, 4)
    gradients = frameworks.differentiate(module, lambda *t: module.log_likelihood(*t, kind), arrays)[1]
    for index, gradient in enumerate(gradients):
        direction = draws.normals(0, "sample", arrays[index].shape or (1,), step=index).reshape(arrays[index].shape)
        if index == 3 and kind in ("full", "tied"):
            direction = direction + np.swapaxes(direction, -1, -2)
        values = []
        for h in (1e-5, -1e-5):
            moved = [a + h * direction if i == index else a for i, a in enumerate(arrays)]
            values.append(float(module.log_likelihood(*tensors(module, *moved), kind)))
        assert np.sum(np.asarray(gradient) * direction) == pytest.approx((values[0] - values[1]) / 2e-5, rel=2e-7)


@both_pages
@pytest.mark.parametrize("bad", [-np.eye(2), np.diag([1.0, 0.0]), np.ones((2, 2)), np.full((2, 2), np.nan)])
def test_a_covariance_that_is_none_gives_nan_and_spoils_no_other(
    module: ModuleType, mode: str, bad: np.ndarray
) -> None:
    covariances = np.stack([np.eye(2), bad])
    x, means = np.zeros((3, 2)), np.zeros((2, 2))
    log_density = np.asarray(
        in_mode(module, module.component_log_densities, mode)(*tensors(module, x, means, covariances))
    )
    np.testing.assert_allclose(log_density[:, 0], -np.log(2 * np.pi), rtol=1e-15)
    assert np.all(np.isnan(log_density[:, 1]))


@both_pages
@pytest.mark.parametrize(("kind", "value"), [("diag", -1.0), ("diag", 0.0), ("spherical", -2.0), ("spherical", 0.0)])
def test_a_variance_that_is_none_gives_nan(module: ModuleType, kind: str, value: float) -> None:
    variances = np.array([[1.0, 1.0], [1.0, value]]) if kind == "diag" else np.array([1.0, value])
    t = tensors(module, np.zeros((3, 2)), np.zeros((2, 2)), variances)
    log_density = np.asarray(module.component_log_densities(*t, kind))
    assert np.all(np.isfinite(log_density[:, 0]))
    assert np.all(np.isnan(log_density[:, 1]))


@both_pages
def test_old_faithful_converges_to_the_published_figures(module: ModuleType) -> None:
    x, exact = datasets.load("old-faithful").x, dict(tol=1e-14, reg_covar=0, max_iter=2000, random_state=0)
    full = estimators(module).GaussianMixture(2, **exact).fit(x)
    order = np.argsort(-full.weights_)
    assert full.score(x) * 272 == pytest.approx(-1130.263960, abs=1e-6)
    np.testing.assert_allclose(full.weights_[order], [0.644127, 0.355873], atol=1e-6)
    np.testing.assert_allclose(full.means_[order], [[4.289662, 79.968115], [2.036388, 54.478517]], atol=1e-6)
    covariances = [[[0.169968, 0.940609], [0.940609, 36.046207]], [[0.069168, 0.435168], [0.435168, 33.697284]]]
    np.testing.assert_allclose(full.covariances_[order], covariances, atol=1e-5)
    assert sorted(np.bincount(full.predict(x))) == [97, 175]
    tied = estimators(module).GaussianMixture(3, covariance_type="tied", **exact).fit(x)
    assert tied.score(x) * 272 == pytest.approx(-1126.315928, abs=1e-5)
    one = estimators(module).GaussianMixture(1, reg_covar=0).fit(x)
    assert one.score(x) * 272 == pytest.approx(-1289.796745, abs=1e-6)
    waiting = estimators(module).GaussianMixture(2, **exact).fit(x[:, 1:])
    assert waiting.score(x[:, 1:]) * 272 == pytest.approx(-1034.00175, abs=1e-5)


def test_a_planted_sign_is_caught() -> None:
    """The harness itself: a one-sided fault of 1e-12 of the scale fails, and a NaN is not masked."""
    x, *parameters = mixture("full")
    ours, theirs = (np.asarray(m.log_joint(*tensors(m, x, *parameters))) for m in pair("gmm"))
    recorder = Parity("harness", [])
    with pytest.raises(AssertionError, match="differ by"):
        recorder.check("planted", "output", ours, theirs * (1 + 1e-12))
    theirs = np.where(np.eye(*theirs.shape) == 1, np.nan, theirs)
    with pytest.raises(ValueError, match="not finite"):
        recorder.check("planted", "output", ours, theirs)
    assert TOLERANCES["output"].of("float64") < 1e-12


@both_pages
@all_types
def test_summing_out_the_choices_gives_the_mixture(module: ModuleType, kind: str) -> None:
    """p(X) = sum_Z p(X, Z), by enumeration of every way to have chosen for four points."""
    x, *theta = tensors(module, *mixture(kind, 6))
    x, choices = x[:4], list(itertools.product(range(K), repeat=4))
    joint = np.asarray(module.log_joint(x, *theta, kind))
    complete = []
    for choice in choices:
        z = tensor(module, np.eye(K)[list(choice)])
        complete.append(float(module.complete_data_log_likelihood(x, z, *theta, kind)))
        assert complete[-1] == pytest.approx(joint[range(4), choice].sum(), rel=1e-14)
    assert float(module.log_likelihood(x, *theta, kind)) == pytest.approx(np.logaddexp.reduce(complete), rel=1e-13)


@both_pages
@all_types
@pytest.mark.parametrize(("weights", "mean"), [([1.0, 0.0], 0.0), ([0.5, 0.5], 1e200)], ids=["weight 0", "far"])
def test_what_cannot_be_costs_nothing_unless_chosen(
    module: ModuleType, kind: str, weights: list[float], mean: float
) -> None:
    """A component of weight zero; and one at 1e200 deviations, where the square overflows."""
    means, covariances = np.array([[0.0, 0.0], [mean, 0.0]]), of_kind(kind, np.stack([np.eye(2)] * 2))
    for z, expected in (([1.0, 0.0], np.log(weights[0]) - np.log(2 * np.pi)), ([0.0, 1.0], -np.inf)):
        arguments = tensors(module, np.zeros((1, 2)), np.array([z]), np.array(weights), means, covariances)
        found = np.asarray(module.complete_data_log_likelihood(*arguments, kind))
        np.testing.assert_allclose(found, expected, rtol=1e-15)


@both_pages
@pytest.mark.parametrize("kind", ["full", "diag"])
def test_em_stops_where_the_likelihood_is_stationary(module: ModuleType, kind: str) -> None:
    """At the fixed point the gradients of means and covariances vanish; that of the weights is N."""
    x = datasets.load("old-faithful").x
    fit = estimators(module).GaussianMixture(2, covariance_type=kind, tol=0, reg_covar=0, max_iter=150, random_state=0)
    with pytest.warns(UserWarning, match="converge"):
        fit.fit(x)
    arrays = [fit.weights_, fit.means_, fit.covariances_]
    tx = tensor(module, x)
    gradients = frameworks.differentiate(module, lambda *t: module.log_likelihood(tx, *t, kind), arrays)[1]
    for_weights, for_means, for_covariances = map(np.asarray, gradients)
    # d log p / d pi_k + lambda = 0 with lambda = -N
    np.testing.assert_allclose(for_weights, len(x), rtol=1e-10)
    assert np.abs(for_means).max() < 1e-7
    assert np.abs(for_covariances).max() < 1e-6
    # 0 = sum_n gamma_nk Sigma_k^-1 (x_n - mu_k): the inverse belongs there
    gamma = np.asarray(module.e_step(*tensors(module, x, *arrays), kind)[1])
    for k, covariance in enumerate(as_full(fit.covariances_, kind, 2, 2)):
        pull = np.linalg.solve(covariance, (gamma[:, k, None] * (x - fit.means_[k])).sum(axis=0))
        assert np.abs(pull).max() < 1e-7
        # and away from it, the gradient of the log likelihood is this sum, with its sign
        moved = fit.means_ + np.eye(2)[k][:, None] * 0.1
        gamma_moved = np.asarray(module.e_step(*tensors(module, x, arrays[0], moved, arrays[2]), kind)[1])
        formula = np.linalg.solve(covariance, (gamma_moved[:, k, None] * (x - moved[k])).sum(axis=0))
        for axis in range(2):
            step = 1e-5 * np.outer(np.eye(2)[k], np.eye(2)[axis])
            ends = [
                float(module.log_likelihood(*tensors(module, x, arrays[0], moved + h, arrays[2]), kind))
                for h in (step, -step)
            ]
            assert formula[axis] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)
