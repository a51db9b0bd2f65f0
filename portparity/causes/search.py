"""Try the known mistakes on the original, one after the other, until the port has the result."""

from collections.abc import Iterator
from time import monotonic
from typing import Any

import numpy as np
import torch

from portparity.causes import known
from portparity.causes.calls import Call, Change, Mistake
from portparity.records.floor import scale, tolerance
from portparity.records.match import Comparison, Index, compare, informative
from portparity.records.recording import Recording
from portparity.records.torch_functions import as_array, tensors

WRONG = (
    RuntimeError,
    ValueError,
    IndexError,
    TypeError,
    KeyError,
    AttributeError,
    ZeroDivisionError,
    NotImplementedError,
    StopIteration,
)  # what a call raises for arguments that do not fit
SINGLE = 4e-7  # of the largest entry: what rounding to float32 explains
DEPTH = 6  # operations before and after the first different one at which a cause is looked for


class Cause:
    """An edit of one of the original's operations that gives what the port has."""

    def __init__(
        self, operation: int, mistake: Mistake, value: Any, change: Change, call: Call, row: str | None = None
    ) -> None:
        self.row = mistake.row if row is None else row
        self.operation, self.mistake, self.value, self.change, self.call = operation, mistake, value, change, call

    def said(self, text: str) -> str:
        """A text of the mistake, with its value and the original's settings filled in."""
        given = _Names({n: v for n, v in self.call.given.items() if isinstance(v, int | float | str | tuple)})
        value = f"{self.value:g}" if isinstance(self.value, float) else self.value
        return text.format(value, call=self.call, given=given)

    def edit(self, function: Any, args: tuple, kwargs: dict) -> Any:
        """The edit, for a recorder."""
        return self.change(Call(self.call.name, function, args, kwargs))


class _Names(dict):
    def __missing__(self, name: str) -> str:
        return f"the original's {name}"


class Search:
    """The search for causes. ``replay(edits)`` records the original with operations edited."""

    def __init__(self, original: Recording, calls: list, port: Recording, replay: Any) -> None:
        self.original, self.calls, self.port, self.replay = original, calls, port, replay
        self.index, self.edits, self.single = Index(port), {}, False  # single: the port rounds to float32 somewhere
        self.patience = 20.0  # seconds for edits whose own result does not show, at one difference

    def causes(self, found: Comparison, most: int = 5) -> Iterator[tuple[Cause, Comparison]]:
        """One cause after the other, and the comparison after each; none if nothing explains what differs."""
        for _ in range(most):
            if found.agrees:
                return
            step = self._forward(found) if found.missing or found.outputs else self._backward(found)
            if step is None:
                return
            yield step
            found = step[1]

    def _forward(self, found: Comparison) -> tuple[Cause, Comparison] | None:
        # at first the edits whose own result the port has, then those whose effect shows further on
        until = monotonic() + self.patience
        for first in found.missing or [self.original.values[found.outputs[0]].source]:
            near = self._near(found, first)
            causes = [cause for operation in near for cause in self._candidates(operation, backward=False)]
            seen = [c for c in causes if c.mistake.inside and self._has_result(found, c.operation, c)]
            for cause in [*seen, *(c for c in causes if c not in seen)]:
                if (other := self._with(cause)) is not None and self._better(found, other, first):
                    return self._accepted(cause, other)
                if monotonic() > until and cause not in seen:
                    break
            if (rounded := self._rounded(found, first)) is not None:
                return rounded
        return None

    def _accepted(self, cause: Cause, after: Comparison) -> tuple[Cause, Comparison]:
        self.edits[cause.operation] = cause.call.name, cause.edit
        return cause, after

    def _rounded(self, found: Comparison, first: int) -> tuple[Cause, Comparison] | None:
        # a result that the port has but for float32: its numbers are put in the original's place, and a note is made
        number = self.original.operations[first].outputs[0]
        array = self.original.values[number].array
        if array.dtype.kind != "f" or first in self.edits:
            return None
        for match in self.index.find(array, SINGLE * scale(array))[0]:
            theirs = torch.tensor(match.reorder(self.port.values[match.port].array).astype(array.dtype))
            name, (function, args, kwargs) = self.original.operations[first].name, self.calls[first]
            call = Call(name, function, args, kwargs)
            row = {"interpolate": "L13", "gelu": "L9"}.get(name, "R2")
            says = f"the port computes {self.original.operations[first]} in float32"
            mistake = Mistake(row, {name}, says, "", lambda call: iter(()), harmless=True)

            def change(c: Call, theirs: torch.Tensor = theirs) -> Any:
                result = c.result()
                mine = result if isinstance(result, torch.Tensor) else result[0]
                mine = mine + (theirs.to(mine) - mine).detach()
                return mine if isinstance(result, torch.Tensor) else type(result)((mine, *result[1:]))

            cause = Cause(first, mistake, "", change, call)
            self.single = True
            if (other := self._with(cause)) is not None and first not in other.missing:
                return self._accepted(cause, other)
        return None

    def _backward(self, found: Comparison) -> tuple[Cause, Comparison] | None:
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
                    return self._accepted(cause, other)
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
                return self._accepted(cause, other)
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
        name, (function, args, kwargs) = self.original.operations[operation].name, self.calls[operation]
        call = Call(name, function, args, kwargs)
        for mistake in known.MISTAKES:
            if mistake.backward is backward and (name in mistake.on or "*" in mistake.on):
                try:
                    changes = list(mistake.changes(call))
                except WRONG:
                    continue
                for value, change, *row in changes:
                    yield Cause(operation, mistake, value, change, call, *row)

    def _has_result(self, found: Comparison, operation: int, cause: Cause) -> bool:
        # whether the edited call alone, on the original's numbers, gives something new that the port has
        if operation in self.edits:
            return False
        function, args, kwargs = self.calls[operation]
        try:
            with torch.no_grad():
                results = list(tensors(cause.edit(function, args, kwargs)))
        except WRONG:
            return False
        before = self.original.operations[operation].outputs
        for result, number in zip(results, before, strict=False):
            array, value = as_array(result), self.original.values[number]
            if not np.all(np.isfinite(array)) or not (informative(array) or number in self.original.outputs):
                continue
            allowed = tolerance(array, value.movement)
            if array.shape == value.array.shape and np.max(np.abs(array - value.array), initial=0) <= allowed:
                continue
            among = self.port.outputs if number in self.original.outputs else None
            if any(m.port not in self._known(found) for m in self.index.find(array, allowed, among)[0]):
                return True
        return False

    def _known(self, found: Comparison) -> set[int]:
        return {m.port for matches in found.matches.values() for m in matches}

    def _with(self, cause: Cause) -> Comparison | None:
        try:
            recording = self.replay({**self.edits, cause.operation: (cause.call.name, cause.edit)})
        except WRONG:
            return None
        if len(recording.values) != len(self.original.values):
            return None
        for value, before in zip(recording.values, self.original.values, strict=True):
            value.movement, value.gradient_movement = before.movement, before.gradient_movement
        recording.movements = self.original.movements
        return compare(recording, self.port, self.index, SINGLE if self.single else 0.0)

    @staticmethod
    def _better(found: Comparison, other: Comparison, first: int) -> bool:
        # the first difference is gone, and more of the port's results are accounted for
        if first in other.missing or len(other.outputs) > len(found.outputs):
            return False
        if other.missing and found.missing and other.missing[0] < found.missing[0]:
            return False
        known = [{m.port for matches in c.matches.values() for m in matches} for c in (found, other)]
        return len(known[1] - known[0]) > 0 and len(known[1]) > len(known[0])
