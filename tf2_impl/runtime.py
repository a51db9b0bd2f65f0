"""Where and with how many threads TensorFlow computes, and how NumPy calls it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import tensorflow as tf


def set_up(device_name: str, threads: int) -> None:
    """Set the number of threads, and full-precision float32 products.

    Raises ValueError if this machine or this build has no such device.
    """
    if tf.config.threading.get_intra_op_parallelism_threads() != threads:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
        except RuntimeError as error:
            raise ValueError(f"--threads {threads}: TensorFlow has computed already; start a new process") from error
    tf.config.experimental.enable_tensor_float_32_execution(False)
    kind = device_name.replace("cuda", "gpu").partition(":")[0].upper()
    if not tf.config.list_physical_devices(kind):
        raise ValueError(f"--device {device_name}: TensorFlow finds no such device here; use cpu")


def device(name: str, threads: int) -> AbstractContextManager:
    """A context in which tensors are made on the device called `name`, once things are set up; errors as there."""
    set_up(name, threads)
    kind, _, index = name.replace("cuda", "gpu").upper().partition(":")
    return tf.device(f"/{kind}:{index or 0}")


def in_order(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """The function's values for all items, in the order of the items, computed with all of the framework's threads.

    A value is the same whatever the number of threads, and no more items are taken ahead than there are threads.
    """
    yield from map(function, items)  # TensorFlow divides each operation among its threads


def tensor(array: np.ndarray) -> tf.Tensor:
    """An array as a tensor, of the same dtype."""
    return tf.constant(array)


def compiled(function: Callable) -> Callable:
    """The function as a training loop calls it: a graph where the framework makes one, else as it is."""
    return tf.function(function)


def fused(function: Callable) -> Callable:
    """The function with its operations fused by the framework's compiler; as it is, with a warning, if there is none.

    PyTorch's needs a C++ compiler on the machine. TensorFlow brings its own, and a training step of one process goes
    through it without being asked, unless it is to be reproducible.
    """
    return function


def evaluate(function: Any, *arguments: Any) -> Any:
    """Call a function of the maths with its arrays as tensors; its tensors come back as arrays."""
    result = function(*(tensor(a) if isinstance(a, np.ndarray | np.generic) else a for a in arguments))
    return tuple(np.asarray(value) for value in result) if isinstance(result, tuple) else np.asarray(result)
