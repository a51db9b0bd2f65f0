"""A line under every slow notebook cell: the seconds since it began, and the function that is running."""

import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent


class Progress:
    """Writes a line below each cell of the IPython shell that takes longer than ``every`` seconds."""

    def __init__(self, shell: Any, every: float = 5.0) -> None:
        self.every, self.main = every, threading.get_ident()
        shell.events.register("pre_run_cell", self.begin)
        shell.events.register("post_run_cell", lambda *_: self.ended.set())
        self.begin()  # for the current cell

    def begin(self, *_: Any) -> None:
        """Begin to watch a cell."""
        self.ended = threading.Event()
        threading.Thread(target=self._report, args=(self.ended,), daemon=True).start()

    def _report(self, ended: threading.Event) -> None:
        seconds = 0.0
        while not ended.wait(self.every):
            seconds += self.every
            print(f"\r{seconds:.0f} s{_place(self.main)}", end="", file=sys.stderr, flush=True)
        if seconds:
            print(file=sys.stderr, flush=True)


def _place(thread: int) -> str:
    # the innermost function of this project that the thread is running
    frame = sys._current_frames().get(thread)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and ".venv" not in path.parts:
            return f", in {path.stem}.{frame.f_code.co_name}".ljust(40)
        frame = frame.f_back
    return ""
