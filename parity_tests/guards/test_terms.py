"""Equation, line, number: the terms that the book marks, the lines it gives them, and the worked examples' values."""

import functools
import re
from dataclasses import replace as replaced
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from common.book.pairs import ROOT, read_pair
from common.book.text.equations import BookError, equation, places
from common.book.text.terms import Worked, worked
from common.figures.draw import CHAPTERS
from common.figures.traces import agreed
from common.figures.worked import EXAMPLES, plain, record, steps
from common.runs.script import implementation


@functools.cache
def recorded(package: str = "pytorch_impl") -> dict[str, np.ndarray]:
    """Every worked example by one implementation, as its file of traces has it."""
    maths = implementation(package, CHAPTERS)
    with maths.backend.device("cpu", 1):
        return record(maths, maths.backend.evaluate)


def example(place: str) -> tuple[Worked, dict[str, np.ndarray]]:
    """What the book shows of a function, and its values by term."""
    chapter, _, name = place.partition(".")
    definition = next(d for d in read_pair(chapter).definitions if d.name == name)
    found = worked(chapter, definition, recorded())
    return found, {term: recorded()[f"{place}/{term}"] for term in found.names}


def test_both_implementations_compute_the_same_examples(tmp_path: Path) -> None:
    files = [tmp_path / "torch.npz", tmp_path / "tf2.npz"]
    for file, package in zip(files, ("pytorch_impl", "tf2_impl"), strict=True):
        np.savez(file, **recorded(package))
    assert agreed(files).keys() == recorded().keys()


@pytest.mark.parametrize("place", EXAMPLES)
def test_every_term_has_a_line_in_both_files_that_bears_its_name(place: str) -> None:
    found, _ = example(place)
    chapter, _, name = place.partition(".")
    definition = next(d for d in read_pair(chapter).definitions if d.name == name)
    for numbers, code in zip(found.lines, definition.code.values(), strict=True):
        assert {n for line in numbers.values() for n in line.split()} == {str(i) for i in range(len(found.names))}
        lines = code.split("\n")
        for i, term in enumerate(found.names):
            comments = [plain(lines[at]) for at in numbers if str(i) in numbers[at].split()]
            assert any(line.startswith("#") and term in line for line in comments)
    equations = re.findall(r"\$\$(.*?)\$\$", definition.docstring, re.S)
    shown = "".join(equation(tex, True, place, found.names) for tex in equations)
    assert {int(n) for n in re.findall(r'data-term="(\d+)"', shown)} == set(range(len(found.names)))
    assert "color" not in shown


def test_the_values_are_those_of_other_code_than_ours() -> None:
    _, v = example("coin.maximum_a_posteriori")  # three heads and a tail, and Beta(2, 2): a head and a tail more
    assert [float(a) for a in v.values()] == pytest.approx([4 / 6, 4, 6])
    x, weights, means, covariances = EXAMPLES["gmm.e_step"]
    joint = weights * stats.norm(means[:, 0], np.sqrt(covariances[:, 0, 0])).pdf(x)
    _, v = example("gmm.e_step")
    np.testing.assert_allclose(v["logp(x_n)"], np.log(joint.sum(axis=1)), rtol=1e-12)
    np.testing.assert_allclose(v["gamma(z_nk)"], joint / joint.sum(axis=1, keepdims=True), rtol=1e-12)
    _, v = example("gmm.m_step")
    x, gamma = EXAMPLES["gmm.m_step"]
    for k in range(2):
        mean, covariance = np.average(x[:, 0], weights=gamma[:, k]), np.cov(x[:, 0], aweights=gamma[:, k], ddof=0)
        np.testing.assert_allclose([v["mu_k"][k, 0], v["Sigma_k"][k, 0, 0]], [mean, covariance], rtol=1e-12)
    np.testing.assert_allclose(v["pi_k"], gamma.mean(axis=0), rtol=1e-12)
    _, v = example("elbo.gaussian_kl")
    mean_q, log_var_q, mean_p, log_var_p = (a[0] for a in EXAMPLES["elbo.gaussian_kl"])
    q, p = stats.norm(mean_q, np.exp(log_var_q / 2)), stats.norm(mean_p, np.exp(log_var_p / 2))
    z = np.linspace(-30, 30, 200_001)[:, None]
    divergence = np.trapezoid(q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), z, axis=0).sum()
    np.testing.assert_allclose(v["KL(q||p)"], divergence, rtol=1e-9)
    _, v = example("elbo.reparameterize")
    np.testing.assert_allclose(v["z"], [[1.0 + 0.3, -0.5 + 1.2 / np.e]], rtol=1e-12)
    _, v = example("elbo.evidence_lower_bound")
    assert [float(a) for a in v.values()] == pytest.approx([-24, -62.5 / 3, 9.5 / 3])
    _, v = example("optimizer.adam_update")
    step = 1e-3 * (0.11 / 0.271) / (np.sqrt((0.999 * 0.01 + 0.001 * 0.04) / 0.002997) + 1e-8)
    np.testing.assert_allclose(v["theta_t"], 0.5 - step, rtol=1e-12)


