"""The dense VAE: outputs and every gradient tensor agree; the bound is one; parameters cross over."""

from types import ModuleType

import numpy as np
import pytest
import tensorflow as tf
import torch
from scipy import integrate, stats

import pytorch_impl.networks as torch_networks
import pytorch_impl.vae as torch_vae
import tf2_impl.networks as tf_networks
import tf2_impl.vae as tf_vae
from common import draws
from common.data import datasets
from parity_tests.conftest import MODES, Parity
from parity_tests.support.lockstep import CASES

NETWORKS = {torch_vae: torch_networks, tf_vae: tf_networks}
N, DIGITS = 96, datasets.load("digits").x
cases = pytest.mark.parametrize("case", CASES)
activations = pytest.mark.parametrize("activation", ["tanh", "relu"])


def pair(dtype: str, seed: int = 0, latent_dim: int = 6, hidden_dim: int = 50, **arguments) -> tuple:
    """The same model in both frameworks: weights drawn once, copied, and the copy asserted."""
    models = [v.VAE(64, latent_dim, hidden_dim, dtype=dtype, **arguments) for v in (torch_vae, tf_vae)]
    shapes = {name: value.shape for name, value in torch_networks.export_parameters(models[0]).items()}
    values = draws.initial_values(seed, shapes)
    for module, model in zip((torch_networks, tf_networks), models, strict=True):
        module.import_parameters(model, values)
        exported = module.export_parameters(model)
        assert list(exported) == list(values)
        for name, value in exported.items():
            assert value.dtype == np.dtype(dtype)
            np.testing.assert_array_equal(value, values[name])
    return models


