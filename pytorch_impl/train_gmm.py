"""Fit a mixture of Gaussians by EM; leaves a checkpoint, metrics and figures in a run folder.

python -m pytorch_impl.train_gmm --data old-faithful --components 2 --out build/runs/gmm-torch
"""

import sys
from collections.abc import Sequence

import numpy as np

from common import run_folder, training
from common.mixture_prior import MixturePrior
from common.options import GMMOptions
from common.rounding import round_mixture

PROGRAM = "pytorch_impl.train_gmm"


def train(run: run_folder.RunFolder, data: training.MixtureData) -> None:
    """Iterate EM, plain, with missing entries or with a prior, until the objective stands still, or --steps."""
    # Imported here, so that a wrong option is answered at once.
    import torch

    from pytorch_impl import em, gmm, gmm_statistics, missing_data
    from pytorch_impl.runtime import device

    options, kind, epsilon = run.options, run.options.covariance, training.reg_covar(run.options)
    Parameters = tuple[torch.Tensor, ...]  # weights, means, covariances

    def step(parameters: Parameters) -> tuple[Parameters, torch.Tensor]:
        if options.method == "map":
            return em.map_em_iteration(x, *parameters, prior)
        if observed is not None:
            return missing_data.em_iteration(x, observed, *parameters, epsilon)
        if data.in_chunks:
            return gmm_statistics.em_iteration(chunks, *parameters, kind, epsilon)
        return gmm.em_iteration(x, *parameters, kind, epsilon)

    def stored(parameters: Parameters) -> tuple[np.ndarray, ...]:
        """The parameters as the checkpoint holds them, rounded if the run is to be reproducible."""
        arrays = tuple(value.cpu().numpy() for value in parameters)
        return round_mixture(*arrays, kind) if options.precision == "reproducible" else arrays

    def iterate(parameters: Parameters) -> tuple[Parameters, torch.Tensor]:
        updated, objective = step(parameters)
        return tuple(torch.tensor(value) for value in stored(updated)), objective

    def save(parameters: Parameters, iteration: int) -> None:
        run.save(dict(zip(("weights", "means", "covariances"), stored(parameters), strict=True)), iteration)

    with device(options.device, options.threads):
        shown = training.shown_data(options, data)
        chunks = training.mixture_chunks(options, data.x, None, torch.tensor) if data.in_chunks else None
        x = torch.tensor(shown.x)  # (N, D)
        observed = None if data.observed is None else torch.tensor(data.observed)  # (N, D)
        prior = MixturePrior(*(torch.tensor(field) for field in data.prior)) if options.method == "map" else None
        start = training.mixture_parameters(run)
        if start is None:
            points, gamma = training.mixture_start(options, data)  # (N, D), (N, K)
            if data.in_chunks:
                start = gmm_statistics.m_step(
                    training.mixture_chunks(options, points, gamma, torch.tensor), kind, epsilon
                )
            else:
                start = gmm.m_step(torch.tensor(points), torch.tensor(gamma), kind, epsilon)
            start = stored(start)
        start = tuple(torch.tensor(value) for value in start)

        parameters = training.run_mixture(run, iterate, save, start, len(data.x))

        _, objective = step(parameters)
        training.check_mixture(run, float(objective), stored(parameters)[2])
        if observed is None:
            gamma = gmm.responsibilities(x, *parameters, kind)  # (N, K)
        else:
            gamma = missing_data.e_step(x, observed, *parameters)[1]  # (N, K)
    training.finish_mixture(run, shown, stored(parameters), gamma.cpu().numpy(), float(objective))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run_folder.main(PROGRAM, GMMOptions, training.mixture_data, train, argv)


if __name__ == "__main__":
    sys.exit(main())
