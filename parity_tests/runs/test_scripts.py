"""The training scripts as users run them: every flag, equal bytes across frameworks, resuming, bad input."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
from safetensors.numpy import load_file

from common import draws
from common.compare import runs as compare_runs
from common.data.messages import flag
from common.figures import draw as draw_chapters
from common.networks import training as network_training
from common.runs import checkpoint
from common.runs import script as run_script
from common.runs.folder import RunFolder
from common.runs.options import GMMOptions, VAEOptions
from parity_tests.chapters.test_precision import DEFAULTS
from parity_tests.support.scripts import (
    GMM,
    PACKAGES,
    ROOT,
    SCRIPTS,
    SMALL,
    VAE,
    both,
    contents,
    digest,
    finished,
    long_for_tf2,
    one_line,
    packages,
    rows,
    run,
    run_python,
    scripts,
    started,
    wait_for,
    written,
)
from pytorch_impl.autoencoder import Autoencoder as TorchAutoencoder
from pytorch_impl.vae import VAE as TorchVAE

long = partial(pytest.param, marks=pytest.mark.long)
one_of_each = pytest.mark.parametrize(("framework", "script"), [("torch", "vae"), ("tf2", "gmm")])


GMM_RUNS = [
    "--data old-faithful --components 2 --covariance full --seed 0",
    "--data old-faithful --components 3 --covariance tied --init random --seed 1 --steps 300",
    "--data synthetic --components 4 --covariance diag --init k-means++ --seed 2 --reg-covar 1e-3",
    "--data synthetic --components 3 --covariance spherical --init random_from_data --seed 3 --tol 1e-6",
    "--method map --components 5 --init random --seed 4 --steps 120",
    "--data airquality --missing em --components 2 --seed 6",
    "--data digits --components 5 --covariance full --reg-covar 1e-2 --seed 5 --steps 20",
    "--method variational --components 6 --weight-concentration-prior-type dirichlet_distribution "
    "--weight-concentration-prior 1e-3 --seed 0",
    "--method variational --data synthetic --components 5 --covariance tied --init random --mean-precision-prior 0.1 "
    "--degrees-of-freedom-prior 4 --covariance-prior 0.5 --steps 60",
    "--method variational --data digits --components 3 --covariance diag --reg-covar 1e-2 --steps 15",
]
VAE_RUNS = [
    "--data digits --model dense --likelihood bernoulli --latent-dim 10 --hidden-dim 400 --steps 200 --seed 7",
    "--likelihood gaussian --activation relu --latent-dim 2 --hidden-dim 64 --epochs 5 --batch-size 99 --seed 1234567",
    "--likelihood gaussian --variance 0.05 --hidden-dim 32 --steps 60 --learning-rate 1e-2 --seed 18446744073709551615",
    "--model conv --channels 4 --hidden-dim 16 --latent-dim 3 --activation relu --batch-size 16 --steps 300 --seed 8",
    "--likelihood gaussian --variance per-pixel --activation linear --hidden-dim 20 --steps 60 --seed 2",
    "--model autoencoder --hidden-dim 100 --latent-dim 8 --epochs 5 --seed 3",
    "--model autoencoder --likelihood gaussian --variance 0.02 --activation relu --hidden-dim 32 --steps 60 --seed 4",
]


ALL_RUNS = [("gmm", a) for a in GMM_RUNS] + [("vae", a) for a in VAE_RUNS]
IN_SHORT = [ALL_RUNS[number] for number in (2, 6, 13)]  # what test_numbers.py runs is not among them


@pytest.mark.parametrize(
    ("script", "arguments"), [pytest.param(*run, marks=() if run in IN_SHORT else pytest.mark.long) for run in ALL_RUNS]
)
def test_reproducible_checkpoints_are_the_same_bytes(tmp_path: Path, script: str, arguments: str) -> None:
    for framework, main in SCRIPTS[script].items():
        assert run(main, arguments + " --precision reproducible", tmp_path / framework) == 0
    assert digest(tmp_path / "torch") == digest(tmp_path / "tf2")
    agree, lines = compare_runs.compare(tmp_path / "torch", tmp_path / "tf2")
    assert agree, lines


@scripts
def test_runs_in_single_precision_agree_within_it(tmp_path: Path, script: str) -> None:
    for framework, main in SCRIPTS[script].items():
        assert run(main, f"{SMALL[script]} --precision float32", tmp_path / framework) == 0
    a, b = (load_file(tmp_path / framework / "checkpoint.safetensors") for framework in ("torch", "tf2"))
    assert a.keys() == b.keys()
    for name in a.keys() - {"step"}:
        assert a[name].dtype == b[name].dtype == np.float32
        assert np.abs(a[name] - b[name]).max() <= 1e-3 * max(np.abs(a[name]).max(), 1e-12), name


@pytest.mark.parametrize("model", ["dense", "conv", "autoencoder"])
def test_a_checkpoint_is_a_state_dict(tmp_path: Path, model: str) -> None:
    """PyTorch users load what TensorFlow trained as they load anything."""
    arguments = f"{SMALL['vae']} --likelihood gaussian --model {model} --precision reproducible"
    assert run(VAE["tf2"], arguments, tmp_path / "run") == 0
    arrays = safetensors.torch.load_file(tmp_path / "run" / "checkpoint.safetensors")
    moments = {"step"} | {name for name in arrays if name.startswith("optimizer.")}
    sizes = dict(latent_dim=3, hidden_dim=20)
    more = dict(likelihood="gaussian", model=model, image_shape=(8, 8))
    other = TorchAutoencoder(64, **sizes) if model == "autoencoder" else TorchVAE(64, **sizes, **more)
    other.load_state_dict({name: value for name, value in arrays.items() if name not in moments})
    assert all(np.array_equal(value.numpy(), arrays[name].numpy()) for name, value in other.state_dict().items())


@both
def test_runs_are_refused_a_taken_folder_unless_told(
    tmp_path: Path, framework: str, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "run"
    assert run(GMM[framework], "--steps 2", out) == 0
    before = digest(out)
    assert run(GMM[framework], "--steps 3", out) == 2
    assert one_line(capsys) == f"error: --out {out}: holds a run already; choose another folder or add --overwrite"
    assert digest(out) == before
    assert run(GMM[framework], "--steps 3 --overwrite", out) == 0
    assert digest(out) != before


BAD_ARGUMENTS = """
gmm | --components 2.5 | argument --components: invalid int value: '2.5'
gmm | --seed 18446744073709551616 | must be below 2^64
gmm | --tol nan | --tol nan: must be at least 0
gmm | --method map --covariance diag | --method map: needs --covariance full, not diag
gmm | --missing em --covariance tied | --missing em: needs --covariance full, not tied
gmm | --method map --missing em | --method map: cannot be combined with --missing em
gmm | --mean-precision-prior 2 | --mean-precision-prior 2.0: only --method variational
gmm | --method variational --missing em | --method variational: cannot be combined with
gmm | --method map --reg-covar 1e-3 | --method map has its prior instead
vae | --lr 1 | unrecognized arguments: --lr 1
vae | --channels 4 | --channels 4: only a conv model has them; leave it out or add
vae | --model autoencoder --likelihood bernoulli | --likelihood bernoulli: squared error is a gaussian likelihood
vae | --model autoencoder --importance-samples 5 | a plain autoencoder has no q(z|x) to draw from
vae | --model autoencoder --variance per-pixel | --variance per-pixel: squared error has one for all pixels
vae | --likelihood gaussian --variance wide | argument --variance: invalid
vae | --variance per-pixel | only a gaussian likelihood has one
vae | --variance 0.1 | --variance 0.1: only a gaussian likelihood has one
"""
BAD_INPUT = """
gmm | --data geyser | --data geyser: is unknown: use
gmm | --data no/such.csv | there is no such file
gmm | --data {nan} | contains NaN at row 1, column 1
gmm | --data airquality | fill them in, or set --missing em
gmm | --data airquality --covariance tied | or set --missing em and --covariance full
gmm | --data airquality --method map | or use --method em --missing em
gmm | --data {constant} | constant in column(s) 1
gmm | --data {point} --reg-covar 0 | has collapsed
gmm | --data {three} --components 9 | has 3 sample(s) (n_samples=3), fewer than --components=9
vae | --data mnist --data-dir {folder} | train-images-idx3-ubyte[.gz] is missing
gmm | --method variational --weight-concentration-prior 0 | --weight-concentration-prior 0.0: must be a number above 0
gmm | --method variational --degrees-of-freedom-prior 1 | --degrees-of-freedom-prior 1.0: must be a number above 1
gmm | --method variational --reg-covar 0 --data {line} | which is the default of --covariance-prior
gmm | --method map --data {line} | singular covariance
gmm | --data {hole} --missing em | has nothing but NaN in row 1
gmm | --data {gap} --missing em | has nothing but NaN in column 1
vae | --data old-faithful | scale pixels to [0, 1]
vae | --device warp | --device warp:
gmm | --device cuda | --device cuda:
gmm | --resume {folder} | config.json cannot be read
vae | --model conv --data {rows} | --model conv: needs square images
gmm | --label-column -1 | --pixel-max apply to files only
gmm | --data {three} --columns 1,7 | '7' is not one of the 2 column(s)
gmm | --data {three} --label-column 3 | --label-column 3:
vae | --data {line} | or give the value of a white one by --pixel-max
vae | --model autoencoder --data {blank} | reconstructed without error at update 1
"""
TABLES = {
    "nan": "1,2\n3,NA\n5,6\n",
    "three": "1,2\n3,4\n5,7\n",
    "constant": "1,2\n3,2\n5,2\n",
    "point": "".join(f"{i % 5},{i % 7}\n" for i in range(30)) + "100,100\n" * 9,
    "line": "".join(f"{i},{2 * i}\n" for i in range(9)),
    "hole": "1,2\nNA,NA\n3,4\n5,7\n",
    "blank": "0,0,0,0\n" * 9,
    "gap": "1,NA\n2,NA\n4,NA\n",
    "rows": "0,1,0\n1,0,1\n0,0.5,0.25\n",
}


def refused(tmp_path: Path, main: Callable, line: str, capsys: pytest.CaptureFixture) -> None:
    """Exit code 2 and one line with the message; nothing is half-written."""
    _, arguments, message = line.split(" | ")
    files = {name: written(tmp_path / f"{name}.csv", text) for name, text in TABLES.items() if name in arguments}
    assert run(main, arguments.format(folder=tmp_path, **files), tmp_path / "out") == 2
    assert message in one_line(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("line", BAD_ARGUMENTS.strip().splitlines())
def test_bad_arguments_get_one_line_and_exit_code_2(tmp_path: Path, line: str, capsys: pytest.CaptureFixture) -> None:
    refused(tmp_path, SCRIPTS[line[:3]]["torch"], line, capsys)


@both
@pytest.mark.parametrize("line", BAD_INPUT.strip().splitlines())
def test_bad_input_gets_one_line_and_exit_code_2(
    tmp_path: Path, framework: str, line: str, capsys: pytest.CaptureFixture
) -> None:
    refused(tmp_path, SCRIPTS[line[:3]][framework], line, capsys)


@pytest.mark.parametrize(("script", "kind"), [("gmm", GMMOptions), ("vae", VAEOptions)])
def test_each_number_has_a_least_value_and_each_choice_is_checked(
    tmp_path: Path, script: str, kind: type, capsys: pytest.CaptureFixture
) -> None:
    for field in fields(kind):
        least = field.metadata.get("least")
        if least is not None:
            gaussian = " --likelihood gaussian" if field.name == "variance" else ""
            for below in (-1, 0)[: 2 if least > 0 else 1]:
                assert run(SCRIPTS[script]["torch"], f"{flag(field.name)} {below}{gaussian}", tmp_path / "out") == 2
                assert re.match(rf"error: {flag(field.name)} {below}\S*: must be at least {least}", one_line(capsys))
        if "choices" in field.metadata:
            assert run(SCRIPTS[script]["torch"], f"{flag(field.name)} nonsense", tmp_path / "out") == 2
            assert f"argument {flag(field.name)}: invalid choice: 'nonsense' (choose from" in one_line(capsys)


OF_ALL = dict(data_dir=None, label_column=None, columns=None, seed=0, precision="float64", out="run", resume=None)
OF_ALL |= dict(overwrite=False, threads=0, device="cpu", log_interval=0, quiet=False, verbose=False, json=False)
OF_ALL |= dict(tensorboard=False, hash_interval=0)
OF_MIXTURES = dict(data="old-faithful", components=2, covariance="full", method="em", missing="error", init="kmeans")
OF_MIXTURES |= dict(steps=1000, tol=1e-10, reg_covar=None, weight_concentration_prior_type=None)
OF_MIXTURES |= dict.fromkeys(("mean_precision_prior", "degrees_of_freedom_prior", "covariance_prior"))
OF_NETWORKS = dict(data="digits", model="dense", likelihood="bernoulli", variance=None, activation="tanh")
OF_NETWORKS |= dict(latent_dim=10, hidden_dim=400, channels=None, epochs=None, steps=None, batch_size=128)
OF_NETWORKS |= dict(learning_rate=1e-3, compile=False, importance_samples=0, pixel_max=1.0)


@pytest.mark.parametrize(
    ("threads", "variable", "expected"), [(3, "2", 3), (0, "2", 2), (0, "4,2", 4), (0, "", None), (0, "many", None)]
)
def test_threads_are_those_asked_for_or_one_for_each_core(
    monkeypatch: pytest.MonkeyPatch, threads: int, variable: str, expected: int | None
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert GMMOptions(out="run", threads=threads).thread_count == (expected or len(os.sched_getaffinity(0)))


def test_options_have_the_published_defaults() -> None:
    """Whose change would change every published run."""
    assert asdict(GMMOptions(out="run").check()) == OF_ALL | OF_MIXTURES | {"weight_concentration_prior": None}
    assert asdict(VAEOptions(out="run").check()) == OF_ALL | OF_NETWORKS
    assert VAEOptions(model="autoencoder", out="run").check().likelihood == "gaussian"
    for precision, dtype in (("float32", "float32"), ("float64", "float64"), ("reproducible", "float64")):
        assert VAEOptions(precision=precision).dtype == dtype


def test_where_a_run_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    framework = "torch"
    (tmp_path / "file").write_text("in the way")
    assert run(GMM[framework], "--steps 1", tmp_path / "file" / "run") == 2
    assert "cannot be written" in one_line(capsys)
    assert GMM[framework](["--steps", "1", "--out", "/proc/run"]) == 2
    assert "cannot be written" in one_line(capsys)
    assert run(GMM[framework], "--steps 1") == 2
    assert "--out is missing" in one_line(capsys)


def test_a_resume_that_does_not_fit_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    main, source = VAE["torch"], tmp_path / "run"
    assert run(main, SMALL["vae"], source) == 0
    before = contents(source)
    capsys.readouterr()

    def refused(*arguments: str, by: Callable = main) -> str:
        assert by(["--resume", str(source), *arguments]) == 2
        assert contents(source) == before
        return one_line(capsys)

    assert "--hidden-dim 30: the run to resume has 20; leave the flag out" in refused("--hidden-dim", "30")
    assert "--seed 1: the run to resume has 0" in refused("--seed", "1")
    assert "config.json lacks ['components'" in refused(by=GMM["torch"])
    whole = (source / "checkpoint.safetensors").read_bytes()
    before["checkpoint.safetensors"] = whole[:-5]
    (source / "checkpoint.safetensors").write_bytes(whole[:-5])
    assert "not a whole checkpoint" in refused()
    other = tmp_path / "other"
    assert run(main, "--steps 2 --hidden-dim 21 --latent-dim 3", other) == 0
    capsys.readouterr()
    before["checkpoint.safetensors"] = (other / "checkpoint.safetensors").read_bytes()
    (source / "checkpoint.safetensors").write_bytes(before["checkpoint.safetensors"])
    assert "of another architecture, hidden_dim = 21 where this run has 20" in refused("--steps", "9")


@pytest.mark.parametrize(("framework", "number"), [("torch", signal.SIGINT), long("tf2", signal.SIGTERM)])
def test_an_interrupted_run_can_go_on(tmp_path: Path, framework: str, number: int) -> None:
    out, more = tmp_path / "run", "--hidden-dim 20 --latent-dim 3 --precision reproducible --epochs 100000"
    process = started(f"{PACKAGES[framework]}.train_vae", f"{more} --out {out}")
    metrics = out / ".metrics.jsonl.pending"
    wait_for(lambda: metrics.exists() and metrics.stat().st_size > 0)
    os.kill(process.pid, number)
    code, _, err = finished(process)
    assert code == 130, err
    assert "interrupted; continue with --resume" in err
    assert "Traceback" not in err
    steps = checkpoint.load(out / "checkpoint.safetensors")[1]
    assert steps == rows(out)[-1]["step"] > 0
    assert run(VAE[framework], f"--resume {out} --steps {steps + 3}") == 0
    assert run(VAE[framework], f"{more} --steps {steps + 3}", tmp_path / "whole") == 0
    assert digest(out) == digest(tmp_path / "whole")


@pytest.mark.long
@both
def test_the_chapters_figures_are_drawn(
    tmp_path: Path, framework: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = PACKAGES[framework]
    monkeypatch.setattr(network_training, "EPOCHS", 1)
    assert draw_chapters.main([package, str(tmp_path / "figures")]) == 0
    told = capsys.readouterr().out.split()
    assert sorted(told) == sorted(map(str, (tmp_path / "figures").iterdir()))
    names = "coin mixture_density em_snapshots restarts lower_bounds components_dying_out singularity traces "
    names += "choosing_components plates vae_manifold vae_latent_space vae_reconstructions vae_samples samples_compared"
    assert {Path(path).stem for path in told} == set(names.split())


def test_figures_that_cannot_be_drawn(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert draw_chapters.main(["pytorch_impl", "/proc/figures"]) == 2
    assert "cannot be written" in one_line(capsys)
    assert draw_chapters.main(["jax_impl", str(tmp_path)]) == 2
    assert "name an implementation" in one_line(capsys)


@both
@pytest.mark.parametrize(
    "arguments", ["--device cuda", "--data {point} --reg-covar 0 --init random --steps 6", "--threads 100000000"]
)
def test_a_run_that_fails_leaves_the_old_one(tmp_path: Path, framework: str, arguments: str) -> None:
    out, point = tmp_path / "run", written(tmp_path / "p.csv", TABLES["point"])
    assert run(GMM[framework], "--steps 2", out) == 0
    before = contents(out)
    assert run(GMM[framework], f"{arguments.format(point=point)} --overwrite", out) == 2
    assert contents(out) == before


def test_a_diverged_vae_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = "--likelihood gaussian --learning-rate 1e30 --steps 20 --hidden-dim 8"
    assert run(VAE["torch"], arguments, tmp_path / "run") == 2
    assert "--learning-rate 1e+30: the loss became" in one_line(capsys)
    assert not (tmp_path / "run").exists()


@one_of_each
def test_a_resume_to_less_than_was_done_is_refused(
    tmp_path: Path, framework: str, script: str, capsys: pytest.CaptureFixture
) -> None:
    """And more epochs, where steps were given before, are more updates."""
    main, out = SCRIPTS[script][framework], tmp_path / "run"
    assert run(main, SMALL[script], out) == 0
    before = contents(out)
    capsys.readouterr()
    for where in ([], ["--out", str(tmp_path / "other")]):
        assert main(["--resume", str(out), "--steps", "3", *where]) == 2
        unit = {"gmm": "iteration", "vae": "update"}[script]
        assert f"--resume {out}: 5 {unit}s are done already, and --steps" in one_line(capsys)
    assert contents(out) == before
    assert not (tmp_path / "other").exists()
    assert main(["--resume", str(out), "--steps", "5"]) == 0
    assert digest(out) in capsys.readouterr().out
    if script == "vae":
        assert main(["--resume", str(out), "--epochs", "1"]) == 0
        assert len(rows(out)) == 12


def test_small_and_odd_files(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    framework = "torch"
    np.save(tmp_path / "few.npy", np.eye(4)[:2])
    assert run(VAE[framework], f"--data {tmp_path / 'few.npy'} --steps 2 --hidden-dim 4", tmp_path / "few") == 0
    for name, array in (("rows", np.zeros((0, 4))), ("columns", np.zeros((5, 0)))):
        np.save(tmp_path / f"{name}.npy", array)
        for script in SCRIPTS.values():
            capsys.readouterr()
            assert run(script[framework], f"--data {tmp_path / name}.npy", tmp_path / "none") == 2
            assert "give at least one row and one column" in one_line(capsys)
    (tmp_path / "excel.csv").write_bytes(b"\xef\xbb\xbf1,2\n3,5\n4,4\n8,1\n")
    assert run(GMM[framework], f"--data {tmp_path / 'excel.csv'} --components 1", tmp_path / "excel") == 0


@pytest.mark.figures
@one_of_each
def test_what_a_run_says_and_leaves(tmp_path: Path, framework: str, script: str, capfd: pytest.CaptureFixture) -> None:
    """--json one object, --quiet nothing, --log-interval a line on stderr; what was trained is the same."""
    main, small = SCRIPTS[script][framework], SMALL[script]
    assert run(main, small, tmp_path / "run", "--json", "--log-interval", "2") == 0
    out, err = capfd.readouterr()
    told = json.loads(out)
    assert told["folder"] == str(tmp_path / "run")
    assert told["checkpoint_sha256"] == digest(tmp_path / "run")
    pictures = {"gmm": {"mixture", "log_likelihood"}, "vae": {"losses", "latent_space", "reconstructions", "samples"}}
    assert {Path(picture).stem for picture in told["pictures"]} == pictures[script]
    assert all(Path(picture).read_bytes()[:4] == b"\x89PNG" for picture in told["pictures"])
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["seed"], config["framework"]) == (0, PACKAGES[framework])
    assert {"torch", "tensorflow", "numpy", "python"} <= config["versions"].keys()
    assert [line.split()[:2] for line in err.splitlines()] == [["step", "2"], ["step", "4"]]
    assert f"{rows(tmp_path / 'run')[3]['loss']:.6g}" in err.splitlines()[1]
    assert run(main, small, tmp_path / "quiet", "--quiet", "--log-interval", "2") == 0
    assert capfd.readouterr() == ("", "")
    assert digest(tmp_path / "quiet") == digest(tmp_path / "run")


@pytest.mark.long
def test_verbose_shows_what_tensorflow_reports(tmp_path: Path) -> None:
    code, _, err = finished(started("tf2_impl.train_gmm", f"--steps 2 --verbose --out {tmp_path / 'run'}"))
    assert code == 0
    assert "cpu_feature_guard" in err


def test_two_runs_do_not_share_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The second, of either framework, is refused, and the first goes on; then the folder is free."""
    process = started("pytorch_impl.train_vae", f"--steps 1000000 --out {tmp_path / 'run'}")
    wait_for((tmp_path / "run" / ".metrics.jsonl.pending").exists)
    for main in VAE.values():
        assert run(main, SMALL["vae"], tmp_path / "run") == 2
        assert "another run is writing there; wait, or choose another folder" in capsys.readouterr().err
    process.kill()
    finished(process)
    assert run(VAE["torch"], SMALL["vae"], tmp_path / "run") == 0


