"""What the walk stepper's controls say about a call, and the call recorded from it."""

from __future__ import annotations

from typing import Any, NamedTuple

from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError, parse_gfn
from tdpkit.lab.layouts import Layout
from tdpkit.lab.split_call import SplitCall
from tdpkit.lab.worlds import Faults

from ..exhibit import as_frame, check_flag


class Opening(NamedTuple):
    """A layout of tdpkit.lab.layouts.LAYOUTS in the menu: its name, its opening range, its unit."""

    title: str
    start: str
    end: str
    unit_level: int


OPENINGS = {
    "steps": Opening("toy of 64 frames, leaves of three sizes", "6", "34", 1),
    "large": Opening("toy of 64 frames, four large leaves", "1", "35", 1),
    "toy": Opening("toy of 32 frames, two levels", "5", "12", 1),
    "one-1G": Opening("x86: one 1G leaf, Kai's [1G+1M, 2G)", "1G+1M", "2G", 2),
    "two-1G": Opening("x86: two 1G leaves, 8 KiB across both", "2G-4K", "2G+4K", 1),
    "mixed": Opening("x86: 4 GiB of mixed leaves", "6M+12K", "3G+513M", 2),
}
"""Openings by layout; source of the 1G+1M range: the review thread, M10."""


class Setup(NamedTuple):
    """What the controls say about the call."""

    layout: str | Layout
    start: int
    end: int
    unit_level: int
    only_cross_boundary: bool = True
    target_level: int = 1
    shared: bool = True
    refuse_page: int = 0
    resched_at: int = 0
    race: str = "none"
    race_at: int = 1


def opening_of(layout: str | Layout) -> Setup:
    """How a layout opens: a named one in its own range, another on all of its frames.

    Raises InvalidValueError for an unknown name.
    """
    if isinstance(layout, Layout):
        return Setup(layout, 0, layout.frames, 1)
    if layout not in [*OPENINGS]:
        raise InvalidValueError(f"a layout is one of {', '.join(OPENINGS)}; {layout!r} is none")
    _, start, end, unit_level = OPENINGS[layout]
    return Setup(layout, parse_gfn(start), parse_gfn(end), unit_level)


def changed(setup: Setup, change: dict[str, Any]) -> Setup:
    """`setup` with the fields of `change`; start and end may be text.

    Raises InvalidTypeError for a field that there is none of and for a switch that is neither on nor off,
    InvalidValueError for text that is no address.
    """
    for name in change:
        if name not in Setup._fields:
            raise InvalidTypeError(f"a call has {', '.join(Setup._fields)}; it has no {name!r}")
    for name in ("only_cross_boundary", "shared"):
        check_flag(change.get(name, True), name)
    setup = setup._replace(**change)
    return setup._replace(start=as_frame(setup.start), end=as_frame(setup.end))


def record_call(setup: Setup) -> SplitCall:
    """The call, recorded; raises as :class:`~tdpkit.lab.split_call.SplitCall` does."""
    faults = Faults(
        refuse_page=setup.refuse_page,
        resched_at=setup.resched_at,
        race=setup.race,
        race_at=setup.race_at if setup.race != "none" else 0,
    )
    return SplitCall(
        setup.layout,
        setup.start,
        setup.end,
        target_level=setup.target_level,
        only_cross_boundary=setup.only_cross_boundary,
        shared=setup.shared,
        faults=faults,
    )
