"""The models as scikit-learn's users know them: data in, a fitted object out; the maths is in the chapters.

Each class adds the framework's tensors and the chapters' functions to what is shared in `common.mixtures`:
arguments, checks, starting values, restarts, predictions.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from common.mixtures.coins import (
    BetaBernoulliEstimator,
    CoinMixtureEstimator,
    check_count,
    check_probability,
    check_tosses,
)
from common.mixtures.estimators import BayesianMixtureEstimator, MixtureEstimator
from common.mixtures.parameters import MixtureParameters, VariationalPosterior
from tf2_impl import coin, coin_mixture, gmm, missing_data, variational_gmm
from tf2_impl.algorithms import algorithm_for, quickest_e_step
from tf2_impl.backend import at_device, in_order, one_thread_each, outside_autocast, shared
from tf2_impl.graphs import traced


class BetaBernoulli(BetaBernoulliEstimator):
    """A coin with a Beta(a, b) prior on its bias, and what the tosses seen so far say about it.

    `update(tosses)` gives a new one that has seen more. Tosses may be lists, NumPy arrays, PyTorch or
    TensorFlow tensors; results are floats, in float64. Input is checked here, and a ValueError says what to
    do. What needs no tensors is in `common.mixtures.coins.BetaBernoulliEstimator`: the posterior, intervals
    and tail probabilities.
    """

    def mle(self) -> float:
        """The maximum likelihood estimate of theta from the tosses seen; ValueError if there were none."""
        self._require_tosses()
        return float(coin.maximum_likelihood(*self._tensors(self.heads, self.tails)))

    def map(self) -> float:
        """The mode of the posterior; ValueError if it has none to prefer."""
        return self._require_mode(
            float(coin.maximum_a_posteriori(*self._tensors(self.heads, self.tails, self.a, self.b)))
        )

    def predictive(self) -> float:
        """The probability that the next toss shows heads."""
        return float(coin.predictive(*self._tensors(self.heads, self.tails, self.a, self.b)))

    def predictive_log_probability(self, new_heads: int, new_tails: int) -> float:
        """The log probability of so many heads and tails, in any order, in the tosses to come, in nats."""
        counts = check_count("new_heads", new_heads), check_count("new_tails", new_tails)
        return float(coin.predictive_log_probability(*self._tensors(*counts, *self.posterior)))

    def log_evidence(self, tosses: Any) -> float:
        """The log probability of these tosses given those seen before, in nats, theta averaged out."""
        return float(coin.log_evidence_by_prediction(*self._tensors(check_tosses(tosses), *self.posterior)))

    def log_likelihood(self, tosses: Any, theta: float) -> float:
        """The log probability of these tosses if the bias is theta, in nats."""
        return float(coin.log_likelihood(*self._tensors(check_tosses(tosses), check_probability("theta", theta))))

    def log_density(self, theta: float) -> float:
        """The log of the posterior density at theta."""
        return float(coin.beta_log_density(*self._tensors(check_probability("theta", theta), *self.posterior)))

    def _tensors(self, *values: Any) -> list[Tensor]:
        return [tf.constant(value, dtype=tf.float64) for value in values]


@outside_autocast
class CoinMixture(CoinMixtureEstimator):
    """A mixture of coins, fitted by the functions of `coin_mixture.py`.

    `fit(heads, tosses)` takes lists, NumPy arrays, PyTorch or TensorFlow tensors; results are NumPy arrays.
    Input is checked, and a ValueError says what to do. See `common.mixtures.coins.CoinMixtureEstimator` for
    parameters, attributes and all that is not maths.
    """

    def _tensor(self, array: np.ndarray) -> Tensor:
        return tf.constant(array)

    def _e_step(self, heads: Tensor, tosses: Tensor, parameters: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return coin_mixture.e_step(heads, tosses, *parameters)

    def _em_iteration(
        self, heads: Tensor, tosses: Tensor, parameters: tuple[Tensor, Tensor]
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        return coin_mixture.em_iteration(heads, tosses, *parameters, self.fixed_weights)


@outside_autocast
class MixtureMaths:
    """What both mixtures of Gaussians take from the chapters."""

    covariance_type: str
    device: str | None = None

    def _place(self, X: Any) -> AbstractContextManager:
        return at_device(self.device, X)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return shared(array)

    def _coefficients(self, parameters: Any) -> tuple[Any, Callable, tuple[Tensor, ...]]:
        return parameters, *quickest_e_step(parameters, self.covariance_type)

    def _e_step(
        self,
        x: Tensor,
        observed: Tensor | None,
        parameters: Any,
        e_step: Callable[..., tuple[Tensor, Tensor]],
        coefficients: tuple[Tensor, ...],
    ) -> tuple[Tensor, Tensor]:
        if observed is not None:
            return missing_data.e_step(x, observed, *parameters)
        return traced(e_step)(x, *coefficients, self.covariance_type)

    def _in_order(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return in_order(function, items)

    def _of_each_row(self, X: Any, function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        with one_thread_each():
            return super()._of_each_row(X, function)

    def _sample(self, parameters: tuple[Tensor, ...], uniforms: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        return gmm.sample(*parameters, uniforms, noise, self.covariance_type)


@outside_autocast
class GaussianMixture(MixtureMaths, MixtureEstimator):
    """A mixture of Gaussians with scikit-learn's interface, fitted by the functions of `gmm.py`.

    Parameters, attributes and methods are those of `sklearn.mixture.GaussianMixture`; `fit` also takes
    `sample_weight`. NumPy arrays, PyTorch tensors and TensorFlow tensors are accepted; results are NumPy
    arrays. Data of more than a chunk are fitted by `gmm_statistics`, chunk by chunk, to the same parameters.
    See `common.mixtures.estimators.MixtureEstimator` for all that is not maths.
    """

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "GaussianMixture":
        """Fit the mixture to X (N, D) by EM, row n counting `sample_weight[n]` times; returns self."""
        with self._place(X):
            data, start = self._prepare(X, sample_weight)
            # with gaps, blocks of rows follow one another, and each operation takes all threads
            with one_thread_each() if data.observed is None else nullcontext():
                self._fit(data, algorithm_for(data, self._tensor), start)
        return self

    def _impute(self, x: Tensor, observed: Tensor, parameters: MixtureParameters) -> Tensor:
        return missing_data.impute(x, observed, *parameters)


@outside_autocast
class BayesianGaussianMixture(MixtureMaths, BayesianMixtureEstimator):
    """A Bayesian mixture of Gaussians with scikit-learn's interface, fitted by `variational_gmm.py`.

    Parameters, attributes and methods are those of `sklearn.mixture.BayesianGaussianMixture`; beyond them,
    `predictive_log_density`. NumPy arrays, PyTorch tensors and TensorFlow tensors are accepted; results are
    NumPy arrays. See `common.mixtures.estimators.BayesianMixtureEstimator` for all that is not maths, and for
    where the numbers differ from scikit-learn's.
    """

    def fit(self, X: Any, y: Any = None) -> "BayesianGaussianMixture":
        """Fit the posterior to X (N, D) by variational inference; returns self."""
        with self._place(X), one_thread_each():
            data = self._prepare(X)
            self._fit(data, algorithm_for(data, self._tensor))
        return self

    def _predictive_log_density(self, x: Tensor, posterior: VariationalPosterior) -> Tensor:
        return variational_gmm.predictive_log_density(x, posterior, self.covariance_type)
