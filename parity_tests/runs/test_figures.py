"""What figures show, from what was drawn: ellipses by Mahalanobis distance, curves by SciPy, panels by their images."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse, FancyArrowPatch, FancyBboxPatch
from scipy import stats
from scipy.special import logsumexp
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from common.data import datasets
from common.figures import chapters, networks, plates, runs
from common.figures.draw import CHAPTERS, FIGURES
from common.networks import training
from common.runs.script import implementation
from parity_tests.support import oracle, rerun
from parity_tests.support.problems import as_full, mixture

FAITHFUL = rerun.table("old_faithful")
WEIGHTS = np.array([0.2, 0.5, 0.3])


@pytest.fixture(scope="module")
def maths() -> SimpleNamespace:
    return implementation("pytorch_impl", CHAPTERS)


def legend(owner: Figure | Axes) -> list[str]:
    """The entries of the legend of a figure or of a panel."""
    found = owner.legends[0] if isinstance(owner, Figure) else owner.get_legend()
    return [text.get_text() for text in found.get_texts()]


def labelled(axes: Axes) -> dict[str, np.ndarray]:
    """The points (N, 2) of the lines that have a label."""
    return {line.get_label(): line.get_xydata() for line in axes.lines if not line.get_label().startswith("_")}


def check_ellipses(axes: Axes, means: np.ndarray, covariances: np.ndarray, colours: np.ndarray | None = None) -> None:
    """Each component has an ellipse of one and one of two deviations: all its points are so far from the mean."""
    drawn = [patch for patch in axes.patches if isinstance(patch, Ellipse)]
    assert len(drawn) == 2 * len(means)
    for i, patch in enumerate(drawn):
        mean, covariance = means[i // 2], covariances[i // 2]
        circle = patch.get_path().vertices
        on_it = np.isclose(np.linalg.norm(circle, axis=1), 1)  # others are control points
        points = patch.get_patch_transform().transform(circle[on_it]) - mean
        distance = np.sqrt(np.einsum("ni,ij,nj->n", points, np.linalg.inv(covariance), points))
        np.testing.assert_allclose(distance, 1 + i % 2, rtol=1e-9)
        if colours is not None:
            np.testing.assert_allclose(patch.get_edgecolor()[:3], colours[i // 2])
    crosses = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "+"]
    np.testing.assert_allclose(crosses, means)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_a_mixture_is_drawn_where_it_lies(kind: str) -> None:
    """Of three features the first two; components by number, with their weights and colours; as many as features."""
    x, _, means, covariances = mixture(kind, n=40, d=3)
    gamma = np.random.default_rng(0).dirichlet(np.ones(3), 40)
    figure = runs.mixture(datasets.Dataset("a/t.csv", x), WEIGHTS, means, covariances, kind, gamma)
    axes, colours = figure.axes[0], runs.palette(3)
    full = as_full(covariances, kind, 3, 3)
    check_ellipses(axes, means[:, :2], full[:, :2, :2], colours)
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), x[:, :2])
    np.testing.assert_allclose(axes.collections[0].get_facecolors()[:, :3], gamma @ colours)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("feature 1", "feature 2")
    assert axes.get_title() == "t.csv: mixture of 3 Gaussians"
    assert legend(figure) == [f"$\\pi_{{{k + 1}}}$ = {WEIGHTS[k]:.3f}" for k in range(3)]
    edges = [patch.get_edgecolor()[:3] for patch in figure.legends[0].get_patches()]
    np.testing.assert_allclose(edges, colours)


def test_components_fade_with_their_weight() -> None:
    """And who has not one point is counted, not listed."""
    x, _, means, covariances = mixture(n=40, d=2)
    gamma = np.tile([0.02, 0.5, 0.48], (40, 1))
    figure = runs.mixture(datasets.Dataset("t", x), WEIGHTS, means, covariances, "full", gamma, True)
    opacities = [patch.get_alpha() for patch in figure.axes[0].patches if isinstance(patch, Ellipse)]
    assert opacities == [0.4, 0.4, 1, 1, 0.6, 0.6]
    assert legend(figure) == ["$\\pi_{2}$ = 0.500", "$\\pi_{3}$ = 0.300", "and 1 of less than a point"]


def test_one_feature_is_a_density_over_a_histogram() -> None:
    x, means, variances = FAITHFUL[:, 1:], np.array([55.0, 70, 81]), np.array([30.0, 90, 20])
    parameters = WEIGHTS, means[:, None], variances, "spherical"
    figure = runs.mixture(datasets.Dataset("t", x), *parameters, np.ones((272, 3)) / 3)
    *parts, total = figure.axes[0].lines
    grid = total.get_xdata()
    assert (grid[0], grid[-1]) == (x.min(), x.max())
    expected = WEIGHTS * stats.norm.pdf(grid[:, None], means, np.sqrt(variances))
    np.testing.assert_allclose(total.get_ydata(), expected.sum(axis=1), rtol=1e-12)
    for line, density, colour in zip(parts, expected.T, runs.palette(3), strict=True):
        np.testing.assert_allclose(line.get_ydata(), density, rtol=1e-12)
        np.testing.assert_allclose(line.get_color(), colour)
    bars = figure.axes[0].patches
    assert sum(bar.get_width() * bar.get_height() for bar in bars) == pytest.approx(1)


def test_a_trace_and_what_it_still_gains() -> None:
    """Iterations count from 1; the gain is to the last value, on a logarithmic scale."""
    trace = np.array([-9.0, -4.0, -4.5, -2.0])
    left, right = runs.log_likelihood(trace, "lower bound").axes
    np.testing.assert_array_equal(left.lines[0].get_xydata(), np.stack([[1, 2, 3, 4], trace], axis=1))
    np.testing.assert_array_equal(right.lines[0].get_xydata(), [[1, 7], [2, 2], [3, 2.5]])
    assert (left.get_title(), right.get_title()) == ("lower bound (nats)", "still to gain (nats)")
    assert (left.get_yscale(), right.get_yscale()) == ("linear", "log")


PARTS = {
    "reconstruction": ("reconstruction E[log p(x|z)]", "linear"),
    "kl": ("KL(q(z|x) || p(z))", "linear"),
    "squared_error": ("squared error per pixel", "log"),
}


@pytest.mark.parametrize("names", [["reconstruction", "kl"], ["squared_error"]])
def test_losses_in_their_panels(names: list[str]) -> None:
    parts = [{name: i + 10.0 * j for j, name in enumerate(names, 1)} for i in range(1, 5)]
    history = [{"step": 3 * i, "loss": 9.0 - i} | part for i, part in enumerate(parts, 1)]
    history[1]["held_out_loss"], history[3]["held_out_loss"] = 20.0, 18.0
    first, *others = runs.losses(history).axes
    steps = [3, 6, 9, 12]
    np.testing.assert_array_equal(labelled(first)["minibatch"], np.stack([steps, [8, 7, 6, 5]], axis=1))
    np.testing.assert_array_equal(labelled(first)["held out"], [[6, 20], [12, 18]])
    assert legend(first) == ["minibatch", "held out"]
    assert ("ELBO" in first.get_title()) == (names[0] != "squared_error")
    for axes, name in zip(others, names, strict=True):
        np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[row["step"], row[name]] for row in history])
        assert (axes.get_title(), axes.get_yscale()) == PARTS[name]


def test_reconstructions_below_their_originals() -> None:
    """By the pixels: of two images with one dark corner each, and of their paler reconstructions."""
    originals, darkness = np.zeros((2, 12)), np.array([[1.0, 1.0], [0.4, 0.4]])
    originals[0, 3] = originals[1, 8] = 1  # top right and bottom left of 3 x 4 pixels
    figure = runs.reconstructions(originals, 0.4 * originals, (3, 4))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = 1 - np.asarray(canvas.buffer_rgba())[..., :3].mean(axis=2) / 255
    for row in range(2):
        for column, (down, right) in enumerate([(0, 3), (2, 0)]):
            box = figure.axes[2 * row + column].get_window_extent()
            ends = (box.x0, box.x1, 4), (box.y1, box.y0, 3)
            x, y = (np.linspace(a, b, 2 * n + 1)[1::2].astype(int) for a, b, n in ends)
            expected = np.zeros((3, 4))
            expected[down, right] = darkness[row, column]
            np.testing.assert_allclose(pixels[-1 - y][:, x], expected, atol=0.01)
    assert [figure.axes[i].get_ylabel() for i in (0, 2)] == ["original", "reconstructed"]
    assert figure.axes[0].get_window_extent().y0 > figure.axes[2].get_window_extent().y1


def sheet(axes: Axes, shape: tuple[int, int], count: int) -> np.ndarray:
    """The images (N, H, W) of a sheet, row by row, and nothing between them."""
    (picture,) = axes.images
    array, (height, width) = np.array(picture.get_array()), shape
    side = int(np.ceil(np.sqrt(count)))
    inner = np.zeros(array.shape, dtype=bool)
    tiles = []
    for number in range(count):
        down, right = number // side * (height + 1) + 1, number % side * (width + 1) + 1
        inner[down : down + height, right : right + width] = True
        tiles.append(array[down : down + height, right : right + width])
    assert np.all(array[~inner] == 0)
    assert (picture.norm.vmin, picture.norm.vmax, picture.get_cmap().name, picture.origin) == (0, 1, "gray_r", "upper")
    return np.array(tiles)


def test_samples_stand_row_by_row() -> None:
    images = np.random.default_rng(0).random((7, 6))
    axes = runs.samples(images, (2, 3), "somewhere").axes[0]
    np.testing.assert_array_equal(sheet(axes, (2, 3), 7), images.reshape(7, 2, 3))
    assert axes.get_title() == "decoded draws from somewhere"


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_codes_are_marked_with_their_class(dimensions: int) -> None:
    """Two dimensions as they are, more by principal components, one on a line; a name at each class's median."""
    codes = np.random.default_rng(0).normal(size=(30, dimensions)) * np.arange(1, dimensions + 1)
    labels, names = np.arange(30) % 3 + 1, ("none", "cat", "dog $x$", "cow")
    axes = runs.latent_space(codes, labels, names).axes[0]
    shown = {1: lambda: np.column_stack([codes, 0 * codes]), 2: lambda: codes, 5: lambda: PCA(2).fit_transform(codes)}
    places, drawn = shown[dimensions](), [np.array(c.get_offsets()) for c in axes.collections]
    sign = np.sign((drawn[0] * places[labels == 1]).sum(axis=0)) if dimensions == 5 else 1
    for number, points in enumerate(drawn, start=1):
        np.testing.assert_allclose(points, sign * places[labels == number], atol=1e-12)
        text = axes.texts[number - 1]
        assert text.get_text() == names[number].replace("$", r"\$")
        np.testing.assert_allclose(text.xy, np.median(points, axis=0))
    colours = [c.get_facecolors()[0, :3] for c in axes.collections]
    np.testing.assert_allclose(colours, runs.palette(3))
    assert ("principal" in axes.get_xlabel()) == (dimensions == 5)


