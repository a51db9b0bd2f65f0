"""An environment with one framework: the other cannot be imported, nor is its metadata found."""

import os
from pathlib import Path

from parity_tests.support.scripts import ROOT

NEEDS_MORE = "notebooks"  # the module of common/book that imports nbformat, which `make notebooks` installs
OF_THE_OTHER = {
    "pytorch_impl": ("tensorflow", "tensorflow-cpu", "keras", "ml_dtypes", "h5py"),
    "tf2_impl": ("torch", "triton", "torchvision"),
}
# Python runs the first sitecustomize.py on its path before anything else, in child processes too.
SITE = """
import importlib.machinery
import importlib.metadata

ABSENT = {absent}
find_spec = importlib.machinery.PathFinder.find_spec
discover = importlib.metadata.Distribution.discover


def find_the_others(name, path=None, target=None):
    return None if name.partition(".")[0] in ABSENT else find_spec(name, path, target)


def discover_the_others(**context):
    return (found for found in discover(**context) if found.metadata["Name"].lower() not in ABSENT)


importlib.machinery.PathFinder.find_spec = staticmethod(find_the_others)
importlib.metadata.Distribution.discover = staticmethod(discover_the_others)
"""


def environment(package: str, folder: Path) -> dict[str, str]:
    """The environment variables of a Python with the framework of ``package`` alone, to be in ``folder``."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(SITE.format(absent=set(OF_THE_OTHER[package])), encoding="utf-8")
    return os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}


def modules(*folders: str) -> list[str]:
    """Every module of these folders that is there to be imported, by its whole name."""
    paths = [path for folder in folders for path in (ROOT / folder).rglob("[a-z]*.py") if path.stem != NEEDS_MORE]
    names = [path.relative_to(ROOT).with_suffix("").parts for path in paths]
    return [".".join(parts) for parts in names if "examples" not in parts]
