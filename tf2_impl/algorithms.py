r"""Five ways to fit a mixture, with one contract: what the estimators and the training script ask of a model.

    start(points, gamma)             the parameters of a first M step, from points (N, D), responsibilities (N, K)
    iterate(parameters)              the parameters after one E step and one M step, and the objective in nats
    objective(parameters)            the objective of these parameters
    mixture(parameters)              the weights, means and covariances, of a posterior those that are expected
    responsibilities(parameters, x)  of any points (N, D), or of what was observed of them, as arrays

The maths is in the chapters; here stands which chapter's. Parameters are the tensors of a `MixtureParameters`
or, after variational inference, of a `VariationalPosterior`. The objective that `iterate` gives is that of
the parameters before it, and of a posterior after it. `algorithm_for` chooses, by what the data are and what
is asked for.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from common.data.arrays import as_array
from common.data.chunks import Chunks, pays_in_chunks, rows_of_chunks
from common.mixtures.input import FitData
from common.mixtures.parameters import MixtureParameters, VariationalPosterior, VariationalPrior
from tf2_impl import conjugate, em, gmm, gmm_statistics, missing_data, natural_parameters, variational_gmm
from tf2_impl.backend import compiled, is_card, numbers_in_a_chunk, outside_autocast
from tf2_impl.distributed import Workers
from tf2_impl.gmm_statistics import maximised
from tf2_impl.graphs import traced
from tf2_impl.natural_parameters import bayes_rule, expanded, fast_features, lost_digits, variances_of, whitening

Convert = Callable[[np.ndarray], Tensor]


@outside_autocast
class ExpectationMaximisation:
    """Maximum likelihood, of points in memory: the chapter on mixtures."""

    in_chunks, watched = False, True

    def __init__(self, data: FitData, tensor: Convert) -> None:
        self.data, self.tensor = data, tensor
        self.kind, self.reg_covar = data.covariance_type, data.reg_covar
        self.prior = None if data.prior is None else data.prior._make(map(tensor, data.prior))
        if not self.in_chunks:
            arrays = data.x, data.observed, data.weight  # (N, D), (N, D), (N,)
            self.x, self.observed, self.weight = (None if array is None else tensor(array) for array in arrays)

    def start(self, points: np.ndarray, gamma: np.ndarray) -> MixtureParameters:
        """The M step of these responsibilities, times the points' weights; chunk by chunk if there are many points."""
        if pays_in_chunks(*points.shape, gamma.shape[1], self.kind):
            chunks = self.data.chunks(points, gamma, self.tensor, numbers_in_a_chunk())
            return MixtureParameters(*gmm_statistics.m_step(chunks, self.kind, self.reg_covar))
        m_step = traced(gmm.m_step, (0, 1))
        return MixtureParameters(*m_step(self.tensor(points), self.tensor(gamma), self.kind, self.reg_covar))

    def iterate(self, parameters: MixtureParameters) -> tuple[MixtureParameters, Tensor]:
        """One E step and one M step, and the log likelihood of the old parameters."""
        iterate = traced(gmm.em_iteration, (0, 6))
        updated, total = iterate(self.x, *parameters, self.kind, self.reg_covar, self.weight)
        return MixtureParameters(*updated), total

    def objective(self, parameters: MixtureParameters) -> Tensor:
        """The log likelihood of these parameters."""
        return self.iterate(parameters)[1]

    def mixture(self, parameters: MixtureParameters) -> MixtureParameters:
        """The parameters themselves."""
        return parameters

    def responsibilities(
        self, parameters: MixtureParameters, x: np.ndarray, observed: np.ndarray | None = None
    ) -> np.ndarray:
        """The responsibilities (N, K) of points (N, D), or of what was observed of them."""
        mask = None if observed is None else self.tensor(observed)
        return np.asarray(as_array(e_step(self.tensor(x), mask, parameters, self.kind)[1]))


@outside_autocast
class MaximumAPosteriori(ExpectationMaximisation):
    """The most probable parameters under a prior: the chapter on EM in general."""

    def iterate(self, parameters: MixtureParameters) -> tuple[MixtureParameters, Tensor]:
        """One E step and one M step, and the log likelihood plus log prior of the old parameters."""
        updated, total = traced(em.map_em_iteration)(self.x, *parameters, self.prior)
        return MixtureParameters(*updated), total


@outside_autocast
class WithGaps(ExpectationMaximisation):
    """Maximum likelihood of what was observed: the chapter on missing data."""

    def iterate(self, parameters: MixtureParameters) -> tuple[MixtureParameters, Tensor]:
        """One E step and one M step, and the log likelihood of what was observed under the old parameters."""
        x, observed = self.x, self.observed
        updated, total = gmm_statistics.em_iteration_with_gaps(x, observed, *parameters, self.reg_covar, self.weight)
        return MixtureParameters(*updated), total


