"""The NumPy layer: data as published, checkpoints, distances, rounding."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from scipy import stats
from sklearn.datasets import load_digits

from common import draws
from common.data import datasets, download, readers
from common.data import files as data_files
from common.mixtures.parameters import COVARIANCE_TYPES, VariationalPosterior
from common.parity import difference, ulp_distance, ulp_histogram
from common.runs import checkpoint
from common.runs.rounding import round_mixture, round_posterior
from parity_tests.conftest import Parity, idx
from parity_tests.support.problems import as_full, of_kind
from parity_tests.support.scripts import written

WHOLE_FASHION = "/usr/share/datasets/fashion-mnist"  # of Debian's package


# Each column's least value, quartiles and largest value, as R's summary() prints them, what is missing, and a sum of
# all values and of their squares, each times its place in the table, which no changed or moved value leaves as it is.
PUBLISHED = {
    "old-faithful": ([[1.6, 2.163, 4, 4.454, 5.1], [43, 58, 76, 82, 96]], [0, 0], 5529111.875, 388876452.514233),
    "airquality": (
        [[1, 18, 31.5, 63.25, 168], [7, 115.75, 205, 258.75, 334], [1.7, 7.4, 9.7, 11.5, 20.7], [56, 72, 79, 85, 97]],
        [37, 7, 0, 0],
        14152159.1,
        2230057821.17,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_tables_are_the_published_ones(name: str) -> None:
    quartiles, missing, total, total_of_squares = PUBLISHED[name]
    data = datasets.load(name)
    x, units = data.x, {"old-faithful": "eruption waiting", "airquality": "ozone solar wind temperature"}[name]
    assert [feature.split()[0] for feature in data.feature_names] == units.split()
    np.testing.assert_allclose(np.nanquantile(x, [0, 0.25, 0.5, 0.75, 1], axis=0).T, quartiles, atol=5.1e-4)
    np.testing.assert_array_equal(np.isnan(x).sum(axis=0), missing)
    place = np.arange(1.0, x.size + 1).reshape(x.shape)
    assert (np.nansum(x * place), np.nansum(x**2 * place)) == pytest.approx((total, total_of_squares), rel=1e-13)


def test_a_changed_table_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(datasets.SHA256, "old_faithful.csv", "0" * 64)
    with pytest.raises(ValueError, match="SHA-256 is not the published one"):
        datasets.load("old-faithful")


def test_digits_are_the_published_images_and_keep_their_labels() -> None:
    """By the sum of scikit-learn's bytes; each part of a split is rows of the whole, with the labels of these rows."""
    bunch, data = load_digits(), datasets.load("digits")
    published = "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"
    assert hashlib.sha256((16 * data.x).astype(np.uint8).tobytes()).hexdigest() == published
    np.testing.assert_array_equal(data.labels, bunch.target)
    assert (data.image_shape, datasets.binarize(data.x).mean()) == ((8, 8), pytest.approx(0.29291, abs=1e-5))
    np.testing.assert_array_equal(datasets.binarize(np.array([0, 0.5, 0.5001, 1])), [0, 0, 1, 1])
    label_of = dict(zip(map(bytes, bunch.data.astype(np.uint8)), bunch.target, strict=True))
    train, held_out = data.split()
    assert (len(train.x), len(held_out.x)) == (1497, 300)
    for part in (train, held_out):
        assert [label_of.pop(bytes(row)) for row in (16 * part.x).astype(np.uint8)] == part.labels.tolist()
    assert not label_of, "every image is in one part, and no two are equal"
    order = draws.permutation(0, "split", 1797)  # as in every published run
    np.testing.assert_array_equal(held_out.x, data.x[order[-300:]])
    few = datasets.Dataset("few", np.arange(8.0).reshape(4, 2)).split()
    assert [len(part.x) for part in few] == [3, 1]


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
    # as the data set's own page names its classes; whose mean image is nearest tells two of three images that were not
    # among those averaged
    names = ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot"]
    assert train.label_names == held_out.label_names == tuple(name.replace("_", " ") for name in names)
    centres = np.stack([train.x[train.labels == k].mean(axis=0) for k in range(10)])
    nearest = np.square(held_out.x[:, None] - centres).sum(axis=2).argmin(axis=1)
    assert np.mean(nearest == held_out.labels) > 0.6
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
    whole = datasets.load("fashion-mnist", tmp_path)
    assert whole.label_names == whole.held_out.label_names == datasets.load("fashion").label_names
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
    for file in download.SOURCES["fashion-mnist"].files[1:]:  # the first is large
        assert download.fault(Path(WHOLE_FASHION) / file.name, file) is None


