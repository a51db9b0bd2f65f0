"""Trainings: Adam, AdamW with clipped gradients, SGD with a schedule, RMSprop, a warm-up."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F
from torch import nn

from parity_tests.port_bugs.problem import Bug, Generator, Problem, dense, normal, pair, updates

RATE = 0.125  # exact in float32, in which Keras keeps it
STEPS = 6


def regression(generator: Generator, dtype: str, size: float = 1.0, penalty: float = 0.0) -> Problem:
    """Two dense layers and a squared error; ``size`` is that of the gradients."""
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    decay = keras.regularizers.L2(penalty) if penalty else None
    layers = [keras.layers.Dense(5, "tanh", kernel_regularizer=decay), keras.layers.Dense(2)]
    port = keras.Sequential([keras.Input((4,)), *layers])

    def copy(model: nn.Module, port: keras.Model) -> None:
        dense(port.layers[0], model[0])
        dense(port.layers[1], model[2])

    def port_loss(y: Any, output: tf.Tensor) -> tf.Tensor:
        penalties = sum(port.losses) if penalty else 0.0
        return size * tf.reduce_mean(tf.square(tf.cast(y, output.dtype) - output)) + penalties

    data = normal(generator, dtype, 8, 4), normal(generator, dtype, 8, 2)
    return Problem(model, port, *data, lambda output, y: size * F.mse_loss(output, y), port_loss, copy)


def exact(adam: keras.optimizers.Adam) -> keras.optimizers.Adam:
    """Betas and decay in float64, which Keras passes through float32."""
    adam.beta_1, adam.beta_2 = tf.constant(adam.beta_1, tf.float64), tf.constant(adam.beta_2, tf.float64)
    if adam.weight_decay:
        adam.weight_decay = tf.constant(adam.weight_decay, tf.float64)
    return adam


@pair
def adam(
    generator: Generator,
    dtype: str,
    *,
    kind=keras.optimizers.Adam,
    epsilon=None,
    betas="double",
    rate=RATE,
    beta_2=0.999,
    amsgrad=False,
    accumulated=False,
) -> Problem:
    """Keras's Adam told to be PyTorch's: epsilon behind the bias correction at every step. Gradients are small."""
    problem = regression(generator, dtype, size=1e-6)
    ours, port = torch.optim.Adam(problem.model.parameters(), RATE), kind(rate, 0.9, beta_2, amsgrad=amsgrad)
    port = exact(port) if betas == "double" else port
    sums: list[Any] = []

    def port_step(gradients: list, variables: list, number: int) -> None:
        if number in (0, 1) and not port.built:
            sums.clear()
        if accumulated:
            sums[:] = [a + g for a, g in zip(sums or [0.0] * len(gradients), gradients, strict=True)]
        if epsilon is None:
            port.epsilon = 1e-8 * (1 - 0.999 ** (int(port.iterations) + 1)) ** 0.5
        else:
            port.epsilon = epsilon
        port.apply(sums if accumulated else gradients, variables)

    problem.steps = updates(problem, lambda number: ours.step(), port_step)
    return problem


def clipped(gradients: Sequence[tf.Tensor], how: str) -> list[tf.Tensor]:
    """Gradients whose norm is at most 0.5, by PyTorch's formula or by another."""
    norm = tf.linalg.global_norm(gradients)
    if how == "each":
        return [tf.clip_by_norm(g, 0.5) for g in gradients]
    if how == "exact":
        return tf.clip_by_global_norm(gradients, 0.5)[0]
    if how == "entries":
        return [tf.clip_by_value(g, -0.5, 0.5) for g in gradients]
    factor = tf.ones_like(norm) if how == "none" else tf.minimum(0.5 / (norm + 1e-6), tf.ones_like(norm))
    return [g * factor for g in gradients]


@pair
def adamw(
    generator: Generator, dtype: str, *, decay=0.125, clip="torch", without="", kind=keras.optimizers.AdamW
) -> Problem:
    """Decoupled decay; gradients clipped by the norm of all."""
    problem = regression(generator, dtype)
    ours = torch.optim.AdamW(problem.model.parameters(), RATE, weight_decay=0.125)
    port = exact(kind(RATE, **({} if decay is None else {"weight_decay": decay})))
    if without:
        port.exclude_from_weight_decay(var_names=[without])

    def step(number: int) -> None:
        nn.utils.clip_grad_norm_(problem.model.parameters(), 0.5)
        ours.step()

    def port_step(gradients: list, variables: list, number: int) -> None:
        port.epsilon = 1e-8 * (1 - 0.999 ** (int(port.iterations) + 1)) ** 0.5
        port.apply(clipped(gradients, clip), variables)

    problem.steps = updates(problem, step, port_step)
    return problem


@pair
def sgd(
    generator: Generator,
    dtype: str,
    *,
    decay="coupled",
    momentum=0.5,
    nesterov=False,
    late=0,
    rescaled=True,
    penalty=0.0,
    keep=False,
) -> Problem:
    """PyTorch's decay is in the gradient, and its rate outside the velocity: it falls to an eighth after 3 steps."""
    problem = regression(generator, dtype, penalty=penalty)
    ours = torch.optim.SGD(problem.model.parameters(), RATE, momentum=0.5, weight_decay=0.125)
    schedule = torch.optim.lr_scheduler.StepLR(ours, 3, 1 / 8)
    settings = {"weight_decay": 0.125} if decay == "decoupled" else {}
    port = keras.optimizers.SGD(RATE, momentum=momentum, nesterov=nesterov, **settings)

    def step(number: int) -> None:
        ours.step()
        schedule.step()

    def port_step(gradients: list, variables: list, number: int) -> None:
        if int(port.iterations) == 3 + late and not keep:
            port.learning_rate = RATE / 8
            for velocity in port.momentums if rescaled else ():
                velocity.assign(velocity.value / 8)
        if decay == "coupled" and not penalty:
            gradients = [g + 0.125 * v.value for g, v in zip(gradients, variables, strict=True)]
        port.apply(gradients, variables)

    problem.steps = updates(problem, step, port_step)
    return problem


