"""The sides of the coin models that need no tensors, once for both frameworks.

Counting, the posterior's intervals and tails, starting values, the fit and the checks stand here; a
framework's ``BetaBernoulli`` and ``CoinMixture`` add the maths.
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
from common.data.arrays import as_array
from common.data.messages import InputError, require
from common.mixtures.beta_tails import beta_credible_interval, beta_log_upper_tail, beta_upper_tail
from common.mixtures.loop import em

LARGEST = 1e150  # of a Beta density's parameters; ratios of two are numbers
LEAST = float(np.finfo(np.float64).tiny)  # of probabilities above 0; TensorFlow takes what is smaller for 0
MOST = {"float64": 2**53, "float32": 2**24}  # of counts; beyond, not every whole number is there


class BetaBernoulliEstimator:
    """Base of ``BetaBernoulli`` in both frameworks: a Beta prior, the tosses counted, and what needs no gradient.

    Parameters
    ----------
    a, b : float, default 1 and 1
        The prior Beta(a, b) on the probability of heads; Beta(1, 1) is flat.

    Attributes
    ----------
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
            remedy = "update(tosses) first, or use a prior with a > 1 and b > 1"
            raise ValueError(f"map: the posterior Beta({a:g}, {b:g}) {what} and has no mode to prefer; {remedy}")
        return mode


class CoinMixtureEstimator(BaseEstimator):
    """Base of ``CoinMixture`` in both frameworks: which of K coins made each sequence of tosses?

    A framework adds ``_tensor(array)``, and ``_e_step`` and ``_em_iteration`` of (heads, tosses, parameters).

    Parameters
    ----------
    n_components : int, default 2
        The number of coins K.
    tol : float, default 1e-8
        EM stops when the log likelihood, in nats, changes by less than this.
    max_iter : int, default 1000
        The maximum number of iterations.
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
        vars(self).update({name: value for name, value in locals().items() if name != "self"})

    def fit(self, heads: Any, tosses: Any) -> "CoinMixtureEstimator":
        """Fit the coins to ``heads`` (N,) out of ``tosses``, (N,) or one number for all; returns self."""
        start = self._start()
        heads, tosses = check_sequences(heads, tosses, self.n_components)
        data = self._tensor(heads), self._tensor(tosses)
        parameters, log_likelihoods = tuple(self._tensor(v.astype(heads.dtype)) for v in start), []
        self.converged_ = False
        numbers = range(1, int(self.max_iter) + 1)
        for step in em(lambda p: self._em_iteration(*data, p), parameters, numbers, self.tol):
            if not math.isfinite(step.bound):
                log_probabilities = np.asarray(self._e_step(*data, step.before)[0])
                n, biases = int(np.flatnonzero(~np.isfinite(log_probabilities))[0]), _six_digits(step.before[1])
                where = f"{heads[n]:g} heads in {tosses[n]:g} tosses (position {n}); start from biases inside (0, 1)"
                raise ValueError(f"biases_init={biases}: no coin can show {where}")
            parameters, self.converged_ = step.after, step.converged
            log_likelihoods.append(step.bound)
        self.weights_, self.biases_ = map(np.asarray, parameters)
        self.n_iter_, self.log_likelihoods_ = len(log_likelihoods), log_likelihoods
        if not self.converged_ and self.max_iter > 0:
            still = f"before the log likelihood changed by less than tol={self.tol}"
            remedy = "raise max_iter or tol, or use other starting values"
            what = f"EM stopped at max_iter={self.max_iter} {still}: {remedy}"
            warnings.warn(what, ConvergenceWarning, stacklevel=2)
        return self

    def predict(self, heads: Any, tosses: Any) -> np.ndarray:
        """The most probable coin of every sequence, (N,)."""
        return self.predict_proba(heads, tosses).argmax(axis=1)

    def predict_proba(self, heads: Any, tosses: Any) -> np.ndarray:
        """The responsibilities, (N, K)."""
        log_probability, gamma = self._posterior(heads, tosses)
        if len(bad := np.flatnonzero(~np.isfinite(log_probability))):
            where = f"can have made the sequence at position {bad[0]}; leave it out, or fit with it"
            raise ValueError(f"heads, tosses: no fitted coin (biases {_six_digits(self.biases_)}) {where}")
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
        valid = isinstance(self.tol, numbers.Real) and 0 <= self.tol < math.inf
        require(valid, "tol", "must be a number of at least 0", self.tol)
        is_bool = isinstance(self.fixed_weights, bool | np.bool_)
        require(is_bool, "fixed_weights", "must be True or False", self.fixed_weights)
        weights = np.full(k, 1 / k) if self.weights_init is None else self.weights_init
        biases = draws.uniforms(int(self.seed), "start", (k,)) if self.biases_init is None else self.biases_init
        weights = check_probabilities("weights_init", weights, k, sum_to_one=True)
        return weights, check_probabilities("biases_init", biases, k)


def check_positive(name: str, value: Any) -> float:
    """A positive, finite number as a float."""
    number = _number(name, value)
    positive = "is no parameter of a Beta density: give a positive, finite number"
    require(0 < number < math.inf, name, positive, value)
    extreme = f"is too extreme: give a number from {1 / LARGEST:g} to {LARGEST:g}"
    require(1 / LARGEST <= number <= LARGEST, name, extreme, value)
    return number


def check_probability(name: str, value: Any) -> float:
    """A number in [0, 1] as a float."""
    number = _number(name, value)
    require(0 <= number <= 1, name, "is no probability: give a number in [0, 1]", value)
    small = f"is too small to be told from 0: give 0, or {LEAST:.2g} or more"
    require(number == 0 or number >= LEAST, name, small, value)
    return number


def check_level(level: Any) -> float:
    """The level of a credible interval, strictly between 0 and 1."""
    number = _number("level", level)
    require(0 < number < 1, "level", "must lie strictly between 0 and 1: give 0.95 for 95 %", level)
    return number


def check_count(name: str, value: Any, least: int = 0) -> int:
    """A whole number of at least ``least`` as an int."""
    number, most = _number(name, value), MOST["float64"]
    whole = math.isfinite(number) and number == math.floor(number) and number >= least
    require(whole, name, f"must be a whole number of at least {least}", value)
    require(number <= most, name, f"is more than {most}, up to which double precision counts", value)
    return int(number)


def check_tosses(tosses: Any) -> np.ndarray:
    """Tosses as float64 zeros and ones, (N,); N may be 0."""
    array = _array("tosses", tosses)
    shape = f"has shape {array.shape}, not (N,): give one sequence of zeros and ones"
    require(array.ndim == 1, "tosses", shape)
    _check_entries("tosses", array, (array == 0) | (array == 1), ": give 1 for heads, 0 for tails")
    return array.astype(np.float64)


def check_sequences(heads: Any, tosses: Any, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Heads (N,) out of tosses, (N,) or one number for all, as arrays of one float dtype; N at least n_components."""
    heads, tosses = _array("heads", heads), _array("tosses", tosses)
    dtype = np.dtype(np.float32 if heads.dtype == np.float32 else np.float64)
    shape, most = f"has shape {heads.shape}, not (N,): give one number of heads for each sequence", MOST[dtype.name]
    require(heads.ndim == 1, "heads", shape)
    shape = f"has shape {tosses.shape} where heads has {heads.shape}: give one number for each sequence, or one for all"
    require(tosses.shape in ((), heads.shape), "tosses", shape)
    tosses = np.broadcast_to(tosses, heads.shape)
    for name, array, least in (("heads", heads, 0), ("tosses", tosses, 1)):
        whole = np.isfinite(array) & (array >= least) & (array == np.floor(array))
        _check_entries(name, array, whole, f": give whole numbers of at least {least}")
        _check_entries(name, array, array <= most, f": give at most {most}, up to which {dtype.name} counts")
    if len(bad := np.flatnonzero(heads > tosses)):
        n = bad[0]
        what = f"has {heads[n]:g} at position {n}, more than the {tosses[n]:g} tosses: correct either"
        raise InputError("heads", what)
    few = f"has {len(heads)} sequences, fewer than n_components={n_components}"
    require(len(heads) >= n_components, "heads", f"{few}: give more sequences or ask for fewer coins")
    return heads.astype(dtype), tosses.astype(dtype)


