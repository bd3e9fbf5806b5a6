"""The exercises of notebook 07: the pages of a split, a race for a cache, what to set aside before the lock.

Predicted pages are held against what the engine took. A submitted schedule is replayed on two conversions
whose cache has a planted bug (S179): it has to end as the symptom does. Pages to set aside are attacked with
every tree and every range of a toy, by the spec of `tdpkit.lab.spec`, then with ranges on x86, by the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Any, NamedTuple

from tdpkit.engine.gfn import X86_4LEVEL, Geometry, GfnRange, format_gfn, parse_gfn
from tdpkit.lab.budget import KINDS, Pages, measure, predict, splits_at_edges
from tdpkit.lab.guest import Guest
from tdpkit.lab.layouts import TD_4LEVEL, Layout, full_of
from tdpkit.lab.schedules import Explorer, Replay, Setting, explored
from tdpkit.lab.search import UNIVERSES, ToyCase, ToyTree
from tdpkit.lab.shapes import Shape, leaves_of
from tdpkit.lab.spec import edges_of, forced_splits, split_as_forced
from tdpkit.lab.strategies import walk_v3
from tdpkit.lab.untrusted import Raised, shown
from tdpkit.lab.words import count_of, group_digits, listed
from tdpkit.show.boundary.picture import boundary_svg
from tdpkit.show.boundary.state import boundary_state
from tdpkit.show.case.picture import case_svg
from tdpkit.show.case.state import case_state

from .checking import (
    Counterexample,
    Wrong,
    about,
    answer_of,
    answered,
    check,
    items,
    one_of,
    ordered,
    ranges,
    refused,
    whole,
)
from .guess import Guess, choice

# ---- the pages of a split ------------------------------------------------------------------------------

_PLAIN, _TD, _DYNAMIC = KINDS


class SplitCase(NamedTuple):
    """A split whose pages are to be predicted; the fields are arguments of `tdpkit.lab.budget.measure`."""

    layout: Layout
    span: GfnRange
    kind: str = _PLAIN
    split: str = "edges"
    room: int = 0

    def used(self) -> Pages:
        """The pages that the engine takes for it."""
        return _used(self)


@cache
def _used(case: SplitCase) -> Pages:
    start, end = case.span.start, case.span.end
    return measure(case.layout, start, end, kind=case.kind, split=case.split, room=case.room).pages


def _span(start: str, end: str) -> GfnRange:
    return GfnRange(parse_gfn(start), parse_gfn(end))


_SMALL, _LARGE = (full_of(X86_4LEVEL, parse_gfn("4G"), level) for level in (2, 3))
_OF_TD = full_of(TD_4LEVEL, parse_gfn("8M"), 2)
_TWO_EDGES = _span("2M+4K", "6M+4K")
CASES = {
    "plain VM, 2M leaves, [1G+4K, 2G)": SplitCase(_SMALL, _span("1G+4K", "2G")),
    "plain VM, 1G leaves, [1G+4K, 2G-4K)": SplitCase(_LARGE, _span("1G+4K", "2G-4K")),
    "plain VM, 1G leaves, [1G-4K, 1G+2M)": SplitCase(_LARGE, _span("1G-4K", "1G+2M")),
    "plain VM, 1G leaves, [0, 2G), all to 4K": SplitCase(_LARGE, _span("0", "2G"), split="everything"),
    "TD, [4K, 2M-4K)": SplitCase(_OF_TD, _span("4K", "2M-4K"), _TD),
    "Dynamic PAMT, [2M+4K, 6M+4K), a new region": SplitCase(_OF_TD, _TWO_EDGES, _DYNAMIC),
    "Dynamic PAMT, [2M+4K, 6M+4K), a region in use": SplitCase(_OF_TD, _TWO_EDGES, _DYNAMIC, room=2),
}
"""A question, and its split. The region is the 2M of host memory in which the new S-EPT pages lie."""
_PAGES = ("page tables", "S-EPT pages", "PAMT pages")


def _ask_pages(case: str) -> str:
    return f"{case}: how many pages of each kind? Three numbers: {', '.join(_PAGES)}."


@check()
def check_pages(answers: Any) -> str:
    """Make the split of each of CASES on the engine, and compare the pages that it took with the answers.

    answers: a dict, for each of CASES three numbers: page tables, S-EPT pages, PAMT pages.
    """
    for name, said in answered(answers, CASES, "three numbers for each split", _ask_pages):
        with about(name):
            _hold_pages(CASES[name], said)
    return (
        f"all {len(CASES)}. The edges say which leaves go, each takes a table, and in a TD an S-EPT page "
        "beside it; PAMT pages follow the 2M regions."
    )


def _hold_pages(case: SplitCase, said: Any) -> None:
    """Raise Wrong unless the three numbers `said` are those of the engine."""
    three = ordered(said, len(_PAGES))
    if three is None or any(whole(number) is None for number in three):
        raise refused(f"three numbers are wanted, ({', '.join(_PAGES)})", said)
    used = case.used()
    took = (used.tables, used.external, used.pamt_guest + used.pamt_sept)
    for what, number, right, why in zip(_PAGES, three, took, _reasons(case, used), strict=True):
        if whole(number) != right:
            raise Wrong(
                f"{what}: you said {shown(number)}, the engine took {group_digits(right)}: {why}.",
                _leaves_of_case(case),
            )


def _reasons(case: SplitCase, used: Pages) -> tuple[str, str, str]:
    """Say why there are so many pages of each kind."""
    tables = f"one for each of the leaves split, {_splits_in_words(case)}"
    if case.kind == _PLAIN:
        return tables, "a plain VM has no S-EPT", "a plain VM has no PAMT"
    sept = "one beside each page table"
    if case.kind == _TD:
        return tables, sept, "without Dynamic PAMT the module had all of them from the start"
    regions = "no new region" if not used.pamt_sept else "a pair for the new region of the S-EPT pages"
    return tables, sept, f"a pair for each 2M demoted, {used.pamt_guest} pages, and {regions}"


def _splits_in_words(case: SplitCase) -> str:
    geometry = case.layout.geometry
    if case.split == "edges":
        blocks = sorted(splits_at_edges(case.layout, case.span), key=lambda block: (-block[1], block[0]))
        return listed(f"the {geometry.level(level).label} at {format_gfn(gfn)}" for gfn, level in blocks)
    made = predict(case.layout, case.span.start, case.span.end, kind=case.kind, split=case.split).splits
    return listed(
        f"{group_digits(splits)} of {geometry.level(level).label}" for level, splits in made.items()
    )


def _leaves_of_case(case: SplitCase) -> Counterexample | None:
    """The leaves and the range, with what crosses; nothing where the edges do not matter."""
    if case.split != "edges":
        return None
    guest = Guest(case.layout, "plain" if case.kind == _PLAIN else "TD")
    return Counterexample(boundary_state(guest, case.span.start, case.span.end, "look"), boundary_svg)


# ---- a guess before the exhibit ------------------------------------------------------------------------

SIXTEEN = _span("4G+1M", "20G-1M")
"""16 GiB less 1 MiB at each end."""
TABLES = ("0", "2", "4", "8 192", "8 208")


@check("choose a number of page tables.")
def check_tables(guess: Any) -> str:
    """How many page tables a conversion of SIXTEEN takes, in a TD that is mapped by 2M leaves."""
    layout = full_of(TD_4LEVEL, parse_gfn("32G"), 2)
    took = measure(layout, SIXTEEN.start, SIXTEEN.end, kind=_TD).pages.tables
    what = f"the split takes {count_of(took, 'page table')}"
    if one_of(guess, TABLES, "a guess") != group_digits(took):
        raise Wrong(f"you said {shown(guess)}; {what}: only the leaves at the two edges are split.")
    return f"{what}, one at each edge."


def guess_tables() -> Guess:
    """Ask how many page tables a conversion of 16 GiB takes."""
    return choice(
        "A TD is mapped by 2M leaves. 16 GiB of it, less 1 MiB at each end, become shared. How many page "
        "tables does the split before the zap take?",
        "page tables",
        TABLES,
        check_tables,
    )


# ---- a race for the cache ------------------------------------------------------------------------------

RACY = Setting("cache", cache="spinlock, no re-check")
_MOST_STEPS = 60
_SYMPTOM = (("A", 9), ("B", 10), ("A", 1), ("B", 6), ("A", 5))
"""A schedule of RACY that ends in the symptom: a thread, and how many steps it makes."""
_VICTIM = "A"


def _racy() -> Explorer:
    return explored(RACY)[0]


def _woven(turns: Any) -> str:
    """The text of a schedule that is given as (thread, steps), ...; raises Wrong for anything else."""
    found = None if isinstance(turns, dict | set | frozenset) else items(turns)
    if found is None:
        raise refused("a schedule is a text, or a list of (thread, steps)", turns)
    replay, total = Replay(_racy(), ""), 0
    for turn in found:
        pair = ordered(turn, 2)
        steps = whole(pair[1]) if pair else None
        if pair is None or not isinstance(pair[0], str) or steps is None or steps < 1:
            raise refused('a turn is a thread and how many steps it makes, such as ("A", 3)', turn)
        total += steps
        if total > _MOST_STEPS:
            raise Wrong(f"these are more than {_MOST_STEPS} steps; each thread returns long before that.")
        for _ in range(steps):
            with about(f"step {len(replay) + 1}"):
                replay = Replay(replay.explorer, replay.with_step(len(replay), pair[0]))
    return str(replay)


def _steps_of(replay: Replay, thread: str) -> list[str]:
    """What the steps of `thread` did, in words, as far as the call failed."""
    last = replay.why[0].step if replay.why else len(replay)
    looks = (look for look in replay.looks[1 : last + 1] if look.thread == thread)
    return [look.did for look in looks]


class Symptom(NamedTuple):
    """What was written down of the conversion that failed."""

    lines: tuple[str, ...]

    def __repr__(self) -> str:
        numbered = (f"{number:3} {line}" for number, line in enumerate(self.lines, 1))
        return "\n".join([*numbered, "    KVM_BUG: the cache lacks pages. The VM is dead."])


@cache
def symptom() -> Symptom:
    """The steps of the conversion that failed, and of no other."""
    return Symptom(tuple(_steps_of(Replay(_racy(), _woven(_SYMPTOM)), _VICTIM)))


@check("a schedule: a text, or a list of turns such as [('A', 3), ('B', 2)]: a thread, and how many steps.")
def check_race(schedule: Any) -> str:
    """Replay the schedule; right if the split of A fails after the steps that :func:`symptom` shows.

    schedule: a text such as "A:lock A:read ..." or a list of (thread, steps). A step that cannot be made is
    named, with its number.
    """
    text = schedule if isinstance(schedule, str) else _woven(schedule)
    if len(text.split()) > _MOST_STEPS:
        raise Wrong(f"these are more than {_MOST_STEPS} steps; each thread returns long before that.")
    replay = Replay(_racy(), text)
    other = _first_other(_steps_of(replay, _VICTIM))
    if not replay.why:
        done = f"after {count_of(len(replay), 'step')} no split has failed"
        raise Wrong("; ".join([done, *other, _standing(replay)]) + ".")
    why = replay.why[0]
    victim = replay.looks[why.step].thread
    if victim != _VICTIM:
        raise Wrong(f"{victim} fails, not {_VICTIM}: {why.text}.")
    if other:
        raise Wrong(f"a split fails, after other steps: {other[0]}.")
    return (
        f"{why.text}. A found the cache full and added nothing: the four pages were B's, and A never asked "
        "again."
    )


def _first_other(steps: list[str]) -> list[str]:
    """The first of the victim's steps that :func:`symptom` does not show; empty if it shows all of them."""
    pairs = enumerate(zip(steps, symptom().lines, strict=False), 1)
    return [f"line {number} of {_VICTIM} is here “{line}”" for number, (line, want) in pairs if line != want][
        :1
    ]


