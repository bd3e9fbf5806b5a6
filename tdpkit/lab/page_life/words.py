"""What a step of a page's life says: one sentence each, what changed and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tdpkit.engine.events import (
    EFAULT,
    EHWPOISON,
    EINVAL,
    EIO,
    ENOMEM,
    AllocTable,
    Event,
    External,
    Flush,
    Lock,
    Trace,
    Unlock,
)
from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K, GfnRange
from tdpkit.engine.mmu import KVM_LPAGE_GUEST_INHIBIT_FLAG, KVM_LPAGE_MIXED_FLAG
from tdpkit.engine.spte import is_last_spte, is_shadow_present_pte
from tdpkit.tdx.abi import TDX_PAGE_SIZE_MISMATCH, TDX_SUCCESS, Call, status_name

from ..words import Names, capital, count_of, group_digits, listed
from .record import Deed

GUEST, KVM, MODULE = "guest", "KVM", "TDX module"
ACTORS = (GUEST, KVM, MODULE)


class Said(NamedTuple):
    """A step's words: who acts, the call's name, the sentence, the kernel's function (or nothing), and which
    part of the picture changes ("attributes", "direct", "mirror", "sept", "finds" or nothing).
    """

    actor: str
    title: str
    sentence: str
    function: str = ""
    part: str = ""


_IOCTL, _FALLOCATE = "KVM_SET_MEMORY_ATTRIBUTES", "fallocate(PUNCH_HOLE)"
_SPLIT, ACCEPT_LEVEL = "tdp_mmu_split_huge_pages_root", "tdx_honor_guest_accept_level"
IN_HAND = "pages in hand"
"""A vCPU has some left from the fault before, or has not: no difference worth another telling."""
_KICK = "kick vCPUs"
JOINED = (IN_HAND, "TDH.VP.ENTER", _KICK)
"""Titles of what happens several times in a row, for one reason: one step tells of it."""

_TITLES = {
    "map_gpa": (GUEST, "", ""),
    "goes on": (GUEST, "", ""),
    "#VE": (GUEST, "", ""),
    "read": (GUEST, "", "finds"),
    "write": (GUEST, "", "finds"),
    "read shared": (GUEST, "", "finds"),
    "EPT violation": (GUEST, "tdx_handle_ept_violation", ""),
    _IOCTL: (KVM, "", ""),
    _FALLOCATE: (KVM, "", ""),
    "attributes": (KVM, "kvm_vm_set_mem_attributes", "attributes"),
    "accept level": (KVM, ACCEPT_LEVEL, ""),
    "huge-page flags": (KVM, "kvm_arch_post_set_memory_attributes", ""),
    "invalidate begin": (KVM, "kvm_mmu_invalidate_begin", ""),
    "invalidate end": (KVM, "kvm_mmu_invalidate_end", ""),
    "mmu_lock: read": (KVM, "kvm_tdp_mmu_page_fault", ""),
    "mmu_lock dropped": (KVM, _SPLIT, ""),
    "page": (KVM, "tdp_mmu_alloc_sp_for_split", ""),
    IN_HAND: (KVM, "mmu_topup_memory_caches", ""),
    "-ENOMEM": (KVM, _SPLIT, ""),
    "flush TLBs": (KVM, "kvm_flush_remote_tlbs", ""),
    "mirror: split": (KVM, "tdp_mmu_split_huge_page", "mirror"),
    "mirror: zap": (KVM, "tdp_mmu_zap_leafs", "mirror"),
    "mirror: leaf": (KVM, "kvm_tdp_mmu_map", "mirror"),
    "direct tree: zap": (KVM, "tdp_mmu_zap_leafs", "direct"),
    "direct tree: leaf": (KVM, "kvm_tdp_mmu_map", "direct"),
    _KICK: (KVM, "tdx_track", ""),
    "TDH.MEM.TRACK": (MODULE, "tdx_track", ""),
    "TDH.VP.ENTER": (MODULE, "tdx_vcpu_run", ""),
    "TDH.PHYMEM.PAGE.WBINVD": (MODULE, "", ""),
}
"""Title of a step -> who acts, the kernel's function where it is always the same, the part that changes."""


