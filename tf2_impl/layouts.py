r"""Layouts: from one framework's parameter layout to the other's, and into checkpoints.

A parameter has one name in both frameworks, that of PyTorch's `state_dict`, but each has its own order of
axes. A dense layer maps a row $x$ to $x W^T + b$ in PyTorch and to $x K + b$ in TensorFlow. The map is the
same if

$$K = W^T$$

Wherever parameters, gradients and an optimizer's moments leave a framework, they are in the canonical layout,
which is PyTorch's. They are drawn, compared and stored in it, so that a checkpoint
(`common/runs/checkpoint.py`) does not say which framework wrote it. I and O are a layer's inputs and outputs,
c channels, h and w the height and width of a map of features, and [c h w] is one flattened axis, where place
$(i, j)$ of channel $k$ has the index

$$(k\, h + i)\, w + j$$

    layer                                   PyTorch           TensorFlow
    dense                   weight          (O, I)            (I, O)
    convolution             weight          (O, I, 3, 3)      (3, 3, I, O)
    transposed convolution  weight          (I, O, 3, 3)      (3, 3, O, I)
    dense, of a map         hidden.weight   (O, [c h w])      (h, w, c, O)
    dense, to a map         features.weight ([c h w], I)      (I, h, w, c)
                            features.bias   ([c h w])         (h, w, c)

Where the frameworks differ: PyTorch's side only copies. TensorFlow's permutes its axes by this table, and
this is the only place that does. Kernels are not flipped in either.
"""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from common.data.arrays import as_array

CONVOLUTION = ((3,), (2,), (0,), (1,))
# This framework's axes in PyTorch's order, by parameter and rank; PyTorch has one axis for those within a bracket.
LAYOUTS = {
    ("conv1.weight", 4): CONVOLUTION,
    ("conv2.weight", 4): CONVOLUTION,
    ("conv_transpose1.weight", 4): CONVOLUTION,
    ("conv_transpose2.weight", 4): CONVOLUTION,
    ("hidden.weight", 4): ((3,), (2, 0, 1)),
    ("features.weight", 4): ((3, 1, 2), (0,)),
    ("features.bias", 3): ((2, 0, 1),),
}
DEFAULT = {0: (), 1: ((0,),), 2: ((1,), (0,))}  # scalars, biases and dense weights


def named_parameters(model: keras.Model) -> dict[str, tf.Variable]:
    """The trainable parameters by canonical name, in canonical order."""
    table = {}
    for part in ("encoder", "decoder"):
        for name, layer in vars(getattr(model, part)).items():
            if isinstance(layer, keras.layers.Layer):
                table[f"{part}.{name}.weight"] = layer.kernel.value
                table[f"{part}.{name}.bias"] = layer.bias.value
    if isinstance(getattr(model, "log_var", None), keras.Variable):
        table["log_var"] = model.log_var.value
    return dict(sorted(table.items()))


def canonical(name: str, value: Tensor) -> np.ndarray:
    """A parameter, gradient or moment in the canonical layout, PyTorch's, by the table above."""
    groups = LAYOUTS.get((name.partition(".")[2], len(value.shape))) or DEFAULT[len(value.shape)]
    shape = [math.prod(value.shape[axis] for axis in group) for group in groups]
    return np.array(value.numpy().transpose(sum(groups, ())).reshape(shape), order="C")


def native(name: str, array: np.ndarray, like: Tensor) -> Tensor:
    """An array of canonical layout as a tensor of this framework's layout, with the dtype of `like`."""
    groups = LAYOUTS.get((name.partition(".")[2], len(like.shape))) or DEFAULT[len(like.shape)]
    axes = sum(groups, ())
    return tf.constant(array.reshape([like.shape[axis] for axis in axes]).transpose(np.argsort(axes)), like.dtype)


def export_parameters(model: keras.Model) -> dict[str, np.ndarray]:
    """All parameters in the canonical layout."""
    return {name: canonical(name, parameter) for name, parameter in named_parameters(model).items()}


def import_parameters(model: keras.Model, arrays: dict[str, Any]) -> None:
    """Set all parameters from arrays, or either framework's tensors, in the canonical layout.

    Raises ValueError if a name or a shape does not fit.
    """
    parameters = named_parameters(model)
    values = {name: np.asarray(as_array(value, name)) for name, value in arrays.items()}
    if differing := sorted(parameters.keys() ^ values.keys()):
        raise ValueError(f"parameters {differing} are not in both: use the same architecture")
    for name, parameter in parameters.items():
        if values[name].shape != (shape := canonical(name, parameter).shape):
            raise ValueError(f"parameter {name} has shape {values[name].shape}, not {shape}")
    for name, parameter in parameters.items():
        parameter.assign(native(name, values[name], parameter))
