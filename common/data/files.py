"""Data in files of your own, by their names: text tables, NumPy's arrays, and images in IDX and .npz files.

| name ends in, in capitals too | what it holds |
| --- | --- |
| .csv .tsv .txt .dat .data, each also with .gz | a text table, see `readers.read_table` |
| .npy, .npz with one array | a table (N, D), or images (N, H, W) |
| .npz with x_train, y_train, x_test, y_test | images as Keras has them |
| idx3-ubyte .idx3-ubyte, each also with .gz | images of bytes; their labels are looked for beside them |
| a folder | the four IDX files of MNIST or its like, or its .npz |

Bytes of images are divided by 255, or by the ``pixel_max`` that is given.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.data import dialect, download
from common.data.messages import short
from common.data.readers import as_table, read_idx, read_npy, read_npz, read_table

TEXT = re.compile(r"\.(csv|tsv|txt|dat|data)(\.gz)?$", re.IGNORECASE)
IDX = re.compile(r"(?<=[-.])idx([13])(?=[-.]ubyte(\.gz)?$)", re.IGNORECASE)
IDX_FILES = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
             "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}  # fmt: skip
ARCHIVE = ("x_train", "y_train", "x_test", "y_test")
Part = tuple[np.ndarray, np.ndarray | None]


class Content(NamedTuple):
    """A table (N, D), what its columns are called, and its labels, as positions in ``label_names`` if it has any."""

    x: np.ndarray
    header: tuple[str, ...] = ()
    labels: np.ndarray | None = None
    label_names: tuple[str, ...] = ()
    image_shape: tuple[int, int] | None = None


def read(
    name: str, label_column: str | None = None, columns: str | None = None, pixel_max: float = 1.0
) -> Content | list[Part] | None:
    """A table, or images (N, H, W) in [0, 1] and their labels, to train on and held out; None for no such name.

    Raises ValueError, in one line, for a file that is missing, damaged or neither.
    """
    path, kind = Path(name), Path(name).suffix.lower()
    is_idx, is_folder = IDX.search(path.name), path.is_dir()
    if not (TEXT.search(path.name) or kind in (".npy", ".npz") or is_idx or is_folder):
        return None
    if not (path.is_file() or is_folder):
        raise ValueError(f"data {name!r}: there is no such file; give the path of a .csv or .npy file")
    if is_folder or is_idx or (kind == ".npz" and len(arrays := read_npz(path)) > 1):
        _refuse_columns(name, label_column, columns)
        if is_folder:
            return image_folder(path, name, pixel_max)
        return [_idx_with_labels(path, pixel_max)] if is_idx else _of_archive(path, arrays, pixel_max)
    if TEXT.search(path.name):
        table = read_table(path, label_column, columns)
        x = table.x if pixel_max == 1 else table.x / pixel_max
        return Content(x, table.header, *classes(path, label_column, table.labels))
    if kind == ".npz" and not arrays:
        raise ValueError(f"{path}: holds no array; write it with numpy.savez")
    x = read_npy(path, pixel_max)[0] if kind == ".npy" else as_table(path, *arrays.values(), pixel_max)
    if x.ndim == 3:
        _refuse_columns(name, label_column, columns)
        return Content(x.reshape(len(x), -1), image_shape=x.shape[1:])
    labels = None
    if label_column is not None or columns is not None:
        wanted = dialect.find_columns(str(path), [""] * x.shape[1], label_column, columns)
        if wanted.label is not None:
            labels = whole_numbers(path, label_column, np.asarray(x[:, wanted.label]))
        x = x[:, wanted.data]
    return Content(x if pixel_max == 1 else x / pixel_max, labels=labels)  # as it is, it stays mapped into memory


def _refuse_columns(name: str, label_column: str | None, columns: str | None) -> None:
    if label_column is not None or columns is not None:
        raise ValueError(f"data {name!r}: --label-column and --columns are for tables, not for images; leave them out")


def classes(path: Path, label_column: str | None, cells: list[str] | None) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels (N,) from the cells of their column: whole numbers as they are, text by its position among the names."""
    if cells is None:
        return None, ()
    values = [dialect.number(cell) for cell in cells]
    if (empty := next((i for i, value in enumerate(values) if value != value), None)) is not None:
        raise ValueError(f"--label-column {label_column}: {path} has no label in row {empty + 1} of the data; add it")
    if None not in values:
        return whole_numbers(path, label_column, np.array(values)), ()
    names, labels = np.unique(cells, return_inverse=True)
    return labels.astype(np.int64), tuple(map(str, names))


