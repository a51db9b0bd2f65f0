"""Tables whose columns lie far from zero, seen from a centre of their own.

A sum of squares or a product of numbers near 1e10 has no digits left for a spread of 1. So a mixture is fitted to the
data less a centre, which is exact where it matters, and the centre is added back to what is reported. Columns near zero
have the centre 0: nothing changes there, to the last bit.
"""

from typing import Any

import numpy as np

FAR = 8  # ranges from zero to the middle of a column; nearer ones gain four binary digits at most
STEPS = 16  # of the dtype between the least and the largest entry of a column; with fewer, its digits are lost


def find_centre(low: np.ndarray, high: np.ndarray) -> np.ndarray | None:
    """A centre (D,) for columns between ``low`` and ``high``, 0 for those that are not far from zero; None if none is.

    It follows from the extremes alone, so it is the same on every machine, in any order of the rows. It has as few
    digits as will do, so that taking it away from data loses none.
    """
    low, high = (np.asarray(end, dtype=np.float64) for end in (low, high))
    with np.errstate(over="ignore"):
        middle, spread = 0.5 * low + 0.5 * high, high - low
    far = np.abs(middle) > FAR * spread
    if not far.any():
        return None
    _, exponent = np.frexp(spread)
    grid = np.where(far & (spread > 0), np.ldexp(1.0, exponent - 1), 1.0)  # the power of two at or below the spread
    return np.where(far, np.where(spread > 0, np.round(middle / grid) * grid, low), 0.0)


def narrow_columns(low: np.ndarray, high: np.ndarray, dtype: Any, reg_covar: float) -> np.ndarray:
    """The numbers of the columns, far from zero, that are no more than a few steps of the dtype wide, yet not constant.

    Columns whose squared width is at most ``reg_covar`` are left out.
    """
    width, step = high - low, np.finfo(dtype).eps * 0.5 * np.abs(low + high)
    return np.flatnonzero((width > 0) & (width < STEPS * step) & (width**2 > reg_covar))


def how_to_regain(dtype: Any) -> str:
    """The remedy, for an error message, where digits are lost to the distance from zero."""
    return "subtract the mean" + (", or use float64" if np.finfo(dtype).bits < 64 else "")


class Centred:
    """A table (N, D), often a file, whose centre is subtracted when rows are read; converts to an array on demand."""

    def __init__(self, x: Any, centre: np.ndarray, dtype: Any) -> None:
        self.x, self.centre, self.dtype, self.shape = x, centre, np.dtype(dtype), x.shape

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.x)

    def __getitem__(self, rows: Any) -> "Centred":
        """Some of the rows, not read yet."""
        return Centred(self.x[rows], self.centre, self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The rows less the centre: the difference is taken in double precision and rounded once."""
        return (self.x - self.centre).astype(dtype or self.dtype, copy=False)


def centred(x: np.ndarray, centre: np.ndarray | None, dtype: Any = None) -> np.ndarray:
    """The table (N, D) less its centre, if it has one, as an array of ``dtype``, that of x unless another is given."""
    dtype = x.dtype if dtype is None else dtype
    return x.astype(dtype, copy=False) if centre is None else np.asarray(Centred(x, centre, dtype))


def from_zero(points: np.ndarray, centre: np.ndarray | None, dtype: Any = None) -> np.ndarray:
    """Points (..., D) that are seen from a centre as seen from zero, in ``dtype``, theirs unless another is given."""
    return points if centre is None else (points + centre).astype(dtype or points.dtype)
