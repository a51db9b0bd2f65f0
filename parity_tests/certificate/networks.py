"""Bounds, networks and their training: principal components by R, SciPy's convolutions, arithmetic of 50 digits."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from mpmath import mp, mpf
from scipy.signal import convolve2d, correlate2d

from parity_tests.certificate.mixtures import table
from parity_tests.certificate.scoring import ANSWERS, FIFTY, Framework, R, flat, of_cases, rows
from parity_tests.support.frameworks import in_mode

PRCOMP, FACTANAL = f"{R}, prcomp", f"{R}, factanal"
N, D, L = 150, 4, 2  # irises, their measures, the codes'
LINEAR = dict(data_dim=D, latent_dim=L, hidden_dim=D, activation="linear")
CROSS = np.sqrt(L) * np.concatenate([np.eye(L), -np.eye(L)])  # (S, L), with the moments of normal noise
PIXELS, NOISE = np.array([[1.0, 0, 0, 1, 1], [0, 1, 1, 1, 0]]), np.array([[0.3, -1.2], [0.8, 0.1]])
IMAGE, CODE = np.arange(42).reshape(7, 6) % 5 - 1.7, np.array([0.4, -1.1, 0.7])
MOMENTS = [(1.0, -3.0, -20.0, 2.5), (1e-4, 1e-3, 0.0, -2e-3)]  # two means and log variances: far off, nearby
LOGITS = [(a,) for a in (-800.0, -30.0, -1.0, 0.0, 1e-9, 40.0)]


def drawn(layers: str) -> dict[str, np.ndarray]:
    """Weights and biases of three decimals of layers that are given as name:shape."""
    rng, values = np.random.default_rng(20), {}
    for layer, shape in (text.split(":") for text in layers.split()):
        sizes = tuple(map(int, shape.split("x")))
        values[f"{layer}.weight"] = rng.normal(size=sizes).round(3)
        values[f"{layer}.bias"] = rng.normal(size=sizes["transpose" in layer]).round(3)
    return values


DENSE = drawn("encoder.hidden:3x5 encoder.mean:2x3 encoder.log_var:2x3 decoder.hidden:3x2 decoder.out:5x3")
CONV = drawn("encoder.conv1:2x1x3x3 encoder.conv2:4x2x3x3 encoder.hidden:4x16 encoder.mean:3x4 encoder.log_var:3x4")
CONV |= drawn(
    "decoder.hidden:4x3 decoder.features:16x4 decoder.conv_transpose1:4x2x3x3 decoder.conv_transpose2:2x1x3x3"
)


def eigenvalues() -> list[mpf]:
    """Those of the irises' covariance, by R, largest first."""
    return [mpf(value) * (N - 1) / N for value in ANSWERS["components"]]


def highest(wider: float = 0.0) -> mpf:
    """The log likelihood of probabilistic PCA at its maximum, from R's eigenvalues, less the divergence of an encoder
    with log variances too large by ``wider``.

    Source: M. Tipping, C. Bishop, "Probabilistic principal component analysis", JRSS B 61 (1999), section 3.2.
    """
    kept, lost = eigenvalues()[:L], eigenvalues()[L:]
    volume = sum(map(mp.log, kept)) + (D - L) * mp.log(sum(lost) / (D - L))
    return -N * (D * mp.log(2 * mp.pi) + volume + D + L * (mp.exp(wider) - 1 - wider)) / 2


@cache
def principal() -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Loadings (D, L), offset, variance and the codes' posterior variances of the same."""
    values, vectors = np.linalg.eigh(np.cov(table("iris").T, bias=True))
    variance = values[: D - L].mean()
    loadings = vectors[:, D - L :] * np.sqrt(values[D - L :] - variance)
    return loadings, table("iris").mean(axis=0), variance, variance / values[D - L :]


def model(framework: Framework, page: str, name: str, values: dict[str, Any], **arguments: Any) -> Any:
    """A model of a page with these parameters."""
    built = getattr(framework.page(page), name)(dtype="float64", **arguments)
    framework.page("layouts").import_parameters(built, values)
    return built


def linear(loadings: np.ndarray, **of_codes: Any) -> dict[str, np.ndarray]:
    """The parameters of a linear encoder and decoder, from loadings and the layers of the code: weights."""
    values = {"encoder.hidden": (np.eye(D), -principal()[1]), "decoder.hidden": (np.eye(D)[:, :L], np.zeros(D))}
    values |= {f"encoder.{layer}": (weight, np.zeros(L)) for layer, weight in of_codes.items()}
    values["decoder.out"] = np.pad(loadings, ((0, 0), (0, D - L))), principal()[1]
    return {
        f"{layer}.{part}": v for layer, pair in values.items() for part, v in zip(("weight", "bias"), pair, strict=True)
    }


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
    return flat(run(linear_vae(framework, wider), *framework.tensors(table("iris"), noise)))


