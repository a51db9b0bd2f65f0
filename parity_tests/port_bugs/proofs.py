"""Whether the porting tool knows a row of the catalogue: shown on what the row's entry itself computes.

in a call       an edit that cites the row, of a call of PyTorch in the entry, gives what TensorFlow gives
in an update    the tool names the row when it is given the updates of the entry's two optimizers
in a rate       the same, of the entry's two schedules
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import keras
import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from parity_tests.divergences.catalogue import Entry, absolute, relative, unequal, untouched_settings
from portparity import explain
from portparity.causes.calls import Call
from portparity.causes.effects import WRONG, Cause
from portparity.causes.known import MISTAKES
from portparity.records.match import reorderings
from portparity.records.torch_functions import tensors
from portparity.records.torch_record import Recorder
from portparity.report import Report
from portparity.trainings.courses import Courses
from portparity.trainings.runs import Step
from portparity.weights.landed import Layout

Pair = tuple[np.ndarray | None, np.ndarray | None]
Run = tuple[list[Step], list[np.ndarray]]  # the updates, and the parameters before
LEFT = 1e-3  # of a difference, after an edit that explains it


class AsItIs(Recorder):
    """A recorder in which dropout drops at random, as in the entry."""

    trains = True

    def drawn(self, function: Any, args: tuple, kwargs: dict) -> None:
        return None


def as_array(value: Any) -> np.ndarray | None:
    """Numbers, or None for what is none."""
    with suppress(TypeError, ValueError):
        return np.asarray(value.detach() if isinstance(value, torch.Tensor) else value, np.float64)


def compared(entry: Entry, recorder: Recorder) -> list[Pair]:
    """The pairs that an entry compares while a recorder watches, up to where an edit makes it fail."""
    pairs, measures = [], {measure.__code__ for measure in (absolute, relative, unequal)}

    def watch(frame: Any, event: str, _: Any) -> None:
        if event == "return" and frame.f_code in measures:
            pairs.append((as_array(frame.f_locals["a"]), as_array(frame.f_locals["b"])))

    with warnings.catch_warnings(action="ignore"), untouched_settings(), suppress(Exception), recorder:
        sys.setprofile(watch)
        try:
            entry.measure("float64")
        finally:
            sys.setprofile(None)
    return pairs


def apart(a: np.ndarray | None, b: np.ndarray | None) -> float:
    """The largest difference; NaN equals NaN. Arrays of different shapes may have their axes in another order."""
    if a is None or b is None or a.size != b.size or a.size == 0:
        return np.inf
    orders = [lambda x: x] if a.shape == b.shape else reorderings(b.shape, a.shape)
    with np.errstate(invalid="ignore"):
        same = ((a == r(b)) | (np.isnan(a) & np.isnan(r(b))) for r in orders)
        orders = [lambda x: x] if a.shape == b.shape else reorderings(b.shape, a.shape)
        sizes = [np.where(s, 0, np.nan_to_num(np.abs(a - r(b)), nan=np.inf)) for s, r in zip(same, orders, strict=True)]
    return min(float(np.max(size)) for size in sizes)


def explains(edited: np.ndarray | None, ours: np.ndarray | None, theirs: np.ndarray | None) -> bool:
    """Whether an edit takes one number to the other."""
    return apart(ours, theirs) > 0 and apart(edited, theirs) <= LEFT * apart(ours, theirs)


def causes(recorder: Recorder, row: str) -> Iterator[Cause]:
    """The edits that cite a row, of every call that was recorded."""
    for number, operation in enumerate(recorder.recording.operations):
        call = Call(operation.name, *recorder.calls[number], recorder, number)
        for mistake in MISTAKES:
            if call.name in mistake.on or "*" in mistake.on:
                with suppress(*WRONG):
                    for value, change, *cited in mistake.changes(call):
                        if (cited or [mistake.row])[0] == row:
                            yield Cause(number, mistake, value, change, call)


def in_a_call(entry: Entry) -> bool:
    """Whether an edit takes PyTorch's side to TensorFlow's: the call's own result, or what the entry makes of it."""
    recorder = AsItIs({}, {}, None, False)
    pairs = [(ours, theirs) for a, b in compared(entry, recorder) for ours, theirs in ((a, b), (b, a))]
    found = list(causes(recorder, entry.row))
    for cause in found:
        made = recorder.recording.operations[cause.operation].outputs[0]
        own, edited = recorder.recording.values[made].array, []
        with suppress(*WRONG), torch.no_grad():
            edited = [as_array(tensor) for tensor in tensors(cause.change(cause.call))]
        near = [(ours, theirs) for ours, theirs in pairs if apart(as_array(own), ours) == 0]
        if any(explains(array, *pair) for array in edited for pair in near):
            return True
    for cause in found:
        edits = {cause.operation: (cause.call.name, cause.edit)}
        after = [part for pair in compared(entry, AsItIs({}, edits, None, False)) for part in pair]
        if any(explains(edited, *pair) for edited, pair in zip(after, pairs, strict=False)):
            return True
    return False


