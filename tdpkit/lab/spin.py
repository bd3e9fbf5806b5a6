"""A call that may never return: run it for so many visits, and see what it does again and again."""

from __future__ import annotations

from contextlib import closing
from typing import Any, NamedTuple, SupportsIndex

from tdpkit.engine.events import Coroutine, Visit, World
from tdpkit.engine.gfn import check_gfn

from .words import count_of


class Spin(NamedTuple):
    """What a call did until it returned or was stopped."""

    lines: tuple[str, ...]
    """Its events."""
    visits: int
    """How many of them are visits."""
    stopped: bool
    returned: Any
    """None if it was stopped."""

    @property
    def round(self) -> tuple[str, ...]:
        """The fewest events at the end that came twice in a row; empty if none did."""
        lines = self.lines
        lengths = range(1, len(lines) // 2 + 1)
        return next((lines[-n:] for n in lengths if lines[-n:] == lines[-2 * n : -n]), ())

    @property
    def rounds(self) -> int:
        """How often these events came in a row."""
        again, lines, count = self.round, self.lines, 0
        while again and lines[-len(again) :] == again:
            lines, count = lines[: -len(again)], count + 1
        return count

    def __repr__(self) -> str:
        end = "stopped" if self.stopped else f"returned {self.returned}"
        events, visits = count_of(len(self.lines), "event"), count_of(self.visits, "visit")
        said = [f"{visits}, {events} in all, then {end}"]
        if self.rounds:
            said.append(f"at the end the same {count_of(len(self.round), 'event')}, {self.rounds} times:")
            said += [f"  {line}" for line in self.round]
        return "\n".join(said)


def run_visits(visits: SupportsIndex, coroutine: Coroutine[Any], world: World) -> Spin:
    """Run `coroutine` in `world`, and stop it when it comes to one visit more than `visits`.

    Between visits no entry is half changed. A call that makes no more visits is not stopped. Raises
    InvalidValueError for a negative number.
    """
    most, made, answer = check_gfn(visits, "a number of visits"), 0, None
    lines: list[str] = []
    with closing(coroutine):
        while True:
            try:
                event = coroutine.send(answer)
            except StopIteration as stop:
                return Spin(tuple(lines), made, False, stop.value)
            if isinstance(event, Visit):
                if made == most:
                    return Spin(tuple(lines), made, True, None)
                made += 1
            lines.append(str(event))
            answer = world.answer(event)
