"""NIST's Statistical Reference Datasets: univariate summaries, and the posterior of one Gaussian."""

from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from mpmath import mp, mpf
from scipy import special, stats

from common.mixtures.parameters import VariationalPrior
from parity_tests.certificate.scoring import Framework, Row, correct_digits, exact, flat, rows

# Mean, standard deviation (of N - 1) and autocorrelation at lag 1, as certified.
CERTIFIED = {
    "Lew": ("-177.435000000000", "277.332168044316", "-0.307304800605679"),
    "Lottery": ("518.958715596330", "291.699727470969", "-0.120948622967393"),
    "Mavro": ("2.00185600000000", "0.000429123454003053", "0.937989183438248"),
    "Michelso": ("299.852400000000", "0.0790105478190518", "0.535199668621283"),
    "PiDigits": ("4.53480000000000", "2.86733906028871", "-0.00355099287237972"),
    "NumAcc1": (Fraction(10000002), Fraction(1), Fraction(-1, 2)),
    "NumAcc2": (Fraction(12, 10), Fraction(1, 10), Fraction(-999, 1000)),
    "NumAcc3": (Fraction(10000002, 10), Fraction(1, 10), Fraction(-999, 1000)),
    "NumAcc4": (Fraction(100000002, 10), Fraction(1, 10), Fraction(-999, 1000)),
}
QUANTITIES = ("mean", "standard deviation", "autocorrelation")
# The Gaussian's posterior under the prior 1 / sigma, as certified: mu's deviation; sigma's mean, deviation, quantiles.
POSTERIOR = ["0.033709993123162", "0.108372230793914", "0.027485625202104"]
POSTERIOR += ["0.069871704416342", "0.103462818336964", "0.175493354741336"]
SOURCE = "NIST StRD, univariate summary statistics"


@cache
def data(name: str) -> list[Fraction]:
    """A data set as NIST prints it. One of its digits of pi, number 957, is a 3 where pi has an 8."""
    if name == "PiDigits":
        with mp.workdps(5010):
            digits = list(mp.nstr(+mp.pi, 5005).replace(".", "")[:5000])
        digits[956] = "3"
        return list(map(Fraction, digits))
    if name == "NumAcc1":
        return [Fraction(10000000 + n) for n in (1, 3, 2)]
    if name.startswith("NumAcc"):
        return [{"2": 1, "3": 10**6, "4": 10**7}[name[-1]] + Fraction(n, 10) for n in (2, *(1, 3) * 500)]
    text = (Path(__file__).parent / "nist.txt").read_text(encoding="utf-8")
    return list(map(Fraction, text.partition(f"{name}:\n")[2].partition(":")[0].rsplit("\n", 1)[0].split()))


def summary(values: list[Fraction]) -> tuple:
    """Mean, standard deviation and autocorrelation, by exact arithmetic and one square root of 50 digits."""
    mean = sum(values) / len(values)
    deviations = [value - mean for value in values]
    squares = sum(d * d for d in deviations)
    products = sum(a * b for a, b in pairwise(deviations))
    return mean, mp.sqrt(exact(squares / (len(values) - 1))), products / squares


def floats(name: str) -> np.ndarray:
    """A data set as floats, (N,)."""
    return np.array(list(map(float, data(name))))


@cache
def by_chapter(framework: Framework, name: str) -> list[float]:
    """Mean and deviation of the fitted Gaussian; the autocorrelation is the correlation that it finds in pairs of
    neighbours, with the mean beyond both ends; and its log likelihood."""
    x = floats(name)
    mean, variance = framework.call("gaussian", "maximum_likelihood", x[:, None])
    pairs = np.stack([np.append(mean, x), np.append(x, mean)], axis=1)
    covariance = framework.call("gaussian", "maximum_likelihood", pairs)[2:]
    highest = framework.call("gaussian", "log_likelihood", x[:, None], [mean], [[variance]]).item()
    return [mean, np.sqrt(variance * len(x) / (len(x) - 1)), covariance[1] / covariance[0], highest]


def by_estimator(framework: Framework, name: str) -> list[float]:
    """Mean and deviation of a mixture of one component."""
    x = floats(name)
    fitted = framework.page("estimators").GaussianMixture(1, reg_covar=0).fit(x[:, None])
    return [fitted.means_.item(), np.sqrt(fitted.covariances_.item() * len(x) / (len(x) - 1))]


def rows_of(name: str) -> list[Row]:
    """The rows of one data set; no digits are asked for that are lost where the data are rounded to floats."""
    made, rounded = [], summary([Fraction(float(value)) for value in data(name)])
    for index, (quantity, answer) in enumerate(zip(QUANTITIES, CERTIFIED[name], strict=True)):
        left = correct_digits(float(rounded[index]), answer)[0]
        end = min(13.0, left - 1), f"the data as floats: {left:.1f}" if left < 14 else ""
        for chapter, fit in (("gaussian", by_chapter), ("estimators", by_estimator))[: 1 + (index < 2)]:
            value = lambda framework, fit=fit, i=index: fit(framework, name)[i]  # noqa: E731
            made.append(Row(chapter, SOURCE, f"{name}: {quantity}", answer, value, *end))
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


def log_likelihood(name: str) -> mpf:
    """The log likelihood at its maximum, from the certified deviation."""
    n = len(data(name))
    return -n * (mp.log(2 * mp.pi * exact(CERTIFIED[name][1]) ** 2 * (n - 1) / n) + 1) / 2


TABLE = {
    ("gaussian", SOURCE): [
        (f"{name}: highest log likelihood", log_likelihood(name), lambda f, name=name: by_chapter(f, name)[3])
        for name in ("Lew", "Lottery")
    ],
    ("variational_gmm", "NIST StRD, Markov chain Monte Carlo"): [
        ("11 numbers near 10^8: sigma", POSTERIOR, lambda f: posterior(f, 1e8), 6, "the data as floats"),
        ("11 numbers near 10^13: sigma", POSTERIOR, lambda f: posterior(f, 1e13), 1.5, "the data as floats"),
    ],
}
ROWS = [row for name in CERTIFIED for row in rows_of(name)] + rows(TABLE)
