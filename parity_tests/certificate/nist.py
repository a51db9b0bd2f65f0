"""NIST's Statistical Reference Datasets: univariate summaries, and the posterior of one Gaussian."""

import json
import math
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from mpmath import mp
from scipy import special, stats

from common.mixtures.parameters import VariationalPrior
from parity_tests.certificate.scoring import Framework, Row, correct_digits, exact, flat, rows

NIST = json.loads((Path(__file__).parent / "nist.json").read_text(encoding="utf-8"))
# Mean, deviation (of N - 1), autocorrelation at lag 1; those of NumAcc are exact.
CERTIFIED = {n: [Fraction(v) if "Num" in n else v for v in values] for n, values in NIST["certified"].items()}
FLOATS = "the data as floats"


@cache
def data(name: str) -> list[Fraction]:
    """A data set as NIST prints it. One of its digits of pi, number 957, is a 3 where pi has an 8."""
    if name == "PiDigits":
        with mp.workdps(5010):
            digits = mp.nstr(+mp.pi, 5005).replace(".", "")
        return list(map(Fraction, [*digits[:956], "3", *digits[957:5000]]))
    if name == "NumAcc1":
        return [Fraction(10**7 + n) for n in (1, 3, 2)]
    if name in NIST["observed"]:
        return list(map(Fraction, " ".join(NIST["observed"][name]).split()))
    return [CERTIFIED[name][0] + Fraction(n, 10) for n in (0, *(-1, 1) * 500)]


def summary(values: list[Fraction]) -> tuple:
    """Mean, deviation and autocorrelation, by whole numbers and one square root of 50 digits."""
    n, unit = len(values), math.lcm(*(value.denominator for value in values))
    whole = [value.numerator * (unit // value.denominator) for value in values]
    total = sum(whole)
    deviations = [n * value - total for value in whole]
    squares, products = sum(d * d for d in deviations), sum(a * b for a, b in pairwise(deviations))
    variance = Fraction(squares, (n * unit) ** 2 * (n - 1))
    return Fraction(total, n * unit), mp.sqrt(exact(variance)), Fraction(products, squares)


@cache
def by_chapter(framework: Framework, name: str) -> list[float]:
    """Mean and deviation of the fitted Gaussian; the autocorrelation is the correlation that it finds in pairs of
    neighbours, with the mean beyond both ends."""
    x = np.array(data(name), float)
    mean, variance = framework.call("gaussian", "maximum_likelihood", x[:, None])
    pairs = np.stack([np.append(mean, x), np.append(x, mean)], axis=1)
    covariance = framework.call("gaussian", "maximum_likelihood", pairs)[2:]
    return [mean, np.sqrt(variance * len(x) / (len(x) - 1)), covariance[1] / covariance[0]]


def by_estimator(framework: Framework, name: str) -> list[float]:
    """Mean and deviation of a mixture of one component."""
    x = np.array(data(name), float)[:, None]
    fitted = framework.page("estimators").GaussianMixture(1, reg_covar=0).fit(x)
    return [fitted.means_.item(), np.sqrt(fitted.covariances_.item() * len(x) / (len(x) - 1))]


def rows_of(name: str) -> list[Row]:
    """The rows of one data set; no digits are asked for that are lost where the data are rounded to floats."""
    made, rounded = [], summary([Fraction(float(value)) for value in data(name)])
    for i, (quantity, answer) in enumerate(zip(("mean", "deviation", "autocorrelation"), CERTIFIED[name], strict=True)):
        left = correct_digits(float(rounded[i]), answer)[0]
        end = min(13.0, left - 1), f"{FLOATS}: {left:.1f}" if left < 14 else ""
        for chapter, fit in (("gaussian", by_chapter), ("estimators", by_estimator))[: 1 + (i < 2)]:
            value = lambda framework, fit=fit, i=i: fit(framework, name)[i]  # noqa: E731
            made.append(Row(chapter, NIST["source"], f"{name}: {quantity}", answer, value, *end))
    return made


def posterior(framework: Framework, base: float) -> np.ndarray:
    """Of 11 numbers around ``base``: mu's deviation; sigma's mean, deviation, and quantiles at 2.5, 50 and 97.5%."""
    page, x = framework.page("variational_gmm"), base + np.array([[0.2], *[[0.1], [0.3]] * 5])
    prior = VariationalPrior(*map(np.array, ([1.0], 0.0, [0.0], -1.0, [[0.0]])))  # flat in mu and in log sigma
    seen = page.statistics(*framework.tensors(x, np.ones((11, 1))))
    _, beta, _, nu, covariance = flat(page.m_step(seen, *framework.tensors(prior)))
    squares = nu * covariance
    mean = np.sqrt(squares / 2) * np.exp(special.gammaln((nu - 1) / 2) - special.gammaln(nu / 2))
    deviations = np.sqrt(squares / (nu - 2) / beta), mean, np.sqrt(squares / (nu - 2) - mean**2)
    return np.append(deviations, np.sqrt(squares / stats.chi2(nu).isf([0.025, 0.5, 0.975])))


TABLE = {
    ("variational_gmm", "NIST StRD, Markov chains"): [
        ("11 numbers near 10^8: sigma", NIST["posterior"], lambda f: posterior(f, 1e8), 6, FLOATS),
        ("11 numbers near 10^13: sigma", NIST["posterior"], lambda f: posterior(f, 1e13), 1.5, FLOATS),
    ]
}
ROWS = [row for name in CERTIFIED for row in rows_of(name)] + rows(TABLE)
