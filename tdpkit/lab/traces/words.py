"""What a trace told, in sentences: each event, each finding, the answer for a range."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tdpkit.engine.gfn import X86_5LEVEL, FrameSet, GfnRange
from tdpkit.engine.spte import PT_PAGE_SIZE_MASK, SPTE_BASE_ADDR_MASK

from ..spte_guess import guess_guard
from ..spte_layouts import EPT_7_2, SpteLayout, mmio_gfn
from ..words import count_of, group_digits, listed, noun_for, printable, text_table
from .changes import WHAT
from .events import (
    Announced,
    Border,
    Changed,
    Damaged,
    Event,
    Foreign,
    Lost,
    MarkMmio,
    PageFault,
    PageTable,
    Requested,
    SetSpte,
    SplitHugePage,
    UnmapHva,
)
from .ranges import Crossing, Judged, Unmap, frames_in
from .reader import Mismatch, Split, Story, ZapRun
from .tree import pages_of

# ---- frames and entries ----------------------------------------------------------------------------------


def size_of(level: int) -> str:
    """``2M``: what an entry of `level` covers; the number itself where there is no such level."""
    return X86_5LEVEL.level(level).label if 1 <= level <= X86_5LEVEL.root_level else f"level {level}"


def frames(start: int, end: int) -> str:
    """``0x84d``, ``0x84d to 0x86d``: the frames [start, end)."""
    return f"{start:#x}" if end - start == 1 else f"{start:#x} to {end - 1:#x}"


def frames_of(found: FrameSet | Iterable[GfnRange], most: int = 6) -> str:
    """The runs of a set of frames; the first `most` of them."""
    spans = found.ranges() if isinstance(found, FrameSet) else [*found]
    said = [frames(span.start, span.end) for span in spans[:most]]
    more = [count_of(len(spans) - most, "more run")] if len(spans) > most else []
    return listed([*said, *more])


def range_of(judged: Judged) -> str:
    """``frames 0x84d to 0x86d``, or ``no frame at 0x84d``."""
    span = judged.span
    if not span.pages:
        return f"no frame at {span.start:#x}"
    return f"{noun_for(span.pages, 'frame')} {frames(span.start, span.end)}"


def entry_in_words(spte: int, level: int, layout: SpteLayout) -> str:
    """``a 2M leaf on host frame 0x322600 (R W, no X)``, ``a table in host frame 0x4ab10e``, ``nothing``."""
    kind = layout.kind_of(spte, level)
    if kind == "non-present":
        return "nothing" if spte in (0, *layout.empty) else f"nothing KVM knows ({spte:#x})"
    if kind == "frozen":
        return "a frozen entry"
    if kind == "mmio":
        guard = guess_guard(spte, layout).guard
        return f"a device (MMIO, frame {mmio_gfn(spte, layout, guard):#x})"
    pfn = (spte & SPTE_BASE_ADDR_MASK) >> 12
    if kind == "table":
        return f"a table in host frame {pfn:#x}"
    return f"a {size_of(level)} leaf on host frame {pfn:#x} ({_granted(spte, layout)})"


def _granted(spte: int, layout: SpteLayout) -> str:
    """``R W X``; ``R W, no X``: what a leaf grants the guest."""
    if layout.is_access_tracked(spte):
        return "access-tracked: R, W and X are taken away"
    has = layout.rights_of(spte).upper()
    lacks = [right for right in "RWX" if right not in has]
    return f"{' '.join(has) or 'nothing'}, no {' '.join(lacks)}" if lacks else " ".join(has)


_NAMES = {
    "readable": "R",
    "writable": "W",
    "executable": "X",
    "no_execute": "NX",
    "user": "U",
    "accessed": "A",
    "dirty": "D",
    "host_writable": "host-writable",
    "mmu_writable": "MMU-writable",
    "ad_type": "A/D type",
    "saved": "saved rights",
}


def bits_that_changed(old: int, new: int, layout: SpteLayout) -> str:
    """``D cleared``, ``W and D set``: the bits by name; others by number."""
    said, rest = [], old ^ new
    for word, value in (("set", new), ("cleared", old)):
        names = [
            name
            for field, name in _NAMES.items()
            if (mask := getattr(layout, field)) & rest and value & mask & rest
        ]
        if names:
            said.append(f"{listed(names)} {word}")
    for field in _NAMES:
        rest &= ~getattr(layout, field)
    if rest & PT_PAGE_SIZE_MASK:
        said.append("page size changed")
    if rest & SPTE_BASE_ADDR_MASK:
        said.append("another host frame")
    other = rest & ~SPTE_BASE_ADDR_MASK & ~PT_PAGE_SIZE_MASK
    if other:
        said.append(f"other bits changed ({other:#x})")
    return listed(said) or "nothing changed"


# ---- one event -------------------------------------------------------------------------------------------


def event_in_words(event: Event, layout: SpteLayout | None) -> str:
    """One event, in a sentence without a full stop; `layout` is None where the text has no entry."""
    if isinstance(event, Changed | SplitHugePage | SetSpte):
        return _of_an_entry(event, layout or EPT_7_2)
    match event:
        case Requested(_, gfn, pfn, level):
            return f"KVM wants a {size_of(level)} leaf for frame {gfn:#x}, on host frame {pfn:#x}"
        case PageFault(_, vcpu, _, address, code):
            who = f"vCPU {vcpu}" if vcpu >= 0 else "a vCPU (the oldest format does not say which)"
            return f"{who} faults at {address:#x}, frame {address >> 12:#x}, {_code(code, layout)}"
        case MarkMmio(_, gfn, access, generation):
            return (
                f"frame {gfn:#x} is a device: an MMIO entry, access {access:#x}, generation {generation:#x}"
            )
        case PageTable(_, gfn, level, role, state):
            what = f"a page table of level {level}" if level else "a page table"
            done = {"new": "is new", "existing": "is used again", "zapped": "goes"}[state]
            return f"{what} for frames from {gfn:#x} on {done}; its role: {role}"
        case UnmapHva(_, start, end):
            pages = count_of(-(-(end - start) // 4096), "frame")
            return f"the host unmaps {start:#x} to {end:#x}, {pages}; which of the guest's is not said"
        case Border(_, name, vcpu):
            way = "enters the guest" if name == "kvm_entry" else "leaves the guest"
            return f"vCPU {vcpu} {way}" if vcpu >= 0 else f"a vCPU {way}"
        case Announced(_, verb, start, end):
            return f"a marker: {verb} {frames(start, end)}"
        case Foreign(_, name):
            return f"{name}: not read"
        case Damaged(_, text, why):
            return f"{why}: {text[:60]!r}"
        case Lost(_, count):
            return f"the tracer lost {count_of(count, 'event')}: from here on all is unknown again"


def _of_an_entry(event: Changed | SplitHugePage | SetSpte, layout: SpteLayout) -> str:
    match event:
        case Changed():
            return _changed(event, layout)
        case SplitHugePage(_, gfn, spte, level, errno):
            leaf = f"the {size_of(level)} leaf at {gfn:#x}"
            if errno:
                why = {-16: " (-EBUSY): another task changed it first; it is tried again", -12: " (-ENOMEM)"}
                return f"{leaf} was not split: {errno}{why.get(errno, '')}"
            return f"{leaf} is split; it was {entry_in_words(spte, level, layout)}"
        case SetSpte(_, gfn, spte, rights, level, sptep):
            where = ""
            if sptep >= 0:
                where = f", in table page {sptep >> 12:#x}, index {(sptep & 0xFFF) // 8}"
            said = entry_in_words(spte, level, layout)
            return f"a fault set the entry of level {level} for {gfn:#x}: {said}{where}; printed as {rights}"


_EPT_ACCESS = {0: "a read", 1: "a write", 2: "a fetch"}
_PRESENT, _WRITE, _FETCH = 1, 2, 16


def _code(code: int, layout: SpteLayout | None) -> str:
    """An error code: by the layout's paging, or by both where no entry tells which it is."""
    did = [word for bit, word in _EPT_ACCESS.items() if code >> bit & 1]
    ept = f"EPT: {listed(did) or 'no access named'}"
    access = "a write" if code & _WRITE else "a fetch" if code & _FETCH else "a read"
    npt = f"NPT: {access}, {'an entry that forbids it' if code & _PRESENT else 'no entry'}"
    said = f"{ept}; {npt}" if layout is None else ept if layout.is_ept else npt
    return f"error code {code:#x} ({said})"


