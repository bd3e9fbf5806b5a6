"""What the ledger shows: filters and groups against lists written by hand from tests/oracles/ledgers.py."""

import pytest

from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError
from tdpkit.lab.claims.claim import FAILS, HOLDS, HOLDS_IF, UNDECIDED, WITHDRAWN
from tdpkit.show.claim_ledger.state import LedgerChoice, LedgerState, ledger_state
from tests.oracles.ledgers import SMALL


def state_of(claim: str = "C1", **choice: str) -> LedgerState:
    return ledger_state(SMALL, LedgerChoice(claim, **choice))


def rows(state: LedgerState) -> str:
    return " ".join(one.claim.name for one in state.rows)


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, "C1 C2 C9 C7 C13 C18 C42 C43"),
        ({"verdict": HOLDS}, "C1 C7 C43"),
        ({"verdict": HOLDS_IF}, "C2"),
        ({"verdict": FAILS}, "C18"),
        ({"verdict": WITHDRAWN}, "C13"),
        ({"verdict": UNDECIDED}, "C9 C42"),
        ({"by": "M2"}, "C7 C13"),
        ({"by": "M7"}, "C7 C18"),  # C7 is said in two mails
        ({"by": "Yan Zhao"}, "C1 C2 C7 C18 C42 C43"),
        ({"by": "Kai Huang"}, "C9"),
        ({"notebook": "03"}, "C2 C7 C18"),
        ({"kind": "reason"}, "C9 C42"),
        ({"kind": "experiment"}, "C1 C2 C7 C13 C18 C43"),
        ({"verdict": HOLDS, "by": "Yan Zhao", "notebook": "03", "kind": "experiment"}, "C7"),
    ],
)
def test_each_filter_keeps_what_it_names(filters, names):
    state = state_of(**filters)
    assert rows(state) == names
    assert state.in_all == 8


@pytest.mark.parametrize(
    ("find", "names"),
    [
        ("flush", "C1 C43"),
        ("FLUSH  Late", "C1"),  # each word, anywhere
        ("4096", "C7 C18"),
        ("  ", "C1 C2 C9 C7 C13 C18 C42 C43"),
        ("C13", "C13"),
        ("race", "C7 C18"),  # where it is taught
        ("taste", "C9"),  # a reason
        ("not asked", "C2"),  # a condition
        ("left open", "C9 C42"),  # how it ended
        ("aWrMIeCw2eaTbK5Z@google.com", "C7 C13"),
        ("claim-9", "C9"),  # a title
        ("all", "C13 C43"),  # a word as any other: in “calls”, and in “All of 70”
    ],
)
def test_words_are_found_wherever_the_ledger_tells_of_a_claim(find, names):
    assert rows(state_of(find=find)) == names


def test_groups_go_as_the_thread_went_or_by_verdict():
    def groups(order: str) -> list[tuple[str, str]]:
        state = state_of(order=order)
        return [(group.name, " ".join(one.claim.name for one in group.claims)) for group in state.groups]

    assert groups("by mail") == [
        ("M0", "C1 C2"),
        ("M1", "C9"),
        ("M2", "C7 C13"),
        ("M7", "C18"),
        ("M14", "C42 C43"),
    ]
    assert groups("by verdict") == [
        (HOLDS, "C1 C7 C43"),
        (HOLDS_IF, "C2"),
        (FAILS, "C18"),
        (WITHDRAWN, "C13"),
        (UNDECIDED, "C9 C42"),
    ]


def test_a_chosen_claim_that_is_filtered_out_gives_way_to_the_first_of_those_shown():
    assert state_of("C7").told.claim.name == "C7"
    assert state_of("C7", notebook="03").told.claim.name == "C7"
    assert state_of("C7", by="M14").told.claim.name == "C42"
    assert state_of("C7", by="M14", order="by verdict").told.claim.name == "C43"


def test_the_verdicts_are_counted_as_if_none_were_chosen():
    for verdict in ("all", HOLDS, FAILS):
        assert state_of(verdict=verdict, notebook="03").verdicts == ((HOLDS, 1), (HOLDS_IF, 1), (FAILS, 1))


def test_what_was_run_is_told_with_its_claim_alone():
    ran = {"C7": "found"}
    assert ledger_state(SMALL, LedgerChoice("C7"), ran).ran == "found"
    assert ledger_state(SMALL, LedgerChoice("C1"), ran).ran == ""


def test_filters_that_no_claim_passes_are_refused_with_their_names():
    with pytest.raises(InvalidValueError) as refused:
        state_of(verdict=FAILS, by="Kai Huang", notebook="00", kind="reason", find="two words")
    assert str(refused.value) == (
        "none of 8 claims passes: verdict “does not hold in the model”, by Kai Huang, taught in 00, "
        "decided by reason and with “two words”"
    )
    with pytest.raises(InvalidTypeError):
        state_of(find=7)
