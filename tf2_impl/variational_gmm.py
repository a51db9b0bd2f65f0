r"""The Bayesian mixture of Gaussians: nothing is estimated, everything is believed, to a degree.

EM picks the one set of parameters under which the data were most probable. A Bayesian keeps all of them, each
with its posterior probability, and then neither of EM's two vices is left. No component can collapse onto a
point, since a prior finds such precisions improbable; and one may ask how many components there are. The
evidence $p(X)$ averages the likelihood over all parameters, so that a component that is not needed costs more
than it brings.

The posterior over choices, weights, means and precisions together is out of reach. Variational inference
takes the best approximation to it in which the choices are independent of the parameters,
$q(Z) \, q(\pi, \mu, \Lambda)$. Since

$$\log p(X) = \mathcal{L}(q) + \mathrm{KL}(q \,\|\, p(\cdot \mid X)), \qquad
  \mathcal{L}(q) = \mathbb{E}_q[\log p(X, Z, \pi, \mu, \Lambda)] - \mathbb{E}_q[\log q],$$

the best is the one with the highest bound $\mathcal{L}$, and each factor in turn can be made best in closed
form. The result looks like EM. The E step computes responsibilities, from expected logarithms where EM has
logarithms; the M step updates beliefs instead of estimates. Run with six components on data that have two, it
leaves four with nothing: their weights go to zero, and their beliefs back to the prior.

![Six components on Old Faithful. One after the other loses its points and fades; two
remain.](components_dying_out.svg)

![The same, iteration by iteration; points have the colour of their likeliest component.](components_die_out.svg)

![The bound peaks at two components. The likelihood keeps rising with each component it is given, and chooses
nothing.](choosing_components.svg)

Shapes: N points of D features, K components; `x` (N, D), `responsibilities` (N, K); prior and posterior as in
`common/mixtures/parameters.py`, made of the pieces in `conjugate.py`. Everything is in nats.

Source: Bishop (2006), section 10.2. Some printings of 10.63 have $N_k + 1$; $\nu_k = \nu_0 + N_k$ is right.
"""

import math
from typing import NamedTuple

import tensorflow as tf
from tensorflow import Tensor

from common.mixtures.parameters import VariationalPosterior, VariationalPrior
from tf2_impl import conjugate, gmm


class Statistics(NamedTuple):
    """All that the beliefs need to know of the data, given the responsibilities."""

    counts: Tensor  # N_k (K,)
    means: Tensor  # (K, D)
    scatters: Tensor  # N_k S_k (K, D, D) full | their mean (D, D) tied | diagonals (K, D) diag | means of those (K,)


class Bound(NamedTuple):
    """The seven terms of the lower bound on log p(X), each with its own sign, in nats: four for p, three for q."""

    points: Tensor  # E[log p(X | Z, mu, Lambda)], equation 10.71
    choices: Tensor  # E[log p(Z | pi)], 10.72
    weights: Tensor  # E[log p(pi)], 10.73
    components: Tensor  # E[log p(mu, Lambda)], 10.74
    choices_entropy: Tensor  # -E[log q(Z)], 10.75
    weights_entropy: Tensor  # -E[log q(pi)], 10.76
    components_entropy: Tensor  # -E[log q(mu, Lambda)], 10.77


def statistics(
    x: Tensor, responsibilities: Tensor, covariance_type: str = "full", reg_covar: float = 0.0
) -> Statistics:
    r"""The responsible points of every component: how many, where, and how far spread.

    $$N_k = \sum_n r_{nk}, \qquad \bar{x}_k = \frac{1}{N_k} \sum_n r_{nk} x_n, \qquad
      S_k = \frac{1}{N_k} \sum_n r_{nk} (x_n - \bar{x}_k)(x_n - \bar{x}_k)^T + \epsilon I$$

    $\epsilon$ is `reg_covar`, 0 in the book. Above 0, as scikit-learn has it, each point is taken for a small
    cloud in the M step and not in the E step: the bound is still one, but may fall by a little of the order
    of $\epsilon$.

    Source: Bishop (2006), equations 10.51 to 10.53.
    """
    _, means, covariances = gmm.m_step(x, responsibilities, covariance_type, reg_covar)
    return summed(tf.reduce_sum(responsibilities, axis=0), means, covariances, covariance_type)


