"""Hostile values in every public function of both implementations: one answer, or one error, from both.

The table says what every function is given, in the words of `hostile.Case`; a star hands over the members of a tuple.
A public name that is neither there nor among the reasons below fails the first test.
"""

import ast
import importlib
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import torch

from parity_tests.guards.hostile import Case, cases
from parity_tests.guards.hostile_answers import (
    Answer,
    Noise,
    Tally,
    attempt,
    compare,
    each,
    hunt,
    moved,
    without_subnormals,
)
from parity_tests.guards.test_hostile_estimators import ESTIMATORS
from parity_tests.guards.test_hostile_networks import NETWORKS
from parity_tests.guards.test_mirror import MODULES, TORCH

FRAMEWORKS = {"pytorch_impl": partial(torch.tensor, device="cpu"), "tf2_impl": tf.constant}
COIN = "*heads_and_tosses weights biases"
MIXTURE = "points weights means covariances covariance_type"
GAPS = "points observed weights means full"
BELIEF = "points belief_after covariance_type"

FUNCTIONS = {
    "autoencoder.mean_squared_error": "points points",
    "autoencoder.kernel_log_density": "points means log_variance_of_all",
    "coin.sequence_log_probability": "counts counts probability",
    "coin.sufficient_statistics": "tosses",
    "coin.log_likelihood": "tosses probability",
    "coin.maximum_likelihood": "count count",
    "coin.log_beta": "belief belief",
    "coin.beta_log_density": "probability belief belief",
    "coin.posterior": "count count belief belief",
    "coin.maximum_a_posteriori": "count count belief belief",
    "coin.predictive": "count count belief belief",
    "coin.predictive_log_probability": "count count belief belief",
    "coin.log_occam_factor": "count count belief belief",
    "coin.log_evidence": "count count belief belief",
    "coin.log_evidence_by_prediction": "tosses belief belief",
    "coin_mixture.component_log_probabilities": "*heads_and_tosses biases",
    "coin_mixture.log_joint": COIN,
    "coin_mixture.log_likelihood": COIN,
    "coin_mixture.responsibilities": COIN,
    "coin_mixture.e_step": COIN,
    "coin_mixture.m_step": "*heads_and_tosses responsibilities",
    "coin_mixture.em_iteration": COIN,
    "conjugate.expected_log_shares": "concentration",
    "conjugate.expected_log_weights": "concentration",
    "conjugate.expected_weights": "concentration",
    "conjugate.expected_log_dirichlet": "*concentrations",
    "conjugate.log_determinant": "wisharts",
    "conjugate.log_determinant_gap": "freedom dimension",
    "conjugate.expected_log_determinant": "freedom wisharts",
    "conjugate.expected_trace": "wisharts freedom wisharts",
    "conjugate.wishart_log_normaliser": "freedom wisharts",
    "conjugate.expected_log_wishart": "freedom wisharts freedom wisharts",
    "conjugate.student_log_densities": "points means covariances freedom covariance_type",
    "elbo.gaussian_kl_to_standard_normal": "points log_variance",
    "elbo.gaussian_kl": "points log_variance points log_variance",
    "elbo.reparameterize": "points log_variance noise",
    "elbo.gaussian_log_likelihood": "points points log_variance",
    "elbo.bernoulli_log_likelihood": "points points",
    "elbo.evidence_lower_bound": "numbers numbers",
    "elbo.log_importance_weights": "numbers points points log_variance",
    "elbo.importance_weighted_bound": "log_joint",
    "elbo.linear_gaussian_log_evidence": "points loadings mean log_variance_of_all",
    "em.log_evidence": "log_joint",
    "em.log_posterior": "log_joint",
    "em.posterior": "log_joint",
    "em.lower_bound": "distributions log_joint",
    "em.kl_divergence": "distributions log_joint",
    "em.expected_log_joint": "distributions log_joint",
    "em.dirichlet_log_density": "weights dirichlet",
    "em.normal_inverse_wishart_log_density": "means full prior",
    "em.log_prior": "weights means full prior",
    "em.map_m_step": "points responsibilities prior",
    "em.map_em_iteration": "points weights means full prior",
    "gaussian.cholesky": "wisharts",
    "gaussian.univariate_log_density": "numbers numbers variance",
    "gaussian.log_density": "points mean covariance",
    "gaussian.log_likelihood": "points mean covariance",
    "gaussian.mean_gradient": "points mean covariance",
    "gaussian.mean_gradient_by_autodiff": "points mean covariance",
    "gaussian.covariance_gradient": "near_points near_mean near_covariance",
    "gaussian.covariance_gradient_by_autodiff": "near_points near_mean near_covariance",
    "gaussian.maximum_likelihood": "points",
    "gmm.component_log_densities": "points means covariances covariance_type",
    "gmm.log_prior_of_choice": "choices weights",
    "gmm.log_density_given_choice": "points choices means covariances covariance_type",
    "gmm.complete_data_log_likelihood": "points choices weights means covariances covariance_type",
    "gmm.log_joint": MIXTURE,
    "gmm.log_likelihood": MIXTURE,
    "gmm.responsibilities": MIXTURE,
    "gmm.e_step": MIXTURE,
    "gmm.m_step": "points responsibilities covariance_type reg_covar sample_weight",
    "gmm.em_iteration": f"{MIXTURE} reg_covar sample_weight",
    "gmm.sample": "weights means covariances uniforms noise covariance_type",
    "gmm_statistics.chunk_statistics": "points sample_weight mean coefficients covariance_type",
    "gmm_statistics.maximise": "moments means covariance_type reg_covar",
    "gmm_statistics.lost_digits": "squares covariances covariance_type",
    "gmm_statistics.em_iteration": "chunks weights means covariances covariance_type reg_covar",
    "gmm_statistics.em_iteration_with_gaps": f"{GAPS} reg_covar sample_weight",
    "gmm_statistics.m_step": "chunks_of_choices covariance_type reg_covar",
    "log_factorials.deviance": "counts counts",
    "log_factorials.stirling_correction": "counts",
    "log_factorials.log_gamma_ratio": "positive_counts positive_counts",
    "log_factorials.digamma_correction": "positive_counts",
    "log_factorials.log_probability_by_odds": "count count belief belief",
    "log_factorials.binomial_log_probability": "count count belief belief",
    "log_factorials.log_beta_rest": "belief belief",
    "missing_data.component_log_densities": "points observed means full",
    "missing_data.log_joint": GAPS,
    "missing_data.log_likelihood": GAPS,
    "missing_data.e_step": GAPS,
    "missing_data.conditional_moments": "points observed means full",
    "missing_data.expected_statistics": GAPS,
    "missing_data.em_iteration": f"{GAPS} reg_covar sample_weight",
    "missing_data.impute": GAPS,
    "missing_data.impute_draw": f"{GAPS} uniforms noise",
    "natural_parameters.features": "points mean covariance_type",
    "natural_parameters.fast_features": "points mean covariance_type",
    "natural_parameters.natural_parameters": "weights means covariances mean covariance_type",
    "natural_parameters.whitening": "weights means covariances covariance_type",
    "natural_parameters.bayes_rule": "log_joint",
    "optimizer.round_to_float32": "points",
    "singularity.log_density_at_own_centre": "deviations dimension",
    "singularity.single_gaussian_curve": "points deviations",
    "singularity.collapsing_mixture": "points deviation",
    "singularity.mixture_curve": "points deviations",
    "singularity.regularised_curve": "points deviations reg_covar",
    "singularity.penalised_curve": "points deviations prior_of_two",
    "variational_gmm.statistics": "points responsibilities covariance_type reg_covar",
    "variational_gmm.expected_log_densities": BELIEF,
    "variational_gmm.e_step": BELIEF,
    "variational_gmm.variational_iteration": "points *beliefs covariance_type reg_covar",
    "variational_gmm.predictive_log_density": BELIEF,
    "conjugate.independent_wisharts": "degrees covariances components dimension covariance_type",
    "conjugate.of_components": "independent components dimension covariance_type",
    "gmm_statistics.chunk_statistics_apart": "points sample_weight means means *whitening covariance_type",
    "gmm_statistics.in_blocks": "points sample_weight means means *whitening covariance_type",
    "gmm_statistics.moments_apart": "points responsibilities_of_components means covariance_type",
    "gmm_statistics.merge": "moments number moments number",
    "gmm_statistics.total": "chunks mean coefficients covariance_type",
    "missing_data.m_step": "expected reg_covar sample_weight",
    "optimizer.round_to_grid": "points squares_of_points",
    "optimizer.square_root": "variance",
    "optimizer.newton_step": "*root",
    "optimizer.bias_corrections": "step",
    "optimizer.adam_update": "points points points squares_of_points corrections",
    "optimizer.Adam": "points points points squares_of_points step",
    "backend.tensor": "bare",
    "backend.evaluate": "points_as_arrays",
    "backend.in_order": "points points",
    "backend.compiled": "points points",
    "variational_gmm.update_weights": "positive_counts belief_before",
    "variational_gmm.update_components": "statistics belief_before covariance_type",
    "variational_gmm.m_step": "statistics belief_before covariance_type",
    "variational_gmm.bound_terms": "statistics responsibilities *beliefs covariance_type",
}

