"""EM chunk by chunk: equal to the plain page and to extended precision, in memory that does not grow."""

import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import sklearn.mixture
import tensorflow as tf
from sklearn.exceptions import ConvergenceWarning

import pytorch_impl.train_gmm
import tf2_impl.graphs
import tf2_impl.train_gmm
from common import draws
from common.data import chunks, datasets
from common.data.chunks import Chunks
from common.mixtures.parameters import COVARIANCE_TYPES, pairs, places
from common.runs import checkpoint
from parity_tests.chapters.test_estimator import scikit_learns_best
from parity_tests.chapters.test_missing_data import problem as rows_with_gaps
from parity_tests.conftest import Parity
from parity_tests.support import frameworks
from parity_tests.support.frameworks import both, both_estimators, pair, sibling, tensor, tensors
from parity_tests.support.problems import as_full, of_kind
from parity_tests.support.scripts import ROOT

K, D, N = 3, 4, 400
TORCH, TF = pair("gmm_statistics")
TORCH_GMM = pair("gmm")[0]
both_pages = both("gmm_statistics")
estimators = both_estimators("GaussianMixture")
NAMES = ("weights", "means", "covariances", "log likelihood")
all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def points(separation: float = 3.0, offset: float = 0.0) -> np.ndarray:
    return datasets.synthetic_mixture(N, K, D, separation, seed=3).x + offset


