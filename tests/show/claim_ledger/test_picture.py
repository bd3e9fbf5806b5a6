"""The ledger's markup and words: a row where it is pressed, a sign with its word, and the card beside it."""

import re
from collections import Counter
from itertools import pairwise

import pytest

from tdpkit.lab.claims.claim import (
    FAILS,
    HOLDS,
    HOLDS_IF,
    MAILS,
    UNDECIDED,
    VERDICTS,
    WITHDRAWN,
    Finding,
    Settled,
)
from tdpkit.lab.claims.ledger import CLAIMS
from tdpkit.show.claim_ledger.picture import ledger_svg, ledger_table, ledger_text
from tdpkit.show.claim_ledger.state import LedgerChoice, LedgerState, ledger_state
from tdpkit.show.theme import LIGHT
from tests.oracles.ledgers import SMALL
from tests.oracles.svgs import SVG, check_all, drawn, extent, texts, tree, written

_SHOWN = "With 1 048 576 visits of 2 304, and none elsewhere: what an experiment could say at length. " * 4


def _set(number: int) -> Settled:
    """A claim of the review with a verdict by its number: no experiment runs, every text is long."""
    claim = [*CLAIMS.values()][number]
    if not claim.experiment:
        return Settled(claim, UNDECIDED, None)
    verdict = VERDICTS[number % 3]
    finding = Finding(
        verdict, _SHOWN, "it is asked for at length, in a case of its own" * (verdict == HOLDS_IF)
    )
    return Settled(claim, WITHDRAWN if claim.withdrawn else verdict, finding)


REVIEW = tuple(map(_set, range(len(CLAIMS))))
"""All claims of the review, with verdicts that are set here."""
STATES = [
    *(
        ledger_state(REVIEW, LedgerChoice(name, order))
        for at, name in enumerate(CLAIMS)
        for order in ("by mail", "by verdict")[at % 2 :: 2]
    ),
    *(ledger_state(SMALL, LedgerChoice(one.claim.name, "by verdict")) for one in SMALL),
    *(ledger_state(SMALL, LedgerChoice("C1", verdict=verdict)) for verdict in VERDICTS),
    ledger_state(SMALL, LedgerChoice("C7", find="4096", by="Yan Zhao", notebook="03")),
    ledger_state(SMALL, LedgerChoice("C43"), {"C43": f"C43, run again in 0.01 s: {_SHOWN}"}),
]
SIGNS = {
    HOLDS: ("✓", "good"),
    HOLDS_IF: ("≈", "crossing-mark"),
    FAILS: ("✗", "bad"),
    WITHDRAWN: ("↩", "refaulted-mark"),
    UNDECIDED: ("–", "muted"),
}


def picture(state: LedgerState):
    return ledger_svg(state, LIGHT)


def spots(state: LedgerState, group: str) -> dict:
    named = (spot for spot in picture(state).spots if spot.name.startswith(f"{group}:"))
    return {spot.name.removeprefix(f"{group}:"): spot for spot in named}


# ---- form ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_claim_of_the_review_has_room_for_its_words():
    for state in STATES[: len(CLAIMS)]:
        svg = picture(state)
        check_all(svg, state.told.claim.name)
        assert svg.smallest == 12
        for text in tree(svg).iter(f"{SVG}text"):
            if int(text.get("x")) == 602:
                assert extent(text)[1] <= 976, text.text


def test_every_claim_of_the_review_has_a_title_that_fits_a_row():
    shown = texts(tree(picture(STATES[0])))
    assert {claim.title for claim in CLAIMS.values()} <= {*shown}, "none is cut"


# ---- the rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES[::7])
def test_a_row_has_its_number_sign_and_words_where_it_is_pressed(state):
    svg, pressed = tree(picture(state)), spots(state, "row")
    assert [*pressed] == [one.claim.name for one in state.rows]
    tops = [spot.top for spot in pressed.values()]
    assert tops == sorted(tops)
    discs = {
        (int(disc.get("cy")), disc.get("fill")) for disc in drawn(svg, "circle") if disc.get("cx") == "64"
    }
    for one in state.rows:
        spot = pressed[one.claim.name]
        inside = [
            text
            for text in svg.iter(f"{SVG}text")
            if spot.top < int(text.get("y")) < spot.bottom and extent(text)[1] < spot.right
        ]
        sign, role = SIGNS[one.verdict]
        number, glyph, _, beside = sorted(inside, key=extent)
        assert (number.text, glyph.text, glyph.get("fill")) == (one.claim.name, sign, LIGHT["paper"])
        assert (int(glyph.get("y")) - 4, LIGHT[role]) in discs
        if state.order == "by mail":
            assert (beside.text, beside.get("fill")) == (one.verdict, LIGHT[role])
        else:
            assert beside.text.startswith(f"{one.claim.mails[0]} {MAILS[one.claim.mails[0]].author}, ")
        assert spot.chosen == (one is state.told)
        assert spot.label.startswith(f"{one.claim.name}, ")
        assert spot.label.endswith(f": {one.verdict}")


def test_groups_are_headed_by_the_mail_or_by_the_verdict_in_words():
    by_mail = texts(tree(picture(ledger_state(SMALL, LedgerChoice("C1")))))
    heads = [text for text in by_mail if re.fullmatch(r"M\d+ .* 2026", text)]
    assert heads[:5] == [
        "M0 Yan Zhao, 6 Jan 2026",
        "M1 Kai Huang, 15 Jan 2026",
        "M2 Sean Christopherson, 16 Jan 2026",
        "M7 Yan Zhao, 19 Jan 2026",
        "M14 Yan Zhao, 19 Jan 2026",
    ]
    by_verdict = texts(tree(picture(ledger_state(SMALL, LedgerChoice("C1", "by verdict")))))
    assert {"holds: 3", "holds if …: 1", "withdrawn by its author: 1", "not decidable here: 2"} <= {
        *by_verdict
    }


