"""Losses.

One name, two scales: what is averaged over what, which constants are kept, where a probability is clipped.
The remedy is to write the sum down, as `pytorch_impl/elbo.py` and `tf2_impl/elbo.py` do.
"""

import warnings

import keras
import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F

import pytorch_impl.elbo as torch_elbo
import pytorch_impl.gaussian as torch_gaussian
import tf2_impl.elbo as tf_elbo
import tf2_impl.gaussian as tf_gaussian
from common import draws
from parity_tests.divergences.catalogue import absolute, agreement, divergence, relative, tf_gradient, torch_gradient

LOGITS = draws.normals(0, "sample", (6, 784)) * 25
PIXELS = (draws.uniforms(1, "sample", (6, 784)) < 0.5).astype(np.float64)


def log_likelihoods(x: np.ndarray, logits: np.ndarray) -> tuple[torch.Tensor, tf.Tensor]:
    """The project's Bernoulli term in both frameworks, (N,)."""
    ours = torch_elbo.bernoulli_log_likelihood(torch.tensor(x), torch.tensor(logits))
    return ours, tf_elbo.bernoulli_log_likelihood(tf.constant(x), tf.constant(logits))


@divergence("S1", "binary cross entropy of a probability that is wrong and sure", (0.83, 0.845), after="loss")
def cross_entropy_of_probabilities(dtype: str = "float64"):
    """100 and 16.1 nats for one pixel; where clipped, Keras's gradient is 0 and PyTorch's is -1e10. Use logits.
    PyTorch: the logarithm is clamped at -100
    TensorFlow: the probability is clipped to [1e-7, 1 - 1e-7]: never above 16.1
    Remedy: torch_elbo.bernoulli_log_likelihood(torch.tensor(x), torch.tensor(logits));
    tf_elbo.bernoulli_log_likelihood(tf.constant(x), tf.constant(logits))"""
    y, p, logit, small = (np.array([[value]], dtype) for value in (1.0, 0.0, -800.0, 1e-10))
    ours = F.binary_cross_entropy(torch.tensor(p), torch.tensor(y), reduction="none")[:, 0]
    assert float(torch_gradient(lambda q: F.binary_cross_entropy(q, torch.tensor(y)), small)) < -0.99e10
    assert float(tf_gradient(lambda q: keras.losses.binary_crossentropy(y, q), small)[0, 0]) == 0
    return ours, keras.losses.binary_crossentropy(y, p), *log_likelihoods(y, logit)


@divergence("S2", "binary cross entropy of logits", (0.9, 1.1), after="loss")
def cross_entropy_of_logits(dtype: str = "float64"):
    """Of a pixel that is right and sure, x = -40, PyTorch keeps no digit; in float32 none is left from x = -17
    on.  PyTorch: (1 - y) x - log sigmoid(x), which cancels
    TensorFlow: max(x, 0) - x y + log(1 + exp(-|x|))
    Remedy: torch_elbo.bernoulli_log_likelihood(torch.tensor(x), torch.tensor(logits));
    tf_elbo.bernoulli_log_likelihood(tf.constant(x), tf.constant(logits))"""
    y, x = np.zeros((1, 1), dtype), np.full((1, 1), -40, dtype)
    ours = F.binary_cross_entropy_with_logits(torch.tensor(x), torch.tensor(y), reduction="none")
    theirs = tf.nn.sigmoid_cross_entropy_with_logits(y, x)
    return absolute(ours, theirs) / float(theirs[0, 0]), relative(*log_likelihoods(y, x))


@divergence(
    "S2b",
    "binary cross entropy of grey pixels",
    (2.3e-15, 2.2e-14),
    float32=(1.2e-6, 1.2e-5),
    unit="absolute",
    after="elementwise",
)
def cross_entropy_of_grey_pixels(dtype: str = "float64"):
    """Logits of spread 25, the worst of 4,704 pixels.  PyTorch: rounds at the size of the logit
    TensorFlow: rounds at the size of the loss
    Remedy: torch_elbo.bernoulli_log_likelihood(torch.tensor(x), torch.tensor(logits));
    tf_elbo.bernoulli_log_likelihood(tf.constant(x), tf.constant(logits))"""
    y, x = draws.uniforms(1, "sample", (4704, 1)).astype(dtype), LOGITS.reshape(-1, 1).astype(dtype)
    ours = F.binary_cross_entropy_with_logits(torch.tensor(x), torch.tensor(y), reduction="none")
    return ours, tf.nn.sigmoid_cross_entropy_with_logits(y, x), *log_likelihoods(y, x)


@divergence("S2c", "what the loss expects", (0.99, 1.01), after="loss")
def logits_or_probabilities():
    """Keras takes logits for probabilities, scales and clips them, and returns a number: 1e-7 for 0.35.
    PyTorch: cross_entropy: logits  TensorFlow: categorical_crossentropy: probabilities, unless told
    Remedy: keras.losses.CategoricalCrossentropy(from_logits=True, dtype="float64")"""
    x, y = np.array([[1.0, 2.0, -1.0]]), np.array([[0.0, 1.0, 0.0]])
    remedied = keras.losses.CategoricalCrossentropy(from_logits=True, dtype="float64")
    ours = F.cross_entropy(torch.tensor(x), torch.tensor(y))
    return ours, keras.losses.CategoricalCrossentropy()(y, x), remedied(y, x)


