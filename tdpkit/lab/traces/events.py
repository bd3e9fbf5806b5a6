"""The events of a trace text: lines of ftrace, trace-cmd or perf, or of a report, cut into fields.

Eleven of KVM's events are read (S220, S221, S263), and a marker that says which range a call was for. Others
are counted by name. A line that a mailer wrapped is put together again; a damaged one is handed out as such,
with its number. Nothing here knows what an entry means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import NamedTuple


class Where(NamedTuple):
    """Where an event stands, and whose it is."""

    line: int
    """From 1."""
    pid: int
    """0 where the text has none."""
    time: str
    """Seconds, as printed; or nothing."""


class Changed(NamedTuple):
    """kvm_tdp_mmu_spte_changed: an entry of `level`, for frames from `gfn` on, went from `old` to `new`."""

    where: Where
    as_id: int
    gfn: int
    level: int
    old: int
    new: int


class SplitHugePage(NamedTuple):
    """kvm_mmu_split_huge_page: the old leaf, its level, 0 or a negative errno; after the change (S263)."""

    where: Where
    gfn: int
    spte: int
    level: int
    errno: int


class SetSpte(NamedTuple):
    """kvm_mmu_set_spte: a fault mapped an entry, which lies at the host address `sptep` (-1: not told)."""

    where: Where
    gfn: int
    spte: int
    rights: str
    level: int
    sptep: int


class Requested(NamedTuple):
    """kvm_mmu_spte_requested: KVM wants a leaf of `level` on host frame `pfn`."""

    where: Where
    gfn: int
    pfn: int
    level: int


class PageFault(NamedTuple):
    """kvm_page_fault, in any of its three formats: -1 for a field that this one lacks."""

    where: Where
    vcpu: int
    rip: int
    address: int
    """In bytes."""
    error_code: int


class MarkMmio(NamedTuple):
    """mark_mmio_spte: frame `gfn` stands for a device from now on."""

    where: Where
    gfn: int
    access: int
    generation: int


class PageTable(NamedTuple):
    """kvm_mmu_get_page or kvm_mmu_prepare_zap_page: a page table for frames from `gfn` on.

    level: of its entries, 0 where the text has none; state: "new", "existing" or "zapped"; role: the rest of
    the text, as printed (S221).
    """

    where: Where
    gfn: int
    level: int
    role: str
    state: str


class UnmapHva(NamedTuple):
    """kvm_unmap_hva_range: the host addresses [start, end), in bytes, are about to go."""

    where: Where
    start: int
    end: int


class Border(NamedTuple):
    """kvm_entry or kvm_exit: this task has finished its work on the tables."""

    where: Where
    name: str
    vcpu: int


class Announced(NamedTuple):
    """A marker: what follows was done for frames [start, end); `verb` such as "convert"."""

    where: Where
    verb: str
    start: int
    end: int


class Foreign(NamedTuple):
    """An event that is not read."""

    where: Where
    name: str


class Damaged(NamedTuple):
    """A line that is no event, or one that is not whole."""

    where: Where
    text: str
    why: str


class Lost(NamedTuple):
    """The tracer's buffer overflowed: `events` are missing here, 1 where the text has no number."""

    where: Where
    events: int


Event = (
    Changed
    | SplitHugePage
    | SetSpte
    | Requested
    | PageFault
    | MarkMmio
    | PageTable
    | UnmapHva
    | Border
    | Announced
    | Foreign
    | Damaged
    | Lost
)

# ---- the text of each event ------------------------------------------------------------------------------


def _hex(text: str) -> int:
    return int(text, 16)


def _maybe(text: str | None, base: int = 16) -> int:
    return -1 if text is None else int(text, base)


class _Format(NamedTuple):
    whole: re.Pattern[str]
    make: Callable[[Where, re.Match[str]], Event]
    more: re.Pattern[str] | None
    """How the next line begins if the event goes on there, although it is whole without."""


def _format(pattern: str, make: Callable[[Where, re.Match[str]], Event], more: str = "") -> _Format:
    return _Format(re.compile(rf"{pattern}\s*$"), make, re.compile(more) if more else None)


