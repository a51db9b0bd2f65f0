"""The book's generator: what it writes, its errors, and that no line of the sources is lost."""

import ast
import html
import itertools
import json
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from common.book import measured
from common.book.__main__ import build, main
from common.book.chapters import NOT_MEASURED, titles
from common.book.measured import agreement, measured_within
from common.book.pairs import FOLDERS, ROOT, imported, read_pair, read_pairs
from common.book.printed import print_pdf, whole
from common.book.progress import Progress
from common.book.text.equations import BookError, equation, pieces
from common.book.text.glossary import entries
from common.book.text.prose import Prose
from common.book.text.search import index, minutes
from common.book.text.side_by_side import align, side_by_side, similarity
from common.figures.draw import FIGURES
from common.figures.moving import Panel, Replay
from common.figures.runs import COLOURS
from parity_tests.guards.test_terms import recorded

DRAWN = '<svg xmlns="http://www.w3.org/2000/svg" width="330pt" height="110pt"></svg>'
PAGES = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "pytorch_impl").glob("*.py")))
MOVING = [name for name in re.findall(r"\]\((\w+)\.svg\)", PAGES) if name not in FIGURES]
STANDSTILL = Replay("what is to be seen", ["run"], [["frame"]], [Panel("title", (0, 1), (0, 1))])


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of both implementations, to be damaged, and a stand-in for each figure that the text shows."""
    return copied(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the book of undamaged sources, in which one quantity was measured."""
    row = {"chapter": "coin", "quantity": "log_beta gradient", "dtype": "float64", "max_ulp": 3, "nmax": 1.24e-16}
    versions = dict.fromkeys(("torch", "tensorflow", "keras", "numpy"), "1.2.3")
    report = {"versions": versions, "rows": [row | {"tolerance": 1e-13}]}
    with pytest.MonkeyPatch.context() as monkeypatch:
        sources = copied(tmp_path_factory.mktemp("sources"), monkeypatch)
        (sources / "build" / "parity.json").write_text(json.dumps(report))
        return build(sources / "build" / "book", sources).parent


