"""Every check of the table and the arguments that a mixture is given, once, for the estimators and the script alike.

`prepare` makes of a table what an algorithm is fitted to. Each error is an `InputError` of one line.
"""

import itertools
import numbers
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from common.data import chunks
from common.data.arrays import as_array
from common.data.chunks import Centred, Chunks, centred, share
from common.data.messages import InputError, require
from common.mixtures.collapse import least_variances
from common.mixtures.parameters import COVARIANCE_TYPES
from common.mixtures.start import INIT_PARAMS, mean_imputed

REG_COVAR = 1e-6  # the default
MISSING = ("error", "em")
CHOICES = {"covariance_type": COVARIANCE_TYPES, "init_params": INIT_PARAMS, "missing": MISSING}
INTEGERS = {"n_components": 1, "n_init": 1, "max_iter": 0, "verbose": 0, "verbose_interval": 1}


class FitData(NamedTuple):
    """A table that was checked, and what is to be fitted to it: all that start, algorithm and collapse depend on.

    ``x`` has zeros where ``observed`` is False. Where columns lie far from zero, points, prior and parameters
    are those less a ``centre``. A table that goes ``in_chunks`` may be a file, which is read where it is
    needed.
    """

    x: np.ndarray | Centred  # (N, D)
    n_components: int
    covariance_type: str
    reg_covar: float
    dtype: np.dtype  # of the arithmetic
    sizes: np.ndarray  # the largest magnitude of every column, (D,)
    observed: np.ndarray | None = None  # (N, D); None: all
    weight: np.ndarray | None = None  # (N,), of mean 1; None: all alike
    centre: np.ndarray | None = None  # (D,)
    method: str = "em"  # "map" or "variational" have a prior
    in_chunks: bool = False
    prior: Any = None

    @property
    def least_variances(self) -> np.ndarray | None:
        """The variances (D,) that may be rounding alone; None if regularisation or a prior keeps covariances above."""
        return None if self.method == "map" else least_variances(self.sizes, self.dtype, self.reg_covar)

    def chunks(
        self, x: np.ndarray, values: np.ndarray | None, tensor: Callable[[np.ndarray], Any], numbers: int | None = None
    ) -> Chunks:
        """Points of this table in chunks, and values of theirs; ``numbers`` as in `chunks.rows_of_chunks`."""
        rows = chunks.rows_of_chunks(*x.shape, self.n_components, self.covariance_type, numbers=numbers)
        return Chunks(x, values, rows, tensor, self.dtype)

    def chunks_of_worker(
        self, tensor: Callable[[np.ndarray], Any], rank: int, size: int, numbers: int | None = None
    ) -> Chunks:
        """A worker's share of the points in chunks; a point of weight zero, if there are too few."""
        rows = share(len(self.x), rank, size)
        if rows.stop == rows.start:
            return self.chunks(self.x[:1], np.zeros(1), tensor, numbers)
        return self.chunks(self.x[rows], None if self.weight is None else self.weight[rows], tensor, numbers)


def prepare(
    x: np.ndarray,
    n_components: int,
    covariance_type: str,
    reg_covar: float,
    *,
    method: str = "em",
    missing: str = "error",
    remedy: str = "",
    dtype: Any = None,
    sample_weight: Any = None,
    constant: float | None = None,
) -> FitData:
    """The table (N, D), checked and centred; its entries are of ``dtype``, that of x unless another is given.

    ``remedy`` is that against NaN, unless it is ``missing="em"``. ``constant`` is how much regularisation
    lets columns be constant: 0 refuses them, None admits them all.
    """
    k, dtype = n_components, np.dtype(dtype or x.dtype)
    x, observed = check_entries(x, missing, covariance_type, remedy)
    check_enough(x, k)
    weight = None
    if sample_weight is not None:
        weight = check_sample_weight(sample_weight, x, k)
        rows = weight > 0  # rows of weight zero are not there
        x, weight = x[rows], weight[rows] / weight[rows].mean()  # a mean of 1 keeps N_k away from rounding
        if observed is not None:
            x, observed = check_missing(np.where(observed[rows], x, np.nan))
    complete = x if observed is None else mean_imputed(x, observed)
    sizes, centre = check_size(complete, dtype, reg_covar)
    if constant is not None:
        check_spread(complete, covariance_type, constant, "" if method == "map" else " or set {reg_covar} above 0")
    check_distinct(complete, k)
    in_chunks = method == "em" and observed is None and chunks.pays_in_chunks(*x.shape, k, covariance_type)
    if not in_chunks:
        x = centred(x, centre, dtype)
    elif centre is not None:
        x = Centred(x, centre, dtype)
    if observed is not None:
        x = np.where(observed, x, dtype.type(0))
    return FitData(x, k, covariance_type, reg_covar, dtype, sizes, observed, weight, centre, method, in_chunks)


