"""Runs at their defaults learn: codes are used, pictures look like the data, and a failure is said."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common import draws
from common.data import datasets
from common.figures import runs as figures
from common.networks.start import gaussian_start, variance_left
from common.runs.network import Batch, check_loss, image_data, last_step, stretches
from common.runs.options import VAEOptions
from parity_tests.support.scripts import VAE as MAIN
from parity_tests.support.scripts import long_for_tf2

LIKELIHOODS = ("bernoulli", "gaussian", "gaussian --variance per-pixel")
# a convolution on 28 x 28 pixels takes minutes: one framework's, since both write the same bytes
CASES = [
    (framework, data, model)
    for framework in MAIN
    for data in ("digits", "fashion")
    for model in ("dense", "conv")
    if (framework, data, model) != ("tf2", "fashion", "conv")
]


def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple]:
    """What the figures of a run are drawn from, filled as they are."""
    found: dict[str, tuple] = {}

    def catch(name: str, draw: Callable) -> Callable:
        return lambda *arguments: (found.update({name: arguments}), draw(*arguments))[1]

    for name in ("reconstructions", "samples"):
        monkeypatch.setattr(figures, name, catch(name, getattr(figures, name)))
    return found


@pytest.mark.long
@pytest.mark.figures
@pytest.mark.parametrize(("framework", "data", "model"), CASES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_default_run_learns(
    framework: str,
    data: str,
    model: str,
    likelihood: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    found = shown(monkeypatch)
    arguments = f"--data {data} --model {model} --likelihood {likelihood} --json --out {tmp_path}".split()
    assert MAIN[framework](arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["held_out_kl"] >= 3
    assert "code" not in told
    x = datasets.load(data).split()[0].x
    x = datasets.binarize(x) if likelihood == "bernoulli" else x
    spread = x.var(axis=0).mean()  # what the mean image, in place of every reconstruction, would miss
    originals, reconstructed = found["reconstructions"][:2]
    assert np.mean((originals - reconstructed) ** 2) < 0.6 * spread
    samples = found["samples"][0]
    assert samples.var(axis=0).mean() > 0.3 * spread, "samples are alike"
    # some training image is nearer to a sample than an image is to their mean
    nearest = [np.min(np.mean((x - sample) ** 2, axis=1)) for sample in samples[:20]]
    assert np.mean(nearest) < spread


@pytest.mark.long
def test_the_readmes_example_learns(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """It had a KL of 0.015 nats, one grey blob for every image, when its variance started at 1."""
    arguments = f"--data digits --model conv --likelihood gaussian --epochs 50 --json --out {tmp_path}"
    assert MAIN["tf2"](arguments.split()) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["held_out_kl"] > 3
    assert told["held_out_elbo"] > 10


@long_for_tf2
def test_a_code_that_is_not_used_is_told(framework: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    small = "--hidden-dim 20 --latent-dim 3 --steps 60 --learning-rate 1e-2"
    collapsed = f"{small} --likelihood gaussian --variance 100"
    assert MAIN[framework](f"{collapsed} --json --out {tmp_path / 'a'}".split()) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["held_out_kl"] < 0.1
    assert told["code"] == "not used"
    assert err.count("\n") == 1
    assert f"the code is not used, its KL is {told['held_out_kl']:.3f} nats" in err
    assert err.endswith("or a smaller --variance\n")
    assert MAIN[framework](f"{collapsed} --quiet --out {tmp_path / 'b'}".split()) == 0
    assert capsys.readouterr() == ("", "")
    assert MAIN[framework](f"{small} --likelihood gaussian --variance 0.05 --out {tmp_path / 'c'}".split()) == 0
    out, err = capsys.readouterr()
    assert (err, "not used" in out) == ("", False)


@pytest.mark.parametrize(
    ("x", "components"),
    [
        (np.full((5, 4), 0.25), 1),  # all images equal
        (draws.uniforms(0, "sample", (30, 4)), 4),  # as many components as pixels
        (draws.uniforms(0, "sample", (3, 4)), 10),  # and more than images
        (draws.uniforms(0, "sample", (1, 4)), 2),
        (draws.uniforms(0, "sample", (30, 4)) * [0, 1, 1, 1], 2),  # a pixel that never changes
    ],
)
def test_no_variance_starts_at_zero(x: np.ndarray, components: int) -> None:
    left = variance_left(x, components)
    assert left.shape == (4,)
    assert np.all(left >= max(x.var(axis=0).mean() / 100 * (1 - 1e-12), 1e-6))
    shapes = {"decoder.hidden.weight": (7, components), "decoder.out.bias": (4,), "log_var": (4,)}
    assert all(np.all(np.isfinite(value)) for value in gaussian_start(shapes, x).values())


def test_one_variance_starts_at_the_mean_of_what_is_left() -> None:
    """The smallest eigenvalues of the data's covariance, divided among all pixels."""
    x = draws.normals(0, "sample", (300, 4)) @ draws.normals(1, "sample", (4, 4))
    left = np.linalg.eigvalsh(np.cov(x.T, ddof=0))[:2].sum() / 4
    shapes = {"decoder.hidden.weight": (7, 2), "log_var": ()}
    assert np.exp(gaussian_start(shapes, x)["log_var"]) == pytest.approx(left, rel=1e-6)
    of_each = np.exp(gaussian_start(shapes | {"log_var": (4,)}, x)["log_var"])
    assert of_each.mean() == pytest.approx(left, rel=1e-6)
    assert np.ptp(of_each) > 0.1 * left


