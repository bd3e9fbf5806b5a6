"""When to flush after a split: the rules of the patch's commit log, and why it reports no status."""

from __future__ import annotations

from typing import Any

from tdpkit.engine.events import Event, Flush, Unlock, World, run
from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K
from tdpkit.engine.spte import PT_PAGE_SIZE_MASK, SPTE_BASE_ADDR_MASK
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root
from tdpkit.engine.tree import TdpMmuRoot, translate
from tdpkit.tdx.abi import TDX_SUCCESS, Seamcall

from ..flush_rules import attack
from ..layouts import LAYOUTS, Layout
from ..schedules import Found, Setting, explored
from ..td import Td
from ..words import count_of, group_digits
from .claim import FAILS, HOLDS, Claim, Finding, Lesson
from .trees import rooted


def _searched(setting: Setting) -> Found:
    return explored(setting)[1]


def _schedules(*found: Found) -> int:
    return sum(one.interleavings or 0 for one in found)


# ---- a split needs no flush of its own -----------------------------------------------------------------


class _AtDrops(World):
    """Compares every translation with the one before the split, at each drop of mmu_lock and at the end."""

    def __init__(self, root: TdpMmuRoot, layout: Layout) -> None:
        super().__init__()
        self.root = root
        self.frames = range(layout.frames)
        self.before = self._translations()
        self.drops = self.flushes = self.compared = self.differ = 0

    def _translations(self) -> list[tuple[int, int] | None]:
        """Of each frame the host frame, and all bits of its leaf that are neither frame nor page size."""
        found = ((gfn, translate(self.root, gfn)) for gfn in self.frames)
        other = ~(SPTE_BASE_ADDR_MASK | PT_PAGE_SIZE_MASK)
        return [leaf and (leaf.pfn + gfn - leaf.gfn, leaf.spte & other) for gfn, leaf in found]

    def compare(self) -> None:
        now = self._translations()
        self.compared += len(now)
        self.differ += sum(one != other for one, other in zip(self.before, now, strict=True))

    def answer(self, event: Event) -> Any:
        if isinstance(event, Unlock):
            self.drops += 1
            self.compare()
        self.flushes += isinstance(event, Flush)
        return super().answer(event)


_TOYS = ("toy", "steps", "large")


def _no_flush_before_a_drop() -> Finding:
    """Split three toys whole, drop by drop; then let every schedule attack callers that flush at their end.

    A translation that a TLB took before the split is stale, but does no harm as long as it equals what the
    tables say. Two callers prepare dirty logging under the exclusive lock, and two split under the shared
    one; they flush always, or only if they changed something. The engine leaves dirty logging out, and the
    callers are the lab's. Sources: M0, S80, S213, S214.
    """
    drops = flushes = compared = differ = 0
    for name in _TOYS:
        layout = LAYOUTS[name]
        root = rooted(layout)
        world = _AtDrops(root, layout)
        run(tdp_mmu_split_huge_pages_root(root, 0, layout.frames, PG_LEVEL_4K, shared=False), world)
        world.compare()
        drops, flushes = drops + world.drops, flushes + world.flushes
        compared, differ = compared + world.compared, differ + world.differ
    always = [_searched(Setting("track", "exclusive", flush="always")), _searched(Setting(flush="always"))]
    if_changed = _searched(Setting("track", "exclusive", flush="own split"))
    harm = {name for found in always for name in found.witness} - {"no misreport"}
    lost = if_changed.witness.get("no lost dirty bit")
    shown = (
        f"{count_of(drops, 'drop')} of mmu_lock, {count_of(flushes, 'flush', 'flushes')} by the loop: "
        f"{group_digits(differ)} of {count_of(compared, 'translation')} differ from those before the split. "
        f"With a flush at the end, always, {group_digits(_schedules(*always))} schedules "
        f"{'break something' if harm else 'break nothing'}; with one only if the call changed an entry, "
        + (f"a write is lost after {count_of(len(lost.moves), 'step')}." if lost else "no write is lost.")
    )
    return Finding(FAILS if differ or harm else HOLDS, shown)


# ---- no status -----------------------------------------------------------------------------------------


def _status_is_unreliable() -> Finding:
    """Let two threads split the same range, and search every schedule for a false "nothing was split".

    Under either lock, with pages allocated on demand (mmu_lock is dropped) and in hand (it is not). A caller
    that flushes only if it split leaves a TLB stale then. Sources: M0, S106, S211, S215; the part without a
    drop is ours.
    """
    said = {}
    found = {}
    for lock in ("exclusive", "shared"):
        for pages in ("on demand", "in hand"):
            found[lock, pages] = one = _searched(Setting(lock=lock, pages=pages))
            lie = one.witness.get("no misreport")
            said[lock, pages] = f"false after {count_of(len(lie.moves), 'step')}" if lie else "never false"
    dropped, kept = found["exclusive", "on demand"], found["exclusive", "in hand"]
    stale = "no stale TLB" in dropped.witness
    shown = (
        f"Exclusive lock: with the drop “nothing split” is {said['exclusive', 'on demand']}, in "
        f"{group_digits(_schedules(dropped))} schedules, and a caller that trusts it leaves "
        f"{'a' if stale else 'no'} TLB stale; without the drop it is {said['exclusive', 'in hand']}, in "
        f"{group_digits(_schedules(kept))}. Shared lock, which no caller of the series takes: with the drop "
        f"{said['shared', 'on demand']}, without it {said['shared', 'in hand']}."
    )
    return Finding(HOLDS if "no misreport" in dropped.witness else FAILS, shown)


# ---- the fault path of a TD ----------------------------------------------------------------------------


def _touch_leaves_no_translation() -> bool:
    """Whether no TLB holds a PENDING leaf after the guest touched it."""
    td = Td(frames=16, accepted=False)
    td.touch(3)
    return not any(td.module.tlb.values())


