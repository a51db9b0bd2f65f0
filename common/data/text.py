"""Text for messages of one line: shortened, printable, and the word that was probably meant."""

import difflib
from collections.abc import Iterable


def reason(error: BaseException | str) -> str:
    """The message of an error, or any text out of a file, in one line of bounded length."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def short(text: str) -> str:
    """The same in at most 60 characters."""
    text = reason(text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def nearest(word: str, words: Iterable[str]) -> str:
    """``; did you mean ...?`` with the word that is most like ``word``, if one is; else nothing."""
    by_key = {_key(each): each for each in words}
    found = difflib.get_close_matches(_key(word[:200]), by_key, n=1)
    return f"; did you mean {short(by_key[found[0]])}?" if found else ""


def _key(word: str) -> str:
    return word.lower().strip("-").replace("_", "-")
