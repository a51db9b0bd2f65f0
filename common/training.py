"""What the training scripts share beside the loop: checked data, starting points, and what a finished run shows."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from common import datasets, draws, figures
from common.datasets import Dataset
from common.mixture_checks import check_finite, check_spread, precisions_cholesky
from common.mixture_start import initial_responsibilities
from common.options import GMMOptions, VAEOptions
from common.run_folder import RunFolder

DEFAULT_REG_COVAR = 1e-6
MOMENTS = ("optimizer.first_moment.", "optimizer.second_moment.")


def dtype_of(precision: str) -> str:
    """The floating-point type that a precision computes in."""
    return "float32" if precision == "float32" else "float64"


def mixture_data(options: GMMOptions) -> tuple[Dataset, dict[str, Any]]:
    """Data and architecture of a mixture run; ValueError, in one line, if no mixture can be fitted to them."""
    data = datasets.load(options.data, options.data_dir)
    check_finite(f"--data {options.data}", data.x)
    if len(data.x) < max(2, options.components):
        raise ValueError(f"--components {options.components}: the data have only {len(data.x)} rows; ask for fewer")
    check_spread(f"--data {options.data}", data.x, options.covariance, options.reg_covar or 0.0)
    x = np.array(data.x, dtype=dtype_of(options.precision))
    sizes = {"components": options.components, "covariance": options.covariance, "data_dim": x.shape[1]}
    return Dataset(data.name, x, data.labels, data.feature_names, data.image_shape), {"model": "gmm"} | sizes


def reg_covar(options: GMMOptions) -> float:
    """The regularisation of a run: the default, unless the command line names one."""
    return DEFAULT_REG_COVAR if options.reg_covar is None else options.reg_covar


def mixture_start(options: GMMOptions, x: np.ndarray) -> np.ndarray:
    """The responsibilities (N, K) from which a new run's first M step starts."""
    seed = int(draws.uniforms(options.seed, "start", (1,))[0] * 2**32)
    return initial_responsibilities(x, options.components, options.init, np.random.RandomState(seed))


def mixture_checkpoint(run: RunFolder) -> tuple[tuple[np.ndarray, ...] | None, int]:
    """Parameters and step of the checkpoint that a run goes on from; None and 0 for a new run."""
    if run.start is None:
        return None, 0
    arrays, step = run.start
    return tuple(arrays[name] for name in ("weights", "means", "covariances")), step


def mixture_converged(run: RunFolder, n: int) -> bool:
    """Whether the mean log likelihood changed by less than --tol between the last two iterations."""
    last = [row["log_likelihood"] for row in run.history[-2:]]
    return len(last) == 2 and abs(last[1] - last[0]) < run.options.tol * n


def check_mixture_step(run: RunFolder, log_likelihood: float, covariances: np.ndarray) -> None:
    """ValueError naming the component that collapsed, if the log likelihood stopped being a number."""
    if not math.isfinite(log_likelihood):
        precisions_cholesky(covariances, run.options.covariance, reg_covar(run.options))
        raise ValueError(f"--data {run.options.data}: the log likelihood became {log_likelihood}; scale the data")


def finish_mixture(run: RunFolder, data: Dataset, parameters: tuple, gamma: np.ndarray, log_likelihood: float) -> None:
    """Figures and summary of a mixture run."""
    weights, means, covariances = parameters
    trace = np.array([row["log_likelihood"] for row in run.history])
    run.save_figure("mixture", figures.mixture, data, weights, means, covariances, gamma)
    run.save_figure("log_likelihood", figures.log_likelihood, trace)
    order = np.argsort(-weights)
    run.summary(
        iterations=len(trace),
        converged=mixture_converged(run, len(data.x)),
        log_likelihood=log_likelihood,
        weights=" ".join(f"{w:.6f}" for w in weights[order]),
        means=" ".join(f"({', '.join(f'{m:.4f}' for m in mean[:4])})" for mean in means[order]),
    )


def image_data(options: VAEOptions) -> tuple[tuple[Dataset, Dataset], dict[str, Any]]:
    """Training and held-out images as the likelihood needs them, and the architecture that fits them.

    Raises ValueError, in one line, if the data are no images.
    """
    data = datasets.load(options.data, options.data_dir)
    for part in (data, data.held_out):
        if part is not None:
            check_finite(f"--data {options.data}", part.x)
            if part.x.min() < 0 or part.x.max() > 1:
                raise ValueError(
                    f"--data {options.data}: values from {part.x.min():g} to {part.x.max():g}; scale pixels to [0, 1]"
                )
    if len(data.x) < 2:
        raise ValueError(f"--data {options.data}: {len(data.x)} row is too few to train and to hold out; give more")

    def ready(part: Dataset) -> Dataset:
        x = part.x.astype(dtype_of(options.precision))
        x = datasets.binarize(x) if options.likelihood == "bernoulli" else x
        return Dataset(part.name, x, part.labels, part.feature_names, part.image_shape)

    train, held_out = data.split()
    names = ("model", "likelihood", "variance", "activation", "latent_dim", "hidden_dim")
    architecture = {name: getattr(options, name) for name in names} | {"data_dim": data.x.shape[1]}
    return (ready(train), ready(held_out)), architecture


def vae_start(
    run: RunFolder, shapes: dict[str, tuple[int, ...]]
) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]], int]:
    """Parameters, both moments and the step that a run starts from: drawn for a new one, read for a resumed one."""
    if run.start is None:
        zeros = [{name: np.zeros(shape) for name, shape in shapes.items()} for _ in MOMENTS]
        return draws.initial_values(run.options.seed, shapes), zeros, 0
    arrays, step = run.start
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


def last_step(options: VAEOptions, n: int) -> int:
    """The update at which a run ends."""
    whole = options.epochs * draws.batches_per_epoch(n, options.batch_size)
    return whole if options.steps is None else options.steps


def finish_vae(
    run: RunFolder,
    held_out: Dataset,
    bound: tuple[float, float, float],
    encode: Callable[[np.ndarray], np.ndarray],
    decode: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Figures and summary of a VAE run, from the codes' means ``encode(x)`` and the expected pixels ``decode(z)``."""
    codes = encode(held_out.x)
    prior = draws.normals(run.options.seed, "prior", (100, codes.shape[1])).astype(held_out.x.dtype)
    run.save_figure("losses", figures.losses, run.history)
    run.save_figure("latent_space", figures.latent_space, codes, held_out.labels)
    if held_out.image_shape is not None:
        shown = held_out.x[:10]
        run.save_figure("reconstructions", figures.reconstructions, shown, decode(codes[:10]), held_out.image_shape)
        run.save_figure("samples", figures.samples, decode(prior), held_out.image_shape)
    elbo, reconstruction, kl = bound
    last = run.history[-1] if run.history else {"step": 0, "loss": math.nan}
    run.summary(
        updates=last["step"],
        last_minibatch_loss=last["loss"],
        held_out_elbo=elbo,
        held_out_reconstruction=reconstruction,
        held_out_kl=kl,
    )
