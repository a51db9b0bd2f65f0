"""Runs that cross frameworks end where runs of one framework end; and how likely it is that two do not."""

from pathlib import Path

import numpy as np
import pytest

import pytorch_impl.layouts as torch_layouts
import pytorch_impl.vae as torch_vae
import tf2_impl.vae as tf_vae
from common import draws
from common.runs import checkpoint
from common.runs import folder as run_folder
from common.runs.folder import read_metrics
from parity_tests.conftest import Parity
from parity_tests.support.lockstep import CASES, Batches, Learner
from parity_tests.support.relational import expected_flips
from parity_tests.support.scripts import GMM, VAE, digest, run

RUNS = {
    "dense": (VAE, "--hidden-dim 20 --latent-dim 3 --activation relu"),
    "conv": (VAE, "--model conv --channels 3 --hidden-dim 12 --latent-dim 3 --likelihood gaussian --batch-size 99"),
    "em": (GMM, "--components 3 --init random --seed 1 --tol 0"),
    "map": (GMM, "--method map --components 4 --init random --seed 2 --tol 0"),
    "missing": (GMM, "--data airquality --missing em --components 2 --seed 3 --tol 0"),
}
LEGS = (("torch", 5), ("tf2", 9), ("torch", 17), ("tf2", 23))  # 12 to 16 updates are an epoch: crossings within it


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are tested with the scripts, and take longer than these runs."""
    monkeypatch.setattr(run_folder.RunFolder, "save_figure", lambda *arguments: None)


def cross(kind: str, precision: str, folder: Path, first: int = 0) -> Path:
    """A run in four legs, each in the framework that did not do the last; ``first`` swaps who begins."""
    mains, arguments = RUNS[kind]
    for leg, (framework, steps) in enumerate(LEGS):
        framework = framework if first == 0 else {"torch": "tf2", "tf2": "torch"}[framework]
        start = f"{arguments} --precision {precision}" if leg == 0 else f"--resume {folder / str(leg - 1)}"
        assert run(mains[framework], f"{start} --steps {steps}", folder / str(leg)) == 0
    return folder / str(leg)


def whole(kind: str, precision: str, folder: Path, framework: str) -> Path:
    mains, arguments = RUNS[kind]
    assert run(mains[framework], f"{arguments} --precision {precision} --steps {LEGS[-1][1]}", folder) == 0
    return folder


@pytest.mark.parametrize("kind", RUNS)
def test_a_run_with_three_crossings_ends_in_the_same_bytes(tmp_path: Path, kind: str) -> None:
    """Parameters, moments and step, of either framework alone and of a run that changed hands three times."""
    alone = [whole(kind, "reproducible", tmp_path / framework, framework) for framework in ("torch", "tf2")]
    firsts = {"dense": (0,), "conv": (1,)}.get(kind, (0, 1))  # of the networks, which take long, one each
    crossed = [cross(kind, "reproducible", tmp_path / f"first{first}", first) for first in firsts]
    assert len({digest(path) for path in (*alone, *crossed)}) == 1
    for path in crossed:
        history, expected = read_metrics(path), read_metrics(alone[0])
        assert [row["step"] for row in history] == [row["step"] for row in expected] == list(range(1, LEGS[-1][1] + 1))
        for one, two in zip(history, expected, strict=True):
            assert one.keys() == two.keys()
            assert one["loss"] == pytest.approx(two["loss"], rel=1e-13)


OTHERS = [
    pytest.param(kind, precision, marks=[pytest.mark.long] if kind == "conv" or precision == "float32" else [])
    for kind in RUNS
    for precision in ("float64", "float32")
]


@pytest.mark.parametrize(("kind", "precision"), OTHERS)
def test_in_other_precisions_it_ends_close_by(parity: Parity, tmp_path: Path, kind: str, precision: str) -> None:
    crossed = checkpoint.load(cross(kind, precision, tmp_path, 1) / "checkpoint.safetensors")
    alone = checkpoint.load(whole(kind, precision, tmp_path / "alone", "torch") / "checkpoint.safetensors")
    assert crossed[1:] == alone[1:]
    assert {value.dtype for value in crossed[0].values()} == {np.dtype(precision)}
    tolerance = "crossed mixture" if RUNS[kind][0] is GMM else "crossed VAE"
    parity.check(f"{kind}, three crossings against none", tolerance, crossed[0], alone[0], steps=LEGS[-1][1])


@pytest.mark.parametrize(("case", "activation"), [("bernoulli", "relu"), ("gaussian learned", "tanh")])
def test_how_likely_a_conv_model_is_to_part(parity: Parity, case: str, activation: str) -> None:
    """The last convolution's bias is one number, a sum over all pixels of all images that nearly cancels."""
    arguments = CASES[case] | {"activation": activation, "dtype": "float64", "image_shape": (8, 8), "channels": 8}
    model = torch_vae.VAE(64, 6, 50, model="conv", **arguments)
    shapes = {name: value.shape for name, value in torch_layouts.export_parameters(model).items()}
    torch_layouts.import_parameters(model, draws.initial_values(0, shapes))
    training = Learner(model, "torch", reproducible=True)
    probes = [
        Learner(module.VAE(64, 6, 50, model="conv", **arguments), framework)
        for module, framework in ((torch_vae, "torch"), (tf_vae, "tf2"))
    ]
    batches, flips = Batches(case, batch_size=64), []
    for step in range(60):
        x, noise = batches[step]
        if step % 10 == 0:
            flips.append(expected_flips(probes, x, noise, training.state(), step))
        training.update(training.loss_and_gradients(x, noise)[1])
    parity.measure("expected flips per 1,000 updates", "expected flips", 1000 * np.mean(flips), f"{case} {activation}")
