"""Record a PyTorch model: every call of a function, in order, with its arguments, its result and its gradient.

No hooks on modules and no tracing: a `TorchFunctionMode` sees each call as Python makes it. An operation may be
run again with other arguments, or in another way (``edits``), and every number may be moved by a last bit.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode, resolve_name

from portparity.records.recording import Operation, Recording, Value, noise
from portparity.records.torch_functions import COMPOSITES, DROPOUTS, NORMALS, UNIFORMS, as_array, kept_whole, tensors

Edit = tuple[str, Callable[..., Any]]  # the operation's name, and (function, args, kwargs) to its result


class Recorder(TorchFunctionMode):
    """The mode: what it has seen is in ``recording``, the calls themselves in ``calls``."""

    def __init__(
        self, names: dict[int, str], edits: dict[int, Edit], seed: int | None, wide: bool, keep: bool = True
    ) -> None:
        super().__init__()
        self.keeps = keep  # False: numbers are shared and widened, but nothing is written down
        self.recording, self.calls, self.where = Recording("PyTorch"), [], []
        self.names, self.edits, self.seed, self.wide = names, edits, seed, wide
        self.numbers: dict[int, int] = {}  # id of a tensor: number of its value
        self.kept: list[torch.Tensor] = []  # so that no id is used twice
        self.draws = 0

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if function in COMPOSITES:
            with self:
                return COMPOSITES[function](*args, **kwargs)
        if self.wide:
            args, kwargs = _widened(function, args, kwargs)
        if not self.keeps:
            result = self.drawn(function, args, kwargs)
            return _call(function, args, kwargs) if result is None else result
        number = len(self.recording.operations)
        before = [self.number(tensor) for tensor in tensors((args, kwargs))] if self.makes(function) else []
        name, edit = self.edits.get(number, ("", None))
        if edit is not None and name == _name(function):  # reading a shape is not the operation that follows
            result = edit(function, args, kwargs, self)
        else:
            result = self.drawn(function, args, kwargs)
            result = _call(function, args, kwargs) if result is None else result
        made = [t for t in tensors(result) if not _seen_unchanged(t, self.numbers, function)]
        if not made or not self.makes(function):
            return result
        if self.seed is not None and isinstance(result, torch.Tensor) and result.is_floating_point():
            result = self.moved(result) if all(result is not t for t in tensors((args, kwargs))) else result
            made = [result]
        self.calls.append((function, args, kwargs))
        outputs = [self.enter(tensor, number) for tensor in made]
        operation = Operation(_name(function), self.where[-1] if self.where else "", before, outputs)
        operation.settings = _settings(args, kwargs)
        self.recording.operations.append(operation)
        return result

    @staticmethod
    def makes(function: Callable) -> bool:
        """Whether a call computes something: reading an attribute does not."""
        name = getattr(function, "__name__", "")
        return name not in ("__get__", "__set__") or "grad" not in (resolve_name(function) or "")

    def number(self, tensor: torch.Tensor) -> int:
        """The value that a tensor is, entered if it is new."""
        if id(tensor) not in self.numbers:
            self.enter(tensor, -1)
        return self.numbers[id(tensor)]

    def enter(self, tensor: torch.Tensor, source: int) -> int:
        """A new value, whose gradient a hook writes down."""
        number = self.numbers[id(tensor)] = len(self.recording.values)
        value = Value(as_array(tensor), source=source, name=self.names.get(id(tensor), "") if source < 0 else "")
        self.recording.values.append(value)
        self.kept.append(tensor)
        if tensor.requires_grad:
            tensor.register_hook(lambda gradient: self.keep(value, gradient))
        return number

    def keep(self, value: Value, gradient: torch.Tensor) -> torch.Tensor | None:
        """Write a gradient down; moved by a last bit if everything is."""
        value.gradient = as_array(gradient)
        return None if self.seed is None else _last_bit(gradient, self.seed + len(value.gradient.shape))

    def moved(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor, each entry moved by a last bit, without a change of its gradient."""
        return tensor + (_last_bit(tensor, self.seed + len(self.kept)) - tensor).detach()

    def drawn(self, function: Callable, args: tuple, kwargs: dict) -> Any:
        """Dropout that keeps everything, scaled, and normal numbers that both frameworks share; None otherwise."""
        if function in DROPOUTS:
            p = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
            default = function is not torch.dropout and function is not torch.nn.functional.dropout
            training = args[2] if len(args) > 2 else kwargs.get("training", kwargs.get("train", not default))
            return kept_whole(args[0], p) if training and p < 1 else args[0] * 1
        if function in NORMALS | UNIFORMS:
            like = _call(function, args, {**kwargs, "requires_grad": False} if function is torch.randn else kwargs)
            numbers = noise("normal" if function in NORMALS else "uniform", self.draws, like.numel())
            self.draws += 1
            return like.copy_(torch.tensor(numbers).reshape(like.shape))
        return None


