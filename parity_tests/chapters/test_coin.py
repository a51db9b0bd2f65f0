"""The coin: the frameworks agree with each other, SciPy, quadrature, fractions and central differences."""

import itertools
import math
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch
from scipy import integrate, optimize, stats

import pytorch_impl.estimators as torch_estimators
from common import draws
from common.mixtures.beta_tails import beta_credible_interval, beta_log_upper_tail
from parity_tests.conftest import Parity
from parity_tests.support.frameworks import both, check_function, differentiate, estimators, in_mode, pair, tensors

both_coins = both("coin")
TOSSES = (draws.uniforms(0, "sample", (60,)) < 0.3).astype(float)
ARGUMENTS = {
    "tosses": TOSSES,
    "heads": np.array(17.0),
    "tails": np.array(43.0),
    "theta": np.array([0.02, 0.28, 0.5, 0.75, 0.97]),
    "a": np.array(2.5),
    "b": np.array(0.7),
}
# name: arguments, kind of the value, kind of the gradient if there is one
FUNCTIONS = {
    "sequence_log_probability": (("heads", "tails", "theta"), "loss", "gradient"),
    "sufficient_statistics": (("tosses",), "loss", None),
    "log_likelihood": (("tosses", "theta"), "loss", "gradient"),
    "maximum_likelihood": (("heads", "tails"), "elementwise", "gradient"),
    "log_beta": (("a", "b"), "log gamma", "log gamma"),
    "beta_log_density": (("theta", "a", "b"), "log gamma", "log gamma"),
    "posterior": (("heads", "tails", "a", "b"), "elementwise", "gradient"),
    "maximum_a_posteriori": (("heads", "tails", "a", "b"), "elementwise", "gradient"),
    "predictive": (("heads", "tails", "a", "b"), "elementwise", "gradient"),
    "predictive_log_probability": (("heads", "tails", "a", "b"), "log gamma", "log gamma"),
    "log_evidence": (("heads", "tails", "a", "b"), "log gamma", "log gamma"),
    "log_evidence_by_prediction": (("tosses", "a", "b"), "loss", "gradient"),
}


def exact_log(p: Fraction) -> float:
    """log p to machine precision, however many digits the fraction has."""
    exponent = p.numerator.bit_length() - p.denominator.bit_length()
    return math.log(p / Fraction(2) ** exponent) + exponent * math.log(2)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients_agree(parity: Parity, name: str, dtype: str, mode: str) -> None:
    names, *kinds = FUNCTIONS[name]
    arguments = {argument: ARGUMENTS[argument].astype(dtype) for argument in names}
    check_function(parity, "coin", name, arguments, kinds, mode, by=set(names) - {"tosses"})


def slopes(module: ModuleType, name: str, *values: Any) -> list[np.ndarray]:
    """The gradients of a function's sum, in float64."""
    gradients = differentiate(module, getattr(module, name), [np.asarray(v, float) for v in values])[1]
    return [np.asarray(gradient) for gradient in gradients]


@both_coins
def test_log_probabilities_are_scipys(module: ModuleType) -> None:
    theta = np.array([0.0, 1e-12, 0.2, 0.5, 0.999, 1.0])
    for tosses in (TOSSES, np.ones(4), np.zeros(4), np.zeros(0)):
        expected = stats.bernoulli(theta[:, None]).logpmf(tosses).sum(axis=1)
        np.testing.assert_allclose(module.log_likelihood(*tensors(module, tosses, theta)), expected, rtol=1e-12)
    for a, b in itertools.product((0.3, 1.0, 2.0, 80.0), repeat=2):
        expected = stats.beta(a, b).logpdf(theta)
        np.testing.assert_allclose(module.beta_log_density(*tensors(module, theta, a, b)), expected, 1e-12, 1e-12)
        for heads, tails in ((0, 0), (3, 0), (0, 5), (40, 61)):
            expected = stats.betabinom(heads + tails, a, b).logpmf(heads)
            ours = float(module.predictive_log_probability(*tensors(module, heads, tails, a, b)))
            assert ours == pytest.approx(expected, abs=1e-12)


