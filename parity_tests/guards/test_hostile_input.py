"""Hostile values in every public function of both implementations: one answer, or one error, from both.

The table says what every function is given, in the words of `hostile.Case`; a star hands over the members
of a tuple. A public name that is neither there nor among the reasons below fails the first test.
"""

import ast
import importlib
import re
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import torch

from parity_tests.guards import hostile_answers
from parity_tests.guards.hostile import Case, cases
from parity_tests.guards.hostile_answers import FRAMEWORKS, Answer, Tally, ask_both, attempt, each, few_and_many, hunt
from parity_tests.guards.test_hostile_estimators import ESTIMATORS
from parity_tests.guards.test_hostile_networks import NETWORKS
from parity_tests.guards.test_mirror import MODULES, TORCH

PAGES = {
    "autoencoder": "mean_squared_error(points points)  kernel_log_density(points means log_variance_of_all)",
    "coin": """
        sequence_log_probability(counts counts probability)  sufficient_statistics(tosses)
        log_likelihood(tosses probability)  maximum_likelihood(count count)  log_beta(belief belief)
        beta_log_density(probability belief belief)
        posterior|maximum_a_posteriori|predictive(count count belief belief)
        predictive_log_probability|log_occam_factor|log_evidence(count count belief belief)
        log_evidence_by_prediction(tosses belief belief)""",
    "coin_mixture": """
        component_log_probabilities(*heads_and_tosses biases)
        log_joint|log_likelihood|e_step|em_iteration(*heads_and_tosses weights biases)
        m_step(*heads_and_tosses responsibilities)""",
    "conjugate": """
        expected_log_shares|expected_log_weights|expected_weights(concentration)
        expected_log_dirichlet(*concentrations)  log_determinant(wisharts)
        dirichlet_log_evidence(positive_counts concentration)
        wishart_log_evidence(freedom wisharts freedom wisharts)
        log_determinant_gap(freedom dimension)
        expected_log_determinant|wishart_log_normaliser(freedom wisharts)
        expected_trace(wisharts freedom wisharts)  expected_log_wishart(freedom wisharts freedom wisharts)
        student_log_densities(points means covariances freedom covariance_type)
        independent_wisharts(degrees covariances components dimension covariance_type)
        of_components(independent components dimension covariance_type)""",
    "elbo": """
        gaussian_kl_to_standard_normal(points log_variance)
        gaussian_kl(points log_variance points log_variance)  reparameterize(points log_variance noise)
        gaussian_log_likelihood(points points log_variance)  bernoulli_log_likelihood(points points)
        evidence_lower_bound(numbers numbers)  log_importance_weights(numbers points points log_variance)
        importance_weighted_bound(log_joint)
        linear_gaussian_log_evidence(points loadings mean log_variance_of_all)""",
    "em": """
        log_evidence|log_posterior|posterior(log_joint)
        lower_bound|kl_divergence|expected_log_joint(distributions log_joint)
        dirichlet_log_density(weights dirichlet)  normal_inverse_wishart_log_density(means full prior)
        log_prior(weights means full prior)  map_m_step(points responsibilities prior)
        map_em_iteration(points weights means full prior)""",
    "gaussian": """
        cholesky(wisharts)  univariate_log_density(numbers numbers variance)
        log_density|log_likelihood|mean_gradient|mean_gradient_by_autodiff(points mean covariance)
        covariance_gradient|covariance_gradient_by_autodiff(near_points near_mean near_covariance)
        maximum_likelihood(points)""",
    "gmm": """
        component_log_densities(points means covariances covariance_type)
        complete_data_log_likelihood(points choices weights means covariances covariance_type)
        log_joint|log_likelihood|e_step(points weights means covariances covariance_type)
        m_step(points responsibilities covariance_type reg_covar sample_weight)
        em_iteration(points weights means covariances covariance_type reg_covar sample_weight)
        sample(weights means covariances uniforms noise covariance_type)""",
    "gmm_statistics": """
        chunk_statistics(points sample_weight mean coefficients covariance_type)
        maximise(moments means covariance_type reg_covar)
        em_iteration(chunks weights means covariances covariance_type reg_covar)
        em_iteration_with_gaps(points observed weights means full reg_covar sample_weight)
        m_step(chunks_of_choices covariance_type reg_covar)
        chunk_statistics_apart|in_blocks(points sample_weight means means *whitening covariance_type)
        moments_apart(points responsibilities_of_components means covariance_type)
        given_statistics(points responsibilities mean means covariance_type)
        merge(moments number moments number)  total(chunks mean coefficients covariance_type)""",
    "log_factorials": """
        deviance(counts counts)  stirling_correction(counts)  log_gamma_ratio(positive_counts positive_counts)
        digamma_correction(positive_counts)
        log_probability_by_odds|binomial_log_probability(count count belief belief)
        log_beta_rest(belief belief)""",
    "missing_data": """
        component_log_densities|conditional_moments(points observed means full)
        log_joint|log_likelihood|e_step|expected_statistics|impute(points observed weights means full)
        em_iteration(points observed weights means full reg_covar sample_weight)
        impute_draw(points observed weights means full uniforms noise)
        m_step(expected reg_covar sample_weight)""",
    "natural_parameters": """
        features|fast_features(points mean covariance_type)
        natural_parameters(weights means covariances mean covariance_type)
        lost_digits(squares covariances covariance_type)
        nearest_centre(means covariances covariance_type)  variances_of(means covariances covariance_type)
        log_joint|e_step(points means *whitening covariance_type)
        whitening(weights means covariances covariance_type)  bayes_rule(log_joint)""",
    "optimizer": """
        round_to_float32(points)  round_to_grid(points squares_of_points)  square_root(variance)
        newton_step(*root)  bias_corrections(step)
        adam_update(points points points squares_of_points corrections)
        Adam(points points points squares_of_points step)""",
    "singularity": """
        log_density_at_own_centre(deviations dimension)
        single_gaussian_curve|mixture_curve(points deviations)  collapsing_mixture(points deviation)
        regularised_curve(points deviations reg_covar)  penalised_curve(points deviations prior_of_two)""",
    "variational_gmm": """
        statistics(points responsibilities covariance_type reg_covar)
        expected_log_densities|e_step|predictive_log_density(points belief_after covariance_type)
        expected_log_scales(belief_after covariance_type)
        variational_iteration(points *beliefs covariance_type reg_covar)
        update_weights(positive_counts belief_before)
        update_components|m_step(statistics belief_before covariance_type)
        bound_terms(statistics responsibilities *beliefs covariance_type)""",
    "backend": "tensor(bare)  evaluate(points)  in_order|compiled(points points)",
}
FUNCTIONS = {
    f"{page}.{name}": words
    for page, table in PAGES.items()
    for names, words in re.findall(r"(\S+)\((.*?)\)", table)
    for name in names.split("|")
}
DOUBLE = ("optimizer.round_to_grid", "optimizer.square_root", "optimizer.newton_step")  # for float64, as they say

