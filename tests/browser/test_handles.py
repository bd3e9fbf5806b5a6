"""The handles' own script (tdpkit/show/handles.js), in Chromium and without a kernel: the test is the kernel.

A picture of 1000 by 400 units is drawn 500 px wide. A track from 24 to 976 is 16 TiB of frames, or 32.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tdpkit.show.drawing import Spot, Track
from tdpkit.show.handles import slider, spot
from tests.browser.lab import ROOT

SHOW = ROOT / "tdpkit" / "show"
BIG = 1 << 32
"""Frames of 16 TiB."""
RESIDUE = (2 << 28) + 1, (14 << 28) + 1
"""[2T+4K, 14T+4K): the digits that a key must not drop."""

PAGE = """
<div class="tdpkit-live"><div class="tdpkit-stage">
<div id="el" style="width:500px"></div></div></div>
<script type="module">
  const source = %s;
  const module = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  const values = { state: %s, ask: {} };
  const heard = new Set();
  window.asks = [];
  window.model = {
    get: (name) => values[name],
    set: (name, value) => { values[name] = value; },
    save_changes: () => window.asks.push(values.ask),
    on: (_, handler) => heard.add(handler),
    off: (_, handler) => heard.delete(handler),
  };
  window.tell = (state) => { values.state = { ...values.state, ...state }; heard.forEach((one) => one()); };
  window.stop = module.default.render({ model: window.model, el: document.getElementById("el") });
  window.ready = true;
</script>
"""


def state(start: int, end: int, frames: int = 32, **more: Any) -> dict[str, Any]:
    """A range on a track, as tdpkit.show.exhibit.RangeControls says it."""
    track = Track("range", ((0, 24), (frames, 976)), 100, 124)
    reach = {"span": (0, frames), "start": (0, frames - 1), "end": (1, frames)}
    steps = (
        {"snap": 1, "step": 1, "page": 8}
        if frames == 32
        else {"snap": 1 << 18, "step": 1 << 18, "page": 1 << 27}
    )
    sliders = [slider(track, 0, kind, kind, f"{start}-{end}", *reach[kind], **steps) for kind in reach]
    return {
        "view": [0, 0, 1000, 400],
        "sliders": sliders,
        "spots": [],
        "values": {"start": str(start), "end": str(end)},
        "least": 1,
        "answered": 0,
        **more,
    }


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[[dict[str, Any]], Page]]:
    """Opens a page with handles in this state."""
    pages = []

    def open_with(state: dict[str, Any]) -> Page:
        page = browser.new_page(viewport={"width": 800, "height": 400})
        pages.append(page)
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.set_content(
            f"<style>{(SHOW / 'handles.css').read_text()}</style>"
            + PAGE % (json.dumps((SHOW / "handles.js").read_text()), json.dumps(state))
        )
        page.wait_for_function("window.ready")
        return page

    yield open_with
    for page in pages:
        assert page.errors == []
        page.close()


def handle(page: Page, name: str) -> Locator:
    return page.get_by_role("slider", name=name, exact=True)


def wishes(page: Page) -> list[dict[str, Any]]:
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.evaluate("asks")


def last_set(page: Page) -> tuple[int, int]:
    asked = wishes(page)[-1]["set"]
    return int(asked["start"]), int(asked["end"])


def line_at(page: Page, name: str) -> int:
    """Where an edge's line is drawn, in units."""
    return int(handle(page, name).locator(".line").get_attribute("d").split()[0][1:])


def at(page: Page, x: int, y: int = 112) -> tuple[float, float]:
    """A place of the picture on the page."""
    box = page.locator("svg.touch").bounding_box()
    return box["x"] + x / 2, box["y"] + y / 2


