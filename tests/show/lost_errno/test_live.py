"""What the controls of the lost -12 are for; what holds for all exhibits is in tests/show/test_exhibit.py."""

import pytest

from tdpkit.lab.lost_errno import Shortage, run_short
from tdpkit.show.lost_errno import LostErrno
from tests.oracles.exhibits import seen, words


@pytest.fixture
def exhibit():
    return LostErrno()


# ---- what it opens with --------------------------------------------------------------------------------


def test_it_opens_with_the_first_page_refused_as_posted(exhibit):
    assert exhibit.choice == Shortage(1, "bool", False, False, False)
    assert exhibit.request_label.value == exhibit.refuse_slider.label == "1: page table"
    assert words(exhibit) == ""
    assert exhibit._text().startswith(
        "The lost -12: what four callers make of it. bool ret: -12 comes back as 1. Failed, said nothing: "
        "conversion, punch hole. Frames lost: memory failure. All done: ACCEPT."
    )


def test_it_can_open_on_any_shortage():
    exhibit = LostErrno(refuse=3, declared="int", dynamic_pamt=True, lasting=True, again=True)
    boxes = (exhibit.lasting_box, exhibit.pamt_box, exhibit.again_box)
    assert (exhibit.refuse_slider.value, exhibit.type_buttons.value) == (3, "int")
    assert [box.value for box in boxes] == [True, True, True]
    assert exhibit.state == run_short(Shortage(3, "int", True, True, True))


# ---- each control --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(7))
def test_the_slider_chooses_the_request(exhibit, number):
    exhibit.refuse_slider.value = number
    assert exhibit.choice == Shortage(number)
    assert exhibit.request_label.value == exhibit.refuse_slider.label
    assert seen(exhibit) == seen(LostErrno(refuse=number))


def test_the_slider_names_the_requests_of_a_conversion(exhibit):
    """A table and its twin in the S-EPT for each of two splits; PAMT pages only where they are dynamic."""
    pages = ["page table", "S-EPT page"]
    rest = ["nobody asks so often"] * 2
    names = [f"{number}: {name}" for number, name in enumerate([*pages, *pages, *rest], 1)]
    assert [name for name, _ in exhibit.refuse_slider.options] == ["none", *names]
    exhibit.show(refuse=5, dynamic_pamt=True)
    names = [f"{number}: {name}" for number, name in enumerate([*pages, "PAMT pages"] * 2, 1)]
    assert [name for name, _ in exhibit.refuse_slider.options] == ["none", *names]
    assert exhibit.refuse_slider.value == 5, "the choice survives the new names"
    exhibit.pamt_box.value = False
    assert (exhibit.refuse_slider.value, exhibit.choice.refuse) == (5, 5)


def test_what_is_not_named_stays(exhibit):
    exhibit.show(declared="int", again=True)
    exhibit.show(refuse=2)
    assert exhibit.choice == Shortage(2, "int", again=True)
    exhibit.show()
    assert exhibit.choice == Shortage(2, "int", again=True)


def test_the_buttons_change_one_type(exhibit):
    exhibit.type_buttons.value = "int"
    assert "int ret: -12 comes back as -12." in exhibit._text()
