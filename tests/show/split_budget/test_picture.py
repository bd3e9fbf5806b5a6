"""The split budget's markup: each page has its box, the cache is to scale, and the three twins agree."""

from __future__ import annotations

import re
from html import unescape
from random import Random
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

from tdpkit.lab.budget import DYNAMIC, KINDS, PLAIN, SPLITTING, TD
from tdpkit.lab.words import group_digits
from tdpkit.show.split_budget.picture import budget_svg, budget_table, budget_text
from tdpkit.show.split_budget.state import GUESTS, SIZES, BudgetState, budget_state
from tdpkit.show.split_budget.words import TITLE, answer, page_rows, sums
from tdpkit.show.theme import LIGHT
from tests.oracles.svgs import drawn, texts, tree


class Design(NamedTuple):
    """A design as the picture wants it."""

    name: str
    rule: str
    survives: bool
    states: int
    topups: tuple[int, int]
    witness: str
    why: str


DESIGNS = (
    Design(
        "the first design",
        "a sentence about the rule that this design keeps, of some length",
        False,
        1234,
        (1, 2),
        "A:top-up A:unlock B:lock B:split B:unlock A:lock A:split " * 4,
        "step 10: A topped the cache up; step 20: B took its pages; step 26: A needs them and has none",
    ),
    Design("the second", "another rule", True, 98765, (1, 1), "", ""),
)
"""Made up: what becomes of a design in the picture is tested here, not any design."""


def state(guest: str = "toy", size: str = "small", kind: str = PLAIN, split: str = "edges", **span: int):
    _, _, _, start, end, *_ = GUESTS[guest]
    return budget_state(guest, size, span.get("start", start), span.get("end", end), kind, split)


def _budgets() -> list[BudgetState]:
    random, found = Random(5), []
    for guest, (_, geometry, frames, start, end, *_) in GUESTS.items():
        for size in SIZES:
            for kind in KINDS:
                for split in SPLITTING:
                    pages = geometry.pages(random.choice((1, 2, 3)))
                    low, high = sorted(random.randrange(0, frames + 1, pages) for _ in range(2))
                    for span in ((start, end), (low, high), (low, min(low + 1, frames)), (0, frames)):
                        found.append(budget_state(guest, size, *span, kind, split))
                found.append(budget_state(guest, size, frames, frames, kind, "everything"))
                found.append(budget_state(guest, size, start, start, kind, "edges"))
    return found


BUDGETS = _budgets()


# ---- the guest -------------------------------------------------------------------------------------------


def rects(picture: str, fill: str) -> list[tuple[int, int, int, int]]:
    """(x, y, width, height) of the boxes filled with a kind of hatch."""
    return [
        tuple(int(rect.get(name)) for name in ("x", "y", "width", "height"))
        for rect in drawn(tree(picture), "rect")
        if re.fullmatch(rf"url\(#.*-{fill}\)", rect.get("fill"))
    ]


