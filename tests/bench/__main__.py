"""python -m tests.bench [part ...]: the numbers that the design promises, measured now.

It measures and does not judge: the exit status is 0 whether a target is met or not.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Iterator

from tests.browser.lab import Unfit

from .claims import claim_figures
from .engine import engine_figures
from .entries import entry_figures
from .figures import Figure, table
from .latency import latency_figures
from .problems import problem_figures
from .proofs import proof_figures
from .schedules import schedule_figures
from .strategies import strategy_figures
from .traces import trace_figures
from .trial import trial_figures

PARTS: dict[str, Callable[[], Iterator[Figure]]] = {
    "engine": engine_figures,
    "entries": entry_figures,
    "strategies": strategy_figures,
    "proofs": proof_figures,
    "schedules": schedule_figures,
    "claims": claim_figures,
    "trial": trial_figures,
    "traces": trace_figures,
    "problems": problem_figures,
    "browser": latency_figures,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all if none is named"
    )
    chosen = parser.parse_args().parts or list(PARTS)
    for part in chosen:
        if part not in PARTS:
            parser.error(f"a part is one of {', '.join(PARTS)}; {part!r} is none")
    load = os.getloadavg()[0]
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f} before the first figure"
    )
    figures: list[Figure] = []
    for part in chosen:
        try:
            figures += PARTS[part]()
        except Unfit as missing:
            print(f"{part}: not measured. {missing}")
    if not figures:
        return
    print(table(figures))
    asked = [figure for figure in figures if figure.verdict]
    print(f"\n{sum(figure.verdict == 'ok' for figure in asked)} of {len(asked)} targets met.")


if __name__ == "__main__":
    main()
