"""The book: an index and a page per chapter, from the sources, the parity table and the figures.

python -m common.book build/book
"""

import ast
import os
import re
import shutil
import struct
import sys
from collections.abc import Sequence
from html import escape, unescape
from pathlib import Path
from typing import Any

if not __package__:  # run as a file, python common/book/__main__.py, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from common.book.chapters import NOT_MEASURED, PARTS, titles
from common.book.measured import agreement, load, measured_within
from common.book.pairs import FOLDERS, ROOT, Pair, read_pairs
from common.book.prose import BookError, Prose
from common.book.side_by_side import side_by_side
from common.runs.command_line import are_words, help_shown

HERE = Path(__file__).parent
DRAWING = HERE.parent / "figures" / "draw.py"


def main(argv: Sequence[str]) -> int:
    """Write the book into the folder named; the exit code is 0, or 2 if something is missing or does not match."""
    if help_shown(argv, __doc__):
        return 0
    try:
        if not are_words(argv, 1):
            raise BookError(f"{' '.join(argv)!r}: name the one folder to write to, such as build/book")
        print(build(Path(argv[0])))
    except (BookError, OSError) as error:
        print(f"common.book: error: {error}", file=sys.stderr)
        return 2
    return 0


def build(out: Path, root: Path = ROOT, figures: Path | None = None, parity: Path | None = None) -> Path:
    """Write the book into ``out``; returns its index. BookError says in one line what is missing or does not match."""
    drawn = [root / "build" / "figures" / framework for framework in FOLDERS]  # by one framework, if the other lacks
    figures = figures or next((folder for folder in drawn if folder.is_dir()), drawn[0])
    parity = parity or root / "build" / "parity.json"
    pairs, measured = read_pairs(root), load(parity)
    agreements = {name: agreement(measured["rows"], pair) for name, pair in pairs.items()}
    within = measured_within(pairs, agreements)
    shown: dict[str, str] = {}  # figure -> the chapter that shows it
    out.mkdir(parents=True, exist_ok=True)
    (out / "figures").mkdir(exist_ok=True)

    def figure(file: str, caption: str, place: str) -> str:
        if not (figures / file).is_file():
            raise BookError(f"{place}: figure {figures / file} is missing; `make figures` draws it")
        shown[file] = place
        shutil.copy(figures / file, out / "figures" / file)
        width, height = struct.unpack(">II", (figures / file).read_bytes()[16:24])  # where a PNG says its size
        size = f'width="{width}" height="{height}"' + (' class="wide"' if width > 2.5 * height else "")
        return (
            f'<figure><img src="figures/{file}" alt="{escape(drawing(file, place))}" {size} loading="lazy">'
            f"<figcaption>{caption}</figcaption></figure>"
        )

    def source(path: str, line: int = 1) -> str:
        return f"{os.path.relpath(root, out)}/{path}#L{line}".replace(os.sep, "/")

    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(
        parts=PARTS, titles=titles(), folders=FOLDERS, frameworks={"torch": "PyTorch", "tf2": "TensorFlow 2"},
        measured=measured, source=source, columns=side_by_side, zip=zip,
    )  # fmt: skip
    order, pages = list(pairs), {}
    for position, (name, pair) in enumerate(pairs.items()):
        prose = Prose(linker(pairs, name, source), figure)
        rest = pair.prose.partition("\n")[2]
        page = environment.get_template("chapter.html").render(
            name=name, pair=pair, number=position + 1, subtitle=prose.html(subtitle(pair), f"{name}.py").strip(),
            prose=prose.html(rest, f"{name}.py"),
            text={d.name: prose.html(d.docstring, f"{name}.py: {d.name}") for d in pair.definitions},
            agreement=agreements[name], within=within[name], reasons=NOT_MEASURED,
            previous=order[position - 1] if position else None, next=order[position + 1 : position + 2],
        )  # fmt: skip
        pages[f"{name}.html"] = page
    prose = Prose(linker(pairs, "", source), figure)
    pages["index.html"] = environment.get_template("index.html").render(
        argument=prose.html((HERE / "index.md").read_text(encoding="utf-8"), "common/book/index.md"),
        subtitles={name: prose.html(subtitle(pair), name).strip() for name, pair in pairs.items()},
        needs={name: imports(root, name, order[:i]) for i, name in enumerate(order)},
    )  # fmt: skip
    if left := sorted({file.name for file in figures.glob("*.png")} - set(shown)):
        raise BookError(
            f"{figures / left[0]}: drawn, but no chapter shows it; add ![caption]({left[0]}) to a docstring"
        )
    for file in ("book.css", "stix-two-math.woff2"):
        shutil.copy(HERE / file, out / file)
    check_links(pages, out)
    for name, page in pages.items():
        (out / name).write_text(page, encoding="utf-8")
    return out / "index.html"


