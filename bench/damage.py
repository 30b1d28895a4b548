"""Ways to damage a file: flipped bits, wrong lengths, misplaced pieces, false numbers in headers, odd tokens in text."""

import re

import numpy as np

__all__ = ["WAYS", "damaged"]

_NUMBERS = (0, 1, -1, 2, 127, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1)
_TOKEN = re.compile(rb'-?\d+(?:\.\d+)?|"[^"\n]{0,60}"|true|false|null')
_TOKENS = (
    b"-1", b"0", b"1.5", b"1e999", b"NaN", b"null", b"true", b"[]", b"{}", b'""', b'"\\ud800"', b'"\\u0000"', b"'",
    b"18446744073709551616", b"9" * 5000, b'"' + b"A" * 2000 + b'"', b"[" * 60_000, b'{"a":' * 20_000, b"(" * 300, b"\xff\xfe",
)  # fmt: skip


def _place(generator, size):
    """In half of the cases near the beginning or the end, where headers and footers are."""
    if generator.random() < 0.5:
        near = int(generator.integers(0, min(size, 512)))
        return near if generator.random() < 0.5 else size - 1 - near
    return int(generator.integers(0, size))


def _piece(generator, size):
    start = _place(generator, size)
    return start, min(size, start + int(generator.integers(1, max(2, min(size, 600)))))


def flip(content, generator):
    for _ in range(int(generator.integers(1, 4))):
        content[_place(generator, len(content))] ^= 1 << int(generator.integers(0, 8))
    return content


def truncate(content, generator):
    return content[: _place(generator, len(content))]


def cut_beginning(content, generator):
    return content[_place(generator, len(content)) :]


def lose(content, generator):
    start, stop = _piece(generator, len(content))
    del content[start:stop]
    return content


def zero(content, generator):
    start, stop = _piece(generator, len(content))
    content[start:stop] = bytes(stop - start)
    return content


def scramble(content, generator):
    start, stop = _piece(generator, len(content))
    content[start:stop] = generator.bytes(stop - start)
    return content


def duplicate(content, generator):
    start, stop = _piece(generator, len(content))
    at = _place(generator, len(content))
    content[at:at] = content[start:stop]
    return content


def splice(content, generator):
    start, stop = _piece(generator, len(content))
    at = _place(generator, len(content))
    content[at : at + stop - start] = content[start:stop]
    return content


def append(content, generator):
    return content + (content if generator.random() < 0.3 else bytearray(generator.bytes(int(generator.integers(1, 300)))))


def lie(content, generator):
    """Overwrites a number of 1, 2, 4 or 8 bytes, in either byte order."""
    width = int(generator.choice([1, 2, 4, 8]))
    number = int(generator.choice(_NUMBERS)) % 2 ** (8 * width)
    at = _place(generator, len(content))
    content[at : at + width] = number.to_bytes(width, "little" if generator.random() < 0.7 else "big")
    return content


def edit(content, generator):
    """Replaces a token in a text, or in the text of a header."""
    found = list(_TOKEN.finditer(bytes(content)))
    if not found:
        return lie(content, generator)
    token = found[int(generator.integers(0, len(found)))]
    content[token.start() : token.end()] = _TOKENS[int(generator.integers(0, len(_TOKENS)))]
    return content


WAYS = (flip, truncate, cut_beginning, lose, zero, scramble, duplicate, splice, append, lie, edit)


def damaged(content: bytes, generator: np.random.Generator) -> bytes:
    """The content, damaged in one way or occasionally in several."""
    found = bytearray(content)
    for _ in range(1 if generator.random() < 0.8 else int(generator.integers(2, 5))):
        if found:
            found = WAYS[int(generator.integers(0, len(WAYS)))](found, generator)
    return bytes(found)
