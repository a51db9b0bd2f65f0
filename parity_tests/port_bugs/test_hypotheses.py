"""Each cause that cites a row of the catalogue is the row's own difference: shown on the row's own numbers."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from parity_tests.divergences import ENTRIES
from parity_tests.divergences.catalogue import Entry, untouched_settings
from portparity import Port
from portparity.causes.calls import Call, Mistake
from portparity.causes.effects import WRONG
from portparity.causes.known import MISTAKES
from portparity.records.floor import scale
from portparity.records.match import reordering
from portparity.records.torch_functions import tensors
from portparity.records.torch_record import Recorder

BY_ROW = {entry.row: entry for entry in ENTRIES}
# rows whose entry computes both sides with their defaults; the others count entries, start from draws, or train
SHOWN = "L4 L5 L6c L7 L8 L9b L10 L12 L17 L18 L18b L20 L22 L23 L23b L27 L28 S1 S2c S3 S3c S4 S6 S7 S8 G18 T2 T4"


def arrays(value: Any) -> Iterator[np.ndarray]:
    """What an entry returns, as arrays."""
    for part in value if isinstance(value, tuple | list) else [value]:
        yield np.asarray(part.detach() if isinstance(part, torch.Tensor) else part, np.float64)


def edits(mistake: Mistake, call: Call, row: str) -> Iterator[np.ndarray]:
    """What a call gives with the mistakes that cite a row."""
    if not (call.name in mistake.on or "*" in mistake.on):
        return
    try:
        changes = list(mistake.changes(call))
    except WRONG:
        return
    for _, change, *cited in changes:
        if (cited or [mistake.row])[0] == row:
            try:
                yield from (t.detach().double().numpy() for t in tensors(change(call)))
            except WRONG:
                continue


def proven(entry: Entry) -> bool:
    """Whether an edit of one of PyTorch's calls, with the row's mistake, gives what the other framework gives."""
    recorder = Recorder({}, {}, None, False)
    with untouched_settings():
        with recorder:
            values = entry.function(**{"dtype": "float64"} if len(entry.dtypes) > 1 else {})
        first, second = list(arrays(tuple(values)))[:2]
        for number, operation in enumerate(recorder.recording.operations):
            call = Call(operation.name, *recorder.calls[number], recorder, number)
            for mistake in MISTAKES:
                for made in edits(mistake, call, entry.row):
                    for ours, theirs in ((first, second), (second, first)):
                        own = recorder.recording.values[operation.outputs[0]].array
                        same = made.size == theirs.size and reordering(theirs, made, 1e-6 * scale(theirs))
                        if same and (own.size != ours.size or scale(ours) != scale(theirs) or np.any(own != made)):
                            return True
    return False


def test_rows_that_causes_cite_are_in_the_catalogue() -> None:
    assert {mistake.row for mistake in MISTAKES} - {""} <= BY_ROW.keys()


@pytest.mark.parametrize("row", SHOWN.split())
def test_a_cause_is_its_row(row: str) -> None:
    assert proven(BY_ROW[row])


@pytest.mark.parametrize(("row", "other"), [("L6c", "L7"), ("L17", "L18b"), ("T2", "T4"), ("L22", "L13")])
def test_another_rows_cause_is_not(row: str, other: str) -> None:
    assert not proven(replace(BY_ROW[row], row=other))


def test_six_mistakes_are_six_lines() -> None:
    """Two of them in one call: the sum for the mean, of labels that are not smoothed."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, 2, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 3))
    layers = keras.layers.Conv2D(3, 3, 2, padding="same"), keras.layers.BatchNormalization(epsilon=1e-3)
    port = keras.Sequential([keras.Input((8, 8, 2)), *layers, keras.layers.Flatten(), keras.layers.Dense(3)])
    summed = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    x, y = np.random.default_rng(0).normal(size=(5, 2, 8, 8)), np.arange(5) % 3
    report = Port(model, port, x, y, partial(F.cross_entropy, label_smoothing=0.2), summed).check()
    assert report.rows == ["L4", "L6c", "L3", "S3", "L6"], report
    assert report.findings[3].cause == "the port's label smoothing is 0"
