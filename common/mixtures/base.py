"""The scikit-learn side of the mixtures: everything that needs no tensors, once for both frameworks.

``MixtureBase`` has what every mixture does: restarts, the loop, prediction, sampling. `common.mixtures.estimators`
has the two that are built on it. A framework adds the maths, as a few small methods.
"""

import numbers
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from common.data.arrays import as_array
from common.data.chunks import centred, from_zero, one_thread, pieces, rows_to_predict
from common.mixtures.collapse import check_fit, precisions, precisions_cholesky
from common.mixtures.input import FitData, check_density, check_entries, check_table
from common.mixtures.loop import em
from common.mixtures.parameters import MixtureParameters, VariationalPosterior, parameter_shapes
from common.mixtures.start import random_source, starting_points


class MixtureBase(DensityMixin, BaseEstimator):
    """Base of the mixture estimators.

    A framework adds ``fit``, ``_place(X)``, a context in which to compute, ``_tensor(array)``,
    ``_in_order(function, items)``, ``_coefficients(parameters)``, a tuple, ``_e_step(x, observed,
    *coefficients)``, which gives log densities (N,) and responsibilities (N, K), and ``_sample(mixture, uniforms,
    noise)``, which gives x and z; to a mixture fitted by EM ``_impute(x, observed, parameters)``, and to the
    Bayesian one ``_predictive_log_density(x, posterior)``. All take and give tensors.
    """

    missing = "error"  # what NaN in X means, unless a model has an argument of that name
    weight_concentration_prior_type: str | None = None  # a Bayesian mixture's argument
    _parameter_type: type[MixtureParameters] | type[VariationalPosterior] = MixtureParameters

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

    def sample(self, n_samples: int = 1, random_state: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Draw points (n_samples, D) from the mixture, and the components that drew them (n_samples,).

        ``random_state`` takes the place of the estimator's own, unless it is None.
        """
        check_is_fitted(self)
        if not isinstance(n_samples, numbers.Integral) or n_samples < 1:
            raise ValueError(f"Invalid value for 'n_samples': {n_samples!r}; ask for at least one sample")
        random_state = random_source(self.random_state if random_state is None else random_state)
        dtype, centre = self.means_.dtype, self._centre
        uniforms = random_state.uniform(size=n_samples).astype(dtype)
        noise = random_state.standard_normal((n_samples, self.means_.shape[1])).astype(dtype)
        with self._place(None):
            mixture = tuple(map(self._tensor, (self.weights_, self._means_from(centre), self.covariances_)))
            x, z = map(as_array, self._sample(mixture, self._tensor(uniforms), self._tensor(noise)))
        return from_zero(x, centre), z.astype(np.int64)

    def _fit(self, data: FitData, algorithm: Any, given: tuple = ()) -> None:
        """Run from every start and keep the best; ``given`` parameters replace those of the first M step."""
        random_state = random_source(self.random_state)
        warm = self.warm_start and hasattr(self, "converged_")
        best: dict[str, Any] = {}
        for number in range(1 if warm else self.n_init):
            if self.verbose:
                print(f"Initialization {number}")
            start = self._last_parameters(data) if warm else self._start(data, algorithm, given, random_state)
            with one_thread("blas"):
                run = self._run(data, algorithm, start, self.lower_bound_ if warm else -np.inf)
            # of equally good ones the first: which is ahead by rounding alone differs from framework to framework
            margin = 100 * np.finfo(data.dtype).eps * abs(run["lower_bound_"])
            if not best or run["lower_bound_"] > best["lower_bound_"] + margin:
                best = run
        if not best["converged_"] and self.max_iter > 0:
            warnings.warn(
                "Best performing initialization did not converge. Try different init parameters, or increase max_iter, "
                f"tol, or check for degenerate data. (max_iter={self.max_iter}, tol={self.tol:g})",
                ConvergenceWarning,
                stacklevel=3,
            )
        with one_thread("blas"):
            cholesky = precisions_cholesky(best["covariances_"], self.covariance_type, self.reg_covar)
            best |= {"precisions_cholesky_": cholesky, "precisions_": precisions(cholesky, self.covariance_type)}
        best["_centred"] = None if data.centre is None else (data.centre, best["means_"])
        best["means_"] = from_zero(best["means_"], data.centre)
        vars(self).update(best | self._fitted_prior(data))

    def _start(self, data: FitData, algorithm: Any, given: tuple, random_state: np.random.RandomState) -> tuple:
        """The parameters of the first M step, but for those given."""
        given = [None if value is None else self._tensor(value) for value in given]
        if given and all(value is not None for value in given):
            return MixtureParameters(*given)
        points = starting_points(data, self.init_params, random_state, random_state.random_sample)
        start = algorithm.start(*points)
        return start._replace(**{n: g for n, g in zip(start._fields, given, strict=False) if g is not None})

    def _run(self, data: FitData, algorithm: Any, parameters: tuple, bound: float) -> dict[str, Any]:
        """The loop: iterate until the bound stands still; returns what is fitted."""
        n = len(data.x) if data.method == "em" else 1  # a Bayesian mixture's bound is that of all points together
        bounds, converged = [], False
        for step in em(algorithm.iterate, parameters, range(1, self.max_iter + 1), self.tol, bound, n):
            check_fit(data, algorithm, step.before, step.bound)
            parameters, bound, converged = step.after, step.bound, step.converged
            bounds.append(bound)
            if self.verbose and step.number % self.verbose_interval == 0:
                detail = f": lower bound {bound:.5f}, change {step.change:.5e}" if self.verbose >= 2 else ""
                print(f"  Iteration {step.number}{detail}")
        if self.verbose:
            print(f"Initialization {'converged' if converged else 'did not converge'}, lower bound {bound:.5f}")
        check_fit(data, algorithm, parameters, last=True)
        course = {"converged_": converged, "n_iter_": len(bounds), "lower_bound_": bound, "lower_bounds_": bounds}
        return self._fitted(algorithm, parameters) | course

    def _of_each_row(self, X: Any, function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """``function`` of the log densities (C,) and responsibilities (C, K) of runs of C rows, put together."""
        check_is_fitted(self)
        with self._place(X):
            x, observed = self._rows(X)
            prepared, centre, dtype, results = self._coefficients(self._tensors()), self._centre, self.means_.dtype, []

            def of_rows(piece: tuple[int, np.ndarray]) -> tuple[Any, Any]:
                start, points = piece
                mask = None if observed is None else self._tensor(observed[start : start + len(points)])
                return self._e_step(self._tensor(centred(points, centre, dtype)), mask, *prepared)

            start, rows = 0, rows_to_predict(x.shape[1], self.n_components)
            for of_piece in self._in_order(of_rows, [(0, x)] if len(x) <= rows else pieces(x, rows)):
                log_density, gamma = map(as_array, of_piece)
                check_density(log_density, start)
                results.append(function(log_density, gamma))
                start += len(log_density)
        return results[0] if len(results) == 1 else np.concatenate(results)

    def _rows(self, X: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Rows for a fitted mixture, checked, and what was observed of them, None for all."""
        x = check_table(self, X, reset=False)
        return check_entries(x, self.missing, self.covariance_type, self._remedy, to_fit=False)

    # Parameters as they are kept. A fit to data far from zero also keeps its means less a centre, with more digits.

    _remedy = ""  # against NaN, where missing="em" is none
    _centred: tuple[np.ndarray, np.ndarray] | None = None  # the centre (D,) and the means (K, D) less it

    @property
    def _centre(self) -> np.ndarray | None:
        """The centre of the fitted means; None if there is none, or if ``means_`` was replaced."""
        held = self._centred
        return None if held is None or not np.array_equal(from_zero(held[1], held[0]), self.means_) else held[0]

    def _means_from(self, centre: np.ndarray | None) -> np.ndarray:
        """The fitted means less a centre."""
        if self._centre is None:
            return centred(self.means_, centre)
        held, means = self._centred
        return means if centre is held else (means + (held - (0.0 if centre is None else centre))).astype(means.dtype)

    def _arrays(self, centre: np.ndarray | None) -> tuple:
        names = self._parameter_type._fields
        kept = self._parameter_type(*(np.asarray(getattr(self, f"{name}_")) for name in names))
        return kept._replace(means=self._means_from(centre))

    def _tensors(self) -> tuple:
        return self._parameter_type(*map(self._tensor, self._arrays(self._centre)))

    def _last_parameters(self, data: FitData) -> tuple:
        """Those of the last fit, for a warm start."""
        k, d, last = data.n_components, data.x.shape[1], self._arrays(data.centre)
        needed = parameter_shapes(k, d, data.covariance_type, self.weight_concentration_prior_type)
        for name, array, shape in zip(last._fields, last, needed, strict=True):
            if array.shape != shape:
                what = f"the last fit: {name} {array.shape}; {shape} is needed: set warm_start=False"
                raise ValueError(f"warm_start=True: {what}")
        return last._make(self._tensor(array.astype(data.dtype)) for array in last)

    def _fitted_prior(self, data: FitData) -> dict[str, Any]:
        return {}

    def _fitted(self, algorithm: Any, parameters: tuple) -> dict[str, Any]:
        fitted = algorithm.mixture(parameters)._asdict() | parameters._asdict()
        return {f"{name}_": np.asarray(as_array(value)) for name, value in fitted.items()}
