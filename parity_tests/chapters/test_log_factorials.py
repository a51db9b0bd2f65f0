"""Log factorials and their differences: the frameworks agree, and keep their digits, as mpmath shows."""

import itertools
from functools import partial

import mpmath
import numpy as np
import pytest
from scipy import stats

from common.mixtures.beta_tails import beta_credible_interval, beta_log_upper_tail
from parity_tests.conftest import Parity
from parity_tests.support.frameworks import check_function, pair, tensors

both = pytest.mark.parametrize("framework", [0, 1], ids=["torch", "tf2"])
COUNTS = np.array([0.0, 0.3, 1.0, 15.999, 16.0, 200.0, 1e6, 3e15])
NEAR = np.array([0.2, 0.3, 1.3, 15.0, 16.0 + 1e-9, 191.0, 1e6 + 3, 3e15 + 1e8])
ARGUMENTS = {
    "deviance": (COUNTS, NEAR),
    "stirling_correction": (COUNTS,),
    "log_gamma_ratio": (NEAR, np.array([0.5, 3.0, 1e-3, 40.0, 2.0, 1.0, 1e4, 1e15])),
    "digamma_correction": (NEAR,),
    "log_probability_by_odds": (COUNTS, NEAR, NEAR, COUNTS + 1),
    "binomial_log_probability": (COUNTS, NEAR, COUNTS + 1, NEAR),
    "log_beta_rest": (NEAR, COUNTS + 1),
}


def numbers(framework: int, page: str, name: str, *values: float) -> float:
    """A function of either framework, of numbers in double precision."""
    module = pair(page)[framework]
    return float(getattr(module, name)(*tensors(module, *values)))


def log_beta(a: float, b: float) -> mpmath.mpf:
    return mpmath.loggamma(a) + mpmath.loggamma(b) - mpmath.loggamma(mpmath.mpf(a) + b)


@pytest.fixture(autouse=True)
def _many_digits() -> None:
    with mpmath.workdps(80):
        yield


@pytest.mark.parametrize("name", ARGUMENTS)
def test_values_and_gradients_agree(parity: Parity, name: str, dtype: str, mode: str) -> None:
    arguments = {
        str(i): a.astype(dtype)[1:] for i, a in enumerate(ARGUMENTS[name])
    }  # at a count of 0 the slope is infinite
    of_gradient = None if name == "digamma_correction" else "log gamma"  # of the former nothing takes the slope
    check_function(parity, "log_factorials", name, arguments, ("log gamma", of_gradient), mode)


@both
def test_each_is_what_its_definition_says(framework: int) -> None:
    page = partial(numbers, framework, "log_factorials")
    for x in (0.0, 1e-9, 0.5, 1.0, 7.3, 15.99, 16.0, 40.0, 1e5, 1e12, 1e20):
        m = mpmath.mpf(x)
        exact = mpmath.loggamma(m + 1) - (m * mpmath.log(m) if x else 0) + m
        assert page("stirling_correction", x) == pytest.approx(float(exact), rel=1e-15, abs=0 if x >= 16 else 1e-14)
        if x:
            exact = mpmath.digamma(m) - mpmath.log(m)
            assert page("digamma_correction", x) == pytest.approx(float(exact), rel=5e-14, abs=0)
    for x, d in itertools.product((1e-3, 2.0, 1e6, 1e15), (-0.5, -0.1001, -0.0999, -1e-7, 0.0, 1e-12, 1e-3, 0.11, 2.0)):
        mu = x + d * x
        exact = mpmath.mpf(x) * mpmath.log(mpmath.mpf(x) / mu) + mpmath.mpf(mu) - x
        assert page("deviance", x, mu) == pytest.approx(float(exact), rel=1e-14 if abs(d) < 0.1 else 1e-12, abs=0)
    assert page("deviance", 0, 3) == 3
    assert page("deviance", 3, 0) == np.inf
    for x, more in itertools.product((1e-6, 0.5, 3.0, 1e4, 1e12, 1e20), (0.5, 1.0, 2.0, 30.0)):
        exact = mpmath.loggamma(mpmath.mpf(x) + more) - mpmath.loggamma(x)
        assert page("log_gamma_ratio", x, more) == pytest.approx(float(exact), rel=1e-14, abs=1e-14)


SOME, ALL = (1e2, 1e10, 1e20), (0.5, 1.0, 2.7, 1e2, 1e3, 1e4, 1e6, 1e8, 1e10, 1e12, 1e15, 1e18, 1e20)


