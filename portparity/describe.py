"""From a comparison to findings: which operation, on which side, by how much."""

from typing import Any

import numpy as np

from portparity.records.floor import distance, scale, tolerance
from portparity.records.match import Comparison
from portparity.records.recording import Recording
from portparity.report import Finding, Report


def counts(port: Any, found: Comparison) -> None:
    """Say how many weights and operations agree."""
    report = port.report
    mapped = len(port.terms)
    many = mapped + len(port.unwritten) + len(port.altered)
    report.weights = f"{mapped} of {many} variables of the port hold the original's numbers"
    used = {port.layout.owner(int(n)) for terms in port.terms.values() for t in terms for n in (t.flat[0], t.flat[-1])}
    unread = [name for name in port.layout.positions if name not in used]
    for said, names in (("not written", port.unwritten), ("in no variable", unread), ("altered", port.altered)):
        report.weights += f"; {said}: {few(names)}" if names else ""
    if port.copy is None and (port.unwritten or unread):
        report.weights += "; copy=your converter maps them"
    report.uncompared += [f"the gradient and updates of {path}, whose numbers are no copies" for path in port.altered]
    report.agreement = agreement(found)


def few(names: list[str]) -> str:
    """Some names, and the last one."""
    return ", ".join(names if len(names) < 6 else [*names[:4], "...", names[-1]])


def agreement(found: Comparison) -> str:
    """How many operations have their result in the port, and the floor."""
    original = found.original
    before = original.before_output()
    agree = sum(any(v in found.matches for v in original.operations[n].outputs) for n in before)
    sizes = [(v.movement, scale(v.array)) for v in original.values if v.array.dtype.kind == "f"]
    largest = max((movement / size for movement, size in sizes if size), default=0)
    return f"{agree} of {len(before)} have their result in the port too; floor {largest:.0e}"


def rest(port: Any, found: Comparison, loose: float = 0.0) -> list[Finding]:
    """What differs still: results, or if they agree gradients, or if they agree too those of parameters."""
    if found.missing or found.outputs:
        return [first(found)]
    return backward(found) or parameters(port, found, loose)


def uncompared(report: Report, *recordings: Recording) -> None:
    """Say what was not seen; an output that cannot be compared is a finding, so that it does not pass in silence."""
    for recording in recordings:
        report.uncompared += recording.notes
        for number, place in zip(recording.outputs, [*recording.places, ""], strict=True):
            array = recording.values[number].array
            if array.dtype.kind == "f" and (many := int(np.sum(~np.isfinite(array)))):
                name = "the loss" if number == recording.outputs[-1] else f"output {place}".rstrip()
                report.uncompared.append(f"{many:,} of {array.size:,} entries of {name} that are not finite")
        for operation, why in recording.unsteady.items():
            finding = Finding("output that cannot be compared", operation, "its output", cause=why)
            report.findings += [finding] if finding not in report.findings else []


def first(found: Comparison, at: int | None = None) -> Finding:
    """The first result that the port lacks; ``at`` is the operation that explains it."""
    if found.gradients and not found.missing and not found.outputs:
        finding = backward(found)[0]
        finding.original = finding.original if at is None else str(found.original.operations[at])
        return finding
    number = found.missing[0] if found.missing else found.original.values[found.outputs[0]].source
    if at is None and not found.missing and found.outputs[0] in found.elsewhere:
        finding = Finding("output in another place", str(found.original.operations[number]), "")
        finding.port = f"output {found.elsewhere[found.outputs[0]]}"
        finding.cause, finding.remedy = "the port returns it in another place", "port: the original's order of outputs"
        return finding
    other = counterpart(found, number if at is None else at)
    theirs = str(found.port.operations[other]) if other is not None else "nothing like it"
    what = "first different result" if found.missing else "different output"
    return Finding(
        what, str(found.original.operations[number if at is None else at]), theirs, size_of(found, number, other)
    )


def counterpart(found: Comparison, number: int) -> int | None:
    """The port's operation that stands where the original's stands."""
    fed = {m.port for v in found.original.operations[number].inputs for m in found.matches.get(v, [])}
    names = {m for m in fed}
    first = [n for n in found.port_first if names & set(found.port.operations[n].inputs)]
    return first[0] if first else (found.port_first[0] if found.port_first else None)


def size_of(found: Comparison, number: int, other: int | None) -> str:
    """How far apart the two results are, if they can be laid side by side."""
    values = [found.original.values[v] for v in found.original.operations[number].outputs]
    a = values[0].array
    if values and found.original.operations[number].outputs[0] in found.reordered:
        return "the same numbers, in another order"
    if other is None:
        return ""
    near = [found.port.values[v].array for n in following(found.port, other) for v in found.port.operations[n].outputs]
    alike = [aligned(a, b) for b in near if b.size == a.size and b.dtype.kind == a.dtype.kind == "f"]
    if alike:  # the port may take several operations to the result: the nearest one
        return apart(a, min(alike, key=lambda b: _mean(b, a)), tolerance(a, values[0].movement))
    b = found.port.values[found.port.operations[other].outputs[0]].array
    if a.shape == b.shape:
        return f"{int(np.sum(a != b)):,} of {a.size:,} entries differ"
    return f"shapes {a.shape} and {b.shape}"


