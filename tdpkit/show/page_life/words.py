"""The conversion stepper in words: title, answer, log, pills, counters, and the table that is its twin."""

from __future__ import annotations

from typing import NamedTuple

from tdpkit.lab.page_life import PageLife
from tdpkit.lab.page_life.fold import Finding, LifeView, MappedRun
from tdpkit.lab.page_life.record import BY_PAGE
from tdpkit.lab.page_life.story import FOLIOS
from tdpkit.lab.words import count_of, group_digits, html_table, listed, noun_for
from tdpkit.tdx.abi import Call, status_name

from ..drawing import Counter

LOG_LINES = 6
_TABLE_STEPS = 12
"""The table shows so many steps on either side."""

SPLIT_TITLES = {
    "v3": "split by v3",
    "v3 as posted": "split by v3 as posted",
    "head and tail": "split head and tail",
    "none": "no split",
}
FIND_WORDS = {
    "own": "its own bytes",
    "zeros": "zeros, accepted anew",
    "lost": "lost",
    "pending": "must ACCEPT first",
    "shared": "userspace’s bytes",
    "none": "nothing mapped",
}
STATE_LETTERS = {"PRESENT": "A", "PENDING": "P", "BLOCKED": "B", "PENDING_BLOCKED": "PB"}
"""Of the S-EPT's states, on their leaves; the legend says what they mean."""


def title(life: PageLife) -> str:
    """Name the story: the range, and how it was split."""
    where = life.names.span(life.span.start, life.span.end)
    what = "A hole in" if life.then == "punch hole" else "The life of"
    folios = "" if life.folios == "2M" else f", {FOLIOS[life.folios].title}"
    refused = f", page {life.refuse} refused" if life.refuse else ""
    return f"{what} {where}, {SPLIT_TITLES[life.split]}{folios}{refused}"


def answer(life: PageLife, at: int) -> str:
    """The step (from 0) in a sentence; the last one begins with what the story comes to."""
    end = f" {_outcome(life)}" if _is_last(life, at) else ""
    return f"Step {at + 1} of {len(life.steps)}:{end} {life.steps[at].said.sentence}"


def _is_last(life: PageLife, at: int) -> bool:
    return at == len(life.steps) - 1


def _outcome(life: PageLife) -> str:
    outside = f"outside {life.names.span(life.span.start, life.span.end)}"
    if life.lost:
        return (
            f"{count_of(life.lost, 'frame')} {outside} {'is' if life.lost == 1 else 'are'} lost in the end."
        )
    return f"Nothing {outside} is lost in the end."


def role(life: PageLife, at: int) -> str:
    """How the sentence is to be taken: "bad" where frames are lost, in this step or, at the last, in all."""
    if _is_last(life, at):
        return "bad" if life.lost else "good"
    before = life.steps[at - 1].view.lost if at else 0
    return "bad" if life.steps[at].view.lost > before else "ink"


def pills(life: PageLife, at: int) -> list[tuple[str, str]]:
    """(text, role) of what holds at the step: the epoch, the vCPUs, the lock, the invalidation."""
    view = life.steps[at].view
    said = [(f"TD epoch {view.td_epoch}", "ink")]
    for vcpu, epoch in view.entered:
        if epoch is None:
            said.append((f"vCPU {vcpu}: outside the TD", "crossing-mark"))
        else:
            said.append((f"vCPU {vcpu}: in since epoch {epoch}", "ink"))
    lock = {"write": "held for write", "read": "held for read", "": "not held"}[view.lock]
    said.append((f"mmu_lock: {lock}", "ink" if view.lock else "muted"))
    invalidating = "invalidation in progress" if view.invalidating else "no invalidation"
    said.append((invalidating, "crossing-mark" if view.invalidating else "muted"))
    return said


class Loss(NamedTuple):
    """The one number of the story: frames lost so far, and what it comes to."""

    value: str
    caption: str
    note: str
    role: str


def loss(life: PageLife, at: int) -> Loss:
    """The frames that are lost by the step."""
    lost, span = life.steps[at].view.lost, life.names.span(life.span.start, life.span.end)
    note = f"outside {span}" if _is_last(life, at) else f"so far; {group_digits(life.lost)} in the end"
    return Loss(group_digits(lost), noun_for(lost, "frame") + " lost", note, "bad" if lost else "ink")


def counters(life: PageLife, at: int) -> list[Counter]:
    """The other numbers of the step."""
    view, calls = life.steps[at].view, life.steps[-1].view.seamcalls
    kept = "good" if view.saved else "ink"
    return [
        Counter(group_digits(view.saved), f"{noun_for(view.saved, 'frame')} kept by a split", kept),
        Counter(group_digits(view.seamcalls), f"of {count_of(calls, 'SEAMCALL')}"),
        Counter(group_digits(view.tables), noun_for(view.tables, "page-table page")),
        Counter(group_digits(view.sept_pages), noun_for(view.sept_pages, "S-EPT page")),
    ]


# ---- the module's log ----------------------------------------------------------------------------------


def log_tail(life: PageLife, at: int) -> list[tuple[str, str]]:
    """The last lines of the module's log at the step, (number, text); what belongs together is one line."""
    log, end = life.td.module.log, life.steps[at].calls
    lines: list[tuple[str, str]] = []
    while end and len(lines) < LOG_LINES:
        first = _first_of_line(log, end)
        lines.append((f"{end}", _line(life, log[first:end])))
        end = first
    return lines[::-1]


