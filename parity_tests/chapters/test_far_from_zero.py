"""Data far from zero get the fit of the same data near zero, whichever way they come in.

The tables lie on a grid that the shifted numbers hold exactly, up to 1e12 spreads from zero in float64 and
1e4 in float32. So what is fitted to the shifted table is the shifted fit, and nothing but the place of the
means may differ.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.data import chunks, datasets
from common.mixtures.parameters import COVARIANCE_TYPES
from common.mixtures.start import INIT_PARAMS, initial_responsibilities
from common.runs import checkpoint, launch_workers
from common.runs import mixture as mixture_training
from common.runs.folder import read_metrics
from parity_tests.support.frameworks import both_estimators
from parity_tests.support.scripts import GMM as MAIN
from parity_tests.support.scripts import ROOT

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
both, bayesian = map(both_estimators, ("GaussianMixture", "BayesianGaussianMixture"))
FRAMEWORKS = dict(zip(MAIN, both.args[1], strict=True))
all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
precisions = pytest.mark.parametrize("dtype", ["float64", "float32"])

SHIFT = {"float64": np.array([2.0**42, -(2.0**43), 0]), "float32": np.array([2.0**15, -(2.0**16), 0])}
RTOL = {"float64": 1e-9, "float32": 2e-4}
NEAR = np.round(datasets.synthetic_mixture(150, 3, 3, 5.0, seed=1).x * 64) / 64  # spreads of 4 to 5
GAPS = np.where(np.random.default_rng(0).uniform(size=NEAR.shape) < 0.2, np.nan, NEAR)


def tables(x: np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """The table near zero and far from it, in a dtype that holds both exactly."""
    far = (x + SHIFT[dtype]).astype(dtype)
    np.testing.assert_array_equal(far.astype(np.float64) - SHIFT[dtype], x)
    return x.astype(dtype), far


def check_shifted(near, far, x: np.ndarray, y: np.ndarray, dtype: str) -> None:
    """Fail unless ``far``, fitted to y, is ``near``, fitted to x, moved by the shift."""
    shift, rtol = SHIFT[dtype], RTOL[dtype]
    assert far.converged_ == near.converged_
    assert abs(far.n_iter_ - near.n_iter_) <= (dtype == "float32")
    np.testing.assert_allclose(far.lower_bound_, near.lower_bound_, rtol=rtol)
    for name in ("weights_", "covariances_", "precisions_"):
        a, b = getattr(far, name), getattr(near, name)
        assert a.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())
    assert far.means_.dtype == dtype
    ulp = np.finfo(dtype).eps * np.abs(shift)  # what the means lose to their own dtype, and no more
    assert np.all(np.abs(far.means_.astype(np.float64) - shift - near.means_) <= ulp + 10 * rtol)
    np.testing.assert_array_equal(far.predict(y), near.predict(x))
    np.testing.assert_allclose(far.score_samples(y), near.score_samples(x), rtol=50 * rtol)
    (drawn, z), (expected, of) = far.sample(20), near.sample(20)
    np.testing.assert_array_equal(z, of)
    assert np.all(np.abs(drawn.astype(np.float64) - shift - expected) <= ulp + 100 * rtol)


@both
def test_ten_points_at_seventeen_billion(Mixture: type) -> None:
    model = Mixture(2, random_state=0).fit(1.7e10 + np.array([0, 1, 2, 3, 4, 60, 61, 62, 63, 64.0])[:, None])
    np.testing.assert_array_equal(np.sort(model.means_[:, 0]) - 1.7e10, [2, 62])
    # two Gaussians of variance 2, each with half of the points
    assert model.lower_bound_ == pytest.approx(-np.log(2) - 0.5 * (np.log(2 * np.pi * (2 + 1e-6)) + 2 / (2 + 1e-6)))


@both
@pytest.mark.parametrize(
    ("kind", "init", "dtype"),
    [(kind, init, "float64") for kind in COVARIANCE_TYPES for init in INIT_PARAMS]
    + [(kind, "kmeans", "float32") for kind in COVARIANCE_TYPES]
    + [("full", init, "float32") for init in INIT_PARAMS[1:]],
)
def test_the_shifted_fit(Mixture: type, kind: str, init: str, dtype: str) -> None:
    x, y = tables(NEAR, dtype)
    arguments = dict(covariance_type=kind, init_params=init, random_state=3, max_iter=30, tol=1e-4)
    check_shifted(Mixture(3, **arguments).fit(x), Mixture(3, **arguments).fit(y), x, y, dtype)


@both
@precisions
def test_with_weights_and_repeated_rows(Mixture: type, dtype: str) -> None:
    x, y = tables(np.concatenate([NEAR, NEAR[:40], NEAR[:9]]), dtype)
    weight = np.random.default_rng(1).uniform(size=len(x)).astype(dtype) * (np.arange(len(x)) % 5 > 0)
    for init in ("kmeans", "k-means++"):
        near, far = (Mixture(3, init_params=init, random_state=1).fit(table, sample_weight=weight) for table in (x, y))
        check_shifted(near, far, x, y, dtype)


@both
@precisions
def test_with_gaps(Mixture: type, dtype: str) -> None:
    x, y = GAPS.astype(dtype), (GAPS + SHIFT[dtype]).astype(dtype)
    near, far = (Mixture(3, missing="em", random_state=2).fit(table) for table in (x, y))
    check_shifted(near, far, x, y, dtype)
    filled = far.impute(y)
    np.testing.assert_array_equal(filled[~np.isnan(y)], y[~np.isnan(y)])
    apart = np.abs(filled.astype(np.float64) - SHIFT[dtype] - near.impute(x))
    assert np.all(apart <= np.finfo(dtype).eps * np.abs(SHIFT[dtype]) + 10 * RTOL[dtype])


@both
@all_types
def test_in_chunks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, Mixture: type, kind: str) -> None:
    monkeypatch.setattr(chunks, "NUMBERS_IN_A_CHUNK", 1024)
    monkeypatch.setattr(chunks, "ROWS_TO_START_FROM", 60)
    x, y = tables(NEAR, "float64")
    np.save(tmp_path / "far.npy", y)
    mapped = np.load(tmp_path / "far.npy", mmap_mode="r")
    for init in ("kmeans", "k-means++"):
        near, far = (
            Mixture(3, covariance_type=kind, init_params=init, random_state=0).fit(table) for table in (x, mapped)
        )
        check_shifted(near, far, x, mapped, "float64")


@both
def test_from_given_values_and_from_the_last_fit(Mixture: type) -> None:
    x, y = tables(NEAR, "float64")
    shift, means = SHIFT["float64"], NEAR[[0, 40, 90]]
    near, far = (
        Mixture(3, means_init=means + place, random_state=0, warm_start=True, max_iter=4, tol=0) for place in (0, shift)
    )
    for _ in range(2):  # the second time from where the first ended
        near.fit(x)
        far.fit(y)
        check_shifted(near, far, x, y, "float64")
    near.fit(x)
    far.fit(x + 2 * shift)  # and from there again, elsewhere
    assert far.lower_bound_ < near.lower_bound_ - 1, "the last means are where the data are no longer"
    far.means_ = near.means_ + 0.0  # someone else's: those are used, not what was kept of the fit
    far.weights_, far.covariances_ = near.weights_, near.covariances_
    np.testing.assert_array_equal(far.score_samples(x), near.score_samples(x))


@bayesian
@pytest.mark.parametrize(("kind", "dtype"), [*((kind, "float64") for kind in COVARIANCE_TYPES), ("diag", "float32")])
def test_bayesian(Mixture: type, kind: str, dtype: str) -> None:
    x, y = tables(NEAR, dtype)
    for given in (None, np.array([1.0, -2.0, 0.5])):
        near, far = (
            Mixture(
                4,
                covariance_type=kind,
                mean_prior=None if given is None else given + place,
                random_state=0,
                max_iter=10,
                tol=1e-3 if dtype == "float64" else 0.5,
            ).fit(table)
            for place, table in ((0, x), (SHIFT[dtype], y))
        )
        check_shifted(near, far, x, y, dtype)
        assert np.all(np.abs(far.mean_prior_ - SHIFT[dtype] - near.mean_prior_) <= np.spacing(np.abs(far.mean_prior_)))
        np.testing.assert_allclose(far.predictive_log_density(y), near.predictive_log_density(x), rtol=50 * RTOL[dtype])


@pytest.mark.parametrize("init", INIT_PARAMS)
def test_starts_are_those_near_zero(init: str) -> None:
    for table in (NEAR, np.concatenate([NEAR, NEAR[:70]])):
        x, y = tables(table, "float64")
        near, far = (initial_responsibilities(t, 3, init, np.random.RandomState(5)) for t in (x, y))
        np.testing.assert_array_equal(near, far)


@both
@precisions
def test_lost_digits_get_their_line(Mixture: type, dtype: str) -> None:
    remedy = "subtract the mean" + (", or use float64" if dtype == "float32" else "$")
    eps = float(np.finfo(dtype).eps)
    for shift in (0.3 / eps, 1 / eps, 30 / eps):  # a few steps of the dtype, one or two, and none
        y = (np.random.default_rng(0).standard_normal((50, 2)) + shift).astype(dtype)
        with pytest.raises(ValueError, match=remedy) as error:
            Mixture(2).fit(y)
        assert str(error.value).startswith("X ")
        assert "\n" not in str(error.value)
    y = (np.random.default_rng(0).standard_normal((500, 1)) + 0.004 / eps).astype(dtype)
    Mixture(1).fit(y)  # 250 steps to a deviation are enough
    noise = np.full((50, 2), 0.3)
    noise[::2, 0] += 5.6e-17
    noise[:, 1] = np.arange(50.0)
    Mixture(1).fit(noise)  # constant but for rounding: reg_covar is all the variance that there is, as before


def test_near_zero_nothing_is_done() -> None:
    for name in ("old-faithful", "digits", "synthetic"):
        x = datasets.load(name).x
        assert chunks.find_centre(*chunks.column_ranges(x)) is None
    low, high = np.array([0.0, -1e300, 7, 1000, 0]), np.array([1.0, 1e300, 8, 1001, 0])
    centre = chunks.find_centre(low, high)
    np.testing.assert_array_equal(centre[[0, 1, 2, 4]], 0)
    assert 1000 <= centre[3] <= 1001
    model = FRAMEWORKS["torch"](2, random_state=0).fit(NEAR)
    assert model._centred is None


def test_a_centre_is_taken_away_and_added_in_double_precision() -> None:
    """And 16 steps of a dtype are the fewest that a column may span."""
    centre, points = np.array([2.0**24 + 1]), np.float32([[0.25], [-0.5]])
    np.testing.assert_array_equal(chunks.from_zero(points, centre, np.float64), [[2.0**24 + 1.25], [2.0**24 + 0.5]])
    far = np.array([[2.0**24 + 1.25], [2.0**24 + 0.5]])
    np.testing.assert_array_equal(np.asarray(chunks.Centred(far, centre, np.float32)), points)
    low, steps = np.full(3, 2.0**24), np.array([2.0, 15, 17])
    np.testing.assert_array_equal(chunks.narrow_columns(low, low + 2 * steps, np.float32, 0.0), [0, 1])


def test_a_centre_is_within_the_data_and_its_difference_exact() -> None:
    rng = np.random.default_rng(7)
    for _ in range(200):
        x = rng.standard_normal((20, 1)) * 10 ** rng.uniform(-9, 9)
        x += np.abs(x).max() * 10 ** rng.uniform(1, 12) * rng.choice([-1, 1])
        centre = chunks.find_centre(*chunks.column_ranges(x))
        if centre is not None:
            assert x.min() - np.ptp(x) <= centre[0] <= x.max() + np.ptp(x)
            exact = x.astype(np.longdouble) - np.longdouble(centre[0])
            np.testing.assert_array_equal(chunks.centred(x, centre).astype(np.longdouble), exact)


RUNS = {
    "full": "--components 3",
    "tied": "--components 3 --covariance tied --init k-means++",
    "diag": "--components 3 --covariance diag --init random",
    "spherical": "--components 3 --covariance spherical --init random_from_data",
    "map": "--components 3 --method map",
    "variational": "--components 5 --method variational",
    "gaps": "--components 2 --missing em",
    "float32": "--components 3 --precision float32",
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    for name, x in (("near", NEAR), ("gaps-near", GAPS)):
        np.save(tmp_path / f"{name}.npy", x)
        np.save(tmp_path / f"{name.replace('near', 'far')}.npy", x + SHIFT["float64"])
    return {path.stem: path for path in tmp_path.glob("*.npy")}


def train(main, arguments: str, data: Path, out: Path, steps: int = 8) -> tuple[dict, np.ndarray]:
    """The checkpoint's arrays and the losses of a run."""
    precision = "" if "--precision" in arguments else "--precision reproducible"
    every = f"{arguments} {precision} --steps {steps} --tol 0 --quiet --out {out}"
    assert main([*every.split(), *(["--data", str(data)] if data else [])]) == 0
    return checkpoint.load(out / "checkpoint.safetensors")[0], np.array([row["loss"] for row in read_metrics(out)])


