"""The checks that the coin models make before they compute: one clear line for each way their input can be wrong."""

import math
from typing import Any

import numpy as np

from common.data.arrays import as_array

LARGEST = 1e150  # of a Beta density's parameters; ratios of two are numbers
LEAST = float(np.finfo(np.float64).tiny)  # of probabilities above 0; TensorFlow takes what is smaller for 0
MOST = {"float64": 2**53, "float32": 2**24}  # of counts; beyond, not every whole number is there


def check_positive(name: str, value: Any) -> float:
    """A positive, finite number as a float."""
    number = _number(name, value)
    if not 0 < number < math.inf:
        raise ValueError(f"{name}={value!r} is no parameter of a Beta density: give a positive, finite number")
    if not 1 / LARGEST <= number <= LARGEST:
        raise ValueError(f"{name}={value!r} is too extreme: give a number from {1 / LARGEST:g} to {LARGEST:g}")
    return number


def check_probability(name: str, value: Any) -> float:
    """A number in [0, 1] as a float."""
    number = _number(name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"{name}={value!r} is no probability: give a number in [0, 1]")
    if 0 < number < LEAST:
        raise ValueError(f"{name}={value!r} is too small to be told from 0: give 0, or {LEAST:.2g} or more")
    return number


def check_level(level: Any) -> float:
    """The level of a credible interval, strictly between 0 and 1."""
    number = _number("level", level)
    if not 0 < number < 1:
        raise ValueError(f"level={level!r} must lie strictly between 0 and 1: give 0.95 for 95 %")
    return number


def check_tosses(tosses: Any) -> np.ndarray:
    """Tosses as float64 zeros and ones, (N,); N may be 0."""
    array = _array("tosses", tosses)
    if array.ndim != 1:
        raise ValueError(f"tosses has shape {array.shape}, not (N,): give one sequence of zeros and ones")
    if len(bad := np.flatnonzero((array != 0) & (array != 1))):
        raise ValueError(f"tosses has the entry {array[bad[0]]:g} at position {bad[0]}: give 1 for heads, 0 for tails")
    return array.astype(np.float64)


def check_count(name: str, value: Any, least: int = 0) -> int:
    """A whole number of at least ``least`` as an int."""
    number = _number(name, value)
    if not (math.isfinite(number) and number == math.floor(number) and number >= least):
        raise ValueError(f"{name}={value!r} must be a whole number of at least {least}")
    if number > MOST["float64"]:
        raise ValueError(f"{name}={value!r} is more than {MOST['float64']}, up to which double precision counts")
    return int(number)


def check_sequences(heads: Any, tosses: Any, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Heads (N,) out of tosses, (N,) or one number for all, as arrays of one float dtype; N at least n_components."""
    heads, tosses = _array("heads", heads), _array("tosses", tosses)
    dtype = np.float32 if heads.dtype == np.float32 else np.float64
    if heads.ndim != 1:
        raise ValueError(f"heads has shape {heads.shape}, not (N,): give one number of heads for each sequence")
    if tosses.shape not in ((), heads.shape):
        raise ValueError(
            f"tosses has shape {tosses.shape} where heads has {heads.shape}: give one number for each sequence, or one "
            "for all"
        )
    tosses = np.broadcast_to(tosses, heads.shape)
    for name, array, least in (("heads", heads, 0), ("tosses", tosses, 1)):
        wrong = ~(np.isfinite(array) & (array >= least) & (array == np.floor(array)))
        if len(bad := np.flatnonzero(wrong)):
            raise ValueError(f"{name} has the entry {array[bad[0]]:g} at position {bad[0]}: give whole numbers of at "
                             f"least {least}")  # fmt: skip
        if len(bad := np.flatnonzero(array > (most := MOST[np.dtype(dtype).name]))):
            raise ValueError(f"{name} has the entry {array[bad[0]]:g} at position {bad[0]}: give at most {most}, up to "
                             f"which {np.dtype(dtype).name} counts")  # fmt: skip
    if len(bad := np.flatnonzero(heads > tosses)):
        n = bad[0]
        raise ValueError(f"heads has {heads[n]:g} at position {n}, more than the {tosses[n]:g} tosses: correct either")
    if len(heads) < n_components:
        raise ValueError(
            f"heads has {len(heads)} sequences, fewer than n_components={n_components}: give more sequences or ask for "
            "fewer coins"
        )
    return heads.astype(dtype), tosses.astype(dtype)


def check_probabilities(name: str, values: Any, n_components: int, sum_to_one: bool = False) -> np.ndarray:
    """Probabilities (K,) in [0, 1] as float64, which sum to one where asked to."""
    array = _array(name, values).astype(np.float64)
    if array.shape != (n_components,):
        raise ValueError(f"{name} has shape {array.shape}: give n_components={n_components} numbers")
    if len(bad := np.flatnonzero(~((array >= 0) & (array <= 1)))):
        raise ValueError(f"{name} has the entry {array[bad[0]]:g} at position {bad[0]}: give numbers in [0, 1]")
    if len(bad := np.flatnonzero((array > 0) & (array < LEAST))):
        raise ValueError(
            f"{name} has the entry {array[bad[0]]:g} at position {bad[0]}, too small to be told from 0: give 0, or "
            f"{LEAST:.2g} or more"
        )
    if sum_to_one and abs(array.sum() - 1) > 1e-6:
        raise ValueError(f"{name} sums to {array.sum():g}: divide it by its sum so that it sums to 1")
    return array / array.sum() if sum_to_one else array


def _number(name: str, value: Any) -> float:
    array = np.asarray(as_array(value, name))
    if array.shape != () or array.dtype.kind not in "fiub":
        raise ValueError(f"{name}={value!r} is not a number: give one number")
    return float(array)


def _array(name: str, values: Any) -> np.ndarray:
    values = as_array(values, name)
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} is a list of lists of different lengths: give one sequence of numbers") from None
    if array.size == 0:
        return array.astype(np.float64)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} holds {array.dtype.name} values: give numbers")
    return array if array.dtype.kind == "f" else array.astype(np.float64)
