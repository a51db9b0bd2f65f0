"""A line under every notebook cell that takes long: for how long it has been at work, and where it is."""

import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent


def show_progress(shell: Any, every: float = 5.0) -> None:
    """From now on, write a line below each of the IPython shell's cells that takes longer than ``every`` seconds."""
    ended = threading.Event()
    main = threading.get_ident()

    def report(ended: threading.Event) -> None:
        seconds = 0.0
        while not ended.wait(every):
            seconds += every
            print(f"\r{seconds:.0f} s{_place(main)}", end="", file=sys.stderr, flush=True)
        if seconds:
            print(file=sys.stderr, flush=True)

    def begin(*_: Any) -> None:
        nonlocal ended
        ended = threading.Event()
        threading.Thread(target=report, args=(ended,), daemon=True).start()

    shell.events.register("pre_run_cell", begin)
    shell.events.register("post_run_cell", lambda *_: ended.set())
    begin()  # for the cell that called


def _place(thread: int) -> str:
    # the function of this project that the thread is in, the innermost
    frame = sys._current_frames().get(thread)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and ".venv" not in path.parts:
            return f", in {path.stem}.{frame.f_code.co_name}".ljust(40)
        frame = frame.f_back
    return ""
