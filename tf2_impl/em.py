r"""Expectation maximisation in general, and its use for the most probable parameters.

Twice now the same two steps have fitted a model with a hidden choice $z$ behind every point. Why do they
work, and what may be done to them before they stop working? Write $X$ for all points, $Z$ for all choices,
$\theta$ for all parameters. If the choices were known, $\log p(X, Z \mid \theta)$ would be easy to maximise.
They are not, and $\log p(X \mid \theta)$ has the sum over them inside the logarithm.

Take *any* distribution $q(Z)$ as a guess of the choices. By the product rule $\log p(X \mid \theta) = \log
p(X, Z \mid \theta) - \log p(Z \mid X, \theta)$, whatever $Z$ is. Subtract $\log
q(Z)$ from both terms on the right, and average over $q$; the left side has no $Z$ and stays as it is:

$$\log p(X \mid \theta) = \mathcal{L}(q, \theta) + \mathrm{KL}(q \,\|\, p(Z \mid X, \theta))$$

with the averages of $\log p(X, Z \mid \theta) - \log q(Z)$, the *lower bound* (`lower_bound`), and of
$\log q(Z) - \log p(Z \mid X, \theta)$, the *Kullback-Leibler divergence* of the guess from the posterior
(`kl_divergence`). A divergence is never negative, so the bound is one, and in it the sum stands outside the
logarithm.

EM climbs the bound along one argument at a time. The E step moves $q$ with $\theta$ held: the left side does
not depend on $q$, so the bound is highest where the divergence is zero, at the posterior, and there it
touches the log likelihood. The M step moves $\theta$ with $q$ held: the bound rises, and the log likelihood,
which lies above it, rises at least as much.

![Four rounds on the geyser's waiting times. The E step closes the gap without moving the log likelihood; the M
step lifts the bound, and opens a new gap above it.](bound_and_divergence.svg)

Seen so, neither step has to go all the way. A better $q$ for a single point, or a $\theta$ that is merely
better, still raises the bound; that is the licence for incremental and for generalised EM. Even the family of
$q$ may be restricted so that the gap never closes: that is variational inference, and the variational
autoencoder lives on it.

In parameter space the picture is this one. Each E step raises a bound that touches the log likelihood where
we stand; each M step walks to its top. Here, for the mean of a Gaussian, every bound is a parabola. One often
reads that the bound is convex, or that it is concave. In general it is neither: it has $\mathcal{Q}$'s shape
(`expected_log_joint`), which is concave in the natural parameters of an exponential family, and may be
anything in others.

![The log likelihood as a function of one mean, the other parameters held, and the bounds that five rounds of
EM raise and climb. Each bound touches the curve at its dot; a dotted line leads from its top to the next
dot.](lower_bounds.svg)

![The same climb, one step at a time.](bound_touches_likelihood.svg)

Add a log prior $\log p(\theta)$ to the bound, and the same two steps climb to the most probable parameters
(MAP). The E step stays as it is; only the M step sees the prior. For a mixture of Gaussians this is more than
taste. The likelihood has no maximum: a component that shrinks onto one point makes it as large as you like
(`singularity.py`). A prior that finds tiny covariances improbable takes those peaks away.

Shapes: N points of D features, K choices (components).

    q, log_joint, log_posterior   (N, K)      rows of q sum to one
    x                             (N, D)
    weights, means, covariances   (K,), (K, D), (K, D, D): MAP is for covariances of type full
    prior                         concentration (K,), mean (D,), mean_precision (), scale (D, D), degrees_of_freedom ()

The first half serves any model through its `log_joint`; `gmm.py` makes one. The loop around the two steps,
which needs no tensors, is `common.mixtures.loop.em`. All values are sums over the points, in nats.

Source: Bishop (2006), sections 9.3 and 9.4; R. Neal and G. Hinton, "A view of the EM algorithm that justifies
incremental, sparse, and other variants" (1998); C. Fraley and A. Raftery, "Bayesian regularization for normal
mixture estimation and model-based clustering" (2007) for the prior.
"""

import math

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from common.mixtures.parameters import MixturePrior
from tf2_impl.gaussian import cholesky
from tf2_impl.gmm import component_log_densities, e_step


