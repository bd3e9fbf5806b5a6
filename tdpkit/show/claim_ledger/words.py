"""The ledger in sentences: short titles, totals, who said it and when, and how it was decided."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from html import escape
from urllib.parse import quote

from tdpkit.lab.claims.claim import FAILS, HOLDS, HOLDS_IF, MAILS, UNDECIDED, VERDICTS, WITHDRAWN, Settled
from tdpkit.lab.words import count_of, listed

from ..theme import LIVE
from .state import LedgerState

TITLE = "The review, claim by claim"

MARKS = {
    HOLDS: ("good", "✓"),
    HOLDS_IF: ("crossing-mark", "≈"),
    FAILS: ("bad", "✗"),
    WITHDRAWN: ("refaulted-mark", "↩"),
    UNDECIDED: ("muted", "–"),
}
"""(role, glyph) of each verdict."""

NOTEBOOKS = {
    "00": ("00-start-here", "Start here"),
    "01": ("01-frames-levels-leaves", "Frames, levels, leaves"),
    "02": ("02-splitting-across-a-boundary", "Splitting across a boundary"),
    "03": ("03-head-and-tail", "Head and tail"),
    "04": ("04-two-roots", "Two roots"),
    "05": ("05-convert-zap-accept", "Convert, zap, accept"),
    "06": ("06-lock-resched-flush", "Lock, resched, flush"),
    "07": ("07-memory-for-a-split", "Memory for a split"),
}
"""(file without its ending, title) of each notebook but the ledger's own, which needs no link to itself."""


def day_of(mail: str, *, year: bool = False) -> str:
    """The day of a mail: ``16 Jan``, ``16 Jan 2026``."""
    day = date.fromisoformat(MAILS[mail].date)
    return f"{day.day} {day:%b}{f' {day.year}' * year}"


def mail_words(mail: str, *, year: bool = False) -> str:
    """``M2 Sean Christopherson, 16 Jan``."""
    return f"{mail} {MAILS[mail].author}, {day_of(mail, year=year)}"


def row_words(one: Settled) -> str:
    """A row as it is read out."""
    return f"{one.claim.name}, {one.claim.title}: {one.verdict}"


def _came_to(verdict: str, number: int) -> str:
    s = "s" * (number == 1)
    words = {
        HOLDS: f"hold{s}",
        HOLDS_IF: f"hold{s} if …",
        FAILS: f"do{'es' * bool(s)} not hold in the model",
    }
    return f"{number} {words.get(verdict, verdict)}"


def answer(state: LedgerState) -> str:
    """Count the claims shown, by verdict."""
    found = [one.verdict for one in state.rows]
    came = [_came_to(name, found.count(name)) for name in VERDICTS if name in found]
    claims = count_of(state.in_all, "claim")
    if state.asked:
        claims = f"{len(found)} of {claims} ({listed(state.asked)})"
    said = f"{claims}: {', '.join(came)}"
    return said if said.endswith("…") else f"{said}."


def notebook_words(number: str) -> str:
    """``03 Head and tail``."""
    return f"{number} {NOTEBOOKS[number][1]}" if number in NOTEBOOKS else number


def lesson_words(one: Settled) -> str:
    """``03 Head and tail: The race``."""
    notebook, section = one.claim.lesson
    return f"{notebook_words(notebook)}: {section}"


def lesson_link(one: Settled) -> str:
    """The lesson as HTML: a link beside this notebook, or into it."""
    notebook, section = one.claim.lesson
    file, _ = NOTEBOOKS.get(notebook, ("", ""))
    target = f"{file}.ipynb" if file else ""
    anchor = quote(section.replace(" ", "-"))
    where = ' target="_blank" rel="noopener"' if file else ""
    style = f"color:{LIVE['private']};text-decoration:underline"  # JupyterLab takes both from a link
    return (
        f'<span class="tdpkit">{escape(one.claim.name)} is taught in '
        f'<a href="{target}#{anchor}"{where} style="{style}">{escape(lesson_words(one))}</a></span>'
    )


def whole(one: Settled) -> Iterator[tuple[str, str]]:
    """All that there is to tell of a claim: (what it is, its text), but for its mails and the lesson."""
    claim, finding = one.claim, one.finding
    yield "the claim", claim.says
    yield "how the thread left it", claim.ended
    if claim.withdrawn:
        yield "withdrawn", f"in {mail_words(claim.withdrawn, year=True)}"
    if not finding:
        yield "why no experiment decides it", claim.reason
        return
    if finding.condition:
        yield "holds if", finding.condition
    yield f"what the experiment shows{f': {finding.verdict}' * bool(claim.withdrawn)}", finding.shown


def _found(one: Settled) -> str:
    """The experiment's own verdict; that of a claim which its author withdrew is another."""
    return one.finding.verdict if one.finding else one.verdict


_NARROW = """<style>
.tdpkit-told{height:200px;overflow:auto;padding:0 8px;border:1px solid var(--tdp-line, #6b7682)}
.tdpkit-told p{margin:6px 0;line-height:16px}
@media (min-width:1240px){.tdpkit-told{display:none}}
</style>"""
"""On a narrow page the card lies beyond the edge of the picture: there its text stands above, in a box of one
height, so that no row moves."""


def told_html(one: Settled) -> str:
    """The lesson's link; and on a narrow page all there is to tell of the claim."""
    parts = [(f"{one.claim.name} {one.claim.title}", one.verdict)]
    parts += [(mail_words(mail, year=True), MAILS[mail].message_id) for mail in one.claim.mails]
    told = "".join(f"<p><b>{escape(name)}</b><br/>{escape(text)}</p>" for name, text in [*parts, *whole(one)])
    return f'{_NARROW}{lesson_link(one)}<div class="tdpkit-told" tabindex="0">{told}</div>'


def ran_words(before: Settled, now: Settled, seconds: float) -> str:
    """Say what an experiment found when it was run again."""
    found, was = _found(now), _found(before)
    compared = "as before" if found == was else f"before it was “{was}”"
    return f"{now.claim.name}, run again in {seconds:.2f} s: {found}, {compared}."
