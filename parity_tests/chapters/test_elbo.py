"""The ELBO's terms: the frameworks agree with each other, SciPy, quadrature and central differences."""

from types import ModuleType

import numpy as np
import pytest
from scipy import integrate, stats

from common import draws
from common.parity import importance_standard_error
from parity_tests.conftest import Parity
from parity_tests.support.frameworks import both, check_function, differentiate, tensor, tensors

N, D, L = 64, 30, 7
both_pages = both("elbo")


def numbers(seed: int) -> dict[str, np.ndarray]:
    """Arguments by name, with log variances from tight to wide and logits from sure to undecided."""
    widths = {"mean": L, "mean_p": L, "log_var": L, "log_var_p": L, "noise": L, "target": D, "output": D}
    normal = {
        name: draws.normals(seed, "sample", (N, width), step) for step, (name, width) in enumerate(widths.items())
    }
    normal["log_var"][0], normal["mean"][0] = 0.0, 0.0  # q is the prior: everything cancels
    normal["output"] *= 5
    normal["output"][0], normal["output"][1] = 0.0, 80.0
    normal["binary"] = (normal["target"] > 0.3).astype(float)
    normal["log_likelihood"] = draws.normals(seed, "sample", (N,), step=8) * 10 - 90
    normal["log_weights"] = draws.normals(seed, "sample", (50, N), step=9) * 3 - 90
    normal["scalar"] = np.array(-0.7)
    normal["grey"] = draws.uniforms(seed, "sample", (N, D))
    return normal


FUNCTIONS = {
    "gaussian_kl_to_standard_normal": ("mean", "log_var"),
    "gaussian_kl": ("mean", "log_var", "mean_p", "log_var_p"),
    "reparameterize": ("mean", "log_var", "noise"),
    "gaussian_log_likelihood": ("target", "output", "scalar"),
    "bernoulli_log_likelihood": ("binary", "output"),
    "log_importance_weights": ("log_likelihood", "noise", "mean", "log_var"),
    "importance_weighted_bound": ("log_weights",),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(("mode", "seed"), [("eager", 0), ("function", 1), ("xla", 0)])
def test_values_and_gradients_agree(parity: Parity, name: str, dtype: str, mode: str, seed: int) -> None:
    arguments = {argument: numbers(seed)[argument].astype(dtype) for argument in FUNCTIONS[name]}
    kinds = "loss", "share of weights" if name == "importance_weighted_bound" else "gradient"
    check_function(parity, "elbo", name, arguments, kinds, mode)


@both_pages
def test_against_scipy(module: ModuleType) -> None:
    a = numbers(2)
    t = dict(zip(a, tensors(module, *a.values()), strict=True))
    gaussian = stats.norm.logpdf(a["target"], a["output"], np.exp(-0.35)).sum(axis=1)
    np.testing.assert_allclose(module.gaussian_log_likelihood(t["target"], t["output"], t["scalar"]), gaussian, 1e-13)
    log_one, log_zero = stats.logistic.logcdf(a["output"]), stats.logistic.logsf(a["output"])
    bernoulli = np.where(a["binary"] == 1, log_one, log_zero).sum(axis=1)
    np.testing.assert_allclose(module.bernoulli_log_likelihood(t["binary"], t["output"]), bernoulli, 1e-13)
    # a grey pixel is no outcome of a coin, but the formula must interpolate as the definition does
    grey = (a["grey"] * log_one + (1 - a["grey"]) * log_zero).sum(axis=1)
    np.testing.assert_allclose(module.bernoulli_log_likelihood(t["grey"], t["output"]), grey, 1e-13)
    drawn = module.reparameterize(t["mean"], t["log_var"], t["noise"])
    np.testing.assert_allclose(
        (np.asarray(drawn) - a["mean"])[2:] / a["noise"][2:], np.sqrt(np.exp(a["log_var"][2:])), 1e-12
    )


@both_pages
def test_kl_is_the_integral(module: ModuleType) -> None:
    for mean_q, log_var_q, mean_p, log_var_p in [(0.3, -1.0, 0.0, 0.0), (-2.0, 0.7, 1.0, -0.5), (0.0, 1e-4, 0.0, 0.0)]:
        q, p = stats.norm(mean_q, np.exp(log_var_q / 2)), stats.norm(mean_p, np.exp(log_var_p / 2))
        low, high = q.ppf(1e-16), q.isf(1e-16)
        integral, _ = integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), low, high, epsabs=1e-13)  # noqa: B023
        arguments = tensors(module, [[mean_q]], [[log_var_q]], [[mean_p]], [[log_var_p]])
        assert float(module.gaussian_kl(*arguments)[0]) == pytest.approx(integral, rel=1e-9, abs=1e-12)
        if (mean_p, log_var_p) == (0.0, 0.0):
            value = float(module.gaussian_kl_to_standard_normal(*arguments[:2])[0])
            assert value == pytest.approx(integral, rel=1e-9, abs=1e-12)


@both_pages
def test_kl_near_the_prior_keeps_its_digits(module: ModuleType) -> None:
    """1/2 (e^s - 1 - s) = s²/4 + s³/12 + s⁴/48 + ...: expm1(s) - s keeps s / eps of the digits, exp(s) - 1 - s none."""
    for dtype, exponents in (("float64", range(-24, -14)), ("float32", range(-10, -5))):
        for exponent in exponents:
            for sign in (1, -1):
                s = sign * 1.25 * 2.0**exponent  # with a p of log variance 1/2, s is still exact
                expected = s**2 / 4 + s**3 / 12 + s**4 / 48 + s**5 / 240
                values = (np.full((1, 1), value, dtype) for value in (0.0, s, 0.5 + s, 0.5))
                zero, s_alone, s_of_q, s_of_p = tensors(module, *values)
                allowed = 4 * float(np.finfo(dtype).eps) / abs(s)
                for value in (
                    module.gaussian_kl_to_standard_normal(zero, s_alone),
                    module.gaussian_kl(zero, s_of_q, zero, s_of_p),
                ):
                    assert float(value[0]) == pytest.approx(expected, rel=allowed, abs=0), (dtype, s)


