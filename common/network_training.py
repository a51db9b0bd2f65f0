"""Train a network of either implementation in memory, for a figure or a comparison: no run folder, no options.

``maths`` holds an implementation's modules by name, with ``networks``, ``optimizer`` and ``runtime`` among them.
"""

from collections.abc import Iterable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from common import draws


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
