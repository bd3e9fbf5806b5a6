"""What a step of a page's life says: one sentence each, what changed and why."""

from __future__ import annotations

from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_4K, Geometry, format_gfn
from tdpkit.tdx.abi import TDX_PAGE_SIZE_MISMATCH, TDX_SUCCESS, Call, status_name

from ..words import count_of

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


class Names:
    """Frames and leaves in words: numbers on the toy, addresses on x86."""

    def __init__(self, geometry: Geometry, toy: bool) -> None:
        self.geometry = geometry
        self.toy = toy

    def frame(self, gfn: int) -> str:
        """A frame's number or address."""
        return str(gfn) if self.toy else format_gfn(gfn)

    def span(self, start: int, end: int) -> str:
        """A range."""
        return f"[{self.frame(start)}, {self.frame(end)})"

    def leaf(self, gfn: int, level: int) -> str:
        """``page 5``, ``the 8-frame leaf at frame 0``."""
        if level == PG_LEVEL_4K:
            return f"page {self.frame(gfn)}" if self.toy else f"the page at {self.frame(gfn)}"
        if self.toy:
            return f"the {self.geometry.pages(level)}-frame leaf at frame {gfn}"
        return f"the {self.geometry.level(level).label} leaf at {self.frame(gfn)}"


_NUMBERS = {2: "two", 4: "four", 8: "eight", 16: "sixteen"}

HOOKS = {
    "link": "tdx_sept_link_private_spt",
    "set": "tdx_sept_set_private_spte",
    "split": "tdx_sept_split_private_spte",
    "remove": "tdx_sept_remove_private_spte",
}
"""KVM's TDX functions behind the hooks (kernel-facts 8.2, 8.17)."""


def call_said(
    call: Call, names: Names, *, hook: str, state: str, epoch: int, pages: int, lost: int, kicked: bool
) -> Said:
    """A SEAMCALL or TDCALL, from the module's log.

    hook: of KVM, which made the call; state: of the S-EPT's entry, after it; pages: frames it is about; lost:
    frames outside the range that go with it; kicked: vCPUs that enter had been kicked out.
    """
    leaf = names.leaf(call.gfn or 0, call.level or PG_LEVEL_4K)
    if call.name.startswith("TDG."):
        return _accept_said(call, leaf)
    if call.status != TDX_SUCCESS:
        sentence = f"{call.name} returns {status_name(call.status or 0)}: nothing changes."
        return Said(MODULE, call.name, sentence, HOOKS.get(hook, ""))
    if call.name == "TDH.VP.ENTER":
        return _enter_said(call, epoch, kicked)
    if call.name == "TDH.MEM.TRACK":
        text = f"begins epoch {epoch}. A vCPU inside since before may still use an old translation"
        return Said(MODULE, call.name, f"{call.name} {text}.", "tdx_track")
    text = _done(call, names, leaf, state, epoch, pages)
    if lost:
        text += f". {count_of(lost, 'frame')} of it outside the range: lost"
    part = "" if call.name == "TDH.PHYMEM.PAGE.WBINVD" else "sept"
    return Said(MODULE, call.name, f"{call.name} {text}.", HOOKS.get(hook, ""), part)


def _done(call: Call, names: Names, leaf: str, state: str, epoch: int, pages: int) -> str:
    """What a call that succeeded does to the S-EPT."""
    kept = "still accepted" if state == "PRESENT" else "still PENDING"
    entries, at = names.geometry.entries, names.frame(call.gfn or 0)
    many = _NUMBERS.get(entries, str(entries))
    host = "the page" if pages == 1 else f"all {pages} pages"
    return {
        "TDH.MEM.SEPT.ADD": f"puts a page from KVM into the S-EPT, as an empty table at {at}",
        "TDH.MEM.PAGE.AUG": f"maps {leaf} as PENDING: the guest cannot use it before it ACCEPTs",
        "TDH.MEM.RANGE.BLOCK": f"makes {leaf} {state}, in epoch {epoch}: "
        "no new translation, but a TLB may still have one",
        "TDH.MEM.PAGE.DEMOTE": f"turns {leaf} into {many} pages, {kept}",
        "TDH.MEM.PAGE.REMOVE": f"takes {leaf} out of the S-EPT: blocked, tracked, and now FREE",
        "TDH.PHYMEM.PAGE.WBINVD": f"writes back what caches hold of {host}: the host may use it again",
    }.get(call.name, "is done")


def _enter_said(call: Call, epoch: int, kicked: bool) -> Said:
    if kicked:
        sentence = (
            f"Each vCPU is kicked out and enters again, in epoch {epoch}, its TLB empty: "
            "no old translation is left."
        )
        return Said(KVM, "kick vCPUs", sentence, "tdx_track")
    sentence = f"{call.name} resumes vCPU {call.vcpu}, in epoch {epoch} and with an empty TLB."
    return Said(MODULE, call.name, sentence, "tdx_vcpu_run")


def _accept_said(call: Call, leaf: str) -> Said:
    name = f"{call.name} of {leaf}"
    if call.status is None:
        return Said(GUEST, call.name, f"{name} finds nothing to accept at that size: an exit to KVM.")
    if call.status == TDX_PAGE_SIZE_MISMATCH:
        sentence = (
            f"{name} returns TDX_PAGE_SIZE_MISMATCH: smaller pages are mapped, which the guest must accept."
        )
        return Said(GUEST, call.name, sentence)
    if call.status == TDX_SUCCESS:
        sentence = f"{name} fills it with zeros and makes it PRESENT: the guest may use it."
        return Said(GUEST, call.name, sentence, part="sept")
    return Said(GUEST, call.name, f"{name} returns {status_name(call.status)}.")
