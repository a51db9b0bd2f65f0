"""Mistakes in convolutions and dense layers: padding, stride, the kernel's layout."""

from itertools import permutations
from typing import Any

import torch
import torch.nn.functional as F

from portparity.causes.calls import Call, Change, Changes, enter, mistake, others

CONVOLUTIONS = "conv1d conv2d conv3d"
TRANSPOSED = "conv_transpose1d conv_transpose2d conv_transpose3d"


def _sizes(value: Any, spatial: int) -> list[int]:
    return list(value) if isinstance(value, list | tuple) else [value] * spatial


@mistake(
    "L4",
    CONVOLUTIONS,
    "the port pads with {}",
    'keras.layers.ZeroPadding before the convolution with the original\'s numbers, padding="valid" in it',
)
def padding(call: Call) -> Changes:
    x, spatial = call.x, call["weight"].dim() - 2
    kernel, stride = call["weight"].shape[2:], _sizes(call.get("stride", 1), spatial)
    dilation, given = _sizes(call.get("dilation", 1), spatial), call.get("padding", 0)
    before = _sizes(given, spatial) if not isinstance(given, str) else [0] * spatial

    def padded(sides: list[tuple[int, int]], mode: str = "constant") -> Change:
        flat = [n for pair in reversed(sides) for n in pair]
        return lambda c: c.again(input=F.pad(c.x, flat, mode=mode), padding=0)

    spans = list(zip(x.shape[2:], kernel, stride, dilation, strict=True))
    whole = [max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0) for n, k, s, d in spans]
    yield '"same": less above and left than below and right', padded([(w // 2, w - w // 2) for w in whole])
    yield '"same" the other way round', padded([(w - w // 2, w // 2) for w in whole])
    full = [(d * (k - 1)) for _, k, _, d in spans]
    yield '"causal": everything before', padded([(f, 0) for f in full]), "L20" if spatial == 1 else "L4"
    yield "everything after", padded([(0, f) for f in full]), "L20" if spatial == 1 else "L4"
    yield "nothing", padded([(0, 0)] * spatial), ""
    yield "the original's total on one side, before", padded([(2 * p, 0) for p in before])
    yield "the original's total on one side, after", padded([(0, 2 * p) for p in before])
    for mode in ("reflect", "replicate", "circular"):
        yield f"mode {mode}", padded([(p, p) for p in before], mode), ""


enter(
    "",
    CONVOLUTIONS,
    "the port's dilation is {}",
    "port: dilation_rate={given[dilation]}",
    others("dilation", (1, 2, 3, 4), 1),
)
enter("", CONVOLUTIONS, "the port's stride is {}", "port: strides={given[stride]}", others("stride", (1, 2, 3, 4), 1))
enter(
    "",
    f"linear {CONVOLUTIONS} {TRANSPOSED}",
    "the port has no bias, or zeros",
    "copy the bias, use_bias=True",
    lambda c: [("", lambda c: c.again(bias=None))] if c.get("bias") is not None else [],
)
enter(
    "L2",
    "linear",
    "the port's kernel is transposed",
    "dense.kernel.assign(linear.weight.detach().numpy().T)",
    lambda c: [("", lambda c: c.again(weight=c["weight"].T))],
)


@mistake(
    "L2b",
    f"{CONVOLUTIONS} {TRANSPOSED}",
    "the port's kernel {}",
    "conv.kernel.assign(weight.permute(2, 3, 1, 0)): for both kinds, and nothing is flipped; of a depthwise kernel "
    "weight.reshape(C, m, kh, kw).permute(2, 3, 0, 1)",
)
def kernel_layout(call: Call) -> Changes:
    weight = call["weight"]
    spatial = tuple(range(2, weight.dim()))
    yield "is flipped", lambda c: c.again(weight=c["weight"].flip(spatial))
    yield "has input and output channels exchanged", lambda c: c.again(weight=c["weight"].transpose(0, 1))
    yield (
        "is flipped and has its channels exchanged",
        lambda c: c.again(weight=c["weight"].transpose(0, 1).flip(spatial)),
    )
    for axes in permutations(spatial):
        if axes != spatial:
            yield (
                "has rows and columns exchanged",
                lambda c, axes=axes: c.again(weight=c["weight"].permute(0, 1, *axes)),
            )
    groups = call.get("groups", 1) if weight.shape[1] == 1 else 1  # of a depthwise kernel: (..., channels, filters)
    shape = (*weight.shape[2:], weight.shape[1] * groups, weight.shape[0] // groups)
    for axes in permutations(range(weight.dim())):

        def reshaped(c: Call, axes: tuple[int, ...] = axes) -> Any:
            there = c["weight"].permute(axes).reshape(shape)
            back = (-2, -1) if groups > 1 else (-1, -2)
            return c.again(weight=there.permute(*back, *range(len(spatial))).reshape(weight.shape))

        said = f"transposed by {axes}" if axes != tuple(range(weight.dim())) else "reshaped instead of transposed"
        yield f"is {said}", reshaped, "L21" if groups > 1 else "L2b"


@mistake(
    "L21",
    CONVOLUTIONS,
    "the port's depthwise kernel has channels and multipliers exchanged",
    "weight.reshape(C, m, kh, kw).permute(2, 3, 0, 1)",
)
def depthwise(call: Call) -> Changes:
    weight, many = call["weight"], call.get("groups", 1)
    if many > 1 and weight.shape[0] % many == 0 and weight.shape[0] > many:
        multiplier = weight.shape[0] // many
        for a, b in ((many, multiplier), (multiplier, many)):
            yield (
                "",
                lambda c, a=a, b=b: c.again(
                    weight=c["weight"].reshape(a, b, *weight.shape[1:]).transpose(0, 1).reshape(weight.shape)
                ),
            )


@mistake(
    "L5",
    TRANSPOSED,
    "the port cuts {}",
    'keras.layers.Conv2DTranspose(..., padding="valid") and a Cropping2D with the original\'s numbers',
)
def cut(call: Call) -> Changes:
    spatial = call["weight"].dim() - 2
    wanted = call.result().shape[2:]

    def cutting(starts: list[int], sizes: Any) -> Change:
        def change(c: Call) -> torch.Tensor:
            whole = c.again(padding=0, output_padding=0)
            short = [max(0, a + n - m) for a, n, m in zip(starts, sizes, whole.shape[2:], strict=True)]
            whole = F.pad(whole, [v for n in reversed(short) for v in (0, n)])
            if c.get("bias") is not None and any(short):
                whole = F.pad(
                    c.again(padding=0, output_padding=0, bias=None), [v for n in reversed(short) for v in (0, n)]
                )
                whole = whole + c["bias"].reshape(-1, *[1] * spatial)
            return whole[(..., *(slice(a, a + n) for a, n in zip(starts, sizes, strict=True)))]

        return change

    stride = _sizes(call.get("stride", 1), spatial)
    total = [max(k - s, 0) for k, s in zip(call["weight"].shape[2:], stride, strict=True)]
    same = [n * s for n, s in zip(call.x.shape[2:], stride, strict=True)]
    yield '"same": less above and left than below and right', cutting([t // 2 for t in total], same)
    for start in range(max(call["weight"].shape[2:])):
        yield f"{start} above and left", cutting([start] * spatial, wanted)
    yield 'nothing: padding="valid"', lambda c: c.again(padding=0, output_padding=0)


@mistake("", "pad", "the port pads {}", "port: the original's padding, written out", inside=False)
def pads(call: Call) -> Changes:
    pad = list(call["pad"])
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    row = "L20" if any(a != b for a, b in pairs) else "L4"
    flat = [n for a, b in pairs for n in ((a + b) // 2, (a + b) - (a + b) // 2)]
    yield "half on either side", lambda c: c.again(pad=flat), row
    yield "on the other side", lambda c: c.again(pad=[n for a, b in pairs for n in (b, a)]), row
    yield "before alone", lambda c: c.again(pad=[n for a, b in pairs for n in (a + b, 0)]), row
    yield "after alone", lambda c: c.again(pad=[n for a, b in pairs for n in (0, a + b)]), row
    for mode in ("constant", "reflect", "replicate", "circular"):
        if mode != call.get("mode", "constant"):
            yield f"in the mode {mode}", lambda c, mode=mode: F.pad(c.x, pad, mode)