# ---- the bar -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES[::5])
def test_the_bar_is_made_of_the_verdicts_and_longer_for_more(state):
    boxes = spots(state, "verdict")
    numbers = dict(state.verdicts)
    assert [*boxes] == [*numbers]
    edges = [(spot.left, spot.right) for spot in boxes.values()]
    assert (edges[0][0], edges[-1][1]) == (24, 974)
    assert all(right + 2 == left for (_, right), (left, _) in pairwise(edges))
    widths = {verdict: spot.right - spot.left for verdict, spot in boxes.items()}
    assert min(widths.values()) >= 42
    for one, number in numbers.items():
        for other, less in numbers.items():
            assert (widths[one] - widths[other]) * (number - less) >= -1
        assert boxes[one].chosen == (one == state.verdict)
    svg = tree(picture(state))
    bar = [
        text for text in svg.iter(f"{SVG}text") if text.get("y") == str(boxes[state.verdicts[0][0]].top + 17)
    ]
    for (verdict, number), text, (left, right) in zip(state.verdicts, bar, edges, strict=True):
        assert text.text in (f"{SIGNS[verdict][0]} {number} {verdict}", f"{SIGNS[verdict][0]} {number}")
        assert left + 4 <= extent(text)[0] < extent(text)[1] <= right - 4


# ---- the card ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES[::4])
def test_the_card_stands_beside_the_chosen_row_and_tells_all_of_its_claim(state):
    svg = tree(picture(state))
    row = spots(state, "row")[state.told.claim.name]
    [card] = [rect for rect in drawn(svg, "rect") if rect.get("x") == "586"]
    top, bottom = int(card.get("y")), int(card.get("y")) + int(card.get("height"))
    assert top <= row.top < row.bottom <= bottom
    said = " ".join(
        text.text
        for text in svg.iter(f"{SVG}text")
        if top < int(text.get("y")) < bottom and extent(text)[0] > 586
    )
    squeezed, claim = said.replace(" ", ""), state.told.claim
    finding = state.told.finding or Finding("", claim.reason)
    for told in (
        *(claim.says, claim.ended, state.told.verdict, finding.shown, finding.condition, state.ran),
        *(MAILS[mail].message_id for mail in claim.mails),
        *claim.lesson,
    ):
        assert told.replace(" ", "") in squeezed


def test_only_what_has_an_experiment_can_be_run():
    for one in SMALL:
        state = ledger_state(SMALL, LedgerChoice(one.claim.name))
        assert [*spots(state, "run")] == [one.claim.name] * bool(one.claim.experiment)
        assert len(written(tree(picture(state)), "run its experiment again")) == bool(one.claim.experiment)


def test_a_withdrawn_claim_keeps_what_its_experiment_found():
    state = ledger_state(SMALL, LedgerChoice("C13"))
    assert "Withdrawn: in M4 Sean Christopherson, 20 Jan 2026. What the experiment" in ledger_text(state)
    assert "what the experiment shows: does not hold in the model" in texts(tree(picture(state)))


# ---- the same three times: picture, text, table --------------------------------------------------------


@pytest.mark.parametrize("state", STATES[::6])
def test_the_answer_counts_the_claims_shown(state):
    said = picture(state).answer
    count = Counter(one.verdict for one in state.rows)
    assert said.startswith(f"{len(state.rows)} of 8 claims (" if state.asked else f"{state.in_all} claims: ")
    words = re.findall(r"(\d+) (hold if …|holds if …|holds?\b|do|does|withdrawn|not)", said.split(": ", 1)[1])
    known = {"hold": HOLDS, "holds": HOLDS, "hold if …": HOLDS_IF, "holds if …": HOLDS_IF, "do": FAILS}
    known |= {"does": FAILS, "withdrawn": WITHDRAWN, "not": UNDECIDED}
    assert {known[word]: int(number) for number, word in words} == count


def test_the_answer_in_words():
    def said(**choice) -> str:
        return picture(ledger_state(SMALL, LedgerChoice("C1", **choice))).answer

    assert said() == (
        "8 claims: 3 hold, 1 holds if …, 1 does not hold in the model, 1 withdrawn by its author, "
        "2 not decidable here."
    )
    assert (
        said(by="M7", find="race")
        == "2 of 8 claims (by M7 and with “race”): 1 holds, 1 does not hold in the model."
    )
    assert said(verdict=HOLDS_IF) == "1 of 8 claims (verdict “holds if …”): 1 holds if …"


@pytest.mark.parametrize("state", STATES[::9])
def test_text_and_table_tell_every_claim_shown_whole(state):
    lines, table = ledger_text(state).splitlines(), tree(ledger_table(state))
    assert lines[0] == f"The review, claim by claim. {picture(state).answer}"
    assert table.find("caption").text == lines[0]
    rows = [["\n".join(cell.itertext()) for cell in row] for row in table.find("tbody")]
    assert [row.get("aria-current") for row in table.find("tbody")] == [
        "step" if one is state.told else None for one in state.rows
    ]
    for one, line, row in zip(state.rows, lines[1:], rows, strict=True):
        claim, finding = one.claim, one.finding or Finding("", one.claim.reason)
        told = [claim.name, claim.says, claim.ended, one.verdict, finding.shown, finding.condition]
        told += [*claim.lesson, *(MAILS[mail].message_id for mail in claim.mails)]
        for part in told:
            assert part in line
            assert part in "\n".join(row)