def subtitle(pair: Pair) -> str:
    """The first line of a chapter's text without the title that it begins with."""
    first = pair.prose.split("\n")[0]
    start = f"[^:?,]*:|{re.escape(titles()[pair.name])}"
    rest = re.sub(f"^({start})[?:,]? *", "", first)
    return rest[:1].upper() + rest[1:]


def drawing(file: str, place: str) -> str:
    """A description of a figure: the docstring of the function that draws it, which has the file's name."""
    for node in ast.parse(DRAWING.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == Path(file).stem and ast.get_docstring(node):
            return " ".join(ast.get_docstring(node).split())
    raise BookError(f"{place}: figure {file}: {DRAWING.name} has no function {Path(file).stem} that draws it")


def linker(pairs: dict[str, Pair], here: str, source: Any) -> Any:
    """The places that names in backticks link to: `gmm.py`, `gmm.m_step`, `m_step` of this chapter, `common.draws`."""
    names = {name: {d.name for d in pair.definitions} for name, pair in pairs.items()}

    def link(text: str, place: str) -> str | None:
        head, _, tail = text.partition(".")
        if here and text in names[here]:
            return f"#{text}"
        if head in names and tail:
            if tail != "py" and tail not in names[head]:
                raise BookError(f"{place}: `{text}`: {head}.py defines no {tail}")
            return f"{head}.html" if tail == "py" else f"{head}.html#{tail}"
        parts = text.split(".")
        modules = ["/".join(parts[:n]) + ".py" for n in range(2, len(parts) + 1)]  # the rest names what is in it
        path = text if re.match(r"[\w/.]+\.py$", text) else next((m for m in modules if (ROOT / m).is_file()), text)
        if text.startswith(("common.", "common/", "parity_tests/")):
            if not (ROOT / path).is_file():
                raise BookError(f"{place}: `{text}`: there is no file {path}")
            return source(path)
        return None

    return link


def imports(root: Path, name: str, order: list[str]) -> list[str]:
    """Those of the chapters in ``order`` that a chapter's code builds on."""
    found = set()
    for node in ast.walk(ast.parse((root / FOLDERS["torch"] / f"{name}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == FOLDERS["torch"]:
            found |= {node.module.partition(".")[2], *(alias.name for alias in node.names)}
    return [other for other in order if other in found]


def check_links(pages: dict[str, str], out: Path) -> None:
    """Every link and picture of the pages, which are to be written to ``out``, leads somewhere, to the anchor named."""
    anchors = {name: {unescape(a) for a in re.findall(r'\sid="([^"]+)"', html)} for name, html in pages.items()}
    for name, html in pages.items():
        for address in map(unescape, re.findall(r'\s(?:href|src)="([^"]+)"', html)):
            file, _, anchor = address.partition("#")
            if file not in pages and not (out / file).exists():
                raise BookError(f"{name}: the link to {address} leads to no file")
            if (target := file or name) in pages and anchor and anchor not in anchors[target]:
                raise BookError(f"{name}: the link to {address} leads to no place on that page")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
