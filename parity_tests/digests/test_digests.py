"""The fixed runs end in the published bytes, or the first update and tensor that part are named."""

import hashlib
import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from parity_tests.digests import __main__ as digests
from parity_tests.digests import machine, published, runs
from parity_tests.support.scripts import SCRIPTS, SMALL, both, packages, rows, run

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
    for name, fixed in expected.items():
        assert len(fixed.trace) >= 9, name
        assert {len(digits) for digits in fixed.trace} == {published.DIGITS * len(fixed.names)}
    assert len({fixed.sha256 for fixed in expected.values()}) == len(runs.runs_on("cuda"))


def test_the_first_update_and_tensor_that_part_are_named() -> None:
    fixed = published.load()["VAE, dense tanh"]
    assert published.parting(fixed, fixed) == ""
    for update, tensor in ((1, 0), (17, 4), (40, 9)):
        trace, here = list(fixed.trace), slice(4 * tensor, 4 * tensor + 4)
        other = "0000" if trace[update - 1][here] != "0000" else "1111"
        for later in range(update - 1, len(trace)):  # what has parted stays apart, and spreads to others
            trace[later] = trace[later][: here.start] + other + trace[later][here.stop :]
        trace[update:] = [other * len(fixed.names) for _ in trace[update:]]
        said = published.parting(fixed._replace(sha256="another", trace=trace), fixed)
        assert said == f"at update {update}, in {fixed.names[tensor]}"
    everywhere = ["0" * len(fixed.trace[0]), *fixed.trace[1:]]
    said = published.parting(fixed._replace(sha256="another", trace=everywhere), fixed)
    assert said == f"at update 1, in {fixed.names[0]}, with 9 more of 10"
    shorter = published.parting(fixed._replace(sha256="another", trace=fixed.trace[:9]), fixed)
    assert shorter == "by its length: 9 updates, not 40"
    assert "in the file alone" in published.parting(fixed._replace(sha256="another"), fixed)
    assert "its tensors are a, not " in published.parting(fixed._replace(sha256="another", names=["a"]), fixed)


@pytest.mark.parametrize("script", ["gmm", "vae"])
@both
def test_a_hash_is_that_of_the_tensors_bytes(framework: str, script: str, tmp_path: Path) -> None:
    """Every other step, of the parameters and moments after it, which the checkpoint of the last one holds."""
    arguments = f"{SMALL[script].replace('5', '4', 1)} --precision reproducible --hash-interval 2"
    assert run(SCRIPTS[script][framework], arguments, tmp_path) == 0
    *earlier, last = rows(tmp_path)
    assert [any(key.startswith("sha256 ") for key in row) for row in earlier] == [False, True, False]
    tensors = load_file(tmp_path / "checkpoint.safetensors")
    assert tensors.pop("step") == 4
    expected = {name: hashlib.sha256(value.tobytes()).hexdigest()[:8] for name, value in tensors.items()}
    assert {k[7:]: f"{v:08x}" for k, v in last.items() if k.startswith("sha256 ")} == expected


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
    fixed = published.load()["mixture, full"]
    found = iter([fixed, fixed._replace(sha256="another")])
    monkeypatch.setattr(published, "read", lambda folder: next(found))
    with pytest.raises(ValueError, match="the frameworks part in mixture, full: nothing is published"):
        digests.publish()


@pytest.mark.long
def test_all_runs_of_each_framework_end_in_the_published_bytes(capsys: pytest.CaptureFixture) -> None:
    assert digests.main([]) == 0
    total = len(runs.RUNS)
    assert capsys.readouterr().out.count(f"{total} of {total} runs are, byte for byte, those that are published") == 2
