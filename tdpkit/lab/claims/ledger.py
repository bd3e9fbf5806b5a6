"""All claims of the review, settled: a row for each, and how many came to which verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache

from .. import cache_designs, caller_runs, failures, flush_rules
from ..schedules.once import forget_searches
from ..words import text_table
from . import cache as cache_claims
from . import callers, cost, edges, flushes, interface, pages, roots
from .claim import MAILS, VERDICTS, Claim, Settled, settle

_MODULES = (cost, edges, interface, pages, flushes, roots, callers, cache_claims)

CLAIMS: dict[str, Claim] = {
    claim.name: claim
    for claim in sorted((one for module in _MODULES for one in module.CLAIMS), key=lambda one: one.number)
}
"""Every claim, by name, in the order of their numbers."""


class Ledger(tuple[Settled, ...]):
    """Claims with their verdicts, shown as a table: claim, mail, date, verdict, in short; and the totals."""

    __slots__ = ()

    @property
    def totals(self) -> dict[str, int]:
        """How many claims came to each of VERDICTS."""
        came = Counter(one.verdict for one in self)
        return {verdict: came[verdict] for verdict in VERDICTS}

    @property
    def in_all(self) -> str:
        """The totals in words: ``45 claims: holds 21, holds if … 13, …``."""
        found = ", ".join(f"{verdict} {number}" for verdict, number in self.totals.items() if number)
        return f"{len(self)} claims: {found or 'none'}"

    def __repr__(self) -> str:
        lines = [_row(one) for one in self]
        return f"{text_table(('claim', 'mail', 'date', 'verdict', 'in short'), lines)}\n{self.in_all}"


def _row(one: Settled) -> tuple[str, ...]:
    claim, first = one.claim, one.claim.mails[0]
    return claim.name, first, MAILS[first].date, one.verdict, claim.in_short


@cache
def settled(name: str) -> Settled:
    """The claim of this name in CLAIMS with its verdict; its experiment runs once."""
    return settle(CLAIMS[name])


_KEPT = (
    cache_designs.cache_designs,
    caller_runs.holes_of_pages,
    caller_runs.larger_runs,
    caller_runs.usual_runs,
    failures.unfailed,
    flush_rules.attack,
)
"""Functions that the lab runs once for all experiments; it keeps searches of schedules too."""


def settle_afresh(claim: Claim) -> Settled:
    """Settle `claim` on the engine as it is now: nothing found before is used, and nothing is kept."""
    forget()
    try:
        return settle(claim)
    finally:
        forget()


def forget() -> None:
    """Drop what the lab keeps of what experiments asked for."""
    for kept in _KEPT:
        kept.cache_clear()
    forget_searches()


def settle_all(told: Callable[[Claim], None] | None = None) -> Ledger:
    """Settle every claim; each experiment runs once, so a second call is instant.

    told: is given each claim before its experiment runs.
    """
    found = []
    for name, claim in CLAIMS.items():
        if told:
            told(claim)
        found.append(settled(name))
    return Ledger(found)
