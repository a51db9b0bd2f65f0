"""The book: an index and a page per chapter or text, from the sources, the parity table and the figures; and a PDF.

python -m common.book build/book
"""

import json
import os
import re
import shutil
import struct
import sys
from dataclasses import replace
from functools import partial
from html import escape, unescape
from pathlib import Path

if not __package__:  # run as a file, python common/book/__main__.py, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from common.book.chapters import HOUSE, NOT_MEASURED, PARTS, TEXTS, titles
from common.book.measured import agreement, load, measured_within
from common.book.pairs import FOLDERS, ROOT, Pair, imported, read_pairs
from common.book.printed import print_pdf
from common.book.text.glossary import anchored, entries
from common.book.text.prose import BookError, Exercise, Prose, exercises
from common.book.text.search import headings, index, minutes
from common.book.text.side_by_side import side_by_side
from common.book.text.terms import worked
from common.figures.draw import FIGURES
from common.figures.replays import replays
from common.figures.traces import agreed
from common.runs.terminal import command

HERE = Path(__file__).parent


def build(out: Path, root: Path = ROOT) -> Path:
    """Write the book into ``out`` and return its index; BookError says what is missing or does not match."""
    book = Book(out, root)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    pages = book.pages()
    if left := sorted({file.name for file in book.figures.glob("*.svg")} - book.shown):
        raise BookError(f"{book.figures / left[0]}: no chapter shows it; add ![caption]({left[0]}) to a docstring")
    if left := sorted(book.replays.keys() - book.replayed):
        raise BookError(f"no chapter shows the replay {left[0]}; add ![caption]({left[0]}.svg) to a docstring")
    for file in (
        "book.css",
        "contents.js",
        "exercises.js",
        "replay.js",
        "search.js",
        "terms.js",
        "stix-two-math.woff2",
    ):
        shutil.copy(HERE / file, out / file)
    (out / "index.js").write_text(index(pages, book.titles), encoding="utf-8")
    check_links(pages, out)
    for name, page in pages.items():
        (out / name).write_text(page, encoding="utf-8")
    return out / "index.html"


