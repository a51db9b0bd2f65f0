"""A network between two updates of `train_vae`: its model and its optimizer, seen as arrays and numbers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.data.arrays import as_array
from common.runs.folder import RunFolder
from common.runs.network import Batch, checkpoint_arrays, held_out_pieces, mean_terms, starting_point, stretches
from pytorch_impl.autoencoder import Autoencoder
from pytorch_impl.backend import copied, fused, updates_at_once
from pytorch_impl.cuda import recorded
from pytorch_impl.layouts import canonical, export_parameters, import_parameters, named_parameters, native
from pytorch_impl.networks import loss_and_gradients
from pytorch_impl.optimizer import Adam
from pytorch_impl.vae import VAE, importance_weighted_log_likelihood


def build(architecture: Mapping[str, Any], dtype: str) -> VAE | Autoencoder:
    """The model of an architecture, as a checkpoint names it."""
    arguments = dict(architecture, dtype=dtype)
    if architecture["model"] != "autoencoder":
        return VAE(**arguments)
    del arguments["model"], arguments["likelihood"]
    return Autoencoder(**arguments)


class NetworkRun:
    """The network of a run, at its start or at the checkpoint that the run goes on from.

    It computes on the current device. Images x are (N, D), codes z (N, L), as arrays.
    """

    def __init__(self, run: RunFolder, training_images: np.ndarray) -> None:
        options = run.options
        self.options, self.workers = options, run.workers
        self.model = build(run.architecture, options.dtype)
        self.noise_dim = self.model.noise_dim
        self.images = self.tensor(training_images)
        parameters = named_parameters(self.model)
        self.optimizer = Adam(parameters, options.learning_rate, reproducible=options.precision == "reproducible")
        shapes = {name: value.shape for name, value in export_parameters(self.model).items()}
        values, moments, step = starting_point(run, self.model.terms._fields[1:], shapes, training_images)
        import_parameters(self.model, values)
        layouts = ({name: native(name, moment[name], p) for name, p in parameters.items()} for moment in moments)
        self.optimizer.resume(step, *layouts)
        self.loss_and_gradients = fused(loss_and_gradients) if options.compile else loss_and_gradients
        if self.workers.size == 1:  # several add up between the two halves of a step
            tables = parameters, self.optimizer.first_moment, self.optimizer.second_moment
            changed = [value for table in tables for value in table.values()]
            self.training_step = recorded(self.training_step, changed)

    def tensor(self, array: np.ndarray) -> Tensor:
        """An array as a tensor in the run's precision."""
        return torch.tensor(array.astype(self.options.dtype))

    def updates(self, batches: Iterable[Batch]) -> Iterator[tuple[int, float, dict[str, float]]]:
        """Take a step of Adam up the objective for each batch; yields the step, the loss and the objective's parts.

        Several workers compute a part of each minibatch, and take the same step. A GPU is given many batches
        at once, and is asked for the losses when it has all of them.
        """
        waiting = stretches(self.options, len(self.images), batches, updates_at_once())
        stretch = next(waiting, ())
        while stretch:
            terms = self.take_steps(stretch)
            stretch, taken = next(waiting, ()), stretch  # drawn while a GPU computes
            for batch, (objective, *parts) in zip(taken, as_array(torch.stack(terms)).tolist(), strict=True):
                yield batch.step, -objective, dict(zip(self.model.terms._fields[1:], parts, strict=True))

    def take_steps(self, stretch: Sequence[Batch]) -> list[Tensor]:
        """Queue a step for each batch; returns the terms of the objective, (T,) for each."""
        of_steps = copied([batch.rows for batch in stretch], "int64")  # (N,) each
        images = [self.images[rows] for rows in of_steps]  # (N, D) each
        noise = copied([batch.noise for batch in stretch], self.options.dtype)  # (N, noise_dim) each
        counted = [np.array([self.optimizer.count_step()]) for _ in stretch]
        corrections = copied(counted, self.options.dtype)  # (1, 2) each
        arguments = zip(images, noise, (batch.part for batch in stretch), corrections, strict=True)
        return [self.workers.run(self.training_step, *each) for each in arguments]

    def training_step(self, x: Tensor, noise: Tensor, part: float, corrections: Tensor) -> Tensor:
        """Gradient, average over the workers, Adam; returns the terms of the objective, (T,)."""
        terms, gradients = self.loss_and_gradients(self.model, x, noise)
        averages = self.workers.average([*terms, *gradients.values()], part)
        self.optimizer.apply(dict(zip(gradients, averages[len(terms) :], strict=True)), corrections[0])
        return torch.stack(averages[: len(terms)])

    def state(self) -> dict[str, np.ndarray]:
        """The arrays of a checkpoint: parameters and moments, in the canonical layout."""
        moments = self.optimizer.first_moment, self.optimizer.second_moment
        layouts = [{name: canonical(name, value) for name, value in moment.items()} for moment in moments]
        return checkpoint_arrays(self.options.precision, export_parameters(self.model), layouts)

    @torch.no_grad()
    def held_out_terms(self, x: np.ndarray) -> dict[str, float]:
        """The objective of held-out images and its parts, by name, with the same noise at every call."""
        objective = self.model.held_out_objective(self.images)
        batches = held_out_pieces(self.options.seed, x, self.noise_dim)
        return mean_terms([(len(piece), objective(self.tensor(piece), self.tensor(noise))) for piece, noise in batches])

    @torch.no_grad()
    def log_evidence(self, x: np.ndarray, noise: np.ndarray) -> np.ndarray:
        r"""An estimate of $\log p(x)$ for each image, (N,), from noise (S, N, L)."""
        return importance_weighted_log_likelihood(self.model, self.tensor(x), self.tensor(noise)).cpu().numpy()

    @torch.no_grad()
    def encode(self, x: np.ndarray) -> np.ndarray:
        """The codes of images, or their means."""
        return self.model.encode(self.tensor(x)).cpu().numpy()

    @torch.no_grad()
    def decode(self, z: np.ndarray) -> np.ndarray:
        """The expected pixels of codes."""
        return self.model.decode(self.tensor(z)).cpu().numpy()
