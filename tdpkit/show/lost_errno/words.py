"""Words for the lost -12: how each caller interprets the value, what comes out, what is true."""

from __future__ import annotations

from itertools import groupby

from tdpkit.engine.gfn import GfnRange
from tdpkit.lab.lost_errno import FRAMES, VERDICTS, Attempt, CallerRow, Shortage, run_short
from tdpkit.lab.words import capital, count_of
from tdpkit.tdx.module import SeptState

TITLE = "The lost -12: what each caller makes of it"
LEAF = FRAMES // 2


def call_words(row: CallerRow) -> tuple[str, str]:
    """The call, and on what."""
    span = _span_words(row.span)
    match row.name:
        case "conversion per VM":
            return "KVM_SET_MEMORY_ATTRIBUTES", f"{span} to shared"
        case "conversion by file":
            return "KVM_SET_MEMORY_ATTRIBUTES2", f"{span} to shared"
        case "punch hole":
            whole = row.span.start % LEAF == row.span.end % LEAF == 0
            return "fallocate(PUNCH_HOLE)", f"{span}, {'whole folios' if whole else 'not of whole folios'}"
        case "ACCEPT":
            return "TDG.MEM.PAGE.ACCEPT", f"frame {row.span.start} alone, of a leaf of {LEAF}"
        case _:
            return "kvm_gmem_error_folio", f"page {row.span.start}; a split is only planned"


_RETURNS = {
    "conversion per VM": "the ioctl",
    "conversion by file": "the ioctl",
    "punch hole": "fallocate",
    "ACCEPT": "ACCEPT",
    "memory failure": "MF_DELAYED",
}
"""What the value of each row comes out of, or is called."""


# ---- the value on its way ------------------------------------------------------------------------------


def values(numbers: tuple[int, ...]) -> str:
    """Write what came back each time, equal ones counted: ``-12 ×8``; a dash if nothing was called."""
    runs = [(value, len(list(run))) for value, run in groupby(numbers)]
    return ", ".join(f"{value} ×{count}" if count > 1 else f"{value}" for value, count in runs) or "–"


def made_of_it(row: CallerRow, attempt: Attempt) -> str:
    """Say how the caller interpreted what the wrapper returned."""
    got = attempt.wrapper[-1] if attempt.wrapper else None
    if row.name == "ACCEPT":
        return _accept_made_of_it(attempt)
    if got is None:
        return "the attributes say shared already: nothing to do"
    zap = f"zaps {count_of(attempt.zapped, 'frame')}" if attempt.zapped else "skips the zap"
    flush = ", flushes" if attempt.flushed else ""
    if row.name == "memory failure" and got:
        return f"would go on, says this model: {zap}, the leaf whole{flush}"
    hole = row.name == "punch hole"
    if got == 0:
        stores = ", makes the hole" if hole else ", stores the attributes"
        stores = stores if attempt.stored and row.name != "memory failure" else ""
        return f"{zap if attempt.zapped else 'finds nothing to zap'}{flush}{stores}"
    if row.name == "conversion per VM":
        if got > 0:
            return f"takes 1 for “flush”: {zap}{flush}, stores the attributes, ends the invalidation"
        ends = "leaves the invalidation open" if attempt.in_progress else "ends the invalidation"
        return f"gives up: {zap}, stores nothing, {ends}"
    stores, what = "makes no hole" if hole else "stores nothing", "1" if got > 0 else "errno"
    return f"bails out, for it is not 0: {zap}, {stores}, returns the {what}"


def _accept_made_of_it(attempt: Attempt) -> str:
    if not attempt.wrapper:
        return "is not asked: the page is a 4K page by now"
    if attempt.wrapper[-1] < 0:
        return "goes out to userspace; the guest stands still at its ACCEPT"
    if attempt.returned is not None and attempt.returned < 0:
        what = attempt.requests[attempt.refused[-1] - 1]
        return f"has its split; then its own request for {what} is refused"
    tries = len(attempt.wrapper)
    if tries == 1:
        return "sets the inhibit bit, resumes the guest"
    ends = "for ever" if attempt.returned is None else f"fault {tries} is granted the split"
    return f"takes 1 for “resume the guest”, which faults again: {ends}"


def came_out(row: CallerRow, attempt: Attempt) -> tuple[str, str, str]:
    """The value that came out, of what, and what it means there."""
    value, what = attempt.returned, _RETURNS[row.name]
    if value is None:
        return "∞", "the guest faults", "again and again"
    if value < 0:
        return str(value), "KVM_RUN" if row.name == "ACCEPT" else what, "-ENOMEM"
    if row.name == "memory failure":
        return str(value), what, "as always"
    if row.name == "ACCEPT":
        return f"{value >> 32:#x}" if value else "0", what, "accepted already" if value else "success"
    return str(value), what, "“done”" if not value else "1 is no errno"


def requests_words(attempt: Attempt, refuse: int) -> str:
    """Say which of its requests for host memory was refused."""
    if attempt.refused:
        first = attempt.refused[0]
        later = ", later ones" if len(attempt.refused) > 1 else " refused"
        return f"{first}: {attempt.requests[first - 1]}{later}"
    if not attempt.requests:
        return "no split: asks for no page"
    asked = f"asks {count_of(len(attempt.requests), 'time')}"
    return f"{asked} only" if refuse else f"{asked}, all granted"


