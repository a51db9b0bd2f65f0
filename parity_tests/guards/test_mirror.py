"""The two implementations are one page in two dialects: same files, names, order, signatures, defaults, docstrings.

Reads the sources only; no framework is imported.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TORCH, TF = ROOT / "pytorch_impl", ROOT / "tf2_impl"
# What one framework has and the other has no need of: Keras trains and saves models of its own kind; PyTorch is told
# which launches on a GPU to make one, as TensorFlow's graphs are without being told.
ONE_SIDED = {"keras_training.py", "graphs.py", "cuda.py"}
MODULES = sorted(path.name for path in TORCH.glob("*.py") if path.name not in ONE_SIDED | {"__init__.py"})
# The frameworks' own names for one thing: what a user of either expects to find.
DIALECT = {"call": "forward"}


def definitions(path: Path) -> list[tuple]:
    """Every class and function of a module, in order: name, arguments, defaults, docstring."""
    found = []

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                found.append((prefix + child.name, "class", ast.get_docstring(child)))
                visit(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.FunctionDef):
                name = prefix + DIALECT.get(child.name, child.name)
                a = child.args
                names = [arg.arg for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
                defaults = [ast.unparse(value) for value in (*a.defaults, *filter(None, a.kw_defaults))]
                annotated = all(arg.annotation for arg in a.args if arg.arg != "self") and child.returns is not None
                found.append((name, names, defaults, annotated, ast.get_docstring(child)))
                visit(child, f"{name}.")

    visit(ast.parse(path.read_text(encoding="utf-8")), "")
    return found


def test_same_files() -> None:
    names = [{p.name for p in folder.glob("*.py")} - ONE_SIDED for folder in (TORCH, TF)]
    assert names[0] == names[1]


@pytest.mark.parametrize("name", MODULES)
def test_same_page(name: str) -> None:
    torch_page, tf_page = definitions(TORCH / name), definitions(TF / name)
    assert [d[0] for d in torch_page] == [d[0] for d in tf_page]
    for ours, theirs in zip(torch_page, tf_page, strict=True):
        assert ours == theirs


@pytest.mark.parametrize("name", MODULES)
def test_same_prose(name: str) -> None:
    ours, theirs = (ast.get_docstring(ast.parse((folder / name).read_text())) for folder in (TORCH, TF))
    dialect = {"tf2_impl": "pytorch_impl", "-tf2": "-torch", "TensorFlow computes": "PyTorch computes"}
    for there, here in dialect.items():
        theirs = theirs.replace(there, here)
    assert ours == theirs


@pytest.mark.parametrize("name", MODULES)
def test_documented_typed_and_small(name: str) -> None:
    for folder in (TORCH, TF):
        source = (folder / name).read_text(encoding="utf-8")
        assert len(source.splitlines()) <= 300, f"{folder.name}/{name}: is there a seam?"
        for definition in definitions(folder / name):
            if not definition[0].rpartition(".")[2].startswith("_") and definition[0].count(".") <= 1:
                assert definition[-1] or "train." in definition[0], (
                    f"{folder.name}/{name}: {definition[0]} has no docstring"
                )
            if definition[1] != "class":
                assert definition[3], f"{folder.name}/{name}: {definition[0]} lacks annotations"
