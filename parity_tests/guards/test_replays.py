"""The book's moving figures: what is recorded is true, in both implementations, and it is what is drawn."""

import re
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from common import draws
from common.data import datasets
from common.figures import traces
from common.figures.draw import CHAPTERS
from common.figures.moving import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Panel, Part
from common.figures.replays import replays
from common.runs.script import implementation
from parity_tests.support import oracle, rerun

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
    np.testing.assert_array_equal(t["heads"], np.append(0, np.cumsum(rerun.uniforms(4, "sample", (40,)) < 0.7)))
    for i, (a, b) in enumerate(traces.PRIORS.values()):
        for n in (0, 7, 40):
            density = stats.beta(a + t["heads"][n], b + n - t["heads"][n]).pdf(t["theta"])
            np.testing.assert_allclose(t[f"density {i}"][n], density, rtol=1e-10, atol=1e-12)
            expected = (t["heads"][n] + a) / (n + a + b)
            np.testing.assert_allclose(t[f"estimates {i}"][n], [t["heads"][n] / n if n else 0.5, expected], rtol=1e-12)


def test_em_climbs_to_the_published_maximum_but_for_the_start_that_is_alike(of: SimpleNamespace) -> None:
    """-1130.264 is R's mclust for two free covariances on Old Faithful; frame n is EM by hand after n iterations."""
    t = of.em_from_four_starts
    for i, (means, covariances) in enumerate(traces.STARTS.values()):
        parameters = np.full(2, 0.5), np.array(means), np.array(covariances)
        for n in range(26):
            joint = oracle.log_joint(X, *parameters, "full")
            total = logsumexp(joint, axis=0)
            found = (t[f"{name} {i}"][n] for name in ("means", "covariances", "gamma", "log likelihood"))
            for a, b in zip(found, (*parameters[1:], np.exp(joint[0] - total), total.sum()), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-12)
            parameters, _ = oracle.em_iteration(X, *parameters, "full", 0.0)
    ends = [t[f"log likelihood {i}"] for i in range(4)]
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
    for mean, following, height in zip(t["mean 0"][::2], t["mean 0"][1::2], t["height 0"][1::2], strict=True):
        before, after = (np.log(0.5 * stats.norm([m, 80.0], np.sqrt(70)).pdf(X[:, 1:])) for m in (mean, following))
        q = np.exp(before - logsumexp(before, axis=1, keepdims=True))
        np.testing.assert_allclose(height, (q * (after - np.log(q))).sum(), rtol=1e-12)
    tops = t["trial"][t["bound 0"][1::2].argmax(axis=1)]
    np.testing.assert_allclose(t["mean 0"][1::2], tops, atol=0.26)  # the grid's half step


def test_the_hidden_coins_are_those_of_the_source(of: SimpleNamespace, trace: dict[str, np.ndarray]) -> None:
    """Do and Batzoglou (2008), figure 1b: the table of the first E step, and the biases after one and ten rounds."""
    biases = of.hidden_coins["biases 0"]
    np.testing.assert_allclose(biases[[1, 10]], [[0.71, 0.58], [0.80, 0.52]], atol=5e-3)
    each = stats.binom.pmf(np.array([5, 9, 8, 4, 7]), 10, biases[:, :, None]).mean(axis=1)  # (T, 5)
    np.testing.assert_allclose(of.hidden_coins["log likelihood 0"], np.log(each).sum(axis=1), rtol=1e-12)
    cells = replays(trace)["hidden_coins"].data()["parts"][0]["values"][0][0]
    assert cells[:5] == ["0.45", "0.80", "0.73", "0.35", "0.65"]
    assert cells[5:11] == ["2.2, 2.2", "7.2, 0.8", "5.9, 1.5", "1.4, 2.1", "4.5, 1.9", "21.3, 8.6"]
    assert cells[11:16] == ["0.55", "0.20", "0.27", "0.65", "0.35"]
    assert cells[16:] == ["2.8, 2.8", "1.8, 0.2", "2.1, 0.5", "2.6, 3.9", "2.5, 1.1", "11.7, 8.4"]


