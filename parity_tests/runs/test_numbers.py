"""Every number that train_gmm and train_vae leave, anew by `support/rerun.py`, which calls nothing of the project."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp

from common.data import chunks
from common.mixtures.parameters import MixtureParameters
from common.runs import mixture as mixture_run
from common.runs import network as network_run
from common.runs.folder import RunFolder
from common.runs.options import GMMOptions
from parity_tests.support import oracle, rerun
from parity_tests.support.scripts import GMM, VAE, both, contents, digest, rows, run, written

NETWORKS = {
    "bernoulli": dict(activation="tanh", seed=5),
    "one variance": dict(likelihood="gaussian", activation="relu", seed=2**64 - 1),
    "per pixel": dict(likelihood="gaussian", variance="per-pixel", activation="linear", seed=6),
    "fixed variance": dict(likelihood="gaussian", variance=0.05, activation="tanh", seed=7),
    "autoencoder": dict(model="autoencoder", likelihood="gaussian", activation="relu", seed=8),
    "autoencoder, fixed": dict(model="autoencoder", likelihood="gaussian", variance=0.02, activation="tanh", seed=9),
}
SIZES = dict(codes=3, hidden=20, batch_size=600, learning_rate=5e-3)  # 1,497 images: an epoch is 600, 600 and 297
FLAGS = {"codes": "latent-dim", "hidden": "hidden-dim"}


def saved(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple]:
    """The arguments of the figures of the run that ended last."""
    found: dict[str, tuple] = {}
    monkeypatch.setattr(RunFolder, "save_figure", lambda run, name, draw, *arguments: found.update({name: arguments}))
    return found


def killed_at_three(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    """A checkpoint after update 2, and the folder as kill -9 after update 3 leaves it, amid a line."""
    save, at_start = RunFolder.save, {".config.json.pending", ".metrics.jsonl.pending"}

    def copied(folder: RunFolder, arrays: dict, step: int) -> None:
        if step == 2:
            assert contents(folder.path).keys() == at_start, "until the first checkpoint the folder holds no run"
        if step == 3:
            shutil.copytree(folder.path, out)
            assert contents(out).keys() == {"config.json", "metrics.jsonl", "checkpoint.safetensors"}
            assert len(rows(out)) == 2, "a checkpoint is written after the metrics that lead to it"
            with open(out / "metrics.jsonl", "a") as file:
                file.write(json.dumps(folder.history[2]) + '\n{"step": 4, "loss')
        save(folder, arrays, step)

    monkeypatch.setattr(RunFolder, "save", copied)
    monkeypatch.setattr(RunFolder, "save_is_due", lambda folder: folder.history[-1]["step"] == 2)


def check_rows(folder: Path, expected: list[dict[str, float]]) -> None:
    """Each line of the metrics, name by name."""
    found = rows(folder)
    assert [row.keys() - {"seconds"} for row in found] == [row.keys() for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert row == pytest.approx(other | {"seconds": row["seconds"]}, rel=1e-11)


@pytest.mark.parametrize("case", NETWORKS)
def test_a_network_s_run(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Killed in one framework, resumed in the other: metrics, checkpoint to the bit, summary, pictures."""
    expected = rerun.NetworkRun(**NETWORKS[case], **SIZES)
    monkeypatch.setattr(network_run, "ROWS_AT_ONCE", 128)  # held-out images in three pieces
    first, second = list(VAE)[:: 1 if list(NETWORKS).index(case) % 2 else -1]
    options = (NETWORKS[case] | SIZES).items()
    flags = " ".join(f"--{FLAGS.get(name, name).replace('_', '-')} {value}" for name, value in options)
    with monkeypatch.context() as patch:
        killed_at_three(patch, tmp_path / "killed")
        assert run(VAE[first], f"{flags} --precision reproducible --steps 3", tmp_path / "run") == 0
    for _ in range(3):
        expected.update()
    check_rows(tmp_path / "run", expected.rows)
    capsys.readouterr()
    figures, s = saved(monkeypatch), 0 if expected.is_plain else 120  # draws for 166 images at once
    arguments = f"--resume {tmp_path}/killed --steps 4 --json --importance-samples {s}"
    assert run(VAE[second], arguments, tmp_path / "on") == 0
    expected.update()
    check_rows(tmp_path / "on", expected.rows)
    arrays = rerun.checkpoint(tmp_path / "on")[0]
    for name, value in expected.checkpoint().items():
        assert (arrays[name].dtype, arrays[name].shape) == (value.dtype, value.shape), name
        np.testing.assert_array_equal(arrays[name], value, err_msg=name)
    assert arrays.keys() == expected.checkpoint().keys()
    check_summary(json.loads(capsys.readouterr().out), expected, s)
    check_pictures(figures, expected)
    assert figures["losses"][0][3] == rows(tmp_path / "on")[3]


