"""`notebooks/sources.md`: its form, and that what the kit cites is there.

An entry is cited by its number, as in (S43) or (S60-S65), a mail by its own, as in (M13).
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.oracles.loops import over

from tdpkit.lab.claims.ledger import CLAIMS

ROOT = Path(__file__).parents[2]
SOURCES = (ROOT / "notebooks" / "sources.md").read_text(encoding="utf-8")
ENTRIES = re.findall(r"^\*\*([SMKR])(\d+)\.\*\* (.*?)(?=\n\n|\Z)", SOURCES, flags=re.MULTILINE | re.DOTALL)
AUTHORS = {"Yan Zhao", "Kai Huang", "Sean Christopherson", "Vishal Annapurve"}
NAMES = [letter + number for letter, number, _ in ENTRIES]
MESSAGE_ID = re.compile(
    r"[\w.+=/-]+@(?:google\.com|intel\.com|mail\.gmail\.com|yzhao56-desk\.sh\.intel\.com)"
)
CITATION = re.compile(r"\bS(\d{1,3})(?:-S(\d{1,3}))?\b|\b([MKR]\d{1,2})\b(?![ ,]-?[\d{])")
"""The lookahead leaves out the path of a picture (M24 30)."""


def texts() -> dict[str, str]:
    """What may cite: code, pages, and the sources of the notebooks' cells (their outputs are pictures)."""
    files = [path for room in ("tdpkit", "tests") for path in (ROOT / room).rglob("*.[pc]*")]
    files += [path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") if path.exists()]
    found = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for path in files
        if path.suffix in {".py", ".c", ".md"} and path != Path(__file__)
    }
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        found[path.name] = "\n\n".join("".join(cell["source"]) for cell in cells)
    return found


TEXTS = texts()


def cited(text: str) -> set[str]:
    """The numbers that `text` cites; a range cites what lies in it."""
    found: set[str] = set()
    for first, last, other in CITATION.findall(text):
        if other:
            found.add(other)
        elif last:
            found |= {f"S{first}", f"S{last}"}
            found |= {name for name in NAMES if name[0] == "S" and int(first) <= int(name[1:]) <= int(last)}
        else:
            found.add(f"S{first}")
    return found


# ---- the page itself -----------------------------------------------------------------------------------


def test_numbers_are_unique_and_in_order() -> None:
    """A number that moved or was used again would send a reader to another fact."""
    assert len(set(NAMES)) == len(NAMES)
    for letter in "SMKR":
        numbers = [int(number) for kind, number, _ in ENTRIES if kind == letter]
        assert numbers == sorted(numbers)
    assert [name for name in NAMES if name[0] == "M"] == [f"M{number}" for number in range(17)]
    assert len(ENTRIES) == len(re.findall(r"^\*\*", SOURCES, flags=re.MULTILINE)), "an entry of another form"


def test_every_entry_names_its_source() -> None:
    for name, (_, _, text) in zip(NAMES, ENTRIES, strict=True):
        assert re.search(r"\bSource: .{3}", " ".join(text.split())), name


def test_every_mail_has_an_author_a_date_and_a_message_id() -> None:
    for name, (letter, _, text) in zip(NAMES, ENTRIES, strict=True):
        if letter != "S":
            author, date = text.split(", ")[:2]
            assert author in AUTHORS, name
            assert re.match(r"202[56]-\d\d-\d\d\b", date), name
            assert MESSAGE_ID.search(text), name


def test_what_the_page_refers_to_is_there() -> None:
    assert cited(SOURCES) <= set(NAMES)
    for path in re.findall(r"`(tests/[\w/.]+)`", SOURCES):
        assert (ROOT / path).exists(), path


# ---- what cites it -------------------------------------------------------------------------------------


@over(sorted(TEXTS))
def test_every_citation_resolves(name: str) -> None:
    """A number that is not on the page, and a message-id that belongs to none of its entries."""
    assert cited(TEXTS[name]) <= set(NAMES)
    assert {found for found in MESSAGE_ID.findall(TEXTS[name]) if found not in SOURCES} == set()


MAILS = {
    MESSAGE_ID.findall(text)[0]: (text.split(", ")[0], re.findall(r"20\d\d-\d\d-\d\d", text)[0])
    for letter, _, text in ENTRIES
    if letter != "S"
}
"""Author and date of each mail, by its message-id."""
MONTHS = {"November": 11, "January": 1}
DATE = re.compile(rf"\b(\d{{1,2}}) ({'|'.join(MONTHS)})\b")


@over(sorted(name for name in TEXTS if name.endswith(".ipynb")))
def test_a_mail_has_the_author_and_the_date_of_its_entry(name: str) -> None:
    """Where prose gives a message-id, the last person and the last date before it in its line are the mail's."""
    for line in TEXTS[name].splitlines():
        for mail in MESSAGE_ID.finditer(line):
            author, date = MAILS[mail[0]]
            before = line[: mail.start()]
            named = re.findall("|".join(sorted(AUTHORS)), before)
            assert named[-1:] in ([], [author]), line
            for day, month in DATE.findall(before)[-1:]:
                assert (MONTHS[month], int(day)) == (int(date[5:7]), int(date[8:])), line


def test_kais_example_is_from_november() -> None:
    """S136: [1G+1M, 2G) is K2's, and M10 only refers to it."""
    lines = [line for name in TEXTS if name.endswith(".ipynb") for line in TEXTS[name].splitlines()]
    told = [line for line in lines if "Kai Huang" in line and "[1G+1M, 2G)" in line]
    assert told
    assert [line for line in told if "K2" not in line] == []


OUTSIDE = re.compile(r"[Kk]ernel-facts|\b[Ff]indings \d|\bDESIGN\b|\bstyle\.md|\.\./shared/|§")
"""Pages that are not in the repository."""
CLAIM = re.compile(r"(?<![\w#%.])C\d{1,2}\b(?![\w.(=])")


@over(sorted(TEXTS))
def test_no_citation_points_outside_the_repository(name: str) -> None:
    assert OUTSIDE.findall(TEXTS[name]) == []


@over(sorted(TEXTS))
def test_every_claim_that_is_named_is_in_the_ledger(name: str) -> None:
    assert {*CLAIM.findall(TEXTS[name])} <= {*CLAIMS}


def test_every_fact_is_cited_and_only_the_record_and_the_mails_need_not_be() -> None:
    """A fact that nothing rests on goes. Entries from S250 on say how things were recorded."""
    found = set().union(*(cited(text) for text in TEXTS.values()))
    facts = {name for name in NAMES if name[0] == "S" and int(name[1:]) < 250}
    assert facts - found == set()
