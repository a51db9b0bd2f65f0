"""Adam: the same in both frameworks, torch.optim and the paper; and the rounding behind equal bits."""

from fractions import Fraction
from types import ModuleType

import numpy as np
import pytest
import tensorflow as tf
import torch

from common import draws
from parity_tests.conftest import MODES, Parity
from parity_tests.support import frameworks
from parity_tests.support import oracle as numpy_oracle
from parity_tests.support.frameworks import tensor

both = frameworks.both("optimizer")
torch_optimizer, tf_optimizer = frameworks.pair("optimizer")
SHAPES = {"weight": (30, 20), "bias": (30,), "scalar": (), "dead": (4,)}


def variable(module: ModuleType, array: np.ndarray) -> torch.nn.Parameter | tf.Variable:
    return torch.nn.Parameter(torch.tensor(array)) if module is torch_optimizer else tf.Variable(array)


def gradients(step: int, dtype: str = "float64") -> dict[str, np.ndarray]:
    """Gradients of every size, from nothing to 1e4, of changing sign."""
    found = {}
    for index, (name, shape) in enumerate(SHAPES.items()):
        normal = draws.normals(index, "sample", (int(np.prod(shape)) or 1,), step).reshape(shape)
        scale = 10.0 ** (8 * draws.uniforms(index, "start", normal.shape or (1,), 0).reshape(shape) - 4)
        found[name] = np.asarray(0 * normal if name == "dead" else normal * scale, dtype=dtype)
    return found


def run(module: ModuleType, steps: int, dtype: str = "float64", **settings: float) -> tuple[dict, dict, dict]:
    parameters = {name: variable(module, np.full(shape, 0.3, dtype)) for name, shape in SHAPES.items()}
    adam = module.Adam(parameters, **settings)
    for step in range(steps):
        adam.update({name: tensor(module, g) for name, g in gradients(step, dtype).items()})
    groups = parameters, adam.first_moment, adam.second_moment
    return tuple({n: v.detach() if module is torch_optimizer else v.numpy() for n, v in g.items()} for g in groups)