def drag(page: Page, from_x: int, to_x: int, y: int = 112) -> None:
    page.mouse.move(*at(page, from_x, y))
    page.mouse.down()
    page.mouse.move(*at(page, (from_x + to_x) // 2, y))
    page.mouse.move(*at(page, to_x, y))


# ---- keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "start", "end"),
    [
        ("ArrowRight", RESIDUE[0] + (1 << 18), RESIDUE[1]),
        ("ArrowLeft", RESIDUE[0] - (1 << 18), RESIDUE[1]),
        ("ArrowUp", RESIDUE[0] + (1 << 18), RESIDUE[1]),
        ("ArrowDown", RESIDUE[0] - (1 << 18), RESIDUE[1]),
        ("Shift+ArrowRight", RESIDUE[0] + (1 << 27), RESIDUE[1]),
        ("PageUp", RESIDUE[0] + (1 << 27), RESIDUE[1]),
        ("PageDown", RESIDUE[0] - (1 << 27), RESIDUE[1]),
        ("Home", 0, RESIDUE[1]),
        ("End", BIG - 1, BIG),
    ],
)
def test_keys_move_an_edge_by_its_unit_and_keep_the_digits_below(opened, key, start, end):
    page = opened(state(*RESIDUE, frames=BIG))
    handle(page, "start").press(key)
    assert last_set(page) == (start, end)


def test_keys_move_the_whole_range_and_it_keeps_its_length(opened):
    page = opened(state(5, 12))
    handle(page, "span").press("ArrowRight")
    assert last_set(page) == (6, 13)
    handle(page, "span").press("End")
    assert last_set(page) == (25, 32)
    handle(page, "span").press("PageDown")
    assert last_set(page) == (17, 24)


def test_edges_push_each_other_and_never_pass(opened):
    page = opened(state(5, 7))
    for _ in range(3):
        handle(page, "start").press("ArrowRight")
    assert last_set(page) == (8, 9)
    handle(page, "end").press("Home")
    assert last_set(page) == (0, 1)


def test_where_a_range_may_be_empty_edges_meet(opened):
    page = opened(state(5, 6, least=0))
    handle(page, "start").press("ArrowRight")
    assert last_set(page) == (6, 6)


def test_other_keys_and_chords_are_not_taken(opened):
    page = opened(state(5, 12))
    for key in ("a", "Enter", "Control+ArrowRight", "Alt+ArrowLeft", "Tab"):
        handle(page, "start").press(key)
    assert wishes(page) == []


def test_no_key_is_lost_when_an_answer_comes_between_a_key_and_its_message(opened):
    """An answer to an earlier wish does not bring back what was before the key."""
    page = opened(state(5, 12))
    page.evaluate(
        """() => {
            const start = document.querySelectorAll('[role=slider]')[1];
            const press = () =>
                start.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}));
            press();
            tell({answered: 0, values: {start: '5', end: '12'}});
            press();
        }"""
    )
    assert last_set(page) == (7, 12)


def test_numbers_beyond_what_a_float_holds_are_exact(opened):
    """A frame number of 2^60 + 1 moves by one; a float has steps of 256 there."""
    far = 1 << 60
    track = Track("range", ((0, 24), (2 * far, 976)), 100, 124)
    only = slider(track, 0, "start", "start", "", 0, 2 * far - 1, snap=1, step=1, page=1)
    page = opened(state(far + 1, far + 100, sliders=[only]))
    handle(page, "start").press("ArrowRight")
    assert last_set(page) == (far + 2, far + 100)


# ---- the pointer -----------------------------------------------------------------------------------------


def test_an_edge_is_dragged_frame_by_frame_and_drawn_at_once(opened):
    """A frame of 32 is 29.75 units wide; frame 5 begins at 172, frame 9 at 291."""
    page = opened(state(5, 12))
    assert line_at(page, "start") == 172
    drag(page, 165, 165 + 119)
    assert last_set(page) == (9, 12)
    assert line_at(page, "start") == 24 + 952 * 9 // 32, "before any answer"
    page.mouse.up()
    assert line_at(page, "start") == 24 + 952 * 9 // 32
    page.evaluate("tell({answered: 99})")
    assert line_at(page, "start") == 172, "the last answer decides"


def test_dragged_past_the_end_the_start_takes_it_along(opened):
    page = opened(state(5, 12))
    drag(page, 165, 165 + 357)
    assert last_set(page) == (17, 18)
    page.mouse.up()


def test_a_drag_in_16_tib_moves_by_what_can_be_told_apart_and_keeps_the_digits_below(opened):
    page = opened(state(*RESIDUE, frames=BIG))
    drag(page, 138, 300)
    start, end = last_set(page)
    assert start % (1 << 18) == 1
    assert end == RESIDUE[1]
    assert abs(start - (300 - 138 + 143 - 24) * BIG // 952) < BIG // 400
    page.mouse.up()


def test_at_the_end_of_its_track_an_edge_reaches_the_end_itself(opened):
    page = opened(state(*RESIDUE, frames=BIG))
    drag(page, 138, 0)
    assert last_set(page) == (0, RESIDUE[1])
    page.mouse.up()


def test_between_its_edges_the_whole_range_is_dragged(opened):
    page = opened(state(5, 12))
    drag(page, 280, 280 + 60)
    assert last_set(page) == (7, 14)
    page.mouse.up()


def test_escape_brings_back_what_was_before_the_drag(opened):
    page = opened(state(5, 12))
    drag(page, 165, 300)
    page.keyboard.press("Escape")
    assert last_set(page) == (5, 12)
    page.mouse.move(*at(page, 500))
    assert last_set(page) == (5, 12)
    page.mouse.up()


def test_what_python_says_meanwhile_does_not_pull_the_handle_from_the_hand(opened):
    page = opened(state(5, 12))
    drag(page, 165, 284)
    page.evaluate("tell({answered: 1, values: {start: '6', end: '12'}})")
    assert line_at(page, "start") == 24 + 952 * 9 // 32
    page.mouse.up()


def test_a_finger_drags_too(opened):
    page = opened(state(5, 12))
    touched = page.context.new_cdp_session(page)
    for kind, x in (("touchStart", 165), ("touchMove", 200), ("touchMove", 284), ("touchEnd", None)):
        points = [] if x is None else [dict(zip("xy", at(page, x), strict=True))]
        touched.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        wishes(page)  # a frame later: a browser hands on one move a frame
    assert last_set(page) == (9, 12)


def test_a_frame_of_a_drag_takes_less_than_16_ms(opened):
    """From a move to the moved handle, the work of the script: measured in the page, sixty moves."""
    page = opened(state(5, 12))
    drag(page, 165, 200)
    took = page.evaluate(
        """async () => {
            const node = document.querySelector('.edge');
            const took = [];
            for (let at = 0; at < 60; at += 1) {
                const x = 120 + 4 * at;
                const move = new PointerEvent('pointermove', {clientX: x, clientY: 60, bubbles: true});
                const before = performance.now();
                node.dispatchEvent(move);
                took.push(performance.now() - before);
                await new Promise(requestAnimationFrame);
            }
            return took.sort((one, other) => one - other);
        }"""
    )
    assert took[57] < 16
    page.mouse.up()


# ---- what is read ----------------------------------------------------------------------------------------


def test_each_handle_is_a_slider_with_a_name_and_its_value_in_words(opened):
    page = opened(state(5, 12))
    sliders = page.get_by_role("slider")
    assert sliders.evaluate_all("all => all.map(one => one.getAttribute('aria-label'))") == [
        "span",
        "start",
        "end",
    ]
    for name, low, now, high in (("start", "0", "5", "31"), ("end", "1", "12", "32")):
        one = handle(page, name)
        assert [one.get_attribute(f"aria-value{what}") for what in ("min", "now", "max")] == [low, now, high]
        assert one.get_attribute("aria-valuetext") == "5-12"
        assert one.get_attribute("tabindex") == "0"


def test_the_focus_is_seen_and_stays_while_the_state_changes(opened):
    page = opened(state(5, 12))
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(handle(page, "start")).to_be_focused()
    ring = handle(page, "start").locator(".ring")
    width, colour = ring.evaluate(
        "ring => [getComputedStyle(ring).strokeWidth, getComputedStyle(ring).stroke]"
    )
    assert float(width.removesuffix("px")) >= 2
    assert colour != "none"
    page.evaluate("tell({values: {start: '7', end: '12'}})")
    expect(handle(page, "start")).to_be_focused()


def test_a_track_that_has_a_keyed_twin_is_for_the_pointer_alone(opened):
    track = Track("start", ((0, 24), (32, 976)), 200, 224, keyed=False)
    minor = slider(track, 1, "start", "start", "", 0, 31)
    both = state(5, 12)
    page = opened({**both, "sliders": [*both["sliders"], minor]})
    expect(page.get_by_role("slider")).to_have_count(3)
    drag(page, 165, 284, y=212)
    assert last_set(page) == (9, 12)
    page.mouse.up()


# ---- spots -----------------------------------------------------------------------------------------------

SPOTS = [
    Spot("row:one", "the first row", 24, 200, 976, 240, True),
    Spot("row:two", "the second row", 24, 240, 976, 280, False),
    Spot("act:go", "go on", 24, 300, 124, 340),
]


@pytest.fixture
def spotted(opened):
    return opened(state(5, 12, spots=[spot(one) for one in SPOTS]))


def test_a_spot_is_pressed_by_click_enter_and_space(spotted):
    two = spotted.get_by_role("button", name="the second row")
    two.click()
    two.press("Enter")
    two.press(" ")
    assert wishes(spotted) == [{"n": n, "press": "row:two"} for n in (1, 2, 3)]


def test_a_spot_says_whether_it_is_chosen_and_one_that_only_acts_does_not(spotted):
    pressed = spotted.get_by_role("button").evaluate_all(
        "all => all.map(one => one.getAttribute('aria-pressed'))"
    )
    assert pressed == ["true", "false", None]


def test_the_spots_of_a_group_are_one_stop_of_tab_and_arrows_go_on(spotted):
    spotted.keyboard.press("Tab")
    expect(spotted.get_by_role("button", name="the first row")).to_be_focused()
    spotted.keyboard.press("ArrowDown")
    expect(spotted.get_by_role("button", name="the second row")).to_be_focused()
    spotted.keyboard.press("ArrowDown")
    expect(spotted.get_by_role("button", name="the second row")).to_be_focused()
    assert wishes(spotted) == []
    spotted.keyboard.press("Tab")
    expect(spotted.get_by_role("button", name="go on")).to_be_focused()
    spotted.keyboard.press("Shift+Tab")
    expect(spotted.get_by_role("button", name="the second row")).to_be_focused()


def test_a_spot_that_goes_and_comes_is_another_one(spotted):
    spotted.evaluate("tell({spots: []})")
    expect(spotted.get_by_role("button")).to_have_count(0)
    spotted.evaluate("spots => tell({spots})", [spot(SPOTS[2])])
    spotted.get_by_role("button", name="go on").click()
    assert wishes(spotted) == [{"n": 1, "press": "act:go"}]


def test_on_a_narrow_page_the_step_that_was_gone_to_comes_into_sight(opened):
    """The picture is 500 px wide and the page shows 200 of them; what is in sight is not moved."""
    track = Track("step", ((0, 24), (32, 976)), 100, 124)
    step = slider(track, 0, "cursor", "step", "0", 0, 32, snap=1, step=1, page=8, of="step")
    page = opened(state(0, 32, sliders=[step], values={"step": "0"}))
    page.add_style_tag(content=".tdpkit-stage { width: 200px; overflow: auto }")
    scrolled = []
    for at in (32, 31, 16, 0):
        page.evaluate("step => tell({ values: { step } })", str(at))
        scrolled.append(page.eval_on_selector(".tdpkit-stage", "stage => stage.scrollLeft"))
    last, before, middle, first = scrolled
    assert last == 300, "all the way to the right"
    assert before == last
    assert middle < 250 < middle + 200, "the middle of 500"
    assert first == 0


def test_taken_from_the_page_it_listens_no_more(opened):
    page = opened(state(5, 12))
    page.evaluate("stop()")
    page.evaluate("tell({values: {start: '9', end: '12'}})")
    assert line_at(page, "start") == 172
