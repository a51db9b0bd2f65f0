"""Command lines that answer in one line: what is wrong with them, and what was probably meant."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from common.data.messages import nearest, reason


class Parser(argparse.ArgumentParser):
    """argparse's, but a mistake is one line on stderr and exit code 2, and a misspelt flag gets a suggestion."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **arguments)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> argparse.Namespace:
        """The arguments; exit code 2 if one is unknown."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
            meant = nearest(unknown[0].partition("=")[0], flags) if unknown[0].startswith("-") else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        return parsed

    def error(self, message: str) -> NoReturn:
        """Print the message and end with exit code 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def choice(choices: Sequence[str]) -> Callable[[str], str]:
    """A type for argparse: one of the choices; the error for any other value suggests the nearest."""

    def chosen(value: str) -> str:
        if value not in choices:
            raise argparse.ArgumentTypeError(
                f"invalid choice: {reason(value)!r} (choose from {', '.join(choices)}){nearest(value, choices)}"
            )
        return value

    return chosen


def help_shown(argv: Sequence[str], text: str) -> bool:
    """Whether --help was given; if so, prints the text. For scripts that have no other flag."""
    if asked := not {"-h", "--help"}.isdisjoint(argv):
        print(text.strip())
    return asked


def are_words(argv: Sequence[str], number: int) -> bool:
    """Whether there are ``number`` arguments and none is a flag."""
    return len(argv) == number and not any(word.startswith("-") for word in argv)
