"""Mistakes in pooling, resizing and the order of pixels."""

import math
from typing import Any

import torch
import torch.nn.functional as F

from portparity.causes.calls import Call, Changes, enter, mistake

enter(
    "L12",
    "avg_pool1d avg_pool2d avg_pool3d",
    "the port {} the padding's zeros",
    "F.avg_pool2d(x, ..., count_include_pad=False)",
    lambda c: [
        (
            "counts" if not c.get("count_include_pad", True) else "does not count",
            lambda c: c.again(count_include_pad=not c.get("count_include_pad", True)),
        )
    ],
)


@mistake(
    "L23",
    "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d",
    "the port {}",
    'keras.layers.ZeroPadding (or a pad with -inf) and padding="valid"',
)
def pooling(call: Call) -> Changes:
    x, spatial, largest = call.x, int(call.name[-2]), call.name.startswith("max")
    sizes = call["kernel_size"] if isinstance(call["kernel_size"], list | tuple) else [call["kernel_size"]] * spatial
    stride = call.get("stride") or sizes
    stride = stride if isinstance(stride, list | tuple) else [stride] * spatial
    pool = getattr(F, f"max_pool{spatial}d" if largest else f"avg_pool{spatial}d")
    other = getattr(F, f"avg_pool{spatial}d" if largest else f"max_pool{spatial}d")

    def same(c: Call, step: Any = None, fill: float | None = None) -> torch.Tensor:
        step = step or stride
        total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(x.shape[2:], sizes, step, strict=True)]
        flat = [n for t in reversed(total) for n in (t // 2, t - t // 2)]
        if largest:
            return pool(F.pad(c.x, flat, value=-math.inf if fill is None else fill), sizes, step)
        share = pool(F.pad(torch.ones_like(c.x), flat), sizes, step)
        return pool(F.pad(c.x, flat), sizes, step) / (share if fill is None else 1)

    yield 'pads with "same": less above and left than below and right', same
    yield 'pads with zeros and "same"', lambda c: same(c, fill=0.0), ""
    yield "has stride 1", lambda c: same(c, [1] * spatial), ""
    yield "does not pad", lambda c: pool(c.x, sizes, stride), ""
    if largest and (pad := call.get("padding", 0)):
        flat = [p for p in ([pad] * spatial if isinstance(pad, int) else pad)[::-1] for _ in range(2)]
        yield "pads with zeros before the maximum", lambda c: pool(F.pad(c.x, flat), sizes, stride), ""
    yield (
        "averages" if largest else "takes the maximum",
        lambda c: other(c.x, sizes, stride, call.get("padding", 0)),
        "",
    )
    yield "has the other ceil_mode", lambda c: c.again(ceil_mode=not call.get("ceil_mode", False)), "L23b"


enter(
    "",
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d",
    "the port takes {}",
    "port: the same pooling",
    lambda c: [
        ("the maximum", lambda c: c.x.amax(tuple(range(2, c.x.dim())), keepdim=True)),
        ("the mean", lambda c: c.x.mean(tuple(range(2, c.x.dim())), keepdim=True)),
        ("the sum", lambda c: c.x.sum(tuple(range(2, c.x.dim())), keepdim=True)),
    ],
)


@mistake("L22", "interpolate", "the port resizes by {}", "write the resize as two matrices, one for each axis")
def resize(call: Call) -> Changes:
    size = call.result().shape[2:]
    for mode in ("nearest", "nearest-exact", "bilinear", "bicubic"):
        yield mode, lambda c, mode=mode: F.interpolate(c.x, size, mode=mode)
    for mode in ("bilinear", "bicubic"):
        yield f"{mode} with align_corners=True", lambda c, m=mode: F.interpolate(c.x, size, mode=m, align_corners=True)
        row = "L13b" if mode == "bicubic" == call.get("mode") else "L22"  # TensorFlow's cubic
        yield f"{mode} with antialias=True", lambda c, m=mode: F.interpolate(c.x, size, mode=m, antialias=True), row
    yield "area", lambda c: F.interpolate(c.x, size, mode="area")
    yield "bilinear, whose pixels are counted from the corner (tf.compat.v1)", lambda c: _from_the_corner(c.x, size)


def _from_the_corner(x: torch.Tensor, size: Any) -> torch.Tensor:
    for axis, new in zip((-2, -1), size, strict=True):
        old = x.shape[axis]
        place = torch.arange(new, dtype=x.dtype) * old / new
        low = place.floor().long().clamp(max=old - 1)
        share = (place - low).reshape(-1, *[1] * (-1 - axis))
        x = x.index_select(axis, low) * (1 - share) + x.index_select(axis, (low + 1).clamp(max=old - 1)) * share
    return x


@mistake(
    "L27",
    "pixel_shuffle",
    "the port has the channels in TensorFlow's order: factors first",
    "permute the channels: x.reshape(N, H, W, C, r, r) and back",
)
def shuffled_pixels(call: Call) -> Changes:
    r = call["factor"]

    def change(c: Call) -> torch.Tensor:
        n, channels, *rest = c.x.shape
        return F.pixel_shuffle(c.x.reshape(n, r * r, channels // r**2, *rest).transpose(1, 2).reshape(c.x.shape), r)

    yield "", change
