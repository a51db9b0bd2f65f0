"""The parity report: build/parity.json as one page that needs nothing else, build/parity/index.html.

python -m parity_tests.report

A row per tensor, the worst of each quantity first, the distribution of the distances in units in the last
place, and how two frameworks part over a training run beside how one framework parts from itself when its
weights move by one unit in the last place. What failed stands at the top, the earliest step first.
"""

import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib import rc_context
from matplotlib.figure import Figure

from common.book.chapters import titles
from common.figures.runs import COLOURS, STYLE

BUILD = Path(__file__).parent.parent / "build"
WHOLE_RUNS = "whole runs"
HEADLINES = (  # what it is, and the chapter and quantity of the rows that it is the worst of
    ("gradients of the encoder of a dense VAE", "vae", "gradients of the encoder"),
    ("VAE weights after 1,000 Adam updates", "trajectories", "weights after 1,000 updates"),
)
# Text and axes in a grey that is legible on light and on dark; the page decides the background.
GREY = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), "#808080")


def write_report(parity: Mapping[str, Any], path: Path) -> None:
    """Render the content of parity.json into one self-contained HTML file."""
    rows = parity["rows"]
    worst = [row for _, row in sorted(_worst_by(rows, ("chapter", "quantity", "dtype")).items())]
    chapters: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        chapters.setdefault(row["chapter"], []).append(row)
    failures = sorted((row for row in rows if not row["passed"]), key=lambda row: (row["steps"], row["headroom"]))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {"number": number, "share": share, "count": count}
    page = environment.get_template("report.html.j2").render(
        versions=parity["versions"],
        passed=parity["passed"],
        rows=rows,
        summary=worst,
        chapters=chapters,
        failures=failures,
        histogram=_svg(_histogram(rows)),
        trajectories=[(_caption(t), _svg(_trajectory(t))) for t in parity["trajectories"]],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def summary(rows: Sequence[dict[str, Any]], by: tuple[str, ...] = ("chapter",)) -> list[str]:
    """A line a chapter in reading order, or a quantity in one precision; then the worst of two HEADLINES.

    ``equal`` is the share of the tensors that are equal to the bit, ``headroom`` what is allowed over what
    was seen, of the tensor that is nearest to its tolerance. Tests of no chapter are summed up as whole runs.
    """
    order = [*titles(), WHOLE_RUNS]
    if by == ("chapter",):
        named = [row | {"chapter": row["chapter"] if row["chapter"] in order else WHOLE_RUNS} for row in rows]
        worst_by = _worst_by(sorted(named, key=lambda row: order.index(row["chapter"])), by)
    else:
        worst_by = _worst_by(rows, by)
    lines = [(*by, "tensors", "equal", "headroom", "nearest to its tolerance")]
    for key, worst in worst_by.items():
        apart = worst[_measure(worst)]
        headroom = f"{worst['headroom']:,.1f}" if worst["headroom"] < 1e6 else "> 1e+06" if apart else "exact"
        nearest = f"{apart:.1e} of {worst['tolerance']:.0e}: {worst['quantity']}, {worst['dtype']}"
        lines.append((*key, f"{worst['tensors']:,}", share(worst["equal"]), headroom, nearest))
    farthest = {(row["chapter"], row["quantity"]): 0.0 for row in rows if row["dtype"] == "float64"}
    for row in rows:
        if (name := (row["chapter"], row["quantity"])) in farthest and row["dtype"] == "float64":
            farthest[name] = max(farthest[name], row[_measure(row)])
    headlines = [f"{text}: {farthest[name]:.1e}" for text, *key in HEADLINES if (name := tuple(key)) in farthest]
    return aligned([*lines, *([(f"apart in float64: {'; '.join(headlines)}",)] if headlines else [])])


def hostile_summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """How many hostile examples were tried, page by page, how many answers they gave and what those were.

    An example of a function asks for one answer, that of an estimator for one of each method.
    """
    pages: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        for page in (row["name"].partition(".")[0], "all"):
            pages.setdefault(page, []).append(row)
    kinds = ("value", "not finite", "error", "edge", "subnormal")
    lines = [("page", "examples", "answers", *kinds, "worst share of what is allowed")]
    for page, group in sorted(pages.items(), key=lambda item: (item[0] == "all", item[0])):
        worst = max(group, key=lambda row: row["worst"])
        examples, *counts = (sum(row["outcomes"].get(kind, 0) for row in group) for kind in ("examples", *kinds))
        lines.append((page, *map(str, (examples, sum(counts), *counts)), f"{worst['worst']:.2f} {worst['name']}"))
    return aligned(lines)


def aligned(lines: Sequence[tuple[str, ...]]) -> list[str]:
    """The lines' cells in columns of one width."""
    widths = [max(map(len, column)) for column in zip(*(line for line in lines if len(line) > 1), strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)).rstrip() for line in lines]


