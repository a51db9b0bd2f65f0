"""The checks before EM runs on data with gaps, and its starting point: no tensors needed."""

import numpy as np

from common.data.arrays import as_array
from common.mixtures.start import initial_responsibilities


def check_missing(x: np.ndarray, name: str = "X", to_fit: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """A table (N, D) with NaN for missing entries, as (x with zeros there, a boolean table of what was observed).

    Raises ValueError, in one line, for infinity, and for a row or a column of which nothing was observed, if a model is
    to be fitted to the table; to a fitted one, such a row is a point of which nothing is known.
    """
    x = as_array(x, name)
    if len(infinite := np.argwhere(np.isinf(x))):
        row, column = infinite[0]
        raise ValueError(
            f"{name} contains infinity (inf) at row {row}, column {column} ({len(infinite)} such entries): "
            "give finite numbers, or NaN for a missing entry"
        )
    observed = ~np.isnan(x)
    for axis, what in ((1, "row"), (0, "column")) if to_fit else ():
        if len(empty := np.flatnonzero(~observed.any(axis=axis))):
            raise ValueError(f"{name} has nothing but NaN in {what} {empty[0]} ({len(empty)} such): remove it")
    return np.where(observed, x, x.dtype.type(0)), observed


def mean_imputed(x: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """The table (N, D) with every missing entry at the mean of its column's observed ones: for starting values only."""
    mean = x.mean(axis=0, where=observed)
    # rounding must not make a constant column look otherwise
    low = x.min(axis=0, where=observed, initial=np.inf)
    high = x.max(axis=0, where=observed, initial=-np.inf)
    return np.where(observed, x, np.clip(mean, low, high))


def starting_values(
    x: np.ndarray,
    observed: np.ndarray,
    n_components: int,
    init_params: str,
    random_state: np.random.RandomState,
    sample_weight: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean-imputed data (N, D) and responsibilities (N, K), for an M step of the mixture without gaps to start from.

    The responsibilities are chosen as ``common.mixtures.start.initial_responsibilities`` does, on the imputed data.
    """
    filled = mean_imputed(x, observed)
    return filled, initial_responsibilities(filled, n_components, init_params, random_state, sample_weight)
