"""Mistakes in functions of tensors: activations, pooling, resizing, attention, reductions, the order of axes."""

import math
from collections.abc import Iterator
from functools import partial
from itertools import permutations
from typing import Any

import torch
import torch.nn.functional as F

from portparity.causes import calls
from portparity.causes.calls import Call, Change, Mistake, mistake, others
from portparity.records.torch_functions import kept_whole

FUNCTIONS: list[Mistake] = []
Changes = Iterator[tuple[Any, Change]]
ACTIVATIONS = {
    "gelu, the approximation by a tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu, the exact form": F.gelu,
    "gelu, x sigmoid(1.702 x)": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": torch.relu,
    "relu6": F.relu6,
    "leaky_relu with slope 0.01": F.leaky_relu,
    "leaky_relu with slope 0.2": lambda x: F.leaky_relu(x, 0.2),
    "leaky_relu with slope 0.3": lambda x: F.leaky_relu(x, 0.3),
    "elu": F.elu,
    "selu": F.selu,
    "silu (swish)": F.silu,
    "leaky_relu with slope 0.1": lambda x: F.leaky_relu(x, 0.1),
    "celu": F.celu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "mish": F.mish,
    "hard sigmoid (x / 6 + 0.5)": F.hardsigmoid,
    "hard sigmoid (0.2 x + 0.5)": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "hard swish": F.hardswish,
    "softsign": F.softsign,
    "softmax over the last axis": lambda x: torch.softmax(x, -1),
    "exp": torch.exp,
    "log softmax over the last axis": lambda x: torch.log_softmax(x, -1),
    "log sigmoid": F.logsigmoid,
    "the square of relu": lambda x: torch.relu(x) ** 2,
    "softmax over axis 1": lambda x: torch.softmax(x, 1),
    "abs": torch.abs,
    "tanh shrink": F.tanhshrink,
    "hard tanh": F.hardtanh,
}
NAMES = (
    "gelu relu relu6 leaky_relu elu selu silu celu tanh sigmoid softplus mish hardsigmoid hardswish softsign "
    "logsigmoid hardtanh prelu softmax log_softmax exp rrelu threshold"
)
ANY = "*"


enter = partial(calls.enter, FUNCTIONS)


enter(
    "L9b",
    "gelu",
    "the port has {}",
    'keras.activations.gelu(x, approximate=False), and True for "tanh"',
    lambda c: [(n, lambda c, n=n: ACTIVATIONS[n](c.x)) for n in list(ACTIVATIONS)[:3]],
)
enter(
    "L8",
    "leaky_relu",
    "the port's slope is {}",
    "keras.layers.LeakyReLU(negative_slope={given[negative_slope]})",
    others("negative_slope", (0.3, 0.2, 0.01, 0.1, 0.0), 0.01),
)
enter(
    "",
    "elu celu",
    "the port's alpha is {}",
    "port: alpha={given[alpha]}",
    others("alpha", (1.0, 0.3, 0.1, 0.2, 0.5, 1.6732632423543772), 1.0),
)
enter(
    "L10",
    "softplus",
    "the port's softplus {}",
    "F.softplus(x, threshold=40)",
    lambda c: [
        ("has no threshold", lambda c: torch.logaddexp(c.x, torch.zeros_like(c.x))),
        ("has beta 1", lambda c: c.again(beta=1)),
    ],
)
enter(
    "L25",
    "prelu",
    "the port has {}",
    "copy the slopes; keras.layers.PReLU(shared_axes=[1, 2])",
    lambda c: [
        ("no slopes: they are zeros", lambda c: torch.relu(c.x)),
        ("slope 0.25: it was not copied", lambda c: F.leaky_relu(c.x, 0.25)),
        ("one slope for all: their mean", lambda c: F.prelu(c.x, c["weight"].mean()[None])),
        ("the first slope for all", lambda c: F.prelu(c.x, c["weight"][:1])),
    ],
)
enter(
    "T2",
    "softmax log_softmax",
    "the port's softmax is over axis {}",
    "port: axis={given[dim]}",
    lambda c: [(d, lambda c, d=d: c.again(dim=d)) for d in range(c.x.dim())],
)
enter(
    "",
    NAMES,
    "the port has {} instead of {call.name}",
    "port: the original's activation",
    lambda c: [(n, lambda c, f=f: f(c.x)) for n, f in ACTIVATIONS.items()],
)
enter(
    "",
    NAMES + " dropout dropout1d dropout2d batch_norm layer_norm max_pool2d avg_pool2d normalize detach",
    "the port has no {call.name} here",
    "port: the original's operation",
    lambda c: [("", lambda c: c.x * 1)],
    inside=False,
)


