"""What users put around these models: scikit-learn's tools, torch.compile, torch.export, SavedModel."""

import io
import json
from pathlib import Path
from types import ModuleType

import joblib
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pytorch_impl.estimators as torch_estimators
import pytorch_impl.layouts as torch_layouts
import pytorch_impl.train_gmm
import pytorch_impl.vae as torch_vae
import tf2_impl.estimators as tf_estimators
import tf2_impl.layouts as tf_layouts
import tf2_impl.train_gmm
import tf2_impl.vae as tf_vae
from common import draws
from common.data import datasets
from common.runs import folder as run_folder
from common.runs.folder import read_metrics

X = datasets.load("old-faithful").x
MIXTURES = {"torch": torch_estimators.GaussianMixture, "tf2": tf_estimators.GaussianMixture}
BAYESIAN = {"torch": torch_estimators.BayesianGaussianMixture, "tf2": tf_estimators.BayesianGaussianMixture}
estimators = pytest.mark.parametrize(
    "Mixture", [*MIXTURES.values(), *BAYESIAN.values()], ids=["torch", "tf2", "torch bayesian", "tf2 bayesian"]
)
DIGITS = datasets.binarize(datasets.load("digits").x[:50])
NOISE = draws.normals(0, "noise", (50, 3))


@estimators
def test_in_a_pipeline_and_a_grid_search(Mixture: type[BaseEstimator]) -> None:
    pipeline = make_pipeline(StandardScaler(), Mixture(2, random_state=0))
    assert np.ptp(pipeline.fit(X).predict(X)) == 1
    scores = cross_val_score(pipeline, X, cv=3)
    assert np.all(np.isfinite(scores))
    search = GridSearchCV(Mixture(random_state=0), {"n_components": [1, 2]}, cv=3).fit(X)
    assert search.best_params_ == {"n_components": 2}
    assert search.best_estimator_.score(X) > search.estimator.set_params(n_components=1).fit(X).score(X)


@estimators
def test_a_fitted_estimator_survives_joblib(Mixture: type[BaseEstimator]) -> None:
    """Through a file, and in two processes at once."""
    model, file = Mixture(2, random_state=0).fit(X), io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    again = joblib.load(file)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(again.sample(5)[0], model.sample(5)[0])
    assert again.get_params() == model.get_params()


@estimators
def test_frames_keep_their_names(Mixture: type[BaseEstimator]) -> None:
    pandas = pytest.importorskip("pandas", reason="needs: pip install pandas")
    frame = pandas.DataFrame(X, columns=["eruptions", "waiting"])
    model = Mixture(2, random_state=0).fit(frame)
    assert list(model.feature_names_in_) == ["eruptions", "waiting"]
    np.testing.assert_array_equal(model.means_, Mixture(2, random_state=0).fit(X).means_)
    np.testing.assert_array_equal(model.predict(frame), model.predict(frame.copy()))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[["waiting", "eruptions"]])
    scaled = make_pipeline(StandardScaler(), Mixture(2, random_state=0)).set_output(transform="pandas")
    assert len(scaled.fit(frame).predict(frame)) == len(frame)


def vaes() -> tuple[torch_vae.VAE, tf_vae.VAE]:
    models = torch_vae.VAE(64, 3, 20, dtype="float64"), tf_vae.VAE(64, 3, 20, dtype="float64")
    values = draws.initial_values(0, {n: v.shape for n, v in torch_layouts.export_parameters(models[0]).items()})
    torch_layouts.import_parameters(models[0], values)
    tf_layouts.import_parameters(models[1], values)
    return models


def test_torch_compile_and_export() -> None:
    model, _ = vaes()
    x, noise = torch.tensor(DIGITS), torch.tensor(NOISE)
    expected = [value.detach() for value in model(x, noise)]
    rows = torch.export.Dim("rows", min=2)
    exported = torch.export.export(model, (x, noise), dynamic_shapes=({0: rows}, {0: rows}))
    compiled = torch.compile(model, backend="aot_eager")
    for found in (exported.module()(x, noise), compiled(x, noise)):
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a.detach(), b, rtol=1e-14, atol=1e-14)
    assert exported.module()(x[:7], noise[:7])[0].shape == (7, 64)


@pytest.mark.parametrize(
    "network",
    [
        {},
        {"model": "conv", "image_shape": (8, 8), "channels": 4},
        {"likelihood": "gaussian", "variance": "per-pixel", "activation": "relu"},
    ],
)
def test_keras_files(tmp_path: Path, network: dict) -> None:
    """`.keras` with `get_config`, `.weights.h5`, and a SavedModel that serves what the model computes."""
    model = tf_vae.VAE(64, 3, 20, dtype="float64", **network)
    x, noise = tf.constant(DIGITS), tf.constant(NOISE)
    expected = model(x, noise)
    model.save(tmp_path / "vae.keras")
    again = keras.models.load_model(tmp_path / "vae.keras", custom_objects={"VAE": tf_vae.VAE})
    assert json.dumps(again.get_config()) == json.dumps(model.get_config())
    model.save_weights(tmp_path / "vae.weights.h5")
    fresh = tf_vae.VAE.from_config(model.get_config())
    fresh(x, noise)
    fresh.load_weights(tmp_path / "vae.weights.h5")
    rows = [tf.TensorSpec((None, size), "float64") for size in (64, 3)]
    model.export(tmp_path / "served", input_signature=rows, verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "served"))
    for found in (again(x, noise), fresh(x, noise), loaded.serve(x, noise)):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-14, atol=1e-14)


def test_onnx_runs_within_tolerance(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs: pip install onnx onnxruntime onnxscript")
    pytest.importorskip("onnxscript", reason="needs: pip install onnx onnxruntime onnxscript")
    model, port = vaes()
    x, noise = torch.tensor(DIGITS), torch.tensor(NOISE)
    torch.onnx.export(model, (x, noise), tmp_path / "vae.onnx", dynamo=True, input_names=["x", "noise"])
    session = runtime.InferenceSession(tmp_path / "vae.onnx")
    found = session.run(None, {"x": DIGITS, "noise": NOISE})
    for a, b in zip(found, port(tf.constant(DIGITS), tf.constant(NOISE)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.figures
@pytest.mark.parametrize("train", [pytorch_impl.train_gmm, tf2_impl.train_gmm], ids=["torch", "tf2"])
def test_tensorboard_reads_a_run(tmp_path: Path, train: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each number of metrics.jsonl once, the figures, and still one events file after the run is resumed."""
    pytest.importorskip("tensorboard", reason="needs: pip install tensorboard")
    monkeypatch.setattr(run_folder, "SECONDS_BETWEEN_SAVES", 0)  # after every iteration
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = ["--out", str(tmp_path), "--tensorboard"]
    assert train.main(["--data", "old-faithful", "--tol", "0", "--steps", "3", *out]) == 0
    assert train.main(["--resume", str(tmp_path), "--steps", "5", "--tensorboard"]) == 0
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1
    events = EventAccumulator(str(tmp_path)).Reload()
    metrics = read_metrics(tmp_path)
    assert [row["step"] for row in metrics] == [1, 2, 3, 4, 5]
    for name in metrics[0].keys() - {"step", "seconds"}:
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert found == [(row["step"], np.float32(row[name])) for row in metrics]
    pictures = {path.stem: path.read_bytes() for path in tmp_path.glob("*.png")}
    assert {name: events.Images(name)[0].encoded_image_string for name in events.Tags()["images"]} == pictures
