"""Mixtures of Gaussians: R's mclust and lavaan, sums over all assignments, and arithmetic of 50 digits."""

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
from mpmath import mp, mpf
from scipy import special
from sklearn.datasets import load_iris

from common.data import datasets
from common.mixtures.parameters import MixturePrior
from parity_tests.certificate.scoring import ANSWERS, FIFTY, Framework, R, columns, flat, of_cases, rows
from parity_tests.support import oracle
from parity_tests.support.frameworks import in_mode

MCLUST, LAVAAN = (f"{R}, {name} {ANSWERS['versions'][name]}" for name in ("mclust", "lavaan"))
STAN, TO_STAN = "posteriordb, low_dim_gauss_mix, Stan 2.19", ["-2.734", "2.870", "1.028", "1.024", "0.6215"]
MIXTURES, MAP, GAPS = (ANSWERS[name] for name in ("mixtures", "map", "gaps"))
GEYSER = next(i for i, m in enumerate(MIXTURES) if (m["data"], m["type"], m["k"]) == ("old-faithful", "full", 2))
MURRAY = np.array([(1, 1), (1, -1), (-1, 1), (-1, -1), *[(2, None), (-2, None), (None, 2), (None, -2)] * 2], float)
SIX = np.array([[-1.5], [-0.5], [0.0], [0.25], [1.0], [2.0]])
FAR, NEAR = (SIX + np.repeat([[-by], [by]], 3, axis=0) for by in (1e5, 4.0))
# Normal-Wishart priors: mean precision, mean, degrees of freedom, inverse scale
BROAD, NARROW = (1e-12, [0.0], 2.0, [[1.0]]), (0.01, [0.0], 2.0, [[1.0]])
GEYSERS = (1.0, [3.0, 70.0], 4.0, [[1.0, 0.0], [0.0, 150.0]])
LIKE_STANS = (0.25, [0.0], 1.0, [[1.75]])  # as steep, near 1, as its priors
SHAPE, WIDTHS = np.array([[2.0, 0.3], [0.3, 0.5]]), [1.0, 1e-3, 1e-100]
POINTS = np.array([[0.1, -0.2], [30.0, 4.0]])


@cache
def table(name: str) -> np.ndarray:
    """A data set, (N, D)."""
    if name == "iris":
        return load_iris().data
    return np.array(ANSWERS[name], float) if name in ANSWERS else datasets.load(name).x


def one_hot(start: str) -> np.ndarray:
    """Responsibilities (N, K) of mclust's classification."""
    return np.eye(int(max(start)))[[int(label) - 1 for label in start]]


@cache
def fitted(framework: Framework, index: int) -> Any:
    """The mixture that starts where R's did, from the M step of mclust's classification."""
    asked = MIXTURES[index]
    x, kind = table(asked["data"]), asked["type"]
    weights, means, covariances = oracle.m_step(x, one_hot(asked["start"]).T, kind, 0.0)
    precisions = np.linalg.inv(covariances) if kind in ("full", "tied") else 1 / covariances
    given = dict(weights_init=weights, means_init=means, precisions_init=precisions, covariance_type=kind)
    settings = dict(tol=1e-14, max_iter=20000, reg_covar=0)
    return framework.page("estimators").GaussianMixture(asked["k"], **given, **settings).fit(x)


def fit_and_bic(framework: Framework, index: int) -> list[float]:
    """Log likelihood and Bayesian information criterion."""
    mixture, x = fitted(framework, index), table(MIXTURES[index]["data"])
    return [mixture.score(x) * len(x), mixture.bic(x)]


def by_statistics(framework: Framework) -> list[float]:
    """The log likelihood at R's optimum as EM on sufficient statistics adds it up, in chunks of 100 points; and by
    natural parameters, from the features of the points and their coefficients."""
    x, mixture, page = table("old-faithful"), fitted(framework, GEYSER), "natural_parameters"
    at = mixture.weights_, mixture.means_, mixture.covariances_
    chunks = [tuple(framework.tensors(part, np.ones(len(part)))) for part in np.split(x, [100, 200])]
    added_up = framework.page("gmm_statistics").em_iteration(chunks, *framework.tensors(*at))[1]
    features = framework.call(page, "features", x, x.mean(axis=0)).reshape(-1, len(x))
    natural = framework.call(page, page, *at, x.mean(axis=0)).reshape(2, -1)
    return [float(added_up), framework.call(page, "bayes_rule", natural @ features)[: len(x)].sum()]


@cache
def most_probable(framework: Framework) -> np.ndarray:
    """MAP under mclust's prior after a hundred rounds: log likelihood, weights, means and covariances."""
    prior = MixturePrior(np.ones(2), *(np.array(MAP[name], float) for name in ("mean", "shrinkage", "scale", "dof")))
    x, gamma, prior = framework.tensors(table("old-faithful"), one_hot(MAP["start"]), prior)
    parameters = framework.page("em").map_m_step(x, gamma, prior)
    for _ in range(100):
        parameters, _ = framework.page("em").map_em_iteration(x, *parameters, prior)
    return flat((framework.page("gmm").log_likelihood(x, *parameters), *parameters))


