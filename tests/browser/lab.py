"""JupyterLab on the loopback interface and a headless Chromium, for the browser tests and `make bench`."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# No sandbox, for CI runs as root in a container. The others keep Chromium itself from calling home.
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)

# The machines that run this are small and shared: only a hang should ever meet these.
START_SECONDS = 180
PATIENCE = 20_000
"""Milliseconds for one thing on a page."""

LOOPBACK = {"127.0.0.1", "localhost", "::1"}

T = TypeVar("T")


class Unfit(RuntimeError):  # noqa: N818 - what it says is a state of the machine, not a fault of the kit
    """What is missing on this machine, in a sentence."""


def find_browser() -> str:
    """The path of an installed Chromium or Chrome; raises Unfit where there is none."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    raise Unfit(f"No browser is installed: one of {', '.join(BROWSERS)} must be on the PATH.")


def wait_for(condition: Callable[[], T], what: str, seconds: float = START_SECONDS) -> T:
    """Ask until the answer is true; TimeoutError says `what` did not come."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {seconds:.0f} s")
        time.sleep(0.05)
    return answer


def rgb(colour: str) -> str:
    """``#rrggbb`` as the browser writes it."""
    return f"rgb({', '.join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))})"


# ---- JupyterLab ----------------------------------------------------------------------------------------


class Server(NamedTuple):
    """A running JupyterLab: its address (with a slash at the end), its token, the folder it serves."""

    url: str
    token: str
    folder: Path

    def page(self, path: str) -> str:
        """The address at which JupyterLab opens the notebook `path` of its folder."""
        return f"{self.url}lab/tree/{quote(path)}?reset&token={self.token}"

    def find(self, number: str) -> str:
        """The path of the notebook of this number, below the folder."""
        [path] = (self.folder / "notebooks").glob(f"{number}*.ipynb")
        return str(path.relative_to(self.folder))

    def ask(self, path: str, method: str = "GET") -> bytes:
        """What the server answers to a request."""
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(self.url + path, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.read()


@contextmanager
def serving(folder: Path, *, with_extension: bool = True) -> Iterator[Server]:
    """JupyterLab on `folder`, set up as `make lab` does it, with settings and signatures of its own.

    It trusts the notebooks that lie in `folder` when it starts, as `make lab` does. Without the kit's server
    extension it is as a JupyterLab that knows nothing of the kit.
    """
    # Kernels talk through sockets in the runtime folder, and a socket's path may have 103 characters:
    # hence a folder of its own directly under /tmp.
    with tempfile.TemporaryDirectory(prefix="tdpkit-", dir="/tmp") as own:
        token, runtime = secrets.token_hex(16), Path(own, "runtime")
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in {"PYTHONPATH", "PYTHONHOME"} and not name.startswith(("JUPYTER", "JPY_"))
        } | {
            "JUPYTER_CONFIG_DIR": f"{own}/config",
            "JUPYTER_DATA_DIR": f"{own}/data",
            "JUPYTER_RUNTIME_DIR": str(runtime),
            "IPYTHONDIR": f"{own}/ipython",
            "MPLCONFIGDIR": f"{own}/matplotlib",
            "JUPYTER_TOKEN": token,
        }
        without = [] if with_extension else ["--ServerApp.jpserver_extensions=tdpkit.server=False"]
        notebooks = sorted(map(str, folder.rglob("*.ipynb")))
        if notebooks:
            trust = [sys.executable, "-m", "jupyter", "trust", *notebooks]
            subprocess.run(trust, env=environment, check=True, capture_output=True)
        log = Path(own, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*COMMAND, f"--port={_free_port()}", f"--ServerApp.root_dir={folder}", *without],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for pytest, which then stops this in its own time
            )
        try:
            yield _started(process, token, runtime, folder, log)
        finally:
            _stop(process)


COMMAND = (
    *(sys.executable, "-m", "jupyter", "lab", "-y", "--no-browser", "--log-level=WARN", "--ip=127.0.0.1"),
    *("--KernelManager.transport=ipc", "--LabApp.extension_manager=readonly"),
    # Not in `make lab`: the test asks the page's own objects whether all cells are done.
    "--LabApp.expose_app_in_browser=True",
    *(["--allow-root"] if os.getuid() == 0 else []),
)


def _free_port() -> int:
    """A port that was free a moment ago; should it be taken by then, Jupyter goes on to the next."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def _started(process: subprocess.Popen, token: str, runtime: Path, folder: Path, log: Path) -> Server:
    info = runtime / f"jpserver-{process.pid}.json"

    def answering() -> Server | None:
        if process.poll() is not None:
            raise RuntimeError(f"JupyterLab ended at once:\n{log.read_text(errors='replace')}")
        with suppress(OSError, json.JSONDecodeError):  # not there yet, half written, not yet answering
            server = Server(json.loads(info.read_text(encoding="utf-8"))["url"], token, folder)
            server.ask("api/status")
            return server
        return None

    return wait_for(answering, "an answer of JupyterLab")


def _stop(process: subprocess.Popen) -> None:
    """End the server, which ends its kernels first; they live in groups of their own."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # kernels notice that their parent is gone, and end
        process.wait()


