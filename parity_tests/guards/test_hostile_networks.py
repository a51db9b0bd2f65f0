"""Hostile weights, images and arguments in the networks of both implementations: one answer, or one error.

A limit: where the objective is not finite, in both, gradients are not compared. They are products of
infinity or NaN with the zeros of units that are off and of padding, which one library multiplies and the
other leaves out.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from parity_tests.guards.hostile import Case, cases
from parity_tests.guards.hostile_answers import FRAMEWORKS, Tally, ask_both, attempt, each, few_and_many, hunt

# Which property examines a public name: networks are parts of models, and are looked at inside them.
_VAE = (
    "vae.VAE networks.loss_and_gradients vae.importance_weighted_log_likelihood networks.Encoder networks.Decoder "
    "networks.dense layouts.named_parameters layouts.canonical layouts.native layouts.export_parameters "
    "layouts.import_parameters convolution.Convolution convolution.TransposedConvolution convolution.ConvEncoder "
    "convolution.ConvDecoder"
)
_AUTOENCODER = "autoencoder.Autoencoder autoencoder.CodeEncoder"
NETWORKS = dict.fromkeys(_VAE.split(), "vae") | dict.fromkeys(_AUTOENCODER.split(), "autoencoder")
SIZES = st.integers(1, 6)


def pages(framework: str, *names: str) -> list[Any]:
    return [importlib.import_module(f"{framework}.{name}") for name in names]


def fill(model: Any, layouts: Any, case: Case) -> dict[str, np.ndarray]:
    """Set hostile weights, and return those that are there then, which must be the same."""
    random, shapes = np.random.RandomState(case.seed), layouts.export_parameters(model)
    size = random.choice([0.0, 1.0, 1e3, case.scale**0.1, case.scale])
    values = {name: case.array(size * random.standard_normal(shape.shape)) for name, shape in shapes.items()}
    layouts.import_parameters(model, values)
    return layouts.export_parameters(model)


def canonical(layouts: Any, gradients: dict[str, Any], objective: Any) -> dict[str, np.ndarray]:
    """The gradients in one layout; none where the objective is not finite."""
    if not np.isfinite(float(objective)):
        return {}
    return {name: layouts.canonical(name, value) for name, value in gradients.items()}


def vae_answer(framework: str, case: Case, arguments: dict[str, Any]) -> dict[str, Any]:
    """All that a VAE gives: its parts' outputs, the bound, the gradients, the estimate of log p(x)."""
    layouts, page = pages(framework, "layouts", "vae")
    model = page.VAE(**arguments, dtype=case.dtype)
    weights = fill(model, layouts, case)
    random = np.random.RandomState(case.seed)
    size = random.choice([1.0, 1e3, case.scale])
    x = case.array(size * random.standard_normal((case.n, arguments["data_dim"])))
    noise = case.array(random.standard_normal((2, case.n, arguments["latent_dim"])))
    x, noise = each(FRAMEWORKS[framework], (x, noise))
    bound, gradients = page.loss_and_gradients(model, x, noise[0])
    gradients = canonical(layouts, gradients, bound.elbo)
    estimate = page.importance_weighted_log_likelihood(model, x, noise)
    output = model.decoder(noise[0])
    parts = dict(code=model.encoder(x), output=output, expected=model.expected_data(output))
    return dict(weights=weights, **parts, bound=bound, gradients=gradients, estimate=estimate)


def autoencoder_answer(framework: str, case: Case, arguments: dict[str, Any]) -> dict[str, Any]:
    """All that a plain autoencoder gives."""
    layouts, page = pages(framework, "layouts", "autoencoder")
    model = page.Autoencoder(**arguments, dtype=case.dtype)
    weights = fill(model, layouts, case)
    random = np.random.RandomState(case.seed)
    x = case.array(random.choice([1.0, 1e3, case.scale]) * random.standard_normal((case.n, arguments["data_dim"])))
    x = FRAMEWORKS[framework](x)
    fit, gradients = page.loss_and_gradients(model, x)
    gradients = canonical(layouts, gradients, fit.log_likelihood)
    return dict(weights=weights, code=model.encoder(x), output=model(x), fit=fit, gradients=gradients)


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
    bad = dict.fromkeys(("data_dim", "latent_dim", "hidden_dim", "channels"), BAD)
    bad |= dict(activation=["elu", None, 1], likelihood=["poisson", None], model=["lstm", None], variance=VARIANCES)
    bad["image_shape"] = [None, (), (1,), (2, 3.0), "ab", [shape[0], shape[1]], (0, 1)]
    if draw(st.integers(0, 3)) == 0:
        name = draw(st.sampled_from(sorted(bad)))
        found[name] = draw(st.sampled_from(bad[name]))
    return found


@st.composite
def autoencoder_arguments(draw: Callable) -> dict[str, Any]:
    """The same for a plain autoencoder."""
    found, others = draw(vae_arguments()), ("likelihood", "model", "image_shape", "channels")
    return {name: value for name, value in found.items() if name not in others}


PROPERTIES = {"vae": (vae_answer, vae_arguments()), "autoencoder": (autoencoder_answer, autoencoder_arguments())}


@few_and_many(dict.fromkeys(PROPERTIES, (8, 250)))
def test_hostile_networks(name: str, examples: int, request: pytest.FixtureRequest) -> None:
    function, arguments = PROPERTIES[name]

    def check(example: tuple[Case, dict[str, Any]], tally: Tally) -> None:
        ask_both(lambda framework: attempt(lambda: function(framework, *example)), tally)

    hunt(check, st.tuples(cases(), arguments), examples, request.node.user_properties, name)
