r"""Encoder and decoder: the networks that an autoencoder and a variational autoencoder share.

A network is a chain of affine maps with a bend in between, $h \mapsto f(W h + b)$, and nothing in it is
random. What makes it a statistical model is how its output is read: as a point, as the parameters of a
distribution over codes, or as those of a distribution over pixels. The reading is the business of
`autoencoder.py` and `vae.py`.

Shapes: N images of D pixels, hidden layers of H units, codes of L dimensions.

    encoder   x (N, D) -> hidden (N, H) -> mean (N, L), log_var (N, L)
    decoder   z (N, L) -> hidden (N, H) -> output (N, D)

Parameters have one name and one layout in both frameworks, PyTorch's `state_dict`. The TensorFlow side
permutes the axes of its own, and only here; kernels are not flipped in either. I and O are a layer's inputs
and outputs, c channels, h and w the height and width of a map of features, and [c h w] is one flattened axis:

    layer                                   PyTorch           TensorFlow
    dense                   weight          (O, I)            (I, O)
    convolution             weight          (O, I, 3, 3)      (3, 3, I, O)
    transposed convolution  weight          (I, O, 3, 3)      (3, 3, O, I)
    dense, of a map         hidden.weight   (O, [c h w])      (h, w, c, O)
    dense, to a map         features.weight ([c h w], I)      (I, h, w, c)
                            features.bias   ([c h w])         (h, w, c)

Where the frameworks differ: in the values that a new layer has. PyTorch draws weights and biases from one
uniform law, Keras weights from another, twice as wide for 784 inputs and 400 outputs, and biases of zero.
Here `common/draws.py` draws them, and `import_parameters` sets them in both.

Two models are made of these networks, and code that trains or uses one need not ask which it is. Both have

    objective(x, noise)      `terms`, a named tuple of scalars: the first is maximised, the others describe it
    noise_dim                how many normal numbers the objective takes for each image: `noise` is (N, noise_dim)
    held_out_objective(x)    the objective for held-out images, x being those for training
    encode(x), decode(z)     images (N, D) -> codes (N, L); codes -> expected pixels

Source: Kingma and Welling (2014), appendix C.
"""

import math
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from common.data.arrays import as_array
from tf2_impl.keras_training import Network

ACTIVATIONS = {"tanh": tf.tanh, "relu": tf.nn.relu, "linear": tf.identity}
CONVOLUTION = ((3,), (2,), (0,), (1,))
# This framework's axes in PyTorch's order, by parameter and rank; PyTorch has one axis for those within a bracket.
LAYOUTS = {
    ("conv1.weight", 4): CONVOLUTION,
    ("conv2.weight", 4): CONVOLUTION,
    ("conv_transpose1.weight", 4): CONVOLUTION,
    ("conv_transpose2.weight", 4): CONVOLUTION,
    ("hidden.weight", 4): ((3,), (2, 0, 1)),
    ("features.weight", 4): ((3, 1, 2), (0,)),
    ("features.bias", 3): ((2, 0, 1),),
}
DEFAULT = {0: (), 1: ((0,),), 2: ((1,), (0,))}  # scalars, biases and dense weights


def dense(in_dim: int, out_dim: int, dtype: str) -> keras.layers.Dense:
    r"""The affine map $h \mapsto W h + b$, its parameters yet to be set by `import_parameters`."""
    layer = keras.layers.Dense(out_dim, dtype=dtype)
    layer.build((None, in_dim))
    return layer


class Encoder(Network):
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


class Decoder(Network):
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


def named_parameters(model: keras.Model) -> dict[str, tf.Variable]:
    """The trainable parameters by canonical name, in canonical order."""
    table = {}
    for part in ("encoder", "decoder"):
        for name, layer in vars(getattr(model, part)).items():
            if isinstance(layer, keras.layers.Layer):
                table[f"{part}.{name}.weight"] = layer.kernel.value
                table[f"{part}.{name}.bias"] = layer.bias.value
    if isinstance(getattr(model, "log_var", None), keras.Variable):
        table["log_var"] = model.log_var.value
    return dict(sorted(table.items()))


def loss_and_gradients(
    model: keras.Model, x: Tensor, noise: Tensor | None = None
) -> tuple[NamedTuple, dict[str, Tensor]]:
    """The terms of a model's objective for a batch, and the gradient of the loss with respect to every parameter.

    The loss is the negative of the first term; gradients are found by the parameters' names. A plain
    autoencoder needs no noise.

    Where the frameworks differ: PyTorch remembers how every tensor was made, and is asked for gradients
    afterwards; TensorFlow records only inside a tape.
    """
    with tf.GradientTape() as tape:
        terms = model.objective(x, noise)
        loss = -terms[0]
    return terms, tape.gradient(loss, named_parameters(model))


def canonical(name: str, value: Tensor) -> np.ndarray:
    """A parameter, gradient or moment in the canonical layout, PyTorch's, by the table above."""
    groups = LAYOUTS.get((name.partition(".")[2], len(value.shape))) or DEFAULT[len(value.shape)]
    shape = [math.prod(value.shape[axis] for axis in group) for group in groups]
    return np.array(value.numpy().transpose(sum(groups, ())).reshape(shape), order="C")


def native(name: str, array: np.ndarray, like: Tensor) -> Tensor:
    """An array of canonical layout as a tensor of this framework's layout, with the dtype of `like`."""
    groups = LAYOUTS.get((name.partition(".")[2], len(like.shape))) or DEFAULT[len(like.shape)]
    axes = sum(groups, ())
    return tf.constant(array.reshape([like.shape[axis] for axis in axes]).transpose(np.argsort(axes)), like.dtype)


def export_parameters(model: keras.Model) -> dict[str, np.ndarray]:
    """All parameters in the canonical layout."""
    return {name: canonical(name, parameter) for name, parameter in named_parameters(model).items()}


def import_parameters(model: keras.Model, arrays: dict[str, Any]) -> None:
    """Set all parameters from arrays, or either framework's tensors, in the canonical layout.

    Raises ValueError if a name or a shape does not fit.
    """
    parameters = named_parameters(model)
    values = {name: np.asarray(as_array(value, name)) for name, value in arrays.items()}
    if differing := sorted(parameters.keys() ^ values.keys()):
        raise ValueError(f"parameters {differing} are not in both: use the same architecture")
    for name, parameter in parameters.items():
        if values[name].shape != (shape := canonical(name, parameter).shape):
            raise ValueError(f"parameter {name} has shape {values[name].shape}, not {shape}")
    for name, parameter in parameters.items():
        parameter.assign(native(name, values[name], parameter))
