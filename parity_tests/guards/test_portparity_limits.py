"""What the porting tool cannot see it says, what writes in place it follows, and it leaves nothing behind."""

import copy
from dataclasses import dataclass

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
import torch.nn.functional as F
from torch import nn

from portparity import Port
from portparity.report import Report

X, Y = np.random.default_rng(0).normal(size=(8, 4)), np.arange(8) % 3
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def dense(*layers: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), *layers, keras.layers.Dense(3)])


def check(model: nn.Module, port: keras.Model) -> Report:
    return Port(model, port, X, Y, F.cross_entropy, LOSS).check()


class Between(nn.Module):
    """Two dense layers and what is done between them."""

    def __init__(self, change) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.change = nn.Linear(4, 4), nn.Linear(4, 3), change

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        changed = self.change(h)
        return self.second(h if changed is None else changed)


def through_a_view(h: torch.Tensor) -> None:
    h[:, 1:3].mul_(2.0)


def by_index(h: torch.Tensor) -> None:
    h[:, 1:3] = 2 * h[:, 1:3].clone()


@pytest.mark.parametrize("change", [through_a_view, by_index])
def test_writing_in_place_is_followed(change) -> None:
    """A view once had a floor of its own size, so that every port of it passed."""
    for factor, agrees in ((2.0, True), (3.0, False)):
        scaled = keras.layers.Lambda(lambda h, f=factor: h * tf.constant([1.0, f, f, 1.0], h.dtype))
        report = check(Between(change), dense(scaled))
        assert report.agrees is agrees, report
        assert not report.uncompared


def test_the_cause_of_an_operation_in_place_is_named_once() -> None:
    report = check(Between(F.relu_), dense(keras.layers.LeakyReLU()))
    assert len(report.findings) == 1, report
    assert "leaky_relu" in report.first.cause


def test_a_model_may_write_to_its_input() -> None:
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3))
    port = keras.Sequential([keras.Input((4,)), keras.layers.ReLU(), keras.layers.Dense(3)])
    assert check(model, port).agrees


def test_what_differs_at_each_pass_does_not_pass() -> None:
    report = check(Between(lambda h: h * torch.bernoulli(torch.full_like(h, 0.5))), dense())
    assert not report.agrees
    assert "each pass gives another" in str(report)


@pytest.mark.parametrize("activation", ["tanh", pytest.param("relu", marks=pytest.mark.long)])
def test_compiled_models_are_run_as_written_and_that_is_said(activation: str) -> None:
    model, port = torch.compile(Between(torch.tanh), backend="eager"), dense(keras.layers.Activation(activation))
    port.call = tf.function(port.call, jit_compile=True)
    report = check(model, port)
    assert report.agrees is (activation == "tanh"), report
    said = str(report)
    assert "not compared: what torch.compile makes of the original" in said
    assert "not compared: what TensorFlow compiles of the port" in said
    if report.agrees:
        assert said.startswith("the port agrees with the original, as far as it was compared")


def test_torchscript_is_refused_and_a_function_of_it_is_said() -> None:
    traced = torch.jit.trace(lambda h: torch.tanh(h) * 2, torch.zeros(8, 4, dtype=torch.float64))
    report = check(Between(traced), dense(keras.layers.Lambda(lambda h: 2 * tf.tanh(h))))
    assert report.agrees, report
    assert "TorchScript" in report.uncompared[0]
    with pytest.raises(ValueError, match="give the module it was made from"):
        check(torch.jit.trace(Between(torch.tanh), torch.zeros(8, 4)), dense())


def test_control_flow_that_changes_is_said() -> None:
    class Counts(Between):
        passes = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.passes += 1
            h = self.first(x)
            return self.second(torch.tanh(h) if self.passes % 2 else h)

    report = check(Counts(None).eval(), dense(keras.layers.Activation("tanh")))
    assert "its control flow changes from pass to pass" in str(report)


@pytest.mark.parametrize(
    ("here", "there", "trains", "said"),
    [
        (False, True, True, "frozen in the port alone: parameter first.weight, first.bias"),
        (False, True, False, "note: frozen in the port alone"),
        (True, False, True, "trained in the port alone: parameter first.weight, first.bias"),
        (True, True, True, ""),
    ],
)
def test_what_is_frozen_on_one_side_is_said(here: bool, there: bool, trains: bool, said: str) -> None:
    model, port = Between(torch.tanh).train(trains), dense(keras.layers.Activation("tanh"))
    model.first.requires_grad_(not here)
    port.layers[0].trainable = not there
    report = check(model, port)
    assert report.agrees is (said == "" or not trains), report
    assert said in str(report)