SETTINGS = {"learning_rate": 0.01, "beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-4}


@pytest.mark.parametrize(("dtype", "settings"), [("float64", {}), ("float64", SETTINGS), ("float32", {})])
def test_a_thousand_updates_agree(parity: Parity, dtype: str, settings: dict[str, float]) -> None:
    ours, theirs = (run(module, 1000, dtype, **settings) for module in (torch_optimizer, tf_optimizer))
    for group, a, b in zip(("parameter", "first moment", "second moment"), ours, theirs, strict=True):
        parity.check(f"Adam {group}", "optimizer", a, b, steps=1000)
    if dtype == "float64" and not settings:
        third = numpy_oracle.Adam({name: np.full(shape, 0.3) for name, shape in SHAPES.items()})
        for step in range(1000):
            third.update(gradients(step))
        for a, b, c in zip(ours, theirs, (third.parameters, third.first_moment, third.second_moment), strict=True):
            for name in c:
                np.testing.assert_allclose(a[name], c[name], rtol=1e-14, atol=1e-14)
                np.testing.assert_allclose(b[name], c[name], rtol=1e-14, atol=1e-14)


def test_reproducible_updates_are_bit_equal(parity: Parity) -> None:
    ours, theirs = (run(module, 1000, reproducible=True) for module in (torch_optimizer, tf_optimizer))
    for group, a, b in zip(("parameter", "first moment", "second moment"), ours, theirs, strict=True):
        for name in a:
            np.testing.assert_array_equal(np.asarray(a[name]).view(np.int64), np.asarray(b[name]).view(np.int64))
        parity.check(f"reproducible Adam {group}", "optimizer", a, b, steps=1000)
    for value in ours[0].values():
        np.testing.assert_array_equal(value, np.asarray(value).astype(np.float32))


@pytest.mark.parametrize("settings", [{}, {"learning_rate": 0.02, "epsilon": 1e-3}])
def test_it_is_torch_optims_adam(settings: dict[str, float]) -> None:
    ours = run(torch_optimizer, 300, **settings)[0]
    peers = {name: torch.nn.Parameter(torch.full(shape, 0.3, dtype=torch.float64)) for name, shape in SHAPES.items()}
    names = {"learning_rate": "lr", "epsilon": "eps"}
    adam = torch.optim.Adam(peers.values(), **{names[name]: value for name, value in settings.items()})
    for step in range(300):
        for name, gradient in gradients(step).items():
            peers[name].grad = torch.tensor(gradient)
        adam.step()
    for name in SHAPES:
        np.testing.assert_allclose(ours[name], peers[name].detach(), rtol=0, atol=1e-14)


@both
def test_first_steps_by_hand(module: ModuleType) -> None:
    """After one step of gradient g, m_hat = g and v_hat = g², so theta moves lr g/(|g| + eps)."""
    for g in (1e-8, 1e-6, 1.0):
        moved = module.adam_update(
            *(tensor(module, np.array(v)) for v in (0.0, g, 0.0, 0.0)), module.bias_corrections(1)
        )[0]
        expected = -Fraction(1, 1000) * Fraction(g) / (Fraction(g) + Fraction(1e-8))
        assert float(moved) == pytest.approx(float(expected), rel=1e-11)


@pytest.mark.parametrize("step", [1, 7])
def test_one_update_in_every_mode(parity: Parity, dtype: str, mode: str, step: int) -> None:
    state = [draws.normals(s, "sample", (50,), 0).astype(dtype) for s in range(4)]
    state[3] = np.square(state[3])
    ours = torch_optimizer.adam_update(*map(torch.tensor, state), torch_optimizer.bias_corrections(step))
    corrections = tf_optimizer.bias_corrections(step)
    theirs = MODES[mode](lambda *a: tf_optimizer.adam_update(*a, corrections))(*map(tf.constant, state))
    for name, a, b in zip(("parameter", "first moment", "second moment"), ours, theirs, strict=True):
        parity.check("adam_update", "elementwise", a, b, name, mode)


@both
@pytest.mark.parametrize("reproducible", [False, True])
def test_an_update_takes_the_corrections_that_it_is_given(module: ModuleType, reproducible: bool) -> None:
    """Whatever the number of the step."""
    start, gradient, first, second = (tensor(module, draws.normals(s, "sample", (50,))) for s in range(4))
    second = second * second
    gradient = module.round_to_grid(gradient, second)
    parameter = {"w": variable(module, np.array(start))}
    adam = module.Adam(parameter, reproducible=reproducible)
    adam.resume(5, {"w": first}, {"w": second})
    adam.apply({"w": gradient}, (0.75, 0.5))
    expected = module.adam_update(start, gradient, first, second, (0.75, 0.5))
    for ours, theirs in zip((parameter["w"], adam.first_moment["w"], adam.second_moment["w"]), expected, strict=True):
        ours = ours.detach() if module is torch_optimizer else ours.numpy()
        np.testing.assert_allclose(ours, theirs, rtol=1e-7 if reproducible else 1e-14, atol=0)


@both
def test_the_grid_is_where_it_should_be(module: ModuleType) -> None:
    for scale in (1.0, 3.7, 2.0**-30, 1e200, 1e-100):
        g = draws.normals(0, "sample", (1000,)) * scale
        rounded = np.asarray(module.round_to_grid(tensor(module, g)))
        grid = 2.0 ** (np.floor(np.log2(np.abs(g).max())) + 1 - 11)
        np.testing.assert_array_equal(rounded / grid, np.round(rounded / grid))
        assert np.abs(rounded - g).max() <= grid / 2
        assert len(np.unique(rounded / grid)) > 500
        np.testing.assert_array_equal(module.round_to_grid(tensor(module, rounded)), rounded)
    exact = np.array([1.0, 0.5, -0.25, 2.0**-11])  # the largest entry is itself a power of two
    np.testing.assert_array_equal(module.round_to_grid(tensor(module, exact)), [1.0, 0.5, -0.25, 0.0])
    np.testing.assert_array_equal(module.round_to_grid(tensor(module, np.zeros(3))), np.zeros(3))
    np.testing.assert_array_equal(module.round_to_grid(tensor(module, np.array(0.7))), np.round(0.7 * 2**11) / 2**11)
    # moments that remember 64 make it 64 times 2^-10, or the next coarser one from 128 on
    small = module.round_to_grid(*(tensor(module, np.array(v)) for v in (0.7, [4096.0, 1.0])))
    assert (float(small), float(module.round_to_grid(*(tensor(module, np.array(v)) for v in (0.7, [128.0**2]))))) == (
        11 / 16,
        0.75,
    )


def test_rounding_hides_what_frameworks_differ_by() -> None:
    g = draws.normals(1, "sample", (100_000,))
    other = g * (1 + 4e-16 * draws.normals(2, "sample", (100_000,)))
    a, b = torch_optimizer.round_to_grid(torch.tensor(g)), tf_optimizer.round_to_grid(tf.constant(other))
    np.testing.assert_array_equal(a, b)
    assert (
        np.mean(np.asarray(torch_optimizer.round_to_float32(torch.tensor(g))) != g) < 1e-3
    )  # draws are float32 already
    assert np.all(tf_optimizer.round_to_float32(tf.constant(other)).numpy() == other.astype(np.float32))


@both
def test_a_moment_dies_at_the_same_step(module: ModuleType) -> None:
    """A gradient that stays zero lets moments decay to what TensorFlow would flush; both drop them first."""
    parameter = {"w": variable(module, np.zeros(2))}
    adam = module.Adam(parameter, reproducible=True)
    adam.update({"w": tensor(module, np.array([1.0, 0.5]))})
    low = {"w": tensor(module, np.array([2.0**-960, 2.0**-961]))}
    adam.resume(1, low, adam.second_moment)
    adam.update({"w": tensor(module, np.zeros(2))})
    np.testing.assert_array_equal(adam.first_moment["w"], [0.0, 0.0])
    assert np.all(np.asarray(adam.second_moment["w"]) > 0)
    adam.resume(2, adam.first_moment, low)
    adam.update({"w": tensor(module, np.zeros(2))})
    np.testing.assert_array_equal(adam.second_moment["w"], [0.0, 0.0])


@pytest.mark.parametrize("layout", ["gradient", "parameter", "expanded"])
@pytest.mark.parametrize("reproducible", [False, True])
def test_entries_are_where_the_strides_say(layout: str, reproducible: bool) -> None:
    """Compiled convolutions' gradients lie channels last; PyTorch's fused Adam misplaces their entries."""
    start, gradient = (torch.tensor(draws.normals(0, "sample", (3, 4, 2, 2), step)) for step in (1, 2))
    gradient = gradient[:1, :1, :1, :1].expand_as(gradient) if layout == "expanded" else gradient
    last = torch.channels_last
    given = {
        "gradient": (start, gradient.to(memory_format=last)),
        "parameter": (start.to(memory_format=last), gradient),
    }.get(layout, (start, gradient))
    ends = []
    for w, g in (given, (start, gradient.contiguous())):
        parameter = torch.nn.Parameter(w.clone())
        optimizer = torch_optimizer.Adam({"w": parameter}, reproducible=reproducible)
        for _ in range(3):
            optimizer.update({"w": g})
        ends.append([value.detach().numpy() for value in (parameter, optimizer.first_moment["w"])])
    for a, b in zip(*ends, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-15)
