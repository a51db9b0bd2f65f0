"""The figures that the chapters describe, from arrays only, in the style of ``common.figures.runs``."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from common.figures.runs import COLOURS, STYLE, ellipses, palette, show_sheet


def coin(theta: np.ndarray, beliefs: Sequence[tuple[str, np.ndarray]], estimates: Sequence[dict[str, float]]) -> Figure:
    """Densities of theta (T,) after more and more tosses, with what each school makes of them."""
    with rc_context(STYLE):
        figure = Figure(figsize=(3.4 * len(beliefs), 3.4))
        every = figure.subplots(1, len(beliefs), sharex=True)
        marks = {"MLE": (":", COLOURS[1], 2), "MAP": ("--", COLOURS[2], 2), "predictive": ("-", COLOURS[3], 4)}
        for axes, (title, density), found in zip(every, beliefs, estimates, strict=True):
            axes.fill_between(theta, density, color=COLOURS[0], alpha=0.25, linewidth=0)
            axes.plot(theta, density, color=COLOURS[0])
            for name, value in found.items():
                line, colour, width = marks[name]  # the widest lies below, so that all are seen where they coincide
                axes.axvline(value, linestyle=line, color=colour, linewidth=width, zorder=2 - width / 10,
                             label=f"{name} {value:.2f}")  # fmt: skip
            axes.set(title=title, xlabel="θ, probability of heads", ylim=(0, 1.35 * density.max()))
            if found:
                axes.legend(fontsize=9, loc="upper left")
        every[0].set_ylabel("density")
        return figure


def mixture_density(
    axes_names: tuple[str, str],
    grid: tuple[np.ndarray, np.ndarray],
    log_density: np.ndarray,
    samples: np.ndarray,
    responsibilities: np.ndarray,
) -> Figure:
    """Contours of a mixture's density, (H, W) over the grid, and points drawn from it, coloured by responsibility."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 4.8))
        (left, right), (bar, blank) = figure.subplots(2, 2, height_ratios=(1, 0.04))
        blank.set_axis_off()
        density = np.exp(log_density)
        filled = left.contourf(*grid, density, levels=12, cmap="viridis")
        figure.colorbar(filled, cax=bar, orientation="horizontal", label="density")
        left.set_title("density")
        shades = np.clip(responsibilities @ palette(responsibilities.shape[1]), 0, 1)
        right.scatter(*samples.T, c=shades, s=12, alpha=0.7, linewidths=0)
        right.contour(*grid, density, levels=6, colors="0.6", linewidths=0.7)
        right.set_title("samples, coloured by responsibility")
        for axes in (left, right):
            axes.set(xlabel=axes_names[0], xlim=(grid[0].min(), grid[0].max()), ylim=(grid[1].min(), grid[1].max()))
        left.set_ylabel(axes_names[1])
        return figure


def em_snapshots(x: np.ndarray, snapshots: Sequence[tuple[int, np.ndarray, np.ndarray, np.ndarray, float]]) -> Figure:
    """EM at work: (iteration, means, covariances, responsibilities, log likelihood) a panel."""
    with rc_context(STYLE):
        figure = Figure(figsize=(2.9 * len(snapshots), 3.3))
        every = figure.subplots(1, len(snapshots), sharex=True, sharey=True)
        colours = palette(snapshots[0][1].shape[0])
        for axes, (iteration, means, covariances, gamma, objective) in zip(every, snapshots, strict=True):
            axes.scatter(*x.T, c=np.clip(gamma @ colours, 0, 1), s=8, alpha=0.6, linewidths=0)
            for mean, covariance, colour in zip(means, covariances, colours, strict=True):
                ellipses(axes, mean, covariance, colour)
            axes.set_title(f"iteration {iteration}\nlog p = {objective:.1f}", fontsize=11)
        every[0].set(xlim=(0.8, 5.6), ylim=(34, 104), ylabel="waiting (minutes)")
        figure.supxlabel("eruption (minutes)", fontsize=11)
        return figure


