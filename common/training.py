"""What the training scripts share beside the loop: checked data, starting points, and what a finished run shows."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from common import datasets, draws
from common.chunks import Chunks, chunk_rows, rows_to_start_from, share, spread_rows, take_rows
from common.datasets import Dataset
from common.em_driver import run_em
from common.missing_checks import check_missing, mean_imputed
from common.mixture_checks import check_finite, check_size, check_spread, covariance_shape, precisions_cholesky
from common.mixture_prior import MixturePrior, default_prior
from common.mixture_start import initial_responsibilities
from common.options import GMMOptions, VAEOptions
from common.readers import reason
from common.rounding import round_mixture, round_posterior
from common.run_folder import RunFolder
from common.variational_prior import (
    PRIOR_TYPES,
    VariationalPosterior,
    VariationalPrior,
    make_prior,
    posterior_shapes,
)

DEFAULT_REG_COVAR = 1e-6
DEFAULT_CHANNELS = 32
DECODED_AT_ONCE = 20_000  # codes, for an estimate of log p(x)
ROWS_AT_ONCE = 500  # a convolution's activations are many times as large as its images
ROWS_IN_A_FIGURE = 20_000
OBJECTIVE = {"em": "log_likelihood", "map": "log_posterior", "variational": "lower_bound"}
FIGURE = {"em": "log_likelihood", "map": "log_likelihood", "variational": "lower_bound"}
MOMENTS = ("optimizer.first_moment.", "optimizer.second_moment.")


def dtype_of(precision: str) -> str:
    """The floating-point type that a precision computes in."""
    return "float32" if precision == "float32" else "float64"


class MixtureData(NamedTuple):
    """What a mixture is fitted to: ``x`` has zeros where ``observed`` is False; None if everything was observed.

    A file that is mapped into memory and goes ``in_chunks`` stays where it is, in its own floating-point type.
    """

    dataset: Dataset
    x: np.ndarray
    observed: np.ndarray | None
    prior: MixturePrior | VariationalPrior | None
    in_chunks: bool


def mixture_data(options: GMMOptions) -> tuple[MixtureData, dict[str, Any]]:
    """Data and architecture of a mixture run; ValueError, in one line, if no mixture can be fitted to them."""
    dataset = datasets.load(options.data, options.data_dir, options.label_column)
    name = f"--data {options.data}"
    x, observed, dtype = dataset.x, None, np.dtype(dtype_of(options.precision))
    in_chunks = options.method == "em" and len(x) > chunk_rows(x.shape[1], options.components)
    if options.missing == "em" and np.isnan(x).any():
        in_chunks = False
        x, observed = check_missing(x.astype(dtype), name)
    elif not in_chunks:
        x = np.array(x, dtype=dtype)
    check_finite(name, x, "remove those rows, fill them in, or add --missing em")
    if len(x) < 2:
        raise ValueError(f"{name}: {len(x)} row(s) have no spread to fit; give at least 2")
    if len(x) < options.components:
        raise ValueError(f"--components {options.components}: the data have only {len(x)} rows; ask for fewer")
    check_size(name, x, dtype)
    # without an explicit --reg-covar, a constant column is refused
    remedy = "or name a --reg-covar above 0" if options.method != "map" else ""
    check_spread(name, filled(x, observed), options.covariance, options.reg_covar or 0.0, remedy)
    sizes = {"components": options.components, "covariance": options.covariance, "data_dim": x.shape[1]}
    if options.method == "variational":
        prior = variational_prior(options, x)
        return MixtureData(dataset, x, observed, prior, in_chunks), {"model": "variational gmm"} | sizes
    prior = default_prior(x, options.components) if options.method == "map" else None
    return MixtureData(dataset, x, observed, prior, in_chunks), {"model": "gmm"} | sizes


def variational_prior(options: GMMOptions, x: np.ndarray) -> VariationalPrior:
    """The prior of a variational run on data x (N, D); ValueError, naming the flag, if it is none."""
    shape = {"full": np.eye(x.shape[1]), "tied": np.eye(x.shape[1]), "diag": np.ones(x.shape[1]), "spherical": 1.0}
    scale = options.covariance_prior
    if scale is not None and not 0 < scale < math.inf:
        raise ValueError(f"--covariance-prior {scale} must be a number above 0")
    return make_prior(
        x,
        options.components,
        options.covariance,
        weight_concentration_prior_type=options.weight_concentration_prior_type or PRIOR_TYPES[0],
        weight_concentration_prior=options.weight_concentration_prior,
        mean_precision_prior=options.mean_precision_prior,
        degrees_of_freedom_prior=options.degrees_of_freedom_prior,
        covariance_prior=None if scale is None else scale * shape[options.covariance],
        reg_covar=reg_covar(options),
        flags=True,
    )


def filled(x: np.ndarray, observed: np.ndarray | None) -> np.ndarray:
    """The data with gaps at their column's mean, for starting values."""
    return x if observed is None else mean_imputed(x, observed)


