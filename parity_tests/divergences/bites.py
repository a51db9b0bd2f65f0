"""How often a row of the catalogue bites: in how many of the pairs of `parity_tests/port_bugs` it changes a number.

A row bites in a pair if an edit that cites it, of one of the original's calls, gives another result or another
gradient there, or if its optimizer's updates or rates are others with the row's mistake.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from parity_tests.port_bugs import BUGS
from parity_tests.port_bugs.problem import Problem, build, precision
from portparity.causes.calls import Call
from portparity.causes.effects import WRONG, Cause
from portparity.causes.known import MISTAKES
from portparity.causes.optimizers import clipped, mistakes, settings_of, update
from portparity.records.torch_functions import tensors
from portparity.records.torch_record import record
from portparity.trainings.runs import Step, run_original

STEPS = 4
BUILDERS = dict.fromkeys(bug.pair for bug in BUGS)
PAIRS = len(BUILDERS)
BY_LAYER = {"batch_norm": {"L6", "L6b"}, "interpolate": {"L13"}, "prelu": {"L25"}, "lstm": {"L17b"}}  # in training


def counted() -> Counter[str]:
    """In how many of the pairs each row bites."""
    found: Counter[str] = Counter()
    for function in BUILDERS:
        with precision("float64"):
            found.update(bitten(build(function)))
    return found


def bitten(problem: Problem) -> set[str]:
    """The rows that bite in a pair."""
    rows: set[str] = set()
    for training in (False, True):
        given = problem.model, problem.x, problem.y, problem.loss
        recording, recorder = record(*given, training=training)
        for number, operation in enumerate(recording.operations):
            rows |= BY_LAYER.get(operation.name, set()) if training else set()
            call = Call(operation.name, *recorder.calls[number], recorder, number)
            for cause in edits(call, number, rows) if operation.where != "loss" or problem.loss else ():
                if cause.mistake.backward:
                    edit = {number: (call.name, cause.edit)}
                    with suppress(*WRONG):
                        other = record(*given, training=training, edits=edit)[0].gradients
                        rows |= {cause.row} if differ(recording.gradients.values(), other.values()) else set()
                elif differ(numbers(call.result), numbers(lambda c=cause: c.change(c.call))):
                    rows.add(cause.row)
    return rows | (trained(run_original(problem.model, problem.steps[0], STEPS, wide=True)) if problem.steps else set())


def edits(call: Call, number: int, known: set[str]) -> Iterator[Cause]:
    """The edits of a call that cite a row which is not known yet."""
    for mistake in MISTAKES:
        if call.name in mistake.on and not mistake.alone:  # nothing that is too many
            with suppress(*WRONG):
                for value, change, *cited in mistake.changes(call):
                    row = (cited or [mistake.row])[0]
                    if row not in known | {"", "S5"} or (row == "S5" and call.name != "mul"):
                        yield Cause(number, mistake, value, change, call, row)


def numbers(make: Callable[[], Any]) -> list[np.ndarray] | None:
    """What a call returns, or None if it fails."""
    with suppress(*WRONG), torch.no_grad():
        return [tensor.detach().numpy().copy() for tensor in tensors(make())]


def differ(mine: Any, others: Any) -> bool:
    """Whether arrays differ by more than rounding; a call that fails is no other result."""
    if mine is None or others is None:
        return False
    pairs = [(np.zeros(1) if a is None else a, np.zeros(1) if b is None else b) for a, b in zip(mine, others)]  # noqa: B905
    return any(a.shape != b.shape or not np.allclose(a, b, rtol=1e-9, atol=1e-12, equal_nan=True) for a, b in pairs)


def trained(course: list[Step]) -> set[str]:
    """The rows that change an update of a training, or its rates."""
    if not course[0].used:
        return set()
    scheduled, base = len({step.rate for step in course}) > 1, settings_of(course[0].kind, {})
    rows = {"O2b"} | ({"O9b", "O15"} if scheduled else set()) | ({"O2"} if base["kind"] == "Adam" else set())
    first = settings_of(course[0].kind, next(iter(course[0].settings.values()))) | {"clip": course[0].clip}
    rows |= {"O2c"} if first["momentum"] else set()
    rows |= {"O8"} if first["clip"] else set()
    for row, _, _, changes in mistakes(first, {}):
        decays = first["weight_decay"] or row not in ("O5b", "O11")
        if row and row not in rows and decays and differ(updated(course, first, {}), updated(course, first, changes)):
            rows.add(row)
    return rows


def updated(course: list[Step], settings: dict[str, Any], changes: dict[str, Any]) -> list[np.ndarray]:
    """Where a training ends with changed settings, from the same weights and along the same gradients."""
    s = settings | changes
    state: dict[str, dict] = {name: {} for name in course[0].used}
    weights = {name: course[0].after[name].astype(np.float64) for name in course[0].used}
    for step in course:
        gradients = clipped({name: step.gradients[name].astype(np.float64) for name in weights}, s["clip"])
        for name in weights:
            weights[name] = update(weights[name], gradients[name], state[name], s | {"lr": step.rate})
    return list(weights.values())