def _said(title: str, sentence: str) -> Said:
    actor, function, part = _TITLES[title]
    return Said(actor, title, sentence, function, part)


_ERRNOS = {-ENOMEM: "ENOMEM", -EINVAL: "EINVAL", -EIO: "EIO", -EFAULT: "EFAULT", -EHWPOISON: "EHWPOISON"}


def name_errno(ret: int) -> str:
    """``0``, ``-12 (-ENOMEM)``."""
    return f"{ret} (-{_ERRNOS[ret]})" if ret in _ERRNOS else f"{ret}"


# ---- the guest and userspace -----------------------------------------------------------------------------

GUESTS_DEEDS = ("errno", "#VE", "read", "write", "read shared")
"""Deeds that are part of the guest's work on a frame, or what comes of it; others lie between two works."""
LOCKERS = {
    "asks shared": "kvm_handle_gfn_range",
    "asks private": "kvm_handle_gfn_range",
    "calls again": "kvm_handle_gfn_range",
    "punches": "kvm_gmem_invalidate_begin",
}
"""Deed of userspace -> the kernel's function that takes mmu_lock for write until the call returns."""


def deed_said(deed: Deed, names: Names, *, own: bool, mapped: bool) -> Said:
    """A deed of the guest or of userspace, or what came of it.

    own: the frame holds the guest's bytes; mapped: some of the story's range is in the S-EPT.
    """
    where, frame = names.span(deed.start, deed.end), f"frame {names.frame(deed.start)}"
    if deed.what == "errno":
        sentence = f"KVM cannot serve {frame} and returns {name_errno(deed.ret)} to userspace."
        return Said(KVM, f"returns {_ERRNOS.get(deed.ret, deed.ret)}", sentence)
    if deed.what.startswith("returns"):
        return _return_said(deed, mapped)
    found = "its own bytes, as it left them" if own else "zeros"
    written = frame if deed.end - deed.start == 1 else f"frames {where}"
    to_private = f"to be private again; userspace calls {_IOCTL}."
    goes_on = f"it uses {where} with the S-bit, and its own frames around it."
    title, sentence = {
        "asks shared": ("map_gpa", f"The guest asks for {where} to be shared; userspace calls {_IOCTL}."),
        "asks private": ("map_gpa", f"The guest asks for {where} {to_private}"),
        "calls again": (_IOCTL, f"Userspace calls again for {where}; this time no page is refused."),
        "punches": (_FALLOCATE, f"Userspace punches pages {where} out of the guest_memfd."),
        "goes on shared": ("goes on", f"The guest goes on: {goes_on}"),
        "goes on as before": ("goes on", "The guest goes on: it finds its frames."),
        "goes on around": ("goes on", "The guest goes on with its frames around the hole."),
        "#VE": ("#VE", f"#VE: {frame} is PENDING. The guest is told that it must ACCEPT before it uses it."),
        "read": ("read", f"The guest reads {frame}: {found}."),
        "write": ("write", f"The guest writes to {written}: these are its bytes from now on."),
        "read shared": (
            "read shared",
            f"The guest reads {frame} with the S-bit: userspace’s byte. Both sides can use it.",
        ),
    }[deed.what]
    return _said(title, sentence)


def _return_said(deed: Deed, mapped: bool) -> Said:
    """KVM returns to userspace."""
    punched = deed.what == "returns: punch"
    sentence = f"{_FALLOCATE if punched else _IOCTL} returns {name_errno(deed.ret)}."
    if deed.ret:
        sentence += " Nothing was zapped, and no attribute changed"
        sentence += ": by the rule agreed for hugetlb and THP a hole will have to be of whole folios" * (
            punched and deed.ret == -EINVAL
        )
        sentence += "."
    elif deed.what == "returns: shared" and mapped:
        sentence += (
            " But nothing was zapped: the errno of the split was lost, and the private pages stay mapped."
        )
    return Said(KVM, f"returns {deed.ret}", sentence)


