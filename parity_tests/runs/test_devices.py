"""What belongs to a GPU: where tensors are, what is read back, and a training step as one graph.

On the make-believe card of `support.card` on any machine, and on a GPU where there is one.
"""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from sklearn.exceptions import ConvergenceWarning

import tf2_impl.estimators as tf_estimators
from common import draws
from parity_tests.digests.runs import MIXTURES, POINTS, write_points
from parity_tests.support import card
from pytorch_impl import algorithms, estimators, network_run, train_gmm, train_vae
from pytorch_impl.backend import numbers_in_a_chunk
from pytorch_impl.cuda import CopiedAhead, Recording
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


def points(n: int = 9000) -> np.ndarray:
    """Three clusters that overlap, (n, 3); more than a block, and more than EM takes in one piece."""
    return draws.normals(0, "sample", (n, 3)) + np.arange(n)[:, None] % 3 * [2.0, -1.0, 0.5]


def fitted(x: Any, Mixture: type = estimators.GaussianMixture, **arguments: Any) -> Any:
    """Three components after five iterations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return Mixture(3, random_state=0, tol=0, max_iter=5, **arguments).fit(x)


def check_alike(mixture: Any, other: Any, tolerance: float = 1e-11) -> None:
    """Two mixtures must be the same but for rounding, and their attributes arrays."""
    for name in ("weights_", "means_", "covariances_", "lower_bounds_"):
        ours, theirs = getattr(mixture, name), getattr(other, name)
        assert isinstance(ours, np.ndarray | list)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_an_iteration_on_a_gpu_is_read_once(kind: str, seen: type[card.State]) -> None:
    """The features stay on the GPU; of five iterations come back five pairs of numbers."""
    reads, iterate = [], algorithms.OnFeatures.iterate

    def counted(algorithm: algorithms.OnFeatures, parameters: tuple) -> tuple:
        before = seen.reads
        updated = iterate(algorithm, parameters)
        reads.append(seen.reads - before)
        return updated

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(algorithms.OnFeatures, "iterate", counted)
        mixture = fitted(points(), covariance_type=kind, device=card.NAME)
    assert reads == [1] * 5
    check_alike(mixture, fitted(points(), covariance_type=kind))


def test_an_estimator_computes_where_its_data_are(seen: type[card.State]) -> None:
    """Or on the current device, if they are on none; results are arrays, the same wherever they were computed."""
    x = points(500)
    on_cpu, there = fitted(x), torch.tensor(x).to(card.NAME)
    assert seen.reads == 0
    of_tensor = fitted(there)
    with torch.device(card.NAME):
        check_alike(fitted(x), on_cpu)
        np.testing.assert_allclose(on_cpu.score(x), of_tensor.score(x), rtol=1e-14)
        assert of_tensor.sample(3)[0].tobytes() == on_cpu.sample(3)[0].tobytes()
    check_alike(of_tensor, on_cpu)
    before = seen.reads
    np.testing.assert_allclose(on_cpu.predict_proba(there), on_cpu.predict_proba(x), rtol=1e-12)
    assert seen.reads == before + 4  # the points to check them, the digits lost, and what was computed


@pytest.mark.parametrize("rows", [4000, 1000], ids=["features do not fit", "points do not fit"])
def test_what_does_not_fit_is_copied_ahead(rows: int, seen: type[card.State]) -> None:
    """Chunks are sized by the memory that is free, and give the parameters of those on the CPU."""
    seen.free = 16 * 16 * rows  # bytes, of 16 numbers a row in EM's tables, half of what is free
    with torch.device(card.NAME):
        assert numbers_in_a_chunk() == 16 * rows
    check_alike(fitted(points(), device=card.NAME), fitted(points()))


def test_the_next_chunk_is_on_its_way(seen: type[card.State]) -> None:
    """When a chunk is given, the one after it has been asked for, and no chunk twice."""
    asked = []

    class Asked(list):
        def __getitem__(self, number: int) -> tuple[torch.Tensor]:
            asked.append(number)
            return (torch.full((2,), float(number)).to(card.NAME),)

    with torch.device(card.NAME):
        ahead = CopiedAhead(Asked(range(3)))
        for number in (0, 1, 2, 0):
            assert float(ahead[number][0][0]) == number
            assert asked[-1] == (number + 1) % 3
    assert asked == [0, 1, 2, 0, 1]


def test_lost_digits_are_found_again_on_a_gpu(seen: type[card.State]) -> None:
    """A small cluster far away is seen from its own mean."""
    x = points()
    x[::3] = 1e-3 * x[::3] + 500
    check_alike(fitted(x, device=card.NAME), fitted(x), 1e-9)


@pytest.mark.parametrize("arguments", [{"missing": "em"}, {"Mixture": estimators.BayesianGaussianMixture}])
def test_gaps_and_beliefs_on_a_gpu(arguments: dict[str, Any], seen: type[card.State]) -> None:
    x = points(300)
    x[::7, 1] = np.nan if "missing" in arguments else 0.5
    mixtures = [fitted(x, device=device, **arguments) for device in (None, card.NAME)]
    check_alike(*mixtures)
    method = "impute" if "missing" in arguments else "predictive_log_density"
    np.testing.assert_allclose(*(getattr(mixture, method)(x) for mixture in mixtures), rtol=1e-12)


@pytest.mark.parametrize("name", ["MAP", "variational", "gaps", "chunks"])
def test_a_mixtures_run_leaves_the_same_bytes(name: str, seen: type[card.State], tmp_path: Path) -> None:
    """In reproducible precision, as `python -m parity_tests.digests cpu cuda` asks of a real one."""
    write_points(tmp_path / POINTS)
    checkpoints = []
    for device in ("cpu", card.NAME):
        more = f"--steps 5 --precision reproducible --quiet --device {device} --out {tmp_path / device}"
        assert train_gmm.main([*MIXTURES[name].format(folder=tmp_path).split(), *more.split()]) == 0
        checkpoints.append((tmp_path / device / "checkpoint.safetensors").read_bytes())
    assert checkpoints[0] == checkpoints[1]


@pytest.mark.parametrize("Mixture", [estimators.GaussianMixture, tf_estimators.GaussianMixture])
@pytest.mark.parametrize("device", ["cuda", "abacus"])
def test_a_device_that_is_not_there_is_an_error(Mixture: type, device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("it is there")
    with pytest.raises(ValueError, match=f"device='{device}' is a device that .* does not find here: use cpu"):
        Mixture(2, device=device).fit(points(50))
