"""The suite that holds the two implementations together, and both to the truth."""

import contextlib

with contextlib.suppress(ImportError):
    import triton  # noqa: F401  (comes with PyTorch's CUDA build, and ends the process if TensorFlow was loaded first)