def check_summary(told: dict[str, Any], expected: rerun.NetworkRun, s: int) -> None:
    """What is printed at the end."""
    terms = {f"held_out_{name}": value for name, value in expected.held_out_terms().items()}
    terms |= {"updates": 4, "last_minibatch_loss": expected.rows[-1]["loss"]}
    if s:
        each = expected.log_evidence(s)
        deviation = np.sqrt(np.square(each - each.mean()).sum() / 300)
        terms |= {"held_out_log_evidence": each.mean(), "held_out_log_evidence_error": deviation / np.sqrt(300)}
    numbers = {name: value for name, value in told.items() if isinstance(value, int | float)}
    assert numbers == pytest.approx(terms, rel=1e-10)


def check_pictures(figures: dict[str, tuple], expected: rerun.NetworkRun) -> None:
    """The arrays that are drawn, and of which images they are."""
    pictures, (codes, labels, names) = expected.pictures(), figures["latent_space"]
    originals, reconstructed, shape = figures["reconstructions"]
    samples, _, source = figures["samples"]
    np.testing.assert_array_equal(originals, pictures["original"])
    np.testing.assert_array_equal(labels, expected.labels)
    found = {"latent_space": codes, "reconstructions": reconstructed, "samples": samples}
    for name, value in found.items():
        np.testing.assert_allclose(value, pictures[name], rtol=1e-9, atol=1e-12, err_msg=name)
    assert (tuple(shape), tuple(names)) == ((8, 8), ())
    assert source == ("a Gaussian fitted to the codes" if expected.is_plain else "the prior")


MIXTURES = {
    "full": "--components 3 --init random",
    "tied": "--components 2 --covariance tied",
    "diag": "--components 3 --covariance diag --init random --reg-covar 0.01",
    "spherical": "--components 3 --covariance spherical",
    "gaps": "--components 3 --data airquality --missing em --init random",
    "map": "--components 3 --method map",
    "stick": "--components 5 --method variational --init random",
    "Dirichlet": "--components 7 --method variational --weight-concentration-prior-type dirichlet_distribution "
    "--weight-concentration-prior 1e-3 --mean-precision-prior 2 --degrees-of-freedom-prior 4 --covariance-prior 8",
    "far away": "--components 3 --init random --data {far}",
}


AXES = {
    2: ["eruption (minutes)", "waiting (minutes)"],
    4: ["ozone (ppb)", "solar radiation (langleys)", "wind (mph)", "temperature (°F)"],
}


def objective(case: str, x: np.ndarray, p: dict, gamma: np.ndarray | None = None) -> tuple[float, np.ndarray]:
    """The objective of parameters, given responsibilities or the best, and these, (K, N)."""
    if "variational" in MIXTURES[case]:
        joint = rerun.expected_log_joint(x, p)
        gamma = np.exp(joint - logsumexp(joint, axis=0)) if gamma is None else gamma
        prior = dict(concentration=1e-3, mean_precision=2, degrees_of_freedom=4, covariance=8 * np.eye(2))
        if case == "stick":
            prior = dict(concentration=1 / 5, mean_precision=1, degrees_of_freedom=2, covariance=np.cov(x.T))
        return rerun.variational_bound(x, gamma, p, prior | {"reg_covar": 1e-6}), gamma
    values = p["weights"], p["means"], p["covariances"]
    joint = rerun.log_joint(x, *values, case if case in ("tied", "diag", "spherical") else "full")
    total = logsumexp(joint, axis=0)
    return total.sum() + (rerun.log_prior(x, *values) if case == "map" else 0.0), np.exp(joint - total)


def kept(monkeypatch: pytest.MonkeyPatch) -> dict[int, dict[str, np.ndarray]]:
    """The arrays of every checkpoint from here on, one after each iteration, by its number."""
    found, save = {}, RunFolder.save
    monkeypatch.setattr(RunFolder, "save_is_due", lambda folder: True)
    monkeypatch.setattr(
        RunFolder, "save", lambda run, arrays, n: found.update({n: dict(arrays)}) or save(run, arrays, n)
    )
    return found