@outside_autocast
class InChunks(ExpectationMaximisation):
    """Maximum likelihood by sufficient statistics, chunk by chunk; each of several workers has a share of the rows."""

    in_chunks = True

    def __init__(self, data: FitData, tensor: Convert, workers: Workers) -> None:
        super().__init__(data, tensor)
        self.workers = workers
        self.chunks = placed(data.chunks_of_worker(tensor, workers.rank, workers.size, numbers_in_a_chunk()))

    def iterate(self, parameters: MixtureParameters) -> tuple[MixtureParameters, Tensor]:
        """One E step and one M step, and the log likelihood of the old parameters, of all workers' points."""
        updated, total = gmm_statistics.em_iteration(self.chunks, *parameters, self.kind, self.reg_covar, self.workers)
        return MixtureParameters(*updated), total


@outside_autocast
class OnFeatures(InChunks):
    """The same on a GPU with room for the features of all points: they are computed once, and stay there.

    They are seen from the points' mean, so an iteration is two products and little else: nothing in it waits,
    and what is read at its end is the log likelihood and how many digits were lost. If too many were, the
    iteration is done again, as `InChunks` does it. Whether a component has collapsed is seen at the end.
    """

    watched = False

    def __init__(self, data: FitData, tensor: Convert, workers: Workers) -> None:
        super().__init__(data, tensor, workers)
        ((x, row_weights),) = self.chunks
        self.centre = tf.reduce_sum(row_weights[:, None] * x, axis=0) / tf.reduce_sum(row_weights)  # (D,)
        self.features, self.row_weights = fast_features(x, self.centre, self.kind), row_weights  # (P, N), (N,)
        self.iteration = compiled(self.iteration)

    def iterate(self, parameters: MixtureParameters) -> tuple[MixtureParameters, float]:
        """One E step and one M step, and the log likelihood of the old parameters."""
        apart = whitening(*parameters, self.kind)  # not part of the graph: GPUs' libraries cannot record it
        updated, read = self.iteration(parameters.means, parameters.covariances, *apart)
        total, lost = as_array(read).tolist()
        if not lost <= gmm_statistics.LOST[parameters.means.dtype]:
            return super().iterate(parameters)
        return MixtureParameters(*updated), total

    def iteration(self, means: Tensor, covariances: Tensor, whiten: Tensor, constant: Tensor) -> tuple[tuple, Tensor]:
        """The new parameters; and, (2,), the log likelihood of the old ones and the binary digits that were lost."""
        kind, centre = self.kind, self.centre
        squares = tf.square(means - centre) + variances_of(means, covariances, kind)  # (K, D)
        lost = lost_digits(squares, covariances, kind)  # ()
        coefficients = expanded(means, centre, whiten, constant, kind)  # (K, P)
        log_density, gamma = bayes_rule(coefficients @ self.features)  # (N,), (K, N)
        total = tf.tensordot(self.row_weights, log_density, 1)  # ()
        moments = tf.matmul(gamma * self.row_weights, self.features, transpose_b=True)  # (K, P)
        updated, lost_after = maximised(moments, tf.broadcast_to(centre, means.shape), kind, self.reg_covar)
        return updated, tf.stack([total, tf.maximum(lost, lost_after)])


@outside_autocast
class Variational(ExpectationMaximisation):
    """A posterior over all parameters: the chapter on the Bayesian mixture."""

    def start(self, points: np.ndarray, gamma: np.ndarray) -> VariationalPosterior:
        """The variational M step of these responsibilities, of all points."""
        of_mixture = super().start(points, gamma)
        counts = tf.reduce_sum(self.tensor(gamma), axis=0)  # (K,)
        counted = variational_gmm.summed(counts, of_mixture.means, of_mixture.covariances, self.kind)
        return traced(variational_gmm.m_step, ())(counted, self.prior, self.kind)

    def iterate(self, parameters: VariationalPosterior) -> tuple[VariationalPosterior, Tensor]:
        """One E step and one M step, and the lower bound of the new posterior."""
        iterate = traced(variational_gmm.variational_iteration)
        return iterate(self.x, parameters, self.prior, self.kind, self.reg_covar)

    def objective(self, parameters: VariationalPosterior) -> Tensor:
        """The lower bound of this posterior, with the responsibilities that are best for it."""
        gamma = variational_gmm.e_step(self.x, parameters, self.kind)[1]  # (N, K)
        counted = variational_gmm.statistics(self.x, gamma, self.kind, self.reg_covar)
        return sum(variational_gmm.bound_terms(counted, gamma, parameters, self.prior, self.kind))

    def mixture(self, parameters: VariationalPosterior) -> MixtureParameters:
        """The expected weights and means, and the inverses of the expected precisions."""
        weights = conjugate.expected_weights(parameters.weight_concentration)  # (K,)
        return MixtureParameters(weights, parameters.means, parameters.covariances)


