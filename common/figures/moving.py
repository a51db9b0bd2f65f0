"""Drawings whose marks change from frame to frame, as SVG and as the values that the page's script sets.

A replay consists of panels, SVG with its axes and the marks of its last frame, and of parts: for each mark that
moves, its attributes in every frame of every run. The page's script sets them; it computes nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 340, 270, 54, 10, 26, 40


@dataclass
class Part:
    """A mark that moves: which attributes change, and their values by run and frame."""

    attributes: str
    values: list[list]


@dataclass
class Replay:
    """A moving figure: its panels, the names of its runs, what is said below each frame, and its parts."""

    description: str
    runs: Sequence[str]
    captions: list[list[str]]
    panels: list["Panel"]
    plane: int = 0  # the frames are a square of this side, one for each place in the first panel

    def svg(self) -> str:
        """The panels as they are in the last frame of the first run."""
        return "".join(panel.svg(self.description) for panel in self.panels)

    def data(self) -> dict:
        """What the script needs, to be written as JSON."""
        parts = [part for panel in self.panels for part in panel.parts]
        moving = [{"set": part.attributes, "values": part.values} for part in parts]
        return {"runs": list(self.runs), "captions": self.captions, "plane": self.plane, "parts": moving}


@dataclass
class Panel:
    """A pair of axes with marks: the range of each axis, and how its numbers become pixels."""

    title: str
    x: tuple[float, float]
    y: tuple[float, float]
    labels: tuple[str, str] = ("", "")
    ticks: tuple[bool, bool] = (True, True)
    names: Sequence[str] = ()  # of the places 0, 1, ... on the axis below, instead of their numbers
    marks: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)

    def at(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pixels of points."""
        across = LEFT + (np.asarray(x) - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - LEFT - RIGHT)
        down = HEIGHT - BOTTOM - (np.asarray(y) - self.y[0]) / (self.y[1] - self.y[0]) * (HEIGHT - TOP - BOTTOM)
        return across, down

    def still(self, mark: str) -> None:
        """Add a mark that does not move."""
        self.marks.append(mark)

    def key(self, x: float, y: float, *entries: tuple[str, str]) -> None:
        """Add a key, its first entry at a point; each is its classes, which say line or square, and its words."""
        left, top = self.at(x, y)
        for row, (kind, words) in enumerate(entries):
            down = top + 16 * row
            square = f'<rect x="{left + 3:.0f}" y="{down - 5:.0f}" width="10" height="10"/>'
            line = f'<path d="M{left:.0f} {down:.0f}h16"/>'
            self.still(f'<g class="{kind}">{line if "line" in kind else square}</g>')
            self.still(f'<text class="key" x="{left + 21:.0f}" y="{down + 4:.0f}">{escape(words)}</text>')

    def moving(self, kind: str, marks: Sequence[str], attributes: str, values: Iterable[Iterable]) -> None:
        """Add a group of marks that move, drawn as in the last frame of the first run.

        ``values`` are by run and frame: for mark after mark, those of the attributes in their order.
        """
        runs, names = [list(run) for run in values], attributes.split()
        self.parts.append(Part(attributes, runs))
        last, drawn = runs[0][-1], []
        for i, mark in enumerate(marks):
            own = [attribute(name, last[i * len(names) + j]) for j, name in enumerate(names)]
            text = "".join(escape(value) for name, value in own if name == "text")
            attributes_of = "".join(f' {name}="{value}"' for name, value in own if name != "text")
            drawn.append(f"<{mark}{attributes_of}>{text}</{mark.split()[0]}>")
        self.marks.append(f'<g class="part {kind}">{"".join(drawn)}</g>')

    def curve(self, x: np.ndarray, y: np.ndarray) -> str:
        """A path through those of the points that are inside the panel, for the attribute d."""
        inside = (y >= self.y[0]) & (y <= self.y[1])
        across, down = self.at(np.asarray(x)[inside], y[inside])
        return "M" + ("L".join(f"{a:.0f} {b:.1f}" for a, b in zip(across, down, strict=True)) or "0 0")

    def dots(self, x: np.ndarray, y: np.ndarray, radius: float = 2.5) -> str:
        """Points as circles."""
        pixels = zip(*self.at(x, y), strict=True)
        return "".join(f'<circle cx="{a:.0f}" cy="{b:.0f}" r="{radius}"/>' for a, b in pixels)

    def ellipse(self, mean: np.ndarray, covariance: np.ndarray) -> list:
        """The half axes and the transform of an ellipse of two standard deviations."""
        scale = np.diag([self.at(1, 0)[0] - self.at(0, 0)[0], self.at(0, 1)[1] - self.at(0, 0)[1]])
        squares, axes = np.linalg.eigh(scale @ covariance @ scale.T)
        angle, (a, b) = np.degrees(np.arctan2(axes[1, 1], axes[0, 1])), self.at(*mean)
        minor, major = 2 * np.sqrt(np.maximum(squares, 0))
        return [short(major), short(minor), f"translate({a:.1f} {b:.1f}) rotate({angle:.1f})"]

    def bar(self, centre: float, width: float, low: float, high: float) -> list:
        """Place and size of a bar: x, y, width, height."""
        (left, right), (bottom, top) = self.at([centre - width / 2, centre + width / 2], [low, high])
        return [short(left), short(top), short(right - left), short(bottom - top)]

    def svg(self, description: str) -> str:
        """The panel as SVG."""
        low, high = HEIGHT - BOTTOM, WIDTH - RIGHT
        parts = [
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(self.title)}. {escape(description)}">'
        ]
        parts.append(f'<text class="title" x="{LEFT}" y="14">{escape(self.title)}</text>')
        places = range(len(self.names)) if self.names else _ticks(self.x) if self.ticks[0] else ()
        for value in places:
            place = self.at(value, self.y[0])[0]
            parts.append(f'<path class="grid" d="M{place:.1f} {TOP}V{low}"/>')
            name = self.names[value] if self.names else f"{value:g}"
            parts.append(f'<text x="{place:.1f}" y="{low + 15}">{name}</text>')
        for value in _ticks(self.y) if self.ticks[1] else ():
            place = self.at(self.x[0], value)[1]
            parts.append(f'<path class="grid" d="M{LEFT} {place:.1f}H{high}"/>')
            parts.append(f'<text class="left" x="{LEFT - 5}" y="{place + 4:.1f}">{value:g}</text>')
        parts.append(f'<text x="{(LEFT + high) / 2}" y="{HEIGHT - 7}">{escape(self.labels[0])}</text>')
        middle = (TOP + low) / 2
        parts.append(f'<text x="11" y="{middle}" transform="rotate(-90 11 {middle})">{escape(self.labels[1])}</text>')
        return "".join([*parts, *self.marks, "</svg>"])


def _ticks(limits: tuple[float, float]) -> np.ndarray:
    places = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(*limits)
    return places[(places >= limits[0]) & (places <= limits[1])].round(12)


def attribute(name: str, value: object) -> tuple[str, str]:
    """The attribute that a recorded value sets, as in the page's script.

    ``mix`` is the share of the first colour in per cent, ``colour`` the number of a colour, ``grey`` one hexadecimal
    digit.
    """
    if name == "mix":
        return "style", f"--mix: {value}%;"
    if name == "colour":
        return "style", f"--own: var(--c{value});"
    if name == "grey":
        return "fill", f"#{value}{value}{value}"
    return name, f"{value:g}" if isinstance(value, float) else str(value)


def short(value: float) -> float:
    return round(float(value), 1)
