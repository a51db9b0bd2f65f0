r"""EM on sufficient statistics, chunk by chunk: the same iteration as in the chapter on mixtures, many times faster.

In natural parameters the E step is a matrix product of coefficients and features, $\theta_k \cdot T(x_n)$,
and Bayes' rule. The M step asks of the data no more than

$$S_k = \sum_n \gamma(z_{nk}) \, T(x_n) = \left( \sum_n \gamma(z_{nk}), \; \sum_n \gamma(z_{nk}) \, z_n, \;
  \sum_n \gamma(z_{nk}) \, z_n z_n^T \right),$$

the *sufficient statistics*: one more product, with the same table of features. And $S_k$ is a sum over
points. So the data may come in chunks: from a file larger than memory, for several threads, or from many
workers, who add up what they found. And a chunk may come in blocks, so small that their features stay in the
processor's cache, which is where the speed comes from.

What this form costs is digits. Where a component's mean is r of its own deviations from the centre, taking
the square of the mean away from $\sum \gamma z z^T / N_k$ loses $\log_2(1 + r^2)$ binary digits.
`em_iteration` allows for `LOST` of them; beyond, it sees each component from its own mean instead, and where
that moves far in one iteration, from the new one. Either way the parameters are those of `gmm.em_iteration`,
up to rounding.

Chunks are pairs of points (C, D) and their weights (C,). A point that is there to fill a chunk up has weight
zero.

Source: C. Bishop, "Pattern Recognition and Machine Learning" (2006), section 9.2; R. Neal and G. Hinton, "A
view of the EM algorithm that justifies incremental, sparse, and other variants" (1998), section 4.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from common.data.passes import number_of_blocks, runs_of_rows
from common.mixtures.parameters import pairs, places
from tf2_impl import missing_data
from tf2_impl.backend import in_order
from tf2_impl.distributed import Workers
from tf2_impl.natural_parameters import bayes_rule, fast_features, natural_parameters, whitening

LOST = {tf.float64: 12, tf.float32: 8}  # binary digits, of 53 and of 24
NUMBERS_IN_A_BLOCK = 2**17  # 1 MB of float64, what a core's own cache holds
LARGEST_DIMENSION = 64  # beyond, the table of features is too large to be worth it

Chunks = Sequence[tuple[Tensor, Tensor]]
GRAPH = functools.cache(tf.function)  # one graph of a function for all callers; operations one by one are slow


class Statistics(NamedTuple):
    r"""The points' statistics for the M step: $S_k = \sum_n w_n \gamma(z_{nk}) T(x_n)$, and their log likelihood."""

    moments: Tensor  # (K, P)
    log_likelihood: Tensor  # ()


def chunk_statistics(
    x: Tensor, sample_weight: Tensor, centre: Tensor, parameters: Tensor, covariance_type: str = "full"
) -> Statistics:
    r"""The statistics of one chunk, seen from the centre (D,), under natural `parameters` (K, P).

    $$\log p(x_n, z_n = k) = \theta_k \cdot T(x_n), \qquad S_k = \sum_n w_n \, \gamma(z_{nk}) \, T(x_n)$$
    """
    table = fast_features(x, centre, covariance_type)  # (P, C)
    log_density, gamma = bayes_rule(parameters @ table)  # (C,), (K, C)
    moments = tf.matmul(gamma * sample_weight, table, transpose_b=True)  # (K, P)
    return Statistics(moments, tf.tensordot(sample_weight, log_density, 1))


def chunk_statistics_apart(
    x: Tensor,
    sample_weight: Tensor,
    references: Tensor,
    means: Tensor,
    whiten: Tensor,
    constant: Tensor,
    covariance_type: str = "full",
) -> Statistics:
    r"""The statistics of one chunk with component k seen from its own reference point, `references` (K, D).

    The densities are those of `whitening` at the means, so that only differences $x_n - \mu_k$ are squared.
    """
    difference = tf.transpose(x) - means[:, :, None]  # (K, D, C)
    y = whiten @ difference if covariance_type in ("full", "tied") else whiten[:, :, None] * difference  # (K, D, C)
    log_density, gamma = bayes_rule(constant[:, None] - 0.5 * tf.reduce_sum(tf.square(y), axis=1))  # (C,), (K, C)
    moments = moments_apart(x, gamma * sample_weight, references, covariance_type)  # (K, P)
    return Statistics(moments, tf.tensordot(sample_weight, log_density, 1))


