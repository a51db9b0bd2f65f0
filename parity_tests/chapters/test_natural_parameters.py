"""The chapter on natural parameters, function by function, in both frameworks and against SciPy."""

from functools import partial
from types import ModuleType

import numpy as np
import pytest
from scipy import special, stats

from common import draws
from common.mixtures.parameters import COVARIANCE_TYPES
from parity_tests.conftest import Parity
from parity_tests.support.frameworks import both, both_estimators, in_mode, pair, tensors
from parity_tests.support.problems import as_full, of_kind

K, D, N = 3, 4, 50
all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def problem(kind: str, dtype: str) -> tuple[np.ndarray, ...]:
    """Points, weights, means, covariances and a centre."""
    x, means = 2 * draws.normals(0, "sample", (N, D)), draws.normals(1, "sample", (K, D))
    a = 0.3 * draws.normals(2, "sample", (K, D, D)) + np.eye(D)
    covariances = of_kind(kind, a @ np.swapaxes(a, 1, 2))
    arrays = x, np.array([0.2, 0.5, 0.3]), means, covariances, means.mean(axis=0)
    return tuple(np.array(array, dtype) for array in arrays)


def scipys_log_joint(kind: str, x: np.ndarray, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray):
    columns = zip(weights, means, as_full(covariances, kind, K, D), strict=True)
    return np.stack([np.log(w) + stats.multivariate_normal(m, s).logpdf(x) for w, m, s in columns])


def results(module: ModuleType, kind: str, log_joint, x, weights, means, covariances, centre) -> dict:
    """Every function of the chapter on the problem, by name; `bayes_rule` on a given log joint (K, N)."""
    whitening, constants = module.whitening(weights, means, covariances, kind)
    natural = module.natural_parameters(weights, means, covariances, centre, kind)
    features = module.features(x, centre, kind)
    log_density, gamma = module.bayes_rule(log_joint)
    apart = x, means, whitening, constants, kind
    coefficients, lost = module.from_centre(covariances, means, whitening, constants, kind)
    density_from_centre, gamma_from_centre = module.e_step_from_centre(x, *coefficients, kind)
    return {
        "whitening": whitening,
        "whitening constants": constants,
        "natural_parameters": natural,
        "features": features,
        "fast_features": module.fast_features(x, centre, kind),
        "nearest_centre": module.nearest_centre(means, covariances, kind),
        "log_joint": module.log_joint(*apart),
        "e_step log density": module.e_step(*apart)[0],
        "e_step responsibilities": module.e_step(*apart)[1],
        "from_centre lost": lost,
        "e_step_from_centre log density": density_from_centre,
        "e_step_from_centre responsibilities": gamma_from_centre,
        "bayes_rule log density": log_density,
        "bayes_rule responsibilities": gamma,
    }


@all_types
def test_every_function_agrees(parity: Parity, kind: str, dtype: str, mode: str) -> None:
    arrays = problem(kind, dtype)
    arrays = scipys_log_joint(kind, *problem(kind, "float64")[:4]).astype(dtype), *arrays
    ours, theirs = (
        in_mode(m, partial(results, m, kind), mode)(*tensors(m, *arrays)) for m in pair("natural_parameters")
    )
    for name in ours:
        parity.check(name, "output", ours[name], theirs[name], kind, mode)


@both("natural_parameters")
@all_types
def test_they_are_scipys_densities(module: ModuleType, kind: str) -> None:
    arrays = problem(kind, "float64")
    expected = scipys_log_joint(kind, *arrays[:4])
    of_all = results(module, kind, *tensors(module, expected, *arrays))
    found = {name: np.asarray(value) for name, value in of_all.items()}
    np.testing.assert_array_equal(found["fast_features"], found["features"])
    np.testing.assert_allclose(found["natural_parameters"] @ found["features"], expected, rtol=1e-11)
    np.testing.assert_allclose(found["bayes_rule log density"], special.logsumexp(expected, axis=0), rtol=1e-12)
    np.testing.assert_allclose(found["bayes_rule responsibilities"], special.softmax(expected, axis=0), rtol=1e-10)
    np.testing.assert_allclose(found["log_joint"], expected, rtol=1e-11)
    for e_step in ("e_step", "e_step_from_centre"):
        np.testing.assert_allclose(found[f"{e_step} log density"], special.logsumexp(expected, axis=0), rtol=1e-12)
        np.testing.assert_allclose(found[f"{e_step} responsibilities"], special.softmax(expected, axis=0).T, rtol=1e-10)
    full = kind in ("full", "tied")
    variances = np.diagonal(arrays[3], axis1=-2, axis2=-1) if full else arrays[3].reshape(K, -1)
    pulls = (arrays[2] - found["nearest_centre"]) / variances  # they balance where no centre is nearer to all means
    np.testing.assert_allclose(pulls.sum(axis=0), 0, atol=1e-12)
    difference = arrays[2] - found["nearest_centre"]
    squares = [m @ np.linalg.solve(s, m) for m, s in zip(difference, as_full(arrays[3], kind, K, D), strict=True)]
    np.testing.assert_allclose(found["from_centre lost"], np.log2(1 + max(squares) ** (0.5 if full else 1)), rtol=1e-10)


@both_estimators("GaussianMixture")
@all_types
def test_predictions_keep_their_digits_where_components_are_far_apart(Mixture: type, kind: str) -> None:
    """At half a million deviations from any one centre each component is seen from its own mean."""
    x = np.array([[0.3, -0.4], [5e5 + 0.3, -5e5 + 0.2]])
    means, covariances = np.array([[0.0, 0.0], [5e5, -5e5]]), of_kind(kind, np.stack([np.eye(2)] * 2))
    mixture = Mixture.from_parameters([0.5, 0.5], means, covariances, covariance_type=kind)
    expected = np.log(0.5) + stats.norm.logpdf(x - means).sum(axis=1)
    np.testing.assert_allclose(mixture.score_samples(x), expected, rtol=1e-14)
