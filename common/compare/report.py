"""The comparison of models as table and figure: python -m common.compare.report TORCH.json TF2.json FOLDER.

Reads what ``common.compare.models`` measured with each implementation, prints the table, and leaves table.md,
table.json and comparison.png in the folder. The exit code is 0 if the two agree on every image, within 1e-10 of the
row's scale, 1 if they do not, and 2 for bad input.
"""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as a file, python common/compare/report.py, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np

from common.figures import chapters as chapter_figures
from common.parity import difference
from common.runs import checkpoint
from common.runs.terminal import are_words, help_shown

WITHIN = 1e-10
PIXELS = 64
REFERENCE = "mixture of Gaussians, EM"
HEADER = ("model", "what the number is", "nats", "± images", "± draws", "bits/pixel", f"nats above the {REFERENCE[:7]}",
          "chosen on validation images")  # fmt: skip
NOTES = """
Nats per held-out image, in units of one grey level, of pixels spread over their step; a lower bound on the log of the
probability of the image of whole numbers. Add {jacobian:.1f} for pixels scaled to (0, 1). "± images" is the standard
error over the images drawn, "± draws" that of the estimate for these images; differences from the mixture are paired.

- "not a density": N(x | g(f(x)), σ²I) is centred on a reconstruction that was computed from x itself. Over all x it
  does not integrate to one, and the longer the code, the higher it is. It may only be compared with itself.
- The same reconstructions do make a density where the centres come from the training images.
- A VAE averages such Gaussians over p(z) instead. Its ELBO is a lower bound, and so is, on average, the importance
  weighted estimate, which rises to log p(x) with the number of draws; "± draws" does not see what is still missing.
- Where one variance serves all pixels, those at the edge, which are almost always white, are given the noise of those
  in the middle; a full covariance never pays for that. The VAE with a variance per pixel does not either.
- The linear VAE checks the estimate: its log p(x) is known.
"""


def main(argv: Sequence[str]) -> int:
    """Print and write the report on two JSON files; 0 if they agree, 1 if not, 2 for bad input."""
    if help_shown(argv, __doc__):
        return 0
    try:
        if not are_words(argv, 3):
            raise ValueError("name two .json files of common.compare.models and a folder")
        reports, folder = [read(Path(path)) for path in argv[:2]], Path(argv[2])
        rows, worst = table(*reports)
        agree = worst[0] <= WITHIN
        names = " and ".join(report["implementation"] for report in reports)
        line = f"{names} {'agree' if agree else 'DISAGREE'}: largest difference of an image {worst[0]:.1e} of its row's"
        line += f" scale, in {worst[1]}"
        text = "\n".join([*aligned([HEADER, *map(cells, rows)]), NOTES.format(jacobian=jacobian()), check(rows), line])
        try:
            folder.mkdir(parents=True, exist_ok=True)
            figure = chapter_figures.held_out_comparison(rows)
            figure.savefig(folder / "comparison.png")
        except OSError as error:
            raise ValueError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error
        written = {"table.md": markdown(rows, line), "table.json": json.dumps({"agree": agree, "rows": rows}, indent=1)}
        for name, content in written.items():
            checkpoint.write_atomically(folder / name, (content + "\n").encode())
    except ValueError as error:
        print(f"common.compare.report: error: {error}", file=sys.stderr)
        return 2
    print(text)
    print("\n".join(str(folder / name) for name in (*written, "comparison.png")))
    return 0 if agree else 1


def read(path: Path) -> dict[str, Any]:
    """One implementation's measurements; ValueError, in one line, if the file does not hold them."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        for row in report["rows"]:
            row["per_image"] = np.array(row["per_image"], dtype=np.float64)
        return {name: report[name] for name in ("implementation", "settings", "rows")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no comparison ({error}); write it with common.compare.models") from error


def table(a: dict[str, Any], b: dict[str, Any]) -> tuple[list[dict[str, Any]], tuple[float, str]]:
    """The rows of the first report with what follows from them, and the largest difference from the second."""
    names = [[row["model"] for row in report["rows"]] for report in (a, b)]
    if a["settings"] != b["settings"] or names[0] != names[1] or REFERENCE not in names[0]:
        raise ValueError(f"{a['implementation']} and {b['implementation']} measured with other settings; run both anew")
    reference = a["rows"][names[0].index(REFERENCE)]["per_image"]
    rows, worst = [], (0.0, names[0][0])
    for ours, theirs in zip(a["rows"], b["rows"], strict=True):
        worst = max(worst, (difference(ours["per_image"], theirs["per_image"]).nmax, ours["model"]))
        above = ours["per_image"] - reference
        kept = {name: value for name, value in ours.items() if name != "per_image"}
        rows.append(
            kept
            | {
                "bits_per_pixel": -kept["nats"] / (PIXELS * math.log(2)),
                "above_mixture": float(above.mean()),
                "above_mixture_error": float(above.std(ddof=1) / math.sqrt(len(above))),
                "other_implementation": float(theirs["per_image"].mean()),
            }
        )
    return rows, worst


def jacobian() -> float:
    """D log 17: the log density of pixels in (0, 1) less that of pixels in (0, 17)."""
    return PIXELS * math.log(17)


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A line of the table as text."""
    is_reference = row["model"] == REFERENCE
    above = "" if is_reference else f"{row['above_mixture']:+.2f} ± {row['above_mixture_error']:.2f}"
    error = f"{row['monte_carlo_error']:.3f}" if row["monte_carlo_error"] else ""
    chosen = ", ".join(f"{name} {value}" for name, value in row["chosen"].items())
    return (row["model"], row["kind"], f"{row['nats']:.2f}", f"{row['standard_error']:.2f}", error,
            f"{row['bits_per_pixel']:.3f}", "" if row["kind"] == "not a density" else above, chosen)  # fmt: skip


def aligned(lines: list[tuple[str, ...]]) -> list[str]:
    """Columns of one width."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def check(rows: list[dict[str, Any]]) -> str:
    """The error of the estimate for a known log p(x), in its own standard errors."""
    exact = next(row for row in rows if row["model"].endswith("exact"))
    estimate = [row for row in rows if row["model"].startswith("linear VAE: importance")][-1]
    apart = estimate["nats"] - exact["nats"]
    return (f"check of the estimate: {exact['model']} {exact['nats']:.4f}; {estimate['model'].partition(': ')[2]} "
            f"{estimate['nats']:.4f}, {apart:+.4f} nats, {apart / estimate['monte_carlo_error']:+.1f} standard errors"
            )  # fmt: skip


def markdown(rows: list[dict[str, Any]], agreement: str) -> str:
    """The table, its notes, the check of the estimate and the agreement of both implementations, for a README."""
    lines = ["| " + " | ".join(HEADER) + " |", "|" + " --- |" * len(HEADER)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells(row)) + " |" for row in rows]
    return "\n".join([*lines, NOTES.format(jacobian=jacobian()), check(rows), "", agreement])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
