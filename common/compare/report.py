"""The comparison of models as table and figure: python -m common.compare.report TORCH.json TF2.json FOLDER.

Reads what ``common.compare.models`` measured with each implementation, prints the table, and writes table.md,
table.json and comparison.png into the folder. The exit code is 0 if the two agree on every image within 1e-10
of the row's scale, 1 if they do not, and 2 for bad input.
"""

import json
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

if not __package__:  # run as a file, python common/compare/report.py, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from common.figures.runs import COLOURS, STYLE
from common.parity import difference
from common.runs import checkpoint
from common.runs.terminal import command

WITHIN = 1e-10
PIXELS = 64
REFERENCE = "mixture of Gaussians, EM"
NOTES = """
Nats per held-out image, in units of one grey level, of pixels spread over their step: a lower bound on the log
probability of the image of whole numbers. Add {jacobian:.1f} for pixels scaled to (0, 1). "± images" is the
standard error over the images, "± draws" that of the estimate for these images. Differences from the mixture
are paired.

- "not a density": N(x | g(f(x)), σ²I) is centred on a reconstruction that was computed from x itself. Over all x
  it does not integrate to one, and it rises with the length of the code. Compare it only with itself.
- Centred on reconstructions of the training images, the same Gaussians form a density.
- A VAE averages such Gaussians over p(z) instead. Its ELBO is a lower bound. So is, on average, the importance
  weighted estimate, which rises to log p(x) with the number of draws; "± draws" does not include what is missing.
- With one variance for all pixels, those at the edge, which are almost always white, get the noise of those in
  the middle. A full covariance and the VAE with a variance per pixel avoid this.
- The linear VAE checks the estimate: its log p(x) is known.
"""


