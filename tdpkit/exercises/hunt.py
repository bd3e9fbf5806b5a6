"""The hunt of notebook 04: a guest accepts one page for ever, and KVM called the wrong function.

What is to be read is a log, and the two trees before and after. A suspected call is answered by running it
in place of the one that did it, on the same TD, and by the first line in which its log differs.

The call is that of RFC v5 41 (20260129011517.3545883-1-seanjc@google.com; kernel-facts C43).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tdpkit.engine.events import (
    AllocTable,
    Event,
    External,
    Flush,
    FreeTable,
    Lock,
    SetSpte,
    Unlock,
    Visit,
    run,
)
from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K, GfnRange
from tdpkit.engine.mmu import KVM_LPAGE_GUEST_INHIBIT_FLAG
from tdpkit.engine.splits import AcceptSplit, kvm_tdp_mmu_split_huge_pages
from tdpkit.engine.spte import FROZEN_SPTE, is_last_spte, is_shadow_present_pte
from tdpkit.engine.tree import TdpMmuRoot, leaf_runs, map_leaf
from tdpkit.lab.layouts import TD_4LEVEL
from tdpkit.lab.td import Td
from tdpkit.lab.words import group_digits
from tdpkit.tdx.guest import td_accept
from tdpkit.tdx.kvm_tdx import KvmTdx, TdxWorld

from .submission import shown
from .suspects import ACCEPT_SPLITS, SUSPECTS
from .verdict import Verdict, waiting

PAGE = 0x205
"""The private frame that the guest touched, and then accepts as a page of 4K."""
TRIES = 8

_DONE_BY = kvm_tdp_mmu_split_huge_pages.__name__
_TD_BLOCKS = 4
"""The TD's memory in leaves of 2M: two private ones, then two shared ones."""

# ---- the log -------------------------------------------------------------------------------------------


class _LogWorld(TdxWorld):
    """Writes down every event and every call of the TDX module, in the order in which they came."""

    def __init__(self, tdx: KvmTdx) -> None:
        super().__init__(tdx)
        self.lines: list[str] = []
        self._seen = len(tdx.module.log)

    def answer(self, event: Event) -> Any:
        self.take_calls()
        self.lines.append(_line(event))
        got = super().answer(event)
        self.take_calls()
        return got

    def take_calls(self) -> None:
        """The module's calls since the last look."""
        log = self.tdx.module.log
        self.lines += [repr(call) for call in log[self._seen :]]
        self._seen = len(log)


def _entry(spte: int, level: int) -> str:
    if spte == FROZEN_SPTE:
        return "frozen"
    return "none" if not is_shadow_present_pte(spte) else "leaf" if is_last_spte(spte, level) else "table"


def _line(event: Event) -> str:
    match event:
        case Visit(iter=it):
            return f"visit: level {it.level}, index {it.index}: {_entry(it.old_spte, it.level)}"
        case AllocTable():
            return "a page for a table"
        case Unlock():
            return f"mmu_lock dropped ({event.reason})"
        case Lock():
            return f"mmu_lock taken for {'read' if event.shared else 'write'}"
        case SetSpte():
            old, new = _entry(event.old_spte, event.level), _entry(event.new_spte, event.level)
            return f"store: level {event.level}, index {event.index}: {old} -> {new}"
        case External():
            return f"the TDX side is to follow: {event.op}, level {event.level}, frame {event.gfn:#x}"
        case FreeTable():
            return "the page is freed"
        case Flush():
            return "all TLBs flushed"
        case _:
            return str(event)


