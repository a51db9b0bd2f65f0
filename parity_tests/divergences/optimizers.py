"""Optimizers.

`torch.optim` and `keras.optimizers` share names and differ in defaults, in formulas and in the precision
that their settings are kept in. The remedy is one Adam that is the same in both:
`pytorch_impl/optimizer.py` and `tf2_impl/optimizer.py`. Where stock optimizers have to stay, O2 makes
Keras's exact.
"""

import warnings
from collections.abc import Callable
from typing import Any

import keras
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
from parity_tests.divergences.catalogue import absolute, agreement, divergence, relative, tf_gradient

GRADIENTS = draws.normals(0, "sample", (50, 20))  # of 50 steps, for 20 parameters that start at one
RATE = 0.125  # exact in single precision too, in which Keras keeps it


def torch_run(optimizer: type, gradients: np.ndarray = GRADIENTS, **settings) -> torch.Tensor:
    """Where the parameters end."""
    parameter = torch.ones(gradients.shape[1:], dtype=torch.float64, requires_grad=True)
    stepper = optimizer([parameter], **settings)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        stepper.step()
    return parameter.detach()


def clipped(gradients: list[np.ndarray]) -> np.ndarray:
    """A step of rate 1 from zeros along gradients that PyTorch has clipped to the common norm 1."""
    parameters = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.tensor(gradient)
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    torch.optim.SGD(parameters, lr=1.0).step()
    return -torch.cat(parameters).detach().numpy()


def keras_step(optimizer: Any, gradients: list[np.ndarray]) -> np.ndarray:
    """The same with an optimizer of Keras, which clips by itself."""
    variables = [keras.Variable(np.zeros(g.shape), dtype="float64") for g in gradients]
    optimizer.apply([tf.constant(g) for g in gradients], variables)
    return -np.concatenate([v.numpy() for v in variables])


def keras_run(optimizer: Any, gradients: np.ndarray = GRADIENTS, before: Callable = lambda t: None) -> tf.Tensor:
    """Where the parameters end; ``before(t)`` is called before step t = 1, 2, ..."""
    parameter = keras.Variable(np.ones(gradients.shape[1:]), dtype="float64")
    for t, gradient in enumerate(gradients, start=1):
        before(t)
        optimizer.apply([tf.constant(gradient)], [parameter])
    return parameter.value


def with_exact_betas(adam: keras.optimizers.Adam) -> keras.optimizers.Adam:
    """The optimizer with betas in float64, as O2 makes them."""
    adam.beta_1, adam.beta_2 = tf.constant(0.9, tf.float64), tf.constant(0.999, tf.float64)
    return adam


class TorchAdam(keras.optimizers.Adam):
    """Keras's Adam, with epsilon added where PyTorch adds it, and betas in the parameters' precision."""

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        settings = self.beta_1, self.beta_2, self.epsilon
        self.beta_1, self.beta_2 = (tf.constant(beta, variable.dtype) for beta in settings[:2])
        step = tf.cast(self.iterations + 1, variable.dtype)
        self.epsilon = settings[2] * tf.sqrt(1 - self.beta_2**step)
        super().update_step(gradient, variable, learning_rate)
        self.beta_1, self.beta_2, self.epsilon = settings


def own_runs(gradients: np.ndarray = GRADIENTS, **settings: float) -> tuple[torch.Tensor, tf.Tensor]:
    """Where the parameters end under the project's Adam, in both frameworks."""
    ours = {"w": torch.nn.Parameter(torch.ones(gradients.shape[1:], dtype=torch.float64))}
    theirs = {"w": tf.Variable(np.ones(gradients.shape[1:]))}
    ours_adam, theirs_adam = torch_optimizer.Adam(ours, **settings), tf_optimizer.Adam(theirs, **settings)
    for gradient in gradients:
        ours_adam.update({"w": torch.tensor(gradient)})
        theirs_adam.update({"w": tf.constant(gradient)})
    return ours["w"].detach(), theirs["w"].value()


def rates_apart(a: torch.Tensor, b: tf.Tensor) -> float:
    """The largest difference of a parameter, in units of the learning rate."""
    return absolute(a, b) / RATE


