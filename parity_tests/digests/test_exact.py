"""The product that is exact in any order is that, and the functions of IEEE operations are the functions."""

import numpy as np
import pytest

from common import draws
from parity_tests.digests import exact


@pytest.mark.parametrize(("m", "k", "n"), [(3, 1, 2), (5, 400, 7), (20, 128, 30), (4, 5000, 3)])
def test_every_order_of_summation_makes_the_same_product(m: int, k: int, n: int) -> None:
    """Also of entries of very different sizes; where plain products, of many terms, do differ."""
    a, b = draws.normals(0, "sample", (m, k)), draws.normals(1, "sample", (k, n))
    a, b = a * 10.0 ** (np.arange(k) % 7), b * 10.0 ** -(np.arange(n) % 5.0)
    product, plain = exact.exact_product(a, b), a @ b
    for seed in range(5):
        order = draws.permutation(seed, "sample", k)
        assert exact.exact_product(a[:, order], b[order]).tobytes() == product.tobytes()
        assert k < 100 or (a[:, order] @ b[order]).tobytes() != plain.tobytes(), "or the orders are no test"
    truth = a.astype(np.longdouble) @ b.astype(np.longdouble)
    scale = np.abs(a).max(axis=1, keepdims=True) * np.abs(b).max(axis=0) * k
    assert np.max(np.abs(product - truth) / scale) < 2.0**-38


def test_functions_of_sums_products_and_quotients_are_the_functions() -> None:
    x = np.concatenate([np.linspace(-40, 40, 4001), [0.0, -0.0, 1e-9]]).astype(np.float64)
    wide = x.astype(np.longdouble)
    assert np.max(np.abs(exact.exponential(x) / np.exp(wide) - 1)) < 4e-16
    assert np.max(np.abs(exact.hyperbolic_tangent(x) - np.tanh(wide))) < 4e-16
    assert np.max(np.abs(exact.logistic(x) - 1 / (1 + np.exp(-wide)))) < 4e-16
