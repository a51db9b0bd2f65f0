"""The terminal: command lines that answer in one line, and libraries that keep quiet."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from common.data.messages import nearest, reason


class Parser(argparse.ArgumentParser):
    """An argparse parser that answers a mistake with one line and exit code 2, and suggests the nearest flag."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **arguments)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> argparse.Namespace:
        """Return the arguments; exit code 2 if one is unknown."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
            meant = nearest(unknown[0].partition("=")[0], flags) if unknown[0].startswith("-") else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        return parsed

    def error(self, message: str) -> NoReturn:
        """Print the message and end with exit code 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def chosen_from(value: str, choices: Sequence[str]) -> str:
    """Return ``value``, for argparse; the error for a value that is not a choice suggests the nearest one."""
    if value not in choices:
        raise argparse.ArgumentTypeError(
            f"invalid choice: {reason(value)!r} (choose from {', '.join(choices)}){nearest(value, choices)}"
        )
    return value


def help_shown(argv: Sequence[str], text: str) -> bool:
    """Print the text if --help was given, and return whether it was. For scripts that have no other flag."""
    if asked := not {"-h", "--help"}.isdisjoint(argv):
        print(text.strip())
    return asked


def are_words(argv: Sequence[str], number: int) -> bool:
    """Whether there are ``number`` arguments and none is a flag."""
    return len(argv) == number and not any(word.startswith("-") for word in argv)


@contextlib.contextmanager
def without_native_stderr() -> Iterator[None]:
    """Drop what is written to file descriptor 2, if it is open: TensorFlow's libraries write there on every start."""
    if sys.stderr is None:
        yield
        return
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
