"""The glossary: what words and symbols mean, on a page of its own and for a reader who points at one in the text."""

import re
from collections.abc import Mapping
from html import escape, unescape
from typing import NamedTuple

from common.book.text.equations import BookError

# What stands between the words that a reader reads; of it only formulas in the text are looked up.
APART = re.compile(
    r"(<figure.*?</figure>|<table.*?</table>|<pre.*?</pre>|<h\d.*?</h\d>|<a .*?</a>|<code.*?</code>"
    r'|<div class="equation">.*?</div>|<span class="math inline">.*?</math></span>|<[^>]*>)',
    re.S,
)


class Entry(NamedTuple):
    """The place of an entry on the glossary's page, and its first sentence."""

    anchor: str
    gist: str


def entries(text: str) -> dict[str, Entry]:
    """The entries of the glossary's Markdown by each of their names: bold words, or formulas with their dollars."""
    found: dict[str, Entry] = {}
    for line in re.findall(r"^- (.*(?:\n  .*)*)", text, flags=re.M):
        head, _, said = " ".join(line.split()).partition(": ")
        names = re.findall(r"\*\*([^*]+)\*\*|(\$[^$]+\$)", head)
        gist = re.split(r"\. (?=[A-Z])", said)[0].rstrip(".")
        if not names or not gist or re.search(r"[$`\[]", gist):
            raise BookError(f"pages/glossary.md: {line[:40]!r}: names, a colon and a plain sentence are wanted")
        anchor = re.sub(r"\W+", "-", "".join(names[0])).strip("-")
        entry = Entry(anchor, _capital(gist) + ".")
        found |= {name: entry for pair in names for name in ("".join(pair), _capital("".join(pair)))}
    return found


def explained(html: str, glossary: Mapping[str, Entry], known: set[str]) -> str:
    """A piece of a page whose words and formulas lead to the glossary where they first stand.

    ``known`` holds the anchors of those that stood on the page before, and takes in the new ones.
    """
    words = sorted((name for name in glossary if name[0] != "$"), key=len, reverse=True)
    if not words:
        return html
    word = re.compile(rf"\b({'|'.join(map(re.escape, words))})\b")

    def link(name: str, shown: str) -> str:
        entry = glossary.get(name)
        if entry is None or entry.anchor in known:
            return shown
        known.add(entry.anchor)
        label = f' aria-label="{escape(entry.gist)}"' if name[0] == "$" else ""  # a formula is no name for a link
        address = f'href="glossary.html#{entry.anchor}" data-says="{escape(entry.gist)}"'
        return f'<a class="gloss" {address}{label}>{shown}</a>'

    pieces = APART.split(html)
    for i, piece in enumerate(pieces):
        if i % 2 == 0:
            pieces[i] = word.sub(lambda match: link(match[0], match[0]), piece)
        elif formula := re.match(r'<span class="math inline">.*<annotation[^>]*>(.*)</annotation>', piece, re.S):
            pieces[i] = link(f"${unescape(formula[1])}$", piece)
    return "".join(pieces)


def anchored(html: str, glossary: Mapping[str, Entry]) -> str:
    """The glossary's page with the place of every entry."""
    anchors = iter(dict.fromkeys(entry.anchor for entry in glossary.values()))
    return re.sub("<li>", lambda _: f'<li id="{next(anchors)}">', html)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