def reg_covar(options: GMMOptions) -> float:
    """The regularisation of a run: the default, unless the command line names one."""
    return DEFAULT_REG_COVAR if options.reg_covar is None else options.reg_covar


def mixture_start(options: GMMOptions, data: MixtureData) -> tuple[np.ndarray, np.ndarray]:
    """Points without gaps (N, D) and their responsibilities (N, K), for a new run's first M step to start from.

    They are all the points, or of a table that is larger than that some that are spread over it.
    """
    x = filled(data.x, data.observed)
    if data.in_chunks and (size := rows_to_start_from(*x.shape)) < len(x):
        x = take_rows(x, spread_rows(len(x), draws.uniforms(options.seed, "start", (size,), step=1)))
    x = x.astype(dtype_of(options.precision), copy=False)
    seed = int(draws.uniforms(options.seed, "start", (1,))[0] * 2**32)
    return x, initial_responsibilities(x, options.components, options.init, np.random.RandomState(seed))


def mixture_chunks(
    options: GMMOptions, x: np.ndarray, gamma: np.ndarray | None, convert: Callable[[np.ndarray], Any]
) -> Chunks:
    """The points of a large table, and what goes with them, chunk by chunk."""
    rows = chunk_rows(x.shape[1], options.components)
    return Chunks(x, gamma, rows, convert, np.dtype(dtype_of(options.precision)))


def own_chunks(options: GMMOptions, x: np.ndarray, workers: Any, convert: Callable[[np.ndarray], Any]) -> Chunks:
    """The chunks of this worker's share of the points; a point of weight zero, if there are too few."""
    own = share(len(x), workers.rank, workers.size)
    if own.stop > own.start:
        return mixture_chunks(options, x[own], None, convert)
    return mixture_chunks(options, x[:1], np.zeros(1), convert)


def shown_data(options: GMMOptions, data: MixtureData) -> MixtureData:
    """The data that the figure shows: all, or of a large table some rows that are spread over it."""
    if not data.in_chunks or len(data.x) <= ROWS_IN_A_FIGURE:
        return data
    rows = spread_rows(len(data.x), draws.uniforms(options.seed, "start", (ROWS_IN_A_FIGURE,), step=2))
    x = take_rows(data.x, rows).astype(dtype_of(options.precision))
    labels = None if data.dataset.labels is None else data.dataset.labels[rows]
    return data._replace(dataset=replace(data.dataset, x=x, labels=labels), x=x, in_chunks=False)


