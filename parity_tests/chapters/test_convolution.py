"""The convolutional VAE: layers against SciPy and each other's adjoint, gradients, updates, the bound, parameters."""

import re
from types import ModuleType

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import tensorflow as tf
import torch
from scipy import integrate, signal, stats

import pytorch_impl.convolution as torch_convolution
import pytorch_impl.networks as torch_networks
import pytorch_impl.vae as torch_vae
import tf2_impl.convolution as tf_convolution
import tf2_impl.networks as tf_networks
import tf2_impl.vae as tf_vae
from common import draws
from common.data import datasets
from parity_tests.conftest import MODES, Parity
from pytorch_impl.optimizer import Adam as TorchAdam
from tf2_impl.optimizer import Adam as TFAdam

NETWORKS = {torch_vae: torch_networks, tf_vae: tf_networks}
both = pytest.mark.parametrize("module", [torch_vae, tf_vae], ids=["torch", "tf2"])
SIZES = [(8, 8), (7, 7), (28, 28), (6, 10), (9, 4), (5, 1), (1, 1), (2, 3)]
sizes = pytest.mark.parametrize("size", SIZES, ids=[f"{h}x{w}" for h, w in SIZES])
CASES = {
    "bernoulli": {"likelihood": "bernoulli"},
    "gaussian learned": {"likelihood": "gaussian"},
    "gaussian fixed": {"likelihood": "gaussian", "variance": 0.05},
}


def pair(dtype: str, size: tuple[int, int] = (8, 8), seed: int = 0, latent_dim: int = 3, **arguments) -> tuple:
    """The same model in both frameworks: weights drawn once, copied, and the copy asserted."""
    arguments = {"hidden_dim": 20, "channels": 4, "model": "conv", "image_shape": size, "dtype": dtype} | arguments
    models = [v.VAE(size[0] * size[1], latent_dim, **arguments) for v in (torch_vae, tf_vae)]
    shapes = {name: value.shape for name, value in torch_networks.export_parameters(models[0]).items()}
    values = draws.initial_values(seed, shapes)
    for index, name in enumerate(values):
        if name.endswith(".bias"):  # zero at first in training, but a bias that is zero hides where it went
            values[name] = 0.1 * draws.normals(seed, "sample", shapes[name], 1000 + index)
            values[name] = values[name].astype(np.float32).astype(np.float64)
    for module, model in zip((torch_networks, tf_networks), models, strict=True):
        module.import_parameters(model, values)
        exported = module.export_parameters(model)
        assert list(exported) == list(values)
        for name, value in exported.items():
            assert value.dtype == np.dtype(dtype)
            np.testing.assert_array_equal(value, values[name])
    return models


def batch(
    case: str, dtype: str, size: tuple[int, int] = (8, 8), step: int = 0, latent_dim: int = 3, n: int = 32
) -> tuple[np.ndarray, np.ndarray]:
    """Digits, or smooth spots where the size is another; and noise."""
    if size == (8, 8):
        digits = datasets.load("digits").x
        x = digits[draws.minibatch(0, step, len(digits), n)]
    else:
        rows, columns = np.indices(size)
        centre = draws.uniforms(0, "sample", (n, 2), step) * size
        distance = (rows - centre[:, :1, None]) ** 2 + (columns - centre[:, 1:, None]) ** 2
        x = np.exp(-distance / 8).reshape(n, -1)
    x = datasets.binarize(x) if case == "bernoulli" else x
    return x.astype(dtype), draws.normals(0, "noise", (len(x), latent_dim), step).astype(dtype)


def canonical(module: ModuleType, tensors: dict) -> dict[str, np.ndarray]:
    return {name: module.canonical(name, value) for name, value in tensors.items()}


def as_numpy(value: torch.Tensor | tf.Tensor) -> np.ndarray:
    return value.detach().numpy() if isinstance(value, torch.Tensor) else value.numpy()