# --- The chapters' figures --------------------------------------------------------------------------------------------


def test_all_figures_have_a_test_here() -> None:
    tested = "coin mixture_density em_snapshots restarts lower_bounds components_dying_out "
    tested += "choosing_components singularity plates vae_manifold vae_latent_space vae_reconstructions vae_samples"
    assert set(FIGURES) == {*tested.split(), "samples_compared"}


def test_the_coin(maths: SimpleNamespace) -> None:
    """Beta densities of what each title says was seen, and the three estimates of it."""
    for axes, n in zip(chapters.coin(maths, maths.backend.evaluate).axes, (0, 3, 10, 100), strict=True):
        heads = np.count_nonzero(rerun.uniforms(4, "sample", (100,))[:n] < 0.7)
        assert axes.get_title() == (f"{heads} heads in {n} tosses" if n else "prior, Beta(2, 2)")
        curve, *marks = axes.lines
        theta, density = curve.get_xydata().T
        np.testing.assert_allclose(density, stats.beta(2 + heads, 2 + n - heads).pdf(theta), rtol=1e-9)
        estimates = {"MLE": heads / n} if n else {}
        estimates |= {"MAP": (heads + 1) / (n + 2), "predictive": (heads + 2) / (n + 4)}
        assert [mark.get_xdata()[0] for mark in marks] == pytest.approx(list(estimates.values()), rel=1e-12)
        assert legend(axes) == [f"{name} {value:.2f}" for name, value in estimates.items()]


