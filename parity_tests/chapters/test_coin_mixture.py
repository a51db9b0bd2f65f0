"""Which coin was tossed: the frameworks agree with each other, the paper, enumeration and SciPy."""

import itertools
import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch
from scipy import optimize, stats
from sklearn.exceptions import ConvergenceWarning

from common import draws
from parity_tests.conftest import Parity
from parity_tests.support import frameworks
from parity_tests.support.frameworks import estimators, in_mode, pair, tensors

N, K = 40, 3
NAMES = ("heads", "tosses", "weights", "biases")
PAPER = ([5, 9, 8, 4, 7], 10)
both_pages = frameworks.both("coin_mixture")


def problem(seed: int, dtype: str = "float64", n: int = N, k: int = K) -> tuple[np.ndarray, ...]:
    """Heads, tosses, and weights and biases that are not those that made them."""
    tosses = np.floor(draws.uniforms(seed, "sample", (n,)) * 25) + 1
    coin = np.floor(draws.uniforms(seed, "component", (n,)) * k)
    heads = stats.binom.ppf(draws.uniforms(seed, "sample", (n,), step=1), tosses, (coin + 0.5) / k)
    weights = draws.uniforms(seed, "component", (k,), step=1) + 0.2
    biases = draws.uniforms(seed, "start", (k,))
    return tuple(np.asarray(v, dtype=dtype) for v in (heads, tosses, weights / weights.sum(), biases))


@pytest.mark.parametrize("name", ["component_log_probabilities", "log_joint", "log_likelihood", "e_step"])
def test_values_and_gradients_agree(parity: Parity, name: str, dtype: str, mode: str) -> None:
    arguments = dict(zip(NAMES, problem(0, dtype), strict=True))
    if name == "component_log_probabilities":
        del arguments["weights"]
    kinds = "log gamma", "gradient that cancels"
    # a gradient of responsibilities needs unequal cotangents: their sum over coins is constant
    frameworks.check_function(parity, "coin_mixture", name, arguments, kinds, mode, by=NAMES[2:], weigh=unequal)


def unequal(shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.linspace(0.5, 1.5, K), shape) if len(shape) == 2 else np.ones(shape)


@pytest.mark.parametrize("fixed_weights", [False, True])
def test_steps_agree(parity: Parity, dtype: str, mode: str, fixed_weights: bool) -> None:
    arrays = problem(1, dtype)
    gamma = draws.uniforms(2, "sample", (N, K)).astype(dtype)
    gamma /= gamma.sum(axis=1, keepdims=True)

    def steps(module: ModuleType, heads: Any, tosses: Any, *rest: Any) -> tuple:
        *parameters, gamma = rest
        updated, total = module.em_iteration(heads, tosses, *parameters, fixed_weights)
        responsibilities = module.e_step(heads, tosses, *parameters)[1]
        return total, responsibilities, updated, module.m_step(heads, tosses, gamma)

    ours, theirs = (
        in_mode(m, lambda *t, m=m: steps(m, *t), mode)(*tensors(m, *arrays, gamma)) for m in pair("coin_mixture")
    )
    parity.check("em_iteration", "loss", ours[0], theirs[0], "log likelihood", mode)
    parity.check("e_step responsibilities", "output", ours[1], theirs[1], "", mode)
    for name, one, other in zip(("em_iteration", "m_step"), ours[2:], theirs[2:], strict=True):
        parity.check(name, "output", *(dict(zip(NAMES[2:], part, strict=True)) for part in (one, other)), mode=mode)


def test_em_for_100_iterations_agrees(parity: Parity, dtype: str) -> None:
    heads, tosses, *start = problem(2, dtype)

    def iterate(module: ModuleType, *parameters: Any) -> tuple:
        return module.em_iteration(*tensors(module, heads, tosses), *parameters)

    ends = frameworks.check_iterations(parity, "coin_mixture", iterate, start, 100, "function", names=NAMES[2:])
    gammas = [m.e_step(*tensors(m, heads, tosses), *p)[1] for m, p in zip(pair("coin_mixture"), ends, strict=True)]
    parity.check("EM responsibilities", "em responsibilities", *gammas, "", "function", 100)


