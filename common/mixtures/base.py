"""The common part of all mixture estimators: restarts, the loop, prediction, sampling; no tensors needed.

``MixtureEstimator`` (maximum likelihood) and ``BayesianMixtureEstimator`` (variational) add the model: its parameters,
how they start, what is kept of them. A framework adds the maths to those.
"""

import numbers
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from common.data.centring import centred, from_zero
from common.data.passes import chunk_rows, pieces
from common.mixtures.input import (
    check_collapse,
    check_density,
    check_points,
    least_of_components,
    least_variances,
    precisions,
    precisions_cholesky,
)
from common.mixtures.loop import run_em


class MixtureBase(DensityMixin, BaseEstimator):
    """Base of the mixture estimators."""

    missing = "error"  # what NaN in X means, unless a model has an argument of that name

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
        dtype = self.means_.dtype
        uniforms = random_state.uniform(size=n_samples).astype(dtype)
        noise = random_state.standard_normal((n_samples, self.means_.shape[1])).astype(dtype)
        centre = self._centre
        parameters = self.weights_, self._means_from(centre), self.covariances_
        mixture = tuple(map(self._tensor, parameters))
        x, z = self._sample(mixture, self._tensor(uniforms), self._tensor(noise))
        return from_zero(np.asarray(x), centre), np.asarray(z).astype(np.int64)

    def _fit(
        self,
        data: tuple[np.ndarray | None, ...],
        sizes: np.ndarray,
        start: tuple = (),
        centre: np.ndarray | None = None,
    ) -> None:
        """Run from every start and keep the best: ``data`` is x (N, D), whose columns have these largest magnitudes,
        and whatever else an iteration is given. Means are seen from the ``centre`` (D,), as x is."""
        random_state = random_source(self.random_state)
        go_on = self.warm_start and hasattr(self, "converged_")
        tensors = self._training_tensors(data)
        least = least_variances(sizes, data[0].dtype, self.reg_covar)
        best: dict[str, Any] = {"lower_bound_": -np.inf}
        for run in range(1 if go_on else self.n_init):
            if self.verbose:
                print(f"Initialization {run}")
            if go_on:
                parameters, bound = self._last_parameters(data[0], centre), self.lower_bound_
            else:
                parameters, bound = self._starting_parameters(data, start, random_state), -np.inf
            fitted = self._run(data, tensors, parameters, bound, least)
            # of equally good ones the first: which is ahead by rounding alone differs from framework to framework
            margin = 100 * np.finfo(data[0].dtype).eps * abs(fitted["lower_bound_"])
            if not best.keys() - {"lower_bound_"} or fitted["lower_bound_"] > best["lower_bound_"] + margin:
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
        best["_centred"] = None if centre is None else (centre, best["means_"])
        best["means_"] = from_zero(best["means_"], centre)
        vars(self).update(best)

    def _check(
        self, data: tuple[np.ndarray | None, ...], parameters: tuple, least: np.ndarray | None, last: bool = False
    ) -> None:
        """ValueError if a component has collapsed or an entry is not finite; the ``last`` are looked at closely."""
        fitted, kind = self._fitted(parameters), self.covariance_type
        covariances = fitted["covariances_"]
        if least is not None:
            least = least_of_components(least, fitted["means_"], covariances, kind)
            if np.all(np.isfinite(covariances)):
                covariances = self._summed_again(data, parameters, least, last)
        check_collapse(covariances, kind, self.reg_covar, 0.0 if least is None else least)
        if not np.all(np.isfinite(covariances)):
            raise ValueError(f"X: the fit left the range of {covariances.dtype}; scale the data")

    def _summed_again(
        self, data: tuple[np.ndarray | None, ...], parameters: tuple, least: np.ndarray, last: bool
    ) -> np.ndarray:
        """The covariances; of a model that can, those that may be rounding alone are summed again."""
        return self._fitted(parameters)["covariances_"]

    def _run(
        self,
        data: tuple[np.ndarray | None, ...],
        tensors: tuple,
        parameters: tuple,
        bound: float,
        least: np.ndarray | None,
    ) -> dict[str, Any]:
        previous = [bound]

        def report(iteration: int, before: tuple, bound: float) -> None:
            if least is not None or not np.isfinite(bound):
                self._check(data, before, least)
            if not np.isfinite(bound):
                raise ValueError(
                    f"X: the lower bound left the range of numbers at iteration {iteration}; scale the data"
                )
            if self.verbose and iteration % self.verbose_interval == 0:
                detail = f": lower bound {bound:.5f}, change {bound - previous[-1]:.5e}" if self.verbose >= 2 else ""
                print(f"  Iteration {iteration}{detail}")
            previous.append(bound)

        result = run_em(
            lambda parameters: self._iterate(tensors, parameters),
            parameters,
            tol=self.tol,
            max_iter=self.max_iter,
            bound=bound,
            on_iteration=report,
        )
        if self.verbose:
            what = "converged" if result.converged else "did not converge"
            print(f"Initialization {what}, lower bound {previous[-1]:.5f}")
        self._check(data, result.parameters, least, last=True)
        return self._fitted(result.parameters) | {
            "converged_": result.converged,
            "n_iter_": result.n_iter,
            "lower_bound_": previous[-1],
            "lower_bounds_": result.bounds,
        }

    def _of_each_row(self, X: Any, function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """``function`` of the log densities (C,) and responsibilities (C, K) of runs of C rows, put together."""
        check_is_fitted(self)
        x, observed = check_points(self, X, reset=False)
        parameters, centre = self._parameters(), self._centre
        found = []
        for start, points in pieces(x, chunk_rows(x.shape[1], self.n_components)):
            seen = None if observed is None else self._tensor(observed[start : start + len(points)])
            of_rows = self._e_step(self._tensor(centred(points, centre, self.means_.dtype)), seen, parameters)
            log_density, gamma = map(np.asarray, of_rows)
            check_density("X", log_density, start)
            found.append(function(log_density, gamma))
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _training_tensors(self, data: tuple[np.ndarray | None, ...]) -> tuple:
        return tuple(None if array is None else self._tensor(array) for array in data)

    # A fit to data far from zero also keeps its means relative to a centre, where they have more digits.

    _centred: tuple[np.ndarray, np.ndarray] | None = None  # the centre (D,) and the means (K, D) seen from it

    @property
    def _centre(self) -> np.ndarray | None:
        """The centre that the fitted means are kept from; None if there is none, or if ``means_`` was replaced."""
        held = self._centred
        return None if held is None or not np.array_equal(from_zero(held[1], held[0]), self.means_) else held[0]

    def _means_from(self, centre: np.ndarray | None) -> np.ndarray:
        """The fitted means, seen from a centre."""
        if self._centre is None:
            return centred(self.means_, centre)
        held, means = self._centred
        return means if centre is held else (means + (held - (0.0 if centre is None else centre))).astype(means.dtype)

    # What a model adds.

    def _starting_parameters(self, data: tuple, start: tuple, random_state: np.random.RandomState) -> tuple:
        raise NotImplementedError

    def _last_parameters(self, x: np.ndarray, centre: np.ndarray | None) -> tuple:
        raise NotImplementedError

    def _iterate(self, tensors: tuple, parameters: tuple) -> tuple[tuple, float]:
        raise NotImplementedError

    def _fitted(self, parameters: tuple) -> dict[str, Any]:
        raise NotImplementedError

    def _parameters(self) -> tuple:
        raise NotImplementedError

    # What a framework adds.

    def _tensor(self, array: np.ndarray) -> Any:
        raise NotImplementedError

    def _e_step(self, x: Any, observed: Any, parameters: tuple) -> tuple:
        raise NotImplementedError

    def _sample(self, mixture: tuple, uniforms: Any, noise: Any) -> tuple:
        raise NotImplementedError


def random_source(random_state: Any) -> np.random.RandomState:
    """The source of random numbers that ``random_state`` names; ValueError if it names none."""
    if isinstance(random_state, np.random.Generator):
        raise ValueError(
            "random_state is a NumPy Generator, which scikit-learn's estimators do not take: give an integer, or "
            "np.random.RandomState(generator.bit_generator)"
        )
    try:
        return check_random_state(random_state)
    except (TypeError, ValueError):
        raise ValueError(
            f"random_state={random_state!r} must be an integer from 0 to 2**32 - 1, an np.random.RandomState or None"
        ) from None
