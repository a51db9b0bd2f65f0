"""Mistakes in what flows where: an operation that reads another value, other weights, gradients that stop."""

from typing import Any

import torch

from portparity.causes.calls import Call, Changes, enter, mistake
from portparity.records.torch_functions import tensors

NEAREST = 16  # values before a call that it may have been meant to read


def _value(call: Call, tensor: Any) -> int:
    return call.numbers.get(id(tensor), -1)


def _said(call: Call, number: int) -> str:
    value = call.recorder.recording.values[number]
    made = call.recorder.recording.operations[value.source] if value.source >= 0 else None
    return f"the result of {made}" if made else value.name or "a constant"


def _others(call: Call, own: int) -> list[int]:
    # values of the same shape that were there already, the nearest ones first
    recording = call.recorder.recording
    until = min(recording.operations[call.number].outputs, default=0)
    alike = [
        number
        for number, value in enumerate(recording.values[:until])
        if number != own
        and value.array.shape == recording.values[own].array.shape
        and value.array.dtype.kind == "f"
        and (value.source >= 0 or value.name.startswith("input"))
    ]
    return sorted(alike, key=lambda number: abs(number - own))[:NEAREST]


@mistake("", "*", "the port reads {} instead", "port: read what the original reads", guess=True, alone=True)
def another_value(call: Call) -> Changes:
    values = call.recorder.recording.values
    for name, given in call.given.items():
        for place, tensor in enumerate(given if isinstance(given, list | tuple) else [given]):
            own = _value(call, tensor)
            if own < 0 or values[own].array.ndim == 0 or values[own].name in call.recorder.recording.parameters:
                continue
            for number in _others(call, own):

                def change(c: Call, name: str = name, place: int = place, number: int = number) -> Any:
                    new = c.recorder.kept[number].clone()  # that may be written to
                    if isinstance(c[name], list | tuple):
                        new = type(c[name])([*c[name][:place], new, *c[name][place + 1 :]])
                    return c.again(**{name: new})

                yield f"{_said(call, number)}, not {_said(call, own)},", change


def _weights(call: Call) -> dict[str, Any]:
    parameters = call.recorder.recording.parameters
    named = {key: name for key, name in call.recorder.names.items() if name in parameters}
    found = {name: list(tensors(given)) for name, given in call.given.items()}
    return {name: call[name] for name, parts in found.items() if parts and all(named.get(id(t)) for t in parts)}


@mistake(
    "", "*", "the port has the weights of {} here", "port: copy each layer's own weights", alone=True, inside=False
)
def another_layer(call: Call) -> Changes:
    own = _weights(call)
    for number, operation in enumerate(call.recorder.recording.operations):
        if own and operation.name == call.name and number != call.number:
            theirs = _weights(Call(call.name, *call.recorder.calls[number], call.recorder, number))
            shapes = [{n: [t.shape for t in tensors(w)] for n, w in weights.items()} for weights in (own, theirs)]
            if shapes[0] == shapes[1] and any(own[name] is not theirs[name] for name in own):
                theirs = {n: w.clone() if n.startswith("running") else w for n, w in theirs.items()}
                yield operation.where or "another call", lambda c, theirs=theirs: c.again(**theirs)


# ---- gradients

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
enter(
    "",
    "*",
    "the port stops the gradient to {}",
    "port: let the gradient through",
    lambda c: [
        (f"{_said(c, n)}", lambda c, name=name: c.again(**{name: c[name].detach()}))
        for name, tensor in c.given.items()
        if (n := _value(c, tensor)) >= 0 and tensor.requires_grad and not tensor.is_leaf
    ],
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
