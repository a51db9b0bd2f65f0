"""The tutorial's punch line, measured: one Gaussian, a mixture, an autoencoder and a VAE on the same held-out images.

python -m common.compare.models pytorch_impl build/compare/torch.json
python -m common.compare.models tf2_impl build/compare/tf2.json
python -m common.compare.report build/compare/torch.json build/compare/tf2.json build/compare

Pixels of the digits are whole numbers from 0 to 16, and a density of whole numbers is a density of points: a model that
narrows without end on them would have an infinite likelihood that says nothing. So every pixel is spread over its step,
v = x + u with u uniform in (0, 1), and log p(v) is measured, per image, in nats, in units of one grey level. Then the
expectation of log p(x + u) over u is a lower bound on the log of the probability that the model gives to the image of
whole numbers, P(x) = integral of p(x + u) du (Jensen's inequality), and no model gains by narrowing. The models are
fitted to y = v / 17, in (0, 1), which adds D log 17 to a log density; this is subtracted again.

Source: L. Theis, A. van den Oord, M. Bethge, "A note on the evaluation of generative models", ICLR 2016, section 3.1.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

if not __package__:  # run as a file, python common/compare/models.py, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np

from common import draws
from common.compare.images import GREY_LEVELS, SEED, Parts, Row, Settings, dequantised, in_grey_levels, several, split
from common.networks.training import set_start, updates
from common.parity import importance_standard_error
from common.runs import checkpoint
from common.runs.folder import versions
from common.runs.script import implementation, without_native_stderr
from common.runs.terminal import are_words, help_shown

CHAPTERS = ("estimators", "gaussian", "gmm", "elbo", "networks", "vae", "autoencoder", "optimizer", "backend")


def main(argv: Sequence[str]) -> int:
    """Measure with the implementation, and into the JSON file, that are named; 0, or 2 for bad input."""
    if help_shown(argv, __doc__):
        return 0
    try:
        if not are_words(argv, 2) or argv[0] not in ("pytorch_impl", "tf2_impl"):
            raise ValueError(f"{' '.join(argv)!r}: name an implementation, pytorch_impl or tf2_impl, and a .json file")
        if (path := Path(argv[1])).is_dir():
            raise ValueError(f"{path}: is a folder; name a .json file in it")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"{path}: cannot be written ({error.strerror}); choose another folder") from error
        with without_native_stderr():
            maths = implementation(argv[0], CHAPTERS)
        with maths.backend.device("cpu", 1):
            rows = measure(maths, lambda line: print(f"{argv[0]}: {line}", flush=True))
        report = {"implementation": argv[0], "seed": SEED, "units": "nats per image, in grey levels"}
        report |= {"settings": asdict(Settings()), "versions": versions(), "rows": [row.as_dict() for row in rows]}
        checkpoint.write_atomically(path, (json.dumps(report, indent=1) + "\n").encode())
    except ValueError as error:
        print(f"common.compare.models: error: {error}", file=sys.stderr)
        return 2
    return 0


def measure(maths: SimpleNamespace, tell: Callable[[str], None], settings: Settings | None = None) -> list[Row]:
    """Every line of the table, with one implementation's maths."""
    settings, rows = settings or Settings(), []
    parts = split(settings)
    for model in (one_gaussian, mixture, autoencoders, variational_autoencoders, linear_autoencoder):
        for row in model(maths, parts, settings):
            rows.append(row)
            tell(f"{row.model}: {row.per_image.mean():.2f} nats, {row.kind} {row.chosen or ''}".rstrip())
    return rows


def one_gaussian(maths: SimpleNamespace, parts: Parts, settings: Settings) -> Iterator[Row]:
    """The full covariance of maximum likelihood."""
    fitted = maths.backend.evaluate(maths.gaussian.maximum_likelihood, several(parts, settings))
    y = dequantised(parts.held_out, 1)
    log_density = maths.backend.evaluate(maths.gaussian.log_density, y, *fitted)
    yield Row("one Gaussian, full covariance", "density", in_grey_levels(log_density, y.shape[1]))


def mixture(maths: SimpleNamespace, parts: Parts, settings: Settings) -> Iterator[Row]:
    """EM for each number of components and each reg_covar; the best on the validation images is kept."""
    x, best = several(parts, settings), None
    for k in settings.components:
        for reg in settings.reg_covar:
            arguments = {"reg_covar": reg / GREY_LEVELS**2, "tol": 1e-3, "max_iter": 500, "random_state": SEED}
            fit = maths.estimators.GaussianMixture(k, **arguments).fit(x)
            score = fit.score(dequantised(parts.validation, 0))
            if best is None or score > best[0]:
                best = score, fit, {"components": k, "reg_covar": reg}
    y = dequantised(parts.held_out, 1)
    yield Row("mixture of Gaussians, EM", "density", in_grey_levels(best[1].score_samples(y), y.shape[1]), best[2])


