"""One-line messages: the error for unusable input, and text made short or printable."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

_MENTION = re.compile(r"\{(\w+)(?:=([^{}]*))?\}")
NOT_SHOWN = object()


class InputError(ValueError):
    """An argument that cannot be used: its ``name``, its ``value`` if that is short, and the ``problem``.

    The problem ends with the remedy, and mentions other arguments as ``{reg_covar}`` or ``{missing=em}``.
    `in_library` gives ``n_components=0 must be ...; set missing='em'``, which is also the error's text;
    `on_command_line` gives ``--components 0: must be ...; set --missing em``.
    """

    def __init__(self, name: str, problem: str, value: Any = NOT_SHOWN) -> None:
        self.name, self.problem, self.value = name, problem, value
        super().__init__(self.in_library())

    def in_library(self) -> str:
        """The message for a caller in Python: ``name=value problem``."""
        subject = self.name if self.value is NOT_SHOWN else f"{self.name}={self.value!r}"
        return f"{subject} {_MENTION.sub(_as_argument, self.problem)}"

    def on_command_line(self, flags: dict[str, str], values: dict[str, Any]) -> str:
        """The message for a command line: ``--flag value: problem``.

        ``flags`` maps arguments to flags of another name; ``values`` has the values of all options.
        """
        option = flags.get(self.name, self.name)
        value = values.get(option) if self.value is NOT_SHOWN else self.value
        subject = flag(option) if value is None or value is True else f"{flag(option)} {reason(str(value))}"
        problem = _MENTION.sub(lambda mention: _as_flag(mention, flags), self.problem)
        return f"{subject}: {problem}"


def _as_argument(mention: re.Match) -> str:
    name, value = mention.groups()
    return name if value is None else f"{name}={value!r}"


def _as_flag(mention: re.Match, flags: dict[str, str]) -> str:
    name, value = mention.groups()
    return flag(flags.get(name, name)) + ("" if value is None else f" {value}")


def require(valid: Any, name: str, problem: str, value: Any = NOT_SHOWN) -> None:
    """Raise the `InputError` unless the argument is ``valid``."""
    if not valid:
        raise InputError(name, problem, value)


def flag(option: str) -> str:
    """The command-line flag of an option."""
    return "--" + option.replace("_", "-")


def reason(error: BaseException | str) -> str:
    """The message of an error, or text from a file, as one printable line of at most 200 characters or so."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def short(text: str) -> str:
    """The same as `reason`, in at most 60 characters."""
    text = reason(text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def nearest(word: str, words: Iterable[str]) -> str:
    """``; did you mean ...?`` with the most similar of the ``words``; empty if none is similar."""
    by_key = {_key(each): each for each in words}
    found = difflib.get_close_matches(_key(word[:200]), by_key, n=1)
    return f"; did you mean {short(by_key[found[0]])}?" if found else ""


def _key(word: str) -> str:
    return word.lower().strip("-").replace("_", "-")
