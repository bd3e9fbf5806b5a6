"""Try a variant of the split, and print the table.

    python -m tdpkit.lab.trial FILE.py:NAME [--ask QUESTION ...]
    python -m tdpkit.lab.trial "v3 as posted"
    python -m tdpkit.lab.trial --list

NAME is a function of the file: a plan, or a coroutine in place of one of the kernel's functions (--list
prints the forms, the kit's own variants and the questions). Exit status 0 if no question is failed, 1 if one
is, 2 if there is nothing to try; 130 after Ctrl-C; 141 if nobody reads on (as in ``| head``).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from textwrap import indent

from tdpkit.engine.gfn import InvalidValueError

from ..terminal import exit_status, progress
from ..words import known_name
from .known import PLANS, PLANTED, POSTED, variant_named
from .table import QUESTIONS, trial
from .variant import FORMS, Variant, load


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tdpkit.lab.trial",
        description="Try a variant of the split against every experiment of the kit, and print a table.",
    )
    parser.add_argument("variant", nargs="?", help="FILE.py:NAME, or a variant of the kit by its name")
    parser.add_argument("--list", action="store_true", help="print forms, variants of the kit and questions")
    parser.add_argument(
        "--ask", action="append", metavar="QUESTION", help="ask this question only; may be repeated"
    )
    asked = parser.parse_args(arguments)
    return exit_status(partial(_run, asked), "no table")


def _run(asked: argparse.Namespace) -> int:
    if asked.list:
        print(_listed())
        return 0
    if asked.variant is None:
        raise InvalidValueError("name a variant: FILE.py:NAME, or one that --list prints")
    questions = [known_name(name, QUESTIONS, "a question") for name in asked.ask or QUESTIONS]
    variant = _variant(asked.variant)
    tried = trial(variant, questions, told=lambda question: progress(f"{variant.name}: {question} ..."))
    progress("")
    print(tried)
    return 1 if tried.fails else 0


def _variant(text: str) -> Variant:
    if ":" in text or text.endswith(".py"):
        return load(text)
    try:
        return variant_named(text)
    except InvalidValueError as error:
        raise InvalidValueError(f"{error}, and no FILE.py:NAME") from None


def _listed() -> str:
    parts = {
        "a variant is one of": FORMS.values(),
        "posted": (f"{name}: {known.of}" for name, known in POSTED.items()),
        "planted bugs": (f"{name}: {known.of}" for name, known in PLANTED.items()),
        "strategies of notebook 03": PLANS,
        "questions": (f"{name}: {(ask.__doc__ or '').splitlines()[0]}" for name, ask in QUESTIONS.items()),
    }
    return "\n\n".join(f"{head}:\n{indent(chr(10).join(lines), '  ')}" for head, lines in parts.items())


if __name__ == "__main__":
    raise SystemExit(main())