def autoencoders(maths: SimpleNamespace, parts: Parts, settings: Settings) -> Iterator[Row]:
    """The Gaussian around an image's own reconstruction, by size of code; and the density with training centres."""
    evaluate, y, d = maths.backend.evaluate, dequantised(parts.held_out, 1), parts.held_out.shape[1]
    validation, train, best = dequantised(parts.validation, 0), dequantised(parts.train, 2), None
    for codes in settings.codes:
        sizes = d, codes, settings.hidden_dim, settings.activation
        model = maths.autoencoder.Autoencoder(*sizes, dtype="float64")
        epoch = train_network(
            maths, maths.autoencoder, model, parts, settings,
            lambda model=model: -float(evaluate(model.fit_of, validation)[1]),
        )  # fmt: skip
        centres, around = evaluate(model, train), evaluate(model, y)
        log_var = np.log(evaluate(maths.autoencoder.mean_squared_error, train, centres))
        own = evaluate(maths.elbo.gaussian_log_likelihood, y, around, log_var)
        chosen = {"codes": codes, "epoch": epoch, "sigma": grey_deviation(log_var)}
        yield Row(f"autoencoder, L = {codes}: N(x | g(f(x)), σ²I)", "not a density", in_grey_levels(own, d), chosen)
        for factor in settings.bandwidths:
            score = kernel_log_density(maths, validation, centres, log_var + math.log(factor)).mean()
            if best is None or score > best[0]:
                width = log_var + math.log(factor)
                best = score, centres, width, {"codes": codes, "sigma": grey_deviation(width)}
    log_density = kernel_log_density(maths, y, best[1], best[2])
    name = "autoencoder: mean over training images of N(x | g(f(x_m)), σ²I)"
    yield Row(name, "density", in_grey_levels(log_density, d), best[3])


def kernel_log_density(maths: SimpleNamespace, y: np.ndarray, centres: np.ndarray, log_var: np.ndarray) -> np.ndarray:
    """`autoencoder.kernel_log_density`, fifty images at a time."""
    function = maths.autoencoder.kernel_log_density
    pieces = (maths.backend.evaluate(function, y[i : i + 50], centres, log_var) for i in range(0, len(y), 50))
    return np.concatenate(list(pieces))


def variational_autoencoders(maths: SimpleNamespace, parts: Parts, settings: Settings) -> Iterator[Row]:
    """ELBO and importance-weighted estimates of the best VAE with one variance, and of the best with one per pixel."""
    for variance, name in ((None, "VAE, one variance"), ("per-pixel", "VAE, a variance per pixel")):
        best = None
        for codes in settings.latent_dims:
            arguments = {"likelihood": "gaussian", "variance": variance, "dtype": "float64"}
            sizes = parts.train.shape[1], codes, settings.hidden_dim, settings.activation
            model = maths.vae.VAE(*sizes, **arguments)
            epoch, score = train_vae(maths, model, codes, parts, settings)
            if best is None or score > best[0]:
                best = score, model, {"codes": codes, "epoch": epoch, "sigma": decoder_deviation(maths, model)}
        yield from importance_weighted(maths, best[1], name, dequantised(parts.held_out, 1), settings, best[2])


def linear_autoencoder(maths: SimpleNamespace, parts: Parts, settings: Settings) -> Iterator[Row]:
    """Probabilistic PCA as a VAE of affine maps: log p(x) exactly, and as it is estimated."""
    codes, d, evaluate = settings.linear_codes, parts.train.shape[1], maths.backend.evaluate
    model = maths.vae.VAE(d, codes, settings.hidden_dim, "linear", "gaussian", dtype="float64")
    epoch, _ = train_vae(maths, model, codes, parts, settings)
    y, chosen = dequantised(parts.held_out, 1), {"codes": codes, "epoch": epoch}
    # an affine decoder is where it sends the origin and the unit vectors
    offset = evaluate(model.decoder, np.zeros((1, codes)))[0]
    loadings = (evaluate(model.decoder, np.eye(codes)) - offset).T
    log_var = maths.networks.export_parameters(model)["log_var"]
    exact = evaluate(maths.elbo.linear_gaussian_log_evidence, y, loadings, offset, log_var)
    chosen |= {"sigma": grey_deviation(log_var)}
    yield Row("linear VAE (probabilistic PCA), exact", "density", in_grey_levels(exact, d), chosen)
    yield from importance_weighted(maths, model, "linear VAE", y, settings, chosen)


