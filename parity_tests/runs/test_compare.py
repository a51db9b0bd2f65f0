"""The comparison of models in miniature: both implementations agree, and its numbers are right."""

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import logsumexp
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from common.compare import models as compare_models
from common.compare import report as compare_report
from common.compare import runs as compare_runs
from common.compare.models import CHAPTERS, Row, Settings
from common.parity import importance_standard_error
from common.runs import checkpoint
from common.runs import script as run_script
from parity_tests.conftest import Parity
from parity_tests.support import oracle, rerun

IMPLEMENTATIONS = ("pytorch_impl", "tf2_impl")
both = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
SMALL = Settings(
    (2, 3), (1.0, 9.0), copies=2, latent_dims=(2, 3), codes=(2, 4), linear_codes=2, hidden_dim=12, images=100
)
SMALL = replace(
    SMALL, batch_size=50, learning_rate=4e-2, epochs=12, patience=2, draws=(1, 10, 500), bandwidths=(1.05, 2.0)
)


@cache
def measured(implementation: str) -> dict[str, Row]:
    rows = compare_models.measure(run_script.implementation(implementation, CHAPTERS), SMALL)
    return {row.model: row for row in rows}


def test_both_implementations_give_the_same_numbers(parity: Parity) -> None:
    ours, theirs = map(measured, IMPLEMENTATIONS)
    assert list(ours) == list(theirs)
    for name, row in ours.items():
        assert row.chosen == theirs[name].chosen, name
        parity.check("log density of held-out images", "em parameters", row.per_image, theirs[name].per_image, name)


@both
def test_the_rows_are_what_they_say(implementation: str) -> None:
    """One Gaussian and the mixture by SciPy and scikit-learn, on images in grey levels, not in (0, 1)."""
    parts, rows = compare_models.split(SMALL), measured(implementation)
    v = [17 * compare_models.dequantised(parts.train, 2 + copy) for copy in range(SMALL.copies)]
    train, held_out = np.concatenate(v), 17 * compare_models.dequantised(parts.held_out, 1)
    assert np.array_equal(np.floor(held_out), parts.held_out), "the noise stays within a grey level"
    covariance = np.cov(train.T, bias=True)
    expected = stats.multivariate_normal(train.mean(axis=0), covariance).logpdf(held_out)
    np.testing.assert_allclose(rows["one Gaussian, full covariance"].per_image, expected, rtol=1e-7)
    tried = itertools.product(SMALL.components, SMALL.reg_covar)
    fits = {(k, reg): GaussianMixture(k, reg_covar=reg, random_state=0, tol=1e-3).fit(train) for k, reg in tried}
    validation = 17 * compare_models.dequantised(parts.validation, 0)
    k, reg = max(fits, key=lambda sizes: fits[sizes].score(validation))
    mixture = rows["mixture of Gaussians, EM"]
    assert mixture.chosen == {"components": k, "reg_covar": reg}
    np.testing.assert_allclose(mixture.per_image, fits[k, reg].score_samples(held_out), rtol=1e-6)


# --- The whole comparison once more, in NumPy ---------------------------------------------------------------------

D, PARTS = 64, ("train", "validation", "held_out")


@cache
def images() -> dict[str, np.ndarray]:
    """A hundred images of each part in whole grey levels: of an order of the training images the first 300 validate."""
    (x, _), (held_out, _) = rerun.digits()
    order = rerun.order(0, "validation", len(x))
    parts = x[order[300:]], x[order[:300]], held_out
    return {name: np.rint(16 * part[:100]) for name, part in zip(PARTS, parts, strict=True)}


@cache
def spread(part: str, step: int) -> np.ndarray:
    """y = (x + u) / 17."""
    return (images()[part] + rerun.uniforms(0, "dequantisation", (100, D), step)) / 17


