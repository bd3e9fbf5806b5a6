"""Read a line about TDX from a log or a bug report: which call, which status, where its walk ended.

    python -m tdpkit.lab.tdx_report "SEAMCALL 15 failed: 0xc0000b0800000001, RDX 0x101" ...
    dmesg | python -m tdpkit.lab.tdx_report

Exit status 0 if a line said something; 2 if none did; 130 after Ctrl-C; 141 if nobody reads on.

Calls, statuses and states come from the facts (S163, S165, S178, S266). A number that no fact has is
"not known here". The experiments that show the same symptoms are in :mod:`.reports`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K, X86_4LEVEL, InvalidTypeError
from tdpkit.tdx.abi import STATUS_NAMES, Seamcall, is_error, status_name
from tdpkit.tdx.module import BLOCKED_FROM, UNBLOCKED_FROM, SeptState

from .terminal import exit_status
from .words import listed

SEAMCALL_NAMES = {int(call): str(call) for call in Seamcall} | {
    2: "TDH.MEM.PAGE.ADD",
    23: "TDH.MEM.PAGE.PROMOTE",
    30: "TDH.MEM.SEPT.REMOVE",
    39: "TDH.MEM.RANGE.UNBLOCK",
    40: "TDH.PHYMEM.CACHE.WB",
}
"""SEAMCALLs by number: those of the model, and the others that S163 numbers."""
ACCEPT = "TDG.MEM.PAGE.ACCEPT"
OPERANDS = {0x01: "RCX", 0x80: "TDR", 0x92: "SEPT", 0xA9: "TD_EPOCH"}
"""Operands by the lower half of a status (S266)."""
MEANINGS = {
    "TDX_OPERAND_BUSY": "somebody held what the call needs; KVM keeps the vCPUs out and calls once more, and "
    "may go on only after a success (S168)",
    "TDX_PREVIOUS_TLB_EPOCH_BUSY": "a vCPU of the epoch before is still inside (S166)",
    "TDX_EPT_WALK_FAILED": "the walk did not reach an entry of the level asked for (S266)",
    "TDX_EPT_ENTRY_FREE": "the entry is FREE (S165)",
    "TDX_GPA_RANGE_NOT_BLOCKED": "BLOCK comes first, and must have succeeded (S167)",
    "TDX_TLB_TRACKING_NOT_DONE": "after BLOCK come TRACK and every vCPU out once (S166, S167)",
    "TDX_PAGE_ALREADY_ACCEPTED": "the page was accepted before, in this size or a larger one (S169)",
    "TDX_PAGE_SIZE_MISMATCH": "a table is where the guest accepts a page: KVM mapped smaller ones (S169)",
    "TDX_EPT_ENTRY_STATE_INCORRECT": "the entry's state does not allow the call (S167)",
}
"""What a status says, where a fact says it."""

_SHORT = {word: f"TDH.MEM.PAGE.{word}" for word in ("AUG", "DEMOTE", "PROMOTE", "REMOVE")} | {
    "BLOCK": "TDH.MEM.RANGE.BLOCK",
    "UNBLOCK": "TDH.MEM.RANGE.UNBLOCK",
    "TRACK": "TDH.MEM.TRACK",
    "WBINVD": "TDH.PHYMEM.PAGE.WBINVD",
    "ACCEPT": ACCEPT,
}
"""Calls by the names that people use."""
_BLOCK = X86_4LEVEL.pages(PG_LEVEL_2M)
_LABELS = {number: X86_4LEVEL.level(number + 1).label for number in range(X86_4LEVEL.root_level)}
"""Sizes by the module's count of levels, which begins at 0."""
_UNKNOWN = "not known here"
_CHUNK = 1 << 16
"""Characters of a line that are read; a report's line has far fewer."""


class SeptInfo(NamedTuple):
    """What RDX says of the S-EPT entry at which a walk ended (S266)."""

    raw: int

    @property
    def level(self) -> int:
        """Counted from 0, as the module does."""
        return self.raw & 7

    @property
    def state(self) -> int:
        """The number of its state."""
        return self.raw >> 8 & 0xFF

    def __repr__(self) -> str:
        states = {int(state): state.name for state in SeptState}
        size, state = _LABELS.get(self.level, _UNKNOWN), states.get(self.state, _UNKNOWN)
        return f"RDX {self.raw:#x}: level {self.level} ({size}), state {self.state} ({state})"


