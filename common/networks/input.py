"""Checks of a network's arguments and of its images, once for both frameworks, each with one clear line."""

import math
import numbers
from typing import Any

import numpy as np

from common.data.messages import InputError, require

MODELS = ("dense", "conv")
ACTIVATIONS = ("tanh", "relu", "linear")
LIKELIHOODS = ("bernoulli", "gaussian")
DEFAULT_CHANNELS = 32  # of a conv model's first convolution
AUTOENCODER_ARGUMENTS = ("data_dim", "latent_dim", "hidden_dim", "activation", "variance", "dtype")
VAE_ARGUMENTS = (*AUTOENCODER_ARGUMENTS[:4], "likelihood", "variance", "dtype", "model", "image_shape", "channels")
CHOICES = {"activation": ACTIVATIONS, "likelihood": LIKELIHOODS, "dtype": ("float32", "float64"), "model": MODELS}


def check_vae(*arguments: Any) -> dict[str, Any]:
    """The arguments of ``VAE`` by name, sizes as Python's integers; InputError for the first one out of its range."""
    config = dict(zip(VAE_ARGUMENTS, arguments, strict=True))
    for name in ("data_dim", "latent_dim", "hidden_dim", "channels"):
        require(_is_count(config[name]), name, "must be an integer of at least 1", config[name])
        config[name] = int(config[name])
    for name, choices in CHOICES.items():
        require(config[name] in choices, name, f"must be one of {', '.join(choices)}", config[name])
    check_variance(config["variance"], config["likelihood"], config["dtype"])
    return config | {"image_shape": _image_shape(config["image_shape"], config["model"], config["data_dim"])}


def check_autoencoder(
    data_dim: Any, latent_dim: Any, hidden_dim: Any, activation: Any, variance: Any, dtype: Any
) -> dict[str, Any]:
    """The arguments of ``Autoencoder`` by name; InputError for the first one that is out of its range."""
    problem = "must be a number, or left out: squared error has one variance for all pixels"
    require(variance != "per-pixel", "variance", problem, variance)
    sizes = data_dim, latent_dim, hidden_dim, activation
    config = check_vae(*sizes, "gaussian", variance, dtype, "dense", None, DEFAULT_CHANNELS)
    return {name: config[name] for name in AUTOENCODER_ARGUMENTS}


def check_variance(variance: Any, likelihood: str, dtype: str) -> None:
    """InputError unless the variance is None, "per-pixel" or a number that the likelihood and the dtype can take."""
    if variance is None:
        return
    require(likelihood == "gaussian", "variance", "needs {likelihood=gaussian}; leave it out", variance)
    if variance == "per-pixel":
        return
    is_number = isinstance(variance, numbers.Real) and not isinstance(variance, bool) and 0 < variance < math.inf
    require(is_number, "variance", "must be a positive number, None to learn it, or 'per-pixel'", variance)
    least = float(np.finfo(dtype).tiny)  # TensorFlow takes less for zero, and PyTorch does not
    problem = f"must be from {least:.2g} to {1 / least:.2g} in {dtype}; scale x"
    require(least <= variance <= 1 / least, "variance", problem, variance)


def check_images(x: Any, data_dim: int, likelihood: str, where: str = "") -> None:
    """InputError unless x is an array (N, ``data_dim``) of finite numbers, for a Bernoulli likelihood in [0, 1].

    ``where`` begins the message.
    """
    x = np.asarray(x)
    is_flat, problem = x.ndim == 2 and x.shape[1] == data_dim, f"flat images (N, {data_dim}) are needed; reshape them"
    require(is_flat, f"{where}x", f"has shape {x.shape}: {problem}")
    require(np.all(np.isfinite(x)), f"{where}x", "holds NaN or infinity; take out such images")
    if likelihood == "bernoulli" and x.size and not 0 <= x.min() <= x.max() <= 1:
        problem = "{likelihood=bernoulli} needs pixels in [0, 1]; scale them, or use 'gaussian'"
        raise InputError(f"{where}x", f"has values from {x.min():g} to {x.max():g}: {problem}")


def halved(shape: tuple[int, int]) -> tuple[int, int]:
    """The shape of an image after a convolution of stride 2: half of each size, rounded up."""
    height, width = shape
    return -(-height // 2), -(-width // 2)


def _image_shape(shape: Any, model: str, data_dim: int) -> tuple[int, int] | None:
    """(height, width) as Python's integers, or None; InputError if it is missing or is not that of the data."""
    if shape is None:
        if model == "conv":
            problem = "must be (height, width) for {model=conv}; give it, or use {model=dense}"
            raise InputError("image_shape", problem, None)
        return None
    is_pair = isinstance(shape, tuple | list) and len(shape) == 2 and all(map(_is_count, shape))
    require(is_pair, "image_shape", "must be (height, width), two integers of at least 1", shape)
    problem = f"has {math.prod(shape)} pixels, but data_dim={data_dim}"
    require(math.prod(shape) == data_dim, "image_shape", problem, shape)
    return tuple(map(int, shape))


def _is_count(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= 1
