"""Each line of public traces is the event it means, however a tool or a mailer sets it (S220, S263)."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tdpkit.lab.traces.events import (
    Announced,
    Border,
    Changed,
    Damaged,
    Foreign,
    Lost,
    MarkMmio,
    PageFault,
    PageTable,
    Requested,
    SetSpte,
    SplitHugePage,
    UnmapHva,
    Where,
    events_of,
)

HERE = Where(1, 1002, "907.100001")
HEAD = "        CPU 1/KVM-1002 [005] ...1. 907.100001: "
EVENTS = {
    "kvm_mmu_spte_requested: gfn 3f pfn 2a70c4 level 1": Requested(HERE, 0x3F, 0x2A_70C4, 1),
    "kvm_tdp_mmu_spte_changed: as id 0 gfn 0 level 4 old_spte 0 new_spte 1d0a33907": Changed(
        HERE, 0, 0, 4, 0, 0x1_D0A3_3907
    ),
    "kvm_tdp_mmu_spte_changed: as id 1 gfn a0 level 1 old_spte 600000455231b77 new_spte 5a0": Changed(
        HERE, 1, 0xA0, 1, 0x0600_0004_5523_1B77, 0x5A0
    ),
    "kvm_tdp_mmu_spte_changed: as id 0 gfn ffc00 level 2 old_spte 800000010bc98907 "
    "new_spte 80000000000005a0": (
        Changed(HERE, 0, 0xF_FC00, 2, 0x8000_0001_0BC9_8907, 0x8000_0000_0000_05A0)
    ),
    "kvm_mmu_split_huge_page: gfn 600 spte 600000322600bf3 level 2 errno 0": SplitHugePage(
        HERE, 0x600, 0x0600_0003_2260_0BF3, 2, 0
    ),
    "kvm_mmu_split_huge_page: gfn 40000 spte 600000340000bf3 level 3 errno -16": SplitHugePage(
        HERE, 0x4_0000, 0x0600_0003_4000_0BF3, 3, -16
    ),
    "kvm_mmu_set_spte: gfn 3f spte 6000002a70c4b77 (rwxu) level 1 at 1d0a331f8": SetSpte(
        HERE, 0x3F, 0x0600_0002_A70C_4B77, "rwxu", 1, 0x1_D0A3_31F8
    ),
    "kvm_mmu_set_spte: gfn 600 spte 60000019ba00bf3 (rw-u) level 2 at 1d0a32018": SetSpte(
        HERE, 0x600, 0x0600_0001_9BA0_0BF3, "rw-u", 2, 0x1_D0A3_2018
    ),
    "kvm_mmu_set_spte: gfn efff1 spte 8be2171025 (r-x) level 1 at 8a53b01f88": SetSpte(
        HERE, 0xE_FFF1, 0x8B_E217_1025, "r-x", 1, 0x8A_53B0_1F88
    ),
    "kvm_mmu_set_spte: gfn 32319fe01 spte 6000001c6e00b77 (rwxu) level 1": SetSpte(
        HERE, 0x3_2319_FE01, 0x0600_0001_C6E0_0B77, "rwxu", 1, -1
    ),
    "kvm_page_fault: address 84e000 error_code 4": PageFault(HERE, -1, -1, 0x84_E000, 4),
    "kvm_page_fault: vcpu 3 address 0x000000000084e000 error_code 0x2": PageFault(HERE, 3, -1, 0x84_E000, 2),
    "kvm_page_fault: vcpu 0 rip 0xfff0 address 0x00000000000fe0f0 error_code 0x784": PageFault(
        HERE, 0, 0xFFF0, 0xF_E0F0, 0x784
    ),
    "mark_mmio_spte: sptep:000000004af45ef0 gfn b access 6 gen c": MarkMmio(HERE, 0xB, 6, 0xC),
    "kvm_mmu_get_page: sp gen 0 gfn 14b800 l1 8-byte q0 direct wux nxe ad root 0 sync new": PageTable(
        HERE, 0x14_B800, 1, "l1 8-byte q0 direct wux nxe ad root 0 sync", "new"
    ),
    "kvm_mmu_get_page: sp gen 2a gfn 40000 l2 8-byte q0 wux !nxe !ad root 1 unsync existing": PageTable(
        HERE, 0x4_0000, 2, "l2 8-byte q0 wux !nxe !ad root 1 unsync", "existing"
    ),
    "kvm_mmu_get_page: new sp gfn 0 4 q0 direct wux pae nxe root 0 sync": PageTable(
        HERE, 0, 0, "4 q0 direct wux pae nxe root 0 sync", "new"
    ),
    "kvm_mmu_get_page: existing sp gfn 80 4 q0 direct wux pae nxe root 0 sync": PageTable(
        HERE, 0x80, 0, "4 q0 direct wux pae nxe root 0 sync", "existing"
    ),
    "kvm_mmu_prepare_zap_page: sp gen 0 gfn 0 l3 8-byte q0 direct wux nxe ad root 0 sync": PageTable(
        HERE, 0, 3, "l3 8-byte q0 direct wux nxe ad root 0 sync", "zapped"
    ),
    "kvm_unmap_hva_range: mmu notifier unmap range: 0x0070f1aac05000 -- 0x0070f1aac07000": UnmapHva(
        HERE, 0x70_F1AA_C050_00, 0x70_F1AA_C070_00
    ),
    "kvm_entry: vcpu 2, rip 0xffffffff81000000": Border(HERE, "kvm_entry", 2),
    "kvm_exit: reason EPT_VIOLATION rip 0x0 info 784 0": Border(HERE, "kvm_exit", -1),
    "kvm_exit: vcpu 4 reason EPT_VIOLATION rip 0x0 info1 0x0000000000000784 info2 0x0000000000000000 "
    "intr_info 0x00000000 error_code 0x00000000": Border(HERE, "kvm_exit", 4),
    "tracing_mark_write: tdpkit: convert gfn 84d-86e to shared": Announced(HERE, "convert", 0x84D, 0x86E),
    "tracing_mark_write: punch gfns 0x800 to 0xa00": Announced(HERE, "punch", 0x800, 0xA00),
}
"""Lines by what they mean: values of public traces' shape, numbers of ours."""


