"""Colours by role: the same roles in both themes, contrast computed, and no kind told by colour alone."""

import re
from itertools import pairwise

import pytest

from tdpkit.lab.guest import ACTIONS, VM_KINDS, Guest
from tdpkit.show.boundary.picture import boundary_svg
from tdpkit.show.boundary.state import boundary_state
from tdpkit.show.drawing import HATCHED, Drawing, Key
from tdpkit.show.theme import DARK, LIGHT, LIVE, LIVE_STYLE, contrast, still

THEMES = [pytest.param(LIGHT, id="light"), pytest.param(DARK, id="dark")]
KINDS = ("leaf1", "leaf2", "leaf3", "table", "hole", "crossing", "split", "zapped", "lost", "refaulted")
"""The kinds of show.boundary.Cell, as its docstring names them."""
SEPT_KINDS = ("pending", "blocked", "pending-blocked")
"""States of the S-EPT that the conversion stepper draws; PRESENT is a leaf, FREE a hole."""
TRACE_KINDS = ("unknown",)
"""What the trace viewer draws besides."""
UNHATCHED = ("leaf1", "leaf2", "leaf3", "table", "hole")
TEXT_ROLES = (
    *("ink", "muted", "bad", "good", "range", "shared", "private"),
    *("crossing-mark", "refaulted-mark", "split-mark", "lost-mark", "zapped-mark"),
)
SPANS = {"eight": (3, 4), "toy": (5, 12), "one-1G": (0x40100, 0x80000), "mixed": (0x603, 0xE0100)}


# ---- contrast ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [
        ("#000000", "#ffffff", 21),
        ("#767676", "#ffffff", 4.54),  # the lightest grey that passes AA on white (WCAG 2.2, 1.4.3)
        ("#777777", "#ffffff", 4.48),  # and the first that does not
        ("#ff0000", "#ffffff", 4.00),
        ("#0000ff", "#ffffff", 8.59),
        ("#00ff00", "#ffffff", 1.37),
        ("#123456", "#123456", 1),
    ],
)
def test_contrast_gives_the_known_wcag_ratios_either_way_round(one, other, ratio):
    assert contrast(one, other) == pytest.approx(ratio, abs=0.005)
    assert contrast(other, one) == contrast(one, other)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("role", TEXT_ROLES)
def test_text_on_paper_has_at_least_4_5_to_1(theme, role):
    assert contrast(theme[role], theme["paper"]) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("role", ["line", "range", "ink"])
def test_outlines_on_paper_have_at_least_3_to_1(theme, role):
    assert contrast(theme[role], theme["paper"]) >= 3


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("kind", HATCHED)
def test_the_marks_of_a_hatch_have_at_least_3_to_1_on_their_own_fill(theme, kind):
    assert contrast(theme[f"{kind}-mark"], theme[kind]) >= 3


@pytest.mark.parametrize("theme", THEMES)
def test_the_three_sizes_of_leaves_differ_from_each_other_in_lightness_and_in_order(theme):
    """They have no hatch: their strips say their size, and the larger the leaf the further from the paper."""
    away = [contrast(theme[f"leaf{level}"], theme["paper"]) for level in (1, 2, 3)]
    assert away == sorted(away)
    assert all(larger / smaller >= 1.3 for smaller, larger in pairwise(away))


@pytest.mark.parametrize("theme", THEMES)
def test_every_role_that_a_text_of_a_picture_takes_is_among_those_computed_here(theme):
    for name, span in SPANS.items():
        for kind in VM_KINDS:
            guest = Guest(name, kind)
            for action in ACTIONS:
                drawn = re.findall(r'<text [^>]*fill="([^"]*)"', picture(guest, span, action, theme))
                assert set(drawn) <= {theme[role] for role in TEXT_ROLES}


def picture(guest, span, action, theme) -> str:
    return boundary_svg(boundary_state(guest, *span, action), theme)


# ---- roles ---------------------------------------------------------------------------------------------


def test_both_themes_and_the_live_one_have_the_same_roles():
    assert list(LIGHT) == list(DARK) == list(LIVE)


@pytest.mark.parametrize("theme", THEMES)
def test_every_colour_is_written_rrggbb(theme):
    assert [colour for colour in theme.values() if not re.fullmatch("#[0-9a-f]{6}", colour)] == []


@pytest.mark.parametrize("theme", THEMES)
def test_every_kind_of_cell_has_a_fill(theme):
    assert [kind for kind in KINDS + SEPT_KINDS + TRACE_KINDS if kind not in theme] == []
    drawing = Drawing(10, 10, theme, "x")
    assert [drawing.fill(kind) for kind in UNHATCHED] == [theme[kind] for kind in UNHATCHED]


def test_the_kinds_listed_here_are_all_that_occur():
    met = set()
    for name, span in SPANS.items():
        for kind in VM_KINDS:
            guest = Guest(name, kind)
            for action in ACTIONS:
                state = boundary_state(guest, *span, action)
                strips = (state.guest, *(strip for lens in state.lenses for strip in lens.strips))
                met |= {cell.kind for strip in strips for cell in strip.cells}
    assert met == set(KINDS)


# ---- never by colour alone -----------------------------------------------------------------------------


