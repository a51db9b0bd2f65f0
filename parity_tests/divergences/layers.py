"""Layers, layouts and shapes.

Shapes that do not fit raise an error and cost a minute. What costs a week is what fits and is not the same:
another padding, another order of pixels, another default.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
import torch.nn.functional as F
from torch import nn

from common import draws
from parity_tests.divergences.catalogue import absolute, agreement, divergence, relative, unequal

IMAGES = draws.normals(0, "sample", (2, 3, 8, 8))  # as PyTorch has them: image, channel, row, column


def channels_last(images: np.ndarray) -> np.ndarray:
    """(N, C, H, W) as (N, H, W, C)."""
    return np.moveaxis(images, 1, -1)


def channels_first(images: tf.Tensor) -> np.ndarray:
    """(N, H, W, C) as (N, C, H, W)."""
    return np.moveaxis(np.asarray(images), -1, 1)


def keras_convolution(images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """TensorFlow's convolution of images with stride 2 and padding "same"."""
    return channels_first(tf.nn.conv2d(channels_last(images), kernel.transpose(2, 3, 1, 0), 2, "SAME"))


def keras_transposed(kernel: np.ndarray, strides: int = 2, padding: str = "same") -> np.ndarray:
    """Keras's transposed convolution of the images."""
    layer = keras.layers.Conv2DTranspose(
        kernel.shape[1], kernel.shape[2], strides, padding=padding, use_bias=False, dtype="float64"
    )
    layer.build(channels_last(IMAGES).shape)
    layer.set_weights([kernel.transpose(2, 3, 1, 0)])
    return channels_first(layer(channels_last(IMAGES)))


@divergence("L1", "a dense layer's weights and biases at the start", (0.95, 1.05))
def dense_initial_values():
    """Twice the spread in Keras, for a layer from 784 to 400; and no seed makes them equal. NumPy draws for
    both.  PyTorch: U(-a, a) with a = 1/sqrt(fan_in), biases too
    TensorFlow: Glorot: a = sqrt(6 / (fan_in + fan_out)); biases 0
    Remedy: values = draws.initial_values(0, {"layer.weight": (400, 784), "layer.bias": (400,)})"""
    ours, theirs = nn.Linear(784, 400), keras.layers.Dense(400)
    theirs.build((None, 784))
    default = theirs.kernel.numpy().std() / ours.weight.detach().numpy().std() - 1
    values = draws.initial_values(0, {"layer.weight": (400, 784), "layer.bias": (400,)})
    ours.load_state_dict({name.partition(".")[2]: torch.tensor(value) for name, value in values.items()})
    theirs.set_weights([values["layer.weight"].T, values["layer.bias"]])
    return default, relative(ours.weight.T, theirs.kernel.value) + relative(ours.bias, theirs.bias.value)


@divergence("L1b", "a convolution's weights at the start", (0.38, 0.46))
def convolution_initial_values():
    """Spread .034 and .048 for a 3 by 3 kernel from 32 to 64 channels.
    PyTorch: U(-a, a) with a = 1/sqrt(fan_in)  TensorFlow: Glorot
    Remedy: values = draws.initial_values(0, {"layer.weight": (64, 32, 3, 3)})"""
    ours, theirs = nn.Conv2d(32, 64, 3, bias=False), keras.layers.Conv2D(64, 3, use_bias=False)
    theirs.build((None, 8, 8, 32))
    default = theirs.kernel.numpy().std() / ours.weight.detach().numpy().std() - 1
    values = draws.initial_values(0, {"layer.weight": (64, 32, 3, 3)})
    ours.load_state_dict({"weight": torch.tensor(values["layer.weight"])})
    theirs.set_weights([values["layer.weight"].transpose(2, 3, 1, 0)])
    return default, relative(ours.weight.permute(2, 3, 1, 0), theirs.kernel.value)


@divergence("L1c", "one initializer for two layers", (1, 1), unit="of entries")
def initializer_used_twice():
    """Two layers that share a Keras initializer start as twins. The size is the share of equal entries.
    PyTorch: a new draw for each  TensorFlow: the same numbers again, with a seed or without
    Remedy: draws.initial_values(0, {"a.weight": (4, 4), "b.weight": (4, 4)}).values()"""
    first, second = (nn.init.xavier_uniform_(torch.empty(4, 4)) for _ in range(2))
    glorot = keras.initializers.GlorotUniform()
    twins = 1 - unequal(glorot((4, 4)), glorot((4, 4)))
    a, b = draws.initial_values(0, {"a.weight": (4, 4), "b.weight": (4, 4)}).values()
    return twins - (1 - unequal(first, second)), 1 - unequal(a, b)


