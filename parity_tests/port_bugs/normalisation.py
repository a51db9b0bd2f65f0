"""Normalisation: batch normalisation that trains, a residual block, and what surrounds them."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F
from torch import nn

from parity_tests.port_bugs.problem import (
    Bug,
    Generator,
    Problem,
    arrays,
    dense,
    function,
    kernel,
    normal,
    pair,
    updates,
)

cross_entropy = keras.losses.SparseCategoricalCrossentropy


class UnbiasedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer, whose running variance divides by n - 1 as PyTorch's does."""

    def call(self, x: tf.Tensor, training: bool | None = None, mask: Any = None) -> tf.Tensor:
        before = tf.identity(self.moving_variance.value)
        out = super().call(x, training=training, mask=mask)
        if training:
            n = tf.cast(tf.size(x) / x.shape[-1], x.dtype)
            new = self.moving_variance.value - self.momentum * before
            self.moving_variance.assign(self.momentum * before + new * n / (n - 1))
        return out


def copy_norm(layer: Any, module: nn.Module, order: tuple[int, ...] = (0, 1, 2, 3)) -> None:
    """Scale, shift, running mean and variance."""
    values = list(arrays(module).values())
    layer.set_weights([values[place] for place in order])


class Dense(nn.Module):
    """A small classifier with batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.norm, self.head = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.relu(self.norm(self.hidden(x))))


@pair
def batch_norm(
    generator: Generator,
    dtype: str,
    *,
    kind=UnbiasedBatchNormalization,
    epsilon=1e-5,
    momentum=0.9,
    order=(0, 1, 2, 3),
    late=False,
    stored=True,
) -> Problem:
    """Predicts with running averages, and trains."""
    model = Dense()
    x = keras.Input((4,))
    hidden, head = keras.layers.Dense(6), keras.layers.Dense(3)
    norm = kind(epsilon=epsilon, momentum=momentum)
    h = hidden(x)
    h = norm(keras.layers.ReLU()(h)) if late else keras.layers.ReLU()(norm(h))
    port = keras.Model(x, head(h))

    def copy(model: Dense, port: keras.Model) -> None:
        dense(hidden, model.hidden)
        copy_norm(norm, model.norm, order)
        if not stored:
            norm.set_weights([*norm.get_weights()[:2], np.zeros(6), np.ones(6)])
        dense(head, model.head)

    x, y = normal(generator, dtype, 12, 4), generator.integers(0, 3, 12)
    problem = Problem(model, port, x, y, F.cross_entropy, cross_entropy(from_logits=True, dtype=dtype), copy)
    sgd, port_sgd = torch.optim.SGD(model.parameters(), 0.125), keras.optimizers.SGD(0.125)
    problem.steps = updates(problem, lambda n: sgd.step(), lambda g, variables, n: port_sgd.apply(g, variables))
    return problem


class Residual(nn.Module):
    """Two convolutions beside a third."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.Conv2d(4, 4, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.shortcut, self.head = nn.Conv2d(3, 4, 1, 2), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm2(self.second(F.relu(self.norm1(self.first(x)))))
        return self.head(F.relu(h + self.shortcut(x)).mean((2, 3)))


@pair
def residual(
    generator: Generator,
    dtype: str,
    *,
    same=False,
    epsilon=1e-5,
    early=False,
    pooling=None,
    slope=0.0,
    twin=False,
    shift=0,
) -> Problem:
    """A residual block of stride 2 that predicts."""
    model = Residual().eval()
    x = keras.Input((8, 6, 3))
    first = keras.layers.Conv2D(4, 3, 2, padding="same" if same else "valid", use_bias=False)
    second = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)
    norms = [keras.layers.BatchNormalization(epsilon=epsilon, momentum=0.9) for _ in range(2)]
    shortcut, head = keras.layers.Conv2D(4, 1, 2), keras.layers.Dense(3)
    h = norms[0](first(x if same else keras.layers.ZeroPadding2D(1)(x)))
    h = norms[1](second(keras.layers.LeakyReLU(slope)(h) if slope else keras.layers.ReLU()(h)))
    aside = shortcut(function(lambda a: a[:, shift:, shift:])(x) if shift else x)
    relu, add = keras.layers.ReLU(), keras.layers.Add()
    h = add([relu(h), aside]) if early else relu(add([h, aside]))
    port = keras.Model(x, head((pooling or keras.layers.GlobalAveragePooling2D)()(h)))

    def copy(model: Residual, port: keras.Model) -> None:
        first.set_weights([kernel(model.first.weight)])
        second.set_weights([kernel(model.second.weight)])
        shortcut.set_weights([kernel(model.shortcut.weight), model.shortcut.bias.detach().numpy()])
        copy_norm(norms[0], model.norm1)
        copy_norm(norms[1], model.norm1 if twin else model.norm2)
        dense(head, model.head)

    x, y = normal(generator, dtype, 4, 3, 8, 6), generator.integers(0, 3, 4)
    return Problem(model, port, x, y, F.cross_entropy, cross_entropy(from_logits=True, dtype=dtype), copy)


KERAS = keras.layers.BatchNormalization
BUGS = (
    Bug(batch_norm, {"epsilon": 1e-3}, "Keras's epsilon of batch normalisation", "norm: batch_norm", "L6c"),
    Bug(batch_norm, {"order": (1, 0, 2, 3)}, "scale and shift exchanged", "norm: batch_norm"),
    Bug(batch_norm, {"order": (0, 1, 3, 2)}, "running mean and variance exchanged", "norm: batch_norm"),
    Bug(batch_norm, {"stored": False}, "running averages not copied", "norm: batch_norm"),
    Bug(batch_norm, {"late": True}, "normalised after the ReLU", "norm: batch_norm"),
    Bug(batch_norm, {"momentum": 0.1}, "PyTorch's momentum as it stands", "training", "L6"),
    Bug(batch_norm, {"momentum": 0.99}, "Keras's momentum", "training", "L6"),
    Bug(batch_norm, {"kind": KERAS}, "the running variance over n", "training", "L6b"),
    Bug(residual, {"same": True}, "SAME padding with stride 2", "first: conv2d", "L4"),
    Bug(residual, {"epsilon": 1e-3}, "Keras's epsilon of batch normalisation", "norm1: batch_norm", "L6c"),
    Bug(residual, {"early": True}, "ReLU before the sum", ": (add|relu)"),
    Bug(residual, {"pooling": keras.layers.GlobalMaxPooling2D}, "the maximum for the mean", ": mean"),
    Bug(residual, {"slope": 0.01}, "a leaky ReLU", ": relu"),
    Bug(residual, {"twin": True}, "the first norm's weights in the second too", "norm2: batch_norm"),
    Bug(residual, {"shift": 1}, "the shortcut one pixel aside", "shortcut: conv2d"),
)
