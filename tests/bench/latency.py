"""From a key on a slider to the changed page, in JupyterLab under Chromium.

Everything is timed inside the page: from just before the key event is dispatched to the mutation that brings
the next picture. The explorer's figures and those of the same strips by `interact` and an inline imshow come
from one notebook in one run, so their ratio means something on a busy machine too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from playwright.sync_api import Locator, expect

from tdpkit.engine.gfn import format_gfn
from tdpkit.show.boundary.live import PRESETS
from tests.browser.lab import PATIENCE, Notebook, chromium, open_notebook, serving

from .figures import Figure, percentile

PRESSES = 120
WARM_UP = 8
BURSTS = 5
EVENTS = 60
GUESTS = {"mixed": "mixed guest", "16T": "16 TiB guest"}
BUTTONS = {"look": "look", "split+zap": "split, then zap"}

# The mixed guest's four lowest strips as an image, redrawn as the ipywidgets documentation would have it.
IMSHOW = """
import matplotlib.pyplot as plt
import numpy as np
from ipywidgets import IntSlider, interact
from tdpkit.lab.guest import Guest
from tdpkit.show.boundary.state import boundary_state
from tdpkit.show.boundary.words import boundary_words

guest = Guest("mixed", "plain")
kinds = ["leaf3", "leaf2", "leaf1", "table", "hole", "crossing", "split", "zapped", "lost", "refaulted"]

@interact(start=IntSlider(1539, 0, guest.frames, description="start"))
def strips(start):
    state = boundary_state(guest, start, (3 << 18) + 513 * 256, "look")
    image = np.zeros((4, 512))
    for row, strip in enumerate(strip for lens in state.lenses for strip in lens.strips[-2:]):
        entry = (strip.last - strip.first) // 512
        for first, last, kind, _ in strip.cells:
            low, high = (first - strip.first) // entry, -(-(last - strip.first) // entry)
            image[row, low:high] = kinds.index(kind)
    _, axes = plt.subplots(figsize=(10, 3))
    axes.imshow(image, aspect="auto", interpolation="nearest", vmin=0, vmax=len(kinds))
    axes.set_title(f"{boundary_words(state).title}: {len(state.outcome.crossing)} crossing")
    plt.show()
