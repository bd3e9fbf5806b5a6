"""What the engine did, written as a trace, reads back as what the kernel's own code did."""

import random
import re

import pytest

from tdpkit.engine import (
    FROZEN_SPTE,
    KVM_X86_DEFAULT_VM,
    KVM_X86_TDX_VM,
    SHADOW_NONPRESENT_VALUE,
    X86_4LEVEL,
    InvalidValueError,
    Kvm,
    KvmMemorySlot,
    Trace,
    kvm_tdp_mmu_page_fault,
    make_leaf_spte,
    make_nonleaf_spte,
    map_run,
    record,
    tdp_mmu_split_huge_pages_root,
    tdp_mmu_zap_leafs,
)
from tdpkit.engine.events import EBUSY, Recording, SetSpte
from tdpkit.lab.spte_layouts import EPT_7_2, LAYOUTS
from tdpkit.lab.traces.reader import read_trace
from tdpkit.lab.traces.write import STYLES, Task, TraceWriter, in_layout, wrapped
from tests.oracles.ftrace import Reader
from tests.oracles.traced import traced
from tests.oracles.vectors import cases_of

EPT = [layout for layout in LAYOUTS.values() if layout.is_ept]
NPT = [layout for layout in LAYOUTS.values() if not layout.is_ept]
EPT_5_13 = LAYOUTS["ept-5.13"]


# ---- the recorded vectors ------------------------------------------------------------------------------


def reads_back(cases) -> int:
    read = 0
    for case in cases:
        reader = Reader(case.text.splitlines(), case.empty)
        assert reader.leaf_runs() == case.final, case.id
        if case.zapped is not None:
            taken = [(gfn + i * 512 ** (level - 1), level, pfn + i * 512 ** (level - 1))
                     for gfn, level, count, pfn in case.zapped for i in range(count)]  # fmt: skip
            assert reader.removed == taken, case.id
        told = read_trace(case.text.splitlines(), layout=case.layout)
        assert [*map(list, told.leaf_runs())] == case.final, case.id
        assert not told.counts["mismatches"], case.id
        read += 1
    return read


def test_some_recorded_calls_read_back_as_what_the_kernel_left():
    assert reads_back(traced(("split_cross", "zap", "faults"), every=16)) == 49


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "cases"), [("split_all", 261), ("split_cross", 400), ("zap", 182), ("faults", 189)]
)
def test_every_recorded_call_reads_back_as_what_the_kernel_left(kind, cases):
    assert reads_back(traced((kind,))) == cases


# ---- lines ---------------------------------------------------------------------------------------------


def small(**settings) -> tuple[Kvm, TraceWriter]:
    """A VM with one 2M leaf at 0x200 on host frame 0x40000, and a writer of its own."""
    slot = KvmMemorySlot(0, 0x1000, host_pfn=0x3FE00, host_level=2)
    vm = Kvm(KVM_X86_DEFAULT_VM, X86_4LEVEL, memslots=[slot])
    map_run(vm.direct_root, 0x200, 2, 1, 0x40000)
    return vm, TraceWriter(Task("CPU 0/KVM", 1007, 3), start=9.5, host_frames=0x4AB100, **settings)


def split_of(vm, start=0x205, end=0x400):
    return record(
        tdp_mmu_split_huge_pages_root(vm.direct_root, start, end, 1, shared=False, only_cross_boundary=True)
    )


def test_a_split_is_a_new_table_a_changed_entry_and_the_old_leaf():
    vm, writer = small(layout="ept-5.13")
    writer.call(split_of(vm))
    # S221 for the order, S260 for the bits: 57, 58; R W X, write-back, A, D, present; huge: bit 7. The
    # tables of root, 1G and 2M are rows 0 to 2, so the new one is row 3.
    assert writer.lines == [
        "       CPU 0/KVM-1007    [003] ...1.     9.500000: kvm_mmu_get_page: "
        "sp gen 0 gfn 200 l1 8-byte q0 direct wux nxe ad root 0 sync new",
        "       CPU 0/KVM-1007    [003] ...1.     9.500001: kvm_tdp_mmu_spte_changed: "
        "as id 0 gfn 200 level 2 old_spte 600000040000bb7 new_spte 4ab103907",
        "       CPU 0/KVM-1007    [003] ...1.     9.500002: kvm_mmu_split_huge_page: "
        "gfn 200 spte 600000040000bb7 level 2 errno 0",
    ]