def events(*lines, tasks=None):
    return [*events_of(lines, tasks)]


def without_place(event):
    return event._replace(where=Where(0, 0, ""))


@pytest.mark.parametrize("text", EVENTS)
def test_a_line_is_the_event_it_means(text):
    assert events(HEAD + text) == [EVENTS[text]]
    bare = EVENTS[text]._replace(where=Where(1, 0, ""))
    assert events(text) == [bare]


@pytest.mark.parametrize("text", EVENTS)
@pytest.mark.parametrize(
    "head",
    [
        "        CPU 1/KVM-1002 [005] .... 907.100001: ",
        "        CPU 1/KVM-1002 [005] d..1. 907.100001: ",
        "        CPU 1/KVM-1002 [005] DNh2. 907.100001: ",
        "        CPU 1/KVM-1002    (    998) [005] b..1.   907.100001: ",
        "        CPU 1/KVM-1002    (-------) [005] ...1   907.100001: ",
        "       CPU 1/KVM-1002  [005] 907.100001: ",
        "       CPU 1/KVM-1002  [005] ..... 907.100001: ",
        "       CPU 1/KVM  1002 [005]   907.100001: kvmmmu:",
        "CPU 1/KVM 998/1002 [005] 907.100001:     kvm:",
        "> > CPU 1/KVM-1002 [005] ...1. 907.100001: ",
        ">         CPU 1/KVM-1002 [005] ...1. 907.100001: ",
    ],
)
def test_each_tool_sets_it_in_its_own_way(head, text):
    padded = text.replace(": ", ":      ", 1)
    for line in (head + text, head + padded, head + text + "  \r"):
        tasks = {}
        assert events(line, line, tasks=tasks) == [
            EVENTS[text],
            EVENTS[text]._replace(where=HERE._replace(line=2)),
        ]
        assert tasks == {1002: "CPU 1/KVM"}