@divergence("O1", "Adam's epsilon, by default", (0.99, 0.997), after="optimizer")
def adam_defaults():
    """A gradient of 1e-8 moves a parameter by half a learning rate in PyTorch and by 1/160 of that in Keras.
    PyTorch: 1e-8, added after the bias correction
    TensorFlow: 1e-7, added before it (the paper's epsilon-hat)
    Remedy: torch_optimizer.Adam(ours, **settings); tf_optimizer.Adam(theirs, **settings)"""
    gradient = np.full((1, 3), 1e-8)
    default = relative(1 - torch_run(torch.optim.Adam, gradient), 1 - keras_run(keras.optimizers.Adam(), gradient))
    return default, relative(*own_runs(gradient))


@divergence("O1b", "Adam with one and the same epsilon", (0.93, 0.945), after="optimizer")
def adam_epsilon_hat():
    """Passing the same number does not help: it stands in another place of the formula. The remedy is PyTorch's
    Adam in Keras, O2 included; for its learning rate see O2b.
    PyTorch: sqrt(v) / sqrt(1 - beta_2^t) + epsilon
    TensorFlow: sqrt(v) + epsilon: at first 1/sqrt(1 - beta_2) = 32 times as large
    Remedy in TensorFlow: adam = TorchAdam(0.125, epsilon=1e-8)"""
    keras.config.set_floatx("float64")
    gradients = np.full((5, 3), 1e-8)
    stock = keras.optimizers.Adam(RATE, epsilon=1e-8)
    adam = TorchAdam(0.125, epsilon=1e-8)
    ours = torch_run(torch.optim.Adam, gradients[:1], lr=RATE, eps=1e-8)
    default = relative(1 - ours, 1 - keras_run(stock, gradients[:1]))
    ours = torch_run(torch.optim.Adam, gradients, lr=RATE, eps=1e-8)
    return default, relative(1 - ours, 1 - keras_run(adam, gradients))


@divergence("O2", "Adam's betas in float64", (3.5e-6, 5.5e-6), after="optimizer")
def float32_betas():
    """6e-6 of the first step, half of what 1 - beta_2 is off by. Shown: after 50 steps, with epsilon out of the
    way.  PyTorch: Python's doubles
    TensorFlow: pass through float32, whatever floatx is: 1 - beta_2 is off by 1.3e-5
    Remedy: adam.beta_1, adam.beta_2 = tf.constant(0.9, tf.float64), tf.constant(0.999, tf.float64)"""
    keras.config.set_floatx("float64")
    stock, adam = keras.optimizers.Adam(RATE, epsilon=0.0), with_exact_betas(keras.optimizers.Adam(RATE, epsilon=0.0))
    return torch_run(torch.optim.Adam, lr=RATE, eps=0.0), keras_run(stock), keras_run(adam)


@divergence("O2b", "the learning rate", (4e-8, 6e-8), after="optimizer")
def float32_learning_rate():
    """Plain gradient descent in float64 is off by the rounding of its learning rate.
    PyTorch: a Python double  TensorFlow: a float32 variable: 1e-3 is 0.0010000000474974513
    Remedy: keras.config.set_floatx("float64")"""
    ours = torch_run(torch.optim.SGD, lr=1e-3)
    theirs = keras_run(keras.optimizers.SGD(1e-3))
    keras.config.set_floatx("float64")
    return relative(1 - ours, 1 - theirs), relative(ours, keras_run(keras.optimizers.SGD(1e-3)))


@divergence("O2c", "momentum in float64", (1.7e-7, 2.7e-7), after="optimizer")
def float32_momentum():
    """0.9 has no short binary form, so that 24 bits of it are another number than 53 bits.
    PyTorch: a Python double  TensorFlow: passes through float32, whatever floatx is
    Remedy: sgd.momentum = tf.constant(0.9, tf.float64)"""
    keras.config.set_floatx("float64")
    ours = torch_run(torch.optim.SGD, lr=RATE, momentum=0.9)
    stock, sgd = (keras.optimizers.SGD(RATE, momentum=0.9) for _ in range(2))
    sgd.momentum = tf.constant(0.9, tf.float64)
    return relative(1 - ours, 1 - keras_run(stock)), relative(ours, keras_run(sgd))


