"""Parameters cross between the frameworks, state_dicts and checkpoints, and the model stays the same."""

from types import ModuleType

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import tensorflow as tf
import torch

from common import draws
from parity_tests.conftest import Parity
from parity_tests.support import models as of_models
from parity_tests.support.frameworks import arrays, both, is_torch, pair, tensor, tensors

SIZES = {"data_dim": 60, "latent_dim": 3, "hidden_dim": 20}
MODELS = {
    "dense": ("VAE", {"likelihood": "gaussian"}),
    "conv": ("VAE", {"likelihood": "gaussian", "model": "conv", "image_shape": (6, 10), "channels": 4}),
    "autoencoder": ("Autoencoder", {}),
}
SHAPES = {
    "dense": {
        "decoder.hidden.weight": (20, 3),
        "decoder.out.weight": (60, 20),
        "encoder.hidden.weight": (20, 60),
        "encoder.log_var.weight": (3, 20),
        "encoder.mean.weight": (3, 20),
    },
    "conv": {  # 6 x 10 -> 3 x 5 -> 2 x 3
        "decoder.conv_transpose1.weight": (8, 4, 3, 3),
        "decoder.conv_transpose2.weight": (4, 1, 3, 3),
        "decoder.features.weight": (48, 20),
        "decoder.hidden.weight": (20, 3),
        "encoder.conv1.weight": (4, 1, 3, 3),
        "encoder.conv2.weight": (8, 4, 3, 3),
        "encoder.hidden.weight": (20, 48),
        "encoder.log_var.weight": (3, 20),
        "encoder.mean.weight": (3, 20),
    },
    "autoencoder": {
        "decoder.hidden.weight": (20, 3),
        "decoder.out.weight": (60, 20),
        "encoder.code.weight": (3, 20),
        "encoder.hidden.weight": (20, 60),
    },
}
kinds = pytest.mark.parametrize("kind", MODELS)


def same(kind: str, dtype: str = "float64") -> list:
    """The model in both frameworks, all its parameters drawn, biases too."""
    name, arguments = MODELS[kind]
    return of_models.same(name.lower(), name, 0, True, **SIZES, **arguments, dtype=dtype)


def images(dtype: str = "float64") -> np.ndarray:
    """Five images of 60 pixels."""
    return draws.uniforms(0, "sample", (5, 60)).astype(dtype)


@kinds
def test_parameters_cross_over_unchanged(parity: Parity, kind: str, dtype: str) -> None:
    models, layouts = same(kind, dtype), pair("layouts")
    shapes = {name: value.shape for name, value in layouts[0].export_parameters(models[0]).items()}
    drawn = {name: draws.normals(0, "sample", (1, *shapes[name]), i)[0] for i, name in enumerate(shapes)}
    values = {name: value.astype(dtype) for name, value in drawn.items()}
    for page, model in zip(layouts, models, strict=True):
        page.import_parameters(model, values)
    ours, theirs = (page.export_parameters(model) for page, model in zip(layouts, models, strict=True))
    for name, value in values.items():
        for exported in (ours, theirs):
            np.testing.assert_array_equal(exported[name], value)
        parity.check("export_parameters", "output", ours[name], theirs[name], f"{kind} {name}")
        parity.check("import_parameters and back", "output", value, theirs[name], f"{kind} {name}")


@kinds
def test_names_and_layouts_are_state_dicts(kind: str) -> None:
    """What TensorFlow exports is a model that PyTorch loads, and both then have the same objective."""
    ours, theirs = same(kind)
    exported = pair("layouts")[1].export_parameters(theirs)
    name, arguments = MODELS[kind]
    fresh = getattr(pair(name.lower())[0], name)(**SIZES, **arguments, dtype="float64")
    fresh.load_state_dict(safetensors.torch.load(safetensors.numpy.save(exported)))
    batch = images(), draws.normals(0, "noise", (5, ours.noise_dim))
    terms = [arrays(m.objective(*tensors(p, *batch))) for p, m in zip(of_models.LAYOUTS, (ours, theirs), strict=True)]
    np.testing.assert_array_equal(arrays(fresh.objective(*map(torch.tensor, batch))), terms[0])
    np.testing.assert_allclose(terms[1], terms[0], rtol=1e-12)
    assert {name: value.shape for name, value in exported.items() if name.endswith(".weight")} == SHAPES[kind]
    assert exported.get("log_var", np.zeros(())).shape == ()


