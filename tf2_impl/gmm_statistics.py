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

from common.data.chunks import number_of_blocks, runs_of_rows
from common.mixtures.parameters import pairs, places
from tf2_impl import missing_data
from tf2_impl.backend import in_order, numbers_in_a_block
from tf2_impl.distributed import Workers
from tf2_impl.graphs import traced
from tf2_impl.natural_parameters import bayes_rule, fast_features, log_joint, lost_digits, seen_from_centre, whitening

LOST = {tf.float64: 12, tf.float32: 8}  # binary digits, of 53 and of 24
LARGEST_DIMENSION = 64  # beyond, the table of features is too large to be worth it

Chunks = Sequence[tuple[Tensor, Tensor]]
Apart = tuple[Tensor, Tensor, Tensor]  # means, and what `whitening` gives: an E step by them loses no digits
MANY = 8  # chunks, for which compiling pays
GRAPH = functools.cache(tf.function)  # one graph of a function for all callers


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
    r"""The statistics of one chunk with component k seen from its own reference point, `references` (K, D)."""
    log_density, gamma = bayes_rule(log_joint(x, means, whiten, constant, covariance_type))  # (C,), (K, C)
    moments = moments_apart(x, gamma * sample_weight, references, covariance_type)  # (K, P)
    return Statistics(moments, tf.tensordot(sample_weight, log_density, 1))


def moments_apart(x: Tensor, gamma: Tensor, references: Tensor, covariance_type: str = "full") -> Tensor:
    r"""$S_k$ with component k seen from its own reference point, (K, P), from responsibilities (K, C)."""
    difference = x - references[:, None, :]  # (K, C, D)
    sums = tf.matmul(gamma[:, None, :], difference)[:, 0]  # (K, D)
    if covariance_type in ("full", "tied"):
        i, j = pairs(x.shape[1])
        scatter = tf.matmul(gamma[:, :, None] * difference, difference, transpose_a=True)  # (K, D, D)
        squares = tf.gather(tf.reshape(scatter, (gamma.shape[0], -1)), i * x.shape[1] + j, axis=1)  # (K, D (D + 1) / 2)
    else:
        squares = tf.matmul(gamma[:, None, :], tf.square(difference))[:, 0]  # (K, D)
    return tf.concat([tf.reduce_sum(gamma, axis=1, keepdims=True), sums, squares], axis=1)


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
    sizes = *x.shape, len(arguments[1]), *(kind for kind in arguments if isinstance(kind, str))  # K rows stand second
    number = number_of_blocks(numbers_in_a_block(), *sizes)
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

    Of several `workers` each has chunks of its own, and all get the parameters that belong to all chunks.
    """
    apart = means, *traced(whitening, ())(weights, means, covariances, covariance_type)
    updated, statistics, _ = iteration(chunks, covariances, apart, covariance_type, reg_covar, workers)
    return updated, statistics.log_likelihood


def iteration(
    chunks: Chunks, covariances: Tensor, apart: Apart, covariance_type: str, reg_covar: float, workers: Workers | None
) -> tuple[tuple[Tensor, Tensor, Tensor], Statistics, Tensor]:
    """The new parameters, the statistics that they were made of, and the references (K, D) that those are seen from.

    All components are seen from `nearest_centre` if that loses few digits. The chunks are gone through once;
    a second time, about the new means, if those have moved so far that digits are lost.
    """
    kind, means, allowed = covariance_type, apart[0], LOST[covariances.dtype]
    lost = math.inf
    if means.shape[1] <= LARGEST_DIMENSION:
        centre, coefficients, lost = traced(seen_from_centre, ())(covariances, *apart, kind)  # (D,), (K, P), ()
    if lost <= allowed:
        references = tf.broadcast_to(centre, means.shape)  # (K, D)
        statistics = total(workers, chunk_statistics, chunks, centre, coefficients, kind)
    else:
        references = means
        statistics = total(workers, chunk_statistics_apart, chunks, references, *apart, kind)
    updated, lost = traced(maximised, ())(statistics.moments, references, kind, reg_covar)
    if lost > allowed:
        references = updated[1]
        statistics = total(workers, chunk_statistics_apart, chunks, references, *apart, kind)
        updated, _ = traced(maximised, ())(statistics.moments, references, kind, reg_covar)
    return updated, statistics, references


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
    updated, lost = maximised(statistics.moments, means, "full", reg_covar)
    if lost > LOST[means.dtype]:
        references = updated[1]  # (K, D)
        statistics = functools.reduce(merge, (_completed_statistics(*block, references, *parameters) for block in data))
        updated, _ = maximised(statistics.moments, references, "full", reg_covar)
    return updated, statistics.log_likelihood


def total(workers: Workers | None, function: Callable[..., Statistics], chunks: Chunks, *arguments: Any) -> Statistics:
    """The merged statistics of all chunks, by one of the functions of a chunk, in the order of the chunks."""
    if len(chunks) < MANY:
        graph = traced(function, (0, 1))
    else:  # the chunks of a table are of one shape; XLA does not compile batched products well
        graph = functools.partial(GRAPH(in_blocks, jit_compile=function is chunk_statistics), function)
    of_chunks = in_order(lambda i: graph(*chunks[i], *arguments), range(len(chunks)))
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
        updated, lost = traced(maximised, ())(moments, references, kind, reg_covar)
        if lost <= LOST[x.dtype]:
            break
        references = updated[1]
    return updated


def maximised(
    moments: Tensor, references: Tensor, covariance_type: str, reg_covar: float
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """The parameters of an M step, and the digits that were lost there."""
    updated, d = maximise(moments, references, covariance_type, reg_covar), references.shape[1]
    eps = np.finfo(moments.dtype.as_numpy_dtype).eps
    squares = moments[:, 1 + d : 1 + 2 * d] / (moments[:, :1] + 10 * eps)  # (K, D)
    return updated, lost_digits(squares, updated[2], covariance_type)


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
    moments = tf.concat([counts[:, None], sums, squares], axis=1)  # (K, P)
    return Statistics(moments, tf.reduce_sum(sample_weight * expected.log_density))
