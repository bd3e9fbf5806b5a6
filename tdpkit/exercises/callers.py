"""The exercise of notebook 05 on the four who zap or split private ranges: who needs a split, and when.

Each caller is run on a small TD, with its split and without, where a mapping is as large as its folio and
where it is larger. What counts is which frames the guest loses that it should have kept.

Sources: M5 (aXHEpfcyHtaMcqPz@yzhao56-desk.sh.intel.com) and M7 (aW2Iwpuwoyod8eQc@yzhao56-desk.sh.intel.com)
name the callers; kernel-facts C16, C17, C20-C22.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from tdpkit.engine.events import Coroutine, run
from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K, GfnRange
from tdpkit.engine.kvm import Kvm
from tdpkit.lab.layouts import TOY
from tdpkit.lab.td import Td
from tdpkit.lab.words import count_of
from tdpkit.tdx.abi import TDX_SUCCESS, Seamcall
from tdpkit.tdx.guest import td_accept

from .private_pages import frame_list
from .submission import answer_to, shown
from .verdict import Verdict, waiting

REASONS = {
    "always": "every call does, whatever range it is made for",
    "edge": "some calls do: those with an edge inside a leaf, even where no mapping is larger than its folio",
    "folio": "no call does, as long as no mapping is larger than its folio",
    "never": "no call does, even where a mapping is larger than its folio",
}
"""What may be said of a caller: does it need a split? One of them holds for each."""
CALLERS = ("conversion", "punch hole", "mismatched accept", "memory failure")

_FRAMES = 2 * TOY.pages(PG_LEVEL_2M)
"""A TD of two leaves."""


class Trial(NamedTuple):
    """One call, made on two equal TDs: without a split, and with it."""

    words: str
    refused: bool
    """It was answered by an errno, and nothing happened."""
    lost: tuple[int, ...]
    """Frames that the guest cannot use any more without the split, and that nobody asked for."""
    stuck: bool
    """Without the split the guest does not get the page that it accepts."""
    mended: bool
    """With the split nothing is lost, and nobody is stuck."""
    splits: int
    """Leaves that the split makes smaller."""

    @property
    def needs_split(self) -> bool:
        """Something is amiss without it."""
        return bool(self.lost) or self.stuck


# ---- the callers ---------------------------------------------------------------------------------------


def _split_count(td: Td) -> int:
    return sum(call.name == str(Seamcall.MEM_PAGE_DEMOTE) for call in td.calls)


def _zaps(words: str, span: GfnRange, make: Callable[[], Td], call: Callable[[Td, str], int]) -> Trial:
    """A caller that zaps `span`."""
    bare, made = make(), make()
    before = bare.accepted()
    errno = call(bare, "none")
    call(made, "v3")
    asked = range(span.start, span.end)
    lost, mended = bare.lost(before, asked), not made.lost(before, asked)
    return Trial(words, errno < 0, tuple(lost), False, mended, _split_count(made))


def conversion(start: int, end: int) -> Trial:
    """Frames [start, end) become shared."""
    return _zaps(
        f"frames [{start}, {end}) become shared",
        GfnRange(start, end),
        _folio_sized,
        lambda td, split: td.convert(start, end, "shared", split),
    )


def punch_hole(start: int, end: int, *, spans_folios: bool = False) -> Trial:
    """A hole [start, end), of whole folios; `spans_folios`: a folio is a page, a mapping eight of them."""
    return _zaps(
        f"a hole [{start}, {end}) is punched",
        GfnRange(start, end),
        _beyond_folio if spans_folios else _folio_sized,
        lambda td, split: td.punch_hole(start, end - start, split=split),
    )


def memory_failure(page: int, *, folio_split: bool = False) -> Trial:
    """Page `page` fails; `folio_split`: its folio was split to pages before, the mapping was not."""

    def make() -> Td:
        td = _folio_sized()
        if folio_split:
            td.gmem.split_folio(page)
        return td

    span = make().gmem.folio(page)
    return _zaps(
        f"page {page} fails, of the folio [{span.start}, {span.end})",
        span,
        make,
        lambda td, split: td.memory_failure(page, split=split),
    )


def mismatched_accept(gfn: int) -> Trial:
    """KVM mapped a huge page, PENDING, and the guest accepts frame `gfn` as a page of 4K."""
    bare, made = _pending(gfn), _pending(gfn)
    status = run(td_accept(bare.tdx, bare.vcpu, gfn, PG_LEVEL_4K, split=_no_split), bare.world)
    mended = made.accept(gfn, PG_LEVEL_4K) == TDX_SUCCESS
    words = f"the guest accepts frame {gfn} alone, and a leaf of {TOY.pages(PG_LEVEL_2M)} is PENDING there"
    return Trial(words, False, (), status is None, mended, _split_count(made))


def _no_split(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
    yield from ()
    return 0


def _folio_sized() -> Td:
    return Td(TOY, _FRAMES)


def _beyond_folio() -> Td:
    return Td(TOY, _FRAMES, folio_level=PG_LEVEL_4K, spans_folios=True)


def _pending(gfn: int) -> Td:
    td = Td(TOY, _FRAMES, accepted=False)
    td.touch(gfn)
    td.forget()
    return td


# ---- what holds for each -------------------------------------------------------------------------------

_RANGES = [(start, end) for end in range(1, _FRAMES + 1) for start in range(end)]


@cache
def usual_trials(caller: str) -> tuple[Trial, ...]:
    """Every call that `caller` can make on the small TD, where no mapping is larger than its folio."""
    if caller == "conversion":
        return tuple(conversion(start, end) for start, end in _RANGES)
    if caller == "punch hole":
        return tuple(punch_hole(start, end) for start, end in _RANGES)
    return tuple(_OF_PAGE[caller](page) for page in range(_FRAMES))


_OF_PAGE: dict[str, Callable[[int], Trial]] = {
    "mismatched accept": mismatched_accept,
    "memory failure": memory_failure,
}


@cache
def larger_trials(caller: str) -> tuple[Trial, ...]:
    """The same where a mapping is larger than its folio; asked only of who needs no split otherwise."""
    if caller == "punch hole":
        return tuple(punch_hole(start, end, spans_folios=True) for start, end in _RANGES)
    return tuple(memory_failure(page, folio_split=True) for page in range(_FRAMES))


def check_callers(answers: Any) -> Verdict:
    """Make every call of each caller on a small TD, with a split and without, and compare with what was said.

    answers: a dict, for each of CALLERS a key of REASONS. The counterexample is a call: it loses frames, or
    leaves the guest stuck, where no split was thought needed, or it needs none where one was.
    """
    if answers is not ... and not isinstance(answers, Mapping):
        return Verdict(False, f"the answers are a dict, a reason for each caller; {shown(answers)} is none.")
    for caller in CALLERS:
        said = answer_to(answers, caller)
        if said is ...:
            return waiting(f"{caller}: does it need a split? One of {', '.join(REASONS)}.")
        if not isinstance(said, str) or said not in REASONS:
            return Verdict(
                False, f"{caller}: a reason is one of {', '.join(REASONS)}; {shown(said)} is none."
            )
        if fault := _refuted(caller, said):
            return Verdict(False, f"{caller}, “{said}”: {fault}.")
    return Verdict(
        True,
        "a conversion may begin and end anywhere, so its edges decide; an ACCEPT of less than is mapped is "
        "about a leaf that is too large by definition; the other two take whole folios, and rely on it that "
        "no mapping is larger.",
    )


def _refuted(caller: str, said: str) -> str:
    """A call, or all of them, against what was said; empty if it holds."""
    made = [trial for trial in usual_trials(caller) if not trial.refused]
    needing = [trial for trial in made if trial.needs_split]
    spared = [trial for trial in made if not trial.needs_split]
    if said == "always":
        return _needless(spared[0]) if spared else ""
    if said == "edge":
        return "" if needing and spared else _all_alike(made, len(usual_trials(caller)) - len(made))
    if needing:
        return f"no mapping is larger than its folio here, and {_amiss(_worst(needing))}"
    larger = [trial for trial in larger_trials(caller) if trial.needs_split]
    if said == "never":
        return f"let a mapping be larger than its folio: {_amiss(_worst(larger))}" if larger else ""
    return "" if larger else "a mapping that is larger than its folio makes no difference"


def _worst(trials: Sequence[Trial]) -> Trial:
    """The call that loses most."""
    return max(trials, key=lambda trial: len(trial.lost))


def _amiss(trial: Trial) -> str:
    if trial.stuck:
        helped = ", with one it gets the page" if trial.mended else ""
        return f"{trial.words}: without a split it accepts for ever{helped}"
    lost = f"{count_of(len(trial.lost), 'frame')} besides, {frame_list(trial.lost)}"
    return f"{trial.words}: without a split the guest loses {lost}{', with one none' if trial.mended else ''}"


def _needless(trial: Trial) -> str:
    made = count_of(trial.splits, "leaf is", "leaves are") if trial.splits else "no leaf is"
    return f"{trial.words}: without a split nothing else is lost, and with one {made} split"


def _all_alike(made: Sequence[Trial], refused: int) -> str:
    """All calls need a split, or none does."""
    every = f"all {count_of(len(made), 'call')} on a TD of {_FRAMES} frames"
    if made[0].needs_split:
        return (
            f"{every} need one, at the edge of the leaf and inside it alike. One of them: {_amiss(made[0])}"
        )
    if refused:
        return (
            f"on a TD of {_FRAMES} frames {refused} calls, those with an edge inside a folio, are refused; "
            f"the other {len(made)} lose nothing besides without a split"
        )
    return f"{every} lose nothing besides without a split. One of them: {_needless(made[0])}"
