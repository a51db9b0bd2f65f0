"""Record a Keras model, or anything that TensorFlow runs eagerly: every operation, its result and its gradient.

TensorFlow's op callbacks see each operation as it runs; a stack of `Layer.__call__` says which layer made it.
Compiled functions are run as they were written; what was compiled elsewhere is one operation, and noted.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_callbacks

from portparity.records.recording import Operation, Recording, Value, parts
from portparity.records.tensorflow_functions import eagerly, shared

SILENT = {
    "ReadVariableOp",
    "NoOp",
    "AssignVariableOp",
    "AssignSubVariableOp",
    "AssignAddVariableOp",
    "VarHandleOp",
    "DestroyResourceOp",
    "Shape",
    "Const",
}

CALLS = {"PartitionedCall", "StatefulPartitionedCall", "XlaLaunch", "EagerPyFunc", "PyFunc", "PyFuncStateless"}


class Recorder:
    """What the callback has seen is in ``recording``."""

    def __init__(self, variables: dict[int, str]) -> None:
        self.recording, self.where, self.variables = Recording("TensorFlow"), [], variables
        self.numbers: dict[int, int] = {}
        self.kept: list[tuple[Value, tf.Tensor]] = []
        self.read: dict[int, str] = {}  # tensors that are a variable's value
        self.names: dict[int, str] = {}
        self.compiled: list[str] = []  # functions that were run eagerly

    def __call__(
        self, kind: Any, inputs: Any, attrs: Any, outputs: Any, op_name: Any = None, graph: Any = None
    ) -> None:
        kind = kind.decode() if isinstance(kind, bytes) else kind
        if graph is not None:
            return
        if kind == "ReadVariableOp":
            for tensor in outputs:
                self.number(tensor, name=self.variables.get(inputs[0]._id, ""))
        if kind in SILENT:
            return
        before = [self.number(tensor) for tensor in inputs if _has_numbers(tensor)]
        outputs = [tensor for tensor in outputs if _has_numbers(tensor)]
        if not outputs:
            return
        number = len(self.recording.operations)
        after = [self.enter(tensor, number) for tensor in outputs]
        settings = {_text(k): _text(v) for k, v in zip(attrs[::2], attrs[1::2], strict=False)}
        operation = Operation(kind, "/".join(self.where), before, after, settings)
        self.recording.operations.append(operation)

    def number(self, tensor: tf.Tensor, name: str = "") -> int:
        """The value that a tensor is, entered if it is new."""
        if tensor._id not in self.numbers:
            self.enter(tensor, -1, name)
        return self.numbers[tensor._id]

    def enter(self, tensor: tf.Tensor, source: int, name: str = "") -> int:
        """A new value."""
        number = self.numbers[tensor._id] = len(self.recording.values)
        array = real(tensor)
        array = array.astype(np.float32) if array.dtype.name == "bfloat16" else np.array(array)
        value = Value(array, source=source, name=name or self.names.get(tensor._id, ""))
        self.recording.values.append(value)
        self.kept.append((value, tensor))
        return number


def real(tensor: Any) -> np.ndarray:
    """A tensor's numbers; those of a complex one are pairs, those of a sparse one have their zeros."""
    array = tf.convert_to_tensor(tensor).numpy()
    return np.stack([array.real, array.imag], -1) if array.dtype.kind == "c" else array


def _has_numbers(tensor: Any) -> bool:
    return isinstance(tensor, tf.Tensor) and tensor.dtype.base_dtype not in (tf.resource, tf.variant, tf.string)


def _text(item: Any) -> str:
    return item.decode(errors="replace") if isinstance(item, bytes) else str(item)


