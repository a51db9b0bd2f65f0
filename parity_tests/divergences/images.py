"""Images.

Depthwise kernels, pooling, resizing, and what holds for whole channels. Those that the tutorial's networks meet are
among the layers.
"""

import keras
import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F
from torch import nn

from common import draws
from parity_tests.divergences.catalogue import divergence, unequal
from parity_tests.divergences.layers import IMAGES, channels_first, channels_last


@divergence("L21", "the layout of a depthwise kernel", (1.25, 2), after="output")
def depthwise_layout():
    """With two filters a channel; reshaped as it lies in memory it fits.
    PyTorch: (channels * filters, 1, height, width), groups=channels
    TensorFlow: (height, width, channels, filters)
    Remedy in TensorFlow: kernel[:, 0].transpose(1, 2, 0).reshape(3, 3, 3, 2)"""
    kernel = draws.normals(1, "sample", (6, 1, 3, 3))
    ours = F.conv2d(torch.tensor(IMAGES), torch.tensor(kernel), groups=3)

    def theirs(weight: np.ndarray) -> np.ndarray:
        return channels_first(tf.nn.depthwise_conv2d(channels_last(IMAGES), weight, (1, 1, 1, 1), "VALID"))

    return ours, theirs(kernel.reshape(3, 3, 3, 2)), theirs(kernel[:, 0].transpose(1, 2, 0).reshape(3, 3, 3, 2))


@divergence("L22", "what an enlarged image has in common with the small one", (0.37, 0.58), after="float32 constant")
def align_corners():
    """Old models have True, and old TensorFlow a third grid, x = i / 2.
    PyTorch: align_corners=True: the corners' centres; by default, False, the edges
    TensorFlow: the edges
    Remedy: ours = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)"""
    x = torch.tensor(IMAGES)
    theirs = channels_first(tf.image.resize(channels_last(IMAGES), (16, 16)))
    ours = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True), theirs, ours, theirs


@divergence("L23", "pooling of 3 with stride 2", (0.55, 0.86))
def pooling_same():
    """Same shape, other windows, as in L4.  PyTorch: padding=1: from one row above
    TensorFlow: padding="same": one row below, for an even size
    Remedy: ours = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2)"""
    x, theirs = torch.tensor(IMAGES), channels_first(tf.nn.max_pool2d(channels_last(IMAGES), 3, 2, "SAME"))
    ours = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2)
    return F.max_pool2d(x, 3, 2, padding=1), theirs, ours, theirs


@divergence("L23b", "pooling of 2 over an odd number of rows", (1, 1), unit="of entries")
def pooling_ceiling():
    """3 rows of 7, or 4.  PyTorch: drops the last, unless ceil_mode  TensorFlow: "valid" drops it, "same" keeps it
    Remedy: ours = F.max_pool2d(x, 2, ceil_mode=True)"""
    images = IMAGES[:, :, :7, :7]
    x, theirs = torch.tensor(images), channels_first(tf.nn.max_pool2d(channels_last(images), 2, 2, "SAME"))
    ours = F.max_pool2d(x, 2, ceil_mode=True)
    return F.max_pool2d(x, 2), theirs, ours, theirs


@divergence("L25", "how many slopes a PReLU has", (189, 189), unit="parameters")
def prelu_axes():
    """For images of 8 by 8 with three channels. All start equal, so that outputs agree until one trains.
    PyTorch: one, or one a channel  TensorFlow: one for each pixel and channel
    Remedy: keras.layers.PReLU(shared_axes=[1, 2])"""
    ours, counts = nn.PReLU(3).weight.numel(), []
    for layer in (keras.layers.PReLU(), keras.layers.PReLU(shared_axes=[1, 2])):
        layer.build((None, 8, 8, 3))
        counts.append(layer.count_params() - ours)
    return counts


@divergence("L26", "Dropout2d", (0.9, 1), unit="of channels cut in part")
def channel_dropout():
    """How many channels are neither kept nor dropped as a whole.
    PyTorch: Dropout2d drops whole channels  TensorFlow: Dropout drops entries; SpatialDropout2D is Dropout2d
    Remedy: keras.layers.SpatialDropout2D(0.5)"""

    def in_part(layer: keras.layers.Layer) -> float:
        kept = np.asarray(layer(np.ones((4, 8, 8, 3)), training=True)).reshape(4, 64, 3) > 0
        return float(np.mean(kept.any(1) & ~kept.all(1)))

    torch.manual_seed(0)
    keras.utils.set_random_seed(0)
    assert set(F.dropout2d(torch.ones(4, 3, 8, 8)).mean((2, 3)).ravel().tolist()) <= {0.0, 2.0}
    return in_part(keras.layers.Dropout(0.5)), in_part(keras.layers.SpatialDropout2D(0.5))


@divergence("L27", "channels made pixels", (1.15, 1.8))
def pixel_shuffle():
    """Only with a single channel do they agree.  PyTorch: pixel_shuffle: channels as (channel, row, column)
    TensorFlow: depth_to_space: (row, column, channel)
    Remedy: turned = tf.gather(x, np.arange(12).reshape(3, 4).T.ravel(), axis=-1)"""
    images = draws.normals(0, "sample", (2, 12, 4, 4))
    ours, x = F.pixel_shuffle(torch.tensor(images), 2), channels_last(images)
    turned = tf.gather(x, np.arange(12).reshape(3, 4).T.ravel(), axis=-1)
    return ours, channels_first(tf.nn.depth_to_space(x, 2)), channels_first(tf.nn.depth_to_space(turned, 2))


@divergence("L28", "how many groups group normalisation has", (0.28, 0.43), after="output")
def group_norm_groups():
    """Groups are neighbouring channels in both. Shown: 64 channels in 8 groups; -1 is a group a channel in Keras.
    PyTorch: must be told  TensorFlow: 32
    Remedy: keras.layers.GroupNormalization(8, epsilon=1e-5, dtype="float64")"""
    images = draws.normals(0, "sample", (2, 64, 3, 3))
    ours, x = F.group_norm(torch.tensor(images), 8), channels_last(images)
    default = keras.layers.GroupNormalization(epsilon=1e-5, dtype="float64")
    remedied = keras.layers.GroupNormalization(8, epsilon=1e-5, dtype="float64")
    return ours, channels_first(default(x)), channels_first(remedied(x))


@divergence("L14c", "dropout called as a function", (0.3, 0.7), unit="of entries")
def dropout_function():
    """model.eval() does not reach it. So is a Keras layer that was called with training=True in a functional
    model.  PyTorch: F.dropout drops unless told training=False  TensorFlow: a layer predicts unless told
    Remedy: ours = F.dropout(x, 0.5, training=False)"""
    torch.manual_seed(0)
    x = torch.ones(40, 25, dtype=torch.float64)
    theirs = keras.layers.Dropout(0.5, dtype="float64")(x.numpy())
    ours = F.dropout(x, 0.5, training=False)
    return unequal(F.dropout(x, 0.5) > 0, theirs > 0), unequal(ours, theirs)
