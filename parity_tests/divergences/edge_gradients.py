"""Values and gradients at the edge.

At a kink, at a tie, at zero and at infinity a derivative is a convention, and the conventions differ. A
gradient that is NaN in one framework and 0 in the other ends one training run and not the other.
"""

import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F

from parity_tests.divergences.catalogue import agreement, divergence, tf_gradient, torch_gradient, unequal

ZEROS = np.zeros(3)
INF = np.inf


@agreement("G6", "logsumexp of infinities")
def infinite_logsumexp():
    """A point that no component can explain poisons the gradient in both: mask it before.
    Both: all -inf or one +inf: gradient NaN; one -inf: fine"""
    apart = []
    for array, nan in (([-INF, -INF], True), ([INF, 0.0], True), ([-INF, 0.0], False)):
        ours = torch_gradient(lambda x: torch.logsumexp(x, 0), np.array(array))
        assert bool(torch.isnan(ours).any()) == nan
        apart.append(unequal(ours, tf_gradient(tf.reduce_logsumexp, np.array(array))))
        apart.append(unequal(torch.logsumexp(torch.tensor(array), 0), tf.reduce_logsumexp(array)))
    return max(apart)


@agreement("G7", "the gradients of sqrt, abs, relu, elu, relu6 and clip where they bend")
def kinks():
    """At 0; for relu6 at 6; for clip at its bound, which counts as inside.  Both: inf, 0, 0, 1, 0, 1"""
    found = [(torch.sqrt, tf.sqrt, 0.0, INF), (torch.abs, tf.abs, 0.0, 0.0), (torch.relu, tf.nn.relu, 0.0, 0.0)]
    found += [(F.elu, tf.nn.elu, 0.0, 1.0), (F.relu6, tf.nn.relu6, 6.0, 0.0)]
    found.append((lambda x: torch.clamp(x, 0.0, 1.0), lambda x: tf.clip_by_value(x, 0.0, 1.0), 1.0, 1.0))
    apart = []
    for ours, theirs, at, slope in found:
        gradients = torch_gradient(ours, np.array([at])), tf_gradient(theirs, np.array([at]))
        apart += [unequal(gradient, np.array([slope])) for gradient in gradients]
    return max(apart)


@divergence("G8", "the gradient of a norm at zero", (1, 1), unit="of entries")
def norm_at_zero():
    """A residual that vanishes, a feature that is constant. Put something inside the root, in both.
    PyTorch: 0  TensorFlow: NaN  Remedy: tf.sqrt(tf.reduce_sum(x**2) + 1e-12)"""
    ours = torch_gradient(torch.linalg.vector_norm, ZEROS)
    smooth = torch_gradient(lambda x: torch.sqrt((x**2).sum() + 1e-12), ZEROS)
    return ours, tf_gradient(tf.norm, ZEROS), smooth, tf_gradient(lambda x: tf.sqrt(tf.reduce_sum(x**2) + 1e-12), ZEROS)


@divergence("G8b", "the gradient of the standard deviation of a constant", (1, 1), unit="of entries")
def deviation_of_a_constant():
    """As G8: a batch whose feature does not vary, a component with one point.  PyTorch: 0  TensorFlow: NaN
    Remedy: tf.sqrt(tf.math.reduce_variance(x) + 1e-12)"""
    ours, theirs = torch_gradient(torch.std, ZEROS + 1), tf_gradient(tf.math.reduce_std, ZEROS + 1)
    smooth = torch_gradient(lambda x: torch.sqrt(torch.var(x, correction=0) + 1e-12), ZEROS + 1)
    return ours, theirs, smooth, tf_gradient(lambda x: tf.sqrt(tf.math.reduce_variance(x) + 1e-12), ZEROS + 1)


@divergence("G9", "the gradient of maximum(x, c) at x = c", (0.5, 0.5), unit="absolute")
def maximum_at_a_tie():
    """A floor under a variance, reached exactly. torch.clamp passes the gradient on, as TensorFlow does.
    PyTorch: 0.5  TensorFlow: 1  Remedy: torch.clamp(x, min=0.0)"""
    ours = torch_gradient(lambda x: torch.maximum(x, torch.zeros_like(x)), ZEROS)
    theirs = tf_gradient(lambda x: tf.maximum(x, tf.zeros_like(x)), ZEROS)
    return ours, theirs, torch_gradient(lambda x: torch.clamp(x, min=0.0), ZEROS), theirs


@divergence("G10", "the gradient of a largest entry that occurs twice", (0.5, 0.5), unit="absolute")
def ties_of_the_largest():
    """Max pooling over equal pixels, the background of every digit. torch.amax shares, too.
    PyTorch: torch.max(x, dim): all to one of them  TensorFlow: tf.reduce_max: an equal share to each
    Remedy: torch.amax(x, dim=0)"""
    x = np.array([1.0, 1.0, 0.0])
    ours, theirs = torch_gradient(lambda x: torch.max(x, 0).values, x), tf_gradient(tf.reduce_max, x)
    return ours, theirs, torch_gradient(lambda x: torch.amax(x, dim=0), x), theirs


