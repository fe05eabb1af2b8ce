"""Text from outside (names of files and tensors, metadata, answers of servers) as it may be shown."""

import unicodedata

# Control characters, ends of lines, halves of surrogate pairs (bytes of names that are no UTF-8).
_UNSEEN = ("Cc", "Zl", "Zp", "Cs")
_TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # text around


def printable(text: str) -> str:
    r"""One line in which nothing moves the cursor, changes colours, turns around or forges a second line.

    Such characters are shown as Python writes them: `\x1b`, `\n`, `\u202e`, `\udcff`.
    """
    if text.isascii() and text.isprintable():
        return text

    def shown(character: str) -> str:
        unseen = character in _TURNING or unicodedata.category(character) in _UNSEEN
        return character.encode("unicode_escape").decode() if unseen else character

    return "".join(map(shown, text))
