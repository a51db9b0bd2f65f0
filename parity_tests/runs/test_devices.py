"""What belongs to a GPU: where tensors are, what is read back, and a training step as one graph.

On the make-believe card of `support.card` on any machine, and on a GPU where there is one.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from common import draws
from parity_tests.support import card
from pytorch_impl import network_run, train_vae
from pytorch_impl.cuda import Recording
from pytorch_impl.optimizer import Adam, adam_update

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
NETWORKS = {
    "reproducible": "--precision reproducible --likelihood gaussian --hidden-dim 20",
    "convolutional": "--precision float32 --model conv --channels 2 --hidden-dim 10",
}


@pytest.fixture
def seen() -> Iterator[type[card.State]]:
    """The make-believe card, and what it sees."""
    with card.at_hand() as state:
        yield state


def trained(arguments: str, device: str, folder: Path) -> tuple[list[dict], bytes]:
    """The metrics, but for the seconds, and the checkpoint of a short run of `train_vae`."""
    more = f"--epochs 2 --latent-dim 2 --batch-size 400 --quiet --device {device} --out {folder}"
    assert train_vae.main([*arguments.split(), *more.split()]) == 0
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [row | {"seconds": 0} for row in rows], (folder / "checkpoint.safetensors").read_bytes()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_recorded_step_is_the_step(name: str, seen: type[card.State], tmp_path: Path) -> None:
    """A run that plays its step from a graph is as one on the CPU, to the byte if reproducible; for two batch sizes."""
    on_cpu = trained(NETWORKS[name], "cpu", tmp_path / "cpu")
    assert seen.reads == 0
    on_card = trained(NETWORKS[name], card.NAME, tmp_path / "card")
    if name == "reproducible":
        assert on_card == on_cpu
    for ours, theirs in zip(on_card[0], on_cpu[0], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)
    weights, expected = (safetensors.numpy.load(run[1]) for run in (on_card, on_cpu))
    for key, value in expected.items():
        np.testing.assert_allclose(weights[key], value, rtol=1e-4, atol=1e-5)


def test_adam_of_lists_is_adam(seen: type[card.State]) -> None:
    """In place, by corrections that stay on the card: nothing is read."""
    start, gradient, first, second = torch.tensor(draws.normals(3, "sample", (4, 50)))
    parameter = torch.nn.Parameter(start.to(card.NAME))
    with torch.device(card.NAME):
        adam = Adam({"w": parameter}, learning_rate=0.01)
        adam.resume(0, {"w": first}, {"w": second.square()})
        adam.apply({"w": gradient.to(card.NAME)}, torch.tensor([0.75, 0.5], dtype=torch.float64))
    assert seen.reads == 0
    expected = adam_update(start, gradient, first, second.square(), (0.75, 0.5), learning_rate=0.01)
    for ours, theirs in zip((parameter, adam.first_moment["w"], adam.second_moment["w"]), expected, strict=True):
        torch.testing.assert_close(ours.detach().cpu(), theirs, rtol=1e-13, atol=0)


@needs_gpu
@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_computes_what_its_operations_do(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a GPU, with and without CUDA graphs."""
    as_graph = trained(NETWORKS[name], "cuda", tmp_path / "graph")
    monkeypatch.setattr(network_run, "recorded", lambda step, changed: step)
    plain = trained(NETWORKS[name], "cuda", tmp_path / "plain")
    if name == "reproducible":
        assert as_graph == plain
    for ours, theirs in zip(as_graph[0], plain[0], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_losses_are_read_once_a_stretch(
    seen: type[card.State], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Between two looks at the network nothing else comes back."""
    reads, take_steps = [], network_run.NetworkRun.take_steps

    def counted(network: network_run.NetworkRun, stretch: list) -> list:
        before = seen.reads
        terms = take_steps(network, stretch)
        reads.append((len(stretch), seen.reads - before))
        return terms

    monkeypatch.setattr(network_run.NetworkRun, "take_steps", counted)
    trained(NETWORKS["reproducible"], card.NAME, tmp_path)
    assert reads == [(4, 0), (4, 0)]


def test_what_cannot_be_played_again_is_not_recorded(seen: type[card.State]) -> None:
    """To ask the card for a number, or to bring it one, is an error here as it is on a GPU."""
    x = torch.arange(3.0).to(card.NAME)
    reading, bringing = lambda x: x * float(x[0]), lambda x: x + torch.tensor([1.0, 2, 3]).to(x.device)
    for function in (reading, bringing, lambda x: x[torch.tensor([0])]):
        with pytest.raises(RuntimeError, match="recorded"):
            Recording(function)(x)
    played = Recording(lambda x, times: (times * x).sum())
    assert [float(played(x, 2)), float(played(x + 1, 2)), float(played(x[:2], 3))] == [6, 12, 3]
