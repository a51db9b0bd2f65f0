"""The certificate: digits are counted rightly, NIST's data are NIST's, quick rows reach their answers."""

from fractions import Fraction

import pytest
from mpmath import mp

from parity_tests.certificate import ROWS, TRIALS, nist
from parity_tests.certificate.__main__ import PAGE, scored, tried
from parity_tests.certificate.scoring import Row, correct_digits

WORDS = ("births: P", "hidden coins: first", "linkage", "Lew", "iris, full", "two far", "factor", "code of")
QUICK = [row for row in ROWS if any(word in f"{row.chapter} {row.what}" for word in WORDS)]
CASES = [
    (0.713012, "0.71", 2, 2),  # it rounds to the text
    (0.7252, "0.71", -mp.log10(0.0152 / 0.71), 2),
    (1.1e-42, "1.15e-42", -mp.log10(0.05 / 1.15), 3),
    (0.1, Fraction(1, 10), 15, 15),
    (1.001, 1, 3, 15),
    (1e-7, 0, 7, 15),
    (float("nan"), 1, 0, 15),
    (-3.0, 3.0, 0, 15),
]


@pytest.mark.parametrize(("value", "answer", "digits", "given"), CASES)
def test_digits(value: float, answer: object, digits: float, given: int) -> None:
    assert correct_digits(value, answer) == (pytest.approx(float(digits)), given)


@pytest.mark.parametrize("name", nist.CERTIFIED)
def test_the_data_have_the_certified_values(name: str) -> None:
    for value, answer in zip(nist.summary(nist.data(name)), nist.CERTIFIED[name], strict=True):
        assert correct_digits(float(value), answer)[0] == 15


@pytest.mark.parametrize("row", QUICK, ids=lambda row: row.what)
def test_quick_rows_reach_their_answers(row: Row) -> None:
    assert scored(row)["reached"]


def test_a_wrong_answer_is_told() -> None:
    row = next(row for row in ROWS if row.what == "births: share of boys")
    assert not scored(row._replace(answer=Fraction(251527, 493473)))["reached"]
    assert not tried(TRIALS[0]._replace(low=0.999))["reached"]


def test_the_page_has_the_rows_and_the_readme_their_number() -> None:
    page, readme = PAGE.read_text(encoding="utf-8"), (PAGE.parents[3] / "README.md").read_text(encoding="utf-8")
    assert f"[{len(ROWS)} answers" in " ".join(readme.split())
    assert [entry.what for entry in (*ROWS, *TRIALS) if f"| {entry.what} |" not in page] == []