def summed(counts: Tensor, means: Tensor, covariances: Tensor, covariance_type: str = "full") -> Statistics:
    """The statistics of points whose counts (K,), means (K, D) and covariances, of their kind, are these."""
    return Statistics(
        counts, means, _times(tf.reduce_mean(counts) if covariance_type == "tied" else counts, covariances)
    )


def update_weights(counts: Tensor, prior: VariationalPrior) -> Tensor:
    r"""The best q(pi): the concentration, (K,) of a Dirichlet or (2, K) of the shares broken off a stick.

    $$\alpha_k = \alpha_0 + N_k, \qquad v_k \sim \mathrm{Beta} \left( 1 + N_k, \, \alpha_0 + \sum_{j>k} N_j \right)$$

    Source: Bishop (2006), equation 10.58; Blei and Jordan (2006), equations 18 and 19.
    """
    return prior.weight_concentration + conjugate.counts_of_shares(counts, prior.weight_concentration)


def update_components(
    data: Statistics, prior: VariationalPrior, covariance_type: str = "full"
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""The best q(mu, Lambda): mean precisions (K,), means (K, D), degrees of freedom, and covariances of its kind.

    $$\beta_k = \beta_0 + N_k, \qquad m_k = \frac{\beta_0 m_0 + N_k \bar{x}_k}{\beta_k}, \qquad \nu_k = \nu_0 + N_k$$

    $$\nu_k C_k = W_k^{-1} = W_0^{-1} + N_k S_k
      + \frac{\beta_0 N_k}{\beta_0 + N_k} (\bar{x}_k - m_0)(\bar{x}_k - m_0)^T$$

    $C_k = \mathbb{E}[\Lambda_k]^{-1}$ is what scikit-learn calls the covariance. A tied kind averages the
    sums of all components, their counts too; a diagonal one keeps the diagonal, a spherical one its mean.

    Source: Bishop (2006), equations 10.60 to 10.63.
    """
    counts, beta = data.counts, prior.mean_precision + data.counts  # (K,), (K,)
    means = (prior.mean_precision * prior.mean + counts[:, None] * data.means) / beta[:, None]  # (K, D)
    shift, pull = data.means - prior.mean, prior.mean_precision * counts / beta  # (K, D), (K,)
    if covariance_type in ("full", "tied"):
        between = pull[:, None, None] * shift[:, :, None] * shift[:, None, :]  # (K, D, D)
        between = tf.reduce_mean(between, axis=0) if covariance_type == "tied" else between
    else:
        between = pull[:, None] * tf.square(shift)  # (K, D)
        between = tf.reduce_mean(between, axis=1) if covariance_type == "spherical" else between
    nu = prior.degrees_of_freedom + (tf.reduce_mean(counts) if covariance_type == "tied" else counts)  # (K,) | ()
    return beta, means, nu, _times(1 / nu, prior.covariance + data.scatters + between)


def m_step(data: Statistics, prior: VariationalPrior, covariance_type: str = "full") -> VariationalPosterior:
    r"""Variational M step: the best beliefs about weights, means and precisions, given the responsibilities.

    Source: Bishop (2006), equations 10.57 to 10.63.
    """
    return VariationalPosterior(update_weights(data.counts, prior), *update_components(data, prior, covariance_type))


def expected_log_densities(x: Tensor, posterior: VariationalPosterior, covariance_type: str = "full") -> Tensor:
    r"""The expected log density of every point under every component, (N, K).

    $$\mathbb{E}[\log \mathcal{N}(x_n \mid \mu_k, \Lambda_k^{-1})] = \frac{1}{2} \, \mathbb{E}[\log |\Lambda_k|]
      - \frac{D}{2} \log 2\pi - \frac{D}{2 \beta_k} - \frac{1}{2} (x_n - m_k)^T \nu_k W_k \, (x_n - m_k)$$

    This is the log density under the Gaussian with the expected mean and precision, less the price of knowing
    neither: $D / (2 \beta_k)$ for the mean, half the gap between $\log |\mathbb{E}[\Lambda_k]|$ and
    $\mathbb{E}[\log |\Lambda_k|]$ for the precision.

    Source: Bishop (2006), equations 10.46, 10.64 and 10.65.
    """
    plug_in = gmm.component_log_densities(x, posterior.means, posterior.covariances, covariance_type)  # (N, K)
    return plug_in + _price_of_not_knowing(posterior, covariance_type)


def expected_log_scales(posterior: VariationalPosterior, covariance_type: str = "full") -> Tensor:
    r"""What the E step adds to the log density under the Gaussian with the expected mean and precision, (K,).

    $$\mathbb{E}[\log \pi_k] + \frac{1}{2} (\mathbb{E}[\log |\Lambda_k|] - \log |\mathbb{E}[\Lambda_k]| - D / \beta_k)$$
    """
    log_weights = conjugate.expected_log_weights(posterior.weight_concentration)  # (K,)
    return log_weights + _price_of_not_knowing(posterior, covariance_type)


def e_step(x: Tensor, posterior: VariationalPosterior, covariance_type: str = "full") -> tuple[Tensor, Tensor]:
    r"""Variational E step: the logs of the normalisers, (N,), and the responsibilities, (N, K): the best q(Z).

    $$\log \rho_{nk} = \mathbb{E}[\log \pi_k] + \mathbb{E}[\log \mathcal{N}(x_n \mid \mu_k, \Lambda_k^{-1})], \qquad
      r_{nk} = \frac{\rho_{nk}}{\sum_j \rho_{nj}}$$

    The normaliser is no density, but lies below one, that of `predictive_log_density`: logs average to less.

    Source: Bishop (2006), equations 10.46 and 10.49.
    """
    plug_in = gmm.component_log_densities(x, posterior.means, posterior.covariances, covariance_type)  # (N, K)
    log_rho = plug_in + expected_log_scales(posterior, covariance_type)  # (N, K)
    log_normaliser = tf.reduce_logsumexp(log_rho, axis=1)  # (N,)
    return log_normaliser, tf.exp(log_rho - log_normaliser[:, None])


def bound_terms(
    data: Statistics,
    responsibilities: Tensor,
    posterior: VariationalPosterior,
    prior: VariationalPrior,
    covariance_type: str = "full",
) -> Bound:
    r"""The terms of the lower bound, with every constant, for any responsibilities and any posterior.

    $$\mathbb{E}[\log p(X \mid Z, \mu, \Lambda)] = \sum_k N_k \, \mathbb{E}[\log \mathcal{N}(\bar{x}_k \mid \mu_k,
      \Lambda_k^{-1})] - \frac{1}{2} \sum_k \mathbb{E}[\mathrm{tr}(N_k S_k \Lambda_k)]$$

    $$\mathbb{E}[\log p(\mu_k, \Lambda_k)] = \mathbb{E}[\log \mathcal{N}(\mu_k \mid m_0, (\beta_0 \Lambda_k)^{-1})]
      + \mathbb{E}[\log \mathcal{W}(\Lambda_k \mid W_0, \nu_0)]$$

    $$-\mathbb{E}[\log q(\mu_k, \Lambda_k)] = \frac{D}{2} \left( 1 + \log \frac{2\pi}{\beta_k} \right)
      - \frac{1}{2} \mathbb{E}[\log |\Lambda_k|] - \mathbb{E}[\log \mathcal{W}(\Lambda_k \mid W_k, \nu_k)]$$

    Source: Bishop (2006), equations 10.71 to 10.77.
    """
    (k, d), kind, alpha = posterior.means.shape, covariance_type, posterior.weight_concentration
    nu, inverse_scale = _wisharts(posterior, kind)
    nu_0, inverse_scale_0 = conjugate.independent_wisharts(prior.degrees_of_freedom, prior.covariance, k, d, kind)
    _, scatters = conjugate.independent_wisharts(prior.degrees_of_freedom, data.scatters, k, d, kind)
    wishart_of_q = conjugate.expected_log_wishart(nu, inverse_scale, nu, inverse_scale)  # (...)
    wishart_of_p = conjugate.expected_log_wishart(nu, inverse_scale, nu_0, inverse_scale_0)  # (...)
    log_determinant = conjugate.of_components(conjugate.expected_log_determinant(nu, inverse_scale), k, d, kind)  # (K,)
    at_means = tf.linalg.diag_part(expected_log_densities(data.means, posterior, kind))  # (K,)
    spread = conjugate.expected_trace(scatters, nu, inverse_scale)  # (...)
    # the log density of mu_k under N(m_0, (beta_0 Lambda_k)^-1) is that of m_0 under N(mu_k, (beta_0 Lambda_k)^-1)
    beta, beta_0 = posterior.mean_precision, prior.mean_precision
    narrowed = posterior._replace(mean_precision=beta / beta_0, covariances=posterior.covariances / beta_0)
    mean_of_p = expected_log_densities(prior.mean[None, :], narrowed, kind)[0]  # (K,)
    mean_of_q = 0.5 * (log_determinant - d * (1 + math.log(2 * math.pi) - tf.math.log(beta)))  # (K,)
    return Bound(
        points=tf.reduce_sum(data.counts * at_means) - 0.5 * tf.reduce_sum(spread),
        choices=tf.reduce_sum(data.counts * conjugate.expected_log_weights(alpha)),
        weights=conjugate.expected_log_dirichlet(alpha, prior.weight_concentration),
        components=tf.reduce_sum(mean_of_p) + tf.reduce_sum(wishart_of_p),
        choices_entropy=-tf.reduce_sum(tf.math.xlogy(responsibilities, responsibilities)),
        weights_entropy=-conjugate.expected_log_dirichlet(alpha, alpha),
        components_entropy=-tf.reduce_sum(mean_of_q) - tf.reduce_sum(wishart_of_q),
    )


def bound_after_m_step(
    data: Statistics, entropy: Tensor, posterior: VariationalPosterior, prior: VariationalPrior, covariance_type: str
) -> Tensor:
    r"""The sum of `bound_terms`, a scalar, of the posterior that is best for the data and the choices' `entropy`.

    The seven terms are then the entropy and the log evidence of choices that were seen, with $N_k$ for their counts:

    $$\mathcal{L} = -\sum_{nk} r_{nk} \log r_{nk} + \log \int p(\pi) \prod_k \pi_k^{N_k} \, d\pi + \sum_k \left(
      \frac{D}{2} \log \frac{\beta_0}{\beta_k (2\pi)^{N_k}} + \log \frac{B(W_0, \nu_0)}{B(W_k, \nu_k)} \right)$$

    Source: K. Murphy, "Conjugate Bayesian analysis of the Gaussian distribution" (2007), the marginal likelihoods.
    """
    (k, d), kind = posterior.means.shape, covariance_type
    before = conjugate.independent_wisharts(prior.degrees_of_freedom, prior.covariance, k, d, kind)
    wisharts = conjugate.wishart_log_evidence(*before, *_wisharts(posterior, kind))  # (...)
    weights = conjugate.dirichlet_log_evidence(data.counts, prior.weight_concentration)  # ()
    means = tf.math.log1p(data.counts / prior.mean_precision) + math.log(math.pi) * data.counts  # (K,)
    return entropy + weights - 0.5 * d * tf.reduce_sum(means) + tf.reduce_sum(wisharts)


def variational_iteration(
    x: Tensor,
    posterior: VariationalPosterior,
    prior: VariationalPrior,
    covariance_type: str = "full",
    reg_covar: float = 0.0,
) -> tuple[VariationalPosterior, Tensor]:
    r"""One E step and one M step: the new posterior, and the lower bound after both, a scalar in nats.

    $$\mathcal{L}(q^{\mathrm{old}}) \le \mathcal{L}(q^{\mathrm{new}}) \le \log p(X)$$

    Source: Bishop (2006), equation 10.70, the sum of the seven terms.
    """
    _, gamma = e_step(x, posterior, covariance_type)  # (N, K)
    data = statistics(x, gamma, covariance_type, reg_covar)
    updated = m_step(data, prior, covariance_type)
    entropy = -tf.reduce_sum(tf.math.xlogy(gamma, gamma))  # ()
    return updated, bound_after_m_step(data, entropy, updated, prior, covariance_type)


def predictive_log_density(x: Tensor, posterior: VariationalPosterior, covariance_type: str = "full") -> Tensor:
    r"""The log density of new points, (N,), with everything unknown integrated out: a mixture of Student t.

    $$p(x \mid X) = \sum_k \mathbb{E}[\pi_k] \, \mathrm{St} \left( x \;\middle|\; m_k, \,
      \frac{1 + \beta_k}{\beta_k} \, \frac{W_k^{-1}}{\eta_k}, \, \eta_k \right), \qquad \eta_k = \nu_k + 1 - D$$

    $\nu$, $W$ and D are those of the independent Wisharts where the kind of covariance is not full.

    Source: Bishop (2006), equations 10.78 to 10.82.
    """
    (k, d), tied = posterior.means.shape, covariance_type == "tied"
    times = {"tied": k, "spherical": d}.get(covariance_type, 1)
    nu = times * tf.broadcast_to(posterior.degrees_of_freedom, (k,))  # (K,)
    eta = nu + 1 - (d if covariance_type in ("full", "tied") else 1)  # (K,)
    widening = (1 + 1 / posterior.mean_precision) * nu / eta  # (K,)
    covariances = tf.broadcast_to(posterior.covariances, (k, d, d)) if tied else posterior.covariances
    kind = "full" if tied else covariance_type
    densities = conjugate.student_log_densities(x, posterior.means, _times(widening, covariances), eta, kind)  # (N, K)
    log_weights = tf.math.log(conjugate.expected_weights(posterior.weight_concentration))  # (K,)
    return tf.reduce_logsumexp(log_weights + densities, axis=1)


def _times(factor: Tensor, value: Tensor) -> Tensor:
    """The value (K, ...), or (...), times a factor (K,), or () that is the same for all."""
    return tf.reshape(factor, (*factor.shape, *[1] * (value.shape.rank - factor.shape.rank))) * value


def _wisharts(posterior: VariationalPosterior, covariance_type: str) -> tuple[Tensor, Tensor]:
    """The independent Wisharts of the posterior: degrees of freedom (...), inverse scales (..., P, P)."""
    nu, means = posterior.degrees_of_freedom, posterior.means
    return conjugate.independent_wisharts(nu, _times(nu, posterior.covariances), *means.shape, covariance_type)


def _price_of_not_knowing(posterior: VariationalPosterior, covariance_type: str) -> Tensor:
    """What not knowing means and precisions adds to the expected log densities, (K,); never above zero."""
    k, d = posterior.means.shape
    nu, inverse_scale = _wisharts(posterior, covariance_type)
    gaps = conjugate.log_determinant_gap(nu, inverse_scale.shape[-1])
    return 0.5 * (conjugate.of_components(gaps, k, d, covariance_type) - d / posterior.mean_precision)