@contextmanager
def _watched(recorder: Recorder, wide: bool) -> Iterator[None]:
    # the callback and the stack of layers
    call = keras.layers.Layer.__call__

    def stacked(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        recorder.where.append(layer.name)
        try:
            return call(layer, *args, **kwargs)
        finally:
            recorder.where.pop()

    with shared(wide), eagerly(recorder.compiled), ExitStack() as stack:
        stack.enter_context(patch.object(keras.layers.Layer, "__call__", stacked))
        op_callbacks.add_op_callback(recorder)
        stack.callback(op_callbacks.remove_op_callback, recorder)
        yield


def variables_of(model: Any) -> dict[str, Any]:
    """The variables of a Keras model or a `tf.Module`, by path."""
    named: dict[str, Any] = {}
    for variable in getattr(model, "variables", []):
        path = getattr(variable, "path", variable.name)
        while path in named:
            path += "'"  # another variable of the same path
        named[path] = variable
    return {path: variable for path, variable in named.items() if "seed_generator" not in path}


def handle(variable: Any) -> int:
    """What tells a variable from every other while it is read."""
    return getattr(variable, "value", variable).handle._id if hasattr(variable, "path") else variable.handle._id


def as_inputs(x: Any, wide: bool) -> Any:
    """Arrays as tensors, in float64 if ``wide``."""
    if isinstance(x, dict):
        return {name: as_inputs(value, wide) for name, value in x.items()}
    if isinstance(x, list | tuple):
        return [as_inputs(value, wide) for value in x]
    if x is None:
        return None
    array = np.asarray(x)
    return (
        tf.constant(array, tf.float64 if wide else keras.config.floatx())
        if array.dtype.kind == "f"
        else tf.constant(array)
    )


def record(
    model: Any, x: Any, y: Any = None, loss: Callable | None = None, *, training: bool = False, wide: bool = True
) -> Recording:
    """Run the model, its loss and the backward pass. ``loss(y, output)``, as Keras has it; see `torch_record`."""
    variables = variables_of(model)
    recorder = Recorder(
        {
            variable._value.handle._id if hasattr(variable, "_value") else variable.handle._id: path
            for path, variable in variables.items()
        }
    )
    before = {path: variable.numpy() for path, variable in variables.items()}
    held = [(variable, variable.numpy()) for variable in getattr(model, "variables", [])]  # seed generators' too
    inputs, target = as_inputs(x, wide), None if y is None else as_inputs(y, wide)
    flat = [tensor for tensor in tf.nest.flatten(inputs) if tensor is not None]
    recorder.names = {tensor._id: f"input {number}" for number, tensor in enumerate(flat)}
    recorder.names |= {tensor._id: "target" for tensor in tf.nest.flatten(target) if target is not None}
    recording = recorder.recording
    try:
        with tf.GradientTape() as tape:
            tape.watch([tensor for tensor in flat if tensor.dtype.is_floating])
            tape.watch([_raw(v) for v in variables.values() if not v.trainable and tf.as_dtype(v.dtype).is_floating])
            with _watched(recorder, wide):
                output = _called(model, inputs, training)
                recorder.where.append("loss")
                total = _loss(output, target, loss)
        results = returned(output)
        recording.outputs = [recorder.number(tensor) for tensor in (*results.values(), total)]
        recording.places = list(results)
        _add_gradients(recorder, tape, total, variables)
        _note_compiled(recorder)
        recording.parameters = before
        recording.after = {path: variable.numpy() for path, variable in variables.items()}
    finally:
        recorder.kept.clear()
        for variable, value in held:
            variable.assign(value)
    return recording


def _note_compiled(recorder: Recorder) -> None:
    notes = recorder.recording.notes
    names = dict.fromkeys(recorder.compiled)
    if names:
        notes.append(f"what TensorFlow compiles of the port ({', '.join(names)}), which was run eagerly")
    opaque = [
        o for o in recorder.recording.operations if o.name in CALLS or (o.name[:2] == "__" and "xla" not in o.name)
    ]
    calls = [operation.where or "the model" for operation in opaque]
    notes += [f"the inside of a function that was compiled before, in {where}" for where in dict.fromkeys(calls)]


def _called(model: Any, inputs: Any, training: bool) -> Any:
    try:
        return model(inputs, training=True) if training else model(inputs)
    except TypeError as error:
        if "training" not in str(error):
            raise
        return model(inputs)


def _loss(output: Any, target: Any, loss: Callable | str | None) -> tf.Tensor:
    if loss is None:
        results = returned(output).values()
        pairs = [tf.stack([tf.math.real(t), tf.math.imag(t)]) if t.dtype.is_complex else t for t in results]
        summed = [tf.reduce_sum(tf.sin(tf.cast(t, tf.float64))) for t in pairs if t.dtype.is_floating]
        return tf.add_n(summed) if summed else tf.zeros((), tf.float64)
    loss = keras.losses.get(loss) if isinstance(loss, str) else loss
    total = tf.convert_to_tensor(loss(output) if target is None else loss(target, output))
    return tf.reduce_mean(total) if total.shape.rank else total


def returned(output: Any) -> dict[str, tf.Tensor]:
    """The tensors that a model returned, by place."""
    return {place: part for place, part in parts(output) if isinstance(part, tf.Tensor)}


def _raw(variable: Any) -> tf.Variable:
    return getattr(variable, "value", variable) if hasattr(variable, "path") else variable


def _add_gradients(recorder: Recorder, tape: tf.GradientTape, total: tf.Tensor, variables: dict[str, Any]) -> None:
    kept = [(value, tensor) for value, tensor in recorder.kept if tensor.dtype.is_floating or tensor.dtype.is_complex]
    floats = {path: v for path, v in variables.items() if tf.as_dtype(v.dtype).is_floating}
    gradients = tape.gradient(total, [*(tensor for _, tensor in kept), *map(_raw, floats.values())])
    arrays = [None if g is None else real(g) for g in gradients]
    for (value, _), gradient in zip(kept, arrays, strict=False):
        value.gradient = gradient
    for (path, variable), gradient in zip(floats.items(), arrays[len(kept) :], strict=True):
        (recorder.recording.gradients if variable.trainable else recorder.recording.frozen)[path] = gradient


def halves(model: Any) -> list[str]:
    """What is rounded more coarsely than in float32, which a recording does not show."""
    layers = model._flatten_layers(recursive=True) if isinstance(model, keras.layers.Layer) else []
    coarse = sorted({layer.compute_dtype for layer in layers} & {"float16", "bfloat16"})
    return [f"rounding to {kind}, in which the port computes: it was run in float64 (row R12)" for kind in coarse]


def promote(model: Any) -> Callable[[], None]:
    """Turn a Keras model to float64 in place, layer by layer; the function returned turns it back.

    Each layer has its dtype policy set and each variable replaced. Casts that are written in the model remain,
    and show in the recording.
    """
    if not isinstance(model, keras.layers.Layer):
        return lambda: None
    layers = [model, *model._flatten_layers(include_self=False, recursive=True)]
    # a Sequential model runs a Functional one inside
    layers += [layer._functional for layer in layers if getattr(layer, "_functional", None) is not None]
    policies = [(layer, layer._dtype_policy) for layer in layers]
    kinds = [(layer, layer._dtype) for layer in layers if hasattr(layer, "_dtype")]
    symbols = [(s, s._dtype) for layer in layers for s in getattr(layer, "_inputs", []) if s.dtype in HALVES]
    held = [(v, v._value, v._dtype) for v in model.variables if v.dtype in HALVES]
    for layer, policy in policies:
        layer._dtype_policy = keras.DTypePolicy("float64") if policy.compute_dtype in HALVES else policy
    for layer, kind in kinds:
        layer._dtype = "float64" if kind in HALVES else kind
    for symbol, _ in symbols:
        symbol._dtype = "float64"
    for variable, value, _ in held:
        variable._value = tf.Variable(tf.cast(value, tf.float64), trainable=variable.trainable)
        variable._value._unique_id = value._unique_id  # by which an optimizer knows it
        variable._dtype = "float64"

    def restore() -> None:
        for layer, policy in policies:
            layer._dtype_policy = policy
        for layer, kind in kinds:
            layer._dtype = kind
        for symbol, kind in symbols:
            symbol._dtype = kind
        for variable, value, kind in held:
            value.assign(tf.cast(variable._value, value.dtype))
            variable._value, variable._dtype = value, kind

    return restore


HALVES = ("float32", "float16", "bfloat16")