@divergence("L1d", "a truncated normal of standard deviation 0.02", (0.1, 0.16), after="sampling error")
def truncated_normal():
    """How much larger PyTorch's spread is. With the bounds given, the two laws are one law; draws still differ.
    PyTorch: cut at -2 and 2, a hundred standard deviations away
    TensorFlow: cut at two standard deviations; its own spread is 0.88 of the number
    Remedy in PyTorch: nn.init.trunc_normal_(ours, std=0.02, a=-2 * 0.02, b=2 * 0.02, generator=generator)"""
    theirs = np.asarray(keras.initializers.TruncatedNormal(stddev=0.02, seed=0)((200_000,)))
    ours, generator = torch.empty(200_000), torch.Generator().manual_seed(0)
    nn.init.trunc_normal_(ours, std=0.02, generator=generator)
    default = ours.std() / theirs.std() - 1
    nn.init.trunc_normal_(ours, std=0.02, a=-2 * 0.02, b=2 * 0.02, generator=generator)
    return default, abs(ours.std() / theirs.std() - 1)


@divergence("L2", "the layout of a dense kernel", (0.91, 1.5), after="output")
def dense_layout():
    """A square kernel fits untransposed, and computes something else.  PyTorch: (out, in)
    TensorFlow: (in, out)
    Remedy in TensorFlow: theirs.set_weights([ours.weight.detach().numpy().T, ours.bias.detach().numpy()])"""
    x = draws.normals(0, "sample", (5, 6))
    torch.manual_seed(0)
    ours, theirs = nn.Linear(6, 6, dtype=torch.float64), keras.layers.Dense(6, dtype="float64")
    theirs.build((None, 6))
    theirs.set_weights([p.detach().numpy() for p in ours.parameters()])
    default = relative(ours(torch.tensor(x)), theirs(x))
    theirs.set_weights([ours.weight.detach().numpy().T, ours.bias.detach().numpy()])
    return default, relative(ours(torch.tensor(x)), theirs(x))


@divergence("L2b", "the layout of a convolution's kernel", (0.96, 1.6), after="output")
def convolution_layout():
    """One transposition for both kinds. Neither framework flips the kernel; a wrong order fits if sizes are
    equal.  PyTorch: (out, in, height, width); transposed convolution (in, out, height, width)
    TensorFlow: (height, width, in, out); transposed convolution (height, width, out, in)
    Remedy in TensorFlow: kernel.transpose(2, 3, 1, 0)"""
    kernel, x = draws.normals(1, "sample", (3, 3, 3, 3)), channels_last(IMAGES)
    ours = F.conv2d(torch.tensor(IMAGES), torch.tensor(kernel))
    default = relative(ours, channels_first(tf.nn.conv2d(x, kernel, 1, "VALID")))
    remedied = relative(ours, channels_first(tf.nn.conv2d(x, kernel.transpose(2, 3, 1, 0), 1, "VALID")))
    transposed = F.conv_transpose2d(torch.tensor(IMAGES), torch.tensor(kernel))
    return default, max(remedied, relative(transposed, keras_transposed(kernel, strides=1, padding="valid")))


@divergence("L3", "Flatten after a convolution", (0.9, 0.999), unit="of entries", after="output")
def flatten():
    """How many entries of the flat vector are others. The dense weights are permuted once, not the activations.
    PyTorch: channel, row, column  TensorFlow: row, column, channel
    Remedy in TensorFlow: weight.reshape(5, 3, 8, 8).transpose(0, 2, 3, 1).reshape(5, -1)"""
    ours, theirs = nn.Flatten()(torch.tensor(IMAGES)), keras.layers.Flatten(dtype="float64")(channels_last(IMAGES))
    weight = draws.normals(1, "sample", (5, 3 * 8 * 8))
    permuted = weight.reshape(5, 3, 8, 8).transpose(0, 2, 3, 1).reshape(5, -1)
    return unequal(ours, theirs), relative(ours @ torch.tensor(weight.T), theirs @ permuted.T)


