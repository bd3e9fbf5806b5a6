"""From using a control to the changed picture, in JupyterLab under Chromium: every control of every exhibit.

Everything is timed inside the page: from just before the key, the click or the choice is dispatched to the
mutation that brings the next picture. The controls are those that the page has; nothing here names one. The
figures of the explorer's strips by `interact` and an inline imshow come from the same notebook in the same
run, so a ratio to them means something on a busy machine too.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from playwright.sync_api import ElementHandle

from tdpkit.engine.gfn import parse_gfn
from tests.browser.lab import Notebook, chromium, open_notebook, serving

from .figures import Figure, percentile

SHARE = 1 / 5
"""Of interact's p95: the most that the p95 of a control may take."""
RUNS = "run "
"""Begins the name of a control that runs an experiment, which takes its own time."""
PRESSES = 8
"""Uses of each control; a slider's key is pressed so often in both directions."""
LEAST_TIMES, MOST_RUNS = 4, 3
"""A button that leads to its own end is pressed in so many fresh exhibits, for so many times at least."""
BURSTS, EVENTS = 5, 60

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

# Edges inside the smallest leaves, where there is most to draw; steppers on calls and stories that are long.
EXHIBITS = {
    "boundary explorer, 16 TiB": ('boundary.BoundaryExplorer("16T")', "unit_level=1"),
    "boundary explorer, mixed guest": ('boundary.BoundaryExplorer("mixed")', "unit_level=1"),
    "claim ledger": ("claim_ledger.ClaimLedger()", ""),
    "conversion, toy": ("page_life.PageLifeStepper()", "step=16"),
    "conversion, x86": ('page_life.PageLifeStepper(machine="x86")', "step=16"),
    "entry decoder": ('entry.EntryDecoder("2M")', ""),
    "lost -12": ("lost_errno.LostErrno()", ""),
    "schedule player, a flag and two ranges": (
        'schedule_player.SchedulePlayer("shared, dirty flag cleared last")',
        "",
    ),
    "schedule player, two splits": ("schedule_player.SchedulePlayer()", ""),
    "split budget, a TD of 1G": ('split_budget.SplitBudget("x86", size="large", kind="TD")', "unit_level=1"),
    "strategy race, 16 TiB of 1G": ('race.StrategyRace("16T-1G")', "unit_level=1"),
    "strategy race, 16 TiB of 2M": ('race.StrategyRace("16T-2M")', "unit_level=1"),
    "strategy race, mixed guest": ('race.StrategyRace("mixed")', "unit_level=1"),
    "trace, a guest that loses pages": ("trace.TraceViewer()", "start=0x84D, end=0x86E"),
    "two trees": ("two_roots.TwoTrees()", ""),
    "walk, mixed guest": ('walk.WalkStepper("mixed")', "step=600"),
    "walk, toy of 64 frames": ('walk.WalkStepper("large")', "start=0, end=64, only_cross_boundary=False"),
}
"""How each is made, and what is changed before it is shown."""
BURST_IN = ("boundary explorer, 16 TiB", "boundary explorer, mixed guest")
INTERACT = "interact"

# Runs the cell of this number anew; returns its output when there is a picture in it, and all is at rest.
RUN = """
async cell => {
    const panel = jupyterapp.shell.currentWidget, kernel = panel.sessionContext.session.kernel;
    const frame = () => new Promise(requestAnimationFrame);
    panel.content.activeCellIndex = cell;
    await jupyterapp.commands.execute('notebook:run-cell');
    const {node} = panel.content.widgets[cell];
    const output = () => node.querySelector('.jp-OutputArea-output:has(svg, img)');
    do { await frame(); await frame(); } while (kernel.status !== 'idle' || !output());
    output().scrollIntoView({block: 'start'});
    await frame();
    return output();
}"""

# What can be used in an exhibit, in the order of the page: buttons and dots side by side are one choice.
CONTROLS = r"""
const controlsOf = exhibit => {
    const found = new Map();
    for (const e of exhibit.querySelectorAll('[role=slider], select, input, button, [role=button]')) {
        if (!e.checkVisibility()) continue;
        const spots = e.matches('.spot') ? `${e.dataset.name.split(':')[0]} on the picture` : null;
        const group = spots ?? e.closest('.widget-toggle-buttons, .widget-radio, [role=radiogroup]');
        const kind = group ? 'choice' : e.getAttribute('role') === 'slider' ? 'slider' : e.type || 'button';
        const key = group ?? e;
        if (!found.has(key)) found.set(key, {kind, members: [], name: spots ?? nameOf(key)});
        found.get(key).members.push(e);
    }
    return [...found.values()];
};
const nameOf = e => {
    const by = e.getAttribute('aria-labelledby')?.split(' ')[0];
    const names = [
        e.getAttribute('aria-label'), by && document.getElementById(by)?.textContent,
        e.matches('button, [role=button]') && e.innerText, e.closest('label')?.innerText,
        e.closest('.widget-inline-hbox')?.querySelector('.widget-label')?.textContent,
        e.title, e.placeholder,
        [...e.querySelectorAll('button, label')].map(e => e.innerText).filter(text => text).join('/'),
    ];
    const said = names.map(name => (name || '').replaceAll('\u200b', '').trim());
    return (said.find(name => name) ?? e.tagName.toLowerCase()).split(':')[0].slice(0, 40);
};
"""