@both_pages
def test_elbo_plus_kl_to_the_posterior_is_the_evidence(module: ModuleType) -> None:
    """A linear Gaussian model, one latent dimension: log p(x) = ELBO + KL(q || p(z|x)), all by quadrature."""
    slope, offset, log_var, x = np.array([1.3, -0.4, 0.8]), np.array([0.1, 0.2, -0.3]), -0.5, np.array([0.9, 0.4, -1.1])
    mean_q, log_var_q = 0.2, -0.3

    def log_likelihood(z: np.ndarray) -> np.ndarray:
        args = np.broadcast_to(x, (len(z), 3)), z[:, None] * slope + offset, np.array(log_var)
        return np.asarray(module.gaussian_log_likelihood(*tensors(module, *args)))

    z = np.linspace(-12, 12, 200_001)
    joint = log_likelihood(z) + stats.norm.logpdf(z)
    evidence = np.log(integrate.simpson(np.exp(joint), x=z))
    exact = stats.multivariate_normal(offset, np.outer(slope, slope) + np.exp(log_var) * np.eye(3)).logpdf(x)
    q = stats.norm.pdf(z, mean_q, np.exp(log_var_q / 2))
    log_q = stats.norm.logpdf(z, mean_q, np.exp(log_var_q / 2))
    to_posterior = integrate.simpson(q * (log_q - (joint - evidence)), x=z)
    kl = module.gaussian_kl_to_standard_normal(*tensors(module, [[mean_q]], [[log_var_q]]))
    reconstruction = tensor(module, [integrate.simpson(q * log_likelihood(z), x=z)])
    bound = module.evidence_lower_bound(reconstruction, kl)
    assert evidence == pytest.approx(exact, abs=1e-12)
    assert float(bound.elbo) + to_posterior == pytest.approx(exact, abs=1e-10)
    assert float(bound.elbo) == pytest.approx(float(bound.reconstruction) - float(bound.kl), abs=1e-14)


@both_pages
def test_gradient_at_undecided_logits(module: ModuleType) -> None:
    """At logit 0 both frameworks must give x - 1/2, the derivative, not a one-sided one."""
    x, logits = np.array([[0.0, 1.0]]), np.zeros((1, 2))
    _, (gradient,) = differentiate(module, module.bernoulli_log_likelihood, [x, logits], by=(1,))
    np.testing.assert_array_equal(gradient, x - 0.5)


@both_pages
def test_importance_weighting_finds_a_known_evidence(module: ModuleType) -> None:
    """A linear Gaussian model, whose log p(x) is known: the estimate reaches it within its standard error."""
    d, latent, points, log_var_x = 5, 2, 20, -0.8
    loadings, offset = draws.normals(0, "sample", (d, latent), 11), draws.normals(0, "sample", (d,), 12)
    covariance = loadings @ loadings.T + np.exp(log_var_x) * np.eye(d)
    x = stats.multivariate_normal(offset, covariance).rvs(points, random_state=0)
    exact = stats.multivariate_normal(offset, covariance).logpdf(x)
    # a proposal that is near the posterior but neither its mean, its variances nor its correlations
    precision = np.eye(latent) + loadings.T @ loadings / np.exp(log_var_x)
    mean = (x - offset) @ loadings @ np.linalg.inv(precision) / np.exp(log_var_x) + 0.2
    log_var = np.broadcast_to(np.log(1.5 * np.diag(np.linalg.inv(precision))), mean.shape)
    bounds = []
    for s in (1, 10, 5000):
        z = mean + np.exp(log_var / 2) * draws.normals(1, "noise", (s * points, latent), s).reshape(s, points, latent)
        log_likelihood = stats.norm.logpdf(x, z @ loadings.T + offset, np.exp(log_var_x / 2)).sum(axis=-1)
        arguments = log_likelihood, z, np.broadcast_to(mean, z.shape), np.broadcast_to(log_var, z.shape)
        log_weights = np.asarray(module.log_importance_weights(*tensors(module, *arguments)))
        bounds.append(np.asarray(module.importance_weighted_bound(tensor(module, log_weights))))
    error = importance_standard_error(log_weights)
    assert error.max() < 0.05
    assert np.all(np.abs(bounds[-1] - exact) < 5 * error)
    assert bounds[0].mean() < bounds[1].mean() < exact.mean() + 0.02


@both_pages
def test_only_the_last_axis_is_summed(module: ModuleType) -> None:
    """Several draws at once, (S, N, ...), give what they give one by one: features are the last axis."""
    a = numbers(3)
    for name, arguments in FUNCTIONS.items():
        if name == "importance_weighted_bound":
            continue
        several = [np.stack([a[argument], a[argument][::-1]]) for argument in arguments if argument != "scalar"]
        scalar = [tensor(module, a["scalar"])] * ("scalar" in arguments)
        function = getattr(module, name)
        one_by_one = [function(*tensors(module, *(value[s] for value in several)), *scalar) for s in range(2)]
        np.testing.assert_allclose(function(*tensors(module, *several), *scalar), np.stack(one_by_one), rtol=1e-13)
