"""Every computation is in the precision, and on the device, of the data: not in those that a framework has by default.

Under another default dtype, default device, autocast, Keras' floatx or Keras' policy, results are the same to
the bit.
"""

import contextlib
import functools
import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

import pytorch_impl.estimators as torch_estimators
import tf2_impl.estimators as tf_estimators
from common import draws
from parity_tests.guards.hostile import Case
from parity_tests.guards.hostile_answers import Answer, attempt, each, flat
from parity_tests.guards.test_hostile_input import DOUBLE, FUNCTIONS, answer, arguments_of
from pytorch_impl import backend as torch_backend

PACKAGES = ("pytorch_impl", "tf2_impl")
MIXTURES = (torch_estimators.GaussianMixture, tf_estimators.GaussianMixture)
PAGES = {"pytorch_impl": torch_estimators, "tf2_impl": tf_estimators}


@contextlib.contextmanager
def setting(value: Any, get: Callable[[], Any], put: Callable[[Any], None]) -> Iterator[None]:
    """A process-wide setting, for a while."""
    before = get()
    put(value)
    try:
        yield
    finally:
        put(before)


default_dtype = functools.partial(setting, get=torch.get_default_dtype, put=torch.set_default_dtype)
floatx = functools.partial(setting, get=keras.config.floatx, put=keras.config.set_floatx)
policy = functools.partial(setting, get=keras.config.dtype_policy, put=keras.config.set_dtype_policy)

# What other code may have set. On the device meta, tensors have no numbers: what is made there is lost.
DEFAULTS: dict[str, tuple[str, Callable[[], AbstractContextManager]]] = {
    "dtype float64": ("pytorch_impl", lambda: default_dtype(torch.float64)),
    "dtype float16": ("pytorch_impl", lambda: default_dtype(torch.float16)),
    "device meta": ("pytorch_impl", lambda: torch.device("meta")),
    "floatx float64": ("tf2_impl", lambda: floatx("float64")),
    "policy mixed_bfloat16": ("tf2_impl", lambda: policy("mixed_bfloat16")),
}
AUTOCAST = {"autocast bfloat16": ("pytorch_impl", lambda: torch.autocast("cpu", dtype=torch.bfloat16))}


def same(ours: Answer, theirs: Answer, where: str) -> None:
    assert ours.error == theirs.error, where
    assert ours.values.keys() == theirs.values.keys(), where
    for name, value in ours.values.items():
        assert value.dtype == theirs.values[name].dtype, f"{where}: {name}"
        np.testing.assert_array_equal(value, theirs.values[name], f"{where}: {name}")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_function_of_the_maths_takes_a_default(name: str) -> None:
    for number, kind in enumerate(("full", "diag")):
        dtypes = ("float64",) if name in DOUBLE else ("float32", "float64")
        case = Case(seed=number, n=5, d=2, k=3, dtype=dtypes[number % len(dtypes)], kind=kind, power=0)
        arguments = arguments_of(name, case)
        usual = {package: answer(name, arguments, package) for package in PACKAGES}
        for what, (package, default) in DEFAULTS.items():
            with default():
                found = answer(name, arguments, package)
            same(usual[package], found, f"{what}, {case}")


def table(dtype: str, gaps: bool = False, n: int = 60) -> np.ndarray:
    random = np.random.RandomState(0)
    x = random.normal(size=(n, 3)) + 4 * random.randint(3, size=(n, 1))
    x[random.uniform(size=x.shape) < 0.1 * gaps] = np.nan
    return x.astype(dtype)


