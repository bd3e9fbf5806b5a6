"""What holds for every live exhibit: its handlers, called through the traits a browser would set.

An exhibit's own tests say what its controls are for; that they propose, follow and refuse is held here.
"""

from __future__ import annotations

import re
from functools import partial
from threading import Event, Thread
from time import sleep
from typing import Any
from xml.etree import ElementTree

import ipywidgets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError
from tdpkit.server import LIVE_VIEW
from tdpkit.show import theme
from tdpkit.show.claim_ledger import ClaimLedger
from tdpkit.show.entry import EntryDecoder
from tdpkit.show.exhibit import Exhibit
from tdpkit.show.lost_errno import LostErrno
from tdpkit.show.page_life import PageLifeStepper
from tdpkit.show.schedule_player import SchedulePlayer
from tdpkit.show.split_budget import SplitBudget
from tdpkit.show.theme import LIGHT, LIVE, LIVE_BOX, LIVE_STYLE
from tdpkit.show.trace import TraceViewer
from tdpkit.show.two_roots import TwoTrees
from tdpkit.show.walk import WalkStepper
from tests.oracles.exhibits import (
    SAMPLES,
    Move,
    Sample,
    controls,
    part,
    picture_of,
    seen,
    use,
    value_of,
    words,
)
from tests.oracles.ledgers import SMALL

SPEAKING = "last good (range|entry|question|call|story|case|schedule|choice|trace)"

MADE = {name: sample.make() for name, sample in SAMPLES.items()}
"""One of each, to look at: a test changes one of its own."""

each = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
each_move = pytest.mark.parametrize(
    ("sample", "move"),
    [
        pytest.param(sample, move, id=f"{name}-{move.control}")
        for name, sample in SAMPLES.items()
        for move in sample.moves
    ],
)
TEXTS = [
    pytest.param(sample, move, id=f"{name}-{move.control}")
    for name, sample in SAMPLES.items()
    for move in sample.moves
    if isinstance(part(MADE[name], move.control), ipywidgets.Text)
]


def brought_to(sample: Sample, choice: Any) -> Exhibit:
    """A fresh exhibit, brought to a choice by `show` alone."""
    exhibit, change = sample.make(), choice._asdict()
    if isinstance(exhibit, EntryDecoder):  # an entry has one source at a time, and an address its machine
        source = "machine" if choice.machine else "example" if choice.example else "entry"
        apart = {"entry", "example", "machine"} - {source} | ({"at"} if source != "machine" else set())
        change = {name: value for name, value in change.items() if name not in apart}
    exhibit.show(**change)
    return exhibit


def changed(exhibit: Exhibit, move: Move) -> None:
    use(exhibit, move.control, move.value)


# ---- a control proposes, and follows ---------------------------------------------------------------------


@pytest.mark.slow
@each_move
def test_a_control_changes_its_own_part_of_the_choice_and_back(sample, move):
    exhibit = sample.make()
    before, was, pictures = seen(exhibit), value_of(exhibit, move.control), []
    exhibit.picture.observe(lambda change: pictures.append(change["new"]), names="value")
    changed(exhibit, move)
    assert exhibit.choice == before["choice"]._replace(**move.fields)
    assert words(exhibit) == ""
    new = picture_of(exhibit) != before["picture"]
    assert new or move.control in ("range.unit_menu", "exec_box")
    assert len(pictures) == new, "one change, one picture"
    assert seen(exhibit) == seen(brought_to(sample, exhibit.choice))
    if move.returns:
        use(exhibit, move.control, was)
        assert seen(exhibit) == before


@pytest.mark.slow
@each_move
def test_a_control_follows_what_is_shown_by_name(sample, move):
    exhibit, other = sample.make(), sample.make()
    own, *_ = move.fields
    exhibit.show(**{own: move.fields[own]})
    changed(other, move)
    assert value_of(exhibit, move.control) == value_of(other, move.control)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.data())
