"""The statements about a range's edges proved for every frame, and their broken twins refuted (z3).

    prove(STATEMENTS["one_block"])
    prove_all()

A statement is proved if no frames contradict it. Where some do, z3 finds the smallest of them bit by bit, so
that a counterexample does not depend on how it searched. `statements` says what is proved and what the
formulas stand for; nothing but these two modules imports z3.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from z3 import BitVec, BitVecRef, Extract, Not, Solver, sat, unknown

from tdpkit.engine.gfn import name_gfn

from . import statements
from .statements import LEVELS, STATEMENTS, Statement
from .words import html_table, text_table

__all__ = ["STATEMENTS", "Proof", "ProofRow", "ProofTable", "Statement", "prove", "prove_all"]


class Proof(NamedTuple):
    """What became of a statement.

    counterexample: levels and frames that contradict it, the smallest in the order of
    `statement.variables`; None if it is proved.
    """

    statement: Statement
    counterexample: dict[str, int] | None

    @property
    def proved(self) -> bool:
        """It holds for every frame."""
        return self.counterexample is None

    @property
    def answer(self) -> str:
        """``proved``, or the counterexample in words: the leaf or entry, then the edges."""
        return "proved" if self.counterexample is None else _in_words(self.counterexample)

    def __repr__(self) -> str:
        verdict = "proved" if self.proved else f"refuted by {self.answer}"
        return f"{self.statement!r} {verdict[0].upper()}{verdict[1:]}."


def _in_words(found: dict[str, int]) -> str:
    label = {level: statements.GEOMETRY.level(level).label for level in LEVELS["mapped"]}
    words = []
    if "gfn" in found:
        mapped, level = found.get("mapped", found["level"]), found["level"]
        of = f" of a {label[mapped]} leaf" if mapped != level else ""
        words.append(f"{label[level]} at {name_gfn(found['gfn'])}{of}")
    elif "level" in found:
        words.append(label[found["level"]])
    words += [f"{name} {name_gfn(found[name])}" for name in ("x", "s", "e") if name in found]
    return ", ".join(words)


def prove(statement: Statement) -> Proof:
    """Prove `statement` for all levels and all frames, or find its smallest counterexample."""
    frames = [name for name in statement.variables if name not in LEVELS]
    for levels in _levels_of(statement):
        terms = {name: BitVec(name, statements.WORD_BITS) for name in frames}
        solver = Solver()
        solver.add(*_domain(terms, levels))
        claim = statement.claim(**levels, **terms)
        solver.add(claim.given, Not(claim.then))
        if _satisfiable(solver):
            smallest = {name: _minimise(solver, term) for name, term in terms.items()}
            return Proof(statement, {**levels, **smallest})
    return Proof(statement, None)


def _levels_of(statement: Statement) -> Iterator[dict[str, int]]:
    """All values of the levels that `statement` speaks about; the smallest first."""
    names = [name for name in statement.variables if name in LEVELS]
    for values in product(*(LEVELS[name] for name in names)):
        yield dict(zip(names, values, strict=True))


def _domain(terms: dict[str, BitVecRef], levels: dict[str, int]) -> Iterator[object]:
    """Each frame has GFN_BITS bits; `gfn` is the first of an entry."""
    for name, term in terms.items():
        yield Extract(statements.WORD_BITS - 1, statements.GFN_BITS, term) == 0
        if name == "gfn":
            yield statements.is_multiple(term, levels["level"])


def _satisfiable(solver: Solver, *assumed: object) -> bool:
    found = solver.check(*assumed)
    if found == unknown:
        raise RuntimeError(f"z3 gave up: {solver.reason_unknown()}")
    return bool(found == sat)


def _minimise(solver: Solver, term: BitVecRef) -> int:
    """The least value of `term` in what `solver` has just found satisfiable. It is fixed to it there.

    From the top: a bit that is 1 in the value found is tried as 0, the bits above it staying as they are.
    """
    value = _value(solver, term)
    for bit in range(statements.GFN_BITS - 1, -1, -1):
        above = Extract(statements.GFN_BITS - 1, bit, term)
        if value >> bit & 1 and _satisfiable(solver, above == value >> bit ^ 1):
            value = _value(solver, term)
    solver.add(term == value)
    _satisfiable(solver)
    return value


def _value(solver: Solver, term: BitVecRef) -> int:
    return int(solver.model().eval(term, model_completion=True).as_long())


# ---- all of them ---------------------------------------------------------------------------------------


class ProofRow(NamedTuple):
    """A statement's proof and its twin's."""

    proof: Proof
    twin: Proof

    @property
    def statement(self) -> Statement:
        """What was proved."""
        return self.proof.statement


_HEAD = ("statement", "verdict", "its broken twin", "the twin's smallest counterexample")


class ProofTable(tuple[ProofRow, ...]):
    """The rows, in order; shown as a table: statement, verdict, broken twin, its smallest counterexample."""

    __slots__ = ()

    def __repr__(self) -> str:
        lines = [
            (row.statement.name, row.proof.answer, row.statement.twin_text, row.twin.answer) for row in self
        ]
        return text_table(_HEAD, lines)

    def _repr_html_(self) -> str:
        """The same with each statement in full, for pages."""
        lines = [
            (
                f"{row.statement.name}: {row.statement.text}",
                row.proof.answer,
                row.statement.twin_text,
                row.twin.answer,
            )
            for row in self
        ]
        return html_table("Statements proved, and their broken twins", _HEAD, lines)


def prove_all() -> ProofTable:
    """Prove every statement, and refute its twin."""
    return ProofTable(ProofRow(prove(one), prove(one.twin)) for one in STATEMENTS.values())
