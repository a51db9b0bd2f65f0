"""Data sets in files: text tables, NumPy's arrays, and images in IDX and .npz files.

| name ends in (in either case) | content |
| --- | --- |
| .csv .tsv .txt .dat .data, each also with .gz | a text table, see `tables.read_table` |
| .npy, .npz with one array | a table (N, D), or images (N, H, W) |
| .npz with x_train, y_train, x_test, y_test | images as Keras has them |
| idx3-ubyte .idx3-ubyte, each also with .gz | images of bytes, with the labels of the idx1 file next to it |
| a folder | the four IDX files of MNIST or its like, or its .npz |

Bytes of images are divided by 255, or by the ``pixel_max`` that is given.
"""

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common import draws
from common.data import download
from common.data.lines import number
from common.data.messages import InputError, require, short
from common.data.readers import read_idx, read_npy, read_npz, read_text_table
from common.data.tables import find_columns

TEXT = re.compile(r"\.(csv|tsv|txt|dat|data)(\.gz)?$", re.IGNORECASE)
IDX = re.compile(r"(?<=[-.])idx([13])(?=[-.]ubyte(\.gz)?$)", re.IGNORECASE)
IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
ARCHIVE = ("x_train", "y_train", "x_test", "y_test")
HELD_OUT_SHARE = 1 / 6


@dataclass(frozen=True)
class Dataset:
    """A table ``x`` (N, D), its labels (N,) if it has any, and what its columns are.

    Labels that were text are positions in ``label_names``. ``image_shape`` is (height, width) if a row is an
    image with values in [0, 1]. ``held_out`` is the source's own test set, if any.
    """

    name: str
    x: np.ndarray
    labels: np.ndarray | None = None
    feature_names: tuple[str, ...] = ()
    image_shape: tuple[int, int] | None = None
    held_out: "Dataset | None" = None
    label_names: tuple[str, ...] = ()

    def split(self) -> "tuple[Dataset, Dataset]":
        """The training and held-out parts: the source's, or else one row in six held out, by a fixed draw."""
        if self.held_out is not None:
            return self, self.held_out
        order = draws.permutation(0, "split", len(self.x))
        cut = len(order) - max(1, round(len(order) * HELD_OUT_SHARE))
        return self._rows(order[:cut]), self._rows(order[cut:])

    def _rows(self, rows: np.ndarray) -> "Dataset":
        return replace(self, x=self.x[rows], labels=None if self.labels is None else self.labels[rows])


def read(
    name: str, label_column: str | None = None, columns: str | None = None, pixel_max: float = 1.0
) -> Dataset | None:
    """Return the data set in a file or folder, or None if the name is not one of a known kind of file.

    Raises ValueError, in one line, for a file that is missing, damaged or neither a table nor images.
    """
    path, suffix = Path(name), Path(name).suffix.lower()
    is_folder, is_idx = path.is_dir(), bool(IDX.search(path.name))
    if not (is_folder or is_idx or TEXT.search(path.name) or suffix in (".npy", ".npz")):
        return None
    is_there = path.is_file() or is_folder
    require(is_there, "data", "there is no such file; give the path of a .csv or .npy file", name)
    if TEXT.search(path.name) and not is_folder:
        table = read_text_table(path, label_column, columns)
        labels, label_names = _classes(path, table.labels)
        return _of_table(name, table.x, pixel_max, labels, table.header, label_names)
    arrays = {}
    if not (is_folder or is_idx):
        arrays = read_npz(path) if suffix == ".npz" else {"x": read_npy(path)}
        if not arrays:
            raise ValueError(f"{path}: holds no array; write it with numpy.savez")
        if len(arrays) == 1 and (array := next(iter(arrays.values()))).ndim < 3:
            x = _as_table(path, array)
            chosen = find_columns(path, [""] * x.shape[1], label_column, columns)
            labels = None if chosen.label is None else _whole_numbers(path, np.asarray(x[:, chosen.label]))
            is_whole = chosen.data == list(range(x.shape[1]))  # then it stays mapped into memory
            return _of_table(name, x if is_whole else x[:, chosen.data], pixel_max, labels)
    for option, value in (("label_column", label_column), ("columns", columns)):
        require(value is None, option, f"is for tables, and {name} holds images; leave it out", value)
    return _of_images(name, path, arrays, pixel_max)


def image_folder(folder: Path, name: str, pixel_max: float = 1.0) -> Dataset:
    """Return the images in a folder's four IDX files, under any of their usual names, or in its .npz file."""
    present = {path.name.lower(): path for path in sorted(folder.iterdir())} if folder.is_dir() else {}
    usual_names = [usual for pair in IDX_FILES.values() for usual in pair]
    paths = []
    for usual in usual_names:
        names = [each + end for end in ("", ".gz") for each in (usual, usual.replace("-idx", ".idx"))]
        found = (present.get(each) for each in (*names, usual.replace("-ubyte", ".ubyte")))
        paths.append(next((path for path in found if path is not None and path.is_file()), None))
    is_known = name in download.SOURCES
    if not any(paths) and (archive := present.get(f"{name if is_known else 'mnist'}.npz")):
        return _of_archive(name, archive, read_npz(archive), pixel_max)
    if None in paths:
        source = f" (from {download.SOURCES[name].mirrors[0]})" if is_known else ""
        lacking = folder / usual_names[paths.index(None)]
        remedy = f"put the four IDX files of {name}{source} into a folder and name it by {{data_dir}}"
        raise InputError("data", f"{lacking}[.gz] is missing; {remedy}", name)
    return _together(name, folder, list(map(read_idx, paths)), pixel_max)