def test_after_any_changes_it_is_what_a_fresh_exhibit_brought_there_by_show_is(data):
    """And what is refused has changed nothing. Not in play: predict and sorted rows, which remember."""
    sample = data.draw(st.sampled_from([*SAMPLES.values()]))
    names = [move for move in sample.moves if move.control not in ("predict_box", "order_buttons")]
    exhibit = sample.make()
    for move in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=6)):
        before, control = seen(exhibit, typed=False), part(exhibit, move.control)
        value = move.value
        if isinstance(control, ipywidgets.IntSlider):
            value = data.draw(st.integers(control.min, control.max))
        elif isinstance(control, (ipywidgets.Dropdown, ipywidgets.ToggleButtons)):
            value = data.draw(
                st.sampled_from([item[-1] if isinstance(item, tuple) else item for item in control.options])
            )
        said_nothing = value_of(exhibit, move.control) == value
        use(exhibit, move.control, value)
        if words(exhibit).startswith("✗") and not said_nothing:
            assert seen(exhibit, typed=False) == before
    assert seen(exhibit, typed=False) == seen(brought_to(sample, exhibit.choice), typed=False)


@each
def test_what_is_not_named_stays(sample):
    exhibit = sample.make()
    before = seen(exhibit)
    exhibit.show()
    assert seen(exhibit) == before


@each
def test_a_control_that_stays_sends_nothing_and_the_picture_comes_first(sample):
    exhibit, sent = sample.make(), []
    for widget in [*controls(exhibit), exhibit.picture, exhibit.head]:
        widget.observe(lambda change: sent.append(change["owner"]), names="value")
    exhibit.show()
    assert sent == []
    changed(exhibit, next(move for move in reversed(sample.moves) if move.control != "exec_box"))
    assert sent[0] is exhibit.picture
    [*twice] = {id(widget): widget for widget in sent if sent.count(widget) > 1}.values()
    assert [widget for widget in twice if not isinstance(widget, ipywidgets.Text)] == []


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["_state_of", "_svg"])
@pytest.mark.parametrize("by", ["control", "show"])
@pytest.mark.parametrize("sample", [sample for sample in SAMPLES.values() if len(sample.moves) > 1])
def test_two_changes_at_once_in_two_threads_are_both_heard(sample, by, moment, monkeypatch):
    """JupyterLab answers the first messages in the kernel's main thread and later ones in another."""
    exhibit, expected, begun = sample.make(), sample.make(), Event()
    one, other = sample.moves[-1], sample.moves[-2]
    as_ever = getattr(exhibit, moment)

    def slow(*arguments):
        begun.set()
        sleep(0.05)
        return as_ever(*arguments)

    monkeypatch.setattr(exhibit, moment, slow)
    thread = Thread(target=changed, args=(exhibit, one))
    thread.start()
    assert begun.wait(10)
    if by == "control":
        changed(exhibit, other)
    else:
        exhibit.show(**dict([*other.fields.items()][:1]))
    thread.join()
    monkeypatch.undo()
    changed(expected, one)
    changed(expected, other)
    assert seen(exhibit) == seen(expected)


# ---- what is refused -------------------------------------------------------------------------------------