def following(recording: Recording, number: int, most: int = 12) -> list[int]:
    """An operation and the next ones that its result goes through."""
    consumers, reached = recording.consumers(), [number]
    for operation in reached:  # which grows
        after = [c for v in recording.operations[operation].outputs for c in consumers.get(v, [])]
        reached += [c for c in dict.fromkeys(after) if c not in reached][: most - len(reached)]
    return reached


def aligned(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """b with its axes where they are nearest to a."""
    from portparity.records.match import reorderings

    return min((reorder(b) for reorder in reorderings(b.shape, a.shape)), key=lambda c: _mean(c, a))


def _mean(a: np.ndarray, b: np.ndarray) -> tuple[int, float]:
    # how many entries are finite in one alone, and how far apart the others are
    both = np.isfinite(a) & np.isfinite(b)
    return int(np.sum(np.isfinite(a) != np.isfinite(b))), float(
        np.mean(np.abs(a - b), where=both)
    ) if both.any() else 0.0


def apart(a: np.ndarray, b: np.ndarray, allowed: float) -> str:
    """The largest difference, where it is, and how many entries differ."""
    difference = np.abs(a - b)
    place = np.unravel_index(np.argmax(np.where(np.isnan(difference), np.inf, difference)), a.shape) if a.size else ()
    where = f" at {tuple(map(int, place))}" if a.ndim else ""
    many = int(np.sum(~(difference <= allowed)))
    return (
        f"{distance(a, b):.2g} apart{where} ({a[place]:.6g} and {b[place]:.6g}), {distance(a, b) / (scale(a) or 1):.1e}"
        f" of the largest entry; {many:,} of {a.size:,} entries; rounding explains {allowed:.1e}"
    )


def backward(found: Comparison) -> list[Finding]:
    """The first gradients, from the loss on, that are others."""
    if not found.gradients:
        return []
    number = found.gradients[0]
    value = found.original.values[number]
    readers = [o for o in found.original.operations if number in o.inputs]
    match = found.matches[number][0]
    theirs = [o for o in found.port.operations if match.port in o.inputs]
    gradient = found.port.values[match.port].gradient
    size = (
        "the port has no gradient here"
        if gradient is None
        else apart(value.gradient, match.reorder(gradient), tolerance(value.gradient, value.gradient_movement))
    )
    return [
        Finding(
            "first different gradient",
            f"{readers[0] if readers else value.name}, its input",
            str(theirs[0]) if theirs else "its output",
            size,
        )
    ]


def parameters(port: Any, found: Comparison, loose: float = 0.0) -> list[Finding]:
    """Gradients of parameters, where every activation's gradient agrees."""
    findings, layout = [], port.layout
    movements = layout.flat({n: np.full(layout.positions[n].shape, m) for n, m in found.original.movements.items()})
    flat, eps = layout.flat(found.original.gradients), np.finfo(np.float64).eps
    least = eps * scale(flat)
    for path, gradient in (found.port.gradients | found.port.frozen).items():
        if path not in port.terms or layout.owner(port.terms[path][0].flat[0]) not in found.original.gradients:
            continue
        term = port.terms[path][0]
        wanted = flat[term]
        allowed = 100 * np.max(movements[term], initial=0) + (16 * eps + loose) * scale(wanted) + least
        gradient = np.zeros(wanted.shape) if gradient is None else gradient
        if distance(wanted, gradient) > allowed:
            findings.append(
                Finding(
                    "different gradient",
                    f"parameter {layout.owner(term.flat[0])}",
                    path,
                    apart(wanted, gradient, allowed),
                )
            )
    return findings


def frozen(port: Any) -> Finding | None:
    """The parameters that trainings would update on one side alone."""
    owners = {path: port.layout.owner(terms[0].flat[0]) for path, terms in port.terms.items()}
    here = [path for path, name in owners.items() if name in port.original.gradients and path in port.port.frozen]
    there = [path for path, name in owners.items() if name in port.original.frozen and path in port.port.gradients]
    names = few([owners[path] for path in here or there])
    if here:
        return Finding(
            "frozen in the port alone",
            f"parameter {names}",
            few(here),
            cause="trainable=False in the port: no training updates it",
            remedy="port: trainable=True, or requires_grad_(False) in the original",
        )
    if there:
        return Finding(
            "trained in the port alone",
            f"parameter {names}",
            few(there),
            cause="the original has it without requires_grad, or as a buffer",
            remedy="port: trainable=False",
        )
    return None
