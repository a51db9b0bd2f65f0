"""Hostile weights, images and arguments in the networks of both implementations: one answer, or one error, from both.

A limit: where the objective is not finite, in both, gradients are not compared. They are products of infinity or NaN
with the zeros of units that are off and of padding, which one library multiplies and the other leaves out.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch
from hypothesis import strategies as st

from parity_tests.guards.hostile import Case, cases
from parity_tests.guards.hostile_answers import Answer, Noise, Tally, attempt, compare, each, hunt, without_subnormals

# Which property a public name is examined by: networks are parts of models, and are looked at inside them.
NETWORKS = {
    "vae.VAE": "vae",
    "vae.loss_and_gradients": "vae",
    "vae.importance_weighted_log_likelihood": "vae",
    "networks.Encoder": "vae",
    "networks.Decoder": "vae",
    "networks.dense": "vae",
    "networks.named_parameters": "vae",
    "networks.canonical": "vae",
    "networks.native": "vae",
    "networks.export_parameters": "vae",
    "networks.import_parameters": "vae",
    "convolution.Convolution": "vae",
    "convolution.TransposedConvolution": "vae",
    "convolution.ConvEncoder": "vae",
    "convolution.ConvDecoder": "vae",
    "autoencoder.Autoencoder": "autoencoder",
    "autoencoder.CodeEncoder": "autoencoder",
    "autoencoder.loss_and_gradients": "autoencoder",
}
FRAMEWORKS = {"pytorch_impl": torch.tensor, "tf2_impl": tf.constant}
SIZES = st.integers(1, 6)


def pages(framework: str, *names: str) -> list[Any]:
    return [importlib.import_module(f"{framework}.{name}") for name in names]


def fill(model: Any, networks: Any, case: Case) -> dict[str, np.ndarray]:
    """Set hostile weights, and return those that are there then, which must be the same."""
    random, shapes = np.random.RandomState(case.seed), networks.export_parameters(model)
    size = random.choice([0.0, 1.0, 1e3, case.scale**0.1, case.scale])
    values = {name: case.array(size * random.standard_normal(shape.shape)) for name, shape in shapes.items()}
    networks.import_parameters(model, values)
    return networks.export_parameters(model)


def canonical(networks: Any, gradients: dict[str, Any], objective: Any) -> dict[str, np.ndarray]:
    """The gradients in one layout; none where the objective is not finite."""
    if not np.isfinite(float(objective)):
        return {}
    return {name: networks.canonical(name, value) for name, value in gradients.items()}


def vae_answer(framework: str, case: Case, arguments: dict[str, Any]) -> Answer:
    """All that a VAE gives: its parts' outputs, the bound, the gradients, the estimate of log p(x)."""
    networks, page = pages(framework, "networks", "vae")

    def answer() -> dict[str, Any]:
        model = page.VAE(**arguments, dtype=case.dtype)
        found: dict[str, Any] = {"weights": fill(model, networks, case)}
        random, latent = np.random.RandomState(case.seed), arguments["latent_dim"]
        size = random.choice([1.0, 1e3, case.scale])
        x = case.array(size * random.standard_normal((case.n, arguments["data_dim"])))
        noise = case.array(random.standard_normal((2, case.n, latent)))
        x, noise = each(FRAMEWORKS[framework], (x, noise))
        bound, gradients = page.loss_and_gradients(model, x, noise[0])
        gradients = canonical(networks, gradients, bound.elbo)
        estimate = page.importance_weighted_log_likelihood(model, x, noise)
        output = model.decoder(noise[0])
        return found | dict(code=model.encoder(x), output=output, expected=model.expected_data(output),
                            bound=bound, gradients=gradients, estimate=estimate)  # fmt: skip

    return attempt(answer)