@divergence("L4", "a convolution of stride 2 that halves the image", (1.2, 1.9), after="output")
def same_padding(dtype: str = "float64"):
    """Same shape, shifted by one pixel, for kernels of 3 and 5. Kernels of 4 agree on even sizes, with
    padding=1.  PyTorch: padding=1: one row above, one below
    TensorFlow: padding="same": none above, one below, for an even size  Remedy: F.pad(x, (0, 1, 0, 1))"""
    images, kernel = IMAGES.astype(dtype), draws.normals(1, "sample", (4, 3, 3, 3)).astype(dtype)
    x, theirs = torch.tensor(images), keras_convolution(images, kernel)
    ours = F.conv2d(x, torch.tensor(kernel), stride=2, padding=1)
    return ours, theirs, F.conv2d(F.pad(x, (0, 1, 0, 1)), torch.tensor(kernel), stride=2), theirs


@agreement("L4b", "a convolution with a kernel of 4 and stride 2", after="output")
def same_padding_of_four():
    """The kernel to choose when both frameworks have to halve an image: padding=1 is padding="same".
    Both: one pixel all round"""
    kernel = draws.normals(1, "sample", (4, 3, 4, 4))
    ours = F.conv2d(torch.tensor(IMAGES), torch.tensor(kernel), stride=2, padding=1)
    return relative(ours, keras_convolution(IMAGES, kernel))


@divergence("L5", "a transposed convolution of stride 2 that doubles the image", (0.96, 1.6), after="output")
def transposed_convolution():
    """One pixel apart for a kernel of 3. In general: padding=0, then cut (k - 2) // 2 above and left.
    PyTorch: padding=1, output_padding=1: cut above, add below  TensorFlow: padding="same": cut below
    Remedy: F.conv_transpose2d(x, kernel, stride=2)[:, :, :16, :16]"""
    x, kernel = torch.tensor(IMAGES), torch.tensor(draws.normals(1, "sample", (3, 4, 3, 3)))
    theirs = keras_transposed(kernel.numpy())
    ours = F.conv_transpose2d(x, kernel, stride=2, padding=1, output_padding=1)
    return ours, theirs, F.conv_transpose2d(x, kernel, stride=2)[:, :, :16, :16], theirs


@agreement("L5b", "a transposed convolution with a kernel of 4 and stride 2", after="output")
def transposed_convolution_of_four():
    """With padding=1 and no output_padding: the counterpart of L4b.  Both: the same pixels"""
    kernel = draws.normals(1, "sample", (3, 4, 4, 4))
    ours = F.conv_transpose2d(torch.tensor(IMAGES), torch.tensor(kernel), stride=2, padding=1)
    return relative(ours, keras_transposed(kernel))


@divergence("L6", "batch normalisation's momentum", (0.89, 0.91), after="output")
def batch_norm_momentum():
    """The running mean follows ten times as fast.  PyTorch: 0.1 is the weight of the new batch
    TensorFlow: 0.99 is the weight of the old average
    Remedy: keras.layers.BatchNormalization(momentum=1 - 0.1, epsilon=1e-5, dtype="float64")"""
    ours, theirs = nn.BatchNorm2d(3, dtype=torch.float64), keras.layers.BatchNormalization(dtype="float64")
    remedied = keras.layers.BatchNormalization(momentum=1 - 0.1, epsilon=1e-5, dtype="float64")
    ours(torch.tensor(IMAGES))
    for layer in (theirs, remedied):
        layer(channels_last(IMAGES), training=True)
    return ours.running_mean, theirs.moving_mean.value, remedied.moving_mean.value


class TorchBatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer, with PyTorch's settings and its unbiased running variance."""

    def __init__(self, **settings) -> None:
        super().__init__(**{"momentum": 1 - 0.1, "epsilon": 1e-5} | settings)

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        kept = self.momentum * self.moving_variance
        outputs = super().call(inputs, training=training, mask=mask)
        if training and self.trainable:
            n = tf.cast(tf.size(inputs) / tf.shape(inputs)[self.axis], kept.dtype)
            self.moving_variance.assign_add((self.moving_variance - kept) / (n - 1))
        return outputs


@divergence("L6b", "batch normalisation's running variance", (0.05, 0.08), after="output")
def batch_norm_variance():
    """A factor 16/15 for a batch of 16: what is trained alike predicts differently. The remedy is a layer, to be
    put in the place of Keras's.
    PyTorch: unbiased, n - 1, though the batch itself is scaled by n  TensorFlow: biased, n
    Remedy in TensorFlow: theirs = TorchBatchNormalization(dtype="float64")"""
    n, ours = 16, nn.BatchNorm1d(3, dtype=torch.float64)
    stock = keras.layers.BatchNormalization(momentum=1 - 0.1, epsilon=1e-5, dtype="float64")
    theirs = TorchBatchNormalization(dtype="float64")
    train = tf.function(lambda x: theirs(x, training=True))
    for step in range(4):
        x = draws.normals(0, "sample", (n, 3), step)
        ours(torch.tensor(x))
        train(tf.constant(x))
        if step == 0:
            stock(x, training=True)
            default = relative(ours.running_var - 0.9, stock.moving_variance.value - 0.9)
    return default, relative(ours.running_var, theirs.moving_variance.value)


