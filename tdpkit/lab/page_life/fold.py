"""From what happened to what is told: :func:`fold` makes steps of facts.

Each thing becomes a step, told in words, with a view of how all stood after it; work that goes page after
page as before becomes one step. The function is pure: it looks at the facts and at nothing else.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from operator import or_
from typing import NamedTuple

from tdpkit.engine.events import Event, External, Flush, Lock, SetSpte, Trace, Unlock
from tdpkit.engine.gfn import Geometry, GfnRange
from tdpkit.tdx.abi import TDX_SUCCESS, Call

from ..words import Names
from . import words
from .record import Act, Deed, Fact, FrameWrite, Standing, Work, ZapRun, is_zap, level_and_state
from .words import AGAIN, GUESTS_DEEDS, IN_HAND, JOINED, Said

# ---- how things stand ------------------------------------------------------------------------------------


class MappedRun(NamedTuple):
    """`pages` frames from `gfn` on, under leaves of one level and state (of STATES) side by side."""

    gfn: int
    pages: int
    level: int
    state: str

    @property
    def end(self) -> int:
        """The first frame behind it."""
        return self.gfn + self.pages


class Finding(NamedTuple):
    """Frames [gfn, end) in which the guest finds one thing, in the half that the attributes name.

    kind: "own" (its bytes), "zeros" (accepted anew), "lost" (its bytes are gone, though it never gave the
    frame away; `state` says how far it has it back), "pending", "shared" (userspace's bytes), "none".
    """

    gfn: int
    end: int
    kind: str
    state: str


class LifeView(NamedTuple):
    """How things stood after one step."""

    private: tuple[tuple[int, int], ...]
    """The private frames, as the attributes have them: ranges [start, end)."""
    direct: tuple[MappedRun, ...]
    mirror: tuple[MappedRun, ...]
    sept: tuple[MappedRun, ...]
    finds: tuple[Finding, ...]
    bytes: tuple[str, ...]
    """Of a small TD: what the guest reads in each frame, in hex; ``··`` where it must ACCEPT first, ``--``
    where nothing is mapped."""
    td_epoch: int
    entered: tuple[tuple[int, int | None], ...]
    """vCPU and the epoch it entered in, None if it is outside."""
    lock: str
    """mmu_lock: "write", "read", or "" if it is not held by the one this story follows."""
    invalidating: tuple[int, int] | None
    """The range on which faults are retried."""
    seamcalls: int
    """Calls of the host, VP.ENTER and each WBINVD of a 4K page included; the guest's TDCALLs are not."""
    tables: int
    """Page-table pages under the mirror root, and the direct root, without the roots."""
    sept_pages: int
    """Pages that the TDX module was given for the S-EPT."""
    lost: int
    """Frames outside the range whose bytes are gone."""
    saved: int
    """Frames outside the range in leaves that were split."""


class LifeStep(NamedTuple):
    """One step, and how things stood after it."""

    act: str
    said: Said
    focus: tuple[int, int] | None
    """The frames of the entry that changes, or that it is about."""
    view: LifeView
    calls: int
    """Length of the module's log."""
    pages: int = 1
    """Pieces of work that this step stands for."""


_ALIKE = re.compile(b"|".join(b"%b+" % re.escape(bytes([code])) for code in range(256)), re.DOTALL)
"""Frames of one code side by side; a back reference would do, and take a step for each frame."""
_UNREAD = {"PENDING": "··"}
_MOVES_BYTES = ("TDH.MEM.PAGE.REMOVE", "TDG.MEM.PAGE.ACCEPT", "TDH.MEM.PAGE.DEMOTE")


class _Scene:
    """The TD, as far as the facts have led: each tree, and what is known of the guest's bytes, by the frame.

    span: the range that is converted, or punched out; whatever goes outside it is lost.
    """

    def __init__(self, geometry: Geometry, frames: int, span: GfnRange, standing: Standing) -> None:
        self.geometry = geometry
        self.span = span
        self.frames = frames
        self.standing = standing
        self.vcpus = sorted(standing.entered)
        self.last_epoch = dict(standing.entered)
        """vCPU, inside or not -> the epoch of its last entry."""
        self.held = {tree: bytearray(frames) for tree in ("direct", "mirror", "sept")}
        self.own, self.lost = bytearray(frames), bytearray(frames)
        """1 for each frame that holds the guest's bytes, and whose bytes are gone."""
        self.lock = ""
        self.tables = dict.fromkeys(self.held, 0)
        """So many page-table pages under the root of a tree."""
        self.calls = self.seamcalls = self.saved = 0
        self._runs: dict[str, tuple[MappedRun, ...]] = {}
        self._found: tuple[tuple[Finding, ...], tuple[str, ...]] | None = None

    def stand(self, standing: Standing) -> None:
        """How things stand from now on."""
        if standing.private != self.standing.private:
            self._found = None
        self.standing = standing
        self.last_epoch.update(standing.entered)

    def put(self, write: FrameWrite) -> None:
        """A write takes effect."""
        if write.place not in self.held:
            self.held[write.place] = bytearray(self.frames)
        self.held[write.place][write.start : write.start + len(write.content)] = write.content
        if write.tables:
            self.tables[write.place] += write.tables
        self._runs.pop(write.place, None)
        self._found = None

    def owns(self, gfn: int, pages: int, yes: bool) -> None:
        """From now on these frames hold the guest's bytes, or do not."""
        self.own[gfn : gfn + pages] = bytes([yes]) * pages
        self._found = None

    def count(self, call: Call, pages: int, times: int = 1) -> int:
        """A call of the module was made, so many times; frames outside the range that are lost with it."""
        self.calls += times
        self.seamcalls += times * (call.name[:4] == "TDH.")
        if call.name not in _MOVES_BYTES or call.gfn is None or call.status != TDX_SUCCESS:
            return 0
        outside = [slice(part.start, part.end) for part in self.span.outside(call.gfn, pages)]
        own = sum(self.own[part].count(1) for part in outside)
        if call.name == "TDH.MEM.PAGE.DEMOTE":
            # What lies outside the range will not go with it.
            self.saved += own if self.span.overlap(call.gfn, pages) else 0
            return 0
        lost = own if call.name == "TDH.MEM.PAGE.REMOVE" else 0
        for part in outside if lost else ():
            self.lost[part] = bytes(map(or_, self.lost[part], self.own[part]))
        self.owns(call.gfn, pages, False)
        return lost

    def is_private(self, gfn: int) -> bool:
        """The attributes say so."""
        return bool(bisect_right(self.standing.private, gfn) % 2)

    def state(self, gfn: int) -> str:
        """Of the S-EPT's leaf over a frame."""
        return level_and_state(self.held["sept"][gfn])[1]

    # ---- looking ---------------------------------------------------------------------------------------

    def view(self) -> LifeView:
        """All of it, as it is now."""
        now = self.standing
        if self._found is None:
            self._found = self._finds(), self._bytes() if "bytes" in self.held else ()
        return LifeView(
            private=tuple(zip(now.private[::2], now.private[1::2], strict=True)),
            direct=self.runs("direct"),
            mirror=self.runs("mirror"),
            sept=self.runs("sept"),
            finds=self._found[0],
            bytes=self._found[1],
            td_epoch=now.td_epoch,
            entered=tuple((vcpu, now.entered.get(vcpu)) for vcpu in self.vcpus),
            lock=self.lock,
            invalidating=now.invalidating,
            seamcalls=self.seamcalls,
            tables=self.tables["direct"] + self.tables["mirror"],
            sept_pages=self.tables["sept"],
            lost=self.lost.count(1),
            saved=self.saved,
        )

    def runs(self, tree: str) -> tuple[MappedRun, ...]:
        """The leaves of a tree."""
        if tree not in self._runs:
            self._runs[tree] = tuple(self._read(self.held[tree]))
        return self._runs[tree]

    def _read(self, frames: bytearray) -> Iterator[MappedRun]:
        for alike in _ALIKE.finditer(frames):
            level, state = level_and_state(alike[0][0])
            if level:
                leaf = self.geometry.pages(level)  # the last one may reach beyond the TD
                yield MappedRun(alike.start(), -(-len(alike[0]) // leaf) * leaf, level, state)

    def _finds(self) -> tuple[Finding, ...]:
        edges = {0, self.frames, *self.standing.private}
        for frames in (self.held["sept"], self.held["direct"], self.own, self.lost):
            edges.update(alike.start() for alike in _ALIKE.finditer(frames))
        finds: list[Finding] = []
        for gfn, end in pairwise(sorted(edges)):
            kind, state = self._kind(gfn), self.state(gfn)
            if finds and finds[-1][2:] == (kind, state):
                finds[-1] = finds[-1]._replace(end=end)
            else:
                finds.append(Finding(gfn, end, kind, state))
        return tuple(finds)

    def _kind(self, gfn: int) -> str:
        """Of the finding in a frame."""
        if not self.is_private(gfn):
            return "shared" if self.held["direct"][gfn] else "none"
        if self.lost[gfn]:
            return "lost"
        mapped = {"PRESENT": "own" if self.own[gfn] else "zeros", "PENDING": "pending"}
        return mapped.get(self.state(gfn), "none")

    def _bytes(self) -> tuple[str, ...]:
        told: list[str] = []
        for number, (gfn, end) in enumerate(pairwise([0, *self.standing.private, self.frames])):
            tree, memory = ("sept", "bytes") if number % 2 else ("direct", "shared bytes")
            for code, byte in zip(self.held[tree][gfn:end], self.held[memory][gfn:end], strict=True):
                state = level_and_state(code)[1]
                told.append(f"{byte:02x}" if state == "PRESENT" else _UNREAD.get(state, "--"))
        return tuple(told)


# ---- steps -----------------------------------------------------------------------------------------------

_SINGLE = 3
"""On the toy so many pages in a row that go as the one before have a step each; more are folded."""


def fold(facts: Sequence[Fact], names: Names, span: GfnRange, frames: int) -> list[LifeStep]:
    """The steps of the story that `facts` make, of a TD of `frames` frames.

    span: what is converted, or punched out. Where pages are many (not the toy, say `names`), known work is
    not told at all but for one step at its end.
    """
    telling = _Telling(_Scene(names.geometry, frames, span, facts[0].standing), names)
    for fact in facts:
        telling.hear(fact)
    telling.close()
    return telling.steps


class _Pieces(NamedTuple):
    """Pieces of work in a row, from frame `start` to `end`, that are not told one by one."""

    key: tuple[object, ...]
    start: int
    end: int
    pages: int


class _Telling:
    """The steps of a story that is being folded."""

    def __init__(self, scene: _Scene, names: Names) -> None:
        self.scene, self.names = scene, names
        self.steps: list[LifeStep] = []
        self._act = ""
        self._known = scene.standing
        """How things stood when something was told last."""
        self._at = 0
        """The frame that the guest is busy with, and what it does there."""
        self._work = ""
        self._hook = self._tree = ""
        """Of the last hook of the TDX side, and the tree of the last store."""
        self._locker = words.ACCEPT_LEVEL
        """The kernel's function that takes mmu_lock for write."""
        self._splitting = False
        """mmu_lock was dropped for a page that a split needs."""
        self._kicked = False
        """vCPUs that enter were kicked out; else they had an EPT violation."""
        self._accepting = False
        """The last call was an ACCEPT that ended in an exit."""
        self._zapping = False

        self._single = _SINGLE if names.toy else 0
        self._piece: tuple[int, _Pieces] | None = None
        """The piece of work that is being told, and the first of its steps."""
        self._told: dict[tuple[object, ...], set[tuple[str, ...]]] = {}
        self._run: _Pieces | None = None
        """Pieces that are not even told, since they go as before."""

    def say(self, said: Said, focus: tuple[int, int] | None = None) -> None:
        """A step, unless it is among those that are not told; some go on with what the last one told of."""
        if self._run:
            return
        if said.title in JOINED and self.steps and self.steps[-1].said.title == said.title:
            focus = self.steps.pop().focus
        self._known = self.scene.standing
        self.steps.append(LifeStep(self._act, said, focus, self.scene.view(), self.scene.calls))

    # ---- facts, one after the other --------------------------------------------------------------------

    def hear(self, fact: Fact) -> None:
        """What comes next."""
        what = fact.what
        if isinstance(what, Call):
            self._called(what, fact)
        elif isinstance(what, Act | Work):
            self._begins(what, fact)
        elif isinstance(what, ZapRun):
            self._zapped_on(what, fact)
        elif isinstance(what, Deed):
            if what.what not in GUESTS_DEEDS:
                self.close()
            self._stand(fact)
            self._put(fact)
            self._done(what)
        elif isinstance(what, SetSpte):
            self._stand(fact)
            self._stores(what, fact.writes)
            self._put(fact)
        else:
            if self._zapping and isinstance(what, Flush | Unlock | Lock):
                self._zapping = False
                self.close()
            self._stand(fact)
            self._heard(what, fact)

    def _stand(self, fact: Fact) -> None:
        """Steps for what changed without an event since something was told last."""
        was, now = self._known, fact.standing
        self.scene.stand(now)
        if self._run or now is was:
            return
        span = self.scene.span
        if now.entered.keys() != was.entered.keys():
            shared = self._work == "read shared"
            said = words.violation_said(self.names, self._at, shared=shared, accepting=self._accepting)
            self.say(said, (self._at, self._at + 1))
        if now.private != was.private:
            private = self.scene.is_private(span.start)
            self.say(words.attributes_said(self.names, span, private), (span.start, span.end))
        if now.flags != was.flags:
            # The flags come before the end of the invalidation, in the same breath.
            self.scene.stand(now._replace(invalidating=was.invalidating))
            self.say(words.flags_said(self.names, was.flags, now.flags))
            self.scene.stand(now)
        if now.invalidating != was.invalidating:
            self.say(words.invalidation_said(begins=now.invalidating is not None))

    def _put(self, fact: Fact) -> None:
        for write in fact.writes:
            self.scene.put(write)

    def _begins(self, what: Act | Work, fact: Fact) -> None:
        if isinstance(what, Act):
            self.close()
            self._act = what.title
        else:
            self._at, self._work = what.start, what.what
            like = (self.scene.own[what.start],) if what.what == "read" else what.like
            self._begin((what.what, *like), what.start, what.end)
        self.scene.stand(fact.standing)
        self._put(fact)

    def _called(self, call: Call, fact: Fact) -> None:
        """A line of the module's log. Calls come in the midst of KVM's work: no vCPU that left is told of."""
        scene, pages = self.scene, self.names.geometry.pages(call.level) if call.level else 0
        last_epoch = None if call.vcpu is None else scene.last_epoch.get(call.vcpu)
        scene.stand(fact.standing)
        self._put(fact)
        lost = scene.count(call, pages, fact.times)
        if not self._run:
            said = words.call_said(
                call,
                self.names,
                hook=self._hook,
                state="" if call.gfn is None else scene.state(call.gfn),
                epoch=fact.standing.td_epoch,
                pages=pages,
                times=fact.times,
                lost=lost,
                kicked=self._kicked,
                new_epoch=last_epoch != fact.standing.td_epoch,
            )
            before = self.steps[-1].focus if self.steps else None
            self.say(said, before if call.gfn is None else (call.gfn, call.gfn + pages))
        self._kicked = call.name == "TDH.MEM.TRACK" or (self._kicked and call.name == "TDH.VP.ENTER")
        self._accepting = call.name.startswith("TDG.") and call.status is None

    def _done(self, deed: Deed) -> None:
        """A deed of the guest, or of userspace, or what came of it."""
        scene, span = self.scene, self.scene.span
        own = bool(scene.own[deed.start])
        if deed.what == "write":
            scene.owns(deed.start, deed.end - deed.start, True)
        mapped = scene.held["sept"].count(0, span.start, span.end) < span.pages
        said = words.deed_said(deed, self.names, own=own, mapped=mapped)
        if deed.what in GUESTS_DEEDS:
            self.say(said, (deed.start, deed.end))
        else:
            self._locker = words.LOCKERS.get(deed.what, words.ACCEPT_LEVEL)
            self.say(said)

    def _stores(self, event: SetSpte, writes: tuple[FrameWrite, ...]) -> None:
        """An entry is about to be written; a leaf that goes begins a piece of work."""
        self._tree = writes[0].place
        if is_zap(event):
            self._zaps(event.level, event.gfn)

    def _zaps(self, level: int, gfn: int) -> None:
        kind = "zap" if self._tree == "mirror" else "zap shared"
        self._begin((kind, level), gfn, gfn + self.names.geometry.pages(level))
        self._zapping = True

    def _zapped_on(self, run: ZapRun, fact: Fact) -> None:
        """Leaves were zapped as the one before them: work that is known, and not told."""
        pages = self.names.geometry.pages(run.level)
        for gfn in range(run.start, run.end, pages):
            self._zaps(run.level, gfn)
        self.scene.stand(fact.standing)
        self._put(fact)
        for call in run.calls:
            self.scene.count(call, pages)

    def _heard(self, event: Event, fact: Fact) -> None:
        """Another event of KVM's functions."""
        if isinstance(event, Lock):
            self.scene.lock = "read" if event.shared else "write"
        elif isinstance(event, Unlock):
            self.scene.lock = ""
            self._splitting = event.reason == "alloc"
        elif isinstance(event, External):
            self._hook = event.op
        if not self._run:
            said = words.event_said(
                event,
                self.names,
                granted=fact.answer is not None,
                splitting=self._splitting,
                tree=self._tree,
                locker=self._locker,
            )
            if said and isinstance(event, External | Trace) and event.level:
                self.say(said, (event.gfn, event.gfn + self.names.geometry.pages(event.level)))
            elif said:
                self.say(said)
        if isinstance(event, Lock):
            self._splitting = False

    # ---- work that goes page after page ----------------------------------------------------------------

    def _begin(self, key: tuple[object, ...], start: int, end: int) -> None:
        """A piece of work begins. key: its kind (of WORK), then what else makes pieces of work alike."""
        full = (self._act, *key)
        if self._run and self._run.key == full and self._run.end == start:
            self._run = self._run._replace(end=end, pages=self._run.pages + 1)
            return
        self.close()
        piece = _Pieces(full, start, end, 1)
        if full in self._told and not self._single:
            self._run = piece
        else:
            self._piece = len(self.steps), piece

    def close(self) -> None:
        """The piece of work, or the run of pieces that are not told, is over."""
        if self._piece:
            self._end_piece(*self._piece)
            self._piece = None
        if self._run:
            run, self._run = self._run, None
            self._tell_again(run)

    def _end_piece(self, first: int, piece: _Pieces) -> None:
        titles = tuple(step.said.title for step in self.steps[first:] if step.said.title != IN_HAND)
        # On the toy what was told is compared step by step, so the kind alone is enough.
        told = self._told.setdefault(piece.key[:2] if self._single else piece.key, set())
        if self._single and any(_is_part(titles, before) for before in told):
            del self.steps[first:]
            before = self.steps[-1].focus
            if before and before[1] == piece.start and self._had_enough(piece):
                last = self.steps.pop()
                piece = piece._replace(start=before[0], pages=last.pages + 1)
            self._tell_again(piece)
        else:
            told.add(titles)

    def _had_enough(self, piece: _Pieces) -> bool:
        """So many single steps of this kind came just before that this piece joins the last of them."""
        title = f"{AGAIN}: {piece.key[1]}"
        before = self.steps[-self._single :]
        return all(step.act == self._act and step.said.title == title for step in before)

    def _tell_again(self, piece: _Pieces) -> None:
        before = self.steps[-1].view.lost if self.steps else 0
        lost = self.scene.view().lost - before
        said = words.again_said(str(piece.key[1]), self.names, piece.start, piece.end, piece.pages, lost)
        self.say(said, (piece.start, piece.end))
        self.steps[-1] = self.steps[-1]._replace(pages=piece.pages)


def _is_part(titles: tuple[str, ...], told: tuple[str, ...]) -> bool:
    """The same steps in the same order, but for some that are not needed again, such as a table."""
    rest = iter(told)
    return all(title in rest for title in titles)
