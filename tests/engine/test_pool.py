"""Rows of page-table pages never move, are clean when handed out, and come back when nobody looks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdpkit.engine.gfn import X86_4LEVEL, Geometry, InvalidValueError
from tdpkit.engine.pool import POISON, PageTablePool
from tdpkit.engine.spte import is_shadow_present_pte, spte_to_pfn

TOY = Geometry(2, 3, 3)
HOLE = 0x8000_0000_0000_0000

POOLS = pytest.mark.parametrize("shuffle", [None, 0, 1])
CAPACITIES = pytest.mark.parametrize("capacity", [1, 2, 7])


@POOLS
@CAPACITIES
def test_a_view_stays_valid_while_the_pool_grows(capacity, shuffle):
    """A stale view would write into memory that is no longer the table."""
    pool = PageTablePool(TOY, capacity=capacity, shuffle=shuffle)
    held = {}
    for number in range(100):
        row = pool.alloc()
        held[row] = pool.table(row)
        held[row][number % 4] = number + 1
    for number, (row, view) in enumerate(held.items()):
        assert pool.table(row)[number % 4] == number + 1
        pool.table(row)[0] = 1000 + row
        assert view[0] == 1000 + row


@POOLS
@CAPACITIES
def test_rows_are_distinct_and_full_of_non_present_entries(capacity, shuffle):
    pool = PageTablePool(TOY, capacity=capacity, shuffle=shuffle)
    rows = [pool.alloc() for _ in range(40)]
    assert len(set(rows)) == 40
    for row in rows:
        assert pool.table(row).tolist() == [HOLE] * 4
        pool.table(row)[:] = memoryview(bytearray(range(32))).cast("Q")  # no two rows share an entry
    assert pool.rows_in_use == 40


def test_shuffled_rows_come_in_another_order_and_the_same_one_for_the_same_seed():
    def order(shuffle):
        pool = PageTablePool(TOY, capacity=64, shuffle=shuffle)
        return [pool.alloc() for _ in range(64)]

    assert sorted(order(1)) == order(None) == list(range(64))
    assert order(1) == order(1)
    assert order(1) != order(None)


def test_a_page_carries_its_role_and_the_first_frame_of_its_table():
    pool = PageTablePool(X86_4LEVEL)
    low, high = pool.alloc(), pool.alloc()
    pool.init_page(low, 0x780 | 1, 0x12345)
    pool.init_page(high, 0x780 | 3, 0x123456789)
    assert (pool.role[low], pool.gfn[low]) == (0x781, 0x12200)  # 512 frames of 4K
    assert (pool.role[high], pool.gfn[high]) == (0x783, 0x120000000)  # 2^27 frames
    assert sorted(pool.pages()) == sorted([(low, 1, 0x12200), (high, 3, 0x120000000)])
    pool.free(low)
    assert list(pool.pages()) == [(high, 3, 0x120000000)]


def test_a_freed_row_is_poisoned_while_a_reader_may_still_look_at_it():
    pool = PageTablePool(TOY)
    row, kept = pool.alloc(), pool.alloc()
    view = pool.table(row)
    pool.rcu_read_lock()
    pool.free(row)
    assert set(view) == {0x6B6B_6B6B_6B6B_6B6B} == {POISON}
    assert set(pool.table(kept)) == {HOLE}
    pool.rcu_read_unlock()


def test_a_walk_that_follows_poison_finds_no_table_at_all():
    """Reading some other table's entries instead would go unnoticed."""
    pool = PageTablePool(TOY)
    pool.alloc()
    assert is_shadow_present_pte(POISON)
    with pytest.raises(IndexError):
        pool.table(spte_to_pfn(POISON))


def test_a_freed_row_is_not_used_again_before_the_last_reader_has_left():
    pool = PageTablePool(TOY, capacity=4)
    rows = [pool.alloc() for _ in range(4)]
    pool.rcu_read_lock()
    pool.rcu_read_lock()
    pool.free(rows[2])
    assert rows[2] not in {pool.alloc() for _ in range(8)}
    pool.rcu_read_unlock()
    assert rows[2] not in {pool.alloc() for _ in range(8)}
    pool.rcu_read_unlock()
    grown = len(pool.role)
    reused = {pool.alloc() for _ in range(grown - pool.rows_in_use)}
    assert rows[2] in reused
    assert len(pool.role) == grown  # not one row too many was made
    assert set(pool.table(rows[2])) == {HOLE}


def test_a_freed_row_is_free_at_once_when_nobody_reads():
    pool = PageTablePool(TOY, capacity=1)
    row = pool.alloc()
    pool.table(row)[:] = memoryview(bytearray(b"\xff" * 32)).cast("Q")
    pool.free(row)
    assert pool.rows_in_use == 0
    assert pool.alloc() == row
    assert set(pool.table(row)) == {HOLE}
    assert len(pool.role) == 1


@given(
    st.lists(st.sampled_from(["alloc", "free", "lock", "unlock"]), max_size=60),
    st.integers(1, 3),
    st.sampled_from([None, 5]),
)
def test_the_accounts_of_the_pool_are_those_of_a_set(steps, capacity, shuffle):
    """Rows in use, rows that wait for readers and rows to hand out never mix."""
    pool = PageTablePool(TOY, capacity=capacity, shuffle=shuffle)
    in_use, waiting, readers = [], set(), 0
    for step in steps:
        if step == "alloc":
            row = pool.alloc()
            assert row not in in_use
            assert row not in waiting
            assert set(pool.table(row)) == {HOLE}
            pool.table(row)[1] = row
            in_use.append(row)
        elif step == "free" and in_use:
            row = in_use.pop(len(in_use) // 2)
            pool.free(row)
            if readers:
                waiting.add(row)
        elif step == "lock":
            pool.rcu_read_lock()
            readers += 1
        elif step == "unlock" and readers:
            pool.rcu_read_unlock()
            readers -= 1
            waiting = waiting if readers else set()
        assert pool.rows_in_use == len(in_use)
        assert pool.rcu_readers == readers
        assert all(pool.table(row)[1] == row for row in in_use)
        assert all(set(pool.table(row)) == {POISON} for row in waiting)


def test_a_row_costs_eight_bytes_an_entry_and_twelve_for_its_gfn_and_role():
    pool = PageTablePool(X86_4LEVEL, capacity=16)
    pool.alloc()
    assert pool.nbytes == 16 * (512 * 8 + 8 + 4)


def test_rows_of_a_chunk_from_outside_lie_in_its_memory_side_by_side():
    pool = PageTablePool(TOY, capacity=2)
    pool.alloc()
    values = memoryview(bytearray(3 * 4 * 8)).cast("Q")
    rows = pool.add_chunk(values, 3)
    before = pool.rows_in_use
    values[5] = 77
    assert pool.table(rows[1])[1] == 77
    pool.table(rows[2])[3] = 88
    assert values[11] == 88
    assert before == 1 + 3
    assert not {pool.alloc() for _ in range(10)} & set(rows)


@pytest.mark.parametrize("capacity", [0, -3])
def test_a_pool_without_rows_is_refused(capacity):
    with pytest.raises(InvalidValueError, match=f"at least 1 row; {capacity} is too few"):
        PageTablePool(TOY, capacity=capacity)
