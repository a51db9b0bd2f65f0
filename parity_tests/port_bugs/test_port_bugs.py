"""The pairs are what they say, by plain comparison: the correct ports agree, and each bug changes something."""

import numpy as np
import pytest
import tensorflow as tf
import torch

from parity_tests.port_bugs import BUGS
from parity_tests.port_bugs.problem import PAIRS, STEPS, Bug, Problem, build, turned

FLOOR = 1e-11  # of the scale; the models are small, in float64, but Adam divides small gradients


def copied(problem: Problem, parameters: dict[str, torch.Tensor]) -> list[np.ndarray]:
    """The port's variables, as the converter makes them of these parameters; the model is left as it was."""
    before = {name: tensor.clone() for name, tensor in problem.model.state_dict().items()}
    problem.model.load_state_dict(parameters, strict=False)
    problem.copy(problem.model, problem.keras_model)
    problem.model.load_state_dict(before)
    return [v.numpy() for v in problem.keras_model.trainable_variables]


def passes(problem: Problem) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Outputs, the loss, and the loss's slope along a random direction of each parameter, of both sides."""
    model, port, x = problem.model.eval(), problem.keras_model, problem.x
    problem.copy(model, port)
    inputs = [torch.tensor(part) for part in (x if isinstance(x, tuple) else (x,))]
    outputs = model(*inputs)
    loss = problem.loss(outputs, torch.tensor(problem.y))
    parameters = dict(model.named_parameters())
    slopes = torch.autograd.grad(loss, parameters.values(), allow_unused=True)
    variables = port.trainable_variables
    with tf.GradientTape() as tape:
        theirs = port(tf.nest.map_structure(tf.constant, turned(x)))
        port_loss = problem.port_loss(tf.constant(turned(problem.y)), theirs)
    gradients = tape.gradient(port_loss, [v.value for v in variables], unconnected_gradients="zero")
    gradients = [tf.convert_to_tensor(g).numpy() for g in gradients]
    seen = {"loss": (loss.detach().numpy(), np.asarray(port_loss))}
    for k, (a, b) in enumerate(zip(tf.nest.flatten(turned_output(outputs)), tf.nest.flatten(theirs), strict=True)):
        seen[f"output {k}"] = np.asarray(a), np.asarray(b)
    zero = {name: torch.zeros_like(p) for name, p in parameters.items()}
    start, generator = copied(problem, zero), torch.Generator().manual_seed(0)
    for name, slope in zip(parameters, slopes, strict=True):
        direction = torch.randn(zero[name].shape, generator=generator, dtype=zero[name].dtype)
        moved = copied(problem, zero | {name: direction})
        theirs = sum(np.sum(g * (b - a)) for g, a, b in zip(gradients, start, moved, strict=True))
        seen[f"gradient of {name}"] = np.array([float((slope * direction).sum())]), np.array([theirs])
    problem.copy(model, port)
    return seen


def turned_output(outputs: object) -> object:
    if isinstance(outputs, tuple):
        return [turned(part.detach().numpy()) for part in outputs]
    return turned(outputs.detach().numpy())


def trained(problem: Problem) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The port's variables after the training, and what the converter makes of the model after its own."""
    problem.copy(problem.model.train(), problem.keras_model)
    for step in range(STEPS):
        for update in problem.steps:
            update(step)
    theirs = [v.numpy() for v in problem.keras_model.variables]
    problem.copy(problem.model, problem.keras_model)
    ours = [v.numpy() for v in problem.keras_model.variables]
    return {f"{v.path}, trained": (a, b) for v, a, b in zip(problem.keras_model.variables, ours, theirs, strict=True)}


def apart(problem: Problem) -> tuple[float, str]:
    """The largest difference of everything, relative to its scale, and of what."""
    compared = passes(problem) | (trained(problem) if problem.steps else {})
    slopes = max(np.abs(a).max() for name, (a, _) in compared.items() if name.startswith("gradient"))
    found = (0.0, "")
    for name, (a, b) in compared.items():
        scale = max(np.max(np.abs(a)), 1e-3 * slopes * name.startswith("gradient"), 1e-12)
        difference = np.max(np.abs(a - b)) / scale if a.shape == b.shape else np.inf
        found = max(found, (float(np.nan_to_num(difference, nan=np.inf)), name))
    return found


@pytest.mark.long
@pytest.mark.parametrize("name", PAIRS)
def test_a_correct_port_agrees(name: str) -> None:
    difference, where = apart(build(PAIRS[name]))
    assert difference < FLOOR, where


@pytest.mark.long
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug.pair.__name__}: {bug.what}")
def test_a_bug_changes_something(bug: Bug) -> None:
    difference, where = apart(build(bug.pair, **bug.wrong))
    assert difference > 100 * FLOOR, where


def test_the_table_is_sound() -> None:
    assert len(BUGS) == len({(bug.pair.__name__, bug.what) for bug in BUGS}) >= 60
    assert {bug.pair.__name__ for bug in BUGS} == set(PAIRS)