def whole_numbers(path: Path, label_column: str | None, labels: np.ndarray) -> np.ndarray:
    """The labels as integers; ValueError if they are not whole numbers."""
    if not np.all(np.abs(labels) < 2**31) or np.any(labels != np.floor(labels)):
        if not label_column:
            raise ValueError(f"{path}: the labels are not whole numbers; number the classes")
        raise ValueError(f"--label-column: column {label_column} of {path} is not whole numbers; choose another")
    return labels.astype(np.int64)


def image_folder(folder: Path, name: str, pixel_max: float = 1.0) -> list[Part]:
    """Images and labels of the four IDX files in a folder, under any of their usual names, or of a .npz file there."""
    present = {path.name.lower(): path for path in sorted(folder.iterdir())} if folder.is_dir() else {}

    def file(usual: str) -> Path | None:
        names = (each + end for end in ("", ".gz") for each in (usual, usual.replace("-idx", ".idx")))
        found = (present.get(each) for each in (*names, usual.replace("-ubyte", ".ubyte")))
        return next((path for path in found if path is not None and path.is_file()), None)

    usuals = [usual for pair in IDX_FILES.values() for usual in pair]
    files = list(map(file, usuals))
    if not any(files) and (archive := present.get(f"{name if name in download.SOURCES else 'mnist'}.npz")):
        return _of_archive(archive, read_npz(archive), pixel_max)
    if None in files:
        source = f" (from {download.SOURCES[name].mirrors[0]})" if name in download.SOURCES else ""
        raise ValueError(f"data {name!r}: {folder / usuals[files.index(None)]}[.gz] is missing; put the four IDX files "
                         f"of {name}{source} into a folder and name it by --data-dir")  # fmt: skip
    arrays = list(map(read_idx, files))
    return _together(folder, [(arrays[0], arrays[1]), (arrays[2], arrays[3])], pixel_max)


def _idx_with_labels(path: Path, pixel_max: float) -> Part:
    # The images of an IDX file, and the labels of the one beside it, if there is one.
    images = read_idx(path)
    beside = path.with_name(IDX.sub("idx1", path.name).replace("images", "labels"))
    labels = read_idx(beside) if beside != path and beside.is_file() else None
    return _together(path, [(images, labels)], pixel_max)[0]


def _of_archive(path: Path, arrays: dict[str, np.ndarray], pixel_max: float) -> list[Part]:
    if not set(ARCHIVE) <= arrays.keys():
        names = short(", ".join(sorted(arrays)))
        raise ValueError(f"{path}: holds {names}; give an archive of one array, or of {', '.join(ARCHIVE)}")
    parts = [(arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])]
    return _together(path, parts, pixel_max)


def _together(path: Path, parts: list[Part], pixel_max: float) -> list[Part]:
    # Images with pixels in [0, 1] and whole labels; ValueError if their shapes do not fit.
    ready = []
    for images, labels in parts:
        if labels is not None and labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if images.ndim == 4 and images.shape[-1] == 1:
            images = images[..., 0]
        if images.ndim != 3:
            raise ValueError(f"{path}: the images have shape {images.shape}; (N, H, W) is needed")
        if labels is not None and labels.ndim != 1:
            raise ValueError(f"{path}: the labels have shape {labels.shape}; (N,) is needed")
        if labels is not None and len(labels) != len(images):
            raise ValueError(f"{path}: there are {len(images)} images and {len(labels)} labels; give one for each")
        whole = None if labels is None else whole_numbers(path, "", labels)
        ready.append((as_table(path, images, pixel_max), whole))
    shapes = {images.shape[1:] for images, _ in ready}
    if len(shapes) > 1:
        raise ValueError(
            f"{path}: images have shapes {' and '.join(map(str, sorted(shapes)))}; give images of one shape"
        )
    return ready
