"""Whatever holds numbers, as NumPy arrays: PyTorch and TensorFlow tensors, masked arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np


def as_array(values: Any, name: str = "values") -> Any:
    """Tensors of either framework as NumPy arrays, wherever they live; anything else as it is.

    Masked entries become NaN, missing entries. Raises ValueError for bfloat16, which NumPy does not have.
    """
    if "bfloat16" in str(getattr(values, "dtype", "")):
        raise ValueError(f"{name} has dtype bfloat16, which is too coarse to fit: give float32 or float64")
    if isinstance(values, list | tuple) and any(isinstance(row, np.ma.MaskedArray) for row in values):
        values = np.ma.array(values)  # a list of rows; NumPy's own array would be what lies under the masks
    if isinstance(values, np.ma.MaskedArray):
        if not np.ma.is_masked(values):
            return values.data
        return (values.astype(np.float64) if values.dtype.kind in "iub" else values).filled(np.nan)
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    return values.numpy() if hasattr(values, "numpy") and not hasattr(values, "to_numpy") else values


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """The function's value; of a tuple, named or nested, that of each of its items."""
    if not isinstance(value, tuple):
        return function(value)
    items = (mapped(function, item) for item in value)
    return value._make(items) if hasattr(value, "_make") else tuple(items)
