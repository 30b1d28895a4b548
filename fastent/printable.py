"""Text from outside (labels, names, paths) made fit to print: nothing in it moves a cursor, colours, hides or reorders text."""

import re
import unicodedata
from typing import Any

__all__ = ["first_line", "in_queries", "natural_key", "printable", "shortened", "storable"]

# Joiners between letters, and within emoji: text is not the same without them.
_JOINERS = "\u200c\u200d"
# Control characters, what orders or hides text, halves of characters, ends of lines and paragraphs.
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_LONGEST_LINE = 200


def printable(text: Any, *, keep: str = "") -> str:
    """The text with what cannot be seen as escapes such as \\x1b or \\u202e, but for the characters to `keep`."""
    text = str(text)
    return text if text.isprintable() else "".join(_seen(character, keep) for character in text)


def shortened(text: str, most: int) -> str:
    """At most so many characters, those left out in the middle: what a message says last is what to do."""
    if len(text) <= most:
        return text
    start = (most - 1) * 2 // 3
    return f"{text[:start]}\u2026{text[len(text) - (most - 1 - start) :]}"


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sorts names in the order that people expect: step2 before step10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.findall(r"\d+|\D+", text)]


def in_queries(count: int) -> str:
    """How many queries there are, in words: "1 query", "2,000 queries"."""
    return f"{count:,} quer{'y' if count == 1 else 'ies'}"


def first_line(error: BaseException) -> str:
    """What an error says first, in one line that a terminal can show."""
    lines = str(error).strip().splitlines()
    return shortened(printable(lines[0]), _LONGEST_LINE) if lines else type(error).__name__


def storable(values: Any) -> Any:
    """An array for files of tables, whose text is UTF-8: halves of characters (surrogates) as escapes, all else as it is."""
    import numpy as np

    if values.dtype.kind != "U" or not values.size or not values.dtype.itemsize:
        return values
    code_points = np.ascontiguousarray(values, values.dtype.newbyteorder("=")).view(np.uint32)
    if not ((code_points >= 0xD800) & (code_points < 0xE000)).any():
        return values
    return np.array([str(text).encode("utf-8", "backslashreplace").decode() for text in values], str)


def _seen(character: str, keep: str) -> str:
    if character in _JOINERS or character in keep or unicodedata.category(character) not in _UNSEEN:
        return character
    return character.encode("unicode_escape").decode()
