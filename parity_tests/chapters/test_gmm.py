"""The mixture of Gaussians: the frameworks agree, and both agree with SciPy, scikit-learn and central differences."""

from types import ModuleType

import numpy as np
import pytest
import tensorflow as tf
import torch
from scipy import stats
from sklearn.mixture import GaussianMixture as SklearnMixture
from sklearn.mixture._gaussian_mixture import _estimate_gaussian_parameters

import pytorch_impl.gmm as torch_gmm
import tf2_impl.gmm as tf_gmm
from common import draws
from common.data import datasets
from common.mixtures.input import COVARIANCE_TYPES
from common.parity import difference
from parity_tests.conftest import MODES, Parity
from parity_tests.support.frameworks import estimators
from parity_tests.tolerances import TOLERANCES

N, D, K = 150, 4, 3
NAMES = ("x", "weights", "means", "covariances")
both = pytest.mark.parametrize("module", [torch_gmm, tf_gmm], ids=["torch", "tf2"])
all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def tensor(module: ModuleType, array: np.ndarray) -> torch.Tensor | tf.Tensor:
    return torch.tensor(array) if module is torch_gmm else tf.constant(array)


def problem(kind: str, seed: int = 0, dtype: str = "float64", separation: float = 3.0) -> tuple[np.ndarray, ...]:
    """x, weights, means and covariances of a mixture that is not the one that drew the data."""
    x = datasets.synthetic_mixture(N, K, D, separation, seed).x
    weights = draws.uniforms(seed, "component", (K,), step=5) + 0.2
    means = draws.normals(seed, "component", (K, D), step=6) * 2
    a = draws.normals(seed, "component", (K, D, D), step=7)
    full = a @ np.swapaxes(a, 1, 2) + 0.5 * np.eye(D)
    variances = np.diagonal(full, axis1=1, axis2=2)
    covariances = {"full": full, "tied": full[0], "diag": variances, "spherical": variances[:, 0]}[kind]
    return tuple(np.asarray(v, dtype=dtype) for v in (x, weights / weights.sum(), means, covariances))


def full_covariances(kind: str, covariances: np.ndarray, k: int, d: int) -> np.ndarray:
    if kind in ("full", "tied"):
        return np.broadcast_to(covariances, (k, d, d))
    return np.stack([np.eye(d) * np.broadcast_to(c, d) for c in covariances])


# Compiling is what costs: XLA gets the two that contain the others.
DENSITIES = [("xla", name) for name in ("log_likelihood", "e_step")]
DENSITIES += [
    (mode, name)
    for mode in ("eager", "function")
    for name in ("component_log_densities", "log_joint", "log_likelihood", "responsibilities", "e_step")
]


@all_types
@pytest.mark.parametrize(("mode", "name"), DENSITIES)
def test_values_and_gradients_agree(parity: Parity, name: str, kind: str, dtype: str, mode: str) -> None:
    arrays = problem(kind, dtype=dtype)
    names = NAMES
    if name == "component_log_densities":
        arrays, names = (arrays[0], *arrays[2:]), (NAMES[0], *NAMES[2:])
    # a gradient of responsibilities needs unequal cotangents: their sum over components is constant
    cotangent = np.linspace(0.5, 1.5, K).astype(dtype)

    def loss(value, total, multiply):
        value = value[1] if isinstance(value, tuple) else value
        return total(multiply(value) if name in ("responsibilities", "e_step") else value)

    inputs = [torch.tensor(a, requires_grad=True) for a in arrays]
    value = getattr(torch_gmm, name)(*inputs, kind)
    gradients = torch.autograd.grad(loss(value, torch.sum, lambda v: v * torch.tensor(cotangent)), inputs)

    def with_gradient(*arguments: tf.Tensor) -> tuple:
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = getattr(tf_gmm, name)(*arguments, kind)
            total = loss(value, tf.reduce_sum, lambda v: v * cotangent)
        return value, tape.gradient(total, arguments)

    tf_value, tf_gradients = MODES[mode](with_gradient)(*map(tf.constant, arrays))
    values = zip(value, tf_value, strict=True) if name == "e_step" else [(value, tf_value)]
    for index, (ours, theirs) in enumerate(values):
        parity.check(name, "output", ours, theirs, f"{kind} {index}" if name == "e_step" else kind, mode)
    for argument, ours, theirs in zip(names, gradients, tf_gradients, strict=True):
        parity.check(f"{name} gradient", "gradient through a solve", ours, theirs, f"{kind} {argument}", mode)