class Peer:
    """A network trained in NumPy, with the parameters of its best epoch on the validation images."""

    def __init__(self, codes: int, model: str = "dense", variance: str | None = None, activation: str = "relu") -> None:
        self.network, self.codes = (activation, "gaussian"), codes
        shapes = rerun.network_shapes(D, SMALL.hidden_dim, codes, model, variance if model == "dense" else 0.0)
        start = rerun.network_start(0, shapes, spread("train", 2))
        adam, self.score, self.epoch = oracle.Adam(start, SMALL.learning_rate, True), -np.inf, 0
        for epoch in range(1, SMALL.epochs + 1):
            order = rerun.order(0, "order", 100, epoch - 1)
            for batch in range(2):
                rows, step = order[50 * batch : 50 * batch + 50], 2 * (epoch - 1) + batch
                noise = rerun.normals(0, "noise", (50, codes), step)
                x = spread("train", 1 + epoch)[rows]
                adam.update(oracle.terms_and_gradients(adam.parameters, x, noise, *self.network)[1])
            noise = rerun.normals(0, "validation", (100, codes))
            terms = oracle.terms_and_gradients(adam.parameters, spread("validation", 0), noise, *self.network)[0]
            score = -terms["squared_error"] if model == "autoencoder" else terms["elbo"]
            if score > self.score:
                self.p, self.score, self.epoch = adam.parameters.copy(), score, epoch
            if epoch - self.epoch >= SMALL.patience:
                break

    def sigma(self, log_var: np.ndarray) -> float:
        """A deviation in grey levels."""
        return round(17 * float(np.mean(np.sqrt(np.exp(log_var)))), 2)

    def hidden(self, layer: str, x: np.ndarray) -> np.ndarray:
        return oracle.BENDS[self.network[0]][0](oracle.affine(self.p, layer, x))

    def decoded(self, z: np.ndarray) -> np.ndarray:
        return oracle.affine(self.p, "decoder.out", self.hidden("decoder.hidden", z))

    def reconstructed(self, x: np.ndarray) -> np.ndarray:
        return self.decoded(oracle.affine(self.p, "encoder.code", self.hidden("encoder.hidden", x)))

    def log_weights(self) -> np.ndarray:
        """log p(x|z) p(z) / q(z|x) of 500 draws for every held-out image, (S, N)."""
        x, (h, p) = spread("held_out", 1), (self.hidden("encoder.hidden", spread("held_out", 1)), self.p)
        mean, deviation = oracle.affine(p, "encoder.mean", h), np.exp(oracle.affine(p, "encoder.log_var", h) / 2)
        z = mean + deviation * rerun.normals(0, "held-out", (500, 100, self.codes), 1)
        prior_to_q = (stats.norm.logpdf(z) - stats.norm.logpdf(z, mean, deviation)).sum(axis=2)
        return stats.norm.logpdf(x, self.decoded(z), np.exp(p["log_var"] / 2)).sum(axis=2) + prior_to_q

    def rows(self, name: str) -> dict[str, tuple]:
        """The rows of a VAE: the ELBO, and log p(x) from the first S draws, with the errors of both."""
        log_w, sigma = self.log_weights(), self.sigma(self.p["log_var"])
        chosen = {"codes": self.codes, "epoch": self.epoch, "sigma": sigma}
        deviation, found = np.sqrt(np.square(log_w - log_w.mean(axis=0)).sum(axis=0) / 499), {}
        found[f"{name}: ELBO"] = "lower bound", log_w.mean(axis=0), chosen, deviation / np.sqrt(500)
        for s in SMALL.draws:
            w = np.exp(log_w[:s] - log_w.max())
            errors = deviation if s == 1 else w.std(axis=0, ddof=1) / np.sqrt(s) / w.mean(axis=0)
            value = logsumexp(log_w[:s], axis=0) - np.log(s)
            found[f"{name}: importance weighted, S = {s}"] = "estimate", value, chosen, errors
        return found


@cache
def expected() -> dict[str, tuple]:
    """Kind, log density of y, choice and errors of the rows of all networks."""
    found, tried, y = {}, [], spread("held_out", 1)
    for codes in SMALL.codes:
        peer = Peer(codes, "autoencoder")
        centres = peer.reconstructed(spread("train", 2))
        variance = np.square(spread("train", 2) - centres).mean()
        own = stats.norm.logpdf(y, peer.reconstructed(y), np.sqrt(variance)).sum(axis=1)
        chosen = {"codes": codes, "epoch": peer.epoch, "sigma": peer.sigma(np.log(variance))}
        found[f"autoencoder, L = {codes}: N(x | g(f(x)), σ²I)"] = "not a density", own, chosen, np.zeros(1)
        for factor in SMALL.bandwidths:
            width = factor * variance

            def density(x: np.ndarray, centres: np.ndarray = centres, width: float = width) -> np.ndarray:
                each = stats.norm.logpdf(x[:, None], centres, np.sqrt(width)).sum(axis=2)
                return logsumexp(each, axis=1) - np.log(100)

            chosen = {"codes": codes, "sigma": peer.sigma(np.log(width))}
            tried.append((density(spread("validation", 0)).mean(), density(y), chosen))
    name = "autoencoder: mean over training images of N(x | g(f(x_m)), σ²I)"
    found[name] = "density", *max(tried, key=lambda each: each[0])[1:], np.zeros(1)
    for variance, name in ((None, "VAE, one variance"), ("per-pixel", "VAE, a variance per pixel")):
        peers = [Peer(codes, variance=variance) for codes in SMALL.latent_dims]
        found |= max(peers, key=lambda peer: peer.score).rows(name)
    linear = Peer(SMALL.linear_codes, activation="linear")
    offset, loadings = linear.decoded(np.zeros(2)), (linear.decoded(np.eye(2)) - linear.decoded(np.zeros(2))).T
    covariance = loadings @ loadings.T + np.exp(linear.p["log_var"]) * np.eye(D)
    exact, rows = stats.multivariate_normal(offset, covariance).logpdf(y), linear.rows("linear VAE")
    found["linear VAE (probabilistic PCA), exact"] = "density", exact, rows["linear VAE: ELBO"][2], np.zeros(1)
    return found | rows


