r"""The evidence lower bound: what a variational autoencoder maximises, and every term of it.

So far the hidden variable was a choice among K. Now it is a *code* $z$, a vector of L real numbers, and the
sum over the choices becomes an integral over all codes that could have produced $x$:

$$p(x) = \int p(x \mid z) \, p(z) \, dz$$

We would like to maximise $\log p(x)$, and cannot compute it. The algebra of `em.py` does not mind that $z$ is
continuous. For *any* density $q(z)$, with $\mathbb{E}_q$ the average over $z$ drawn from it,

$$\log p(x) = \mathrm{ELBO} + \mathrm{KL}(q(z) \,\|\, p(z \mid x)), \qquad
  \mathrm{ELBO} = \mathbb{E}_q[\log p(x \mid z)] - \mathrm{KL}(q(z) \,\|\, p(z))$$

The divergence from the posterior is never negative, so the ELBO is a lower bound on $\log p(x)$, tight when
$q$ is the posterior; and it needs neither the posterior nor the integral. Its first term asks the codes to
explain the data, its second asks them not to stray from the *prior* $p(z)$, a standard normal.

One thing is given up. EM's E step set $q$ to the posterior, point by point; here the posterior is out of
reach, so $q$ is kept to a family that we can handle, the diagonal Gaussian $\mathcal{N}(\mu, \sigma^2)$, and
a network proposes $\mu$ and $\sigma$ for each $x$. The gap no longer closes, it is only made small; and both
steps become one, a step up the gradient of the ELBO in the parameters of $q$ and $p$ at once. For that the
average over $q$ must be differentiable in $q$'s own parameters. A draw $z = \mu + \sigma \epsilon$, with
$\epsilon$ from a standard normal, makes it so (`reparameterize`), and one draw per point is enough.

Shapes: N points of D features with codes of L dimensions; `x` (N, D), `mean`, `log_var`, `noise` and `z` (N,
L). Every term is summed over features or over code dimensions and keeps all of its constants, so that the
ELBO is a bound on $\log p(x)$ in nats that can be compared between models. Only `evidence_lower_bound`
averages, over the batch.

Source: D. Kingma, M. Welling, "Auto-encoding variational Bayes", ICLR 2014; Bishop (2006), section 9.4.
"""

import math
from typing import NamedTuple

import tensorflow as tf
from tensorflow import Tensor

from tf2_impl.gaussian import log_density


class Bound(NamedTuple):
    """The ELBO and its parts, each with its true sign, in nats per point: elbo = reconstruction - kl."""

    elbo: Tensor  # ()
    reconstruction: Tensor  # ()
    kl: Tensor  # ()


def gaussian_kl_to_standard_normal(mean: Tensor, log_var: Tensor) -> Tensor:
    r"""The divergence of a diagonal Gaussian from the standard normal, (N,).

    $$\mathrm{KL}(\mathcal{N}(\mu, \sigma^2) \,\|\, \mathcal{N}(0, I))
      = \frac{1}{2} \sum_l \left( \mu_l^2 + \sigma_l^2 - 1 - \log \sigma_l^2 \right)$$

    With $\sigma^2 - 1$ as `expm1` of the log variance less cancels where $q$ comes close to the prior: the error
    is a rounding of $\log \sigma^2$, and not of 1.

    Source: Kingma and Welling (2014), appendix B.
    """
    return 0.5 * tf.reduce_sum(tf.square(mean) + tf.math.expm1(log_var) - log_var, axis=-1)


def gaussian_kl(mean_q: Tensor, log_var_q: Tensor, mean_p: Tensor, log_var_p: Tensor) -> Tensor:
    r"""The divergence between two diagonal Gaussians, (N,). The order matters: q first.

    $$\mathrm{KL}(q \,\|\, p) = \frac{1}{2} \sum_l \left( \frac{(\mu_{q,l} - \mu_{p,l})^2}{\sigma_{p,l}^2}
      + \frac{\sigma_{q,l}^2}{\sigma_{p,l}^2} - 1 - \log \frac{\sigma_{q,l}^2}{\sigma_{p,l}^2} \right)$$

    Source: Bishop (2006), equation 1.113 with 2.43.
    """
    # log sigma_q,l² / sigma_p,l²
    log_ratio = log_var_q - log_var_p  # (N, L)
    # (mu_q,l - mu_p,l)² / sigma_p,l²
    distance = tf.square(mean_q - mean_p) * tf.exp(-log_var_p)  # (N, L)
    # KL(q || p)
    return 0.5 * tf.reduce_sum(distance + tf.math.expm1(log_ratio) - log_ratio, axis=-1)


def reparameterize(mean: Tensor, log_var: Tensor, noise: Tensor) -> Tensor:
    r"""A draw from $q(z \mid x)$ that gradients pass through, (N, L).

    $$z = \mu + \sigma \epsilon, \qquad \epsilon \sim \mathcal{N}(0, I)$$

    Drawn so, $z$ is a differentiable function of $\mu$ and $\sigma$, and the randomness is an input like the
    data.

    Where the frameworks differ: in their random numbers, whatever the seed; seed 0 gives 1.541 as the first
    number of `torch.randn`, 1.511 as that of `tf.random.normal` and -1.697 as that of `keras.random.normal`. So
    `noise` is an argument, drawn once for both in `common/draws.py`.

    Source: Kingma and Welling (2014), section 2.4.
    """
    # sigma = exp(1/2 log sigma²)
    deviation = tf.exp(0.5 * log_var)  # (N, L)
    # z = mu + sigma epsilon
    return mean + deviation * noise


