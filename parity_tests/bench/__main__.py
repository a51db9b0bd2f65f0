"""Run the benchmark: a table on the screen, rows in build/bench.json, figures beside it."""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# isort: off
from common.runs.folder import versions
from common.runs.script import without_native_stderr

with without_native_stderr():
    import tf2_impl.backend
import pytorch_impl.backend
# isort: on

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from common.figures.runs import COLOURS, STYLE
from parity_tests.bench import em, fits, measure, scaling, vae
from parity_tests.bench.measure import table

THREADS = 2
BUILD = Path("build")
FAMILIES = {"fits": fits, "em": em, "vae": vae, "scaling": scaling}  # each is measured, printed and written


def main() -> None:
    """Measure the families named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="parity_tests.bench", description=__doc__)
    parser.add_argument("families", nargs="*", default=list(FAMILIES), help=f"of {', '.join(FAMILIES)}")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each contender (default: 3)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the points, to see that it runs")
    parser.add_argument("--rows", default="", help="whole fits: only those with this in their shape")
    parser.add_argument("--busy", action="store_true", help="one thread each and processor time, for a shared machine")
    options = parser.parse_args()
    if unknown := set(options.families) - set(FAMILIES):
        parser.error(f"no family {', '.join(sorted(unknown))}; there are {', '.join(FAMILIES)}")
    rows: list[dict[str, Any]] = []
    for family in options.families:
        if len(options.families) == 1:
            measured = measure_family(family, options)
        else:  # a process each, since TensorFlow cannot divide its threads in two ways
            again = [argument for argument in sys.argv[1:] if argument not in FAMILIES]
            subprocess.run([sys.executable, "-m", "parity_tests.bench", family, *again], check=True)
            measured = json.loads((BUILD / "bench.json").read_text())["rows"]
        rows += measured
        write(rows)
    print("\n" + table(rows))
    for framework, peer, speedups in by_peer(rows):
        mean, each = np.exp(np.mean(np.log(speedups))), " ".join(f"{s:.1f}" for s in speedups)
        print(f"{framework} against {peer}, float64: {each} times faster, geometric mean {mean:.1f}")
    if chosen := em_rows(rows):
        speedups_figure(chosen).savefig(BUILD / "bench.png")
    for framework in ("pytorch", "tf2"):
        if speedups := [row["speedup"] for row in fits.chosen(rows) if row["framework"] == framework]:
            mean, least = np.exp(np.mean(np.log(speedups))), min(speedups)
            print(f"{framework}, whole fits: geometric mean {mean:.2f} times scikit-learn's speed, least {least:.2f}")
    if "fits" in options.families:
        fits.figure(rows).savefig(BUILD / "bench_fits.png")
    if "scaling" in options.families:
        scaling.figure(rows).savefig(BUILD / "bench_scaling.png")
    print(f"rows in {BUILD / 'bench.json'}, figures in {BUILD}/bench*.png")


def measure_family(family: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of a family, with as many threads for everyone; EM's compute a chunk each."""
    measure.clock = time.process_time if options.busy else time.perf_counter
    threads = 1 if options.busy else THREADS
    for backend in (pytorch_impl.backend, tf2_impl.backend):
        backend.set_up("cpu", threads, in_chunks=family != "vae")
    limits = threadpool_limits(threads)  # the peers' too
    rows: list[dict[str, Any]] = []
    for case in FAMILIES[family].cases(options.quick):
        if options.rows not in case.shape:
            continue
        measured = measure.measure(case, 1 if family == "scaling" else options.repeats)
        print(table(measured), flush=True)
        rows += measured
        write(rows)
    limits.restore_original_limits()
    return rows


def write(rows: list[dict[str, Any]]) -> None:
    """Leave what has been measured so far in build/bench.json."""
    BUILD.mkdir(exist_ok=True)
    report = {"versions": versions(), "threads": THREADS, "rows": rows}
    (BUILD / "bench.json").write_text(json.dumps(report, indent=1) + "\n")


def em_rows(rows: list[dict[str, Any]], dtype: str = "float") -> list[dict[str, Any]]:
    """The rows of EM with a peer."""
    return [row for row in rows if row["work"].startswith("EM") and row["dtype"].startswith(dtype) and row["peer"]]


def by_peer(rows: list[dict[str, Any]]) -> list[tuple[str, str, list[float]]]:
    """The speedups of the EM rows in float64, of each framework over each peer."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in em_rows(rows, "float64"):
        found.setdefault((row["framework"], row["peer"]), []).append(row["speedup"])
    return [(*pair, speedups) for pair, speedups in found.items()]


def speedups_figure(rows: list[dict[str, Any]]) -> Figure:
    """How many times faster than each peer, shape by shape, one panel for each dtype."""
    with rc_context(STYLE):
        drawn = Figure(figsize=(11, 4.6))
        for axes, dtype in zip(drawn.subplots(1, 2), ("float64", "float32"), strict=True):
            chosen = em_rows(rows, dtype)
            bars = list(dict.fromkeys((r["shape"], r["peer"]) for r in chosen))
            for side, (framework, name) in enumerate((("pytorch", "PyTorch"), ("tf2", "TensorFlow"))):
                mine = {(r["shape"], r["peer"]): r["speedup"] for r in chosen if r["framework"] == framework}
                speedups = [mine[bar] for bar in bars]
                places = np.arange(len(bars)) + 0.4 * side
                drawn_bars = axes.barh(places, speedups, 0.38, color=COLOURS[1 - side], label=name)
                axes.bar_label(drawn_bars, fmt="%.1f", padding=3, fontsize=9)
            axes.set_yticks(np.arange(len(bars)) + 0.2, [f"{shape}\n{peer}" for shape, peer in bars], fontsize=8)
            axes.set(title=f"EM, {dtype}", xlabel="times faster (logarithmic)", xscale="log")
            axes.invert_yaxis()
            axes.set_xlim(1, 2.5 * max(max(bar.get_width() for bar in axes.patches), 1))
            axes.grid(False)
        drawn.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=2)
        return drawn


if __name__ == "__main__":
    sys.exit(main())