def batch(framework: Framework, x: np.ndarray) -> list:
    """Rows and noise of which the average is the expectation, since an affine decoder's terms are quadratic."""
    return framework.tensors(np.tile(x, (len(CROSS), 1)), np.repeat(CROSS, len(x), axis=0))


def elbo(framework: Framework, wider: float) -> float:
    """The ELBO of all irises, the expectation exact."""
    return N * float(linear_vae(framework, wider).elbo(*batch(framework, table("iris"))).elbo)


def trained(framework: Framework, rates: Sequence[float] = (0.03, 0.01, 0.003, 0.001), updates: int = 400) -> float:
    """The same of a linear VAE after so many updates of Adam at each rate, from small weights."""
    rng, networks = np.random.default_rng(0), framework.page("networks")
    shapes = framework.page("layouts").export_parameters(linear_vae(framework))
    start = {name: 0.3 * rng.normal(size=np.shape(value)) for name, value in shapes.items()}
    vae = model(framework, "vae", "VAE", start, likelihood="gaussian", **LINEAR)
    given = batch(framework, table("iris") - principal()[1])
    gradients = in_mode(framework.module, lambda *b: networks.loss_and_gradients(vae, *b)[1], "function")
    for rate in rates:
        adam = framework.page("optimizer").Adam(networks.named_parameters(vae), rate)
        for _ in range(updates):
            adam.update(gradients(*given))
    return N * float(vae.elbo(*given).elbo)


def autoencoder(framework: Framework) -> np.ndarray:
    """Log likelihood of an iris, and squared error, of the projection onto the first components."""
    directions = principal()[0] / np.linalg.norm(principal()[0], axis=0)  # (D, L)
    built = model(framework, "autoencoder", "Autoencoder", linear(directions, code=directions.T), **LINEAR)
    return flat(built.fit_of(*framework.tensors(table("iris"))))


def small_vae() -> list[mpf]:
    """ELBO, reconstruction and divergence of a small VAE, by the formulas."""
    p = {name: mp.matrix(value.tolist()) for name, value in DENSE.items()}
    layer = lambda name, v: p[f"{name}.weight"] * v + p[f"{name}.bias"]  # noqa: E731
    reconstruction = kl = mpf(0)
    for x, noise in zip(PIXELS, NOISE, strict=True):
        hidden = layer("encoder.hidden", mp.matrix(x.tolist())).apply(mp.tanh)
        mean, log_var = layer("encoder.mean", hidden), layer("encoder.log_var", hidden)
        z = mp.matrix([m + mp.exp(v / 2) * mpf(e) for m, v, e in zip(mean, log_var, noise, strict=True)])
        logits = layer("decoder.out", layer("decoder.hidden", z).apply(mp.tanh))
        reconstruction += sum(int(b) * a - mp.log1p(mp.exp(a)) for b, a in zip(x, logits, strict=True)) / 2
        kl += divergence(mean[0], log_var[0], mean[1], log_var[1]) / 2
    return [reconstruction - kl, reconstruction, kl]


def small_elbo(framework: Framework) -> np.ndarray:
    """The same by the model."""
    vae = model(framework, "vae", "VAE", DENSE, data_dim=5, latent_dim=2, hidden_dim=3)
    return flat(vae.elbo(*framework.tensors(PIXELS, NOISE)))


def convolved(framework: Framework) -> np.ndarray:
    """Mean and log variance of an image's code, and the image of another code, by convolutions."""
    sizes = dict(data_dim=42, latent_dim=3, hidden_dim=4, image_shape=IMAGE.shape, channels=2, activation="linear")
    vae = model(framework, "vae", "VAE", CONV, model="conv", **sizes)
    image, code = framework.tensors(IMAGE.reshape(1, -1), CODE[None])
    return flat((vae.encoder(image), vae.decoder(code)))


def by_scipy() -> np.ndarray:
    """The same: every second value of a correlation; and convolutions of maps with zeros in between."""
    layer = lambda name, v: CONV[f"{name}.weight"] @ v + CONV[f"{name}.bias"]  # noqa: E731
    maps = IMAGE[None]
    for name in ("encoder.conv1", "encoder.conv2"):
        maps = np.pad(maps, [(0, 0), *((size % 2, 1) for size in maps.shape[1:])])
        sums = [sum(map(correlate2d, maps, kernel, ["valid"] * 4))[::2, ::2] for kernel in CONV[f"{name}.weight"]]
        maps = np.stack(sums) + CONV[f"{name}.bias"][:, None, None]
    hidden = layer("encoder.hidden", maps.ravel())
    drawn_maps = layer("decoder.features", layer("decoder.hidden", CODE)).reshape(4, 2, 2)
    for name, (h, w) in (("decoder.conv_transpose1", (4, 3)), ("decoder.conv_transpose2", IMAGE.shape)):
        apart = np.zeros((len(drawn_maps), *(2 * size - 1 for size in drawn_maps.shape[1:])))
        apart[:, ::2, ::2] = drawn_maps
        sums = [sum(map(convolve2d, apart, kernel)) for kernel in CONV[f"{name}.weight"].swapaxes(0, 1)]
        drawn_maps = np.stack(sums)[:, h % 2 :, w % 2 :][:, :h, :w] + CONV[f"{name}.bias"][:, None, None]
    return np.concatenate([layer("encoder.mean", hidden), layer("encoder.log_var", hidden), drawn_maps.ravel()])


