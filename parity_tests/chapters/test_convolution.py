"""The convolutional VAE: layers against SciPy and each other's adjoint, gradients, updates, the bound."""

from types import ModuleType

import numpy as np
import pytest
import torch
from scipy import signal

from common import draws
from common.data import datasets
from parity_tests.conftest import Parity
from parity_tests.support import models as of_models
from parity_tests.support.frameworks import arrays, both, is_torch, sibling, tensor
from parity_tests.support.lockstep import CASES
from parity_tests.support.oracle import BENDS, affine

SIZES = [(8, 8), (7, 7), (28, 28), (6, 10), (9, 4), (5, 1), (1, 1), (2, 3)]
sizes = pytest.mark.parametrize("size", SIZES, ids=[f"{h}x{w}" for h, w in SIZES])


def same(dtype: str, size: tuple[int, int] = (8, 8), seed: int = 0, latent_dim: int = 3, **arguments) -> list:
    """The conv model of these images, with 4 channels, in both frameworks."""
    arguments = {"hidden_dim": 20, "channels": 4, "model": "conv", "image_shape": size, "dtype": dtype} | arguments
    return of_models.same("vae", "VAE", seed, True, data_dim=size[0] * size[1], latent_dim=latent_dim, **arguments)


class Images:
    """Minibatches of digits, or of smooth spots where the size is another; and noise."""

    def __init__(self, case: str, dtype: str = "float64", size: tuple[int, int] = (8, 8), n: int = 32) -> None:
        self.case, self.dtype, self.size, self.n = case, dtype, size, n

    def __getitem__(self, step: int) -> of_models.Batch:
        if self.size == (8, 8):
            digits = datasets.load("digits").x
            x = digits[draws.minibatch(0, step, len(digits), self.n)]
        else:
            rows, columns = np.indices(self.size)
            centre = draws.uniforms(0, "sample", (self.n, 2), step) * self.size
            distance = (rows - centre[:, :1, None]) ** 2 + (columns - centre[:, 1:, None]) ** 2
            x = np.exp(-distance / 8).reshape(self.n, -1)
        x = datasets.binarize(x) if self.case == "bernoulli" else x
        return x.astype(self.dtype), draws.normals(0, "noise", (len(x), 3), step).astype(self.dtype)


def apply_layer(module: ModuleType, kind: str, weight: np.ndarray, bias: np.ndarray, x: np.ndarray, size: tuple):
    """A layer with weights in the canonical layout, on images (N, C, H, W); gives (N, O, H', W')."""
    if kind == "conv":
        layer = module.Convolution(weight.shape[1], weight.shape[0], "float64")
    else:
        layer = module.TransposedConvolution(weight.shape[0], weight.shape[1], size, "float64")
    if is_torch(module):
        layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
        return layer(torch.tensor(x)).detach().numpy()
    native = sibling(module, "layouts").native
    layer.kernel.assign(native(f"part.{kind}1.weight", weight, layer.kernel.value))
    layer.bias.assign(bias)
    return layer(tensor(module, x.transpose(0, 2, 3, 1))).numpy().transpose(0, 3, 1, 2)


