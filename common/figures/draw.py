"""Draw the chapters' figures from one implementation's own numbers, and record what moving ones play
and worked examples show.

python -m common.figures.draw pytorch_impl build/figures/torch
"""

import re
import sys
from functools import partial
from inspect import isfunction
from pathlib import Path

if not __package__:  # run as a file, python common/figures/draw.py, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from common.figures import chapters, networks, plates, traces, worked
from common.runs.script import implementation
from common.runs.terminal import command, without_native_stderr

MIXTURES = ("coin", "coin_mixture", "conjugate", "em", "estimators", "gaussian", "gmm", "missing_data", "singularity")
MIXTURES += ("variational_gmm",)
NETWORKS = ("elbo", "layouts", "networks", "autoencoder", "vae", "optimizer", "backend")
CHAPTERS = (*MIXTURES, *NETWORKS)  # those that figures are of, and what they need
FONTS = "'Avenir Next', 'Segoe UI', Inter, Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"  # as in book.css
FIGURES = {  # by the names of their files
    name: value
    for module in (chapters, plates, networks)
    for name, value in vars(module).items()
    if isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
}


def draw(package: str, folder: str) -> None:
    """Draw every figure into the folder and print the files."""
    with without_native_stderr():
        maths = implementation(package, CHAPTERS)
    Path(folder).mkdir(parents=True, exist_ok=True)
    with maths.backend.device("cpu", 1):
        for name, figure in FIGURES.items():
            path = Path(folder) / f"{name}.svg"
            save(figure(maths, maths.backend.evaluate), path)
            print(path)
        recorded = traces.record(maths, maths.backend.evaluate) | worked.record(maths, maths.backend.evaluate)
        np.savez_compressed(Path(folder) / "traces.npz", **recorded)
        print(Path(folder) / "traces.npz")


def save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG without a background, its text in the fonts of the book."""
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):
        figure.savefig(path, transparent=True, metadata={"Date": None})
    path.write_text(re.sub("'DejaVu Sans'[^;\"]*", FONTS, path.read_text(encoding="utf-8")), encoding="utf-8")


main = partial(command, "common.figures.draw", __doc__, draw, ("an implementation", "a folder"))

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