def autoencoder_answer(framework: str, case: Case, arguments: dict[str, Any]) -> Answer:
    """All that a plain autoencoder gives."""
    networks, page = pages(framework, "networks", "autoencoder")

    def answer() -> dict[str, Any]:
        model = page.Autoencoder(**arguments, dtype=case.dtype)
        found: dict[str, Any] = {"weights": fill(model, networks, case)}
        random = np.random.RandomState(case.seed)
        x = case.array(random.choice([1.0, 1e3, case.scale]) * random.standard_normal((case.n, arguments["data_dim"])))
        x = each(FRAMEWORKS[framework], x)
        fit, gradients = page.loss_and_gradients(model, x)
        gradients = canonical(networks, gradients, fit.log_likelihood)
        return found | dict(code=model.encoder(x), output=model(x), fit=fit, gradients=gradients)

    return attempt(answer)


BAD = [0, -1, 1.5, True, "3", None, np.int64(2), float("nan")]
VARIANCES = [None, 1.0, 1e-30, 1e30, np.float64(0.5), 1e-320, 0.0, -1.0, float("inf"), "per-pixel", "none", True]


@st.composite
def vae_arguments(draw: Callable) -> dict[str, Any]:
    """Mostly arguments of a VAE; now and then one of them is not."""
    shape = (draw(SIZES), draw(SIZES))
    choices = dict(
        latent_dim=(1, 2, 3),
        hidden_dim=(1, 2, 4),
        activation=("tanh", "relu", "linear"),
        likelihood=("bernoulli", "gaussian"),
        model=("dense", "conv"),
        channels=(1, 2),
    )
    found = {name: draw(st.sampled_from(values)) for name, values in choices.items()}
    found |= dict(data_dim=shape[0] * shape[1], image_shape=shape)
    if found["likelihood"] == "gaussian":
        found["variance"] = draw(st.sampled_from(VARIANCES))
    bad = dict(data_dim=BAD, latent_dim=BAD, hidden_dim=BAD, channels=BAD, activation=["elu", None, 1],
               likelihood=["poisson", None], model=["lstm", None], variance=VARIANCES,
               image_shape=[None, (), (1,), (2, 3.0), "ab", [shape[0], shape[1]], (0, 1)])  # fmt: skip
    if draw(st.integers(0, 3)) == 0:
        name = draw(st.sampled_from(sorted(bad)))
        found[name] = draw(st.sampled_from(bad[name]))
    return found


@st.composite
def autoencoder_arguments(draw: Callable) -> dict[str, Any]:
    """The same for a plain autoencoder."""
    found = draw(vae_arguments())
    for name in ("likelihood", "model", "image_shape", "channels"):
        found.pop(name)
    return found


PROPERTIES = {"vae": (vae_answer, vae_arguments()), "autoencoder": (autoencoder_answer, autoencoder_arguments())}


def check(function: Callable, case: Case, arguments: dict[str, Any], tally: Tally) -> None:
    """Ask both, and compare."""

    def again(seed: int, units: int) -> Answer:
        with Noise(seed, units):
            return function("pytorch_impl", case, arguments)

    ours, theirs = (function(framework, case, arguments) for framework in FRAMEWORKS)
    tally.add(*compare(ours, theirs, again, lambda: without_subnormals(
        lambda: function("pytorch_impl", case, arguments))))  # fmt: skip


def hunt_in(name: str, examples: int, rows: list) -> None:
    """Look for a case in which a model's two implementations differ."""
    function, arguments = PROPERTIES[name]
    strategy = st.tuples(cases(), arguments)
    hunt(lambda example, tally: check(function, *example, tally), strategy, examples, rows, name)


@pytest.mark.parametrize("name", PROPERTIES)
def test_hostile_networks(name: str, request: pytest.FixtureRequest) -> None:
    hunt_in(name, 8, request.node.user_properties)


@pytest.mark.long
@pytest.mark.parametrize("name", PROPERTIES)
def test_hostile_networks_in_the_long_run(name: str, request: pytest.FixtureRequest) -> None:
    hunt_in(name, 250, request.node.user_properties)