def test_the_leaves_that_cross_stand_where_they_are():
    """64 frames from 24 to 976: the leaves of four at 4 and at 56."""
    picture = budget_svg(state(), LIGHT)
    strip = [rect for rect in rects(picture, "crossing") if rect[1] == 116]
    assert strip == [(24 + 952 * 4 // 64, 116, 60, 24), (24 + 952 * 56 // 64, 116, 59, 24)]
    assert [rect for rect in rects(picture, "split") if rect[1] == 116] == []
    whole = budget_svg(state(split="everything"), LIGHT)
    assert [rect for rect in rects(whole, "split") if rect[1] == 116] == [
        (83, 116, 24 + 952 * 60 // 64 - 83, 24)
    ]
    assert rects(whole, "crossing") == []


def test_the_track_is_the_axis_of_the_strip_and_the_range_is_on_it():
    picture = budget_svg(state(), LIGHT)
    [track] = picture.tracks
    assert (track.name, track.knots) == ("range", ((0, 24), (64, 976)))
    low, high = 24 + 952 * 5 // 64, 24 + 952 * 58 // 64
    brackets = [path.get("d") for path in drawn(tree(picture), "path") if path.get("stroke-width") == "3"]
    assert brackets == [f"M{low} 151 V146 H{high} V151"]


def test_the_two_huge_leaves_have_their_names_on_x86():
    assert {"2M leaf at 4G", "2M leaf at 19G+1022M"} <= {*texts(tree(budget_svg(state("x86", "few"), LIGHT)))}


# ---- the boxes of pages ----------------------------------------------------------------------------------


def outlines(picture: str, dash: bool) -> list[tuple[int, int]]:
    """(x, y) of the pages' boxes: of those predicted, or (`dash`) of the others up to the bound."""
    found = []
    for path in drawn(tree(picture), "path"):
        is_dashed = path.get("stroke-dasharray") == "3 2"
        if is_dashed == dash and (is_dashed or path.get("stroke-width") == "2"):
            boxes = re.findall(r"M(\d+) (\d+) H(\d+) V(\d+) H\d+ Z", path.get("d"))
            found += [(int(x), int(y)) for x, y, right, _ in boxes if int(right) - int(x) == 13]
    return [place for place in found if 206 <= place[0] < 366 and place[1] < 500]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("span", [{}, {"start": 4}, {"start": 4, "end": 60}, {"start": 5, "end": 7}])
def test_each_page_is_a_box_predicted_used_or_within_the_bound(kind, span):
    shown = state(kind=kind, **span)
    picture = budget_svg(shown, LIGHT)
    rows = page_rows(shown)
    assert len(rows) == {PLAIN: 1, TD: 2, DYNAMIC: 4}[kind]
    for number, row in enumerate(rows):
        y = 326 + 8 + 36 * number + 13
        predicted = [x for x, top in outlines(picture, False) if top == y]
        spare = [x for x, top in outlines(picture, True) if top == y]
        filled = [x for x, top, *_ in rects(picture, "split") if top == y and x < 366]
        assert predicted + spare == [206 + 16 * n for n in range(row.bound)]
        assert len(predicted) == row.need
        assert filled == predicted


def test_without_a_run_no_box_is_filled():
    shown = state("x86", split="everything")
    assert shown.used is None
    picture = budget_svg(shown, LIGHT)
    assert [rect for rect in rects(picture, "split") if rect[0] == 206] == []
    assert "used: not run here" in texts(tree(picture))


def cache_bars(picture: str) -> list[tuple[int, int]]:
    """Width of each cache, and of what the split takes of it, from the top."""
    split = {(x, y): width for x, y, width, _ in rects(picture, "split")}
    held = [
        tuple(int(rect.get(name)) for name in ("x", "y", "width"))
        for rect in drawn(tree(picture), "rect")
        if rect.get("fill") == LIGHT["hole"] and rect.get("x") == "596"
    ]
    return [(width, split.get((x, y), 0)) for x, y, width in held]


def test_the_caches_are_to_one_scale_and_a_little_of_one_is_still_seen():
    """By hand: the largest is 234 wide. 8192 tables of 16 384 PAMT pages are half; of 8192 two are seen."""
    assert cache_bars(budget_svg(state("x86"), LIGHT)) == [(234, 2)]
    dynamic = budget_svg(state("x86", kind=DYNAMIC), LIGHT)
    assert cache_bars(dynamic) == [(117, 2), (117, 2), (234, 2), (234, 2)]
    assert cache_bars(budget_svg(state("x86", split="everything"), LIGHT)) == [(234, 234)]
    assert cache_bars(budget_svg(state(), LIGHT)) == [(234, 234 * 2 // 14)]
    assert cache_bars(budget_svg(state(start=64, end=64), LIGHT)) == []


# ---- words -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "says"),
    [
        (
            state("x86"),
            "The two edges take 2 pages; 2 would do for any range. A cache filled for the whole range would "
            "hold 8 192 pages (32 MiB), 8 190 of them idle: predictable is not the same as worth it.",
        ),
        (
            state("x86", "large", split="everything"),
            "Splitting the range to 4K takes 8 208 pages (32.1 MiB), which is the maximum: known before the "
            "call, and all of it is used.",
        ),
        (
            state("x86", "few", split="everything"),
            "Splitting the range to 4K takes 2 pages. A cache filled with the maximum would hold 8 192 pages "
            "(32 MiB), 8 190 of them idle.",
        ),
        (
            state(start=4),
            "One edge takes 1 page; 2 would do for any range. A cache filled for the whole range would hold "
            "14 pages, 13 of them idle: predictable is not the same as worth it.",
        ),
        (
            state(start=4, end=60),
            "No leaf crosses an edge: the split takes no page. A cache filled for the whole range would hold "
            "14 pages, all of them idle.",
        ),
        (
            state(start=5, end=7),
            "The two edges take 1 page; 2 would do for any range. A cache filled for the whole range would "
            "hold 1 page, all of it used.",
        ),
        (state(start=64, end=64), "No leaf crosses an edge: the split takes no page."),
        (
            state(start=64, end=64, split="everything"),
            "Splitting the range to 4K takes 0 pages: it has no frame.",
        ),
    ],
)
def test_the_answer_in_words(shown, says):
    assert answer(shown) == says


@pytest.mark.parametrize(
    ("shown", "lines"),
    [
        (state("x86"), ("no leaf is so large", "inside [4G, 4G+2M): 1", "inside [19G+1022M, 20G): 1")),
        (state(start=4, end=7), ("4 is a multiple: none", "inside [4, 8): 1")),
        (state(start=5, end=7), ("inside [4, 8): 1", "in the same block: once")),
        (state(size="few", start=9), ("[8, 12) has smaller leaves", "inside [56, 60): 1")),
        (
            state("x86", "large", split="everything"),
            ("⌊start / 1G⌋ = 4", "⌈end / 1G⌉ = 20: 16 blocks", "⌈end / 2M⌉ = 10 240: 8 192 blocks"),
        ),
        (
            state("x86", "few", split="everything"),
            ("⌊start / 2M⌋ = 2 048", "⌈end / 2M⌉ = 10 240: 8 192 blocks, 2 of them leaves"),
        ),
    ],
)
def test_the_arithmetic_in_words(shown, lines):
    assert {*lines} <= {*texts(tree(budget_svg(shown, LIGHT)))}


def test_what_else_there_is_to_know():
    dynamic = texts(tree(budget_svg(state(kind=DYNAMIC, size="large"), LIGHT)))
    for line in (
        "Each table also takes a header, a struct kvm_mmu_page, from a slab: 4 here.",
        "v3 makes sure of 4 PAMT pages before each split, since none can be allocated under mmu_lock; "
        "2 stay in its cache.",
        "This is a what-if: the series maps no leaf of this size in a TD.",
    ):
        assert line in dynamic
    plain = texts(tree(budget_svg(state(), LIGHT)))
    assert "The tables can be allocated in a drop of mmu_lock: nothing must be held ahead." in plain
    assert not [line for line in plain if "what-if" in line]


@pytest.mark.parametrize("number", range(0, len(BUDGETS), 5))
def test_picture_text_and_table_say_the_same(number):
    shown = BUDGETS[number]._replace(designs=DESIGNS)
    table = unescape(budget_table(shown))
    said, written = budget_text(shown), texts(tree(budget_svg(shown, LIGHT)))
    assert said.startswith(f"{TITLE}. {answer(shown)}\n")
    assert answer(shown) in table
    for row in page_rows(shown):
        cells = [group_digits(n) for n in (row.need, row.bound, row.whole, row.idle)]
        [line] = [line for line in said.splitlines() if line.startswith(f"{row.name}:")]
        [html] = [one for one in re.findall("<tr>.*?</tr>", table) if f">{row.name}<" in one]
        assert row.name in written
        for cell in cells:
            assert cell in written
            assert f">{cell}<" in html
        assert f"{cells[0]} predicted" in line
        assert f"bound {cells[1]}" in line
        assert line.endswith(f"{cells[2]} held for the whole range, {cells[3]} of these idle")
    for one in sums(shown):
        [line] = [line for line in said.splitlines() if line.startswith(f"tables from {one.size}: ")]
        assert line.startswith(f"tables from {one.size}: {one.tables}; {one.start}")
        for part in filter(None, (one.start, one.end, one.tables)):
            assert part in line
            assert part in table
            assert part in written
    for design in DESIGNS:
        assert design.name in written
        assert design.name in said
        assert design.name in table
        assert design.witness.strip() in said


def test_the_table_is_well_formed():
    table = ElementTree.fromstring(budget_table(state(kind=DYNAMIC)))
    assert {len(list(row)) for row in table.find("tbody")} == {7}


def test_designs_have_a_verdict_and_the_broken_one_its_witness():
    written = texts(tree(budget_svg(state()._replace(designs=DESIGNS), LIGHT)))
    for line in ("fails: 1 234 states", "1 to 2 top-ups", "survives: 98 765 states", "1 top-up"):
        assert line in written
    assert (written.count("✗"), written.count("✓")) == (1, 1)
    assert any(line.startswith("Step 10: A topped the cache up; step 20:") for line in written)
    assert sum(line.startswith("A:") or ":lock" in line for line in written) == 3, "the witness is wrapped"
    assert not [line for line in texts(tree(budget_svg(state(), LIGHT))) if "designs" in line]


def test_it_has_no_text_below_twelve_and_its_height_follows_the_kind_of_vm_alone():
    heights = {}
    for shown in BUDGETS:
        picture = budget_svg(shown, LIGHT)
        assert picture.smallest == 12
        key = (shown.kind, shown.budget.what_if)
        heights.setdefault(key, set()).add(int(tree(picture).get("viewBox").split()[3]))
    assert all(len(found) == 1 for found in heights.values())
