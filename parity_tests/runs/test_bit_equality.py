"""Trained models are equal to the last bit in PyTorch, TensorFlow and NumPy; and this is no luck."""

from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tensorflow as tf
import torch

from common import draws
from common.data import datasets
from common.mixtures.parameters import COVARIANCE_TYPES
from common.mixtures.start import initial_responsibilities
from common.runs import checkpoint
from common.runs.network import checkpoint_arrays
from common.runs.rounding import round_mixture
from parity_tests.conftest import Parity
from parity_tests.support import frameworks
from parity_tests.support import oracle as numpy_oracle
from parity_tests.support.frameworks import tensor
from parity_tests.support.lockstep import Arrays, Batches, NumpyLearner, learners, parameters_of
from parity_tests.support.relational import expected_flips, first_difference

both = frameworks.both("optimizer")
torch_optimizer, tf_optimizer = frameworks.pair("optimizer")
torch_gmm, tf_gmm = frameworks.pair("gmm")


def digest(tmp_path: Path, arrays: Arrays, step: int) -> str:
    """SHA-256 of the checkpoint file that these arrays make."""
    checkpoint.save(tmp_path / "checkpoint.safetensors", arrays, step, {"model": "test"})
    return checkpoint.digest(tmp_path / "checkpoint.safetensors")


def checkpoint_of(state: Arrays) -> Arrays:
    """A learner's state as train_vae would save it."""
    names = parameters_of(state)
    moments = [
        {n: state[prefix + n] for n in names} for prefix in ("optimizer.first_moment.", "optimizer.second_moment.")
    ]
    return checkpoint_arrays("reproducible", {n: state[n] for n in names}, moments)


