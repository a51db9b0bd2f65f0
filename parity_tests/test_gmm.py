"""The mixture of Gaussians: the frameworks agree, and both agree with SciPy, scikit-learn and central differences."""

from types import ModuleType

import numpy as np
import pytest
import tensorflow as tf
import torch
from scipy import stats
from sklearn.mixture import GaussianMixture as SklearnMixture

import pytorch_impl.gmm as torch_gmm
import tf2_impl.gmm as tf_gmm
from common import datasets, draws
from common.metrics import difference
from common.mixture_checks import COVARIANCE_TYPES
from parity_tests.conftest import MODES, Parity
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


@all_types
@pytest.mark.parametrize(
    "name", ["component_log_densities", "log_joint", "log_likelihood", "responsibilities", "e_step"]
)
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


@all_types
@pytest.mark.parametrize("separation", [6.0, 1.0], ids=["apart", "overlapping"])
def test_em_for_100_iterations_agrees(parity: Parity, kind: str, dtype: str, separation: float) -> None:
    x, *start = problem(kind, 1, dtype, separation)
    ours, theirs = tuple(map(torch.tensor, start)), tuple(map(tf.constant, start))
    iterate = tf.function(lambda *p: tf_gmm.em_iteration(tf.constant(x), *p, kind, 1e-3))
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
    parity.check("EM log likelihood", "em log likelihood", *worst.pop("log likelihood")[1:], label, "function", 100)
    for name, (_, a, b) in worst.items():
        parity.check("EM parameters", "em parameters", a, b, f"{label} {name}", "function", 100)
    a, b = torch_gmm.e_step(torch.tensor(x), *ours, kind)[1], tf_gmm.e_step(tf.constant(x), *theirs, kind)[1]
    parity.check("EM responsibilities", "em responsibilities", a, b, label, "function", 100)


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
    full = module.GaussianMixture(2, tol=1e-14, reg_covar=0, max_iter=500, random_state=0).fit(x)
    order = np.argsort(-full.weights_)
    assert full.score(x) * 272 == pytest.approx(-1130.263960, abs=1e-6)
    np.testing.assert_allclose(full.weights_[order], [0.644127, 0.355873], atol=1e-6)
    np.testing.assert_allclose(full.means_[order], [[4.289662, 79.968115], [2.036388, 54.478517]], atol=1e-6)
    covariances = [[[0.169968, 0.940609], [0.940609, 36.046207]], [[0.069168, 0.435168], [0.435168, 33.697284]]]
    np.testing.assert_allclose(full.covariances_[order], covariances, atol=1e-5)
    assert sorted(np.bincount(full.predict(x))) == [97, 175]
    tied = module.GaussianMixture(3, covariance_type="tied", tol=1e-14, reg_covar=0, max_iter=2000, random_state=0).fit(
        x
    )
    assert tied.score(x) * 272 == pytest.approx(-1126.315928, abs=1e-5)
    one = module.GaussianMixture(1, reg_covar=0).fit(x)
    assert one.score(x) * 272 == pytest.approx(-1289.796745, abs=1e-6)
    waiting = module.GaussianMixture(2, tol=1e-14, reg_covar=0, max_iter=2000, random_state=0).fit(x[:, 1:])
    assert waiting.score(x[:, 1:]) * 272 == pytest.approx(-1034.00175, abs=1e-5)


def test_a_planted_sign_is_caught(parity: Parity, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness itself: a one-sided fault of 1e-12 of the scale fails, and a NaN is not masked."""
    x, *parameters = problem("full")
    ours = torch_gmm.log_joint(*map(torch.tensor, (x, *parameters)))
    theirs = tf_gmm.log_joint(*map(tf.constant, (x, *parameters))).numpy()
    recorder = Parity("harness")
    monkeypatch.setattr("parity_tests.conftest.ROWS", [])
    with pytest.raises(AssertionError, match="differ by"):
        recorder.check("planted", "output", ours, theirs * (1 + 1e-12))
    theirs[0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        recorder.check("planted", "output", ours, theirs)
    assert TOLERANCES["output"].float64 < 1e-12