def components_dying_out(
    axes_names: tuple[str, str],
    x: np.ndarray,
    snapshots: Sequence[tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]],
) -> Figure:
    """Variational inference at work: (iteration, weights, means, covariances, responsibilities, bound) a panel.

    An ellipse is as opaque as its component's expected weight is large, the heaviest of the panel entirely so; below
    it, all the expected weights.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(2.9 * len(snapshots), 4.4))
        rows = figure.subplots(2, len(snapshots), sharex="row", sharey="row", height_ratios=(3, 1))
        k = len(snapshots[0][1])
        colours = palette(k)
        for (above, below), (iteration, weights, means, covariances, gamma, bound) in zip(
            rows.T, snapshots, strict=True
        ):
            above.scatter(*x.T, c=np.clip(gamma @ colours, 0, 1), s=8, alpha=0.45, linewidths=0)
            for weight, mean, covariance, colour in zip(weights, means, covariances, colours, strict=True):
                ellipses(above, mean, covariance, colour, opacity=weight / weights.max())
            above.set_title(f"iteration {iteration}\nbound {bound:.1f}", fontsize=11)
            below.bar(np.arange(1, k + 1), weights, color=colours)
            below.set_xticks(np.arange(1, k + 1))
        rows[0, 0].set(xlim=(-2.6, 2.6), ylim=(-2.8, 2.8), ylabel=axes_names[1])
        rows[1, 0].set(ylim=(0, 0.72), ylabel="E[weight]")
        for above, below in rows.T:
            above.set_xlabel(axes_names[0])
            below.set_xlabel("component")
        return figure


def choosing_components(counts: Sequence[int], bounds: np.ndarray, log_likelihoods: np.ndarray) -> Figure:
    """Against the number of components K, both (K,): the lower bound on log p(X), and the log likelihood of EM."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.9))
        left, right = figure.subplots(1, 2, sharex=True)
        for axes, values, colour in ((left, bounds, COLOURS[0]), (right, log_likelihoods, COLOURS[2])):
            axes.plot(counts, values, "-o", color=colour)
            for k, value in zip(counts, values, strict=True):
                beside = (10, -3, "left") if k == counts[0] else (0, 8, "center")  # clear of the steep line
                axes.annotate(f"{value:.1f}", (k, value), beside[:2], textcoords="offset points", ha=beside[2],
                              fontsize=9)  # fmt: skip
            axes.set(xlabel="number of components K", ylabel="nats", xticks=counts, xlim=(0.5, counts[-1] + 0.5))
            axes.set_ylim(None, values.max() + 0.12 * np.ptp(values))
        best = int(np.argmax(bounds))
        left.plot(counts[best], bounds[best], "o", color=COLOURS[1], markersize=10, zorder=4)
        left.set_title(f"the lower bound on log p(X) is highest at K = {counts[best]}")
        right.set_title("the log likelihood of EM keeps rising")
        return figure


def restarts(final: np.ndarray, single: float) -> Figure:
    """The log likelihood that each random start ends at, sorted; how many maxima these are; a single Gaussian's."""
    ordered = np.sort(final)
    maxima = ordered[np.concatenate([np.diff(ordered) > 0.2, [True]])]  # nats; EM stops a little below each
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.8))
        axes = figure.subplots()
        axes.hlines(maxima, 0.5, len(final) + 0.5, color="0.8", linewidth=0.8)
        axes.plot(np.arange(1, len(final) + 1), ordered, "o", color=COLOURS[0])
        axes.set(xlabel="random starts, worst to best", ylabel="log likelihood (nats)", xticks=range(1, len(final) + 1))
        axes.set_title(f"{len(final)} starts of EM end at {len(maxima)} different maxima")
        axes.grid(False)
        text = f"each line is a maximum; the best, {ordered[-1]:.1f}\n(one Gaussian reaches {single:.1f})"
        axes.text(0.97, 0.3, text, transform=axes.transAxes, ha="right", fontsize=9)
        return figure


