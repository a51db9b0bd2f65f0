"""The chapters as notebooks, a pair for each: the same cells, once in PyTorch and once in TensorFlow.

python -m common.book.notebooks build/notebooks

A notebook holds the chapter's text, the code of ``examples/``, every definition under its own text, and the
chapter's figures, which are drawn with the functions that the notebook defines.
"""

import os
import re
import sys
from functools import partial
from pathlib import Path

if not __package__:  # run as a file, python common/book/notebooks.py, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from common.book.chapters import NAMES, titles
from common.book.pairs import FOLDERS, Pair, read_pair
from common.book.text.prose import BookError, exercises
from common.figures import draw
from common.runs.terminal import command

HERE = Path(__file__).parent
EXAMPLES, EXERCISES = HERE / "examples", HERE / "exercises"
FIGURE = re.compile(r"!\[([^\]]*)\]\((\w+)\.svg\)\n*")
SETUP = """\
# Where the project is, its other chapters, and a few names that differ from framework to framework.
import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

%matplotlib inline
root = next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "{folder}").is_dir())
sys.path.insert(0, str(root))

from common.book.progress import Progress
from common.runs.terminal import without_native_stderr

Progress(get_ipython())
with without_native_stderr():  # TensorFlow's remarks on the processor
    from {folder} import estimators, {modules}
    from {folder}.backend import evaluate, set_up
set_up("cpu", 1)  # one thread, as for the book: where arrays are small, threads wait for each other
import matplotlib.pyplot as plt
import numpy as np
from common import draws
from common.data import datasets
from common.figures import draw, runs as figures
from common.mixtures.input import check_missing, mean_imputed
{dialect}

# The chapter itself. Its definitions stand below, to be changed and run again.
from {folder}.{name} import *"""
MATHS = """\
# This chapter's functions are those above; networks that several figures show are trained once.
modules = {{name: importlib.import_module(f"{folder}.{{name}}") for name in draw.CHAPTERS}}
maths = SimpleNamespace(**modules | {{"{name}": sys.modules["__main__"]}})"""


def report(out: str) -> None:
    """Write the notebooks and print how to open the first two."""
    written = write(Path(out))
    print(f"{len(written)} notebooks in {out}; open one by")
    for path in written[:2]:
        print(f"    {os.path.relpath(sys.executable)} -m jupyterlab {path}")


def write(out: Path) -> list[Path]:
    """Write every chapter's pair of notebooks; return the files."""
    written = []
    for pair in map(read_pair, titles()):
        for side in FOLDERS:
            path = out / side / f"{pair.name}.ipynb"
            path.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook(pair, side), path)
            written.append(path)
    return written


def notebook(pair: Pair, side: str) -> nbformat.NotebookNode:
    """One chapter in one framework."""
    folder, example = FOLDERS[side], EXAMPLES / f"{pair.name}.py"
    if not example.is_file():
        raise BookError(f"{example}: the chapter {pair.name} has no example to run")
    others = ", ".join(name for name in titles() if name != pair.name)
    setup = new_code_cell(SETUP.format(folder=folder, modules=others, dialect=NAMES[side], name=pair.name))
    setup.metadata["jupyter"] = {"source_hidden": True}
    cells = [new_markdown_cell(f"# {titles()[pair.name]}\n\n{_text(pair.prose)}"), setup]
    cells.append(new_markdown_cell("## At work"))
    examples = example.read_text(encoding="utf-8").split("\n# %%")
    cells += [new_code_cell(re.sub("^ ", "# ", cell).strip()) for cell in examples]
    cells.append(new_markdown_cell("## The definitions\n\nRun all of them before a changed one is used by the others."))
    cells.append(new_code_cell(pair.preamble[side]))
    for definition in pair.definitions:
        if "." not in definition.name:
            cells.append(new_markdown_cell(f"### `{definition.name}`\n\n{_text(definition.docstring)}"))
            cells.append(new_code_cell(definition.whole[side]))
    if figures := [found for found in FIGURE.findall(pair.prose) if found[1] in draw.FIGURES]:  # not those that move
        cells.append(new_markdown_cell("## The figures, by the definitions above"))
        cells.append(new_code_cell(MATHS.format(folder=folder, name=pair.name)))
    for caption, figure in figures:
        cells.append(new_markdown_cell(" ".join(caption.split())))
        cells.append(new_code_cell(f'draw.FIGURES["{figure}"](maths, evaluate)'))
    asked = EXERCISES / f"{pair.name}.md"
    cells.append(new_markdown_cell("## Exercises"))
    for each in exercises(asked.read_text(encoding="utf-8"), asked.name):
        number = f"**{each.number}**\n\n" if each.number else ""
        opened = f"<details><summary>Answer</summary>\n\n{number}{each.answer}\n\n</details>"
        hint = f"<details><summary>Hint</summary>\n\n{each.hint}\n\n</details>"
        cells.append(new_markdown_cell(f"### {each.title}\n\n{each.question}\n\n{hint}\n\n{opened}"))
    for i, cell in enumerate(cells):
        cell["id"] = f"{pair.name}-{i}".replace("_", "-")  # the same at every build
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return new_notebook(cells=cells, metadata=kernel)


def _text(docstring: str) -> str:
    return FIGURE.sub("", docstring)


main = partial(command, "common.book.notebooks", __doc__, report, ("the folder to write to",))

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
