"""Activation functions."""

import math

import keras
import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F

from parity_tests.divergences.catalogue import absolute, agreement, divergence, relative, tf_gradient, torch_gradient

X = np.linspace(-6, 6, 1001)


@divergence("L8", "LeakyReLU's slope", (0.28, 0.3), unit="absolute", after="float32 constant")
def leaky_relu():
    """Three defaults in two frameworks: f(-1) is -0.01, -0.3 or -0.2.  PyTorch: 0.01
    TensorFlow: 0.3 in keras.layers; 0.2 in keras.activations and tf.nn
    Remedy: keras.layers.LeakyReLU(negative_slope=0.01)"""
    x = np.array([-1.0])
    ours = F.leaky_relu(torch.tensor(x))
    assert absolute(tf.nn.leaky_relu(x), keras.activations.leaky_relu(x)) < 1e-8
    assert 0.18 < absolute(ours, tf.nn.leaky_relu(x)) < 0.2
    return ours, keras.layers.LeakyReLU()(x), keras.layers.LeakyReLU(negative_slope=0.01)(x)


@divergence("L9", "GELU, the exact form, in float64", (4.8e-9, 5.3e-9), unit="absolute", after="elementwise")
def exact_gelu():
    """The worst of -6 to 6, in tf.nn.gelu and keras.activations.gelu alike.  PyTorch: exact
    TensorFlow: the root of 1/2 passes through float32
    Remedy: 0.5 * x * (1 + tf.math.erf(x / math.sqrt(2)))"""
    x = tf.constant(X)
    assert absolute(tf.nn.gelu(x), keras.activations.gelu(x)) == 0
    return F.gelu(torch.tensor(X)), tf.nn.gelu(x), 0.5 * x * (1 + tf.math.erf(x / math.sqrt(2)))


@divergence("L9b", "GELU by default", (4.5e-4, 5e-4), unit="absolute", after="float32 constant")
def gelu_default():
    """keras.activations.gelu and tf.nn.gelu default to the exact form (but see L9).
    PyTorch: exact: x times the normal distribution function
    TensorFlow: keras.ops.gelu: the approximation by a tanh  Remedy: keras.ops.gelu(x, approximate=False)"""
    x = tf.constant(X)
    return F.gelu(torch.tensor(X)), keras.ops.gelu(x), keras.ops.gelu(x, approximate=False)


@divergence("L10", "softplus above 20", (1.7e-9, 2.1e-9), unit="absolute", after="elementwise")
def softplus():
    """At 20.1, in value and in gradient. In float32 both are x.  PyTorch: returns x
    TensorFlow: log(1 + exp(x))  Remedy: F.softplus(x, threshold=40)"""
    array = np.array([20.1])
    x, theirs, gradient = torch.tensor(array), tf.nn.softplus(array), tf_gradient(tf.nn.softplus, array)
    assert 1e-9 < absolute(torch_gradient(F.softplus, array), gradient) < 3e-9
    assert absolute(torch_gradient(lambda x: F.softplus(x, threshold=40), array), gradient) < 1e-15
    return F.softplus(x), theirs, F.softplus(x, threshold=40), theirs


@agreement("L11", "ELU, SELU, CELU, SiLU, Mish, log and hard sigmoid, softsign, ReLU6", after="elementwise")
def other_activations():
    """With their defaults, from -6 to 6, in float64.  Both: one function each"""
    ours = (F.elu, F.selu, F.celu, F.silu, F.mish, F.logsigmoid, F.hardsigmoid, F.softsign, F.relu6)
    theirs = (tf.nn.elu, tf.nn.selu, keras.activations.celu, tf.nn.silu, keras.activations.mish)
    theirs += (tf.math.log_sigmoid, keras.activations.hard_sigmoid, tf.nn.softsign, tf.nn.relu6)
    return max(relative(f(torch.tensor(X)), g(tf.constant(X))) for f, g in zip(ours, theirs, strict=True))


@divergence("L11b", "the gradient of the hard sigmoid, in float64", (2.9e-8, 3.1e-8), after="elementwise")
def hard_sigmoid_gradient():
    """Values agree (L11).  PyTorch: multiplies by the float32 that is nearest to 1/6  TensorFlow: divides by 6
    Remedy: torch.clamp(x / 6 + 0.5, 0, 1)"""
    array = X + 0.001  # not where it bends
    ours, theirs = torch_gradient(F.hardsigmoid, array), tf_gradient(keras.activations.hard_sigmoid, array)
    return ours, theirs, torch_gradient(lambda x: torch.clamp(x / 6 + 0.5, 0, 1), array), theirs


@divergence("L9c", "GELU by tanh, in float64", (1.2e-10, 1.9e-10), after="elementwise")
def gelu_by_tanh():
    """9e-10 at most.  PyTorch: float64
    TensorFlow: tf.nn.gelu(approximate=True) and keras.activations.gelu pass 0.044715 through float32
    Remedy: 0.5 * x * (1 + tf.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))"""
    x, ours = tf.constant(X), F.gelu(torch.tensor(X), approximate="tanh")
    assert absolute(tf.nn.gelu(x, approximate=True), keras.activations.gelu(x, approximate=True)) == 0
    remedied = 0.5 * x * (1 + tf.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return ours, tf.nn.gelu(x, approximate=True), remedied
