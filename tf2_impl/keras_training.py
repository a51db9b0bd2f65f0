"""Support for Keras's `fit`, `evaluate`, `predict` and `save`. PyTorch needs no counterpart.

    model = VAE(784, latent_dim=10)
    model.compile(optimizer="adam")  # without a loss: the objective is the model's own
    model.fit(x, epochs=20, validation_data=(held_out,))
    output, mean, log_var = model.predict(held_out)
    model.save("vae.keras")  # and keras.models.load_model, where tf2_impl.vae is imported

Targets are ignored, so that `fit(x, x)` is the same. Noise comes from a generator of Keras's, which
`keras.utils.set_random_seed` seeds. These are other numbers than those of `train_vae`: they need not be
PyTorch's.
"""

import inspect
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from common.networks.input import check_images
from common.networks.start import ROWS_FOR_COMPONENTS, log_variance_start

NO_WEIGHTS = "sample_weight: the objective is a plain mean over images; leave the weights out"


def first_images(x: Any) -> np.ndarray | None:
    """An array's images, or the first ones of a `tf.data.Dataset`; None for a generator, which is read only once."""
    if isinstance(x, np.ndarray | tf.Tensor):
        return np.asarray(x)
    if not isinstance(x, tf.data.Dataset):
        return None
    batches: list[np.ndarray] = []
    for batch in x:
        batches.append(np.asarray(keras.utils.unpack_x_y_sample_weight(batch)[0]))
        if sum(map(len, batches)) >= ROWS_FOR_COMPONENTS:
            break
    return np.concatenate(batches) if batches else None


class Network(keras.Model):
    """A Keras model whose layers are built, from their sizes, when it is made."""

    def __init__(self, dtype: str) -> None:
        super().__init__(dtype=dtype)
        self.built = True


class TrainedByKeras(Network):
    """A model with a `config`, trained on its `objective` with noise that is drawn for each batch.

    `fit` starts a learned variance that is still 1 at what the images say, those of an array or the first
    ones of a `tf.data.Dataset`. With any other source it starts at 1, from where the code may never come to
    be used: fix `variance`, or assign `log_var` first. A plain autoencoder has each batch's most likely
    variance if none is fixed.
    """

    def __init__(self, dtype: str) -> None:
        super().__init__(dtype=dtype)
        self.means = [keras.metrics.Mean(name=name) for name in ("loss", *self.terms._fields[1:])]
        self.noise_generator = keras.random.SeedGenerator()

    def fit(self, *arguments: Any, **more: Any) -> Any:
        """As in Keras; ValueError, in one line, if an array does not hold valid images for the likelihood."""
        given = inspect.signature(super().fit).bind(*arguments, **more).arguments
        held_out, _, sample_weight = keras.utils.unpack_x_y_sample_weight(given.get("validation_data"))
        self._check(given.get("x"), given.get("sample_weight"))
        self._check(held_out, sample_weight, "validation_data: ")
        self._start(given.get("x"))
        return super().fit(*arguments, **more)

    def evaluate(self, *arguments: Any, **more: Any) -> Any:
        """As in Keras; errors as in `fit`."""
        given = inspect.signature(super().evaluate).bind(*arguments, **more).arguments
        self._check(given.get("x"), given.get("sample_weight"))
        return super().evaluate(*arguments, **more)

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """One update up the gradient of the objective; returns the means since the epoch began."""
        x = self._images(data)
        with tf.GradientTape() as tape:
            terms = self._terms(x)
            loss = -terms[0]
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return self._means_with(loss, terms, x)

    def test_step(self, data: Any) -> dict[str, Tensor]:
        """The loss and the parts of the objective of a batch, added to the means."""
        x = self._images(data)
        terms = self._terms(x)
        return self._means_with(-terms[0], terms, x)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The loss and the parts of the objective, once each."""
        return self.means

    def _start(self, x: Any) -> None:
        """Start a learned variance that is still 1, if x gives images now."""
        if not isinstance(getattr(self, "log_var", None), keras.Variable) or np.any(self.log_var):
            return
        if (images := first_images(x)) is not None:
            check_images(images, self.config["data_dim"], self.likelihood)
            self.log_var.assign(log_variance_start(images, self.config["latent_dim"], self.log_var.shape))

    def _check(self, x: Any, sample_weight: Any, where: str = "") -> None:
        settings = self.get_compile_config() or {} if self.compiled else {}
        for name in ("loss", "metrics", "weighted_metrics"):
            if settings.get(name):
                raise ValueError(f"compile({name}=...): the model has an objective of its own; leave the {name} out")
        if sample_weight is not None:
            raise ValueError(f"{where}{NO_WEIGHTS}")
        if isinstance(x, np.ndarray | tf.Tensor):
            check_images(x, self.config["data_dim"], self.config.get("likelihood", "gaussian"), where)

    def _terms(self, x: Tensor) -> NamedTuple:
        shape = tf.shape(x)[0], self.noise_dim
        return self.objective(x, keras.random.normal(shape, dtype=self.compute_dtype, seed=self.noise_generator))

    def _images(self, data: Any) -> Tensor:
        x, _, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if sample_weight is not None:
            raise ValueError(NO_WEIGHTS)
        return tf.cast(x, self.compute_dtype)

    def _means_with(self, loss: Tensor, terms: NamedTuple, x: Tensor) -> dict[str, Tensor]:
        for mean, value in zip(self.means, (loss, *terms[1:]), strict=True):
            mean.update_state(value, sample_weight=tf.shape(x)[0])
        return {mean.name: mean.result() for mean in self.means}
