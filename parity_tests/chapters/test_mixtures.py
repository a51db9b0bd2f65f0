"""What the mixtures of both frameworks share is right: starts, restarts, samples, priors, and what has collapsed."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.mixture
from scipy import stats
from sklearn.base import clone
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.mixture._gaussian_mixture import _compute_precision_cholesky

import pytorch_impl.estimators as torch_estimators
from common import draws
from common.data import chunks, datasets
from common.mixtures.collapse import (
    _least_of_components,
    check_collapse,
    check_fit,
    least_variances,
    precisions_cholesky,
)
from common.mixtures.input import prepare
from common.mixtures.loop import em
from common.mixtures.parameters import (
    COVARIANCE_TYPES,
    PRIOR_TYPES,
    MixtureParameters,
    MixturePrior,
    are_singular,
    check_prior,
    default_prior,
    least_variance,
    make_prior,
)
from common.mixtures.start import (
    check_mixture,
    check_start,
    initial_responsibilities,
    may_repeat,
    mean_imputed,
    starting_points,
)
from parity_tests.support.frameworks import both_estimators
from parity_tests.support.problems import as_full, of_kind

X = datasets.synthetic_mixture(200, 3, 3, 4.0, seed=1).x
WEIGHT = np.floor(3 * draws.uniforms(0, "sample", (200,)))  # 0, 1 or 2
A = 0.4 * draws.normals(0, "component", (2, 3, 3)) + np.diag([1.0, 2.0, 0.5])
FULL = A @ np.swapaxes(A, 1, 2)
all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
Mixture, Bayesian = torch_estimators.GaussianMixture, torch_estimators.BayesianGaussianMixture


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_that_repeats_is_noticed(dtype: str) -> None:
    x = draws.normals(0, "sample", (5000, 3)).astype(dtype)
    assert not may_repeat(x)
    assert not may_repeat(np.concatenate([x, x[:, ::-1], -x, 2 * x]))
    x[4999], x[17, 1], x[16] = x[0], 0.0, x[17]
    x[16, 1] = -0.0
    assert may_repeat(x[:4999]), "0 and -0 are one number"
    assert may_repeat(np.delete(x, 16, axis=0)), "the last row is the first"
    assert not may_repeat(np.delete(x, [16, 4999], axis=0))


def test_a_row_with_gaps_is_the_same_alone_and_in_any_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    gaps = np.where(draws.uniforms(9, "sample", X.shape) < 0.3, np.nan, X)
    model = Mixture(3, missing="em", random_state=1).fit(gaps[:190][np.isfinite(gaps[:190]).any(axis=1)])
    monkeypatch.setattr(chunks, "NUMBERS_IN_A_CHUNK", 6)  # so that 64 rows are taken at a time
    alone = [model.score_samples(row[None])[0] for row in gaps]
    np.testing.assert_allclose(model.score_samples(gaps), alone, rtol=1e-12, atol=1e-14)


# Samples


@both_estimators("GaussianMixture")
@all_types
def test_samples_have_the_mixtures_distribution(Mixture: type, kind: str) -> None:
    """Whitened by the mixture's own factors they are standard normal, feature by feature, at a thousandth."""
    weights, means, covariances = np.array([0.3, 0.7]), np.array([[0.0, 1, 2], [3, -1, 0]]), of_kind(kind, FULL)
    x, z = Mixture.from_parameters(weights, means, covariances, covariance_type=kind, random_state=3).sample(8000)
    assert stats.binomtest(int(np.sum(z == 1)), len(z), 0.7).pvalue > 1e-3
    for k, covariance in enumerate(as_full(covariances, kind, 2, 3)):
        white = np.linalg.solve(np.linalg.cholesky(covariance), (x[z == k] - means[k]).T)
        assert min(stats.kstest(feature, "norm").pvalue for feature in white) > 1e-3
        assert np.abs(np.corrcoef(white) - np.eye(3)).max() < 4.5 / np.sqrt(white.shape[1])


