"""z3 on all the statements: what the reader of notebook 03 waits for."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from tdpkit.lab.proofs import ProofTable, prove, prove_all
from tdpkit.lab.statements import STATEMENTS

from .engine import seconds
from .figures import Figure


def proof_figures(runs: int = 3) -> Iterator[Figure]:
    """All statements and their twins, and how that time is shared between proving and refuting."""
    tables: list[ProofTable] = []
    whole = median(seconds(lambda: tables.append(prove_all())) for _ in range(runs))
    wrong = [row.statement.name for row in tables[0] if not row.proof.proved or row.twin.proved]
    if any(repr(table) != repr(tables[0]) for table in tables):
        wrong.append("one run's counterexamples are not another's")
    count = len(STATEMENTS)
    yield Figure(f"z3: {count} statements and their twins", whole, "s", limit=5, fault=", ".join(wrong))
    proving = median(seconds(lambda: [*map(prove, STATEMENTS.values())]) for _ in range(runs))
    yield Figure("  the statements alone, proved", proving, "s")
    slowest = max(seconds(lambda one=one: prove(one)) for one in STATEMENTS.values())
    yield Figure("  the slowest of them", slowest, "s")