@pytest.mark.long
@pytest.mark.parametrize("model", ["dense", "conv", "autoencoder"])
@pytest.mark.parametrize("path", [None, "/usr/bin:/bin"])
def test_a_compiler_may_be_absent(tmp_path: Path, path: str | None, model: str) -> None:
    """The run goes on after one line without it, to the same losses as with it."""
    small = f"{SMALL['vae']} --model {model}"
    environment = os.environ | {"PATH": path or str(tmp_path), "CXX": "g++"}
    process = started("pytorch_impl.train_vae", f"{small} --out {tmp_path / 'run'} --compile", env=environment)
    code, _, err = finished(process)
    assert code == 0, err
    expected = "" if path else "--compile: PyTorch finds no working C++ compiler, and goes on without; install g++"
    assert err.strip().partition(": ")[2] == expected
    assert run(VAE["torch"], small, tmp_path / "plain") == 0
    compiled, plain = ([row["loss"] for row in rows(tmp_path / name)] for name in ("run", "plain"))
    np.testing.assert_allclose(compiled, plain, rtol=1e-12)


def test_tensorboard_may_be_absent(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run(VAE["torch"], "--tensorboard", tmp_path / "run") == 2
    assert "run `python -m pip install tensorboard`" in one_line(capsys)
    assert not (tmp_path / "run").exists()


SAVING_OFTEN = """
import sys
from common.runs import folder as run_folder
from {package} import train_vae
run_folder.SECONDS_BETWEEN_SAVES = 0.2
sys.exit(train_vae.main(sys.argv[1:]))
"""


@pytest.mark.long
@packages
def test_killed_again_and_again_it_ends_in_the_same_bytes(tmp_path: Path, package: str) -> None:
    """kill -9 at twelve random moments, mostly in the training: what is left loads, and is gone on from."""
    more = f"{SMALL['vae']} --precision reproducible --steps 20000".split()
    out, code = tmp_path / "run", SAVING_OFTEN.format(package=package)
    steps, moments = [0], iter(draws.uniforms(0, "sample", (12,)))
    while True:
        held = (out / "checkpoint.safetensors").exists()
        start = ["--resume", str(out)] if held else [*more, "--overwrite", "--out", str(out)]
        process = subprocess.Popen([sys.executable, "-c", code, *start], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        try:
            _, err = process.communicate(timeout=3 + 9 * float(next(moments, 100)))
            assert process.returncode == 0, err
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        if (out / "checkpoint.safetensors").exists():
            steps.append(checkpoint.load(out / "checkpoint.safetensors")[1])
    assert steps == sorted(steps)
    assert len(set(steps)) > 4, "the kills met the training"
    assert VAE["torch"]([*more, "--out", str(tmp_path / "whole")]) == 0
    assert digest(out) == digest(tmp_path / "whole")
    assert [row["step"] for row in rows(out)] == list(range(1, 20_001))


@long_for_tf2
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, framework: str) -> None:
    """Files may not grow past 50,000 bytes, less than a checkpoint: one line, exit code 2, nothing lost."""
    out = tmp_path / "run"
    assert run(VAE[framework], "--hidden-dim 100 --steps 3", out) == 0
    before = (out / "checkpoint.safetensors").read_bytes()
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))"
    code = f"import resource, sys; {limit}; from {PACKAGES[framework]} import train_vae"
    done = run_python(f"{code}; sys.exit(train_vae.main(sys.argv[1:]))", "--resume", str(out), "--steps", "6")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "File too large" in done.stderr
    assert (out / "checkpoint.safetensors").read_bytes() == before
    assert not list(out.glob(".*"))


