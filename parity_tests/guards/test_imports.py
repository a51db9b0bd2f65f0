"""Who imports whom, read from the sources: the map in common/__init__.py, and the order of chapters."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import common
from common.book.chapters import NOT_CHAPTERS, TOOLS, titles
from parity_tests.guards.test_mirror import ONE_SIDED

ROOT = Path(__file__).parents[2]
IMPLEMENTATIONS = ("pytorch_impl", "tf2_impl")
ROOMS = [line.split()[0] for line in common.__doc__.splitlines() if line.startswith("    ")]  # in the map's order
TEST_ROOMS = ("bench", "certificate", "chapters", "digests", "divergences", "guards", "port_bugs", "runs", "support")
COMMANDS = {"common.data.datasets", "common.figures.draw"}
FRAMEWORKS = {"torch", "torchvision", "tensorflow", "keras"}
CHAPTERS = [name for name in titles() if name not in TOOLS]
LOWER_ROOMS = set(ROOMS[: ROOMS.index("networks") + 1])


def sources(*folders: str) -> list[Path]:
    """The Python files of the folders, without the cells of notebooks."""
    return [p for folder in folders for p in sorted((ROOT / folder).rglob("*.py")) if "examples" not in p.parts]


def module(path: Path) -> str:
    """A file's name as an import has it."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    """Every module that a file names in an import, anywhere in it; of `from a import b`, a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_of(path: Path) -> set[str]:
    """The rooms of common/ that a file imports."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("common.")}


def pages_of(path: Path, implementation: str) -> set[str]:
    """The pages of an implementation that a file imports."""
    return {name.split(".")[1] for name in imports(path) if name.startswith(f"{implementation}.")}


def test_the_map_names_every_room() -> None:
    found = {
        path.stem for path in (ROOT / "common").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert sorted(ROOMS) == sorted(found - {"__init__"})
    assert len(found) <= 10
    assert set(TEST_ROOMS) == {path.parent.name for path in (ROOT / "parity_tests").glob("*/__init__.py")}


@pytest.mark.parametrize("room", sorted(path.parent.name for path in (ROOT / "common").glob("*/__init__.py")))
def test_a_room_is_three_to_nine_modules_and_says_what_they_are(room: str) -> None:
    folder = ROOT / "common" / room
    assert 3 <= len([path for path in folder.glob("*.py") if not path.stem.startswith("__")]) <= 9
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    assert docstring, f"{room}: say in a line what this room is for"


@pytest.mark.parametrize("path", sources("common", "portparity", *IMPLEMENTATIONS), ids=module)
def test_no_module_is_longer_than_300_lines_and_no_function_body_than_45(path: Path) -> None:
    """But constructors, which scikit-learn's rules make long."""
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            body = node.body[ast.get_docstring(node) is not None :]
            assert not body or body[-1].end_lineno - body[0].lineno < 45, node.name


@pytest.mark.parametrize("path", sources("portparity"), ids=module)
def test_the_porting_tool_needs_numpy_and_the_frameworks_alone(path: Path) -> None:
    needed = {name.partition(".")[0] for name in imports(path)} - sys.stdlib_module_names
    assert needed <= {"portparity", "numpy", "torch", "tensorflow", "keras"}


@pytest.mark.parametrize("path", sources("common"), ids=module)
def test_a_room_imports_only_rooms_above_it(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imports(path)} & (FRAMEWORKS | {*IMPLEMENTATIONS, "parity_tests"})
    if path.parent == ROOT / "common" and path.stem == "__init__":
        return
    room = path.relative_to(ROOT / "common").parts[0].removesuffix(".py")
    allowed = ROOMS[: ROOMS.index("compare" if module(path) in COMMANDS else room)]
    assert rooms_of(path) <= {room, *allowed}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_chapter_imports_earlier_chapters_only(implementation: str) -> None:
    """And tools, which import no chapter; and of common/ what the map says."""
    for name in (*CHAPTERS, *TOOLS):
        path = ROOT / implementation / f"{name}.py"
        earlier = set() if name in TOOLS else {*CHAPTERS[: CHAPTERS.index(name)], *TOOLS}
        one_sided = {file.removesuffix(".py") for file in ONE_SIDED} if name in CHAPTERS else set()
        assert pages_of(path, implementation) <= earlier | one_sided, name
        assert rooms_of(path) <= LOWER_ROOMS, name


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_an_implementation_imports_neither_the_other_nor_its_framework(implementation: str) -> None:
    own = {"pytorch_impl": {"torch"}, "tf2_impl": {"tensorflow", "keras"}}[implementation]
    foreign = (FRAMEWORKS | {*IMPLEMENTATIONS, "parity_tests"}) - own - {implementation}
    for path in sources(implementation):
        assert not {name.partition(".")[0] for name in imports(path)} & foreign, path.name
        assert not rooms_of(path) & {"figures", "compare", "book"}, path.name


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_every_page_is_a_chapter_a_tool_or_of_the_house(implementation: str) -> None:
    """The train scripts come last: no page imports one."""
    house = {path.stem for path in sources(implementation)} - {*titles(), *TOOLS, *NOT_CHAPTERS, "__init__"}
    for path in sources(implementation):
        imported = pages_of(path, implementation)
        assert not {name for name in imported if name.startswith("train_")}, path.name
        assert path.stem in house | {"keras_training", "__init__"} or not imported & house, path.name


def test_only_the_choice_of_framework_is_an_import_by_string() -> None:
    by_string = {module(p) for p in sources("common", *IMPLEMENTATIONS) if "importlib.import_module" in p.read_text()}
    assert by_string - {"common.book.notebooks"} == {"common.runs.script"}  # the notebooks' cells import their page