def apply_layer(module: ModuleType, kind: str, weight: np.ndarray, bias: np.ndarray, x: np.ndarray, size: tuple):
    """A layer with weights in the canonical layout, on images (N, C, H, W); gives (N, O, H', W')."""
    inputs, outputs = weight.shape[1::-1] if kind == "conv" else weight.shape[:2]
    if module is torch_vae:
        layer = (
            torch_convolution.Convolution(inputs, outputs, "float64")
            if kind == "conv"
            else torch_convolution.TransposedConvolution(inputs, outputs, size, "float64")
        )
        layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
        return layer(torch.tensor(x)).detach().numpy()
    layer = (
        tf_convolution.Convolution(inputs, outputs, "float64")
        if kind == "conv"
        else tf_convolution.TransposedConvolution(inputs, outputs, size, "float64")
    )
    layer.kernel.assign(tf_networks.native(f"part.{kind}1.weight", weight, layer.kernel.value))
    layer.bias.assign(bias)
    return layer(tf.constant(x.transpose(0, 2, 3, 1))).numpy().transpose(0, 3, 1, 2)


@both
@sizes
def test_a_convolution_is_scipys_correlation(module: ModuleType, size: tuple[int, int]) -> None:
    """Every second value of correlate2d, with the zeros that "SAME" asks for: as many as needed, the odd one last."""
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


@both
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


@both
def test_a_shift_by_two_pixels_is_a_shift_by_one(module: ModuleType) -> None:
    x, weight = np.zeros((1, 1, 16, 16)), draws.normals(1, "sample", (2, 1, 3, 3))
    x[:, :, 4:9, 5:10] = draws.normals(0, "sample", (5, 5))
    moved = np.roll(x, (2, 4), axis=(2, 3))
    before, after = (apply_layer(module, "conv", weight, np.zeros(2), image, (16, 16)) for image in (x, moved))
    np.testing.assert_allclose(after, np.roll(before, (1, 2), axis=(2, 3)), rtol=0, atol=1e-15)


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
    a, b = pair(dtype, size, activation=activation, **CASES[case])
    x, noise = batch(case, dtype, size)
    label = f"{case} {activation} {size[0]}x{size[1]}"
    outputs = a(torch.tensor(x), torch.tensor(noise))
    tf_outputs = MODES[mode](lambda *t: b(*t))(tf.constant(x), tf.constant(noise))
    for name, ours, theirs in zip(("output", "mean", "log_var"), outputs, tf_outputs, strict=True):
        parity.check("VAE outputs", "output", ours, theirs, f"{label} {name}", mode)
    bound, gradients = torch_vae.loss_and_gradients(a, torch.tensor(x), torch.tensor(noise))
    step = MODES[mode](lambda *t: tf_vae.loss_and_gradients(b, *t))
    tf_bound, tf_gradients = step(tf.constant(x), tf.constant(noise))
    for name, ours, theirs in zip(bound._fields, bound, tf_bound, strict=True):
        parity.check("ELBO and its parts", "loss", ours, theirs, f"{label} {name}", mode)
    ours, theirs = canonical(torch_networks, gradients), canonical(tf_networks, tf_gradients)
    assert list(ours) == list(theirs) == list(torch_networks.named_parameters(a))
    for name in ours:
        assert np.any(ours[name] != 0), f"{name} has no gradient"
        quantity = f"gradients of the {name.partition('.')[0]}"
        parity.check(quantity, "convolution gradient", ours[name], theirs[name], f"{label} {name}", mode)


@pytest.mark.parametrize(
    ("mode", "size", "case", "activation"),
    [("function", (8, 8), "bernoulli", "relu"), ("function", (7, 9), "gaussian learned", "tanh")],
)
def test_100_updates_agree(parity: Parity, mode: str, size: tuple[int, int], case: str, activation: str) -> None:
    a, b = pair("float64", size, activation=activation, **CASES[case])
    ours, theirs = TorchAdam(torch_networks.named_parameters(a)), TFAdam(tf_networks.named_parameters(b))
    step_of_b = MODES[mode](lambda *t: tf_vae.loss_and_gradients(b, *t))
    losses = []
    for step in range(100):
        x, noise = batch(case, "float64", size, step)
        bound, gradients = torch_vae.loss_and_gradients(a, torch.tensor(x), torch.tensor(noise))
        tf_bound, tf_gradients = step_of_b(tf.constant(x), tf.constant(noise))
        losses.append((float(bound.elbo), float(tf_bound.elbo)))
        ours.update(gradients)
        theirs.update(tf_gradients)
    losses = np.array(losses)
    label = f"{case} {activation}"
    worst = np.argmax(np.abs(losses[:, 0] - losses[:, 1]) / np.abs(losses[:, 0]))
    parity.check("loss, worst of 100 updates", "trajectory loss", *losses[worst], label, mode, 100)
    assert losses[-1, 0] > losses[0, 0] + 3, "the bound has risen"
    values, tf_values = torch_networks.export_parameters(a), tf_networks.export_parameters(b)
    parity.check("weights after 100 updates", "trajectory weights", values, tf_values, "", mode, 100)


