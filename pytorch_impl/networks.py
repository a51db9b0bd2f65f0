r"""Encoder and decoder: the networks that an autoencoder and a variational autoencoder share.

A network is a chain of affine maps with a bend in between, $h \mapsto f(W h + b)$, and nothing in it is
random. What makes it a statistical model is how its output is read: as a point, as the parameters of a
distribution over codes, or as those of a distribution over pixels. The reading is the business of
`autoencoder.py` and `vae.py`.

Shapes: N images of D pixels, hidden layers of H units, codes of L dimensions.

    encoder   x (N, D) -> hidden (N, H) -> mean (N, L), log_var (N, L)
    decoder   z (N, L) -> hidden (N, H) -> output (N, D)

Where the frameworks differ: in the values that a new layer has. PyTorch draws weights and biases from one
uniform law, Keras weights from another, twice as wide for 784 inputs and 400 outputs, and biases of zero.
Here `common/draws.py` draws them, and `layouts.import_parameters` sets them in both. `layouts.py` has the
parameters' names and layouts.

Two models are made of these networks, and code that trains or uses one need not ask which it is. Both have

    objective(x, noise)      `terms`, a named tuple of scalars: the first is maximised, the others describe it
    noise_dim                how many normal numbers the objective takes for each image: `noise` is (N, noise_dim)
    held_out_objective(x)    the objective for held-out images, x being those for training
    encode(x), decode(z)     images (N, D) -> codes (N, L); codes -> expected pixels

Source: Kingma and Welling (2014), appendix C.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pytorch_impl.layouts import export_parameters as export_parameters
from pytorch_impl.layouts import import_parameters as import_parameters
from pytorch_impl.layouts import named_parameters

ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu, "linear": torch.positive}


def dense(in_dim: int, out_dim: int, dtype: str) -> nn.Linear:
    r"""The affine map $h \mapsto W h + b$, its parameters yet to be set by `layouts.import_parameters`."""
    return nn.Linear(in_dim, out_dim, dtype=getattr(torch, dtype))


class Encoder(nn.Module):
    r"""Mean and log variance of $q(z \mid x)$ from one hidden layer.

    $$h = f(W x + b), \qquad \mu = W_\mu h + b_\mu, \qquad \log \sigma^2 = W_\sigma h + b_\sigma$$
    """

    def __init__(self, data_dim: int, hidden_dim: int, latent_dim: int, activation: str, dtype: str) -> None:
        super().__init__()
        self.hidden = dense(data_dim, hidden_dim, dtype)
        self.mean = dense(hidden_dim, latent_dim, dtype)
        self.log_var = dense(hidden_dim, latent_dim, dtype)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, D) -> mean (N, L), log_var (N, L)."""
        hidden = self.activation(self.hidden(x))  # (N, H)
        return self.mean(hidden), self.log_var(hidden)  # (N, L), (N, L)


class Decoder(nn.Module):
    r"""Logits or mean of $p(x \mid z)$ from one hidden layer.

    $$h = f(W z + b), \qquad \mathrm{output} = W_o h + b_o$$
    """

    def __init__(self, latent_dim: int, hidden_dim: int, data_dim: int, activation: str, dtype: str) -> None:
        super().__init__()
        self.hidden = dense(latent_dim, hidden_dim, dtype)
        self.out = dense(hidden_dim, data_dim, dtype)
        self.activation = ACTIVATIONS[activation]

    def forward(self, z: Tensor) -> Tensor:
        """z (N, L) -> output (N, D)."""
        hidden = self.activation(self.hidden(z))  # (N, H)
        return self.out(hidden)  # (N, D)


def loss_and_gradients(
    model: nn.Module, x: Tensor, noise: Tensor | None = None
) -> tuple[NamedTuple, dict[str, Tensor]]:
    """The terms of a model's objective for a batch, and the gradient of the loss with respect to every parameter.

    The loss is the negative of the first term; gradients are found by the parameters' names. A plain
    autoencoder needs no noise.

    Where the frameworks differ: PyTorch remembers how every tensor was made, and is asked for gradients
    afterwards; TensorFlow records only inside a tape.
    """
    parameters = named_parameters(model)
    terms = model.objective(x, noise)
    gradients = torch.autograd.grad(-terms[0], list(parameters.values()))
    return type(terms)(*(term.detach() for term in terms)), dict(zip(parameters, gradients, strict=True))
