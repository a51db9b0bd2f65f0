"""Every row of the catalogue is a hypothesis of the porting tool, shown on the row's own numbers, or is no mistake."""

from dataclasses import replace
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
import torch.nn.functional as F
from torch import nn

from common import draws
from parity_tests.divergences import ENTRIES
from parity_tests.divergences.layers import IMAGES
from parity_tests.port_bugs.proofs import in_a_call, in_a_rate, in_an_update
from portparity import Port
from portparity.causes.known import MISTAKES
from portparity.weights.landed import Layout, distinct, watched

BY_ROW = {entry.row: entry for entry in ENTRIES}
CALLS = (
    "L2 L2b L3 L4 L5 L6c L7 L8 L9 L9b L9c L10 L12 L13b L14 L17 L18 L18b L19 L20 L21 L22 L23 L23b L24 L24b L27 L28 "
    "S1 S2 S2c S2e S3 S3c S4 S5 S6 S6b S6c S7 S8 R2b R3 R4 R5 "
    "G2 G4 G8 G8b G9 G10 G11 G12 G14 G15 G17 G18 G19 G20 G21 G24 T1 T2 T3 T4 T5 T6 T7 T8"
)
UPDATES = "O1 O1b O2 O2b O2c O4 O5 O5b O6 O6c O7 O8 O8b O11 O13 O14 O16"
RATES = "O9 O9b O15"
# rows that no edit of PyTorch's call leads to, and why
NO_MISTAKE = {
    "a draw: a port that is compared has the original's weights and numbers": "L1 L1b L1c L1d L14b L19b R1 R1b R1c",
    "a type or a precision: the port is compared in float64": "L11b L15 L15b L19c S2b S3b R2c R3b R6 R8",
    "an error in one of the frameworks; Keras's fit averages such a loss": "G5 R9 R9b",
    "when Python runs, or what it keeps": "L16 R7 R7b R11",
    "not determined: any sign, or digits that conditioning has taken": "G3 G16",
    "two other rows at once, O1b and O2": "O3",
}


def test_each_row_is_shown_or_no_mistake() -> None:
    excused = " ".join(NO_MISTAKE.values())
    rows = " ".join((CALLS, UPDATES, RATES, *PORTS, excused)).split()
    assert sorted(rows) == sorted(entry.row for entry in ENTRIES if entry.size), "once each"
    assert {mistake.row for mistake in MISTAKES} - {""} <= BY_ROW.keys() - set(excused.split())


@pytest.mark.parametrize("row", CALLS.split())
def test_an_edit_of_the_call_is_the_row(row: str) -> None:
    assert in_a_call(BY_ROW[row])


@pytest.mark.parametrize("row", UPDATES.split())
def test_the_updates_are_named(row: str) -> None:
    assert in_an_update(BY_ROW[row])


@pytest.mark.parametrize("row", RATES.split())
def test_the_rates_are_named(row: str) -> None:
    assert in_a_rate(BY_ROW[row])


@pytest.mark.parametrize(("row", "other"), [("L6c", "L7"), ("L17", "L18b"), ("T2", "T4"), ("L22", "L13b")])
def test_another_rows_edit_is_not(row: str, other: str) -> None:
    assert not in_a_call(replace(BY_ROW[row], row=other))


@pytest.mark.parametrize(("row", "other"), [("O1", "O1b"), ("O5", "O14"), ("O16", "O8b")])
def test_another_rows_updates_are_not(row: str, other: str) -> None:
    assert not in_an_update(replace(BY_ROW[row], row=other))


# ---- rows that a check names by more than one call: what a layer leaves behind, trainings, precision


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def square(output: Any, y: Any = None) -> Any:
    """A loss in either framework."""
    return (output**2).sum() if isinstance(output, torch.Tensor) else tf.reduce_sum(y**2)


def held(model: nn.Module, layer: Any, x: np.ndarray, shape: tuple, **settings: Any) -> Port:
    """A port that is one layer."""
    return Port(model, keras.Sequential([keras.Input(shape), layer]), x, **settings)


def moving_average() -> Port:
    """The momenta of L6's two layers."""
    return held(nn.BatchNorm2d(3), keras.layers.BatchNormalization(epsilon=1e-5), IMAGES, (8, 8, 3))


