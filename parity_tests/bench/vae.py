"""An epoch of the VAE, 784-400-20-400-784 in float32: ours, a loop after pytorch/examples, Keras's `fit`.

Ours is the step of `train_vae`, with its drawn order and noise and its loss read at every update; XLA's
compilation is in the first call. The peers shuffle and draw for themselves. The floor is the matrix
products of the forward and the backward pass and nothing else.
"""

from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import pytorch_impl.layouts as torch_layouts
import pytorch_impl.optimizer as torch_optimizer
import pytorch_impl.vae as torch_vae
import tf2_impl.layouts as tf_layouts
import tf2_impl.optimizer as tf_optimizer
import tf2_impl.vae as tf_vae
from common import draws
from parity_tests.bench.measure import Case

DATA, HIDDEN, LATENT, BATCH = 784, 400, 20, 128
LAYERS = ((DATA, HIDDEN), (HIDDEN, LATENT), (HIDDEN, LATENT), (LATENT, HIDDEN), (HIDDEN, DATA))


def cases(quick: bool) -> Iterator[Case]:
    """One epoch of 38,400 images; with ``quick``, of a tenth."""
    n = 3_840 if quick else 38_400
    yield Case(
        "VAE, an epoch",
        f"{n} images, {DATA}-{HIDDEN}-{LATENT}",
        "float32",
        {"pytorch": ours_in_torch(images(n)), "tf2": ours_in_tensorflow(images(n))},
        {"pytorch/examples": torch_example(images(n)), "keras fit": keras_fit(images(n))},
        {"pytorch": torch_floor(n // BATCH), "tf2": tensorflow_floor(n // BATCH)},
        check_losses,
    )


def images(n: int) -> np.ndarray:
    """Binary images that twenty hidden causes explain, (n, 784)."""
    causes = draws.normals(0, "sample", (n, LATENT), 1)
    loadings = draws.normals(0, "sample", (LATENT, DATA), 2)
    return (causes @ loadings > 1.0).astype(np.float32)


def check_losses(results: dict[str, float]) -> None:
    """The contenders must have learned alike in their first epoch."""
    losses = list(results.values())
    if not max(losses) < 1.2 * min(losses):
        raise AssertionError(f"mean losses of the first epoch differ: {results}")


def batches(n: int, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and noise of an epoch, as `train_vae` draws them."""
    per_epoch = draws.batches_per_epoch(n, BATCH)
    for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
        rows = draws.minibatch(0, step, n, BATCH)
        yield rows, draws.normals(0, "noise", (len(rows), LATENT), step + 1).astype(np.float32)


def epochs(n: int, step: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[], float]:
    """A function that goes through one more epoch at each call, and gives its mean loss."""
    count = iter(range(1_000_000))
    return lambda: float(np.mean([step(*batch) for batch in batches(n, next(count))]))


def ours_in_torch(x: np.ndarray) -> Callable[[], float]:
    """The step of `pytorch_impl.train_vae`."""
    model, images = torch_vae.VAE(DATA, LATENT, HIDDEN, "relu"), torch.tensor(x)
    parameters = torch_layouts.named_parameters(model)
    torch_layouts.import_parameters(model, draws.initial_values(0, {n: p.shape for n, p in parameters.items()}))
    optimizer = torch_optimizer.Adam(parameters)

    def step(rows: np.ndarray, noise: np.ndarray) -> float:
        bound, gradients = torch_vae.loss_and_gradients(model, images[torch.tensor(rows)], torch.tensor(noise))
        optimizer.update(gradients)
        return -float(bound.elbo)

    return epochs(len(x), step)


def ours_in_tensorflow(x: np.ndarray) -> Callable[[], float]:
    """The step of `tf2_impl.train_vae`, one graph that XLA compiles."""
    model, images = tf_vae.VAE(DATA, LATENT, HIDDEN, "relu"), tf.constant(x)
    shapes = {name: value.shape for name, value in tf_layouts.export_parameters(model).items()}
    tf_layouts.import_parameters(model, draws.initial_values(0, shapes))
    optimizer = tf_optimizer.Adam(tf_layouts.named_parameters(model))

    @tf.function(autograph=False, jit_compile=True)
    def training_step(batch: tf.Tensor, noise: tf.Tensor, corrections: tf.Tensor) -> tf_vae.Bound:
        bound, gradients = tf_vae.loss_and_gradients(model, batch, noise)
        optimizer.apply(gradients, corrections)
        return bound

    def step(rows: np.ndarray, noise: np.ndarray) -> float:
        batch, corrections = tf.gather(images, rows), tf.constant(optimizer.count_step())
        return -float(training_step(batch, tf.constant(noise), corrections).elbo)

    return epochs(len(x), step)


def torch_example(x: np.ndarray) -> Callable[[], float]:
    """A loop over a DataLoader, with the library's loss and optimiser, as PyTorch's own examples write it."""
    torch.manual_seed(0)
    layers = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in LAYERS)
    adam = torch.optim.Adam(layers.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(torch.tensor(x)), batch_size=BATCH, shuffle=True)

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        hidden, mean, log_var, code, out = layers
        h = F.relu(hidden(batch))
        mean, log_var = mean(h), log_var(h)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_var)
        pixels = torch.sigmoid(out(F.relu(code(z))))
        reconstruction = F.binary_cross_entropy(pixels, batch, reduction="sum")
        return reconstruction - 0.5 * torch.sum(1 + log_var - mean.pow(2) - log_var.exp())

    def epoch() -> float:
        total = 0.0
        for (batch,) in loader:
            adam.zero_grad()
            loss = loss_of(batch)
            (loss / len(batch)).backward()
            adam.step()
            total += loss.item()
        return total / len(x)

    return epoch


class KerasExample(keras.Model):
    """A VAE with a `train_step` of its own, as Keras's examples write it."""

    def __init__(self) -> None:
        super().__init__()
        activations = ("relu", None, None, "relu", "sigmoid")
        self.parts = [keras.layers.Dense(size, a) for (_, size), a in zip(LAYERS, activations, strict=True)]
        self.loss_tracker = keras.metrics.Mean(name="loss")

    def train_step(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        hidden, mean, log_var, code, out = self.parts
        with tf.GradientTape() as tape:
            h = hidden(x)
            mean, log_var = mean(h), log_var(h)
            z = mean + tf.exp(0.5 * log_var) * tf.random.normal(tf.shape(mean))
            reconstruction = DATA * tf.reduce_mean(keras.losses.binary_crossentropy(x, out(code(z))))
            kl = -0.5 * tf.reduce_mean(tf.reduce_sum(1 + log_var - tf.square(mean) - tf.exp(log_var), axis=1))
            loss = reconstruction + kl
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


def keras_fit(x: np.ndarray) -> Callable[[], float]:
    """One epoch of `fit`."""
    keras.utils.set_random_seed(0)
    model = KerasExample()
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    return lambda: model.fit(x, batch_size=BATCH, epochs=1, verbose=0).history["loss"][-1]


def torch_floor(steps: int) -> Callable[[], None]:
    """The matrix products of so many steps."""
    tables = [(torch.rand(BATCH, i), torch.rand(i, o), torch.rand(BATCH, o)) for i, o in LAYERS]

    def products() -> None:
        for _ in range(steps):
            for number, (x, w, g) in enumerate(tables):
                x @ w, x.T @ g
                if number:
                    g @ w.T

    return products


def tensorflow_floor(steps: int) -> Callable[[], None]:
    """The matrix products of so many steps."""
    uniform = tf.random.uniform
    tables = [(uniform((BATCH, i)), uniform((i, o)), uniform((BATCH, o))) for i, o in LAYERS]

    @tf.function
    def products() -> list[tf.Tensor]:
        forward = [x @ w for x, w, _ in tables]
        weights = [tf.matmul(x, g, transpose_a=True) for x, _, g in tables]
        return forward + weights + [tf.matmul(g, w, transpose_b=True) for _, w, g in tables[1:]]

    return lambda: [products() for _ in range(steps)] and None