def report(a: str, b: str, out: str) -> int:
    """Print the table, write it and the figure into ``out``; 0 if the implementations agree, else 1."""
    reports, folder = [read(Path(path)) for path in (a, b)], Path(out)
    rows, (apart, where) = table(*reports)
    agree, names = apart <= WITHIN, " and ".join(each["implementation"] for each in reports)
    lines = [cells(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(lines[0], *(line.values() for line in lines), strict=True)]
    text = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in (lines[0], *(x.values() for x in lines))]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    text += [NOTES.format(jacobian=PIXELS * math.log(17)), check(rows)]
    text.append(
        f"{names} {'agree' if agree else 'DISAGREE'}: largest difference of an image {apart:.1e} of its row's "
        f"scale, in {where}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    held_out_comparison(rows).savefig(folder / "comparison.png")
    files = {"table.md": "\n".join(text), "table.json": json.dumps({"agree": agree, "rows": rows}, indent=1)}
    for name, content in files.items():
        checkpoint.write_atomically(folder / name, (content + "\n").encode())
    print(*text, *(folder / name for name in (*files, "comparison.png")), sep="\n")
    return 0 if agree else 1


def read(path: Path) -> dict[str, Any]:
    """One implementation's measurements; one-line ValueError if the file does not hold them."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        for row in report["rows"]:
            row["per_image"] = np.array(row["per_image"], dtype=np.float64)
        return {name: report[name] for name in ("implementation", "settings", "rows")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: is not a comparison ({error}); write it with common.compare.models") from error


def table(a: dict[str, Any], b: dict[str, Any]) -> tuple[list[dict[str, Any]], tuple[float, str]]:
    """The rows of the first report, with derived figures, and the largest difference from the second."""
    names = [[row["model"] for row in report["rows"]] for report in (a, b)]
    if a["settings"] != b["settings"] or names[0] != names[1] or REFERENCE not in names[0]:
        raise ValueError(f"{a['implementation']} and {b['implementation']} measured with other settings; run both anew")
    reference = a["rows"][names[0].index(REFERENCE)]["per_image"]
    rows, worst = [], (0.0, names[0][0])
    for ours, theirs in zip(a["rows"], b["rows"], strict=True):
        worst = max(worst, (difference(ours["per_image"], theirs["per_image"]).nmax, ours["model"]))
        above = ours["per_image"] - reference
        row = {name: value for name, value in ours.items() if name != "per_image"}
        row["bits_per_pixel"] = -row["nats"] / (PIXELS * math.log(2))
        row["above_mixture"] = float(above.mean())
        row["above_mixture_error"] = float(above.std(ddof=1) / math.sqrt(len(above)))
        rows.append(row | {"other_implementation": float(theirs["per_image"].mean())})
    return rows, worst


def cells(row: dict[str, Any]) -> dict[str, str]:
    """A line of the table as text, by column."""
    above = f"{row['above_mixture']:+.2f} ± {row['above_mixture_error']:.2f}"
    return {
        "model": row["model"].replace("|", "\\|"),
        "what the number is": row["kind"],
        "nats": f"{row['nats']:.2f}",
        "± images": f"{row['standard_error']:.2f}",
        "± draws": f"{row['monte_carlo_error']:.3f}" if row["monte_carlo_error"] else "",
        "bits/pixel": f"{row['bits_per_pixel']:.3f}",
        "nats above the mixture": above if row["model"] != REFERENCE and row["kind"] != "not a density" else "",
        "chosen on validation images": ", ".join(f"{name} {value}" for name, value in row["chosen"].items()),
    }


def check(rows: list[dict[str, Any]]) -> str:
    """The error of the estimate for a known log p(x), in standard errors."""
    exact = next(row for row in rows if row["model"].endswith("exact"))
    *_, last = (row for row in rows if row["model"].startswith("linear VAE: importance"))
    apart = last["nats"] - exact["nats"]
    known = f"check of the estimate: {exact['model']} {exact['nats']:.4f}; {last['model'].partition(': ')[2]}"
    return f"{known} {last['nats']:.4f}, {apart:+.4f} nats, {apart / last['monte_carlo_error']:+.1f} standard errors"


@rc_context(STYLE)
def held_out_comparison(rows: Sequence[dict[str, Any]]) -> Figure:
    """Log density of held-out images by model, with two standard errors, and estimates by number of draws."""
    curves: dict[str, list[dict[str, Any]]] = {}  # by model, the estimates with more and more draws
    for row in rows:
        if row["kind"] == "estimate":
            curves.setdefault(row["model"].partition(": importance")[0], []).append(row)
    last = [curve[-1]["model"] for curve in curves.values()]
    bars = [row for row in rows if row["kind"] != "estimate" or row["model"] in last]
    figure = Figure(figsize=(13, 0.36 * len(bars) + 1.4))
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    for kind, mark, colour, label in (
        ("density", "o", COLOURS[0], "density: log p(x)"),
        ("estimate", "D", COLOURS[2], "estimate of log p(x)"),
        ("lower bound", ">", COLOURS[4], "lower bound on log p(x)"),
        ("not a density", "x", COLOURS[1], "not a density of x"),
    ):
        places = [i for i, row in enumerate(bars) if row["kind"] == kind]
        errors = [2 * bars[i]["standard_error"] for i in places]
        left.errorbar([bars[i]["nats"] for i in places], places, xerr=errors, fmt=mark, color=colour, label=label)
    left.set_yticks(range(len(bars)), [row["model"] for row in bars], fontsize=9)
    left.invert_yaxis()
    left.set(xlabel="nats per held-out image, ± 2 standard errors", title="higher is better, among densities")
    for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
        counts = [int(row["model"].rpartition("= ")[2]) for row in curve]
        right.semilogx(counts, [row["nats"] for row in curve], marker=".", color=colour, label=name)
    for row in rows:
        if row["model"].endswith("exact"):
            right.axhline(row["nats"], color="black", linestyle="--", linewidth=1, label="linear VAE, exact")
    right.set(xlabel="S, draws from q(z|x)", title="the estimate rises with S", ylabel="nats")
    left.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.2, -0.12), ncols=2)
    right.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.4, -0.12), ncols=2)
    return figure


main = partial(command, "common.compare.report", __doc__, report, ("a .json file", "another", "a folder"))

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
