"""The book's moving figures: what is recorded is true, in both implementations, and it is what is drawn."""

import re
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from common.data import datasets
from common.figures import traces
from common.figures.draw import CHAPTERS
from common.figures.moving import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Panel
from common.figures.replays import replays
from common.runs.script import implementation

X = datasets.load("old-faithful").x


def recorded(package: str, functions: tuple) -> dict[str, np.ndarray]:
    """Traces of one implementation, named as in its file."""
    maths = implementation(package, CHAPTERS)
    with maths.backend.device("cpu", 1):
        found = {f.__name__: f(maths, maths.backend.evaluate) for f in functions}
    return {f"{name}/{key}": array for name, trace in found.items() for key, array in trace.items()}


@pytest.fixture(scope="module")
def trace() -> dict[str, np.ndarray]:
    """Every trace, by PyTorch."""
    return recorded("pytorch_impl", traces.TRACES)


@pytest.fixture(scope="module")
def of(trace: dict[str, np.ndarray]) -> SimpleNamespace:
    """The arrays of each trace."""
    groups = {key.partition("/")[0]: {} for key in trace}
    for key, array in trace.items():
        groups[key.partition("/")[0]][key.partition("/")[2]] = array
    return SimpleNamespace(**groups)


def test_both_implementations_record_the_same(trace: dict[str, np.ndarray], tmp_path) -> None:
    quick = traces.TRACES[:5]
    files = [tmp_path / "torch.npz", tmp_path / "tf2.npz"]
    np.savez(files[0], **{k: a for k, a in trace.items() if k.partition("/")[0] in {f.__name__ for f in quick}})
    theirs = recorded("tf2_impl", quick)
    np.savez(files[1], **theirs)
    assert traces.agreed(files).keys() == theirs.keys()
    moved = theirs["hidden_coins/biases 0"] + [1e-7, 0]
    for wrong in ({"hidden_coins/biases 0": moved}, {"hidden_coins/biases 0": np.nan * moved}, {"another": moved}):
        np.savez(files[1], **theirs | wrong)
        with pytest.raises(ValueError, match=r"torch.npz and .*tf2.npz are .* apart|another"):
            traces.agreed(files)
    with pytest.raises(ValueError, match="there are no recorded traces"):
        traces.agreed([tmp_path / "none.npz"])


def test_the_coins_beliefs_are_beta_densities(of: SimpleNamespace) -> None:
    t = of.coin_tosses
    for i, (a, b) in enumerate(traces.PRIORS.values()):
        for n in (0, 7, 40):
            density = stats.beta(a + t["heads"][n], b + n - t["heads"][n]).pdf(t["theta"])
            np.testing.assert_allclose(t[f"density {i}"][n], density, rtol=1e-10, atol=1e-12)
            expected = (t["heads"][n] + a) / (n + a + b)
            np.testing.assert_allclose(t[f"estimates {i}"][n], [t["heads"][n] / n if n else 0.5, expected], rtol=1e-12)


def test_em_climbs_to_the_published_maximum_but_for_the_start_that_is_alike(of: SimpleNamespace) -> None:
    """-1130.264 is R's mclust for two free covariances on Old Faithful."""
    ends = [of.em_from_four_starts[f"log likelihood {i}"] for i in range(4)]
    assert all(np.all(np.diff(values) > -1e-9) for values in ends)
    np.testing.assert_allclose([values[-1] for values in ends[:3]], -1130.264, atol=2e-3)
    one = stats.multivariate_normal(X.mean(axis=0), np.cov(X.T, ddof=0)).logpdf(X).sum()
    np.testing.assert_allclose(ends[3][-1], one, rtol=1e-12)


def test_bound_and_divergence_add_up_to_the_log_likelihood(of: SimpleNamespace) -> None:
    t = of.bound_and_divergence
    weights, means, deviation = np.array([0.5, 0.5]), np.array([60.0, 75.0]), np.sqrt(90.0)
    total = np.log(stats.norm(means, deviation).pdf(X[:, 1:]) @ weights).sum()
    sums = t["bound 0"] + t["divergence 0"]
    np.testing.assert_allclose(sums[:2], total, rtol=1e-12)  # an E step moves the bound alone
    np.testing.assert_allclose(t["divergence 0"][1::2], 0, atol=1e-9)
    assert np.all(np.diff(sums)[1::2] > 0)
    first = np.stack([0.5 * stats.norm(mean, deviation).pdf(t["grid"]) for mean in means])
    np.testing.assert_allclose(t["densities 0"][0], first, rtol=1e-12)


