"""What the controls of the two trees are for; what holds for all exhibits: tests/show/test_exhibit.py."""

import pytest

from tdpkit.lab.guest import VM_KINDS
from tdpkit.lab.two_roots import OPERATIONS, Question, ask
from tdpkit.show.theme import LIVE
from tdpkit.show.two_roots import TwoTrees
from tdpkit.show.two_roots.picture import two_trees_svg
from tests.oracles.exhibits import controls, picture_of, seen, words

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
    assert two_trees_svg(trees.outcome, LIVE, "ids") in picture_of(trees)


def test_the_table_follows_while_it_is_open(trees):
    assert trees.table.value == ""
    trees.table_box.value = True
    assert "[256, 200, 340, 77]" in trees.table.value
    trees.level_buttons.value = 5
    assert "[8, 0, 200, 340, 77]" in trees.table.value
    trees.table_box.value = False
    assert trees.table.value == ""


# ---- labels --------------------------------------------------------------------------------------------


def test_menus_and_buttons_offer_what_there_is_with_the_kernel_s_numbers(trees):
    assert [value for _, value in trees.operation_menu.options] == list(OPERATIONS)
    assert [text for text, _ in trees.filter_radio.options] == [
        *("shared (1)", "private (2)", "both (3)", "neither (0)")
    ]
    assert [value for _, value in trees.kind_buttons.options] == list(VM_KINDS)


def test_controls_stand_in_the_order_of_cause_and_effect(trees):
    *cause, operation, which, table = controls(trees)
    assert cause == [
        *(trees.gfn_text, trees.kind_buttons, trees.level_buttons, trees.shared_box, trees.invalid_box)
    ]
    assert (operation, which, table) == (trees.operation_menu, trees.filter_radio, trees.table_box)
