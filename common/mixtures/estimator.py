"""The scikit-learn side of the mixtures: everything that needs no tensors, once for both frameworks.

``MixtureBase`` has what every mixture does: restarts, the loop, prediction, sampling. ``MixtureEstimator`` is
the one fitted by EM; ``common.mixtures.bayesian`` has the Bayesian one. A framework adds the maths, as a few
small methods.
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

from common.data.arrays import as_array
from common.data.messages import InputError
from common.data.passes import centred, from_zero, pieces, rows_to_predict
from common.mixtures.collapse import check_fit, precisions, precisions_cholesky
from common.mixtures.input import (
    REG_COVAR,
    FitData,
    check_density,
    check_entries,
    check_mixture,
    check_parameters,
    check_start,
    check_table,
    prepare,
)
from common.mixtures.loop import em
from common.mixtures.parameters import MixtureParameters, VariationalPosterior, parameter_shapes
from common.mixtures.start import starting_points


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
        best["precisions_cholesky_"] = precisions_cholesky(best["covariances_"], self.covariance_type, self.reg_covar)
        best["precisions_"] = precisions(best["precisions_cholesky_"], self.covariance_type)
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


def random_source(random_state: Any) -> np.random.RandomState:
    """The source of random numbers that ``random_state`` names."""
    if isinstance(random_state, np.random.Generator):
        raise ValueError(
            "random_state is a NumPy Generator, which scikit-learn's estimators do not take: give an integer, or "
            "np.random.RandomState(generator.bit_generator)"
        )
    try:
        return check_random_state(random_state)
    except (TypeError, ValueError):
        what = "must be an integer from 0 to 2**32 - 1, an np.random.RandomState or None"
        raise InputError("random_state", what, random_state) from None


class MixtureEstimator(MixtureBase):
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
        Seed of the starting values and of ``sample``, which may be given one of its own.
    warm_start : bool, default False
        Start from the last fit instead of ``init_params``.
    verbose, verbose_interval : int, default 0 and 10
        1 prints the course of every run, 2 the lower bound too, every ``verbose_interval`` iterations.
    missing : "error" or "em", default "error"
        What NaN in X means, or a masked entry: an error, or an entry that is missing at random, which EM treats as
        hidden. Then every method takes NaN, densities are those of what was observed, and ``impute`` fills the gaps.
        The covariances must be "full".
    device : str or None, default None
        Where to compute, by the framework's name ("cpu", "cuda"); None is where X is, if it is a tensor, else the
        framework's current device. Checks and starting values are NumPy's, wherever X is, and so are results.

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
        reg_covar=REG_COVAR,
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
        device=None,
    ):
        vars(self).update({name: value for name, value in locals().items() if name != "self"})

    @classmethod
    def from_parameters(
        cls, weights: Any, means: Any, covariances: Any, *, covariance_type: str = "full", **arguments: Any
    ) -> "MixtureEstimator":
        """The mixture with these weights (K,), means (K, D) and covariances, as if it had been fitted.

        It samples, scores and predicts. Lists and integers will do. ``arguments`` are those of the
        constructor.
        """
        weights, means, covariances = check_mixture(weights, means, covariances, covariance_type)
        mixture = cls(len(weights), covariance_type=covariance_type, **arguments)
        check_parameters(mixture)
        mixture.weights_, mixture.means_, mixture.covariances_ = weights, means, covariances
        mixture.precisions_cholesky_ = precisions_cholesky(covariances, covariance_type, mixture.reg_covar)
        mixture.precisions_ = precisions(mixture.precisions_cholesky_, covariance_type)
        mixture.n_features_in_ = means.shape[1]
        return mixture

    def _prepare(self, X: Any, sample_weight: Any) -> tuple[FitData, tuple]:
        """The table and its weights, checked, and the parameters given to start from."""
        check_parameters(self)
        data = prepare(
            check_table(self, X, reset=True),
            self.n_components,
            self.covariance_type,
            self.reg_covar,
            missing=self.missing,
            sample_weight=sample_weight,
            constant=self.reg_covar,
        )
        return data, check_start(self, data)

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """Fit the mixture to X (N, D) and return the most probable component of every point, (N,)."""
        return self.fit(X, y, sample_weight).predict(X)

    def impute(self, X: Any) -> np.ndarray:
        """X (N, D) with every NaN replaced by its expectation given the rest of its row; needs ``missing="em"``."""
        if self.missing != "em":
            raise InputError("missing", "only a mixture with missing='em' imputes; set it and fit", self.missing)
        check_is_fitted(self)
        x, observed = self._rows(X)
        dtype, centre = self.means_.dtype, self._centre
        if observed is None:
            return x.astype(dtype, copy=False)
        with self._place(X):
            tensors = self._tensor(centred(x, centre, dtype)), self._tensor(observed)
            imputed = from_zero(as_array(self._impute(*tensors, self._tensors())), centre)
        return imputed if centre is None else np.where(observed, x.astype(dtype), imputed)

    def bic(self, X: Any) -> float:
        """Bayesian information criterion on X, -2 log p(X) + (number of free parameters) log N; lower is better."""
        return -2 * self.score(X) * len(X) + self._n_parameters() * np.log(len(X))

    def aic(self, X: Any) -> float:
        """Akaike information criterion on X, -2 log p(X) + 2 (number of free parameters); lower is better."""
        return -2 * self.score(X) * len(X) + 2 * self._n_parameters()

    def _n_parameters(self) -> int:
        k, d = self.means_.shape
        of_covariances = {"full": k * d * (d + 1) // 2, "tied": d * (d + 1) // 2, "diag": k * d, "spherical": k}
        return of_covariances[self.covariance_type] + k * d + k - 1

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "em"
        return tags
