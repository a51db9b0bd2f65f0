"""Tables of points in chunks: what is passed over piece by piece never needs to be in memory as a whole.

A file that NumPy maps into memory (``numpy.load(path, mmap_mode="r")``) is read where it is touched, and what was
touched stays mapped and counts as memory of the process. So after each chunk its pages are given back; the system
keeps them in its own cache as long as it has room, and the next pass finds them there.
"""

import math
import mmap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from common.data.centring import Centred

NUMBERS_IN_A_CHUNK = 2**20  # 8 MB of float64 at most
NUMBERS_TO_START_FROM = 2**22
ROWS_TO_START_FROM = 2**18


def chunk_rows(n_features: int, n_components: int) -> int:
    """Rows of a small chunk in EM: a power of two, so that a table of all products of features fits."""
    return max(64, 2 ** int(np.log2(NUMBERS_IN_A_CHUNK / _numbers_in_a_row(n_features, n_components))))


def rows_of_chunks(n: int, n_features: int, n_components: int) -> int:
    """How many rows each chunk gets: up to four times `chunk_rows`, or less to have at least eight chunks.

    All chunks are equally large, a multiple of 32 rows. The count does not depend on the number of threads, so sums are
    always taken in the same order.
    """
    small = chunk_rows(n_features, n_components)
    rows = small * max(1, min(4, -(-n // small) // 8))
    equal = -(-n // -(-n // rows))
    return min(rows, -(-equal // 32) * 32)


def number_of_blocks(rows: int, n_features: int, n_components: int, numbers: int) -> int:
    """The number of equal blocks in a chunk, a power of two, so that a block's tables hold about ``numbers`` numbers.

    It is smaller if the rows cannot be divided that often; the chunks of `rows_of_chunks` can.
    """
    wanted = rows * _numbers_in_a_row(n_features, n_components) / numbers
    return math.gcd(rows, 2 ** max(0, math.ceil(math.log2(wanted))))


def share(n: int, rank: int, size: int) -> slice:
    """The slice of n rows that worker ``rank`` of ``size`` takes; it may be empty."""
    return slice(n * rank // size, n * (rank + 1) // size)


class Chunks(Sequence):
    """A table (N, D) and what goes with its rows, (N,) or (N, K), as pairs of tensors of chunks, all of one size.

    A chunk is made when it is asked for. The last is filled up with copies of its last row, and what goes with those is
    zero: a point of weight zero. Without ``beside`` every row has weight one.
    """

    def __init__(
        self, x: np.ndarray, beside: np.ndarray | None, rows: int, convert: Callable[[np.ndarray], Any], dtype: Any
    ) -> None:
        self.x, self.rows, self.convert, self.dtype = x, rows, convert, dtype
        self.beside, self.shape = beside, x.shape
        self.ones = self._tensor(np.ones(self.rows))  # the weights of a whole chunk without ``beside``

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
        if self.beside is None and lacking == 0:
            return points, self.ones
        beside = np.ones(self.rows - lacking) if self.beside is None else self.beside[rows]
        filled = np.concatenate([beside, np.zeros((lacking, *beside.shape[1:]), beside.dtype)])
        return points, self._tensor(filled)

    def _tensor(self, array: np.ndarray) -> Any:
        return self.convert(np.ascontiguousarray(array, dtype=self.dtype))


def pieces(x: np.ndarray, rows: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Slices of a table, each with its first row's number; the memory of a mapped file is given back after each."""
    rows = rows or max(1, NUMBERS_IN_A_CHUNK // max(1, math.prod(x.shape[1:])))
    for start in range(0, len(x), rows):
        yield start, x[start : start + rows]
        give_back(x)


def runs_of_rows(n: int, numbers: int) -> list[slice]:
    """Slices of n rows, each at most one chunk; a row takes ``numbers`` numbers. There is at least one slice."""
    rows = max(1, NUMBERS_IN_A_CHUNK // numbers)
    return [slice(start, start + rows) for start in range(0, max(1, n), rows)]


def give_back(x: np.ndarray) -> None:
    """Give back the memory of what has been read of a mapped file; nothing, for an array in memory."""
    mapped = _mapped_file(x.x if isinstance(x, Centred) else x)
    if mapped is not None and hasattr(mapped, "madvise"):  # not on Windows
        mapped.madvise(mmap.MADV_DONTNEED)


def constant_columns(x: np.ndarray) -> np.ndarray:
    """The numbers of the columns that hold nothing but their first entry; most tables need only a look at the top."""
    constant = np.arange(x.shape[1])
    for part in (x[:1000], x):
        for _, piece in pieces(part):
            if len(constant):
                constant = constant[np.all(piece[:, constant] == x[0, constant], axis=0)]
    return constant


def column_ranges(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest entry of every column, two arrays (D,) in double precision, of a table with rows."""
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
    """Some rows of a table, whose numbers rise."""
    taken = []
    for start, piece in pieces(x):
        first, last = np.searchsorted(rows, [start, start + len(piece)])
        taken.append(piece[rows[first:last] - start])
    return np.concatenate(taken)


def rows_to_start_from(n: int, n_features: int) -> int:
    """How many of n rows the starting values are chosen from; all, unless the table is large."""
    return min(n, ROWS_TO_START_FROM, max(1024, NUMBERS_TO_START_FROM // n_features))


def spread_rows(n: int, uniforms: np.ndarray) -> np.ndarray:
    """One row number from each of ``len(uniforms)`` equal parts of n rows, so that all are different."""
    return np.minimum(((np.arange(len(uniforms)) + uniforms) * (n / len(uniforms))).astype(np.int64), n - 1)


def _numbers_in_a_row(d: int, k: int) -> int:
    """How many numbers EM computes of a row: its features and, twice, its components."""
    return 1 + d + d * (d + 1) // 2 + 2 * k if d <= 64 else 3 * k * d


def _mapped_file(x: np.ndarray) -> mmap.mmap | None:
    """The map behind an array that shows a file and cannot change it; None for an array in memory."""
    if x.flags.writeable or not hasattr(mmap, "MADV_DONTNEED"):
        return None  # what has been changed in a private map would be lost
    base: Any = x
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and base.mode != "r":
            return None
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
