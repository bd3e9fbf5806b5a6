"""What the ledger's controls are for; what holds for all exhibits is in tests/show/test_exhibit.py."""

import json
import re
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

from tdpkit.lab.claims.claim import FAILS, HOLDS, MAILS, UNDECIDED, Finding
from tdpkit.lab.claims.ledger import CLAIMS
from tdpkit.show.claim_ledger import ClaimLedger
from tdpkit.show.claim_ledger.words import NOTEBOOKS, lesson_link
from tests.oracles.exhibits import head_of, seen, use, words
from tests.oracles.ledgers import SMALL

ROOM = Path(__file__).parents[3] / "notebooks"


@pytest.fixture
def exhibit():
    return ClaimLedger(SMALL)


def shown(exhibit) -> str:
    return " ".join(one.claim.name for one in exhibit.state.rows)


def options(menu) -> list[str]:
    return [label for label, _ in menu.options]


# ---- what it opens with --------------------------------------------------------------------------------


def test_it_opens_on_all_claims_as_the_thread_went_and_tells_the_first(exhibit):
    assert exhibit.choice == ("C1", "by mail", "all", "all", "all", "all", "")
    assert shown(exhibit) == "C1 C2 C9 C7 C13 C18 C42 C43"
    assert exhibit.state.told.claim.name == "C1"
    decided = [label.partition(" (")[0] for label in options(exhibit.kind_menu)]
    assert decided == ["all", "an experiment", "a reason"]
    assert exhibit.all_button.disabled
    assert words(exhibit) == ""


def test_it_can_open_on_any_choice():
    exhibit = ClaimLedger(SMALL, claim="C18", order="by verdict", notebook="03")
    assert (shown(exhibit), exhibit.state.told.claim.name) == ("C7 C2 C18", "C18")
    assert (exhibit.claim_menu.value, exhibit.notebook_menu.value) == ("C18", "03")


def test_without_a_ledger_it_takes_the_review_s_settled_claims(monkeypatch):
    monkeypatch.setattr("tdpkit.show.claim_ledger.live.settle_all", lambda: SMALL[:3])
    assert shown(ClaimLedger()) == "C1 C2 C7"


# ---- the filters ---------------------------------------------------------------------------------------


def test_each_menu_counts_what_it_would_show_and_offers_nothing_empty(exhibit):
    assert options(exhibit.verdict_menu) == [
        "all (8)",
        "holds (3)",
        "holds if … (1)",
        "does not hold in the model (1)",
        "withdrawn by its author (1)",
        "not decidable here (2)",
    ]
    assert options(exhibit.by_menu)[:4] == [
        "all (8)",
        "Yan Zhao (6)",
        "Kai Huang (1)",
        "Sean Christopherson (2)",
    ]
    assert options(exhibit.by_menu)[4:] == [
        "M0 Yan Zhao, 6 Jan (2)",
        "M1 Kai Huang, 15 Jan (1)",
        "M2 Sean Christopherson, 16 Jan (2)",
        "M7 Yan Zhao, 19 Jan (2)",
        "M14 Yan Zhao, 19 Jan (2)",
    ]
    assert options(exhibit.notebook_menu)[2:4] == [
        "02 Splitting across a boundary (1)",
        "03 Head and tail (3)",
    ]
    assert options(exhibit.kind_menu) == ["all (8)", "an experiment (6)", "a reason (2)"]
    exhibit.notebook_menu.value = "03"
    assert options(exhibit.kind_menu) == ["all (3)", "an experiment (3)"]
    assert options(exhibit.verdict_menu) == [
        "all (3)",
        "holds (1)",
        "holds if … (1)",
        "does not hold in the model (1)",
    ]
    assert [value for _, value in exhibit.claim_menu.options] == ["C2", "C7", "C18"]
    assert len(options(exhibit.notebook_menu)) == 7, "the others stay within reach"


def test_a_verdict_of_the_bar_is_pressed_and_pressed_again(exhibit):
    use(exhibit, "press.verdict", UNDECIDED)
    assert (shown(exhibit), exhibit.verdict_menu.value) == ("C9 C42", UNDECIDED)
    use(exhibit, "press.verdict", HOLDS)
    assert shown(exhibit) == "C1 C7 C43"
    use(exhibit, "press.verdict", HOLDS)
    assert seen(exhibit) == seen(ClaimLedger(SMALL))


def test_show_all_takes_every_filter_away_and_keeps_order_and_claim(exhibit):
    exhibit.show(
        claim="C7",
        order="by verdict",
        verdict=HOLDS,
        by="M2",
        notebook="03",
        kind="experiment",
        find="goes on",
    )
    assert shown(exhibit) == "C7"
    exhibit.all_button.click()
    assert seen(exhibit) == seen(ClaimLedger(SMALL, claim="C7", order="by verdict"))


def test_words_that_no_claim_has_are_refused_and_stay_to_be_mended(exhibit):
    exhibit.find_text.value = "flush never"
    assert words(exhibit) == (
        "✗ none of 8 claims passes: with “flush never”. The picture shows the last good choice."
    )
    assert (exhibit.find_text.value, shown(exhibit)) == ("flush never", "C1 C2 C9 C7 C13 C18 C42 C43")
    exhibit.find_text.value = "flush"
    assert (shown(exhibit), words(exhibit)) == ("C1 C43", "")


# ---- one claim -----------------------------------------------------------------------------------------


def test_menu_and_row_tell_one_claim_and_its_link(exhibit):
    use(exhibit, "press.row", "C13")
    assert (exhibit.claim_menu.value, exhibit.run_button.description) == ("C13", "run C13 again")
    assert 'href="05-convert-zap-accept.ipynb#Four-callers"' in exhibit.told.value
    exhibit.claim_menu.value = "C9"
    assert [spot["name"] for spot in exhibit.handles.state["spots"] if spot["chosen"]] == ["row:C9"]
    assert exhibit.run_button.disabled, "it has no experiment"