def test_a_connection_that_fails_before_the_run_is_no_lost_worker(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def prepare(options: VAEOptions) -> tuple:
        raise ConnectionRefusedError(111, "Connection refused")

    argv = ["--out", str(tmp_path / "run")]
    assert run_script.main("pytorch_impl.train_vae", VAEOptions, prepare, lambda *_: None, argv) == 2
    assert "Connection refused" in one_line(capsys)


@pytest.mark.parametrize("saved", [False, True])
def test_a_lost_worker_names_only_a_checkpoint_that_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture, saved: bool
) -> None:
    def train(folder: RunFolder, data: None) -> None:
        if saved:
            folder.save({"w": np.ones(1)}, 1)
        raise ConnectionError("a worker is lost")

    out = tmp_path / "run"
    argv = ["--out", str(out), "--quiet"]
    assert run_script.main("pytorch_impl.train_vae", VAEOptions, lambda options: (None, {}), train, argv) == 1
    expected = "error: a worker is lost; start all again" + (f" with --resume {out}" if saved else "")
    assert one_line(capsys) == expected
    assert out.exists() == saved


IN_SINGLE_PRECISION = [
    ("gmm", "--components 3 --steps 3"),
    ("gmm", "--data airquality --missing em --steps 3"),
    ("gmm", "--method map --components 3 --steps 3"),
    ("gmm", "--method variational --components 3 --steps 3"),
    ("vae", "--hidden-dim 8 --latent-dim 2 --steps 2 --likelihood gaussian"),
    pytest.param("vae", "--model conv --channels 2 --hidden-dim 8 --latent-dim 2 --steps 2", marks=pytest.mark.long),
    pytest.param("vae", "--model autoencoder --hidden-dim 8 --latent-dim 2 --steps 2", marks=pytest.mark.long),
]


@both
@pytest.mark.parametrize(("script", "arguments"), IN_SINGLE_PRECISION)
def test_a_run_takes_no_default_of_the_framework(tmp_path: Path, framework: str, script: str, arguments: str) -> None:
    usual = tmp_path / "usual"
    assert run(SCRIPTS[script][framework], arguments + " --precision float32", usual) == 0
    package = PACKAGES[framework]
    for what in ("dtype float64", "device meta", "floatx float64", "policy mixed_bfloat16"):
        if DEFAULTS[what][0] == package:
            with DEFAULTS[what][1]():
                assert run(SCRIPTS[script][framework], arguments + " --precision float32", tmp_path / what) == 0
            assert digest(tmp_path / what) == digest(usual), what
