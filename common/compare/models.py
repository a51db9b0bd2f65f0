"""The tutorial's punch line, measured: Gaussian, mixture, autoencoder and VAE on the same held-out images.

python -m common.compare.models pytorch_impl build/compare/torch.json
python -m common.compare.models tf2_impl build/compare/tf2.json
python -m common.compare.report build/compare/torch.json build/compare/tf2.json build/compare

Pixels of the digits are whole numbers from 0 to 16, and a density of whole numbers is a density of points: a
model that narrows without end on them would have an infinite likelihood that says nothing. So every pixel is
spread over its step, v = x + u with u uniform in (0, 1), and log p(v) is measured, per image, in nats, in
units of one grey level. Then the expectation of log p(x + u) over u is a lower bound on the log of the
probability that the model gives to the image of whole numbers, P(x) = integral of p(x + u) du (Jensen's
inequality), and no model gains by narrowing. The models are fitted to y = v / 17, in (0, 1), which adds D log
17 to a log density; this is subtracted again.

Source: L. Theis, A. van den Oord, M. Bethge, "A note on the evaluation of generative models", ICLR 2016,
section 3.1.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import product
from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

if not __package__:  # run as a file, python common/compare/models.py, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np

from common import draws
from common.compare.images import GREY_LEVELS, SEED, Parts, Row, Settings, dequantised, in_grey_levels, several, split
from common.networks.start import set_start
from common.networks.training import minibatches, updates
from common.parity import importance_standard_error
from common.runs import checkpoint
from common.runs.folder import versions
from common.runs.script import implementation
from common.runs.terminal import command, without_native_stderr

NETWORKS = ("layouts", "networks", "vae", "autoencoder", "optimizer")
CHAPTERS = ("estimators", "gaussian", "gmm", "elbo", *NETWORKS, "backend")


def report(package: str, out: str) -> None:
    """Measure with an implementation, print a line a model, and write the JSON file ``out``."""
    with without_native_stderr():
        maths = implementation(package, CHAPTERS)
    if (path := Path(out)).is_dir():
        raise ValueError(f"{path}: is a folder; name a .json file in it")
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    with maths.backend.device("cpu", 1):
        for row in measure(maths, Settings()):
            rows.append(row.as_dict())
            print(f"{package}: {row.model}: {row.per_image.mean():.2f} nats, {row.kind} {row.chosen or ''}", flush=True)
    content = {"implementation": package, "seed": SEED, "units": "nats per image, in grey levels"}
    content |= {"settings": asdict(Settings()), "versions": versions(), "rows": rows}
    checkpoint.write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def measure(maths: SimpleNamespace, settings: Settings) -> Iterator[Row]:
    """Every line of the table, measured with one implementation."""
    parts = split(settings)
    for model in (one_gaussian, mixture, autoencoders, variational_autoencoders, linear_autoencoder):
        yield from model(maths, parts, settings)


def one_gaussian(maths: SimpleNamespace, parts: Parts, settings: Settings) -> Iterator[Row]:
    """The full covariance of maximum likelihood."""
    fitted = maths.backend.evaluate(maths.gaussian.maximum_likelihood, several(parts, settings))
    y = dequantised(parts.held_out, 1)
    log_density = maths.backend.evaluate(maths.gaussian.log_density, y, *fitted)
    yield Row("one Gaussian, full covariance", "density", in_grey_levels(log_density, y.shape[1]))


def mixture(maths: SimpleNamespace, parts: Parts, settings: Settings) -> Iterator[Row]:
    """EM for each number of components and each reg_covar; the best on the validation images is kept."""
    x, y, tried = several(parts, settings), dequantised(parts.held_out, 1), []
    for k, reg in product(settings.components, settings.reg_covar):
        arguments = {"reg_covar": reg / GREY_LEVELS**2, "tol": 1e-3, "max_iter": 500, "random_state": SEED}
        fit = maths.estimators.GaussianMixture(k, **arguments).fit(x)
        tried.append((fit.score(dequantised(parts.validation, 0)), fit, {"components": k, "reg_covar": reg}))
    _, fit, chosen = max(tried, key=itemgetter(0))
    yield Row("mixture of Gaussians, EM", "density", in_grey_levels(fit.score_samples(y), y.shape[1]), chosen)


def autoencoders(maths: SimpleNamespace, parts: Parts, settings: Settings) -> Iterator[Row]:
    """Gaussians around the reconstructions, by size of code; and the density centred on training images."""
    evaluate, y, d = maths.backend.evaluate, dequantised(parts.held_out, 1), parts.held_out.shape[1]
    validation, train, tried = dequantised(parts.validation, 0), dequantised(parts.train, 2), []
    for codes in settings.codes:
        model = maths.autoencoder.Autoencoder(d, codes, settings.hidden_dim, settings.activation, dtype="float64")
        epoch, _ = train_network(maths, model, parts, settings, lambda fitted: -evaluate(fitted.fit_of, validation)[1])
        centres, around = evaluate(model, train), evaluate(model, y)
        log_var = np.log(evaluate(maths.autoencoder.mean_squared_error, train, centres))
        own = evaluate(maths.elbo.gaussian_log_likelihood, y, around, log_var)
        chosen = {"codes": codes, "epoch": epoch, "sigma": grey_deviation(log_var)}
        yield Row(f"autoencoder, L = {codes}: N(x | g(f(x)), σ²I)", "not a density", in_grey_levels(own, d), chosen)
        for factor in settings.bandwidths:
            width = log_var + math.log(factor)
            fit = kernel_log_density(maths, validation, centres, width).mean()
            tried.append((fit, centres, width, {"codes": codes, "sigma": grey_deviation(width)}))
    _, centres, width, chosen = max(tried, key=itemgetter(0))
    name = "autoencoder: mean over training images of N(x | g(f(x_m)), σ²I)"
    yield Row(name, "density", in_grey_levels(kernel_log_density(maths, y, centres, width), d), chosen)


def kernel_log_density(maths: SimpleNamespace, y: np.ndarray, centres: np.ndarray, log_var: np.ndarray) -> np.ndarray:
    """`autoencoder.kernel_log_density`, fifty images at a time."""
    function = maths.autoencoder.kernel_log_density
    pieces = (maths.backend.evaluate(function, y[i : i + 50], centres, log_var) for i in range(0, len(y), 50))
    return np.concatenate(list(pieces))


def variational_autoencoders(maths: SimpleNamespace, parts: Parts, settings: Settings) -> Iterator[Row]:
    """ELBO and estimates of the best VAE with one variance, and of the best with one per pixel."""
    d, y = parts.train.shape[1], dequantised(parts.held_out, 1)
    for variance, name in ((None, "VAE, one variance"), ("per-pixel", "VAE, a variance per pixel")):
        tried = []
        for codes in settings.latent_dims:
            sizes = d, codes, settings.hidden_dim, settings.activation
            model = maths.vae.VAE(*sizes, likelihood="gaussian", variance=variance, dtype="float64")
            epoch, score = train_vae(maths, model, parts, settings)
            sigma = grey_deviation(maths.layouts.export_parameters(model)["log_var"])
            tried.append((score, model, {"codes": codes, "epoch": epoch, "sigma": sigma}))
        _, model, chosen = max(tried, key=itemgetter(0))
        yield from importance_weighted(maths, model, name, y, settings, chosen)


def linear_autoencoder(maths: SimpleNamespace, parts: Parts, settings: Settings) -> Iterator[Row]:
    """Probabilistic PCA as a VAE of affine maps: log p(x) exactly and as estimated."""
    codes, d, evaluate = settings.linear_codes, parts.train.shape[1], maths.backend.evaluate
    model = maths.vae.VAE(d, codes, settings.hidden_dim, "linear", "gaussian", dtype="float64")
    epoch, _ = train_vae(maths, model, parts, settings)
    y, chosen = dequantised(parts.held_out, 1), {"codes": codes, "epoch": epoch}
    # the images of the origin and of the unit vectors determine an affine decoder
    offset = evaluate(model.decoder, np.zeros((1, codes)))[0]
    loadings = (evaluate(model.decoder, np.eye(codes)) - offset).T
    log_var = maths.layouts.export_parameters(model)["log_var"]
    exact = evaluate(maths.elbo.linear_gaussian_log_evidence, y, loadings, offset, log_var)
    chosen |= {"sigma": grey_deviation(log_var)}
    yield Row("linear VAE (probabilistic PCA), exact", "density", in_grey_levels(exact, d), chosen)
    yield from importance_weighted(maths, model, "linear VAE", y, settings, chosen)


def grey_deviation(log_var: np.ndarray) -> float:
    """A standard deviation in grey levels, from the log variance of y."""
    return round(float(GREY_LEVELS * np.exp(log_var / 2).mean()), 2)


def train_vae(maths: SimpleNamespace, model: Any, parts: Parts, settings: Settings) -> tuple[int, float]:
    """Train to the best ELBO on the validation images; return its epoch and its value."""
    validation = dequantised(parts.validation, 0)
    noise = draws.normals(SEED, "validation", (len(validation), model.noise_dim))
    evaluate = maths.backend.evaluate  # with one draw of noise for all epochs
    return train_network(maths, model, parts, settings, lambda fitted: evaluate(fitted.elbo, validation, noise)[0])


def train_network(
    maths: SimpleNamespace, model: Any, parts: Parts, settings: Settings, score: Callable[[Any], float]
) -> tuple[int, float]:
    """Train until the model's score has not risen for ``patience`` epochs; return the best epoch and its score.

    The network then has that epoch's parameters. Every epoch spreads the pixels anew.
    """
    set_start(maths, model, SEED, dequantised(parts.train, 2))
    per_epoch = draws.batches_per_epoch(len(parts.train), settings.batch_size)
    best, best_epoch, kept = -math.inf, 0, maths.layouts.export_parameters(model)
    epochs = (dequantised(parts.train, 2 + epoch) for epoch in range(settings.epochs))
    batches = minibatches(epochs, settings.batch_size, model.noise_dim)
    for step, _ in enumerate(updates(maths, model, batches, settings.learning_rate), start=1):
        if step % per_epoch:
            continue
        epoch = step // per_epoch
        if (now := float(score(model))) > best:
            best, best_epoch, kept = now, epoch, maths.layouts.export_parameters(model)
        elif epoch - best_epoch >= settings.patience:
            break
    maths.layouts.import_parameters(model, kept)
    return best_epoch, best


def importance_weighted(
    maths: SimpleNamespace, model: Any, name: str, y: np.ndarray, settings: Settings, chosen: dict[str, Any]
) -> Iterator[Row]:
    """The ELBO, averaged over all draws, and the estimate of log p(x) from the first S draws, for each S."""
    d, log_weights = y.shape[1], draw_log_weights(maths, model, y, max(settings.draws))
    deviations = log_weights.std(axis=0, ddof=1)
    elbo_error = mean_error(deviations / math.sqrt(len(log_weights)))
    yield Row(f"{name}: ELBO", "lower bound", in_grey_levels(log_weights.mean(axis=0), d), chosen, elbo_error)
    for s in settings.draws:
        estimate = maths.backend.evaluate(maths.elbo.importance_weighted_bound, log_weights[:s])
        error = mean_error(importance_standard_error(log_weights[:s]) if s > 1 else deviations)
        yield Row(f"{name}: importance weighted, S = {s}", "estimate", in_grey_levels(estimate, d), chosen, error)


def mean_error(errors: np.ndarray) -> float:
    """The standard error of a mean of independent estimates, from their standard errors."""
    return float(np.sqrt(np.sum(np.square(errors))) / len(errors))


def draw_log_weights(maths: SimpleNamespace, model: Any, y: np.ndarray, s: int) -> np.ndarray:
    """The log importance weights of s draws from q(z|x) for every image, (s, N)."""
    mean, log_var = maths.backend.evaluate(model.encoder, y)
    pieces = []
    for first in range(0, s, 50):  # draws at once
        shape = (min(50, s - first), *mean.shape)
        noise = draws.normals(SEED, "held-out", shape, step=1, first_row=first)
        pieces.append(maths.backend.evaluate(partial(log_weights, maths, model), y, mean, log_var, noise))
    return np.concatenate(pieces)


def log_weights(maths: SimpleNamespace, model: Any, y: Any, mean: Any, log_var: Any, noise: Any) -> Any:
    """The log importance weights (S, N) of the draws made from noise (S, N, L), as a tensor."""
    z = maths.elbo.reparameterize(mean, log_var, noise)
    return maths.elbo.log_importance_weights(model.log_likelihood(y, model.decoder(z)), z, mean, log_var)


main = partial(command, "common.compare.models", __doc__, report, ("an implementation", "a .json file"))

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
