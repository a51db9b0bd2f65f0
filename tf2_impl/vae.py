r"""The variational autoencoder: neural nets inside a graphical model.

The model is as small as a mixture of Gaussians: a code is drawn from a standard normal,
$z \sim \mathcal{N}(0, I)$, then the data from a distribution whose parameters depend on the code,
$x \sim p(x \mid z)$. A mixture has K codes and a table of K means; here the codes are a continuum, and a
network, the *decoder*, computes the mean for each. That makes the posterior $p(z \mid x)$ intractable, so
EM's E step is out of reach; a second network, the *encoder*, is trained to propose a Gaussian $q(z \mid x)$
in its place. Both climb one objective, the ELBO (see `elbo.py`).

With a Gaussian decoder this *is* a mixture of Gaussians, of infinitely many, weighted by the prior of their
codes:

$$p(x) = \int \mathcal{N}(x \mid \mu(z), \sigma^2 I) \, \mathcal{N}(z \mid 0, I) \, dz$$

A plain autoencoder with squared error has no such integral: it is one Gaussian around each reconstruction.

![What the decoder makes of codes on a grid that shares out the prior evenly: neighbours look
alike.](vae_manifold.svg)

![The codes of held-out images, of two dimensions: clothes and shoes have sorted themselves, though no label
was shown.](vae_latent_space.svg)

![Held-out images, one of each class, and what two numbers keep of them.](vae_reconstructions.svg)

![Clothes that nobody made: the decoder's mean for codes drawn from the prior.](vae_samples.svg)

![The same for the small digits, while a VAE of 64 hidden units learns to write them: each point is the code of
a held-out digit, each colour a class that nobody told it.](codes_find_their_places.svg)

![The trained decoder at work: move the code, by the sliders or by pointing, and see its
picture.](picture_of_a_code.svg)

Shapes: N images of D pixels, hidden layers of H units, codes of L dimensions.

    encoder   x (N, D) -> hidden (N, H) -> mean (N, L), log_var (N, L)
    decoder   z (N, L) -> hidden (N, H) -> output (N, D), the logits of a Bernoulli or the mean of a Gaussian

These are the dense networks of `networks.py`; those of `convolution.py` take their place if `model` is
"conv". A Gaussian decoder has one variance for all pixels, learned unless `variance` fixes it, or one for
each pixel. A learned variance has to start near where it will end (see `gaussian_start` in
`common/networks/start.py`). From 1, far too wide for pixels in [0, 1], no reconstruction is much better than
another, the divergence is not worth its price, and $q(z \mid x)$ becomes the prior: all images are decoded
alike.

With `activation="linear"`, dense networks and one variance for all this is probabilistic PCA, the one VAE
whose $\log p(x)$ is known (see `linear_gaussian_log_evidence` in `elbo.py`).

Source: Kingma and Welling (2014), section 3 and appendix C.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from tensorflow import Tensor

from common.networks.input import DEFAULT_CHANNELS, check_vae
from tf2_impl.convolution import ConvDecoder, ConvEncoder
from tf2_impl.elbo import (
    Bound,
    bernoulli_log_likelihood,
    evidence_lower_bound,
    gaussian_kl_to_standard_normal,
    gaussian_log_likelihood,
    importance_weighted_bound,
    log_importance_weights,
    reparameterize,
)
from tf2_impl.keras_training import TrainedByKeras
from tf2_impl.networks import Decoder, Encoder
from tf2_impl.networks import loss_and_gradients as loss_and_gradients


@keras.saving.register_keras_serializable("mixtures_to_vae")
class VAE(TrainedByKeras):
    r"""Encoder, decoder and the bound that trains them.

    `likelihood` is "bernoulli" (binary data) or "gaussian"; `variance` is that of a Gaussian decoder, None to
    learn one for all pixels, "per-pixel" to learn one for each. `dtype` is "float32" or "float64". `model` is
    "dense" or "conv"; the latter needs the `image_shape` (H, W), with H W = `data_dim`, and has `channels` in
    its first convolution and twice as many in its second. Raises ValueError, in one line, for an argument out
    of its range.

    The methods do not check their images, so that no update waits: of pixels outside [0, 1] a Bernoulli
    likelihood is a number without a meaning. `check_images` in `common/networks/input.py` refuses them.
    """

    terms = Bound

    def __init__(
        self,
        data_dim: int,
        latent_dim: int = 10,
        hidden_dim: int = 400,
        activation: str = "tanh",
        likelihood: str = "bernoulli",
        variance: float | str | None = None,
        dtype: str = "float32",
        model: str = "dense",
        image_shape: tuple[int, int] | None = None,
        channels: int = DEFAULT_CHANNELS,
    ) -> None:
        config = check_vae(
            data_dim, latent_dim, hidden_dim, activation, likelihood, variance, dtype, model, image_shape, channels
        )
        super().__init__(dtype)
        self.config, self.noise_dim = config, config["latent_dim"]
        names = ("image_shape", "channels") if model == "conv" else ("data_dim",)
        sizes = {name: config[name] for name in (*names, "hidden_dim", "latent_dim", "activation", "dtype")}
        self.encoder = ConvEncoder(**sizes) if model == "conv" else Encoder(**sizes)
        self.decoder = ConvDecoder(**sizes) if model == "conv" else Decoder(**sizes)
        self.likelihood = likelihood
        if likelihood == "gaussian" and variance in (None, "per-pixel"):
            shape = (data_dim,) if variance == "per-pixel" else ()
            self.log_var = self.add_weight(shape=shape, initializer="zeros", name="log_var")
        elif likelihood == "gaussian":
            self.log_var = tf.constant(math.log(variance), dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments that build this model again, but for its parameters."""
        return dict(self.config)

    def call(self, x: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """x (N, D), noise (N, L) -> output (N, D) of a drawn code, mean (N, L) and log_var (N, L) of the codes.

        Without noise, the output is that of the mean.
        """
        mean, log_var = self.encoder(x)  # (N, L), (N, L)
        z = mean if noise is None else reparameterize(mean, log_var, noise)  # (N, L)
        return self.decoder(z), mean, log_var

    def log_likelihood(self, x: Tensor, output: Tensor) -> Tensor:
        r"""$\log p(x \mid z)$ from the decoder's output, (N,)."""
        if self.likelihood == "bernoulli":
            return bernoulli_log_likelihood(x, output)
        return gaussian_log_likelihood(x, output, self.log_var)

    def elbo(self, x: Tensor, noise: Tensor) -> Bound:
        """The ELBO of a batch, of images and noise (N, L), with its parts."""
        output, mean, log_var = self(x, noise)
        return evidence_lower_bound(self.log_likelihood(x, output), gaussian_kl_to_standard_normal(mean, log_var))

    objective = elbo

    def held_out_objective(self, x: Tensor) -> Callable[[Tensor, Tensor], Bound]:
        """`elbo` again: the variance is a parameter, whatever the training images x are."""
        return self.elbo

    def encode(self, x: Tensor) -> Tensor:
        """x (N, D) -> the means of the codes (N, L)."""
        return self.encoder(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        """z (N, L) -> expected pixels (N, D)."""
        return self.expected_data(self.decoder(z))

    def expected_data(self, output: Tensor) -> Tensor:
        r"""$\mathbb{E}[x \mid z]$ from the decoder's output, (N, D): what to show as an image."""
        return tf.sigmoid(output) if self.likelihood == "bernoulli" else output


def importance_weighted_log_likelihood(model: VAE, x: Tensor, noise: Tensor) -> Tensor:
    r"""An estimate of $\log p(x)$ for every image, (N,), from S draws of its own, noise (S, N, L).

    $$z_s \sim q(z \mid x), \qquad \log p(x) \approx \log \frac{1}{S} \sum_s
      \frac{p(x \mid z_s) \, p(z_s)}{q(z_s \mid x)}$$

    Source: Burda et al. (2016), equation 8.
    """
    mean, log_var = model.encoder(x)  # (N, L), (N, L)
    z = reparameterize(mean, log_var, noise)  # (S, N, L)
    output = model.decoder(tf.reshape(z, [-1, z.shape[-1]]))  # (S N, D)
    log_likelihood = model.log_likelihood(x, tf.reshape(output, [*z.shape[:-1], output.shape[-1]]))  # (S, N)
    return importance_weighted_bound(log_importance_weights(log_likelihood, z, mean, log_var))
