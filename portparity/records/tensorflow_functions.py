"""TensorFlow's functions as a recording runs them: shared random numbers, dropout that keeps everything, float64."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType
from typing import Any
from unittest.mock import patch

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.ops import math_ops

from portparity.records.recording import noise


class Draws:
    """Generators that return the numbers that PyTorch's generators return, draw by draw."""

    def __init__(self) -> None:
        self.many = 0

    def of(self, kind: str) -> Callable:
        """A generator that returns the numbers that PyTorch's generators return while a model is recorded."""

        def draw(shape: Any, *args: Any, dtype: Any = None, **settings: Any) -> tf.Tensor:
            dtype = tf.as_dtype(dtype or keras.config.floatx())
            shape = [int(size) for size in np.array(shape).ravel()]
            numbers = noise(kind, self.many, int(np.prod(shape))).reshape(shape)
            self.many += 1
            low, high = ("mean", "stddev") if kind == "normal" else ("minval", "maxval")
            a, b = settings.get(low, 0), settings.get(high, 1)
            scale = b if kind == "normal" else b - a
            return tf.cast(tf.constant(numbers), dtype) * tf.cast(scale, dtype) + tf.cast(a, dtype)

        return draw


def _kept_whole(x: Any, rate: Any, noise_shape: Any = None, *args: Any, **settings: Any) -> tf.Tensor:
    # as `torch_functions.kept_whole`
    x = tf.convert_to_tensor(x)
    sizes = [] if noise_shape is None else zip(np.array(noise_shape).ravel(), x.shape, strict=True)
    axes = [axis for axis, (drawn, size) in enumerate(sizes) if drawn == 1 != size]
    bent = tf.sin(tf.reduce_mean(x, axes, keepdims=True) if axes else x)
    return x / tf.cast(1 - rate, x.dtype) + tf.cast(rate, x.dtype) * bent


CAST = math_ops.cast
ROUNDED: list[str] = []  # the functions whose constants would have been rounded to float32


def _cast_of_doubles(x: Any, dtype: Any, name: str | None = None) -> tf.Tensor:
    # TensorFlow makes a Python number float32 before it casts it to float64
    if isinstance(x, float) and tf.as_dtype(dtype) == tf.float64:
        if float(np.float32(x)) != x:
            ROUNDED.append(sys._getframe(1).f_code.co_name + " by tanh" * (x == 0.044715))
        return tf.constant(x, tf.float64)
    return CAST(x, dtype, name)


def _leaky_of_doubles(features: Any, alpha: float = 0.2, name: str | None = None) -> tf.Tensor:
    features = tf.convert_to_tensor(features)
    return tf.where(features > 0, features, tf.cast(alpha, features.dtype) * features)


@contextmanager
def shared(wide: bool) -> Iterator[None]:
    """Random numbers that PyTorch has too, dropout that keeps everything, and losses in float64."""
    drawn = Draws().of
    with ExitStack() as stack:
        for owner, name, value in (
            (tf.random, "normal", drawn("normal")),
            (tf.random, "stateless_normal", drawn("normal")),
            (tf.random, "uniform", drawn("uniform")),
            (tf.random, "stateless_uniform", drawn("uniform")),
            (tf.nn, "dropout", _kept_whole),
            (tf.nn.experimental, "stateless_dropout", _kept_whole),
        ):
            stack.enter_context(patch.object(owner, name, value))
        if wide:  # layers that are made while the model runs, too
            stack.enter_context(patch.object(tf.nn, "leaky_relu", _leaky_of_doubles))  # its slope is a float32
            for owner in (tf, math_ops):
                stack.enter_context(patch.object(owner, "cast", _cast_of_doubles))
            stack.enter_context(patch.object(keras.losses.Loss, "dtype", property(lambda loss: "float64")))
            stack.callback(keras.config.set_floatx, keras.config.floatx())
            stack.callback(keras.config.set_dtype_policy, keras.config.dtype_policy())
            keras.config.set_floatx("float64")
            keras.config.set_dtype_policy("float64")
        yield


@contextmanager
def rounding() -> Iterator[None]:
    """TensorFlow's own cast again, which takes Python's numbers through float32: of optimizers, where it tells."""
    with patch.object(tf, "cast", CAST), patch.object(math_ops, "cast", CAST):
        yield


@contextmanager
def eagerly(seen: list[str]) -> Iterator[None]:
    """Run the functions that `tf.function` has made as they were written; their names go to ``seen``.

    Keras's own are run so where they train: some of its others exist because the eager kernel lacks a gradient.
    """
    kind = type(tf.function(lambda: None))
    call = kind.__call__

    def as_written(function: Any, *args: Any, **kwargs: Any) -> Any:
        python = function.python_function
        module = getattr(python, "__module__", None) or ""
        inside = module.partition(".")[0] in ("keras", "tensorflow") and isinstance(python, FunctionType)
        if inside and not module.endswith(".trainer"):
            return call(function, *args, **kwargs)
        seen.append(getattr(python, "__name__", type(python).__name__))
        return python(*args, **kwargs)

    with patch.object(kind, "__call__", as_written):
        yield
