"""The exercises' answers, computed by both implementations with the code that the book shows."""

import ast
import importlib
import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from common import draws
from common.book.chapters import NAMES, titles
from common.book.pairs import FOLDERS, ROOT
from common.book.text.prose import BookError, Exercise, exercises

EXERCISES = ROOT / "common" / "book" / "exercises"
QUESTIONS = {
    f"{name}: {each.title}": (name, each)
    for name in titles()
    for each in exercises((EXERCISES / f"{name}.md").read_text(encoding="utf-8"), name)
}


def computed(name: str, exercise: Exercise, folder: str, dialect: str) -> Any:
    """The value of the last line of an exercise's code, run as in the chapter's notebook."""
    chapters: dict[str, ModuleType] = {other: importlib.import_module(f"{folder}.{other}") for other in titles()}
    scope = {"np": np, "math": math, "draws": draws, **chapters}
    exec(dialect, scope)
    scope |= {key: value for key, value in vars(chapters[name]).items() if not key.startswith("_")}
    lines = ast.parse(exercise.code)
    last = lines.body.pop()
    assert isinstance(last, ast.Expr)
    exec(compile(lines, name, "exec"), scope)
    return eval(compile(ast.Expression(last.value), name, "eval"), scope)


@pytest.mark.parametrize("side", FOLDERS)
@pytest.mark.parametrize("question", QUESTIONS)
def test_the_answer_is_what_its_code_computes(question: str, side: str) -> None:
    name, exercise = QUESTIONS[question]
    value = np.asarray(computed(name, exercise, FOLDERS[side], NAMES[side]))
    if exercise.number is None:
        assert value.dtype == bool
        assert value
    else:
        digits = len(exercise.number.partition(".")[2])
        assert abs(float(value) - float(exercise.number)) <= 0.5 * 10.0**-digits + 1e-12


def test_every_chapter_has_exercises_and_a_malformed_one_is_named() -> None:
    assert {name for name, _ in QUESTIONS.values()} == set(titles())
    with pytest.raises(BookError, match=r"coin\.md: Odd: a question, `Hint: \.\.\.` and an answer"):
        exercises("### Odd\n\nWhy?\n\nAnswer: 3\n", "coin.md")