@pytest.mark.parametrize("name", RUNS)
def test_scripts(tmp_path: Path, files: dict[str, Path], name: str) -> None:
    """Both scripts end where the run near zero does, in the same bytes, also when the other one goes on."""
    prefix, shift = "gaps-" if name == "gaps" else "", SHIFT["float64"]
    near, losses = train(MAIN["torch"], RUNS[name], files[f"{prefix}near"], tmp_path / "run-near")
    rtol = RTOL["float32" if name == "float32" else "float64"]
    for framework, main in MAIN.items():
        far, found = train(main, RUNS[name], files[f"{prefix}far"], tmp_path / framework)
        np.testing.assert_allclose(found, losses, rtol=rtol)
        ulp = np.finfo(far["means"].dtype).eps * np.abs(shift)
        assert np.all(np.abs(far["means"].astype(np.float64) - shift - near["means"]) <= ulp + 10 * rtol)
        np.testing.assert_allclose(far["covariances"], near["covariances"], rtol=10 * rtol, atol=100 * rtol)
    if name != "float32":
        first, second = ("torch", "tf2") if name in ("full", "map", "gaps") else ("tf2", "torch")
        train(MAIN[first], RUNS[name], files[f"{prefix}far"], tmp_path / "half", steps=3)
        train(MAIN[second], f"--resume {tmp_path / 'half'}", None, tmp_path / "whole")
        digests = {checkpoint.digest(tmp_path / run / "checkpoint.safetensors") for run in ("torch", "tf2", "whole")}
        assert len(digests) == 1