@both("convolution")
@sizes
def test_a_convolution_is_scipys_correlation(module: ModuleType, size: tuple[int, int]) -> None:
    """Every second value of correlate2d, with the zeros of "SAME": as many as needed, the odd one last."""
    x = draws.normals(0, "sample", (2, 3, *size))
    weight, bias = draws.normals(1, "sample", (4, 3, 3, 3)), draws.normals(2, "sample", (4,))
    zeros = []
    for n in size:
        outputs = -(-n // 2)
        total = max((outputs - 1) * 2 + 3 - n, 0)
        zeros.append((total // 2, total - total // 2))
    expected = np.empty((2, 4, *(-(-n // 2) for n in size)))
    for image in range(2):
        for out in range(4):
            planes = [
                signal.correlate2d(np.pad(x[image, c], zeros), weight[out, c], mode="valid")[::2, ::2] for c in range(3)
            ]
            expected[image, out] = np.sum(planes, axis=0) + bias[out]
    ours = apply_layer(module, "conv", weight, bias, x, size)
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-14)


@both("convolution")
@sizes
def test_the_transposed_convolution_is_the_adjoint(module: ModuleType, size: tuple[int, int]) -> None:
    """<conv(x), y> = <x, conv'(y)> with one array of weights for both; the bias is added to every pixel."""
    x, weight = draws.normals(0, "sample", (2, 3, *size)), draws.normals(1, "sample", (4, 3, 3, 3))
    forth = apply_layer(module, "conv", weight, np.zeros(4), x, size)
    y = draws.normals(2, "sample", forth.shape)
    back = apply_layer(module, "conv_transpose", weight, np.zeros(3), y, size)
    assert back.shape == x.shape
    assert np.sum(forth * y) == pytest.approx(np.sum(x * back), rel=1e-12)
    bias = np.array([1.0, -2.0, 3.0])
    shifted = apply_layer(module, "conv_transpose", weight, bias, y, size)
    np.testing.assert_allclose(shifted - back, np.broadcast_to(bias[:, None, None], back.shape), atol=1e-13)


@both("convolution")
def test_a_shift_by_two_pixels_is_a_shift_by_one(module: ModuleType) -> None:
    x, weight = np.zeros((1, 1, 16, 16)), draws.normals(1, "sample", (2, 1, 3, 3))
    x[:, :, 4:9, 5:10] = draws.normals(0, "sample", (5, 5))
    moved = np.roll(x, (2, 4), axis=(2, 3))
    before, after = (apply_layer(module, "conv", weight, np.zeros(2), image, (16, 16)) for image in (x, moved))
    np.testing.assert_allclose(after, np.roll(before, (1, 2), axis=(2, 3)), rtol=0, atol=1e-15)


def convolved(x: np.ndarray, p: dict, layer: str) -> np.ndarray:
    """Images (N, C, H, W) through a convolution's equation, in loops."""
    weight, (n, _, height, width) = p[f"{layer}.weight"], x.shape
    y = np.tile(p[f"{layer}.bias"][:, None, None], (n, 1, -(-height // 2), -(-width // 2)))
    for i, j, u, v in np.ndindex(*y.shape[2:], 3, 3):
        row, column = 2 * i + u - height % 2, 2 * j + v - width % 2
        if 0 <= row < height and 0 <= column < width:
            y[:, :, i, j] += x[:, :, row, column] @ weight[:, :, u, v].T
    return y


def painted(y: np.ndarray, p: dict, layer: str, size: tuple[int, int]) -> np.ndarray:
    """Features (N, C, H', W') through the equation of the transposed one, which paints an image of this size."""
    weight, (height, width) = p[f"{layer}.weight"], size
    x = np.tile(p[f"{layer}.bias"][:, None, None], (len(y), 1, height, width))
    for i, j, u, v in np.ndindex(*y.shape[2:], 3, 3):
        row, column = 2 * i + u - height % 2, 2 * j + v - width % 2
        if 0 <= row < height and 0 <= column < width:
            x[:, :, row, column] += y[:, :, i, j] @ weight[:, :, u, v]
    return x


@both("convolution")
@pytest.mark.parametrize(("size", "activation"), [((6, 5), "tanh"), ((4, 9), "relu")])
def test_the_networks_are_their_equations(module: ModuleType, size: tuple[int, int], activation: str) -> None:
    model = same("float64", size, 2, activation=activation)[not is_torch(module)]
    p, (f, _) = sibling(module, "layouts").export_parameters(model), BENDS[activation]
    x, z = draws.normals(0, "sample", (4, size[0] * size[1])), draws.normals(0, "sample", (4, 3), 1)
    half = -(-size[0] // 2), -(-size[1] // 2)
    features = f(convolved(f(convolved(x.reshape(4, 1, *size), p, "encoder.conv1")), p, "encoder.conv2"))
    hidden = f(affine(p, "encoder.hidden", features.reshape(4, -1)))
    expected = [affine(p, f"encoder.{name}", hidden) for name in ("mean", "log_var")]
    y = f(affine(p, "decoder.features", f(affine(p, "decoder.hidden", z)))).reshape(features.shape)
    y = f(painted(y, p, "decoder.conv_transpose1", half))
    expected.append(painted(y, p, "decoder.conv_transpose2", size).reshape(x.shape))
    found = arrays([model.encoder(tensor(module, x)), model.decoder(tensor(module, z))])
    for ours, value in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, value, rtol=1e-11, atol=1e-13)


STEPS = [
    ("eager", (8, 8), "bernoulli", "tanh"),
    ("eager", (7, 10), "gaussian learned", "relu"),
    ("function", (28, 28), "bernoulli", "relu"),
    ("function", (5, 1), "gaussian fixed", "tanh"),
    ("xla", (7, 10), "gaussian learned", "tanh"),
]


@pytest.mark.parametrize(("mode", "size", "case", "activation"), STEPS)
def test_outputs_and_every_gradient_tensor_agree(
    parity: Parity, mode: str, size: tuple[int, int], case: str, activation: str, dtype: str
) -> None:
    models, batch = same(dtype, size, activation=activation, **CASES[case]), Images(case, dtype, size)[0]
    label = f"{case} {activation} {size[0]}x{size[1]}"
    of_models.check_outputs(parity, "vae", models, batch, "VAE outputs", label, mode)
    of_models.check_gradients(parity, models, batch, "ELBO and its parts", "convolution gradient", label, mode)


@pytest.mark.parametrize(
    ("size", "case", "activation"), [((8, 8), "bernoulli", "relu"), ((7, 9), "gaussian learned", "tanh")]
)
def test_100_updates_agree(parity: Parity, size: tuple[int, int], case: str, activation: str) -> None:
    models, batches = same("float64", size, activation=activation, **CASES[case]), Images(case, size=size)
    bounds = of_models.check_updates(parity, models, batches, "elbo", 100, f"{case} {activation}", "function")
    assert bounds[-1] > bounds[0] + 3, "the bound has risen"


def test_50_updates_in_float32_step_by_step(parity: Parity) -> None:
    models, batches = same("float32"), Images("bernoulli", "float32")
    of_models.check_forced_updates(parity, models, batches, "elbo", "convolution gradient", 50, "function")


@both("vae")
@pytest.mark.parametrize(("case", "size"), [("bernoulli", (8, 8)), ("gaussian learned", (7, 6))])
def test_gradients_are_central_differences(module: ModuleType, case: str, size: tuple[int, int]) -> None:
    model = same("float64", size, 3, **CASES[case])[not is_torch(module)]
    of_models.check_central_differences(module, model, Images(case, size=size)[0])


@both("vae")
@pytest.mark.parametrize(("case", "size"), [("bernoulli", (8, 8)), ("gaussian fixed", (5, 6))])
def test_the_elbo_bounds_the_evidence(module: ModuleType, case: str, size: tuple[int, int]) -> None:
    model = same("float64", size, 5, latent_dim=1, **CASES[case])[not is_torch(module)]
    of_models.check_bound(module, model, Images(case, size=size)[0][0][:1])


@both("vae")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "big"}, "model='big' must be one of dense, conv"),
        ({"image_shape": None}, "image_shape=None must be (height, width) for model='conv'"),
        ({"image_shape": (8, 9)}, "image_shape=(8, 9) has 72 pixels, but data_dim=64"),
        ({"image_shape": (64,)}, "image_shape=(64,) must be (height, width), two integers of at least 1"),
        ({"image_shape": 64}, "image_shape=64 must be (height, width)"),
        ({"image_shape": (-8, -8)}, "image_shape=(-8, -8) must be (height, width)"),
        ({"image_shape": (8, 8.0)}, "image_shape=(8, 8.0) must be (height, width)"),
        ({"channels": 0}, "channels=0 must be an integer of at least 1"),
        ({"channels": 2.5}, "channels=2.5 must be an integer of at least 1"),
    ],
)
def test_models_that_cannot_be_built(module: ModuleType, arguments: dict, message: str) -> None:
    arguments = {"data_dim": 64, "model": "conv", "image_shape": (8, 8)} | arguments
    of_models.check_refused(module, "VAE", arguments, message)
