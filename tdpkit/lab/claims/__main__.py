"""Print the ledger of claims, or some of them whole.

    python -m tdpkit.lab.claims [NAME ...] [--long]

Without names: a row for each claim, with its verdict; the totals come last. With names, such as C7, or with
--long: what each claim says, who said it where, how it ended, what its experiment shows, and where the course
teaches it. Exit status 2 for an unknown name; 130 after Ctrl-C; 141 if nobody reads on (as in ``| head``).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial

from tdpkit.engine.gfn import InvalidValueError

from ..terminal import exit_status, progress
from ..words import lines_of
from .claim import MAILS, Claim, Settled
from .ledger import CLAIMS, Ledger, settle_all, settled

_WIDTH = 100
_MARGIN = 12
"""Columns of the text, and those of the words before it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tdpkit.lab.claims",
        description="Settle the claims of the review by experiment, and print the ledger.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="claims to print whole, such as C7")
    parser.add_argument("--long", action="store_true", help="print every claim whole")
    asked = parser.parse_args(arguments)
    return exit_status(partial(_run, asked), "claims that are not printed are not settled")


def _run(asked: argparse.Namespace) -> None:
    names = [name.upper() for name in asked.names]
    if unknown := [given for given, name in zip(asked.names, names, strict=True) if name not in CLAIMS]:
        first, *_, last = CLAIMS
        raise InvalidValueError(f"no claim is called {unknown[0]!r}; they are {first} to {last}")
    for name in dict.fromkeys(names):
        _told(CLAIMS[name])
        one = settled(name)
        progress("")
        print(whole(one), flush=True)
    if not names:
        ledger: Ledger = settle_all(told=_told)
        progress("")
        print("\n".join([*map(whole, ledger), ledger.in_all]) if asked.long else ledger)


def _told(claim: Claim) -> None:
    progress(f"{claim.name}: {claim.in_short}"[: _WIDTH - 1])


def whole(one: Settled) -> str:
    """All there is to say of a claim, a paragraph each, and an empty line."""
    lines = [f"{one.claim.name}: {one.verdict}"]
    for head, text in _paragraphs(one):
        for line in lines_of(text, _WIDTH - _MARGIN):
            lines.append(f"  {head:{_MARGIN - 2}}{line}")
            head = ""
    return "\n".join([*lines, ""])


def _paragraphs(one: Settled) -> Iterator[tuple[str, str]]:
    """Each paragraph with the word before it."""
    claim, finding = one.claim, one.finding
    yield "says", claim.says
    for at, mail in enumerate(claim.mails):
        author, date, message_id = MAILS[mail]
        yield ("by", "and")[at > 0], f"{mail}, {author}, {date}, {message_id}"
    yield "ended", claim.ended
    if claim.withdrawn:
        yield "withdrawn", f"in {claim.withdrawn}, {MAILS[claim.withdrawn].date}"
    if finding:
        yield "shown", finding.shown
        if finding.condition:
            yield "holds if", finding.condition
    else:
        yield "undecided", claim.reason
    yield "taught in", f"notebook {claim.lesson.notebook}, {claim.lesson.section}"


if __name__ == "__main__":
    raise SystemExit(main())