# Uses one control again and again, each time when the page and the kernel have come to rest. A time is null
# where no other picture came: what was asked for is refused, or there already.
USE = (
    "async (exhibit, {number, presses}) => {"
    + CONTROLS
    + """
    const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const frame = () => new Promise(requestAnimationFrame);
    const rest = async () => { do { await frame(); await frame(); } while (kernel.status !== 'idle'); };
    const control = () => controlsOf(exhibit)[number];
    const kinds = 'svg, img, table';
    const isPicture = e => e instanceof Element && (e.matches(kinds) || e.querySelector(kinds));
    const drawn = ({addedNodes, attributeName}) => attributeName || [...addedNodes].some(isPicture);
    const timed = async use => {
        await rest();
        return new Promise((resolve, reject) => {
            const end = time => { observer.disconnect(); clearInterval(watch); resolve(time); };
            const observer = new MutationObserver(mutations => {
                const now = performance.now();
                if (mutations.some(drawn)) end(now - begin);
            });
            observer.observe(exhibit, {childList: true, subtree: true, attributeFilter: ['src']});
            const watch = setInterval(() => {
                const waited = performance.now() - begin;
                if (waited > 400 && kernel.status === 'idle') end(null);
                if (waited > 20000) reject(`control ${number}: the kernel does not come to rest`);
            }, 50);
            const begin = performance.now();
            use();
        });
    };
    const says = (e, ...types) => types.forEach(type => e.dispatchEvent(new Event(type, {bubbles: true})));
    const press = key => control().members[0].dispatchEvent(
        new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
    const type = text => { const [e] = control().members; e.value = text; says(e, 'input', 'change'); };
    const times = [], {kind, members: [first]} = control();
    let idle = 0;
    const use = async act => {
        if (idle >= 3 || control().members.every(e => e.disabled)) return null;
        const time = await timed(act);
        idle = time === null ? idle + 1 : 0;
        times.push(time);
        return time;
    };
    if (kind === 'slider') {
        const along = [...Array(presses).fill('ArrowRight'), ...Array(presses).fill('ArrowLeft')];
        const keys = [...along, 'PageUp', 'PageDown', 'End', 'Home'];
        for (const key of keys) await use(() => press(key));
    } else if (kind === 'select-one') {
        for (let n = 0; n < Math.max(presses, first.options.length); n++) await use(() => {
            const [e] = control().members;
            e.selectedIndex = (e.selectedIndex + 1) % e.options.length;
            says(e, 'change');
        });
    } else if (kind === 'text') {
        const was = first.value, more = by => was.replace(/[0-9](?=[^0-9]*$)/, digit => (+digit + by) % 10);
        let found = null;
        for (const text of [more(1), more(4), `${was}+4K`, first.placeholder.split(' ')[0]]) {
            if (found === null && text !== was && (await use(() => type(text))) !== null) found = text;
        }
        for (let n = 0; n < presses && found !== null; n++) await use(() => type(n % 2 ? found : was));
    } else if (kind === 'number') {
        const step = n => +control().members[0].value + (n % 4 < 2 ? 1 : -1);
        for (let n = 0; n < presses; n++) await use(() => type(`${step(n)}`));
    } else {  // a click
        for (let n = 0; n < presses; n++) await use(() => {
            const {members} = control();
            members[n % members.length].dispatchEvent(new MouseEvent('click', {bubbles: true}));
        });
    }
    return times;
}"""
)

# `count` presses evenly in one second, whether the page keeps up or not; then a second without a change.
BURST = """
async (exhibit, {key, count}) => {
    const handle = () => exhibit.querySelector('[role=slider]');
    const shown = () => exhibit.querySelector('svg > title')?.textContent;
    let changed = 0, text = shown();
    const observer = new MutationObserver(() => {
        if (shown() && shown() !== text) { changed = performance.now(); text = shown(); }
    });
    observer.observe(exhibit, {childList: true, subtree: true});
    const until = time => new Promise(r => setTimeout(r, Math.max(0, time - performance.now())));
    const begin = performance.now();
    let last = begin;
    for (let press = 0; press < count; press++) {
        await until(begin + press * 1000 / count);
        last = performance.now();
        handle().dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
    }
    do { await until(performance.now() + 50); } while (performance.now() - Math.max(changed, last) < 1000);
    observer.disconnect();
    return {lag: changed - last, spent: last - begin, shown: shown()};
}"""


class Control(NamedTuple):
    """A control of an exhibit by its name on the page, and the milliseconds of each use that was answered by
    another picture.
    """

    exhibit: str
    name: str
    times: list[float]


