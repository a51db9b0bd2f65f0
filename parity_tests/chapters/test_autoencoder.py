"""The plain autoencoder: values, every gradient and training runs agree; its likelihood and its limits are checked."""

from types import ModuleType

import numpy as np
import pytest
import tensorflow as tf
import torch
from scipy import integrate, optimize, stats
from sklearn.decomposition import PCA
from sklearn.neighbors import KernelDensity

import pytorch_impl.autoencoder as torch_autoencoder
import pytorch_impl.backend as torch_backend
import pytorch_impl.elbo as torch_elbo
import pytorch_impl.networks as torch_networks
import pytorch_impl.vae as torch_vae
import tf2_impl.autoencoder as tf_autoencoder
import tf2_impl.backend as tf_backend
import tf2_impl.elbo as tf_elbo
import tf2_impl.networks as tf_networks
import tf2_impl.vae as tf_vae
from common import draws
from common.data import datasets
from parity_tests.conftest import MODES, Parity
from pytorch_impl.optimizer import Adam as TorchAdam
from tf2_impl.optimizer import Adam as TFAdam

NETWORKS = {torch_autoencoder: torch_networks, tf_autoencoder: tf_networks}
RUNTIME = {torch_autoencoder: torch_backend, tf_autoencoder: tf_backend}
ELBO = {torch_autoencoder: torch_elbo, tf_autoencoder: tf_elbo}
VAE = {torch_autoencoder: torch_vae, tf_autoencoder: tf_vae}
both = pytest.mark.parametrize("module", [torch_autoencoder, tf_autoencoder], ids=["torch", "tf2"])
N, DIGITS = 96, datasets.load("digits").x
CASES = {
    "most likely variance": {},
    "most likely variance, relu": {"activation": "relu"},
    "most likely variance, linear": {"activation": "linear"},
    "fixed variance": {"variance": 0.05},
}
cases = pytest.mark.parametrize("case", CASES)


def set_values(modules: list[ModuleType], models: list, seed: int) -> None:
    shapes = {name: value.shape for name, value in modules[0].export_parameters(models[0]).items()}
    values = draws.initial_values(seed, shapes)
    for module, model in zip(modules, models, strict=True):
        module.import_parameters(model, values)
        for name, value in module.export_parameters(model).items():
            np.testing.assert_array_equal(value, values[name])


def pair(dtype: str, seed: int = 0, latent_dim: int = 6, hidden_dim: int = 50, **arguments) -> tuple:
    """The same model in both frameworks: weights drawn once, copied, and the copy asserted."""
    models = [m.Autoencoder(64, latent_dim, hidden_dim, dtype=dtype, **arguments) for m in NETWORKS]
    set_values([torch_networks, tf_networks], models, seed)
    return models


def batch(dtype: str, step: int = 0) -> np.ndarray:
    return DIGITS[draws.minibatch(0, step, len(DIGITS), N)].astype(dtype)


def canonical(module: ModuleType, tensors: dict) -> dict[str, np.ndarray]:
    return {name: module.canonical(name, value) for name, value in tensors.items()}


@cases
def test_outputs_and_every_gradient_tensor_agree(parity: Parity, case: str, dtype: str, mode: str) -> None:
    a, b = pair(dtype, **CASES[case])
    x = batch(dtype)
    step = MODES[mode](lambda x: (b(x), b.encoder(x), *tf_autoencoder.loss_and_gradients(b, x)))
    tf_output, tf_code, tf_fit, tf_gradients = step(tf.constant(x))
    parity.check("Autoencoder reconstruction", "output", a(torch.tensor(x)), tf_output, case, mode)
    parity.check("CodeEncoder", "output", a.encoder(torch.tensor(x)), tf_code, case, mode)
    fit, gradients = torch_autoencoder.loss_and_gradients(a, torch.tensor(x))
    for name, ours, theirs in zip(fit._fields, fit, tf_fit, strict=True):
        parity.check("Autoencoder.fit_of", "loss", ours, theirs, f"{case} {name}", mode)
    ours, theirs = canonical(torch_networks, gradients), canonical(tf_networks, tf_gradients)
    assert list(ours) == list(theirs) == list(torch_networks.named_parameters(a))
    for name in ours:
        assert np.any(ours[name] != 0), f"{name} has no gradient"
        parity.check("gradients", "gradient of a residual", ours[name], theirs[name], f"{case} {name}", mode)


