"""What bytes that are equal by construction would cost: sums that are exact in any order, functions of IEEE operations.

python -m parity_tests.digests.exact

A float64 product is exact, in whatever order a library adds and with or without fused instructions, if its
factors have few digits: two slices of $b$ binary digits each with $2 b + \\log_2 K \\le 53$ for an inner
dimension K. And a function is the same everywhere if it is written out in sums, products and quotients.

Source: K. Ozaki, T. Ogita, S. Oishi, S. Rump, "Error-free transformations of matrix multiplication by using
fast routines of matrix multiplication and its applications", Numerical Algorithms 59 (2012).
"""

import math
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import expit

from common import draws

N, D, H, L = 128, 64, 400, 10  # images, pixels, hidden units, codes: the VAE of `make train`
PRODUCTS = {  # rows, inner dimension, columns of the products of a forward and a backward pass, without biases
    "forward": [(N, D, H), (N, H, L), (N, H, L), (N, L, H), (N, H, D)],
    "to the weights": [(H, N, D), (L, N, H), (L, N, H), (H, N, L), (D, N, H)],
    "to the layer before": [(N, D, H), (N, H, L), (N, L, H), (N, L, H)],
}
REPEATS = 30


def split(x: np.ndarray, axis: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Two slices of ``bits`` binary digits, the first that of the largest entry along the inner axis.

    Adding and subtracting $3/2 \\cdot 2^{52}$ units rounds to a multiple of the unit.
    """
    _, exponent = np.frexp(np.maximum(x.max(axis=axis, keepdims=True), -x.min(axis=axis, keepdims=True)))
    large = np.ldexp(1.5, 52 + exponent - bits)
    high = (x + large) - large
    large *= 2.0**-bits
    return high, ((x - high) + large) - large


def exact_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The product of (M, K) and (K, N) to about 2^-40 of its scale, of which every order of summation makes the same.

    Each of the three products is exact; only what is left, one entry at a time, is rounded.
    """
    bits = (53 - math.ceil(math.log2(a.shape[1]))) // 2
    (a_high, a_low), (b_high, b_low) = split(a, 1, bits), split(b, 0, bits)
    return a_high @ b_high + (a_high @ b_low + a_low @ b_high)


def exponential(x: np.ndarray) -> np.ndarray:
    r"""$e^x = 2^k e^r$ with $r = x - k \log 2$ in two parts, and the series of $e^r$ for $|r| \le \log 2 / 2$."""
    k = np.rint(x * 1.4426950408889634)
    r = (x - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10
    series = np.full_like(r, 1 / math.factorial(13))
    for n in range(12, -1, -1):
        series = series * r + 1 / math.factorial(n)
    return np.ldexp(series, k.astype(np.int64))


def hyperbolic_tangent(x: np.ndarray) -> np.ndarray:
    """tanh, by the exponential."""
    t = exponential(-2 * np.abs(x))
    return np.copysign((1 - t) / (1 + t), x)


def logistic(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x), by the exponential."""
    t = exponential(-np.abs(x))
    return np.where(x >= 0, 1.0, t) / (1 + t)


def seconds(step: Callable[[], object]) -> float:
    """The least time of a few calls."""
    found = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        step()
        found.append(time.perf_counter() - start)
    return min(found)


def main(argv: Sequence[str] | None = None) -> int:
    """Print how many times as long a step's products and functions take, and both together."""
    shapes = [shape for group in PRODUCTS.values() for shape in group]
    left = [draws.normals(0, "sample", (m, k), i) for i, (m, k, _) in enumerate(shapes)]
    right = [draws.normals(1, "sample", (k, n), i) for i, (_, k, n) in enumerate(shapes)]
    factors = list(zip(left, right, strict=True))
    hidden, codes, pixels = (draws.normals(2, "sample", (N, width)) for width in (2 * H, L, D))
    plain = {
        "products": seconds(lambda: [a @ b for a, b in factors]),
        "functions": seconds(lambda: (np.tanh(hidden), np.exp(codes), expit(pixels))),
    }
    exact = {
        "products": seconds(lambda: [exact_product(a, b) for a, b in factors]),
        "functions": seconds(lambda: (hyperbolic_tangent(hidden), exponential(codes), logistic(pixels))),
    }
    for what in plain:
        print(f"{what}: {1e3 * plain[what]:.2f} ms in float64, {exact[what] / plain[what]:.1f} times that exact")
    print(f"together {sum(exact.values()) / sum(plain.values()):.1f} times float64")
    return 0


if __name__ == "__main__":
    sys.exit(main())
