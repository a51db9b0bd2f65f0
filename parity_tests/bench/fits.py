"""What users time: whole fits from defaults, start included, and predictions, of every size, beside scikit-learn.

Each contender starts from the same seed. EM stops where it converges, variational inference after 50
iterations. The first call, in which TensorFlow traces and compiles, stands apart.
"""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import sklearn.mixture
from matplotlib import rc_context
from matplotlib.figure import Figure
from sklearn.exceptions import ConvergenceWarning

import pytorch_impl.estimators as torch_estimators
import tf2_impl.estimators as tf_estimators
from common.data import datasets
from common.figures.runs import COLOURS, STYLE
from common.mixtures.parameters import COVARIANCE_TYPES
from parity_tests.bench.measure import Case

PAGES = {"pytorch": torch_estimators, "tf2": tf_estimators, "scikit-learn": sklearn.mixture}
EM = (
    (272, 2, 2, ("full",)),
    (3_000, 8, 8, ("full", "diag")),
    (30_000, 8, 8, COVARIANCE_TYPES),
    (30_000, 32, 16, ("full",)),
    (300_000, 4, 4, ("full",)),
    (300_000, 8, 8, ("full", "tied", "diag")),
    (5_000, 100, 5, ("full",)),
    (2_000, 200, 4, ("full",)),
    (1_797, 64, 10, ("diag",)),
)
BAYESIAN = (272, 2, 6, ("full",)), (3_000, 8, 8, ("full",)), (30_000, 8, 8, ("full", "diag"))


def cases(quick: bool) -> Iterator[Case]:
    """Fits and predictions of every shape; with ``quick``, of those up to 3,000 rows."""
    for model, shapes in ("GaussianMixture", EM), ("BayesianGaussianMixture", BAYESIAN):
        for n, d, k, kinds in shapes:
            for kind in kinds if n <= 3_000 or not quick else ():
                yield from of_shape(model, n, d, k, kind)


def of_shape(model: str, n: int, d: int, k: int, kind: str) -> Iterator[Case]:
    """A fit of the model, and its predictions."""
    x, shape = table(n, d, k), f"{n} x {d} x {k} {kind}"
    arguments = dict(n_components=k, covariance_type=kind, random_state=0)
    arguments |= dict(max_iter=50, tol=0) if model == "BayesianGaussianMixture" else {}
    fits = {name: partial(fit, getattr(page, model), arguments, x) for name, page in PAGES.items()}
    fitted: dict[str, Any] = {}
    for verb, calls in (
        ("fit", {name: partial(kept, fitted, name, call) for name, call in fits.items()}),
        ("predict_proba", {name: partial(predict, fitted, name, x) for name in fits}),
    ):
        peers = {"scikit-learn": calls.pop("scikit-learn")}
        yield Case(f"{model}, {verb}", shape, "float64", calls, peers)


def table(n: int, d: int, k: int) -> np.ndarray:
    """Old Faithful, the digits, or points of a mixture."""
    if n in (272, 1_797):
        return np.asarray(datasets.load("old-faithful" if n == 272 else "digits").x, np.float64).reshape(n, -1)
    return datasets.synthetic_mixture(n, k, d, 4.0, seed=1).x


def fit(Mixture: type, arguments: dict[str, Any], x: np.ndarray) -> Any:
    """The fitted mixture."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return Mixture(**arguments).fit(x)


def kept(fitted: dict[str, Any], name: str, call: Callable[[], Any]) -> None:
    """Fit, and keep the mixture for its predictions."""
    fitted[name] = call()


def predict(fitted: dict[str, Any], name: str, x: np.ndarray) -> np.ndarray:
    """The responsibilities under a contender's own mixture."""
    return fitted[name].predict_proba(x)


def chosen(rows: list[dict[str, Any]], verb: str = "fit") -> list[dict[str, Any]]:
    """The rows of the map that time this."""
    return [row for row in rows if row["work"].endswith(f"Mixture, {verb}")]


def figure(rows: list[dict[str, Any]]) -> Figure:
    """How many times as fast as scikit-learn a fit of eight features and components is, by N and covariance type."""
    with rc_context(STYLE):
        drawn = Figure(figsize=(10, 4.2))
        panels = drawn.subplots(1, 2, sharey=True)
        for axes, (framework, title) in zip(panels, (("pytorch", "PyTorch"), ("tf2", "TensorFlow")), strict=True):
            for colour, kind in zip(COLOURS, COVARIANCE_TYPES, strict=False):
                points = sorted(
                    (int(row["shape"].split()[0]), row["speedup"])
                    for row in chosen(rows)
                    if row["framework"] == framework
                    and row["work"].startswith("Gaussian")
                    and row["shape"].endswith(f" x 8 x 8 {kind}")
                )
                axes.plot(*zip(*points, strict=True), "o-", color=colour, label=kind) if points else None
            axes.axhline(1, color="grey", linewidth=1)
            axes.set(title=title, xlabel="points of 8 features, 8 components", xscale="log", yscale="log")
        panels[0].set_ylabel("times as fast as scikit-learn")
        panels[0].legend()
        return drawn
