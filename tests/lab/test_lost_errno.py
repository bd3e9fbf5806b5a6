"""The lost -12 against what the sources say of each caller, frame by frame, and against a TD run by hand.

The chains are those of S107 and S108, S172, S173, S192, S194, S196, S197 and S238, written out.
"""

from itertools import product

import pytest

from tdpkit.engine.gfn import GfnRange, InvalidTypeError, InvalidValueError
from tdpkit.lab.lost_errno import CALLERS, MOST_REQUESTS, VERDICTS, Shortage, run_short
from tdpkit.lab.td import Td
from tdpkit.tdx.module import SeptState
from tests.oracles.loops import over
from tests.oracles.tds import status

ENOMEM, MF_DELAYED, FOR_EVER = -12, 2, None
ALREADY_ACCEPTED = status("PAGE_ALREADY_ACCEPTED")
PER_VM, BY_FILE = "conversion per VM", "conversion by file"
NAMES = [PER_VM, BY_FILE, "punch hole", "ACCEPT", "memory failure"]
RANGED = (PER_VM, BY_FILE, "punch hole")
"""The callers that take a range; the others are of frame 3 alone."""
EXITS = 8
"""How often a guest faults before the model says: for ever."""
NUMBERS = range(MOST_REQUESTS + 1)
SHORTAGES = [
    Shortage(*values) for values in product(NUMBERS, ("bool", "int"), (False, True), (False, True), (False,))
]
SPANS = [(0, 8), (8, 16), (0, 16), (3, 5), (7, 9), (5, 8), (8, 13), (0, 9), (15, 16)]
"""Whole leaves, one edge inside a leaf, both in one leaf, both in two."""
SHORTAGES += [
    Shortage(refuse, declared, False, lasting, False, *span)
    for refuse, (declared, lasting), span in product((1, 2, 3), (("bool", False), ("int", True)), SPANS)
]
OPEN = [
    Shortage(refuse, declared, leaves_open=True) for refuse, declared in product(NUMBERS, ("bool", "int"))
]
SHORTAGES += OPEN


def named(shortage: Shortage) -> dict:
    return dict(zip(NAMES, run_short(shortage), strict=True))