def test_a_bound_touches_the_likelihood_where_it_was_made(of: SimpleNamespace) -> None:
    t = of.bound_touches_likelihood

    def log_likelihood(mean: float) -> float:
        return np.log(0.5 * stats.norm([mean, 80.0], np.sqrt(70)).pdf(X[:, 1:]).sum(axis=1)).sum()

    curve = np.array([log_likelihood(value) for value in t["trial"]])
    np.testing.assert_allclose(t["log likelihood"], curve, rtol=1e-12)
    np.testing.assert_allclose(t["height 0"][::2], [log_likelihood(mean) for mean in t["mean 0"][::2]], rtol=1e-12)
    assert np.all(t["bound 0"] <= curve + 1e-9)
    tops = t["trial"][t["bound 0"][1::2].argmax(axis=1)]
    np.testing.assert_allclose(t["mean 0"][1::2], tops, atol=0.26)  # the grid's half step


def test_the_hidden_coins_are_those_of_the_source(of: SimpleNamespace, trace: dict[str, np.ndarray]) -> None:
    """Do and Batzoglou (2008), figure 1b: the table of the first E step, and the biases after one and ten rounds."""
    biases = of.hidden_coins["biases 0"]
    np.testing.assert_allclose(biases[[1, 10]], [[0.71, 0.58], [0.80, 0.52]], atol=5e-3)
    cells = replays(trace)["hidden_coins"].data()["parts"][0]["values"][0][0]
    assert cells[:5] == ["0.45", "0.80", "0.73", "0.35", "0.65"]
    assert cells[5:11] == ["2.2, 2.2", "7.2, 0.8", "5.9, 1.5", "1.4, 2.1", "4.5, 1.9", "21.3, 8.6"]
    assert cells[11:16] == ["0.55", "0.20", "0.27", "0.65", "0.35"]
    assert cells[16:] == ["2.8, 2.8", "1.8, 0.2", "2.1, 0.5", "2.6, 3.9", "2.5, 1.1", "11.7, 8.4"]


def test_gaps_begin_at_the_mean_and_end_on_the_regression(of: SimpleNamespace) -> None:
    ozone, table = of.gaps_filled["ozone 0"], datasets.load("airquality").x
    np.testing.assert_allclose(ozone[0], np.nanmean(table[:, 0]), rtol=1e-12)
    complete = table[~np.isnan(table).any(axis=1)]
    slopes = np.linalg.lstsq(np.c_[np.ones(len(complete)), complete[:, 1:]], complete[:, 0], rcond=None)[0]
    days = table[np.isnan(table[:, 0])]
    whole = ~np.isnan(days[:, 1])
    expected = np.c_[np.ones(whole.sum()), days[whole, 1:]] @ slopes
    assert np.abs(ozone[-1][whole] - expected).max() < 3  # ppb: complete days alone say nearly the same


def test_a_component_collapses_unless_there_is_a_floor(of: SimpleNamespace) -> None:
    free, floored = (np.sqrt(of.collapse_onto_a_point[f"covariances {i}"][:, 0, 0, 0]) for i in range(2))
    assert free[-1] < 1e-5
    assert floored[-1] > np.sqrt(1e-3)
    assert of.collapse_onto_a_point["log likelihood 0"][-1] > of.collapse_onto_a_point["log likelihood 1"].max()


def test_four_of_six_components_die_out(of: SimpleNamespace) -> None:
    counts = of.components_die_out["gamma 0"].sum(axis=1)  # (T, 6)
    assert (counts[0] > 1).all()
    assert (counts[-1] > 1).sum() == 2
    assert np.all(np.diff(of.components_die_out["bound 0"]) > -1e-9)


