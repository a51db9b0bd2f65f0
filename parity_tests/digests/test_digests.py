"""The fixed runs end in the published bytes, or the first update and tensor that part are named."""

import json
from pathlib import Path

import pytest

from parity_tests.digests import __main__ as digests
from parity_tests.digests import machine, published, runs
from parity_tests.support.scripts import packages

QUICK = ("mixture, variational", "mixture, gaps", "VAE, dense relu")


@packages
def test_runs_end_in_the_published_bytes(package: str, tmp_path: Path) -> None:
    """A few of them, in this process; `make digests` trains all, in processes of their own."""
    runs.train(package, tmp_path, QUICK)
    expected = published.load()
    for name in QUICK:
        assert published.parting(published.read(tmp_path / name), expected[name]) == "", name


def test_what_is_published_is_of_every_run() -> None:
    expected = published.load()
    assert list(expected) == list(runs.RUNS)
    for name in (name for name in runs.RUNS if "workers" in name):
        assert expected[name] == expected[name.partition(", 2 workers")[0]], "workers end in the bytes of one process"
    for name, run in expected.items():
        assert len(run.trace) >= 9, name
        assert {len(digits) for digits in run.trace} == {published.DIGITS * len(run.names)}
    assert len({run.sha256 for run in expected.values()}) == len(runs.runs_on("cuda"))


def test_the_first_update_and_tensor_that_part_are_named() -> None:
    run = published.load()["VAE, dense tanh"]
    assert published.parting(run, run) == ""
    for update, tensor in ((1, 0), (17, 4), (40, 9)):
        trace, here = list(run.trace), slice(4 * tensor, 4 * tensor + 4)
        other = "0000" if trace[update - 1][here] != "0000" else "1111"
        for later in range(update - 1, len(trace)):  # what has parted stays apart, and spreads to others
            trace[later] = trace[later][: here.start] + other + trace[later][here.stop :]
        trace[update:] = [other * len(run.names) for _ in trace[update:]]
        said = published.parting(run._replace(sha256="another", trace=trace), run)
        assert said == f"at update {update}, in {run.names[tensor]}"
    both = ["0" * len(run.trace[0]), *run.trace[1:]]
    said = published.parting(run._replace(sha256="another", trace=both), run)
    assert said == f"at update 1, in {run.names[0]}, with 9 more of 10"
    shorter = published.parting(run._replace(sha256="another", trace=run.trace[:9]), run)
    assert shorter == "by its length: 9 updates, not 40"
    assert "in the file alone" in published.parting(run._replace(sha256="another"), run)
    assert "its tensors are a, not " in published.parting(run._replace(sha256="another", names=["a"]), run)


def test_a_run_that_parts_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mixture that is trained as published, and one from another seed."""
    monkeypatch.setattr(digests, "BUILD", tmp_path)
    monkeypatch.setattr(digests, "runs_on", lambda device: ["mixture, full", "mixture, MAP"])
    monkeypatch.setitem(runs.RUNS, "mixture, MAP", ("train_gmm", runs.MIXTURES["MAP"].replace("--seed 2", "--seed 3")))
    here = digests.folder("pytorch_impl", "cpu")
    runs.train("pytorch_impl", here, ["mixture, full", "mixture, MAP"])
    machine.write(here, "pytorch_impl", "cpu")
    all_equal, lines = digests.report("pytorch_impl", "cpu")
    assert not all_equal
    assert "  equal  55fcd06e  mixture, full" in lines
    assert "  PARTS  mixture, MAP: at update 1, in covariances, with 2 more of 3" in lines
    assert lines[-1] == "  1 of 2 runs are, byte for byte, those that are published"
    about = json.loads((here / machine.FILE).read_text(encoding="utf-8"))
    assert {"processor", "SIMD", "versions", "device", "PyTorch's SIMD"} <= about.keys()
    assert all(f"  {name}: {value}" in lines for name, value in about.items())


def test_frameworks_that_part_publish_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "FILE", tmp_path / "digests.json")
    monkeypatch.setattr(digests, "runs_on", lambda device: ["mixture, full"])
    run = published.load()["mixture, full"]
    found = iter([run, run._replace(sha256="another")])
    monkeypatch.setattr(published, "read", lambda folder: next(found))
    with pytest.raises(ValueError, match="the frameworks part in mixture, full: nothing is published"):
        digests.publish()


@pytest.mark.long
def test_all_runs_of_each_framework_end_in_the_published_bytes(capsys: pytest.CaptureFixture) -> None:
    assert digests.main([]) == 0
    total = len(runs.RUNS)
    assert capsys.readouterr().out.count(f"{total} of {total} runs are, byte for byte, those that are published") == 2