_H, _X = r"([0-9a-f]{1,16})", r"0x([0-9a-f]{1,16})"
_CHANGED_TEXT = rf"as id (\d{{1,3}}) gfn {_H} level (\d) old_spte {_H} new_spte {_H}"
_SP = rf"(?:(new|existing) )?sp (?:gen \w+ )?gfn {_H} (?:l(\d) )?\d\S*(?: .*?(\bnew|\bexisting)?)?"
_SP_MORE = (
    r"(?:(?:q?\d+|direct|[-w][-u][-x]|invalid|!?(?:nxe|ad|pae|pge|cr0_wp|smep)|root|sync|unsync|new|existing)"
    r"(?:\s+|$))+$"
)
_BORDER = r"(?:vcpu (\d+))?.*"
_BORDER_MORE = r"(?:vcpu|reason|rip|\w*info\w*|error_code|requests|0x\w+|[0-9a-f]+|npf|(?!CPU\b)[A-Z_]{3,})\b"


def _page_table(state: str) -> Callable[[Where, re.Match[str]], PageTable]:
    def make(where: Where, m: re.Match[str]) -> PageTable:
        role = m.string[m.end(2) : m.start(4) if m[4] else m.end()].strip()
        return PageTable(where, _hex(m[2]), int(m[3] or 0), role, m[1] or m[4] or state)

    return make


def _border(name: str) -> Callable[[Where, re.Match[str]], Border]:
    return lambda where, m: Border(where, name, _maybe(m[1], 10))


_FORMATS: dict[str, _Format] = {
    "kvm_tdp_mmu_spte_changed": _format(
        _CHANGED_TEXT, lambda w, m: Changed(w, int(m[1]), _hex(m[2]), int(m[3]), _hex(m[4]), _hex(m[5]))
    ),
    "kvm_mmu_split_huge_page": _format(
        rf"gfn {_H} spte {_H} level (\d) errno (-?\d{{1,4}})",
        lambda w, m: SplitHugePage(w, _hex(m[1]), _hex(m[2]), int(m[3]), int(m[4])),
    ),
    "kvm_mmu_set_spte": _format(
        rf"gfn {_H} spte {_H} \(([-rwxu]{{3,4}})\) level (\d)(?: at {_H})?",
        lambda w, m: SetSpte(w, _hex(m[1]), _hex(m[2]), m[3], int(m[4]), _maybe(m[5])),
        more=r"at\b|[0-9a-f]{4,16}$",
    ),
    "kvm_mmu_spte_requested": _format(
        rf"gfn {_H} pfn {_H} level (\d)", lambda w, m: Requested(w, _hex(m[1]), _hex(m[2]), int(m[3]))
    ),
    "kvm_page_fault": _format(
        rf"(?:vcpu (\d+) )?(?:rip {_X} )?address (?:0x)?{_H} error_code (?:0x)?{_H}",
        lambda w, m: PageFault(w, _maybe(m[1], 10), _maybe(m[2]), _hex(m[3]), _hex(m[4])),
    ),
    "mark_mmio_spte": _format(
        rf"sptep:\s?(?:0x)?\w+ gfn {_H} access {_H} gen {_H}",
        lambda w, m: MarkMmio(w, _hex(m[1]), _hex(m[2]), _hex(m[3])),
    ),
    "kvm_mmu_get_page": _format(_SP, _page_table("new"), _SP_MORE),
    "kvm_mmu_prepare_zap_page": _format(_SP, _page_table("zapped"), _SP_MORE),
    "kvm_unmap_hva_range": _format(
        rf"mmu notifier unmap range: {_X} -- {_X}", lambda w, m: UnmapHva(w, _hex(m[1]), _hex(m[2]))
    ),
    "kvm_entry": _format(_BORDER, _border("kvm_entry"), _BORDER_MORE),
    "kvm_exit": _format(_BORDER, _border("kvm_exit"), _BORDER_MORE),
}
_MARKER = re.compile(
    rf".*?\b(convert|zap|split|punch|unmap)\b.*?\bgfns? (?:0x)?{_H}\s*(?:-|to|\.\.)\s*(?:0x)?{_H}"
)
_MARKS = ("tracing_mark_write", "print")


def _event(where: Where, name: str, text: str) -> Event | None:
    """The event, or None if its text is not whole."""
    known = _FORMATS.get(name)
    if known is None:
        marker = _MARKER.match(text) if name in _MARKS else None
        if marker and (start := _hex(marker[2])) <= (end := _hex(marker[3])):
            return Announced(where, marker[1], start, end)
        return Foreign(where, name)
    found = known.whole.match(text)
    return known.make(where, found) if found else None


# ---- lines -----------------------------------------------------------------------------------------------