@pytest.mark.parametrize(
    ("tex", "name", "found"),
    [
        (r"\frac{h + a - 1}{h + t + a + b - 2}", "h+a-1", ["h + a - 1"]),
        (r"\frac{N_k}{N} + N_{kj} - {N_k}^2", "N_k", ["N_k", "N_k"]),
        (r"\theta_t = \theta_{t-1} - m_t / c_1", "theta_t", [r"\theta_t"]),
        (r"\log \frac{a_{q,l}^2}{b} \right)", "loga_q,l^2/b", [r"\log \frac{a_{q,l}^2}{b}"]),
        (r"\frac{1}{N} \mathrm{KL}(q \,\|\, p)", "1/NKL(q||p)", [r"\frac{1}{N} \mathrm{KL}(q \,\|\, p)"]),
        (r"\mathrm{ELBO} = \mathcal{L}(q)", "ELBO", [r"\mathrm{ELBO}"]),
        (r"\mathrm{ELBO} = \mathcal{L}(q)", "L", [r"\mathcal{L}"]),
        (r"\mathrm{ELBO} = \mathcal{L}(q)", "LBO", []),
        (r"\left( x - y \right)", "x-y", ["x - y"]),
        (r"\mu + \sigma", "u", []),
    ],
)
def test_a_term_is_found_where_it_stands_whole(tex: str, name: str, found: list[str]) -> None:
    assert [tex[p.start : p.end] for p in places(tex, [name])] == found


def test_terms_stand_in_each_other_and_are_numbered_as_named() -> None:
    shown = equation(r"\frac{m_t / c_1}{2} + m_t", True, "here", ["m_t", "m_t/c_1"])
    assert re.findall(r'data-term="(\d)"', shown) == ["1", "0", "0"]
    assert r">\frac{m_t / c_1}{2}</annotation>" in shown


def test_a_comment_names_what_the_line_below_computes() -> None:
    code = "def f(a):\n    # N_k = sum_n gamma_nk, more\n    n = a\n    # x' y², p(a, b = c): said\n"
    code += "    u, v = (\n        1, 2)\n    # no statement\n\n    w = 1\n    # L(q, theta); and more\n    return u\n"
    found = steps(code)
    assert [step.names for step in found] == [["N_k"], ["x^Ty^2", "p(a,b=c)"], ["L(q,theta)"]]
    assert [step.variables for step in found] == [["n"], ["u", "v"], []]
    assert [list(step.lines) for step in found] == [[2, 3], [4, 5, 6], [10, 11]]


def test_what_does_not_match_is_named() -> None:
    definition = next(d for d in read_pair("gmm", ROOT).definitions if d.name == "m_step")
    trace = recorded()
    with pytest.raises(BookError, match=r"gmm.py: m_step: no trace of N_k; draw the figures again"):
        worked("gmm", definition, {})
    moved = definition.code | {"tf2": definition.code["tf2"].replace("# N_k =", "# n_k =")}
    with pytest.raises(BookError, match=r"gmm.py: m_step: the comments of the two files differ: N_k, n_k"):
        worked("gmm", replaced(definition, code=moved), trace)
    with pytest.raises(BookError, match=r"gmm.py: m_step: no comment names a term of its equations"):
        worked("gmm", replaced(definition, docstring="No equation."), trace)
