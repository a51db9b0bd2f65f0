"""Draw the chapters' figures from this implementation's numbers.

python -m tf2_impl.draw_figures build/figures/tf2
"""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow as tf

from common.draw_chapters import draw_all
from tf2_impl import coin, em, gmm, singularity


def evaluate(function: Any, *arguments: Any) -> Any:
    """Call a function of the maths with arrays as tensors; its tensors come back as arrays."""
    result = function(*(tf.constant(a) if isinstance(a, np.ndarray) else a for a in arguments))
    return tuple(t.numpy() for t in result) if isinstance(result, tuple) else result.numpy()


def main(folder: str = "build/figures/tf2") -> int:
    """Draw every figure into the folder and print where."""
    try:
        for path in draw_all(
            SimpleNamespace(coin=coin, em=em, gmm=gmm, singularity=singularity), evaluate, Path(folder)
        ):
            print(path)
    except ValueError as error:
        print(f"tf2_impl.draw_figures: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
