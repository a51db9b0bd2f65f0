"""The book's generator: what it writes, what it says when it cannot, and that no line of the sources is lost."""

import ast
import html
import itertools
import json
import re
import shutil
import struct
from pathlib import Path

import pytest

from common.book.__main__ import agreement, build, main
from common.book.chapters import titles
from common.book.pairs import FOLDERS, ROOT, read_pair
from common.book.prose import BookError, equation
from common.book.side_by_side import side_by_side

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 300, 100)  # enough of one to be measured


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of both implementations, to be damaged, and a stand-in for each figure that the text shows."""
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("common", "parity_tests"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (figures := tmp_path / "build" / "figures" / "torch").mkdir(parents=True)
    for path in (*(ROOT / "pytorch_impl").glob("*.py"), ROOT / "common" / "book" / "index.md"):
        for file in re.findall(r"\]\((\w+\.png)\)", path.read_text(encoding="utf-8")):
            (figures / file).write_bytes(PNG)
    return tmp_path


def both(root: Path, name: str, old: str, new: str) -> None:
    """Replace a text in both files of a pair."""
    for folder in FOLDERS.values():
        path = root / folder / f"{name}.py"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_every_chapter_has_a_page_with_every_definition(sources: Path) -> None:
    row = {"chapter": "coin", "quantity": "log_beta gradient", "dtype": "float64", "max_ulp": 3, "nmax": 1.24e-16}
    versions = dict.fromkeys(("torch", "tensorflow", "keras", "numpy"), "1.2.3")
    report = {"versions": versions, "rows": [row | {"tolerance": 1e-13}]}
    (sources / "build" / "parity.json").write_text(json.dumps(report))
    index = build(sources / "build" / "book", sources)
    pages = {name: (index.parent / f"{name}.html").read_text(encoding="utf-8") for name in titles()}
    for name, page in pages.items():
        for definition in read_pair(name).definitions:
            assert f'<section id="{definition.name}"' in page
        assert page.count("<math") > 3 or name == "networks"
        assert "$" not in re.sub(r"<(pre|annotation).*?</\1>", "", page, flags=re.S), f"{name}: an equation left as TeX"
    section = re.search(r'<section id="log_beta">.*?</section>', pages["coin"], re.S)[0]
    for cell in ("the gradient", "float64", "1.2e-16", "3", "1e-13"):
        assert f">{cell}<" in section
    assert "Not measured on its own" in re.search(r'<section id="predictive">.*?</section>', pages["coin"], re.S)[0]
    order = list(titles())
    for before, after in itertools.pairwise(order):
        assert f'rel="next" href="{after}.html"' in pages[before]
        assert f'rel="prev" href="{before}.html"' in pages[after]


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("coin", "The log of the Beta function", "The `gmm.nonsense`", r"coin.py: log_beta: `gmm.nonsense`"),
        ("em", r"\mathrm{Dir}", r"\mathrm{Dir", "em.py: dirichlet_log_density: the equation .* does not render"),
        ("coin", "](coin.png)", "](heads.png)", r"coin.py: figure .*heads.png is missing"),
        ("gmm", "(em_snapshots.png)", "(restarts.png)", r"em_snapshots.png: drawn, but no chapter shows it"),
        ("vae", "`elbo.py`", "[elbo](elbo.html#no)", r"vae.html: the link to elbo.html#no leads to no place"),
    ],
)  # fmt: skip
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


def test_a_pair_in_no_list_is_named(sources: Path) -> None:
    (sources / "tf2_impl" / "thing.py").write_text('"""A thing."""\n')
    with pytest.raises(BookError, match=r"tf2_impl/thing.py: add it to PARTS or to NOT_CHAPTERS"):
        build(sources / "build" / "book", sources)


def test_the_command_answers_in_one_line(capsys: pytest.CaptureFixture) -> None:
    assert main([]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("name", titles())
def test_no_line_of_the_sources_is_lost(name: str) -> None:
    pair = read_pair(name)
    for side, folder in FOLDERS.items():
        source = (ROOT / folder / f"{name}.py").read_text(encoding="utf-8")
        lines = [line.strip() for line in source.split("\n")]
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
                docstring = node.body[0]
                lines[docstring.lineno - 1 : docstring.end_lineno] = [""] * (
                    docstring.end_lineno - docstring.lineno + 1
                )
        shown = "\n".join([pair.preamble[side], *(d.code[side] for d in pair.definitions)]).split("\n")
        ours = sorted(line for line in lines if line and not line.startswith("# isort"))
        assert sorted(line.strip() for line in shown if line.strip()) == ours
        for definition in pair.definitions:
            assert source.split("\n")[definition.line[side] - 1].strip().startswith(("def ", "class "))


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


def test_a_measured_quantity_belongs_to_the_function_that_it_names() -> None:
    def row(quantity: str, nmax: float, dtype: str = "float64") -> dict:
        return dict(chapter="gmm", quantity=quantity, dtype=dtype, nmax=nmax, max_ulp=1, tolerance=1e-13)

    rows = [row("e_step", 1e-16), row("e_step", 3e-16), row("e_step gradient", 0.0), row("EM parameters", 2e-15)]
    found = agreement([*rows, row("e_step", 1e-7, "float32"), rows[0] | {"chapter": "em"}], read_pair("gmm"))
    assert [(r["what"], r["dtype"], r["nmax"], r["tensors"]) for r in found["e_step"]] == [
        ("value", "float64", 3e-16, 2), ("value", "float32", 1e-7, 1), ("gradient", "float64", 0.0, 1)
    ]  # fmt: skip
    assert [r["what"] for r in found[""]] == ["EM parameters"]


def test_an_equation_keeps_its_source_and_breaks_at_its_gaps() -> None:
    shown = equation(r"a = b, \qquad c = d", True, "here")
    assert shown.count("<math") == 2
    assert "a = b" in shown
    with pytest.raises(BookError, match="here: the equation"):
        equation(r"\frac{1", True, "here")
