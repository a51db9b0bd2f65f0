"""Tails and quantiles of a Beta density, right to the last digits for one toss and for 1e20.

A threshold x is seen from the mean p = a / (a + b). Where a and b are large, everything depends on the
difference e = x - p, which is tiny; it is taken in fractions, and the density is written in it. With q = 1 -
p and n = a + b,

    log x^a (1 - x)^b - log p^a q^b = a phi(e / p) + b phi(-e / q),    phi(d) = log(1 + d) - d,

in which the terms that cancel, n e, have been left out. `coin.py` has the same in tensors.
"""

import math
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import betainc, betaincc, betainccinv, betaincinv, gammaln

MANY = 1e3  # of both parameters: from here on the density is as smooth as a normal one, and is integrated
NODES, SHARES = np.polynomial.legendre.leggauss(64)


def beta_upper_tail(a: float, b: float, threshold: float) -> float:
    """P(theta > threshold) under Beta(a, b), with its digits where it is tiny."""
    if min(a, b) < MANY or threshold in (0, 1):
        return _known(a, b, betaincc(a, b, threshold))
    return math.exp(beta_log_upper_tail(a, b, threshold))


def beta_log_upper_tail(a: float, b: float, threshold: float) -> float:
    """The log of P(theta > threshold) under Beta(a, b), accurate however close to 0 or to 1 the probability is.

    Above the mean the upper tail is computed as such, and not as 1 minus the lower one, which is 0 below
    1e-16; below the mean it is the lower one, and the logarithm that of 1 minus it.
    """
    if threshold in (0, 1):
        return 0.0 if threshold == 0 else -math.inf
    x = Fraction(threshold)
    e = x - Fraction(a) / (Fraction(a) + Fraction(b))
    if min(a, b) < MANY:
        upper = _known(a, b, betaincc(a, b, threshold))
        if upper > 0.5:
            lower = float(betainc(a, b, threshold))
            return math.log1p(-lower if lower > 1e-290 else -math.exp(_log_far_tail(b, a, 1 - x, -e)))
        return math.log(upper) if upper > 1e-290 else _log_far_tail(a, b, x, e)
    x, y, e = float(x), float(1 - x), float(e)
    return _log_tail(a, b, x, y, e) if e >= 0 else math.log1p(-math.exp(_log_tail(b, a, y, x, -e)))


def beta_credible_interval(a: float, b: float, level: float) -> tuple[float, float]:
    """The interval of Beta(a, b) that leaves (1 - level) / 2 of the probability on either side.

    Its upper end is found from the upper tail, so that it keeps its digits where the level is close to 1.
    """
    outside = 0.5 * (1 - level)
    if min(a, b) < MANY:
        return _known(a, b, betaincinv(a, b, outside)), _known(a, b, betainccinv(a, b, outside))
    mean = Fraction(a) / (Fraction(a) + Fraction(b))
    below, above = _distance(b, a, outside), _distance(a, b, outside)
    return float(mean - Fraction(below)), float(mean + Fraction(above))


def _distance(a: float, b: float, outside: float) -> float:
    """How far above the mean of Beta(a, b) the upper tail is ``outside``, at most a half; a, b at least MANY."""
    p, q, sd = a / (a + b), b / (a + b), _standard_deviation(a, b)

    def surplus(z: float) -> float:
        e = z * sd
        tail = _log_tail(a, b, p + e, q - e, e) if z >= 0 else math.log1p(-math.exp(_log_tail(b, a, q - e, p + e, -e)))
        return tail - math.log(outside)

    return sd * brentq(surplus, -1.0, 12.0, xtol=1e-15, rtol=1e-15)


def _known(a: float, b: float, value: Any) -> float:
    """SciPy's result as a float; ValueError if it is NaN."""
    if math.isnan(value):
        raise ValueError(f"a, b: SciPy finds no quantiles of Beta({a:g}, {b:g}): its parameters are too extreme")
    return float(value)


def _standard_deviation(a: float, b: float) -> float:
    """The approximate standard deviation of Beta(a, b), for large a and b."""
    return math.sqrt(a / (a + b) * (b / (a + b)) / (a + b))


def _log_tail(a: float, b: float, x: float, y: float, e: float) -> float:
    """The log of the upper tail from x = 1 - y, e >= 0 above the mean, for large a and b: the density's integral.

    The density at y - y v falls as exp(-s v - z² v² / 2) or faster; the range of v ends where that is
    exp(-40).
    """
    p, q, n = a / (a + b), b / (a + b), a + b
    s, z = n * e / x, y / _standard_deviation(a, b)
    end = 80 / (s + math.hypot(s, math.sqrt(80) * z))
    v = 0.5 * end * (1 + NODES)  # (64,)

    def log_density(v: Any) -> Any:  # but for a constant
        above, up, down = e + y * v, (x + y * v) / p, y * (1 - v) / q
        return a * _phi(above / p, up) + b * _phi(-above / q, down) - np.log(up) - np.log(down)

    start = log_density(0.0)
    integral = 0.5 * end * np.sum(SHARES * np.exp(log_density(v) - start))
    return float(start + np.log(n * y * integral) - _correction(a) - _correction(b) + _correction(n))


def _log_far_tail(a: float, b: float, x: Fraction, e: Fraction) -> float:
    """The log of the upper tail from x, e above the mean, far out: its continued fraction, in which nothing cancels.

    Source: A. Didonato and A. Morris, "Algorithm 708", ACM Transactions on Mathematical Software 18 (1992),
    section 4.
    """
    p, q, n, y = a / (a + b), b / (a + b), a + b, float(1 - x)
    up, down = float(e) / p, -float(e) / q
    log_power = a * _phi(up, float(x) / p) + b * _phi(down, y / q)
    log_beta_rest = _correction(a) + _correction(b) - _correction(n) - math.log(a) - math.log(q)
    above = float(e * (Fraction(a) + Fraction(b)))
    # value, and the ratios of successive numerators and of denominators (Lentz)
    value = c = b * (above + 1) / (b + 1)
    d = 0.0
    for m in range(1, 10_000):
        alpha = (b + m - 1) / (b + 2 * m - 1) * ((n + m - 1) / (b + 2 * m - 1)) * m * (a - m) * y * y
        beta = m + m * (a - m) * y / (b + 2 * m - 1) + (b + m) * (above + 1 + m * (2 - y)) / (b + 2 * m + 1)
        d, c = 1 / (beta + alpha * d), beta + alpha / c
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return float(log_power - log_beta_rest - math.log(value))


def _phi(d: Any, ratio: Any) -> Any:
    """log(ratio) - d, where the ratio is 1 + d: by the series of 2 artanh(d / (2 + d)) where d is small."""
    near = np.abs(d) < 0.1
    y = np.where(near, d, 0) / (2 + np.where(near, d, 0))
    series = 2 * y**3 * sum(y ** (2 * i) / (2 * i + 3) for i in range(6)) - d * y
    return np.where(near, series, np.log(np.where(near, 1, ratio)) - d)


def _correction(x: float) -> float:
    """log Gamma(x + 1) less Stirling's x log x - x."""
    if x < 16:
        return float(gammaln(x + 1)) - x * math.log(x) + x
    u = 1 / x**2
    terms = 1 / 12 - u * (1 / 360 - u * (1 / 1260 - u * (1 / 1680 - u / 1188)))
    return 0.5 * math.log(2 * math.pi * x) + terms / x
