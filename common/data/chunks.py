"""Large tables, passed over piece by piece: chunks for EM, columns' ranges, some of the rows, and centring.

A table never needs to be in memory as a whole. A file that NumPy maps into memory (``numpy.load(path,
mmap_mode="r")``) is read where it is touched, and what was touched counts as memory of the process. So its
pages are given back after each piece; the system caches them while it has room.

A sum of squares or a product of numbers near 1e10 has no digits left for a spread of 1. So a mixture is
fitted to the data less a centre, and the centre is added back to the results. The subtraction is exact where
that matters. Columns near zero have the centre 0 and do not change by a bit.
"""

import functools
import math
import mmap
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

NUMBERS_IN_A_CHUNK = 2**20  # 8 MB of float64 at most
NUMBERS_COPIED_AHEAD = 2**28  # in the tables of a chunk that goes to a GPU while another is computed
NUMBERS_TO_START_FROM = 2**20
ROWS_TO_START_FROM = 2**16
FAR = 8  # ranges from zero to the middle of a column; nearer ones gain four binary digits at most
STEPS = 16  # a column that spans fewer steps of its dtype has lost its digits


def chunk_rows(*sizes: Any) -> int:
    """Rows of a small chunk in EM, for D, K and the type of covariance: a power of two; the tables of EM fit."""
    return max(64, 2 ** int(np.log2(NUMBERS_IN_A_CHUNK / _numbers_in_a_row(*sizes))))


def pays_in_chunks(n: int, *sizes: Any) -> bool:
    """Whether EM on sufficient statistics is the quicker for a table: from an eighth of a small chunk up."""
    return n > chunk_rows(*sizes) // 8


