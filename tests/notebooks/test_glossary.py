"""The glossary: in order, each term once, and none that the course does not use."""

import pytest
import re

from tests.notebooks.write_outputs import NOTEBOOKS, ROOT

LINES = re.findall(r"^\*\*(.+?)\*\*: (.+)$", (ROOT / "notebooks/glossary.md").read_text(encoding="utf-8"), re.M)
COURSE = "\n".join(path.read_text(encoding="utf-8") for path in [*NOTEBOOKS, ROOT / "README.md"])


def test_terms_are_in_order_and_each_is_there_once() -> None:
    terms = [term for term, _ in LINES]
    assert len(terms) > 40
    assert terms == sorted(set(terms), key=lambda term: (term.casefold(), term))


@pytest.mark.slow
def test_the_course_uses_every_term() -> None:
    def used(term: str) -> bool:
        return any(re.search(rf"\b{re.escape(word)}", COURSE, re.IGNORECASE) for word in term.split(", "))

    assert [term for term, _ in LINES if not used(term)] == []


def test_a_meaning_is_one_sentence() -> None:
    assert [term for term, meaning in LINES if not re.fullmatch(r"[^.]+(\.\d[^.]*)*\.", meaning)] == []
