"""Print the table of scenarios: states, interleavings, seconds, verdicts with the steps of each witness.

    python -m tdpkit.lab.schedules [NAME ...] [--three] [--bound STATES] [--witness]

Without names all scenarios of two threads; --three adds those of three. --witness prints each witness below
its row; --bound stops a search at this number of states. Exit status 2 for an unknown name or a bound that
is no positive number; 130 after Ctrl-C; 141 if nobody reads on (as in ``| head``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from time import perf_counter

from tdpkit.engine.gfn import InvalidValueError

from ..terminal import exit_status, progress
from ..words import group_digits
from .scenarios import SCENARIOS, THREE, Scenario, build_of
from .search import MOST_STATES, Explorer, Found, check_bound, search


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tdpkit.lab.schedules",
        description="Explore every schedule of each scenario, and print a row for it.",
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help='scenarios, such as "shared, in hand"; all of two threads if none is named',
    )
    parser.add_argument("--three", action="store_true", help="the scenarios of three threads too")
    parser.add_argument(
        "--bound", type=int, default=MOST_STATES, metavar="STATES", help="states at which a search stops"
    )
    parser.add_argument("--witness", action="store_true", help="print each witness whole, below its row")
    asked = parser.parse_args(arguments)
    return exit_status(partial(_run, asked), "the rows above are complete, the others were not searched")


def _run(asked: argparse.Namespace) -> int:
    every = SCENARIOS | THREE
    check_bound(asked.bound)
    if unknown := [name for name in asked.names if name not in every]:
        # Names have commas in them: a line for each.
        raise InvalidValueError("\n  ".join([f"no scenario is called {unknown[0]!r}; there are", *every]))
    names = dict.fromkeys([*(asked.names or SCENARIOS), *(THREE if asked.three else ())])
    width = max(map(len, names))
    print(f"{'scenario':{width}}  {'states':>7}  {'interleavings':>20}  {'seconds':>7}  what breaks (steps)")
    for name in names:
        row(name, every[name], width, asked.bound, asked.witness)
    return 0


def row(name: str, scenario: Scenario, width: int, bound: int, whole: bool) -> None:
    """Explore one scenario and print its row."""
    begun = perf_counter()
    found = search(
        Explorer(build_of(scenario.setting)),
        bound=bound,
        told=lambda states: progress(f"{name}: {group_digits(states)} states"),
    )
    progress("")
    seconds = perf_counter() - begun
    count = group_digits(found.interleavings) if found.interleavings is not None else "not counted"
    print(
        f"{name:{width}}  {group_digits(found.states):>7}  {count:>20}  {seconds:7.2f}  {verdict(found)}"
        + "  [API only]" * scenario.api_only
    )
    for broken, schedule in found.witness.items() if whole else ():
        print(f"{'':{width}}  {broken}: {schedule}")
    sys.stdout.flush()  # the next row may take seconds


def verdict(found: Found) -> str:
    """Say what breaks and in how many steps, and how far the search went."""
    broken = ", ".join(f"{name} ({len(schedule.moves)})" for name, schedule in found.witness.items())
    return f"{broken or 'nothing'}; {found.extent}"


if __name__ == "__main__":
    raise SystemExit(main())