def rows_of_chunks(n: int, *sizes: Any, numbers: int | None = None) -> int:
    """How many rows each chunk gets: up to four times `chunk_rows`, or less to have at least eight chunks.

    All chunks are equally large, a multiple of 32 rows. The count does not depend on the number of threads,
    so sums are always taken in the same order. A GPU says how many ``numbers`` a chunk's tables may hold: all
    rows are one chunk if their tables do, and chunks are no larger than can be copied while others are computed.
    """
    if numbers is not None and n <= (rows := max(1, numbers // _numbers_in_a_row(*sizes))):
        return n
    if numbers is not None:
        return min(rows, NUMBERS_COPIED_AHEAD // _numbers_in_a_row(*sizes))
    small = chunk_rows(*sizes)
    rows = small * max(1, min(4, -(-n // small) // 8))
    equal = -(-n // -(-n // rows))
    return min(rows, -(-equal // 32) * 32)


def number_of_blocks(numbers: int, rows: int, *sizes: Any) -> int:
    """How many equal blocks, a power of two, make a chunk if a block's tables hold about ``numbers`` numbers.

    There are fewer if the rows cannot be divided that often; those of `rows_of_chunks` can.
    """
    wanted = rows * _numbers_in_a_row(*sizes) / numbers
    return math.gcd(rows, 2 ** max(0, math.ceil(math.log2(wanted))))


def rows_to_predict(n_features: int, n_components: int) -> int:
    """Of how many rows the densities are computed at a time: their differences to all means stay in cache."""
    return max(256, NUMBERS_IN_A_CHUNK // 4 // (n_features * n_components))


def share(n: int, rank: int, size: int) -> slice:
    """The slice of n rows that worker ``rank`` of ``size`` takes; it may be empty."""
    return slice(n * rank // size, n * (rank + 1) // size)


class Chunks(Sequence):
    """A table (N, D) and values of its rows, (N,) or (N, K), as pairs of tensors of chunks, all of one size.

    A chunk is made when it is asked for. The last is filled up with copies of its last row, whose values are
    zero: points of weight zero. Without ``values`` every row has weight one.
    """

    def __init__(
        self, x: np.ndarray, values: np.ndarray | None, rows: int, convert: Callable[[np.ndarray], Any], dtype: Any
    ) -> None:
        self.x, self.values, self.rows, self.convert, self.dtype = x, values, rows, convert, dtype
        self.shape, self.ones = x.shape, self._tensor(np.ones(rows))

    def __len__(self) -> int:
        """The number of chunks."""
        return -(-len(self.x) // self.rows)

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        """The chunk of this number, from 0; several threads may ask at once."""
        if not 0 <= number < len(self):
            raise IndexError(f"chunk {number} of {len(self)}")
        rows = slice(number * self.rows, (number + 1) * self.rows)
        points = self.x[rows]
        lacking = self.rows - len(points)
        if lacking > 0:
            points = np.concatenate([points, np.repeat(points[-1:], lacking, axis=0)])
        points = self._tensor(points)
        give_back(self.x)
        if self.values is None and lacking == 0:
            return points, self.ones
        values = np.ones(self.rows - lacking) if self.values is None else self.values[rows]
        return points, self._tensor(np.concatenate([values, np.zeros((lacking, *values.shape[1:]), values.dtype)]))

    def _tensor(self, array: np.ndarray) -> Any:
        return self.convert(np.ascontiguousarray(array, dtype=self.dtype))


def pieces(x: np.ndarray, rows: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Slices of a table and their first rows' numbers; a mapped file's memory is given back after each."""
    rows = rows or max(1, NUMBERS_IN_A_CHUNK // max(1, math.prod(x.shape[1:])))
    for start in range(0, len(x), rows):
        yield start, x[start : start + rows]
        give_back(x)


def by_threads(
    function: Callable[[Any], Any], items: Iterable[Any], threads: int, begin: Callable | None = None, *arguments: Any
) -> Iterator[Any]:
    """The function's values for all items, in the order of the items, a thread for each item.

    No more items are taken ahead than there are threads. Each thread calls ``begin(*arguments)`` first.
    """
    pool, pending = _pool(threads, begin, *arguments), deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        wait(pending)


@functools.lru_cache(maxsize=2)  # one for each framework
def _pool(threads: int, begin: Callable | None, *arguments: Any) -> ThreadPoolExecutor:
    """The threads that compute items; kept, since to start them takes as long as many an item."""
    return ThreadPoolExecutor(threads, initializer=begin, initargs=arguments)


def one_thread(libraries: str | None = None) -> AbstractContextManager:
    """A context in which an operation of NumPy, SciPy or scikit-learn takes one thread; only of "blas" or "openmp".

    Several wait for each other at every step: on a machine with other work, for longer than a small table takes.
    """
    return _libraries().limit(limits=1, user_api=libraries)


@functools.cache
def _libraries() -> ThreadpoolController:
    """The libraries that have threads; to find them takes as long as many a fit."""
    return ThreadpoolController()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has none of them


def runs_of_rows(n: int, numbers: int) -> list[slice]:
    """Slices of n rows of ``numbers`` numbers, each at most a chunk; at least one slice."""
    rows = max(1, NUMBERS_IN_A_CHUNK // numbers)
    return [slice(start, start + rows) for start in range(0, max(1, n), rows)]


def give_back(x: np.ndarray) -> None:
    """Give back the memory of a mapped file's pages; do nothing for an array in memory."""
    mapped = _mapped_file(x.x if isinstance(x, Centred) else x)
    if mapped is not None and hasattr(mapped, "madvise"):  # not on Windows
        mapped.madvise(mmap.MADV_DONTNEED)


def constant_columns(x: np.ndarray) -> np.ndarray:
    """The positions of the constant columns; in most tables the first 1,000 rows show that there are none."""
    constant = np.arange(x.shape[1])
    for part in (x[:1000], x):
        for _, piece in pieces(part):
            if len(constant):
                constant = constant[np.all(piece[:, constant] == x[0, constant], axis=0)]
    return constant


def column_ranges(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest entry of every column, two arrays (D,) in double precision."""
    d = x.shape[1]
    together = max(1, 256 // d)  # rows taken as one: NumPy is slow over short rows
    low, high = np.full(d, np.inf), np.full(d, -np.inf)
    for _, piece in pieces(x):
        whole = len(piece) - len(piece) % together
        for part in (np.reshape(piece[:whole], (-1, together * d)), piece[whole:]):
            if part.size:
                low = np.minimum(low, part.min(axis=0).reshape(-1, d).min(axis=0))
                high = np.maximum(high, part.max(axis=0).reshape(-1, d).max(axis=0))
    return low, high


def take_rows(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of a table; their numbers are in ascending order."""
    taken = []
    for start, piece in pieces(x):
        first, last = np.searchsorted(rows, [start, start + len(piece)])
        taken.append(piece[rows[first:last] - start])
    return np.concatenate(taken)


def rows_to_start_from(n: int, n_features: int) -> int:
    """How many of n rows the starting values are chosen from: all, unless the table is four times as large."""
    rows = min(ROWS_TO_START_FROM, max(1024, NUMBERS_TO_START_FROM // n_features))
    return n if n <= 4 * rows else rows


def spread_rows(n: int, uniforms: np.ndarray) -> np.ndarray:
    """Distinct row numbers, one from each of ``len(uniforms)`` parts of n rows, equal but for one row."""
    ends = np.arange(len(uniforms) + 1) * n // len(uniforms)
    return ends[:-1] + (uniforms * np.diff(ends)).astype(np.int64)


def find_centre(low: np.ndarray, high: np.ndarray) -> np.ndarray | None:
    """A centre (D,) for columns between ``low`` and ``high``, 0 for those near zero; None if all are.

    It depends only on the extremes, so it is the same on every machine and for any order of the rows. It has
    as few digits as possible, so that subtracting it from the data loses none.
    """
    low, high = (np.asarray(end, dtype=np.float64) for end in (low, high))
    with np.errstate(over="ignore"):
        middle, spread = 0.5 * low + 0.5 * high, high - low
    far = np.abs(middle) > FAR * spread
    if not far.any():
        return None
    _, exponent = np.frexp(spread)
    grid = np.where(far & (spread > 0), np.ldexp(1.0, exponent - 1), 1.0)  # 2^n <= spread
    return np.where(far, np.where(spread > 0, np.round(middle / grid) * grid, low), 0.0)


def narrow_columns(low: np.ndarray, high: np.ndarray, dtype: Any, reg_covar: float) -> np.ndarray:
    """The positions of columns so far from zero that they span only a few steps of the dtype.

    Constant columns, and those whose squared width is at most ``reg_covar``, are left out.
    """
    width, step = high - low, np.finfo(dtype).eps * 0.5 * np.abs(low + high)
    return np.flatnonzero((width > 0) & (width < STEPS * step) & (width**2 > reg_covar))


class Centred:
    """A table (N, D), often a file, whose centre is subtracted when it is converted to an array."""

    def __init__(self, x: Any, centre: np.ndarray, dtype: Any) -> None:
        self.x, self.centre, self.dtype, self.shape = x, centre, np.dtype(dtype), x.shape

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.x)

    def __getitem__(self, rows: Any) -> "Centred":
        """Some of the rows, not read yet."""
        return Centred(self.x[rows], self.centre, self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The rows less the centre, computed in double precision and rounded once."""
        return (self.x - self.centre).astype(dtype or self.dtype, copy=False)


def centred(x: np.ndarray, centre: np.ndarray | None, dtype: Any = None) -> np.ndarray:
    """The table (N, D) less its centre, if it has one, as an array of ``dtype`` (default: that of x)."""
    dtype = x.dtype if dtype is None else dtype
    return x.astype(dtype, copy=False) if centre is None else np.asarray(Centred(x, centre, dtype))


def from_zero(points: np.ndarray, centre: np.ndarray | None, dtype: Any = None) -> np.ndarray:
    """Centred points (..., D) with the centre added back, in ``dtype`` (default: that of the points)."""
    return points if centre is None else (points + centre).astype(dtype or points.dtype)


def _numbers_in_a_row(d: int, k: int, covariance_type: str = "full") -> int:
    """How many numbers EM computes from a row: its products of features and, twice, its components.

    For full covariances of many features there are no such products, but differences to every component.
    """
    if covariance_type in ("diag", "spherical"):
        return 1 + 2 * d + 2 * k
    return 1 + d + d * (d + 1) // 2 + 2 * k if d <= 64 else k * d


def _mapped_file(x: np.ndarray) -> mmap.mmap | None:
    """The memory map behind a read-only array of a file; None for any other array."""
    if x.flags.writeable or not hasattr(mmap, "MADV_DONTNEED"):
        return None  # changes in a private map would be lost
    base: Any = x
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and base.mode != "r":
            return None
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