@both
def test_the_networks_rows_are_those_of_numpy(implementation: str) -> None:
    """Choices on validation images, noise anew in each epoch, the best epoch's parameters, draws and errors."""
    rows = measured(implementation)
    assert list(rows)[2:] == list(expected())
    for name, (kind, log_density, chosen, errors) in expected().items():
        row = rows[name]
        assert (row.kind, row.chosen) == (kind, chosen), name
        np.testing.assert_allclose(row.per_image, log_density - D * np.log(17), rtol=1e-9, err_msg=name)
        assert row.monte_carlo_error == pytest.approx(np.sqrt(np.square(errors).sum()) / len(errors), rel=1e-7), name


def test_training_stops_when_its_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """After two epochs without a better score, before a third that would have one; the best epoch's parameters stay."""
    scores, counted = iter([1.0, 2.0, 1.0, 1.5, 9.0]), SimpleNamespace(noise_dim=1, updates=0)

    def count(maths: Any, model: Any, batches: Any, rate: float) -> Iterator[float]:
        for _ in batches:
            model.updates += 1
            yield 0.0

    monkeypatch.setattr(compare_models, "set_start", lambda *_: None)
    monkeypatch.setattr(compare_models, "updates", count)
    layouts = SimpleNamespace(export_parameters=lambda model: model.updates)
    layouts.import_parameters = lambda model, kept: vars(model).update(updates=kept)
    found = compare_models.train_network(
        SimpleNamespace(layouts=layouts), counted, compare_models.split(SMALL), SMALL, lambda _: next(scores)
    )
    assert (found, counted.updates) == ((2, 2.0), 4)  # two updates an epoch


@both
@pytest.mark.parametrize("widened", [1.0, 1.5])
def test_the_estimate_finds_a_known_evidence(implementation: str, widened: float) -> None:
    """scikit-learn's probabilistic PCA as a VAE whose encoder is the posterior: one draw gives log p(x).

    With a proposal that is too wide it takes many, and the standard error says how far they are off.
    """
    maths, grey = run_script.implementation(implementation, CHAPTERS), compare_models.split(Settings()).train
    y, latent_dim = compare_models.dequantised(grey, 2), 4
    pca = PCA(latent_dim, svd_solver="full").fit(y)
    loadings = pca.components_.T * np.sqrt(pca.explained_variance_ - pca.noise_variance_)  # (D, L), columns orthogonal
    # p(z|x) = N(M^-1 W'(x - b), s² M^-1) with M = W'W + s² I, diagonal here (Bishop 12.41, 12.42)
    m = np.sum(loadings**2, axis=0) + pca.noise_variance_
    to_mean = (loadings / m).T
    model = maths.vae.VAE(64, latent_dim, 64, "linear", "gaussian", dtype="float64")
    values = {
        "encoder.hidden.weight": np.eye(64),
        "encoder.mean.weight": to_mean,
        "encoder.mean.bias": -to_mean @ pca.mean_,
        "encoder.log_var.bias": np.log(widened * pca.noise_variance_ / m),
        "decoder.hidden.weight": loadings,
        "decoder.out.weight": np.eye(64),
        "decoder.out.bias": pca.mean_,
        "log_var": np.log(pca.noise_variance_),
    }
    zeros = {name: np.zeros_like(value) for name, value in maths.layouts.export_parameters(model).items()}
    maths.layouts.import_parameters(model, zeros | values)
    exact = pca.score_samples(y[:40])
    log_weights = compare_models.draw_log_weights(maths, model, y[:40], 1000)
    if widened == 1:
        np.testing.assert_allclose(log_weights, np.broadcast_to(exact, log_weights.shape), rtol=1e-10)
        return
    estimate = maths.backend.evaluate(maths.elbo.importance_weighted_bound, log_weights)
    errors = importance_standard_error(log_weights)
    assert 0.005 < errors.max() < 0.1
    assert np.all(np.abs(estimate - exact) < 5 * errors)
    assert abs(np.mean(estimate - exact)) < 4 * compare_models.mean_error(errors)