@all_types
@pytest.mark.parametrize("weighted", [False, True])
def test_steps_agree(parity: Parity, kind: str, dtype: str, mode: str, weighted: bool) -> None:
    arrays = problem(kind, dtype=dtype)
    weight = draws.uniforms(3, "sample", (N,)).astype(dtype) if weighted else None
    ours, ours_ll = torch_gmm.em_iteration(
        *map(torch.tensor, arrays), kind, 1e-3, None if weight is None else torch.tensor(weight)
    )
    step = MODES[mode](lambda *a: tf_gmm.em_iteration(*a, kind, 1e-3, None if weight is None else tf.constant(weight)))
    theirs, theirs_ll = step(*map(tf.constant, arrays))
    parity.check("em_iteration", "loss", ours_ll, theirs_ll, f"{kind} log likelihood", mode)
    for name, a, b in zip(NAMES[1:], ours, theirs, strict=True):
        parity.check("em_iteration", "output", a, b, f"{kind} {name}", mode)


@all_types
def test_samples_agree(parity: Parity, kind: str, dtype: str, mode: str) -> None:
    parameters = problem(kind, dtype=dtype)[1:]
    uniforms = draws.uniforms(1, "component", (500,)).astype(dtype)
    noise = draws.normals(1, "sample", (500, D)).astype(dtype)
    ours, z = torch_gmm.sample(*map(torch.tensor, (*parameters, uniforms, noise)), kind)
    theirs, tf_z = MODES[mode](lambda *a: tf_gmm.sample(*a, kind))(*map(tf.constant, (*parameters, uniforms, noise)))
    np.testing.assert_array_equal(z, tf_z)
    parity.check("sample", "output", ours, theirs, kind, mode)


@both
@pytest.mark.parametrize("kind", ["full", "spherical"])
def test_a_uniform_number_on_a_boundary_belongs_to_the_component_above(
    module: ModuleType, mode: str, kind: str
) -> None:
    """z = min {k : u < sum_{j <= k} pi_j}, at u equal to a sum and beside it, past a component of weight 0."""
    weights = np.array([0.25, 0.0, 0.5, 0.25])
    means, covariances = np.arange(4.0)[:, None], {"full": np.ones((4, 1, 1)), "spherical": np.ones(4)}[kind]
    below, above = np.nextafter([0.25, 0.75], 0), np.nextafter([0.25, 0.75], 1)
    uniforms = np.concatenate([[0.25, 0.75, 2.0**-60, 1 - 2.0**-53], below, above])
    arguments = [tensor(module, a) for a in (weights, means, covariances, uniforms, np.zeros((8, 1)))]
    sample = module.sample if module is torch_gmm else MODES[mode](lambda *a: tf_gmm.sample(*a, kind))
    x, z = sample(*arguments, *([kind] if module is torch_gmm else []))
    np.testing.assert_array_equal(z, [2, 3, 0, 3, 0, 2, 2, 3])
    np.testing.assert_array_equal(np.asarray(x)[:, 0], z)


@both
def test_a_uniform_number_above_the_sum_of_rounded_weights_belongs_to_the_last_component(module: ModuleType) -> None:
    weights = np.full(10, 0.1)
    weights[-1] = 0.1 - 2.0**-50
    uniforms = np.array([np.cumsum(weights)[-1], 1 - 2.0**-53])
    assert np.cumsum(weights)[-1] < uniforms[1]
    arguments = (weights, np.arange(10.0)[:, None], np.ones(10), uniforms, np.zeros((2, 1)))
    x, z = module.sample(*(tensor(module, a) for a in arguments), "spherical")
    np.testing.assert_array_equal(z, [9, 9])
    np.testing.assert_array_equal(x, [[9], [9]])


