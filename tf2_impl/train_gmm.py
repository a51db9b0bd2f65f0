"""Fit a mixture of Gaussians by EM or variational inference; leaves a checkpoint, metrics and figures in a run folder.

python -m tf2_impl.train_gmm --data old-faithful --components 2 --out build/runs/gmm-tf2
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

if not __package__:  # run as a file, python tf2_impl/train_gmm.py, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common.mixtures.collapse import check_fit
from common.mixtures.loop import em
from common.runs import mixture as mixture_run
from common.runs import script as run_script
from common.runs.folder import RunFolder
from common.runs.options import GMMOptions

PROGRAM = "tf2_impl.train_gmm"


def train(run: RunFolder, data: mixture_run.MixtureData) -> None:
    """Iterate EM (plain, with gaps, with a prior) or variational updates until the bound stands still, or --steps."""
    # Imported here, so that a wrong option is answered at once.
    from tf2_impl.algorithms import algorithm_for
    from tf2_impl.backend import device, shared

    options, fit, n = run.options, data.fit, len(data.fit.x)
    with device(options.device, options.thread_count, fit.in_chunks):
        algorithm = algorithm_for(fit, shared, run.workers)
        parameters, number = mixture_run.start(run, fit, algorithm), run.start[1] if run.start else 0
        iterate = partial(mixture_run.iterate, options, algorithm)
        numbers = run.steps(number, options.steps, "iteration")  # end where the run is interrupted
        numbers = () if mixture_run.has_converged(run) else numbers
        for step in em(iterate, parameters, numbers, options.tol, mixture_run.last_bound(run), n):
            check_fit(fit, algorithm, step.before, step.bound)
            number, parameters = step.number, step.after
            values = {mixture_run.OBJECTIVE[options.method]: step.bound * n}
            run.log(number, loss=-step.bound, **values, **run.hashes(number, parameters._asdict))
            if run.save_is_due():
                mixture_run.save(run, fit.centre, parameters, number)
        check_fit(fit, algorithm, parameters, last=True)
        mixture_run.save(run, fit.centre, parameters, number)
        objective = float(algorithm.objective(parameters))
        check_fit(fit, algorithm, parameters, objective)
        shown = mixture_run.rows_to_show(options, data)
        gamma = algorithm.responsibilities(parameters, shown.fit.x, shown.fit.observed)
        mixture_run.finish(run, shown, algorithm.mixture(parameters), gamma, objective)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run_script.main(PROGRAM, GMMOptions, mixture_run.mixture_data, train, argv)


if __name__ == "__main__":
    sys.exit(main())
