"""A chapter read from its pair of files: prose, imports, and every definition with its two implementations."""

import ast
from dataclasses import dataclass, field
from pathlib import Path

from common.book.chapters import HOUSE, NOT_CHAPTERS, titles
from common.book.prose import BookError

ROOT = Path(__file__).parent.parent.parent
FOLDERS = {"torch": "pytorch_impl", "tf2": "tf2_impl"}
DIALECT = {"call": "forward"}  # Keras's name for what PyTorch calls forward


@dataclass
class Definition:
    """A function, class or method: its docstring, and in each framework its code without it and the line it is at."""

    name: str  # "log_beta", "VAE", "VAE.elbo"
    docstring: str
    code: dict[str, str] = field(default_factory=dict)
    whole: dict[str, str] = field(default_factory=dict)  # a class with its methods, which have code of their own
    line: dict[str, int] = field(default_factory=dict)

    @property
    def public(self) -> bool:
        return not self.name.rpartition(".")[2].startswith("_")


@dataclass
class Pair:
    """The two files of one chapter: the text they share, what stands before the first definition, the definitions."""

    name: str
    prose: str
    preamble: dict[str, str]
    definitions: list[Definition]


def read_pairs(root: Path = ROOT) -> dict[str, Pair]:
    """The pairs that are pages, in reading order; BookError if a file is in no list of chapters.py."""
    known = (*titles(), *HOUSE, *NOT_CHAPTERS, "__init__")
    for folder in FOLDERS.values():
        for path in sorted((root / folder).glob("*.py")):
            if path.stem not in known:
                raise BookError(f"{folder}/{path.name}: add it to PARTS or to NOT_CHAPTERS in common/book/chapters.py")
    house = [name for name in HOUSE if (root / FOLDERS["torch"] / f"{name}.py").is_file()]
    return {name: read_pair(name, root) for name in (*titles(), *house)}


def read_pair(name: str, root: Path = ROOT) -> Pair:
    """The pair ``name``; BookError names the file and the definition where its two files do not match."""
    pages = {}
    for side, folder in FOLDERS.items():
        path = root / folder / f"{name}.py"
        if not path.is_file():
            raise BookError(f"{folder}/{name}.py: there is no such file, but common/book/chapters.py names it")
        pages[side] = _read(path.read_text(encoding="utf-8"), f"{folder}/{name}.py")
    (prose, preamble, ours), (other_prose, other_preamble, theirs) = pages.values()
    if prose != other_prose.replace("tf2_impl", "pytorch_impl").replace("-tf2", "-torch"):
        raise BookError(f"{name}.py: the module docstrings of the two files differ")
    names, other_names = ([definition.name for definition in page] for page in (ours, theirs))
    if names != other_names:
        alone = sorted(set(names) ^ set(other_names)) or names
        raise BookError(f"{name}.py: the two files do not define the same in the same order: {', '.join(alone)}")
    for mine, other in zip(ours, theirs, strict=True):
        if mine.docstring != other.docstring:
            raise BookError(f"{name}.py: {mine.name}: the docstrings of the two files differ")
        mine.code = {"torch": mine.code["here"], "tf2": other.code["here"]}
        mine.whole = {"torch": mine.whole["here"], "tf2": other.whole["here"]}
        mine.line = {"torch": mine.line["here"], "tf2": other.line["here"]}
    return Pair(name, prose, {"torch": preamble, "tf2": other_preamble}, ours)


def imported(pair: Pair, names: list[str]) -> list[str]:
    """Those of the pages ``names`` that a page imports: `from pytorch_impl import gmm`, or something from one."""
    found = set()
    for node in ast.walk(ast.parse(pair.preamble["torch"])):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == FOLDERS["torch"]:
            found |= {node.module.partition(".")[2], *(alias.name for alias in node.names)}
    return [name for name in names if name in found]


def _read(source: str, place: str) -> tuple[str, str, list[Definition]]:
    tree = ast.parse(source)
    prose = ast.get_docstring(tree)
    if not prose:
        raise BookError(f"{place}: the module has no docstring, which is the chapter's text")
    lines = source.split("\n")
    blocks = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    inside = {i for node in (tree.body[0], *blocks) for i in range(_start(node), node.end_lineno + 1)}
    # what is left, comments too, with no line blank
    preamble = "\n".join(line for i, line in enumerate(lines, 1) if i not in inside and line.strip())
    found = []
    for node in blocks:
        methods = [child for child in node.body if isinstance(child, ast.FunctionDef) and ast.get_docstring(child)]
        methods = methods if isinstance(node, ast.ClassDef) else []
        found.append(_definition(node, node.name, lines, methods, place))
        found += [_definition(m, f"{node.name}.{DIALECT.get(m.name, m.name)}", lines, [], place) for m in methods]
    return prose, preamble, found


def _definition(node: ast.AST, name: str, lines: list[str], cut: list[ast.FunctionDef], place: str) -> Definition:
    docstring = ast.get_docstring(node) or ""
    definition = Definition(name, docstring, line={"here": node.lineno})
    if definition.public and not docstring:
        raise BookError(f"{place}: {name} has no docstring, which is its text")
    start = _start(node)
    own = [(node.body[0].lineno, node.body[0].end_lineno)] if docstring else []
    definition.whole = {"here": _without(own, lines, start, node)}
    definition.code = {"here": _without(own + [(_start(m), m.end_lineno) for m in cut], lines, start, node)}
    return definition


def _start(node: ast.AST) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])


def _without(gone: list[tuple[int, int]], lines: list[str], start: int, node: ast.AST) -> str:
    # the node's lines but for those gone, moved to the left margin, with no blank line doubled or after a colon
    kept = [lines[i - 1] for i in range(start, node.end_lineno + 1) if not any(a <= i <= b for a, b in gone)]
    text = [line[node.col_offset :] if line.strip() else "" for line in kept]
    shown = [line for i, line in enumerate(text) if line or (i and text[i - 1] and not text[i - 1].endswith(":"))]
    return "\n".join(shown).rstrip()
