"""What the walk stepper says: of each step a sentence and a line for the log, and the call as pseudo-code."""

from __future__ import annotations

from typing import NamedTuple

from tdpkit.engine.spte import is_last_spte, is_shadow_present_pte
from tdpkit.lab.split_call import CallStep, SplitCall
from tdpkit.lab.words import count_of, group_digits

from .state import WalkState, is_whole, names_of

OTHER_THREAD = {
    "drop_zap": "zaps this leaf",
    "drop_split": "splits this leaf",
    "cas_dirty_clear": "clears this leaf's Dirty bit",
    "cas_zap": "zaps this leaf",
    "cas_split": "splits this leaf",
}
"""What the other thread does, by the race's name (tdpkit.lab.worlds.RACES)."""

LOG_LINES = 7
"""Steps in the log, at most."""


class WalkWords(NamedTuple):
    """All that is said of one state; steps count from 1."""

    title: str
    answer: str
    role: str
    """The answer's colour: "ink", "good", "bad" or "crossing-mark"."""
    goal: str
    """The goal's frame."""
    edges: tuple[str, str]
    """The frames of the range's start and end."""
    code: tuple[CodeLine, ...]
    code_key: str
    """The lines of the code at which the call is."""
    log: tuple[tuple[int, str], ...]
    """(step, words), newest last."""
    pills: tuple[tuple[str, str], ...]
    """(text, role) of the locks and of the page in hand."""
    counters: tuple[tuple[str, str], ...]
    """(value, caption) of what happened so far."""
    totals: str
    """What the whole call comes to; empty where what is to come is hidden."""
    legend: tuple[tuple[str, str], ...]
    """(kind, name) of each kind of cell in sight."""


def walk_words(state: WalkState) -> WalkWords:
    """Put `state` into words."""
    call, at, step = state.call, state.at, state.step
    said, role = _describe(call, at)
    kinds = {cell.kind for strip in state.strips for cell in strip.cells}
    return WalkWords(
        title=_title(call),
        answer=f"Step {at + 1}{'' if state.hidden else f' of {len(call.steps)}'}: {said}",
        role=role,
        goal=name_frame(call, step.goal),
        edges=(name_frame(call, call.span.start), name_frame(call, call.span.end)),
        code=_code(call),
        code_key=_code_key(call, at),
        log=tuple((n + 1, log_line(call, n)) for n in range(max(0, at + 1 - LOG_LINES), at + 1)),
        pills=_pills(call, step),
        counters=_counters(step),
        totals="" if state.hidden else _totals(call),
        legend=tuple((kind, name) for kind, name in _kind_names(call).items() if kind in kinds),
    )


# ---- names ---------------------------------------------------------------------------------------------


def name_frame(call: SplitCall, gfn: int) -> str:
    """A frame number of a toy as it is, of x86 as an address in human units."""
    return names_of(call).frame(gfn)


def _name_span(call: SplitCall) -> str:
    """The range of the call."""
    return names_of(call).span(call.span.start, call.span.end)


def name_entry(call: SplitCall, level: int, gfn: int) -> str:
    """``level 2 entry at 4``."""
    return f"level {level} entry at {name_frame(call, gfn)}"


def _title(call: SplitCall) -> str:
    """What the call is."""
    what = "Split only what crosses" if call.only_cross_boundary else "Split every huge leaf"
    return f"{what}: {_name_span(call)}, mmu_lock {'shared' if call.shared else 'exclusive'}"


def _edges(call: SplitCall, step: CallStep) -> list[str]:
    """Names of the edges that the entry crosses."""
    last = step.gfn + call.geometry.pages(step.level)
    edges = (("start", call.span.start), ("end", call.span.end))
    return [name for name, edge in edges if step.gfn < edge < last]


class EntryFound(NamedTuple):
    """What a visit finds: in a few words, in a sentence, and which test of the pseudo-code ends it."""

    short: str
    long: str
    line: str


def _found(call: SplitCall, step: CallStep) -> EntryFound:
    """What the visit `step` finds at its entry, the reschedule aside."""
    if not is_shadow_present_pte(step.old_spte):
        return EntryFound("nothing mapped", "maps nothing", "skip")
    if not is_last_spte(step.old_spte, step.level):
        if step.level > call.min_level:
            return EntryFound("table", "points to a table", "skip")
        below = f"points to a table, and the walk does not go below level {call.min_level}"
        return EntryFound("table", below, "skip")
    if not call.only_cross_boundary:
        return EntryFound("huge leaf", "is a huge leaf above the target level: to be split", "skip")
    if not call.would_split(step.gfn, step.level, step.old_spte):
        return EntryFound("leaf inside", "is a leaf that lies inside the range: it stays whole", "inside")
    first, *more = _edges(call, step)
    if call.span.start == call.span.end:
        return EntryFound(
            "crosses start = end", "is a leaf that crosses the start, which is the end too", "inside"
        )
    both = "".join(f" and the {edge}" for edge in more)
    short = ", ".join((first, *more))
    return EntryFound(f"crosses {short}", f"is a leaf that crosses the {first}{both}", "inside")


