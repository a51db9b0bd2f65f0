"""Where and with how many threads PyTorch computes, and how NumPy calls it."""

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch

from common.data.arrays import as_array, mapped
from common.data.chunks import by_threads
from common.data.messages import InputError


def set_up(device_name: str, threads: int, in_chunks: bool = False) -> None:
    """Set the number of threads, and full-precision float32 products.

    `in_chunks` says that `in_order` will give each thread a chunk of its own. PyTorch divides its threads
    anew whenever it does; TensorFlow, whose threads all compute one operation unless told otherwise, must
    know before it computes.

    Raises ValueError if this machine or this build has no such device.
    """
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    try:
        torch.zeros(1, device=device_name).cpu()  # a device that holds no numbers, such as meta, is none
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"--device {device_name}: PyTorch finds no such device here; use cpu") from error


def device(name: str, threads: int, in_chunks: bool = False) -> AbstractContextManager:
    """A context in which tensors are made on the device called `name`, once things are set up; errors as there."""
    set_up(name, threads, in_chunks)
    return torch.device(name)


# What is sized by the device stands here: a CPU computes from its cache, a card from its memory, and nothing must wait.
NUMBERS_IN_A_BLOCK = 2**19  # in smaller blocks, starting each operation takes longer than the cache saves


def is_card() -> bool:
    """Whether the current device is a GPU."""
    place = torch.get_default_device()
    return place.type not in ("cpu", "meta") and hasattr(torch.get_device_module(place), "CUDAGraph")


def numbers_in_a_block() -> int:
    """How many numbers the tables of a block hold in EM; on a GPU a chunk is one block."""
    return 2**62 if is_card() else NUMBERS_IN_A_BLOCK


def numbers_in_a_chunk() -> int | None:
    """How many numbers the tables of a chunk may hold in EM on a GPU: half its free memory; None on a CPU."""
    if not is_card():
        return None
    place = torch.get_default_device()
    card = torch.get_device_module(place)
    return (card.mem_get_info(place)[0] + card.memory_reserved(place) - card.memory_allocated(place)) // 16


def updates_at_once() -> int:
    """How many updates of a network are queued before what they computed is read."""
    return 64 if is_card() else 1


def in_order(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """The function's values for all items, in the order of the items, computed with all of the framework's threads.

    A value is the same whatever the number of threads, and no more items are taken ahead than there are
    threads.
    """
    before = torch.get_num_threads()
    threads = _threads.get() or before
    if threads == 1 or torch.get_default_device().type != "cpu":  # a GPU has threads enough
        yield from map(function, items)
        return
    recording = torch.is_grad_enabled()

    def value(item: Any) -> Any:
        """The value as the caller would find it: a thread does not know of its device, nor if it records gradients."""
        with torch.set_grad_enabled(recording):
            return function(item)

    # A thread for each item, rather than all threads for each small operation, which would wait for the slowest.
    torch.set_num_threads(1)  # as in those threads: how many MKL takes for a product holds for the whole process
    try:
        if isinstance(items, Sized) and len(items) == 1:
            yield from map(function, items)
        else:
            yield from by_threads(value, items, threads, torch.set_num_threads, 1)
    finally:
        torch.set_num_threads(before)


_threads: ContextVar[int] = ContextVar("threads", default=0)  # those of `in_order`, where an operation takes one


@contextmanager
def one_thread_each() -> Iterator[None]:
    """A context in which an operation takes one thread, where they can be divided anew; `in_order` takes all."""
    outside = torch.get_num_threads()
    token = _threads.set(_threads.get() or outside)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(outside)
        _threads.reset(token)


def tensor(array: np.ndarray) -> torch.Tensor:
    """An array as a tensor, of the same dtype."""
    return shared(np.array(as_array(array), order="C"))  # a copy, since PyTorch knows no strides below zero


def shared(array: np.ndarray) -> torch.Tensor:
    """An array as a tensor on the current device, which shares the array's memory if it may."""
    array, place = np.asarray(array), torch.get_default_device()
    on_cpu = torch.from_numpy(array if array.flags.writeable else array.copy())
    if place.type in ("cpu", "meta"):
        return on_cpu
    # a copy from memory that stays in its place is queued like any operation, and nothing waits for it
    return on_cpu.pin_memory().to(place, non_blocking=True) if is_card() else on_cpu.to(place)


def at_device(name: str | None, values: Any) -> AbstractContextManager:
    """A context in which an estimator computes: on the device called `name`, else on that of tensors, else as it is.

    Raises InputError if there is no such device.
    """
    here = torch.get_default_device()
    try:
        there = torch.device(name) if name else values.device if isinstance(values, torch.Tensor) else here
        if name:
            torch.zeros(1, device=there).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise InputError("device", "is a device that PyTorch does not find here: use cpu", name) from error
    there = torch.device("cpu") if there.type == "meta" else there
    return nullcontext() if there == here else there


def copied(arrays: Sequence[np.ndarray], dtype: str) -> Sequence[torch.Tensor]:
    """Arrays (N, ...) as tensors of a dtype on the current device, which go there together."""
    return shared(np.concatenate(arrays).astype(dtype, copy=False)).split([len(array) for array in arrays])


def outside_autocast(estimator: type) -> type:
    """The class with its methods computed in the precision of the data, even where its user's code is in autocast.

    PyTorch's autocast takes float32 products in bfloat16, of three decimal digits. Keras knows a policy for
    layers alone, so that nothing here is touched by it.
    """
    for name, method in list(vars(estimator).items()):
        if callable(method) and name != "fit":  # which leaves the maths to the others, and warns its caller

            @functools.wraps(method)
            def outside(*arguments: Any, method: Callable = method, **named: Any) -> Any:
                if not (torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")):
                    return method(*arguments, **named)
                # one for each call, since it remembers the caller's state
                with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
                    return method(*arguments, **named)

            setattr(estimator, name, outside)
    return estimator


def compiled(function: Callable) -> Callable:
    """The function as a training loop calls it: a graph where the framework makes one, else as it is."""
    return function


def fused(function: Callable) -> Callable:
    """The function with its operations fused by the framework's compiler; as it is, with a warning, if there is none.

    PyTorch's needs a C++ compiler on the machine. TensorFlow brings its own, and a training step of one
    process goes through it without being asked, unless it is to be reproducible.
    """
    try:
        torch.compile(torch.exp)(torch.zeros(1))
    except RuntimeError:
        warnings.warn(
            "--compile: PyTorch finds no working C++ compiler, and goes on without; install g++", stacklevel=2
        )
        return function
    return torch.compile(function)


@torch.no_grad()
def evaluate(function: Any, *arguments: Any) -> Any:
    """Call a function of the maths with arrays, and tuples of them, as tensors; its tensors come back as arrays."""
    given = mapped(lambda a: tensor(a) if isinstance(a, np.ndarray | np.generic) else a, arguments)
    return mapped(np.asarray, function(*given))
