"""Encoder and decoder on their own: outputs, gradients and parameters cross from one framework to the other."""

import numpy as np
import pytest
import tensorflow as tf
import torch

import pytorch_impl.networks as torch_networks
import tf2_impl.networks as tf_networks
from common import draws
from parity_tests.conftest import MODES, Parity

N, WIDTHS = 20, (7, 5, 3)


class TorchPair(torch.nn.Module):
    """An encoder and a decoder, named as in the models that hold both."""

    def __init__(self, activation: str, dtype: str) -> None:
        super().__init__()
        self.encoder = torch_networks.Encoder(*WIDTHS, activation, dtype)
        self.decoder = torch_networks.Decoder(*WIDTHS[::-1], activation, dtype)


class TFPair:
    """The same in TensorFlow."""

    def __init__(self, activation: str, dtype: str) -> None:
        self.encoder = tf_networks.Encoder(*WIDTHS, activation, dtype)
        self.decoder = tf_networks.Decoder(*WIDTHS[::-1], activation, dtype)


def pair(activation: str, dtype: str) -> tuple[TorchPair, TFPair, dict[str, np.ndarray]]:
    """Both, with the same parameters, and these."""
    models = TorchPair(activation, dtype), TFPair(activation, dtype)
    shapes = {name: value.shape for name, value in torch_networks.export_parameters(models[0]).items()}
    names = enumerate(sorted(shapes))
    values = {name: (0.4 * draws.normals(0, "sample", shapes[name], i)).astype(dtype) for i, name in names}
    for module, model in zip((torch_networks, tf_networks), models, strict=True):
        module.import_parameters(model, values)
    return *models, values


@pytest.mark.parametrize("activation", ["tanh", "relu", "linear"])
def test_outputs_and_gradients_agree(parity: Parity, activation: str, dtype: str, mode: str) -> None:
    ours, theirs, values = pair(activation, dtype)
    x, z = (draws.normals(1, "sample", (N, width)).astype(dtype) for width in (WIDTHS[0], WIDTHS[2]))
    outputs = ours.encoder(torch.tensor(x)), ours.decoder(torch.tensor(z))

    def compute(x: tf.Tensor, z: tf.Tensor) -> tuple:
        with tf.GradientTape() as tape:
            (mean, log_var), output = outputs = theirs.encoder(x), theirs.decoder(z)
            total = sum(tf.reduce_sum(tf.square(value)) for value in (mean, log_var, output))
        return outputs, tape.gradient(total, tf_networks.named_parameters(theirs))

    tf_outputs, tf_gradients = MODES[mode](compute)(tf.constant(x), tf.constant(z))
    for name, a, b in zip(("mean", "log variance"), outputs[0], tf_outputs[0], strict=True):
        parity.check(f"Encoder {name}", "output", a.detach(), b, activation, mode)
    parity.check("Decoder", "output", outputs[1].detach(), tf_outputs[1], activation, mode)
    total = sum(value.square().sum() for value in (*outputs[0], outputs[1]))
    names, parameters = zip(*torch_networks.named_parameters(ours).items(), strict=True)
    gradients = dict(zip(names, torch.autograd.grad(total, parameters), strict=True))
    assert list(names) == list(tf_gradients) == sorted(values)
    for name in names:
        a, b = torch_networks.canonical(name, gradients[name]), tf_networks.canonical(name, tf_gradients[name])
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


def test_parameters_cross_over_unchanged(parity: Parity, dtype: str) -> None:
    ours, theirs, values = pair("tanh", dtype)
    exported = torch_networks.export_parameters(ours), tf_networks.export_parameters(theirs)
    for name, value in values.items():
        for found in exported:
            np.testing.assert_array_equal(found[name], value)
        parity.check("export_parameters", "output", exported[0][name], exported[1][name], name)
        parity.check("import_parameters and back", "output", value, exported[1][name], name)
