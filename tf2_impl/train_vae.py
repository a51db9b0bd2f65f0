"""Train a variational autoencoder, or a plain one; leaves a checkpoint, metrics and figures in a run folder.

python -m tf2_impl.train_vae --data digits --epochs 20 --out build/runs/vae-tf2
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

if not __package__:  # run as a file, python tf2_impl/train_vae.py, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import draws
from common.data.datasets import Dataset
from common.runs.folder import RunFolder
from common.runs.network import Batch, check_loss, finish, image_data, last_step, own_share
from common.runs.options import VAEOptions
from common.runs.script import main as run_script

PROGRAM = "tf2_impl.train_vae"


def minibatches(run: RunFolder, n: int, noise_dim: int, steps: Iterable[int]) -> Iterator[Batch]:
    """The rows of n images that each step learns from, and their noise: this worker's part of them."""
    seed = run.options.seed
    for step in steps:
        rows = draws.minibatch(seed, step - 1, n, run.options.batch_size)
        own, part = own_share(len(rows), run.workers)
        noise = draws.normals(seed, "noise", (own.stop - own.start, noise_dim), step, own.start)
        yield Batch(step, rows[own], noise, part)


def train(run: RunFolder, data: tuple[Dataset, Dataset]) -> None:
    """Climb the ELBO, or a plain autoencoder's likelihood, with Adam for --epochs, or --steps updates."""
    # imported here, so that a wrong option is answered before TensorFlow is loaded
    from tf2_impl.backend import device
    from tf2_impl.network_run import NetworkRun

    options, (training_set, held_out) = run.options, data
    n = len(training_set.x)
    with device(options.device, options.thread_count):
        network = NetworkRun(run, training_set.x)
        steps = run.steps(network.optimizer.step, last_step(options, n), "update")
        for step, loss, parts in network.updates(minibatches(run, n, network.noise_dim, steps)):
            check_loss(options, step, loss, parts.get("squared_error"))
            if step % draws.batches_per_epoch(n, options.batch_size) == 0:
                parts["held_out_loss"] = -next(iter(network.held_out_terms(held_out.x).values()))
            run.log(step, loss=loss, **parts, **run.hashes(step, network.state))
            if run.save_is_due() and step == network.optimizer.step:  # a GPU may be ahead
                run.save(network.state(), step)
        run.save(network.state(), network.optimizer.step)
        finish(run, network, training_set, held_out)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run_script(PROGRAM, VAEOptions, image_data, train, argv)


if __name__ == "__main__":
    sys.exit(main())