def _standing(replay: Replay) -> str:
    """The cache, and what each thread would do next."""
    look, choices = replay.looks[-1], replay.choices(len(replay))
    pages = count_of(look.words["cache"], "page")
    nexts = (f"{of.thread} {of.why_not or f'goes on with {of.token!r}'}" for of in choices)
    return f"the cache has {pages}, {listed(nexts)}"


# ---- what to set aside ---------------------------------------------------------------------------------

_TOY = UNIVERSES["three levels"]
_FOUR_G = parse_gfn("4G")
_X86_EDGES = ("0", "4K", "2M", "2M+4K", "1G-4K", "1G", "1G+2M", "1G+2M+4K", "2G-4K", "3G+1M")


def _sizes(geometry: Geometry) -> list[int]:
    return [geometry.pages(level) for level in range(geometry.max_leaf_level, 1, -1)]


@lru_cache(maxsize=1 << 14)
def _forced(gfn: int, level: int, edges: frozenset[int]) -> int:
    return sum(1 for _ in forced_splits(_TOY.geometry, gfn, level, edges))


def _needs(shape: Shape, span: GfnRange) -> int:
    """Splits that the spec demands of a tree."""
    edges = edges_of(span)
    return sum(_forced(gfn, level, edges) for gfn, level in leaves_of(_TOY.geometry, shape))


