"""The checks that a mixture estimator makes before it computes: one clear line for each way its input can be wrong."""

import numbers
import warnings
from typing import Any

import numpy as np

from common.data.arrays import as_array
from common.data.centring import find_centre, how_to_regain, narrow_columns
from common.data.passes import column_ranges, constant_columns, pieces
from common.mixtures.missing import check_missing
from common.mixtures.start import INIT_PARAMS

SINGULAR = 10  # a matrix is singular if its smallest eigenvalue is below this many D epsilons, well above rounding
COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")
ILL_DEFINED = (
    "Fitting the mixture model failed because some components have ill-defined empirical covariance (for instance "
    "caused by singleton or collapsed samples). Try to decrease the number of components, increase reg_covar, or "
    "scale the input data. For data far from zero, first subtract the mean or use float64."
)


def check_parameters(estimator: Any) -> None:
    """ValueError naming the first constructor argument that is out of its range."""
    for name, least in (("n_components", 1), ("n_init", 1), ("max_iter", 0), ("verbose", 0), ("verbose_interval", 1)):
        value = getattr(estimator, name)
        if not isinstance(value, numbers.Integral) or (name != "verbose" and isinstance(value, bool)) or value < least:
            raise ValueError(f"{name}={value!r} must be an integer of at least {least}")
    for name in ("tol", "reg_covar"):
        value = getattr(estimator, name)
        if not isinstance(value, numbers.Real) or not 0 <= value < np.inf:
            raise ValueError(f"{name}={value!r} must be a number of at least 0")
    choices_of = {"covariance_type": COVARIANCE_TYPES, "init_params": INIT_PARAMS, "missing": ("error", "em")}
    for name, choices in choices_of.items():
        if not isinstance(value := getattr(estimator, name), str) or value not in choices:
            raise ValueError(f"{name}={value!r} must be one of {', '.join(choices)}")
    if estimator.missing == "em" and estimator.covariance_type != "full":
        raise ValueError(
            f"missing='em' is for covariance_type='full', not {estimator.covariance_type!r}: choose either"
        )


