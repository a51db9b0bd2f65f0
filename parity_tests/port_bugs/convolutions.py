"""Convolutions: with pooling, depthwise, transposed, resized, shuffled into pixels, and causal over words."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F
from torch import nn

from parity_tests.port_bugs.normalisation import copy_norm
from parity_tests.port_bugs.problem import (
    Bug,
    Generator,
    Problem,
    arrays,
    dense,
    function,
    kernel,
    normal,
    pair,
    updates,
)

cross_entropy = keras.losses.SparseCategoricalCrossentropy
SQUARED = keras.losses.MeanSquaredError


def padded(x: Any, value: float | None = 0.0) -> Any:
    """A row or column on every side; ``None`` pads with the smallest number."""

    def call(a: tf.Tensor) -> tf.Tensor:
        return tf.pad(a, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=a.dtype.min if value is None else value)

    return function(call)(x)


class Pooled(nn.Module):
    """Convolution, group normalisation, both poolings, a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.GroupNorm(4, 8)
        self.average, self.maximum = nn.AvgPool2d(3, 1, 1), nn.MaxPool2d(3, 2, 1)
        self.head = nn.Linear(8 * 3 * 2, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.leaky_relu(self.norm(self.convolution(x)), 0.125)
        return self.head(self.average(self.maximum(h)).flatten(1))


@pair
def pooled(
    generator: Generator,
    dtype: str,
    *,
    same=False,
    groups=4,
    epsilon=1e-5,
    slope=0.125,
    average="padded",
    maximum="padded",
    flat="turned",
    axes=(2, 3, 1, 0),
    stride=2,
) -> Problem:
    """Images of 12 by 8, so that an exchange of rows and columns shows."""
    model, x = Pooled(), keras.Input((12, 8, 3))
    convolution = keras.layers.Conv2D(8, 3, 2, padding="same" if same else "valid")
    norm, head = keras.layers.GroupNormalization(groups, epsilon=epsilon), keras.layers.Dense(4)
    h = keras.layers.LeakyReLU(slope)(norm(convolution(x if same else padded(x))))
    pooling = keras.layers.AveragePooling2D if maximum == "average" else keras.layers.MaxPooling2D
    h = (
        pooling(3, 2, "same")(h)
        if maximum == "same"
        else pooling(3, 2)(padded(h, None if maximum == "padded" else 0.0))
    )
    around = "valid" if average == "padded" else "same"
    h = keras.layers.AveragePooling2D(3, 1, around)(padded(h) if average == "padded" else h)
    port = keras.Model(x, head(keras.layers.Flatten()(h)))

    def copy(model: Pooled, port: keras.Model) -> None:
        convolution.set_weights([kernel(model.convolution.weight, axes), model.convolution.bias.detach().numpy()])
        norm.set_weights([*arrays(model.norm).values()])
        weight, bias = arrays(model.head).values()
        if flat == "turned":
            weight = weight.reshape(4, 8, 3, 2).transpose(0, 2, 3, 1).reshape(4, -1)
        head.set_weights([weight.T, bias])

    x, y = normal(generator, dtype, 4, 3, 12, 8), generator.integers(0, 4, 4)
    return Problem(model, port, x, y, F.cross_entropy, cross_entropy(from_logits=True, dtype=dtype), copy)


class Mobile(nn.Module):
    """An inverted residual."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.project = nn.Conv2d(3, 6, 1, bias=False), nn.Conv2d(12, 3, 1, bias=False)
        self.depthwise = nn.Conv2d(6, 12, 3, padding=2, dilation=2, groups=6, bias=False)
        self.norm1, self.norm2, self.norm3 = nn.BatchNorm2d(6), nn.BatchNorm2d(12), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu6(self.norm1(self.expand(x)))
        h = F.relu6(self.norm2(self.depthwise(h)))
        return x + self.norm3(self.project(h))


@pair
def depthwise(
    generator: Generator,
    dtype: str,
    *,
    limit=6.0,
    layout="in, multiplier",
    dilation=2,
    third="linear",
    norm_last=False,
    flipped=False,
    epsilon=1e-5,
) -> Problem:
    """Values are large enough to be cut at 6."""
    model, x = Mobile().eval(), keras.Input((6, 5, 3))
    expand, project = (keras.layers.Conv2D(n, 1, use_bias=False) for n in (6, 3))
    apart = keras.layers.DepthwiseConv2D(3, 1, "same", 2, dilation_rate=dilation, use_bias=False)
    norms = [keras.layers.BatchNormalization(epsilon=epsilon, momentum=0.9) for _ in range(3)]
    relus = [keras.layers.ReLU(limit) for _ in range(3)]
    h = norms[0](relus[0](expand(x))) if norm_last else relus[0](norms[0](expand(x)))
    h = norms[2](project(relus[1](norms[1](apart(h)))))
    port = keras.Model(x, keras.layers.Add()([x, relus[2](h) if third == "relu" else h]))

    def copy(model: Mobile, port: keras.Model) -> None:
        expand.set_weights([kernel(model.expand.weight)])
        project.set_weights([kernel(model.project.weight)])
        weight = model.depthwise.weight.detach().numpy()[:, 0].transpose(1, 2, 0)
        weight = weight[::-1, ::-1] if flipped else weight
        parts = weight.reshape(3, 3, 6, 2) if layout == "in, multiplier" else weight.reshape(3, 3, 2, 6).swapaxes(2, 3)
        apart.set_weights([parts])
        for norm, module in zip(norms, (model.norm1, model.norm2, model.norm3), strict=True):
            copy_norm(norm, module)

    x, y = 6 * normal(generator, dtype, 4, 3, 6, 5), normal(generator, dtype, 4, 3, 6, 5)
    return Problem(model, port, x, y, F.mse_loss, SQUARED(dtype=dtype), copy)


class Decoder(nn.Module):
    """A code to an image by two transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(5, 4 * 3 * 2)
        self.first, self.second = nn.ConvTranspose2d(4, 4, 3, 2, 1, 1), nn.ConvTranspose2d(4, 2, 4, 2, 1)
        self.slopes = nn.PReLU(4)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        h = self.dense(z).unflatten(1, (4, 3, 2))
        return torch.sigmoid(self.second(self.slopes(self.first(h))))


@pair
def transposed(
    generator: Generator,
    dtype: str,
    *,
    same=False,
    axes=(2, 3, 1, 0),
    flipped=False,
    shared=True,
    unflat="turned",
    final="sigmoid",
) -> Problem:
    """SAME is off by a pixel for a kernel of 3; the whole transposed convolution, cropped, is not."""
    model, z = Decoder(), keras.Input((5,))
    start, second = keras.layers.Dense(24), keras.layers.Conv2DTranspose(2, 4, 2, "same")
    first = keras.layers.Conv2DTranspose(4, 3, 2, "same" if same else "valid")
    slopes = keras.layers.PReLU(shared_axes=[1, 2] if shared else None)
    h = keras.layers.Reshape((3, 2, 4))(start(z))
    h = first(h) if same else function(lambda a: a[:, 1:, 1:])(first(h))
    port = keras.Model(z, keras.layers.Activation(final)(second(slopes(h))))

    def copy(model: Decoder, port: keras.Model) -> None:
        weight, bias = arrays(model.dense).values()
        if unflat == "turned":
            weight, bias = weight.reshape(4, 6, 5).swapaxes(0, 1).reshape(24, 5), bias.reshape(4, 6).T.ravel()
        start.set_weights([weight.T, bias])
        for layer, module, order in ((first, model.first, axes), (second, model.second, (2, 3, 1, 0))):
            weight = kernel(module.weight, order)
            layer.set_weights([weight[::-1, ::-1] if flipped else weight, module.bias.detach().numpy()])
        slopes.set_weights([np.broadcast_to(model.slopes.weight.detach().numpy(), slopes.weights[0].shape)])

    z, y = normal(generator, dtype, 4, 5), generator.random((4, 2, 12, 8)).astype(dtype)
    port_loss = keras.losses.BinaryCrossentropy(dtype=dtype)
    problem = Problem(model, port, z, y, F.binary_cross_entropy, port_loss, copy)
    sgd, port_sgd = torch.optim.SGD(model.parameters(), 0.125), keras.optimizers.SGD(0.125)
    problem.steps = updates(problem, lambda n: sgd.step(), lambda g, variables, n: port_sgd.apply(g, variables))
    return problem


class Resized(nn.Module):
    """Down, up again, and beside what was there."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.middle = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = F.elu(self.down(x))
        h = F.elu(self.middle(F.max_pool2d(skip, 2, ceil_mode=True)))
        h = F.interpolate(h, size=x.shape[2:], mode="bilinear")
        return self.out(torch.cat([skip, h], 1))


def interpolation(size: int, new: int, kind: str = "half pixels") -> np.ndarray:
    """The matrix (new, size) of linear interpolation; of "half pixels", "corners" aligned, or "legacy"."""
    place = np.arange(new) * size / new
    if kind == "half pixels":
        place = np.clip((np.arange(new) + 0.5) * size / new - 0.5, 0, None)
    elif kind == "corners":
        place = np.arange(new) * (size - 1) / (new - 1)
    low = np.minimum(place.astype(int), size - 1)
    matrix = np.zeros((new, size))
    np.add.at(matrix, (np.arange(new), low), 1 - (place - low))
    np.add.at(matrix, (np.arange(new), np.minimum(low + 1, size - 1)), place - low)
    return matrix


@pair
def resized(
    generator: Generator,
    dtype: str,
    *,
    kind="half pixels",
    reflect=True,
    skip_first=True,
    early=False,
    ceil=True,
    alpha=1.0,
) -> Problem:
    """The interpolation as two matrices, since `tf.image.resize` computes in float32."""
    model, x = Resized(), keras.Input((7, 9, 3))
    down, out = keras.layers.Conv2D(4, 3, padding="same"), keras.layers.Conv2D(2, 1)
    middle = keras.layers.Conv2D(4, 3, padding="valid" if reflect else "same")
    h = down(x)
    skip = keras.layers.ELU(alpha)(h)
    low = keras.layers.MaxPooling2D(2, padding="same" if ceil else "valid")(skip)
    if reflect:
        low = function(lambda a: tf.pad(a, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="REFLECT"))(low)
    low = keras.layers.ELU(alpha)(middle(low))

    def resize(a: tf.Tensor) -> tf.Tensor:
        if kind in ("bilinear", "nearest"):
            return tf.cast(tf.image.resize(a, (7, 9), kind), a.dtype)
        rows, columns = (
            interpolation(s, n, kind).astype(a.dtype.name) for s, n in zip(a.shape[1:3], (7, 9), strict=True)
        )
        return tf.einsum("ri,nijc,sj->nrsc", rows, a, columns)

    high = function(resize)(low)
    kept = h if early else skip
    port = keras.Model(x, out(keras.layers.Concatenate()([kept, high] if skip_first else [high, kept])))

    def copy(model: Resized, port: keras.Model) -> None:
        for layer, module in ((down, model.down), (middle, model.middle), (out, model.out)):
            layer.set_weights([kernel(module.weight), module.bias.detach().numpy()])

    x, y = normal(generator, dtype, 3, 3, 7, 9), normal(generator, dtype, 3, 2, 7, 9)
    return Problem(model, port, x, y, F.mse_loss, SQUARED(dtype=dtype), copy)


class Sharper(nn.Module):
    """Super-resolution: channels shuffled into pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1, groups=1), nn.Conv2d(4, 12, 3, padding=1, groups=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3) + F.pixel_shuffle(
            self.second(F.mish(self.first(x))), 2
        )


