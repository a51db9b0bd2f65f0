"""The figures of training runs, from arrays only, and the style of every figure of the project.

Colours are Okabe and Ito's, distinct for colour-blind eyes too. All type is of one size, titles a little larger.
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
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}


@rc_context(STYLE)
def mixture(
    data: Dataset,
    weights: np.ndarray,
    means: np.ndarray,
    covariances: np.ndarray,
    covariance_type: str,
    responsibilities: np.ndarray,
    fade: bool = False,
) -> Figure:
    """Points coloured by responsibility, with each component's ellipses of one and two standard deviations.

    With more than two features, the first two are shown; with one, the density over a histogram. A point that
    lacks one of the two (NaN) is a tick on the axis of the other. With ``fade`` a component's opacity is its
    weight relative to the largest.
    """
    x, (k, d) = data.x, means.shape
    colours, covariances = palette(k), _full(covariances, covariance_type, k, d)
    shades = np.clip(responsibilities @ colours, 0, 1)
    names = tuple(map(shown_name, data.feature_names)) or tuple(f"feature {i + 1}" for i in range(d))
    figure = Figure(figsize=(6.4 if d == 1 else 7.6, 4.8))
    axes = figure.subplots()
    axes.set_title(f"{shown_name(Path(data.name).name)}: mixture of {k} Gaussians")
    axes.set(xlabel=names[0], ylabel=names[1] if d > 1 else "density")
    if d == 1:
        _density(axes, x[:, 0], weights, means[:, 0], covariances[:, 0, 0], colours)
        return figure
    axes.scatter(x[:, 0], x[:, 1], c=shades, s=14, alpha=0.7, linewidths=0)
    # components of a posterior with responsibility for less than one point have died out
    alive = responsibilities.sum(axis=0) >= 1 if fade else np.full(k, True)
    listed = np.flatnonzero(alive & (np.argsort(np.argsort(-weights, kind="stable")) < LONGEST_LEGEND))
    for j in range(k):
        opacity = weights[j] / weights.max() if fade else 1.0
        ellipses(axes, means[j, :2], covariances[j, :2, :2], colours[j], opacity)
    keys = [Patch(fill=False, edgecolor=colours[j], label=f"$\\pi_{{{j + 1}}}$ = {weights[j]:.3f}") for j in listed]
    if len(listed) < k:
        keys.append(_words(f"and {k - len(listed)} {'of less than a point' if fade else 'more'}"))
    keys += _ticks(axes, x[:, :2], shades, names)
    figure.legend(handles=keys, title="components", loc="outside right upper")
    return figure


def _ticks(axes: Axes, x: np.ndarray, shades: np.ndarray, names: Sequence[str]) -> list[Line2D]:
    # Draw a tick for each point (N, 2) that lacks a coordinate, on the other's axis; return legend entries.
    gaps, keys = np.isnan(x), []
    for axis, marker, place in ((0, "|", axes.get_xaxis_transform()), (1, "_", axes.get_yaxis_transform())):
        alone = gaps[:, 1 - axis] & ~gaps[:, axis]
        if alone.any():
            points = [x[alone, axis], np.full(alone.sum(), 0.015)][:: 1 - 2 * axis]
            axes.scatter(*points, c=shades[alone], marker=marker, s=60, linewidths=1.2, transform=place, zorder=3)
            label = f"{alone.sum()} without {names[1 - axis].partition(' (')[0]}"
            keys.append(Line2D([], [], color="0.3", linestyle="", marker=marker, markersize=8, label=label))
    if both := int(gaps.all(axis=1).sum()):
        keys.append(_words(f"{both} without either: not shown"))
    return keys


def _words(text: str) -> Line2D:
    # A legend entry without a mark.
    return Line2D([], [], linestyle="", label=text)


@rc_context(STYLE)
def log_likelihood(trace: np.ndarray, name: str = "log likelihood") -> Figure:
    """The log likelihood by iteration, and its distance from the last value on a logarithmic scale."""
    figure = Figure(figsize=(8.4, 3.6))
    left, right = figure.subplots(1, 2)
    iterations, gap = np.arange(1, len(trace) + 1), trace[-1] - trace[:-1]
    left.plot(iterations, trace, color=COLOURS[0], marker="." if len(trace) < 60 else None)
    left.set(title=f"{name} (nats)", xlabel="iteration")
    left.ticklabel_format(useOffset=False)
    if np.any(gap > 0):
        right.semilogy(iterations[:-1][gap > 0], gap[gap > 0], color=COLOURS[1])
    right.set(title="still to gain (nats)", xlabel="iteration")
    return figure


@rc_context(STYLE)
def losses(history: Sequence[dict[str, Any]]) -> Figure:
    """The training and the held-out loss by update, and the parts of the loss: two for a VAE, else one."""
    if not history or "kl" in history[0]:
        title = "loss = -ELBO (nats per image)"
        parts = {"reconstruction": "reconstruction E[log p(x|z)]", "kl": "KL(q(z|x) || p(z))"}
    else:
        title, parts = "loss = -log N(x | g(f(x)), σ²I)", {"squared_error": "squared error per pixel"}
    steps = [row["step"] for row in history]
    figure = Figure(figsize=(3.7 * (1 + len(parts)), 3.6))
    first, *others = figure.subplots(1, 1 + len(parts))
    first.plot(steps, [row["loss"] for row in history], color=COLOURS[5], label="minibatch")
    if held_out := [(row["step"], row["held_out_loss"]) for row in history if "held_out_loss" in row]:
        first.plot(*zip(*held_out, strict=True), color=COLOURS[0], marker=".", label="held out")
    first.legend()
    first.set(title=title, xlabel="update")
    for axes, (name, part), colour in zip(others, parts.items(), (COLOURS[2], COLOURS[1]), strict=False):
        axes.plot(steps, [row[name] for row in history], color=colour)
        axes.set(title=part, xlabel="update", yscale="log" if name == "squared_error" else "linear")
    return figure


@rc_context(STYLE)
def reconstructions(originals: np.ndarray, reconstructed: np.ndarray, image_shape: tuple[int, int]) -> Figure:
    """Originals in the upper row, their reconstructions below."""
    figure = Figure(figsize=(1.0 * len(originals) + 1.2, 2.4))
    rows = figure.subplots(2, len(originals), squeeze=False)
    for row, name, images in zip(rows, ("original", "reconstructed"), (originals, reconstructed), strict=True):
        for axes, image in zip(row, images, strict=True):
            _show(axes, image, image_shape)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


@rc_context(STYLE)
def samples(images: np.ndarray, image_shape: tuple[int, int], source: str = "the prior") -> Figure:
    """Images decoded from codes that were drawn from ``source``."""
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
    _show(axes, sheet, sheet.shape)


@rc_context(STYLE)
def latent_space(codes: np.ndarray, labels: np.ndarray | None, label_names: Sequence[str] = ()) -> Figure:
    """The codes' means, coloured by label; of more than two dimensions, the two principal components.

    Each class is marked with its name, or with its label if it has none.
    """
    names = ("code, dimension 1", "dimension 2")
    if codes.shape[1] > 2:
        centred = codes - codes.mean(axis=0)
        codes = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
        names = ("first principal component of the code", "second")
    codes = np.column_stack([codes, np.zeros(len(codes))])[:, :2]  # one dimension or image has one axis
    figure = Figure(figsize=(5.6, 4.6))
    axes = figure.subplots()
    axes.set(title="latent space, held-out images", xlabel=names[0], ylabel=names[1])
    if labels is None:
        axes.scatter(*codes.T, color=COLOURS[0], s=14, alpha=0.7, linewidths=0)
        return figure
    classes = np.unique(labels)
    style = {"weight": "bold", "ha": "center", "va": "center"}
    for label, colour in zip(classes, palette(len(classes)), strict=True):
        chosen = codes[labels == label]
        axes.scatter(*chosen.T, color=colour, s=10, alpha=0.5, linewidths=0)
        name = shown_name(label_names[label]) if label_names else str(label)
        axes.annotate(name, np.median(chosen, axis=0), color=colour * 0.6, **style)
    return figure


def shown_name(name: str) -> str:
    """A name from a file, shortened, with dollar signs escaped for Matplotlib."""
    return short(name).replace("$", r"\$")


def standardised(x: np.ndarray) -> np.ndarray:
    """The columns with mean 0 and standard deviation 1."""
    return (x - x.mean(axis=0)) / x.std(axis=0)


def palette(n: int) -> np.ndarray:
    """n distinct colours, (n, 3)."""
    if n <= len(COLOURS):
        return np.array([to_rgb(colour) for colour in COLOURS[:n]])
    return colormaps["tab20"](np.arange(n) % 20)[:, :3]


def ellipses(axes: Axes, mean: np.ndarray, covariance: np.ndarray, colour: np.ndarray, opacity: float = 1.0) -> None:
    """Ellipses of one and two standard deviations about a mean, and a cross on it."""
    values, vectors = np.linalg.eigh(covariance)
    angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
    for deviations in (1, 2):
        width, height = 2 * deviations * np.sqrt(np.maximum(values[::-1], 0))
        style = {"fill": False, "edgecolor": colour, "linewidth": 2.2 - 0.6 * deviations, "alpha": opacity}
        axes.add_patch(Ellipse(mean, width, height, angle=angle, **style))
    axes.plot(*mean, marker="+", color=colour, markersize=10, markeredgewidth=2, alpha=opacity)


def _full(covariances: np.ndarray, covariance_type: str, k: int, d: int) -> np.ndarray:
    if covariance_type in ("full", "tied"):
        return np.broadcast_to(covariances, (k, d, d))
    return np.broadcast_to(covariances.reshape(k, -1)[:, :, None], (k, d, 1)) * np.eye(d)


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
    axes.imshow(image.reshape(image_shape), cmap="gray_r", vmin=0, vmax=1, interpolation="none")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)