class TdxReport(NamedTuple):
    """What a line says; None and empty for what it leaves out."""

    calls: tuple[str, ...] = ()
    """Names of the SEAMCALLs or the TDCALL; a number that is not known stays a number."""
    status: int | None = None
    name: str | None = None
    """Of the status, as the line or S178 names it."""
    info: SeptInfo | None = None
    gfn: int | None = None
    level: int | None = None
    """In KVM's count, 1 = 4K."""
    pfns: tuple[int, ...] = ()
    """Host frames that it names, in order: the leaf's, if one is aligned to 2M, then children's."""
    seq: int | None = None
    """mmu_invalidate_seq."""

    def __repr__(self) -> str:
        return "\n".join([*_of_call(self), *_of_walk(self), *_of_frames(self), *_of_seq(self)])

    @property
    def cause(self) -> str:
        """What the entry that RDX tells of and the call come to; empty if nothing follows."""
        if self.info is None:
            return ""
        blocked = self.info.state in UNBLOCKED_FROM
        if self.name == "TDX_EPT_WALK_FAILED" and blocked and self.level and self.info.level >= self.level:
            return (
                f"KVM asks for {_LABELS[self.level - 1]} where the S-EPT still has a blocked leaf of "
                f"{_LABELS.get(self.info.level, '?')}: KVM's tables are split there, the S-EPT is not. "
                "A DEMOTE that failed after its BLOCK leaves this, if nobody passes its failure on"
            )
        if {"TDH.MEM.PAGE.DEMOTE", "TDH.MEM.PAGE.REMOVE"} & {*self.calls} and self.info.state in BLOCKED_FROM:
            return (
                "so the entry is not blocked: was the BLOCK before this call answered by a status that "
                "nobody heeded, such as TDX_OPERAND_BUSY?"
            )
        return ""


# ---- reading -------------------------------------------------------------------------------------------


def read_report(line: str) -> TdxReport | None:
    """Read one line; None if nothing in it is about TDX. Raises InvalidTypeError unless it is text.

    Frames and registers are in hex, with or without 0x; levels are decimal.
    """
    if not isinstance(line, str):
        raise InvalidTypeError(f"a report is read from text; {line!r} is a {type(line).__name__}")
    line = line[:_CHUNK]
    calls = tuple(dict.fromkeys(_calls(line)))
    registers = {name.lower(): int(value, 16) for name, value in _REGISTERS.findall(line)}
    levels = {name: int(number) for name, number in _LEVELS.findall(line)}
    level = levels.get("level", levels.get("tdx_level", -1) + 1)
    seq, (status, name) = _SEQ.search(line), _status(line, bool(calls))
    found = TdxReport(
        calls,
        status,
        name,
        SeptInfo(registers["rdx"]) if "rdx" in registers else None,
        registers.get("gfn"),
        level if level - 1 in _LABELS else None,
        tuple(int(pfn, 16) for run in _PFNS.findall(line) for pfn in _FRAME.findall(run)),
        int(seq[1], 0) if seq else None,
    )
    return found if calls or name or found.info or seq or found.pfns[1:] else None


_REGISTERS = re.compile(r"\b(?:out_)?(gfn|r[a-d]x|r\d\d?)\s*[=:]?\s*(?:0x)?([0-9a-f]{1,16})\b", re.IGNORECASE)
_LEVELS = re.compile(r"\b(level|tdx_level)\s*[=:]?\s*(\d)\b")
_FRAME = re.compile(r"\b(?:0x[0-9a-f]{1,13}|[0-9a-f]{4,13})\b", re.IGNORECASE)
_PFNS = re.compile(rf"\b(?:pfn|child(?:ren)?)\s*[=:]?((?:[\s,/]*{_FRAME.pattern})+)", re.IGNORECASE)
_SEQ = re.compile(r"\bmmu_(?:invalidate|notifier)_seq\s*[=:]?\s*(0x[0-9a-fA-F]{1,16}|\d{1,20})\b")
_FULL = re.compile(r"\bTD[HG][._][A-Z]+(?:[._][A-Z]+)+(?![\w+])", re.IGNORECASE)
"""Not the ``tdh_mem_page_remove+0x12`` of a stack trace."""
_COUNTED = re.compile(r"\bSEAMCALL\s*(?:leaf\s*)?[(=]?\s*(0x[0-9a-f]{1,4}|\d{1,5})\b", re.IGNORECASE)
_WORD = re.compile(rf"\b(?:{'|'.join(_SHORT)})\b")
_HEX = re.compile(r"\b(?:0x[0-9a-fA-F]{9,16}|[0-9a-fA-F]{16})\b")
_STATUS_NAME = re.compile(r"\bTDX_[A-Z0-9_]{2,60}\b")


def _calls(line: str) -> Iterator[str]:
    for number in _COUNTED.findall(line):
        yield SEAMCALL_NAMES.get(int(number, 0), f"SEAMCALL {int(number, 0)}")
    for name in _FULL.findall(line):
        yield name.upper().replace("_", ".")
    for word in _WORD.findall(_FULL.sub("", line)):
        yield _SHORT[word]