def test_spread_pixels_bound_the_probability_of_whole_numbers() -> None:
    """One pixel, one Gaussian: E_u[log p(x + u)] is at most log of the integral of p over the step."""
    for x in range(17):
        density = stats.norm(6.0, 2.5)
        u = (np.arange(20_000) + 0.5) / 20_000
        bound = compare_models.in_grey_levels(density.logpdf(x + u) + np.log(17), 1).mean()
        probability = integrate.quad(density.pdf, x, x + 1)[0]
        assert bound <= np.log(probability)


def small_report(path: Path, more: float = 0.0) -> str:
    """A report on three images, with numbers of which each derived one is easy to find."""
    mixture = [-100.0, -110, -120]
    each = {
        "mixture of Gaussians, EM": ("density", mixture, 0.0),
        "a | b": ("not a density", [-90.0, -90, -90], 0.0),
        "linear VAE (probabilistic PCA), exact": ("density", [-101.0, -114, -118], 0.0),
        "linear VAE: ELBO": ("lower bound", [-130.0, -130, -130], 0.5),
        "linear VAE: importance weighted, S = 1": ("estimate", [-125.0, -125, -125 - more], 0.5),
        "linear VAE: importance weighted, S = 10": ("estimate", [-110.0, -112, -114], 0.25),
    }
    rows = [Row(name, kind, np.array(x), {"codes": 2}, error).as_dict() for name, (kind, x, error) in each.items()]
    path.write_text(json.dumps({"implementation": path.stem, "settings": 1, "rows": rows}))
    return str(path)


