"""Hold a Keras model against the PyTorch model that it is a port of: what agrees, what does not first, and why."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from portparity import describe, floor, weights
from portparity.match import compare
from portparity.recording import Recording
from portparity.report import Report


class Port:
    """A PyTorch model and its port.

    ``x`` and ``y`` are NumPy arrays, tuples or dicts of them, in PyTorch's layout: images (N, C, H, W) are turned
    for the port if it takes (N, H, W, C). ``loss(output, y)`` is PyTorch's, ``port_loss(y, output)`` Keras's.
    ``copy(model, keras_model)`` is your converter of weights; without it weights are mapped for the check. Both
    models are afterwards as they were before.
    """

    def __init__(
        self,
        model: Any,
        keras_model: Any,
        x: Any,
        y: Any = None,
        loss: Callable | None = None,
        port_loss: Callable | None = None,
        copy: Callable | None = None,
        port_x: Any = None,
        port_y: Any = None,
    ) -> None:
        self.model, self.keras_model, self.x, self.y = model, keras_model, x, y
        self.loss, self.port_loss, self.copy = loss, port_loss, copy
        self.port_x, self.port_y = port_x, port_y
        self.trainings: tuple[Callable, Callable, int] | None = None
        self.report: Report | None = None

    def training(self, torch_step: Callable, keras_step: Callable, steps: int = 20) -> None:
        """Compare trainings too: each function makes one update of its model; it may take the step's number."""
        self.trainings = torch_step, keras_step, steps

    def assert_same(self) -> None:
        """Raise AssertionError with the report if the port is another model."""
        report = self.report or self.check()
        if not report.agrees:
            raise AssertionError(str(report))

    def check(self) -> Report:
        """Compare everything, and look for the cause of what differs."""
        from portparity import tensorflow_record, torch_record

        with ExitStack() as stack:
            self.torch, self.tensorflow = torch_record, tensorflow_record
            self.report = Report()
            self._build()
            self._choose_layout()
            stack.callback(torch_record.promote(self.model))
            stack.callback(tensorflow_record.promote(self.keras_model))
            stack.callback(self._keep())
            self.vary()
            self.original = self.record_original()
            floor.measure(self.original, lambda seed: self.record_original(seed=seed))
            self.map_weights()
            self.port = self.record_port()
            self.comparison = compare(self.original, self.port)
            if self.copy is None:
                self.resolve()
            self.explain()
        return self.report

    # ---- preparation

    def _build(self) -> None:
        if not getattr(self.keras_model, "built", True) or not self.tensorflow.variables_of(self.keras_model):
            for turned in (True, False):
                try:
                    self.keras_model(self.tensorflow.as_inputs(self._turn(self.x, turned, self.port_x), wide=False))
                    return
                except Exception as error:  # a model may raise anything for a layout that it does not take
                    failure = error
            raise failure

    def _turn(self, x: Any, turned: bool, given: Any) -> Any:
        if given is not None or not turned:
            return x if given is None else given
        if isinstance(x, dict):
            return {name: self._turn(value, True, None) for name, value in x.items()}
        if isinstance(x, list | tuple):
            return [self._turn(value, True, None) for value in x]
        array = np.asarray(x)
        return np.moveaxis(array, 1, -1) if array.ndim >= 4 and array.dtype.kind == "f" else x

    def _choose_layout(self) -> None:
        # channels last for the port, unless its input says otherwise or it does not run like that
        shape, x = getattr(self.keras_model, "input_shape", None), self.x
        self.turned = not isinstance(x, np.ndarray) or x.ndim >= 4
        if isinstance(x, np.ndarray) and isinstance(shape, tuple) and len(shape) == x.ndim:
            as_is = all(a in (None, b) for a, b in zip(shape, x.shape, strict=True))
            moved = np.moveaxis(x, 1, -1)
            fits = all(a in (None, b) for a, b in zip(shape, moved.shape, strict=True))
            self.turned = (self.turned and fits) or (fits and not as_is)
            if self.turned and x.ndim == 3:
                self.port_x = moved
        if self.turned and self.port_x is None:
            try:
                self.keras_model(self.tensorflow.as_inputs(self._turn(x, True, None), wide=False))
            except Exception:  # as in _build
                self.turned = False

    def _keep(self) -> Callable[[], None]:
        variables = self.tensorflow.variables_of(self.keras_model)
        before = {path: variable.numpy() for path, variable in variables.items()}
        tensors = self._tensors()
        original = {name: tensor.detach().clone() for name, tensor in tensors.items()}

        def restore() -> None:
            for path, variable in variables.items():
                variable.assign(before[path])
            for name, tensor in tensors.items():
                tensor.data.copy_(original[name])

        return restore

    def _tensors(self) -> dict[str, Any]:
        if not hasattr(self.model, "named_parameters"):
            return {}
        return {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}

    def vary(self) -> None:
        """Move parameters that are all zeros or all ones, so that an equation without them is not the same."""
        generator = np.random.default_rng(0)
        for name, tensor in self._tensors().items():
            if not tensor.is_floating_point():
                continue
            array = tensor.detach().cpu().numpy().astype(np.float32).astype(np.float64)
            if array.size > 1 and np.all(array == array.flat[0]):
                change = 0.2 * generator.standard_normal(array.shape)
                array = array + (np.abs(change) if "var" in name else change).astype(np.float32)
            tensor.data.copy_(self.torch.torch.tensor(array))

    def record_original(self, **settings: Any) -> Recording:
        """One pass of the PyTorch model."""
        recording, recorder = self.torch.record(self.model, self.x, self.y, self.loss, **settings)
        self.recorder = recorder if not settings else self.recorder
        return recording

    def record_port(self, **settings: Any) -> Recording:
        """One pass of the port."""
        x, y = self._turn(self.x, self.turned, self.port_x), self._turn(self.y, self.turned, self.port_y)
        return self.tensorflow.record(self.keras_model, x, y, self.port_loss, **settings)

    # ---- weights

    def map_weights(self) -> None:
        """Copy the original's numbers into the port, and find out what went where."""
        tensors = {name: tensor for name, tensor in self._tensors().items() if tensor.is_floating_point()}
        self.layout = weights.Layout({name: tuple(tensor.shape) for name, tensor in tensors.items()})
        self.variables = self.tensorflow.variables_of(self.keras_model)
        self.flat = self.layout.flat({name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()})
        self.unwritten: list[str] = []
        if self.copy is not None:
            before = {path: variable.numpy() for path, variable in self.variables.items()}
            marks = weights.distinct(self.layout)
            self._fill(tensors, marks)
            self.copy(self.model, self.keras_model)
            after = {path: variable.numpy() for path, variable in self.variables.items()}
            self.terms, self.unwritten = weights.watched(self.layout, marks, before, after)
            self._fill(tensors, self.flat)
            self.copy(self.model, self.keras_model)
        else:
            self._map_by_shape()
            self._assign(self.terms)

    def _fill(self, tensors: dict[str, Any], flat: np.ndarray) -> None:
        for name, tensor in tensors.items():
            tensor.data.copy_(self.torch.torch.tensor(flat[self.layout.positions[name]]))

    def _assign(self, terms: dict[str, weights.Terms]) -> None:
        weights.apply(terms, self.flat, lambda path, array: self.variables[path].assign(array))

    def _map_by_shape(self) -> None:
        order = [self.original.values[v].name for o in self.original.operations for v in o.inputs]
        originals = weights.original_units(dict(self.model.named_modules()), self.layout, _once(order))
        port = self.record_port()
        read = _once([port.values[v].name for o in port.operations for v in o.inputs])
        shapes = {path: tuple(v.shape) for path, v in self.variables.items() if np.dtype(v.dtype).kind == "f"}
        layers = [self.keras_model, *self.keras_model._flatten_layers(include_self=False, recursive=True)]
        self.pairs = weights.pair_units(originals, weights.port_units(layers, shapes, read))
        self.terms = {}
        for unit, other in self.pairs:
            self.terms |= {path: ways[0] for path, ways in weights.paired(unit, other).items()}
        self.unwritten = [path for path in shapes if path not in self.terms]

    def resolve(self, tries: int = 60) -> None:
        """Exchange layers of equal shapes, or turn a kernel's rows, until the activations agree."""
        seen: set[int] = set()
        while self.comparison.missing and self.comparison.missing[0] not in seen and tries > 0:
            seen.add(operation := self.comparison.missing[0])
            for terms in self._other_maps(self._parameters_before(operation)):
                tries -= 1
                self._assign(self.terms | terms)
                port = self.record_port()
                other = compare(self.original, port)
                if operation not in other.missing and len(other.matches) > len(self.comparison.matches):
                    self.terms, self.port, self.comparison = self.terms | terms, port, other
                    break
                self._assign(self.terms)

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

    def _other_maps(self, names: set[str]) -> Any:
        here = [
            k
            for k, (unit, _) in enumerate(self.pairs)
            if names & {self.layout.owner(p.flat[0]) for p in unit.parts.values()}
        ]
        for k in here:
            unit, other = self.pairs[k]
            ways = weights.paired(unit, other)
            for path, choices in ways.items():
                for choice in choices[1:]:
                    yield {path: choice}
            yield from self._turned_rows(unit, ways)
            for j, (second, partner) in enumerate(self.pairs):
                a, b = weights.paired(unit, partner), weights.paired(second, other)
                if j != k and second.kind == unit.kind and a and b:
                    self.pairs[k], self.pairs[j] = (unit, partner), (second, other)
                    yield {path: w[0] for path, w in (a | b).items()}
                    self.pairs[k], self.pairs[j] = (unit, other), (second, partner)

    def _turned_rows(self, unit: weights.Unit, ways: dict) -> Any:
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

    # ---- what is said

    def explain(self) -> None:
        """Write the findings into the report, each with its cause if a known mistake explains it."""
        from portparity.causes.search import Search

        report, found = self.report, self.comparison
        describe.counts(self, found)
        recorder = self.recorder
        search = Search(self.original, recorder.calls, self.port, lambda edits: self.record_original(edits=edits))
        for cause, after in search.causes(found):
            finding = describe.first(found, cause.operation)
            finding.cause, finding.row, finding.remedy = cause.said(cause.mistake.says), cause.mistake.row, ""
            finding.remedy = cause.said(cause.mistake.remedy)
            report.findings.append(finding)
            found = after
        report.findings += describe.rest(self, found)


def _once(names: list[str]) -> list[str]:
    return list(dict.fromkeys(name for name in names if name))
