r"""The variational autoencoder: neural nets inside a graphical model.

The model is as small as a mixture of Gaussians: a code is drawn from a standard normal, $z \sim \mathcal{N}(0, I)$,
then the data from a distribution whose parameters depend on the code, $x \sim p(x \mid z)$. A mixture has K codes and
a table of K means; here the codes are a continuum, and a network, the *decoder*, computes the mean for each. That
makes the posterior $p(z \mid x)$ intractable, so EM's E step is out of reach; a second network, the *encoder*, is
trained to propose a Gaussian $q(z \mid x)$ in its place. Both climb one objective, the ELBO (see `elbo.py`).

Shapes: N images of D pixels, hidden layers of H units, codes of L dimensions.

    encoder   x (N, D) -> hidden (N, H) -> mean (N, L), log_var (N, L)
    decoder   z (N, L) -> hidden (N, H) -> output (N, D), the logits of a Bernoulli or the mean of a Gaussian

A Gaussian decoder has one variance for all pixels, learned unless `variance` fixes it. Parameters have one name and
one layout in both frameworks, PyTorch's `state_dict`; the TensorFlow side transposes the kernels of its dense layers.

Source: Kingma and Welling (2014), section 3 and appendix C.
"""

import math

import keras
import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from common.vae_checks import check_vae
from tf2_impl.elbo import (
    Bound,
    bernoulli_log_likelihood,
    evidence_lower_bound,
    gaussian_kl_to_standard_normal,
    gaussian_log_likelihood,
    reparameterize,
)

ACTIVATIONS = {"tanh": tf.tanh, "relu": tf.nn.relu}


def dense(in_dim: int, out_dim: int, dtype: str) -> keras.layers.Dense:
    r"""The affine map $h \mapsto W h + b$, its parameters yet to be set by `import_parameters`."""
    layer = keras.layers.Dense(out_dim, dtype=dtype)
    layer.build((None, in_dim))
    return layer


class Encoder(keras.Model):
    r"""Mean and log variance of $q(z \mid x)$ from one hidden layer.

    $$h = f(W x + b), \qquad \mu = W_\mu h + b_\mu, \qquad \log \sigma^2 = W_\sigma h + b_\sigma$$
    """

    def __init__(self, data_dim: int, hidden_dim: int, latent_dim: int, activation: str, dtype: str) -> None:
        super().__init__(dtype=dtype)
        self.hidden = dense(data_dim, hidden_dim, dtype)
        self.mean = dense(hidden_dim, latent_dim, dtype)
        self.log_var = dense(hidden_dim, latent_dim, dtype)
        self.activation = ACTIVATIONS[activation]

    def call(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, D) -> mean (N, L), log_var (N, L)."""
        hidden = self.activation(self.hidden(x))  # (N, H)
        return self.mean(hidden), self.log_var(hidden)  # (N, L), (N, L)


class Decoder(keras.Model):
    r"""Logits or mean of $p(x \mid z)$ from one hidden layer.

    $$h = f(W z + b), \qquad \mathrm{output} = W_o h + b_o$$
    """

    def __init__(self, latent_dim: int, hidden_dim: int, data_dim: int, activation: str, dtype: str) -> None:
        super().__init__(dtype=dtype)
        self.hidden = dense(latent_dim, hidden_dim, dtype)
        self.out = dense(hidden_dim, data_dim, dtype)
        self.activation = ACTIVATIONS[activation]

    def call(self, z: Tensor) -> Tensor:
        """z (N, L) -> output (N, D)."""
        hidden = self.activation(self.hidden(z))  # (N, H)
        return self.out(hidden)  # (N, D)


class VAE(keras.Model):
    r"""Encoder, decoder and the bound that trains them.

    `likelihood` is "bernoulli" (binary data) or "gaussian"; `variance` is that of a Gaussian decoder, None to learn
    it. `dtype` is "float32" or "float64". Raises ValueError, in one line, for an argument out of its range.
    """

    def __init__(
        self,
        data_dim: int,
        latent_dim: int = 10,
        hidden_dim: int = 400,
        activation: str = "tanh",
        likelihood: str = "bernoulli",
        variance: float | None = None,
        dtype: str = "float32",
    ) -> None:
        check_vae(data_dim, latent_dim, hidden_dim, activation, likelihood, variance, dtype)
        super().__init__(dtype=dtype)
        self.encoder = Encoder(data_dim, hidden_dim, latent_dim, activation, dtype)
        self.decoder = Decoder(latent_dim, hidden_dim, data_dim, activation, dtype)
        self.likelihood = likelihood
        if likelihood == "gaussian" and variance is None:
            self.log_var = self.add_weight(shape=(), initializer="zeros", name="log_var")
        elif likelihood == "gaussian":
            self.log_var = tf.constant(math.log(variance), dtype)

    def call(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (N, D), noise (N, L) -> output (N, D) of a drawn code, mean (N, L) and log_var (N, L) of the codes."""
        mean, log_var = self.encoder(x)  # (N, L), (N, L)
        z = reparameterize(mean, log_var, noise)  # (N, L)
        return self.decoder(z), mean, log_var

    def log_likelihood(self, x: Tensor, output: Tensor) -> Tensor:
        r"""$\log p(x \mid z)$ from the decoder's output, (N,)."""
        if self.likelihood == "bernoulli":
            return bernoulli_log_likelihood(x, output)
        return gaussian_log_likelihood(x, output, self.log_var)

    def elbo(self, x: Tensor, noise: Tensor) -> Bound:
        """The ELBO of a batch with its parts; the loss is its negative."""
        output, mean, log_var = self(x, noise)
        return evidence_lower_bound(self.log_likelihood(x, output), gaussian_kl_to_standard_normal(mean, log_var))

    def expected_data(self, output: Tensor) -> Tensor:
        r"""$\mathbb{E}[x \mid z]$ from the decoder's output, (N, D): what to show as an image."""
        return tf.sigmoid(output) if self.likelihood == "bernoulli" else output


