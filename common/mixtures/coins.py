"""The sides of the coin models that need no tensors, once for both frameworks.

Counting, the posterior's intervals and tails, starting values, the fit and the messages live here; a framework's
``BetaBernoulli`` and ``CoinMixture`` add the maths.
"""

import copy
import math
import numbers
import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from common import draws
from common.mixtures.beta_tails import beta_credible_interval, beta_log_upper_tail, beta_upper_tail
from common.mixtures.coin_checks import (
    check_count,
    check_level,
    check_positive,
    check_probabilities,
    check_probability,
    check_sequences,
    check_tosses,
)
from common.mixtures.loop import run_em


class BetaBernoulliEstimator:
    """Base of ``BetaBernoulli`` in both frameworks: a Beta prior, the tosses counted, and what needs no gradient.

    Parameters
    ----------
    a, b : float, default 1 and 1
        The prior Beta(a, b) on the probability of heads; Beta(1, 1) is flat.

    Attributes
    ----------
    a, b : float
        The prior's parameters.
    heads, tails : int
        The tosses seen so far.
    """

    def __init__(self, a: float = 1.0, b: float = 1.0) -> None:
        self.a, self.b = check_positive("a", a), check_positive("b", b)
        self.heads, self.tails = 0, 0

    def update(self, tosses: Any) -> "BetaBernoulliEstimator":
        """A new one that has seen these tosses too, (N,) zeros and ones; in whatever portions they come."""
        tosses = check_tosses(tosses)
        updated = copy.copy(self)
        updated.heads += int(tosses.sum())
        updated.tails += len(tosses) - int(tosses.sum())
        return updated

    @property
    def posterior(self) -> tuple[float, float]:
        """The parameters (a + heads, b + tails) of the posterior, a Beta density like the prior."""
        return self.a + self.heads, self.b + self.tails

    def credible_interval(self, level: float = 0.95) -> tuple[float, float]:
        """The interval that holds theta with probability ``level``, with equal probabilities below and above it."""
        return beta_credible_interval(*self.posterior, check_level(level))

    def tail_probability(self, threshold: float) -> float:
        """P(theta > threshold | tosses), with its digits where it is tiny; 0 only if it is below the smallest float."""
        return beta_upper_tail(*self.posterior, check_probability("threshold", threshold))

    def log_tail_probability(self, threshold: float) -> float:
        """The log of P(theta > threshold | tosses) in nats, however small that is."""
        return beta_log_upper_tail(*self.posterior, check_probability("threshold", threshold))

    def __repr__(self) -> str:
        """The prior and the counts."""
        return f"{type(self).__name__}(a={self.a:g}, b={self.b:g}) after {self.heads} heads and {self.tails} tails"

    def _require_tosses(self) -> None:
        if self.heads + self.tails == 0:
            raise ValueError("mle: no toss was seen (heads=0, tails=0); update(tosses) first, or ask for predictive()")

    def _require_mode(self, mode: float) -> float:
        if math.isnan(mode):
            a, b = self.posterior
            what = "is flat" if a == b == 1 else "has a peak at either edge"
            raise ValueError(
                f"map: the posterior Beta({a:g}, {b:g}) {what} and has no mode to prefer; update(tosses) first, or use "
                "a prior with a > 1 and b > 1"
            )
        return mode


