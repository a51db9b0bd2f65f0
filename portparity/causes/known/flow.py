"""Mistakes in what flows where: gradients that stop, or do not."""

from typing import Any

import torch

from portparity.causes.calls import Call, enter

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
    "*",
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
