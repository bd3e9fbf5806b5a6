"""The lines of a stream of bytes, one after the other, in bounded memory: whatever the bytes are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

_CHUNK = 1 << 20
_LONGEST = 1024
"""A line's letters that are kept; no event is as long."""

_BINARY = {
    b"\x17\x08\x44tracing": "trace-cmd's own binary file: print it with `trace-cmd report`",
    b"PERFILE2": "perf's own binary file: print it with `perf script`",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
    b"\xfd7zXZ": "compressed with xz: unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it first",
    b"\xff\xfe": "UTF-16: turn it into UTF-8 first",
    b"\xfe\xff": "UTF-16: turn it into UTF-8 first",
}
"""How files begin that may hold a trace, but not as text that is read here."""


def binary_kind(start: bytes) -> str:
    """What a file that begins with `start` is, if it is a known one that is not read; else nothing."""
    return next((kind for magic, kind in _BINARY.items() if start.startswith(magic)), "")


def lines_of(stream: BinaryIO, size: int | None = None) -> Iterator[str]:
    """The lines of `stream` without their ends; a line of more than 1024 letters is cut. Memory is bounded.

    size: read that many bytes at most, so that a file which grows has an end.
    """
    rest = b""
    left = float("inf") if size is None else size
    read = getattr(stream, "read1", stream.read)  # a pipe gives what it has
    while left > 0 and (chunk := read(int(min(_CHUNK, left)))):
        left -= len(chunk)
        whole, end, tail = chunk.rpartition(b"\n")
        if end:
            first, more, others = whole.partition(b"\n")
            yield from _texts(rest + first)
            if more:
                yield from _texts(others)
            rest = b""
        rest = (rest + tail)[: 4 * _LONGEST]  # a letter has four bytes at most
    if rest:
        yield from _texts(rest)


def _texts(block: bytes) -> Iterator[str]:
    """The lines of a block that ends where a line does."""
    for line in block.decode("utf-8-sig", "replace").split("\n"):
        yield line[:_LONGEST].rstrip("\r\0 ")
