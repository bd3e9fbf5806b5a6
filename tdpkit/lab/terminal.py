"""Progress in one line of a terminal, and the exit status, for every command of the kit."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError


def progress(text: str) -> None:
    """Put `text` in the place of what stands in the terminal's line; nothing where stderr is no terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def exit_status(command: Callable[[], int | None], interrupted: str) -> int:
    """Run a command; its exit status: what it returns, 0 if that is None.

    2, with the error's own words, for a value that breaks a rule; 130 after Ctrl-C, with the word
    `interrupted`; 141 if nobody reads on (as in ``| head``).
    """
    try:
        status = command()
        sys.stdout.flush()
    except (InvalidValueError, InvalidTypeError) as error:
        progress("")
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        progress("")
        print(f"interrupted: {interrupted}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains as it ends
        return 141
    return status or 0
