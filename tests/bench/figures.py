"""What was measured, against what the design asks for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import quantiles


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    limit: the most that the design allows (None: it asks for nothing, the figure is there to compare).
    fault: what is wrong with the result itself, whatever the time; note: what made it less than a fair
    measurement. Empty if nothing.
    """

    what: str
    measured: float
    unit: str
    limit: float | None = None
    fault: str = ""
    note: str = ""

    @property
    def verdict(self) -> str:
        """``ok`` or ``over``; nothing where nothing is asked for."""
        if self.fault:
            return "WRONG"
        if self.limit is None:
            return ""
        return "ok" if self.measured <= self.limit else "over"

    @property
    def remark(self) -> str:
        """The verdict, and what there is to say about it."""
        return ": ".join(part for part in (self.verdict, self.fault or self.note) if part)


def percentile(times: list[float], percent: int) -> float:
    """The value that `percent` of `times` do not exceed."""
    return quantiles(times, n=100, method="inclusive")[percent - 1]


def table(figures: Iterable[Figure]) -> str:
    """The figures side by side: what, measured, target, verdict."""
    rows = [("what", "measured", "target", "")]
    for figure in figures:
        limit = "" if figure.limit is None else f"≤ {_written(figure.limit)} {figure.unit}"
        rows.append((figure.what, f"{_written(figure.measured)} {figure.unit}", limit, figure.remark))
    width = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{what:<{width[0]}}  {measured:>{width[1]}}  {limit:>{width[2]}}  {verdict}".rstrip()
        for what, measured, limit, verdict in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _written(number: float) -> str:
    """Three digits are what a noisy machine can tell apart."""
    return f"{number:.0f}" if number >= 100 or number == int(number) else f"{number:.3g}"
