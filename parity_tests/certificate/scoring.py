"""Rows of the certificate, and how many of a number's digits are right."""

import json
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from mpmath import mp, mpf

from parity_tests.support.frameworks import arrays, sibling, tensors

mp.dps = 50  # digits of every answer that is computed here
MOST = 15.0  # digits that a float can be sure of
ANSWERS = json.loads((Path(__file__).parent / "answers.json").read_text(encoding="utf-8"))
R = f"R {ANSWERS['versions']['R']}"
FIFTY = "mpmath, 50 digits"


class Framework(NamedTuple):
    """One implementation, as a row sees it."""

    module: ModuleType  # any page of it

    def page(self, name: str) -> ModuleType:
        """A page."""
        return sibling(self.module, name)

    def tensors(self, *values: Any) -> list:
        """Each value as the framework's tensor."""
        return tensors(self.module, *values)

    def call(self, page: str, function: str, *values: Any) -> np.ndarray:
        """The numbers that a function of a page gives for these values, one after the other."""
        return flat(getattr(self.page(page), function)(*self.tensors(*values)))


class Row(NamedTuple):
    """One answer, whose it is, and what is held against it."""

    chapter: str
    source: str
    what: str
    answer: Any  # numbers, as text where the source gives them to so many digits; or a function that gives them
    compute: Callable[[Framework], Any] | tuple  # the same numbers; or a function of the chapter, and its arguments
    least: float = 13.0  # digits to be reached, or all where the source gives fewer
    limit: str = ""  # why not more


class Trial(NamedTuple):
    """A number that simulation estimates, and the interval it has to lie in."""

    chapter: str
    what: str
    compute: Callable[[Framework], float]
    expected: str
    low: float
    high: float


def rows(table: Mapping[tuple[str, str], Sequence[tuple]]) -> list[Row]:
    """The rows of a table by chapter and source."""
    return [Row(*key, *entry) for key, entries in table.items() for entry in entries]


def flat(values: Any) -> np.ndarray:
    """The numbers of tensors, arrays or nested tuples, (M,)."""
    return np.concatenate([np.ravel(array) for array in arrays(values)]).astype(np.float64)


def exact(value: Any) -> mpf:
    """A number, or its text, to 50 digits."""
    return mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else mpf(value)


def as_list(answer: Any) -> list:
    """The numbers of an answer, one after the other."""
    answer = answer() if callable(answer) else answer
    if isinstance(answer, str | Fraction | mpf | float | int):
        return [answer]
    return [number for part in answer for number in as_list(part)]


def correct_digits(value: float, answer: Any) -> tuple[float, float]:
    """-log10 of the relative error (of the absolute one where the answer is 0), and the digits given, its maximum.

    A text gives as many digits as it shows, and a value that rounds to it has them all.

    Source: B. McCullough, "Assessing the reliability of statistical software: part I", The American Statistician
    52 (1998), section 4.
    """
    most, target, half = MOST, exact(answer), mpf(0)
    if isinstance(answer, str):
        mantissa, _, exponent = answer.lower().partition("e")
        most = min(MOST, float(len(mantissa.replace(".", "").lstrip("+-0"))))
        half = mpf(10) ** (int(exponent or 0) - len(mantissa.partition(".")[2])) / 2
    error = abs(mpf(float(value)) - target)
    if error <= half:
        return most, most
    return float(min(most, max(0, -mp.log10(error / (abs(target) or 1))))) if mp.isfinite(error) else 0.0, most


def score(row: Row, answers: list, framework: Framework) -> tuple[float, float]:
    """The fewest correct digits of the row's numbers, and the fewest that are given."""
    call = isinstance(row.compute, tuple)
    values = framework.call(row.chapter, *row.compute) if call else flat(row.compute(framework))
    return tuple(map(min, zip(*(correct_digits(*pair) for pair in zip(values, answers, strict=True)), strict=True)))


def of_cases(function: Callable[..., Any], cases: Sequence[tuple]) -> Callable[[], list]:
    """The answers of a function that is computed to 50 digits, case by case."""
    return lambda: [function(*map(mpf, case)) for case in cases]


def columns(cases: Sequence[tuple]) -> list[np.ndarray]:
    """The arguments of all cases, one array for each argument."""
    return [np.array(column, float) for column in zip(*cases, strict=True)]