def mixture_parameters(run: RunFolder) -> tuple[np.ndarray, ...] | None:
    """The parameters of the checkpoint that a run goes on from; None for a new run."""
    if run.start is None:
        return None
    options, d = run.options, run.architecture["data_dim"]
    run.check_history(OBJECTIVE[options.method])
    k, kind = options.components, options.covariance
    if options.method == "variational":
        shapes = posterior_shapes(k, d, kind, options.weight_concentration_prior_type or PRIOR_TYPES[0])._asdict()
    else:
        shapes = {"weights": (k,), "means": (k, d), "covariances": covariance_shape(k, d, kind)}
    check_arrays(run, shapes)
    return tuple(run.start[0][name] for name in shapes)


def check_arrays(run: RunFolder, shapes: dict[str, tuple[int, ...]]) -> None:
    """ValueError unless the checkpoint to go on from holds arrays of these names and shapes."""
    arrays = run.start[0]
    if differing := arrays.keys() ^ shapes.keys():
        names = reason(repr(sorted(differing)))
        raise ValueError(f"--resume {run.options.resume}: the checkpoint's names differ in {names}; use a run's own")
    for name, shape in shapes.items():
        if arrays[name].shape != tuple(shape):
            raise ValueError(f"--resume {run.options.resume}: the checkpoint's {name} has shape {arrays[name].shape}, "
                             f"not {tuple(shape)}; use one a run wrote")  # fmt: skip


def parameter_names(options: GMMOptions) -> tuple[str, ...]:
    """What a mixture's checkpoint holds, in the order of the parameters' tuple; covariances come last."""
    return VariationalPosterior._fields if options.method == "variational" else ("weights", "means", "covariances")


