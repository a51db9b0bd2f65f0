"""Bounds, networks and their training: R's principal components and factor, SciPy's convolutions, 50 digits."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from mpmath import mp, mpf
from scipy.signal import convolve2d, correlate2d

from parity_tests.certificate.mixtures import table
from parity_tests.certificate.scoring import ANSWERS, FIFTY, Framework, R, flat, of_cases, rows
from parity_tests.support.frameworks import in_mode

PRCOMP, FACTANAL, IRIS = f"{R}, prcomp", f"{R}, factanal", table("iris")
N, D, L = 150, 4, 2  # irises, their measures, the codes'
LINEAR = dict(data_dim=D, latent_dim=L, hidden_dim=D, activation="linear")
CROSS = np.sqrt(L) * np.concatenate([np.eye(L), -np.eye(L)])  # (S, L), with the moments of normal noise
IMAGE, CODE = np.arange(42).reshape(7, 6) % 5 - 1.7, np.array([0.4, -1.1, 0.7])
MOMENTS = [(1.0, -3.0, -20.0, 2.5), (1e-4, 1e-3, 0.0, -2e-3)]  # two means and log variances: far off, nearby
NEARER = [(0.0, 1e-6, 0.0, -1e-6)]
LOGITS = [(a,) for a in (-800.0, -30.0, -1.0, 0.0, 1e-9, 40.0)]
LAYERS = "encoder.conv1:2x1x3x3 encoder.conv2:4x2x3x3 encoder.hidden:4x16 encoder.mean:3x4 encoder.log_var:3x4"
LAYERS += " decoder.hidden:4x3 decoder.features:16x4 decoder.conv_transpose1:4x2x3x3 decoder.conv_transpose2:2x1x3x3"
EIGENVALUES = [mpf(value) * (N - 1) / N for value in ANSWERS["components"]]  # of the irises' covariance, by R
ERROR = sum(EIGENVALUES[L:]) / D  # squared, of the projection onto the first components
PROJECTED = [-mpf(D) / 2 * (mp.log(2 * mp.pi * ERROR) + 1), ERROR]


def drawn() -> dict[str, np.ndarray]:
    """Weights and biases of the layers of a convolutional VAE."""
    rng, values = np.random.default_rng(20), {}
    for layer, shape in (text.split(":") for text in LAYERS.split()):
        sizes = tuple(map(int, shape.split("x")))
        values[f"{layer}.weight"] = 0.3 * rng.normal(size=sizes)
        values[f"{layer}.bias"] = rng.normal(size=sizes["transpose" in layer])
    return values


def highest(wider: float = 0.0) -> mpf:
    """The log likelihood of probabilistic PCA at its maximum, from R's eigenvalues, less the divergence of an encoder
    with log variances too large by ``wider``.

    Source: M. Tipping, C. Bishop, "Probabilistic principal component analysis", JRSS B 61 (1999), section 3.2.
    """
    volume = sum(map(mp.log, EIGENVALUES[:L])) + (D - L) * mp.log(ERROR * D / (D - L))
    return -N * (D * mp.log(2 * mp.pi) + volume + D + L * (mp.exp(wider) - 1 - wider)) / 2


def principal() -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Loadings (D, L), offset, variance and the codes' posterior variances of the same."""
    values, vectors = np.linalg.eigh(np.cov(IRIS.T, bias=True))
    variance = values[: D - L].mean()
    loadings = vectors[:, D - L :] * np.sqrt(values[D - L :] - variance)
    return loadings, IRIS.mean(axis=0), variance, variance / values[D - L :]


def probability(framework: Framework, x: np.ndarray, loadings: Any, offset: Any, variances: Any) -> float:
    """The log likelihood of a linear Gaussian model."""
    return framework.call("elbo", "linear_gaussian_log_evidence", x, loadings, offset, np.log(variances)).sum()


def one_factor(framework: Framework) -> float:
    """That of the standardised irises under R's factor."""
    loadings, own = (np.array(ANSWERS["factor"][name]) for name in ("loadings", "uniquenesses"))
    return probability(framework, (IRIS - IRIS.mean(axis=0)) / IRIS.std(axis=0), loadings[:, None], np.zeros(D), own)