def moments_apart(x: Tensor, gamma: Tensor, references: Tensor, covariance_type: str = "full") -> Tensor:
    r"""$S_k$ with component k seen from its own reference point, (K, P), from responsibilities (K, C)."""
    difference = tf.transpose(x) - references[:, :, None]  # (K, D, C)
    weighted = gamma[:, None, :] * difference  # (K, D, C)
    if covariance_type in ("full", "tied"):
        i, j = pairs(x.shape[1])
        scatter = tf.matmul(weighted, difference, transpose_b=True)  # (K, D, D)
        squares = tf.gather(tf.reshape(scatter, (len(gamma), -1)), i * x.shape[1] + j, axis=1)  # (K, D (D + 1) / 2)
    else:
        squares = tf.reduce_sum(weighted * difference, axis=2)  # (K, D)
    return tf.concat([tf.reduce_sum(gamma, axis=1, keepdims=True), tf.reduce_sum(weighted, axis=2), squares], axis=1)


def given_statistics(
    x: Tensor, gamma: Tensor, centre: Tensor | None, references: Tensor, covariance_type: str = "full"
) -> Statistics:
    """The statistics of a chunk (C, D) under responsibilities (C, K), from the centre (D,), or apart if it is None."""
    if centre is None:
        return Statistics(moments_apart(x, tf.transpose(gamma), references, covariance_type), tf.zeros((), x.dtype))
    return Statistics(tf.transpose(fast_features(x, centre, covariance_type) @ gamma), tf.zeros((), x.dtype))


def merge(a: Statistics, b: Statistics) -> Statistics:
    """The statistics of two sets of points together: the sums of each."""
    return Statistics(a.moments + b.moments, a.log_likelihood + b.log_likelihood)


def in_blocks(function: Callable[..., Statistics], x: Tensor, sample_weight: Tensor, *arguments: Any) -> Statistics:
    r"""The statistics of a chunk by one of these functions, block by block.

    The features of a block are seen twice, by two products; they should not have to leave the cache in
    between.
    """
    number = number_of_blocks(*x.shape, len(arguments[1]), NUMBERS_IN_A_BLOCK)  # each takes K rows second
    if number == 1:
        return function(x, sample_weight, *arguments)
    blocks = tf.reshape(x, (number, -1, x.shape[1])), tf.reshape(sample_weight, (number, -1, *sample_weight.shape[1:]))
    of_blocks = tf.map_fn(
        lambda block: function(*block, *arguments), blocks, fn_output_signature=Statistics(x.dtype, x.dtype)
    )
    return Statistics(*(tf.reduce_sum(part, axis=0) for part in of_blocks))