TOY_BOUNDARY = [
    ({"preset": "nope"}, InvalidValueError, "a preset is one of toy, one-1G, mixed, 16T; 'nope' is none"),
    ({"kind": ""}, InvalidValueError, "a kind is one of TD, plain; '' is none"),
    ({"action": "nope"}, InvalidValueError, "an action is one of look, zap, split, split+zap"),
    ({"start": 12}, InvalidValueError, "empty"),
    ({"start": 13}, InvalidValueError, "ends at or after its start"),
    ({"end": 33}, InvalidValueError, "ends at 0x20 (128K)"),
    ({"start": "banana"}, InvalidValueError, "no frame number"),
    ({"preset": "one-1G", "start": "2G"}, InvalidValueError, "empty"),
    ({"kind": "plain", "start": 12}, InvalidValueError, "empty"),
    ({"action": "zap", "unit_level": 2, "end": 0}, InvalidValueError, "ends at or after"),
    ({"preset": "one-1G", "unit_level": 4}, InvalidValueError, "leaves of this guest; none has 512G"),
    ({"unit_level": 3}, InvalidValueError, "a level is from 1 to 2"),
    ({"unit_level": 0}, InvalidValueError, "a level is from 1 to 2"),
]
ENTRY = [
    ({"entry": "banana"}, InvalidValueError, "banana"),
    ({"entry": -1}, InvalidValueError, "-0x1"),
    ({"entry": 2**64}, InvalidValueError, "0x10000000000000000"),
    ({"level": 0}, InvalidValueError, "0"),
    ({"level": 6}, InvalidValueError, "6"),
    ({"example": "nope"}, InvalidValueError, "nope"),
    ({"layout": "ept-6"}, InvalidValueError, "ept-6"),
    ({"machine": "toy"}, InvalidValueError, "toy"),
    ({"machine": "mixed", "at": "256T"}, InvalidValueError, "256T"),
    ({"machine": "mixed", "at": -1}, InvalidValueError, "-1"),
    ({"machine": "mixed", "level": 5}, InvalidValueError, "5"),
    ({"at": 3}, InvalidValueError, "choose a machine first"),
    ({"machine": "", "at": 3}, InvalidValueError, "choose a machine first"),
    ({"index": -1}, InvalidValueError, "-1"),
    ({"index": 512}, InvalidValueError, "512"),
    ({"entry": 7, "example": "2M"}, InvalidValueError, "take one of them"),
    ({"entry": 7, "machine": "mixed"}, InvalidValueError, "take one of them"),
    ({"entry": 7, "level": 9}, InvalidValueError, "9"),
    ({"example": "1G", "index": 512}, InvalidValueError, "512"),
]
RACE = [
    ({"guest": "nope"}, InvalidValueError, "a guest is one of 16T-2M, "),
    ({"guest": ["toy"]}, InvalidValueError, "['toy'] is none"),
    ({"start": 35}, InvalidValueError, "ends at or after its start"),
    ({"end": 65}, InvalidValueError, "this guest ends at 0x40 (256K)"),
    ({"start": 64, "end": 64}, InvalidValueError, "inside the root"),
    ({"start": "banana"}, InvalidValueError, "no frame number"),
    ({"guest": "one-1G", "start": "3G"}, InvalidValueError, "3G"),
    ({"guest": "one-1G", "selected": "nope"}, InvalidValueError, "a row is one of walk_v3, "),
    ({"order": ""}, InvalidValueError, "an order is one of as argued, by visits; '' is none"),
    ({"order": ["by visits"]}, InvalidValueError, "['by visits'] is none"),
    ({"selected": "two_calls_unfiltered"}, InvalidValueError, "a row is one of walk_v3, "),
    ({"selected": ["walk_v3"]}, InvalidValueError, "['walk_v3'] is none"),
    ({"unit_level": 4}, InvalidValueError, "level"),
    ({"order": "by visits", "start": 35}, InvalidValueError, "ends at or after its start"),
]
TREES = [
    ({"gfn": -1}, InvalidValueError, "-1"),
    ({"gfn": None}, InvalidTypeError, "None"),
    ({"kind": "td"}, InvalidValueError, "TD, plain; 'td' is none"),
    ({"root_level": 3}, InvalidValueError, "level 4 or 5"),
    ({"filter": "nobody"}, InvalidValueError, "'nobody' is none"),
    ({"filter": 2}, InvalidValueError, "2 is none"),
    ({"operation": "merge"}, InvalidValueError, "'merge' is none"),
    ({"operation": ["zap"]}, InvalidValueError, "['zap'] is none"),
    ({"operation": "zap", "gfn": "128T"}, InvalidValueError, "the shared bit"),
]
WALK = [
    ({"layout": "nope"}, InvalidValueError, "a layout is one of steps"),
    ({"step": 0}, InvalidValueError, "this call has steps 1 to 29; 0 is none"),
    ({"step": 30}, InvalidValueError, "this call has steps 1 to 29; 30 is none"),
    ({"race": "nope"}, InvalidValueError, "a race is one of"),
    ({"race": "cas_zap", "shared": False}, InvalidValueError, "only under the shared lock"),
    ({"start": 64, "end": 70}, InvalidValueError, "inside the root"),
    ({"start": "8", "end": "4"}, InvalidValueError, "ends at or after its start"),
    ({"target_level": 3}, InvalidValueError, "a target level lies below the root's"),
    ({"refuse_page": -1}, InvalidValueError, "counts from 1"),
    ({"unit_level": 4}, InvalidValueError, "a level is from 1 to 3"),
]
LIFE = [
    ({"step": 0}, InvalidValueError, "this story has steps 1 to 85; 0 is none"),
    ({"step": 86}, InvalidValueError, "86 is none"),
    ({"start": "banana"}, InvalidValueError, "no frame number"),
    ({"end": 5}, InvalidValueError, "at least"),
    ({"end": 33}, InvalidValueError, "at most"),
    ({"split": "v4"}, InvalidValueError, "a split is one of v3, "),
    ({"split": ["v3"]}, InvalidValueError, "['v3'] is none"),
    ({"machine": "arm"}, InvalidValueError, "a machine is one of toy, x86; 'arm' is none"),
    ({"machine": {}}, InvalidValueError, "{} is none"),
    ({"then": "nope"}, InvalidValueError, "a then is one of"),
    ({"folios": None}, InvalidValueError, "None is none"),
    ({"machine": "x86", "folios": "4K"}, InvalidValueError, "page by page"),
    ({"refuse": -1}, InvalidValueError, "at least 0"),
    ({"unit_level": 3}, InvalidValueError, "leaves of this guest"),
    ({"unit_level": 9}, InvalidValueError, "level"),
]
BUDGET = [
    ({"guest": "16T"}, InvalidValueError, "a guest is one of toy, x86; '16T' is none"),
    ({"size": "huge"}, InvalidValueError, "a size is one of small, large, few; 'huge' is none"),
    ({"kind": "td"}, InvalidValueError, "a kind is one of plain, TD, TD with Dynamic PAMT; 'td' is none"),
    ({"split": ["edges"]}, InvalidValueError, "['edges'] is none"),
    ({"start": 59}, InvalidValueError, "ends at or after its start"),
    ({"start": -1}, InvalidValueError, "the start is at least 0; -1"),
    ({"end": 65}, InvalidValueError, "this guest ends at 0x40 (256K)"),
    ({"end": "64E"}, InvalidValueError, "64E"),
    ({"end": "4P"}, InvalidValueError, "this guest ends at 0x40 (256K)"),
    ({"start": "4095"}, InvalidValueError, "ends at or after its start"),
    ({"start": "4K+1K"}, InvalidValueError, "no multiple of 4K"),
    ({"guest": "x86", "end": "32G+4K"}, InvalidValueError, "this guest ends at 0x800000 (32G)"),
    ({"unit_level": 4}, InvalidValueError, "leaves of this guest"),
]
SHORTAGE = [
    ({"refuse": 7}, InvalidValueError, "no such request"),
    ({"refuse": -1}, InvalidValueError, "no such request"),
    ({"declared": "<b>bool</b>"}, InvalidValueError, "is one of bool, int; '<b>bool</b>' is none"),
    ({"refuse": 2, "again": 2}, InvalidTypeError, "again is True or False"),
]
PLAYER = [
    ({"scenario": "nope"}, InvalidValueError, "a scenario is one of 'shared, on demand', "),
    ({"scenario": ["own"]}, InvalidValueError, "['own'] is none"),
    ({"lock": "none"}, InvalidValueError, "a lock is one of shared, exclusive; 'none' is none"),
    ({"flush": ["always"]}, InvalidValueError, "['always'] is none"),
    ({"pages": None}, InvalidValueError, "None is none"),
    ({"lock": "exclusive", "bug": "plain store"}, InvalidValueError, "this one is exclusive"),
    ({"shown": "banana"}, InvalidValueError, "a shown is one of witness, "),
    ({"shown": "no leak"}, InvalidValueError, "'no leak' does not break here"),
    ({"schedule": ""}, InvalidValueError, "a schedule has at least one step"),
    ({"schedule": "A:lock C:lock"}, InvalidValueError, "step 2, 'C:lock', names none"),
    ({"schedule": "A:lock A:flush"}, InvalidValueError, "step 2 does not fit this code"),
    (
        {"lock": "exclusive", "schedule": "A:lock B:lock"},
        InvalidValueError,
        "B waits for mmu_lock, which A holds",
    ),
    ({"schedule": 7}, InvalidValueError, "step 1 is '7'"),
    ({"step": -1}, InvalidValueError, "this schedule has steps 0 to 8; -1 is none"),
    ({"step": 9}, InvalidValueError, "9 is none"),
]
LEDGER = [
    ({"claim": "C45"}, InvalidValueError, "a claim is one of C1, C2, C7, "),
    ({"claim": ["C7"]}, InvalidValueError, "['C7'] is none"),
    ({"order": "by size"}, InvalidValueError, "an order is one of by mail, by verdict; 'by size' is none"),
    ({"verdict": "true"}, InvalidValueError, "a verdict is one of all, holds, "),
    ({"by": "M16"}, InvalidValueError, "'M16' is none"),
    ({"notebook": "04"}, InvalidValueError, "a notebook is one of all, 00, 02, 03, 05, 06, 08; '04' is none"),
    ({"kind": ""}, InvalidValueError, "a kind is one of all, experiment, reason; '' is none"),
    ({"find": "banana"}, InvalidValueError, "none of 8 claims passes: with “banana”"),
    ({"by": "M1", "kind": "experiment"}, InvalidValueError, "passes: by M1 and decided by experiment"),
    ({"find": 7}, InvalidTypeError, "the words to find are text; 7 is none"),
]
TRACE = [
    ({"trace": "no/such"}, InvalidValueError, "'no/such' cannot be read: No such file or directory"),
    ({"trace": "  "}, InvalidValueError, "the path is empty"),
    ({"trace": "/"}, InvalidValueError, "'/' is no file"),
    ({"trace": 7}, InvalidTypeError, "a trace is a path, the name of an example, or text; 7 is none"),
    ({"trace": "<b>no\ntrace"}, InvalidValueError, "'text' is no trace: of 2 lines none is an event"),
    ({"trace": b"\x1f\x8b\x08"}, InvalidValueError, "'text' is no text but compressed with gzip"),
    ({"start": "banana"}, InvalidValueError, "no frame number"),
    ({"start": -2}, InvalidValueError, "a frame is at least 0"),
    ({"start": 0x850, "end": 0x84F}, InvalidValueError, "ends at or after its start"),
    ({"layout": "nope"}, InvalidValueError, "'nope' is none"),
    ({"view": "near"}, InvalidValueError, "a view is one of step, whole; 'near' is none"),
    ({"step": -1}, InvalidValueError, "this trace has steps 0 to 4; -1 is none"),
    ({"step": 5}, InvalidValueError, "5 is none"),
]
REFUSED = {
    "trace": TRACE,
    "claim_ledger": LEDGER,
    "schedule_player": PLAYER,
    "boundary": TOY_BOUNDARY,
    "entry": ENTRY,
    "race": RACE,
    "split_budget": BUDGET,
    "two_roots": TREES,
    "walk": WALK,
    "page_life": LIFE,
    "lost_errno": SHORTAGE,
}


