"""GaussianMixture as scikit-learn's users know it, in both frameworks: protocol, equivalences, bad input."""

import warnings
from functools import partial

import numpy as np
import pytest
import sklearn.mixture
import tensorflow as tf
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import check_estimator

from common import draws
from common.data import chunks, datasets
from common.mixtures.parameters import COVARIANCE_TYPES
from parity_tests.conftest import Parity
from parity_tests.support.frameworks import both_estimators

both = both_estimators("GaussianMixture")
TORCH, TF = both.args[1]
all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
X = datasets.synthetic_mixture(240, 3, 3, 5.0, seed=1).x
FITTED = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")


def scikit_learns_best(x: np.ndarray, n_init: int, seed: int, **arguments: object) -> sklearn.mixture.GaussianMixture:
    """The first of its equally good runs; which of them it takes hangs on the last bit of their bounds."""
    random_state = np.random.RandomState(seed)
    runs = [sklearn.mixture.GaussianMixture(3, random_state=random_state, **arguments).fit(x) for _ in range(n_init)]
    best = max(run.lower_bound_ for run in runs)
    return next(run for run in runs if run.lower_bound_ == pytest.approx(best, rel=1e-13))


@both
def test_scikit_learns_own_estimator_checks(Mixture: type) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(Mixture())


# Not among them: tied covariances from single points, where scikit-learn's first M step counts points that no
# component has been given yet (it takes X'X over all of them), and so starts elsewhere.
STARTS = [
    (kind, init)
    for kind in COVARIANCE_TYPES
    for init in ("kmeans", "k-means++", "random", "random_from_data")
    if kind != "tied" or init in ("kmeans", "random")
]


def of_gmm(parity: Parity) -> Parity:
    """The recorder for rows of the chapter that the estimator stands in."""
    return Parity("gmm", parity.rows)


@pytest.mark.parametrize(("kind", "init"), STARTS)
def test_same_fit_as_scikit_learn_from_the_same_seed(parity: Parity, kind: str, init: str) -> None:
    arguments = dict(covariance_type=kind, tol=1e-6, max_iter=300, init_params=init)
    peer = scikit_learns_best(X, 3, 4, **arguments)
    ours, theirs = (C(3, n_init=3, random_state=4, **arguments).fit(X) for C in (TORCH, TF))
    for name in FITTED:
        pair = getattr(ours, name), getattr(theirs, name)
        of_gmm(parity).check(f"GaussianMixture fitted {name}", "em parameters", *pair, f"{kind} {init}")
        np.testing.assert_allclose(getattr(ours, name), getattr(peer, name), rtol=1e-6, atol=1e-9)
    assert (ours.n_iter_, ours.converged_) == (theirs.n_iter_, theirs.converged_) == (peer.n_iter_, peer.converged_)
    assert ours.lower_bound_ == pytest.approx(peer.lower_bound_, rel=1e-12)
    assert len(ours.lower_bounds_) == ours.n_iter_
    assert np.all(np.diff(ours.lower_bounds_) > -1e-9)
    for model in (ours, theirs):
        np.testing.assert_array_equal(model.predict(X), peer.predict(X))
        np.testing.assert_allclose(model.predict_proba(X), peer.predict_proba(X), atol=1e-8)
        np.testing.assert_allclose(model.score_samples(X), peer.score_samples(X), rtol=1e-8)
        assert (model.bic(X), model.aic(X)) == pytest.approx((peer.bic(X), peer.aic(X)), rel=1e-10)


@both
@all_types
def test_a_weight_of_two_is_two_copies(Mixture: type, kind: str) -> None:
    weight = np.floor(draws.uniforms(0, "sample", (len(X),)) * 4)
    copies = np.repeat(X, weight.astype(int), axis=0)[::-1]
    arguments = dict(covariance_type=kind, tol=1e-9, max_iter=500, random_state=2)
    weighted, repeated = Mixture(3, **arguments).fit(X, sample_weight=weight), Mixture(3, **arguments).fit(copies)
    for name in FITTED:
        np.testing.assert_allclose(getattr(weighted, name), getattr(repeated, name), rtol=1e-9, atol=1e-11)
    assert weighted.lower_bound_ == pytest.approx(repeated.lower_bound_, rel=1e-12)