class RMSprop(keras.optimizers.RMSprop):
    """Keras's, with epsilon outside the root."""

    def update_step(self, gradient: tf.Tensor, variable: Any, learning_rate: Any) -> None:
        average = self._velocities[self._get_variable_index(variable)]
        average.assign(0.99 * average.value + (1 - 0.99) * tf.square(gradient))
        variable.assign_sub(tf.cast(learning_rate, gradient.dtype) * gradient / (tf.sqrt(average.value) + 1e-8))


@pair
def rmsprop(generator: Generator, dtype: str, *, kind=RMSprop, **settings: Any) -> Problem:
    """Epsilon outside the root."""
    problem = regression(generator, dtype, size=1e-5)
    ours = torch.optim.RMSprop(problem.model.parameters(), 2**-7, alpha=0.99, eps=1e-8)
    port = kind(**({"learning_rate": 2**-7, "rho": 0.99, "epsilon": 1e-8} | settings))
    problem.steps = updates(problem, lambda n: ours.step(), lambda g, variables, n: port.apply(g, variables))
    return problem


def rates(number: int, warm: int = 2) -> float:
    """Rises linearly over two steps, then falls as a cosine over four."""
    share = (number + 1) / warm if number < warm else 0.5 * (1 + np.cos(np.pi * (number - warm) / 4))
    return float(RATE * share)


@pair
def warmup(generator: Generator, dtype: str, *, offset=0, schedule=rates, single=False) -> Problem:
    """Rates from a table, in both."""
    problem = regression(generator, dtype)
    ours = torch.optim.SGD(problem.model.parameters(), RATE)
    lambdas = torch.optim.lr_scheduler.LambdaLR(ours, lambda number: rates(number) / RATE)

    def step(number: int) -> None:
        ours.step()
        lambdas.step()

    count = [0]

    def port_step(gradients: list, variables: list, number: int) -> None:
        rate = schedule(count[0] + offset)
        rate = float(np.float32(rate)) if single else rate
        count[0] += 1
        for variable, gradient in zip(variables, gradients, strict=True):
            variable.assign(variable.value - rate * gradient)

    problem.steps = updates(problem, step, port_step)
    return problem


TRAINING = "training"
BUGS = (
    Bug(adam, {"epsilon": 1e-7}, "Keras's epsilon, in Keras's place", TRAINING, "O1"),
    Bug(adam, {"epsilon": 1e-8}, "PyTorch's epsilon in Keras's place", TRAINING, "O1b"),
    Bug(adam, {"betas": "float32"}, "betas in float32", TRAINING, "O2"),
    Bug(adam, {"rate": 1e-3}, "the rate at its default", TRAINING),
    Bug(adam, {"beta_2": 0.99}, "another beta", TRAINING),
    Bug(adam, {"amsgrad": True}, "AMSGrad", TRAINING, "O4"),
    Bug(adam, {"accumulated": True}, "gradients of all steps added up", TRAINING, "R10"),
    Bug(adamw, {"decay": None}, "Keras's weight decay", TRAINING, "O5b"),
    Bug(adamw, {"kind": keras.optimizers.Adam, "decay": None}, "no weight decay", TRAINING, "O5"),
    Bug(adamw, {"without": "bias"}, "biases left out of the decay", TRAINING),
    Bug(adamw, {"clip": "each"}, "each tensor clipped by its own norm", TRAINING, "O8b"),
    Bug(adamw, {"clip": "exact"}, "clipped to the norm exactly", TRAINING, "O8"),
    Bug(adamw, {"clip": "entries"}, "entries clipped, not the norm", TRAINING, "O16"),
    Bug(adamw, {"clip": "none"}, "not clipped", TRAINING),
    Bug(sgd, {"decay": "decoupled"}, "the weights decayed, not the gradient", TRAINING, "O14"),
    Bug(sgd, {"decay": "none"}, "no weight decay", TRAINING),
    Bug(
        sgd,
        {"decay": "none", "penalty": 0.125},
        "an L2 penalty of the decay's strength, on one kernel",
        "training|loss: (mse_loss|mul)",
        "O11",
    ),
    Bug(sgd, {"nesterov": True}, "Nesterov's momentum", TRAINING),
    Bug(sgd, {"momentum": 0.9}, "another momentum", TRAINING),
    Bug(sgd, {"late": 1}, "the rate falls a step late", TRAINING, "O15"),
    Bug(sgd, {"late": -1}, "the rate falls a step early", TRAINING, "O15"),
    Bug(sgd, {"rescaled": False}, "the velocity keeps the old rate", TRAINING, "O6"),
    Bug(sgd, {"keep": True}, "the rate never falls", TRAINING),
    Bug(rmsprop, {"kind": keras.optimizers.RMSprop}, "epsilon inside the root", TRAINING, "O7"),
    Bug(rmsprop, {"kind": keras.optimizers.RMSprop, "rho": 0.9}, "Keras's rho", TRAINING, "O7"),
    Bug(warmup, {"offset": 1}, "the schedule stepped before the update", TRAINING, "O15"),
    Bug(warmup, {"offset": -1}, "the schedule a step behind", TRAINING, "O15"),
    Bug(warmup, {"single": True}, "rates in float32", TRAINING, "O9b"),
    Bug(warmup, {"schedule": lambda n: RATE}, "no schedule", TRAINING),
    Bug(warmup, {"schedule": lambda n: rates(n, 3)}, "a longer warm-up", TRAINING),
)