def test_a_bayesian_mixture_samples_from_its_expected_parameters() -> None:
    model = Bayesian(2, random_state=0).fit(datasets.load("old-faithful").x)
    x, z = model.sample(8000)
    assert stats.binomtest(int(np.sum(z == 1)), len(z), model.weights_[1]).pvalue > 1e-3
    for k in range(2):
        white = np.linalg.solve(np.linalg.cholesky(model.covariances_[k]), (x[z == k] - model.means_[k]).T)
        assert min(stats.kstest(feature, "norm").pvalue for feature in white) > 1e-3


# Starts and restarts


def test_a_warm_start_takes_the_last_bound_for_the_one_before_it() -> None:
    """So that a fit that stands still ends after one iteration, whatever n_init says; as scikit-learn's does."""
    arguments = dict(n_components=3, warm_start=True, n_init=3, random_state=0, tol=1e-4)
    ours, peer = Mixture(**arguments), sklearn.mixture.GaussianMixture(**arguments)
    for _ in range(3):
        ours.fit(X)
        peer.fit(X)
        assert (ours.n_iter_, ours.converged_) == (peer.n_iter_, peer.converged_)
        np.testing.assert_allclose(ours.means_, peer.means_, rtol=1e-6)
    assert ours.n_iter_ == 1


def test_fit_predict_weighs_the_rows() -> None:
    model = Mixture(3, random_state=0, max_iter=5, tol=1.0)
    labels = clone(model).fit_predict(X, sample_weight=1e-3 + WEIGHT**3)
    np.testing.assert_array_equal(labels, clone(model).fit(X, sample_weight=1e-3 + WEIGHT**3).predict(X))
    assert np.any(labels != clone(model).fit_predict(X))


@pytest.mark.parametrize(("seed", "place"), [(6, 0), (0, 1), (5, 2)])
def test_of_several_starts_the_best_is_kept_wherever_it_comes(seed: int, place: int) -> None:
    arguments = dict(n_components=5, init_params="random_from_data", tol=1e-4)
    source = np.random.RandomState(seed)
    runs = [Mixture(random_state=source, **arguments).fit(X) for _ in range(3)]
    assert int(np.argmax([run.lower_bound_ for run in runs])) == place
    best = Mixture(n_init=3, random_state=np.random.RandomState(seed), **arguments).fit(X)
    np.testing.assert_array_equal(best.means_, runs[place].means_)
    assert (best.n_iter_, best.lower_bounds_) == (runs[place].n_iter_, runs[place].lower_bounds_)


@both_estimators("GaussianMixture")
def test_of_equally_good_starts_the_first_is_kept(Mixture: type) -> None:
    """Where every start ends in the same mixture, its components stand in the order in which the first found them."""
    x = np.array([-9.0, -8.5, -8, 1, 1.5, 7, 7.25, 8, 30, 31.5])[:, None]
    arguments = dict(n_components=4, init_params="k-means++", tol=1e-9)
    source = np.random.RandomState(4)
    runs = [Mixture(random_state=source, **arguments).fit(x) for _ in range(3)]
    assert len({tuple(np.argsort(run.means_[:, 0])) for run in runs}) == 3
    assert np.ptp([run.lower_bound_ for run in runs]) < 1e-13
    kept = Mixture(n_init=3, random_state=np.random.RandomState(4), **arguments).fit(x)
    np.testing.assert_array_equal(kept.means_, runs[0].means_)


def test_gaps_of_a_constant_column_are_imputed_with_its_value() -> None:
    """Which the mean of 0.1 three times is above, and that of 0.8 seven times below."""
    x = np.full((8, 2), [0.1, 0.8])
    observed = np.arange(8)[:, None] < [3, 7]
    assert np.all(np.where(observed, x, 0).sum(axis=0) / [3, 7] - x[0] != 0)
    np.testing.assert_array_equal(mean_imputed(np.where(observed, x, np.nan), observed), x)


