"""Hostile values for the maths: right shapes and dtypes, bad numbers.

A `Case` is sizes, a precision, a power of ten and a seed, all drawn by Hypothesis; `case[name]` makes an
argument, of the name that the table in `test_hostile_input.py` has for it. The estimators, which are for
users, get wrong shapes and dtypes as well, in `test_hostile_estimators.py`. Two limits, and why:

- No argument of the maths is below the smallest normal number, 2e-308 or 1e-38: TensorFlow takes such
  numbers for zero. PyTorch can be told to, and its sums and products are then the same, but its logarithm
  still is that of the number.
- No entry is above what the estimators admit: the squares of larger ones overflow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from common.mixtures.input import sizes_allowed
from common.mixtures.parameters import (
    COVARIANCE_TYPES,
    MixturePrior,
    VariationalPosterior,
    VariationalPrior,
    covariance_shape,
    pairs,
)


@dataclass(frozen=True)
class Case:
    """One example: sizes, precision, scale and everything else that its arguments are made from."""

    seed: int
    n: int
    d: int
    k: int
    dtype: str
    kind: str
    power: int

    @cached_property
    def random(self) -> np.random.RandomState:
        """The source of all its numbers."""
        return np.random.RandomState(self.seed)

    @property
    def scale(self) -> float:
        """The size of its points."""
        return 10.0 ** (self.power if self.dtype == "float64" else round(self.power / 9))

    def one_of(self, *choices: Any) -> Any:
        """One of the choices."""
        return choices[self.random.randint(len(choices))]

    @property
    def largest(self) -> float:
        """The largest number that the estimators admit; its square does not overflow."""
        return sizes_allowed(self.dtype)[1]

    def scaled(self, *shape: int) -> np.ndarray:
        """Numbers of the case's scale and no more than the largest."""
        return self.array(np.clip(self.scale * self.normals(*shape), -self.largest, self.largest))

    def squared(self, values: Any) -> np.ndarray:
        """The values times the square of the case's scale, and no more than the largest's square."""
        values = np.asarray(values) * self.scale**2
        return self.array(values / max(1.0, np.abs(values).max() / self.largest**2))

    def array(self, values: Any) -> np.ndarray:
        """The values in the case's precision; none is infinite or subnormal that was not before."""
        info, values = np.finfo(self.dtype), np.asarray(values, np.float64)
        values = np.where(np.isfinite(values), np.clip(values, info.min, info.max), values)
        return np.where(np.abs(values) < info.tiny, np.copysign(0.0, values), values).astype(self.dtype)

    def normals(self, *shape: int) -> np.ndarray:
        """Standard normal numbers with ties, zeros of both signs, whole numbers, and rows that repeat."""
        x = self.random.standard_normal(shape)
        what = self.random.randint(7)
        if what == 1:
            x = np.round(x)
        elif what == 2:
            x = np.where(self.random.uniform(size=shape) < 0.3, self.one_of(0.0, -0.0), x)
        elif what == 3:
            x = np.broadcast_to(x.flat[0], shape)
        elif what == 4 and shape:
            x = x[self.random.randint(shape[0], size=shape[0])]
        elif what == 5:
            x = 1e6 + x
        elif what == 6:
            x = x * 10.0 ** self.random.uniform(-6, 6, shape)
        return np.array(x)

    def positive(self, *shape: int, most: float = 6) -> np.ndarray:
        """Positive numbers of up to twice as many decades."""
        return 10.0 ** self.random.uniform(-most, most, shape)

    def shares(self, *shape: int) -> np.ndarray:
        """Shares whose last axis sums to one: equal, nearly nothing but one of them, or zero but for one."""
        logits = self.one_of(0, 1, 30, 1000) * self.random.standard_normal(shape)
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return shares / shares.sum(axis=-1, keepdims=True)

    def matrix(self, stretch: float = 3) -> np.ndarray:
        """Symmetric, (D, D): well-conditioned, or nearly singular, or quite, or indefinite."""
        decades = self.one_of(0, 2, 8, 14, 17)
        spectrum = 10.0 ** -(decades * np.linspace(0, 1, self.d))
        spectrum[-1] *= self.one_of(1, 1, 1, 0, -1)
        axes = self.one_of(np.eye(self.d), np.linalg.qr(self.random.standard_normal((self.d, self.d)))[0])
        sizes = self.one_of(1.0, self.positive(self.d, most=stretch))
        matrix = (axes * spectrum) @ axes.T * sizes * np.reshape(sizes, (-1, 1))
        return 0.5 * (matrix + matrix.T)

    def matrices(self, n: int) -> np.ndarray:
        """Several of them, (n, D, D)."""
        return np.stack([self.matrix() for _ in range(n)])

    def covariances(self, kind: str) -> np.ndarray:
        """Of all components, in the shape of their kind."""
        shape = covariance_shape(self.k, self.d, kind)
        if kind in ("diag", "spherical"):
            return self.squared(self.positive(*shape))
        return self.squared(self.matrices(self.k) if len(shape) == 3 else self.matrix())

    def responsibilities(self) -> np.ndarray:
        """(N, K), rows that sum to one, or to sample weights, or with an empty component."""
        gamma = self.shares(self.n, self.k) * self.one_of(1, 1, 1e-30, 1e30, self.positive(self.n, 1))
        if self.random.uniform() < 0.2:
            gamma[:, 0] = 0
        return self.array(gamma)

    def log_joint(self) -> np.ndarray:
        """(N, K), of any size, with impossible choices and impossible points."""
        logs = self.one_of(1.0, 1e3, self.scale) * self.normals(self.n, self.k)
        logs[self.random.uniform(size=logs.shape) < self.one_of(0, 0, 0.3)] = -np.inf
        return self.array(logs)

    def number_of_counts(self, size: int | None = None) -> np.ndarray:
        """Whole numbers of 0 to 1e15."""
        return self.array(np.floor(self.one_of(1, 10, 1e6, 1e15) * self.random.uniform(size=size)))

    def heads_and_tosses(self) -> tuple[np.ndarray, np.ndarray]:
        """So many heads of so many tosses, (N,) each."""
        heads = self.number_of_counts(self.n)
        return heads, heads + self.number_of_counts(self.n) + 1

    def probability(self) -> np.ndarray:
        """A number from 0 to 1, its ends included."""
        return self.array(self.one_of(0.0, -0.0, 1.0, 0.5, 1e-30, 1 - 1e-7, self.random.uniform()))

    def sticks(self) -> tuple[int, ...]:
        """The shape of a Dirichlet's counts, or of a broken stick's."""
        return self.one_of((self.k,), (2, self.k))

    def concentrations(self) -> tuple[np.ndarray, ...]:
        """Two of one shape."""
        shape = self.sticks()
        return tuple(self.array(self.positive(*shape)) for _ in range(2))

    def prior(self) -> MixturePrior:
        """A conjugate prior of a mixture."""
        counts, mean, precision = self["dirichlet"], self["mean"], self.array(self.positive())
        return MixturePrior(counts, mean, precision, self["covariance"], self.array(self.d - 1 + self.positive()))

    def belief_before(self, weights: tuple[int, ...]) -> VariationalPrior:
        """A prior of the variational mixture."""
        shape = {"full": (self.d, self.d), "tied": (self.d, self.d), "diag": (self.d,), "spherical": ()}[self.kind]
        spread = self.matrix() if len(shape) == 2 else self.positive(*shape)
        parts = self.positive(*weights), self.positive(), self["mean"], self.d - 1 + self.positive()
        return VariationalPrior(*map(self.array, (*parts, self.squared(spread))))

    def belief_after(self, weights: tuple[int, ...]) -> VariationalPosterior:
        """A posterior of the variational mixture."""
        parts = self.positive(*weights), self.positive(self.k), self["means"], self["degrees"], self["covariances"]
        return VariationalPosterior(*map(self.array, parts))

    def beliefs(self) -> tuple[VariationalPosterior, VariationalPrior]:
        """Both."""
        weights = self.sticks()
        return self.belief_after(weights), self.belief_before(weights)

    def moments(self) -> np.ndarray:
        """Those of responsible points seen from a point, (K, P): N_k, sums and sums of products."""
        gamma, z = self.shares(self.n, self.k), self["points"].astype(np.float64)
        i, j = pairs(self.d) if self.kind in ("full", "tied") else (range(self.d), range(self.d))
        return self.array(gamma.T @ np.column_stack([np.ones(self.n), z, z[:, i] * z[:, j]]))

    def whitening(self) -> tuple[np.ndarray, np.ndarray]:
        """Roots of precisions, and constants, (K,)."""
        shape = (self.k, self.d, self.d) if self.kind in ("full", "tied") else (self.k, self.d)
        return self.array(self.positive(*shape) / self.scale), self.array(self.normals(self.k))

    def expected(self) -> tuple[np.ndarray, ...]:
        """The results of the E step with missing entries."""
        completed = self.scaled(self.n, self.k, self.d)
        unexplained = self.squared(np.stack([self.matrices(self.k) for _ in range(self.n)]))
        return self["numbers"], self.responsibilities(), completed, unexplained

    def near_covariance(self) -> np.ndarray:
        """A covariance for `near_points`."""
        ridge = self.one_of(0, 1e-3) if self.dtype == "float64" else 1e-3
        return self.array(self.scale**0.5 * (self.matrix(stretch=0) + ridge * np.eye(self.d)))

    def root(self) -> tuple[np.ndarray, np.ndarray]:
        """Positive numbers and their roots."""
        x = self["variance"]
        return x, np.sqrt(x)

    def bare(self) -> np.ndarray:
        """An array as it comes: of any layout, and of integers or truth values too."""
        x = self["points"]
        x = self.one_of(x, x, x > 0, np.arange(self.n), np.array(1.0))
        x.flags.writeable = False
        return self.one_of(x, x.T, x[::-1] if x.ndim else x, x[..., ::2] if x.ndim else x)

    def __getitem__(self, name: str) -> Any:
        """An argument by its name: from the table below, or by the method of that name."""
        return ARGUMENTS[name](self) if name in ARGUMENTS else getattr(self, name)()


