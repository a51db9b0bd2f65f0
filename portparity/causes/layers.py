"""Mistakes in layers with weights: normalisations, convolutions, dense and recurrent layers, embeddings."""

from collections.abc import Iterator
from functools import partial
from itertools import permutations
from typing import Any

import torch
import torch.nn.functional as F

from portparity.causes import calls
from portparity.causes.calls import Call, Change, Mistake, mistake, others
from portparity.causes.recurrent import run

LAYERS: list[Mistake] = []
EPSILONS = (1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-12, 1e-2, 1e-4, 0.0)
NORMS = "layer_norm group_norm instance_norm batch_norm rms_norm"
CONVOLUTIONS = "conv1d conv2d conv3d"
TRANSPOSED = "conv_transpose1d conv_transpose2d conv_transpose3d"
Changes = Iterator[tuple[Any, Change]]


enter = partial(calls.enter, LAYERS)


enter(
    "L6c",
    "batch_norm",
    "the port's epsilon is {}",
    "keras.layers.BatchNormalization(epsilon={given[eps]})",
    others("eps", EPSILONS, 1e-5),
)
enter(
    "L7",
    "layer_norm group_norm instance_norm rms_norm",
    "the port's epsilon is {}",
    "port: epsilon={given[eps]} in the layer",
    others("eps", EPSILONS, 1e-5),
)
enter(
    "L14",
    "batch_norm",
    "the port normalises with {}",
    "call the port with training={given[training]}",
    lambda c: (
        [
            (
                "the batch's own statistics: it trains",
                lambda c: c.again(training=True, running_mean=None, running_var=None),
            )
        ]
        if not c["training"]
        else [("its moving averages: it predicts", lambda c: c.again(training=False))]
    ),
)
enter(
    "",
    NORMS,
    "the port has {}",
    "port: center=True, scale=True, and copy both weights",
    lambda c: (
        ("no scale", lambda c: c.again(weight=None)),
        ("no offset", lambda c: c.again(bias=None)),
        ("neither scale nor offset", lambda c: c.again(weight=None, bias=None)),
        ("scale and offset exchanged", lambda c: c.again(weight=c["bias"], bias=c["weight"])),
    ),
)


@mistake(LAYERS, "", "batch_norm", "in the port {}", "copy running_mean to moving_mean, running_var to moving_variance")
def running_statistics(call: Call) -> Changes:
    mean, variance = call["running_mean"], call["running_var"]
    if mean is None or call["training"]:
        return
    initial = torch.zeros_like(mean), torch.ones_like(variance)
    yield "moving_mean was not copied", lambda c: c.again(running_mean=initial[0])
    yield "moving_variance was not copied", lambda c: c.again(running_var=initial[1])
    yield "the moving averages were not copied", lambda c: c.again(running_mean=initial[0], running_var=initial[1])
    yield "mean and variance are exchanged", lambda c: c.again(running_mean=variance, running_var=mean)
    yield "the variance is a standard deviation", lambda c: c.again(running_var=variance.sqrt())
    yield "the standard deviation is a variance", lambda c: c.again(running_var=variance**2)


@mistake(LAYERS, "", "layer_norm", "the port normalises {}", "port: axis=-1, with the original's normalized_shape")
def axes(call: Call) -> Changes:
    def over(dims: tuple[int, ...], correction: int, root: bool = False) -> Change:
        def change(c: Call) -> torch.Tensor:
            x, eps = c.x, c.get("eps", 1e-5)
            variance = x.var(dims, correction=correction, keepdim=True)
            x = (x - x.mean(dims, keepdim=True)) / (variance.sqrt() + eps if root else (variance + eps).sqrt())
            x = x * c["weight"] if c.get("weight") is not None else x
            return x + c["bias"] if c.get("bias") is not None else x

        return change

    last = tuple(range(-len(call["normalized_shape"]), 0))
    for axis in range(1, call.x.dim()):
        yield f"axis {axis} instead of the last", over((axis,), 0)
    yield "every axis but the batch's", over(tuple(range(1, call.x.dim())), 0)
    yield "with the variance over n - 1", over(last, 1)
    yield "with epsilon outside of the root", over(last, 0, True)
    yield "with the variance over n - 1 and epsilon outside of the root", over(last, 1, True)


