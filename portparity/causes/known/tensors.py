"""Mistakes in functions of tensors: the order of axes and entries, reductions, constants."""

import math
from itertools import permutations

import torch
import torch.nn.functional as F

from portparity.causes.calls import Call, Changes, enter, mistake


@mistake(
    "L3",
    "flatten reshape view unflatten",
    "the port flattens {}",
    "weight.reshape(out, C, H, W).permute(0, 2, 3, 1).reshape(out, -1), for the layer that follows",
    inside=False,
)
def flattening(call: Call) -> Changes:
    x, shape = call.x, call.result().shape
    if x.dim() < len(shape) == 4:  # and the way back, before a transposed convolution
        turned = (shape[0], *shape[2:], shape[1])
        yield "in the order (0, 2, 3, 1), and back", lambda c: c.x.reshape(turned).movedim(-1, 1)
    for axes in permutations(range(1, x.dim())):
        if axes != tuple(range(1, x.dim())) and x.dim() <= 4:
            yield (
                f"in the order {(0, *axes)}",
                lambda c, axes=axes: c.x.permute(0, *axes).reshape(shape),
                "L3" if axes == (*range(2, x.dim()), 1) else "",
            )


@mistake(
    "",
    "transpose permute movedim swapaxes",
    "the port reshapes instead of transposing",
    "port: the original's transposition",
    inside=False,
)
def reshaping(call: Call) -> Changes:
    shape = call.result().shape
    yield "", lambda c: c.x.reshape(shape)


enter(
    "",
    "cat concat",
    "the port joins {}",
    "port: the original's order and axis",
    lambda c: (
        [("in the opposite order", lambda c: torch.cat(tuple(c["tensors"])[::-1], c.get("dim", 0)))]
        + [(f"along axis {d}", lambda c, d=d: torch.cat(tuple(c["tensors"]), d)) for d in range(c["tensors"][0].dim())]
    ),
)
enter(
    "",
    "glu",
    "the port {}",
    "port: the first half times the sigmoid of the second",
    lambda c: [
        ("has the halves exchanged", lambda c: F.glu(torch.cat(c.x.chunk(2, c["dim"])[::-1], c["dim"]), c["dim"]))
    ],
)


@mistake(
    "S5",
    "add sub radd rsub iadd mul",
    "the port has {} constant of the Gaussian density",
    "log(2 pi) / 2",
    inside=False,
)
def constant(call: Call) -> Changes:
    if call.name == "mul" and 0.5 in [value for value in call.args if isinstance(value, float)]:
        yield "the", lambda c: c.result() + math.log(2 * math.pi) / 2
    for value in call.args[1:]:
        share = abs(float(value)) / math.log(2 * math.pi) if isinstance(value, int | float) else 0
        if any(abs(share * n - round(share * n)) < 1e-9 and share > 0 for n in (1, 2)):
            yield "no", lambda c: c.args[0] * 1


enter(
    "",
    "add iadd radd",
    "the port {}",
    "port: add both",
    lambda c: [
        ("leaves the first summand out", lambda c: torch.as_tensor(c.args[1]) * torch.ones_like(c.x)),
        ("leaves the second summand out", lambda c: c.args[0] * 1),
        ("averages", lambda c: c.result() / 2),
        ("subtracts", lambda c: c.args[0] - c.args[1]),
    ],
    inside=False,
)
enter(
    "",
    "sub isub",
    "the port {}",
    "port: subtract the second from the first",
    lambda c: [("adds", lambda c: c.args[0] + c.args[1]), ("has both exchanged", lambda c: c.args[1] - c.args[0])],
)


