"""The estimators beyond a fit: masked arrays, mixtures from given parameters, sources of chance."""

import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tensorflow as tf
import torch
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning

from common import draws
from common.data import datasets
from common.mixtures.input import check_missing
from common.mixtures.parameters import COVARIANCE_TYPES, covariance_shape
from parity_tests.support.frameworks import both_estimators, pair
from parity_tests.support.scripts import ROOT

X = datasets.synthetic_mixture(120, 3, 2, 5.0, seed=1).x
HIDDEN = draws.uniforms(0, "sample", X.shape) < 0.1
HIDDEN[HIDDEN.all(axis=1)] = False  # of every row something is seen
MASKED = np.ma.masked_array(np.where(HIDDEN, 1e20, X), mask=HIDDEN)
GAPS = MASKED.filled(np.nan)
both, beliefs = map(both_estimators, ("GaussianMixture", "BayesianGaussianMixture"))
all_four = pytest.mark.parametrize("Mixture", [*both.args[1], *beliefs.args[1]])


@both
def test_what_a_mask_hides_is_missing(Mixture: type) -> None:
    by_mask, by_nan = (Mixture(2, missing="em", random_state=0).fit(x) for x in (MASKED, GAPS))
    np.testing.assert_array_equal(by_mask.means_, by_nan.means_)
    for name in ("predict", "predict_proba", "score_samples", "impute"):
        np.testing.assert_array_equal(getattr(by_mask, name)(MASKED), getattr(by_mask, name)(GAPS), name)
    np.testing.assert_array_equal(by_mask.predict_proba(list(MASKED)), by_mask.predict_proba(GAPS), "a list of rows")
    whole = np.ma.masked_array(X, mask=False)
    np.testing.assert_array_equal(
        Mixture(2, random_state=0).fit(whole).means_, Mixture(2, random_state=0).fit(X).means_
    )
    counts = np.ma.masked_array([[1, 2], [3, 9], [4, 4], [6, 1]], mask=[[0, 0], [0, 1], [0, 0], [0, 0]])
    model = Mixture(missing="em").fit(counts)
    assert model.means_[0, 0] == pytest.approx(3.5)
    assert model.impute(counts)[1, 1] < 9


@all_four
def test_a_masked_entry_is_refused_as_nan_is(Mixture: type) -> None:
    model = Mixture(2, random_state=0).fit(X)
    for use in (Mixture(2).fit, model.predict, model.score_samples):
        with pytest.raises(ValueError, match=r"X contains NaN at row .* such entries"):
            use(MASKED)


def test_masked_tables_coins_and_weights() -> None:
    for backend in pair("backend"):
        np.testing.assert_array_equal(np.asarray(backend.tensor(MASKED)), GAPS)
    np.testing.assert_array_equal(check_missing(MASKED)[1], ~MASKED.mask)
    with pytest.raises(ValueError, match="Input sample_weight contains NaN"):
        both.args[1][0]().fit(X, sample_weight=MASKED[:, 0])
    for page in pair("estimators"):
        with pytest.raises(ValueError, match="tosses has the entry nan at position 1"):
            page.BetaBernoulli().update(np.ma.masked_array([1, 0, 1], mask=[0, 1, 0]))
        with pytest.raises(ValueError, match="heads has the entry nan at position 0"):
            page.CoinMixture().fit(np.ma.masked_array([1, 5, 9], mask=[1, 0, 0]), 10)


def test_a_remedy_against_nan_is_one_that_there_is() -> None:
    """Follow the advice, and it is taken."""
    for page in pair("estimators"):
        with pytest.raises(ValueError, match=r"fill them in, or set missing='em'$"):
            page.GaussianMixture().fit(GAPS)
        with pytest.raises(ValueError, match=r"or set missing='em' and covariance_type='full'$"):
            page.GaussianMixture(covariance_type="tied").fit(GAPS)
        page.GaussianMixture(missing="em", covariance_type="full").fit(GAPS)
        with pytest.raises(ValueError, match=r"fill them in, or fit GaussianMixture\(missing='em'\)$"):
            page.BayesianGaussianMixture().fit(GAPS)
        infinite = np.where(np.arange(120)[:, None] == 5, np.inf, X)
        for model in (page.GaussianMixture(), page.BayesianGaussianMixture()):
            with pytest.raises(ValueError, match=r"infinity .*: remove those rows or fill them in$"):
                model.fit(infinite)