DOUBLE = ("optimizer.round_to_grid", "optimizer.square_root", "optimizer.newton_step")  # for float64, as they say

# Why a public name has no row of its own.
RETURNED = "a tuple, of what functions of its page return"
PROCESS = "sets up the process or its device; bad settings are in test_runtime.py and test_distributed.py"
SCRIPT = "a script: bad flags and files are in test_scripts.py and test_files.py"
REASONS = {
    "autoencoder.Fit": RETURNED,
    "elbo.Bound": RETURNED,
    "gmm_statistics.Statistics": RETURNED,
    "missing_data.ExpectedStatistics": RETURNED,
    "variational_gmm.Statistics": RETURNED,
    "variational_gmm.Bound": RETURNED,
    "distributed.Workers": PROCESS,
    "distributed.join": PROCESS,
    "backend.set_up": PROCESS,
    "backend.device": PROCESS,
    "backend.fused": PROCESS,
    "backend.outside_autocast": "a decorator of the estimators; in test_precision.py",
    "train_gmm.train": SCRIPT,
    "train_gmm.main": SCRIPT,
    "train_vae.train": SCRIPT,
    "train_vae.main": SCRIPT,
}


def test_every_public_name_has_a_property_or_a_reason() -> None:
    names = {
        f"{page.removesuffix('.py')}.{node.name}"
        for page in MODULES
        for node in ast.parse((TORCH / page).read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
    }
    estimators = {name.partition(" ")[0] for name in ESTIMATORS}  # one has two rows
    listed = [name for table in (FUNCTIONS, estimators, NETWORKS, REASONS) for name in table]
    assert sorted(listed) == sorted(set(listed)), "in one table only"
    assert set(listed) - names == set(), "these are public no longer"
    assert names - set(listed) == set(), "each needs a row in a table, or a reason"


def variable(value: Any) -> Any:
    return tf.Variable(value) if tf.is_tensor(value) else torch.nn.Parameter(value)


def adam(page: Any, start: Any, gradient: Any, first: Any, second: Any, step: int) -> tuple:
    parameter = variable(start)
    optimizer = page.Adam({"w": parameter}, reproducible=gradient.shape[0] > 3 and "64" in str(gradient.dtype))
    optimizer.resume(step, {"w": first}, {"w": second})
    optimizer.apply({"w": gradient}, optimizer.count_step())
    return parameter, optimizer.first_moment["w"], optimizer.second_moment["w"]


def in_small_blocks(page: Any, *arguments: Any) -> Any:
    with mock.patch.object(page, "NUMBERS_IN_A_BLOCK", 1):
        return page.in_blocks(page.chunk_statistics_apart, *arguments)


def with_statistics(page: Any, function: str, statistics: tuple, *arguments: Any) -> Any:
    return getattr(page, function)(page.Statistics(*statistics), *arguments)


# How a function is called that takes more than arrays.
CALLS: dict[str, Callable] = {
    "gmm_statistics.in_blocks": in_small_blocks,
    "gmm_statistics.merge": lambda page, a, b, c, d: page.merge(page.Statistics(a, b), page.Statistics(c, d)),
    "gmm_statistics.total": lambda page, *a: page.total(None, page.chunk_statistics, *a),
    "missing_data.m_step": lambda page, expected, *a: page.m_step(page.ExpectedStatistics(*expected), *a),
    "optimizer.Adam": adam,
    "backend.evaluate": lambda page, x: page.evaluate(lambda a: (a + a, a), x),
    "backend.in_order": lambda page, a, b: list(page.in_order(lambda pair: pair[0] * pair[1], [(a, b), (b, b)])),
    "backend.compiled": lambda page, a, b: page.compiled(lambda c, d: c * d)(a, b),
    **{
        f"variational_gmm.{name}": lambda page, *a, name=name: with_statistics(page, name, *a)
        for name in ("update_components", "m_step", "bound_terms")
    },
}


def answer(name: str, arguments: list, framework: str) -> Answer:
    """What a framework's function gives for these arrays."""
    page, _, function = name.partition(".")
    module, tensor = importlib.import_module(f"{framework}.{page}"), FRAMEWORKS[framework]
    call = CALLS.get(name, lambda module, *a: getattr(module, function)(*a))
    if name.startswith("backend.") and function in ("tensor", "evaluate"):  # they take arrays
        return attempt(lambda: call(module, *arguments))
    return attempt(lambda: call(module, *each(tensor, arguments)))


def arguments_of(name: str, case: Case) -> list:
    """The arrays that the table's words name."""
    arguments: list[Any] = []
    for word in FUNCTIONS[name].split():
        made = getattr(case, word.lstrip("*"))()
        arguments += made if word.startswith("*") else [made]
    return arguments


def check(name: str, case: Case, tally: Tally) -> None:
    """Ask both, and compare."""
    arguments = arguments_of(name, case)

    def again(seed: int, units: int) -> Answer:
        # far off, half of the runs move the inputs alone: where two moved results cancel, exp makes infinity of it
        with Noise(seed, units) if seed % 2 == 0 or units == 1 else nullcontext():
            return answer(name, moved(arguments, np.random.RandomState(seed), units), "pytorch_impl")

    ours, theirs = (answer(name, arguments, framework) for framework in FRAMEWORKS)
    tally.add(*compare(ours, theirs, again, lambda: without_subnormals(
        lambda: answer(name, arguments, "pytorch_impl"))))  # fmt: skip


def hunt_in(name: str, examples: int, rows: list) -> None:
    """Look for a case in which a function's two implementations differ."""
    dtypes = ("float64",) if name in DOUBLE else ("float64", "float32")
    hunt(lambda case, tally: check(name, case, tally), cases(dtypes), examples, rows, name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_hostile_values(name: str, request: pytest.FixtureRequest) -> None:
    hunt_in(name, 3, request.node.user_properties)


@pytest.mark.long
@pytest.mark.parametrize("name", FUNCTIONS)
def test_hostile_values_in_the_long_run(name: str, request: pytest.FixtureRequest) -> None:
    hunt_in(name, 80, request.node.user_properties)
