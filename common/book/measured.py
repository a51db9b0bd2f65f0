"""The measured differences in the book: those of your own `make parity`, or else those of the last release.

python -m common.book.measured    # condenses build/parity.json into common/book/parity.json, for a release
"""

import ast
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from common.book.pairs import ROOT, Pair
from common.book.text.equations import BookError
from common.runs.terminal import command

OWN, SHIPPED = ROOT / "build" / "parity.json", Path(__file__).parent / "parity.json"
KEY = ("chapter", "quantity", "dtype")


def ship() -> None:
    """Condense the report of your own `make parity` into the release's file."""
    if not OWN.is_file():
        raise BookError(f"{OWN} is missing; `make parity` writes it")
    report = read(OWN)
    if failed := next((row for row in report["rows"] if not row["passed"]), None):
        raise BookError(f"{OWN}: {failed['chapter']}: {failed['quantity']} differs by more than is allowed")
    rows = ",\n".join(json.dumps(row) for row in condense(report["rows"]))
    SHIPPED.write_text(f'{{"versions": {json.dumps(report["versions"])},\n"rows": [\n{rows}\n]}}\n')
    print(f"{SHIPPED}: {SHIPPED.stat().st_size:,} bytes")


def load(own: Path = OWN) -> dict[str, Any]:
    """Versions and the worst row of every quantity and precision; ``own`` if they are the reader's."""
    report = read(own if own.is_file() else SHIPPED)
    return {"versions": report["versions"], "rows": condense(report["rows"]), "own": own.is_file()}


def read(path: Path) -> dict[str, Any]:
    """The report that the suite wrote; BookError if it is not valid JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BookError(f"{path} cannot be read ({error}); delete it, and `make parity` writes it anew") from error


def condense(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each chapter, quantity and precision, the tensor nearest to its tolerance, and the largest ULP.

    Numbers that do not measure a difference between the frameworks are left out.
    """
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["max_ulp"] is not None:
            groups.setdefault(tuple(row[name] for name in KEY), []).append(row)
    condensed = []
    for key, group in sorted(groups.items()):
        worst = max(group, key=lambda row: row["nmax"] / row["tolerance"])
        numbers = {"nmax": float(f"{worst['nmax']:.3g}"), "tolerance": worst["tolerance"]}
        numbers["max_ulp"] = max(row["max_ulp"] for row in group)
        condensed.append(dict(zip(KEY, key, strict=True)) | numbers)
    return condensed


def agreement(rows: Sequence[Mapping[str, Any]], pair: Pair) -> dict[str, list[dict[str, Any]]]:
    """The rows of a chapter by definition.

    A quantity belongs to the definition named by its first word, or else to the chapter (the empty name).
    """
    names = {definition.name for definition in pair.definitions}
    found: dict[str, list[dict[str, Any]]] = {}
    for row in (row for row in rows if row["chapter"] == pair.name):
        first, _, rest = row["quantity"].partition(" ")
        owner, what = (first, rest or "value") if first in names else ("", row["quantity"])
        found.setdefault(owner, []).append(row | {"what": what})
    for group in found.values():
        group.sort(key=lambda row: (row["what"] != "value", row["what"], row["dtype"] != "float64"))
    return found


def measured_within(
    pairs: Mapping[str, Pair], agreements: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, list[tuple[str, str]]]]:
    """By chapter and definition, the nearest measured definitions that use it, directly or through others."""
    users: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for name, pair in pairs.items():
        for definition in pair.definitions:
            for used in _names_in(definition.whole["torch"], pair, pairs):
                users.setdefault(used, set()).add((name, definition.name.partition(".")[0]))
    within: dict[str, dict[str, list[tuple[str, str]]]] = {name: {} for name in pairs}
    for name, pair in pairs.items():
        for definition in pair.definitions:
            seen = level = {(name, definition.name)}
            found: list[tuple[str, str]] = []
            while level and not found:
                level = {user for used in level for user in users.get(used, ())} - seen
                seen = seen | level
                found = sorted(user for user in level if user[1] in agreements[user[0]])
            within[name][definition.name] = found
    return within


def _names_in(code: str, pair: Pair, pairs: Mapping[str, Pair]) -> set[tuple[str, str]]:
    # (chapter, name) of the definitions that the code names, of its own chapter or an imported one
    known = {definition.name: (pair.name, definition.name) for definition in pair.definitions}
    for node in ast.walk(ast.parse(pair.preamble["torch"])):
        if isinstance(node, ast.ImportFrom) and (chapter := (node.module or "").partition(".")[2]) in pairs:
            known |= {alias.asname or alias.name: (chapter, alias.name) for alias in node.names}
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in pairs:
            names.add((node.value.id, node.attr))
        elif isinstance(node, ast.Name) and node.id in known:
            names.add(known[node.id])
    return names


main = partial(command, "common.book.measured", __doc__, ship, ())

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