def test_the_gradient_of_a_frozen_variable_is_compared() -> None:
    """The port stops it, and has the variable frozen as well."""
    port = dense(keras.layers.Lambda(lambda h: tf.tanh(tf.stop_gradient(h))))
    port.layers[0].trainable = False
    assert "different gradient" in check(Between(torch.tanh).eval(), port).first.what


class Averages(nn.Module):
    """Takes off a mean that it keeps by itself."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3)
        self.register_buffer("mean", torch.randn(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x - self.mean)
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * x.detach().mean(0))
        return y


class PortOfAverages(keras.layers.Layer):
    """Its port."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight, self.layer = weight, keras.layers.Dense(3)
        self.mean = self.add_weight(shape=(4,), trainable=False, name="mean")

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        y = self.layer(x - self.mean)
        if training:
            self.mean.assign((1 - self.weight) * self.mean + self.weight * tf.reduce_mean(x, 0))
        return y


@pytest.mark.parametrize("weight", [0.1, 0.2])
def test_a_buffer_of_ones_own_is_compared(weight: float) -> None:
    report = check(Averages(), keras.Sequential([keras.Input((4,)), PortOfAverages(weight)]))
    assert [finding.original for finding in report.findings] == ["buffer mean"] * (weight != 0.1), report


def test_a_converter_that_changes_numbers_leaves_them_uncompared() -> None:
    def copy(model: nn.Module, port: keras.Model) -> None:
        first, second = model.first, model.second
        arrays = [2 * first.weight.T, first.bias, second.weight.T, second.bias]
        port.set_weights([array.detach().numpy() for array in arrays])

    port = dense(keras.layers.Lambda(lambda h: h - tf.matmul(tf.cast(X, h.dtype), port.layers[0].kernel) / 2))
    report = Port(Between(lambda h: h), port, X, Y, F.cross_entropy, LOSS, copy).check()
    assert "altered: " in report.weights
    assert "whose numbers are no copies" in report.uncompared[0]


@dataclass
class Both:
    first: object
    second: object
    nothing: None = None


@pytest.mark.parametrize("built", [lambda a, b: (a, None, [b]), Both, lambda a, b: {"first": a, "second": b}])
@pytest.mark.parametrize("whole", [False, True])
def test_each_output_is_compared_in_its_place(built, whole: bool) -> None:
    model, port = Between(torch.tanh).eval(), dense(keras.layers.Activation("tanh"))
    head, call = model.forward, port.call
    model.forward = lambda x: built(head(x), head(x).argmax(-1) if whole else 2 * head(x))
    for wrong in (False, True):

        def outputs(x: tf.Tensor, mask: None = None, wrong: bool = wrong) -> object:
            y = call(x)
            if whole:
                return built(y, (tf.argmin if wrong else tf.argmax)(y, -1))
            return built(2 * y, y) if wrong else built(y, 2 * y)

        port.call = outputs
        assert Port(model, port, X).check().agrees is not wrong


@pytest.mark.parametrize("side", ["bfloat16 in the original", "autocast", "bfloat16 in the port"])
def test_coarse_rounding_is_said(side: str) -> None:
    model = Between(torch.tanh)
    model = model.bfloat16() if side == "bfloat16 in the original" else model
    if side == "autocast":
        forward = model.forward
        model.forward = lambda x: torch.autocast("cpu", torch.bfloat16)(forward)(x)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if "port" in side else policy)
    port = dense(keras.layers.Activation("tanh"))
    keras.config.set_dtype_policy(policy)
    report = check(model, port)
    assert report.agrees, report
    assert "was run in float64" in report.uncompared[0]


