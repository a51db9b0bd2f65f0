"""EM for a mixture: ours against scikit-learn on NumPy and on PyTorch tensors, and against pomegranate.

All start from the same weights, means and covariances and do the same iterations; convergence is never met.
The floor is the two matrix products of every chunk and nothing else.
"""

import math
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import tensorflow as tf
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as SklearnMixture

import pytorch_impl.backend as torch_backend
import pytorch_impl.estimators as torch_estimators
import tf2_impl.backend as tf_backend
import tf2_impl.estimators as tf_estimators
from common.data import datasets
from common.data.chunks import chunk_rows
from parity_tests.bench.measure import Case

SHAPES = ((1_000_000, 2, 8), (200_000, 16, 16), (100_000, 32, 32))
PEERS = Path("build/peers")  # where `make bench` puts what only the benchmark needs


def cases(quick: bool) -> Iterator[Case]:
    """The three shapes in float64 and float32; with ``quick``, a tenth of the points and three iterations."""
    for n, d, k in SHAPES:
        for dtype in ("float64", "float32"):
            yield em_case(n // 10 if quick else n, d, k, dtype, 3 if quick else 10, ("numpy", "torch", "pomegranate"))


def em_case(n: int, d: int, k: int, dtype: str, iterations: int, peers: tuple[str, ...]) -> Case:
    """EM on a table of n points, d features, k components."""
    x = datasets.synthetic_mixture(n, k, d, 4.0, seed=1).x.astype(dtype)
    rows = np.linspace(0, n - 1, k).astype(int)
    arguments = dict(n_components=k, tol=0, reg_covar=1e-3, max_iter=iterations, init_params="random", random_state=0)
    arguments |= dict(weights_init=np.full(k, 1 / k, dtype), means_init=x[rows])
    arguments |= dict(precisions_init=np.stack([np.eye(d, dtype=dtype) / 4] * k))
    estimators = {"pytorch": torch_estimators.GaussianMixture, "tf2": tf_estimators.GaussianMixture}
    found = {"scikit-learn": lambda: fit(SklearnMixture, arguments, x)} if "numpy" in peers else {}
    if "torch" in peers:
        tensors = {name: torch.tensor(v) if isinstance(v, np.ndarray) else v for name, v in arguments.items()}
        found["scikit-learn on torch"] = partial(scikit_learn_on_torch, tensors, torch.tensor(x))
    if "pomegranate" in peers and dtype == "float32" and (peer := pomegranate(arguments, x)):
        found["pomegranate"] = peer
    ours = {name: partial(fit, Mixture, arguments, x) for name, Mixture in estimators.items()}
    bounds, work = partial(check_bounds, dtype=dtype), f"EM, {iterations} iterations"
    return Case(work, f"{n} x {d} x {k}", dtype, ours, found, floors(n, d, k, dtype, iterations), bounds)


def fit(Mixture: type, arguments: dict[str, Any], x: Any) -> float:
    """Fit, and return the lower bound of the last E step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return float(Mixture(**arguments).fit(x).lower_bound_)


def scikit_learn_on_torch(arguments: dict[str, Any], x: torch.Tensor) -> float:
    """The same by scikit-learn, on tensors."""
    with sklearn.config_context(array_api_dispatch=True):
        return fit(SklearnMixture, arguments, x)


def check_bounds(results: dict[str, Any], dtype: str) -> None:
    """The contenders must have done the same work."""
    bounds = {name: value for name, value in results.items() if value is not None}
    apart = max(bounds.values()) - min(bounds.values())
    if not apart <= (1e-8 if dtype == "float64" else 1e-2) * max(map(abs, bounds.values())):
        raise AssertionError(f"the contenders ended at different bounds: {bounds}")


def pomegranate(arguments: dict[str, Any], x: np.ndarray) -> Callable[[], None] | None:
    """The same iterations by pomegranate, which computes in float32 only; None if it is not installed."""
    if PEERS.is_dir() and str(PEERS.resolve()) not in sys.path:
        sys.path.append(str(PEERS.resolve()))
    try:
        from pomegranate.distributions import Normal
        from pomegranate.gmm import GeneralMixtureModel
    except ImportError as error:
        print(f"without pomegranate: {error}", file=sys.stderr)
        return None
    means, covariances = arguments["means_init"], np.linalg.inv(arguments["precisions_init"])
    data = torch.tensor(x)

    def run() -> None:
        components = [Normal(torch.tensor(m), torch.tensor(c)) for m, c in zip(means, covariances, strict=True)]
        weights, iterations = torch.tensor(arguments["weights_init"]), arguments["max_iter"]
        GeneralMixtureModel(components, priors=weights, tol=-math.inf, max_iter=iterations).fit(data)

    return run


def floors(n: int, d: int, k: int, dtype: str, iterations: int) -> dict[str, Callable[[], Any]]:
    """The products of coefficients and features, and of responsibilities and features, for all chunks."""
    rows, p = chunk_rows(d, k), 1 + d + d * (d + 1) // 2
    number = iterations * -(-n // rows)
    theta, table, gamma = (np.ones(shape, dtype) for shape in ((k, p), (p, rows), (k, rows)))

    a, b, c = map(torch.tensor, (theta, table, gamma))
    tf_a, tf_b, tf_c = map(tf.constant, (theta, table, gamma))
    return {
        "pytorch": lambda: deque(torch_backend.in_order(lambda _: (a @ b, c @ b.T), range(number)), maxlen=0),
        "tf2": lambda: deque(
            tf_backend.in_order(lambda _: (tf_a @ tf_b, tf.matmul(tf_c, tf_b, transpose_b=True)), range(number)),
            maxlen=0,
        ),
    }