def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the book is made from, in a folder of its own."""
    monkeypatch.setattr("common.book.__main__.agreed", lambda files: recorded())
    monkeypatch.setattr("common.book.__main__.replays", lambda traces: dict.fromkeys(MOVING, STANDSTILL))
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("common", "parity_tests"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (figures := tmp_path / "build" / "figures" / "torch").mkdir(parents=True)
    for name in FIGURES:
        (figures / f"{name}.svg").write_text(DRAWN)
    return tmp_path


def both(root: Path, name: str, old: str, new: str) -> None:
    """Replace a text in both files of a pair."""
    for folder in FOLDERS.values():
        path = root / folder / f"{name}.py"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_every_chapter_has_a_page_with_every_definition(book: Path) -> None:
    pages = {name: (book / f"{name}.html").read_text(encoding="utf-8") for name in titles()}
    for name, page in pages.items():
        for definition in read_pair(name).definitions:
            assert f'<section id="{definition.name}"' in page
        assert page.count("<math") > 3 or name in ("layouts", "networks")
        assert "$" not in re.sub(r"<(pre|annotation).*?</\1>", "", page, flags=re.S), f"{name}: an equation left as TeX"
    section = re.search(r'<section id="log_beta">.*?</section>', pages["coin"], re.S)[0]
    for cell in ("the gradient", "float64", "1.2e-16", "3", "1e-13"):
        assert f">{cell}<" in section
    assert "Not measured" in re.search(r'<section id="predictive">.*?</section>', pages["coin"], re.S)[0]
    order = list(titles())
    for before, after in itertools.pairwise(order):
        assert f'rel="next" href="{after}.html"' in pages[before]
        assert f'rel="prev" href="{before}.html"' in pages[after]


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("coin", "The log of the Beta function", "The `gmm.nonsense`", r"coin.py: log_beta: `gmm.nonsense`"),
        ("em", r"\mathrm{Dir}", r"\mathrm{Dir", "em.py: dirichlet_log_density: the equation .* does not render"),
        ("coin", "](coin.svg)", "](heads.svg)", r"coin.py: figure .*heads.svg is missing"),
        ("gmm", "(em_snapshots.svg)", "(restarts.svg)", r"em_snapshots.svg: no chapter shows it"),
        ("vae", "`elbo.py`", "[elbo](elbo.html#no)", r"vae.html: the link to elbo.html#no leads to no place"),
    ],
)
def test_what_is_wrong_in_both_is_named(sources: Path, name: str, old: str, new: str, message: str) -> None:
    both(sources, name, old, new)
    with pytest.raises(BookError, match=message):
        build(sources / "build" / "book", sources)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def log_beta", "def log_gamma", "coin.py: the two files do not define the same .* log_beta, log_gamma"),
        ("The log of the Beta function", "The logarithm", "coin.py: log_beta: the docstrings of the two files differ"),
        ("A coin shows heads", "A coin shows tails", "coin.py: the module docstrings of the two files differ"),
    ],
)
def test_a_pair_that_does_not_match_is_named(sources: Path, old: str, new: str, message: str) -> None:
    path = sources / "tf2_impl" / "coin.py"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(BookError, match=message):
        build(sources / "build" / "book", sources)


def test_what_a_chapter_builds_on_is_read_from_its_imports() -> None:
    """Whole chapters, `from pytorch_impl import conjugate, gmm`, count as do names out of one."""
    needs = {name: imported(read_pair(name), list(titles())) for name in ("variational_gmm", "vae")}
    assert needs == {"variational_gmm": ["gmm", "conjugate"], "vae": ["elbo", "networks", "convolution"]}


def test_a_pair_in_no_list_is_named(sources: Path) -> None:
    (sources / "tf2_impl" / "thing.py").write_text('"""A thing."""\n')
    with pytest.raises(BookError, match=r"tf2_impl/thing.py: add it to PARTS, HOUSE or NOT_CHAPTERS"):
        build(sources / "build" / "book", sources)


def test_the_index_of_words_has_every_section_and_no_code() -> None:
    html = '<head><title>x</title></head><main id="main"><p>one &amp; <b>two</b></p><pre>code</pre>'
    html += '<section id="log_beta"><h2>h</h2><p>three <math><mi>x</mi></math></p></section></main><footer>f</footer>'
    script = index({"coin.html": html, "index.html": "<main>four</main>"}, {"coin": "The coin"})
    entries = json.loads(script.removeprefix("const INDEX = ").rstrip(";\n"))
    assert entries == [
        ["coin.html", "The coin", "one & two"],
        ["coin.html#log_beta", "The coin: log_beta", "h three"],
        ["index.html", "The argument", "four"],
    ]


def test_a_replay_that_nobody_draws_or_shows_is_named(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both(sources, "coin", "(coin_tosses.svg)", "(another.svg)")
    with pytest.raises(BookError, match=r"coin\.py: figure .*another\.svg is missing"):
        build(sources / "build" / "book", sources)
    both(sources, "coin", "(another.svg)", "(coin_tosses.svg)")
    monkeypatch.setattr("common.book.__main__.replays", lambda traces: dict.fromkeys([*MOVING, "unseen"], STANDSTILL))
    with pytest.raises(BookError, match="no chapter shows the replay unseen"):
        build(sources / "build" / "book", sources)


def test_the_command_answers_in_one_line(capsys: pytest.CaptureFixture) -> None:
    assert main([]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("name", titles())
def test_no_line_of_the_sources_is_lost(name: str) -> None:
    pair = read_pair(name)
    for side, folder in FOLDERS.items():
        source = (ROOT / folder / f"{name}.py").read_text(encoding="utf-8")
        lines = source.split("\n")
        for definition in pair.definitions:
            assert lines[definition.line[side] - 1].strip().startswith(("def ", "class "))
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
                first, last = node.body[0].lineno - 1, node.body[0].end_lineno
                lines[first:last] = [""] * (last - first)
        shown = "\n".join([pair.preamble[side], *(d.code[side] for d in pair.definitions)]).split("\n")
        expected = sorted(line.strip() for line in lines if line.strip() and not line.startswith("# isort"))
        assert sorted(line.strip() for line in shown if line.strip()) == expected


@pytest.mark.parametrize("name", titles())
def test_columns_hold_the_code_and_mark_only_what_differs(name: str) -> None:
    for definition in read_pair(name).definitions:
        columns = side_by_side(definition.code["torch"], definition.code["tf2"])
        assert len(columns[0]) == len(columns[1])
        for column, side in zip(columns, FOLDERS, strict=True):
            text = [html.unescape(re.sub("<[^>]*>", "", line.html)) for line in column if line.kind != "gap"]
            assert "\n".join(text) == definition.code[side]
        for left, right in zip(*columns, strict=True):
            assert (left.kind == "same") == (right.kind == "same")
            assert (left.html == right.html) == (left.kind == "same")
            for line in (left, right):
                assert line.html.count("<mark>") == line.html.count("</mark>")
                assert line.kind == "different" or "<mark>" not in line.html


def test_marks_are_on_what_differs() -> None:
    left, right = side_by_side("x = torch.exp(a)  # (N,)\ny = 1", "x = tf.exp(a)  # (N,)\ny = 1\nz = 2")
    marked = [re.sub("<[^>]*>", "", text) for text in re.findall("<mark>.*?</mark>", left[0].html + right[0].html)]
    assert marked == ["torch", "tf"]
    assert [line.kind for line in left] == ["different", "same", "gap"]
    assert [line.kind for line in right] == ["different", "same", "different"]


# Linear RGB as the colour-blind see it: Machado, Oliveira and Fernandes (2009), severity 1.
BLIND = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(linear: np.ndarray) -> np.ndarray:
    """CIELAB (N, 3) of linear RGB (N, 3) under daylight."""
    xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.maximum(np.clip(linear, 0, 1) @ np.transpose(xyz) / [0.9505, 1, 1.089], 0.008856)).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


@pytest.mark.parametrize("palette", ["light", "dark", "filtered"])
def test_six_colours_are_told_apart_by_colour_blind_eyes(palette: str) -> None:
    """By ten units of CIELAB at least, where one is just seen; also after the filter that makes figures dark."""
    css = (ROOT / "common" / "book" / "book.css").read_text(encoding="utf-8")
    light, dark = (re.findall(r"--c[0-5]: (#\w{6})", part) for part in css.split("prefers-color-scheme: dark", 1))
    rgb = np.array([to_rgb(colour) for colour in (dark if palette == "dark" else light)])
    assert rgb.shape == (6, 3)
    if palette == "filtered":  # invert(.91) hue-rotate(180deg)
        light, inverted = [0.213, 0.715, 0.072], 0.91 - 0.82 * rgb
        rgb = np.clip(2 * np.outer(inverted @ light, np.ones(3)) - inverted, 0, 1)
        assert "invert(.91) hue-rotate(180deg)" in css
        assert [colour.lower() for colour in COLOURS[:6]] == re.findall(r"--c[0-5]: (#\w{6})", css)[:6]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for seen in (linear, *(linear @ np.transpose(matrix) for matrix in BLIND.values())):
        places = lab(seen)
        apart = np.linalg.norm(places[:, None] - places, axis=2)[np.triu_indices(6, 1)]
        assert apart.min() > 10


def rows_of(chapter: str, name: str) -> list[tuple[str, str]]:
    """A definition's rows as the book aligns them, without indentation; empty where a side has a gap."""
    code = next(d.code for d in read_pair(chapter).definitions if d.name == name)
    left, right = ([line.strip() for line in code[side].split("\n")] + [""] for side in FOLDERS)
    rows = align(code["torch"].split("\n"), code["tf2"].split("\n"))
    return [(left[-1 if i is None else i], right[-1 if k is None else k]) for i, k in rows]