# ---- work that goes page after page ----------------------------------------------------------------------

AGAIN = "again"
"""Begins the title of a step that tells of work as before."""
WORK = {
    "zap": (
        "zapped in the mirror, BLOCK, TRACK, kick, REMOVE, a WBINVD per 4K page",
        KVM,
        "tdp_mmu_zap_leafs",
        "sept",
    ),
    "zap shared": ("zapped in the direct tree", KVM, "tdp_mmu_zap_leafs", "direct"),
    "accept": ("touched, PENDING, accepted", GUEST, "", "sept"),
    "read": ("the guest reads it", GUEST, "", "finds"),
    "read shared": ("the guest reads userspace’s bytes", GUEST, "", "finds"),
}
"""A kind of work that comes page after page -> what is done to each, by whom, the kernel's function, and the
part of the picture that changes."""


def again_said(work: str, names: Names, start: int, end: int, pages: int, lost: int) -> Said:
    """`pages` more pieces of a kind of work, on frames [start, end); `lost` frames outside the range went."""
    how, actor, function, part = WORK[work]
    if pages == 1:
        leaf = names.leaf(start, PG_LEVEL_4K if end - start == 1 else PG_LEVEL_2M)
        sentence = f"{capital(leaf)} goes the same way: {how}."
    else:
        sentence = f"{count_of(pages, 'more page')} in {names.span(start, end)} go the same way: {how}."
    if lost:
        sentence += f" {count_of(lost, 'frame')} outside the range: lost."
    return Said(actor, f"{AGAIN}: {work}", sentence, function, part)


# ---- what no event says ----------------------------------------------------------------------------------


def violation_said(names: Names, gfn: int, *, shared: bool, accepting: bool) -> Said:
    """A vCPU left the TD, at a touch of a frame (`shared`: with the S-bit) or `accepting` its page."""
    frame = f"frame {names.frame(gfn)}"
    sentence = f"EPT violation: the S-EPT has nothing at {frame}. vCPU 0 exits to KVM."
    if shared:
        sentence = f"EPT violation: the guest uses {frame} with the S-bit; the direct tree has none."
    elif accepting:
        told = "vCPU 0 exits to KVM, which is told the size that was to be accepted."
        sentence = f"EPT violation at {frame}: {told}"
    return _said("EPT violation", sentence)


def attributes_said(names: Names, span: GfnRange, private: bool) -> Said:
    """Attributes were stored."""
    half = "private" if private else "shared"
    said = f"say {half} from now on: faults there go to that half’s tree."
    return _said("attributes", f"The attributes of {names.span(span.start, span.end)} {said}")


Flags = Mapping[tuple[int, int], int]


def flags_said(names: Names, was: Flags, now: Flags) -> Said:
    """Where no huge page may be: flags by (level, first frame of the block), before and after."""

    def blocks(flags: Flags, flag: int) -> list[int]:
        return sorted(gfn for (level, gfn), bits in flags.items() if bits & flag and level == PG_LEVEL_2M)

    known = blocks(was, KVM_LPAGE_GUEST_INHIBIT_FLAG)
    for gfn in blocks(now, KVM_LPAGE_GUEST_INHIBIT_FLAG):
        if gfn not in known:
            where = names.frame(gfn)
            sentence = f"The guest accepted 4K in the block at {where}: no huge page there, ever again."
            return _said("accept level", sentence)
    sentence = "No block holds both halves now: none forbids a huge page for that."
    if mixed := blocks(now, KVM_LPAGE_MIXED_FLAG):
        firsts = listed(map(names.frame, mixed))
        what = f"The block at {firsts} holds" if len(mixed) == 1 else f"The blocks at {firsts} hold"
        sentence = f"{what} both halves: no huge page there until that changes."
    return _said("huge-page flags", sentence)


