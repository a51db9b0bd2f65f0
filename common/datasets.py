"""Data sets by name, as NumPy arrays and what they are. Nothing is downloaded.

``load("old-faithful")``, ``load("airquality")`` (NaN where a value is missing), ``load("digits")``,
``load("synthetic")``, ``load("path/to/table.csv")``, ``load("path/to/array.npy")``; and
``load("mnist", data_dir=...)`` or ``"fashion-mnist"`` for a folder of IDX files.
"""

import csv
import gzip
import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common import draws

SHIPPED = Path(__file__).parent / "data"
SHA256 = {
    "old_faithful.csv": "2da9ef67231ab7542d2ec3e5a741a8d53ada92a24103195ce7d1f9b8e36a986d",
    "airquality.csv": "2c30fd88f946fb033340b1058465fcf791944d031d3f1c6d653515b7be5a74b3",
}
NAMES = ("old-faithful", "airquality", "digits", "synthetic", "mnist", "fashion-mnist")
IDX_FILES = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
             "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}  # fmt: skip
HELD_OUT_SHARE = 1 / 6


@dataclass(frozen=True)
class Dataset:
    """A table ``x`` (N, D), its labels (N,) if it has any, and what its columns are.

    ``image_shape`` is (height, width) where a row is an image with values in [0, 1], else None.
    ``held_out`` is the part that the source itself sets aside for testing, else None.
    """

    name: str
    x: np.ndarray
    labels: np.ndarray | None = None
    feature_names: tuple[str, ...] = ()
    image_shape: tuple[int, int] | None = None
    held_out: "Dataset | None" = None

    def split(self) -> "tuple[Dataset, Dataset]":
        """Training part and held-out part: the source's own, or else one row in six, chosen by a fixed draw."""
        if self.held_out is not None:
            return self, self.held_out
        order = draws.permutation(0, "split", len(self.x))
        cut = len(order) - max(1, round(len(order) * HELD_OUT_SHARE))
        return self._rows(order[:cut]), self._rows(order[cut:])

    def _rows(self, rows: np.ndarray) -> "Dataset":
        labels = None if self.labels is None else self.labels[rows]
        return Dataset(self.name, self.x[rows], labels, self.feature_names, self.image_shape)


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """The data set called ``name``: one of ``NAMES``, or the path of a .csv or .npy file of numbers (N, D).

    Raises ValueError, in one line, for an unknown name and for a file that is missing, damaged or not a table.
    """
    if name == "old-faithful":
        return Dataset(name, _shipped("old_faithful.csv"), feature_names=("eruption (minutes)", "waiting (minutes)"))
    if name == "airquality":
        features = ("ozone (ppb)", "solar radiation (langleys)", "wind (mph)", "temperature (°F)")
        return Dataset(name, _shipped("airquality.csv")[:, :4], feature_names=features)  # without month and day
    if name == "digits":
        return _digits()
    if name == "synthetic":
        return synthetic_mixture()
    if name in ("mnist", "fashion-mnist"):
        return _idx_folder(name, data_dir)
    readers = {".csv": read_csv, ".npy": read_npy}
    if (suffix := Path(name).suffix) not in readers:
        raise ValueError(f"data {name!r} is unknown: use {', '.join(NAMES)}, or the path of a .csv or .npy file")
    if not Path(name).is_file():
        raise ValueError(f"data {name!r}: there is no such file; give the path of a .csv or .npy file")
    x, feature_names = readers[suffix](Path(name))
    side = math.isqrt(x.shape[1])
    is_images = side > 1 and side * side == x.shape[1] and x.size > 0 and x[0].min() >= 0 and x[0].max() <= 1
    return Dataset(name, x, feature_names=feature_names, image_shape=(side, side) if is_images else None)


def binarize(x: np.ndarray) -> np.ndarray:
    """Pixels as outcomes of a coin: 1 where x > 1/2, else 0. A Bernoulli likelihood is a probability only of these."""
    return (x > 0.5).astype(x.dtype)


def synthetic_mixture(
    n: int = 600, components: int = 3, dimensions: int = 2, separation: float = 4.0, seed: int = 0
) -> Dataset:
    """n points from a mixture of Gaussians with equal weights; the component that drew a point is its label.

    mu_k ~ N(0, separation² / 2 · I), Sigma_k = A_k A_k' with A_k = I + 0.3 G_k and G_k standard normal, so that
    the components are tilted, and ``separation`` is the typical distance of two means per axis in units of their
    standard deviation.
    """
    means = draws.normals(seed, "component", (components, dimensions)) * separation / math.sqrt(2)
    factors = np.eye(dimensions) + 0.3 * draws.normals(seed, "component", (components, dimensions, dimensions), step=1)
    labels = np.floor(draws.uniforms(seed, "component", (n,), step=2) * components).astype(np.int64)
    noise = draws.normals(seed, "sample", (n, dimensions))
    x = means[labels] + np.einsum("nij,nj->ni", factors[labels], noise)
    return Dataset("synthetic", x, labels, tuple(f"x{i + 1}" for i in range(dimensions)))