def test_what_both_sides_assign_once_in_one_order_stands_in_one_row() -> None:
    """Of every definition of the book, but for lines that break after the sign."""
    pairs, apart = 0, []
    for chapter in titles():
        for definition in read_pair(chapter).definitions:
            rows = rows_of(chapter, definition.name)
            assigned = [[re.match(r"([\w., ]+?) = .*[^(]$", row[side]) for row in rows] for side in (0, 1)]
            names = [[match and match[1] for match in side] for side in assigned]
            once = [{n for n in side if n and side.count(n) == 1} for side in names]
            for name in once[0] & once[1]:
                pairs += 1
                if names[0].index(name) != names[1].index(name):
                    apart.append((chapter, definition.name, name))
    assert pairs > 200
    assert len(apart) <= pairs // 100, apart


def test_no_alignment_is_more_similar() -> None:
    """All alignments that keep the order, one by one, of every short definition that differs."""

    def best(left: list[str], right: list[str]) -> float:
        if not left or not right:
            return 0.0
        of_first = (similarity(left[0], line) + best(left[1:], right[k + 1 :]) for k, line in enumerate(right))
        return max(best(left[1:], right), *of_first)

    tried = 0
    for chapter in titles():
        for definition in read_pair(chapter).definitions:
            left, right = (definition.code[side].split("\n") for side in FOLDERS)
            if left != right and len(left) + len(right) <= 14:
                tried += 1
                rows = [(i, k) for i, k in align(left, right) if i is not None and k is not None]
                total = sum(similarity(left[i], right[k]) for i, k in rows)
                assert total == pytest.approx(best(left, right))
                assert rows == sorted(rows)
    assert tried > 30


