"""Linear algebra."""

import numpy as np
import pytest
import tensorflow as tf
import torch
import torch.nn.functional as F

import pytorch_impl.gaussian as torch_gaussian
import tf2_impl.gaussian as tf_gaussian
from common import draws
from parity_tests.divergences.catalogue import agreement, divergence, relative, tf_gradient, torch_gradient, unequal

ROOT = draws.normals(0, "sample", (4, 4))
COVARIANCE = ROOT @ ROOT.T + np.eye(4)
INDEFINITE = np.array([[1.0, 2.0], [2.0, 1.0]])


@agreement("G1", "gradients of Cholesky, log det, solve and triangular solve", after="gradient")
def factorisations():
    """The workhorses of this project. For triangular solves only the lower triangle has a gradient, in both.
    Both: equal, and symmetric"""
    b = draws.normals(1, "sample", (4, 2))
    pairs = [
        (torch.linalg.cholesky, tf.linalg.cholesky),
        (lambda a: torch.linalg.slogdet(a)[1], lambda a: tf.linalg.slogdet(a)[1]),
        (lambda a: torch.linalg.solve(a, torch.tensor(b)), lambda a: tf.linalg.solve(a, b)),
        (
            lambda a: torch.linalg.solve_triangular(a, torch.tensor(b), upper=False),
            lambda a: tf.linalg.triangular_solve(a, b),
        ),
    ]
    return max(relative(torch_gradient(f, COVARIANCE), tf_gradient(g, COVARIANCE)) for f, g in pairs)


@divergence("G2", "the gradient of eigenvalues", (0.19, 0.31), after="gradient")
def eigenvalues(dtype: str = "float64"):
    """Equal for symmetric changes of the matrix; not what a step along the gradient makes of it.
    PyTorch: symmetric  TensorFlow: all in the lower triangle  Remedy: (theirs + tf.transpose(theirs)) / 2"""
    ours = torch_gradient(lambda a: torch.linalg.eigvalsh(a) ** 2, COVARIANCE.astype(dtype))
    theirs = tf_gradient(lambda a: tf.linalg.eigvalsh(a) ** 2, COVARIANCE.astype(dtype))
    return ours, theirs, (theirs + tf.transpose(theirs)) / 2


def fix_signs(vectors: np.ndarray) -> np.ndarray:
    """Eigenvectors in columns, each with its largest entry positive."""
    largest = np.abs(vectors).argmax(axis=-2)
    return vectors * np.sign(np.take_along_axis(vectors, largest[..., None, :], axis=-2))


@divergence("G3", "eigenvectors", (0.25, 0.75), unit="of entries", after="gradient through a solve")
def eigenvectors():
    """The share of 200 matrices' eigenvectors with another sign. Let the largest entry be positive.
    PyTorch: of one sign  TensorFlow: of the other, as likely as not
    Remedy in both: fix_signs(ours); fix_signs(theirs)"""
    roots = draws.normals(0, "sample", (200, 3, 3))
    matrices = roots @ roots.transpose(0, 2, 1) + np.diag([1.0, 4.0, 9.0])
    ours, theirs = torch.linalg.eigh(torch.tensor(matrices))[1].numpy(), tf.linalg.eigh(matrices)[1].numpy()
    turned = (ours * theirs).sum(axis=1) < 0
    return turned.mean(), relative(fix_signs(ours), fix_signs(theirs))


@divergence("G4", "the log determinant of a matrix that is not quite symmetric", (0.038, 0.061), after="gradient")
def log_determinant():
    """Cholesky reads the lower triangle in both. Symmetrise first, or use Cholesky in both.
    PyTorch: torch.logdet: by LU, of the matrix as it is
    TensorFlow: tf.linalg.logdet: by Cholesky, of its lower triangle  Remedy for both, in NumPy: 0.5 * (a + a.T)"""
    a = COVARIANCE + np.triu(np.ones((4, 4)), 1) / 2  # what rounding does to a covariance, enlarged
    ours, theirs, symmetric = torch.logdet(torch.tensor(a)), tf.linalg.logdet(a), 0.5 * (a + a.T)
    return relative(theirs, ours), relative(torch.logdet(torch.tensor(symmetric)), tf.linalg.logdet(symmetric))


@divergence("G5", "Cholesky of a matrix that is not positive definite", (1, 1), unit="of entries")
def cholesky_of_indefinite():
    """The project's own gives NaN where it fails, in both; the estimator looks and says what to do.
    PyTorch: raises an error  TensorFlow: NaN, with leftovers of memory above the diagonal, and no error
    Remedy: torch_gaussian.cholesky(torch.tensor(INDEFINITE)); tf_gaussian.cholesky(INDEFINITE)"""
    with pytest.raises(torch.linalg.LinAlgError, match="not positive-definite"):
        torch.linalg.cholesky(torch.tensor(INDEFINITE))
    silent = np.isnan(tf.linalg.cholesky(INDEFINITE).numpy()[[0, 1, 1], [0, 0, 1]]).mean()
    ours, theirs = torch_gaussian.cholesky(torch.tensor(INDEFINITE)), tf_gaussian.cholesky(INDEFINITE)
    return silent, unequal(np.tril(ours.isnan()), tf.math.is_nan(theirs))


