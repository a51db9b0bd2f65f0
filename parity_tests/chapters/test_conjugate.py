"""Dirichlet, stick, Wishart: the frameworks agree with each other, SciPy, quadrature and Monte Carlo."""

from types import ModuleType

import numpy as np
import pytest
from scipy import integrate, special, stats

from common import draws
from common.mixtures.parameters import COVARIANCE_TYPES
from parity_tests.conftest import Parity
from parity_tests.support.frameworks import both, check_function, pair, tensor
from parity_tests.support.problems import as_full, of_kind

both_pages = both("conjugate")
D, K = 3, 4
NU = np.array([2.5, 4.0, 30.0, 300.0])
COUNTS = np.array([0.0, 3.5, 700.0, 12.0])


def call(module: ModuleType, name: str, *arguments: object) -> np.ndarray:
    """A function of either framework on NumPy arrays."""
    tensors = (tensor(module, a) if isinstance(a, np.ndarray) else a for a in arguments)
    return np.asarray(getattr(module, name)(*tensors))


def matrices(seed: int, k: int = K, d: int = D) -> np.ndarray:
    a = draws.normals(seed, "sample", (k, d, d + 2))
    return a @ np.swapaxes(a, 1, 2)


def concentrations(rank: int) -> np.ndarray:
    values = draws.uniforms(0, "sample", (2, K)) * 5 + 0.01
    values[:, 0] = [1e-3, 200.0]
    return values if rank == 2 else values[0]


