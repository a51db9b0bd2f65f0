"""The terminal: command lines that answer in one line, and libraries that keep quiet."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from common.data.messages import nearest, reason


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line with exit code 2 and suggest the nearest flag."""

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


def command(name: str, text: str, run: Callable[..., int | None], words: Sequence[str], argv: Sequence[str]) -> int:
    """Run a script whose only flag is --help, which prints ``text``; return its exit code.

    ``run`` takes as many arguments as there are ``words``, which name them. If their number is wrong, or
    ``run`` raises ValueError or cannot write, one line goes to stderr and the exit code is 2.
    """
    if not {"-h", "--help"}.isdisjoint(argv):
        print(text.strip())
        return 0
    try:
        if len(argv) != len(words) or any(word.startswith("-") for word in argv):
            wanted = "name " + " and ".join(words) if words else "takes no arguments"
            raise ValueError(f"{' '.join(argv)!r}: {wanted}")
        return run(*argv) or 0
    except ValueError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
    except OSError as error:
        problem = f"cannot be written ({error.strerror}); choose another folder"
        print(f"{name}: error: {error.filename}: {problem}", file=sys.stderr)
    return 2


@contextlib.contextmanager
def without_native_stderr() -> Iterator[None]:
    """Drop what is written to file descriptor 2, where TensorFlow's libraries write on every start."""
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
