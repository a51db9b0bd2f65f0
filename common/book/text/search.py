"""The book's index of words: what each section says, for the search in the page's bar, which needs no network."""

import json
import re
from collections.abc import Mapping, Sequence
from html import unescape

SECTION = re.compile(r'<section id="([^"]+)"')
HEADING = re.compile(r'<h2 id="([^"]+)"')
UNREAD = ("script", "svg", "pre", "math", "nav", "aside", "table")


def index(pages: Mapping[str, str], titles: Mapping[str, str]) -> str:
    """The script that the bar loads when it is first searched: [address, title, words] of every section."""
    entries = []
    for file, html in pages.items():
        title = titles.get(file.removesuffix(".html"), "The argument")
        unread = UNREAD[:2] if file.startswith("divergences") else UNREAD  # names of functions stand in code and tables
        for anchor, part in sections(html):
            place = f"{title}: {anchor}" if anchor else title
            entries.append([f"{file}#{anchor}" if anchor else file, place, words(part, unread)])
    return f"const INDEX = {json.dumps(entries, ensure_ascii=False, separators=(',', ':'))};\n"


def sections(html: str) -> list[tuple[str, str]]:
    """The text before the first section with its anchor "", then each section with its own."""
    main = html.partition("<main")[2].partition("</main>")[0]
    pieces = SECTION.split(main) if SECTION.search(main) else HEADING.split(main)
    return [("", pieces[0]), *zip(pieces[1::2], pieces[2::2], strict=True)]


def headings(html: str) -> list[tuple[str, str]]:
    """The anchor and the text of every heading of a text's sections."""
    return [(anchor, words(f">{heading}")) for anchor, heading in re.findall(r'<h2 id="([^"]+)">(.*?)</h2>', html)]


def words(html: str, unread: Sequence[str] = UNREAD) -> str:
    """What a reader reads of a piece of a page, code, equations and pictures apart."""
    for tag in unread:
        html = re.sub(rf"<{tag}\b.*?</{tag}>", " ", html, flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html.partition(">")[2])).split())


def minutes(html: str, lines: int = 0) -> str:
    """How long reading takes: 180 words a minute, 20 s an equation, 4 s a line of one framework, 30 s a figure."""
    read = len(words(f">{html}", ("script", "svg", "pre", "math")).split())
    shown = html.count('<div class="equation">') / 3 + html.count("<figure") / 2
    count = max(1, round(read / 180 + shown + lines / 15))
    return f"{count} minute{'s' * (count > 1)}"