def check_parameters(estimator: Any) -> None:
    """Check the constructor's arguments; the error names the first that is out of its range."""
    for name, least in INTEGERS.items():
        value = getattr(estimator, name)
        if not isinstance(value, numbers.Integral) or (name != "verbose" and isinstance(value, bool)) or value < least:
            raise InputError(name, f"must be an integer of at least {least}", value)
    for name in ("tol", "reg_covar"):
        value = getattr(estimator, name)
        valid = isinstance(value, numbers.Real) and 0 <= value < np.inf
        require(valid, name, "must be a number of at least 0", value)
    for name, choices in CHOICES.items():
        if not isinstance(value := getattr(estimator, name), str) or value not in choices:
            raise InputError(name, f"must be one of {', '.join(choices)}", value)
    if estimator.missing == "em" and (kind := estimator.covariance_type) != "full":
        raise InputError("missing", f"is for {{covariance_type=full}}, not {kind!r}: choose either", "em")


def check_table(estimator: Any, X: Any, reset: bool) -> np.ndarray:
    """X as a float64 or float32 table (N, D), of the estimator's columns unless they are ``reset``."""
    from sklearn.utils.validation import validate_data  # imported here because the scripts do not need it

    X = as_array(X, "X")
    shape = X.shape if hasattr(X, "shape") else np.asarray(X).shape
    flat = f"has shape {tuple(shape)}, not (N, D). Reshape your data: X.reshape(-1, 1) makes one column"
    require(len(shape) == 2, "X", flat)
    if getattr(getattr(X, "dtype", None), "kind", "f") == "c":
        raise InputError("X", f"has dtype {X.dtype}. Complex data not supported: give real numbers")
    return validate_data(estimator, X, reset=reset, dtype=[np.float64, np.float32], order="C", ensure_all_finite=False)


def check_entries(
    x: np.ndarray, missing: str, covariance_type: str, remedy: str = "", to_fit: bool = True
) -> tuple[np.ndarray, np.ndarray | None]:
    """The table with zeros for NaN, and what was observed of it, None for all; NaN needs ``missing="em"``."""
    if missing == "em" and np.isnan(x).any():
        return check_missing(x, to_fit)
    full = "" if covariance_type == "full" else " and {covariance_type=full}"
    check_finite("X", x, remedy or "set {missing=em}" + full)
    return x, None


