"""The mode that sees each call of a PyTorch function as Python makes it, in place or not.

An operation may be run again with other arguments, or in another way (``edits``), and every number may be moved by
a last bit.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode, resolve_name

from portparity.records.recording import Operation, Recording, Value, noise
from portparity.records.torch_functions import (
    COMPOSITES,
    DROPOUTS,
    EXACT,
    NORMALS,
    UNIFORMS,
    as_array,
    kept_whole,
    tensors,
    together,
)

INFINITIES = np.array([-math.inf, math.inf])
WRITING = {"iadd", "isub", "imul", "itruediv", "ifloordiv", "ipow", "imod", "iand", "ior", "ixor"}
Edit = tuple[str, Callable[..., Any]]  # the operation's name, and (function, args, kwargs, recorder) to its result


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
        self.stored: dict[int, dict[int, torch.Tensor]] = {}  # the tensors that lie in a piece of memory, by id
        self.hooks: list[Any] = []
        self.held: set[int] = set()  # ids of parameters and buffers, whose updates are no results
        self.hidden: list[str] = []  # who reads what no call has made
        self.draws = 0
        self.trains, self.drops = True, True  # whether the model trains, and whether the port has any dropout
        self.autocast = False  # whether it was on anywhere

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs, function = kwargs or {}, EXACT.get(function, function)
        if function in COMPOSITES:
            with self:
                return COMPOSITES[function](*args, **kwargs)
        if self.wide:
            args, kwargs = _widened(function, args, kwargs)
        if not self.keeps:
            result = self.drawn(function, args, kwargs)
            return _call(function, args, kwargs) if result is None else result
        number = len(self.recording.operations)
        given = list(tensors((args, kwargs)))
        if not self.makes(function) or any(map(torch._C._functorch.is_functorch_wrapped_tensor, given)):
            return _call(function, args, kwargs)
        self.autocast |= any(map(torch.is_autocast_enabled, ("cpu", "cuda")))
        before, versions = [self.number(tensor) for tensor in given], list(map(version, given))
        name, edit = self.edits.get(number, ("", None))
        if edit is not None and name == _name(function):  # reading a shape is not the operation that follows
            result = edited(edit, function, args, kwargs, self)
        else:
            result = self.drawn(function, args, kwargs)
            result = _call(function, args, kwargs) if result is None else result
        written = [tensor for tensor, old in zip(given, versions, strict=True) if version(tensor) != old]
        made = [t for t in tensors(result) if id(t) not in self.numbers or any(t is w for w in written)]
        moves = self.seed is not None and isinstance(result, torch.Tensor) and result.is_floating_point()
        if moves and storage(result) not in map(storage, given):  # a view stays one: it may be written to
            made = [result] = [self.moved(result)]
        written = [t for w in written for t in self.stored[storage(w)].values() if id(t) not in self.held]
        if not made and not written:
            return result
        self.calls.append((function, args, kwargs))
        self.keep_arguments(written)
        places = {id(tensor): tensor for tensor in (*made, *written)}
        outputs = [self.enter(tensor, number) for tensor in places.values()]
        operation = Operation(_name(function), self.where[-1] if self.where else "", before, outputs)
        operation.settings = _settings(args, kwargs)
        self.recording.operations.append(operation)
        return result

    def keep_arguments(self, written: list[torch.Tensor]) -> None:
        """Give the calls so far copies of what has been written to since they were made."""
        old = {id(t): torch.tensor(self.recording.values[self.numbers[id(t)]].array, dtype=t.dtype) for t in written}
        if old:
            self.calls = [
                (function, replaced(args, old), replaced(kwargs, old)) for function, args, kwargs in self.calls
            ]

    @staticmethod
    def makes(function: Callable) -> bool:
        """Whether a call computes something: reading an attribute does not."""
        name = getattr(function, "__name__", "")
        return name not in ("__get__", "__set__") or "grad" not in (resolve_name(function) or "")

    def number(self, tensor: torch.Tensor) -> int:
        """The value that a tensor is, entered if it is new."""
        if id(tensor) not in self.numbers:
            self.enter(tensor, -1)
            if tensor.grad_fn is not None and id(tensor) not in self.names:
                self.hidden.append(self.where[-1] if self.where else "the model")
        return self.numbers[id(tensor)]

    def enter(self, tensor: torch.Tensor, source: int) -> int:
        """A new value, whose gradient a hook writes down."""
        number = self.numbers[id(tensor)] = len(self.recording.values)
        value = Value(as_array(tensor), source=source, name=self.names.get(id(tensor), "") if source < 0 else "")
        self.recording.values.append(value)
        self.kept.append(tensor)
        self.stored.setdefault(storage(tensor), {})[id(tensor)] = tensor
        if tensor.requires_grad:
            self.hooks.append(tensor.register_hook(lambda gradient: self.keep(value, gradient)))
        return number

    def keep(self, value: Value, gradient: torch.Tensor) -> torch.Tensor | None:
        """Write a gradient down; moved by a last bit if everything is."""
        value.gradient = as_array(gradient)
        return None if self.seed is None else last_bit(gradient, self.seed + len(value.gradient.shape))

    def moved(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor, each entry moved by a last bit, without a change of its gradient."""
        there = last_bit(tensor, self.seed + len(self.kept))
        return tensor + torch.nan_to_num(there - tensor.detach(), 0.0, 0.0, 0.0)  # infinities stay

    def unhook(self) -> None:
        """Remove the hooks: by the cycle through them the tensors of every pass would stay in memory."""
        for hook in self.hooks:
            hook.remove()
        self.hooks.clear()

    def drawn(self, function: Callable, args: tuple, kwargs: dict) -> Any:
        """Dropout that keeps everything, scaled, and normal numbers that both frameworks share; None otherwise."""
        if function in DROPOUTS:
            p = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
            default = function is not torch.dropout and function is not torch.nn.functional.dropout
            training = args[2] if len(args) > 2 else kwargs.get("training", kwargs.get("train", not default))
            return kept_whole(args[0], p, together(function, args[0])) if training and p < 1 else args[0] * 1
        if function in NORMALS | UNIFORMS:
            like = _call(function, args, {**kwargs, "requires_grad": False} if function is torch.randn else kwargs)
            numbers = noise("normal" if function in NORMALS else "uniform", self.draws, like.numel())
            self.draws += 1
            return like.copy_(torch.tensor(numbers).reshape(like.shape))
        return None


