"""The text's graphical models, drawn as plates: circles, arrows and boxes."""

from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from common.figures.runs import STYLE

# title, node -> place (a dot before a parameter), edges (a tilde for those of q), box -> the nodes in it
MODELS = (
    ("coin", {"θ": (0.5, 0.75), "x": (0.5, 0.3)}, "θ>x", {"N": "x"}),
    (
        "mixture of Gaussians",
        {"·π": (0.2, 0.85), "z": (0.5, 0.6), "x": (0.5, 0.25), "·μ": (0.08, 0.38), "·Σ": (0.08, 0.14)},
        "·π>z z>x ·μ>x ·Σ>x",
        {"N": "zx"},
    ),
    (
        "Bayesian mixture",
        {"π": (0.2, 0.85), "z": (0.56, 0.6), "x": (0.56, 0.25), "μ": (0.16, 0.46), "Λ": (0.16, 0.18)},
        "π>z z>x μ>x Λ>x Λ>μ",
        {"N": "zx", "K": "μΛ"},
    ),
    (
        "variational autoencoder",
        {"z": (0.5, 0.65), "x": (0.5, 0.25), "·θ": (0.9, 0.45), "·φ": (0.1, 0.45)},
        "z>x ·θ>x ·φ~z x~z",
        {"N": "zx"},
    ),
)


@rc_context(STYLE | {"figure.constrained_layout.use": False})
def plates(*_: Any) -> Figure:
    """The graphical models of the text: coin, mixture, Bayesian mixture, variational autoencoder."""
    figure = Figure(figsize=(11, 3.6))
    for axes, model in zip(figure.subplots(1, len(MODELS)), MODELS, strict=True):
        _graph(axes, *model)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.02, top=0.86, wspace=0.06)
    return figure


def _graph(axes: Axes, title: str, nodes: dict[str, tuple[float, float]], edges: str, boxes: dict[str, str]) -> None:
    # Circles for random variables (grey if observed), dots for parameters; dashed arrows are those of q.
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=title)
    axes.set_axis_off()
    for name, (x, y) in nodes.items():
        dot = name.startswith("·")
        face = "black" if dot else "0.8" if name == "x" else "white"
        axes.add_patch(Circle((x, y), 0.018 if dot else 0.085, facecolor=face, edgecolor="black", zorder=3))
        offset = (0.045 if name != "·φ" else -0.05, 0.045) if dot else (0, 0)
        axes.text(x + offset[0], y + offset[1], name.lstrip("·"), ha="center", va="center", fontsize=14, zorder=4)
    for edge in edges.split():
        start, end = edge.replace("~", ">").split(">")
        gap, bend = 3 if start.startswith("·") else 15, "arc3,rad=0.45" if edge == "x~z" else "arc3"
        style = {"shrinkA": gap, "shrinkB": 15, "connectionstyle": bend, "linestyle": "--" if "~" in edge else "-"}
        arrow = FancyArrowPatch(nodes[start], nodes[end], arrowstyle="-|>", mutation_scale=14, color="black", **style)
        axes.add_patch(arrow)
    for count, members in boxes.items():
        places = np.array([nodes[name] for name in members])
        low, (width, height) = places.min(axis=0) - [0.13, 0.16], np.array([0.26, 0.28]) + np.ptp(places, axis=0)
        style = {"boxstyle": "round,pad=0,rounding_size=0.03", "fill": False, "edgecolor": "0.4"}
        axes.add_patch(FancyBboxPatch(low, width, height, **style))
        axes.text(low[0] + width - 0.02, low[1] + 0.015, count, ha="right", va="bottom", color="0.3")