def test_gaps_begin_at_the_mean_and_end_on_the_regression(of: SimpleNamespace) -> None:
    """Each mean is that of what was observed and, in the frame before, expected."""
    t, table = of.gaps_filled, datasets.load("airquality").x
    ozone, gap = t["ozone 0"], np.isnan(table[:, 0])
    np.testing.assert_array_equal(t["temperature of gaps"], table[gap, 3])
    np.testing.assert_array_equal(t["seen"], table[~gap][:, [3, 0]])
    np.testing.assert_allclose(ozone[0], np.nanmean(table[:, 0]), rtol=1e-12)
    np.testing.assert_allclose(t["mean 0"][0], np.nanmean(table[:, 0]), rtol=1e-12)
    np.testing.assert_allclose(t["mean 0"][1:], (np.nansum(table[:, 0]) + ozone[:-1].sum(axis=1)) / 153, rtol=1e-12)
    whole = np.where(np.isnan(table), np.nanmean(table, axis=0), table)
    start = np.ones(1), whole.mean(axis=0)[None], np.diag(whole.var(axis=0))[None]
    np.testing.assert_allclose(t["log likelihood 0"][0], rerun.log_joint(table, *start, "full").sum(), rtol=1e-12)
    complete = table[~np.isnan(table).any(axis=1)]
    slopes = np.linalg.lstsq(np.c_[np.ones(len(complete)), complete[:, 1:]], complete[:, 0], rcond=None)[0]
    days = table[gap]
    whole = ~np.isnan(days[:, 1])
    expected = np.c_[np.ones(whole.sum()), days[whole, 1:]] @ slopes
    assert np.abs(ozone[-1][whole] - expected).max() < 3  # ppb: complete days alone say nearly the same


def test_a_component_collapses_unless_there_is_a_floor(of: SimpleNamespace) -> None:
    """EM by hand with one variance for each component, from the eruption that lies alone."""
    t, x = of.collapse_onto_a_point, (X - X.mean(axis=0)) / X.std(axis=0)
    for i, floor in enumerate((0.0, 1e-3)):
        parameters = np.array([0.02, 0.98]), np.stack([x[164], np.zeros(2)]), np.array([0.02, 1.0])
        for n in range(12):
            widths = t[f"covariances {i}"][n]
            np.testing.assert_allclose(widths, parameters[2][:, None, None] * np.eye(2), rtol=1e-7, atol=1e-13)
            np.testing.assert_allclose(t[f"means {i}"][n], parameters[1], rtol=1e-7, atol=1e-10)
            joint = oracle.log_joint(x, *parameters, "spherical")
            np.testing.assert_allclose(t[f"log likelihood {i}"][n], logsumexp(joint, axis=0).sum(), rtol=1e-7)
            np.testing.assert_allclose(t[f"gamma {i}"][n], np.exp(joint - logsumexp(joint, axis=0))[0], atol=1e-7)
            parameters, _ = oracle.em_iteration(x, *parameters, "spherical", floor)
    free, floored = (np.sqrt(t[f"covariances {i}"][:, 0, 0, 0]) for i in range(2))
    assert free[-1] < 1e-5
    assert floored[-1] > np.sqrt(1e-3)
    assert t["log likelihood 0"][-1] > t["log likelihood 1"].max()


def test_four_of_six_components_die_out(of: SimpleNamespace) -> None:
    """Each frame's responsibilities are those of its own posterior, which its weights say; they raise the bound."""
    t, x = of.components_die_out, (X - X.mean(axis=0)) / X.std(axis=0)
    prior = dict(concentration=1e-3, mean_precision=1.0, degrees_of_freedom=2.0, covariance=np.eye(2), reg_covar=0.0)
    counts = t["gamma 0"].sum(axis=1)  # (T, 6)
    assert (counts[0] > 1).all()
    assert (counts[-1] > 1).sum() == 2
    assert np.all(np.diff(t["bound 0"]) > -1e-9)
    for n in (0, 3, 30):
        of_components = t["weights 0"][n] * (272 + 6e-3) - 1e-3
        q = {"weight_concentration": of_components + 1e-3, "mean_precision": of_components + 1}
        q |= {"degrees_of_freedom": of_components + 2, "means": t["means 0"][n], "covariances": t["covariances 0"][n]}
        joint = rerun.expected_log_joint(x, q)
        gamma = np.exp(joint - logsumexp(joint, axis=0))
        np.testing.assert_allclose(t["gamma 0"][n], gamma.T, atol=1e-9)
        raised = rerun.variational_bound(x, gamma, q, prior)
        assert t["bound 0"][n] < raised < t["bound 0"][n + 1] if n < 30 else raised == pytest.approx(t["bound 0"][n])


