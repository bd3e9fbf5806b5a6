"""What the controls of the lost -12 are for; what holds for all exhibits is in tests/show/test_exhibit.py."""

import pytest

from tdpkit.engine.gfn import GfnRange
from tdpkit.lab.lost_errno import Shortage, run_short
from tdpkit.show.lost_errno import LostErrno
from tdpkit.show.lost_errno.live import ErrnoChoice
from tests.oracles.exhibits import seen, use, words


def chosen(exhibit) -> list[str]:
    """What is pressed in the picture."""
    return [spot["label"] for spot in exhibit.handles.state["spots"] if spot["chosen"]]


@pytest.fixture
def exhibit():
    return LostErrno()


# ---- what it opens with --------------------------------------------------------------------------------


def test_it_opens_with_the_first_page_refused_as_posted(exhibit):
    assert exhibit.choice == ErrnoChoice(6, 12, 1, 1, "bool", False, False, False, False)
    assert exhibit.choice.shortage == Shortage()
    assert chosen(exhibit) == ["refuse request 1: page table"]
    assert words(exhibit) == ""
    assert exhibit._text().startswith(
        "The lost -12: what each caller makes of it. bool ret: -12 comes back as 1. Failed, said nothing: "
        "conversion per VM, conversion by file, punch hole. Frames lost: memory failure. All done: ACCEPT."
    )


def test_it_can_open_on_any_shortage():
    flags = {"dynamic_pamt": True, "lasting": True, "again": True}
    exhibit = LostErrno(refuse=3, declared="int", start=2, end="9", **flags)
    boxes = (exhibit.lasting_box, exhibit.pamt_box, exhibit.again_box)
    assert (chosen(exhibit), exhibit.type_buttons.value) == (["refuse request 3: PAMT pages"], "int")
    assert [box.value for box in boxes] == [True, True, True]
    assert [field.value for field in (exhibit.range.start_text, exhibit.range.end_text)] == ["2", "9"]
    assert exhibit.state == run_short(Shortage(3, "int", True, True, True, 2, 9))


# ---- each control --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(7))
def test_a_request_is_refused_by_pressing_it(exhibit, number):
    use(exhibit, "press.request", number)
    assert exhibit.choice == ErrnoChoice(refuse=number)
    assert len(chosen(exhibit)) == 1
    assert seen(exhibit) == seen(LostErrno(refuse=number))


def test_the_choice_of_a_request_survives_new_names(exhibit):
    exhibit.show(refuse=5, dynamic_pamt=True)
    assert chosen(exhibit) == ["refuse request 5: S-EPT page"]
    exhibit.pamt_box.value = False
    assert (exhibit.choice.refuse, chosen(exhibit)) == (5, ["refuse request 5: nobody asks"])


def test_the_range_is_dragged_and_typed_and_whole_leaves_lose_no_errno(exhibit):
    use(exhibit, "drag.start", 3)
    exhibit.range.end_text.value = "8"
    assert exhibit.choice == ErrnoChoice(3, 8)
    assert {row.span for row in exhibit.state[:3]} == {GfnRange(3, 8)}
    assert exhibit.state[0].verdict == "failed, said nothing"
    use(exhibit, "drag.start", 0)
    assert [row.verdict for row in exhibit.state] == [*["all done"] * 4, "frames lost"]
    exhibit.range.unit_menu.value = 2
    assert {one["step"] for one in exhibit.handles.state["sliders"]} == {"8"}


def test_a_range_beyond_the_two_leaves_is_refused_in_words(exhibit):
    exhibit.range.end_text.value = "17"
    assert "ends at 0x10 (64K) at most" in words(exhibit)
    assert exhibit.choice == ErrnoChoice()


def test_the_buttons_change_one_type(exhibit):
    exhibit.type_buttons.value = "int"
    assert "int ret: -12 comes back as -12." in exhibit._text()


def test_one_type_does_not_mend_everything(exhibit):
    """S196: with an honest errno the conversion per VM is worse off, until its error path is repaired too."""
    exhibit.open_box.value = True
    assert [row.verdict for row in exhibit.state][:2] == ["failed, said nothing"] * 2
    exhibit.type_buttons.value = "int"
    assert [row.verdict for row in exhibit.state][:2] == ["invalidation open", "failed, and said so"]
    exhibit.again_box.value = True
    assert [row.verdict for row in exhibit.state][:2] == ["invalidation open", "all done"]
    assert "frame 6: shared faults retry, for ever" in exhibit._text()
    exhibit.open_box.value = False
    assert [row.verdict for row in exhibit.state][:2] == ["all done"] * 2
