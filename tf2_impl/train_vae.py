"""Train a variational autoencoder, or a plain one; leaves a checkpoint, metrics and figures in a run folder.

python -m tf2_impl.train_vae --data digits --epochs 20 --out build/runs/vae-tf2
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a file, python tf2_impl/train_vae.py, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import draws
from common.data.datasets import Dataset
from common.runs.folder import RunFolder
from common.runs.network import check_loss, finish, image_data, last_step, own_share
from common.runs.options import VAEOptions
from common.runs.script import main as run_script

PROGRAM = "tf2_impl.train_vae"


def train(run: RunFolder, data: tuple[Dataset, Dataset]) -> None:
    """Climb the ELBO, or a plain autoencoder's likelihood, with Adam for --epochs, or --steps updates."""
    # imported here, so that a wrong option is answered before TensorFlow is loaded
    from tf2_impl.backend import device
    from tf2_impl.network_run import NetworkRun

    options, (training_set, held_out) = run.options, data
    n, seed = len(training_set.x), options.seed
    updates_per_epoch = draws.batches_per_epoch(n, options.batch_size)
    with device(options.device, options.threads):
        network = NetworkRun(run, training_set.x)
        for step in run.steps(network.optimizer.step, last_step(options, n), "update"):
            rows = draws.minibatch(seed, step - 1, n, options.batch_size)
            own, part = own_share(len(rows), run.workers)
            noise = draws.normals(seed, "noise", (own.stop - own.start, network.noise_dim), step, own.start)
            loss, parts = network.update(rows[own], noise, part)
            check_loss(options, step, loss, parts.get("squared_error"))
            if step % updates_per_epoch == 0:
                parts["held_out_loss"] = -next(iter(network.held_out_terms(held_out.x).values()))
            run.log(step, loss=loss, **parts, **run.hashes(step, network.state))
            if run.save_is_due():
                run.save(network.state(), step)
        run.save(network.state(), network.optimizer.step)
        finish(run, network, training_set, held_out)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run_script(PROGRAM, VAEOptions, image_data, train, argv)


if __name__ == "__main__":
    sys.exit(main())
