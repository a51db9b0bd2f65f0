"""One framework is enough for scripts, the other's runs, estimators, figures, comparison and book."""

import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from common.data.messages import flag
from common.runs import checkpoint
from common.runs import folder as run_folder
from common.runs.options import GMMOptions, VAEOptions
from parity_tests.support.one_framework import OF_THE_OTHER, environment, modules
from parity_tests.support.scripts import ROOT

OTHER = {"pytorch_impl": "tf2_impl", "tf2_impl": "pytorch_impl"}
OWN = {"pytorch_impl": {"torch"}, "tf2_impl": {"tensorflow", "keras"}}
FRAMEWORK = {"pytorch_impl": "torch", "tf2_impl": "tensorflow"}
packages = pytest.mark.parametrize("package", OTHER)
RUNS = [
    "train_gmm --data old-faithful --components 3 --covariance tied --init random --seed 1 --steps 4 --threads 1",
    "train_gmm --data {folder}/table.csv --label-column 2 --columns 1,3-4 --tol 1e-3 --reg-covar 1e-3 --json "
    "--precision float32",
    "train_gmm --data {folder}/large.npy --covariance diag --steps 2 --verbose --log-interval 1",
    "train_gmm --method map --steps 3 --device cpu --hash-interval 1",
    "train_gmm --data airquality --missing em --steps 3 --overwrite",
    "train_gmm --method variational --components 6 --weight-concentration-prior-type dirichlet_distribution --steps 3 "
    "--weight-concentration-prior 0.1 --mean-precision-prior 1 --degrees-of-freedom-prior 4 --covariance-prior 0.5",
    "train_vae --latent-dim 3 --hidden-dim 20 --epochs 1 --batch-size 500 --activation relu --importance-samples 2",
    "train_vae --model conv --channels 2 --likelihood gaussian --variance per-pixel --hidden-dim 8 --steps 2",
    "train_vae --model autoencoder --data {folder}/table.npy --pixel-max 255 --hidden-dim 8 --learning-rate 1e-2 "
    "--steps 2 --quiet",
    "train_gmm --resume {folder}/gmm --steps 6",
    "train_vae --resume {folder}/vae --steps 6",
]
REFUSED = ["train_vae --data mnist --data-dir {folder}"]
BOARD = "train_gmm --steps 2 --tensorboard"
COMPILED = "train_vae --hidden-dim 8 --latent-dim 2 --steps 2 --compile"  # takes PyTorch a minute
START = """
import importlib.metadata, importlib.util, runpy, sys

def started(line):
    'The exit code of python -m and this line.'
    sys.argv[1:] = line.split()[1:]
    try:
        runpy.run_module(line.split()[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code
"""
SESSION = """
for name in {absent}:
    assert importlib.util.find_spec(name.replace("-", "_")) is None, name
    try:
        raise AssertionError(name + importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        pass
for line in {runs}:
    assert started(line) == 0, line
for line in {refused}:
    assert started(line) == 2, line

import numpy as np
from {package} import conjugate, distributed, estimators, gmm, optimizer, backend, vae, variational_gmm
from common.compare import models as compare_models, runs as compare_runs
from common.data import datasets
from common.figures import draw as draw_chapters

for pair in {pairs}:
    assert compare_runs.main(pair) == 0, pair
x = datasets.load("old-faithful").x
means = estimators.GaussianMixture(2, random_state=0).fit(backend.tensor(x)).means_
assert np.allclose(means[np.argsort(means[:, 0])], [[2.0364, 54.4785], [4.2897, 79.9681]], atol=1e-2), means
estimators.BayesianGaussianMixture(3, random_state=0, max_iter=300).fit(x)
holes = np.where(np.arange(x.size).reshape(x.shape) % 7 == 0, np.nan, x)
assert np.all(np.isfinite(estimators.GaussianMixture(2, missing="em", random_state=0).fit(holes).impute(holes)))
assert vae.VAE(4, 2, 8)(*(backend.tensor(np.ones((1, d), "float32")) for d in (4, 2)))[0].shape == (1, 4)
"""
FIGURES = """
from common.figures import draw as draw_chapters

drawn = draw_chapters.FIGURES if {all} else ("coin", "plates")
draw_chapters.FIGURES = {{name: draw_chapters.FIGURES[name] for name in drawn}}
assert draw_chapters.main(["{package}", "{folder}/figures"]) == 0
"""
COMPARISON = """
from common.compare import models as compare_models

few = dict(components=(2,), reg_covar=(9.0,), latent_dims=(2,), codes=(2,), linear_codes=2, hidden_dim=8, copies=2)
few |= dict(epochs=1, patience=1, draws=(1, 5), bandwidths=(1.0,), images=100)
settings = compare_models.Settings(**few)
compare_models.Settings = lambda: settings
assert compare_models.main(["{package}", "{folder}/compared.json"]) == 0
"""
BOOK = """
from pathlib import Path
from common.book.__main__ import build

build(Path("{root}/build/book"), Path("{root}"))
"""


