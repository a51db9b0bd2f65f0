"""One update, computed in many ways: by PyTorch, TensorFlow and NumPy, each with all axes in several orders.

A sum whose terms are in another order is the sum that another machine may take: other instructions add other
terms first. So orders stand for machines that are not here. Everything is returned in the order there was.
"""

from collections.abc import Iterator, Mapping
from types import SimpleNamespace

import numpy as np

import pytorch_impl.gmm as torch_gmm
import pytorch_impl.vae as torch_vae
import tf2_impl.gmm as tf_gmm
import tf2_impl.vae as tf_vae
from common import draws
from parity_tests.support import oracle
from parity_tests.support.lockstep import Arrays, Learner, NumpyLearner, parameters_of
from pytorch_impl.backend import tensor as torch_tensor
from tf2_impl.backend import tensor as tf_tensor

ORDERS = 5  # the first of which is the one there is
WAYS = ORDERS, 3
# The axes of a dense layer's weights, (out, in): pixels d, hidden units h and g of both halves, codes l.
AXES = {"encoder.hidden": "hd", "encoder.mean": "lh", "encoder.log_var": "lh"}
AXES |= {"decoder.hidden": "gl", "decoder.out": "dg"}


def gradients(options: SimpleNamespace, state: Arrays, step: int, x: np.ndarray, noise: np.ndarray) -> Arrays:
    """Every gradient tensor of a dense VAE in a state after ``step`` updates, (ORDERS, 3, ...)."""
    found: dict[str, list[np.ndarray]] = {}
    sizes = {"n": len(x), "d": x.shape[1], "h": options.hidden_dim, "g": options.hidden_dim, "l": options.latent_dim}
    for number in range(ORDERS):
        orders = {axis: order(number, size, i) for i, (axis, size) in enumerate(sizes.items())}
        back = {axis: np.argsort(moved) for axis, moved in orders.items()}
        batch = x[np.ix_(orders["n"], orders["d"])], noise[np.ix_(orders["n"], orders["l"])]
        for learner in learners(options, x.shape[1], in_order(state, orders), step):
            for name, gradient in in_order(learner.loss_and_gradients(*batch)[1], back).items():
                found.setdefault(name, []).append(gradient)
    return {name: np.reshape(values, (*WAYS, *np.shape(values[0]))) for name, values in found.items()}


def order(number: int, size: int, axis: int) -> np.ndarray:
    """An order of so many entries; that of number 0 is the one there is."""
    return draws.permutation(number, "sample", size, axis) if number else np.arange(size)


def in_order(arrays: Mapping[str, np.ndarray], orders: dict[str, np.ndarray]) -> Arrays:
    """A dense network's tensors with the entries of each axis in these orders."""
    found = {}
    for name, value in arrays.items():
        layer = next((layer for layer in AXES if f"{layer}." in name), "")
        axes = AXES[layer][: value.ndim] if layer else ""
        found[name] = value[np.ix_(*(orders[axis] for axis in axes))] if axes else value
    return found


def learners(options: SimpleNamespace, pixels: int, state: Arrays, step: int) -> Iterator[Learner | NumpyLearner]:
    """The three who compute a gradient, in this state after this many updates."""
    sizes = pixels, options.latent_dim, options.hidden_dim, options.activation, options.likelihood
    for vae, framework in ((torch_vae, "torch"), (tf_vae, "tf2")):
        learner = Learner(vae.VAE(*sizes, dtype="float64"), framework, mode="eager")
        learner.set_state(state, step)
        yield learner
    case = "bernoulli" if options.likelihood == "bernoulli" else "gaussian learned"
    wide = {name: value.astype(np.float64) for name, value in parameters_of(state).items()}
    yield NumpyLearner(wide, case, options.activation)


def em_iteration(
    x: np.ndarray, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray, reg_covar: float
) -> Arrays:
    """The parameters after one iteration of EM with full covariances, (ORDERS, 3, ...)."""
    found: dict[str, list[np.ndarray]] = {"weights": [], "means": [], "covariances": []}
    ways = (torch_gmm, torch_tensor), (tf_gmm, tf_tensor), (oracle, np.asarray)
    for number in range(ORDERS):
        rows, columns = (order(number, size, axis) for axis, size in enumerate(x.shape))
        back, points = np.argsort(columns), x[np.ix_(rows, columns)]
        given = weights, means[:, columns], covariances[:, columns[:, None], columns]
        for page, tensor in ways:
            updated = page.em_iteration(tensor(points), *map(tensor, given), "full", reg_covar)[0]
            new_weights, new_means, new_covariances = map(np.asarray, updated)
            found["weights"].append(new_weights)
            found["means"].append(new_means[:, back])
            found["covariances"].append(new_covariances[:, back[:, None], back])
    return {name: np.reshape(values, (*WAYS, *values[0].shape)) for name, values in found.items()}