@both_pages
def test_log_probabilities_are_scipys(module: ModuleType) -> None:
    heads, tosses, weights, biases = problem(3)
    biases = np.append(biases, [0.0, 1.0, 1e-9])
    expected = stats.binom(tosses[:, None], biases).logpmf(heads[:, None])
    ours = module.component_log_probabilities(*tensors(module, heads, tosses, biases))
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)
    biases = biases[:K]
    joint = np.exp(expected[:, :K]) * weights
    t = tensors(module, heads, tosses, weights, biases)
    np.testing.assert_allclose(module.log_joint(*t), np.log(joint), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(module.e_step(*t)[0], np.log(joint.sum(axis=1)), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(module.e_step(*t)[1], joint / joint.sum(axis=1, keepdims=True), rtol=1e-10)


@both_pages
@pytest.mark.parametrize(("n", "k"), [(6, 2), (5, 3), (1, 4), (4, 1)])
def test_the_likelihood_is_the_sum_over_all_assignments(module: ModuleType, n: int, k: int) -> None:
    """Each of the K^N ways to have picked the coins: its probability, and its share in each posterior."""
    heads, tosses, weights, biases = problem(4, n=n, k=k)
    total, shares = 0.0, np.zeros((n, k))
    for coins in itertools.product(range(k), repeat=n):
        picked = list(coins)
        probability = np.prod(weights[picked] * stats.binom.pmf(heads, tosses, biases[picked]))
        total += probability
        shares[np.arange(n), picked] += probability
    t = tensors(module, heads, tosses, weights, biases)
    assert float(module.log_likelihood(*t)) == pytest.approx(math.log(total), rel=1e-12)
    np.testing.assert_allclose(module.e_step(*t)[1], shares / total, rtol=1e-11)


@both_pages
def test_gradients_are_central_differences(module: ModuleType) -> None:
    arrays = problem(6)
    gradients = frameworks.differentiate(module, module.log_likelihood, arrays, by=(2, 3))[1]
    for index, k in itertools.product((2, 3), range(K)):
        values = []
        for h in (1e-6, -1e-6):
            moved = [a.copy() for a in arrays]
            moved[index][k] += h
            values.append(float(module.log_likelihood(*tensors(module, *moved))))
        assert float(gradients[index - 2][k]) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6, abs=1e-6)


def test_the_estimators_agree(parity: Parity) -> None:
    fits = [page.CoinMixture(biases_init=[0.6, 0.5], tol=1e-12).fit(*PAPER) for page in pair("estimators")]
    for name in ("weights_", "biases_"):
        parity.check(f"CoinMixture fitted {name}", "em parameters", *(getattr(fit, name) for fit in fits))


@both_pages
def test_the_papers_worked_example(module: ModuleType) -> None:
    t = tensors(module, PAPER[0], [10] * 5, [0.5, 0.5], [0.6, 0.5])
    first = np.asarray(module.e_step(*t)[1])
    np.testing.assert_array_equal(np.round(first[:, 0], 2), [0.45, 0.80, 0.73, 0.35, 0.65])
    ends = (1, [0.713012, 0.581339], [0.71, 0.58]), (10, [0.796744, 0.519659], [0.80, 0.52])
    for iterations, biases, printed in ends:
        coins = estimators(module).CoinMixture(fixed_weights=True, biases_init=[0.6, 0.5], tol=0, max_iter=iterations)
        with pytest.warns(ConvergenceWarning, match=f"EM stopped at max_iter={iterations} before"):
            coins.fit(*PAPER)
        np.testing.assert_allclose(coins.biases_, biases, atol=5e-7)
        np.testing.assert_array_equal(np.round(coins.biases_, 2), printed)
        np.testing.assert_array_equal(coins.weights_, 0.5)
    limit = estimators(module).CoinMixture(fixed_weights=True, biases_init=[0.6, 0.5], tol=1e-14).fit(*PAPER)
    np.testing.assert_allclose(limit.biases_, [0.796789, 0.519583], atol=5e-7)
    assert limit.converged_
    assert limit.predict(*PAPER).tolist() == [1, 0, 0, 1, 0]


@both_pages
def test_the_fixed_point_is_a_maximum(module: ModuleType) -> None:
    """Where EM ends, no other optimiser finds more nearby, over weights and biases without constraints."""
    heads, tosses, *_ = problem(7, n=200, k=2)
    coins = estimators(module).CoinMixture(tol=1e-13, max_iter=5000, biases_init=[0.2, 0.7]).fit(heads, tosses)

    def negative(free: np.ndarray) -> float:
        p = 1 / (1 + np.exp(-free))
        density = p[0] * stats.binom.pmf(heads, tosses, p[1]) + (1 - p[0]) * stats.binom.pmf(heads, tosses, p[2])
        return -np.log(density).sum()

    start = np.array([coins.weights_[0], *coins.biases_])
    found = optimize.minimize(negative, np.log(start / (1 - start)), method="BFGS", options={"gtol": 1e-7})
    assert coins.log_likelihood(heads, tosses) == pytest.approx(-found.fun, abs=1e-8)
    np.testing.assert_allclose(1 / (1 + np.exp(-found.x)), start, atol=1e-5)


@both_pages
def test_one_coin_or_coins_that_start_equal_are_maximum_likelihood(module: ModuleType) -> None:
    coins = estimators(module).CoinMixture(1).fit(*PAPER)
    assert coins.biases_[0] == pytest.approx(33 / 50, rel=1e-15)
    assert coins.n_iter_ <= 3
    equal = estimators(module).CoinMixture(2, biases_init=[0.3, 0.3]).fit(*PAPER)
    np.testing.assert_allclose(equal.biases_, 33 / 50, rtol=1e-14)


@both_pages
def test_a_bias_at_the_edge(module: ModuleType, mode: str) -> None:
    """Coins of bias 0 and 1: 0 log 0 is 0, each takes what only it can show, and EM finds such coins."""
    heads, tosses = [0, 10, 0, 10], [10, 10, 7, 10]
    t = tensors(module, heads, tosses, [0.5, 0.5], [0.0, 1.0])
    log_probability, gamma = in_mode(module, module.e_step, mode)(*t)
    np.testing.assert_allclose(log_probability, np.log(0.5), rtol=1e-14)
    np.testing.assert_array_equal(gamma, [[1, 0], [0, 1], [1, 0], [0, 1]])
    (weights, biases), _ = in_mode(module, module.em_iteration, mode)(*t)
    np.testing.assert_array_equal(biases, [0, 1])
    np.testing.assert_allclose(weights, 0.5)
    found = estimators(module).CoinMixture(2, biases_init=[0.4, 0.6]).fit(heads, tosses)
    np.testing.assert_allclose(found.biases_, [0, 1], atol=1e-12)
    assert found.log_likelihood(heads, tosses) == pytest.approx(4 * math.log(0.5), rel=1e-12)


@both_pages
def test_the_gradient_at_the_edge_is_finite_where_nothing_contradicts_it(module: ModuleType) -> None:
    arrays = [np.array(a, float) for a in ([0, 0], [10, 7], [0.5, 0.5], [0.0, 0.5])]
    (gradient,) = frameworks.differentiate(module, module.log_likelihood, arrays, by=(3,))[1]
    # d/d theta_k log p = sum_n gamma_nk (h / theta - (t - h) / (1 - theta))
    first = sum(-n / (1 + 0.5**n) for n in (10, 7))
    second = sum(-n / 0.5 * 0.5**n / (1 + 0.5**n) for n in (10, 7))
    np.testing.assert_allclose(np.asarray(gradient), [first, second], rtol=1e-13)


@both_pages
def test_an_empty_component(module: ModuleType, mode: str, dtype: str) -> None:
    gamma = np.array([[1, 0], [1, 0], [1, 0]])
    weights, biases = in_mode(module, module.m_step, mode)(
        *tensors(module, [3, 4, 5], [10, 10, 10], gamma, dtype=dtype)
    )
    np.testing.assert_allclose(biases, [0.4, 0.5], rtol=1e-6)
    assert 0 < float(weights[1]) < 1e-5
    # a coin that can make nothing of what was seen dies without taking the rest along
    coins = estimators(module).CoinMixture(2, biases_init=[0.0, 0.6]).fit(*PAPER)
    np.testing.assert_allclose(coins.biases_[1], 0.66, rtol=1e-12)
    assert 0 < coins.weights_[0] < 1e-14
    assert np.all(np.isfinite(coins.predict_proba(*PAPER)))


@both_pages
def test_seeds_and_dtypes(module: ModuleType) -> None:
    heads, tosses, *_ = problem(9)
    one, again, other = (estimators(module).CoinMixture(3, seed=s).fit(heads, tosses) for s in (0, 0, 1))
    np.testing.assert_array_equal(one.biases_, again.biases_)
    assert np.any(one.biases_ != other.biases_)
    assert np.all(np.diff(one.log_likelihoods_) > -1e-10)
    assert len(one.log_likelihoods_) == one.n_iter_
    single = estimators(module).CoinMixture(3, tol=1e-4).fit(heads.astype(np.float32), tosses.astype(np.float32))
    assert single.biases_.dtype == np.float32
    np.testing.assert_array_equal(single.predict_proba(heads, tosses).sum(axis=1).round(5), 1)
    for kind in (list, torch.tensor, tf.constant, lambda a: np.array(a, dtype=int)):
        assert estimators(module).CoinMixture(3).fit(kind(heads), kind(tosses)).biases_ == pytest.approx(one.biases_)
    start = dict(biases_init=[0.1, 0.2], weights_init=[0.3, 0.7])
    np.testing.assert_array_equal(
        estimators(module).CoinMixture(2, max_iter=0, **start).fit(*PAPER).biases_, [0.1, 0.2]
    )
    rounded = estimators(module).CoinMixture(2, max_iter=0, weights_init=[0.25, 0.75 + 4e-7]).fit(*PAPER)
    np.testing.assert_allclose(rounded.weights_, np.array([0.25, 0.75 + 4e-7]) / (1 + 4e-7), rtol=1e-15)


BAD = [
    (dict(), ([5, 11], 10), "heads has 11 at position 1, more than the 10 tosses: correct either"),
    (dict(), ([5, 2.5], 10), "heads has the entry 2.5 at position 1: give whole numbers of at least 0"),
    (dict(), ([5, np.nan], 10), "heads has the entry nan at position 1: give whole numbers of at least 0"),
    (dict(), ([5, 0], [10, 0]), "tosses has the entry 0 at position 1: give whole numbers of at least 1"),
    (dict(), ([5, 1], [10.5, 3]), "tosses has the entry 10.5 at position 0: give whole numbers of at least 1"),
    (dict(), ([5, 1], [10, 3, 2]),
     "tosses has shape (3,) where heads has (2,): give one number for each sequence, or one for all"),
    (dict(), ([[5, 1]], 10), "heads has shape (1, 2), not (N,): give one number of heads for each sequence"),
    (dict(), (["a", "b"], 10), "heads holds str32 values: give numbers"),
    (dict(n_components=3), ([5, 1], 10),
     "heads has 2 sequences, fewer than n_components=3: give more sequences or ask for fewer coins"),
    (dict(), (np.float32([2**24 + 2, 1]), np.float32([2**25, 3])),
     "heads has the entry 1.67772e+07 at position 0: give at most 16777216, up to which float32 counts"),
    (dict(n_components=1.5), ([5, 1], 10), "n_components=1.5 must be a whole number of at least 1"),
    (dict(max_iter=-1), ([5, 1], 10), "max_iter=-1 must be a whole number of at least 0"),
    (dict(tol=np.nan), ([5, 1], 10), "tol=nan must be a number of at least 0"),
    (dict(fixed_weights="yes"), ([5, 1], 10), "fixed_weights='yes' must be True or False"),
    (dict(weights_init=[0.5, 0.6]), ([5, 1], 10),
     "weights_init sums to 1.1: divide it by its sum so that it sums to 1"),
    (dict(weights_init=[1.5, -0.5]), ([5, 1], 10),
     "weights_init has the entry 1.5 at position 0: give numbers in [0, 1]"),
    (dict(weights_init=[1.0]), ([5, 1], 10), "weights_init has shape (1,): give n_components=2 numbers"),
    (dict(biases_init=[0.5, 1.2]), ([5, 1], 10), "biases_init has the entry 1.2 at position 1: give numbers in [0, 1]"),
    (dict(biases_init=[np.nan, 0.2]), ([5, 1], 10),
     "biases_init has the entry nan at position 0: give numbers in [0, 1]"),
    (dict(biases_init=[0.5, 0.2, 0.1]), ([5, 1], 10), "biases_init has shape (3,): give n_components=2 numbers"),
    (dict(biases_init=[0.0, 1.0]), ([0, 5], 10),
     "biases_init=[0.0, 1.0]: no coin can show 5 heads in 10 tosses (position 1); start from biases inside (0, 1)"),
]  # fmt: skip


@both_pages
@pytest.mark.parametrize(("options", "data", "message"), BAD)
def test_bad_input(module: ModuleType, options: dict, data: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        estimators(module).CoinMixture(**options).fit(*data)
    assert str(error.value) == message


@both_pages
def test_bad_input_after_the_fit(module: ModuleType) -> None:
    with pytest.raises(ValueError, match="not fitted"):
        estimators(module).CoinMixture().predict(*PAPER)
    coins = estimators(module).CoinMixture(2, biases_init=[0.4, 0.6]).fit([0, 10], 10)
    coins.biases_ = np.array([0.0, 1.0])
    message = r"^heads, tosses: no fitted coin \(biases \[0.0, 1.0\]\) can have made .* 1; leave"
    with pytest.raises(ValueError, match=message):
        coins.predict([0, 5], 10)
    assert coins.log_likelihood([0, 5], 10) == -math.inf
    with pytest.raises(ValueError, match=r"^heads has 12 at position 0, more than the 10 tosses"):
        coins.predict_proba([12], 10)
