"""Every entry of the catalogue shows its divergence, in its band, and removes it; the catalogue is sound."""

import ast
import contextlib
import inspect
import itertools
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from types import FrameType

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

from parity_tests.divergences import ENTRIES, PAGES, bites
from parity_tests.divergences.__main__ import BOOK, NOT_RUN, markdown, name, ranked, side, table
from parity_tests.divergences.catalogue import (
    CATALOGUE,
    Entry,
    Measured,
    absolute,
    relative,
    unequal,
    untouched_settings,
)
from parity_tests.port_bugs.problem import PAIRS, build

CASES = [pytest.param(entry, dtype, id=f"{entry.row}-{dtype}") for entry in ENTRIES for dtype in entry.dtypes]
# The last row of each kind; letters after a number are further sides of one row.
ONCE = {"L16", "R9"}  # a layer is built once, a tape watches while it records: these remedies do not run twice
LAST = {"O": 16, "L": 28, "S": 8, "R": 12, "G": 24, "T": 10}


def settings() -> list[object]:
    """Settings and generators that an entry could leave changed."""
    return [
        *(keras.config.floatx(), keras.config.dtype_policy().name, keras.config.image_data_format()),
        *(keras.config.epsilon(), torch.get_default_dtype(), torch.is_grad_enabled()),
        *(torch.get_num_threads(), tf.config.threading.get_intra_op_parallelism_threads()),
        float(torch.tensor(1e-40) * 1) > 0,  # denormals
        *(torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32),
        tf.config.experimental.tensor_float_32_execution_enabled(),
        *(tf.executing_eagerly(), tf.config.functions_run_eagerly()),
        *(random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()),
    ]


@contextlib.contextmanager
def watched(entry: Entry) -> Iterator[dict[str, list[object]]]:
    """The values that names of the entry's page have whenever a function of the page returns."""
    values = defaultdict(list)

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event == "return" and frame.f_code.co_filename == entry.function.__code__.co_filename:
            for local, value in frame.f_locals.items():
                values[local].append(value)

    sys.setprofile(watch)
    try:
        yield values
    finally:
        sys.setprofile(None)


def runs_alone(entry: Entry, values: dict[str, list[object]]) -> bool:
    """Whether the remedy runs in a namespace of nothing but the entry's values of the names that it calls yours."""
    choices = itertools.product(*(reversed(values[own]) for own in entry.yours))
    for chosen in itertools.islice(choices, 64):
        with contextlib.suppress(Exception), untouched_settings(), tf.device("CPU"):
            exec(entry.code, dict(zip(entry.yours, chosen, strict=True)))
            return True
    return False


@pytest.mark.parametrize(("entry", "dtype"), CASES)
def test_shown_and_removed(entry: Entry, dtype: str) -> None:
    before = settings()
    with watched(entry) as values:
        measured = entry.measure(dtype)
    assert settings() == before
    assert entry.holds(dtype, measured), (
        f"{entry.row} {entry.title}: {measured} where the default is to be in {entry.band(dtype)} and "
        f"{entry.tolerance(dtype):.0e} may be left ('{entry.after}'): has a default changed?"
    )
    assert entry.row in ONCE or runs_alone(entry, values), f"in an empty file this fails:\n{entry.code}"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.row)
def test_an_entry_says_what_it_shows(entry: Entry) -> None:
    assert re.fullmatch(r"[OLSRGT]\d+[a-z]?", entry.row)
    assert len(entry.title) <= 90
    assert (entry.size is None) == (not entry.remedy)
    assert entry.remedy_is_in_the_code(), f"the entry does not run {entry.remedy}"
    for dtype in entry.dtypes if entry.size else ():
        low, high = entry.band(dtype)
        assert 0 < low <= high <= 10 * low, "a band excludes zero and says what size"
        assert low > entry.tolerance(dtype), "the remedy leaves less than the divergence"


