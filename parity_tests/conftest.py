"""The parity table: what the tests measured, printed, in build/parity.json and as a page, build/parity/index.html.

The long part has files of its own, build/parity-long.json and its page; a few tests on their own are only
printed.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# No test, and no script that a test starts, reaches the network: its proxy is a port where nobody listens.
os.environ.update(dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9"), no_proxy="127.0.0.1")

# isort: off
from common.runs.folder import RunFolder, versions
from common.runs.script import without_native_stderr

with without_native_stderr():
    import tf2_impl  # noqa: F401  (silences TensorFlow's log before its first import)
    import tensorflow as tf
import torch
# isort: on

from common.data.arrays import as_array
from common.parity import NOISE_FLOOR_RATIO, difference, noise_floor_ratio, ulp_histogram
from parity_tests.report import hostile_summary, summary, write_report
from parity_tests.tolerances import LIMITS, TOLERANCES

COLLECTED: dict[str, list[dict[str, Any]]] = {"parity": [], "trajectory": [], "hostile": []}
BUILD = Path(__file__).parent.parent / "build"
NEVER_COMPILED = (
    *("coin", "coin_mixture", "conjugate", "em", "gaussian", "gmm", "log_factorials", "missing_data", "singularity"),
    "variational_gmm",
)


def idx(array: np.ndarray) -> bytes:
    """Bytes as an IDX file holds them."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def pytest_configure() -> None:
    """One thread in both frameworks, so that a run repeats itself to the bit."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the scripts' default
    torch.set_num_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to `make parity-long` what is compiled by XLA in single precision, or though no script compiles it.

    Compiling takes long, and double precision sees more.
    """
    for item in items:
        values = getattr(item, "callspec", None) and item.callspec.params.values()
        modes = {value for value in values or () if isinstance(value, str)}
        if "xla" in modes and ("float32" in modes or item.path.stem.removeprefix("test_") in NEVER_COMPILED):
            item.add_marker(pytest.mark.long)


class Parity:
    """What a test uses to hold a PyTorch value against a TensorFlow value and to enter both in the table."""

    def __init__(self, chapter: str, rows: list[tuple[str, Any]]) -> None:
        self.chapter, self.rows = chapter, rows

    def check(
        self,
        quantity: str,
        kind: str,
        a: Any,
        b: Any,
        tensor: str = "",
        mode: str = "eager",
        steps: int = 1,
        perturbed: Sequence[Any] = (),
    ) -> None:
        """Fail unless the two values are finite, of one shape and dtype, and within the tolerance of ``kind``.

        ``a`` and ``b`` may be dictionaries or named tuples of tensors; each is then a row of its own.
        ``perturbed`` are one framework's values from weights moved by one unit in the last place: the
        difference must then also be no more than ten times what these are apart from ``a``.
        """
        if hasattr(a, "_asdict"):
            a, b = a._asdict(), b._asdict()
        if isinstance(a, Mapping):
            assert a.keys() == b.keys(), f"{quantity}: {sorted(a)} here, {sorted(b)} there"
            for name in a:
                self.check(quantity, kind, a[name], b[name], name, mode, steps, [p[name] for p in perturbed])
            return
        a, b = np.asarray(as_array(a)), np.asarray(as_array(b))
        apart, tolerance, measure = difference(a, b), TOLERANCES[kind].of(str(a.dtype)), TOLERANCES[kind].measure
        ratio = noise_floor_ratio(a, b, [np.asarray(as_array(p)) for p in perturbed]) if perturbed else None
        value = getattr(apart, measure)
        key = dict(quantity=quantity, tensor=tensor, shape=a.shape, dtype=str(a.dtype), mode=mode, steps=steps)
        measured = apart._asdict() | dict(ulp_histogram=ulp_histogram(a, b), noise_floor_ratio=ratio)
        complaint = f"PyTorch and TensorFlow differ by {value:.2e} of its scale, {apart.max_ulp} ULP; "
        complaint += f"{tolerance:.0e} is allowed for '{kind}'"
        where = self._enter(key | dict(measure=measure) | measured, value, tolerance, complaint)
        assert ratio is None or ratio <= NOISE_FLOOR_RATIO, (
            f"{where}: PyTorch and TensorFlow differ {ratio:.1f} times as much as weights that are moved by one unit "
            "in the last place"
        )

    def measure(
        self, quantity: str, kind: str, value: float, tensor: str = "", mode: str = "eager", steps: int = 1
    ) -> None:
        """Enter a number that does not compare two tensors; fail if it is above the limit of ``kind``."""
        limit, value = LIMITS[kind].value, float(value)
        row = dict(quantity=quantity, tensor=tensor, shape=(), dtype="float64", mode=mode, steps=steps, measure="value")
        row |= dict(max_abs=value, nmax=value, l2=value)
        row |= dict.fromkeys(("max_ulp", "bit_equal", "ulp_histogram", "noise_floor_ratio"))
        self._enter(row, value, limit, f"{value:.2e}; {limit:.0e} is allowed: {LIMITS[kind].reason}")

    def trajectory(
        self,
        case: str,
        quantity: str,
        dtype: str,
        steps: Sequence[int],
        apart: Sequence[float],
        perturbed: Sequence[float],
    ) -> None:
        """Leave the course of a training in the report: how far PyTorch is from TensorFlow, and from PyTorch with
        weights moved by one unit in the last place, at every step."""
        row = dict(chapter=self.chapter, case=case, quantity=quantity, dtype=dtype, steps=list(steps))
        row |= dict(torch_tf2=list(map(float, apart)), torch_perturbed=list(map(float, perturbed)))
        self.rows.append(("trajectory", row))

    def _enter(self, measured: dict, value: float, allowed: float, complaint: str) -> str:
        row = dict(chapter=self.chapter) | measured | dict(tolerance=allowed, headroom=allowed / max(value, 1e-300))
        row["passed"] = bool(value <= allowed)
        self.rows.append(("parity", row))
        where = "{chapter}: {quantity} {tensor} ({dtype}, {mode}, step {steps})".format(**row)
        assert row["passed"], f"{where}: {complaint}"
        return where