@cache
def with_gaps(framework: Framework) -> np.ndarray:
    """One Gaussian of the air's quality with its gaps: its log likelihood, mean and covariance."""
    x, settings = table("airquality"), dict(missing="em", tol=1e-14, max_iter=1000, reg_covar=0)
    mixture = framework.page("estimators").GaussianMixture(1, **settings).fit(x)
    return np.append(mixture.score(x) * len(x), onward(framework, x, mixture.means_[0], mixture.covariances_[0]))


def onward(framework: Framework, x: np.ndarray, mean: Any, covariance: Any, rounds: int = 300) -> np.ndarray:
    """Mean and covariance after so many rounds of EM with gaps, where the log likelihood has long stood still."""
    gaps = np.isnan(x)
    data = framework.tensors(np.where(gaps, 0.0, x), ~gaps)
    parameters = framework.tensors([1.0], [mean], [covariance])
    step = in_mode(framework.module, lambda *p: framework.page("missing_data").em_iteration(*data, *p)[0], "function")
    for _ in range(rounds):
        parameters = step(*parameters)
    return flat(parameters)[1:]


def log_gamma_d(a: mpf, d: int) -> mpf:
    """The log of the multivariate Gamma function."""
    return d * (d - 1) * mp.log(mp.pi) / 4 + sum(mp.loggamma(a - mpf(i) / 2) for i in range(d))


def log_det(matrix: Any) -> mpf:
    """The log determinant."""
    return mp.log(mp.det(mp.matrix(np.asarray(matrix).tolist())))


def evidence(x: np.ndarray, beta: float, mean: Sequence, nu: float, scale: Any) -> mpf:
    """The log evidence of one Gaussian under a Normal-Wishart prior with inverse scale ``scale``.

    Source: K. Murphy, "Machine Learning: A Probabilistic Perspective" (2012), equation 5.29.
    """
    (n, d), (x, mean, scale) = x.shape, (np.vectorize(mpf, otypes=[object])(v) for v in (x, mean, scale))
    average = x.sum(axis=0) / max(n, 1)
    between = np.outer(average - mean, average - mean) * (mpf(beta) * n / (beta + n))
    after = scale + (x - average).T @ (x - average) + between
    value = log_gamma_d(mpf(nu + n) / 2, d) - log_gamma_d(mpf(nu) / 2, d) - mpf(n * d) / 2 * mp.log(mp.pi)
    return value + (nu * log_det(scale) - (nu + n) * log_det(after) + d * mp.log(beta / mpf(beta + n))) / 2


def enumerated(x: np.ndarray, prior: tuple) -> mpf:
    """The log evidence of two components and a flat Dirichlet, summed over all 2^N assignments."""
    n = len(x)
    of = {part: evidence(x[list(part)], *prior) for k in range(n + 1) for part in combinations(range(n), k)}
    other = {part: of[tuple(i for i in range(n) if i not in part)] for part in of}
    return mp.log(sum(mp.beta(1 + len(part), 1 + n - len(part)) * mp.exp(of[part] + other[part]) for part in of))


def believed(framework: Framework, x: np.ndarray, k: int, prior: tuple, weight: float = 1.0) -> Any:
    """The Bayesian mixture of k components."""
    names = ("mean_precision_prior", "mean_prior", "degrees_of_freedom_prior", "covariance_prior")
    kind = dict(weight_concentration_prior_type="dirichlet_distribution", weight_concentration_prior=weight)
    settings = dict(zip(names, prior, strict=True)) | dict(random_state=0, tol=1e-10, max_iter=1000, reg_covar=0)
    return framework.page("estimators").BayesianGaussianMixture(k, **kind, **settings).fit(x)


def posterior_means(framework: Framework) -> list[float]:
    """Means, deviations and first weight of Stan's benchmark."""
    fit = believed(framework, table("low_dim_gauss_mix")[:, None], 2, LIKE_STANS, 5.0)
    order = np.argsort(fit.means_[:, 0])
    nu, variances = fit.degrees_of_freedom_[order], fit.covariances_[order, 0, 0]
    deviations = np.sqrt(nu * variances / 2) * np.exp(special.gammaln((nu - 1) / 2) - special.gammaln(nu / 2))
    return [*fit.means_[order, 0], *deviations, fit.weights_[order][0]]


def collapse(width: mpf) -> mpf:
    """The log likelihood of a component of this width on the first point and one on all."""
    x = list(map(mpf, SIX.ravel()))
    mean = sum(x) / len(x)
    spread = mp.sqrt(sum((value - mean) ** 2 for value in x) / len(x))
    return sum(mp.log((mp.npdf(value, x[0], width) + mp.npdf(value, mean, spread)) / 2) for value in x)