@divergence("O3", "a VAE trained by both stock Adams, epsilon 1e-8 in both", (5.8e-6, 9.2e-6), after="optimizer")
def vae_by_stock_adams(dtype: str = "float64"):
    """Matched settings are not matched optimizers: five steps on, the weights have parted.
    PyTorch: torch.optim.Adam(lr=1e-3, eps=1e-8)  TensorFlow: keras.optimizers.Adam(1e-3, epsilon=1e-8)
    Remedy: torch_optimizer.Adam(ours, 1e-3); tf_optimizer.Adam(theirs, 1e-3)"""
    x = datasets.load("digits").x[:96].astype(dtype)

    def weights_apart(stock: bool) -> float:
        models = [vae.VAE(64, 6, 50, likelihood="gaussian", dtype=dtype) for vae in (torch_vae, tf_vae)]
        ours, theirs = torch_layouts.named_parameters(models[0]), tf_layouts.named_parameters(models[1])
        values = draws.initial_values(0, {name: tuple(p.shape) for name, p in ours.items()})
        for layouts, model in zip((torch_layouts, tf_layouts), models, strict=True):
            layouts.import_parameters(model, values)
        adams = torch_optimizer.Adam(ours, 1e-3), tf_optimizer.Adam(theirs, 1e-3)
        if stock:
            adams = torch.optim.Adam(ours.values(), lr=1e-3, eps=1e-8), keras.optimizers.Adam(1e-3, epsilon=1e-8)
        for step in range(5):
            noise = draws.normals(0, "noise", (96, 6), step).astype(dtype)
            gradients = torch_vae.loss_and_gradients(models[0], torch.tensor(x), torch.tensor(noise))[1]
            tf_gradients = tf_vae.loss_and_gradients(models[1], tf.constant(x), tf.constant(noise))[1]
            if stock:
                for name, parameter in ours.items():
                    parameter.grad = gradients[name]
                adams[0].step()
                adams[1].apply([tf_gradients[name] for name in theirs], list(theirs.values()))
            else:
                adams[0].update(gradients)
                adams[1].update(tf_gradients)
        exports = torch_layouts.export_parameters(models[0]), tf_layouts.export_parameters(models[1])
        a, b = (np.concatenate([value.ravel() for value in export.values()]) for export in exports)
        return float(np.linalg.norm(a - b) / np.linalg.norm(a))

    return weights_apart(stock=True), weights_apart(stock=False)


@divergence("O4", "AMSGrad", (1.3, 2.1), unit="learning rates", after="learning rates")
def amsgrad():
    """As O1 and O2, for gradients near 1e-6; the remedy is O1b's.
    PyTorch: epsilon after the bias correction  TensorFlow: epsilon before it
    Remedy in TensorFlow: adam = TorchAdam(0.125, epsilon=1e-8, amsgrad=True)"""
    gradients = 1e-6 * GRADIENTS
    keras.config.set_floatx("float64")
    stock = keras.optimizers.Adam(RATE, epsilon=1e-8, amsgrad=True)
    adam = TorchAdam(0.125, epsilon=1e-8, amsgrad=True)
    ours = torch_run(torch.optim.Adam, gradients, lr=RATE, amsgrad=True)
    return rates_apart(ours, keras_run(stock, gradients)), rates_apart(ours, keras_run(adam, gradients))


@divergence("O5", "Adam(weight_decay=0.1)", (0.9, 1.4), unit="learning rates", after="learning rates")
def weight_decay():
    """One argument, two methods. Keras's Adam(weight_decay) is AdamW in both worlds.
    PyTorch: adds 0.1 w to the gradient, which Adam then rescales
    TensorFlow: decoupled: shrinks w by 0.1 times the learning rate, which is AdamW
    Remedy: torch.optim.AdamW; adam.weight_decay = tf.constant(0.1, tf.float64)"""
    keras.config.set_floatx("float64")
    stock, adam = (keras.optimizers.Adam(RATE, epsilon=0.0, weight_decay=0.1) for _ in range(2))
    adam.weight_decay = tf.constant(0.1, tf.float64)
    kinds = torch.optim.Adam, torch.optim.AdamW
    ours, decoupled = (torch_run(kind, lr=RATE, eps=0.0, weight_decay=0.1) for kind in kinds)
    return rates_apart(ours, keras_run(stock)), rates_apart(decoupled, keras_run(with_exact_betas(adam)))