TRAJECTORIES = [("function", kind, separation) for kind in COVARIANCE_TYPES for separation in (6.0, 1.0)]
TRAJECTORIES += [(mode, kind, 1.0) for mode in ("eager", "xla") for kind in ("full", "diag")]


@pytest.mark.parametrize(("mode", "kind", "separation"), TRAJECTORIES)
def test_em_for_100_iterations_agrees(parity: Parity, kind: str, dtype: str, separation: float, mode: str) -> None:
    x, *start = problem(kind, 1, dtype, separation)
    ours, theirs = tuple(map(torch.tensor, start)), tuple(map(tf.constant, start))
    iterate = MODES[mode](lambda *p: tf_gmm.em_iteration(tf.constant(x), *p, kind, 1e-3))
    teacher_forced = dtype == "float32"  # where trajectories part by rounding alone, each step starts from one state
    label = f"{kind} {'apart' if separation > 3 else 'overlapping'}"
    worst: dict[str, tuple] = {}
    for _ in range(100):
        ours, ours_ll = torch_gmm.em_iteration(torch.tensor(x), *ours, kind, 1e-3)
        theirs, theirs_ll = iterate(*theirs)
        for name, a, b in zip(("log likelihood", *NAMES[1:]), (ours_ll, *ours), (theirs_ll, *theirs), strict=True):
            entry = difference(np.asarray(a), np.asarray(b)).nmax, a, b
            worst[name] = max(worst.get(name, entry), entry, key=lambda entry: entry[0])
        if teacher_forced:
            theirs = tuple(tf.constant(a.numpy()) for a in ours)
    parity.check("EM log likelihood", "em log likelihood", *worst.pop("log likelihood")[1:], label, mode, 100)
    for name, (_, a, b) in worst.items():
        parity.check("EM parameters", "em parameters", a, b, f"{label} {name}", mode, 100)
    a, b = torch_gmm.e_step(torch.tensor(x), *ours, kind)[1], tf_gmm.e_step(tf.constant(x), *theirs, kind)[1]
    parity.check("EM responsibilities", "em responsibilities", a, b, label, mode, 100)


@both
@all_types
def test_densities_are_scipys(module: ModuleType, kind: str) -> None:
    x, weights, means, covariances = problem(kind, 2)
    full = full_covariances(kind, covariances, K, D)
    log_density = np.stack([stats.multivariate_normal(m, c).logpdf(x) for m, c in zip(means, full, strict=True)], 1)
    t = [tensor(module, a) for a in (x, weights, means, covariances)]
    np.testing.assert_allclose(module.component_log_densities(t[0], *t[2:], kind), log_density, rtol=1e-12, atol=1e-12)
    density = np.exp(log_density) @ weights
    np.testing.assert_allclose(module.log_likelihood(*t, kind), np.log(density).sum(), rtol=1e-13)
    np.testing.assert_allclose(module.e_step(*t, kind)[0], np.log(density), rtol=1e-12)
    np.testing.assert_allclose(
        module.responsibilities(*t, kind), np.exp(log_density) * weights / density[:, None], 1e-10
    )


@both
@all_types
def test_em_is_scikit_learns(module: ModuleType, kind: str) -> None:
    x, weights, means, covariances = problem(kind, 3)
    precisions = np.linalg.inv(covariances) if kind in ("full", "tied") else 1 / covariances
    for iterations in (1, 25):
        start = {"weights_init": weights, "means_init": means, "precisions_init": precisions}
        peer = SklearnMixture(K, covariance_type=kind, tol=0, max_iter=iterations, **start)
        with pytest.warns(UserWarning, match="converge"):
            peer.fit(x)
        parameters = tuple(tensor(module, a) for a in (weights, means, covariances))
        for _ in range(iterations):
            parameters, total = module.em_iteration(tensor(module, x), *parameters, kind, 1e-6)
        assert float(total) / N == pytest.approx(peer.lower_bound_, rel=1e-12)
        for ours, theirs in zip(parameters, (peer.weights_, peer.means_, peer.covariances_), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)


