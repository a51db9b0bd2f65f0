"""All randomness of the project, drawn in NumPy and handed to the maths as arguments.

Equal seeds never give equal numbers in PyTorch and in TensorFlow, so neither framework draws anything here.
A number is a pure function of (seed, purpose, step, row): the counter-based generator Philox starts at that
place instead of advancing to it. So a worker with rows 64 to 127 of a minibatch draws the numbers that a single
process would have drawn for them, and a resumed run needs no generator state.

Source: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import functools
import math
from collections.abc import Mapping

import numpy as np
from scipy.special import ndtri

# The purposes' positions key the generator: append only, or every published run changes.
PURPOSES = ("split", "initial values", "order", "noise", "start", "component", "sample", "prior", "held-out",
            "validation", "dequantisation")  # fmt: skip
_WORDS_PER_COUNTER = 4


def uniforms(seed: int, purpose: str, shape: tuple[int, ...], step: int = 0, first_row: int = 0) -> np.ndarray:
    """Uniform numbers in the open interval (0, 1), float64, of ``shape``; row r is global row first_row + r."""
    rows, width = shape[0], math.prod(shape[1:])
    counters_per_row = -(-width // _WORDS_PER_COUNTER)
    words_per_row = counters_per_row * _WORDS_PER_COUNTER
    philox = np.random.Philox(
        key=np.array([seed, PURPOSES.index(purpose)], dtype=np.uint64),
        counter=np.array([first_row * counters_per_row, 0, step, 0], dtype=np.uint64),
    )
    words = philox.random_raw(rows * words_per_row).reshape(rows, words_per_row)[:, :width]
    return (((words >> 12) + 0.5) * 2.0**-52).reshape(shape)


def normals(seed: int, purpose: str, shape: tuple[int, ...], step: int = 0, first_row: int = 0) -> np.ndarray:
    """Standard normal numbers by inversion, x = Φ^-1(u), rounded to float32 to be equal in every precision."""
    return ndtri(uniforms(seed, purpose, shape, step, first_row)).astype(np.float32).astype(np.float64)


@functools.lru_cache(maxsize=2)
def permutation(seed: int, purpose: str, n: int, step: int = 0) -> np.ndarray:
    """A random order of 0..n-1 (read-only): the ranks of n uniform numbers."""
    order = np.argsort(uniforms(seed, purpose, (n,), step), kind="stable")
    order.flags.writeable = False
    return order


def minibatch(seed: int, step: int, n: int, batch_size: int) -> np.ndarray:
    """The rows of update ``step`` (counted from 0); each epoch visits all n rows once, in its own order."""
    epoch, batch = divmod(step, batches_per_epoch(n, batch_size))
    return permutation(seed, "order", n, epoch)[batch * batch_size : (batch + 1) * batch_size]


def batches_per_epoch(n: int, batch_size: int) -> int:
    """Updates in one pass over n rows; the last minibatch may be smaller."""
    return -(-n // batch_size)


def like(rows: np.ndarray, seed: int, n: int) -> np.ndarray:
    """n draws (n, L) from the Gaussian with the mean and the covariance of ``rows`` (N, L).

    x = m + 1/sqrt(N) sum_n e_n (row_n - m) with standard normal e has that covariance, singular or not.
    """
    mean = rows.mean(axis=0)
    return mean + normals(seed, "prior", (n, len(rows))) @ (rows - mean) / math.sqrt(len(rows))


def initial_values(seed: int, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Initial network parameters by canonical name: Glorot-uniform weights, everything else zero.

    weight ~ U(-a, a) with a = sqrt(6 / (fan_in + fan_out)), rounded to float32 so that float32 and float64 runs
    start from equal numbers. Shapes are PyTorch's: (out, in) and (out, in, height, width).

    Source: X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    AISTATS 2010, eq. 16.
    """
    values = {}
    for index, (name, shape) in enumerate(shapes.items()):
        if not name.endswith(".weight"):
            values[name] = np.zeros(shape)
            continue
        fan_out, fan_in = (extent * math.prod(shape[2:]) for extent in shape[:2])
        bound = math.sqrt(6.0 / (fan_in + fan_out))
        draws = (2.0 * uniforms(seed, "initial values", shape, step=index) - 1.0) * bound
        values[name] = draws.astype(np.float32).astype(np.float64)
    return values