def gaussian_log_likelihood(x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    r"""The log density of x under a diagonal Gaussian, (N,): the reconstruction term of a Gaussian decoder.

    $$\log \mathcal{N}(x \mid \mu, \sigma^2)
      = -\frac{1}{2} \sum_d \left( \log 2\pi + \log \sigma_d^2 + \frac{(x_d - \mu_d)^2}{\sigma_d^2} \right)$$

    `log_var` is (N, D), (D,) or a scalar. Where it is learned, the constants are what keeps $\sigma^2$ from
    growing without end.

    Source: Kingma and Welling (2014), appendix C.2.
    """
    # (x_d - mu_d)²
    squared_error = tf.square(x - mean)  # (N, D)
    # log N(x | mu, sigma²)
    return -0.5 * tf.reduce_sum(math.log(2 * math.pi) + log_var + squared_error * tf.exp(-log_var), axis=-1)


def bernoulli_log_likelihood(x: Tensor, logits: Tensor) -> Tensor:
    r"""The log probability of binary x under independent coins with the given log odds, (N,).

    $$\log p(x) = \sum_d x_d \log s_d + (1 - x_d) \log (1 - s_d), \qquad s_d = \frac{1}{1 + e^{-a_d}}$$

    computed from the logits $a$ in the symmetric form, which neither overflows nor cancels, and whose
    gradient at $a = 0$ is $x - 1/2$ in both frameworks:

    $$\log p(x) = \sum_d \left( x_d - \frac{1}{2} \right) a_d - \frac{|a_d|}{2} - \log \left( 1 + e^{-|a_d|} \right)$$

    Where the frameworks differ: their own losses. For $x = 0$ and a logit of -30 the loss is 9.4e-14;
    PyTorch's `binary_cross_entropy_with_logits` subtracts two large numbers, and gives 9.2e-14, or 0 in
    float32. From probabilities it is worse: for $x = 1$ and probability 0, PyTorch's stops at 100 and Keras's
    at 16.1. Hence one formula for both.

    Source: Kingma and Welling (2014), appendix C.1.
    """
    magnitude = tf.abs(logits)  # (N, D)
    log_probability = (x - 0.5) * logits - 0.5 * magnitude - tf.math.log1p(tf.exp(-magnitude))  # (N, D)
    return tf.reduce_sum(log_probability, axis=-1)


def evidence_lower_bound(reconstruction: Tensor, kl: Tensor) -> Bound:
    r"""The ELBO with its parts, averaged over the batch, from the terms of each point, (N,) each.

    $$\mathrm{ELBO} = \frac{1}{N} \sum_n \log p(x_n \mid z_n)
      - \frac{1}{N} \sum_n \mathrm{KL}(q(z \mid x_n) \,\|\, p(z))$$

    Source: Kingma and Welling (2014), equation 7.
    """
    # ELBO, 1/N sum_n log p(x_n | z_n), 1/N sum_n KL(q(z | x_n) || p(z))
    return Bound(tf.reduce_mean(reconstruction - kl), tf.reduce_mean(reconstruction), tf.reduce_mean(kl))


def log_importance_weights(log_likelihood: Tensor, z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    r"""The log of what a draw z from $q(z \mid x)$ says about $p(x)$, (...), from $\log p(x \mid z)$, (...).

    $$\log w = \log p(x \mid z) + \log p(z) - \log q(z \mid x)$$

    Its expectation under q is the ELBO, and that of $w$ itself is $p(x)$.

    Source: Y. Burda, R. Grosse, R. Salakhutdinov, "Importance weighted autoencoders", ICLR 2016, section 3.
    """
    zeros = tf.zeros_like(log_var)  # log variance and mean of the prior
    return log_likelihood + gaussian_log_likelihood(z, zeros, zeros) - gaussian_log_likelihood(z, mean, log_var)


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    r"""The log of the mean weight of S draws for every point, (N,), from `log_weights` (S, N).

    $$\mathcal{L}_S = \mathbb{E} \left[ \log \frac{1}{S} \sum_s w_s \right],
      \qquad \mathrm{ELBO} = \mathcal{L}_1 \le \mathcal{L}_S \le \log p(x)$$

    A lower bound on the average, which rises to $\log p(x)$ with the number of draws; a single estimate may
    lie above.

    Source: Burda et al. (2016), equation 8 and theorem 1.
    """
    # log 1/S sum_s w_s = logsumexp_s log w_s - log S
    return tf.reduce_logsumexp(log_weights, axis=0) - math.log(log_weights.shape[0])  # (N,)


def linear_gaussian_log_evidence(x: Tensor, loadings: Tensor, offset: Tensor, log_var: Tensor) -> Tensor:
    r"""The exact $\log p(x)$, (N,), of a decoder that is an affine map, with loadings W (D, L) and offset b (D,).

    $$z \sim \mathcal{N}(0, I), \quad x \sim \mathcal{N}(W z + b, \sigma^2 I) \quad \Rightarrow \quad
      p(x) = \mathcal{N}(x \mid b, W W^T + \sigma^2 I)$$

    This is probabilistic PCA; `log_var` is a scalar, or (D,) for factor analysis. It is where an estimate of
    $\log p(x)$ can be checked.

    Source: Bishop (2006), equations 12.33 to 12.36.
    """
    covariance = tf.matmul(loadings, loadings, transpose_b=True) + tf.linalg.diag(
        tf.exp(log_var) * tf.ones_like(offset)
    )  # (D, D)
    return log_density(x, offset, covariance)  # (N,)
