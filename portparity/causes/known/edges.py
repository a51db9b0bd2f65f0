"""Functions of one name that do two things, and gradients at kinks, ties and zeros."""

import math
from typing import Any

import torch

from portparity.causes.calls import Call, Change, Changes, enter, mistake
from portparity.records.torch_functions import tensors


def _enter(row: str, on: str, says: str, remedy: str, change: Change, **kinds: bool) -> None:
    enter(row, on, says, remedy, lambda c: [("", change)], **kinds)


def _first_ones(call: Call) -> torch.Tensor:
    return torch.tensor(list(dict.fromkeys(call.x.ravel().tolist())), dtype=call.x.dtype)


def _all_columns(call: Call) -> torch.Tensor:
    x, dim, index = (call[name] for name in ("input", "dim", "index"))
    return x.index_select(dim, index.ravel()).reshape(*x.shape[:dim], *index.shape, *x.shape[dim + 1 :])


_enter("T1", "argmax", "the port's argmax is over axis 0", "name the axis in both", lambda c: c.again(dim=0))
_enter(
    "R4",
    "argmax",
    "the port's argmax passes NaN over",
    "look for NaN before",
    lambda c: c.again(input=c.x.nan_to_num(nan=-math.inf)),
)
_enter(
    "T3", "median", "the port takes the mean of the middle two", "torch.quantile(x, 0.5)", lambda c: c.x.quantile(0.5)
)
_enter(
    "T5", "gather", "the port gathers all columns for every row", "tf.gather(x, i, axis=1, batch_dims=1)", _all_columns
)
_enter("T6", "unique", "the port's unique is not sorted", "tf.sort(tf.unique(labels).y)", _first_ones)
_enter(
    "T7",
    "histc",
    "the port counts outliers into the end bins",
    "x[(x >= 0) & (x <= 1)] in the port",
    lambda c: c.again(input=c.x.clamp(c["min"], c["max"])),
)
_enter(
    "T8",
    "erfinv",
    "the port's erfinv goes by way of (x + 1) / 2",
    "tf.math.ndtri of a number in (0, 1)",
    lambda c: torch.special.ndtri((c.x + 1) / 2) / math.sqrt(2),
)
_enter("S6b", "cov", "the port's covariance is over n", "torch.cov(x, correction=0)", lambda c: c.again(correction=0))
_enter(
    "G4",
    "logdet",
    "the port's log determinant is of the lower triangle, by Cholesky",
    "symmetrise first: 0.5 * (a + a.T)",
    lambda c: 2 * torch.linalg.cholesky(_mirrored(c.x)).diagonal(dim1=-2, dim2=-1).log().sum(-1),
)
_enter(
    "G14",
    "cholesky_solve",
    "the port has the factor and the right-hand side exchanged",
    "tf.linalg.cholesky_solve(factor, b)",
    lambda c: c.function(c.args[1], c.args[0], *c.args[2:], **c.kwargs),
)
_enter(
    "G15",
    "linalg_svd svd",
    "the port's last factor is not transposed",
    "tf.transpose(v)",
    lambda c: (*tuple(c.result())[:2], c.result()[2].mT),
    inside=False,
)
_enter(
    "G17",
    "linalg_norm linalg_matrix_norm",
    "the port's norm is the root of the sum of squares",
    "tf.norm(x, ord=2, axis=(0, 1))",
    lambda c: c.x.square().sum().sqrt(),
)
_enter(
    "G19",
    "linalg_pinv pinverse",
    "the port's pseudoinverse drops singular values below 10 D eps",
    "tf.linalg.pinv(a, rcond=D * eps)",
    lambda c: c.again(rtol=10 * max(c.x.shape[-2:]) * torch.finfo(c.x.dtype).eps),
)
enter(
    "G20",
    "mT mH transpose swapaxes",
    "the port reverses all axes",
    "tf.linalg.matrix_transpose(x)",
    lambda c: (
        [("", lambda c: c.x.permute(*reversed(range(c.x.dim()))))]
        if c.x.dim() > 2 and sorted(c.args[1:]) in ([], [-2, -1], [c.x.dim() - 2, c.x.dim() - 1])
        else []
    ),
    inside=False,
)
_enter(
    "G24",
    "digamma",
    "the port's digamma is NaN at 0",
    "keep concentrations above 0",
    lambda c: torch.where(c.x == 0, math.nan, c.result()),
)
enter(
    "R2b",
    "mul add",
    "the port's integers are int32, which wrap around",
    "tf.constant(n, tf.int64)",
    lambda c: (
        []
        if any(t.is_floating_point() for t in tensors(c.args))
        else [("", lambda c: c.function(*(a.int() for a in c.args)).to(c.x.dtype))]
    ),
)
_enter(
    "R5",
    "exp",
    "the port makes numbers below the smallest normal one zero",
    "stay in log space: log_softmax",
    lambda c: torch.where(c.result() < torch.finfo(c.x.dtype).tiny, 0.0, c.result()),
)