@dataclass(frozen=True)
class Burst:
    """One second of presses: how long after the last the last picture came, and which it was."""

    lag: float
    spent: float
    shown: str


@dataclass
class Bench:
    """The notebook with a cell for each exhibit, and one for interact."""

    notebook: Notebook
    cells: dict[str, int] = field(
        default_factory=lambda: {name: n for n, name in enumerate((*EXHIBITS, INTERACT))}
    )

    def fresh(self, name: str) -> ElementHandle:
        """The exhibit as it opens."""
        handle = self.notebook.page.evaluate_handle(RUN, self.cells[name]).as_element()
        if handle is None or (errors := self.notebook.outputs("error")):
            raise RuntimeError(f"the bench's notebook failed: {errors[0]['evalue'] if handle else name}")
        return handle

    def use(self, exhibit: ElementHandle, number: int, presses: int) -> list[float]:
        """Milliseconds of each use of a control."""
        times = exhibit.evaluate(USE, {"number": number, "presses": presses})
        return [time for time in times if time is not None]

    def interact(self) -> list[float]:
        """Milliseconds of each key on the slider of interact's."""
        return self.use(self.fresh(INTERACT), 0, 20)

    def controls(self, name: str) -> Iterator[Control]:
        """Each control of an exhibit, used from where the exhibit opens."""
        exhibit = self.fresh(name)
        found = exhibit.evaluate(
            f"exhibit => {{ {CONTROLS} return controlsOf(exhibit).map(({{kind, name}}) => [kind, name]); }}"
        )
        for number, (kind, label) in enumerate(found):
            times: list[float] = []
            for run in range(MOST_RUNS):
                if number or run:
                    exhibit = self.fresh(name)
                times += self.use(exhibit, number, PRESSES)
                if kind not in ("submit", "button") or not times or len(times) >= LEAST_TIMES:
                    break
            yield Control(name, label, times)


def latency_figures() -> Iterator[Figure]:
    """All of this module's, in the order of the table. Raises Unfit where no browser is installed."""
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(_notebook(), Path(folder, "bench.ipynb"))
        with (
            chromium() as browser,
            serving(Path(folder)) as server,
            open_notebook(browser, server, "bench.ipynb") as notebook,
        ):
            yield from _figures(Bench(notebook))


def _notebook() -> nbformat.NotebookNode:
    sources = [
        f"from tdpkit.show import {make.split('.')[0]}\nexhibit = {make}\nexhibit.show({change})\nexhibit"
        for make, change in EXHIBITS.values()
    ]
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in (*sources, IMSHOW)]
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=kernel)


def _figures(bench: Bench) -> Iterator[Figure]:
    compared = bench.interact()
    controls = [control for name in EXHIBITS for control in bench.controls(name)]
    compared += bench.interact()
    base = percentile(compared, 95)
    yield Figure("the explorer's strips by interact and imshow, p50", percentile(compared, 50), "ms")
    yield Figure("the explorer's strips by interact and imshow, p95", base, "ms")
    for exhibit, name, times in controls:
        if len(times) > 1:
            p50, p95 = percentile(times, 50), percentile(times, 95)
            note = f"{p95 / base:.2f} of interact's; p50 {p50:.0f} ms; {len(times)} pictures"
            limit = None if name.startswith(RUNS) else base * SHARE
            yield Figure(f"{exhibit}: {name}, p95", p95, "ms", limit=limit, note=note)
    still = [f"{exhibit}: {name}" for exhibit, name, times in controls if len(times) < 2]
    yield Figure(
        "controls without another picture where their exhibit opens", len(still), "", note="; ".join(still)
    )
    for name in BURST_IN:
        yield _burst_figure(bench, name)


def _burst_figure(bench: Bench, name: str) -> Figure:
    """The worst of some bursts; each must end with the picture of the last press."""
    exhibit, lags, fault, note = bench.fresh(name), [], "", ""
    first = _start_of(exhibit)
    exhibit.evaluate(BURST, {"key": "ArrowRight", "count": 1})
    unit = _start_of(exhibit) - first
    for _ in range(BURSTS):
        start = _start_of(exhibit)
        burst = Burst(**exhibit.evaluate(BURST, {"key": "ArrowRight", "count": EVENTS}))
        lags.append(burst.lag)
        if not unit or _start_of(exhibit) - start != EVENTS * unit:
            fault = f"{burst.shown!r}, {EVENTS} times {unit} frames after {start}"
        if burst.spent > 1200:
            note = f"the busy page took {burst.spent / 1000:.1f} s to press {EVENTS} times"
    return Figure(f"{name}: {EVENTS} presses in 1 s, last picture after", max(lags), "ms", 150, fault, note)


def _start_of(exhibit: ElementHandle) -> int:
    """The first frame of the range that the picture's title names."""
    title: Any = exhibit.eval_on_selector("svg > title", "title => title.textContent")
    found = re.search(r"\[(.+?), ", title)
    if not found:
        raise RuntimeError(f"a title names the range; {title!r} does not")
    return parse_gfn(found[1])
