"""The comparison of models in miniature: both implementations agree, and its numbers are right."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from common.compare import models as compare_models
from common.compare import report as compare_report
from common.compare.models import CHAPTERS, Row, Settings
from common.parity import importance_standard_error
from common.runs import script as run_script
from parity_tests.conftest import Parity

IMPLEMENTATIONS = ("pytorch_impl", "tf2_impl")
both = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
SMALL = Settings(
    (2, 3), (1.0, 9.0), copies=2, latent_dims=(2, 3), codes=(2, 4), linear_codes=2, hidden_dim=12, images=100
)
SMALL = replace(
    SMALL, batch_size=50, learning_rate=1e-2, epochs=12, patience=4, draws=(1, 10, 500), bandwidths=(1.0, 2.0)
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
    mixture = rows["mixture of Gaussians, EM"]
    chosen = dict(mixture.chosen)
    fit = GaussianMixture(chosen["components"], reg_covar=chosen["reg_covar"], random_state=0, tol=1e-3).fit(train)
    np.testing.assert_allclose(mixture.per_image, fit.score_samples(held_out), rtol=1e-6)


@both
def test_bounds_are_bounds(implementation: str) -> None:
    rows = measured(implementation)
    for name in ("VAE, one variance", "VAE, a variance per pixel", "linear VAE"):
        elbo, *estimates = (row for model, row in rows.items() if model.startswith(f"{name}:"))
        assert elbo.kind == "lower bound"
        values = [row.per_image.mean() for row in estimates]
        assert values[1] < values[2]
        assert elbo.per_image.mean() < values[2]
        # one draw a bound is a noisy ELBO
        assert abs(values[0] - elbo.per_image.mean()) < 5 * estimates[0].monte_carlo_error
    exact, estimate = rows["linear VAE (probabilistic PCA), exact"], rows["linear VAE: importance weighted, S = 500"]
    # with a proposal trained this little, far below; never above by more than chance
    assert estimate.per_image.mean() < exact.per_image.mean() + 5 * estimate.monte_carlo_error


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


def test_the_parts_do_not_overlap() -> None:
    parts = compare_models.split(Settings())
    assert [len(part) for part in parts] == [1797 - 2 * 300, 300, 300]
    stacked = {row.tobytes() for row in parts.held_out}
    assert len(stacked & {row.tobytes() for row in np.concatenate([parts.train, parts.validation])}) == 0
    assert parts.train.max() == 16
    assert np.array_equal(parts.train, np.rint(parts.train))


def report(path: Path, implementation: str, shift: float = 0.0, settings: str = "small") -> str:
    rows = [row.as_dict() for row in measured(implementation).values()]
    rows[0]["per_image"][0] += shift
    path.write_text(json.dumps({"implementation": implementation, "settings": settings, "rows": rows}))
    return str(path)


def test_the_report(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    a, b = (report(tmp_path / f"{name}.json", name) for name in IMPLEMENTATIONS)
    assert compare_report.main([a, b, str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "pytorch_impl and tf2_impl agree" in told
    assert "check of the estimate: linear VAE" in told
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"table.md", "table.json", "comparison.png"}
    table = json.loads((tmp_path / "out" / "table.json").read_text())["rows"]
    nats = {row["model"]: row["nats"] for row in table}
    assert nats == {name: pytest.approx(row.per_image.mean()) for name, row in measured("pytorch_impl").items()}
    wrong = report(tmp_path / "wrong.json", "tf2_impl", 1e-6)
    assert compare_report.main([a, wrong, str(tmp_path / "out")]) == 1
    assert "DISAGREE" in capsys.readouterr().out


def test_bad_input_gets_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    whole = report(tmp_path / "a.json", "pytorch_impl")
    other = report(tmp_path / "b.json", "tf2_impl", settings="large")
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