@pair
def shuffled(
    generator: Generator,
    dtype: str,
    *,
    order="turned",
    groups=2,
    activation="mish",
    repeat="interleaved",
    axes=(2, 3, 1, 0),
) -> Problem:
    """PyTorch's channels are (channel, row, column) of the block, TensorFlow's (row, column, channel)."""
    model, x = Sharper(), keras.Input((5, 4, 3))
    first, second = keras.layers.Conv2D(4, 3, padding="same"), keras.layers.Conv2D(12, 3, padding="same", groups=groups)
    large = keras.layers.UpSampling2D(2, interpolation="nearest")(x)
    if repeat == "tiled":
        large = function(lambda a: tf.tile(a, (1, 2, 2, 1)))(x)
    h = second(keras.layers.Activation(activation)(first(x)))
    port = keras.Model(x, keras.layers.Add()([large, function(lambda a: tf.nn.depth_to_space(a, 2))(h)]))

    def copy(model: Sharper, port: keras.Model) -> None:
        first.set_weights([kernel(model.first.weight, axes), model.first.bias.detach().numpy()])
        weight, bias = model.second.weight.detach(), model.second.bias.detach().numpy()
        if groups == 1:
            weight = torch.cat([weight, weight], 1)
        # the grouped kernel needs its groups together, so the channels are turned behind it
        second.set_weights([kernel(weight), bias])

    turn = np.arange(12).reshape(3, 4).T.ravel()
    if order == "turned":
        h = function(lambda a: tf.gather(a, turn, axis=-1))(h)
        port = keras.Model(x, keras.layers.Add()([large, function(lambda a: tf.nn.depth_to_space(a, 2))(h)]))
    x, y = normal(generator, dtype, 3, 3, 5, 4), normal(generator, dtype, 3, 3, 10, 8)
    return Problem(model, port, x, y, F.mse_loss, SQUARED(dtype=dtype), copy)