def _is_split_next(call: SplitCall, at: int) -> bool:
    return call.steps[at + 1].kind in ("drop", "store")


def _describe(call: SplitCall, at: int) -> tuple[str, str]:
    """The sentence of step `at` (from 0), and the role of its words."""
    step = call.steps[at]
    entry = name_entry(call, step.level, step.gfn)
    count = call.geometry.entries
    held = "read" if call.shared else "write"
    match step.kind:
        case "start":
            text = (
                f"mmu_lock is held for {held}, and RCU. The walk goes from the root, level "
                f"{call.geometry.root_level}, down to level {call.min_level}."
            )
            return text, "ink"
        case "visit":
            return _visit(call, at), "ink"
        case "drop":
            return (
                f"The {entry} needs a page and none is in hand. RCU, then mmu_lock are let go: anyone may "
                "change the tree now.",
                "crossing-mark",
            )
        case "resched":
            return (
                "A reschedule is due: RCU, then mmu_lock are let go, for whoever waits. Anyone may change "
                "the tree now.",
                "crossing-mark",
            )
        case "page":
            return (
                "The allocator gives a page. It may sleep, so no lock is held; what the page is for is not "
                "settled yet.",
                "crossing-mark",
            )
        case "refused":
            return "The allocator has no page to give.", "bad"
        case "retake" if step.rcu:
            return (
                "mmu_lock and RCU are taken again. The tables on the path may be gone: the walk starts again "
                f"at the root, with its goal, frame {name_frame(call, step.goal)}.",
                "ink",
            )
        case "retake":
            return "mmu_lock is taken again, as the caller expects. There is no page to go on with.", "bad"
        case "store":
            how = "One compare-and-exchange" if call.shared else "One store"
            return (
                f"The page is filled with {count} smaller leaves on the same host frames; nothing points to "
                f"it yet. {how} will replace the {entry}.",
                "ink",
            )
        case "split":
            return (
                f"Split: the {entry} points to the new table of {count} leaves. Every frame is mapped as "
                "before.",
                "good",
            )
        case "lost":
            return (
                f"The compare-and-exchange fails, -EBUSY: the {entry} is not what was read. The same entry "
                "is looked at again, and the page stays in hand.",
                "bad",
            )
        case "fail":
            return "The call gives up with -ENOMEM. What it has split so far stays split.", "bad"
        case "other":
            when = "while mmu_lock is dropped" if not step.held else "before the compare-and-exchange"
            return f"Another thread {OTHER_THREAD[call.faults.race]}, {when}.", "bad"
        case "free":
            why = "its leaf is gone" if call.faults.race.endswith("zap") else "somebody else did the split"
            return f"A page is left that nobody needed: {why}. It is freed.", "ink"
    return _returned(call), "good" if call.result == 0 else "bad"


def _visit(call: SplitCall, at: int) -> str:
    step = call.steps[at]
    text = f"Visit {step.visits}: the {name_entry(call, step.level, step.gfn)} "
    if step.due and call.steps[at + 1].kind == "resched":
        return (
            f"{text}is not looked at: a reschedule is due, and the walk has moved on since it last came back."
        )
    text += _found(call, step).long
    if _is_split_next(call, at):
        text += "; a page is in hand" if step.page is not None else "; no page is in hand"
    text += "."
    if step.due:
        text += (
            " A reschedule is due, but the walk has not moved on since it last came back: it may not let go."
        )
    return text


def _returned(call: SplitCall) -> str:
    last = call.steps[-1]
    did = (
        f"{count_of(last.visits, 'visit')}, {count_of(last.splits, 'split')}, "
        f"{count_of(last.drops, 'lock drop')}"
    )
    if call.result == 0:
        return f"The call returns 0 after {did}."
    return f"The call returns {call.result} (-ENOMEM) after {did}. Calling again completes it."