def same_bytes(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def assert_same(step: int, states: dict[str, Arrays]) -> None:
    (first, ours), *others = states.items()
    for framework, theirs in others:
        name = first_difference(ours, theirs, lambda a, b: not same_bytes(a, b))
        assert name is None, f"step {step}: {name} is the first tensor in which {first} and {framework} differ"


TRAININGS = [
    ("bernoulli", "relu", 0, 1000),
    ("gaussian learned", "tanh", 1, 300),
    ("gaussian fixed", "relu", 2, 200),
    ("bernoulli", "tanh", 2**64 - 1, 200),
]


@pytest.mark.parametrize(("case", "activation", "seed", "steps"), TRAININGS)
def test_vae_checkpoints_are_the_same_bytes_in_three_frameworks(
    parity: Parity, tmp_path: Path, case: str, activation: str, seed: int, steps: int
) -> None:
    train_and_compare(parity, tmp_path, case, activation, seed, steps, (64, 4, 32), 64)


def train_and_compare(parity: Parity, tmp_path: Path, case: str, activation: str, seed: int, steps: int,
                      sizes: tuple[int, int, int], batch_size: int) -> None:  # fmt: skip
    """sha256 at every 100 updates, and the number of entries that rounding is expected to let differ.

    `make parity-long` measures that number at full size, 784-20-400; it grows with the count of entries.
    """
    ours, theirs = learners(case, activation, seed, sizes=sizes, reproducible=True)
    probes = learners(case, activation, seed, sizes=sizes)
    third = NumpyLearner(parameters_of(ours.state()), case, activation, reproducible=True)
    batches, flips = Batches(case, seed, sizes=sizes, batch_size=batch_size), []
    for step in range(steps):
        x, noise = batches[step]
        if step % 100 == 0:
            flips.append(expected_flips(probes, x, noise, ours.state(), step))
        for learner in (ours, theirs, third):
            learner.update(learner.loss_and_gradients(x, noise)[1])
        if step % 100 == 99:
            states = {"PyTorch": ours.state(), "TensorFlow": theirs.state(), "NumPy": third.state()}
            assert_same(step + 1, states)
            assert len({digest(tmp_path, checkpoint_of(state), step + 1) for state in states.values()}) == 1
    label = f"{case} {activation}, {'-'.join(map(str, sizes))}"
    parity.measure(
        "expected flips per 1,000 updates", "expected flips", 1000 * float(np.mean(flips)), label, steps=steps
    )


def test_rounding_costs_nothing(parity: Parity) -> None:
    """Held-out loss after 500 updates, with and without the rounding."""
    held_out = datasets.load("digits").split()[1].x
    noise, losses = draws.normals(0, "held-out", (len(held_out), 6)), []
    for reproducible in (True, False):
        learner = learners("gaussian learned", "tanh", reproducible=reproducible)[0]
        batches = Batches("gaussian learned")
        for step in range(500):
            learner.update(learner.loss_and_gradients(*batches[step])[1])
        losses.append(learner.loss_and_gradients(held_out, noise)[0])
    assert losses[0] != losses[1]
    what = f"gaussian learned tanh: {losses[0]:.3f} with and {losses[1]:.3f} nats without"
    parity.measure("held-out loss, rounded or not", "cost of rounding", abs(losses[0] / losses[1] - 1), what, steps=500)


MIXTURES = [(kind, 0) for kind in COVARIANCE_TYPES] + [("full", 1)]


@pytest.mark.parametrize(("kind", "seed"), MIXTURES)
def test_em_checkpoints_are_the_same_bytes_in_three_frameworks(tmp_path: Path, kind: str, seed: int) -> None:
    """500 iterations on clusters that overlap, where rounding errors live longest; compared at every one."""
    x = datasets.synthetic_mixture(300, 3, 4, 1.0, seed).x
    gamma = initial_responsibilities(x, 3, "random", np.random.RandomState(seed))
    start = torch_gmm.m_step(torch.tensor(x), torch.tensor(gamma), kind, 1e-6)
    start = round_mixture(*(value.numpy() for value in start), kind)
    tensors = torch.tensor(x), tf.constant(x)
    tf_iteration = tf.function(lambda *p: tf_gmm.em_iteration(tensors[1], *p, kind, 1e-6))
    iterations = {
        "PyTorch": lambda p: torch_gmm.em_iteration(tensors[0], *map(torch.tensor, p), kind, 1e-6)[0],
        "TensorFlow": lambda p: tf_iteration(*map(tf.constant, p))[0],
        "NumPy": lambda p: numpy_oracle.em_iteration(x, *p, kind, 1e-6)[0],
    }
    states = dict.fromkeys(iterations, start)
    for iteration in range(1, 501):
        for name, iterate in iterations.items():
            states[name] = round_mixture(*map(np.asarray, iterate(states[name])), kind)
        named = {
            name: dict(zip(("weights", "means", "covariances"), state, strict=True)) for name, state in states.items()
        }
        assert_same(iteration, named)
    assert len({digest(tmp_path, arrays, iteration) for arrays in named.values()}) == 1
    assert not np.allclose(states["NumPy"][1], start[1], rtol=1e-2), "EM has moved"


@pytest.mark.long
@pytest.mark.parametrize("case", ["bernoulli", "gaussian learned"])
def test_full_size_checkpoints_are_the_same_bytes(parity: Parity, tmp_path: Path, case: str) -> None:
    train_and_compare(parity, tmp_path, case, "relu", 0, 1000, (784, 20, 400), 128)


@both
def test_square_roots_are_correctly_rounded(module: ModuleType) -> None:
    """Against exact integers: the double nearest to sqrt(x) is at most half a unit from it, and 0 stays 0."""
    mantissas = draws.uniforms(0, "sample", (20_000,)) + 0.5
    x = np.concatenate([mantissas * 2.0 ** (np.arange(20_000) % 901 - 500), np.arange(300.0) ** 2, [2.0**-960, 0.0]])
    roots = np.asarray(module.square_root(tensor(module, x)))
    np.testing.assert_array_equal(roots[20_000:20_300], np.arange(300.0))
    assert roots[-1] == 0
    for value, root in zip(x[::50].tolist(), roots[::50].tolist(), strict=True):
        if root > 0:
            below, above = ((Fraction(root) + Fraction(np.nextafter(root, end))) / 2 for end in (0, np.inf))
            assert below**2 <= Fraction(value) <= above**2
    np.testing.assert_array_equal(roots, np.sqrt(x))  # which the standard requires of NumPy's


@both
def test_roots_that_are_a_bit_off_are_put_right(module: ModuleType) -> None:
    """Some libraries' square roots are, on some processors; here they are made so."""
    x = np.concatenate([draws.uniforms(0, "sample", (20_000,)) * 1e-9, np.arange(1.0, 300.0)])
    for towards in (0.0, np.inf):
        off = np.nextafter(np.sqrt(x), towards)
        np.testing.assert_array_equal(module.newton_step(tensor(module, x), tensor(module, off)), np.sqrt(x))


HARD = {
    "terms that nearly cancel": np.array([1e-17, -3e-18, 2e-17, 0.0]),
    "a scalar": np.array(-3.3e-9),
    "a scalar that is zero": np.array(0.0),
    "dead units": np.array([[0.0, 0.0], [0.3, -0.2], [0.0, -0.0]]),
    "negative zeros": np.array([-0.0, 0.0, -0.0]),
    "subnormal numbers": np.array([5e-324, -1e-310, 2e-308]),
    "below single precision": np.array([1e-35, -1e-36, 3e-38, -1e-45]),
    "one large and many small": np.array([1e150, 1e-200, -1.0, 1e140]),
    "ties of the grid": np.array([1.0, 2.0**-11, -(2.0**-11), 3 * 2.0**-11, 5 * 2.0**-11]),
}


@pytest.mark.parametrize("name", HARD)
def test_hard_gradients_end_in_the_same_bytes(name: str) -> None:
    """60 updates, gradients fading, changing sign and gone, from parameters at, near and away from zero."""
    pattern = HARD[name]
    for start in (0.0, -0.0, 1e-39, 0.25):
        value = np.full(pattern.shape, start)
        ours = torch_optimizer.Adam({"w": torch.nn.Parameter(torch.tensor(value))}, reproducible=True)
        theirs = tf_optimizer.Adam({"w": tf.Variable(value)}, reproducible=True)
        third = numpy_oracle.Adam({"w": value}, reproducible=True)
        for step in range(60):
            gradient = np.asarray(pattern * (-1.0) ** (step // 7) * 0.7**step * (step < 40))
            ours.update({"w": torch.tensor(gradient)})
            theirs.update({"w": tf.constant(gradient)})
            third.update({"w": gradient})
            states = {
                "PyTorch": [ours.parameters["w"].detach(), ours.first_moment["w"], ours.second_moment["w"]],
                "TensorFlow": [theirs.parameters["w"], theirs.first_moment["w"], theirs.second_moment["w"]],
                "NumPy": [third.parameters["w"], third.first_moment["w"], third.second_moment["w"]],
            }
            parts = ("parameter", "first moment", "second moment")
            assert_same(step + 1, {f: dict(zip(parts, map(np.asarray, s), strict=True)) for f, s in states.items()})


def test_gradients_that_cancel_are_rounded_alike(parity: Parity) -> None:
    """A learned variance at its optimum: the scalar gradient is a sum of both signs that all but vanishes.

    A grid that shrinks with the gradient would be missed here: by 4.6e-3 flips an update, 1e-9 from the
    optimum.
    """
    probes = learners("gaussian learned", "relu", 5)
    batches = Batches("gaussian learned", 5)
    for step in range(3):
        probes[0].update(probes[0].loss_and_gradients(*batches[step])[1])
    (x, noise), state = batches[3], probes[0].state()
    # at log_var = log mean squared error the gradient, D/2 (1 - mean squared error e^-log_var), is zero
    excess = float(probes[0].loss_and_gradients(x, noise)[1]["log_var"])
    optimum = float(state["log_var"]) + np.log(1 - 2 * excess / x.shape[1])
    for beside in (1e-6, 1e-9, 0.0):
        flips = expected_flips(probes, x, noise, state | {"log_var": np.array(optimum + beside)}, 3)
        what = "expected flips where a gradient cancels, of 1,000 such updates"
        parity.measure(what, "expected flips", 1000 * flips, f"log_var {beside:.0e} from its optimum")


def test_dead_units_stay_dead_alike() -> None:
    """Hidden units whose ReLU is off for every image have gradients of exactly zero in all three."""
    ours, theirs = learners("bernoulli", "relu", 0, reproducible=True)
    state = ours.state()
    state["encoder.hidden.bias"][:20] = -50.0
    state["decoder.hidden.bias"][5:30] = -50.0
    third = NumpyLearner(parameters_of(state), "bernoulli", "relu", reproducible=True)
    for learner in (ours, theirs):
        learner.set_state(state, 0)
    for step in range(30):
        x, noise = Batches("bernoulli")[step]
        for learner in (ours, theirs, third):
            gradients = learner.loss_and_gradients(x, noise)[1]
            assert np.all(gradients["encoder.hidden.weight"][:20] == 0)
            learner.update(gradients)
    assert_same(30, {"PyTorch": ours.state(), "TensorFlow": theirs.state(), "NumPy": third.state()})
