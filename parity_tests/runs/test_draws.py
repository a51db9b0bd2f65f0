"""Every random number, by Philox written out in whole numbers, and what is made of the numbers."""

import itertools

import numpy as np
import pytest
from scipy import stats

from common import draws
from common.data import datasets
from common.figures.draw import CHAPTERS
from common.networks import training
from common.runs.script import implementation

MULTIPLIERS, WEYL = (0xD2E7470EE14C6C93, 0xCA5A826395121157), (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
PURPOSES = tuple(["split", "initial values", "order", "noise", "start", "component", "sample", "prior", "held-out"])
PURPOSES += ("validation", "dequantisation")


def philox(counter: tuple[int, ...], key: tuple[int, int]) -> list[int]:
    """The four words of a counter: Philox4x64-10 as in Salmon et al. (2011), section 3.3."""
    x, k = list(counter), list(key)
    for _ in range(10):
        (high_0, low_0), (high_1, low_1) = (divmod(m * x[i], 2**64) for m, i in zip(MULTIPLIERS, (0, 2), strict=True))
        x = [high_1 ^ x[1] ^ k[0], low_1, high_0 ^ x[3] ^ k[1], low_0]
        k = [(each + step) % 2**64 for each, step in zip(k, WEYL, strict=True)]
    return x


def test_philox_gives_the_authors_known_answers() -> None:
    """From the file kat_vectors of their library Random123."""
    assert philox((0,) * 4, (0, 0))[:2] == [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC]
    ones = 2**64 - 1
    assert philox((ones,) * 4, (ones, ones))[:2] == [0x87B092C3013FE90B, 0x438C3C67BE8D0224]


@pytest.mark.parametrize("width", [1, 4, 7])
def test_a_number_is_where_seed_purpose_step_and_row_say(width: int) -> None:
    """A row begins with a counter of its own; NumPy's generator counts before it draws, hence the 1."""
    for position, purpose in enumerate(PURPOSES):
        for seed, step, first in ((0, 0, 0), (3, 0, 12), (2**32 + 5, 7, 1)):
            found = draws.uniforms(seed, purpose, (2, width), step, first)
            for r, j in np.ndindex(2, width):
                counter = (first + r) * -(-width // 4) + j // 4 + 1
                word = philox((counter, 0, step, 0), (seed, position))[j % 4]
                assert found[r, j] == (2 * (word >> 12) + 1) / 2**53
    assert draws.PURPOSES == PURPOSES  # another order would change every published run


def test_shapes_are_the_same_numbers_row_by_row() -> None:
    flat, whole = draws.uniforms(1, "noise", (20, 6), 2), draws.uniforms(1, "noise", (20, 2, 3), 2)
    np.testing.assert_array_equal(whole.reshape(20, 6), flat)
    np.testing.assert_array_equal(draws.normals(1, "noise", (8, 6), 2, 12), stats.norm.ppf(flat[12:]).astype("f4"))


def test_draws_have_their_distributions() -> None:
    """At a thousandth each; and neighbouring streams have nothing to do with each other, at 4.5 errors."""
    u, z = draws.uniforms(0, "sample", (50_000,)), draws.normals(0, "sample", (50_000,), step=1)
    assert 0 < u.min() < u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    assert stats.kstest(z, "norm").pvalue > 1e-3
    np.testing.assert_array_equal(z, z.astype(np.float32))
    places = itertools.product((0, 1), ("noise", "prior"), ((0, 0), (1, 0), (0, 10_000)))  # step and first row
    streams = [draws.normals(seed, purpose, (10_000, 2), *place) for seed, purpose, place in places]
    correlations = np.corrcoef(np.hstack(streams).T)
    assert np.abs(correlations - np.eye(len(correlations))).max() < 4.5 / np.sqrt(10_000)


def test_an_order_is_the_ranks_and_every_order_is_as_likely() -> None:
    u = draws.uniforms(5, "order", (30,), 2)
    order = draws.permutation(5, "order", 30, 2)
    assert order.tolist() == sorted(range(30), key=u.__getitem__)
    assert not order.flags.writeable
    found = [draws.permutation(seed, "split", 4, step).tolist() for seed in range(60) for step in range(40)]
    counts = np.unique(found, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


def test_an_epoch_visits_every_row_once_in_its_own_order() -> None:
    assert [draws.batches_per_epoch(n, 128) for n in (1, 128, 129, 1000)] == [1, 1, 2, 8]
    for seed in (0, 1):
        batches = [draws.minibatch(seed, step, 1000, 128) for step in range(24)]
        assert [len(batch) for batch in batches] == ([128] * 7 + [104]) * 3
        for epoch in range(3):
            order = draws.permutation(seed, "order", 1000, epoch)
            np.testing.assert_array_equal(np.concatenate(batches[8 * epoch : 8 * epoch + 8]), order)
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))


def test_draws_like_rows_have_their_moments() -> None:
    """From few rows and many, to 5 errors; where the rows do not vary, the draws do not."""
    for n in (5, 50):
        rows = draws.normals(0, "sample", (n, 3)) @ np.array([[1, 0.5, 0], [0, 2, 0], [0, 0, 0]]) + 7
        drawn, covariance = draws.like(rows, 1, 40_000), np.cov(rows.T, bias=True)
        scale = np.sqrt(np.diagonal(covariance))
        assert np.all(np.abs(drawn.mean(axis=0) - rows.mean(axis=0)) <= 5 / 200 * scale + 1e-12)
        assert np.all(np.abs(np.cov(drawn.T) - covariance) <= 5 * 2**0.5 / 200 * np.outer(scale, scale) + 1e-12)
        assert not np.any(draws.like(rows, 2, 5)[:, :2] == drawn[:5, :2])


def test_initial_values_follow_glorot() -> None:
    """Uniform within a bound from fan in and out, at a thousandth; equal shapes, other seeds: others."""
    shapes = {"a.weight": (300, 200), "b.weight": (16, 8, 3, 5), "a.bias": (300,), "c.weight": (300, 200), "v": ()}
    values, others = draws.initial_values(0, shapes), draws.initial_values(1, shapes)
    assert {name: value.shape for name, value in values.items()} == shapes
    for name, fans in (("a.weight", 300 + 200), ("b.weight", (16 + 8) * 15), ("c.weight", 500)):
        bound = np.sqrt(6 / fans)
        assert stats.kstest(values[name].ravel(), stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3
        np.testing.assert_array_equal(values[name], values[name].astype(np.float32))
        assert np.mean(values[name] == others[name]) < 1e-3
    assert abs(np.corrcoef(values["a.weight"].ravel(), values["c.weight"].ravel())[0, 1]) < 4.5 / 60_000**0.5
    assert not np.any(values["a.bias"])
    assert values["v"] == 0


def test_minibatches_visit_each_epochs_rows_with_noise_of_their_own() -> None:
    epochs = [np.arange(5.0)[:, None], 10 + np.arange(5.0)[:, None]]
    found = list(training.minibatches(epochs, 2, 3))
    assert [len(x) for x, _ in found] == [2, 2, 1, 2, 2, 1]
    for rows, of_epoch in zip(epochs, (found[:3], found[3:]), strict=True):
        np.testing.assert_array_equal(np.sort(np.concatenate([x for x, _ in of_epoch]), axis=0), rows)
    noise = np.concatenate([noise for _, noise in found])
    assert len(np.unique(noise)) == noise.size == 30


def test_networks_in_figures_are_trained_on_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    first = []
    monkeypatch.setattr(training, "updates", lambda m, model, batches, rate: first.append(next(batches)[0]) or ())
    monkeypatch.setattr(training, "set_start", lambda *arguments: None)
    training.networks_in_figures(implementation("pytorch_impl", CHAPTERS))
    known = {row.tobytes() for row in datasets.load("digits").split()[0].x.astype(np.float64)}
    assert all(row.tobytes() in known for images in first[1:] for row in images)