def _as_table(path: Path, x: np.ndarray, pixel_max: float = 1.0) -> np.ndarray:
    """Return a table of real numbers (N, D), or images (N, H, W) divided by ``pixel_max`` (bytes: by 255)."""
    if x.ndim == 4 and x.shape[-1] == 1:  # one channel
        x = x[..., 0]
    if x.ndim not in (2, 3) or x.dtype.kind not in "fiub":
        what = f"shape {x.shape}, dtype {short(str(x.dtype))}"
        raise ValueError(f"{path}: holds {what}; a table of real numbers (N, D), or images (N, H, W), is needed")
    if x.size == 0:
        raise ValueError(f"{path}: holds a table of shape {x.shape}; give at least one row and one column")
    if x.ndim == 3 and (pixel_max != 1 or (x.dtype == np.uint8 and x.max() > 1)):
        return x / np.float32(255 if pixel_max == 1 else pixel_max)
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def _of_table(
    name: str,
    x: np.ndarray,
    pixel_max: float,
    labels: np.ndarray | None,
    header: tuple[str, ...] = (),
    label_names: tuple[str, ...] = (),
) -> Dataset:
    # A data set of rows, taken for square images if their length and the values of the first row fit.
    x = x if pixel_max == 1 else x / pixel_max
    side = math.isqrt(x.shape[1])
    is_images = side > 1 and side * side == x.shape[1] and x[0].min() >= 0 and x[0].max() <= 1
    return Dataset(name, x, labels, header, (side, side) if is_images else None, label_names=label_names)


def _classes(path: Path, cells: list[str] | None) -> tuple[np.ndarray | None, tuple[str, ...]]:
    # Labels (N,) from the cells of their column: whole numbers as they are, words as positions in the names.
    if cells is None:
        return None, ()
    values = [number(cell) for cell in cells]
    if (empty := next((i for i, value in enumerate(values) if value != value), None)) is not None:
        raise ValueError(f"{path}: row {empty + 1} of the data has no label; add it")
    if None not in values:
        return _whole_numbers(path, np.array(values)), ()
    names, labels = np.unique(cells, return_inverse=True)
    return labels.astype(np.int64), tuple(map(str, names))


def _whole_numbers(path: Path, labels: np.ndarray) -> np.ndarray:
    if not np.all(np.abs(labels) < 2**31) or np.any(labels != np.floor(labels)):
        raise ValueError(f"{path}: the labels are not whole numbers; number the classes, or choose another column")
    return labels.astype(np.int64)


def _of_images(name: str, path: Path, arrays: dict[str, np.ndarray], pixel_max: float) -> Dataset:
    if path.is_dir():
        return image_folder(path, name, pixel_max)
    if len(arrays) > 1:
        return _of_archive(name, path, arrays, pixel_max)
    if arrays:
        return _images(name, path, *arrays.values(), None, pixel_max)
    labels = path.with_name(IDX.sub("idx1", path.name).replace("images", "labels"))
    has_labels = labels != path and labels.is_file()
    return _images(name, path, read_idx(path), read_idx(labels) if has_labels else None, pixel_max)


def _of_archive(name: str, path: Path, arrays: dict[str, np.ndarray], pixel_max: float) -> Dataset:
    if not set(ARCHIVE) <= arrays.keys():
        names = short(", ".join(sorted(arrays)))
        raise ValueError(f"{path}: holds {names}; give an archive of one array, or of {', '.join(ARCHIVE)}")
    return _together(name, path, [arrays[each] for each in ARCHIVE], pixel_max)


def _together(name: str, path: Path, arrays: list[np.ndarray], pixel_max: float) -> Dataset:
    # The arrays are training images and labels, then held-out images and labels.
    train, test = (_images(name, path, *part, pixel_max) for part in (arrays[:2], arrays[2:]))
    if train.image_shape != test.image_shape:
        shapes = f"{train.image_shape} and {test.image_shape}"
        raise ValueError(f"{path}: images have shapes {shapes}; give images of one shape")
    return replace(train, held_out=test)


def _images(name: str, path: Path, images: np.ndarray, labels: np.ndarray | None, pixel_max: float) -> Dataset:
    # Images with pixels in [0, 1] and whole numbers as labels; ValueError if shapes do not fit.
    images = _as_table(path, images, pixel_max)
    if images.ndim != 3:
        raise ValueError(f"{path}: the images have shape {images.shape}; (N, H, W) is needed")
    if labels is not None:
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        if labels.ndim != 1:
            raise ValueError(f"{path}: the labels have shape {labels.shape}; (N,) is needed")
        if len(labels) != len(images):
            raise ValueError(f"{path}: there are {len(images)} images and {len(labels)} labels; give one for each")
        labels = _whole_numbers(path, labels)
    return Dataset(name, images.reshape(len(images), -1), labels, image_shape=images.shape[1:])