def test_the_density_of_old_faithful_and_its_samples(maths: SimpleNamespace) -> None:
    """By scikit-learn's fit: the density on the grid, and samples with its moments."""
    fit = GaussianMixture(2, tol=1e-10, max_iter=500, random_state=0).fit(FAITHFUL)
    left, right, bar, _ = chapters.mixture_density(maths, maths.backend.evaluate).axes
    filled = left.collections[0]
    grid = np.stack(np.meshgrid(np.linspace(1, 5.8, 160), np.linspace(34, 104, 160)), axis=-1)
    density = np.exp(fit.score_samples(grid.reshape(-1, 2))).reshape(160, 160)
    assert filled.zmax == pytest.approx(density.max(), rel=1e-4)
    for path, *levels in zip(filled.get_paths(), filled.levels, filled.levels[1:], strict=False):
        x, y = path.vertices.T
        within = path.vertices[(x > 1.01) & (x < 5.79) & (y > 34.1) & (y < 103.9)]
        apart = np.abs(np.exp(fit.score_samples(within))[:, None] - levels).min(axis=1)
        assert apart.max() < 5e-4, "regions end where the density has their levels"
    points = right.collections[0]
    assert len(points.get_offsets()) == 400
    x = np.array(points.get_offsets())
    gamma = points.get_facecolors()[:, :3] @ np.linalg.pinv(runs.palette(2))
    expected = fit.predict_proba(x)
    swapped = np.abs(gamma - expected).max() > 0.5
    np.testing.assert_allclose(gamma, expected[:, ::-1] if swapped else expected, atol=1e-3)
    assert np.all(np.abs(x.mean(axis=0) - FAITHFUL.mean(axis=0)) < 0.2 * FAITHFUL.std(axis=0))
    np.testing.assert_allclose(np.cov(x.T), np.cov(FAITHFUL.T), rtol=0.2)
    assert (bar.get_xlabel(), left.get_ylabel()) == ("density", "waiting (minutes)")