@both
def test_a_weight_of_two_is_two_copies_with_gaps(Mixture: type) -> None:
    weight = np.floor(draws.uniforms(0, "sample", (len(X),)) * 4)
    start = dict(weights_init=np.full(3, 1 / 3), means_init=X[[0, 9, 80]], precisions_init=np.stack([np.eye(3)] * 3))
    weighted, repeated = (
        Mixture(3, missing="em", tol=1e-4, **start).fit(x, sample_weight=w)
        for x, w in ((GAPS, weight), (np.repeat(GAPS, weight.astype(int), axis=0), None))
    )
    for name in FITTED:
        np.testing.assert_allclose(getattr(weighted, name), getattr(repeated, name), rtol=1e-9, atol=1e-11)
    assert weighted.lower_bound_ == pytest.approx(repeated.lower_bound_, rel=1e-12)


@both
def test_every_kind_of_array_is_accepted(Mixture: type) -> None:
    expected = Mixture(2, random_state=0).fit(X)
    leaf = partial(torch.tensor, requires_grad=True)
    for convert in (torch.tensor, leaf, tf.constant, tf.Variable, np.asfortranarray):
        model = Mixture(2, random_state=0).fit(convert(X))
        np.testing.assert_array_equal(model.means_, expected.means_)
        np.testing.assert_array_equal(model.predict(convert(X)), expected.predict(X))
        weighted = Mixture(2, random_state=0, means_init=convert(X[:2])).fit(X, sample_weight=convert(np.ones(len(X))))
        assert np.all(np.isfinite(weighted.means_))


@both
def test_computes_in_the_dtype_of_the_data(Mixture: type) -> None:
    for given, used in (
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.float16, np.float64),
        (int, np.float64),
    ):
        model = Mixture(2, random_state=0, reg_covar=1e-3).fit((X * 10).astype(given))
        assert {getattr(model, name).dtype for name in FITTED} == {np.dtype(used)}
        assert model.score_samples((X * 10).astype(given)).dtype == used


@both
@all_types
def test_given_starts_are_where_it_starts(Mixture: type, kind: str) -> None:
    fitted = Mixture(3, covariance_type=kind, tol=1e-12, max_iter=2000, random_state=0).fit(X)
    start = dict(weights_init=fitted.weights_, means_init=fitted.means_, precisions_init=fitted.precisions_)
    again = Mixture(3, covariance_type=kind, tol=1e-9, **start).fit(X)
    assert again.converged_
    assert again.n_iter_ <= 2
    np.testing.assert_allclose(again.means_, fitted.means_, rtol=1e-6)


@both
def test_warm_start_goes_on(Mixture: type) -> None:
    whole = Mixture(3, max_iter=8, tol=0, random_state=0, init_params="random")
    parts = Mixture(3, max_iter=4, tol=0, random_state=0, init_params="random", warm_start=True)
    for model in (whole, parts, parts):
        with pytest.warns(ConvergenceWarning, match="max_iter"):
            model.fit(X)
    np.testing.assert_allclose(parts.means_, whole.means_, rtol=1e-12)


@both
def test_verbose_tells_the_course(Mixture: type, capsys: pytest.CaptureFixture) -> None:
    Mixture(2, verbose=2, verbose_interval=1, random_state=0).fit(X)
    told = capsys.readouterr().out
    assert "Initialization 0" in told
    assert "Iteration 1: lower bound" in told
    assert "converged" in told


NAN, INF = X.copy(), X.copy()
NAN[3, 1], INF[0, 2] = np.nan, -np.inf
CONSTANT = X.copy()
CONSTANT[:, 1] = 7.5
POINT = np.concatenate([X[:40], np.repeat(X[:1] + 50, 10, axis=0)])
IDENTITY = np.stack([np.eye(3)] * 2)

GAPS = X.copy()
GAPS[draws.uniforms(9, "sample", X.shape) < 0.2] = np.nan
GAPS[np.all(np.isnan(GAPS), axis=1), 0] = 0.0
HOLE = GAPS.copy()
HOLE[7] = np.nan