def invalidation_said(*, begins: bool) -> Said:
    """An invalidation began or ended."""
    if begins:
        sentence = "An invalidation begins: until it ends, a fault on the range retries."
        return _said("invalidate begin", sentence)
    return _said("invalidate end", "The invalidation is over: faults on the range are served again.")


# ---- KVM's events ----------------------------------------------------------------------------------------


def event_said(
    event: Event, names: Names, *, granted: bool, splitting: bool, tree: str, locker: str
) -> Said | None:
    """An event, where it is worth a step.

    granted: the page that it asks for; splitting: mmu_lock was dropped for that; tree: of the last store;
    locker: the kernel's function that takes the lock for write.
    """
    if isinstance(event, Lock):
        if event.shared:
            return _said("mmu_lock: read", "mmu_lock is taken for read: faults may run side by side.")
        sentence = "mmu_lock is taken for write: nobody else changes the tables now."
        return Said(KVM, "mmu_lock: write", sentence, _SPLIT if splitting else locker)
    if isinstance(event, Unlock):
        sentence = "A leaf has to be split, that takes a table: mmu_lock is dropped to allocate it."
        return _said("mmu_lock dropped", sentence) if splitting else None
    if isinstance(event, AllocTable):
        return _page_said(event, granted, splitting)
    if isinstance(event, Flush):
        return _said("flush TLBs", "All TLBs are flushed: no vCPU holds a translation from before.")
    if isinstance(event, External) and not event.shared:
        # The mirror's entry changed under the write lock; the hook is about to be called.
        leaf, follow = names.leaf(event.gfn, event.level), "the S-EPT has to follow."
        if event.op == "split":
            return _said("mirror: split", f"In the mirror {leaf} becomes a table of small leaves; {follow}")
        return _said("mirror: zap", f"In the mirror {leaf} is zapped, whole; {follow}")
    return _trace_said(event, names, tree) if isinstance(event, Trace) else None


def _page_said(event: AllocTable, granted: bool, splitting: bool) -> Said:
    """A page was asked for: by a split, or by a fault before it takes mmu_lock."""
    what = "a page-table page and an S-EPT page" if event.is_mirror else "a page-table page"
    title = "page" if splitting else IN_HAND
    if not granted:
        return _said(title, f"KVM asks for {what}: refused.")._replace(title="page refused")
    if splitting:
        return _said(title, f"KVM asks for {what}, and has them.")
    return _said(title, f"For the fault KVM takes {what} in hand, before it takes mmu_lock.")


def _trace_said(event: Trace, names: Names, tree: str) -> Said | None:
    """A WARN, a split that gave up, or a leaf that was set or zapped and of which no step has told yet."""
    if event.name.startswith("WARN"):
        return Said(KVM, "WARN", f"{event}.")
    if event.errno:
        return _said("-ENOMEM", "Without a page no split: -ENOMEM. What was split before stays split.")
    present = is_shadow_present_pte(event.new_spte)
    table = present and not is_last_spte(event.new_spte, event.level)
    if event.name != "kvm_tdp_mmu_spte_changed" or table:
        return None
    leaf = names.leaf(event.gfn, event.level)
    if present and tree == "mirror":
        frozen = "its entry was frozen while the TDX module was asked."
        return _said("mirror: leaf", f"The mirror has {leaf} too: {frozen}")
    if present:
        where = "to userspace’s memory; its index has the S-bit."
        return _said("direct tree: leaf", f"The direct tree maps {leaf} {where}")
    # Of what went from the mirror its own step has told, before the S-EPT followed.
    return None if tree == "mirror" else _said("direct tree: zap", f"In the direct tree {leaf} is zapped.")


# ---- calls of the TDX module -----------------------------------------------------------------------------

_NUMBERS = {2: "two", 4: "four", 8: "eight", 16: "sixteen"}

HOOKS = {
    "link": "tdx_sept_link_private_spt",
    "set": "tdx_sept_set_private_spte",
    "split": "tdx_sept_split_private_spte",
    "remove": "tdx_sept_remove_private_spte",
}
"""KVM's TDX functions behind the hooks (S161, S175)."""