def test_snapshots_of_em(maths: SimpleNamespace) -> None:
    """EM by hand from the same start: ellipses, shades and log likelihood after 0, 1, 2, 5 and 20 iterations."""
    parameters = np.full(2, 0.5), np.array([[2.5, 82], [4.5, 56]]), np.array([np.diag([0.15, 100])] * 2)
    panels = dict(zip((0, 1, 2, 5, 20), chapters.em_snapshots(maths, maths.backend.evaluate).axes, strict=True))
    for iteration in range(21):
        joint = oracle.log_joint(FAITHFUL, *parameters, "full")
        if axes := panels.get(iteration):
            check_ellipses(axes, *parameters[1:], runs.palette(2))
            total = logsumexp(joint, axis=0)
            assert axes.get_title() == f"iteration {iteration}\nlog p = {total.sum():.1f}"
            shades = np.exp(joint - total).T @ runs.palette(2)
            np.testing.assert_allclose(axes.collections[0].get_facecolors()[:, :3], shades, atol=1e-9)
        parameters, _ = oracle.em_iteration(FAITHFUL, *parameters, "full", 0.0)


def test_restarts_end_at_maxima(maths: SimpleNamespace) -> None:
    axes = chapters.restarts(maths, maths.backend.evaluate).axes[0]
    starts, values = axes.lines[0].get_xydata().T
    np.testing.assert_array_equal(starts, np.arange(1, 17))
    assert np.all(np.diff(values) >= 0)
    how = dict(init_params="random_from_data", tol=1e-6, max_iter=4000)
    peers = [GaussianMixture(3, random_state=seed, **how).fit(FAITHFUL) for seed in range(16)]
    expected = np.sort([peer.score(FAITHFUL) * 272 for peer in peers])
    np.testing.assert_allclose(values, expected, atol=1e-3)
    maxima = [segment[0, 1] for segment in axes.collections[0].get_segments()]
    assert axes.get_title() == f"16 starts of EM end at {len(maxima)} different maxima"
    assert max(np.min(np.abs(value - maxima)) for value in values) < 0.5
    assert np.diff(maxima).min() > 0.2
    single = stats.multivariate_normal(FAITHFUL.mean(axis=0), np.cov(FAITHFUL.T, bias=True)).logpdf(FAITHFUL).sum()
    assert f"the best, {max(values):.1f}\n(one Gaussian reaches {single:.1f})" in axes.texts[0].get_text()