@outside_autocast
class VariationalInChunks(Variational):
    """The same by sufficient statistics, chunk by chunk."""

    def __init__(self, data: FitData, tensor: Convert) -> None:
        super().__init__(data, tensor)
        self.chunks = [*data.chunks(data.x, None, tensor, numbers_in_a_chunk())]

    def iterate(self, parameters: VariationalPosterior) -> tuple[VariationalPosterior, Tensor]:
        """One E step and one M step, and the lower bound of the new posterior."""
        apart, kind = coefficients(parameters, self.kind), self.kind
        found = gmm_statistics.iteration(self.chunks, parameters.covariances, apart, kind, self.reg_covar, None)
        return traced(believed, ())(*found, apart, self.prior, kind)


def placed(chunks: Chunks) -> Sequence:
    """Chunks that are passed over many times: on a GPU all that it has room for, else one while another is computed."""
    if not is_card():
        return chunks
    return [*chunks] if 2 * math.prod(chunks.shape) <= numbers_in_a_chunk() else chunks


def algorithm_for(data: FitData, tensor: Convert, workers: Workers | None = None) -> ExpectationMaximisation:
    """The algorithm for these data, whose arrays `tensor` converts; several `workers` share what goes in chunks."""
    if data.method == "variational":
        pays = pays_in_chunks(*data.x.shape, data.n_components, data.covariance_type)
        return (VariationalInChunks if pays else Variational)(data, tensor)
    if data.method == "map":
        return MaximumAPosteriori(data, tensor)
    if data.observed is not None:
        return WithGaps(data, tensor)
    workers = workers or Workers()
    if data.in_chunks or workers.size > 1:
        rows = rows_of_chunks(*data.x.shape, data.n_components, data.covariance_type, numbers=numbers_in_a_chunk())
        has_room = is_card() and rows == len(data.x) and data.x.shape[1] <= gmm_statistics.LARGEST_DIMENSION
        return (OnFeatures if has_room and workers.size == 1 else InChunks)(data, tensor, workers)
    return ExpectationMaximisation(data, tensor)


def e_step(x: Tensor, observed: Tensor | None, parameters: Any, covariance_type: str) -> tuple[Tensor, Tensor]:
    """The log densities (N,) and responsibilities (N, K) of any points: by the chapter that the parameters are of."""
    if isinstance(parameters, VariationalPosterior):
        return variational_gmm.e_step(x, parameters, covariance_type)
    if observed is not None:
        return missing_data.e_step(x, observed, *parameters)
    return gmm.e_step(x, *parameters, covariance_type)


def coefficients(parameters: Any, covariance_type: str) -> tuple[Tensor, Tensor, Tensor]:
    """What the E step needs of these parameters, for `natural_parameters.e_step`: means, whitening and constants."""
    if isinstance(parameters, VariationalPosterior):
        return parameters.means, *traced(_of_beliefs, ())(parameters, covariance_type)
    return parameters.means, *traced(whitening, ())(*parameters, covariance_type)


def quickest_e_step(parameters: Any, covariance_type: str) -> tuple[Callable, tuple[Tensor, ...]]:
    """The E step of `natural_parameters` that is the quickest for these parameters, and the coefficients it takes."""
    apart, together, lost = traced(_both_ways, ())(parameters, covariance_type)
    if lost <= gmm_statistics.LOST[parameters.means.dtype]:
        return natural_parameters.e_step_from_centre, together
    return natural_parameters.e_step, apart


def believed(
    updated: tuple[Tensor, Tensor, Tensor],
    statistics: gmm_statistics.Statistics,
    references: Tensor,
    apart: gmm_statistics.Apart,
    prior: VariationalPrior,
    covariance_type: str,
) -> tuple[VariationalPosterior, Tensor]:
    r"""The posterior after an E step by the coefficients `apart`, and its bound, from what `iteration` gives.

    The entropy of the choices needs no second look at the points: since $\log r_{nk} = \theta_k \cdot T(x_n) - \log
    \sum_j \rho_{nj}$, it is the sum of the log normalisers less $\sum_k \theta_k \cdot S_k$.
    """
    means, whiten, constant = apart
    theta = expanded(means, references, whiten, constant, covariance_type)  # (K, P)
    choices_entropy = statistics.log_likelihood - tf.reduce_sum(theta * statistics.moments)  # ()
    data = variational_gmm.summed(statistics.moments[:, 0], *updated[1:], covariance_type)
    posterior = variational_gmm.m_step(data, prior, covariance_type)
    return posterior, variational_gmm.bound_after_m_step(data, choices_entropy, posterior, prior, covariance_type)


def _both_ways(parameters: Any, covariance_type: str) -> tuple[tuple, tuple, Tensor]:
    apart = coefficients(parameters, covariance_type)
    return apart, *natural_parameters.from_centre(parameters.covariances, *apart, covariance_type)


def _of_beliefs(posterior: VariationalPosterior, covariance_type: str) -> tuple[Tensor, Tensor]:
    ones = tf.ones_like(posterior.mean_precision)  # (K,)
    whiten, constant = whitening(ones, posterior.means, posterior.covariances, covariance_type)
    return whiten, constant + variational_gmm.expected_log_scales(posterior, covariance_type)
