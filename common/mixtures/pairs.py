"""Which products of two features stand where in a row of all of them, each once: those of a symmetric matrix.

They stand as if the features sat in a circle: first every feature with itself, then with its neighbour, then with the
one after that, halfway round. So the products at one distance are those of two runs of features, which are quick to
make.
"""

import numpy as np


def pairs(d: int) -> tuple[np.ndarray, np.ndarray]:
    """The features i and j of the products of d features, D (D + 1) / 2 each: j is i, then i + 1, ..., modulo d."""
    number = d * (d + 1) // 2  # halfway round an even circle, each pair would come twice
    distance, i = np.divmod(np.arange(number), d)
    return i, (i + distance) % d


def places(d: int) -> np.ndarray:
    """Where the product of features i and j stands, (D, D)."""
    i, j = pairs(d)
    places = np.empty((d, d), dtype=np.int64)
    places[i, j] = places[j, i] = np.arange(len(i))
    return places
