"""The wheel holds the porting tool alone, and works where another package is called common."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PORTED = """
import time
import numpy, torch, tf2_log, keras
start = time.perf_counter()
import common, portparity
assert common.WHOSE == "the porter's" and time.perf_counter() - start < 0.5, time.perf_counter() - start
model, port = torch.nn.Linear(4, 3), keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="{}")])
report = portparity.Port(model, port, numpy.ones((5, 4), "float32")).check()
print(portparity.__file__, report.agrees, sep="\\n")
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the sources, as an installer lays it down, beside a porter's own package."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source)
    for name in ("portparity", "common", "pytorch_impl", "tf2_impl", "parity_tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*wheel, "--wheel-dir", source / "wheels", source], check=True)
    with zipfile.ZipFile(next((source / "wheels").glob("*.whl"))) as file:
        file.extractall(site)
    (site / "common.py").write_text('WHOSE = "the porter\'s"\n')
    (site / "tf2_log.py").write_text("import os\nos.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'\n")
    return site


@pytest.mark.long
def test_the_wheel_holds_the_tool_and_its_license(unpacked: Path) -> None:
    packages = {path.name for path in unpacked.iterdir() if path.suffix != ".py"}
    assert {name for name in packages if not name.endswith(".dist-info")} == {"portparity"}
    assert {p.relative_to(unpacked) for p in (unpacked / "portparity").rglob("*.py")} == {
        p.relative_to(ROOT) for p in (ROOT / "portparity").rglob("*.py")
    }
    info = next(unpacked.glob("*.dist-info"))
    assert (info / "licenses" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    required = [line for line in (info / "METADATA").read_text().splitlines() if line.startswith("Requires-Dist")]
    assert [line.partition(" ")[2].split(">")[0] for line in required if "extra" not in line] == ["numpy"]


@pytest.mark.long
@pytest.mark.parametrize(("activation", "agrees"), [("linear", True), ("tanh", False)])
def test_it_checks_a_port_beside_a_foreign_common(unpacked: Path, activation: str, agrees: bool) -> None:
    code = [sys.executable, "-c", PORTED.format(activation)]
    result = subprocess.run(code, cwd=unpacked, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-2:] == [str(unpacked / "portparity" / "__init__.py"), str(agrees)]
