"""The shared parts of the networks' training scripts beside the loop: checked images, starting points, figures."""

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from common import draws
from common.data import datasets
from common.data.datasets import Dataset
from common.data.passes import share
from common.mixtures.input import check_finite
from common.networks.training import gaussian_start
from common.runs.folder import RunFolder
from common.runs.options import VAEOptions

DEFAULT_CHANNELS = 32
DECODED_AT_ONCE = 20_000  # codes, for an estimate of log p(x)
ROWS_AT_ONCE = 500  # a convolution's activations are many times as large as its images
LEAST_EPOCHS, LEAST_UPDATES = 20, 1000  # of a run that is not told how long to be: few images take more epochs
LEAST_KL = 0.1  # nats; a code that says less about its image is not used
MOMENTS = ("optimizer.first_moment.", "optimizer.second_moment.")


def image_data(options: VAEOptions) -> tuple[tuple[Dataset, Dataset], dict[str, Any]]:
    """Training and held-out images as the likelihood needs them, and the architecture that fits them.

    Raises ValueError, in one line, if the data are no images, or images of unknown shape and the model is a conv one.
    """
    data = datasets.load(options.data, options.data_dir, options.label_column, options.pixel_max, options.columns)
    for part in (data, data.held_out):
        if part is not None:
            check_finite(f"--data {options.data}", part.x)
            if part.x.min() < 0 or part.x.max() > 1:
                raise ValueError(
                    f"--data {options.data}: values from {part.x.min():g} to {part.x.max():g}; scale pixels to [0, 1], "
                    "or say what a white one has by --pixel-max, and which column is none by --label-column"
                )
    if options.model == "conv" and data.image_shape is None:
        raise ValueError(f"--model conv: --data {options.data} has rows of {data.x.shape[1]} numbers, which are not "
                         "square images; use --model dense")  # fmt: skip
    if len(data.x) < 2:
        raise ValueError(f"--data {options.data}: {len(data.x)} row is too few to train and to hold out; give more")

    def ready(part: Dataset) -> Dataset:
        x = part.x.astype(options.dtype)
        x = datasets.binarize(x) if options.likelihood == "bernoulli" else x
        return replace(part, x=x, held_out=None)

    train, held_out = data.split()
    names = ("model", "likelihood", "variance", "activation", "latent_dim", "hidden_dim")
    architecture = {name: getattr(options, name) for name in names} | {"data_dim": data.x.shape[1]}
    if options.model == "conv":
        architecture |= {"image_shape": list(data.image_shape), "channels": channels(options)}
    return (ready(train), ready(held_out)), architecture


def channels(options: VAEOptions) -> int:
    """The channels of a conv model's first convolution: the default, unless the command line names them."""
    return DEFAULT_CHANNELS if options.channels is None else options.channels


def vae_start(
    run: RunFolder, shapes: dict[str, tuple[int, ...]], x: np.ndarray
) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]], int]:
    """Parameters, both moments and the step that a run starts from.

    A resumed run reads them. A new run draws them; a Gaussian decoder's bias and variance come from the training
    images x.
    """
    if run.start is None:
        zeros = [{name: np.zeros(shape) for name, shape in shapes.items()} for _ in MOMENTS]
        of_images = gaussian_start(shapes, x) if run.options.likelihood == "gaussian" else {}
        return draws.initial_values(run.options.seed, shapes) | of_images, zeros, 0
    arrays, step = run.start
    run.check_history(*(("squared_error",) if run.options.model == "autoencoder" else ("reconstruction", "kl")))
    run.check_arrays({f"{prefix}{name}": shape for prefix in ("", *MOMENTS) for name, shape in shapes.items()})
    moments = [{k.removeprefix(p): v for k, v in arrays.items() if k.startswith(p)} for p in MOMENTS]
    return {k: v for k, v in arrays.items() if not k.startswith("optimizer.")}, moments, step


