"""A kind of problem: how one is drawn, asked, answered, solved and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, Generic, NamedTuple, TypeVar

from tdpkit.engine.gfn import X86_4LEVEL, Geometry
from tdpkit.lab.words import Names

from ..checking import frame, items, refused

G = TypeVar("G")


class Kind(NamedTuple, Generic[G]):
    """One kind. All of its functions but `draw` see only what a problem gives, a `G`."""

    name: str
    draw: Callable[[Random, int], G]
    """Draw what a problem of a level (1 to 3) gives."""
    ask: Callable[[G], str]
    """The question in Markdown, without the form of the answer."""
    form: Callable[[G], str]
    """The form of the answer, a sentence."""
    right: Callable[[G], Any]
    hold: Callable[[G, Any], str]
    """Say why an answer is right; raises Wrong, with a counterexample, for any other."""
    work: Callable[[G], str]
    """The solution in Markdown, without its last line, which is the answer."""


def names_of(geometry: Geometry) -> Names:
    """Frames and leaves in words: numbers on a toy, addresses on x86."""
    return Names(geometry, toy=geometry.index_bits != X86_4LEVEL.index_bits)


def as_typed(geometry: Geometry, gfn: int) -> int | str:
    """A frame as one types it in an answer: its number on a toy, its address on x86."""
    name = names_of(geometry)
    return gfn if name.toy else name.frame(gfn)


def varied(chance: Random, draw: Callable[[], G], dull: Callable[[G], bool]) -> G:
    """One of the problems that `draw` makes, seldom a `dull` one; such as one whose answer is "none"."""
    given = draw()
    while dull(given) and chance.random() < 0.7:
        given = draw()
    return given


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; no cell holds a vertical bar."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def steps(lines: Iterable[str]) -> str:
    """A numbered list."""
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))


def listed_items(answer: Any, rule: str) -> list[Any]:
    """The items of an answer that is a list, a tuple, a set or an array; refused otherwise."""
    found = None if isinstance(answer, Mapping) else items(answer)
    if found is None:
        raise refused(rule, answer)
    return found


def frames_in(answer: Any, rule: str) -> set[int]:
    """The frames that an answer lists, as numbers or as addresses."""
    return {frame(item, "a frame") for item in listed_items(answer, rule)}