def adam(x: mpf, rate: float = 0.1, betas: tuple[float, float] = (0.9, 0.999), steps: int = 100) -> mpf:
    """Adam's way down x^2 / 2, by its recursion.

    Source: D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, Algorithm 1.
    """
    (b1, b2), m, v = map(mpf, betas), mpf(0), mpf(0)
    for t in range(1, steps + 1):
        m, v = b1 * m + (1 - b1) * x, b2 * v + (1 - b2) * x * x
        x -= rate * (m / (1 - b1**t)) / (mp.sqrt(v / (1 - b2**t)) + mpf(1e-8))
    return x


def updated(framework: Framework, steps: int = 100) -> np.ndarray:
    """The same by the page's update."""
    page, (parameter,) = framework.page("optimizer"), framework.tensors([1.0, -3.0])
    moments = (0 * parameter, 0 * parameter)
    for t in range(1, steps + 1):
        parameter, *moments = page.adam_update(parameter, parameter, *moments, page.bias_corrections(t), 0.1)
    return flat(parameter)


def divergence(m1: mpf, v1: mpf, m2: mpf, v2: mpf) -> mpf:
    """Of a Gaussian of two dimensions, given by means and log variances, from the standard normal."""
    return (m1**2 + mp.exp(v1) - 1 - v1 + m2**2 + mp.exp(v2) - 1 - v2) / 2


def probability(framework: Framework, x: np.ndarray, loadings: Any, offset: Any, variances: Any) -> float:
    """The log likelihood of a linear Gaussian model."""
    return framework.call("elbo", "linear_gaussian_log_evidence", x, loadings, offset, np.log(variances)).sum()


IRIS, FACTOR = table("iris"), ANSWERS["factor"]
STANDARD = (IRIS - IRIS.mean(axis=0)) / IRIS.std(axis=0)
ONE = STANDARD, np.array(FACTOR["loadings"])[:, None], np.zeros(D), FACTOR["uniquenesses"]
LOST = sum(eigenvalues()[L:]) / D
PROJECTED = [-mpf(D) / 2 * (mp.log(2 * mp.pi * LOST) + 1), LOST]
THREE_DRAWS = np.random.default_rng(1).normal(size=(3, N, L))
PIXEL = of_cases(lambda a: -mp.log1p(mp.exp(-a)), LOGITS)
KL = np.array(MOMENTS)[:, ::2], np.array(MOMENTS)[:, 1::2]
TABLE = {
    ("elbo", FIFTY): [
        ("divergence, far and near", of_cases(divergence, MOMENTS), ("gaussian_kl_to_standard_normal", *KL)),
        ("a pixel, six logits", PIXEL, ("bernoulli_log_likelihood", np.ones((6, 1)), np.array(LOGITS))),
    ],
    ("elbo", PRCOMP): [("probabilistic PCA, iris", highest, lambda f: probability(f, IRIS, *principal()[:3]))],
    ("elbo", FACTANAL): [("one factor, iris", FACTOR["log_likelihood"], lambda f: probability(f, *ONE))],
    ("vae", PRCOMP): [
        ("linear, exact encoder, three draws", highest, lambda f: weighted(f, THREE_DRAWS).sum()),
        ("linear, exact encoder: ELBO", highest, lambda f: elbo(f, 0.0)),
        ("linear, encoder too wide: ELBO", lambda: highest(0.5), lambda f: elbo(f, 0.5)),
        ("linear, trained by Adam: ELBO", highest, trained, 8, "1,600 updates"),
    ],
    ("networks", FIFTY): [("small VAE: ELBO, reconstruction, divergence", small_vae, small_elbo)],
    ("convolution", "scipy.signal"): [("code of an image, image of a code", by_scipy, convolved)],
    ("autoencoder", PRCOMP): [("linear, iris: log likelihood, squared error", PROJECTED, autoencoder)],
    ("optimizer", FIFTY): [("100 updates of x^2 / 2", of_cases(adam, [(1,), (-3,)]), updated)],
}
ROWS = rows(TABLE)
