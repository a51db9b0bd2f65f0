"""Runs that cross frameworks end where runs of one framework end; and how likely it is that two do not."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import torch

import pytorch_impl.networks as torch_networks
import pytorch_impl.vae as torch_vae
import tf2_impl.networks as tf_networks
import tf2_impl.vae as tf_vae
from common import checkpoint, datasets, draws, run_folder
from common.run_folder import read_metrics
from parity_tests.conftest import Parity
from parity_tests.test_scripts import GMM, VAE, digest, run
from pytorch_impl.optimizer import GRADIENT_BITS
from pytorch_impl.optimizer import Adam as TorchAdam

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
    """A run in four legs, each in the framework that did not do the one before; ``first`` swaps who begins."""
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
    """Parameters, both moments and the step, of either framework alone and of a run that changed hands three times."""
    alone = [whole(kind, "reproducible", tmp_path / framework, framework) for framework in ("torch", "tf2")]
    crossed = [cross(kind, "reproducible", tmp_path / f"first{first}", first) for first in (0, 1)]
    assert len({digest(path) for path in (*alone, *crossed)}) == 1
    for path in crossed:
        history, expected = read_metrics(path), read_metrics(alone[0])
        assert [row["step"] for row in history] == [row["step"] for row in expected] == list(range(1, LEGS[-1][1] + 1))
        for one, two in zip(history, expected, strict=True):
            assert one.keys() == two.keys()
            assert one["loss"] == pytest.approx(two["loss"], rel=1e-13)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("kind", RUNS)
def test_in_other_precisions_it_ends_close_by(parity: Parity, tmp_path: Path, kind: str, precision: str) -> None:
    crossed = checkpoint.load(cross(kind, precision, tmp_path, 1) / "checkpoint.safetensors")
    alone = checkpoint.load(whole(kind, precision, tmp_path / "alone", "torch") / "checkpoint.safetensors")
    assert crossed[1:] == alone[1:]
    assert {value.dtype for value in crossed[0].values()} == {np.dtype(precision)}
    tolerance = "crossed mixture" if RUNS[kind][0] is GMM else "crossed VAE"
    parity.check(f"{kind}, three crossings against none", tolerance, crossed[0], alone[0], steps=LEGS[-1][1])


@pytest.mark.parametrize("model", ["dense", "conv"])
def test_how_likely_two_frameworks_are_to_part(model: str) -> None:
    """The expected number of gradients that are rounded apart in one update, from a common state.

    Two values |a - b| apart fall on different sides of a boundary of a grid of width h with probability |a - b| / h.
    Summed over all entries of all gradients this needs no luck to measure, unlike the event itself.
    """
    arguments = {"latent_dim": 6, "hidden_dim": 50, "activation": "relu", "dtype": "float64"}
    if model == "conv":
        arguments |= {"model": "conv", "image_shape": (8, 8), "channels": 8}
    a, b = torch_vae.VAE(64, **arguments), tf_vae.VAE(64, **arguments)
    shapes = {name: value.shape for name, value in torch_networks.export_parameters(a).items()}
    torch_networks.import_parameters(a, draws.initial_values(0, shapes))
    adam = TorchAdam(torch_networks.named_parameters(a), reproducible=True)
    step_of_b = tf.function(lambda *t: tf_vae.loss_and_gradients(b, *t))
    digits, updates = datasets.binarize(datasets.load("digits").x), 20
    expected = dict.fromkeys(shapes, 0.0)
    for step in range(updates):
        tf_networks.import_parameters(b, torch_networks.export_parameters(a))
        x, noise = digits[draws.minibatch(0, step, len(digits), 64)], draws.normals(0, "noise", (64, 6), step)
        gradients = torch_vae.loss_and_gradients(a, torch.tensor(x), torch.tensor(noise))[1]
        theirs = step_of_b(tf.constant(x), tf.constant(noise))[1]
        for name in shapes:
            one, two = torch_networks.canonical(name, gradients[name]), tf_networks.canonical(name, theirs[name])
            grid = 2.0 ** (np.floor(np.log2(np.abs(one).max())) + 1 - GRADIENT_BITS)
            expected[name] += np.sum(np.abs(one - two)) / grid / updates
        adam.update(gradients)
    assert sum(expected.values()) < 1e-7, expected
    # one number that nearly cancels has a grid that shrinks with it; its share is small all the same
    if model == "conv":
        assert expected["decoder.conv_transpose2.bias"] < 1e-9