@pytest.mark.parametrize(
    ("style", "prefix", "mark"),
    [
        ("ftrace", "CPU 0/KVM-1007    [003] ...1.     9.500000: kvm_tdp_mmu_spte_changed: as id",
         ": tracing"),
        ("trace-cmd", "CPU 0/KVM-1007  [003]     9.500000: kvm_tdp_mmu_spte_changed: as id",
         ": print:                tracing"),
        ("perf", "CPU 0/KVM    1007 [003]     9.500000:     kvmmmu:kvm_tdp_mmu_spte_changed: as id",
         "ftrace:print: tracing"),
        ("bare", "kvm_tdp_mmu_spte_changed: as id", "tracing"),
    ],
)  # fmt: skip
def test_a_style_changes_what_stands_before_the_event(style, prefix, mark):
    vm, writer = small(style=style)
    writer.call(record(tdp_mmu_zap_leafs(vm.direct_root, 0x205, 0x206)))
    writer.mark("convert", 0x205, 0x206, " to shared")
    zap, marker = writer.lines
    assert zap.lstrip().startswith(prefix)
    assert marker.endswith(f"{mark}_mark_write: tdpkit: convert gfn 205-206 to shared")


def test_every_style_and_number_of_columns_has_the_same_events():
    def events(**settings):
        vm, writer = small(**settings)
        writer.tree(vm.direct_root)
        writer.call(split_of(vm))
        writer.unmap(0x205, 0x207, record(tdp_mmu_zap_leafs(vm.direct_root, 0x205, 0x207)), hva=0x7F00 << 32)
        writer.fault(0x206, record(kvm_tdp_mmu_page_fault(vm, 0x206, is_private=False)))
        named = (re.search(r"\b((?:kvm|mark)_\w+): +(.*)", line) for line in writer.lines)
        return [found.groups() for found in named]

    texts = [events(style=style) for style in STYLES] + [events(columns=4)]
    assert len(texts[0]) == 5 + 3 + 1 + 2 + 6  # the tree, the split, the unmap and its two leaves, the fault
    assert texts.count(texts[0]) == len(texts)


def test_older_kernels_print_a_column_of_flags_less():
    _, writer = small(columns=4)
    writer.mark("zap", 1, 2)
    assert " [003] ....     9.500000: tracing_mark_write: tdpkit: zap gfn 1-2" in writer.text()
    assert "migrate-disable" not in writer.text()


def test_time_ascends_across_threads():
    vm, writer = small()
    writer.tree(vm.direct_root)
    writer.task = Task("qemu-system-x86", 1000, 1)
    writer.call(split_of(vm))
    times = [float(re.search(r" (\d+\.\d{6}): ", line)[1]) for line in writer.lines]
    assert times == sorted(set(times))


def test_the_header_counts_the_lines():
    vm, writer = small()
    writer.tree(vm.direct_root)
    assert "# entries-in-buffer/entries-written: 5/5 " in writer.text()  # two links with their tables, a leaf


def test_a_fault_is_an_exit_a_request_its_changes_and_an_entry():
    # A slot whose host pages are of 2M: the fault links a table at 512G and one at 1G, then maps 2M.
    slot = KvmMemorySlot(0, 0x1000, host_pfn=0x80000, host_level=2)
    vm = Kvm(KVM_X86_DEFAULT_VM, X86_4LEVEL, memslots=[slot])
    writer = TraceWriter(layout="ept-5.13", style="bare", host_frames=0x4AB100, nx_huge_pages=True)
    writer.fault(0x345, record(kvm_tdp_mmu_page_fault(vm, 0x345, is_private=False)), rip=0x1000)
    names = [line.split(":")[0] for line in writer.lines]
    assert names == [
        "kvm_exit", "kvm_page_fault", "kvm_mmu_spte_requested",
        "kvm_mmu_get_page", "kvm_tdp_mmu_spte_changed", "kvm_mmu_get_page", "kvm_tdp_mmu_spte_changed",
        "kvm_tdp_mmu_spte_changed", "kvm_mmu_set_spte", "kvm_entry",
    ]  # fmt: skip
    assert writer.lines[1].endswith("vcpu 0 rip 0x1000 address 0x0000000000345000 error_code 0x182")
    assert writer.lines[2].endswith("gfn 345 pfn 80345 level 2")
    # The mitigation maps it without X; it is entry 1 of its table.
    assert re.search(r"gfn 200 spte 600000080200bb3 \(rw-u\) level 2 at 4ab10[0-9a-f]008$", writer.lines[8])
    Reader(writer.lines, 0)  # holds the address to the table that was linked above


def test_a_fault_that_maps_nothing_asks_for_nothing():
    vm, writer = small(style="bare")
    writer.fault(0x205, record(kvm_tdp_mmu_page_fault(vm, 0x205, is_private=False)))
    assert [line.split(":")[0] for line in writer.lines] == ["kvm_exit", "kvm_page_fault", "kvm_entry"]