def alone(package: str, folder: Path, code: str) -> subprocess.CompletedProcess:
    """Run Python code where the framework of the package is the only one."""
    variables = environment(package, folder / "site")
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=variables, text=True, capture_output=True)


@packages
def test_everything_without_the_other(tmp_path: Path, package: str) -> None:
    """All in one process, which takes long to start."""
    table = np.random.default_rng(0).integers(0, 255, (50, 4))
    np.savetxt(tmp_path / "table.csv", table, delimiter=",", fmt="%d")
    np.save(tmp_path / "table.npy", table.astype(float))
    np.save(tmp_path / "large.npy", np.random.default_rng(0).normal(size=(70_000, 2)))
    for script, more in (("gmm", "--init random"), ("vae", "--hidden-dim 8")):  # the other's, and where they end there
        main = importlib.import_module(f"{OTHER[package]}.train_{script}").main
        options = f"{more} --threads 1 --precision reproducible --out {tmp_path}"
        assert main(f"{options}/{script} --steps 3".split()) == 0
        assert main(f"{options}/whole-{script} --steps 6".split()) == 0
    has_board = importlib.util.find_spec("tensorboard") is not None
    runs, refused = ([*RUNS, BOARD], REFUSED) if has_board else (RUNS, [*REFUSED, BOARD])
    runs = [f"{package}.{run.format(folder=tmp_path)} --out {tmp_path}/runs/{i}" for i, run in enumerate(runs)]
    refused = [f"{package}.{run.format(folder=tmp_path)} --out {tmp_path}/none/refused" for run in refused]
    refused += [f"{OTHER[package]}.{script} --out {tmp_path}/none/other" for script in ("train_gmm", "train_vae")]
    pairs = [[f"{tmp_path}/whole-{s}", f"{tmp_path}/runs/{len(RUNS) - 2 + i}"] for i, s in enumerate(("gmm", "vae"))]
    told = {"package": package, "absent": OF_THE_OTHER[package], "runs": runs, "refused": refused, "pairs": pairs}
    code = START + SESSION.format(**told) + FIGURES.format(package=package, folder=tmp_path, all=False)
    done = alone(package, tmp_path, code)
    assert done.returncode == 0, done.stderr

    for number in range(len(RUNS)):
        run = tmp_path / "runs" / str(number)
        assert len(list(run.glob("*.png"))) >= 2
        versions = json.loads((run / "config.json").read_text())["versions"]
        assert versions.keys() == {"python", "numpy", "scipy", "scikit-learn"} | OWN[package]
    assert done.stdout.count("agree, reproducible, after 6 and 6 steps") == 2, "runs of the other go on"
    missing = FRAMEWORK[OTHER[package]]
    message = f"{OTHER[package]}: {missing} is not installed; run `python -m pip install -c requirements.txt {missing}`"
    for script in ("train_gmm", "train_vae"):
        assert f"{OTHER[package]}.{script}: error: {message}, or use {package}\n" in done.stderr
    assert not (tmp_path / "none").exists(), "a start that failed leaves no folder"
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"coin.svg", "plates.svg", "traces.npz"}


