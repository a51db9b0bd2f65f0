"""The porting tool: a correct port raises no alarm, a mistake is placed and named, and files do for two processes."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
import torch.nn.functional as F
from torch import nn

from parity_tests.support.one_framework import OF_THE_OTHER, SITE
from portparity import Port, compare, record
from portparity.report import Report

X, Y = np.random.default_rng(0).normal(size=(6, 3, 8, 8)), np.arange(6) % 4
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def original() -> nn.Module:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 4, 3, stride=2, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Linear(64, 4))


def port_of(epsilon: float = 1e-5, activation: str = "gelu", same: bool = False) -> keras.Model:
    start = [] if same else [keras.layers.ZeroPadding2D(1)]
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            *start,
            keras.layers.Conv2D(4, 3, 2, padding="same" if same else "valid"),
            keras.layers.BatchNormalization(epsilon=epsilon, momentum=0.9),
            keras.layers.Activation(activation),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
        ]
    )


def test_a_correct_port_agrees_and_both_models_are_as_before() -> None:
    model, keras_model = original(), port_of()
    before = [p.detach().clone() for p in model.state_dict().values()], keras_model.get_weights()
    port = Port(model, keras_model, X, Y, F.cross_entropy, LOSS)
    report = port.check()
    assert report.agrees, report
    port.assert_same()
    assert all(torch.equal(a, b) for a, b in zip(before[0], model.state_dict().values(), strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(before[1], keras_model.get_weights(), strict=True))
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("wrong", "where", "row"),
    [
        ({"epsilon": 1e-3}, "1: batch_norm", "L6c"),
        ({"activation": "relu"}, "2: gelu", ""),
        ({"same": True}, "0: conv2d", "L4"),
    ],
)
def test_a_mistake_is_placed_and_named(wrong: dict, where: str, row: str) -> None:
    port = Port(original(), port_of(**wrong), X, Y, F.cross_entropy, LOSS)
    report = port.check()
    assert (report.first.original, report.first.row) == (where, row), report
    assert report.first.cause
    with pytest.raises(AssertionError, match=where):
        port.assert_same()


def test_two_files_show_the_first_difference(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, keras_model = nn.Linear(3, 4), keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    x = X[:, :, 0, 0]
    keras_model.set_weights([p.detach().numpy().T for p in model.parameters()])
    record(model, x, to=str(tmp_path / "a.npz"))
    record(keras_model, x, to=str(tmp_path / "b.npz"))
    assert compare(str(tmp_path / "a.npz"), str(tmp_path / "b.npz")).agrees
    keras_model.set_weights([2 * w for w in keras_model.get_weights()])
    record(keras_model, x, to=str(tmp_path / "b.npz"))
    assert "linear" in compare(str(tmp_path / "a.npz"), str(tmp_path / "b.npz")).first.original


def test_importing_it_loads_no_framework() -> None:
    """So that each of two processes needs its own framework alone."""
    code = "import portparity, sys; print({'torch', 'keras', 'tensorflow'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert said.stdout.strip() == "set()", said.stderr


class Blocks(nn.Module):
    """Layer normalisation, a dense layer and a tanh, some times."""

    def __init__(self, many: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norms = nn.ModuleList(nn.LayerNorm(5) for _ in range(many))
        self.layers = nn.ModuleList(nn.Linear(5, 5) for _ in range(many))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = torch.tanh(layer(norm(x)))
        return x


def counted(
    monkeypatch: pytest.MonkeyPatch, model: nn.Module, port: keras.Model, x: np.ndarray
) -> tuple[Report, list[str]]:
    """The report, and the passes of either model that it took."""
    passes = []
    for method in (Port.record_original, Port.record_port):

        def counting(self, *args, method=method, **settings):
            passes.append(method.__name__)
            return method(self, *args, **settings)

        monkeypatch.setattr(Port, method.__name__, counting)
    report = Port(model, port, x).check()
    monkeypatch.undo()
    return report, passes


def test_a_mistake_in_every_layer_is_one_line_and_takes_no_more_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = {}
    for many in (3, 9):
        layers = [
            layer
            for _ in range(many)
            for layer in (keras.layers.LayerNormalization(epsilon=1e-3), keras.layers.Dense(5, activation="tanh"))
        ]
        port = keras.Sequential([keras.Input((5,)), *layers])
        report, passes[many] = counted(monkeypatch, Blocks(many), port, X[0, 0, :, :5])
        assert [(f.original, f.row) for f in report.findings] == [("norms.0: layer_norm", "L7")], report
        assert f"and in {many - 1} more: norms.1, " in str(report)
    assert passes[3] == passes[9]


class Attentive(Blocks):
    """Attention of one head, some times; all its layers have one shape."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for n in range(0, len(self.layers), 3):
            query, key, value = (layer(x) for layer in self.layers[n : n + 3])
            x = x + torch.softmax(query @ key.mT, -1) @ value
        return x


