r"""The coin toss: maximum likelihood, maximum a posteriori and the whole posterior.

A coin shows heads with an unknown probability $\theta$, its *bias*, and we have seen it tossed a few times.
What do the tosses $x$ say about $\theta$, and about the next toss? Three answers follow. The rest of this
tutorial is about what becomes of them when part of the data is hidden.

All three begin with the *likelihood* $p(x \mid \theta)$: the probability of the tosses that we saw, read as a
function of the $\theta$ that we did not see. *Maximum likelihood* (MLE) takes the $\theta$ under which they
were most probable. That is the share of heads, and it asks nothing else of us; but after three tosses and
three heads it says that tails can never come.

*Maximum a posteriori* (MAP) first states a belief about $\theta$: a density $p(\theta)$, the *prior*. Bayes'
rule makes of it the belief after the tosses, the *posterior*,

$$p(\theta \mid x) = \frac{p(x \mid \theta) \, p(\theta)}{p(x)}, \qquad
  p(x) = \int_0^1 p(x \mid \theta) \, p(\theta) \, d\theta$$

and the answer is the peak of that. *Full Bayes* takes no single $\theta$ at all: it keeps the whole
posterior, and averages every prediction over it. The price is the integral $p(x)$, the *evidence*: what the
model as a whole, belief included, thought of the tosses before they fell. For the coin it has a closed form.
For nearly every other model it has none, and what this tutorial does from chapter to chapter is to find ways
around it.

The prior is a Beta density here, because it has the likelihood's own form, $\theta$ to some power times
$1 - \theta$ to some power: Beta(a, b) acts as $a - 1$ heads and $b - 1$ tails seen before the first toss, and
seeing tosses turns one Beta density into another. Such a prior is called *conjugate*. With many tosses the
three answers agree; with few they do not, and with none the first has nothing to say.

![The belief about the bias, from the prior Beta(2, 2) to a hundred tosses, and the three answers: MLE, MAP
and what full Bayes predicts. Three tosses leave them apart; a hundred drown the prior.](coin.svg)

![The same, toss by toss, from the prior of your choice. After forty tosses a flat prior's prediction has met the
MLE; a prior that is sure of a fair coin still holds it back.](coin_tosses.svg)

Shapes: N tosses; everything else is a number, or an array of numbers that broadcast.

    tosses        (N,)     1 for heads, 0 for tails
    heads, tails  ()       how many of each, h and t: all that the tosses say about theta
    theta         (...)    the probability of heads
    a, b          ()       the parameters of a Beta density, positive

Products of many probabilities leave the range of a computer's numbers, so everything here is a logarithm, and
a natural one: its unit is the *nat*, and an event of log probability $-1$ has probability $1/e$.
`BetaBernoulli` checks its input and adds what needs no gradient: credible intervals and tail probabilities.

Source: C. Bishop, "Pattern Recognition and Machine Learning" (2006), section 2.1, equations 2.1 to 2.20.
"""

import math

import tensorflow as tf
from tensorflow import Tensor

from tf2_impl.log_factorials import binomial_log_probability, deviance, log_beta_rest, log_probability_by_odds


def sequence_log_probability(heads: Tensor, tails: Tensor, theta: Tensor) -> Tensor:
    r"""The log probability of one given order of so many heads and tails, of the arguments' common shape.

    $$\log p(x_1, \ldots, x_N \mid \theta) = h \log \theta + t \log (1 - \theta), \qquad 0 \log 0 = 0$$

    It is $-\infty$ where $\theta$ is 0 and a head was seen, or 1 and a tail. The counts need not be whole or
    positive: the log of a Beta density has the same form. Where the convention $0 \log 0 = 0$ is used, so is
    a gradient of 0.

    Source: Bishop (2006), equations 2.5 and 2.6.
    """
    # 0 log 0 = 0: where nothing is to be explained, the logarithm is taken of 1
    chance_of_heads = tf.where((heads == 0) & (theta == 0), tf.ones_like(theta), theta)  # (...)
    chance_of_tails_less_one = tf.where((tails == 0) & (theta == 1), tf.zeros_like(theta), -theta)  # (...)
    # h log theta + t log(1 - theta)
    return heads * tf.math.log(chance_of_heads) + tails * tf.math.log1p(chance_of_tails_less_one)


def sufficient_statistics(tosses: Tensor) -> tuple[Tensor, Tensor]:
    r"""The numbers of heads and of tails, () each: the likelihood depends on the tosses through them alone.

    $$h = \sum_n x_n, \qquad t = \sum_n (1 - x_n)$$

    Source: Bishop (2006), equation 2.8.
    """
    return tf.reduce_sum(tosses), tf.reduce_sum(1 - tosses)


def log_likelihood(tosses: Tensor, theta: Tensor) -> Tensor:
    r"""The log likelihood of the tosses in nats, of the shape of theta.

    $$\log p(x \mid \theta) = \sum_n x_n \log \theta + (1 - x_n) \log (1 - \theta)$$

    Source: Bishop (2006), equation 2.6.
    """
    return sequence_log_probability(*sufficient_statistics(tosses), theta)


