"""Fit a mixture of Gaussians by EM or variational inference; leaves a checkpoint, metrics and figures in a run folder.

python -m tf2_impl.train_gmm --data old-faithful --components 2 --out build/runs/gmm-tf2
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a file, python tf2_impl/train_gmm.py, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from common.mixtures.priors import VariationalPosterior
from common.runs import mixture as mixture_training
from common.runs import script as run_script
from common.runs.folder import RunFolder
from common.runs.options import GMMOptions

PROGRAM = "tf2_impl.train_gmm"


def train(run: RunFolder, data: mixture_training.MixtureData) -> None:
    """Iterate EM (plain, with gaps, with a prior) or variational updates until the bound stands still, or --steps."""
    # Imported here, so that a wrong option is answered at once.
    import tensorflow as tf

    from tf2_impl import conjugate, em, gmm, gmm_statistics, missing_data, variational_gmm
    from tf2_impl.backend import device

    options, kind, epsilon = run.options, run.options.covariance, mixture_training.reg_covar(run.options)
    variational, workers = options.method == "variational", run.workers
    in_chunks = data.in_chunks or workers.size > 1
    Parameters = tuple[tf.Tensor, ...]  # weights, means, covariances; or the fields of a VariationalPosterior

    def step(parameters: Parameters) -> tuple[Parameters, tf.Tensor]:
        if variational:
            return variational_gmm.variational_iteration(x, VariationalPosterior(*parameters), prior, kind, epsilon)
        if options.method == "map":
            return em.map_em_iteration(x, *parameters, prior)
        if observed is not None:
            return gmm_statistics.em_iteration_with_gaps(x, observed, *parameters, epsilon)
        if in_chunks:
            return gmm_statistics.em_iteration(chunks, *parameters, kind, epsilon, workers)
        return gmm.em_iteration(x, *parameters, kind, epsilon)

    def stored(parameters: Parameters) -> tuple[np.ndarray, ...]:
        """The parameters as the run goes on with them, here or from its checkpoint."""
        return mixture_training.rounded(options, tuple(value.numpy() for value in parameters))

    def iterate(parameters: Parameters) -> tuple[Parameters, tf.Tensor]:
        updated, objective = step(parameters)
        return tuple(tf.constant(value) for value in stored(updated)), objective

    def save(parameters: Parameters, iteration: int) -> None:
        run.save(mixture_training.checkpoint_arrays(options, data.centre, stored(parameters)), iteration)

    with device(options.device, options.threads, data.in_chunks):
        shown = mixture_training.shown_data(options, data)
        chunks = mixture_training.own_chunks(options, data.x, workers, tf.constant) if in_chunks else None
        x = tf.constant(shown.x)  # (N, D)
        observed = None if data.observed is None else tf.constant(data.observed)  # (N, D)
        prior = None if data.prior is None else type(data.prior)(*map(tf.constant, data.prior))
        start = mixture_training.mixture_parameters(run, data.centre)
        if start is None:
            points, gamma = mixture_training.mixture_start(options, data)  # (N, D), (N, K)
            if variational:
                counted = variational_gmm.statistics(x, tf.constant(gamma), kind, epsilon)
                start = variational_gmm.m_step(counted, prior, kind)
            elif data.in_chunks:
                start = gmm_statistics.m_step(
                    mixture_training.mixture_chunks(options, points, gamma, tf.constant), kind, epsilon
                )
            else:
                start = gmm.m_step(tf.constant(points), tf.constant(gamma), kind, epsilon)
            start = stored(start)
        start = tuple(tf.constant(value) for value in start)
        if workers.size > 1:  # all from what the first found, to the last bit
            start = workers.run(workers.add_up, [value * (workers.rank == 0) for value in start])

        parameters = mixture_training.run_mixture(run, iterate, save, start, len(data.x))

        _, objective = step(parameters)
        mixture = tuple(parameters)
        if variational:
            posterior = VariationalPosterior(*parameters)
            gamma = variational_gmm.e_step(x, posterior, kind)[1]  # (N, K)
            counted = variational_gmm.statistics(x, gamma, kind, epsilon)
            objective = sum(variational_gmm.bound_terms(counted, gamma, posterior, prior, kind))
            mixture = conjugate.expected_weights(posterior.weight_concentration), posterior.means, posterior.covariances
        elif observed is None:
            gamma = gmm.responsibilities(x, *parameters, kind)  # (N, K)
        else:
            gamma = missing_data.e_step(x, observed, *parameters)[1]  # (N, K)
    mixture_training.check_mixture(run, float(objective), stored(parameters)[-1])
    mixture = tuple(value.numpy() for value in mixture)
    mixture_training.finish_mixture(run, shown, mixture, gamma.numpy(), float(objective))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run_script.main(PROGRAM, GMMOptions, mixture_training.mixture_data, train, argv)


if __name__ == "__main__":
    sys.exit(main())