NAMES = [
    "CPU 0/KVM",
    "a-1 b-2",
    "x [3] y",
    "12",
    "<b>",
    "<script>alert(1)</script>",
    "kworker/u16:3",
    "-7-",
    "é",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("set_as", ["{:>16}-77    [000] d..1. 3.5: ", "{:>16} 77 [000]  3.5: kvmmmu:"])
def test_a_task_has_any_name(name, set_as):
    tasks = {}
    text = next(iter(EVENTS))
    (event,) = events(set_as.format(name) + text, tasks=tasks)
    assert (event.where, tasks) == (Where(1, 77, "3.5"), {77: name})


def test_a_clock_may_count_without_a_point():
    (event,) = events(f"  CPU 1/KVM-1002 [005] ...1. 3400017: {next(iter(EVENTS))}")
    assert event.where == Where(1, 1002, "3400017")


# ---- wrapped ---------------------------------------------------------------------------------------------


@st.composite
def wrapped(draw, line):
    """A line broken at up to three of its spaces, each piece quoted or not."""
    words = line.split()
    places = draw(st.sets(st.integers(1, len(words) - 1), max_size=3))
    edges = [0, *sorted(places), len(words)]
    quote = draw(st.sampled_from(["", "> ", ">> ", "> > "]))
    pieces = [" ".join(words[low:high]) for low, high in pairwise(edges)]
    return [quote + " " * 8 + pieces[0], *(quote + piece for piece in pieces[1:])]


@given(st.data(), st.lists(st.sampled_from([*EVENTS]), min_size=1, max_size=4))
def test_lines_wrapped_at_any_spaces_are_the_same_events(data, texts):
    lines, expected = [], []
    for text in texts:
        expected.append(EVENTS[text]._replace(where=HERE._replace(line=len(lines) + 1)))
        lines += data.draw(wrapped(HEAD + text))
    tasks = {}
    assert events(*lines, tasks=tasks) == expected
    assert tasks == {1002: "CPU 1/KVM"}


@given(st.data(), st.sampled_from([*EVENTS]))
def test_a_bare_line_may_be_wrapped_too(data, text):
    assert events(*data.draw(wrapped(text))) == [EVENTS[text]._replace(where=Where(1, 0, ""))]


def test_what_stands_before_a_wrapped_line_is_not_the_name_of_its_task():
    tasks = {}
    text, event = next(iter(EVENTS.items()))
    lines = ["Here is what it prints on our host,", HEAD.rstrip(), text]
    assert events(*lines, tasks=tasks) == [
        Damaged(Where(1, 0, ""), lines[0], "no event"),
        event._replace(where=HERE._replace(line=2)),
    ]
    assert tasks == {1002: "CPU 1/KVM"}


def test_a_short_line_between_others_is_not_the_name_of_a_task_either():
    for read in (
        "kvm_entry: vcpu 2, rip 0xffffffff81000000",
        "kvm_tdp_mmu_spte_changed: as id 0 gfn 0 level 4 old_spte 0 new_spte 1d0a33907",
    ):
        tasks = {}
        found = events(HEAD + read, "Log", HEAD + read, tasks=tasks)
        assert found[1] == Damaged(Where(2, 0, ""), "Log", "no event")
        assert found[2] == EVENTS[read]._replace(where=HERE._replace(line=3))
        assert tasks == {1002: "CPU 1/KVM"}


def test_a_wide_line_of_another_event_may_be_wrapped():
    first = f"{HEAD}kvm_apic_accept_irq: apicid 0 vec 236 (Fixed|edge)"
    assert events(first, "and more of it") == [Foreign(HERE, "kvm_apic_accept_irq")]
    short = f"{HEAD}kvm_hypercall: nr"
    assert events(short, "x") == [Foreign(HERE, "kvm_hypercall"), Damaged(Where(2, 0, ""), "x", "no event")]


# ---- not an event ----------------------------------------------------------------------------------------


def test_stacks_comments_and_empty_lines_are_passed_over():
    text, event = next(iter(EVENTS.items()))
    lines = [
        "# tracer: nop",
        "#                                _-----=> irqs-off",
        HEAD + text,
        "        CPU 1/KVM-1002 [005] ...1. 907.100002: <stack trace>",
        " => tdp_mmu_iter_set_spte",
        " => kvm_tdp_mmu_map",
        HEAD + text,
        "\tffffffffc0a1b2c3 kvm_tdp_mmu_map+0x1a3 ([kernel.kallsyms])",
        "\t    7f3a12345678 __ioctl+0x3b (/usr/lib/x86_64-linux-gnu/libc.so.6)",
        "",
        "<stack trace>",
        "=> kvm_mmu_load",
        HEAD + text,
        "CPU 1/KVM-1002 [005] ...1. 907.100003: kvm_mmu_load <-vcpu_enter_guest",
    ]
    assert events(*lines) == [event._replace(where=HERE._replace(line=line)) for line in (3, 7, 13)]


def test_other_events_are_handed_out_by_name():
    lines = [
        f"{HEAD}kvm_userspace_exit: reason KVM_EXIT_IO (2)",
        f"{HEAD}sched_switch: prev_comm=CPU 1/KVM prev_pid=1002 prev_prio=120 ==> next_comm=swapper/5",
        f"{HEAD}bprint: anything",
        f"{HEAD}tracing_mark_write: hello",
    ]
    names = ["kvm_userspace_exit", "sched_switch", "bprint", "tracing_mark_write"]
    assert events(*lines) == [Foreign(HERE._replace(line=at), name) for at, name in enumerate(names, 1)]


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("CPU:3 [LOST 1234 EVENTS]", 1234),
        ("CPU:3 [LOST EVENTS]", 1),
        ("CPU:11 [77 EVENTS DROPPED]", 77),
        ("CPU:0 [EVENTS DROPPED]", 1),
        ("##### CPU 2 buffer started ####", 1),
    ],
)
def test_lost_events_are_said(line, count):
    text, event = next(iter(EVENTS.items()))
    assert events(HEAD + text, line) == [event, Lost(Where(2, 0, ""), count)]