_TASK = r"\s*(\S.{0,40}?)(?:-|\s+)(?:\d{1,10}/)?(\d{1,10})\s+(?:\([ \d-]+\)\s+)?\[\d+\]\s+"
_FLAGS = r"(?:[^\s\d:][^\s:]{3,7}\s+)?"
_NAME = r"(?:[a-z]\w*:)?([a-zA-Z]\w*):\s*(.*)"
_HEAD = re.compile(rf"{_TASK}{_FLAGS}(\d+(?:\.\d+)?): +{_NAME}")
_AFTER_TIME = re.compile(rf" *{_NAME}")
_CHANGED = re.compile(rf" *(?:kvmmmu:)?kvm_tdp_mmu_spte_changed: +{_CHANGED_TEXT}$")
_BARE = re.compile(
    rf"\s*(?:{_FLAGS}(\d+\.\d+): +(?:[a-z]\w*:)?([a-z]\w*)"
    r"|(?:kvm(?:mmu)?:)?(kvm_\w+|mark_mmio_spte|tracing_mark_write)):\s*(.*)"
)
_CALL = re.compile(rf"{_TASK}{_FLAGS}\d+(?:\.\d+)?: +(?:\S+ <-\S+$|<(?:user )?stack trace>)")
"""A line of the function tracer, or the first of a stack."""
_QUOTED = re.compile(r"(?:\s*>)+ ?")
_SKIPPED = re.compile(r"\s*(?:#|=>|$|<(?:user )?stack trace>)|\s+[0-9a-f]{6,16} \S.*\((?:\[|/|inlined)")
"""Comments, empty lines, and the lines of a stack as ftrace (`=>`) and perf (address, symbol) print them."""
_LOST = re.compile(
    r"\s*CPU:\s*\d+ \[LOST (?:(\d+) )?EVENTS\]"
    r"|.*\[\s*(?:(\d+) )?EVENTS (?:DROPPED|LOST)\s*\]"
    r"|#+ CPU \d+ buffer started #+",  # what this CPU did before was overwritten
    re.IGNORECASE,
)
_IN_BUFFER = re.compile(r"\s*# entries-in-buffer/entries-written: (\d+)/(\d+)\b")
"""Of `trace`: what was written and is in the buffer no more was lost before the first line (S268)."""
_JOINED = 3
"""A mailer breaks a line into four at most."""
_WIDE = 70
"""A mailer breaks no line that is narrower than this with its next word."""
_COMM = 15
"""The letters of a task's name (TASK_COMM_LEN)."""
_STARTS = 4096
"""Beginnings of lines that are remembered: there is one for each task, CPU and set of flags."""


class _Cut(NamedTuple):
    """A line with an event's name in it, cut apart."""

    where: Where
    name: str
    text: str
    task: str
    start: str
    """All before the time, where a task is named; or nothing."""


def events_of(
    lines: Iterable[str], tasks: dict[int, str] | None = None, numbers: Iterable[int] | None = None
) -> Iterator[Event]:
    """The events of a text, in order; `tasks` takes the name of each task, by pid.

    numbers: of the lines; from 1 if None. A line that is not whole, or may be longer, is held until the next
    shows whether it goes on there.
    """
    held = _Held({} if tasks is None else tasks)
    pids, changed, new_tuple = held.pids, _CHANGED.match, tuple.__new__  # half the time of a class's own call
    for number, line in zip(count(1) if numbers is None else numbers, lines, strict=False):
        head, _, tail = line.partition(": ")
        start, _, time = head.rpartition(" ")
        pid = pids.get(start)
        if pid is None or not time.replace(".", "", 1).isdecimal():
            yield from held.feed(number, line)
            continue
        if found := changed(tail):
            if held.pieces:
                yield from held.give_up()
            as_id, gfn, level, old, new = found.groups()
            where = new_tuple(Where, (number, pid, time))
            entry = (where, int(as_id), int(gfn, 16), int(level), int(old, 16), int(new, 16))
            yield new_tuple(Changed, entry)
        elif found := _AFTER_TIME.match(tail):
            if held.pieces:
                yield from held.give_up()
            name, text = found.groups()
            where = new_tuple(Where, (number, pid, time))
            known = _FORMATS.get(name)
            if known and not known.more and (whole := known.whole.match(text)):
                yield known.make(where, whole)  # nothing to hold
            elif event := held.take([(number, line)], new_tuple(_Cut, (where, name, text, "", ""))):
                yield event
        else:
            yield from held.feed(number, line)
    yield from held.give_up()


