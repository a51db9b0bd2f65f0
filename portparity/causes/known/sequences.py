"""Mistakes in embeddings and recurrent layers."""

from itertools import permutations

import torch

from portparity.causes.calls import Call, Change, Changes, enter, mistake
from portparity.causes.recurrent import run
from portparity.records.torch_functions import hardsigmoid


@mistake("", "embedding", "the port {}", "give both the same indices, and the same table")
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


@mistake(
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
        if kind == "lstm":
            said += ", and only bias_ih"
            yield f"has the gates in the order {said}", lambda c, o=order: run(c, order=o, without=["b_hh"]), row
    yield "has only bias_ih", lambda c: run(c, without=["b_hh"]), row if kind == "lstm" else ""
    yield "has only bias_hh", lambda c: run(c, without=["b_ih"]), row if kind == "lstm" else ""
    yield "has no bias", lambda c: run(c, without=["b_ih", "b_hh"]), ""
    yield "adds 1 to the forget gate's bias", lambda c: run(c, forget=1.0), "L17c"
    yield "uses a hard sigmoid in the gates", lambda c: run(c, gate=hardsigmoid), ""
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


@mistake("", "lstm gru rnn_tanh rnn_relu", "the port {}", "copy each direction's and layer's own weights")
def arrangement(call: Call) -> Changes:
    each, both = 4 if call["has_biases"] else 2, 1 + bool(call["bidirectional"])
    groups = [list(call["params"][k : k + each]) for k in range(0, len(call["params"]), each)]
    if each == 4:
        yield "has bias_ih and bias_hh exchanged", _weights([[w, u, c, b] for w, u, b, c in groups])
    if both == 2:
        yield "has the forward weights in both directions", _weights([groups[k - k % 2] for k in range(len(groups))])
        yield "has the backward weights in both directions", _weights([groups[k | 1] for k in range(len(groups))])
        yield "has the directions' weights exchanged", _weights([groups[k ^ 1] for k in range(len(groups))])
        yield "joins backward before forward", _backward_first
    if len(groups) > both:
        yield "has the first layer's weights in the last", _weights([*groups[:-both], *groups[:both]])


def _weights(groups: list[list[torch.Tensor]]) -> Change:
    return lambda c: c.again(params=[tensor for group in groups for tensor in group])


def _backward_first(call: Call) -> tuple[torch.Tensor, ...]:
    output, *states = call.result()
    turned = [state.unflatten(0, (-1, 2)).flip(1).flatten(0, 1) for state in states]
    return torch.cat(output.chunk(2, -1)[::-1], -1), *turned


@mistake("L18b", "gru gru_cell", "the port {}", "keras.layers.GRU(reset_after=True); h = (1 - z) n + z h")
def reset(call: Call) -> Changes:
    yield "resets the state before the product: reset_after=False", lambda c: run(c, reset_after=False)
    yield "adds both biases before the reset gate", lambda c: run(c, joined=True)
    yield (
        "resets the state before the product, with both biases in one",
        lambda c: run(c, reset_after=False, joined=True),
    )
    yield "has z and 1 - z exchanged", lambda c: run(c, mixed=True), ""