PARAMETERS = {
    "full": ([1, 0], [[0, 1], [5, 5]], [[[2, 1], [1, 3]], [[1, 0], [0, 1]]]),
    "tied": ([0.25, 0.75], [[0, 1], [5, 5]], [[2, 1], [1, 3]]),
    "diag": ([0.25, 0.75], [[0, 1], [5, 5]], [[2, 3], [1, 4]]),
    "spherical": ([0.25, 0.75], [[0, 1], [5, 5]], [2, 3]),
}


@both
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_a_mixture_of_given_parameters(Mixture: type, kind: str) -> None:
    weights, means, covariances = PARAMETERS[kind]
    mixture = Mixture.from_parameters(weights, means, covariances, covariance_type=kind, random_state=3)
    full = {"full": covariances, "tied": [covariances, covariances]}.get(kind)
    if full is None:
        full = [np.diag(np.broadcast_to(variances, 2)) for variances in covariances]
    density = sum(w * multivariate_normal(m, c).pdf(X) for w, m, c in zip(weights, means, full, strict=True))
    np.testing.assert_allclose(mixture.score_samples(X), np.log(density), rtol=1e-12)
    assert mixture.score(X) == pytest.approx(np.log(density).mean())
    assert mixture.predict(X).shape == (120,)
    assert np.isfinite(mixture.bic(X))
    assert mixture.precisions_.shape == mixture.precisions_cholesky_.shape == covariance_shape(2, 2, kind)
    refitted = mixture.fit(X)  # its parameters are the constructor's still
    np.testing.assert_array_equal(refitted.means_, Mixture(2, covariance_type=kind, random_state=3).fit(X).means_)


def test_given_parameters_are_alike_in_both_frameworks_and_may_be_tensors() -> None:
    weights, means, covariances = (np.array(value, np.float32) for value in PARAMETERS["tied"])
    found = []
    for Mixture in both.args[1]:
        for tensor in (torch.tensor, tf.constant):
            mixture = Mixture.from_parameters(*map(tensor, (weights, means, covariances)), covariance_type="tied")
            assert mixture.means_.dtype == mixture.score_samples(X).dtype == np.float32
            found.append(mixture.sample(50, random_state=1))
    for x, z in found[1:]:
        np.testing.assert_array_equal(z, found[0][1])
        np.testing.assert_allclose(x, found[0][0], rtol=1e-5)
    means[0] = 7  # the mixture has its own
    assert mixture.means_[0, 0] == 0


@both
def test_gaps_are_filled_from_given_parameters(Mixture: type) -> None:
    mixture = Mixture.from_parameters([1], [[0, 0]], [[[1, 0.5], [0.5, 1]]], missing="em")
    np.testing.assert_allclose(mixture.impute([[2, np.nan]]), [[2, 1]])


BAD_PARAMETERS = {
    "sum": (([0.5, 0.6], [[0], [1]], [[[1]], [[1]]]), {}, "weights should .* sum.weights. = 1.10000; divide them"),
    "negative": (([1.5, -0.5], [[0], [1]], [[[1]], [[1]]]), {}, "weights has entries from -0.5 to 1.5"),
    "count": (([1.0], [[0], [1]], [[[1]], [[1]]]), {}, r"weights should have the shape of \(2,\), but got \(1,\)"),
    "flat means": (([1.0], [0], [[[1]]]), {}, r"means=\[0\] is not of shape \(K, D\)"),
    "ragged": (([0.5, 0.5], [[0], [1, 2]], [1, 1]), {}, r"means=.* is not of shape \(K, D\)"),
    "words": (([1.0], [["a"]], [[[1]]]), {}, "means=.* holds no numbers"),
    "NaN": (([1.0], [[np.nan]], [[[1]]]), {}, "means has NaN or infinite entries"),
    "kind": (([1.0], [[0]], [[1]]), {}, r"covariances should have the shape of \(1, 1, 1\), but got \(1, 1\)"),
    "unknown kind": (([1.0], [[0]], [[1]]), {"covariance_type": "round"}, "covariance_type='round' must be one of"),
    "asymmetric": (([1.0], [[0, 0]], [[[1, 1e-3], [0, 1]]]), {}, "covariances should be symmetric"),
    "indefinite": (([1.0], [[0, 0]], [[[1, 2], [2, 1]]]), {}, "covariances should be positive-definite"),
    "singular": (([1.0], [[0, 0]], [[[1, 1], [1, 1]]]), {}, "covariances should be positive-definite"),
    "no variance": (([1.0], [[0]], [[0]]), {"covariance_type": "diag"}, "covariances has the variance 0"),
    "argument": (([1.0], [[0]], [[[1]]]), {"tol": -1}, "tol=-1 must be"),
}


