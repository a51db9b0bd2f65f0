"""Attention: several heads with two masks, an encoder's block, and rotary attention with a gated network."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F
from torch import nn

from parity_tests.port_bugs.problem import Bug, Generator, Problem, arrays, dense, function, normal, pair

SQUARED = keras.losses.MeanSquaredError


def copy_attention(module: nn.MultiheadAttention, layer: Any, parts: str = "qkv", heads_first: bool = True) -> None:
    """Split the packed projections; a head is a block of PyTorch's rows."""
    packed, bias, output, output_bias = arrays(module).values()
    heads, size = module.num_heads, module.head_dim
    values = []
    for part in parts:
        rows = slice("qkv".index(part) * heads * size, ("qkv".index(part) + 1) * heads * size)
        if heads_first:
            values += [packed[rows].T.reshape(-1, heads, size), bias[rows].reshape(heads, size)]
        else:
            values += [packed[rows].T.reshape(-1, size, heads).swapaxes(1, 2), bias[rows].reshape(size, heads).T]
    layer.set_weights([*values, output.T.reshape(heads, size, -1), output_bias])


class Attending(nn.Module):
    """Causal attention over tokens of which some are padding."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        attended, _ = self.attention(x, x, x, key_padding_mask=padding, attn_mask=later, need_weights=False)
        return self.head(x + attended)


@pair
def attention(
    generator: Generator,
    dtype: str,
    *,
    kept="tokens",
    causal="past",
    residual=True,
    parts="qkv",
    heads_first=True,
    key_dim=4,
    transpose=True,
) -> Problem:
    """PyTorch's masks say what is left out, Keras's what is kept."""
    model = Attending()
    x, padding = keras.Input((5, 8)), keras.Input((5,), dtype="bool")
    layer, head = keras.layers.MultiHeadAttention(2, key_dim), keras.layers.Dense(3)

    def mask(padding: tf.Tensor) -> tf.Tensor:
        keep = padding if kept == "padding" else tf.logical_not(padding)
        order = tf.ones((5, 5), tf.bool)
        past = {"past": np.tril, "future": np.triu, "strict": lambda a: np.tril(a, -1), "none": lambda a: a}[causal]
        order = tf.constant(past(np.ones((5, 5), bool)))
        return order[None] if kept == "all" else keep[:, None, :] & order

    attended = layer(x, x, attention_mask=function(mask, output_shape=(5, 5))(padding))
    port = keras.Model([x, padding], head(keras.layers.Add()([x, attended]) if residual else attended))

    def copy(model: Attending, port: keras.Model) -> None:
        copy_attention(model.attention, layer, parts, heads_first)
        dense(head, model.head)

    absent = np.zeros((4, 5), bool)
    absent[1, 4] = absent[2, 3:] = True
    x, y = normal(generator, dtype, 4, 5, 8), normal(generator, dtype, 4, 5, 3)
    return Problem(model, port, (x, absent), y, F.mse_loss, SQUARED(dtype=dtype), copy)


@pair
def encoder(
    generator: Generator,
    dtype: str,
    *,
    epsilon=1e-5,
    activation=None,
    norm_first=True,
    one_norm=False,
    residual="input",
    dropped=False,
    scale=1.0,
) -> Problem:
    """A block of a transformer's encoder that normalises first, and predicts."""
    model = nn.TransformerEncoderLayer(8, 2, 12, 0.1, "gelu", batch_first=True, norm_first=True).eval()
    x = keras.Input((5, 8))
    norms = [keras.layers.LayerNormalization(epsilon=epsilon) for _ in range(2)]
    layer, wide, narrow = (
        keras.layers.MultiHeadAttention(2, 4, dropout=0.1),
        keras.layers.Dense(12),
        keras.layers.Dense(8),
    )
    gelu = function(activation or (lambda h: h * 0.5 * (1 + tf.math.erf(h / 2**0.5))))
    drops = [keras.layers.Dropout(0.1) for _ in range(3)]
    normed = norms[0](x) if norm_first else x
    h = keras.layers.Add()([normed if residual == "normed" else x, drops[0](layer(normed, normed))])
    h = h if norm_first else norms[0](h)
    inner = gelu(wide(norms[1](h) if norm_first else h))
    inner = drops[2](narrow(drops[1](inner, training=True) if dropped else drops[1](inner)))
    out = keras.layers.Add()([h, function(lambda a: a * scale)(inner) if scale != 1 else inner])
    port = keras.Model(x, out if norm_first else norms[1](out))

    def copy(model: nn.Module, port: keras.Model) -> None:
        copy_attention(model.self_attn, layer)
        for norm, module in zip(norms, (model.norm1, model.norm1 if one_norm else model.norm2), strict=True):
            norm.set_weights([*arrays(module).values()])
        dense(wide, model.linear1)
        dense(narrow, model.linear2)

    data = normal(generator, dtype, 3, 5, 8), normal(generator, dtype, 3, 5, 8)
    return Problem(model, port, *data, F.mse_loss, SQUARED(dtype=dtype), copy)