def _first_of_line(log: list[Call], end: int) -> int:
    """The first of the calls, up to `end`, that are one line: vCPUs that enter, or the pages of a leaf."""
    first, name = end - 1, log[end - 1].name
    while first and log[first - 1].name == name and name in ("TDH.VP.ENTER", BY_PAGE):
        # The same vCPU again entered for another reason.
        if name != BY_PAGE and log[first - 1].vcpu in {call.vcpu for call in log[first:end]}:
            break
        first -= 1
    return first


def _line(life: PageLife, calls: list[Call]) -> str:
    call = calls[-1]
    if call.name == BY_PAGE and len(calls) > 1:
        return f"{group_digits(len(calls))} × {call.name}"
    if call.vcpu is not None:
        vcpus = [f"{one.vcpu}" for one in calls]
        who = f"vCPU {vcpus[0]}" if len(vcpus) == 1 else f"vCPUs {listed(vcpus)}"
        return f"{call.name} {who}"
    where = "" if call.gfn is None else f" {life.names.frame(call.gfn)}"
    if call.status:
        status = status_name(call.status).removeprefix("TDX_PAGE_").removeprefix("TDX_")
        return f"{call.name}{where}: {status.replace('_', ' ').lower()}"
    if call.gfn is not None and call.level is not None:
        toy = life.names.toy
        where += f", level {call.level}" if toy else f", {life.geometry.level(call.level).label}"
    return f"{call.name}{where}" + (": exit" if call.status is None else "")


# ---- the text twins ------------------------------------------------------------------------------------


def life_text(life: PageLife, at: int) -> str:
    """The picture at the step in plain text."""
    step = life.steps[at]
    told = [
        f"{title(life)}. {answer(life, at)}",
        f"{step.act}; {step.said.actor}" + (f", {step.said.function}" * bool(step.said.function)),
        "; ".join(text for text, _ in pills(life, at)),
        *(f"{name}: {text}" for name, text in strips_in_words(life, step.view)),
        _numbers(life, at),
    ]
    if step.view.bytes:
        told.append("the guest reads: " + " ".join(step.view.bytes))
    return "\n".join(told)


def _numbers(life: PageLife, at: int) -> str:
    value, caption, note, _ = loss(life, at)
    others = (f"{counter.value} {counter.caption}" for counter in counters(life, at))
    return ", ".join([f"{value} {caption} ({note})", *others])


def strips_in_words(life: PageLife, view: LifeView) -> list[tuple[str, str]]:
    """Each strip of the picture: its name, and its runs in words."""
    span = life.names.span
    private = ", ".join(span(*part) for part in view.private) or "none"
    if view.invalidating:
        private += f"; {invalidation(life, view.invalidating)}"
    return [
        ("private frames", private),
        ("direct tree", _runs(life, view.direct)),
        ("mirror tree", _runs(life, view.mirror)),
        ("S-EPT", _runs(life, view.sept)),
        (
            "the guest finds",
            "; ".join(f"{span(find.gfn, find.end)} {find_text(find)}" for find in view.finds),
        ),
    ]


def invalidation(life: PageLife, frames: tuple[int, int]) -> str:
    """Say on which frames faults are retried."""
    return f"invalidation: faults on {life.names.span(*frames)} are retried"


def _runs(life: PageLife, runs: tuple[MappedRun, ...]) -> str:
    return "; ".join(run_text(life, run) for run in runs) or "nothing"


def run_text(life: PageLife, run: MappedRun) -> str:
    """A run of leaves: ``[0, 8) 1 leaf of level 2, PRESENT``."""
    leaves = run.pages // life.geometry.pages(run.level)
    size = f"of level {run.level}" if life.names.toy else f"of {life.geometry.level(run.level).label}"
    where = life.names.span(run.gfn, run.end)
    return f"{where} {count_of(leaves, 'leaf', 'leaves')} {size}, {run.state}"


def find_text(find: Finding) -> str:
    """What the guest finds, in words."""
    if find.kind != "lost":
        return FIND_WORDS[find.kind]
    return {"PRESENT": "lost: zeros", "PENDING": "lost: must ACCEPT again"}.get(
        find.state, "lost: EPT violation"
    )


def life_table(life: PageLife, at: int) -> str:
    """The steps around `at` (from 0), and how things stand, as HTML tables: the picture's text twin."""
    first, last = max(0, at - _TABLE_STEPS), min(len(life.steps), at + _TABLE_STEPS + 1)
    steps = [
        (
            f"{number + 1}",
            step.act,
            step.said.actor,
            step.said.title,
            step.said.sentence,
            step.view.lock or "not held",
            f"{step.view.td_epoch}",
            group_digits(step.view.seamcalls),
            group_digits(step.view.lost),
        )
        for number, step in enumerate(life.steps[first:last], first)
    ]
    view = life.steps[at].view
    stand = [*strips_in_words(life, view), ("now", "; ".join(text for text, _ in pills(life, at)))]
    if view.bytes:
        stand.append(("the guest reads", " ".join(view.bytes)))
    caption = f"{title(life)}, steps {first + 1} to {last} of {len(life.steps)}. {answer(life, at)}"
    heads = ("step", "act", "who", "what", "in words", "mmu_lock", "epoch", "SEAMCALLs", "lost")
    told = html_table(caption, heads, steps, current=at - first)
    return f"<div>{told}{html_table(f'After step {at + 1}', (), stand)}</div>"
