"""Whether a component has collapsed: its covariance is singular, but for rounding; else its precision.

The verdict depends on the component's points alone, not on their number nor on who adds them up. A framework
adds up N products in an order of its own, and the sum of N equal numbers, or of points on a line, is off by
more the larger N is. So covariances that may be rounding alone are summed again here: in double precision,
about the component's own mean, and, if the points are in double precision too, in pairs (NumPy's sum over
contiguous numbers), which leaves a few roundings, whatever N is.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from common.data.arrays import as_array
from common.data.chunks import chunk_rows, pieces
from common.data.messages import InputError
from common.mixtures.parameters import SINGULAR, are_singular, feature_variances, least_variance

ILL_DEFINED = (
    "Fitting the mixture model failed because some components have ill-defined empirical covariance (for instance "
    "caused by singleton or collapsed samples). Try to decrease the number of components, increase {reg_covar}, or "
    "scale the input data. For data far from zero, first subtract the mean or use float64."
)


def precisions_cholesky(covariances: np.ndarray, covariance_type: str, reg_covar: float) -> np.ndarray:
    """U with U U' = Sigma^-1, upper triangular (full, tied), or 1/sigma; ValueError if a covariance is singular."""
    if covariance_type in ("diag", "spherical"):
        if not np.all(covariances > 0):
            check_collapse(covariances, covariance_type, reg_covar)
        return 1 / np.sqrt(covariances)
    from scipy.linalg import get_lapack_funcs

    try:
        factor = np.linalg.cholesky(covariances)
    except np.linalg.LinAlgError:
        check_collapse(covariances, covariance_type, reg_covar)
        raise
    (inverse,) = get_lapack_funcs(("trtri",), (factor,))
    if covariance_type == "tied":
        return inverse(factor, lower=1)[0].T
    return np.stack([inverse(f, lower=1)[0].T for f in factor])


def precisions(cholesky: np.ndarray, covariance_type: str) -> np.ndarray:
    """Sigma^-1 from its factor U: U U', or the square."""
    return np.square(cholesky) if covariance_type in ("diag", "spherical") else cholesky @ np.swapaxes(cholesky, -1, -2)


def least_variances(sizes: np.ndarray, dtype: Any, reg_covar: float) -> np.ndarray | None:
    """Variances, (D,), of columns of these sizes, below which points differ by rounding alone, or lose digits to
    underflow; None if ``reg_covar`` keeps every covariance of such points well away from singular."""
    eps, size = float(np.finfo(dtype).eps), float(np.max(sizes))
    least = np.maximum(np.square(16 * eps * sizes), least_variance(dtype))
    return None if reg_covar > max(10 * SINGULAR * len(sizes) * eps * size**2, 10 * least.max()) else least


def check_fit(data: Any, algorithm: Any, parameters: Any, bound: float = 0.0, last: bool = False) -> None:
    """ValueError if a component has collapsed, or if a number has left the range of its dtype.

    ``data`` and ``parameters`` are a `FitData` and a `MixtureParameters` or `VariationalPosterior`; the
    ``last`` ones of a fit are looked at closely. A prior keeps MAP from collapsing, so only what is not
    finite is looked at there.
    """
    least, kind = data.least_variances, data.covariance_type
    unwatched = not last and (least is None or not algorithm.watched)  # a look waits for the device
    if np.isfinite(bound) and (data.method == "map" or unwatched):
        return
    means, covariances = (np.asarray(as_array(value)) for value in (parameters.means, parameters.covariances))
    if least is not None:
        least = _least_of_components(least, means, covariances, kind)
        if np.all(np.isfinite(covariances)) and data.method == "em":
            covariances = _second_look(data, algorithm, parameters, least, last)
    check_collapse(covariances, kind, data.reg_covar, 0.0 if least is None else least)
    if not (np.all(np.isfinite(covariances)) and np.isfinite(bound)):
        raise InputError("X", f"leads the fit out of the range of {covariances.dtype}: scale the data")


def check_collapse(
    covariances: np.ndarray, covariance_type: str, reg_covar: float, least: np.ndarray | float = 0.0
) -> None:
    """ValueError naming the first component whose covariance is singular but for rounding.

    ``least`` are the variances, (K, D), (D,) or one for all, that may be rounding alone. A matrix is judged
    by the smallest eigenvalue of its correlations, and by a limit well above rounding, so that both
    frameworks' are judged alike: a Cholesky factor of it exists or not by the last bit.
    """
    collapsed = _are_flat(covariances, covariance_type, least)
    if collapsed.any():
        k = int(np.argmax(collapsed))
        what = f"component {k} has collapsed: its covariance is singular up to rounding"
        what += " in float32; try float64" if covariances.dtype == np.float32 else ""
        raise InputError("reg_covar", f"is too small; {what}. {ILL_DEFINED}", reg_covar)


def _are_flat(covariances: np.ndarray, covariance_type: str, least: np.ndarray | float, n: int = 1) -> np.ndarray:
    """Which components, (K,) or (1,), have a singular covariance, but for the rounding of sums over n points."""
    least = np.max(np.atleast_1d(least), axis=-1, keepdims=True) if covariance_type == "spherical" else least
    # the mean of N equal numbers is off by up to N / 16 epsilons
    flat = np.any(feature_variances(covariances, covariance_type) <= least * max(1, n / 64) ** 2, axis=1)
    if covariance_type in ("full", "tied"):
        d = covariances.shape[-1]
        matrices = covariances.reshape(-1, d, d)
        if np.all(np.isfinite(matrices)):
            flat |= are_singular(np.where(flat[:, None, None], np.eye(d, dtype=matrices.dtype), matrices), n / 64)
    return flat


