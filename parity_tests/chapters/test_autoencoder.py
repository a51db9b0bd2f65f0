"""The plain autoencoder: values, gradients and trainings agree; its likelihood and its limits are right."""

from types import ModuleType

import numpy as np
import pytest
from scipy import integrate, optimize, stats
from sklearn.decomposition import PCA
from sklearn.neighbors import KernelDensity

from common import draws
from common.data import datasets
from parity_tests.conftest import Parity
from parity_tests.support import models as of_models
from parity_tests.support.frameworks import both, check_function, is_torch, pair, sibling, tensors
from parity_tests.support.lockstep import Batches

DIGITS = datasets.load("digits").x
CASES = {
    "most likely variance": {},
    "most likely variance, relu": {"activation": "relu"},
    "most likely variance, linear": {"activation": "linear"},
    "fixed variance": {"variance": 0.05},
}
cases = pytest.mark.parametrize("case", CASES)


def same(dtype: str, seed: int = 0, **arguments) -> list:
    """The model of 64 pixels, 50 hidden units and codes of 6 in both frameworks."""
    sizes = dict(data_dim=64, latent_dim=6, hidden_dim=50, dtype=dtype)
    return of_models.same("autoencoder", "Autoencoder", seed, **sizes, **arguments)


def images(step: int = 0) -> np.ndarray:
    """The images of a minibatch of digits."""
    return Batches("gaussian")[step][0]


@cases
def test_outputs_and_every_gradient_tensor_agree(parity: Parity, case: str, dtype: str, mode: str) -> None:
    models, batch = same(dtype, **CASES[case]), Batches("gaussian", dtype=dtype)[0]
    of_models.check_outputs(parity, "autoencoder", models, batch, "Autoencoder", case, mode)
    of_models.check_gradients(parity, models, batch, "Autoencoder.fit_of", "gradient of a residual", case, mode)


@pytest.mark.parametrize(
    ("mode", "case"),
    [
        ("function", "most likely variance"),
        ("xla", "fixed variance"),
        pytest.param("eager", "fixed variance", marks=pytest.mark.long),
        pytest.param("function", "most likely variance, relu", marks=pytest.mark.long),
    ],
)
def test_200_updates_agree(parity: Parity, case: str, mode: str) -> None:
    models, batches = same("float64", **CASES[case]), Batches("gaussian")
    errors = of_models.check_updates(parity, models, batches, "squared_error", 200, case, mode)
    assert errors[-1] < errors[0] / 3


@pytest.mark.parametrize("mode", ["function", "xla"])
def test_100_updates_in_float32_step_by_step(parity: Parity, mode: str) -> None:
    models, batches = same("float32"), Batches("gaussian", dtype="float32")
    of_models.check_forced_updates(parity, models, batches, "squared_error", "gradient of a residual", 100, mode)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_reproducible_training_is_bit_equal(seed: int) -> None:
    ends = []
    models = same("float64", seed, activation="relu")
    for layouts, optimizer, model, step in zip(
        of_models.LAYOUTS, pair("optimizer"), models, of_models.steps(models, "function"), strict=True
    ):
        adam = optimizer.Adam(layouts.named_parameters(model), reproducible=True)
        for number in range(100):
            adam.update(step(Batches("gaussian")[number])[1])
        ends.append({name: value.tobytes() for name, value in layouts.export_parameters(model).items()})
    assert ends[0] == ends[1]


@both("autoencoder")
@cases
def test_gradients_are_central_differences(module: ModuleType, case: str) -> None:
    model = same("float64", 3, **CASES[case])[not is_torch(module)]
    of_models.check_central_differences(module, model, Batches("gaussian")[0])


