"""What a model computed: every operation in order, who fed whom, the numbers and their gradients.

A recording is plain NumPy, whichever framework made it, and one file: arrays as npz, the rest as JSON inside it.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np


@dataclass
class Value:
    """An array that an operation read or made, and the gradient of the loss with respect to it."""

    array: np.ndarray
    gradient: np.ndarray | None = None
    source: int = -1  # the operation that made it; -1 for inputs, parameters and constants
    name: str = ""  # of an input or a parameter
    movement: float = 0.0  # how far a change of every last bit moves the array, at most
    gradient_movement: float = 0.0


@dataclass
class Operation:
    """A call: its name, the module or layer that made it, and the values that went in and came out."""

    name: str
    where: str
    inputs: list[int]
    outputs: list[int]
    settings: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.where or 'model'}: {self.name}"


@dataclass
class Recording:
    """One pass of a model, its loss, and its gradients."""

    framework: str
    values: list[Value] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)  # the model's, then the loss
    places: list[str] = field(default_factory=list)  # where in what was returned each output lies
    parameters: dict[str, np.ndarray] = field(default_factory=dict)
    gradients: dict[str, np.ndarray | None] = field(default_factory=dict)
    frozen: dict[str, np.ndarray | None] = field(default_factory=dict)  # gradients of what no training updates
    movements: dict[str, float] = field(default_factory=dict)  # of the parameters' gradients
    after: dict[str, np.ndarray] = field(default_factory=dict)  # what the pass has left in the parameters
    notes: list[str] = field(default_factory=list)  # what was not seen
    unsteady: dict[str, str] = field(default_factory=dict)  # outputs that cannot be compared, and why

    def consumers(self) -> dict[int, list[int]]:
        """The operations that read each value."""
        read: dict[int, list[int]] = {}
        for number, operation in enumerate(self.operations):
            for value in operation.inputs:
                read.setdefault(value, []).append(number)
        return read

    def before_output(self) -> set[int]:
        """The operations that the outputs depend on."""
        seen: set[int] = set()
        waiting = [self.values[value].source for value in self.outputs]
        while waiting:
            if (number := waiting.pop()) >= 0 and number not in seen:
                seen.add(number)
                waiting += [self.values[value].source for value in self.operations[number].inputs]
        return seen

    def same_as(self, other: "Recording") -> bool:
        """Whether another pass has made the same numbers, to the bit, and left the same."""
        mine, theirs = (
            [a for v in r.values for a in (v.array, v.gradient)] + [*r.gradients.values(), *r.after.values()]
            for r in (self, other)
        )
        return len(mine) == len(theirs) and all(
            a is b if a is None or b is None else np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
            for a, b in zip(mine, theirs, strict=True)
        )

    def save(self, path: str) -> None:
        """Write one file."""
        arrays, text = {}, asdict(self)

        def strip(item: Any) -> Any:
            if isinstance(item, np.ndarray | np.generic):
                arrays[key := f"a{len(arrays)}"] = np.asarray(item)
                return {"array": key}
            if isinstance(item, dict):
                return {name: strip(value) for name, value in item.items()}
            return [strip(value) for value in item] if isinstance(item, list | tuple) else item

        header = np.frombuffer(json.dumps(strip(text)).encode(), np.uint8)
        with open(path, "wb") as file:
            np.savez_compressed(file, header=header, **arrays)

    @classmethod
    def load(cls, path: str) -> "Recording":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:

            def fill(item: Any) -> Any:
                if isinstance(item, dict):
                    return file[item["array"]] if item.keys() == {"array"} else {k: fill(v) for k, v in item.items()}
                return [fill(value) for value in item] if isinstance(item, list) else item

            text = fill(json.loads(file["header"].tobytes()))
        text["values"] = [Value(**value) for value in text["values"]]
        text["operations"] = [Operation(**operation) for operation in text["operations"]]
        return cls(**text)


def parts(item: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """What a model returned, piece by piece, with its place; names are sorted, as in a dict, and Nones are left out."""
    if is_dataclass(item) and not isinstance(item, type | dict):
        item = {part.name: getattr(item, part.name) for part in fields(item)}
    if isinstance(item, dict | list | tuple):
        pieces = sorted(item.items(), key=str) if isinstance(item, dict) else enumerate(item)
        for name, piece in pieces:
            yield from parts(piece, f"{place}.{name}" if place else str(name))
    elif item is not None:
        yield place, item


def noise(kind: str, number: int, size: int) -> np.ndarray:
    """The numbers that both frameworks' generators return while a model is recorded: the draw's, not the seed's."""
    generator = np.random.default_rng([size, number])
    return generator.standard_normal(size) if kind == "normal" else generator.random(size)