def test_50_updates_in_float32_step_by_step(parity: Parity) -> None:
    """Each step starts from PyTorch's state, so that what is compared is one step and not what chaos makes of it."""
    a, b = pair("float32")
    ours = TorchAdam(torch_networks.named_parameters(a))
    step_of_b = tf.function(lambda *t: tf_vae.loss_and_gradients(b, *t))
    for step in range(50):
        x, noise = batch("bernoulli", "float32", step=step)
        tf_networks.import_parameters(b, torch_networks.export_parameters(a))
        bound, gradients = torch_vae.loss_and_gradients(a, torch.tensor(x), torch.tensor(noise))
        tf_bound, tf_gradients = step_of_b(tf.constant(x), tf.constant(noise))
        ours.update(gradients)
        if step % 25 == 24:
            label = f"after {step + 1}"
            parity.check("loss, teacher forced", "loss", bound.elbo, tf_bound.elbo, label, "function", 50)
            for name, value in canonical(torch_networks, gradients).items():
                theirs = tf_networks.canonical(name, tf_gradients[name])
                quantity = "gradients, teacher forced"
                parity.check(
                    quantity, "convolution gradient", value, theirs, f"{label} {name}", mode="function", steps=50
                )


@both
@pytest.mark.parametrize(("case", "size"), [("bernoulli", (8, 8)), ("gaussian learned", (7, 6))])
def test_gradients_are_central_differences(module: ModuleType, case: str, size: tuple[int, int]) -> None:
    model = pair("float64", size, 3, **CASES[case])[module is tf_vae]
    make = torch.tensor if module is torch_vae else tf.constant
    x, noise = map(make, batch(case, "float64", size))
    gradients = canonical(NETWORKS[module], module.loss_and_gradients(model, x, noise)[1])
    values = NETWORKS[module].export_parameters(model)
    for index, (name, gradient) in enumerate(gradients.items()):
        direction = draws.normals(1, "sample", (gradient.size or 1,), index).reshape(gradient.shape)
        losses = []
        for h in (1e-6, -1e-6):
            NETWORKS[module].import_parameters(model, values | {name: values[name] + h * direction})
            losses.append(-float(as_numpy(model.elbo(x, noise).elbo)))
        NETWORKS[module].import_parameters(model, values)
        numeric = (losses[0] - losses[1]) / 2e-6
        assert np.sum(gradient * direction) == pytest.approx(numeric, rel=1e-6, abs=1e-7), name


@both
@pytest.mark.parametrize(("case", "size"), [("bernoulli", (8, 8)), ("gaussian fixed", (5, 6))])
def test_the_elbo_bounds_the_evidence(module: ModuleType, case: str, size: tuple[int, int]) -> None:
    """One latent dimension: E_noise[ELBO] + KL(q || p(z|x)) = log p(x), the evidence by quadrature over z."""
    model = pair("float64", size, 5, latent_dim=1, **CASES[case])[module is tf_vae]
    make = torch.tensor if module is torch_vae else tf.constant
    x = batch(case, "float64", size)[0][:1]
    z = np.linspace(-10, 10, 4001)
    repeated = make(np.repeat(x, len(z), axis=0))
    log_joint = as_numpy(model.log_likelihood(repeated, model.decoder(make(z[:, None])))) + stats.norm.logpdf(z)
    evidence = np.log(integrate.simpson(np.exp(log_joint - log_joint.max()), x=z)) + log_joint.max()
    mean, log_var = (as_numpy(t)[0, 0] for t in model.encoder(make(x)))
    q, log_q = (getattr(stats.norm(mean, np.exp(log_var / 2)), f)(z) for f in ("pdf", "logpdf"))
    to_posterior = integrate.simpson(q * (log_q - log_joint + evidence), x=z)
    # the expectation over the noise by Gauss-Hermite quadrature, through the model's own elbo
    nodes, node_weights = np.polynomial.hermite_e.hermegauss(80)
    bounds = [float(as_numpy(model.elbo(make(x), make(np.array([[node]]))).elbo)) for node in nodes]
    elbo = np.sum(node_weights * bounds) / np.sqrt(2 * np.pi)
    assert to_posterior > 0
    assert elbo + to_posterior == pytest.approx(evidence, rel=1e-9)