ARGUMENTS: dict[str, Callable[[Case], Any]] = {
    "points": lambda c: c.scaled(c.n, c.d),
    "means": lambda c: c.scaled(c.k, c.d),
    "mean": lambda c: c.scaled(c.d),
    "number": lambda c: c.scaled(),
    "numbers": lambda c: c.scaled(c.n),
    "loadings": lambda c: c.scaled(c.d, c.k),
    "variance": lambda c: c.squared(c.positive(c.n)),
    "squares": lambda c: c.squared(c.positive(c.k, c.d)),
    "squares_of_points": lambda c: c.squared(c.positive(c.n, c.d)),
    "deviations": lambda c: c.array(np.minimum(c.scale * c.positive(c.n), c.largest)),
    "deviation": lambda c: c.array(np.minimum(c.scale * c.positive(), c.largest)),
    "covariance": lambda c: c.squared(c.matrix()),
    "wisharts": lambda c: c.squared(c.matrices(c.k)),
    "covariances": lambda c: c.covariances(c.kind),
    "full": lambda c: c.covariances("full"),
    "covariance_type": lambda c: c.kind,
    "dimension": lambda c: c.d,
    "components": lambda c: c.k,
    "weights": lambda c: c.array(c.shares(c.k)),
    "distributions": lambda c: c.array(c.shares(c.n, c.k)),
    "responsibilities_of_components": lambda c: np.ascontiguousarray(c.responsibilities().T),
    "choices": lambda c: c.array(np.eye(c.k)[c.random.randint(c.k, size=c.n)]),
    "sample_weight": lambda c: c.array(c.positive(c.n) * c.one_of(1, 0, 1e-30, 1e30)),
    "reg_covar": lambda c: c.one_of(0.0, 1e-6, c.scale**2),
    "uniforms": lambda c: c.array(c.random.uniform(size=c.n)),
    "noise": lambda c: c.array(c.normals(c.n, c.d)),
    "observed": lambda c: c.random.uniform(size=(c.n, c.d)) < c.one_of(0.0, 0.5, 0.9, 1.0),
    "counts": lambda c: c.number_of_counts(c.n),
    "count": lambda c: c.number_of_counts(),
    "tosses": lambda c: c.array(c.random.randint(2, size=c.n)),
    "biases": lambda c: c.array([c.probability() for _ in range(c.k)]),
    "belief": lambda c: c.array(c.one_of(1.0, 0.5, c.positive(), c.positive(most=15))),
    "concentration": lambda c: c.array(c.positive(*c.sticks())),
    "dirichlet": lambda c: c.array(1 + c.one_of(0, 1) * c.positive(c.k)),
    "freedom": lambda c: c.array(c.d - 1 + c.positive(c.k)),
    "degrees": lambda c: c.array(c.d - 1 + c.positive(*(() if c.kind == "tied" else (c.k,)))),
    "log_variance": lambda c: c.array(c.one_of(1, 10, 300) * c.normals(c.n, c.d)),
    "log_variance_of_all": lambda c: c.array(c.one_of(1, 10, 300) * c.normals()),
    "prior_of_two": lambda c: c.prior()._replace(concentration=c["dirichlet"][[0, 0]]),
    "belief_before": lambda c: c.belief_before(c.sticks()),
    "belief_after": lambda c: c.belief_after(c.sticks()),
    "coefficients": lambda c: c.array(c.normals(*c.moments().shape)),
    "independent": lambda c: c.array(c.normals(*((c.k, c.d) if c.kind == "diag" else (c.k,)))),
    "step": lambda c: int(c.one_of(1, 2, 1000, 10**6)),
    "corrections": lambda c: c.one_of((0.1, 0.001), (1.0, 1.0)),
    "positive_counts": lambda c: c.array(c.positive(c.k)),
    "statistics": lambda c: (c["positive_counts"], c["means"], c["covariances"]),
    "chunks": lambda c: [(c["points"], c["sample_weight"]) for _ in range(2)],
    "chunks_of_choices": lambda c: [(c["points"], c.responsibilities()) for _ in range(2)],
    # A covariance's gradient holds fourth powers of what a point's density holds squares of. Where those overflow, the
    # order of products decides which entries are infinite and which zero times infinity, so scales are fourth roots.
    "near_points": lambda c: c.array(c.scale**0.25 * np.clip(c.normals(c.n, c.d), -10, 10)),
    "near_mean": lambda c: c.array(c.scale**0.25 * np.clip(c.normals(c.d), -10, 10)),
}


def cases(dtypes: tuple[str, ...] = ("float64", "float32")) -> st.SearchStrategy[Case]:
    """Cases of all sizes, one point and one feature and more components than points among them."""
    return st.builds(
        Case,
        seed=st.integers(0, 2**32 - 1),
        n=st.integers(1, 6),
        d=st.integers(1, 4),
        k=st.integers(1, 4),
        dtype=st.sampled_from(dtypes),
        kind=st.sampled_from(COVARIANCE_TYPES),
        power=st.sampled_from([0, 0, 0, -150, 150]) | st.integers(-150, 150),
    )
