"""common/ needs no framework, and neither implementation loads the other's."""

import subprocess
import sys

import pytest

from parity_tests.support.one_framework import modules
from parity_tests.support.scripts import ROOT

FRAMEWORKS = {"torch", "tensorflow", "keras"}


def after(statement: str) -> tuple[str, set[str]]:
    """What a statement prints, and the packages that are loaded after it."""
    code = f"{statement}\nimport sys; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    printed, _, names = result.stdout.rstrip("\n").rpartition("\n")
    return printed, {name.partition(".")[0] for name in names.split()}


@pytest.mark.parametrize(
    ("folder", "foreign"), [("common", FRAMEWORKS), ("pytorch_impl", {"tensorflow", "keras"}), ("tf2_impl", {"torch"})]
)
def test_loads_no_foreign_framework(folder: str, foreign: set[str]) -> None:
    assert not after("import " + ", ".join(modules(folder)))[1] & foreign


def test_the_packages_alone_load_no_framework() -> None:
    assert not after("import pytorch_impl, tf2_impl")[1] & FRAMEWORKS


@pytest.mark.parametrize("script", ["train_gmm", "train_vae"])
def test_help_is_one_text_and_loads_nothing_large(script: str) -> None:
    texts = set()
    for folder in ("pytorch_impl", "tf2_impl"):
        code = f"from {folder} import {script}\ntry: {script}.main(['--help'])\nexcept SystemExit as end: "
        text, loaded = after(f"{code}assert not end.code")
        assert not loaded & (FRAMEWORKS | {"matplotlib", "sklearn"})
        texts.add(text.split("\n\n", 1)[1])
    assert len(texts) == 1