def _changed(event: Changed, layout: SpteLayout) -> str:
    _, as_id, gfn, level, old, new = event
    place = f"{'SMM, ' if as_id == 1 else ''}level {level}, frame {gfn:#x}"
    if not 1 <= level <= X86_5LEVEL.root_level:
        return f"{place}: there is no such level"
    before, after = entry_in_words(old, level, layout), entry_in_words(new, level, layout)
    what = WHAT[layout.kind_of(old, level), layout.kind_of(new, level)]
    if what == "bits":
        return f"{place}: {before}; {bits_that_changed(old, new, layout)}"
    frozen = ""
    if layout.kind_of(new, level) == "frozen":
        frozen = "; the entry is frozen: an atomic zap, or the entry of a table that goes"
    said = {
        "link": f"{after} is linked",
        "map": f"{after} is mapped",
        "mmio": f"{after}",
        "split": f"{before} becomes {after}: a split",
        "zap": f"{before} is gone{frozen}",
        "remove": f"{before} is gone, and all below it{frozen}",
        "replace": f"{after} takes the place of {before}: all below it is gone",
        "mmio gone": f"{before} is gone",
        "none": f"{before} becomes {after}",
    }
    return f"{place}: {said[what]}"


# ---- findings --------------------------------------------------------------------------------------------


