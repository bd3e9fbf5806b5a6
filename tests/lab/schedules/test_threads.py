"""A thread's own state as a value: equal where nothing differs that matters to what it does next."""

import pytest

from tdpkit.engine.events import Flush
from tdpkit.engine.gfn import GfnRange
from tdpkit.engine.tdp_mmu import KvmBug
from tdpkit.lab.schedules.threads import Report, Run, Thread


def run(body, *answers) -> Run:
    """A run of `body` that has got these answers."""
    run = Run(Thread("A", "split", GfnRange(2, 4), body))
    for answer in answers:
        run.resume()
        run.answer = answer
    return run


def asks(times: int):
    """Ask so often, and keep the sum of the answers."""

    def body():
        total = 0
        for _ in range(times):
            total += yield Flush()
        return Report(total)

    return body


def test_a_run_at_the_same_place_with_the_same_values_is_in_the_same_state():
    assert run(asks(3), 1, 2).key() == run(asks(3), 1, 2).key()
    assert run(asks(3), 1, 2, 0).key() == run(asks(3), 2, 1, 0).key(), "the sum is kept, not its parts"


def test_another_place_another_value_or_another_answer_is_another_state():
    keys = [run(asks(3), *answers).key() for answers in ((), (1,), (2,), (1, 1), (1, 2), (2, 1))]
    assert len({*keys}) == len(keys)


def inner(total: int):
    yield Flush()
    return total


def test_what_a_run_calls_is_part_of_its_state():
    def body(first: int):
        def outer():
            return (yield from inner(first))

        return outer

    assert run(body(1), 0).key() != run(body(2), 0).key()
    assert run(body(1), 0).key() == run(body(1), 0).key()


def test_lists_and_what_a_closure_counts_are_part_of_it():
    def counting(step: int):
        def body():
            count, kept = 0, []

            def each():
                nonlocal count
                count += step
                kept.append(count)
                yield Flush()

            while True:
                yield from each()

        return body

    assert run(counting(1), 0, 0).key() == run(counting(1), 0, 0).key()
    assert run(counting(1), 0, 0).key() != run(counting(2), 0, 0).key()
    assert run(counting(1), 0, 0).key() != run(counting(1), 0, 0, 0).key()


def test_a_run_that_has_ended_is_known_by_its_result():
    ended = [run(asks(1), answer, None) for answer in (1, 1, 2)]
    assert all(one.done for one in ended)
    assert ended[0].key() == ended[1].key() != ended[2].key()
    assert ended[0].result == Report(1)


def test_a_kvm_bug_is_a_result():
    def body():
        yield Flush()
        raise KvmBug("the page is gone")

    ended = run(body, 0, None)
    assert ended.done
    assert ended.result == Report("KVM_BUG: the page is gone")


@pytest.mark.parametrize(
    ("report", "says_none"),
    [(Report(0), True), (Report(0, True), False), (Report(0, False, True), False), (Report(-12), False)],
)
def test_who_neither_split_nor_flushed_says_none(report, says_none):
    assert report.says_none == says_none
