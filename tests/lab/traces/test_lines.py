"""The lines of any bytes: whole, in order, cut where they are too long, in bounded memory."""

from __future__ import annotations

import io
import os
import threading
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdpkit.lab.traces.lines import binary_kind, lines_of
from tdpkit.lab.traces.reader import read_trace

EVENT = "kvm_tdp_mmu_spte_changed: as id 0 gfn 5 level 1 old_spte 0 new_spte 600000310aa1b77"


class Dribble(io.RawIOBase):
    """A pipe: it gives as many bytes at once as it is told."""

    def __init__(self, data: bytes, pieces: list[int]) -> None:
        self._data, self._pieces = data, pieces

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        size = min(size, self._pieces.pop(0)) if self._pieces else size
        piece, self._data = self._data[:size], self._data[size:]
        return piece


@given(
    st.lists(st.text(st.characters(exclude_characters="\n\r\0 \ufeff", codec="utf-8"), max_size=40)),
    st.lists(st.integers(1, 50)),
    st.sampled_from(["\n", "\r\n", " \n", "\0\n"]),
)
def test_lines_come_whole_however_the_bytes_come(lines, pieces, end):
    data = "".join(line + end for line in lines).encode()
    assert [*lines_of(Dribble(data, pieces))] == lines
    assert [*lines_of(io.BytesIO(data))] == lines


@given(st.binary(max_size=5000), st.lists(st.integers(1, 3000)))
def test_any_bytes_have_lines(data, pieces):
    found = [*lines_of(Dribble(data, pieces))]
    assert len(found) in (data.count(b"\n"), data.count(b"\n") + 1)
    assert all(len(line) <= 1024 and "\n" not in line for line in found)


@pytest.mark.parametrize("length", [1023, 1024, 1025, 5000, 1 << 20, (1 << 20) + 7])
@pytest.mark.parametrize("letter", ["a", "ß", "𝛼"])
def test_a_long_line_is_cut_and_the_next_is_whole(length, letter):
    data = f"{letter * length}\n{EVENT}\n{letter * length}".encode()
    cut = letter * min(length, 1024)
    assert [*lines_of(io.BytesIO(data))] == [cut, EVENT, cut]


def test_a_last_line_without_an_end_and_no_line_at_all():
    assert [*lines_of(io.BytesIO(b"a\nb"))] == ["a", "b"]
    assert [*lines_of(io.BytesIO(b"a\n\nb\n"))] == ["a", "", "b"]
    assert [*lines_of(io.BytesIO(b""))] == []


def test_bytes_that_are_no_letters_and_a_mark_of_the_byte_order_hurt_no_line_beside_them():
    data = b"\xef\xbb\xbf" + EVENT.encode() + b"\n\xff\xfe\x00\xc3\n" + EVENT.encode()
    lines = [*lines_of(io.BytesIO(data))]
    assert (lines[0], lines[2]) == (EVENT, EVENT)
    assert read_trace(lines).counts["map"] == 2


def test_a_file_that_grows_is_read_up_to_the_size_it_had(tmp_path):
    path = tmp_path / "trace"
    path.write_text(f"{EVENT}\n" * 100)
    with path.open("rb") as stream, path.open("ab") as more:
        seen = 0
        for _ in lines_of(stream, path.stat().st_size):
            seen += 1
            more.write(b"and more\n" * 100)
            more.flush()
    assert seen == 100


def test_a_pipe_gives_its_lines_before_it_is_closed():
    reading, writing = os.pipe()
    heard = threading.Event()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as feeder:
        feeder.write(b"one\ntwo\nthr")
        lines = lines_of(stream)
        assert [next(lines), next(lines)] == ["one", "two"]
        threading.Timer(0.01, lambda: (feeder.write(b"ee\n"), heard.set())).start()
        assert next(lines) == "three"
        assert heard.wait(5)


@pytest.mark.parametrize(
    ("start", "word"),
    [
        (b"\x17\x08Dtracing6\0", "trace-cmd report"),
        (b"PERFILE2\x68\0", "perf script"),
        (b"\x1f\x8b\x08\0", "gzip"),
        ("# tracer: nop".encode("utf-16"), "UTF-16"),
        ("# tracer: nop".encode("utf-16-be"), ""),
        (b"# tracer: nop", ""),
        (b"", ""),
    ],
)
def test_a_file_that_is_no_text_is_named(start, word):
    assert word in binary_kind(start)
    assert bool(binary_kind(start)) == bool(word)


class Endless(io.RawIOBase):
    """So many bytes of one kind, and no end of a line."""

    def __init__(self, letter: bytes, left: int) -> None:
        self._letter, self._left = letter, left

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        size = min(size, self._left)
        self._left -= size
        return self._letter * size


@pytest.mark.parametrize("letter", [b"x", b"\0", b"\xff"])
def test_a_hundred_megabytes_without_an_event_need_no_memory(letter):
    tracemalloc.start()
    try:
        story = read_trace(lines_of(Endless(letter, 100 << 20)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not story.is_trace
    assert peak < 10 << 20