BAD_DATA = {
    "NaN": (NAN, {}, r"X contains NaN at row 3, column 1"),
    "infinity": (INF, {}, r"X contains infinity \(inf\) at row 0, column 2"),
    "one dimension": (X[:, 0], {}, r"X has shape \(240,\), not \(N, D\).*reshape"),
    "no rows": (X[:0], {}, r"0 sample\(s\)"),
    "no columns": (X[:, :0], {}, r"0 feature\(s\)"),
    "complex": (X + 1j, {}, "Complex data not supported"),
    "too few points": (X[:2], {"n_components": 3}, "n_samples=2.*n_components=3.*fewer components"),
    "constant column": (CONSTANT, {"reg_covar": 0}, r"constant in column\(s\) 1 \(value 7.5\).*remove the column"),
    "duplicate points": (POINT, {"reg_covar": 0, "random_state": 0}, "reg_covar=0.*collapsed.*increase reg_covar"),
    "means shape": (X, {"means_init": X[:3]}, r"means_init should have the shape of \(2, 3\), but got \(3, 3\)"),
    "means NaN": (X, {"means_init": NAN[3:5]}, "means_init has NaN"),
    "weights shape": (X, {"weights_init": [1.0]}, r"weights_init should have the shape of \(2,\), but got \(1,\)"),
    "weights sum": (X, {"weights_init": [0.5, 0.6]}, r"weights_init .*got sum\(weights\) = 1.10000; divide"),
    "weights negative": (X, {"weights_init": [1.5, -0.5]}, r"weights_init has entries from -0.5 to 1.5"),
    "precisions shape": (X, {"precisions_init": np.eye(3)}, r"precisions_init should have the shape of \(2, 3, 3\)"),
    "precisions asymmetric": (X, {"precisions_init": IDENTITY + np.triu(np.ones((3, 3)), 1)}, "not symmetric"),
    "precisions indefinite": (X, {"precisions_init": -IDENTITY}, "positive-definite, but has the eigenvalue -1"),
    "no components": (X, {"n_components": 0}, "n_components=0 must be an integer of at least 1"),
    "negative tol": (X, {"tol": -1.0}, r"tol=-1.0 must be a number of at least 0"),
    "unknown covariance": (X, {"covariance_type": "round"}, "covariance_type='round' must be one of full, tied"),
    "an empty row": (HOLE, {"missing": "em"}, "X has nothing but NaN in row 7"),
    "an empty column": (np.c_[X, np.full(len(X), np.nan)], {"missing": "em"}, "nothing but NaN in column 3"),
    "infinity and gaps": (INF, {"missing": "em"}, "infinity|inf"),
    "gaps and diag": (GAPS, {"missing": "em", "covariance_type": "diag"}, "is for covariance_type='full', not 'diag'"),
    "unknown missing": (GAPS, {"missing": "drop"}, "missing='drop' must be one of error, em"),
    "large squares": (X * 1e154 / np.abs(X).max(), {}, "whose squares overflow; scale the data"),
    "unknown start": (X, {"init_params": "zeros"}, "init_params='zeros' must be one of kmeans"),
}


@both
@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_input_gets_one_clear_line(Mixture: type, case: str) -> None:
    x, arguments, message = BAD_DATA[case]
    model = Mixture(**({"n_components": 2} | arguments))
    with pytest.raises(ValueError, match=message) as error:
        model.fit(x)
    assert "\n" not in str(error.value)
    assert not hasattr(model, "means_"), "nothing is half-fitted"


