"""A component's points decide if it has collapsed, not how many there are, nor who adds them up."""

import numpy as np
import pytest

import pytorch_impl.estimators as torch_estimators
import tf2_impl.estimators as tf_estimators
from common.mixtures.collapse import summed_again

both = pytest.mark.parametrize(
    "Mixture", [torch_estimators.GaussianMixture, tf_estimators.GaussianMixture], ids=["torch", "tf2"]
)


def beside(narrow: np.ndarray, dtype: str) -> np.ndarray:
    """Points of a standard normal density, and these."""
    normal = np.random.default_rng(1).normal(size=narrow.shape)
    return np.concatenate([normal, narrow]).astype(dtype)


@both
@pytest.mark.parametrize("n", [400, 20_000, 70_000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", ["two points", "a line"])
def test_a_flat_component_has_collapsed_however_many_points_it_has(
    Mixture: type, n: int, dtype: str, shape: str
) -> None:
    """No axis shows it; of 70,000 rows beside as many the sums are taken in chunks."""
    rng = np.random.default_rng(0)
    along = rng.normal(40, 3, n)
    flat = np.array([[50.3, 1.7], [50.9, 2.2]])[rng.integers(0, 2, n)] if shape == "two points" else None
    x = beside(np.column_stack([along, 3 * along / 7]) if flat is None else flat, dtype)
    with pytest.raises(ValueError, match=r"component \d has collapsed"):
        Mixture(2, random_state=0, reg_covar=0, max_iter=30).fit(x)


@both
@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_wide_components_take_no_digits_from_narrow_ones(Mixture: type, kind: str) -> None:
    """In single precision the wide one's numbers are some 0.008 apart; the narrow one's deviation is 0.01."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 0.01, 5000), rng.normal(1e5, 1e3, 5000)]).astype("float32")[:, None]
    fitted = Mixture(2, covariance_type=kind, random_state=0).fit(x)
    variances = np.sort(fitted.covariances_.ravel())
    np.testing.assert_allclose(variances, [np.var(x[:5000].astype(float)) + 1e-6, np.var(x[5000:].astype(float))], 1e-3)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_the_sum_is_numpys_own_covariance(kind: str) -> None:
    """In pieces, and about means that are off."""
    rng = np.random.default_rng(0)
    x, gamma = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 3)), rng.dirichlet([1, 1], 300)
    parts = [(x[:100], gamma[:100]), (x[100:], gamma[100:])]
    found = summed_again(parts, rng.normal(size=(2, 3)), kind, np.array([True, True][: 1 + (kind != "tied")]))
    full = np.array([np.cov(x.T, aweights=weights, ddof=0) for weights in gamma.T])
    diagonals = np.diagonal(full, axis1=1, axis2=2)
    expected = {
        "full": full,
        "tied": np.average(full, axis=0, weights=gamma.sum(axis=0)),
        "diag": diagonals,
        "spherical": diagonals.mean(axis=1),
    }[kind]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@both
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_points_with_gaps_have_collapsed_too(Mixture: type, dtype: str) -> None:
    """And points of their own variance, with the same gaps, have not."""
    rng = np.random.default_rng(0)
    hidden = rng.uniform(size=(6000, 2)) < [0, 0.2]
    x = beside(np.tile([50.3, 1.7], (3000, 1)), dtype)
    with pytest.raises(ValueError, match=r"component \d has collapsed"):
        Mixture(2, missing="em", random_state=0, reg_covar=0).fit(np.where(hidden, np.nan, x))
    x[3000:] += rng.normal(size=(3000, 2)).astype(dtype)
    assert Mixture(2, missing="em", random_state=0, reg_covar=0).fit(np.where(hidden, np.nan, x)).converged_
