"""The NumPy layer: data as published, draws by place, checkpoints, distances, rounding."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from common import draws
from common.data import datasets, readers
from common.data import files as data_files
from common.parity import difference, ulp_distance, ulp_histogram
from common.runs import checkpoint
from common.runs.rounding import round_mixture
from parity_tests.conftest import Parity, idx
from parity_tests.support.scripts import written

WHOLE_FASHION = "/usr/share/datasets/fashion-mnist"  # of Debian's package


def test_old_faithful_is_the_published_table() -> None:
    data = datasets.load("old-faithful")
    assert data.x.shape == (272, 2)
    np.testing.assert_allclose(data.x.sum(axis=0), [948.677, 19284], rtol=1e-12)
    np.testing.assert_array_equal(data.x[:2], [[3.6, 79], [1.8, 54]])
    np.testing.assert_allclose(np.cov(data.x.T), [[1.302728, 13.977808], [13.977808, 184.823312]], rtol=1e-6)


def test_a_changed_table_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(datasets.SHA256, "old_faithful.csv", "0" * 64)
    with pytest.raises(ValueError, match="SHA-256 is not the published one"):
        datasets.load("old-faithful")


def test_digits_are_the_published_images() -> None:
    data = datasets.load("digits")
    assert data.x.shape == (1797, 64)
    assert data.image_shape == (8, 8)
    assert 16 * data.x.mean() == pytest.approx(4.884165, abs=1e-6)
    np.testing.assert_array_equal(np.bincount(data.labels), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
    assert datasets.binarize(data.x).mean() == pytest.approx(0.29291, abs=1e-5)
    train, held_out = data.split()
    assert (len(train.x), len(held_out.x)) == (1497, 300)
    together = np.concatenate([train.x, held_out.x])
    np.testing.assert_array_equal(together[np.lexsort(together.T)], data.x[np.lexsort(data.x.T)])


def test_fashion_is_a_balanced_part_of_the_published_images() -> None:
    """Class counts, sums, and the first images: rows of pixels and labels as the whole data set has them."""
    data = datasets.load("fashion")
    train, held_out = data.split()
    assert (train.x.shape, held_out.x.shape) == ((5000, 784), (1000, 784))
    assert train.image_shape == held_out.image_shape == (28, 28)
    np.testing.assert_array_equal(np.bincount(train.labels), [500] * 10)
    np.testing.assert_array_equal(np.bincount(held_out.labels), [100] * 10)
    grey = np.rint(255 * train.x.astype(np.float64)).astype(int)
    np.testing.assert_array_equal(train.x, grey.astype(np.float32) / np.float32(255))
    assert (grey.min(), grey.max()) == (0, 255)
    assert [*train.labels[:8], *held_out.labels[:8]] == [9, 0, 0, 3, 0, 2, 7, 2, 9, 2, 1, 1, 6, 1, 4, 6]
    boot = "0 0 1 4 6 7 2 0 0 0 0 0 237 226 217 223 222 219 222 221 216 223 229 215 218 255 77 0"
    np.testing.assert_array_equal(grey[0].reshape(28, 28)[14], np.array(boot.split(), dtype=int))
    # the whole training set has a mean of 0.2860 and a deviation of 0.3530; this twelfth of it is close by
    assert train.x.mean(dtype=np.float64) == pytest.approx(0.2860, abs=3e-3)
    assert train.x.std(dtype=np.float64) == pytest.approx(0.3530, abs=3e-3)


def test_fashion_is_small_and_can_be_made_again(tmp_path: Path) -> None:
    """From a data set that has more images of each class, behind them."""
    file = datasets.SHIPPED / "fashion.npz"
    assert file.stat().st_size < 3_000_000
    assert hashlib.sha256(file.read_bytes()).hexdigest() == datasets.SHA256["fashion.npz"]
    with np.load(file) as arrays:
        shipped = dict(arrays)
    for part, names in data_files.IDX_FILES.items():
        for array, name in zip((shipped[f"x_{part}"], shipped[f"y_{part}"]), names, strict=True):
            (tmp_path / name).write_bytes(idx(np.concatenate([array, array[:100]])))
    assert datasets.main([str(tmp_path), str(tmp_path / "made" / "fashion.npz")]) == 0
    with np.load(tmp_path / "made" / "fashion.npz") as made:
        assert shipped.keys() == set(made)
        for name, array in shipped.items():
            np.testing.assert_array_equal(made[name], array)
    assert datasets.main([str(tmp_path / "made"), str(tmp_path / "none.npz")]) == 2


@pytest.mark.skipif(not Path(WHOLE_FASHION).is_dir(), reason="apt-get install dataset-fashion-mnist")
def test_fashion_is_what_it_says_of_the_whole_data_set() -> None:
    with np.load(datasets.SHIPPED / "fashion.npz") as shipped:
        for name, array in datasets.fashion_subset(WHOLE_FASHION).items():
            np.testing.assert_array_equal(array, shipped[name])


def test_synthetic_mixtures_are_what_they_say() -> None:
    data = datasets.synthetic_mixture(5000, 3, 2, 8.0, seed=4)
    assert data.x.shape == (5000, 2)
    np.testing.assert_array_equal(data.x, datasets.synthetic_mixture(5000, 3, 2, 8.0, seed=4).x)
    np.testing.assert_allclose(np.bincount(data.labels) / 5000, 1 / 3, atol=0.03)


def test_arrays_that_are_no_tables(tmp_path: Path) -> None:
    for array in (np.zeros(3), np.zeros((2, 2), complex), np.array([["a", "b"]])):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(ValueError, match="a table of real numbers"):
            datasets.load(str(tmp_path / "a.npy"))
    np.save(tmp_path / "o.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read as"):
        datasets.load(str(tmp_path / "o.npy"))


def test_unknown_and_missing_data(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data='old-faithfull' is unknown: use old-faithful, "):
        datasets.load("old-faithfull")
    with pytest.raises(ValueError, match="there is no such file"):
        datasets.load(str(tmp_path / "none.csv"))
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\[.gz\] is missing.*data_dir"):
        datasets.load("mnist", tmp_path)
    cut = written(tmp_path / "cut", bytes([0, 0, 8, 1]) + np.array([10], ">u4").tobytes() + b"123")
    with pytest.raises(ValueError, match=r"holds 3 bytes where \[10\] were announced"):
        readers.read_idx(cut)


def test_draws_are_placed() -> None:
    whole = draws.normals(3, "noise", (20, 7), step=5)
    np.testing.assert_array_equal(whole[12:], draws.normals(3, "noise", (8, 7), step=5, first_row=12))
    for other in ({"seed": 4}, {"step": 6}, {"purpose": "prior"}):
        arguments = {"seed": 3, "purpose": "noise", "shape": (20, 7), "step": 5} | other
        assert not np.any(draws.normals(**arguments) == whole)


def test_draws_have_their_distributions() -> None:
    u, z = draws.uniforms(0, "sample", (50_000,)), draws.normals(0, "sample", (50_000,), step=1)
    assert 0 < u.min() < u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    assert stats.kstest(z, "norm").pvalue > 1e-3
    np.testing.assert_array_equal(z, z.astype(np.float32))


def test_an_epoch_visits_every_row_once() -> None:
    batches = [draws.minibatch(1, step, 1000, 128) for step in range(16)]
    assert [len(b) for b in batches] == ([128] * 7 + [104]) * 2
    np.testing.assert_array_equal(np.sort(np.concatenate(batches[:8])), np.arange(1000))
    assert not np.array_equal(batches[0], batches[8])


def test_initial_values_follow_glorot() -> None:
    shapes = {"a.weight": (300, 200), "b.weight": (16, 8, 3, 3), "a.bias": (300,)}
    values = draws.initial_values(0, shapes)
    for name, fans in (("a.weight", 500), ("b.weight", (16 + 8) * 9)):
        bound = np.sqrt(6 / fans)
        assert np.abs(values[name]).max() <= bound
        assert values[name].std() == pytest.approx(bound / np.sqrt(3), rel=0.05)
        np.testing.assert_array_equal(values[name], values[name].astype(np.float32))
    assert not np.any(values["a.bias"])


def test_a_checkpoint_comes_back_and_its_bytes_depend_on_its_content_alone(tmp_path: Path) -> None:
    arrays = {"b": np.arange(6.0).reshape(2, 3).T, "a": np.float32([1, 2]), "scalar": np.array(0.5)}
    digests = set()
    for repeat in range(8):
        names = sorted(arrays, reverse=repeat % 2 == 0)
        path = tmp_path / f"{repeat}.safetensors"
        checkpoint.save(path, {name: arrays[name] for name in names}, 7, {"model": "gmm", "components": 2})
        digests.add(checkpoint.digest(path))
    assert len(digests) == 1
    read, step, architecture = checkpoint.load(path)
    assert (step, architecture) == (7, {"model": "gmm", "components": 2})
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"a": np.zeros(10)}, 1, {"L": 1})
    whole = path.read_bytes()
    flipped = [bytearray(whole) for _ in range(8 * len(whole))]  # one bit each, wherever it is
    for i, content in enumerate(flipped):
        content[i // 8] ^= 1 << i % 8
    for content in (b"", whole[:20], whole[:-1], b"\xff" * 50, *flipped):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a whole checkpoint") as error:
            checkpoint.load(path)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="not a whole checkpoint"):
        checkpoint.load(tmp_path / "none")
    with pytest.raises(ValueError, match="hidden_dim = 4 where this run has 5"):
        checkpoint.check_architecture(path, {"hidden_dim": 4}, {"hidden_dim": 5})


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"a": np.zeros(3)}, 1, {})
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ValueError, match="No space left on device"):
        checkpoint.save(path, {"a": np.ones(3)}, 2, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_differences_are_counted() -> None:
    a = np.array([1.0, -2.0, 0.0, 4.0])
    b = np.array([1.0, np.nextafter(-2.0, 0), -0.0, 4.0])
    assert difference(a, b) == (2**-52, 2**-54, pytest.approx(2**-52 / np.sqrt(21)), 1, 0.5)
    assert ulp_histogram(a, b) == [3, 1]
    far = np.array([1.0, 1 + 7 * 2**-52, 1 + 8 * 2**-52])
    assert ulp_histogram(np.ones(3), far) == [1, 0, 0, 1, 1]
    assert difference(a * 1e-200, b * 1e-200).l2 == pytest.approx(2**-52 / np.sqrt(21), rel=0.1)
    np.testing.assert_array_equal(ulp_distance(np.array([-5e-324]), np.array([5e-324])), [2])
    assert difference(np.float32([1]), np.nextafter(np.float32([1]), np.float32(2))).max_ulp == 1
    assert difference(np.zeros(0), np.zeros(0)).bit_equal == 1
    for bad in (np.array([np.nan]), np.array([np.inf])):
        with pytest.raises(ValueError, match="not finite"):
            difference(np.ones(1), bad)
        with pytest.raises(ValueError, match="not finite"):
            difference(bad, bad)
    with pytest.raises(ValueError, match="compare like with like"):
        difference(np.ones(2), np.ones(2, np.float32))
    with pytest.raises(ValueError, match="compare like with like"):
        difference(np.ones(2), np.ones((2, 1)))


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_rounding_hides_noise_and_keeps_the_mixture(kind: str) -> None:
    k, d = 3, 4
    scales = np.array([1e-6, 1.0, 30.0, 1e5])
    a = draws.normals(0, "sample", (k, d, d)) * 0.4 + np.eye(d)
    full = (a @ np.swapaxes(a, 1, 2)) * np.outer(scales, scales)
    full[:, 0, 1] = full[:, 1, 0] = 0.0  # a covariance that cancels exactly
    shapes = {"full": full, "tied": full[0], "diag": np.diagonal(full, axis1=1, axis2=2), "spherical": full[:, 1, 1]}
    covariances = shapes[kind]
    means, weights = np.sqrt(2) * draws.normals(0, "sample", (k, d), 1) * scales, np.array([0.5, 0.3, 0.2])
    unit = np.broadcast_to(1.0 if kind == "spherical" else scales, (d,))
    rounded = round_mixture(weights, means, covariances, kind)
    for seed in range(20):
        noise = [
            1e-15 * draws.normals(seed, "noise", np.shape(v), i) for i, v in enumerate((weights, means, covariances))
        ]
        moved = covariances * (1 + noise[2])
        if kind in ("full", "tied"):
            moved = covariances + noise[2] * np.outer(scales, scales) * 0.1
        other = round_mixture(weights + noise[0] * 0.1, means + noise[1] * unit, moved, kind)
        for one, two in zip(rounded, other, strict=True):
            assert one.tobytes() == two.tobytes()
    assert rounded[0].sum() == 1.0
    np.testing.assert_allclose(rounded[1] / unit, means / unit, atol=3e-7)
    spread = np.outer(scales, scales) if kind in ("full", "tied") else covariances
    np.testing.assert_allclose(rounded[2] / spread, covariances / spread, atol=3e-7)
    for one, two in zip(rounded, round_mixture(*rounded, kind), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-7, atol=0)


def test_the_report_is_json() -> None:
    """What make parity leaves behind: the documented keys, for whoever reads it by machine."""
    rows: list[tuple[str, dict]] = []
    Parity("report", rows).check("one", "loss", np.ones(2), np.ones(2), "tensor")
    ((_, row),) = json.loads(json.dumps(rows))
    assert list(row) == [
        *("chapter", "quantity", "tensor", "shape", "dtype", "mode", "steps", "measure"),
        *("max_abs", "nmax", "l2", "max_ulp", "bit_equal", "ulp_histogram", "noise_floor_ratio"),
        *("tolerance", "headroom", "passed"),
    ]
