"""The original's weights in the port: by the user's converter, watched, or by kind, shape and activations."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from portparity.records.match import compare
from portparity.weights import landed, units


class Mapping:
    """The part of `Port` that copies weights. ``terms`` says which of the original's numbers each variable holds."""

    def map_weights(self) -> None:
        """Copy the original's numbers into the port, and find out what went where."""
        tensors = {name: tensor for name, tensor in self._tensors().items() if tensor.is_floating_point()}
        self.layout = landed.Layout({name: tuple(tensor.shape) for name, tensor in tensors.items()})
        self.variables = self.tensorflow.variables_of(self.keras_model)
        self.flat = self.layout.flat({name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()})
        self.unwritten: list[str] = []
        self.altered: list[str] = []
        if self.copy is not None:
            before = {path: variable.numpy() for path, variable in self.variables.items()}
            marks = landed.distinct(self.layout)
            self._fill(tensors, marks)
            self.copy(self.model, self.keras_model)
            after = {path: variable.numpy() for path, variable in self.variables.items()}
            self.terms, self.unwritten, self.altered = landed.watched(self.layout, marks, before, after)
            self._fill(tensors, self.flat)
            self.copy(self.model, self.keras_model)
        else:
            self._map_by_shape()
            self._assign(self.terms)

    def _fill(self, tensors: dict[str, Any], flat: np.ndarray) -> None:
        for name, tensor in tensors.items():
            tensor.data.copy_(self.torch.torch.tensor(flat[self.layout.positions[name]]))

    def _assign(self, terms: dict[str, landed.Terms]) -> None:
        landed.apply(terms, self.flat, lambda path, array: self.variables[path].assign(array))

    def _map_by_shape(self) -> None:
        modules = self.model.named_modules() if hasattr(self.model, "named_modules") else ()
        order = [self.original.values[v].name for o in self.original.operations for v in o.inputs]
        originals = units.original_units(dict(modules), self.layout, _once(order))
        port = self.record_port()
        read = _once([port.values[v].name for o in port.operations for v in o.inputs])
        kind = self.tensorflow.tf.as_dtype
        shapes = {path: tuple(v.shape) for path, v in self.variables.items() if kind(v.dtype).is_floating}
        inside = getattr(self.keras_model, "_flatten_layers", lambda **_: [])
        layers = [self.keras_model, *inside(include_self=False, recursive=True)]
        self.pairs = units.pair_units(originals, units.port_units(layers, shapes, read))
        self.terms = {}
        for unit, other in self.pairs:
            self.terms |= {path: ways[0] for path, ways in units.paired(unit, other).items()}
        self.unwritten = [path for path in shapes if path not in self.terms]

    def resolve(self) -> None:
        """Exchange layers of equal shapes, or turn a kernel's rows, until the activations agree.

        The port runs again only for a map by which its result here would be the original's with other numbers.
        """
        from portparity.causes.effects import Effects

        seen: set[int] = set()
        while self.comparison.missing and self.comparison.missing[0] not in seen:
            seen.add(operation := self.comparison.missing[0])
            effects = Effects(self.original, self.recorder, self.port)
            names = self._parameters_before(operation)
            for terms in self._other_maps(names):
                if not effects.follows(self.comparison, self._as_mapped(terms, names)):
                    continue
                self._assign(self.terms | terms)
                port = self.record_port()
                other = compare(self.original, port)
                if operation not in other.missing and len(other.matches) > len(self.comparison.matches):
                    self.terms, self.port, self.comparison = self.terms | terms, port, other
                    break
                self._assign(self.terms)

    def _as_mapped(self, terms: dict[str, landed.Terms], names: set[str]) -> dict[int, Any]:
        # the parameters that the port would have by another map, where it has its present numbers, by value
        flat = self.flat.copy()
        for path, positions in terms.items():
            for there, here in zip(positions, self.terms[path], strict=True):
                flat[there] = self.flat[here]
        arrays = {name: flat[self.layout.positions[name]] for name in names}
        numbers = {value.name: number for number, value in enumerate(self.original.values) if value.name in names}
        return {n: self.torch.torch.tensor(arrays[name]) for name, n in numbers.items()}

    def _parameters_before(self, operation: int, many: int = 6) -> set[str]:
        # the parameters of an operation, and of the nearest ones that it depends on
        names, waiting, seen = [], [operation], set()
        while waiting and len(names) < many:
            number = waiting.pop(0)
            for value in (self.original.values[v] for v in self.original.operations[number].inputs):
                names += [value.name] if value.name in self.layout.positions else []
                if value.source >= 0 and value.source not in seen:
                    seen.add(value.source)
                    waiting.append(value.source)
        return set(names)

    def _other_maps(self, names: set[str]) -> Iterator[dict]:
        here = [
            k
            for k, (unit, _) in enumerate(self.pairs)
            if names & {self.layout.owner(p.flat[0]) for p in unit.parts.values()}
        ]
        for k in here:
            unit, other = self.pairs[k]
            ways = units.paired(unit, other)
            for path, choices in ways.items():
                for choice in choices[1:]:
                    yield {path: choice}
            yield from self._turned_rows(unit, ways)
            for j, (second, partner) in enumerate(self.pairs):
                a, b = units.paired(unit, partner), units.paired(second, other)
                if j != k and second.kind == unit.kind and a and b:
                    self.pairs[k], self.pairs[j] = (unit, partner), (second, other)
                    yield {path: w[0] for path, w in (a | b).items()}
                    self.pairs[k], self.pairs[j] = (unit, other), (second, partner)

    def _turned_rows(self, unit: units.Unit, ways: dict) -> Iterator[dict]:
        # a dense layer after Flatten: PyTorch's rows are (channel, row, column), TensorFlow's (row, column, channel)
        if unit.kind != "dense":
            return
        for path, choices in ways.items():
            rows = choices[0][0]
            for shape in {
                v.array.shape[1:]
                for v in self.original.values
                if v.array.ndim >= 3 and np.prod(v.array.shape[1:]) == rows.shape[0]
            }:
                order = np.moveaxis(np.arange(rows.shape[0]).reshape(shape), 0, -1).ravel()
                if rows.ndim == 2:
                    yield {path: [rows[order]]}


def _once(names: list[str]) -> list[str]:
    return list(dict.fromkeys(name for name in names if name))