def no_field_takes() -> list[Any]:
    """For each field of a choice that is a flag or a number, what is neither; and a field that is none."""
    found = []
    for name in REFUSED:
        choice = MADE[name].choice
        for field, value in choice._asdict().items():
            kinds = {bool: (1, "yes", None), int: (1.5, True, None, [3])}.get(type(value), ())
            rule = f"{field} is True or False" if isinstance(value, bool) else "whole numbers"
            found += [(name, {field: wrong}, InvalidTypeError, rule) for wrong in kinds]
        rule = f"{' and '.join([', '.join(choice._fields[:-1]), choice._fields[-1]])}; it has no 'speed'"
        found.append((name, {"speed": 3}, InvalidTypeError, rule))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change", "error", "rule"),
    [
        *((name, *case) for name, cases in REFUSED.items() for case in cases),
        *(case for case in no_field_takes() if not (case[0] == "entry" and "at" in case[1])),
    ],
)
def test_what_breaks_a_rule_is_refused_in_words_and_nothing_half_happens(name, change, error, rule):
    exhibit = SAMPLES[name].make()
    exhibit.table_box.value = True
    before, untyped = seen(exhibit), seen(exhibit, typed=False)
    with pytest.raises(error, match=re.escape(rule)):
        exhibit.show(**change)
    assert seen(exhibit) == before
    exhibit.propose(**change)
    assert words(exhibit).startswith("✗ ")
    assert rule in words(exhibit)
    assert re.search(rf"\. The picture shows the {SPEAKING}\.$", words(exhibit))
    assert seen(exhibit, typed=False) == untyped
    exhibit.show()
    assert seen(exhibit) == before, "and the next good one clears the message"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "change"),
    [
        *((LostErrno, change) for change, _, _ in SHORTAGE),
        *((SplitBudget, change) for change, _, _ in BUDGET),
        *((partial(ClaimLedger, SMALL), change) for change, _, _ in LEDGER),
        *((TwoTrees, change) for change, _, _ in TREES),
        *((WalkStepper, change) for change, _, _ in WALK),
        *((PageLifeStepper, {"start": 5, "end": 12} | change) for change, _, _ in LIFE),
        *((SchedulePlayer, change) for change, _, _ in PLAYER),
        *((TraceViewer, {"trace": "one-split"} | change) for change, _, _ in TRACE),
        (EntryDecoder, {"entry": "banana"}),
        (EntryDecoder, {"entry": 1.5}),
        (EntryDecoder, {"entry": "2M", "level": 6}),
        (EntryDecoder, {"entry": 7, "level": 2.0}),
    ],
)
def test_it_does_not_open_on_what_breaks_a_rule(kind, change):
    with pytest.raises((InvalidValueError, InvalidTypeError)):
        kind(**change)