def log_line(call: SplitCall, at: int) -> str:
    """Step `at` in a few words."""
    step = call.steps[at]
    entry = f"L{step.level} {name_frame(call, step.gfn)}"
    if step.kind == "visit":
        resched = step.due and call.steps[at + 1].kind == "resched"
        return f"visit {entry}: {'must resched' if resched else _found(call, step).short}"
    if step.kind == "retake":
        return f"locks taken; goal {name_frame(call, step.goal)}" if step.rcu else "mmu_lock taken"
    words = {
        "start": f"call on {_name_span(call)}",
        "drop": "RCU, mmu_lock let go: page",
        "resched": "RCU, mmu_lock let go: resched",
        "page": "allocate a page",
        "refused": "allocate a page: none",
        "store": f"{'exchange' if call.shared else 'store'} {entry}: leaf → table",
        "split": f"split {entry}, done",
        "lost": f"lost {entry}: -EBUSY",
        "fail": "give up: -ENOMEM",
        "other": f"another {OTHER_THREAD.get(call.faults.race, '')}",
        "free": "free the spare page",
        "return": f"return {call.result}",
    }
    return words[step.kind]


class CodeLine(NamedTuple):
    """A line of the pseudo-code; `key` is what steps refer to."""

    key: str
    indent: int
    text: str


def _code(call: SplitCall) -> tuple[CodeLine, ...]:
    """The call in our own words, as this form and this lock have it."""
    lines = [
        CodeLine("walk", 0, f"for each entry, down to level {call.min_level}:"),
        CodeLine("resched", 1, "must resched, and moved on?"),
        CodeLine("resched", 2, "let go, take again; restart"),
        CodeLine("skip", 1, "not present, or no huge leaf? next"),
        CodeLine("inside", 1, "crosses no edge? next"),
        CodeLine("drop", 1, "no page? let go RCU, mmu_lock"),
        CodeLine("page", 2, "page = allocate()"),
        CodeLine("retake", 2, "take mmu_lock again"),
        CodeLine("fail", 2, "still no page? return -ENOMEM"),
        CodeLine("restart", 2, "take RCU; restart at the goal"),
        CodeLine("store", 1, f"fill page: {call.geometry.entries} smaller leaves"),
        CodeLine("store", 1, f"{'compare-and-exchange' if call.shared else 'store'}: leaf → table"),
        CodeLine("lost", 1, "lost the race? same entry again"),
        CodeLine("split", 1, "the page is part of the tree"),
        CodeLine("free", 0, "free a page left over"),
        CodeLine("return", 0, "return 0"),
    ]
    left_out = {"inside"} if not call.only_cross_boundary else set()
    if not call.shared:
        left_out.add("lost")
    return tuple(line for line in lines if line.key not in left_out)


def _code_key(call: SplitCall, at: int) -> str:
    """The key of the lines of :func:`code` at which the call is at step `at`."""
    step = call.steps[at]
    if step.kind == "visit":
        resched = step.due and call.steps[at + 1].kind == "resched"
        return "resched" if resched else _found(call, step).line
    if step.kind == "other":
        return "store" if step.held else "page"
    if step.kind == "retake":
        return "restart" if step.rcu else "retake"
    return {"start": "walk", "refused": "page", "return": "return" if call.result == 0 else "fail"}.get(
        step.kind, step.kind
    )


def _pills(call: SplitCall, step: CallStep) -> tuple[tuple[str, str], ...]:
    """(text, role) of the locks and of the page in hand."""
    mode = "read" if call.shared else "write"
    return (
        (f"mmu_lock: held for {mode}", "ink") if step.held else ("mmu_lock: dropped", "crossing-mark"),
        ("RCU: held", "ink") if step.rcu else ("RCU: not held", "crossing-mark"),
        ("page in hand: none", "muted") if step.page is None else ("page in hand: one", "split-mark"),
    )


def _counters(step: CallStep) -> tuple[tuple[str, str], ...]:
    """(value, caption) of what happened so far."""
    return (
        (group_digits(step.visits), "visit" if step.visits == 1 else "visits"),
        (group_digits(step.splits), "split" if step.splits == 1 else "splits"),
        (group_digits(step.drops), "lock drop" if step.drops == 1 else "lock drops"),
        (group_digits(step.restarts), "restart" if step.restarts == 1 else "restarts"),
    )


def _totals(call: SplitCall) -> str:
    """What the whole call comes to."""
    last = call.steps[-1]
    return (
        f"whole call: {count_of(last.visits, 'visit')}, {count_of(last.splits, 'split')}, "
        f"{count_of(last.drops, 'drop')}, returns {call.result}"
    )


def _kind_names(call: SplitCall) -> dict[str, str]:
    """What each kind of cell is called in the legend, in its order."""
    levels = range(call.geometry.max_leaf_level, 0, -1)
    whole = is_whole(call)
    leaf = {
        f"leaf{level}": f"level {level} leaf" if whole else f"{call.geometry.level(level).label} leaf"
        for level in levels
    }
    due = "crosses an edge: to be split" if call.only_cross_boundary else "to be split"
    return {**leaf, "table": "table", "hole": "not mapped", "crossing": due, "split": "made by a split"}