def test_bounds_touch_the_curve_from_below(maths: SimpleNamespace) -> None:
    """The curve by SciPy; each bound touches it at its marker, and its top is where the next one touches."""
    axes, x = chapters.lower_bounds(maths, maths.backend.evaluate).axes[0], FAITHFUL[:, 1]
    curves, marks = labelled(axes), [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "o"]

    def log_likelihood(mean: float) -> float:
        parts = stats.norm.pdf(x[:, None], [mean, 80], np.sqrt(70))
        return np.log(parts.mean(axis=1)).sum()

    means, values = curves.pop("log likelihood").T
    np.testing.assert_allclose(values, [log_likelihood(mean) for mean in means], rtol=1e-12)
    assert list(curves) == [f"bound after E step {i}" for i in range(1, 6)]
    tops = [curve[np.argmax(curve[:, 1]), 0] for curve in curves.values()]
    for (mean, value), bound in zip(marks, curves.values(), strict=True):
        assert value == pytest.approx(log_likelihood(mean), rel=1e-12)
        above = np.interp(bound[:, 0], means, values) - bound[:, 1]
        assert above.min() > -1e-9
        nearest = np.argmin(np.abs(bound[:, 0] - mean))
        assert above[nearest] < 0.05
    np.testing.assert_allclose(tops[:-1], [mean for mean, _ in marks[1:]], atol=0.11)


def test_components_die_out(maths: SimpleNamespace) -> None:
    """Opacities are weights relative to the heaviest, bars the weights; bounds rise; two are left."""
    axes, bounds = chapters.components_dying_out(maths, maths.backend.evaluate).axes, []
    for above, below in zip(axes[:5], axes[5:], strict=True):
        weights = np.array([bar.get_height() for bar in below.patches])
        assert weights.sum() == pytest.approx(1)
        ellipses = [patch for patch in above.patches if isinstance(patch, Ellipse)]
        np.testing.assert_allclose([patch.get_alpha() for patch in ellipses], np.repeat(weights / weights.max(), 2))
        colours = [patch.get_edgecolor()[:3] for patch in ellipses[::2]]
        np.testing.assert_allclose(colours, [bar.get_facecolor()[:3] for bar in below.patches])
        bounds.append(float(above.get_title().rpartition(" ")[2]))
        x = np.array(above.collections[0].get_offsets())
        np.testing.assert_allclose(x, (FAITHFUL - FAITHFUL.mean(axis=0)) / FAITHFUL.std(axis=0), rtol=1e-12)
    assert np.all(np.diff(bounds) > 0)
    assert np.sum(weights > 0.01) == 2
    for patch, weight in zip(ellipses[::2], weights, strict=True):  # two standard clusters, of known centres
        if weight > 0.01:
            centres = [[-1.27, -1.22], [0.7, 0.67]]
            assert np.min(np.linalg.norm(np.subtract(centres, patch.center), axis=1)) < 0.1
    titles = [above.get_title().partition("\n")[0] for above in axes[:5]]
    assert titles == [f"iteration {i}" for i in (1, 5, 15, 30, 60)]


def test_the_bound_chooses(maths: SimpleNamespace) -> None:
    """The log likelihoods by scikit-learn; each number stands at its point."""
    left, right = chapters.choosing_components(maths, maths.backend.evaluate).axes
    x = (FAITHFUL - FAITHFUL.mean(axis=0)) / FAITHFUL.std(axis=0)
    for axes in (left, right):
        counts, values = axes.lines[0].get_xydata().T
        np.testing.assert_array_equal(counts, np.arange(1, 7))
        assert [text.get_text() for text in axes.texts] == [f"{value:.1f}" for value in values]
        np.testing.assert_array_equal([text.xy for text in axes.texts], axes.lines[0].get_xydata())
    expected = [GaussianMixture(k, tol=1e-4, random_state=0).fit(x).score(x) * 272 for k in (1, 2)]  # of one maximum
    np.testing.assert_allclose(values[:2], expected, rtol=1e-3)
    assert np.all(np.diff(values) > 0)
    bounds = left.lines[0].get_ydata()
    assert left.lines[1].get_xydata().tolist() == [[1 + np.argmax(bounds), max(bounds)]]
    assert left.get_title().endswith(f"highest at K = {1 + np.argmax(bounds)}")
    assert np.all(bounds < values)


