"""Where and with how many threads TensorFlow computes, and how NumPy calls it."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import tensorflow as tf

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
    settings = tf.config.threading
    found = settings.get_intra_op_parallelism_threads(), settings.get_inter_op_parallelism_threads()
    try:
        if found != (1 if in_chunks else threads, threads):
            settings.set_intra_op_parallelism_threads(1 if in_chunks else threads)
            settings.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        if not in_chunks or found != (threads, threads):  # else chunks are only slower
            raise ValueError(f"--threads {threads}: TensorFlow has computed already; start a new process") from error
    tf.config.experimental.enable_tensor_float_32_execution(False)
    kind = device_name.replace("cuda", "gpu").partition(":")[0].upper()
    if not tf.config.list_physical_devices(kind):
        raise ValueError(f"--device {device_name}: TensorFlow finds no such device here; use cpu")


def device(name: str, threads: int, in_chunks: bool = False) -> AbstractContextManager:
    """A context in which tensors are made on the device called `name`, once things are set up; errors as there."""
    set_up(name, threads, in_chunks)
    kind, _, index = name.replace("cuda", "gpu").upper().partition(":")
    return tf.device(f"/{kind}:{index or 0}")


# What is sized by the device stands here: a CPU computes from its cache, a card from its memory, and nothing must wait.
NUMBERS_IN_A_BLOCK = 2**17  # 1 MB of float64, what a core's own cache holds


def is_card() -> bool:
    """Whether the current device is a GPU."""
    return tf.DeviceSpec.from_string(tf.constant(0.0).device).device_type == "GPU"


def numbers_in_a_block() -> int:
    """How many numbers the tables of a block hold in EM; on a GPU a chunk is one block."""
    return 2**62 if is_card() else NUMBERS_IN_A_BLOCK


def numbers_in_a_chunk() -> int | None:
    """How many numbers the tables of a chunk may hold in EM on a GPU: half its free memory; None on a CPU."""
    return 2**28 if is_card() else None  # TensorFlow takes all memory at once, and does not say what is free of it


def updates_at_once() -> int:
    """How many updates of a network are queued before what they computed is read."""
    return 64 if is_card() else 1


def in_order(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """The function's values for all items, in the order of the items, computed with all of the framework's threads.

    A value is the same whatever the number of threads, and no more items are taken ahead than there are
    threads.
    """
    place = tf.constant(0.0).device
    threads = tf.config.threading.get_inter_op_parallelism_threads() or os.cpu_count() or 1
    alone = isinstance(items, Sized) and len(items) == 1
    if threads == 1 or alone or is_card():  # which has threads enough
        yield from map(function, items)
        return

    def value(item: Any) -> Any:
        """The value as the caller would find it: a thread does not know of its device, nor if it records gradients."""
        with tf.device(place):
            return function(item)

    # A thread for each item, rather than all threads for each small operation, which would wait for the slowest.
    yield from by_threads(value, items, threads)


def one_thread_each() -> AbstractContextManager:
    """A context in which an operation takes one thread, where they can be divided anew; `in_order` takes all."""
    return nullcontext()


def tensor(array: np.ndarray) -> tf.Tensor:
    """An array as a tensor, of the same dtype."""
    return shared(as_array(array))


def shared(array: np.ndarray) -> tf.Tensor:
    """An array as a tensor on the current device, which shares the array's memory if it may."""
    return tf.constant(array)


def at_device(name: str | None, values: Any) -> AbstractContextManager:
    """A context in which an estimator computes: on the device called `name`, else on that of tensors, else as it is.

    Raises InputError if there is no such device.
    """
    if name is None:
        return tf.device(values.device) if tf.is_tensor(values) else nullcontext()
    kind, _, index = name.replace("cuda", "gpu").upper().partition(":")
    if not any(found.name.endswith(f"{kind}:{index or 0}") for found in tf.config.list_logical_devices()):
        raise InputError("device", "is a device that TensorFlow does not find here: use cpu", name)
    return tf.device(f"/{kind}:{index or 0}")


def copied(arrays: Sequence[np.ndarray], dtype: str) -> Sequence[tf.Tensor]:
    """Arrays (N, ...) as tensors of a dtype on the current device, which go there together."""
    together = shared(np.concatenate(arrays).astype(dtype, copy=False))
    return tf.split(together, [len(array) for array in arrays])


def outside_autocast(estimator: type) -> type:
    """The class with its methods computed in the precision of the data, even where its user's code is in autocast.

    PyTorch's autocast takes float32 products in bfloat16, of three decimal digits. Keras knows a policy for
    layers alone, so that nothing here is touched by it.
    """
    return estimator


def compiled(function: Callable) -> Callable:
    """The function as a training loop calls it: a graph where the framework makes one, else as it is."""
    return tf.function(function)


def fused(function: Callable) -> Callable:
    """The function with its operations fused by the framework's compiler; as it is, with a warning, if there is none.

    PyTorch's needs a C++ compiler on the machine. TensorFlow brings its own, and a training step of one
    process goes through it without being asked, unless it is to be reproducible.
    """
    return function


def evaluate(function: Any, *arguments: Any) -> Any:
    """Call a function of the maths with arrays, and tuples of them, as tensors; its tensors come back as arrays."""
    given = mapped(lambda a: tensor(a) if isinstance(a, np.ndarray | np.generic) else a, arguments)
    return mapped(np.asarray, function(*given))