def zap_in_words(run: ZapRun) -> str:
    """``lines 212 to 244: 33 leaves of 4K zapped, frames 0x84d to 0x86d``."""
    size = pages_of(run.level)
    pages = run.count * size
    leaves = count_of(run.count, f"{size_of(run.level)} leaf", f"leaves of {size_of(run.level)}")
    gone = f"{noun_for(pages, 'frame')} {frames(run.gfn, run.gfn + pages)}"
    return f"{_lines(run.first.line, run.last_line)}: {leaves} zapped, {gone}"


def _lines(first: int, last: int) -> str:
    return f"line {first}" if first == last else f"lines {first} to {last}"


def split_in_words(split: Split) -> str:
    """``line 49: the 2M leaf at 0x400 is split``."""
    leaf = f"the {size_of(split.level)} leaf at {split.gfn:#x}"
    if split.errno:
        return f"line {split.where.line}: {leaf} was not split ({split.errno})"
    return f"line {split.where.line}: {leaf} is split"


def mismatch_in_words(found: Mismatch, layout: SpteLayout) -> str:
    """What a line says against those before it."""
    has = entry_in_words(found.found, found.level, layout)
    before = "" if found.said < 0 else entry_in_words(found.said, found.level, layout)
    if before == has:
        before += f"; here {bits_that_changed(found.said, found.found, layout)}"
    said = f"the lines before said {before}" if before else ""
    place = f"line {found.where.line}: level {found.level}, frame {found.gfn:#x}, held {has}"
    return f"{place}; {listed([part for part in (said, found.why) if part])}"


_STEPS = {
    "map": "mapped",
    "link": "a table linked",
    "split": "split",
    "zap": "zapped whole",
    "remap": "put on another host frame",
    "remove": "its table removed",
    "replace": "a leaf put in its table's place",
    "mmio": "a device",
    "mmio gone": "a device no more",
}


def crossing_in_words(crossing: Crossing, *, of_many: bool = False) -> str:
    """One entry that crosses an edge, and what became of it; `of_many`: the range crosses several trees."""
    span = crossing.span
    kind = "leaf" if crossing.was_leaf else "entry"
    what = f"{size_of(crossing.level)} {kind} of frames {frames(span.start, span.end)}"
    if of_many:
        what += f" in tree {crossing.root}{', SMM' if crossing.as_id else ''}"
    steps, is_split = [], False
    for step in crossing.steps:
        is_split = step.what == "split" or (is_split and step.what != "map")
        unsplit = ", not split before" if step.what == "zap" and not is_split else ""
        went = f", and {count_of(step.outside, 'frame')} outside with it" if step.outside else ""
        steps.append(f"{_STEPS[step.what]} at line {step.line}{unsplit}{went}")
    more = [count_of(crossing.left_out, "later step")] if crossing.left_out else []
    return f"the {what}: {'; '.join(steps + more)}"


