"""What a VAE checks before it is built: one clear line for each argument out of its range, once for both frameworks."""

import math
import numbers
from typing import Any


def check_vae(
    data_dim: Any, latent_dim: Any, hidden_dim: Any, activation: Any, likelihood: Any, variance: Any, dtype: Any
) -> None:
    """ValueError naming the first argument of ``VAE`` that is out of its range."""
    for name, value in (("data_dim", data_dim), ("latent_dim", latent_dim), ("hidden_dim", hidden_dim)):
        if not isinstance(value, numbers.Integral) or value < 1:
            raise ValueError(f"{name}={value!r} must be an integer of at least 1")
    choices = {"activation": ("tanh", "relu"), "likelihood": ("bernoulli", "gaussian"), "dtype": ("float32", "float64")}
    for name, value in (("activation", activation), ("likelihood", likelihood), ("dtype", dtype)):
        if value not in choices[name]:
            raise ValueError(f"{name}={value!r} must be one of {', '.join(choices[name])}")
    if variance is None:
        return
    if likelihood != "gaussian":
        raise ValueError(f"variance={variance!r}: only a gaussian likelihood has one; leave it out")
    if not isinstance(variance, numbers.Real) or not 0 < variance < math.inf:
        raise ValueError(f"variance={variance!r} must be a positive number, or None to learn it")
