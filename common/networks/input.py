"""Checks of autoencoders before they are built, once for both frameworks; and the sizes of a conv model's images.

Each argument out of its range gets one clear line.
"""

import math
import numbers
from typing import Any

import numpy as np

MODELS = ("dense", "conv")
ACTIVATIONS = ("tanh", "relu", "linear")


def check_vae(
    data_dim: Any, latent_dim: Any, hidden_dim: Any, activation: Any, likelihood: Any, variance: Any, dtype: Any
) -> None:
    """ValueError naming the first argument of ``VAE`` that is out of its range."""
    for name, value in (("data_dim", data_dim), ("latent_dim", latent_dim), ("hidden_dim", hidden_dim)):
        if not _is_count(value):
            raise ValueError(f"{name}={value!r} must be an integer of at least 1")
    choices = {"activation": ACTIVATIONS, "likelihood": ("bernoulli", "gaussian"), "dtype": ("float32", "float64")}
    for name, value in (("activation", activation), ("likelihood", likelihood), ("dtype", dtype)):
        if value not in choices[name]:
            raise ValueError(f"{name}={value!r} must be one of {', '.join(choices[name])}")
    if variance is None:
        return
    if likelihood != "gaussian":
        raise ValueError(f"variance={variance!r}: only a gaussian likelihood has one; leave it out")
    if variance == "per-pixel":
        return
    if not isinstance(variance, numbers.Real) or isinstance(variance, bool) or not 0 < variance < math.inf:
        raise ValueError(f"variance={variance!r} must be a positive number, None to learn it, or 'per-pixel'")
    least = float(np.finfo(dtype).tiny)  # TensorFlow takes less for zero, and PyTorch does not
    if not least <= variance <= 1 / least:
        raise ValueError(f"variance={variance!r} must be from {least:.2g} to {1 / least:.2g} in {dtype}: scale x")


def check_autoencoder(
    data_dim: Any, latent_dim: Any, hidden_dim: Any, activation: Any, variance: Any, dtype: Any
) -> None:
    """ValueError naming the first argument of ``Autoencoder`` that is out of its range."""
    if variance == "per-pixel":
        raise ValueError("variance='per-pixel': squared error has one variance for all pixels; give a number or None")
    check_vae(data_dim, latent_dim, hidden_dim, activation, "gaussian", variance, dtype)


def check_images(x: Any, data_dim: int, likelihood: str, where: str = "") -> None:
    """ValueError unless x is an array (N, ``data_dim``) of finite numbers, for a Bernoulli likelihood in [0, 1].

    ``where`` begins the message.
    """
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] != data_dim:
        raise ValueError(f"{where}x has shape {x.shape}: flat images (N, {data_dim}) are needed; reshape them")
    if not np.all(np.isfinite(x)):
        raise ValueError(f"{where}x holds NaN or infinity; take out such images")
    if likelihood == "bernoulli" and x.size and not 0 <= x.min() <= x.max() <= 1:
        values = f"values from {x.min():g} to {x.max():g}"
        raise ValueError(
            f"{where}x has {values}: likelihood='bernoulli' is of pixels in [0, 1]; scale, or use 'gaussian'"
        )


def check_network(model: Any, data_dim: int, image_shape: Any, channels: Any) -> None:
    """ValueError if ``model`` is unknown, or the shape of the images is missing or is not that of the data."""
    if model not in MODELS:
        raise ValueError(f"model={model!r} must be one of {', '.join(MODELS)}")
    if not _is_count(channels):
        raise ValueError(f"channels={channels!r} must be an integer of at least 1")
    if image_shape is None:
        if model == "conv":
            raise ValueError("image_shape=None: a conv model needs (height, width); give it, or use model='dense'")
        return
    is_pair = isinstance(image_shape, (tuple, list)) and len(image_shape) == 2
    if not is_pair or not all(map(_is_count, image_shape)):
        raise ValueError(f"image_shape={image_shape!r} must be (height, width), two integers of at least 1")
    if math.prod(image_shape) != data_dim:
        raise ValueError(f"image_shape={image_shape!r} has {math.prod(image_shape)} pixels, but data_dim={data_dim}")


def halved(shape: tuple[int, int]) -> tuple[int, int]:
    """The shape of an image after a convolution of stride 2: half of each size, rounded up."""
    height, width = shape
    return -(-height // 2), -(-width // 2)


def _is_count(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= 1