@divergence("G14", "a solve with a Cholesky factor", (8300.0, 14000.0), after="gradient through a solve")
def cholesky_solve():
    """The arguments are the other way round. With a square right-hand side both orders compute.
    PyTorch: torch.cholesky_solve(b, factor)  TensorFlow: tf.linalg.cholesky_solve(factor, b)
    Remedy: tf.linalg.cholesky_solve(factor, b)"""
    factor, b = np.linalg.cholesky(COVARIANCE), draws.normals(1, "sample", (4, 4))
    ours = torch.cholesky_solve(torch.tensor(b), torch.tensor(factor))
    return relative(ours, tf.linalg.cholesky_solve(b, factor)), relative(ours, tf.linalg.cholesky_solve(factor, b))


@divergence("G15", "the singular value decomposition", (0.4, 0.63), after="gradient through a solve")
def singular_vectors():
    """The principal axes are rows in one and columns in the other. Signs as in G3.
    PyTorch: U, s, V': the last is transposed  TensorFlow: s, U, V: another order, and not transposed
    Remedy: tf.transpose(v)"""
    ours, v = torch.linalg.svd(torch.tensor(ROOT))[2], tf.linalg.svd(ROOT)[2]
    return ours.abs(), tf.abs(v), tf.abs(tf.transpose(v))


@divergence("G16", "least squares with nearly collinear columns", (3.9e-7, 3.6e-6), after="ill-conditioned")
def least_squares():
    """A polynomial of degree 8, condition 6e5: nine digits are left of sixteen, or five.
    PyTorch: orthogonal factorisation: error as the condition
    TensorFlow: normal equations by default: error as its square  Remedy: tf.linalg.lstsq(x, y, fast=False)"""
    x = np.vander(np.linspace(0, 1, 30), 9)
    y = x.sum(axis=1, keepdims=True)
    ours = torch.linalg.lstsq(torch.tensor(x), torch.tensor(y)).solution
    return ours, tf.linalg.lstsq(x, y), tf.linalg.lstsq(x, y, fast=False)


@divergence("G17", "the 2-norm of a matrix", (0.27, 0.44), after="gradient")
def matrix_norm():
    """TensorFlow flattens unless an axis pair is named. Without an order both give the root of the sum of
    squares.  PyTorch: torch.linalg.norm(a, 2): the largest singular value
    TensorFlow: tf.norm(a, ord=2): the root of the sum of squares
    Remedy: tf.norm(ROOT, ord=2, axis=(0, 1))"""
    return torch.linalg.norm(torch.tensor(ROOT), 2), tf.norm(ROOT, ord=2), tf.norm(ROOT, ord=2, axis=(0, 1))


@divergence("G18", "normalising a short vector", (0.94, 0.96), after="elementwise")
def normalise():
    """A vector of length 5e-8 becomes one of length 1, or of length 1/20.  PyTorch: x / max(|x|, 1e-12)
    TensorFlow: x / sqrt(max(|x|², 1e-12)): the floor of the length is 1e-6
    Remedy: tf.math.l2_normalize(x, epsilon=1e-24)"""
    x = np.array([3e-8, 4e-8])
    return F.normalize(torch.tensor(x), dim=0), tf.math.l2_normalize(x), tf.math.l2_normalize(x, epsilon=1e-24)


@divergence("G19", "the pseudoinverse of a nearly singular matrix", (1, 1), after="gradient")
def pseudoinverse():
    """Between the two thresholds one inverts what the other calls zero: 1e15 against 0.
    PyTorch: drops singular values below D eps of the largest  TensorFlow: below 10 D eps
    Remedy: tf.linalg.pinv(a, rcond=2 * np.finfo(np.float64).eps)"""
    a = np.diag([1.0, 1e-15])
    remedied = tf.linalg.pinv(a, rcond=2 * np.finfo(np.float64).eps)
    return torch.linalg.pinv(torch.tensor(a)), tf.linalg.pinv(a), remedied


@divergence("G20", "transposing a batch of matrices", (0.75, 1.2), unit="of entries")
def batch_transpose():
    """For K components of as many dimensions as components the shapes do not tell.
    PyTorch: x.mT: the last two axes  TensorFlow: tf.transpose(x): all axes, reversed
    Remedy: tf.linalg.matrix_transpose(x)"""
    x = draws.normals(0, "sample", (4, 4, 4))
    return torch.tensor(x).mT, tf.transpose(x), tf.linalg.matrix_transpose(x)