def test_a_synthetic_mixture_is_what_it_says() -> None:
    """Equal shares, and by their labels the means and covariances that the draws name, to 5 errors; in 3 dimensions."""
    n, k, d, separation = 30_000, 3, 3, 8.0
    data = datasets.synthetic_mixture(n, k, d, separation, seed=4)
    assert stats.chisquare(np.bincount(data.labels)).pvalue > 1e-3
    means = separation / np.sqrt(2) * draws.normals(4, "component", (k, d))
    a = np.eye(d) + 0.3 * draws.normals(4, "component", (k, d, d), step=1)
    for j in range(k):
        points = data.x[data.labels == j]
        z = np.linalg.solve(a[j], (points - means[j]).T)  # standard normal, if the labels are right
        assert np.abs(z.mean(axis=1)).max() < 5 / np.sqrt(len(points))
        assert np.abs(np.cov(z) - np.eye(d)).max() < 5 * np.sqrt(2 / len(points))
        assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    apart = datasets.synthetic_mixture(600, 40, 2, 4.0, seed=0)  # the default separation, over many means
    means = np.stack([apart.x[apart.labels == j].mean(axis=0) for j in range(40)])
    assert np.sqrt(np.square(means[:, None] - means).sum() / 2 / 40 / 39) == pytest.approx(4.0, rel=0.2)
    assert (data.feature_names, data.name) == (("x1", "x2", "x3"), "synthetic")
    np.testing.assert_array_equal(datasets.load("synthetic").x, datasets.synthetic_mixture(600, 3, 2, 4.0, seed=0).x)


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
    with pytest.raises(ValueError, match="channels = 3 where this run has None"):
        checkpoint.check_architecture(path, {"hidden_dim": 5, "channels": 3}, {"hidden_dim": 5})