def _measure(row: Mapping[str, Any]) -> str:
    return "nmax" if row["measure"] == "value" else row["measure"]


def number(value: float | None) -> str:
    """A measured size in two digits; 0 for exact equality, and a dash where nothing was measured."""
    if value is None:
        return "–"
    return "0" if value == 0 else f"{value:.1e}"


def share(value: float | None) -> str:
    """A share in percent, never rounded up to all or down to none."""
    if value is None:
        return "–"
    if value in (0, 1):
        return f"{value:.0%}"
    return f"{np.clip(value, 0.001, 0.999):.1%}"


def count(value: int | None) -> str:
    """A number of things, written out up to a million."""
    if value is None:
        return "–"
    return f"{value:,}" if value < 1e6 else f"{value:.0e}"


def _worst_by(rows: Sequence[dict[str, Any]], names: tuple[str, ...]) -> dict[tuple, dict[str, Any]]:
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return {
        key: min(group, key=lambda row: row["headroom"])
        | {"tensors": len(group), "modes": " ".join(sorted({row["mode"] for row in group}))}
        | {name: _extreme(max, group, name) for name in ("max_ulp", "noise_floor_ratio")}
        | {"bit_equal": _extreme(min, group, "bit_equal"), "equal": _share_equal(group)}
        for key, group in groups.items()
    }


def _extreme(function: Callable, rows: Sequence[dict[str, Any]], name: str) -> float | None:
    return function((row[name] for row in rows if row[name] is not None), default=None)


def _share_equal(rows: Sequence[dict[str, Any]]) -> float | None:
    equal = [row["bit_equal"] == 1 for row in rows if row["bit_equal"] is not None]
    return sum(equal) / len(equal) if equal else None


def _histogram(rows: Sequence[dict[str, Any]]) -> Figure:
    """Entries by distance in units in the last place: 0, 1, 2, 3-4, 5-8, ..., one line per precision."""
    with rc_context(STYLE | GREY):
        figure = Figure(figsize=(9, 3.2))
        axes = figure.subplots()
        compared = [row for row in rows if row["ulp_histogram"] is not None]
        longest = max((len(row["ulp_histogram"]) for row in compared), default=1)
        for offset, (dtype, colour) in enumerate(zip(("float64", "float32"), COLOURS, strict=False)):
            counts = np.zeros(longest)
            for row in compared:
                if row["dtype"] == dtype:
                    counts[: len(row["ulp_histogram"])] += row["ulp_histogram"]
            shares = counts / max(counts.sum(), 1)
            label = f"{dtype}, {counts.sum():,.0f} entries"
            axes.bar(np.arange(longest) + 0.4 * offset - 0.2, shares, 0.4, color=colour, label=label)
        names = ["equal", "1", "2, 3", "4 to 7", *(f"from $2^{{{i}}}$" for i in range(3, longest))]
        shown = slice(None, None, 1 + longest // 24)
        axes.set_xticks(np.arange(longest)[shown], names[:longest][shown], rotation=60, fontsize=8)
        axes.set(yscale="log", ylabel="share of the entries", xlabel="units in the last place between the two")
        axes.legend(loc="upper right")
        return figure


def _caption(trajectory: Mapping[str, Any]) -> str:
    return "{chapter}, {case}, {dtype}: {quantity}".format(**trajectory)


def _trajectory(trajectory: Mapping[str, Any]) -> Figure:
    """torch against tf2, and torch against torch from weights moved by one unit in the last place."""
    series = {"torch_tf2": ("torch - tf2", COLOURS[1]), "torch_perturbed": ("torch - torch(+1 ulp)", COLOURS[0])}
    with rc_context(STYLE | GREY):
        figure = Figure(figsize=(9, 3.2))
        axes = figure.subplots()
        for name, (label, colour) in series.items():
            values = np.array(trajectory[name])
            # a difference of exactly zero has no place on a logarithmic axis
            axes.semilogy(trajectory["steps"], np.where(values > 0, values, np.nan), ".-", color=colour, label=label)
        axes.set(xlabel="update", ylabel="relative difference")
        axes.legend()
        return figure


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def main() -> int:
    """Render build/parity.json; the exit code is 0, or 2 if the suite has not left one."""
    source, page = BUILD / "parity.json", BUILD / "parity" / "index.html"
    try:
        parity = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"parity_tests.report: error: {source} cannot be read ({error}); run make parity", file=sys.stderr)
        return 2
    write_report(parity, page)
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
