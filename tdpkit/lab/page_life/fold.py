"""How a story is told: a step for each thing, and one step for work that goes page after page as before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K

from ..words import count_of
from .view import View, Watch
from .words import GUEST, KVM, Names, Said

_SINGLE = 3
"""On the toy so many pages in a row that go as the one before have a step each; more are folded."""
AGAIN = "again"
"""Begins the title of a step that tells of work as before."""
IN_HAND = "pages in hand"
"""A vCPU has some left from the fault before, or has not: no difference worth another telling."""


class Step(NamedTuple):
    """One step, and how things stood after it."""

    act: str
    said: Said
    focus: tuple[int, int] | None
    """The frames of the entry that changes, or that it is about."""
    view: View
    calls: int
    """Length of the module's log."""
    pages: int = 1
    """Pieces of work that this step stands for."""


class Kind(NamedTuple):
    """A kind of work that comes page after page: who does it, the kernel's function, what is done to each,
    and the part of the picture that changes.
    """

    actor: str
    function: str
    how: str
    part: str


KINDS = {
    "zap": Kind(KVM, "tdp_mmu_zap_leafs", "zapped in the mirror, BLOCK, TRACK, kick, REMOVE, WBINVD", "sept"),
    "zap shared": Kind(KVM, "tdp_mmu_zap_leafs", "zapped in the direct tree", "direct"),
    "accept": Kind(GUEST, "", "touched, PENDING, accepted", "sept"),
    "read": Kind(GUEST, "", "the guest reads it", "finds"),
    "read shared": Kind(GUEST, "", "the guest reads userspace’s bytes", "finds"),
}


class _Run(NamedTuple):
    """Pieces of work in a row, from frame `start` to `end`, that are not told one by one."""

    key: tuple[object, ...]
    start: int
    end: int
    pages: int


class Teller:
    """Keeps the steps. Where pages are many (not the toy), known work is not even looked at: one view of it,
    at its end.
    """

    def __init__(self, watch: Watch, names: Names) -> None:
        self.watch, self.names = watch, names
        self.steps: list[Step] = []
        self.act = ""
        self._single = _SINGLE if names.toy else 0
        self._unit: tuple[int, _Run] | None = None
        self._told: dict[tuple[object, ...], set[tuple[str, ...]]] = {}
        self._run: _Run | None = None

    @property
    def silent(self) -> bool:
        """What happens now is not told: it goes as before."""
        return self._run is not None

    def say(self, said: Said, focus: tuple[int, int] | None = None, **view: Any) -> None:
        """A step, unless it is among those that are not told. view: what to show otherwise than it is now."""
        if not self.silent:
            shown = self.watch.view()._replace(**view)
            self.steps.append(Step(self.act, said, focus, shown, len(self.watch.td.module.log)))

    def amend(self, said: Said) -> None:
        """What the last step told of goes on: one step for both."""
        if not self.silent:
            last = self.steps.pop()
            self.say(said, last.focus)

    @contextmanager
    def unit(self, key: tuple[object, ...], start: int, end: int) -> Iterator[None]:
        """What happens inside is one piece of work, on frames [start, end)."""
        self.begin(key, start, end)
        yield
        if self._unit:
            self._end_unit()

    def begin(self, key: tuple[object, ...], start: int, end: int) -> None:
        """A piece of work begins. key: its kind (of KINDS), then what else makes pieces of work alike."""
        full = (self.act, *key)
        if self._run and self._run.key == full and self._run.end == start:
            self._run = self._run._replace(end=end, pages=self._run.pages + 1)
            return
        self.close()
        run = _Run(full, start, end, 1)
        if full in self._told and not self._single:
            self._run = run
        else:
            self._unit = len(self.steps), run

    def close(self) -> None:
        """The piece of work, or the run of pieces that are not told, is over."""
        if self._unit:
            self._end_unit()
        if self._run:
            run, self._run = self._run, None
            self._fold(run)

    def _end_unit(self) -> None:
        assert self._unit is not None
        (first, run), self._unit = self._unit, None
        titles = tuple(step.said.title for step in self.steps[first:] if step.said.title != IN_HAND)
        # On the toy what was told is compared step by step, so the kind alone is enough.
        told = self._told.setdefault(run.key[:2] if self._single else run.key, set())
        if self._single and any(_is_part(titles, before) for before in told):
            del self.steps[first:]
            before = self.steps[-1].focus
            if before and before[1] == run.start and self._had_enough(run):
                last = self.steps.pop()
                run = run._replace(start=before[0], pages=last.pages + 1)
            self._fold(run)
        else:
            told.add(titles)

    def _had_enough(self, run: _Run) -> bool:
        """So many single steps of this kind came just before that this piece joins the last of them."""
        title = _again(run)
        before = self.steps[-self._single :]
        return all(step.act == self.act and step.said.title == title for step in before)

    def _fold(self, run: _Run) -> None:
        kind, names = KINDS[str(run.key[1])], self.names
        if run.pages == 1:
            level = PG_LEVEL_4K if run.end - run.start == 1 else PG_LEVEL_2M
            which = names.leaf(run.start, level)
            sentence = f"{which[0].upper()}{which[1:]} goes the same way: {kind.how}."
        else:
            where = names.span(run.start, run.end)
            sentence = f"{count_of(run.pages, 'more page')} in {where} go the same way: {kind.how}."
        if lost := self._lost_since():
            sentence += f" {count_of(lost, 'frame')} outside the range: lost."
        said = Said(kind.actor, _again(run), sentence, kind.function, kind.part)
        self.say(said, (run.start, run.end))
        self.steps[-1] = self.steps[-1]._replace(pages=run.pages)

    def _lost_since(self) -> int:
        """Frames lost since the last step that is told."""
        return self.watch.view().lost - (self.steps[-1].view.lost if self.steps else 0)


def _again(run: _Run) -> str:
    return f"{AGAIN}: {run.key[1]}"


def _is_part(titles: tuple[str, ...], told: tuple[str, ...]) -> bool:
    """The same steps in the same order, but for some that are not needed again, such as a table."""
    rest = iter(told)
    return all(title in rest for title in titles)