def _rounds(lines: list[str]) -> Iterator[list[str]]:
    """The log, cut where the guest accepts anew."""
    starts = [at for at, line in enumerate(lines) if line.startswith("TDG.")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield lines[start:end]


# ---- what is to be read --------------------------------------------------------------------------------


class Hunt(NamedTuple):
    """What is known of the case: the two trees before and after, the log, the number of tries."""

    before: tuple[str, ...]
    log: tuple[str, ...]
    """Line by line, of the first two rounds (the others are as the second); all if there are fewer."""
    tries: int
    """How often the guest accepted."""
    accepted: bool
    after: tuple[str, ...]

    def __repr__(self) -> str:
        again = f"rounds 3 to {self.tries} are as the second; the guest is where it was."
        end = "the page is the guest's." if self.accepted else again
        return "\n".join(
            [
                f"The guest accepts frame {PAGE:#x}, a page of 4K, after it touched it.",
                "Before:",
                *(f"  {line}" for line in self.before),
                "What happened:",
                *(f"  {number:2} {line}" for number, line in enumerate(self.log, 1)),
                f"  {end}",
                "After:",
                *(f"  {line}" for line in self.after),
            ]
        )


def hunt(*, shared_leaf: bool = False) -> Hunt:
    """The case: a TD of 8M, half of it private, whose guest accepts PAGE, and accepts it again.

    shared_leaf: a shared leaf of 2M lies in the direct tree at the same frame (laid out, not argued: KVM
    zaps it when the frame becomes private).
    """
    return _handled_by(ACCEPT_SPLITS[_DONE_BY], shared_leaf)


def _handled_by(split: AcceptSplit, shared_leaf: bool = False) -> Hunt:
    td = _the_td(shared_leaf)
    before = _trees(td)
    world = _LogWorld(td.tdx)
    status = run(td_accept(td.tdx, td.vcpu, PAGE, PG_LEVEL_4K, split=split, tries=TRIES), world)
    world.take_calls()
    rounds = list(_rounds(world.lines))
    log = tuple(line for one in rounds[:2] for line in one)
    return Hunt(before, log, len(rounds), status == 0, _trees(td))


def _the_td(shared_leaf: bool) -> Td:
    block = TD_4LEVEL.pages(PG_LEVEL_2M)
    td = Td(TD_4LEVEL, _TD_BLOCKS * block, accepted=False)
    td.convert(_TD_BLOCKS // 2 * block, td.frames)
    td.touch(PAGE)
    td.read(_TD_BLOCKS // 2 * block)
    if shared_leaf:
        map_leaf(td.kvm.direct_root, block, PG_LEVEL_2M, 2 * td.frames + block)
    td.forget()
    return td


def _trees(td: Td) -> tuple[str, ...]:
    kvm = td.kvm
    roots = {"mirror root": kvm.mirror_root, "direct root": kvm.direct_root, "S-EPT": td.module.sept}
    lines = [f"{name + ':':12} {_leaves(root)}" for name, root in roots.items() if root is not None]
    inhibited = sorted(
        gfn
        for (level, gfn), flags in kvm.disallow_lpage.items()
        if level == PG_LEVEL_2M and flags & KVM_LPAGE_GUEST_INHIBIT_FLAG
    )
    where = ", ".join(f"{gfn:#x}" for gfn in inhibited) or "none"
    return (*lines, f"2M blocks that the guest accepts in smaller pages: {where}")


def _leaves(root: TdpMmuRoot) -> str:
    parts = []
    for leaf in leaf_runs(root):
        label = root.geometry.level(leaf.level).label
        one = f"a {label} leaf at {leaf.gfn:#x}"
        many = f"{group_digits(leaf.count)} {label} leaves from {leaf.gfn:#x}"
        parts.append(one if leaf.count == 1 else many)
    return ", ".join(parts) or "no leaf"


# ---- the answer ----------------------------------------------------------------------------------------

_ROOT_NAMES = {
    "direct": "direct",
    "direct root": "direct",
    "root.hpa": "direct",
    "mirror": "mirror",
    "mirror root": "mirror",
    "mirror_root_hpa": "mirror",
}


def check_hunt(call: Any, root: Any) -> Verdict:
    """Whether `call` is what KVM called in the case of :func:`hunt`, and `root` the root that it walked.

    call: one of SUSPECTS, the function or its name; root: "direct" or "mirror". Another suspect is run on
    the same TD, and its log held against the one of the hunt.
    """
    if call is ... or root is ...:
        return waiting('which split function was called, and which root did it walk: "direct" or "mirror"?')
    name = _name_of(call)
    if name is None:
        return Verdict(
            False,
            f"the call is one of the split functions of tdpkit.engine.mmu, which SUSPECTS lists; "
            f"{shown(call)} is none of them.",
        )
    case, suspected = hunt(), _handled_by(ACCEPT_SPLITS[name])
    if suspected != case:
        return Verdict(False, f"{name} was run on the same TD. {_difference(case, suspected)}")
    said = _ROOT_NAMES.get(root) if isinstance(root, str) else None
    if said is None:
        return Verdict(False, f'the root is "direct" or "mirror"; {shown(root)} is neither.')
    if said != "direct":
        return Verdict(False, f"{name} it was. {_where_it_began(case)}")
    return Verdict(
        True,
        f"{name} takes the vCPU's root.hpa, the direct root. There is no private page in it, so nothing is "
        "split and 0 comes back; the block is marked as one that needs no split any more, and the fault "
        "path, which may not split under the read lock, fails for ever.",
    )


def _name_of(call: Any) -> str | None:
    if isinstance(call, str):
        name = call.strip().removesuffix("()").rpartition(".")[2]
        return name if name in SUSPECTS else None
    return next((name for name, function in SUSPECTS.items() if call is function), None)


def _difference(case: Hunt, suspected: Hunt) -> str:
    longest = max(len(case.log), len(suspected.log))
    padded = (log + ("(the log ends)",) * (longest - len(log)) for log in (case.log, suspected.log))
    for number, (there, here) in enumerate(zip(*padded, strict=True), 1):
        if there != here:
            end = ". The guest has its page then" if suspected.accepted else ""
            return f"Line {number} of its log is “{here}”, that of the hunt “{there}”{end}."
    return "The trees it leaves are not those of the hunt."


def _where_it_began(case: Hunt) -> str:
    """The walk's first index, beside those that the frame has in either root."""
    td = _the_td(False)
    span, level = GfnRange(PAGE, PAGE + 1), td.geometry.root_level
    index = {root.is_mirror: td.geometry.index(PAGE | root.gfn_bits, level) for root in td.kvm.tdp_mmu_roots}
    visit = next(line for line in case.log if line.startswith("visit"))
    return (
        f"But the first entry that it looked at is “{visit}”; frame {span.start:#x} has index "
        f"{index[True]} in the table of the mirror root, and {index[False]} in that of the direct root."
    )