@both("autoencoder")
def test_the_variance_is_the_most_likely_one(module: ModuleType) -> None:
    """SciPy's search over sigma² ends at the mean squared error, and its density there is the likelihood."""
    model, x, evaluate = same("float64", 2)[not is_torch(module)], images(), sibling(module, "backend").evaluate
    reconstruction, (log_likelihood, squared_error) = evaluate(model, x), evaluate(model.fit_of, x)

    def negative(log_var: float) -> float:
        return -stats.norm.logpdf(x, reconstruction, np.exp(log_var / 2)).sum(axis=1).mean()

    found = optimize.minimize_scalar(negative, bracket=(-5, 0), tol=1e-12)
    assert np.exp(found.x) == pytest.approx(float(squared_error), rel=1e-6)
    assert -found.fun == pytest.approx(float(log_likelihood), rel=1e-13)
    assert float(squared_error) == pytest.approx(np.mean((x - reconstruction) ** 2), rel=1e-14)
    # other images are judged by the variance of the training images
    other = images(1)
    expected = stats.norm.logpdf(other, evaluate(model, other), np.sqrt(squared_error)).sum(axis=1).mean()
    objective = model.held_out_objective(*tensors(module, x))
    for fit in (evaluate(model.fit_of, other, squared_error), evaluate(objective, other)):
        assert float(fit[0]) == pytest.approx(expected, rel=1e-13)


@both("autoencoder")
def test_the_gradient_does_not_see_that_the_variance_follows(module: ModuleType) -> None:
    networks, model = sibling(module, "networks"), same("float64", 2)[not is_torch(module)]
    x = tensors(module, images())[0]
    fit, free = networks.loss_and_gradients(model, x)
    model.variance = float(fit.squared_error)
    layouts = sibling(module, "layouts")
    fixed = of_models.canonical(layouts, networks.loss_and_gradients(model, x)[1])
    for name, gradient in of_models.canonical(layouts, free).items():
        np.testing.assert_allclose(gradient, fixed[name], rtol=1e-11, atol=1e-12)


@both("autoencoder")
def test_a_linear_autoencoder_is_pca(module: ModuleType) -> None:
    """Nothing linear reconstructs better than principal components; L-BFGS on our gradients gets there."""
    layouts, networks, backend = (sibling(module, page) for page in ("layouts", "networks", "backend"))
    x = DIGITS[:200] - DIGITS[:200].mean(axis=0)
    model = module.Autoencoder(64, 3, 20, "linear", variance=0.04, dtype="float64")
    shapes = {name: value.shape for name, value in layouts.export_parameters(model).items()}
    start, given = draws.initial_values(0, shapes), backend.tensor(x)
    step = backend.compiled(lambda x: networks.loss_and_gradients(model, x))

    def unpack(flat: np.ndarray) -> dict[str, np.ndarray]:
        ends = np.cumsum([np.prod(shape) for shape in shapes.values()])[:-1].astype(int)
        return {n: v.reshape(s) for (n, s), v in zip(shapes.items(), np.split(flat, ends), strict=True)}

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        layouts.import_parameters(model, unpack(flat))
        fit, gradients = step(given)
        flattened = [layouts.canonical(name, gradients[name]).ravel() for name in shapes]
        return -float(fit.log_likelihood), np.concatenate(flattened)

    flat = np.concatenate([value.ravel() for value in start.values()])
    found = optimize.minimize(
        objective, flat, jac=True, method="L-BFGS-B", options={"maxiter": 300, "maxfun": 300, "ftol": 1e-12}
    )
    layouts.import_parameters(model, unpack(found.x))
    squared_error = float(backend.evaluate(model.fit_of, x)[1])
    pca = PCA(3, svd_solver="full").fit(x)
    best = np.mean((x - pca.inverse_transform(pca.transform(x))) ** 2)
    assert best * (1 - 1e-12) <= squared_error < best * (1 + 1e-4)


@pytest.mark.parametrize("log_var", [-1.0, -6.0])
def test_kernel_density_agrees(parity: Parity, dtype: str, mode: str, log_var: float) -> None:
    arrays = {
        "x": DIGITS[:40].astype(dtype),
        "centres": DIGITS[40:100].astype(dtype),
        "log_var": np.array(log_var, dtype),
    }
    # -1/2 (D log sigma² + |x - c|² / sigma²): the two parts cancel where sigma² is small
    for by, kind in ((("x", "centres"), "gradient"), (("log_var",), "share of weights")):
        kinds, label = ("output", "share of weights" if log_var == -6.0 else kind), f"log_var {log_var}"
        check_function(parity, "autoencoder", "kernel_log_density", arrays, kinds, mode, by=by, label=label)