BAD_TEXTS = [
    ("banana", "banana"),
    ("", ""),
    ("   ", ""),
    ("1e9", "1e9"),
    ("-4K", "-4K"),
    ("2M + ", "2M"),
    ("0x", "0x"),
    ("2.5M", "2.5M"),
    ("9" * 400, ""),
    ("g" * 400, "g"),
    ("💥", "💥"),
    ("<script>alert(1)</script>", "<script>"),
    ("</span><img src=x onerror=alert(1)>", "</span>"),
    ("&lt;b&gt;", "&lt;"),
    ('"onclick="alert(1)', "onclick"),
    ("<!--", "<!--"),
    ("]]>", "]]>"),
]


GOOD_TEXTS = {
    "entry_text": ["1e9"],
    "find_text": ["", "   "],
    "start_text": ["", "   ", "1e9"],
    "end_text": ["", "   ", "1e9"],
}
"""Those of them that some fields take."""


@pytest.mark.slow
@pytest.mark.parametrize(("sample", "move"), TEXTS)
def test_a_bad_text_is_answered_in_words_and_stays_in_its_field_to_be_mended(sample, move):
    exhibit = sample.make()
    field, before = part(exhibit, move.control), seen(exhibit, typed=False)
    good = GOOD_TEXTS.get(move.control, [])
    for text, quoted in [("x", "x"), *(bad for bad in BAD_TEXTS if bad[0] not in good)]:
        field.value = text
        assert field.value == text
        assert words(exhibit).startswith("✗ ")
        assert quoted in words(exhibit)
        assert re.search(SPEAKING, words(exhibit))
        assert len(words(exhibit)) < 300
        assert len(re.findall("<", exhibit.head.value)) == 8, "three boxes and a span"
        assert seen(exhibit, typed=False) == before
    changed(exhibit, move)
    assert seen(exhibit) == seen(brought_to(sample, exhibit.choice)), "a good text is written in its form"