# Public names and pages without a row, by the reason.
REASONS = {
    "a tuple that functions of its page return": "autoencoder.Fit elbo.Bound gmm_statistics.Statistics "
    "missing_data.ExpectedStatistics variational_gmm.Statistics variational_gmm.Bound",
    "sets up the process; bad settings are in test_backend.py and test_distributed.py": "backend.set_up "
    "backend.device backend.fused backend.one_thread_each distributed.Workers distributed.join",
    "of devices; in test_devices.py": "backend.is_card backend.numbers_in_a_block backend.numbers_in_a_chunk "
    "backend.updates_at_once backend.copied backend.shared backend.at_device",
    "a part of functions of these pages, reached through them": "gmm_statistics.maximised gmm_statistics.iteration "
    "natural_parameters.expanded natural_parameters.seen_from_centre variational_gmm.summed "
    "variational_gmm.bound_after_m_step conjugate.counts_of_shares",
    "the maths that estimators share; reached through them": "estimators.MixtureMaths "
    "natural_parameters.from_centre natural_parameters.e_step_from_centre",
    "a decorator of the estimators; in test_precision.py": "backend.outside_autocast",
}
PAGES_OF_RUNS = {
    "algorithms": "part of a fit; hostile tables and arguments reach it through the estimators",
    "train_gmm": "a script: bad flags and files are in test_scripts.py and test_files.py",
    "train_vae": "a script, too",
    "network_run": "part of that script",
}