class Rotary(nn.Module):
    """RMS normalisation, causal attention with rotary positions, and a gated network, without biases."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))
        names = ("query", "key", "value", "out", "gate", "up", "down")
        self.projections = nn.ModuleDict({name: nn.Linear(8, 8, bias=False) for name in names})

    @staticmethod
    def rotate(x: torch.Tensor) -> torch.Tensor:
        """Turn the pairs (i, i + 2) of each head of 4 by position times frequency."""
        angle = torch.arange(x.shape[-2], dtype=x.dtype)[:, None] * torch.tensor([1.0, 0.01], dtype=x.dtype)
        cos, sin = (torch.cat([part, part], -1) for part in (angle.cos(), angle.sin()))
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat([-second, first], -1) * sin

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        p = self.projections
        normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-2) * self.scale
        query, key, value = (p[n](normed).unflatten(-1, (2, 4)).transpose(1, 2) for n in ("query", "key", "value"))
        scores = self.rotate(query) @ self.rotate(key).transpose(-1, -2) / 2.0
        scores = scores + torch.full((x.shape[1], x.shape[1]), -1e9, dtype=x.dtype).triu(1)
        attended = torch.softmax(scores, -1) @ value
        h = x + p["out"](attended.transpose(1, 2).flatten(-2))
        return h + p["down"](F.silu(p["gate"](h)) * p["up"](h))


class KerasRotary(keras.Model):
    """The port, each of whose mistakes is a setting."""

    def __init__(self, **wrong: Any) -> None:
        super().__init__()
        self.wrong = wrong
        self.scale = self.add_weight(shape=(8,), name="scale")
        names = ("query", "key", "value", "out", "gate", "up", "down")
        self.denses = {name: keras.layers.Dense(8, use_bias=False, name=name) for name in names}
        for name, layer in self.denses.items():
            setattr(self, name, layer)

    def rotate(self, x: tf.Tensor) -> tf.Tensor:
        angle = tf.range(x.shape[-2], dtype=x.dtype)[:, None] * tf.constant([1.0, 0.01], x.dtype)
        if self.wrong.get("interleaved"):
            cos, sin = (tf.repeat(part, 2, -1) for part in (tf.cos(angle), tf.sin(angle)))
            turned = tf.reshape(tf.stack([-x[..., 1::2], x[..., ::2]], -1), x.shape)
        else:
            cos, sin = (tf.concat([part, part], -1) for part in (tf.cos(angle), tf.sin(angle)))
            turned = tf.concat([-x[..., 2:], x[..., :2]], -1)
        return x * cos + (-turned if self.wrong.get("backwards") else turned) * sin

    def call(self, x: tf.Tensor) -> tf.Tensor:
        wrong = self.wrong
        square = tf.reduce_mean(tf.square(x - tf.reduce_mean(x, -1, keepdims=True) if wrong.get("centred") else x), -1)
        square = square[..., None]
        root = 1 / (tf.sqrt(square) + 1e-2) if wrong.get("epsilon_outside") else tf.math.rsqrt(square + 1e-2)
        normed, shape = x * root * self.scale, (-1, x.shape[1], 2, 4)
        query, key, value = (
            tf.transpose(tf.reshape(self.denses[name](normed), shape), (0, 2, 1, 3))
            for name in ("query", "key", "value")
        )
        scores = tf.matmul(self.rotate(query), self.rotate(key), transpose_b=True) / wrong.get("divisor", 2.0)
        past = np.triu(np.full((x.shape[1],) * 2, -1e9, x.dtype.as_numpy_dtype), 1)
        scores = scores if wrong.get("unmasked") else scores + past
        attended = tf.matmul(tf.nn.softmax(scores, wrong.get("axis", -1)), value)
        attended = attended if wrong.get("heads_apart") else tf.transpose(attended, (0, 2, 1, 3))
        h = x + self.out(tf.reshape(attended, (-1, *x.shape[1:])))
        gate, up = ("up", "gate") if wrong.get("gate_exchanged") else ("gate", "up")
        activation = wrong.get("activation", tf.nn.silu)
        return h + self.down(activation(self.denses[gate](h)) * self.denses[up](h))


@pair
def rotary(generator: Generator, dtype: str, **wrong: Any) -> Problem:
    """Everything written out, in both."""
    model, port = Rotary(), KerasRotary(**wrong)
    x, y = normal(generator, dtype, 3, 5, 8), normal(generator, dtype, 3, 5, 8)
    port(x)

    def copy(model: Rotary, port: KerasRotary) -> None:
        port.scale.assign(model.scale.detach().numpy())
        for name, module in model.projections.items():
            dense(port.denses[name], module)

    return Problem(model, port, x, y, F.mse_loss, SQUARED(dtype=dtype), copy)


HEADS = "attention: (masked_fill|add|softmax)"
# Where query and key are exchanged, both are there: the first result that is not is made of them.
PROJECTED = "attention: (linear|getitem|matmul|mul|add)"
BUGS = (
    Bug(attention, {"kept": "padding"}, "the padding mask's polarity", HEADS, "L24"),
    Bug(attention, {"kept": "all"}, "the padding mask forgotten", HEADS, "L24"),
    Bug(attention, {"causal": "none"}, "the causal mask forgotten", HEADS),
    Bug(attention, {"causal": "future"}, "the causal mask the other way", HEADS, "L24"),
    Bug(attention, {"residual": False}, "no residual connection", ": add"),
    Bug(attention, {"parts": "kqv"}, "query and key exchanged", PROJECTED, "L24b"),
    Bug(attention, {"parts": "qvk"}, "key and value exchanged", PROJECTED, "L24b"),
    Bug(attention, {"heads_first": False}, "heads as the inner axis of the projections", PROJECTED, "L24b"),
    Bug(encoder, {"epsilon": 1e-3}, "Keras's epsilon of layer normalisation", "norm1: layer_norm", "L7"),
    Bug(encoder, {"activation": lambda h: tf.nn.gelu(h, approximate=True)}, "GELU by tanh", ": gelu", "L9b"),
    Bug(encoder, {"activation": tf.nn.gelu}, "GELU with a root of 2 in float32", ": gelu", "L9"),
    Bug(encoder, {"activation": tf.nn.relu}, "ReLU for GELU", ": gelu"),
    Bug(encoder, {"norm_first": False}, "normalised last", "norm1: layer_norm"),
    Bug(encoder, {"one_norm": True}, "the first norm's weights in the second too", "norm2: layer_norm"),
    Bug(encoder, {"residual": "normed"}, "the residual taken after the norm", ": add"),
    Bug(encoder, {"dropped": True}, "dropout that is always on", "dropout: dropout|linear2: linear", "L14c"),
    Bug(encoder, {"scale": 0.5}, "the second branch halved", "(: add)|linear2: linear|dropout2: dropout"),
    Bug(rotary, {"centred": True}, "RMS taken of what is centred", ": (square|mean|rsqrt|add)"),
    Bug(rotary, {"epsilon_outside": True}, "epsilon outside the root", ": (add|rsqrt)"),
    Bug(rotary, {"interleaved": True}, "neighbours turned, not halves", ": (mul|cat|chunk|add|neg)"),
    Bug(rotary, {"backwards": True}, "turned the other way", ": (cat|neg|mul)"),
    Bug(rotary, {"divisor": 8**0.5}, "scores over the root of the model's width", ": (div|true_divide)"),
    Bug(rotary, {"unmasked": True}, "the causal mask forgotten", ": add"),
    Bug(rotary, {"axis": -2}, "softmax over the queries", ": softmax", "T2"),
    Bug(rotary, {"heads_apart": True}, "heads not brought back before they are joined", ": (transpose|flatten)"),
    Bug(
        rotary,
        {"gate_exchanged": True},
        "gate and up projection exchanged",
        "projections.gate: linear|projections.up: linear|: silu",
    ),
    Bug(rotary, {"activation": tf.nn.gelu}, "GELU for SiLU in the gate", ": silu"),
)
