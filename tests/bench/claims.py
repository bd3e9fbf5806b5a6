"""The review's claims: how long all experiments take, and to draw the ledger of them."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from tdpkit.lab.claims.ledger import settle_all
from tdpkit.show.claim_ledger import ClaimLedger
from tdpkit.show.theme import LIVE

from .engine import seconds
from .figures import Figure


def claim_figures(runs: int = 20) -> Iterator[Figure]:
    """All of this module's. An experiment runs once in a process: the first figure is of the first time."""
    yield Figure("every claim of the review settled", seconds(settle_all), "s", 60)
    exhibit = ClaimLedger()
    rows = len(exhibit.state.rows)
    took = median(seconds(lambda: exhibit._svg(LIVE, "x")) for _ in range(runs))
    yield Figure(f"  their ledger drawn, {rows} rows", 1e3 * took, "ms", 10)