def test_every_public_name_has_a_property_or_a_reason() -> None:
    names = {
        f"{page.removesuffix('.py')}.{node.name}"
        for page in MODULES
        if page.removesuffix(".py") not in PAGES_OF_RUNS
        for node in ast.parse((TORCH / page).read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
    }
    estimators = {name.partition(" ")[0] for name in ESTIMATORS}  # one has two rows
    listed = [*FUNCTIONS, *estimators, *NETWORKS, *" ".join(REASONS.values()).split()]
    assert sorted(listed) == sorted(set(listed)), "in one table only"
    assert set(listed) - names == set(), "these are public no longer"
    assert names - set(listed) == set(), "each needs a row in a table, or a reason"


def adam(page: Any, start: Any, gradient: Any, first: Any, second: Any, step: int) -> tuple:
    """Update a parameter and return it with its moments."""
    parameter = tf.Variable(start) if tf.is_tensor(start) else torch.nn.Parameter(start)
    optimizer = page.Adam({"w": parameter}, reproducible=gradient.shape[0] > 3 and "64" in str(gradient.dtype))
    optimizer.resume(step, {"w": first}, {"w": second})
    optimizer.apply({"w": gradient}, optimizer.count_step())
    return parameter, optimizer.first_moment["w"], optimizer.second_moment["w"]


def in_small_blocks(page: Any, *arguments: Any) -> Any:
    """Statistics of a chunk taken in more blocks than one."""
    with mock.patch.object(page, "numbers_in_a_block", return_value=1):
        return page.in_blocks(page.chunk_statistics_apart, *arguments)


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
        f"variational_gmm.{name}": lambda page, s, *a, name=name: getattr(page, name)(page.Statistics(*s), *a)
        for name in ("update_components", "m_step", "bound_terms")
    },
}


def answer(name: str, arguments: list, framework: str) -> Answer:
    """The answer of a framework's function to these arrays."""
    page, _, function = name.partition(".")
    module = importlib.import_module(f"{framework}.{page}")
    call = CALLS.get(name, lambda module, *a: getattr(module, function)(*a))
    if name in ("backend.tensor", "backend.evaluate"):  # they take arrays
        return attempt(lambda: call(module, *arguments))
    return attempt(lambda: call(module, *each(FRAMEWORKS[framework], arguments)))


def arguments_of(name: str, case: Case) -> list:
    """The arrays that the table's words name."""
    arguments: list[Any] = []
    for word in FUNCTIONS[name].split():
        made = case[word.lstrip("*")]
        arguments += made if word.startswith("*") else [made]
    return arguments


def check(name: str, case: Case, tally: Tally) -> None:
    """Ask both, and compare."""
    arguments = arguments_of(name, case)

    def again(seed: int, units: int) -> Answer:
        # far off, half of the runs move the inputs alone: where two moved results cancel, exp makes infinity of it
        with hostile_answers.Noise(seed, units) if seed % 2 == 0 or units == 1 else nullcontext():
            return answer(name, hostile_answers.moved(arguments, np.random.RandomState(seed), units), "pytorch_impl")

    ask_both(lambda framework: answer(name, arguments, framework), tally, again)


@few_and_many(dict.fromkeys(FUNCTIONS, (3, 80)))
def test_hostile_values(name: str, examples: int, request: pytest.FixtureRequest) -> None:
    strategy = cases(("float64",) if name in DOUBLE else ("float64", "float32"))
    hunt(lambda case, tally: check(name, case, tally), strategy, examples, request.node.user_properties, name)
