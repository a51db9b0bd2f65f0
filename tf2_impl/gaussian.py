r"""One Gaussian: its density, the gradient of its log likelihood, and the estimates that make the gradient zero.

A coin has one number to learn. A Gaussian has two things: where its middle is, the *mean* $\mu$, and how far
and in which directions it spreads, the *covariance* $\Sigma$. Maximum likelihood asks for the pair under
which the observed points $x_1, \ldots, x_N$ are most probable, and calculus answers: the log likelihood is
highest where its gradient is zero.

For the mean the gradient is a sum of pulls, one from every point, each through the inverse of the covariance;
the pulls balance at the average of the points. For the covariance they balance at the average of the squared
deviations, which divides by N, not by N - 1: it is the maximum of the likelihood that is wanted here, and not
an unbiased estimate.

The gradient is here twice, as the formula that a pencil finds and as what the framework's automatic
differentiation makes of the log likelihood. That they agree is the licence to leave the pencil out later, in
the networks. And one Gaussian is where the closed form ends. With a mixture of them, the next chapter, the
same equations still say what a maximum satisfies, but no longer where it is, and iteration begins.

Shapes: N points of D features.

    x            (N, D)
    mean         (D,)
    covariance   (D, D)   symmetric, positive definite

Everything is in nats. Where a covariance is not positive definite, densities and gradients are NaN. The
estimate from D points or fewer is no such covariance: they fill no volume, and have no density.

Source: C. Bishop, "Pattern Recognition and Machine Learning" (2006), sections 1.2.4 and 2.3.4, equations
2.118 to 2.122.
"""

import math

import tensorflow as tf
from tensorflow import Tensor


def cholesky(covariances: Tensor) -> Tensor:
    r"""The lower triangular $L$ with $L L^T = \Sigma$, (..., D, D); NaN where $\Sigma$ is not positive definite.

    It is the square root of a covariance that a computer likes: it costs a third of an inverse, its diagonal
    gives the determinant, and solving with it gives $\Sigma^{-1} v$ for any $v$. No inverse need be formed.

    Where the frameworks differ: in failure. PyTorch's `cholesky` raises an error, and `cholesky_ex` reports
    it in a number for each matrix. TensorFlow says nothing: on a CPU it leaves NaN below the diagonal and
    whatever was in memory above. Of an infinite matrix either finds an infinite factor, or NaN, by the
    library that it was built with; here it counts as not positive definite. The factor is multiplied by NaN,
    not replaced: so gradients are NaN too.
    """
    factor = tf.linalg.cholesky(covariances)  # (..., D, D)
    exists = tf.reduce_all(tf.math.is_finite(tf.linalg.diag_part(factor)), axis=-1)  # (...)
    return tf.linalg.band_part(factor * tf.where(exists, tf.ones((), factor.dtype), math.nan)[..., None, None], -1, 0)