def test_the_readme_has_the_books_chapters_and_numbers() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| `(\w+)\.py` \|", text, re.M)
    assert rows == [(str(i), title, name) for i, (name, title) in enumerate(titles().items(), 1)]


def test_every_public_function_is_measured_or_says_why_not() -> None:
    """By the figures that travel with the sources. After a new function: `make parity`, `python -m
    common.book.measured`; or a reason in NOT_MEASURED."""
    pairs = {name: read_pair(name) for name in titles()}
    shipped = measured.load(Path("none"))
    assert not shipped["own"]
    agreements = {name: agreement(shipped["rows"], pair) for name, pair in pairs.items()}
    within = measured_within(pairs, agreements)
    missing, idle = [], set(NOT_MEASURED)
    for name, pair in pairs.items():
        assert agreements[name], f"{name}: nothing of this chapter was measured"
        for d in pair.definitions:
            known = d.name in agreements[name] or within[name][d.name]
            if d.public and "." not in d.name and not known and f"{name}.{d.name}" not in NOT_MEASURED:
                missing.append(f"{name}.{d.name}")
            idle -= set() if known else {f"{name}.{d.name}"}
    assert missing == []
    assert idle == set(), "reasons for what is measured, or is no longer there"


def test_the_shipped_figures_are_small_and_name_their_versions() -> None:
    assert measured.SHIPPED.stat().st_size <= 300_000
    shipped = measured.load(Path("none"))
    assert {"torch", "tensorflow", "keras", "numpy", "python"} <= shipped["versions"].keys()
    assert {row["dtype"] for row in shipped["rows"]} == {"float64", "float32"}
    assert all(row["nmax"] < 1 for row in shipped["rows"])


