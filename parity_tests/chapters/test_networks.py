"""Encoder and decoder without a model: outputs and gradients agree."""

from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch
from scipy.special import expit

from common import draws
from parity_tests.conftest import MODES, Parity
from parity_tests.support import models as of_models
from parity_tests.support.frameworks import arrays, both, in_mode, is_torch, sibling, tensors
from parity_tests.support.oracle import BENDS, affine

N, SIZES = 20, {"data_dim": 7, "latent_dim": 3, "hidden_dim": 5}


def results(module: ModuleType, model: Any, x: Any, z: Any) -> tuple:
    """What encoder and decoder of a model make of images and codes, the terms of its objective, and the gradients."""
    return *model.encoder(x), model.decoder(z), *module.loss_and_gradients(model, x, z)


def test_outputs_and_gradients_agree(parity: Parity, dtype: str, mode: str) -> None:
    given = [draws.normals(1, "sample", (N, SIZES[name])).astype(dtype) for name in ("data_dim", "latent_dim")]
    for activation in ("tanh", "relu", "linear"):
        models = of_models.same(
            "vae", "VAE", 0, True, **SIZES, likelihood="gaussian", activation=activation, dtype=dtype
        )
        (*ours, gradients), (*theirs, tf_gradients) = (
            in_mode(module, partial(results, module, model), mode)(*tensors(module, *given))
            for module, model in zip(of_models.NETWORKS, models, strict=True)
        )
        names = ("Encoder mean", "Encoder log variance", "Decoder", "loss_and_gradients terms")
        for name, kind, a, b in zip(names, ("output",) * 3 + ("loss",), ours, theirs, strict=True):
            parity.check(name, kind, a, b, activation, mode)
        assert list(gradients) == list(tf_gradients) == list(of_models.LAYOUTS[0].named_parameters(models[0]))
        tf_gradients = of_models.canonical(of_models.LAYOUTS[1], tf_gradients)
        for name, gradient in of_models.canonical(of_models.LAYOUTS[0], gradients).items():
            owner = name.partition(".")[0].capitalize()
            parity.check(f"{owner} gradient", "gradient", gradient, tf_gradients[name], f"{activation} {name}", mode)


def test_the_dense_layer_is_the_affine_map(parity: Parity, dtype: str, mode: str) -> None:
    shapes = (N, 7), (5, 7), (5,)
    x, weight, bias = (draws.normals(2, "sample", shape, i).astype(dtype) for i, shape in enumerate(shapes))
    ours, theirs = (module.dense(7, 5, dtype) for module in of_models.NETWORKS)
    ours.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    theirs.set_weights([weight.T, bias])
    output, tf_output = ours(torch.tensor(x)).detach(), MODES[mode](theirs)(tf.constant(x))
    parity.check("dense", "output", output, tf_output, "", mode)
    exact = x.astype(np.longdouble) @ weight.T.astype(np.longdouble) + bias
    np.testing.assert_allclose(tf_output, exact.astype(dtype), rtol=0, atol=40 * np.finfo(dtype).eps)


def test_parameters_are_still_set_by_this_page() -> None:
    """As in code that is older than `layouts.py`."""
    for networks, layouts in zip(of_models.NETWORKS, of_models.LAYOUTS, strict=True):
        assert networks.import_parameters is layouts.import_parameters
        assert networks.export_parameters is layouts.export_parameters


@both("vae")
@pytest.mark.parametrize(("likelihood", "activation"), [("bernoulli", "tanh"), ("gaussian", "relu"), ("", "linear")])
def test_dense_models_are_their_equations(module: ModuleType, likelihood: str, activation: str) -> None:
    """By NumPy: where the layers bend, codes with noise and without, expected pixels. No likelihood: an autoencoder."""
    page, name, more = ("vae", "VAE", {"likelihood": likelihood}) if likelihood else ("autoencoder", "Autoencoder", {})
    model = of_models.same(page, name, 4, True, **SIZES, **more, activation=activation, dtype="float64")[
        not is_torch(module)
    ]
    x, noise, z = (draws.normals(3, "sample", (N, width), i) for i, width in enumerate((7, 3, 3)))
    p, (f, _) = sibling(module, "layouts").export_parameters(model), BENDS[activation]

    def decoded(codes: np.ndarray) -> np.ndarray:
        return affine(p, "decoder.out", f(affine(p, "decoder.hidden", codes)))

    def check(function: Callable, *given: np.ndarray, expected: Sequence[np.ndarray]) -> None:
        for ours, value in zip(arrays(function(*tensors(module, *given))), expected, strict=True):
            np.testing.assert_allclose(ours, value, rtol=1e-12, atol=1e-14)

    hidden = f(affine(p, "encoder.hidden", x))
    if not likelihood:
        code = affine(p, "encoder.code", hidden)
        check(model.encode, x, expected=[code])
        check(model, x, expected=[decoded(code)])
        check(model.decode, z, expected=[decoded(z)])
        return
    mean, log_var = affine(p, "encoder.mean", hidden), affine(p, "encoder.log_var", hidden)
    check(model.encode, x, expected=[mean])
    check(model, x, noise, expected=[decoded(mean + np.exp(log_var / 2) * noise), mean, log_var])
    check(model, x, expected=[decoded(mean), mean, log_var])
    check(model.decode, z, expected=[expit(decoded(z)) if likelihood == "bernoulli" else decoded(z)])