@both_coins
def test_gradients_are_central_differences(module: ModuleType) -> None:
    for name in ("sequence_log_probability", "beta_log_density", "maximum_a_posteriori", "predictive",
                 "predictive_log_probability", "log_evidence", "log_evidence_by_prediction", "log_beta"):  # fmt: skip
        names = FUNCTIONS[name][0]
        for a, b in ((2.5, 0.7), (1.0, 3.0), (3.0, 1.0)):  # at 1 a count of the Beta density is 0, not its gradient
            changed = {"theta": 0.28, "a": a, "b": b}
            values = [np.array(changed.get(n, ARGUMENTS[n])) for n in names]
            gradients = slopes(module, name, *values)
            for i, argument in enumerate(names):
                if argument == "tosses":
                    continue
                h = 1e-6 * max(1.0, float(values[i]))
                moved = [[v + s * (j == i) for j, v in enumerate(values)] for s in (h, -h)]
                up, down = (float(getattr(module, name)(*tensors(module, *m))) for m in moved)
                assert float(gradients[i]) == pytest.approx((up - down) / (2 * h), rel=1e-7, abs=1e-7), (name, argument)


@both_coins
def test_zero_log_zero_is_zero_and_has_a_finite_gradient(module: ModuleType, mode: str) -> None:
    heads, tails, theta = [0.0, 3.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0]
    gradients = slopes(module, "sequence_log_probability", heads, tails, theta)
    # d/d theta of t log(1 - theta) at 0 is -t, of h log theta at 1 is h
    np.testing.assert_array_equal(gradients[2], [-2.0, 3.0, 0.0, 0.0])
    assert np.all(np.isfinite(gradients))
    function = in_mode(module, module.sequence_log_probability, mode)
    np.testing.assert_array_equal(function(*tensors(module, heads, tails, theta)), 0.0)
    assert float(function(*tensors(module, [1.0], [0.0], [0.0]))[0]) == -np.inf
    assert float(function(*tensors(module, [0.0], [1.0], [1.0]))[0]) == -np.inf


@both_coins
def test_estimates_are_the_maxima(module: ModuleType) -> None:
    heads, tails = 17, 43
    for estimate, a, b in ((module.maximum_likelihood, 1.0, 1.0), (module.maximum_a_posteriori, 4.0, 9.0)):
        prior = () if estimate is module.maximum_likelihood else (a, b)
        found = float(estimate(*tensors(module, heads, tails, *prior)))
        peak = optimize.minimize_scalar(
            lambda theta: -stats.binom.logpmf(heads, heads + tails, theta) - stats.beta.logpdf(theta, a, b),  # noqa: B023
            bounds=(0, 1),
            method="bounded",
            options={"xatol": 1e-12},
        )
        assert found == pytest.approx(peak.x, abs=1e-7)
        slope = slopes(module, "beta_log_density", found, a + heads, b + tails)[0]
        assert abs(slope) < 1e-11 * (heads + tails)


@both_coins
def test_the_mode_at_the_edges(module: ModuleType, mode: str, dtype: str) -> None:
    cases = [
        (0, 0, 1, 1, np.nan), (0, 0, 0.5, 0.5, np.nan), (0, 0, 0.2, 0.9, np.nan), (0, 0, 0.5, 1, 0), (0, 0, 1, 0.5, 1),
        (0, 0, 0.5, 2, 0), (0, 0, 2, 0.5, 1), (0, 0, 1, 2, 0), (0, 0, 3, 1, 1), (0, 3, 1, 1, 0), (4, 0, 1, 1, 1),
        (2, 1, 1, 1, 2 / 3), (0, 1, 2, 1, 0.5), (1, 0, 0.5, 0.5, 1), (5, 2, 0.5, 0.5, 0.75), (0, 0, 3, 2, 2 / 3),
    ]  # fmt: skip
    columns = tensors(module, *np.array(cases, dtype=float).T[:4], dtype=dtype)
    found = in_mode(module, module.maximum_a_posteriori, mode)(*columns)
    np.testing.assert_allclose(found, [case[4] for case in cases], rtol=1e-6 if dtype == "float32" else 1e-15)
    if dtype == "float64":
        assert np.all(np.isfinite(slopes(module, "maximum_a_posteriori", *map(np.asarray, columns))))
    # each finite one against the density itself, on a grid that gets close to the edges
    grid = np.concatenate([np.logspace(-9, -2, 50), np.linspace(0.01, 0.99, 981), 1 - np.logspace(-2, -9, 50)])
    for heads, tails, a, b, expected in cases:
        highest = grid[np.argmax(stats.beta(a + heads, b + tails).logpdf(grid))]
        assert np.isnan(expected) or highest == pytest.approx(expected, abs=2e-3)