@divergence("O5b", "AdamW's weight decay, by default", (0.5, 0.8), unit="learning rates", after="learning rates")
def adamw_defaults():
    """The remedy is to write it down in both (and O2).  PyTorch: 0.01  TensorFlow: 0.004
    Remedy: keras.optimizers.AdamW(RATE, weight_decay=0.01, epsilon=0.0)"""
    keras.config.set_floatx("float64")
    ours = torch_run(torch.optim.AdamW, lr=RATE, eps=0.0)
    adam = keras.optimizers.AdamW(RATE, weight_decay=0.01, epsilon=0.0)
    adam.weight_decay = tf.constant(0.01, tf.float64)
    theirs = keras_run(keras.optimizers.AdamW(RATE, epsilon=0.0))
    return rates_apart(ours, theirs), rates_apart(ours, keras_run(with_exact_betas(adam)))


@divergence("O6", "momentum, when the learning rate falls to an eighth half way", (0.074, 0.12), after="optimizer")
def momentum_and_schedule():
    """Equal as long as the rate is constant, Nesterov too; with a schedule Keras coasts on at the old speed.
    The remedy is for each velocity in sgd.momentums.
    PyTorch: velocity = 0.5 velocity + g; the rate multiplies the velocity
    TensorFlow: velocity = 0.5 velocity - rate g: old steps keep the old rate
    Remedy: velocity.assign(velocity.value / 8)"""
    parameter = torch.ones(20, dtype=torch.float64, requires_grad=True)
    ours = torch.optim.SGD([parameter], lr=RATE, momentum=0.5)
    for t, gradient in enumerate(GRADIENTS, start=1):
        ours.param_groups[0]["lr"] = RATE if t <= 25 else RATE / 8
        parameter.grad = torch.tensor(gradient)
        ours.step()

    def run(rescale: bool) -> tf.Tensor:
        sgd = keras.optimizers.SGD(RATE, momentum=0.5)

        def before(t: int) -> None:
            if t == 26:
                sgd.learning_rate = RATE / 8
                for velocity in sgd.momentums if rescale else ():
                    velocity.assign(velocity.value / 8)

        return keras_run(sgd, before=before)

    return relative(parameter, run(rescale=False)), relative(parameter, run(rescale=True))


@agreement("O6b", "momentum at a constant learning rate, Nesterov's too", after="optimizer")
def momentum():
    """The two conventions of O6 differ by the rate, which here is one factor.  Both: the same path"""
    settings = [dict(momentum=0.5, nesterov=nesterov) for nesterov in (False, True)]
    runs = [(torch_run(torch.optim.SGD, lr=RATE, **s), keras_run(keras.optimizers.SGD(RATE, **s))) for s in settings]
    return max(relative(ours, theirs) for ours, theirs in runs)


@divergence("O6c", "SGD's learning rate, by default", (8.9, 9.1), after="optimizer")
def sgd_defaults():
    """Ten times the step. RMSprop's default is 1e-2 in PyTorch and 1e-3 in Keras: the other way round.
    PyTorch: 1e-3  TensorFlow: 1e-2  Remedy: keras.optimizers.SGD(2.0**-10)"""
    default = relative(1 - torch_run(torch.optim.SGD), 1 - keras_run(keras.optimizers.SGD()))
    return default, relative(torch_run(torch.optim.SGD, lr=2.0**-10), keras_run(keras.optimizers.SGD(2.0**-10)))