@pytest.mark.slow
@pytest.mark.parametrize(("sample", "move"), TEXTS)
def test_any_good_change_clears_the_message_and_the_bad_text(sample, move):
    for good in sample.moves:
        exhibit = sample.make()
        part(exhibit, move.control).value = "banana"
        changed(exhibit, good)
        assert words(exhibit) == ""
        assert part(exhibit, move.control).value != "banana"


@each
@pytest.mark.parametrize("error", [KeyError, TypeError, ValueError])
def test_an_error_that_no_rule_explains_is_not_swallowed(sample, error, monkeypatch):
    exhibit = sample.make()

    def state_of(_choice):
        raise error("a bug")

    monkeypatch.setattr(exhibit, "_state_of", state_of)
    for move in sample.moves:
        with pytest.raises(error, match="a bug"):
            changed(exhibit, move)
    assert words(exhibit) == ""


@each
def test_a_bug_in_drawing_is_not_swallowed_either_and_the_next_change_is_shown(sample, monkeypatch):
    exhibit, move = sample.make(), sample.moves[-1]

    def svg(*_):
        raise ValueError("a bug")

    monkeypatch.setattr(exhibit, "_svg", svg)
    with pytest.raises(ValueError, match="a bug"):
        changed(exhibit, move)
    monkeypatch.undo()
    exhibit.show()
    assert seen(exhibit) == seen(brought_to(sample, exhibit.choice))


@each
def test_a_refusal_draws_nothing(sample, monkeypatch):
    exhibit = sample.make()
    monkeypatch.setattr(exhibit, "_svg", lambda *_: pytest.fail("it was drawn"))
    exhibit.propose(speed=3)
    assert words(exhibit).startswith("✗")


@each
def test_a_bug_behind_a_button_is_in_the_log(sample, monkeypatch, caplog):
    exhibit = sample.make()
    buttons = [widget for widget in controls(exhibit) if isinstance(widget, ipywidgets.Button)]

    def show(**_change):
        raise KeyError("a bug")

    monkeypatch.setattr(exhibit, "show", show)
    for button in buttons:
        caplog.clear()
        button.click()
        assert caplog.records, button.description


