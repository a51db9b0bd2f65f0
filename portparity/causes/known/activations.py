"""Mistakes in activations and dropout."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from portparity.causes.calls import Call, Changes, enter, mistake, others
from portparity.records.torch_functions import hardsigmoid, kept_whole, together

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
    "hard sigmoid (x / 6 + 0.5)": hardsigmoid,
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

SINGLE = float(np.float32(0.5**0.5)), float(np.float32(0.044715))


def _tanh_of_singles(call: Call) -> torch.Tensor:
    return 0.5 * call.x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (call.x + SINGLE[1] * call.x**3)))


enter(
    "L9b",
    "gelu",
    "the port has {}",
    'keras.activations.gelu(x, approximate=False), and True for "tanh"',
    lambda c: [
        *((n, lambda c, n=n: ACTIVATIONS[n](c.x)) for n in list(ACTIVATIONS)[:3]),
        ("gelu, the root of 1/2 rounded to float32", lambda c: c.x * torch.erfc(-c.x * SINGLE[0]) / 2, "L9"),
        ("gelu by a tanh, 0.044715 rounded to float32", _tanh_of_singles, "L9c"),
    ],
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
    NAMES + " batch_norm layer_norm max_pool2d avg_pool2d normalize detach",
    "the port has no {call.name} here",
    "port: the original's operation",
    lambda c: [("", lambda c: c.x * 1)],
    inside=False,
)


@mistake(
    "",
    "linear conv1d conv2d conv3d add iadd layer_norm batch_norm matmul embedding mul",
    "the port has {} after this",
    "port: no activation there (activation=None)",
    alone=True,
)
def activation_too_many(call: Call) -> Changes:
    for name, function in ACTIVATIONS.items():
        yield name, lambda c, f=function: f(c.result())


@mistake(
    "L14",
    "dropout dropout1d dropout2d dropout3d alpha_dropout",
    "in the port {}",
    "port: Dropout(rate={given[p]}), called with training=True in training and False in prediction",
)
def dropout(call: Call) -> Changes:
    p = call.get("p", 0.5)
    trains = call.get("training", True)
    if trains:  # a function drops in prediction, too
        row = "L14" if call.recorder.drops else ""  # there, but called as in prediction
        yield "dropout does not drop", lambda c: c.x * 1, row if call.recorder.trains else "L14c"
        yield "dropout drops single entries", lambda c: kept_whole(c.x, p), "L26"
        for axes in {tuple(range(2, call.x.dim())), tuple(range(1, call.x.dim() - 1))} - {()}:
            yield "dropout drops whole channels", lambda c, axes=axes: kept_whole(c.x, p, axes), "L26"
        yield f"dropout keeps {p:g} instead of dropping it", lambda c: kept_whole(c.x, 1 - p, together(c.function, c.x))
    for rate in dict.fromkeys((p, 1 - p, *(n / 20 for n in range(1, 20)))):
        if rate < 1 and not (trains and rate == p):
            said = f"dropout's rate is {rate:g}" if trains else f"dropout drops {rate:g} while it predicts"
            row = "L14" if trains else "L14c"
            yield said, lambda c, rate=rate: kept_whole(c.x, rate, together(c.function, c.x)), row


@mistake(
    "L14",
    "linear flatten reshape gelu relu tanh sigmoid silu lstm gru add batch_norm layer_norm max_pool2d embedding",
    "the port has dropout of rate {} after this",
    "port: no dropout there",
    inside=False,
    alone=True,
)
def dropout_too_many(call: Call) -> Changes:
    for rate in (n / 20 for n in range(1, 20)):
        yield rate, lambda c, rate=rate: _dropped(c.result(), rate)


def _dropped(result: Any, rate: float) -> Any:
    return kept_whole(result, rate) if isinstance(result, torch.Tensor) else (kept_whole(result[0], rate), *result[1:])
