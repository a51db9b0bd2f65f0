"""Where and with how many threads PyTorch computes, and how NumPy calls it."""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch


def device(name: str, threads: int) -> AbstractContextManager:
    """A context in which tensors are made on the device called `name`, with full-precision float32 products.

    Raises ValueError if this machine or this build has no such device.
    """
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    try:
        torch.zeros(1, device=name).cpu()  # a device that holds no numbers, such as meta, is none
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"--device {name}: PyTorch finds no such device here; use cpu") from error
    return torch.device(name)


def evaluate(function: Any, *arguments: Any) -> Any:
    """Call a function of the maths with its arrays as tensors; its tensors come back as arrays."""
    result = function(*(torch.tensor(a) if isinstance(a, np.ndarray) else a for a in arguments))
    return tuple(np.asarray(value) for value in result) if isinstance(result, tuple) else np.asarray(result)