# ---- picture, table, bundle ------------------------------------------------------------------------------


@pytest.mark.slow
@each
def test_picture_and_table_are_those_of_the_state_in_the_page_s_colours(sample):
    exhibit = sample.make()
    exhibit.table_box.value = True
    for move in [None, *sample.moves]:
        if move:
            changed(exhibit, move)
        assert exhibit._svg(LIVE, exhibit._ids).body in exhibit.picture.value
        assert exhibit.table.value == exhibit._table() != ""
        ElementTree.fromstring(exhibit.picture.value)
    exhibit.table_box.value = False
    assert exhibit.table.value == "", "sent along with every picture it would cost each slider key a message"
    assert exhibit.picture.value.startswith('<div class="tdpkit"')
    assert [getattr(child, "value", None) for child in exhibit.box.children].count(LIVE_STYLE) == 1


@each
def test_it_is_displayed_as_a_live_view_and_then_as_a_picture_and_a_text(sample, monkeypatch):
    """In one output a page would choose the view, and have nothing to show where that cannot live."""
    exhibit, other = sample.make(), sample.make()
    changed(exhibit, sample.moves[0])
    changed(other, sample.moves[0])
    outputs = []
    monkeypatch.setattr("tdpkit.show.outputs.display", lambda data, raw: outputs.append(data))
    exhibit._ipython_display_()
    view, still = outputs
    assert {kind: data["model_id"] for kind, data in view.items()} == {LIVE_VIEW: exhibit.box.model_id}
    assert LIVE_BOX in exhibit.box._dom_classes
    assert still == {"text/plain": exhibit._text(), "image/svg+xml": theme.still(exhibit._svg(LIGHT))}
    assert "var(" not in still["image/svg+xml"]
    ElementTree.fromstring(still["image/svg+xml"])
    assert still == other._repr_mimebundle_(include=None, exclude=None), "the same in every exhibit"


@pytest.mark.slow
@each
def test_two_exhibits_share_no_id_and_do_not_move_each_other(sample):
    one, other = sample.make(), sample.make()
    ids = [set(re.findall(r'\bid="([^"]*)"', exhibit.picture.value)) for exhibit in (one, other)]
    assert all(ids)
    assert ids[0].isdisjoint(ids[1])
    assert picture_of(one) == picture_of(other)
    before = seen(other)
    for move in sample.moves:
        changed(one, move)
    assert seen(other) == before


# ---- the controls ----------------------------------------------------------------------------------------


@each
def test_every_control_is_named_and_can_be_reached(sample):
    """Of its own, or by a tooltip, which a screen reader takes for a name."""
    exhibit = sample.make()
    for control in controls(exhibit):
        if isinstance(control, ipywidgets.ToggleButtons) and not control.description:
            assert len(control.tooltips) == len(control.options)
            assert all(control.tooltips)
        elif control is not exhibit.handles:  # its parts have names of their own
            assert control.description or control.tooltip or control.layout.display == "none"
            assert control.tabbable is not False
        if isinstance(control, ipywidgets.Text):
            assert not control.continuous_update, "a text speaks when it is done"
        elif hasattr(control, "continuous_update") and "Slider" in type(control).__name__:
            assert control.continuous_update, "and a slider while it moves"


@pytest.mark.slow
@pytest.mark.parametrize("kind", dict.fromkeys(map(type, MADE.values())), ids=lambda kind: kind.prefix)
def test_every_control_on_the_page_is_moved_here_and_every_field_has_a_control(kind):
    samples = [SAMPLES[name] for name, made in MADE.items() if type(made) is kind]
    exhibit = samples[0].make()
    moved = {id(part(exhibit, move.control)) for sample in samples for move in sample.moves}
    left = [
        control
        for control in controls(exhibit)
        if id(control) not in moved and not isinstance(control, (ipywidgets.Button, ipywidgets.ToggleButton))
    ]
    state = exhibit.handles.state
    unused = [] if state["sliders"] or state["spots"] else [exhibit.handles]
    assert left == [*unused, exhibit.table_box]
    assert {name for sample in samples for move in sample.moves for name in move.fields} == set(
        exhibit.choice._fields
    )
