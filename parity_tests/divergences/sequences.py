"""Sequences.

Recurrent layers, attention, embeddings. Names and shapes are alike, orders are not: gates, biases, heads and masks.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F
from torch import nn

from common import draws
from parity_tests.divergences.catalogue import divergence, relative, unequal

X = draws.normals(0, "sample", (5, 6, 3))  # batch, time, feature
WORDS = np.array([[3, 1, 4, 0], [1, 5, 0, 0]])


def recurrent(kind: type, weights: Sequence[np.ndarray] = (), **settings: bool) -> keras.layers.RNN:
    """A recurrent layer of Keras, built, with these weights if there are any."""
    layer = kind(4, return_sequences=True, dtype="float64", **settings)
    layer.build(X.shape)
    if weights:
        layer.set_weights(list(weights))
    return layer


@divergence("L17", "the weights of an LSTM", (0.34, 0.54), after="output")
def lstm_weights():
    """The order of the gates is the same, i, f, g, o. Shown: the second bias forgotten, which fits.
    PyTorch: two biases, bias_ih and bias_hh  TensorFlow: one
    Remedy in TensorFlow: w, u, b, c = (p.detach().numpy() for p in ours.parameters());
    theirs.set_weights([w.T, u.T, b + c])"""
    torch.manual_seed(0)
    ours, theirs = nn.LSTM(3, 4, batch_first=True, dtype=torch.float64), recurrent(keras.layers.LSTM)
    w, u, b, c = (p.detach().numpy() for p in ours.parameters())
    theirs.set_weights([w.T, u.T, b + c])
    return ours(torch.tensor(X))[0], recurrent(keras.layers.LSTM, [w.T, u.T, b])(X), theirs(X)


@divergence("L17b", "how fast an LSTM's bias learns", (0.49, 0.51), after="gradient")
def lstm_bias_rate():
    """Both of PyTorch's biases take the step that Keras's one takes, so their sum moves twice as far.
    PyTorch: the sum moves by twice the rate times the gradient  TensorFlow: once
    Remedy in TensorFlow: gradients[2] = 2 * gradients[2]"""
    torch.manual_seed(0)
    layer = nn.LSTM(3, 4, batch_first=True, dtype=torch.float64)
    w, u, b, c = (p.detach().numpy() for p in layer.parameters())
    theirs = recurrent(keras.layers.LSTM, [w.T, u.T, b + c])
    layer(torch.tensor(X))[0].square().sum().backward()
    ours = layer.bias_ih_l0.grad + layer.bias_hh_l0.grad
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(theirs(X)))
    gradients = tape.gradient(loss, [v.value for v in theirs.trainable_variables])
    default = relative(ours, gradients[2])
    gradients[2] = 2 * gradients[2]
    return default, relative(ours, gradients[2])


@divergence("L17c", "the forget gate of an LSTM at the start", (0.99, 1.01), unit="absolute")
def lstm_forget_bias():
    """How much larger its bias is than the other gates', in Keras.  PyTorch: all gates from one law, around 0
    TensorFlow: 1, the others 0  Remedy: keras.layers.LSTM(4, unit_forget_bias=False)"""

    def excess(layer: keras.layers.LSTM) -> float:
        layer.build((None, None, 3))
        i, f, g, o = np.split(layer.cell.bias.numpy(), 4)
        return float(np.max(np.abs(f)) - np.max(np.abs([i, g, o])))

    return excess(keras.layers.LSTM(4)), excess(keras.layers.LSTM(4, unit_forget_bias=False))


@divergence("L18", "the order of a GRU's gates", (0.74, 1.15), after="output")
def gru_order():
    """Every one of the four tensors has to be turned; unturned they fit.  PyTorch: r, z, n
    TensorFlow: z, r, h
    Remedy in TensorFlow: w, u, b, c = (p.detach().numpy() for p in ours.parameters());
    w, u, b, c = (np.concatenate([a[4:8], a[:4], a[8:]]) for a in (w, u, b, c));
    theirs.set_weights([w.T, u.T, np.stack([b, c])])"""
    torch.manual_seed(0)
    ours, theirs = nn.GRU(3, 4, batch_first=True, dtype=torch.float64), recurrent(keras.layers.GRU)
    w, u, b, c = (p.detach().numpy() for p in ours.parameters())
    default = recurrent(keras.layers.GRU, [w.T, u.T, np.stack([b, c])])
    w, u, b, c = (np.concatenate([a[4:8], a[:4], a[8:]]) for a in (w, u, b, c))
    theirs.set_weights([w.T, u.T, np.stack([b, c])])
    return ours(torch.tensor(X))[0], default(X), theirs(X)


@divergence("L18b", "where a GRU resets", (0.29, 0.46), after="output")
def gru_reset():
    """Shown: a port in the form of the paper and of TensorFlow 1, with one bias.
    PyTorch: r * (U h + c): behind the product, the candidate's second bias inside
    TensorFlow: with reset_after=False U (r * h); by default as PyTorch
    Remedy: theirs = keras.layers.GRU(4, reset_after=True, return_sequences=True, dtype="float64")"""
    torch.manual_seed(0)
    layer = nn.GRU(3, 4, batch_first=True, dtype=torch.float64)
    w, u, b, c = (np.concatenate([a[4:8], a[:4], a[8:]]) for a in (p.detach().numpy() for p in layer.parameters()))
    theirs = keras.layers.GRU(4, reset_after=True, return_sequences=True, dtype="float64")
    theirs.build(X.shape)
    theirs.set_weights([w.T, u.T, np.stack([b, c])])
    return layer(torch.tensor(X))[0], recurrent(keras.layers.GRU, [w.T, u.T, b + c], reset_after=False)(X), theirs(X)


@divergence("L19", "the gradient of an embedding's padding", (0.57, 0.9), after="gradient")
def padding_gradient():
    """mask_zero masks later layers, and trains the row all the same.  PyTorch: padding_idx=0 has no gradient
    TensorFlow: row 0 is trained
    Remedy: vectors = tf.where((words == 0)[..., None], tf.stop_gradient(vectors), vectors)"""
    table, weight = draws.normals(0, "sample", (6, 3)), draws.normals(1, "sample", (2, 4, 3))
    ours = torch.tensor(table, requires_grad=True)
    (F.embedding(torch.tensor(WORDS), ours, padding_idx=0) * torch.tensor(weight)).sum().backward()

    def gradient(stopped: bool) -> tf.Tensor:
        theirs, words = tf.Variable(table), tf.constant(WORDS)
        with tf.GradientTape() as tape:
            vectors = tf.gather(theirs, words)
            if stopped:
                vectors = tf.where((words == 0)[..., None], tf.stop_gradient(vectors), vectors)
            loss = tf.reduce_sum(vectors * weight)
        return tf.convert_to_tensor(tape.gradient(loss, theirs))

    return ours.grad, gradient(stopped=False), gradient(stopped=True)


@divergence("L19b", "an embedding's vectors at the start", (0.965, 0.975), after="sampling error")
def embedding_initial_values():
    """Spread 0.029 in Keras. What is tuned for one scale trains badly at the other.  PyTorch: N(0, 1)
    TensorFlow: U(-0.05, 0.05)
    Remedy: keras.layers.Embedding(4000, 50, embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0))"""
    torch.manual_seed(0)
    keras.utils.set_random_seed(0)
    theirs = [keras.layers.Embedding(4000, 50)]
    theirs += [keras.layers.Embedding(4000, 50, embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0))]
    for layer in theirs:
        layer.build()
    ours = nn.Embedding(4000, 50).weight.std().item()
    default, remedied = (abs(layer.embeddings.numpy().std() / ours - 1) for layer in theirs)
    return default, remedied


@divergence("L19c", "the type of an embedding's gradient", (1, 1), unit="of entries")
def sparse_gradient():
    """Norms, sums and NumPy do not take it as it is.  PyTorch: a dense tensor, unless sparse=True
    TensorFlow: IndexedSlices: rows and their numbers, a row once for each use
    Remedy: gradient = tf.convert_to_tensor(gradient)"""
    table = tf.Variable(np.ones((6, 3)))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.gather(table, WORDS))
    gradient = tape.gradient(loss, table)
    default = unequal(type(gradient).__name__, "EagerTensor")
    gradient = tf.convert_to_tensor(gradient)
    return default, unequal(type(gradient).__name__, "EagerTensor")


@divergence("L20", "a convolution that must not see the future", (1.4, 2.2), after="output")
def causal_padding():
    """padding="same" and padding=2 look ahead, with a shape that fits or is cut.
    PyTorch: no padding on one side; "same" is half on either  TensorFlow: padding="causal"
    Remedy: ours = F.conv1d(F.pad(x, (2, 0)), kernel)"""
    x, kernel = torch.tensor(X).transpose(1, 2), torch.tensor(draws.normals(1, "sample", (4, 3, 3)))
    layer = keras.layers.Conv1D(4, 3, padding="causal", use_bias=False, dtype="float64")
    layer.build(X.shape)
    layer.set_weights([kernel.numpy().transpose(2, 1, 0)])
    theirs = np.asarray(layer(X)).swapaxes(1, 2)
    ours = F.conv1d(F.pad(x, (2, 0)), kernel)
    return F.conv1d(x, kernel, padding="same"), theirs, ours, theirs


def both_attentions() -> tuple[torch.Tensor, nn.MultiheadAttention, keras.layers.MultiHeadAttention]:
    """Data (2, 5, 8) and the two layers, the second without weights yet."""
    torch.manual_seed(0)
    ours = nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
    theirs = keras.layers.MultiHeadAttention(2, 4, dtype="float64")
    theirs.build((2, 5, 8), (2, 5, 8))
    return torch.tensor(draws.normals(0, "sample", (2, 5, 8))), ours, theirs


def attention_weights(layer: nn.MultiheadAttention) -> list[np.ndarray]:
    """PyTorch's packed projections as Keras has them: query, key, value, out, each with its bias."""
    packed, bias, out, out_bias = (p.detach().numpy() for p in layer.parameters())
    weights = []
    for rows in (slice(0, 8), slice(8, 16), slice(16, 24)):
        weights += [packed[rows].T.reshape(8, 2, 4), bias[rows].reshape(2, 4)]
    return [*weights, out.T.reshape(2, 4, 8), out_bias]