def test_names_and_layouts_are_state_dicts() -> None:
    a, b = pair("float32", (6, 10), likelihood="gaussian")
    exported = tf_networks.export_parameters(b)
    fresh = torch_vae.VAE(60, 3, 20, likelihood="gaussian", model="conv", image_shape=(6, 10), channels=4)
    fresh.load_state_dict(safetensors.torch.load(safetensors.numpy.save(exported)))
    x, noise = map(torch.tensor, batch("gaussian learned", "float32", (6, 10)))
    torch.testing.assert_close(fresh(x, noise)[0], a(x, noise)[0], rtol=0, atol=0)
    shapes = {name: value.shape for name, value in exported.items() if name.endswith(".weight")}
    assert shapes == {  # 6 x 10 -> 3 x 5 -> 2 x 3
        "decoder.conv_transpose1.weight": (8, 4, 3, 3),
        "decoder.conv_transpose2.weight": (4, 1, 3, 3),
        "decoder.features.weight": (48, 20),
        "decoder.hidden.weight": (20, 3),
        "encoder.conv1.weight": (4, 1, 3, 3),
        "encoder.conv2.weight": (8, 4, 3, 3),
        "encoder.hidden.weight": (20, 48),
        "encoder.log_var.weight": (3, 20),
        "encoder.mean.weight": (3, 20),
    }
    assert exported["decoder.features.bias"].shape == (48,)


def test_the_flattened_axis_counts_channels_first() -> None:
    """One unit of the hidden layer that looks at one place of one channel only, told to each framework by its index."""
    a, b = pair("float64", (6, 10))
    x = batch("gaussian fixed", "float64", (6, 10))[0]
    features = torch.tanh(a.encoder.conv2(torch.tanh(a.encoder.conv1(torch.tensor(x).reshape(-1, 1, 6, 10)))))
    channel, row, column = 5, 1, 2
    arrays = torch_networks.export_parameters(a)
    arrays |= {name: np.zeros_like(arrays[name]) for name in ("encoder.hidden.weight", "encoder.hidden.bias",
                                                             "encoder.mean.weight", "encoder.mean.bias")}  # fmt: skip
    arrays["encoder.hidden.weight"][0, (channel * 2 + row) * 3 + column] = 1.0
    arrays["encoder.mean.weight"][0, 0] = 1.0
    expected = np.tanh(features.detach().numpy()[:, channel, row, column])
    for module, model, make in ((torch_networks, a, torch.tensor), (tf_networks, b, tf.constant)):
        module.import_parameters(model, arrays)
        np.testing.assert_allclose(as_numpy(model.encoder(make(x))[0])[:, 0], expected, rtol=0, atol=1e-14)


@both
def test_parameters_that_do_not_fit_are_refused(module: ModuleType) -> None:
    model = pair("float64")[module is tf_vae]
    values = NETWORKS[module].export_parameters(model)
    for name, wrong in (("encoder.hidden.weight", (32, 20)), ("encoder.conv1.weight", (3, 3, 1, 4)),
                        ("decoder.features.bias", (2, 2, 8))):  # fmt: skip
        with pytest.raises(ValueError, match=f"{name} has shape ") as error:
            NETWORKS[module].import_parameters(model, values | {name: np.zeros(wrong)})
        assert str(error.value) == f"parameter {name} has shape {wrong}, not {values[name].shape}"
    for name, value in NETWORKS[module].export_parameters(model).items():
        np.testing.assert_array_equal(value, values[name])


@both
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
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        module.VAE(64, **({"model": "conv", "image_shape": (8, 8)} | arguments))
    assert "\n" not in str(error.value)
