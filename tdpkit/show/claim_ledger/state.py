"""Which claims the ledger shows, in which order, and the one that is told whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError
from tdpkit.lab.claims.claim import MAILS, VERDICTS, Settled
from tdpkit.lab.words import known_name, listed

ALL = "all"
"""The filter that keeps every claim."""
BY_MAIL, BY_VERDICT = ORDERS = ("by mail", "by verdict")
EXPERIMENT, REASON = KINDS = ("experiment", "reason")


class LedgerChoice(NamedTuple):
    """The claim that is told whole, the order of the rows, and the filters; each keeps what it names.

    claim: by name, ``C7``. by: an author, or a mail, ``M2``. notebook: the number of the one that teaches it,
    ``03``. find: words, each of which is somewhere in what the ledger tells of a claim.
    """

    claim: str
    order: str = BY_MAIL
    verdict: str = ALL
    by: str = ALL
    notebook: str = ALL
    kind: str = ALL
    find: str = ""


class Group(NamedTuple):
    """Claims of one mail, or of one verdict: `name` is which."""

    name: str
    claims: tuple[Settled, ...]


class LedgerState(NamedTuple):
    """The rows and the claim that is told.

    in_all: claims there are. asked: the filters in use, in words. told: the chosen claim if it is among those
    shown, else the first of these. verdicts: how many claims each verdict would show, were it chosen. ran:
    what the experiment of `told` found when it was last run here, in words, "" before.
    """

    groups: tuple[Group, ...]
    in_all: int
    asked: tuple[str, ...]
    told: Settled
    order: str
    verdict: str
    verdicts: tuple[tuple[str, int], ...]
    ran: str = ""

    @property
    def rows(self) -> tuple[Settled, ...]:
        """The claims shown, from top to bottom."""
        return tuple(one for group in self.groups for one in group.claims)


def _is_by(one: Settled, who: str) -> bool:
    return any(who in (mail, MAILS[mail].author) for mail in one.claim.mails)


def _has_words(one: Settled, words: str) -> bool:
    told = all_words(one).casefold()
    return all(word in told for word in words.casefold().split())


FILTERS: Mapping[str, Callable[[Settled, str], bool]] = {
    "verdict": lambda one, verdict: one.verdict == verdict,
    "by": _is_by,
    "notebook": lambda one, notebook: one.claim.lesson.notebook == notebook,
    "kind": lambda one, kind: kind_of(one) == kind,
    "find": _has_words,
}
"""By the field of the choice: whether a claim passes."""
_ASKED = {
    "verdict": "verdict “{}”",
    "by": "by {}",
    "notebook": "taught in {}",
    "kind": "decided by {}",
    "find": "with “{}”",
}
_QUOTED = 60
"""Letters of the words looked for that are repeated in a sentence."""


def all_words(one: Settled) -> str:
    """All that the ledger tells of a claim, to be searched."""
    claim, finding = one.claim, one.finding
    mails = (f"{mail} {' '.join(MAILS[mail])}" for mail in claim.mails)
    shown = (finding.shown, finding.condition) if finding else (claim.reason,)
    told = (claim.name, claim.title, *mails, claim.says, claim.ended, *shown, *claim.lesson, one.verdict)
    return " ".join(told)


def kind_of(one: Settled) -> str:
    """Say what decides a claim: an experiment, or a reason why none can."""
    return EXPERIMENT if one.claim.experiment else REASON


def kept(ledger: Iterable[Settled], choice: LedgerChoice, but: str = "") -> list[Settled]:
    """The claims that pass every filter of `choice`, but for the one of the field `but`."""
    used = [(FILTERS[name], value) for name, value in _in_use(choice) if name != but]
    return [one for one in ledger if all(passes(one, value) for passes, value in used)]


def _in_use(choice: LedgerChoice) -> list[tuple[str, str]]:
    used = ((name, getattr(choice, name).strip()) for name in FILTERS)
    return [(name, value) for name, value in used if value != ("" if name == "find" else ALL)]


def ledger_state(
    ledger: tuple[Settled, ...], choice: LedgerChoice, ran: Mapping[str, str] | None = None
) -> LedgerState:
    """The ledger's state for `choice`, whose verdict, order and kind are known names.

    ran: by the name of a claim, what its experiment found when it was last run here, in words.
    Raises InvalidValueError for a claim, a mail, an author or a notebook that the ledger does not have, and
    if no claim passes the filters; InvalidTypeError if the words to find are no text.
    """
    known_name(choice.claim, (one.claim.name for one in ledger), "a claim")
    known_name(choice.by, (ALL, *authors_of(ledger), *mails_of(ledger)), "an author or a mail")
    known_name(choice.notebook, (ALL, *notebooks_of(ledger)), "a notebook")
    if not isinstance(choice.find, str):
        raise InvalidTypeError(f"the words to find are text; {choice.find!r} is none")
    shown = kept(ledger, choice)
    asked = tuple(_ASKED[name].format(value[:_QUOTED]) for name, value in _in_use(choice))
    if not shown:
        raise InvalidValueError(f"none of {len(ledger)} claims passes: {listed(asked)}")
    groups = _grouped(shown, choice.order)
    told = next((one for one in shown if one.claim.name == choice.claim), groups[0].claims[0])
    others = [one.verdict for one in kept(ledger, choice, but="verdict")]
    verdicts = tuple((name, others.count(name)) for name in VERDICTS if name in others)
    return LedgerState(
        groups,
        len(ledger),
        asked,
        told,
        choice.order,
        choice.verdict,
        verdicts,
        (ran or {}).get(told.claim.name, ""),
    )


def _grouped(claims: list[Settled], order: str) -> tuple[Group, ...]:
    """By the mail that first makes them, in the order of time; or by verdict."""
    of = {
        name: tuple(
            one for one in claims if (one.claim.mails[0] if order == BY_MAIL else one.verdict) == name
        )
        for name in (MAILS if order == BY_MAIL else VERDICTS)
    }
    return tuple(Group(name, ones) for name, ones in of.items() if ones)


def mails_of(ledger: Iterable[Settled]) -> list[str]:
    """The mails that make the claims, in the order of time."""
    made = {mail for one in ledger for mail in one.claim.mails}
    return [mail for mail in MAILS if mail in made]


def authors_of(ledger: Iterable[Settled]) -> list[str]:
    """Who wrote those mails, in the order of the first mail of each."""
    return [*dict.fromkeys(MAILS[mail].author for mail in mails_of(ledger))]


def notebooks_of(ledger: Iterable[Settled]) -> list[str]:
    """The notebooks that teach the claims, in order."""
    return sorted({one.claim.lesson.notebook for one in ledger})
