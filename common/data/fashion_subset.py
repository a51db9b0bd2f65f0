"""Choose the images of ``common/data/fashion.npz`` from the whole of Fashion-MNIST and write the file.

apt-get install dataset-fashion-mnist
python -m common.data.fashion_subset /usr/share/datasets/fashion-mnist build/fashion.npz

The folder holds the four IDX files, as Debian's package and the data set's own page have them. Chosen are the first 500
images of each of the ten classes of the training set and the first 100 of each class of the test set, in their order.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.data.datasets import load

EACH = {"train": 500, "test": 100}


def first_of_each(labels: np.ndarray, n: int) -> np.ndarray:
    """The positions of the first n labels of every kind, in their order."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:n] for label in np.unique(labels)]))


def subset(folder: str | Path) -> dict[str, np.ndarray]:
    """The arrays of the file, under the names that Keras's ``mnist.npz`` has, from a folder of IDX files."""
    train = load("fashion-mnist", folder)
    arrays = {}
    for part, data in (("train", train), ("test", train.held_out)):
        rows = first_of_each(data.labels, EACH[part])
        arrays[f"x_{part}"] = np.rint(data.x[rows] * 255).astype(np.uint8).reshape(-1, *data.image_shape)
        arrays[f"y_{part}"] = data.labels[rows].astype(np.uint8)
    return arrays


def main(argv: Sequence[str]) -> int:
    """Write the file; 0, or 2 for bad input."""
    try:
        if len(argv) != 2 or not argv[1].endswith(".npz"):
            raise ValueError(f"{' '.join(argv)!r}: name the folder of the IDX files, and the .npz file to write")
        out = Path(argv[1])
        out.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(out, **subset(argv[0]))
    except (ValueError, OSError) as error:
        print(f"common.data.fashion_subset: error: {error}", file=sys.stderr)
        return 2
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