@both("autoencoder")
def test_kernel_density_is_scikit_learns(module: ModuleType) -> None:
    x, centres, log_var = DIGITS[:40], DIGITS[40:100], np.array(-2.3)
    expected = KernelDensity(bandwidth=np.exp(log_var / 2)).fit(centres).score_samples(x)
    ours = sibling(module, "backend").evaluate(module.kernel_log_density, x, centres, log_var)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


@both("autoencoder")
def test_only_centres_that_do_not_know_x_make_a_density(module: ModuleType) -> None:
    """Images of one pixel: the Gaussian around its own reconstruction is no density, the kernels' mean is."""
    evaluate, grid = sibling(module, "backend").evaluate, np.linspace(-12, 12, 40_001)[:, None]
    model = module.Autoencoder(1, 1, 4, "tanh", dtype="float64")
    shapes = {name: value.shape for name, value in sibling(module, "layouts").export_parameters(model).items()}
    sibling(module, "layouts").import_parameters(model, draws.initial_values(1, shapes))
    log_var = np.array(-1.0)
    own = evaluate(sibling(module, "elbo").gaussian_log_likelihood, grid, evaluate(model, grid), log_var)
    assert abs(integrate.simpson(np.exp(own), x=grid[:, 0]) - 1) > 0.1
    centres = evaluate(model, np.array([[-1.0], [0.3], [2.0]]))
    kernels = evaluate(module.kernel_log_density, grid, centres, log_var)
    assert integrate.simpson(np.exp(kernels), x=grid[:, 0]) == pytest.approx(1, abs=1e-10)


def test_linear_gaussian_evidence_agrees(parity: Parity, dtype: str, mode: str) -> None:
    loadings, offset = draws.normals(0, "sample", (64, 5), 1) / 4, DIGITS.mean(axis=0)
    arrays = {"x": DIGITS[:40], "loadings": loadings, "offset": offset, "log_var": np.array(-1.0)}
    arrays, of_elbo = {name: value.astype(dtype) for name, value in arrays.items()}, Parity("elbo", parity.rows)
    for by, kind in (
        (("x", "loadings", "offset"), "gradient through a solve"),
        (("log_var",), "gradient that cancels"),
    ):
        check_function(of_elbo, "elbo", "linear_gaussian_log_evidence", arrays, ("output", kind), mode, by=by)


@both("autoencoder")
def test_linear_gaussian_evidence_is_probabilistic_pca(module: ModuleType) -> None:
    x = DIGITS + 0.1 * draws.normals(0, "sample", DIGITS.shape)  # so that no pixel is constant
    pca = PCA(6, svd_solver="full").fit(x)
    loadings = pca.components_.T * np.sqrt(pca.explained_variance_ - pca.noise_variance_)
    arguments = x, loadings, pca.mean_, np.log(pca.noise_variance_)
    ours = sibling(module, "backend").evaluate(sibling(module, "elbo").linear_gaussian_log_evidence, *arguments)
    np.testing.assert_allclose(ours, pca.score_samples(x), rtol=1e-10)
    factors = sibling(module, "backend").evaluate(
        sibling(module, "elbo").linear_gaussian_log_evidence, x, loadings, pca.mean_, np.linspace(-3, -1, 64)
    )
    covariance = loadings @ loadings.T + np.diag(np.exp(np.linspace(-3, -1, 64)))
    np.testing.assert_allclose(factors, stats.multivariate_normal(pca.mean_, covariance).logpdf(x), rtol=1e-9)


@both("autoencoder")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data_dim": 0}, "data_dim=0 must be an integer of at least 1"),
        ({"latent_dim": 1.5}, "latent_dim=1.5 must be"),
        ({"activation": "sine"}, "activation='sine' must be one of tanh, relu, linear"),
        ({"dtype": "float16"}, "dtype='float16' must be one of float32, float64"),
        ({"variance": 0.0}, "variance=0.0 must be a positive number"),
        ({"variance": "per-pixel"}, "variance='per-pixel' must be a number, or left out: squared error"),
    ],
)
def test_models_that_cannot_be_built(module: ModuleType, arguments: dict, message: str) -> None:
    of_models.check_refused(module, "Autoencoder", {"data_dim": 64} | arguments, message)