def _least_of_components(
    least: np.ndarray, means: np.ndarray, covariances: np.ndarray, covariance_type: str
) -> np.ndarray:
    """The least variances (K, D) of components whose points are no larger than these, (D,) if one covariance is tied.

    What rounds are the points that a component answers for: those of others, however large, take no digits
    from it.
    """
    if covariance_type == "tied":
        return least
    eps = float(np.finfo(means.dtype).eps)
    with np.errstate(invalid="ignore"):
        deviations = np.sqrt(np.maximum(feature_variances(covariances, covariance_type), 0))
    of_component = np.square(16 * eps * (np.abs(means) + 8 * deviations).astype(np.float64))
    return np.minimum(least, np.maximum(of_component, least_variance(means.dtype)))


def _second_look(data: Any, algorithm: Any, parameters: Any, least: np.ndarray, last: bool) -> np.ndarray:
    """The covariances, those that may be rounding alone summed again: while EM runs, to confirm that one has
    collapsed; at the end, to see what the rounding of large sums may hide."""
    kind, x = data.covariance_type, data.x
    means, covariances = (np.asarray(as_array(value)) for value in (parameters.means, parameters.covariances))
    chosen = _are_flat(covariances, kind, least, _added_in_turn(data) if last else 1)
    if not chosen.any():
        return covariances
    if data.observed is not None:
        gamma = algorithm.responsibilities(parameters, x, data.observed)
        return _narrowed(data, gamma, means, covariances, chosen)
    again = summed_again(_with_responsibilities(data, algorithm, parameters), means, kind, chosen)
    if not np.all(np.isfinite(again)):  # a matrix without a factor has no responsibilities
        return covariances
    again = again + data.reg_covar * (np.eye(x.shape[1]) if kind in ("full", "tied") else 1.0)
    pick = chosen.reshape((-1,) + (1,) * (covariances.ndim - 1)) if kind != "tied" else chosen[0]
    return np.where(pick, again.astype(covariances.dtype), covariances)


def _added_in_turn(data: Any) -> int:
    """How many numbers are added one after another at most: all rows, or a small chunk's and then chunks' sums."""
    n, d = data.x.shape
    rows = chunk_rows(d, data.n_components, data.covariance_type) if data.in_chunks else n
    return min(n, rows + n // rows)


def _with_responsibilities(data: Any, algorithm: Any, parameters: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The points (C, D) and their weighted responsibilities (C, K), piece by piece."""
    for start, piece in pieces(data.x, chunk_rows(data.x.shape[1], data.n_components, data.covariance_type)):
        points = np.asarray(piece, data.dtype)
        gamma = algorithm.responsibilities(parameters, points)
        yield points, gamma if data.weight is None else gamma * data.weight[start : start + len(points), None]


def _narrowed(
    data: Any, gamma: np.ndarray, means: np.ndarray, covariances: np.ndarray, chosen: np.ndarray
) -> np.ndarray:
    """With gaps: the chosen covariances, their variances no larger than those of the entries observed."""
    gamma = gamma if data.weight is None else gamma * data.weight[:, None]
    columns = [(data.x[rows, i : i + 1], gamma[rows], means[:, i : i + 1]) for i, rows in enumerate(data.observed.T)]
    variances = np.column_stack([summed_again([(c, g)], mean, "diag", chosen) for c, g, mean in columns])
    old = feature_variances(covariances, "full")
    ratio = (variances + data.reg_covar) / np.maximum(old, np.finfo(old.dtype).tiny)
    ratio = np.where(chosen[:, None] & np.isfinite(ratio), np.clip(ratio, 0, 1), 1)
    scale = np.sqrt(ratio).astype(old.dtype)
    return covariances * scale[:, :, None] * scale[:, None, :]


def summed_again(
    parts: Iterable[tuple[np.ndarray, np.ndarray]], means: np.ndarray, covariance_type: str, chosen: np.ndarray
) -> np.ndarray:
    """The covariances of the chosen components, from points (C, D) and responsibilities (C, K), piece by piece.

    Of the others they are the identity. The mean is that of the points: what ``means`` (K, D) are off is
    subtracted.
    """
    (k, d), means = means.shape, means.astype(np.float64)
    chosen = np.flatnonzero(np.broadcast_to(chosen, k))
    counts, sums, scatter = np.zeros(k), np.zeros((k, d)), np.zeros((k, d, d))
    for x, gamma in parts:
        points, shares = np.ascontiguousarray(x.T, np.float64), np.ascontiguousarray(gamma.T, np.float64)
        for j in chosen:
            difference = points - means[j][:, None]  # (D, C)
            weighted = shares[j] * difference
            counts[j] += shares[j].sum()
            sums[j] += weighted.sum(axis=-1)
            if x.dtype != np.float64:  # a product in double precision rounds far below the last bit of these
                scatter[j] += np.tril(weighted @ difference.T)
                continue
            for i in range(d):
                scatter[j, i, : i + 1] += (weighted[i] * difference[: i + 1]).sum(axis=-1)
    scatter += np.swapaxes(np.tril(scatter, -1), -1, -2)
    counts = np.maximum(counts, np.finfo(np.float64).tiny)
    sums /= np.sqrt(counts)[:, None]
    scatter -= sums[:, :, None] * sums[:, None, :]
    if covariance_type == "tied":
        return scatter.sum(axis=0) / counts[chosen].sum()
    covariances = np.broadcast_to(np.eye(d), (k, d, d)).copy()
    covariances[chosen] = scatter[chosen] / counts[chosen, None, None]
    if covariance_type == "full":
        return covariances
    variances = np.diagonal(covariances, axis1=-2, axis2=-1)
    return variances if covariance_type == "diag" else variances.mean(axis=1)
