"""Reading a trace: lines a second, beside `wc -l` and a plain regex loop, and whether memory stays flat."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from pathlib import Path

from tdpkit.engine.gfn import GfnRange
from tdpkit.lab.traces.lines import lines_of
from tdpkit.lab.traces.reader import Story, read_trace

from .engine import seconds
from .figures import Figure

LINES = 1_000_000
BLOCKS = 1024
"""The guest: as many blocks of 2M."""
_LEAF, _TABLE = 0x0600_0000_0000_0BF3, 0x4_AB00_0907
_CHANGED = re.compile(
    r"-(\d+) +\[\d+\] \S+ +(\d+\.\d+): kvm_tdp_mmu_spte_changed: as id (\d+) gfn ([0-9a-f]+) "
    r"level (\d) old_spte ([0-9a-f]+) new_spte ([0-9a-f]+)"
)


def trace_figures() -> Iterator[Figure]:
    """All of this module's: one text of a million lines, and a tenth of it."""
    with tempfile.TemporaryDirectory() as folder:
        path, short = Path(folder) / "trace", Path(folder) / "short"
        with path.open("w") as file:
            file.writelines(f"{line}\n" for line in islice(_lines(), LINES))
        with path.open() as file, short.open("w") as first:
            first.writelines(islice(file, LINES // 10))
        counted = seconds(lambda: subprocess.run(["wc", "-l", path], check=True, capture_output=True))
        yield Figure(f"wc -l of a trace of {LINES:,} lines", 1e3 * counted, "ms")
        yield Figure("  one regex in a plain loop", _per_line(lambda: _plain(path)), "µs a line")
        limit = 1e6 / 150_000
        yield Figure("  read, its tree rebuilt", _per_line(lambda: _read(path)), "µs a line", limit)
        asked = [GfnRange(0x10_077, 0x20_099)]
        yield Figure("  and a range judged", _per_line(lambda: _read(path, asked)), "µs a line", limit)
        story, sound = _read(path), {"zap", "split", "remove", "map", "listed", "bits", "UnmapHva", "SetSpte"}
        wrong = "" if sound <= set(story.counts) and not story.mismatches and not story.damaged else "misread"
        small, large = _peak(short), _peak(path)
        yield Figure("  memory of a tenth of it", small / 1024, "MiB")
        yield Figure("  memory of all", large / 1024, "MiB", 1.25 * small / 1024, wrong)


def _per_line(work: Callable[[], object]) -> float:
    """Microseconds of processor time that each line takes: others run beside."""
    return 1e6 * seconds(work, time.process_time) / LINES


def _read(path: Path, ranges: Iterable[GfnRange] = ()) -> Story:
    with path.open("rb") as stream:
        return read_trace(lines_of(stream), ranges=ranges)


def _plain(path: Path) -> int:
    total = 0
    with path.open() as file:
        for line in file:
            if "spte_changed" in line and (found := _CHANGED.search(line)):
                pid, _, as_id, gfn, level, old, new = found.groups()
                total += int(pid) + int(as_id) + int(gfn, 16) + int(level) + int(old, 16) + int(new, 16)
    return total


_PEAK = """
import re, sys
from pathlib import Path
from tdpkit.lab.traces.lines import lines_of
from tdpkit.lab.traces.reader import read_trace
read_trace(lines_of(Path(sys.argv[1]).open("rb")))
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def _peak(path: Path) -> int:
    """KiB that a process of its own needs at most to read the trace (ru_maxrss would be its parent's too)."""
    done = subprocess.run([sys.executable, "-c", _PEAK, path], check=True, capture_output=True, text=True)
    return int(done.stdout)


# ---- the text ------------------------------------------------------------------------------------------


def _lines() -> Iterator[str]:
    """A guest at work, without end: faults, splits, dirty logging, unmaps, a subtree removed now and then."""
    clock, host = count(812_000_000), count(0x20_0000, 512)
    tables = [_changed(0, 4, 0, _TABLE)]
    tables += [_changed(at << 18, 3, 0, _TABLE + (at + 1 << 12)) for at in range(BLOCKS // 512)]
    yield from _at(clock, "CPU 0/KVM-1001", tables)
    mapped: dict[int, int] = {}
    for turn in count():
        block = turn * 389 % BLOCKS
        vcpu = f"CPU {turn % 4}/KVM-{1001 + turn % 4}"
        if block not in mapped:
            mapped[block] = next(host)
            yield from _at(clock, vcpu, _fault(block << 9, 2, _LEAF | mapped[block] << 12))
        elif turn % 5 == 0:
            yield from _at(clock, "qemu-system-x86-998", _unmap(block, mapped.pop(block)))
        else:
            yield from _at(clock, vcpu, _split(block, mapped.pop(block)))


def _at(clock: Iterator[int], task: str, texts: Iterable[str]) -> Iterator[str]:
    cpu = sum(task.encode()) % 8
    for text in texts:
        now = next(clock)
        yield f"{task:>23} [{cpu:03}] ...1. {now // 1_000_000:>5}.{now % 1_000_000:06}: {text}"


def _changed(gfn: int, level: int, old: int, new: int) -> str:
    return f"kvm_tdp_mmu_spte_changed: as id 0 gfn {gfn:x} level {level} old_spte {old:x} new_spte {new:x}"


def _fault(gfn: int, level: int, leaf: int) -> Iterator[str]:
    place = 0x4_AB10_5000 + (gfn >> 9 * (level - 1)) % 512 * 8
    yield f"kvm_exit: vcpu 0 reason EPT_VIOLATION rip 0xfff0 info1 0x0000000000000784 info2 0x{gfn:016x}"
    yield f"kvm_page_fault: vcpu 0 rip 0xfff0 address 0x{gfn << 12:016x} error_code 0x784"
    yield f"kvm_mmu_spte_requested: gfn {gfn:x} pfn {leaf >> 12 & (1 << 40) - 1:x} level {level}"
    yield _changed(gfn, level, 0, leaf)
    yield f"kvm_mmu_set_spte: gfn {gfn:x} spte {leaf:x} (rwxu) level {level} at {place:x}"
    yield "kvm_entry: vcpu 0, rip 0xfff0"
    if gfn % 5 == 0:
        yield "sched_switch: prev_comm=CPU 0/KVM prev_pid=1001 ==> next_comm=swapper/3 next_pid=0"


def _unmap(block: int, pfn: int) -> Iterator[str]:
    start = 0x7F00_0000_0000 + (block << 21)
    yield f"kvm_unmap_hva_range: mmu notifier unmap range: 0x{start:016x} -- 0x{start + (1 << 21):016x}"
    yield _changed(block << 9, 2, _LEAF | pfn << 12, 0x5A0)


def _split(block: int, pfn: int) -> Iterator[str]:
    """A leaf split, its children logged, zapped and faulted in again; then their table goes."""
    gfn, leaf, table = block << 9, _LEAF | pfn << 12, _TABLE + (1 << 32) + (pfn << 12)
    yield f"kvm_mmu_get_page: sp gen 0 gfn {gfn:x} l1 8-byte q0 direct wux nxe ad root 0 sync new"
    yield _changed(gfn, 2, leaf, table)
    yield f"kvm_mmu_split_huge_page: gfn {gfn:x} spte {leaf:x} level 2 errno 0"
    children = [(gfn + at, (leaf & ~0x80 | 4) + (at << 12)) for at in range(512)]
    for at, child in children[::8]:
        yield _changed(at, 1, child, child & ~0x200)
    now = {at: child & ~0x200 if at % 8 == 0 else child for at, child in children}
    for at in [*now][::4]:
        yield _changed(at, 1, now[at], 0x5A0)
    for at in [*now][::4]:
        yield from _fault(at, 1, now[at])
    yield _changed(gfn, 2, table, 0)
    for at, child in now.items():
        yield _changed(at, 1, child, 0x5A0)