# ---- Chromium ------------------------------------------------------------------------------------------


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium; raises Unfit where none is installed."""
    path = find_browser()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


class Unrun(NamedTuple):
    """What a notebook shows before it is run: width of its first picture in pixels, and its words."""

    width: int
    text: str


_LISTEN = """() => {
    const unanswered = new Set();
    window.unanswered = unanswered;
    const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    kernel.anyMessage.connect((_, {msg, direction}) => {
        if (direction === 'send' && msg.channel === 'shell')
            unanswered.add(msg.header.msg_id);
        else if (msg.header.msg_type === 'status' && msg.content.execution_state === 'idle')
            unanswered.delete(msg.parent_header.msg_id);
    });
}"""
"""Keep a list of the requests that the kernel is not done with: it says so of each, whatever its threads."""

_AT_REST = """async () => {
    for (let frames = 0; frames < 5; frames = window.unanswered.size ? 0 : frames + 1)
        await new Promise(done => requestAnimationFrame(done));
    return true;
}"""


class Notebook:
    """A notebook open in JupyterLab, and all that its page said and asked for.

    `page` is Playwright's; `hosts` the hosts of every request and websocket but data: and blob:;
    `complaints` the console's errors and the page's uncaught exceptions.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.hosts: set[str] = set()
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.context.on("request", lambda request: self._note_address(request.url))
        page.on("websocket", lambda socket: self._note_address(socket.url))
        page.on("console", self._note_message)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error.stack or error}"))

    def _note_address(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"data", "blob"}:
            self.hosts.add(parts.hostname or url)

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} ({message.location.get('url', '')})")

    def open(self, server: Server, path: str) -> None:
        """Open the notebook `path` of the server's folder; returns when its kernel is ready."""
        self.page.goto(server.page(path), timeout=START_SECONDS * 1000)
        self.page.wait_for_function(
            """name => {
                const panel = window.jupyterapp?.shell.currentWidget;
                return panel?.context?.path === name && panel.sessionContext.isReady
                    && panel.sessionContext.session?.kernel?.status === 'idle';
            }""",
            arg=path,
            timeout=START_SECONDS * 1000,
        )
        self.page.evaluate(_LISTEN)

    def command(self, name: str, **arguments: object) -> object:
        """Run a command of JupyterLab, to its end."""
        return self.page.evaluate(
            "([name, args]) => jupyterapp.commands.execute(name, args)", [name, arguments]
        )

    def look_unrun(self) -> None:
        """Note what a page without a kernel shows: the first stored picture, and all words."""
        picture = self.page.locator(".jp-OutputArea-output img").first
        picture.scroll_into_view_if_needed()
        picture.evaluate("image => image.decode()")  # raises if the markup is no image
        self.unrun = Unrun(
            picture.evaluate("image => image.clientWidth"),
            self.page.locator(".jp-Notebook").evaluate("notebook => notebook.textContent"),
        )

    def run_all(self) -> None:
        """Run > Run All Cells; returns when the last cell is done."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        self.page.wait_for_function(
            """() => {
                const panel = jupyterapp.shell.currentWidget;
                const code = [...panel.content.model.cells].filter(c => c.type === 'code');
                return panel.sessionContext.session.kernel.status === 'idle' && code.every(
                    cell => cell.executionCount !== null && cell.executionState !== 'running'
                        || cell.sharedModel.source.trim() === '');
            }""",
            timeout=START_SECONDS * 1000,
        )

    def settle(self) -> None:
        """Wait until the kernel has answered all it was asked: what was going to change has changed.

        An answer may lead to the next request, so there must be none open for some frames.
        """
        self.page.wait_for_function(_AT_REST)

    def outputs(self, kind: str) -> list[dict]:
        """The outputs of this type ("error", "stream", ...) of all cells, as the file would have them."""
        cells = self.page.evaluate("() => jupyterapp.shell.currentWidget.content.model.toJSON().cells")
        return [o for cell in cells for o in cell.get("outputs", ()) if o["output_type"] == kind]

    def tab_from(self, start: Locator, presses: int) -> list[str]:
        """What Tab reaches from `start` on: role, words or tag of each, as a reader knows them apart."""
        start.focus()
        reached = []
        for _ in range(presses):
            reached.append(
                self.page.evaluate(
                    """() => {
                        const at = document.activeElement;
                        const said = at.tagName === 'SELECT' ? '' : (at.innerText ?? '').trim();
                        return at.getAttribute('role') || said || at.tagName;
                    }"""
                )
            )
            self.page.keyboard.press("Tab")
        return reached

    @contextmanager
    def sized(self, width: int, height: int) -> Iterator[None]:
        """Meanwhile the window has another size."""
        before = self.page.viewport_size
        self.page.set_viewport_size({"width": width, "height": height})
        try:
            yield
        finally:
            self.page.set_viewport_size(before)

    def papers(self, pictures: Locator) -> tuple[list[str], list[str]]:
        """The colours of the pictures' papers, ``rgb(...)``, in JupyterLab's light and in its dark theme."""
        paper = pictures.locator("> rect:first-of-type")
        fills = "papers => papers.map(paper => getComputedStyle(paper).fill)"
        light = paper.evaluate_all(fills)
        self.set_theme("JupyterLab Dark")
        try:
            return light, paper.evaluate_all(fills)
        finally:
            self.set_theme("JupyterLab Light")

    def set_theme(self, name: str) -> None:
        """Change JupyterLab's theme, as its Settings menu does.

        It covers the page with a splash meanwhile, which must be gone before the next change: JupyterLab
        takes it away once for each change, and complains on the console if it is not there.
        """
        self.command("apputils:change-theme", theme=name)
        light = "true" if "Light" in name else "false"
        self.page.wait_for_selector(f'body[data-jp-theme-light="{light}"]', state="attached")
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")


@contextmanager
def open_notebook(
    browser: Browser, server: Server, path: str, width: int = 1280, height: int = 900
) -> Iterator[Notebook]:
    """`path` open in a page of its own; its kernel is shut down at the end."""
    context = browser.new_context(viewport={"width": width, "height": height})
    try:
        notebook = Notebook(context.new_page())
        notebook.open(server, path)
        yield notebook
    finally:
        context.close()
        for session in json.loads(server.ask("api/sessions")):
            if session["path"] == path:
                server.ask(f"api/sessions/{session['id']}", "DELETE")


EXHIBIT = ".tdpkit-live:has(.tdpkit-stage)"
"""The live exhibits on a page."""

LIVE = ".tdpkit-live"
"""The live exhibits, and the questions to guess at."""

PICTURES = ".tdpkit-stage .tdpkit > svg[role=img]"
"""Their pictures."""


def nth(controls: Locator, number: int) -> list[Locator]:
    """The `number` controls that `controls` stands for, each waited for once there are just so many."""
    expect(controls).to_have_count(number)
    return [controls.nth(at) for at in range(number)]


class Controls:
    """What one box on the page holds, used as a reader does: once all is at rest.

    Of two quick messages the kernel may take the second first; and what it still has to say takes the place
    of what is typed, and moves the options of a menu.
    """

    def __init__(self, notebook: Notebook, box: Locator) -> None:
        self.notebook = notebook
        self.box = box

    def press(self, name: str) -> None:
        """Click the button of this name."""
        self.click(self.box.get_by_role("button", name=name, exact=True))

    def click(self, spot: Locator) -> None:
        """Click what can be clicked."""
        self.notebook.settle()
        spot.click()

    def tick(self, box: Locator, ticked: bool = True) -> None:
        """Tick a box, or choose a radio button; or take the tick away."""
        self.notebook.settle()
        box.set_checked(ticked)

    def choose(self, menu: Locator, option: str | int) -> None:
        """Choose an option of a menu, by its words or its place from 0 on."""
        self.notebook.settle()
        menu.select_option(**{"label" if isinstance(option, str) else "index": option})

    def type(self, field: Locator, text: str, key: str = "Enter") -> None:
        """Type into a field, and press the key that submits it."""
        self.notebook.settle()
        field.fill(text)
        field.press(key)


class ShownExhibit(Controls):
    """One exhibit on the page, found as a reader finds it: by roles and words."""

    def __init__(self, notebook: Notebook, box: Locator) -> None:
        super().__init__(notebook, box)
        self.picture = box.locator(".tdpkit-stage svg[role=img]")
        self.title = box.locator(".tdpkit-title")
        self.answer = box.locator(".tdpkit-answer")
        self.remark = box.locator(".tdpkit-remark")
        """What stands beside the answer, or in its place: absent where there is nothing to remark."""
        box.scroll_into_view_if_needed()

    def slider(self, name: str) -> Locator:
        """What is dragged, by its name: on the picture, or among the controls."""
        return self.box.get_by_role("slider", name=name, exact=True)

    def drag(self, slider: Locator, by: int) -> None:
        """Drag a handle sideways, by so many pixels."""
        self.notebook.settle()
        slider.scroll_into_view_if_needed()
        box = slider.locator(".hit").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        mouse = self.notebook.page.mouse
        mouse.move(x, y)
        mouse.down()
        for part in range(1, 9):
            mouse.move(x + by * part / 8, y)
        mouse.up()

    def as_table(self, shown: bool = True) -> None:
        """Show the state as a table too; or fold it away."""
        self.tick(self.box.get_by_label("the same as a table"), shown)


class Question(Controls):
    """A question to guess at, found by words of it."""

    def __init__(self, notebook: Notebook, asks: str) -> None:
        super().__init__(notebook, notebook.page.locator(LIVE).filter(has_text=asks))
        self.said = self.box.get_by_role("status")

    def guess(self, answer: str) -> None:
        """Choose an answer, and have it compared."""
        self.tick(self.box.get_by_label(answer, exact=True))
        expect(self.said).to_be_empty()
        self.press("compare")