@both
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (-np.ones(len(X)), "Negative values"),
        (np.ones(3), r"sample_weight.shape == \(3,\)"),
        (np.zeros(len(X)), "sample_weight leaves 0 points|zero"),
        (np.full(len(X), np.nan), "NaN"),
    ],
)
def test_bad_sample_weight(Mixture: type, weight: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixture(2).fit(X, sample_weight=weight)


@both
def test_bad_use_after_fit(Mixture: type, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Mixture(2, random_state=0).fit(X)
    monkeypatch.setattr(chunks, "NUMBERS_IN_A_CHUNK", 6)  # of two rows each, and of 64 to predict
    with pytest.raises(ValueError, match="2 features"):
        model.predict(X[:, :2])
    with pytest.raises(ValueError, match="X contains NaN at row 3, column 1"):
        model.score_samples(NAN)
    with pytest.raises(ValueError, match=r"X has the row 100 \(1 such\) so far"):
        model.predict(np.where(np.arange(len(X))[:, None] == 100, 1e200, X))
    with pytest.raises(ValueError, match="'n_samples': 0; ask"):
        model.sample(0)
    with pytest.raises(ValueError, match="not fitted"):
        Mixture(2).predict(X)


@both
def test_a_constant_column_is_fitted_with_a_warning_where_reg_covar_allows(Mixture: type) -> None:
    with pytest.warns(UserWarning, match=r"constant in column\(s\) 1"):
        model = Mixture(2, random_state=0).fit(CONSTANT)
    np.testing.assert_allclose(model.covariances_[:, 1, 1], 1e-6, rtol=1e-6)


@both
def test_a_failed_fit_leaves_the_last_one_in_place(Mixture: type) -> None:
    model = Mixture(2, random_state=0).fit(X)
    means = model.means_.copy()
    with pytest.raises(ValueError, match="NaN"):
        model.fit(NAN)
    np.testing.assert_array_equal(model.means_, means)
    np.testing.assert_array_equal(model.predict(X), Mixture(2, random_state=0).fit_predict(X))


@pytest.mark.parametrize("weighted", [False, True])
def test_missing_entries_agree(parity: Parity, weighted: bool) -> None:
    weight = draws.uniforms(5, "sample", (len(X),)) + 0.1 if weighted else None
    # with weights and the default reg_covar one component nearly collapses, and its precision has a condition of 3e5
    arguments = dict(missing="em", tol=1e-7, max_iter=300, random_state=1, reg_covar=1e-2 if weighted else 1e-6)
    ours, theirs = (C(3, **arguments).fit(GAPS, sample_weight=weight) for C in (TORCH, TF))
    what = f"GaussianMixture fitted with gaps{' and weights' * weighted}"
    for name in FITTED:
        of_gmm(parity).check(f"{what}, {name}", "em parameters", getattr(ours, name), getattr(theirs, name))
    of_gmm(parity).check("GaussianMixture imputed", "em parameters", ours.impute(GAPS), theirs.impute(GAPS))
    np.testing.assert_array_equal(ours.predict(GAPS), theirs.predict(GAPS))
    assert np.all(np.diff(ours.lower_bounds_) > -1e-10)


@both
def test_missing_entries_are_filled_in(Mixture: type) -> None:
    model = Mixture(3, missing="em", tol=1e-6, max_iter=300, random_state=1).fit(GAPS)
    imputed, gaps = model.impute(GAPS), np.isnan(GAPS)
    np.testing.assert_array_equal(imputed[~gaps], GAPS[~gaps])
    error = np.abs(imputed - X)[gaps].mean()
    by_column = np.abs(np.broadcast_to(np.nanmean(GAPS, axis=0), X.shape) - X)[gaps].mean()
    assert error < 0.6 * by_column, "better than the column's mean"
    whole, plain = (Mixture(3, missing=m, random_state=1).fit(X) for m in ("em", "error"))
    np.testing.assert_array_equal(whole.means_, plain.means_)
    np.testing.assert_array_equal(whole.impute(X), X)


@both
def test_only_a_mixture_that_takes_gaps_imputes(Mixture: type) -> None:
    with pytest.raises(ValueError, match="only a mixture with missing='em' imputes"):
        Mixture(2, random_state=0).fit(X).impute(GAPS)


@both
def test_a_fitted_mixture_takes_single_rows_with_gaps(Mixture: type) -> None:
    model = Mixture(3, missing="em", random_state=1).fit(GAPS)
    one = np.array([[np.nan, X[0, 1], X[0, 2]]])
    assert np.all(np.isfinite(model.impute(one)))
    nothing = np.full((1, 3), np.nan)
    np.testing.assert_allclose(model.predict_proba(nothing)[0], model.weights_, rtol=1e-12)
    np.testing.assert_allclose(model.impute(nothing)[0], model.weights_ @ model.means_, rtol=1e-12)


@both
@pytest.mark.parametrize("gaps", [False, True])
def test_rows_of_weight_zero_are_not_there(Mixture: type, gaps: bool) -> None:
    x, weight = (GAPS if gaps else X).copy(), np.ones(len(X))
    weight[::3] = 0
    kept = x[weight > 0]
    x[::3] *= 1e3
    x[0] = 1e200
    arguments = dict(n_components=3, missing="em", random_state=1, tol=1e-9, max_iter=500)
    weighted, removed = Mixture(**arguments).fit(x, sample_weight=weight), Mixture(**arguments).fit(kept)
    np.testing.assert_allclose(weighted.means_, removed.means_, rtol=1e-9)
    assert weighted.lower_bound_ == pytest.approx(removed.lower_bound_, rel=1e-12)


@both
def test_only_ratios_of_weights_matter(Mixture: type) -> None:
    weight = draws.uniforms(0, "sample", (len(X),)) + 0.1
    fits = [Mixture(3, random_state=1).fit(X, sample_weight=weight * scale) for scale in (1.0, 1e-16, 1e12)]
    for other in fits[1:]:
        np.testing.assert_allclose(other.means_, fits[0].means_, rtol=1e-9)
        assert other.lower_bound_ == pytest.approx(fits[0].lower_bound_, rel=1e-12)


@both
def test_a_warm_start_that_does_not_fit_is_refused(Mixture: type) -> None:
    model = Mixture(2, warm_start=True, random_state=0).fit(X)
    with pytest.raises(ValueError, match="warm_start=True: the last fit"):
        model.fit(X[:, :2])
    with pytest.raises(ValueError, match="warm_start=True: the last fit"):
        model.set_params(n_components=3).fit(X)
    with pytest.raises(ValueError, match="warm_start=True: the last fit"):
        model.set_params(n_components=2, covariance_type="diag").fit(X)
    assert model.set_params(covariance_type="full").fit(X.astype(np.float32)).means_.dtype == np.float32
