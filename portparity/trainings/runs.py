"""Two trainings next to each other: gradients, settings and weights of every step, and the update that differs.

Both run eagerly, with dropout that keeps everything and shared random numbers. What the optimizers were given is
seen where PyTorch calls its hooks and where Keras calls `Optimizer.apply`.
"""

import inspect
from collections.abc import Callable
        stack.enter_context(patch.object(tf.GradientTape, "gradient", _taped(course, variables)))
        stack.enter_context(tensorflow_record.eagerly([]))
        for number in range(1, steps + 1):
            course.append(Step())
            with shared(wide):
                for kind in (keras.layers.Dropout, keras.layers.BatchNormalization):
                    stack.enter_context(patch.object(kind, "call", _mode_seen(kind, course[-1])))
                _make(step, number)
            course[-1].after = {path: variable.numpy() for path, variable in variables.items()}
    for restore in held.values():
        restore()
    return course


def _taped(course: list[Step], variables: dict[str, Any]) -> Callable:
    # gradients as the tape gave them, for a step that updates variables without an optimizer
    names = {tensorflow_record.handle(variable): path for path, variable in variables.items()}
    gradient = tf.GradientTape.gradient

    def seen(tape: Any, target: Any, sources: Any, *args: Any, **settings: Any) -> Any:
        found = gradient(tape, target, sources, *args, **settings)
        for source, slope in zip(tf.nest.flatten(sources), tf.nest.flatten(found), strict=True):
            path = names.get(tensorflow_record.handle(source)) if hasattr(source, "assign") else None
            if path is not None and slope is not None:
                course[-1].gradients[path] = tf.convert_to_tensor(slope).numpy()
        return found

    return seen


def _mode_seen(kind: type, now: Step) -> Callable:
    call = kind.call

    def seen(layer: Any, *args: Any, training: Any = None, **settings: Any) -> Any:
        if not training and (getattr(layer, "rate", 1) or 0) > 0:
            now.layers.add(layer.name)
        return call(layer, *args, training=training, **settings)

    return seen