@agreement("S2d", "label smoothing of categories", after="loss")
def label_smoothing():
    """With the logits passed as logits (S2c). Keras also smooths binary labels, PyTorch does not.
    Both: (1 - a) y + a / K"""
    x, y = draws.normals(0, "sample", (5, 3)), np.eye(3)[[0, 1, 2, 0, 1]]
    theirs = keras.losses.categorical_crossentropy(y, x, from_logits=True, label_smoothing=0.1)
    return relative(F.cross_entropy(torch.tensor(x), torch.tensor(y), label_smoothing=0.1), tf.reduce_mean(theirs))


@divergence("S2e", "the order of a loss's arguments", (9.6, 16.0), after="loss")
def order_of_arguments():
    """Both orders compute. A squared error does not care, a cross entropy does: name the arguments.
    PyTorch: prediction, target  TensorFlow: target, prediction
    Remedy: keras.losses.binary_crossentropy(y_true=y, y_pred=p)"""
    y, p = np.array([[0.0, 1.0, 1.0]]), np.array([[0.3, 0.6, 0.99]])
    ours, theirs = F.binary_cross_entropy(torch.tensor(p), torch.tensor(y)), keras.losses.binary_crossentropy(p, y)[0]
    return ours, theirs, ours, keras.losses.binary_crossentropy(y_true=y, y_pred=p)[0]


@divergence("S3", "the reduction of a loss over 784 pixels", (0.99, 1), after="loss")
def reductions():
    """The mean is 784 times too small beside the KL term of an ELBO. The classes of Keras average as PyTorch
    does.  PyTorch: F.*: the mean over everything  TensorFlow: tf.nn.*: none, so that one sums over pixels
    Remedy: torch_elbo.bernoulli_log_likelihood(torch.tensor(x), torch.tensor(logits));
    tf_elbo.bernoulli_log_likelihood(tf.constant(x), tf.constant(logits))"""
    ours = F.binary_cross_entropy_with_logits(torch.tensor(LOGITS), torch.tensor(PIXELS))
    theirs = tf.reduce_mean(tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(PIXELS, LOGITS), axis=1))
    assert relative(ours, keras.losses.BinaryCrossentropy(from_logits=True, dtype="float64")(PIXELS, LOGITS)) < 1e-14
    return theirs, ours, *log_likelihoods(PIXELS, LOGITS)


@divergence("S3b", "a loss of float64 arrays", (1.3e-8, 1.2e-7), after="loss")
def loss_dtype():
    """The functions, keras.losses.mean_squared_error, keep float64; the classes do not.  PyTorch: float64
    TensorFlow: keras.losses classes cast to float32
    Remedy: keras.losses.MeanSquaredError(dtype="float64")"""
    a, b = draws.uniforms(0, "sample", (5, 7)), draws.uniforms(1, "sample", (5, 7))
    remedied = keras.losses.MeanSquaredError(dtype="float64")
    return F.mse_loss(torch.tensor(a), torch.tensor(b)), keras.losses.MeanSquaredError()(b, a), remedied(b, a)


@divergence("S3c", "a column of predictions and a vector of targets", (0.9, 1), after="loss")
def broadcast_targets():
    """(N, 1) against (N,): the mean over N² pairs is no error but the variance of the data.
    PyTorch: mse_loss pairs each with each, with a warning  TensorFlow: drops the axis of length one
    Remedy in PyTorch: y[:, None]"""
    y = draws.normals(0, "sample", (20,))
    prediction = torch.tensor(y[:, None] + 0.1)
    with warnings.catch_warnings(action="ignore"):
        ours = F.mse_loss(prediction, torch.tensor(y))
    theirs = keras.losses.MeanSquaredError(dtype="float64")(y, prediction.numpy())
    return ours, theirs, F.mse_loss(prediction, torch.tensor(y[:, None])), theirs


@divergence("S4", "the Kullback-Leibler divergence KL(p || q)", (1.6, 2.5), after="loss")
def kl_divergence():
    """The mean over entries is not the divergence. It sums over an axis; batchmean then averages over the batch.
    PyTorch: kl_div(log q, p): second argument first; the mean over all entries
    TensorFlow: KLDivergence(p, q): the sum over the last axis; clips at 1e-7
    Remedy: F.kl_div(torch.tensor(q).log(), torch.tensor(p), reduction="batchmean")"""
    p, q = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]]), np.array([[0.3, 0.4, 0.3], [0.2, 0.2, 0.6]])
    with warnings.catch_warnings(action="ignore"):
        ours = F.kl_div(torch.tensor(q).log(), torch.tensor(p))
    remedied = F.kl_div(torch.tensor(q).log(), torch.tensor(p), reduction="batchmean")
    theirs = keras.losses.KLDivergence(dtype="float64")(p, q)
    assert relative((p * np.log(p / q)).sum(axis=1).mean(), theirs) < 1e-14
    return ours, theirs, remedied, theirs