def test_codes_are_those_of_a_training_in_numpy(of: SimpleNamespace) -> None:
    """The held-out codes before it and after each epoch, the mean bound of each, and the decoder's images of a grid."""
    t, ((x, _), (held_out, labels)) = of.codes_find_their_places, rerun.digits()
    x, held_out = 1.0 * (x > 0.5), 1.0 * (held_out > 0.5)
    adam = oracle.Adam(rerun.network_start(0, rerun.network_shapes(64, 64, 2, "dense", 0.0), None), 5e-3, True)
    p = adam.parameters

    def codes() -> np.ndarray:
        return oracle.affine(p, "encoder.mean", np.tanh(oracle.affine(p, "encoder.hidden", held_out)))

    np.testing.assert_array_equal(t["labels"], labels)
    for epoch in range(traces.EPOCHS):
        np.testing.assert_allclose(t["codes 0"][epoch], codes(), atol=1e-9)
        bounds = []
        for step in range(12 * epoch, 12 * epoch + 12):
            rows = draws.minibatch(0, step, 1497, 128)
            noise = draws.normals(0, "noise", (len(rows), 2), step)
            terms, gradients = oracle.terms_and_gradients(p, x[rows], noise, "tanh", "bernoulli")
            adam.update(gradients)
            bounds.append(terms["elbo"])
        np.testing.assert_allclose(t["bounds"][epoch], np.mean(bounds), rtol=1e-10)
    np.testing.assert_allclose(t["codes 0"][-1], codes(), atol=1e-9)
    grid = stats.norm.ppf((np.arange(15) + 0.5) / 15)
    z = np.array([[across, down] for down in grid for across in grid])
    logits = oracle.affine(p, "decoder.out", np.tanh(oracle.affine(p, "decoder.hidden", z)))
    np.testing.assert_allclose(t["decoded"], 1 / (1 + np.exp(-logits)), atol=1e-9)


def test_a_code_has_the_picture_that_is_decoded_from_it(of: SimpleNamespace, trace: dict[str, np.ndarray]) -> None:
    t = of.codes_find_their_places
    grid = t["grid"]
    drawn = replays(trace)["picture_of_a_code"].data()
    shades = np.array([[int(shade, 16) for shade in frame] for frame in drawn["parts"][1]["values"][0]]) / 15
    np.testing.assert_allclose(shades, t["decoded"], atol=0.034)
    shown = re.findall(r'fill="#(.)\1\1"', replays(trace)["picture_of_a_code"].svg())
    assert "".join(shown) == "".join(drawn["parts"][1]["values"][0][-1])
    panel = Panel("", (-2.2, 2.2), (-2.2, 2.2))
    np.testing.assert_allclose(drawn["parts"][0]["values"][0][3], panel.at(grid[3], grid[0]), atol=0.06)
    np.testing.assert_allclose(drawn["parts"][0]["values"][0][15], panel.at(grid[0], grid[1]), atol=0.06)


def check_paths(panel: Panel, part: Part, curves: list[list[tuple]]) -> None:
    """Each frame's path of each run goes through those of its points (x, y) that are inside the panel."""
    for frames, expected in zip(part.values, curves, strict=True):
        for (path,), (x, y) in zip(frames, expected, strict=True):
            inside = (panel.y[0] <= y) & (y <= panel.y[1])
            points = np.array([point.split() for point in path[1:].split("L")], float)
            places = np.transpose(panel.at(x, y))[inside] if inside.any() else np.zeros((1, 2))
            np.testing.assert_allclose(points, places, atol=0.51)


