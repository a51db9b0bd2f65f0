"""The whole book as one PDF, by a Chromium without a window, where there is one."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from common.book.chapters import HOUSE, PARTS, TEXTS

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = ("--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
# Without tags for screen readers, which have the pages, the PDF is a quarter as large.
ARGUMENTS += ("--no-pdf-header-footer", "--disable-pdf-tagging", "--generate-pdf-document-outline")
SECONDS = 240


def print_pdf(book: Path) -> str:
    """Print the pages of the folder ``book`` into a PDF of its name beside it, or say why there is none."""
    if not (browser := next(filter(None, map(shutil.which, BROWSERS)), None)):
        return "no PDF: there is no Chromium here to print it; each page can be printed from any browser"
    page, pdf = book / "whole.html", book.with_suffix(".pdf")
    page.write_text(whole(book), encoding="utf-8")
    pdf.unlink(missing_ok=True)
    sandbox = ["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []  # Chromium has none for root
    command = [browser, *ARGUMENTS, *sandbox, f"--print-to-pdf={pdf}", page.resolve().as_uri()]
    try:
        subprocess.run(command, capture_output=True, timeout=SECONDS, check=True)
        return f"{pdf}, {pdf.stat().st_size / 1e6:.1f} MB"
    except (OSError, subprocess.SubprocessError) as error:
        return f"no PDF: {Path(browser).name} did not print it: {type(error).__name__}"
    finally:
        page.unlink()


def whole(book: Path) -> str:
    """All pages as one: their texts in reading order, answers open, links between pages as links within it."""
    parts = []
    for name in ("index", *(name for section in (*PARTS.values(), HOUSE, *TEXTS.values()) for name in section)):
        html = (book / f"{name}.html").read_text(encoding="utf-8")
        text = html.partition('<main id="main">')[2].partition("</main>")[0]
        text = re.sub(r"<script.*?</script>", "", text, flags=re.S).replace(' loading="lazy"', "")
        text = re.sub(r' id="([^"]+)"', rf' id="{name}.\1"', text)
        text = re.sub(r' href="#([^"]+)"', rf' href="#{name}.\1"', text)
        text = re.sub(r' href="([\w-]+)\.html#([^"]+)"', r' href="#\1.\2"', text)
        text = re.sub(r' href="([\w-]+)\.html"', r' href="#\1"', text)
        text = re.sub(r"<details>(<summary>(?:Hint|Answer))", r"<details open>\1", text)
        parts.append(f'<main id="{name}">{text}</main>')
    # Rules with :has take a time that grows with the square of the page.
    style = re.sub(r"[^{}]*:has\([^{}]*\{[^{}]*\}", "", (book / "book.css").read_text(encoding="utf-8"))
    title = "<title>From the coin toss to the VAE, twice</title>"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">{title}<style>{style}</style>{"".join(parts)}</html>\n'
    )
