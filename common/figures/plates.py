"""The text's graphical models, drawn as plates: circles, arrows and boxes, and nothing that was computed."""

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from common.figures.runs import STYLE


def graphical_models() -> Figure:
    """The graphical models of the text: coin, mixture, Bayesian mixture, variational autoencoder."""
    with rc_context(STYLE | {"figure.constrained_layout.use": False}):
        figure = Figure(figsize=(11, 3.6))
        every = figure.subplots(1, 4)
        figure.subplots_adjust(left=0.01, right=0.99, bottom=0.02, top=0.86, wspace=0.06)
        _graph(every[0], "coin", {"θ": (0.5, 0.75), "x": (0.5, 0.3)}, ["θ>x"], {"N": "x"})
        places = {"·π": (0.2, 0.85), "z": (0.5, 0.6), "x": (0.5, 0.25), "·μ": (0.08, 0.38), "·Σ": (0.08, 0.14)}
        _graph(every[1], "mixture of Gaussians", places, ["·π>z", "z>x", "·μ>x", "·Σ>x"], {"N": "zx"})
        places = {"π": (0.2, 0.85), "z": (0.56, 0.6), "x": (0.56, 0.25), "μ": (0.16, 0.42), "Λ": (0.16, 0.14)}
        _graph(every[2], "Bayesian mixture", places, ["π>z", "z>x", "μ>x", "Λ>x", "Λ>μ"], {"N": "zx", "K": "μΛ"})
        places = {"z": (0.5, 0.65), "x": (0.5, 0.25), "·θ": (0.9, 0.45), "·φ": (0.1, 0.45)}
        _graph(every[3], "variational autoencoder", places, ["z>x", "·θ>x", "·φ~z", "x~z"], {"N": "zx"})
        return figure


def _graph(
    axes: Axes, title: str, nodes: dict[str, tuple[float, float]], edges: list[str], groups: dict[str, str]
) -> None:
    """Circles for random variables (grey if observed), dots for parameters; dashed arrows are those of q."""
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[], aspect="equal", title=title)
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for name, (x, y) in nodes.items():
        dot = name.startswith("·")
        radius = 0.018 if dot else 0.085
        face = "black" if dot else ("0.8" if name == "x" else "white")
        axes.add_patch(Circle((x, y), radius, facecolor=face, edgecolor="black", zorder=3))
        offset = (0.045 if x > 0.15 or "φ" not in name else -0.05, 0.045) if dot else (0, 0)
        axes.text(x + offset[0], y + offset[1], name.lstrip("·"), ha="center", va="center", fontsize=14, zorder=4)
    for edge in edges:
        kind = ">" if ">" in edge else "~"
        start, end = edge.split(kind)
        bend = "arc3,rad=0.45" if edge == "x~z" else "arc3"
        gaps = [3 if name.startswith("·") else 15 for name in (start, end)]
        axes.add_patch(FancyArrowPatch(nodes[start], nodes[end], arrowstyle="-|>", mutation_scale=14, shrinkA=gaps[0],
                                       shrinkB=gaps[1], linestyle="-" if kind == ">" else "--", connectionstyle=bend,
                                       color="black", zorder=2))  # fmt: skip
    for count, members in groups.items():
        places = np.array([nodes[name] for name in members])
        low, high = places.min(axis=0) - 0.12, places.max(axis=0) + 0.12
        width, height = high - low
        axes.add_patch(FancyBboxPatch(low, width, height, boxstyle="round,pad=0,rounding_size=0.03", fill=False,
                                      edgecolor="0.4"))  # fmt: skip
        axes.text(high[0] - 0.02, low[1] + 0.015, count, ha="right", va="bottom", fontsize=11, color="0.3")
