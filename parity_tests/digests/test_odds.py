"""The ways of computing an update are that update in other orders; and the odds are what they are called."""

from types import SimpleNamespace

import numpy as np
import pytest

from common import draws
from common.runs.rounding import round_mixture
from parity_tests.digests import odds, ways
from parity_tests.support.lockstep import Batches, learners
from parity_tests.tolerances import LIMITS

SMALL = SimpleNamespace(hidden_dim=30, latent_dim=3, activation="tanh", likelihood="bernoulli")


def assert_one_update_in_many_ways(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """All ways agree up to rounding, a library's plain way is its own, and orders do change bits."""
    assert found.keys() == expected.keys()
    for name, values in found.items():
        assert values.shape == (*ways.WAYS, *expected[name].shape)
        np.testing.assert_array_equal(values[0, 0], expected[name])
        scale = np.abs(expected[name]).max()
        assert np.max(np.abs(values - expected[name])) < 1e-13 * scale, name
    for library in range(3):
        assert any(np.ptp(values[:, library], axis=0).any() for values in found.values()), "orders change no bit"


def test_relabelled_networks_have_the_same_gradients() -> None:
    learner = learners("bernoulli", "tanh", sizes=(64, 3, 30))[0]
    x, noise = Batches("bernoulli", sizes=(64, 3, 30))[0]
    found = ways.gradients(SMALL, learner.state(), 0, x, noise)
    assert_one_update_in_many_ways(found, learner.loss_and_gradients(x, noise)[1])


def test_permuted_points_and_features_have_the_same_mixture() -> None:
    x = draws.normals(0, "sample", (200, 5))
    start = np.array([0.25, 0.75]), x[:2], np.stack([np.eye(5), 2 * np.eye(5)])
    found = ways.em_iteration(x, *start, 1e-3)
    own = ways.torch_gmm.em_iteration(*map(ways.torch_tensor, (x, *start)), "full", 1e-3)[0]
    expected = dict(zip(found, map(np.asarray, own), strict=True))
    assert_one_update_in_many_ways(found, expected)
    rounded = round_mixture(*expected.values(), "full")
    for value, grid in zip(rounded, odds.mixture_grids(expected["covariances"]).values(), strict=True):
        np.testing.assert_array_equal(value / grid, np.rint(value / grid), "the grid is not that of round_mixture")
        assert np.any(np.rint(value / grid) % 2 == 1), "a finer grid is"


def test_odds_are_the_spread_in_grid_steps() -> None:
    """One entry that libraries move by 0.25, orders by 0.5 and instructions by 1; of two states, the other is still."""
    values = np.zeros((2, *ways.WAYS, 4))
    values[:, :, 1, 2] += 0.25
    values[:, 3, :, 2] += 0.5
    values[1, ..., 2] -= 1.0
    still = {"m|1|a": np.ones((*ways.WAYS, 4)), "closest|m": np.array(0.125)}
    levels = [still | {"m|0|a": value, "n|0|a": 9 * value} for value in values]
    expected = {"libraries": 125.0, "SIMD levels": 500.0, "orders": 250.0, "all": 875.0}
    assert odds.odds_of("m", levels) == odds.Odds(expected, 1.75, 0.125)


@pytest.mark.long
def test_no_way_leaves_the_published_file() -> None:
    for model, found in odds.measured().items():
        assert found.closest > found.widest, model
        assert model not in odds.NETWORKS or found.expected["all"] < LIMITS["expected flips"].value