@mistake(
    FUNCTIONS,
    "",
    "linear conv1d conv2d conv3d add iadd layer_norm batch_norm matmul embedding mul",
    "the port has {} after this",
    "port: no activation there (activation=None)",
)
def activation_too_many(call: Call) -> Changes:
    for name, function in ACTIVATIONS.items():
        yield name, lambda c, f=function: f(c.result())


@mistake(
    FUNCTIONS,
    "L14",
    "dropout dropout1d dropout2d dropout3d alpha_dropout",
    "in the port {}",
    "port: Dropout(rate={given[p]}), called with training=True in training and False in prediction",
)
def dropout(call: Call) -> Changes:
    p = call.get("p", 0.5)
    if call["training"]:
        yield "dropout does not drop while it trains", lambda c: c.x * 1
        yield f"dropout keeps {p:g} instead of dropping it", lambda c: kept_whole(c.x, 1 - p)
    for rate in dict.fromkeys((p, 1 - p, *(n / 20 for n in range(1, 20)))):
        if rate < 1 and not (call["training"] and rate == p):
            said = f"dropout's rate is {rate:g}" if call["training"] else f"dropout drops {rate:g} while it predicts"
            row = "L14" if call["training"] else "L14c"
            yield said, lambda c, rate=rate: kept_whole(c.x, rate), row


@mistake(
    FUNCTIONS,
    "L14",
    "linear flatten reshape gelu relu tanh sigmoid silu lstm gru add batch_norm layer_norm max_pool2d embedding",
    "the port has dropout of rate {} after this",
    "port: no dropout there",
    inside=False,
)
def dropout_too_many(call: Call) -> Changes:
    for rate in (n / 20 for n in range(1, 20)):
        yield rate, lambda c, rate=rate: _dropped(c.result(), rate)


def _dropped(result: Any, rate: float) -> Any:
    return kept_whole(result, rate) if isinstance(result, torch.Tensor) else (kept_whole(result[0], rate), *result[1:])


# ---- pooling and resizing


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
    FUNCTIONS,
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


@mistake(
    FUNCTIONS, "L22", "interpolate", "the port resizes by {}", "write the resize as two matrices, one for each axis"
)
def resize(call: Call) -> Changes:
    size = call.result().shape[2:]
    for mode in ("nearest", "bilinear", "bicubic", "nearest-exact", "area"):
        yield mode, lambda c, mode=mode: F.interpolate(c.x, size, mode=mode)
    for mode in ("bilinear", "bicubic"):
        yield f"{mode} with align_corners=True", lambda c, m=mode: F.interpolate(c.x, size, mode=m, align_corners=True)
        yield f"{mode} with antialias=True", lambda c, m=mode: F.interpolate(c.x, size, mode=m, antialias=True)
    yield "bilinear, whose pixels are counted from the corner (tf.compat.v1)", lambda c: _from_the_corner(c.x, size)


def _from_the_corner(x: torch.Tensor, size: Any) -> torch.Tensor:
    for axis, new in zip((-2, -1), size, strict=True):
        old = x.shape[axis]
        place = torch.arange(new, dtype=x.dtype) * old / new
        low = place.floor().long().clamp(max=old - 1)
        share = (place - low).reshape(-1, *[1] * (-1 - axis))
        x = x.index_select(axis, low) * (1 - share) + x.index_select(axis, (low + 1).clamp(max=old - 1)) * share
    return x


# ---- attention


enter(
    "L24",
    "masked_fill where",
    "the port's mask {}",
    "Keras's attention_mask is True where it attends; PyTorch's masks are the opposite",
    lambda c: [(said, lambda c, m=m: _masked(c, m)) for said, m in _masks(c)],
    inside=False,
)


def _masks(call: Call) -> Iterator[tuple[str, torch.Tensor]]:
    mask = call["mask"] if call.name == "masked_fill" else call["condition"]
    yield "is the opposite", ~mask
    yield "masks nothing", torch.zeros_like(mask) if call.name == "masked_fill" else torch.ones_like(mask)
    if mask.dim() >= 2:
        square = torch.ones(mask.shape[-2:], dtype=torch.bool, device=mask.device)
        for said, causal in (
            ("is causal", square.tril()),
            ("is causal without the diagonal", square.tril(-1)),
            ("lets one step of the future through", square.tril(1)),
            ("is upside down", square.triu()),
        ):
            yield said, (~causal if call.name == "masked_fill" else causal).expand(mask.shape)
        yield "has queries and keys exchanged", mask.transpose(-1, -2)