class _Held:
    """The line that may go on in the next ones: its pieces, and the event that they are so far."""

    def __init__(self, tasks: dict[int, str]) -> None:
        self.tasks = tasks
        self.pids: dict[str, int] = {}
        """Of each task, by the beginning of a line up to the time: most lines begin as one before them."""
        self.pieces: list[tuple[int, str]] = []
        self._cut: _Cut | None = None
        """None if no event's name was met yet: the next line may have it, and the pieces the task's name."""
        self._event: Event | None = None

    def feed(self, number: int, line: str) -> Iterator[Event]:
        """Take a line that begins as none before it; gives the events that are sure now."""
        if line.lstrip()[:1] == ">":
            line = _QUOTED.sub("", line, count=1)
        piece = number, line
        cut = _cut_apart(number, line)
        if cut is None and (lost := _LOST.match(line)):
            yield from self.give_up()
            yield Lost(Where(number, 0, ""), int(lost[1] or lost[2] or 1))
        elif (kept := _IN_BUFFER.match(line)) and int(kept[1]) < int(kept[2]):
            yield Lost(Where(number, 0, ""), int(kept[2]) - int(kept[1]))
        elif cut is None and (_SKIPPED.match(line) or _CALL.match(line)):
            if line.strip():
                yield from self.give_up()
        elif cut and (not self.pieces or self._cut or cut.start in self.pids):
            yield from self.give_up()
            if event := self.take([piece], cut):
                yield event
        elif self.pieces and not self._cut:
            yield from self._find_beginning(piece)
        elif self._cut and self._goes_on(line):
            longer = self._cut._replace(text=f"{self._cut.text} {line.strip()}".strip())
            if event := self.take([*self.pieces, piece], longer, self._event):
                yield event
        else:
            yield from self.give_up()
            self.pieces = [piece]

    def give_up(self) -> list[Event]:
        """Hand out what is held: no more of it comes."""
        cut, event, pieces = self._cut, self._event, self.pieces
        self.pieces, self._cut, self._event = [], None, None
        if event:
            return [event]
        why = [f"{cut.name} is not whole"] if cut else []
        return [_damaged(*piece, *why) if at == 0 else _damaged(*piece) for at, piece in enumerate(pieces)]

    def _find_beginning(self, piece: tuple[int, str]) -> Iterator[Event]:
        """No piece so far names an event: with this one, find those that do, and the task if there is one."""
        pieces = [*self.pieces, piece]
        found = [(at, one) for at in range(len(pieces)) if (one := _cut_apart(*_joined(pieces[at:])))]
        named = [(at, one) for at, one in found if one.task]
        short = [(at, one) for at, one in named if len(one.task) <= _COMM]
        best = short[:1] or named[-1:] or found[:1]
        at = best[0][0] if best else max(0, len(pieces) - _JOINED)
        yield from (_damaged(*one) for one in pieces[:at])
        self.pieces = pieces[at:]
        if best and (event := self.take(self.pieces, best[0][1])):
            yield event

    def take(self, pieces: list[tuple[int, str]], cut: _Cut, before: Event | None = None) -> Event | None:
        """Give the event of these pieces, or hold it if it may go on. before: it without the last of them."""
        event = _event(cut.where, cut.name, cut.text) or before
        if cut.start and cut.start not in self.pids:
            if len(self.pids) >= _STARTS:
                self.pids.clear()
            self.pids[cut.start] = cut.where.pid
            self.tasks.setdefault(cut.where.pid, cut.task)
        known = _FORMATS.get(cut.name)
        if event and known and not known.more:
            self.pieces, self._cut, self._event = [], None, None
            return event
        self.pieces, self._cut, self._event = pieces, cut, event
        return None

    def _goes_on(self, line: str) -> bool:
        """Whether what is held goes on in `line`, which names no event."""
        assert self._cut
        if len(self.pieces) > _JOINED:
            return False
        if self._event is None:
            return True
        if line[0].isspace():  # a mailer does not indent what it breaks off
            return False
        known = _FORMATS.get(self._cut.name)
        if known:
            return bool(known.more and known.more.match(line))
        is_wide = len(self.pieces[-1][1].rstrip()) + len(line.split()[0]) > _WIDE
        return (is_wide or self._cut.name in _MARKS) and "spte" not in line


def _cut_apart(number: int, line: str) -> _Cut | None:
    if found := _HEAD.match(line):
        task, pid, time, name, text = found.groups()
        return _Cut(Where(number, int(pid), time), name, text, task, line[: found.start(3) - 1])
    if found := _BARE.match(line):
        time, name, bare, text = found.groups()
        return _Cut(Where(number, 0, time or ""), name or bare, text, "", "")
    return None


def _damaged(number: int, text: str, why: str = "no event") -> Damaged:
    return Damaged(Where(number, 0, ""), text.strip(), why)


def _joined(pieces: list[tuple[int, str]]) -> tuple[int, str]:
    return pieces[0][0], " ".join(text.strip() for _, text in pieces)