def check_the_coin(framework: int, sizes: tuple[float, ...]) -> None:
    """Beta functions, densities, evidence and predictions: right to 1e-12 of themselves, or of one nat."""
    for a, b in itertools.product(sizes, repeat=2):
        exact = log_beta(a, b)
        assert numbers(framework, "coin", "log_beta", a, b) == pytest.approx(float(exact), rel=1e-13, abs=1e-13)
        p, sd = a / (a + b), (a * b / (a + b) ** 3) ** 0.5
        for z in (-30.0, -1.0, 0.0, 20.0):
            if not 0 < (theta := p + z * sd) < 1:
                continue
            t = mpmath.mpf(theta)
            exact = (mpmath.mpf(a) - 1) * mpmath.log(t) + (mpmath.mpf(b) - 1) * mpmath.log1p(-t) - log_beta(a, b)
            # theta itself is known to half a unit in its last place: what that moves is beyond any formula
            unit = abs((a / t - b / (1 - t)) * np.spacing(max(theta, 1 - theta) if theta > 0.5 else theta))
            ours = numbers(framework, "coin", "beta_log_density", theta, a, b)
            assert ours == pytest.approx(float(exact), rel=1e-12, abs=1e-13 + 4 * float(unit))
        for heads, tails in ((0, 0), (3, 0), (1_000, 2_000), (10**12, 3 * 10**12)):
            evidence = log_beta(mpmath.mpf(a) + heads, mpmath.mpf(b) + tails) - log_beta(a, b)
            orders = -log_beta(heads + 1, tails + 1) - mpmath.log(heads + tails + 1)
            for name, exact in (("log_evidence", evidence), ("predictive_log_probability", evidence + orders)):
                ours = numbers(framework, "coin", name, heads, tails, a, b)
                assert ours == pytest.approx(float(exact), rel=1e-12, abs=1e-12), (name, heads, tails, a, b)


@both
def test_the_coin_keeps_its_digits(framework: int) -> None:
    check_the_coin(framework, SOME)


@both
@pytest.mark.long
def test_the_coin_keeps_its_digits_in_the_long_run(framework: int) -> None:
    check_the_coin(framework, ALL)


@both
def test_coins_of_many_tosses_keep_their_digits(framework: int) -> None:
    """The binomial probability is SciPy's for few tosses, and of 50 digits for 1e15."""
    module = pair("coin_mixture")[framework]
    few, tosses, biases = np.array([0.0, 3.0, 10.0]), np.array([10.0, 10.0, 10.0]), np.array([0.0, 0.3, 1.0])
    ours = np.asarray(module.component_log_probabilities(*tensors(module, few, tosses, biases)))
    np.testing.assert_allclose(ours, stats.binom.logpmf(few[:, None], 10, biases), rtol=1e-13, atol=1e-14)
    heads, tails, theta = 3.0e14, 7.0e14, 0.3 + 1e-8
    exact = -log_beta(heads + 1, tails + 1) - mpmath.log(heads + tails + 1)
    exact += heads * mpmath.log(theta) + tails * mpmath.log1p(-mpmath.mpf(theta))
    ours = np.asarray(module.component_log_probabilities(*tensors(module, [heads], [heads + tails], [theta])))[0, 0]
    assert ours == pytest.approx(float(exact), abs=1e-7)  # a unit in theta's last place is worth as much


def exact_log_tail(a: float, b: float, threshold: float) -> mpmath.mpf:
    """log P(theta > threshold), threshold well above the mean: the density, integrated until exp(-160)."""
    a, b, x = map(mpmath.mpf, (a, b, threshold))
    width = 1 / ((a - 1) / x - (b - 1) / (1 - x))

    def log_density(u: mpmath.mpf) -> mpmath.mpf:
        return (a - 1) * mpmath.log(u) + (b - 1) * mpmath.log(1 - u)

    ends = [min(x - width * k, 1) for k in (0, 5, 10, 20, 40, 80, 160)]
    integral = mpmath.quad(lambda u: mpmath.exp(log_density(u) - log_density(x)), sorted(set(ends)))
    return log_density(x) + mpmath.log(integral) - log_beta(a, b)


def check_the_tails(sizes: tuple[float, ...], deviations: tuple[float, ...]) -> None:
    for a, b in itertools.product(sizes, repeat=2):
        p, sd = a / (a + b), (a * b / (a + b) ** 3) ** 0.5
        for z in deviations:
            above, below = p + z * sd, p - z * sd
            if p < above < 1:
                ours = beta_log_upper_tail(a, b, above)
                assert ours == pytest.approx(float(exact_log_tail(a, b, above)), rel=1e-12, abs=0), (a, b, z)
            if 0 < below < p:  # P(theta < x) is the upper tail of 1 - theta, whose threshold no float is
                with mpmath.workdps(80):
                    lower = mpmath.exp(exact_log_tail(b, a, 1 - mpmath.mpf(below)))
                ours = beta_log_upper_tail(a, b, below)
                assert ours == pytest.approx(float(mpmath.log1p(-lower)), rel=1e-11, abs=1e-306), (a, b, -z)
        steps = np.unique(p + np.linspace(-60, 60, 121) * sd)
        tails = [beta_log_upper_tail(a, b, x) for x in steps[(steps > 0) & (steps < 1)]]
        assert np.all(np.diff(tails) <= 0), (a, b)


