"""Recurrent networks: a sentence's class by an LSTM, a sequence by a bidirectional GRU."""

from typing import Any

import keras
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from parity_tests.port_bugs.problem import Bug, Generator, Problem, arrays, dense, function, normal, pair, updates

cross_entropy = keras.losses.SparseCategoricalCrossentropy


class Sentence(nn.Module):
    """Words to a class, by the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(11, 5), nn.LSTM(5, 4, batch_first=True)
        self.head = nn.Linear(4, 4)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        states, _ = self.lstm(self.embedding(words))
        return self.head(states[:, -1])


@pair
def lstm(
    generator: Generator,
    dtype: str,
    *,
    order="ifgo",
    biases="sum",
    forget_bias=0.0,
    mask_zero=False,
    transpose=True,
    bias_rate=2,
    summary="last",
    **settings: Any,
) -> Problem:
    """The biases of PyTorch's LSTM are two; Keras's one is their sum and moves twice as fast."""
    model = Sentence()
    words = keras.Input((7,), dtype="int32")
    embedding = keras.layers.Embedding(11, 5, mask_zero=mask_zero)
    recurrent = keras.layers.LSTM(4, return_sequences=summary == "mean", **settings)
    head = keras.layers.Dense(4)
    states = recurrent(embedding(words))
    port = keras.Model(words, head(function(lambda s: keras.ops.mean(s, 1))(states) if summary == "mean" else states))

    def copy(model: Sentence, port: keras.Model) -> None:
        names = "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"
        gates = [np.split(arrays(model.lstm)[name], 4) for name in names]
        w, u, b, c = (np.concatenate([part["ifgo".index(gate)] for gate in order]) for part in gates)
        bias = {"sum": b + c, "input": b}[biases]
        bias[4:8] += forget_bias
        recurrent.set_weights([w.T, u.T, bias])
        embedding.set_weights([arrays(model)["embedding.weight"]])
        dense(head, model.head, transpose)

    x, y = generator.integers(1, 11, (6, 7)), generator.integers(0, 4, 6)
    x[:3, 5:] = 0
    problem = Problem(model, port, x, y, F.cross_entropy, cross_entropy(from_logits=True, dtype=dtype), copy)
    sgd, port_sgd = torch.optim.SGD(model.parameters(), 0.125), keras.optimizers.SGD(0.125)

    def port_step(gradients: list, variables: list, number: int) -> None:
        pairs = zip(gradients, variables, strict=True)
        doubled = [g * bias_rate if v.path.endswith("lstm_cell/bias") else g for g, v in pairs]
        port_sgd.apply(doubled, variables)

    problem.steps = updates(problem, lambda number: sgd.step(), port_step)
    return problem


class Sequence(nn.Module):
    """A sequence to a sequence, read in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(3, 4, batch_first=True, bidirectional=True), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, _ = self.gru(x)
        return self.head(torch.tanh(states))


@pair
def gru(
    generator: Generator,
    dtype: str,
    *,
    order="zrn",
    reset_after=True,
    turn_back=True,
    biases="both",
    both="",
    swap=False,
    **settings: Any,
) -> Problem:
    """Gates are in another order, and the candidate's two biases are on either side of the reset gate."""
    model = Sequence()
    x = keras.Input((6, 3))
    layers = [
        keras.layers.GRU(4, return_sequences=True, reset_after=reset_after, go_backwards=back, **settings)
        for back in (False, True)
    ]
    forward, backward = (layer(x) for layer in layers)
    backward = function(lambda s: keras.ops.flip(s, 1))(backward) if turn_back else backward
    states = keras.layers.Concatenate()([backward, forward] if swap else [forward, backward])
    head = keras.layers.Dense(2)
    port = keras.Model(x, head(keras.layers.Activation("tanh")(states)))

    def copy(model: Sequence, port: keras.Model) -> None:
        for layer, suffix in zip(layers, ("", both or "_reverse"), strict=True):
            suffix = "" if both == "forward" else suffix
            names = (f"{name}_l0{suffix}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            gates = (np.split(arrays(model.gru)[name], 3) for name in names)
            w, u, b, c = (np.concatenate([part["rzn".index(gate)] for gate in order]) for part in gates)
            pairs = {"both": [b, c], "swapped": [c, b], "first": [b, 0 * c], "sum": [b + c, 0 * c]}[biases]
            layer.set_weights([w.T, u.T, np.stack(pairs) if reset_after else b + c])
        dense(head, model.head)

    data = normal(generator, dtype, 5, 6, 3), normal(generator, dtype, 5, 6, 2)
    return Problem(model, port, *data, F.mse_loss, keras.losses.MeanSquaredError(dtype=dtype), copy)


BUGS = (
    Bug(lstm, {"order": "igfo"}, "the gates of another library: i, g, f, o", "lstm: lstm", "L17"),
    Bug(lstm, {"biases": "input"}, "the second bias forgotten", "lstm: lstm", "L17"),
    Bug(lstm, {"forget_bias": 1.0}, "1 added to the forget gate's bias", "lstm: lstm", "L17c"),
    Bug(lstm, {"recurrent_activation": "hard_sigmoid"}, "gates by a hard sigmoid", "lstm: lstm"),
    Bug(lstm, {"activation": "relu"}, "ReLU for the states", "lstm: lstm"),
    Bug(lstm, {"go_backwards": True}, "read from the end", "lstm: lstm"),
    Bug(lstm, {"mask_zero": True}, "padding masked, which PyTorch's LSTM reads", "lstm: lstm"),
    Bug(lstm, {"summary": "mean"}, "the mean state for the last", ": getitem"),
    Bug(lstm, {"transpose": False}, "a square dense kernel untransposed", "head: linear", "L2"),
    Bug(lstm, {"bias_rate": 1}, "the one bias moves like one of two", "training", "L17b"),
    Bug(gru, {"order": "rzn"}, "PyTorch's order of the gates", "gru: gru", "L18"),
    Bug(gru, {"reset_after": False}, "the reset gate before the product", "gru: gru", "L18b"),
    Bug(gru, {"biases": "swapped"}, "the two biases exchanged", "gru: gru"),
    Bug(gru, {"biases": "first"}, "the recurrent bias forgotten", "gru: gru"),
    Bug(gru, {"biases": "sum"}, "both biases before the reset gate", "gru: gru", "L18b"),
    Bug(gru, {"turn_back": False}, "the backward states not turned back in time", "gru: gru"),
    Bug(gru, {"both": "forward"}, "the forward weights in both directions", "gru: gru"),
    Bug(gru, {"swap": True}, "backward before forward", "gru: gru"),
    Bug(gru, {"recurrent_activation": "hard_sigmoid"}, "gates by a hard sigmoid", "gru: gru"),
)