def fitted_estimators(package: str, dtype: str) -> Answer:
    """All that the estimators find, as arrays."""
    page, x, heads = PAGES[package], table(dtype), np.random.RandomState(0).randint(11, size=20).astype(dtype)
    kinds = {kind: page.GaussianMixture(3, covariance_type=kind) for kind in ("full", "tied", "diag", "spherical")}
    kinds |= {"gaps": page.GaussianMixture(3, missing="em"), "chunks": page.GaussianMixture(2)}
    kinds["beliefs"] = page.BayesianGaussianMixture(4)
    kinds["of a Dirichlet"] = page.BayesianGaussianMixture(4, weight_concentration_prior_type="dirichlet_distribution")

    def found() -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, model in kinds.items():
            points = table(dtype, name == "gaps", 70_000 if name == "chunks" else 60)
            model.set_params(random_state=0, max_iter=3, n_init=1 if name == "chunks" else 2).fit(points)
            values[name] = model.means_, model.covariances_, model.weights_, model.precisions_, model.lower_bounds_
            values[f"{name} of points"] = model.score_samples(points[:60]), model.predict(points[:60]), model.sample(5)
        values["imputed"] = kinds["gaps"].impute(table(dtype, True))
        values["predictive"] = kinds["beliefs"].predictive_log_density(x)
        toss = page.CoinMixture(2, max_iter=5).fit(heads, 10)
        values["coins"] = toss.biases_, toss.weights_, toss.predict_proba(heads, 10)
        beta = page.BetaBernoulli(2, 3).update([1, 0, 1])
        values["coin"] = beta.map(), beta.log_evidence([1, 1]), beta.log_density(0.3), beta.predictive()
        return values

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Answer(flat(found()))


@pytest.fixture(scope="module")
def usual() -> Callable[[str, str], Answer]:
    return functools.cache(fitted_estimators)