def _call(function: Callable, args: tuple, kwargs: dict) -> Any:
    return function(*args, **kwargs)


def _seen_unchanged(tensor: torch.Tensor, numbers: dict[int, int], function: Callable) -> bool:
    # an argument that is handed back is not a new value, unless it was changed in place
    name = getattr(function, "__name__", "")
    return id(tensor) in numbers and not (name.endswith("_") or name in ("relu", "leaky_relu", "dropout"))


def _last_bit(tensor: torch.Tensor, seed: int) -> torch.Tensor:
    up = np.random.default_rng(seed).random(tuple(tensor.shape)) < 0.5
    infinity = torch.where(torch.tensor(up), math.inf, -math.inf).to(tensor)
    tensor = tensor.detach()
    return torch.where(torch.isfinite(tensor), torch.nextafter(tensor, infinity), tensor)


def _name(function: Callable) -> str:
    name = getattr(function, "__name__", str(function))
    return resolve_name(function).split(".")[-2] if name == "__get__" else name.strip("_")


def _settings(args: tuple, kwargs: dict) -> dict[str, str]:
    plain = {str(i): value for i, value in enumerate(args)} | kwargs
    return {
        name: str(value)
        for name, value in plain.items()
        if isinstance(value, int | float | str | tuple | list) and not list(tensors(value))
    }


