"""Hostile arrays in the estimators of both implementations: one finite answer, or one error in one line."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf
import torch
from hypothesis import strategies as st

import pytorch_impl.estimators as torch_estimators
import tf2_impl.estimators as tf_estimators
from common.mixtures.parameters import COVARIANCE_TYPES
from common.mixtures.start import INIT_PARAMS
from parity_tests.guards import hostile_answers
from parity_tests.guards.hostile_answers import Answer, Tally, attempt, few_and_many, hunt

VALUES = (
    "plain " * 6 + "whole zeros ties constant one-point collinear offset columns entries subnormal gaps infinite"
).split()
DTYPES = ("float64 " * 6 + "float32 float32 float16 longdouble int8 int64 uint64 bool complex64 object str").split()
LAYOUTS = ("C " * 8 + "F read-only backwards strided list big-endian masked torch tf 1-D 3-D 0-D sparse").split()
WEIGHTS = (
    "none " * 6 + "ones zeros some huge tiny subnormal decades negative NaN short bool int one number 2-D"
).split()
FITTED = (
    "weights_ means_ covariances_ precisions_ precisions_cholesky_ lower_bound_ n_iter_ converged_ "
    "weight_concentration_ mean_precision_ degrees_of_freedom_"
)
METHODS = ["predict", "predict_proba", "score_samples", "score", "bic", "aic", "impute", "predictive_log_density"]


@dataclass(frozen=True)
class Table:
    """A table as users may have it: numbers, then a dtype, then a layout."""

    seed: int
    n: int
    d: int
    power: int
    values: str
    dtype: str
    layout: str

    def numbers(self) -> np.ndarray:
        """The numbers in double precision."""
        random, shape, scale = np.random.RandomState(self.seed), (self.n, self.d), 10.0**self.power
        x = scale * random.standard_normal(shape)
        chosen = random.uniform(size=shape)
        changed: dict[str, Callable[[], np.ndarray]] = {
            "whole": lambda: np.round(3 * x / scale),
            "zeros": lambda: np.where(chosen < 0.5, -0.0, x),
            "ties": lambda: x[random.randint(max(1, self.n // 2), size=self.n)],
            "constant": lambda: np.where(np.arange(self.d) == 0, x[:1], x),
            "one-point": lambda: np.repeat(x[:1], self.n, axis=0),
            "collinear": lambda: np.where(np.arange(self.d) == self.d - 1, 2 * x[:, :1], x),
            "offset": lambda: x + 1e8 * scale,
            "columns": lambda: x * 10.0 ** random.uniform(-150, 150, self.d),
            "entries": lambda: x * 10.0 ** random.uniform(-150, 150, shape),
            "subnormal": lambda: random.randint(-5, 6, shape) * 5e-324 * 10.0 ** random.randint(10),
            "gaps": lambda: np.where(chosen < 0.2, np.nan, x),
            "infinite": lambda: np.where(chosen < 0.1, random.choice([np.inf, -np.inf]), x),
        }
        return changed.get(self.values, lambda: x)() if x.size else x

    def make(self) -> Any:
        """Return the table as the user passes it."""
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x = self.numbers()
            if np.dtype(self.dtype).kind in "iub":
                x = np.clip(np.nan_to_num(x), 0 if self.dtype == "uint64" else -127, 127)
            x = x.astype(self.dtype)
        if self.dtype == "object" and x.size:
            x.flat[0] = (None, "a", 1.0)[self.seed % 3]
        return laid_out(x, self.layout)


def laid_out(x: np.ndarray, layout: str) -> Any:
    """The array in another layout or container; as it is, where that cannot hold its dtype."""
    usual = x.dtype.kind in "fiub" and x.dtype.itemsize <= 8
    if layout == "read-only":
        x.flags.writeable = False
    made: dict[str, Callable[[], Any]] = {
        "F": lambda: np.asfortranarray(x),
        "backwards": lambda: x[::-1, ::-1] if x.ndim == 2 else x[::-1],
        "strided": lambda: np.repeat(np.repeat(x, 2, axis=0), 3, axis=-1)[::2, ..., ::3],
        "list": x.tolist,
        "big-endian": lambda: x.astype(x.dtype.newbyteorder(">")),
        "masked": lambda: np.ma.masked_array(x, mask=x != x if x.dtype.kind == "f" else np.zeros(x.shape, bool)),
        "torch": lambda: torch.tensor(x) if usual else x,
        "tf": lambda: tf.constant(x) if usual else x,
        "sparse": lambda: scipy.sparse.csr_matrix(x) if usual and x.dtype.itemsize > 2 and x.ndim == 2 else x,
        "1-D": x.ravel,
        "3-D": lambda: x[None],
        "0-D": lambda: x.flat[0] if x.size else np.float64(1),
    }
    return made.get(layout, lambda: x)()


def tables(**fixed: Any) -> st.SearchStrategy[Table]:
    """Tables of all kinds; half of them are what users are asked for."""
    drawn = dict(
        seed=st.integers(0, 2**32 - 1),
        n=st.sampled_from([2, 3, 5, 8, 12, 30] * 3 + [1, 0]),
        d=st.sampled_from([1, 2, 3, 5] * 4 + [0]),
        power=st.sampled_from([0, 0, 0, 1, -1, 150, -150]) | st.integers(-150, 150),
        values=st.sampled_from(VALUES),
        dtype=st.sampled_from(DTYPES),
        layout=st.sampled_from(LAYOUTS),
    )
    return st.builds(Table, **drawn | {name: st.just(value) for name, value in fixed.items()})


def sample_weight(what: str, table: Table) -> Any:
    """Weights of the rows, right or wrong."""
    u = np.random.RandomState(table.seed).uniform(size=table.n)
    weights: dict[str, Any] = dict(some=np.where(u < 0.5, 0, u), huge=u * 1e300, tiny=u * 1e-300, subnormal=u * 1e-315)
    weights |= dict(decades=10.0 ** (600 * u - 300), negative=u - 0.5, NaN=np.where(u < 0.5, np.nan, 1.0), short=u[:-1])
    weights |= dict(bool=u < 0.5, int=(3 * u).astype(int), one=1.0 * (np.arange(table.n) == 0), number=2.0)
    return (weights | {"ones": np.ones(table.n), "zeros": np.zeros(table.n), "2-D": u[:, None]})[what]


class Fit(NamedTuple):
    """A fit, and another table for the methods afterwards: the same if there is none."""

    table: Table
    other: Table | None
    weight: str
    arguments: dict[str, Any]


BAD_NUMBERS = [-1, 0.5, None, "2", float("nan"), float("inf"), True, 1e-320]
ARGUMENTS: dict[str, list] = dict(init_params=[*INIT_PARAMS, "best"], n_init=[2, 2, 0], tol=[0.0, 1.0, *BAD_NUMBERS])
ARGUMENTS["reg_covar"] = [0.0, 1e-6, 1.0, 1e-320, 1e-300, 1e300, *BAD_NUMBERS]
OF_MIXTURES = ARGUMENTS | dict(
    weights_init=[np.array([1.0, 0.0]), [0.5, 0.5], [1.0], [1e-320, 1.0], "ab", [[0.5], [0.5, 1]]],
    means_init=[np.array([[1e150]]), [[0.0], [1.0]], np.zeros((2, 2)), np.full((2, 2), 1e-320)],
    precisions_init=[np.array([[[1e-300]]]), np.stack([np.eye(2)] * 2), np.ones((2, 2)), [1e300, 1.0]],
)
OF_BELIEFS = ARGUMENTS | dict(
    weight_concentration_prior_type=["dirichlet_process", "dirichlet_distribution", "none"],
    weight_concentration_prior=[1.0, 1e-5, 1e5, 1e-320, 1e300, *BAD_NUMBERS],
    mean_precision_prior=[1.0, 1e-5, 1e5, 1e-320, 1e300, *BAD_NUMBERS],
    degrees_of_freedom_prior=[1.5, 3.0, 1e5, 1e300, *BAD_NUMBERS],
    mean_prior=[[0.0], [0.0, 1e150], [1e300, 0.0], "a"],
    covariance_prior=[1.0, [[1.0]], np.eye(2), np.ones((2, 2)), [1.0, 1e-320], 1e300, 1e-320],
)


@st.composite
def fits(draw: Callable, missing: str | None) -> Fit:
    """Fits of which most arguments are right."""
    found = dict(
        n_components=draw(st.sampled_from([1, 2, 2, 3, 4] * 3 + [0, 1.5])),
        covariance_type=draw(st.sampled_from([*COVARIANCE_TYPES] * 3 + ["round"])) if missing != "em" else "full",
        max_iter=draw(st.sampled_from([3, 3, 1, 0])),
        random_state=draw(st.integers(0, 3)),
    )
    choices = OF_BELIEFS if missing is None else OF_MIXTURES
    for name in draw(st.lists(st.sampled_from(sorted(choices)), max_size=2, unique=True)):
        found[name] = draw(st.sampled_from(choices[name]))
    table = draw(tables())
    other = draw(st.none() | tables(d=table.d) | tables(d=table.d, dtype=table.dtype, power=table.power, layout="C"))
    weight = "none" if missing is None else draw(st.sampled_from(WEIGHTS))
    return Fit(table, other, weight, found | ({} if missing is None else {"missing": missing}))


def asked(fit: Callable[[], Any], methods: Callable[[], dict[str, Callable]]) -> dict[str, Answer]:
    """Answers of a fit and, unless that is an error, of every method afterwards."""
    found = {"fit": attempt(fit)}
    return found if found["fit"].error else found | {name: attempt(call) for name, call in methods().items()}


def mixture_answers(Estimator: type, case: Fit) -> dict[str, Answer]:
    """Answers of a fit, its fitted attributes, and of every method."""
    x, model = case.table.make(), Estimator(**case.arguments)
    keywords = {} if case.weight == "none" else {"sample_weight": sample_weight(case.weight, case.table)}

    def fit() -> dict[str, Any]:
        model.fit(x, **keywords)
        names = [name for name in FITTED.split() if model.n_iter_ or name != "lower_bound_"]  # of no iteration: -inf
        return {name: getattr(model, name) for name in names if hasattr(model, name)}

    def methods() -> dict[str, Callable]:
        other = x if case.other is None else case.other.make()
        calls = {name: partial(getattr(model, name), other) for name in METHODS if hasattr(model, name)}
        return calls | {"sample": lambda: model.sample(3)}

    return asked(fit, methods)


HEADS = [
    *([5, 9, 8, 4, 7], np.array([1, 0, 2], np.int8), [0, 0, 10], [10.0, 3.0], np.float32([1, 5, 9]), [1e15, 3]),
    *([1e300], [2.5, 1], [-1, 3], [np.nan, 1], [], [[1, 2]], 3, "ab", [None, 1], [True, False], [[1], [1, 2]]),
    *(np.ones(3, complex), np.longdouble([1, 2]), np.arange(12)[::-4], tf.constant([1.0, 2.0])),
    *(torch.tensor([4, 4]), [5e-324, 1]),
]
COUNTS = [
    *(10, 1, 0, -1, 2**40, 1e16, 1e300, [10] * 5, [10, 10, 10], [10.0, 20.0], np.float32([10, 10, 10]), None, "10"),
    1.5,
]
SHARES = [
    *(None, None, None, None, [0.3, 0.6], [0.0, 1.0], [0.5], [1e-320, 0.5], [1.0, 0.0], [0.5, 0.6], [np.nan, 1]),
    *("ab", [1e-300, 1.0], [-0.0, 1.0], np.float16([0.25, 0.75])),
]
NUMBERS = [
    *(1.0, 0.5, 2, 1e-5, 1e5, 1e150, 1e-150, 1e300, 1e-300, 1e-320, 5e-324, 0.0, -0.0, -1.0, np.nan, np.inf, 10**400),
    *(True, "1", None, 1j, np.float16(0.5), np.longdouble(0.5), np.array(0.5), np.array([0.5]), torch.tensor(0.5)),
    *(0.999, tf.constant(2.0), [0.5]),
]
TOSSES = [
    *([1, 0, 1], [1, 1, 1], [0], [], np.array([True, False]), np.float16([1, 0]), np.array([1, 0, 1, 1])[::-2], [2]),
    *([0.5], [np.nan], "10", [[1, 0]], 1, [None], tf.constant([1, 0]), torch.tensor([1.0, -0.0]), [5e-324]),
]


class Coins(NamedTuple):
    """Arguments of a mixture of coins and of its methods."""

    arguments: dict[str, Any]
    heads: Any
    tosses: Any
    other: Any


def coins() -> st.SearchStrategy[Coins]:
    """Fits of mixtures of coins, some with bad arguments."""
    sizes = dict(n_components=[1, 2, 2, 2, 3, 0, 1.5, None], max_iter=[3, 3, 1, 0, -1])
    others = dict(tol=[0.0, 1e-3, *BAD_NUMBERS], seed=[0, 1, -1, 0.5, 2**70], fixed_weights=[True, False, "no"])
    others |= dict(weights_init=SHARES, biases_init=SHARES)
    drawn = ({name: st.sampled_from(values) for name, values in choices.items()} for choices in (sizes, others))
    arguments = st.fixed_dictionaries(next(drawn), optional=next(drawn))
    usual = (HEADS[:5], [10, 10.0, 2**40], HEADS[:5])
    right, any_at_all = (map(st.sampled_from, values) for values in (usual, (HEADS, COUNTS, HEADS)))
    return st.builds(Coins, arguments, *right) | st.builds(Coins, arguments, *any_at_all)


def coins_answers(Estimator: type, case: Coins) -> dict[str, Answer]:
    """Answers of a fit, its fitted attributes, and of every method."""
    model = Estimator(**case.arguments)

    def fit() -> tuple:
        model.fit(case.heads, case.tosses)
        return model.weights_, model.biases_, model.converged_, model.n_iter_, tuple(model.log_likelihoods_)

    names = ("predict", "predict_proba", "log_likelihood")
    return asked(fit, lambda: {name: partial(getattr(model, name), case.other, case.tosses) for name in names})


def coin_answers(Estimator: type, case: tuple) -> dict[str, Answer]:
    """Answers of a coin's posterior to hostile numbers."""
    a, b, tosses, theta, count, other = case

    def methods() -> dict[str, Callable]:
        coin = Estimator(a, b).update(tosses)
        of_theta = ("log_density", "credible_interval", "tail_probability", "log_tail_probability")
        calls = {name: getattr(coin, name) for name in ("mle", "map", "predictive")}
        calls |= {name: partial(getattr(coin, name), theta) for name in of_theta}
        calls["predictive_log_probability"] = partial(coin.predictive_log_probability, count, other)
        calls["log_evidence"] = partial(coin.log_evidence, tosses)
        return calls | {"log_likelihood": partial(coin.log_likelihood, tosses, theta)}

    return asked(lambda: Estimator(a, b).update(tosses).posterior, methods)


