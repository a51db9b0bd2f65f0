"""The published digests, and where a run parts from them: the first update, and the first tensor there.

``digests.json`` has of each run the SHA-256 of its checkpoint, and a trace: four hexadecimal digits for each
parameter, its values and both its moments, after every update. They come from the hashes that the run itself
keeps in ``metrics.jsonl``.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from common.runs import checkpoint
from common.runs.folder import HASH, read_metrics
from common.runs.network import MOMENTS

FILE = Path(__file__).parents[1] / "digests.json"
DIGITS = 4


class Run(NamedTuple):
    """What is compared of a run: its checkpoint's digest, names, and digits of all names by update."""

    sha256: str
    names: list[str]
    trace: list[str]


def read(folder: Path) -> Run:
    """The run in ``folder``, which was trained with --hash-interval 1."""
    rows = [hashes(row) for row in read_metrics(folder)]
    names = list(rows[0])
    return Run(checkpoint.digest(folder / "checkpoint.safetensors"), names, ["".join(row.values()) for row in rows])


def hashes(row: dict[str, Any]) -> dict[str, str]:
    """A line of metrics.jsonl as four digits for each parameter, of its values and its moments together."""
    of_parameters: dict[str, list[int]] = {}
    for key in sorted(key for key in row if key.startswith(HASH)):
        name = key.removeprefix(HASH)
        for moment in MOMENTS:
            name = name.removeprefix(moment)
        of_parameters.setdefault(name, []).append(row[key])
    return {name: hashlib.sha256(str(of).encode()).hexdigest()[:DIGITS] for name, of in of_parameters.items()}


def parting(found: Run, published: Run) -> str:
    """Where a run parts from the published one, in words; empty if the checkpoints are the same file."""
    if found.sha256 == published.sha256:
        return ""
    if found.names != published.names:
        return f"its tensors are {', '.join(found.names)}, not {', '.join(published.names)}"
    for update, (ours, theirs) in enumerate(zip(found.trace, published.trace, strict=False), start=1):
        differing = [
            name
            for i, name in enumerate(found.names)
            if ours[DIGITS * i : DIGITS * (i + 1)] != theirs[DIGITS * i : DIGITS * (i + 1)]
        ]
        if differing:
            others = f", with {len(differing) - 1} more of {len(found.names)}" if len(differing) > 1 else ""
            return f"at update {update}, in {differing[0]}{others}"
    if len(found.trace) != len(published.trace):
        return f"by its length: {len(found.trace)} updates, not {len(published.trace)}"
    return "in the file alone: after every update its tensors are those that are published"


def load(path: Path = FILE) -> dict[str, Run]:
    """The published runs by name."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return {name: Run(run["sha256"], run["names"].split(), run["trace"].split()) for name, run in content.items()}


def save(runs: dict[str, Run], path: Path) -> None:
    """Publish these runs."""
    content = {
        name: {"sha256": run.sha256, "names": " ".join(run.names), "trace": " ".join(run.trace)}
        for name, run in runs.items()
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