def _widened(function: Callable, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    # float32 beside float64, as a program writes that was never run in float64
    floats = {t.dtype for t in tensors((args, kwargs)) if t.is_floating_point()}
    if floats != {torch.float32, torch.float64}:
        return args, kwargs

    def widen(item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            return item.double() if item.dtype == torch.float32 else item
        if isinstance(item, list | tuple) and type(item) in (list, tuple):
            return type(item)(map(widen, item))
        return item

    return tuple(map(widen, args)), {name: widen(value) for name, value in kwargs.items()}


@contextmanager
def _paths(recorder: Recorder, model: Any) -> Iterator[None]:
    # keeps the module that is running on a stack
    names = {id(module): name for name, module in model.named_modules()} if isinstance(model, torch.nn.Module) else {}

    def enter(module: torch.nn.Module, args: Any) -> None:
        recorder.where.append(names.get(id(module), recorder.where[-1] if recorder.where else type(module).__name__))

    def leave(module: torch.nn.Module, args: Any, result: Any) -> None:
        recorder.where.pop()

    hooks = torch.nn.modules.module
    with ExitStack() as stack:
        stack.callback(hooks.register_module_forward_pre_hook(enter).remove)
        stack.callback(hooks.register_module_forward_hook(leave, always_call=True).remove)
        yield


def as_inputs(x: Any, wide: bool) -> Any:
    """Arrays as tensors, in float64 if ``wide``; float inputs have gradients."""
    if isinstance(x, dict):
        return {name: as_inputs(value, wide) for name, value in x.items()}
    if isinstance(x, list | tuple):
        return tuple(as_inputs(value, wide) for value in x)
    array = np.asarray(x)
    if array.dtype.kind == "f":
        return torch.tensor(array, dtype=torch.float64 if wide else torch.get_default_dtype()).requires_grad_()
    return torch.tensor(array.astype(np.int64) if array.dtype.kind in "iu" else array)


def record(
    model: Any,
    x: Any,
    y: Any = None,
    loss: Callable | None = None,
    *,
    edits: dict[int, Edit] | None = None,
    seed: int | None = None,
    training: bool = False,
    wide: bool = True,
) -> tuple[Recording, Recorder]:
    """Run the model, its loss and the backward pass; the recording, and the calls for a replay.

    ``loss(output, y)`` is a scalar, the sum of sin(output) if None. ``edits`` replaces operations by number,
    ``seed`` moves every number by a last bit. The model's buffers are as before afterwards.
    """
    named = dict(model.named_parameters()) | dict(model.named_buffers()) if isinstance(model, torch.nn.Module) else {}
    before = {name: tensor.detach().clone() for name, tensor in named.items()}
    inputs = as_inputs(x, wide)
    flat = list(tensors(inputs))
    target = None if y is None else as_inputs(y, wide)
    names = {id(tensor): name for name, tensor in named.items()}
    names |= {id(tensor): f"input {number}" for number, tensor in enumerate(flat)}
    names |= {id(tensor): "target" for tensor in tensors(target)}
    recorder = Recorder(names, edits or {}, seed, wide)
    default = torch.get_default_dtype()
    modes = {module: module.training for module in model.modules()} if named else {}
    try:
        if isinstance(model, torch.nn.Module):
            model.train(training)
        torch.set_default_dtype(torch.float64 if wide else default)
        if seed is not None:
            _move_leaves([*named.values(), *flat], seed)
        with torch.enable_grad(), _paths(recorder, model), recorder:
            output = (
                model(**inputs)
                if isinstance(inputs, dict)
                else model(*inputs)
                if isinstance(x, list | tuple)
                else model(inputs)
            )
            recorder.where.append("loss")
            total = _loss(output, target, loss)
        _finish(recorder, output, total, named, flat)
        recorder.recording.after = {name: as_array(tensor) for name, tensor in named.items()}
    finally:
        torch.set_default_dtype(default)
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for name, tensor in named.items():
                tensor.data.copy_(before[name])
    return recorder.recording, recorder


def _loss(output: Any, target: Any, loss: Callable | None) -> torch.Tensor:
    if loss is not None:
        return loss(output) if target is None else loss(output, target)
    return sum(torch.sin(tensor).sum() for tensor in tensors(output) if tensor.is_floating_point())


def _move_leaves(leaves: list[torch.Tensor], seed: int) -> None:
    with torch.no_grad():
        for number, tensor in enumerate(leaves):
            if tensor.is_floating_point():
                tensor.data.copy_(_last_bit(tensor, seed + 7 * number))


def _finish(recorder: Recorder, output: Any, total: torch.Tensor, named: dict, inputs: list[torch.Tensor]) -> None:
    recording = recorder.recording
    for tensor in (*tensors(output), total):
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
            recording.outputs.append(recorder.number(tensor))
    leaves = {name: tensor for name, tensor in named.items() if tensor.requires_grad}
    sources = [*leaves.values(), *(tensor for tensor in inputs if tensor.requires_grad)]
    if total.requires_grad and sources:
        gradients = torch.autograd.grad(total, sources, allow_unused=True)
        kept = [None if gradient is None else as_array(gradient) for gradient in gradients]
        recording.gradients = dict(zip(leaves, kept, strict=False))
    recording.parameters = {name: as_array(tensor) for name, tensor in named.items()}


def promote(model: Any) -> Callable[[], None]:
    """Turn a module to float64 in place; the function returned turns it back."""
    if not isinstance(model, torch.nn.Module):
        return lambda: None
    held = [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
    before = [tensor.data for tensor in held]
    for tensor in held:
        tensor.data = tensor.data.double()

    def restore() -> None:
        for tensor, data in zip(held, before, strict=True):
            tensor.data = data

    return restore
