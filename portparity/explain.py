"""What a check says: prediction, then training mode, then the trainings; each difference with its cause."""

from typing import Any

import numpy as np

from portparity import describe
from portparity.causes.penalty import copies, penalty
from portparity.causes.search import SINGLE, Search
from portparity.records import floor
from portparity.records.floor import scale
from portparity.records.match import compare
from portparity.records.recording import Recording
from portparity.report import Finding


def explain(port: Any) -> None:
    """Write the findings into the report, each with its cause if a known mistake explains it."""
    report, found = port.report, port.comparison
    describe.counts(port, found)
    describe.uncompared(report, port.original, port.port)
    edits, agrees = search(port, port.original, port.recorder, port.port, found)
    if len(port.port.places) > len(port.original.places):
        more = describe.few(port.port.places[len(port.original.places) :])
        report.uncompared.append(f"output {more} of the port, which returns more than the original")
        report.uncompared += ["the loss: without loss and port_loss it sums all outputs"] * (port.loss is None)
    if (finding := describe.frozen(port)) is not None:
        agrees = agrees and not (port.trains or port.trainings)
        if port.trains or port.trainings:
            report.findings.append(finding)
        else:
            report.notes.append(f"{finding.what}: {finding.original}")
    if agrees:
        agrees = training_mode(port, edits) if port.trains or port.trainings else True
    if port.trainings is not None:
        report.training = trainings(port) if agrees else "not compared: the models differ in one pass already"
    report.join()


def search(
    port: Any,
    original: Recording,
    recorder: Any,
    other: Recording,
    found: Any,
    known: dict[int, Any] | None = None,
    training: bool = False,
) -> tuple[dict[tuple, Any], bool]:
    """Look for causes until nothing differs; the edits by place, and whether everything is explained."""

    def replay(edits: dict[int, Any]) -> Any:
        port.record_original(edits=(known or {}) | edits, training=training)
        return port.latest

    attempt = Search(original, recorder, other, replay)
    report = port.report
    for causes, after in attempt.causes(found):
        for cause in causes:
            if cause.mistake.harmless:
                report.note(cause.said(cause.mistake.says), cause.row)
            else:
                report.findings.append(named(describe.first(found, cause.operation), cause))
                where = [original.operations[number].where for number in cause.alike]
                report.findings[-1].also = f"and in {len(where)} more: {describe.few(where)}" if where else ""
        found = after
    port.loose = max(port.loose, SINGLE if attempt.single else 0.0)
    rest = describe.rest(port, found, port.loose)
    if rest and (added := penalty(port, found)) is not None:
        rest[0].cause, rest[0].row = added
        rest[0].remedy = "port: no regularizer; L2(c / 2) is PyTorch's weight_decay=c, of an optimizer that couples it"
    if found.agrees and rest:  # gradients of parameters alone
        name = rest[0].original.removeprefix("parameter ")

        def agrees(after: Any) -> bool:
            return len(describe.parameters(port, after)) < len(rest)

        if said := copies(port, found, name):
            rest[0].cause = said
            readers = [o.name for o in original.operations if any(original.values[v].name == name for v in o.inputs)]
            rest[0].row, rest[0].remedy = "L25" if "prelu" in readers else "", "port: one variable, shared_axes"
        elif (step := attempt.parameter(name, agrees)) is not None:
            named(rest[0], step[0])
            rest = [rest[0], *describe.parameters(port, step[1])]
    report.findings += rest
    return {place(original, number): edit for number, edit in attempt.edits.items()}, found.agrees and not rest


def named(finding: Finding, cause: Any) -> Finding:
    """The finding with its cause."""
    finding.cause, finding.row = cause.said(cause.mistake.says), cause.row
    finding.remedy = cause.said(cause.mistake.remedy)
    return finding


def place(recording: Recording, number: int) -> tuple[str, str, int]:
    """An operation's module and name, and how many like it came before: the same in every pass."""
    operation = recording.operations[number]
    like = [o for o in recording.operations[:number] if (o.where, o.name) == (operation.where, operation.name)]
    return operation.where, operation.name, len(like)


