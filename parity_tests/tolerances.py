"""Every tolerance of the suite, once, with the reason for its size.

Two frameworks that compute one formula differ because they add in different orders and use different polynomials for
exp, log and tanh. That is a few machine epsilons (2.2e-16 in float64, 1.2e-7 in float32), relative to the largest
entry of the tensor ("nmax"), times the condition of the problem. A difference above these is a bug with a cause.
"""

from typing import NamedTuple


class Tolerance(NamedTuple):
    """The largest admissible nmax by dtype, and why."""

    float64: float
    float32: float
    reason: str


TOLERANCES = {
    "exact": Tolerance(
        0.0, 0.0, "the same to the last bit: dtypes, shapes, integers, NaN or not, one and the same array"
    ),
    "float32 constant": Tolerance(5e-7, 5e-7, "TensorFlow's side keeps a constant or a result in single precision"),
    "sampling error": Tolerance(5e-3, 5e-3, "three standard errors of the spread of 200,000 draws"),
    "elementwise": Tolerance(2e-15, 4e-7, "a few ULP of exp, log, tanh or sqrt"),
    "loss": Tolerance(2e-15, 1e-6, "a sum of terms of one sign: condition 1, some epsilons of summation order"),
    "output": Tolerance(1e-14, 4e-6, "inner products of up to 784 terms: sqrt(784) = 28 epsilons"),
    "gradient": Tolerance(1e-14, 5e-6, "as the outputs, once more through the chain rule"),
    "gradient through a solve": Tolerance(1e-13, 5e-5, "the gradient once more through a triangular solve: cond(L)"),
    "gradient that cancels": Tolerance(1e-13, 5e-5, "one number, a sum of terms of both signs: sum|t| / |sum t|"),
    "ill-conditioned": Tolerance(1e-9, 1e-2, "a least squares problem of condition 6e5: some epsilons times that"),
    "share of weights": Tolerance(1e-13, 5e-5, "exp of differences of log weights near -100: a hundred epsilons"),
    "optimizer": Tolerance(1e-14, 1e-6, "1,000 updates by the same formula from the same gradients"),
    "learning rates": Tolerance(1e-13, 1e-5, "as the optimizer's; parameters 50 rates from zero, in units of the rate"),
    "trajectory loss": Tolerance(1e-13, 1e-6, "hundreds of Adam steps: one moves a weight by lr d(g) / (|g| + 1e-8)"),
    "trajectory weights": Tolerance(1e-12, 1e-5, "as the loss; relative in the Euclidean norm"),
    "em log likelihood": Tolerance(
        1e-13, 5e-6, "a sum over the points of log densities: the data's size times epsilon"
    ),
    "em parameters": Tolerance(1e-11, 1e-5, "a rate near 1 where components overlap; float32: one step from one state"),
    "em responsibilities": Tolerance(1e-10, 1e-5, "exp of log densities, whose size multiplies their relative error"),
    "log gamma": Tolerance(
        1e-13, 5e-5, "log gammas that cancel: epsilons of the largest of them, 5 to 30 times the sum"
    ),
}