def test_a_complex_result_and_a_sparse_gradient_are_compared() -> None:
    model, port = Between(lambda h: torch.fft.ifft(2 * torch.fft.fft(h)).real), keras.layers.Lambda
    for factor in (2, 3):
        layer = port(lambda h, f=factor: tf.math.real(tf.signal.ifft(f * tf.signal.fft(tf.cast(h, tf.complex128)))))
        assert check(model, dense(layer)).agrees is (factor == 2)
    model = nn.Sequential(nn.Embedding(3, 4, sparse=True), nn.Linear(4, 3))
    port = keras.Sequential([keras.Input((), dtype="int32"), keras.layers.Embedding(3, 4), keras.layers.Dense(3)])
    assert Port(model, port, Y, Y, F.cross_entropy, LOSS).check().agrees


def test_what_cannot_be_run_at_all_is_refused_in_a_line(tmp_path) -> None:
    port = dense()
    with pytest.raises(ValueError, match="call it once before the check"):
        check(nn.LazyLinear(3), port)
    port.export(tmp_path, verbose=False)
    with pytest.raises(ValueError, match="a SavedModel, whose operations do not show"):
        check(Between(torch.tanh), tf.saved_model.load(tmp_path).serve)


def test_each_of_two_optimizers_has_its_own_cause() -> None:
    """The second one's gradients are of weights that the first one has moved, by its own rule."""
    model, port = Between(torch.tanh), dense(keras.layers.Activation("tanh"))
    mine = [torch.optim.SGD(part.parameters(), 0.125, momentum=0.5) for part in (model.second, model.first)]
    theirs = [keras.optimizers.SGD(0.125, momentum=0.5), keras.optimizers.SGD(0.125, momentum=0.75)]

    def step() -> None:
        for optimizer in mine:
            model.zero_grad()
            F.cross_entropy(model(torch.tensor(X)), torch.tensor(Y)).backward()
            optimizer.step()

    def port_step() -> None:
        for optimizer, layer in zip(theirs, (port.layers[2], port.layers[0]), strict=True):
            with tf.GradientTape() as tape:
                loss = LOSS(Y, port(X))
            optimizer.apply(tape.gradient(loss, layer.trainable_variables), layer.trainable_variables)

    held = Port(model, port, X, Y, F.cross_entropy, LOSS)
    held.training(step, port_step, steps=4)
    assert [finding.cause for finding in held.check().findings] == ["the port's momentum is 0.75"]


def state(model: nn.Module, optimizer: torch.optim.Optimizer, schedule, port: keras.Model, adam) -> list:
    """All that a training changes, of both sides."""
    return copy.deepcopy(
        [
            *(
                [p.detach().numpy() for p in model.state_dict().values()],
                [None if p.grad is None else p.grad.numpy() for p in model.parameters()],
            ),
            *([part.training for part in model.modules()], schedule.state_dict()),
            [(group["lr"], group["betas"]) for group in optimizer.param_groups],
            [values["exp_avg"].numpy() for values in optimizer.state.values()],
            *([v.numpy() for v in port.variables], adam.built, [v.numpy() for v in adam.variables]),
            *([v.dtype for v in (*port.variables, *adam.variables)], torch.get_rng_state().numpy()),
        ]
    )


@pytest.mark.parametrize("used", [False, pytest.param(True, marks=pytest.mark.long)])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_training_leaves_both_sides_as_they_were(used: bool, compiled: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))
    port = dense(keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5), keras.layers.Dropout(0.5, seed=1))
    optimizer, adam = torch.optim.Adam(model.parameters(), 0.125), keras.optimizers.Adam(0.125)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)

    def step() -> None:
        optimizer.zero_grad()
        x = torch.tensor(X, dtype=model[0].weight.dtype)
        F.cross_entropy(model.train()(x), torch.tensor(Y)).backward()
        optimizer.step()
        schedule.step()

    def port_step() -> None:
        with tf.GradientTape() as tape:
            loss = LOSS(Y, port(X, training=True))
        adam.apply(tape.gradient(loss, port.trainable_variables), port.trainable_variables)

    port_step = tf.function(port_step) if compiled else port_step
    if used:
        step()
        port_step()
    before = state(model, optimizer, schedule, port, adam)
    held = Port(model, port, X, Y, F.cross_entropy, LOSS)
    held.training(step, port_step, steps=3)
    assert held.check().training
    np.testing.assert_equal(state(model, optimizer, schedule, port, adam), before)
    step()
    port_step()
    assert any(not np.array_equal(a, v.numpy()) for a, v in zip(before[6], port.variables, strict=True))