def cut(name: str, shortage: Shortage) -> list[int]:
    """Leaves of eight frames that hold an edge of the range inside them, or the page, in the walk's order."""
    edges = (shortage.start, shortage.end) if name in RANGED else (3,)
    return sorted({edge // 8 for edge in edges if edge % 8})


def asked(name: str, shortage: Shortage) -> list[str]:
    """What is asked for if nothing is refused: per split a table, its twin in the S-EPT, and PAMT pages.

    The handler of the ACCEPT tops up PAMT pages for its own mapping besides.
    """
    split = ["page table", "S-EPT page", *["PAMT pages"] * shortage.dynamic_pamt]
    own = ["PAMT pages"] * (shortage.dynamic_pamt and name == "ACCEPT")
    return split * len(cut(name, shortage)) + own


def strikes(name: str, shortage: Shortage) -> bool:
    """Whether the refused request is one of a split's."""
    per_split = 3 if shortage.dynamic_pamt else 2
    return 0 < shortage.refuse <= per_split * len(cut(name, shortage))


def strikes_handler(name: str, shortage: Shortage) -> bool:
    """Whether it is the one that the handler of the ACCEPT makes by itself."""
    return name == "ACCEPT" and shortage.dynamic_pamt and shortage.refuse == 4


def split_leaves(name: str, shortage: Shortage) -> list[int]:
    """The leaves that are split when the refusal strikes, or in the end (D8: earlier splits stay)."""
    per_split = 3 if shortage.dynamic_pamt else 2
    leaves = cut(name, shortage)
    return leaves[: (shortage.refuse - 1) // per_split] if strikes(name, shortage) else leaves


def expected(name: str, shortage: Shortage) -> tuple:
    """Walks, wrapper, what came out, frames zapped, whether it is on record, verdict."""
    if not strikes(name, shortage):
        if strikes_handler(name, shortage):
            return (0,), (0,), ENOMEM, 0, True, "failed, and said so"
        returned = MF_DELAYED if name == "memory failure" else 0
        zapped = {"ACCEPT": 0, "memory failure": 1}.get(name, shortage.end - shortage.start)
        return (0,), (0,), returned, zapped, True, "all done"
    if name == "memory failure":  # it cannot fail, and zaps the leaf whole
        return (-12,), (1,) if shortage.declared == "bool" else (-12,), MF_DELAYED, 8, True, "frames lost"
    if shortage.declared == "int":
        is_open = name == PER_VM and shortage.leaves_open
        verdict = "invalidation open" if is_open else "failed, and said so"
        return (-12,), (-12,), ENOMEM, 0, False, verdict
    if name == PER_VM:  # ORed into flush; the zap is skipped, the attributes are stored, success
        return (-12,), (1,), 0, 0, True, "failed, said nothing"
    if name in (BY_FILE, "punch hole"):  # bails out, returns 1
        return (-12,), (1,), 1, 0, False, "failed, said nothing"
    if shortage.lasting:  # 1 resumes the guest, which faults again
        return (-12,) * EXITS, (1,) * EXITS, FOR_EVER, 0, False, "failed, said nothing"
    return (-12, 0), (1, 0), 0, 0, True, "all done"


# ---- the value on its way ------------------------------------------------------------------------------


@over(SHORTAGES)
def test_each_caller_makes_of_the_value_what_the_facts_say(shortage):
    for name, row in named(shortage).items():
        first = row.first
        got = first.walks, first.wrapper, first.returned, first.zapped, first.stored, row.verdict
        assert got == expected(name, shortage), name


def test_as_posted_the_first_page_refused_ends_differently_for_each():
    """The opening case in full, so that the table above is read at least once without its conditions."""
    rows = named(Shortage(1))
    assert {name: (row.first.wrapper, row.first.returned, row.verdict) for name, row in rows.items()} == {
        "conversion per VM": ((1,), 0, "failed, said nothing"),
        "conversion by file": ((1,), 1, "failed, said nothing"),
        "punch hole": ((1,), 1, "failed, said nothing"),
        "ACCEPT": ((1, 0), 0, "all done"),
        "memory failure": ((1,), 2, "frames lost"),
    }


@over(SHORTAGES)
def test_the_errno_is_lost_in_the_wrapper_or_by_the_caller_that_cannot_fail(shortage):
    for name, row in named(shortage).items():
        at = "wrapper" if shortage.declared == "bool" else "caller" if name == "memory failure" else ""
        assert row.first.lost_at == (at if strikes(name, shortage) else "")
        ends_well = row.verdict == "all done" or row.first.returned == ENOMEM
        assert row.first.is_silent == (not ends_well)


@over(SHORTAGES)
def test_what_is_asked_for_and_which_request_is_refused(shortage):
    for name, row in named(shortage).items():
        whole, refuse = asked(name, shortage), shortage.refuse
        requests, refused = list(row.first.requests), list(row.first.refused)
        if not 0 < refuse <= len(whole):
            assert (requests, refused) == (whole, [])
            continue
        assert requests[:refuse] == whole[:refuse]
        assert refused[0] == refuse
        assert refused == list(range(refuse, 1 + (len(requests) if shortage.lasting else refuse)))
        faults_again = name == "ACCEPT" and shortage.declared == "bool" and strikes(name, shortage)
        if not faults_again:
            assert len(requests) == refuse, "nobody asks on after a refusal"
        elif shortage.lasting:
            assert requests[refuse:] == ["page table"] * (EXITS - 1)
        else:
            assert requests[refuse:] == whole


def test_a_conversion_that_takes_1_for_flush_does_flush():
    assert named(Shortage(1))[PER_VM].first.flushed
    assert not named(Shortage(1))[BY_FILE].first.flushed
    assert not named(Shortage(1))["punch hole"].first.flushed
    assert not named(Shortage(1, "int"))[PER_VM].first.flushed


# ---- what is true --------------------------------------------------------------------------------------


def frames(name: str, shortage: Shortage) -> list[tuple[str, SeptState, int]]:
    """Of each of the 16 frames the half, the state and the level, by the facts."""
    *_, on_record, verdict = expected(name, shortage)
    small = [gfn for leaf in split_leaves(name, shortage) for gfn in range(8 * leaf, 8 * leaf + 8)]
    if name == "ACCEPT":
        done = verdict == "all done"
        small = [*range(8 if done or strikes_handler(name, shortage) else 0)]
    seen = []
    for gfn in range(16):
        state, level = SeptState.PRESENT, 1 if gfn in small else 2
        if name == "ACCEPT" and gfn < 8 and not (done and gfn == 3):
            state = SeptState.PENDING
        asked_for = shortage.start <= gfn < shortage.end
        gone = (name == "memory failure" and gfn == 3) or (name in RANGED and asked_for)
        if (gone and verdict == "all done") or (verdict == "frames lost" and gfn < 8):
            state, level = SeptState.FREE, 0
        shared = name in (PER_VM, BY_FILE) and on_record and asked_for
        seen.append(("shared" if shared else "private", state, level))
    return seen


def byte_of(name: str, gfn: int) -> int:
    """The guest wrote 0x10 to frame 0 and so on; what it accepts anew reads 0 (S172)."""
    return 0 if name == "ACCEPT" else 0x10 + gfn


@over(SHORTAGES)
def test_every_frame_is_as_the_facts_say(shortage):
    for name, row in named(shortage).items():
        by_frame = [(run.half, run.state, run.level) for run in row.runs for _ in range(run.pages)]
        truth = frames(name, shortage)
        assert by_frame == truth, name
        present = [state == SeptState.PRESENT for _, state, _ in truth]
        assert row.private_bytes == tuple(
            byte_of(name, gfn) if ok else None for gfn, ok in enumerate(present)
        )
        outside = [gfn for gfn in range(16) if gfn not in range(row.span.start, row.span.end)]
        was_usable = range(8, 16) if name == "ACCEPT" else range(16)
        assert list(row.lost) == [gfn for gfn in outside if gfn in was_usable and not present[gfn]]
        shared = truth[row.span.start][0] == "shared"
        assert row.shared_byte == (0xA0 + row.span.start if shared else None)


@over(SHORTAGES)
def test_stale_frames_are_those_the_call_was_to_unmap_and_says_nothing_of(shortage):
    for name, row in named(shortage).items():
        silent = row.verdict == "failed, said nothing" and name != "ACCEPT"
        assert row.stale == (tuple(range(shortage.start, shortage.end)) if silent else ())


@over(SHORTAGES)
def test_the_record_is_of_the_right_frames(shortage):
    spans = {"ACCEPT": (0, 8), "memory failure": (3, 4)}
    for name, row in named(shortage).items():
        on_record, span = expected(name, shortage)[4], spans.get(name, (shortage.start, shortage.end))
        assert (row.record and (row.record.start, row.record.end)) == (span if on_record else None)


def test_after_a_silent_conversion_the_guest_has_two_memories_under_one_frame():
    row = named(Shortage(1))[PER_VM]
    assert (row.private_bytes[6], row.shared_byte) == (0x16, 0xA6)


# ---- the invalidation ----------------------------------------------------------------------------------


@over(SHORTAGES)
def test_an_invalidation_is_open_only_after_an_honest_errno_per_vm_as_posted(shortage):
    """S196. The 1 is no error there, and all other callers end theirs whatever comes back."""
    for name, row in named(shortage).items():
        is_open = shortage.leaves_open and name == PER_VM and row.first.returned == ENOMEM
        assert row.first.in_progress == is_open, name
        assert not row.retries, "the attributes say private still, or all is well"


@over(OPEN)
def test_it_stays_open_after_a_second_call_that_succeeds_and_shared_faults_retry_for_ever(shortage):
    for name, row in named(shortage._replace(again=True)).items():
        is_open = name == PER_VM and shortage.declared == "int" and strikes(name, shortage)
        assert row.again.in_progress == is_open, name
        assert row.retries == is_open
        if is_open:
            assert (row.again.returned, row.is_done, row.shared_byte) == (0, True, None)
            assert row.record == GfnRange(6, 12)
            assert row.verdict == "invalidation open"


def test_the_other_callers_know_nothing_of_that_path():
    for shortage in OPEN:
        with_it, without = named(shortage), named(shortage._replace(leaves_open=False))
        assert {name for name in NAMES if with_it[name] != without[name]} <= {PER_VM}


def test_a_range_of_whole_leaves_needs_no_split_so_no_page_and_no_errno_is_lost():
    for start, end in ((0, 8), (8, 16), (0, 16)):
        for name in RANGED:
            first = named(Shortage(1, start=start, end=end))[name].first
            assert (first.requests, first.refused, first.lost_at) == ((), (), "")


def test_the_range_is_of_three_callers_alone():
    for name in ("ACCEPT", "memory failure"):
        assert len({named(Shortage(1, start=start, end=end))[name] for start, end in SPANS}) == 1


# ---- memory is back ------------------------------------------------------------------------------------


@over(SHORTAGES)
def test_called_again_all_are_done_but_a_conversion_as_posted_and_what_is_lost(shortage):
    for name, row in named(shortage._replace(again=True)).items():
        struck, verdict = strikes(name, shortage), "all done"
        if struck and name == PER_VM and shortage.declared == "bool":
            verdict = "failed, said nothing"  # the attributes say shared: nothing to do (S196)
        elif struck and name == PER_VM and shortage.leaves_open:
            verdict = "invalidation open"
        if struck and name == "memory failure":
            verdict = "frames lost"
        assert row.verdict == verdict, name
        again = row.again
        assert again.refused == ()
        assert row.first == named(shortage)[name].first
        accepted = expected(name, shortage)[2:] == (0, 0, True, "all done")
        returned = ALREADY_ACCEPTED if name == "ACCEPT" and accepted else 0
        assert again.returned == (MF_DELAYED if name == "memory failure" else returned)


def test_a_retry_of_the_silent_conversion_does_not_even_ask_for_a_split():
    row = named(Shortage(1, again=True))[PER_VM]
    assert (row.again.wrapper, row.again.requests, row.again.zapped) == ((), (), 0)
    assert row.stale == tuple(range(6, 12))
    assert row.private_bytes == tuple(range(0x10, 0x20))


@pytest.mark.parametrize(("declared", "name"), [("int", PER_VM), ("int", BY_FILE), ("bool", BY_FILE)])
def test_a_retry_of_a_conversion_that_stored_nothing_completes_it(declared, name):
    row = named(Shortage(3, declared, again=True))[name]
    assert (row.again.wrapper, row.again.requests) == ((0,), ("page table", "S-EPT page"))
    assert row.again.zapped == 6
    assert row.private_bytes == (*range(0x10, 0x16), *[None] * 6, *range(0x1C, 0x20))


def test_a_guest_that_faults_for_ever_gets_on_as_soon_as_there_is_memory():
    row = named(Shortage(2, lasting=True, again=True))["ACCEPT"]
    assert (row.first.returned, row.again.returned, row.again.wrapper) == (FOR_EVER, 0, (0,))


# ---- against a TD run by hand --------------------------------------------------------------------------


def by_hand(name: str, shortage: Shortage) -> tuple:
    """The same through the calls of Td, which watch nothing: what came out, all frames, their bytes."""
    split = "v3 as posted" if shortage.declared == "bool" else "v3"
    td = Td(frames=16, accepted=name != "ACCEPT", dynamic_pamt=shortage.dynamic_pamt)
    if name == "ACCEPT":
        td.accept(8, 2)
        td.touch(3)
    if name == "memory failure":
        td.gmem.split_folio(3)
    td.tdx.pamt_caches.clear()
    td.refuse(shortage.refuse)
    if name == PER_VM:
        returned = td.convert(shortage.start, shortage.end, split=split, as_posted=shortage.leaves_open)
    elif name == BY_FILE:
        returned = td.convert_by_file(shortage.start, shortage.end, split=split)
    elif name == "punch hole":
        returned = td.punch_hole(
            shortage.start, shortage.end - shortage.start, whole_folios=False, split=split
        )
    elif name == "ACCEPT":
        returned = td.accept(3, 1, split=split)
    else:
        returned = td.memory_failure(3, split=split)
    return returned, tuple(td.page_runs()), td.bytes_in_sight()


@over(shortage for shortage in SHORTAGES if not shortage.lasting)
def test_a_td_run_by_hand_comes_to_the_same(shortage):
    for name, row in named(shortage).items():
        seen = " ".join("--" if byte is None else f"{byte:02x}" for byte in row.private_bytes)
        assert (row.first.returned, row.runs, seen) == by_hand(name, shortage), name


def test_a_second_run_is_no_different():
    assert run_short(Shortage(1)) == run_short(Shortage(1))
    assert list(CALLERS) == NAMES
    assert {row.verdict for shortage in SHORTAGES for row in run_short(shortage)} == set(VERDICTS)


# ---- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "rule"),
    [
        ({"refuse": -1}, InvalidValueError, "-1 (-0x1) is no such request"),
        ({"refuse": 7}, InvalidValueError, "more than 6 times"),
        ({"refuse": 1.0}, InvalidTypeError, "whole numbers"),
        ({"refuse": True}, InvalidTypeError, "whole numbers"),
        ({"refuse": "1"}, InvalidTypeError, "whole numbers"),
        ({"declared": "long"}, InvalidValueError, "is one of bool, int; 'long' is none"),
        ({"declared": ["bool"]}, InvalidValueError, "is none"),
        ({"declared": bool}, InvalidValueError, "is none"),
        ({"dynamic_pamt": 1}, InvalidTypeError, "dynamic_pamt is True or False; 1 is neither"),
        ({"lasting": None}, InvalidTypeError, "lasting is True or False"),
        ({"again": "yes"}, InvalidTypeError, "again is True or False"),
        ({"leaves_open": 1}, InvalidTypeError, "leaves_open is True or False"),
        ({"end": 17}, InvalidValueError, "at most; [0x6, 0x11)"),
        ({"start": 12}, InvalidValueError, "one frame at least"),
        ({"start": 13}, InvalidValueError, "ends at or after its start"),
        ({"start": -1}, InvalidValueError, "-1"),
        ({"end": 1.5}, InvalidTypeError, "whole numbers"),
    ],
)
def test_what_is_no_shortage_is_refused_in_words(change, error, rule):
    with pytest.raises(error) as refused:
        run_short(Shortage()._replace(**change))
    assert rule in str(refused.value)


def test_a_number_of_another_library_is_taken():
    numpy = pytest.importorskip("numpy")
    assert run_short(Shortage(numpy.int64(1))) == run_short(Shortage(1))