def log_evidence(log_joint: Tensor) -> Tensor:
    r"""The log likelihood of the data with the hidden choice summed out, a scalar.

    $$\log p(X \mid \theta) = \sum_n \log \sum_k p(x_n, z_n = k \mid \theta)$$

    Source: Bishop (2006), equation 9.69.
    """
    return tf.reduce_sum(tf.reduce_logsumexp(log_joint, axis=1))


def log_posterior(log_joint: Tensor) -> Tensor:
    r"""The log probability of every choice given its point, (N, K): Bayes' rule.

    $$\log p(z_n = k \mid x_n, \theta) = \log p(x_n, z_n = k \mid \theta) - \log p(x_n \mid \theta)$$

    Source: Bishop (2006), equation 9.13.
    """
    return log_joint - tf.reduce_logsumexp(log_joint, axis=1, keepdims=True)  # (N, K)


def posterior(log_joint: Tensor) -> Tensor:
    r"""E step: the distribution q that lifts the lower bound up to the log likelihood, (N, K).

    $$q_{nk} = p(z_n = k \mid x_n, \theta)$$

    Source: Bishop (2006), section 9.4.
    """
    return tf.exp(log_posterior(log_joint))  # (N, K)


def lower_bound(q: Tensor, log_joint: Tensor) -> Tensor:
    r"""The lower bound on the log likelihood, a scalar, for any distribution q.

    $$\mathcal{L}(q, \theta) = \sum_n \sum_k q_{nk} \left( \log p(x_n, z_n = k \mid \theta) - \log q_{nk} \right)$$

    Where $q_{nk} = 0$ the term is zero, also for an impossible choice, and so is its gradient.

    Where the frameworks differ: below the smallest normal number, 1.2e-38 in float32. TensorFlow takes what
    is smaller for zero, PyTorch computes with it. So zero is, in both, whatever lies below.

    Source: Bishop (2006), equation 9.71; Neal and Hinton (1998), where it is called F.
    """
    possible = q >= np.finfo(q.dtype.as_numpy_dtype).tiny  # (N, K)
    # log p(x_n, z_n = k | theta) - log q_nk; 0 log 0 = 0
    log_ratio = tf.where(possible, log_joint, 0.0) - tf.math.log(tf.where(possible, q, 1.0))  # (N, K)
    # L(q, theta) = sum_n sum_k q_nk (log p(x_n, z_n = k | theta) - log q_nk)
    return tf.reduce_sum(q * log_ratio)


def kl_divergence(q: Tensor, log_posterior: Tensor) -> Tensor:
    r"""The divergence of q from the posterior, a scalar: what the lower bound lacks. Never negative, zero at q = p.

    $$\mathrm{KL}(q \,\|\, p) = -\sum_n \sum_k q_{nk} \left( \log p(z_n = k \mid x_n, \theta) - \log q_{nk} \right)$$

    Why it is never negative: $\log u \le u - 1$, with equality at 1 alone. With $u = p / q$, averaged over
    $q$, the right side sums to $1 - 1 = 0$ at most. It is no distance: the order of its arguments matters.

    Source: Bishop (2006), equation 9.72.
    """
    return -lower_bound(q, log_posterior)


def expected_log_joint(q: Tensor, log_joint: Tensor) -> Tensor:
    r"""The expectation under q of the log joint of data and choices, a scalar: what the M step maximises over theta.

    $$\mathcal{Q}(\theta, \theta^{\mathrm{old}}) = \sum_n \sum_k q_{nk} \log p(x_n, z_n = k \mid \theta),
      \qquad q_{nk} = p(z_n = k \mid x_n, \theta^{\mathrm{old}})$$

    It is the lower bound without the entropy of q, on which theta has no influence. With the old posterior as
    q, its gradient at $\theta^{\mathrm{old}}$ is the gradient of the log likelihood there.

    As a function of $\theta$ it decides the shape of the bound: concave in the natural parameters where
    $p(x, z)$ is of the exponential family, and in general neither concave nor convex.

    Source: Bishop (2006), equations 9.30 and 9.74.
    """
    possible = q >= np.finfo(q.dtype.as_numpy_dtype).tiny  # (N, K)
    return tf.reduce_sum(q * tf.where(possible, log_joint, 0.0))


