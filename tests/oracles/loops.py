"""One test over many cases: a thousand tests of a millisecond take two seconds more to be told of."""

from collections.abc import Callable, Iterable
from typing import Any


def over(cases: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Call the test with each of `cases`, in their order; the first that fails is named below its error."""
    cases = [*cases]
    assert cases

    def of(test: Callable[..., None]) -> Callable[[], None]:
        def each() -> None:
            for case in cases:
                try:
                    test(case)
                except Exception as error:
                    error.add_note(f"for {case!r}")
                    raise

        each.__name__, each.__doc__ = test.__name__, test.__doc__
        return each

    return of