def test_a_fixed_variance_is_not_a_parameter() -> None:
    """It is an argument of the model, and not part of what is stored."""
    fixed = pair("vae")[0].VAE(**SIZES, likelihood="gaussian", variance=0.3)
    assert sorted(fixed.state_dict()) == list(pair("layouts")[0].named_parameters(fixed))


def test_the_flattened_axis_counts_channels_first() -> None:
    """One unit of the hidden layer that looks at one place of one channel only."""
    (a, b), x = same("conv"), images()
    features = torch.tanh(a.encoder.conv2(torch.tanh(a.encoder.conv1(torch.tensor(x).reshape(-1, 1, 6, 10)))))
    channel, row, column = 5, 1, 2
    values = pair("layouts")[0].export_parameters(a)
    values |= {
        name: np.zeros_like(values[name])
        for name in ("encoder.hidden.weight", "encoder.hidden.bias", "encoder.mean.weight", "encoder.mean.bias")
    }
    values["encoder.hidden.weight"][0, (channel * 2 + row) * 3 + column] = 1.0
    values["encoder.mean.weight"][0, 0] = 1.0
    expected = np.tanh(features.detach().numpy()[:, channel, row, column])
    for page, model in zip(pair("layouts"), (a, b), strict=True):
        page.import_parameters(model, values)
        np.testing.assert_allclose(arrays(model.encode(tensor(page, x)))[0][:, 0], expected, rtol=0, atol=1e-14)


@both("layouts")
def test_parameters_are_copied_from_tensors_of_either_framework(module: ModuleType) -> None:
    """What was exported, a checkpoint, stays as it was."""
    model = same("dense", "float32")[not is_torch(module)]
    exported = module.export_parameters(model)
    before = {name: value.copy() for name, value in exported.items()}
    for of in (torch.tensor, lambda array: torch.nn.Parameter(torch.tensor(array)), tf.constant, tf.Variable):
        module.import_parameters(model, {name: np.zeros_like(value) for name, value in before.items()})
        module.import_parameters(model, {name: of(value + 1) for name, value in before.items()})
        for name, value in module.export_parameters(model).items():
            np.testing.assert_array_equal(value, before[name] + 1)
            np.testing.assert_array_equal(exported[name], before[name])


@both("layouts")
def test_parameters_that_do_not_fit_are_refused(module: ModuleType) -> None:
    """And none is set."""
    model = same("conv")[not is_torch(module)]
    values = module.export_parameters(model)
    changed = {name: value + 1 for name, value in values.items()}
    for name, wrong in {
        "decoder.features.bias": (2, 3, 8),
        "encoder.conv1.weight": (3, 3, 1, 4),
        "encoder.hidden.weight": (48, 20),
        "encoder.mean.bias": (7,),
    }.items():
        with pytest.raises(ValueError, match=f"{name} has shape ") as error:
            module.import_parameters(model, changed | {name: np.zeros(wrong)})
        assert str(error.value) == f"parameter {name} has shape {wrong}, not {values[name].shape}"
    del changed["log_var"]
    for arguments, name in ((changed, "log_var"), (values | {"scale": np.zeros(())}, "scale")):
        with pytest.raises(ValueError, match=rf"^parameters \['{name}'\] are not in both: use the same architecture$"):
            module.import_parameters(model, arguments)
    for name, value in module.export_parameters(model).items():
        np.testing.assert_array_equal(value, values[name])