@cache
def _trees() -> tuple[Shape, ...]:
    """Every tree of the toy, those of the fewest leaves first."""
    return tuple(sorted(_TOY.shapes(), key=lambda shape: len(leaves_of(_TOY.geometry, shape))))


@cache
def _greediest(span: GfnRange) -> tuple[int, Shape]:
    """The most splits that the range takes in any tree, and the smallest tree that takes them."""
    return max(((_needs(shape, span), shape) for shape in _trees()), key=lambda found: found[0])


def _drawn(shape: Shape, span: GfnRange) -> Counterexample:
    """The tree, and what the walk of v3 leaves of it."""
    calls, tree = walk_v3(_TOY.geometry, span), ToyTree(_TOY.geometry, shape)
    (call,) = calls
    effect = tree.tried(call)
    expected = split_as_forced(_TOY.geometry, shape, edges_of(span))
    needed = _needs(shape, span)
    case = ToyCase(
        *(_TOY.geometry, shape, span, (call,), "exact", effect.splits, needed, effect.visits),
        effect.after,
        expected,
    )
    return Counterexample(case_state(case), case_svg)


def _x86_ranges() -> Iterator[GfnRange]:
    edges = [*map(parse_gfn, _X86_EDGES)]
    return (GfnRange(start, end) for start in edges for end in edges if start < end)


