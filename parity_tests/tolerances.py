"""Every tolerance of the suite, once, computed from its cause: C x eps x condition.

Two frameworks that compute one formula differ because they add in different orders and use different
polynomials for exp, log and tanh. That is a few (C) machine epsilons (2.2e-16 in float64, 1.2e-7 in float32),
relative to the largest entry of the tensor ("nmax") or in the Euclidean norm ("l2"), times the condition of
the problem: by how much it magnifies a relative change of what enters it. A difference above that is a bug
with a cause.

    sum of terms of one sign            1
    inner product of k terms            sqrt(k), if its roundings are independent
    sum of terms of both signs          sum|t| / |sum t|
    triangular solve, determinant       the condition number of the factor
    exp of a, where a is a difference   |a|, the absolute error that the exponential makes a relative one
    Adam, one update of one weight      lr max|g| / 1e-8: noise of eps max|g| in a gradient below Adam's epsilon
    n updates                           sqrt(n) roundings that are independent

C leaves a factor of about 5 over what was measured. Where float32 is compared in another way (each step from
a common state, or with smooth activations only, since a ReLU that flips has no condition), it has its own two
numbers.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np


@dataclass(frozen=True)
class Tolerance:
    """C, the condition and the reason; `float32` is (C, condition) where that precision differs."""

    c: float
    condition: float
    reason: str
    float32: tuple[float, float] | None = None
    measure: str = "nmax"

    def of(self, dtype: str) -> float:
        """The largest admissible difference of two results of this dtype."""
        c, condition = self.float32 if dtype == "float32" and self.float32 else (self.c, self.condition)
        return c * condition * float(np.finfo(dtype).eps)


@dataclass(frozen=True)
class SamplingError:
    """So many standard errors, 1 / sqrt(2 n) of it, of a spread estimated from n draws; any dtype."""

    standard_errors: float
    draws: int
    reason: str
    measure: str = "nmax"

    def of(self, dtype: str) -> float:
        """The largest admissible difference of two results of this dtype."""
        return self.standard_errors / sqrt(2 * self.draws)


SINGLE = float(np.finfo("float32").eps / np.finfo("float64").eps)  # an epsilon of float32, in those of float64
INNER_PRODUCT = sqrt(784)  # the longest of the suite: one for each pixel
ADAM = 1e-3 * 0.05 / 1e-8  # lr max|g| / epsilon
FACTOR = 10  # the condition number of the Cholesky factors
EM_RATE = 100  # 1 / (1 - rate): the roundings of that many iterations are still there where components overlap

TOLERANCES: dict[str, "Tolerance | SamplingError"] = {
    "exact": Tolerance(0, 1, "the same to the last bit: dtypes, shapes, integers, NaN or not, one and the same array"),
    "float32 constant": Tolerance(
        4, SINGLE, "TensorFlow's side keeps a constant or a result in single precision", (4, 1)
    ),
    "sampling error": SamplingError(3, 200_000, "three standard errors of the spread of 200,000 draws"),
    "elementwise": Tolerance(8, 1, "up to 11 ULP of exp, log, tanh, sqrt in the tails, 8 at the largest entry", (3, 1)),
    "loss": Tolerance(8, 1, "a sum of terms of one sign: condition 1, some epsilons of summation order"),
    "output": Tolerance(1.2, INNER_PRODUCT, "inner products of up to 784 terms"),
    "gradient": Tolerance(1.5, INNER_PRODUCT, "as the outputs, once more through the chain rule"),
    "convolution gradient": Tolerance(
        1.5, 600, "a scalar output bias: a sum over all pixels of all images, both signs", (1.5, 110)
    ),
    "gradient through a solve": Tolerance(1.5, INNER_PRODUCT * FACTOR, "the gradient, through a triangular solve"),
    "gradient that cancels": Tolerance(1.5, 280, "one number, a sum of terms of both signs: sum|t| / |sum t| = 280"),
    "ill-conditioned": Tolerance(7, 6e5, "a least squares problem of condition 6e5", (0.14, 6e5)),
    "gradient of a residual": Tolerance(
        1.5, 5 * INNER_PRODUCT, "x minus its reconstruction cancels: |x| / |x - g(f(x))| is 5 or less"
    ),
    "share of weights": Tolerance(4, 100, "exp of differences of log weights near -100"),
    "optimizer": Tolerance(1.4, sqrt(1000), "1,000 updates from equal gradients", (8, 1)),
    "learning rates": Tolerance(
        9, 50, "as the optimizer's; parameters 50 rates from zero, in units of the rate", (1.6, 50)
    ),
    "trajectory loss": Tolerance(
        8, 50, "1,000 Adam updates: weights apart by 5,000 epsilons, where the loss is nearly flat", (8, 1)
    ),
    "trajectory weights": Tolerance(
        0.9, ADAM, "few weights have gradients below Adam's epsilon; so in the Euclidean norm, C < 1", (8, 10), "l2"
    ),
    "trajectory of one weight": Tolerance(
        2.8, ADAM * sqrt(1000), "the worst weight: below Adam's epsilon at every update", (8, 100)
    ),
    "long trajectory loss": Tolerance(8, 500, "10,000 updates, ten times as far as 1,000: growth at worst linear"),
    "long trajectory weights": Tolerance(0.9, 10 * ADAM, "as the loss", measure="l2"),
    "em log likelihood": Tolerance(8, 50, "a sum over the points of log densities of both signs", (1.5, 28)),
    "em parameters": Tolerance(
        8, 5 * FACTOR * EM_RATE, "densities through a solve, in as many iterations as are remembered", (8, 10)
    ),
    "em responsibilities": Tolerance(
        8, 50 * FACTOR * EM_RATE, "as the parameters, in exp of log densities of size 10", (8, 10)
    ),
    "crossed VAE": Tolerance(
        0.9, ADAM, "as the trajectory, of every entry and moment; float32: 23 updates, not one", (8, 100)
    ),
    "crossed mixture": Tolerance(
        8, 5 * FACTOR * EM_RATE, "as the parameters; float32: 23 iterations where components overlap, none forced"
    ),
    "student": Tolerance(
        4, 600, "log gammas of half of 300 degrees of freedom, one less the other: epsilons of 600 in a 10", (3, 600)
    ),
    "variational bound": Tolerance(
        8, 56, "seven terms that cancel, log gammas of the counts among them: epsilons of the largest", (1.5, 56)
    ),
    "log gamma": Tolerance(14, 30, "log gammas that cancel: the largest is 5 to 30 times the sum"),
}


@dataclass(frozen=True)
class Limit:
    """The largest admissible value of a measured number that is no difference of the frameworks, and why."""

    value: float
    reason: str


LIMITS = {
    "expected flips": Limit(1e-3, "one training of a thousand may part in one entry, if it takes 1,000 updates"),
    "cost of rounding": Limit(1e-2, "noise of 2^-11 of the largest gradient must not be seen in the held-out loss"),
}
