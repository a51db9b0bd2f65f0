"""Chapters read from their pairs of files: prose, imports, and definitions with both implementations."""

import ast
from dataclasses import dataclass
from pathlib import Path

from common.book.chapters import HOUSE, NOT_CHAPTERS, titles
from common.book.text.equations import BookError

ROOT = Path(__file__).parent.parent.parent
FOLDERS = {"torch": "pytorch_impl", "tf2": "tf2_impl"}
DIALECT = {"call": "forward"}  # Keras's name for what PyTorch calls forward


@dataclass
class Definition:
    """A function, class or method: its docstring and, for each framework, its code and line number."""

    name: str  # "log_beta", "VAE", "VAE.elbo"
    docstring: str
    code: dict[str, str]
    whole: dict[str, str]  # the code of a class with its methods
    line: dict[str, int]

    @property
    def public(self) -> bool:
        return not self.name.rpartition(".")[2].startswith("_")


@dataclass
class Pair:
    """The two files of one chapter: their shared text, the code before the definitions, the definitions."""

    name: str
    prose: str
    preamble: dict[str, str]
    definitions: list[Definition]


def read_pairs(root: Path = ROOT) -> dict[str, Pair]:
    """The pairs that are pages, in reading order; BookError if chapters.py does not list a file."""
    known = (*titles(), *HOUSE, *NOT_CHAPTERS, "__init__")
    for folder in FOLDERS.values():
        for path in sorted((root / folder).glob("*.py")):
            if path.stem not in known:
                where = "PARTS, HOUSE or NOT_CHAPTERS in common/book/chapters.py"
                raise BookError(f"{folder}/{path.name}: add it to {where}")
    return {name: read_pair(name, root) for name in (*titles(), *HOUSE)}


def read_pair(name: str, root: Path = ROOT) -> Pair:
    """The pair ``name``; BookError names the file and the definition where its two files do not match."""
    ours, theirs = (_read(root / folder / f"{name}.py", side) for side, folder in FOLDERS.items())
    if ours.prose != theirs.prose.replace("tf2_impl", "pytorch_impl").replace("-tf2", "-torch"):
        raise BookError(f"{name}.py: the module docstrings of the two files differ")
    names, other_names = ([definition.name for definition in page.definitions] for page in (ours, theirs))
    if names != other_names:
        alone = sorted(set(names) ^ set(other_names)) or names
        raise BookError(f"{name}.py: the two files do not define the same in the same order: {', '.join(alone)}")
    for mine, other in zip(ours.definitions, theirs.definitions, strict=True):
        if mine.docstring != other.docstring:
            raise BookError(f"{name}.py: {mine.name}: the docstrings of the two files differ")
        mine.code, mine.whole, mine.line = mine.code | other.code, mine.whole | other.whole, mine.line | other.line
    return Pair(name, ours.prose, ours.preamble | theirs.preamble, ours.definitions)


def imported(pair: Pair, names: list[str]) -> list[str]:
    """Those of the pages ``names`` that a page imports, as `from pytorch_impl import gmm`, or uses."""
    found = set()
    for node in ast.walk(ast.parse(pair.preamble["torch"])):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == FOLDERS["torch"]:
            found |= {node.module.partition(".")[2], *(alias.name for alias in node.names)}
    return [name for name in names if name in found]


def _read(path: Path, side: str) -> Pair:
    # one file, as a pair that lacks the other side
    place = f"{path.parent.name}/{path.name}"
    if not path.is_file():
        raise BookError(f"{place}: there is no such file, but common/book/chapters.py names it")
    source = path.read_text(encoding="utf-8")
    tree, lines = ast.parse(source), source.split("\n")
    if not (prose := ast.get_docstring(tree)):
        raise BookError(f"{place}: the module has no docstring, which is the chapter's text")
    blocks = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    inside = {i for node in (tree.body[0], *blocks) for i in range(_start(node), node.end_lineno + 1)}
    # the rest, with its comments, without blank lines
    preamble = "\n".join(line for i, line in enumerate(lines, 1) if i not in inside and line.strip())
    definitions = []
    for node in blocks:
        methods = [child for child in node.body if isinstance(child, ast.FunctionDef) and ast.get_docstring(child)]
        methods = methods if isinstance(node, ast.ClassDef) else []
        definitions.append(_definition(node, node.name, lines, methods, side))
        for method in methods:
            name = f"{node.name}.{DIALECT.get(method.name, method.name)}"
            definitions.append(_definition(method, name, lines, [], side))
    if silent := [each.name for each in definitions if each.public and not each.docstring]:
        raise BookError(f"{place}: {silent[0]} has no docstring, which is its text")
    return Pair(path.stem, prose, {side: preamble}, definitions)


def _definition(node: ast.AST, name: str, lines: list[str], methods: list[ast.FunctionDef], side: str) -> Definition:
    docstring = ast.get_docstring(node) or ""
    text = [(node.body[0].lineno, node.body[0].end_lineno)] if docstring else []
    code = _without(text + [(_start(method), method.end_lineno) for method in methods], lines, node)
    return Definition(name, docstring, {side: code}, {side: _without(text, lines, node)}, {side: node.lineno})


def _start(node: ast.AST) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])


def _without(gone: list[tuple[int, int]], lines: list[str], node: ast.AST) -> str:
    # the node's lines, except those gone, at the left margin, without blank lines in a row or after a colon
    numbers = range(_start(node), node.end_lineno + 1)
    kept = [lines[i - 1][node.col_offset :].rstrip() for i in numbers if not any(a <= i <= b for a, b in gone)]
    shown = [line for i, line in enumerate(kept) if line or (i and kept[i - 1] and not kept[i - 1].endswith(":"))]
    return "\n".join(shown).rstrip()