@divergence("L6c", "batch normalisation's epsilon", (0.0022, 0.0035), after="output")
def batch_norm_epsilon(dtype: str = "float64"):
    """Relative, half of 1e-3 over the variance of the feature: small features shrink most.  PyTorch: 1e-5
    TensorFlow: 1e-3  Remedy: keras.layers.BatchNormalization(epsilon=1e-5, dtype=dtype)"""
    x = draws.normals(0, "sample", (16, 3)).astype(dtype)
    theirs = keras.layers.BatchNormalization(dtype=dtype)(x, training=True)
    remedied = keras.layers.BatchNormalization(epsilon=1e-5, dtype=dtype)(x, training=True)
    return nn.BatchNorm1d(3, dtype=getattr(torch, dtype))(torch.tensor(x)), theirs, remedied


@divergence("L7", "LayerNorm's and GroupNorm's epsilon", (0.0054, 0.0086), after="output")
def layer_norm_epsilon():
    """As L6c. GroupNorm's defaults are the same two numbers.  PyTorch: 1e-5  TensorFlow: 1e-3
    Remedy: keras.layers.LayerNormalization(epsilon=1e-5, dtype="float64")"""
    assert (nn.GroupNorm(3, 3).eps, keras.layers.GroupNormalization(3).epsilon) == (1e-5, 1e-3)
    x = draws.normals(0, "sample", (16, 5))
    theirs = keras.layers.LayerNormalization(dtype="float64")(x)
    remedied = keras.layers.LayerNormalization(epsilon=1e-5, dtype="float64")(x)
    return nn.LayerNorm(5, dtype=torch.float64)(torch.tensor(x)), theirs, remedied


@divergence("L12", "average pooling at the border", (0.39, 0.62), after="elementwise")
def average_pooling(dtype: str = "float64"):
    """Border pixels come out darker in PyTorch.  PyTorch: counts the padding's zeros  TensorFlow: does not
    Remedy: F.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False)"""
    x = torch.tensor(IMAGES.astype(dtype))
    theirs = channels_first(tf.nn.avg_pool2d(channels_last(x.numpy()), 3, 1, "SAME"))
    remedied = F.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False)
    return F.avg_pool2d(x, 3, 1, padding=1), theirs, remedied, theirs


def resize_matrix(small: int, large: int) -> np.ndarray:
    """Row i: what each of the small image's rows contributes to the large one's row i, (large, small)."""
    at = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(small)))


