"""Where networks start: drawn weights, and what the training images say of a Gaussian decoder."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from common import draws

ROWS_FOR_COMPONENTS = 1000  # enough for the variance that the components leave, and quick to decompose
LEAST_VARIANCE = 1e-6  # where all images are equal


def set_start(maths: SimpleNamespace, model: Any, seed: int, x: np.ndarray) -> None:
    """Give a Gaussian model the parameters that it starts from on training images x (N, D)."""
    shapes = {name: value.shape for name, value in maths.layouts.export_parameters(model).items()}
    maths.layouts.import_parameters(model, draws.initial_values(seed, shapes) | gaussian_start(shapes, x))


def gaussian_start(shapes: Mapping[str, tuple[int, ...]], x: np.ndarray) -> dict[str, np.ndarray]:
    """Where a Gaussian decoder's offset and learned log variance start, from training images x (N, D).

    The offset of a dense decoder starts at the mean image, and the variance at what `variance_left` says,
    that of a linear VAE (probabilistic PCA). A variance of 1 is hundreds of times too wide for pixels in [0,
    1]: every image is then as likely as every other, and the code is given up before Adam, which moves a log
    variance by at most the learning rate an update, has narrowed it. After 240 updates of a dense VAE the
    ELBO of held-out digits is -54.0 nats from 1, 7.8 from the pixels' variance, 15.9 from this one.

    The most likely variance of each batch is worth a nat more on the digits and five on the clothes, but it
    is not a parameter, and must be estimated anew for held-out images (Rybkin et al., "Simple and effective
    VAE training with calibrated decoders", ICML 2021, section 3.2).
    """
    starts = {"decoder.out.bias": x.mean(axis=0, dtype=np.float64)}
    if "log_var" in shapes:
        starts["log_var"] = log_variance_start(x, shapes["decoder.hidden.weight"][1], shapes["log_var"])
    known = {name: np.broadcast_to(value, shapes[name]) for name, value in starts.items() if name in shapes}
    return {name: value.astype(np.float32).astype(np.float64) for name, value in known.items()}


def log_variance_start(x: np.ndarray, components: int, shape: tuple[int, ...]) -> np.ndarray:
    """The log of the variance that the components leave: of each pixel if ``shape`` is (D,), else of all."""
    left = variance_left(x, components)  # (D,)
    return np.log(left if len(shape) else left.mean())


def variance_left(x: np.ndarray, components: int) -> np.ndarray:
    """The variance of each column of x (N, D) about its projection on the first principal components, (D,).

    Of a pixel that never changes, or where there are as many components as pixels, it is a hundredth of all
    pixels' mean variance: a smaller variance would dominate the loss at the start.
    """
    rows = np.linspace(0, len(x) - 1, min(len(x), ROWS_FOR_COMPONENTS)).astype(int)
    images = np.asarray(x[rows], dtype=np.float64)
    centred = images - images.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:components]  # (L, D)
    left = np.square(centred - (centred @ directions.T) @ directions).mean(axis=0)
    return np.maximum(left, max(np.square(centred).mean() / 100, LEAST_VARIANCE))