def dirichlet_log_density(weights: Tensor, concentration: Tensor) -> Tensor:
    r"""The log density of the weights under a Dirichlet distribution, a scalar.

    The Beta density's relative for more than two faces: the prior of a die.

    $$\log \mathrm{Dir}(\pi \mid \alpha) = \log \Gamma \left( \sum_k \alpha_k \right) - \sum_k \log \Gamma(\alpha_k)
      + \sum_k (\alpha_k - 1) \log \pi_k$$

    A weight of zero is as good as any other where $\alpha_k = 1$.

    Source: Bishop (2006), equation 2.38.
    """
    normaliser = tf.math.lgamma(tf.reduce_sum(concentration)) - tf.reduce_sum(tf.math.lgamma(concentration))
    # (alpha - 1) log pi, with 0 log 0 = 0
    log_weights = tf.math.log(tf.where(concentration == 1, tf.ones_like(weights), weights))  # (K,)
    return normaliser + tf.reduce_sum((concentration - 1) * log_weights)


def normal_inverse_wishart_log_density(means: Tensor, covariances: Tensor, prior: MixturePrior) -> Tensor:
    r"""The log density of the mean and the covariance of every component under the prior, (K,).

    Normal for the mean given the covariance, inverse Wishart (IW) for the covariance: the conjugate prior of
    a Gaussian, as the Beta is of a coin. It acts as $\kappa_0$ points seen at $m_0$, and its $S_0$ keeps
    $\Sigma$ away from zero.

    $$\log p(\mu_k, \Sigma_k) = \log \mathcal{N}(\mu_k \mid m_0, \Sigma_k / \kappa_0)
      + \log \mathrm{IW}(\Sigma_k \mid S_0, \nu_0)$$

    $$\log \mathrm{IW}(\Sigma \mid S, \nu) = \frac{\nu}{2} \log |S| - \frac{\nu D}{2} \log 2
      - \log \Gamma_D \left( \frac{\nu}{2} \right) - \frac{\nu + D + 1}{2} \log |\Sigma|
      - \frac{1}{2} \mathrm{tr}(S \Sigma^{-1})$$

    $$\log \Gamma_D(a) = \frac{D (D - 1)}{4} \log \pi + \sum_{d=0}^{D-1} \log \Gamma \left( a - \frac{d}{2} \right)$$

    With $\Sigma = L L^T$ and $S = R R^T$ the trace is the squared length of $L^{-1} R$.

    Source: Fraley and Raftery (2007), section 2; K. Murphy, "Machine Learning: A Probabilistic Perspective"
    (2012), section 4.6.3.
    """
    k, d = means.shape
    nu = prior.degrees_of_freedom
    factor, prior_factor = cholesky(covariances), cholesky(prior.scale)  # (K, D, D), (D, D)
    # log|Sigma| = 2 sum_i log L_ii
    log_determinant = 2 * tf.reduce_sum(tf.math.log(tf.linalg.diag_part(factor)), axis=-1)  # (K,)
    log_determinant_of_scale = 2 * tf.reduce_sum(tf.math.log(tf.linalg.diag_part(prior_factor)))
    # tr(S Sigma^-1) = |L^-1 R|²
    ratio = tf.linalg.triangular_solve(factor, tf.broadcast_to(prior_factor, (k, d, d)), lower=True)  # (K, D, D)
    trace = tf.reduce_sum(tf.square(ratio), axis=(1, 2))  # (K,)
    # log Gamma_D(nu / 2) = D (D - 1) / 4 log pi + sum_d log Gamma((nu - d) / 2)
    halves = 0.5 * (nu - tf.range(d, dtype=means.dtype))  # (D,)
    log_gamma = 0.25 * d * (d - 1) * math.log(math.pi) + tf.reduce_sum(tf.math.lgamma(halves))
    normaliser = 0.5 * nu * (log_determinant_of_scale - d * math.log(2)) - log_gamma
    inverse_wishart = normaliser - 0.5 * ((nu + d + 1) * log_determinant + trace)  # (K,)
    # N(mu | m_0, Sigma / kappa_0) = N(m_0 | mu, Sigma / kappa_0)
    normal = component_log_densities(prior.mean[None, :], means, covariances / prior.mean_precision)[0]  # (K,)
    return normal + inverse_wishart