@pytest.mark.parametrize(
    ("mode", "case"),
    [
        ("function", "most likely variance"),
        ("xla", "fixed variance"),
        pytest.param("eager", "fixed variance", marks=pytest.mark.long),
        pytest.param("function", "most likely variance, relu", marks=pytest.mark.long),
    ],
)
def test_200_updates_agree(parity: Parity, case: str, mode: str) -> None:
    a, b = pair("float64", **CASES[case])
    ours, theirs = TorchAdam(torch_networks.named_parameters(a)), TFAdam(tf_networks.named_parameters(b))
    step_of_b = MODES[mode](lambda x: tf_autoencoder.loss_and_gradients(b, x))
    losses = []
    for step in range(200):
        x = batch("float64", step)
        fit, gradients = torch_autoencoder.loss_and_gradients(a, torch.tensor(x))
        tf_fit, tf_gradients = step_of_b(tf.constant(x))
        losses.append((float(fit.squared_error), float(tf_fit.squared_error)))
        ours.update(gradients)
        theirs.update(tf_gradients)
    losses = np.array(losses)
    worst = np.argmax(np.abs(losses[:, 0] / losses[:, 1] - 1))
    parity.check("squared error, worst of 200 updates", "trajectory loss", *losses[worst], case, mode, 200)
    assert losses[-1, 0] < losses[0, 0] / 3
    values, tf_values = torch_networks.export_parameters(a), tf_networks.export_parameters(b)
    parity.check("weights after 200 updates", "trajectory weights", values, tf_values, "", mode, 200)


@pytest.mark.parametrize("mode", ["function", "xla"])
def test_100_updates_in_float32_step_by_step(parity: Parity, mode: str) -> None:
    """Each step starts from PyTorch's state, so that what is compared is one step and not what chaos makes of it."""
    a, b = pair("float32")
    ours = TorchAdam(torch_networks.named_parameters(a))
    step_of_b = MODES[mode](lambda x: tf_autoencoder.loss_and_gradients(b, x))
    for step in range(100):
        x = batch("float32", step)
        tf_networks.import_parameters(b, torch_networks.export_parameters(a))
        fit, gradients = torch_autoencoder.loss_and_gradients(a, torch.tensor(x))
        tf_fit, tf_gradients = step_of_b(tf.constant(x))
        ours.update(gradients)
        if step % 25 == 24:
            parity.check(
                "squared error, teacher forced", "loss", fit.squared_error, tf_fit.squared_error, "", mode, 100
            )
            for name, value in canonical(torch_networks, gradients).items():
                theirs_now = tf_networks.canonical(name, tf_gradients[name])
                parity.check("gradients, teacher forced", "gradient of a residual", value, theirs_now, name, mode, 100)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_reproducible_training_is_bit_equal(seed: int) -> None:
    a, b = pair("float64", seed, activation="relu")
    ours = TorchAdam(torch_networks.named_parameters(a), reproducible=True)
    theirs = TFAdam(tf_networks.named_parameters(b), reproducible=True)
    step_of_b = tf.function(lambda x: tf_autoencoder.loss_and_gradients(b, x))
    for step in range(100):
        ours.update(torch_autoencoder.loss_and_gradients(a, torch.tensor(batch("float64", step)))[1])
        theirs.update(step_of_b(tf.constant(batch("float64", step)))[1])
    values, tf_values = torch_networks.export_parameters(a), tf_networks.export_parameters(b)
    for name, value in values.items():
        assert value.tobytes() == tf_values[name].tobytes(), name


