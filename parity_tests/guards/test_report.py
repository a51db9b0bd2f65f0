"""The page of the parity report: self-contained, every tensor on it, and what failed named first."""

import re
from pathlib import Path

import numpy as np
import pytest

from common import draws
from common.book.chapters import titles
from parity_tests.conftest import Parity
from parity_tests.report import HEADLINES, count, number, share, summary, write_report


def test_the_summary_is_a_line_a_chapter_in_reading_order() -> None:
    x = draws.normals(0, "sample", (40, 3))
    rows = []
    for chapter in ("trajectories", "bit_equality", *reversed(titles())):
        recorder = Parity(chapter, [])
        recorder.check("mean", "output", x, x, "a")
        recorder.check("mean", "output", x, x * (1 + 2e-16), "b", "xla")
        for _, of, quantity in HEADLINES:
            if of == chapter:
                recorder.check(quantity, "output", x, x * (1 + 4e-16))
        rows += [row for _, row in recorder.rows]
    header, *lines = summary(rows)
    assert len(lines) + 1 <= 23  # and pytest's title, and how many tensors there were
    assert [line.split()[0] for line in lines[: len(titles())]] == list(titles())
    assert lines[0].split()[:3] == ["coin", "2", "50.0%"]
    assert lines[0].endswith("7e-15: mean, float64")
    assert lines[len(titles())].startswith("whole runs")
    assert all(f"{text}: " in lines[-1] for text, _, _ in HEADLINES)
    assert "equal" in header
    first, *_ = summary(rows, ("chapter", "quantity", "dtype"))[1:]
    assert first.split()[:4] == ["trajectories", "mean", "float64", "2"]


def page(tmp_path: Path, faulty: bool) -> str:
    recorder = Parity("vae", [])
    x = draws.normals(0, "sample", (40, 3))
    recorder.check("mean", "output", x, x * (1 + 2e-16), "encoder <b>", "xla")
    recorder.measure("odds", "expected flips", 1e-6, steps=1000)
    recorder.trajectory("digits", "loss", "float64", [1, 2, 3], [0.0, 1e-16, 2e-16], [1e-16, 0.0, 3e-16])
    if faulty:
        for steps, scale in ((20, 1e-3), (7, 1e-9)):
            with pytest.raises(AssertionError):
                recorder.check("logits", "output", x, x * (1 + scale), "decoder.out", steps=steps)
    rows = [row for name, row in recorder.rows if name == "parity"]
    trajectories = [row for name, row in recorder.rows if name == "trajectory"]
    parity = {"versions": {"torch": "2"}, "passed": not faulty, "rows": rows, "trajectories": trajectories}
    write_report(parity, tmp_path / "report" / "index.html")
    return (tmp_path / "report" / "index.html").read_text(encoding="utf-8")


def test_everything_is_on_one_page_that_needs_no_other(tmp_path: Path) -> None:
    html = page(tmp_path, faulty=False)
    assert "Passed: 2 tensors" in html
    assert "<td>40 × 3</td>" in html
    assert "encoder &lt;b&gt;" in html
    assert html.count("<svg") == 2
    assert "vae, digits, float64: loss" in html
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", html), "nothing is fetched"
    assert "What failed" not in html


def test_what_failed_stands_first_and_the_earliest_step_leads(tmp_path: Path) -> None:
    html = page(tmp_path, faulty=True)
    assert "Failed: 2 of 4 tensors" in html
    first = html.index("First to part: <strong>vae, logits, decoder.out</strong> at step 7")
    assert first < html.index("The worst of each quantity")


def test_numbers_are_never_rounded_to_what_they_are_not() -> None:
    assert [number(v) for v in (None, 0, 1.234e-16)] == ["–", "0", "1.2e-16"]
    assert [share(v) for v in (None, 0, 1, 0.99999, 0.00001, 0.5)] == ["–", "0%", "100%", "99.9%", "0.1%", "50.0%"]
    assert [count(v) for v in (None, 0, 999_999, int(np.iinfo(np.int64).max))] == ["–", "0", "999,999", "9e+18"]