def test_collapse(maths: SimpleNamespace) -> None:
    """One Gaussian and the mixture's likelihood by SciPy at every width; dashed, as high as the sensible maximum."""
    left, far, near = chapters.singularity(maths, maths.backend.evaluate).axes
    x = (FAITHFUL - FAITHFUL.mean(axis=0)) / FAITHFUL.std(axis=0)
    widths, alone = labelled(left)["one Gaussian"].T
    distance = np.square(x - x.mean(axis=0)).sum()
    expected = -272 * np.log(2 * np.pi * widths**2) - distance / (2 * widths**2)
    assert np.corrcoef(alone, expected)[0, 1] > 0.99
    for axes in (far, near):
        curves = labelled(axes)
        plain, floor = curves["log likelihood"][:, 1], curves["with reg_covar = 1e-6"][:, 1]
        assert legend(far) == ["log likelihood", "with reg_covar = 1e-6", "log posterior (MAP)", "sensible maximum"]
        assert curves["sensible maximum"][0, 1] == labelled(near)["log likelihood"][:, 1].max()
        wide = curves["log likelihood"][:, 0] > 0.1
        np.testing.assert_allclose(plain[wide], floor[wide], rtol=1e-3)
    narrow = labelled(far)["log likelihood"]
    slope = np.polyfit(np.log(narrow[:10, 0]), narrow[:10, 1], 1)[0]
    assert slope == pytest.approx(-2, rel=1e-6)  # one point's density, (2 pi sigma²)^-1, grows without bound
    assert np.ptp(labelled(far)["with reg_covar = 1e-6"][:10, 1]) < 1e-6
    assert all(axes.get_xscale() == "log" for axes in (left, far, near))


