"""Flush rules against M0's three uses.

Verdicts are those of the patch's commit log (M0, S106) and of S210; the witnesses are read again here, by
who stores and who flushes.
"""

import pytest

from tdpkit.engine.gfn import InvalidValueError
from tdpkit.lab.flush_rules import RULES, USES, attack

SURVIVORS = {
    "fault path of a TD": {"never", "if I split", "if I changed", "always"},
    "conversion": {"if I changed", "always"},
    "dirty logging": {"always"},
}
"""M0: no flush is needed; the flush may be delayed until after the zap; flush unconditionally."""


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("use", USES)
def test_a_rule_survives_where_the_commit_log_says_so(use: str, rule: str) -> None:
    found = attack(use, rule)
    assert (found.witness is None) is (rule in SURVIVORS[use])
    assert bool(found.why) is (found.witness is not None)
    assert found.interleavings > 1, "threads were interleaved"


@pytest.mark.parametrize("use", USES)
def test_a_rule_flushes_wherever_the_one_before_it_does(use: str) -> None:
    """So the order of RULES is one by cost, and a rule that survives makes the later ones survive."""
    for split in (0, 1):
        for changed in range(split, 3):
            flushes = [rule.flushes(split, changed) for rule in RULES.values()]
            assert flushes == sorted(flushes)
    survive = [attack(use, rule).witness is None for rule in RULES]
    assert survive == sorted(survive)


def harmed(use: str, rule: str) -> tuple[str, list[str]]:
    """The thread whose report misled, and what it did, by the text of the witness."""
    words = str(attack(use, rule).witness).split()
    *_, last = (word for word in words if word.endswith(":return"))
    name = last.partition(":")[0]
    return name, [word.partition(":")[2] for word in words if word.startswith(name)]


@pytest.mark.parametrize("rule", ["if I split", "if I changed"])
def test_dirty_logging_loses_a_write_after_a_call_that_changed_nothing(rule: str) -> None:
    """S211: the other one split; and as nobody flushed before the guest wrote, its TLB had the old leaf."""
    name, did = harmed("dirty logging", rule)
    words = str(attack("dirty logging", rule).witness).split()
    assert "store" not in did
    assert "flush" not in " ".join(words)
    assert words[-1] == "G:write"
    assert words[-2] == f"{name}:return"
    others = [word for word in words if word.endswith(":store")]
    assert len(others) == 2, "a split, and a dirty bit cleared, by the other one"


def test_without_a_flush_one_thread_is_enough_to_lose_a_write() -> None:
    words = str(attack("dirty logging", "never").witness).split()
    assert {word[0] for word in words} == {"A", "G"}


def test_a_conversion_that_splits_nothing_itself_still_zaps() -> None:
    """The vCPU's fault split the leaf, so the conversion only stores its zap; a flush is owed (S210)."""
    name, did = harmed("conversion", "if I split")
    words = str(attack("conversion", "if I split").witness).split()
    assert (name, did.count("store"), "flush" in did) == ("A", 1, False)
    assert words.index("V:swap") < words.index("A:store")


@pytest.mark.parametrize(("use", "rule"), [("paging", "never"), ("conversion", "sometimes"), (3, "never")])
def test_an_unknown_name_is_refused_by_name(use: str, rule: str) -> None:
    with pytest.raises(InvalidValueError, match=r"is one of .*is none"):
        attack(use, rule)