def test_every_kind_but_plain_leaves_tables_and_holes_has_a_hatch_and_its_marks_a_colour():
    assert set(HATCHED) == set(KINDS + SEPT_KINDS + TRACE_KINDS) - set(UNHATCHED)
    assert [kind for kind in HATCHED if f"{kind}-mark" not in LIGHT] == []


def test_no_two_hatches_look_alike_without_colour():
    assert len({(marks, angle % 180) for marks, angle in HATCHED.values()}) == len(HATCHED)


@pytest.mark.parametrize("kind", HATCHED)
def test_the_marks_of_a_hatch_cover_some_of_its_cell_and_not_all(kind):
    """Each mark is a rectangle Mx y Hx Vy Hx Z in a cell of 6 by 6."""
    marks, _ = HATCHED[kind]
    rectangles = re.findall(r"M(\d) (\d) H(\d) V(\d) H(\d) Z", marks)
    assert " ".join(f"M{a} {b} H{c} V{d} H{e} Z" for a, b, c, d, e in rectangles) == marks
    covered = {
        (x, y)
        for left, top, right, bottom, back in rectangles
        for x in range(int(left), int(right))
        for y in range(int(top), int(bottom))
        if back == left
    }
    assert 0 < len(covered) < 36


@pytest.mark.parametrize("kind", HATCHED)
def test_a_hatched_kind_is_filled_by_its_own_pattern(kind):
    drawing = Drawing(10, 10, LIGHT, "x")
    assert drawing.fill(kind) == f"url(#x-{kind})"
    drawing.rect(0, 0, 5, 5, drawing.fill(kind))
    svg = drawing.svg("title", "description")
    assert svg.count("<pattern") == 1
    pattern = svg[svg.index("<pattern") : svg.index("</pattern>")]
    for needed in (f'id="x-{kind}"', f'fill="{LIGHT[kind]}"', f'fill="{LIGHT[f"{kind}-mark"]}"'):
        assert needed in pattern


@pytest.mark.parametrize("palette", THEMES)
@pytest.mark.parametrize(
    ("text", "ground"),
    [
        ("ink", "hole"),  # the stepper's pseudo-code
        ("ink", "leaf1"),  # and the line at which it is, and the newest of its log
        ("paper", "ink"),  # the number of the latest visit
    ],
)
def test_words_on_another_ground_than_paper_can_be_read(palette, text, ground):
    assert contrast(palette[text], palette[ground]) >= 4.5


@pytest.mark.parametrize("palette", THEMES)
@pytest.mark.parametrize("mark", ["ink", "muted", "crossing-mark", "split-mark", "bad", "range"])
def test_the_marks_of_the_rail_stand_out_from_the_paper(palette, mark):
    assert contrast(palette[mark], palette["paper"]) >= 3


# ---- what pictures have in common ----------------------------------------------------------------------


def test_a_legend_that_is_too_long_goes_on_below_with_room_between_its_lines():
    drawing = Drawing(1000, 100, LIGHT, "x")
    keys = [Key(lambda x, y: drawing.rect(x, y - 11, 16, 14, "none"), 16, "a name of some length")] * 8
    assert drawing.keys(30, keys) == 52
    names = re.findall(r'<text x="(\d+)" y="(\d+)"', drawing.svg("title", "description"))
    swatches = re.findall(r'<rect x="(\d+)" y="(\d+)" width="16"', drawing.svg("title", "description"))
    assert {y for _, y in names} == {"30", "52"}
    assert [(int(x) - 22, int(y) - 11) for x, y in names] == [(int(x), int(y)) for x, y in swatches]


def test_ids_follow_from_size_title_and_description_too():
    def ids(width=10, height=10, title="title", description="description"):
        return re.findall(r'<title id="([^"]*)"', Drawing(width, height, LIGHT).svg(title, description))[0]

    different = {ids(), ids(width=11), ids(height=11), ids(title="other"), ids(description="other")}
    assert len(different) == 5
    assert ids() == ids()


# ---- in a page -----------------------------------------------------------------------------------------


def test_a_colour_is_dark_in_one_way_only():
    """A still is told by its light colours what to be in the dark."""
    assert len(set(zip(LIGHT.values(), DARK.values(), strict=True))) == len(set(LIGHT.values()))


def test_a_still_keeps_what_it_is_made_of_and_colours_that_are_no_role_s():
    drawn = '<svg><rect fill="#123456" stroke="none"/></svg>'
    assert still(drawn) == still(f"{drawn}\n")
    assert still(drawn).replace("<style>@media (prefers-color-scheme:dark){}</style>", "") == drawn


def test_the_live_theme_names_a_variable_for_each_role_and_falls_back_to_light():
    for role, colour in LIGHT.items():
        assert LIVE[role] == f"var(--tdp-{role}, {colour})"


def test_the_live_style_sets_each_variable_to_the_dark_colour_in_dark_pages_only():
    (selectors, body), *_ = re.findall(r"([^{}]*)\{([^{}]*)\}", LIVE_STYLE.removeprefix("<style>"))
    assert dict(re.findall(r"--tdp-([a-z0-9-]+):(#[0-9a-f]{6});", body)) == dict(DARK)
    assert LIVE_STYLE.startswith("<style>")
    assert LIVE_STYLE.endswith("</style>")
    for selector in selectors.split(","):
        assert selector.strip().endswith(" .tdpkit"), "nothing but the kit's own pictures changes colour"
        assert "light" not in selector or '"false"' in selector