def test_a_checkpoint_by_another_hand_is_read_or_refused_with_the_reason(tmp_path: Path) -> None:
    """A header as long as is allowed, no updates yet, one tensor; and each thing that no run writes."""
    path, one = tmp_path / "c.safetensors", {"a": np.float32([1])}

    def put(arrays: dict[str, np.ndarray], step: np.ndarray, architecture: object = None) -> None:
        kept = architecture if architecture is not None else {}
        about = {"architecture": kept, "sha256": checkpoint.checksum(arrays, int(step.flat[0]), kept)}
        path.write_bytes(save(arrays | {"step": step}, {"about": json.dumps(about)}))

    put(one, np.array(0))
    assert checkpoint.load(path)[1:] == (0, {})
    for arrays, step, architecture, problem in (
        (one, np.array(-1), {}, "its step is not a count"),
        (one, np.array([1]), {}, "its step is not a count"),
        (one, np.array(1), [], "its architecture not an object"),
        (one, np.array(1.0), {}, "it holds tensors of"),
        ({}, np.array(1), {}, "it holds tensors of"),
        (one | {"b": np.array([1])}, np.array(1), {}, "it holds tensors of"),
        ({"a": np.array([1, np.inf])}, np.array(1), {}, "'a' holds NaN or infinity"),
    ):
        put(arrays, step, architecture)
        with pytest.raises(ValueError, match=problem):
            checkpoint.load(path)
    for length, is_long in ((2**20, False), (2**20 + 1, True)):
        path.write_bytes(length.to_bytes(8, "little") + b"{}")
        with pytest.raises(ValueError, match="not a whole checkpoint") as error:
            checkpoint.load(path)
        assert ("it announces a header of more than 1,048,576 bytes" in str(error.value)) == is_long


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
    assert difference(a, b) == (2**-52, 2**-54, pytest.approx(2**-52 / np.sqrt(21), abs=0), 1, 0.5)
    assert ulp_histogram(a, b) == [3, 1]
    far = np.array([1.0, 1 + 7 * 2**-52, 1 + 8 * 2**-52])
    assert ulp_histogram(np.ones(3), far) == [1, 0, 0, 1, 1]
    assert difference(a * 2.0**-600, b * 2.0**-600).l2 == difference(a, b).l2
    np.testing.assert_array_equal(ulp_distance(np.array([-5e-324]), np.array([5e-324])), [2])
    assert difference(np.float32([1]), np.nextafter(np.float32([1]), np.float32(2))).max_ulp == 1
    assert difference(np.zeros(0), np.zeros(0)) == (0, 0, 0, 0, 1)
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


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_grids_are_as_fine_as_they_say(kind: str) -> None:
    """Means to 2^-24 of the power of two at or below a deviation, covariances of two, weights to 2^-30; no coarser."""
    k, d = 40, 3
    a = draws.normals(1, "sample", (k, d, d)) * np.array([1e-3, 1.0, 7e4])[:, None] + np.diag([1e-3, 1.0, 7e4])
    full = a @ np.swapaxes(a, 1, 2)
    full[1] = np.diag([4.0, np.nextafter(4.0, 0), 0.25])  # deviations of 2, of less, and of 1/2
    covariances = of_kind(kind, full)
    variances = np.diagonal(as_full(covariances, kind, k, d), axis1=1, axis2=2)  # (K, D)
    power = 2.0 ** np.floor(np.log2(np.sqrt(variances.astype(np.float32).astype(float))))  # (K, D)
    means = draws.normals(1, "sample", (k, d), 1) * 100 * power
    weights = draws.uniforms(1, "sample", (k,)) + 0.1
    weights, counts = weights / weights.sum(), 1e4 * draws.uniforms(1, "sample", (3, k), 1)
    rounded = round_mixture(weights, means, covariances, kind)
    on_grid(rounded[1], means, 2.0**-24 * power)
    others = np.arange(k) != weights.argmax()
    on_grid(rounded[0][others], weights[others], 2.0**-30)
    assert rounded[0].sum() == 1
    if kind in ("full", "tied"):
        products = power[:, :, None] * power[:, None]  # (K, D, D)
        on_grid(rounded[2], covariances, 2.0**-24 * (products if kind == "full" else products[0]))
    else:
        np.testing.assert_array_equal(rounded[2], covariances.astype(np.float32))
    posterior = round_posterior(VariationalPosterior(counts[0], counts[1], means, counts[2], covariances), kind)
    for found, count in zip((posterior[0], posterior[1], posterior[3]), counts, strict=True):
        np.testing.assert_array_equal(found, count.astype(np.float32))
    np.testing.assert_array_equal(posterior.means, rounded[1])
    np.testing.assert_array_equal(posterior.covariances, rounded[2])
    assert round_mixture(np.eye(k)[0], means, covariances, kind)[0][1] == 2.0**-30  # none is quite zero


def on_grid(rounded: np.ndarray, exact: np.ndarray, grid: np.ndarray | float) -> None:
    steps = rounded / grid
    np.testing.assert_array_equal(steps, np.round(steps))
    assert np.all(np.abs(rounded - exact) <= 0.5000001 * np.asarray(grid))
    assert np.any(steps % 2), "twice the grid would do as well"


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