def maximum_likelihood(heads: Tensor, tails: Tensor) -> Tensor:
    r"""The $\theta$ under which the tosses were most probable, (): the share of heads; NaN without tosses.

    $$0 = \frac{\partial}{\partial \theta} \left( h \log \theta + t \log (1 - \theta) \right)
      = \frac{h}{\theta} - \frac{t}{1 - \theta} \qquad \Rightarrow \qquad \theta_{\mathrm{ML}} = \frac{h}{h + t}$$

    Source: Bishop (2006), equations 2.7 and 2.8.
    """
    return heads / (heads + tails)


def log_beta(a: Tensor, b: Tensor) -> Tensor:
    r"""The log of the Beta function, which normalises the Beta density; of the arguments' common shape.

    $$\log B(a, b) = \log \Gamma(a) + \log \Gamma(b) - \log \Gamma(a + b), \qquad
      B(a, b) = \int_0^1 \theta^{a - 1} (1 - \theta)^{b - 1} \, d\theta$$

    The three terms cancel, so the code adds the powers and `log_beta_rest` instead.

    Where the frameworks differ: each approximates log gamma by polynomials of its own, which part by up to
    two units in the last place; the derivative, digamma, parts by more near its zero at 1.46, in proportion
    to itself.

    Source: Bishop (2006), equation 2.14 and exercise 2.5.
    """
    return log_probability_by_odds(a, b, a, b) + log_beta_rest(a, b)


def beta_log_density(theta: Tensor, a: Tensor, b: Tensor) -> Tensor:
    r"""The log density of Beta(a, b) at theta, of the arguments' common shape.

    $$\log \mathrm{Beta}(\theta \mid a, b) = (a - 1) \log \theta + (b - 1) \log (1 - \theta) - \log B(a, b)$$

    Where a and b are large, the terms cancel, and the same is taken as a binomial probability of $a - 1$
    heads and $b - 1$ tails, times their number and one:

    $$\log \mathrm{Beta}(\theta \mid a, b) = \log (a + b - 1)
      + \log \left( \frac{\Gamma(a + b - 1)}{\Gamma(a) \, \Gamma(b)} \theta^{a - 1} (1 - \theta)^{b - 1} \right)$$

    Source: Bishop (2006), equation 2.13.
    """
    many = (tf.minimum(a, b) > 16) & (theta > 0) & (theta < 1)
    plain = sequence_log_probability(a - 1, b - 1, theta) - log_beta(a, b)
    inside = tf.where(many, theta, 0.5 * tf.ones_like(theta))
    heads, tails = tf.where(many, a - 1, tf.ones_like(a)), tf.where(many, b - 1, tf.ones_like(b))
    as_binomial = tf.math.log(heads + tails + 1) + binomial_log_probability(heads, tails, inside, 1 - inside)
    return tf.where(many, as_binomial, plain)