def test_methods_outside_autocast_take_keyword_arguments() -> None:
    @torch_backend.outside_autocast
    class Estimator:
        def product(self, x: torch.Tensor, *, scale: float) -> torch.Tensor:
            return scale * (x @ x)

    x = torch.full((2, 2), 1 / 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Estimator().product(x=x, scale=2.0)[0, 0].item() == pytest.approx(4 / 9, rel=1e-6)
        assert (x @ x).dtype == torch.bfloat16


@pytest.mark.parametrize("what", [*DEFAULTS, *AUTOCAST])
def test_no_estimator_takes_a_default(what: str, usual: Callable, dtype: str) -> None:
    package, default = (DEFAULTS | AUTOCAST)[what]
    expected = usual(package, dtype)
    with default():
        same(expected, fitted_estimators(package, dtype), what)
    assert expected.values[".full.0"].dtype == expected.values[".gaps.1"].dtype == dtype


def network_update(package: str, dtype: str, model: Any) -> Answer:
    """Two updates of a VAE by each Adam: the bound, the gradients and the parameters."""
    layouts, vae, optimizer = (importlib.import_module(f"{package}.{name}") for name in ("layouts", "vae", "optimizer"))
    as_tensor = functools.partial(torch.tensor, device="cpu") if package == "pytorch_impl" else tf.constant
    shapes = {name: value.shape for name, value in layouts.export_parameters(model).items()}
    layouts.import_parameters(model, {n: v.astype(dtype) for n, v in draws.initial_values(0, shapes).items()})
    random, found = np.random.RandomState(0), {}
    adam = optimizer.Adam(layouts.named_parameters(model), reproducible=dtype == "float64")
    for step in range(2):
        x, noise = random.uniform(size=(7, 16)).astype(dtype), random.normal(size=(7, 2)).astype(dtype)
        x, noise = each(as_tensor, (x, noise))
        bound, gradients = vae.loss_and_gradients(model, x, noise)
        adam.update(gradients)
        found[str(step)] = bound, {name: layouts.canonical(name, value) for name, value in gradients.items()}
    found["estimate"] = vae.importance_weighted_log_likelihood(model, x, noise[None])
    return attempt(lambda: found | {"parameters": layouts.export_parameters(model)})


@pytest.mark.parametrize(
    ("network", "likelihood"), [("dense", "gaussian"), pytest.param("conv", "bernoulli", marks=pytest.mark.long)]
)
def test_no_network_takes_a_default_but_the_device_it_is_built_on(network: str, likelihood: str, dtype: str) -> None:
    sizes = dict(data_dim=16, latent_dim=2, hidden_dim=5, likelihood=likelihood, dtype=dtype, model=network)
    if network == "conv":
        sizes |= dict(image_shape=(4, 4), channels=2)
    for package in PACKAGES:
        VAE = importlib.import_module(f"{package}.vae").VAE
        expected = network_update(package, dtype, VAE(**sizes))
        for what, (of_package, default) in DEFAULTS.items():
            if of_package == package:
                built = VAE(**sizes)  # as any torch.nn.Module, on the default device
                with default():
                    model = built if what == "device meta" else VAE(**sizes)
                    same(expected, network_update(package, dtype, model), f"{package}, {what}")


SIX = np.array([[0, 0], [1, 3], [50, 50], [51, 50], [50, 51], [52, 53.0]])


@pytest.mark.parametrize("Mixture", MIXTURES)
def test_single_precision_is_judged_by_its_own_epsilon(Mixture: type) -> None:
    """Two points and reg_covar leave a correlation of 1 - 2.2e-6, of which float32 keeps no digit to speak of: the
    bound was -0.8974 in it, and is -0.9053."""
    assert Mixture(2, random_state=0).fit(SIX).lower_bound_ == pytest.approx(-0.905292696449, abs=1e-9)
    with pytest.raises(ValueError, match=r"component 1 has collapsed: .* in float32; try float64"):
        Mixture(2, random_state=0).fit(SIX.astype(np.float32))
    more = Mixture(2, random_state=0, reg_covar=1e-3)
    expected = Mixture(2, random_state=0, reg_covar=1e-3).fit(SIX).lower_bound_
    assert more.fit(SIX.astype(np.float32)).lower_bound_ == pytest.approx(expected, abs=1e-3)


def test_both_frameworks_fit_or_refuse_the_same_small_tables(dtype: str) -> None:
    """Numbers agree to rounding over the least eigenvalue of the worst-conditioned covariance."""
    random = np.random.RandomState(17)
    outcomes = []
    for number in range(60):
        n, d, k = random.randint(4, 13), random.randint(1, 4), random.randint(1, 4)
        x = random.randint(60, size=(n, d)) if number % 2 else 3 * random.normal(size=(n, d)) + 50 * (number % 4)
        ours, theirs = (fit(Mixture, x.astype(dtype), k) for Mixture in MIXTURES)
        if isinstance(ours, str) or isinstance(theirs, str):
            assert ours == theirs, x
            outcomes.append("error")
            continue
        assert ours.n_iter_ == theirs.n_iter_, x
        deviations = np.sqrt(np.diagonal(ours.covariances_, axis1=-2, axis2=-1).astype(float))
        correlations = ours.covariances_ / deviations[:, :, None] / deviations[:, None, :]
        least = np.linalg.eigvalsh(correlations).min()
        assert abs(ours.lower_bound_ - theirs.lower_bound_) <= 20 * d * np.finfo(dtype).eps / least, x
        outcomes.append("number")
    assert outcomes.count("number") > 40
    assert dtype == "float64" or "error" in outcomes


def fit(Mixture: type, x: np.ndarray, k: int) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Mixture(k, random_state=0).fit(x)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("package", PACKAGES)
def test_bfloat16_is_refused_in_one_line(package: str) -> None:
    page = PAGES[package]
    for x in (torch.tensor(SIX).to(torch.bfloat16), tf.cast(SIX, tf.bfloat16), tf.cast(SIX, tf.bfloat16).numpy()):
        for model in (page.GaussianMixture(), page.BayesianGaussianMixture()):
            with pytest.raises(ValueError, match=r"^X has dtype bfloat16, .*: give float32 or float64$"):
                model.fit(x)
            with pytest.raises(ValueError, match=r"^X has dtype bfloat16, .*: give float32 or float64$"):
                model.fit(SIX).predict(x)
        with pytest.raises(ValueError, match=r"^heads has dtype bfloat16"):
            page.CoinMixture(2).fit(x[:, 0], 60)
        with pytest.raises(ValueError, match=r"^means_init has dtype bfloat16"):
            page.GaussianMixture(6, means_init=x).fit(SIX)
        with pytest.raises(ValueError, match=r"^sample_weight has dtype bfloat16"):
            page.GaussianMixture().fit(SIX, sample_weight=x[:, 0])
    half = page.GaussianMixture(random_state=0).fit(SIX.astype(np.float16))  # whose numbers double precision has all
    np.testing.assert_array_equal(half.means_, page.GaussianMixture(random_state=0).fit(SIX).means_)