def test_far_tails_keep_their_digits_and_fall() -> None:
    assert beta_log_upper_tail(1e10, 1e10, 0.5 + 36.5 * (0.125e-10) ** 0.5) == pytest.approx(-670.6420222, abs=1e-7)
    check_the_tails((1e2, 1e20), (20.0, 60.0))
    check_the_tails((1e4,), (12.0,))  # where log(1 + d) - d is still taken by its series
    # where the probability is subnormal, or none; to a log's own last digits: the fraction has converged
    for a, b, x in ((300.25, 800.5, 0.8054), (999.5, 900.3, 0.8821), (999.5, 900.3, 0.95), (0.3, 998.0, 0.5137)):
        assert beta_log_upper_tail(a, b, x) == pytest.approx(float(exact_log_tail(a, b, x)), rel=0, abs=1e-12)


@pytest.mark.long
def test_far_tails_keep_their_digits_in_the_long_run() -> None:
    check_the_tails((1e2, 1e3, 1e6, 1e12, 1e20), (5.0, 20.0, 36.5, 60.0))


def test_intervals_that_scipy_does_not_find() -> None:
    assert beta_credible_interval(1e150, 6e15, 0.95) == (1.0, 1.0)
    assert beta_credible_interval(1e150, 1e150, 0.95) == (0.5, 0.5)


@pytest.mark.parametrize(("a", "b"), [(1e4, 3e4), (1e10, 1e10), (1e20, 1e15), (1e20, 1e20)])
@pytest.mark.parametrize("level", [0.5, 0.95, 1 - 2.0**-40])
def test_intervals_of_large_counts_leave_equal_tails(a: float, b: float, level: float) -> None:
    low, high = beta_credible_interval(a, b, level)
    outside, sd = np.log(0.5 * (1 - level)), (a * b / (a + b) ** 3) ** 0.5
    for tail, end in ((beta_log_upper_tail(a, b, high), high), (beta_log_upper_tail(b, a, 1 - low), low)):
        # the slope of a log tail is at most 1 + |z| per standard deviation, and the end is a rounded number
        assert tail == pytest.approx(outside, abs=1e-12 + 10 * np.spacing(end) / sd)
    with mpmath.workdps(80):
        assert outside == pytest.approx(float(mpmath.log(0.5 * (1 - level))))
        assert float(exact_log_tail(a, b, high)) == pytest.approx(outside, abs=1e-9 + 10 * np.spacing(end) / sd)


@both
@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_a_student_is_gaussian_in_the_end(framework: int, kind: str) -> None:
    """Of 1 to 1e20 degrees of freedom: mpmath's formula at each, the Gaussian's log density at the last."""
    module = pair("conjugate")[framework]
    x, mean, variance = np.array([[0.7, -1.3]]), np.zeros((1, 2)), {"full": np.eye(2)[None], "diag": np.ones((1, 2))}
    shape = variance.get(kind, np.ones(1))
    for eta in (1.0, 31.9, 32.0, 1e3, 1e8, 1e12, 1e15, 1e20):
        ours = np.asarray(module.student_log_densities(*tensors(module, x, mean, shape, [eta]), kind))[0, 0]
        n, exact = mpmath.mpf(eta), mpmath.mpf(0)
        for part in x[0][:, None] if kind == "diag" else x:
            d, squares = len(part), mpmath.fsum(mpmath.mpf(v) ** 2 for v in part)
            exact += (
                mpmath.loggamma((n + d) / 2) - mpmath.loggamma(n / 2) - mpmath.mpf(d) / 2 * mpmath.log(n * mpmath.pi)
            )
            exact -= (n + d) / 2 * mpmath.log1p(squares / n)
        assert ours == pytest.approx(float(exact), rel=1e-14), eta
    assert ours == pytest.approx(stats.norm.logpdf(x).sum(), rel=1e-14)


@both
def test_beliefs_of_large_counts_keep_their_digits(framework: int) -> None:
    """Two Dirichlets' divergence from mpmath, and a Wishart's gap, where log Gammas leave nothing."""
    module = pair("conjugate")[framework]
    for size in (1.0, 1e6, 1e12):
        q, p = np.array([2.0, 0.7, 5.0]) * size, np.array([2.1, 0.7, 4.9]) * size
        for of in (p, q + 3.0, q):
            total, exact = mpmath.fsum(q), mpmath.loggamma(mpmath.fsum(of)) - mpmath.fsum(map(mpmath.loggamma, of))
            of_each = [mpmath.digamma(a) - mpmath.digamma(total) for a in q]
            exact += mpmath.fsum((mpmath.mpf(b) - 1) * e for b, e in zip(of, of_each, strict=True))
            ours = float(module.expected_log_dirichlet(*tensors(module, q, of)))
            assert ours == pytest.approx(float(exact), rel=1e-13), (size, of)
    for nu in (3.5, 31.0, 40.0, 1e6, 1e15):
        n = mpmath.mpf(nu)
        exact = mpmath.fsum(mpmath.digamma((n - i) / 2) for i in range(3)) - 3 * mpmath.log(n / 2)
        ours = float(module.log_determinant_gap(*tensors(module, [nu]), 3)[0])
        assert ours == pytest.approx(float(exact), rel=1e-13)
