"""Train a variational autoencoder; leaves a checkpoint, metrics and figures in a run folder.

python -m pytorch_impl.train_vae --data digits --epochs 20 --out build/runs/vae-torch
"""

import sys
from collections.abc import Sequence

import numpy as np

from common import draws, run_folder, training
from common.datasets import Dataset
from common.options import VAEOptions

PROGRAM = "pytorch_impl.train_vae"


def train(run: run_folder.RunFolder, data: tuple[Dataset, Dataset]) -> None:
    """Climb the ELBO with Adam for --epochs, or --steps updates."""
    # Imported here, so that a wrong option is answered at once.
    import torch

    from pytorch_impl import networks, vae
    from pytorch_impl.optimizer import Adam
    from pytorch_impl.runtime import device

    options, (training_set, held_out) = run.options, data
    n, data_dim = training_set.x.shape
    dtype = training.dtype_of(options.precision)

    with device(options.device, options.threads):
        model = vae.VAE(
            data_dim,
            options.latent_dim,
            options.hidden_dim,
            options.activation,
            options.likelihood,
            options.variance,
            dtype,
            options.model,
            training_set.image_shape,
            training.channels(options),
        )
        parameters = networks.named_parameters(model)
        optimizer = Adam(parameters, options.learning_rate, reproducible=options.precision == "reproducible")
        shapes = {name: value.shape for name, value in networks.export_parameters(model).items()}
        values, moments, optimizer.step = training.vae_start(run, shapes)
        networks.import_parameters(model, values)
        for own, read in zip((optimizer.first_moment, optimizer.second_moment), moments, strict=True):
            own.update({name: networks.native(name, read[name], p) for name, p in parameters.items()})

        def save() -> None:
            own = optimizer.first_moment, optimizer.second_moment
            moments = [{name: networks.canonical(name, value) for name, value in moment.items()} for moment in own]
            state = training.vae_state(options.precision, networks.export_parameters(model), moments)
            run.save(state, optimizer.step)

        def noise_for(purpose: str, rows: int, step: int) -> torch.Tensor:
            return torch.tensor(draws.normals(options.seed, purpose, (rows, options.latent_dim), step).astype(dtype))

        @torch.no_grad()
        def held_out_bound() -> tuple[float, float, float]:
            noise = noise_for("held-out", len(held_out.x), 0)
            return training.mean_bound(
                lambda rows: model.elbo(torch.tensor(held_out.x[rows]), noise[rows]), len(held_out.x)
            )

        batches = draws.batches_per_epoch(n, options.batch_size)
        for step in run.steps(optimizer.step, training.last_step(options, n), "update"):
            rows = draws.minibatch(options.seed, step - 1, n, options.batch_size)
            x, noise = torch.tensor(training_set.x[rows]), noise_for("noise", len(rows), step)
            bound, gradients = vae.loss_and_gradients(model, x, noise)
            loss = training.check_loss(run, step, -float(bound.elbo))
            optimizer.update(gradients)
            end_of_epoch = {"held_out_loss": -held_out_bound()[0]} if step % batches == 0 else {}
            run.log(step, loss=loss, reconstruction=float(bound.reconstruction), kl=float(bound.kl),
                    **end_of_epoch)  # fmt: skip
            if run.save_is_due():
                save()
        save()

        @torch.no_grad()
        def encode(x: np.ndarray) -> np.ndarray:
            return model.encoder(torch.tensor(x))[0].cpu().numpy()

        @torch.no_grad()
        def decode(z: np.ndarray) -> np.ndarray:
            return model.expected_data(model.decoder(torch.tensor(z))).cpu().numpy()

        training.finish_vae(run, held_out, held_out_bound(), encode, decode)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run_folder.main(PROGRAM, VAEOptions, training.image_data, train, argv)


if __name__ == "__main__":
    sys.exit(main())