@both
@all_types
def test_an_empty_component_is_left_ten_epsilons(module: ModuleType, kind: str) -> None:
    """No more: what is added to a count shows in nothing else, and is scikit-learn's own."""
    x, gamma = problem(kind)[0], np.eye(2)[np.zeros(N, dtype=int)]
    weights, means, covariances = module.m_step(tensor(module, x), tensor(module, gamma), kind, 1e-6)
    counts, *expected = _estimate_gaussian_parameters(x, gamma, 1e-6, kind)
    assert counts[1] == 10 * np.finfo(float).eps
    np.testing.assert_allclose(weights, counts / counts.sum(), rtol=1e-15)
    for ours, theirs in zip((means, covariances), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


@both
@all_types
@pytest.mark.parametrize("seed", range(4))
def test_em_never_lowers_the_log_likelihood(module: ModuleType, kind: str, seed: int) -> None:
    array = problem(kind, seed, separation=1.5)[0]
    gamma = draws.uniforms(seed, "start", (N, K))
    x, before = tensor(module, array), -np.inf
    parameters = module.m_step(x, tensor(module, gamma / gamma.sum(axis=1, keepdims=True)), kind)
    for iteration in range(80):
        parameters, total = module.em_iteration(x, *parameters, kind)
        assert float(total) >= before - 1e-12 * abs(float(total)), f"iteration {iteration}"
        before = float(total)


@both
@all_types
def test_gradients_are_central_differences(module: ModuleType, kind: str) -> None:
    arrays = problem(kind, 4)
    if module is torch_gmm:
        inputs = [torch.tensor(a, requires_grad=True) for a in arrays]
        gradients = torch.autograd.grad(torch_gmm.log_likelihood(*inputs, kind), inputs)
    else:
        inputs = list(map(tf.constant, arrays))
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = tf_gmm.log_likelihood(*inputs, kind)
        gradients = tape.gradient(value, inputs)
    for index, gradient in enumerate(gradients):
        direction = draws.normals(0, "sample", arrays[index].shape or (1,), step=index).reshape(arrays[index].shape)
        if index == 3 and kind in ("full", "tied"):
            direction = direction + np.swapaxes(direction, -1, -2)
        values = []
        for h in (1e-5, -1e-5):
            moved = [a + h * direction if i == index else a for i, a in enumerate(arrays)]
            values.append(float(module.log_likelihood(*(tensor(module, a) for a in moved), kind)))
        assert np.sum(np.asarray(gradient) * direction) == pytest.approx((values[0] - values[1]) / 2e-5, rel=2e-7)


@both
def test_samples_have_the_mixtures_moments(module: ModuleType) -> None:
    for kind in COVARIANCE_TYPES:
        _, weights, means, covariances = problem(kind, 5)
        s = 200_000
        uniforms, noise = draws.uniforms(2, "component", (s,)), draws.normals(2, "sample", (s, D))
        x, z = module.sample(*(tensor(module, a) for a in (weights, means, covariances, uniforms, noise)), kind)
        x, z, full = np.asarray(x), np.asarray(z), full_covariances(kind, covariances, K, D)
        np.testing.assert_allclose(np.bincount(z, minlength=K) / s, weights, atol=5 * 0.5 / np.sqrt(s))
        for k in range(K):
            own = x[z == k]
            spread = np.sqrt(np.diagonal(full[k]))
            assert np.all(np.abs(own.mean(0) - means[k]) < 5 * spread / np.sqrt(len(own)))
            assert np.all(np.abs(np.cov(own.T) - full[k]) < 8 * np.outer(spread, spread) / np.sqrt(len(own)))


@both
@pytest.mark.parametrize("bad", [-np.eye(2), np.diag([1.0, 0.0]), np.ones((2, 2)), np.full((2, 2), np.nan)])
def test_a_covariance_that_is_none_gives_nan_and_spoils_no_other(
    module: ModuleType, mode: str, bad: np.ndarray
) -> None:
    covariances = np.stack([np.eye(2), bad])
    x, means = np.zeros((3, 2)), np.zeros((2, 2))
    function = module.component_log_densities if module is torch_gmm else MODES[mode](module.component_log_densities)
    log_density = np.asarray(function(*(tensor(module, a) for a in (x, means, covariances))))
    np.testing.assert_allclose(log_density[:, 0], -np.log(2 * np.pi), rtol=1e-15)
    assert np.all(np.isnan(log_density[:, 1]))


@both
@pytest.mark.parametrize(("kind", "value"), [("diag", -1.0), ("diag", 0.0), ("spherical", -2.0), ("spherical", 0.0)])
def test_a_variance_that_is_none_gives_nan(module: ModuleType, kind: str, value: float) -> None:
    variances = np.array([[1.0, 1.0], [1.0, value]]) if kind == "diag" else np.array([1.0, value])
    t = [tensor(module, a) for a in (np.zeros((3, 2)), np.zeros((2, 2)), variances)]
    log_density = np.asarray(module.component_log_densities(*t, kind))
    assert np.all(np.isfinite(log_density[:, 0]))
    assert np.all(np.isnan(log_density[:, 1]))


@both
def test_old_faithful_converges_to_the_published_figures(module: ModuleType) -> None:
    x = datasets.load("old-faithful").x
    full = estimators(module).GaussianMixture(2, tol=1e-14, reg_covar=0, max_iter=500, random_state=0).fit(x)
    order = np.argsort(-full.weights_)
    assert full.score(x) * 272 == pytest.approx(-1130.263960, abs=1e-6)
    np.testing.assert_allclose(full.weights_[order], [0.644127, 0.355873], atol=1e-6)
    np.testing.assert_allclose(full.means_[order], [[4.289662, 79.968115], [2.036388, 54.478517]], atol=1e-6)
    covariances = [[[0.169968, 0.940609], [0.940609, 36.046207]], [[0.069168, 0.435168], [0.435168, 33.697284]]]
    np.testing.assert_allclose(full.covariances_[order], covariances, atol=1e-5)
    assert sorted(np.bincount(full.predict(x))) == [97, 175]
    tied = (
        estimators(module)
        .GaussianMixture(3, covariance_type="tied", tol=1e-14, reg_covar=0, max_iter=2000, random_state=0)
        .fit(x)
    )
    assert tied.score(x) * 272 == pytest.approx(-1126.315928, abs=1e-5)
    one = estimators(module).GaussianMixture(1, reg_covar=0).fit(x)
    assert one.score(x) * 272 == pytest.approx(-1289.796745, abs=1e-6)
    waiting = estimators(module).GaussianMixture(2, tol=1e-14, reg_covar=0, max_iter=2000, random_state=0).fit(x[:, 1:])
    assert waiting.score(x[:, 1:]) * 272 == pytest.approx(-1034.00175, abs=1e-5)


def test_a_planted_sign_is_caught() -> None:
    """The harness itself: a one-sided fault of 1e-12 of the scale fails, and a NaN is not masked."""
    x, *parameters = problem("full")
    ours = torch_gmm.log_joint(*map(torch.tensor, (x, *parameters)))
    theirs = tf_gmm.log_joint(*map(tf.constant, (x, *parameters))).numpy()
    recorder = Parity("harness", [])
    with pytest.raises(AssertionError, match="differ by"):
        recorder.check("planted", "output", ours, theirs * (1 + 1e-12))
    theirs[0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        recorder.check("planted", "output", ours, theirs)
    assert TOLERANCES["output"].of("float64") < 1e-12


def one_of_k(seed: int, dtype: str = "float64") -> np.ndarray:
    return np.eye(K, dtype=dtype)[np.floor(draws.uniforms(seed, "component", (N,), step=9) * K).astype(int)]


LATENT = [("xla", "complete_data_log_likelihood")]  # which contains the other two
LATENT += [
    (mode, name)
    for mode in ("eager", "function")
    for name in ("log_prior_of_choice", "log_density_given_choice", "complete_data_log_likelihood")
]


@all_types
@pytest.mark.parametrize(("mode", "name"), LATENT)
def test_the_latent_variable_form_agrees(parity: Parity, name: str, kind: str, dtype: str, mode: str) -> None:
    x, weights, means, covariances = problem(kind, dtype=dtype)
    z = one_of_k(0, dtype)
    arrays = {"x": x, "weights": weights, "means": means, "covariances": covariances}
    if name == "log_prior_of_choice":
        arrays = {"weights": weights}
    elif name == "log_density_given_choice":
        del arrays["weights"]

    def call(module: ModuleType, tensors: list, z: torch.Tensor | tf.Tensor):
        head, tail = (tensors[:1], tensors[1:]) if "x" in arrays else ([], tensors)
        more = [] if name == "log_prior_of_choice" else [kind]
        return getattr(module, name)(*head, z, *tail, *more)

    inputs = [torch.tensor(a, requires_grad=True) for a in arrays.values()]
    value = call(torch_gmm, inputs, torch.tensor(z))
    gradients = torch.autograd.grad(value.sum(), inputs)

    def with_gradient(*tensors: tf.Tensor) -> tuple:
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = call(tf_gmm, list(tensors), tf.constant(z))
        return value, tape.gradient(value, tensors)

    tf_value, tf_gradients = MODES[mode](with_gradient)(*map(tf.constant, arrays.values()))
    parity.check(name, "output", value, tf_value, kind, mode)
    for argument, ours, theirs in zip(arrays, gradients, tf_gradients, strict=True):
        parity.check(f"{name} gradient", "gradient through a solve", ours, theirs, f"{kind} {argument}", mode)


@both
@all_types
def test_summing_out_the_choices_gives_the_mixture(module: ModuleType, kind: str) -> None:
    """p(x) = sum_z p(z) p(x|z), each z by enumeration; and p(X, Z) is the product of both over the points."""
    arrays = problem(kind, 6)
    x, weights, means, covariances = (tensor(module, a) for a in arrays)
    joint = []
    for k in range(K):
        z = tensor(module, np.tile(np.eye(K)[k], (N, 1)))
        log_prior = np.asarray(module.log_prior_of_choice(z, weights))
        joint.append(log_prior + np.asarray(module.log_density_given_choice(x, z, means, covariances, kind)))
        np.testing.assert_allclose(log_prior, np.log(arrays[1][k]), rtol=1e-15)
    total = np.logaddexp.reduce(joint, axis=0).sum()
    assert float(module.log_likelihood(x, weights, means, covariances, kind)) == pytest.approx(total, rel=1e-14)
    z = one_of_k(1)
    chosen = np.array(joint)[z.argmax(axis=1), np.arange(N)].sum()
    complete = module.complete_data_log_likelihood(x, tensor(module, z), weights, means, covariances, kind)
    assert float(complete) == pytest.approx(chosen, rel=1e-14)


@both
def test_a_component_of_weight_zero_costs_nothing_unless_chosen(module: ModuleType) -> None:
    weights = tensor(module, np.array([1.0, 0.0]))
    z = tensor(module, np.eye(2))
    np.testing.assert_array_equal(module.log_prior_of_choice(z, weights), [0.0, -np.inf])


@both
@all_types
def test_a_component_out_of_reach_costs_nothing_unless_chosen(module: ModuleType, kind: str) -> None:
    """At 1e200 deviations the square overflows, and the log density is minus infinity."""
    means = np.array([[0.0, 0.0], [1e200, 0.0]])
    covariances = {
        "full": np.stack([np.eye(2)] * 2),
        "tied": np.eye(2),
        "diag": np.ones((2, 2)),
        "spherical": np.ones(2),
    }
    arguments = [tensor(module, a) for a in (np.zeros((2, 2)), np.eye(2), means, covariances[kind])]
    found = np.asarray(module.log_density_given_choice(*arguments, kind))
    np.testing.assert_allclose(found, [-np.log(2 * np.pi), -np.inf], rtol=1e-15)


@both
@pytest.mark.parametrize("kind", ["full", "diag"])
def test_em_stops_where_the_likelihood_is_stationary(module: ModuleType, kind: str) -> None:
    """At the fixed point the gradients for means and covariances vanish, and that for the weights is -lambda = N."""
    x = datasets.load("old-faithful").x
    fit = estimators(module).GaussianMixture(2, covariance_type=kind, tol=0, reg_covar=0, max_iter=150, random_state=0)
    with pytest.warns(UserWarning, match="converge"):
        fit.fit(x)
    arrays = [fit.weights_, fit.means_, fit.covariances_]
    if module is torch_gmm:
        inputs = [torch.tensor(a, requires_grad=True) for a in arrays]
        gradients = torch.autograd.grad(torch_gmm.log_likelihood(torch.tensor(x), *inputs, kind), inputs)
    else:
        inputs = list(map(tf.constant, arrays))
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = tf_gmm.log_likelihood(tf.constant(x), *inputs, kind)
        gradients = tape.gradient(value, inputs)
    for_weights, for_means, for_covariances = map(np.asarray, gradients)
    # d log p / d pi_k + lambda = 0 with lambda = -N
    np.testing.assert_allclose(for_weights, len(x), rtol=1e-10)
    assert np.abs(for_means).max() < 1e-7
    assert np.abs(for_covariances).max() < 1e-6
    # 0 = sum_n gamma_nk Sigma_k^-1 (x_n - mu_k): the inverse belongs there
    gamma = np.asarray(module.responsibilities(*(tensor(module, a) for a in (x, *arrays)), kind))
    for k, covariance in enumerate(full_covariances(kind, fit.covariances_, 2, 2)):
        pull = np.linalg.solve(covariance, (gamma[:, k, None] * (x - fit.means_[k])).sum(axis=0))
        assert np.abs(pull).max() < 1e-7
        # and away from it, the gradient of the log likelihood is this sum, with its sign
        moved = fit.means_ + np.eye(2)[k][:, None] * 0.1
        gamma_moved = np.asarray(
            module.responsibilities(*(tensor(module, a) for a in (x, arrays[0], moved, arrays[2])), kind)
        )
        formula = np.linalg.solve(covariance, (gamma_moved[:, k, None] * (x - moved[k])).sum(axis=0))
        for axis in range(2):
            ends = []
            for h in (1e-5, -1e-5):
                shifted = moved.copy()
                shifted[k, axis] += h
                ends.append(
                    float(module.log_likelihood(*(tensor(module, a) for a in (x, arrays[0], shifted, arrays[2])), kind))
                )
            assert formula[axis] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


@both
def test_a_mixture_explains_two_humps_better_than_one_gaussian(module: ModuleType) -> None:
    x = datasets.load("old-faithful").x[:, 1:]
    one, two = (
        estimators(module).GaussianMixture(k, reg_covar=0, tol=1e-12, max_iter=2000, random_state=0).fit(x)
        for k in (1, 2)
    )
    assert two.score(x) > one.score(x) + 0.2
    assert two.bic(x) < one.bic(x) - 50
    middle = np.array([[x.mean()]])
    assert two.score_samples(middle)[0] < one.score_samples(middle)[0], "the mean of two humps is where nothing is"


@both
def test_restarts_end_in_different_maxima(module: ModuleType) -> None:
    x = datasets.load("old-faithful").x
    arguments = dict(n_components=4, init_params="random_from_data", tol=1e-4, max_iter=300)
    scores = np.array(
        [estimators(module).GaussianMixture(random_state=s, **arguments).fit(x).score(x) for s in range(4)]
    )
    assert np.ptp(scores) > 1e-3
    assert estimators(module).GaussianMixture(random_state=0, n_init=4, **arguments).fit(x).score(x) >= scores[0] - 1e-9