"""

# Calls long enough for the presses: a toy with all its leaves split, and a thousand steps seen by the lens.
STEPPERS = {
    "toy of 64 frames": 'WalkStepper("large", start=0, end=64, only_cross_boundary=False, step=70)',
    "mixed guest": 'WalkStepper("mixed", step=600)',
}

# A story of some hundred steps; where the start moves, another story is recorded at each key.
LIVES = {"toy of 32 frames": "step=16", "four leaves of 2M": 'machine="x86", step=16'}

RACES = {"16T-2M": "16 TiB guest", "16T-1G": "16 TiB of 1G leaves", "mixed": "mixed guest"}

# Presses `key` again and again, each time when the page and the kernel have come to rest.
PRESS = """
async (exhibit, {key, count, picture, container, slider}) => {
    const handle = exhibit.querySelectorAll('[role=slider]')[slider];
    const watched = exhibit.querySelector(picture).closest(container);
    const shown = () => { const e = watched.querySelector(picture); return e && (e.src || e.textContent); };
    const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const frame = () => new Promise(requestAnimationFrame);
    const times = [];
    for (let press = 0; press < count; press++) {
        do { await frame(); await frame(); } while (kernel.status !== 'idle');
        const before = shown();
        times.push(await new Promise((resolve, reject) => {
            const observer = new MutationObserver(() => {
                const now = performance.now(), after = shown();
                if (after && after !== before) { observer.disconnect(); resolve(now - begin); }
            });
            observer.observe(watched, {childList: true, subtree: true, attributes: true});
            setTimeout(() => reject(`press ${press}: no other picture than ${before.slice(0, 80)}`), 10000);
            const begin = performance.now();
            handle.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
        }));
    }
    return times;
}"""

# `count` presses evenly in one second, whether the page keeps up or not; then a second without a change.
BURST = """
async (exhibit, {key, count, picture, container, slider}) => {
    const handle = exhibit.querySelectorAll('[role=slider]')[slider];
    const watched = exhibit.querySelector(picture).closest(container);
    const shown = () => watched.querySelector(picture)?.textContent;
    let changed = 0, pictures = 0, text = shown();
    const observer = new MutationObserver(() => {
        if (shown() && shown() !== text) { changed = performance.now(); text = shown(); pictures++; }
    });
    observer.observe(watched, {childList: true, subtree: true});
    const until = time => new Promise(r => setTimeout(r, Math.max(0, time - performance.now())));
    const begin = performance.now();
    let last = begin;
    for (let press = 0; press < count; press++) {
        await until(begin + press * 1000 / count);
        last = performance.now();
        handle.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
    }
    do { await until(performance.now() + 50); } while (performance.now() - Math.max(changed, last) < 1000);
    observer.disconnect();
    return {lag: changed - last, spent: last - begin, pictures, shown: shown()};
}"""

EXPLORER = {"picture": "svg > title", "container": ".widget-html-content", "slider": 0}
RACE = EXPLORER
STEPPER = {"picture": "svg > desc", "container": ".widget-html-content", "slider": 2}
DECODER = {"picture": "svg", "container": ".widget-html-content", "slider": 0}
INTERACT = {"picture": "img", "container": ".widget-interact", "slider": 0}


@dataclass(frozen=True)
class Burst:
    """One second of presses: how long after the last the last picture came, and which it was."""

    lag: float
    spent: float
    pictures: int
    shown: str


def latency_figures() -> Iterator[Figure]:
    """All of this module's, in the order of the table. Raises Unfit where no browser is installed."""
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(_notebook(), Path(folder, "bench.ipynb"))
        with (
            chromium() as browser,
            serving(Path(folder)) as server,
            open_notebook(browser, server, "bench.ipynb") as notebook,
        ):
            notebook.run_all()
            if errors := notebook.outputs("error"):
                raise RuntimeError(f"the bench's notebook failed: {errors[0]['evalue']}")
            yield from _figures(notebook)


def _notebook() -> nbformat.NotebookNode:
    explorers = [
        f"from tdpkit.show.boundary.live import BoundaryExplorer\nBoundaryExplorer({preset!r})"
        for preset in GUESTS
    ]
    steppers = [f"from tdpkit.show.walk.live import WalkStepper\n{stepper}" for stepper in STEPPERS.values()]
    races = [f"from tdpkit.show.race.live import StrategyRace\nStrategyRace({guest!r})" for guest in RACES]
    lives = [
        f"from tdpkit.show.page_life.live import PageLifeStepper\nPageLifeStepper({opening})"
        for opening in LIVES.values()
    ]
    decoder = 'from tdpkit.show.entry.live import EntryDecoder\nEntryDecoder("2M")'
    sources = (*explorers, *steppers, *races, *lives, decoder, IMSHOW)
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in sources]
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=kernel)


