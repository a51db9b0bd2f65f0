"""What a pair and a bug are, and how a pair is built."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import torch

Generator = np.random.Generator
PAIRS: dict[str, Callable[..., "Problem"]] = {}
STEPS = 6  # of a training


@dataclass
class Problem:
    """What the porting tool is given: a model, its port, data, losses, a converter of weights, two trainings."""

    model: torch.nn.Module
    keras_model: keras.Model
    x: Any
    y: Any = None
    loss: Callable | None = None
    port_loss: Callable | None = None
    copy: Callable | None = None
    steps: tuple[Callable, Callable] | None = None  # an update of the model, one of its port


class Bug(NamedTuple):
    """A port's mistake: the pair, its wrong settings, what it is, where it is first seen, and its catalogue row.

    ``where`` is a regular expression for "module: operation" of PyTorch's side, for a parameter whose gradient
    differs, or "training|moving average".
    """

    pair: Callable[..., Problem]
    wrong: dict[str, Any]
    what: str
    where: str
    row: str = ""


def pair(function: Callable[..., Problem]) -> Callable[..., Problem]:
    """Enter a pair, under its function's name."""
    PAIRS[function.__name__] = function
    return function


@contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Models that are made here are of this dtype, in both frameworks."""
    before = torch.get_default_dtype(), keras.config.floatx(), keras.config.dtype_policy()
    torch.set_default_dtype(getattr(torch, dtype))
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before[0])
        keras.config.set_floatx(before[1])
        keras.config.set_dtype_policy(before[2])


def build(function: Callable[..., Problem], seed: int = 0, dtype: str = "float64", **wrong: Any) -> Problem:
    """The pair with fresh weights, every parameter and buffer moved away from zeros and ones."""
    with precision(dtype):
        torch.manual_seed(seed)
        keras.utils.set_random_seed(seed)
        problem = function(np.random.default_rng(seed), dtype, **wrong)
        for name, tensor in problem.model.state_dict().items():
            if tensor.is_floating_point():
                change = 0.2 * torch.randn_like(tensor)
                tensor += change.abs() if "var" in name else change
    return problem


def arrays(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """The parameters and buffers of a module, by name."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in module.state_dict().items()}


def turned(value: Any) -> Any:
    """Images as Keras has them."""
    if isinstance(value, tuple | list):
        return [turned(part) for part in value]
    return np.moveaxis(value, 1, -1) if value.ndim == 4 else value


def normal(generator: Generator, dtype: str, *shape: int) -> np.ndarray:
    """Normal numbers of this shape and dtype."""
    return generator.standard_normal(shape).astype(dtype)


def dense(layer: keras.layers.Layer, module: torch.nn.Linear, transpose: bool = True) -> None:
    """Copy a linear layer."""
    weight, *bias = (p.detach().numpy() for p in module.parameters())
    layer.set_weights([weight.T if transpose else weight, *bias])


def kernel(weight: torch.Tensor, axes: tuple[int, ...] = (2, 3, 1, 0)) -> np.ndarray:
    """A convolution's kernel in Keras's order of axes."""
    return weight.detach().numpy().transpose(axes)


def function(call: Callable, **settings: Any) -> keras.layers.Lambda:
    """A layer without weights."""
    return keras.layers.Lambda(call, **settings)


def updates(
    problem: Problem, step: Callable, port_step: Callable, prepare: Callable[[list], list] = lambda g: g
) -> tuple[Callable, Callable]:
    """Both updates: gradients of the losses, then ``step()`` and ``port_step(gradients, number)``."""
    model, port, x = problem.model, problem.keras_model, problem.x

    def update(number: int) -> None:
        model.zero_grad()
        dtype = next(model.parameters()).dtype
        inputs = torch.tensor(x)
        output = model(inputs.to(dtype) if inputs.is_floating_point() else inputs)
        target = torch.tensor(problem.y)
        problem.loss(output, target.to(dtype) if target.is_floating_point() else target).backward()
        step(number)

    def port_update(number: int) -> None:
        with tf.GradientTape() as tape:
            loss = problem.port_loss(turned(problem.y), port(turned(x), training=True))
        gradients = tape.gradient(loss, [v.value for v in port.trainable_variables])
        port_step([tf.convert_to_tensor(g) for g in gradients], port.trainable_variables, number)

    return update, port_update
