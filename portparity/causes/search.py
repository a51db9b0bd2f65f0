"""Try the known mistakes on the original, one after the other, until the port has the result."""

import re
import warnings
from collections.abc import Iterator
from itertools import permutations
from time import monotonic
from typing import Any

import numpy as np
import torch

from portparity.causes import known
from portparity.causes.calls import Call, Mistake
from portparity.causes.effects import WRONG, Cause, Effects
from portparity.records.floor import scale
from portparity.records.match import Comparison, compare, informative
from portparity.records.recording import Recording
from portparity.records.torch_functions import as_array, tensors

SINGLE = 4e-7  # of the largest entry: what rounding to float32 explains
MOST = 8  # causes that are looked for, one after the other
DEPTH = 6  # operations before and after the first different one at which a cause is looked for


Step = tuple[list[Cause], Comparison]  # what explains a difference, and what differs still


class Search(Effects):
    """The search for causes in what ``recorder`` has recorded; ``replay(edits)`` is a recorder of edited operations."""

    def __init__(self, original: Recording, recorder: Any, port: Recording, replay: Any) -> None:
        super().__init__(original, recorder, port)
        self.replay, self.found = replay, {}
        self.single = False  # the port rounds to float32 somewhere
        self.patience = 20.0  # seconds for edits whose own result does not show, at one difference
        small = [v.array for v in port.values if v.array.dtype.kind == "f" and not informative(v.array)]
        self.scalars = np.unique(np.concatenate([a.ravel().astype(float) for a in small if a.size] or [np.zeros(0)]))

    @property
    def edits(self) -> dict[int, tuple[str, Any]]:
        """What was found, for a recorder."""
        return {number: (cause.call.name, cause.edit) for number, cause in self.found.items()}

    def causes(self, found: Comparison) -> Iterator[Step]:
        """One cause after the other, and the comparison after each; none if nothing explains what differs."""
        for _ in range(MOST):
            if found.agrees:
                return
            step = self._forward(found) if found.missing or found.outputs else self._backward(found)
            if step is None:
                return
            yield step
            found = step[1]

    def _forward(self, found: Comparison) -> Step | None:
        for first in found.missing or [self.original.values[found.outputs[0]].source]:
            near = self._near(found, first)
            causes = [cause for operation in near for cause in self._candidates(operation, backward=False)]
            step = self._one(found, first, causes) or self._rounded(found, first) or self._two(found, first, near)
            if step is not None:
                return self._accepted(step[0][-1], step)
        return None

    def _alike(self, cause: Cause, other: Comparison) -> tuple[list[Cause], Comparison]:
        # the same mistake in later operations of the name, or in those whose modules are named alike but for numbers
        operations, done = self.original.operations, cause.operation
        for number in (r".*", r"(?<![^.])\d+(?![^.])", r"\d+"):  # any; 1.norm2 and 2.norm2; bn1 and bn2
            kinds = [(o.name, re.sub(number, "#", o.where)) for o in operations]
            later = [n for n, kind in enumerate(kinds) if n > done and n not in self.found and kind == kinds[done]]
            more = [same for n in later for same in self._candidates(n, False) if same.said_as == cause.said_as]
            while more and (after := self._with(cause, *more)) is not None:
                wrong = min([c.operation for c in more if c.operation in after.missing], default=None)
                if wrong is None and self._matched(after) > self._matched(other):
                    return more, after
                more = [c for c in more if c.operation < wrong] if wrong is not None else []
        return [], other

    def _accepted(self, cause: Cause, step: Step) -> Step:
        # from here on the original is the edited one
        if step[1].missing and not cause.mistake.harmless and cause.beneath is None:
            more, after = self._alike(cause, step[1])
            cause.alike, step = [c.operation for c in more], (step[0], after)
            self.found |= {c.operation: c for c in more}
        self.found[cause.operation] = cause
        self.recorder = self.replay(self.edits)
        self.original = self._with_movements(self.recorder.recording)
        return step

    def _with_movements(self, recording: Recording) -> Recording:
        for value, before in zip(recording.values, self.original.values, strict=True):
            value.movement, value.gradient_movement = before.movement, before.gradient_movement
        recording.movements = self.original.movements
        return recording

    def _one(self, found: Comparison, first: int, causes: list[Cause]) -> Step | None:
        # at first the edits whose own result the port has, then those whose effect it has, at last the guesses
        until, passing = monotonic() + self.patience, []
        for cause in self._ranked(found, causes):
            if (other := self._with(cause)) is not None and self._better(found, other, first, cause):
                passing.append(([cause], other))
                made = self.original.operations[cause.operation].outputs
                whole = self._explained(other) and informative(self.original.values[made[0]].array)
                if whole or len(passing) == 12:
                    break
            if monotonic() > until:
                break
        return max(passing, key=lambda step: (self._explained(step[1]), self._scalars(step[1])), default=None)

    def _ranked(self, found: Comparison, causes: list[Cause]) -> Iterator[Cause]:
        for guess in (False, True):
            rest = [cause for cause in causes if cause.mistake.guess is guess]
            for most in (0, 24):
                left = []
                for cause in rest:
                    if self.shows(found, cause, most):
                        yield cause
                    else:
                        left.append(cause)
                rest = left

    @staticmethod
    def _explained(other: Comparison) -> bool:
        return not (other.missing or other.outputs)

    def _two(self, found: Comparison, first: int, near: list[int]) -> Step | None:
        # two mistakes in one call, neither of which gives a result that the port has
        until = monotonic() + self.patience
        for operation in near[:3]:
            if self.original.operations[operation].name not in known.JOINED:
                continue
            causes = [c for c in self._candidates(operation, backward=False) if not c.mistake.alone]
            for one, two in permutations(causes, 2):
                pair = two.over(one.over(two.beneath))
                new = one.mistake is not two.mistake and self.shows(found, pair, 0)
                if new and (other := self._with(pair)) is not None and self._better(found, other, first, pair):
                    return [one, pair], other
                if monotonic() > until:
                    return None
        return None

    def _scalars(self, other: Comparison) -> int:
        # how many of the port's single numbers an explanation has: a mean over four entries is no factor of four
        mine = [v.array.ravel() for v in other.original.values if v.array.dtype.kind == "f" and v.array.size < 3]
        mine = np.sort(np.concatenate([a.astype(float) for a in mine] or [np.zeros(0)]))
        places = np.clip(np.searchsorted(mine, self.scalars), 1, max(len(mine) - 1, 1))
        apart = [np.abs(mine[np.minimum(places - k, len(mine) - 1)] - self.scalars) for k in (0, 1)]
        return int(np.sum(np.minimum(*apart) <= 1e-12 * np.abs(self.scalars))) if len(mine) else 0

    def _rounded(self, found: Comparison, first: int) -> Step | None:
        # a result that the port has but for float32: its numbers are put in the original's place, and a note is made
        operation = self.original.operations[first]
        array = self.original.values[operation.outputs[0]].array
        if array.dtype.kind != "f" or first in self.found:
            return None
        call = Call(operation.name, *self.recorder.calls[first], self.recorder, first)
        row = {"interpolate": "L13", "gelu": "L9"}.get(operation.name, "R2")
        note = Mistake(row, set(), f"the port computes {operation} in float32", "", lambda c: (), harmless=True)
        resized = self._candidates(first, backward=False) if operation.name == "interpolate" else ()
        for beneath in (None, *(c for c in resized if not c.mistake.guess)):  # TensorFlow resizes in float32
            made = [torch.tensor(array)] if beneath is None else self._edited(beneath)
            for match in self.index.find(as_array(made[0]), SINGLE * scale(array))[0] if made else ():
                theirs = torch.tensor(match.reorder(self.port.values[match.port].array).astype(array.dtype))

                def change(c: Call, theirs: torch.Tensor = theirs) -> Any:
                    mine, *rest = tensors(c.result())
                    mine = mine + (theirs.to(mine) - mine).detach()
                    return (mine, *rest) if rest else mine

                cause, single, self.single = Cause(first, note, "", change, call).over(beneath), self.single, True
                if (other := self._with(cause)) is not None and first not in other.missing:
                    return [*([beneath] if beneath else []), cause], other
                self.single = single
        return None

    def _backward(self, found: Comparison) -> Step | None:
        for value in found.gradients[:3]:
            near = [n for n, o in enumerate(self.original.operations) if value in o.inputs]
            near += [self.original.values[value].source] if self.original.values[value].source >= 0 else []
            theirs = [self.port.values[m.port].gradient for m in found.matches[value]]
            stopped = all(g is None or not np.any(g) for g in theirs)
            for cause in self._distinct(near):
                if "*" in cause.mistake.on and not stopped:
                    continue
                other = self._with(cause)
                if other is not None and not (other.missing or other.outputs) and self._fewer(found, other):
                    return self._accepted(cause, ([cause], other))
        return None

    def _distinct(self, near: list[int]) -> Iterator[Cause]:
        for operation in dict.fromkeys(near):
            yield from self._candidates(operation, backward=True)

    def parameter(self, name: str, agrees: Any) -> tuple[Cause, Comparison] | None:
        """The cause of a parameter's gradient that differs alone; ``agrees(comparison)`` says whether it still does."""
        readers = [
            n
            for n, o in enumerate(self.original.operations)
            if any(self.original.values[v].name == name for v in o.inputs)
        ]
        for cause in self._distinct(readers):
            other = self._with(cause)
            if other is not None and other.agrees and agrees(other):
                self.found[cause.operation] = cause
                return cause, other
        return None

    @staticmethod
    def _fewer(found: Comparison, other: Comparison) -> bool:
        return len(other.gradients) < len(found.gradients) and found.gradients[0] not in other.gradients

    def _near(self, found: Comparison, first: int) -> list[int]:
        # the operation itself, those before it whose results the port lacks, and those that read it
        operations, consumers = self.original.operations, self.original.consumers()
        near, waiting = [first], [first]
        while waiting and len(near) < DEPTH:
            for value in operations[waiting.pop(0)].inputs:
                source = self.original.values[value].source
                if (
                    source >= 0
                    and source not in near
                    and not any(v in found.matches for v in operations[source].outputs)
                ):
                    near.append(source)
                    waiting.append(source)
        sources = [self.original.values[v].source for v in operations[first].inputs]
        near += [n for n in sources if n >= 0]
        after = [first]
        for _ in range(DEPTH):
            after = [c for n in after[:2] for v in operations[n].outputs for c in consumers.get(v, [])]
            near += after[:2]
        waiting, weighted = [first], []  # and the nearest ones before it that have parameters
        while waiting and len(weighted) < 3 and len(near) < 60:
            number = waiting.pop(0)
            values = [self.original.values[v] for v in operations[number].inputs]
            weighted += [number] if any(v.name in self.original.parameters for v in values) else []
            waiting += [v.source for v in values if v.source >= 0 and v.source not in waiting]
        return list(dict.fromkeys([*near, *weighted]))

    def _candidates(self, operation: int, backward: bool) -> Iterator[Cause]:
        name, call = self.original.operations[operation].name, self.recorder.calls[operation]
        call = Call(name, *call, self.recorder, operation)
        for mistake in known.MISTAKES:
            if mistake.backward is backward and (name in mistake.on or "*" in mistake.on):
                try:
                    changes = list(mistake.changes(call))
                except WRONG:
                    continue
                for number, (value, change, *row) in enumerate(changes):
                    cause = Cause(operation, mistake, value, change, call, *row).over(self.found.get(operation))
                    cause.said_as = mistake, str(value), sum(str(v) == str(value) for v, *_ in changes[:number])
                    yield cause

    def _with(self, *causes: Cause) -> Comparison | None:
        edits = {cause.operation: (cause.call.name, cause.edit) for cause in causes}
        try:
            with warnings.catch_warnings(action="ignore"):
                recording = self.replay(self.edits | edits).recording
        except WRONG:
            return None
        if len(recording.values) != len(self.original.values):
            return None
        self._with_movements(recording)
        return compare(recording, self.port, self.index, SINGLE if self.single else 0.0)

    def _better(self, found: Comparison, other: Comparison, first: int, cause: Cause) -> bool:
        # the first difference is gone, and more of the port's results are accounted for
        if first in other.missing or len(other.outputs) > len(found.outputs):
            return False
        if other.missing and found.missing and other.missing[0] < found.missing[0]:
            return False
        if cause.mistake.guess or not cause.mistake.inside:  # what reads the result must be right, too
            made = set(self.original.operations[cause.operation].outputs)
            if any(made & set(self.original.operations[number].inputs) for number in other.missing):
                return False
        return self._matched(other) > self._matched(found)

    @staticmethod
    def _matched(found: Comparison) -> int:
        # how many of the port's values the original has
        return len({m.port for matches in found.matches.values() for m in matches})
