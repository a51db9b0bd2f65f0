"""Hold a Keras model against the PyTorch model that it is a port of: what agrees, what does not first, and why."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from portparity.records import floor
from portparity.records.match import compare
from portparity.records.recording import Recording
from portparity.report import Report
from portparity.weights.mapping import Mapping


class Port(Mapping):
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
        compiled = getattr(keras_model, "python_function", None)  # what tf.function was given
        self.model, self.keras_model, self.x, self.y = model, compiled or keras_model, x, y
        self.loss, self.port_loss, self.copy = loss, port_loss, copy
        self.port_x, self.port_y = port_x, port_y
        self.trainings: tuple[Callable, Callable, int] | None = None
        self.report: Report | None = None
        self.loose = 0.0  # allowed of gradients' scale, where the port rounds to float32
        self.trains = bool(getattr(model, "training", False))

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
        from portparity import explain
        from portparity.records import tensorflow_functions, tensorflow_record, torch_record
        from portparity.trainings import state

        with ExitStack() as stack:
            self.torch, self.tensorflow = torch_record, tensorflow_record
            self.report = Report()
            self._refuse()
            self._choose_layout()
            self.double = any(t.dtype == torch_record.torch.float64 for t in self._tensors().values())
            stack.callback(state.keep(self.model, self.keras_model, *(self.trainings or ())[:2]))
            mixed = tensorflow_record.halves(self.keras_model)
            self.report.uncompared += torch_record.halves(self.model) + mixed
            self.report.noted += ["R12"] * bool(mixed)
            stack.callback(torch_record.promote(self.model))
            stack.callback(tensorflow_record.promote(self.keras_model))
            self.own = {name: tensor.detach().clone() for name, tensor in self._tensors().items()}
            self.vary()
            self.original = self.record_original()
            floor.measure(self.original, lambda seed: self.record_original(seed=seed))
            self.map_weights()
            tensorflow_functions.ROUNDED.clear()
            self.port = self.record_port()
            self._note_rounded(tensorflow_functions.ROUNDED)
            self.comparison = compare(self.original, self.port)
            if self.copy is None:
                self.resolve()
            explain.explain(self)
            explain.exercised(self)
        return self.report

    # ---- preparation

    def _refuse(self) -> None:
        # what cannot be run in float64, or not at all
        if getattr(self.keras_model, "__name__", "") == "restored_function_body":
            raise ValueError("the port is a SavedModel, whose operations do not show: give the Keras model")
        lazy = self.torch.torch.nn.parameter.is_lazy
        if names := [name for name, tensor in self._tensors().items() if lazy(tensor)]:
            raise ValueError(f"the original has parameters without numbers ({names[0]}): call it once before the check")

    def _note_rounded(self, functions: list[str]) -> None:
        # constants that TensorFlow rounds to float32: read exactly here, so that the rest can be compared
        names = dict.fromkeys(functions)
        if self.double and names:
            row = "L9c" if "gelu by tanh" in names else "L9" if "gelu" in names else "R2"
            self.report.note(f"constants of {', '.join(names)} are float32 in the port, 3e-8 off", row)

    def _choose_layout(self) -> None:
        # channels last for the port, unless its input says otherwise or it does not run like that
        shape, x = getattr(self.keras_model, "input_shape", None), self.x
        choices = [True, False]
        if isinstance(x, np.ndarray) and isinstance(shape, tuple) and len(shape) == x.ndim:
            fits = [
                all(a in (None, b) for a, b in zip(shape, self._turn(x, t, None, 3).shape, strict=True))
                for t in choices
            ]
            choices = [True] if fits[0] and (x.ndim >= 4 or not fits[1]) else [False]
            self.port_x = self._turn(x, choices[0], self.port_x, 3)
        for turned in choices:
            try:
                given = self.tensorflow.as_inputs(self._turn(x, turned, self.port_x), wide=False)
                output = self.keras_model(given)
            except Exception:  # a model may raise anything for a layout that it does not take
                if turned is choices[-1]:
                    raise
                continue
            self.turned = turned
            break
        shapes = [tuple(part.shape) for part in self.tensorflow.returned(output).values()]
        if isinstance(self.y, np.ndarray) and self.port_y is None:
            turned = self._turn(self.y, True, None, 3)
            image = isinstance(x, np.ndarray) and x.ndim >= 4 and self.turned
            self.port_y = turned if turned.shape in shapes and (image or self.y.shape not in shapes) else self.y

    def _turn(self, x: Any, turned: bool, given: Any, least: int = 4) -> Any:
        if given is not None or not turned:
            return x if given is None else given
        if isinstance(x, dict):
            return {name: self._turn(value, True, None) for name, value in x.items()}
        if isinstance(x, list | tuple):
            return [self._turn(value, True, None) for value in x]
        array = np.asarray(x)
        return np.moveaxis(array, 1, -1) if x is not None and array.ndim >= least and array.dtype.kind == "f" else x

    def _tensors(self) -> dict[str, Any]:
        if not hasattr(self.model, "named_parameters"):
            return {}
        return {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}

    def restore_weights(self) -> None:
        """The user's own weights in both models, for a training."""
        for name, tensor in self._tensors().items():
            tensor.data.copy_(self.own[name])
        if self.copy is not None:
            self.copy(self.model, self.keras_model)
        else:
            tensors = {name: t.detach().cpu().numpy() for name, t in self._tensors().items() if t.is_floating_point()}
            self.flat = self.layout.flat(tensors)
            self._assign(self.terms)

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
        layers = getattr(self.keras_model, "_flatten_layers", lambda **_: [])(include_self=True, recursive=True)
        recorder.drops = any("ropout" in type(layer).__name__ for layer in layers)
        self.latest = recorder
        self.recorder = recorder if not settings else self.recorder
        return recording

    def record_port(self, **settings: Any) -> Recording:
        """One pass of the port."""
        x, y = self._turn(self.x, self.turned, self.port_x), self._turn(self.y, self.turned, self.port_y)
        return self.tensorflow.record(self.keras_model, x, y, self.port_loss, **settings)
