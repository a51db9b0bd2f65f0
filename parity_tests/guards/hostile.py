"""Hostile values for the maths: right shapes and dtypes, bad numbers.

A `Case` is sizes, a precision, a power of ten and a seed, all drawn by Hypothesis; its methods make the arguments, each
under the name that the table in `test_hostile_input.py` has for it. The estimators, which are for users, get wrong
shapes and dtypes as well, in `test_hostile_estimators.py`. Two limits, and why:

- No argument of the maths is below the smallest normal number, 2e-308 or 1e-38: TensorFlow takes such numbers for zero.
  PyTorch can be told to, and its sums and products are then the same, but its logarithm still is that of the number.
- No entry is above what the estimators admit: the squares of larger ones overflow.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from common.mixtures.input import COVARIANCE_TYPES, covariance_shape, sizes_allowed
from common.mixtures.mixture_prior import MixturePrior
from common.mixtures.pairs import pairs
from common.mixtures.priors import VariationalPosterior, VariationalPrior


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
        """What the estimators admit: numbers whose squares do not overflow."""
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
        """Standard normal numbers, among them ties, zeros of both signs, whole numbers, and rows that repeat."""
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

    # Arguments, by the names that the properties use.

    def points(self) -> np.ndarray:
        return self.scaled(self.n, self.d)

    def means(self) -> np.ndarray:
        return self.scaled(self.k, self.d)

    def mean(self) -> np.ndarray:
        return self.scaled(self.d)

    def number(self) -> np.ndarray:
        return self.scaled()

    def numbers(self) -> np.ndarray:
        return self.scaled(self.n)

    def variance(self) -> np.ndarray:
        return self.squared(self.positive(self.n))

    def matrix(self, stretch: float = 3) -> np.ndarray:
        """Symmetric, (D, D): well-conditioned, or nearly singular, or quite, or indefinite."""
        decades = self.one_of(0, 2, 8, 14, 17)
        spectrum = 10.0 ** -(decades * np.linspace(0, 1, self.d))
        spectrum[-1] *= self.one_of(1, 1, 1, 0, -1)
        axes = self.one_of(np.eye(self.d), np.linalg.qr(self.random.standard_normal((self.d, self.d)))[0])
        sizes = self.one_of(1.0, self.positive(self.d, most=stretch))
        matrix = (axes * spectrum) @ axes.T * sizes * np.reshape(sizes, (-1, 1))
        return 0.5 * (matrix + matrix.T)

    def covariance(self) -> np.ndarray:
        return self.squared(self.matrix())

    def wisharts(self) -> np.ndarray:
        return self.squared(np.stack([self.matrix() for _ in range(self.k)]))

    def covariances(self, kind: str = "") -> np.ndarray:
        shape = covariance_shape(self.k, self.d, kind or self.kind)
        if shape[-2:] != (self.d, self.d) or (kind or self.kind) in ("diag", "spherical"):
            return self.squared(self.positive(*shape))
        return self.wisharts() if len(shape) == 3 else self.covariance()

    def full(self) -> np.ndarray:
        return self.covariances("full")

    def covariance_type(self) -> str:
        return self.kind

    def weights(self) -> np.ndarray:
        return self.array(self.shares(self.k))

    def distributions(self) -> np.ndarray:
        """(N, K), rows that sum to one."""
        return self.array(self.shares(self.n, self.k))

    def responsibilities(self) -> np.ndarray:
        """(N, K), rows that sum to one; or of any size, as sample weights make them, or with a component empty."""
        gamma = self.shares(self.n, self.k) * self.one_of(1, 1, 1e-30, 1e30, self.positive(self.n, 1))
        if self.random.uniform() < 0.2:
            gamma[:, 0] = 0
        return self.array(gamma)

    def choices(self) -> np.ndarray:
        return self.array(np.eye(self.k)[self.random.randint(self.k, size=self.n)])

    def log_joint(self) -> np.ndarray:
        """(N, K), as large as it will, with impossible choices and impossible points."""
        logs = self.one_of(1.0, 1e3, self.scale) * self.normals(self.n, self.k)
        logs[self.random.uniform(size=logs.shape) < self.one_of(0, 0, 0.3)] = -np.inf
        return self.array(logs)

    def sample_weight(self) -> np.ndarray:
        return self.array(self.positive(self.n) * self.one_of(1, 0, 1e-30, 1e30))

    def reg_covar(self) -> float:
        return self.one_of(0.0, 1e-6, self.scale**2)

    def uniforms(self) -> np.ndarray:
        return self.array(self.random.uniform(size=self.n))

    def noise(self) -> np.ndarray:
        return self.array(self.normals(self.n, self.d))

    def observed(self) -> np.ndarray:
        return self.random.uniform(size=(self.n, self.d)) < self.one_of(0.0, 0.5, 0.9, 1.0)

    def counts(self) -> np.ndarray:
        return self.array(np.floor(self.one_of(1, 10, 1e6, 1e15) * self.random.uniform(size=self.n)))

    def count(self) -> np.ndarray:
        return self.array(np.floor(self.one_of(1, 10, 1e6, 1e15) * self.random.uniform()))

    def tosses(self) -> np.ndarray:
        return self.array(self.random.randint(2, size=self.n))

    def heads_and_tosses(self) -> tuple[np.ndarray, np.ndarray]:
        heads = self.counts()
        return heads, heads + self.counts() + 1

    def probability(self) -> np.ndarray:
        return self.array(self.one_of(0.0, -0.0, 1.0, 0.5, 1e-30, 1 - 1e-7, self.random.uniform()))

    def biases(self) -> np.ndarray:
        return self.array([self.probability() for _ in range(self.k)])

    def belief(self) -> np.ndarray:
        return self.array(self.one_of(1.0, 0.5, self.positive(), self.positive(most=15)))

    def concentration(self) -> np.ndarray:
        shape = self.one_of((self.k,), (2, self.k))
        return self.array(self.positive(*shape))

    def concentrations(self) -> tuple[np.ndarray, np.ndarray]:
        shape = self.one_of((self.k,), (2, self.k))
        return self.array(self.positive(*shape)), self.array(self.positive(*shape))

    def dirichlet(self) -> np.ndarray:
        return self.array(1 + self.one_of(0, 1) * self.positive(self.k))

    def freedom(self) -> np.ndarray:
        return self.array(self.d - 1 + self.positive(self.k))

    def degrees(self) -> np.ndarray:
        return self.array(self.d - 1 + self.positive(*(() if self.kind == "tied" else (self.k,))))

    def dimension(self) -> int:
        return self.d

    def components(self) -> int:
        return self.k

    def log_variance(self) -> np.ndarray:
        return self.array(self.one_of(1, 10, 300) * self.normals(self.n, self.d))

    def log_variance_of_all(self) -> np.ndarray:
        return self.array(self.one_of(1, 10, 300) * self.normals())

    def loadings(self) -> np.ndarray:
        return self.scaled(self.d, self.k)

    def deviations(self) -> np.ndarray:
        return self.array(np.minimum(self.scale * self.positive(self.n), self.largest))

    def deviation(self) -> np.ndarray:
        return self.array(np.minimum(self.scale * self.positive(), self.largest))

    def prior(self) -> MixturePrior:
        return MixturePrior(self.dirichlet(), self.mean(), self.array(self.positive()), self.covariance(),
                            self.array(self.d - 1 + self.positive()))  # fmt: skip

    def belief_before(self, weights: tuple[int, ...] | None = None) -> VariationalPrior:
        shape = {"full": (self.d, self.d), "tied": (self.d, self.d), "diag": (self.d,), "spherical": ()}[self.kind]
        spread = self.matrix() if len(shape) == 2 else self.positive(*shape)
        weights = weights or self.one_of((self.k,), (2, self.k))
        return VariationalPrior(*map(self.array, (self.positive(*weights), self.positive(), self.mean(),
                                self.d - 1 + self.positive(), self.squared(spread))))  # fmt: skip

    def belief_after(self, weights: tuple[int, ...] | None = None) -> VariationalPosterior:
        weights = weights or self.one_of((self.k,), (2, self.k))
        return VariationalPosterior(*map(self.array, (self.positive(*weights), self.positive(self.k), self.means(),
                                    self.degrees(), self.covariances())))  # fmt: skip

    def beliefs(self) -> tuple[VariationalPosterior, VariationalPrior]:
        weights = self.one_of((self.k,), (2, self.k))
        return self.belief_after(weights), self.belief_before(weights)

    def moments(self) -> np.ndarray:
        """Those of responsible points seen from a point, (K, P): N_k, sums and sums of products."""
        gamma, z = self.shares(self.n, self.k), self.points().astype(np.float64)
        i, j = pairs(self.d) if self.kind in ("full", "tied") else (range(self.d), range(self.d))
        return self.array(gamma.T @ np.column_stack([np.ones(self.n), z, z[:, i] * z[:, j]]))

    def coefficients(self) -> np.ndarray:
        return self.array(self.normals(*self.moments().shape))

    # A covariance's gradient holds fourth powers of what a point's density holds squares of. Where those overflow, the
    # order of products decides which entries are infinite and which zero times infinity, so scales are fourth roots.
    def near_points(self) -> np.ndarray:
        return self.array(self.scale**0.25 * np.clip(self.normals(self.n, self.d), -10, 10))

    def near_mean(self) -> np.ndarray:
        return self.array(self.scale**0.25 * np.clip(self.normals(self.d), -10, 10))

    def near_covariance(self) -> np.ndarray:
        ridge = self.one_of(0, 1e-3) if self.dtype == "float64" else 1e-3
        return self.array(self.scale**0.5 * (self.matrix(stretch=0) + ridge * np.eye(self.d)))

    def squares(self) -> np.ndarray:
        return self.squared(self.positive(self.k, self.d))

    def prior_of_two(self) -> MixturePrior:
        return self.prior()._replace(concentration=self.dirichlet()[[0, 0]])

    def independent(self) -> np.ndarray:
        return self.array(self.normals(*((self.k, self.d) if self.kind == "diag" else (self.k,))))

    def whitening(self) -> tuple[np.ndarray, np.ndarray]:
        shape = (self.k, self.d, self.d) if self.kind in ("full", "tied") else (self.k, self.d)
        return self.array(self.positive(*shape) / self.scale), self.array(self.normals(self.k))

    def responsibilities_of_components(self) -> np.ndarray:
        return np.ascontiguousarray(self.responsibilities().T)

    def expected(self) -> tuple[np.ndarray, ...]:
        completed = self.scaled(self.n, self.k, self.d)
        unexplained = self.squared(np.stack([[self.matrix() for _ in range(self.k)] for _ in range(self.n)]))
        return self.numbers(), self.responsibilities(), completed, unexplained

    def squares_of_points(self) -> np.ndarray:
        return self.squared(self.positive(self.n, self.d))

    def root(self) -> tuple[np.ndarray, np.ndarray]:
        x = self.variance()
        return x, np.sqrt(x)

    def step(self) -> int:
        return int(self.one_of(1, 2, 1000, 10**6))

    def corrections(self) -> tuple[float, float]:
        return self.one_of((0.1, 0.001), (1.0, 1.0))

    def bare(self) -> np.ndarray:
        """An array as it comes: of any layout, and of integers or truth values too."""
        x = self.points()
        x = self.one_of(x, x, x > 0, np.arange(self.n), np.array(1.0))
        x.flags.writeable = False
        return self.one_of(x, x.T, x[::-1] if x.ndim else x, x[..., ::2] if x.ndim else x)

    def points_as_arrays(self) -> np.ndarray:
        return self.points()

    def positive_counts(self) -> np.ndarray:
        return self.array(self.positive(self.k))

    def statistics(self) -> tuple[np.ndarray, ...]:
        return self.positive_counts(), self.means(), self.covariances()

    def chunks(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(self.points(), self.sample_weight()) for _ in range(2)]

    def chunks_of_choices(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(self.points(), self.responsibilities()) for _ in range(2)]


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
