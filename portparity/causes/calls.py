"""A PyTorch call with its arguments by name, to be made again with others; and the table of known mistakes."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from portparity.records.torch_functions import tensors

SIGNATURES = {  # of functions that are written in C
    "conv1d conv2d conv3d": "input weight bias stride padding dilation groups",
    "conv_transpose1d conv_transpose2d conv_transpose3d": (
        "input weight bias stride padding output_padding groups dilation"
    ),
    "linear": "input weight bias",
    "gelu": "input approximate",
    "dropout dropout1d dropout2d dropout3d alpha_dropout": "input p training inplace",
    "softplus": "input beta threshold",
    "max_pool1d max_pool2d max_pool3d": "input kernel_size stride padding dilation ceil_mode return_indices",
    "avg_pool1d avg_pool2d avg_pool3d": "input kernel_size stride padding ceil_mode count_include_pad divisor_override",
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d": "input output_size",
    "lstm gru rnn_tanh rnn_relu": "input hx params has_biases num_layers dropout training bidirectional batch_first",
    "lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell": "input hx w_ih w_hh b_ih b_hh",
    "prelu": "input weight",
    "pixel_shuffle pixel_unshuffle": "input factor",
    "cat concat stack": "tensors dim",
    "softmax log_softmax mean sum var std amax amin max min cumsum logsumexp argmax": "input dim keepdim",
    "masked_fill": "input mask value",
    "where": "condition input other",
    "transpose": "input dim0 dim1",
    "flatten": "input start_dim end_dim",
    "clamp": "input min max",
    "gather": "input dim index",
    "histc": "input bins min max",
    "tril triu": "input diagonal",
    "cosine_similarity": "x1 x2 dim eps",
    "unsqueeze squeeze": "input dim",
    "split chunk": "input size dim",
    "flip roll": "input shifts dims",
    "pow": "input exponent",
    "einsum": "equation *operands",
}
NAMES = {name: text.split() for names, text in SIGNATURES.items() for name in names.split()}


class Call:
    """One call of a function: ``call["eps"]`` is an argument, ``call.again(eps=1e-3)`` its result with another.

    ``recorder`` has seen the call, as operation ``number``: its other values can be had from there.
    """

    def __init__(
        self, name: str, function: Callable, args: tuple, kwargs: dict, recorder: Any = None, number: int = -1
    ) -> None:
        self.name, self.function, self.args, self.kwargs = name, function, args, kwargs
        self.recorder, self.number = recorder, number
        names = NAMES.get(name) or _parameters(function) or ["input", "other"]
        self.names = names + [str(n) for n in range(len(names), len(args))]
        self.given = dict(zip(self.names, args, strict=False)) | kwargs

    def __getitem__(self, name: str) -> Any:
        return self.given[name]

    def get(self, name: str, default: Any = None) -> Any:
        """An argument, or the default if it was not given."""
        return self.given.get(name, default)

    @property
    def x(self) -> torch.Tensor:
        """The first tensor that was given."""
        return next(value for value in self.given.values() if isinstance(value, torch.Tensor))

    @property
    def numbers(self) -> dict[int, int]:
        """The recording's numbers of the tensors that were given, by id."""
        read = self.recorder.recording.operations[self.number].inputs
        return dict(zip(map(id, tensors((self.args, self.kwargs))), read, strict=True))

    @property
    def in_loss(self) -> bool:
        """Whether the loss made the call, not the model."""
        return self.recorder.recording.operations[self.number].where == "loss"

    def again(self, **changes: Any) -> Any:
        """The result with some arguments changed."""
        args = [changes.pop(name, value) for name, value in zip(self.names, self.args, strict=False)]
        return self.function(*args, **{**self.kwargs, **changes})

    def over(self, **changes: Any) -> "Call":
        """The call with some arguments changed."""
        given = self.given | changes
        return Call(self.name, self.function, (), {n: given[n] for n in self.given}, self.recorder, self.number)

    def result(self) -> Any:
        """The result as it was."""
        return self.function(*self.args, **self.kwargs)

    def through(self, function: Callable[["Call"], Any]) -> "Call":
        """The call with its function replaced by a change of it: what changes this call then changes both."""

        def changed(*args: Any, **kwargs: Any) -> Any:
            return function(Call(self.name, self.function, args, kwargs, self.recorder, self.number))

        return Call(self.name, changed, self.args, self.kwargs, self.recorder, self.number)


def _parameters(function: Callable) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


Change = Callable[[Call], Any]
Changes = Iterator[tuple[Any, Change]]


@dataclass
class Mistake:
    """A known mistake in a port: how it shows as an edit of the original's call, and what to do about it.

    ``changes(call)`` yields the value that the texts name, a function from the call to the port's result, and, where
    values differ in it, the row.
    """

    row: str  # of the catalogue of divergences; "" if it is no default of either framework
    on: set[str]  # names of functions
    says: str  # what the port does, with {} for the value
    remedy: str
    changes: Callable[[Call], Iterator[tuple[Any, Change]]]
    inside: bool = True  # whether the edited call's own result is in the port; if not, only what follows from it
    guess: bool = False  # one of very many: tried only where the port has the edited call's own result
    alone: bool = False  # not tried together with another mistake in the same call
    backward: bool = False  # changes gradients only
    harmless: bool = False  # true of a correct port too: a note


MISTAKES: list[Mistake] = []


def mistake(row: str, on: str, says: str, remedy: str, **kinds: bool) -> Callable:
    """Enter the function of changes that this decorates into the table."""

    def entered(changes: Callable) -> Callable:
        enter(row, on, says, remedy, changes, **kinds)
        return changes

    return entered


def enter(row: str, on: str, says: str, remedy: str, changes: Callable, **kinds: bool) -> None:
    """Enter a known mistake into the table; ``on`` are the functions' names, or "*" for any."""
    MISTAKES.append(Mistake(row, set(on.split()), says, remedy, changes, **kinds))


def others(name: str, values: tuple, default: Any = None) -> Callable[[Call], Iterator[tuple[Any, Change]]]:
    """Changes of one argument to each of several values."""

    def changes(call: Call) -> Iterator[tuple[Any, Change]]:
        for value in values:
            if value != call.get(name, default):
                for exact in dict.fromkeys((value, float(np.float32(value)) if isinstance(value, float) else value)):
                    yield value, lambda c, exact=exact: c.again(**{name: exact})

    return changes