def moving_variance() -> Port:
    """L6b's stock layer."""
    layer = keras.layers.BatchNormalization(momentum=1 - 0.1, epsilon=1e-5)
    return held(nn.BatchNorm1d(3), layer, draws.normals(0, "sample", (16, 3)), (3,))


def enlarged() -> Port:
    """L13's two layers."""
    layer = keras.layers.UpSampling2D(2, interpolation="bilinear")
    return held(nn.Upsample(scale_factor=2, mode="bilinear"), layer, IMAGES, (8, 8, 3))


def dropped() -> Port:
    """L14c's function and layer."""
    x = draws.normals(0, "sample", (8, 6))
    model = Function(lambda x: torch.tanh(F.dropout(x, 0.5))).eval()
    port = keras.Sequential([keras.layers.Dropout(0.5), keras.layers.Activation("tanh")])
    return held(model, port, x, (6,))


def slopes() -> Port:
    """L25's two layers."""
    return held(nn.PReLU(3), keras.layers.PReLU(), IMAGES, (8, 8, 3))


def channels() -> Port:
    """L26's two layers."""
    return held(nn.Dropout2d(0.5), keras.layers.Dropout(0.5), IMAGES, (8, 8, 3))


def rounded() -> Port:
    """G13's function, and its estimator."""
    x = draws.normals(0, "sample", (8, 6))
    through = keras.layers.Lambda(lambda x: x + tf.stop_gradient(tf.round(x) - x))
    return held(Function(torch.round), through, x, (6,))


def cast() -> Port:
    """R2's number."""
    layer = keras.layers.Lambda(lambda x: x + tf.cast(0.1, x.dtype), dtype="float64")
    model = nn.Sequential(Function(lambda x: x + 0.1), nn.BatchNorm1d(6, affine=False).double()).eval()
    port = keras.Sequential([layer, keras.layers.BatchNormalization(epsilon=1e-5, center=False, scale=False)])
    return held(model, port, draws.normals(0, "sample", (8, 6)), (6,))


def mixed() -> Port:
    """R12's layer."""
    x = draws.normals(0, "sample", (4, 4))
    return held(nn.ReLU(), keras.layers.ReLU(dtype="mixed_bfloat16"), x, (4,))


class LastStep(nn.Module):
    """An LSTM's whole output."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(x)[0]


def lstm(forget: float = 0.0) -> Port:
    """L17b's layer, whose bias is the sum of two; L17c's, whose forget gate has one more."""
    torch.manual_seed(0)
    model, layer = LastStep(), keras.layers.LSTM(4, return_sequences=True)

    def copy(model: LastStep, port: keras.Model) -> None:
        w, u, b, c = (p.detach().numpy() for p in model.parameters())
        layer.set_weights([w.T, u.T, b + c + forget * (np.arange(16) // 4 == 1)])

    return held(model, layer, draws.normals(0, "sample", (5, 6, 3)), (6, 3), copy=copy)


def trained(port: Port, zeroed: bool = True) -> Port:
    """Gradient descent for three steps, in which Keras's gradients may be added up."""
    ours, sums = torch.optim.SGD(port.model.parameters(), 0.125), []
    theirs = keras.optimizers.SGD(0.125)

    def step() -> None:
        ours.zero_grad()
        square(port.model(torch.tensor(port.x, dtype=next(port.model.parameters()).dtype))).backward()
        ours.step()

    def keras_step() -> None:
        with tf.GradientTape() as tape:
            loss = square(None, port.keras_model(port.x, training=True))
        gradients = tape.gradient(loss, [v.value for v in port.keras_model.trainable_variables])
        sums[:] = [a + b for a, b in zip(sums, gradients, strict=True)] if sums and not zeroed else gradients
        theirs.apply(sums, port.keras_model.trainable_variables)

    port.training(step, keras_step, steps=3)
    return port


def accumulated() -> Port:
    """R10's second backward pass, in a training."""
    return trained(held(nn.Linear(3, 2), keras.layers.Dense(2), 0.1 * IMAGES[0, 0, :, :3], (3,)), zeroed=False)