@check("let set_aside return a number of page tables.")
def check_set_aside(set_aside: Any) -> str:
    """Attack ``set_aside(start, end, sizes)`` with every tree and every range of a toy, then on x86.

    sizes: frames of a leaf, largest first, without the smallest: on x86 ``[262144, 512]``. It returns how
    many page tables to allocate before the lock is taken, for a split of what crosses the edges of frames
    [start, end), whatever the tree looks like. Too few in any tree is wrong; so is more than any tree takes.
    """
    if not callable(set_aside):
        raise refused("set_aside is a function of start, end and sizes", set_aside)
    sizes = _sizes(_TOY.geometry)
    for span in ranges(_TOY.geometry.root_pages):
        _hold_toy(span, sizes, _asked(set_aside, span, sizes))
    largest, tried = _sizes(X86_4LEVEL), 0
    layout = full_of(X86_4LEVEL, _FOUR_G, X86_4LEVEL.max_leaf_level)
    for tried, span in enumerate(_x86_ranges(), 1):  # noqa: B007 - their number is wanted below
        said, took = _asked(set_aside, span, largest), measure(layout, span.start, span.end).pages.tables
        if said != took:
            less = "too few" if said < took else "too many"
            where = f"[{format_gfn(span.start)}, {format_gfn(span.end)})"
            raise Wrong(
                f"on x86, {where}: you set {count_of(said, 'page table')} aside, {less}: in a guest of 1G "
                f"leaves the split takes {took}, and no tree takes more."
            )
    cases = len(_trees()) * sum(1 for _ in ranges(_TOY.geometry.root_pages))
    return (
        f"every tree and every range of a toy ({count_of(cases, 'case')}), then {tried} ranges on x86: never "
        "too few, and never a page that no tree takes."
    )


def _asked(set_aside: Callable[..., Any], span: GfnRange, sizes: list[int]) -> int:
    call = f"set_aside({span.start}, {span.end}, {sizes})"
    said = answer_of(set_aside, span.start, span.end, [*sizes])
    if isinstance(said, Raised):
        raise Wrong(f"{call} {said!r}.")
    with about(call):
        number = whole(said)
        if number is None or number < 0:
            raise refused("a number of page tables is wanted, 0 or more", said)
    return number


def _hold_toy(span: GfnRange, sizes: list[int], said: int) -> None:
    """Raise Wrong with the smallest tree for which `said` is too little, or if none takes so much."""
    most, greediest = _greediest(span)
    call = f"set_aside({span.start}, {span.end}, {sizes})"
    if said < most:
        short = next(shape for shape in _trees() if _needs(shape, span) > said)
        took = _needs(short, span)
        raise Wrong(
            f"{call} is {said}, and this tree takes {took}: under mmu_lock the call lacks "
            f"{count_of(took - said, 'page table')}.",
            _drawn(short, span),
        )
    if said > most:
        raise Wrong(
            f"{call} is {shown(said)}, and no tree takes more than {most}: the others stay idle.",
            _drawn(greediest, span),
        )