def _call(function: Callable, args: tuple, kwargs: dict) -> Any:
    return function(*args, **kwargs)


def version(tensor: torch.Tensor) -> int:
    """How often a tensor's memory has been written to."""
    return 0 if tensor.is_inference() else tensor._version


def storage(tensor: torch.Tensor) -> int:
    """The address of the memory that a tensor and its views lie in; its own id if it has none."""
    try:
        return tensor.untyped_storage().data_ptr() or id(tensor)
    except (RuntimeError, NotImplementedError):
        return id(tensor)


def edited(edit: Callable, function: Callable, args: tuple, kwargs: dict, recorder: "Recorder") -> Any:
    """An edit's result, written where the call that it replaces writes its own."""
    name, code = getattr(function, "__name__", ""), getattr(function, "__code__", None)
    names = code.co_varnames[: len(args)] if code else ()
    in_place = dict(zip(names, args, strict=False)) | kwargs
    if not (in_place.get("inplace") or name.strip("_") in WRITING or (name.endswith("_") and name[-2:] != "__")):
        return edit(function, args, kwargs, recorder)
    return args[0].copy_(edit(function, (args[0].clone(), *args[1:]), kwargs, recorder))


def replaced(item: Any, tensors_of: dict[int, torch.Tensor]) -> Any:
    """Nested arguments with some tensors, by id, exchanged."""
    if isinstance(item, list | tuple) and type(item) in (list, tuple):
        return type(item)(replaced(part, tensors_of) for part in item)
    if isinstance(item, dict):
        return {name: replaced(part, tensors_of) for name, part in item.items()}
    return tensors_of.get(id(item), item)


def last_bit(tensor: torch.Tensor, seed: int) -> torch.Tensor:
    """The tensor, each entry moved to the next number, up or down by a coin toss."""
    if tensor.is_complex() or tensor.layout != torch.strided:
        return tensor.detach()
    many = tensor.numel()
    bits = np.unpackbits(np.frombuffer(np.random.default_rng(seed).bytes(many // 8 + 1), np.uint8), count=many)
    infinity = torch.tensor(INFINITIES[bits]).to(tensor).reshape(tensor.shape)
    tensor = tensor.detach()
    moved = torch.nextafter(tensor, infinity)
    return moved if torch.isfinite(tensor).all() else torch.where(torch.isfinite(tensor), moved, tensor)


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
