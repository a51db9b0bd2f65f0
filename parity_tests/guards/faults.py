"""Who guards the guards: plant bugs, one at a time, and demand that the suite fails.

python -m parity_tests.guards.faults                                   all planted faults of planted_faults.txt
python -m parity_tests.guards.faults pytorch_impl/gmm.py               those of one file, and of it and its twin
python -m parity_tests.guards.faults --mutants pytorch_impl/gmm.py     every mutant that cosmic-ray makes of the file

Each fault goes into a copy of the project, and the tests that mention the faulty page run there until the
first failure, the page's own tests first. The report names that failure, which for a one-sided fault is the
first tensor and step that differ; a fault of both sides, the same mistake twice, no comparison sees. At the
end the tests that failed run in a copy without a fault, where they must pass. The exit code is 0 if they do,
and if every fault was caught, but for the mutants that planted_faults.txt lists as equivalent. The frameworks
are imported once, and every run forks from there.
"""

import argparse
import ast
import contextlib
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver, get_context
from pathlib import Path
from typing import Any, NamedTuple

from common.runs.script import without_native_stderr

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "build" / "faults.json"
PRELOADED = (
    *("triton", "torch", "tensorflow", "keras", "sklearn.mixture", "scipy.stats", "matplotlib.figure", "pytest"),
    *("hypothesis", "xdist.plugin", "jinja2"),
)
# Arithmetic mistaken for another, constants one off, comparisons at their boundary, negations.
OPERATORS = (
    *(f"ReplaceBinaryOperator_{swap}" for swap in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Pow_Mul")),
    *(f"ReplaceComparisonOperator_{swap}" for swap in ("Gt_GtE", "GtE_Gt", "Lt_LtE", "LtE_Lt", "Eq_NotEq", "Is_IsNot")),
    *("ReplaceUnaryOperator_Delete_USub", "ReplaceUnaryOperator_Delete_Invert", "NumberReplacer", "AddNot"),
    *("ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue"),
)
PROJECT = ("common", "parity_tests", "portparity", "pytorch_impl", "tf2_impl")
NO_FAULT = "no fault, the tests that failed"


class Fault(NamedTuple):
    """One change of one file: ``before``, which stands there exactly once, becomes ``after``.

    A fault of both sides has a ``twin``, the same mistake in the other implementation.
    """

    file: str
    what: str
    before: str
    after: str
    twin: "Fault | None" = None

    def apply(self, source: str) -> str:
        """The faulty source; ValueError if ``before`` does not stand there exactly once."""
        if source.count(self.before) != 1:
            raise ValueError(f"{self.file}: {self.before!r} stands there {source.count(self.before)} times, not once")
        return source.replace(self.before, self.after)


def planted(file: str, what: str, before: str, after: str, *in_tf2: str) -> Fault:
    """The fault of a line of planted_faults.txt; of ``both/gmm.py`` with a twin, perhaps of other text."""
    if not file.startswith("both/"):
        return Fault(file, what, before, after)
    page, what = file.removeprefix("both/"), f"both sides: {what}"
    twin = Fault(f"tf2_impl/{page}", what, *(in_tf2 or (before, after)))
    return Fault(f"pytorch_impl/{page}", what, before, after, twin)


PLANTED, EQUIVALENT = ast.literal_eval(Path(__file__).with_name("planted_faults.txt").read_text(encoding="utf-8"))
FAULTS = [planted(file, *fault) for file, faults in PLANTED.items() for fault in faults]


class Mutant(NamedTuple):
    """A whole mutated file."""

    file: str
    what: str
    after: str
    twin: None = None

    def apply(self, source: str) -> str:
        """The mutated source, whatever the original."""
        return self.after


class Outcome(NamedTuple):
    """The first test that failed with a fault planted, and its message; None if none did."""

    file: str
    what: str
    test: str | None
    message: str


class FirstFailure:
    """A pytest plugin that keeps the first failure."""

    def __init__(self) -> None:
        self.test: str | None = None
        self.message = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep the first test that failed, and the first lines of what it says."""
        if report.failed and self.test is None:
            crash = getattr(report.longrepr, "reprcrash", None)
            lines = filter(str.strip, str(crash.message if crash else report.longrepr).splitlines())
            self.test, self.message = report.nodeid, " ".join(itertools.islice(lines, 3))

    pytest_collectreport = pytest_runtest_logreport  # a module that could not be imported


# what tests know a page, or a room of common/, by: what is made of it
MADE_OF = {
    "network_run": "train_vae",
    "algorithms": "estimators|estimator|train_gmm",
    "data": "datasets|estimators|train_gmm|train_vae",
    "mixtures": "estimators|train_gmm",
    "networks": "vae|autoencoder|train_vae",
    "figures": "figures|train_gmm|train_vae",
    "runs": "train_gmm|train_vae",
}


def test_files(file: str) -> list[str]:
    """The test files that mention a file: its own or its room's first, then those that import it; slow scripts last.

    Without the test of the list of faults, which cannot pass where a fault is planted.
    """
    page, room = Path(file).stem, Path(file).parent.name
    near, mentions = r"\bMODULES = ", rf"\b({page}|{MADE_OF.get(page, page)})\b"  # the mirror's test
    if file.startswith("common"):
        near = rf"from common[.\w]* import .*\b{page}\b|common[./\w]*[./]{page}\b"
        mentions = rf"\b({MADE_OF.get(room, page)})\b"
    ranks, own = {}, (f"test_{page}", f"test_{room}")
    for path in (ROOT / "parity_tests").rglob("test_*.py"):
        text = path.read_text("utf-8")
        if path.name != "test_faults.py" and re.search(f"{near}|{mentions}", text):
            is_far = re.search(near, text) is None
            ranks[path] = (path.stem not in own, path.name == "test_scripts.py", is_far, path)
    return [str(path.relative_to(ROOT)) for path in sorted(ranks, key=ranks.__getitem__)]


def first_failure(tests: Sequence[str], fault: Fault | Mutant | None = None) -> tuple[str | None, str]:
    """The first of the tests that fails in a copy of the project, with its message; (None, "") if none does.

    Takes the process for itself: the project's modules are those of the copy from here on.
    """
    import pytest

    with tempfile.TemporaryDirectory() as folder:
        files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
        for name in filter(None, files.split("\0")):
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, Path(folder) / name)
        for each in filter(None, (fault, fault and fault.twin)):
            target = Path(folder) / each.file
            target.write_text(each.apply(target.read_text(encoding="utf-8")), encoding="utf-8")
        for name in [n for n in sys.modules if n.partition(".")[0] in PROJECT]:
            del sys.modules[name]
        os.chdir(folder)
        sys.path[:] = [folder, *(entry for entry in sys.path if entry not in ("", str(ROOT)))]
        found = FirstFailure()
        arguments = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(io.StringIO()):
            for stage in (tests[:1], tests[1:2], tests[2:]):  # most faults fall to the first files
                if stage and found.test is None:
                    code = pytest.main([*arguments, *stage], plugins=[found])
        os.chdir(ROOT)
    if code and found.test is None:  # such as a test that is not there
        raise RuntimeError(f"pytest ended with {code!r} and no failure: {output.getvalue().strip()[-500:]}")
    return found.test, found.message


def run(fault: Fault | Mutant) -> tuple[str | None, str]:
    """The first test that fails with the fault planted, and its message, in a process of its own."""
    return first_failure(test_files(fault.file), fault)


def run_all(faults: Sequence[Fault | Mutant], jobs: int) -> Iterator[Outcome]:
    """The outcome of every fault, in order, then of the tests that failed without a fault, if any."""
    context = get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    with without_native_stderr():  # which the server, and all that it forks, keep
        forkserver.ensure_running()
    failed = set()
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
        for fault, (test, message) in zip(faults, pool.map(run, faults), strict=True):
            failed.add(test)
            yield Outcome(fault.file, fault.what, test, message)
        if tests := sorted(failed - {None}):
            yield Outcome("", NO_FAULT, *pool.submit(first_failure, tests).result())


def times_the_allowed(outcome: Outcome) -> float | None:
    """How many times the tolerance a fault's first difference is; None if no float64 comparison saw it."""
    found = re.search(r"\(float64, .* differ by (\S+) of its scale, .*; (\S+) is allowed", outcome.message)
    return float(found[1]) / float(found[2]) if found and float(found[2]) else None


def mutants(file: str) -> Iterator[Mutant]:
    """The mutants of a file by cosmic-ray's ``OPERATORS``."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source = (ROOT / file).read_text(encoding="utf-8")
    for name in OPERATORS:
        occurrence = 0
        while (mutated := mutate_code(source, get_operator(f"core/{name}")(), occurrence)) is not None:
            occurrence += 1
            both = zip(source.splitlines(), mutated.splitlines(), strict=False)
            line, before, after = next((i, b, a) for i, (b, a) in enumerate(both, 1) if b != a)
            yield Mutant(file, f"line {line}: {before.strip()} -> {after.strip()}", mutated)


def reason(mutant: Fault | Mutant) -> str | None:
    """Why a mutant changes nothing; None if it is not listed as equivalent."""
    return EQUIVALENT.get(mutant.file, {}).get(mutant.what.partition(": ")[2])


def main(argv: Sequence[str] | None = None) -> int:
    """Plant the faults, print what caught each, write build/faults.json; return 0 if all were caught."""
    parser = argparse.ArgumentParser(prog="parity_tests.guards.faults", description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", help="only these files, such as pytorch_impl/gmm.py")
    parser.add_argument("--mutants", action="store_true", help="cosmic-ray's mutants, not the planted faults")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time (default: all cores)")
    options = parser.parse_args(argv)
    listed = [
        fault
        for fault in FAULTS
        if not options.files or {fault.file, fault.twin and fault.twin.file} & {*options.files}
    ]
    chosen = [mutant for file in options.files for mutant in mutants(file)] if options.mutants else listed
    equivalent = [fault for fault in chosen if options.mutants and reason(fault)]  # these would take the whole suite
    if not chosen:
        parser.error(f"{options.files}: no faults there; name files such as pytorch_impl/gmm.py")
    outcomes, wrong = [], []
    for outcome in run_all([fault for fault in chosen if fault not in equivalent], options.jobs):
        if outcome.what == NO_FAULT:
            if outcome.test is not None:
                wrong.append(f"FAILS WITHOUT A FAULT  {outcome.test}: {outcome.message}")
            continue
        outcomes.append(outcome)
        verdict = "SURVIVED"
        if outcome.test is not None:
            verdict = f"caught by {outcome.test.removeprefix('parity_tests/')}\n    {outcome.message}"
        else:
            wrong.append(f"SURVIVED  {outcome.file}: {outcome.what}")
        print(f"{outcome.file}: {outcome.what}\n    {verdict}", flush=True)
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps([outcome._asdict() for outcome in outcomes], indent=1) + "\n", encoding="utf-8")
    for mutant in equivalent:
        print(f"{mutant.file}: {mutant.what}\n    not run, equivalent: {reason(mutant)}")
    caught = sum(outcome.test is not None for outcome in outcomes)
    more = f", {len(equivalent)} more are listed as equivalent" if options.mutants else ""
    print(f"{caught} of {len(outcomes)} faults caught{more}; {REPORT.relative_to(ROOT)}")
    if seen := sorted(filter(None, map(times_the_allowed, outcomes))):
        sizes = f"{seen[0]:.0e} to {seen[-1]:.0e} times what rounding is allowed, median {seen[len(seen) // 2]:.0e}"
        print(f"{len(seen)} of them as a difference of the frameworks, of {sizes}")
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