def test_the_card_s_text_is_there_for_a_narrow_page_and_is_text_whatever_it_says():
    claim = SMALL[0].claim._replace(says="a <b> & c", experiment=lambda: Finding(HOLDS, "1 < 2"))
    exhibit = ClaimLedger([SMALL[0]._replace(claim=claim, finding=Finding(HOLDS, "1 < 2"))])
    box = ElementTree.fromstring(f"<div>{exhibit.told.value}</div>").find("div")
    assert ["\n".join(part.itertext()) for part in box] == [
        "C1 Claim-1 in short\nholds",
        f"M0 Yan Zhao, 6 Jan 2026\n{MAILS['M0'].message_id}",
        "the claim\na <b> & c",
        "how the thread left it\nClaim 1 ended well.",
        "what the experiment shows\n1 < 2",
    ]
    assert box.get("tabindex") == "0", "a box that scrolls is reached by key"


def test_the_claim_comes_back_when_its_filter_is_gone(exhibit):
    exhibit.claim_menu.value = "C7"
    exhibit.by_menu.value = "M14"
    assert (exhibit.claim_menu.value, exhibit.choice.claim) == ("C42", "C7")
    exhibit.by_menu.value = "all"
    assert exhibit.claim_menu.value == "C7"


def test_each_link_of_the_review_leads_to_a_heading():
    """A lesson of the ledger's own notebook is a place on the same page."""
    for claim in CLAIMS.values():
        one = SMALL[0]._replace(claim=claim)
        [target] = re.findall(r'href="([^"]*)"', lesson_link(one))
        file, anchor = target.split("#")
        assert unquote(anchor) == claim.lesson.section.replace(" ", "-")
        if claim.lesson.notebook not in NOTEBOOKS:
            assert (claim.lesson.notebook, file) == ("08", "")
            continue
        cells = json.loads((ROOM / file).read_text(encoding="utf-8"))["cells"]
        lines = "".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "markdown")
        assert re.search(rf"^#+ {re.escape(claim.lesson.section)}$", lines, re.MULTILINE), claim.name
        title = NOTEBOOKS[claim.lesson.notebook][1]
        assert re.match(rf"# {title}\b", lines)


# ---- run again -----------------------------------------------------------------------------------------


def test_an_experiment_runs_again_and_says_what_it_finds(exhibit):
    """By the button and on the card."""
    exhibit.claim_menu.value = "C7"
    exhibit.run_button.click()
    said = words(exhibit)
    assert re.fullmatch(r"C7, run again in \d+\.\d\d s: holds, as before\.", said)
    assert exhibit.state.ran == said
    assert not exhibit.run_button.disabled
    use(exhibit, "press.row", "C1")
    assert words(exhibit) == ""
    use(exhibit, "press.run", "C1")
    assert words(exhibit).startswith("C1, run again in ")


def flipping(number: int, *findings: Finding) -> ClaimLedger:
    """The small ledger, in which an experiment finds something else each time."""
    found = iter(findings)
    ledger = list(SMALL)
    ledger[number] = ledger[number]._replace(
        claim=ledger[number].claim._replace(experiment=lambda: next(found))
    )
    return ClaimLedger(ledger, claim=ledger[number].claim.name)


def test_another_verdict_is_entered_in_the_ledger():
    exhibit = flipping(0, Finding(FAILS, "0 of 8 flush late."))
    exhibit.show(verdict=HOLDS)
    exhibit.run_button.click()
    assert words(exhibit).endswith(": does not hold in the model, before it was “holds”.")
    assert (exhibit.state.told.claim.name, exhibit.state.told.verdict) == ("C1", FAILS)
    assert exhibit.choice.verdict == "all", "what hid it is gone"
    assert head_of(exhibit).answer.startswith("8 claims: 2 hold, 1 holds if …, 2 do not hold in the model,")


def test_a_withdrawn_claim_stays_withdrawn():
    exhibit = flipping(4, Finding(HOLDS, "4 of 4 calls."))
    exhibit.run_button.click()
    assert words(exhibit).endswith(": holds, before it was “does not hold in the model”.")
    assert exhibit.state.told.verdict == "withdrawn by its author"


def test_while_it_runs_the_button_says_so_and_what_it_raises_is_raised():
    said = []

    def experiment():
        said.append((exhibit.run_button.description, exhibit.run_button.disabled))
        raise KeyError("a bug")

    ledger = [SMALL[0]._replace(claim=SMALL[0].claim._replace(experiment=experiment))]
    exhibit = ClaimLedger(ledger)
    with pytest.raises(KeyError):
        exhibit.run()
    assert said == [("C1 runs …", True)]
    assert (exhibit.run_button.description, exhibit.run_button.disabled) == ("run C1 again", False)
    assert seen(exhibit) == seen(ClaimLedger(ledger))


def test_what_has_no_experiment_does_not_run(exhibit):
    exhibit.show(claim="C9")
    before = seen(exhibit)
    exhibit.run()
    assert seen(exhibit) == before


def test_no_experiment_runs_for_anything_but_the_button(monkeypatch):
    monkeypatch.setattr("tdpkit.show.claim_ledger.live.settle_afresh", lambda _: pytest.fail("it ran"))
    never = [one._replace(claim=one.claim._replace(experiment=pytest.fail)) for one in SMALL if one.finding]
    exhibit = ClaimLedger(never)
    exhibit.find_text.value = "4096"
    exhibit.claim_menu.value = "C18"
    exhibit.order_buttons.value = "by verdict"
    exhibit.table_box.value = True
    assert "4096" in exhibit._text()
