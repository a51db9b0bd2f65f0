"""Losses: classes with weights, labels, a robust regression, distillation, a Gaussian's variance."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F
from torch import nn

from parity_tests.port_bugs.problem import Bug, Generator, Problem, dense, normal, pair

WEIGHTS = np.array([0.5, 1.0, 2.0, 4.0])


def with_loss(generator: Generator, dtype: str, y: np.ndarray, loss: Callable, port_loss: Callable) -> Problem:
    """Two dense layers and a loss."""
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4))
    port = keras.Sequential([keras.Input((5,)), keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(4)])

    def copy(model: nn.Module, port: keras.Model) -> None:
        dense(port.layers[0], model[0])
        dense(port.layers[1], model[2])

    return Problem(model, port, normal(generator, dtype, len(y), 5), y, loss, port_loss, copy)


@pair
def classes(
    generator: Generator,
    dtype: str,
    *,
    weighted=True,
    over="weights",
    smoothing=0.1,
    ignored=True,
    logits=True,
    total=False,
) -> Problem:
    """Weighted classes, smoothed, of which -100 is left out; the mean is over the weights."""

    def loss(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        weights = torch.tensor(WEIGHTS, dtype=output.dtype)
        return F.cross_entropy(output, y, weight=weights, label_smoothing=0.1)

    def port_loss(y: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
        weights = tf.constant(WEIGHTS if weighted else np.ones(4), output.dtype)
        kept = tf.cast(y >= 0, output.dtype) if ignored else tf.ones(y.shape, output.dtype)
        y = tf.maximum(y, 0)
        logs = tf.nn.log_softmax(output) if logits else tf.math.log(tf.clip_by_value(output, 1e-7, 1.0))
        sure = -weights * logs * tf.one_hot(y, 4, dtype=output.dtype)
        each = (1 - smoothing) * tf.reduce_sum(sure, 1) - smoothing * tf.reduce_sum(weights * logs, 1) / 4
        each = each * kept
        mass = tf.reduce_sum(tf.gather(weights, y) * kept) if over == "weights" else tf.reduce_sum(kept)
        return tf.reduce_sum(each) / (1 if total else mass)

    y = generator.integers(0, 4, 9)
    y[[2, 5]] = -100
    return with_loss(generator, dtype, y, loss, port_loss)


@pair
def labels(generator: Generator, dtype: str, *, port="weighted") -> Problem:
    """Several labels for each point, present ones counted three times."""

    def loss(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(output, y, pos_weight=torch.tensor(3.0, dtype=output.dtype))

    def port_loss(y: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
        y = tf.cast(y, output.dtype)
        if port == "exchanged":
            y, output = output, y
        each = tf.nn.weighted_cross_entropy_with_logits(y, output, 1.0 if port == "unweighted" else 3.0)
        if port == "summed":
            return tf.reduce_mean(tf.reduce_sum(each, 1))
        return tf.reduce_mean(each) if port != "divided" else tf.reduce_sum(each) / tf.reduce_sum(1 + 2 * y)

    return with_loss(generator, dtype, generator.integers(0, 2, (7, 4)).astype(dtype), loss, port_loss)


@pair
def robust(generator: Generator, dtype: str, *, delta=0.5, divide=True, kind="") -> Problem:
    """Keras's Huber loss is delta times PyTorch's smooth L1."""
    huber = keras.losses.Huber(delta=delta, dtype=dtype, reduction="sum_over_batch_size")

    def port_loss(y: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
        if kind:
            return getattr(keras.losses, kind)(dtype=dtype)(y, output)
        return huber(y, output) / (0.5 if divide else 1.0)

    y = 3 * normal(generator, dtype, 7, 4)
    return with_loss(generator, dtype, y, lambda output, y: F.smooth_l1_loss(output, y, beta=0.5), port_loss)


@pair
def distillation(
    generator: Generator, dtype: str, *, over="batch", exchanged=False, squared=True, temperature=2.0
) -> Problem:
    """KL(teacher || student) at temperature 2, over the batch."""

    def loss(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return 4 * F.kl_div(F.log_softmax(output / 2, 1), F.softmax(y / 2, 1), reduction="batchmean")

    def port_loss(y: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
        p, q = tf.nn.log_softmax(y / temperature), tf.nn.log_softmax(output / temperature)
        p, q = (q, p) if exchanged else (p, q)
        each = tf.exp(p) * (p - q)
        return (4.0 if squared else 1.0) * tf.reduce_mean(tf.reduce_sum(each, 1) if over == "batch" else each)

    return with_loss(generator, dtype, normal(generator, dtype, 7, 4), loss, port_loss)


@pair
def gaussian(generator: Generator, dtype: str, *, port="density") -> Problem:
    """Two means and two log variances."""

    def loss(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        mean, log_var = output.chunk(2, 1)
        return F.gaussian_nll_loss(mean, y, log_var.exp(), full=True)

    def port_loss(y: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
        y = tf.cast(y, output.dtype)
        mean, log_var = tf.split(output, 2, 1)
        mean, log_var = (log_var, mean) if port == "exchanged" else (mean, log_var)
        variance = tf.exp(2 * log_var if port == "deviation" else log_var)
        constant = 0.0 if port == "no constant" else float(np.log(2 * np.pi))
        each = 0.5 * (tf.math.log(variance) + tf.square(y - mean) / variance + tf.constant(constant, output.dtype))
        return tf.reduce_mean(tf.reduce_sum(each, 1) if port == "summed" else each)

    return with_loss(generator, dtype, normal(generator, dtype, 7, 2), loss, port_loss)


ENTROPY, LABELS, ROBUST = ": cross_entropy", ": binary_cross_entropy_with_logits", ": smooth_l1_loss"
BUGS = (
    Bug(classes, {"logits": False}, "logits taken for probabilities", ENTROPY, "S2c"),
    Bug(classes, {"over": "batch"}, "the mean over the batch, not over the weights", ENTROPY, "S8"),
    Bug(classes, {"total": True}, "the sum for the mean", ENTROPY, "S3"),
    Bug(classes, {"weighted": False}, "classes not weighted", ENTROPY, "S8"),
    Bug(classes, {"smoothing": 0.0}, "labels not smoothed", ENTROPY),
    Bug(classes, {"ignored": False}, "rows that are left out counted as class 0", ENTROPY),
    Bug(labels, {"port": "exchanged"}, "target and prediction exchanged", LABELS, "S2e"),
    Bug(labels, {"port": "unweighted"}, "present labels not weighted", LABELS),
    Bug(labels, {"port": "summed"}, "the sum over labels", LABELS, "S3"),
    Bug(labels, {"port": "divided"}, "the mean over the weights", LABELS, "S8"),
    Bug(robust, {"divide": False}, "Huber for smooth L1", ROBUST),
    Bug(robust, {"delta": 1.0}, "delta at its default", ROBUST),
    Bug(robust, {"kind": "MeanSquaredError"}, "the squared error", ROBUST),
    Bug(robust, {"kind": "MeanAbsoluteError"}, "the absolute error", ROBUST),
    Bug(distillation, {"over": "entries"}, "the mean over entries", ": kl_div", "S4"),
    Bug(distillation, {"exchanged": True}, "KL(student || teacher)", ": kl_div", "S4"),
    Bug(distillation, {"squared": False}, "without the temperature's square", ": (mul|kl_div)"),
    Bug(distillation, {"temperature": 1.0}, "no temperature", ": (div|log_softmax)"),
    Bug(gaussian, {"port": "no constant"}, "without log 2 pi", "loss: add", "S5"),
    Bug(gaussian, {"port": "deviation"}, "the log deviation for the log variance", ": exp"),
    Bug(gaussian, {"port": "exchanged"}, "mean and log variance exchanged", ": (exp|chunk)"),
    Bug(gaussian, {"port": "summed"}, "the sum over features", "loss: mean", "S3"),
)
