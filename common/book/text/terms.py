"""Equation, line, number: the terms of a function's equations, the lines that compute them, a worked example."""

import ast
import re
from dataclasses import dataclass

import numpy as np

from common.book.pairs import Definition
from common.book.text.equations import BookError, displays, equation, pieces, places
from common.figures.traces import Trace
from common.figures.worked import EXAMPLES, steps


@dataclass
class Worked:
    """The terms of a function's equations, which are numbered from 0, in a worked example."""

    names: list[str]  # as the comments write them
    given: list[str]  # the arguments and what they are, in HTML
    values: list[str]  # the terms and what they come to
    lines: tuple[dict[int, str], ...]  # for each framework, the numbers of the terms by line, from 0


def worked(chapter: str, definition: Definition, trace: Trace) -> Worked | None:
    """The worked example of a function, if it has one; ``trace`` holds what both implementations computed.

    BookError if its equations have no term that a comment names, or the two files comment on other terms.
    """
    place = f"{chapter}.{definition.name}"
    if place not in EXAMPLES:
        return None
    found = [steps(code) for code in definition.code.values()]
    named, *others = ([name for step in side for name in step.names] for side in found)
    if others != [named]:
        apart = ", ".join(sorted(set(named) ^ set(others[0]))) or "their order"
        raise BookError(f"{chapter}.py: {definition.name}: the comments of the two files differ: {apart}")
    labels = {}
    for tex in re.findall(r"\$\$(.*?)\$\$", definition.docstring, re.S):
        for piece in (piece for part in displays(tex) for piece in pieces(part)):
            for p in places(piece, named):
                labels.setdefault(p.name, piece[p.start : p.end])
    if missing := [name for name in labels if f"{place}/{name}" not in trace]:
        raise BookError(f"{chapter}.py: {definition.name}: no trace of {missing[0]}; draw the figures again")
    if not labels:
        raise BookError(f"{chapter}.py: {definition.name}: no comment names a term of its equations")
    values = [_shown(tex, trace[f"{place}/{name}"], place) for name, tex in labels.items()]
    parameters = [argument.arg for argument in ast.parse(next(iter(definition.code.values()))).body[0].args.args]
    pairs = zip(parameters, EXAMPLES[place], strict=False)  # parameters with defaults are left out
    given = [f"<code>{name}</code> {_shown('', value, place)}" for name, value in pairs]
    return Worked(list(labels), given, values, tuple(_numbers(side, list(labels)) for side in found))


def _numbers(found: list, names: list[str]) -> dict[int, str]:
    # the numbers of the terms, by line
    numbers: dict[int, list[str]] = {}
    for step in found:
        for line in step.lines:
            numbers.setdefault(line - 1, []).extend(str(names.index(name)) for name in step.names if name in names)
    return {line: " ".join(of) for line, of in numbers.items() if of}


def _shown(tex: str, value: object, place: str) -> str:
    # what a term comes to
    arrays = [np.asarray(each, dtype=float) for each in (value if isinstance(value, tuple) else (value,))]
    return equation(f"{tex} = " + r",\;".join(_matrix(array) for array in arrays), False, place)


def _matrix(array: np.ndarray) -> str:
    # an array of up to three dimensions, of which the first then lists matrices
    if array.ndim == 3:
        return r",\;".join(_matrix(each) for each in array)
    rows = np.atleast_2d(array)
    body = r" \\ ".join(" & ".join(f"{number:.4g}" for number in row) for row in rows)
    return body if array.ndim == 0 else rf"\begin{{pmatrix}} {body} \end{{pmatrix}}"