def enlarge(images: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Images (N, H, W, C) enlarged linearly, (N, height, width, C), in their own precision."""
    matrices = (resize_matrix(*sizes) for sizes in zip(images.shape[1:3], (height, width), strict=True))
    rows, columns = (tf.constant(matrix, images.dtype) for matrix in matrices)
    return tf.einsum("ir,nrsc,js->nijc", rows, images, columns)


@divergence("L13", "bilinear upsampling in float64", (3e-8, 2.8e-7), after="output")
def upsampling():
    """The remedy is the interpolation as a matrix for the rows and one for the columns.  PyTorch: float64
    TensorFlow: computes in float32 and calls it float64
    Remedy in TensorFlow: theirs = enlarge(images, 16, 16)"""
    ours, images = F.interpolate(torch.tensor(IMAGES), scale_factor=2, mode="bilinear"), channels_last(IMAGES)
    bilinear = keras.layers.UpSampling2D(2, interpolation="bilinear", dtype="float64")(images)
    theirs = enlarge(images, 16, 16)
    return ours, channels_first(bilinear), channels_first(theirs)


@divergence("L13b", "bicubic upsampling", (0.076, 0.12), after="float32 constant")
def bicubic():
    """PyTorch's antialias=True is meant for shrinking; for enlarging, all it changes is the cubic, to
    TensorFlow's.  PyTorch: the cubic with a = -0.75
    TensorFlow: a = -0.5, and weights renormalised at the border; computes in float32
    Remedy: F.interpolate(x, scale_factor=2, mode="bicubic", antialias=True)"""
    x = torch.tensor(IMAGES)
    theirs = channels_first(keras.layers.UpSampling2D(2, interpolation="bicubic")(channels_last(IMAGES)))
    remedied = F.interpolate(x, scale_factor=2, mode="bicubic", antialias=True)
    return F.interpolate(x, scale_factor=2, mode="bicubic"), theirs, remedied, theirs


@divergence("L14", "a layer that is simply called", (0.3, 0.7), unit="of entries")
def training_by_default():
    """The share of entries that differ, with dropout of 0.5. Both scale what is left by 1 / (1 - p) when
    training.  PyTorch: is training: dropout drops, batch norm uses the batch
    TensorFlow: is predicting: dropout passes everything, batch norm uses its averages
    Remedy: dropout.eval(); tf_dropout(x, training=False)"""
    x = draws.uniforms(0, "sample", (40, 25))
    dropout, tf_dropout = nn.Dropout(0.5), keras.layers.Dropout(0.5, dtype="float64")
    torch.manual_seed(0)
    ours = dropout(torch.tensor(x))
    trained = np.asarray(tf_dropout(x, training=True))
    default = unequal(ours > 0, tf_dropout(x) > 0)
    assert absolute(ours[ours != 0], 2 * x[ours != 0]) == absolute(trained[trained != 0], 2 * x[trained != 0]) == 0
    dropout.eval()
    return default, relative(dropout(torch.tensor(x)), tf_dropout(x, training=False))


@divergence("L14b", "dropout with one seed", (0.4, 0.6), unit="of entries")
def dropout_masks():
    """Equal seeds drop different units (as R1); a mask from NumPy drops the same ones.  PyTorch: its own mask
    TensorFlow: its own mask  Remedy: mask = draws.uniforms(0, "noise", (40, 25)) < 0.5"""
    x = np.ones((40, 25))
    torch.manual_seed(0)
    ours = F.dropout(torch.tensor(x), 0.5)
    theirs = keras.layers.Dropout(0.5, seed=0, dtype="float64")(x, training=True)
    mask = draws.uniforms(0, "noise", (40, 25)) < 0.5
    return ours, theirs, torch.tensor(x) * torch.tensor(mask) * 2, tf.constant(x) * mask * 2


@divergence("L15", "float64 data for a layer made with default settings", (2e-8, 1.9e-7), after="output")
def input_dtype():
    """NumPy's arrays are float64; Keras computes with less and says nothing.  PyTorch: raises an error
    TensorFlow: casts the data to float32, silently  Remedy: keras.layers.Dense(6, dtype="float64")"""
    x = draws.uniforms(0, "sample", (5, 6))
    with pytest.raises(RuntimeError, match="dtype"):
        nn.Linear(6, 6)(torch.tensor(x))
    ours, theirs = nn.Linear(6, 6, dtype=torch.float64), keras.layers.Dense(6)
    remedied = keras.layers.Dense(6, dtype="float64")
    weight, bias = draws.initial_values(0, {"layer.weight": (6, 6), "layer.bias": (6,)}).values()
    ours.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    for layer in (theirs, remedied):
        layer.build(x.shape)
        layer.set_weights([weight.T, bias])
    return ours(torch.tensor(x)), theirs(x), remedied(x)


@divergence("L15b", "asking for float64 everywhere", (1, 1), unit="of entries")
def float64_everywhere():
    """The first layer freezes the policy; after that floatx governs optimizers and nothing else.
    PyTorch: torch.set_default_dtype holds from the next layer on
    TensorFlow: keras.config.set_floatx does nothing for layers once one was made
    Remedy: keras.config.set_dtype_policy("float64")"""
    keras.layers.Dense(1)
    keras.config.set_floatx("float64")
    default = unequal("float64", keras.layers.Dense(1).dtype)
    keras.config.set_dtype_policy("float64")
    return default, unequal("float64", keras.layers.Dense(1).dtype)


@divergence("L16", "a layer's parameters before its first call", (2, 2), unit="tensors")
def lazy_building():
    """A loop that copies, counts or penalises the weights of an unbuilt Keras model does nothing, without an
    error.  PyTorch: are there  TensorFlow: are not: the list is empty  Remedy: theirs.build((None, 5))"""
    ours, theirs = nn.Linear(5, 4), keras.layers.Dense(4)
    default = len(list(ours.parameters())) - len(theirs.trainable_variables)
    theirs.build((None, 5))
    return default, len(list(ours.parameters())) - len(theirs.trainable_variables)
