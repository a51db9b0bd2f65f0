r"""The mixture of Gaussians in natural parameters: its log density is linear in features of the point.

The log of a Gaussian density is a quadratic function of the point, so it is a *linear* function of the
numbers that make up quadratic functions: a one, the coordinates, and their products with each other. Write
these *features* of a point, seen from some centre $c$, as $T(x) = (1, z, z z^T)$ with $z = x - c$, of the
symmetric $z z^T$ each number once. Then component k is a row of coefficients $\theta_k$, its *natural
parameters*, and

$$\log p(x_n, z_n = k) = \theta_k \cdot T(x_n)$$

for all points and all components is one product of two matrices, which is what computers do best.
Distributions with such a form are called *exponential families*; the sums of $T(x_n)$ are all that maximum
likelihood ever needs of the data, whence their other name, *sufficient statistics*. The next chapter builds a
fast EM on them.

The form has a price. Far from the centre the terms are large and their sum is small, so digits cancel: fine
where the data surround the centre, and not where a small cluster is far away. `whitening` has the
coefficients of the safe form.

Tables stand upright, a point a column: (P, C) and (K, C) for C points, P features and K components. Other
shapes as in `gmm.py`.

Source: C. Bishop, "Pattern Recognition and Machine Learning" (2006), section 2.4.
"""

import math

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from common.mixtures.parameters import pairs
from tf2_impl.gaussian import cholesky


def features(x: Tensor, centre: Tensor, covariance_type: str = "full") -> Tensor:
    r"""The features of every point, (P, C), seen from the centre (D,).

    $$T(x_n) = \left( 1, z_{n1}, \dots, z_{nD}, z_{n1}^2, \dots, z_{nD}^2, z_{n1} z_{n2}, z_{n2} z_{n3}, \dots \right),
      \qquad z_n = x_n - c$$

    The products stand in the order of `common.mixtures.parameters.pairs`: the squares, of which diagonal and
    spherical covariances need no more, then all other pairs. P is 1 + D + D (D + 1) / 2, or 1 + 2 D. One and
    $z$ are products too, $1 \cdot 1$ and $1 \cdot z_i$, so that the table is the product of two selections of
    the same rows.
    """
    d = x.shape[1]
    z = tf.transpose(x) - centre[:, None]  # (D, C)
    factors = tf.concat([tf.ones_like(z[:1]), z], axis=0)  # (1 + D, C)
    i, j = pairs(d) if covariance_type in ("full", "tied") else (np.arange(d), np.arange(d))
    left = np.concatenate([np.zeros(1 + d, int), 1 + i])  # (P,)
    right = np.concatenate([np.arange(1 + d), 1 + j])  # (P,)
    return tf.gather(factors, left) * tf.gather(factors, right)  # (P, C)


def fast_features(x: Tensor, centre: Tensor, covariance_type: str = "full") -> Tensor:
    r"""The same table as `features`, (P, C), without gradients: what EM on large data uses.

    Where the frameworks differ: TensorFlow's compiler makes one loop of the plain form. PyTorch would write
    both selections to memory before it multiplies, so here it fills the table in place. The products
    $z_i z_{i + s}$ at one distance $s$ are those of two runs of rows, with the rows written twice in a
    circle. At D = 8 an iteration of EM on 100,000 points takes 9 ms so, and 50 ms with the plain form.
    """
    if covariance_type in ("full", "tied"):
        return features(x, centre, covariance_type)
    z = tf.transpose(x) - centre[:, None]  # (D, C)
    return tf.concat([tf.ones_like(z[:1]), z, tf.square(z)], axis=0)  # (P, C)


def lost_digits(second_moments: Tensor, covariances: Tensor, covariance_type: str = "full") -> Tensor:
    r"""The binary digits lost when the square of the mean is taken away from second moments (K, D), a scalar.

    $$\max_{k, i} \log_2 \frac{\mathbb{E}_k[z_i^2]}{\Sigma_{k,ii}}
      = \max_{k, i} \log_2 \left( 1 + \frac{m_{ki}^2}{\Sigma_{k,ii}} \right)$$

    Of a variance that came out as zero, negative or NaN all digits are lost.
    """
    kept = variances_of(second_moments, covariances, covariance_type) / second_moments  # (K, D)
    ratio = tf.where(kept > 0, 1 / kept, math.inf)  # (K, D)
    return tf.math.log(tf.reduce_max(ratio)) / math.log(2)