def start(kind: str, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Weights, means and covariances that are not those of the data, but not far from them either."""
    labels = datasets.synthetic_mixture(N, K, D, 3.0, seed=3).labels  # the same for every separation
    a = 0.3 * draws.normals(0, "component", (K, D, D), step=7) + np.eye(D)
    full = a @ np.swapaxes(a, 1, 2)
    means = np.stack([x[labels == k][:20].mean(axis=0) for k in range(K)])
    return np.array([0.2, 0.5, 0.3]), means, of_kind(kind, full)


def weights_of(n: int, dtype: str = "float64") -> np.ndarray:
    return (draws.uniforms(4, "sample", (n,)) * 2).astype(dtype)


def in_chunks(module: ModuleType, x: np.ndarray, weight: np.ndarray | None, rows: int = 150) -> Chunks:
    return Chunks(x, weight, rows, partial(tensor, module), x.dtype)


def iterate(
    module: ModuleType,
    x: np.ndarray,
    weight: np.ndarray | None,
    start: tuple,
    kind: str,
    steps: int = 1,
    rows: int = 150,
) -> list:
    """Parameters and log likelihood after some iterations."""
    parameters = tensors(module, *start)
    for _ in range(steps):
        parameters, total = module.em_iteration(in_chunks(module, x, weight, rows), *parameters, kind, 1e-9)
    return frameworks.arrays([parameters, total])


def check(parity: Parity, quantity: str, found: Sequence, label: str, steps: int = 1) -> None:
    """Hold the parameters and the log likelihood of both against each other."""
    for name, a, b in zip(NAMES, *found, strict=True):
        what = "em log likelihood" if name == "log likelihood" else "em parameters"
        parity.check(f"{quantity} {name}", what, a, b, label, steps=steps)


def exact_iteration(x: np.ndarray, weight: np.ndarray, parameters: tuple, kind: str) -> list[np.ndarray]:
    """One EM iteration in extended precision, in two passes: loops and textbook formulas."""
    x, weight, pi, means, covariances = (np.asarray(a, np.longdouble) for a in (x, weight, *parameters))
    log_joint = np.empty((len(x), K), np.longdouble)
    for k, sigma in enumerate(as_full(covariances, kind, K, D)):
        factor, y = np.zeros((D, D), np.longdouble), np.empty_like(x)
        for i in range(D):
            for j in range(i + 1):
                rest = sigma[i, j] - factor[i, :j] @ factor[j, :j]
                factor[i, j] = np.sqrt(rest) if i == j else rest / factor[j, j]
            y[:, i] = (x[:, i] - means[k, i] - y[:, :i] @ factor[i, :i]) / factor[i, i]
        log_joint[:, k] = np.log(pi[k]) - (np.square(y).sum(axis=1) + D * np.log(2 * np.longdouble(np.pi))) / 2
        log_joint[:, k] -= np.log(np.diag(factor)).sum()
    largest = log_joint.max(axis=1, keepdims=True)
    log_density = largest[:, 0] + np.log(np.exp(log_joint - largest).sum(axis=1))
    gamma = np.exp(log_joint - log_density[:, None]) * weight[:, None]
    counts = gamma.sum(axis=0) + 10 * np.finfo(np.float64).eps
    new_means = (gamma.T @ x) / counts[:, None]
    scatter = np.stack([(gamma[:, k, None] * (x - new_means[k])).T @ (x - new_means[k]) for k in range(K)])
    full = scatter / counts[:, None, None] + np.longdouble(1e-9) * np.eye(D)
    variances = np.diagonal(full, axis1=1, axis2=2)
    tied = np.einsum("k,kij->ij", counts, full) / counts.sum()
    new_covariances = dict(full=full, tied=tied, diag=variances, spherical=variances.mean(axis=1))[kind]
    return [counts / counts.sum(), new_means, new_covariances, weight @ log_density]


@both_pages
def test_no_responsibility_is_a_denormal_number(module: ModuleType, dtype: str) -> None:
    """Exponents down to where each precision ends: zero or a normal number, and rows that sum to one."""
    tiny = np.finfo(dtype).tiny
    exponents = np.linspace(0, 1.3 * np.log(tiny), 500, dtype=dtype)
    two = tensor(module, np.stack([np.zeros_like(exponents), exponents]))
    log_density, gamma = map(np.asarray, sibling(module, "natural_parameters").bayes_rule(two))
    assert np.all((gamma == 0) | (gamma >= tiny))
    assert np.any(gamma[1] == 0)
    expected = np.exp(exponents.astype(np.longdouble))
    np.testing.assert_allclose(gamma[1], expected / (1 + expected), atol=1e-30, rtol=100 * np.finfo(dtype).eps)
    np.testing.assert_allclose(log_density, np.log1p(expected).astype(float), atol=2 * np.finfo(dtype).eps)


CASES = {
    "around the centre": (3.0, 0.0),
    "an offset of 1e8 deviations": (3.0, 1e8),
    "clusters of a millionth of their distance": (1e6, 0.0),
    "both": (1e4, 1e7),
}


@all_types
@pytest.mark.parametrize("case", CASES)
def test_an_iteration_is_right_in_extended_precision(parity: Parity, case: str, kind: str) -> None:
    """One iteration from a start that is off, and one from where that led, against longdouble."""
    x = points(*CASES[case])
    parameters, weight = start(kind, x), weights_of(N)
    for step in (1, 2):
        exact = exact_iteration(x, weight, parameters, kind)
        found = [iterate(module, x, weight, parameters, kind) for module in (TORCH, TF)]
        scale = np.sqrt(np.abs(exact[2]).max())  # means to a share of a deviation, or to the last bits that they have
        slack = np.array([1e-13, 1e-13 * scale + 4e-16 * np.abs(x).max(), 3e-13 * scale**2, 1e-13 * abs(exact[3])])
        for ours in found:
            for a, b, atol in zip(ours, exact, slack, strict=True):
                np.testing.assert_allclose(a, b.astype(np.float64), rtol=0, atol=float(atol))
        check(parity, "em_iteration", found, f"{case}, {kind}", step)
        parameters = found[0][:3]


def test_without_its_guard_the_common_centre_loses_the_covariances(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = points(1e6), weights_of(N)
    exact = exact_iteration(x, weight, start("full", x), "full")[2].astype(np.float64)
    for module in (TORCH, TF):
        monkeypatch.setattr(module, "LOST", dict.fromkeys(module.LOST, 1000))
        found = iterate(module, x, weight, start("full", x), "full")[2]
        assert np.abs(found - exact).max() > 1e-5 * np.abs(exact).max(), module


@both_pages
@all_types
def test_lost_digits_are_binary(module: ModuleType, kind: str) -> None:
    """A mean three deviations away squares to nine times the variance: log2(10) digits go."""
    _, _, covariances = start(kind, points())
    variances = np.diagonal(as_full(covariances, kind, K, D), axis1=1, axis2=2)
    arguments = tensors(module, variances * np.array([[1.0], [10.0], [2.0]]), covariances)
    np.testing.assert_allclose(module.lost_digits(*arguments, kind), np.log2(10), rtol=1e-14)


@all_types
def test_a_start_far_away_costs_no_digits(kind: str) -> None:
    """The old means tell nothing about the new ones: seen from there, the covariances would be lost."""
    x, weight = points(3.0), weights_of(N)
    pi, means, covariances = start(kind, x)
    far = (pi, means + 1e7, covariances * 1e10)
    exact = exact_iteration(x, weight, far, kind)
    for module in (TORCH, TF):
        found = iterate(module, x, weight, far, kind)
        np.testing.assert_allclose(found[1], exact[1].astype(np.float64), atol=1e-7)
        np.testing.assert_allclose(found[2], exact[2].astype(np.float64), rtol=1e-6, atol=1e-7)


@all_types
@pytest.mark.parametrize("weighted", [True, False])
def test_equal_to_the_plain_page(kind: str, weighted: bool, dtype: str) -> None:
    """20 iterations in chunks that do not divide the data, against gmm.em_iteration on all of them."""
    x = points().astype(dtype)
    parameters = tuple(a.astype(dtype) for a in start(kind, x))
    weight = weights_of(N, dtype) if weighted else None
    plain = tensors(TORCH, *parameters)
    steps = 20 if dtype == "float64" else 1
    for _ in range(steps):
        sample_weight = None if weight is None else tensor(TORCH, weight)
        plain, total = TORCH_GMM.em_iteration(tensor(TORCH, x), *plain, kind, 1e-9, sample_weight)
    for module in (TORCH, TF):
        found = iterate(module, x, weight, parameters, kind, steps)
        for a, b in zip(found, (*plain, total), strict=True):
            assert a.dtype == dtype
            atol = (1e-12 if dtype == "float64" else 2e-5) * np.abs(np.asarray(b)).max()
            np.testing.assert_allclose(a, np.asarray(b), rtol=0, atol=atol)


@all_types
def test_hundred_iterations_agree(parity: Parity, kind: str) -> None:
    x = points(1.0)
    check(parity, "em_iteration", [iterate(m, x, None, start(kind, x), kind, 100) for m in (TORCH, TF)], kind, 100)


@both_pages
@all_types
def test_statistics_of_parts_add_up(module: ModuleType, kind: str) -> None:
    """Merged in any grouping, the parts give the statistics of the whole; weight zero is not there."""
    natural, x, weight = sibling(module, "natural_parameters"), points(), weights_of(N)
    weights, means, covariances, centre = tensors(module, *start(kind, x), x.mean(axis=0))
    coefficients = natural.natural_parameters(weights, means, covariances, centre, kind)
    arguments = centre, coefficients, kind
    rows = slice(0, 7), slice(7, 300), slice(300, N)
    parts = [module.chunk_statistics(*tensors(module, x[r], weight[r]), *arguments) for r in rows]
    whole = module.chunk_statistics(*tensors(module, x, weight), *arguments)
    data = tensors(module, x, weight, np.tile(x.mean(axis=0), (K, 1)))
    whiten = natural.whitening(weights, means, covariances, kind)
    apart = module.chunk_statistics_apart(*data, means, *whiten, kind)
    with_nothing = [np.concatenate([x, 1e3 * x[:9]]), np.concatenate([weight, np.zeros(9)])]
    others = [
        module.merge(module.merge(parts[2], parts[0]), parts[1]),
        module.merge(parts[2], module.merge(parts[1], parts[0])),
        apart,
        module.chunk_statistics(*tensors(module, *with_nothing), *arguments),
    ]
    for other in others:
        for a, b in zip(other, whole, strict=True):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("far", [0.0, 1e4])
@pytest.mark.parametrize("weighted", [False, True])
def test_rows_with_gaps_in_blocks(parity: Parity, weighted: bool, far: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks of three rows, and where means move ten thousand deviations at once, as the plain page."""
    x, observed, weights, means, covariances = rows_with_gaps(empty_row=False)
    arguments = [x, observed, weights, means + far, covariances, 1e-3]
    arguments += [np.linspace(0.5, 2, len(x))] if weighted else []
    monkeypatch.setattr(chunks, "NUMBERS_IN_A_CHUNK", 3 * means.size * x.shape[1])
    assert len(chunks.runs_of_rows(len(x), means.size * x.shape[1])) > 2
    found = []
    for module in (TORCH, TF):
        given = [tensor(module, a) if isinstance(a, np.ndarray) else a for a in arguments]
        steps = [module.em_iteration_with_gaps, sibling(module, "missing_data").em_iteration]
        steps += [tf.function(module.em_iteration_with_gaps)] * (module is TF and not weighted)
        blocks, *others = (frameworks.arrays([*step(*given)]) for step in steps)
        for other in others:
            for ours, theirs in zip(blocks, other, strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)
        found.append(blocks)
    check(parity, "em_iteration_with_gaps", found, f"{far:g} away")


@all_types
def test_the_first_m_step_is_that_of_the_plain_page(parity: Parity, kind: str) -> None:
    gamma = draws.uniforms(2, "sample", (N, K))
    heaps = np.repeat(np.eye(K), -(-N // K), axis=0)[:N]  # the first third is all of the first component
    apart = np.where(heaps[:, :1] == 1, 1e4 + 0.01 * points(), points())  # and narrow, far from the others
    cases = (points(), gamma, 1.0), (points(1e5, 1e6), gamma, 1e-300), (apart, heaps, 1.0)
    for x, gamma, scale in cases:
        shares = gamma * [1.0, scale, 1.0]  # the second component may be as good as empty
        found = [module.m_step(in_chunks(module, x, shares), kind, 1e-3) for module in (TORCH, TF)]
        plain = TORCH_GMM.m_step(*tensors(TORCH, x, shares), kind, 1e-3)
        last_bits = 4 * np.spacing(np.abs(x).max())  # of the means, which are as far from zero as the points
        for ours in found:
            for a, b, atol in zip(ours, plain, (1e-12, last_bits, 1e-12), strict=True):
                np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-11, atol=atol)
        for name, a, b in zip(NAMES[:3], *found, strict=True):
            parity.check(f"m_step {name}", "em parameters", a, b, f"{kind}, {scale:g}")


def test_each_function_is_traced_once() -> None:
    """For tables of all lengths, if there are few chunks; else for all chunks of one length."""
    x, page = points(), TF
    graphs = [page.GRAPH(page.in_blocks, jit_compile=through_xla) for through_xla in (True, False)]
    before = [each.experimental_get_tracing_count() for each in graphs]
    traced = tf2_impl.graphs._graph.cache_info
    iterate(TF, x, None, start("full", x), "full", 5, rows=N)
    few = traced().misses
    for n in (N // 2, N // 3):
        iterate(TF, x[:n], None, start("full", x), "full", 2, rows=n)
    assert traced().misses == few
    for x, weight in (points(), None), (points(1e6), None), (points(), weights_of(N)):
        iterate(TF, x, weight, start("full", x), "full", 5, rows=N // 9)
    for count, each in zip(before, graphs, strict=True):
        assert 0 < each.experimental_get_tracing_count() <= count + 1


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 64 rows, so that a hundred rows are a large table."""
    monkeypatch.setattr(chunks, "NUMBERS_IN_A_CHUNK", 1024)


X = datasets.synthetic_mixture(500, 3, 3, 5.0, seed=1).x


@pytest.mark.usefixtures("small_chunks")
@all_types
def test_same_fit_as_scikit_learn_from_the_same_seed(parity: Parity, kind: str) -> None:
    arguments = dict(covariance_type=kind, tol=1e-7, max_iter=300)
    peer = scikit_learns_best(X, 2, 4, **arguments)
    fits = [page.GaussianMixture(3, n_init=2, random_state=4, **arguments).fit(X) for page in pair("estimators")]
    for name in ("weights_", "means_", "covariances_", "precisions_"):
        parity.check(f"fitted in chunks, {name}", "em parameters", *(getattr(fit, name) for fit in fits), tensor=kind)
        np.testing.assert_allclose(getattr(fits[0], name), getattr(peer, name), rtol=1e-6, atol=1e-9)
    for fit in fits:
        assert fit.n_iter_ == peer.n_iter_
        assert fit.lower_bound_ == pytest.approx(peer.lower_bound_, rel=1e-12)
        np.testing.assert_array_equal(fit.predict(X), peer.predict(X))
        np.testing.assert_allclose(fit.predict_proba(X), peer.predict_proba(X), atol=1e-8)
        np.testing.assert_allclose(fit.score_samples(X), peer.score_samples(X), rtol=1e-8)
        assert fit.score(X) == pytest.approx(peer.score(X), rel=1e-12)


@estimators
def test_chunks_change_nothing(Mixture: type, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = np.floor(draws.uniforms(0, "sample", (len(X),)) * 4)  # some of them zero
    arguments = dict(tol=1e-7, random_state=2)
    plain = Mixture(3, **arguments).fit(X, sample_weight=weight)
    monkeypatch.setattr(chunks, "NUMBERS_IN_A_CHUNK", 1024)
    chunked = Mixture(3, **arguments).fit(X, sample_weight=weight)
    for name in ("weights_", "means_", "covariances_"):
        np.testing.assert_allclose(getattr(chunked, name), getattr(plain, name), rtol=1e-9, atol=1e-11)
    assert chunked.n_iter_ == plain.n_iter_
    assert Mixture(3, missing="em", **arguments).fit(X).lower_bound_ == pytest.approx(
        Mixture(3, **arguments).fit(X).lower_bound_, rel=1e-12
    )


@both_pages
@all_types
@pytest.mark.parametrize("variance", [0.0, -7.8e-5, np.nan])
def test_a_variance_that_cancelled_has_lost_all_digits(module: ModuleType, kind: str, variance: float) -> None:
    """Beside a healthy component, whose ratio is larger than a negative one."""
    _, _, covariances = start(kind, points())
    covariances = covariances.copy()
    covariances[(1,) * covariances.ndim] = variance
    assert module.lost_digits(*tensors(module, np.full((K, D), 9.0), covariances), kind) == np.inf


@both_pages
def test_a_narrow_component_beside_a_wide_one_as_in_rational_arithmetic(module: ModuleType) -> None:
    rng = np.random.RandomState(0)
    x = np.concatenate([rng.normal(0, 1e5, 600), rng.normal(1e6, 1e-3, 600)])[:, None]
    parameters = np.array([0.5, 0.5]), np.array([[0.0], [1e6 - 5]]), np.array([[[1e10]], [[1e8]]])
    _, means, covariances, _ = iterate(module, x, None, parameters, "full")
    gamma = np.asarray(TORCH_GMM.e_step(*tensors(TORCH, x, *parameters))[1])[:, 1]
    shares, values = ([Fraction(float(number)) for number in column] for column in (gamma, x[:, 0]))
    mean = sum(g * v for g, v in zip(shares, values, strict=True)) / sum(shares)
    variance = sum(g * (v - mean) ** 2 for g, v in zip(shares, values, strict=True)) / sum(shares)
    np.testing.assert_allclose(means[1, 0], float(mean), rtol=1e-14)
    np.testing.assert_allclose(covariances[1, 0, 0], float(variance) + 1e-9, rtol=1e-9)


@pytest.mark.usefixtures("small_chunks")
@estimators
def test_a_narrow_component_beside_a_wide_one_is_fitted(Mixture: type) -> None:
    for seed in range(6):
        rng = np.random.RandomState(seed)
        x = np.concatenate([rng.normal(0, 1e5, 1000), rng.normal(1e6, 1e-3, 1000)])[:, None]
        ours, peer = (C(2, reg_covar=0, random_state=seed).fit(x) for C in (Mixture, sklearn.mixture.GaussianMixture))
        np.testing.assert_allclose(ours.covariances_, peer.covariances_, rtol=1e-6)
        assert ours.lower_bound_ == pytest.approx(peer.lower_bound_, rel=1e-8)


@pytest.mark.parametrize("n", [40_000, 60_000])
@estimators
def test_what_has_collapsed_does_not_depend_on_the_number_of_rows(Mixture: type, n: int) -> None:
    rng = np.random.RandomState(0)
    x = np.concatenate([rng.normal(0, 100, n * 4 // 5), rng.normal(1000, 0.1, n // 5)])[:, None].astype(np.float32)
    ours, peer = (C(2, random_state=0).fit(x) for C in (Mixture, sklearn.mixture.GaussianMixture))
    np.testing.assert_allclose(np.sort(ours.covariances_.ravel()), np.sort(peer.covariances_.ravel()), rtol=1e-3)
    assert np.sqrt(ours.covariances_.min()) == pytest.approx(0.1, rel=0.02)
    with pytest.raises(ValueError, match=r"component . has collapsed"):
        Mixture(2, random_state=0, reg_covar=0).fit(np.concatenate([x[: n * 4 // 5], np.full_like(x[: n // 5], 1000)]))


@pytest.mark.usefixtures("small_chunks")
@estimators
def test_of_a_large_table_some_rows_choose_the_start(Mixture: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "ROWS_TO_START_FROM", 60)
    weight = draws.uniforms(1, "sample", (len(X),)) + 0.5
    fit = Mixture(3, random_state=1, tol=1e-4).fit(X, sample_weight=weight)
    assert fit.converged_
    # where scikit-learn stays too, on as many copies of each point
    again = sklearn.mixture.GaussianMixture(
        3, max_iter=1, tol=0, weights_init=fit.weights_, means_init=fit.means_, precisions_init=fit.precisions_
    )
    with pytest.warns(ConvergenceWarning):
        again.fit(np.repeat(X, np.round(20 * weight).astype(int), axis=0))
    np.testing.assert_allclose(again.means_, fit.means_, atol=0.02)


def test_chunks_cover_the_table_and_fill_up_the_last() -> None:
    x, weight = np.arange(22.0).reshape(11, 2), np.arange(1.0, 12.0)
    found = list(Chunks(x, weight, 4, np.copy, np.dtype("float32")))
    assert {(a.shape, b.shape, str(a.dtype)) for a, b in found} == {((4, 2), (4,), "float32")}
    points, weights = np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])
    np.testing.assert_array_equal(points[:11], x)
    np.testing.assert_array_equal(weights, [*weight, 0])
    np.testing.assert_array_equal(points[11], x[-1])
    again = Chunks(x, None, 4, np.copy, x.dtype)
    assert [b.sum() for _ in range(2) for _, b in again] == [4, 4, 3] * 2


@pytest.mark.parametrize(("small_ones", "together"), [(1, 1), (15, 1), (16, 2), (31, 3), (32, 4), (101, 4)])
@pytest.mark.parametrize(("d", "k"), [(2, 8), (16, 16), (32, 32), (100, 3)])
def test_chunks_are_of_a_size_and_divide_into_blocks(small_ones: int, together: int, d: int, k: int) -> None:
    small = chunks.chunk_rows(d, k)
    for n in (small_ones * small, small_ones * small - 5):
        rows = chunks.rows_of_chunks(n, d, k)
        number = -(-n // rows)
        assert rows % 32 == 0
        assert number == -(-small_ones // together)
        assert number * rows - n < small + 32 * number, "nearly no point is there to fill up"
        blocks = chunks.number_of_blocks(2**20, rows, d, k)
        assert rows % blocks == 0
        assert rows // blocks <= 2 * small
        assert blocks < 2 * together
    x = np.arange(3.0 * small_ones).reshape(-1, 1)
    assert len(list(Chunks(x, None, 3, np.copy, x.dtype))) == len(Chunks(x, None, 3, np.copy, x.dtype)) == small_ones


@pytest.mark.parametrize(("rows", "blocks"), [(96, 4), (90, 2), (97, 1), (32, 2), (8, 1)])
def test_rows_that_cannot_be_divided_are_fewer_blocks(rows: int, blocks: int) -> None:
    """Ten numbers of two features, and two for each of three components: 12 a row, 288 for 24 rows."""
    assert chunks.number_of_blocks(288, rows, 2, 3) == blocks


@both_pages
@pytest.mark.parametrize("through_xla", [False, True])
@pytest.mark.parametrize("name", ["chunk_statistics", "chunk_statistics_apart"])
def test_blocks_add_up(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, through_xla: bool) -> None:
    """Four blocks of weighted points, three of them without weight, against all at once."""
    monkeypatch.setattr(module, "numbers_in_a_block", lambda: 400)
    x = draws.normals(5, "sample", (96, 2))
    weight = np.concatenate([draws.uniforms(5, "sample", (93,)), np.zeros(3)])
    assert chunks.number_of_blocks(400, 96, 2, 3) == 4
    means = draws.normals(6, "sample", (3, 2))
    page, covariances = sibling(module, "natural_parameters"), np.stack([np.eye(2) * s for s in (0.5, 1, 2)])
    theta = tensors(module, [0.2, 0.3, 0.5], means, covariances)
    centre, t_means = tensors(module, np.zeros(2), means)
    apart = name == "chunk_statistics_apart"
    arguments = (
        [t_means, t_means, *page.whitening(*theta)] if apart else [centre, page.natural_parameters(*theta, centre)]
    )
    compiled = through_xla and module is TF
    in_blocks = tf.function(module.in_blocks, jit_compile=True) if compiled else module.in_blocks
    data, function = tensors(module, x, weight), getattr(module, name)
    found, at_once = in_blocks(function, *data, *arguments), function(*data, *arguments)
    assert float(np.asarray(at_once.moments)[:, 0].sum()) == pytest.approx(weight.sum(), rel=1e-14)
    for a, b in zip(found, at_once, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", [(1, 1), (500, 1), (1000, 3), (255, 2), (300, 300), (7, 40)])
def test_ranges_of_columns(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    np.testing.assert_array_equal(chunks.column_ranges(x), [x.min(axis=0), x.max(axis=0)])


@pytest.mark.parametrize("d", range(1, 10))
def test_pairs_are_all_products_once(d: int) -> None:
    i, j = pairs(d)
    assert sorted(map(sorted, zip(i.tolist(), j.tolist(), strict=True))) == [
        [a, b] for a in range(d) for b in range(a, d)
    ]
    np.testing.assert_array_equal(i[:d], j[:d])  # squares first: a table of these alone is its beginning
    z = np.arange(1.0, d + 1)
    np.testing.assert_array_equal((z[i] * z[j])[places(d)], np.outer(z, z))


def test_rows_are_found_across_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "NUMBERS_IN_A_CHUNK", 6)
    x = np.arange(40.0).reshape(20, 2)
    np.testing.assert_array_equal(chunks.take_rows(x, np.array([0, 2, 3, 11, 19])), x[[0, 2, 3, 11, 19]])
    for rows in (chunks.spread_rows(20, np.full(7, u)) for u in (2**-53, 0.5, 1 - 2**-53)):
        assert len(set(rows)) == 7  # one of each part, of two or three rows
        assert np.all(np.searchsorted([2, 5, 8, 11, 14, 17, 20], rows, side="right") == np.arange(7))
    assert rows[-1] == 19
    uniforms = draws.uniforms(0, "sample", (3000,))
    assert len(np.unique(chunks.spread_rows(4001, uniforms))) == 3000
    x[:, 1] = 5.0
    np.testing.assert_array_equal(chunks.constant_columns(x), [1])
    for column in (np.append(np.full(19, 5.0), 4.0), np.arange(20) // 3):  # the latter is constant in each piece
        x[:, 1] = column
        assert len(chunks.constant_columns(x)) == 0


def test_what_was_changed_in_a_private_map_is_kept(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4000, 4)))
    for mode in ("c", "r+"):
        x = np.load(tmp_path / "x.npy", mmap_mode=mode)
        x[5] = 1.0
        read_only = x[:]
        read_only.flags.writeable = False
        for table in (x, read_only):
            assert [piece.sum() for _, piece in chunks.pieces(table, 4000)] == [4.0]
            assert x.sum() == 4.0


FIT = """
import re, sys, numpy as np
from {folder}.estimators import GaussianMixture
import sklearn.cluster
# not ru_maxrss, which begins with what the process held that started this one
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
before = peak()
x = np.load(sys.argv[1], mmap_mode="r")
mixture = GaussianMixture(2, max_iter=1, random_state=0).fit(x)
print(peak() - before)
"""


@pytest.mark.parametrize("folder", ["pytorch_impl", pytest.param("tf2_impl", marks=pytest.mark.long)])
def test_memory_does_not_grow_with_a_mapped_file(folder: str, big_file: Path) -> None:
    """A file of 256 MB is fitted, start and checks included, with less memory than the file is large."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FIT.format(folder=folder), str(big_file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert 1 < float(result.stdout) < 200


@pytest.fixture(scope="module")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "x.npy"
    some = datasets.synthetic_mixture(25_000, 2, 16, 4.0).x
    table = np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=(2_000_000, 16))
    for start in range(0, len(table), len(some)):
        table[start : start + len(some)] = some + start * 1e-9
    table.flush()
    return path


@pytest.mark.figures
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("precision", ["reproducible", "float32"])
def test_a_large_file_is_trained_on_by_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setattr(chunks, "ROWS_TO_START_FROM", 60)
    monkeypatch.setattr("common.runs.mixture.ROWS_IN_A_FIGURE", 90)
    np.save(tmp_path / "x.npy", X)
    digests = []
    for name, main in (("torch", pytorch_impl.train_gmm.main), ("tf2", tf2_impl.train_gmm.main)):
        arguments = f"--data {tmp_path / 'x.npy'} --components 3 --steps 12 --tol 0 --precision {precision}"
        assert main([*arguments.split(), "--out", str(tmp_path / name)]) == 0
        assert (tmp_path / name / "mixture.png").exists()
        digests.append(checkpoint.digest(tmp_path / name / "checkpoint.safetensors"))
    if precision == "reproducible":
        assert digests[0] == digests[1]
        peer = sklearn.mixture.GaussianMixture(3, tol=1e-9, max_iter=500, random_state=0).fit(X)
        arrays, _, _ = checkpoint.load(tmp_path / "torch" / "checkpoint.safetensors")
        order, theirs = np.argsort(arrays["means"][:, 0]), np.argsort(peer.means_[:, 0])
        np.testing.assert_allclose(arrays["means"][order], peer.means_[theirs], atol=1e-4)