class PortOfAttentive(keras.Model):
    """Its port, which runs the layers of a head in another order."""

    def __init__(self, many: int) -> None:
        super().__init__()
        self.denses = [keras.layers.Dense(5) for _ in range(many)]

    def call(self, x: tf.Tensor) -> tf.Tensor:
        for n in range(0, len(self.denses), 3):
            value, key, query = (layer(x) for layer in self.denses[n : n + 3])
            x = x + tf.matmul(tf.nn.softmax(tf.matmul(query, key, transpose_b=True)), value)
        return x


def test_layers_that_run_in_another_order_are_found_without_a_pass_for_each_guess(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, port = Attentive(12), PortOfAttentive(12)
    report, passes = counted(monkeypatch, model, port, np.random.default_rng(0).normal(size=(2, 4, 5)))
    assert report.agrees, report
    assert passes.count("record_port") == 7, "as run, as mapped, one for each of four heads, in training mode"


MODEL = """
import numpy as np
from portparity import record
draw = np.random.default_rng(0).normal
x, first, second, bias = draw(size=(6, 4)), draw(size=(5, 4)), draw(size=(3, 5)), draw(size=3)
"""
ORIGINAL = """
import torch
model = torch.nn.Sequential(torch.nn.Linear(4, 5, bias=False), torch.nn.GELU(), torch.nn.Linear(5, 3))
model.load_state_dict({"0.weight": torch.tensor(first), "2.weight": torch.tensor(second), "2.bias": torch.tensor(bias)})
record(model, x, np.arange(6) % 3, torch.nn.functional.cross_entropy, to="original.npz")
"""
PORT = """
import keras
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
for name in ("gelu", "relu"):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, name, use_bias=False), keras.layers.Dense(3)])
    model.set_weights([first.T, second.T, bias])
    record(model, x, np.arange(6) % 3, loss, to=f"{name}.npz")
"""
COMPARED = """
from portparity import compare
right, wrong = (compare("original.npz", f"{name}.npz") for name in ("gelu", "relu"))
print(right.agrees, wrong.agrees, wrong.first.original, wrong.first.port, sep="; ")
"""


@pytest.mark.long
def test_three_environments_record_record_and_compare(tmp_path: Path) -> None:
    """The first has no TensorFlow, the second no PyTorch, the third neither."""
    here, there = OF_THE_OTHER.values()
    for name, absent, code in (
        ("torch", here, MODEL + ORIGINAL),
        ("tf", there, MODEL + PORT),
        ("numpy", (*here, *there, "scipy"), COMPARED),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sitecustomize.py").write_text(SITE.format(absent=set(absent)), encoding="utf-8")
        blocked = "".join(f"assert importlib.util.find_spec({module!r}) is None\n" for module in ("torch", "keras"))
        code = f"import importlib.util\n{blocked}{code}" if name == "numpy" else code
        paths = os.pathsep.join([str(tmp_path / name), str(Path(__file__).parents[2])])
        variables = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "True; False; 1: gelu; sequential_1/dense_2: Relu"
