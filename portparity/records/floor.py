"""How far apart two correct programs may be: what a change of every last bit does, measured.

Every input, parameter, intermediate result and gradient is moved to a neighbouring floating-point number, three
times. Whatever that moves is noise, and a port may differ by a hundred times as much. Gradients that are zero but
for rounding need no rule of their own.
"""

from collections.abc import Callable

import numpy as np

from portparity.records.recording import Recording

ALLOWED = 100  # times the movement
REPEATS = 3
SMALLEST = float(np.finfo(np.float64).tiny)  # a movement of zero
LARGEST = 1e-6  # movement, of the size: what moves further is not compared


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of two arrays of one shape; equal infinities and NaNs are no difference."""
    if a.size == 0:
        return 0.0
    if a.dtype.kind not in "fc" and b.dtype.kind not in "fc":
        return float(np.max(np.abs(a.astype(np.float64) - b.astype(np.float64))))
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(a - b)
    if np.isfinite(largest := np.max(apart)):
        return float(largest)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return float(np.max(np.where(same, 0, np.where(np.isnan(apart), np.inf, apart))))


def scale(a: np.ndarray | None) -> float:
    """The largest finite entry, in absolute value."""
    if a is None or a.size == 0:
        return 0.0
    if np.isfinite(largest := np.max(np.abs(a))):
        return float(largest)
    return float(np.max(np.abs(a), initial=0, where=np.isfinite(a)))


def measure(recording: Recording, replay: Callable[[int | None], Recording]) -> None:
    """Fill in the movements of every value and gradient; ``replay(seed)`` records with every last bit moved.

    What moves further than a last bit can move it is noted: with such a floor nothing would be compared.
    """
    for seed in range(1, REPEATS + 1):
        moved = replay(1000 * seed)
        if not _same_course(recording, moved):
            same = all(_same_course(recording, replay(None)) for _ in range(2))
            again = "with a last bit" if same else "from pass to pass"
            recording.notes.append(f"what the original does in another pass: its control flow changes {again}")
            for value in recording.values:
                value.movement = max(value.movement, 1e3 * np.finfo(np.float64).eps * scale(value.array))
            return
        for value, other in zip(recording.values, moved.values, strict=True):
            value.movement = max(value.movement, distance(value.array, other.array))
            if value.gradient is not None and other.gradient is not None:
                value.gradient_movement = max(value.gradient_movement, distance(value.gradient, other.gradient))
        for name, gradient in recording.gradients.items():
            if gradient is not None and moved.gradients.get(name) is not None:
                apart = distance(gradient, moved.gradients[name])
                recording.movements[name] = max(recording.movements.get(name, 0.0), apart)
    results, gradients = _unsteady(recording)
    if results or gradients:
        again = replay(None)
        same = all(np.array_equal(v.array, w.array) for v, w in zip(recording.values, again.values, strict=False))
        why = "a last bit moves it that far" if same else "each pass gives another: state, or random numbers of its own"
        recording.notes += [f"{what}: {why}" for what in gradients]
        recording.unsteady = dict.fromkeys(results, why)


def _same_course(recording: Recording, other: Recording) -> bool:
    names = [[operation.name for operation in r.operations] for r in (recording, other)]
    return names[0] == names[1] and len(recording.values) == len(other.values)


def _unsteady(recording: Recording) -> tuple[list[str], list[str]]:
    # the outputs and the gradients of parameters that move by more than LARGEST of their size, and are not zero
    results, gradients, most = [], [], max((scale(g) for g in recording.gradients.values()), default=0.0)
    for number in recording.outputs:
        value = recording.values[number]
        read = recording.operations[value.source].inputs if value.source >= 0 else []
        near = max((scale(recording.values[n].array) for n in read), default=0.0)
        if value.movement > max(LARGEST * scale(value.array), LARGEST**2 * near, SMALLEST):
            results.append(str(recording.operations[value.source]) if read else "the model")
    for name, moved in recording.movements.items():
        if moved > LARGEST * max(scale(recording.gradients[name]), LARGEST * most):
            gradients.append(f"the gradient of {name}")
    return results, gradients


def tolerance(array: np.ndarray, movement: float, least: float = 0.0) -> float:
    """How far a port's array may be from this one."""
    eps = float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" else 0.0
    return ALLOWED * (movement if np.isfinite(movement) else 0.0) + 16 * eps * scale(array) + least
