"""Run the experiment of a claim by number, kept results aside."""

from tdpkit.lab.claims.claim import Claim, Finding


def experiment(claims: tuple[Claim, ...], number: int) -> Finding:
    [claim] = [one for one in claims if one.number == number]
    assert claim.experiment
    return claim.experiment()


def holds_against(finding: Finding, verdict: str, *numbers: str) -> None:
    """The verdict is that of the facts, and so are the numbers shown."""
    assert finding.verdict == verdict
    assert [said for said in numbers if said not in finding.shown] == []