def training_mode(port: Any, edits: dict[tuple, Any]) -> bool:
    """A second pass in training mode, with what is known already; and what it leaves in moving averages."""
    try:
        first, other = port.record_original(training=True), port.record_port(training=True)
    except Exception as error:  # a model may raise anything for data that it does not train with
        port.report.uncompared.append(f"training mode, in which a model raises {type(error).__name__}: {error}")
        return True
    if first.same_as(port.original) and other.same_as(port.port):
        return True  # nothing in either model trains in another way than it predicts
    modes = {place(first, n): n for n in range(len(first.operations))}
    here = {modes[where]: edit for where, edit in edits.items() if where in modes}
    original = port.record_original(training=True, edits=here)
    recorder = port.latest
    floor.measure(original, lambda seed: port.record_original(training=True, edits=here, seed=seed))
    found = compare(original, other, loose=port.loose)
    describe.uncompared(port.report, original, other)
    if not found.agrees:
        known = len(port.report.findings)
        search(port, original, recorder, other, found, here, training=True)
        for finding in port.report.findings[known:]:
            finding.what += ", in training mode"
    averages(port, original, other)
    left_behind(port, original, other)
    return found.agrees


def averages(port: Any, original: Recording, other: Recording) -> None:
    """Moving averages after one pass in training mode: their momentum, and the variance that they are of."""
    variances = []
    for path, terms in port.terms.items():
        name = port.layout.owner(terms[0].flat[0])
        module = name.rpartition(".")[0]
        if not _is_average(original, name):
            continue
        readers = [o for o in original.operations if o.name == "batch_norm" and o.where == module]
        x = original.values[readers[0].inputs[0]].array
        start = port.flat[terms[0]]
        mine = port.layout.flat(original.after)[terms[0]] - start
        theirs, many = other.after[path] - start, x.size / x.shape[1]
        if _same(mine, theirs):
            continue
        weight = float(readers[0].settings.get("momentum", 0.1))
        statistic = mine / weight + start  # of the batch, the variance over n - 1
        biased = statistic * (many - 1) / many if "var" in name else statistic
        for kind in (statistic, biased):
            step = kind - start
            share = float(np.sum(step * theirs) / max(np.sum(step * step), 1e-300))
            if _same(share * step, theirs) and not np.isclose(share, weight, rtol=1e-6):
                said = f"the new batch's weight is {share:.4g} in the port: momentum={1 - share:.4g}"
                remedy = f"keras.layers.BatchNormalization(momentum={1 - weight:g})"
                finding = Finding("training", f"{module}: batch_norm", path, "", said, "L6", remedy)
                port.report.findings.append(finding)
                break
            if _same(share * step, theirs):
                variances.append(path)
                break
        else:
            said = "the port's moving average does not move" if not theirs.any() else ""
            port.report.findings.append(Finding("training", f"{module}: batch_norm", path, "", said))
    if variances:
        names = describe.few(variances)
        port.report.note(f"{names}: Keras keeps the variance over n, PyTorch over n - 1", "L6b")


def left_behind(port: Any, original: Recording, other: Recording) -> None:
    """What one pass in training mode leaves in other buffers, such as averages that a layer keeps by itself."""
    for path, terms in port.terms.items():
        name = port.layout.owner(terms[0].flat[0])
        if name in original.gradients or _is_average(original, name):
            continue
        start, mine = port.flat[terms[0]], port.layout.flat(original.after)[terms[0]]
        if not _same(mine - start, other.after[path] - start):
            size = describe.apart(mine, other.after[path], 1e-9 * scale(mine - start))
            port.report.findings.append(Finding("left by training mode", f"buffer {name}", path, size))


def _is_average(original: Recording, name: str) -> bool:
    module = name.rpartition(".")[0]
    return "running" in name and any(o.name == "batch_norm" and o.where == module for o in original.operations)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.max(np.abs(a - b), initial=0) <= 1e-9 * np.max(np.abs(a), initial=0) + 1e-14)