def nearest_centre(means: Tensor, covariances: Tensor, covariance_type: str = "full") -> Tensor:
    r"""The centre (D,) that is the fewest deviations away from the components' means.

    $$c_i = \arg\min_c \sum_k \frac{(\mu_{ki} - c)^2}{\Sigma_{k,ii}}
      = \frac{\sum_k \mu_{ki} / \Sigma_{k,ii}}{\sum_k 1 / \Sigma_{k,ii}}$$

    It lies near the narrow components, which lose the most digits. No centre loses fewer than this one less
    $\log_2 K$.
    """
    variances = variances_of(means, covariances, covariance_type)  # (K, D)
    shares = tf.reduce_min(variances, axis=0) / variances  # (K, D)
    return tf.reduce_sum(shares * means, axis=0) / tf.reduce_sum(shares, axis=0)


def variances_of(means: Tensor, covariances: Tensor, covariance_type: str) -> Tensor:
    """The variance of every feature in every component, (K, D)."""
    if covariance_type in ("full", "tied"):
        return tf.broadcast_to(tf.linalg.diag_part(covariances), means.shape)
    return tf.broadcast_to(tf.reshape(covariances, (means.shape[0], -1)), means.shape)


def natural_parameters(
    weights: Tensor, means: Tensor, covariances: Tensor, centre: Tensor, covariance_type: str = "full"
) -> Tensor:
    r"""The coefficients of the features in the log joint density, (K, P).

    With $m_k = \mu_k - c$ and $\Lambda_k = \Sigma_k^{-1}$, expanding the square gives

    $$\log \pi_k \mathcal{N}(x \mid \mu_k, \Sigma_k) = \left( \log \frac{\pi_k |\Lambda_k|^{1/2}}{(2\pi)^{D/2}}
      - \frac{1}{2} m_k^T \Lambda_k m_k \right) + (\Lambda_k m_k)^T z - \frac{1}{2} \sum_i \Lambda_{k,ii} z_i^2
      - \sum_{i < j} \Lambda_{k,ij} z_i z_j$$

    Source: Bishop (2006), equations 2.71 and 9.10.
    """
    return expanded(means, centre, *whitening(weights, means, covariances, covariance_type), covariance_type)


def expanded(means: Tensor, centre: Tensor, whiten: Tensor, constant: Tensor, covariance_type: str = "full") -> Tensor:
    r"""`natural_parameters` from what `whitening` gives: the square expanded, (K, P)."""
    m = means - centre  # (K, D)
    if covariance_type in ("full", "tied"):
        i, j = pairs(m.shape[1])
        precisions = tf.matmul(whiten, whiten, transpose_a=True)  # (K, D, D)
        linear = tf.linalg.matvec(precisions, m)  # (K, D)
        once_or_twice = tf.constant(np.where(i == j, 0.5, 1.0), m.dtype)
        quadratic = -once_or_twice * tf.gather(
            tf.reshape(precisions, (means.shape[0], -1)), i * means.shape[1] + j, axis=1
        )  # (K, D (D + 1) / 2)
    else:
        precisions = tf.square(whiten)  # (K, D)
        linear, quadratic = precisions * m, -0.5 * precisions
    constant = constant - 0.5 * tf.reduce_sum(linear * m, axis=1)  # (K,)
    return tf.concat([constant[:, None], linear, quadratic], axis=1)


def whitening(
    weights: Tensor, means: Tensor, covariances: Tensor, covariance_type: str = "full"
) -> tuple[Tensor, Tensor]:
    r"""$W_k$ with $W_k^T W_k = \Sigma_k^{-1}$, (K, D, D), or $1 / \sigma$, (K, D); and the constants, (K,).

    $$\log \pi_k \mathcal{N}(x \mid \mu_k, \Sigma_k) = \log \frac{\pi_k |W_k|}{(2\pi)^{D/2}}
      - \frac{1}{2} |W_k (x - \mu_k)|^2, \qquad W_k = L_k^{-1}, \quad \Sigma_k = L_k L_k^T$$
    """
    k, d = means.shape
    if covariance_type in ("full", "tied"):
        factor = cholesky(tf.broadcast_to(covariances, (k, d, d)))  # (K, D, D)
        whiten = tf.linalg.triangular_solve(factor, tf.eye(d, batch_shape=[k], dtype=means.dtype), lower=True)
        diagonal = tf.linalg.diag_part(whiten)  # (K, D)
    else:
        whiten = diagonal = tf.math.rsqrt(tf.broadcast_to(tf.reshape(covariances, (k, -1)), (k, d)))  # (K, D)
    constant = tf.math.log(weights) - 0.5 * d * math.log(2 * math.pi)  # (K,)
    return whiten, constant + tf.reduce_sum(tf.math.log(diagonal), axis=1)


def seen_from_centre(
    covariances: Tensor, means: Tensor, whiten: Tensor, constant: Tensor, covariance_type: str = "full"
) -> tuple[Tensor, Tensor, Tensor]:
    """The `nearest_centre` (D,), the coefficients (K, P) of features seen from there, and the digits that it loses."""
    centre = nearest_centre(means, covariances, covariance_type)  # (D,)
    squares = tf.square(means - centre) + variances_of(means, covariances, covariance_type)  # (K, D)
    coefficients = expanded(means, centre, whiten, constant, covariance_type)  # (K, P)
    return centre, coefficients, lost_digits(squares, covariances, covariance_type)