@divergence("G11", "the gradient of x log y at x = y = 0", (1, 1), unit="of entries")
def xlogy():
    """0 log 0 is 0 in both; its slope in y is not. A responsibility of 0 times the log of a weight of 0.
    PyTorch: torch.xlogy: NaN  TensorFlow: tf.math.xlogy: 0
    Remedy: p * torch.log(torch.where(p > 0, q, 1.0)); x * tf.math.log(tf.where(x > 0, y, 1.0))"""
    ours = torch_gradient(lambda y, x: torch.xlogy(x, y), ZEROS, ZEROS)
    theirs = tf_gradient(lambda y, x: tf.math.xlogy(x, y), ZEROS, ZEROS)
    safe = torch_gradient(lambda q, p: p * torch.log(torch.where(p > 0, q, 1.0)), ZEROS, ZEROS)
    return ours, theirs, safe, tf_gradient(lambda y, x: x * tf.math.log(tf.where(x > 0, y, 1.0)), ZEROS, ZEROS)


@divergence("G12", "0 / 0", (1, 1), unit="of entries")
def zero_by_zero():
    """The mean of a component without points. The M step adds ten epsilons to the count, in both.
    PyTorch: NaN  TensorFlow: tf.math.divide_no_nan: 0 (the operator /: NaN)
    Remedy: ours / (n + 10 * torch.finfo(ours.dtype).eps); theirs / (n + 10 * np.finfo(np.float64).eps)"""
    ours, theirs, n = torch.tensor(ZEROS), tf.constant(ZEROS), 0.0
    safe = ours / (n + 10 * torch.finfo(ours.dtype).eps)
    return ours / n, tf.math.divide_no_nan(theirs, n), safe, theirs / (n + 10 * np.finfo(np.float64).eps)


@divergence("G13", "the gradient of round and floor", (1, 1), unit="of entries")
def rounding():
    """Neither trains anything. The straight-through estimator passes the gradient on, in both.  PyTorch: 0
    TensorFlow: None
    Remedy: ours + (torch.round(ours) - ours).detach(); theirs + tf.stop_gradient(tf.round(theirs) - theirs)"""
    x = np.array([0.4, 1.6])
    assert tf_gradient(tf.floor, x) is None
    through = torch_gradient(lambda ours: ours + (torch.round(ours) - ours).detach(), x)
    tf_through = tf_gradient(lambda theirs: theirs + tf.stop_gradient(tf.round(theirs) - theirs), x)
    return torch_gradient(torch.round, x), tf_gradient(tf.round, x), through, tf_through


@divergence("G21", "the gradient of x to the power 0 at x = 0", (1, 1), unit="of entries")
def power_of_zero():
    """theta^k for a coin that never fell and was never tossed; a polynomial's constant term at 0.  PyTorch: 0
    TensorFlow: NaN  Remedy: tf.where(k > 0, x, 1.0) ** k"""
    ours, theirs = (gradient(lambda x, k: x**k, ZEROS, ZEROS) for gradient in (torch_gradient, tf_gradient))
    return ours, theirs, tf_gradient(lambda x, k: tf.where(k > 0, x, 1.0) ** k, ZEROS, ZEROS)


@agreement("G22", "the gradient of where(x > 0, log x, 0) at 0")
def where_does_not_shield():
    """The branch not taken is differentiated too, and 0 times inf is NaN.  Remedy: log(where(x > 0, x, 1)).
    Both: NaN, though log x was not chosen"""
    ours = torch_gradient(lambda x: torch.where(x > 0, torch.log(x), 0.0), ZEROS)
    theirs = tf_gradient(lambda x: tf.where(x > 0, tf.math.log(x), tf.zeros_like(x)), ZEROS)
    assert torch.isnan(ours).all()
    shielded = torch_gradient(lambda x: torch.log(torch.where(x > 0, x, 1.0)), ZEROS)
    tf_shielded = tf_gradient(lambda x: tf.math.log(tf.where(x > 0, x, 1.0)), ZEROS)
    return max(unequal(ours, theirs), unequal(shielded, tf_shielded), unequal(shielded, ZEROS))


@agreement("G23", "NaN under max, maximum, clip and relu")
def nan_stays():
    """No floor or clip hides it, in either framework. (But see R4.)  Both: stays NaN"""
    x = np.array([1.0, np.nan, 2.0])
    ours, theirs, one, tf_one = torch.tensor(x), tf.constant(x), torch.ones(3), tf.ones(3, tf.float64)
    pairs = [(torch.amax(ours), tf.reduce_max(theirs)), (torch.maximum(ours, one), tf.maximum(theirs, tf_one))]
    pairs += [(torch.clamp(ours, 0.0, 1.0), tf.clip_by_value(x, 0.0, 1.0)), (torch.relu(ours), tf.nn.relu(theirs))]
    assert all(np.isnan(np.asarray(a)).any() for a, _ in pairs)
    return max(unequal(a, b) for a, b in pairs)


@divergence("G24", "digamma at 0", (1, 1), unit="of entries")
def digamma_at_zero():
    """E[log weight] of a component with concentration 0. log gamma is inf in both. Keep concentrations above 0.
    PyTorch: -inf  TensorFlow: NaN  Remedy for both, in NumPy: np.maximum(concentration, np.finfo(np.float64).tiny)"""
    concentration = np.zeros(1)
    assert unequal(torch.lgamma(torch.tensor(concentration)), tf.math.lgamma(concentration)) == 0
    floored = np.maximum(concentration, np.finfo(np.float64).tiny)
    ours = torch.digamma(torch.tensor(concentration))
    return ours, tf.math.digamma(concentration), torch.digamma(torch.tensor(floored)), tf.math.digamma(floored)