def model(framework: Framework, page: str, name: str, values: dict[str, Any], **arguments: Any) -> Any:
    """A model of a page with these parameters."""
    built = getattr(framework.page(page), name)(dtype="float64", **arguments)
    framework.page("layouts").import_parameters(built, values)
    return built


def linear(loadings: np.ndarray, **of_codes: np.ndarray) -> dict[str, np.ndarray]:
    """The parameters of a linear encoder and decoder, from loadings and the weights of the code's layers."""
    values = {"encoder.hidden": (np.eye(D), -IRIS.mean(axis=0)), "decoder.hidden": (np.eye(D)[:, :L], np.zeros(D))}
    values |= {f"encoder.{layer}": (weight, np.zeros(L)) for layer, weight in of_codes.items()}
    values["decoder.out"] = np.pad(loadings, ((0, 0), (0, D - L))), IRIS.mean(axis=0)
    parts = ("weight", "bias")
    return {f"{layer}.{part}": of[i] for layer, of in values.items() for i, part in enumerate(parts)}


@cache
def linear_vae(framework: Framework, wider: float = 0.0) -> Any:
    """Probabilistic PCA as a VAE whose encoder is the posterior, but for log variances too large by ``wider``."""
    loadings, _, variance, of_codes = principal()
    back = (loadings / (loadings**2).sum(axis=0)).T * (1 - of_codes)[:, None]  # (L, D)
    values = linear(loadings, mean=back, log_var=np.zeros((L, D)))
    values |= {"encoder.log_var.bias": np.log(of_codes) + wider, "log_var": np.log(variance)}
    return model(framework, "vae", "VAE", values, likelihood="gaussian", **LINEAR)


def weighted(framework: Framework, noise: np.ndarray, wider: float = 0.0) -> np.ndarray:
    """The importance-weighted bound of every iris, (N,), from noise (S, N, L)."""
    run = framework.page("vae").importance_weighted_log_likelihood
    return flat(run(linear_vae(framework, wider), *framework.tensors(IRIS, noise)))


def elbo(framework: Framework, vae: Any, x: np.ndarray = IRIS) -> float:
    """The ELBO of all irises, the expectation exact: an affine decoder's terms are quadratic in the noise."""
    return N * flat(vae.elbo(*framework.tensors(np.tile(x, (2 * L, 1)), np.repeat(CROSS, N, axis=0))))[0]


def trained(framework: Framework, rates: Sequence[float] = (0.03, 0.01, 0.003, 0.001), updates: int = 400) -> float:
    """The same of a linear VAE after so many updates of Adam at each rate, from small weights."""
    rng, networks, x = np.random.default_rng(0), framework.page("networks"), IRIS - IRIS.mean(axis=0)
    shapes = framework.page("layouts").export_parameters(linear_vae(framework))
    start = {name: 0.3 * rng.normal(size=np.shape(value)) for name, value in shapes.items()}
    vae = model(framework, "vae", "VAE", start, likelihood="gaussian", **LINEAR)
    batch = framework.tensors(np.tile(x, (2 * L, 1)), np.repeat(CROSS, N, axis=0))
    gradients = in_mode(framework.module, lambda: networks.loss_and_gradients(vae, *batch)[1], "function")
    for rate in rates:
        adam = framework.page("optimizer").Adam(networks.named_parameters(vae), rate)
        for _ in range(updates):
            adam.update(gradients())
    return elbo(framework, vae, x)


def autoencoder(framework: Framework) -> np.ndarray:
    """Log likelihood of an iris, and squared error, of the projection onto the first components."""
    directions = principal()[0] / np.linalg.norm(principal()[0], axis=0)  # (D, L)
    built = model(framework, "autoencoder", "Autoencoder", linear(directions, code=directions.T), **LINEAR)
    return flat(built.fit_of(*framework.tensors(IRIS)))


def convolved(framework: Framework) -> np.ndarray:
    """Mean and log variance of an image's code, and the image of another code, by convolutions."""
    sizes = dict(data_dim=42, latent_dim=3, hidden_dim=4, image_shape=IMAGE.shape, channels=2)
    vae = model(framework, "vae", "VAE", drawn(), model="conv", **sizes)
    image, code = framework.tensors(IMAGE.reshape(1, -1), CODE[None])
    return flat((vae.encoder(image), vae.decoder(code)))