@divergence("L24", "what True means in an attention's mask", (1, 1.55), after="output")
def attention_mask():
    """One mask given to both attends to the padding only. scaled_dot_product_attention keeps, as Keras does.
    PyTorch: MultiheadAttention: left out  TensorFlow: kept
    Remedy: keep = tf.logical_not(padding)[:, None, :]"""
    x, ours, theirs = both_attentions()
    theirs.set_weights(attention_weights(ours))
    padding = np.array([[False, False, False, True, True], [False, False, False, False, True]])
    attended = ours(x, x, x, key_padding_mask=torch.tensor(padding), need_weights=False)[0]
    keep = tf.logical_not(padding)[:, None, :]
    default = theirs(x.numpy(), x.numpy(), attention_mask=padding[:, None, :])
    return attended, default, theirs(x.numpy(), x.numpy(), attention_mask=keep)


@divergence("L24b", "the projections of an attention", (0.53, 0.84), after="output")
def attention_projections():
    """Shown: reshaped without the transposition, which fits.
    PyTorch: query, key and value packed in one (3 E, E); heads are blocks of rows
    TensorFlow: three of (E, heads, E / heads), and (heads, E / heads, E)
    Remedy in TensorFlow: query, key, value = (rows.T.reshape(8, 2, 4) for rows in np.split(packed, 3))"""
    x, ours, theirs = both_attentions()
    weights = attention_weights(ours)
    attended = ours(x, x, x, need_weights=False)[0]
    packed = ours.in_proj_weight.detach().numpy()
    query, key, value = (rows.T.reshape(8, 2, 4) for rows in np.split(packed, 3))
    theirs.set_weights([packed[:8].reshape(8, 2, 4), *weights[1:]])
    default = theirs(x.numpy(), x.numpy())
    theirs.set_weights([query, weights[1], key, weights[3], value, *weights[5:]])
    return attended, default, theirs(x.numpy(), x.numpy())