@divergence("O7", "RMSprop with one and the same epsilon", (25, 36), unit="learning rates", after="learning rates")
def rmsprop():
    """Inside the root, 1e-8 counts as 1e-4 does outside. The remedy is the formula, written out.
    PyTorch: g / (sqrt(v) + epsilon)  TensorFlow: g / sqrt(v + epsilon)
    Remedy: position = position - RATE * gradient / (tf.sqrt(average) + 1e-8)"""
    gradients = 1e-4 * GRADIENTS
    keras.config.set_floatx("float64")
    ours = torch_run(torch.optim.RMSprop, gradients, lr=RATE, alpha=0.99, eps=1e-8)
    theirs = keras_run(keras.optimizers.RMSprop(RATE, rho=0.99, epsilon=1e-8), gradients)
    position, average = tf.ones(20, tf.float64), tf.zeros(20, tf.float64)
    for gradient in gradients:
        average = 0.99 * average + (1 - 0.99) * tf.square(gradient)
        position = position - RATE * gradient / (tf.sqrt(average) + 1e-8)
    return rates_apart(ours, theirs), rates_apart(ours, position)


@divergence("O8", "clipping a gradient by its norm", (9e-7, 1.1e-6), after="elementwise")
def clip_by_norm():
    """Even a gradient that is just short enough is shortened by PyTorch.
    PyTorch: multiplies by max / (norm + 1e-6), if that is below one  TensorFlow: multiplies by max / norm
    Remedy: gradient * (1.0 / torch.linalg.vector_norm(gradient).clamp(min=1.0))"""
    direction = GRADIENTS[0] / np.linalg.norm(GRADIENTS[0]) * (1 - 1e-9)
    gradient = torch.tensor(direction)
    theirs = keras_step(keras.optimizers.SGD(1.0, global_clipnorm=1.0), [direction])
    ours = gradient * (1.0 / torch.linalg.vector_norm(gradient).clamp(min=1.0))
    return clipped([direction]), theirs, ours, theirs


@divergence("O8b", "which norm is clipped", (0.31, 0.5), after="elementwise")
def global_norm():
    """clipnorm changes the direction of the step, since large tensors are shortened and small ones are not.
    PyTorch: clip_grad_norm_: that of all gradients together
    TensorFlow: clipnorm: that of each tensor by itself
    Remedy: keras.optimizers.SGD(1.0, global_clipnorm=1.0)"""
    gradients = [GRADIENTS[0], 0.1 * GRADIENTS[1]]
    stock, remedied = keras.optimizers.SGD(1.0, clipnorm=1.0), keras.optimizers.SGD(1.0, global_clipnorm=1.0)
    exact = np.concatenate(gradients) / np.linalg.norm(np.concatenate(gradients))  # O8
    return clipped(gradients), keras_step(stock, gradients), exact, keras_step(remedied, gradients)


def cosine_rates(epochs: int) -> np.ndarray:
    """The learning rates that PyTorch's schedule gives to epochs 0 to ``epochs``."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100)
    rates = []
    for _ in range(epochs + 1):
        rates += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    return np.array(rates)


@divergence("O9", "the cosine schedule beyond its end", (0.4, 0.6), after="exact")
def schedule_beyond_its_end():
    """Half way back up at step 150 of 100. A table of rates in NumPy, set before each step, is the same in both.
    PyTorch: CosineAnnealingLR comes up again  TensorFlow: CosineDecay stays down
    Remedy for both, in NumPy: rates = 0.05 * (1 + np.cos(np.pi * np.minimum(steps, 100) / 100))"""
    decay = keras.optimizers.schedules.CosineDecay(0.1, 100)
    theirs = np.array([float(decay(step)) for step in range(151)])
    ours, steps = cosine_rates(150), np.arange(151)
    default = absolute(ours, theirs) / 0.1
    rates = 0.05 * (1 + np.cos(np.pi * np.minimum(steps, 100) / 100))
    keras.config.set_floatx("float64")
    sgd = torch.optim.SGD([torch.zeros(1)]), keras.optimizers.SGD()
    sgd[0].param_groups[0]["lr"], sgd[1].learning_rate = rates[30], rates[30]
    return default, relative(rates[30:31], [sgd[1].learning_rate.numpy()])


@divergence("O9b", "the precision of a schedule", (4.4e-5, 6.9e-5), after="output")
def schedule_precision():
    """Rates that fall towards zero have no more digits than float32 leaves them.  PyTorch: Python's doubles
    TensorFlow: float32, even with floatx float64
    Remedy for both, in NumPy: rates = 0.05 * (1 + np.cos(np.pi * np.arange(100) / 100))"""
    keras.config.set_floatx("float64")
    decay, ours = keras.optimizers.schedules.CosineDecay(0.1, 100), cosine_rates(99)
    theirs = np.array([float(decay(step)) for step in range(100)])
    rates = 0.05 * (1 + np.cos(np.pi * np.arange(100) / 100))
    return np.max(np.abs(theirs / ours - 1)), relative(ours, rates)


@agreement("O10", "an exponential moving average of the weights", after="loss")
def weight_averages():
    """AveragedModel with get_ema_avg_fn is Keras's use_ema.  Both: starts from a copy of the first"""
    model = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    averaged = torch.optim.swa_utils.AveragedModel(model, avg_fn=torch.optim.swa_utils.get_ema_avg_fn(0.5))
    parameter = keras.Variable(np.zeros((1, 1)), dtype="float64")
    optimizer = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)
    for value in (1.0, 2.0, 4.0):
        model.weight.data.fill_(value)
        averaged.update_parameters(model)
        optimizer.apply([parameter.value - value], [parameter])
    optimizer.finalize_variable_values([parameter])
    return relative(averaged.module.weight, parameter.value)