@pytest.mark.figures
@pytest.mark.parametrize("main", MAIN.values(), ids=MAIN)
def test_scripts_in_chunks(
    tmp_path: Path, files: dict[str, Path], main, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(chunks, "NUMBERS_IN_A_CHUNK", 1024)
    monkeypatch.setattr(chunks, "ROWS_TO_START_FROM", 60)
    near, losses = train(main, RUNS["full"], files["near"], tmp_path / "run-near")
    with monkeypatch.context() as few:
        few.setattr(mixture_training, "ROWS_IN_A_FIGURE", 90)
        far, found = train(main, RUNS["full"], files["far"], tmp_path / "run-far")
        np.testing.assert_allclose(found, losses, rtol=1e-9)
        np.testing.assert_allclose(far["means_from_centre"] + (far["centre"] - SHIFT["float64"]), near["means"])
    capsys.readouterr()
    arguments = f"--data {files['far']} --components 3 --steps 2 --json --out {tmp_path / 'told'}"
    assert main(arguments.split()) == 0
    told = json.loads(capsys.readouterr().out)["means"]
    first = [float(number) for number in told.split(")")[0].strip("( ").split(", ")]
    assert np.all(np.abs(np.array(first) - SHIFT["float64"]) < 20), "a summary in the data's own coordinates"


@both
def test_scripts_name_the_remedy(Mixture: type, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    main = MAIN["torch" if Mixture is FRAMEWORKS["torch"] else "tf2"]
    x = np.random.default_rng(0).standard_normal((50, 1))
    for table, remedy in ((x + 2e16, "subtract the mean\n"), ((x + 2e7).astype("f4"), "subtract the mean, or use")):
        np.save(tmp_path / "x.npy", table)
        assert main(["--data", str(tmp_path / "x.npy"), "--out", str(tmp_path / "run")]) == 2
        told = capsys.readouterr().err
        assert remedy in told
        assert told.count("\n") == 1
        assert not (tmp_path / "run").exists()


@pytest.mark.long
@pytest.mark.parametrize("package", ["pytorch_impl", "tf2_impl"])
def test_two_workers_share_a_centre(tmp_path: Path, files: dict[str, Path], package: str) -> None:
    digests = set()
    arguments = f"--data {files['far']} --components 3 --steps 8 --tol 0 --precision reproducible --quiet"
    for workers in (1, 2):
        out = tmp_path / f"of-{workers}"
        launcher = [] if workers == 1 else ["-m", launch_workers.__name__, "2"]
        module = ["-m", f"{package}.train_gmm"] if workers == 1 else [f"{package}.train_gmm"]
        command = [sys.executable, *launcher, *module, *arguments.split(), "--out", str(out)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        digests.add(checkpoint.digest(out / "checkpoint.safetensors"))
    assert len(digests) == 1
