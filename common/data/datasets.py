"""Data sets by name, as NumPy arrays and what they are.

``load("old-faithful")``, ``load("airquality")`` (NaN where a value is missing), ``load("digits")``, ``load("fashion")``
(6,000 images of Fashion-MNIST), ``load("synthetic")``; the path of a file of your own: a text table, an array or images
(``common.data.files``); and ``load("mnist")``, ``"fashion-mnist"`` or ``"kmnist"``, which are downloaded once into the
user's cache, unless ``data_dir`` names a folder with their files. Nothing else comes from the network.
"""

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common import draws
from common.data import download
from common.data import files as data_files
from common.data.messages import nearest
from common.data.readers import read_csv

SHIPPED = Path(__file__).parent
SHA256 = {
    "old_faithful.csv": "2da9ef67231ab7542d2ec3e5a741a8d53ada92a24103195ce7d1f9b8e36a986d",
    "airquality.csv": "2c30fd88f946fb033340b1058465fcf791944d031d3f1c6d653515b7be5a74b3",
    "fashion.npz": "5de05f4efcbb2713f7dbeeb1ba7286288c73937220f24d8e0c5b9212aa3732cb",
}
NAMES = ("old-faithful", "airquality", "digits", "fashion", "synthetic", *download.SOURCES)
HELD_OUT_SHARE = 1 / 6
FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


@dataclass(frozen=True)
class Dataset:
    """A table ``x`` (N, D), its labels (N,) if it has any, and what its columns are.

    Where labels were text, ``label_names`` has them, and a label is a position in it.
    ``image_shape`` is (height, width) where a row is an image with values in [0, 1], else None.
    ``held_out`` is the part that the source itself sets aside for testing, else None.
    """

    name: str
    x: np.ndarray
    labels: np.ndarray | None = None
    feature_names: tuple[str, ...] = ()
    image_shape: tuple[int, int] | None = None
    held_out: "Dataset | None" = None
    label_names: tuple[str, ...] = ()

    def split(self) -> "tuple[Dataset, Dataset]":
        """Training part and held-out part: the source's own, or else one row in six, chosen by a fixed draw."""
        if self.held_out is not None:
            return self, self.held_out
        order = draws.permutation(0, "split", len(self.x))
        cut = len(order) - max(1, round(len(order) * HELD_OUT_SHARE))
        return self._rows(order[:cut]), self._rows(order[cut:])

    def _rows(self, rows: np.ndarray) -> "Dataset":
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, x=self.x[rows], labels=labels)


def load(
    name: str, data_dir: str | Path | None = None, label_column: str | None = None, pixel_max: float = 1.0,
    columns: str | None = None,
) -> Dataset:  # fmt: skip
    """The data set called ``name``: one of ``NAMES``, or the path of a file of your own, as in ``common.data.files``.

    ``data_dir`` holds the IDX files of mnist, fashion-mnist or kmnist. Of a file, ``label_column`` names the column
    that holds labels, not data (by its header, or by its number: 1 is the first, -1 the last), ``columns`` those that
    are data (names and numbers with commas between them, and ranges such as 2-5), and ``pixel_max`` is what a white
    pixel has: pixels are divided by it. Raises ValueError, in one line, for an unknown name and for a file that is
    missing, damaged or not a table.
    """
    if name in NAMES and (label_column is not None or columns is not None or pixel_max != 1):
        raise ValueError(f"data {name!r}: --label-column, --columns and --pixel-max apply to files only; "
                         "leave them out")  # fmt: skip
    if name == "old-faithful":
        return Dataset(
            name, read_csv(_shipped("old_faithful.csv"))[0], feature_names=("eruption (minutes)", "waiting (minutes)")
        )
    if name == "airquality":
        features = ("ozone (ppb)", "solar radiation (langleys)", "wind (mph)", "temperature (°F)")
        x = read_csv(_shipped("airquality.csv"))[0][:, :4]  # without month and day
        return Dataset(name, x, feature_names=features)
    if name == "digits":
        return _digits()
    if name == "fashion":
        return _fashion()
    if name == "synthetic":
        return synthetic_mixture()
    if name in download.SOURCES:
        return _parts(name, data_files.image_folder(download.fetch(name) if data_dir is None else Path(data_dir), name))
    content = data_files.read(name, label_column, columns, pixel_max)
    if content is None:
        raise ValueError(
            f"data {name!r} is unknown: use {', '.join(NAMES)}, or the path of a .csv or .npy file"
            + nearest(name, NAMES)
        )
    if isinstance(content, list):
        return _parts(name, content)
    x = content.x
    side = math.isqrt(x.shape[1])
    is_images = side > 1 and side * side == x.shape[1] and x[0].min() >= 0 and x[0].max() <= 1
    shape = content.image_shape or ((side, side) if is_images else None)
    return Dataset(name, x, content.labels, content.header, shape, label_names=content.label_names)


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


def _shipped(file_name: str) -> Path:
    path = SHIPPED / file_name
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256[path.name]:
        raise ValueError(f"{path}: the SHA-256 is not the published one; restore the file from the repository")
    return path


def _digits() -> Dataset:
    from sklearn.datasets import load_digits  # takes a second to import, and only this data set needs it

    bunch = load_digits()
    return Dataset("digits", bunch.data / 16.0, bunch.target, image_shape=(8, 8))


def _fashion() -> Dataset:
    """Training and held-out images, from Fashion-MNIST's training and test set; `data/README.md` says which."""
    with np.load(_shipped("fashion.npz"), allow_pickle=False) as file:
        test, train = (
            Dataset("fashion", np.reshape(file[x], (-1, 28 * 28)) / np.float32(255), file[y].astype(np.int64), (),
                    (28, 28), label_names=FASHION) for x, y in (("x_test", "y_test"), ("x_train", "y_train"))
        )  # fmt: skip
    return replace(train, held_out=test)


def _parts(name: str, parts: list[tuple[np.ndarray, np.ndarray | None]]) -> Dataset:
    # Images (N, H, W) in [0, 1] with their labels: those to train on, and those held out if the source says which.
    images, labels = parts[0]
    rest = _parts(name, parts[1:]) if parts[1:] else None
    names = FASHION if name == "fashion-mnist" else ()
    return Dataset(name, images.reshape(len(images), -1), labels, (), images.shape[1:], rest, names)
