"""An edit of a call, and what would follow from it: whether the port has it, before a whole pass is replayed."""

import warnings
from copy import copy
from typing import Any

import numpy as np
import torch

from portparity.causes.calls import Call, Change, Mistake
from portparity.records.floor import tolerance
from portparity.records.match import Comparison, Index, informative
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
WRITING = {"batch_norm", "iadd", "isub", "imul", "itruediv"}


class Cause:
    """An edit of one of the original's operations that gives what the port has; ``beneath`` is one done before it."""

    def __init__(
        self, operation: int, mistake: Mistake, value: Any, change: Change, call: Call, row: str | None = None
    ) -> None:
        self.row = mistake.row if row is None else row
        self.operation, self.mistake, self.value, self.change, self.call = operation, mistake, value, change, call
        self.beneath: Cause | None = None
        self.said_as: tuple = ()  # the mistake and its value, which its variants share, and the variant
        self.alike: list[int] = []  # later operations with the same mistake

    def said(self, text: str) -> str:
        """A text of the mistake, with its value and the original's settings filled in."""
        given = _Names({n: v for n, v in self.call.given.items() if isinstance(v, int | float | str | tuple)})
        value = f"{self.value:g}" if isinstance(self.value, float) else self.value
        return text.format(value, call=self.call, given=given)

    def edit(self, function: Any, args: tuple, kwargs: dict, recorder: Any) -> Any:
        """The edit, for a recorder."""
        return self.changed(Call(self.call.name, function, args, kwargs, recorder, self.operation))

    def changed(self, call: Call) -> Any:
        """The call's result with this edit, and the one beneath."""
        return self.change(call if self.beneath is None else call.through(self.beneath.changed))

    def over(self, beneath: "Cause | None") -> "Cause":
        """This edit of a call that another edit has changed."""
        cause = copy(self)
        cause.beneath = beneath
        return cause


class _Names(dict):
    def __missing__(self, name: str) -> str:
        return f"the original's {name}"


class Effects:
    """What would follow from an edited call, or from other parameters, computed from the calls that were recorded."""

    def __init__(self, original: Recording, recorder: Any, port: Recording, index: Index | None = None) -> None:
        self.original, self.recorder, self.port = original, recorder, port
        self.index = index or Index(port)
        self.accounted: tuple[Any, set[int]] = None, set()

    def shows(self, found: Comparison, cause: Cause, most: int = 24) -> bool:
        """Whether the edited call gives something new that the port has, or what follows from it does."""
        live = dict(zip(self.original.operations[cause.operation].outputs, self._edited(cause), strict=False))
        if any(self._is_new(found, number, tensor) for number, tensor in live.items()):
            return True
        return self.follows(found, live, cause.operation + 1, most)

    def follows(self, found: Comparison, live: dict[int, torch.Tensor], first: int = 0, most: int = 24) -> bool:
        """Whether the port has something new that follows from other numbers, by value, in ``most`` operations."""
        operations, live = self.original.operations, dict(live)
        for number in range(first, len(operations)):
            if most == 0 or not live:
                return False
            if live.keys() & set(operations[number].inputs):
                most -= 1
                made = dict(zip(operations[number].outputs, self._again(number, live), strict=False))
                if any(self._is_new(found, value, tensor) for value, tensor in made.items()):
                    return True
                live |= made
        return False

    def _is_new(self, found: Comparison, number: int, tensor: torch.Tensor) -> bool:
        # whether the port has a tensor that would be the original's value, and the original has not
        array, value = as_array(tensor), self.original.values[number]
        if array.dtype.kind != "f" or not (informative(array) or (array.size and np.all(np.isfinite(array)))):
            return False
        allowed = tolerance(array, value.movement)
        with np.errstate(invalid="ignore"):  # infinities
            if array.shape == value.array.shape and np.max(np.abs(array - value.array), initial=0) <= allowed:
                return False
        among = self.port.outputs if number in self.original.outputs else None
        matches = self.index.find(array, allowed, among)[0]
        return any(m.port not in self._known(found) for m in matches)

    def _again(self, number: int, live: dict[int, torch.Tensor]) -> list[torch.Tensor]:
        # an operation's results with other values in the place of its own
        read = iter(self.original.operations[number].inputs)

        def swap(item: Any) -> Any:
            if isinstance(item, torch.Tensor):
                return live.get(next(read), item)
            if type(item) in (list, tuple):
                return type(item)([swap(part) for part in item])
            return {name: swap(value) for name, value in item.items()} if type(item) is dict else item

        function, args, kwargs = self.recorder.calls[number]
        return self._called(number, lambda: function(*swap(args), **swap(kwargs)))

    def _edited(self, cause: Cause) -> list[torch.Tensor]:
        call = self.recorder.calls[cause.operation]
        return self._called(cause.operation, lambda: cause.edit(*call, self.recorder))

    def _called(self, number: int, call: Any) -> list[torch.Tensor]:
        # what a call gives; what it writes into its arguments, such as moving averages, is undone
        function, args, kwargs = self.recorder.calls[number]
        name = function.__name__
        writes = name.strip("_") in WRITING or kwargs.get("inplace") or (name.endswith("_") and name[-2:] != "__")
        held = [(t, t.detach().clone()) for t in tensors((args, kwargs))] if writes else []
        try:
            with torch.no_grad(), warnings.catch_warnings(action="ignore"):
                return [t.clone() if writes else t for t in tensors(call())]
        except WRONG:
            return []
        finally:
            for tensor, before in held:
                tensor.data.copy_(before)

    def _known(self, found: Comparison) -> set[int]:
        if self.accounted[0] is not found:
            self.accounted = found, {m.port for matches in found.matches.values() for m in matches}
        return self.accounted[1]