def test_plates() -> None:
    """What is observed is grey, a parameter a dot, an arrow of q dashed; arrows go where the model says."""
    arrows = ["θx", "πz zx μx Σx", "πz zx μx Λx Λμ", "zx θx φz xz"]
    for axes, expected in zip(plates.plates().axes, arrows, strict=True):
        nodes = {t.get_text(): np.array(t.get_position()) for t in axes.texts if t.get_text() not in ("N", "K")}
        circles = [patch for patch in axes.patches if isinstance(patch, Circle)]

        def at(place: Any, names: tuple = (*nodes,), places: tuple = (*nodes.values(),)) -> str:
            return names[np.argmin(np.linalg.norm(np.subtract(places, place), axis=1))]

        grey = {at(c.center) for c in circles if c.get_facecolor() == to_rgba("0.8")}
        assert grey == {"x"}
        drawn = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
        ends = ["".join(map(at, arrow._posA_posB)) for arrow in drawn]
        assert sorted(ends) == sorted(expected.split())
        boxes = [patch.get_bbox() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
        counts = [t.get_text() for t in axes.texts if t.get_text() in ("N", "K")]
        inside = [{node for node, place in nodes.items() if box.contains(*place)} for box in boxes]
        assert dict(zip(counts, inside, strict=True))["N"] == {"x", "z"} & set(nodes)
        dashed = {end for end, arrow in zip(ends, drawn, strict=True) if arrow.get_linestyle() == "--"}
        assert dashed == ({"φz", "xz"} if "φz" in ends else set())


class Stand:
    """A network of known maps: images of codes, codes of images."""

    def __init__(self, pixels: int, codes: int, shade: float) -> None:
        self.loadings, self.shade = np.random.default_rng(0).normal(size=(codes, pixels)), shade

    def encoder(self, x: np.ndarray) -> Any:
        codes = x @ self.loadings.T
        return (codes, 0 * codes) if self.shade == 0 else codes

    def decoder(self, z: np.ndarray) -> np.ndarray:
        return self.shade + z @ self.loadings


@pytest.fixture
def stands() -> SimpleNamespace:
    """Networks whose answers are known, in place of the trained ones."""
    return SimpleNamespace(
        networks_in_figures={"vae of 2": Stand(784, 2, 0), "vae": Stand(64, 16, 3.0), "autoencoder": Stand(64, 16, 5.0)}
    )


def call(function: Any, *arguments: Any) -> Any:
    return function(*arguments)


def test_pictures_of_trained_networks(stands: SimpleNamespace) -> None:
    vae, plain = stands.networks_in_figures["vae of 2"], stands.networks_in_figures["autoencoder"]
    _, held_out = datasets.load("fashion").split()
    axes = networks.vae_latent_space(stands, call).axes[0]
    for label, points in enumerate(axes.collections):
        expected = held_out.x[held_out.labels == label].astype(float) @ vae.loadings.T
        np.testing.assert_allclose(points.get_offsets(), expected, rtol=1e-9)
        assert axes.texts[label].get_text() == datasets.FASHION[label]
    panels = networks.vae_reconstructions(stands, call).axes
    for label in range(10):
        image = held_out.x[held_out.labels == label][0].astype(float)
        original, reconstructed = (panels[label + 10 * row].images[0].get_array() for row in range(2))
        np.testing.assert_array_equal(original, image.reshape(28, 28))
        np.testing.assert_allclose(reconstructed, (image @ vae.loadings.T @ vae.loadings).reshape(28, 28), rtol=1e-9)
    drawn = rerun.normals(0, "prior", (100, 2)) @ vae.loadings
    tiles = sheet(networks.vae_samples(stands, call).axes[0], (28, 28), 100)
    np.testing.assert_allclose(tiles, drawn.reshape(100, 28, 28), rtol=1e-6, atol=1e-9)
    codes, prior = plain.encoder(rerun.digits()[0][0]), rerun.normals(0, "prior", (64, 16))
    centred = codes - codes.mean(axis=0)
    like_codes = codes.mean(axis=0) + rerun.normals(0, "prior", (64, 1497)) @ centred / np.sqrt(1497)
    expected = {
        "autoencoder, codes from N(0, I)": plain.decoder(prior),
        "autoencoder, codes from a fitted Gaussian": plain.decoder(like_codes),
        "VAE, codes from its prior N(0, I)": stands.networks_in_figures["vae"].decoder(prior),
    }
    panels = networks.samples_compared(stands, call).axes
    assert [axes.get_title() for axes in panels] == list(expected)
    for axes, images in zip(panels, expected.values(), strict=True):
        np.testing.assert_allclose(sheet(axes, (8, 8), 64).reshape(64, 64), images, rtol=1e-6, atol=1e-9)


def test_a_grid_of_codes_is_even_in_probability(stands: SimpleNamespace) -> None:
    """The first code grows to the right, the second upwards; ticks stand at the middle of their image."""
    axes, loadings = networks.vae_manifold(stands, call).axes[0], stands.networks_in_figures["vae of 2"].loadings
    tiles = sheet(axes, (28, 28), 400).reshape(400, 784)
    codes = (tiles @ np.linalg.pinv(loadings)).reshape(20, 20, 2)
    quantiles = stats.norm.ppf((np.arange(20) + 0.5) / 20)
    np.testing.assert_allclose(codes[..., 0], np.tile(quantiles, (20, 1)), atol=1e-9)
    np.testing.assert_allclose(codes[..., 1], np.tile(quantiles[::-1, None], (1, 20)), atol=1e-9)
    for axis, places in ((axes.xaxis, axes.get_xticks()), (axes.yaxis, axes.get_yticks())):
        middle = np.round((places - 14.5) / 29).astype(int)
        upwards = middle if axis is axes.xaxis else 19 - middle
        np.testing.assert_allclose((places - 14.5) / 29, middle)
        assert [text.get_text() for text in axis.get_ticklabels()] == [f"{quantiles[i]:.1f}" for i in upwards]


def test_networks_in_figures_are_trained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(training, "networks_in_figures", lambda maths: calls.append(maths) or {"a": 1, "b": 2})
    maths = SimpleNamespace()
    assert [training.trained(maths, name) for name in "aba"] == [1, 2, 1]
    assert len(calls) == 1