def test_means_to_start_from_keep_their_digits_far_from_zero() -> None:
    data = prepare((1e6 + X).astype(np.float32), 2, "full", 0.0)
    means = 1e6 + draws.normals(0, "component", (2, 3))
    estimator = SimpleNamespace(weights_init=None, means_init=means, precisions_init=None)
    np.testing.assert_array_equal(check_start(estimator, data)[1], (means - data.centre).astype(np.float32))


@all_types
def test_precisions_to_start_from_are_inverted(kind: str) -> None:
    data, covariances = prepare(X, 2, kind, 0.0), of_kind(kind, FULL)
    precisions = np.linalg.inv(covariances) if kind in ("full", "tied") else 1 / covariances
    estimator = SimpleNamespace(weights_init=None, means_init=None, precisions_init=precisions)
    np.testing.assert_allclose(check_start(estimator, data)[2], covariances, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(check_mixture([0.5, 0.5], np.zeros((2, 3)), covariances, kind)[2], covariances)
    estimator.precisions_init = 0 * precisions
    with pytest.raises(
        ValueError, match=r"precisions_init should be (symmetric, positive-definite|positive), but has the"
    ):
        check_start(estimator, data)


def test_the_first_bound_has_risen_from_nothing() -> None:
    assert [step.change for step in em(lambda p: (p + 1, p), 3.0, range(2), 0.0, n=2)] == [np.inf, 0.5]


def test_weighted_starts_are_scikit_learns() -> None:
    def state() -> np.random.RandomState:
        return np.random.RandomState(2)

    rows = np.arange(200)
    _, chosen = kmeans_plusplus(X, 3, random_state=state(), sample_weight=WEIGHT)
    found = initial_responsibilities(X, 3, "k-means++", state(), WEIGHT)
    np.testing.assert_array_equal(found, (rows[:, None] == chosen) * 1.0)
    chosen = state().choice(np.flatnonzero(WEIGHT), size=3, replace=False)
    found = initial_responsibilities(X, 3, "random_from_data", state(), WEIGHT)
    np.testing.assert_array_equal(found.argmax(axis=0), chosen)
    seen = X[WEIGHT > 0]
    _, place = np.unique(seen, axis=0, return_index=True)
    labels = KMeans(3, n_init=1, random_state=state()).fit(seen[place], sample_weight=WEIGHT[WEIGHT > 0][place]).labels_
    found = initial_responsibilities(X, 3, "kmeans", state(), WEIGHT)
    np.testing.assert_array_equal(found[WEIGHT > 0][place].argmax(axis=1), labels)
    np.testing.assert_array_equal(found.sum(axis=1), 1)


def test_starts_by_kmeans_are_scikit_learns_and_a_weight_of_two_is_two_rows() -> None:
    """Of points without clusters, where every label hangs on the order of the rows, the weights and the seed."""
    x, weight, k = draws.normals(5, "sample", (60, 2)), 1.0 + (np.arange(60) < 20), 7

    def labels(rows: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
        return initial_responsibilities(rows, k, "kmeans", np.random.RandomState(3), weight).argmax(axis=1)

    def peer(rows: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
        return KMeans(k, n_init=1, random_state=np.random.RandomState(3)).fit(rows, sample_weight=weight).labels_

    np.testing.assert_array_equal(labels(x), peer(x))
    np.testing.assert_array_equal(labels(x, np.full(60, 3.0)), peer(x))
    distinct, place = np.unique(x, axis=0, return_inverse=True)
    counts = np.bincount(place, weights=weight)
    np.testing.assert_array_equal(labels(x, weight), peer(distinct, counts)[place])
    np.testing.assert_array_equal(labels(np.concatenate([x, x[:20]]))[:60], labels(x, weight))
    weightless = labels(np.concatenate([x, 9 + x[:3]]), np.append(weight, np.zeros(3)))
    np.testing.assert_array_equal(weightless[:60], labels(x, weight))
    few = np.repeat(x[:5], 3, axis=0)  # places for five of seven clusters
    np.testing.assert_array_equal(np.unique(labels(few), return_counts=True), [np.arange(5), [3] * 5])


def test_a_start_of_some_rows_has_their_own_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "ROWS_TO_START_FROM", 20)
    data = prepare(X, 3, "full", 0.0, sample_weight=1 + WEIGHT)
    points, gamma = starting_points(data, "random", np.random.RandomState(0), np.random.RandomState(0).random_sample)
    places = [int(np.flatnonzero(np.all(point == X, axis=1))[0]) for point in points]
    assert len(places) == 20
    assert all(10 * i <= place < 10 * (i + 1) for i, place in enumerate(places)), "one of each ten"
    np.testing.assert_allclose(gamma.sum(axis=1), (1 + WEIGHT)[places] / (1 + WEIGHT).mean(), rtol=1e-14)


# Priors


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 5])
def test_the_default_prior_of_map_is_fraley_and_raftery_s(d: int, k: int) -> None:
    """Section 3.1 of their paper; the scale's determinant is that of the data, divided by K squared."""
    x = X[:, :d]
    prior, covariance = default_prior(x, k), np.cov(x.T).reshape(d, d)
    np.testing.assert_allclose(np.linalg.det(prior.scale), np.linalg.det(covariance) / k**2, rtol=1e-12)
    np.testing.assert_allclose(prior.scale / prior.scale[0, 0], covariance / covariance[0, 0], rtol=1e-12)
    assert (prior.degrees_of_freedom, prior.mean_precision) == (d + 2, 0.01)
    np.testing.assert_array_equal(prior.mean, x.mean(axis=0))
    np.testing.assert_array_equal(prior.concentration, np.ones(k))


