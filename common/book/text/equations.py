"""Equations as MathML, by math-core: cut so that they can break, and with their terms marked."""

import re
from collections.abc import Collection, Sequence
from html import escape
from itertools import accumulate
from typing import NamedTuple

from math_core import LatexError, LatexToMathML

RELATIONS = ("=", r"\le", r"\ge", r"\approx", r"\propto", r"\to", r"\Rightarrow")
SIGNS = ("+", "-")
OPENING, CLOSING = ("(", "[", "{", r"\{", r"\begin"), (")", "]", "}", r"\}", r"\end")
SILENT = ("{", "}", r"\,", r"\left", r"\right", r"\Bigl", r"\Bigr", r"\frac")
PLAIN = dict.fromkeys(SILENT, "") | {r"\mid": "|", r"\|": "||"}
_GROUPS = {"{": 1, r"\left": 1, "}": -1, r"\right": -1}
_TEX = LatexToMathML(annotation=True)
_MARK, _MARKED = r"\textcolor{red}{", ' style="color:#FF0000;"'  # math-core knows no classes, but it knows colours


class BookError(ValueError):
    """The reason why the book cannot be built: one line that names the place."""


class Place(NamedTuple):
    """Where a term stands in an equation."""

    start: int
    end: int
    name: str


def equation(tex: str, display: bool, place: str, terms: Sequence[str] = ()) -> str:
    """An equation as MathML; a displayed one consists of parts, so that it can break on a narrow page.

    The names of ``terms`` are as comments write them; in a displayed equation ``data-term`` numbers them.
    """
    try:
        if not display:
            return _TEX.convert_with_local_state(tex, displaystyle=False)
        parts = ["<wbr>".join(_displayed(piece, terms) for piece in pieces(part)) for part in displays(tex)]
    except LatexError as error:
        raise BookError(f"{place}: the equation {' '.join(tex.split())} does not render: {error}") from error
    return '<div class="equation">' + "".join(f"<span>{part}</span>" for part in parts) + "</div>"


def displays(tex: str) -> list[str]:
    """The equations that stand in one display, with wide spaces between them."""
    return re.split(r"\\q?quad\b", tex)


def pieces(tex: str) -> list[str]:
    r"""An equation cut before its relations and signs outside brackets other than \Bigl( and \Bigr).

    A piece after the first begins with an empty group, so that its operator keeps its space on both sides.
    """
    cuts, depth, before = [0], 0, ""
    for token in re.finditer(r"\\[A-Za-z]+|\\.|\S", tex):
        text = token[0]
        if depth == 0 and text in RELATIONS + SIGNS and before not in ("", ",", *RELATIONS, *SIGNS, *OPENING):
            cuts.append(token.start())
        if before not in (r"\Bigl", r"\Bigr"):
            depth += text in OPENING or (before == r"\left" and text in ".|")
            depth -= text in CLOSING or (before == r"\right" and text in ".|")
        before = text
    parts = [tex[i:j].strip() for i, j in zip(cuts, [*cuts[1:], None], strict=True)]
    return [parts[0], *("{} " + part for part in parts[1:])]


def places(tex: str, names: Collection[str]) -> list[Place]:
    """Where the names stand in an equation, in the order of their beginnings; no two overlap in part."""
    found: list[Place] = []
    for name in sorted(names, key=len, reverse=True):
        for start, end in _occurrences(tex, name):
            apart = (end <= p.start or start >= p.end or p.start <= start < end <= p.end for p in found)
            if all(apart) and (start, end) not in [p[:2] for p in found]:
                found.append(Place(start, end, name))
    return sorted(found, key=lambda p: (p.start, -p.end))


def _displayed(tex: str, terms: Sequence[str]) -> str:
    # a piece of a displayed equation, its terms marked by a colour that becomes their number
    marked, found = tex, places(tex, terms)
    ends = [(p.end, 0, -p.start, "}") for p in found]
    for at, _, _, mark in sorted(ends + [(p.start, 1, -p.end, _MARK) for p in found], reverse=True):
        marked = marked[:at] + mark + marked[at:]
    html = _TEX.convert_with_local_state(marked, displaystyle=True)
    html = html.replace(escape(marked, quote=False), escape(tex, quote=False))  # the annotation
    for p in found:
        html = html.replace(_MARKED, f' data-term="{terms.index(p.name)}"', 1)
    return html


def _occurrences(tex: str, name: str) -> list[tuple[int, int]]:
    # the ranges of the equation that read as the name, with whole groups
    tokens = list(re.finditer(r"\\math[a-z]+\{(\w+)\}|\\[A-Za-z]+|\\.|\S", tex))
    plain = [token[1] or PLAIN.get(token[0], token[0].removeprefix("\\")) for token in tokens]
    for i, token in enumerate(tokens):
        if token[0] == r"\frac":  # its numerator ends in a slash
            depths = list(accumulate((t[0] == "{") - (t[0] == "}") for t in tokens[i + 1 :]))
            plain[i + 1 + depths.index(0)] = "/"
    found = []
    for first in range(len(tokens)):
        last = first
        while last < len(tokens) and len("".join(plain[first:last])) < len(name):
            last += 1
        if plain[first] and "".join(plain[first:last]) == name:
            whole = _whole([token[0] for token in tokens], first, last)
            found += [(tokens[whole[0]].start(), tokens[whole[1] - 1].end())] if whole else []
    return found


def _whole(tokens: list[str], first: int, last: int) -> tuple[int, int] | None:
    # the range with the groups that it begins or ends in, or None where it is a part of something else
    while True:
        depths = list(accumulate((_GROUPS.get(token, 0) for token in tokens[first:last]), initial=0))
        if min(depths) < 0 or tokens[first - 1 : first] == [r"\frac"]:
            first -= 1
            if first < 0 or tokens[first] not in SILENT:
                return None
        elif depths[-1] > 0:
            if tokens[last : last + 1] not in (["}"], [r"\right"]):
                return None
            last += 1
        else:
            neighbours = (tokens[first - 1] if first else "", *tokens[last : last + 1])
            return None if {"_", "^"} & set(neighbours) else (first, last)
