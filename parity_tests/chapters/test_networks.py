"""Encoder and decoder without a model: outputs and gradients agree."""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
import torch
from scipy.special import expit

import pytorch_impl.layouts as torch_layouts
import pytorch_impl.networks as torch_networks
import tf2_impl.layouts as tf_layouts
import tf2_impl.networks as tf_networks
from common import draws
from parity_tests.conftest import MODES, Parity
from parity_tests.support import models as of_models
from parity_tests.support.frameworks import arrays, both, is_torch, sibling, tensors
from parity_tests.support.oracle import BENDS, affine

N, WIDTHS = 20, (7, 5, 3)


class Squares(NamedTuple):
    """The sum of squares of all outputs, which stands for an objective."""

    total: torch.Tensor | tf.Tensor


class TorchPair(torch.nn.Module):
    """An encoder and a decoder, named as in the models that hold both."""

    def __init__(self, activation: str, dtype: str) -> None:
        super().__init__()
        self.encoder = torch_networks.Encoder(*WIDTHS, activation, dtype)
        self.decoder = torch_networks.Decoder(*WIDTHS[::-1], activation, dtype)

    def objective(self, x: torch.Tensor, z: torch.Tensor) -> Squares:
        return Squares(sum(value.square().sum() for value in (*self.encoder(x), self.decoder(z))))


class TFPair:
    """The same in TensorFlow."""

    def __init__(self, activation: str, dtype: str) -> None:
        self.encoder = tf_networks.Encoder(*WIDTHS, activation, dtype)
        self.decoder = tf_networks.Decoder(*WIDTHS[::-1], activation, dtype)

    def objective(self, x: tf.Tensor, z: tf.Tensor) -> Squares:
        return Squares(sum(tf.reduce_sum(tf.square(value)) for value in (*self.encoder(x), self.decoder(z))))


def pair(activation: str, dtype: str) -> tuple[TorchPair, TFPair, dict[str, np.ndarray]]:
    """Both, with the same parameters, and these."""
    models = TorchPair(activation, dtype), TFPair(activation, dtype)
    shapes = {name: value.shape for name, value in torch_layouts.export_parameters(models[0]).items()}
    names = enumerate(sorted(shapes))
    values = {name: (0.4 * draws.normals(0, "sample", shapes[name], i)).astype(dtype) for i, name in names}
    for layouts, model in zip((torch_layouts, tf_layouts), models, strict=True):
        layouts.import_parameters(model, values)
    return *models, values


def test_outputs_and_gradients_agree(parity: Parity, dtype: str, mode: str) -> None:
    for activation in ("tanh", "relu", "linear"):
        ours, theirs, values = pair(activation, dtype)
        given = [draws.normals(1, "sample", (N, width)).astype(dtype) for width in (WIDTHS[0], WIDTHS[2])]
        x, z = map(torch.tensor, given)
        outputs = *ours.encoder(x), ours.decoder(z)
        compute = MODES[mode](
            lambda x, z, model=theirs: (
                *model.encoder(x),
                model.decoder(z),
                tf_networks.loss_and_gradients(model, x, z),
            )
        )
        *tf_outputs, (tf_terms, tf_gradients) = compute(*map(tf.constant, given))
        for name, a, b in zip(("Encoder mean", "Encoder log variance", "Decoder"), outputs, tf_outputs, strict=True):
            parity.check(name, "output", a.detach(), b, activation, mode)
        terms, gradients = torch_networks.loss_and_gradients(ours, x, z)
        parity.check("loss_and_gradients terms", "loss", terms.total, tf_terms.total, activation, mode)
        assert list(gradients) == list(tf_gradients) == sorted(values)
        for name, gradient in gradients.items():
            a, b = torch_layouts.canonical(name, gradient), tf_layouts.canonical(name, tf_gradients[name])
            owner = name.partition(".")[0].capitalize()
            parity.check(f"{owner} gradient", "gradient", a, b, f"{activation} {name}", mode)


def test_the_dense_layer_is_the_affine_map(parity: Parity, dtype: str, mode: str) -> None:
    shapes = (N, 7), (5, 7), (5,)
    x, weight, bias = (draws.normals(2, "sample", shape, i).astype(dtype) for i, shape in enumerate(shapes))
    ours, theirs = torch_networks.dense(7, 5, dtype), tf_networks.dense(7, 5, dtype)
    ours.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    theirs.set_weights([weight.T, bias])
    output, tf_output = ours(torch.tensor(x)).detach(), MODES[mode](theirs)(tf.constant(x))
    parity.check("dense", "output", output, tf_output, "", mode)
    exact = x.astype(np.longdouble) @ weight.T.astype(np.longdouble) + bias
    np.testing.assert_allclose(tf_output, exact.astype(dtype), rtol=0, atol=40 * np.finfo(dtype).eps)


def test_parameters_are_still_set_by_this_page() -> None:
    """As in code that is older than `layouts.py`."""
    for networks, layouts in ((torch_networks, torch_layouts), (tf_networks, tf_layouts)):
        assert networks.import_parameters is layouts.import_parameters
        assert networks.export_parameters is layouts.export_parameters


@both("vae")
@pytest.mark.parametrize(("likelihood", "activation"), [("bernoulli", "tanh"), ("gaussian", "relu"), ("", "linear")])
def test_dense_models_are_their_equations(module: ModuleType, likelihood: str, activation: str) -> None:
    """By NumPy: where the layers bend, codes with noise and without, expected pixels. No likelihood: an autoencoder."""
    sizes = dict(data_dim=7, hidden_dim=5, latent_dim=3, activation=activation, dtype="float64")
    page, name, more = ("vae", "VAE", {"likelihood": likelihood}) if likelihood else ("autoencoder", "Autoencoder", {})
    model = of_models.same(page, name, 4, True, **sizes, **more)[not is_torch(module)]
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
