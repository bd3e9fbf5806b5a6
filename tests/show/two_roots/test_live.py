"""What the controls of the two trees are for; what holds for all exhibits: tests/show/test_exhibit.py."""

import pytest

from tdpkit.lab.guest import VM_KINDS
from tdpkit.lab.two_roots import OPERATIONS, Question, ask
from tdpkit.show.theme import LIVE
from tdpkit.show.two_roots import TwoTrees
from tdpkit.show.two_roots.picture import two_trees_svg
from tests.oracles.exhibits import controls, picture_of, seen, use, words

EXAMPLE = 0x322A84D


@pytest.fixture
def trees():
    return TwoTrees()


# ---- opening and moving ----------------------------------------------------------------------------------


def test_it_opens_on_the_private_split_of_the_notebook(trees):
    assert trees.choice == Question(gfn=EXAMPLE)
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


def pressable(trees) -> dict[str, bool]:
    return {spot["name"]: spot["chosen"] for spot in trees.handles.state["spots"]}


def test_a_shared_leaf_is_offered_where_there_is_a_shared_half(trees):
    assert pressable(trees)["vm:leaf"] is False
    trees.kind_buttons.value = "plain"
    assert "vm:leaf" not in pressable(trees)
    trees.kind_buttons.value = "TD"
    assert "vm:leaf" in pressable(trees)


def test_a_filter_is_its_two_bits_each_pressed_on_its_own(trees):
    """1 is shared, 2 private (S44)."""
    for half, name in (
        ("shared", "both"),
        ("private", "shared"),
        ("shared", "neither"),
        ("private", "private"),
    ):
        use(trees, "press.filter", half)
        assert (trees.choice.filter, words(trees)) == (name, "")
        assert pressable(trees)["filter:private"] is (name in ("private", "both"))
        assert pressable(trees)["filter:shared"] is (name in ("shared", "both"))


def test_what_the_vm_has_comes_and_goes_when_it_is_pressed(trees):
    for what, field, there, gone in (
        ("leaf", "shared_leaf", True, False),
        ("invalid", "invalid_root", True, False),
        ("mirror", "kind", "plain", "TD"),
    ):
        for value in (there, gone):
            use(trees, "press.vm", what)
            assert getattr(trees.choice, field) == value
        assert trees.choice == Question(gfn=EXAMPLE)


def test_g_goes_along_the_strips_by_entries_of_each_level_to_the_last_frame_there_is(trees):
    sliders = {one["label"]: one for one in trees.handles.state["sliders"] if one["keyed"]}
    assert {label: int(one["step"]) for label, one in sliders.items()} == {
        "frame g, by 512G": 512**3,
        "frame g, by 1G": 512**2,
        "frame g, by 2M": 512,
        "frame g, by 4K": 1,
    }
    assert {one["of"] for one in sliders.values()} == {"gfn"}
    assert {one["text"] for one in sliders.values()} == {"0x322a84d (200G+680M+308K)"}
    for level, one in zip((4, 3, 2, 1), sliders.values(), strict=True):
        for end, index in (("low", 0), ("high", 255 if level == 4 else 511)):
            use(trees, "drag.gfn", one[end])
            assert words(trees) == ""
            mirror, expected = trees.outcome.roots[-1], [0, 200, 340, 77]
            expected[4 - level] = index
            assert mirror.indices == tuple(expected)
        trees.show(gfn=EXAMPLE)


# ---- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("1K", "multiple of 4K"),
        ("128T", "the shared bit"),
        ("0x80322a84d", "the shared bit"),
        ("1P", "inside the root"),
    ],
)
def test_a_frame_that_the_vm_does_not_have_is_answered_in_words(trees, text, rule):
    trees.gfn_text.value = text
    assert rule in words(trees)
    assert trees.choice.gfn == EXAMPLE
    trees.gfn_text.value = "4K"
    assert (words(trees), trees.choice.gfn) == ("", 1)


def test_a_vm_that_does_not_have_the_frame_is_refused_and_its_button_goes_back(trees):
    trees.show(root_level=5, gfn="1P")
    before = seen(trees, typed=False)
    trees.level_buttons.value = 4
    assert "0x4000000000 (1P)" in words(trees)
    assert seen(trees, typed=False) == before
    assert trees.level_buttons.value == 5


# ---- what it shows ---------------------------------------------------------------------------------------


def test_the_picture_is_of_the_outcome(trees):
    assert two_trees_svg(trees.outcome, LIVE, "ids").body in picture_of(trees)


def test_the_table_follows_while_it_is_open(trees):
    assert trees.table.value == ""
    trees.table_box.value = True
    assert "[256, 200, 340, 77]" in trees.table.value
    trees.level_buttons.value = 5
    assert "[8, 0, 200, 340, 77]" in trees.table.value
    trees.table_box.value = False
    assert trees.table.value == ""


# ---- labels --------------------------------------------------------------------------------------------


def test_menus_and_buttons_offer_what_there_is(trees):
    assert [value for _, value in trees.operation_menu.options] == list(OPERATIONS)
    assert [value for _, value in trees.kind_buttons.options] == list(VM_KINDS)


def test_controls_stand_in_one_line_above_the_picture(trees):
    assert controls(trees) == [
        *(trees.gfn_text, trees.operation_menu, trees.kind_buttons, trees.level_buttons),
        *(trees.handles, trees.table_box),
    ]
