"""A network's run without its framework: images, starting point, checkpoint, checks, figures and summary."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from common import draws
from common.data import datasets
from common.data.chunks import pieces, share
from common.data.datasets import Dataset
from common.data.messages import require
from common.mixtures.input import check_finite
from common.networks.input import DEFAULT_CHANNELS
from common.networks.start import gaussian_start
from common.runs.folder import RunFolder
from common.runs.options import VAEOptions

DECODED_AT_ONCE = 20_000  # codes, for an estimate of log p(x)
ROWS_AT_ONCE = 500  # a convolution's activations are many times as large as its images
LEAST_EPOCHS, LEAST_UPDATES = 20, 1000  # of a run without --epochs and --steps
LEAST_KL = 0.1  # nats; below this the code is not used
MOMENTS = ("optimizer.first_moment.", "optimizer.second_moment.")


class Batch(NamedTuple):
    """What an update learns from: rows of the training images, their noise, and their part of the minibatch."""

    step: int
    rows: np.ndarray  # (N,)
    noise: np.ndarray  # (N, noise_dim)
    part: float


def image_data(options: VAEOptions) -> tuple[tuple[Dataset, Dataset], dict[str, Any]]:
    """Training and held-out images as the likelihood needs them, and the architecture that fits them.

    Raises InputError if the data are not images, or if a conv model does not know their shape.
    """
    data = datasets.load(options.data, options.data_dir, options.label_column, options.pixel_max, options.columns)
    check_pixels(options, data)
    names = ("model", "likelihood", "variance", "activation", "latent_dim", "hidden_dim")
    architecture = {name: getattr(options, name) for name in names} | {"data_dim": data.x.shape[1]}
    if options.model == "conv":
        channels = DEFAULT_CHANNELS if options.channels is None else options.channels
        architecture |= {"image_shape": list(data.image_shape), "channels": channels}
    train, held_out = (replace(part, x=part.x.astype(options.dtype), held_out=None) for part in data.split())
    if options.likelihood == "bernoulli":
        train, held_out = (replace(part, x=datasets.binarize(part.x)) for part in (train, held_out))
    return (train, held_out), architecture


def check_pixels(options: VAEOptions, data: Dataset) -> None:
    """InputError unless there are two images or more, with pixels in [0, 1] and a shape for the model."""
    for part in (data, data.held_out):
        if part is None:
            continue
        check_finite("data", part.x)
        low, high = part.x.min(), part.x.max()
        remedy = "or give the value of a white one by {pixel_max}, and a column of labels by {label_column}"
        problem = f"has values from {low:g} to {high:g}; scale pixels to [0, 1], {remedy}"
        require(low >= 0 and high <= 1, "data", problem)
    problem = f"needs square images, and the data have {data.x.shape[1]} numbers a row; use {{model=dense}}"
    require(options.model != "conv" or data.image_shape is not None, "model", problem, options.model)
    require(len(data.x) >= 2, "data", f"has {len(data.x)} row, too few to train and to hold out; give more")


def starting_point(
    run: RunFolder, parts: tuple[str, ...], shapes: dict[str, tuple[int, ...]], x: np.ndarray
) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]], int]:
    """Parameters, both moments and the step that a run starts from.

    A resumed run reads them; its metrics must hold the ``parts`` of the objective. A new run draws them,
    except for a Gaussian decoder's bias and variance, which come from the training images x.
    """
    if run.start is None:
        zeros = [{name: np.zeros(shape) for name, shape in shapes.items()} for _ in MOMENTS]
        of_images = gaussian_start(shapes, x) if run.options.likelihood == "gaussian" else {}
        return draws.initial_values(run.options.seed, shapes) | of_images, zeros, 0
    arrays, step = run.start
    run.check_history(*parts)
    run.check_arrays({f"{prefix}{name}": shape for prefix in ("", *MOMENTS) for name, shape in shapes.items()})
    moments = [{name: arrays[prefix + name] for name in shapes} for prefix in MOMENTS]
    return {name: arrays[name] for name in shapes}, moments, step


def checkpoint_arrays(
    precision: str, parameters: dict[str, np.ndarray], moments: list[dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint; in a reproducible run single precision holds the parameters exactly."""
    if precision == "reproducible":
        parameters = {name: value.astype(np.float32) for name, value in parameters.items()}
    named = zip(MOMENTS, moments, strict=True)
    return parameters | {prefix + name: moment[name] for prefix, moment in named for name in parameters}