def decomposition(steps: Sequence[tuple[str, float, float]]) -> Figure:
    """log p(X) = L + KL before and after E and M steps: (step, lower bound, divergence) a column."""
    names, bounds, divergences = zip(*steps, strict=True)
    position, bounds, divergences = np.arange(len(steps)), np.array(bounds), np.array(divergences)
    floor = bounds.min() - 0.25 * np.ptp(bounds + divergences)
    with rc_context(STYLE):
        figure = Figure(figsize=(8.6, 4.2))
        axes = figure.subplots()
        axes.bar(position, bounds - floor, bottom=floor, width=0.6, color=COLOURS[0], label="lower bound $L(q, θ)$")
        axes.bar(position, divergences, bottom=bounds, width=0.6, color=COLOURS[4], label="$KL(q \\| p)$")
        for p, total in zip(position, bounds + divergences, strict=True):
            axes.plot([p - 0.38, p + 0.38], [total, total], color="black", linewidth=2,
                      label="log likelihood" if p == 0 else None)  # fmt: skip
        axes.set_xticks(position, names)
        axes.set(ylim=(floor, None), ylabel="nats", title="the E step closes the gap, the M step lifts both")
        axes.legend(loc="upper left", ncols=3, bbox_to_anchor=(0, -0.1))
        return figure


def lower_bounds(
    parameter: np.ndarray, objective: np.ndarray, bounds: Sequence[np.ndarray], visited: Sequence[tuple[float, float]]
) -> Figure:
    """The log likelihood over one parameter (T,), the lower bound (T,) of each E step, and the points visited.

    Each bound touches the curve where its E step was taken and lies below it elsewhere. Here the parameter is the mean
    of a Gaussian, and every bound is a parabola, concave: for exponential families Q is concave in the natural
    parameters. In general a lower bound in parameter space is neither concave nor convex.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 4.4))
        axes = figure.subplots()
        axes.plot(parameter, objective, color="black", linewidth=2, label="log likelihood")
        low = objective.min() - 0.15 * np.ptp(objective)
        for i, (bound, (place, value)) in enumerate(zip(bounds, visited, strict=False)):
            inside = bound > low
            colour = COLOURS[i % 8]
            axes.plot(parameter[inside], bound[inside], color=colour, label=f"lower bound after E step {i + 1}")
            axes.plot(place, value, marker="o", color=colour, zorder=3)
            if i + 1 < len(visited):  # the M step goes to the top of the bound, the next E step up to the curve
                axes.vlines(visited[i + 1][0], bound.max(), visited[i + 1][1], color=colour, linestyle=":")
        axes.set(xlabel="mean of the first component, μ₁ (minutes)", ylabel="nats", ylim=(low, None))
        axes.set_title("each M step climbs to the top of the bound that the E step raised", fontsize=11)
        axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
        return figure


def singularity(
    widths: tuple[np.ndarray, np.ndarray, np.ndarray], alone: np.ndarray, curves: dict[str, tuple[np.ndarray, ...]]
) -> Figure:
    """Objectives against the width of a component on one point: of one Gaussian, and of a mixture, far and near.

    The widths (S,) are those of each panel; each of the mixture's ``curves`` has its values far to the left and near
    by. A dashed line is as high as the sensible maximum.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(13.5, 4.0))
        left, far, near = figure.subplots(1, 3)
        left.semilogx(widths[0], alone, color=COLOURS[0], label="one Gaussian")
        left.set(title="one Gaussian cannot collapse", ylabel="log likelihood (nats)")
        left.set_ylim(alone.max() - 4000, alone.max() + 400)
        for axes, place in ((far, 0), (near, 1)):
            for (name, values), colour, width in zip(curves.items(), COLOURS[1:], (4, 1.6, 1.6), strict=False):
                axes.semilogx(widths[1 + place], values[place], color=colour, linewidth=width, label=name)
            plain, floor, _ = curves.values()
            axes.axhline(plain[1].max(), color="0.4", linestyle="--", linewidth=1, label="sensible maximum")
            axes.set_ylim(floor[0].min() - 110, plain[0].max() + 20)
        far.set_title("a component of a mixture can")
        near.set_title("near a sensible maximum")
        far.set_ylabel("objective (nats)")
        for axes, place in ((left, "lower right"), (far, "lower left")):
            axes.legend(fontsize=9, loc=place)
        for axes in (left, far, near):
            axes.set_xlabel("σ, the width of the component on one point")
        far.set_xticks(10.0 ** np.arange(-36, 0, 6))
        return figure


