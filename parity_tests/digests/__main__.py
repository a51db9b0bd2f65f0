"""Train the fixed runs in each framework that is installed, and compare them with the published digests.

python -m parity_tests.digests               on this machine's processor
python -m parity_tests.digests cpu cuda      and on its GPU

A line says of each run that it is equal, or the first update and the first tensor that part. The runs stay
in build/digests. The exit code is 0 if all are equal, 1 if one parts, and 2 if one cannot be trained.
"""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from common.runs.script import FRAMEWORKS
from common.runs.terminal import Parser
from parity_tests.digests import machine, published
from parity_tests.digests.runs import runs_on

BUILD = Path("build/digests")


def start(package: str, device: str) -> subprocess.Popen:
    """A process that trains all runs of one framework on one device."""
    command = [sys.executable, "-m", "parity_tests.digests.runs", package, str(folder(package, device))]
    return subprocess.Popen([*command, "--device", device], stderr=subprocess.PIPE, text=True)


def folder(package: str, device: str) -> Path:
    """Where the runs of a framework on a device are."""
    return BUILD / f"{package}-{device.replace(':', '-')}"


def report(package: str, device: str) -> tuple[bool, list[str]]:
    """Whether all runs of a framework on a device are those that are published, and a line for each."""
    expected, runs = published.load(), folder(package, device)
    partings = {name: published.parting(published.read(runs / name), expected[name]) for name in runs_on(device)}
    about = json.loads((runs / machine.FILE).read_text(encoding="utf-8"))
    lines = [f"{package} on {device}", *(f"  {name}: {value}" for name, value in about.items())]
    for name, where in partings.items():
        lines.append(f"  PARTS  {name}: {where}" if where else f"  equal  {expected[name].sha256[:8]}  {name}")
    equal = sum(not where for where in partings.values())
    lines.append(f"  {equal} of {len(partings)} runs are, byte for byte, those that are published")
    return equal == len(partings), lines


def publish() -> None:
    """Make what both frameworks found on the processor the published digests, if they agree."""
    pair = [{name: published.read(folder(p, "cpu") / name) for name in runs_on("cpu")} for p in FRAMEWORKS.values()]
    apart = [name for name in pair[0] if pair[0][name] != pair[1][name]]
    if apart:
        raise ValueError(f"the frameworks part in {', '.join(apart)}: nothing is published")
    published.save(pair[0], published.FILE)


def main(argv: Sequence[str] | None = None) -> int:
    """Train, compare and print; returns the exit code."""
    parser = Parser(prog="parity_tests.digests", description=__doc__)
    parser.add_argument("devices", nargs="*", default=["cpu"], metavar="DEVICE", help="cpu, cuda, ... (default: cpu)")
    parser.add_argument("--trained", action="store_true", help="compare the runs that are there, and train none")
    parser.add_argument("--publish", action="store_true", help="publish what both frameworks find on the processor")
    chosen = parser.parse_args(argv)
    installed = [package for f, package in FRAMEWORKS.items() if importlib.util.find_spec(f) is not None]
    all_equal = True
    try:
        for device in chosen.devices:
            processes = {} if chosen.trained else {package: start(package, device) for package in installed}
            problems = {package: process.communicate()[1].strip() for package, process in processes.items()}
            if failed := [package for package, process in processes.items() if process.returncode != 0]:
                lines = problems[failed[0]].splitlines() or ["it said nothing"]  # the script's own comes first
                raise ValueError(f"{failed[0]} on {device}: {lines[0] if ' error: ' in lines[0] else lines[-1]}")
            for package in () if chosen.publish else installed:
                equal, lines = report(package, device)
                all_equal &= equal
                print("\n".join(lines), flush=True)
        if chosen.publish:
            publish()
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    return int(not all_equal)


if __name__ == "__main__":
    sys.exit(main())