def optimized(entry: Entry) -> tuple[list[Run], list[Run]]:
    """The updates of every optimizer that the entry runs, PyTorch's and Keras's."""
    runs: dict[Any, Run] = {}
    raw: list[np.ndarray] = []
    clip, apply, clips = None, keras.optimizers.Optimizer.apply, torch.nn.utils.clip_grad_norm_

    def clipping(parameters: list, most: float) -> Any:
        nonlocal clip
        raw[:], clip = [p.grad.numpy().copy() for p in parameters], ("torch", most)
        return clips(parameters, most)

    def before(optimizer: Any, *_: Any) -> None:
        group = {name: value for name, value in optimizer.param_groups[0].items() if name != "params"}
        parameters = optimizer.param_groups[0]["params"]
        step = Step(kind=type(optimizer).__name__, rate=float(group["lr"]), clip=clip)
        step.used = numbered([p.grad.numpy() for p in parameters])
        step.gradients, step.settings = numbered(raw) or step.used, dict.fromkeys(step.used, group)
        runs.setdefault(optimizer, ([], [p.detach().numpy().copy() for p in parameters]))[0].append(step)

    def after(optimizer: Any, *_: Any) -> None:
        runs[optimizer][0][-1].after = numbered([p.detach().numpy() for p in optimizer.param_groups[0]["params"]])

    def seen(optimizer: Any, gradients: list, variables: list) -> Any:
        step = Step(kind=type(optimizer).__name__, rate=float(optimizer.learning_rate), read=optimizer.get_config())
        step.used = numbered([g.numpy() for g in gradients])
        runs.setdefault(optimizer, ([], [v.numpy() for v in variables]))[0].append(step)
        result = apply(optimizer, gradients, variables)
        step.after = numbered([v.numpy() for v in variables])
        return result

    with ExitStack() as stack:
        stack.callback(register_optimizer_step_pre_hook(before).remove)
        stack.callback(register_optimizer_step_post_hook(after).remove)
        stack.enter_context(patch.object(keras.optimizers.Optimizer, "apply", seen))
        stack.enter_context(patch.object(torch.nn.utils, "clip_grad_norm_", clipping))
        entry.measure("float64")
    theirs = [isinstance(optimizer, keras.optimizers.Optimizer) for optimizer in runs]
    return tuple([run for run, t in zip(runs.values(), theirs, strict=True) if t is side] for side in (False, True))


def numbered(arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays by names, copied."""
    return {f"w{n}": np.array(array) for n, array in enumerate(arrays)}


def named(ours: list[Step], theirs: list[Step], start: list[np.ndarray]) -> list[str]:
    """The rows that the tool names, as causes and in notes, when it is given two trainings."""
    parameters = numbered(start)
    layout = Layout({name: array.shape for name, array in parameters.items()})
    port = SimpleNamespace(layout=layout, model=torch.nn.Module(), report=Report())
    port.terms = {name: [positions] for name, positions in layout.positions.items()}
    explain.parted(port, Courses(port, ours, theirs, parameters))
    return port.report.rows + port.report.noted


def in_an_update(entry: Entry) -> bool:
    """Whether the tool names the row for an optimizer of PyTorch's and the first of Keras's that does not agree."""
    ours, theirs = optimized(entry)
    fits = [(m, t, start) for m, start in ours for t, other in theirs if len(m) == len(t) and len(start) == len(other)]
    return [entry.row] in [named(*fit) for fit in fits]


def in_a_rate(entry: Entry) -> bool:
    """Whether the tool names the row for gradient descent at the rates that the entry calls ours and theirs."""
    rates: dict[str, np.ndarray] = {}

    def watch(frame: Any, event: str, _: Any) -> None:
        if event == "return" and frame.f_code is entry.function.__code__:
            rates.update({name: np.asarray(frame.f_locals[name], np.float64) for name in ("ours", "theirs")})

    sys.setprofile(watch)
    try:
        entry.measure("float64")
    finally:
        sys.setprofile(None)
    runs = []
    for sequence in rates.values():
        steps = [Step(numbered([np.ones(1)]), kind="SGD", rate=float(rate)) for rate in sequence]
        for step, position in zip(steps, 1 - np.cumsum(sequence), strict=True):
            step.used, step.after = step.gradients, numbered([position[None]])
            step.settings = {"w0": {"lr": step.rate}}
        runs.append(steps)
    return named(*runs, [np.ones(1)]) == [entry.row]