def test_every_option_is_given_above() -> None:
    given = {word for run in [*RUNS, *REFUSED, BOARD, COMPILED] for word in run.split()}
    names = {flag(field.name) for kind in (GMMOptions, VAEOptions) for field in fields(kind)}
    assert names - given == {"--out"}


@pytest.mark.long
@packages
def test_compiled_step_comparison_all_figures_and_book(tmp_path: Path, package: str) -> None:
    line = f"{package}.{COMPILED} --out {tmp_path}/run"
    code = f"{START}assert started({line!r}) == 0\n" + COMPARISON.format(package=package, folder=tmp_path)
    code += FIGURES.format(package=package, folder=tmp_path, all=True)
    root = tmp_path / "root"
    for folder in ("pytorch_impl", "tf2_impl", "common", "parity_tests"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "build" / "figures").mkdir(parents=True)
    figures = root / "build" / "figures" / {"pytorch_impl": "torch", "tf2_impl": "tf2"}[package]
    (tmp_path / "figures").symlink_to(figures)
    figures.mkdir()
    done = alone(package, tmp_path, code + BOOK.format(root=root))
    assert done.returncode == 0, done.stderr
    assert (root / "build" / "book" / "index.html").is_file()
    assert json.loads((tmp_path / "compared.json").read_text())["versions"].keys() >= OWN[package]


@packages
def test_a_start_that_fails_leaves_no_folder(
    tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    main = importlib.import_module(f"{package}.train_gmm").main

    def full(path: Path, content: bytes) -> None:
        raise ValueError(f"{path}: no space")

    for name in ("write_atomically", "digest"):
        monkeypatch.setattr(run_folder.checkpoint, name, full)
    assert main(["--out", str(tmp_path / "a" / "b" / "c")]) == 2
    assert "no space" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert main(["--steps", "2", "--out", str(tmp_path / "a" / "b" / "c")]) == 0
    held = checkpoint.digest(tmp_path / "a" / "b" / "c" / "checkpoint.safetensors")
    monkeypatch.setattr(run_folder, "versions", lambda: full(tmp_path, b""))
    for name in ("c", "d/e"):
        assert main(["--overwrite", "--out", str(tmp_path / "a" / "b" / name)]) == 2
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["c"]
    assert checkpoint.digest(tmp_path / "a" / "b" / "c" / "checkpoint.safetensors") == held


@pytest.mark.parametrize("package", ["pytorch_impl", pytest.param("tf2_impl", marks=pytest.mark.long)])
def test_imports_and_runs_without_what_windows_lacks(tmp_path: Path, package: str) -> None:
    """What Python lacks on Windows is taken away once the framework is imported, which differs there."""
    code = """
import importlib, mmap, os, sys
import numpy, scipy.special, sklearn.cluster, matplotlib.figure, tqdm, {framework}
for name in ("fcntl", "resource", "pwd", "grp", "termios", "pty", "tty", "readline", "syslog"):
    sys.modules[name] = None
for name in ("register_at_fork", "fork", "getuid", "geteuid", "kill", "mkfifo", "sched_getaffinity", "statvfs"):
    delattr(os, name)
for name in [name for name in vars(mmap) if name.startswith("MADV_")]:
    delattr(mmap, name)
for module in sys.stdin.read().split():
    importlib.import_module(module)
assert importlib.import_module("{package}.train_gmm").main(["--steps", "2", "--out", "{folder}/run"]) == 0
import numpy as np
from {package}.estimators import GaussianMixture
x = np.vstack([np.arange(10.0)[:, None], 50 + np.arange(10.0)[:, None]])
means = GaussianMixture(2, random_state=0).fit(x).means_[:, 0]
assert np.allclose(np.sort(means), [4.5, 54.5]), means
"""
    names = " ".join(modules("common", package))
    code = code.format(package=package, framework=FRAMEWORK[package], folder=tmp_path)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, input=names, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