def univariate_log_density(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    r"""The log density of numbers under one Gaussian in one dimension, of the arguments' common shape.

    $$\log \mathcal{N}(x \mid \mu, \sigma^2)
      = -\frac{1}{2} \left( \log 2\pi + \log \sigma^2 + \frac{(x - \mu)^2}{\sigma^2} \right)$$

    Source: Bishop (2006), equation 1.46.
    """
    return -0.5 * (math.log(2 * math.pi) + tf.math.log(variance) + tf.square(x - mean) / variance)


def log_density(x: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    r"""The log density of every point, (N,).

    $$\log \mathcal{N}(x_n \mid \mu, \Sigma) = -\frac{D}{2} \log 2\pi - \frac{1}{2} \log |\Sigma|
      - \frac{1}{2} (x_n - \mu)^T \Sigma^{-1} (x_n - \mu)$$

    With the Cholesky factor $\Sigma = L L^T$ the quadratic form is the squared length of
    $y_n = L^{-1}(x_n - \mu)$ and $\log |\Sigma| = 2 \sum_i \log L_{ii}$.

    Source: Bishop (2006), equation 2.43.
    """
    factor = cholesky(covariance)  # (D, D)
    # y = L^-1 (x - mu), all points at once
    y = tf.linalg.triangular_solve(factor, tf.transpose(x - mean), lower=True)  # (D, N)
    # log|Sigma| = 2 sum_i log L_ii
    log_determinant = 2 * tf.reduce_sum(tf.math.log(tf.linalg.diag_part(factor)))  # ()
    # log N(x_n | mu, Sigma) = -1/2 (D log 2 pi + log|Sigma| + |y|²)
    return -0.5 * (x.shape[1] * math.log(2 * math.pi) + log_determinant + tf.reduce_sum(tf.square(y), axis=0))  # (N,)


def log_likelihood(x: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    r"""The log likelihood of independent points, a scalar in nats.

    $$\log p(X \mid \mu, \Sigma) = \sum_n \log \mathcal{N}(x_n \mid \mu, \Sigma)$$

    Source: Bishop (2006), equation 2.118.
    """
    return tf.reduce_sum(log_density(x, mean, covariance))


def mean_gradient(x: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    r"""The gradient of the log likelihood for the mean, (D,), as the formula.

    $$\frac{\partial}{\partial \mu} \log p(X \mid \mu, \Sigma) = \Sigma^{-1} \sum_n (x_n - \mu)$$

    Source: Bishop (2006), equation 2.120.
    """
    pull = tf.reduce_sum(x - mean, axis=0)  # (D,)
    # Sigma^-1 v by two triangular solves
    return tf.linalg.cholesky_solve(cholesky(covariance), pull[:, None])[:, 0]  # (D,)


def mean_gradient_by_autodiff(x: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    r"""The gradient of the log likelihood for the mean, (D,), by automatic differentiation.

    Where the frameworks differ: in what is asked. PyTorch makes a gradient function of a function
    (`torch.func.grad`); TensorFlow records on a tape what is computed from the tensors that it was told to
    watch, and plays it backwards.

    Source: Bishop (2006), equation 2.120, left-hand side.
    """
    with tf.GradientTape() as tape:
        tape.watch(mean)
        value = log_likelihood(x, mean, covariance)
    return tape.gradient(value, mean)


def covariance_gradient(x: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    r"""The gradient of the log likelihood for the covariance, (D, D), as the formula.

    $$\frac{\partial}{\partial \Sigma} \log p(X \mid \mu, \Sigma)
      = \frac{1}{2} \Sigma^{-1} \left( \sum_n (x_n - \mu)(x_n - \mu)^T - N \Sigma \right) \Sigma^{-1}$$

    Its entries treat $\Sigma_{ij}$ and $\Sigma_{ji}$ as two numbers and share their effect between them.

    Source: Bishop (2006), equation 2.118, with appendix C, equations C.21 and C.28.
    """
    difference = x - mean  # (N, D)
    # sum_n (x_n - mu)(x_n - mu)' - N Sigma: what the points spread more than the model says
    excess = tf.matmul(difference, difference, transpose_a=True) - x.shape[0] * covariance  # (D, D)
    factor = cholesky(covariance)  # (D, D)
    # Sigma^-1 E Sigma^-1 by solving from the left, transposing, and solving again
    return 0.5 * tf.linalg.cholesky_solve(factor, tf.transpose(tf.linalg.cholesky_solve(factor, excess)))  # (D, D)


def covariance_gradient_by_autodiff(x: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    r"""The gradient of the log likelihood for the covariance, (D, D), by automatic differentiation.

    The Cholesky factorisation's gradient is symmetric, so that this is the formula's, entry by entry.

    Source: Bishop (2006), equation 2.118.
    """
    with tf.GradientTape() as tape:
        tape.watch(covariance)
        value = log_likelihood(x, mean, covariance)
    return tape.gradient(value, covariance)


def maximum_likelihood(x: Tensor) -> tuple[Tensor, Tensor]:
    r"""The mean, (D,), and the covariance, (D, D), under which the points were most probable: both gradients are zero.

    $$\mu_{\mathrm{ML}} = \frac{1}{N} \sum_n x_n, \qquad
      \Sigma_{\mathrm{ML}} = \frac{1}{N} \sum_n (x_n - \mu_{\mathrm{ML}})(x_n - \mu_{\mathrm{ML}})^T$$

    The covariance is too small by the factor $(N - 1)/N$ on average, since the mean was fitted to the same
    points.

    Source: Bishop (2006), equations 2.121, 2.122 and 2.124.
    """
    # mu_ML = 1/N sum_n x_n
    mean = tf.reduce_mean(x, axis=0)  # (D,)
    difference = x - mean  # (N, D)
    # Sigma_ML = 1/N sum_n (x_n - mu)(x_n - mu)'
    return mean, tf.matmul(difference, difference, transpose_a=True) / x.shape[0]
