"""Data sets by name, as NumPy arrays and what they are.

``load("old-faithful")``, ``load("airquality")`` (NaN where a value is missing), ``load("digits")``,
``load("fashion")`` (6,000 images of Fashion-MNIST), ``load("synthetic")``; the path of a file of your own: a
text table, an array or images (``common.data.files``); and ``load("mnist")``, ``"fashion-mnist"`` or
``"kmnist"``, which are downloaded once into the user's cache, unless ``data_dir`` names a folder with their
files. Nothing else comes from the network.
"""

import hashlib
import math
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from common import draws
from common.data import download, files
from common.data.files import Dataset
from common.data.messages import InputError, nearest, require
from common.data.readers import read_text_table
from common.runs.terminal import command

SHIPPED = Path(__file__).parent
SHA256 = {
    "old_faithful.csv": "2da9ef67231ab7542d2ec3e5a741a8d53ada92a24103195ce7d1f9b8e36a986d",
    "airquality.csv": "2c30fd88f946fb033340b1058465fcf791944d031d3f1c6d653515b7be5a74b3",
    "fashion.npz": "5de05f4efcbb2713f7dbeeb1ba7286288c73937220f24d8e0c5b9212aa3732cb",
}
NAMES = ("old-faithful", "airquality", "digits", "fashion", "synthetic", *download.SOURCES)
FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def load(
    name: str,
    data_dir: str | Path | None = None,
    label_column: str | None = None,
    pixel_max: float = 1.0,
    columns: str | None = None,
) -> Dataset:
    """Return the data set called ``name``: one of ``NAMES``, or the path of a file of your own.

    ``data_dir`` holds the IDX files of mnist, fashion-mnist or kmnist. Of a file, ``label_column`` names the
    column that holds labels, not data (by its header, or by its number: 1 is the first, -1 the last),
    ``columns`` those that are data (names and numbers with commas between them, and ranges such as 2-5), and
    pixels are divided by ``pixel_max``, the value of a white one. Raises ValueError, in one line, for an
    unknown name and for a file that is missing, damaged or not a table.
    """
    if name in NAMES:
        is_plain = label_column is None and columns is None and pixel_max == 1
        require(is_plain, "data", "{label_column}, {columns} and {pixel_max} apply to files only", name)
        if name in download.SOURCES:
            folder = download.fetch(name) if data_dir is None else Path(data_dir)
            images = files.image_folder(folder, name)
            named = replace(images.held_out, label_names=FASHION)
            return replace(images, label_names=FASHION, held_out=named) if name == "fashion-mnist" else images
        return SHIPPED_SETS[name]()
    data = files.read(name, label_column, columns, pixel_max)
    if data is None:
        problem = f"is unknown: use {', '.join(NAMES)}, or the path of a .csv or .npy file{nearest(name, NAMES)}"
        raise InputError("data", problem, name)
    return data


def binarize(x: np.ndarray) -> np.ndarray:
    """Pixels as outcomes of a coin, 1 where x > 1/2 and 0 elsewhere, as a Bernoulli likelihood needs them."""
    return (x > 0.5).astype(x.dtype)


def synthetic_mixture(
    n: int = 600, components: int = 3, dimensions: int = 2, separation: float = 4.0, seed: int = 0
) -> Dataset:
    """n points from a mixture of Gaussians with equal weights; the component that drew a point is its label.

    mu_k ~ N(0, separation² / 2 · I), Sigma_k = A_k A_k' with A_k = I + 0.3 G_k and G_k standard normal, so
    that the components are tilted, and ``separation`` is the typical distance of two means per axis in units
    of their standard deviation.
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


def _old_faithful() -> Dataset:
    x = read_text_table(_shipped("old_faithful.csv")).x
    return Dataset("old-faithful", x, feature_names=("eruption (minutes)", "waiting (minutes)"))


def _airquality() -> Dataset:
    features = ("ozone (ppb)", "solar radiation (langleys)", "wind (mph)", "temperature (°F)")
    x = read_text_table(_shipped("airquality.csv"), columns="1-4").x  # without month and day
    return Dataset("airquality", x, feature_names=features)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits  # takes a second to import, and only this data set needs it

    bunch = load_digits()
    return Dataset("digits", bunch.data / 16.0, bunch.target, image_shape=(8, 8))


def _fashion() -> Dataset:
    # `data/README.md` says which images of Fashion-MNIST these are.
    with np.load(_shipped("fashion.npz"), allow_pickle=False) as file:
        train, test = (
            Dataset(
                "fashion",
                np.reshape(file[f"x_{part}"], (-1, 28 * 28)) / np.float32(255),
                file[f"y_{part}"].astype(np.int64),
                image_shape=(28, 28),
                label_names=FASHION,
            )
            for part in ("train", "test")
        )
    return replace(train, held_out=test)


SHIPPED_SETS = {
    "old-faithful": _old_faithful,
    "airquality": _airquality,
    "digits": _digits,
    "fashion": _fashion,
    "synthetic": synthetic_mixture,
}


def fashion_subset(folder: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of ``fashion.npz``, with Keras's names, from a folder of Fashion-MNIST's files.

    They hold the first 500 images of each class of the training set and the first 100 of each class of the
    test set.
    """
    train = load("fashion-mnist", folder)
    arrays = {}
    for part, data, n in (("train", train, 500), ("test", train.held_out, 100)):
        rows = np.sort(np.concatenate([np.flatnonzero(data.labels == label)[:n] for label in range(10)]))
        arrays[f"x_{part}"] = np.rint(data.x[rows] * 255).astype(np.uint8).reshape(-1, *data.image_shape)
        arrays[f"y_{part}"] = data.labels[rows].astype(np.uint8)
    return arrays


def write_fashion(folder: str, out: str) -> None:
    """Write the file of `fashion_subset` and print its name."""
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    with open(out, "wb") as file:  # NumPy would add .npz to another name
        np.savez_compressed(file, **fashion_subset(folder))
    print(out)


WORDS = "the folder of the IDX files", "the .npz file to write"
main = partial(command, "common.data.datasets", __doc__, write_fashion, WORDS)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
