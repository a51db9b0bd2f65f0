"""The fixed runs, and a process that trains them in one framework on one device, through the training scripts.

python -m parity_tests.digests.runs pytorch_impl build/digests/torch --only "mixture, full"
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common import draws
from common.runs.script import implementation
from common.runs.terminal import Parser
from parity_tests.digests import machine

POINTS = "points.npy"  # the table that goes in chunks, in the folder of the runs
MIXTURES = {
    "full": "--data old-faithful --components 2 --seed 0",  # that of `make train`
    "tied": "--data digits --components 4 --covariance tied --reg-covar 1e-2 --steps 12 --seed 3",
    "diag": "--data digits --components 10 --covariance diag --reg-covar 1e-2 --steps 20 --seed 101",
    "spherical": "--data synthetic --components 5 --covariance spherical --init random --tol 0 --steps 40 --seed 7",
    "MAP": "--data old-faithful --components 4 --method map --init random --tol 0 --steps 40 --seed 2",
    "variational": "--data old-faithful --components 6 --method variational --tol 0 --steps 40 --seed 5",
    "gaps": "--data airquality --components 2 --missing em --tol 0 --steps 30 --seed 3",
    "chunks": f"--data {{folder}}/{POINTS} --components 5 --init random --tol 0 --steps 15 --seed 11",
    "chunks, 2 workers": f"--data {{folder}}/{POINTS} --components 5 --init random --tol 0 --steps 15 --seed 11",
}
NETWORKS = {
    "dense tanh": "--seed 3 --steps 40",
    "dense relu": "--activation relu --hidden-dim 200 --seed 101 --steps 40",
    "dense tanh, 2 workers": "--seed 3 --steps 40",
    "Gaussian": "--likelihood gaussian --hidden-dim 100 --seed 7 --steps 40",
    "Gaussian, variance per pixel": "--likelihood gaussian --variance per-pixel --activation relu --hidden-dim 100 "
    f"--seed {2**64 - 1} --steps 40",
    "convolutional": "--model conv --channels 8 --hidden-dim 50 --latent-dim 5 --seed 101 --steps 20",
    "convolutional relu": "--model conv --likelihood gaussian --activation relu --channels 8 --hidden-dim 50 "
    "--latent-dim 5 --seed 4 --steps 20",
    "autoencoder": "--model autoencoder --hidden-dim 100 --seed 5 --steps 40",
}
RUNS = {f"mixture, {name}": ("train_gmm", arguments) for name, arguments in MIXTURES.items()}
RUNS |= {f"VAE, {name}": ("train_vae", arguments) for name, arguments in NETWORKS.items()}
RUNS["autoencoder"] = RUNS.pop("VAE, autoencoder")


def runs_on(device: str) -> list[str]:
    """The names of the runs; of a GPU without those of several workers, who would need one each."""
    return [name for name in RUNS if device == "cpu" or "workers" not in name]


def train(package: str, folder: Path, names: Sequence[str], device: str = "cpu", threads: int = 1) -> None:
    """Train the runs called ``names`` in ``folder``; ValueError for the first that fails."""
    pages = implementation(package, ["train_gmm", "train_vae"])
    folder.mkdir(parents=True, exist_ok=True)
    if any(POINTS in RUNS[name][1] for name in names):
        write_points(folder / POINTS)
    for name in names:
        script, chosen = RUNS[name]
        arguments = [*chosen.format(folder=folder).split(), "--precision", "reproducible", "--hash-interval", "1"]
        arguments += ["--device", device, "--threads", str(threads), "--quiet", "--overwrite"]
        arguments += ["--out", str(folder / name)]
        if "workers" in name:
            launch = [sys.executable, "-m", "common.runs.launch_workers", "2", f"{package}.{script}"]
            code = subprocess.run([*launch, *arguments], check=False).returncode
        else:
            code = (pages.train_gmm if script == "train_gmm" else pages.train_vae).main(arguments)
        if code != 0:
            raise ValueError(f"{name}: {package}.{script} {' '.join(arguments)} ended with exit code {code}")


def write_points(path: Path) -> None:
    """Leave 40,000 points of eight features, five clusters that overlap, as a file."""
    noise, cluster = draws.normals(0, "sample", (40_000, 8)), draws.uniforms(0, "component", (40_000, 1))
    np.save(path, noise + np.floor(5 * cluster) * [1.0, 0.5, -1.0, 0.25, 0.0, 0.75, -0.5, 1.25])


def main(argv: Sequence[str] | None = None) -> int:
    """Train the runs and leave a description of the machine beside them; returns the exit code."""
    parser = Parser(prog="parity_tests.digests.runs", description=__doc__)
    parser.add_argument("package", help="pytorch_impl or tf2_impl")
    parser.add_argument("folder", help="where the runs' folders are to be")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--threads", type=int, default=1, help="threads of the framework's arithmetic")
    parser.add_argument("--alone", action="store_true", help="without the runs of several workers")
    parser.add_argument("--only", nargs="+", choices=RUNS, metavar="RUN", help=f"some of: {'; '.join(RUNS)}")
    chosen = parser.parse_args(argv)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    names = chosen.only or [name for name in runs_on(chosen.device) if not (chosen.alone and "workers" in name)]
    try:
        train(chosen.package, Path(chosen.folder), names, chosen.device, chosen.threads)
    except ValueError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    machine.write(Path(chosen.folder), chosen.package, chosen.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
