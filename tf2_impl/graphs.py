"""Functions as graphs, which PyTorch does not need: TensorFlow takes longer to start an operation from Python."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from common.data.arrays import mapped


def traced(function: Callable, rows: tuple[int, ...] = (0,)) -> Callable:
    """The function as a graph, the same for tables of any length.

    The arguments whose positions are `rows` have a row for each point. For other shapes, dtypes and numbers
    among the arguments there is a graph each. Operations that are called one by one from Python take longer to
    start than a small table takes to compute.
    """

    def call(*arguments: Any) -> Any:
        """Call the graph for arguments like these."""
        signature, tensors = [], []
        for position, argument in enumerate(arguments):
            for leaf in _leaves(argument):
                shape = None
                if isinstance(leaf, tf.Tensor):
                    tensors.append(leaf)
                    shape, leaf = (None, *leaf.shape[1:]) if position in rows else tuple(leaf.shape), leaf.dtype
                signature.append((shape, leaf))
        structure = [mapped(lambda _: None, argument) for argument in arguments]
        return _graph(function, tuple(signature), *structure)(*tensors)

    return call


def _leaves(value: Any) -> Iterator[Any]:
    """The items of a tuple, and of tuples in it; else the value."""
    if not isinstance(value, tuple):
        yield value
        return
    for item in value:
        yield from _leaves(item)


@functools.lru_cache(maxsize=256, typed=True)  # since a named tuple is equal to a plain one
def _graph(function: Callable, signature: tuple, *structure: Any) -> Callable:
    """The graph of a function, called with the tensors among its arguments.

    `structure` is that of the arguments, and `signature` says of each leaf its shape and dtype, or None and its value.
    """

    def of_tensors(*tensors: tf.Tensor) -> Any:
        given = iter(tensors)
        leaves = (value if shape is None else next(given) for shape, value in signature)
        return function(*mapped(lambda _: next(leaves), structure))

    specs = [tf.TensorSpec(shape, value) for shape, value in signature if shape is not None]
    return tf.function(of_tensors, autograph=False).get_concrete_function(*specs)