def rounded(options: GMMOptions, parameters: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """The parameters as the checkpoint holds them, rounded if the run is to be reproducible."""
    if options.precision != "reproducible":
        return parameters
    if options.method == "variational":
        return tuple(round_posterior(VariationalPosterior(*parameters), options.covariance))
    return round_mixture(*parameters, options.covariance)


def run_mixture(run: RunFolder, iterate: Callable[[Any], tuple[Any, float]], save: Callable[[Any, int], None],
                start: Any, n: int) -> Any:  # fmt: skip
    """Iterate from ``start``, where the run begins or goes on, until it converges, --steps are done or it is stopped.

    ``iterate(parameters)`` gives the new parameters and the objective, that of the old ones or, of a posterior, of the
    new one. Returns the last parameters.
    """
    done = run.start[1] if run.start else 0
    steps = run.steps(done, run.options.steps, "iteration", n)
    latest = [start]

    def one_step(parameters: Any) -> tuple[Any, float]:
        latest[0], objective = iterate(parameters)
        return latest[0], float(objective) / n

    def record(iteration: int, before: Any, objective: float) -> None:
        check_mixture(run, objective, before[-1])
        run.log(done + iteration, loss=-objective, **{OBJECTIVE[run.options.method]: objective * n})
        if run.save_is_due():
            save(latest[0], done + iteration)

    if not mixture_converged(run):
        last = -run.history[-1]["loss"] if run.history else -math.inf
        run_em(one_step, start, tol=run.options.tol, max_iter=run.options.steps - done, bound=last,
               on_iteration=record, go_on=lambda: next(steps, None) is not None)  # fmt: skip
    save(latest[0], run.history[-1]["step"] if run.history else done)
    return latest[0]


def mixture_converged(run: RunFolder) -> bool:
    """Whether the objective per point changed by less than --tol between the last two iterations."""
    last = [row["loss"] for row in run.history[-2:]]
    return len(last) == 2 and abs(last[1] - last[0]) < run.options.tol


def check_mixture(run: RunFolder, objective: float, covariances: Any) -> None:
    """ValueError naming the component that collapsed, if the objective stopped being a number."""
    if not math.isfinite(objective):
        precisions_cholesky(np.asarray(covariances), run.options.covariance, reg_covar(run.options))
        raise ValueError(f"--data {run.options.data}: the objective became {objective}; scale the data")


def finish_mixture(
    run: RunFolder, data: MixtureData, mixture: tuple[np.ndarray, ...], gamma: np.ndarray, objective: float
) -> None:
    """Figures and summary of a mixture run: (expected) weights, means and covariances, and the responsibilities.

    A component survives variational inference if it answers for one point or more, all its shares taken together.
    """
    from common import figures  # matplotlib is wanted now, and not when the script's --help is

    weights, means, covariances = mixture
    what = OBJECTIVE[run.options.method]
    trace = np.array([row[what] for row in run.history])
    shown = replace(data.dataset, x=filled(data.x, data.observed))
    variational = run.options.method == "variational"
    surviving = gamma.sum(axis=0) >= 1 if variational else np.full(len(weights), True)
    run.save_figure("mixture", figures.mixture, shown, weights, means, covariances, gamma, variational)
    run.save_figure(FIGURE[run.options.method], figures.log_likelihood, trace, what.replace("_", " "))
    order = [k for k in np.argsort(-weights, kind="stable") if surviving[k]]
    run.summary(
        iterations=len(trace),
        converged=mixture_converged(run),
        **{what: objective},
        **({"surviving_components": f"{len(order)} of {len(weights)}"} if variational else {}),
        weights=" ".join(f"{w:.6f}" for w in weights[order]),
        means=" ".join(f"({', '.join(f'{m:.4f}' for m in mean[:4])})" for mean in means[order]),
    )


def image_data(options: VAEOptions) -> tuple[tuple[Dataset, Dataset], dict[str, Any]]:
    """Training and held-out images as the likelihood needs them, and the architecture that fits them.

    Raises ValueError, in one line, if the data are no images, or images of unknown shape and the model is a conv one.
    """
    data = datasets.load(options.data, options.data_dir, options.label_column, options.pixel_max)
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
        x = part.x.astype(dtype_of(options.precision))
        x = datasets.binarize(x) if options.likelihood == "bernoulli" else x
        return Dataset(part.name, x, part.labels, part.feature_names, part.image_shape)

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
    run: RunFolder, shapes: dict[str, tuple[int, ...]]
) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]], int]:
    """Parameters, both moments and the step that a run starts from: drawn for a new one, read for a resumed one."""
    if run.start is None:
        zeros = [{name: np.zeros(shape) for name, shape in shapes.items()} for _ in MOMENTS]
        return draws.initial_values(run.options.seed, shapes), zeros, 0
    arrays, step = run.start
    run.check_history(*(("squared_error",) if run.options.model == "autoencoder" else ("reconstruction", "kl")))
    check_arrays(run, {f"{prefix}{name}": shape for prefix in ("", *MOMENTS) for name, shape in shapes.items()})
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
    return drawn.transpose(1, 0, 2).astype(dtype_of(options.precision))


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
    whole = options.epochs * draws.batches_per_epoch(n, options.batch_size)
    return whole if options.steps is None else options.steps


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
    from common import figures

    training_set, held_out = data
    codes = in_pieces(encode, held_out.x)
    if run.options.model == "autoencoder":
        of_training, name = in_pieces(encode, training_set.x), "a Gaussian fitted to the codes"
        drawn = draws.like(of_training, run.options.seed, 100)
    else:
        drawn, name = draws.normals(run.options.seed, "prior", (100, codes.shape[1])), "the prior"
    drawn = drawn.astype(held_out.x.dtype)
    run.save_figure("losses", figures.losses, run.history)
    run.save_figure("latent_space", figures.latent_space, codes, held_out.labels)
    if held_out.image_shape is not None:
        shown = held_out.x[:10]
        run.save_figure("reconstructions", figures.reconstructions, shown, decode(codes[:10]), held_out.image_shape)
        run.save_figure("samples", figures.samples, decode(drawn), held_out.image_shape, name)
    last = run.history[-1] if run.history else {"step": 0, "loss": math.nan}
    run.summary(
        updates=last["step"],
        last_minibatch_loss=last["loss"],
        **{f"held_out_{name}": value for name, value in held_out_terms.items()},
    )
