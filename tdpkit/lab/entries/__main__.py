"""Read the entries of a report: one, several (one a line), or those on the way to an address.

    python -m tdpkit.lab.entries "60000031c800bb3 level 2"
    python -m tdpkit.lab.entries "gpa 0xfffff000: 8ab3a9d027 level 4, ..." [--host-levels 5]
    python -m tdpkit.lab.entries < dump.txt

It prints the layout with reason and doubt, each entry in a sentence with its flaws (--bits: its fields too),
and where a walk over them ends. Exit status 0 if all fits, 1 if something does not, 2 if there is no entry
in the text; 130 after Ctrl-C; 141 if nobody reads on (as in ``| head``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from tdpkit.engine.gfn import PAGE_SHIFT, InvalidValueError, parse_gfn

from ..spte_layouts import LAYOUTS
from ..terminal import exit_status
from .report import read_report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tdpkit.lab.entries",
        description="Read page-table entries of KVM's TDP MMU as a report has them.",
    )
    parser.add_argument(
        "text", nargs="*", metavar="TEXT", help="the entries; from a pipe if there is none, or -"
    )
    parser.add_argument(
        "--level", type=int, choices=range(1, 6), help="of entries that are given without one"
    )
    parser.add_argument(
        "--layout", default="", metavar="NAME", help=f"ept, npt or {', '.join(LAYOUTS)}; else guessed"
    )
    parser.add_argument(
        "--phys-bits", type=int, metavar="N", help="physical address bits of the host, for MMIO"
    )
    parser.add_argument(
        "--address", metavar="WHERE", help="0xfe013000 in bytes, or 4G-4K; taken from the text if it has one"
    )
    parser.add_argument(
        "--host-levels", type=int, choices=(4, 5), help="levels of the host's own page tables, 5 with LA57"
    )
    parser.add_argument("--bits", action="store_true", help="print the fields of each entry")
    asked = parser.parse_args(arguments)
    return exit_status(partial(_run, asked), "no entry read")


def _run(asked: argparse.Namespace) -> int:
    text = "\n".join(asked.text)
    if text in ("", "-"):
        text = sys.stdin.buffer.read().decode(errors="replace")
    report = read_report(
        text,
        level=asked.level,
        layout=asked.layout,
        phys_bits=asked.phys_bits,
        address=None if asked.address is None else _address(asked.address),
        host_levels=asked.host_levels,
    )
    for line in report.lines(asked.bits):
        print(line)
    return 0 if report.fits else 1


def _address(text: str) -> int:
    """Bytes: ``0xfe013000`` as reports have it, or a size such as ``4G-4K``."""
    try:
        return int(text, 16) if text.lower().startswith("0x") else parse_gfn(text) << PAGE_SHIFT
    except ValueError as error:
        raise InvalidValueError(
            f"an address is such as 0xfe013000, in bytes, or 4G-4K; {text!r} is not"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
