"""Random numbers, number types and execution.

Equal seeds never give equal numbers, so all randomness here is drawn in NumPy (`common/draws.py`). The rest
is about what a number is before any mathematics is done with it, and about when code runs.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
import torch.nn.functional as F

from common import draws
from parity_tests.divergences.catalogue import (
    absolute,
    agreement,
    divergence,
    dtype_name,
    relative,
    tf_gradient,
    unequal,
)

# Read when this page is imported, before a script of the project has turned TF32 off.
TF32_BY_DEFAULT = (
    torch.backends.cuda.matmul.allow_tf32,
    torch.backends.cudnn.allow_tf32,
    tf.config.experimental.tensor_float_32_execution_enabled(),
)


@divergence("R1", "normal numbers from seed 0", (1, 1), unit="of entries")
def seeds():
    """Two generators with two ways to a normal number. NumPy draws once, for both.
    PyTorch: torch.randn: 1.541, -0.293, -2.179, ...
    TensorFlow: keras.random.normal: -1.697, -0.481, -0.662, ...; tf.random.normal: 1.511, 0.423, -0.420, ...
    Remedy: noise = draws.normals(0, "noise", (5,))"""
    ours = torch.randn(5, generator=torch.Generator().manual_seed(0))
    tf.random.set_seed(0)
    assert np.allclose(ours[:3], (1.541, -0.293, -2.179), atol=5e-4)
    assert np.allclose(keras.random.normal((5,), seed=0)[:3], (-1.697, -0.481, -0.662), atol=5e-4)
    assert np.allclose(tf.random.normal((5,))[:3], (1.511, 0.423, -0.420), atol=5e-4)
    noise = draws.normals(0, "noise", (5,))
    return ours, keras.random.normal((5,), seed=0), torch.tensor(noise), tf.constant(noise)


@divergence("R1b", "the first five of twenty numbers and of five, one seed", (1, 1), unit="of entries")
def prefix_of_a_stream():
    """A last, smaller batch draws other noise. Counter-based draws depend on the row and on nothing else.
    PyTorch: are others: from 16 on, another algorithm draws  TensorFlow: are the same
    Remedy: draws.normals(0, "noise", (20,))[:5]"""
    first, many = (torch.randn(n, generator=torch.Generator().manual_seed(0))[:5] for n in (5, 20))
    theirs = unequal(*(tf.random.stateless_normal((n,), (0, 0))[:5] for n in (5, 20)))
    fresh = unequal(draws.normals(0, "noise", (5,)), draws.normals(0, "noise", (20,))[:5])
    return unequal(first, many) - theirs, fresh


@divergence("R1c", "the shuffle of a data set", (0.8, 0.95), unit="of the rows out of reach")
def shuffle():
    """The share of the data that a first batch of 50 from shuffle(100) cannot reach: sorted classes stay sorted.
    PyTorch: DataLoader: of all rows  TensorFlow: Dataset.shuffle(b): within a window of b rows
    Remedy: draws.minibatch(seed=0, step=0, n=1000, batch_size=50)"""
    rows = tf.data.Dataset.range(1000).shuffle(100, seed=0).batch(50)
    reach = (1 + int(np.max(next(iter(rows))))) / 1000
    first = draws.minibatch(seed=0, step=0, n=1000, batch_size=50)
    assert first.max() > 900
    return 1 - reach, unequal(torch.tensor(first), tf.constant(first))


@divergence("R2", "a Python number made float64", (1.4e-8, 1.6e-8))
def python_floats():
    """tf.cast goes through float32: the source of O2, O2c and L9.
    PyTorch: torch.tensor(0.1, dtype=torch.float64) is 0.1
    TensorFlow: tf.cast(0.1, tf.float64) is 0.10000000149  Remedy: tf.constant(0.1, tf.float64)"""
    return torch.tensor(0.1, dtype=torch.float64), tf.cast(0.1, tf.float64), tf.constant(0.1, tf.float64)


@divergence("R2b", "a Python integer made a tensor", (0.8, 0.9))
def python_integers():
    """100,000² is 1,410,065,408. Sums of int32 stay int32 in TensorFlow too.  PyTorch: int64
    TensorFlow: int32, which wraps around  Remedy: tf.constant(100_000, tf.int64)"""
    ours, theirs = torch.tensor(100_000) * torch.tensor(100_000), tf.constant(100_000) * tf.constant(100_000)
    return ours, theirs, tf.constant(100_000, tf.int64) * tf.constant(100_000, tf.int64)


@divergence("R2c", "the mean of integers", (0.33, 0.34))
def mean_of_integers():
    """The mean of (1, 2) is 1.  PyTorch: raises an error  TensorFlow: an integer, rounded down
    Remedy: tf.reduce_mean(tf.cast(labels, tf.float64))"""
    with pytest.raises(RuntimeError, match="dtype"):
        torch.tensor([1, 2]).mean()
    labels, ours = tf.constant([1, 2]), torch.tensor([1, 2]).double().mean()
    return ours, tf.reduce_mean(labels), tf.reduce_mean(tf.cast(labels, tf.float64))


@divergence("R3", "a quotient of integers", (2.3e-8, 3.8e-8))
def quotient_of_integers():
    """1/3 in two precisions. And float32 + float64: PyTorch promotes, TensorFlow raises.  PyTorch: float32
    TensorFlow: float64
    Remedy: torch.tensor(1.0, dtype=torch.float64) / 3; tf.constant(1.0, tf.float64) / 3"""
    single, double = tf.constant(1.0), tf.constant(1.0, tf.float64)
    assert dtype_name(torch.tensor(single.numpy()) + torch.tensor([double.numpy()])) == "float64"
    with pytest.raises(tf.errors.InvalidArgumentError):
        single + double
    ours, theirs = torch.tensor(1.0, dtype=torch.float64) / 3, tf.constant(1.0, tf.float64) / 3
    return torch.tensor(1) / torch.tensor(3), tf.constant(1) / tf.constant(3), ours, theirs


@divergence("R3b", "one_hot", (1, 1), unit="of entries")
def one_hot():
    """A label of -1 leaves no trace in TensorFlow. Indexing an identity raises beyond its end, in both.
    PyTorch: int64; a label out of range is an error
    TensorFlow: float32; a label out of range is a row of zeros
    Remedy: torch.tensor(np.eye(3)[labels]); tf.constant(np.eye(3)[labels])"""
    with pytest.raises(RuntimeError, match="non-negative"):
        F.one_hot(torch.tensor([-1]), 3)
    assert float(tf.reduce_sum(tf.one_hot([-1, 5], 3))) == 0
    labels = np.array([0, 2])
    kinds = [dtype_name(F.one_hot(torch.tensor(labels), 3)), dtype_name(tf.one_hot(labels, 3))]
    ours, theirs = torch.tensor(np.eye(3)[labels]), tf.constant(np.eye(3)[labels])
    return unequal(*kinds), unequal(ours, theirs) + unequal(dtype_name(ours), dtype_name(theirs))


@agreement("R3c", "integer division, remainder, rounding and casts")
def integer_arithmetic():
    """Of negative numbers too: -7 // 2 is -4, -7 % 3 is 2, round(2.5) is 2, int(-2.7) is -2.
    Both: floor; floor; half to even; truncated"""
    n, halves = np.array([-7, 7, -6]), np.array([0.5, 1.5, 2.5, -0.5, -2.7])
    ours, theirs, x, y = torch.tensor(n), tf.constant(n), torch.tensor(halves), tf.constant(halves)
    pairs = [(ours // 2, theirs // 2), (ours % 3, theirs % 3), (torch.round(x), tf.round(y))]
    return max(absolute(a, b) for a, b in [*pairs, (x.to(torch.int64), tf.cast(y, tf.int64))])


@divergence("R4", "argmax of (1, NaN, 2)", (1, 1), unit="absolute")
def argmax_of_nan():
    """A broken score is chosen by one and passed over by the other: reject NaN first. Ties go to the first in
    both.  PyTorch: 1, the NaN  TensorFlow: 2, as if the NaN were not there
    Remedy for both, in NumPy: values[np.isfinite(values)]"""
    assert int(torch.argmax(torch.ones(3))) == int(tf.argmax(tf.ones(3))) == 0
    values = np.array([1.0, np.nan, 2.0])
    finite = values[np.isfinite(values)]
    ours, theirs = (torch.argmax(torch.tensor(x)) for x in (values, finite)), map(tf.argmax, (values, finite))
    return (value for pair in zip(ours, theirs, strict=True) for value in pair)


@divergence("R5", "numbers below the smallest normal one", (1, 1), after="output")
def denormals(dtype: str = "float64"):
    """A responsibility that small is tiny here and 0 there. Compare logarithms.
    PyTorch: computes with them: exp(-100) is 3.8e-44 in float32  TensorFlow: are zero, in float64 too
    Remedy: torch.log_softmax(torch.tensor(logits), dim=1); tf.nn.log_softmax(logits)"""
    logits = np.array([[0.0, {"float64": -720.0, "float32": -100.0}[dtype]]], dtype)
    ours, theirs = torch.log_softmax(torch.tensor(logits), dim=1), tf.nn.log_softmax(logits)
    return torch.exp(torch.tensor(logits))[:, 1:], tf.exp(logits)[:, 1:], ours, theirs


@divergence("R6", "one function, run eagerly and compiled by XLA", (1.5e-7, 1.4e-6), after="gradient")
def compiled_by_xla():
    """XLA fuses and reorders: float32 has no bits to spare. In float64 all three modes are held to one
    tolerance.  PyTorch: eager  TensorFlow: tf.function equals eager, XLA does not
    Remedy: tf.function(posterior, jit_compile=True)(tf.constant(x, tf.float64))"""

    def posterior(a: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(3 * tf.tanh(a))

    x = draws.normals(0, "sample", (50, 50))
    single = tf.constant(x, tf.float32)
    eager, compiled = posterior(single), tf.function(posterior, jit_compile=True)(single)
    assert relative(eager, tf.function(posterior)(single)) < 1e-7
    remedied = tf.function(posterior, jit_compile=True)(tf.constant(x, tf.float64))
    return eager, compiled, torch.softmax(3 * torch.tanh(torch.tensor(x)), dim=1), remedied


@divergence("R7", "a compiled function called with five Python numbers", (4, 4), unit="traces too many")
def retracing():
    """A step counter or a learning rate as a Python number recompiles the step, every step.
    PyTorch: eager: nothing is traced  TensorFlow: is traced anew for each
    Remedy: function(tf.constant(step))"""
    function, of_tensors = tf.function(lambda step: step * 2), tf.function(lambda step: step * 2)
    for step in range(5):
        function(step)
    default, function = function.experimental_get_tracing_count() - 1, of_tensors
    for step in range(5):
        function(tf.constant(step))
    return default, function.experimental_get_tracing_count() - 1


@divergence("R7b", "Python code inside a compiled function", (3, 3), unit="of 4 draws repeated")
def frozen_python():
    """Noise drawn with NumPy inside a tf.function is the same at every step: a VAE trains, on copies of one
    draw.  PyTorch: runs at every call  TensorFlow: runs once, when the function is traced
    Remedy in TensorFlow: decode(tf.constant(draws.normals(0, "noise", (1,), step)))"""
    generator = np.random.default_rng(0)
    frozen = tf.function(lambda: tf.constant(generator.normal()))
    default = 4 - len({float(frozen()) for _ in range(4)})
    decode = tf.function(lambda noise: noise)
    fresh = set()
    for step in range(4):
        fresh.add(float(decode(tf.constant(draws.normals(0, "noise", (1,), step)))[0]))
    return default, 4 - len(fresh)


@divergence("R8", "TF32 on GPUs: products with 10 bits of mantissa", (1, 1), unit="of entries")
def tf32_flags():
    """The flags, not their effect, which needs a GPU: about 1e-3 of a product.
    PyTorch: off for matrix products, on for convolutions  TensorFlow: on for both
    Remedy: torch.backends.cudnn.allow_tf32 = False;
    tf.config.experimental.enable_tensor_float_32_execution(False)"""
    matmul, convolution, theirs = TF32_BY_DEFAULT
    assert convolution
    torch.backends.cudnn.allow_tf32 = False
    tf.config.experimental.enable_tensor_float_32_execution(False)
    flags = torch.backends.cudnn.allow_tf32, tf.config.experimental.tensor_float_32_execution_enabled()
    return unequal(matmul, theirs), unequal(flags, (False, False))


@divergence("R9", "the gradient with respect to what was not recorded", (1, 1), unit="of entries")
def unwatched():
    """A constant has to be watched. Optimizers skip None with at most a warning: assert that no gradient is
    None.  PyTorch: raises an error  TensorFlow: None  Remedy in TensorFlow: tape.watch(x)"""
    ours, x = torch.tensor([3.0]), tf.constant([3.0])
    with pytest.raises(RuntimeError, match="require grad"):
        torch.autograd.grad((ours**2).sum(), ours)
    slope = torch.autograd.grad((ours.requires_grad_() ** 2).sum(), ours)[0]
    with tf.GradientTape() as unwatching:
        y = x**2
    with tf.GradientTape() as tape:
        tape.watch(x)
        z = x**2
    return slope, unwatching.gradient(y, x), tape.gradient(z, x)


@divergence("R9b", "the gradient of a vector", (2.9, 3.1), after="loss")
def gradient_of_a_vector():
    """A loss left per example trains, with a rate that grows with the batch.  PyTorch: raises an error
    TensorFlow: that of its sum  Remedy: tf.reduce_mean(theirs)"""
    array = draws.normals(0, "sample", (4,))
    x, variable = torch.tensor(array, requires_grad=True), tf.Variable(array)
    with pytest.raises(RuntimeError, match="scalar outputs"):
        (x**2).backward()
    mean = torch.autograd.grad((x**2).mean(), x)[0]
    with tf.GradientTape(persistent=True) as tape:
        theirs = variable**2
        theirs_mean = tf.reduce_mean(theirs)
    return mean, tape.gradient(theirs, variable), tape.gradient(theirs_mean, variable)


@divergence("R10", "gradients of two steps in a row", (0.5, 0.5), after="elementwise")
def accumulation():
    """Without zero_grad() the second step is twice as long, the third three times.
    PyTorch: backward() adds to what .grad holds  TensorFlow: tape.gradient starts from nothing
    Remedy: torch.autograd.grad((x**2).sum(), x)"""
    x, theirs = torch.tensor([1.5], requires_grad=True), tf_gradient(lambda v: v**2, np.array([1.5], np.float32))
    for _ in range(2):
        (x**2).sum().backward()
    return x.grad, theirs, torch.autograd.grad((x**2).sum(), x)[0], theirs


@divergence("R11", "weights kept for later as NumPy arrays", (1, 1), unit="of entries")
def snapshots():
    """The best weights so far turn out to be the last ones.
    PyTorch: .numpy() is a view: it changes with the next step  TensorFlow: .numpy() is a copy
    Remedy: ours.detach().numpy().copy()"""
    ours, theirs = torch.ones(3, requires_grad=True), tf.Variable(tf.ones(3))
    best, copied, their_best = ours.detach().numpy(), ours.detach().numpy().copy(), theirs.numpy()
    with torch.no_grad():
        ours.sub_(1)
    theirs.assign_sub(tf.ones(3))
    return best, their_best, copied, their_best


@divergence("R12", "an activation in mixed precision", (1, 1), unit="of entries")
def mixed_precision():
    """Results of 3 digits where PyTorch keeps 7. The size is the share of results of another type.
    PyTorch: autocast casts what products take; an activation of float32 stays float32
    TensorFlow: the policy mixed_bfloat16 casts what every layer takes
    Remedy: keras.layers.ReLU(dtype="float32")"""
    x = torch.tensor(draws.normals(0, "sample", (4, 4)).astype("float32"))
    with torch.autocast("cpu", torch.bfloat16):
        assert dtype_name(x @ x) == "bfloat16"
        ours = torch.relu(x)
    default = keras.layers.ReLU(dtype="mixed_bfloat16")(x.numpy())
    remedied = keras.layers.ReLU(dtype="float32")(x.numpy())
    return dtype_name(ours), dtype_name(default), dtype_name(remedied)
