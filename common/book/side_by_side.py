"""Two pieces of code as two columns: highlighted, aligned line by line, and marked where they differ."""

from difflib import SequenceMatcher
from html import escape
from itertools import zip_longest
from typing import NamedTuple

from pygments.lexers import PythonLexer
from pygments.token import STANDARD_TYPES

Token = tuple[str, str]  # (CSS class, text)


class Line(NamedTuple):
    """A line of one column, or a gap beside a line that the other column alone has."""

    html: str
    kind: str  # same, different or gap
    indent: int


GAP = Line("", "gap", 0)


def lines_of_tokens(code: str) -> list[list[Token]]:
    """The code's tokens, line by line."""
    lines: list[list[Token]] = [[]]
    for kind, text in PythonLexer(stripnl=False, ensurenl=False).get_tokens(code):
        for i, part in enumerate(text.split("\n")):
            if i:
                lines.append([])
            if part:
                lines[-1].append((STANDARD_TYPES.get(kind, ""), part))
    return lines


def side_by_side(left: str, right: str) -> tuple[list[Line], list[Line]]:
    """Two columns of equally many lines."""
    ours, theirs = lines_of_tokens(left), lines_of_tokens(right)
    columns: tuple[list[Line], list[Line]] = [], []
    for kind, i, j, k, m in SequenceMatcher(None, left.split("\n"), right.split("\n"), autojunk=False).get_opcodes():
        for a, b in zip_longest(ours[i:j], theirs[k:m]):
            same = kind == "equal"
            changed = (frozenset(), frozenset()) if same else _changes(a or [], b or [])
            for column, tokens, marked in zip(columns, (a, b), changed, strict=True):
                column.append(GAP if tokens is None else _line(tokens, marked, "same" if same else "different"))
    return columns


def _changes(a: list[Token], b: list[Token]) -> tuple[frozenset[int], frozenset[int]]:
    # the positions of the tokens that the other line does not have
    texts = [[text for _, text in line] for line in (a, b)]
    blocks = SequenceMatcher(None, *texts, autojunk=False).get_matching_blocks()
    kept_a = {block.a + i for block in blocks for i in range(block.size)}
    kept_b = {block.b + i for block in blocks for i in range(block.size)}
    return frozenset(range(len(a))) - kept_a, frozenset(range(len(b))) - kept_b


def _line(tokens: list[Token], marked: frozenset[int], kind: str) -> Line:
    # a mark covers words; punctuation and blanks only between two of them
    words = {i for i in marked if any(c.isalnum() for c in tokens[i][1])}
    html, inside = "", False
    for i, (css, text) in enumerate(tokens):
        following = next((j for j in range(i, len(tokens)) if j not in marked or j in words), None)
        if (following in words) != inside and (inside or i in words):
            html, inside = html + ("</mark>" if inside else "<mark>"), not inside
        if css == "c1" and any(before.strip() for _, before in tokens[:i]):
            css = "c1 after"  # a comment after code goes to the next line as a whole
        shown = escape(text)
        html += ("<wbr>" if text == "." else "") + (f'<span class="{css}">{shown}</span>' if css else shown)
        html += "<wbr>" if text.endswith("(") else ""
    text = "".join(text for _, text in tokens)
    return Line(html + ("</mark>" if inside else ""), kind, len(text) - len(text.lstrip()))
