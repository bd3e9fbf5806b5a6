"""A variant of the split: a plan, or a coroutine in place of one of the kernel's functions.

Its parameters say which of four forms it has (:data:`FORMS`). :func:`variant_of` reads them, :func:`load`
takes a function from a file. All forms are called alike, as the patch's API is: a VM, a range with a filter,
and how mmu_lock is held. A plan, and a split of one root, run in the patch's own loop over roots.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Generator
from inspect import Parameter, iscoroutine, signature
from pathlib import Path
from typing import Any, NamedTuple

from tdpkit.engine.events import Coroutine
from tdpkit.engine.gfn import PG_LEVEL_4K, Geometry, GfnRange, InvalidTypeError, InvalidValueError
from tdpkit.engine.kvm import Kvm, KvmGfnRange
from tdpkit.engine.mmu import in_each_root
from tdpkit.engine.roots import kvm_gfn_range_filter_to_root_types
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root
from tdpkit.engine.tree import TdpMmuRoot

from ..strategies import PlannedCall, Strategy, plan_of
from ..untrusted import ENDLESS, RAISED, Raised, line_of, shown, within

PLAN, ROOT, WRAPPER, PRIVATE = "plan", "split of a root", "wrapper", "split before a zap"
FORMS = {
    PLAN: "plan(geometry, s, e) -> a list of PlannedCall",
    ROOT: "split(root, start, end, target_level, *, shared, only_cross_boundary) -> a coroutine, "
    "in place of tdp_mmu_split_huge_pages_root",
    WRAPPER: "split(kvm, gfn_range, *, shared) -> a coroutine, in place of kvm_split_cross_boundary_leafs",
    PRIVATE: "split(kvm, gfn_range) -> a coroutine, for private memory and under the write lock only, "
    "as the later code's",
}
"""Each form, with the parameters that it is known by."""

_BY_NAME = ("shared", "only_cross_boundary")
"""Parameters that are given by name, also where a C programmer leaves out the star before them."""
_LOAD_SECONDS = 30.0

Call = Callable[..., Any]


class Broke(Exception):  # noqa: N818 - what it says is a fact about the variant
    """The variant did what no kernel function does: what, in a sentence without its end."""


class Variant(NamedTuple):
    """A function to be tried, and its form, of FORMS."""

    name: str
    form: str
    function: Call

    @property
    def takes_lock(self) -> bool:
        """It is told how mmu_lock is held; a split before a zap always finds it held for write."""
        return self.form != PRIVATE

    def call(self, kvm: Kvm, gfn_range: KvmGfnRange, shared: bool = False) -> Coroutine[int]:
        """Make the variant's coroutine for a range. Raises Broke if it makes none."""
        if self.form == PRIVATE:
            return self._made(kvm, gfn_range)
        if self.form == WRAPPER:
            return self._made(kvm, gfn_range, shared=shared)
        types = kvm_gfn_range_filter_to_root_types(kvm, gfn_range.attr_filter)
        split = self._planned if self.form == PLAN else self._split
        return in_each_root(
            kvm, gfn_range.slot.as_id, types, lambda root: split(root, gfn_range.start, gfn_range.end, shared)
        )

    def planned(self, geometry: Geometry, span: GfnRange) -> list[PlannedCall]:
        """The calls of a plan, those too that are not made; none of another form. Raises Broke."""
        if self.form != PLAN:
            return []
        function = self.function.plan if isinstance(self.function, Strategy) else self.function
        planned = function(geometry, span.start, span.end)
        if not isinstance(planned, list | tuple) or not all(isinstance(one, PlannedCall) for one in planned):
            raise Broke(f"it planned {shown(planned)}, which is no list of PlannedCall")
        return [*planned]

    def _planned(self, root: TdpMmuRoot, start: int, end: int, shared: bool) -> Coroutine[int]:
        span = GfnRange(start, end)
        for call in plan_of(self.planned, root.geometry, span, root.max_gfn_exclusive):
            ret = yield from tdp_mmu_split_huge_pages_root(
                root,
                call.start,
                call.end,
                call.target_level,
                shared=shared,
                only_cross_boundary=call.only_cross_boundary,
            )
            if ret:
                return ret
        return 0

    def _split(self, root: TdpMmuRoot, start: int, end: int, shared: bool) -> Coroutine[int]:
        return self._made(root, start, end, PG_LEVEL_4K, shared=shared, only_cross_boundary=True)

    def _made(self, *arguments: Any, **named: Any) -> Coroutine[int]:
        coroutine = self.function(*arguments, **named)
        if not isinstance(coroutine, Generator):
            if iscoroutine(coroutine):  # of an async def: closed, or Python warns that nobody awaited it
                coroutine.close()
            raise Broke(f"it returned {shown(coroutine)}; it has to return a coroutine, made with yield")
        return coroutine


def variant_of(function: Any, name: str = "") -> Variant:
    """Read the form of `function` from its parameters; `name`: its own if empty.

    Raises InvalidTypeError for what cannot be called, InvalidValueError for parameters of no form.
    """
    name = name or getattr(function, "__name__", "") or type(function).__name__
    if isinstance(function, Strategy):
        return Variant(name, PLAN, function)
    if not callable(function):
        raise InvalidTypeError(f"a variant is a function; {name} is {shown(function)}")
    try:
        parameters = [*signature(function).parameters.values()]
    except (TypeError, ValueError):  # some functions of other languages do not tell
        parameters = []
    positional = [
        one.name
        for one in parameters
        if one.default is Parameter.empty
        and one.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        and one.name not in _BY_NAME
    ]
    named = {one.name for one in parameters if one.kind != Parameter.POSITIONAL_ONLY}
    lock = "shared" in named or any(one.kind == Parameter.VAR_KEYWORD for one in parameters)
    form = {2: WRAPPER if lock else PRIVATE, 3: PLAN, 4: ROOT}.get(len(positional))
    if form is None or (form == ROOT and not lock):
        forms = "\n  ".join(FORMS.values())
        raise InvalidValueError(
            f"a variant has the parameters of one of these:\n  {forms}\n"
            f"{name} has ({', '.join(map(str, parameters))})"
        )
    return Variant(name, form, function)


def load(text: str) -> Variant:
    """The variant NAME of the file ``FILE.py:NAME``; the file is run, and may import files beside it.

    Raises InvalidValueError for another form of text, a file that is not there, raises or does not end, and a
    name that is not in it; also as :func:`variant_of` does.
    """
    file, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier():
        raise InvalidValueError(f"a variant is named FILE.py:NAME; {text!r} is not of that form")
    path = Path(file)
    if not path.is_file():
        raise InvalidValueError(f"a variant is in a file of Python; there is no file {file!r}")
    spec = importlib.util.spec_from_file_location(f"tdpkit_trial_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InvalidValueError(f"a variant is in a file of Python, FILE.py; {file!r} is none")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for their annotations
    sys.path.insert(0, str(path.parent.resolve()))  # as Python does for a file that it runs
    try:
        within(_LOAD_SECONDS, ENDLESS, spec.loader.exec_module, module)
    except RAISED as error:
        raise InvalidValueError(f"{file} cannot be read: it {Raised(error)!r}{line_of(error)}") from error
    if not hasattr(module, name):
        known = [one for one, value in vars(module).items() if callable(value) and not one.startswith("_")]
        raise InvalidValueError(f"{file} has no {name!r}; it has {', '.join(known) or 'no function'}")
    return variant_of(getattr(module, name), name)