def judged_in_words(judged: Judged) -> list[str]:
    """The answer for one range: sentences, the verdict first."""
    said = [_verdict(judged)]
    told = [one for one in judged.crossings.values() if one.was_leaf or one.was_taken]
    of_many = len({(one.as_id, one.root) for one in told}) > 1
    said += [f"{crossing_in_words(one, of_many=of_many)}." for one in told]
    if judged.outside.edges:
        came = frames_in(judged.back)
        if came:
            said.append(
                f"Mapped again later: {count_of(came, 'frame')}, {frames_of(judged.back)}, first at line "
                f"{judged.first_back}; in a TD what they held is lost, in a plain VM it is kept."
            )
        else:
            steps = [
                step for crossing in judged.crossings.values() for step in crossing.steps if step.outside
            ]
            other = any(step.what in ("replace", "remap") for step in steps)
            where = "Other host frames are mapped there now" if other else "None of them was mapped again"
            said.append(f"{where}.")
    return [sentence[:1].upper() + sentence[1:] for sentence in said]


def _verdict(judged: Judged) -> str:
    which = range_of(judged)
    if judged.verb:
        line = f", line {judged.where.line}" if judged.where else ""
        how = f": {judged.how}" if judged.how else ""
        which = f"{which} ({judged.verb}{line}{how})"
    leaves = [crossing for crossing in judged.crossings.values() if crossing.was_leaf]
    if judged.is_safe:
        inside = frames_in(judged.inside)
        took = (
            f"{count_of(inside, 'frame')} of the range taken, none outside" if inside else "nothing was taken"
        )
        if leaves:
            split = sum(crossing.was_split for crossing in leaves)
            return (
                f"{which}: {took}; {count_of(len(leaves), 'leaf', 'leaves')} crossed an edge, {split} split."
            )
        return f"{which}: {took}; no leaf was seen to cross an edge."
    outside = count_of(frames_in(judged.outside), "frame")
    return f"{which}: {outside} outside the range taken: {frames_of(judged.outside)}."


def unplaced_in_words(unmap: Unmap) -> str:
    """An unmap whose frames cannot be told."""
    gone = frames_of(GfnRange(leaf.gfn, leaf.gfn + leaf.pages) for leaf in unmap.taken)
    return (
        f"line {unmap.where.line}: the host unmapped {count_of(unmap.end - unmap.start, 'frame')}; frames "
        f"{gone} went; which of the guest's frames were meant cannot be told (--slot says where a host "
        f"address belongs)"
    )


# ---- the report ------------------------------------------------------------------------------------------

_SHOWN = 12


def report(story: Story, most: int = _SHOWN) -> str:
    """All that a trace told, for a terminal; of each list the first `most`."""
    parts = [_what_was_read(story), _changes(story)]
    parts += [_some("splits", map(split_in_words, story.splits), _splits(story), most)]
    parts += [_some("zaps", map(zap_in_words, story.zaps), story.counts["runs of zaps"], most)]
    parts += [_over_time(story), _lock_step(story, most)]
    parts += _answers(story, most)
    parts += [
        _some(
            "unmaps without a place",
            map(unplaced_in_words, story.unplaced),
            story.counts["unmaps without a place"],
            most,
        )
    ]
    parts += [answer(story)]
    return "\n\n".join(part for part in parts if part)


def _answers(story: Story, most: int) -> Iterator[str]:
    """The ranges that lost frames, whole; of the others the verdict, where anything was taken."""
    judged = sorted(story.judged, key=lambda judged: judged.where.line if judged.where else 0)
    hurt = [found for found in judged if not found.is_safe]
    safe = [found for found in judged if found.is_safe]
    for found in hurt[:most]:
        yield "\n".join(judged_in_words(found))
    if story.losses > most:
        yield f"and {count_of(story.losses - most, 'more range')} with frames taken outside"
    told = [found for found in safe if found.inside.edges or found.crossings or not found.verb]
    yield "\n\n".join("\n".join(judged_in_words(found)) for found in told[:most])
    rest = story.counts["ranges"] - story.losses - len(told[:most])
    if rest:
        yield f"and {count_of(rest, 'more range')} with nothing taken outside"


def answer(story: Story) -> str:
    """The last line: whether anything outside a range was taken."""
    if not story.judged:
        return "No range to judge: the trace announces none; give one with --range START END."
    ranges = count_of(story.counts["ranges"], "range")
    if story.is_safe:
        return f"Nothing outside was taken ({ranges} judged)."
    count = group_digits(sum(frames_in(judged.outside) for judged in story.judged))
    more = "at least " if story.counts["losses not listed"] else ""
    return f"Frames outside were taken: {more}{count} (by {group_digits(story.losses)} of {ranges})."


