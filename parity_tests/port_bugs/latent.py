"""Hidden variables: a VAE whose noise is an input, and EM for a mixture of Gaussians."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F
from torch import nn

from parity_tests.port_bugs.problem import Bug, Generator, Problem, dense, normal, pair

LOG_2_PI = float(np.log(2 * np.pi))


class VAE(nn.Module):
    """Returns log odds of pixels, mean and log variance of the code."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.mean, self.log_var = nn.Linear(6, 5), nn.Linear(5, 2), nn.Linear(5, 2)
        self.decoder, self.out = nn.Linear(2, 5), nn.Linear(5, 6)

    def forward(self, x: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        h = torch.tanh(self.hidden(x))
        mean, log_var = self.mean(h), self.log_var(h)
        code = mean + torch.exp(0.5 * log_var) * noise
        return self.out(F.softplus(self.decoder(code))), mean, log_var


def negative_elbo(output: tuple[torch.Tensor, ...], x: torch.Tensor) -> torch.Tensor:
    """Summed over pixels and dimensions, averaged over the batch."""
    logits, mean, log_var = output
    reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    divergence = -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(1)
    return (reconstruction + divergence).mean()


@pair
def vae(
    generator: Generator,
    dtype: str,
    *,
    scale=0.5,
    kl="sum",
    pixels="sum",
    sign=1.0,
    beta=1.0,
    detached=False,
    heads="mean, log_var",
    activation=None,
) -> Problem:
    """The noise is the second input."""
    model, x, noise = VAE(), keras.Input((6,)), keras.Input((2,))
    names = ("hidden", "mean", "log_var", "decoder", "out")
    layers = {name: keras.layers.Dense(size, name=name) for name, size in zip(names, (5, 2, 2, 5, 6), strict=True)}
    h = keras.ops.tanh(layers["hidden"](x))
    mean, log_var = layers["mean"](h), layers["log_var"](h)
    given = keras.ops.stop_gradient(mean) if detached else mean
    code = given + keras.ops.exp(scale * log_var) * noise
    port = keras.Model(
        [x, noise], [layers["out"]((activation or keras.ops.softplus)(layers["decoder"](code))), mean, log_var]
    )

    def copy(model: VAE, port: keras.Model) -> None:
        sources = dict(zip(names, names, strict=True))
        if heads == "exchanged":
            sources |= {"mean": "log_var", "log_var": "mean"}
        for name, layer in layers.items():
            dense(layer, getattr(model, sources[name]))

    def port_loss(x: tf.Tensor, output: list) -> tf.Tensor:
        logits, mean, log_var = output
        each = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(x, logits.dtype), logits)
        reconstruction = tf.reduce_sum(each, 1) if pixels == "sum" else tf.reduce_mean(each, 1)
        terms = 1 + log_var - tf.square(mean) - (tf.square(log_var) if kl == "square" else tf.exp(log_var))
        divergence = -0.5 * sign * (tf.reduce_mean(terms, 1) if kl == "mean" else tf.reduce_sum(terms, 1))
        return tf.reduce_mean(reconstruction + beta * divergence)

    data = generator.integers(0, 2, (7, 6)).astype(dtype)
    return Problem(model, port, (data, normal(generator, dtype, 7, 2)), data, negative_elbo, port_loss, copy)