@both
@cases
def test_gradients_are_central_differences(module: ModuleType, case: str) -> None:
    model, make = pair("float64", 3, **CASES[case])[module is tf_autoencoder], RUNTIME[module].tensor
    x = make(batch("float64"))
    gradients = canonical(NETWORKS[module], module.loss_and_gradients(model, x)[1])
    values = NETWORKS[module].export_parameters(model)
    for index, (name, gradient) in enumerate(gradients.items()):
        direction, losses = draws.normals(1, "sample", gradient.shape, index), []
        for h in (1e-6, -1e-6):
            NETWORKS[module].import_parameters(model, values | {name: values[name] + h * direction})
            losses.append(-float(RUNTIME[module].evaluate(model.fit_of, x)[0]))
        NETWORKS[module].import_parameters(model, values)
        assert np.sum(gradient * direction) == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-6, abs=1e-6), name


@both
def test_the_variance_is_the_most_likely_one(module: ModuleType) -> None:
    """SciPy's search over sigma² ends at the mean squared error, and its density there is the likelihood."""
    model, x, evaluate = pair("float64", 2)[module is tf_autoencoder], batch("float64"), RUNTIME[module].evaluate
    reconstruction, (log_likelihood, squared_error) = evaluate(model, x), evaluate(model.fit_of, x)

    def negative(log_var: float) -> float:
        return -stats.norm.logpdf(x, reconstruction, np.exp(log_var / 2)).sum(axis=1).mean()

    found = optimize.minimize_scalar(negative, bracket=(-5, 0), tol=1e-12)
    assert np.exp(found.x) == pytest.approx(float(squared_error), rel=1e-6)
    assert -found.fun == pytest.approx(float(log_likelihood), rel=1e-13)
    assert float(squared_error) == pytest.approx(np.mean((x - reconstruction) ** 2), rel=1e-14)
    # other images are judged by the variance of the training images
    other = batch("float64", 1)
    judged = evaluate(model.fit_of, other, squared_error)[0]
    expected = stats.norm.logpdf(other, evaluate(model, other), np.sqrt(squared_error)).sum(axis=1).mean()
    assert float(judged) == pytest.approx(expected, rel=1e-13)


@both
def test_the_gradient_does_not_see_that_the_variance_follows(module: ModuleType) -> None:
    model, x = pair("float64", 2)[module is tf_autoencoder], RUNTIME[module].tensor(batch("float64"))
    fit, free = module.loss_and_gradients(model, x)
    model.variance = float(fit.squared_error)
    for name, fixed in canonical(NETWORKS[module], module.loss_and_gradients(model, x)[1]).items():
        np.testing.assert_allclose(NETWORKS[module].canonical(name, free[name]), fixed, rtol=1e-11, atol=1e-12)


@both
def test_a_linear_autoencoder_is_pca(module: ModuleType) -> None:
    """Nothing linear reconstructs better than the principal components; L-BFGS on our gradients gets just there."""
    networks, backend = NETWORKS[module], RUNTIME[module]
    x = DIGITS[:200] - DIGITS[:200].mean(axis=0)
    model = module.Autoencoder(64, 3, 20, "linear", variance=0.04, dtype="float64")
    shapes = {name: value.shape for name, value in networks.export_parameters(model).items()}
    start, given = draws.initial_values(0, shapes), backend.tensor(x)
    step = backend.compiled(lambda x: module.loss_and_gradients(model, x))

    def unpack(flat: np.ndarray) -> dict[str, np.ndarray]:
        ends = np.cumsum([np.prod(shape) for shape in shapes.values()])[:-1].astype(int)
        return {n: v.reshape(s) for (n, s), v in zip(shapes.items(), np.split(flat, ends), strict=True)}

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        networks.import_parameters(model, unpack(flat))
        fit, gradients = step(given)
        flattened = [networks.canonical(name, gradients[name]).ravel() for name in shapes]
        return -float(fit.log_likelihood), np.concatenate(flattened)

    flat = np.concatenate([value.ravel() for value in start.values()])
    found = optimize.minimize(objective, flat, jac=True, method="L-BFGS-B",
                              options={"maxiter": 300, "maxfun": 300, "ftol": 1e-12})  # fmt: skip
    networks.import_parameters(model, unpack(found.x))
    squared_error = float(backend.evaluate(model.fit_of, x)[1])
    pca = PCA(3, svd_solver="full").fit(x)
    best = np.mean((x - pca.inverse_transform(pca.transform(x))) ** 2)
    assert best * (1 - 1e-12) <= squared_error < best * (1 + 1e-4)


