r"""Log factorials of large numbers, and differences of them, without the large parts that cancel.

The log of a factorial of x is about $x \log x - x$. In a probability such terms stand on both sides and
cancel: for $10^{12}$ tosses they are some $10^{13}$, and the log probability is $-14$. A computer's numbers
have sixteen digits, and after the subtraction three are left. The remedy is to subtract on paper. What counts
is then how far a count is from the one expected, and a small correction for each factorial.

Shapes: everything is a number, or an array of numbers that broadcast.

Source: C. Loader, "Fast and accurate computation of binomial probabilities" (2000).
"""

import math

import torch
from torch import Tensor


def deviance(count: Tensor, expected: Tensor) -> Tensor:
    r"""How far a count is from the one expected, in nats; at least 0, and 0 only where they are equal.

    $$D(x, \mu) = x \log \frac{x}{\mu} + \mu - x, \qquad 0 \log 0 = 0$$

    It is about $(x - \mu)^2 / (2 \mu)$ where the two are close. The terms then cancel, and it is taken from a
    series:

    $$D(x, \mu) = (\mu - x) y - 2 x \left( \frac{y^3}{3} + \frac{y^5}{5} + \ldots \right), \qquad
      y = \frac{\mu - x}{\mu + x}$$

    Source: Loader (2000), section 3.
    """
    near = torch.abs(expected - count) < 0.1 * count
    # x log(x / mu) + mu - x, with 0 log 0 = 0
    explained = torch.where((count == 0) | near, 1.0, expected)
    far = count * torch.log(torch.where(count == 0, 1.0, count) / explained) + (expected - count)
    # (mu - x) y - 2 x y³ (1 / 3 + y² / 5 + y⁴ / 7 + ...)
    both = torch.where(near, expected + count, 1.0)
    y = torch.where(near, expected - count, 0.0) / both
    series = 1 / 3 + sum(y ** (2 * i) / (2 * i + 3) for i in range(1, 6))
    return torch.where(near, (expected - count) * y - 2 * count * y**3 * series, far)


def stirling_correction(x: Tensor) -> Tensor:
    r"""The log factorial of x less $x \log x - x$, of the shape of x, which is 0 or more.

    $$r(x) = \log \Gamma(x + 1) - x \log x + x
      = \frac{1}{2} \log 2 \pi x + \frac{1}{12 x} - \frac{1}{360 x^3} + \frac{1}{1260 x^5} - \ldots$$

    $\Gamma$ is the factorial for all positive numbers, $\Gamma(m + 1) = m!$. The series is used for
    $x \ge 16$.

    Source: NIST Digital Library of Mathematical Functions, equation 5.11.1.
    """
    few, many = torch.clamp(x, max=16.0), torch.clamp(x, min=16.0)  # (...)
    # log Gamma(x + 1) - x log x + x, with 0 log 0 = 0
    definition = torch.lgamma(few + 1) - few * torch.log(torch.where(few == 0, 1.0, few)) + few
    # 1/2 log(2 pi x) + (1/12 - (1/360 - (1/1260 - ...) / x²) / x²) / x
    u = 1 / torch.square(many)  # (...)
    terms = 1 / 12 - u * (1 / 360 - u * (1 / 1260 - u * (1 / 1680 - u / 1188)))
    return torch.where(x < 16, definition, 0.5 * torch.log(2 * math.pi * many) + terms / many)


def log_gamma_ratio(x: Tensor, more: Tensor) -> Tensor:
    r"""The log of $\Gamma(x + m) / \Gamma(x)$ for positive x and m, of the arguments' common shape.

    $$\log \frac{\Gamma(x + m)}{\Gamma(x)} = m \log x + (x + m - 1) \log \left( 1 + \frac{m}{x} \right) - m
      + r(x + m) - r(x)$$

    with the `stirling_correction` r. For a whole m it is the log of $x (x + 1) \cdots (x + m - 1)$.

    Source: NIST Digital Library of Mathematical Functions, equation 5.11.1.
    """
    powers = more * torch.log(x) + (x + more - 1) * torch.log1p(more / x) - more
    after, before = stirling_correction(torch.stack(torch.broadcast_tensors(x + more, x)))
    return powers + after - before


def digamma_correction(x: Tensor) -> Tensor:
    r"""How far the digamma function, the derivative of $\log \Gamma$, is above the logarithm; of the shape of x.

    $$\psi(x) - \log x = -\frac{1}{2 x} - \frac{1}{12 x^2} + \frac{1}{120 x^4} - \frac{1}{252 x^6} + \ldots$$

    It is negative: the expected logarithm of what has x degrees of freedom is below the logarithm of what is
    expected. The series is used for $x \ge 16$.

    Source: NIST Digital Library of Mathematical Functions, equation 5.11.2.
    """
    few, many = torch.clamp(x, max=16.0), torch.clamp(x, min=16.0)  # (...)
    u = 1 / torch.square(many)  # (...)
    terms = 1 / 12 - u * (1 / 120 - u * (1 / 252 - u * (1 / 240 - u / 132)))
    return torch.where(x < 16, torch.digamma(few) - torch.log(few), -0.5 / many - u * terms)


def log_probability_by_odds(heads: Tensor, tails: Tensor, a: Tensor, b: Tensor) -> Tensor:
    r"""The log probability of one given order of so many heads and tails if heads stand to tails as a to b.

    $$h \log \frac{a}{a + b} + t \log \frac{b}{a + b}
      = -h \log \left( 1 + \frac{b}{a} \right) - t \log \left( 1 + \frac{a}{b} \right)$$

    With $\theta = a / (a + b)$ it is $h \log \theta + t \log (1 - \theta)$, also where that would round to 1;
    a, b > 0.

    Source: Bishop (2006), equations 2.5 and 2.6.
    """
    return -heads * torch.log1p(b / a) - tails * torch.log1p(a / b)


def binomial_log_probability(heads: Tensor, tails: Tensor, a: Tensor, b: Tensor) -> Tensor:
    r"""The log probability of so many heads and tails in any order, if heads stand to tails as a to b.

    $$\log \frac{(h + t)!}{h! \, t!} + h \log \frac{a}{a + b} + t \log \frac{b}{a + b}
      = r(h + t) - r(h) - r(t) - D \left( h, \frac{a (h + t)}{a + b} \right)
      - D \left( t, \frac{b (h + t)}{a + b} \right)$$

    with the `stirling_correction` r of a factorial and the `deviance` D of a count from what is expected. On
    the left the terms are as large as the counts and cancel; on the right nothing does.

    Source: Bishop (2006), equation 2.9; Loader (2000).
    """
    tosses = heads + tails
    log_orders = stirling_correction(tosses) - stirling_correction(heads) - stirling_correction(tails)
    return log_orders - deviance(heads, a / (a + b) * tosses) - deviance(tails, b / (a + b) * tosses)


def log_beta_rest(a: Tensor, b: Tensor) -> Tensor:
    r"""The log of the Beta function less the logs of its powers, of the arguments' common shape.

    $$\log B(a, b) - a \log \frac{a}{a + b} - b \log \frac{b}{a + b}
      = r(a) + r(b) - r(a + b) + \log \frac{a + b}{a b}$$

    Source: Bishop (2006), equation 2.14, with the `stirling_correction` r.
    """
    corrections = stirling_correction(a) + stirling_correction(b) - stirling_correction(a + b)
    return corrections + torch.log1p(a / b) - torch.log(a)