def in_pieces(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """``function`` of all rows of x, a piece at a time to save memory."""
    return np.concatenate([function(piece) for _, piece in pieces(x, ROWS_AT_ONCE)])


def held_out_pieces(seed: int, x: np.ndarray, noise_dim: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Held-out images, a piece at a time, and their noise, the same every time."""
    for first, piece in pieces(x, ROWS_AT_ONCE):
        yield piece, draws.normals(seed, "held-out", (len(piece), noise_dim), 0, first)


def mean_terms(terms: Sequence[tuple[int, Any]]) -> dict[str, float]:
    """The mean terms of all images by name, from the number of images of each piece and their mean terms."""
    n = sum(rows for rows, _ in terms)
    values = [list(map(float, of_piece)) for _, of_piece in terms]
    means = np.average(values, axis=0, weights=[rows / n for rows, _ in terms])
    return dict(zip(terms[0][1]._fields, means.tolist(), strict=True))


def estimated_evidence(options: VAEOptions, network: Any, x: np.ndarray) -> dict[str, float]:
    """The mean log p(x) of held-out images by importance sampling, and its standard error, if asked for."""
    if (s := options.importance_samples) == 0:
        return {}
    values = []
    for first, piece in pieces(x, max(1, DECODED_AT_ONCE // s)):
        drawn = draws.normals(options.seed, "held-out", (len(piece), s, options.latent_dim), 1, first)
        values.append(network.log_evidence(piece, drawn.transpose(1, 0, 2)))
    log_evidence = np.concatenate(values).astype(np.float64)
    error = float(log_evidence.std() / math.sqrt(len(x)))
    return {"log_evidence": float(log_evidence.mean()), "log_evidence_error": error}


def own_share(n: int, workers: Any) -> tuple[slice, float]:
    """This worker's rows of a minibatch of n and their share of it; without any, one row whose share is 0."""
    own = share(n, workers.rank, workers.size)
    return (own, (own.stop - own.start) / n) if own.stop > own.start else (slice(0, 1), 0.0)


def last_step(options: VAEOptions, n: int) -> int:
    """The number of the last update of a run."""
    per_epoch = draws.batches_per_epoch(n, options.batch_size)
    epochs = max(LEAST_EPOCHS, -(-LEAST_UPDATES // per_epoch)) if options.epochs is None else options.epochs
    return epochs * per_epoch if options.steps is None else options.steps


def stretches(options: VAEOptions, n: int, batches: Iterable[Batch], at_once: int) -> Iterator[Sequence[Batch]]:
    """The batches of a run, ``at_once`` together, or fewer.

    A stretch ends where the network is looked at: after an epoch of n images, and where its hashes are due.
    """
    looks = {draws.batches_per_epoch(n, options.batch_size), options.hash_interval} - {0}
    stretch: list[Batch] = []
    for batch in batches:
        stretch.append(batch)
        if len(stretch) == at_once or any(batch.step % look == 0 for look in looks):
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def check_loss(options: VAEOptions, step: int, loss: float, squared_error: float | None = None) -> None:
    """InputError if training has diverged, or fits so well that the most likely variance is zero."""
    problem = f"is reconstructed without error at update {step}, so the most likely variance is zero and"
    has_error = squared_error != 0 or options.variance is not None
    require(has_error, "data", f"{problem} the likelihood infinite; give a {{variance}}")
    problem = f"the loss became {loss} at update {step}; lower the rate"
    require(math.isfinite(loss), "learning_rate", problem, options.learning_rate)


def unused_code(options: VAEOptions, kl: float) -> dict[str, str]:
    """Warn if the code is not used (KL below 0.1 nats), and return the summary's entry.

    Then q(z|x) is the prior for every x, and the decoder makes the same image of every code.
    """
    if kl >= LEAST_KL:
        return {}
    remedy = "train longer (--epochs), or with a higher --learning-rate"
    if options.likelihood == "gaussian":
        remedy += ", or a smaller --variance" + ("" if isinstance(options.variance, float) else ", such as 0.01")
    if not options.quiet:
        message = f"the code is not used, its KL is {kl:.3f} nats: all images are reconstructed alike; {remedy}"
        warnings.warn(message, UserWarning, stacklevel=2)
    return {"code": "not used"}


def finish(run: RunFolder, network: Any, training_set: Dataset, held_out: Dataset) -> None:
    """Figures and summary of a run, from the network's codes and decoded images.

    Samples of a VAE are decoded draws from its prior. A plain autoencoder has no prior; its codes are drawn
    from the Gaussian with the mean and the covariance of the training images' codes.
    """
    from common.figures import runs as figures

    terms = network.held_out_terms(held_out.x) | estimated_evidence(run.options, network, held_out.x)
    codes = in_pieces(network.encode, held_out.x)
    drawn, source = draws.normals(run.options.seed, "prior", (100, codes.shape[1])), "the prior"
    if run.options.model == "autoencoder":
        of_training, source = in_pieces(network.encode, training_set.x), "a Gaussian fitted to the codes"
        drawn = draws.like(of_training, run.options.seed, 100)
    run.save_figure("losses", figures.losses, run.history)
    run.save_figure("latent_space", figures.latent_space, codes, held_out.labels, held_out.label_names)
    if (shape := held_out.image_shape) is not None:
        decoded = network.decode(codes[:10])
        run.save_figure("reconstructions", figures.reconstructions, held_out.x[:10], decoded, shape)
        run.save_figure("samples", figures.samples, network.decode(drawn), shape, source)
    unused = unused_code(run.options, terms["kl"]) if run.writes and "kl" in terms else {}
    last = run.history[-1] if run.history else {"step": 0, "loss": math.nan}
    of_held_out = {f"held_out_{name}": value for name, value in terms.items()}
    run.summary(updates=last["step"], last_minibatch_loss=last["loss"], **of_held_out, **unused)
