"""Trainings side by side: held to tolerances at every update, and to what a weight's last bit does."""

import numpy as np
import pytest
import tensorflow as tf
import torch

import pytorch_impl.gmm as torch_gmm
import tf2_impl.gmm as tf_gmm
from common.data import datasets
from common.mixtures.start import initial_responsibilities
from common.parity import NOISE_FLOOR_RATIO, difference, noise_floor_ratio, one_ulp_away
from parity_tests.conftest import Parity
from parity_tests.support import oracle as numpy_oracle
from parity_tests.support.lockstep import Arrays, Batches, Learner, NumpyLearner, learners, parameters_of
from parity_tests.support.relational import check_against_truth, check_masks
from parity_tests.tolerances import INNER_PRODUCT, TOLERANCES

PERTURBATIONS = 3


def distance(a: Arrays, b: Arrays) -> float:
    """Of all weights together, relative, in the Euclidean norm."""
    square = sum(np.sum((a[name].astype(np.float64) - b[name]) ** 2) for name in a)
    return float(np.sqrt(square / sum(np.sum(a[name].astype(np.float64) ** 2) for name in a)))


def perturbed_copies(case: str, activation: str, state: Arrays, **arguments) -> list[Learner]:
    """PyTorch's learner, from weights that are one unit in the last place away, three times."""
    copies = []
    for seed in range(PERTURBATIONS):
        copies.append(learners(case, activation, **arguments)[0])
        copies[-1].set_state(state | one_ulp_away(parameters_of(state), seed), 0)
    return copies


