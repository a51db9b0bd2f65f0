"""Train a variational autoencoder, or a plain one; leaves a checkpoint, metrics and figures in a run folder.

python -m tf2_impl.train_vae --data digits --epochs 20 --out build/runs/vae-tf2
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a file, python tf2_impl/train_vae.py, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from common import draws
from common.data.datasets import Dataset
from common.runs import network as vae_training
from common.runs import script as run_script
from common.runs.folder import RunFolder
from common.runs.options import VAEOptions

PROGRAM = "tf2_impl.train_vae"


def train(run: RunFolder, data: tuple[Dataset, Dataset]) -> None:
    """Climb the ELBO, or a plain autoencoder's likelihood, with Adam for --epochs, or --steps updates."""
    # Imported here, so that a wrong option is answered at once.
    import tensorflow as tf

    from tf2_impl import autoencoder, networks, vae
    from tf2_impl.backend import device, fused
    from tf2_impl.optimizer import Adam

    options, workers, (training_set, held_out) = run.options, run.workers, data
    n, data_dim = training_set.x.shape
    dtype = options.dtype
    is_plain = options.model == "autoencoder"

    with device(options.device, options.threads):
        sizes = data_dim, options.latent_dim, options.hidden_dim, options.activation
        if is_plain:
            model = autoencoder.Autoencoder(*sizes, options.variance, dtype)
        else:
            network = options.model, training_set.image_shape, vae_training.channels(options)
            model = vae.VAE(*sizes, options.likelihood, options.variance, dtype, *network)
        parameters = networks.named_parameters(model)
        optimizer = Adam(parameters, options.learning_rate, reproducible=options.precision == "reproducible")
        shapes = {name: value.shape for name, value in networks.export_parameters(model).items()}
        values, moments, step = vae_training.vae_start(run, shapes, training_set.x)
        networks.import_parameters(model, values)
        optimizer.resume(
            step, *({n: networks.native(n, read[n], p) for n, p in parameters.items()} for read in moments)
        )

        loss_and_gradients = autoencoder.loss_and_gradients if is_plain else vae.loss_and_gradients
        if options.compile:
            loss_and_gradients = fused(loss_and_gradients)

        # One graph of the whole step. XLA fuses it, which moves roundings: not where they have to stay the same.
        @tf.function(autograph=False, jit_compile=options.precision != "reproducible" and workers.size == 1)
        def training_step(
            batch: tuple[tf.Tensor, ...], part: tf.Tensor, corrections: tuple[tf.Tensor, tf.Tensor]
        ) -> tuple:
            terms, gradients = loss_and_gradients(model, *batch)
            averages = workers.average([*terms, *gradients.values()], part)
            optimizer.apply(dict(zip(gradients, averages[len(terms) :], strict=True)), corrections)
            return type(terms)(*averages[: len(terms)])

        def save() -> None:
            own = optimizer.first_moment, optimizer.second_moment
            moments = [{name: networks.canonical(name, value) for name, value in moment.items()} for moment in own]
            state = vae_training.vae_state(options.precision, networks.export_parameters(model), moments)
            run.save(state, optimizer.step)

        def noise_for(purpose: str, rows: slice, step: int) -> tf.Tensor:
            shape = rows.stop - rows.start, options.latent_dim
            return tf.constant(draws.normals(options.seed, purpose, shape, step, rows.start).astype(dtype))

        def held_out_terms() -> vae.Bound | autoencoder.Fit:
            x = tf.constant(held_out.x)
            if is_plain:
                return model.fit_of(x, model.fit_of(tf.constant(training_set.x)).squared_error)
            noise = noise_for("held-out", slice(0, len(x)), 0)
            return vae.Bound(*vae_training.mean_bound(lambda rows: model.elbo(x[rows], noise[rows]), len(x)))

        def log_evidence(rows: slice) -> np.ndarray:
            noise = vae_training.importance_noise(options, rows)  # (S, N, L)
            x = held_out.x[rows]
            return vae.importance_weighted_log_likelihood(model, tf.constant(x), tf.constant(noise)).numpy()

        images = tf.constant(training_set.x)
        batches = draws.batches_per_epoch(n, options.batch_size)
        for step in run.steps(optimizer.step, vae_training.last_step(options, n), "update", options.batch_size):
            rows = draws.minibatch(options.seed, step - 1, n, options.batch_size)
            own, part = vae_training.own_share(len(rows), workers)
            x = tf.gather(images, rows[own])
            batch = (x,) if is_plain else (x, noise_for("noise", own, step))
            terms = workers.run(training_step, batch, tf.constant(part, dtype), optimizer.count_step())
            parts = {name: float(value) for name, value in zip(terms._fields[1:], terms[1:], strict=True)}
            loss = vae_training.check_loss(run, step, -float(terms[0]), parts.get("squared_error"))
            end_of_epoch = {"held_out_loss": -float(held_out_terms()[0])} if step % batches == 0 else {}
            run.log(step, loss=loss, **parts, **end_of_epoch)
            if run.save_is_due():
                save()
        save()

        def encode(x: np.ndarray) -> np.ndarray:
            codes = model.encoder(tf.constant(x))
            return (codes if is_plain else codes[0]).numpy()

        def decode(z: np.ndarray) -> np.ndarray:
            output = model.decoder(tf.constant(z))
            return (output if is_plain else model.expected_data(output)).numpy()

        terms = held_out_terms()
        terms = dict(zip(terms._fields, map(float, terms), strict=True))
        terms |= vae_training.estimated_evidence(options, log_evidence, len(held_out.x))
        vae_training.finish_vae(run, data, terms, encode, decode)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run_script.main(PROGRAM, VAEOptions, vae_training.image_data, train, argv)


if __name__ == "__main__":
    sys.exit(main())