def batch(case: str, dtype: str, step: int = 0, latent_dim: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rows = draws.minibatch(0, step, len(DIGITS), N)
    x = datasets.binarize(DIGITS[rows]) if case == "bernoulli" else DIGITS[rows]
    return x.astype(dtype), draws.normals(0, "noise", (len(rows), latent_dim), step).astype(dtype)


def canonical(module: ModuleType, tensors: dict) -> dict[str, np.ndarray]:
    return {name: module.canonical(name, value) for name, value in tensors.items()}


@cases
@activations
def test_outputs_and_every_gradient_tensor_agree(
    parity: Parity, case: str, activation: str, dtype: str, mode: str
) -> None:
    a, b = pair(dtype, activation=activation, **CASES[case])
    x, noise = batch(case, dtype)
    outputs = a(torch.tensor(x), torch.tensor(noise))
    tf_outputs = MODES[mode](lambda *t: b(*t))(tf.constant(x), tf.constant(noise))
    for name, ours, theirs in zip(("output", "mean", "log_var"), outputs, tf_outputs, strict=True):
        parity.check("VAE outputs", "output", ours, theirs, f"{case} {activation} {name}", mode)
    shown = a.expected_data(outputs[0]), b.expected_data(tf_outputs[0])
    parity.check("VAE expected data", "output", *shown, f"{case} {activation}", mode)
    bound, gradients = torch_vae.loss_and_gradients(a, torch.tensor(x), torch.tensor(noise))
    step = MODES[mode](lambda *t: tf_vae.loss_and_gradients(b, *t))
    tf_bound, tf_gradients = step(tf.constant(x), tf.constant(noise))
    for name, ours, theirs in zip(bound._fields, bound, tf_bound, strict=True):
        parity.check("VAE.elbo and its parts", "loss", ours, theirs, f"{case} {activation} {name}", mode)
    ours, theirs = canonical(torch_networks, gradients), canonical(tf_networks, tf_gradients)
    assert list(ours) == list(theirs) == list(torch_networks.named_parameters(a))
    for name in ours:
        assert np.any(ours[name] != 0), f"{name} has no gradient"
        part = name.partition(".")[0]
        label = f"{case} {activation} {name}"
        parity.check(f"gradients of the {part}", "gradient", ours[name], theirs[name], label, mode)


@pytest.mark.parametrize("module", [torch_vae, tf_vae], ids=["torch", "tf2"])
@cases
def test_gradients_are_central_differences(module: ModuleType, case: str) -> None:
    model = pair("float64", 3, **CASES[case])[module is tf_vae]
    make = torch.tensor if module is torch_vae else tf.constant
    x, noise = map(make, batch(case, "float64"))
    gradients = canonical(NETWORKS[module], module.loss_and_gradients(model, x, noise)[1])
    values = NETWORKS[module].export_parameters(model)
    for index, (name, gradient) in enumerate(gradients.items()):
        direction = draws.normals(1, "sample", (gradient.size or 1,), index).reshape(gradient.shape)
        losses = []
        for h in (1e-6, -1e-6):
            NETWORKS[module].import_parameters(model, values | {name: values[name] + h * direction})
            losses.append(-float(as_numpy(model.elbo(x, noise).elbo)))
        NETWORKS[module].import_parameters(model, values)
        numeric = (losses[0] - losses[1]) / 2e-6
        assert np.sum(gradient * direction) == pytest.approx(numeric, rel=1e-6, abs=1e-7), name


@pytest.mark.parametrize("module", [torch_vae, tf_vae], ids=["torch", "tf2"])
@cases
def test_the_elbo_bounds_the_evidence(module: ModuleType, case: str) -> None:
    """One latent dimension: E_noise[ELBO] + KL(q || p(z|x)) = log p(x), the evidence by quadrature over z."""
    model = pair("float64", 5, latent_dim=1, **CASES[case])[module is tf_vae]
    make = torch.tensor if module is torch_vae else tf.constant
    x = batch(case, "float64")[0][:1]
    z = np.linspace(-10, 10, 40_001)
    repeated = make(np.repeat(x, len(z), axis=0))
    log_likelihood = model.log_likelihood(repeated, model.decoder(make(z[:, None])))
    log_joint = as_numpy(log_likelihood) + stats.norm.logpdf(z)
    evidence = np.log(integrate.simpson(np.exp(log_joint - log_joint.max()), x=z)) + log_joint.max()
    mean, log_var = (as_numpy(t)[0, 0] for t in model.encoder(make(x)))
    q, log_q = (getattr(stats.norm(mean, np.exp(log_var / 2)), f)(z) for f in ("pdf", "logpdf"))
    to_posterior = integrate.simpson(q * (log_q - log_joint + evidence), x=z)
    # the expectation over the noise by Gauss-Hermite quadrature, through the model's own elbo
    nodes, node_weights = np.polynomial.hermite_e.hermegauss(80)
    bounds = [float(as_numpy(model.elbo(make(x), make(np.array([[node]]))).elbo)) for node in nodes]
    elbo = np.sum(node_weights * bounds) / np.sqrt(2 * np.pi)
    assert to_posterior > 0
    assert elbo + to_posterior == pytest.approx(evidence, rel=1e-9)
    noise = draws.normals(0, "held-out", (20_000, 1, 1))
    estimate = module.importance_weighted_log_likelihood(model, make(x), make(noise))
    assert as_numpy(estimate)[0] == pytest.approx(evidence, abs=0.02)
    assert elbo < as_numpy(estimate)[0] - 0.02, "an ELBO is no log p(x)"


@pytest.mark.parametrize("network", [{}, {"model": "conv", "image_shape": (8, 8), "channels": 4}])
def test_importance_weighted_log_likelihoods_agree(parity: Parity, dtype: str, mode: str, network: dict) -> None:
    ours, theirs = pair(dtype, **network)
    x, noise = DIGITS[:9].astype(dtype), draws.normals(0, "held-out", (7, 9, 6)).astype(dtype)
    a = torch_vae.importance_weighted_log_likelihood(ours, torch.tensor(x), torch.tensor(noise))
    estimate = MODES[mode](lambda *v: tf_vae.importance_weighted_log_likelihood(theirs, *v))
    parity.check("importance_weighted_log_likelihood", "loss", a.detach(), estimate(tf.constant(x), tf.constant(noise)),
                 " ".join(network) or "dense", mode)  # fmt: skip
    # of a single draw it is the ELBO of that draw, without the divergence in closed form
    one = as_numpy(torch_vae.importance_weighted_log_likelihood(ours, torch.tensor(x), torch.tensor(noise[:1])))
    output, mean, log_var = (as_numpy(v).astype(np.float64) for v in ours(torch.tensor(x), torch.tensor(noise[0])))
    z = mean + np.exp(log_var / 2) * noise[0]
    expected = (x * output - np.logaddexp(0, output)).sum(axis=1) + stats.norm.logpdf(z).sum(axis=1)
    expected -= stats.norm.logpdf(z, mean, np.exp(log_var / 2)).sum(axis=1)
    np.testing.assert_allclose(one, expected, rtol=1e-12 if dtype == "float64" else 1e-5)


def as_numpy(value: torch.Tensor | tf.Tensor) -> np.ndarray:
    return value.detach().numpy() if isinstance(value, torch.Tensor) else value.numpy()


def test_names_and_layouts_are_state_dicts() -> None:
    a, b = pair("float32", likelihood="gaussian")
    exported = tf_networks.export_parameters(b)
    fresh = torch_vae.VAE(64, 6, 50, likelihood="gaussian")
    fresh.load_state_dict({name: torch.tensor(value) for name, value in exported.items()})
    x, noise = map(torch.tensor, batch("gaussian learned", "float32"))
    torch.testing.assert_close(fresh(x, noise)[0], a(x, noise)[0], rtol=0, atol=0)
    assert exported["encoder.hidden.weight"].shape == (50, 64)
    assert exported["log_var"].shape == ()


@pytest.mark.parametrize("module", NETWORKS)
def test_a_learned_variance_starts_at_one(module: ModuleType) -> None:
    for variance in (None, "per-pixel"):
        model = module.VAE(9, 2, 4, likelihood="gaussian", variance=variance)
        assert np.all(NETWORKS[module].export_parameters(model)["log_var"] == 0)


def test_a_fixed_variance_is_no_part_of_the_state() -> None:
    """It is an argument of the model: what is stored and loaded are the parameters that are trained."""
    ours, _ = pair("float64", likelihood="gaussian", variance=0.3)
    assert sorted(ours.state_dict()) == list(torch_networks.named_parameters(ours))


@pytest.mark.parametrize("module", NETWORKS)
def test_what_was_exported_stays_as_it_was(module: ModuleType) -> None:
    """A checkpoint is a copy: training goes on without it."""
    networks, model = NETWORKS[module], pair("float32")[list(NETWORKS).index(module)]
    exported = networks.export_parameters(model)
    before = {name: value.copy() for name, value in exported.items()}
    networks.import_parameters(model, {name: value + 1 for name, value in exported.items()})
    for name, value in exported.items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("module", NETWORKS)
def test_parameters_come_as_tensors_of_either_framework(module: ModuleType) -> None:
    networks, model = NETWORKS[module], pair("float32")[list(NETWORKS).index(module)]
    values = {name: value + 1 for name, value in networks.export_parameters(model).items()}
    for tensor in (torch.tensor, lambda array: torch.nn.Parameter(torch.tensor(array)), tf.constant, tf.Variable):
        networks.import_parameters(model, {name: np.zeros_like(value) for name, value in values.items()})
        networks.import_parameters(model, {name: tensor(value) for name, value in values.items()})
        for name, value in networks.export_parameters(model).items():
            np.testing.assert_array_equal(value, values[name])


@pytest.mark.parametrize("module", [torch_vae, tf_vae], ids=["torch", "tf2"])
def test_parameters_that_do_not_fit_are_refused(module: ModuleType) -> None:
    model = module.VAE(64, 6, 50, dtype="float64")
    values = NETWORKS[module].export_parameters(model)
    with pytest.raises(ValueError, match=r"\['log_var'\] are not in both"):
        NETWORKS[module].import_parameters(model, values | {"log_var": np.zeros(())})
    wrong = values | {"encoder.mean.bias": np.zeros(7)}
    with pytest.raises(ValueError, match=r"encoder.mean.bias has shape \(7,\), not \(6,\)"):
        NETWORKS[module].import_parameters(model, wrong)


@pytest.mark.parametrize("module", [torch_vae, tf_vae], ids=["torch", "tf2"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data_dim": 0}, "data_dim=0 must be an integer of at least 1"),
        ({"latent_dim": -2}, "latent_dim=-2 must be"),
        ({"hidden_dim": 2.5}, "hidden_dim=2.5 must be"),
        ({"activation": "sine"}, "activation='sine' must be one of tanh, relu"),
        ({"likelihood": "poisson"}, "likelihood='poisson' must be one of bernoulli, gaussian"),
        ({"dtype": "float16"}, "dtype='float16' must be one of float32, float64"),
        ({"variance": 0.1}, "variance=0.1 needs likelihood='gaussian'; leave it out"),
        ({"likelihood": "gaussian", "variance": 0.0}, "variance=0.0 must be a positive number"),
    ],
)
def test_models_that_cannot_be_built(module: ModuleType, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        module.VAE(**({"data_dim": 64} | arguments))
    assert "\n" not in str(error.value)