@pytest.mark.parametrize("case", MIXTURES)
def test_a_mixture_s_run(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Begun in one framework, resumed in the other: each objective from the last checkpoint, and the end."""
    x = rerun.table("airquality" if case == "gaps" else "old_faithful")
    x[:, 0] += 5e5 * (case == "far away")
    data = written(tmp_path / "far.csv", "".join(",".join(map(repr, row)) + "\n" for row in x.tolist()))
    arguments = MIXTURES[case].format(far=data) + " --precision reproducible --seed 11 --tol 0"
    first, second = list(GMM)[:: 1 if list(MIXTURES).index(case) % 2 else -1]
    each, figures = kept(monkeypatch), saved(monkeypatch)
    assert run(GMM[first], f"{arguments} --steps 4", tmp_path / "a") == 0
    metrics = tmp_path / "a" / "metrics.jsonl"  # as a kill leaves it
    metrics.write_text(metrics.read_text() + json.dumps(rows(tmp_path / "a")[3] | {"step": 5}) + '\n{"st')
    capsys.readouterr()
    assert run(GMM[second], f"--resume {tmp_path}/a --steps 6 --json", tmp_path / "b") == 0
    told = json.loads(capsys.readouterr().out)
    assert run(GMM[second], f"{arguments} --steps 6", tmp_path / "whole") == 0
    assert digest(tmp_path / "b") == digest(tmp_path / "whole")
    centre = each[6].get("centre", np.zeros(x.shape[1]))
    assert np.any(centre) == (case == "far away")
    for p in each.values():
        p["means"] = p.get("means_from_centre", p["means"])
    check_objectives(tmp_path / "b", case, x - centre, each)
    check_end(case, told, figures, x, centre, each[6])
    trace = [-row["loss"] * len(x) for row in rows(tmp_path / "b")]
    np.testing.assert_allclose(figures[list(figures)[1]][0], trace, rtol=1e-14)
    for name, value in each[6].items():
        stored = rerun.checkpoint(tmp_path / "b")[0][name]
        np.testing.assert_array_equal(stored, value + centre if name == "means" else value)


@both
@pytest.mark.parametrize("method", ["em", "variational"])
def test_a_resumed_run_converges_where_a_whole_one_does(tmp_path: Path, framework: str, method: str) -> None:
    """An iteration before the end, its first bound is compared with the last one; at the end nothing is done."""
    arguments, losses = f"--method {method} --tol 1e-8", []
    assert run(GMM[framework], arguments, tmp_path / "whole") == 0
    before, steps = digest(tmp_path / "whole"), len(rows(tmp_path / "whole"))
    assert 4 < steps < 90
    assert run(GMM[framework], f"{arguments} --steps {steps - 1}", tmp_path / "part") == 0
    for name in ("whole", "part"):
        assert run(GMM[framework], f"--resume {tmp_path / name} --steps 1000") == 0
        losses.append([row["loss"] for row in rows(tmp_path / name)])
    assert losses[0] == losses[1]
    assert (digest(tmp_path / "whole"), len(losses[0])) == (before, steps)


def test_a_figure_of_a_large_table_shows_a_row_of_each_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 200 rows 50, each with its label: the rows that seed and step 2 of the start draw."""
    table = "".join(f"{i},{i * i % 7},{i % 3}\n" for i in range(200))
    options = GMMOptions(data=str(written(tmp_path / "t.csv", table)), columns="1-2", label_column="3", seed=4, out="x")
    monkeypatch.setattr(mixture_run, "ROWS_IN_A_FIGURE", 50)
    dataset, fit = mixture_run.mixture_data(options)[0]
    shown = mixture_run.rows_to_show(options, mixture_run.MixtureData(dataset, fit._replace(in_chunks=True)))
    rows = np.floor(4 * (np.arange(50) + rerun.uniforms(4, "start", (50,), 2)))
    np.testing.assert_array_equal(shown.fit.x, np.stack([rows, rows**2 % 7], axis=1))
    np.testing.assert_array_equal(shown.dataset.labels, rows % 3)


def test_a_large_table_starts_from_a_row_of_each_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 5,000 rows 1,024, as seed and step 1 of the start draw them."""
    data = written(tmp_path / "t.csv", "".join(f"{i},{i * i % 7}\n" for i in range(5000)))
    options, found = GMMOptions(data=str(data), columns="1-", seed=4, out="x", init="random"), []
    monkeypatch.setattr(chunks, "ROWS_TO_START_FROM", 1024)

    def begin(points: np.ndarray, gamma: np.ndarray) -> MixtureParameters:
        found.append(points)
        return MixtureParameters(np.full(2, 0.5), np.zeros((2, 2)), np.stack([np.eye(2)] * 2))

    run = SimpleNamespace(start=None, options=options, workers=SimpleNamespace(size=1))
    algorithm = SimpleNamespace(start=begin, tensor=lambda value: value)
    mixture_run.start(run, mixture_run.mixture_data(options)[0].fit, algorithm)
    ends = np.arange(1025) * 5000 // 1024
    rows = np.floor(ends[:-1] + np.diff(ends) * rerun.uniforms(4, "start", (1024,), 1))
    np.testing.assert_array_equal(found, [np.stack([rows, rows**2 % 7], axis=1)])


def check_objectives(folder: Path, case: str, x: np.ndarray, each: dict[int, dict]) -> None:
    """The metrics: of EM the objective of the parameters before an iteration, of a posterior the bound after it."""
    found, expected = rows(folder), []
    name = {"map": "log_posterior", "stick": "lower_bound", "Dirichlet": "lower_bound"}.get(case, "log_likelihood")
    for number in range(2, 7):
        value, gamma = objective(case, x, each[number - 1])
        expected.append(objective(case, x, each[number], gamma)[0] if name == "lower_bound" else value)
    if name == "log_likelihood":
        kind = case if case in ("tied", "diag", "spherical") else "full"
        complete = np.where(np.isnan(x), np.nanmean(x, axis=0), x)
        gamma = rerun.mixture_start(11, complete, len(each[1]["weights"]), "random" in MIXTURES[case])
        start = oracle.m_step(complete, gamma, kind, 0.01 if case == "diag" else 1e-6)
        expected.insert(0, objective(case, x, dict(zip(("weights", "means", "covariances"), start, strict=True)))[0])
    assert [row["step"] for row in found] == [1, 2, 3, 4, 5, 6]
    assert {frozenset(row) for row in found} == {frozenset({"step", "loss", name, "seconds"})}
    np.testing.assert_allclose([row[name] for row in found][-len(expected) :], expected, rtol=1e-9)
    np.testing.assert_allclose([row["loss"] for row in found], [-row[name] / len(x) for row in found], rtol=1e-14)


def check_end(case: str, told: dict, figures: dict, x: np.ndarray, centre: np.ndarray, p: dict) -> None:
    """The summary and what the figures show, components by falling weight."""
    value, gamma = objective(case, x - centre, p)
    is_posterior = "covariances" in p and "weights" not in p
    weights = rerun.expected_weights(p["weight_concentration"]) if is_posterior else p["weights"]
    falling = sorted(range(len(weights)), key=lambda k: -weights[k])
    survives = [k for k in falling if not is_posterior or gamma[k].sum() >= 1]
    assert case != "Dirichlet" or 0.1 < gamma.sum(axis=1).min() < 1, "one component has less than a point"
    texts = {
        "weights": " ".join(f"{weights[k]:.6f}" for k in survives),
        "means": " ".join(f"({', '.join(f'{m:.4f}' for m in p['means'][k] + centre)})" for k in survives),
        "surviving_components": f"{len(survives)} of {len(weights)}" if is_posterior else None,
    }
    assert {name: told.get(name) for name in texts} == texts
    (name,) = {"log_likelihood", "log_posterior", "lower_bound"} & told.keys()
    assert told[name] == pytest.approx(value, rel=1e-9)
    assert (told["iterations"], told["converged"]) == (6, False)
    data, *values, kind, shades, fade = figures["mixture"]
    assert (kind, fade) == (case if case in ("tied", "diag", "spherical") else "full", is_posterior)
    np.testing.assert_allclose(data.x, x - centre, rtol=1e-12)
    names = [f"feature 1 - {centre[0]:.0f}", "feature 2"] if np.any(centre) else AXES[len(x.T)]
    assert list(data.feature_names) == names
    covariances = p["covariances"] if case == "tied" else p["covariances"][falling]
    for found, expected in zip(values, (weights[falling], p["means"][falling], covariances), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(shades, gamma[falling].T, rtol=1e-7, atol=1e-12)
    assert list(figures)[1] == ("lower_bound" if is_posterior else "log_likelihood")
    assert figures[list(figures)[1]][1] == name.replace("_", " ")