def _masked(call: Call, mask: torch.Tensor) -> torch.Tensor:
    if call.name == "where":
        return call.again(condition=mask)
    value = call.get("value")
    low = torch.finfo(call.x.dtype).min / 2 if isinstance(value, float) and math.isinf(value) else value
    return call.again(mask=mask, value=low)


@mistake(
    FUNCTIONS,
    "L24",
    "add iadd baddbmm",
    "the port's mask {}",
    "Keras's attention_mask is True where it attends",
    inside=False,
)
def added_mask(call: Call) -> Changes:
    value = next((v for v in call.args if isinstance(v, torch.Tensor) and torch.isinf(v).any()), None)
    if value is None:
        return
    place = next(n for n, v in enumerate(call.args) if v is value)
    masked = torch.isinf(value)
    square = torch.ones(masked.shape[-2:], dtype=torch.bool, device=masked.device)
    options = {
        "is the opposite": ~masked,
        "masks nothing": torch.zeros_like(masked),
        "is causal": ~square.tril(),
        "is upside down": ~square.triu(),
        "is causal the other way": ~square.triu(),
        "has queries and keys exchanged": masked.transpose(-1, -2),
        "is the opposite, and causal": ~masked | ~square.tril(),
        "is causal, too": masked | ~square.tril(),
        "lets one step of the future through": ~square.tril(1),
        "hides the step itself": ~square.tril(-1),
    }
    keys = masked.all(-2, keepdim=True).expand(masked.shape)  # what no query sees: the padding
    options |= {
        "leaves the padding out": masked & ~keys,
        "is the padding alone": keys,
        "has the opposite for the padding": (masked & ~keys) | ~keys,
        "is the padding's opposite": ~keys,
        "is upside down, beside the padding": keys | ~square.triu(),
    }
    for causal, said in ((square.tril(), "causal"), (square.triu(), "upside down")):
        rest = (masked & causal).any(-2, keepdim=True).expand(masked.shape)  # the padding, beside a causal mask
        options |= {
            f"leaves the padding out of a mask that is {said}": ~causal,
            f"has the opposite for the padding, and is {said}": ~causal | ~rest,
            f"is {said}, beside the padding": ~causal | rest,
            f"is the padding alone, for {said}": rest,
        }
    for said, mask in options.items():

        def change(c: Call, mask: torch.Tensor = mask) -> torch.Tensor:
            args = list(c.args)
            args[place] = torch.where(mask, torch.finfo(value.dtype).min / 2, 0.0).to(value).expand(value.shape)
            return c.function(*args, **c.kwargs)

        yield said, change, "L24" if "opposite" in said or "the other way" in said or "leaves" in said else ""


@mistake(
    FUNCTIONS, "", "mul div truediv rmul rdiv imul idiv", "the port {}", "port: the original's factor", inside=False
)
def factor(call: Call) -> Changes:
    numbers = [value for value in call.args[1:] if isinstance(value, int | float)]
    if numbers:
        yield (
            f"has no factor {numbers[0]:.6g}" if "mul" in call.name else f"does not divide by {numbers[0]:.6g}",
            lambda c: c.x * 1,
        )
        inverse = (lambda c: c.x / numbers[0]) if "mul" in call.name else (lambda c: c.x * numbers[0])
        yield "has the inverse of the factor", inverse
        yield "has the factor's square", lambda c: c.result() * (c.result() / c.x).nan_to_num(0)
    for size in sorted({n for n in call.x.shape if n > 1}):
        yield f"multiplies by the root of {size}, too", lambda c, n=size: c.result() * n**0.5
        yield f"divides by the root of {size}, too", lambda c, n=size: c.result() / n**0.5
        yield f"divides by the root of {size} instead", lambda c, n=size: c.x / n**0.5
        yield f"divides by {size} instead", lambda c, n=size: c.x / n


# ---- axes and order


@mistake(
    FUNCTIONS,
    "L3",
    "flatten reshape view",
    "the port flattens {}",
    "weight.reshape(out, C, H, W).permute(0, 2, 3, 1).reshape(out, -1), for the layer that follows",
    inside=False,
)
def flattening(call: Call) -> Changes:
    x, shape = call.x, call.result().shape
    for axes in permutations(range(1, x.dim())):
        if axes != tuple(range(1, x.dim())) and x.dim() <= 4:
            yield (
                f"in the order {(0, *axes)}",
                lambda c, axes=axes: c.x.permute(0, *axes).reshape(shape),
                "L3" if axes == (*range(2, x.dim()), 1) else "",
            )


