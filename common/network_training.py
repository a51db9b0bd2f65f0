"""Train a network of either implementation in memory, for a figure or a comparison: no run folder, no options.

``maths`` holds an implementation's modules by name, with ``networks``, ``optimizer`` and ``runtime`` among them.
"""

from collections.abc import Iterable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from common import datasets, draws


def set_start(maths: SimpleNamespace, model: Any, seed: int, **replaced: np.ndarray) -> None:
    """Give a model the parameters that ``seed`` draws; those whose names (dots as underscores) are given, these."""
    shapes = {name: value.shape for name, value in maths.networks.export_parameters(model).items()}
    values = draws.initial_values(seed, shapes)
    for name in values:
        if (given := replaced.get(name.replace(".", "_"))) is not None:
            values[name] = np.broadcast_to(given, shapes[name]).astype(np.float32).astype(np.float64)
    maths.networks.import_parameters(model, values)


def updates(
    maths: SimpleNamespace, chapter: ModuleType, model: Any, batches: Iterable[tuple], learning_rate: float
) -> Iterator[float]:
    """One update of Adam per batch, reproducible; yields the objective of each, in nats per image.

    Over thousands of updates at a high rate, rounding alone parts two trainings; which epoch is best then differs too.

    ``chapter`` is ``maths.vae`` or ``maths.autoencoder``, and a batch the arrays that its ``loss_and_gradients`` takes.
    """
    optimizer = maths.optimizer.Adam(maths.networks.named_parameters(model), learning_rate, reproducible=True)
    step = maths.runtime.compiled(lambda *batch: chapter.loss_and_gradients(model, *batch))
    for batch in batches:
        terms, gradients = step(*map(maths.runtime.tensor, batch))
        optimizer.update(gradients)
        yield float(terms[0])


def trained(maths: SimpleNamespace, name: str) -> Any:
    """One of the networks that several figures show, all trained the first time."""
    if not hasattr(maths, "networks_in_figures"):
        maths.networks_in_figures = train_networks(maths)
    return maths.networks_in_figures[name]


def train_networks(maths: SimpleNamespace) -> dict[str, Any]:
    """A VAE with codes of two dimensions; a VAE and a plain autoencoder with sixteen: trained alike on the digits."""
    x = datasets.load("digits").split()[0].x
    arguments = {"data_dim": x.shape[1], "hidden_dim": 100, "dtype": "float64"}
    models = {
        "vae of 2": maths.vae.VAE(latent_dim=2, likelihood="gaussian", **arguments),
        "vae": maths.vae.VAE(latent_dim=16, likelihood="gaussian", **arguments),
        "autoencoder": maths.autoencoder.Autoencoder(latent_dim=16, **arguments),
    }

    def batches(codes: int) -> Iterator[tuple[np.ndarray, ...]]:
        for step in range(40 * draws.batches_per_epoch(len(x), 128)):
            rows = draws.minibatch(0, step, len(x), 128)
            yield (x[rows], *((draws.normals(0, "noise", (len(rows), codes), step),) if codes else ()))

    for (name, model), codes in zip(models.items(), (2, 16, 0), strict=True):
        set_start(maths, model, 0, decoder_out_bias=x.mean(axis=0), log_var=np.log(x.var(axis=0).mean()))
        for _ in updates(maths, getattr(maths, name.split()[0]), model, batches(codes), learning_rate=5e-3):
            pass
    return models