@both_coins
@pytest.mark.parametrize("case", [(3, 0, 1, 1), (0, 0, 2, 5), (17, 43, 2.5, 0.7), (0, 2, 0.5, 0.5)])
def test_the_posterior_is_bayes_rule_by_quadrature(module: ModuleType, case: tuple) -> None:
    heads, tails, a, b = case

    def joint(theta: float) -> float:
        return theta**heads * (1 - theta) ** tails * stats.beta.pdf(theta, a, b)

    # the substitution theta = sin²(u) takes the singularities of a, b < 1 away
    def integral(f: Any) -> float:
        ends = 1e-12, math.pi / 2 - 1e-12
        return integrate.quad(
            lambda u: f(math.sin(u) ** 2) * math.sin(2 * u), *ends, epsabs=0, epsrel=1e-12, limit=400
        )[0]

    evidence, mean = integral(joint), integral(lambda theta: theta * joint(theta))
    arguments = tensors(module, heads, tails, a, b)
    assert float(module.predictive(*arguments)) == pytest.approx(mean / evidence, rel=1e-9)
    assert float(module.predictive(*arguments)) == pytest.approx((heads + a) / (heads + tails + a + b), rel=1e-15)
    assert float(module.log_evidence(*arguments)) == pytest.approx(math.log(evidence), abs=1e-9)
    alpha, beta = module.posterior(*arguments)
    for theta in (0.1, 0.5, 0.8):
        density = math.exp(float(module.beta_log_density(*tensors(module, theta), alpha, beta)))
        assert density == pytest.approx(joint(theta) / evidence, rel=1e-9)


@both_coins
def test_the_evidence_is_the_product_of_the_predictions(module: ModuleType) -> None:
    a, b = tensors(module, 2.5, 0.7)
    (tosses,) = tensors(module, TOSSES)
    total, heads, tails = 0.0, 0.0, 0.0
    for toss in TOSSES:
        p = float(module.predictive(*tensors(module, heads, tails), a, b))
        total += math.log(p if toss else 1 - p)
        heads, tails = heads + toss, tails + 1 - toss
    assert float(module.log_evidence_by_prediction(tosses, a, b)) == pytest.approx(total, rel=1e-13)
    assert float(module.log_evidence(*module.sufficient_statistics(tosses), a, b)) == pytest.approx(total, rel=1e-13)


@both_coins
@pytest.mark.parametrize(("a", "b"), [(10**10, 10**10), (10**12, 1), (1, 1), (3, 10**6)])
def test_the_evidence_keeps_its_digits_under_a_strong_prior(module: ModuleType, a: int, b: int) -> None:
    tosses = [1, 1, 0, 1, 1, 0, 1]
    exact, heads, tails = Fraction(1), 0, 0
    for toss in tosses:
        exact *= Fraction(a + heads if toss else b + tails, a + b + heads + tails)
        heads, tails = heads + toss, tails + 1 - toss
    expected = exact_log(exact)
    ours = float(module.log_evidence_by_prediction(*tensors(module, tosses, a, b)))
    assert ours == pytest.approx(expected, rel=1e-12)
    # log(1 - 1e-12) twice: 1 - p has lost 4 digits, this has not
    ones = float(module.log_evidence_by_prediction(*tensors(module, [1, 1], 10**12, 1)))
    assert ones == pytest.approx(-2e-12, rel=1e-11, abs=0)


@both_coins
@pytest.mark.parametrize("seed", range(3))
def test_in_portions_is_at_once(module: ModuleType, seed: int) -> None:
    cuts = np.sort((draws.uniforms(seed, "split", (4,)) * 61).astype(int))
    prior = estimators(module).BetaBernoulli(2.5, 0.7)
    at_once, in_portions, evidence = prior.update(TOSSES), prior, 0.0
    for portion in np.split(TOSSES, cuts):
        evidence += in_portions.log_evidence(portion)
        in_portions = in_portions.update(portion)
    assert in_portions.posterior == at_once.posterior
    for answer in ("mle", "map", "predictive", "credible_interval"):
        assert getattr(in_portions, answer)() == getattr(at_once, answer)()
    assert evidence == pytest.approx(prior.log_evidence(TOSSES), rel=1e-13)


