"""A run's measurements for TensorBoard: one events file in the run's folder, written from metrics.jsonl's rows.

``python -m pip install tensorboard``, then ``tensorboard --logdir build/runs`` shows all runs beside one another. The
package writes the records; neither framework is imported for it.
"""

import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

EVENTS = "events.out.tfevents.*"


class TensorBoardLog:
    """The events file of a run that began now; what an earlier run left in the folder is written anew."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        for old in folder.glob(EVENTS):
            old.unlink()
        self._began = time.time()
        name = EVENTS.replace("*", f"{int(self._began)}.{socket.gethostname()}.{os.getpid()}")
        self._writer = RecordWriter(open(folder / name, "wb"))  # noqa: SIM115 (open as long as the run)
        self._write(file_version="brain.Event:2")
        self._rows = 0

    def update(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of ``history`` that are not in the file yet: a scalar per number, at the row's step."""
        for row in history[self._rows :]:
            values = {name: value for name, value in row.items() if name not in ("step", "seconds")}
            self._write(row["step"], row["seconds"], [{"tag": k, "simple_value": v} for k, v in values.items()])
        self._rows = len(history)
        self._writer.flush()

    def picture(self, name: str, step: int, png: bytes) -> None:
        """Write a picture, so that it is shown beside the curves."""
        self._write(step, time.time() - self._began, [{"tag": name, "image": {"encoded_image_string": png}}])

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _write(self, step: int = 0, seconds: float = 0.0, values: Sequence[dict] = (), **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        if values:
            fields["summary"] = {"value": values}
        self._writer.write(Event(step=step, wall_time=self._began + seconds, **fields).SerializeToString())
