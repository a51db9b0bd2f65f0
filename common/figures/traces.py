"""What the moving figures of the book play: the numbers of one implementation, frame by frame.

A trace is a dict of arrays. The names of those that depend on the run end in its number: ``means 0`` is (T, K, D),
the means of the first run by frame. ``maths`` and ``evaluate`` are as in ``common.figures.chapters``.
"""

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.special import ndtri

from common import draws
from common.data import datasets
from common.figures.chapters import FEW_COMPONENTS, WEIGHTS
from common.figures.runs import standardised
from common.mixtures.input import check_missing, mean_imputed
from common.mixtures.parameters import make_prior
from common.mixtures.start import initial_responsibilities
from common.networks.training import minibatches, updates

Evaluate = Callable[..., Any]
Trace = dict[str, np.ndarray]

PRIORS = {"Beta(1, 1), all biases alike": (1, 1), "Beta(2, 2)": (2, 2), "Beta(20, 20), sure that it is fair": (20, 20)}
TOSSES, BIAS = 40, 0.7
_SMALL = np.array([[0.01, 0.0], [0.0, 1.0]])
STARTS = {  # of EM for Old Faithful: means (2, 2) and covariances (2, 2, 2)
    "across the two groups": ([[2.5, 82.0], [4.5, 56.0]], [np.diag([0.15, 100.0])] * 2),
    "on two neighbouring points": ([[4.5, 80.0], [4.6, 82.0]], [_SMALL] * 2),
    "one in each group": ([[2.0, 55.0], [4.3, 80.0]], [np.diag([0.1, 30.0])] * 2),
    "both alike: a bad start": ([[3.5, 71.0], [3.5, 71.0]], [np.diag([1.0, 150.0])] * 2),
}
FLOORS = {"no floor under the covariances": 0.0, "reg_covar = 0.001": 1e-3}
LONELY = 164  # the row of an eruption far from most others
AGREEMENT = 1e-9  # of an array's largest entry
EPOCHS, SIDE = 30, 15  # of the small VAE; codes along each side of the grid that it decodes


def coin_tosses(maths: SimpleNamespace, evaluate: Evaluate) -> Trace:
    """The belief about a coin's bias, toss by toss, from each of three priors."""
    theta, tosses = np.linspace(0, 1, 81), (draws.uniforms(4, "sample", (TOSSES,)) < BIAS).astype(float)
    heads = np.concatenate([[0.0], np.cumsum(tosses)])  # (T,)
    tails, trace = np.arange(TOSSES + 1) - heads, {"theta": theta, "heads": heads}
    for i, (a, b) in enumerate(PRIORS.values()):
        prior, estimates = (heads, tails, np.array(float(a)), np.array(float(b))), []
        after = np.stack(evaluate(maths.coin.posterior, *prior))  # (2, T)
        trace[f"density {i}"] = np.exp(evaluate(maths.coin.beta_log_density, theta, *after[:, :, None]))  # (T, 81)
        estimates.append(np.append(0.5, evaluate(maths.coin.maximum_likelihood, heads[1:], tails[1:])))
        estimates.append(evaluate(maths.coin.predictive, *prior))
        trace[f"estimates {i}"] = np.stack(estimates, axis=1)  # (T, 2)
    return trace


def em_from_four_starts(maths: SimpleNamespace, evaluate: Evaluate) -> Trace:
    """EM for two components on Old Faithful from four starts."""
    x = datasets.load("old-faithful").x
    trace = {"x": x}
    for i, (means, covariances) in enumerate(STARTS.values()):
        parameters, frames = (WEIGHTS, np.array(means), np.array(covariances)), []
        for _ in range(26):
            log_density, gamma = evaluate(maths.gmm.e_step, x, *parameters)
            frames.append((log_density.sum(), gamma[:, 0], *parameters[1:]))
            parameters = evaluate(maths.gmm.m_step, x, gamma)
        trace |= _named(("log likelihood", "gamma", "means", "covariances"), frames, i)
    return trace


def bound_and_divergence(maths: SimpleNamespace, evaluate: Evaluate) -> Trace:
    """The lower bound and the divergence of a mixture of two for the waiting times, while E and M steps alternate."""
    x, grid = datasets.load("old-faithful").x[:, 1:], np.linspace(38, 100, 80)
    q, parameters = np.full((len(x), 2), 0.5), (WEIGHTS, np.array([[60.0], [75.0]]), np.full((2, 1, 1), 90.0))
    frames = []
    for step in range(9):  # the start, E, M, E, M, ...
        if step % 2:
            q = evaluate(maths.em.posterior, evaluate(maths.gmm.log_joint, x, *parameters))
        elif step:
            parameters = evaluate(maths.gmm.m_step, x, q)
        joint = evaluate(maths.gmm.log_joint, x, *parameters)
        bound = evaluate(maths.em.lower_bound, q, joint)
        divergence = evaluate(maths.em.kl_divergence, q, evaluate(maths.em.log_posterior, joint))
        densities = np.exp(evaluate(maths.gmm.log_joint, grid[:, None], *parameters)).T  # (2, 80)
        frames.append((bound, divergence, densities))
    return {"x": x[:, 0], "grid": grid} | _named(("bound", "divergence", "densities"), frames, 0)


