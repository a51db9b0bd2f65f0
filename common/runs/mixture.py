"""The shared parts of the mixtures' training scripts beside the loop: checked data, starting points, figures."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from common import draws
from common.data import datasets
from common.data.arrays import as_array
from common.data.centring import Centred, centred, from_zero
from common.data.datasets import Dataset
from common.data.passes import Chunks, chunk_rows, rows_of_chunks, rows_to_start_from, share, spread_rows, take_rows
from common.mixtures.input import (
    check_collapse,
    check_distinct,
    check_finite,
    check_size,
    check_spread,
    covariance_shape,
    precisions_cholesky,
)
from common.mixtures.loop import run_em
from common.mixtures.missing import check_missing, mean_imputed
from common.mixtures.mixture_prior import MixturePrior, default_prior
from common.mixtures.priors import PRIOR_TYPES, VariationalPosterior, VariationalPrior, make_prior, posterior_shapes
from common.mixtures.start import initial_responsibilities
from common.runs.folder import RunFolder
from common.runs.options import GMMOptions
from common.runs.rounding import round_mixture, round_posterior

DEFAULT_REG_COVAR = 1e-6
ROWS_IN_A_FIGURE = 20_000
OBJECTIVE = {"em": "log_likelihood", "map": "log_posterior", "variational": "lower_bound"}
FIGURE = {"em": "log_likelihood", "map": "log_likelihood", "variational": "lower_bound"}


class MixtureData(NamedTuple):
    """The data to fit a mixture to: ``x`` has zeros where ``observed`` is False; None if everything was observed.

    A file that is mapped into memory and goes ``in_chunks`` stays where it is, in its own floating-point type. Where
    columns lie far from zero, data, prior and parameters are seen from a ``centre`` (D,), else None.
    """

    dataset: Dataset
    x: np.ndarray | Centred
    observed: np.ndarray | None
    prior: MixturePrior | VariationalPrior | None
    in_chunks: bool
    centre: np.ndarray | None


def mixture_data(options: GMMOptions) -> tuple[MixtureData, dict[str, Any]]:
    """Data and architecture of a mixture run; ValueError, in one line, if no mixture can be fitted to them."""
    dataset = datasets.load(options.data, options.data_dir, options.label_column, columns=options.columns)
    name = f"--data {options.data}"
    x, observed, dtype = dataset.x, None, np.dtype(options.dtype)
    in_chunks = options.method == "em" and len(x) > chunk_rows(x.shape[1], options.components)
    if options.missing == "em" and np.isnan(x).any():
        in_chunks = False
        x, observed = check_missing(x, name)
    full = "" if options.covariance == "full" else " --covariance full"
    check_finite(name, x, f"add --missing em{full}" if options.method == "em" else "use --method em --missing em")
    if len(x) < 2:
        raise ValueError(f"{name}: {len(x)} row(s) have no spread to fit; give at least 2")
    if len(x) < options.components:
        raise ValueError(f"--components {options.components}: the data have only {len(x)} rows; ask for fewer")
    complete = filled(x, observed)
    _, centre = check_size(name, complete, dtype, reg_covar(options))
    # without an explicit --reg-covar, a constant column is refused
    remedy = "or name a --reg-covar above 0" if options.method != "map" else ""
    check_spread(name, complete, options.covariance, options.reg_covar or 0.0, remedy)
    check_distinct(name, complete, options.components)
    if not in_chunks:
        x = np.array(centred(x, centre, dtype))
    elif centre is not None:
        x = Centred(x, centre, dtype)
    if observed is not None:
        x[~observed] = 0
    sizes = {"components": options.components, "covariance": options.covariance, "data_dim": x.shape[1]}
    if options.method == "variational":
        prior = variational_prior(options, x)
        return MixtureData(dataset, x, observed, prior, in_chunks, centre), {"model": "variational gmm"} | sizes
    prior = default_prior(x, options.components) if options.method == "map" else None
    return MixtureData(dataset, x, observed, prior, in_chunks, centre), {"model": "gmm"} | sizes


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
    x = np.asarray(x, dtype=options.dtype)
    seed = int(draws.uniforms(options.seed, "start", (1,))[0] * 2**32)
    return x, initial_responsibilities(x, options.components, options.init, np.random.RandomState(seed))


def mixture_chunks(
    options: GMMOptions, x: np.ndarray, gamma: np.ndarray | None, convert: Callable[[np.ndarray], Any]
) -> Chunks:
    """The points of a large table, and what goes with them, chunk by chunk."""
    rows = rows_of_chunks(*x.shape, options.components)
    return Chunks(x, gamma, rows, convert, np.dtype(options.dtype))


def own_chunks(options: GMMOptions, x: np.ndarray, workers: Any, convert: Callable[[np.ndarray], Any]) -> Chunks:
    """The chunks of this worker's share of the points; a point of weight zero, if there are too few."""
    own = share(len(x), workers.rank, workers.size)
    if own.stop > own.start:
        return mixture_chunks(options, x[own], None, convert)
    return mixture_chunks(options, x[:1], np.zeros(1), convert)


