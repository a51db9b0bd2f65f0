"""Every figure of the project, from arrays only, in one style.

Colours are Okabe and Ito's, which remain apart for colour-blind eyes; shades are viridis, which also prints in grey.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse, Patch

from common.data.datasets import Dataset
from common.data.messages import short

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933", "#000000", "#888888")
LONGEST_LEGEND = 14
STYLE = {
    "figure.dpi": 120,
    "savefig.dpi": 120,
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}


def mixture(
    data: Dataset,
    weights: np.ndarray,
    means: np.ndarray,
    covariances: np.ndarray,
    responsibilities: np.ndarray,
    fade: bool = False,
) -> Figure:
    """Points coloured by responsibility, with each component's ellipses of one and two standard deviations.

    Of data with more than two features the first two are shown; with one feature, the density over a histogram. A point
    that lacks one of the two (NaN) is a tick on the axis of the other. With ``fade`` a component's opacity is its
    weight, relative to the largest.
    """
    x, k, d = data.x, len(weights), data.x.shape[1]
    colours = palette(k)
    shades = np.clip(responsibilities @ colours, 0, 1)
    covariances = _full(covariances, k, d)
    names = tuple(map(shown_name, data.feature_names)) or tuple(f"feature {i + 1}" for i in range(d))
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4 if d == 1 else 7.6, 4.8))
        axes = figure.subplots()
        if d == 1:
            _density(axes, x[:, 0], weights, means[:, 0], covariances[:, 0, 0], colours)
        else:
            axes.scatter(x[:, 0], x[:, 1], c=shades, s=14, alpha=0.7, linewidths=0)
            # of a posterior, components that answer for less than a point have died out
            alive = responsibilities.sum(axis=0) >= 1 if fade else np.full(k, True)
            listed = np.flatnonzero(alive & (np.argsort(np.argsort(-weights, kind="stable")) < LONGEST_LEGEND))
            for j in range(k):
                opacity = weights[j] / weights.max() if fade else 1.0
                ellipses(axes, means[j, :2], covariances[j, :2, :2], colours[j], opacity)
            names_of_parts = {j: f"$\\pi_{{{j + 1}}}$ = {weights[j]:.3f}" for j in listed}
            keys = [Patch(fill=False, edgecolor=colours[j], label=name) for j, name in names_of_parts.items()]
            if len(listed) < k:
                keys.append(_words(f"and {k - len(listed)} {'of less than a point' if fade else 'more'}"))
            keys += _rug(axes, x[:, :2], shades, names)
            figure.legend(handles=keys, title="components", loc="outside right upper")
        axes.set(
            title=f"{shown_name(Path(data.name).name)}: mixture of {k} Gaussians", xlabel=names[0],
            ylabel=names[1] if d > 1 else "density",
        )  # fmt: skip
        return figure


def _rug(axes: Axes, x: np.ndarray, shades: np.ndarray, names: Sequence[str]) -> list[Line2D]:
    # Ticks for points (N, 2) that lack a coordinate, on the axis of the one they have; the legend's entries for them.
    gaps, keys = np.isnan(x), []
    for axis, marker in ((0, "|"), (1, "_")):
        alone = gaps[:, 1 - axis] & ~gaps[:, axis]
        if alone.any():
            place = axes.get_xaxis_transform() if axis == 0 else axes.get_yaxis_transform()
            edge = np.full(alone.sum(), 0.015)
            points = (x[alone, 0], edge) if axis == 0 else (edge, x[alone, 1])
            axes.scatter(*points, c=shades[alone], marker=marker, s=60, linewidths=1.2, transform=place, zorder=3)
            keys.append(Line2D([], [], color="0.3", linestyle="", marker=marker, markersize=8,
                               label=f"{alone.sum()} without {names[1 - axis].partition(' (')[0]}"))  # fmt: skip
    if both := int(gaps.all(axis=1).sum()):
        keys.append(_words(f"{both} without either: not shown"))
    return keys


def _words(text: str) -> Line2D:
    # A line of a legend without a mark.
    return Line2D([], [], linestyle="", label=text)


def log_likelihood(trace: np.ndarray, name: str = "log likelihood") -> Figure:
    """The log likelihood by iteration, and how far below its last value it still is, on a logarithmic scale."""
    with rc_context(STYLE):
        figure = Figure(figsize=(8.4, 3.6))
        left, right = figure.subplots(1, 2)
        iterations = np.arange(1, len(trace) + 1)
        left.plot(iterations, trace, color=COLOURS[0], marker="." if len(trace) < 60 else None)
        left.set(title=f"{name} (nats)", xlabel="iteration")
        left.ticklabel_format(useOffset=False)
        gap = trace[-1] - trace[:-1]
        if np.any(gap > 0):
            right.semilogy(iterations[:-1][gap > 0], gap[gap > 0], color=COLOURS[1])
        right.set(title="still to gain (nats)", xlabel="iteration")
        return figure


def losses(history: Sequence[dict[str, Any]]) -> Figure:
    """Training loss by update with the held-out loss beside it, and its parts apart: two of a VAE, else one."""
    steps = np.array([row["step"] for row in history])
    held_out = [(row["step"], row["held_out_loss"]) for row in history if "held_out_loss" in row]
    with rc_context(STYLE):
        is_vae = not history or "kl" in history[0]
        figure = Figure(figsize=(11 if is_vae else 7.4, 3.6))
        axes = figure.subplots(1, 3 if is_vae else 2)
        axes[0].plot(steps, [row["loss"] for row in history], color=COLOURS[5], label="minibatch")
        if held_out:
            axes[0].plot(*zip(*held_out, strict=True), color=COLOURS[0], marker=".", label="held out")
        axes[0].legend()
        if is_vae:
            axes[0].set(title="loss = -ELBO (nats per image)")
            axes[1].plot(steps, [row["reconstruction"] for row in history], color=COLOURS[2])
            axes[1].set(title="reconstruction E[log p(x|z)]")
            axes[2].plot(steps, [row["kl"] for row in history], color=COLOURS[1])
            axes[2].set(title="KL(q(z|x) || p(z))")
        else:
            axes[0].set(title="loss = -log N(x | g(f(x)), σ²I)")
            axes[1].semilogy(steps, [row["squared_error"] for row in history], color=COLOURS[2])
            axes[1].set(title="squared error per pixel")
        for each in axes:
            each.set_xlabel("update")
        return figure


def reconstructions(originals: np.ndarray, reconstructed: np.ndarray, image_shape: tuple[int, int]) -> Figure:
    """Originals in the upper row, their reconstructions below."""
    with rc_context(STYLE):
        figure = Figure(figsize=(1.0 * len(originals) + 1.2, 2.4))
        axes = figure.subplots(2, len(originals), squeeze=False)
        for row, (name, images) in enumerate((("original", originals), ("reconstructed", reconstructed))):
            for column, image in enumerate(images):
                _show(axes[row, column], image, image_shape)
            axes[row, 0].set_ylabel(name, rotation=0, ha="right", va="center")
        return figure


def samples(images: np.ndarray, image_shape: tuple[int, int], source: str = "the prior") -> Figure:
    """Images decoded from codes that were drawn from ``source``."""
    with rc_context(STYLE):
        figure = Figure(figsize=(5.2, 5.4))
        axes = figure.subplots()
        show_sheet(axes, images, image_shape)
        axes.set_title(f"decoded draws from {source}")
        return figure


def show_sheet(axes: Axes, images: np.ndarray, image_shape: tuple[int, int]) -> None:
    """Images in rows of a square, one pixel apart."""
    side = int(np.ceil(np.sqrt(len(images))))
    height, width = image_shape
    sheet = np.zeros((side * (height + 1) + 1, side * (width + 1) + 1))
    for index, image in enumerate(images):
        top, left = (1 + (height + 1) * (index // side), 1 + (width + 1) * (index % side))
        sheet[top : top + height, left : left + width] = image.reshape(image_shape)
    _show(axes, sheet.ravel(), sheet.shape)


def latent_space(codes: np.ndarray, labels: np.ndarray | None, label_names: Sequence[str] = ()) -> Figure:
    """The codes' means, coloured by label; of more than two dimensions, the two principal components.

    Classes have their names beside them, or the labels that are their numbers.
    """
    if codes.shape[1] > 2:
        centred = codes - codes.mean(axis=0)
        _, _, axes_of_spread = np.linalg.svd(centred, full_matrices=False)
        codes = centred @ axes_of_spread[:2].T
        names = ("first principal component of the code", "second")
    else:
        names = ("code, dimension 1", "dimension 2")
    codes = np.column_stack([codes, np.zeros(len(codes))])[:, :2]  # one dimension, or one image, has no second axis
    with rc_context(STYLE):
        figure = Figure(figsize=(6.2, 4.8))
        axes = figure.subplots()
        if labels is None:
            axes.scatter(*codes.T, color=COLOURS[0], s=14, alpha=0.7, linewidths=0)
        else:
            classes = np.unique(labels)
            for label, colour in zip(classes, palette(len(classes)), strict=True):
                chosen = codes[labels == label]
                axes.scatter(*chosen.T, color=colour, s=10, alpha=0.5, linewidths=0)
                name = shown_name(label_names[label]) if label_names else str(label)
                axes.annotate(name, np.median(chosen, axis=0), color=colour * 0.6, weight="bold",
                              fontsize=11 if label_names else 15, ha="center", va="center")  # fmt: skip
        axes.set(title="latent space, held-out images", xlabel=names[0], ylabel=names[1])
        return figure


def shown_name(name: str) -> str:
    """A name out of a file, short, and with no formula in it for Matplotlib."""
    return short(name).replace("$", r"\$")


def palette(n: int) -> np.ndarray:
    """n colours that stay apart, (n, 3)."""
    if n <= len(COLOURS):
        return np.array([to_rgb(colour) for colour in COLOURS[:n]])
    return colormaps["tab20"](np.arange(n) % 20)[:, :3]


def _full(covariances: np.ndarray, k: int, d: int) -> np.ndarray:
    if covariances.shape == (k, d, d):
        return covariances
    if covariances.shape == (d, d):
        return np.broadcast_to(covariances, (k, d, d))
    return np.broadcast_to(covariances.reshape(k, -1)[:, :, None], (k, d, 1)) * np.eye(d)


def ellipses(axes: Axes, mean: np.ndarray, covariance: np.ndarray, colour: np.ndarray, opacity: float = 1.0) -> None:
    """Ellipses of one and two standard deviations about a mean, and a cross on it."""
    values, vectors = np.linalg.eigh(covariance)
    angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
    for deviations in (1, 2):
        width, height = 2 * deviations * np.sqrt(np.maximum(values[::-1], 0))
        style = {"fill": False, "edgecolor": colour, "linewidth": 2.2 - 0.6 * deviations, "alpha": opacity}
        axes.add_patch(Ellipse(mean, width, height, angle=angle, **style))
    axes.plot(*mean, marker="+", color=colour, markersize=10, markeredgewidth=2, alpha=opacity)


def _density(
    axes: Axes, x: np.ndarray, weights: np.ndarray, means: np.ndarray, variances: np.ndarray, colours: np.ndarray
) -> None:
    grid = np.linspace(x.min(), x.max(), 400)[:, None]
    parts = weights * np.exp(-0.5 * (grid - means) ** 2 / variances) / np.sqrt(2 * np.pi * variances)
    axes.hist(x, bins=40, density=True, color="0.85")
    for part, colour in zip(parts.T, colours, strict=True):
        axes.plot(grid, part, color=colour, linestyle="--")
    axes.plot(grid, parts.sum(axis=1), color="black")


def _show(axes: Axes, image: np.ndarray, image_shape: tuple[int, int]) -> None:
    axes.imshow(image.reshape(image_shape), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