ARGUMENTS = {
    "expected_log_shares": ("log gamma", [(concentrations(1),), (concentrations(2),)]),
    "expected_log_weights": ("log gamma", [(concentrations(1),), (concentrations(2),)]),
    "expected_weights": ("elementwise", [(concentrations(1),), (concentrations(2),)]),
    "expected_log_dirichlet": ("log gamma", [(concentrations(r), concentrations(r) + 0.7) for r in (1, 2)]),
    "dirichlet_log_evidence": ("log gamma", [(COUNTS, concentrations(r)) for r in (1, 2)]),
    "wishart_log_evidence": ("log gamma", [(NU, matrices(0), NU + COUNTS, matrices(0) + matrices(1))]),
    "log_determinant": ("output", [(matrices(0),)]),
    "log_determinant_gap": ("log gamma", [(NU, D)]),
    "expected_log_determinant": ("log gamma", [(NU, matrices(0))]),
    "expected_trace": ("output", [(matrices(1), NU, matrices(0))]),
    "wishart_log_normaliser": ("log gamma", [(NU, matrices(0))]),
    "expected_log_wishart": ("log gamma", [(NU, matrices(0), NU + 1, matrices(1))]),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_values_agree(parity: Parity, name: str, dtype: str, mode: str) -> None:
    kind, cases = ARGUMENTS[name]
    for index, arguments in enumerate(cases):
        arrays = {str(i): a.astype(dtype) for i, a in enumerate(arguments) if isinstance(a, np.ndarray)}
        rest = arguments[len(arrays) :]
        check_function(parity, "conjugate", name, arrays, (kind, None), mode, label=str(index),
                       function=lambda m, *t, rest=rest: getattr(m, name)(*t, *rest))  # fmt: skip


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_student_agrees_and_is_scipys(parity: Parity, kind: str, dtype: str, mode: str) -> None:
    x, means, full = draws.normals(3, "sample", (50, D)), draws.normals(4, "sample", (K, D)), matrices(2)
    shapes = of_kind(kind, full)
    arrays = {name: a.astype(dtype) for name, a in dict(x=x, means=means, shapes=shapes, eta=NU).items()}
    check_function(parity, "conjugate", "student_log_densities", arrays, ("student", None), mode, label=kind,
                   function=lambda m, *t: m.student_log_densities(*t, kind))  # fmt: skip
    ours = call(pair("conjugate")[0], "student_log_densities", *arrays.values(), kind)
    for k in range(K):
        if kind == "diag":
            expected = stats.t(NU[k], means[k], np.sqrt(shapes[k])).logpdf(x).sum(axis=1)
        else:
            expected = stats.multivariate_t(means[k], as_full(shapes, kind, K, D)[k], NU[k]).logpdf(x)
        np.testing.assert_allclose(ours[:, k], expected, rtol=1e-11 if dtype == "float64" else 2e-4)


@both_pages
def test_dirichlet_is_scipys(module: ModuleType) -> None:
    """The entropy, and the divergence between two, from SciPy's and from numerical integration."""
    a, b = concentrations(1), concentrations(1) + 0.7
    assert -call(module, "expected_log_dirichlet", a, a) == pytest.approx(stats.dirichlet(a).entropy(), rel=1e-12)
    sticks = concentrations(2)[:, 1:]
    entropies = sum(stats.beta(*s).entropy() for s in sticks.T)
    assert -call(module, "expected_log_dirichlet", sticks, sticks) == pytest.approx(entropies, rel=1e-10)
    p, q = np.array([2.0, 3.5]), np.array([4.0, 1.5])
    expected = integrate.quad(lambda v: stats.beta(*q).pdf(v) * stats.beta(*p).logpdf(v), 0, 1, epsabs=1e-12)[0]
    assert call(module, "expected_log_dirichlet", q, p) == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(
        call(module, "expected_log_weights", b), special.digamma(b) - special.digamma(b.sum()), rtol=1e-13
    )


@both_pages
def test_log_evidences_are_scipys(module: ModuleType) -> None:
    """Of a Dirichlet, of sticks and of Wisharts, from SciPy's log gammas; and of counts that would cancel there."""
    a, sticks, gammas = concentrations(1), concentrations(2), special.gammaln
    expected = gammas(a + COUNTS).sum() - gammas(a).sum() + gammas(a.sum()) - gammas(a.sum() + COUNTS.sum())
    assert call(module, "dirichlet_log_evidence", COUNTS, a) == pytest.approx(expected, rel=1e-12)
    later = [COUNTS[k + 1 :].sum() for k in range(K)]
    expected = (special.betaln(sticks[0] + COUNTS, sticks[1] + later) - special.betaln(*sticks)).sum()
    assert call(module, "dirichlet_log_evidence", COUNTS, sticks) == pytest.approx(expected, rel=1e-12)
    large, few = np.array([1e14, 3e14]), np.array([2.0, 1.0])  # log(1/4) twice and log(3/4), but for 1e-14
    found = call(module, "dirichlet_log_evidence", few, large)
    assert found == pytest.approx(2 * np.log(0.25) + np.log(0.75), rel=1e-12)
    before, after = matrices(0), matrices(0) + matrices(1)
    log_gammas = [special.multigammaln(nu / 2, D) for nu in (*NU, *NU + COUNTS)]
    expected = np.subtract(log_gammas[K:], log_gammas[:K])
    expected += 0.5 * NU * np.linalg.slogdet(before)[1] - 0.5 * (NU + COUNTS) * np.linalg.slogdet(after)[1]
    found = call(module, "wishart_log_evidence", NU, before, NU + COUNTS, after)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@both_pages
def test_the_stick_is_broken_as_it_is_in_a_simulation(module: ModuleType) -> None:
    sticks, n = np.array([[3.0, 2.0, 6.0, 1.5], [9.0, 4.0, 5.0, 2.5]]), 200_000
    v = special.betaincinv(*sticks[:, None, :], draws.uniforms(0, "sample", (n, 4)))
    pi = v * np.cumprod(np.column_stack([np.ones(n), 1 - v[:, :-1]]), axis=1)
    log_weights = call(module, "expected_log_weights", sticks)
    error = np.log(pi).std(axis=0) / np.sqrt(n)
    assert np.all(np.abs(log_weights - np.log(pi).mean(axis=0)) < 4.5 * error)
    weights = call(module, "expected_weights", sticks)
    assert weights.sum() == pytest.approx(1, rel=1e-14)
    np.testing.assert_allclose(weights, pi.mean(axis=0) / pi.mean(axis=0).sum(), atol=2e-3)


@both_pages
@pytest.mark.parametrize("d", [1, 3])
def test_wishart_is_scipys(module: ModuleType, d: int) -> None:
    """The normaliser from a density value, the entropy, and the cross terms from draws of SciPy's."""
    nu, s, other = np.array([d + 1.5]), matrices(5, 1, d), matrices(6, 1, d)
    q = stats.wishart(float(nu[0]), np.linalg.inv(s[0]))
    at = matrices(7, 1, d)[0]
    unnormalised = 0.5 * (nu[0] - d - 1) * np.linalg.slogdet(at)[1] - 0.5 * np.trace(s[0] @ at)
    assert call(module, "wishart_log_normaliser", nu, s)[0] == pytest.approx(q.logpdf(at) - unnormalised, rel=1e-11)
    assert -call(module, "expected_log_wishart", nu, s, nu, s)[0] == pytest.approx(q.entropy(), rel=1e-10)
    sample = q.rvs(40_000, random_state=0).reshape(-1, d, d)
    log_determinants = np.linalg.slogdet(sample)[1]
    p = stats.wishart(float(nu[0]) + 2, np.linalg.inv(other[0]))
    traces = np.einsum("ij,nji->n", other[0], sample)
    for estimate, value in (
        (log_determinants, call(module, "expected_log_determinant", nu, s)),
        (traces, call(module, "expected_trace", other, nu, s)),
        (p.logpdf(np.moveaxis(sample, 0, -1)), call(module, "expected_log_wishart", nu, s, nu + 2, other)),
    ):
        assert abs(value[0] - estimate.mean()) < 4.5 * estimate.std() / np.sqrt(len(estimate))
    gap = call(module, "log_determinant_gap", nu, d)[0]
    log_of_mean = np.linalg.slogdet(nu[0] * np.linalg.inv(s[0]))[1]
    assert gap == pytest.approx(call(module, "expected_log_determinant", nu, s)[0] - log_of_mean, rel=1e-10)
    assert gap < 0
    assert call(module, "log_determinant_gap", np.array([1e6]), d)[0] == pytest.approx(-d * (d + 1) / 2e6, rel=1e-4)
