"""Text in lines: what belongs together stays together."""

from tdpkit.lab.words import kept_together, lines_of, words_of


def test_a_number_in_groups_and_a_range_are_one_word_each() -> None:
    text = "1 234 567 cases of [0, 2) and ([2T+4K, 14T+4K)), 89 more: -12, [5, 6); 4 590 schedules, 16 of 16"
    words = words_of(text)
    assert " ".join(words) == text
    together = ["1 234 567", "[0, 2)", "([2T+4K, 14T+4K)),", "[5, 6);", "4 590"]
    assert [word for word in words if " " in word] == together


def test_lines_are_as_long_as_they_may_be() -> None:
    assert lines_of("one two three four", 9) == ["one two", "three", "four"]
    assert lines_of("one two", 7) == ["one two"]
    assert lines_of("a longer-than-anything word", 6) == ["a", "longer-than-anything", "word"]
    assert lines_of("in 6 303 771 visits", 12) == ["in 6 303 771", "visits"]
    assert lines_of("", 5) == []


def test_a_page_breaks_no_number_and_no_range() -> None:
    kept = kept_together("6 303 771 visits of [0, 2)")
    assert kept.split(" ") == ["6\u00a0303\u00a0771", "visits", "of", "[0,\u00a02)"]
