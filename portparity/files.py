"""Record each framework in its own process, and compare the two files."""

from typing import Any

from portparity import describe
from portparity.records import floor
from portparity.records.match import compare as compared
from portparity.records.recording import Recording
from portparity.report import Report


def record(model: Any, x: Any, y: Any = None, loss: Any = None, *, to: str) -> None:
    """Write one pass of a PyTorch or Keras model in float64, with gradients, to a file; the models hold equal weights.

    ``x`` and ``y`` are NumPy arrays as this framework has them; ``loss`` is called as this framework calls it.
    """
    if any(kind.__module__.partition(".")[0] == "torch" for kind in type(model).__mro__):
        from portparity.records import torch_record as framework
    else:
        from portparity.records import tensorflow_record as framework
    notes, restore = framework.halves(model), framework.promote(model)
    try:
        made = framework.record(model, x, y, loss)
        if isinstance(made, tuple):  # PyTorch's: the floor is measured where the original can be run again
            made = made[0]
            floor.measure(made, lambda seed: framework.record(model, x, y, loss, seed=seed)[0])
    finally:
        restore()
    made.notes += notes
    made.save(to)


def compare(original: str, port: str) -> Report:
    """The first difference of two files. Causes are not looked for: that needs the original itself."""
    first, second = Recording.load(original), Recording.load(port)
    report, found = Report(), compared(first, second)
    report.weights = "as they were when the files were written"
    report.agreement = describe.agreement(found)
    report.findings = [describe.first(found)] if found.missing or found.outputs else describe.backward(found)
    for finding in report.findings:
        finding.cause = "not looked for: Port(...).check() does, with both models in one process"
    describe.uncompared(report, first, second)
    report.uncompared.append("weights and their gradients, training mode, trainings: both models in one process do")
    return report
