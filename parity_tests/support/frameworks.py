"""The two frameworks side by side, for tests that run the same lines on both."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch

from common.parity import difference
from parity_tests.conftest import MODES, Parity

IMPLEMENTATIONS = ("pytorch_impl", "tf2_impl")


def pair(page: str) -> tuple[ModuleType, ModuleType]:
    """PyTorch's and TensorFlow's module of a page."""
    return tuple(importlib.import_module(f"{package}.{page}") for package in IMPLEMENTATIONS)


def both(page: str) -> pytest.MarkDecorator:
    """Run a test with either module of the page as its `module`."""
    return pytest.mark.parametrize("module", pair(page), ids=["torch", "tf2"])


def both_estimators(name: str) -> pytest.MarkDecorator:
    """Run a test with either class of this name as its `Mixture`."""
    classes = [getattr(module, name) for module in pair("estimators")]
    return pytest.mark.parametrize("Mixture", classes, ids=["torch", "tf2"])


def sibling(module: ModuleType, page: str) -> ModuleType:
    """Another page of the implementation that a module belongs to."""
    return importlib.import_module(f"{module.__name__.partition('.')[0]}.{page}")


def estimators(module: ModuleType) -> ModuleType:
    """The estimators of the implementation that a module belongs to."""
    return sibling(module, "estimators")


def is_torch(module: ModuleType) -> bool:
    """Whether a module is PyTorch's."""
    return module.__name__.startswith("pytorch_impl")


def tensor(module: ModuleType, value: Any, dtype: str | None = None) -> Any:
    """An array, number, list of numbers (in double precision) or named tuple of these as the framework's."""
    if isinstance(value, tuple):
        return type(value)(*(tensor(module, field, dtype) for field in value))
    array = np.asarray(value, dtype=dtype or (None if hasattr(value, "dtype") else "float64"))
    return torch.tensor(array) if is_torch(module) else tf.constant(array)


def tensors(module: ModuleType, *values: Any, dtype: str | None = None) -> list:
    """Each value as the framework's tensor."""
    return [tensor(module, value, dtype) for value in values]


def arrays(values: Any) -> list[np.ndarray]:
    """The tensors of nested tuples and lists, one after the other, as arrays."""
    if isinstance(values, tuple | list):
        return [array for value in values for array in arrays(value)]
    return [values.numpy(force=True) if isinstance(values, torch.Tensor) else np.asarray(values)]


def in_mode(module: ModuleType, function: Callable, mode: str) -> Callable:
    """The function as TensorFlow runs it in this mode; PyTorch has but one."""
    return function if is_torch(module) else MODES[mode](function)


def mixed(shape: Sequence[int]) -> np.ndarray:
    """Weights of either sign that tell the entries of a result apart; 1 for a scalar."""
    return np.cos(1.7 * np.arange(np.prod(shape, dtype=int))).reshape(shape)


def differentiate(
    module: ModuleType,
    function: Callable,
    values: Sequence[Any],
    mode: str = "eager",
    by: Sequence[int] | None = None,
    weigh: Callable[[Sequence[int]], Any] | None = None,
) -> tuple[Any, list]:
    """A function's value, one tensor or several, and the gradients of the weighted sum of all entries.

    `by` are the numbers of the arguments, all of them if not given.
    """
    by = range(len(values)) if by is None else by

    def parts(value: Any) -> Sequence:
        return value if isinstance(value, tuple) else (value,)

    def weights(part: Any) -> Any:
        return 1.0 if weigh is None else weigh(tuple(part.shape))

    if is_torch(module):
        inputs = [torch.tensor(v, requires_grad=i in by) for i, v in enumerate(map(np.asarray, values))]
        value = function(*inputs)
        total = sum((torch.tensor(weights(p), dtype=p.dtype) * p).sum() for p in parts(value))
        gradients = torch.autograd.grad(total, [inputs[i] for i in by]) if len(by) else []
        return torch.utils._pytree.tree_map(torch.Tensor.detach, value), list(gradients)

    def with_gradients(*inputs: tf.Tensor) -> tuple:
        with tf.GradientTape() as tape:
            sought = [inputs[i] for i in by]
            tape.watch(sought)
            value = function(*inputs)
            total = sum(tf.reduce_sum(tf.cast(weights(p), p.dtype) * p) for p in parts(value))
        return value, tape.gradient(total, sought)

    value, gradients = MODES[mode](with_gradients)(*map(tf.constant, map(np.asarray, values)))
    return value, list(gradients)


