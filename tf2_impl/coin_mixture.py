r"""Which coin was tossed? A mixture of coins, fitted by expectation maximisation.

Somebody has K coins, picks one at random, tosses it a few times and writes down the number of heads; then
picks again. The paper never says which coin it was. Had it said so, the bias of each coin would be its share
of heads: one line of arithmetic. Had we known the biases, Bayes' rule would tell how likely each coin is to
have made each line. We know neither, and expectation maximisation does the two in turn: it divides the heads
and tails of every line among the coins, by the probabilities that the present biases give, and takes each
coin's share of heads as its new bias.

Five lines of ten tosses show it whole: 5, 9, 8, 4 and 7 heads, two coins picked equally often, and a first
guess of biases 0.6 and 0.5. Under that guess the nine heads belong to the first coin with probability 0.80
and the four with 0.35; each coin's share of the heads so divided is 0.71 and 0.58; ten rounds end at 0.80 and
0.52. Nobody said which lines came from which coin, and yet the lines fell into two heaps.

![The five lines shared out between two coins, A and B, and what becomes of the biases.](hidden_coins.svg)

This is the smallest model in which part of the data is hidden, and it has everything that the mixture of
Gaussians has: the sum inside the logarithm, responsibilities, a likelihood that no round lowers, and maxima
that come in copies, since the names of the coins mean nothing.

Shapes: N sequences of tosses, K coins. $h_n$ heads in the $m_n$ tosses of sequence n, which coin $z_n$ made.

    heads             (N,)
    tosses            (N,)     heads and tails of each sequence
    responsibilities  (N, K)   rows sum to one
    weights           (K,)     how often each coin is picked; sum to one
    biases            (K,)     the probability of heads of each coin

Everything is in log space and in nats. A bias of exactly 0 or 1 is allowed: 0 log 0 is 0, and a sequence that
such a coin cannot show has log probability $-\infty$ under it and responsibility 0. If no coin can show it,
its responsibilities are NaN. The gradient for a bias of 0 or 1 that some sequence contradicts is NaN; EM
needs none.

Source: C. Do, S. Batzoglou, "What is the expectation maximization algorithm?", Nature Biotechnology 26
(2008), 897-899; C. Bishop, "Pattern Recognition and Machine Learning" (2006), section 9.3.3.
"""

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from tf2_impl.log_factorials import binomial_log_probability


def component_log_probabilities(heads: Tensor, tosses: Tensor, biases: Tensor) -> Tensor:
    r"""The log probability of every number of heads under every coin, (N, K): the binomial, with its coefficient.

    $$\log p(h_n \mid z_n = k) = \log \frac{m_n!}{h_n! \, (m_n - h_n)!}
      + h_n \log \theta_k + (m_n - h_n) \log (1 - \theta_k)$$

    The coefficient counts the orders in which the heads may have come. It is the same for every coin, so that
    it changes no responsibility; it makes the likelihood a probability of what was written down.

    Source: Bishop (2006), equation 2.9.
    """
    tails = tosses - heads  # (N,)
    return binomial_log_probability(heads[:, None], tails[:, None], biases, 1 - biases)  # (N, K)


