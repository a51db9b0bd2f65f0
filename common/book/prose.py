"""Docstrings as HTML: Markdown by markdown-it, equations as MathML by math-core, names as links."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from markdown_it import MarkdownIt
from math_core import LatexError, LatexToMathML
from mdit_py_plugins.anchors import anchors_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin

DIFFER = "Where the frameworks differ: "
RELATIONS = ("=", r"\le", r"\ge", r"\approx", r"\propto", r"\to", r"\Rightarrow")
SIGNS = ("+", "-")
OPENING, CLOSING = ("(", "[", "{", r"\{", r"\begin"), (")", "]", "}", r"\}", r"\end")
_TEX = LatexToMathML(annotation=True)


class BookError(ValueError):
    """The reason why the book cannot be built: one line that names the place."""


def equation(tex: str, display: bool, place: str) -> str:
    """An equation as MathML; a displayed one consists of parts, so that it can break on a narrow page."""
    try:
        if not display:
            return _TEX.convert_with_local_state(tex, displaystyle=False)
        parts = [
            "<wbr>".join(_TEX.convert_with_local_state(piece, displaystyle=True) for piece in pieces(part))
            for part in re.split(r"\\q?quad\b", tex)
        ]
    except LatexError as error:
        raise BookError(f"{place}: the equation {' '.join(tex.split())} does not render: {error}") from error
    return '<div class="equation">' + "".join(f"<span>{part}</span>" for part in parts) + "</div>"


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


@dataclass
class Exercise:
    """A question with a hint and a worked answer; the last line of its code is the answer, or says that it holds."""

    title: str
    question: str
    hint: str
    answer: str  # with its code
    number: str | None  # as a reader would type it
    code: str


def exercises(text: str, place: str) -> list[Exercise]:
    """The exercises of a Markdown file: a heading each, then paragraphs; those of the hint and the number say so."""
    found = []
    for part in re.split(r"^### ", text, flags=re.M)[1:]:
        title, _, body = part.partition("\n")
        pattern = r"(.*?)\n\nHint: (.*?)\n\n(?:Answer: (\S+)\n\n)?(.*?```python\n(.*)```)\s*"
        if not (match := re.fullmatch(pattern, body.strip("\n") + "\n", flags=re.S)):
            raise BookError(f"{place}: {title}: a question, `Hint: ...` and an answer that ends in code are wanted")
        question, hint, number, answer, code = match.groups()
        found.append(Exercise(title, question, hint, answer, number, code))
    return found


class Prose:
    """Converts the docstrings of one page to HTML.

    ``link(name)`` gives the address of what a name in backticks stands for, or None; ``figure(file, caption,
    place)`` the HTML of a figure that the text shows.
    """

    def __init__(self, link: Callable[[str, str], str | None], figure: Callable[[str, str, str], str]) -> None:
        self.place = ""
        self._markdown = MarkdownIt("commonmark").enable("table").use(anchors_plugin, max_level=3)
        dollarmath_plugin(
            self._markdown, renderer=lambda tex, options: equation(tex, options["display_mode"], self.place)
        )

        def code(renderer, tokens, index, options, env) -> str:
            shown = f"<code>{escape(tokens[index].content, quote=False)}</code>"
            address = link(tokens[index].content, self.place)
            return f'<a href="{address}">{shown}</a>' if address else shown

        def image(renderer, tokens, index, options, env) -> str:
            caption = self._markdown.renderInline(tokens[index].content)
            return figure(tokens[index].attrs["src"], caption, self.place)

        self._markdown.add_render_rule("code_inline", code)
        self._markdown.add_render_rule("image", image)

    def html(self, text: str, place: str) -> str:
        """A docstring as HTML; ``place`` names it in messages."""
        self.place = place
        html = self._markdown.render(text)
        inline = r'(\(?<span class="math inline"><math>(?:(?!</math>).)*</math></span>[.,;:)]+)'
        html = re.sub(inline, r'<span class="unbroken">\1</span>', html, flags=re.S)
        html = re.sub(r"<p>(<figure.*?</figure>)</p>", r"\1", html, flags=re.S)
        html = re.sub(r'href="([\w-]+)\.md([#"])', r'href="\1.html\2', html)  # as GitHub links to Markdown
        html = html.replace("<p>Source: ", '<p class="source">Source: ')
        return re.sub(
            f"<p>{DIFFER}(.)",
            lambda match: f'<p class="differ"><strong>Where the frameworks differ</strong> {match[1].upper()}',
            html,
        )