@pytest.mark.parametrize("log_var", [-1.0, -6.0])
def test_kernel_density_agrees(parity: Parity, dtype: str, mode: str, log_var: float) -> None:
    arrays = DIGITS[:40].astype(dtype), DIGITS[40:100].astype(dtype), np.array(log_var, dtype)
    inputs = [torch.tensor(a, requires_grad=True) for a in arrays]
    value = torch_autoencoder.kernel_log_density(*inputs)
    gradients = torch.autograd.grad(value.sum(), inputs)

    def with_gradient(*arguments: tf.Tensor) -> tuple:
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = tf_autoencoder.kernel_log_density(*arguments)
        return value, tape.gradient(value, arguments)

    tf_value, tf_gradients = MODES[mode](with_gradient)(*map(tf.constant, arrays))
    # -1/2 (D log sigma² + |x - c|² / sigma²): the two parts cancel where sigma² is small
    parity.check("kernel_log_density", "output", value, tf_value, f"log_var {log_var}", mode)
    for name, ours, theirs in zip(("x", "centres", "log_var"), gradients, tf_gradients, strict=True):
        kind = "share of weights" if log_var == -6.0 or name == "log_var" else "gradient"
        parity.check("kernel_log_density gradient", kind, ours, theirs, f"{name}, log_var {log_var}", mode)


@both
def test_kernel_density_is_scikit_learns(module: ModuleType) -> None:
    x, centres, log_var = DIGITS[:40], DIGITS[40:100], np.array(-2.3)
    expected = KernelDensity(bandwidth=np.exp(log_var / 2)).fit(centres).score_samples(x)
    ours = RUNTIME[module].evaluate(module.kernel_log_density, x, centres, log_var)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


@both
def test_only_centres_that_do_not_know_x_make_a_density(module: ModuleType) -> None:
    """Images of one pixel: the Gaussian around the own reconstruction does not integrate to one, the kernels' does."""
    evaluate, grid = RUNTIME[module].evaluate, np.linspace(-12, 12, 40_001)[:, None]
    model = module.Autoencoder(1, 1, 4, "tanh", dtype="float64")
    shapes = {name: value.shape for name, value in NETWORKS[module].export_parameters(model).items()}
    NETWORKS[module].import_parameters(model, draws.initial_values(1, shapes))
    log_var = np.array(-1.0)
    own = evaluate(ELBO[module].gaussian_log_likelihood, grid, evaluate(model, grid), log_var)
    assert abs(integrate.simpson(np.exp(own), x=grid[:, 0]) - 1) > 0.1
    centres = evaluate(model, np.array([[-1.0], [0.3], [2.0]]))
    kernels = evaluate(module.kernel_log_density, grid, centres, log_var)
    assert integrate.simpson(np.exp(kernels), x=grid[:, 0]) == pytest.approx(1, abs=1e-10)


def test_linear_gaussian_evidence_agrees(parity: Parity, dtype: str, mode: str) -> None:
    loadings, offset = draws.normals(0, "sample", (64, 5), 1) / 4, DIGITS.mean(axis=0)
    arrays = [a.astype(dtype) for a in (DIGITS[:40], loadings, offset, np.array(-1.0))]
    inputs = [torch.tensor(a, requires_grad=True) for a in arrays]
    value = torch_elbo.linear_gaussian_log_evidence(*inputs)
    gradients = torch.autograd.grad(value.sum(), inputs)

    def with_gradient(*arguments: tf.Tensor) -> tuple:
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = tf_elbo.linear_gaussian_log_evidence(*arguments)
        return value, tape.gradient(value, arguments)

    tf_value, tf_gradients = MODES[mode](with_gradient)(*map(tf.constant, arrays))
    of_elbo = Parity("elbo", parity.rows)
    of_elbo.check("linear_gaussian_log_evidence", "output", value, tf_value, "", mode)
    for name, ours, theirs in zip(("x", "loadings", "offset", "log_var"), gradients, tf_gradients, strict=True):
        kind = "gradient that cancels" if name == "log_var" else "gradient through a solve"
        of_elbo.check("linear_gaussian_log_evidence gradient", kind, ours, theirs, name, mode)


