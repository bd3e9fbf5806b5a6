"""Numbers, lists and names in sentences, and one form of table for all of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from tdpkit.engine.gfn import (
    PG_LEVEL_4K,
    Geometry,
    InvalidTypeError,
    InvalidValueError,
    format_gfn,
)


def group_digits(number: int) -> str:
    """6303771 as ``6 303 771``."""
    return f"{number:,}".replace(",", " ")


def noun_for(number: int, noun: str, plural: str = "") -> str:
    """`noun` as it stands after `number`; `plural` where it is not the noun with an s."""
    return noun if number == 1 else plural or noun + "s"


def count_of(number: int, noun: str, plural: str = "") -> str:
    """``1 frame``, ``2 frames``, ``6 303 771 frames``; `plural` where it is not the noun with an s."""
    return f"{group_digits(number)} {noun_for(number, noun, plural)}"


def listed(words: Iterable[str], last: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``; `last` is the word before the last of them."""
    *before, final = [*words] or [""]
    return f"{', '.join(before)} {last} {final}" if before else final


def capital(text: str) -> str:
    """`text` with its first letter in upper case, the rest as it is."""
    return text[:1].upper() + text[1:]


def printable(text: str) -> str:
    """`text` without what a terminal would take for a command, or a picture could not hold."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def known_name(name: str, names: Iterable[str], what: str) -> str:
    """`name`, if it is one of `names`; `what` is its kind with an article, such as "a layout".

    Raises InvalidValueError for any other value, of whatever type, and lists the names, in quotes if one of
    them has a comma in it.
    """
    if name in (known := [*names]):
        return name
    shown = map(repr, known) if any("," in one for one in known) else known
    raise InvalidValueError(f"{what} is one of {', '.join(shown)}; {name!r} is none")


def check_flag(value: bool, name: str) -> bool:
    """Return `value` if it is True or False (else InvalidTypeError): a switch has no third position."""
    if isinstance(value, bool):
        return value
    raise InvalidTypeError(f"{name} is True or False; {value!r} is neither")


_WORDS = re.compile(r"\S*\[[\w+]+, [\w+]+\)\S*|(?<!\S)\S?\d{1,3}(?: \d{3})+(?!\d)\S*|\S+")


def words_of(text: str) -> list[str]:
    """The words of `text`; a range such as ``[4K, 8K)`` is one, and so is a number such as ``6 303 771``."""
    return _WORDS.findall(text)


def kept_together(text: str) -> str:
    """`text` with no-break spaces inside its words, for a page that breaks lines itself."""
    return " ".join(word.replace(" ", "\N{NO-BREAK SPACE}") for word in words_of(text))


def lines_of(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` characters; a longer word has a line of its own."""
    lines: list[str] = []
    for word in words_of(text):
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


class Names:
    """Frames and leaves in words: numbers on the toy, addresses on x86."""

    def __init__(self, geometry: Geometry, toy: bool) -> None:
        self.geometry = geometry
        self.toy = toy

    def frame(self, gfn: int) -> str:
        """A frame's number or address."""
        return str(gfn) if self.toy else format_gfn(gfn)

    def span(self, start: int, end: int) -> str:
        """Write a range as its first frame and the one after its last."""
        return f"[{self.frame(start)}, {self.frame(end)})"

    def leaf(self, gfn: int, level: int) -> str:
        """``page 5``, ``the 8-frame leaf at frame 0``."""
        if level == PG_LEVEL_4K:
            return f"page {self.frame(gfn)}" if self.toy else f"the page at {self.frame(gfn)}"
        if self.toy:
            return f"the {self.leaves_of(level)} at frame {gfn}"
        return f"the {self.leaves_of(level)} at {self.frame(gfn)}"

    def size(self, pages: int) -> str:
        """So many frames: counted on the toy, in bytes on x86."""
        return count_of(pages, "frame") if self.toy else format_gfn(pages)

    def leaves_of(self, level: int) -> str:
        """What a leaf of this level is called: ``8-frame leaf``, ``2M leaf``."""
        size = f"{self.geometry.pages(level)}-frame" if self.toy else self.geometry.level(level).label
        return f"{size} leaf"


def text_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table for a terminal: the column heads, a rule, the lines, each column as wide as it must be."""
    width = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{size}}" for cell, size in zip(line, width, strict=True)).rstrip()
        for line in (head, ["-" * size for size in width], *lines)
    )


Cell = str | Sequence[str]
"""A cell of a table: a text, or lines below each other."""


def html_table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    current: int | None = None,
) -> str:
    """A table with a caption, column heads (none if `head` is empty) and rows, each with its name first.

    caption, head, cells: plain text, escaped here. current: the number of the row that is marked as the
    present step. A screen reader is told which head a cell belongs to (scope).
    """
    heads = "".join(f'<th scope="col" style="text-align:left">{escape(name)}</th>' for name in head)
    body = "".join(_row(row, number == current) for number, row in enumerate(rows))
    return (
        f"<table><caption>{escape(caption)}</caption>"
        f"{f'<thead><tr>{heads}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>"
    )


def _row(cells: Sequence[Cell], current: bool) -> str:
    mark = ' aria-current="step" style="font-weight:bold"' if current else ""
    first, *others = map(_cell, cells)
    data = "".join(f'<td style="text-align:left;padding-right:12px">{cell}</td>' for cell in others)
    return f'<tr{mark}><th scope="row" style="text-align:left">{first}</th>{data}</tr>'


def _cell(cell: Cell) -> str:
    return escape(cell) if isinstance(cell, str) else "<br/>".join(map(escape, cell))
