"""The notebooks run to their end, and a chapter's two notebooks print the same.

To be run after `make notebooks`, with nbclient installed; the default suite does not collect it.
"""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from common.book.chapters import titles

NOTEBOOKS = Path(__file__).parents[2] / "build" / "notebooks"


def execute(path: Path) -> tuple[str, int]:
    """Run a notebook and keep its outputs in it; returns what it printed, and how many pictures it drew."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    nbformat.write(notebook, path)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(o["text"] for o in outputs if o.output_type == "stream" and o.name == "stdout")
    return printed, sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("name", titles())
def test_pair_runs_and_prints_the_same(name: str) -> None:
    printed, pictures = execute(NOTEBOOKS / "torch" / f"{name}.ipynb")
    assert printed
    assert execute(NOTEBOOKS / "tf2" / f"{name}.ipynb") == (printed, pictures)
