"""The list of planted faults keeps up with the pages: each can be planted, and every pair has some."""

import ast
from pathlib import Path

import numpy as np
import pytest

from parity_tests.conftest import Parity
from parity_tests.guards.faults import EQUIVALENT, FAULTS, Fault, Mutant, Outcome, times_the_allowed
from parity_tests.guards.faults import test_files as files_of_tests
from parity_tests.guards.test_mirror import MODULES
from parity_tests.tolerances import TOLERANCES

ROOT = Path(__file__).parents[2]


def test_every_fault_changes_one_place_and_leaves_a_program() -> None:
    """The replaced text stands in its file exactly once, and the faulty file still parses."""
    all_sides = [*FAULTS, *(fault.twin for fault in FAULTS if fault.twin)]
    sources = {fault.file: (ROOT / fault.file).read_text(encoding="utf-8") for fault in all_sides}
    for fault in all_sides:
        assert ast.parse(fault.apply(sources[fault.file]))
        assert fault.before != fault.after


def test_faults_are_many_and_different() -> None:
    """Every fault of a file has a name and a change of its own."""
    assert len(FAULTS) >= 400
    assert len({(fault.file, fault.what) for fault in FAULTS}) == len(FAULTS)
    assert len({(fault.file, fault.before, fault.after, fault.twin) for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("module", MODULES)
def test_every_page_has_faults_on_both_sides_and_tests_that_look_for_them(module: str) -> None:
    """A page that is new to the project is new to the list as well."""
    files = {fault.file for fault in FAULTS}
    assert {f"pytorch_impl/{module}", f"tf2_impl/{module}"} <= files
    assert files_of_tests(f"pytorch_impl/{module}")


def test_a_fault_that_cannot_be_planted_is_an_error() -> None:
    """It does not count as caught."""
    with pytest.raises(ValueError, match=r"gmm.py: 'a' stands there 2 times, not once"):
        Fault("gmm.py", "what", "a", "b").apply("aa")
    assert Mutant("gmm.py", "what", "b").apply("aa") == "b"


def test_equivalent_mutants_are_of_lines_that_are_there() -> None:
    """Every mutant that is listed as equivalent is of a line of its file, and has a reason."""
    for file, reasons in EQUIVALENT.items():
        lines = {line.strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines()}
        for change, reason in reasons.items():
            assert change.partition(" -> ")[0] in lines, (file, change)
            assert reason


def test_the_size_of_a_fault_is_read_from_the_comparisons_message() -> None:
    """The message is that of a comparison that fails."""
    parity = Parity("coin", [])
    with pytest.raises(AssertionError) as error:
        parity.check("log_beta", "loss", np.array([1.0, 2.0]), np.array([1.0, 2.02]), "a")
    outcome = Outcome("pytorch_impl/coin.py", "a fault", "test_coin.py::test_values", f"AssertionError: {error.value}")
    assert times_the_allowed(outcome) == pytest.approx(0.02 / 2.02 / TOLERANCES["loss"].of("float64"), rel=0.2)
    assert times_the_allowed(outcome._replace(message="AssertionError: assert 1 == 2")) is None