def test_the_figures_of_the_table(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """By hand: of the exact row, 1 and 4 nats below the mixture and 2 above, a mean of -1 and a deviation of 3."""
    paths = small_report(tmp_path / "a.json"), small_report(tmp_path / "b.json", 1e-8)
    assert compare_report.main([*paths, str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert {"table.md", "table.json", "comparison.png"} <= {path.name for path in tmp_path.iterdir()}
    table = {row["model"]: row for row in json.loads((tmp_path / "table.json").read_text())["rows"]}
    exact = table["linear VAE (probabilistic PCA), exact"]
    assert (exact["nats"], exact["above_mixture"]) == (-111, -1)
    assert exact["above_mixture_error"] == pytest.approx(3 / np.sqrt(3))
    assert exact["standard_error"] == pytest.approx(np.sqrt(((10**2 + 3**2 + 7**2) / 2) / 3))
    theirs = table["linear VAE: importance weighted, S = 1"]["other_implementation"]
    assert theirs + 125 == pytest.approx(-1e-8 / 3, rel=1e-4)
    assert exact["bits_per_pixel"] == pytest.approx(111 / 64 / 0.6931471805599453)
    line = next(line for line in told.splitlines() if "exact" in line and line.startswith("|"))
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells == [exact["model"], "density", "-111.00", "5.13", "", "2.502", "-1.00 ± 1.73", "codes 2"]
    assert "a \\| b" in told, "not a column"
    estimate = "S = 10 -112.0000, -1.0000 nats, -4.0 standard errors"
    assert f"exact -111.0000; importance weighted, {estimate}" in told
    assert "an image 8.0e-11 of its row's scale, in linear VAE: importance weighted, S = 1" in told
    assert "a and b agree: " in told
    assert compare_report.main([paths[0], small_report(tmp_path / "b.json", 1e-7), str(tmp_path)]) == 1
    assert "a and b DISAGREE: " in capsys.readouterr().out


def test_the_figure_of_the_table(tmp_path: Path) -> None:
    """Points at each row's nats with two standard errors, of the estimates the last; the others over S."""
    rows = [compare_report.read(Path(small_report(tmp_path / f"{name}.json"))) for name in "ab"]
    left, right = compare_report.held_out_comparison(compare_report.table(*rows)[0]).axes
    names = [text.get_text() for text in left.get_yticklabels()]
    assert names == [row["model"] for row in rows[0]["rows"] if not row["model"].endswith("S = 1")]
    found = {}
    for container in left.containers:
        points, _, (bars,) = container.lines
        for (x, y), segment in zip(points.get_xydata(), bars.get_segments(), strict=True):
            found[names[round(y)]] = container.get_label(), x, (segment[1, 0] - segment[0, 0]) / 4
    assert len(found) == 5
    for row in rows[0]["rows"]:
        if row["model"] in found:
            label, nats, error = found[row["model"]]
            assert (nats, error) == (row["nats"], pytest.approx(row["standard_error"]))
            assert label.replace(": log p(x)", "").startswith(row["kind"])
    assert left.yaxis_inverted()
    curve, exact = right.lines
    assert curve.get_xydata().tolist() == [[1, -125], [10, -112]]
    assert (exact.get_ydata()[0], exact.get_label()) == (-111, "linear VAE, exact")


WHOLE = {"large": np.array([100.0, 200, 300]), "small": np.array([1e-3, 2e-3, -4e-3]), "zero": np.zeros(1)}
NUDGES = [  # what is changed, in which precision, whether runs then agree, and the line that says it
    ({}, 0, "reproducible", True, "0.0e+00 of its scale"),
    ({"small": [0, 0, 4e-12]}, 0, "float64", False, "1.0e-09 of its scale, in small"),
    ({"small": [0, 0, 4e-14]}, 0, "float64", True, "1.0e-11 of its scale, in small"),
    ({"small": [0, 0, 2e-6], "large": [3e-3, 0, 0]}, 0, "float32", True, "5.0e-04 of its scale, in small"),
    ({"small": [0, 0, 2e-5], "large": [0.3, 0, 0]}, 0, "float32", False, "5.0e-03 of its scale, in small"),
    ({"large": [2e-14, 0, 0]}, 0, "reproducible", False, "in large"),
    ({"zero": [-0.0]}, 0, "float64", True, "0.0e+00 of its scale"),
    ({"zero": [-0.0]}, 0, "reproducible", False, "0.0e+00 of its scale"),
    ({}, 1, "float64", False, "after 7 and 8 steps"),
]


@pytest.mark.parametrize(("nudge", "more", "precision", "agree", "line"), NUDGES)
def test_runs_are_judged_by_the_tensor_that_is_farthest_off(
    tmp_path: Path, nudge: dict, more: int, precision: str, agree: bool, line: str, capsys: pytest.CaptureFixture
) -> None:
    for name, moved in (("a", {}), ("b", nudge)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"precision": precision}))
        losses = [10.0, 20.0, 30.0][: 2 if name == "a" else 3]
        rows = ({"step": i, "loss": loss + (name == "b") * i**2 / 100} for i, loss in enumerate(losses, start=1))
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        arrays = {key: value + moved.get(key, 0.0) for key, value in WHOLE.items()}
        arrays |= {"zero": np.array(moved.get("zero", [0.0]))}
        checkpoint.save(tmp_path / name / "checkpoint.safetensors", arrays, 7 + more * (name == "b"), {})
    assert compare_runs.main([str(tmp_path / "a"), str(tmp_path / "b")]) == 1 - agree
    told = capsys.readouterr().out
    assert f"{tmp_path / 'b'}: {'agree' if agree else 'DISAGREE'}, {precision}, after 7 and {7 + more} steps" in told
    assert line in told
    assert "loss, largest relative difference at any step   2.0e-03" in told, "of the steps that both have"
    changed = sum(np.count_nonzero(values) or 1 for values in nudge.values())
    assert f"entries that are equal to the bit   {7 - changed} of 7" in told
    for name in "ab":
        content = (tmp_path / name / "checkpoint.safetensors").read_bytes()
        assert f"sha256 {hashlib.sha256(content).hexdigest()}  {tmp_path / name}" in told
    for arguments in ([], [str(tmp_path / "a"), str(tmp_path / "none")]):
        assert compare_runs.main(arguments) == 2


def test_bad_input_gets_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    whole, other = small_report(tmp_path / "a.json"), small_report(tmp_path / "b.json")
    Path(other).write_text(Path(other).read_text().replace('"settings": 1', '"settings": 2'))
    (tmp_path / "half.json").write_text(Path(whole).read_text()[:-99])
    cases = [
        (compare_report, [], "name a .json file and another and a folder"),
        (compare_report, [whole, str(tmp_path / "half.json"), str(tmp_path)], "half.json: is not a comparison"),
        (compare_report, [whole, str(tmp_path / "none.json"), str(tmp_path)], "none.json: is not a comparison"),
        (compare_report, [whole, other, str(tmp_path)], "measured with other settings; run both anew"),
        (compare_report, [whole, whole, "/proc/out"], "cannot be written"),
        (compare_models, [], "name an implementation and"),
        (compare_models, ["jax_impl", "x.json"], "name an implementation"),
        (compare_models, ["pytorch_impl", "/proc/out/x.json"], "cannot be written"),
    ]
    for module, arguments, message in cases:
        assert module.main(arguments) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert message in line