@divergence("O11", "the L2 penalty of one and the same strength", (0.99, 1.01), after="elementwise")
def l2_penalty():
    """A factor of two in the strength of the prior: its precision is c in one and 2 c in the other.
    PyTorch: weight_decay=c adds c w to the gradient
    TensorFlow: L2(c) adds c |w|² to the loss, hence 2 c w to the gradient
    Remedy: keras.regularizers.L2(0.125 / 2)"""
    gradient, remedied = GRADIENTS[:1], keras.regularizers.L2(0.125 / 2)
    ours = torch_run(torch.optim.SGD, gradient, lr=1.0, weight_decay=0.125)

    def run(penalty: keras.regularizers.Regularizer) -> tf.Tensor:
        return keras_run(keras.optimizers.SGD(1.0), gradient + tf_gradient(penalty, np.ones((1, 20))))

    steps = [1 - gradient[0] - np.asarray(w) for w in (ours, run(keras.regularizers.L2(0.125)), run(remedied))]
    return tuple(steps)


def first_drop(step: Callable[[int], None], rate: Callable[[], float]) -> int:
    """After how many epochs without progress a schedule lowers the rate from 1."""
    for epoch in range(20):
        step(epoch)
        if rate() < 1:
            return epoch
    raise AssertionError("the rate never fell")


def first_drop_of_torch(patience: int) -> int:
    """That of PyTorch's ReduceLROnPlateau."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=patience)
    return first_drop(lambda _: plateau.step(1.0), lambda: plateau.get_last_lr()[0])


def first_drop_of_keras(plateau: keras.callbacks.ReduceLROnPlateau) -> int:
    """That of Keras's ReduceLROnPlateau."""
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0))
    plateau.set_model(model)
    plateau.on_train_begin()
    with warnings.catch_warnings(action="ignore"):  # Keras asks NumPy for what NumPy will no longer do
        return first_drop(
            lambda e: plateau.on_epoch_end(e, {"loss": 1.0}), lambda: float(model.optimizer.learning_rate)
        )


@divergence("O12", "ReduceLROnPlateau(patience=3)", (1, 1), unit="epoch")
def plateau_patience():
    """One has patience *for* three epochs, the other *until* the third. Progress: 1e-4 relative, or absolute.
    PyTorch: lowers the rate after 4 epochs without progress  TensorFlow: after 3
    Remedy: keras.callbacks.ReduceLROnPlateau("loss", patience=3 + 1)"""
    ours = [first_drop_of_torch(patience=3)]
    theirs = first_drop_of_keras(keras.callbacks.ReduceLROnPlateau("loss", patience=3))
    return ours, [theirs], [first_drop_of_keras(keras.callbacks.ReduceLROnPlateau("loss", patience=3 + 1))]


