r"""The mixture of Gaussians when entries of the data are missing.

A station was down for a day, a question was left unanswered: the row has a gap. To drop the row throws away
what it does say; to fill the gap with the column's mean makes the data look less spread out and less
correlated than they are. EM needs neither. The missing entries are hidden variables like the component, and
the E step treats them so.

Two things are asked of it. What is the probability of a row's *observed* part? A part of a Gaussian vector is
Gaussian, with the matching part of the mean and of the covariance, so the responsibilities come from those
alone. And what would the missing part be? Given the observed part, it is Gaussian again: its mean is a linear
regression on what was observed, and its covariance is what the regression leaves unexplained. The M step then
takes means and covariances over the completed rows, and adds the unexplained covariance, for a guess does not
scatter as the truth would. Each round raises the likelihood of the data that were observed, and of nothing
else.

![The 37 days without ozone, filled with what one Gaussian expects of them: at first the mean, in the end a
regression on the other columns, of which the temperature is one.](gaps_filled.svg)

The smallest case in print shows what can happen. Twelve points in the plane, eight of which lack a
coordinate: the four complete ones show no correlation at all, and the likelihood has two equal maxima, at
correlations 1/2 and -1/2, with a saddle between them at 0. EM climbs to the one on whose side it starts.
Start on the saddle, and it stays there: what EM finds is a point where the gradient is zero, and which one
depends on the start.

This is right when entries are *missing at random*: whether an entry is missing may depend on what was
observed, but not on the missing value itself. If a sensor fails in the heat that it would have measured, no
formula here helps.

Shapes: N points of D features, K components; covariances of type full. For one Gaussian, K is 1.

    x                           (N, D)      zero where missing (or any finite number: it is not used)
    observed                    (N, D)      True where x was seen
    weights, means, covariances (K,), (K, D), (K, D, D)

In the equations a superscript picks entries: $o$ those that row n observed, $m$ those that it misses;
$\Sigma^{mo}$ has the rows of the missing and the columns of the observed. All patterns of gaps are computed
in one batch. Each point takes from $\Sigma_k$ the rows and columns that it observed and from the identity all
others, so that every matrix is D by D. An entry with a row of the identity and no difference from its mean
adds nothing, neither to the determinant nor to the quadratic form. The price is N times K Cholesky factors,
and tables (N, K, D, D): `gmm_statistics.py` iterates over large data in blocks of rows. No NaN enters the
arithmetic: `common.mixtures.input` turns a table with NaN into `x` and `observed`. Where a covariance is
not positive definite, its densities are NaN, as in `gmm.py`. Everything is in nats.

Source: Z. Ghahramani and M. Jordan, "Supervised learning from incomplete data via an EM approach", NIPS 6
(1994); R. Little and D. Rubin, "Statistical Analysis with Missing Data" (2nd edition, 2002), sections 8.2 and
11.2; the twelve points: G. Murray in the discussion of Dempster, Laird and Rubin (1977).
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from common.data.chunks import runs_of_rows
from tf2_impl.gaussian import cholesky


class ExpectedStatistics(NamedTuple):
    """What the E step knows of the hidden variables: of the component, and of the missing entries given each one."""

    log_density: Tensor  # log p(observed part of x_n)  (N,)
    responsibilities: Tensor  # p(z_n = k | observed part of x_n)  (N, K)
    completed: Tensor  # E[x_n | observed part, z_n = k]: x_n where it was observed  (N, K, D)
    unexplained: Tensor  # Cov[x_n | observed part, z_n = k]: zero where x_n was observed  (N, K, D, D)


def _whitening(x: Tensor, observed: Tensor, means: Tensor, covariances: Tensor) -> tuple[Tensor, Tensor]:
    # The Cholesky factor of every row's observed covariance, (N, K, D, D), and y = L^-1 (x - mu), (N, K, D).
    both = observed[:, None, :, None] & observed[:, None, None, :]  # (N, 1, D, D)
    identity = tf.eye(x.shape[1], dtype=x.dtype)  # (D, D)
    factor = cholesky(tf.where(both, covariances, identity))  # (N, K, D, D)
    difference = tf.where(observed[:, None, :], x[:, None, :] - means, 0.0)  # (N, K, D)
    return factor, tf.linalg.triangular_solve(factor, difference[..., None], lower=True)[..., 0]


def component_log_densities(x: Tensor, observed: Tensor, means: Tensor, covariances: Tensor) -> Tensor:
    r"""The log density of the observed part $o$ of every point under every component, (N, K).

    $$\log \mathcal{N}(x_n^o \mid \mu_k^o, \Sigma_k^{oo}) = -\frac{D_n^o}{2} \log 2\pi
      - \frac{1}{2} \log |\Sigma_k^{oo}| - \frac{1}{2} (x_n^o - \mu_k^o)^T (\Sigma_k^{oo})^{-1} (x_n^o - \mu_k^o)$$

    $D_n^o$ is the number of entries that row n observed. Of a row that observed nothing it is zero.

    Source: Bishop (2006), equations 2.43 and 2.98.
    """
    factor, y = _whitening(x, observed, means, covariances)  # (N, K, D, D), (N, K, D)
    # log|Sigma_oo| = 2 sum_i log L_ii, where the unobserved i have L_ii = 1
    log_determinant = 2 * tf.reduce_sum(tf.math.log(tf.linalg.diag_part(factor)), axis=-1)  # (N, K)
    n_observed = tf.reduce_sum(tf.cast(observed, x.dtype), axis=1, keepdims=True)  # (N, 1)
    squared_length = tf.reduce_sum(tf.square(y), axis=-1)  # (N, K)
    # log N(x_o | mu_o, Sigma_oo) = -1/2 (D_o log 2 pi + log|Sigma_oo| + |y|²)
    return -0.5 * (n_observed * math.log(2 * math.pi) + log_determinant + squared_length)  # (N, K)


def log_joint(x: Tensor, observed: Tensor, weights: Tensor, means: Tensor, covariances: Tensor) -> Tensor:
    r"""The log of the joint density of a point's observed part and its component, (N, K).

    $$\log p(x_n^o, z_n = k) = \log \pi_k + \log \mathcal{N}(x_n^o \mid \mu_k^o, \Sigma_k^{oo})$$

    Source: Ghahramani and Jordan (1994), section 3.
    """
    return tf.math.log(weights) + component_log_densities(x, observed, means, covariances)  # (N, K)


def log_likelihood(x: Tensor, observed: Tensor, weights: Tensor, means: Tensor, covariances: Tensor) -> Tensor:
    r"""The log likelihood of all that was observed, a scalar.

    $$\log p(X^o) = \sum_n \log \sum_k \pi_k \, \mathcal{N}(x_n^o \mid \mu_k^o, \Sigma_k^{oo})$$

    Source: Little and Rubin (2002), section 8.2.
    """
    return tf.reduce_sum(e_step(x, observed, weights, means, covariances)[0])


def e_step(x: Tensor, observed: Tensor, weights: Tensor, means: Tensor, covariances: Tensor) -> tuple[Tensor, Tensor]:
    r"""The log density of every point's observed part, (N,), and the responsibilities that follow from it, (N, K).

    $$\log p(x_n^o) = \log \sum_k p(x_n^o, z_n = k), \qquad
      \gamma(z_{nk}) = \exp \left( \log p(x_n^o, z_n = k) - \log p(x_n^o) \right)$$

    Source: Ghahramani and Jordan (1994), section 3.
    """
    joint = [log_joint(x[rows], observed[rows], weights, means, covariances) for rows in _blocks(x, means)]
    joint = tf.concat(joint, axis=0)  # (N, K)
    log_density = tf.reduce_logsumexp(joint, axis=1)  # (N,)
    return log_density, tf.exp(joint - log_density[:, None])  # (N,), (N, K)


def conditional_moments(x: Tensor, observed: Tensor, means: Tensor, covariances: Tensor) -> tuple[Tensor, Tensor]:
    r"""Mean, (N, K, D), and covariance, (N, K, D, D), of every row given its observed part $o$ and its component.

    $$\mathbb{E}[x_n^m \mid x_n^o, k] = \mu_k^m + \Sigma_k^{mo} (\Sigma_k^{oo})^{-1} (x_n^o - \mu_k^o)$$

    $$\mathrm{Cov}[x_n^m \mid x_n^o, k] = \Sigma_k^{mm} - \Sigma_k^{mo} (\Sigma_k^{oo})^{-1} \Sigma_k^{om}$$

    for the missing entries $m$. The observed ones are what they are: their mean is $x_n^o$, their covariance
    zero. With $\Sigma^{oo} = L L^T$ and $W = L^{-1} \Sigma^{o \cdot}$ the regression is $W^T y$, and $W^T W$
    is explained.

    Source: Bishop (2006), equations 2.81 and 2.82.
    """
    factor, y = _whitening(x, observed, means, covariances)  # (N, K, D, D), (N, K, D)
    rows = tf.where(observed[:, None, :, None], covariances, 0.0)  # (N, K, D, D)
    w = tf.linalg.triangular_solve(factor, rows, lower=True)  # (N, K, D, D)
    # mu_m + Sigma_mo Sigma_oo^-1 (x_o - mu_o)
    regression = means + tf.linalg.matvec(w, y, transpose_a=True)  # (N, K, D)
    # Sigma_mm - Sigma_mo Sigma_oo^-1 Sigma_om
    remainder = covariances - tf.matmul(w, w, transpose_a=True)  # (N, K, D, D)
    completed = tf.where(observed[:, None, :], x[:, None, :], regression)
    both_missing = ~(observed[:, None, :, None] | observed[:, None, None, :])  # (N, 1, D, D)
    return completed, tf.where(both_missing, 0.5 * (remainder + tf.linalg.matrix_transpose(remainder)), 0.0)


def expected_statistics(
    x: Tensor, observed: Tensor, weights: Tensor, means: Tensor, covariances: Tensor
) -> ExpectedStatistics:
    r"""E step: the distribution of all that is hidden, component and missing entries, under these parameters.

    $$p(z_n, x_n^m \mid x_n^o) = p(z_n \mid x_n^o) \, p(x_n^m \mid x_n^o, z_n)$$

    Source: Ghahramani and Jordan (1994), section 3.
    """
    log_density, gamma = e_step(x, observed, weights, means, covariances)
    return ExpectedStatistics(log_density, gamma, *conditional_moments(x, observed, means, covariances))


def m_step(
    statistics: ExpectedStatistics, reg_covar: float = 0.0, sample_weight: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    r"""M step: the weights, means and covariances that maximise the expected complete-data log likelihood.

    $$\pi_k = \frac{N_k}{N}, \qquad \mu_k = \frac{1}{N_k} \sum_n \gamma(z_{nk}) \, \hat{x}_{nk}$$

    $$\Sigma_k = \frac{1}{N_k} \sum_n \gamma(z_{nk}) \left( (\hat{x}_{nk} - \mu_k)(\hat{x}_{nk} - \mu_k)^T
      + C_{nk} \right) + \epsilon I$$

    $\hat{x}_{nk}$ is the completed row and $C_{nk}$ the covariance that the completion leaves unexplained.
    `reg_covar`, `sample_weight` and the ten machine epsilons in $N_k$ are those of `gmm.m_step`, which this
    is when nothing is missing.

    Source: Ghahramani and Jordan (1994), section 3; Little and Rubin (2002), section 11.2.
    """
    gamma, completed = statistics.responsibilities, statistics.completed  # (N, K), (N, K, D)
    if sample_weight is not None:
        gamma = gamma * sample_weight[:, None]
    # N_k = sum_n gamma_nk
    counts = tf.reduce_sum(gamma, axis=0) + 10 * np.finfo(gamma.dtype.as_numpy_dtype).eps  # (K,)
    # pi_k = N_k / N
    weights = counts / tf.reduce_sum(counts)  # (K,)
    # mu_k = 1/N_k sum_n gamma_nk xhat_nk
    means = tf.reduce_sum(gamma[:, :, None] * completed, axis=0) / counts[:, None]  # (K, D)
    # sum_n gamma_nk ((xhat_nk - mu_k)(xhat_nk - mu_k)' + C_nk)
    difference = tf.transpose(completed - means, (1, 0, 2))  # (K, N, D)
    weighted = tf.transpose(gamma)[:, :, None] * difference  # (K, N, D)
    unexplained = tf.reduce_sum(gamma[:, :, None, None] * statistics.unexplained, axis=0)  # (K, D, D)
    scatter = tf.matmul(weighted, difference, transpose_a=True) + unexplained  # (K, D, D)
    scatter = 0.5 * (scatter + tf.linalg.matrix_transpose(scatter))
    regularisation = reg_covar * tf.eye(means.shape[1], dtype=means.dtype)  # (D, D)
    return weights, means, scatter / counts[:, None, None] + regularisation


def em_iteration(
    x: Tensor,
    observed: Tensor,
    weights: Tensor,
    means: Tensor,
    covariances: Tensor,
    reg_covar: float = 0.0,
    sample_weight: Tensor | None = None,
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    r"""One E step and one M step: the new parameters, and the log likelihood of what was observed under the *old* ones.

    $$\log p(X^o \mid \theta^{\mathrm{new}}) \ge \log p(X^o \mid \theta^{\mathrm{old}})$$

    Source: Little and Rubin (2002), section 8.2.
    """
    statistics = expected_statistics(x, observed, weights, means, covariances)
    log_density = statistics.log_density  # (N,)
    total = tf.reduce_sum(log_density if sample_weight is None else sample_weight * log_density)
    return m_step(statistics, reg_covar, sample_weight), total


def impute(x: Tensor, observed: Tensor, weights: Tensor, means: Tensor, covariances: Tensor) -> Tensor:
    r"""The data with every missing entry at its mean given the observed part of its row, (N, D).

    $$\mathbb{E}[x_n^m \mid x_n^o] = \sum_k \gamma(z_{nk}) \, \mathbb{E}[x_n^m \mid x_n^o, k]$$

    The best guess of each entry, but a table of best guesses varies too little; `impute_draw` does not.

    Source: Ghahramani and Jordan (1994), section 3.
    """
    statistics = (
        expected_statistics(x[rows], observed[rows], weights, means, covariances) for rows in _blocks(x, means)
    )
    expected = [tf.reduce_sum(s.responsibilities[:, :, None] * s.completed, axis=1) for s in statistics]  # (C, D) each
    return tf.where(observed, x, tf.concat(expected, axis=0))  # (N, D)


def impute_draw(
    x: Tensor, observed: Tensor, weights: Tensor, means: Tensor, covariances: Tensor, uniforms: Tensor, noise: Tensor
) -> Tensor:
    r"""The data with the missing entries drawn from their distribution given the observed part of their row, (N, D).

    $$z_n = \min \left\{ k : u_n < \sum_{j \le k} \gamma(z_{nj}) \right\}, \qquad
      x_n^m = \mathbb{E}[x_n^m \mid x_n^o, z_n] + L_n \epsilon_n^m$$

    $L_n L_n^T$ is the covariance of $x_n^m$ given $x_n^o$ and $z_n$. The randomness is given: `uniforms` $u$,
    (N,), in (0, 1) and standard normal `noise` $\epsilon$, (N, D). Several such tables show what the gaps
    leave uncertain.

    Where the frameworks differ: PyTorch picks row n's component by indexing with two vectors, (n) and (z);
    TensorFlow has no such indexing, and gathers along the axis after the batch.

    Source: Little and Rubin (2002), section 5.4, on multiple imputation.
    """
    statistics = expected_statistics(x, observed, weights, means, covariances)
    # z = the first component whose cumulative responsibility exceeds u
    exceeded = tf.cumsum(statistics.responsibilities, axis=1) <= uniforms[:, None]  # (N, K)
    z = tf.minimum(tf.math.count_nonzero(exceeded, axis=1), means.shape[0] - 1)  # (N,)
    completed = tf.gather(statistics.completed, z, batch_dims=1)  # (N, D)
    unexplained = tf.gather(statistics.unexplained, z, batch_dims=1)  # (N, D, D)
    # the observed entries get the identity, so that the factor exists, and no noise
    factor = cholesky(unexplained + tf.linalg.diag(tf.cast(observed, x.dtype)))  # (N, D, D)
    drawn = completed + tf.linalg.matvec(factor, noise)  # (N, D)
    return tf.where(observed, x, drawn)


def _blocks(x: Tensor, means: Tensor) -> list[slice]:
    """Runs of rows, (C, D), whose tables (C, K, D, D) are small."""
    return runs_of_rows(x.shape[0], means.shape[0] * x.shape[1] ** 2)