def bayes_rule(log_joint: Tensor) -> tuple[Tensor, Tensor]:
    r"""The log density of every point, (C,), and the responsibilities, (K, C), of log joint densities (K, C).

    $$\log p(x_n) = m_n + \log \sum_k e^{a_{nk} - m_n}, \qquad
      \gamma(z_{nk}) = \frac{e^{a_{nk} - m_n}}{\sum_j e^{a_{nj} - m_n}}, \qquad m_n = \max_k a_{nk}$$

    One exponential serves both. Below the smallest normal number, on which processors are slow, it is zero.
    """
    largest = tf.reduce_max(log_joint, axis=0)  # (C,)
    exponents = log_joint - largest  # (K, C)
    negligible = exponents <= 0.9 * math.log(np.finfo(log_joint.dtype.as_numpy_dtype).tiny)
    exponentials = tf.where(negligible, tf.zeros_like(exponents), tf.exp(exponents))  # (K, C)
    total = tf.reduce_sum(exponentials, axis=0)  # (C,)
    return largest + tf.math.log(total), exponentials / total


def log_joint(x: Tensor, means: Tensor, whiten: Tensor, constant: Tensor, covariance_type: str = "full") -> Tensor:
    """The log joint densities (K, C) of points (C, D), by `whitening`: only differences from the means are squared."""
    difference = tf.transpose(x) - means[:, :, None]  # (K, D, C)
    y = whiten @ difference if covariance_type in ("full", "tied") else whiten[:, :, None] * difference  # (K, D, C)
    return constant[:, None] - 0.5 * tf.reduce_sum(tf.square(y), axis=1)  # (K, C)


def e_step(
    x: Tensor, means: Tensor, whiten: Tensor, constant: Tensor, covariance_type: str = "full"
) -> tuple[Tensor, Tensor]:
    """The log densities (C,) and responsibilities (C, K) of points (C, D), with the coefficients of `whitening`."""
    log_density, gamma = bayes_rule(log_joint(x, means, whiten, constant, covariance_type))  # (C,), (K, C)
    return log_density, tf.transpose(gamma)


def from_centre(
    covariances: Tensor, means: Tensor, whiten: Tensor, constant: Tensor, covariance_type: str = "full"
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Tensor]:
    r"""The coefficients of `e_step_from_centre`, by `whitening`; and the binary digits that are lost, a scalar.

    $$W_k (x - \mu_k) = W_k z - b_k, \qquad b_k = W_k (\mu_k - c), \qquad z = x - c$$

    They are the centre (D,), all $W_k$ on top of each other, (K D, D), all $b_k$, (K D, 1), and the constants (K, 1).
    For diagonal and spherical covariances the square is expanded, and they are the centre, the coefficients of $z$
    and of $z^2$, (K, D) each, and the constants. What cancels is $|b_k|^2$ there, and $b_k$ here.
    """
    k, d = means.shape
    centre = nearest_centre(means, covariances, covariance_type)  # (D,)
    m = means - centre  # (K, D)
    if covariance_type in ("full", "tied"):
        shift = tf.linalg.matvec(whiten, m)  # (K, D)
        coefficients = centre, tf.reshape(whiten, (k * d, d)), tf.reshape(shift, (k * d, 1)), constant[:, None]
        cancelled = tf.norm(shift, axis=1)  # (K,)
    else:
        shift = whiten * m  # (K, D)
        cancelled = tf.reduce_sum(tf.square(shift), axis=1)  # (K,)
        coefficients = centre, whiten * shift, -0.5 * tf.square(whiten), (constant - 0.5 * cancelled)[:, None]
    return coefficients, tf.math.log(1 + tf.reduce_max(cancelled)) / math.log(2)


def e_step_from_centre(
    x: Tensor, centre: Tensor, first: Tensor, second: Tensor, constant: Tensor, covariance_type: str = "full"
) -> tuple[Tensor, Tensor]:
    """`e_step` with the coefficients of `from_centre`: products for all components at once."""
    z = tf.transpose(x) - centre[:, None]  # (D, C)
    if covariance_type in ("full", "tied"):
        y = tf.math.squared_difference(first @ z, second)  # (K D, C)
        squares = tf.reshape(y, (constant.shape[0], centre.shape[0], -1))  # (K, D, C)
        joint = constant - 0.5 * tf.reduce_sum(squares, axis=1)  # (K, C)
    else:
        joint = constant + first @ z + second @ tf.square(z)  # (K, C)
    log_density, gamma = bayes_rule(joint)  # (C,), (K, C)
    return log_density, tf.transpose(gamma)
