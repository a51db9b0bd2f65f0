"""Fit a mixture of Gaussians by EM; leaves a checkpoint, metrics and figures in a run folder.

python -m tf2_impl.train_gmm --data old-faithful --components 2 --out build/runs/gmm-tf2
"""

import sys
from collections.abc import Sequence

import numpy as np

from common import run_folder, training
from common.datasets import Dataset
from common.options import GMMOptions
from common.rounding import round_mixture

PROGRAM = "tf2_impl.train_gmm"


def train(run: run_folder.RunFolder, data: Dataset) -> None:
    """Iterate EM until the log likelihood stands still, or --steps."""
    # Imported here, so that a wrong option is answered at once.
    import tensorflow as tf

    from tf2_impl import gmm
    from tf2_impl.runtime import device

    options, kind, epsilon = run.options, run.options.covariance, training.reg_covar(run.options)

    def stored(parameters: Sequence[tf.Tensor]) -> tuple[np.ndarray, ...]:
        """The parameters as the checkpoint holds them, rounded if the run is to be reproducible."""
        arrays = tuple(value.numpy() for value in parameters)
        return round_mixture(*arrays, kind) if options.precision == "reproducible" else arrays

    def save(parameters: Sequence[tf.Tensor], step: int) -> None:
        run.save(dict(zip(("weights", "means", "covariances"), stored(parameters), strict=True)), step)

    with device(options.device, options.threads):
        x = tf.constant(data.x)  # (N, D)
        start, done = training.mixture_checkpoint(run)
        if start is None:
            start = stored(gmm.m_step(x, tf.constant(training.mixture_start(options, data.x)), kind, epsilon))
        parameters = tuple(tf.constant(value) for value in start)

        for step in run.steps(done, options.steps, "iteration"):
            if training.mixture_converged(run, len(x)):
                break
            updated, total = gmm.em_iteration(x, *parameters, kind, epsilon)
            log_likelihood = float(total)
            training.check_mixture_step(run, log_likelihood, parameters[2].numpy())
            parameters = tuple(tf.constant(value) for value in stored(updated))
            done = step
            run.log(step, loss=-log_likelihood / len(x), log_likelihood=log_likelihood)
            if run.save_is_due():
                save(parameters, step)

        log_density, gamma = gmm.e_step(x, *parameters, kind)
        training.check_mixture_step(run, float(tf.reduce_sum(log_density)), parameters[2].numpy())
        save(parameters, done)
    training.finish_mixture(run, data, stored(parameters), gamma.numpy(), float(tf.reduce_sum(log_density)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run_folder.main(PROGRAM, GMMOptions, training.mixture_data, train, argv)


if __name__ == "__main__":
    sys.exit(main())
