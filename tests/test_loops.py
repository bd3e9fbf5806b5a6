"""What a test over many cases says of the one that fails."""

import pytest

from tests.oracles.loops import over


def test_every_case_is_tried_until_one_fails_which_is_named():
    tried = []

    @over(number for number in (3, 4, 5))
    def below_four(number):
        tried.append(number)
        assert number < 4

    with pytest.raises(AssertionError) as failed:
        below_four()
    assert tried == [3, 4]
    assert failed.value.__notes__ == ["for 4"]


def test_no_cases_are_no_test():
    with pytest.raises(AssertionError):
        over([])