def plateau() -> Port:
    """O12's two schedules of one patience, at a loss that does not fall."""
    port = held(nn.Linear(3, 2), keras.layers.Dense(2), 0.1 * IMAGES[0, 0, :, :3], (3,))
    ours, theirs = torch.optim.SGD(port.model.parameters(), 0.125), keras.optimizers.SGD(0.125)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(ours, patience=3)
    callback = keras.callbacks.ReduceLROnPlateau("loss", patience=3)
    trained = port.keras_model
    trained.compile(theirs)
    callback.set_model(trained)
    callback.on_train_begin()

    def step() -> None:
        ours.zero_grad()
        square(port.model(torch.tensor(port.x, dtype=next(port.model.parameters()).dtype))).backward()
        ours.step()
        schedule.step(1.0)

    def keras_step(number: int) -> None:
        with tf.GradientTape() as tape:
            loss = square(None, trained(port.x, training=True))
        theirs.apply(tape.gradient(loss, [v.value for v in trained.trainable_variables]), trained.trainable_variables)
        callback.on_epoch_end(number, {"loss": 1.0})

    port.training(step, keras_step, steps=8)
    return port


PORTS = {
    "L6": moving_average,
    "L6b": moving_variance,
    "L13": enlarged,
    "L14c": dropped,
    "L17b": lambda: trained(lstm()),
    "L17c": lambda: lstm(forget=1.0),
    "L25": slopes,
    "L26": channels,
    "G13": rounded,
    "R2": cast,
    "R10": accumulated,
    "R12": mixed,
    "O12": plateau,
}


@pytest.mark.parametrize("row", PORTS)
def test_a_check_names_the_row(row: str) -> None:
    report = PORTS[row]().check()
    assert row in report.noted or report.rows == [row], report


def test_smoothed_labels_of_logits_taken_for_probabilities() -> None:
    """With the ignored label left out by hand, as Keras has no ignore_index."""

    def keras_loss(y: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
        one_hot, kept = tf.one_hot(y, 3, dtype=output.dtype), tf.cast(y >= 0, output.dtype)
        each = keras.losses.categorical_crossentropy(one_hot, output, from_logits=False, label_smoothing=0.1)
        return tf.reduce_sum(each * kept) / tf.reduce_sum(kept)

    loss, x = partial(F.cross_entropy, label_smoothing=0.1, ignore_index=-1), draws.normals(0, "sample", (5, 4))
    settings = {"y": np.array([0, 2, -1, 1, 2]), "loss": loss, "port_loss": keras_loss}
    report = held(nn.Linear(4, 3), keras.layers.Dense(3), x, (4,), **settings).check()
    assert report.rows == ["S2c"], report


def test_hard_sigmoids_agree_though_the_gradient_of_pytorchs_is_rounded() -> None:
    x = draws.normals(0, "sample", (8, 6))
    port = held(nn.Hardsigmoid(), keras.layers.Activation("hard_sigmoid"), x, (6,))
    port.assert_same()


def test_each_bias_of_many_is_the_sum_of_its_own_two() -> None:
    """Among the sums of all pairs of numbers, some are equal by chance."""
    biases = [f"bias_{n}" for n in range(8)]
    layout = Layout({"kernel": (600,), **dict.fromkeys(biases, (15,))})
    marks = distinct(layout)
    wanted = {f"sum {n}": [layout.positions[b] for b in biases[n : n + 2]] for n in (0, 2, 4, 6)}
    after = {name: sum(marks[p] for p in terms) for name, terms in wanted.items()}
    found, unwritten, *_ = watched(layout, marks, dict.fromkeys(after, np.zeros(15)), after)
    assert unwritten == []
    assert all(np.array_equal(found[name], terms) for name, terms in wanted.items())


def test_six_mistakes_are_six_lines() -> None:
    """Two of them in one call: the sum for the mean, of labels that are not smoothed."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, 2, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 3))
    layers = keras.layers.Conv2D(3, 3, 2, padding="same"), keras.layers.BatchNormalization(epsilon=1e-3)
    port = keras.Sequential([keras.Input((8, 8, 2)), *layers, keras.layers.Flatten(), keras.layers.Dense(3)])
    summed = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    x, y = np.random.default_rng(0).normal(size=(5, 2, 8, 8)), np.arange(5) % 3
    report = Port(model, port, x, y, partial(F.cross_entropy, label_smoothing=0.2), summed).check()
    assert report.rows == ["L4", "L6c", "L3", "S3", "L6"], report
    assert report.findings[3].cause == "the port's label smoothing is 0"
