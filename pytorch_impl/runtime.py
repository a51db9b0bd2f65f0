"""Where and with how many threads PyTorch computes."""

from contextlib import AbstractContextManager

import torch


def device(name: str, threads: int) -> AbstractContextManager:
    """A context in which tensors are made on the device called `name`, with full-precision float32 products.

    Raises ValueError if this machine or this build has no such device.
    """
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"--device {name}: PyTorch finds no such device here; use cpu") from error
    return torch.device(name)
