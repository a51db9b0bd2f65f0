"""Keras's own way with the TensorFlow models: compile, fit, evaluate, predict, summary, save and load."""

import io
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf2_impl.layouts as layouts
from common import draws
from common.data import datasets
from common.networks.start import gaussian_start
from tf2_impl.autoencoder import Autoencoder
from tf2_impl.vae import VAE, loss_and_gradients

TRAIN, HELD_OUT = (part.x.astype("float32") for part in datasets.load("digits").split())
CONV = {"model": "conv", "image_shape": (8, 8), "channels": 4}
MODELS = {
    "bernoulli": lambda: VAE(64, 3, 20),
    "per pixel": lambda: VAE(64, 3, 20, likelihood="gaussian", variance="per-pixel", dtype="float64"),
    "conv": lambda: VAE(64, 3, 20, likelihood="gaussian", variance=0.05, **CONV),
    "autoencoder": lambda: Autoencoder(64, 3, 20),
}
models = pytest.mark.parametrize(
    "name",
    ["bernoulli", "autoencoder", *(pytest.param(name, marks=pytest.mark.long) for name in ("per pixel", "conv"))],
)


@models
def test_a_model_is_fitted_saved_and_fitted_further(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    model.compile(optimizer=keras.optimizers.Adam(1e-2))
    history = model.fit(TRAIN, epochs=3, batch_size=256, validation_data=(HELD_OUT,), verbose=0).history
    parts = {"squared_error"} if name == "autoencoder" else {"reconstruction", "kl"}
    assert history.keys() == {"loss", "val_loss"} | parts | {f"val_{part}" for part in parts}
    assert history["loss"][-1] < history["loss"][0]
    if "kl" in parts:
        np.testing.assert_allclose(history["loss"], np.subtract(history["kl"], history["reconstruction"]), rtol=1e-5)
    predicted = model.predict(HELD_OUT, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again) is type(model)
    for found, expected in zip(again.predict(HELD_OUT, verbose=0), predicted, strict=True):
        np.testing.assert_array_equal(found, expected)
    updates = int(model.optimizer.iterations)
    assert updates == 3 * -(-len(TRAIN) // 256)
    assert again.fit(TRAIN, batch_size=256, verbose=0).history["loss"][0] < 1.02 * history["loss"][-1] + 1
    assert int(again.optimizer.iterations) == updates + -(-len(TRAIN) // 256)


def test_a_saved_model_is_loaded_in_a_new_process(tmp_path: Path) -> None:
    """Where the module is imported, and without custom_objects."""
    model = MODELS["per pixel"]()
    model.save(tmp_path / "vae.keras")
    np.save(tmp_path / "x.npy", HELD_OUT[:5])
    code = (
        "import sys, keras, numpy as np, tf2_impl.vae; m = keras.models.load_model(sys.argv[1]); "
        "np.save(sys.argv[3], m.predict(np.load(sys.argv[2]), verbose=0)[0])"
    )
    files = [str(tmp_path / name) for name in ("vae.keras", "x.npy", "out.npy")]
    subprocess.run([sys.executable, "-c", code, *files], check=True, cwd=Path(__file__).parents[2])
    np.testing.assert_array_equal(np.load(files[2]), model.predict(HELD_OUT[:5], verbose=0)[0])


def test_a_step_of_training_is_the_page_s_gradient() -> None:
    """Gradient descent at rate 1: the parameters move by `loss_and_gradients`, of the noise drawn."""
    model = VAE(64, 3, 20, dtype="float64")
    model.compile(optimizer=keras.optimizers.SGD(1.0))
    x = tf.constant(HELD_OUT[:30], "float64")
    seed = tf.identity(model.noise_generator.state.value)
    noise = keras.random.normal((30, 3), dtype="float64", seed=model.noise_generator)
    model.noise_generator.state.assign(seed)
    bound, gradients = loss_and_gradients(model, x, noise)
    before = {name: tf.identity(p) for name, p in layouts.named_parameters(model).items()}
    told = model.train_step((x,))
    for name, p in layouts.named_parameters(model).items():
        np.testing.assert_allclose(p, before[name] - gradients[name], rtol=1e-12, atol=1e-14, err_msg=name)
    assert float(told["kl"]) == pytest.approx(float(bound.kl), rel=1e-6)
    again = keras.random.normal((30, 3), dtype="float64", seed=model.noise_generator)
    assert np.abs(again - noise).min() > 0, "each batch has noise of its own"


def test_without_noise_the_code_is_its_mean() -> None:
    model = VAE(64, 3, 20, dtype="float64")
    x = tf.constant(HELD_OUT, "float64")
    output, mean, log_var = model(x)
    for found, expected in zip((output, mean, log_var), model(x, tf.zeros((len(x), 3), "float64")), strict=True):
        np.testing.assert_array_equal(found, expected)
    for found, expected in zip(model.predict(HELD_OUT, verbose=0, batch_size=77), (output, mean, log_var), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@models
def test_the_summary_counts_every_parameter(name: str) -> None:
    model, text = MODELS[name](), io.StringIO()
    model.summary(print_fn=lambda line: text.write(f"{line}\n"))
    assert "unbuilt" not in text.getvalue()
    count = sum(array.size for array in layouts.export_parameters(model).values())
    assert f"Trainable params: {count:,}" in text.getvalue()
    parts = [sum(int(np.prod(p.shape)) for p in part.trainable_variables) for part in (model.encoder, model.decoder)]
    assert min(parts) > 0
    assert all(f"{part:,}" in text.getvalue() for part in parts)


@pytest.mark.parametrize("variance", [None, "per-pixel"])
def test_a_learned_variance_starts_where_the_images_say(variance: str | None) -> None:
    """And stays where it is in a model that has one already."""
    model = VAE(64, 5, 50, likelihood="gaussian", variance=variance)
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    model.fit(TRAIN, verbose=0, batch_size=500)
    shapes = {name: array.shape for name, array in layouts.export_parameters(model).items()}
    expected = gaussian_start(shapes, TRAIN)["log_var"].astype("float32")
    np.testing.assert_array_equal(model.log_var.numpy(), expected)
    model.log_var.assign(model.log_var + 1)
    model.fit(TRAIN, verbose=0, batch_size=500)
    np.testing.assert_array_equal(model.log_var.numpy(), expected + 1)


@pytest.mark.parametrize("with_targets", [False, True])
def test_a_learned_variance_starts_where_a_data_set_s_first_images_say(with_targets: bool) -> None:
    """Its first thousand, in whole batches; an endless one is not read to its end, a generator not at all."""
    model = VAE(64, 5, 50, likelihood="gaussian")
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    data = tf.data.Dataset.from_tensor_slices((TRAIN, TRAIN) if with_targets else TRAIN).batch(300).repeat()
    model.fit(data, verbose=0, steps_per_epoch=1)
    shapes = {name: array.shape for name, array in layouts.export_parameters(model).items()}
    expected = gaussian_start(shapes, TRAIN[:1200])["log_var"].astype("float32")
    np.testing.assert_array_equal(model.log_var.numpy(), expected)
    new = VAE(64, 5, 50, likelihood="gaussian")
    new.compile(optimizer=keras.optimizers.SGD(0.0))
    seen = []
    new.fit(((seen.append(i), HELD_OUT)[1:] for i in range(2)), verbose=0)
    assert (float(new.log_var), seen) == (0, [0, 1])
    with pytest.raises(ValueError, match=r"x has shape \(1497, 8, 8\): flat images"):
        new.fit(tf.data.Dataset.from_tensor_slices(TRAIN.reshape(-1, 8, 8)).batch(2000), verbose=0)


@pytest.mark.long
@pytest.mark.parametrize("variance", [None, "per-pixel"])
def test_a_fit_uses_the_code(variance: str | None) -> None:
    keras.utils.set_random_seed(1)
    model = VAE(64, 5, 50, likelihood="gaussian", variance=variance)
    model.compile(optimizer="adam")
    history = model.fit(TRAIN, epochs=30, verbose=0, validation_data=(HELD_OUT,)).history
    assert history["val_kl"][-1] > 3


@pytest.mark.parametrize("method", ["fit", "evaluate"])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (255 * TRAIN, r"x has values from 0 to 255: likelihood='bernoulli' needs pixels in \[0, 1\]"),
        (-TRAIN, r"x has values from -1 to -?0: likelihood='bernoulli'"),
        (tf.constant(16 * TRAIN), "x has values from 0 to 16"),
        (TRAIN.reshape(-1, 8, 8), r"x has shape \(1497, 8, 8\): flat images \(N, 64\) are needed"),
        (np.full((3, 64), np.nan), "x holds NaN or infinity"),
    ],
)
def test_arrays_that_are_refused(method: str, x: np.ndarray, message: str) -> None:
    model = MODELS["bernoulli"]()
    model.compile(optimizer="adam")
    with pytest.raises(ValueError, match=f"^{message}") as error:
        getattr(model, method)(x, verbose=0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("positional", [False, True])
def test_held_out_images_are_checked_before_the_first_epoch(positional: bool) -> None:
    model = MODELS["bernoulli"]()
    model.compile(optimizer="adam")

    def fit(validation_data: object) -> None:
        if positional:  # x, y, batch_size, epochs, verbose, callbacks, validation_split, validation_data
            model.fit(TRAIN, None, 500, 1, 0, None, 0.0, validation_data)
        else:
            model.fit(TRAIN, batch_size=500, verbose=0, validation_data=validation_data)

    weights = np.ones(len(HELD_OUT))
    for held_out, message in (
        ((16 * HELD_OUT,), "validation_data: x has values from 0 to 16"),
        ((16 * HELD_OUT, HELD_OUT), "validation_data: x has values from 0 to 16"),
        (16 * HELD_OUT, "validation_data: x has values from 0 to 16"),
        ((HELD_OUT[:, :5],), "validation_data: x has shape"),
        ((HELD_OUT, HELD_OUT, weights), "validation_data: sample_weight: the objective is a plain mean"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(held_out)
    assert int(model.optimizer.iterations) == 0
    fit((HELD_OUT,))
    assert int(model.optimizer.iterations) == 3


def test_a_gaussian_model_takes_pixels_of_any_size() -> None:
    model = MODELS["per pixel"]()
    model.compile(optimizer="adam")
    assert np.isfinite(model.fit(16 * TRAIN, verbose=0).history["loss"][0])


@pytest.mark.parametrize("settings", [{"loss": "mse"}, {"metrics": ["mae"]}])
def test_other_objectives_are_refused(settings: dict) -> None:
    model = MODELS["autoencoder"]()
    model.compile(optimizer="adam", **settings)
    with pytest.raises(ValueError, match=f"compile\\({next(iter(settings))}=...\\): the model has an objective"):
        model.fit(TRAIN, verbose=0)


def test_data_sets_and_targets_are_taken_and_weights_refused() -> None:
    model = MODELS["bernoulli"]()
    model.compile(optimizer="adam")
    stream = tf.data.Dataset.from_tensor_slices((HELD_OUT, HELD_OUT)).batch(64)
    assert np.isfinite(model.fit(stream, verbose=0).history["loss"][0])
    assert np.isfinite(model.fit(HELD_OUT, HELD_OUT, verbose=0).history["loss"][0])
    with pytest.raises(ValueError, match="sample_weight: the objective is a plain mean"):
        model.fit(HELD_OUT, sample_weight=draws.uniforms(0, "sample", (len(HELD_OUT),)), verbose=0)
