"""The two-trees exhibit's handlers, called directly and through the traits a browser would set."""

import ipywidgets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError
from tdpkit.lab.guest import VM_KINDS
from tdpkit.lab.two_roots import FILTERS, OPERATIONS, Question, ask
from tdpkit.show.theme import LIVE, LIVE_STYLE
from tdpkit.show.two_roots import TwoTrees
from tdpkit.show.two_roots.picture import two_trees_svg
from tests.oracles.exhibits import picture_of, words

VIEW = "application/vnd.jupyter.widget-view+json"
EXAMPLE = 0x322A84D
CONTROLS = {
    "gfn": "gfn_text",
    "kind": "kind_buttons",
    "root_level": "level_buttons",
    "operation": "operation_menu",
    "filter": "filter_radio",
    "shared_leaf": "shared_box",
    "invalid_root": "invalid_box",
}
"""The control of each part of the question."""


@pytest.fixture
def trees():
    return TwoTrees()


def control(trees, name):
    return getattr(trees, CONTROLS[name])


def shown(trees, *, texts: bool = True) -> dict[str, object]:
    """All that a learner sees."""
    seen = {name: control(trees, name).value for name in CONTROLS if name != "gfn"}
    seen |= {
        "outcome": trees.outcome,
        "question": trees.question,
        "picture": picture_of(trees),
        "table": trees.table.value,
        "shared disabled": trees.shared_box.disabled,
    }
    if texts:
        seen |= {"text": trees.gfn_text.value, "message": trees.message.value}
    return seen


# ---- opening and moving ----------------------------------------------------------------------------------


def test_it_opens_on_the_private_split_of_the_notebook(trees):
    assert trees.question == Question(gfn=EXAMPLE)
    assert (
        trees._text()
        .split("\n")[0]
        .endswith(
            "Filter private → root types 4 (MIRROR): the split reaches the mirror tree; "
            "the direct tree is not touched."
        )
    )
    assert trees.gfn_text.value == "200G+680M+308K"
    assert words(trees) == ""


def test_it_opens_as_it_is_told():
    trees = TwoTrees(gfn="1T", kind="plain", root_level=5, filter="both", operation="zap", invalid_root=True)
    assert trees.outcome == ask(Question(1 << 28, "plain", 5, "both", "zap", False, True))
    assert trees.gfn_text.value == "1T"
    for name in ("kind", "root_level", "filter", "operation", "invalid_root"):
        assert control(trees, name).value == getattr(trees.question, name)


@pytest.mark.parametrize(
    ("name", "value", "asked"),
    [
        ("gfn", "0x322a84e", EXAMPLE + 1),
        ("gfn", "200G", 200 << 18),
        ("kind", "plain", "plain"),
        ("root_level", 5, 5),
        *[("operation", operation, operation) for operation in OPERATIONS if operation != "split"],
        *[("filter", filter_, filter_) for filter_ in FILTERS if filter_ != "private"],
        ("shared_leaf", True, True),
        ("invalid_root", True, True),
    ],
)
def test_every_control_asks_another_question_and_back(trees, name, value, asked):
    before, was = shown(trees), control(trees, name).value
    control(trees, name).value = value
    assert trees.question == Question(gfn=EXAMPLE)._replace(**{name: asked})
    assert trees.outcome == ask(trees.question)
    assert picture_of(trees) != before["picture"]
    assert words(trees) == ""
    control(trees, name).value = was
    assert shown(trees) == before


changes = st.one_of(
    st.tuples(st.just("gfn"), st.integers(0, 2**40).map(hex)),
    st.tuples(st.just("kind"), st.sampled_from([*VM_KINDS])),
    st.tuples(st.just("root_level"), st.sampled_from([4, 5])),
    st.tuples(st.just("operation"), st.sampled_from([*OPERATIONS])),
    st.tuples(st.just("filter"), st.sampled_from([*FILTERS])),
    st.tuples(st.sampled_from(["shared_leaf", "invalid_root"]), st.booleans()),
)
LAST = {("TD", 4): 2**35, ("TD", 5): 2**39, ("plain", 4): 2**36, ("plain", 5): 2**40}


@settings(max_examples=40, deadline=None)
@given(st.lists(changes, min_size=1, max_size=6))
def test_after_any_changes_it_is_what_a_fresh_exhibit_opened_there_is(done):
    trees = TwoTrees()
    for name, value in done:
        asked = trees.question._replace(**{name: int(value, 16) if name == "gfn" else value})
        good = asked.gfn < LAST[asked.kind, asked.root_level]
        expected = asked if good else trees.question
        said_nothing = value == control(trees, name).value  # a control that stays says nothing
        control(trees, name).value = value
        assert trees.question == expected
        assert said_nothing or (words(trees) == "") is good
    assert shown(trees, texts=False) == shown(TwoTrees(**trees.question._asdict()), texts=False)


def test_a_shared_leaf_is_offered_where_there_is_a_shared_half(trees):
    assert not trees.shared_box.disabled
    trees.kind_buttons.value = "plain"
    assert trees.shared_box.disabled
    trees.kind_buttons.value = "TD"
    assert not trees.shared_box.disabled


