"""Try the known mistakes on the original, one after the other, until the port has the result."""

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
from portparity.records.match import Comparison, Index, compare, informative
from portparity.records.recording import Recording
from portparity.records.torch_functions import as_array, tensors

SINGLE = 4e-7  # of the largest entry: what rounding to float32 explains
DEPTH = 6  # operations before and after the first different one at which a cause is looked for


Step = tuple[list[Cause], Comparison]  # what explains a difference, and what differs still


class Search(Effects):
    """The search for causes in what ``recorder`` has recorded; ``replay(edits)`` is a recorder of edited operations."""

    def __init__(self, original: Recording, recorder: Any, port: Recording, replay: Any) -> None:
        self.original, self.recorder, self.port, self.replay = original, recorder, port, replay
        self.index, self.found = Index(port), {}
        self.single = False  # the port rounds to float32 somewhere
        self.accounted: tuple[Any, set[int]] = None, set()
        self.patience = 20.0  # seconds for edits whose own result does not show, at one difference
        small = [v.array for v in port.values if v.array.dtype.kind == "f" and not informative(v.array)]
        self.scalars = np.unique(np.concatenate([a.ravel().astype(float) for a in small if a.size] or [np.zeros(0)]))

    @property
    def edits(self) -> dict[int, tuple[str, Any]]:
        """What was found, for a recorder."""
        return {number: (cause.call.name, cause.edit) for number, cause in self.found.items()}

    def causes(self, found: Comparison, most: int = 5) -> Iterator[Step]:
        """One cause after the other, and the comparison after each; none if nothing explains what differs."""
        for _ in range(most):
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

    def _accepted(self, cause: Cause, step: Step) -> Step:
        # from here on the original is the edited one
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
        shows = [self._shows(found, cause) for cause in causes]
        order = {(False, 0): 0, (False, 1): 1, (True, 0): 2, (True, 1): 3}
        ranked = [(order[c.mistake.guess, far], c) for c, far in zip(causes, shows, strict=True) if far is not None]
        for _, cause in sorted(ranked, key=lambda pair: pair[0]):
            if (other := self._with(cause)) is not None and self._better(found, other, first, cause):
                passing.append(([cause], other))
                made = self.original.operations[cause.operation].outputs
                whole = self._explained(other) and informative(self.original.values[made[0]].array)
                if whole or len(passing) == 12:
                    break
            if monotonic() > until:
                break
        return max(passing, key=lambda step: (self._explained(step[1]), self._scalars(step[1])), default=None)

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
                new = one.mistake is not two.mistake and self._shows(found, pair, 0) == 0
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
                for value, change, *row in changes:
                    yield Cause(operation, mistake, value, change, call, *row).over(self.found.get(operation))

    def _with(self, cause: Cause) -> Comparison | None:
        try:
            with warnings.catch_warnings(action="ignore"):
                recording = self.replay(self.edits | {cause.operation: (cause.call.name, cause.edit)}).recording
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
        known = [{m.port for matches in c.matches.values() for m in matches} for c in (found, other)]
        return len(known[1] - known[0]) > 0 and len(known[1]) > len(known[0])