def log_prior(weights: Tensor, means: Tensor, covariances: Tensor, prior: MixturePrior) -> Tensor:
    r"""The log density of all parameters under the prior, a scalar, with every constant.

    $$\log p(\theta) = \log \mathrm{Dir}(\pi \mid \alpha) + \sum_k \log p(\mu_k, \Sigma_k)$$

    Source: Fraley and Raftery (2007), section 2.
    """
    components = normal_inverse_wishart_log_density(means, covariances, prior)  # (K,)
    return dirichlet_log_density(weights, prior.concentration) + tf.reduce_sum(components)


def map_m_step(x: Tensor, responsibilities: Tensor, prior: MixturePrior) -> tuple[Tensor, Tensor, Tensor]:
    r"""M step of MAP: the weights, means and covariances that maximise $\mathcal{Q}$ plus the log prior.

    $$\pi_k = \frac{N_k + \alpha_k - 1}{N + \sum_j \alpha_j - K}, \qquad
      \mu_k = \frac{\kappa_0 m_0 + \sum_n \gamma(z_{nk}) \, x_n}{\kappa_0 + N_k}$$

    $$\Sigma_k = \frac{1}{\nu_0 + N_k + D + 2} \, \Bigl( S_0 + \sum_n \gamma(z_{nk}) (x_n - \mu_k)(x_n - \mu_k)^T
      + \kappa_0 (\mu_k - m_0)(\mu_k - m_0)^T \Bigr)$$

    This is the update of the source, whose scatter is taken about the component's own mean $\bar{x}_k$
    instead, with $\kappa_0 N_k / (\kappa_0 + N_k) (\bar{x}_k - m_0)(\bar{x}_k - m_0)^T$ added. Here nothing
    is divided by $N_k$: a component without points falls back on the prior's mode.

    Source: Fraley and Raftery (2007), section 2; Bishop (2006), exercise 9.4.
    """
    d = x.shape[1]
    kappa, nu = prior.mean_precision, prior.degrees_of_freedom
    # N_k = sum_n gamma_nk
    counts = tf.reduce_sum(responsibilities, axis=0)  # (K,)
    # N_k + alpha_k - 1
    pseudo_counts = counts + prior.concentration - 1  # (K,)
    # pi_k = (N_k + alpha_k - 1) / (N + sum_j alpha_j - K)
    weights = pseudo_counts / tf.reduce_sum(pseudo_counts)  # (K,)
    # sum_n gamma_nk x_n
    sums = tf.matmul(responsibilities, x, transpose_a=True)  # (K, D)
    # mu_k = (kappa_0 m_0 + sum_n gamma_nk x_n) / (kappa_0 + N_k)
    means = (kappa * prior.mean + sums) / (kappa + counts)[:, None]  # (K, D)
    difference = tf.transpose(x[:, None, :] - means, (1, 0, 2))  # (K, N, D)
    weighted = tf.transpose(responsibilities)[:, :, None] * difference  # (K, N, D)
    # sum_n gamma_nk (x_n - mu_k)(x_n - mu_k)'
    scatter = tf.matmul(weighted, difference, transpose_a=True)  # (K, D, D)
    # mu_k - m_0
    shift = means - prior.mean  # (K, D)
    pulled = prior.scale + scatter + kappa * shift[:, :, None] * shift[:, None, :]  # (K, D, D)
    symmetric = 0.5 * (pulled + tf.linalg.matrix_transpose(pulled))  # (K, D, D)
    # Sigma_k = (S_0 + scatter + kappa_0 (mu_k - m_0)(mu_k - m_0)') / (nu_0 + N_k + D + 2)
    covariances = symmetric / (nu + counts + d + 2)[:, None, None]  # (K, D, D)
    return weights, means, covariances


def map_em_iteration(
    x: Tensor, weights: Tensor, means: Tensor, covariances: Tensor, prior: MixturePrior
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    r"""One E step and one M step of MAP: the new parameters, and log likelihood plus log prior of the *old* ones.

    $$\log p(X \mid \theta^{\mathrm{new}}) + \log p(\theta^{\mathrm{new}})
      \ge \log p(X \mid \theta^{\mathrm{old}}) + \log p(\theta^{\mathrm{old}})$$

    Source: Bishop (2006), section 9.4, where it turns to the posterior.
    """
    log_density, gamma = e_step(x, weights, means, covariances)  # (N,), (N, K)
    objective = tf.reduce_sum(log_density) + log_prior(weights, means, covariances, prior)
    return map_m_step(x, gamma, prior), objective