@both
def test_linear_gaussian_evidence_is_probabilistic_pca(module: ModuleType) -> None:
    x = DIGITS + 0.1 * draws.normals(0, "sample", DIGITS.shape)  # so that no pixel is constant
    pca = PCA(6, svd_solver="full").fit(x)
    loadings = pca.components_.T * np.sqrt(pca.explained_variance_ - pca.noise_variance_)
    arguments = x, loadings, pca.mean_, np.log(pca.noise_variance_)
    ours = RUNTIME[module].evaluate(ELBO[module].linear_gaussian_log_evidence, *arguments)
    np.testing.assert_allclose(ours, pca.score_samples(x), rtol=1e-10)
    factors = RUNTIME[module].evaluate(
        ELBO[module].linear_gaussian_log_evidence, x, loadings, pca.mean_, np.linspace(-3, -1, 64)
    )
    covariance = loadings @ loadings.T + np.diag(np.exp(np.linspace(-3, -1, 64)))
    np.testing.assert_allclose(factors, stats.multivariate_normal(pca.mean_, covariance).logpdf(x), rtol=1e-9)


@both
def test_names_and_layouts_are_state_dicts(module: ModuleType) -> None:
    model = pair("float32")[module is tf_autoencoder]
    exported = NETWORKS[module].export_parameters(model)
    fresh = torch_autoencoder.Autoencoder(64, 6, 50)
    fresh.load_state_dict({name: torch.tensor(value) for name, value in exported.items()})
    assert exported["encoder.code.weight"].shape == (6, 50)
    x = batch("float32")
    ours, theirs = torch_backend.evaluate(fresh, x), RUNTIME[module].evaluate(model, x)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)


@both
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data_dim": 0}, "data_dim=0 must be an integer of at least 1"),
        ({"latent_dim": 1.5}, "latent_dim=1.5 must be"),
        ({"activation": "sine"}, "activation='sine' must be one of tanh, relu, linear"),
        ({"dtype": "float16"}, "dtype='float16' must be one of float32, float64"),
        ({"variance": 0.0}, "variance=0.0 must be a positive number"),
        ({"variance": "per-pixel"}, "variance='per-pixel' must be a number, or left out: squared error"),
    ],
)
def test_models_that_cannot_be_built(module: ModuleType, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        module.Autoencoder(**({"data_dim": 64} | arguments))
    assert "\n" not in str(error.value)


def test_vae_with_a_variance_per_pixel_agrees(parity: Parity, dtype: str, mode: str) -> None:
    models = [v.VAE(64, 6, 50, likelihood="gaussian", variance="per-pixel", dtype=dtype) for v in (torch_vae, tf_vae)]
    set_values([torch_networks, tf_networks], models, 0)
    x, noise = batch(dtype), draws.normals(0, "noise", (N, 6)).astype(dtype)
    bound, gradients = torch_vae.loss_and_gradients(models[0], torch.tensor(x), torch.tensor(noise))
    step = MODES[mode](lambda *t: tf_vae.loss_and_gradients(models[1], *t))
    tf_bound, tf_gradients = step(tf.constant(x), tf.constant(noise))
    parity.check("ELBO, a variance per pixel", "loss", bound, tf_bound, mode=mode)
    ours, theirs = canonical(torch_networks, gradients), canonical(tf_networks, tf_gradients)
    assert ours["log_var"].shape == (64,)
    parity.check("gradients, a variance per pixel", "gradient", ours, theirs, mode=mode)


@both
def test_a_variance_per_pixel_is_scipys(module: ModuleType) -> None:
    model = VAE[module].VAE(64, 2, 5, likelihood="gaussian", variance="per-pixel", dtype="float64")
    values = NETWORKS[module].export_parameters(model)
    log_var, x, mean = np.linspace(-3, 1, 64), DIGITS[:9], DIGITS[9:18]
    NETWORKS[module].import_parameters(model, values | {"log_var": log_var})
    ours = RUNTIME[module].evaluate(model.log_likelihood, x, mean)
    np.testing.assert_allclose(ours, stats.norm.logpdf(x, mean, np.exp(log_var / 2)).sum(axis=1), rtol=1e-13)