class Mixture(nn.Module):
    """Weights, means and diagonal variances of three Gaussians; returns the log responsibilities (N, K)."""

    def __init__(self) -> None:
        super().__init__()
        self.logits, self.means = nn.Parameter(torch.randn(3)), nn.Parameter(2 * torch.randn(3, 2))
        self.log_vars = nn.Parameter(torch.randn(3, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        square = (x[:, None] - self.means).square() / self.log_vars.exp()
        density = -0.5 * (square + self.log_vars + LOG_2_PI).sum(-1)
        joint = torch.log_softmax(self.logits, 0) + density
        return joint - torch.logsumexp(joint, 1, keepdim=True)


class KerasMixture(keras.Model):
    """The port, each of whose mistakes is a setting."""

    def __init__(self, **wrong: Any) -> None:
        super().__init__()
        self.wrong = wrong
        self.logits, self.means = (
            self.add_weight(shape=(3,), name="logits"),
            self.add_weight(shape=(3, 2), name="means"),
        )
        self.log_vars = self.add_weight(shape=(3, 2), name="log_vars")
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        wrong, log_vars = self.wrong, self.log_vars.value
        square = tf.square(x[:, None] - self.means.value) / tf.exp(wrong.get("power", 1.0) * log_vars)
        each = square + (0.0 if wrong.get("no_determinant") else log_vars)
        density = -0.5 * tf.reduce_sum(each + tf.constant(LOG_2_PI, x.dtype), -1)
        joint = density if wrong.get("unweighted") else tf.nn.log_softmax(self.logits.value) + density
        return joint - tf.reduce_logsumexp(joint, wrong.get("axis", 1), keepdims=True)


@pair
def mixture(generator: Generator, dtype: str, **wrong: Any) -> Problem:
    """A step is an iteration of EM: no gradients, no optimizer."""
    model, port = Mixture(), KerasMixture(**wrong)
    x = normal(generator, dtype, 20, 2)

    def copy(model: Mixture, port: KerasMixture) -> None:
        for variable, parameter in zip((port.logits, port.means, port.log_vars), model.parameters(), strict=True):
            variable.assign(parameter.detach().numpy())

    def step(number: int) -> None:
        with torch.no_grad():
            data = torch.tensor(x).to(model.means.dtype)
            gamma = model(data).exp()
            count = gamma.sum(0)
            means = gamma.T @ data / count[:, None]
            variances = torch.einsum("nk,nkd->kd", gamma, (data[:, None] - means).square()) / count[:, None] + 1e-3
            model.logits.copy_(torch.log(count / len(data)))
            model.means.copy_(means)
            model.log_vars.copy_(torch.log(variances))

    def port_step(number: int) -> None:
        data = tf.cast(x, port.means.value.dtype)
        gamma = tf.exp(port(data))
        count = tf.reduce_sum(gamma, 0)
        means = tf.matmul(gamma, data, transpose_a=True) / count[:, None]
        centre = port.means.value if wrong.get("old_means") else means
        divisor = count[:, None] * (19 / 20 if wrong.get("unbiased") else 1.0)
        floor = 0.0 if wrong.get("no_floor") else tf.constant(1e-3, data.dtype)
        variances = tf.einsum("nk,nkd->kd", gamma, tf.square(data[:, None] - centre)) / divisor + floor
        if not wrong.get("fixed_weights"):
            port.logits.assign(tf.math.log(count / len(x)))
        port.means.assign(means)
        port.log_vars.assign(tf.math.log(variances))

    target = generator.random((20, 3)).astype(dtype)
    squared = keras.losses.MeanSquaredError(dtype=dtype)
    return Problem(model, port, x, target, F.mse_loss, squared, copy, (step, port_step))


BUGS = (
    Bug(vae, {"scale": 1.0}, "the variance for the deviation", "model: (exp|mul)"),
    Bug(vae, {"kl": "mean"}, "the mean over dimensions", "loss: (sum|mean)", "S3"),
    Bug(vae, {"kl": "square"}, "the log variance squared, not exponentiated", "loss: (exp|sub)"),
    Bug(vae, {"pixels": "mean"}, "the mean over pixels", "loss: sum", "S3"),
    Bug(vae, {"sign": -1.0}, "the divergence subtracted", "loss: (add|mul)"),
    Bug(vae, {"beta": 0.5}, "half the divergence", "loss: (add|mul)"),
    Bug(vae, {"detached": True}, "no gradient through the code's mean", "mean: linear|model: add|mean.(weight|bias)"),
    Bug(vae, {"heads": "exchanged"}, "mean and log variance exchanged", "(mean|log_var): linear"),
    Bug(vae, {"activation": keras.ops.relu}, "ReLU for softplus", ": softplus"),
    Bug(mixture, {"axis": 0}, "normalised over the points", ": logsumexp"),
    Bug(mixture, {"unweighted": True}, "without the weights", ": (log_softmax|add)"),
    Bug(mixture, {"power": 0.5}, "deviations for variances", "model: (exp|div)"),
    Bug(mixture, {"no_determinant": True}, "without the determinant", ": add"),
    Bug(mixture, {"old_means": True}, "variances about the old means", "training"),
    Bug(mixture, {"unbiased": True}, "variances over n - 1", "training", "S6"),
    Bug(mixture, {"no_floor": True}, "no floor under the variances", "training"),
    Bug(mixture, {"fixed_weights": True}, "weights never updated", "training"),
)