@mistake("G12", "div truediv", "the port's {}", "divide by n plus ten epsilons, in both")
def quotients(call: Call) -> Changes:
    x, n = call.args
    if not torch.is_floating_point(torch.as_tensor(x)):
        yield "quotient of integers is float64", lambda c: c.args[0].double() / c.args[1], "R3"
    elif torch.any(torch.as_tensor(n) == 0):
        yield "quotient by zero is zero: divide_no_nan", lambda c: torch.where(torch.as_tensor(n) == 0, 0.0, c.result())


# ---- gradients


def _mirrored(a: torch.Tensor) -> torch.Tensor:
    return a.tril() + a.tril(-1).mT


def _shared(call: Call) -> Any:
    values, places = call.result()
    return torch.return_types.max((call.x.amax(call["dim"], keepdim=values.dim() == call.x.dim()), places))


def _nan_where(call: Call, where: torch.Tensor) -> torch.Tensor:
    x = call.x * 1
    if x.requires_grad:
        x.register_hook(lambda gradient: torch.where(where, math.nan, gradient))
    return call.again(**{call.names[0]: x})


_enter(
    "G2",
    "linalg_eigvalsh linalg_eigh",
    "the port's gradient is all in the lower triangle",
    "(gradient + tf.transpose(gradient)) / 2",
    lambda c: c.function(_mirrored(c.x), *c.args[1:], **c.kwargs),
    backward=True,
)
_enter(
    "G8",
    "linalg_vector_norm norm",
    "the port's norm has the gradient NaN at zero",
    "tf.sqrt(tf.reduce_sum(x**2) + 1e-12)",
    lambda c: c.x.square().sum().sqrt(),
    backward=True,
)
_enter(
    "G8b",
    "std",
    "the port's deviation of a constant has the gradient NaN",
    "tf.sqrt(tf.math.reduce_variance(x) + 1e-12)",
    lambda c: torch.var(c.x, *c.args[1:], **c.kwargs).sqrt(),
    backward=True,
)
_enter(
    "G9",
    "maximum",
    "the port passes the whole gradient on at a tie",
    "torch.clamp(x, min=c)",
    lambda c: torch.where(c.args[0] >= c.args[1], c.args[0], c.args[1]),
    backward=True,
)
_enter("G10", "max", "the port shares the gradient among equal ones", "torch.amax(x, dim)", _shared, backward=True)
_enter(
    "G11",
    "xlogy",
    "the port's slope in y is 0 where x is 0",
    "x * log(where(x > 0, y, 1))",
    lambda c: c.args[0] * torch.where(c.args[0] != 0, c.args[1], 1.0).log(),
    backward=True,
)
_enter(
    "G21",
    "pow",
    "the port's gradient of 0 to the power 0 is NaN",
    "tf.where(k > 0, x, 1.0) ** k",
    lambda c: _nan_where(c, (c.args[0] == 0) & (torch.as_tensor(c.args[1]) == 0)),
    backward=True,
)