@mistake(LAYERS, "", "layer_norm rms_norm", "the port {}", "use the original's kind of normalisation in the port")
def mean_or_none(call: Call) -> Changes:
    if call.name == "layer_norm":
        yield "does not subtract the mean", lambda c: F.rms_norm(c.x, c["normalized_shape"], c.get("weight"), c["eps"])
    else:
        yield "subtracts the mean", lambda c: F.layer_norm(c.x, c["normalized_shape"], c.get("weight"), None, c["eps"])


@mistake(
    LAYERS, "L28", "group_norm", "the port has {} groups", "keras.layers.GroupNormalization(groups={given[num_groups]})"
)
def groups(call: Call) -> Changes:
    channels = call.x.shape[1]
    for number in range(1, channels + 1):
        if channels % number == 0 and number != call["num_groups"]:
            yield number, lambda c, number=number: c.again(num_groups=number)

    def interleaved(c: Call) -> torch.Tensor:
        order = torch.arange(channels).reshape(c["num_groups"], -1).T.ravel()
        back = torch.argsort(order)
        mixed = F.group_norm(c.x[:, back], c["num_groups"], None, None, c["eps"])[:, order]
        shape = (1, -1) + (1,) * (c.x.dim() - 2)
        return mixed * c["weight"].reshape(shape) + c["bias"].reshape(shape)

    yield "interleaved", interleaved


# ---- convolutions


def _sizes(value: Any, spatial: int) -> list[int]:
    return list(value) if isinstance(value, list | tuple) else [value] * spatial


@mistake(
    LAYERS,
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
    yield '"causal": everything before', padded([(f, 0) for f in full]), "L20"
    yield "everything after", padded([(0, f) for f in full]), "L20"
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
    LAYERS,
    "L2b",
    f"{CONVOLUTIONS} {TRANSPOSED}",
    "the port's kernel {}",
    "conv.kernel.assign(weight.permute(2, 3, 1, 0)): for both kinds, and nothing is flipped",
)
def kernel_layout(call: Call) -> Changes:
    weight = call["weight"]
    spatial = tuple(range(2, weight.dim()))
    yield "is flipped", lambda c: c.again(weight=c["weight"].flip(spatial)), ""
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
    for axes in permutations(range(weight.dim())):

        def reshaped(c: Call, axes: tuple[int, ...] = axes) -> Any:
            return c.again(weight=c["weight"].permute(axes).reshape(c["weight"].shape))

        yield f"is reshaped instead of transposed, or transposed by {axes}", reshaped


