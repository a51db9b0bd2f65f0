"""The images and the table rows of the comparison of models.

Pixels are whole grey levels, spread over their steps; ``common.compare.models`` says why, and in what units.
"""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from common import draws
from common.data import datasets

GREY_LEVELS = 17
SEED = 0


@dataclass(frozen=True)
class Settings:
    """The settings that are tried on the validation images, and the length of the trainings."""

    components: tuple[int, ...] = (3, 5, 8, 12)
    reg_covar: tuple[float, ...] = (0.03, 0.06, 0.12)  # in squared grey levels
    copies: int = 4  # of the training images, each with its own noise, where a model is fitted to all at once
    latent_dims: tuple[int, ...] = (16, 32)
    codes: tuple[int, ...] = (2, 8, 32)  # of the plain autoencoder
    linear_codes: int = 16
    hidden_dim: int = 200
    activation: str = "relu"
    batch_size: int = 200
    learning_rate: float = 4e-3
    epochs: int = 400
    patience: int = 40
    draws: tuple[int, ...] = (1, 10, 100, 1000, 5000)
    bandwidths: tuple[float, ...] = (0.5, 0.71, 1.0, 1.41, 2.0, 2.83, 4.0)  # times its variance
    images: int | None = None  # at most this many of each part


class Parts(NamedTuple):
    """Images as whole grey levels, (N, D) each."""

    train: np.ndarray
    validation: np.ndarray
    held_out: np.ndarray


@dataclass
class Row:
    """A line of the table: the log density of each held-out image, in nats and in units of grey levels."""

    model: str
    kind: str  # "density", "lower bound", "estimate" or "not a density"
    per_image: np.ndarray
    chosen: dict[str, Any] = field(default_factory=dict)
    monte_carlo_error: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The line as the JSON file has it."""
        n, nats = len(self.per_image), float(self.per_image.mean())
        error = float(self.per_image.std(ddof=1) / math.sqrt(n))
        return vars(self) | {"nats": nats, "standard_error": error, "per_image": self.per_image.tolist()}


def split(settings: Settings) -> Parts:
    """Training, validation and held-out images; as many for validation as are held out."""
    train, held_out = datasets.load("digits").split()
    order = draws.permutation(SEED, "validation", len(train.x))
    chosen = order[: len(held_out.x)], order[len(held_out.x) :]
    grey = [np.rint(x * (GREY_LEVELS - 1)) for x in (train.x[chosen[1]], train.x[chosen[0]], held_out.x)]
    return Parts(*(x[: settings.images] for x in grey))


def dequantised(grey: np.ndarray, step: int) -> np.ndarray:
    """y = (x + u) / 17 in (0, 1); ``step`` is 0 for validation, 1 for held-out, 2 + epoch for training."""
    return (grey + draws.uniforms(SEED, "dequantisation", grey.shape, step)) / GREY_LEVELS


def in_grey_levels(log_density: np.ndarray, dimensions: int) -> np.ndarray:
    """log p(v) from log p(y) with v = 17 y, whose Jacobian is 17^D."""
    return np.asarray(log_density, dtype=np.float64) - dimensions * math.log(GREY_LEVELS)


def several(parts: Parts, settings: Settings) -> np.ndarray:
    """Copies of the training images, each with its own noise."""
    return np.concatenate([dequantised(parts.train, 2 + copy) for copy in range(settings.copies)])
