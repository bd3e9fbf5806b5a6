"""What a step of a page's life says: one sentence each, what changed and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_4K, Geometry, format_gfn
from tdpkit.engine.tdx_abi import TDX_PAGE_SIZE_MISMATCH, TDX_SUCCESS, Call, status_name

from .words import count_of

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
    call: Call, names: Names, *, hook: str, state: str, epoch: int, pages: int, lost: int, exits: str
) -> Said:
    """A SEAMCALL or TDCALL. state: of the S-EPT's entry, after it; pages: how many such calls in a row;
    lost: frames outside the range that go with it; exits: why a vCPU that enters was outside.
    """
    name, gfn, level = call.name, call.gfn or 0, call.level or PG_LEVEL_4K
    leaf, function = names.leaf(gfn, level), HOOKS.get(hook, "")
    if name.startswith("TDG."):
        return _accept_said(call, leaf)
    if call.status != TDX_SUCCESS:
        return Said(
            MODULE, name, f"{name} returns {status_name(call.status or 0)}: nothing changes.", function
        )
    say: Callable[[str, str], Said] = lambda text, part="sept": Said(  # noqa: E731 - one sentence per case
        MODULE, name, f"{name} {text}", function, part
    )
    if name == "TDH.VP.ENTER":
        return _enter_said(call, epoch, exits)
    if name == "TDH.MEM.SEPT.ADD":
        return say(
            f"puts a page that KVM gave into the S-EPT, as the table for what lies at {names.frame(gfn)}: empty.",
            "sept",
        )
    if name == "TDH.MEM.PAGE.AUG":
        return say(f"maps {leaf} in the S-EPT as PENDING: the guest cannot use it before it ACCEPTs.", "sept")
    if name == "TDH.MEM.RANGE.BLOCK":
        return say(
            f"makes {leaf} {state} in epoch {epoch}: no new translations, but a TLB may still hold one.",
            "sept",
        )
    if name == "TDH.MEM.TRACK":
        return Said(
            MODULE,
            name,
            f"{name} begins epoch {epoch}. A vCPU that entered before may still use old translations.",
            "tdx_track",
        )
    if name == "TDH.MEM.PAGE.DEMOTE":
        entries = names.geometry.entries
        kept = "still accepted" if state == "PRESENT" else "still PENDING"
        return say(f"turns {leaf} into {_NUMBERS.get(entries, str(entries))} pages, {kept}.", "sept")
    if name == "TDH.MEM.PAGE.REMOVE":
        gone = f" {count_of(lost, 'frame')} of it outside the range: lost." if lost else ""
        return say(
            f"takes {leaf} out of the S-EPT. It was blocked and tracked; what it held is gone.{gone}", "sept"
        )
    if name == "TDH.PHYMEM.PAGE.WBINVD":
        what = "the page" if pages == 1 else f"each of the {pages} pages"
        return say(
            f"writes back what caches hold of {what}: the host may use {'it' if pages == 1 else 'them'} again.",
            "",
        )
    return say("is done.", "")


def _enter_said(call: Call, epoch: int, exits: str) -> Said:
    if exits == "kick":
        return Said(
            KVM,
            "kick vCPUs",
            f"Every vCPU is kicked out and enters again, in epoch {epoch}, its TLB empty: nobody can hold the old translation.",
            "tdx_track",
        )
    return Said(
        MODULE,
        call.name,
        f"{call.name} resumes vCPU {call.vcpu}, in epoch {epoch} and with an empty TLB.",
        "tdx_vcpu_run",
    )


def _accept_said(call: Call, leaf: str) -> Said:
    name = call.name
    if call.status is None:
        return Said(
            GUEST,
            name,
            f"{name} of {leaf} finds nothing to accept at that size: an exit to KVM, which learns the size.",
        )
    if call.status == TDX_PAGE_SIZE_MISMATCH:
        return Said(
            GUEST,
            name,
            f"{name} of {leaf}: TDX_PAGE_SIZE_MISMATCH, smaller pages are mapped there. The guest must accept those.",
        )
    if call.status == TDX_SUCCESS:
        return Said(
            GUEST,
            name,
            f"{name} of {leaf}: the TDX module fills it with zeros and makes it PRESENT. Now the guest may use it.",
            part="sept",
        )
    return Said(GUEST, name, f"{name} of {leaf} returns {status_name(call.status)}.")