def request_names(shortage: Shortage) -> list[str]:
    """What is asked of the host, in order, if nothing is refused: by the first caller that asks so often."""
    asked = [row.first.requests for row in run_short(shortage._replace(refuse=0, again=False))]
    most = max(map(len, asked))
    return [next(names[at] for names in asked if at < len(names)) for at in range(most)]


def leaf_words(span: GfnRange, first: int) -> str:
    """Say what the range makes of the leaf from frame `first` on."""
    if any(first < edge < first + LEAF for edge in (span.start, span.end)):
        return "must be split"
    return "whole: no split" if span.overlap(first, LEAF) else "not in the range"


# ---- what is true --------------------------------------------------------------------------------------


def frames_words(gfns: tuple[int, ...]) -> str:
    """Frames as ranges: ``[0, 3), [4, 8)``."""
    starts = [gfn for gfn in gfns if gfn - 1 not in gfns]
    ends = [gfn + 1 for gfn in gfns if gfn + 1 not in gfns]
    return ", ".join(f"[{start}, {end})" for start, end in zip(starts, ends, strict=True))


def _span_words(span: GfnRange) -> str:
    return f"[{span.start}, {span.end})"


def record_words(row: CallerRow) -> str:
    """Say what is on record."""
    on = row.record
    match row.name:
        case "conversion per VM" | "conversion by file":
            return f"attributes: {_span_words(on)} shared" if on else "attributes: all private"
        case "punch hole":
            return f"file: a hole at {_span_words(on)}" if on else "file: no hole"
        case "ACCEPT":
            return f"inhibit bit: {_span_words(on)} at 4K only" if on else "inhibit bit: not set"
        case _:
            return f"file: page {row.span.start} broken" if on else "file: no page broken"


def mapped_words(row: CallerRow) -> str:
    """Say what the S-EPT holds."""
    free = tuple(g for run in row.runs if not run.level for g in range(run.gfn, run.gfn + run.pages))
    pending = tuple(
        g for run in row.runs if run.state == SeptState.PENDING for g in range(run.gfn, run.gfn + run.pages)
    )
    if pending:
        return f"S-EPT: {frames_words(pending)} PENDING"
    return f"S-EPT: {frames_words(free)} not mapped" if free else "S-EPT: all mapped"


def guest_words(row: CallerRow) -> str:
    """Say what the guest reads, and what is wrong with that."""
    gfn = row.span.start
    private, shared = row.private_bytes[gfn], row.shared_byte
    if row.retries:
        return f"frame {gfn}: shared faults retry, for ever"
    if row.lost:
        return f"{count_of(len(row.lost), 'frame')} outside lost: {frames_words(row.lost)}"
    if private is not None and shared is not None:
        return f"frame {gfn}: {private:#04x} as private, {shared:#04x} as shared"
    if shared is not None:
        return f"frame {gfn} reads {shared:#04x}, as shared only"
    if private is not None:
        return f"frame {gfn} reads {private:#04x}, as private"
    if row.name == "memory failure":
        return f"frame {gfn + 1} reads {row.private_bytes[gfn + 1]:#04x}, frame {gfn} faults"
    return f"frame {gfn} faults: {'not accepted' if row.name == 'ACCEPT' else 'nothing is there'}"


# ---- the whole -----------------------------------------------------------------------------------------


def answer(shortage: Shortage, rows: tuple[CallerRow, ...]) -> str:
    """Say what came back, and which callers ended how."""
    groups = [
        f"{capital(verdict)}: {', '.join(row.name for row in rows if row.verdict == verdict)}."
        for verdict in VERDICTS
        if any(row.verdict == verdict for row in rows)
    ]
    return " ".join([_refusal(shortage, rows), *groups])


def _refusal(shortage: Shortage, rows: tuple[CallerRow, ...]) -> str:
    walks = {
        (walk, ret) for row in rows for walk, ret in zip(row.first.walks, row.first.wrapper, strict=True)
    }
    back = " Memory is back, and all call again." if shortage.again else ""
    if not any(row.first.refused for row in rows):
        often = "Nobody asks for memory so often" if shortage.refuse else "No request for memory is refused"
        return f"{often}: no errno.{back}"
    came = sorted({ret for walk, ret in walks if walk < 0})
    return f"{shortage.declared} ret: -12 comes back as {', '.join(map(str, came))}.{back}"


def again_words(row: CallerRow) -> str:
    """The second call, on one line; "" if there was none."""
    if row.again is None:
        return ""
    value, what, means = came_out(row, row.again)
    wrapper = f"wrapper {values(row.again.wrapper)}" if row.again.wrapper else "wrapper not called"
    return f"{wrapper}; {made_of_it(row, row.again)}; {what}: {value}, {means}"


def open_words(row: CallerRow) -> str:
    """Say how many invalidations are still in progress; "" if none is."""
    return f"in progress: {row.last.in_progress}" if row.last.in_progress else ""