def check_points(panel: Panel, part: Part, frames: list[np.ndarray], run: int = 0) -> None:
    """Each frame's points (N, 2) of a run stand where they belong."""
    assert part.attributes == "cx cy"
    for values, points in zip(part.values[run], frames, strict=True):
        np.testing.assert_allclose(
            np.reshape(values, (-1, 2)), np.transpose(panel.at(*np.transpose(points))), atol=0.51
        )


def check_climb(panel: Panel, values: list[np.ndarray]) -> None:
    """A curve up to the frame, and a dot at its end; a start outside the panel is moved to its edge."""
    check_paths(panel, panel.parts[0], [[(np.arange(n + 1), v[: n + 1]) for n in range(len(v))] for v in values])
    for run, v in enumerate(values):
        ends = np.stack([np.arange(len(v)), np.clip(v, *panel.y)], axis=1)
        check_points(panel, panel.parts[1], ends[:, None], run)
        assert panel.y[0] < v[1:].min() <= v[1:].max() < panel.y[1]


def check_ellipses(panel: Panel, parts: list[Part], means: np.ndarray, covariances: np.ndarray, run: int = 0) -> None:
    """Where a component's points at two deviations are: its mean, and by the turned half axes its covariance."""
    for k, part in enumerate(parts):
        for (major, minor, turn, *_), mean, covariance in zip(
            part.values[run], means[:, k], covariances[:, k], strict=True
        ):
            across, down, angle = map(float, re.fullmatch(r"translate\((.*) (.*)\) rotate\((.*)\)", turn).groups())
            np.testing.assert_allclose([across, down], panel.at(*mean), atol=0.06)
            unit = [panel.at(1, 0)[0] - panel.at(0, 0)[0], panel.at(0, 1)[1] - panel.at(0, 0)[1]]
            turned = np.array([[np.cos(np.radians(angle))], [np.sin(np.radians(angle))]])
            axes = major**2 * turned @ turned.T + minor**2 * (np.eye(2) - turned @ turned.T)
            np.testing.assert_allclose(axes, 4 * covariance * np.outer(unit, unit), atol=0.012 * major**2 + 0.2)


def test_coins_and_bounds_are_drawn_where_they_are(of: SimpleNamespace, trace: dict[str, np.ndarray]) -> None:
    drawn, t = replays(trace), of.coin_tosses
    (panel, answers), tosses = drawn["coin_tosses"].panels, np.arange(41)
    check_paths(panel, panel.parts[0], [[(t["theta"], y) for y in t[f"density {i}"]] for i in range(3)])
    for j, first in enumerate((1, 0)):  # of no toss there is no MLE
        lines = [[places[0] for places in run] for run in panel.parts[1 + j].values]
        assert all(len(set(places)) == 1 for run in panel.parts[1 + j].values for places in run)
        values = [t[f"estimates {i}"][:, j] for i in range(3)]
        np.testing.assert_allclose(lines, panel.at(np.array(values), 0)[0], atol=0.06)
        paths = [[(tosses[first : n + 1], v[first : n + 1]) for n in range(41)] for v in values]
        check_paths(answers, answers.parts[j], paths)
    said = drawn["coin_tosses"].captions[1]
    h = int(t["heads"][7])
    assert said[7] == f"{h} heads in 7 tosses: MLE {h / 7:.2f} (dashed), prediction of full Bayes {(h + 2) / 11:.2f}"
    t, (bars, data) = of.bound_and_divergence, drawn["bound_and_divergence"].panels
    for part, low, high in (
        (bars.parts[0], bars.y[0], t["bound 0"]),
        (bars.parts[1], t["bound 0"], t["bound 0"] + t["divergence 0"]),
    ):
        heights = np.broadcast_to(bars.at(0, low)[1] - bars.at(0, high)[1], (9, 9)) * np.tri(9)
        np.testing.assert_allclose(part.values[0], heights, atol=0.06)
    tops = [float(top) for top in re.findall(r'<rect x="[^"]*" y="([^"]*)" width="[^"]*" height', bars.marks[-1])]
    np.testing.assert_allclose(tops, bars.at(0, t["bound 0"] + np.maximum(t["divergence 0"], 0))[1], atol=0.06)
    for k in range(2):
        check_paths(data, data.parts[k], [[(t["grid"], y[k]) for y in t["densities 0"]]])
    t, (panel,) = of.bound_touches_likelihood, drawn["bound_touches_likelihood"].panels
    check_paths(panel, panel.parts[0], [[(t["trial"], y) for y in t["bound 0"]]])
    check_points(panel, panel.parts[1], list(np.stack([t["mean 0"], t["height 0"]], axis=1)[:, None]))
    t, (_, biases) = of.hidden_coins, drawn["hidden_coins"].panels
    for k in range(2):
        values = t["biases 0"][:, k]
        check_paths(biases, biases.parts[2 * k], [[(np.arange(n + 1), values[: n + 1]) for n in range(11)]])
        check_points(biases, biases.parts[2 * k + 1], list(np.stack([np.arange(11), values], axis=1)[:, None]))


