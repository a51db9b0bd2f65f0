"""The scikit-learn side of the mixture fitted by EM: everything that needs no tensors, once for both frameworks.

Parameters, data, starting values and what is fitted are here; what any mixture does is in ``common.mixtures.base``, and
a framework's ``GaussianMixture`` adds only the maths, as a few small methods.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from common.data.arrays import as_array
from common.data.centring import Centred, centred, from_zero
from common.data.passes import Chunks, chunk_rows, pieces, rows_of_chunks, rows_to_start_from, spread_rows, take_rows
from common.mixtures.base import MixtureBase
from common.mixtures.given import check_mixture, check_start
from common.mixtures.input import (
    check_distinct,
    check_enough,
    check_parameters,
    check_points,
    check_size,
    check_spread,
    covariance_shape,
    feature_variances,
    precisions,
    precisions_cholesky,
)
from common.mixtures.missing import check_missing, mean_imputed
from common.mixtures.second_look import doubtful, summed_again
from common.mixtures.start import initial_responsibilities


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
        hidden; then every method takes NaN, densities are those of what was observed, and ``impute`` fills the gaps
        in. The covariances must be "full".

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

    @classmethod
    def from_parameters(
        cls, weights: Any, means: Any, covariances: Any, *, covariance_type: str = "full", **arguments: Any
    ) -> "MixtureEstimator":
        """The mixture with these weights (K,), means (K, D) and covariances, as if it had been fitted.

        It samples, scores and predicts. Lists and integers will do. ``arguments`` are those of the constructor.
        """
        weights, means, covariances = check_mixture(weights, means, covariances, covariance_type)
        mixture = cls(len(weights), covariance_type=covariance_type, **arguments)
        check_parameters(mixture)
        mixture.weights_, mixture.means_, mixture.covariances_ = weights, means, covariances
        mixture.precisions_cholesky_ = precisions_cholesky(covariances, covariance_type, mixture.reg_covar)
        mixture.precisions_ = precisions(mixture.precisions_cholesky_, covariance_type)
        mixture.n_features_in_ = means.shape[1]
        return mixture

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "MixtureEstimator":
        """Fit the mixture to X (N, D) by EM, row n counting ``sample_weight[n]`` times; returns self."""
        check_parameters(self)
        x, observed, weight = self._training_data(X, sample_weight)
        filled = x if observed is None else mean_imputed(x, observed)
        sizes, centre = check_size("X", filled, reg_covar=self.reg_covar)
        check_spread("X", filled, self.covariance_type, self.reg_covar)
        check_distinct("X", filled, self.n_components)
        start = check_start(self, x.shape[1], x.dtype, centre)
        if centre is not None:
            x = Centred(x, centre, x.dtype) if self._in_chunks(x, observed) else centred(x, centre)
        if observed is not None:
            x = np.where(observed, x, x.dtype.type(0))
        self._fit((x, observed, weight), sizes, start, centre)
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """Fit the mixture to X (N, D) and return the most probable component of every point, (N,)."""
        return self.fit(X, y, sample_weight).predict(X)

    def impute(self, X: Any) -> np.ndarray:
        """X (N, D) with every NaN replaced by its expectation given the rest of its row; needs ``missing="em"``."""
        if self.missing != "em":
            raise ValueError(f"missing={self.missing!r}: only a mixture with missing='em' imputes; set it and fit")
        check_is_fitted(self)
        x, observed = check_points(self, X, reset=False)
        dtype, centre = self.means_.dtype, self._centre
        if observed is None:
            return x.astype(dtype, copy=False)
        tensors = self._tensor(centred(x, centre, dtype)), self._tensor(observed)
        imputed = from_zero(np.asarray(self._impute(*tensors, self._parameters())), centre)
        return imputed if centre is None else np.where(observed, x.astype(dtype), imputed)

    def bic(self, X: Any) -> float:
        """Bayesian information criterion on X, -2 log p(X) + (number of free parameters) log N; lower is better."""
        return -2 * self.score(X) * len(X) + self._n_parameters() * np.log(len(X))

    def aic(self, X: Any) -> float:
        """Akaike information criterion on X, -2 log p(X) + 2 (number of free parameters); lower is better."""
        return -2 * self.score(X) * len(X) + 2 * self._n_parameters()

    def _summed_again(
        self, data: tuple[np.ndarray | None, ...], parameters: tuple, least: np.ndarray, last: bool
    ) -> np.ndarray:
        (x, observed, weight), kind, fitted = data, self.covariance_type, self._fitted(parameters)
        covariances, means = fitted["covariances_"], fitted["means_"]
        # on the way, to confirm that one has collapsed; at the end, to see what the rounding of large sums may hide
        chosen = doubtful(covariances, kind, least, len(x) if last else 1)
        if not chosen.any():
            return covariances
        if observed is not None:
            return self._rescaled(data, parameters, chosen)

        def parts() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for start, points in pieces(x, chunk_rows(x.shape[1], self.n_components)):
                gamma = np.asarray(self._e_step(self._tensor(np.asarray(points)), None, parameters)[1])
                yield np.asarray(points), gamma if weight is None else gamma * weight[start : start + len(points), None]

        again = summed_again(parts(), means, kind, chosen)
        if not np.all(np.isfinite(again)):  # a matrix without a factor has no responsibilities
            return covariances
        again = again + self.reg_covar * (np.eye(x.shape[1]) if kind in ("full", "tied") else 1.0)
        pick = chosen.reshape((-1,) + (1,) * (covariances.ndim - 1)) if kind != "tied" else chosen[0]
        return np.where(pick, again.astype(covariances.dtype), covariances)

    def _rescaled(self, data: tuple[np.ndarray, ...], parameters: tuple, chosen: np.ndarray) -> np.ndarray:
        """With gaps: the chosen covariances, their variances no larger than those of the entries observed."""
        (x, observed, weight), fitted = data, self._fitted(parameters)
        covariances, means = fitted["covariances_"], fitted["means_"]
        gamma = np.asarray(self._e_step(self._tensor(x), self._tensor(observed), parameters)[1])
        gamma = gamma if weight is None else gamma * weight[:, None]
        columns = [(x[seen, i : i + 1], gamma[seen], means[:, i : i + 1]) for i, seen in enumerate(observed.T)]
        variances = np.column_stack([summed_again([(c, g)], mean, "diag", chosen) for c, g, mean in columns])
        old = feature_variances(covariances, "full")
        ratio = (variances + self.reg_covar) / np.maximum(old, np.finfo(old.dtype).tiny)
        scale = np.where(chosen[:, None] & np.isfinite(ratio), np.sqrt(np.minimum(ratio, 1)), 1).astype(old.dtype)
        return covariances * scale[:, :, None] * scale[:, None, :]

    def _iterate(self, tensors: tuple, parameters: tuple) -> tuple[tuple, float]:
        x, observed, weight = tensors  # weights have a mean of 1
        parameters, total = self._em_iteration(x, observed, parameters, weight)
        return parameters, float(total) / x.shape[0]

    def _fitted(self, parameters: tuple) -> dict[str, Any]:
        return dict(zip(("weights_", "means_", "covariances_"), map(np.asarray, parameters), strict=True))

    def _starting_parameters(self, data: tuple, start: tuple, random_state: np.random.RandomState) -> tuple:
        x, observed, weight = data
        given = [None if value is None else self._tensor(value) for value in start]
        if all(value is not None for value in given):
            return tuple(given)
        filled = x if observed is None else mean_imputed(x, observed)
        if (size := rows_to_start_from(*x.shape)) < len(x):
            rows = spread_rows(len(x), random_state.uniform(size=size))
            filled, weight = take_rows(filled, rows), None if weight is None else weight[rows]
        filled = np.asarray(filled)
        gamma = initial_responsibilities(filled, self.n_components, self.init_params, random_state, weight)
        if self._in_chunks(filled, None):
            gamma = gamma if weight is None else gamma * weight[:, None]
            estimated = self._m_step(self._chunks(filled, gamma), None, None)
        else:
            weight = None if weight is None else self._tensor(weight)
            estimated = self._m_step(self._tensor(filled), self._tensor(gamma), weight)
        return tuple(g if g is not None else e for g, e in zip(given, estimated, strict=True))

    def _training_data(self, X: Any, sample_weight: Any) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        x, observed = check_points(self, X, reset=True)
        check_enough(x, self.n_components)
        if sample_weight is None:
            return x, observed, None
        weight = _check_sample_weight(
            as_array(sample_weight, "sample_weight"), x, dtype=x.dtype, ensure_non_negative=True
        )
        # only ratios matter; a subnormal weight counts as zero, as in TensorFlow
        weight = weight / max(weight.max(), np.finfo(x.dtype).tiny)
        weight[weight < np.finfo(x.dtype).tiny] = 0
        if np.count_nonzero(weight) < max(2, self.n_components):
            raise ValueError(
                f"sample_weight leaves {np.count_nonzero(weight)} points of positive weight, fewer than "
                f"n_components={self.n_components} or than 2: give weight to more points"
            )
        # rows of weight zero are not there; a mean of 1 keeps N_k away from rounding
        seen = weight > 0
        if not seen.all():
            x, weight = x[seen], weight[seen]
        if observed is not None:
            x, observed = check_missing(np.where(observed[seen], x, np.nan), "X")
        return x, observed, weight / weight.mean()

    def _training_tensors(self, data: tuple[np.ndarray | None, ...]) -> tuple:
        """The data as tensors, or, if they are more than a chunk, in chunks."""
        x, observed, weight = data
        if self._in_chunks(x, observed):
            return self._chunks(x, weight), None, None
        return super()._training_tensors(data)

    def _in_chunks(self, x: np.ndarray, observed: np.ndarray | None) -> bool:
        return self._takes_chunks and observed is None and len(x) > chunk_rows(x.shape[1], self.n_components)

    def _chunks(self, x: np.ndarray, beside: np.ndarray | None) -> Chunks:
        return Chunks(x, beside, rows_of_chunks(*x.shape, self.n_components), self._tensor, x.dtype)

    def _last_parameters(self, x: np.ndarray, centre: np.ndarray | None) -> tuple:
        k, d, kind = self.n_components, x.shape[1], self.covariance_type
        shape = covariance_shape(k, d, kind)
        if self.means_.shape != (k, d) or self.covariances_.shape != shape:
            raise ValueError(
                f"warm_start=True: the last fit: means {self.means_.shape} and covariances {self.covariances_.shape}; "
                f"{(k, d)} and {shape} are needed: set warm_start=False"
            )
        means = self._means_from(centre)
        return tuple(self._tensor(v.astype(x.dtype)) for v in (self.weights_, means, self.covariances_))

    def _parameters(self) -> tuple:
        return tuple(map(self._tensor, (self.weights_, self._means_from(self._centre), self.covariances_)))

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

    def _m_step(self, x: Any, gamma: Any, sample_weight: Any) -> tuple:
        raise NotImplementedError

    def _em_iteration(self, x: Any, observed: Any, parameters: tuple, sample_weight: Any) -> tuple:
        raise NotImplementedError

    def _impute(self, x: Any, observed: Any, parameters: tuple) -> Any:
        raise NotImplementedError