def check_function(
    parity: Parity,
    page: str,
    name: str,
    arguments: Mapping[str, Any],
    kinds: Sequence[str | None],
    mode: str,
    function: Callable | None = None,
    by: Sequence[str] | None = None,
    label: str = "",
    weigh: Callable | None = None,
    parts: Sequence[str] = (),
) -> None:
    """Hold a page's function, values and gradients, in PyTorch against that in TensorFlow.

    `kinds` are the tolerances of values and gradients, None where no gradient is sought;
    `function(module, *tensors)` is what is called if it is not the function of this name; `by` names the
    arguments of the gradients. Where each part of the value is a quantity of its own, `parts` has their names
    and `kinds` begins with their tolerances.
    """
    call = function or (lambda module, *tensors: getattr(module, name)(*tensors))
    names = [argument for argument in arguments if by is None or argument in by] if kinds[1] else []
    places = [list(arguments).index(argument) for argument in names]
    (ours, gradients), (theirs, tf_gradients) = (
        differentiate(module, lambda *t, m=module: call(m, *t), [*arguments.values()], mode, places, weigh)
        for module in pair(page)
    )
    several = isinstance(ours, tuple)
    for index, (a, b) in enumerate(zip(ours, theirs, strict=True) if several else [(ours, theirs)]):
        tensor = label if parts or not several else f"{label} {index}".strip()
        parity.check(parts[index] if parts else name, kinds[0][index] if parts else kinds[0], a, b, tensor, mode)
    for argument, a, b in zip(names, gradients, tf_gradients, strict=True):
        parity.check(f"{name} gradient", kinds[1], a, b, f"{label} {argument}".strip(), mode)


def check_iterations(
    parity: Parity,
    page: str,
    iterate: Callable,
    start: Sequence,
    steps: int,
    mode: str,
    label: str = "",
    quantities: tuple[str, str] = ("EM log likelihood", "EM parameters"),
    kinds: tuple[str, str] = ("em log likelihood", "em parameters"),
    names: Sequence[str] = ("weights", "means", "covariances"),
) -> list:
    """Hold many iterations against each other, each framework on its own parameters; gives both's parameters.

    `iterate(module, *parameters)` gives the next parameters and the objective. The worst iteration is
    entered. In single precision, where trajectories part by rounding alone, each iteration starts from
    PyTorch's parameters.
    """
    modules = pair(page)
    run = [in_mode(module, lambda *p, m=module: iterate(m, *p), mode) for module in modules]
    parameters, worst = [tensors(module, *start) for module in modules], {}
    for _ in range(steps):
        parameters, objectives = zip(*(step(*p) for step, p in zip(run, parameters, strict=True)), strict=True)
        for name, a, b in zip(
            ("", *names), *((o, *p) for o, p in zip(objectives, parameters, strict=True)), strict=True
        ):
            entry = difference(np.asarray(a), np.asarray(b)).nmax, a, b
            worst[name] = max(worst.get(name, entry), entry, key=lambda entry: entry[0])
        if start[0].dtype == np.float32:
            parameters = parameters[0], tensors(modules[1], *arrays(tuple(parameters[0])))
    for name, (_, a, b) in worst.items():
        parity.check(quantities[name != ""], kinds[name != ""], a, b, f"{label} {name}".strip(), mode, steps)
    return parameters
