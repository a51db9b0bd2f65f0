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
    return float(np.max(np.abs(np.where(np.isfinite(a), a, 0))))


def measure(recording: Recording, replay: Callable[[int], Recording]) -> None:
    """Fill in the movements of every value and gradient; ``replay(seed)`` records with every last bit moved."""
    for seed in range(1, REPEATS + 1):
        moved = replay(1000 * seed)
        if [o.name for o in moved.operations] != [o.name for o in recording.operations]:
            recording.notes.append("the original's control flow changes with a last bit: its floor is a guess")
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


def tolerance(array: np.ndarray, movement: float, least: float = 0.0) -> float:
    """How far a port's array may be from this one."""
    eps = float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" else 0.0
    return ALLOWED * (movement if np.isfinite(movement) else 0.0) + 16 * eps * scale(array) + least