@both
@pytest.mark.parametrize("case", BAD_PARAMETERS)
def test_bad_parameters_get_one_line(Mixture: type, case: str) -> None:
    parameters, arguments, message = BAD_PARAMETERS[case]
    with pytest.raises(ValueError, match=message) as error:
        Mixture.from_parameters(*parameters, **arguments)
    assert "\n" not in str(error.value)


@all_four
def test_a_sample_has_a_source_of_its_own_if_asked(Mixture: type) -> None:
    model = Mixture(2, random_state=0).fit(X)
    usual, other = model.sample(20)[0], model.sample(20, random_state=5)[0]
    np.testing.assert_array_equal(model.sample(20)[0], usual)
    np.testing.assert_array_equal(model.sample(20, random_state=np.random.RandomState(5))[0], other)
    np.testing.assert_array_equal(model.set_params(random_state=5).sample(20)[0], other)
    assert np.all(usual != other)


@all_four
def test_a_generator_is_refused_by_name(Mixture: type) -> None:
    generator = np.random.default_rng(0)
    remedy = re.escape("give an integer, or np.random.RandomState(generator.bit_generator)")
    with pytest.raises(ValueError, match=f"^random_state is a NumPy Generator.*{remedy}$"):
        Mixture(2, random_state=generator).fit(X)
    model = Mixture(2, random_state=np.random.RandomState(generator.bit_generator)).fit(X)
    with pytest.raises(ValueError, match=r"^random_state is a NumPy Generator"):
        model.sample(3, random_state=generator)
    for wrong in (-1, 0.5, "seed"):
        with pytest.raises(ValueError, match=f"^random_state={wrong!r} must be an integer from 0 to 2"):
            Mixture(2, random_state=wrong).fit(X)


@all_four
def test_more_components_than_distinct_points_are_a_warning(Mixture: type) -> None:
    few = np.repeat([[0.0, 1.0], [2.0, 1.5], [3.0, 5.0]], 700, axis=0)
    with pytest.warns(
        ConvergenceWarning, match=r"the data have 3 distinct point\(s\), fewer than 4 components: .*ask for fewer"
    ):
        Mixture(4, random_state=0).fit(few)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Mixture(3, random_state=0).fit(few)


@both
def test_gaps_do_not_hide_how_many_points_there_are(Mixture: type) -> None:
    rows = np.array([[0.0, np.nan], [2.0, 1.5], [2.0, 1.5], [2.0, 1.5]])
    with pytest.warns(ConvergenceWarning, match="2 distinct"):
        Mixture(3, missing="em", reg_covar=0.1, random_state=0).fit(rows)


@pytest.mark.parametrize(("level", "silent"), [(None, True), pytest.param("0", False, marks=pytest.mark.long)])
def test_tensorflow_is_imported_in_silence_unless_its_user_wants_the_log(level: str | None, silent: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment |= {} if level is None else {"TF_CPP_MIN_LOG_LEVEL": level}
    command = [sys.executable, "-c", "import tf2_impl.gmm, sys; print('imported', file=sys.stderr)"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert (done.stderr == "imported\n") == silent, done.stderr
