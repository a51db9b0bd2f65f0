"""The same VAE in PyTorch, TensorFlow and NumPy: what the tests of whole trainings have in common."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import torch

import pytorch_impl.layouts as torch_layouts
import pytorch_impl.optimizer as torch_optimizer
import pytorch_impl.vae as torch_vae
import tf2_impl.layouts as tf_layouts
import tf2_impl.optimizer as tf_optimizer
import tf2_impl.vae as tf_vae
from common import draws
from common.data import datasets
from common.runs.network import MOMENTS
from parity_tests.conftest import MODES
from parity_tests.support import oracle as numpy_oracle

Arrays = dict[str, np.ndarray]
CASES = {
    "bernoulli": {"likelihood": "bernoulli"},
    "gaussian learned": {"likelihood": "gaussian"},
    "gaussian fixed": {"likelihood": "gaussian", "variance": 0.05},
}


class Learner:
    """A model and its optimizer, seen as arrays with canonical names: parameters, moments, gradients."""

    def __init__(self, model: Any, framework: str, reproducible: bool = False, mode: str = "function") -> None:
        self.model, self.is_torch = model, framework == "torch"
        self.layouts = torch_layouts if self.is_torch else tf_layouts
        self.optimizer = torch_optimizer if self.is_torch else tf_optimizer
        self.adam = self.optimizer.Adam(self.layouts.named_parameters(model), reproducible=reproducible)
        self._step: Callable = (
            (lambda *t: torch_vae.loss_and_gradients(model, *t))
            if self.is_torch
            else MODES[mode](lambda *t: tf_vae.loss_and_gradients(model, *t))
        )

    def loss_and_gradients(self, x: np.ndarray, noise: np.ndarray) -> tuple[float, Arrays]:
        """The loss and every gradient tensor of a batch."""
        bound, gradients = self._step(*map(torch.tensor if self.is_torch else tf.constant, (x, noise)))
        return -float(bound.elbo), {name: self.layouts.canonical(name, g) for name, g in gradients.items()}

    def update(self, gradients: Arrays) -> None:
        """One step of Adam."""
        self.adam.update({name: self.layouts.native(name, gradients[name], p) for name, p in self._parameters()})

    def before_rounding(self, gradients: Arrays) -> Arrays:
        """The state after one reproducible update, before its parameters are rounded; nothing is changed."""
        found: dict[str, Arrays] = {prefix: {} for prefix in ("", *MOMENTS)}
        corrections = self.optimizer.bias_corrections(self.adam.step + 1, *self.adam.settings[1:3])
        for name, p in self._parameters():
            state = self.layouts.native(name, gradients[name], p), *(m[name] for m in self._moments())
            updated = self.optimizer.adam_update(p, *state, corrections, *self.adam.settings, True)
            for group, value in zip(found.values(), updated, strict=True):
                group[name] = self.layouts.canonical(name, value)
        return {prefix + name: value for prefix, group in found.items() for name, value in group.items()}

    def state(self) -> Arrays:
        """Parameters and both moments, under the names of a checkpoint."""
        state = self.layouts.export_parameters(self.model)
        for prefix, moment in zip(MOMENTS, self._moments(), strict=True):
            state |= {prefix + name: self.layouts.canonical(name, value) for name, value in moment.items()}
        return state

    def set_state(self, state: Arrays, step: int) -> None:
        """Take over another learner's parameters, moments and count of updates."""
        names = [name for name, _ in self._parameters()]
        self.layouts.import_parameters(self.model, {name: state[name] for name in names})
        moments = (
            {name: self.layouts.native(name, state[prefix + name], p) for name, p in self._parameters()}
            for prefix in MOMENTS
        )
        self.adam.resume(step, *moments)

    def _moments(self) -> tuple:
        return self.adam.first_moment, self.adam.second_moment

    def _parameters(self) -> Any:
        return self.layouts.named_parameters(self.model).items()


class NumpyLearner:
    """The same from `numpy_oracle`, derivatives by hand."""

    def __init__(self, parameters: Arrays, case: str, activation: str, reproducible: bool = False) -> None:
        variance = CASES[case].get("variance")
        self.arguments = activation, CASES[case]["likelihood"], None if variance is None else np.log(variance)
        self.adam = numpy_oracle.Adam(dict(parameters), reproducible=reproducible)

    def loss_and_gradients(self, x: np.ndarray, noise: np.ndarray) -> tuple[float, Arrays]:
        """The loss and every gradient tensor of a batch."""
        terms, gradients = numpy_oracle.terms_and_gradients(self.adam.parameters, x, noise, *self.arguments)
        return -terms["elbo"], gradients

    def update(self, gradients: Arrays) -> None:
        """One step of Adam."""
        self.adam.update(gradients)

    def state(self) -> Arrays:
        """Parameters and both moments, under the names of a checkpoint."""
        arrays = self.adam.parameters, self.adam.first_moment, self.adam.second_moment
        groups = zip(("", *MOMENTS), arrays, strict=True)
        return {prefix + name: value for prefix, group in groups for name, value in group.items()}


def parameters_of(state: Arrays) -> Arrays:
    """The parameters among what a state holds."""
    return {name: value for name, value in state.items() if not name.startswith(MOMENTS)}


def learners(
    case: str,
    activation: str,
    seed: int = 0,
    dtype: str = "float64",
    sizes: tuple[int, int, int] = (64, 6, 50),
    reproducible: bool = False,
    mode: str = "function",
) -> tuple[Learner, Learner]:
    """PyTorch's and TensorFlow's VAE, of (data, latent, hidden) sizes, from the same initial values."""
    models = [v.VAE(*sizes, activation=activation, dtype=dtype, **CASES[case]) for v in (torch_vae, tf_vae)]
    shapes = {name: value.shape for name, value in torch_layouts.export_parameters(models[0]).items()}
    values = draws.initial_values(seed, shapes)
    pair = []
    for model, framework in zip(models, ("torch", "tf2"), strict=True):
        pair.append(Learner(model, framework, reproducible, mode))
        pair[-1].layouts.import_parameters(model, values)
        assert all(np.array_equal(pair[-1].state()[name], values[name]) for name in values)
    return tuple(pair)


class Batches:
    """The minibatches and noise of a training on the digits, or on images of `data_dim` random pixels."""

    def __init__(self, case: str, seed: int = 0, dtype: str = "float64", sizes: tuple[int, int, int] = (64, 6, 50),
                 batch_size: int = 96) -> None:  # fmt: skip
        x = datasets.load("digits").x if sizes[0] == 64 else structured_images(sizes[0])
        self.x = (datasets.binarize(x) if case == "bernoulli" else x).astype(dtype)
        self.seed, self.latent_dim, self.batch_size = seed, sizes[1], batch_size

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        rows = draws.minibatch(self.seed, step, len(self.x), self.batch_size)
        noise = draws.normals(self.seed, "noise", (len(rows), self.latent_dim), step)
        return self.x[rows], noise.astype(self.x.dtype)


def structured_images(data_dim: int) -> np.ndarray:
    """2,048 images with values in (0, 1) that ten hidden causes explain, dark at the borders as real ones."""
    causes, loadings = draws.normals(0, "sample", (2048, 10), 1), draws.normals(0, "sample", (10, data_dim), 2)
    x = 1 / (1 + np.exp(-(causes @ loadings) / 2))
    return x * (np.arange(data_dim) % 5 > 0)