def test_rows_in_order_of_their_class_are_all_looked_at() -> None:
    """A table sorted by label: two clusters of which the first thousand rows would show one."""
    x = np.repeat([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], 3000, axis=0) + 0.01 * draws.normals(0, "sample", (6000, 3))
    np.testing.assert_allclose(variance_left(x, 1)[0], x[:, 0].var() / 300, rtol=0.1)


@pytest.mark.parametrize(("n", "updates"), [(1497, 84 * 12), (5000, 25 * 40), (60_000, 20 * 469), (2, 1000)])
def test_a_run_is_long_enough_for_few_images(n: int, updates: int) -> None:
    """20 epochs, or as many as 1,000 updates take; told a number, that."""
    assert last_step(VAEOptions(out="run").check(), n) == updates
    assert last_step(VAEOptions(out="run", epochs=3).check(), n) == 3 * draws.batches_per_epoch(n, 128)
    assert last_step(VAEOptions(out="run", epochs=3, steps=7).check(), n) == 7


def test_updates_together_end_where_the_network_is_looked_at() -> None:
    """After an epoch, here of three updates, and where its hashes are due."""
    batches = [Batch(step, np.arange(2), np.zeros((2, 1)), 1.0) for step in range(1, 8)]
    for hash_interval, expected in ((0, [[1, 2], [3], [4, 5], [6], [7]]), (4, [[1, 2], [3], [4], [5, 6], [7]])):
        options = VAEOptions(out="run", batch_size=2, hash_interval=hash_interval).check()
        found = [[batch.step for batch in stretch] for stretch in stretches(options, 6, batches, 2)]
        assert found == expected


def test_images_are_checked_before_they_are_trained_on(tmp_path: Path) -> None:
    """The held-out ones too; and there must be one to hold out."""
    x, labels = np.zeros((4, 2, 2)), np.arange(4)
    np.savez(tmp_path / "grey.npz", x_train=x, y_train=labels, x_test=x + 16, y_test=labels)
    np.save(tmp_path / "one.npy", np.zeros((1, 4)))
    for name, message in (("grey.npz", "has values from 16 to 16"), ("one.npy", "has 1 row, too few")):
        with pytest.raises(ValueError, match=message):
            image_data(VAEOptions(data=str(tmp_path / name), out="run").check())


def test_a_loss_beyond_all_numbers_ends_a_run() -> None:
    for loss in (np.inf, -np.inf, np.nan):
        with pytest.raises(ValueError, match=f"the loss became {loss} at update 3"):
            check_loss(VAEOptions(out="run").check(), 3, loss)