def call_said(
    call: Call,
    names: Names,
    *,
    hook: str,
    state: str,
    epoch: int,
    pages: int,
    times: int,
    lost: int,
    kicked: bool,
    new_epoch: bool,
) -> Said:
    """A SEAMCALL or TDCALL, from the module's log, or `times` equal ones for one page after the other.

    hook: of KVM, which made the call; state: of the S-EPT's entry, after it; pages: frames it is about; lost:
    frames outside the range that go with it; kicked: vCPUs that enter had been kicked out; new_epoch: the
    vCPU that enters was never in this epoch.
    """
    leaf, function = names.leaf(call.gfn or 0, call.level or PG_LEVEL_4K), HOOKS.get(hook, "")
    if call.name.startswith("TDG."):
        return _accept_said(call, leaf)
    if call.status != TDX_SUCCESS:
        sentence = f"{call.name} returns {status_name(call.status or 0)}: nothing changes."
        return Said(MODULE, call.name, sentence, function)
    if call.name == "TDH.VP.ENTER" and kicked:
        again = f"enters again, in epoch {epoch}, its TLB empty: no old translation is left."
        return _said(_KICK, f"Each vCPU is kicked out and {again}")
    text = f"{call.name} {_done(call, names, leaf, state, epoch, new_epoch)}"
    if times > 1:
        text = f"{group_digits(times)} × {call.name}, {_WRITTEN_BACK}"
    if lost:
        text += f". {count_of(lost, 'frame')} of it outside the range: lost"
    _, usual, part = _TITLES.get(call.name, (MODULE, "", "sept"))
    return Said(MODULE, call.name, f"{text}.", usual or function, part)


_WRITTEN_BACK = "one per 4K page, write caches back: the host may use the leaf again"


def _done(call: Call, names: Names, leaf: str, state: str, epoch: int, new_epoch: bool) -> str:
    """What a call that succeeded does."""
    kept = "still accepted" if state == "PRESENT" else "still PENDING"
    entries, at = names.geometry.entries, names.frame(call.gfn or 0)
    many = _NUMBERS.get(entries, str(entries))
    tlb = "new to it: its TLB is emptied" if new_epoch else "as before: its TLB keeps what it holds"
    return {
        "TDH.VP.ENTER": f"resumes vCPU {call.vcpu}, in epoch {epoch}, {tlb}",
        "TDH.MEM.SEPT.ADD": f"puts a page from KVM into the S-EPT, as an empty table at {at}",
        "TDH.MEM.PAGE.AUG": f"maps {leaf} as PENDING: the guest cannot use it before it ACCEPTs",
        "TDH.MEM.RANGE.BLOCK": f"makes {leaf} {state}, in epoch {epoch}: "
        "no new translation, but a TLB may still have one",
        "TDH.MEM.TRACK": f"begins epoch {epoch}. A vCPU inside since before may still use an old translation",
        "TDH.MEM.PAGE.DEMOTE": f"turns {leaf} into {many} pages, {kept}",
        "TDH.MEM.PAGE.REMOVE": f"takes {leaf} out of the S-EPT: blocked, tracked, and now FREE",
        "TDH.PHYMEM.PAGE.WBINVD": "writes back what caches hold of the page: the host may use it again",
    }.get(call.name, "is done")


def _accept_said(call: Call, leaf: str) -> Said:
    part = ""
    if call.status is None:
        text = "finds nothing to accept at that size: an exit to KVM"
    elif call.status == TDX_SUCCESS:
        text, part = "fills it with zeros and makes it PRESENT: the guest may use it", "sept"
    else:
        text = f"returns {status_name(call.status)}"
        if call.status == TDX_PAGE_SIZE_MISMATCH:
            text += ": smaller pages are mapped, which the guest must accept"
    return Said(GUEST, call.name, f"{call.name} of {leaf} {text}.", part=part)
