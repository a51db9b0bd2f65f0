"""The scikit-learn side of `GaussianMixture` and `BayesianGaussianMixture`, without tensors, for both frameworks."""

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from common.data.arrays import as_array
from common.data.chunks import centred, from_zero
from common.data.messages import InputError
from common.mixtures.base import MixtureBase
from common.mixtures.collapse import precisions, precisions_cholesky
from common.mixtures.input import REG_COVAR, FitData, check_density, check_parameters, check_table, prepare
from common.mixtures.parameters import VariationalPosterior, variational_prior
from common.mixtures.start import check_mixture, check_start


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
        The maximum number of iterations; the number of runs from different starts, of which the best is kept.
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


class BayesianMixtureEstimator(MixtureBase):
    """Base of ``BayesianGaussianMixture`` in both frameworks, with scikit-learn's parameters, attributes and methods.

    Full and tied covariances are fitted to scikit-learn's numbers, iteration by iteration. Elsewhere:

    - ``lower_bound_`` is the bound on log p(X), in nats for all points together, with every constant. scikit-learn's
      leaves out whatever depends on the prior and on N, K and D alone: it is no bound, and cannot be compared between
      numbers of components. The two differ by a constant, so that both stop at the same iteration.
    - For "diag" and "spherical" scikit-learn's E step takes E[log |Lambda|] and the bound from a Wishart over full
      matrices, which those precisions do not have; here they are independent Gammas, the E step raises the bound, and
      the bound is one. The M steps are the same, the fits differ by about D^2 / N_k.
      For "tied" the same shifts its ``score_samples`` by a constant, which the responsibilities do not see.
    - The default ``covariance_prior``, the covariance of the data, has ``reg_covar`` added if it is singular.
    - ``predictive_log_density`` is the density of new points. ``score_samples`` is scikit-learn's, the normaliser of
      the E step, which lies below it and does not integrate to one.

    Parameters
    ----------
    n_components : int, default 1
        The maximum number of components K; those that are not needed end with weights near zero.
    covariance_type : "full", "tied", "diag" or "spherical", default "full"
        A precision matrix per component, one for all, a diagonal per component, or one number per component.
    tol : float, default 1e-3
        Iteration stops when the lower bound (of all points together, in nats) changes by less than this.
    reg_covar : float, default 1e-6
        Added to the diagonal of every empirical covariance in the M step; at 0 the bound never falls.
    max_iter, n_init, init_params, random_state, warm_start, verbose, verbose_interval, device :
        As in ``GaussianMixture``.
    weight_concentration_prior_type : "dirichlet_process" or "dirichlet_distribution", default "dirichlet_process"
        Weights broken off a stick, of which K pieces are kept, or K weights with one Dirichlet distribution.
    weight_concentration_prior : float > 0, default 1 / n_components
        Points that each component is taken to have before any are seen; small values empty components.
    mean_precision_prior : float > 0, default 1
        Points that the prior mean is worth.
    mean_prior : array (D,), default the mean of X
    degrees_of_freedom_prior : float > D - 1, default D
    covariance_prior : array (D, D) full, tied | (D,) diag, or float spherical; default the covariance of X
        The inverse scale W_0^-1 of the Wishart.

    Attributes
    ----------
    weights_, means_, covariances_, precisions_, precisions_cholesky_ : arrays
        Expected weights, expected means, inverses of the expected precisions; shapes as in ``GaussianMixture``.
    weight_concentration_ : array (K,), or of a Dirichlet process a tuple of two, the Beta distributions' parameters
    mean_precision_, degrees_of_freedom_ : arrays (K,); the degrees of freedom of a tied precision are one number
    weight_concentration_prior_, mean_precision_prior_, mean_prior_, degrees_of_freedom_prior_, covariance_prior_
        The prior that was used.
    converged_, n_iter_, lower_bound_, lower_bounds_ : bool, int, float, list of float
        Of the best run: whether it converged, its iterations, the bound after the last and after each of them.
    """

    _parameter_type = VariationalPosterior
    _remedy = "fit GaussianMixture(missing='em')"

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
        weight_concentration_prior_type="dirichlet_process",
        weight_concentration_prior=None,
        mean_precision_prior=None,
        mean_prior=None,
        degrees_of_freedom_prior=None,
        covariance_prior=None,
        random_state=None,
        warm_start=False,
        verbose=0,
        verbose_interval=10,
        device=None,
    ):
        vars(self).update({name: value for name, value in locals().items() if name != "self"})

    def _prepare(self, X: Any) -> FitData:
        """The table, checked, and the prior."""
        check_parameters(self)
        x = check_table(self, X, reset=True)
        sizes = self.n_components, self.covariance_type, self.reg_covar
        data = prepare(x, *sizes, method="variational", remedy=self._remedy)
        given = {name: as_array(value, name) for name, value in self.get_params().items() if "_prior" in name}
        return data._replace(prior=variational_prior(data, **given))

    def _fitted_prior(self, data: FitData) -> dict[str, Any]:
        prior = data.prior
        return {
            "weight_concentration_prior_": float(prior.weight_concentration.flat[-1]),
            "mean_precision_prior_": float(prior.mean_precision),
            "mean_prior_": from_zero(prior.mean, data.centre),
            "degrees_of_freedom_prior_": float(prior.degrees_of_freedom),
            "covariance_prior_": prior.covariance if prior.covariance.ndim else float(prior.covariance),
        }

    def fit_predict(self, X: Any, y: Any = None) -> np.ndarray:
        """Fit the posterior to X (N, D) and return the most probable component of every point, (N,)."""
        return self.fit(X, y).predict(X)

    def score_samples(self, X: Any) -> np.ndarray:
        """The log of every point's normaliser in the E step, (N,), as scikit-learn has it: below the log density."""
        return super().score_samples(X)

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of ``score_samples``, in nats."""
        return super().score(X)

    def predictive_log_density(self, X: Any) -> np.ndarray:
        """The log density of new points in nats, (N,), everything unknown integrated out: a mixture of Student t."""
        check_is_fitted(self)
        with self._place(X):
            x = self._tensor(centred(self._rows(X)[0], self._centre, self.means_.dtype))
            log_density = as_array(self._predictive_log_density(x, self._tensors()))
        check_density(log_density)
        return log_density

    def _fitted(self, algorithm: Any, parameters: VariationalPosterior) -> dict[str, Any]:
        fitted = super()._fitted(algorithm, parameters)
        if (concentration := fitted["weight_concentration_"]).ndim == 2:
            fitted["weight_concentration_"] = tuple(concentration)
        return fitted
