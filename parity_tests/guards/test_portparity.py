"""The porting tool: a correct port raises no alarm, a mistake is placed and named, and files do for two processes."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from portparity import Port, compare, record

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