def train_in_lockstep(
    parity: Parity, case: str, activation: str, steps: int, mode: str, dtype: str = "float64", long: str = "",
    sizes: tuple[int, int, int] = (64, 6, 50), batch_size: int = 96, perturb: bool = True,
) -> None:  # fmt: skip
    """Train both, and perturbed copies, on the same batches; every update is held to the tolerances.

    The assertion names the first update and the first tensor that is further apart than admitted.
    """
    arguments = dict(dtype=dtype, sizes=sizes)
    ours, theirs = learners(case, activation, mode=mode, **arguments)
    copies = perturbed_copies(case, activation, ours.state(), **arguments) if perturb else []
    batches, losses, weights = Batches(case, 0, dtype, sizes, batch_size), [], []
    of_loss, of_weights = (TOLERANCES[f"{long}trajectory {what}"] for what in ("loss", "weights"))
    label = f"{case} {activation}"
    for step in range(steps):
        x, noise = batches[step]
        found = [learner.loss_and_gradients(x, noise) for learner in (ours, theirs, *copies)]
        for learner, (_, gradients) in zip((ours, theirs, *copies), found, strict=True):
            learner.update(gradients)
        loss = np.array([value for value, _ in found])
        apart = abs(loss[1] / loss[0] - 1)
        assert apart <= of_loss.of(dtype), f"{label}: the loss is the first to part, by {apart:.1e}, at step {step + 1}"
        losses.append(loss)
        if step % 10 == 9 or step < 10:
            a, b, *moved = (parameters_of(learner.state()) for learner in (ours, theirs, *copies))
            for name in a:
                l2 = difference(a[name], b[name]).l2
                assert l2 <= of_weights.of(dtype), (
                    f"{label}: {name} is the first to part, by {l2:.1e}, at step {step + 1}"
                )
            weights.append((step + 1, distance(a, b), max((distance(a, copy) for copy in moved), default=0.0)))
    losses = np.array(losses)
    worst = np.argmax(np.abs(losses[:, 1] / losses[:, 0] - 1))
    at = [np.asarray(value, dtype) for value in losses[worst]]
    parity.check(f"loss, worst of {steps:,} updates", f"{long}trajectory loss", *at[:2], label, mode, steps, at[2:])
    parity.check(f"weights after {steps:,} updates", f"{long}trajectory weights", a, b, label, mode, steps, moved)
    if not long and dtype == "float64":
        parity.check(f"each weight after {steps:,} updates", "trajectory of one weight", a, b, label, mode, steps)
    assert losses[-20:, 0].mean() < losses[:20, 0].mean() - 2, "training has lowered the loss"
    if perturb:
        others = np.abs(losses[:, 2:] / losses[:, :1] - 1).max(axis=1)
        for until, apart, floor in weights:
            assert apart <= NOISE_FLOOR_RATIO * floor, (
                f"{label}: weights {apart / floor:.1f} noise floors apart at {until}"
            )
        apart = np.abs(losses[:, 1] / losses[:, 0] - 1)
        # the largest so far: the loss at one step can be equal by chance
        floor = np.maximum(np.maximum.accumulate(others), np.finfo(dtype).eps)
        assert np.all(apart <= NOISE_FLOOR_RATIO * floor), (
            f"{label}: the loss parts at step {np.argmax(apart / floor) + 1}"
        )
        shown = slice(None, None, max(1, steps // 200))
        parity.trajectory(label, "loss", dtype, range(1, steps + 1)[shown], apart[shown], others[shown])
        parity.trajectory(label, "weights", dtype, *zip(*weights, strict=True))


TRAJECTORIES = [
    ("bernoulli", "relu", 1000, "function"),
    ("gaussian learned", "tanh", 300, "function"),
    ("gaussian fixed", "relu", 200, "xla"),
    ("bernoulli", "tanh", 100, "eager"),
]


@pytest.mark.parametrize(("case", "activation", "steps", "mode"), TRAJECTORIES)
def test_updates_agree_at_every_step(parity: Parity, case: str, activation: str, steps: int, mode: str) -> None:
    train_in_lockstep(parity, case, activation, steps, mode, perturb=steps == 300)


@pytest.mark.long
def test_10_000_updates_agree(parity: Parity) -> None:
    train_in_lockstep(parity, "bernoulli", "relu", 10_000, "function", long="long ", perturb=False)


@pytest.mark.long
@pytest.mark.parametrize("case", ["bernoulli", "gaussian learned"])
def test_1_000_updates_of_full_size_agree(parity: Parity, case: str) -> None:
    train_in_lockstep(parity, case, "relu", 1000, "function", sizes=(784, 20, 400), batch_size=128, perturb=False)


@pytest.mark.long
def test_1_000_updates_in_float32_agree_where_the_activation_is_smooth(parity: Parity) -> None:
    train_in_lockstep(parity, "bernoulli", "tanh", 1000, "function", "float32")


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_float32_one_step_from_one_state(parity: Parity, activation: str) -> None:
    """TensorFlow takes PyTorch's state before every update; a ReLU may flip only where its input is zero."""
    ours, theirs = learners("bernoulli", activation, dtype="float32")
    batches, worst, flipped = Batches("bernoulli", dtype="float32"), (0.0, 0.0, 0.0), 0
    for step in range(150):
        x, noise = batches[step]
        state = ours.state()
        theirs.set_state(state, step)
        loss, gradients = ours.loss_and_gradients(x, noise)
        tf_loss, tf_gradients = theirs.loss_and_gradients(x, noise)
        worst = max(worst, (abs(tf_loss / loss - 1), loss, tf_loss))
        apart = 0
        if activation == "relu":
            inputs = [hidden_inputs(learner, x, noise) for learner in (ours, theirs)]
            for a, b in zip(*inputs, strict=True):
                apart += check_masks(f"step {step + 1}", a, b, INNER_PRODUCT)
            flipped += apart
        if apart == 0:
            for name, value in gradients.items():
                nmax, allowed = difference(value, tf_gradients[name]).nmax, TOLERANCES["gradient"].of("float32")
                assert nmax <= allowed, f"{name} is the first to part, by {nmax:.1e}, at step {step + 1}"
        ours.update(gradients)
    parity.check("loss, each update from one state", "loss", *np.float32(worst[1:]), activation, "function", 150)
    parity.check(
        "gradients, last update from one state", "gradient", gradients, tf_gradients, activation, "function", 150
    )
    assert flipped <= 5


def hidden_inputs(learner: Learner, x: np.ndarray, noise: np.ndarray) -> list[np.ndarray]:
    """What enters the two hidden layers' activations."""
    tensor = torch.tensor if learner.is_torch else tf.constant
    with torch.no_grad():
        model = learner.model
        into_encoder = model.encoder.hidden(tensor(x))
        mean, log_var = model.encoder(tensor(x))
        z = np.asarray(mean) + np.exp(np.asarray(log_var) / 2) * noise
        return [np.asarray(into_encoder), np.asarray(model.decoder.hidden(tensor(z)))]


@pytest.mark.parametrize("case", ["bernoulli", "gaussian learned", "gaussian fixed"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_gradients_are_those_written_by_hand(parity: Parity, case: str, activation: str) -> None:
    """NumPy's, from the chain rule on paper; and as close as the last bit of the weights allows."""
    ours, theirs = learners(case, activation, 3)
    third = NumpyLearner(parameters_of(ours.state()), case, activation)
    x, noise = Batches(case, 3)[0]
    (loss, gradients), (tf_loss, tf_gradients) = (model.loss_and_gradients(x, noise) for model in (ours, theirs))
    by_hand_loss, by_hand = third.loss_and_gradients(x, noise)
    copies = perturbed_copies(case, activation, ours.state(), seed=3)
    moved = [copy.loss_and_gradients(x, noise)[1] for copy in copies]
    assert list(gradients) == list(tf_gradients) == sorted(by_hand)
    for name, gradient in gradients.items():
        # the learned variance's gradient is D/2 less a sum of squares; a weight's last bit does not move D/2
        kind, floor = ("gradient that cancels", ()) if name == "log_var" else ("gradient", [m[name] for m in moved])
        parity.check("gradients against the last bit of the weights", kind, gradient, tf_gradients[name],
                     f"{case} {activation} {name}", "function", perturbed=floor)  # fmt: skip
        for theirs_too in (gradient, tf_gradients[name]):
            assert difference(by_hand[name], theirs_too).nmax <= TOLERANCES[kind].of("float64"), name
    assert by_hand_loss == pytest.approx(loss, rel=2e-15)
    assert by_hand_loss == pytest.approx(tf_loss, rel=2e-15)


@pytest.mark.parametrize("case", ["bernoulli", "gaussian learned"])
def test_float32_is_as_near_the_truth_in_both(case: str) -> None:
    """The truth is the float64 result from the same weights and data; neither may lose digits alone."""
    ours, theirs = learners(case, "tanh", dtype="float32")
    exact = learners(case, "tanh")[0]
    for step in range(3):
        x, noise = Batches(case, dtype="float32")[step]
        state = ours.state()
        exact.set_state({name: value.astype(np.float64) for name, value in state.items()}, step)
        theirs.set_state(state, step)
        truth_loss, truth = exact.loss_and_gradients(x.astype(np.float64), noise.astype(np.float64))
        (loss, gradients), (tf_loss, tf_gradients) = (m.loss_and_gradients(x, noise) for m in (ours, theirs))
        check_against_truth("loss", np.float32(loss), np.float32(tf_loss), np.float64(truth_loss), 1)
        for name in truth:
            check_against_truth(
                f"{name}, step {step}", gradients[name], tf_gradients[name], truth[name], INNER_PRODUCT / 4
            )
        ours.update(gradients)


def test_the_relational_checks_can_fail() -> None:
    a = np.array([1.0, 2.0])
    moved = [a + 1e-15]
    assert noise_floor_ratio(a, a + 5e-15, moved) < 10 < noise_floor_ratio(a, a + 5e-14, moved)
    with pytest.raises(AssertionError, match="differ"):
        Parity("harness", []).check("planted", "trajectory of one weight", a, a + 5e-14, perturbed=moved)
    truth, near = np.ones(3), np.ones(3, np.float32)
    check_against_truth("fine", near, near + np.float32(2e-7), truth, 1)
    with pytest.raises(AssertionError, match="is allowed"):
        check_against_truth("bad", near, near + np.float32(2e-6), truth, 1)
    with pytest.raises(AssertionError, match="loses digits"):
        check_against_truth("one-sided", near, near + np.float32(8e-7), truth, 1)
    with pytest.raises(AssertionError, match="ReLUs differ"):
        check_masks("bad", np.float32([1.0, 0.1]), np.float32([1.0, -0.1]), 28)
    assert check_masks("rounding", np.float32([1.0, 1e-7]), np.float32([1.0, -1e-7]), 28) == 1


@pytest.mark.parametrize("separation", [4.0, 0.5])
def test_em_for_500_iterations_agrees(parity: Parity, separation: float) -> None:
    """Three frameworks, no rounding: the log likelihood at every iteration, and where it ends."""
    x = datasets.synthetic_mixture(400, 3, 4, separation, 2).x
    gamma = initial_responsibilities(x, 3, "random", np.random.RandomState(1))
    start = tuple(value.numpy() for value in torch_gmm.m_step(torch.tensor(x), torch.tensor(gamma)))
    ours, theirs, third = tuple(map(torch.tensor, start)), tuple(map(tf.constant, start)), start
    tensors = torch.tensor(x), tf.constant(x)
    step_of_tf = tf.function(lambda *p: tf_gmm.em_iteration(tensors[1], *p))
    allowed, worst, before = TOLERANCES["em log likelihood"].of("float64"), (-1.0, 0.0, 0.0), -np.inf
    for iteration in range(1, 501):
        ours, a = torch_gmm.em_iteration(tensors[0], *ours)
        theirs, b = step_of_tf(*theirs)
        third, c = numpy_oracle.em_iteration(x, *third, "full", 0.0)
        apart = max(abs(float(a) / float(b) - 1), abs(float(a) / c - 1))
        assert apart <= allowed, f"the log likelihood parts by {apart:.1e} at iteration {iteration}"
        assert float(a) >= before - 1e-12 * abs(before), f"the log likelihood falls at iteration {iteration}"
        worst, before = max(worst, (abs(float(a) / float(b) - 1), a, b), key=lambda entry: entry[0]), float(a)
    label = f"{separation:g} deviations apart"
    parity.check("EM log likelihood, worst of 500", "em log likelihood", *worst[1:], label, "function", 500)
    for name, mine, tfs, numpys in zip(("weights", "means", "covariances"), ours, theirs, third, strict=True):
        parity.check(
            "EM parameters after 500 iterations", "em parameters", mine, tfs, f"{label} {name}", "function", 500
        )
        assert difference(np.asarray(mine), numpys).nmax <= TOLERANCES["em parameters"].of("float64"), name
    pair = torch_gmm.e_step(tensors[0], *ours)[1], tf_gmm.e_step(tensors[1], *theirs)[1]
    parity.check("EM responsibilities after 500 iterations", "em responsibilities", *pair, label, "function", 500)
