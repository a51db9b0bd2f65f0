"""A component's points decide if it has collapsed, not how many there are, nor who adds them up."""

import numpy as np
import pytest

from common.data import chunks
from common.mixtures import collapse
from common.mixtures.collapse import summed_again
from common.mixtures.input import FitData, prepare
from common.mixtures.parameters import COVARIANCE_TYPES, MixtureParameters
from parity_tests.support.frameworks import both_estimators, pair
from parity_tests.support.problems import of_kind

both = both_estimators("GaussianMixture")


def beside(narrow: np.ndarray, dtype: str) -> np.ndarray:
    """Points of a standard normal density, and these."""
    normal = np.random.default_rng(1).normal(size=narrow.shape)
    return np.concatenate([normal, narrow]).astype(dtype)


def covariances(x: np.ndarray, shares: np.ndarray, kind: str) -> np.ndarray:
    """NumPy's own of points (N, D) weighted by their components' shares (N, K)."""
    full = np.array([np.cov(x.T, aweights=weights, ddof=0) for weights in shares.T])
    diagonals = np.diagonal(full, axis1=1, axis2=2)
    tied = np.average(full, axis=0, weights=shares.sum(axis=0))
    return {"full": full, "tied": tied, "diag": diagonals, "spherical": diagonals.mean(axis=1)}[kind]


class Split:
    """Two components that share the points by their first feature."""

    @staticmethod
    def responsibilities(
        parameters: MixtureParameters, x: np.ndarray, observed: np.ndarray | None = None
    ) -> np.ndarray:
        first = 1 / (1 + np.exp(-x[:, 0]))
        return np.column_stack([first, 1 - first])


def of_some_points(kind: str, gaps: bool = False) -> tuple[FitData, MixtureParameters, np.ndarray]:
    """200 weighted points, of means and covariances that are off, and their responsibilities."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2)) @ np.array([[1.0, 0.5], [0, 2]])
    weight = rng.uniform(size=200)
    if gaps:
        x[np.arange(200) % 4 == 1, rng.integers(2, size=50)] = np.nan
    data = prepare(x, 2, kind, 0.5, missing="em" if gaps else "error", sample_weight=weight)
    old = of_kind(kind, np.array([[[9.0, 1.0], [1.0, 2.0]]] * 2))
    parameters = MixtureParameters(np.array([0.5, 0.5]), rng.normal(size=(2, 2)), old)
    return data, parameters, Split.responsibilities(parameters, data.x)


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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_the_sum_is_numpys_own_covariance(kind: str, dtype: str) -> None:
    """In pieces, and about means that are off; in double precision, whatever the points are in."""
    rng = np.random.default_rng(0)
    x, gamma = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 3)), rng.dirichlet([1, 1], 300)
    x, gamma = x.astype(dtype), gamma.astype(dtype)
    parts = [(x[:100], gamma[:100]), (x[100:], gamma[100:])]
    found = summed_again(parts, rng.normal(size=(2, 3)), kind, np.array([True, True][: 1 + (kind != "tied")]))
    of_numpy = covariances(x.astype("float64"), gamma.astype("float64"), kind)
    np.testing.assert_allclose(found, of_numpy, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_what_is_looked_at_again_counts_weights_and_regularisation(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From pieces of 64 rows, of all components whose variances are below 1e9, so of all."""
    monkeypatch.setattr(chunks, "NUMBERS_IN_A_CHUNK", 6)
    data, parameters, gamma = of_some_points(kind)
    found = collapse._second_look(data, Split, parameters, np.full((2, 2), 1e9), last=False)
    one = {"full": 0.5 * np.eye(2), "tied": 0.5 * np.eye(2)}.get(kind, 0.5)
    np.testing.assert_allclose(found, covariances(data.x, gamma * data.weight[:, None], kind) + one, rtol=1e-12)


def test_with_gaps_no_variance_is_above_that_of_what_was_observed() -> None:
    data, parameters, gamma = of_some_points("full", gaps=True)
    found = collapse._second_look(data, Split, parameters, np.full((2, 2), 1e9), last=False)
    shares = gamma * data.weight[:, None]
    for k in range(2):
        old = parameters.covariances[k]
        seen = [
            np.cov(x[o], aweights=shares[o, k], ddof=0) + 0.5 for x, o in zip(data.x.T, data.observed.T, strict=True)
        ]
        least = np.minimum(np.diag(old), seen)
        assert tuple(least < np.diag(old)) == (True, False)
        np.testing.assert_allclose(np.diag(found[k]), least, rtol=1e-12)
        assert found[k, 0, 1] ** 2 / least.prod() == pytest.approx(old[0, 1] ** 2 / np.diag(old).prod(), rel=1e-12)


def test_correlated_components_are_not_summed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums over 100,000 points in chunks lose few digits, even in single precision; a look takes ten iterations."""
    rng = np.random.default_rng(0)
    shared, own = rng.normal(size=(100_000, 1)), rng.normal(size=(100_000, 16))
    x = shared + 0.1 * own + np.where(np.arange(100_000) < 50_000, 0, 9)[:, None]  # correlations of 0.99
    monkeypatch.setattr(collapse, "summed_again", None)
    pair("estimators")[0].GaussianMixture(2, random_state=0).fit(x.astype("float32"))


def test_what_may_be_rounding_is_a_matter_of_a_components_own_points() -> None:
    """Of |mean| + 8 deviations; and sums over N numbers lose N / 64 times as many digits."""
    means, variances = np.array([[3.0, -40.0], [0.0, 1.0]]), np.array([[4.0, 1.0], [9.0, 0.25]])
    expected = (16 * 2.0**-52 * np.array([[19.0, 48.0], [24.0, 5.0]])) ** 2
    for kind, values in (("diag", variances), ("full", variances[:, :, None] * np.eye(2))):
        found = collapse._least_of_components(np.full(2, np.inf), means, values, kind)
        np.testing.assert_allclose(found, expected, rtol=1e-14)
    for n, flat in ((1, [False, False]), (64, [False, False]), (144, [True, False]), (640, [True, True])):
        assert list(collapse._are_flat(np.array([[5.0], [20.0]]), "diag", 1.0, n)) == flat, n


@pytest.mark.filterwarnings("error:invalid value encountered in sqrt")  # of a variance that rounds below zero
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