def test_mixtures_gaps_and_codes_are_drawn_where_they_are(of: SimpleNamespace, trace: dict[str, np.ndarray]) -> None:
    drawn = replays(trace)
    for name, runs in (("em_from_four_starts", 4), ("collapse_onto_a_point", 2)):
        t, (panel, climb) = getattr(of, name), drawn[name].panels
        points, *ellipses = panel.parts[:3]
        for run in range(runs):
            np.testing.assert_allclose(points.values[run], 100 * t[f"gamma {run}"], atol=0.51)
            check_ellipses(panel, ellipses, t[f"means {run}"], t[f"covariances {run}"], run)
        circles = re.findall(r'cx="(\d+)" cy="(\d+)"', panel.marks[0])
        np.testing.assert_allclose(np.array(circles, float), np.transpose(panel.at(*t["x"].T)), atol=0.51)
        shares = re.findall(r"--mix: (\d+)%", panel.svg(""))
        np.testing.assert_allclose(np.array(shares, float), 100 * t["gamma 0"][-1], atol=0.51)
        values = [t[f"log likelihood {i}"] for i in range(runs)]
        if name == "collapse_onto_a_point":
            values = [np.log10(np.sqrt(t[f"covariances {i}"][:, 0, 0, 0])) for i in range(runs)]
            check_points(panel, panel.parts[3], list(t["means 1"][:, :1]), 1)
        check_climb(climb, values)
    t, (panel, climb) = of.gaps_filled, drawn["gaps_filled"].panels
    across, down = panel.at(t["temperature of gaps"], t["ozone 0"])
    np.testing.assert_allclose(panel.parts[0].values[0], down, atol=0.06)
    np.testing.assert_allclose([int(a) for a in re.findall(r'cx="(\d+)" r="3.5"', panel.marks[-1])], across, atol=0.51)
    seen = re.findall(r'cx="(\d+)" cy="([-\d]+)"', panel.marks[0])
    np.testing.assert_allclose(np.array(seen, float), np.transpose(panel.at(*t["seen"].T)), atol=0.51)
    check_climb(climb, [t["log likelihood 0"]])
    t, (panel, bars) = of.components_die_out, drawn["components_die_out"].panels
    colours, *ellipses = panel.parts
    assert [list(map(int, "".join(frame))) for frame in colours.values[0]] == t["gamma 0"].argmax(axis=2).tolist()
    check_ellipses(panel, ellipses, t["means 0"], t["covariances 0"])
    assert "".join(re.findall(r"--own: var\(--c(\d)\)", panel.svg(""))) == "".join(colours.values[0][-1])
    for k, (part, ellipse) in enumerate(zip(bars.parts, ellipses, strict=True)):
        x, y, _, height = np.transpose(part.values[0])
        np.testing.assert_allclose(y, bars.at(0, t["weights 0"][:, k])[1], atol=0.06)
        np.testing.assert_allclose(y + height, bars.at(0, 0)[1], atol=0.11)
        np.testing.assert_allclose(x, bars.at(k + 0.65, 0)[0], atol=0.06)
        opacity = t["weights 0"][:, k] / t["weights 0"].max(axis=1)
        np.testing.assert_allclose([values[3] for values in ellipse.values[0]], opacity, atol=0.006)
    t, (panel, climb) = of.codes_find_their_places, drawn["codes_find_their_places"].panels
    check_points(panel, panel.parts[0], list(np.clip(t["codes 0"], -3, 3)))
    names = np.reshape(panel.parts[1].values[0][-1], (10, 3))
    assert names[:, 2].tolist() == list("0123456789")
    middles = np.stack([np.median(t["codes 0"][-1][t["labels"] == digit], axis=0) for digit in range(10)])
    np.testing.assert_allclose(names[:, :2].astype(float) - [0, 4], np.transpose(panel.at(*middles.T)), atol=0.51)
    check_climb(climb, [np.append(-np.inf, t["bounds"])])


