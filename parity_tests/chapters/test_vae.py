"""The dense VAE: outputs and every gradient tensor agree; the bound is one."""

from functools import partial
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from common import draws
from common.data import datasets
from parity_tests.conftest import Parity
from parity_tests.support import models as of_models
from parity_tests.support.frameworks import arrays, both, in_mode, is_torch, pair, sibling, tensors
from parity_tests.support.lockstep import CASES, Batches

DIGITS = datasets.load("digits").x
CASES = CASES | {"gaussian per pixel": {"likelihood": "gaussian", "variance": "per-pixel"}}
CONV = {"model": "conv", "image_shape": (8, 8), "channels": 4}
cases = pytest.mark.parametrize("case", CASES)


def same(dtype: str, seed: int = 0, latent_dim: int = 6, **arguments) -> list:
    """The model of 64 pixels and 50 hidden units in both frameworks."""
    sizes = dict(data_dim=64, latent_dim=latent_dim, hidden_dim=50, dtype=dtype)
    return of_models.same("vae", "VAE", seed, **sizes, **arguments)


@cases
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_outputs_and_every_gradient_tensor_agree(
    parity: Parity, case: str, activation: str, dtype: str, mode: str
) -> None:
    models, label = same(dtype, activation=activation, **CASES[case]), f"{case} {activation}"
    batch = Batches(case, dtype=dtype)[0]
    of_models.check_outputs(parity, "vae", models, batch, "VAE outputs", label, mode)
    assert batch[1].shape == (96, models[0].noise_dim)
    of_models.check_gradients(parity, models, batch, "VAE.elbo and its parts", "gradient", label, mode)


@both("vae")
@cases
def test_gradients_are_central_differences(module: ModuleType, case: str) -> None:
    model = same("float64", 3, **CASES[case])[not is_torch(module)]
    of_models.check_central_differences(module, model, Batches(case)[0])


@both("vae")
@cases
def test_the_elbo_bounds_the_evidence(module: ModuleType, case: str) -> None:
    """And an estimate by importance sampling is nearer to it."""
    model = same("float64", 5, latent_dim=1, **CASES[case])[not is_torch(module)]
    x = Batches(case)[0][0][:1]
    elbo, evidence = of_models.check_bound(module, model, x)
    noise = draws.normals(0, "held-out", (20_000, 1, 1))
    estimate = arrays(module.importance_weighted_log_likelihood(model, *tensors(module, x, noise)))[0][0]
    assert estimate == pytest.approx(evidence, abs=0.02)
    if case != "gaussian per pixel":
        assert elbo < estimate - 0.02, "an ELBO is not log p(x)"


@pytest.mark.parametrize("network", [{}, CONV])
def test_importance_weighted_log_likelihoods_agree(parity: Parity, dtype: str, mode: str, network: dict) -> None:
    models, x = same(dtype, **network), DIGITS[:9].astype(dtype)
    noise = draws.normals(0, "held-out", (7, 9, 6)).astype(dtype)
    name = "importance_weighted_log_likelihood"
    ours, theirs = (
        in_mode(module, partial(getattr(module, name), model), mode)(*tensors(module, x, noise))
        for module, model in zip(pair("vae"), models, strict=True)
    )
    parity.check(name, "loss", ours, theirs, " ".join(network) or "dense", mode)
    # of a single draw it is the ELBO of that draw, without the divergence in closed form
    module, model = pair("vae")[0], models[0]
    one = arrays(module.importance_weighted_log_likelihood(model, *tensors(module, x, noise[:1])))[0]
    output, mean, log_var = (a.astype(np.float64) for a in arrays(model(*tensors(module, x, noise[0]))))
    z = mean + np.exp(log_var / 2) * noise[0]
    expected = (x * output - np.logaddexp(0, output)).sum(axis=1) + stats.norm.logpdf(z).sum(axis=1)
    expected -= stats.norm.logpdf(z, mean, np.exp(log_var / 2)).sum(axis=1)
    np.testing.assert_allclose(one, expected, rtol=1e-12 if dtype == "float64" else 1e-5)


@both("vae")
def test_a_learned_variance_starts_at_one_and_is_scipys(module: ModuleType) -> None:
    layouts, backend = sibling(module, "layouts"), sibling(module, "backend")
    for variance, shape in ((None, ()), ("per-pixel", (64,))):
        model = module.VAE(64, 2, 5, likelihood="gaussian", variance=variance, dtype="float64")
        values = layouts.export_parameters(model)
        assert np.all(values["log_var"] == 0)
        log_var, x, mean = np.linspace(-3, 1, 64)[: np.prod(shape, dtype=int)].reshape(shape), DIGITS[:9], DIGITS[9:18]
        layouts.import_parameters(model, values | {"log_var": log_var})
        expected = stats.norm.logpdf(x, mean, np.exp(log_var / 2)).sum(axis=1)
        np.testing.assert_allclose(backend.evaluate(model.log_likelihood, x, mean), expected, rtol=1e-13)


@both("vae")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data_dim": 0}, "data_dim=0 must be an integer of at least 1"),
        ({"latent_dim": -2}, "latent_dim=-2 must be"),
        ({"hidden_dim": 2.5}, "hidden_dim=2.5 must be"),
        ({"activation": "sine"}, "activation='sine' must be one of tanh, relu"),
        ({"likelihood": "poisson"}, "likelihood='poisson' must be one of bernoulli, gaussian"),
        ({"dtype": "float16"}, "dtype='float16' must be one of float32, float64"),
        ({"variance": 0.1}, "variance=0.1 needs likelihood='gaussian'; leave it out"),
        ({"likelihood": "gaussian", "variance": 0.0}, "variance=0.0 must be a positive number"),
    ],
)
def test_models_that_cannot_be_built(module: ModuleType, arguments: dict, message: str) -> None:
    of_models.check_refused(module, "VAE", {"data_dim": 64} | arguments, message)