def no_trace(what: str, story: Story) -> str:
    """Why `what`, whose story has no event that is read, cannot be told."""
    if story.foreign:
        names = ", ".join(printable(name) for name, _ in story.foreign.most_common(3))
        return f"{what} has events, but none of KVM's MMU ({names}); enable kvmmmu:* and kvm:kvm_page_fault"
    return f"{what} is no trace: of {count_of(story.lines, 'line')} none is an event of KVM's MMU"


def _what_was_read(story: Story) -> str:
    guess = story.guess
    tasks = [f"{printable(name)} ({pid})" for pid, name in sorted(story.tasks.items())][:4]
    more = f" and {len(story.tasks) - 4} more" if len(story.tasks) > 4 else ""
    by = f", {count_of(len(story.tasks), 'task')}: {', '.join(tasks)}{more}" if tasks else ""
    said = [
        f"{count_of(story.lines, 'line')}{by}",
        f"entries: {guess.layout.title} ({guess.layout.name}); {guess.reason}"
        if story.has_entries
        else "entries: the text has none, so nothing tells their layout",
    ]
    if guess.doubt:
        said.append(f"in doubt: {guess.doubt}")
    if story.foreign:
        names = [f"{name} {count}" for name, count in story.foreign.most_common(4)]
        said.append(f"not read: {count_of(sum(story.foreign.values()), 'other event')} ({', '.join(names)})")
    if story.counts["lost"]:
        said.append(
            f"the tracer lost {count_of(story.counts['lost'], 'event')}; what was known until then is not"
        )
    if story.damaged:
        shown = [f"  line {line.where.line}: {line.why}: {line.text[:70]!r}" for line in story.damaged[:5]]
        said += [f"damaged: {count_of(story.counts['damaged'], 'line')}", *shown]
    return "\n".join(said)


_COUNTED = {
    "link": ("table linked", "tables linked"),
    "map": ("leaf mapped", "leaves mapped"),
    "split": ("leaf split", "leaves split"),
    "zap": ("leaf zapped", "leaves zapped"),
    "remove": ("subtree removed", "subtrees removed"),
    "replace": ("table replaced by a leaf", "tables replaced by a leaf"),
    "remap": ("leaf put on another host frame", "leaves put on another host frame"),
    "bits": ("entry with other bits", "entries with other bits"),
    "mmio": ("MMIO entry", "MMIO entries"),
    "listed": ("entry of a removed table", "entries of removed tables"),
}


def _changes(story: Story) -> str:
    said = [count_of(story.counts[what], *nouns) for what, nouns in _COUNTED.items() if story.counts[what]]
    if story.counts["listed"]:
        leaves = count_of(story.counts["leaves of removed tables"], "was a leaf", "were leaves")
        said[-1] += f" (of these {leaves})"
    return f"changes: {', '.join(said)}" if said else ""


def _splits(story: Story) -> int:
    return story.counts["split"] + sum(
        count for name, count in story.counts.items() if name.startswith("split refused")
    )


def _some(head: str, lines: Iterator[str], count: int, most: int) -> str:
    shown = [f"  {line}" for _, line in zip(range(most), lines, strict=False)]
    if count > len(shown):
        shown.append(f"  and {group_digits(count - len(shown))} more")
    return "\n".join([f"{head}:", *shown]) if shown else ""


_ROWS = 8


def _over_time(story: Story) -> str:
    points = story.points
    if len(points) < 2:
        return ""
    every = -(-len(points) // _ROWS)
    shown = [*points[:-1:every], points[-1]]
    levels = [level for level in range(1, 4) if any(point.leaves[level] for point in points)]
    if not levels:
        return ""
    head = ["line", "time", *(size_of(level) for level in levels)]
    rows = [
        [group_digits(point.line), point.time or "-", *(group_digits(point.leaves[n]) for n in levels)]
        for point in shown
    ]
    return "leaves that are known, over time:\n" + text_table(head, rows)


def _lock_step(story: Story, most: int) -> str:
    count = story.counts["mismatches"]
    trees = sum(map(len, story.trees.values()))
    roots = f" ({trees} roots seem to be at work; a line does not say which)" if trees > 1 else ""
    if not count:
        return f"lock-step: each old value is what the lines before said, or was not known{roots}"
    lines = (mismatch_in_words(found, story.layout) for found in story.mismatches)
    head = f"lock-step: {count_of(count, 'old value is', 'old values are')} not what the lines before said"
    return _some(f"{head}{roots}", lines, count, most)
