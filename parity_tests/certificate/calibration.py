"""By simulation: posteriors that are calibrated, estimates that close in as they should, a bound that rises.

A posterior is calibrated if the truth, drawn from the prior, is anywhere among draws from the posterior: its rank is
uniform. Source: S. Talts et al., "Validating Bayesian inference algorithms with simulation-based calibration" (2018).
"""

import numpy as np
from scipy import stats

from common.mixtures.parameters import VariationalPrior
from parity_tests.certificate.networks import L, N, weighted
from parity_tests.certificate.scoring import Framework, Trial, flat

RUNS, DRAWS, TOSSES = 4000, 99, 20


def uniformity(truth: np.ndarray, draws: np.ndarray) -> float:
    """The p-value of chi-squared that ranks of the truth (RUNS,) among the draws (DRAWS, RUNS) are uniform."""
    ranks = (draws < truth).sum(axis=0)
    return stats.chisquare(np.bincount(ranks * 20 // (DRAWS + 1), minlength=20)).pvalue


def coin(framework: Framework) -> float:
    """Of the bias of a coin."""
    rng = np.random.default_rng(1)
    bias = rng.beta(2.0, 3.0, RUNS)
    heads = rng.binomial(TOSSES, bias).astype(float)
    a, b = framework.call("coin", "posterior", heads, TOSSES - heads, 2.0, 3.0).reshape(2, RUNS)
    return uniformity(bias, rng.beta(a, b, (DRAWS, RUNS)))


def coverage(framework: Framework) -> float:
    """How often the interval of 95 per cent holds the bias."""
    rng, make = np.random.default_rng(2), framework.page("estimators").BetaBernoulli
    biases = rng.beta(2.0, 3.0, RUNS)
    ends = [make(2, 3).update(rng.random(TOSSES) < bias).credible_interval(0.95) for bias in biases]
    return float(np.mean([low <= bias <= high for bias, (low, high) in zip(biases, ends, strict=True)]))


def dirichlet(framework: Framework) -> float:
    """Of the first of three weights."""
    rng, alpha = np.random.default_rng(3), np.array([0.7, 1.5, 3.0])
    weights = rng.dirichlet(alpha, RUNS)
    counts = np.stack([rng.multinomial(TOSSES, w) for w in weights]).astype(float)
    prior, seen = framework.tensors(VariationalPrior(alpha, *[np.array(1.0)] * 4), counts)
    after = flat(framework.page("variational_gmm").update_weights(seen, prior)).reshape(RUNS, 3)
    return uniformity(weights[:, 0], rng.beta(after[:, 0], after[:, 1:].sum(axis=1), (DRAWS, RUNS)))


def gaussian(framework: Framework, part: int) -> float:
    """Of the mean or the precision of a Gaussian, from ten points; each run is a component."""
    rng, nu, scale, beta = np.random.default_rng(14), 5.0, 2.0, 0.5
    precision = rng.gamma(nu / 2, 2 / scale, RUNS)
    mean = rng.normal(0.0, 1 / np.sqrt(beta * precision))
    x = rng.normal(mean, 1 / np.sqrt(precision), (10, RUNS))
    page = framework.page("variational_gmm")
    moments = np.full(RUNS, 10.0), x.mean(axis=0)[:, None], 10 * x.var(axis=0)[:, None, None]
    prior = VariationalPrior(np.ones(1), *map(np.array, (beta, [0.0], nu, [[scale]])))
    given, prior = framework.tensors(page.Statistics(*moments), prior)
    after = [flat(value) for value in page.update_components(given, prior)]
    precisions = rng.gamma(after[2] / 2, 2 / (after[2] * after[3]), (DRAWS, RUNS))
    means = rng.normal(after[1], 1 / np.sqrt(after[0] * precisions))
    return uniformity((mean, precision)[part], (means, precisions)[part])


def imputed(framework: Framework) -> float:
    """Of a gap in a point from a mixture of two."""
    rng = np.random.default_rng(5)
    mixture = (
        np.array([0.4, 0.6]),
        np.array([[0.0, 0.0], [2.0, 1.0]]),
        np.array([[[1, 0.6], [0.6, 1]], [[2, -1], [-1, 1.0]]]),
    )
    z = rng.choice(2, RUNS, p=mixture[0])
    x = np.stack([rng.multivariate_normal(mixture[1][k], mixture[2][k]) for k in z])
    gaps = np.tile([True, False], (RUNS * DRAWS, 1))
    given = np.tile(x, (DRAWS, 1)) * gaps, gaps, *mixture, rng.random(len(gaps)), rng.normal(size=(len(gaps), 2))
    return uniformity(x[:, 1], framework.call("missing_data", "impute_draw", *given).reshape(DRAWS, RUNS, 2)[:, :, 1])


def recovery(framework: Framework) -> float:
    """The slope of the log error of a mixture's means against the log of the number of points."""
    rng, sizes, truth = np.random.default_rng(6), (500, 2000, 8000), np.array([[-2.0, 0.0], [2.0, 1.0]])
    errors = np.zeros(len(sizes))
    for n in np.repeat(np.arange(len(sizes)), 40):
        x = truth[rng.choice(2, sizes[n], p=[0.3, 0.7])] + rng.normal(size=(sizes[n], 2))
        start = dict(weights_init=[0.3, 0.7], means_init=truth, precisions_init=np.ones(2), covariance_type="spherical")
        errors[n] += np.square(framework.page("estimators").GaussianMixture(2, **start).fit(x).means_ - truth).mean()
    return float(np.polyfit(np.log(sizes), np.log(errors) / 2, 1)[0])


def rise(framework: Framework) -> float:
    """The slope of the log of what the importance-weighted bound lacks against the log of the number of draws.

    It lacks -E[log w], and E[w - 1] = 0, so that E[w - 1 - log w] is the same with less noise.
    """
    sizes, rng, lacks = (8, 32, 128), np.random.default_rng(7), []
    exact = weighted(framework, np.zeros((1, N, L)))
    for s in sizes:
        log_w = np.stack([weighted(framework, rng.normal(size=(s, N, L)), 0.5) - exact for _ in range(60)])
        lacks.append((np.expm1(log_w) - log_w).mean())
    return float(np.polyfit(np.log(sizes), np.log(lacks), 1)[0])


UNIFORM = ("uniform ranks: p", 1e-3, 1.0)
TRIALS = [
    Trial("coin", "posterior of the bias", coin, *UNIFORM),
    Trial("coin", "coverage of the 95% interval", coverage, "0.95", 0.935, 0.965),
    Trial("variational_gmm", "posterior of a weight", dirichlet, *UNIFORM),
    Trial("variational_gmm", "posterior of a mean", lambda f: gaussian(f, 0), *UNIFORM),
    Trial("variational_gmm", "posterior of a precision", lambda f: gaussian(f, 1), *UNIFORM),
    Trial("missing_data", "draws for a gap", imputed, *UNIFORM),
    Trial("gmm", "error of the means: power of N", recovery, "-1/2", -0.6, -0.4),
    Trial("vae", "what the bound lacks: power of S", rise, "-1", -1.15, -0.85),
]