class Words(nn.Module):
    """A causal convolution over words."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.convolution = nn.Embedding(9, 5, padding_idx=0), nn.Conv1d(5, 6, 3, dilation=2)
        self.head = nn.Linear(6, 3)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        h = self.embedding(words).transpose(1, 2)
        return self.head(F.relu(self.convolution(F.pad(h, (4, 0)))).amax(2))


class PaddedEmbedding(keras.layers.Embedding):
    """An embedding whose row 0 is not trained."""

    def call(self, words: tf.Tensor) -> tf.Tensor:
        vectors = super().call(words)
        return tf.where((words == 0)[..., None], tf.stop_gradient(vectors), vectors)


@pair
def causal(
    generator: Generator,
    dtype: str,
    *,
    embedding=PaddedEmbedding,
    padding="causal",
    dilation=2,
    backwards=False,
    pooling=keras.layers.GlobalMaxPooling1D,
    scale=1.0,
    offset=0,
) -> Problem:
    """Row 0 of the table has no gradient in PyTorch."""
    model, words = Words(), keras.Input((8,), dtype="int32")
    table, head = embedding(9, 5), keras.layers.Dense(3)
    convolution = keras.layers.Conv1D(6, 3, padding=padding, dilation_rate=dilation, activation="relu")
    vectors = table(function(lambda w: (w + offset) % 9)(words) if offset else words)
    vectors = function(lambda v: v * scale)(vectors) if scale != 1 else vectors
    port = keras.Model(words, head(pooling()(convolution(vectors))))

    def copy(model: Words, port: keras.Model) -> None:
        table.set_weights([model.embedding.weight.detach().numpy()])
        weight = kernel(model.convolution.weight, (2, 1, 0))
        convolution.set_weights([weight[::-1] if backwards else weight, model.convolution.bias.detach().numpy()])
        dense(head, model.head)

    x, y = generator.integers(1, 9, (5, 8)), generator.integers(0, 3, 5)
    x[:2, 5:] = 0
    return Problem(model, port, x, y, F.cross_entropy, cross_entropy(from_logits=True, dtype=dtype), copy)


ADD = ": add"
BUGS = (
    Bug(pooled, {"same": True}, "SAME padding with stride 2", "convolution: conv2d", "L4"),
    Bug(pooled, {"axes": (3, 2, 1, 0)}, "rows and columns of the kernel exchanged", "convolution: conv2d", "L2b"),
    Bug(pooled, {"groups": 8}, "instance for group normalisation", "norm: group_norm", "L28"),
    Bug(pooled, {"epsilon": 1e-3}, "Keras's epsilon of group normalisation", "norm: group_norm", "L7"),
    Bug(pooled, {"slope": 0.3}, "Keras's slope of a leaky ReLU", ": leaky_relu", "L8"),
    Bug(pooled, {"average": "same"}, "the average without the border's zeros", "average: avg_pool2d", "L12"),
    Bug(pooled, {"maximum": "same"}, "the maximum, SAME with stride 2", "maximum: max_pool2d", "L23"),
    Bug(pooled, {"maximum": "zeros"}, "the maximum's border padded with zeros", "maximum: max_pool2d"),
    Bug(pooled, {"maximum": "average"}, "the average for the maximum", "maximum: max_pool2d"),
    Bug(pooled, {"flat": "as it is"}, "dense weights not turned after Flatten", ": flatten|head: linear", "L3"),
    Bug(depthwise, {"limit": None}, "ReLU for ReLU6", ": relu6"),
    Bug(depthwise, {"layout": "multiplier, in"}, "channel and multiplier exchanged", "depthwise: conv2d", "L21"),
    Bug(depthwise, {"flipped": True}, "the kernel turned round", "depthwise: conv2d", "L2b"),
    Bug(depthwise, {"dilation": 1}, "no dilation", "depthwise: conv2d"),
    Bug(depthwise, {"epsilon": 1e-3}, "Keras's epsilon of batch normalisation", "norm1: batch_norm", "L6c"),
    Bug(depthwise, {"norm_last": True}, "the norm after the activation", "norm1: batch_norm"),
    Bug(depthwise, {"third": "relu"}, "an activation after the projection", "norm3: batch_norm|" + ADD),
    Bug(transposed, {"same": True}, "SAME for a kernel of 3", "first: conv_transpose2d", "L5"),
    Bug(transposed, {"axes": (2, 3, 0, 1)}, "in and out of the kernel exchanged", "first: conv_transpose2d", "L2b"),
    Bug(transposed, {"flipped": True}, "the kernels turned round", "first: conv_transpose2d", "L2b"),
    Bug(transposed, {"shared": False}, "a slope for every pixel", "slopes", "L25"),
    Bug(
        transposed,
        {"unflat": "as it is"},
        "dense weights not turned before Reshape",
        ": unflatten|dense: linear|first: conv",
        "L3",
    ),
    Bug(transposed, {"final": "linear"}, "no sigmoid", ": sigmoid"),
    Bug(transposed, {"final": "hard_sigmoid"}, "a hard sigmoid", ": sigmoid"),
    Bug(resized, {"kind": "corners"}, "corners aligned", ": interpolate", "L22"),
    Bug(resized, {"kind": "legacy"}, "TensorFlow 1's pixel centres", ": interpolate", "L22"),
    Bug(resized, {"kind": "bilinear"}, "bilinear in float32", ": interpolate", "L13"),
    Bug(resized, {"kind": "nearest"}, "the nearest pixel", ": interpolate", "L22"),
    Bug(resized, {"reflect": False}, "zeros for reflected borders", "middle: (pad|conv2d)"),
    Bug(resized, {"skip_first": False}, "the skip connection behind", ": cat"),
    Bug(resized, {"early": True}, "the skip connection from before the activation", ": cat"),
    Bug(resized, {"alpha": 0.5}, "another alpha of ELU", ": elu"),
    Bug(shuffled, {"order": "as it is"}, "channels not turned for depth_to_space", ": pixel_shuffle", "L27"),
    Bug(shuffled, {"activation": "silu"}, "SiLU for Mish", ": mish"),
    Bug(shuffled, {"repeat": "tiled"}, "tiled, not repeated", ": repeat_interleave", "T4"),
    Bug(shuffled, {"groups": 1}, "one group for two", "second: conv2d"),
    Bug(shuffled, {"axes": (3, 2, 1, 0)}, "rows and columns of the kernel exchanged", "first: conv2d", "L2b"),
    Bug(causal, {"padding": "same"}, "padding on both sides", ": pad|convolution: conv1d", "L20"),
    Bug(causal, {"dilation": 1}, "no dilation", "convolution: conv1d"),
    Bug(causal, {"backwards": True}, "the kernel turned round", "convolution: conv1d", "L2b"),
    Bug(causal, {"embedding": keras.layers.Embedding}, "the padding's row trained", "embedding", "L19"),
    Bug(causal, {"pooling": keras.layers.GlobalAveragePooling1D}, "the mean for the maximum", ": amax"),
    Bug(
        causal,
        {"scale": 5**0.5},
        "vectors times the root of their width",
        "embedding: embedding|model: (transpose|pad)",
    ),
    Bug(causal, {"offset": 1}, "words counted from one", "embedding: embedding"),
)