def test_given_mixtures_and_priors_are_taken_to_the_edge_of_what_is_allowed() -> None:
    """What a docstring or a message allows chunks, the next number does not, and the first that is wrong is named."""
    mean, variance = np.zeros((1, 1)), np.ones(1)
    check_mixture(np.ones(1), mean, variance, "spherical")
    for dtype, off in ((np.float32, 1e-6), (np.float64, 1e-8)):
        for times, allowed in ((0.5, True), (2.0, False)):
            weights = np.array([0.5, 0.5 - times * off], dtype)
            given = weights, np.zeros((2, 1), dtype), np.ones(2, dtype), "spherical"
            with (
                contextlib.nullcontext() if allowed else pytest.raises(ValueError, match="weights should be normalized")
            ):
                check_mixture(*given)
    with pytest.raises(ValueError, match="has the entry 1e-310, too small"):
        check_mixture([1.0, 1e-310, 1e-311], np.zeros((3, 1)), np.ones(3), "spherical")
    with pytest.raises(ValueError, match="has the variance 0: give positive variances"):
        check_mixture([1.0], mean, [0.0], "spherical")
    for skew, allowed in ((4e-6, True), (4.1e-6, False)):  # a millionth of the deviations' product
        with contextlib.nullcontext() if allowed else pytest.raises(ValueError, match="should be symmetric"):
            check_mixture([1.0], np.zeros((1, 2)), [[16.0, skew], [0.0, 1.0]], "tied")
    prior = MixturePrior(1.0, np.zeros(2), 0.01, np.eye(2), np.nextafter(1.0, 2))
    assert check_prior(prior, 3, 2).concentration.tolist() == [1, 1, 1]
    for name, value in (("concentration", np.nextafter(1, 0)), ("mean_precision", 0.0), ("degrees_of_freedom", 1.0)):
        with pytest.raises(ValueError, match=name):
            check_prior(prior._replace(**{name: value}), 3, 2)
    for name, least in (("weight_concentration", 0.0), ("mean_precision", 0.0), ("degrees_of_freedom", 2.0)):
        for value, allowed in ((1e30, True), (1e-30, least == 0), (least, False), (1.1e30, False), (np.inf, False)):
            with contextlib.nullcontext() if allowed else pytest.raises(ValueError, match=f"{name}_prior"):
                made = make_prior(X, 3, **{f"{name}_prior": value})
                assert np.all(np.atleast_2d(getattr(made, name))[-1] == value)
    assert default_prior(X[:2, :1], 1).scale == np.var(X[:2, 0], ddof=1)
    with pytest.raises(ValueError, match=r"has 1 row\(s\)"):
        default_prior(X[:1, :1], 1)


