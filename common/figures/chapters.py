"""The figures of coin and mixtures, from one implementation's numbers, in the style of ``common.figures.runs``.

``maths`` holds the implementation's modules by name; ``evaluate(function, *arrays)`` calls one of their
functions with its tensors and gives NumPy arrays back. A docstring says what its figure shows: it is also the
book's text for readers who do not see it.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from common import draws
from common.data import datasets
from common.figures.runs import COLOURS, STYLE, ellipses, palette, standardised
from common.mixtures.parameters import default_prior, make_prior
from common.mixtures.start import initial_responsibilities

Evaluate = Callable[..., Any]
WEIGHTS = np.array([0.5, 0.5])
FEW_COMPONENTS = {
    "weight_concentration_prior_type": "dirichlet_distribution",
    "weight_concentration_prior": 1e-3,
    "mean_precision_prior": 1.0,
    "degrees_of_freedom_prior": 2.0,
    "covariance_prior": np.eye(2),
}


@rc_context(STYLE)
def coin(maths: SimpleNamespace, evaluate: Evaluate) -> Figure:
    """The belief about a coin that shows heads seven times in ten, from a prior Beta(2, 2) to a hundred tosses.

    Four densities, each narrower than the one before. Lines mark MLE, MAP and prediction: apart after three tosses,
    together after a hundred.
    """
    theta, tosses = np.linspace(0.001, 0.999, 400), (draws.uniforms(4, "sample", (100,)) < 0.7).astype(float)
    panels = Figure(figsize=(13.6, 3.4)).subplots(1, 4, sharex=True)
    # the widest line lies below, so that all are visible where they coincide
    marks = {"MLE": (":", COLOURS[1], 2), "MAP": ("--", COLOURS[2], 2), "predictive": ("-", COLOURS[3], 4)}
    for axes, n in zip(panels, (0, 3, 10, 100), strict=True):
        seen = maths.estimators.BetaBernoulli(2, 2).update(tosses[:n])
        a, b = map(np.array, seen.posterior)
        density = np.exp(evaluate(maths.coin.beta_log_density, theta, a, b))  # (T,)
        axes.fill_between(theta, density, color=COLOURS[0], alpha=0.25, linewidth=0)
        axes.plot(theta, density, color=COLOURS[0])
        estimates = {"MLE": seen.mle()} if n else {}
        for name, value in (estimates | {"MAP": seen.map(), "predictive": seen.predictive()}).items():
            line, colour, width = marks[name]
            style = {"linestyle": line, "color": colour, "linewidth": width, "zorder": 2 - width / 10}
            axes.plot([value, value], [0, density.max()], label=f"{name} {value:.2f}", **style)
        axes.set_title(f"{seen.heads} heads in {n} tosses" if n else "prior, Beta(2, 2)")
        axes.set(xlabel="θ, probability of heads", ylim=(0, 1.5 * density.max()))
        axes.legend(loc="upper left")
    panels[0].set_ylabel("density")
    return panels[0].figure


@rc_context(STYLE)
def mixture_density(maths: SimpleNamespace, evaluate: Evaluate) -> Figure:
    """The mixture fitted to Old Faithful: a density with two slanting humps, and 400 samples in the colours of both."""
    data = datasets.load("old-faithful")
    fit = maths.estimators.GaussianMixture(2, tol=1e-10, max_iter=500, random_state=0).fit(data.x)
    parameters = fit.weights_, fit.means_, fit.covariances_
    grid = np.meshgrid(np.linspace(1, 5.8, 160), np.linspace(34, 104, 160))
    log_density, _ = evaluate(maths.gmm.e_step, np.stack([axis.ravel() for axis in grid], axis=1), *parameters)
    density = np.exp(log_density).reshape(grid[0].shape)
    uniforms, noise = draws.uniforms(0, "component", (400,)), draws.normals(0, "sample", (400, 2))
    samples, _ = evaluate(maths.gmm.sample, *parameters, uniforms, noise)
    shades = np.clip(evaluate(maths.gmm.e_step, samples, *parameters)[1] @ palette(2), 0, 1)
    figure = Figure(figsize=(9.6, 4.8))
    (left, right), (bar, blank) = figure.subplots(2, 2, height_ratios=(1, 0.04))
    blank.set_axis_off()
    filled = left.contourf(*grid, density, levels=12, cmap="Blues")
    figure.colorbar(filled, cax=bar, orientation="horizontal", label="density")
    right.scatter(*samples.T, c=shades, s=12, alpha=0.7, linewidths=0)
    right.contour(*grid, density, levels=6, colors="0.6", linewidths=0.7)
    for axes, title in ((left, "density"), (right, "samples, coloured by responsibility")):
        axes.set(title=title, xlabel=data.feature_names[0], xlim=(1, 5.8), ylim=(34, 104))
    left.set_ylabel(data.feature_names[1])
    return figure


@rc_context(STYLE)
def em_snapshots(maths: SimpleNamespace, evaluate: Evaluate) -> Figure:
    """EM on Old Faithful from a poor start, after 0, 1, 2, 5 and 20 iterations.

    Two ellipses begin beside both groups of points, and end on one group each.
    """
    x = datasets.load("old-faithful").x
    parameters = WEIGHTS, np.array([[2.5, 82.0], [4.5, 56.0]]), np.array([np.diag([0.15, 100.0])] * 2)
    figure = Figure(figsize=(14.5, 3.3))
    panels = dict(zip((0, 1, 2, 5, 20), figure.subplots(1, 5, sharex=True, sharey=True), strict=True))
    for iteration in range(21):
        log_density, gamma = evaluate(maths.gmm.e_step, x, *parameters)
        if axes := panels.get(iteration):
            axes.scatter(*x.T, c=np.clip(gamma @ palette(2), 0, 1), s=8, alpha=0.6, linewidths=0)
            for mean, covariance, colour in zip(*parameters[1:], palette(2), strict=True):
                ellipses(axes, mean, covariance, colour)
            axes.set_title(f"iteration {iteration}\nlog p = {log_density.sum():.1f}")
        parameters = evaluate(maths.gmm.m_step, x, gamma)
    panels[0].set(xlim=(0.8, 5.6), ylim=(34, 104), ylabel="waiting (minutes)")
    figure.supxlabel("eruption (minutes)", fontsize="medium")
    return figure


@rc_context(STYLE)
def restarts(maths: SimpleNamespace, evaluate: Evaluate) -> Figure:
    """The maxima that EM for three components reaches on Old Faithful from sixteen random starts.

    Sixteen dots on a few levels; most starts stop below the best.
    """
    x = datasets.load("old-faithful").x
    arguments = {"init_params": "random_from_data", "tol": 1e-6, "max_iter": 4000}
    fits = [maths.estimators.GaussianMixture(3, random_state=seed, **arguments).fit(x) for seed in range(16)]
    single = maths.estimators.GaussianMixture(1).fit(x).score(x) * len(x)
    ordered = np.sort([fit.score(x) * len(x) for fit in fits])
    maxima = ordered[np.concatenate([np.diff(ordered) > 0.2, [True]])]  # nats; EM stops a little below each
    figure = Figure(figsize=(5.6, 3.6))
    axes = figure.subplots()
    axes.hlines(maxima, 0.5, 16.5, color="0.8", linewidth=0.8)
    axes.plot(np.arange(1, 17), ordered, "o", color=COLOURS[0])
    axes.set(xlabel="random starts, worst to best", ylabel="log likelihood (nats)", xticks=range(1, 17))
    axes.set_title(f"16 starts of EM end at {len(maxima)} different maxima")
    axes.grid(False)
    text = f"each line is a maximum; the best, {ordered[-1]:.1f}\n(one Gaussian reaches {single:.1f})"
    axes.text(0.97, 0.3, text, transform=axes.transAxes, ha="right")
    return figure


@rc_context(STYLE)
def lower_bounds(maths: SimpleNamespace, evaluate: Evaluate) -> Figure:
    """The log likelihood of the waiting times over the mean of one component, and the bounds that EM climbs.

    Each bound touches the curve where its E step was taken and lies below it elsewhere. Here the parameter is
    the mean of a Gaussian, and every bound is a parabola, concave: for exponential families Q is concave in
    the natural parameters. In general a lower bound in parameter space is neither concave nor convex.
    """
    x, trial = datasets.load("old-faithful").x[:, 1:], np.linspace(40, 88, 240)
    axes = Figure(figsize=(9.6, 4.4)).subplots()
    joints = [_log_joint(maths, evaluate, x, value) for value in trial]
    objective = np.array([float(evaluate(maths.em.log_evidence, other)) for other in joints])
    axes.plot(trial, objective, color="black", linewidth=2, label="log likelihood")
    low, mean, bound = objective.min() - 0.15 * np.ptp(objective), 82.0, objective
    for i, colour in enumerate(COLOURS[:5]):
        joint = _log_joint(maths, evaluate, x, mean)
        value = float(evaluate(maths.em.log_evidence, joint))
        if i:  # the M step goes to the top of the bound, the next E step up to the curve
            axes.vlines(mean, bound.max(), value, color=COLOURS[i - 1], linestyle=":")
        q = evaluate(maths.em.posterior, joint)
        bound = np.array([float(evaluate(maths.em.lower_bound, q, other)) for other in joints])
        axes.plot(trial[bound > low], bound[bound > low], color=colour, label=f"bound after E step {i + 1}")
        axes.plot(mean, value, marker="o", color=colour, zorder=3)
        mean = float((q[:, 0] @ x[:, 0]) / q[:, 0].sum())
    axes.set(xlabel="mean of the first component, μ₁ (minutes)", ylabel="nats", ylim=(low, None))
    axes.set_title("each M step climbs to the top of the bound that the E step raised")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return axes.figure


def _log_joint(maths: SimpleNamespace, evaluate: Evaluate, x: np.ndarray, mean: float) -> np.ndarray:
    return evaluate(maths.gmm.log_joint, x, WEIGHTS, np.array([[mean], [80.0]]), np.full((2, 1, 1), 70.0))


@rc_context(STYLE)
def components_dying_out(maths: SimpleNamespace, evaluate: Evaluate) -> Figure:
    """Six components on Old Faithful (standardised), of which variational inference leaves two.

    An ellipse is as opaque as its component's expected weight is large, the heaviest of the panel entirely
    so; below it, all the expected weights.
    """
    data = datasets.load("old-faithful")
    x, numbers, colours = standardised(data.x), np.arange(1, 7), palette(6)
    names = [f"{name.partition(' (')[0]} (standardised)" for name in data.feature_names]
    prior = make_prior(x, 6, **FEW_COMPONENTS)
    gamma = initial_responsibilities(x, 6, "kmeans", np.random.RandomState(0))
    chapter = maths.variational_gmm
    posterior = evaluate(chapter.m_step, evaluate(chapter.statistics, x, gamma), prior)
    rows = Figure(figsize=(14.5, 4.4)).subplots(2, 5, sharex="row", sharey="row", height_ratios=(3, 1))
    panels = dict(zip((1, 5, 15, 30, 60), rows.T, strict=True))
    for iteration in range(1, 61):
        posterior, bound = evaluate(chapter.variational_iteration, x, posterior, prior)
        if iteration not in panels:
            continue
        above, below = panels[iteration]
        weights = evaluate(maths.conjugate.expected_weights, posterior.weight_concentration)
        _, gamma = evaluate(chapter.e_step, x, posterior)
        above.scatter(*x.T, c=np.clip(gamma @ colours, 0, 1), s=8, alpha=0.45, linewidths=0)
        components = zip(posterior.means, posterior.covariances, colours, weights / weights.max(), strict=True)
        for component in components:
            ellipses(above, *component)
        above.set_title(f"iteration {iteration}\nbound {bound:.1f}")
        above.set_xlabel(names[0])
        below.bar(numbers, weights, color=colours)
        below.set(xticks=numbers, xlabel="component")
    rows[0, 0].set(xlim=(-2.6, 2.6), ylim=(-2.8, 2.8), ylabel=names[1])
    rows[1, 0].set(ylim=(0, 0.72), ylabel="E[weight]")
    return rows[0, 0].figure


@rc_context(STYLE)
def choosing_components(maths: SimpleNamespace, evaluate: Evaluate) -> Figure:
    """The lower bound and the log likelihood, from k-means, for one to six components on Old Faithful.

    Both rise steeply from one to two; then the bound falls, and the log likelihood rises on.
    """
    x, counts = standardised(datasets.load("old-faithful").x), np.arange(1, 7)
    arguments, bounds, log_likelihoods = {"random_state": 0, "max_iter": 1000}, [], []
    prior = FEW_COMPONENTS | {"weight_concentration_prior": 1.0}
    for k in map(int, counts):
        fit = maths.estimators.BayesianGaussianMixture(k, reg_covar=0, tol=0.05, **prior, **arguments).fit(x)
        bounds.append(fit.lower_bound_)
        fit = maths.estimators.GaussianMixture(k, tol=1e-4, **arguments).fit(x)
        log_likelihoods.append(fit.score(x) * len(x))
    left, right = Figure(figsize=(10.4, 3.9)).subplots(1, 2, sharex=True)
    for axes, values, colour in ((left, bounds, COLOURS[0]), (right, log_likelihoods, COLOURS[2])):
        axes.plot(counts, values, "-o", color=colour)
        for k, value in zip(counts, values, strict=True):
            *offset, align = (10, -3, "left") if k == 1 else (0, 8, "center")  # clear of the steep line
            axes.annotate(f"{value:.1f}", (k, value), offset, textcoords="offset points", ha=align)
        axes.set(xlabel="number of components K", ylabel="nats", xticks=counts, xlim=(0.5, 6.5))
        axes.set_ylim(None, max(values) + 0.12 * np.ptp(values))
    best = int(np.argmax(bounds))
    left.plot(counts[best], bounds[best], "o", color=COLOURS[1], markersize=10, zorder=4)
    left.set_title(f"the lower bound on log p(X) is highest at K = {counts[best]}")
    right.set_title("the log likelihood of EM keeps rising")
    return left.figure


@rc_context(STYLE)
def singularity(maths: SimpleNamespace, evaluate: Evaluate) -> Figure:
    """Four objectives when a component shrinks onto one point of Old Faithful (standardised).

    One Gaussian's log likelihood falls steeply to the left. The mixture's rises in a straight line past the dashed
    one, which is as high as the sensible maximum; with a floor it stays level, with a prior it falls.
    """
    x, chapter = standardised(datasets.load("old-faithful").x), maths.singularity
    left, far, near = Figure(figsize=(13.5, 4.0)).subplots(1, 3)
    widths = np.geomspace(0.1, 10, 150)
    alone = evaluate(chapter.single_gaussian_curve, x, widths)
    left.semilogx(widths, alone, color=COLOURS[0], label="one Gaussian")
    left.set(title="one Gaussian cannot collapse", ylabel="log likelihood (nats)")
    left.set_ylim(alone.max() - 4000, alone.max() + 400)
    panels = {far: np.geomspace(1e-36, 1e-2, 30), near: np.geomspace(1e-2, 3, 150)}
    plain = {axes: evaluate(chapter.mixture_curve, x, w) for axes, w in panels.items()}
    floor = {axes: evaluate(chapter.regularised_curve, x, w, 1e-6) for axes, w in panels.items()}
    for axes, w in panels.items():
        axes.semilogx(w, plain[axes], color=COLOURS[1], linewidth=4, label="log likelihood")
        axes.semilogx(w, floor[axes], color=COLOURS[2], linewidth=1.6, label="with reg_covar = 1e-6")
        posterior = evaluate(chapter.penalised_curve, x, w, default_prior(x, 2))
        axes.semilogx(w, posterior, color=COLOURS[3], linewidth=1.6, label="log posterior (MAP)")
        axes.axhline(plain[near].max(), color="0.4", linestyle="--", linewidth=1, label="sensible maximum")
        axes.set_ylim(floor[far].min() - 110, plain[far].max() + 20)
    far.set(title="a component of a mixture can", ylabel="objective (nats)", xticks=10.0 ** np.arange(-36, 0, 6))
    near.set_title("near a sensible maximum")
    left.legend(loc="lower right")
    far.legend(loc="lower left")
    for axes in (left, far, near):
        axes.set_xlabel("σ, the width of the component on one point")
    return left.figure