def read_csv(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """A comma-separated table of numbers, with or without a header line; empty cells and NA become NaN."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [(number, cells) for number, cells in enumerate(csv.reader(file), start=1) if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as CSV ({error}); give a UTF-8 text table of numbers") from error
    header: tuple[str, ...] = ()
    if lines and not any(_is_number(cell) for cell in lines[0][1]):
        header = tuple(cell.strip() for cell in lines.pop(0)[1])
    if not lines:
        raise ValueError(f"{path}: holds no rows of numbers; give a table with at least one row")
    width = len(header) or len(lines[0][1])
    for number, cells in lines:
        if len(cells) != width:
            raise ValueError(f"{path}: line {number} has {len(cells)} columns, not {width}; is the file cut short?")
        for column, cell in enumerate(cells, start=1):
            if not _is_number(cell):
                raise ValueError(f"{path}: line {number}, column {column} is {cell!r}; only numbers, NA or empty")
    table = [[float(cell) if cell.strip() not in ("", "NA") else math.nan for cell in cells] for _, cells in lines]
    return np.array(table), header


def read_npy(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """A two-dimensional array of numbers, mapped from the file rather than read; never a pickle."""
    try:
        x = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: cannot be read as .npy ({error}); write it with numpy.save") from error
    if not isinstance(x, np.ndarray) or x.ndim != 2 or x.dtype.kind not in "fiub":
        what = f"shape {x.shape}, dtype {x.dtype}" if isinstance(x, np.ndarray) else "an archive"
        raise ValueError(f"{path}: holds {what}; a table of real numbers (N, D) is needed")
    if x.size == 0:
        raise ValueError(f"{path}: holds a table of shape {x.shape}; give at least one row and one column")
    return x if x.dtype.kind == "f" else x.astype(np.float64), ()


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of bytes (MNIST's format), plain or gzipped: magic 0 0 8 d, d sizes, then the bytes."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != b"\0\0\x08":
                raise ValueError(f"{path}: starts with {magic.hex()}, which is not an IDX file of bytes")
            sizes = np.frombuffer(file.read(4 * magic[3]), ">u4").astype(int).tolist()
            content = file.read(math.prod(sizes) + 1)
    except (OSError, EOFError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); fetch the file again") from error
    if len(sizes) != magic[3] or len(content) != math.prod(sizes):
        raise ValueError(f"{path}: holds {len(content)} bytes where {sizes} were announced; fetch the file again")
    return np.frombuffer(content, np.uint8).reshape(sizes)


def _shipped(file_name: str) -> np.ndarray:
    path = SHIPPED / file_name
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256[path.name]:
        raise ValueError(f"{path}: the SHA-256 is not the published one; restore the file from the repository")
    return read_csv(path)[0]


def _digits() -> Dataset:
    from sklearn.datasets import load_digits  # takes a second to import, and only this data set needs it

    bunch = load_digits()
    return Dataset("digits", bunch.data / 16.0, bunch.target, image_shape=(8, 8))


def _idx_folder(name: str, data_dir: str | Path | None) -> Dataset:
    folder = Path(data_dir) if data_dir else Path("data") / name

    def part(files: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
        found = [next((p for p in (folder / f, folder / f"{f}.gz") if p.is_file()), None) for f in files]
        if None in found:
            missing = files[found.index(None)]
            raise ValueError(f"data {name!r}: {folder / missing}[.gz] is missing; put the four IDX files of "
                             f"{name} into a folder and name it by --data-dir")  # fmt: skip
        images, labels = (read_idx(path) for path in found)
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise ValueError(f"{folder}: images {images.shape} and labels {labels.shape} do not belong together")
        return images, labels.astype(np.int64)

    def dataset(images: np.ndarray, labels: np.ndarray, held_out: Dataset | None = None) -> Dataset:
        x = images.reshape(len(images), -1) / np.float32(255)
        return Dataset(name, x, labels, image_shape=images.shape[1:], held_out=held_out)

    return dataset(*part(IDX_FILES["train"]), held_out=dataset(*part(IDX_FILES["test"])))


def _is_number(cell: str) -> bool:
    if cell.strip() in ("", "NA"):
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return True
