"""The parity table: collects what the tests measured, prints it and writes build/parity.json."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# isort: off
from common.run_folder import versions, without_native_stderr

with without_native_stderr():
    import tf2_impl  # noqa: F401  (silences TensorFlow's log before its first import)
    import tensorflow as tf
import torch
# isort: on

from common.metrics import difference
from common.mixture_checks import as_array
from parity_tests.tolerances import TOLERANCES

ROWS: list[dict[str, Any]] = []
COLUMNS = ("chapter", "quantity", "dtype", "steps", "modes", "nmax", "ULP", "bit-equal", "tolerance", "headroom")
REPORT = Path(__file__).parent.parent / "build" / "parity.json"


def pytest_configure() -> None:
    """One thread in both frameworks, so that a run repeats itself to the bit."""
    torch.set_num_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)


class Parity:
    """What a test uses to hold a PyTorch value against a TensorFlow value and to enter both in the table."""

    def __init__(self, chapter: str, rows: list[tuple[str, Any]]) -> None:
        self.chapter, self.rows = chapter, rows

    def check(
        self, quantity: str, kind: str, a: Any, b: Any, tensor: str = "", mode: str = "eager", steps: int = 1
    ) -> None:
        """Fail unless the two values are finite, of one shape and dtype, and within the tolerance of ``kind``.

        ``a`` and ``b`` may be dictionaries or named tuples of tensors; each is then a row of its own.
        """
        if hasattr(a, "_asdict"):
            a, b = a._asdict(), b._asdict()
        if isinstance(a, Mapping):
            assert a.keys() == b.keys(), f"{quantity}: {sorted(a)} here, {sorted(b)} there"
            for name in a:
                self.check(quantity, kind, a[name], b[name], name, mode, steps)
            return
        a, b = np.asarray(as_array(a)), np.asarray(as_array(b))
        apart, tolerance = difference(a, b), getattr(TOLERANCES[kind], str(a.dtype))
        row = dict(chapter=self.chapter, quantity=quantity, tensor=tensor, dtype=str(a.dtype), mode=mode, steps=steps)
        row |= apart._asdict() | dict(tolerance=tolerance, headroom=tolerance / max(apart.nmax, 1e-300))
        row["passed"] = apart.nmax <= tolerance
        self.rows.append(("parity", row))
        assert row["passed"], (
            f"{self.chapter}: {quantity} {tensor} ({a.dtype}, {mode}, step {steps}): PyTorch and TensorFlow differ by "
            f"{apart.nmax:.2e} of its scale, {apart.max_ulp} ULP; {tolerance:.0e} is allowed for '{kind}'"
        )


@pytest.fixture
def parity(request: pytest.FixtureRequest) -> Parity:
    """The recorder, for the chapter that the test module is named after; its rows travel with the test's report."""
    return Parity(request.module.__name__.rpartition("test_")[2], request.node.user_properties)


MODES: dict[str, Callable[[Callable], Callable]] = {
    "eager": lambda function: function,
    "function": tf.function,
    "xla": lambda function: tf.function(function, jit_compile=True),
}


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """TensorFlow's three ways to run a function."""
    return request.param


@pytest.fixture(params=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> str:
    """The two precisions."""
    return request.param


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect the rows of every test, in whichever process it ran."""
    if report.when == "call":
        ROWS.extend(row for name, row in report.user_properties if name == "parity")


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int) -> None:
    """Print a line per quantity, the worst of its tensors, and leave a row per tensor in build/parity.json."""
    if not ROWS:
        return
    ROWS.sort(key=lambda row: [str(row[c]) for c in ("chapter", "quantity", "tensor", "dtype", "mode", "steps")])
    REPORT.parent.mkdir(exist_ok=True)
    passed = exitstatus == 0 and all(row["passed"] for row in ROWS)
    REPORT.write_text(json.dumps({"versions": versions(), "passed": passed, "rows": ROWS}, indent=1) + "\n")
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for row in ROWS:
        groups.setdefault(tuple(row[c] for c in COLUMNS[:4]), []).append(row)
    lines = [COLUMNS]
    for key, rows in sorted(groups.items()):
        worst = max(rows, key=lambda row: row["nmax"] / row["tolerance"])
        share = min(row["bit_equal"] for row in rows)
        headroom = f"{worst['headroom']:.0f}" if worst["headroom"] < 1e6 else "exact"
        ulp = max(row["max_ulp"] for row in rows)
        modes = " ".join(mode for mode in MODES if any(row["mode"] == mode for row in rows))
        lines.append((*map(str, key), modes, f"{worst['nmax']:.1e}", f"{ulp if ulp < 1e6 else f'{ulp:.0e}'}",
                      f"{share:.0%}", f"{worst['tolerance']:.0e}", headroom))  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    terminalreporter.section("parity of PyTorch and TensorFlow")
    for line in lines:
        terminalreporter.line("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    terminalreporter.line(f"{len(ROWS)} tensors compared; a row each in {REPORT.relative_to(REPORT.parents[1])}")