def check_points(estimator: Any, X: Any, reset: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """X as a finite float64 or float32 table (N, D), and what was observed of it: None for all.

    Raises ValueError, in one line, if X is no such table; NaN is admitted only by ``missing="em"``.
    """
    from sklearn.utils.validation import validate_data  # imported here because the scripts do not need it

    X = as_array(X, "X")
    shape = X.shape if hasattr(X, "shape") else np.asarray(X).shape
    if len(shape) != 2:
        raise ValueError(
            f"X has shape {tuple(shape)}, not (N, D). Reshape your data: X.reshape(-1, 1) makes one column"
        )
    if getattr(getattr(X, "dtype", None), "kind", "f") == "c":
        raise ValueError(f"X has dtype {X.dtype}. Complex data not supported: give real numbers")
    x = validate_data(estimator, X, reset=reset, dtype=[np.float64, np.float32], order="C", ensure_all_finite=False)
    if estimator.missing == "em" and np.isnan(x).any():
        return check_missing(x, "X", to_fit=reset)
    full = "" if estimator.covariance_type == "full" else " and covariance_type='full'"
    by_em = f"set missing='em'{full}" if "missing" in estimator.get_params() else "fit GaussianMixture(missing='em')"
    check_finite("X", x, by_em)
    return x, None


def check_finite(name: str, x: np.ndarray, or_else: str = "") -> None:
    """ValueError naming the first entry of a table that is NaN or infinite; ``or_else`` is a remedy for NaN alone."""
    first, count = None, 0
    for start, piece in pieces(x):
        with np.errstate(over="ignore"):
            suspicious = not np.isfinite(piece.sum())
        if suspicious and len(bad := np.argwhere(~np.isfinite(piece))):
            row, column = bad[0]
            what = "NaN" if np.isnan(piece[row, column]) else "infinity (inf)"
            first, count = first or (what, start + row, column), count + len(bad)
    if first:
        what, row, column = first
        remedy = "remove those rows or fill them in"
        if or_else and what == "NaN":
            remedy = f"remove those rows, fill them in, or {or_else}"
        raise ValueError(f"{name} contains {what} at row {row}, column {column} ({count} such entries): {remedy}")


def check_enough(x: np.ndarray, n_components: int) -> None:
    """ValueError if there are fewer points than components, or than the two that a spread needs."""
    if len(x) < max(2, n_components):
        raise ValueError(
            f"X has {len(x)} sample(s) (n_samples={len(x)}), fewer than n_components={n_components} or than 2: "
            "give more points or ask for fewer components"
        )


def check_distinct(name: str, x: np.ndarray, n_components: int) -> None:
    """A warning, if there are more components than distinct points."""
    distinct = x[:0]
    for _, piece in pieces(x, max(1000, 4 * n_components)):
        distinct = np.unique(np.concatenate([distinct, piece]), axis=0)
        if len(distinct) >= n_components:
            return
    from sklearn.exceptions import ConvergenceWarning  # here, as above

    warnings.warn(
        f"{name} has {len(distinct)} distinct point(s), fewer than {n_components} components: some will be empty, or "
        "share a point; ask for fewer",
        ConvergenceWarning,
        stacklevel=3,
    )


def sizes_allowed(dtype: Any) -> tuple[float, float]:
    """Between which sizes of the entries of a column its variances, their squares, keep all digits and are finite."""
    return (1e-140, 1e150) if dtype == np.float64 else (1e-12, 1e18)


def check_size(
    name: str, x: np.ndarray, dtype: Any = None, reg_covar: float = 0.0
) -> tuple[np.ndarray, np.ndarray | None]:
    """The largest magnitude of every column seen from its centre, (D,), and the centre (see `common.data.centring`).

    Raises ValueError if the dtype, that of x unless another is given, cannot hold a square, or only as a number that
    TensorFlow takes for zero; and if a column lies so far from zero that the digits of its spread are lost.
    """
    low, high = column_ranges(x)
    centre, (least, most) = find_centre(low, high), sizes_allowed(dtype or x.dtype)
    c = 0.0 if centre is None else centre
    sizes = np.maximum(np.abs(low - c), np.abs(high - c))
    if sizes.max() > most:
        raise ValueError(f"{name} has entries as large as {sizes.max():.3g}, whose squares overflow; scale the data")
    if len(small := np.flatnonzero((sizes > 0) & (sizes < least))):
        raise ValueError(
            f"{name} has no entry above {sizes[small[0]]:.3g} in column {small[0]}, whose squares underflow; scale the "
            "data"
        )
    if centre is not None and len(lost := narrow_columns(low, high, x.dtype, reg_covar)):
        raise ValueError(
            f"{name} has lost its digits in column {lost[0]}: all values lie within {high[lost[0]] - low[lost[0]]:.3g} "
            f"of {low[lost[0]]:.9g}, a few steps of {x.dtype}; {how_to_regain(x.dtype)}"
        )
    return sizes, centre


def check_spread(
    name: str, x: np.ndarray, covariance_type: str, reg_covar: float, remedy: str = "or set reg_covar above 0"
) -> None:
    """A constant column has no variance: an error without ``reg_covar``, a warning with it.

    Unless all columns are, at values whose last digit is more than ``reg_covar`` allows for: that is an error, too.
    """
    constant = constant_columns(x)
    if covariance_type == "spherical" and len(constant) < x.shape[1]:
        return
    if len(constant):
        shown = ", ".join(map(str, constant[:5])) + (", ..." if len(constant) > 5 else "")
        what = f"{name} is constant in column(s) {shown} (value {x[0, constant[0]]:g})"
        coarse = np.square(np.finfo(x.dtype).eps * x[0, constant].astype(np.float64)) > reg_covar
        lost = f"; or, if its digits are lost, {how_to_regain(x.dtype)}" if coarse.any() else ""
        if reg_covar == 0:
            raise ValueError(f"{what}: the variance there is zero; remove the column {remedy}".rstrip() + lost)
        if np.count_nonzero(coarse) == x.shape[1]:
            raise ValueError(f"{what}: if anything varied there, its digits are lost; {how_to_regain(x.dtype)}")
        warnings.warn(f"{what}: the variance there is reg_covar={reg_covar:g} alone{lost}", UserWarning, stacklevel=3)


def covariance_shape(k: int, d: int, covariance_type: str) -> tuple[int, ...]:
    """The shape of K covariances of D features of this type."""
    return {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}[covariance_type]


def check_collapse(
    covariances: np.ndarray, covariance_type: str, reg_covar: float, least: np.ndarray | float = 0.0
) -> None:
    """ValueError naming the first component whose covariance is singular but for rounding.

    ``least`` are the variances, (K, D), (D,) or one for all, that may be rounding alone. A matrix is judged by
    the smallest eigenvalue of its correlations, and by a limit well above rounding, so that both frameworks' are
    judged alike: a Cholesky factor of it exists or not by the last bit.
    """
    d = covariances.shape[-1]
    matrices = covariances.reshape(-1, d, d) if covariance_type in ("full", "tied") else None
    least = np.max(np.atleast_1d(least), axis=-1, keepdims=True) if covariance_type == "spherical" else least
    collapsed = np.any(feature_variances(covariances, covariance_type) <= least, axis=1)
    if matrices is not None and np.all(np.isfinite(matrices)):
        collapsed |= are_singular(np.where(collapsed[:, None, None], np.eye(d, dtype=matrices.dtype), matrices))
    if collapsed.any():
        k = int(np.argmax(collapsed))
        what = f"component {k} has collapsed: its covariance is singular up to rounding"
        what += " in float32; try float64" if covariances.dtype == np.float32 else ""
        raise ValueError(f"reg_covar={reg_covar:g}: {what}. {ILL_DEFINED}")


def feature_variances(covariances: np.ndarray, covariance_type: str) -> np.ndarray:
    """The variances on the diagonals: (K, D) full, diag | (1, D) tied | (K, 1) spherical."""
    if covariance_type in ("full", "tied"):
        return np.atleast_2d(np.diagonal(covariances, axis1=-2, axis2=-1))
    return covariances.reshape(len(covariances), -1)


def are_singular(matrices: np.ndarray, times: float = 1.0) -> np.ndarray:
    """Which of the covariances (..., D, D), of positive diagonal, have singular correlations, but for rounding.

    The limit is well above the rounding of a matrix's entries; ``times`` as high for entries that are worse.
    """
    least = SINGULAR * matrices.shape[-1] * np.finfo(matrices.dtype).eps * max(1.0, times)
    matrices = matrices.astype(np.float64)  # what is judged are the matrices' digits, not those of the judgement
    deviations = np.sqrt(np.diagonal(matrices, axis1=-2, axis2=-1))  # (..., D)
    correlations = matrices / deviations[..., :, None] / deviations[..., None, :]
    return np.linalg.eigvalsh(correlations)[..., 0] <= least


def least_variance(dtype: Any) -> float:
    """The least variance whose digits no underflow takes."""
    return 100 * float(np.finfo(dtype).tiny) / float(np.finfo(dtype).eps)


def least_variances(sizes: np.ndarray, dtype: Any, reg_covar: float) -> np.ndarray | None:
    """Variances, (D,), of columns of these sizes, below which points differ by rounding alone, or lose digits to
    underflow; None if ``reg_covar`` keeps every covariance of such points well away from singular."""
    eps, size = float(np.finfo(dtype).eps), float(np.max(sizes))
    least = np.maximum(np.square(16 * eps * sizes), least_variance(dtype))
    return None if reg_covar > max(10 * SINGULAR * len(sizes) * eps * size**2, 10 * least.max()) else least


def least_of_components(
    least: np.ndarray, means: np.ndarray, covariances: np.ndarray, covariance_type: str
) -> np.ndarray:
    """The least variances (K, D) of components whose points are no larger than these, (D,) if one covariance is tied.

    What rounds are the points that a component answers for: those of others, however large, take no digits from it.
    """
    if covariance_type == "tied":
        return least
    eps = float(np.finfo(means.dtype).eps)
    with np.errstate(invalid="ignore"):
        deviations = np.sqrt(np.maximum(feature_variances(covariances, covariance_type), 0))
    own = np.square(16 * eps * (np.abs(means) + 8 * deviations).astype(np.float64))
    return np.minimum(least, np.maximum(own, least_variance(means.dtype)))


def check_density(name: str, log_density: np.ndarray, first_row: int = 0) -> None:
    """ValueError naming the first row whose log density is beyond the numbers of its dtype."""
    if len(bad := np.flatnonzero(~np.isfinite(log_density))):
        raise ValueError(
            f"{name} has the row {first_row + bad[0]} ({len(bad)} such) so far from every component that its log "
            f"density is beyond {log_density.dtype}: leave it out"
        )


def precisions_cholesky(covariances: np.ndarray, covariance_type: str, reg_covar: float) -> np.ndarray:
    """U with U U' = Sigma^-1, upper triangular (full, tied), or 1/sigma; ValueError if a covariance is singular."""
    if covariance_type in ("diag", "spherical"):
        if not np.all(covariances > 0):
            check_collapse(covariances, covariance_type, reg_covar)
        return 1 / np.sqrt(covariances)
    from scipy.linalg import solve_triangular

    try:
        factor = np.linalg.cholesky(covariances)
    except np.linalg.LinAlgError:
        check_collapse(covariances, covariance_type, reg_covar)
        raise
    identity = np.eye(covariances.shape[-1], dtype=covariances.dtype)
    if covariance_type == "tied":
        return solve_triangular(factor, identity, lower=True).T
    return np.stack([solve_triangular(f, identity, lower=True).T for f in factor])


def precisions(cholesky: np.ndarray, covariance_type: str) -> np.ndarray:
    """Sigma^-1 from its factor U: U U', or the square."""
    return np.square(cholesky) if covariance_type in ("diag", "spherical") else cholesky @ np.swapaxes(cholesky, -1, -2)
