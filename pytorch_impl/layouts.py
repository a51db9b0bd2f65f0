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

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.data.arrays import as_array


def named_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters by canonical name, in canonical order."""
    return dict(sorted(model.named_parameters()))


def canonical(name: str, value: Tensor) -> np.ndarray:
    """A parameter, gradient or moment in the canonical layout, PyTorch's, by the table above."""
    return value.detach().cpu().numpy().copy()


def native(name: str, array: np.ndarray, like: Tensor) -> Tensor:
    """An array of canonical layout as a tensor of this framework's layout, with the dtype of `like`."""
    return torch.tensor(array.copy(), dtype=like.dtype, device=like.device)


def export_parameters(model: nn.Module) -> dict[str, np.ndarray]:
    """All parameters in the canonical layout."""
    return {name: canonical(name, parameter) for name, parameter in named_parameters(model).items()}


def import_parameters(model: nn.Module, arrays: dict[str, Any]) -> None:
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
        parameter.data.copy_(native(name, values[name], parameter))