def maximise(
    moments: Tensor, references: Tensor, covariance_type: str = "full", reg_covar: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    r"""M step: weights, means and covariances from the parts $N_k, s_k, Q_k$ of $S_k$, seen from $c_k$, (K, D).

    $$\mu_k = c_k + \delta_k, \qquad \delta_k = \frac{s_k}{N_k}, \qquad
      \Sigma_k = \frac{1}{N_k} \left( Q_k - s_k \delta_k^T - \delta_k s_k^T + N_k \delta_k \delta_k^T \right)
      + \epsilon I$$

    As in `gmm.m_step`, ten machine epsilons are added to the $N_k$ that divide.

    Source: Bishop (2006), equations 9.24 to 9.27.
    """
    d = references.shape[1]
    n, s, q = moments[:, 0], moments[:, 1 : 1 + d], moments[:, 1 + d :]
    extra = 10 * np.finfo(moments.dtype.as_numpy_dtype).eps
    counts = n + extra  # (K,)
    weights = counts / tf.reduce_sum(counts)  # (K,)
    # sum gamma x / (N + extra) = c + delta
    delta = (s - extra * references) / counts[:, None]  # (K, D)
    means = references + delta
    if covariance_type in ("full", "tied"):
        crossed = s[:, :, None] * delta[:, None, :]  # (K, D, D)
        scatter = tf.gather(q, places(d), axis=1) - crossed - tf.linalg.matrix_transpose(crossed)  # (K, D, D)
        scatter = scatter + n[:, None, None] * delta[:, :, None] * delta[:, None, :]
        regularisation = reg_covar * tf.eye(d, dtype=moments.dtype)  # (D, D)
        if covariance_type == "full":
            return weights, means, scatter / counts[:, None, None] + regularisation
        return weights, means, tf.reduce_sum(scatter, axis=0) / tf.reduce_sum(counts) + regularisation
    variances = (q - 2 * s * delta + n[:, None] * tf.square(delta)) / counts[:, None] + reg_covar
    return weights, means, variances if covariance_type == "diag" else tf.reduce_mean(variances, axis=1)


def lost_digits(second_moments: Tensor, covariances: Tensor, covariance_type: str = "full") -> Tensor:
    r"""The binary digits lost when the square of the mean is taken away from second moments (K, D), a scalar.

    $$\max_{k, i} \log_2 \frac{\mathbb{E}_k[z_i^2]}{\Sigma_{k,ii}}
      = \max_{k, i} \log_2 \left( 1 + \frac{m_{ki}^2}{\Sigma_{k,ii}} \right)$$

    Of a variance that came out as zero, negative or NaN all digits are lost.
    """
    kept = _variances(second_moments, covariances, covariance_type) / second_moments  # (K, D)
    ratio = tf.where(kept > 0, 1 / kept, math.inf)  # (K, D)
    return tf.math.log(tf.reduce_max(ratio)) / math.log(2)


def em_iteration(
    chunks: Chunks,
    weights: Tensor,
    means: Tensor,
    covariances: Tensor,
    covariance_type: str = "full",
    reg_covar: float = 0.0,
    workers: Workers | None = None,
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    r"""One E step and one M step over all chunks: the new parameters, and the log likelihood of the *old* ones.

    The common centre is the mixture's own mean, $c = \sum_k \pi_k \mu_k$: after an M step, the mean of the
    data. The chunks are gone through once; a second time, about the new means, if those have moved so far
    that digits are lost. Of several `workers` each has chunks of its own, and all get the parameters that
    belong to all chunks.
    """
    kind, allowed = covariance_type, LOST[means.dtype]
    centre = tf.linalg.matvec(means, weights, transpose_a=True)  # (D,)
    squares = tf.square(means - centre) + _variances(means, covariances, kind)  # (K, D)
    if means.shape[1] <= LARGEST_DIMENSION and GRAPH(lost_digits)(squares, covariances, kind) <= allowed:
        references = tf.broadcast_to(centre, means.shape)  # (K, D)
        coefficients = GRAPH(natural_parameters)(weights, means, covariances, centre, kind)  # (K, P)
        statistics = total(workers, chunk_statistics, chunks, centre, coefficients, kind)
    else:
        references, apart = means, GRAPH(whitening)(weights, means, covariances, kind)
        statistics = total(workers, chunk_statistics_apart, chunks, references, means, *apart, kind)
    updated = GRAPH(maximise)(statistics.moments, references, kind, reg_covar)
    if GRAPH(lost_digits)(_second_moments(statistics.moments, means.shape[1]), updated[2], kind) > allowed:
        references, apart = updated[1], GRAPH(whitening)(weights, means, covariances, kind)
        statistics = total(workers, chunk_statistics_apart, chunks, references, means, *apart, kind)
        updated = GRAPH(maximise)(statistics.moments, references, kind, reg_covar)
    return updated, statistics.log_likelihood


def em_iteration_with_gaps(
    x: Tensor,
    observed: Tensor,
    weights: Tensor,
    means: Tensor,
    covariances: Tensor,
    reg_covar: float = 0.0,
    sample_weight: Tensor | None = None,
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    r"""`missing_data.em_iteration`; of a large table block by block, so that no table (C, K, D, D) is large.

    $$N_k = \sum_n \gamma(z_{nk}), \quad s_k = \sum_n \gamma(z_{nk}) (\hat{x}_{nk} - c_k),
      \quad Q_k = \sum_n \gamma(z_{nk}) \left( (\hat{x}_{nk} - c_k)(\hat{x}_{nk} - c_k)^T + C_{nk} \right)$$

    The statistics are those of the completed rows $\hat{x}_{nk}$, seen from the old means; once more from the
    new ones, if those have moved so far that digits are lost.
    """
    blocks = runs_of_rows(x.shape[0], means.shape[0] * x.shape[1] ** 2)
    if len(blocks) == 1:
        return missing_data.em_iteration(x, observed, weights, means, covariances, reg_covar, sample_weight)
    row_weights = tf.ones_like(x[:, 0]) if sample_weight is None else sample_weight  # (N,)
    data, parameters = [(x[rows], observed[rows], row_weights[rows]) for rows in blocks], (weights, means, covariances)
    statistics = functools.reduce(merge, (_completed_statistics(*block, means, *parameters) for block in data))
    updated = maximise(statistics.moments, means, "full", reg_covar)
    if lost_digits(_second_moments(statistics.moments, means.shape[1]), updated[2]) > LOST[means.dtype]:
        references = updated[1]  # (K, D)
        statistics = functools.reduce(merge, (_completed_statistics(*block, references, *parameters) for block in data))
        updated = maximise(statistics.moments, references, "full", reg_covar)
    return updated, statistics.log_likelihood


def total(workers: Workers | None, function: Callable[..., Statistics], chunks: Chunks, *arguments: Any) -> Statistics:
    """The merged statistics of all chunks, by one of the functions of a chunk, in the order of the chunks."""
    # The chunks of a table are of one shape, so each is traced once; XLA does not compile batched products well.
    compiled = GRAPH(in_blocks, jit_compile=function is chunk_statistics)
    of_chunks = in_order(lambda i: compiled(function, *chunks[i], *arguments), range(len(chunks)))
    merged = functools.reduce(merge, of_chunks)
    return merged if workers is None else Statistics(*workers.run(workers.add_up, merged))


def m_step(chunks: Chunks, covariance_type: str = "full", reg_covar: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    r"""`gmm.m_step` chunk by chunk, of pairs of points (C, D) and responsibilities (C, K), where EM starts from these.

    The chunks are gone through once, seen from the mean of the first; a second time, about the new means, if
    those are so far from there that digits are lost.
    """
    kind, (x, gamma) = covariance_type, chunks[0]
    centre = tf.reduce_mean(x, axis=0)  # (D,)
    references = tf.broadcast_to(centre, (gamma.shape[1], x.shape[1]))  # (K, D)
    for common in (centre if x.shape[1] <= LARGEST_DIMENSION else None, None):
        moments = total(None, given_statistics, chunks, common, references, kind).moments  # (K, P)
        updated = maximise(moments, references, kind, reg_covar)
        if lost_digits(_second_moments(moments, x.shape[1]), updated[2], kind) <= LOST[x.dtype]:
            break
        references = updated[1]
    return updated


def _variances(means: Tensor, covariances: Tensor, covariance_type: str) -> Tensor:
    """The variance of every feature in every component, (K, D)."""
    if covariance_type in ("full", "tied"):
        return tf.broadcast_to(tf.linalg.diag_part(covariances), means.shape)
    return tf.broadcast_to(tf.reshape(covariances, (len(means), -1)), means.shape)


def _second_moments(moments: Tensor, d: int) -> Tensor:
    """The mean square of each of the d features in every component, (K, D), seen from where the moments are."""
    return moments[:, 1 + d : 1 + 2 * d] / (moments[:, :1] + 10 * np.finfo(moments.dtype.as_numpy_dtype).eps)


def _completed_statistics(
    x: Tensor, observed: Tensor, sample_weight: Tensor, references: Tensor, *parameters: Tensor
) -> Statistics:
    """The statistics of a block of rows with gaps, with component k seen from its own reference point."""
    expected = missing_data.expected_statistics(x, observed, *parameters)
    gamma = sample_weight[:, None] * expected.responsibilities  # (C, K)
    difference = tf.transpose(expected.completed - references, (1, 0, 2))  # (K, C, D)
    weighted = tf.transpose(gamma)[:, :, None] * difference  # (K, C, D)
    unexplained = tf.reduce_sum(gamma[:, :, None, None] * expected.unexplained, axis=0)  # (K, D, D)
    i, j = pairs(references.shape[1])
    scatter = tf.matmul(weighted, difference, transpose_a=True) + unexplained  # (K, D, D)
    squares = tf.gather(tf.reshape(scatter, (len(scatter), -1)), i * references.shape[1] + j, axis=1)
    counts, sums = tf.reduce_sum(gamma, axis=0), tf.reduce_sum(weighted, axis=1)  # (K,), (K, D)
    return Statistics(
        tf.concat([counts[:, None], sums, squares], axis=1), tf.reduce_sum(sample_weight * expected.log_density)
    )