def log_joint(heads: Tensor, tosses: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    r"""The log of the joint probability of a sequence's heads and its coin, (N, K).

    $$\log p(h_n, z_n = k) = \log \pi_k + \log p(h_n \mid z_n = k)$$

    Source: Bishop (2006), equations 9.52 and 9.53.
    """
    return tf.math.log(weights) + component_log_probabilities(heads, tosses, biases)  # (N, K)


def log_likelihood(heads: Tensor, tosses: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    r"""The log likelihood of the mixture, a scalar in nats, summed over the sequences.

    $$\log p(h) = \sum_n \log \sum_k \pi_k \, p(h_n \mid z_n = k)$$

    The sum over the coins stands inside the logarithm and keeps it from splitting into one term for each
    coin: that is why setting the gradient to zero gives no formula for the biases, as it did for one coin.

    Source: Bishop (2006), equation 9.51.
    """
    return tf.reduce_sum(tf.reduce_logsumexp(log_joint(heads, tosses, weights, biases), axis=1))


def e_step(heads: Tensor, tosses: Tensor, weights: Tensor, biases: Tensor) -> tuple[Tensor, Tensor]:
    r"""E step: the log probability of every sequence's heads, (N,), and the responsibilities, (N, K).

    $$\log p(h_n) = \log \sum_k p(h_n, z_n = k), \qquad \gamma(z_{nk}) = p(z_n = k \mid h_n)
      = \frac{\pi_k \, p(h_n \mid z_n = k)}{\sum_j \pi_j \, p(h_n \mid z_n = j)}$$

    The responsibility $\gamma(z_{nk})$ is the probability that coin k made sequence n, by Bayes' rule.

    Source: Bishop (2006), equation 9.56; Do and Batzoglou (2008), figure 1b, step 2.
    """
    joint = log_joint(heads, tosses, weights, biases)  # (N, K)
    log_probability = tf.reduce_logsumexp(joint, axis=1)  # (N,)
    return log_probability, tf.exp(joint - log_probability[:, None])  # (N,), (N, K)


def m_step(heads: Tensor, tosses: Tensor, responsibilities: Tensor) -> tuple[Tensor, Tensor]:
    r"""M step: the weights and biases that maximise the expected complete-data log likelihood.

    $$N_k = \sum_n \gamma(z_{nk}), \qquad \pi_k = \frac{N_k}{N}, \qquad
      \theta_k = \frac{\sum_n \gamma(z_{nk}) \, h_n}{\sum_n \gamma(z_{nk}) \, m_n}$$

    Ten machine epsilons are added to $N_k$, so that the weight of an empty component is not quite zero. A
    coin whose expected number of tosses is below ten machine epsilons has nothing to estimate its bias from,
    and gets 1/2.

    Source: Bishop (2006), equations 9.57 to 9.60; Do and Batzoglou (2008), figure 1b, step 3.
    """
    smallest = 10 * np.finfo(heads.dtype.as_numpy_dtype).eps
    # N_k = sum_n gamma_nk
    counts = tf.reduce_sum(responsibilities, axis=0) + smallest  # (K,)
    # sum_n gamma_nk h_n
    expected_heads = tf.linalg.matvec(responsibilities, heads, transpose_a=True)  # (K,)
    # sum_n gamma_nk m_n
    expected_tosses = tf.linalg.matvec(responsibilities, tosses, transpose_a=True)  # (K,)
    empty = expected_tosses < smallest  # (K,)
    one = tf.ones_like(counts)
    # theta_k = sum_n gamma_nk h_n / sum_n gamma_nk m_n
    biases = tf.where(empty, 0.5 * one, expected_heads / tf.where(empty, one, expected_tosses))  # (K,)
    # pi_k = N_k / N
    weights = counts / tf.reduce_sum(counts)  # (K,)
    return weights, biases


def em_iteration(
    heads: Tensor, tosses: Tensor, weights: Tensor, biases: Tensor, fixed_weights: bool = False
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    r"""One E step and one M step: the new parameters, and the log likelihood of the *old* ones, in nats.

    $$\theta^{\mathrm{new}} = \arg\max_\theta \sum_n \sum_k \gamma(z_{nk}) \log p(h_n, z_n = k \mid \theta),
      \qquad \log p(h \mid \theta^{\mathrm{new}}) \ge \log p(h \mid \theta^{\mathrm{old}})$$

    With `fixed_weights` only the biases are new, as in the source, where every coin is picked equally often.

    Source: Do and Batzoglou (2008), figure 1b.
    """
    log_probability, gamma = e_step(heads, tosses, weights, biases)
    new_weights, new_biases = m_step(heads, tosses, gamma)
    return (weights if fixed_weights else new_weights, new_biases), tf.reduce_sum(log_probability)