def test_the_answers_of_both_agree(parity: Parity) -> None:
    ours, theirs = (page.BetaBernoulli(2.5, 0.7).update(TOSSES) for page in pair("estimators"))
    for answer in ("mle", "map", "predictive", "credible_interval"):
        parity.check(f"BetaBernoulli {answer}", "output", getattr(ours, answer)(), getattr(theirs, answer)())


@both_coins
def test_densities_and_predictions_are_scipys(module: ModuleType) -> None:
    coin = estimators(module).BetaBernoulli(2.5, 0.7).update(TOSSES)
    assert coin.log_density(0.3) == pytest.approx(stats.beta(*coin.posterior).logpdf(0.3), rel=1e-12)
    to_come = stats.betabinom(8, *coin.posterior)
    assert coin.predictive_log_probability(3, 5) == pytest.approx(to_come.logpmf(3), rel=1e-10)


@both_coins
def test_three_answers_differ_after_few_tosses_and_agree_after_many(module: ModuleType) -> None:
    few = estimators(module).BetaBernoulli(2, 2).update([1, 1, 1])
    assert (few.mle(), few.map(), few.predictive()) == (1.0, pytest.approx(4 / 5), pytest.approx(5 / 7))
    apart = []
    for n in (10, 1_000, 100_000):
        many = estimators(module).BetaBernoulli(2, 2).update((draws.uniforms(1, "sample", (n,)) < 0.3).astype(int))
        low, high = many.credible_interval()
        assert low < many.map() < high
        apart.append(max(abs(many.mle() - many.map()), abs(many.mle() - many.predictive())))
    assert apart[0] > 20 * apart[1] > 400 * apart[2] > 0
    assert apart[2] < 2e-5
    assert many.credible_interval()[1] - many.credible_interval()[0] < 0.006


@both_coins
@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, tf.constant, lambda t: np.array(t, dtype=bool)])
def test_tosses_of_any_kind(module: ModuleType, kind: Any) -> None:
    new = estimators(module).BetaBernoulli()
    coin = new.update(kind([1, 0, 1, 1]))
    assert (coin.heads, coin.tails, coin.posterior) == (3, 1, (4.0, 2.0))
    assert new.log_likelihood(kind([1, 0, 1, 1]), 0.25) == pytest.approx(math.log(0.25**3 * 0.75))
    assert new.update([]).posterior == (1.0, 1.0)
    assert repr(coin) == "BetaBernoulli(a=1, b=1) after 3 heads and 1 tails"


def exact_log_upper_tail(a: int, b: int, threshold: float) -> float:
    """log P(theta > c) under Beta(a, b), a and b whole, exactly: at most a - 1 heads in a + b - 1 tosses."""
    n, c = a + b - 1, Fraction(threshold)
    tail = sum(math.comb(n, j) * c**j * (1 - c) ** (n - j) for j in range(a))
    return exact_log(tail)


@pytest.mark.parametrize(
    ("a", "b", "threshold"),
    [(1, 1, 0.25), (4, 4, 0.9), (2, 60, 0.5), (1, 100, 0.5), (30, 200, 0.6), (3, 200, 0.9), (3, 400, 0.9),
     (1, 2000, 0.5), (5, 700, 0.4), (40, 60, 0.999), (20, 30, 0.4)],
)  # fmt: skip
def test_tails_are_the_exact_binomial_sums(a: int, b: int, threshold: float) -> None:
    expected = exact_log_upper_tail(a, b, threshold)
    assert beta_log_upper_tail(a, b, threshold) == pytest.approx(expected, rel=2e-15, abs=0)
    coin = torch_estimators.BetaBernoulli(a, b)
    assert coin.log_tail_probability(threshold) == beta_log_upper_tail(a, b, threshold)
    if expected > -700:
        assert coin.tail_probability(threshold) == pytest.approx(math.exp(expected), rel=2e-13, abs=0)


def test_a_tail_close_to_one_keeps_its_digits() -> None:
    # P(theta > 1/8) under Beta(60, 1) = 1 - 8^-60, of which a float keeps nothing but the logarithm
    assert beta_log_upper_tail(60, 1, 0.125) == pytest.approx(-(0.125**60), rel=1e-13, abs=0)
    assert beta_log_upper_tail(2, 3, 0.0) == 0.0
    assert beta_log_upper_tail(2, 3, 1.0) == -math.inf