def _status(line: str, of_call: bool) -> tuple[int | None, str | None]:
    """The status, by number or name; an error's number that is not known counts where the line has a call."""
    numbers = [int(text, 16) for text in _HEX.findall(_REGISTERS.sub("", line))]
    for value in numbers:
        if value >> 32 and value >> 32 << 32 in STATUS_NAMES:
            return value, status_name(value)
    names = [name for name in _STATUS_NAME.findall(line) if name in STATUS_NAMES.values()]
    if names:
        return None, names[0]
    unknown = next((value for value in numbers if of_call and is_error(value)), None)
    return unknown, _UNKNOWN if unknown is not None else None


# ---- saying --------------------------------------------------------------------------------------------


def _of_call(report: TdxReport) -> Iterator[str]:
    if report.calls:
        yield listed(map(_call, report.calls), "or")
    if report.name:
        said = report.name
        if report.status is not None:
            operand = report.status & 0xFFFFFFFF
            at = f"; operand {operand:#x} ({OPERANDS.get(operand, _UNKNOWN)})" if operand else ""
            said = f"{report.status:#018x}: {said}, {'an' if is_error(report.status) else 'no'} error{at}"
        yield said + (f": {MEANINGS[report.name]}" if report.name in MEANINGS else "")


def _call(name: str) -> str:
    number = next((number for number, known in SEAMCALL_NAMES.items() if known == name), None)
    if number is not None:
        return f"{name} (SEAMCALL {number})"
    return f"{name} ({'a call of the guest' if name == ACCEPT else _UNKNOWN})"


def _of_walk(report: TdxReport) -> Iterator[str]:
    if report.info is not None:
        sure = report.name in (None, "TDX_EPT_WALK_FAILED", "TDX_EPT_ENTRY_STATE_INCORRECT")
        yield repr(report.info) + ("" if sure else "; with this status it is unverified (S266)")
    if report.cause:
        yield report.cause


def _of_frames(report: TdxReport) -> Iterator[str]:
    gfn, level = report.gfn, report.level
    if gfn is not None:
        size = f", level {level} ({_LABELS[level - 1]})" if level else ""
        yield f"gfn {gfn:#x}{size}: frame {gfn % _BLOCK:#x} of the 2M block at {gfn - gfn % _BLOCK:#x}"
        if level and gfn % X86_4LEVEL.pages(level):
            yield f"no entry of {_LABELS[level - 1]} begins there"
    for leaf in [pfn for pfn in report.pfns if not pfn % _BLOCK][:1]:
        own = gfn % _BLOCK if gfn is not None and level == PG_LEVEL_4K else None
        yield from (_place(pfn, leaf, own) for pfn in report.pfns)


def _place(pfn: int, leaf: int, own: int | None) -> str:
    """Where a host frame lies in the page of 2M at `leaf`; `own` is the gfn's place in its block."""
    ahead = pfn - leaf
    if not ahead:
        return f"pfn {pfn:#x}: the first frame of a 2M page"
    if ahead not in range(_BLOCK):
        return f"pfn {pfn:#x}: no frame of the 2M page at {leaf:#x}"
    return f"pfn {pfn:#x} = {leaf:#x} + {ahead:#x}: a frame of it{', the gfn’s own' if ahead == own else ''}"


def _of_seq(report: TdxReport) -> Iterator[str]:
    if report.seq is not None:
        kept = kept_in_int(report.seq)
        same = (
            "as it is" if kept == report.seq else f"as {kept:#x}, never equal: every fault is stale for ever"
        )
        yield f"mmu_invalidate_seq {report.seq:#x}: an int hands it to the comparison {same} (S267)"


def kept_in_int(seq: int) -> int:
    """What an unsigned long is after it was kept in a C int: 32 bits, extended by their sign."""
    low = seq & 0xFFFFFFFF
    return low | 0xFFFFFFFF << 32 if low >> 31 else low


# ---- the command ---------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    if given in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    return exit_status(partial(_run, given), "lines that are not printed are not read")


def _run(given: Sequence[str]) -> int:
    found = False
    for line in given if given and given != ["-"] else _piped():
        report = read_report(line)
        if report:
            print(f"{report!r}\n", flush=True)
            found = True
        elif given:
            print("nothing about TDX in this line\n", flush=True)
    if not found:
        print("no line with a SEAMCALL, a status of TDX or an S-EPT entry", file=sys.stderr)
    return 0 if found else 2


def _piped() -> Iterable[str]:
    sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]  # a log may hold any byte
    return iter(lambda: sys.stdin.readline(_CHUNK), "")


if __name__ == "__main__":
    raise SystemExit(main())
