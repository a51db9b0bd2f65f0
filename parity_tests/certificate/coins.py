"""Coins, counts and genes: exact fractions, arithmetic of 50 digits, and what was published."""

from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from mpmath import mp, mpf
from scipy import stats

from parity_tests.certificate.scoring import FIFTY, Framework, columns, of_cases, rows

BOYS, GIRLS, HEADS = 251527, 241945, (5, 9, 8, 4, 7)  # Paris, 1745 to 1770; and of five times ten tosses
LAPLACE = "P. Laplace (1785); A. Gelman et al., Bayesian Data Analysis (2013), 2.4"
DO = "C. Do, S. Batzoglou, Nature Biotechnology 26 (2008), figure 1b"
RAO = "C. Rao (1973), 5g; A. Dempster, N. Laird, D. Rubin (1977), section 1"
# heads, tails, a, b: no toss, few, few against a strong belief, many, many and a belief
CASES = [(0, 0, 1, 1), (3, 0, 1, 1), (7, 3, 2.5, 0.5), (2, 5, 1e5, 1e5), (BOYS, GIRLS, 1, 1), (5e5, 5e5, 30, 20)]
DENSITY = [(0.3, 2.5, 0.5), (0.51, BOYS + 1, GIRLS + 1), (0.5, 1e5, 1e5), (0.9, 17, 40)]
COUNTS = [(100, 101), (1e6, 1e6 + 1), (3, 90), (1e9, 7)]
RATIOS = [(x, more) for x in (0.001, 0.5, 1, 3, 16.5, 170, 1e4, 1e8) for more in (0.5, 3)]
GUESS, BIASES = ["0.45", "0.80", "0.73", "0.35", "0.65"], [0.6, 0.5]


def log_beta(a: mpf, b: mpf) -> mpf:
    """The log of the Beta function."""
    return mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)


def log_evidence(h: mpf, t: mpf, a: mpf, b: mpf) -> mpf:
    """Of tosses in a given order."""
    return log_beta(a + h, b + t) - log_beta(a, b)


def log_density(theta: mpf, a: mpf, b: mpf) -> mpf:
    """Of a Beta distribution."""
    return (a - 1) * mp.log(theta) + (b - 1) * mp.log1p(-theta) - log_beta(a, b)


@cache
def births(framework: Framework, ones: int = BOYS, zeros: int = GIRLS) -> Any:
    """A coin with a flat prior that has seen so many ones and zeros."""
    return framework.page("estimators").BetaBernoulli().update(np.repeat([1.0, 0.0], [ones, zeros]))


def mass(low: mpf, high: mpf, a: int = BOYS + 1, b: int = GIRLS + 1) -> mpf:
    """The probability of an interval under a Beta distribution of large parameters, by quadrature."""
    constant = log_beta(mpf(a), mpf(b))
    density = lambda x: mp.exp((a - 1) * mp.log(x) + (b - 1) * mp.log1p(-x) - constant)  # noqa: E731
    return mp.quad(density, mp.linspace(low, high, 17))


def quantile(p: mpf, a: int = BOYS + 1, b: int = GIRLS + 1) -> mpf:
    """The quantile of the births' posterior: a step of Newton's method from SciPy's."""
    near = mpf(stats.beta(a, b).ppf(float(p)))
    return near - (mass(mpf("0.5"), near) - p) / mp.exp(log_density(near, a, b))


def em_of_coins(rounds: int) -> list[mpf]:
    """The biases after so many rounds from 0.6 and 0.5, the two coins picked equally often."""
    biases = [mpf("0.6"), mpf("0.5")]
    for _ in range(rounds):
        joint = [[theta**h * (1 - theta) ** (10 - h) for theta in biases] for h in HEADS]
        q = [[part / sum(row) for part in row] for row in joint]
        biases = [sum(s[k] * h for s, h in zip(q, HEADS, strict=True)) / sum(10 * s[k] for s in q) for k in (0, 1)]
    return biases


def coins(framework: Framework, rounds: int) -> np.ndarray:
    """The same by the estimator."""
    settings = dict(tol=0, max_iter=rounds, fixed_weights=True, biases_init=BIASES)
    return framework.page("estimators").CoinMixture(2, **settings).fit(np.array(HEADS, float), 10.0).biases_


def linkage(framework: Framework, rounds: int = 60) -> float:
    """The recombination parameter of 125, 18, 20 and 34 animals, by the general E step and a coin's M step.

    The first cell, of probability 1/2 + theta/4, hides which of the two parts each animal is of.
    """
    theta = 0.5
    for _ in range(rounds):
        hidden = 125 * framework.call("em", "posterior", np.log([[theta / 4, 0.5]]))[0]
        theta = framework.call("coin", "maximum_likelihood", hidden + 34, 38.0).item()
    return theta


FIRST = np.array(HEADS, float), np.full(5, 10.0), [0.5, 0.5], BIASES
FEWER = of_cases(lambda high: mp.log(mass(mpf("0.493"), high)), [(0.5,)])
COUNT = of_cases(lambda h, t, a, b: mp.log(mp.binomial(h + t, h)) + log_evidence(h, t, a, b), CASES)
RATIO = of_cases(lambda x, m: mp.loggamma(x + m) - mp.loggamma(x), RATIOS)
DEVIANCE = of_cases(lambda x, mu: x * mp.log(x / mu) + mu - x, COUNTS)
TABLE = {
    ("coin", "exact fractions"): [
        ("births: share of boys", Fraction(BOYS, BOYS + GIRLS), lambda f: births(f).mle()),
        ("births: the next a boy", Fraction(BOYS + 1, BOYS + GIRLS + 2), lambda f: births(f).predictive()),
    ],
    ("coin", LAPLACE): [
        ("births: P(share of boys <= 1/2)", "1.15e-42", lambda f: births(f, GIRLS, BOYS).tail_probability(0.5))
    ],
    ("coin", FIFTY): [
        ("births: its logarithm", FEWER, lambda f: births(f, GIRLS, BOYS).log_tail_probability(0.5)),
        ("births: 95% interval", of_cases(quantile, [("0.025",), ("0.975",)]), lambda f: births(f).credible_interval()),
        ("log evidence", of_cases(log_evidence, CASES), ("log_evidence", *columns(CASES))),
        ("log probability of a count", COUNT, ("predictive_log_probability", *columns(CASES))),
        ("log density", of_cases(log_density, DENSITY), ("beta_log_density", *columns(DENSITY))),
    ],
    ("log_factorials", FIFTY): [
        ("log of Gamma(x + m) / Gamma(x)", RATIO, ("log_gamma_ratio", *columns(RATIOS))),
        ("deviance, near and far", DEVIANCE, ("deviance", *columns(COUNTS))),
    ],
    ("coin_mixture", DO): [
        ("hidden coins: after a round", ["0.71", "0.58"], lambda f: coins(f, 1)),
        ("hidden coins: after ten rounds", ["0.80", "0.52"], lambda f: coins(f, 10)),
        ("hidden coins: first responsibilities", GUESS, lambda f: f.call("coin_mixture", "e_step", *FIRST)[5::2]),
    ],
    ("coin_mixture", FIFTY): [("hidden coins: the end", lambda: em_of_coins(80), lambda f: coins(f, 80))],
    ("em", RAO): [("linkage: recombination parameter", "0.62682149787098", linkage)],
    ("em", FIFTY): [("linkage: root of 197 x^2 - 15 x - 68", (15 + mp.sqrt(53809)) / 394, linkage)],
}
ROWS = rows(TABLE)
