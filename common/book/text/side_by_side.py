"""Two pieces of code as two columns, highlighted, aligned line by line, with their differences marked."""

import re
from collections import Counter
from collections.abc import Mapping
from difflib import SequenceMatcher
from html import escape
from typing import NamedTuple

from pygments.lexers import PythonLexer
from pygments.token import STANDARD_TYPES

Token = tuple[str, str]  # (CSS class, text)
Terms = Mapping[int | None, str]


class Line(NamedTuple):
    """A line of one column, or a gap next to a line that only the other column has."""

    html: str
    kind: str  # same, different or gap
    indent: int
    terms: str = ""  # the numbers of the terms that it computes


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


def side_by_side(left: str, right: str, terms: tuple[Terms, Terms] = ({}, {})) -> tuple[list[Line], list[Line]]:
    """Two columns of equally many lines, as similar to each other, row by row, as their order allows.

    ``terms`` holds the numbers of the terms that each side's lines compute, by line.
    """
    ours, theirs = lines_of_tokens(left), lines_of_tokens(right)
    columns: tuple[list[Line], list[Line]] = [], []
    for i, k in align(left.split("\n"), right.split("\n")):
        a, b = None if i is None else ours[i], None if k is None else theirs[k]
        same = a == b
        changed = (frozenset(), frozenset()) if same else _changes(a or [], b or [])
        for column, tokens, marked, computed, at in zip(columns, (a, b), changed, terms, (i, k), strict=True):
            line = GAP if tokens is None else _line(tokens, marked, "same" if same else "different")
            column.append(line._replace(terms=computed.get(at, "")))
    return columns


def align(left: list[str], right: list[str]) -> list[tuple[int | None, int | None]]:
    """The lines of each side in each row, or None, with the largest possible sum of similarities."""
    scores = [[similarity(a, b) for b in right] for a in left]
    best = [[0.0] * (len(right) + 1) for _ in range(len(left) + 1)]  # for the lines from i and k on
    for i in reversed(range(len(left))):
        for k in reversed(range(len(right))):
            best[i][k] = max(best[i + 1][k + 1] + scores[i][k], best[i + 1][k], best[i][k + 1])
    rows: list[tuple[int | None, int | None]] = []
    i = k = 0
    while i < len(left) or k < len(right):
        if i < len(left) and k < len(right) and best[i][k] == best[i + 1][k + 1] + scores[i][k] and scores[i][k] > 0:
            rows.append((i, k))
            i, k = i + 1, k + 1
        elif i < len(left) and (k == len(right) or best[i][k] == best[i + 1][k]):
            rows.append((i, None))
            i += 1
        else:
            rows.append((None, k))
            k += 1
    return rows


def similarity(a: str, b: str) -> float:
    """The similarity of two lines: 1 if equal, else the share of words that both have, 0 below a seventh.

    What a line assigns to counts as five more words, and that it returns as four; a comment after code does
    not count.
    """
    if a == b:
        return 1.0 if re.search(r"\w", a) else 0.1  # a blank line or a bracket hardly counts
    words = []
    for line in (a, b):
        code = line.partition("  # ")[0]
        words.append(Counter(re.findall(r"\w+", code)))
        if role := re.match(r"\s*([\w., ]+? = |return\b)", code):
            words[-1][role[1]] += 5 if "=" in role[1] else 4
    shared, total = (words[0] & words[1]).total(), sum(counted.total() for counted in words)
    return 2 * shared / total if 14 * shared > total else 0.0


def _changes(a: list[Token], b: list[Token]) -> tuple[frozenset[int], frozenset[int]]:
    # the positions of the tokens that the other line does not have
    texts = [[text for _, text in line] for line in (a, b)]
    blocks = SequenceMatcher(None, *texts, autojunk=False).get_matching_blocks()
    kept_a = {block.a + i for block in blocks for i in range(block.size)}
    kept_b = {block.b + i for block in blocks for i in range(block.size)}
    return frozenset(range(len(a))) - kept_a, frozenset(range(len(b))) - kept_b


def _line(tokens: list[Token], marked: frozenset[int], kind: str) -> Line:
    # a mark covers words, and the punctuation and blanks between two of them
    words = {i for i in marked if any(c.isalnum() for c in tokens[i][1])}
    html, inside = "", False
    for i, (css, text) in enumerate(tokens):
        following = next((j for j in range(i, len(tokens)) if j not in marked or j in words), None)
        if (following in words) != inside and (inside or i in words):
            html, inside = html + ("</mark>" if inside else "<mark>"), not inside
        if css == "c1" and any(before.strip() for _, before in tokens[:i]):
            css = "c1 after"  # a comment after code wraps as a whole
        shown = escape(text)
        html += ("<wbr>" if text == "." else "") + (f'<span class="{css}">{shown}</span>' if css else shown)
        html += "<wbr>" if text.endswith("(") else ""
    text = "".join(text for _, text in tokens)
    return Line(html + ("</mark>" if inside else ""), kind, len(text) - len(text.lstrip()))