def trainings(port: Any) -> str:
    """Run both trainings from the same weights, and say where they part."""
    from portparity.trainings import courses as compared
    from portparity.trainings import runs
    from portparity.trainings.state import reached

    torch_step, keras_step, steps = port.trainings
    port.restore_weights()
    start = {path: variable.numpy().astype(np.float64) for path, variable in port.variables.items()}
    mine = runs.run_original(port.model, torch_step, steps, wide=True)
    theirs = runs.run_port(port.keras_model, keras_step, steps, wide=True, rounds=port.double)
    courses = compared.Courses(port, mine, theirs, start)
    courses.patience = next((t.patience for t in reached(torch_step) if hasattr(t, "num_bad_epochs")), 0)
    return parted(port, courses)


def parted(port: Any, courses: Any) -> str:
    """Where two trainings part; a finding for each cause."""
    mine, theirs, steps = courses.original, courses.other, len(courses.original)
    if (parting := courses.parting(courses.tight)) is None:
        return f"{steps} steps agree"
    step, path, size = parting
    found, names = [], (f"optimizer {mine[0].kind}", f"optimizer {theirs[0].kind}")
    if courses.seen:
        first = courses.first_gradient()
        if first is None or first:
            found = [(*cause, 1) for cause in first or [("", "", "")]]
    elif mine[0].used:
        courses.borrow_gradients(step)
    if not found and courses.paths and mine[0].used:
        if row := courses.float32_settings():
            port.report.note("the updates differ by the rounding of settings alone", row)
            if courses.parting(1e-3) is None:
                return f"{steps} steps agree but for rounding"
        else:
            each = (courses.update_rule() for _ in courses.of_each_optimizer() if not courses.float32_settings())
            found = [cause for causes in each for cause in causes]
    if not found and len(courses.terms[path]) == 2:
        said = "the port's one bias is the sum of PyTorch's two, which both move: twice the rate"
        found = [
            ("L17b", said, "double its gradient, or freeze one of the two: bias_hh_l0.requires_grad_(False)", step)
        ]
    if not found:
        if size < 1e-7:
            port.report.note(f"{path} is {size:.0e} of its movement apart after step {step}", "O2b")
            return f"{steps} steps agree but for rounding"
        found = [(*courses.later_gradient(step), step)]
    for row, said, remedy, wrong in found:
        where = f"first wrong step {wrong}; {path} is {size:.1e} of its movement apart after step {step}"
        sides = names if courses.seen or mine[0].used else (f"parameter {courses.owners[path]}", path)
        port.report.findings.append(Finding("training", *sides, where, said, row, remedy))
    return f"parts at step {found[0][3]} of {steps}"


def exercised(port: Any) -> None:
    """What the data did not try: an activation that never cut, a mask that masked nothing."""
    unseen = []
    for operation in port.original.operations:
        inputs = [port.original.values[v].array for v in operation.inputs]
        outputs = [port.original.values[v].array for v in operation.outputs]
        if operation.name in CUTS and inputs and inputs[0].dtype.kind == "f" and inputs[0].shape == outputs[0].shape:
            x, y = inputs[0], outputs[0]
            if np.array_equal(x, y):
                unseen.append(f"{operation} never cut")
            elif operation.name == "relu6" and np.max(x) <= 6:
                unseen.append(f"{operation} never reached its upper bound")
        if operation.name in ("masked_fill", "where") and len(inputs) > 1:
            masks = [x for x in inputs if x.dtype == bool and x.size]
            unseen += [f"{operation}: its mask is {m.flat[0]} everywhere" for m in masks if np.all(m == m.flat[0])]
        pad = operation.settings.get("padding_idx", "")
        if operation.name == "embedding" and pad.isdigit() and not any(np.any(x == int(pad)) for x in inputs[:1]):
            unseen.append(f"{operation}: no index is the padding's")
        if operation.name == "dropout" and operation.settings.get("p", "0") not in ("0", "0.0"):
            unseen += [] if "dropout's random masks" in unseen else ["dropout's random masks"]
    port.report.unseen = list(dict.fromkeys(unseen))


CUTS = {"relu", "relu6", "clamp", "hardtanh", "leaky_relu", "hardsigmoid", "hardswish", "threshold"}
