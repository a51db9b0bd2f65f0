"""How far apart two runs are: python -m common.compare.runs RUN_A RUN_B, for example one of each framework.

Compares the checkpoints tensor by tensor and the metrics update by update. The exit code is 0 if the runs
agree: to the last bit in ``reproducible`` precision, within 1e-10 (float64) or 1e-3 (float32) of the scale.
"""

import sys
from functools import partial
from pathlib import Path

if not __package__:  # run as a file, python common/compare/runs.py, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np

from common.data.messages import reason
from common.parity import difference
from common.runs import checkpoint
from common.runs.folder import read_config, read_metrics
from common.runs.terminal import command

WITHIN = {"reproducible": 0.0, "float64": 1e-10, "float32": 1e-3}


def compare(a: Path, b: Path) -> tuple[bool, list[str]]:
    """Whether two runs agree, and lines that say how closely; ValueError if they are of different kinds."""
    arrays_a, step_a, architecture = checkpoint.load(a / "checkpoint.safetensors")
    arrays_b, step_b, architecture_b = checkpoint.load(b / "checkpoint.safetensors")
    checkpoint.check_architecture(b, architecture_b, architecture)
    if (precision := read_config(a).get("precision")) not in WITHIN:
        raise ValueError(f"{a}: config.json names no precision of {', '.join(WITHIN)}; restore the file")
    if differing := arrays_a.keys() ^ arrays_b.keys():
        raise ValueError(f"{a} and {b}: their checkpoints' names differ in {reason(repr(sorted(differing)))}")
    worst = {name: difference(arrays_a[name], arrays_b[name]) for name in arrays_a}
    entries = sum(value.size for value in arrays_a.values())
    equal = sum(round(worst[name].bit_equal * arrays_a[name].size) for name in arrays_a)
    farthest = max(worst, key=lambda name: worst[name].nmax)
    losses = [np.array([row["loss"] for row in read_metrics(run)]) for run in (a, b)]
    shared = min(map(len, losses))
    apart = np.abs(losses[0][:shared] - losses[1][:shared]) / np.abs(losses[0][:shared])
    digests = [checkpoint.digest(run / "checkpoint.safetensors") for run in (a, b)]
    agree = step_a == step_b and (worst[farthest].nmax <= WITHIN[precision])
    agree = agree and (precision != "reproducible" or digests[0] == digests[1])
    return agree, [
        f"{a} and {b}: {'agree' if agree else 'DISAGREE'}, {precision}, after {step_a} and {step_b} steps",
        f"  loss, largest relative difference at any step   {apart.max(initial=0.0):.1e}",
        f"  checkpoint, entries that are equal to the bit   {equal:,} of {entries:,}",
        f"  checkpoint, largest difference                  {worst[farthest].nmax:.1e} of its scale, in {farthest}",
        *(f"  sha256 {digest}  {run}" for digest, run in zip(digests, (a, b), strict=True)),
    ]


def report(a: str, b: str) -> int:
    """Print how far apart two runs are; 0 if they agree, else 1."""
    agree, lines = compare(Path(a), Path(b))
    print("\n".join(lines))
    return 0 if agree else 1


main = partial(command, "common.compare.runs", __doc__, report, ("a run folder", "another"))

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