PRIOR = ("weight_concentration", "mean_precision", "mean", "degrees_of_freedom", "covariance")


@all_types
@pytest.mark.parametrize("process", PRIOR_TYPES)
@pytest.mark.parametrize("given", [False, True])
def test_the_prior_that_is_reported_is_the_one_used(kind: str, process: str, given: bool) -> None:
    """By default scikit-learn's; one that is given comes back, and the posterior of an empty component is the prior."""
    covariance = {"diag": np.array([1.0, 2, 3]), "spherical": 1.5}.get(kind, FULL[0])
    values = dict(zip(PRIOR, (0.2, 0.7, np.array([1.0, -2, 30]), 4.5, covariance), strict=True)) if given else {}
    arguments = dict(covariance_type=kind, weight_concentration_prior_type=process, max_iter=1, random_state=0)
    arguments |= {f"{name}_prior": value for name, value in values.items()}
    model, peer = Bayesian(3, **arguments), sklearn.mixture.BayesianGaussianMixture(n_components=3, **arguments)
    for each in (model, peer):
        with pytest.warns(UserWarning, match="did not converge"):
            each.fit(X)
    for name in PRIOR:
        reported = getattr(model, f"{name}_prior_")
        np.testing.assert_allclose(reported, getattr(peer, f"{name}_prior_"), rtol=1e-12, err_msg=name)
        assert not given or np.all(reported == values[name])
    counts = model.mean_precision_ - model.mean_precision_prior_
    assert counts.sum() == pytest.approx(200, rel=1e-9)
    extra = counts.mean() if kind == "tied" else counts
    np.testing.assert_allclose(model.degrees_of_freedom_ - model.degrees_of_freedom_prior_, extra, rtol=1e-9)


# Collapse


@all_types
def test_what_has_collapsed_by_type(kind: str) -> None:
    """Variances at most as large as what may be rounding: of any feature; of a spherical kind, of the widest."""
    least = np.array([1e-10, 1e-4, 1e-10])
    for variances, types in (
        ([1.0, 1.0, 1.0], ()),
        ([1e-5, 1.0, 1e-3], ("spherical",)),  # whose variance is the first one here
        ([1.0, 1e-4, 1.0], ("full", "tied", "diag")),
        ([1.0, 1.01e-4, 1.0], ()),
        ([1e-11, 1.0, 1.0], COVARIANCE_TYPES),
    ):
        covariances = of_kind(
            kind, np.stack([np.diag(variances), np.eye(3)] if kind == "tied" else [np.eye(3), np.diag(variances)])
        )
        if kind in types:
            with pytest.raises(ValueError, match=f"component {int(kind != 'tied')} has collapsed"):
                check_collapse(covariances, kind, 0.0, least)
        else:
            check_collapse(covariances, kind, 0.0, least)


def test_what_may_be_rounding_grows_with_the_square_of_the_numbers() -> None:
    """16 epsilons of the largest number, squared; nothing may where reg_covar is ten times any such variance."""
    eps = 2.0**-52
    np.testing.assert_allclose(
        least_variances(np.array([1.0, 1e3]), "float64", 0.0), (16 * eps) ** 2 * np.array([1, 1e6])
    )
    np.testing.assert_allclose(least_variances(np.array([2.0]), "float32", 0.0), (32 * 2.0**-23) ** 2, rtol=1e-6)
    assert least_variances(np.array([1.0]), "float64", 1e-6) is None
    limit = 10 * 10 * 2 * eps * 1e6  # ten times what makes correlations of two features singular
    assert least_variances(np.array([1.0, 1e3]), "float64", 1.01 * limit) is None
    assert least_variances(np.array([1.0, 1e3]), "float64", limit) is not None


