"""How PyTorch keeps a card busy: what was recorded is launched as one, and tables are copied while others are computed.

On a CPU nothing here is used. TensorFlow's graphs and its runtime do the same unasked, so it has no such page.

Source: PyTorch's documentation, "CUDA semantics", sections "CUDA Graphs" and "Memory management".
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from common.data.arrays import mapped
from pytorch_impl.backend import is_card

WARM_UP = 3  # calls before a recording, in which libraries choose their kernels and their memory


class Recording:
    """A function of tensors on a card, whose hundreds of launches are one: it is recorded, and then played again.

    The recording is made at the first call with arguments of their shapes; whatever is no tensor is part of
    it. The function must not ask the card for numbers nor bring it any: it only queues operations. `changed`
    are the tensors that it changes in place; what the calls before a recording did to them is undone. Values
    are copies, which the next call leaves alone.
    """

    def __init__(self, function: Callable, changed: Sequence[Tensor] = ()) -> None:
        self.function, self.changed, self.recordings = function, list(changed), {}

    @torch.no_grad()
    def __call__(self, *arguments: Any) -> Any:
        """Play the recording with these arguments in the places of those that it was made with."""
        tensors = [value for value in arguments if isinstance(value, Tensor)]
        key = tuple(value.shape if isinstance(value, Tensor) else value for value in arguments)
        with torch.get_device_module(tensors[0].device).device(tensors[0].device):
            if key not in self.recordings:
                self.recordings[key] = self._record(arguments)
            graph, places, values = self.recordings[key]
            torch._foreach_copy_(places, tensors)
            graph.replay()
            return mapped(Tensor.clone, values)

    def _record(self, arguments: tuple) -> tuple:
        """The graph, the tensors that it reads its arguments from, and those that it leaves its values in."""
        given = [value.clone() if isinstance(value, Tensor) else value for value in arguments]
        places = [value for value in given if isinstance(value, Tensor)]
        card, before = torch.get_device_module(places[0].device), [value.clone() for value in self.changed]
        beside = card.Stream()
        beside.wait_stream(card.current_stream())
        with card.stream(beside), torch.enable_grad():
            for _ in range(WARM_UP):
                self.function(*given)
        card.current_stream().wait_stream(beside)
        torch._foreach_copy_(self.changed, before) if before else None
        graph = card.CUDAGraph()
        with card.graph(graph), torch.enable_grad():
            values = self.function(*given)
        return graph, places, values


class CopiedAhead(Sequence):
    """Chunks of a table that a GPU has no room for: each is copied there while the one before is computed.

    They are converted, from memory that stays in its place, on a stream of their own. What computes a chunk
    waits for its copy; and its memory is not used again before that has ended.
    """

    def __init__(self, chunks: Sequence) -> None:
        self.chunks, self.place = chunks, torch.get_default_device()
        self.card = torch.get_device_module(self.place)
        self.beside, self.number, self.ahead = self.card.Stream(self.place), -1, ()

    def __len__(self) -> int:
        """The number of chunks."""
        return len(self.chunks)

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        """The chunk of this number; the one after it is on its way then."""
        if number != self.number:
            self._copy(number)
        here, chunk = self.card.current_stream(self.place), self.ahead
        here.wait_stream(self.beside)
        for tensor in chunk:
            tensor.record_stream(here)
        self._copy((number + 1) % len(self))
        return chunk

    def _copy(self, number: int) -> None:
        with self.card.stream(self.beside):
            self.number, self.ahead = number, self.chunks[number]


def recorded(function: Callable, changed: Sequence[Tensor] = ()) -> Callable:
    """The function as a `Recording` where the current device is one that records, else as it is."""
    return Recording(function, changed) if is_card() else function


def adam_of_lists(
    parameters: list[Tensor],
    gradients: list[Tensor],
    first_moments: list[Tensor],
    second_moments: list[Tensor],
    corrections: tuple[float, float] | Tensor,
    learning_rate: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> None:
    """`adam_update` of all parameters, in place and in a few launches, by corrections that stay on the card."""
    torch._foreach_lerp_(first_moments, gradients, 1 - beta_1)
    torch._foreach_mul_(second_moments, beta_2)
    torch._foreach_addcmul_(second_moments, gradients, gradients, 1 - beta_2)
    roots = torch._foreach_sqrt(second_moments)
    torch._foreach_div_(roots, corrections[1] ** 0.5)
    torch._foreach_add_(roots, epsilon)
    torch._foreach_mul_(roots, corrections[0] / -learning_rate)
    torch._foreach_addcdiv_(parameters, first_moments, roots)


@functools.cache
def kept(function: Callable[[int], Any], number: int, device: torch.device) -> Any:
    """The arrays that a function of a number gives, as tensors on a device: else an index is brought at each use."""
    return mapped(lambda array: torch.from_numpy(array).to(device), function(number))
