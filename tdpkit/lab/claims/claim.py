"""A claim of the review, the mail that makes it, and what an experiment finds.

A verdict is about a claim and its conditions; nobody is ranked. What a claim says and how the thread left it
is told in our words; the facts are those of sources.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

HOLDS = "holds"
HOLDS_IF = "holds if …"
FAILS = "does not hold in the model"
WITHDRAWN = "withdrawn by its author"
UNDECIDED = "not decidable here"
VERDICTS = (HOLDS, HOLDS_IF, FAILS, WITHDRAWN, UNDECIDED)
"""Every verdict; an experiment finds one of the first three."""


class Mail(NamedTuple):
    """A mail of the thread: who wrote it, when (UTC date, as YYYY-MM-DD), and its message-id."""

    author: str
    date: str
    message_id: str


MAILS = {
    "M0": Mail("Yan Zhao", "2026-01-06", "20260106102136.25108-1-yan.y.zhao@intel.com"),
    "M1": Mail("Kai Huang", "2026-01-15", "2906b4d3b789985917a063d095c4063ee6ab7b72.camel@intel.com"),
    "M2": Mail("Sean Christopherson", "2026-01-16", "aWrMIeCw2eaTbK5Z@google.com"),
    "M7": Mail("Yan Zhao", "2026-01-19", "aW2Iwpuwoyod8eQc@yzhao56-desk.sh.intel.com"),
    "M10": Mail("Kai Huang", "2026-01-19", "3ef110f63cbbc65d6d4cbf737b26c09cb7b44e7c.camel@intel.com"),
    "M11": Mail("Kai Huang", "2026-01-19", "e69815db698474e113dec16bd33116e54cb21c2a.camel@intel.com"),
    "M12": Mail("Yan Zhao", "2026-01-19", "aW4DXajAzC9nn3aJ@yzhao56-desk.sh.intel.com"),
    "M13": Mail("Kai Huang", "2026-01-19", "d9b677b4f4cbbf8a8c3dadb056077aa55feb5c30.camel@intel.com"),
    "M14": Mail("Yan Zhao", "2026-01-19", "aW4QGYQ+qMytZ4Jq@yzhao56-desk.sh.intel.com"),
    "M15": Mail("Yan Zhao", "2026-01-19", "aW4kd4nCjP+9Akva@yzhao56-desk.sh.intel.com"),
    "M8": Mail("Sean Christopherson", "2026-01-20", "aW_Aith2qkYQ3fGY@google.com"),
    "M3": Mail(
        "Vishal Annapurve", "2026-01-20", "CAGtprH9OWFJc=_T=rChSjhJ3utPNcV_L_+-zq5uqtmXm-ffgNQ@mail.gmail.com"
    ),
    "M4": Mail("Sean Christopherson", "2026-01-20", "aW_DQafZNMQN5-gS@google.com"),
    "M9": Mail("Yan Zhao", "2026-01-22", "aXHDYWN7AlK/KqoO@yzhao56-desk.sh.intel.com"),
    "M5": Mail("Yan Zhao", "2026-01-22", "aXHEpfcyHtaMcqPz@yzhao56-desk.sh.intel.com"),
    "M16": Mail("Sean Christopherson", "2026-01-29", "aXtweWFELioEZLzv@google.com"),
    "M6": Mail("Sean Christopherson", "2026-01-29", "aXtz37RP2fHIgjLi@google.com"),
}
"""The mails of the thread in the order of time; their numbers follow the archive's page, which has another
order. Whether M3 came before M8 is not known.
"""


class Lesson(NamedTuple):
    """Where the course teaches it: the number of a notebook, "03", and a heading there."""

    notebook: str
    section: str


class Finding(NamedTuple):
    """The result of an experiment, each time it runs.

    verdict: HOLDS, HOLDS_IF or FAILS. shown: the measured facts that decide it, numbers included, in one to
    three sentences. condition: what must be the case, of HOLDS_IF: it completes "holds if".
    """

    verdict: str
    shown: str
    condition: str = ""


Experiment = Callable[[], Finding]
"""Runs live and asserts nothing: another engine may give another verdict. Its docstring says what it does."""


class Claim(NamedTuple):
    """One claim. It has an experiment, or a reason why none can decide it.

    mails: of MAILS, the one that first makes it first. title: a few words, for a row of a table. says: in our
    words, fair to its author. ended: how the thread left it. reason: taste, a name or the future, in a
    sentence. withdrawn: of MAILS, the mail in which its author took it back, "" if none does.
    """

    number: int
    mails: tuple[str, ...]
    title: str
    says: str
    ended: str
    lesson: Lesson
    experiment: Experiment | None = None
    reason: str = ""
    withdrawn: str = ""

    @property
    def name(self) -> str:
        """``C7``."""
        return f"C{self.number}"

    @property
    def in_short(self) -> str:
        """The first sentence of `says`, without its full stop."""
        return self.says.partition(". ")[0].removesuffix(".")


class Settled(NamedTuple):
    """A claim with its verdict, of VERDICTS; finding: of its experiment, if it has one."""

    claim: Claim
    verdict: str
    finding: Finding | None


def settle(claim: Claim) -> Settled:
    """Run the experiment of `claim` and give the verdict.

    A claim that its author withdrew keeps what the experiment found in `finding`.
    """
    finding = claim.experiment() if claim.experiment else None
    if claim.withdrawn:
        return Settled(claim, WITHDRAWN, finding)
    return Settled(claim, finding.verdict if finding else UNDECIDED, finding)
