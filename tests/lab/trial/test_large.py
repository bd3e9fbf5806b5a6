"""The sizes of x86: what a call costs there, and that it splits at every level's edge."""

from __future__ import annotations

import pytest

from tdpkit.engine.gfn import GfnRange, parse_gfn
from tdpkit.lab.cost import visits_when_mapped
from tdpkit.lab.cost_curves import START
from tdpkit.lab.layouts import TD_4LEVEL
from tdpkit.lab.strategies import PlannedCall
from tdpkit.lab.trial import trial
from tdpkit.lab.trial.large import SIZES, contenders, visits


@pytest.mark.slow
def test_the_walk_of_12_tib_is_counted_and_grows() -> None:
    """S104: 6 303 771 entries of the final tree, and three more on the way to each of two splits."""
    answer = trial("v3", ("visits",))["visits"]
    assert answer.verdict == "note"
    assert "6 303 777 (12T)" in answer.found
    walked = contenders()["walk_v3"]
    for size in SIZES:
        span = GfnRange(START, START + parse_gfn(size))
        assert walked[SIZES.index(size)] >= sum(visits_when_mapped(TD_4LEVEL, span, 2).values())


def test_a_block_for_each_edge_costs_the_same_at_every_length() -> None:
    """A block: three entries on the way down, and all once more after the drop for its page; two blocks."""
    for name, most in {"one_block_per_edge": 12, "R2": 12}.items():
        answer = trial(name, ("visits",))["visits"]
        assert answer.verdict == "holds"
        assert f"{most} (12T)" in answer.found
        assert f"{most} (1G)" in answer.found


def test_a_call_that_goes_wrong_on_large_frames_only_is_found() -> None:
    def in_32_bits(geometry, s, e):
        """Loses what does not fit 32 bits of a byte address."""
        kept = [x & (1 << 20) - 1 for x in (s, e)]
        return [PlannedCall(x, x, 1) for x in kept]

    answer = trial(in_32_bits, ("4 and 5 levels",))["4 and 5 levels"]
    assert answer.verdict == "fails"
    assert answer.found.startswith("4 levels, [2T-2M-4K, ") or answer.found.startswith("4 levels, [1T+")


def test_a_split_of_everything_is_stopped_at_a_number_of_pages() -> None:
    """1 GiB of 2M leaves has 512 of them."""
    answer = trial("plain_split", ("visits",))["visits"]
    assert answer.verdict == "fails"
    assert answer.found == "1G from 2T+4K: it asks for more than 100 pages"


def test_what_never_ends_on_a_large_guest_is_stopped() -> None:
    from tdpkit.lab.trial import large
    from tdpkit.lab.trial.answers import Bench, Failed
    from tdpkit.lab.trial.known import variant_named

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(large, "_MOST_EVENTS", 1000)
        with pytest.raises(Failed, match=r"64G from 2T\+4K: it goes on and on: 1 000 events"):
            visits(Bench(variant_named("v3")))
