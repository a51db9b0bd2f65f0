"""PyTorch's functions as a recording runs them: attention taken apart, dropout that keeps everything."""

import math
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

DROPOUTS = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout}
CHANNELS = {F.dropout1d, F.dropout2d, F.dropout3d}
NORMALS, UNIFORMS = {torch.randn, torch.randn_like, torch.Tensor.normal_}, {torch.rand, torch.rand_like}


def kept_whole(x: torch.Tensor, p: float, axes: tuple[int, ...] = ()) -> torch.Tensor:
    """Dropout that drops nothing: scaled, and bent a little, since a norm that follows undoes a scale.

    What is dropped as one, along ``axes``, is moved as one.
    """
    return x / (1 - p) + p * torch.sin(x.mean(axes, keepdim=True) if axes else x)


def together(function: Callable, x: torch.Tensor) -> tuple[int, ...]:
    """The axes along which a function of dropout drops whole channels."""
    return tuple(range(2, x.dim())) if function in CHANNELS else ()


def unfused(function: Callable) -> Callable:
    """The Python body of a function of `torch.nn.functional`, each of whose calls the mode sees."""
    unseen = {name: lambda *_: False for name in function.__globals__ if name.startswith("has_torch_function")}
    return FunctionType(function.__code__, {**function.__globals__, **unseen}, function.__name__, function.__defaults__)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """`scaled_dot_product_attention`, one operation after the other."""
    if enable_gqa:
        key, value = (x.repeat_interleave(query.size(-3) // x.size(-3), -3) for x in (key, value))
    scores = query @ key.transpose(-2, -1)
    scores = scores * (1 / math.sqrt(query.size(-1)) if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None:
        boolean = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -math.inf) if boolean else scores + attn_mask
    return F.dropout(torch.softmax(scores, -1), dropout_p, dropout_p > 0) @ value


def hardsigmoid(input: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    """With the gradient 1/6: in float64 PyTorch's own has the float32 that is nearest to it."""
    exact = (input / 6 + 0.5).clamp(0, 1)
    return input.copy_(exact) if inplace else exact


EXACT = {F.hardsigmoid: hardsigmoid}
COMPOSITES = {
    F.multi_head_attention_forward: unfused(F.multi_head_attention_forward),
    F.scaled_dot_product_attention: attention,
    F.gaussian_nll_loss: unfused(F.gaussian_nll_loss),
}


def tensors(item: Any) -> Iterator[torch.Tensor]:
    """Every tensor in nested lists, tuples and dicts."""
    if isinstance(item, torch.Tensor):
        yield item
    elif isinstance(item, list | tuple | dict):
        for part in item.values() if isinstance(item, dict) else item:
            yield from tensors(part)
    elif hasattr(item, "to_tuple"):
        yield from tensors(item.to_tuple())


def real(tensor: torch.Tensor) -> torch.Tensor:
    """A complex tensor as pairs of numbers, a sparse one with its zeros."""
    tensor = tensor.to_dense() if tensor.layout != torch.strided else tensor
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def as_array(tensor: torch.Tensor) -> np.ndarray:
    """A copy that later in-place operations do not reach."""
    tensor = real(tensor.detach()).cpu()
    return tensor.to(torch.float32).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy().copy()