@divergence("O13", "Adagrad's sum of squares", (1, 1.6), unit="learning rates", after="learning rates")
def adagrad():
    """The first step of PyTorch is a full learning rate whatever the gradient; Keras's grows with the gradient.
    PyTorch: starts at 0, epsilon 1e-10 outside the root
    TensorFlow: starts at 0.1, epsilon 1e-7 inside the root
    Remedy: keras.optimizers.Adagrad(RATE, initial_accumulator_value=0.0, epsilon=0.0)"""
    ours, theirs = torch_run(torch.optim.Adagrad, lr=RATE), keras_run(keras.optimizers.Adagrad(RATE))
    remedied = keras_run(keras.optimizers.Adagrad(RATE, initial_accumulator_value=0.0, epsilon=0.0))
    return rates_apart(ours, theirs), rates_apart(torch_run(torch.optim.Adagrad, lr=RATE, eps=0.0), remedied)


@divergence("O14", "SGD's weight decay with momentum", (0.35, 0.55), after="optimizer")
def sgd_weight_decay():
    """Without momentum they are one. In Keras every optimizer's weight_decay is decoupled. Three steps of 0.5 from 1
    along a gradient of 1, with momentum 0.5 and decay 0.1, end at -1.22888, and in Keras at -1.18138.
    PyTorch: in the gradient, so in the velocity  TensorFlow: shrinks the weights, outside the velocity
    Remedy in TensorFlow: decayed = gradient + 0.125 * parameter.value"""
    three, settings = np.ones((3, 1)), {"momentum": 0.5, "weight_decay": 0.1}
    ends = (
        torch_run(torch.optim.SGD, three, lr=0.5, **settings),
        keras_run(keras.optimizers.SGD(0.5, **settings), three),
    )
    assert np.allclose([float(end[0]) for end in ends], (-1.228875, -1.181375), rtol=1e-7)
    ours = torch_run(torch.optim.SGD, lr=RATE, momentum=0.5, weight_decay=0.125)
    theirs = keras_run(keras.optimizers.SGD(RATE, momentum=0.5, weight_decay=0.125))
    sgd, parameter = keras.optimizers.SGD(RATE, momentum=0.5), keras.Variable(np.ones(20), dtype="float64")
    for gradient in GRADIENTS:
        decayed = gradient + 0.125 * parameter.value
        sgd.apply([decayed], [parameter])
    return ours, theirs, parameter.value


@divergence("O15", "a schedule that is stepped before the update", (0.11, 0.18), after="output")
def schedule_order():
    """A step ahead for good, and the first rate is never used; PyTorch warns, once.
    PyTorch: step() after optimizer.step(); called before it, the rates are those of the next step
    TensorFlow: the rate of the updates made so far  Remedy: optimizer.step(); schedule.step()"""
    decay = keras.optimizers.schedules.ExponentialDecay(0.125, 1, 0.875)

    def rates(early: bool) -> np.ndarray:
        optimizer, used = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.125), []
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.875)
        for _ in range(5):
            if early:
                schedule.step()
            used += schedule.get_last_lr()
            if not early:
                optimizer.step()
                schedule.step()
        return np.array(used)

    theirs = np.array([float(decay(step)) for step in range(5)])
    with warnings.catch_warnings(action="ignore"):
        ours = rates(early=True)
    return ours, theirs, rates(early=False), theirs


@divergence("O16", "clipping by value and by norm", (1.1, 1.7), after="elementwise")
def clip_by_value():
    """clipvalue is PyTorch's clip_grad_value_; it turns the step's direction.
    PyTorch: clip_grad_norm_ shortens all gradients alike  TensorFlow: clipvalue cuts each entry
    Remedy: keras.optimizers.SGD(1.0, global_clipnorm=1.0)"""
    gradients = [GRADIENTS[0]]
    stock, remedied = keras.optimizers.SGD(1.0, clipvalue=1.0), keras.optimizers.SGD(1.0, global_clipnorm=1.0)
    ours, theirs = clipped(gradients), keras_step(stock, gradients)
    assert absolute(theirs, np.clip(GRADIENTS[0], -1, 1)) == 0
    return ours, theirs, GRADIENTS[0] / np.linalg.norm(GRADIENTS[0]), keras_step(remedied, gradients)  # O8
