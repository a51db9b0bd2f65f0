"""How likely another machine is to end in another file: how far an update spreads before it is rounded, in grid steps.

python -m parity_tests.digests.odds

The updates of runs are computed in many ways: by three libraries, in several orders of summation (`ways.py`),
and again in a process without AVX. An entry that spreads by $s$ among them falls on two sides of a boundary
of a grid of spacing $h$ with probability $s / h$; the sum over all entries is the expected number of those
on which not all agree, and a bound on the probability of any. Of a run that is published more can be said:
how close its entries came to a boundary. Where that is farther than they spread, all ways end in its file.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from common import draws
from common.runs import mixture, network
from common.runs.folder import RunFolder
from common.runs.options import GMMOptions, VAEOptions, parse
from common.runs.rounding import BITS, WEIGHT_GRID
from common.runs.script import without_native_stderr

with without_native_stderr():
    import torch

    from parity_tests.digests import ways
    from pytorch_impl.algorithms import algorithm_for
    from pytorch_impl.distributed import Workers
    from pytorch_impl.network_run import NetworkRun

from parity_tests.digests.runs import RUNS
from parity_tests.digests.test_settings import SETTINGS
from parity_tests.support.oracle import grid_of

NETWORKS = {"VAE of make train": "--epochs 100", "VAE, dense relu": RUNS["VAE, dense relu"][1]}
NETWORKS["VAE, Gaussian"] = RUNS["VAE, Gaussian"][1]
MIXTURES = {"mixture of make train": RUNS["mixture, full"][1]}
MIXTURES["mixture of digits, 64 x 64"] = "--data digits --components 4 --reg-covar 1e-2 --tol 0 --steps 25"
STATES = 6  # of a run, whose next update is computed in all ways
Arrays = dict[str, np.ndarray]
Update = tuple[Arrays, Arrays | None]  # in grid steps: as the run computes it, and, in some states, in all ways


class Odds(NamedTuple):
    """Of a run: per 1,000 updates, entries expected to differ among such ways; an entry's widest spread; the closest
    that any came to a boundary, in grid steps."""

    expected: dict[str, float]
    widest: float
    closest: float


def network_updates(arguments: str, folder: str) -> Iterator[Update]:
    """The gradients of a dense VAE's run, which rounding sees before Adam does."""
    argv = [*arguments.split(), "--precision", "reproducible", "--out", folder]
    options = parse(VAEOptions, argv, "pytorch_impl.train_vae")[0]
    (images, _), architecture = network.image_data(options)
    run = RunFolder(options, "pytorch_impl", architecture, Workers())
    trained, n = NetworkRun(run, images.x), len(images.x)
    last = network.last_step(options, n)
    for step in range(1, last + 1):
        rows = draws.minibatch(options.seed, step - 1, n, options.batch_size)
        noise = draws.normals(options.seed, "noise", (len(rows), trained.noise_dim), step)
        x, state = trained.images[torch.tensor(rows)], trained.state()
        own = trained.loss_and_gradients(trained.model, x, trained.tensor(noise))[1]
        positions, grids = {}, {}
        for name, gradient in ((name, g.numpy()) for name, g in own.items()):
            second_moment = state[network.MOMENTS[1] + name]
            grids[name] = grid_of(gradient, second_moment)
            positions[name] = gradient / grids[name]
            # a power of two spaces the grid: another one if the scale, from 2^10 steps to 2^11, is just there
            scale = max(np.abs(gradient).max(), np.sqrt(second_moment.max()))
            positions[f"scale of {name}"] = np.array(scale / grids[name] + 0.5)
        others = None
        if step % (last // STATES) == 0:
            others = ways.gradients(options, state, step - 1, x.numpy(), noise)
            others = {name: values / grids[name] for name, values in others.items()}
        yield positions, others
        next(trained.updates([network.Batch(step, rows, noise, 1.0)]))
    run.close()


def mixture_updates(arguments: str, folder: str) -> Iterator[Update]:
    """The parameters of a mixture's run after each M step, full covariances."""
    argv = [*arguments.split(), "--precision", "reproducible", "--out", folder]
    options = parse(GMMOptions, argv, "pytorch_impl.train_gmm")[0]
    data, architecture = mixture.mixture_data(options)
    run = RunFolder(options, "pytorch_impl", architecture, Workers())
    algorithm = algorithm_for(data.fit, torch.tensor)
    parameters, bounds = mixture.start(run, data.fit, algorithm), [-np.inf, np.inf]
    while len(bounds) < options.steps + 2 and abs(bounds[-1] - bounds[-2]) >= options.tol * len(data.fit.x):
        own, _ = algorithm.iterate(parameters)
        grids = mixture_grids(own.covariances.numpy())
        others = None
        if len(bounds) % (min(options.steps, 24) // STATES) == 0:
            others = ways.em_iteration(data.fit.x, *(p.numpy() for p in parameters), data.fit.reg_covar)
            others = {name: values / grids[name] for name, values in others.items()}
        positions = {name: value.numpy() / grids[name] for name, value in own._asdict().items()}
        positions["scales"] = np.diagonal(positions["covariances"], axis1=1, axis2=2) + 0.5  # as above
        yield positions, others
        parameters, bound = mixture.iterate(options, algorithm, parameters)
        bounds.append(float(bound))
    run.close()


def mixture_grids(covariances: np.ndarray) -> dict[str, np.ndarray]:
    """The spacings to which weights, means and full covariances are rounded, as `round_mixture` has them."""
    _, exponent = np.frexp(np.diagonal(covariances, axis1=1, axis2=2))
    s = np.ldexp(1.0, (exponent - 1) // 2)  # (K, D)
    of_covariances = s[:, :, None] * s[:, None, :] * 2.0**-BITS
    return {"weights": np.array(WEIGHT_GRID), "means": s * 2.0**-BITS, "covariances": of_covariances}


def measure(path: Path) -> None:
    """Leave in a file what the updates of all runs are in all ways, in this process, and the closest boundary."""
    found: Arrays = {}
    with TemporaryDirectory() as folder:
        runs = {model: network_updates(of_run, folder) for model, of_run in NETWORKS.items()}
        runs |= {model: mixture_updates(of_run, folder) for model, of_run in MIXTURES.items()}
        for model, updates in runs.items():
            closest = 0.5
            for number, (own, others) in enumerate(updates):
                from_boundary = (np.abs(position - np.floor(position) - 0.5).min() for position in own.values())
                closest = min(closest, *from_boundary)
                found |= {f"{model}|{number}|{name}": values for name, values in (others or {}).items()}
            found[f"closest|{model}"] = np.array(closest)
    np.savez(path, **found)


def spread(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """How far the values are apart along some axes."""
    return values.max(axis=axis) - values.min(axis=axis)


def odds_of(model: str, levels: Sequence[Mapping[str, np.ndarray]]) -> Odds:
    """The odds of a run from what processes of several SIMD levels measured."""
    sums, widest = dict.fromkeys(("libraries", "SIMD levels", "orders", "all"), 0.0), 0.0
    keys = [key for key in levels[0] if key.startswith(f"{model}|")]
    for key in keys:
        values = np.stack([level[key] for level in levels])  # (SIMD levels, orders, libraries, ...)
        sums["libraries"] += spread(values[0, 0], 0).sum()
        sums["SIMD levels"] += spread(values[:, 0], 0).mean(axis=0).sum()
        sums["orders"] += spread(values[0], 0).mean(axis=0).sum()
        sums["all"] += (together := spread(values, (0, 1, 2))).sum()
        widest = max(widest, float(together.max()))
    states = len({key.split("|")[1] for key in keys})
    expected = {name: 1000 * float(value) / states for name, value in sums.items()}
    return Odds(expected, widest, float(levels[0][f"closest|{model}"]))


def measured() -> dict[str, Odds]:
    """The odds of all runs, from a process as it is and one without AVX and fused instructions."""
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("all.npz", "none.npz")]
        for path, setting in zip(paths, ({}, SETTINGS["no AVX, no FMA"]), strict=True):
            command = [sys.executable, "-m", "parity_tests.digests.odds", str(path)]
            subprocess.run(command, check=True, env=os.environ | setting)
        levels = [dict(np.load(path)) for path in paths]
        return {model: odds_of(model, levels) for model in (*NETWORKS, *MIXTURES)}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the odds of all runs."""
    given = sys.argv[1:] if argv is None else argv
    if given:
        measure(Path(given[0]))
        return 0
    for model, odds in measured().items():
        print(model)
        print("  expected to differ, of 1,000 updates:", ", ".join(f"{n} {v:.1e}" for n, v in odds.expected.items()))
        print(f"  closest to a boundary {odds.closest:.1e}, widest spread {odds.widest:.1e} grid steps: ", end="")
        print(f"{odds.closest / odds.widest:,.1f} times")
    return 0


if __name__ == "__main__":
    sys.exit(main())