@pytest.fixture
def parity(request: pytest.FixtureRequest) -> Parity:
    """The recorder of the test module's chapter; its rows travel with the test's report."""
    return Parity(request.module.__name__.rpartition("test_")[2], request.node.user_properties)


@pytest.fixture(autouse=True)
def _figures_where_they_are_looked_at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four figures take longer than a short training: runs draw theirs in the tests that are marked so."""
    if request.node.get_closest_marker("figures") is None:
        monkeypatch.setattr(RunFolder, "save_figure", lambda run, name, draw, *arguments: None)


@pytest.fixture(autouse=True)
def _restore_signals() -> Iterator[None]:
    """Put back what a script makes of Ctrl-C."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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
        for name, row in report.user_properties:
            if name in COLLECTED:
                COLLECTED[name].append(row)


def report_name(config: pytest.Config) -> str | None:
    """What the report of this run is called; None if it is of some of the tests only."""
    some = config.option.keyword or any("::" in path or path.endswith(".py") for path in config.args)
    of_marks = {"not long and not distributed": "parity", "long": "parity-long"}
    return None if some else of_marks.get(config.option.markexpr)


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    """Print how far apart the frameworks are and, of a whole suite, leave a row per tensor in build."""
    if COLLECTED["hostile"]:
        terminalreporter.section("hostile input, the same in PyTorch and TensorFlow")
        for line in hostile_summary(COLLECTED["hostile"]):
            terminalreporter.line(line)
    rows = COLLECTED["parity"]
    if not rows:
        return
    rows.sort(key=lambda row: [str(row[c]) for c in ("chapter", "quantity", "tensor", "dtype", "mode", "steps")])
    where, name = "", report_name(config)
    if name is not None:
        passed = exitstatus == 0 and all(row["passed"] for row in rows)
        report = {"versions": versions(), "passed": passed, "rows": rows, "trajectories": COLLECTED["trajectory"]}
        BUILD.mkdir(exist_ok=True)
        (BUILD / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
        write_report(report, BUILD / name / "index.html")
        where = f"; a row each in build/{name}/index.html and build/{name}.json"
    terminalreporter.section("parity of PyTorch and TensorFlow")
    for line in summary(rows, ("chapter",) if name else ("chapter", "quantity", "dtype")):
        terminalreporter.line(line)
    terminalreporter.line(f"{len(rows):,} tensors compared{where}")