def _demote_wants_tracking() -> bool:
    """Whether the module refuses to demote a leaf that a vCPU may still use."""
    td = Td(frames=16)
    td.touch(3)
    page = td.tdx.pages.next_pfn
    early = td.module.mem_page_demote(0, PG_LEVEL_2M, page)
    td.module.mem_range_block(0, PG_LEVEL_2M)
    blocked = td.module.mem_page_demote(0, PG_LEVEL_2M, page)
    return early != TDX_SUCCESS != blocked


def _accept_is_tracked() -> bool:
    """Whether KVM blocks and tracks the leaf before it demotes it for an ACCEPT."""
    td = Td(frames=16, accepted=False)
    td.touch(3)
    td.forget()
    td.accept(3)
    made = [call.name for call in td.calls]
    wanted = [Seamcall.MEM_RANGE_BLOCK, Seamcall.MEM_TRACK, Seamcall.MEM_PAGE_DEMOTE]
    places = [made.index(str(name)) for name in wanted if str(name) in made]
    return len(places) == len(wanted) and places == sorted(places)


def _fault_path_needs_no_flush() -> Finding:
    """Ask the module for the two reasons, then let every schedule attack two vCPUs that do not flush.

    The reasons: a PENDING leaf is in no TLB; and a DEMOTE comes after BLOCK, TRACK and a kick, without which
    the module refuses it. The search runs with the reasons that were found, and with either, both and neither
    for comparison; those are what-ifs. Sources: M0; S164, S166, S167, S171, S173.
    """
    pending = _touch_leaves_no_translation()
    tracks = _accept_is_tracked() and _demote_wants_tracking()
    searched = {
        (one, other): _searched(Setting("accept", pending=one, tracks=other))
        for one in (True, False)
        for other in (True, False)
    }
    safe = {reasons: not found.witness for reasons, found in searched.items()}

    def word(reasons: tuple[bool, bool]) -> str:
        return "no TLB is stale" if safe[reasons] else "a TLB is stale"

    shown = (
        f"A touch of a PENDING leaf leaves {'no' if pending else 'a'} translation in the TLB; DEMOTE "
        f"{'comes after' if tracks else 'does without'} BLOCK, TRACK and a kick. Two vCPUs ACCEPT, without a "
        f"flush: {word((pending, tracks))} in {group_digits(_schedules(searched[pending, tracks]))} "
        f"schedules. PENDING alone: {word((True, False))}; tracking alone: {word((False, True))}; neither: "
        f"{word((False, False))}."
    )
    return Finding(HOLDS if safe[pending, tracks] else FAILS, shown)


# ---- a rule for each use -------------------------------------------------------------------------------


def _flush_after_the_zap() -> Finding:
    """Let every schedule attack the commit log's rules for a zap and for a pure split, and cheaper ones.

    A conversion that meets a fault flushes once, after its zap, with mmu_lock still held; two threads prepare
    dirty logging and a guest writes. Sources: M0, S198, S210, S213, S214.
    """
    meets = _searched(Setting("convert"))
    zap = attack("conversion", "if I changed")
    split_only = attack("conversion", "if I split")
    pure = attack("dirty logging", "if I changed")
    always = attack("dirty logging", "always")
    zap_safe = not meets.witness and zap.witness is None
    shown = (
        f"One flush after the zap leaves {'no TLB' if zap_safe else 'a TLB'} stale in "
        f"{group_digits(_schedules(meets) + zap.interleavings)} schedules; a flush only for an own split "
        f"{'is enough' if split_only.witness is None else 'is not enough'}. A pure split for dirty logging: "
        + (
            f"a flush only for own changes loses a write after {count_of(len(pure.witness.moves), 'step')}"
            if pure.witness
            else "a flush only for own changes is enough"
        )
        + f"; with a flush always {group_digits(always.interleavings)} schedules "
        f"{'lose none' if always.witness is None else 'lose one'}."
    )
    holds = zap_safe and pure.witness is not None and always.witness is None
    return Finding(HOLDS if holds else FAILS, shown)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        3,
        ("M0",),
        "The split itself needs no flush",
        "The split loop need not flush before it drops mmu_lock. Its callers, which log dirty pages, flush "
        "unconditionally at their end.",
        "Nobody disputed it in the thread. v3 passes “flush” as false wherever the loop gives way, after a "
        "comment by Kai Huang (M0).",
        Lesson("06", "Does it matter?"),
        _no_flush_before_a_drop,
    ),
    Claim(
        4,
        ("M0",),
        "Return no status: it could be wrong",
        "The call should not report whether it split or owes a flush. Several threads may split the same "
        "range; another can do it while mmu_lock is dropped, so “nothing split” could be false.",
        "Nobody disputed it in the thread. RFC v2 had returned a status, and Kai Huang had asked for one in "
        "November 2025 (K2); v3 returns none.",
        Lesson("06", "The reason in the commit log"),
        _status_is_unreliable,
    ),
    Claim(
        5,
        ("M0",),
        "A split in a TD's fault path: no flush",
        "A split in the fault path of a TD needs no TLB flush. The hardware should not have cached the old "
        "huge translation.",
        "Nobody disputed it.",
        Lesson("06", "In the fault path of a TD: none"),
        _fault_path_needs_no_flush,
    ),
    Claim(
        6,
        ("M0",),
        "Flush after the zap; a pure split, always",
        "A split before a zap can leave the flush until after the zap. So it is for a punched hole and a "
        "conversion. A use that relies on the split alone, as for PML, must flush unconditionally; it is "
        "hypothetical, no such caller exists.",
        "Nobody disputed it.",
        Lesson("06", "Three rules"),
        _flush_after_the_zap,
    ),
)