def test_the_catalogue_is_complete() -> None:
    rows = [entry.row for entry in ENTRIES]
    assert len(rows) == len(set(rows)), "a row is there twice"
    assert {re.match(r"[A-Z]\d+", row)[0] for row in rows} == {f"{k}{n + 1}" for k in LAST for n in range(LAST[k])}
    assert set(ENTRIES) == set(CATALOGUE), "every page stands in PAGES"
    functions = [entry.function.__qualname__ for entry in ENTRIES]
    assert len(functions) == len(set(functions)), "a function hides another of its name"


def test_the_measures_can_tell() -> None:
    assert relative(torch.tensor([2.0, 4.0]), tf.constant([2.0, 3.0])) == 0.25
    assert absolute(torch.tensor([2.0, 4.0]), tf.constant([2.0, 3.0])) == 1
    assert unequal(torch.tensor([2.0, 4.0]), tf.constant([2.0, 3.0])) == 0.5
    assert unequal(np.array([np.nan, 1.0]), np.array([np.nan, np.nan])) == 0.5
    assert unequal(torch.zeros(1), None) == unequal(torch.zeros(2), tf.zeros((2, 1))) == 1
    assert unequal("float32", "float64") == 1
    assert unequal(None, None) == unequal("float32", "float32") == 0
    for a, b in (([np.nan], [np.nan]), ([1.0], [np.inf]), ([1.0], [[1.0]])):
        with pytest.raises(ValueError, match=r"finite|compare like with like"):
            relative(np.array(a), np.array(b))


def test_a_false_remedy_is_found() -> None:
    """The guards of this module, turned on entries that are wrong."""
    entry = next(entry for entry in ENTRIES if entry.row == "L10")
    # No divergence, too large a one, a remedy that does not help, and NaN in either place.
    for values in ((0.0, 0.0), (1e-8, 0.0), (1.9e-9, 1e-9), (np.nan, 0.0), (1.9e-9, np.nan)):
        with pytest.raises(AssertionError):
            test_shown_and_removed(replace(entry, function=lambda values=values: values), "float64")
    for change in ({"remedy": "F.softplus(x, threshold=41)"}, {"size": (0.0, 1.0)}, {"size": (1e-9, 1e-6)}):
        with pytest.raises(AssertionError):
            test_an_entry_says_what_it_shows(replace(entry, **change))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.row)
def test_the_book_has_the_entry_as_it_is(entry: Entry) -> None:
    text = (BOOK / f"divergences_{name(entry.page)}.md").read_text(encoding="utf-8")
    assert f"## {entry.row} {entry.title}\n\n{entry.prose}\n" in text, "python -m parity_tests.divergences --book"
    assert entry.code in text
    assert not entry.remedy or f"The remedy, {side(entry)}:\n\n{NOT_RUN}\n```python\n{entry.code}\n```" in text


def test_which_side_a_remedy_changes() -> None:
    entry = next(entry for entry in ENTRIES if entry.row == "L4")
    assert side(replace(entry, remedy="keras.layers.LeakyReLU(negative_slope=0.01)")) == "in TensorFlow"
    assert side(entry) == "in PyTorch"
    assert side(replace(entry, remedy="torch_x = F.pad(x, 1); theirs = tf.pad(x, 1)")) == "in both"
    assert side(replace(entry, stated="for both, in NumPy")) == "for both, in NumPy"
    with pytest.raises(KeyError):
        side(replace(entry, remedy="kernel.T"))
    assert {side(e) for e in ENTRIES if e.remedy} == {"in PyTorch", "in TensorFlow", "in both", "for both, in NumPy"}


def public(node: ast.AST, known: dict[str, object]) -> object:
    """What a name or a chain of attributes is, or None from where the reader's own values begin."""
    if isinstance(node, ast.Attribute):
        owner = public(node.value, known)
        assert owner is None or not node.attr.startswith("_"), f"{node.attr} is private"
        return None if owner is None else getattr(owner, node.attr)
    return known.get(node.id) if isinstance(node, ast.Name) else None