class Book:
    """The sources of the pages, and the figures that the pages have shown so far."""

    def __init__(self, out: Path, root: Path) -> None:
        self.out, self.root, self.shown = out, root, set()
        drawn = [root / "build" / "figures" / framework for framework in FOLDERS]  # one is enough
        self.figures = next((folder for folder in drawn if folder.is_dir()), drawn[0])
        self.trace = agreed([folder / "traces.npz" for folder in drawn])
        self.replays, self.replayed = replays(self.trace), set()
        self.pairs = read_pairs(root)
        self.names = {name: {d.name for d in pair.definitions} for name, pair in self.pairs.items()}
        self.glossary = entries((HERE / "pages" / "glossary.md").read_text(encoding="utf-8"))
        self.measured = load(root / "build" / "parity.json")
        self.sections = PARTS | {"The house": HOUSE} | TEXTS
        self.titles = {name: title for section in self.sections.values() for name, title in section.items()}
        self.environment = Environment(
            loader=FileSystemLoader(HERE / "templates"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self.environment.globals.update(sections=self.sections, titles=self.titles, chapters=titles(), folders=FOLDERS)
        self.environment.globals.update(frameworks={"torch": "PyTorch", "tf2": "TensorFlow 2"}, reasons=NOT_MEASURED)
        self.environment.globals.update(measured=self.measured, source=self.source, columns=side_by_side, zip=zip)

    def pages(self) -> dict[str, str]:
        """The HTML of every page, by file name."""
        chapters = {name: pair for name, pair in self.pairs.items() if name in titles()}
        agreements = {name: agreement(self.measured["rows"], pair) for name, pair in chapters.items()}
        within, order = measured_within(chapters, agreements), list(self.titles)
        pages, self.minutes = {}, {}
        for i, name in enumerate(order):
            turn = {"previous": order[i - 1] if i else None, "next": order[i + 1] if i + 1 < len(order) else None}
            if name in self.pairs:
                apart = {"agreement": agreements.get(name, {}), "within": within.get(name, {})}
                pages[f"{name}.html"] = self.chapter(self.pairs[name], apart | turn | {"number": i + 1})
            else:
                pages[f"{name}.html"] = self.text(name, turn)
        argument = self.prose("").html((HERE / "index.md").read_text(encoding="utf-8"), "common/book/index.md")
        self.minutes["index"] = minutes(argument.partition('<h2 id="how-to-read-it">')[0])
        pages["index.html"] = self.render(
            "index.html",
            name="index",
            argument=argument,
            subtitles={name: self.plain(name).html(subtitle(pair), name).strip() for name, pair in self.pairs.items()},
            needs={name: imported(self.pairs[name], order[: order.index(name)]) for name in chapters},
        )
        return pages

    def chapter(self, pair: Pair, measured: dict) -> str:
        """The page of a pair of files."""
        prose, place = self.prose(pair.name), f"{pair.name}.py"
        examples = {d.name: worked(pair.name, d, self.trace) for d in pair.definitions}
        terms = {name: example.names for name, example in examples.items() if example}
        opening = {"subtitle": self.plain(pair.name).html(subtitle(pair), place).strip()}
        opening["prose"] = prose.html(pair.prose.partition("\n")[2], place)
        text = {d.name: prose.html(d.docstring, f"{place}: {d.name}", terms.get(d.name, ())) for d in pair.definitions}
        lines = sum(d.code["torch"].count("\n") + 1 for d in pair.definitions)
        self.minutes[pair.name] = minutes(opening["prose"] + "".join(text.values()), lines)
        opening["exercises"] = self.exercises(pair.name) if pair.name in titles() else []
        return self.render("chapter.html", name=pair.name, pair=pair, text=text, worked=examples, **opening, **measured)

    def text(self, name: str, turn: dict) -> str:
        """The page of a text from Markdown."""
        text = (HERE / "pages" / f"{name}.md").read_text(encoding="utf-8")
        section = next(section for section, pages_of in TEXTS.items() if name in pages_of)
        converter = self.plain("") if name == "glossary" else self.prose("")
        prose = converter.html(text.partition("\n")[2], f"pages/{name}.md")
        prose = anchored(prose, self.glossary) if name == "glossary" else prose
        self.minutes[name] = minutes(prose)
        return self.render("text.html", name=name, section=section, prose=prose, headings=headings(prose), **turn)

    def exercises(self, name: str) -> list[Exercise]:
        """A chapter's exercises, their texts as HTML."""
        file, prose = HERE / "exercises" / f"{name}.md", self.plain(name)
        parts, found = ("question", "hint", "answer"), exercises(file.read_text(encoding="utf-8"), file.name)
        return [replace(each, **{part: prose.html(getattr(each, part), file.name) for part in parts}) for each in found]

    def render(self, template: str, **values: object) -> str:
        """A page, from its template."""
        return self.environment.get_template(template).render(minutes=self.minutes, **values)

    def prose(self, here: str) -> Prose:
        """A converter of text to HTML; ``here`` is the chapter whose definitions the text may name alone."""
        return Prose(partial(self.link, here), self.figure, self.glossary)

    def plain(self, here: str) -> Prose:
        """The same without links to the glossary."""
        return Prose(partial(self.link, here), self.figure, {})

    def figure(self, file: str, caption: str, place: str) -> str:
        """The HTML of a figure: one that moves, or a picture that is copied next to the pages; texts' are in pages/."""
        if Path(file).stem in self.replays:
            return self.replay(Path(file).stem, caption, place)
        picture = HERE / "pages" / file if place.startswith("pages/") else self.figures / file
        if not picture.is_file():
            hint = f"`python -m common.figures.draw pytorch_impl {self.figures}` draws it"
            raise BookError(f"{place}: figure {picture} is missing; {hint}")
        self.shown.add(file)
        shutil.copy(picture, self.out / "figures" / file)
        width, height = size(picture)
        described = re.sub("<[^>]*>", "", caption) if place.startswith("pages/") else escape(drawing(file, place))
        kind = ' class="wide"' if width > 688 else ""  # than the text
        image = f'<img src="figures/{file}" alt="{described}" width="{width}" height="{height}" loading="lazy"'
        image += f' style="--width: {width}px"{kind}>'
        return f'<figure><div class="scroll">{image}</div><figcaption>{caption}</figcaption></figure>'

    def replay(self, name: str, caption: str, place: str) -> str:
        """The HTML of a moving figure: its panels as they are at the end, and its record for the page's script."""
        self.replayed.add(name)
        replay = self.replays[name]
        record = json.dumps(replay.data(), separators=(",", ":"), ensure_ascii=False).replace("</", "<\\/")
        script = f'<script type="application/json">{record}</script>'
        caption = f"<figcaption>{caption}</figcaption>"
        return f'<figure class="replay"><div class="panels">{replay.svg()}</div>{caption}{script}</figure>'

    def source(self, path: str, line: int = 1) -> str:
        """The address of a line in one of the project's files."""
        return f"{os.path.relpath(self.root, self.out)}/{path}#L{line}".replace(os.sep, "/")

    def link(self, here: str, text: str, place: str) -> str | None:
        """The address of a name: `gmm.py`, `gmm.m_step`, `m_step` of ``here``, `common.draws`."""
        head, _, tail = text.partition(".")
        if here and text in self.names[here]:
            return f"#{text}"
        if head in self.names and tail:
            if tail != "py" and tail not in self.names[head]:
                raise BookError(f"{place}: `{text}`: {head}.py defines no {tail}")
            return f"{head}.html" if tail == "py" else f"{head}.html#{tail}"
        if text.startswith(("common.", "common/", "parity_tests/")):
            parts = text.split(".")  # the first that is a module or a room
            modules = ["/".join(parts[:n]) + end for n in range(2, len(parts) + 1) for end in (".py", "/__init__.py")]
            path = text if "/" in text else next((m for m in modules if (ROOT / m).is_file()), text)
            if not (ROOT / path).exists():
                raise BookError(f"{place}: `{text}`: there is no file {path}")
            return self.source(path) if (ROOT / path).is_file() else None
        return None


def subtitle(pair: Pair) -> str:
    """The first line of a chapter's text without its leading title."""
    start = f"[^:?,]*:|{re.escape((titles() | HOUSE)[pair.name])}"
    rest = re.sub(f"^({start})[?:,]? *", "", pair.prose.split("\n")[0])
    return rest[:1].upper() + rest[1:]


def size(picture: Path) -> tuple[int, int]:
    """A picture's width and height on the page in pixels, 12 for 11 points; a PNG has 120 an inch, as runs do."""
    if picture.suffix == ".png":
        points = (72 / 120 * length for length in struct.unpack(">II", picture.read_bytes()[16:24]))
    else:
        head = re.search(r'<svg[^>]* width="([\d.]+)pt" height="([\d.]+)pt"', picture.read_text(encoding="utf-8"))
        points = map(float, head.groups())
    return tuple(round(length * 12 / 11) for length in points)


def drawing(file: str, place: str) -> str:
    """The docstring of the function that draws a figure, which has the file's name, as its description."""
    if not (described := getattr(FIGURES.get(Path(file).stem), "__doc__", None)):
        raise BookError(f"{place}: figure {file}: common.figures has no function {Path(file).stem} that draws it")
    return " ".join(described.split())


def check_links(pages: dict[str, str], out: Path) -> None:
    """BookError unless every link and picture of the pages for ``out`` leads to a file and an anchor."""
    anchors = {name: {unescape(a) for a in re.findall(r'\sid="([^"]+)"', html)} for name, html in pages.items()}
    for name, html in pages.items():
        for address in map(unescape, re.findall(r'\s(?:href|src)="([^"]+)"', html)):
            file, _, anchor = address.partition("#")
            if file not in pages and not (out / file).exists():
                raise BookError(f"{name}: the link to {address} leads to no file")
            if (target := file or name) in pages and anchor and anchor not in anchors[target]:
                raise BookError(f"{name}: the link to {address} leads to no place on that page")


def make(out: str) -> None:
    """Write the book, print it, and print where both are."""
    print(build(Path(out)))
    print(print_pdf(Path(out)))


main = partial(command, "common.book", __doc__, make, ("the folder to write to",))

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