def test_a_fault_that_lost_its_race_asks_for_nothing_either():
    store = SetSpte(1, 5, 0x205, 1, SHADOW_NONPRESENT_VALUE, make_leaf_spte(0x40005, 1))
    writer = TraceWriter(style="bare")
    writer.fault(0x205, Recording(1, [store]))
    assert [line.split(":")[0] for line in writer.lines] == ["kvm_exit", "kvm_page_fault", "kvm_entry"]


def test_a_frame_of_a_tds_shared_half_is_printed_without_the_shared_bit():
    """S220: no text tells a mirror from a direct root."""
    td = Kvm(KVM_X86_TDX_VM, X86_4LEVEL)
    map_run(td.direct_root, 0x200, 2, 1, 0x40000)
    writer = TraceWriter(style="bare")
    writer.tree(td.direct_root)
    assert [line.split(" gfn ")[1].split()[0] for line in writer.lines] == ["0", "0", "0", "0", "200"]


def test_an_unmap_names_host_addresses():
    vm, writer = small(style="bare")
    writer.unmap(0x205, 0x207, record(tdp_mmu_zap_leafs(vm.direct_root, 0, 0)), hva=0x7F1234000000)
    assert writer.lines == [
        "kvm_unmap_hva_range: mmu notifier unmap range: 0x00007f1234205000 -- 0x00007f1234207000"
    ]


def test_a_lost_race_has_its_table_and_no_memory_has_none():
    writer = TraceWriter(style="bare")
    leaf = make_leaf_spte(0x40000, 2)
    lost, refused = (Trace("kvm_mmu_split_huge_page", 0x200, 2, leaf, errno=errno) for errno in (-EBUSY, -12))
    writer.call([lost, refused])
    assert [line.split(":")[0] for line in writer.lines] == [
        "kvm_mmu_get_page", "kvm_mmu_split_huge_page", "kvm_mmu_split_huge_page",
    ]  # fmt: skip
    assert writer.lines[1].endswith("errno -16")


def test_a_removed_table_is_announced_before_its_entries():
    table, leaf = make_nonleaf_spte(4), make_leaf_spte(0x40000, 1)
    changes = [
        Trace("kvm_tdp_mmu_spte_changed", 0x200, 2, table, SHADOW_NONPRESENT_VALUE),
        Trace("kvm_tdp_mmu_spte_changed", 0x200, 1, leaf, FROZEN_SPTE),
        Trace("kvm_tdp_mmu_spte_changed", 0x201, 1, SHADOW_NONPRESENT_VALUE, FROZEN_SPTE),
    ]
    writer = TraceWriter(style="bare", layout="ept-5.13", host_frames=0x4AB100)
    writer.call(Recording(None, changes))
    assert writer.lines == [
        "kvm_tdp_mmu_spte_changed: as id 0 gfn 200 level 2 old_spte 4ab104907 new_spte 0",
        "kvm_mmu_prepare_zap_page: sp gen 0 gfn 200 l1 8-byte q0 direct wux nxe ad root 0 sync",
        "kvm_tdp_mmu_spte_changed: as id 0 gfn 200 level 1 old_spte 600000040000b37 new_spte 5a0",
        "kvm_tdp_mmu_spte_changed: as id 0 gfn 201 level 1 old_spte 0 new_spte 5a0",
    ]


def test_the_children_of_a_split_are_executable_again_under_the_mitigation():
    vm, writer = small(layout="ept-5.13", nx_huge_pages=True)
    writer.tree(vm.direct_root)
    writer.call(split_of(vm))
    writer.call(record(tdp_mmu_zap_leafs(vm.direct_root, 0x205, 0x207)))
    assert "old_spte 600000040000bb3 " in writer.text()
    assert "gfn 206 level 1 old_spte 600000040006b37 new_spte 0" in writer.text()
    reader = Reader(writer.lines, 0, exec_bits=4)
    assert reader.leaf_runs() == [[0x200, 1, 5, 0x40000], [0x207, 1, 0x1F9, 0x40007]]


def test_wrapped_lines_are_short_and_lose_nothing():
    vm, writer = small()
    writer.tree(vm.direct_root)
    short = wrapped(writer.lines)
    assert max(map(len, short)) <= 78 < max(map(len, writer.lines))
    assert " ".join(short).split() == " ".join(writer.lines).split()
    assert wrapped([""]) == [""]