def named_parameters(model: VAE) -> dict[str, tf.Variable]:
    """The trainable parameters by canonical name, in canonical order."""
    layers = {
        "encoder.hidden": model.encoder.hidden,
        "encoder.mean": model.encoder.mean,
        "encoder.log_var": model.encoder.log_var,
        "decoder.hidden": model.decoder.hidden,
        "decoder.out": model.decoder.out,
    }
    table = {f"{name}.weight": layer.kernel.value for name, layer in layers.items()}
    table |= {f"{name}.bias": layer.bias.value for name, layer in layers.items()}
    if isinstance(getattr(model, "log_var", None), keras.Variable):
        table["log_var"] = model.log_var.value
    return dict(sorted(table.items()))


def loss_and_gradients(model: VAE, x: Tensor, noise: Tensor) -> tuple[Bound, dict[str, Tensor]]:
    """The bound of a batch, and the gradient of the loss, -ELBO, with respect to every parameter, by name."""
    with tf.GradientTape() as tape:
        bound = model.elbo(x, noise)
        loss = -bound.elbo
    return bound, tape.gradient(loss, named_parameters(model))


def canonical(name: str, value: Tensor) -> np.ndarray:
    """A parameter, gradient or moment in the canonical layout, PyTorch's: (out, in) where TensorFlow has (in, out)."""
    return value.numpy().T.copy() if name.endswith(".weight") else value.numpy()


def native(name: str, array: np.ndarray, like: Tensor) -> Tensor:
    """An array of canonical layout as a tensor of this framework's layout, with the dtype of `like`."""
    return tf.constant(array.T if name.endswith(".weight") else array, like.dtype)


def export_parameters(model: VAE) -> dict[str, np.ndarray]:
    """All parameters in the canonical layout."""
    return {name: canonical(name, parameter) for name, parameter in named_parameters(model).items()}


def import_parameters(model: VAE, arrays: dict[str, np.ndarray]) -> None:
    """Set all parameters from arrays in the canonical layout; ValueError if a name or a shape does not fit."""
    own = named_parameters(model)
    if own.keys() != arrays.keys():
        raise ValueError(f"parameters {sorted(own.keys() ^ arrays.keys())} are not in both: use the same architecture")
    values = {name: native(name, arrays[name], parameter) for name, parameter in own.items()}
    for name, value in values.items():
        if value.shape != own[name].shape:
            raise ValueError(f"parameter {name} has shape {tuple(value.shape)}, not {tuple(own[name].shape)}")
    for name, value in values.items():
        own[name].assign(value)
