"""Everything that a check may change in the two models and in what their trainings use, kept and put back."""

import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from copy import deepcopy
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import torch

DEPTH = 6  # objects that lead from a function to what it changes


def reached(*functions: Callable) -> Iterator[Any]:
    """What functions refer to, by closure, default, global name or as an object's method, and what that refers to."""
    waiting, seen = [(function, 0) for function in functions], set()
    while waiting:
        thing, depth = waiting.pop()
        if id(thing) not in seen and depth < DEPTH:
            seen.add(id(thing))
            yield thing
            waiting += [(part, depth + 1) for part in _parts(thing)]


def _parts(thing: Any) -> list[Any]:
    if isinstance(thing, FunctionType):
        cells = list(inspect.getclosurevars(thing).nonlocals.values())
        named = [thing.__globals__[name] for name in _names(thing.__code__) if name in thing.__globals__]
        return [*cells, *named, *(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values()]
    if isinstance(thing, MethodType):
        return [thing.__self__, thing.__func__]
    if isinstance(thing, partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    if hasattr(thing, "python_function"):  # of tf.function
        return [thing.python_function]
    if isinstance(thing, keras.Model):
        return [getattr(thing, "optimizer", None)]
    if isinstance(thing, list | tuple | dict) and len(thing) < 1000:
        return list(thing.values() if isinstance(thing, dict) else thing)
    foreign = type(thing).__module__.partition(".")[0] in ("torch", "keras", "tensorflow", "numpy", "builtins")
    return [] if foreign or isinstance(thing, type) else list(getattr(thing, "__dict__", {}).values())


def _names(code: CodeType) -> set[str]:
    return {*code.co_names, *(name for part in code.co_consts if isinstance(part, CodeType) for name in _names(part))}


def keep(model: Any, keras_model: Any, *steps: Callable) -> Callable[[], None]:
    """A function that puts back both models, what the steps use, and the generators of random numbers.

    Optimizers, schedules and generators are looked for in what the steps refer to.
    """
    stack = ExitStack()
    found = list(reached(*steps))
    for module in {id(m): m for m in (model, *found) if isinstance(m, torch.nn.Module)}.values():
        stack.callback(_module(module))
    for thing in found:
        if isinstance(thing, torch.optim.lr_scheduler.LRScheduler):
            stack.callback(thing.load_state_dict, deepcopy(thing.state_dict()))
        elif isinstance(thing, torch.optim.Optimizer):
            stack.callback(torch_optimizer(thing))
        elif isinstance(thing, torch.Generator):
            stack.callback(thing.set_state, thing.get_state())
        elif isinstance(thing, np.random.Generator):
            stack.callback(setattr, thing.bit_generator, "state", thing.bit_generator.state)
    variables = list(getattr(keras_model, "variables", []))  # those of seed generators too
    for thing in found:
        if isinstance(thing, keras.Model | keras.optimizers.Optimizer):
            variables += thing.variables
        elif isinstance(thing, keras.random.SeedGenerator):
            variables.append(thing.state)
    for variable in {id(v): v for v in variables}.values():
        stack.callback(variable.assign, variable.numpy())
    stack.callback(torch.set_rng_state, torch.get_rng_state())
    stack.callback(np.random.set_state, np.random.get_state())
    stack.callback(random.setstate, random.getstate())
    return stack.close


def _module(module: torch.nn.Module) -> Callable[[], None]:
    held = [(t, t.detach().clone(), t.grad) for t in (*module.parameters(), *module.buffers())]
    modes = [(part, part.training) for part in module.modules()]

    def restore() -> None:
        for tensor, value, gradient in held:
            tensor.data.copy_(value)
            tensor.grad = gradient
        for part, training in modes:
            part.training = training

    return restore


def torch_optimizer(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Keep an optimizer's state and settings, and go on in float64 with its parameters; the function puts them back."""
    groups = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    state = {parameter: dict(values) for parameter, values in optimizer.state.items()}
    for parameter, values in state.items():
        optimizer.state[parameter] = {
            name: value.to(parameter.dtype if value.is_floating_point() and value.ndim else value.dtype, copy=True)
            if isinstance(value, torch.Tensor)
            else value
            for name, value in values.items()
        }

    def restore() -> None:
        for group, values in zip(optimizer.param_groups, groups, strict=True):
            group.update(values)
        optimizer.state.clear()
        optimizer.state.update(state)

    return restore


def keras_optimizer(optimizer: Any, variables: list[Any]) -> Callable[[], None]:
    """Keep a Keras optimizer's state, and go on in the type of its variables; the function puts it back.

    One that was not built before is not built afterwards.
    """
    attributes, many = dict(vars(optimizer)), len(optimizer.variables)
    attributes["_trainable_variables_indices"] = dict(optimizer._trainable_variables_indices)
    held = [(v, v._value, v._dtype) for v in optimizer.variables]
    if not optimizer.built:
        optimizer.build(variables)
    rate = getattr(optimizer, "_learning_rate", None)
    for variable, value, dtype in held:
        if "float" in dtype and variable is not rate and all(v.dtype == "float64" for v in variables):
            variable._value, variable._dtype = tf.Variable(tf.cast(value, tf.float64), trainable=False), "float64"
    before = [(value, value.numpy()) for _, value, _ in held]

    def restore() -> None:
        while len(optimizer._variables) > many:
            optimizer._variables.pop()
        vars(optimizer).update(attributes)
        for name in vars(optimizer).keys() - attributes.keys():
            vars(optimizer).pop(name)
        for variable, value, dtype in held:
            variable._value, variable._dtype = value, dtype
        for value, array in before:
            value.assign(array)

    return restore