NUMBER = st.sampled_from(NUMBERS) | st.floats()
COUNT = NUMBER | st.sampled_from([3, 10])
COIN = st.tuples(NUMBER, NUMBER, st.sampled_from(TOSSES), NUMBER, COUNT, NUMBER | st.just(2))

# How answers are found, the examples, and how many of them in the suite and in the long run.
ESTIMATORS = {
    "estimators.GaussianMixture": (mixture_answers, fits("error"), 30, 600),
    "estimators.GaussianMixture with gaps": (mixture_answers, fits("em"), 20, 400),
    "estimators.BayesianGaussianMixture": (mixture_answers, fits(None), 20, 400),
    "estimators.CoinMixture": (coins_answers, coins(), 20, 600),
    "estimators.BetaBernoulli": (coin_answers, COIN, 20, 600),
}
FAILED_EARLIER = Answer({}, ("none", "an earlier step failed"))


def check(name: str, case: Any, tally: Tally) -> None:
    """Ask both, and compare all that they say; errors are one line, values finite."""
    answers, estimator = ESTIMATORS[name][0], name.partition(".")[2].partition(" ")[0]
    ours, theirs = (getattr(module, estimator) for module in (torch_estimators, tf_estimators))
    found, other = answers(ours, case), answers(theirs, case)

    @cache
    def again(seed: int, units: int) -> dict[str, Answer]:
        with hostile_answers.Noise(seed, units):
            return answers(ours, case)

    @cache
    def flushed() -> dict[str, Answer]:
        return hostile_answers.without_subnormals(lambda: answers(ours, case))

    first = next(iter(found))
    assert found.keys() == other.keys(), f"PyTorch: {found[first]}\nTensorFlow: {other[first]}"
    for what, value in found.items():
        moved = partial(lambda what, *how: again(*how).get(what, FAILED_EARLIER), what)
        flush = partial(lambda what: flushed().get(what, FAILED_EARLIER), what)
        tally.add(*hostile_answers.compare(value, other[what], moved, flush))
        if value.error:
            assert value.error[0] in ("InputError", "ValueError", "TypeError"), f"{what}: {value.error}"
            assert "\n" not in value.error[1].strip(), f"{what}: {value.error}"
        # the log of an impossible event is no number, and is meant to be none
        ok = np.isfinite if not what.startswith("log_") else lambda array: ~np.isnan(array)
        for array in (*value.values.values(), *other[what].values.values()):
            assert np.all(ok(np.asarray(array, np.float64))), f"{what}: {value}"


@few_and_many({name: row[2:] for name, row in ESTIMATORS.items()})
def test_hostile_arrays(name: str, examples: int, request: pytest.FixtureRequest) -> None:
    hunt(lambda c, tally: check(name, c, tally), ESTIMATORS[name][1], examples, request.node.user_properties, name)
