"""A mixture's run without its framework: checked data, start, rounding, checkpoint, figures and summary."""

import math
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from common import draws
from common.data import datasets
from common.data.arrays import as_array
from common.data.chunks import from_zero, spread_rows, take_rows
from common.data.datasets import Dataset
from common.data.messages import require
from common.mixtures.input import REG_COVAR, FitData, prepare
from common.mixtures.parameters import (
    PRIOR_TYPES,
    MixtureParameters,
    VariationalPosterior,
    VariationalPrior,
    default_prior,
    parameter_shapes,
    variational_prior,
)
from common.mixtures.start import starting_points
from common.runs.folder import RunFolder
from common.runs.options import GMMOptions
from common.runs.rounding import round_mixture, round_posterior

ROWS_IN_A_FIGURE = 20_000
OBJECTIVE = {"em": "log_likelihood", "map": "log_posterior", "variational": "lower_bound"}
FIGURE = {"em": "log_likelihood", "map": "log_likelihood", "variational": "lower_bound"}
Parameters = MixtureParameters | VariationalPosterior


class MixtureData(NamedTuple):
    """The dataset of a run, and the table made from it for the fit."""

    dataset: Dataset
    fit: FitData

    @property
    def in_chunks(self) -> bool:
        """Whether each thread gets a chunk of its own."""
        return self.fit.in_chunks


def mixture_data(options: GMMOptions) -> tuple[MixtureData, dict[str, Any]]:
    """Load and check the data of a mixture run; return them with the architecture."""
    dataset = datasets.load(options.data, options.data_dir, options.label_column, columns=options.columns)
    fit = prepare(
        dataset.x,
        options.components,
        options.covariance,
        REG_COVAR if options.reg_covar is None else options.reg_covar,
        method=options.method,
        missing=options.missing,
        remedy="" if options.method == "em" else "use --method em --missing em",
        dtype=options.dtype,
        constant=options.reg_covar or 0.0,  # a reg_covar of the user's allows constant columns
    )
    if options.method == "map":
        fit = fit._replace(prior=default_prior(fit.x, fit.n_components))
    if options.method == "variational":
        fit = fit._replace(prior=_prior(options, fit))
    kind = "variational gmm" if options.method == "variational" else "gmm"
    sizes = {"components": options.components, "covariance": options.covariance, "data_dim": fit.x.shape[1]}
    return MixtureData(dataset, fit), {"model": kind} | sizes


def _prior(options: GMMOptions, data: FitData) -> VariationalPrior:
    """The prior of a variational run; the covariance on the command line is times the identity."""
    scale, d = options.covariance_prior, data.x.shape[1]
    require(scale is None or 0 < scale < math.inf, "covariance_prior", "must be a number above 0", scale)
    identity = {"diag": np.ones(d), "spherical": 1.0}.get(data.covariance_type, np.eye(d))
    return variational_prior(
        data,
        weight_concentration_prior_type=options.weight_concentration_prior_type or PRIOR_TYPES[0],
        weight_concentration_prior=options.weight_concentration_prior,
        mean_precision_prior=options.mean_precision_prior,
        degrees_of_freedom_prior=options.degrees_of_freedom_prior,
        covariance_prior=None if scale is None else scale * identity,
    )


def start(run: RunFolder, data: FitData, algorithm: Any) -> Parameters:
    """The parameters to start from, the first worker's: the checkpoint's, or those of a first M step."""
    parameters, seed = mixture_parameters(run, data.centre), run.options.seed
    if parameters is None:
        random_state = np.random.RandomState(int(draws.uniforms(seed, "start", (1,))[0] * 2**32))
        uniforms = partial(draws.uniforms, seed, "start", step=1)
        points = starting_points(data, run.options.init, random_state, uniforms)
        parameters = rounded(run.options, algorithm.start(*points))
    parameters = parameters._make(map(algorithm.tensor, parameters))
    if run.workers.size > 1:
        of_first = [value * (run.workers.rank == 0) for value in parameters]
        parameters = parameters._make(run.workers.run(run.workers.add_up, of_first))
    return parameters


def iterate(options: GMMOptions, algorithm: Any, parameters: Parameters) -> tuple[Parameters, Any]:
    """One iteration: the new parameters, rounded if the run is reproducible, and the objective before."""
    updated, objective = algorithm.iterate(parameters)
    return updated._make(map(algorithm.tensor, rounded(options, updated))), objective


def rounded(options: GMMOptions, parameters: Parameters) -> Parameters:
    """The parameters as arrays, rounded if the run is to be reproducible."""
    parameters = parameters._make(map(as_array, parameters))
    if options.precision != "reproducible":
        return parameters
    if options.method == "variational":
        return round_posterior(parameters, options.covariance)
    return MixtureParameters(*round_mixture(*parameters, options.covariance))