@pytest.mark.parametrize(("a", "b"), [(1, 1), (3, 9), (50, 2), (40, 70)])
@pytest.mark.parametrize("level", [0.5, 0.95, 1 - 2.0**-40])
def test_the_interval_leaves_equal_tails(a: int, b: int, level: float) -> None:
    low, high = beta_credible_interval(a, b, level)
    outside = math.log(0.5 * (1 - level))
    assert exact_log_upper_tail(a, b, high) == pytest.approx(outside, rel=1e-10)
    # the lower tail of theta is the upper tail of 1 - theta, but 1 - low rounds: hence fractions of low
    n, c = a + b - 1, Fraction(low)
    tail = sum(math.comb(n, j) * c**j * (1 - c) ** (n - j) for j in range(a, n + 1))
    assert exact_log(tail) == pytest.approx(outside, rel=1e-10)


def test_an_interval_of_all_but_certainty_keeps_its_digits() -> None:
    level = 1 - 3 * 2.0**-53  # half of what it leaves out is lost in 1 - outside
    _, high = beta_credible_interval(3, 9, level)
    assert exact_log_upper_tail(3, 9, high) == pytest.approx(math.log(3 * 2.0**-54), rel=1e-12)


POSITIVE, SEQUENCE = "give a positive, finite number", "give one sequence of zeros and ones"
NO_PARAMETER, ZERO_OR_ONE = f"is no parameter of a Beta density: {POSITIVE}", "give 1 for heads, 0 for tails"
NO_PROBABILITY = "is no probability: give a number in [0, 1]"
NO_TOSS = "mle: no toss was seen (heads=0, tails=0); update(tosses) first, or ask for predictive()"
NO_MODE = "and has no mode to prefer; update(tosses) first, or use a prior with a > 1 and b > 1"
BAD = {
    "BetaBernoulli(0, 1)": f"a=0 {NO_PARAMETER}",
    "BetaBernoulli(inf, 1)": f"a=inf {NO_PARAMETER}",
    "BetaBernoulli('x', 1)": "a='x' is not a number: give one number",
    "BetaBernoulli().update([0, 2])": f"tosses has the entry 2 at position 1: {ZERO_OR_ONE}",
    "BetaBernoulli().update([[1, 0]])": f"tosses has shape (1, 2), not (N,): {SEQUENCE}",
    "BetaBernoulli().update(['H'])": "tosses holds str32 values: give numbers",
    "BetaBernoulli().update([[1], [1, 0]])": "tosses is a list of lists of different lengths: "
    "give one sequence of numbers",
    "BetaBernoulli().log_likelihood([1], 1.5)": f"theta=1.5 {NO_PROBABILITY}",
    "BetaBernoulli().log_density(-0.1)": f"theta=-0.1 {NO_PROBABILITY}",
    "BetaBernoulli().tail_probability(2)": f"threshold=2 {NO_PROBABILITY}",
    "BetaBernoulli().credible_interval(1)": "level=1 must lie strictly between 0 and 1: give 0.95 for 95 %",
    "BetaBernoulli().predictive_log_probability(1.5, 2)": "new_heads=1.5 must be a whole number of at least 0",
    "BetaBernoulli().mle()": NO_TOSS,
    "BetaBernoulli().map()": f"map: the posterior Beta(1, 1) is flat {NO_MODE}",
    "BetaBernoulli(0.5, 0.5).map()": f"map: the posterior Beta(0.5, 0.5) has a peak at either edge {NO_MODE}",
    "BetaBernoulli(0.5, 0.2).map()": f"map: the posterior Beta(0.5, 0.2) has a peak at either edge {NO_MODE}",
}


@both_coins
@pytest.mark.parametrize(("call", "message"), BAD.items())
def test_bad_input(module: ModuleType, call: str, message: str) -> None:
    names = {"BetaBernoulli": estimators(module).BetaBernoulli, "nan": math.nan, "inf": math.inf}
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        eval(call, names)
    assert str(error.value) == message


@both_coins
def test_no_tosses_and_the_maximum_likelihood_is_nan(module: ModuleType) -> None:
    assert np.isnan(float(module.maximum_likelihood(*tensors(module, 0, 0))))