def _figures(notebook: Notebook) -> Iterator[Figure]:
    exhibits = notebook.page.locator(".jp-OutputArea-output:has([role=slider])")
    expect(exhibits).to_have_count(
        len(GUESTS) + len(STEPPERS) + len(RACES) + len(LIVES) + 2, timeout=PATIENCE
    )
    *others, decoder, interact = exhibits.all()
    explorers, others = others[: len(GUESTS)], others[len(GUESTS) :]
    steppers, others = others[: len(STEPPERS)], others[len(STEPPERS) :]
    races, lives = others[: len(RACES)], others[len(RACES) :]
    for exhibit in (*explorers, *races):
        # Edges inside the smallest leaves: most to draw.
        exhibit.get_by_label("slider unit").select_option("4K")
    svg = 0.0
    for (preset, guest), exhibit in zip(GUESTS.items(), explorers, strict=True):
        for action, button in BUTTONS.items():
            _act(exhibit, action, button)
            times = _presses(exhibit, **EXPLORER)
            if (preset, action) == ("mixed", "look"):
                svg = percentile(times, 50)
            name = f"slider key to picture, {guest}, {action}"
            yield from _key_figures(name, times)
    for name, exhibit in zip(STEPPERS, steppers, strict=True):
        yield from _key_figures(f"step key to picture, {name}", _presses(exhibit, **STEPPER))
    for name, exhibit in zip(RACES.values(), races, strict=True):
        yield from _key_figures(f"slider key to picture, strategy race, {name}", _presses(exhibit, **RACE))
    for name, exhibit in zip(LIVES, lives, strict=True):
        yield from _key_figures(f"step key to picture, conversion, {name}", _presses(exhibit, **STEPPER))
    yield from _key_figures(f"start key to picture, conversion, {name}", _presses(exhibit, **RACE))
    yield from _key_figures("child key to picture, entry decoder", _presses(decoder, **DECODER))
    expect(interact.locator("img")).to_be_visible()
    times = _presses(interact, **INTERACT)
    yield Figure("the same strips by interact and imshow, p50", percentile(times, 50), "ms")
    yield Figure("the same strips by interact and imshow, p95", percentile(times, 95), "ms")
    yield Figure("mixed guest, look, p50 / interact's p50", svg / percentile(times, 50), "×", limit=0.2)
    for (preset, guest), exhibit in zip(GUESTS.items(), explorers, strict=True):
        for action, button in BUTTONS.items():
            _act(exhibit, action, button)
            yield _burst_figure(exhibit, preset, guest, action)


def _key_figures(name: str, times: list[float]) -> Iterator[Figure]:
    yield Figure(f"{name}, p50", percentile(times, 50), "ms")
    yield Figure(f"{name}, p95", percentile(times, 95), "ms", limit=50)


def _act(exhibit: Locator, action: str, button: str) -> None:
    exhibit.scroll_into_view_if_needed()
    exhibit.get_by_role("button", name=button, exact=True).click()
    word = {"look": "Look", "split+zap": "Split, then"}[action]
    expect(exhibit.locator("svg > title")).to_contain_text(word, timeout=PATIENCE)


def _presses(exhibit: Locator, **where: str | int) -> list[float]:
    """Milliseconds of each press, half of them up and half down."""
    exhibit.scroll_into_view_if_needed()
    times: list[float] = []
    exhibit.evaluate(PRESS, {"key": "ArrowRight", "count": WARM_UP, **where})
    for key in ("ArrowRight", "ArrowLeft"):
        times += exhibit.evaluate(PRESS, {"key": key, "count": PRESSES // 2, **where})
    return times


def _burst_figure(exhibit: Locator, preset: str, guest: str, action: str) -> Figure:
    """The worst of some bursts; each must end with the picture of the last press."""
    lags, fault, note = [], "", ""
    for _ in range(BURSTS):
        start = int(float(exhibit.get_by_role("slider").first.get_attribute("aria-valuenow") or 0))
        burst = Burst(**exhibit.evaluate(BURST, {"key": "ArrowRight", "count": EVENTS, **EXPLORER}))
        lags.append(burst.lag)
        expected = f"[{format_gfn(start + EVENTS)}, {PRESETS[preset].end})"
        if expected not in burst.shown:
            fault = f"{burst.shown!r}, not {expected}"
        if burst.spent > 1200:
            note = f"the busy page took {burst.spent / 1000:.1f} s to press {EVENTS} times"
    name = f"{EVENTS} presses in 1 s, {guest}, {action}: last picture after"
    return Figure(name, max(lags), "ms", 150, fault, note)