def check_probabilities(name: str, values: Any, n_components: int, sum_to_one: bool = False) -> np.ndarray:
    """Probabilities (K,) in [0, 1] as float64, which sum to one where asked to."""
    array = _array(name, values).astype(np.float64)
    shape = f"has shape {array.shape}: give n_components={n_components} numbers"
    require(array.shape == (n_components,), name, shape)
    _check_entries(name, array, (array >= 0) & (array <= 1), ": give numbers in [0, 1]")
    too_small = f", too small to be told from 0: give 0, or {LEAST:.2g} or more"
    _check_entries(name, array, (array == 0) | (array >= LEAST), too_small)
    total = array.sum()
    far = f"sums to {total:g}: divide it by its sum so that it sums to 1"
    require(not sum_to_one or abs(total - 1) <= 1e-6, name, far)
    return array / total if sum_to_one else array


def _check_entries(name: str, array: np.ndarray, valid: np.ndarray, remedy: str) -> None:
    if len(bad := np.flatnonzero(~valid)):
        raise InputError(name, f"has the entry {array[bad[0]]:g} at position {bad[0]}{remedy}")


def _number(name: str, value: Any) -> float:
    array = np.asarray(as_array(value, name))
    require(array.shape == () and array.dtype.kind in "fiub", name, "is not a number: give one number", value)
    return float(array)


def _array(name: str, values: Any) -> np.ndarray:
    values = as_array(values, name)
    try:
        array = np.asarray(values)
    except ValueError:
        raise InputError(name, "is a list of lists of different lengths: give one sequence of numbers") from None
    array = array if array.size else array.astype(np.float64)
    require(array.dtype.kind in "fiub", name, f"holds {array.dtype.name} values: give numbers")
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _six_digits(biases: Any) -> list[float]:
    """The biases to six digits, in which both frameworks agree."""
    return [float(f"{bias:.6g}") for bias in np.asarray(biases)]
