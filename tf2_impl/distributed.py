r"""Several processes that share a run: each takes a share of the points, and what they find is added up.

The M step's sufficient statistics are sums over points, and so is a minibatch's gradient:

$$S = \sum_{r} S_r, \qquad \nabla \mathcal{L} = \sum_{r} \frac{N_r}{N} \nabla \mathcal{L}_r$$

So the workers $r$ need to exchange nothing else: one sum an iteration, of $K (1 + D + D (D + 1) / 2) + 1$
numbers for a mixture with full covariances, of as many as there are parameters for a network, however many
points there are. After it every worker makes the same step from the same numbers, and holds the same
parameters. Noise is drawn by the number of the row in the whole minibatch. Sums are added in another order
than by one process; what that changes, the last bits, a `reproducible` run rounds away as it does the
differences between frameworks.

Where the frameworks differ: PyTorch's workers are started by torchrun, which tells them their rank by RANK
and WORLD_SIZE, and add up in place; TensorFlow's are told by TF_CONFIG, and add up inside a strategy's `run`.
Where no scheduler tells them, `python -m common.runs.launch_workers 2` and the rest of a command line starts
two of either.
"""

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow import Tensor

LOST = "another worker has stopped"


class Workers:
    """The processes that share a run, seen from the one called `rank` of `size`; only rank 0 writes."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self.strategy = tf.distribute.MultiWorkerMirroredStrategy() if size > 1 else None
        self._graphs: dict[Callable, Callable] = {}

    def run(self, function: Callable, *arguments: Any) -> Any:
        """Call a function that adds up or averages; ConnectionError if another worker has stopped."""
        if self.size == 1:
            return function(*arguments)
        if function not in self._graphs:
            shared = tf.autograph.experimental.do_not_convert(lambda *a: self.strategy.run(function, args=a))
            self._graphs[function] = tf.function(shared)
        try:
            return self._graphs[function](*arguments)
        except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError) as error:
            raise ConnectionError(LOST) from error

    def add_up(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sum over all workers of each tensor, the same on all; they travel as one. Called by way of `run`."""
        if self.size == 1:
            return list(tensors)
        flat = tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0)
        flat = tf.distribute.get_replica_context().all_reduce("SUM", flat)
        parts = tf.split(flat, [tensor.shape.num_elements() for tensor in tensors])
        return [tf.reshape(part, tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def average(self, tensors: Sequence[Tensor], part: Tensor) -> list[Tensor]:
        """The mean over all points from this worker's means, over a `part` of them; called by way of `run`."""
        return list(tensors) if self.size == 1 else self.add_up([part * tensor for tensor in tensors])

    def any_of(self, flag: bool) -> bool:
        """Whether the flag is up on any worker."""
        if self.size == 1:
            return flag
        return float(self.run(self.add_up, [tf.constant(float(flag), dtype=tf.float32)])[0]) > 0

    def leave(self) -> None:
        """Part from the others, at the end."""


def join(device: str) -> Workers:
    """Meet the other processes of this run; without any, one worker alone."""
    config = json.loads(os.environ.get("TF_CONFIG", "{}"))
    size = len(config.get("cluster", {}).get("worker", ()))
    if size <= 1:
        return Workers()
    return Workers(config["task"]["index"], size)
