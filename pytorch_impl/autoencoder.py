r"""The plain autoencoder: squared error is the likelihood of one Gaussian, drawn around the reconstruction.

An encoder $f$ squeezes an image into a code of few numbers, a decoder $g$ makes an image of the code, and
both are trained until the image comes back: the squared error $|x - g(f(x))|^2$ is to be small. No
probability is in sight, and yet there is one. The log density of $x$ under $\mathcal{N}(g(f(x)), \sigma^2 I)$
is the squared error times $-1/(2 \sigma^2)$, plus constants, so that who minimises the one maximises the
other: training an autoencoder is maximum likelihood with one Gaussian, of one width in all directions, around
each reconstruction. The likelihood also says what $\sigma^2$ should be, which squared error does not: the
mean squared error itself.

But what is it a likelihood *of*? The centre of the Gaussian was computed from the very $x$ that it is asked
about. Its values, taken over all $x$, do not integrate to one: wherever reconstruction is good they are high,
and a network that copied its input would be infinitely sure of everything. The number measures compression,
not surprise, and cannot stand beside $\log p(x)$. To have a density of $x$ the centre must not know $x$. Two
ways lead there. One puts a Gaussian on the reconstruction of each *training* image and averages them,
$\frac{1}{M} \sum_m \mathcal{N}(x \mid g(f(x_m)), \sigma^2 I)$, a mixture with one component for each image
that was ever seen. The other gives the codes a distribution $p(z)$ of their own and averages over that,
$\int p(z) \, \mathcal{N}(x \mid g(z), \sigma^2 I) \, dz$, a continuous mixture, which is the variational
autoencoder (`vae.py`). `make compare` measures all three.

![Images decoded from codes that were drawn, not encoded. Left: the plain autoencoder has no distribution of
codes, and draws from N(0, I) are unlike the codes that it learned. Middle: a Gaussian fitted to those codes
afterwards does as well, to the eye, as the variational autoencoder on the right, since it supplies what was
missing, a distribution of codes. It does not supply a density of images: only the model on the right was
trained as one.](samples_compared.svg)

With `activation="linear"` the networks are affine maps, and the reconstruction that squared error likes best
is the projection onto the first L principal components: the linear autoencoder is principal component
analysis.

Shapes: N images of D pixels, hidden layers of H units, codes of L dimensions.

    encoder   x (N, D) -> hidden (N, H) -> code (N, L)
    decoder   code (N, L) -> hidden (N, H) -> reconstruction (N, D)

Source: I. Goodfellow, Y. Bengio, A. Courville, "Deep learning" (2016), sections 5.5.1 and 14.4; P. Baldi, K.
Hornik, "Neural networks and principal component analysis", Neural Networks 2 (1989).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from common.networks.input import check_autoencoder
from pytorch_impl.elbo import gaussian_log_likelihood
from pytorch_impl.networks import ACTIVATIONS, Decoder, dense
from pytorch_impl.networks import loss_and_gradients as loss_and_gradients


class Fit(NamedTuple):
    """How well reconstructions fit: the log likelihood in nats per image, the mean squared error per pixel."""

    log_likelihood: Tensor  # ()
    squared_error: Tensor  # ()


class CodeEncoder(nn.Module):
    r"""The code of an image from one hidden layer: a point, where the encoder of a VAE gives a distribution.

    $$h = f(W x + b), \qquad z = W_z h + b_z$$
    """

    def __init__(self, data_dim: int, hidden_dim: int, latent_dim: int, activation: str, dtype: str) -> None:
        super().__init__()
        self.hidden = dense(data_dim, hidden_dim, dtype)
        self.code = dense(hidden_dim, latent_dim, dtype)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """x (N, D) -> code (N, L)."""
        hidden = self.activation(self.hidden(x))  # (N, H)
        return self.code(hidden)  # (N, L)


class Autoencoder(nn.Module):
    r"""Encoder, decoder and the Gaussian around the reconstruction that trains them.

    `variance` is $\sigma^2$, None for the most likely one. `dtype` is "float32" or "float64". Raises
    ValueError, in one line, for an argument out of its range.
    """

    terms = Fit

    def __init__(
        self,
        data_dim: int,
        latent_dim: int = 10,
        hidden_dim: int = 400,
        activation: str = "tanh",
        variance: float | None = None,
        dtype: str = "float32",
    ) -> None:
        config = check_autoencoder(data_dim, latent_dim, hidden_dim, activation, variance, dtype)
        super().__init__()
        self.config, self.noise_dim, self.variance = config, 0, config["variance"]
        sizes = {name: value for name, value in config.items() if name != "variance"}
        self.encoder = CodeEncoder(**sizes)
        self.decoder = Decoder(**sizes)

    def get_config(self) -> dict[str, Any]:
        """The arguments that build this model again, but for its parameters."""
        return dict(self.config)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, D) -> reconstruction (N, D)."""
        return self.decoder(self.encoder(x))

    def log_variance(self, squared_error: Tensor) -> Tensor:
        r"""$\log \sigma^2$, a scalar: of the variance given, or of the most likely one, the mean squared error."""
        if self.variance is None:
            return torch.log(squared_error)
        return torch.full_like(squared_error, math.log(self.variance))

    def fit_of(self, x: Tensor, training_error: Tensor | None = None) -> Fit:
        """The fit of a batch, at the variance that is given or most likely for this batch; or, for images that were
        held out, most likely for the training images, whose mean squared error is `training_error`."""
        reconstruction = self(x)  # (N, D)
        squared_error = mean_squared_error(x, reconstruction)  # ()
        log_var = self.log_variance(squared_error if training_error is None else training_error)  # ()
        log_likelihood = gaussian_log_likelihood(x, reconstruction, log_var)  # (N,)
        return Fit(log_likelihood.mean(), squared_error)

    def objective(self, x: Tensor, noise: Tensor | None = None) -> Fit:
        """`fit_of` a batch, the variance following it: what training climbs. Nothing is drawn."""
        return self.fit_of(x)

    def held_out_objective(self, x: Tensor) -> Callable[[Tensor, Tensor], Fit]:
        """`fit_of` for images held out, at the variance that is given or most likely for the training images x."""
        training_error = self.fit_of(x).squared_error  # ()
        return lambda held_out, noise=None: self.fit_of(held_out, training_error)

    def encode(self, x: Tensor) -> Tensor:
        """x (N, D) -> codes (N, L)."""
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """z (N, L) -> expected pixels (N, D)."""
        return self.decoder(z)