def held_out_comparison(rows: Sequence[dict[str, Any]]) -> Figure:
    """Log density of held-out images by model, with two standard errors, and how estimates rise with the draws."""
    estimated = [row["model"].rpartition(": importance")[0] for row in rows if row["kind"] == "estimate"]
    last = {name: [r for r in rows if r["model"].startswith(f"{name}: importance")][-1] for name in estimated}
    shown = [r for r in rows if r["kind"] != "estimate" or r in last.values()]
    marks = {
        "density": ("o", COLOURS[0], "density: log p(x)"),
        "estimate": ("D", COLOURS[2], "estimate of log p(x)"),
        "lower bound": (">", COLOURS[4], "lower bound on log p(x)"),
        "not a density": ("x", COLOURS[1], "not a density of x"),
    }
    with rc_context(STYLE):
        figure = Figure(figsize=(13, 0.36 * len(shown) + 1.4))
        left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
        for kind, (mark, colour, label) in marks.items():
            places = [i for i, row in enumerate(shown) if row["kind"] == kind]
            errors = [2 * shown[i]["standard_error"] for i in places]
            left.errorbar([shown[i]["nats"] for i in places], places, xerr=errors, fmt=mark, color=colour, label=label)
        left.set_yticks(range(len(shown)), [row["model"] for row in shown], fontsize=9)
        left.invert_yaxis()
        left.set(xlabel="nats per held-out image, ± 2 standard errors", title="higher is better, among densities")
        left.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.2, -0.12), ncols=2)
        for name, colour in zip(last, COLOURS, strict=False):
            curve = [r for r in rows if r["model"].startswith(f"{name}: importance")]
            draws = [int(r["model"].rpartition("= ")[2]) for r in curve]
            right.semilogx(draws, [r["nats"] for r in curve], marker=".", color=colour, label=name)
        exact = [r for r in rows if r["model"].endswith("exact")]
        for row in exact:
            right.axhline(row["nats"], color="black", linestyle="--", linewidth=1, label="linear VAE, exact")
        right.set(xlabel="S, draws from q(z|x)", title="the estimate rises with S", ylabel="nats")
        right.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.4, -0.12), ncols=2)
        return figure


def manifold(images: np.ndarray, image_shape: tuple[int, int], codes: np.ndarray) -> Figure:
    """Images (T², D) of a T by T grid of codes of two dimensions, ``codes`` (T,) along each."""
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 6.4))
        axes = figure.subplots()
        show_sheet(axes, images, image_shape)
        t, (height, width) = len(codes), image_shape
        places = np.unique(np.round(np.linspace(0, t - 1, 6)).astype(int))  # as far from one end as from the other
        labels = [f"{codes[place]:.1f}" for place in places]
        # image i covers the pixels from 1 + i (width + 1) on: a line of background lies between two
        axes.set_xticks(places * (width + 1) + (width + 1) / 2, labels)
        axes.set_yticks((t - 1 - places) * (height + 1) + (height + 1) / 2, labels)
        axes.set(xlabel="code, dimension 1", ylabel="dimension 2", title="decoded grid, evenly spaced in probability")
        return figure


def sample_sheets(panels: dict[str, np.ndarray], image_shape: tuple[int, int]) -> Figure:
    """Sheets of images side by side, with titles."""
    with rc_context(STYLE):
        figure = Figure(figsize=(4.2 * len(panels), 4.8))
        for axes, (title, images) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
            show_sheet(axes, images, image_shape)
            axes.set_title(title, fontsize=11)
        return figure