def mixture_parameters(run: RunFolder, centre: np.ndarray | None) -> Parameters | None:
    """The earlier checkpoint's parameters, with the means less the centre; None for a new run."""
    if run.start is None:
        return None
    options, d, arrays = run.options, run.architecture["data_dim"], run.start[0]
    run.check_history(OBJECTIVE[options.method])
    prior_type = options.weight_concentration_prior_type or PRIOR_TYPES[0]
    prior_type = prior_type if options.method == "variational" else None
    shapes = parameter_shapes(options.components, d, options.covariance, prior_type)
    of_centre = {"centre": (d,), "means_from_centre": shapes.means} if "centre" in arrays else {}
    run.check_arrays(shapes._asdict() | of_centre)
    means = arrays.get("means_from_centre", arrays["means"])
    if centre is not None or of_centre:
        means = from_zero(means, arrays.get("centre", 0.0) - (0.0 if centre is None else centre))
    return shapes._make(arrays[name] for name in shapes._fields)._replace(means=means)


def save(run: RunFolder, centre: np.ndarray | None, parameters: Parameters, step: int) -> None:
    """Write the parameters as a checkpoint, with the centre and the means less the centre if there is one."""
    arrays = parameters._make(map(as_array, parameters))._asdict()
    if centre is not None:
        means = arrays["means"]
        arrays |= {"means": from_zero(means, centre), "centre": centre, "means_from_centre": means}
    run.save(arrays, step)


def last_bound(run: RunFolder) -> float:
    """The bound before the next iteration: that of the checkpoint's last one, or minus infinity."""
    return -run.history[-1]["loss"] if run.history else -math.inf


def has_converged(run: RunFolder) -> bool:
    """Whether the objective per point changed by less than --tol between the last two iterations."""
    last = [row["loss"] for row in run.history[-2:]]
    return len(last) == 2 and abs(last[1] - last[0]) < run.options.tol


def rows_to_show(options: GMMOptions, data: MixtureData) -> MixtureData:
    """The data that the figure shows: all rows, or some that are spread over a large table."""
    dataset, fit = data
    if not fit.in_chunks:
        return data
    if len(fit.x) > ROWS_IN_A_FIGURE:
        uniforms = draws.uniforms(options.seed, "start", (ROWS_IN_A_FIGURE,), step=2)
        rows = spread_rows(len(fit.x), uniforms)
        labels = None if dataset.labels is None else dataset.labels[rows]
        dataset, fit = replace(dataset, labels=labels), fit._replace(x=take_rows(fit.x, rows))
    return MixtureData(dataset, fit._replace(x=np.asarray(fit.x, dtype=fit.dtype)))


def finish(run: RunFolder, data: MixtureData, mixture: MixtureParameters, gamma: np.ndarray, objective: float) -> None:
    """Figures and summary of a mixture run, its components by falling weight.

    A component survives variational inference if its responsibilities add up to at least one point.
    """
    from common.figures import runs as figures  # --help must not wait for matplotlib

    options, centre = run.options, data.fit.centre
    what, variational = OBJECTIVE[options.method], options.method == "variational"
    order = np.argsort(-as_array(mixture.weights), kind="stable")
    weights, means = as_array(mixture.weights)[order], as_array(mixture.means)[order]
    covariances, gamma = as_array(mixture.covariances), gamma[:, order]
    covariances = covariances if options.covariance == "tied" else covariances[order]
    trace = np.array([row[what] for row in run.history])
    parameters = weights, means, covariances, options.covariance
    run.save_figure("mixture", figures.mixture, _shown(data), *parameters, gamma, variational)
    run.save_figure(FIGURE[options.method], figures.log_likelihood, trace, what.replace("_", " "))
    survives = gamma.sum(axis=0) >= 1 if variational else np.full(len(weights), True)
    survivors = {"surviving_components": f"{survives.sum()} of {len(weights)}"} if variational else {}
    means = from_zero(means, centre, np.float64)[survives]
    run.summary(
        iterations=len(trace),
        converged=has_converged(run),
        **{what: objective},
        **survivors,
        weights=" ".join(f"{w:.6f}" for w in weights[survives]),
        means=" ".join(f"({', '.join(f'{m:.4f}' for m in mean[:4])})" for mean in means),
    )


def _shown(data: MixtureData) -> Dataset:
    """The dataset of the figure: gaps are NaN, and the name of an axis far from zero contains its centre."""
    (x, observed, centre), dataset = (data.fit.x, data.fit.observed, data.fit.centre), data.dataset
    if centre is not None:
        names = dataset.feature_names or tuple(f"feature {i + 1}" for i in range(len(centre)))
        offsets = (f" {'-' if c > 0 else '+'} {abs(c):.17g}" if c else "" for c in centre)
        dataset = replace(dataset, feature_names=tuple(map("".join, zip(names, offsets, strict=True))))
    return replace(dataset, x=x if observed is None else np.where(observed, x, np.nan))