def test_what_is_said_below_is_what_is_shown(of: SimpleNamespace, trace: dict[str, np.ndarray]) -> None:
    said = {name: replay.captions[0] for name, replay in replays(trace).items()}
    low, gap = (of.bound_and_divergence[f"{name} 0"][2] for name in ("bound", "divergence"))
    touch, gaps, dying = of.bound_touches_likelihood, of.gaps_filled, of.components_die_out
    width = np.sqrt(of.collapse_onto_a_point["covariances 0"][3, 0, 0, 0])
    left = (dying["gamma 0"][20].sum(axis=0) >= 1).sum()
    grid = of.codes_find_their_places["grid"]
    expected = {
        ("em_from_four_starts", 4): f"iteration 4: log likelihood {of.em_from_four_starts['log likelihood 0'][4]:.1f}",
        ("bound_and_divergence", 2): f"M step 1: L = {low:.1f}, KL = {gap:.1f}, log p = {low + gap:.1f}",
        ("bound_touches_likelihood", 0): f"E step 1: μ₁ = 84.00, log likelihood {touch['height 0'][0]:.2f}",
        ("bound_touches_likelihood", 1): f"M step 1: μ₁ = {touch['mean 0'][1]:.2f}, bound {touch['height 0'][1]:.2f}",
        ("hidden_coins", 1): "iteration 1: coin A 0.71, coin B 0.58",
        ("gaps_filled", 0): f"iteration 0: mean ozone 42.13 ppb, log likelihood {gaps['log likelihood 0'][0]:.2f}",
        ("collapse_onto_a_point", 3): f"iteration 3: narrowest width {width:.1e}, log likelihood "
        f"{of.collapse_onto_a_point['log likelihood 0'][3]:.1f}",
        (
            "components_die_out",
            20,
        ): f"iteration 40: bound {dying['bound 0'][20]:.1f}, {left} components have a point or more",
        ("codes_find_their_places", 0): "before training",
        ("codes_find_their_places", 2): f"epoch 2: ELBO {of.codes_find_their_places['bounds'][1]:.2f} nats an image, "
        "in the mean of the epoch",
        ("picture_of_a_code", 1): f"z = ({grid[1]:.2f}, {grid[0]:.2f})",
    }
    assert {place: said[place[0]][place[1]] for place in expected} == expected


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
    assert panel.curve(np.array([2.0, 3, 4]), np.array([-2.0, 0, 2])) == "M{:.0f} {:.1f}".format(*panel.at(3, 0))
    panel.moving("own0", ['circle r="1"', 'circle r="2"'], "cx cy", [[[0, 0, 0, 0], [1, 2, 3, 4]], [[5, 6, 7, 8]]])
    drawn = ElementTree.fromstring(panel.svg("said"))
    assert [(c.get("cx"), c.get("cy"), c.get("r")) for c in drawn.iter("circle")] == [("1", "2", "1"), ("3", "4", "2")]
    assert drawn.get("aria-label") == "a < b. said"
    _, *ticks = drawn.iter("text")
    assert [text.text for text in ticks[:5]] == ["2", "2.5", "3", "3.5", "4"]
    places = [[float(text.get("x")) for text in ticks[:5]], [float(text.get("y")) - 4 for text in ticks[5:10]]]
    np.testing.assert_allclose(places, panel.at([2, 2.5, 3, 3.5, 4], [-1, -0.5, 0, 0.5, 1]), atol=0.06)


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
