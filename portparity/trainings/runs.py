"""Two trainings next to each other: gradients, settings and weights of every step, and the update that differs.

Both run eagerly, with dropout that keeps everything and shared random numbers. What the optimizers were given is
seen where PyTorch calls its hooks and where Keras calls `Optimizer.apply`.
"""

import inspect
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import keras
import numpy as np
import tensorflow as tf
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from portparity.records import tensorflow_record, torch_record
from portparity.records.tensorflow_functions import rounding, shared
from portparity.records.torch_functions import as_array
from portparity.records.torch_record import eagerly
from portparity.trainings.state import keras_optimizer, torch_optimizer


@dataclass
class Step:
    """What one update had and made, by parameter."""

    gradients: dict[str, np.ndarray] = field(default_factory=dict)  # as the loss gave them
    used: dict[str, np.ndarray] = field(default_factory=dict)  # as the optimizer got them
    by: dict[str, tuple[int, float, dict]] = field(default_factory=dict)  # the optimizer's number, rate and settings
    settings: dict[str, dict] = field(default_factory=dict)  # of the optimizer, for each parameter
    after: dict[str, np.ndarray] = field(default_factory=dict)
    rate: float | None = None
    kind: str = ""
    layers: set[str] = field(default_factory=set)  # that were called as in prediction though they train otherwise
    clip: tuple[str, float] | None = None
    read: dict[str, Any] = field(default_factory=dict)  # settings of Keras's optimizer


def _make(step: Callable, number: int) -> Any:
    takes = inspect.signature(step).parameters
    return step(number) if takes else step()


def run_original(model: Any, step: Callable, steps: int, wide: bool) -> list[Step]:
    """The original's training. Its optimizer's state is as before afterwards."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    course, held = [], {}  # held: how to put back each optimizer

    def before(optimizer: Any, *_: Any) -> None:
        if id(optimizer) not in held:
            held[id(optimizer)] = torch_optimizer(optimizer)
        now = course[-1]
        now.kind = type(optimizer).__name__
        for group in optimizer.param_groups:
            now.rate = float(group["lr"]) if now.rate is None else now.rate
            for parameter in group["params"]:
                if parameter in names and parameter.grad is not None:
                    now.used[names[parameter]] = as_array(parameter.grad)
                    now.settings[names[parameter]] = {k: v for k, v in group.items() if k != "params"}

    def raw(parameter: torch.Tensor) -> None:
        course[-1].gradients[names[parameter]] = as_array(parameter.grad)

    with eagerly(), ExitStack() as stack:
        hook = register_optimizer_step_pre_hook(before)
        stack.callback(hook.remove)
        for parameter in names:
            if parameter.requires_grad:
                stack.callback(parameter.register_post_accumulate_grad_hook(raw).remove)
        for name, kind in (("clip_grad_norm_", "torch"), ("clip_grad_value_", "value")):
            stack.enter_context(patch.object(torch.nn.utils, name, _clipping(course, name, kind)))
        default = torch.get_default_dtype()
        stack.callback(torch.set_default_dtype, default)
        torch.set_default_dtype(torch.float64 if wide else default)
        for number in range(1, steps + 1):
            course.append(Step())
            with torch_record.Recorder({}, {}, None, wide, keep=False):
                _make(step, number)
            course[-1].after = {n: as_array(t) for n, t in _tensors(model).items()}
    for restore in held.values():
        restore()
    return course


def _tensors(model: Any) -> dict[str, torch.Tensor]:
    found = dict(model.named_parameters()) | dict(model.named_buffers())
    return {name: tensor for name, tensor in found.items() if tensor.is_floating_point()}


def _clipping(course: list[Step], name: str, kind: str) -> Callable:
    function = getattr(torch.nn.utils, name)

    def clip(parameters: Any, most: float, *args: Any, **settings: Any) -> Any:
        course[-1].clip = kind, float(most)
        return function(parameters, most, *args, **settings)

    return clip


def run_port(model: Any, step: Callable, steps: int, wide: bool, rounds: bool = False) -> list[Step]:
    """The port's training, with the functions that TensorFlow compiles run as they were written.

    ``rounds``: optimizers take their settings through float32, as in the user's program.
    """
    variables = tensorflow_record.variables_of(model)
    names = {id(variable): path for path, variable in variables.items()}
    course, held = [], {}
    apply = keras.optimizers.Optimizer.apply

    def seen(optimizer: Any, grads: Any, trainable_variables: Any = None) -> Any:
        now = course[-1]
        given = trainable_variables if trainable_variables is not None else optimizer._trainable_variables
        if id(optimizer) not in held:
            held[id(optimizer)] = keras_optimizer(optimizer, list(given))
        for gradient, variable in zip(grads, given, strict=True):
            if gradient is not None and id(variable) in names:
                now.used[names[id(variable)]] = tf.convert_to_tensor(gradient).numpy()
        now.kind, now.rate, now.read = type(optimizer).__name__, float(optimizer.learning_rate), optimizer.get_config()
        number = 1 + max((number for number, *_ in now.by.values()), default=-1)
        now.by |= {path: (number, now.rate, now.read) for path in now.used if path not in now.by}
        with rounding() if rounds else nullcontext():
            return apply(optimizer, grads, trainable_variables)

    with ExitStack() as stack:
        stack.enter_context(patch.object(keras.optimizers.Optimizer, "apply", seen))
        stack.enter_context(patch.object(tf.GradientTape, "gradient", _taped(course, variables)))
        stack.enter_context(tensorflow_record.eagerly([]))
        for number in range(1, steps + 1):
            course.append(Step())
            with shared(wide):
                for kind in (keras.layers.Dropout, keras.layers.BatchNormalization):
                    stack.enter_context(patch.object(kind, "call", _mode_seen(kind, course[-1])))
                _make(step, number)
            course[-1].after = {path: variable.numpy() for path, variable in variables.items()}
    for restore in held.values():
        restore()
    return course


def _taped(course: list[Step], variables: dict[str, Any]) -> Callable:
    # gradients as the tape gave them, for a step that updates variables without an optimizer
    names = {tensorflow_record.handle(variable): path for path, variable in variables.items()}
    gradient = tf.GradientTape.gradient

    def seen(tape: Any, target: Any, sources: Any, *args: Any, **settings: Any) -> Any:
        found = gradient(tape, target, sources, *args, **settings)
        for source, slope in zip(tf.nest.flatten(sources), tf.nest.flatten(found), strict=True):
            path = names.get(tensorflow_record.handle(source)) if hasattr(source, "assign") else None
            if path is not None and slope is not None:
                course[-1].gradients[path] = tf.convert_to_tensor(slope).numpy()
        return found

    return seen


def _mode_seen(kind: type, now: Step) -> Callable:
    call = kind.call

    def seen(layer: Any, *args: Any, training: Any = None, **settings: Any) -> Any:
        if not training and (getattr(layer, "rate", 1) or 0) > 0:
            now.layers.add(layer.name)
        return call(layer, *args, training=training, **settings)

    return seen