@mistake(
    FUNCTIONS,
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
enter(
    "",
    "matmul bmm mm baddbmm",
    "the port {}",
    "port: the original's order of axes",
    lambda c: [
        ("has the second factor transposed", lambda c: c.args[0] @ c.args[1].transpose(-1, -2)),
        ("has the first factor transposed", lambda c: c.args[0].transpose(-1, -2) @ c.args[1]),
        ("has queries and keys exchanged", lambda c: c.result().transpose(-1, -2), "L24b"),
    ],
)


@mistake(
    FUNCTIONS,
    "S5",
    "add sub radd rsub iadd mul",
    "the port has no constant of the Gaussian density",
    "log(2 pi) / 2",
    inside=False,
)
def constant(call: Call) -> Changes:
    for value in call.args[1:]:
        share = abs(float(value)) / math.log(2 * math.pi) if isinstance(value, int | float) else 0
        if any(abs(share * n - round(share * n)) < 1e-9 and share > 0 for n in (1, 2)):
            yield "", lambda c: c.args[0] * 1


@mistake(
    FUNCTIONS,
    "T4",
    "repeat_interleave repeat tile expand",
    "the port {}",
    "torch: repeat_interleave is np.repeat, repeat is np.tile",
)
def repeats(call: Call) -> Changes:
    x, shape = call.x, call.result().shape
    for axis in range(x.dim()):
        if shape[axis] != x.shape[axis] and shape[axis] % x.shape[axis] == 0:
            many = shape[axis] // x.shape[axis]
            yield "tiles, entries after one another", lambda c, a=axis, n=many: torch.cat([c.x] * n, a)
            yield "repeats each entry", lambda c, a=axis, n=many: c.x.repeat_interleave(n, a)


@mistake(FUNCTIONS, "", "getitem select", "the port takes {}", "port: the original's entry", inside=False)
def entry(call: Call) -> Changes:
    x, shape = call.x, call.result().shape
    for axis in range(1, x.dim()):
        if tuple(n for k, n in enumerate(x.shape) if k != axis) == tuple(shape):
            for said, place in (("the last entry", -1), ("the first entry", 0)):
                yield f"{said} of axis {axis}", lambda c, a=axis, p=place: c.x.select(a, p)
            yield f"the mean over axis {axis}", lambda c, a=axis: c.x.mean(a)


@mistake(
    FUNCTIONS,
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


# ---- reductions


enter(
    "S6",
    "var std",
    "the port divides by {}",
    "torch.var(x, correction=0)",
    lambda c: [("n", lambda c: _moment(c, 0)), ("n - 1", lambda c: _moment(c, 1))],
)


def _moment(call: Call, correction: int) -> torch.Tensor:
    dims = call.get("dim")
    dims = None if isinstance(dims, bool) else dims
    kept = call.result().dim() == call.x.dim()
    return getattr(torch, call.name)(call.x, dim=dims, correction=correction, keepdim=kept)


@mistake(
    FUNCTIONS, "", "mean sum amax amin logsumexp nanmean", "the port {}", "port: the original's reduction and axes"
)
def reduction(call: Call) -> Changes:
    kept, dim = call.result().dim() == call.x.dim(), call.get("dim")
    for other in ("mean", "sum", "amax", "logsumexp"):
        if other != call.name:
            dims = dim if dim is not None else tuple(range(call.x.dim()))
            yield f"takes the {other}", lambda c, o=other, d=dims: getattr(torch, o)(c.x, dim=d, keepdim=kept)
    for axis in range(call.x.dim()):
        yield f"is over axis {axis}", lambda c, a=axis: getattr(torch, c.name)(c.x, dim=a, keepdim=kept)
    row = "S3" if call.result().dim() == 0 else ""
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

# ---- gradients alone

enter(
    "",
    "detach data",
    "the port lets the gradient through where the original stops it",
    "tf.stop_gradient in the port",
    lambda c: [("", lambda c: c.x * 1)],
    backward=True,
)
enter(
    "",
    ANY,
    "the port stops the gradient behind this operation: tf.stop_gradient, .numpy() or a variable that is read",
    "port: let the gradient through",
    lambda c: [("", lambda c: _detached(c.result()))],
    backward=True,
)


def _detached(result: Any) -> Any:
    return result.detach() if isinstance(result, torch.Tensor) else type(result)(part.detach() for part in result)


def _let_through(call: Call) -> list:
    """The same result, with the gradient of the identity."""
    return [("", lambda c: c.x + (c.result() - c.x).detach())]


enter(
    "",
    "relu relu6 clamp hardtanh",
    "the port lets the gradient through where the original cuts",
    "port: tf.nn.relu",
    _let_through,
    backward=True,
)
enter(
    "G13",
    "round floor ceil sign",
    "the port lets the gradient through",
    "y = x + tf.stop_gradient(tf.round(x) - x), in both",
    _let_through,
    backward=True,
)
