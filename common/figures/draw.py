"""Draw the chapters' figures from one implementation's own numbers, and record what the moving ones play.

python -m common.figures.draw pytorch_impl build/figures/torch
"""

import sys
from functools import partial
from inspect import isfunction
from pathlib import Path

if not __package__:  # run as a file, python common/figures/draw.py, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np

from common.figures import chapters, networks, plates, traces
from common.runs.script import implementation
from common.runs.terminal import command, without_native_stderr

MIXTURES = ("coin", "coin_mixture", "conjugate", "em", "estimators", "gaussian", "gmm", "missing_data", "singularity")
MIXTURES += ("variational_gmm",)
NETWORKS = ("layouts", "networks", "autoencoder", "vae", "optimizer", "backend")
CHAPTERS = (*MIXTURES, *NETWORKS)  # those that figures are of, and what they need
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
            path = Path(folder) / f"{name}.png"
            figure(maths, maths.backend.evaluate).savefig(path)
            print(path)
        np.savez_compressed(Path(folder) / "traces.npz", **traces.record(maths, maths.backend.evaluate))
        print(Path(folder) / "traces.npz")


main = partial(command, "common.figures.draw", __doc__, draw, ("an implementation", "a folder"))

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
