"""The lost -12's handlers, called directly and through the traits a browser would set."""

import re

import pytest

from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError
from tdpkit.lab.lost_errno import Shortage, run_short
from tdpkit.show.lost_errno import LostErrno
from tdpkit.show.theme import LIVE_STYLE
from tests.oracles.exhibits import picture_of, words

VIEW = "application/vnd.jupyter.widget-view+json"
BAD = [
    ({"refuse": 7}, InvalidValueError, "no such request"),
    ({"refuse": -1}, InvalidValueError, "no such request"),
    ({"refuse": 1.5}, InvalidTypeError, "whole numbers"),
    ({"declared": "<b>bool</b>"}, InvalidValueError, "is one of bool, int; '<b>bool</b>' is none"),
    ({"dynamic_pamt": "yes"}, InvalidTypeError, "dynamic_pamt is True or False"),
    ({"lasting": 1}, InvalidTypeError, "lasting is True or False"),
    ({"again": None}, InvalidTypeError, "again is True or False"),
    ({"speed": 3}, InvalidTypeError, "it has no 'speed'"),
    ({"refuse": 2, "again": 2}, InvalidTypeError, "again is True or False"),
]


@pytest.fixture
def exhibit():
    return LostErrno()


def shown(exhibit) -> dict[str, object]:
    """All that a learner sees of it, but for a refusal."""
    controls = (
        *(exhibit.refuse_slider, exhibit.type_buttons, exhibit.lasting_box),
        *(exhibit.pamt_box, exhibit.again_box),
    )
    return {
        "shortage": exhibit.shortage,
        "rows": exhibit.rows,
        "picture": picture_of(exhibit),
        "table": exhibit.table.value,
        "controls": [control.value for control in controls],
        "requests": (list(exhibit.refuse_slider.options), exhibit.request_label.value),
    }


# ---- what it opens with --------------------------------------------------------------------------------


def test_it_opens_with_the_first_page_refused_as_posted(exhibit):
    assert exhibit.shortage == Shortage(1, "bool", False, False, False)
    assert exhibit.request_label.value == exhibit.refuse_slider.label == "1: page table"
    assert words(exhibit) == ""
    assert exhibit._text().startswith(
        "The lost -12: what four callers make of it. bool ret: -12 comes back as 1. Failed, said nothing: "
        "conversion, punch hole. Frames lost: memory failure. All done: ACCEPT."
    )


def test_it_can_open_on_any_shortage():
    exhibit = LostErrno(refuse=3, declared="int", dynamic_pamt=True, lasting=True, again=True)
    assert shown(exhibit)["controls"] == [3, "int", True, True, True]
    assert exhibit.rows == run_short(Shortage(3, "int", True, True, True))


@pytest.mark.parametrize(("how", "error", "rule"), BAD)
def test_it_does_not_open_on_what_is_none(how, error, rule):
    with pytest.raises(error, match=re.escape(rule)):
        LostErrno(**how)


# ---- each control --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(7))
def test_the_slider_chooses_the_request(exhibit, number):
    exhibit.refuse_slider.value = number
    assert exhibit.shortage == Shortage(number)
    assert exhibit.request_label.value == exhibit.refuse_slider.label
    assert shown(exhibit) == shown(LostErrno(refuse=number))


def test_the_buttons_change_one_type_and_back(exhibit):
    before = shown(exhibit)
    exhibit.type_buttons.value = "int"
    assert "int ret: -12 comes back as -12." in exhibit._text()
    assert shown(exhibit) == shown(LostErrno(declared="int"))
    exhibit.type_buttons.value = "bool"
    assert shown(exhibit) == before


@pytest.mark.parametrize(
    ("box", "name"), [("lasting_box", "lasting"), ("pamt_box", "dynamic_pamt"), ("again_box", "again")]
)
def test_each_box_changes_its_part_and_back(exhibit, box, name):
    before = shown(exhibit)
    getattr(exhibit, box).value = True
    assert exhibit.shortage == Shortage()._replace(**{name: True})
    assert shown(exhibit) == shown(LostErrno(**{name: True}))
    getattr(exhibit, box).value = False
    assert shown(exhibit) == before


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
    assert (exhibit.refuse_slider.value, exhibit.shortage.refuse) == (5, 5)


def test_the_table_is_shown_on_request_and_follows(exhibit):
    assert exhibit.table.value == ""
    exhibit.table_box.value = True
    first = exhibit.table.value
    assert first == exhibit._table()
    exhibit.show(declared="int")
    assert exhibit.table.value == exhibit._table() != first
    exhibit.table_box.value = False
    assert exhibit.table.value == ""


def test_what_is_not_named_stays(exhibit):
    exhibit.show(declared="int", again=True)
    exhibit.show(refuse=2)
    assert exhibit.shortage == Shortage(2, "int", again=True)
    exhibit.show()
    assert exhibit.shortage == Shortage(2, "int", again=True)


# ---- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "error", "rule"), BAD)
def test_what_breaks_a_rule_is_refused_and_nothing_changes(exhibit, how, error, rule):
    exhibit.table_box.value = True
    exhibit.show(refuse=2, lasting=True)
    before = shown(exhibit)
    with pytest.raises(error, match=re.escape(rule)):
        exhibit.show(**how)
    assert shown(exhibit) == before
    exhibit.propose(**how)
    assert rule in words(exhibit)
    assert words(exhibit).endswith("The picture shows the last good case.")
    assert shown(exhibit) == before
    exhibit.show(refuse=1)
    assert words(exhibit) == ""


# ---- the bundle ----------------------------------------------------------------------------------------


def test_the_bundle_has_a_live_view_and_stands_without_a_kernel(exhibit):
    bundle = exhibit._repr_mimebundle_()
    assert VIEW in bundle
    assert bundle["text/plain"] == exhibit._text()
    assert bundle["image/svg+xml"].startswith("<svg")
    assert "var(" not in bundle["image/svg+xml"]
    assert exhibit.box.children[0].value == LIVE_STYLE


def test_two_exhibits_share_nothing_but_their_colours(exhibit):
    other = LostErrno()
    other.show(declared="int")
    assert exhibit.shortage.declared == "bool"
    prefixes = {re.findall(r'<title id="([^"]*)-title">', one.picture.value)[0] for one in (exhibit, other)}
    assert len(prefixes) == 2


def test_every_control_is_named(exhibit):
    named = [
        exhibit.refuse_slider,
        exhibit.lasting_box,
        exhibit.pamt_box,
        exhibit.again_box,
        exhibit.table_box,
    ]
    assert [control for control in named if not control.description] == []
    assert len(exhibit.type_buttons.tooltips) == len(exhibit.type_buttons.options) == 2
