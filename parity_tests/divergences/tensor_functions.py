"""Tensor functions.

Functions of one name that do two things, most of them without an error.
"""

import warnings

import keras
import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F

from common import draws
from parity_tests.divergences.catalogue import agreement, divergence, relative, unequal

TABLE = np.array([[1.0, 5.0, 2.0], [7.0, 0.0, 3.0]])


@divergence("T1", "argmax without an axis", (1, 1), unit="of entries")
def argmax_axis():
    """Hard assignments of points to components: name the axis.  PyTorch: of all entries
    TensorFlow: tf.argmax: of each column; keras.ops.argmax: of all entries
    Remedy: torch.argmax(torch.tensor(TABLE), dim=1); tf.argmax(TABLE, axis=1)"""
    ours, remedied = torch.argmax(torch.tensor(TABLE)), torch.argmax(torch.tensor(TABLE), dim=1)
    return ours, tf.argmax(TABLE), remedied, tf.argmax(TABLE, axis=1)


@divergence("T2", "softmax of three axes without an axis", (0.46, 0.73), after="elementwise")
def softmax_axis():
    """Of one, two or three axes, PyTorch takes the first, the second or the first.
    PyTorch: over the first, with a warning  TensorFlow: over the last
    Remedy: F.softmax(torch.tensor(x), dim=-1)"""
    x = draws.normals(0, "sample", (3, 3, 3))
    with warnings.catch_warnings(action="ignore"):
        ours = F.softmax(torch.tensor(x))
    return ours, tf.nn.softmax(x), F.softmax(torch.tensor(x), dim=-1), tf.nn.softmax(x)


@divergence("T3", "the median of an even number of values", (0.25, 0.25))
def median():
    """2 and 2.5 for (1, 2, 3, 4).  PyTorch: the lower of the middle two
    TensorFlow: keras.ops.median: their mean, as in NumPy  Remedy: torch.quantile(x, 0.5)"""
    x, theirs = torch.tensor([1.0, 2.0, 3.0, 4.0]), keras.ops.median(np.array([1.0, 2.0, 3.0, 4.0]))
    return torch.median(x), theirs, torch.quantile(x, 0.5), theirs


@divergence("T4", "repeat(x, 2)", (0.5, 0.5), unit="of entries")
def repeat():
    """Several draws for each image: noise and images have to be repeated in one order.
    PyTorch: x.repeat: 1 2 1 2, which is tf.tile
    TensorFlow: tf.repeat: 1 1 2 2, which is torch.repeat_interleave  Remedy: torch.repeat_interleave(x, 2)"""
    x, theirs = torch.tensor([1.0, 2.0]), tf.repeat([1.0, 2.0], 2)
    return x.repeat(2), theirs, torch.repeat_interleave(x, 2), theirs


@divergence("T5", "gather along the rows", (1, 1), unit="of entries")
def gather():
    """(N, 1) becomes (N, N, 1), which broadcasts on and is averaged in the end.
    PyTorch: torch.gather(x, 1, index): for each row its own columns
    TensorFlow: tf.gather(x, index, axis=1): all of them for every row
    Remedy: tf.gather(TABLE, index, axis=1, batch_dims=1)"""
    index = np.array([[0], [2]])
    ours = torch.gather(torch.tensor(TABLE), 1, torch.tensor(index))
    return ours, tf.gather(TABLE, index, axis=1), tf.gather(TABLE, index, axis=1, batch_dims=1)


@divergence("T6", "unique", (1, 1), unit="of entries")
def unique():
    """Labels numbered by their position are other labels.  PyTorch: sorted
    TensorFlow: in order of first appearance  Remedy: tf.sort(tf.unique(labels).y)"""
    labels = np.array([3, 1, 3, 2])
    return torch.unique(torch.tensor(labels)), tf.unique(labels).y, tf.sort(tf.unique(labels).y)


@divergence("T7", "a histogram's outliers", (0.5, 0.5), unit="of entries")
def histogram():
    """Of (-1, 0.25), in two bins on [0, 1]: 1 0, or 2 0. Leave them out beforehand.
    PyTorch: torch.histc leaves them out
    TensorFlow: tf.histogram_fixed_width counts them into the end bins  Remedy in TensorFlow: x[(x >= 0) & (x <= 1)]"""
    x = np.array([-1.0, 0.25])
    inside = x[(x >= 0) & (x <= 1)]
    theirs = (tf.histogram_fixed_width(values, [0.0, 1.0], 2) for values in (x, inside))
    return torch.histc(torch.tensor(x), 2, 0.0, 1.0), *theirs


@divergence("T8", "the inverse error function near 0, in float64", (2.3e-5, 3.8e-5), after="output")
def inverse_error_function():
    """For normal numbers from uniform ones start at u in (0, 1) and use ndtri, or let NumPy draw.
    PyTorch: exact to the last digits
    TensorFlow: by way of (x + 1) / 2, which drops the digits of a small x  Remedy: tf.math.ndtri(u)"""
    x, u = np.array([1e-12, 3e-12]), draws.uniforms(0, "sample", (100,))
    ours, theirs, normal = torch.erfinv(torch.tensor(x)), tf.math.erfinv(x), torch.special.ndtri(torch.tensor(u))
    u = tf.constant(u)
    return ours, theirs, normal, tf.math.ndtri(u)


@agreement("T9", "exp, log1p, expm1, erf, lgamma, digamma, logsumexp, log_softmax", after="output")
def special_functions():
    """On (0, 5), in float64, of the largest value.  Both: a few ULP"""
    x = 5 * draws.uniforms(0, "sample", (300,))
    ours = [torch.exp, torch.log1p, torch.expm1, torch.erf, torch.lgamma, torch.digamma]
    ours += [lambda t: torch.logsumexp(t, 0), lambda t: torch.log_softmax(t, 0)]
    theirs = [tf.exp, tf.math.log1p, tf.math.expm1, tf.math.erf, tf.math.lgamma, tf.math.digamma]
    theirs += [tf.reduce_logsumexp, tf.nn.log_softmax]
    return max(relative(f(torch.tensor(x)), g(tf.constant(x))) for f, g in zip(ours, theirs, strict=True))


@agreement("T10", "searchsorted and cumsum")
def searching():
    """How a mixture's component is drawn. PyTorch's positions are int64, TensorFlow's int32.
    Both: left by default; right on demand; inclusive"""
    edges, u = np.array([0.25, 0.5, 1.0]), np.array([0.25, 0.3, 0.5, 0.99])
    x, y = torch.tensor(edges), torch.tensor(u)
    left = unequal(torch.searchsorted(x, y), tf.searchsorted(edges, u))
    right = unequal(torch.searchsorted(x, y, right=True), tf.searchsorted(edges, u, side="right"))
    return max(left, right, unequal(torch.cumsum(x, 0), tf.cumsum(edges)))