def grey_deviation(log_var: np.ndarray) -> float:
    """A standard deviation in grey levels, from the log variance of y."""
    return round(float(GREY_LEVELS * np.exp(log_var / 2).mean()), 2)


def decoder_deviation(maths: SimpleNamespace, model: Any) -> float:
    """The standard deviation of a Gaussian decoder in grey levels, averaged over pixels that have their own."""
    return grey_deviation(maths.networks.export_parameters(model)["log_var"])


def train_vae(
    maths: SimpleNamespace, model: Any, codes: int, parts: Parts, settings: Settings
) -> tuple[int, float]:  # fmt: skip
    """Train to the best ELBO on the validation images; the epoch and that ELBO."""
    validation = dequantised(parts.validation, 0)
    noise = draws.normals(SEED, "validation", (len(validation), codes))
    scores = []

    def score() -> float:
        scores.append(float(maths.backend.evaluate(model.elbo, validation, noise)[0]))
        return scores[-1]

    return train_network(maths, maths.vae, model, parts, settings, score, codes), max(scores)


def train_network(
    maths: SimpleNamespace, chapter: Any, model: Any, parts: Parts, settings: Settings,
    score: Callable[[], float], codes: int = 0,
) -> int:  # fmt: skip
    """Train until the score has not risen for ``patience`` epochs; the best parameters are kept. Returns their epoch.

    Every epoch spreads the pixels anew. The start is ``gaussian_start`` of the training images.
    """
    y, n = dequantised(parts.train, 2), len(parts.train)
    set_start(maths, model, SEED, y)
    per_epoch = draws.batches_per_epoch(n, settings.batch_size)

    def batches() -> Iterator[tuple[np.ndarray, ...]]:
        for step in range(settings.epochs * per_epoch):
            if step % per_epoch == 0:
                y = dequantised(parts.train, 2 + step // per_epoch)
            rows = draws.minibatch(SEED, step, n, settings.batch_size)
            yield (y[rows], *((draws.normals(SEED, "noise", (len(rows), codes), step),) if codes else ()))

    best, best_epoch, kept = -math.inf, 0, maths.networks.export_parameters(model)
    for step, _ in enumerate(updates(maths, chapter, model, batches(), settings.learning_rate), start=1):
        if step % per_epoch:
            continue
        epoch = step // per_epoch
        if (now := score()) > best:
            best, best_epoch, kept = now, epoch, maths.networks.export_parameters(model)
        elif epoch - best_epoch >= settings.patience:
            break
    maths.networks.import_parameters(model, kept)
    return best_epoch


def importance_weighted(
    maths: SimpleNamespace, model: Any, name: str, y: np.ndarray, settings: Settings, chosen: dict[str, Any]
) -> Iterator[Row]:
    """The ELBO, averaged over all draws, and the estimate of log p(x) from the first S of them, for each S."""
    d, log_weights = y.shape[1], draw_log_weights(maths, model, y, max(settings.draws))
    errors = log_weights.std(axis=0, ddof=1) / math.sqrt(len(log_weights))
    elbo = in_grey_levels(log_weights.mean(axis=0), d)
    yield Row(f"{name}: ELBO", "lower bound", elbo, chosen, mean_error(errors))
    for s in settings.draws:
        estimate = maths.backend.evaluate(maths.elbo.importance_weighted_bound, log_weights[:s])
        error = mean_error(importance_standard_error(log_weights[:s])) if s > 1 else mean_error(errors * math.sqrt(
            len(log_weights)))  # fmt: skip
        yield Row(f"{name}: importance weighted, S = {s}", "estimate", in_grey_levels(estimate, d), chosen, error)


def mean_error(errors: np.ndarray) -> float:
    """The standard error of a mean of independent estimates, from theirs."""
    return float(np.sqrt(np.sum(np.square(errors))) / len(errors))


def draw_log_weights(maths: SimpleNamespace, model: Any, y: np.ndarray, s: int, at_once: int = 50) -> np.ndarray:
    """The log importance weights of s draws from q(z|x) for every image, (s, N)."""
    mean, log_var = maths.backend.evaluate(model.encoder, y)

    def log_weights(y: Any, mean: Any, log_var: Any, noise: Any) -> Any:
        z = maths.elbo.reparameterize(mean, log_var, noise)  # (S, N, L)
        return maths.elbo.log_importance_weights(model.log_likelihood(y, model.decoder(z)), z, mean, log_var)  # (S, N)

    pieces = []
    for first in range(0, s, at_once):
        shape = (min(at_once, s - first), *mean.shape)
        noise = draws.normals(SEED, "held-out", shape, step=1, first_row=first)
        pieces.append(maths.backend.evaluate(log_weights, y, mean, log_var, noise))
    return np.concatenate(pieces)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