def vae_state(
    precision: str, parameters: dict[str, np.ndarray], moments: list[dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The arrays of a VAE's checkpoint; reproducible parameters are single-precision numbers and stored as such."""
    if precision == "reproducible":
        parameters = {name: value.astype(np.float32) for name, value in parameters.items()}
    named = (f"{prefix}{name}" for prefix in MOMENTS for name in parameters)
    values = (moment[name] for moment in moments for name in parameters)
    return parameters | dict(zip(named, values, strict=True))


def chunks(n: int) -> list[slice]:
    """Rows 0 to n - 1 in pieces, so that memory does not grow with the number of images."""
    return [slice(first, min(first + ROWS_AT_ONCE, n)) for first in range(0, n, ROWS_AT_ONCE)]


def in_pieces(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """``function`` of all rows of x, a piece at a time."""
    return np.concatenate([function(x[rows]) for rows in chunks(len(x))])


def mean_bound(bound_of: Callable[[slice], tuple[Any, Any, Any]], n: int) -> tuple[float, float, float]:
    """The ELBO and its parts, averaged over n rows, from ``bound_of(rows)``, their averages over a slice."""
    bounds = [[float(term) for term in bound_of(rows)] for rows in chunks(n)]
    return tuple(np.average(bounds, axis=0, weights=[(rows.stop - rows.start) / n for rows in chunks(n)]).tolist())


def importance_noise(options: VAEOptions, rows: slice) -> np.ndarray:
    """Standard normal draws for some of the held-out images, (S, N, L), whichever images they are computed with."""
    s, n, latent = options.importance_samples, rows.stop - rows.start, options.latent_dim
    drawn = draws.normals(options.seed, "held-out", (n, s, latent), 1, rows.start)
    return drawn.transpose(1, 0, 2).astype(options.dtype)


def estimated_evidence(options: VAEOptions, log_evidence: Callable[[slice], np.ndarray], n: int) -> dict[str, float]:
    """The mean log p(x) of n held-out images by importance sampling, and its standard error, if asked for."""
    if not options.importance_samples:
        return {}
    size = max(1, DECODED_AT_ONCE // options.importance_samples)
    values = np.concatenate([log_evidence(slice(i, min(i + size, n))) for i in range(0, n, size)]).astype(np.float64)
    return {"log_evidence": float(values.mean()), "log_evidence_error": float(values.std() / math.sqrt(n))}


def own_share(n: int, workers: Any) -> tuple[slice, float]:
    """This worker's rows of a minibatch of n, and the part that they are; one of no weight, if there are too few."""
    own = share(n, workers.rank, workers.size)
    return (own, (own.stop - own.start) / n) if own.stop > own.start else (slice(0, 1), 0.0)


def last_step(options: VAEOptions, n: int) -> int:
    """The update at which a run ends."""
    per_epoch = draws.batches_per_epoch(n, options.batch_size)
    epochs = max(LEAST_EPOCHS, -(-LEAST_UPDATES // per_epoch)) if options.epochs is None else options.epochs
    return epochs * per_epoch if options.steps is None else options.steps


def check_loss(run: RunFolder, step: int, loss: float, squared_error: float | None = None) -> float:
    """The loss; ValueError if training has diverged, or fits so well that the most likely variance is zero."""
    if squared_error == 0 and run.options.variance is None:
        raise ValueError(
            f"--data {run.options.data}: reconstructed without error at update {step}, where the most likely variance "
            "is zero and the likelihood infinite; give a --variance"
        )
    if not math.isfinite(loss):
        rate = run.options.learning_rate
        raise ValueError(f"--learning-rate {rate:g}: the loss became {loss} at update {step}; lower the rate")
    return loss


def unused_code(options: VAEOptions, kl: float) -> dict[str, str]:
    """Warns that the code is not used (KL below 0.1 nats), and returns the summary's entry.

    Then q(z|x) is the prior whatever x is, and the decoder makes the same image of every code.
    """
    if kl >= LEAST_KL:
        return {}
    remedy = "train longer (--epochs), or with a higher --learning-rate"
    if options.likelihood == "gaussian":
        remedy += ", or a smaller --variance" + ("" if isinstance(options.variance, float) else ", such as 0.01")
    if not options.quiet:
        warnings.warn(f"the code is not used, its KL is {kl:.3f} nats: all images are reconstructed alike; {remedy}",
                      UserWarning, stacklevel=2)  # fmt: skip
    return {"code": "not used"}


def finish_vae(
    run: RunFolder,
    data: tuple[Dataset, Dataset],
    held_out_terms: dict[str, float],
    encode: Callable[[np.ndarray], np.ndarray],
    decode: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Figures and summary of a run, from the codes (or their means) ``encode(x)`` and expected pixels ``decode(z)``.

    Samples of a VAE are decoded draws from its prior. A plain autoencoder has none, and its codes lie where they like:
    it is sampled from the Gaussian that has the mean and the covariance of the training images' codes.
    """
    from common.figures import runs as figures

    training_set, held_out = data
    codes = in_pieces(encode, held_out.x)
    if run.options.model == "autoencoder":
        of_training, name = in_pieces(encode, training_set.x), "a Gaussian fitted to the codes"
        drawn = draws.like(of_training, run.options.seed, 100)
    else:
        drawn, name = draws.normals(run.options.seed, "prior", (100, codes.shape[1])), "the prior"
    drawn = drawn.astype(held_out.x.dtype)
    run.save_figure("losses", figures.losses, run.history)
    run.save_figure("latent_space", figures.latent_space, codes, held_out.labels, held_out.label_names)
    if held_out.image_shape is not None:
        shown = held_out.x[:10]
        run.save_figure("reconstructions", figures.reconstructions, shown, decode(codes[:10]), held_out.image_shape)
        run.save_figure("samples", figures.samples, decode(drawn), held_out.image_shape, name)
    is_told = run.writes and "kl" in held_out_terms
    unused = unused_code(run.options, held_out_terms["kl"]) if is_told else {}
    last = run.history[-1] if run.history else {"step": 0, "loss": math.nan}
    run.summary(
        updates=last["step"],
        last_minibatch_loss=last["loss"],
        **{f"held_out_{name}": value for name, value in held_out_terms.items()},
        **unused,
    )
