"""Training in memory, for a figure or a comparison: no run folder, no options.

``maths`` holds an implementation's modules by name, among them ``layouts``, ``networks``, ``optimizer``,
``backend``.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from common import draws
from common.data import datasets
from common.networks.start import set_start

EPOCHS, BATCH_SIZE = 40, 128  # of the networks in figures


def updates(
    maths: SimpleNamespace, model: Any, batches: Iterable[tuple[np.ndarray, np.ndarray]], learning_rate: float
) -> Iterator[float]:
    """One update of Adam per batch of images and noise; yields the objective of each, in nats per image.

    The updates are reproducible: over thousands of them at a high rate, rounding alone would part the
    frameworks, and another epoch would be the best.
    """
    optimizer = maths.optimizer.Adam(maths.layouts.named_parameters(model), learning_rate, reproducible=True)
    step = maths.backend.compiled(functools.partial(maths.networks.loss_and_gradients, model))
    for x, noise in batches:
        terms, gradients = step(maths.backend.tensor(x), maths.backend.tensor(noise))
        optimizer.update(gradients)
        yield float(terms[0])


def trained(maths: SimpleNamespace, name: str) -> Any:
    """One of the networks that several figures show; all are trained the first time."""
    if not hasattr(maths, "networks_in_figures"):
        maths.networks_in_figures = networks_in_figures(maths)
    return maths.networks_in_figures[name]


def networks_in_figures(maths: SimpleNamespace) -> dict[str, Any]:
    """A VAE with codes of two dimensions, of clothes; a VAE and a plain autoencoder with sixteen, of digits."""
    digits, clothes = (datasets.load(name).split()[0].x.astype(np.float64) for name in ("digits", "fashion"))
    gaussian = dict(likelihood="gaussian", dtype="float64")
    small = maths.vae.VAE(clothes.shape[1], 2, 200, "relu", **gaussian)
    vae = maths.vae.VAE(64, 16, 100, "tanh", **gaussian)
    plain = maths.autoencoder.Autoencoder(64, 16, 100, "tanh", dtype="float64")
    for model, x, rate in ((small, clothes, 2e-3), (vae, digits, 5e-3), (plain, digits, 5e-3)):
        set_start(maths, model, 0, x)
        batches = minibatches(itertools.repeat(x, EPOCHS), BATCH_SIZE, model.noise_dim)
        for _ in updates(maths, model, batches, rate):
            pass
    return {"vae of 2": small, "vae": vae, "autoencoder": plain}


def minibatches(
    epochs: Iterable[np.ndarray], batch_size: int, noise_dim: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The minibatches and their noise, from the images (N, D) of each epoch; the seed is 0."""
    first = 0
    for x in epochs:
        following = first + draws.batches_per_epoch(len(x), batch_size)
        for step in range(first, following):
            rows = draws.minibatch(0, step, len(x), batch_size)
            yield x[rows], draws.normals(0, "noise", (len(rows), noise_dim), step)
        first = following