def test_what_no_trace_has_is_refused():
    with pytest.raises(InvalidValueError, match="4 or 5 columns"):
        TraceWriter(columns=3)
    with pytest.raises(InvalidValueError, match="'xml'"):
        TraceWriter(style="xml")
    with pytest.raises(InvalidValueError, match="'ept-9'"):
        TraceWriter(layout="ept-9")
    with pytest.raises(InvalidValueError, match="'burn'"):
        TraceWriter().mark("burn", 1, 2)
    vm, _ = small()
    with pytest.raises(InvalidValueError, match="40 bits"):
        TraceWriter(host_frames=(1 << 40) - 1).tree(vm.direct_root)


# ---- layouts -------------------------------------------------------------------------------------------


def test_entries_in_the_layout_of_another_kernel():
    """By hand, from S20 and S260."""
    for spte, level, older in [
        (SHADOW_NONPRESENT_VALUE, 1, 0),
        (FROZEN_SPTE, 1, 0x5A0),
        (1 << 63 | 0x4AB106000 | 0xD07, 3, 0x4AB106907),  # a table: XU and bit 63 gone
        (1 << 63 | 1 << 55 | 1 << 53 | 0x310AA1000 | 0xF77, 1, 3 << 57 | 0x310AA1000 | 0xB77),
        (1 << 63 | 1 << 53 | 0x322600000 | 0xBF1, 2, 1 << 57 | 0x322600000 | 0xBF1),  # read-only
        (1 << 63 | 1 << 60 | 5 << 52 | 1 << 62 | 0x1000 | 0x830, 1, 1 << 52 | 5 << 54 | 0x1000 | 0x830),
        (1 << 63 | 0x3E000000A056, 1, 0x3E000000A056),  # an MMIO entry
    ]:
        assert in_layout(spte, level, EPT_7_2, EPT_5_13) == older, hex(spte)
        assert in_layout(older, level, EPT_5_13, EPT_7_2) == spte, hex(older)


def test_an_old_kernel_has_no_present_bit():
    old = LAYOUTS["ept-5.12"]
    assert in_layout(0x4AB106907, 3, EPT_5_13, old) == 0x4AB106107
    assert in_layout(0x600000310AA1B77, 1, EPT_5_13, old) == 0x310AA1F77  # 10 and 11 writable
    assert in_layout(0x5A0, 1, EPT_5_13, old) == 1 << 59
    assert in_layout(0x3E000000A056, 1, EPT_5_13, old) == 3 << 52 | 0x3E000000A056


def test_an_entry_that_goes_to_another_layout_of_its_family_comes_back():
    draw, said = random.Random(5), 0
    recorded = [
        int(case["huge_spte"], 16) for case in cases_of("spte_bits") if case["masks"].startswith("EPT")
    ]
    made = [make_leaf_spte(draw.getrandbits(39), 1) & ~(draw.getrandbits(3) << 8) for _ in range(50)]
    for spte in {*recorded, *made}:
        for target in EPT:
            try:
                there = in_layout(spte, 2, EPT_7_2, target)
            except InvalidValueError:
                continue
            said += 1
            assert target.kind_of(there, 2) == EPT_7_2.kind_of(spte, 2)
            assert in_layout(there, 2, target, EPT_7_2) == spte
    assert said > 100


@pytest.mark.parametrize(
    ("spte", "level", "source", "target", "why"),
    [
        (0x5A0, 1, "ept-7.2", "ept-5.13", "no empty entry"),
        (make_leaf_spte(1, 1) | 1 << 57, 1, "ept-7.2", "ept-5.13", "no place"),
        (make_leaf_spte(1, 1) & ~(1 << 10), 1, "ept-7.2", "ept-5.13", "no place"),  # X without XU
        (make_leaf_spte(1, 1) & ~(1 << 63), 1, "ept-7.2", "ept-5.13", "no place"),  # nor empty nor sound
        (
            1 << 52 | 0x3E000000A056,
            1,
            "ept-5.13",
            "ept-5.12",
            "no place",
        ),  # a generation in the MMIO type's bits
        (0x600000310AA1B77, 1, "ept-5.13", "npt-5.13", "no counterpart"),
    ],
)
def test_what_a_layout_cannot_say_is_refused(spte, level, source, target, why):
    with pytest.raises(InvalidValueError, match=why):
        in_layout(spte, level, LAYOUTS[source], LAYOUTS[target])


def test_npt_entries_of_two_ages():
    """By hand, from S261: writable bits 9 and 10 became so in 5.13, with bit 11 for present."""
    assert in_layout(0x8BE2171E67, 1, LAYOUTS["npt-5.13"], LAYOUTS["npt-5.12"]) == 0x8BE2171C67
    assert in_layout(0x8BE2171C67, 1, LAYOUTS["npt-5.12"], LAYOUTS["npt-7.2"]) == 0x8BE2171E67
