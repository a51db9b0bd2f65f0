"""Worked examples of functions: the value of each term of an equation, as the line that computes it has it.

A comment names what the statement below it computes: ``# N_k = sum_n gamma_nk`` stands above the line whose result
is N_k, ``# h + a - 1, t + b - 1`` above one with two results. The comments of the sources are the only list of terms.
"""

import ast
import re
import sys
from collections.abc import Callable
from inspect import getsource
from textwrap import dedent
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from common.figures.traces import Evaluate, Trace


class Step(NamedTuple):
    """A statement below a comment: the names of its results, its variables (none where it returns), its lines."""

    names: list[str]
    variables: list[str]
    lines: range  # from the comment on, the code's first line being 1


_X = np.array([[1.0], [2.0], [5.0]])
_PLANE = np.array([[1.0, 0.0], [2.0, 2.0], [5.0, 3.0]])
_GAMMA = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
_MIXTURE = (np.array([0.6, 0.4]), np.array([[1.0], [4.0]]), np.array([[[1.0]], [[4.0]]]))  # weights, means, covariances

# The arguments of each example: a chapter's function, and small numbers that can be followed by hand.
EXAMPLES: dict[str, tuple[Any, ...]] = {
    "coin.maximum_a_posteriori": tuple(np.array(number) for number in (3.0, 1.0, 2.0, 2.0)),
    "gaussian.log_density": (_PLANE, np.array([2.0, 1.0]), np.array([[2.0, 1.0], [1.0, 2.0]])),
    "gaussian.maximum_likelihood": (_PLANE,),
    "gmm.component_log_densities": (_X, *_MIXTURE[1:]),
    "gmm.e_step": (_X, *_MIXTURE),
    "gmm.m_step": (_X, _GAMMA),
    "coin_mixture.m_step": (np.array([5.0, 9.0, 4.0]), np.array([10.0, 10.0, 10.0]), _GAMMA),
    "em.lower_bound": (np.array([[0.9, 0.1], [0.5, 0.5]]), np.log([[0.3, 0.1], [0.1, 0.2]])),
    "elbo.gaussian_kl": tuple(np.array([row]) for row in ([1.0, 0.5], [0.0, -1.0], [0.0, 0.0], [0.0, 0.5])),
    "elbo.reparameterize": (np.array([[1.0, -0.5]]), np.array([[0.0, -2.0]]), np.array([[0.3, 1.2]])),
    "elbo.gaussian_log_likelihood": (np.array([[1.0, 0.0]]), np.array([[0.5, 0.2]]), np.array([[-1.0, 0.0]])),
    "elbo.evidence_lower_bound": (np.array([-20.0, -18.5, -24.0]), np.array([3.0, 2.5, 4.0])),
    "optimizer.adam_update": (*(np.array([row]) for row in (0.5, 0.2, 0.1, 0.01)), (0.271, 0.002997)),
}


def steps(code: str) -> list[Step]:
    """The statements of a function's code that stand below a comment."""
    lines, tree = code.split("\n"), ast.parse(code)
    statements = {node.lineno: node for node in ast.walk(tree) if isinstance(node, ast.Assign | ast.Return)}
    found = []
    for number, line in enumerate(lines, 1):
        comment, node = re.match(r" *# (.*)", line), statements.get(number + 1)
        if comment and node:
            targets = node.targets[0] if isinstance(node, ast.Assign) else ast.Tuple([])
            variables = [name.id for name in ast.walk(targets) if isinstance(name, ast.Name)]
            found.append(Step(names(comment[1]), variables, range(number, node.end_lineno + 1)))
    return found


def names(comment: str) -> list[str]:
    """What a comment names, without blanks: its text up to an equals sign, a colon or a semicolon, cut at commas."""
    return [plain(name) for name in _split(_split(comment, " = |[:;] ")[0], ", ")]


def plain(text: str) -> str:
    """A name of a comment in the letters of its equation: no blanks, ' as ^T, ² as ^2, gamma_nk as gamma(z_nk)."""
    text = re.sub(r"\bgamma_nk\b", "gamma(z_nk)", text)
    return text.replace("'", "^T").replace("²", "^2").replace(" ", "")


def record(maths: SimpleNamespace, evaluate: Evaluate) -> Trace:
    """The values of every example's terms, named ``chapter.function/term``."""
    trace = {}
    for place, arguments in EXAMPLES.items():
        chapter, _, function = place.partition(".")
        found = values(getattr(getattr(maths, chapter), function), arguments, evaluate)
        trace |= {f"{place}/{name}": value for name, value in found.items()}
    return trace


def values(function: Callable, arguments: tuple, evaluate: Evaluate) -> Trace:
    """What the steps of a function computed for these arguments, by name: its variables as they are at the end."""
    computed: dict[str, Any] = {}
    found = steps(dedent(getsource(function)))

    def watch(frame: Any, event: str, result: Any) -> None:
        if event == "return" and frame.f_code is function.__code__:
            line = frame.f_lineno - frame.f_code.co_firstlineno + 1
            for step in found:
                if step.variables:
                    pairs = zip(step.names, step.variables, strict=False)
                    computed.update((n, frame.f_locals[v]) for n, v in pairs if v in frame.f_locals)
                elif line in step.lines:
                    results = result if isinstance(result, tuple) else (result,)
                    computed.update(zip(step.names, results[-len(step.names) :], strict=True))

    def watched(*given: Any) -> tuple:
        sys.setprofile(watch)
        try:
            function(*given)
        finally:
            sys.setprofile(None)
        return tuple(computed.values())

    return dict(zip(computed, evaluate(watched, *arguments), strict=True)) if found else {}


def _split(text: str, separator: str) -> list[str]:
    # the pieces between separators that stand outside brackets
    pieces, depth, start = [], 0, 0
    for match in re.finditer(rf"[(\[{{]|[)\]}}]|{separator}", text):
        if match[0] in "([{":
            depth += 1
        elif match[0] in ")]}":
            depth -= 1
        elif depth == 0:
            pieces.append(text[start : match.start()])
            start = match.end()
    return [*pieces, text[start:]]