def stands_alone(entry: Entry) -> None:
    """Run a remedy in an empty namespace; where it needs values of the reader's, look up the names in it."""
    known, tree = {}, ast.parse(entry.code)
    assert not re.search(r"^(from|import) parity_tests", entry.code, re.MULTILINE), "a remedy needs the catalogue"
    above = tree.body[: -len(ast.parse(entry.remedy).body)] if entry.yours else tree.body
    with untouched_settings():
        exec(compile(ast.Module(above, []), entry.row, "exec"), known)
    for node in ast.walk(tree):
        public(node, known)
        if isinstance(node, ast.Call) and (called := public(node.func, known)):
            with contextlib.suppress(ValueError):  # of those in C
                parameters = inspect.signature(called).parameters.values()
                assert any(p.kind == p.VAR_KEYWORD for p in parameters) or {
                    keyword.arg for keyword in node.keywords if keyword.arg
                } <= {p.name for p in parameters}


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.remedy], ids=lambda entry: entry.row)
def test_a_remedy_stands_alone(entry: Entry) -> None:
    stands_alone(entry)


@pytest.mark.parametrize(
    "remedy",
    [
        "keras.layers.LeakyRelu(0.1)",
        "F.padding(x, 1)",
        "F.pad(x, 1, fill=0)",
        "keras._private",
        "unequal(x, x)",
        "np.ones(-1)",
    ],
)
def test_a_remedy_that_does_not_stand_alone_is_found(remedy: str) -> None:
    entry = next(entry for entry in ENTRIES if entry.row == "L4")
    with pytest.raises((AssertionError, AttributeError, ValueError)):
        stands_alone(replace(entry, remedy=remedy))
    x = {"x": [torch.ones(1, 1, 2, 2)]}
    assert runs_alone(entry, x)
    assert not runs_alone(entry, {"x": []})
    assert remedy.startswith("unequal") or not runs_alone(replace(entry, remedy=remedy), x)


@pytest.mark.parametrize("width", [80, 120, 160])
def test_the_table_fits_and_holds_every_entry(width: int) -> None:
    rows = [(entry, {dtype: Measured(0.123, 1e-16) for dtype in entry.dtypes}) for entry in ENTRIES]
    lines = table(rows, width).splitlines()
    assert max(map(len, lines)) <= width
    assert [line.split()[0] for line in lines if re.match(r"[OLSRGT]\d", line)] == [entry.row for entry in ENTRIES]
    page = markdown(rows, Counter())
    assert all(f"### {entry.row} " in page and entry.code in page for entry in ENTRIES)
    assert page.count("\n## ") == len(PAGES)


def test_rows_are_ordered_by_how_often_they_bite() -> None:
    rows = [(entry, {}) for entry in ENTRIES]
    first = ranked(rows, Counter({"L27": 3, "T4": 5, "O2": 9}))
    assert [entry.row for entry, _ in first[:2]] == ["T4", "L27"], "O2 is rounding"
    assert first[-1][0].size is None
    text = (BOOK / "divergences.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| ([OLSRGT]\d+[a-z]?) \| .* \| (\d*) \|", text, re.MULTILINE)
    order = ranked(rows, Counter({row: int(count or 0) for row, count in listed}))
    assert [row for row, _ in listed] == [entry.row for entry, _ in order], "python -m parity_tests.divergences --book"


def test_a_row_bites_where_its_mistake_changes_a_number() -> None:
    bitten = {name: bites.bitten(build(pair)) for name, pair in PAIRS.items() if name in ("shuffled", "sgd")}
    assert "L27" in bitten["shuffled"] - bitten["sgd"]
    assert {"O6", "O14"} <= bitten["sgd"] - bitten["shuffled"]
    assert not bitten["sgd"] & {"O1", "L4", "S8"}
