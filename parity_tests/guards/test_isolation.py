"""common/ needs no framework, and neither implementation loads the other's."""

import subprocess
import sys
from pathlib import Path

import pytest

from parity_tests.support.one_framework import NEEDS_MORE

ROOT = Path(__file__).parents[2]
FRAMEWORKS = {"torch", "tensorflow", "keras"}


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in result.stdout.splitlines()[-1].split()}


def modules(folder: str) -> str:
    paths = sorted(path.relative_to(ROOT).with_suffix("") for path in (ROOT / folder).rglob("*.py"))
    paths = [path for path in paths if not path.stem.startswith("__") and path.stem != NEEDS_MORE]
    names = [".".join(path.parts) for path in paths if "examples" not in path.parts]
    return ", ".join(names)


@pytest.mark.parametrize(
    ("folder", "foreign"), [("common", FRAMEWORKS), ("pytorch_impl", {"tensorflow", "keras"}), ("tf2_impl", {"torch"})]
)
def test_loads_no_foreign_framework(folder: str, foreign: set[str]) -> None:
    assert not loaded_after(f"import {modules(folder)}") & foreign


@pytest.mark.parametrize("script", ["train_gmm", "train_vae"])
@pytest.mark.parametrize("folder", ["pytorch_impl", "tf2_impl"])
def test_help_loads_nothing_large(folder: str, script: str) -> None:
    statement = (
        f"import sys, contextlib, {folder}.{script} as s\nwith contextlib.suppress(SystemExit): s.main(['--help'])\n"
    )
    assert not loaded_after(statement + "0") & (FRAMEWORKS | {"matplotlib", "sklearn"})


def test_every_help_text_explains_every_flag() -> None:
    for script in ("train_gmm", "train_vae"):
        texts = [
            subprocess.run(
                [sys.executable, "-m", f"{folder}.{script}", "--help"], cwd=ROOT, capture_output=True, text=True
            )
            for folder in ("pytorch_impl", "tf2_impl")
        ]
        assert [text.returncode for text in texts] == [0, 0]
        assert texts[0].stdout.split("\n\n", 1)[1] == texts[1].stdout.split("\n\n", 1)[1]