def posterior(heads: Tensor, tails: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    r"""The parameters of the posterior, which is a Beta density like the prior: the counts are added.

    By Bayes' rule the posterior is proportional to likelihood times prior. What does not depend on $\theta$,
    the evidence included, can be left out, since a density must integrate to one whatever stands before it:

    $$p(\theta \mid x) \propto \theta^h (1 - \theta)^t \cdot \theta^{a - 1} (1 - \theta)^{b - 1}
      \qquad \Rightarrow \qquad p(\theta \mid x) = \mathrm{Beta}(\theta \mid a + h, b + t)$$

    Source: Bishop (2006), equations 2.17 and 2.18.
    """
    return a + heads, b + tails


def maximum_a_posteriori(heads: Tensor, tails: Tensor, a: Tensor, b: Tensor) -> Tensor:
    r"""The mode of the posterior, (), or NaN if it has none to prefer.

    $$\theta_{\mathrm{MAP}} = \frac{h + a - 1}{h + t + a + b - 2}$$

    The formula needs both posterior parameters, $a + h$ and $b + t$, above 1. One rule covers the rest: a
    parameter of 1 or less counts as no toss, so that if the other is above 1 the mode is at an edge: 0 if
    $a + h \le 1$, 1 if $b + t \le 1$. With neither above 1 the density is highest at an edge where its
    parameter is below 1, and that is the mode if there is just one. Beta(1, 1) is flat, and with both below 1
    both edges are modes: NaN.

    The flat prior Beta(1, 1) has no opinion: with it, and at least one toss, MAP is the maximum likelihood
    estimate.

    Source: Bishop (2006), equation 2.18, at its maximum.
    """
    alpha, beta = posterior(heads, tails, a, b)
    # h + a - 1, t + b - 1
    seen_heads, seen_tails = tf.nn.relu(alpha - 1), tf.nn.relu(beta - 1)
    # h + t + a + b - 2
    seen = seen_heads + seen_tails
    at_zero, at_one = (alpha < 1) & (beta == 1), (alpha == 1) & (beta < 1)
    one = tf.ones_like(seen)
    edge = tf.where(at_zero, 0 * one, tf.where(at_one, one, math.nan * one))
    # theta_MAP = (h + a - 1) / (h + t + a + b - 2)
    return tf.where(seen > 0, seen_heads / tf.where(seen > 0, seen, one), edge)


def predictive(heads: Tensor, tails: Tensor, a: Tensor, b: Tensor) -> Tensor:
    r"""The probability that the next toss shows heads, (): the posterior mean of theta.

    $$p(x_{N+1} = 1 \mid x) = \int_0^1 \theta \, p(\theta \mid x) \, d\theta = \frac{h + a}{h + t + a + b}$$

    It is the prior's mean before the first toss, and lies between that and the share of heads ever after.
    After three heads in three tosses and a flat prior it is 4/5: tails remain possible.

    Source: Bishop (2006), equations 2.19 and 2.20.
    """
    alpha, beta = posterior(heads, tails, a, b)
    return alpha / (alpha + beta)


def predictive_log_probability(new_heads: Tensor, new_tails: Tensor, a: Tensor, b: Tensor) -> Tensor:
    r"""The log probability of so many heads and tails, in any order, in tosses to come: the beta-binomial.

    $$\log p(h, t) = \log \frac{\Gamma(h + t + 1)}{\Gamma(h + 1) \, \Gamma(t + 1)}
      + \log B(a + h, b + t) - \log B(a, b)$$

    `a` and `b` are the parameters of the belief before these tosses: the posterior's if others were seen. The
    result has the arguments' common shape.

    Source: A. Gelman et al., "Bayesian Data Analysis", 3rd ed. (2013), appendix A.2, table A.2.
    """
    fit = binomial_log_probability(new_heads, new_tails, *posterior(new_heads, new_tails, a, b))
    return fit + log_occam_factor(new_heads, new_tails, a, b)


def log_occam_factor(heads: Tensor, tails: Tensor, a: Tensor, b: Tensor) -> Tensor:
    r"""The log of the ratio of the evidence to the likelihood at the posterior mean; of the arguments' common shape.

    The prior has spread its probability over other biases too: that is the price of not knowing the bias
    beforehand. With the `deviance` D of the prior's counts, and the `log_beta_rest` $\rho$,

    $$\log p(x) - \log p(x \mid \bar\theta) = \rho(a + h, b + t) - \rho(a, b)
      - D(a, (a + b) \bar\theta) - D(b, (a + b) (1 - \bar\theta)), \qquad \bar\theta = \frac{a + h}{a + h + b + t}$$

    Source: D. MacKay, "Information Theory, Inference, and Learning Algorithms" (2003), section 28.1.
    """
    alpha, beta = posterior(heads, tails, a, b)
    moved = deviance(a, alpha / (alpha + beta) * (a + b)) + deviance(b, beta / (alpha + beta) * (a + b))
    return log_beta_rest(alpha, beta) - log_beta_rest(a, b) - moved


def log_evidence(heads: Tensor, tails: Tensor, a: Tensor, b: Tensor) -> Tensor:
    r"""The log probability of one given order of the tosses under the prior, theta averaged out; in nats.

    $$\log p(x) = \log \int_0^1 p(x \mid \theta) \, p(\theta) \, d\theta = \log B(a + h, b + t) - \log B(a, b)$$

    The terms cancel where the prior or the tosses prevail. With the posterior mean $\bar\theta$, the code
    adds

    $$\log p(x) = \log p(x \mid \bar\theta) + \log \frac{p(x)}{p(x \mid \bar\theta)}$$

    Where the prior all but knows the tosses, the evidence is nearly 1: `log_evidence_by_prediction` gives
    more digits.

    Source: Bishop (2006), equation 1.45 with 2.14.
    """
    fit = log_probability_by_odds(heads, tails, *posterior(heads, tails, a, b))
    return fit + log_occam_factor(heads, tails, a, b)


def log_evidence_by_prediction(tosses: Tensor, a: Tensor, b: Tensor) -> Tensor:
    r"""The same log evidence, (), as what the tosses cost when each is predicted from those before it.

    $$\log p(x) = \sum_n \log p(x_n \mid x_1, \ldots, x_{n-1}), \qquad
      p(x_n = 1 \mid x_1, \ldots, x_{n-1}) = \frac{a + h_{n-1}}{a + b + n - 1}$$

    Here $h_{n-1}$ counts the heads among the first $n - 1$ tosses. The evidence is thus a record of
    prediction: a model scores well by having expected what came next. Every term is negative, so that nothing
    cancels, however strong the prior.

    Source: Bishop (2006), equation 2.20, by the product rule 1.11.
    """
    heads_before = tf.cumsum(tosses) - tosses  # (N,)
    tails_before = tf.cumsum(1 - tosses) - (1 - tosses)  # (N,)
    # p(x_n = 1) = (a + h) / (a + b + n - 1), and for tails with b + t above: log p = -log(1 + unlike / alike)
    alike = tf.where(tosses == 1, a + heads_before, b + tails_before)  # (N,)
    unlike = tf.where(tosses == 1, b + tails_before, a + heads_before)  # (N,)
    return -tf.reduce_sum(tf.math.log1p(unlike / alike))