def test_ones_own_figures_replace_the_shipped_ones(sources: Path, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    assert "for the release" in build(sources / "build" / "book", sources).read_text(encoding="utf-8")
    row = dict(chapter="coin", quantity="log_beta", dtype="float64", nmax=1.24e-16, tolerance=1e-13, max_ulp=3)
    passed = row | {"passed": True}
    versions = dict.fromkeys(("torch", "tensorflow", "keras", "numpy"), "9.8.7")
    own = sources / "build" / "parity.json"
    own.write_text(json.dumps({"versions": versions, "rows": [passed, passed | {"nmax": 0.0}]}))
    page = build(sources / "build" / "book", sources).read_text(encoding="utf-8")
    assert "on this machine" in page
    assert "9.8.7" in page
    monkeypatch.setattr(measured, "OWN", own)
    monkeypatch.setattr(measured, "SHIPPED", sources / "shipped.json")
    assert measured.main([]) == 0
    shipped = measured.load(Path("none"))
    assert (shipped["rows"], shipped["own"]) == ([row], False)
    too_far = json.dumps({"versions": versions, "rows": [row | {"passed": False}]})
    for damage, message in ((too_far, "more than is allowed"), ("{", "cannot be read"), (None, "make parity")):
        own.write_text(damage) if damage else own.unlink()
        capsys.readouterr()
        assert measured.main([]) == 2
        assert message in capsys.readouterr().err
        assert measured.load(Path("none")) == shipped, "a bad report replaced the shipped figures"


def test_a_function_that_is_not_measured_names_those_around_it_that_are() -> None:
    pairs = read_pairs()
    found = {"gmm": {"em_iteration": []}, "em": {"map_em_iteration": []}}
    within = measured_within(pairs, {name: {} for name in pairs} | found)
    assert within["gmm"]["m_step"] == [("gmm", "em_iteration")]
    assert ("gmm", "em_iteration") in within["gmm"]["component_log_densities"]
    assert within["coin"]["log_beta"] == []


def test_a_measured_quantity_belongs_to_the_function_that_it_names() -> None:
    def row(quantity: str, nmax: float, dtype: str = "float64") -> dict:
        return dict(chapter="gmm", quantity=quantity, dtype=dtype, nmax=nmax, max_ulp=1, tolerance=1e-13)

    rows = [row("e_step", 1e-16), row("e_step", 3e-16), row("e_step gradient", 0.0), row("EM parameters", 2e-15)]
    rows += [row("e_step", 1e-7, "float32"), rows[0] | {"chapter": "em"}]
    found = agreement(measured.condense(rows), read_pair("gmm"))
    expected = [("value", "float64", 3e-16), ("value", "float32", 1e-7), ("gradient", "float64", 0.0)]
    assert [(r["what"], r["dtype"], r["nmax"]) for r in found["e_step"]] == expected
    assert [r["what"] for r in found[""]] == ["EM parameters"]


def test_an_equation_keeps_its_source_and_breaks_at_its_gaps_and_operators() -> None:
    shown = equation(r"a = b, \qquad c = d", True, "here")
    assert shown.count("<span>") == 2
    assert shown.count("<math") == 4
    assert equation("a = b", False, "here").count("<math") == 1
    for tex, cut in {
        r"a = b + c": ["a", "= b", "+ c"],
        r"a = -b - (c - d)": ["a", "= -b", "- (c - d)"],
        r"\frac{a + b}{c} \le \left( a - b \right) + d": [r"\frac{a + b}{c}", r"\le \left( a - b \right)", "+ d"],
        r"f(a = b) = c \Bigl( -d + e \Bigr)": ["f(a = b)", r"= c \Bigl( -d", r"+ e \Bigr)"],
        r"\left. a - b \right| = \{ c : c + d \}": [r"\left. a - b \right|", r"= \{ c : c + d \}"],
        r"x^{a - b}_{i + 1} - y": ["x^{a - b}_{i + 1}", "- y"],
    }.items():
        assert [part.removeprefix("{} ") for part in pieces(tex)] == cut
    with pytest.raises(BookError, match="here: the equation"):
        equation(r"\frac{1", True, "here")


def wait_for(condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true within five seconds."""
    return any(condition() or time.sleep(0.05) for _ in range(100))


def test_a_cell_that_takes_long_says_for_how_long_and_where(capsys: pytest.CaptureFixture) -> None:
    hooks: dict = {}
    shell = SimpleNamespace(events=SimpleNamespace(register=hooks.__setitem__))
    before = threading.active_count()
    Progress(shell, every=0.05)
    for hook in ("post_run_cell", "pre_run_cell", "post_run_cell"):
        hooks[hook]()
    assert capsys.readouterr().err == ""
    hooks["pre_run_cell"]()
    assert wait_for(lambda: "s, in test_book." in capsys.readouterr().err)
    hooks["post_run_cell"]()
    assert wait_for(lambda: threading.active_count() == before)


def test_a_notebook_begins_with_the_chapter_at_work(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    from common.book.notebooks import write

    assert len(write(tmp_path)) == 2 * len(titles())
    for name in titles():
        for side in FOLDERS:
            notebook = nbformat.read(tmp_path / side / f"{name}.ipynb", as_version=4)
            nbformat.validate(notebook)
            cells = notebook.cells
            code = [cell for cell in cells if cell.cell_type == "code"]
            assert code[0].metadata["jupyter"]["source_hidden"], "what only makes ready is folded"
            example = (ROOT / "common" / "book" / "examples" / f"{name}.py").read_text(encoding="utf-8")
            assert code[1].source in example
            assert "def " in code[-1].source or "draw.FIGURES" in code[-1].source or "class " in code[-1].source


def test_the_glossary_explains_words_and_symbols_where_they_first_stand_on_a_page() -> None:
    text = "## S\n\n- $x$, $x_n$: the data. As rows.\n- **E step**, **E steps**: half of\n  it (see [x](x)). More.\n"
    with pytest.raises(BookError, match=r"glossary.md: .*plain sentence"):
        entries(text)
    glossary = entries(text.replace("it (see [x](x))", "EM"))
    assert glossary["$x_n$"] == glossary["$x$"] == ("x", "The data.")
    assert glossary["E steps"] == ("E-step", "Half of EM.")
    prose = Prose(lambda name, place: None, lambda *_: "", glossary)
    first = prose.html("The `E step` **E steps** of $x_n$ and $y$.\n\n### E step\n\nan E step, $x$", "here")
    assert re.findall(r'<a class="gloss" href="glossary.html#([^"]+)" data-says="([^"]+)"', first) == [
        ("E-step", "Half of EM."),
        ("x", "The data."),
    ]
    assert "<strong><a" in first
    assert "gloss" not in prose.html("An E step and $x$.", "here"), "explained twice on a page"


def test_every_entry_of_the_glossary_has_its_place_and_is_met_on_some_page(book: Path) -> None:
    glossary = entries((ROOT / "common" / "book" / "pages" / "glossary.md").read_text(encoding="utf-8"))
    page = (book / "glossary.html").read_text(encoding="utf-8")
    anchors = {entry.anchor for entry in glossary.values()}
    assert anchors <= set(re.findall(r'<li id="([^"]+)">', page))
    pages = "".join(path.read_text(encoding="utf-8") for path in book.glob("*.html"))
    assert anchors - set(re.findall(r'class="gloss" href="glossary.html#([^"]+)"', pages)) == set()


def test_a_page_says_how_long_it_takes() -> None:
    assert minutes("<p>one</p>") == "1 minute"
    assert minutes("<p>" + "word " * 720 + "</p><pre>" + "code " * 999 + "</pre>") == "4 minutes"
    assert minutes('<div class="equation"><math>x</math></div>' * 6 + "<figure></figure>" * 4, lines=15) == "5 minutes"


def test_the_whole_book_is_one_page_whose_links_lead_into_it(book: Path) -> None:
    text = whole(book)
    anchors = re.findall(r' id="([^"]+)"', text)
    assert len(anchors) == len(set(anchors)) > 500
    assert {"index", "gmm", "gmm.m_step", "glossary.nat"} <= set(anchors)
    assert set(re.findall(r' href="#([^"]+)"', text)) <= set(map(html.unescape, anchors))
    assert not re.search(r'href="[\w-]+\.html|<script', text)
    assert text.count("<details open>") == 2 * text.count('class="text exercise"') > 80


def test_a_book_that_is_not_printed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.book.printed.whole", lambda book: "<p>text</p>")
    (book := tmp_path / "book").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no Chromium here" in print_pdf(book)
    browser = tmp_path / "chromium"
    fails = "no PDF: chromium did not print it"
    for script, said in (("exit 1", fails), ("exit 0", fails), (f"echo %PDF > {tmp_path}/book.pdf", "book.pdf")):
        browser.write_text(f"#!/bin/sh\n{script}\n")
        browser.chmod(0o755)
        assert said in print_pdf(book)
        assert not list(book.iterdir())