def mean_squared_error(x: Tensor, reconstruction: Tensor) -> Tensor:
    r"""The mean squared error per pixel, a scalar: the variance under which the images were most probable.

    $$\sigma^2_{\mathrm{ML}} = \frac{1}{N D} \sum_n \sum_d (x_{nd} - g(f(x_n))_d)^2$$

    At this variance the log likelihood is $-\frac{D}{2} (\log 2 \pi + \log \sigma^2_{\mathrm{ML}} + 1)$ per
    image. Its gradient for the weights is that at a fixed variance of this size, since at a maximum it does
    not matter whether the variance follows.

    Source: Bishop (2006), equation 3.21; 5.13 and 5.16 with several targets.
    """
    return torch.square(x - reconstruction).mean()


def kernel_log_density(x: Tensor, centres: Tensor, log_var: Tensor) -> Tensor:
    r"""The log density of every image under a Gaussian around each of M centres, equally weighted, (N,).

    $$\log p(x) = \log \frac{1}{M} \sum_m \mathcal{N}(x \mid c_m, \sigma^2 I)$$

    With centres $c_m = g(f(x_m))$ from other images than x this is a density made of an autoencoder. The
    differences take N M D numbers at once.

    Source: Bishop (2006), equation 2.250.
    """
    squared_distance = torch.square(x[:, None, :] - centres).sum(dim=-1)  # (N, M)
    # log N(x | c, sigma² I) = -1/2 (D log 2 pi + D log sigma² + |x - c|² / sigma²)
    constant = x.shape[1] * (math.log(2 * math.pi) + log_var)  # ()
    log_densities = -0.5 * (constant + squared_distance * torch.exp(-log_var))  # (N, M)
    return torch.logsumexp(log_densities, dim=1) - math.log(centres.shape[0])  # (N,)