def bound_touches_likelihood(maths: SimpleNamespace, evaluate: Evaluate) -> Trace:
    """The log likelihood over one mean, and the bound that each E step lays against it."""
    x, trial, mean, frames = datasets.load("old-faithful").x[:, 1:], np.linspace(40, 88, 97), 84.0, []

    def joint(value: float) -> np.ndarray:
        return evaluate(maths.gmm.log_joint, x, WEIGHTS, np.array([[value], [80.0]]), np.full((2, 1, 1), 70.0))

    joints = [joint(value) for value in trial]
    for _ in range(7):
        q = evaluate(maths.em.posterior, joint(mean))
        bound = np.array([evaluate(maths.em.lower_bound, q, other) for other in joints])
        frames.append((mean, evaluate(maths.em.log_evidence, joint(mean)), bound))
        mean = float((q[:, 0] @ x[:, 0]) / q[:, 0].sum())
        frames.append((mean, evaluate(maths.em.lower_bound, q, joint(mean)), bound))
    log_likelihood = np.array([evaluate(maths.em.log_evidence, other) for other in joints])
    return {"trial": trial, "log likelihood": log_likelihood} | _named(("mean", "height", "bound"), frames, 0)


def hidden_coins(maths: SimpleNamespace, evaluate: Evaluate) -> Trace:
    """Do and Batzoglou's five lines of ten tosses, divided between two coins."""
    heads, tosses, weights, biases = np.array([5.0, 9, 8, 4, 7]), np.full(5, 10.0), WEIGHTS, np.array([0.6, 0.5])
    frames = []
    for _ in range(11):
        total, gamma = evaluate(maths.coin_mixture.e_step, heads, tosses, weights, biases)
        frames.append((total.sum(), gamma, biases))
        _, biases = evaluate(maths.coin_mixture.m_step, heads, tosses, gamma)
    return {"heads": heads} | _named(("log likelihood", "gamma", "biases"), frames, 0)


def gaps_filled(maths: SimpleNamespace, evaluate: Evaluate) -> Trace:
    """The ozone of the days that lack it, as one Gaussian expects it, while EM fits that Gaussian."""
    x, observed = check_missing(datasets.load("airquality").x)
    mean, covariance = evaluate(maths.gaussian.maximum_likelihood, mean_imputed(x, observed))
    covariance = np.diag(np.diag(covariance))  # at first no column says anything about another
    parameters, frames, gap = (np.ones(1), mean[None], covariance[None]), [], ~observed[:, 0]
    for _ in range(31):
        filled = evaluate(maths.missing_data.impute, x, observed, *parameters)
        total = evaluate(maths.missing_data.log_likelihood, x, observed, *parameters)
        frames.append((total, filled[gap, 0], parameters[1][0, 0]))
        parameters, _ = evaluate(maths.missing_data.em_iteration, x, observed, *parameters)
    seen = {"temperature of gaps": x[gap, 3], "seen": x[~gap][:, [3, 0]]}
    return seen | _named(("log likelihood", "ozone", "mean"), frames, 0)


def collapse_onto_a_point(maths: SimpleNamespace, evaluate: Evaluate) -> Trace:
    """EM while one component shrinks onto a point, with no floor under the covariances and with one."""
    x = standardised(datasets.load("old-faithful").x)
    trace = {"x": x}
    for i, floor in enumerate(FLOORS.values()):
        means = np.stack([x[LONELY], x.mean(axis=0)])
        parameters, frames = (np.array([0.02, 0.98]), means, np.array([0.02, 1.0])), []
        for _ in range(24):
            log_density, gamma = evaluate(maths.gmm.e_step, x, *parameters, "spherical")
            covariances = parameters[2][:, None, None] * np.eye(2)
            frames.append((log_density.sum(), gamma[:, 0], parameters[1], covariances))
            parameters = evaluate(maths.gmm.m_step, x, gamma, "spherical", floor)
            if parameters[2].min() < 1e-24:
                break  # the width is no more than the rounding of the mean
        trace |= _named(("log likelihood", "gamma", "means", "covariances"), frames, i)
    return trace