def check_missing(x: np.ndarray, to_fit: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """A table (N, D) with NaN for missing entries, as (x with zeros there, a boolean table of what was observed).

    A row or a column of which nothing was observed is an error if a model is to be fitted to the table; to a
    fitted one, such a row is a point of which nothing is known.
    """
    x = as_array(x, "X")
    if len(infinite := np.argwhere(np.isinf(x))):
        (row, column), remedy = infinite[0], "give finite numbers, or NaN for a missing entry"
        what = f"contains infinity (inf) at row {row}, column {column} ({len(infinite)} such entries): {remedy}"
        raise InputError("X", what)
    observed = ~np.isnan(x)
    for axis, what in ((1, "row"), (0, "column")) if to_fit else ():
        if len(empty := np.flatnonzero(~observed.any(axis=axis))):
            raise InputError("X", f"has nothing but NaN in {what} {empty[0]} ({len(empty)} such): remove it")
    return np.where(observed, x, x.dtype.type(0)), observed


def check_finite(name: str, x: np.ndarray, remedy: str = "") -> None:
    """Find the first entry of a table that is NaN or infinite; ``remedy`` is one against NaN alone."""
    first, count = None, 0
    for start, piece in chunks.pieces(x):
        with np.errstate(over="ignore"):
            suspicious = not np.isfinite(piece.sum())
        if suspicious and len(bad := np.argwhere(~np.isfinite(piece))):
            row, column = bad[0]
            what = "NaN" if np.isnan(piece[row, column]) else "infinity (inf)"
            first, count = first or (what, start + row, column), count + len(bad)
    if first:
        what, row, column = first
        remedies = "remove those rows or fill them in"
        if remedy and what == "NaN":
            remedies = f"remove those rows, fill them in, or {remedy}"
        raise InputError(name, f"contains {what} at row {row}, column {column} ({count} such entries): {remedies}")


def check_enough(x: np.ndarray, n_components: int) -> None:
    """There must be as many points as components, and the two that a spread needs."""
    n, remedy = len(x), "give more points or ask for fewer components"
    few = f"has {n} sample(s) (n_samples={n}), fewer than {{n_components}}={n_components} or than 2: {remedy}"
    require(n >= max(2, n_components), "X", few)


def check_sample_weight(sample_weight: Any, x: np.ndarray, n_components: int) -> np.ndarray:
    """The weights (N,), the largest 1; only ratios matter, and a subnormal weight counts as zero, as in TensorFlow."""
    from sklearn.utils.validation import _check_sample_weight

    given, tiny = as_array(sample_weight, "sample_weight"), np.finfo(x.dtype).tiny
    weight = _check_sample_weight(given, x, dtype=x.dtype, ensure_non_negative=True)
    weight = weight / max(weight.max(), tiny)
    weight[weight < tiny] = 0
    number = np.count_nonzero(weight)
    few = f"leaves {number} points of positive weight, fewer than {{n_components}}={n_components} or than 2"
    require(number >= max(2, n_components), "sample_weight", f"{few}: give weight to more points")
    return weight


def check_distinct(x: np.ndarray, n_components: int) -> None:
    """Warn if there are more components than distinct points."""
    distinct, first = x[:0], chunks.pieces(x[: 2 * n_components])  # which are most often enough
    for _, piece in itertools.chain(first, chunks.pieces(x, max(1000, 4 * n_components))):
        distinct = np.unique(np.concatenate([distinct, piece]), axis=0)
        if len(distinct) >= n_components:
            return
    from sklearn.exceptions import ConvergenceWarning  # here, as above

    few = f"the data have {len(distinct)} distinct point(s), fewer than {n_components} components: some will be empty, "
    warnings.warn(few + "or share a point; ask for fewer", ConvergenceWarning, stacklevel=5)


def sizes_allowed(dtype: Any) -> tuple[float, float]:
    """Between which sizes of the entries of a column its variances, their squares, keep all digits and are finite."""
    return (1e-140, 1e150) if dtype == np.float64 else (1e-12, 1e18)


def check_size(x: np.ndarray, dtype: Any, reg_covar: float = 0.0) -> tuple[np.ndarray, np.ndarray | None]:
    """The largest magnitude of every column less its centre, (D,), and the centre (see `common.data.chunks`).

    It is an error if the dtype cannot hold a square, or only as a number that TensorFlow takes for zero; and
    if a column lies so far from zero that the digits of its spread are lost.
    """
    low, high = chunks.column_ranges(x)
    centre, (least, most) = chunks.find_centre(low, high), sizes_allowed(dtype)
    c = 0.0 if centre is None else centre
    sizes = np.maximum(np.abs(low - c), np.abs(high - c))
    large = f"has entries as large as {sizes.max():.3g}, whose squares overflow; scale the data"
    require(sizes.max() <= most, "X", large)
    if len(small := np.flatnonzero((sizes > 0) & (sizes < least))):
        what = f"has no entry above {sizes[small[0]]:.3g} in column {small[0]}, whose squares underflow; scale the data"
        raise InputError("X", what)
    if centre is not None and len(lost := chunks.narrow_columns(low, high, x.dtype, reg_covar)):
        (j, width), remedy = (lost[0], high[lost[0]] - low[lost[0]]), _how_to_regain(x.dtype)
        within = f"all values lie within {width:.3g} of {low[j]:.9g}, a few steps of {x.dtype}"
        raise InputError("X", f"has lost its digits in column {j}: {within}; {remedy}")
    return sizes, centre


def check_spread(x: np.ndarray, covariance_type: str, allowed: float, or_else: str = "") -> None:
    """A constant column has no variance: an error, or a warning if regularisation by ``allowed`` above 0 gives it one.

    It is an error, too, if all columns are constant at values whose last digit is more than that allows for.
    """
    columns = chunks.constant_columns(x)
    if not len(columns) or (covariance_type == "spherical" and len(columns) < x.shape[1]):
        return
    shown = ", ".join(map(str, columns[:5])) + (", ..." if len(columns) > 5 else "")
    what = f"constant in column(s) {shown} (value {x[0, columns[0]]:g})"
    coarse = np.square(np.finfo(x.dtype).eps * x[0, columns].astype(np.float64)) > allowed
    lost = f"; or, if its digits are lost, {_how_to_regain(x.dtype)}" if coarse.any() else ""
    if allowed == 0:
        raise InputError("X", f"is {what}: the variance there is zero; remove the column{or_else}{lost}")
    if np.count_nonzero(coarse) == x.shape[1]:
        remedy = _how_to_regain(x.dtype)
        raise InputError("X", f"is {what}: if anything varied there, its digits are lost; {remedy}")
    warnings.warn(
        f"the data are {what}: the variance there is the regularisation alone, {allowed:g}{lost}", stacklevel=5
    )


def _how_to_regain(dtype: Any) -> str:
    """The remedy where digits are lost to the distance from zero."""
    return "subtract the mean" + (", or use float64" if np.finfo(dtype).bits < 64 else "")


def check_density(log_density: np.ndarray, first_row: int = 0) -> None:
    """Find the first row whose log density is beyond the numbers of its dtype."""
    if len(bad := np.flatnonzero(~np.isfinite(log_density))):
        far = f"so far from every component that its log density is beyond {log_density.dtype}: leave it out"
        raise InputError("X", f"has the row {first_row + bad[0]} ({len(bad)} such) {far}")
