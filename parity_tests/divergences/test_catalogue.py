"""Every entry of the catalogue shows its divergence, in its band, and removes it; and the catalogue itself is sound."""

import random
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

from parity_tests.divergences import ENTRIES, PAGES
from parity_tests.divergences.__main__ import markdown, table
from parity_tests.divergences.catalogue import CATALOGUE, Entry, Measured, absolute, relative, unequal

CASES = [pytest.param(entry, dtype, id=f"{entry.row}-{dtype}") for entry in ENTRIES for dtype in entry.dtypes]
# What a porter of such models meets; letters after a number are further sides of one row.
ROWS = {
    *(f"O{n}" for n in range(1, 14)),
    *(f"L{n}" for n in range(1, 17)),
    *(f"S{n}" for n in range(1, 8)),
    *(f"R{n}" for n in range(1, 12)),
    *(f"G{n}" for n in range(1, 25)),
    *(f"T{n}" for n in range(1, 11)),
}


def settings() -> dict[str, object]:
    """What an entry could leave behind."""
    return {
        "floatx": keras.config.floatx(),
        "dtype policy": keras.config.dtype_policy().name,
        "image format": keras.config.image_data_format(),
        "Keras epsilon": keras.config.epsilon(),
        "default dtype": torch.get_default_dtype(),
        "threads": (torch.get_num_threads(), tf.config.threading.get_intra_op_parallelism_threads()),
        "gradients": torch.is_grad_enabled(),
        "denormals": float(torch.tensor(1e-40) * 1) > 0,
        "TF32": (
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cudnn.allow_tf32,
            tf.config.experimental.tensor_float_32_execution_enabled(),
        ),
        "eager": (tf.executing_eagerly(), tf.config.functions_run_eagerly()),
        "Python's generator": random.getstate(),
        "NumPy's generator": str(np.random.get_state()),
        "PyTorch's generator": torch.get_rng_state().tolist(),
    }


@pytest.mark.parametrize(("entry", "dtype"), CASES)
def test_shown_and_removed(entry: Entry, dtype: str) -> None:
    before = settings()
    measured = entry.measure(dtype)
    assert settings() == before
    band, tolerance = entry.band(dtype), entry.tolerance(dtype)
    if band is not None:
        assert band[0] <= measured.default <= band[1], (
            f"{entry.row} {entry.title}: the defaults differ by {measured.default:.3g}, not within {band}: "
            f"has a default changed?"
        )
    assert measured.remedied <= tolerance, (
        f"{entry.row} {entry.title}: {measured.remedied:.3g} is left, {tolerance:.0e} is allowed for '{entry.after}'"
    )


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.row)
def test_an_entry_says_what_it_shows(entry: Entry) -> None:
    assert re.fullmatch(r"[OLSRGT]\d+[a-z]?", entry.row)
    assert entry.function.__doc__, "the docstring says what goes wrong"
    assert len(entry.title) <= 90
    if entry.size is None:
        assert (entry.float32, entry.remedy) == (None, "")
        return
    assert entry.remedy
    assert entry.remedy_is_in_the_code(), f"the entry does not run {entry.remedy}"
    assert (entry.float32 is not None) == ("float32" in entry.dtypes)
    for dtype in entry.dtypes:
        low, high = entry.band(dtype)
        assert 0 < low <= high <= 10 * low, "a band excludes zero and says what size"
        assert low > entry.tolerance(dtype), "the remedy leaves less than the divergence"


def test_the_catalogue_is_complete() -> None:
    rows = [entry.row for entry in ENTRIES]
    assert len(rows) == len(set(rows)), "a row is there twice"
    assert {re.match(r"[A-Z]\d+", row)[0] for row in rows} == ROWS
    assert set(ENTRIES) == set(CATALOGUE), "every page stands in PAGES"
    assert len(ENTRIES) >= 40
    functions = [entry.function.__qualname__ for entry in ENTRIES]
    assert len(functions) == len(set(functions)), "a function hides another of its name"


def test_the_measures_can_tell() -> None:
    assert relative(torch.tensor([2.0, 4.0]), tf.constant([2.0, 3.0])) == 0.25
    assert absolute(torch.tensor([2.0, 4.0]), tf.constant([2.0, 3.0])) == 1
    assert unequal(torch.tensor([2.0, 4.0]), tf.constant([2.0, 3.0])) == 0.5
    assert unequal(np.array([np.nan, 1.0]), np.array([np.nan, np.nan])) == 0.5
    assert unequal(torch.zeros(1), None) == 1
    assert unequal(torch.zeros(2), tf.zeros((2, 1))) == 1
    assert unequal("float32", "float64") == 1
    assert unequal(None, None) == unequal("float32", "float32") == 0
    for a, b in (([np.nan], [np.nan]), ([1.0], [np.inf]), ([1.0], [[1.0]])):
        with pytest.raises(ValueError, match=r"finite|compare like with like"):
            relative(np.array(a), np.array(b))


def test_a_false_remedy_is_found() -> None:
    """The guards of this module, turned on entries that are wrong."""
    entry = next(entry for entry in ENTRIES if entry.row == "L10")
    fields = {name: getattr(entry, name) for name in entry.__dataclass_fields__}
    for change in (
        {"function": lambda: (0.0, 0.0)},  # no divergence where one is stated
        {"function": lambda: (1e-8, 0.0)},  # larger than stated
        {"function": lambda: (1.9e-9, 1e-9)},  # a remedy that does not help
        {"function": lambda: (np.nan, 0.0)},
        {"function": lambda: (1.9e-9, np.nan)},
    ):
        with pytest.raises(AssertionError):
            test_shown_and_removed(Entry(**fields | change), "float64")
    for change in ({"remedy": "F.softplus(x, threshold=41)"}, {"size": (0.0, 1.0)}, {"size": (1e-9, 1e-6)}):
        with pytest.raises(AssertionError):
            test_an_entry_says_what_it_shows(Entry(**fields | change))


@pytest.mark.parametrize("width", [80, 120, 160])
def test_the_table_fits_and_holds_every_entry(width: int) -> None:
    rows = [(entry, {dtype: Measured(0.123, 1e-16) for dtype in entry.dtypes}) for entry in ENTRIES]
    lines = table(rows, width).splitlines()
    assert max(map(len, lines)) <= width
    assert [line.split()[0] for line in lines if re.match(r"[OLSRGT]\d", line)] == [entry.row for entry in ENTRIES]
    page = markdown(rows)
    for entry in ENTRIES:
        assert f"### {entry.row} " in page
        assert entry.remedy.replace("; ", "\n") in page
    assert page.count("\n## ") == len(PAGES)