@divergence("S5", "the Gaussian negative log likelihood", (0.81, 1.3), after="loss")
def gaussian_nll():
    """A learned variance below 1e-6 is another density in PyTorch, and a bound without its constants is no
    bound.  PyTorch: gaussian_nll_loss: no log 2 pi; variances clamped at 1e-6
    TensorFlow: none in Keras; written out, it has both
    Remedy: torch_elbo.gaussian_log_likelihood(*map(torch.tensor, (x, mean, log_var)));
    tf_elbo.gaussian_log_likelihood(*map(tf.constant, (x, mean, log_var)))"""
    sharp = [F.gaussian_nll_loss(torch.zeros(1), torch.ones(1), torch.tensor([v])) for v in (1e-6, 1e-9)]
    assert sharp[0] == sharp[1]
    x, mean, log_var = draws.normals(0, "sample", (5, 3)), np.zeros((5, 3)), np.zeros((5, 3))
    stock = -F.gaussian_nll_loss(*map(torch.tensor, (mean, x, np.exp(log_var))), reduction="none").sum(dim=1)
    ours = torch_elbo.gaussian_log_likelihood(*map(torch.tensor, (x, mean, log_var)))
    theirs = tf_elbo.gaussian_log_likelihood(*map(tf.constant, (x, mean, log_var)))
    return stock, theirs, ours, theirs


@divergence("S6", "the variance of (1, 2, 4)", (0.33, 0.34), after="elementwise")
def variance(dtype: str = "float64"):
    """2.333 and 1.556. Maximum likelihood, hence EM, divides by n.
    PyTorch: torch.var, std and cov: over n - 1  TensorFlow: tf.math.reduce_variance, keras.ops.var: over n
    Remedy: torch.var(x, correction=0)"""
    array = np.array([1.0, 2.0, 4.0], dtype)
    x, theirs = torch.tensor(array), tf.math.reduce_variance(array)
    assert absolute(theirs, keras.ops.var(array)) == 0
    return torch.var(x), theirs, torch.var(x, correction=0), theirs


@divergence("S6b", "the covariance of a sample", (0.1, 0.12), after="output")
def covariance():
    """A tenth off for ten points in float64; the M step's covariance is over n.
    PyTorch: torch.cov: variables in rows, over n - 1; so is np.cov
    TensorFlow: none; tfp.stats.covariance has variables in columns, over n
    Remedy: torch_gaussian.maximum_likelihood(torch.tensor(x))"""
    x = draws.normals(0, "sample", (10, 3))
    theirs, ours = tf_gaussian.maximum_likelihood(tf.constant(x)), torch_gaussian.maximum_likelihood(torch.tensor(x))
    return theirs[1], torch.cov(torch.tensor(x).T), ours[1], theirs[1]


@divergence("S6c", "the variance of one number", (1, 1), unit="of entries")
def variance_of_one():
    """A last batch of one, a component with one point.  PyTorch: NaN, 0 over 0  TensorFlow: 0
    Remedy: torch.var(one, correction=0)"""
    one, theirs = torch.tensor([2.0]), tf.math.reduce_variance([2.0])
    with warnings.catch_warnings(action="ignore"):
        ours = torch.var(one)
    return ours, theirs, torch.var(one, correction=0), theirs


@divergence("S7", "the Poisson negative log likelihood", (0.43, 0.69), after="loss")
def poisson():
    """And the small number inside the logarithm is 1e-8 in one, 1e-7 in the other.
    PyTorch: takes the log of the rate, unless told  TensorFlow: takes the rate
    Remedy: F.poisson_nll_loss(rate, y, log_input=False, eps=1e-7)"""
    counts, rates = np.array([[1.0, 2.0, 0.0]]), np.array([[1.5, 0.5, 2.0]])
    y, rate, theirs = torch.tensor(counts), torch.tensor(rates), keras.losses.poisson(counts, rates)[0]
    return F.poisson_nll_loss(rate, y), theirs, F.poisson_nll_loss(rate, y, log_input=False, eps=1e-7), theirs


@divergence("S8", "the mean of a weighted loss", (0.88, 1.4), after="loss")
def weighted_mean():
    """A rare class with a large weight makes the gradient larger in Keras, and nothing larger in PyTorch.
    PyTorch: cross_entropy(weight=w): divides by the sum of the weights
    TensorFlow: sample_weight: divides by the number of points
    Remedy: tf.reduce_sum(w * each) / tf.reduce_sum(w)"""
    logits, y, weights = draws.normals(0, "sample", (5, 3)), np.array([0, 1, 2, 2, 1]), np.array([0.5, 1.0, 4.0])
    ours, w = F.cross_entropy(torch.tensor(logits), torch.tensor(y), torch.tensor(weights)), weights[y]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float64")
    each = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
    return ours, loss(y, logits, sample_weight=w), tf.reduce_sum(w * each) / tf.reduce_sum(w)
