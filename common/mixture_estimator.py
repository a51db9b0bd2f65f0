"""The scikit-learn side of the mixture estimators: everything that needs no tensors, once for both frameworks.

Validation of parameters and data, starting values, restarts, the loop with its convergence test, fitted attributes
and the messages live here; a framework's ``GaussianMixture`` adds only the maths, as a few small methods.
"""

import numbers
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from common.chunks import Chunks, chunk_rows, pieces, rows_to_start_from, spread_rows, take_rows
from common.em_driver import run_em
from common.missing_checks import check_missing, mean_imputed
from common.mixture_checks import (
    as_array,
    check_parameters,
    check_points,
    check_size,
    check_spread,
    check_start,
    precisions,
    precisions_cholesky,
)
from common.mixture_start import initial_responsibilities


class MixtureEstimator(DensityMixin, BaseEstimator):
    """Base of ``GaussianMixture`` in both frameworks, with scikit-learn's parameters, attributes and methods.

    Parameters
    ----------
    n_components : int, default 1
        Number of components K.
    covariance_type : "full", "tied", "diag" or "spherical", default "full"
        A covariance matrix per component, one for all, a diagonal per component, or one variance per component.
    tol : float, default 1e-3
        EM stops when the lower bound (mean log likelihood per point, in nats) changes by less than this.
    reg_covar : float, default 1e-6
        Added to the diagonal of every covariance; 0 is maximum likelihood proper.
    max_iter, n_init : int, default 100 and 1
        Most iterations of a run; number of runs from different starts, of which the best is kept.
    init_params : "kmeans", "k-means++", "random" or "random_from_data", default "kmeans"
        How the responsibilities are chosen that the first M step starts from.
    weights_init, means_init, precisions_init : arrays of shapes (K,), (K, D), as ``precisions_``; or None
        Starting values that replace those of the first M step.
    random_state : int, numpy.random.RandomState or None
        Seed of the starting values and of ``sample``.
    warm_start : bool, default False
        Start from the last fit instead of ``init_params``.
    verbose, verbose_interval : int, default 0 and 10
        1 prints the course of every run, 2 the lower bound too, every ``verbose_interval`` iterations.
    missing : "error" or "em", default "error"
        What NaN in X means: an error, or an entry that is missing at random, which EM treats as hidden; then every
        method takes NaN, densities are those of what was observed, and ``impute`` fills the gaps in. The covariances
        must be "full".

    Attributes
    ----------
    weights_, means_, covariances_, precisions_, precisions_cholesky_ : arrays
        The mixture; shapes (K,), (K, D) and, by covariance type, (K, D, D), (D, D), (K, D) or (K,).
    converged_, n_iter_, lower_bound_ : bool, int, float
        Of the best run: whether it converged, its iterations, the bound at its last E step.
    lower_bounds_ : list of float
        The bound at every iteration of the best run.
    """

    def __init__(
        self,
        n_components=1,
        *,
        covariance_type="full",
        tol=1e-3,
        reg_covar=1e-6,
        max_iter=100,
        n_init=1,
        init_params="kmeans",
        weights_init=None,
        means_init=None,
        precisions_init=None,
        random_state=None,
        warm_start=False,
        verbose=0,
        verbose_interval=10,
        missing="error",
    ):
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.missing = missing

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "MixtureEstimator":
        """Fit the mixture to X (N, D) by EM, row n counting ``sample_weight[n]`` times; returns self."""
        self._fit(X, sample_weight)
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """Fit the mixture to X (N, D) and return the most probable component of every point, (N,)."""
        self._fit(X, sample_weight)
        return self.predict(X)

    def _fit(self, X: Any, sample_weight: Any) -> None:
        check_parameters(self)
        x, observed, weight = self._training_data(X, sample_weight)
        start = check_start(self, x.shape[1], x.dtype)
        go_on = self.warm_start and hasattr(self, "converged_")
        random_state = check_random_state(self.random_state)
        tensors = self._training_tensors(x, observed, weight)
        total_weight = len(x) if weight is None else weight.sum()

        best: dict[str, Any] = {"lower_bound_": -np.inf}
        for run in range(1 if go_on else self.n_init):
            if self.verbose:
                print(f"Initialization {run}")
            if go_on:
                parameters, bound = self._last_parameters(x), self.lower_bound_
            else:
                parameters, bound = self._starting_parameters(x, observed, weight, start, random_state), -np.inf
            fitted = self._run(tensors, parameters, bound, total_weight)
            if not best.keys() - {"lower_bound_"} or fitted["lower_bound_"] > best["lower_bound_"]:
                best = fitted

        if not best["converged_"] and self.max_iter > 0:
            warnings.warn(
                "Best performing initialization did not converge. Try different init parameters, or increase max_iter, "
                f"tol, or check for degenerate data. (max_iter={self.max_iter}, tol={self.tol:g})",
                ConvergenceWarning,
                stacklevel=3,
            )
        best["precisions_cholesky_"] = precisions_cholesky(best["covariances_"], self.covariance_type, self.reg_covar)
        best["precisions_"] = precisions(best["precisions_cholesky_"], self.covariance_type)
        vars(self).update(best)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable component of every point, (N,)."""
        return self._of_each_row(X, lambda log_density, gamma: gamma.argmax(axis=1))

    def predict_proba(self, X: Any) -> np.ndarray:
        """The responsibilities, (N, K)."""
        return self._of_each_row(X, lambda log_density, gamma: gamma)

    def score_samples(self, X: Any) -> np.ndarray:
        """The log density of every point in nats, (N,)."""
        return self._of_each_row(X, lambda log_density, gamma: log_density)

    def score(self, X: Any, y: Any = None) -> float:
        """The mean log density per point, in nats."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Draw points (n_samples, D) from the fitted mixture, and the components that drew them (n_samples,)."""
        check_is_fitted(self)
        if not isinstance(n_samples, numbers.Integral) or n_samples < 1:
            raise ValueError(f"Invalid value for 'n_samples': {n_samples!r}; ask for at least one sample")
        random_state, dtype = check_random_state(self.random_state), self.means_.dtype
        uniforms = random_state.uniform(size=n_samples).astype(dtype)
        noise = random_state.standard_normal((n_samples, self.means_.shape[1])).astype(dtype)
        x, z = self._sample(self._parameters(), self._tensor(uniforms), self._tensor(noise))
        return np.asarray(x), np.asarray(z).astype(np.int64)

    def impute(self, X: Any) -> np.ndarray:
        """X (N, D) with every NaN replaced by its expectation given the rest of its row; needs ``missing="em"``."""
        if self.missing != "em":
            raise ValueError(f"missing={self.missing!r}: only a mixture with missing='em' imputes; set it and fit")
        check_is_fitted(self)
        x, observed = check_points(self, X, reset=False)
        x = x.astype(self.means_.dtype, copy=False)
        if observed is None:
            return x
        return np.asarray(self._impute(self._tensor(x), self._tensor(observed), self._parameters()))

    def bic(self, X: Any) -> float:
        """Bayesian information criterion on X, -2 log p(X) + (number of free parameters) log N; lower is better."""
        return -2 * self.score(X) * len(X) + self._n_parameters() * np.log(len(X))

    def aic(self, X: Any) -> float:
        """Akaike information criterion on X, -2 log p(X) + 2 (number of free parameters); lower is better."""
        return -2 * self.score(X) * len(X) + 2 * self._n_parameters()

    def _run(self, tensors: tuple, parameters: tuple, bound: float, total_weight: float) -> dict[str, Any]:
        x, observed, weight = tensors
        previous = [bound]

        def iterate(parameters: tuple) -> tuple[tuple, float]:
            parameters, total = self._em_iteration(x, observed, parameters, weight)
            return parameters, float(total) / total_weight

        def report(iteration: int, before: tuple, bound: float) -> None:
            if not np.isfinite(bound):  # says which component has collapsed, if one has
                precisions_cholesky(np.asarray(before[2]), self.covariance_type, self.reg_covar)
                raise ValueError(f"X: the lower bound became {bound} at iteration {iteration}; scale the data")
            if self.verbose and iteration % self.verbose_interval == 0:
                detail = f": lower bound {bound:.5f}, change {bound - previous[-1]:.5e}" if self.verbose >= 2 else ""
                print(f"  Iteration {iteration}{detail}")
            previous.append(bound)

        result = run_em(iterate, parameters, tol=self.tol, max_iter=self.max_iter, bound=bound, on_iteration=report)
        if self.verbose:
            what = "converged" if result.converged else "did not converge"
            print(f"Initialization {what}, lower bound {previous[-1]:.5f}")
        weights, means, covariances = (np.asarray(tensor) for tensor in result.parameters)
        return {
            "weights_": weights,
            "means_": means,
            "covariances_": covariances,
            "converged_": result.converged,
            "n_iter_": result.n_iter,
            "lower_bound_": previous[-1],
            "lower_bounds_": result.bounds,
        }

    def _starting_parameters(
        self,
        x: np.ndarray,
        observed: np.ndarray | None,
        weight: np.ndarray | None,
        start: tuple[np.ndarray | None, ...],
        random_state: np.random.RandomState,
    ) -> tuple:
        given = [None if value is None else self._tensor(value) for value in start]
        if all(value is not None for value in given):
            return tuple(given)
        filled = x if observed is None else mean_imputed(x, observed)
        if (size := rows_to_start_from(*x.shape)) < len(x):
            rows = spread_rows(len(x), random_state.uniform(size=size))
            filled, weight = take_rows(filled, rows), None if weight is None else weight[rows]
        gamma = initial_responsibilities(filled, self.n_components, self.init_params, random_state, weight)
        if self._in_chunks(filled, observed):
            gamma = gamma if weight is None else gamma * weight[:, None]
            estimated = self._m_step(self._chunks(filled, gamma), None, None)
        else:
            weight = None if weight is None else self._tensor(weight)
            estimated = self._m_step(self._tensor(filled), self._tensor(gamma), weight)
        return tuple(g if g is not None else e for g, e in zip(given, estimated, strict=True))

    def _training_data(self, X: Any, sample_weight: Any) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        x, observed = check_points(self, X, reset=True)
        if x.shape[0] < max(2, self.n_components):
            raise ValueError(
                f"X has {x.shape[0]} sample(s) (n_samples={x.shape[0]}), fewer than n_components={self.n_components} "
                "or than 2: give more points or ask for fewer components"
            )
        if sample_weight is None:
            self._check_filled(x, observed)
            return x, observed, None
        weight = _check_sample_weight(as_array(sample_weight), x, dtype=x.dtype, ensure_non_negative=True)
        if np.count_nonzero(weight) < max(2, self.n_components):
            raise ValueError(
                f"sample_weight leaves {np.count_nonzero(weight)} points of positive weight, fewer than "
                f"n_components={self.n_components} or than 2: give weight to more points"
            )
        # rows of weight zero are not there; only ratios of weights matter, and a mean of 1 keeps N_k away from rounding
        seen = weight > 0
        if not seen.all():
            x, weight = x[seen], weight[seen]
        if observed is not None:
            x, observed = check_missing(np.where(observed[seen], x, np.nan), "X")
        self._check_filled(x, observed)
        return x, observed, weight / weight.mean()

    def _training_tensors(self, x: np.ndarray, observed: np.ndarray | None, weight: np.ndarray | None) -> tuple:
        """The data as tensors, or, if they are more than a chunk, in chunks."""
        if self._in_chunks(x, observed):
            return self._chunks(x, weight), None, None
        return tuple(None if array is None else self._tensor(array) for array in (x, observed, weight))

    def _in_chunks(self, x: np.ndarray, observed: np.ndarray | None) -> bool:
        return self._takes_chunks and observed is None and len(x) > chunk_rows(x.shape[1], self.n_components)

    def _chunks(self, x: np.ndarray, beside: np.ndarray | None) -> Chunks:
        return Chunks(x, beside, chunk_rows(x.shape[1], self.n_components), self._tensor, x.dtype)

    def _check_filled(self, x: np.ndarray, observed: np.ndarray | None) -> None:
        check_size("X", x)
        check_spread("X", x if observed is None else mean_imputed(x, observed), self.covariance_type, self.reg_covar)

    def _of_each_row(self, X: Any, function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """``function`` of the log densities (C,) and responsibilities (C, K) of runs of C rows, put together."""
        check_is_fitted(self)
        x, observed = check_points(self, X, reset=False)
        parameters = self._parameters()
        found = []
        for start, points in pieces(x, chunk_rows(x.shape[1], self.n_components)):
            seen = None if observed is None else self._tensor(observed[start : start + len(points)])
            of_rows = self._e_step(self._tensor(points.astype(self.means_.dtype, copy=False)), seen, parameters)
            found.append(function(*map(np.asarray, of_rows)))
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _last_parameters(self, x: np.ndarray) -> tuple:
        k, d, kind = self.n_components, x.shape[1], self.covariance_type
        shape = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}[kind]
        if self.means_.shape != (k, d) or self.covariances_.shape != shape:
            raise ValueError(
                f"warm_start=True: the last fit: means {self.means_.shape} and covariances {self.covariances_.shape}; "
                f"{(k, d)} and {shape} are needed: set warm_start=False"
            )
        return tuple(self._tensor(v.astype(x.dtype)) for v in (self.weights_, self.means_, self.covariances_))

    def _parameters(self) -> tuple:
        return tuple(self._tensor(value) for value in (self.weights_, self.means_, self.covariances_))

    def _n_parameters(self) -> int:
        k, d = self.means_.shape
        of_covariances = {"full": k * d * (d + 1) // 2, "tied": d * (d + 1) // 2, "diag": k * d, "spherical": k}
        return of_covariances[self.covariance_type] + k * d + k - 1

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "em"
        return tags

    # What a framework adds. Where _takes_chunks says so, x in the M step and the iteration may be Chunks.

    _takes_chunks = False

    def _tensor(self, array: np.ndarray) -> Any:
        raise NotImplementedError

    def _e_step(self, x: Any, observed: Any, parameters: tuple) -> tuple:
        raise NotImplementedError

    def _m_step(self, x: Any, gamma: Any, sample_weight: Any) -> tuple:
        raise NotImplementedError

    def _em_iteration(self, x: Any, observed: Any, parameters: tuple, sample_weight: Any) -> tuple:
        raise NotImplementedError

    def _sample(self, parameters: tuple, uniforms: Any, noise: Any) -> tuple:
        raise NotImplementedError

    def _impute(self, x: Any, observed: Any, parameters: tuple) -> Any:
        raise NotImplementedError