def test_what_may_be_rounding_is_that_of_a_component_s_own_points() -> None:
    """16 epsilons of a mean and eight deviations, squared, where that is less than of all points; not if shared."""
    means, least = np.array([[3.0, -4.0], [1e9, 0.0]]), np.full(2, (16 * 2.0**-52 * 1e3) ** 2)
    own = (16 * 2.0**-52) ** 2 * np.array([[19.0**2, 12.0**2], [1e6, 8.0**2]])
    found = _least_of_components(least, means, np.array([[4.0, 1.0], [4.0, 1.0]]), "diag")
    np.testing.assert_allclose(found, own, rtol=1e-14)
    np.testing.assert_array_equal(_least_of_components(least, means, np.eye(2), "tied"), least)
    assert least_variance("float64") == pytest.approx(100 * 2.0**-1022 / 2.0**-52, abs=0)
    far_below = _least_of_components(least, 0 * means, np.zeros((2, 2)), "diag")
    np.testing.assert_array_equal(far_below, least_variance("float64"))


@pytest.mark.parametrize(
    ("method", "watched", "least", "last", "looks"),
    [
        ("map", True, 0.0, True, False),
        ("em", False, 0.0, False, False),
        ("em", True, None, False, False),
        ("em", True, 0.0, False, True),
        ("em", False, None, True, True),
    ],
)
def test_when_a_fit_is_looked_at(method: str, watched: bool, least: float | None, last: bool, looks: bool) -> None:
    """MAP, whose prior holds, only where a number is not finite; EM at the end, and before where it can collapse."""
    data = SimpleNamespace(
        method=method,
        least_variances=least,
        covariance_type="spherical",
        reg_covar=0.0,
        x=np.zeros((3, 1)),
        observed=None,
    )
    algorithm = SimpleNamespace(watched=watched, responsibilities=None)
    fit = MixtureParameters(np.ones(1), np.zeros((1, 1)), np.full(1, np.nan))
    check_fit(data, algorithm, fit._replace(covariances=np.ones(1)), last=last)
    with contextlib.nullcontext() if not looks else pytest.raises(ValueError, match="out of the range of float64"):
        check_fit(data, algorithm, fit, last=last)
    for bound in (np.nan, -np.inf):
        with pytest.raises(ValueError, match="out of the range of float64: scale the data"):
            check_fit(data, algorithm, fit._replace(covariances=np.ones(1)), bound, last)


def test_a_matrix_is_singular_below_ten_epsilons_a_feature() -> None:
    """Of its correlations, whose least eigenvalue is 1 - rho here; more for sums of many numbers, never less."""
    for epsilons, times, singular in ((15, 1.0, True), (25, 1.0, False), (15, 0.1, True), (25, 2.0, True)):
        rho, deviations = 1 - epsilons * 2.0**-52, np.array([1.0, 2.0**20])
        matrix = np.array([[1, rho], [rho, 1]]) * deviations * deviations[:, None]
        assert are_singular(matrix, times) == singular


@all_types
def test_factors_of_precisions_are_scikit_learns(kind: str) -> None:
    covariances = of_kind(kind, FULL)
    theirs = _compute_precision_cholesky(covariances, kind)
    np.testing.assert_allclose(precisions_cholesky(covariances, kind, 0.0), theirs, rtol=1e-12, atol=1e-15)
    flat = np.zeros_like(covariances)
    with pytest.raises(ValueError, match="component 0 has collapsed"):
        precisions_cholesky(flat, kind, 0.0)