def log_student(nu: mpf, first: mpf, second: mpf) -> mpf:
    """The log density at a point of a Student t around zero."""
    x = mp.matrix([first, second])
    value = mp.loggamma((nu + 2) / 2) - mp.loggamma(nu / 2) - mp.log(nu * mp.pi) - log_det(SHAPE) / 2
    return value - (nu + 2) / 2 * mp.log1p((x.T * mp.inverse(mp.matrix(SHAPE.tolist())) * x)[0] / nu)


def student(framework: Framework) -> np.ndarray:
    """The same by the chapter, for every number of degrees of freedom."""
    given = [(POINTS, [[0.0, 0.0]], SHAPE[None], [nu]) for (nu,) in NUS]
    return np.concatenate([framework.call("conjugate", "student_log_densities", *values) for values in given])


def bound(framework: Framework, x: np.ndarray, k: int, prior: tuple) -> float:
    """The bound of k components, with the k! ways to name them."""
    return believed(framework, x, k, prior).lower_bound_ + math.log(math.factorial(k))


NUS, ALPHAS = [(nu,) for nu in (1.5, 7.0, 4e6)], [(alpha,) for alpha in (0.25, 4.5, 1000)]
GAP = of_cases(lambda nu: mp.digamma(nu / 2) + mp.digamma((nu - 1) / 2) - 2 * mp.log(nu / 2), NUS)
STUDENT = of_cases(log_student, [(*nu, *point) for nu in NUS for point in POINTS])
EXPECTED = of_cases(lambda a: mp.digamma(a) - mp.digamma(1004.75), ALPHAS)
FIT_OF_MAP = [MAP[name] for name in ("weights", "means", "covariances")]
ONE = lambda: evidence(table("old-faithful"), *GEYSERS)  # noqa: E731
THIRDS = [0, 0, *(Fraction(n, 3) for n in (8, 4, 4, 8))]
BEST, LINKED = MIXTURES[GEYSER]["log_likelihood"], "choices and parameters are not independent"

TABLE = {
    ("gmm", MCLUST): [
        (
            f"{m['data']}, {m['type']}, K = {m['k']}: log likelihood, BIC",
            [m["log_likelihood"], m["bic"]],
            lambda f, i=i: fit_and_bic(f, i),
        )
        for i, m in enumerate(MIXTURES)
    ],
    ("gmm_statistics", MCLUST): [("old-faithful: log likelihood", BEST, lambda f: by_statistics(f)[0])],
    ("natural_parameters", MCLUST): [("old-faithful: log likelihood", BEST, lambda f: by_statistics(f)[1])],
    ("em", MCLUST): [
        ("MAP, old-faithful: log likelihood", MAP["log_likelihood"], lambda f: most_probable(f)[0]),
        ("MAP: weights, means, covariances", FIT_OF_MAP, lambda f: most_probable(f)[1:]),
    ],
    ("missing_data", LAVAAN): [
        ("airquality: log likelihood", GAPS["log_likelihood"], lambda f: with_gaps(f)[0]),
        ("airquality: mean, covariance", [GAPS["mean"], GAPS["covariance"]], lambda f: with_gaps(f)[1:]),
    ],
    ("missing_data", "G. Murray (1977)"): [
        ("twelve points: mean, covariance", THIRDS, lambda f: onward(f, MURRAY, [0.0, 0.0], [[2.5, 0.5], [0.5, 2.5]]))
    ],
    ("singularity", FIFTY): [
        ("collapse, three widths", of_cases(collapse, [(w,) for w in WIDTHS]), ("mixture_curve", SIX, WIDTHS))
    ],
    ("conjugate", FIFTY): [
        ("log determinant, expected", GAP, ("log_determinant_gap", *columns(NUS), np.array(2))),
        ("Student's density", STUDENT, student),
        ("Dirichlet's logarithms", EXPECTED, ("expected_log_weights", *columns(ALPHAS)), 12, "6.907 less 6.912"),
    ],
    ("variational_gmm", FIFTY): [
        ("old-faithful, K = 1: log evidence", ONE, lambda f: bound(f, table("old-faithful"), 1, GEYSERS)),
        ("two far groups: log evidence", lambda: enumerated(FAR, BROAD), lambda f: bound(f, FAR, 2, BROAD)),
        ("two near: log evidence", lambda: enumerated(NEAR, NARROW), lambda f: bound(f, NEAR, 2, NARROW), 3.5, LINKED),
    ],
    ("variational_gmm", STAN): [("posterior means", TO_STAN, posterior_means, 2.8, f"Stan's error, 0.0004; {LINKED}")],
}
ROWS = rows(TABLE)