@mistake(
    LAYERS,
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
    LAYERS,
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


@mistake(LAYERS, "", "pad", "the port pads {}", "port: the original's padding, written out", inside=False)
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


@mistake(
    LAYERS,
    "L24b",
    "linear",
    "the port has {}",
    "split in_proj_weight into q, k, v; a head's rows lie together",
    inside=False,
)
def packed(call: Call) -> Changes:
    weight, bias = call["weight"], call.get("bias")
    for parts in (3, 2):
        if weight.shape[0] == parts * weight.shape[1]:
            for order in list(permutations(range(parts)))[1:]:

                def exchanged(c: Call, order: tuple[int, ...] = order, parts: int = parts) -> torch.Tensor:
                    return torch.cat([c.result().chunk(parts, -1)[n] for n in order], -1)

                said = " ".join(("query", "key", "value")[n] for n in order)
                yield f"the projections in the order {said}", exchanged
            for heads in (h for h in range(2, weight.shape[1]) if weight.shape[1] % h == 0):

                def inner(c: Call, heads: int = heads, parts: int = parts) -> torch.Tensor:
                    y = c.result()
                    return y.unflatten(-1, (parts, -1, heads)).transpose(-1, -2).flatten(-3).reshape(y.shape)

                yield f"the {heads} heads as the inner axis of the projections", inner
    if bias is not None and weight.shape[0] == 3 * weight.shape[1]:
        yield "no bias in the projections", lambda c: c.again(bias=None), ""


# ---- embeddings


@mistake(LAYERS, "", "embedding", "the port {}", "give both the same indices, and the same table")
def lookup(call: Call) -> Changes:
    many = call["weight"].shape[0]
    yield "looks one row further up", lambda c: c.again(input=(c["input"] + 1).clamp(max=many - 1))
    yield "looks one row further down", lambda c: c.again(input=(c["input"] - 1).clamp(min=0))
    yield "scales by the root of the width", lambda c: c.result() * c["weight"].shape[1] ** 0.5
    yield "has zeros in the row of index 0", lambda c: c.result() * (c["input"] != 0)[..., None]
    if (pad := call.get("padding_idx")) is not None:
        yield "has another row for the padding", lambda c: c.result() * (c["input"] != pad)[..., None]


enter(
    "L19",
    "embedding",
    "the port trains the padding's row: padding_idx has no counterpart",
    "mask that row's gradient in the port, or freeze it after each step",
    lambda c: (
        [("", lambda c: c.again(padding_idx=None))]
        if c.get("padding_idx") is not None
        else [("", lambda c: c.again(padding_idx=0))]
    ),
    backward=True,
)


# ---- recurrent layers


@mistake(
    LAYERS,
    "L17",
    "lstm lstm_cell gru gru_cell rnn_tanh rnn_relu",
    "the port {}",
    "gates: LSTM i f g o in both; GRU r z n in PyTorch, z r h in Keras; the bias is the sum of PyTorch's two",
)
def gates(call: Call) -> Changes:
    kind = call.name.partition("_")[0]
    names, row = {"lstm": ("ifgo", "L17"), "gru": ("rzn", "L18")}.get(kind, ("h", ""))
    for order in list(permutations(range(len(names))))[1:]:
        said = " ".join(names[n] for n in order)
        yield f"has the gates in the order {said}", lambda c, order=order: run(c, order=order), row
    yield "has only bias_ih", lambda c: run(c, without=["b_hh"]), row if kind == "lstm" else ""
    yield "has only bias_hh", lambda c: run(c, without=["b_ih"]), row if kind == "lstm" else ""
    yield "has no bias", lambda c: run(c, without=["b_ih", "b_hh"]), ""
    yield "adds 1 to the forget gate's bias", lambda c: run(c, forget=1.0), "L17c"
    yield "uses a hard sigmoid in the gates", lambda c: run(c, gate=F.hardsigmoid), ""
    yield (
        "uses a hard sigmoid (0.2 x + 0.5) in the gates",
        lambda c: run(c, gate=lambda x: (0.2 * x + 0.5).clamp(0, 1)),
        "",
    )
    for name, function in (("relu", torch.relu), ("tanh", torch.tanh), ("sigmoid", torch.sigmoid)):
        yield f"uses {name} for the state", lambda c, function=function: run(c, state=function), ""
    yield "transposes the recurrent kernel of each gate", lambda c: run(c, transposed=True), ""
    yield "exchanges kernel and recurrent kernel", lambda c: run(c, exchanged=True), ""
    yield "starts from zeros", lambda c: run(c, zeros=True), ""
    yield "reads the sequence backwards", lambda c: run(c, backwards="all"), ""
    yield "does not turn the backward direction's output round", lambda c: run(c, backwards="unturned"), ""
    yield "reads both directions forwards", lambda c: run(c, backwards="none"), ""


@mistake(LAYERS, "L18b", "gru gru_cell", "the port {}", "keras.layers.GRU(reset_after=True); h = (1 - z) n + z h")
def reset(call: Call) -> Changes:
    yield "resets the state before the product: reset_after=False", lambda c: run(c, reset_after=False)
    yield "adds both biases before the reset gate", lambda c: run(c, joined=True)
    yield (
        "resets the state before the product, with both biases in one",
        lambda c: run(c, reset_after=False, joined=True),
    )
    yield "has z and 1 - z exchanged", lambda c: run(c, mixed=True), ""