def shown_data(options: GMMOptions, data: MixtureData) -> MixtureData:
    """The data that the figure shows: all, or of a large table some rows that are spread over it."""
    if not data.in_chunks:
        return data
    if len(data.x) <= ROWS_IN_A_FIGURE:
        return data._replace(x=np.asarray(data.x, dtype=options.dtype))
    rows = spread_rows(len(data.x), draws.uniforms(options.seed, "start", (ROWS_IN_A_FIGURE,), step=2))
    x = np.asarray(take_rows(data.x, rows), dtype=options.dtype)
    labels = None if data.dataset.labels is None else data.dataset.labels[rows]
    return data._replace(dataset=replace(data.dataset, x=x, labels=labels), x=x, in_chunks=False)


def mixture_parameters(run: RunFolder, centre: np.ndarray | None) -> tuple[np.ndarray, ...] | None:
    """The parameters of the checkpoint that a run goes on from, seen from the centre; None for a new run."""
    if run.start is None:
        return None
    options, d = run.options, run.architecture["data_dim"]
    run.check_history(OBJECTIVE[options.method])
    k, kind = options.components, options.covariance
    if options.method == "variational":
        shapes = posterior_shapes(k, d, kind, options.weight_concentration_prior_type or PRIOR_TYPES[0])._asdict()
    else:
        shapes = {"weights": (k,), "means": (k, d), "covariances": covariance_shape(k, d, kind)}
    arrays, names = run.start[0], tuple(shapes)
    if "centre" in arrays:
        shapes |= {"centre": (d,), "means_from_centre": (k, d)}
    run.check_arrays(shapes)
    means, shift = arrays.get("means_from_centre", arrays["means"]), arrays.get("centre", 0.0)
    if centre is not None or "centre" in arrays:
        means = from_zero(means, shift - (0.0 if centre is None else centre))
    return tuple((arrays | {"means": means})[name] for name in names)


def parameter_names(options: GMMOptions) -> tuple[str, ...]:
    """The names of a mixture's arrays in a checkpoint, in the order of the parameters' tuple; covariances are last."""
    return VariationalPosterior._fields if options.method == "variational" else ("weights", "means", "covariances")


def rounded(options: GMMOptions, parameters: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """The parameters as the checkpoint holds them, rounded if the run is to be reproducible."""
    if options.precision != "reproducible":
        return parameters
    if options.method == "variational":
        return tuple(round_posterior(VariationalPosterior(*parameters), options.covariance))
    return round_mixture(*parameters, options.covariance)


def checkpoint_arrays(
    options: GMMOptions, centre: np.ndarray | None, parameters: tuple[np.ndarray, ...]
) -> dict[str, np.ndarray]:
    """The checkpoint's arrays: the parameters; with a centre, the means as seen from zero and, to go on, from it."""
    arrays = dict(zip(parameter_names(options), parameters, strict=True))
    if centre is None:
        return arrays
    means = arrays["means"]
    return arrays | {"means": from_zero(means, centre), "centre": centre, "means_from_centre": means}


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
    if run.options.method != "map":  # whose prior has no reg_covar to be increased, and keeps it from collapsing
        check_collapse(as_array(latest[0][-1]), run.options.covariance, reg_covar(run.options))
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
    from common.figures import runs as figures  # matplotlib is wanted now, and not when the script's --help is

    weights, means, covariances = mixture
    reported = from_zero(means, data.centre, np.float64)
    what = OBJECTIVE[run.options.method]
    trace = np.array([row[what] for row in run.history])
    x = data.x if data.observed is None else np.where(data.observed, data.x, np.nan)  # a gap is drawn as one
    shown = replace(data.dataset, x=x)
    if data.centre is not None:  # the axes' numbers would be too close to be told apart
        names = shown.feature_names or tuple(f"feature {i + 1}" for i in range(means.shape[1]))
        labels = (f"{name} {'-' if c > 0 else '+'} {abs(c):.17g}" if c else name
                  for name, c in zip(names, data.centre, strict=True))  # fmt: skip
        shown = replace(shown, feature_names=tuple(labels))
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
        means=" ".join(f"({', '.join(f'{m:.4f}' for m in mean[:4])})" for mean in reported[order]),
    )
