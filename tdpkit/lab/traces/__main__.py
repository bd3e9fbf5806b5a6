"""Read a trace, and say which leaves crossed an edge of a range and what was taken outside it.

    python -m tdpkit.lab.traces FILE [--range START END] [--layout NAME] [--slot HOST GFN] [--each] [--all]
    trace-cmd report | python -m tdpkit.lab.traces

FILE is text of ftrace, trace-cmd or perf, or lines of a report; "-" or nothing is standard input. START and
END are frame numbers as a trace prints them, hexadecimal with 0x or without, or addresses such as 2M+4K; the
range is [START, END). Without --range it judges the ranges that the trace announces, by a marker or by an
unmap whose frames can be told. Exit status 0 if nothing outside was taken, 1 if something was, 2 if the text
is no trace or a value breaks a rule; 130 after Ctrl-C, with what was read until then; 141 if nobody reads on.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import BinaryIO

from tdpkit.engine.gfn import GfnRange, InvalidValueError

from ..terminal import exit_status, progress
from ..words import group_digits
from .lines import binary_kind, lines_of
from .ranges import Slot, as_printed, read_frame
from .reader import Story, TraceReader
from .words import event_in_words, no_trace, report

_EACH = 40
"""Events up to which each gets a sentence without being asked for."""
_ALL = 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tdpkit.lab.traces",
        description="Read a trace of KVM's MMU: splits, zaps, and what was taken outside a range.",
    )
    parser.add_argument("file", nargs="?", default="-", help="text of a trace; - or nothing: standard input")
    parser.add_argument(
        "--range",
        nargs=2,
        action="append",
        default=[],
        metavar=("START", "END"),
        help="judge frames [START, END): as a trace prints them, or addresses such as 2M+4K; may be repeated",
    )
    parser.add_argument("--layout", default="", help="how entries are laid out, such as ept-5.13 or npt")
    parser.add_argument(
        "--slot",
        nargs=2,
        action="append",
        default=[],
        metavar=("HOST", "GFN"),
        help="host address HOST holds frame GFN, and so on upwards: places what a notifier unmaps",
    )
    parser.add_argument("--each", action="store_true", help="say each event in a sentence")
    parser.add_argument(
        "--all", action="store_true", help="list up to a thousand splits, zaps and mismatches"
    )
    asked = parser.parse_args(arguments)
    return exit_status(partial(_run, asked), "nothing was read")


def _run(asked: argparse.Namespace) -> int:
    spans = [_range_of(*pair) for pair in asked.range]
    slots = [Slot(_host_frame(host), read_frame(gfn)) for host, gfn in asked.slot]
    name = "standard input" if asked.file == "-" else f"'{asked.file}'"
    with _opened(asked.file) as stream:
        size = _size_of(stream)
        start = stream.peek(16) if hasattr(stream, "peek") else b""
        if kind := binary_kind(start):
            raise InvalidValueError(f"{name} is no text but {kind}")
        reader = TraceReader(layout=asked.layout, ranges=spans, slots=slots, keep=asked.each)
        is_whole = _read(reader, _told(lines_of(stream, size), size))
    story = reader.story
    if not story.is_trace:
        print(no_trace(name, story), file=sys.stderr)
        return 2
    if asked.each or len(story.first_events) < _EACH:
        print(*_sentences(story), sep="\n", end="\n\n")
    print(report(story, _ALL) if asked.all else report(story))
    if not is_whole:
        print(f"interrupted: this is what the text said up to line {story.lines}", file=sys.stderr)
        return 130
    return 0 if story.is_safe else 1


def _read(reader: TraceReader, lines: Iterable[str]) -> bool:
    """Whether it was read to its end."""
    try:
        reader.read(lines)
    except KeyboardInterrupt:
        progress("")
        reader.end()
        return False
    return True


def _opened(name: str) -> BinaryIO:
    if name == "-":
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    try:
        return open(name, "rb")
    except OSError as error:
        raise InvalidValueError(f"'{name}' cannot be read: {error.strerror}") from None


def _size_of(stream: BinaryIO) -> int | None:
    """The bytes of a file as it is now; None for a pipe, which is read to its end."""
    info = os.fstat(stream.fileno())
    return info.st_size - stream.tell() if stat.S_ISREG(info.st_mode) else None


def _told(lines: Iterable[str], size: int | None) -> Iterator[str]:
    """The lines, with progress on a terminal after each second."""
    read, said = 0, time.monotonic()
    for number, line in enumerate(lines, 1):
        read += len(line) + 1
        if not number & 0xFFFF and time.monotonic() - said > 1:
            said = time.monotonic()
            share = f", {read * 100 // size} %" if size else ""
            progress(f"{group_digits(number)} lines{share}")
        yield line
    progress("")


def _sentences(story: Story) -> Iterator[str]:
    layout = story.layout if story.has_entries else None
    for event in story.events or story.first_events:
        yield f"line {event.where.line}: {event_in_words(event, layout)}"


def _range_of(start: str, end: str) -> GfnRange:
    return GfnRange(read_frame(start), read_frame(end))


def _host_frame(text: str) -> int:
    address = as_printed(text)
    if address is None or address & 0xFFF:
        raise InvalidValueError(f"a host address is hexadecimal and a multiple of 0x1000; '{text}' is not")
    return address >> 12


if __name__ == "__main__":
    raise SystemExit(main())