class CoinMixtureEstimator(BaseEstimator):
    """Base of ``CoinMixture`` in both frameworks: which of K coins made each sequence of tosses?

    Parameters
    ----------
    n_components : int, default 2
        The number of coins K.
    tol : float, default 1e-8
        EM stops when the log likelihood, in nats, changes by less than this.
    max_iter : int, default 1000
        Most iterations.
    fixed_weights : bool, default False
        Keep the mixing weights at their starting values, and estimate the biases only.
    weights_init : (K,) or None
        Starting weights; all equal if None.
    biases_init : (K,) or None
        Starting probabilities of heads; drawn uniformly if None. Coins that start equal stay equal.
    seed : int, default 0
        Seed of the drawn biases.

    Attributes
    ----------
    weights_, biases_ : arrays (K,)
        The mixture after the last iteration.
    converged_, n_iter_ : bool, int
        Whether the log likelihood settled, and after how many iterations.
    log_likelihoods_ : list of float
        The log likelihood that each iteration started from.
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        tol: float = 1e-8,
        max_iter: int = 1000,
        fixed_weights: bool = False,
        weights_init: Any = None,
        biases_init: Any = None,
        seed: int = 0,
    ) -> None:
        self.n_components = n_components
        self.tol = tol
        self.max_iter = max_iter
        self.fixed_weights = fixed_weights
        self.weights_init = weights_init
        self.biases_init = biases_init
        self.seed = seed

    def fit(self, heads: Any, tosses: Any) -> "CoinMixtureEstimator":
        """Fit the coins to ``heads`` (N,) out of ``tosses``, (N,) or one number for all; returns self."""
        weights, biases = self._start()
        heads, tosses = check_sequences(heads, tosses, self.n_components)
        data = self._tensor(heads), self._tensor(tosses)

        def iterate(parameters: tuple) -> tuple[tuple, Any]:
            return self._em_iteration(*data, parameters)

        def refuse_the_impossible(iteration: int, before: tuple, bound: float) -> None:
            if not np.isfinite(bound):
                n = int(np.flatnonzero(~np.isfinite(np.asarray(self._e_step(*data, before)[0])))[0])
                raise ValueError(
                    f"biases_init={_shown(before[1])}: no coin can show {heads[n]:g} heads in "
                    f"{tosses[n]:g} tosses (position {n}); start from biases inside (0, 1)"
                )

        start = tuple(self._tensor(value.astype(heads.dtype)) for value in (weights, biases))
        result = run_em(iterate, start, tol=self.tol, max_iter=int(self.max_iter), on_iteration=refuse_the_impossible)
        if not result.converged and self.max_iter > 0:
            warnings.warn(
                f"EM stopped at max_iter={self.max_iter} before the log likelihood changed by less than "
                f"tol={self.tol}: raise max_iter or tol, or use other starting values",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.weights_, self.biases_ = (np.asarray(tensor) for tensor in result.parameters)
        self.converged_, self.n_iter_, self.log_likelihoods_ = result.converged, result.n_iter, result.bounds
        return self

    def predict(self, heads: Any, tosses: Any) -> np.ndarray:
        """The most probable coin of every sequence, (N,)."""
        return self.predict_proba(heads, tosses).argmax(axis=1)

    def predict_proba(self, heads: Any, tosses: Any) -> np.ndarray:
        """The responsibilities, (N, K)."""
        log_probability, gamma = self._posterior(heads, tosses)
        if len(bad := np.flatnonzero(~np.isfinite(log_probability))):
            raise ValueError(
                f"heads, tosses: no fitted coin (biases {_shown(self.biases_)}) can have made the sequence at "
                f"position {bad[0]}; leave it out, or fit with it"
            )
        return gamma

    def log_likelihood(self, heads: Any, tosses: Any) -> float:
        """The log likelihood of the sequences in nats, summed over them, binomial coefficients included."""
        return float(self._posterior(heads, tosses)[0].sum())

    def _posterior(self, heads: Any, tosses: Any) -> tuple[np.ndarray, np.ndarray]:
        check_is_fitted(self)
        dtype = self.biases_.dtype
        data = (self._tensor(array.astype(dtype)) for array in check_sequences(heads, tosses, 0))
        log_probability, gamma = self._e_step(*data, (self._tensor(self.weights_), self._tensor(self.biases_)))
        return np.asarray(log_probability), np.asarray(gamma)

    def _start(self) -> tuple[np.ndarray, np.ndarray]:
        k = check_count("n_components", self.n_components, 1)
        check_count("max_iter", self.max_iter)
        check_count("seed", self.seed)
        if not isinstance(self.tol, numbers.Real) or not 0 <= self.tol < math.inf:
            raise ValueError(f"tol={self.tol!r} must be a number of at least 0")
        if not isinstance(self.fixed_weights, bool | np.bool_):
            raise ValueError(f"fixed_weights={self.fixed_weights!r} must be True or False")
        weights = np.full(k, 1 / k) if self.weights_init is None else self.weights_init
        biases = draws.uniforms(int(self.seed), "start", (k,)) if self.biases_init is None else self.biases_init
        weights = check_probabilities("weights_init", weights, k, sum_to_one=True)
        return weights, check_probabilities("biases_init", biases, k)

    # What a framework adds.

    def _tensor(self, array: np.ndarray) -> Any:
        raise NotImplementedError

    def _e_step(self, heads: Any, tosses: Any, parameters: tuple) -> tuple:
        raise NotImplementedError

    def _em_iteration(self, heads: Any, tosses: Any, parameters: tuple) -> tuple:
        raise NotImplementedError


def _shown(biases: Any) -> list[float]:
    """To six digits, in which both frameworks agree."""
    return [float(f"{bias:.6g}") for bias in np.asarray(biases)]