# ---- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("banana", "no frame number"),
        ("", "write 0x200"),
        ("-4K", "below 0"),
        ("1K", "multiple of 4K"),
        ("128T", "the shared bit"),
        ("0x80322a84d", "the shared bit"),
        ("1P", "inside the root"),
        ("9" * 400, "too long"),
        ("<script>alert(1)</script>", "no address"),
        ("</span><img src=x onerror=alert(1)>", "no address"),
    ],
)
def test_a_bad_text_is_answered_in_words_and_stays_in_its_field(trees, text, rule):
    before = shown(trees, texts=False)
    trees.gfn_text.value = text
    assert rule in words(trees)
    assert "last good question" in words(trees)
    assert len(words(trees)) < 300
    assert shown(trees, texts=False) == before
    assert trees.gfn_text.value == text
    trees.gfn_text.value = "4K"
    assert words(trees) == ""
    assert trees.question.gfn == 1


def test_a_vm_that_does_not_have_the_frame_is_refused_and_its_button_goes_back(trees):
    trees.show(root_level=5, gfn="1P")
    before = shown(trees, texts=False)
    trees.level_buttons.value = 4
    assert "0x4000000000 (1P)" in words(trees)
    assert shown(trees, texts=False) == before
    assert trees.level_buttons.value == 5


@pytest.mark.parametrize(
    ("refused", "error"),
    [
        ({"gfn": -1}, InvalidValueError),
        ({"gfn": 1.5}, InvalidTypeError),
        ({"gfn": True}, InvalidTypeError),
        ({"gfn": [3]}, InvalidTypeError),
        ({"gfn": None}, InvalidTypeError),
        ({"kind": "td"}, InvalidValueError),
        ({"root_level": 3}, InvalidValueError),
        ({"filter": "nobody"}, InvalidValueError),
        ({"filter": 2}, InvalidValueError),
        ({"operation": "merge"}, InvalidValueError),
        ({"operation": ["zap"]}, InvalidValueError),
        ({"shared_leaf": 1}, InvalidTypeError),
        ({"invalid_root": "yes"}, InvalidTypeError),
        ({"frame": 1}, InvalidTypeError),
        ({"operation": "zap", "gfn": "128T"}, InvalidValueError),
    ],
)
def test_what_breaks_a_rule_is_refused_and_nothing_half_happens(trees, refused, error):
    before = shown(trees)
    with pytest.raises(error):
        trees.show(**refused)
    assert shown(trees) == before
    trees.propose(**refused)
    assert words(trees) != ""
    assert shown(trees, texts=False) == {name: before[name] for name in shown(trees, texts=False)}
    with pytest.raises(error):
        TwoTrees(**refused)


# ---- the picture, the table, the bundle ------------------------------------------------------------------


def test_a_change_is_one_new_picture_and_a_refusal_none(trees):
    pictures = []
    trees.picture.observe(pictures.append, names="value")
    trees.filter_radio.value = "both"
    assert len(pictures) == 1
    trees.gfn_text.value = "banana"
    trees.table_box.value = True
    assert len(pictures) == 1


def test_the_picture_is_live_and_its_ids_are_the_exhibit_s_own(trees):
    other = TwoTrees()
    assert picture_of(trees) == picture_of(other)
    assert trees._ids != other._ids
    assert two_trees_svg(trees.outcome, LIVE, trees._ids) in trees.picture.value
    assert trees.box.children[0].value == LIVE_STYLE
    assert "min-width:560px" in trees.picture.value


def test_the_table_follows_while_it_is_open(trees):
    assert trees.table.value == ""
    trees.table_box.value = True
    assert "[256, 200, 340, 77]" in trees.table.value
    trees.level_buttons.value = 5
    assert "[8, 0, 200, 340, 77]" in trees.table.value
    trees.table_box.value = False
    assert trees.table.value == ""


def test_the_bundle_has_the_view_the_text_and_the_opening_picture(trees):
    bundle = trees._repr_mimebundle_()
    assert {VIEW, "text/plain", "image/svg+xml"} <= set(bundle)
    assert bundle[VIEW]["model_id"] == trees.box.model_id
    assert bundle["text/plain"] == trees._text()


def test_two_exhibits_do_not_disturb_each_other(trees):
    other = TwoTrees()
    before = shown(other)
    trees.filter_radio.value = "both"
    trees.operation_menu.value = "zap"
    assert shown(other) == before


# ---- labels --------------------------------------------------------------------------------------------


def controls(widget) -> list:
    found = [part for child in getattr(widget, "children", ()) for part in controls(child)]
    kinds = (ipywidgets.Dropdown, ipywidgets.Text, ipywidgets.ToggleButtons, ipywidgets.RadioButtons)
    return [*found, widget] if isinstance(widget, (*kinds, ipywidgets.Checkbox)) else found


def test_every_control_is_on_the_page_and_has_a_label_or_a_tooltip(trees):
    on_page = controls(trees.box)
    assert {id(part) for part in on_page} == {
        id(part) for part in (*(control(trees, name) for name in CONTROLS), trees.table_box)
    }
    for part in on_page:
        if isinstance(part, ipywidgets.ToggleButtons):
            assert len(part.tooltips) == len(part.options)
        else:
            assert part.description or part.tooltip


def test_menus_and_buttons_offer_what_there_is_with_the_kernel_s_numbers(trees):
    assert [value for _, value in trees.operation_menu.options] == list(OPERATIONS)
    assert [text for text, _ in trees.filter_radio.options] == [
        *("shared (1)", "private (2)", "both (3)", "neither (0)")
    ]
    assert [value for _, value in trees.kind_buttons.options] == list(VM_KINDS)


def test_controls_stand_in_the_order_of_cause_and_effect(trees):
    order = ["gfn", "kind", "root_level", "shared_leaf", "invalid_root", "operation", "filter"]
    assert controls(trees.box)[:-1] == [control(trees, name) for name in order]