@mistake(
    "T4",
    "repeat_interleave repeat tile expand",
    "the port {}",
    "torch: repeat_interleave is np.repeat, repeat is np.tile",
)
def repeats(call: Call) -> Changes:
    recording, shape = call.recorder.recording, call.result().shape
    first = call.numbers[id(call.x)]
    while (made := recording.values[first].source) >= 0 and recording.operations[made].name == call.name:
        first = recording.operations[made].inputs[0]  # both axes, one after the other
    many = [n // m for n, m in zip(shape, recording.values[first].array.shape, strict=True)]
    yield "tiles, entries after one another", lambda c: torch.tile(c.recorder.kept[first], many)

    def each(c: Call) -> torch.Tensor:
        x = c.recorder.kept[first]
        for axis, times in enumerate(many):
            x = x.repeat_interleave(times, axis)
        return x

    yield "repeats each entry", each


@mistake("", "getitem select", "the port takes {}", "port: the original's entry", inside=False)
def entry(call: Call) -> Changes:
    x, shape = call.x, call.result().shape
    for axis in range(1, x.dim()):
        if tuple(n for k, n in enumerate(x.shape) if k != axis) == tuple(shape):
            for said, place in (("the last entry", -1), ("the first entry", 0)):
                yield f"{said} of axis {axis}", lambda c, a=axis, p=place: c.x.select(a, p)
            yield f"the mean over axis {axis}", lambda c, a=axis: c.x.mean(a)


enter(
    "S6",
    "var std",
    "the port divides by {}",
    "torch.var(x, correction=0)",
    lambda c: [
        ("n", lambda c: _moment(c, 0), "S6" if c.x.numel() > c.result().numel() else "S6c"),
        ("n - 1", lambda c: _moment(c, 1)),
    ],
)


def _moment(call: Call, correction: int) -> torch.Tensor:
    dims = call.get("dim")
    dims = None if isinstance(dims, bool) else dims
    kept = call.result().dim() == call.x.dim()
    return getattr(torch, call.name)(call.x, dim=dims, correction=correction, keepdim=kept)


@mistake("", "mean sum amax amin logsumexp nanmean", "the port {}", "port: the original's reduction and axes")
def reduction(call: Call) -> Changes:
    kept, dim = call.result().dim() == call.x.dim(), call.get("dim")
    row = "S3" if call.in_loss else ""
    for other in ("mean", "sum", "amax", "logsumexp"):
        if other != call.name:
            dims = dim if dim is not None else tuple(range(call.x.dim()))
            yield (
                f"takes the {other}",
                lambda c, o=other, d=dims: getattr(torch, o)(c.x, dim=d, keepdim=kept),
                row if other in "mean sum" else "",
            )
    for axis in range(call.x.dim()):
        yield f"is over axis {axis}", lambda c, a=axis: getattr(torch, c.name)(c.x, dim=a, keepdim=kept)
    if call.result().dim() == 0:
        for axis in range(call.x.dim()):
            yield f"sums over axis {axis} and averages over the rest", lambda c, a=axis: c.x.sum(a).mean(), row
            yield f"averages over axis {axis} and sums over the rest", lambda c, a=axis: c.x.mean(a).sum(), row
    yield "is over all entries", lambda c: getattr(c.x, c.name)()
    for size in sorted({*call.x.shape, math.prod(call.x.shape)}):
        yield f"divides by {size}, too", lambda c, n=size: c.result() / n, row
        yield f"multiplies by {size}, too", lambda c, n=size: c.result() * n, row


enter(
    "G18",
    "normalize",
    "the port's norm {}",
    "x / norm.clamp(min=eps), written out in the port",
    lambda c: (
        [("is over axis " + str(d), lambda c, d=d: c.again(dim=d)) for d in range(c.x.dim())]
        + [
            ("adds epsilon under the root", lambda c: c.x * (c.x.square().sum(c["dim"], True) + c["eps"]).rsqrt()),
            (
                "has its square clipped at epsilon",
                lambda c: c.x * c.x.square().sum(c["dim"], True).clamp(min=c["eps"]).rsqrt(),
            ),
            (
                "has its square clipped at 1e-12",
                lambda c: c.x * c.x.square().sum(c["dim"], True).clamp(min=1e-12).rsqrt(),
            ),
            ("is the sum of absolute values", lambda c: c.again(p=1.0)),
        ]
    ),
)
enter(
    "",
    "exp",
    "the port has {} instead",
    "std = exp(log_var / 2); a head is called what it is",
    lambda c: [
        ("exp of half", lambda c: torch.exp(c.x / 2)),
        ("exp of twice the value", lambda c: torch.exp(2 * c.x)),
        ("1 + x", lambda c: 1 + c.x),
        ("softplus", lambda c: F.softplus(c.x)),
    ],
)
enter(
    "",
    "clamp",
    "the port {}",
    "port: the original's bounds",
    lambda c: [
        ("does not clip", lambda c: c.x * 1),
        ("clips to 0 and 1", lambda c: c.x.clamp(0, 1)),
        ("clips to -1 and 1", lambda c: c.x.clamp(-1, 1)),
        ("clips at 0", lambda c: c.x.clamp(min=0)),
    ],
    inside=False,
)
enter(
    "",
    "pow",
    "the port's exponent is {}",
    "port: the original's exponent",
    lambda c: [(p, lambda c, p=p: c.x**p) for p in (1, 2, 3, 0.5, -0.5, -1, 4)],
)
enter(
    "",
    "cumsum flip roll",
    "the port {}",
    "port: the original's direction",
    lambda c: [
        ("goes the other way", lambda c: c.again(input=c.x.flip(-1)).flip(-1)),
        ("leaves it out", lambda c: c.x * 1),
    ],
    inside=False,
)