def test_a_code_has_the_picture_of_the_digits_around_it(of: SimpleNamespace, trace: dict[str, np.ndarray]) -> None:
    t, images = of.codes_find_their_places, datasets.load("digits").split()[1].x
    codes, grid, side = t["codes 0"][-1], t["grid"], traces.SIDE
    across, down = (np.abs(codes[:, j, None] - grid).argmin(axis=1) for j in range(2))
    right, swapped = (
        np.square(images - t["decoded"][place]).sum(axis=1) for place in (across + side * down, down + side * across)
    )
    assert right.mean() < 0.7 * swapped.mean()
    drawn = replays(trace)["picture_of_a_code"].data()
    shades = np.array([[int(shade, 16) for shade in frame] for frame in drawn["parts"][1]["values"][0]]) / 15
    np.testing.assert_allclose(shades, t["decoded"], atol=0.034)
    panel = Panel("", (-2.2, 2.2), (-2.2, 2.2))
    np.testing.assert_allclose(drawn["parts"][0]["values"][0][3], panel.at(grid[3], grid[0]), atol=0.06)


def test_a_panel_puts_numbers_where_its_axes_say() -> None:
    panel = Panel("a < b", (2, 4), (-1, 1), ("x", "y"))
    np.testing.assert_allclose(
        panel.at([2, 4, 3], [-1, 1, 0]),
        [[LEFT, WIDTH - RIGHT, (LEFT + WIDTH - RIGHT) / 2], [HEIGHT - BOTTOM, TOP, (TOP + HEIGHT - BOTTOM) / 2]],
    )
    per_unit = np.array([(WIDTH - LEFT - RIGHT) / 2, (HEIGHT - TOP - BOTTOM) / 2])
    major, minor, turn = panel.ellipse([3, 0], np.diag([0.04, 0.01]))
    np.testing.assert_allclose([major, minor], 2 * per_unit * [0.2, 0.1], atol=0.06)
    assert float(re.search(r"rotate\((.*)\)", turn)[1]) % 180 == 0
    tall = Panel("", (0, WIDTH - LEFT - RIGHT), (0, HEIGHT - TOP - BOTTOM))  # a pixel a unit: angles are kept
    turned = np.array([[2.5, 1.5], [1.5, 2.5]])  # variance 4 along (1, 1), which is up to the right: -45 degrees in SVG
    major, minor, turn = tall.ellipse([0, 0], turned)
    assert (major, minor) == (4.0, 2.0)
    assert float(re.search(r"rotate\((.*)\)", turn)[1]) % 180 == 135
    x, y, width, height = panel.bar(3, 1, -1, 0)
    np.testing.assert_allclose([x, y], panel.at(2.5, 0), atol=0.06)
    np.testing.assert_allclose([width, height], per_unit, atol=0.06)
    panel.moving("own0", ['circle r="1"', 'circle r="2"'], "cx cy", [[[0, 0, 0, 0], [1, 2, 3, 4]], [[5, 6, 7, 8]]])
    drawn = ElementTree.fromstring(panel.svg("said"))
    assert [(c.get("cx"), c.get("cy"), c.get("r")) for c in drawn.iter("circle")] == [("1", "2", "1"), ("3", "4", "2")]
    assert drawn.get("aria-label") == "a < b. said"
    assert [text.text for text in drawn.iter("text")][1:6] == ["2", "2.5", "3", "3.5", "4"]


def test_every_frame_of_every_run_has_all_its_values(trace: dict[str, np.ndarray]) -> None:
    for name, replay in replays(trace).items():
        data = replay.data()
        assert len(data["runs"]) == len(data["captions"]), name
        groups = re.findall(r'<g class="part[^"]*">(.*?)</g>', replay.svg())
        assert len(groups) == len(data["parts"]), name
        for group, part in zip(groups, data["parts"], strict=True):
            marks = len(re.findall(r"<[a-z]", group))
            for captions, values in zip(data["captions"], part["values"], strict=True):
                assert len(captions) == len(values), name
                assert {len(frame) for frame in values} == {marks * len(part["set"].split())}, (name, part["set"])
        ElementTree.fromstring(f"<div>{replay.svg()}</div>")
