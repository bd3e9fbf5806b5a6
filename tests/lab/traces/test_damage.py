"""Damaged text: read to its end, with work that grows as the text does, and nothing of it is made up."""

from __future__ import annotations

import io
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdpkit.engine.gfn import GfnRange
from tdpkit.lab.traces.lines import lines_of
from tdpkit.lab.traces.reader import read_trace
from tests.oracles.printing_host import PrintingHost, pages

ADDRESS = (1 << 52) - (1 << 12)
_NAMED = re.compile(rb"gfn\s+([0-9a-f]+)\s+level\s+(\d)\s+old_spte\s+([0-9a-f]+)\s+new_spte\s+([0-9a-f]+)")


def sound_trace():
    """Some of everything, with few lines: no subtree is removed, but the ranges and markers are there."""
    host = PrintingHost()
    root = host.roots[0]
    for gfn, level in ((0, 1), (5, 1), (512, 2), (1024, 2), (1 << 17, 1)):
        host.fault(root, gfn, level)
    host.lines.append("kvm_unmap_hva_range: mmu notifier unmap range: 0x7f0000200000 -- 0x7f0000210000")
    host.zap(root, 512, 513, is_atomic=True)
    host.lines.append("  CPU 0/KVM-1001 [000] ...1. 5.1: tracing_mark_write: convert gfn 403-410")
    host.split(root, 1024)
    host.zap(root, 1027, 1040, is_atomic=False)
    host.lines.append("  CPU 0/KVM-1001 [000] ...1. 5.1: kvm_entry: vcpu 0")
    host.lines.append("CPU:0 [LOST EVENTS]")
    for gfn in (0, 5, 600, 1030, 1050):
        host.fault(root, gfn, 1)
        host.clear_dirty(root, gfn)
    host.mmio(root, 9)
    return "\n".join(host.lines).encode()


SOUND = sound_trace()
LINES = SOUND.split(b"\n")


def named_leaves(text):
    """Each (first frame, frames, host frame) of a leaf that a line names; lines may be joined again."""
    found = set()
    for gfn_text, level_text, *values in _NAMED.findall(re.sub(rb"\n[> ]*", b" ", text)):
        gfn, level = int(gfn_text, 16), int(level_text)
        for spte in (int(value, 16) for value in values):
            if spte & 0x800 and (level == 1 or spte & 0x80) and 1 <= level <= 5:
                found.add((gfn, pages(level), (spte & ADDRESS) >> 12))
    return found


def check(text):
    story = read_trace(lines_of(io.BytesIO(text)), layout="ept-5.13", ranges=[GfnRange(1027, 1040)])
    named = named_leaves(text)
    for trees in story.trees.values():
        for tree in trees:
            for gfn, level, count, pfn in tree.leaf_runs():
                for at in range(count):
                    frame, host = gfn + at * pages(level), pfn + at * pages(level)
                    assert any(
                        low <= frame and frame + pages(level) <= low + size and host - first == frame - low
                        for low, size, first in named
                    ), f"{frame:#x} -> {host:#x} is named by no line"
    return story


@st.composite
def damaged(draw):
    text = bytearray(SOUND)
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, len(text) - 1))
        span = slice(at, at + draw(st.integers(1, 60)))
        match draw(st.sampled_from(["delete", "repeat", "write", "break"])):
            case "delete":
                del text[span]
            case "repeat":
                text[at:at] = text[span]
            case "write":
                text[span] = draw(st.binary(max_size=8))
            case "break":
                text[at:at] = b"\n"
    return bytes(text)


def test_the_sound_text_is_read_whole():
    story = check(SOUND)
    assert (story.counts["split"], story.counts["damaged"], len(story.mismatches)) == (1, 0, 0)
    assert story.leaf_runs()


@given(damaged())
def test_bytes_that_are_missing_doubled_or_others_invent_nothing(text):
    check(text)


@given(st.permutations(LINES), st.sets(st.integers(0, len(LINES) - 1)))
def test_lines_in_any_order_with_some_missing_invent_nothing(lines, missing):
    check(b"\n".join(line for at, line in enumerate(lines) if at not in missing))


@given(st.lists(st.sampled_from(LINES), max_size=60))
def test_lines_that_come_again_and_again_invent_nothing(lines):
    check(b"\n".join(lines))


@given(st.binary(max_size=2000))
def test_any_bytes_are_read(text):
    check(text)
    check(SOUND + text + SOUND)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_another_encoding_is_no_trace(encoding):
    assert not check(SOUND.decode().encode(encoding)).is_trace


def test_ends_of_lines_of_any_kind_are_the_same():
    expected = check(SOUND)
    for text in (SOUND.replace(b"\n", b"\r\n"), SOUND.replace(b"\n", b" \0\n"), b"\xef\xbb\xbf" + SOUND):
        story = check(text)
        assert (story.counts, story.leaf_runs()) == (expected.counts, expected.leaf_runs())


BLOCKS = [
    b"\0" * 1000,
    b"x" * 5000 + b"\n",
    b"kvm_tdp_mmu_spte_changed: as id 0 gfn 5 level 1 old_spte 0 new_spte\n",
    b"a b c\n",
    b"> > > \n",
    b"a-1 [2] .... 3.4: kvm_exit:\n",
    b"kvm_unmap_hva_range: mmu notifier unmap range: 0x7f0000200000 -- 0x7f0000100000\n",
    b"\n".join(LINES[::-1]) + b"\n",
    bytes(range(256)) * 4,
]


def steps(text):
    """The lines of Python that reading runs, each time it does: unlike seconds, the same on any machine."""
    number = 0

    def count(*_):
        nonlocal number
        number += 1
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        read_trace(lines_of(io.BytesIO(text)), layout="ept-5.13", ranges=[GfnRange(1027, 1040)])
    finally:
        sys.settrace(before)
    return number


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_work_grows_as_the_text(block):
    """Four times the text is four times the steps; if quadratic, it were sixteen."""
    small, large = (block * (size // len(block) + 1) for size in (50_000, 200_000))
    assert steps(large) < 5 * steps(small)