@pytest.mark.parametrize(
    "cut",
    [
        "kvm_tdp_mmu_spte_changed: as id 0 gfn 5 level 1 old_spte 0 new_spte",
        "kvm_tdp_mmu_spte_changed: as id 0 gfn 5 level x old_spte 0 new_spte 5a0",
        "kvm_tdp_mmu_spte_changed: as id 0 gfn 5 level 1 old_spte 0 new_spte 600000310aa1b77600000310aa1b77",
        "kvm_mmu_split_huge_page: gfn 600 spte 600000322600bf3 level 2",
        "kvm_mmu_set_spte: gfn 600 spte 60000019ba00bf3 (rw",
        "kvm_unmap_hva_range: mmu notifier unmap range: 0x0070f1aac05000",
        "kvm_page_fault: vcpu 3 address 0x000000000084e000",
    ],
)
def test_a_cut_line_is_damaged_and_says_so_with_its_number(cut):
    text, event = next(iter(EVENTS.items()))
    name = cut.partition(":")[0]
    assert events(HEAD + text, HEAD + cut, HEAD + text) == [
        event,
        Damaged(Where(2, 0, ""), (HEAD + cut).strip(), f"{name} is not whole"),
        event._replace(where=HERE._replace(line=3)),
    ]


def test_each_damaged_line_has_its_number():
    lines = ["one", "two", "three", "four", "five", "six"]
    found = events(*lines)
    assert [(event.where.line, event.text) for event in found] == [*enumerate(lines, 1)]


@given(st.lists(st.text(max_size=60), max_size=8))
@example(["\n", ">", "> ", "x: ", ": : :", "a-1 [2] 3.4: ", "a-1 [2] 3.4: kvm_entry:"])
@example(["[LOST 1 EVENTS]", "kvm_mmu_set_spte:", "at", "at 5"])
def test_any_text_is_read_and_each_event_stands_in_a_line(lines):
    found = events(*lines)
    numbers = [event.where.line for event in found]
    assert numbers == sorted(numbers)
    assert all(1 <= number <= len(lines) for number in numbers)


WORDS = [
    "",
    "0",
    "x",
    "a ",
    "[ ",
    "[2]",
    "-",
    "> ",
    ":",
    "\t",
    "=>",
    "3.4:",
    "a-1 [2] 3.4:",
    "sp",
    "new",
    "at",
]


@pytest.mark.parametrize("word", [*WORDS, "zap gfn", "zap", "gfn 0", "convert", "kvm_entry:"])
def test_no_text_makes_a_line_take_long(word):
    """A thousand letters of it, with an event's name before them and without: quadratic would be seconds."""
    long = (f"{word} " * 1024)[:1023] + "\x01"
    heads = ["", HEAD, f"{HEAD}tracing_mark_write: ", f"{HEAD}kvm_mmu_get_page: sp gfn 0 l1 8-byte ", "a"]
    begin = time.process_time()
    for head in heads:
        events(*[head + long] * 10)
    assert time.process_time() - begin < 2


def test_the_header_of_an_overrun_buffer_counts_what_is_missing():
    """Of 900 events that were written 400 are still there (S268); a buffer that holds all lost none."""
    header = "# entries-in-buffer/entries-written: {}/900   #P:8"
    assert [event.events for event in events_of([header.format(400)])] == [500]
    assert [*events_of([header.format(900)])] == []