def components_die_out(maths: SimpleNamespace, evaluate: Evaluate) -> Trace:
    """Six components on Old Faithful (standardised), of which variational inference leaves two."""
    x = standardised(datasets.load("old-faithful").x)
    prior = make_prior(x, 6, **FEW_COMPONENTS)
    gamma = initial_responsibilities(x, 6, "kmeans", np.random.RandomState(0))
    chapter, frames = maths.variational_gmm, []
    data = evaluate(chapter.statistics, x, gamma)
    posterior = evaluate(chapter.m_step, data, prior)
    bound = sum(evaluate(chapter.bound_terms, data, gamma, posterior, prior))
    for iteration in range(61):
        weights = evaluate(maths.conjugate.expected_weights, posterior.weight_concentration)
        _, gamma = evaluate(chapter.e_step, x, posterior)
        if iteration % 2 == 0:
            frames.append((bound, gamma, weights, posterior.means, posterior.covariances))
        posterior, bound = evaluate(chapter.variational_iteration, x, posterior, prior)
    return {"x": x} | _named(("bound", "gamma", "weights", "means", "covariances"), frames, 0)


def codes_find_their_places(maths: SimpleNamespace, evaluate: Evaluate) -> Trace:
    """A VAE with codes of two numbers learns the digits: the held-out codes by epoch, then what the decoder makes.

    ``codes 0`` (T, N, 2) are the means of the held-out images' codes; ``decoded`` (225, 64) the decoder's images of
    ``grid`` (15,) by ``grid``, evenly spaced in the prior's probability.
    """
    training_set, held_out = datasets.load("digits").split()
    x, seen = (datasets.binarize(part.x) for part in (training_set, held_out))
    model = maths.vae.VAE(x.shape[1], 2, 64, "tanh", dtype="float64")
    shapes = {name: value.shape for name, value in maths.layouts.export_parameters(model).items()}
    maths.layouts.import_parameters(model, draws.initial_values(0, shapes))
    steps = draws.batches_per_epoch(len(x), 128)
    batches = minibatches(itertools.repeat(x, EPOCHS), 128, 2)
    frames, bounds = [(evaluate(model.encoder, seen)[0],)], []
    for step, bound in enumerate(updates(maths, model, batches, 5e-3)):
        bounds.append(bound)
        if (step + 1) % steps == 0:
            frames.append((evaluate(model.encoder, seen)[0],))
    grid = ndtri((np.arange(SIDE) + 0.5) / SIDE)
    plane = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)  # the second number changes slowest
    decoded = evaluate(lambda z: model.expected_data(model.decoder(z)), plane)
    by_epoch = np.reshape(bounds, (EPOCHS, steps)).mean(axis=1)
    constant = {"labels": held_out.labels, "grid": grid, "decoded": decoded, "bounds": by_epoch}
    return constant | _named(("codes",), frames, 0)


def _named(names: Iterable[str], frames: list[tuple], run: int) -> Trace:
    # each name's values, by frame
    return {f"{name} {run}": np.array(values) for name, values in zip(names, zip(*frames, strict=True), strict=True)}


TRACES = (coin_tosses, em_from_four_starts, bound_and_divergence, bound_touches_likelihood, hidden_coins)
TRACES += (gaps_filled, collapse_onto_a_point, components_die_out, codes_find_their_places)


def record(maths: SimpleNamespace, evaluate: Evaluate) -> Trace:
    """Every trace, its arrays named ``trace/array``."""
    return {f"{trace.__name__}/{name}": a for trace in TRACES for name, a in trace(maths, evaluate).items()}


def agreed(files: Iterable[Path]) -> Trace:
    """The traces in those of the files that exist; ValueError where two implementations' are not the same.

    They are if no entry differs by more than 1e-9 of its array's largest one: a thousand times what iterating
    makes of a last bit, and far less than a page shows.
    """
    recorded = {path: dict(np.load(path, allow_pickle=False)) for path in files if path.is_file()}
    if not recorded:
        hint = "python -m common.figures.draw pytorch_impl build/figures/torch"
        raise ValueError(f"{next(iter(files))}: there are no recorded traces; `{hint}` records them")
    (first, trace), *others = recorded.items()
    for other, theirs in others:
        for name in trace.keys() | theirs.keys():
            a, b = trace.get(name, np.empty(0)), theirs.get(name, np.empty(0))
            apart = (
                np.max(np.abs(a - b.astype(float))) / max(np.max(np.abs(a)), 1e-300) if a.shape == b.shape else np.inf
            )
            if not apart <= AGREEMENT:
                raise ValueError(f"{name}: {first} and {other} are {apart:.1e} of its scale apart; draw both again")
    return trace