def by_scipy() -> np.ndarray:
    """The same: every second value of a correlation; and convolutions of maps with zeros in between."""
    p = drawn()
    layer = lambda name, v: p[f"{name}.weight"] @ v + p[f"{name}.bias"]  # noqa: E731
    maps = IMAGE[None]
    for name in ("encoder.conv1", "encoder.conv2"):
        maps = np.pad(maps, [(0, 0), *((size % 2, 1) for size in maps.shape[1:])])
        sums = [sum(map(correlate2d, maps, kernel, ["valid"] * 4))[::2, ::2] for kernel in p[f"{name}.weight"]]
        maps = np.tanh(np.stack(sums) + p[f"{name}.bias"][:, None, None])
    hidden = np.tanh(layer("encoder.hidden", maps.ravel()))
    maps = np.tanh(layer("decoder.features", np.tanh(layer("decoder.hidden", CODE)))).reshape(4, 2, 2)
    for name, (h, w), last in (("decoder.conv_transpose1", (4, 3), False), ("decoder.conv_transpose2", (7, 6), True)):
        apart = np.zeros((len(maps), *(2 * size - 1 for size in maps.shape[1:])))
        apart[:, ::2, ::2] = maps
        sums = np.stack([sum(map(convolve2d, apart, kernel)) for kernel in p[f"{name}.weight"].swapaxes(0, 1)])
        maps = sums[:, h % 2 :, w % 2 :][:, :h, :w] + p[f"{name}.bias"][:, None, None]
        maps = maps if last else np.tanh(maps)
    return np.concatenate([layer("encoder.mean", hidden), layer("encoder.log_var", hidden), maps.ravel()])


def divergence(m1: mpf, v1: mpf, m2: mpf, v2: mpf) -> mpf:
    """Of a Gaussian of two dimensions, given by means and log variances, from the standard normal."""
    return (m1**2 + mp.exp(v1) - 1 - v1 + m2**2 + mp.exp(v2) - 1 - v2) / 2


def kl(cases: Sequence[tuple]) -> tuple:
    """The chapter's function for the same, and its arguments."""
    return "gaussian_kl_to_standard_normal", np.array(cases)[:, ::2], np.array(cases)[:, 1::2]


DRAWS = np.random.default_rng(1).normal(size=(3, N, L))
PIXEL = of_cases(lambda a: -mp.log1p(mp.exp(-a)), LOGITS)
TABLE = {
    ("elbo", FIFTY): [
        ("divergence, far and near", of_cases(divergence, MOMENTS), kl(MOMENTS)),
        ("divergence, log variances of 1e-6", of_cases(divergence, NEARER), kl(NEARER), 9, "log variance, rounded"),
        ("a pixel, six logits", PIXEL, ("bernoulli_log_likelihood", np.ones((6, 1)), np.array(LOGITS))),
    ],
    ("elbo", PRCOMP): [("probabilistic PCA, iris", highest, lambda f: probability(f, IRIS, *principal()[:3]))],
    ("elbo", FACTANAL): [("one factor, iris", ANSWERS["factor"]["log_likelihood"], one_factor)],
    ("networks", PRCOMP): [("linear, iris: ELBO", highest, lambda f: elbo(f, linear_vae(f)))],
    ("convolution", "scipy.signal"): [("code of an image, image of a code", by_scipy, convolved)],
    ("autoencoder", PRCOMP): [("linear, iris: log likelihood, squared error", PROJECTED, autoencoder)],
    ("vae", PRCOMP): [
        ("linear, iris: three importance-weighted draws", highest, lambda f: weighted(f, DRAWS).sum()),
        ("encoder too wide: ELBO", lambda: highest(0.5), lambda f: elbo(f, linear_vae(f, 0.5))),
    ],
    ("optimizer", PRCOMP): [("linear VAE, trained: ELBO", highest, trained, 8, "1,600 updates of Adam")],
}
ROWS = rows(TABLE)
