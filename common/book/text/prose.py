"""Docstrings as HTML: Markdown by markdown-it, equations as MathML, names as links."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from markdown_it import MarkdownIt
from mdit_py_plugins.anchors import anchors_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin

from common.book.text.equations import BookError, equation
from common.book.text.glossary import Entry, explained

DIFFER = "Where the frameworks differ: "


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
    place)`` the HTML of a figure that the text shows; ``glossary`` explains words where they first stand on the page.
    """

    def __init__(
        self,
        link: Callable[[str, str], str | None],
        figure: Callable[[str, str, str], str],
        glossary: Mapping[str, Entry],
    ) -> None:
        self.place, self.terms, self.glossary, self.known = "", (), glossary, set()
        self._markdown = MarkdownIt("commonmark").enable("table").use(anchors_plugin, max_level=3)
        dollarmath_plugin(
            self._markdown, renderer=lambda tex, options: equation(tex, options["display_mode"], self.place, self.terms)
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

    def html(self, text: str, place: str, terms: Sequence[str] = ()) -> str:
        """A docstring as HTML, the ``terms`` of its equations numbered; ``place`` names it in messages."""
        self.place, self.terms = place, terms
        html = self._markdown.render(text)
        inline = r'(\(?<span class="math inline"><math>(?:(?!</math>).)*</math></span>[.,;:)]+)'
        html = re.sub(inline, r'<span class="unbroken">\1</span>', html, flags=re.S)
        html = re.sub(r"<p>(<figure.*?</figure>)</p>", r"\1", html, flags=re.S)
        html = re.sub(r'href="([\w-]+)\.md([#"])', r'href="\1.html\2', html)  # as GitHub links to Markdown
        html = re.sub(r"<td>(?=[^<\s]{1,14}</td>)", '<td class="short">', html)
        html = explained(html, self.glossary, self.known)
        html = html.replace("<p>Source: ", '<p class="source">Source: ')
        return re.sub(
            f"<p>{DIFFER}(.)",
            lambda match: f'<p class="differ"><strong>Where the frameworks differ</strong> {match[1].upper()}',
            html,
        )
