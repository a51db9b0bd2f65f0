"""A make-believe GPU, so that what belongs to one is tested without one: where tensors are, what is read, CUDA graphs.

Its tensors are on the device "card". They hold numbers of the CPU's, and PyTorch sends every operation on
them here. An operation on tensors of both devices is an error, but for a number, as on a GPU. What an
operation reads from the card is counted in `reads`. While a graph is recorded, to read, to bring data, or to
create a tensor from data is an error. Playing a graph repeats its operations with the storage that they had.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._pytree import tree_flatten, tree_map_only

NAME = "card"
aten = torch.ops.aten
FROM_DATA = (torch.tensor, torch.as_tensor, torch.asarray, torch.scalar_tensor)
NOT_RECORDED = (aten.linalg_cholesky_ex, aten.linalg_solve_triangular, aten._local_scalar_dense)  # cuSOLVER does not


class State:
    """What the card has seen: how often it was read, and the operations of the graph that is being recorded."""

    reads = 0
    recording: list | None = None
    before: list  # what the recorded operations changed, as it was
    free = 2**30  # bytes


class CardTensor(torch.Tensor):
    """A tensor on the card; `held` has its numbers."""

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "CardTensor":
        sizes = dict(strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype)
        return torch.Tensor._make_wrapper_subclass(cls, held.size(), device=torch.device(NAME, 0), **sizes)

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    __torch_function__ = torch._C._disabled_torch_function_impl

    def record_stream(self, stream: Any) -> None:
        """There is one stream."""

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, arguments: tuple = (), named: dict | None = None) -> Any:
        return compute(operation, arguments, named or {})

    def __repr__(self) -> str:
        return f"CardTensor({self.held!r})"


def compute(operation: Any, arguments: tuple, named: dict) -> Any:
    """An operation on tensors of the card, by the CPU."""
    tensors = [value for value in tree_flatten((arguments, named))[0] if isinstance(value, torch.Tensor)]
    apart = [value for value in tensors if not isinstance(value, CardTensor)]
    copies = operation in (aten.copy_.default, aten._to_copy.default)
    to_cpu = "device" in named and torch.device(named["device"]).type == "cpu"
    leaves = (
        operation is aten._local_scalar_dense.default or to_cpu or (copies and bool(apart) and tensors[0] is apart[0])
    )
    leaves = leaves and len(apart) < len(tensors)
    State.reads += leaves
    is_index = operation.overloadpacket in (aten.index, aten.index_put_)
    if len(apart) < len(tensors) and any(value.ndim for value in apart) and not (copies or is_index):
        raise RuntimeError(f"{operation} of tensors on the card and on the CPU")
    if State.recording is not None:
        from_cpu = bool(apart) and (copies or is_index or operation.overloadpacket is aten.where)
        if leaves or from_cpu or operation.overloadpacket in NOT_RECORDED:
            raise RuntimeError(f"{operation} cannot be recorded")
    here = named | ({"device": torch.device("cpu")} if "device" in named else {})
    lowered = tree_map_only(CardTensor, lambda value: value.held, (arguments, here))
    if State.recording is not None:
        State.before += [(value, value.clone()) for value in changed_by(operation, *lowered)]
    computed = operation(*lowered[0], **lowered[1])
    if State.recording is not None:
        State.recording.append((operation, lowered, computed))
    if leaves or not operation._schema.returns:
        return computed if leaves else None
    if operation.name().split(".")[0].endswith("_") or "out" in named:
        return arguments[0] if "out" not in named else named["out"]
    return tree_map_only(torch.Tensor, CardTensor, computed)


def changed_by(operation: Any, arguments: tuple, named: dict) -> list[torch.Tensor]:
    """The tensors that an operation changes in place."""
    taken = zip(operation._schema.arguments, [*arguments, *[None] * len(operation._schema.arguments)], strict=False)
    values = [named.get(taker.name, value) for taker, value in taken if taker.alias_info and taker.alias_info.is_write]
    return [value for value in tree_flatten(values)[0] if isinstance(value, torch.Tensor)]


class Graph:
    """As `torch.cuda.CUDAGraph`: operations that are played again, into the same tensors."""

    def replay(self) -> None:
        for operation, (arguments, named), computed in self.operations:
            again = operation(*arguments, **named)
            for old, new in zip(tree_flatten(computed)[0], tree_flatten(again)[0], strict=True):
                if isinstance(old, torch.Tensor) and old.shape == new.shape and old.data_ptr() != new.data_ptr():
                    old.copy_(new)  # of another shape is what was empty, and is filled by an operation that follows


@contextlib.contextmanager
def record(graph: Graph) -> Iterator[None]:
    """As `torch.cuda.graph`."""
    State.recording, State.before = [], []
    graph.operations = State.recording
    try:
        yield
    finally:
        State.recording = None
        for value, before in reversed(State.before):  # recorded is not computed
            value.copy_(before) if value.shape == before.shape else None


class FromData(TorchFunctionMode):
    """Tensors are created from data on the CPU and go to the card; memory may stay in its place."""

    def __torch_function__(
        self, function: Callable, types: Any, arguments: tuple = (), named: dict | None = None
    ) -> Any:
        named = dict(named or {})
        if function is torch.Tensor.pin_memory:
            return arguments[0]
        if function in FROM_DATA and torch.device(named.get("device") or "cpu").type == NAME:
            if State.recording is not None:
                raise RuntimeError("a tensor of data cannot be created while a graph is recorded")
            return function(*arguments, **named | {"device": "cpu"}).to(NAME)
        return function(*arguments, **named)


class Module(backend_registration._DummyBackendModule):
    """As `torch.cuda`."""

    CUDAGraph, graph = Graph, staticmethod(record)
    Stream = staticmethod(lambda device=None: torch.cpu.Stream())
    stream = staticmethod(lambda stream: contextlib.nullcontext())
    current_stream = staticmethod(lambda device=None: torch.cpu.Stream())
    device = staticmethod(lambda device: contextlib.nullcontext())
    mem_get_info = staticmethod(lambda device=None: (State.free, 2**30))
    memory_reserved = memory_allocated = staticmethod(lambda device=None: 0)


@contextlib.contextmanager
def at_hand() -> Iterator[type[State]]:
    """The card is there, as the device "card"; gives what it sees."""
    State.reads, State.free = 0, 2**30
    with FromData():
        yield State


# At once, since PyTorch's automatic differentiation takes no device that appears after it has been used.
backend_registration._setup_privateuseone_for_python_backend(NAME, Module())
LIBRARY = torch.library.Library("_", "IMPL")
LIBRARY.fallback(lambda operation, *arguments, **named: compute(operation, arguments, named), "PrivateUse1")
